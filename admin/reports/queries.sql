-- Statements of the reports. Each reads payment_fact as it is in one snapshot; nothing is summed beforehand, so that there is
-- nothing that could differ from the payments. Where a statement says "picked": $1 paths that may be seen, $2 first and $3
-- last day, $4 path of the chosen organisation, $5 id of the chosen kiosk, $6 business; NULL: all.

-- ======================================================================== before and around a report

-- report_wait --
-- Our turn, until the connection closes: a report of the same operator, and those of others who share the slot, are waited
-- for. $1 kind of lock, $2 slot, $3 how long.
SELECT pg_advisory_lock($1, $2) FROM set_config('lock_timeout', $3, false);

-- report_bounds --
-- For this transaction: little memory and one process; what is asked for by a person takes at most a core from the switch.
-- $1 memory, $2 how long a table's lock is waited for.
SELECT set_config('work_mem', $1, true), set_config('max_parallel_workers_per_gather', '0', true),
       set_config('lock_timeout', $2, true);

-- as_of --
-- Up to when payments are here: the last look at the feed, or the last event of a batch behind which there is more.
SELECT CASE WHEN more THEN nullif(last_at, '-infinity') ELSE nullif(read_at, '-infinity') END AS at, events, more,
       nullif(read_at, '-infinity') AS read_at
  FROM admin.feed_position;

-- latest --
-- The last days of which there is a payment, by the card network's day and by the calendar.
SELECT (SELECT max(settled_on) FROM admin.payment_fact) AS settled_on, (SELECT max(local_on) FROM admin.payment_fact) AS local_on;

-- orgs --
-- What can be chosen: $1 scope, $2 most.
SELECT code, name, path, kind FROM admin.org WHERE path LIKE ANY ($1::text[]) ORDER BY path LIMIT $2;

-- narrowed --
-- The chosen organisation's path, when it may be seen, and the chosen kiosk's id; 0: there is none with that code, and so no
-- payment of it. $1 scope, $2 organisation, $3 kiosk.
SELECT (SELECT path FROM admin.org WHERE code = $2 AND path LIKE ANY ($1::text[])) AS path,
       CASE WHEN $3::text IS NOT NULL THEN coalesce((SELECT id FROM admin.kiosk WHERE code = $3), 0) END AS kiosk_id;

-- ======================================================================== daily

-- daily --
-- Payments by day and by group, with the sums over each and over all (by_day, by_group). $7 group: kiosk, site, business or
-- recon. $8 most rows.
WITH picked AS (
    SELECT settled_on AS day, CASE WHEN $7::text = 'kiosk' THEN kiosk_id END AS kiosk_id,
           CASE WHEN $7::text IN ('kiosk', 'site') THEN org_id END AS org_id,
           CASE WHEN $7::text = 'business' THEN kind END AS kind, CASE WHEN $7::text = 'recon' THEN recon END AS recon, state,
           class = 'customer' AS customer, count(*) AS payments, sum(amount)::bigint AS fen
      FROM admin.payment_fact
     WHERE org_path LIKE ANY ($1::text[]) AND settled_on BETWEEN $2::date AND $3::date
       AND ($4::text IS NULL OR starts_with(org_path, $4::text)) AND ($5::bigint IS NULL OR kiosk_id = $5::bigint)
       AND ($6::text IS NULL OR kind = $6::text)
     GROUP BY 1, 2, 3, 4, 5, 6, 7
), summed AS (
    SELECT grouping(day) = 0 AS by_day, grouping(kiosk_id) = 0 AS by_group, day, kiosk_id, org_id, kind,
           recon, coalesce(sum(payments), 0)::bigint AS payments, coalesce(sum(fen), 0)::bigint AS fen,
           coalesce(sum(payments) FILTER (WHERE state = 'COMPLETED'), 0)::bigint AS completed,
           coalesce(sum(fen) FILTER (WHERE state = 'COMPLETED'), 0)::bigint AS completed_fen,
           coalesce(sum(payments) FILTER (WHERE state = 'DECLINED'), 0)::bigint AS declined,
           coalesce(sum(payments) FILTER (WHERE state IN ('REVERSED', 'REFUNDED')), 0)::bigint AS returned,
           coalesce(sum(fen) FILTER (WHERE state IN ('REVERSED', 'REFUNDED')), 0)::bigint AS returned_fen,
           coalesce(sum(payments) FILTER (WHERE state = 'SUSPENSE'), 0)::bigint AS suspense,
           coalesce(sum(fen) FILTER (WHERE state = 'SUSPENSE'), 0)::bigint AS suspense_fen,
           coalesce(sum(payments) FILTER (WHERE state = 'UNPROVEN'), 0)::bigint AS unproven,
           coalesce(sum(fen) FILTER (WHERE state = 'UNPROVEN'), 0)::bigint AS unproven_fen,
           coalesce(sum(payments) FILTER (WHERE state IN ('CARD_PENDING', 'CARD_CONFIRMING', 'BILL_PENDING', 'BILL_CANCELLING',
                                                          'REVERSAL_PENDING')), 0)::bigint AS driven,
           coalesce(sum(fen) FILTER (WHERE state IN ('CARD_PENDING', 'CARD_CONFIRMING', 'BILL_PENDING', 'BILL_CANCELLING',
                                                     'REVERSAL_PENDING')), 0)::bigint AS driven_fen,
           coalesce(sum(payments) FILTER (WHERE customer), 0)::bigint AS customer
      FROM picked GROUP BY GROUPING SETS ((), (day), (kiosk_id, org_id, kind, recon), (day, kiosk_id, org_id, kind, recon))
)
SELECT summed.*, kiosk.code AS kiosk, org.name AS site
  FROM summed
  LEFT JOIN admin.kiosk ON kiosk.id = summed.kiosk_id
  LEFT JOIN admin.org ON org.id = summed.org_id
 ORDER BY summed.by_group, summed.by_day, summed.day, CASE WHEN NOT summed.by_day THEN -summed.completed_fen END, kiosk.code,
          org.path, summed.kind, summed.recon
 LIMIT $8;

-- ======================================================================== failures

-- failures --
-- Payments that did not go well, by class, then by code, then by kiosk (level 1, 2, 3; 0: all), and of how many. $7 class,
-- $8 source and $9 code to look into; NULL: all. $10 most rows.
WITH payments AS (
    SELECT count(*) AS payments, count(*) FILTER (WHERE class = 'ok') AS completed,
           count(*) FILTER (WHERE class = 'customer') AS customer
      FROM admin.payment_fact
     WHERE org_path LIKE ANY ($1::text[]) AND settled_on BETWEEN $2::date AND $3::date
       AND ($4::text IS NULL OR starts_with(org_path, $4::text)) AND ($5::bigint IS NULL OR kiosk_id = $5::bigint)
       AND ($6::text IS NULL OR kind = $6::text)
), picked AS (
    SELECT class, fault_source, fault_code, kiosk_id, org_id, count(*) AS failures, max(opened_at) AS last_at
      FROM admin.payment_fact
     WHERE org_path LIKE ANY ($1::text[]) AND settled_on BETWEEN $2::date AND $3::date
       AND ($4::text IS NULL OR starts_with(org_path, $4::text)) AND ($5::bigint IS NULL OR kiosk_id = $5::bigint)
       AND ($6::text IS NULL OR kind = $6::text) AND class <> 'ok'
       AND ($7::text IS NULL OR class = $7::text)
       AND ($8::text IS NULL OR (fault_source = $8::text AND fault_code = $9::text))
     GROUP BY 1, 2, 3, 4, 5
), summed AS (
    SELECT 3 - grouping(class) - grouping(fault_code) - grouping(kiosk_id) AS level, class, fault_source, fault_code, kiosk_id,
           org_id, coalesce(sum(failures), 0)::bigint AS failures, max(last_at) AS last_at,
           count(DISTINCT kiosk_id) AS kiosks
      FROM picked
     GROUP BY GROUPING SETS ((), (class), (class, fault_source, fault_code), (class, fault_source, fault_code, kiosk_id, org_id))
)
SELECT summed.*, payments.*, kiosk.code AS kiosk, org.name AS site, coalesce(exact.text, other.text) AS text,
       coalesce(exact.text_en, other.text_en) AS text_en
  FROM summed
 CROSS JOIN payments
  LEFT JOIN admin.kiosk ON kiosk.id = summed.kiosk_id
  LEFT JOIN admin.org ON org.id = summed.org_id
  LEFT JOIN admin.response_class AS exact ON exact.source = summed.fault_source AND exact.code = summed.fault_code
  LEFT JOIN admin.response_class AS other ON other.source = summed.fault_source AND other.code = '*'
 ORDER BY summed.level, summed.failures DESC, summed.class, summed.fault_source, summed.fault_code, kiosk.code, org.path
 LIMIT $10;

-- ======================================================================== latency

-- latency --
-- Percentiles 50, 95 and 99 of each leg, exact, over all and by hour of the day (grouping "hour"), in milliseconds. A
-- payment's number begins with the milliseconds at which it began.
SELECT grouping(hour) = 0 AS by_hour, hour, count(*) AS payments, count(card_ms) AS card_count, count(bill_ms) AS bill_count,
       count(total_ms) AS total_count, percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY card_ms) AS card,
       percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY bill_ms) AS bill,
       percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY total_ms) AS total
  FROM (SELECT ((payment_id >> 22) / 3600000 + 8) % 24 AS hour, card_ms, bill_ms,
               CASE WHEN state = 'COMPLETED' THEN total_ms END AS total_ms
          FROM admin.payment_fact
         WHERE org_path LIKE ANY ($1::text[]) AND settled_on BETWEEN $2::date AND $3::date
           AND ($4::text IS NULL OR starts_with(org_path, $4::text)) AND ($5::bigint IS NULL OR kiosk_id = $5::bigint)
           AND ($6::text IS NULL OR kind = $6::text)) AS picked
 GROUP BY GROUPING SETS ((), (hour))
 ORDER BY by_hour, hour;

-- latency_kiosks --
-- The same by kiosk, the slowest first. $7 most rows.
SELECT kiosk.code AS kiosk, org.name AS site, summed.*
  FROM (SELECT kiosk_id, org_id, count(*) AS payments, count(card_ms) AS card_count, count(bill_ms) AS bill_count,
               count(total_ms) AS total_count, percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY card_ms) AS card,
               percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY bill_ms) AS bill,
               percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY total_ms) AS total
          FROM (SELECT kiosk_id, org_id, card_ms, bill_ms, CASE WHEN state = 'COMPLETED' THEN total_ms END AS total_ms
                  FROM admin.payment_fact
                 WHERE org_path LIKE ANY ($1::text[]) AND settled_on BETWEEN $2::date AND $3::date
                   AND ($4::text IS NULL OR starts_with(org_path, $4::text)) AND ($5::bigint IS NULL OR kiosk_id = $5::bigint)
                   AND ($6::text IS NULL OR kind = $6::text)) AS picked
         GROUP BY 1, 2) AS summed
  LEFT JOIN admin.kiosk ON kiosk.id = summed.kiosk_id
  LEFT JOIN admin.org ON org.id = summed.org_id
 ORDER BY summed.total[2] DESC NULLS LAST, kiosk.code, org.path
 LIMIT $7;

-- ======================================================================== behaviour

-- curve --
-- Payments by the quarter of an hour (0 to 95) of the local day in which they began, in each of the spans $7 (first days) to $8
-- (last days), numbered from 1; by business, and how many accounts in the first span. $2 and $3 are the first and last of all.
WITH picked AS MATERIALIZED (
    SELECT span.number::integer AS span, (((payment_id >> 22) / 1000 + 28800) % 86400 / 900)::integer AS slot, kind,
           account_hash
      FROM admin.payment_fact
      JOIN unnest($7::date[], $8::date[]) WITH ORDINALITY AS span (first, last, number) ON local_on BETWEEN span.first AND span.last
     WHERE org_path LIKE ANY ($1::text[]) AND local_on BETWEEN $2::date AND $3::date
       AND ($4::text IS NULL OR starts_with(org_path, $4::text)) AND ($5::bigint IS NULL OR kiosk_id = $5::bigint)
       AND ($6::text IS NULL OR kind = $6::text)
), payers AS (
    SELECT slot, count(*) AS payers FROM (SELECT DISTINCT slot, account_hash FROM picked WHERE span = 1) AS one GROUP BY slot
)
SELECT picked.span, picked.slot, count(*) AS payments, count(*) FILTER (WHERE kind = 'prepayment') AS prepayments,
       CASE WHEN picked.span = 1 THEN max(payers.payers) END AS payers
  FROM picked LEFT JOIN payers ON payers.slot = picked.slot
 GROUP BY 1, 2 ORDER BY 1, 2;

-- peaks --
-- Payments by weekday (1 Monday … 7) and hour of the local day in which they began, and of how many accounts.
WITH picked AS MATERIALIZED (
    SELECT extract(isodow FROM local_on)::integer AS weekday, (((payment_id >> 22) / 3600000 + 8) % 24)::integer AS hour,
           account_hash
      FROM admin.payment_fact
     WHERE org_path LIKE ANY ($1::text[]) AND local_on BETWEEN $2::date AND $3::date
       AND ($4::text IS NULL OR starts_with(org_path, $4::text)) AND ($5::bigint IS NULL OR kiosk_id = $5::bigint)
       AND ($6::text IS NULL OR kind = $6::text)
)
SELECT picked.weekday, picked.hour, sum(payments)::bigint AS payments, count(*) AS payers
  FROM (SELECT weekday, hour, account_hash, count(*) AS payments FROM picked GROUP BY 1, 2, 3) AS picked
 GROUP BY 1, 2 ORDER BY 1, 2;

-- ======================================================================== month

-- month_services --
-- What was measured of each service on each day that is over, $1 to $2; the switch itself first.
SELECT service, day, measured_ms, down_ms, window_ms, down_in_window_ms, missed_ms
  FROM admin.availability_day WHERE day BETWEEN $1::date AND $2::date ORDER BY service <> 'switch', service, day;

-- month_kiosks --
-- How long sites were open and how long one could pay at their kiosks, the worst first. As "picked", with $6 without meaning;
-- where kiosks stand now. $7 most rows.
SELECT kiosk.code AS kiosk, org.name AS site, count(*) AS days, sum(kiosk_day.open_s)::bigint AS open_s,
       sum(kiosk_day.payable_s)::bigint AS payable_s,
       sum(kiosk_day.payable_s)::bigint * 1000000 / nullif(sum(kiosk_day.open_s)::bigint, 0) AS share
  FROM admin.kiosk_day
  JOIN admin.kiosk ON kiosk.id = kiosk_day.kiosk_id
  JOIN admin.org ON org.id = kiosk.org_id
 WHERE org.path LIKE ANY ($1::text[]) AND kiosk_day.day BETWEEN $2::date AND $3::date
   AND ($4::text IS NULL OR starts_with(org.path, $4::text)) AND ($5::bigint IS NULL OR kiosk.id = $5::bigint)
   AND ($6::text IS NULL OR true)
 GROUP BY kiosk.code, org.name ORDER BY share NULLS LAST, kiosk.code LIMIT $7;
