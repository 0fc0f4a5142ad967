-- demo_org --
-- $1 parent's code, $2 kind, $3 code, $4 name.
INSERT INTO org (parent_id, kind, code, name, path, opens_at, closes_at)
SELECT id, $2, $3, $4, path || $3 || '/', CASE WHEN $2 = 'site' THEN time '08:00' ELSE time '00:00' END,
       CASE WHEN $2 = 'site' THEN time '22:00' ELSE time '24:00' END
  FROM org WHERE code = $1
    ON CONFLICT (code) DO NOTHING;

-- demo_model --
INSERT INTO kiosk_model (vendor, name, system, units)
VALUES ('示例厂商', 'ZT-800', 'Linux', ARRAY['idc', 'pin', 'ptr', 'touch', 'ups', 'door'])
    ON CONFLICT (vendor, name) DO NOTHING;

-- demo_kiosks --
-- A kiosk for each terminal of the switch that has none, spread over the sites.
WITH site AS (
    SELECT id, row_number() OVER (ORDER BY path) - 1 AS number, count(*) OVER () AS sites FROM org WHERE kind = 'site' AND NOT closed
), terminal AS (
    SELECT terminal_id, row_number() OVER (ORDER BY terminal_id) - 1 AS number, in_service
      FROM switch.contract_v1_terminals AS terminal
     WHERE NOT EXISTS (SELECT FROM kiosk WHERE kiosk.terminal_id = terminal.terminal_id)
), added AS (
    INSERT INTO kiosk (code, serial_number, model_id, org_id, terminal_id, line, place, state)
    SELECT 'K-' || terminal.terminal_id, 'SN' || terminal.terminal_id, model.id, site.id, terminal.terminal_id,
           'L' || (site.number + 1), '大厅 ' || (terminal.number / site.sites + 1) || ' 号位',
           CASE WHEN terminal.in_service THEN 'in_service' ELSE 'out_of_service' END
      FROM terminal
      JOIN site ON site.number = terminal.number % site.sites
     CROSS JOIN (SELECT id FROM kiosk_model ORDER BY id LIMIT 1) AS model
    RETURNING id
)
SELECT count(*) FROM added;

-- demo_person --
-- $1 operator, $2 password hash, $3 sealed second factor.
UPDATE operator SET password_hash = $2, one_time_until = NULL, totp_secret = coalesce(totp_secret, $3) WHERE id = $1;

-- demo_totp --
SELECT id, totp_secret FROM operator WHERE login = $1;
