-- Statements of payments and cases. $1 is always the paths that the operator may see.

-- ======================================================================== search

-- payment_filters --
-- Of both lists and both counts: $2 hash of the account, in hex, $3 RRN, $4 last four of the card, $5 serial of the kiosk,
-- $6 terminal, $7 kiosk, $8 code of an organisation, $9 state, $10 class of failure, $11 business, $12 from, $13 until,
-- $14 and $15 fen at least and at most, $16 trace number, or batch and trace number with a dash between. What is NULL is planned away: each statement is planned for its values.
       ($2::text IS NULL OR fact.account_hash = decode($2, 'hex'))
   AND ($3::text IS NULL OR (fact.rrn = $3 AND fact.rrn <> ''))
   AND ($4::text IS NULL OR fact.card_last4 = $4)
   AND ($5::text IS NULL OR fact.kiosk_serial = $5)
   AND ($6::text IS NULL OR fact.terminal_id = $6)
   AND ($7::text IS NULL OR fact.kiosk_id = (SELECT id FROM admin.kiosk WHERE code = $7))
   AND {org}
   AND ($9::text IS NULL OR fact.state = $9)
   AND ($10::text IS NULL OR fact.class = $10)
   AND ($11::text IS NULL OR fact.kind = $11)
   AND ($12::timestamptz IS NULL OR fact.payment_id >= admin.first_payment($12))
   AND ($13::timestamptz IS NULL OR fact.payment_id < admin.first_payment($13))
   AND ($14::bigint IS NULL OR fact.amount >= $14)
   AND ($15::bigint IS NULL OR fact.amount <= $15)
   AND ($16::text IS NULL OR (fact.stan = right($16, 6) AND (length($16) = 6 OR fact.batch = left($16, 6))))

-- payment_in_org --
-- {org} where it is not the places that are looked up: there it would be a filter of which the planner expects too much.
($8::text IS NULL OR starts_with(fact.org_path, (SELECT path FROM admin.org WHERE code = $8)))

-- payment_list --
-- Along the order of time; where one filter is narrow, along its index.
SELECT fact.payment_id AS key, {sort} AS sort_value, fact.payment_id::text AS payment, fact.opened_at, fact.state, fact.amount, fact.kind,
       fact.account_masked, fact.card_first6 || '******' || fact.card_last4 AS card, fact.terminal_id, fact.kiosk_serial, fact.rrn,
       fact.batch || '-' || fact.stan AS trace, fact.class, fact.response_code, fact.settled_on, fact.total_ms, fact.recon,
       kiosk.code AS kiosk, org.name AS org
  FROM admin.payment_fact AS fact
  LEFT JOIN admin.kiosk ON kiosk.id = fact.kiosk_id
  LEFT JOIN admin.org ON org.id = fact.org_id
 WHERE fact.org_path LIKE ANY ($1::text[])
   AND {filters}
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- payment_list_by_place --
-- A few places of many: each one's latest by its own index, and the latest of these. The order of time would be walked to its
-- end to find the payments of a hall that has few.
SELECT fact.payment_id AS key, {sort} AS sort_value, fact.payment_id::text AS payment, fact.opened_at, fact.state, fact.amount, fact.kind,
       fact.account_masked, fact.card_first6 || '******' || fact.card_last4 AS card, fact.terminal_id, fact.kiosk_serial, fact.rrn,
       fact.batch || '-' || fact.stan AS trace, fact.class, fact.response_code, fact.settled_on, fact.total_ms, fact.recon,
       kiosk.code AS kiosk, org.name AS org
  FROM (SELECT DISTINCT place.org_path FROM admin.kiosk_place AS place
         WHERE place.org_path LIKE ANY ($1::text[])
           AND ($8::text IS NULL OR starts_with(place.org_path, (SELECT path FROM admin.org WHERE code = $8)))) AS place
 CROSS JOIN LATERAL (
       SELECT fact.* FROM admin.payment_fact AS fact
        WHERE fact.org_path = place.org_path
          AND {filters}
          AND {after}
        ORDER BY {order} LIMIT {limit}) AS fact
  LEFT JOIN admin.kiosk ON kiosk.id = fact.kiosk_id
  LEFT JOIN admin.org ON org.id = fact.org_id
 ORDER BY {order} LIMIT {limit};

-- payment_count --
-- How many, up to {most}. Nothing else is asked of them: without further filters an index alone can tell.
SELECT count(*)
  FROM (SELECT FROM admin.payment_fact AS fact
         WHERE fact.org_path LIKE ANY ($1::text[])
           AND {filters}
         LIMIT {most}) AS found;

-- payment_count_by_place --
SELECT count(*)
  FROM (SELECT
          FROM (SELECT DISTINCT place.org_path FROM admin.kiosk_place AS place
                 WHERE place.org_path LIKE ANY ($1::text[])
                   AND ($8::text IS NULL OR starts_with(place.org_path, (SELECT path FROM admin.org WHERE code = $8)))) AS place
         CROSS JOIN LATERAL (
               SELECT FROM admin.payment_fact AS fact
                WHERE fact.org_path = place.org_path
                  AND {filters}
                LIMIT {most}) AS fact
         LIMIT {most}) AS found;

-- places --
-- How many places are meant: $1 paths, $2 code of an organisation. Counted up to $3.
SELECT count(*) FROM (
    SELECT DISTINCT place.org_path FROM admin.kiosk_place AS place
     WHERE place.org_path LIKE ANY ($1::text[])
       AND ($2::text IS NULL OR starts_with(place.org_path, (SELECT path FROM admin.org WHERE code = $2)))
     LIMIT $3) AS meant;

-- recognise --
-- What a number may be, as far as there is one in scope: $2 text, $3 hash of it as an account.
SELECT EXISTS (SELECT FROM admin.payment_fact WHERE rrn = $2 AND rrn <> '' AND org_path LIKE ANY ($1::text[])) AS rrn,
       EXISTS (SELECT FROM admin.payment_fact WHERE account_hash = $3 AND org_path LIKE ANY ($1::text[])) AS account,
       EXISTS (SELECT FROM admin.payment_fact WHERE terminal_id = $2 AND org_path LIKE ANY ($1::text[])) AS terminal,
       EXISTS (SELECT FROM admin.kiosk JOIN admin.org ON org.id = kiosk.org_id
                WHERE kiosk.code = upper($2) AND org.path LIKE ANY ($1::text[])) AS kiosk,
       EXISTS (SELECT FROM admin.payment_fact WHERE kiosk_serial = $2 AND org_path LIKE ANY ($1::text[])) AS serial;

-- orgs --
-- For the filter: $1 paths.
SELECT code, name, path FROM admin.org WHERE path LIKE ANY ($1::text[]) AND kind <> 'network' ORDER BY path;

-- ======================================================================== one payment

-- payment_get --
-- $2 payment.
SELECT fact.*, kiosk.code AS kiosk, org.name AS org, class.text AS fault_text, class.text_en AS fault_text_en
  FROM admin.payment_fact AS fact
  LEFT JOIN admin.kiosk ON kiosk.id = fact.kiosk_id
  LEFT JOIN admin.org ON org.id = fact.org_id
  LEFT JOIN LATERAL (
       SELECT text, text_en FROM admin.response_class
        WHERE source = fact.fault_source AND code IN (fact.fault_code, '*')
        ORDER BY code = '*' LIMIT 1) AS class ON true
 WHERE fact.payment_id = $2 AND fact.org_path LIKE ANY ($1::text[]);

-- payment_story --
-- $1 opened_on, $2 payment: seen by payment_get before.
SELECT ver, state, "row", at, changes FROM switch.contract_v1_payment_story WHERE opened_on = $1 AND payment_id = $2 ORDER BY ver;

-- payment_postings --
SELECT serial, receivable, period, amount, state FROM switch.contract_v1_postings
 WHERE opened_on = $1 AND payment_id = $2 ORDER BY serial;

-- payment_decisions --
-- $1 payment.
SELECT id, decision, evidence, proposed_by, proposed_at, confirmed_by, confirmed_at, settled_at, outcome
  FROM switch.contract_v1_case_decisions WHERE payment_id = $1 ORDER BY id;

-- payment_account --
-- The whole number, from the switch: admin does not have it. $1 opened_on, $2 payment.
SELECT account FROM switch.contract_v1_payments WHERE opened_on = $1 AND payment_id = $2;

-- ======================================================================== cases

-- case_list --
-- $2 state, $3 standing.
SELECT waiting.payment_id AS key, {sort} AS sort_value, waiting.payment_id::text AS payment, 'C' || waiting.payment_id AS case_number,
       waiting.state, waiting.amount, waiting.since, fact.account_masked, fact.terminal_id, kiosk.code AS kiosk, org.name AS org,
       CASE WHEN waiting.decision IS NULL AND asked.id IS NULL THEN 'none' WHEN waiting.confirmed_by IS NULL THEN 'proposed'
            ELSE 'confirmed' END AS standing,
       coalesce(waiting.proposed_by, maker.login) AS proposed_by
  FROM switch.contract_v1_open_cases AS waiting
  JOIN admin.payment_fact AS fact ON fact.payment_id = waiting.payment_id
  LEFT JOIN admin.kiosk ON kiosk.id = fact.kiosk_id
  LEFT JOIN admin.org ON org.id = fact.org_id
  LEFT JOIN admin.approval AS asked ON asked.action = 'case.decide' AND asked.object_id = waiting.payment_id::text
        AND asked.state = 'pending' AND asked.expires_at > now()
  LEFT JOIN admin.operator AS maker ON maker.id = asked.maker_id
 WHERE fact.org_path LIKE ANY ($1::text[])
   AND ($2::text IS NULL OR waiting.state = $2)
   AND ($3::text IS NULL OR $3 = CASE WHEN waiting.decision IS NULL AND asked.id IS NULL THEN 'none'
                                      WHEN waiting.confirmed_by IS NULL THEN 'proposed' ELSE 'confirmed' END)
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- case_pending --
-- What somebody has asked for about this payment. $1 payment.
SELECT approval.id, approval.payload, approval.reason, approval.made_at, maker.login AS maker, approval.maker_id
  FROM admin.approval JOIN admin.operator AS maker ON maker.id = approval.maker_id
 WHERE approval.action = 'case.decide' AND approval.object_id = $1 AND approval.state = 'pending' AND approval.expires_at > now();

-- case_version --
-- Of a payment that waits for a person; what it does next makes it another one. $1 payment, as text.
SELECT fact.ver FROM admin.payment_fact AS fact
 WHERE fact.payment_id = $1::text::bigint AND fact.state IN ('SUSPENSE', 'UNPROVEN');

-- login_of --
SELECT login FROM admin.operator WHERE id = $1;
