-- Statements of the feed.

-- ======================================================================== the loop

-- feed_take --
-- Where to go on; the row is ours until the transaction ends. No row: another process is at it.
SELECT cursor FROM admin.feed_position FOR UPDATE SKIP LOCKED;

-- feed_plan --
-- Statistics of an hour ago say that reading a whole day is the shortest way to its last second.
SELECT set_config('enable_seqscan', 'off', true);

-- feed_fold --
-- One batch of the switch's events into payment_fact, and the position after it. $1 cursor, $2 most events, $3 and $4 the
-- key of account_hash, padded to 64 bytes and xored with 0x36 and 0x5c (RFC 2104). A payment whose beginning is in the batch
-- is written whole, others are continued; what a row holds already does nothing. Returns how many events and payments there
-- were, and how many payments cannot be continued because an event before is missing: then nothing of this may be committed.
WITH batch AS MATERIALIZED (
    SELECT feed.number, feed.cursor, feed.payment_id, feed.opened_on, feed.ver, feed.state, feed.amount, feed.wall_us, feed.changes,
           (feed.wall_us / 1000 - (feed.payment_id >> 22))::integer AS ms, fault.source,
           CASE fault.source WHEN 'card' THEN coalesce(feed.changes ->> 'response_code', '')
                             WHEN 'bill' THEN coalesce(feed.changes ->> 'bill_code', '')
                             WHEN 'row' THEN feed."row" END AS code
      FROM switch.contract_v1_feed($1, $2) WITH ORDINALITY
        AS feed (cursor, payment_id, opened_on, ver, state, "row", wall_us, amount, changes, number)
      LEFT JOIN admin.fault_row AS fault ON fault."row" = feed."row"
), story AS MATERIALIZED (
    SELECT payment_id, opened_on, min(ver) AS first, max(ver) AS ver, (array_agg(state ORDER BY ver DESC))[1] AS state,
           (array_agg(amount ORDER BY ver DESC))[1] AS amount, (array_agg(wall_us ORDER BY ver DESC))[1] AS changed_us,
           (array_agg(ms ORDER BY ver DESC))[1] AS last_ms, admin.jsonb_merge(changes ORDER BY ver) AS body,
           (array_agg(source ORDER BY ver) FILTER (WHERE source IS NOT NULL))[1] AS source,
           (array_agg(code ORDER BY ver) FILTER (WHERE source IS NOT NULL))[1] AS code,
           min(ms) FILTER (WHERE ver = 1) AS card_from, min(ms) FILTER (WHERE state <> 'CARD_PENDING') AS card_to,
           min(ms) FILTER (WHERE state = 'BILL_PENDING') AS bill_from,
           min(ms) FILTER (WHERE state NOT IN ('CARD_PENDING', 'CARD_CONFIRMING', 'BILL_PENDING')) AS bill_to,
           bool_or(state = 'REVERSAL_PENDING') AS reversed
      FROM batch GROUP BY payment_id, opened_on
), folded AS MATERIALIZED (
    SELECT story.*, state IN ('COMPLETED', 'DECLINED', 'REVERSED', 'REFUNDED') AS final,
           CASE WHEN state = 'COMPLETED' THEN 'ok' ELSE coalesce(exact.class, other.class) END AS class
      FROM story
      LEFT JOIN admin.response_class AS exact ON exact.source = story.source AND exact.code = story.code
      LEFT JOIN admin.response_class AS other ON other.source = story.source AND other.code = '*'
), begun AS (
    INSERT INTO admin.payment_fact AS known (
           payment_id, opened_on, ver, state, final, opened_at, changed_at, settled_on, local_on, amount, kind, bills, terminal_id,
           kiosk_id, org_id, org_path, account_hash, account_masked, rrn, batch, stan, kiosk_serial, card_first6, card_last4,
           response_code, bill_code, fault_source, fault_code, class, total_ms, card_ms, bill_ms, card_from_ms, bill_from_ms,
           charged, reversed, case_number)
    SELECT payment_id, opened_on, ver, state, final, opened.at, to_timestamp(changed_us / 1e6), to_date(body ->> 'settlement_day', 'YYYYMMDD'),
           (opened.at AT TIME ZONE 'Asia/Shanghai')::date, amount,
           CASE body #>> '{postings,0,0}' WHEN '' THEN 'prepayment' ELSE 'payment' END, jsonb_array_length(body -> 'postings'),
           body ->> 'terminal', place.kiosk_id, place.org_id, coalesce(place.org_path, '/'),
           substr(sha256($4::bytea || sha256($3::bytea || convert_to(body ->> 'account', 'UTF8'))), 1, 16),
           '****' || right(body ->> 'account', 4), coalesce(body ->> 'rrn', ''), body ->> 'batch', body ->> 'stan', body ->> 'kiosk_serial',
           left(body ->> 'card_masked', 6), right(body ->> 'card_masked', 4), coalesce(body ->> 'response_code', ''),
           coalesce(body ->> 'bill_code', ''), source, code, class, CASE WHEN final THEN last_ms END, card_to - card_from,
           bill_to - bill_from, card_from, bill_from, coalesce((body ->> 'approved_seen')::boolean, false), reversed,
           coalesce(body ->> 'case', '')
      FROM folded
     CROSS JOIN LATERAL (SELECT to_timestamp((payment_id >> 22) / 1e3) AS at) AS opened
      LEFT JOIN LATERAL (
           SELECT kiosk_id, org_id, org_path FROM admin.kiosk_place
            WHERE terminal_id = folded.body ->> 'terminal' AND valid_from <= opened.at AND valid_to > opened.at
            LIMIT 1) AS place ON true
     WHERE first = 1
    ON CONFLICT (payment_id) DO UPDATE
       SET (ver, state, final, changed_at, amount, rrn, response_code, bill_code, fault_source, fault_code, class, total_ms, card_ms,
            bill_ms, bill_from_ms, charged, reversed, case_number)
         = (EXCLUDED.ver, EXCLUDED.state, EXCLUDED.final, EXCLUDED.changed_at, EXCLUDED.amount, EXCLUDED.rrn, EXCLUDED.response_code,
            EXCLUDED.bill_code, EXCLUDED.fault_source, EXCLUDED.fault_code, EXCLUDED.class, EXCLUDED.total_ms, EXCLUDED.card_ms,
            EXCLUDED.bill_ms, EXCLUDED.bill_from_ms, EXCLUDED.charged, EXCLUDED.reversed, EXCLUDED.case_number)
     WHERE EXCLUDED.ver > known.ver
), continued AS (
    UPDATE admin.payment_fact AS known
       SET ver = folded.ver, state = folded.state, final = folded.final, changed_at = to_timestamp(folded.changed_us / 1e6),
           amount = folded.amount, rrn = coalesce(body ->> 'rrn', known.rrn),
           response_code = coalesce(body ->> 'response_code', known.response_code),
           bill_code = coalesce(body ->> 'bill_code', known.bill_code),
           fault_source = coalesce(known.fault_source, folded.source),
           fault_code = CASE WHEN known.fault_source IS NULL THEN folded.code ELSE known.fault_code END,
           class = CASE WHEN folded.state = 'COMPLETED' THEN 'ok' ELSE coalesce(known.class, folded.class) END,
           total_ms = CASE WHEN folded.final THEN last_ms END,
           card_ms = coalesce(known.card_ms, card_to - known.card_from_ms),
           bill_from_ms = coalesce(known.bill_from_ms, bill_from),
           bill_ms = coalesce(known.bill_ms, bill_to - coalesce(known.bill_from_ms, bill_from)),
           charged = known.charged OR coalesce((body ->> 'approved_seen')::boolean, false),
           reversed = known.reversed OR folded.reversed, case_number = coalesce(body ->> 'case', known.case_number)
      FROM folded
     WHERE folded.first > 1 AND known.payment_id = folded.payment_id AND known.ver < folded.ver
), last AS (
    SELECT cursor, wall_us, number FROM batch ORDER BY number DESC LIMIT 1
), position AS (
    UPDATE admin.feed_position
       SET cursor = coalesce(last.cursor, feed_position.cursor), events = events + coalesce(last.number, 0), read_at = now(),
           last_at = coalesce(to_timestamp(last.wall_us / 1e6), last_at), more = coalesce(last.number, 0) >= $2
      FROM (SELECT) AS one LEFT JOIN last ON true
)
SELECT coalesce((SELECT number FROM last), 0) AS events, (SELECT count(*) FROM story) AS payments,
       (SELECT count(*) FROM story
         WHERE first > 1 AND NOT EXISTS (SELECT FROM admin.payment_fact AS known
                                          WHERE known.payment_id = story.payment_id AND known.ver >= story.first - 1)) AS missing;

-- feed_lag --
-- How far behind we are. $1 most events to count.
SELECT position.read_at, position.last_at, position.events AS read, waiting.events, waiting.oldest_us
  FROM admin.feed_position AS position
 CROSS JOIN LATERAL switch.contract_v1_feed_lag(position.cursor, $1) AS waiting;

-- feed_forget --
-- The next reading begins anew.
UPDATE admin.feed_position SET cursor = '', events = 0, last_at = '-infinity', more = true;

-- facts_forget --
-- Rows of payments, oldest first, after the position was forgotten. $1 most.
WITH gone AS (
    DELETE FROM admin.payment_fact
     WHERE payment_id IN (SELECT payment_id FROM admin.payment_fact ORDER BY payment_id LIMIT $1)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- ======================================================================== places

-- place_news --
-- Places that came since payments were stamped last.
SELECT id, terminal_id FROM admin.kiosk_place WHERE NOT stamped ORDER BY id LIMIT $1;

-- place_stamp --
-- Payments of a terminal get the places of their time. $1 terminal, $2 the news that are done with it.
WITH done AS (
    UPDATE admin.kiosk_place SET stamped = true WHERE id = ANY ($2::bigint[])
), moved AS (
    SELECT fact.payment_id, place.kiosk_id, place.org_id, coalesce(place.org_path, '/') AS org_path
      FROM admin.payment_fact AS fact
      LEFT JOIN admin.kiosk_place AS place
             ON place.terminal_id = fact.terminal_id AND place.valid_from <= fact.opened_at AND place.valid_to > fact.opened_at
     WHERE fact.terminal_id = $1
       AND fact.payment_id >= (SELECT coalesce(min((floor(extract(epoch FROM greatest(valid_from, '1970-01-02')))::bigint * 1000) << 22), 0)
                                 FROM admin.kiosk_place WHERE id = ANY ($2::bigint[]))
)
UPDATE admin.payment_fact AS fact
   SET kiosk_id = moved.kiosk_id, org_id = moved.org_id, org_path = moved.org_path
  FROM moved
 WHERE fact.payment_id = moved.payment_id
   AND (fact.kiosk_id, fact.org_id, fact.org_path) IS DISTINCT FROM (moved.kiosk_id, moved.org_id, moved.org_path);
