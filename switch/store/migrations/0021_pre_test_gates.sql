-- Two more gates in front of service: the marketing system answered an inquiry for the test account through this terminal, and a
-- test payment of it was charged and given back. Runs in one transaction.

ALTER TABLE switch.terminal
    DROP CONSTRAINT terminal_stage_check,
    ADD CONSTRAINT terminal_stage_check
        CHECK (stage IN ('registered', 'keys', 'sign_on', 'mac_echo', 'test_query', 'test_reversal', 'in_service')),
    ADD COLUMN test_queries    smallint NOT NULL DEFAULT 0 CHECK (test_queries IN (0, 1)),
    ADD COLUMN test_payment_on integer,
    ADD COLUMN test_payment_id bigint,
    ADD CONSTRAINT whole_test_payment CHECK ((test_payment_on IS NULL) = (test_payment_id IS NULL));
COMMENT ON COLUMN switch.terminal.test_queries IS 'the marketing system has answered an inquiry for the test account through it';
COMMENT ON COLUMN switch.terminal.test_payment_id IS 'its payment for the test account that was charged and given back';

CREATE FUNCTION switch.was_given_back(terminal text, opened integer, payment bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(bool_or(event.ver = 1 AND event.body::jsonb ->> 'terminal' = terminal)
                    AND bool_or(event.ledger IS NOT NULL AND event.state <> 'REVERSED')
                    AND bool_or(event.state = 'REVERSED'), false)
      FROM switch.payment_event AS event
     WHERE event.opened_on = opened AND event.payment_id = payment
$$;
COMMENT ON FUNCTION switch.was_given_back IS 'The journal says that this terminal''s payment was charged (it was booked) and is reversed.';

-- As in 0011, with two more steps.
CREATE OR REPLACE FUNCTION switch.pass_gates() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    proof text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.shortcut := NEW.stage <> 'registered';
        proof := 'merchant ' || NEW.merchant_id;
        IF NEW.shortcut THEN
            proof := proof || '; a shortcut past the gates, for test terminals';
        END IF;
        INSERT INTO switch.terminal_gate (terminal_id, gate, proof) VALUES (NEW.terminal_id, 'registered', proof);
    ELSE
        IF NEW.stage <> OLD.stage OR NEW.shortcut <> OLD.shortcut THEN
            RAISE EXCEPTION 'terminal %: a gate is passed by its proof and not by hand', NEW.terminal_id
                  USING ERRCODE = 'check_violation';
        END IF;
        IF switch.has_keys(OLD) AND NOT switch.has_keys(NEW) THEN
            NEW.stage := 'registered';
            NEW.mac_echoes := 0;
            NEW.test_queries := 0;
            NEW.test_payment_on := NULL;
            NEW.test_payment_id := NULL;
            NEW.in_service := false;
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
            VALUES (NEW.terminal_id, 'registered', 'a key of it is gone: every gate again');
            RETURN NEW;
        END IF;
        IF NEW.key_epoch <> OLD.key_epoch AND OLD.stage IN ('keys', 'sign_on') THEN
            NEW.mac_echoes := 0;
        ELSIF NEW.mac_echoes <> OLD.mac_echoes AND (OLD.stage <> 'sign_on' OR NEW.mac_echoes <> OLD.mac_echoes + 1) THEN
            RAISE EXCEPTION 'terminal %: echo tests are counted one by one', NEW.terminal_id USING ERRCODE = 'check_violation';
        END IF;
        IF NEW.test_queries <> OLD.test_queries AND OLD.stage <> 'mac_echo' THEN
            RAISE EXCEPTION 'terminal %: it does not wait for a test inquiry', NEW.terminal_id USING ERRCODE = 'check_violation';
        END IF;
        IF NEW.test_payment_id IS DISTINCT FROM OLD.test_payment_id
           AND (OLD.stage <> 'test_query'
                OR NOT switch.was_given_back(NEW.terminal_id, NEW.test_payment_on, NEW.test_payment_id)) THEN
            RAISE EXCEPTION 'terminal %: no payment of it that the journal knows as charged and given back', NEW.terminal_id
                  USING ERRCODE = 'check_violation';
        END IF;
        IF OLD.stage = 'keys' AND NEW.key_epoch = OLD.key_epoch + 1 AND NEW.working_keys IS NOT NULL THEN
            NEW.stage := 'sign_on';
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
            VALUES (NEW.terminal_id, 'sign_on', 'response 00 with working keys that fit their check values, under master key '
                    || encode(NEW.tmk_kcv, 'hex') || '; batch ' || NEW.batch_number);
        ELSIF OLD.stage = 'sign_on' AND NEW.mac_echoes = 3 THEN
            NEW.stage := 'mac_echo';
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
            VALUES (NEW.terminal_id, 'mac_echo', 'three echo tests with good MACs, kiosk to card network and back');
        ELSIF OLD.stage = 'mac_echo' AND NEW.test_queries = 1 THEN
            NEW.stage := 'test_query';
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
            VALUES (NEW.terminal_id, 'test_query', 'the marketing system answered an inquiry for the test account');
        ELSIF OLD.stage = 'test_query' AND NEW.test_payment_id IS NOT NULL THEN
            NEW.stage := 'test_reversal';
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
            VALUES (NEW.terminal_id, 'test_reversal', 'payment ' || NEW.test_payment_id || ' of ' || NEW.test_payment_on
                    || ' for the test account was charged, and the card network confirmed its reversal');
        ELSIF OLD.stage = 'test_reversal' AND NEW.in_service THEN
            NEW.stage := 'in_service';
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof) VALUES (NEW.terminal_id, 'in_service', 'put into service');
        ELSIF NEW.in_service AND OLD.stage <> 'in_service' THEN
            RAISE EXCEPTION 'terminal % has passed its gates up to % only: see gridswitch terminal show', NEW.terminal_id, OLD.stage
                  USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF NEW.stage = 'registered' AND switch.has_keys(NEW) THEN
        NEW.stage := 'keys';
        INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
        VALUES (NEW.terminal_id, 'keys', 'master key with check value '
                || encode(CASE WHEN NEW.next_tmk_wrapped <> '' THEN NEW.next_tmk_kcv ELSE NEW.tmk_kcv END, 'hex')
                || CASE WHEN NEW.key_mode = 'translate' THEN ', platform key ' || encode(NEW.platform_kcv, 'hex') ELSE '' END);
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER pass_gates ON switch.terminal;
CREATE TRIGGER pass_gates
    BEFORE INSERT OR UPDATE OF stage, shortcut, in_service, tmk_wrapped, next_tmk_wrapped, platform_wrapped, working_keys,
                               key_epoch, mac_echoes, test_queries, test_payment_on, test_payment_id
    ON switch.terminal
    FOR EACH ROW EXECUTE FUNCTION switch.pass_gates();
