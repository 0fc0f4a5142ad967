-- Batch settlement of kiosks: what they say that they took on a day, compared with the journal. Runs in one transaction.

-- A terminal's keys of a day are found as a range of the index; what comes between two keys must not depend on a language.
-- The indexes are built anew, and nobody can write meanwhile.
DO $$
BEGIN
    IF EXISTS (SELECT FROM switch.worker
                WHERE ended_by IS NULL AND lease_s > 0 AND renewed_at + make_interval(secs => lease_s) > now()) THEN
        RAISE EXCEPTION 'a worker is still running on this database: stop every gridswitch run, then migrate (one that was killed counts until its lease is over)';
    END IF;
END $$;
ALTER TABLE switch.claim ALTER COLUMN kiosk_key TYPE text COLLATE "C", ALTER COLUMN stan_key TYPE text COLLATE "C";

CREATE TABLE switch.batch_settlement (
    terminal_id   text NOT NULL,
    asked_on      integer NOT NULL,
    serial        text NOT NULL,
    day           integer NOT NULL,
    batch_number  text NOT NULL,
    state         text NOT NULL CHECK (state IN ('equal', 'differs', 'reported')),
    kiosk_count   integer NOT NULL,
    kiosk_fen     bigint NOT NULL,
    switch_count  integer NOT NULL,
    switch_fen    bigint NOT NULL,
    differences   integer NOT NULL DEFAULT 0,
    asked_at      timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,
    PRIMARY KEY (terminal_id, asked_on, serial)
);
CREATE INDEX batch_settlement_day ON switch.batch_settlement (day, terminal_id);
COMMENT ON TABLE switch.batch_settlement IS 'Each time that a kiosk asked to settle a day. It changes no payment.';
COMMENT ON COLUMN switch.batch_settlement.asked_on IS 'YYYYMMDD; with serial the kiosk''s key: asked again, the same is answered';
COMMENT ON COLUMN switch.batch_settlement.day IS 'YYYYMMDD that is settled: the date in the keys of its payments';
COMMENT ON COLUMN switch.batch_settlement.state IS 'equal; differs: details are awaited; reported: they came and were compared';
COMMENT ON COLUMN switch.batch_settlement.switch_count IS 'payments of the journal that were paid and booked when it was asked, with their sum';

CREATE TABLE switch.batch_detail (
    terminal_id    text NOT NULL,
    asked_on       integer NOT NULL,
    serial         text NOT NULL,
    payment_serial text NOT NULL,
    fen            bigint NOT NULL,
    PRIMARY KEY (terminal_id, asked_on, serial, payment_serial)
);
COMMENT ON TABLE switch.batch_detail IS 'What a kiosk uploaded for a settlement that differs: its paid payments, one by one.';

CREATE TABLE switch.batch_difference (
    terminal_id    text NOT NULL,
    asked_on       integer NOT NULL,
    serial         text NOT NULL,
    payment_serial text NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('kiosk_only', 'journal_only', 'not_paid', 'amount')),
    kiosk_fen      bigint NOT NULL,
    switch_fen     bigint NOT NULL,
    payment_id     bigint,
    PRIMARY KEY (terminal_id, asked_on, serial, payment_serial)
);
COMMENT ON TABLE switch.batch_difference IS
    'Payments about which a kiosk and the journal do not agree, as they stood when its details were complete. For people.';
COMMENT ON COLUMN switch.batch_difference.kind IS
    'kiosk_only: no such payment here; journal_only: paid here, unknown there; not_paid: paid there, not here; amount: both paid, other sums';

CREATE FUNCTION switch.kiosk_day(p_terminal text, p_mmdd text)
RETURNS TABLE (serial text, payment_id bigint, state switch.payment_state, fen bigint) LANGUAGE sql STABLE AS $$
    SELECT split_part(claim.kiosk_key, '|', 3), claim.payment_id, latest.state, latest.amount
      FROM switch.claim
     CROSS JOIN LATERAL (
           SELECT event.state, event.amount FROM switch.payment_event AS event
            WHERE event.opened_on = claim.opened_on AND event.payment_id = claim.payment_id
            ORDER BY event.ver DESC LIMIT 1) AS latest
     WHERE claim.kiosk_key >= p_terminal || '|' || p_mmdd || '|' AND claim.kiosk_key < p_terminal || '|' || p_mmdd || '}'
       AND claim.closed IS NULL
$$;
COMMENT ON FUNCTION switch.kiosk_day IS 'The payments of a terminal under keys of one date (MMDD), as they stand.';

CREATE FUNCTION switch.batch_ask(
    p_terminal text, p_asked_on integer, p_serial text, p_day integer, p_batch text, p_count integer, p_fen bigint
) RETURNS TABLE (code text, paid integer, paid_fen bigint, differing integer) LANGUAGE plpgsql AS $$
DECLARE
    here switch.batch_settlement;
    open integer;
BEGIN
    SELECT * INTO here FROM switch.batch_settlement AS known
     WHERE known.terminal_id = p_terminal AND known.asked_on = p_asked_on AND known.serial = p_serial;
    IF here IS NULL THEN
        SELECT count(*) FILTER (WHERE of_day.state = 'COMPLETED'),
               coalesce(sum(of_day.fen) FILTER (WHERE of_day.state = 'COMPLETED'), 0),
               count(*) FILTER (WHERE of_day.state IN ('CARD_PENDING', 'CARD_CONFIRMING', 'BILL_PENDING', 'BILL_CANCELLING', 'REVERSAL_PENDING'))
          INTO paid, paid_fen, open
          FROM switch.kiosk_day(p_terminal, lpad((p_day % 10000)::text, 4, '0')) AS of_day;
        IF open > 0 THEN
            code := 'batch_open';
            differing := 0;
            RETURN NEXT;
            RETURN;
        END IF;
        INSERT INTO switch.batch_settlement (terminal_id, asked_on, serial, day, batch_number, state, kiosk_count, kiosk_fen,
                                             switch_count, switch_fen)
        VALUES (p_terminal, p_asked_on, p_serial, p_day, p_batch,
                CASE WHEN (paid, paid_fen) = (p_count, p_fen) THEN 'equal' ELSE 'differs' END, p_count, p_fen, paid, paid_fen)
        ON CONFLICT DO NOTHING;
        SELECT * INTO here FROM switch.batch_settlement AS known
         WHERE known.terminal_id = p_terminal AND known.asked_on = p_asked_on AND known.serial = p_serial;
    END IF;
    code := CASE WHEN (here.day, here.kiosk_count, here.kiosk_fen) = (p_day, p_count, p_fen) THEN 'batch_' || here.state
                 ELSE 'key_conflict' END;
    paid := here.switch_count;
    paid_fen := here.switch_fen;
    differing := here.differences;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION switch.batch_ask IS
    'A kiosk says what it took on a day. batch_open: something of that day is not decided yet, and nothing was written.';

CREATE FUNCTION switch.batch_compare(p_terminal text, p_asked_on integer, p_serial text, p_count integer)
RETURNS TABLE (code text, paid integer, paid_fen bigint, differing integer) LANGUAGE plpgsql AS $$
DECLARE
    here switch.batch_settlement;
    come integer;
BEGIN
    SELECT * INTO here FROM switch.batch_settlement AS known
     WHERE known.terminal_id = p_terminal AND known.asked_on = p_asked_on AND known.serial = p_serial FOR UPDATE;
    IF here IS NULL THEN
        code := 'not_found';
        RETURN NEXT;
        RETURN;
    END IF;
    IF here.state = 'differs' THEN
        SELECT count(*) INTO come FROM switch.batch_detail AS detail
         WHERE detail.terminal_id = p_terminal AND detail.asked_on = p_asked_on AND detail.serial = p_serial;
        IF come <> p_count THEN
            code := 'upload_incomplete';
            paid := come;
            RETURN NEXT;
            RETURN;
        END IF;
        INSERT INTO switch.batch_difference (terminal_id, asked_on, serial, payment_serial, kind, kiosk_fen, switch_fen, payment_id)
        SELECT p_terminal, p_asked_on, p_serial, coalesce(of_day.serial, detail.payment_serial),
               CASE WHEN of_day.serial IS NULL THEN 'kiosk_only' WHEN detail.payment_serial IS NULL THEN 'journal_only'
                    WHEN of_day.state <> 'COMPLETED' THEN 'not_paid' ELSE 'amount' END,
               coalesce(detail.fen, 0), CASE WHEN of_day.state = 'COMPLETED' THEN of_day.fen ELSE 0 END, of_day.payment_id
          FROM switch.kiosk_day(p_terminal, lpad((here.day % 10000)::text, 4, '0')) AS of_day
          FULL JOIN (SELECT * FROM switch.batch_detail AS each
                      WHERE each.terminal_id = p_terminal AND each.asked_on = p_asked_on AND each.serial = p_serial) AS detail
                 ON detail.payment_serial = of_day.serial
         WHERE (detail.payment_serial IS NULL AND of_day.state = 'COMPLETED')
            OR (detail.payment_serial IS NOT NULL
                AND (of_day.serial IS NULL OR of_day.state <> 'COMPLETED' OR of_day.fen <> detail.fen));
        GET DIAGNOSTICS come = ROW_COUNT;
        UPDATE switch.batch_settlement AS known
           SET state = CASE come WHEN 0 THEN 'equal' ELSE 'reported' END, differences = come, ended_at = now()
         WHERE known.terminal_id = p_terminal AND known.asked_on = p_asked_on AND known.serial = p_serial
        RETURNING * INTO here;
    END IF;
    code := 'batch_' || here.state;
    paid := here.switch_count;
    paid_fen := here.switch_fen;
    differing := here.differences;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION switch.batch_compare IS
    'A kiosk''s details are complete, it says: as many as $4. What differs is written once; asked again, the same is answered.';
