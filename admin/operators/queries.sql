-- own_sessions --
SELECT id, created_at, seen_at, expires_at, address, browser FROM operator_session
 WHERE operator_id = $1 AND ended_at IS NULL AND expires_at > now() AND stage = 'full' ORDER BY seen_at DESC;

-- own_session_end --
UPDATE operator_session SET ended_at = now(), ended_why = 'own' WHERE id = $1 AND operator_id = $2 AND ended_at IS NULL;

-- own_language --
UPDATE operator SET language = $2 WHERE id = $1;

-- recovery_left --
SELECT count(*) FROM recovery_code WHERE operator_id = $1 AND used_at IS NULL;

-- operator_list --
-- $1 paths, $2 text, $3 state, $4 role.
SELECT operator.id AS key, {sort} AS sort_value, operator.id, operator.login, operator.name, operator.employer, org.name AS org,
       operator.state, operator.last_seen_at, operator.totp_secret IS NOT NULL AS has_totp,
       (SELECT string_agg(DISTINCT role_grant.role, ',' ORDER BY role_grant.role) FROM role_grant
         WHERE role_grant.operator_id = operator.id AND role_grant.revoked_at IS NULL
           AND (role_grant.valid_to IS NULL OR role_grant.valid_to > now())) AS roles
  FROM operator JOIN org ON org.id = operator.org_id
 WHERE org.path LIKE ANY ($1::text[])
   AND ($2::text IS NULL OR operator.login ILIKE '%' || $2 || '%' OR operator.name ILIKE '%' || $2 || '%')
   AND ($3::text IS NULL OR operator.state = $3)
   AND ($4::text IS NULL OR EXISTS (SELECT FROM role_grant WHERE role_grant.operator_id = operator.id
                                       AND role_grant.role = $4 AND role_grant.revoked_at IS NULL))
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- operator_get --
-- $1 paths, $2 operator.
SELECT operator.*, org.name AS org_name, org.path AS org_path, creator.name AS creator
  FROM operator JOIN org ON org.id = operator.org_id LEFT JOIN operator AS creator ON creator.id = operator.created_by
 WHERE org.path LIKE ANY ($1::text[]) AND operator.id = $2;

-- operator_version --
SELECT version FROM operator WHERE id = $1 FOR UPDATE;

-- login_taken --
SELECT EXISTS (SELECT FROM operator WHERE login = $1);

-- operator_add --
INSERT INTO operator (login, name, employer, org_id, email, phone, password_hash, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id;

-- operator_by_login --
SELECT id FROM operator WHERE login = $1;

-- operator_state --
UPDATE operator SET state = $2, version = version + 1 WHERE id = $1;

-- operator_one_time --
-- $1 operator, $2 hash, $3 seconds.
UPDATE operator SET password_hash = $2, password_changed_at = now(), version = version + 1,
       one_time_until = now() + make_interval(secs => $3) WHERE id = $1;

-- operator_no_totp --
UPDATE operator SET totp_secret = NULL, version = version + 1 WHERE id = $1 RETURNING login;

-- recovery_gone --
DELETE FROM recovery_code WHERE operator_id = $1;

-- totp_forgiven --
-- Wrong codes before a reset count no more.
DELETE FROM login_attempt WHERE login = $1 AND factor = 'totp' AND NOT ok;

-- sessions_end --
UPDATE operator_session SET ended_at = now(), ended_why = $2 WHERE operator_id = $1 AND ended_at IS NULL;

-- operator_grants --
SELECT role_grant.id, role_grant.role, org.name AS org, org.path, org.id AS org_id, role_grant.valid_from, role_grant.valid_to,
       role_grant.revoked_at, role_grant.approval_id, giver.name AS giver
  FROM role_grant JOIN org ON org.id = role_grant.org_id LEFT JOIN operator AS giver ON giver.id = role_grant.granted_by
 WHERE role_grant.operator_id = $1
 ORDER BY role_grant.revoked_at NULLS FIRST, role_grant.role, org.path;

-- grant_add --
INSERT INTO role_grant (operator_id, role, org_id, valid_from, valid_to, granted_by, approval_id)
VALUES ($1, $2, $3, coalesce($4, now()), $5, $6, $7);

-- grant_get --
SELECT role_grant.id, role_grant.role, role_grant.operator_id, org.path FROM role_grant JOIN org ON org.id = role_grant.org_id
 WHERE role_grant.id = $1 AND role_grant.revoked_at IS NULL;

-- grant_revoke --
UPDATE role_grant SET revoked_at = now(), revoked_by = $2 WHERE id = $1 AND revoked_at IS NULL;

-- org_get --
SELECT id, name, path, kind FROM org WHERE id = $1 AND NOT closed;

-- org_choices --
-- $1 paths.
SELECT id, name, path, kind FROM org WHERE path LIKE ANY ($1::text[]) AND NOT closed ORDER BY path;

-- session_list --
-- $1 paths, $2 text.
SELECT session.id AS key, {sort} AS sort_value, session.id, operator.login, operator.name, org.name AS org,
       session.created_at, session.seen_at, session.address, session.browser
  FROM operator_session AS session
  JOIN operator ON operator.id = session.operator_id
  JOIN org ON org.id = operator.org_id
 WHERE session.ended_at IS NULL AND session.expires_at > now() AND session.stage = 'full'
   AND session.seen_at > now() - interval '15 minutes'
   AND org.path LIKE ANY ($1::text[])
   AND ($2::text IS NULL OR operator.login ILIKE '%' || $2 || '%' OR operator.name ILIKE '%' || $2 || '%')
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- session_owner --
-- $1 paths, $2 session.
SELECT session.id, operator.login, org.path FROM operator_session AS session
  JOIN operator ON operator.id = session.operator_id JOIN org ON org.id = operator.org_id
 WHERE org.path LIKE ANY ($1::text[]) AND session.id = $2 AND session.ended_at IS NULL;

-- session_end --
UPDATE operator_session SET ended_at = now(), ended_why = 'ended' WHERE id = $1 AND ended_at IS NULL;

-- approval_list --
-- $1 {operator, paths by action}: what one asked oneself, and what one may check. $2 which, $3 state, $4 action.
SELECT approval.id AS key, {sort} AS sort_value, approval.id, approval.action, approval.summary, approval.state, approval.made_at,
       approval.expires_at, approval.checked_at, maker.name AS maker, checker.name AS checker, org.name AS org
  FROM approval
  JOIN org ON org.id = approval.org_id
  JOIN operator AS maker ON maker.id = approval.maker_id
  LEFT JOIN operator AS checker ON checker.id = approval.checker_id
 WHERE (approval.maker_id = ($1::jsonb ->> 'operator')::bigint
        OR EXISTS (SELECT FROM jsonb_array_elements_text($1::jsonb -> 'paths' -> approval.action) AS mine
                    WHERE org.path LIKE mine.value))
   AND CASE coalesce($2::text, 'todo')
         WHEN 'todo' THEN approval.state = 'pending' AND approval.expires_at > now()
                          AND approval.maker_id <> ($1::jsonb ->> 'operator')::bigint
         WHEN 'mine' THEN approval.maker_id = ($1::jsonb ->> 'operator')::bigint
         ELSE true END
   AND ($3::text IS NULL OR approval.state = $3)
   AND ($4::text IS NULL OR approval.action = $4)
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- approval_get --
SELECT approval.*, maker.name AS maker, maker.login AS maker_login, checker.name AS checker, org.name AS org, org.path AS org_path,
       approval.expires_at <= now() AS is_over
  FROM approval
  JOIN org ON org.id = approval.org_id
  JOIN operator AS maker ON maker.id = approval.maker_id
  LEFT JOIN operator AS checker ON checker.id = approval.checker_id
 WHERE approval.id = $1;

-- audit_list --
-- $1 paths, $2 actor, $3 action, $4 object, $5 result, $6 from, $7 until.
SELECT audit_log.seq AS key, {sort} AS sort_value, seq, at, actor, address, action, object_kind, object_id,
       nullif(concat_ws(':', nullif(object_kind, ''), nullif(object_id, '')), '') AS object, result, reason
  FROM audit_log
 WHERE (org_path LIKE ANY ($1::text[]))
   AND ($2::text IS NULL OR actor = $2 OR actor = 'u:' || $2)
   AND ($3::text IS NULL OR action LIKE $3 || '%')
   AND ($4::text IS NULL OR object_id = $4)
   AND ($5::text IS NULL OR result = $5)
   AND ($6::timestamptz IS NULL OR at >= $6)
   AND ($7::timestamptz IS NULL OR at < $7)
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- audit_get --
SELECT * FROM audit_log WHERE org_path LIKE ANY ($1::text[]) AND seq = $2;

-- anchors --
SELECT day, last_seq, encode(chain, 'hex') AS chain, made_at, told_to FROM audit_anchor ORDER BY day DESC LIMIT 400;

-- org_by_code --
SELECT id, name, path FROM org WHERE code = $1;
