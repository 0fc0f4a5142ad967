-- What people decide about payments that wait for them. Runs in one transaction.

CREATE TABLE switch.case_decision (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id   bigint NOT NULL,
    decision     text NOT NULL CHECK (decision IN ('paid', 'nothing', 'refunded', 'charged')),
    evidence     text NOT NULL CHECK (length(evidence) BETWEEN 3 AND 2000),
    proposed_by  text NOT NULL CHECK (proposed_by <> ''),
    proposed_at  timestamptz NOT NULL DEFAULT now(),
    confirmed_by text CHECK (confirmed_by <> ''),
    confirmed_at timestamptz,
    settled_at   timestamptz,
    outcome      text,
    CONSTRAINT four_eyes CHECK (lower(confirmed_by) <> lower(proposed_by)),
    CONSTRAINT confirmed_by_somebody CHECK ((confirmed_by IS NULL) = (confirmed_at IS NULL)),
    CONSTRAINT settled_with_outcome CHECK ((settled_at IS NULL) = (outcome IS NULL))
);
-- One decision under way for a payment; what was settled, or withdrawn, stays as evidence.
CREATE UNIQUE INDEX case_decision_open ON switch.case_decision (payment_id) WHERE settled_at IS NULL;
COMMENT ON TABLE switch.case_decision IS
    'Decisions about payments in SUSPENSE or UNPROVEN: one person proposes, another one confirms, the switch carries it out.';
COMMENT ON COLUMN switch.case_decision.decision IS
    'paid: charged and posted; nothing: neither; refunded: was charged, given back, nothing posted; charged: the file shows a charge';
COMMENT ON COLUMN switch.case_decision.evidence IS 'what both sides have shown: file, line, ticket; never card data';
COMMENT ON COLUMN switch.case_decision.outcome IS 'done, withdrawn, or why the switch could not carry it out';
