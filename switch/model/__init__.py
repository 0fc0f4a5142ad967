"""Plain data of the switch: money, identifiers, payments, inputs and effects. No field numbers, no I/O."""
