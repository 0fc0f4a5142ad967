"""Numbers over days and months."""
