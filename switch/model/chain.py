# cython: annotation_typing=False, binding=False
"""Hashes that tie events together: whoever changes, removes or adds one breaks all later ones."""

from __future__ import annotations

import hashlib

_EMPTY = hashlib.sha256()  # a copy of it costs a third of looking the algorithm up each time


def event_link(
    previous: bytes, payment_id: int, ver: int, state: str, row: str, body: bytes, ledger: bytes | None
) -> bytes:
    """The hash of an event: over the one before it of the same payment, and what it says."""
    head = f"{payment_id}|{ver}|{state}|{row}|".encode()
    link = _EMPTY.copy()
    link.update(b"".join((previous, head, body, b"|", ledger or b"")))
    return link.digest()
