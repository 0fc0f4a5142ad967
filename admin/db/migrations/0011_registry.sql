-- The registry's memory: which steps a kiosk's life may take, what was changed, what the switch was told, which gates were
-- seen open. Runs in one transaction.

CREATE TABLE admin.kiosk_step (
    from_state text NOT NULL,
    to_state   text NOT NULL,
    PRIMARY KEY (from_state, to_state)
);
COMMENT ON TABLE admin.kiosk_step IS 'The life cycle, as in devices/lifecycle.py (a test compares them): no other step is taken by anybody.';
INSERT INTO admin.kiosk_step (from_state, to_state) VALUES
    ('registered', 'pending'), ('registered', 'retired'),
    ('pending', 'commissioning'), ('pending', 'registered'), ('pending', 'retired'),
    ('commissioning', 'trial'), ('commissioning', 'pending'), ('commissioning', 'retired'),
    ('trial', 'in_service'), ('trial', 'commissioning'), ('trial', 'out_of_service'), ('trial', 'maintenance'),
    ('trial', 'retired'),
    ('in_service', 'out_of_service'), ('in_service', 'maintenance'), ('in_service', 'retired'),
    ('out_of_service', 'in_service'), ('out_of_service', 'trial'), ('out_of_service', 'maintenance'),
    ('out_of_service', 'retired'),
    ('maintenance', 'in_service'), ('maintenance', 'trial'), ('maintenance', 'out_of_service'),
    ('maintenance', 'commissioning'), ('maintenance', 'retired');

CREATE TABLE admin.kiosk_change (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk_id   bigint NOT NULL REFERENCES admin.kiosk (id),
    at         timestamptz NOT NULL DEFAULT now(),
    actor      text NOT NULL,
    version    integer NOT NULL,
    from_state text,
    to_state   text,
    reason     text NOT NULL DEFAULT '',
    changes    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX kiosk_change_kiosk ON admin.kiosk_change (kiosk_id, id);
COMMENT ON TABLE admin.kiosk_change IS 'Everything that was changed of a kiosk, by whom: written by the trigger, whoever updates the row.';
COMMENT ON COLUMN admin.kiosk_change.version IS 'which the change made: who edits an older one is told what happened since';
COMMENT ON COLUMN admin.kiosk_change.changes IS '{"place": ["old", "new"], …}; "proposal": the trial has lasted long enough';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin.kiosk_change
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_change();

-- A kiosk's master data for people: names where the row has numbers.
CREATE FUNCTION admin.kiosk_told(kiosk admin.kiosk) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(kiosk) - ARRAY['id', 'version', 'state', 'state_reason', 'state_since', 'created_at',
                                   'model_id', 'org_id', 'contract_id']
        || jsonb_build_object(
            'model', (SELECT vendor || ' ' || name FROM admin.kiosk_model WHERE id = kiosk.model_id),
            'org', (SELECT name FROM admin.org WHERE id = kiosk.org_id),
            'contract', (SELECT code FROM admin.contract WHERE id = kiosk.contract_id))
$$;

CREATE FUNCTION admin.keep_kiosk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> OLD.state THEN
        IF NOT EXISTS (SELECT FROM admin.kiosk_step WHERE from_state = OLD.state AND to_state = NEW.state) THEN
            RAISE EXCEPTION 'kiosk %: no step leads from % to %', OLD.code, OLD.state, NEW.state USING ERRCODE = 'check_violation';
        END IF;
        NEW.state_since := now();
    ELSIF OLD.state = 'retired' THEN
        RAISE EXCEPTION 'kiosk %: it is retired and stays as it was', OLD.code USING ERRCODE = 'check_violation';
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_kiosk BEFORE UPDATE ON admin.kiosk FOR EACH ROW EXECUTE FUNCTION admin.keep_kiosk();

CREATE FUNCTION admin.note_kiosk() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    who text := coalesce(nullif(current_setting('admin.actor', true), ''), 'system');
    found jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO admin.kiosk_change (kiosk_id, actor, version, to_state, reason)
        VALUES (NEW.id, who, NEW.version, NEW.state, NEW.state_reason);
        RETURN NULL;
    END IF;
    SELECT coalesce(jsonb_object_agg(after.key, jsonb_build_array(before.value, after.value)), '{}') INTO found
      FROM jsonb_each(admin.kiosk_told(NEW)) AS after JOIN jsonb_each(admin.kiosk_told(OLD)) AS before USING (key)
     WHERE after.value <> before.value;
    INSERT INTO admin.kiosk_change (kiosk_id, actor, version, from_state, to_state, reason, changes)
    VALUES (NEW.id, who, NEW.version, CASE WHEN NEW.state <> OLD.state THEN OLD.state END,
            CASE WHEN NEW.state <> OLD.state THEN NEW.state END,
            CASE WHEN NEW.state <> OLD.state THEN NEW.state_reason ELSE '' END, found);
    RETURN NULL;
END $$;
CREATE TRIGGER note_kiosk AFTER INSERT OR UPDATE ON admin.kiosk FOR EACH ROW EXECUTE FUNCTION admin.note_kiosk();

CREATE TABLE admin.kiosk_order (
    kiosk_id    bigint PRIMARY KEY REFERENCES admin.kiosk (id),
    terminal_id text NOT NULL,
    in_service  boolean NOT NULL,
    reason      text NOT NULL DEFAULT '',
    asked_by    text NOT NULL,
    asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries       integer NOT NULL DEFAULT 0,
    tried_at    timestamptz,
    done_at     timestamptz,
    error_code  text NOT NULL DEFAULT '',
    error       text NOT NULL DEFAULT ''
);
CREATE INDEX kiosk_order_open ON admin.kiosk_order (asked_at) WHERE done_at IS NULL;
COMMENT ON TABLE admin.kiosk_order IS
    'What the switch was last told about a kiosk''s terminal. Without done_at it is told again until it says yes.';

CREATE TABLE admin.kiosk_gate (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk_id  bigint NOT NULL REFERENCES admin.kiosk (id),
    gate      text NOT NULL CHECK (gate IN ('certificate', 'clock', 'peripherals', 'monitor')),
    passed_at timestamptz NOT NULL DEFAULT now(),
    proof     text NOT NULL,
    facts     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX kiosk_gate_kiosk ON admin.kiosk_gate (kiosk_id, id);
COMMENT ON TABLE admin.kiosk_gate IS
    'Gates of admin''s own, written when the fact was seen. What is older than the kiosk''s last commissioning counts no more.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin.kiosk_gate
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_change();

ALTER TABLE admin.kiosk_model ADD COLUMN version integer NOT NULL DEFAULT 1;
ALTER TABLE admin.contract ADD COLUMN version integer NOT NULL DEFAULT 1;
ALTER TABLE admin.kiosk_group ADD COLUMN org_id bigint REFERENCES admin.org (id), ADD COLUMN version integer NOT NULL DEFAULT 1;
UPDATE admin.kiosk_group SET org_id = (SELECT id FROM admin.org WHERE path = '/');
ALTER TABLE admin.kiosk_group ALTER COLUMN org_id SET NOT NULL;
COMMENT ON COLUMN admin.kiosk_group.org_id IS 'under which its kiosks stand: who may see and change the group';

GRANT SELECT ON admin.kiosk_step TO gridswitch_admin;
GRANT SELECT, INSERT ON admin.kiosk_change, admin.kiosk_gate TO gridswitch_admin;
GRANT SELECT, INSERT, UPDATE ON admin.kiosk_order TO gridswitch_admin;
