"""Wire to model and back: the only rooms that know field numbers, tags and codes of the peers."""
