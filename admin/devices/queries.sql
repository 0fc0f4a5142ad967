-- The registry. Where $1 is paths (text[]), it is what the operator may see: LIKE patterns of org.path.

-- actor --
-- Whom the triggers name for what this transaction changes.
SELECT set_config('admin.actor', $1, true);

-- ============================================================================================== organisations
-- org_tree --
-- $1 paths. Parents first; with how many kiosks stand right there.
SELECT org.id, org.kind, org.code, org.name, org.path, org.opens_at::text AS opens_at, org.closes_at::text AS closes_at,
       org.closed, coalesce(here.kiosks, 0) AS kiosks
  FROM org LEFT JOIN (SELECT org_id, count(*) AS kiosks FROM kiosk WHERE state <> 'retired' GROUP BY org_id) AS here
    ON here.org_id = org.id
 WHERE org.path LIKE ANY ($1::text[])
 ORDER BY org.path COLLATE "C" LIMIT $2;

-- org_find --
-- $1 paths, $2 org.
SELECT org.id, org.parent_id, org.kind, org.code, org.name, org.path, org.address, org.opens_at::text AS opens_at,
       org.closes_at::text AS closes_at, org.closed, org.version, org.created_at,
       parent.name AS parent_name, parent.path AS parent_path,
       (SELECT count(*) FROM org AS child WHERE child.parent_id = org.id AND NOT child.closed) AS children,
       (SELECT count(*) FROM kiosk JOIN org AS inner_org ON inner_org.id = kiosk.org_id
         WHERE starts_with(inner_org.path, org.path) AND kiosk.state <> 'retired') AS kiosks,
       (SELECT id FROM approval WHERE action = 'org.move' AND object_id = org.id::text AND state = 'pending'
           AND expires_at > now()) AS move_asked
  FROM org LEFT JOIN org AS parent ON parent.id = org.parent_id
 WHERE org.id = $2 AND org.path LIKE ANY ($1::text[]);

-- org_lock --
-- $1 paths, $2 org. Stays as it is until the end of the transaction.
SELECT id, parent_id, kind, code, name, path, closed, version FROM org WHERE id = $2 AND path LIKE ANY ($1::text[]) FOR UPDATE;

-- org_choices --
-- $1 paths, $2 kind or NULL. Open ones, as a tree.
SELECT id, name, path, kind FROM org
 WHERE path LIKE ANY ($1::text[]) AND NOT closed AND ($2::text IS NULL OR kind = $2)
 ORDER BY path COLLATE "C" LIMIT $3;

-- org_add --
-- $1 parent, $2 kind, $3 code, $4 name, $5 path, $6 address, $7 opens, $8 closes.
INSERT INTO org (parent_id, kind, code, name, path, address, opens_at, closes_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::time, $8::text::time) RETURNING id;

-- org_edit --
-- $1 org, $2 version, $3 name, $4 address, $5 opens, $6 closes. No row: somebody was faster.
UPDATE org SET name = $3, address = $4, opens_at = $5::text::time, closes_at = $6::text::time, version = version + 1
 WHERE id = $1 AND version = $2 RETURNING version;

-- org_close --
-- $1 org, $2 closed.
UPDATE org SET closed = $2, version = version + 1 WHERE id = $1;

-- org_moved --
-- $1 org, $2 new parent, $3 old path, $4 new path. The subtree keeps its codes, its paths begin anew.
UPDATE org SET path = $4 || substr(path, length($3) + 1), version = version + 1,
       parent_id = CASE WHEN id = $1 THEN $2 ELSE parent_id END
 WHERE starts_with(path, $3);

-- org_row --
-- FOR UPDATE, without scope: an approval carries its own.
SELECT id, parent_id, kind, code, name, path, closed, version FROM org WHERE id = $1 FOR UPDATE;

-- ============================================================================================== models, contracts, groups
-- model_list --
SELECT model.id, model.vendor, model.name, model.system, model.units, model.version,
       (SELECT count(*) FROM kiosk WHERE kiosk.model_id = model.id AND kiosk.state <> 'retired') AS kiosks
  FROM kiosk_model AS model ORDER BY model.vendor, model.name;

-- model_get --
SELECT id, vendor, name, system, units, version FROM kiosk_model WHERE id = $1;

-- model_add --
INSERT INTO kiosk_model (vendor, name, system, units) VALUES ($1, $2, $3, $4) RETURNING id;

-- model_edit --
-- $1 id, $2 version.
UPDATE kiosk_model SET vendor = $3, name = $4, system = $5, units = $6, version = version + 1
 WHERE id = $1 AND version = $2 RETURNING id;

-- contract_list --
SELECT contract.id, contract.code, contract.name, contract.starts_on, contract.ends_on, contract.version,
       contract.ends_on - (now() AT TIME ZONE 'Asia/Shanghai')::date AS days_left,
       (SELECT count(*) FROM kiosk WHERE kiosk.contract_id = contract.id AND kiosk.state <> 'retired') AS kiosks
  FROM contract ORDER BY contract.ends_on DESC, contract.code;

-- contract_get --
SELECT id, code, name, starts_on, ends_on, version FROM contract WHERE id = $1;

-- contract_add --
INSERT INTO contract (code, name, starts_on, ends_on) VALUES ($1, $2, $3, $4) RETURNING id;

-- contract_edit --
-- $1 id, $2 version.
UPDATE contract SET code = $3, name = $4, starts_on = $5, ends_on = $6, version = version + 1
 WHERE id = $1 AND version = $2 RETURNING id;

-- group_list --
-- $1 paths.
SELECT kiosk_group.id, kiosk_group.name, kiosk_group.version, org.name AS org, org.path,
       (SELECT count(*) FROM kiosk_group_member AS member WHERE member.group_id = kiosk_group.id) AS kiosks
  FROM kiosk_group JOIN org ON org.id = kiosk_group.org_id
 WHERE org.path LIKE ANY ($1::text[]) ORDER BY kiosk_group.name;

-- group_get --
-- $1 paths, $2 group.
SELECT kiosk_group.id, kiosk_group.name, kiosk_group.version, kiosk_group.org_id, org.name AS org, org.path
  FROM kiosk_group JOIN org ON org.id = kiosk_group.org_id
 WHERE kiosk_group.id = $2 AND org.path LIKE ANY ($1::text[]);

-- group_add --
INSERT INTO kiosk_group (name, org_id) VALUES ($1, $2) RETURNING id;

-- group_members --
-- $1 paths, $2 group.
SELECT kiosk.id, kiosk.code, kiosk.place, kiosk.state, org.name AS org
  FROM kiosk_group_member AS member JOIN kiosk ON kiosk.id = member.kiosk_id JOIN org ON org.id = kiosk.org_id
 WHERE member.group_id = $2 AND org.path LIKE ANY ($1::text[]) ORDER BY kiosk.code LIMIT 1000;

-- group_join --
-- $1 paths, $2 group, $3 codes. Those in scope and under the group's organisation; returns their codes.
WITH wanted AS (
    SELECT kiosk.id, kiosk.code FROM kiosk JOIN org ON org.id = kiosk.org_id
     WHERE kiosk.code = ANY ($3::text[]) AND org.path LIKE ANY ($1::text[])
       AND starts_with(org.path, (SELECT path FROM org AS top JOIN kiosk_group ON kiosk_group.org_id = top.id
                                   WHERE kiosk_group.id = $2))
), joined AS (
    INSERT INTO kiosk_group_member (group_id, kiosk_id) SELECT $2, id FROM wanted ON CONFLICT DO NOTHING
)
SELECT code FROM wanted ORDER BY code;

-- group_leave --
DELETE FROM kiosk_group_member WHERE group_id = $1 AND kiosk_id = $2;

-- ============================================================================================== kiosks
-- kiosk_list --
-- $1 paths, $2 text, $3 org (with what is under it), $4 model, $5 state, $6 group, $7 what the switch says.
SELECT kiosk.id AS key, {sort} AS sort_value, kiosk.id, kiosk.code, kiosk.serial_number,
       model.vendor || ' ' || model.name AS model, org.name AS org, kiosk.place, kiosk.terminal_id, kiosk.line,
       contract.code AS contract, kiosk.bought_on, kiosk.state, kiosk.state_since,
       CASE WHEN kiosk.terminal_id IS NULL THEN 'none'
            WHEN terminal.terminal_id IS NULL THEN 'unknown'
            WHEN terminal.in_service <> (kiosk.state IN ('trial', 'in_service')) THEN 'differs'
            WHEN terminal.in_service THEN 'open' ELSE 'shut' END AS service
  FROM kiosk
  JOIN org ON org.id = kiosk.org_id
  JOIN kiosk_model AS model ON model.id = kiosk.model_id
  LEFT JOIN contract ON contract.id = kiosk.contract_id
  LEFT JOIN switch.contract_v1_terminals AS terminal ON terminal.terminal_id = kiosk.terminal_id
 WHERE org.path LIKE ANY ($1::text[])
   AND ($2::text IS NULL OR kiosk.code ILIKE '%' || $2 || '%' OR kiosk.serial_number ILIKE '%' || $2 || '%'
        OR kiosk.terminal_id ILIKE '%' || $2 || '%' OR kiosk.place ILIKE '%' || $2 || '%' OR org.name ILIKE '%' || $2 || '%')
   AND ($3::text IS NULL OR starts_with(org.path, (SELECT top.path FROM org AS top WHERE top.id = $3::text::bigint)))
   AND ($4::text IS NULL OR kiosk.model_id = $4::text::bigint)
   AND ($5::text IS NULL OR kiosk.state = $5)
   AND ($6::text IS NULL OR EXISTS (SELECT FROM kiosk_group_member AS member
                                     WHERE member.kiosk_id = kiosk.id AND member.group_id = $6::text::bigint))
   AND ($7::text IS NULL
        OR ($7 = 'differs' AND terminal.in_service <> (kiosk.state IN ('trial', 'in_service')))
        OR ($7 = 'due' AND kiosk.state = 'trial' AND kiosk.state_since < now() - interval '72 hours')
        OR ($7 = 'none' AND terminal.terminal_id IS NULL))
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- kiosk_counts --
-- $1 paths. How many in each state.
SELECT kiosk.state, count(*) AS kiosks FROM kiosk JOIN org ON org.id = kiosk.org_id
 WHERE org.path LIKE ANY ($1::text[]) GROUP BY kiosk.state;

-- kiosk_find --
-- $1 paths, $2 kiosk.
SELECT kiosk.*, org.name AS org_name, org.path AS org_path, org.address AS org_address,
       org.opens_at::text AS opens_at, org.closes_at::text AS closes_at,
       model.vendor || ' ' || model.name AS model_name, model.units, contract.code AS contract_code, contract.name AS contract_name,
       contract.ends_on AS contract_ends_on,
       (SELECT string_agg(kiosk_group.name, ',' ORDER BY kiosk_group.name)
          FROM kiosk_group_member AS member JOIN kiosk_group ON kiosk_group.id = member.group_id
         WHERE member.kiosk_id = kiosk.id) AS groups,
       (SELECT change.to_state FROM kiosk_change AS change
         WHERE change.kiosk_id = kiosk.id AND change.to_state IN ('trial', 'in_service')
         ORDER BY change.id DESC LIMIT 1) AS last_payable,
       (SELECT max(change.at) FROM kiosk_change AS change
         WHERE change.kiosk_id = kiosk.id AND change.to_state = 'commissioning') AS commissioned_at
  FROM kiosk
  JOIN org ON org.id = kiosk.org_id
  JOIN kiosk_model AS model ON model.id = kiosk.model_id
  LEFT JOIN contract ON contract.id = kiosk.contract_id
 WHERE kiosk.id = $2 AND org.path LIKE ANY ($1::text[]);

-- kiosk_lock --
-- $1 kiosk. Nobody else changes it until the end of the transaction.
SELECT version FROM kiosk WHERE id = $1 FOR UPDATE;

-- kiosk_by_code --
-- $1 paths, $2 code.
SELECT kiosk.id FROM kiosk JOIN org ON org.id = kiosk.org_id WHERE kiosk.code = $2 AND org.path LIKE ANY ($1::text[]);

-- kiosk_add --
-- $1 code, $2 serial number, $3 model, $4 org, $5 contract, $6 terminal, $7 line, $8 place, $9 bought on.
INSERT INTO kiosk (code, serial_number, model_id, org_id, contract_id, terminal_id, line, place, bought_on)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id;

-- kiosk_edit --
-- $1 kiosk, $2 version, then as kiosk_add. No row: somebody was faster.
UPDATE kiosk SET code = $3, serial_number = $4, model_id = $5, org_id = $6, contract_id = $7, terminal_id = $8, line = $9,
       place = $10, bought_on = $11
 WHERE id = $1 AND version = $2 RETURNING version;

-- kiosk_step --
-- $1 kiosk, $2 from, $3 to, $4 reason.
UPDATE kiosk SET state = $3, state_reason = $4 WHERE id = $1 AND state = $2 RETURNING version;

-- kiosk_history --
-- $1 kiosk, $2 after this version, $3 how many. Latest first.
SELECT change.at, change.actor, change.version, change.from_state, change.to_state, change.reason, change.changes,
       operator.name AS name
  FROM kiosk_change AS change LEFT JOIN operator ON change.actor = 'u:' || operator.login
 WHERE change.kiosk_id = $1 AND change.version > $2 ORDER BY change.id DESC LIMIT $3;

-- kiosk_taken --
-- Codes, serial numbers and terminals of $1, $2, $3 that are there already.
SELECT code, serial_number, terminal_id FROM kiosk
 WHERE code = ANY ($1::text[]) OR serial_number = ANY ($2::text[]) OR terminal_id = ANY ($3::text[]);

-- import_orgs --
-- $1 paths. Sites by code.
SELECT code, id, name, path FROM org WHERE path LIKE ANY ($1::text[]) AND kind = 'site' AND NOT closed;

-- import_models --
SELECT vendor || ' ' || name AS name, id FROM kiosk_model;

-- import_contracts --
SELECT code, id FROM contract;

-- kiosk_groups --
-- $1 paths, $2 kiosk: groups that may be chosen, and whether it is in them.
SELECT kiosk_group.id, kiosk_group.name, member.kiosk_id IS NOT NULL AS is_member
  FROM kiosk_group JOIN org ON org.id = kiosk_group.org_id
  LEFT JOIN kiosk_group_member AS member ON member.group_id = kiosk_group.id AND member.kiosk_id = $2
 WHERE org.path LIKE ANY ($1::text[]) ORDER BY kiosk_group.name LIMIT 500;

-- ============================================================================================== the switch
-- order_put --
-- $1 kiosk, $2 terminal, $3 in service, $4 reason, $5 by whom.
INSERT INTO kiosk_order AS told (kiosk_id, terminal_id, in_service, reason, asked_by) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (kiosk_id) DO UPDATE
   SET terminal_id = excluded.terminal_id, in_service = excluded.in_service, reason = excluded.reason,
       asked_by = excluded.asked_by, asked_at = clock_timestamp(), tries = 0, tried_at = NULL, done_at = NULL,
       error_code = '', error = '';

-- order_due --
-- $1 seconds between tries, $2 at most so many, $3 how many rows.
SELECT kiosk_id, terminal_id, in_service, reason, asked_at FROM kiosk_order
 WHERE done_at IS NULL
   AND (tried_at IS NULL OR tried_at < now() - make_interval(secs => least($2::float8, $1::float8 * 2 ^ least(tries - 1, 10))))
 ORDER BY tried_at NULLS FIRST LIMIT $3;

-- order_get --
SELECT kiosk_id, terminal_id, in_service, reason, asked_by, asked_at, tries, tried_at, done_at, error_code, error
  FROM kiosk_order WHERE kiosk_id = $1;

-- order_tried --
-- $1 kiosk, $2 asked at (a newer order is another one), $3 done, $4 error code, $5 error.
UPDATE kiosk_order SET tries = tries + 1, tried_at = now(), done_at = CASE WHEN $3 THEN now() END, error_code = $4, error = $5
 WHERE kiosk_id = $1 AND asked_at = $2;

-- terminal_says --
-- What the switch itself says of a terminal. $1 terminal.
SELECT terminal_id, merchant_id, key_mode, in_service, out_of_service_reason, batch_number, key_epoch, signed_on_at
  FROM switch.contract_v1_terminals WHERE terminal_id = $1;

-- terminal_gates --
-- $1 terminal. Since it was registered last, oldest first.
SELECT gate, stage, proved_at, proof FROM switch.contract_v1_terminal_gates AS gates
 WHERE terminal_id = $1
   AND proved_at >= (SELECT max(proved_at) FROM switch.contract_v1_terminal_gates WHERE terminal_id = $1 AND gate = 'registered')
 ORDER BY proved_at;

-- ============================================================================================== gates
-- status_get --
-- $1 kiosk.
SELECT beat_at, skew_ms, units, switch_said, switch_at, address, app, agent, mode, diagnosis, diagnosed_at, resources
  FROM kiosk_status WHERE kiosk_id = $1;

-- gates_passed --
-- $1 kiosk, $2 since its last commissioning.
SELECT DISTINCT ON (gate) gate, passed_at, proof, facts FROM kiosk_gate
 WHERE kiosk_id = $1 AND passed_at >= coalesce($2, '-infinity'::timestamptz) ORDER BY gate, id;

-- gate_add --
INSERT INTO kiosk_gate (kiosk_id, gate, proof, facts) VALUES ($1, $2, $3, $4);

-- kiosks_coming --
-- Those that are looked at for their gates.
SELECT kiosk.id, kiosk.code, model.units,
       (SELECT max(change.at) FROM kiosk_change AS change
         WHERE change.kiosk_id = kiosk.id AND change.to_state = 'commissioning') AS commissioned_at
  FROM kiosk JOIN kiosk_model AS model ON model.id = kiosk.model_id
 WHERE kiosk.state = 'commissioning' ORDER BY kiosk.id LIMIT 1000;

-- propose --
-- A trial that has lasted $1 seconds is proposed for service, once.
INSERT INTO kiosk_change (kiosk_id, actor, version, changes)
SELECT kiosk.id, 'system', kiosk.version, '{"proposal": ["trial", "in_service"]}'
  FROM kiosk
 WHERE kiosk.state = 'trial' AND kiosk.state_since < now() - make_interval(secs => $1)
   AND NOT EXISTS (SELECT FROM kiosk_change AS change
                    WHERE change.kiosk_id = kiosk.id AND change.at >= kiosk.state_since AND change.changes ? 'proposal')
RETURNING kiosk_id;

-- proposed --
-- $1 kiosk, $2 since.
SELECT max(at) FROM kiosk_change WHERE kiosk_id = $1 AND at >= $2 AND changes ? 'proposal';

-- ============================================================================================== certificates
-- certificate_list --
-- $1 paths, $2 text, $3 state.
SELECT certificate.id AS key, {sort} AS sort_value, certificate.id, kiosk.id AS kiosk_id, kiosk.code, org.name AS org,
       certificate.state, certificate.origin, certificate.serial, certificate.not_before, certificate.not_after,
       certificate.asked_at, issuer.name AS issuer, approver.name AS approver, certificate.ended_why,
       CASE WHEN certificate.state = 'active' THEN (extract(epoch FROM certificate.not_after - now()) / 86400)::bigint END AS days_left
  FROM kiosk_certificate AS certificate
  JOIN kiosk ON kiosk.id = certificate.kiosk_id JOIN org ON org.id = kiosk.org_id
  LEFT JOIN operator AS issuer ON issuer.id = certificate.issued_by
  LEFT JOIN operator AS approver ON approver.id = certificate.approved_by
 WHERE org.path LIKE ANY ($1::text[])
   AND ($2::text IS NULL OR kiosk.code ILIKE '%' || $2 || '%' OR certificate.serial ILIKE $2 || '%')
   AND ($3::text IS NULL OR certificate.state = $3)
   AND {after}
 ORDER BY {order} LIMIT {limit};

-- request_list --
-- $1 paths. Those that wait for a second person.
SELECT certificate.id, kiosk.id AS kiosk_id, kiosk.code, kiosk.place, org.name AS org, certificate.asked_at,
       certificate.address, certificate.issued_by, issuer.name AS issuer
  FROM kiosk_certificate AS certificate
  JOIN kiosk ON kiosk.id = certificate.kiosk_id JOIN org ON org.id = kiosk.org_id
  LEFT JOIN operator AS issuer ON issuer.id = certificate.issued_by
 WHERE certificate.state = 'pending' AND org.path LIKE ANY ($1::text[]) ORDER BY certificate.asked_at LIMIT 200;

-- request_get --
-- $1 paths, $2 request.
SELECT certificate.id, certificate.state, certificate.spki_sha256, certificate.asked_at, certificate.address,
       certificate.issued_by, issuer.name AS issuer, kiosk.id AS kiosk_id, kiosk.code, kiosk.serial_number, kiosk.place,
       kiosk.state AS kiosk_state, org.name AS org, org.path AS org_path, model.vendor || ' ' || model.name AS model,
       (SELECT other.spki_sha256 FROM kiosk_certificate AS other
         WHERE other.kiosk_id = kiosk.id AND other.state = 'active') AS active_key
  FROM kiosk_certificate AS certificate
  JOIN kiosk ON kiosk.id = certificate.kiosk_id JOIN org ON org.id = kiosk.org_id
  JOIN kiosk_model AS model ON model.id = kiosk.model_id
  LEFT JOIN operator AS issuer ON issuer.id = certificate.issued_by
 WHERE certificate.id = $2 AND org.path LIKE ANY ($1::text[]);

-- certificate_now --
-- $1 kiosk. The one that works, or the request that waits.
SELECT certificate.id, certificate.state, certificate.origin, certificate.serial, certificate.not_before, certificate.not_after,
       certificate.approved_at, certificate.spki_sha256, issuer.name AS issuer, approver.name AS approver
  FROM kiosk_certificate AS certificate
  LEFT JOIN operator AS issuer ON issuer.id = certificate.issued_by
  LEFT JOIN operator AS approver ON approver.id = certificate.approved_by
 WHERE certificate.kiosk_id = $1 AND certificate.state IN ('active', 'pending') ORDER BY certificate.state;

-- code_open --
-- $1 kiosk. A code that still works.
SELECT code.issued_at, code.expires_at, operator.name AS issuer
  FROM enrolment_code AS code JOIN operator ON operator.id = code.issued_by
 WHERE code.kiosk_id = $1 AND code.used_at IS NULL AND code.void_at IS NULL AND code.expires_at > now();

-- commands_of --
-- The last commands of a kiosk. $1 kiosk, $2 most.
SELECT command.id, command.type, command.args, command.risk, command.reason, command.state, command.created_at,
       command.expires_at, command.delivered_at, command.finished_at, command.result, maker.name AS maker, checker.name AS checker
  FROM kiosk_command AS command
  JOIN operator AS maker ON maker.id = command.created_by
  LEFT JOIN approval ON approval.id = command.approval_id
  LEFT JOIN operator AS checker ON checker.id = approval.checker_id
 WHERE command.kiosk_id = $1
 ORDER BY command.created_at DESC, command.id DESC LIMIT $2;

-- uploads_of --
-- The last files of a kiosk. $1 kiosk, $2 most.
SELECT command_id, kind, name, size, received, state, created_at FROM kiosk_upload
 WHERE kiosk_id = $1 ORDER BY created_at DESC LIMIT $2;

-- command_get --
-- $1 paths, $2 command.
SELECT command.kiosk_id, command.risk, org.path AS org_path
  FROM kiosk_command AS command JOIN kiosk ON kiosk.id = command.kiosk_id JOIN org ON org.id = kiosk.org_id
 WHERE org.path LIKE ANY ($1::text[]) AND command.id = $2;

-- upload_get --
-- The file of a command, once it is whole. $1 paths, $2 command.
SELECT upload.id, upload.kiosk_id, upload.kind, kiosk.code, org.path AS org_path
  FROM kiosk_upload AS upload JOIN kiosk ON kiosk.id = upload.kiosk_id JOIN org ON org.id = kiosk.org_id
 WHERE org.path LIKE ANY ($1::text[]) AND upload.command_id = $2 AND upload.state = 'complete'
 ORDER BY upload.created_at DESC LIMIT 1;

-- kiosk_version --
SELECT version FROM kiosk WHERE id = $1 FOR UPDATE;
