-- Enrolment and commands. Where $1 is paths (text[]), it is what the operator may see: LIKE patterns of org.path.

-- actor --
-- Who changes the kiosk, for its history; until the end of the transaction.
SELECT set_config('admin.actor', $1, true);

-- kiosk_lock --
-- The state of a kiosk that stays locked until the end of the transaction. $1 paths, $2 kiosk.
SELECT k.state FROM kiosk k JOIN org o ON o.id = k.org_id
 WHERE k.id = $2 AND o.path LIKE ANY ($1::text[])
   FOR UPDATE OF k;

-- kiosk_by_serial --
-- $1 serial number. Locked: two requests of one kiosk come one after the other.
SELECT k.id, k.code, k.state, o.path FROM kiosk k JOIN org o ON o.id = k.org_id
 WHERE k.serial_number = $1
   FOR UPDATE OF k;

-- kiosk_advance --
-- One step of a kiosk's life, if it stands where the step begins. $1 kiosk, $2 from, $3 to.
UPDATE kiosk SET state = $3, state_reason = '', state_since = now(), version = version + 1 WHERE id = $1 AND state = $2;

-- code_void --
UPDATE enrolment_code SET void_at = now() WHERE kiosk_id = $1 AND used_at IS NULL AND void_at IS NULL;

-- code_add --
-- $1 kiosk, $2 digest, $3 operator, $4 seconds.
INSERT INTO enrolment_code (kiosk_id, code_sha256, issued_by, expires_at)
VALUES ($1, $2, $3, now() + make_interval(secs => $4));

-- code_find --
-- $1 kiosk, $2 digest. By digest: what takes how long says nothing about the code.
SELECT id, issued_by, used_at IS NOT NULL AS used, void_at IS NOT NULL AS void, expires_at <= now() AS expired
  FROM enrolment_code WHERE kiosk_id = $1 AND code_sha256 = $2
   FOR UPDATE;

-- code_use --
UPDATE enrolment_code SET used_at = now() WHERE id = $1;

-- key_elsewhere --
-- Whether this key was ever another kiosk's, or was revoked. $1 digest of the key, $2 kiosk.
SELECT EXISTS (
    SELECT FROM kiosk_certificate
     WHERE spki_sha256 = $1 AND (kiosk_id <> $2 OR state = 'revoked')
);

-- key_second --
-- Whether the kiosk has another key that works. $1 kiosk, $2 digest of the new key.
SELECT EXISTS (SELECT FROM kiosk_certificate WHERE kiosk_id = $1 AND state = 'active' AND spki_sha256 <> $2);

-- certificate_replace_pending --
UPDATE kiosk_certificate SET state = 'refused', ended_at = now(), ended_why = 'the kiosk asked anew'
 WHERE kiosk_id = $1 AND state = 'pending';

-- certificate_ask --
-- $1 kiosk, $2 digest of the key, $3 request, $4 code, $5 its issuer, $6 digest of the poll token, $7 address.
-- A key that works already cannot be pending beside itself: an active one of the same kiosk ends when this is approved.
INSERT INTO kiosk_certificate (kiosk_id, state, origin, spki_sha256, request, code_id, issued_by, poll_sha256, address)
VALUES ($1, 'pending', 'enrolment', $2, $3, $4, $5, $6, $7)
RETURNING id;

-- certificate_pending --
-- $1 paths, $2 certificate. Kiosk and request stay locked.
SELECT c.id, c.kiosk_id, c.state, c.request, c.issued_by, k.code
  FROM kiosk_certificate c JOIN kiosk k ON k.id = c.kiosk_id JOIN org o ON o.id = k.org_id
 WHERE c.id = $2 AND o.path LIKE ANY ($1::text[])
   FOR UPDATE OF c, k;

-- certificate_supersede --
-- $1 kiosk, $2 operator or NULL, $3 why.
UPDATE kiosk_certificate SET state = 'superseded', ended_at = now(), ended_by = $2, ended_why = $3
 WHERE kiosk_id = $1 AND state = 'active';

-- certificate_approve --
-- $1 id, $2 DER, $3 serial, $4 from, $5 to, $6 operator.
UPDATE kiosk_certificate
   SET state = 'active', certificate = $2, serial = $3, not_before = $4, not_after = $5, approved_by = $6, approved_at = now()
 WHERE id = $1;

-- certificate_refuse --
-- $1 id, $2 operator, $3 why.
UPDATE kiosk_certificate SET state = 'refused', ended_at = now(), ended_by = $2, ended_why = $3 WHERE id = $1;

-- certificate_revoke --
-- $1 paths, $2 kiosk, $3 operator, $4 why.
UPDATE kiosk_certificate c SET state = 'revoked', ended_at = now(), ended_by = $3, ended_why = $4
  FROM kiosk k JOIN org o ON o.id = k.org_id
 WHERE k.id = $2 AND o.path LIKE ANY ($1::text[]) AND c.kiosk_id = k.id AND c.state = 'active'
RETURNING c.id;

-- certificate_poll --
SELECT c.state, c.certificate, k.code FROM kiosk_certificate c JOIN kiosk k ON k.id = c.kiosk_id WHERE c.poll_sha256 = $1;

-- certificate_current --
-- $1 kiosk, $2 digest of the key.
SELECT c.not_after, k.code FROM kiosk_certificate c JOIN kiosk k ON k.id = c.kiosk_id
 WHERE c.kiosk_id = $1 AND c.state = 'active' AND c.spki_sha256 = $2
   FOR UPDATE OF c;

-- certificate_renewed --
-- $1 kiosk, $2 digest of the key, $3 request, $4 DER, $5 serial, $6 from, $7 to.
INSERT INTO kiosk_certificate (kiosk_id, state, origin, spki_sha256, request, certificate, serial, not_before, not_after)
VALUES ($1, 'active', 'renewal', $2, $3, $4, $5, $6, $7);

-- command_kiosk --
-- $1 paths, $2 kiosk: with how many commands wait.
SELECT k.code, k.state,
       (SELECT count(*) FROM kiosk_command c
         WHERE c.kiosk_id = k.id AND c.state IN ('queued', 'delivered', 'running') AND c.expires_at > now()) AS open
  FROM kiosk k JOIN org o ON o.id = k.org_id
 WHERE k.id = $2 AND o.path LIKE ANY ($1::text[])
   FOR UPDATE OF k;

-- command_add --
-- $1 kiosk, $2 type, $3 arguments, $4 risk, $5 reason, $6 operator, $7 approval, $8 seconds it lives. Whole seconds:
-- what is signed has no others.
INSERT INTO kiosk_command (kiosk_id, type, args, risk, reason, created_by, approval_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, date_trunc('second', now() + make_interval(secs => $8)))
RETURNING id, expires_at;

-- command_sign --
UPDATE kiosk_command SET signature = $2 WHERE id = $1;

-- command_cancel --
-- The state it was in. $1 paths, $2 command.
WITH found AS (
    SELECT c.id, c.state FROM kiosk_command c JOIN kiosk k ON k.id = c.kiosk_id JOIN org o ON o.id = k.org_id
     WHERE c.id = $2 AND o.path LIKE ANY ($1::text[])
       FOR UPDATE OF c
), cancelled AS (
    UPDATE kiosk_command SET state = 'cancelled', finished_at = now()
     WHERE id = (SELECT id FROM found WHERE state = 'queued')
)
SELECT state FROM found;

-- commands_old --
-- Nobody fetched them in time, or nobody reported. How many.
WITH old AS (
    UPDATE kiosk_command SET state = 'expired', finished_at = now()
     WHERE state IN ('queued', 'delivered') AND expires_at <= now()
    RETURNING id
)
SELECT count(*) FROM old;
