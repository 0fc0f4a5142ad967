"""Load tests: kiosks and a monitor from outside, with locust. Imports ``iso8583`` and nothing of the switch."""
