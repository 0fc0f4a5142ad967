"""Sockets: bytes to frames and back, kiosks accepted, upstreams dialled. No message is understood here."""
