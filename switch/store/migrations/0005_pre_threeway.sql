-- What the continuous three-way check has found about each payment. Runs in one transaction.

CREATE TABLE switch.threeway_check (
    opened_on  integer NOT NULL,
    payment_id bigint NOT NULL,
    ver        integer NOT NULL,
    class      text NOT NULL,
    amount     bigint NOT NULL,
    charged    bigint,
    booked     bigint NOT NULL,
    at_risk    bigint NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (opened_on, payment_id)
);
CREATE INDEX threeway_break ON switch.threeway_check (class) WHERE at_risk > 0;
COMMENT ON TABLE switch.threeway_check IS
    'The latest comparison of each payment with both hosts. A difference is looked at again until it is gone.';
COMMENT ON COLUMN switch.threeway_check.ver IS 'of the payment when it was compared';
COMMENT ON COLUMN switch.threeway_check.charged IS 'fen, net, at the card network; NULL: it cannot be asked, the settlement file will say';
COMMENT ON COLUMN switch.threeway_check.booked IS 'fen, net, at the marketing system';
COMMENT ON COLUMN switch.threeway_check.at_risk IS 'fen that somebody is short of; 0 when the sides agree';
CREATE INDEX payment_by_time ON switch.payment (opened_at);
