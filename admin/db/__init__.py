"""The database: pool, migrations, named statements."""
