-- Books off the path: what the events come to, for people and reports. One projector at a time writes them; everything
-- here can be made again from payment_event. Runs in one transaction.

-- Which transaction wrote an event: the only order in which no late commit can be missed (see projector.py). A number
-- and not xid8, because BRIN knows numbers.
ALTER TABLE switch.payment_event ADD COLUMN committed_by bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint);
COMMENT ON COLUMN switch.payment_event.committed_by IS 'transaction that wrote the row; set by the database';
CREATE INDEX payment_event_committed ON switch.payment_event USING brin (committed_by) WITH (autosummarize = on);

CREATE TABLE switch.projection (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    committed_by bigint NOT NULL DEFAULT 0,
    opened_on    integer NOT NULL DEFAULT 0,
    payment_id   bigint NOT NULL DEFAULT 0,
    ver          integer NOT NULL DEFAULT 0,
    events       bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE switch.projection IS 'How far the books below are: everything up to this event is in them, nothing after it.';
INSERT INTO switch.projection DEFAULT VALUES;

CREATE TABLE switch.payment (
    opened_on   integer NOT NULL,
    payment_id  bigint NOT NULL,
    ver         integer NOT NULL,
    state       switch.payment_state NOT NULL,
    amount      bigint NOT NULL,
    opened_at   timestamptz NOT NULL,
    changed_at  timestamptz NOT NULL,
    terminal_id text NOT NULL,
    account     text NOT NULL,
    kiosk_key   text NOT NULL,
    rrn         text NOT NULL,
    body        jsonb NOT NULL,
    PRIMARY KEY (opened_on, payment_id)
) WITH (fillfactor = 80);
CREATE INDEX payment_of_account ON switch.payment (account, payment_id);
CREATE INDEX payment_of_terminal ON switch.payment (terminal_id, payment_id);
CREATE INDEX payment_not_final ON switch.payment (state, payment_id)
    WHERE state NOT IN ('COMPLETED', 'DECLINED', 'REVERSED', 'REFUNDED');
COMMENT ON TABLE switch.payment IS 'What each payment is now: its events folded. Off the path; the switch never reads it.';
COMMENT ON COLUMN switch.payment.kiosk_key IS 'terminal|MMDD|serial';
COMMENT ON COLUMN switch.payment.body IS 'every event''s body, later over earlier';

CREATE TABLE switch.ledger_entry (
    opened_on  integer NOT NULL,
    payment_id bigint NOT NULL,
    ver        integer NOT NULL,
    line       integer NOT NULL,
    account    text NOT NULL,
    debit      bigint NOT NULL CHECK (debit >= 0),
    credit     bigint NOT NULL CHECK (credit >= 0),
    PRIMARY KEY (opened_on, payment_id, ver, line),
    CHECK ((debit = 0) <> (credit = 0))
);
COMMENT ON TABLE switch.ledger_entry IS 'Double entry, fen: the lines of one event balance, so the sum over all is zero.';

CREATE FUNCTION switch.refuse_unbalanced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT payment_id, ver, sum(debit) - sum(credit) AS off INTO wrong
      FROM added GROUP BY payment_id, ver HAVING sum(debit) <> sum(credit) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger lines of payment % ver % are off by % fen', wrong.payment_id, wrong.ver, wrong.off
              USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER balanced AFTER INSERT ON switch.ledger_entry REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_unbalanced();

CREATE TABLE switch.chain_seal (
    number       integer PRIMARY KEY CHECK (number > 0),
    sealed_at    timestamptz NOT NULL DEFAULT now(),
    day          integer NOT NULL,
    committed_by bigint NOT NULL,
    opened_on    integer NOT NULL,
    payment_id   bigint NOT NULL,
    ver          integer NOT NULL,
    events       bigint NOT NULL CHECK (events >= 0),
    digest       bytea NOT NULL CHECK (length(digest) = 32)
);
COMMENT ON TABLE switch.chain_seal IS
    'A seal a day over the links of all events since the last one, in the order of projection, tied to the last seal.';
COMMENT ON COLUMN switch.chain_seal.ver IS 'with the three columns before it: the last event under this seal';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON switch.chain_seal
    FOR EACH ROW EXECUTE FUNCTION switch.refuse_change();

-- ---------------------------------------------------------------------------------------------------- views
CREATE VIEW switch.attempt AS
    SELECT opened_on, payment_id, ver, "row", to_timestamp(wall_us / 1e6) AS recorded_at,
           CASE WHEN get_byte(attempt, 0) = ascii('{') THEN 'marketing' ELSE 'card' END AS link, attempt AS frame
      FROM switch.payment_event
     WHERE attempt IS NOT NULL;
COMMENT ON VIEW switch.attempt IS 'Each frame that was about to leave, recorded before it did; secrets are removed.';

CREATE VIEW switch.posting AS
    SELECT opened_on, payment_id, one ->> 5 AS serial, account, one ->> 0 AS receivable, one ->> 1 AS period,
           (one ->> 4)::bigint AS amount, one ->> 6 AS state
      FROM switch.payment, jsonb_array_elements(body -> 'postings') AS one;
COMMENT ON VIEW switch.posting IS 'Each month of each payment at the marketing system, by our serial.';

CREATE VIEW switch.outbox AS
    SELECT payment.payment_id, payment.opened_on, payment.state, payment.changed_at AS since, claim.owner,
           CASE payment.state WHEN 'CARD_PENDING' THEN 'purchase' WHEN 'BILL_PENDING' THEN 'posting'
                              WHEN 'BILL_CANCELLING' THEN 'cancel' WHEN 'REVERSAL_PENDING' THEN 'reversal'
                              ELSE 'decision' END AS due
      FROM switch.claim
      JOIN switch.payment ON payment.payment_id = claim.payment_id AND payment.opened_on = claim.opened_on
     WHERE claim.kind = 'open';
COMMENT ON VIEW switch.outbox IS 'What is still due for payments that are not final: the next leg, since when, whose it is.';

-- ---------------------------------------------------------------------------------------------------- contract, v1
-- What the admin service may read, and nothing else: switch/contract.py names it all.
CREATE VIEW switch.contract_v1_payments AS
    SELECT payment_id, opened_on, ver, state::text AS state, amount, opened_at, changed_at, terminal_id, account,
           kiosk_key, rrn, body ->> 'card_masked' AS card_masked, body ->> 'response_code' AS response_code,
           body ->> 'case' AS case_number, body ->> 'batch' AS batch, body ->> 'stan' AS stan,
           (body ->> 'settlement_day')::integer AS settlement_day
      FROM switch.payment;
CREATE VIEW switch.contract_v1_payment_story AS
    SELECT payment_id, opened_on, ver, state::text AS state, "row", to_timestamp(wall_us / 1e6) AS at, amount,
           body::jsonb - 'postings' - 'card_token' - 'digest' AS changes
      FROM switch.payment_event;
CREATE VIEW switch.contract_v1_attempts AS
    SELECT payment_id, opened_on, ver, "row", recorded_at, link, length(frame) AS size FROM switch.attempt;
CREATE VIEW switch.contract_v1_postings AS SELECT * FROM switch.posting;
CREATE VIEW switch.contract_v1_outbox AS
    SELECT payment_id, opened_on, state::text AS state, since, owner, due FROM switch.outbox;
CREATE VIEW switch.contract_v1_ledger_balance AS
    SELECT account, sum(debit)::bigint AS debit, sum(credit)::bigint AS credit, (sum(debit) - sum(credit))::bigint AS balance
      FROM switch.ledger_entry GROUP BY account;
CREATE VIEW switch.contract_v1_open_cases AS
    SELECT payment.payment_id, payment.opened_on, payment.state::text AS state, payment.amount, payment.account,
           payment.changed_at AS since, payment.body ->> 'case' AS case_number, decision.decision, decision.proposed_by,
           decision.confirmed_by
      FROM switch.payment
      LEFT JOIN switch.case_decision AS decision
             ON decision.payment_id = payment.payment_id AND decision.settled_at IS NULL
     WHERE payment.state IN ('SUSPENSE', 'UNPROVEN');
CREATE VIEW switch.contract_v1_terminals AS
    SELECT terminal_id, merchant_id, key_mode, in_service, out_of_service_reason, batch_number, key_epoch,
           to_timestamp(nullif(signed_on_us, 0) / 1e6) AS signed_on_at
      FROM switch.terminal;
CREATE VIEW switch.contract_v1_workers AS
    SELECT epoch, instance, started_at, renewed_at, ended_at, ended_by FROM switch.worker;

CREATE FUNCTION switch.contract_v1_feed(after text, most integer)
RETURNS TABLE (cursor text, payment_id bigint, opened_on integer, ver integer, state text, "row" text, wall_us bigint,
               amount bigint, changes jsonb)
LANGUAGE sql STABLE AS $$
    SELECT event.committed_by || '.' || event.opened_on || '.' || event.payment_id || '.' || event.ver,
           event.payment_id, event.opened_on, event.ver, event.state::text, event."row", event.wall_us, event.amount,
           event.body::jsonb - 'card_token' - 'digest'
      FROM switch.payment_event AS event
     WHERE event.committed_by >= coalesce(nullif(split_part(after, '.', 1), '')::bigint, 0)
       AND event.committed_by < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
       AND (event.committed_by, event.opened_on, event.payment_id, event.ver)
         > (coalesce(nullif(split_part(after, '.', 1), '')::bigint, 0),
            coalesce(nullif(split_part(after, '.', 2), '')::integer, 0),
            coalesce(nullif(split_part(after, '.', 3), '')::bigint, 0),
            coalesce(nullif(split_part(after, '.', 4), '')::integer, 0))
     ORDER BY event.committed_by, event.opened_on, event.payment_id, event.ver
     LIMIT most
$$;
COMMENT ON FUNCTION switch.contract_v1_feed IS
    'Events after a cursor ("" from the beginning), each once and none missed: what an open transaction may still write comes later.';

DO $$
DECLARE
    view text;
BEGIN
    FOR view IN SELECT relname FROM pg_class WHERE relnamespace = 'switch'::regnamespace AND relname LIKE 'contract\_v1\_%' LOOP
        EXECUTE format('COMMENT ON VIEW switch.%I IS %L', view, 'Contract v1: see switch/contract.py. A new shape is a new version.');
    END LOOP;
    -- Without the right to make roles, whoever has it makes gridswitch_admin and grants these views.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gridswitch_admin') THEN
        CREATE ROLE gridswitch_admin NOLOGIN;
    END IF;
    GRANT USAGE ON SCHEMA switch TO gridswitch_admin;
    FOR view IN SELECT relname FROM pg_class WHERE relnamespace = 'switch'::regnamespace AND relname LIKE 'contract\_v1\_%' LOOP
        EXECUTE format('GRANT SELECT ON switch.%I TO gridswitch_admin', view);
    END LOOP;
    GRANT EXECUTE ON FUNCTION switch.contract_v1_feed TO gridswitch_admin;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
    RAISE NOTICE 'gridswitch_admin could not be made or granted its views: %', SQLERRM;
END $$;
ALTER FUNCTION switch.contract_v1_feed SECURITY DEFINER SET search_path = switch, pg_temp;
