"""Sans-IO state machines: inputs are method calls, time is an argument, effects come back as a list."""
