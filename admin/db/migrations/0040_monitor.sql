-- Monitoring: what kiosks usually do, what was diagnosed, probes and availability, what the switch last said.
-- Runs in one transaction.

-- ---------------------------------------------------------------------------------------------------- rhythm
CREATE TABLE admin.special_day (
    day       date PRIMARY KEY,
    counts_as smallint NOT NULL CHECK (counts_as BETWEEN 0 AND 7),
    name      text NOT NULL CHECK (length(name) BETWEEN 1 AND 40)
);
COMMENT ON TABLE admin.special_day IS
    'Local days that are not what their weekday says: holidays (7), and days worked in exchange (0 Monday … 6 Sunday).';

CREATE TABLE admin.rhythm (
    kiosk_id  bigint PRIMARY KEY REFERENCES admin.kiosk (id),
    rates     real[] NOT NULL CHECK (array_length(rates, 1) = 192),
    daily     real NOT NULL,
    alpha     double precision NOT NULL CHECK (alpha > 0 AND alpha < 1),
    days      integer NOT NULL,
    sessions  bigint NOT NULL,
    fen       bigint NOT NULL,
    fitted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE admin.rhythm IS 'Sessions an hour of each kiosk by kind of day (0 Monday … 6 Sunday, 7 holiday) and hour; made anew each night.';
COMMENT ON COLUMN admin.rhythm.fen IS 'paid within the window that was counted, in so many sessions: what a session brings';

-- ---------------------------------------------------------------------------------------------------- diagnoses
CREATE TABLE admin.kiosk_watch (
    kiosk_id      bigint PRIMARY KEY REFERENCES admin.kiosk (id),
    signals       text[] NOT NULL DEFAULT '{}',
    payable       boolean NOT NULL DEFAULT false,
    payable_since timestamptz,
    failures      integer NOT NULL DEFAULT 0,
    risk_fen      bigint NOT NULL DEFAULT 0,
    risk_sessions integer NOT NULL DEFAULT 0
) WITH (fillfactor = 60);
COMMENT ON TABLE admin.kiosk_watch IS 'What monitoring knows of a kiosk beside its diagnosis (admin.kiosk_status), now.';
COMMENT ON COLUMN admin.kiosk_watch.signals IS 'agent, switch, sessions, payments, units as the liveness matrix saw them last';
COMMENT ON COLUMN admin.kiosk_watch.failures IS 'payments in a row that failed, and not through the customer or his bank';
COMMENT ON COLUMN admin.kiosk_watch.risk_fen IS 'estimate of what was not paid here since the trouble began';

CREATE TABLE admin.diagnosis (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk_id bigint NOT NULL REFERENCES admin.kiosk (id),
    at       timestamptz NOT NULL DEFAULT now(),
    code     text NOT NULL,
    payable  boolean,
    signals  text[] NOT NULL
);
CREATE INDEX diagnosis_kiosk ON admin.diagnosis (kiosk_id, at);
CREATE INDEX diagnosis_at ON admin.diagnosis (at);
COMMENT ON TABLE admin.diagnosis IS 'Each change of a kiosk''s diagnosis or signals: what was so from then on.';
COMMENT ON COLUMN admin.diagnosis.payable IS 'NULL: not in service, or nothing was known: nobody''s availability';

-- ---------------------------------------------------------------------------------------------------- the switch
CREATE TABLE admin.switch_word (
    place    text PRIMARY KEY,
    told_at  timestamptz,
    told     jsonb NOT NULL DEFAULT '{}',
    asked_at timestamptz NOT NULL DEFAULT now(),
    trouble  text NOT NULL DEFAULT ''
);
COMMENT ON TABLE admin.switch_word IS 'The last status of each worker of the switch, kept for when it does not answer: pages say how old it is.';

CREATE TABLE admin.watch_note (
    name text PRIMARY KEY,
    at   timestamptz NOT NULL DEFAULT now(),
    told jsonb NOT NULL
);
COMMENT ON TABLE admin.watch_note IS 'What loops found out for pages: times of the legs, today''s availability.';

-- ---------------------------------------------------------------------------------------------------- curves
CREATE TABLE admin.org_quarter (
    org_id    bigint NOT NULL REFERENCES admin.org (id),
    slot      timestamptz NOT NULL,
    begun     integer NOT NULL,
    completed integer NOT NULL,
    declined  integer NOT NULL,
    failed    integer NOT NULL,
    open      integer NOT NULL,
    fen       bigint NOT NULL,
    PRIMARY KEY (org_id, slot)
) WITH (fillfactor = 80);
CREATE INDEX org_quarter_slot ON admin.org_quarter (slot);
COMMENT ON TABLE admin.org_quarter IS
    'Payments by the quarter of an hour in which they began, summed into every organisation above their site: an overview reads ninety rows.';
COMMENT ON COLUMN admin.org_quarter.declined IS 'by the customer''s or his bank''s doing; failed: by anybody else''s';

CREATE TABLE admin.usual_day (
    org_id    bigint NOT NULL REFERENCES admin.org (id),
    day       date NOT NULL,
    days      integer NOT NULL,
    mean      integer[] NOT NULL,
    low       integer[] NOT NULL,
    high      integer[] NOT NULL,
    rate      integer,
    rate_low  integer,
    rate_high integer,
    PRIMARY KEY (org_id, day)
);
COMMENT ON TABLE admin.usual_day IS 'What a day should look like: mean and the middle four fifths of the last eight days of its kind.';
COMMENT ON COLUMN admin.usual_day.mean IS 'payments begun in each of the 96 quarters, in hundredths; low and high alike';
COMMENT ON COLUMN admin.usual_day.rate IS 'success of whole days, per mille; NULL: no day to compare with';

-- ---------------------------------------------------------------------------------------------------- availability
CREATE TABLE admin.probe (
    service text NOT NULL,
    slot    bigint NOT NULL,
    good    boolean NOT NULL,
    detail  text NOT NULL DEFAULT '',
    PRIMARY KEY (service, slot)
);
COMMENT ON COLUMN admin.probe.slot IS 'epoch seconds // 30';

CREATE TABLE admin.payment_minute (
    minute bigint PRIMARY KEY,
    good   integer NOT NULL,
    every  integer NOT NULL
);
COMMENT ON TABLE admin.payment_minute IS
    'Payments by the minute in which they ended, customers'' and banks'' refusals left out; minutes with few are not kept.';
COMMENT ON COLUMN admin.payment_minute.minute IS 'epoch seconds // 60';

CREATE TABLE admin.approved_window (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service     text NOT NULL DEFAULT '*',
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    reason      text NOT NULL CHECK (length(reason) BETWEEN 2 AND 200),
    approval_id bigint UNIQUE REFERENCES admin.approval (id),
    made_at     timestamptz NOT NULL DEFAULT now(),
    CHECK (ends_at > starts_at AND ends_at <= starts_at + interval '7 days'),
    CHECK (starts_at >= made_at)
);
COMMENT ON TABLE admin.approved_window IS 'Planned maintenance that the contract does not count; approved beforehand, by a second person.';

CREATE TABLE admin.availability_day (
    service           text NOT NULL,
    day               date NOT NULL,
    measured_ms       bigint NOT NULL,
    down_ms           bigint NOT NULL CHECK (down_ms <= measured_ms),
    window_ms         bigint NOT NULL,
    down_in_window_ms bigint NOT NULL,
    missed_ms         bigint NOT NULL,
    PRIMARY KEY (service, day)
);
COMMENT ON TABLE admin.availability_day IS 'A local day that is over: what its probes and payments showed. Not computed again.';

CREATE TABLE admin.kiosk_day (
    kiosk_id  bigint NOT NULL REFERENCES admin.kiosk (id),
    day       date NOT NULL,
    open_s    integer NOT NULL,
    payable_s integer NOT NULL CHECK (payable_s <= open_s),
    PRIMARY KEY (kiosk_id, day)
);

GRANT SELECT, INSERT, UPDATE ON admin.special_day, admin.rhythm, admin.kiosk_watch, admin.switch_word, admin.watch_note,
    admin.payment_minute TO gridswitch_admin;
GRANT SELECT, INSERT ON admin.diagnosis, admin.probe, admin.approved_window, admin.availability_day, admin.kiosk_day
    TO gridswitch_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON admin.org_quarter, admin.usual_day TO gridswitch_admin;
GRANT DELETE ON admin.special_day, admin.diagnosis, admin.probe, admin.payment_minute TO gridswitch_admin; -- what is older than its days is folded
