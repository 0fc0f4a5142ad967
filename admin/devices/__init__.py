"""The registry of organisations, sites and kiosks."""
