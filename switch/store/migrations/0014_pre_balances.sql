-- The ledger's lines stay where they were written, in the events; the books add them up by day and account. Runs in one
-- transaction.

ALTER TABLE switch.ledger_entry RENAME TO ledger_copy;

CREATE VIEW switch.ledger_entry AS
    SELECT event.opened_on, event.payment_id, event.ver, (line.number - 1)::integer AS line, line.value ->> 0 AS account,
           (line.value ->> 1)::bigint AS debit, (line.value ->> 2)::bigint AS credit
      FROM switch.payment_event AS event
     CROSS JOIN LATERAL jsonb_array_elements(event.ledger::jsonb) WITH ORDINALITY AS line (value, number)
     WHERE event.ledger IS NOT NULL;
COMMENT ON VIEW switch.ledger_entry IS 'Every line of the ledger, fen, as its event has it: the lines of one event balance.';

CREATE TABLE switch.ledger_balance (
    opened_on integer NOT NULL,
    account   text NOT NULL,
    debit     bigint NOT NULL CHECK (debit >= 0),
    credit    bigint NOT NULL CHECK (credit >= 0),
    PRIMARY KEY (opened_on, account)
) WITH (fillfactor = 50);
COMMENT ON TABLE switch.ledger_balance IS
    'Double entry, fen: every line that is in the books, by account and by the day on which its payment was opened. The sum over each day is zero.';

CREATE OR REPLACE FUNCTION switch.refuse_unbalanced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT opened_on, sum(debit) - sum(credit) AS off INTO wrong
      FROM switch.ledger_balance WHERE opened_on IN (SELECT opened_on FROM changed)
     GROUP BY opened_on HAVING sum(debit) <> sum(credit) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger of payments opened on %: off by % fen', wrong.opened_on, wrong.off
              USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

INSERT INTO switch.ledger_balance (opened_on, account, debit, credit)
SELECT opened_on, account, sum(debit), sum(credit) FROM switch.ledger_copy GROUP BY opened_on, account;

CREATE OR REPLACE VIEW switch.contract_v1_ledger_balance AS
    SELECT account, sum(debit)::bigint AS debit, sum(credit)::bigint AS credit, (sum(debit) - sum(credit))::bigint AS balance
      FROM switch.ledger_balance GROUP BY account;

DROP TABLE switch.ledger_copy;
CREATE TRIGGER balanced_when_added AFTER INSERT ON switch.ledger_balance REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_unbalanced();
CREATE TRIGGER balanced_when_changed AFTER UPDATE ON switch.ledger_balance REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_unbalanced();
CREATE TRIGGER balanced_when_removed AFTER DELETE ON switch.ledger_balance REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_unbalanced();

-- Who follows the events asks for those of the last second. BRIN knew them only once a range of pages was full and vacuum had
-- been there, so that every look read a minute's worth of rows; equal numbers of one commit share an entry of this one.
DROP INDEX switch.payment_event_committed;
CREATE INDEX payment_event_committed ON switch.payment_event (committed_by);
