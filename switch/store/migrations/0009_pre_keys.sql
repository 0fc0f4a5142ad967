-- Keys of terminals and of their loaders: generations, ceremonies, four eyes, and a record of every act. Runs in one
-- transaction. Nothing here is a clear key: blocks are wrapped under the local master key of the security module.

-- ---------------------------------------------------------------------------------------------------- every act
CREATE TABLE switch.key_event (
    seq        bigint PRIMARY KEY CHECK (seq > 0),
    wall_us    bigint NOT NULL,
    who        text NOT NULL CHECK (who <> ''),
    act        text NOT NULL,
    name       text NOT NULL,
    usage      text NOT NULL,
    generation integer NOT NULL,
    kcv        text NOT NULL,
    detail     text NOT NULL,
    link       bytea NOT NULL CHECK (length(link) = 32)
);
COMMENT ON TABLE switch.key_event IS 'Who did what to which key, append-only, chained. Never a key or a component.';
COMMENT ON COLUMN switch.key_event.wall_us IS 'microseconds since 1970, UTC';
COMMENT ON COLUMN switch.key_event.generation IS '0: none yet';
COMMENT ON COLUMN switch.key_event.link IS
    'SHA-256 over the link before (32 zero bytes first) and all columns as text, joined by character 31';

CREATE FUNCTION switch.refuse_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'key_event is append-only: what was done to keys stays written' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON switch.key_event
    FOR EACH ROW EXECUTE FUNCTION switch.refuse_key_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON switch.key_event
    FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_key_change();

CREATE FUNCTION switch.note_key(who text, act text, name text, usage text, generation integer, kcv bytea, detail text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last_seq  bigint;
    last_link bytea;
    now_us    bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    said      text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('switch.note_key'));
    SELECT event.seq, event.link INTO last_seq, last_link FROM switch.key_event AS event ORDER BY event.seq DESC LIMIT 1;
    last_seq := coalesce(last_seq, 0) + 1;
    said := concat_ws(chr(31), last_seq, now_us, who, act, name, usage, generation, encode(kcv, 'hex'), detail);
    INSERT INTO switch.key_event
    VALUES (last_seq, now_us, who, act, name, usage, generation, encode(kcv, 'hex'), detail,
            sha256(coalesce(last_link, decode(repeat('00', 32), 'hex')) || convert_to(said, 'UTF8')));
END $$;

-- ---------------------------------------------------------------------------------------------------- generations
CREATE TABLE switch.key (
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 32),
    usage      text NOT NULL CHECK (usage IN ('tmk', 'transport')),
    generation integer NOT NULL CHECK (generation > 0),
    state      text NOT NULL CHECK (state IN ('pending', 'active', 'retired', 'destroyed')),
    kcv        bytea NOT NULL CHECK (length(kcv) BETWEEN 3 AND 4),
    wrapped    bytea NOT NULL DEFAULT '',
    made_at    timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, usage, generation),
    CONSTRAINT wiped CHECK (state IN ('pending', 'active') OR wrapped = '')
);
CREATE UNIQUE INDEX key_pending ON switch.key (name, usage) WHERE state = 'pending';
CREATE UNIQUE INDEX key_active ON switch.key (name, usage) WHERE state = 'active';
COMMENT ON TABLE switch.key IS
    'Generations of each key. pending -> active -> retired -> destroyed; a pending one may be retired or destroyed at once.';
COMMENT ON COLUMN switch.key.name IS 'the terminal, or the name of a transport key';
COMMENT ON COLUMN switch.key.wrapped IS 'a transport key under the LMK; a terminal''s keys lie in its own row';

ALTER TABLE switch.terminal
    ADD COLUMN next_tmk_wrapped bytea NOT NULL DEFAULT '',
    ADD COLUMN next_tmk_kcv     bytea NOT NULL DEFAULT '' CHECK (length(next_tmk_kcv) IN (0, 3, 4)),
    DROP CONSTRAINT terminal_tmk_kcv_check,
    ADD CONSTRAINT terminal_tmk_kcv_check CHECK (length(tmk_kcv) IN (0, 3, 4)),
    ADD CONSTRAINT another_tmk CHECK (next_tmk_wrapped = '' OR next_tmk_wrapped <> tmk_wrapped);
COMMENT ON COLUMN switch.terminal.tmk_wrapped IS 'the active terminal master key under the LMK; empty: none yet';
COMMENT ON COLUMN switch.terminal.next_tmk_wrapped IS
    'its successor: the first sign-on whose working keys prove themselves under it makes it the active one';

INSERT INTO switch.key (name, usage, generation, state, kcv)
    SELECT terminal_id, 'tmk', 1, 'active', tmk_kcv FROM switch.terminal WHERE tmk_wrapped <> '';

-- What a terminal's row says about its keys and what this table says are changed by one statement, whoever writes it.
CREATE FUNCTION switch.follow_terminal_key() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    gone switch.key;
    new_one switch.key;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO switch.key (name, usage, generation, state, kcv)
            SELECT NEW.terminal_id, 'tmk', row_number() OVER (), state, kcv
              FROM (VALUES ('active', NEW.tmk_wrapped, NEW.tmk_kcv), ('pending', NEW.next_tmk_wrapped, NEW.next_tmk_kcv))
                AS given (state, wrapped, kcv)
             WHERE wrapped <> '';
        PERFORM switch.note_key('gridswitch', 'added', name, usage, generation, kcv, state || ', together with its terminal')
           FROM switch.key WHERE name = NEW.terminal_id AND usage = 'tmk';
        RETURN NULL;
    END IF;
    UPDATE switch.key SET state = 'retired', changed_at = now()
     WHERE name = NEW.terminal_id AND usage = 'tmk' AND state = 'active' RETURNING * INTO gone;
    IF FOUND THEN
        PERFORM switch.note_key('gridswitch', 'retired', gone.name, 'tmk', gone.generation, gone.kcv,
                                'its successor has proved itself; block wiped');
    END IF;
    UPDATE switch.key SET state = 'active', changed_at = now()
     WHERE name = NEW.terminal_id AND usage = 'tmk' AND state = 'pending' RETURNING * INTO new_one;
    PERFORM switch.note_key('gridswitch', 'activated', new_one.name, 'tmk', new_one.generation, new_one.kcv,
                            'a sign-on brought working keys that prove themselves under it');
    RETURN NULL;
END $$;
CREATE TRIGGER key_added AFTER INSERT ON switch.terminal FOR EACH ROW
    WHEN (NEW.tmk_wrapped <> '' OR NEW.next_tmk_wrapped <> '')
    EXECUTE FUNCTION switch.follow_terminal_key();
CREATE TRIGGER key_proved AFTER UPDATE ON switch.terminal
    FOR EACH ROW WHEN (OLD.next_tmk_wrapped <> '' AND NEW.tmk_wrapped = OLD.next_tmk_wrapped)
    EXECUTE FUNCTION switch.follow_terminal_key();

-- ---------------------------------------------------------------------------------------------------- ceremonies
CREATE TABLE switch.key_ceremony (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    usage      text NOT NULL CHECK (usage IN ('tmk', 'transport')),
    family     text NOT NULL CHECK (family IN ('des', 'sm4')),
    needed     smallint NOT NULL CHECK (needed BETWEEN 2 AND 3),
    state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'combined', 'installed', 'abandoned')),
    opened_at  timestamptz NOT NULL DEFAULT now(),
    ends_at    timestamptz NOT NULL,
    kcv        bytea NOT NULL DEFAULT '',
    wrapped    bytea NOT NULL DEFAULT '',
    CONSTRAINT wiped CHECK (state = 'combined' OR wrapped = '')
);
CREATE UNIQUE INDEX key_ceremony_running ON switch.key_ceremony (name, usage) WHERE state IN ('open', 'combined');
COMMENT ON TABLE switch.key_ceremony IS
    'open: waits for components; combined: the whole key waits for its custodians to confirm its check value; installed.';
COMMENT ON COLUMN switch.key_ceremony.wrapped IS 'the whole key under the LMK, only until it is installed';

CREATE TABLE switch.key_component (
    ceremony_id  bigint NOT NULL REFERENCES switch.key_ceremony,
    number       smallint NOT NULL CHECK (number BETWEEN 1 AND 3),
    custodian    text NOT NULL CHECK (custodian <> ''),
    kcv          bytea NOT NULL,
    sealed       bytea NOT NULL DEFAULT '',
    entered_at   timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,
    PRIMARY KEY (ceremony_id, number)
);
CREATE UNIQUE INDEX key_component_custodian ON switch.key_component (ceremony_id, lower(custodian));
COMMENT ON TABLE switch.key_component IS 'What one custodian entered, once for each ceremony: check value and, for a while, the sealed component.';
COMMENT ON COLUMN switch.key_component.sealed IS 'sealed by the security module, only until the last component is there';

-- ---------------------------------------------------------------------------------------------------- four eyes
CREATE TABLE switch.key_proposal (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    act          text NOT NULL CHECK (act IN ('export', 'retire', 'destroy')),
    name         text NOT NULL,
    usage        text NOT NULL,
    generation   integer NOT NULL,
    target       text NOT NULL,
    proposed_by  text NOT NULL CHECK (proposed_by <> ''),
    proposed_at  timestamptz NOT NULL DEFAULT now(),
    ends_at      timestamptz NOT NULL,
    confirmed_by text CHECK (confirmed_by <> ''),
    CONSTRAINT four_eyes CHECK (lower(confirmed_by) <> lower(proposed_by))
);
COMMENT ON TABLE switch.key_proposal IS 'What one person wants to do to a key, until another one confirms it.';
COMMENT ON COLUMN switch.key_proposal.target IS 'export: the transport key';
