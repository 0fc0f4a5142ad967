"""What kiosks call: another listener, other credentials, never operator sessions."""
