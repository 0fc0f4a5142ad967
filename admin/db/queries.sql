-- migration_table --
-- True when there is something to compare with.
SELECT to_regclass('admin.migration') IS NOT NULL;

-- migration_prepare --
CREATE SCHEMA IF NOT EXISTS admin;

-- migration_prepare_table --
CREATE TABLE IF NOT EXISTS admin.migration (
    name       text PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- migration_lock --
SELECT pg_advisory_lock($1);

-- migration_list --
SELECT name, sha256 FROM admin.migration;

-- migration_add --
INSERT INTO admin.migration (name, sha256) VALUES ($1, $2);

-- migration_grant --
-- The service asks at its start whether the schema is what it needs.
GRANT SELECT ON admin.migration TO gridswitch_admin;

-- server_check --
-- What must be true of a server before we trust it, and whose rights we have.
SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS in_recovery, current_user AS role;
