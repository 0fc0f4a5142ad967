-- One row a payment for what stays (kiosk key, trace number, card number of a refund), one more while it is open. Claims by
-- kind were four rows that came, two that went and a kept card. Runs in one transaction.

-- The two forms do not see each other's keys, so nobody may write in the old one from now on.
DO $$
BEGIN
    IF EXISTS (SELECT FROM switch.worker
                WHERE ended_by IS NULL AND lease_s > 0 AND renewed_at + make_interval(secs => lease_s) > now()) THEN
        RAISE EXCEPTION 'a worker is still running on this database: stop every gridswitch run, then migrate (one that was killed counts until its lease is over)';
    END IF;
END $$;

ALTER TABLE switch.claim RENAME TO claim_by_kind;

CREATE TABLE switch.claim (
    payment_id bigint NOT NULL,
    part       integer NOT NULL DEFAULT 0,
    opened_on  integer NOT NULL,
    keep_until integer NOT NULL DEFAULT 0 CHECK (keep_until = 0 OR keep_until BETWEEN 20000101 AND 99991231),
    kiosk_key  text,
    stan_key   text,
    closed     text,
    sealed_pan bytea,
    made_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT claim_part PRIMARY KEY (payment_id, part),
    CONSTRAINT closed_is_nobodys CHECK ((payment_id = 0) = (closed IS NOT NULL))
);
CREATE UNIQUE INDEX claim_kiosk ON switch.claim (kiosk_key);
CREATE UNIQUE INDEX claim_stan ON switch.claim (stan_key);
-- By end of window, and in it by hour of sealing: what is due goes by the first, and the hours are found by leaps over both.
CREATE INDEX claim_kept ON switch.claim (keep_until, substring(sealed_pan FOR 5)) WHERE sealed_pan IS NOT NULL;
COMMENT ON TABLE switch.claim IS
    'A payment''s unique rights that outlive it, inserted with its first event: its keys, for CLAIM_KEPT_DAYS, and its card number.';
COMMENT ON COLUMN switch.claim.part IS '0; counted on for whatever more one payment claims, and for closed keys';
COMMENT ON COLUMN switch.claim.kiosk_key IS 'terminal|MMDD|serial: the idempotency key of a kiosk; NULL when nobody can ask for it any more';
COMMENT ON COLUMN switch.claim.stan_key IS 'terminal|batch|stan: the key towards the card network; NULL likewise';
COMMENT ON COLUMN switch.claim.closed IS
    'only with payment_id 0: what the kiosk was told instead of a payment, so that there will never be one under this key';
COMMENT ON COLUMN switch.claim.sealed_pan IS
    'the card number alone, encrypted: stays when the payment completes, goes when it ends otherwise';
COMMENT ON COLUMN switch.claim.keep_until IS
    'YYYYMMDD, the last day of the refund window: as if the payment completed on its first day, until it does; 0: not known';
CREATE SEQUENCE switch.claim_closed AS integer CYCLE;
COMMENT ON SEQUENCE switch.claim_closed IS 'part of closed keys: they have no payment to be counted by';

CREATE TABLE switch.open_payment (
    payment_id bigint NOT NULL,
    part       integer NOT NULL DEFAULT 0,
    opened_on  integer NOT NULL,
    owner      integer,
    bill_key   text,
    sealed     bytea,
    made_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT open_payment_part PRIMARY KEY (payment_id, part)
);
CREATE UNIQUE INDEX open_payment_bill ON switch.open_payment (bill_key) WHERE bill_key IS NOT NULL;
COMMENT ON TABLE switch.open_payment IS
    'Payments that are not final, with their first bill; a row more for each further bill. Deleted with the final event.';
COMMENT ON COLUMN switch.open_payment.part IS '0: the payment itself; above: one more of its bills';
COMMENT ON COLUMN switch.open_payment.owner IS 'epoch of the worker that drives the payment; NULL: the row is a bill alone';
COMMENT ON COLUMN switch.open_payment.bill_key IS 'account|receivable: one payment at a time for a bill; NULL once it is given back';
COMMENT ON COLUMN switch.open_payment.sealed IS 'card data, encrypted: gone as soon as the payment is final';

-- ---------------------------------------------------------------------------------------------------- what was there
INSERT INTO switch.claim (payment_id, opened_on, kiosk_key, stan_key, sealed_pan, keep_until, made_at)
SELECT coalesce(keys.payment_id, card.payment_id), coalesce(keys.opened_on, card.opened_on), keys.kiosk_key, keys.stan_key,
       coalesce(card.sealed, keys.sealed_pan), coalesce(card.keep_until, 0), coalesce(keys.made_at, now())
  FROM (SELECT payment_id, min(opened_on) AS opened_on, min(key) FILTER (WHERE kind = 'kiosk') AS kiosk_key,
               min(key) FILTER (WHERE kind = 'stan') AS stan_key,
               (array_agg(sealed_pan) FILTER (WHERE kind = 'open'))[1] AS sealed_pan, min(made_at) AS made_at
          FROM switch.claim_by_kind
         WHERE closed IS NULL
         GROUP BY payment_id) AS keys
  FULL JOIN (SELECT payment_id, opened_on, sealed, keep_until FROM switch.kept_card) AS card USING (payment_id);
INSERT INTO switch.claim (payment_id, part, opened_on, kiosk_key, closed, made_at)
SELECT 0, nextval('switch.claim_closed'), 0, key, closed, made_at FROM switch.claim_by_kind WHERE closed IS NOT NULL;
INSERT INTO switch.open_payment (payment_id, part, opened_on, owner, bill_key, sealed, made_at)
SELECT payment_id, number - 1, opened_on, CASE number WHEN 1 THEN owner END, bill_key, CASE number WHEN 1 THEN sealed END, made_at
  FROM (SELECT open.payment_id, open.opened_on, open.owner, open.sealed, open.made_at, bill.key AS bill_key,
               row_number() OVER (PARTITION BY open.payment_id ORDER BY bill.key) AS number
          FROM switch.claim_by_kind AS open
          LEFT JOIN switch.claim_by_kind AS bill ON bill.kind = 'bill' AND bill.payment_id = open.payment_id
         WHERE open.kind = 'open') AS held;

-- ---------------------------------------------------------------------------------------------------- who reads them
CREATE OR REPLACE VIEW switch.outbox AS
    SELECT payment.payment_id, payment.opened_on, payment.state, payment.changed_at AS since, open.owner,
           CASE payment.state WHEN 'CARD_PENDING' THEN 'purchase' WHEN 'BILL_PENDING' THEN 'posting'
                              WHEN 'BILL_CANCELLING' THEN 'cancel' WHEN 'REVERSAL_PENDING' THEN 'reversal'
                              ELSE 'decision' END AS due
      FROM switch.open_payment AS open
      JOIN switch.payment ON payment.payment_id = open.payment_id AND payment.opened_on = open.opened_on
     WHERE open.part = 0;

CREATE FUNCTION switch.held(kinds text[], keys text[])
RETURNS TABLE (kind text, key text, payment_id bigint, opened_on integer, closed text) LANGUAGE sql STABLE AS $$
    WITH asked AS (SELECT * FROM unnest(kinds, keys) AS asked (kind, key))
    SELECT asked.kind, asked.key, claim.payment_id, claim.opened_on, claim.closed
      FROM asked JOIN switch.claim ON claim.kiosk_key = asked.key WHERE asked.kind = 'kiosk'
    UNION ALL
    SELECT asked.kind, asked.key, claim.payment_id, claim.opened_on, NULL
      FROM asked JOIN switch.claim ON claim.stan_key = asked.key WHERE asked.kind = 'stan'
    UNION ALL
    SELECT asked.kind, asked.key, open.payment_id, open.opened_on, NULL
      FROM asked JOIN switch.open_payment AS open ON open.bill_key = asked.key WHERE asked.kind = 'bill'
    UNION ALL
    SELECT asked.kind, asked.key, open.payment_id, open.opened_on, NULL
      FROM asked JOIN switch.open_payment AS open
        ON open.payment_id = CASE asked.kind WHEN 'open' THEN asked.key::bigint END AND open.part = 0
     WHERE asked.kind = 'open'
$$;
COMMENT ON FUNCTION switch.held IS 'Which of these claims exist, and whose they are. Kinds: kiosk, stan, bill, open (key: payment id).';

-- What a commit of the journal holds beside its events: what is given back goes first, so that a neighbour may claim it.
CREATE FUNCTION switch.journal_claims(
    b_payment_id bigint[], b_bill_key text[], g_payment_id bigint[], g_keep_until integer[],
    c_payment_id bigint[], c_part integer[], c_opened_on integer[], c_keep_until integer[], c_kiosk_key text[],
    c_stan_key text[], c_sealed_pan bytea[],
    o_payment_id bigint[], o_part integer[], o_opened_on integer[], o_owner integer[], o_bill_key text[], o_sealed bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(b_payment_id) > 0 THEN
        UPDATE switch.open_payment SET bill_key = NULL FROM unnest(b_payment_id, b_bill_key) AS gone (payment_id, key)
         WHERE open_payment.bill_key = gone.key AND open_payment.payment_id = gone.payment_id;
        DELETE FROM switch.open_payment USING unnest(b_payment_id) AS gone (payment_id)
         WHERE open_payment.payment_id = gone.payment_id AND open_payment.owner IS NULL AND open_payment.bill_key IS NULL;
    END IF;
    IF cardinality(g_payment_id) > 0 THEN
        WITH gone AS (
            DELETE FROM switch.open_payment USING unnest(g_payment_id, g_keep_until) AS gone (payment_id, keep_until)
             WHERE open_payment.payment_id = gone.payment_id
            RETURNING gone.payment_id, gone.keep_until, open_payment.owner
        )
        UPDATE switch.claim
           SET keep_until = gone.keep_until, sealed_pan = CASE WHEN gone.keep_until > 0 THEN sealed_pan END
          FROM gone
         WHERE gone.owner IS NOT NULL AND claim.payment_id = gone.payment_id AND claim.sealed_pan IS NOT NULL
           AND (claim.keep_until <> gone.keep_until OR gone.keep_until = 0);
    END IF;
    IF cardinality(c_payment_id) > 0 THEN
        INSERT INTO switch.claim (payment_id, part, opened_on, keep_until, kiosk_key, stan_key, sealed_pan)
        SELECT * FROM unnest(c_payment_id, c_part, c_opened_on, c_keep_until, c_kiosk_key, c_stan_key, c_sealed_pan);
    END IF;
    IF cardinality(o_payment_id) > 0 THEN
        INSERT INTO switch.open_payment (payment_id, part, opened_on, owner, bill_key, sealed)
        SELECT * FROM unnest(o_payment_id, o_part, o_opened_on, o_owner, o_bill_key, o_sealed);
    END IF;
END $$;
COMMENT ON FUNCTION switch.journal_claims IS
    'Of one commit of the journal: b_ bills given back by payments that stay open, g_ payments that are final (with the last day, YYYYMMDD, '
    'on which the card number stays; 0: it goes), c_ claims and o_ open payments that come. What another payment holds stays.';

-- As in 0012, for these tables.
DROP FUNCTION switch.journal_write;
CREATE FUNCTION switch.journal_write(
    p_epoch integer, p_opened_on integer[], p_payment_id bigint[], p_ver integer[], p_state text[], p_row text[],
    p_wall_us bigint[], p_amount bigint[], p_body text[], p_link bytea[], p_attempt bytea[], p_ledger text[], p_seq bigint[],
    b_payment_id bigint[], b_bill_key text[], g_payment_id bigint[], g_keep_until integer[],
    c_payment_id bigint[], c_part integer[], c_opened_on integer[], c_keep_until integer[], c_kiosk_key text[],
    c_stan_key text[], c_sealed_pan bytea[],
    o_payment_id bigint[], o_part integer[], o_opened_on integer[], o_owner integer[], o_bill_key text[], o_sealed bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO switch.payment_event (opened_on, payment_id, ver, state, "row", wall_us, amount, body, link, attempt,
                                      ledger, writer_epoch, writer_seq)
    SELECT e.opened_on, e.payment_id, e.ver, e.state::switch.payment_state, e."row", e.wall_us, e.amount, e.body, e.link,
           e.attempt, e.ledger, p_epoch, e.seq
      FROM unnest(p_opened_on, p_payment_id, p_ver, p_state, p_row, p_wall_us, p_amount, p_body, p_link, p_attempt,
                  p_ledger, p_seq)
        AS e (opened_on, payment_id, ver, state, "row", wall_us, amount, body, link, attempt, ledger, seq);
    PERFORM switch.journal_claims(b_payment_id, b_bill_key, g_payment_id, g_keep_until, c_payment_id, c_part, c_opened_on,
                                  c_keep_until, c_kiosk_key, c_stan_key, c_sealed_pan, o_payment_id, o_part, o_opened_on,
                                  o_owner, o_bill_key, o_sealed);
END $$;
COMMENT ON FUNCTION switch.journal_write IS 'One commit of the journal: p_ events, and what journal_claims takes.';

DROP TABLE switch.claim_by_kind;
DROP TABLE switch.kept_card;
DROP TYPE switch.claim_kind;
