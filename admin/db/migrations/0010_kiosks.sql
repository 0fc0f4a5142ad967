-- Kiosks and what they belong to. Runs in one transaction.

CREATE TABLE admin.kiosk_model (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vendor text NOT NULL CHECK (length(vendor) BETWEEN 1 AND 60),
    name   text NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
    system text NOT NULL DEFAULT '',
    units  text[] NOT NULL CHECK (units <@ ARRAY['idc', 'pin', 'ptr', 'ptr2', 'cim', 'scan', 'nfc', 'touch', 'ups', 'door', 'cam']),
    UNIQUE (vendor, name)
);
COMMENT ON COLUMN admin.kiosk_model.units IS 'peripherals, in CEN/XFS words: card reader, PIN pad, printer, …';

CREATE TABLE admin.contract (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code      text NOT NULL UNIQUE CHECK (length(code) BETWEEN 1 AND 40),
    name      text NOT NULL,
    starts_on date NOT NULL,
    ends_on   date NOT NULL CHECK (ends_on >= starts_on)
);

CREATE TABLE admin.kiosk (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code          text NOT NULL UNIQUE CHECK (code ~ '^[A-Z0-9-]{3,24}$'),
    serial_number text NOT NULL UNIQUE CHECK (length(serial_number) BETWEEN 3 AND 40),
    model_id      bigint NOT NULL REFERENCES admin.kiosk_model (id),
    org_id        bigint NOT NULL REFERENCES admin.org (id),
    contract_id   bigint REFERENCES admin.contract (id),
    terminal_id   text UNIQUE CHECK (terminal_id ~ '^[ -~]{8}$'),
    line          text NOT NULL DEFAULT '',
    place         text NOT NULL DEFAULT '',
    state         text NOT NULL DEFAULT 'registered'
        CHECK (state IN ('registered', 'pending', 'commissioning', 'trial', 'in_service', 'out_of_service', 'maintenance', 'retired')),
    state_reason  text NOT NULL DEFAULT '',
    state_since   timestamptz NOT NULL DEFAULT now(),
    bought_on     date,
    version       integer NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX kiosk_org ON admin.kiosk (org_id);
COMMENT ON COLUMN admin.kiosk.terminal_id IS 'as the switch and the card network know it (field 41)';
COMMENT ON COLUMN admin.kiosk.line IS 'shared uplink: kiosks that fail together';

CREATE TABLE admin.kiosk_group (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 60)
);
CREATE TABLE admin.kiosk_group_member (
    group_id bigint NOT NULL REFERENCES admin.kiosk_group (id),
    kiosk_id bigint NOT NULL REFERENCES admin.kiosk (id),
    PRIMARY KEY (group_id, kiosk_id)
);

-- What admin knows of a kiosk now; a row of its own, because it changes every minute and the registry does not.
CREATE TABLE admin.kiosk_status (
    kiosk_id     bigint PRIMARY KEY REFERENCES admin.kiosk (id),
    beat_at      timestamptz,
    boot_id      text NOT NULL DEFAULT '',
    seq          bigint NOT NULL DEFAULT 0,
    address      text NOT NULL DEFAULT '',
    app          text NOT NULL DEFAULT '',
    agent        text NOT NULL DEFAULT '',
    mode         text NOT NULL DEFAULT '',
    busy         jsonb NOT NULL DEFAULT '{}',
    switch_said  jsonb NOT NULL DEFAULT '{}',
    units        jsonb NOT NULL DEFAULT '{}',
    counters     jsonb NOT NULL DEFAULT '{}',
    resources    jsonb NOT NULL DEFAULT '{}',
    skew_ms      integer,
    session_at   timestamptz,
    switch_at    timestamptz,
    payment_at   timestamptz,
    completed_at timestamptz,
    diagnosis    text NOT NULL DEFAULT '',
    diagnosed_at timestamptz,
    since        timestamptz
) WITH (fillfactor = 60);
COMMENT ON COLUMN admin.kiosk_status.beat_at IS 'by our clock; newer is what has the higher (boot, seq), never what came later';
COMMENT ON COLUMN admin.kiosk_status.switch_at IS 'last time the switch itself heard of this terminal: the second opinion';
COMMENT ON COLUMN admin.kiosk_status.since IS 'since when the diagnosis is what it is';

GRANT SELECT, INSERT, UPDATE ON admin.kiosk_model, admin.contract, admin.kiosk, admin.kiosk_group, admin.kiosk_group_member,
    admin.kiosk_status TO gridswitch_admin;
GRANT DELETE ON admin.kiosk_group_member TO gridswitch_admin;
