-- audit_lock --
SELECT pg_advisory_xact_lock($1);

-- audit_last --
SELECT seq, chain FROM audit_log ORDER BY seq DESC LIMIT 1;

-- audit_now --
-- As the row will have it, to the microsecond.
SELECT clock_timestamp();

-- audit_add --
INSERT INTO audit_log (seq, at, actor, address, action, object_kind, object_id, org_path, result, reason, detail, record, chain)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- audit_walk --
SELECT seq, at, actor, address, action, object_kind, object_id, org_path, result, reason, detail, record, chain
  FROM audit_log ORDER BY seq;

-- anchor_list --
SELECT day, last_seq, chain, made_at, told_to FROM audit_anchor ORDER BY day;

-- anchor_add --
-- One a day. $1 seq, $2 chain, $3 whom it is told to.
INSERT INTO audit_anchor (day, last_seq, chain, told_to) VALUES ((now() AT TIME ZONE 'Asia/Shanghai')::date, $1, $2, $3)
    ON CONFLICT (day) DO NOTHING RETURNING last_seq;

-- operator_to_sign_in --
-- $1 login.
SELECT id, login, name, state, password_hash, one_time_until, totp_secret, totp_last_step, language
  FROM operator WHERE login = $1;

-- attempt_add --
INSERT INTO login_attempt (login, factor, ok, address, known_as) VALUES ($1, $2, $3, $4, $5);

-- attempt_locked --
-- True while nobody may try: so many failures within a window, and the pause after the last one is not over. A success of the
-- same kind forgets what was before it. $1 login, $2 factor, $3 cookie digest of a known browser, or NULL for all strangers
-- together, $4 failures, $5 window and $6 pause in seconds.
WITH failure AS (
    SELECT at FROM login_attempt
     WHERE login = $1 AND factor = $2 AND NOT ok AND known_as IS NOT DISTINCT FROM $3
       AND at > now() - make_interval(secs => $5::float8 + $6::float8)
       AND at > coalesce((SELECT max(at) FROM login_attempt AS good
                           WHERE good.login = $1 AND good.factor = $2 AND good.ok
                             AND good.known_as IS NOT DISTINCT FROM $3), '-infinity')
), last AS (
    SELECT max(at) AS at FROM failure
)
SELECT coalesce(last.at > now() - make_interval(secs => $6)
                AND (SELECT count(*) FROM failure WHERE failure.at > last.at - make_interval(secs => $5)) >= $4, false)
  FROM last;

-- attempt_failures_totp --
-- Wrong second factors since the last right one, whenever that was. $1 login.
SELECT count(*) FROM login_attempt
 WHERE login = $1 AND factor = 'totp' AND NOT ok
   AND at > coalesce((SELECT max(at) FROM login_attempt AS good
                       WHERE good.login = $1 AND good.factor = 'totp' AND good.ok), '-infinity');

-- attempt_failures_address --
-- $1 address, $2 window in seconds.
SELECT count(*) FROM login_attempt WHERE address = $1 AND NOT ok AND at > now() - make_interval(secs => $2);

-- attempt_known --
-- True when this browser has signed in as this operator before. $1 login, $2 cookie digest.
SELECT EXISTS (SELECT FROM login_attempt WHERE login = $1 AND factor = 'totp' AND ok AND known_as = $2);

-- attempt_prune --
-- $1 days. How many are gone.
WITH gone AS (DELETE FROM login_attempt WHERE at < now() - make_interval(days => $1) RETURNING 1) SELECT count(*) FROM gone;

-- session_add --
-- $1 digest, $2 operator, $3 stage, $4 csrf, $5 seconds, $6 address, $7 browser.
INSERT INTO operator_session (token_sha256, operator_id, stage, csrf, expires_at, address, browser)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5), $6, $7)
RETURNING id;

-- session_get --
-- Who has this token, with the grants that hold now; idle or expired ones are not there. $1 digest, $2 idle seconds,
-- $3 step-up seconds.
SELECT session.id, session.stage, session.csrf, session.seen_at, operator.id AS operator_id, operator.login, operator.name,
       operator.language, coalesce(session.step_up_at > now() - make_interval(secs => $3), false) AS step_up,
       coalesce((SELECT jsonb_agg(jsonb_build_array(role_grant.role, org.path) ORDER BY role_grant.role, org.path)
                   FROM role_grant JOIN org ON org.id = role_grant.org_id
                  WHERE role_grant.operator_id = operator.id AND role_grant.revoked_at IS NULL
                    AND role_grant.valid_from <= now() AND (role_grant.valid_to IS NULL OR role_grant.valid_to > now())),
                '[]') AS grants
  FROM operator_session AS session
  JOIN operator ON operator.id = session.operator_id
 WHERE session.token_sha256 = $1 AND session.ended_at IS NULL AND session.expires_at > now()
   AND session.seen_at > now() - make_interval(secs => $2) AND operator.state = 'active';

-- session_seen --
UPDATE operator_session SET seen_at = now() WHERE id = $1;

-- session_end --
-- $1 session, $2 why.
UPDATE operator_session SET ended_at = now(), ended_why = $2 WHERE id = $1 AND ended_at IS NULL RETURNING operator_id;

-- session_end_all --
-- $1 operator, $2 why, $3 a session that stays, or 0.
UPDATE operator_session SET ended_at = now(), ended_why = $2 WHERE operator_id = $1 AND ended_at IS NULL AND id <> $3;

-- session_end_oldest --
-- More than $2 at once: the oldest end. $1 operator.
UPDATE operator_session SET ended_at = now(), ended_why = 'too_many'
 WHERE id IN (SELECT id FROM operator_session WHERE operator_id = $1 AND ended_at IS NULL AND stage = 'full'
                 AND expires_at > now() ORDER BY seen_at DESC OFFSET $2);

-- operator_touch --
UPDATE operator SET last_seen_at = now() WHERE id = $1;

-- operator_totp --
-- $1 operator, $2 sealed secret.
UPDATE operator SET totp_secret = $2, totp_last_step = 0, version = version + 1 WHERE id = $1;

-- operator_totp_step --
-- Use up a step; no row: another request was faster. $1 operator, $2 step.
UPDATE operator SET totp_last_step = $2 WHERE id = $1 AND totp_last_step < $2 RETURNING id;

-- operator_password --
UPDATE operator SET password_hash = $2, password_changed_at = now(), one_time_until = NULL, version = version + 1
 WHERE id = $1;

-- recovery_replace --
DELETE FROM recovery_code WHERE operator_id = $1;

-- recovery_add --
INSERT INTO recovery_code (operator_id, code_sha256) SELECT $1, unnest($2::bytea[]);

-- recovery_use --
UPDATE recovery_code SET used_at = now() WHERE operator_id = $1 AND code_sha256 = $2 AND used_at IS NULL RETURNING operator_id;

-- approval_add --
INSERT INTO approval (action, object_kind, object_id, object_version, payload, payload_sha256, summary, reason, org_id,
                      maker_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11))
RETURNING id;

-- approval_expire --
-- Whoever asks again need not wait for a loop.
UPDATE approval SET state = 'expired' WHERE state = 'pending' AND expires_at <= now();

-- approval_get --
-- For deciding: nobody else may at the same time. $1 approval.
SELECT approval.*, org.path AS org_path, maker.login AS maker_login, maker.name AS maker_name, expires_at <= now() AS is_over
  FROM approval JOIN org ON org.id = approval.org_id JOIN operator AS maker ON maker.id = approval.maker_id
 WHERE approval.id = $1 FOR UPDATE OF approval;

-- approval_decide --
-- $1 approval, $2 state, $3 checker, $4 answer, $5 outcome.
UPDATE approval SET state = $2, checker_id = $3, checked_at = now(), answer = $4, outcome = $5 WHERE id = $1;

-- approval_withdraw --
UPDATE approval SET state = 'withdrawn', checked_at = now(), answer = $2 WHERE id = $1;

-- session_rotate --
-- Another token, stage and end for the same session: a token seen before a step is worth nothing after it.
-- $1 session, $2 digest, $3 stage, $4 seconds until it ends, $5 the second factor was just shown.
UPDATE operator_session
   SET token_sha256 = $2, stage = $3, expires_at = now() + make_interval(secs => $4), seen_at = now(),
       step_up_at = CASE WHEN $5 THEN now() ELSE step_up_at END
 WHERE id = $1 AND ended_at IS NULL RETURNING id;

-- session_keep --
-- The same for a step-up: the end stays. $1 session, $2 digest.
UPDATE operator_session SET token_sha256 = $2, seen_at = now(), step_up_at = now()
 WHERE id = $1 AND ended_at IS NULL RETURNING id;
