"""Wiring: frames to machines, effects to adapters; start, recovery and drain. Callbacks only, on a payment's path."""
