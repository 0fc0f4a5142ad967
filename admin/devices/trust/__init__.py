"""How the service and kiosks know each other: the device CA, enrolment, signed commands. Pages call this."""
