-- Key mode "translate": the kiosk has a master key of ours, the platform key, and working keys under that. Runs in one
-- transaction.

ALTER TABLE switch.terminal
    ADD COLUMN platform_wrapped bytea NOT NULL DEFAULT '',
    ADD COLUMN platform_kcv     bytea NOT NULL DEFAULT '' CHECK (length(platform_kcv) IN (0, 3, 4)),
    ADD COLUMN kiosk_keys       bytea;
COMMENT ON COLUMN switch.terminal.platform_wrapped IS 'mode translate: the master key that its kiosk has, under the LMK';
COMMENT ON COLUMN switch.terminal.kiosk_keys IS 'mode translate: working keys of its kiosk, as field 62: cryptograms under the platform key';

ALTER TABLE switch.key DROP CONSTRAINT key_usage_check,
    ADD CONSTRAINT key_usage_check CHECK (usage IN ('tmk', 'platform', 'transport'));
ALTER TABLE switch.key_ceremony DROP CONSTRAINT key_ceremony_usage_check,
    ADD CONSTRAINT key_ceremony_usage_check CHECK (usage IN ('tmk', 'platform', 'transport'));

CREATE FUNCTION switch.has_keys(terminal switch.terminal) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT (terminal.tmk_wrapped <> '' OR terminal.next_tmk_wrapped <> '')
       AND (terminal.key_mode <> 'translate' OR terminal.platform_wrapped <> '')
$$;
COMMENT ON FUNCTION switch.has_keys IS 'Whether the gate "keys" is open: in mode translate the kiosk needs a key as well.';

-- As in 0010, with that question.
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
        IF OLD.stage = 'keys' AND NEW.key_epoch = OLD.key_epoch + 1 AND NEW.working_keys IS NOT NULL THEN
            NEW.stage := 'sign_on';
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
            VALUES (NEW.terminal_id, 'sign_on', 'response 00 with working keys that fit their check values, under master key '
                    || encode(NEW.tmk_kcv, 'hex') || '; batch ' || NEW.batch_number);
        ELSIF OLD.stage = 'sign_on' AND NEW.mac_echoes = 3 THEN
            NEW.stage := 'mac_echo';
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
            VALUES (NEW.terminal_id, 'mac_echo', 'three echo tests with good MACs, kiosk to card network and back');
        ELSIF OLD.stage = 'mac_echo' AND NEW.in_service THEN
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
                               key_epoch, mac_echoes
    ON switch.terminal
    FOR EACH ROW EXECUTE FUNCTION switch.pass_gates();

CREATE FUNCTION switch.add_platform_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO switch.key (name, usage, generation, state, kcv) VALUES (NEW.terminal_id, 'platform', 1, 'active', NEW.platform_kcv);
    PERFORM switch.note_key('gridswitch', 'added', NEW.terminal_id, 'platform', 1, NEW.platform_kcv, 'together with its terminal');
    RETURN NULL;
END $$;
CREATE TRIGGER platform_key_added AFTER INSERT ON switch.terminal FOR EACH ROW WHEN (NEW.platform_wrapped <> '')
    EXECUTE FUNCTION switch.add_platform_key();
