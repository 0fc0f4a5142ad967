"""Pages of monitoring: what loops have found out, shown."""
