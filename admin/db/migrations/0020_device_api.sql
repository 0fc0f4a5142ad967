-- What kiosks say and what they are told: identity, boots, events, sessions, telemetry, commands, uploads.
-- Runs in one transaction. The protocol is in admin/README.md, "Device API".

-- ---------------------------------------------------------------------------------------------------- identity
CREATE TABLE admin.enrolment_code (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk_id    bigint NOT NULL REFERENCES admin.kiosk (id),
    code_sha256 bytea NOT NULL UNIQUE CHECK (length(code_sha256) = 32),
    issued_by   bigint NOT NULL REFERENCES admin.operator (id),
    issued_at   timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL CHECK (expires_at > issued_at),
    used_at     timestamptz,
    void_at     timestamptz
);
CREATE UNIQUE INDEX enrolment_code_open ON admin.enrolment_code (kiosk_id) WHERE used_at IS NULL AND void_at IS NULL;
COMMENT ON TABLE admin.enrolment_code IS 'One-time codes with which a kiosk asks for its certificate; the code itself is nowhere.';
COMMENT ON COLUMN admin.enrolment_code.void_at IS 'another code was issued before this one was used';

CREATE TABLE admin.kiosk_certificate (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk_id      bigint NOT NULL REFERENCES admin.kiosk (id),
    state         text NOT NULL
        CHECK (state IN (
            'pending',     -- the kiosk asked; its fingerprint is to be compared by a second person
            'active',      -- pending -> active: approved, or renewed with the same key
            'superseded',  -- active -> superseded: renewed, or another key was approved
            'revoked',     -- active -> revoked: by a person; this key never works again
            'refused'      -- pending -> refused: by a person, or the kiosk asked anew
        )),
    origin        text NOT NULL CHECK (origin IN ('enrolment', 'renewal', 'test')),
    spki_sha256   bytea NOT NULL CHECK (length(spki_sha256) = 32),
    request       bytea NOT NULL,
    certificate   bytea,
    serial        text UNIQUE,
    not_before    timestamptz,
    not_after     timestamptz,
    code_id       bigint UNIQUE REFERENCES admin.enrolment_code (id),
    issued_by     bigint REFERENCES admin.operator (id),
    poll_sha256   bytea UNIQUE,
    address       text NOT NULL DEFAULT '',
    asked_at      timestamptz NOT NULL DEFAULT now(),
    approved_by   bigint REFERENCES admin.operator (id),
    approved_at   timestamptz,
    ended_by      bigint REFERENCES admin.operator (id),
    ended_at      timestamptz,
    ended_why     text NOT NULL DEFAULT '',
    CONSTRAINT second_person CHECK (approved_by IS NULL OR approved_by <> issued_by),
    CONSTRAINT enrolled_by_two CHECK (
        origin <> 'enrolment' OR (code_id IS NOT NULL AND issued_by IS NOT NULL
            AND (state IN ('pending', 'refused') OR approved_by IS NOT NULL))),
    CONSTRAINT issued CHECK (
        state IN ('pending', 'refused')
        OR (certificate IS NOT NULL AND serial IS NOT NULL AND not_before IS NOT NULL AND not_after IS NOT NULL))
);
CREATE UNIQUE INDEX kiosk_certificate_active ON admin.kiosk_certificate (kiosk_id) WHERE state = 'active';
CREATE UNIQUE INDEX kiosk_certificate_pending ON admin.kiosk_certificate (kiosk_id) WHERE state = 'pending';
CREATE UNIQUE INDEX kiosk_certificate_key ON admin.kiosk_certificate (spki_sha256) WHERE state = 'active';
CREATE INDEX kiosk_certificate_spki ON admin.kiosk_certificate (spki_sha256, id);
COMMENT ON COLUMN admin.kiosk_certificate.spki_sha256 IS
    'of the public key, DER: who a kiosk is. A renewal keeps the key, so an answer that was lost locks nobody out';
COMMENT ON COLUMN admin.kiosk_certificate.issued_by IS 'who issued the code; somebody else approves';
COMMENT ON COLUMN admin.kiosk_certificate.poll_sha256 IS 'with this token the kiosk asks whether it was approved';
COMMENT ON COLUMN admin.kiosk_certificate.origin IS 'test: made by the command for simulated kiosks, never in production';

-- ---------------------------------------------------------------------------------------------------- boots
CREATE TABLE admin.kiosk_boot (
    kiosk_id     bigint NOT NULL REFERENCES admin.kiosk (id),
    boot_id      text NOT NULL CHECK (boot_id ~ '^[0-9A-Za-z_-]{8,64}$'),
    ordinal      bigint,
    first_at     timestamptz NOT NULL DEFAULT now(),
    last_at      timestamptz NOT NULL DEFAULT now(),
    last_seq     bigint NOT NULL DEFAULT 0,
    address      text NOT NULL DEFAULT '',
    returned     integer NOT NULL DEFAULT 0,
    events_ack   bigint NOT NULL DEFAULT 0,
    sessions_ack bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (kiosk_id, boot_id),
    UNIQUE (kiosk_id, ordinal)
) WITH (fillfactor = 60);
COMMENT ON TABLE admin.kiosk_boot IS 'Each start of a kiosk''s agent, in the order in which they first spoke: no clock orders them.';
COMMENT ON COLUMN admin.kiosk_boot.ordinal IS 'NULL: no beat yet, only events that were kept from it';
COMMENT ON COLUMN admin.kiosk_boot.returned IS 'how often it spoke on although a later boot had spoken: two machines with one key';
COMMENT ON COLUMN admin.kiosk_boot.events_ack IS 'every event up to this one is here, or the kiosk said that it is lost';

-- ---------------------------------------------------------------------------------------------------- what they say
CREATE TABLE admin.kiosk_event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk_id    bigint NOT NULL REFERENCES admin.kiosk (id),
    boot_id     text,
    seq         bigint,
    at          timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    type        text NOT NULL CHECK (type ~ '^[a-z][a-z0-9_.]{1,47}$'),
    unit        text NOT NULL DEFAULT '',
    severity    text NOT NULL CHECK (severity IN ('info', 'warning', 'fault', 'security')),
    detail      jsonb NOT NULL DEFAULT '{}',
    CHECK ((boot_id IS NULL) = (seq IS NULL)),
    UNIQUE (kiosk_id, boot_id, seq)
);
CREATE INDEX kiosk_event_at ON admin.kiosk_event (kiosk_id, received_at);
CREATE INDEX kiosk_event_security ON admin.kiosk_event (received_at) WHERE severity = 'security';
COMMENT ON TABLE admin.kiosk_event IS
    'What happened at a kiosk, told by it (boot_id, seq) or noticed by us (NULL: clone_suspected, counters_reset, …).';
COMMENT ON COLUMN admin.kiosk_event.at IS 'by the kiosk''s clock, which may be wrong: order by boot and seq, or by received_at';

CREATE TABLE admin.kiosk_session (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk_id    bigint NOT NULL REFERENCES admin.kiosk (id),
    boot_id     text NOT NULL,
    seq         bigint NOT NULL,
    started_at  timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    seconds     integer NOT NULL CHECK (seconds BETWEEN 0 AND 86400),
    business    text NOT NULL DEFAULT '',
    outcome     text NOT NULL CHECK (outcome IN ('done', 'abandoned', 'timeout', 'failed')),
    last_step   text NOT NULL DEFAULT '',
    steps       jsonb NOT NULL DEFAULT '[]',
    UNIQUE (kiosk_id, boot_id, seq)
);
CREATE INDEX kiosk_session_at ON admin.kiosk_session (kiosk_id, started_at);
COMMENT ON TABLE admin.kiosk_session IS 'One customer at the screen: which business, how far, how long. Never who.';
COMMENT ON COLUMN admin.kiosk_session.steps IS '[{"step": "bill", "s": 12}, …]';

CREATE TABLE admin.telemetry_hour (
    kiosk_id     bigint NOT NULL REFERENCES admin.kiosk (id),
    hour         timestamptz NOT NULL,
    beats        integer NOT NULL DEFAULT 0,
    cpu_sum      bigint NOT NULL DEFAULT 0,
    mem_sum      bigint NOT NULL DEFAULT 0,
    rtt_sum_ms   bigint NOT NULL DEFAULT 0,
    rtt_max_ms   integer NOT NULL DEFAULT 0,
    disk_min_mb  bigint,
    temp_max     integer,
    in_service   integer NOT NULL DEFAULT 0,
    sessions     integer NOT NULL DEFAULT 0,
    txn_ok       integer NOT NULL DEFAULT 0,
    txn_bad      integer NOT NULL DEFAULT 0,
    slips        integer NOT NULL DEFAULT 0,
    jams         integer NOT NULL DEFAULT 0,
    restarts     integer NOT NULL DEFAULT 0,
    PRIMARY KEY (kiosk_id, hour)
) WITH (fillfactor = 60);
COMMENT ON TABLE admin.telemetry_hour IS 'Beats of a kiosk, summed by hour of our clock; averages are sum / beats.';
COMMENT ON COLUMN admin.telemetry_hour.in_service IS 'beats whose mode was in_service';
COMMENT ON COLUMN admin.telemetry_hour.sessions IS
    'growth of the kiosk''s counter, booked when it was heard: what happened while it was cut off counts in the hour it returned';

-- ---------------------------------------------------------------------------------------------------- what they are told
CREATE TABLE admin.kiosk_command (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk_id     bigint NOT NULL REFERENCES admin.kiosk (id),
    type         text NOT NULL CHECK (type IN ('diag.run', 'time.sync', 'log.pull', 'ej.pull', 'content.refresh',
        'config.refresh', 'screenshot', 'app.restart', 'os.reboot', 'service.stop', 'service.start', 'key.signon',
        'factory.wipe')),
    args         jsonb NOT NULL DEFAULT '{}',
    risk         text NOT NULL CHECK (risk IN ('low', 'mid', 'high', 'critical')),
    reason       text NOT NULL DEFAULT '',
    created_by   bigint NOT NULL REFERENCES admin.operator (id),
    approval_id  bigint REFERENCES admin.approval (id),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    alg          text NOT NULL DEFAULT 'ed25519' CHECK (alg IN ('ed25519')),
    signature    bytea,
    state        text NOT NULL DEFAULT 'queued'
        CHECK (state IN (
            'queued',     -- signed, waits for the kiosk's next beat
            'delivered',  -- queued -> delivered: in an answer to a beat; told again until the kiosk reports
            'running',    -- delivered -> running: the kiosk took it
            'done', 'failed', 'refused',  -- as the kiosk reports; refused: it would not (busy, signature, unknown)
            'expired',    -- queued, delivered -> expired
            'cancelled'   -- queued -> cancelled
        )),
    delivered_at timestamptz,
    finished_at  timestamptz,
    result       jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT a_day_at_most CHECK (expires_at > created_at AND expires_at <= created_at + interval '24 hours'),
    CONSTRAINT signed CHECK (length(signature) = 64 OR (signature IS NULL AND state IN ('queued', 'cancelled'))),
    CONSTRAINT reasoned CHECK (risk = 'low' OR length(reason) >= 2),
    CONSTRAINT wiped_by_two CHECK (type NOT IN ('factory.wipe', 'key.signon') OR approval_id IS NOT NULL)
);
CREATE INDEX kiosk_command_open ON admin.kiosk_command (kiosk_id) WHERE state IN ('queued', 'delivered', 'running');
CREATE INDEX kiosk_command_old ON admin.kiosk_command (expires_at) WHERE state IN ('queued', 'delivered');
CREATE INDEX kiosk_command_at ON admin.kiosk_command (kiosk_id, created_at);
COMMENT ON COLUMN admin.kiosk_command.signature IS
    'Ed25519 over the canonical {args, expires, id, kiosk, type}; NULL only inside of the transaction that makes it, which needs the id';

CREATE TABLE admin.kiosk_upload (
    id          text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{32}$'),
    kiosk_id    bigint NOT NULL REFERENCES admin.kiosk (id),
    command_id  bigint NOT NULL REFERENCES admin.kiosk_command (id),
    kind        text NOT NULL CHECK (kind IN ('log', 'ej', 'screenshot', 'diag')),
    name        text NOT NULL DEFAULT '',
    size        bigint NOT NULL CHECK (size > 0),
    sha256      bytea NOT NULL CHECK (length(sha256) = 32),
    received    bigint NOT NULL DEFAULT 0 CHECK (received BETWEEN 0 AND size),
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'bad')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    UNIQUE (command_id, sha256)
);
CREATE INDEX kiosk_upload_kiosk ON admin.kiosk_upload (kiosk_id, created_at);
COMMENT ON TABLE admin.kiosk_upload IS 'Files that kiosks were asked for; they lie in a folder outside of what the web serves, named by id.';
COMMENT ON COLUMN admin.kiosk_upload.state IS 'bad: all bytes came, and their digest is another than was announced';

GRANT SELECT, INSERT, UPDATE ON admin.enrolment_code, admin.kiosk_certificate, admin.kiosk_boot, admin.telemetry_hour,
    admin.kiosk_command, admin.kiosk_upload TO gridswitch_admin;
GRANT SELECT, INSERT ON admin.kiosk_event, admin.kiosk_session TO gridswitch_admin;
