-- Batch settlement of terminals towards the card network. Runs in one transaction.

CREATE TABLE switch.card_settlement (
    terminal_id  text NOT NULL,
    batch_number text NOT NULL,
    day          integer NOT NULL,
    state        text NOT NULL CHECK (state IN ('empty', 'asked', 'balanced', 'differs', 'uploaded')),
    count        integer NOT NULL DEFAULT 0,
    fen          bigint NOT NULL DEFAULT 0,
    tries        integer NOT NULL DEFAULT 0,
    asked_at     timestamptz NOT NULL DEFAULT '-infinity',
    answered_at  timestamptz,
    uploaded_at  timestamptz,
    PRIMARY KEY (terminal_id, batch_number)
);
CREATE INDEX card_settlement_pending ON switch.card_settlement (asked_at) WHERE state IN ('asked', 'differs');
COMMENT ON TABLE switch.card_settlement IS 'Batches of terminals and how far their settlement with the card network has come.';
COMMENT ON COLUMN switch.card_settlement.day IS 'YYYYMMDD on which it was looked at last; 0: something of it was under way each time';
COMMENT ON COLUMN switch.card_settlement.state IS
    'empty: nothing was charged, nothing is asked; asked: a 0500 may have left; balanced, differs: 0510 said 1 or 2, and the terminal has its '
    'next batch; uploaded: the details of one that differs were sent';
COMMENT ON COLUMN switch.card_settlement.count IS 'charges of the latest 0500, with their sum';

CREATE FUNCTION switch.card_batch(p_terminal text, p_batch text)
RETURNS TABLE (stan text, payment_id bigint, open boolean, fen bigint) LANGUAGE sql STABLE AS $$
    SELECT split_part(claim.stan_key, '|', 3), claim.payment_id,
           (SELECT event.state IN ('CARD_PENDING', 'CARD_CONFIRMING', 'BILL_PENDING', 'BILL_CANCELLING', 'REVERSAL_PENDING')
              FROM switch.payment_event AS event
             WHERE event.opened_on = claim.opened_on AND event.payment_id = claim.payment_id
             ORDER BY event.ver DESC LIMIT 1),
           (SELECT coalesce(sum((line ->> 1)::bigint - (line ->> 2)::bigint), 0)::bigint
              FROM switch.payment_event AS event
             CROSS JOIN LATERAL jsonb_array_elements(event.ledger::jsonb) AS line
             WHERE event.opened_on = claim.opened_on AND event.payment_id = claim.payment_id AND event.ledger IS NOT NULL
               AND line ->> 0 = 'u_receivable')
      FROM switch.claim
     WHERE claim.stan_key >= p_terminal || '|' || p_batch || '|' AND claim.stan_key < p_terminal || '|' || p_batch || '}'
       AND claim.closed IS NULL
$$;
COMMENT ON FUNCTION switch.card_batch IS
    'The payments of a batch: whether one is still under way, and what its entries say that the card network owes us for it.';

CREATE FUNCTION switch.card_settle_begin(p_terminal text, p_batch text, p_day integer, p_again_s double precision)
RETURNS TABLE (state text, count integer, fen bigint) LANGUAGE plpgsql AS $$
DECLARE
    here switch.card_settlement;
    under_way boolean;
BEGIN
    INSERT INTO switch.card_settlement (terminal_id, batch_number, day, state) VALUES (p_terminal, p_batch, 0, 'empty')
    ON CONFLICT DO NOTHING;
    SELECT * INTO here FROM switch.card_settlement AS known
     WHERE known.terminal_id = p_terminal AND known.batch_number = p_batch FOR UPDATE;
    IF here.state IN ('balanced', 'uploaded') OR here.asked_at > now() - make_interval(secs => p_again_s) THEN
        RETURN;
    END IF;
    state := here.state;
    count := here.count;
    fen := here.fen;
    IF here.state <> 'differs' THEN
        SELECT coalesce(bool_or(batch.open), false), count(*) FILTER (WHERE batch.fen > 0), coalesce(sum(batch.fen), 0)
          INTO under_way, count, fen
          FROM switch.card_batch(p_terminal, p_batch) AS batch;
        IF under_way THEN
            RETURN;
        END IF;
        state := CASE WHEN here.state = 'empty' AND count = 0 THEN 'empty' ELSE 'asked' END;
    END IF;
    UPDATE switch.card_settlement AS known
       SET state = card_settle_begin.state, count = card_settle_begin.count, fen = card_settle_begin.fen, day = p_day,
           tries = known.tries + (card_settle_begin.state <> 'empty')::integer,
           asked_at = CASE WHEN card_settle_begin.state = 'empty' THEN known.asked_at ELSE now() END
     WHERE known.terminal_id = p_terminal AND known.batch_number = p_batch;
    IF state <> 'empty' THEN
        RETURN NEXT;
    END IF;
END $$;
COMMENT ON FUNCTION switch.card_settle_begin IS
    'A 0500 with these totals (state asked), or the upload (differs), may leave now. No row: not now, somebody else has begun, or nothing is to be asked.';
