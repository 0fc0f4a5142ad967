-- fleet_read --
-- Facts about every kiosk, for the liveness matrix. Small rows: this runs every ten seconds over the whole fleet.
WITH place AS (
    SELECT site.id, coalesce(min(city.id), site.id) AS city,
           (extract(epoch FROM site.opens_at) / 60)::int AS opens, (extract(epoch FROM site.closes_at) / 60)::int AS closes
      FROM org AS site
      LEFT JOIN org AS city ON city.kind = 'city' AND starts_with(site.path, city.path)
     GROUP BY site.id
)
SELECT kiosk.id, kiosk.state, kiosk.state_since, kiosk.terminal_id, kiosk.line, kiosk.org_id, place.city, place.opens,
       place.closes, status.beat_at, status.units, greatest(status.session_at, status.payment_at) AS session_at,
       status.payment_at, status.switch_at, status.since, coalesce(status.diagnosis, '') AS diagnosis,
       watch.signals, coalesce(watch.payable, false) AS payable, watch.payable_since, coalesce(watch.failures, 0) AS failures,
       coalesce(watch.risk_fen, 0) AS risk_fen
  FROM kiosk
  JOIN place ON place.id = kiosk.org_id
  LEFT JOIN kiosk_status AS status ON status.kiosk_id = kiosk.id
  LEFT JOIN kiosk_watch AS watch ON watch.kiosk_id = kiosk.id;

-- diagnosis_status --
-- New diagnoses. $1 kiosks, $2 codes.
INSERT INTO kiosk_status (kiosk_id, diagnosis, diagnosed_at, since)
SELECT kiosk_id, code, now(), now() FROM unnest($1::bigint[], $2::text[]) AS new (kiosk_id, code)
    ON CONFLICT (kiosk_id) DO UPDATE SET diagnosis = excluded.diagnosis, diagnosed_at = now(), since = now();

-- diagnosis_watch --
-- $1 kiosks, $2 signals as text of an array, $3 payable, $4 fen at risk, $5 sessions at risk.
INSERT INTO kiosk_watch AS watch (kiosk_id, signals, payable, payable_since, risk_fen, risk_sessions)
SELECT kiosk_id, signals::text[], payable, CASE WHEN payable THEN now() END, fen, sessions
  FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::bigint[], $5::integer[]) AS new (kiosk_id, signals, payable, fen, sessions)
    ON CONFLICT (kiosk_id) DO UPDATE
   SET signals = excluded.signals, payable = excluded.payable, risk_fen = excluded.risk_fen,
       risk_sessions = excluded.risk_sessions,
       payable_since = CASE WHEN excluded.payable AND NOT watch.payable THEN now() ELSE watch.payable_since END;

-- diagnosis_log --
-- $1 kiosks, $2 codes, $3 payable, $4 signals as text of an array.
INSERT INTO diagnosis (kiosk_id, code, payable, signals)
SELECT kiosk_id, code, payable, signals::text[]
  FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::text[]) AS new (kiosk_id, code, payable, signals);

-- heard_write --
-- When the switch last heard of them. $1 kiosks, $2 instants.
INSERT INTO kiosk_status (kiosk_id, switch_at)
SELECT kiosk_id, at FROM unnest($1::bigint[], $2::timestamptz[]) AS new (kiosk_id, at)
    ON CONFLICT (kiosk_id) DO UPDATE SET switch_at = excluded.switch_at;

-- rhythm_read --
-- Those fitted since $1.
SELECT kiosk_id, rates, daily, alpha, sessions, fen, fitted_at FROM rhythm WHERE fitted_at > $1;

-- special_days --
-- $1 from.
SELECT day, counts_as FROM special_day WHERE day >= $1;

-- switch_told --
-- A worker of the switch has answered. $1 place, $2 its status.
INSERT INTO switch_word (place, told_at, told, asked_at, trouble) VALUES ($1, now(), $2, now(), '')
    ON CONFLICT (place) DO UPDATE SET told_at = now(), told = excluded.told, asked_at = now(), trouble = '';

-- switch_silent --
-- It has not. $1 place, $2 why. What it said last is kept.
INSERT INTO switch_word (place, asked_at, trouble) VALUES ($1, now(), $2)
    ON CONFLICT (place) DO UPDATE SET asked_at = now(), trouble = excluded.trouble;

-- probe_write --
-- $1 slot, $2 services, $3 good, $4 details. The first word about a slot stays.
INSERT INTO probe (service, slot, good, detail)
SELECT service, $1, good, detail FROM unnest($2::text[], $3::boolean[], $4::text[]) AS new (service, good, detail)
    ON CONFLICT DO NOTHING;

-- feed_lag --
-- Seconds that the copy of the payments is behind the switch.
SELECT extract(epoch FROM now() - CASE WHEN more THEN last_at ELSE read_at END)::bigint AS lag_s
  FROM feed_position WHERE read_at > '-infinity';

-- sessions_since --
-- Sessions of each kiosk since $1; of one without an agent its payments.
WITH told AS (
    SELECT kiosk_id, sum(sessions)::integer AS sessions FROM telemetry_hour WHERE hour >= $1 GROUP BY kiosk_id
), paid AS (
    SELECT kiosk_id, count(*)::integer AS sessions FROM payment_fact
     WHERE payment_id >= (extract(epoch FROM $1::timestamptz) * 1000)::bigint << 22 AND kiosk_id IS NOT NULL
     GROUP BY kiosk_id
)
SELECT kiosk_id, coalesce(told.sessions, paid.sessions) AS sessions FROM told FULL JOIN paid USING (kiosk_id);

-- payments_take --
-- What the payments begun since $1 say of their kiosks: only of those where one has ended since we looked. $2 how many of
-- the last ones count. A failure is one that is not the customer's or his bank's; a success ends a row of them.
WITH news AS (
    SELECT kiosk_id, max(changed_at) AS tried_at, max(changed_at) FILTER (WHERE class = 'ok') AS paid_at
      FROM payment_fact
     WHERE payment_id >= (extract(epoch FROM $1::timestamptz) * 1000)::bigint << 22 AND final AND kiosk_id IS NOT NULL
     GROUP BY kiosk_id
), fresh AS (
    SELECT news.* FROM news LEFT JOIN kiosk_status AS status ON status.kiosk_id = news.kiosk_id
     WHERE status.payment_at IS NULL OR news.tried_at > status.payment_at
), judged AS (
    SELECT fresh.kiosk_id, fresh.tried_at, fresh.paid_at, streak.failures
      FROM fresh
     CROSS JOIN LATERAL (
         SELECT count(*) FILTER (WHERE last.class NOT IN ('ok', 'customer', 'issuer') AND last.better = 0)::integer AS failures
           FROM (SELECT class, count(*) FILTER (WHERE class = 'ok') OVER (ORDER BY payment_id DESC) AS better
                   FROM payment_fact WHERE kiosk_id = fresh.kiosk_id AND final ORDER BY payment_id DESC LIMIT $2) AS last
     ) AS streak
), status AS (
    INSERT INTO kiosk_status AS known (kiosk_id, payment_at, completed_at) SELECT kiosk_id, tried_at, paid_at FROM judged
        ON CONFLICT (kiosk_id) DO UPDATE
       SET payment_at = excluded.payment_at, completed_at = greatest(known.completed_at, excluded.completed_at)
), watch AS (
    INSERT INTO kiosk_watch AS known (kiosk_id, failures) SELECT kiosk_id, failures FROM judged
        ON CONFLICT (kiosk_id) DO UPDATE SET failures = excluded.failures
     WHERE known.failures <> excluded.failures
)
SELECT count(*) FROM judged;

-- quarters_open --
-- Quarters of an hour before $1 whose payments have not all ended: they may still change.
SELECT DISTINCT slot FROM org_quarter WHERE slot < $1 AND slot >= $1::timestamptz - interval '3 days' AND open > 0 ORDER BY slot;

-- quarters_fold --
-- The payments begun from $1 to $2, by quarter of an hour, summed into every organisation above their site: computed whole
-- and written where they differ, so it may run as often as it likes.
WITH site AS (
    SELECT org_path, to_timestamp((payment_id >> 22) / 900000 * 900) AS slot, count(*)::integer AS begun,
           count(*) FILTER (WHERE class = 'ok')::integer AS completed,
           count(*) FILTER (WHERE final AND class IN ('customer', 'issuer'))::integer AS declined,
           count(*) FILTER (WHERE final AND coalesce(class, '') NOT IN ('ok', 'customer', 'issuer'))::integer AS failed,
           count(*) FILTER (WHERE NOT final)::integer AS open,
           coalesce(sum(amount) FILTER (WHERE class = 'ok'), 0)::bigint AS fen
      FROM payment_fact
     WHERE payment_id >= (extract(epoch FROM $1::timestamptz) * 1000)::bigint << 22
       AND payment_id < (extract(epoch FROM $2::timestamptz) * 1000)::bigint << 22
     GROUP BY org_path, slot
), above AS (
    SELECT DISTINCT site.org_path, array_to_string(parts[1:number], '/') || '/' AS path
      FROM (SELECT DISTINCT org_path, string_to_array(rtrim(org_path, '/'), '/') AS parts FROM site) AS site
     CROSS JOIN LATERAL generate_series(1, cardinality(parts)) AS number
), summed AS (
    SELECT org.id AS org_id, site.slot, sum(begun)::integer AS begun, sum(completed)::integer AS completed,
           sum(declined)::integer AS declined, sum(failed)::integer AS failed, sum(open)::integer AS open, sum(fen)::bigint AS fen
      FROM site JOIN above ON above.org_path = site.org_path JOIN org ON org.path = above.path
     GROUP BY org.id, site.slot
), gone AS (
    -- A terminal that was registered later takes its payments to another site.
    DELETE FROM org_quarter AS known
     WHERE slot >= $1 AND slot < $2
       AND NOT EXISTS (SELECT FROM summed WHERE summed.org_id = known.org_id AND summed.slot = known.slot)
)
INSERT INTO org_quarter AS known (org_id, slot, begun, completed, declined, failed, open, fen)
SELECT org_id, slot, begun, completed, declined, failed, open, fen FROM summed
    ON CONFLICT (org_id, slot) DO UPDATE
   SET (begun, completed, declined, failed, open, fen)
     = (excluded.begun, excluded.completed, excluded.declined, excluded.failed, excluded.open, excluded.fen)
 WHERE (known.begun, known.completed, known.declined, known.failed, known.open, known.fen)
    IS DISTINCT FROM (excluded.begun, excluded.completed, excluded.declined, excluded.failed, excluded.open, excluded.fen);

-- usual_fold --
-- What day $1 should look like in each organisation, from its last eight days of that kind. $2 where they begin.
WITH kind AS (
    SELECT coalesce((SELECT counts_as FROM special_day WHERE day = $1), extract(isodow FROM $1::date)::integer - 1) AS kind
), alike AS (
    SELECT each.day::date AS day
      FROM generate_series($1::date - 400, $1::date - 1, interval '1 day') AS each (day)
      LEFT JOIN special_day AS special ON special.day = each.day::date
     CROSS JOIN kind
     WHERE coalesce(special.counts_as, extract(isodow FROM each.day)::integer - 1) = kind.kind
     ORDER BY 1 DESC LIMIT 8
), first AS (
    SELECT org_id, (min(slot) AT TIME ZONE 'Asia/Shanghai')::date AS day FROM org_quarter GROUP BY org_id
), known AS (
    SELECT org_id, (slot AT TIME ZONE 'Asia/Shanghai')::date AS day,
           extract(hour FROM slot AT TIME ZONE 'Asia/Shanghai')::integer * 4
           + extract(minute FROM slot AT TIME ZONE 'Asia/Shanghai')::integer / 15 AS quarter, begun, completed, declined, open
      FROM org_quarter WHERE slot >= $2
), days AS (
    SELECT first.org_id, alike.day FROM first JOIN alike ON alike.day >= first.day
), cells AS (
    SELECT days.org_id, each.quarter, coalesce(known.begun, 0) AS begun
      FROM days CROSS JOIN generate_series(0, 95) AS each (quarter)
      LEFT JOIN known ON known.org_id = days.org_id AND known.day = days.day AND known.quarter = each.quarter
), curve AS (
    SELECT org_id, quarter, (round(avg(begun) * 100))::integer AS mean,
           (percentile_cont(0.1) WITHIN GROUP (ORDER BY begun) * 100)::integer AS low,
           (percentile_cont(0.9) WITHIN GROUP (ORDER BY begun) * 100)::integer AS high
      FROM cells GROUP BY org_id, quarter
), drawn AS (
    SELECT org_id, array_agg(mean ORDER BY quarter) AS mean, array_agg(low ORDER BY quarter) AS low,
           array_agg(high ORDER BY quarter) AS high
      FROM curve GROUP BY org_id
), rate AS (
    SELECT known.org_id, known.day, sum(completed) * 1000 / nullif(sum(begun - declined - open), 0) AS per_mille
      FROM known JOIN days ON days.org_id = known.org_id AND days.day = known.day GROUP BY known.org_id, known.day
), rates AS (
    SELECT org_id, avg(per_mille)::integer AS mean, min(per_mille)::integer AS low, max(per_mille)::integer AS high
      FROM rate GROUP BY org_id
)
INSERT INTO usual_day (org_id, day, days, mean, low, high, rate, rate_low, rate_high)
SELECT drawn.org_id, $1, (SELECT count(*) FROM days WHERE days.org_id = drawn.org_id), drawn.mean, drawn.low, drawn.high,
       rates.mean, rates.low, rates.high
  FROM drawn LEFT JOIN rates ON rates.org_id = drawn.org_id
    ON CONFLICT (org_id, day) DO UPDATE
   SET (days, mean, low, high, rate, rate_low, rate_high)
     = (excluded.days, excluded.mean, excluded.low, excluded.high, excluded.rate, excluded.rate_low, excluded.rate_high);

-- usual_forget --
DELETE FROM usual_day WHERE day < $1;

-- quarters_forget --
DELETE FROM org_quarter WHERE slot < $1;

-- fit_kiosks --
-- Kiosks that have been in service at some time, with their city.
SELECT kiosk.id, coalesce(min(city.id), kiosk.org_id) AS city
  FROM kiosk JOIN org AS site ON site.id = kiosk.org_id
  LEFT JOIN org AS city ON city.kind = 'city' AND starts_with(site.path, city.path)
 WHERE kiosk.state IN ('trial', 'in_service', 'out_of_service', 'maintenance')
 GROUP BY kiosk.id ORDER BY kiosk.id;

-- fit_counts --
-- Sessions of kiosks $1 on local days from $2 to before $3, by kind of day and hour; of those without an agent their
-- payments. Days on which a kiosk was out more than a tenth of its hours say nothing of its customers.
WITH counted AS (
    SELECT kiosk_id, (hour AT TIME ZONE 'Asia/Shanghai') AS at, sessions FROM telemetry_hour
     WHERE kiosk_id = ANY ($1::bigint[])
       AND hour >= $2::date::timestamp AT TIME ZONE 'Asia/Shanghai' AND hour < $3::date::timestamp AT TIME ZONE 'Asia/Shanghai'
    UNION ALL
    SELECT kiosk_id, opened_at AT TIME ZONE 'Asia/Shanghai', 1 FROM payment_fact
     WHERE kiosk_id = ANY ($1::bigint[]) AND local_on >= $2 AND local_on < $3
       AND payment_id >= (extract(epoch FROM $2::date::timestamp AT TIME ZONE 'Asia/Shanghai') * 1000)::bigint << 22
       AND NOT EXISTS (SELECT FROM telemetry_hour AS told WHERE told.kiosk_id = payment_fact.kiosk_id)
)
SELECT counted.kiosk_id, coalesce(special.counts_as, extract(isodow FROM counted.at)::integer - 1)::integer AS kind,
       extract(hour FROM counted.at)::integer AS hour, sum(counted.sessions)::integer AS sessions
  FROM counted
  LEFT JOIN special_day AS special ON special.day = counted.at::date
  LEFT JOIN kiosk_day AS worked ON worked.kiosk_id = counted.kiosk_id AND worked.day = counted.at::date
 WHERE worked.day IS NULL OR worked.payable_s * 10 >= worked.open_s * 9
 GROUP BY 1, 2, 3;

-- fit_days --
-- How many days of each kind were counted of each: from its first one on, those of outages left out.
WITH first AS (
    SELECT kiosk_id, (min(hour) AT TIME ZONE 'Asia/Shanghai')::date AS day FROM telemetry_hour
     WHERE kiosk_id = ANY ($1::bigint[]) GROUP BY kiosk_id
    UNION ALL
    SELECT kiosk_id, min(local_on) FROM payment_fact
     WHERE kiosk_id = ANY ($1::bigint[]) AND NOT EXISTS (SELECT FROM telemetry_hour AS told WHERE told.kiosk_id = payment_fact.kiosk_id)
     GROUP BY kiosk_id
)
SELECT first.kiosk_id, coalesce(special.counts_as, extract(isodow FROM each.day)::integer - 1)::integer AS kind,
       count(*)::integer AS days
  FROM first
 CROSS JOIN LATERAL generate_series(greatest(first.day, $2::date), $3::date - 1, interval '1 day') AS each (day)
  LEFT JOIN special_day AS special ON special.day = each.day::date
  LEFT JOIN kiosk_day AS worked ON worked.kiosk_id = first.kiosk_id AND worked.day = each.day::date
 WHERE worked.day IS NULL OR worked.payable_s * 10 >= worked.open_s * 9
 GROUP BY 1, 2;

-- fit_worth --
-- What was paid at kiosks $1 from local day $2 to before $3.
SELECT kiosk_id, sum(amount)::bigint AS fen FROM payment_fact
 WHERE kiosk_id = ANY ($1::bigint[]) AND class = 'ok' AND local_on >= $2 AND local_on < $3
   AND payment_id >= (extract(epoch FROM $2::date::timestamp AT TIME ZONE 'Asia/Shanghai') * 1000)::bigint << 22
 GROUP BY kiosk_id;

-- fit_write --
-- $1 kiosk, $2 rates, $3 daily, $4 alpha, $5 days, $6 sessions, $7 fen.
INSERT INTO rhythm (kiosk_id, rates, daily, alpha, days, sessions, fen) VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (kiosk_id) DO UPDATE
   SET rates = excluded.rates, daily = excluded.daily, alpha = excluded.alpha, days = excluded.days,
       sessions = excluded.sessions, fen = excluded.fen, fitted_at = now();

-- probes_read --
-- $1 slots from, $2 to before.
SELECT service, slot, good FROM probe WHERE slot >= $1 AND slot < $2;

-- minutes_fold --
-- Payments begun since $1 that ended well or through a fault of ours or a peer's, by minute of their end; $2 how few are
-- too few.
INSERT INTO payment_minute (minute, good, every)
SELECT extract(epoch FROM date_trunc('minute', changed_at))::bigint / 60 AS minute, count(*) FILTER (WHERE class = 'ok')::integer AS good,
       count(*)::integer AS every
  FROM payment_fact
 WHERE payment_id >= (extract(epoch FROM $1::timestamptz) * 1000)::bigint << 22
   AND final AND coalesce(class, '') NOT IN ('customer', 'issuer')
 GROUP BY 1 HAVING count(*) >= $2
    ON CONFLICT (minute) DO UPDATE SET good = excluded.good, every = excluded.every
 WHERE excluded.every > payment_minute.every;

-- minutes_read --
-- $1 minutes from, $2 to before.
SELECT minute, good, every FROM payment_minute WHERE minute >= $1 AND minute < $2;

-- minutes_forget --
DELETE FROM payment_minute WHERE minute < $1;

-- note_write --
-- $1 name, $2 what.
INSERT INTO watch_note (name, told) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET at = now(), told = excluded.told;

-- note_read --
SELECT at, told FROM watch_note WHERE name = $1;

-- windows_read --
-- Approved windows that touch the time from $1 to $2.
SELECT service, starts_at, ends_at FROM approved_window WHERE ends_at > $1 AND starts_at < $2;

-- day_folded --
-- The last local day that is in the books.
SELECT max(day) FROM availability_day;

-- first_probe --
SELECT min(slot) FROM probe;

-- day_write --
INSERT INTO availability_day (service, day, measured_ms, down_ms, window_ms, down_in_window_ms, missed_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING;

-- probes_forget --
DELETE FROM probe WHERE slot < $1;

-- diagnoses_read --
-- Changes of each kiosk from $1 to $2, and what was so at $1.
SELECT kiosk.id AS kiosk_id, change.at, change.payable
  FROM kiosk
 CROSS JOIN LATERAL (
     (SELECT at, payable FROM diagnosis WHERE kiosk_id = kiosk.id AND at <= $1 ORDER BY at DESC LIMIT 1)
     UNION ALL
     (SELECT at, payable FROM diagnosis WHERE kiosk_id = kiosk.id AND at > $1 AND at < $2 ORDER BY at)
 ) AS change
 ORDER BY kiosk.id, change.at;

-- kiosk_hours --
-- Opening hours of each kiosk's site, in minutes of the local day.
SELECT kiosk.id, (extract(epoch FROM org.opens_at) / 60)::int AS opens, (extract(epoch FROM org.closes_at) / 60)::int AS closes
  FROM kiosk JOIN org ON org.id = kiosk.org_id;

-- kiosk_day_write --
INSERT INTO kiosk_day (kiosk_id, day, open_s, payable_s)
SELECT kiosk_id, $1, open_s, payable_s FROM unnest($2::bigint[], $3::integer[], $4::integer[]) AS new (kiosk_id, open_s, payable_s)
    ON CONFLICT DO NOTHING;

-- diagnoses_forget --
-- Changes before $1, but the last one of each kiosk: what is still so.
DELETE FROM diagnosis AS old
 WHERE at < $1 AND EXISTS (SELECT FROM diagnosis AS newer WHERE newer.kiosk_id = old.kiosk_id AND newer.at > old.at AND newer.at < $1);

-- usual_known --
SELECT EXISTS (SELECT FROM usual_day WHERE day = $1);

-- quarters_last --
-- Until when payments were summed.
SELECT max(slot) FROM org_quarter;

-- quarters_first --
SELECT min(slot) FROM org_quarter;

-- payment_before --
-- When the last payment before $1 began.
SELECT to_timestamp((max(payment_id) >> 22) / 1e3) FROM payment_fact
 WHERE payment_id < (extract(epoch FROM $1::timestamptz) * 1000)::bigint << 22;

-- feed_complete_to --
-- Until when the copy of the payments is complete.
SELECT CASE WHEN more THEN last_at ELSE read_at END FROM feed_position WHERE read_at > '-infinity';
