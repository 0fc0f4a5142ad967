-- Every statement of the store except COPY, by name. Parameters are named in the comment.

-- ======================================================================== server and locks

-- server_check --
-- What a connection must be before we trust it with money.
SELECT current_setting('server_version_num')::integer AS version,
       pg_is_in_recovery() AS in_recovery,
       current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit;

-- session_self --
-- Who we are to the server, so that a later session can end this one for sure.
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid();

-- writer_lock --
-- The session that writes for a worker holds this, so whoever gets it knows that no such session is left.
-- $1 class, $2 epoch.
SELECT pg_try_advisory_lock($1, $2);

-- writer_unlock --
SELECT pg_advisory_unlock($1, $2);

-- writer_end --
-- End the session that holds the lock: our own former one, or that of a worker whose lease has ended.
-- $1 class, $2 epoch.
SELECT pg_terminate_backend(pid)
  FROM pg_locks
 WHERE locktype = 'advisory' AND classid::bigint = $1 AND objid::bigint = $2 AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid();

-- worker_start --
-- A new epoch. $1 name of the process, $2 instance, $3 proof, $4 seconds of its lease, margin included.
INSERT INTO switch.worker (name, instance, proof, lease_s) VALUES ($1, $2, $3, $4) RETURNING epoch;

-- worker_in_office --
-- $1 epoch.
SELECT ended_by IS NULL FROM switch.worker WHERE epoch = $1;

-- worker_renew --
-- $1 epoch. Nothing comes back when the lease has been ended.
UPDATE switch.worker SET renewed_at = now() WHERE epoch = $1 AND ended_by IS NULL RETURNING true;

-- worker_condemn --
-- Workers whose lease is over, or whom the lock in our hands proves dead, can open no session from now on.
-- $1 our epoch, $2 our proof.
UPDATE switch.worker SET ended_by = $1
 WHERE ended_by IS NULL AND epoch <> $1
   AND (renewed_at + make_interval(secs => lease_s) < now() OR ($2 <> '' AND proof = $2));

-- worker_condemned --
-- Those of whose session we are not sure yet; perhaps another heir began with them and died.
SELECT epoch FROM switch.worker WHERE ended_by IS NOT NULL AND ended_at IS NULL ORDER BY epoch;

-- worker_end --
-- Only with its lock in our hands: it has no session. $1 the epoch to end.
UPDATE switch.worker SET ended_at = now() WHERE epoch = $1 AND ended_by IS NOT NULL AND ended_at IS NULL RETURNING epoch;

-- worker_resign --
-- By the session that holds the lock. $1 our epoch.
UPDATE switch.worker SET ended_by = epoch, ended_at = now() WHERE epoch = $1 AND ended_by IS NULL;

-- worker_inherited --
-- Ended workers of whose payments none is left.
UPDATE switch.worker SET has_heirs = true
 WHERE ended_at IS NOT NULL AND NOT has_heirs
   AND NOT EXISTS (SELECT FROM switch.open_payment WHERE owner = epoch);

-- ======================================================================== migrations

-- migration_prepare --
CREATE SCHEMA IF NOT EXISTS switch;
CREATE TABLE IF NOT EXISTS switch.migration (
    name       text PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE switch.migration IS 'The migration files that were applied, with their digests.';

-- migration_lock --
-- $1 lock number; waits for another migrate.
SELECT pg_advisory_lock($1);

-- migration_unlock --
SELECT pg_advisory_unlock($1);

-- migration_table --
SELECT to_regclass('switch.migration') IS NOT NULL;

-- migration_list --
SELECT name, sha256 FROM switch.migration ORDER BY name;

-- migration_add --
-- $1 name, $2 sha256.
INSERT INTO switch.migration (name, sha256) VALUES ($1, $2);

-- ======================================================================== journal

-- partition_ensure --
-- $1 days as YYYYMMDD. Returns those that were missing.
SELECT day FROM unnest($1::integer[]) AS day WHERE switch.ensure_partition(day);

-- journal_write --
-- One commit of few entries. $1 epoch, $2..$13 events, $14 $15 bills given back, $16 $17 payments that end, $18..$24 claims and
-- $25..$30 open payments that come.
SELECT switch.journal_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                            $22, $23, $24, $25, $26, $27, $28, $29, $30);

-- journal_claims --
-- What a commit by COPY holds beside its events. $1 $2 bills given back by payments that stay open, $3 $4 payments that are
-- final, $5..$11 claims and $12..$17 open payments that come.
SELECT switch.journal_claims($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- kept_purge --
-- Card numbers whose refund window has ended. $1 today (YYYYMMDD), $2 most rows at once. What is open is not decided yet.
WITH old AS (
    SELECT payment_id, part, coalesce(kiosk_key, stan_key) IS NULL AS bare
      FROM switch.claim
     WHERE sealed_pan IS NOT NULL AND keep_until > 0 AND keep_until < $1
       AND NOT EXISTS (SELECT FROM switch.open_payment WHERE open_payment.payment_id = claim.payment_id)
     LIMIT $2
), gone AS (
    DELETE FROM switch.claim USING old
     WHERE old.bare AND claim.payment_id = old.payment_id AND claim.part = old.part
), emptied AS (
    UPDATE switch.claim SET sealed_pan = NULL, keep_until = 0 FROM old
     WHERE NOT old.bare AND claim.payment_id = old.payment_id AND claim.part = old.part
)
SELECT payment_id FROM old;

-- kept_get --
-- $1 opened_on, $2 payment id. Of an open payment it is not for a refund.
SELECT sealed_pan AS sealed FROM switch.claim
 WHERE opened_on = $1 AND payment_id = $2 AND sealed_pan IS NOT NULL
   AND NOT EXISTS (SELECT FROM switch.open_payment WHERE open_payment.payment_id = claim.payment_id);

-- sealed_hours --
-- Hours whose key some row needs, and the database's clock in seconds since 1970. The hours of card numbers are found by leaps
-- over their index.
WITH RECURSIVE kept (keep_until, start) AS (
    (SELECT keep_until, substring(sealed_pan FOR 5) FROM switch.claim WHERE sealed_pan IS NOT NULL ORDER BY 1, 2 LIMIT 1)
    UNION ALL
    SELECT next.keep_until, next.start
      FROM kept
     CROSS JOIN LATERAL (
           SELECT claim.keep_until, substring(claim.sealed_pan FOR 5) AS start FROM switch.claim
            WHERE claim.sealed_pan IS NOT NULL
              AND (claim.keep_until, substring(claim.sealed_pan FOR 5)) > (kept.keep_until, kept.start)
            ORDER BY 1, 2 LIMIT 1) AS next
)
SELECT ARRAY(SELECT switch.sealed_hour(start) FROM kept
             UNION
             SELECT switch.sealed_hour(sealed) FROM switch.open_payment WHERE sealed IS NOT NULL
             UNION
             SELECT switch.sealed_hour(sealed) FROM switch.script_notice
            ) AS hours,
       extract(epoch FROM clock_timestamp())::float8 AS now_s;

-- notice_add --
-- A kiosk may say it twice. $1 opened on, $2 payment, $3 body, $4 sealed, $5 seconds until it is due again.
INSERT INTO switch.script_notice (opened_on, payment_id, body, sealed, next_at)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) ON CONFLICT DO NOTHING;

-- notice_due --
-- Those that may be sent again, taken by this worker for a while that doubles. $1 seconds of the first, $2 most.
UPDATE switch.script_notice
   SET tries = tries + 1, next_at = now() + make_interval(secs => $1 * power(2, least(tries, 4)))
 WHERE (opened_on, payment_id) IN (SELECT opened_on, payment_id FROM switch.script_notice WHERE next_at <= now()
                                    ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING opened_on, payment_id, body, sealed, extract(epoch FROM now() - made_at)::float8 AS age_s;

-- notice_end --
-- $1 opened on, $2 payment.
DELETE FROM switch.script_notice WHERE opened_on = $1 AND payment_id = $2;

-- claim_purge --
-- Keys of finished payments that nobody can ask for any more. $1 days kept, $2 most rows at once, so that no lock is held long.
-- A card number that may still be refunded stays without them.
WITH old AS (
    SELECT payment_id, part, sealed_pan IS NULL AS bare
      FROM switch.claim
     WHERE coalesce(kiosk_key, stan_key) IS NOT NULL AND made_at < now() - make_interval(days => $1)
       AND NOT EXISTS (SELECT FROM switch.open_payment WHERE open_payment.payment_id = claim.payment_id)
     LIMIT $2
), gone AS (
    DELETE FROM switch.claim USING old
     WHERE old.bare AND claim.payment_id = old.payment_id AND claim.part = old.part
), emptied AS (
    UPDATE switch.claim SET kiosk_key = NULL, stan_key = NULL FROM old
     WHERE NOT old.bare AND claim.payment_id = old.payment_id AND claim.part = old.part
)
SELECT payment_id FROM old;

-- event_writers --
-- Which of these events exist, and who wrote them. $1 opened_on, $2 payment ids, $3 vers.
SELECT opened_on, payment_id, ver, writer_epoch, writer_seq
  FROM switch.payment_event
  JOIN unnest($1::integer[], $2::bigint[], $3::integer[]) AS asked (opened_on, payment_id, ver)
 USING (opened_on, payment_id, ver);

-- claim_holders --
-- Which of these claims exist. $1 kinds, $2 keys.
SELECT kind, key, payment_id FROM switch.held($1, $2);

-- claim_close --
-- Keys that nobody holds are nobody's from now on. $1 keys, $2 what their kiosks are told.
INSERT INTO switch.claim (payment_id, part, opened_on, kiosk_key, closed)
SELECT 0, nextval('switch.claim_closed'), 0, key, code FROM unnest($1::text[], $2::text[]) AS asked (key, code)
ON CONFLICT (kiosk_key) DO NOTHING;

-- payment_by_claim --
-- The payments that hold these claims, every event in order. $1 kinds, $2 keys.
-- One statement, so the events and the sealed data are of one moment.
SELECT held.kind AS claim_kind, held.key AS claim_key, held.closed, event.payment_id, event.opened_on,
       event.ver, event.state::text AS state, event.body, event.link, event.amount, open.sealed
  FROM switch.held($1, $2) AS held
  LEFT JOIN switch.payment_event AS event ON event.opened_on = held.opened_on AND event.payment_id = held.payment_id
  LEFT JOIN switch.open_payment AS open ON open.payment_id = held.payment_id AND open.part = 0
 ORDER BY held.kind, held.key, event.ver;

-- payment_attempts --
-- The frames of one payment as they left, without secrets. $1 opened_on, $2 payment id.
SELECT ver, "row", wall_us, attempt FROM switch.payment_event
 WHERE opened_on = $1 AND payment_id = $2 AND attempt IS NOT NULL
 ORDER BY ver;

-- payment_take_over --
-- Payments of workers that have ended become ours, every event in order. $1 our epoch, $2 most payments.
-- Another heir may be at it too: what it has locked is its own. Who has been ended and does not know it yet gets
-- nothing: it would be given the same page for ever, as its payments are those of an ended worker too.
WITH heir AS (
    SELECT FROM switch.worker WHERE epoch = $1 AND ended_at IS NULL FOR SHARE
), page AS (
    SELECT open.payment_id, open.part
      FROM switch.worker
      JOIN switch.open_payment AS open ON open.owner = worker.epoch
     WHERE worker.ended_at IS NOT NULL AND NOT worker.has_heirs AND EXISTS (SELECT FROM heir)
     ORDER BY open.payment_id
     LIMIT $2
       FOR UPDATE OF open SKIP LOCKED
), taken AS (
    UPDATE switch.open_payment AS open SET owner = $1 FROM page
     WHERE open.payment_id = page.payment_id AND open.part = page.part
    RETURNING open.payment_id, open.opened_on, open.sealed
)
SELECT event.payment_id, event.opened_on, event.ver, event.state::text AS state, event.body, event.link,
       event.amount, taken.sealed
  FROM taken
  JOIN switch.payment_event AS event ON event.opened_on = taken.opened_on AND event.payment_id = taken.payment_id
 ORDER BY event.payment_id, event.ver;

-- payment_every --
-- Every event of every payment that was opened on $1 (YYYYMMDD) or later, in the order of the primary key.
SELECT payment_id, opened_on, ver, state::text AS state, body, link, amount
  FROM switch.payment_event
 WHERE opened_on >= $1
 ORDER BY opened_on, payment_id, ver;

-- ======================================================================== terminals

-- terminal_list --
SELECT terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
       signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv,
       stage, mac_echoes, platform_wrapped, platform_kcv, kiosk_keys
  FROM switch.terminal
 ORDER BY terminal_id;

-- terminal_get --
-- $1 terminal ids.
SELECT terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
       signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv,
       stage, mac_echoes, platform_wrapped, platform_kcv, kiosk_keys
  FROM switch.terminal
 WHERE terminal_id = ANY ($1::text[]);

-- terminal_changed --
-- Rows that another transaction changed since $1 (a transaction id that was still open then, as text), and the next $1.
-- By transaction id, not by time: a late commit must not be missed.
SELECT terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
       signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv,
       stage, mac_echoes, platform_wrapped, platform_kcv, kiosk_keys
  FROM switch.terminal
 WHERE changed_by >= $1::text::xid8;

-- terminal_mark --
-- The oldest transaction that may still commit: what is changed after now has at least this id.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text;

-- terminal_add --
-- $1..$19 the columns of terminal_list.
INSERT INTO switch.terminal (terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number,
                             key_epoch, working_keys, signed_on_us, out_of_service_reason, sign_on_fault,
                             next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes, platform_wrapped, platform_kcv, kiosk_keys)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19);

-- terminal_reserve --
-- Reserve $2 numbers that do not wrap inside. $1 terminal id. Returns the first.
UPDATE switch.terminal
   SET stan_next = CASE WHEN stan_next + $2 - 1 > 999999 THEN 1 ELSE stan_next END + $2
 WHERE terminal_id = $1
RETURNING stan_next - $2;

-- terminal_install --
-- What a sign-on brought. $1 terminal id, $2 working keys, $3 batch number, $4 wall clock in microseconds, $5 the block of
-- the master key that proved them: the next one becomes the active one, and nothing happens when it is neither; $6 working keys of
-- the kiosk in mode translate.
UPDATE switch.terminal
   SET working_keys = $2, batch_number = $3, signed_on_us = $4, key_epoch = key_epoch + 1, sign_on_fault = '',
       kiosk_keys = $6, tmk_wrapped = $5,
       tmk_kcv = CASE WHEN next_tmk_wrapped = $5 THEN next_tmk_kcv ELSE tmk_kcv END,
       next_tmk_kcv = CASE WHEN next_tmk_wrapped = $5 THEN '' ELSE next_tmk_kcv END,
       next_tmk_wrapped = CASE WHEN next_tmk_wrapped = $5 THEN '' ELSE next_tmk_wrapped END,
       changed_by = pg_current_xact_id()
 WHERE terminal_id = $1 AND $5::bytea <> '' AND $5 IN (tmk_wrapped, next_tmk_wrapped)
RETURNING terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
          signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes,
          platform_wrapped, platform_kcv, kiosk_keys;

-- terminal_mac_echo --
-- One more echo test with MAC. $1 terminal id, $2 epoch of the keys that it was made with.
UPDATE switch.terminal SET mac_echoes = mac_echoes + 1, changed_by = pg_current_xact_id()
 WHERE terminal_id = $1 AND key_epoch = $2 AND stage = 'sign_on'
RETURNING terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
          signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes,
          platform_wrapped, platform_kcv, kiosk_keys;

-- terminal_test_query --
-- The marketing system answered for the test account. $1 terminal id.
UPDATE switch.terminal SET test_queries = 1, changed_by = pg_current_xact_id()
 WHERE terminal_id = $1 AND stage = 'mac_echo'
RETURNING terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
          signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes,
          platform_wrapped, platform_kcv, kiosk_keys;

-- terminal_test_payment --
-- A test payment was given back; the trigger asks the journal. $1 terminal id, $2 opened on, $3 payment.
UPDATE switch.terminal SET test_payment_on = $2, test_payment_id = $3, changed_by = pg_current_xact_id()
 WHERE terminal_id = $1 AND stage = 'test_query'
RETURNING terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
          signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes,
          platform_wrapped, platform_kcv, kiosk_keys;

-- terminal_gates --
-- $1 terminal id. Every gate since it was registered last, oldest first.
SELECT gate, proved_at, proof FROM switch.terminal_gate
 WHERE terminal_id = $1
   AND id >= (SELECT max(id) FROM switch.terminal_gate WHERE terminal_id = $1 AND gate = 'registered')
 ORDER BY id;

-- terminal_fault --
-- Keys of a sign-on that do not prove themselves. $1 terminal id, $2 why. What an earlier one brought stays.
UPDATE switch.terminal
   SET sign_on_fault = $2, changed_by = pg_current_xact_id()
 WHERE terminal_id = $1
RETURNING terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
          signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes,
          platform_wrapped, platform_kcv, kiosk_keys;

-- terminal_service --
-- $1 terminal id, $2 in service, $3 reason.
UPDATE switch.terminal
   SET in_service = $2, out_of_service_reason = $3, changed_by = pg_current_xact_id()
 WHERE terminal_id = $1
RETURNING terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
          signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes,
          platform_wrapped, platform_kcv, kiosk_keys;

-- ledger_totals --
-- Debit minus credit of every account, in fen, over all events of payments that were opened on $1 or later.
SELECT line ->> 0 AS account, sum((line ->> 1)::bigint - (line ->> 2)::bigint)::bigint AS balance
  FROM switch.payment_event, jsonb_array_elements(ledger::jsonb) AS line
 WHERE ledger IS NOT NULL AND opened_on >= $1
 GROUP BY 1
 ORDER BY 1;

-- ======================================================================== cases

-- case_open --
-- Payments that wait for a person or a file, every event in order. $1 only this payment id, or NULL; $2 most payments.
WITH page AS (
    SELECT open.payment_id, open.opened_on
      FROM switch.open_payment AS open
     CROSS JOIN LATERAL (
           SELECT state FROM switch.payment_event AS event
            WHERE event.opened_on = open.opened_on AND event.payment_id = open.payment_id
            ORDER BY ver DESC LIMIT 1) AS latest
     WHERE open.part = 0 AND latest.state IN ('SUSPENSE', 'UNPROVEN')
       AND ($1::bigint IS NULL OR open.payment_id = $1)
     ORDER BY open.payment_id
     LIMIT $2
)
SELECT event.payment_id, event.opened_on, event.ver, event.state::text AS state, event."row", event.wall_us, event.body,
       event.link, event.amount
  FROM page
  JOIN switch.payment_event AS event ON event.opened_on = page.opened_on AND event.payment_id = page.payment_id
 ORDER BY event.payment_id, event.ver;

-- case_decisions --
-- Every decision about these payments, oldest first. $1 payment ids.
SELECT id, payment_id, decision, evidence, proposed_by, proposed_at, confirmed_by, confirmed_at, settled_at, outcome
  FROM switch.case_decision
 WHERE payment_id = ANY ($1::bigint[])
 ORDER BY id;

-- case_propose --
-- $1 payment id, $2 decision, $3 evidence, $4 who.
INSERT INTO switch.case_decision (payment_id, decision, evidence, proposed_by) VALUES ($1, $2, $3, $4) RETURNING id;

-- case_confirm --
-- $1 id, $2 who. The table itself refuses the one who proposed it.
UPDATE switch.case_decision SET confirmed_by = $2, confirmed_at = now()
 WHERE id = $1 AND confirmed_at IS NULL AND settled_at IS NULL
RETURNING id;

-- case_withdraw --
-- $1 id. Not any more once it is confirmed.
UPDATE switch.case_decision SET settled_at = now(), outcome = 'withdrawn'
 WHERE id = $1 AND confirmed_at IS NULL AND settled_at IS NULL
RETURNING id;

-- case_outcome --
-- $1 id.
SELECT outcome FROM switch.case_decision WHERE id = $1;

-- case_verdicts --
-- Confirmed and not carried out, about payments of ours. $1 our epoch, $2 most.
SELECT decision.id, decision.payment_id, decision.decision, decision.evidence, decision.proposed_by, decision.confirmed_by
  FROM switch.case_decision AS decision
  JOIN switch.open_payment AS open ON open.payment_id = decision.payment_id
 WHERE open.owner = $1 AND decision.confirmed_at IS NOT NULL AND decision.settled_at IS NULL
 ORDER BY decision.id
 LIMIT $2;

-- case_settle --
-- $1 id, $2 outcome.
UPDATE switch.case_decision SET settled_at = now(), outcome = $2 WHERE id = $1 AND settled_at IS NULL;

-- case_settle_final --
-- Carried out by a worker that died before it could say so: the payment is final by now.
UPDATE switch.case_decision AS decision SET settled_at = now(), outcome = 'done'
 WHERE confirmed_at IS NOT NULL AND settled_at IS NULL
   AND NOT EXISTS (SELECT FROM switch.open_payment AS open WHERE open.payment_id = decision.payment_id);

-- ======================================================================== books

-- projector_lock --
-- One projector at a time, of all workers; until the transaction ends. $1 class, $2 number.
SELECT pg_try_advisory_xact_lock($1, $2);

-- projection_get --
SELECT committed_by, opened_on, payment_id, ver, events FROM switch.projection;

-- projection_plan --
-- Statistics of an hour ago say that reading a whole day is the shortest way to its last second. What it then takes for
-- expensive must not be compiled.
SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true);

-- projection_fold --
-- One batch of events into the books, and the position after it. $1..$4 the position, $5 most events. Events that an open
-- transaction can still write before are left for later. Returns how many there were, and the fault of an event whose ledger
-- lines do not balance: then nothing of this may be committed.
WITH batch AS MATERIALIZED (
    SELECT committed_by, opened_on, payment_id, ver, state, wall_us, amount, body, ledger
      FROM switch.payment_event
     WHERE committed_by >= $1 AND committed_by < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
       AND (committed_by, opened_on, payment_id, ver) > ($1, $2, $3, $4)
     ORDER BY committed_by, opened_on, payment_id, ver
     LIMIT $5
), story AS (
    -- Without a join: whatever the planner believes of a batch, it is sorted once. No JSON holds a control character as it is.
    SELECT opened_on, payment_id, ver, state, amount, wall_us, first_value(ver) OVER events AS first,
           first_value(wall_us) OVER events AS opened_us, string_agg(nullif(body, '{}'), chr(1)) OVER events AS bodies,
           lead(ver) OVER events IS NULL AS is_last
      FROM batch
    WINDOW events AS (PARTITION BY opened_on, payment_id ORDER BY ver)
), folded AS MATERIALIZED (
    -- The bodies as one object, read once: jsonb takes the last of equal names.
    SELECT opened_on, payment_id, ver, state, amount, wall_us, first, opened_us,
           replace(coalesce(bodies, '{}'), '}' || chr(1) || '{', ',')::jsonb AS body
      FROM story
     WHERE is_last
), payments AS (
    -- What only a first event says is known already where this batch holds none; NULL is refused where it should be here.
    INSERT INTO switch.payment AS known (opened_on, payment_id, ver, state, amount, opened_at, changed_at, terminal_id, account,
                                         kiosk_key, rrn, body)
    SELECT opened_on, payment_id, ver, state, amount, to_timestamp(opened_us / 1e6), to_timestamp(wall_us / 1e6),
           CASE first WHEN 1 THEN body ->> 'terminal' ELSE '' END,
           CASE first WHEN 1 THEN body ->> 'account' ELSE '' END,
           CASE first WHEN 1 THEN (body ->> 'terminal') || '|' || (body ->> 'kiosk_date') || '|' || (body ->> 'kiosk_serial')
                      ELSE '' END,
           coalesce(body ->> 'rrn', ''), body
      FROM folded
    ON CONFLICT (opened_on, payment_id) DO UPDATE
       SET ver = EXCLUDED.ver, state = EXCLUDED.state, amount = EXCLUDED.amount, changed_at = EXCLUDED.changed_at,
           rrn = coalesce(EXCLUDED.body ->> 'rrn', known.rrn), body = known.body || EXCLUDED.body
), line AS MATERIALIZED (
    SELECT opened_on, payment_id, ver, one ->> 0 AS account, (one ->> 1)::bigint AS debit, (one ->> 2)::bigint AS credit
      FROM batch
     CROSS JOIN LATERAL jsonb_array_elements(ledger::jsonb) AS one
), unbalanced AS MATERIALIZED (
    SELECT format('payment %s, event %s: ledger lines are off by %s fen', payment_id, ver, sum(debit) - sum(credit)) AS fault
      FROM line GROUP BY opened_on, payment_id, ver HAVING sum(debit) <> sum(credit) LIMIT 1
), balances AS (
    INSERT INTO switch.ledger_balance AS known (opened_on, account, debit, credit)
    SELECT opened_on, account, sum(debit), sum(credit) FROM line
     WHERE NOT EXISTS (SELECT FROM unbalanced)
     GROUP BY opened_on, account
    ON CONFLICT (opened_on, account) DO UPDATE
       SET debit = known.debit + EXCLUDED.debit, credit = known.credit + EXCLUDED.credit
), position AS (
    UPDATE switch.projection
       SET committed_by = last.committed_by, opened_on = last.opened_on, payment_id = last.payment_id, ver = last.ver,
           events = events + (SELECT count(*) FROM batch)
      FROM (SELECT committed_by, opened_on, payment_id, ver FROM batch
             ORDER BY committed_by DESC, opened_on DESC, payment_id DESC, ver DESC LIMIT 1) AS last
)
SELECT (SELECT count(*) FROM batch) AS events, (SELECT fault FROM unbalanced) AS fault;

-- projection_forget --
-- The books only; the next projection makes them again.
WITH payments AS (DELETE FROM switch.payment), balances AS (DELETE FROM switch.ledger_balance)
UPDATE switch.projection SET committed_by = 0, opened_on = 0, payment_id = 0, ver = 0, events = 0;

-- seal_last --
SELECT number, day, committed_by, opened_on, payment_id, ver, events, digest
  FROM switch.chain_seal ORDER BY number DESC LIMIT 1;

-- seal_all --
SELECT number, day, committed_by, opened_on, payment_id, ver, events, digest, sealed_at
  FROM switch.chain_seal ORDER BY number;

-- seal_add --
-- $1 number, $2 day, $3 committed_by, $4 opened_on, $5 payment id, $6 ver, $7 events, $8 digest.
INSERT INTO switch.chain_seal (number, day, committed_by, opened_on, payment_id, ver, events, digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- chain_range --
-- The links between two positions, in the order of projection. $1..$4 after this one, $5..$8 up to that one.
SELECT committed_by, opened_on, payment_id, ver, link
  FROM switch.payment_event
 WHERE committed_by BETWEEN $1 AND $5
   AND (committed_by, opened_on, payment_id, ver) > ($1, $2, $3, $4)
   AND (committed_by, opened_on, payment_id, ver) <= ($5, $6, $7, $8)
 ORDER BY committed_by, opened_on, payment_id, ver;

-- chain_every --
-- Every event of every payment with what its link is made of.
SELECT opened_on, payment_id, ver, state::text AS state, "row", body, ledger, link
  FROM switch.payment_event
 ORDER BY opened_on, payment_id, ver;

-- books_ledger --
SELECT account, debit, credit, balance FROM switch.contract_v1_ledger_balance ORDER BY account;

-- books_suspense --
-- What the account customer_suspense must hold: approved, not final, not yet posted.
SELECT coalesce(sum(amount - (SELECT coalesce(sum((one ->> 4)::bigint) FILTER (WHERE one ->> 6 = 'posted'), 0)
                               FROM jsonb_array_elements(body -> 'postings') AS one)), 0)::bigint
  FROM switch.payment
 WHERE state NOT IN ('COMPLETED', 'DECLINED', 'REVERSED', 'REFUNDED') AND (body ->> 'approved_seen')::boolean;

-- ======================================================================== three-way check

-- threeway_due --
-- Final payments that were never compared, or differed, or have moved since; oldest first.
-- $1 and $2: begun so many seconds ago at least and at most, $3 looked at again after so many seconds, $4 most.
SELECT payment.opened_on, payment.payment_id, payment.ver, payment.state::text AS state, payment.amount,
       payment.body::text AS body
  FROM switch.payment
  LEFT JOIN switch.threeway_check AS checked
         ON checked.opened_on = payment.opened_on AND checked.payment_id = payment.payment_id
 WHERE payment.opened_at BETWEEN now() - make_interval(secs => $2) AND now() - make_interval(secs => $1)
   AND payment.state IN ('COMPLETED', 'DECLINED', 'REVERSED', 'REFUNDED')
   AND (checked.payment_id IS NULL OR checked.ver < payment.ver
        OR (checked.at_risk > 0 AND checked.checked_at < now() - make_interval(secs => $3)))
 ORDER BY payment.opened_at
 LIMIT $4;

-- threeway_set --
-- $1 opened_on, $2 payment id, $3 ver, $4 class, $5 amount, $6 charged, $7 booked, $8 at risk.
INSERT INTO switch.threeway_check (opened_on, payment_id, ver, class, amount, charged, booked, at_risk)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (opened_on, payment_id) DO UPDATE
   SET ver = EXCLUDED.ver, class = EXCLUDED.class, amount = EXCLUDED.amount, charged = EXCLUDED.charged,
       booked = EXCLUDED.booked, at_risk = EXCLUDED.at_risk, checked_at = now();

-- threeway_summary --
-- Payments and fen at risk of each class, and what is not decided yet.
SELECT class, count(*) AS payments, sum(at_risk)::bigint AS at_risk FROM switch.threeway_check GROUP BY class;

-- threeway_unknown --
-- Payments whose outcome nobody knows yet: how many, and the age of the oldest in seconds.
SELECT count(*) AS payments, coalesce(extract(epoch FROM now() - min(opened_at)), 0)::double precision AS oldest_s
  FROM switch.payment WHERE state IN ('REVERSAL_PENDING', 'UNPROVEN', 'SUSPENSE');

-- vitals --
-- $1 seconds for which working keys are good.
SELECT open.stan_open, open.sealed_rows, open.sealed_oldest_s, keys.signed_on, keys.key_age_s
  FROM (SELECT count(*) AS stan_open,
               count(sealed) AS sealed_rows,
               coalesce(extract(epoch FROM now() - min(made_at) FILTER (WHERE sealed IS NOT NULL)), 0)::float8
                   AS sealed_oldest_s
          FROM switch.open_payment
         WHERE part = 0) AS open,
       (SELECT count(*) FILTER (WHERE age_s < $1) AS signed_on, coalesce(max(age_s), 0)::float8 AS key_age_s
          FROM (SELECT extract(epoch FROM now()) - signed_on_us / 1e6 AS age_s
                  FROM switch.terminal
                 WHERE in_service AND signed_on_us > 0) AS terminal) AS keys;

-- ======================================================================== scan for card data

-- scan_tables --
-- Tables with their columns in order, generated ones aside, and which of those (from 0) are the primary key. The admin
-- service's are ours to look into as well: what it copies must not be what the switch keeps out.
SELECT space.nspname::text AS schema, relation.relname::text AS name,
       ARRAY(SELECT attname::text FROM pg_attribute
              WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
              ORDER BY attnum) AS columns,
       ARRAY(SELECT place::integer - 1
               FROM (SELECT attnum, row_number() OVER (ORDER BY attnum) AS place FROM pg_attribute
                      WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS listed
               JOIN pg_index ON indrelid = relation.oid AND indisprimary AND attnum = ANY (indkey)
              ORDER BY place) AS key
  FROM pg_class AS relation
  JOIN pg_namespace AS space ON space.oid = relation.relnamespace
 WHERE space.nspname IN ('switch', 'admin') AND relation.relkind = 'r'
 ORDER BY space.nspname DESC, relation.relname;

-- ======================================================================== keys

-- key_list --
-- Every generation that is not destroyed, or all of one name. $1 name or NULL.
SELECT name, usage, generation, state, kcv, made_at, changed_at
  FROM switch.key
 WHERE CASE WHEN $1::text IS NULL THEN state <> 'destroyed' ELSE name = $1 END
 ORDER BY usage, name, generation;

-- key_get --
-- $1 name, $2 usage, $3 generation. A terminal's block comes from its row.
SELECT key.name, key.usage, key.generation, key.state, key.kcv,
       CASE WHEN key.usage = 'transport' THEN key.wrapped
            WHEN key.usage = 'platform' AND key.state = 'active' THEN terminal.platform_wrapped
            WHEN key.state = 'active' THEN terminal.tmk_wrapped
            WHEN key.state = 'pending' THEN terminal.next_tmk_wrapped
            ELSE '' END AS wrapped
  FROM switch.key
  LEFT JOIN switch.terminal ON key.usage <> 'transport' AND terminal.terminal_id = key.name
 WHERE key.name = $1 AND key.usage = $2 AND key.generation = $3
   FOR UPDATE OF key;

-- key_latest --
-- The generation that an order without a number means: the pending one, else the active one. $1 name, $2 usage.
SELECT generation FROM switch.key
 WHERE name = $1 AND usage = $2 AND state IN ('pending', 'active')
 ORDER BY state DESC LIMIT 1;

-- key_add --
-- The next generation. $1 name, $2 usage, $3 state, $4 check value, $5 block of a transport key. Returns its number.
INSERT INTO switch.key (name, usage, generation, state, kcv, wrapped)
SELECT $1, $2, coalesce(max(generation), 0) + 1, $3, $4, $5 FROM switch.key WHERE name = $1 AND usage = $2
RETURNING generation;

-- key_state --
-- $1 name, $2 usage, $3 generation, $4 state. Whatever is not in use any more is wiped.
UPDATE switch.key SET state = $4, changed_at = now(), wrapped = CASE WHEN $4 IN ('pending', 'active') THEN wrapped ELSE '' END
 WHERE name = $1 AND usage = $2 AND generation = $3;

-- key_supersede --
-- A key that has no pending state is retired and wiped when its successor comes. $1 name, $2 usage.
UPDATE switch.key SET state = 'retired', wrapped = '', changed_at = now()
 WHERE name = $1 AND usage = $2 AND state = 'active'
RETURNING generation, kcv;

-- key_terminal --
-- $1 terminal id, locked until the transaction ends.
SELECT terminal_id, in_service, key_mode, tmk_wrapped, next_tmk_wrapped FROM switch.terminal WHERE terminal_id = $1 FOR UPDATE;

-- key_terminal_next --
-- $1 terminal id, $2 block, $3 check value.
UPDATE switch.terminal SET next_tmk_wrapped = $2, next_tmk_kcv = $3, changed_by = pg_current_xact_id()
 WHERE terminal_id = $1;

-- key_terminal_platform --
-- The kiosk's working keys were under the old one: it signs on again. $1 terminal id, $2 block, $3 check value.
UPDATE switch.terminal
   SET platform_wrapped = $2, platform_kcv = $3, kiosk_keys = NULL, changed_by = pg_current_xact_id()
 WHERE terminal_id = $1;

-- key_terminal_wipe --
-- Without its active key a terminal cannot trade: its working keys go too. $1 terminal id, $2 reason.
UPDATE switch.terminal
   SET tmk_wrapped = '', tmk_kcv = '', working_keys = NULL, signed_on_us = 0, key_epoch = key_epoch + 1,
       in_service = false, out_of_service_reason = $2, changed_by = pg_current_xact_id()
 WHERE terminal_id = $1;

-- key_open_payments --
-- Payments of a terminal that are not final: their reversals need its keys. $1 terminal id.
SELECT count(*)
  FROM switch.open_payment AS open
 CROSS JOIN LATERAL (
       SELECT body::jsonb ->> 'terminal' AS terminal_id FROM switch.payment_event AS event
        WHERE event.opened_on = open.opened_on AND event.payment_id = open.payment_id AND event.ver = 1) AS first
 WHERE open.part = 0 AND first.terminal_id = $1;

-- key_note --
-- $1 who, $2 act, $3 name, $4 usage, $5 generation, $6 check value, $7 detail.
SELECT switch.note_key($1, $2, $3, $4, $5, $6, $7);

-- key_events --
-- $1 name or NULL, $2 seq after which, $3 most.
SELECT seq, wall_us, who, act, name, usage, generation, kcv, detail, link
  FROM switch.key_event
 WHERE seq > $2 AND ($1::text IS NULL OR name = $1)
 ORDER BY seq
 LIMIT $3;

-- key_ceremony_end --
-- Ceremonies and components whose time is over are wiped. Returns what ended.
WITH ended AS (
    UPDATE switch.key_ceremony SET state = 'abandoned', wrapped = ''
     WHERE state IN ('open', 'combined') AND ends_at <= now()
    RETURNING id, name, usage
), wiped AS (
    UPDATE switch.key_component SET sealed = '' FROM ended WHERE ceremony_id = ended.id
)
SELECT name, usage FROM ended;

-- key_ceremony_get --
-- The one that runs. $1 name, $2 usage.
SELECT id, name, usage, family, needed, state, kcv, wrapped, ends_at FROM switch.key_ceremony
 WHERE name = $1 AND usage = $2 AND state IN ('open', 'combined')
   FOR UPDATE;

-- key_ceremony_add --
-- $1 name, $2 usage, $3 family, $4 components, $5 seconds until it ends.
INSERT INTO switch.key_ceremony (name, usage, family, needed, ends_at)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
RETURNING id, name, usage, family, needed, state, kcv, wrapped, ends_at;

-- key_ceremony_state --
-- $1 id, $2 state, $3 check value, $4 block. Components are wiped as soon as nobody needs them.
WITH wiped AS (UPDATE switch.key_component SET sealed = '' WHERE ceremony_id = $1)
UPDATE switch.key_ceremony SET state = $2, kcv = $3, wrapped = $4 WHERE id = $1;

-- key_component_add --
-- $1 ceremony, $2 number, $3 custodian, $4 check value, $5 sealed component.
INSERT INTO switch.key_component (ceremony_id, number, custodian, kcv, sealed) VALUES ($1, $2, $3, $4, $5);

-- key_components --
-- $1 ceremony.
SELECT number, custodian, kcv, sealed, entered_at, confirmed_at FROM switch.key_component
 WHERE ceremony_id = $1 ORDER BY number;

-- key_component_confirm --
-- $1 ceremony, $2 custodian.
UPDATE switch.key_component SET confirmed_at = now()
 WHERE ceremony_id = $1 AND lower(custodian) = lower($2)
RETURNING number;

-- key_propose --
-- $1 act, $2 name, $3 usage, $4 generation, $5 target, $6 who, $7 seconds until it ends.
INSERT INTO switch.key_proposal (act, name, usage, generation, target, proposed_by, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7));

-- key_confirm --
-- The latest one under way; the table itself refuses who proposed it. $1 act, $2 name, $3 usage, $4 generation, $5 target,
-- $6 who.
UPDATE switch.key_proposal SET confirmed_by = $6
 WHERE id = (SELECT max(id) FROM switch.key_proposal
              WHERE act = $1 AND name = $2 AND usage = $3 AND generation = $4 AND target = $5
                AND confirmed_by IS NULL AND ends_at > now())
RETURNING proposed_by;

-- key_transport --
-- The active one. $1 name.
SELECT generation, kcv, wrapped FROM switch.key WHERE name = $1 AND usage = 'transport' AND state = 'active';

-- ======================================================================== batch settlement

-- batch_ask --
-- $1 terminal, $2 date of the key (YYYYMMDD), $3 serial, $4 day (YYYYMMDD), $5 batch number, $6 count, $7 fen.
SELECT code, paid, paid_fen, differing FROM switch.batch_ask($1, $2, $3, $4, $5, $6, $7);

-- batch_details --
-- $1 $2 $3 the settlement's key, $4 serials, $5 fen. Once it is compared nothing more comes to it. Gives how it stands.
WITH here AS (
    SELECT state FROM switch.batch_settlement WHERE terminal_id = $1 AND asked_on = $2 AND serial = $3 FOR SHARE
), come AS (
    INSERT INTO switch.batch_detail (terminal_id, asked_on, serial, payment_serial, fen)
    SELECT $1, $2, $3, detail.serial, detail.fen FROM unnest($4::text[], $5::bigint[]) AS detail (serial, fen), here
     WHERE here.state = 'differs'
    ON CONFLICT (terminal_id, asked_on, serial, payment_serial) DO UPDATE SET fen = EXCLUDED.fen
)
SELECT state FROM here;

-- batch_compare --
-- $1 $2 $3 the settlement's key, $4 how many details the kiosk has sent.
SELECT code, paid, paid_fen, differing FROM switch.batch_compare($1, $2, $3, $4);

-- batch_differences --
-- $1 $2 $3 the settlement's key, $4 most rows.
SELECT payment_serial, kind, kiosk_fen, switch_fen FROM switch.batch_difference
 WHERE terminal_id = $1 AND asked_on = $2 AND serial = $3 ORDER BY payment_serial LIMIT $4;

-- batch_list --
-- Settlements of the last month that do not agree, with their differences, the newest first. $1 most rows.
SELECT settlement.terminal_id, settlement.asked_on, settlement.serial, settlement.day, settlement.batch_number,
       settlement.state, settlement.kiosk_count, settlement.kiosk_fen, settlement.switch_count, settlement.switch_fen,
       settlement.asked_at, difference.payment_serial, difference.kind, difference.kiosk_fen AS kiosk_one,
       difference.switch_fen AS journal_one, difference.payment_id
  FROM switch.batch_settlement AS settlement
  LEFT JOIN switch.batch_difference AS difference USING (terminal_id, asked_on, serial)
 WHERE settlement.state <> 'equal' AND settlement.asked_at > now() - interval '30 days'
 ORDER BY settlement.asked_at DESC, difference.payment_serial
 LIMIT $1;

-- ======================================================================== settlement with the card network

-- settle_due --
-- Batches to settle. $1 day (YYYYMMDD), $2 seconds of it that are over, $3 seconds over which terminals are spread, $4 seconds
-- after which one is asked again, $5 most tries, $6 most rows. Those that were begun first.
(SELECT settlement.terminal_id, terminal.merchant_id, settlement.batch_number
   FROM switch.card_settlement AS settlement JOIN switch.terminal USING (terminal_id)
  WHERE settlement.state IN ('asked', 'differs') AND settlement.asked_at < now() - make_interval(secs => $4)
    AND settlement.tries < $5
  ORDER BY settlement.asked_at LIMIT $6)
UNION ALL
(SELECT terminal.terminal_id, terminal.merchant_id, terminal.batch_number
   FROM switch.terminal
  WHERE terminal.signed_on_us > 0 AND terminal.working_keys IS NOT NULL
    AND (hashtext(terminal.terminal_id) & 65535) / 65536.0 * $3::float8 <= $2::float8
    AND NOT EXISTS (SELECT FROM switch.card_settlement AS settlement
                     WHERE settlement.terminal_id = terminal.terminal_id AND settlement.day >= $1)
  ORDER BY terminal.terminal_id LIMIT $6);

-- settle_begin --
-- $1 terminal, $2 batch number, $3 day (YYYYMMDD), $4 seconds after which one is asked again.
SELECT state, count, fen FROM switch.card_settle_begin($1, $2, $3, $4);

-- settle_details --
-- $1 terminal, $2 batch number.
SELECT stan, fen FROM switch.card_batch($1, $2) WHERE fen > 0 ORDER BY stan;

-- settle_uploaded --
-- $1 terminal, $2 batch number.
UPDATE switch.card_settlement SET state = 'uploaded', uploaded_at = now()
 WHERE terminal_id = $1 AND batch_number = $2 AND state = 'differs';

-- settle_close --
-- 0510 said that the totals agree, or that they differ: the batch is over, and the terminal has its next one, unless a sign-on
-- brought that already. $1 terminal, $2 batch number, $3 state, $4 next batch number.
WITH closed AS (
    UPDATE switch.card_settlement SET state = $3, answered_at = now()
     WHERE terminal_id = $1 AND batch_number = $2 AND state = 'asked'
    RETURNING terminal_id
), moved AS (
    UPDATE switch.terminal SET batch_number = $4, changed_by = pg_current_xact_id()
     WHERE terminal_id = (SELECT terminal_id FROM closed) AND batch_number = $2
    RETURNING terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys,
              signed_on_us, out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes,
              platform_wrapped, platform_kcv, kiosk_keys
)
SELECT * FROM moved
UNION ALL
SELECT terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number, key_epoch, working_keys, signed_on_us,
       out_of_service_reason, sign_on_fault, next_tmk_wrapped, next_tmk_kcv, stage, mac_echoes, platform_wrapped, platform_kcv,
       kiosk_keys
  FROM switch.terminal WHERE terminal_id = $1 AND NOT EXISTS (SELECT FROM moved);

-- settle_list --
-- Batches of the last month that did not agree, or that the host does not settle. $1 tries after which that is so, $2 most rows.
SELECT terminal_id, batch_number, day, state, count, fen, tries FROM switch.card_settlement
 WHERE (state IN ('differs', 'uploaded') OR (state = 'asked' AND tries >= $1)) AND asked_at > now() - interval '30 days'
 ORDER BY asked_at DESC LIMIT $2;

-- ======================================================================== measuring

-- meter_totals --
-- What the server has done so far; the position in the WAL is exact, the counters of others' sessions come later.
SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS wal_bytes, wal.wal_records, wal.wal_fpi,
       base.xact_commit, base.tup_inserted, base.tup_updated, base.tup_deleted
  FROM pg_stat_wal AS wal, pg_stat_database AS base
 WHERE base.datname = current_database();

-- tables_of_schema --
-- Every table of schema $1, and the statement that keeps everybody else out of it. For a benchmark.
SELECT relname AS name, format('LOCK TABLE %I.%I IN ACCESS EXCLUSIVE MODE', $1::text, relname) AS lock
  FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'p') ORDER BY relname;

-- meter_tables --
-- Rows written so far, by table; a day's partition counts as its table.
SELECT regexp_replace(relname, '_[0-9]{8}$', '') AS name, sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint AS rows
  FROM pg_stat_user_tables
 WHERE schemaname = 'switch'
 GROUP BY 1
HAVING sum(n_tup_ins + n_tup_upd + n_tup_del) > 0;

-- meter_size --
SELECT pg_database_size(current_database());

-- preload_columns --
-- Columns of table $1 that can be written.
SELECT attname FROM pg_attribute
 WHERE attrelid = ('switch.' || $1)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
 ORDER BY attnum;

-- preload_finished --
-- Payments that are completed and in the books, at most $1.
SELECT payment_id, opened_on FROM switch.payment WHERE state = 'COMPLETED' ORDER BY payment_id LIMIT $1;

-- preload_rows --
-- A table's rows of the payments $1. The table's name is put in by the caller: no parameter can stand there.
SELECT * FROM switch.{table} WHERE payment_id = ANY($1::bigint[]) ORDER BY payment_id;

-- preload_partition --
SELECT switch.ensure_partition($1);

-- preload_done --
-- What autovacuum would do sooner or later, so that it does not do it while something is measured.
VACUUM (ANALYZE);
