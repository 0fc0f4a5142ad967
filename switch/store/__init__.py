"""PostgreSQL behind the ports ``Journal`` and ``Terminals``, and stand-ins in memory for tests and simulation."""
