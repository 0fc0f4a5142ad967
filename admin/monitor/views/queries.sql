-- Statements of the pages; $1 is always the paths that the operator may see.

-- scope_tops --
-- The organisations at which the operator's view begins.
SELECT org.id, org.name, org.path FROM org
 WHERE replace(org.path, '_', '\_') || '%' = ANY ($1::text[])
   AND NOT EXISTS (SELECT FROM unnest($1::text[]) AS wider
                    WHERE org.path LIKE wider AND wider <> replace(org.path, '_', '\_') || '%')
 ORDER BY org.path;

-- kiosk_counts --
-- Kiosks that should serve customers, by diagnosis.
SELECT coalesce(nullif(status.diagnosis, ''), 'unknown') AS code, count(*)::integer AS kiosks,
       count(*) FILTER (WHERE watch.payable)::integer AS payable
  FROM kiosk
  JOIN org ON org.id = kiosk.org_id
  LEFT JOIN kiosk_status AS status ON status.kiosk_id = kiosk.id
  LEFT JOIN kiosk_watch AS watch ON watch.kiosk_id = kiosk.id
 WHERE org.path LIKE ANY ($1::text[]) AND kiosk.state IN ('trial', 'in_service')
 GROUP BY 1;

-- needs --
-- Those that need somebody, what is at stake first. $2 their diagnoses, $3 how grave each is, $4 how many.
SELECT kiosk.id, kiosk.code, kiosk.place, org.name AS site, status.diagnosis, status.since, watch.risk_fen, watch.risk_sessions
  FROM kiosk
  JOIN org ON org.id = kiosk.org_id
  JOIN kiosk_status AS status ON status.kiosk_id = kiosk.id
  JOIN kiosk_watch AS watch ON watch.kiosk_id = kiosk.id
  JOIN unnest($2::text[], $3::integer[]) AS grave (code, severity) ON grave.code = status.diagnosis
 WHERE org.path LIKE ANY ($1::text[]) AND kiosk.state IN ('trial', 'in_service')
 ORDER BY watch.risk_fen DESC, grave.severity DESC, status.since, kiosk.id
 LIMIT $4;

-- quarters --
-- The day of organisations $1 from $2 on.
SELECT slot, sum(begun)::integer AS begun, sum(completed)::integer AS completed, sum(declined)::integer AS declined,
       sum(failed)::integer AS failed, sum(open)::integer AS open, sum(fen)::bigint AS fen
  FROM org_quarter WHERE org_id = ANY ($1::bigint[]) AND slot >= $2 GROUP BY slot ORDER BY slot;

-- usual --
SELECT days, mean, low, high, rate, rate_low, rate_high FROM usual_day WHERE org_id = ANY ($1::bigint[]) AND day = $2;

-- words --
-- What each worker of the switch said last.
SELECT place, told_at, told, asked_at, trouble FROM switch_word ORDER BY place;

-- notes --
SELECT name, at, told FROM watch_note;

-- loops --
SELECT name, holder, ran_at, took_ms, error, detail, extract(epoch FROM now() - ran_at)::bigint AS age_s FROM loop ORDER BY name;

-- year --
-- Days of a service that are in the books. $1 service, $2 from, $3 to before.
SELECT coalesce(sum(measured_ms), 0)::bigint AS measured_ms, coalesce(sum(down_ms), 0)::bigint AS down_ms,
       coalesce(sum(window_ms), 0)::bigint AS window_ms, coalesce(sum(down_in_window_ms), 0)::bigint AS down_in_window_ms,
       coalesce(sum(missed_ms), 0)::bigint AS missed_ms
  FROM availability_day WHERE service = $1 AND day >= $2 AND day < $3;

-- months --
SELECT service, date_trunc('month', day)::date AS month, sum(measured_ms)::bigint AS measured_ms, sum(down_ms)::bigint AS down_ms,
       sum(window_ms)::bigint AS window_ms, sum(down_in_window_ms)::bigint AS down_in_window_ms,
       sum(missed_ms)::bigint AS missed_ms
  FROM availability_day WHERE day >= $1 AND day < $2 GROUP BY 1, 2 ORDER BY 2 DESC, 1;

-- probes_failed --
-- Slots since $1 whose probe failed.
SELECT service, slot, detail FROM probe WHERE NOT good AND slot >= $1 ORDER BY service, slot;

-- kiosks_available --
-- Kiosks' own availability from $2 to before $3, the worst first. $4 how many.
SELECT kiosk.id, kiosk.code, org.name AS site, sum(worked.open_s)::bigint AS open_s, sum(worked.payable_s)::bigint AS payable_s
  FROM kiosk_day AS worked
  JOIN kiosk ON kiosk.id = worked.kiosk_id
  JOIN org ON org.id = kiosk.org_id
 WHERE org.path LIKE ANY ($1::text[]) AND worked.day >= $2 AND worked.day < $3
 GROUP BY kiosk.id, kiosk.code, org.name
 ORDER BY sum(worked.payable_s)::numeric / greatest(sum(worked.open_s), 1), kiosk.id
 LIMIT $4;

-- all_kiosks_available --
SELECT coalesce(sum(worked.open_s), 0)::bigint AS open_s, coalesce(sum(worked.payable_s), 0)::bigint AS payable_s
  FROM kiosk_day AS worked
  JOIN kiosk ON kiosk.id = worked.kiosk_id
  JOIN org ON org.id = kiosk.org_id
 WHERE org.path LIKE ANY ($1::text[]) AND worked.day >= $2 AND worked.day < $3;

-- windows --
SELECT service, starts_at, ends_at, reason FROM approved_window WHERE ends_at > $1 ORDER BY starts_at DESC LIMIT 50;

-- watched_list --
-- $1 paths, $2 text, $3 organisation, $4 model, $5 state, $6 diagnosis.
SELECT kiosk.id AS key, {sort} AS sort_value, kiosk.id, kiosk.code, kiosk.place, org.name AS site, model.name AS model, kiosk.state,
       coalesce(nullif(status.diagnosis, ''), 'unknown') AS diagnosis, coalesce(status.since, kiosk.state_since) AS since,
       coalesce(watch.risk_fen, 0) AS risk_fen, status.beat_at, status.switch_at, status.completed_at, kiosk.terminal_id
  FROM kiosk
  JOIN org ON org.id = kiosk.org_id
  JOIN kiosk_model AS model ON model.id = kiosk.model_id
  LEFT JOIN kiosk_status AS status ON status.kiosk_id = kiosk.id
  LEFT JOIN kiosk_watch AS watch ON watch.kiosk_id = kiosk.id
 WHERE org.path LIKE ANY ($1::text[])
   AND ($2::text IS NULL OR kiosk.code ILIKE '%' || $2 || '%' OR kiosk.place ILIKE '%' || $2 || '%' OR org.name ILIKE '%' || $2 || '%'
        OR kiosk.terminal_id = $2)
   AND ($3::text IS NULL OR starts_with(org.path, (SELECT path FROM org AS chosen WHERE chosen.id = $3::bigint)))
   AND ($4::text IS NULL OR kiosk.model_id = $4::bigint)
   AND ($5::text IS NULL OR kiosk.state = $5)
   AND ($6::text IS NULL OR coalesce(nullif(status.diagnosis, ''), 'unknown') = $6)
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- watched_facets --
-- What can be chosen: organisations above sites, models.
SELECT 'org' AS kind, org.id, org.name, org.path AS sort FROM org
 WHERE org.path LIKE ANY ($1::text[]) AND org.kind <> 'site'
UNION ALL
SELECT 'model', model.id, model.vendor || ' ' || model.name, model.vendor || model.name FROM kiosk_model AS model
 WHERE EXISTS (SELECT FROM kiosk JOIN org ON org.id = kiosk.org_id WHERE kiosk.model_id = model.id AND org.path LIKE ANY ($1::text[]))
 ORDER BY 1, 4;

-- watched_counts --
SELECT coalesce(nullif(status.diagnosis, ''), 'unknown') AS code, count(*)::integer AS kiosks
  FROM kiosk JOIN org ON org.id = kiosk.org_id LEFT JOIN kiosk_status AS status ON status.kiosk_id = kiosk.id
 WHERE org.path LIKE ANY ($1::text[]) GROUP BY 1;

-- used_today --
-- Sessions of kiosks $1 by hour since $2 (of those without an agent their payments), and what was paid there.
WITH told AS (
    SELECT kiosk_id, extract(hour FROM hour AT TIME ZONE 'Asia/Shanghai')::integer AS hour, sessions
      FROM telemetry_hour WHERE kiosk_id = ANY ($1::bigint[]) AND hour >= $2
), paid AS (
    SELECT kiosk_id, extract(hour FROM opened_at AT TIME ZONE 'Asia/Shanghai')::integer AS hour, count(*)::integer AS begun,
           count(*) FILTER (WHERE class = 'ok')::integer AS completed, coalesce(sum(amount) FILTER (WHERE class = 'ok'), 0)::bigint AS fen
      FROM payment_fact
     WHERE kiosk_id = ANY ($1::bigint[]) AND payment_id >= (extract(epoch FROM $2::timestamptz) * 1000)::bigint << 22
     GROUP BY 1, 2
)
SELECT kiosk_id, hour, coalesce(told.sessions, paid.begun, 0) AS sessions, coalesce(paid.begun, 0) AS begun,
       coalesce(paid.completed, 0) AS completed, coalesce(paid.fen, 0) AS fen
  FROM told FULL JOIN paid USING (kiosk_id, hour);

-- rhythms --
SELECT kiosk_id, rates, daily, alpha FROM rhythm WHERE kiosk_id = ANY ($1::bigint[]);

-- kind_today --
-- Which kind of day $1 is.
SELECT coalesce((SELECT counts_as FROM special_day WHERE day = $1), extract(isodow FROM $1::date)::integer - 1)::integer;

-- watched_kiosk --
-- $1 paths, $2 kiosk.
SELECT kiosk.*, org.name AS site, org.path AS org_path, org.opens_at::text AS opens, org.closes_at::text AS closes,
       (extract(epoch FROM org.opens_at) / 60)::int AS opens_min, (extract(epoch FROM org.closes_at) / 60)::int AS closes_min,
       model.vendor, model.name AS model, model.units AS model_units, status.beat_at, status.app, status.agent, status.mode,
       status.switch_said, status.units, status.counters, status.resources, status.skew_ms, status.session_at, status.switch_at,
       status.payment_at, status.completed_at, coalesce(nullif(status.diagnosis, ''), 'unknown') AS diagnosis, status.since,
       status.diagnosed_at, watch.signals, watch.failures, coalesce(watch.risk_fen, 0) AS risk_fen,
       coalesce(watch.risk_sessions, 0) AS risk_sessions
  FROM kiosk
  JOIN org ON org.id = kiosk.org_id
  JOIN kiosk_model AS model ON model.id = kiosk.model_id
  LEFT JOIN kiosk_status AS status ON status.kiosk_id = kiosk.id
  LEFT JOIN kiosk_watch AS watch ON watch.kiosk_id = kiosk.id
 WHERE org.path LIKE ANY ($1::text[]) AND kiosk.id = $2;

-- kiosk_changes --
-- What was diagnosed at $1 from $2 on, and what was so then, oldest first.
(SELECT at, code, signals FROM diagnosis WHERE kiosk_id = $1 AND at <= $2 ORDER BY at DESC LIMIT 1)
UNION ALL
(SELECT at, code, signals FROM diagnosis WHERE kiosk_id = $1 AND at > $2 ORDER BY at LIMIT 2000)
ORDER BY at;

-- kiosk_events --
SELECT at, received_at, type, unit, severity, detail FROM kiosk_event WHERE kiosk_id = $1 ORDER BY received_at DESC, id DESC LIMIT $2;

-- kiosk_sessions --
SELECT started_at, seconds, business, outcome, last_step FROM kiosk_session WHERE kiosk_id = $1 ORDER BY started_at DESC LIMIT $2;

-- kiosk_payments --
SELECT payment_id, opened_at, amount, state, class, total_ms FROM payment_fact WHERE kiosk_id = $1 ORDER BY payment_id DESC LIMIT $2;

-- database_size --
-- What this service's tables take, the largest first.
SELECT relname AS name, pg_total_relation_size(oid) AS bytes, greatest(reltuples, 0)::bigint AS rows
  FROM pg_class WHERE relnamespace = 'admin'::regnamespace AND relkind IN ('r', 'p') ORDER BY 2 DESC LIMIT 12;

-- database_whole --
SELECT pg_database_size(current_database()) AS bytes;

-- activity --
-- What this service asks of the server now, the longest first.
SELECT application_name AS who, state, extract(epoch FROM now() - query_start)::integer AS seconds, left(query, 120) AS statement,
       coalesce(wait_event_type, '') AS waits
  FROM pg_stat_activity
 WHERE application_name LIKE 'gridswitch admin%' AND state <> 'idle' AND pid <> pg_backend_pid()
 ORDER BY query_start LIMIT 10;

-- lag --
-- Seconds that the copy of the payments is behind.
SELECT extract(epoch FROM now() - CASE WHEN more THEN last_at ELSE read_at END)::bigint FROM feed_position WHERE read_at > '-infinity';

-- today --
-- Today's availability of service $1, as far as a loop has summed it up.
SELECT told FROM watch_note
 WHERE name = 'availability' AND told ? $1 AND (at AT TIME ZONE 'Asia/Shanghai')::date = (now() AT TIME ZONE 'Asia/Shanghai')::date;

-- probes_spans --
-- When each service was probed since slot $1, as spans without a gap of two slots.
SELECT service, array_agg(ARRAY[first, last + 1] ORDER BY first) AS spans
  FROM (SELECT service, run, min(slot) AS first, max(slot) AS last
          FROM (SELECT service, slot, sum(CASE WHEN slot - before <= 2 THEN 0 ELSE 1 END) OVER (PARTITION BY service ORDER BY slot) AS run
                  FROM (SELECT service, slot, lag(slot) OVER (PARTITION BY service ORDER BY slot) AS before
                          FROM probe WHERE slot >= $1) AS probed) AS runs
         GROUP BY service, run) AS spans
 GROUP BY service ORDER BY service DESC;

-- stale --
-- How many seconds old the diagnoses are, when that is more than $1; else 0. No row: there are none yet.
SELECT CASE WHEN now() - ran_at > make_interval(secs => $1) THEN extract(epoch FROM now() - ran_at)::bigint ELSE 0 END
  FROM loop WHERE name = 'diagnose' AND ran_at IS NOT NULL;
