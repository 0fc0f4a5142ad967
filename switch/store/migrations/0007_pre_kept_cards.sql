-- The card number alone outlives a completed payment until its refund window ends. Runs in one transaction.

-- In which hour card data was sealed, and so which key it needs; see switch/security/vault.py for the bytes.
CREATE FUNCTION switch.sealed_hour(sealed bytea) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN length(sealed) >= 5 THEN
        (get_byte(sealed, 1) << 24) | (get_byte(sealed, 2) << 16) | (get_byte(sealed, 3) << 8) | get_byte(sealed, 4)
    ELSE 0 END
$$;
COMMENT ON FUNCTION switch.sealed_hour IS 'Hours since 1970, UTC; 0: no sealed card data.';

ALTER TABLE switch.claim ADD COLUMN sealed_pan bytea;
COMMENT ON COLUMN switch.claim.sealed_pan IS
    'the card number alone, encrypted, only with kind open: becomes a kept_card when the payment completes, else goes with the row';

CREATE TABLE switch.kept_card (
    opened_on  integer NOT NULL,
    payment_id bigint NOT NULL,
    sealed     bytea NOT NULL,
    keep_until integer NOT NULL CHECK (keep_until BETWEEN 20000101 AND 99991231),
    hour       integer NOT NULL GENERATED ALWAYS AS (switch.sealed_hour(sealed)) STORED,
    PRIMARY KEY (opened_on, payment_id)
);
-- Both grow at their right end only.
CREATE INDEX kept_card_until ON switch.kept_card (keep_until);
CREATE INDEX kept_card_hour ON switch.kept_card (hour);
COMMENT ON TABLE switch.kept_card IS 'Card numbers of completed payments that may still be refunded; written with the final event.';
COMMENT ON COLUMN switch.kept_card.sealed IS 'the card number alone, encrypted; its hour''s key is destroyed with the last row of that hour';
COMMENT ON COLUMN switch.kept_card.keep_until IS 'YYYYMMDD, the last day of the refund window; then the row goes';
