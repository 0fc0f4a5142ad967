-- What a chip did with its issuer's scripts, on its way to the acquirer. Runs in one transaction.

CREATE TABLE switch.script_notice (
    opened_on  integer NOT NULL,
    payment_id bigint NOT NULL,
    body       text NOT NULL,
    sealed     bytea NOT NULL,
    tries      integer NOT NULL DEFAULT 0,
    made_at    timestamptz NOT NULL DEFAULT now(),
    next_at    timestamptz NOT NULL,
    PRIMARY KEY (opened_on, payment_id)
);
CREATE INDEX script_notice_due ON switch.script_notice (next_at);
COMMENT ON TABLE switch.script_notice IS
    'Script notices (0620) that the acquirer has not answered yet; a row goes with its answer. One a payment.';
COMMENT ON COLUMN switch.script_notice.body IS 'JSON object: what of the message is no card data';
COMMENT ON COLUMN switch.script_notice.sealed IS 'card number, sequence number and tags of the chip, encrypted';
COMMENT ON COLUMN switch.script_notice.next_at IS 'when any worker may send it again';
