-- One commit of the journal in one statement. With COPY a commit is seven round trips; as long as few entries wait, the
-- round trips are what it costs. The order is that of the COPY way: events first, then what is given back, then claims.

CREATE FUNCTION switch.journal_write(
    p_epoch integer, p_opened_on integer[], p_payment_id bigint[], p_ver integer[], p_state text[], p_row text[],
    p_wall_us bigint[], p_amount bigint[], p_body text[], p_link bytea[], p_attempt bytea[], p_ledger text[], p_seq bigint[],
    g_kind text[], g_key text[], g_payment_id bigint[], g_keep_until integer[],
    c_kind text[], c_key text[], c_payment_id bigint[], c_opened_on integer[], c_sealed bytea[], c_sealed_pan bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO switch.payment_event (opened_on, payment_id, ver, state, "row", wall_us, amount, body, link, attempt,
                                      ledger, writer_epoch, writer_seq)
    SELECT e.opened_on, e.payment_id, e.ver, e.state::switch.payment_state, e."row", e.wall_us, e.amount, e.body, e.link,
           e.attempt, e.ledger, p_epoch, e.seq
      FROM unnest(p_opened_on, p_payment_id, p_ver, p_state, p_row, p_wall_us, p_amount, p_body, p_link, p_attempt,
                  p_ledger, p_seq)
        AS e (opened_on, payment_id, ver, state, "row", wall_us, amount, body, link, attempt, ledger, seq);
    IF 0 < ANY (g_keep_until) THEN
        WITH gone AS (
            DELETE FROM switch.claim
             USING unnest(g_kind, g_key, g_payment_id, g_keep_until) AS gone (kind, key, payment_id, keep_until)
             WHERE claim.kind = gone.kind::switch.claim_kind AND claim.key = gone.key
               AND claim.payment_id = gone.payment_id
            RETURNING claim.opened_on, claim.payment_id, claim.sealed_pan, gone.keep_until
        )
        INSERT INTO switch.kept_card (opened_on, payment_id, sealed, keep_until)
        SELECT opened_on, payment_id, sealed_pan, keep_until FROM gone
         WHERE keep_until > 0 AND sealed_pan IS NOT NULL
        ON CONFLICT DO NOTHING;
    ELSIF cardinality(g_kind) > 0 THEN
        DELETE FROM switch.claim
         USING unnest(g_kind, g_key, g_payment_id) AS gone (kind, key, payment_id)
         WHERE claim.kind = gone.kind::switch.claim_kind AND claim.key = gone.key AND claim.payment_id = gone.payment_id;
    END IF;
    IF cardinality(c_kind) > 0 THEN
        INSERT INTO switch.claim (kind, key, payment_id, opened_on, sealed, sealed_pan, owner)
        SELECT c.kind::switch.claim_kind, c.key, c.payment_id, c.opened_on, c.sealed, c.sealed_pan,
               CASE WHEN c.kind = 'open' THEN p_epoch END
          FROM unnest(c_kind, c_key, c_payment_id, c_opened_on, c_sealed, c_sealed_pan)
            AS c (kind, key, payment_id, opened_on, sealed, sealed_pan);
    END IF;
END $$;
COMMENT ON FUNCTION switch.journal_write IS
    'One commit of the journal: p_ events, g_ claims that go (with the card numbers that stay), c_ claims that come.';
