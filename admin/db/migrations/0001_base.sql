-- Organisations, operators, their grants and sessions, approvals, audit log. Runs in one transaction.
--
-- The owner of this schema migrates; the service itself works as role gridswitch_admin, which owns nothing: what is
-- append-only for it stays so whatever its code does.

CREATE SCHEMA IF NOT EXISTS admin;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gridswitch_admin') THEN
        CREATE ROLE gridswitch_admin NOLOGIN;
    END IF;
END $$;
GRANT USAGE ON SCHEMA admin TO gridswitch_admin;

-- ---------------------------------------------------------------------------------------------------- organisations
CREATE TABLE admin.org (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent_id  bigint REFERENCES admin.org (id),
    kind       text NOT NULL CHECK (kind IN ('network', 'province', 'city', 'county', 'site')),
    code       text NOT NULL UNIQUE CHECK (code ~ '^[a-z0-9_-]{1,24}$'),
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
    path       text NOT NULL UNIQUE CHECK (path ~ '^/([a-z0-9_-]+/)*$'),
    address    text NOT NULL DEFAULT '',
    opens_at   time NOT NULL DEFAULT '00:00',
    closes_at  time NOT NULL DEFAULT '24:00',
    closed     boolean NOT NULL DEFAULT false,
    version    integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((parent_id IS NULL) = (path = '/'))
);
CREATE INDEX org_path ON admin.org (path text_pattern_ops);
COMMENT ON TABLE admin.org IS 'The tree of organisations; a site (营业厅) is a leaf where kiosks stand. Nothing is deleted, it is closed.';
COMMENT ON COLUMN admin.org.path IS 'codes from the root, "/gd/gz/th07/": whoever may see "/gd/" sees every path that begins so';
COMMENT ON COLUMN admin.org.opens_at IS 'local time of day; what a kiosk does outside of it is no fault';
INSERT INTO admin.org (parent_id, kind, code, name, path) VALUES (NULL, 'network', 'root', '全网', '/');

-- ---------------------------------------------------------------------------------------------------- operators
CREATE TABLE admin.operator (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    login               text NOT NULL UNIQUE CHECK (login ~ '^[a-z][a-z0-9._-]{1,31}$'),
    name                text NOT NULL CHECK (length(name) BETWEEN 1 AND 40),
    employer            text NOT NULL CHECK (employer IN ('grid', 'vendor')),
    email               text NOT NULL DEFAULT '',
    phone               text NOT NULL DEFAULT '',
    org_id              bigint NOT NULL REFERENCES admin.org (id),
    state               text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    password_hash       text NOT NULL,
    password_changed_at timestamptz NOT NULL DEFAULT now(),
    one_time_until      timestamptz,
    totp_secret         bytea,
    totp_last_step      bigint NOT NULL DEFAULT 0,
    language            text NOT NULL DEFAULT 'zh' CHECK (language IN ('zh', 'en')),
    last_seen_at        timestamptz,
    version             integer NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    created_by          bigint REFERENCES admin.operator (id)
);
COMMENT ON TABLE admin.operator IS 'People who sign in. They are disabled, never deleted: the audit log names them.';
COMMENT ON COLUMN admin.operator.org_id IS 'where this person is kept: who may manage them; what they may see is their grants';
COMMENT ON COLUMN admin.operator.one_time_until IS 'set: the password was given by somebody else, works until then, and must be changed';
COMMENT ON COLUMN admin.operator.totp_secret IS 'encrypted by the service; NULL: the second factor is still to be set up';
COMMENT ON COLUMN admin.operator.totp_last_step IS 'the last time step that was used: each code works once';

CREATE TABLE admin.recovery_code (
    operator_id bigint NOT NULL REFERENCES admin.operator (id),
    code_sha256 bytea NOT NULL,
    used_at     timestamptz,
    PRIMARY KEY (operator_id, code_sha256)
);

CREATE TABLE admin.role_grant (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operator_id bigint NOT NULL REFERENCES admin.operator (id),
    role        text NOT NULL,
    org_id      bigint NOT NULL REFERENCES admin.org (id),
    valid_from  timestamptz NOT NULL DEFAULT now(),
    valid_to    timestamptz,
    granted_by  bigint REFERENCES admin.operator (id),
    approval_id bigint,
    revoked_at  timestamptz,
    revoked_by  bigint REFERENCES admin.operator (id),
    CHECK (valid_to IS NULL OR valid_to > valid_from),
    CHECK (granted_by IS NULL OR granted_by <> operator_id)
);
CREATE UNIQUE INDEX role_grant_open ON admin.role_grant (operator_id, role, org_id) WHERE revoked_at IS NULL;
COMMENT ON TABLE admin.role_grant IS 'A role (auth/permissions.py) over a subtree of organisations, from one instant to another.';
COMMENT ON COLUMN admin.role_grant.granted_by IS 'NULL: by the command line, before there was anybody';

CREATE TABLE admin.login_attempt (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    login     text NOT NULL,
    factor    text NOT NULL CHECK (factor IN ('password', 'totp')),
    ok        boolean NOT NULL,
    address   text NOT NULL,
    known_as  bytea
);
CREATE INDEX login_attempt_login ON admin.login_attempt (login, factor, at);
CREATE INDEX login_attempt_address ON admin.login_attempt (address, at);
COMMENT ON COLUMN admin.login_attempt.known_as IS
    'digest of the cookie of a browser from which this operator had signed in before: its failures are counted apart';

CREATE TABLE admin.operator_session (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_sha256 bytea NOT NULL UNIQUE,
    operator_id  bigint NOT NULL REFERENCES admin.operator (id),
    stage        text NOT NULL CHECK (stage IN ('password', 'enrol', 'change', 'full')),
    csrf         text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    step_up_at   timestamptz,
    address      text NOT NULL,
    browser      text NOT NULL DEFAULT '',
    ended_at     timestamptz,
    ended_why    text
);
CREATE INDEX operator_session_open ON admin.operator_session (operator_id) WHERE ended_at IS NULL;
COMMENT ON COLUMN admin.operator_session.stage IS
    'password: second factor due; enrol: it must be set up; change: a one-time password must go; full: signed in';

-- ---------------------------------------------------------------------------------------------------- four eyes
CREATE TABLE admin.approval (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action         text NOT NULL,
    object_kind    text NOT NULL,
    object_id      text NOT NULL,
    object_version integer NOT NULL,
    payload        jsonb NOT NULL,
    payload_sha256 bytea NOT NULL CHECK (length(payload_sha256) = 32),
    summary        text NOT NULL,
    reason         text NOT NULL CHECK (length(reason) BETWEEN 2 AND 500),
    org_id         bigint NOT NULL REFERENCES admin.org (id),
    maker_id       bigint NOT NULL REFERENCES admin.operator (id),
    made_at        timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    checker_id     bigint REFERENCES admin.operator (id),
    checked_at     timestamptz,
    answer         text NOT NULL DEFAULT '',
    state          text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'rejected', 'withdrawn', 'expired', 'void', 'consumed')),
    outcome        text NOT NULL DEFAULT '',
    CONSTRAINT four_eyes CHECK (checker_id IS NULL OR checker_id <> maker_id),
    CONSTRAINT checked_by_somebody CHECK (state NOT IN ('rejected', 'consumed', 'void') OR checker_id IS NOT NULL)
);
CREATE UNIQUE INDEX approval_pending ON admin.approval (action, object_kind, object_id) WHERE state = 'pending';
CREATE INDEX approval_made ON admin.approval (made_at);
ALTER TABLE admin.role_grant ADD FOREIGN KEY (approval_id) REFERENCES admin.approval (id);
COMMENT ON TABLE admin.approval IS
    'What one person asks for and another confirms. Approving and doing are one transaction: there is no state between.';
COMMENT ON COLUMN admin.approval.object_version IS 'of the object when it was asked; changed meanwhile: void';
COMMENT ON COLUMN admin.approval.payload_sha256 IS 'of the canonical payload: what the checker saw is what is done';

CREATE FUNCTION admin.keep_asked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'pending' THEN
        RAISE EXCEPTION 'approval %: it is % and stays so', OLD.id, OLD.state USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.action, NEW.object_kind, NEW.object_id, NEW.object_version, NEW.payload, NEW.payload_sha256, NEW.summary,
        NEW.reason, NEW.org_id, NEW.maker_id, NEW.made_at, NEW.expires_at)
       IS DISTINCT FROM
       (OLD.action, OLD.object_kind, OLD.object_id, OLD.object_version, OLD.payload, OLD.payload_sha256, OLD.summary,
        OLD.reason, OLD.org_id, OLD.maker_id, OLD.made_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'approval %: what was asked cannot be changed', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_asked BEFORE UPDATE ON admin.approval FOR EACH ROW EXECUTE FUNCTION admin.keep_asked();

-- ---------------------------------------------------------------------------------------------------- audit log
CREATE TABLE admin.audit_log (
    seq         bigint PRIMARY KEY CHECK (seq > 0),
    at          timestamptz NOT NULL,
    actor       text NOT NULL,
    address     text NOT NULL DEFAULT '',
    action      text NOT NULL,
    object_kind text NOT NULL DEFAULT '',
    object_id   text NOT NULL DEFAULT '',
    org_path    text NOT NULL DEFAULT '/',
    result      text NOT NULL CHECK (result IN ('ok', 'denied', 'error')),
    reason      text NOT NULL DEFAULT '',
    detail      jsonb NOT NULL DEFAULT '{}',
    record      text NOT NULL,
    chain       bytea NOT NULL UNIQUE CHECK (length(chain) = 32)
);
CREATE INDEX audit_log_at ON admin.audit_log (at);
CREATE INDEX audit_log_object ON admin.audit_log (object_kind, object_id, seq);
CREATE INDEX audit_log_actor ON admin.audit_log (actor, seq);
COMMENT ON TABLE admin.audit_log IS 'Who did what, in a chain of hashes (auth/audit.py): a changed, removed or reordered row shows.';
COMMENT ON COLUMN admin.audit_log.record IS 'the canonical JSON of the columns before it: what the hash covers';

CREATE TABLE admin.audit_anchor (
    day      date PRIMARY KEY,
    last_seq bigint NOT NULL,
    chain    bytea NOT NULL CHECK (length(chain) = 32),
    made_at  timestamptz NOT NULL DEFAULT now(),
    told_to  text NOT NULL
);
COMMENT ON TABLE admin.audit_anchor IS 'A day''s last link, told to a place outside of this database: a chain made anew does not fit it.';

CREATE FUNCTION admin.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: what happened stays written', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin.audit_anchor
    FOR EACH STATEMENT EXECUTE FUNCTION admin.refuse_change();

-- ---------------------------------------------------------------------------------------------------- loops
CREATE TABLE admin.loop (
    name       text PRIMARY KEY,
    holder     text NOT NULL DEFAULT '',
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    ran_at     timestamptz,
    took_ms    integer,
    error      text NOT NULL DEFAULT '',
    detail     jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE admin.loop IS 'What runs by itself, held by one process at a time: another takes over when it no longer renews.';

GRANT SELECT, INSERT, UPDATE ON admin.org, admin.operator, admin.recovery_code, admin.role_grant, admin.operator_session,
    admin.approval, admin.loop TO gridswitch_admin;
GRANT DELETE ON admin.recovery_code TO gridswitch_admin;
GRANT SELECT, INSERT, DELETE ON admin.login_attempt TO gridswitch_admin; -- old attempts are nobody's business
GRANT SELECT, INSERT ON admin.audit_log, admin.audit_anchor TO gridswitch_admin;
