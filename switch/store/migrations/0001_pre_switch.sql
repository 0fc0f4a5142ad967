-- The journal: an append-only event per transition, unique claims, and what the switch keeps beside them.
-- Runs in one transaction; the schema "switch" exists already (migrate.py makes it with its own table).

CREATE TYPE switch.payment_state AS ENUM (
    'NEW',               -- only in memory, never in a row
    'CARD_PENDING',      -- NEW -> CARD_PENDING: the purchase may leave now
    'BILL_PENDING',      -- CARD_PENDING -> BILL_PENDING: the card is charged; a posting may leave now
    'BILL_CANCELLING',   -- BILL_PENDING -> BILL_CANCELLING: decided, no more posting; postings are being cancelled
    'REVERSAL_PENDING',  -- CARD_PENDING or BILL_CANCELLING -> REVERSAL_PENDING: the card must not stay charged
    'UNPROVEN',          -- REVERSAL_PENDING -> UNPROVEN: the settlement file decides
    'SUSPENSE',          -- BILL_PENDING, BILL_CANCELLING, REVERSAL_PENDING or UNPROVEN -> SUSPENSE: a person decides
    'COMPLETED',         -- BILL_PENDING, BILL_CANCELLING or SUSPENSE -> COMPLETED: charged and posted; final
    'DECLINED',          -- CARD_PENDING -> DECLINED: not charged; final
    'REVERSED',          -- REVERSAL_PENDING, UNPROVEN or SUSPENSE -> REVERSED: not charged any more; final
    'REFUNDED'           -- SUSPENSE -> REFUNDED: money given back; final
);
COMMENT ON TYPE switch.payment_state IS
    'Where the money stands. Final: COMPLETED, DECLINED, REVERSED, REFUNDED. Transitions: see 0001_pre_switch.sql.';

CREATE TYPE switch.claim_kind AS ENUM (
    'kiosk',  -- terminal|MMDD|serial: the idempotency key of a kiosk
    'stan',   -- terminal|batch|stan: the key towards the card network
    'bill',   -- account|receivable: one payment at a time for a bill
    'open'    -- payment id: the payment is not final
);

-- ---------------------------------------------------------------------------------------------------- events
CREATE TABLE switch.payment_event (
    opened_on    integer NOT NULL,
    payment_id   bigint NOT NULL,
    ver          integer NOT NULL CHECK (ver > 0),
    state        switch.payment_state NOT NULL,
    "row"        text NOT NULL,
    wall_us      bigint NOT NULL,
    amount       bigint NOT NULL,
    body         text NOT NULL,
    link         bytea NOT NULL,
    attempt      bytea,
    ledger       text,
    writer_epoch integer NOT NULL,
    writer_seq   bigint NOT NULL,
    PRIMARY KEY (opened_on, payment_id, ver)
) PARTITION BY RANGE (opened_on);

COMMENT ON TABLE switch.payment_event IS
    'One row per transition of a payment, append-only. The primary key is the compare-and-set: whoever writes ver first has decided.';
COMMENT ON COLUMN switch.payment_event.opened_on IS 'YYYYMMDD on which the payment was opened; never changes; the partition';
COMMENT ON COLUMN switch.payment_event.ver IS '1, 2, 3 without gaps';
COMMENT ON COLUMN switch.payment_event."row" IS 'the row of the transition table that was taken';
COMMENT ON COLUMN switch.payment_event.wall_us IS 'microseconds since 1970, UTC';
COMMENT ON COLUMN switch.payment_event.amount IS 'fen';
COMMENT ON COLUMN switch.payment_event.body IS 'JSON object: what changed; later over earlier gives the payment; never card data';
COMMENT ON COLUMN switch.payment_event.link IS 'SHA-256 over the link of the previous event of this payment and this event';
COMMENT ON COLUMN switch.payment_event.attempt IS 'the frame about to leave, secrets removed';
COMMENT ON COLUMN switch.payment_event.ledger IS 'JSON array of [account, debit fen, credit fen], balanced';
COMMENT ON COLUMN switch.payment_event.writer_seq IS 'with writer_epoch: who wrote this row, so that a lost answer to COMMIT can be found out';

CREATE FUNCTION switch.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'payment_event is append-only: write the next ver instead' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON switch.payment_event
    FOR EACH ROW EXECUTE FUNCTION switch.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON switch.payment_event
    FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_change();

-- Attached, not created as a partition: CREATE TABLE ... PARTITION OF locks out the readers, ATTACH does not.
CREATE FUNCTION switch.ensure_partition(day integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    name text := 'payment_event_' || day;
BEGIN
    IF to_regclass('switch.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('switch.ensure_partition'));
    IF to_regclass('switch.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE switch.%I (LIKE switch.payment_event INCLUDING ALL)', name);
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON switch.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_change()', name);
    EXECUTE format('ALTER TABLE switch.payment_event ATTACH PARTITION switch.%I FOR VALUES FROM (%s) TO (%s)',
                   name, day, day + 1);
    RETURN true;
END $$;
COMMENT ON FUNCTION switch.ensure_partition IS 'Make the partition of a day (YYYYMMDD) if it is missing; true if it was.';

-- ---------------------------------------------------------------------------------------------------- claims
CREATE TABLE switch.claim (
    kind       switch.claim_kind NOT NULL,
    key        text NOT NULL,
    payment_id bigint NOT NULL,
    opened_on  integer NOT NULL,
    sealed     bytea,
    made_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, key)
) WITH (fillfactor = 90);
-- Few rows at any time: only open payments. Recovery pages through it.
CREATE INDEX claim_open ON switch.claim (payment_id) WHERE kind = 'open';
COMMENT ON TABLE switch.claim IS 'Unique rights of a payment, inserted and deleted together with its events.';
COMMENT ON COLUMN switch.claim.sealed IS 'card data, encrypted, only with kind open: gone as soon as the payment is final';

-- ---------------------------------------------------------------------------------------------------- beside the path
CREATE TABLE switch.stray (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    peer     text NOT NULL,
    kind     text NOT NULL,
    key      text NOT NULL,
    detail   text NOT NULL,
    wall_us  bigint NOT NULL
);
CREATE INDEX stray_key ON switch.stray (key);
COMMENT ON TABLE switch.stray IS 'Answers that no payment in memory waited for. After an outage a row may be there twice, never not at all.';

CREATE TABLE switch.terminal (
    terminal_id           text PRIMARY KEY CHECK (length(terminal_id) = 8),
    merchant_id           text NOT NULL CHECK (length(merchant_id) = 15),
    key_mode              text NOT NULL CHECK (key_mode IN ('dual_tmk', 'translate')),
    in_service            boolean NOT NULL,
    out_of_service_reason text NOT NULL DEFAULT '',
    tmk_wrapped           bytea NOT NULL,
    tmk_kcv               bytea NOT NULL CHECK (length(tmk_kcv) BETWEEN 3 AND 4),
    batch_number          text NOT NULL CHECK (batch_number ~ '^[0-9]{6}$'),
    key_epoch             integer NOT NULL DEFAULT 0,
    working_keys          bytea,
    signed_on_us          bigint NOT NULL DEFAULT 0,
    stan_next             integer NOT NULL DEFAULT 1 CHECK (stan_next BETWEEN 1 AND 1000000),
    changed_by            xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (fillfactor = 70);
CREATE INDEX terminal_changed ON switch.terminal (changed_by);
COMMENT ON TABLE switch.terminal IS 'A kiosk as the card network knows it. Keys only as cryptograms.';
COMMENT ON COLUMN switch.terminal.stan_next IS 'first number that is not reserved; 1000000 means: wrap to 1';
COMMENT ON COLUMN switch.terminal.changed_by IS 'transaction that changed the row last, numbers aside: what a cache must read again';
COMMENT ON COLUMN switch.terminal.key_epoch IS 'bumped by every sign-on';
COMMENT ON COLUMN switch.terminal.working_keys IS 'field 62 of the last sign-on: cryptograms under the TMK';

CREATE TABLE switch.worker (
    epoch      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE switch.worker IS 'Each start of a writing process; its epoch marks every event that it writes.';

-- ---------------------------------------------------------------------------------------------------- for people
CREATE VIEW switch.payment_now AS
    SELECT DISTINCT ON (opened_on, payment_id)
           payment_id, opened_on, ver, state, amount, to_timestamp(wall_us / 1e6) AS changed_at, "row", body
      FROM switch.payment_event
     ORDER BY opened_on, payment_id, ver DESC;
COMMENT ON VIEW switch.payment_now IS
    'The latest event of each payment. body is what that event changed, not the whole payment: fold all events for that.';
