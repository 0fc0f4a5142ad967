# cython: annotation_typing=False, binding=False
"""A circuit breaker without I/O: a peer that answers its echo but not its work is left alone for a while.

    closed ── too many silences among the latest requests ──► open
    open   ── its time is over, and an echo was answered after that ──► closed, with nothing remembered

A customer's money is never the probe: while it is open nothing is asked, and the kiosk hears so before the card. Each
time that it opens again soon it stays open twice as long.
"""

from __future__ import annotations

from collections import deque

from switch.limits import (
    BREAKER_FORGETS_S,
    BREAKER_OPEN_MAX_S,
    BREAKER_OPEN_S,
    BREAKER_REQUESTS_MIN,
    BREAKER_SILENT_SHARE,
    BREAKER_WINDOW,
    BREAKER_WINDOW_S,
)


class Breaker:
    def __init__(self) -> None:
        self.is_open = False
        self._recent: deque[tuple[float, bool]] = deque(maxlen=BREAKER_WINDOW)  # when, answered
        self._opened_at = 0.0
        self._closed_at = float("-inf")
        self._open_s = BREAKER_OPEN_S

    def answered(self, now: float) -> None:
        """Any answer of the peer to a request, whatever it says."""
        self._recent.append((now, True))

    def silent(self, now: float) -> bool:
        """A request had no answer in its time. True: it opens now."""
        self._recent.append((now, False))
        while self._recent[0][0] < now - BREAKER_WINDOW_S:
            self._recent.popleft()
        silences = sum(not answered for _, answered in self._recent)
        if self.is_open or len(self._recent) < BREAKER_REQUESTS_MIN:
            return False
        if silences < BREAKER_SILENT_SHARE * len(self._recent):
            return False
        again = now - self._closed_at < BREAKER_FORGETS_S
        self._open_s = min(2 * self._open_s, BREAKER_OPEN_MAX_S) if again else BREAKER_OPEN_S
        self.is_open, self._opened_at = True, now
        return True

    def alive(self, now: float) -> bool:
        """An echo was answered. True: it closes now."""
        if not self.is_open or now < self._opened_at + self._open_s:
            return False
        self.is_open, self._closed_at = False, now
        self._recent.clear()
        return True
