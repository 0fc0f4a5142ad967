-- How a new terminal comes into service: five gates, one after the other, each passed by what was seen and by nothing else.
-- Runs in one transaction.

ALTER TABLE switch.terminal
    ADD COLUMN stage      text NOT NULL DEFAULT 'in_service'
        CHECK (stage IN ('registered', 'keys', 'sign_on', 'mac_echo', 'in_service')),
    ADD COLUMN mac_echoes smallint NOT NULL DEFAULT 0 CHECK (mac_echoes BETWEEN 0 AND 3),
    ADD COLUMN shortcut   boolean NOT NULL DEFAULT true,
    ADD CONSTRAINT in_service_last CHECK (NOT in_service OR stage = 'in_service');
ALTER TABLE switch.terminal ALTER COLUMN stage SET DEFAULT 'registered', ALTER COLUMN shortcut SET DEFAULT false;
COMMENT ON COLUMN switch.terminal.stage IS 'the last gate passed; written by the trigger pass_gates alone';
COMMENT ON COLUMN switch.terminal.mac_echoes IS 'echo tests with MAC that went from the kiosk to the card network and back, of these working keys';
COMMENT ON COLUMN switch.terminal.shortcut IS 'it came into service without its gates: a test terminal, or one from before there were any';

CREATE TABLE switch.terminal_gate (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    terminal_id text NOT NULL,
    gate        text NOT NULL,
    proved_at   timestamptz NOT NULL DEFAULT now(),
    proof       text NOT NULL
);
CREATE INDEX terminal_gate_terminal ON switch.terminal_gate (terminal_id, id);
COMMENT ON TABLE switch.terminal_gate IS
    'When each gate was passed and what proved it. "registered" begins anew: what came before it counts no more.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON switch.terminal_gate
    FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_key_change();

CREATE OR REPLACE FUNCTION switch.refuse_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: what was done or proved stays written', TG_TABLE_NAME
          USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION switch.pass_gates() RETURNS trigger LANGUAGE plpgsql AS $$
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
        IF NEW.tmk_wrapped = '' AND NEW.next_tmk_wrapped = '' AND (OLD.tmk_wrapped <> '' OR OLD.next_tmk_wrapped <> '') THEN
            NEW.stage := 'registered';
            NEW.mac_echoes := 0;
            NEW.in_service := false;
            INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
            VALUES (NEW.terminal_id, 'registered', 'it has no key any more: every gate again');
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
    IF NEW.stage = 'registered' AND (NEW.tmk_wrapped <> '' OR NEW.next_tmk_wrapped <> '') THEN
        NEW.stage := 'keys';
        INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
        VALUES (NEW.terminal_id, 'keys', 'master key with check value '
                || encode(CASE WHEN NEW.next_tmk_wrapped <> '' THEN NEW.next_tmk_kcv ELSE NEW.tmk_kcv END, 'hex'));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER pass_gates
    BEFORE INSERT OR UPDATE OF stage, shortcut, in_service, tmk_wrapped, next_tmk_wrapped, working_keys, key_epoch, mac_echoes
    ON switch.terminal
    FOR EACH ROW EXECUTE FUNCTION switch.pass_gates();

INSERT INTO switch.terminal_gate (terminal_id, gate, proof)
    SELECT terminal_id, 'registered', 'from before there were gates' FROM switch.terminal;

CREATE VIEW switch.contract_v1_terminal_gates AS
    SELECT gate.terminal_id, terminal.stage, gate.gate, gate.proved_at, gate.proof
      FROM switch.terminal_gate AS gate
      JOIN switch.terminal ON terminal.terminal_id = gate.terminal_id;
COMMENT ON VIEW switch.contract_v1_terminal_gates IS 'Contract v1: see switch/contract.py. A new shape is a new version.';
DO $$
BEGIN
    GRANT SELECT ON switch.contract_v1_terminal_gates TO gridswitch_admin;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'gridswitch_admin could not be granted its view: %', SQLERRM;
END $$;
