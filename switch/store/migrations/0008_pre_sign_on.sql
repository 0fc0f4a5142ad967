-- Why a terminal that is in service cannot trade: its last sign-on brought keys that do not prove themselves. Runs in one
-- transaction.

ALTER TABLE switch.terminal ADD COLUMN sign_on_fault text NOT NULL DEFAULT '';
COMMENT ON COLUMN switch.terminal.sign_on_fault IS
    'why the last sign-on gave no usable keys; emptied by the next good one; the keys of an earlier one stay in working_keys';
