-- What the device API reads and writes. $1 is the kiosk unless said otherwise.

-- who --
-- Whose key this is. $1 digest of the public key. A key that was renewed has several rows: the active one counts, else
-- the latest.
SELECT c.state AS certificate, c.kiosk_id, k.code, k.state, o.path
  FROM kiosk_certificate c JOIN kiosk k ON k.id = c.kiosk_id JOIN org o ON o.id = k.org_id
 WHERE c.spki_sha256 = $1 AND c.state IN ('active', 'superseded', 'revoked')
 ORDER BY c.state = 'active' DESC, c.id DESC
 LIMIT 1;

-- status_make --
INSERT INTO kiosk_status (kiosk_id) VALUES ($1) ON CONFLICT DO NOTHING;

-- beat_read --
-- The kiosk's row of status, locked: beats of one kiosk come one after the other. $2 the beat's boot.
SELECT s.counters,
       coalesce(latest.ordinal, 0) AS latest, coalesce(latest.address, '') AS latest_address,
       own.ordinal, coalesce(own.last_seq, 0) AS last_seq, coalesce(own.address, '') AS address,
       coalesce(own.returned, 0) AS returned, coalesce(own.events_ack, 0) AS events_ack,
       coalesce(own.sessions_ack, 0) AS sessions_ack,
       EXISTS (SELECT FROM kiosk_command c
                WHERE c.kiosk_id = $1 AND c.state IN ('queued', 'delivered', 'running')) AS commands
  FROM kiosk_status s
  LEFT JOIN LATERAL (
      SELECT b.ordinal, b.address FROM kiosk_boot b
       WHERE b.kiosk_id = $1 AND b.ordinal IS NOT NULL ORDER BY b.ordinal DESC LIMIT 1
  ) latest ON true
  LEFT JOIN kiosk_boot own ON own.kiosk_id = $1 AND own.boot_id = $2
 WHERE s.kiosk_id = $1
   FOR UPDATE OF s;

-- beat_write --
-- A beat that is news: boot, status and the hour's sums. $2 boot, $3 ordinal, $4 seq, $5 address, $6 app, $7 agent,
-- $8 mode, $9 busy, $10 switch, $11 units, $12 counters, $13 resources, $14 skew, $15 in service (0 or 1), $16..$21 growth
-- of the counters, $22..$26 cpu, mem, rtt, disk, temperature, each or NULL.
WITH boot AS (
    INSERT INTO kiosk_boot AS b (kiosk_id, boot_id, ordinal, last_seq, address) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (kiosk_id, boot_id) DO UPDATE
       SET ordinal = EXCLUDED.ordinal, last_seq = EXCLUDED.last_seq, address = EXCLUDED.address, last_at = now()
), hour AS (
    INSERT INTO telemetry_hour AS t (kiosk_id, hour, beats, in_service, sessions, txn_ok, txn_bad, slips, jams, restarts,
           cpu_sum, mem_sum, rtt_sum_ms, rtt_max_ms, disk_min_mb, temp_max)
    VALUES ($1, date_trunc('hour', now()), 1, $15, $16, $17, $18, $19, $20, $21,
           coalesce($22, 0), coalesce($23, 0), coalesce($24::integer, 0), coalesce($24::integer, 0), $25, $26)
    ON CONFLICT (kiosk_id, hour) DO UPDATE
       SET beats = t.beats + 1, in_service = t.in_service + EXCLUDED.in_service,
           sessions = t.sessions + EXCLUDED.sessions, txn_ok = t.txn_ok + EXCLUDED.txn_ok,
           txn_bad = t.txn_bad + EXCLUDED.txn_bad, slips = t.slips + EXCLUDED.slips, jams = t.jams + EXCLUDED.jams,
           restarts = t.restarts + EXCLUDED.restarts, cpu_sum = t.cpu_sum + EXCLUDED.cpu_sum,
           mem_sum = t.mem_sum + EXCLUDED.mem_sum, rtt_sum_ms = t.rtt_sum_ms + EXCLUDED.rtt_sum_ms,
           rtt_max_ms = greatest(t.rtt_max_ms, EXCLUDED.rtt_max_ms),
           disk_min_mb = least(t.disk_min_mb, EXCLUDED.disk_min_mb), temp_max = greatest(t.temp_max, EXCLUDED.temp_max)
)
UPDATE kiosk_status
   SET beat_at = now(), boot_id = $2, seq = $4, address = $5, app = $6, agent = $7, mode = $8, busy = $9,
       switch_said = $10, units = $11, counters = counters || $12, resources = $13, skew_ms = $14,
       session_at = CASE WHEN $16 > 0 THEN now() ELSE session_at END
 WHERE kiosk_id = $1;

-- boot_returned --
-- $2 boot, $3 seq.
UPDATE kiosk_boot SET returned = returned + 1, last_seq = $3, last_at = now() WHERE kiosk_id = $1 AND boot_id = $2;

-- event_ours --
-- What we noticed ourselves. $2 type, $3 severity, $4 detail.
INSERT INTO kiosk_event (kiosk_id, at, type, severity, detail) VALUES ($1, now(), $2, $3, $4);

-- event_clone --
-- A suspicion, unless the same one was told lately. $2 detail with "how", $3 seconds.
INSERT INTO kiosk_event (kiosk_id, at, type, severity, detail)
SELECT $1, now(), 'clone_suspected', 'security', $2::jsonb
 WHERE NOT EXISTS (
     SELECT FROM kiosk_event
      WHERE kiosk_id = $1 AND severity = 'security' AND type = 'clone_suspected'
        AND received_at > now() - make_interval(secs => $3) AND detail ->> 'how' = $2::jsonb ->> 'how');

-- boot_hear --
-- The row of a boot whose events come before its first beat. $2 boot.
INSERT INTO kiosk_boot (kiosk_id, boot_id) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- events_lock --
-- $2 boot. Batches of one kiosk come one after the other.
SELECT events_ack AS ack FROM kiosk_boot WHERE kiosk_id = $1 AND boot_id = $2 FOR UPDATE;

-- events_add --
-- $2 boot, $3 [{seq, ts, type, unit, severity, detail}]: what is there already stays as it is.
INSERT INTO kiosk_event (kiosk_id, boot_id, seq, at, type, unit, severity, detail)
SELECT $1, $2, e.seq, e.ts, e.type, e.unit, e.severity, e.detail
  FROM jsonb_to_recordset($3) AS e (seq bigint, ts timestamptz, type text, unit text, severity text, detail jsonb)
    ON CONFLICT (kiosk_id, boot_id, seq) DO NOTHING;

-- events_lost --
-- How many numbers of $3 to $4 never came. $2 boot.
SELECT $4::bigint - $3::bigint + 1 - count(*) FROM kiosk_event
 WHERE kiosk_id = $1 AND boot_id = $2 AND seq BETWEEN $3 AND $4;

-- events_ack --
-- Up to where all are here from $3 on; keeps it. $2 boot, $3 known to be whole.
UPDATE kiosk_boot SET events_ack = (
    SELECT coalesce(max(n.seq), $3::bigint) FROM (
        SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM kiosk_event
         WHERE kiosk_id = $1 AND boot_id = $2 AND seq > $3::bigint
    ) n WHERE n.seq = $3::bigint + n.place)
 WHERE kiosk_id = $1 AND boot_id = $2
RETURNING events_ack;

-- sessions_lock --
SELECT sessions_ack AS ack FROM kiosk_boot WHERE kiosk_id = $1 AND boot_id = $2 FOR UPDATE;

-- sessions_add --
-- $2 boot, $3 [{seq, ts, seconds, business, outcome, last_step, steps}].
INSERT INTO kiosk_session (kiosk_id, boot_id, seq, started_at, seconds, business, outcome, last_step, steps)
SELECT $1, $2, s.seq, s.ts, s.seconds, s.business, s.outcome, s.last_step, s.steps
  FROM jsonb_to_recordset($3)
    AS s (seq bigint, ts timestamptz, seconds integer, business text, outcome text, last_step text, steps jsonb)
    ON CONFLICT (kiosk_id, boot_id, seq) DO NOTHING;

-- sessions_lost --
SELECT $4::bigint - $3::bigint + 1 - count(*) FROM kiosk_session
 WHERE kiosk_id = $1 AND boot_id = $2 AND seq BETWEEN $3 AND $4;

-- sessions_ack --
UPDATE kiosk_boot SET sessions_ack = (
    SELECT coalesce(max(n.seq), $3::bigint) FROM (
        SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM kiosk_session
         WHERE kiosk_id = $1 AND boot_id = $2 AND seq > $3::bigint
    ) n WHERE n.seq = $3::bigint + n.place)
 WHERE kiosk_id = $1 AND boot_id = $2
RETURNING sessions_ack;

-- commands_expire --
UPDATE kiosk_command SET state = 'expired', finished_at = now()
 WHERE kiosk_id = $1 AND state IN ('queued', 'delivered') AND expires_at <= now();

-- commands_offer --
-- What a kiosk is told in an answer; told again until it reports. $2 at most, $3 types or NULL for all.
WITH due AS (
    SELECT id FROM kiosk_command
     WHERE kiosk_id = $1 AND state IN ('queued', 'delivered') AND expires_at > now() AND signature IS NOT NULL
       AND ($3::text[] IS NULL OR type = ANY ($3))
     ORDER BY id LIMIT $2
       FOR UPDATE
), told AS (
    UPDATE kiosk_command c SET state = 'delivered', delivered_at = coalesce(c.delivered_at, now())
      FROM due WHERE c.id = due.id
    RETURNING c.id, c.type, c.args, c.expires_at, c.alg, c.signature
)
SELECT * FROM told ORDER BY id;

-- command_lock --
-- $2 command.
SELECT type, state, result FROM kiosk_command WHERE kiosk_id = $1 AND id = $2 FOR UPDATE;

-- command_report --
-- $2 command, $3 state, $4 result.
UPDATE kiosk_command
   SET state = $3, result = $4, finished_at = CASE WHEN $3 = 'running' THEN NULL ELSE now() END,
       delivered_at = coalesce(delivered_at, now())
 WHERE kiosk_id = $1 AND id = $2;

-- upload_same --
-- $2 command, $3 digest.
SELECT id, size, received, state FROM kiosk_upload WHERE kiosk_id = $1 AND command_id = $2 AND sha256 = $3;

-- uploads_open --
SELECT count(*) FROM kiosk_upload WHERE kiosk_id = $1 AND state = 'open' AND created_at > now() - interval '1 day';

-- upload_add --
-- $1 id, $2 kiosk, $3 command, $4 kind, $5 name, $6 size, $7 digest.
INSERT INTO kiosk_upload (id, kiosk_id, command_id, kind, name, size, sha256) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- upload_read --
-- $2 id.
SELECT size, received, sha256, state FROM kiosk_upload WHERE kiosk_id = $1 AND id = $2;

-- upload_grow --
-- Only from where it stood: of two who send the same part, one has written it. $2 id, $3 from, $4 to.
UPDATE kiosk_upload SET received = $4 WHERE kiosk_id = $1 AND id = $2 AND received = $3 AND state = 'open'
RETURNING received;

-- upload_end --
-- $2 id, $3 state.
UPDATE kiosk_upload SET state = $3, finished_at = now() WHERE kiosk_id = $1 AND id = $2 AND state = 'open';

-- simulated_place --
-- Where simulated kiosks stand: made once. $1 code, $2 name.
INSERT INTO org (parent_id, kind, code, name, path)
SELECT id, 'site', $1, $2, path || $1 || '/' FROM org WHERE parent_id IS NULL
    ON CONFLICT (code) DO UPDATE SET name = EXCLUDED.name
RETURNING id;

-- simulated_model --
INSERT INTO kiosk_model (vendor, name, units) VALUES ('gridswitch', 'simulated', '{idc,pin,ptr,touch,ups,door}')
    ON CONFLICT (vendor, name) DO UPDATE SET name = EXCLUDED.name
RETURNING id;

-- simulated_kiosk --
-- $1 code, $2 serial number, $3 model, $4 site.
INSERT INTO kiosk (code, serial_number, model_id, org_id, state, line) VALUES ($1, $2, $3, $4, 'in_service', 'SIM')
    ON CONFLICT (code) DO UPDATE SET state = 'in_service'
RETURNING id;

-- simulated_certificate --
-- The one that works, anew. $1 kiosk, $2 digest of the key, $3 DER, $4 serial, $5 from, $6 to.
WITH old AS (
    UPDATE kiosk_certificate SET state = 'superseded', ended_at = now(), ended_why = 'simulated anew'
     WHERE kiosk_id = $1 AND state = 'active'
    RETURNING id
)
INSERT INTO kiosk_certificate (kiosk_id, state, origin, spki_sha256, request, certificate, serial, not_before, not_after)
SELECT $1, 'active', 'test', $2, '', $3, $4, $5, $6 WHERE (SELECT count(*) FROM old) >= 0;
