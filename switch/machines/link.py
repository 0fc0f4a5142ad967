# cython: annotation_typing=False, binding=False
"""One kept link to an upstream, as a state machine without I/O.

    state     input              effects     next
    --------  -----------------  ----------  --------
    down      connected          PROBE       probing
    probing   answered           UP          up
    probing   due (no answer)    RESET       down
    up        due (idle)         PROBE       up
    up        due (no answer)    RESET       down      two signs of life missed: the idle time and the echo's time-out
    any       lost               DOWN if up  down

A POS link is up when an echo on its service terminal is answered; sign-on belongs to each terminal. The marketing
link is probed by its sign-on first and echoes after that. While frames keep coming nothing is probed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from switch.limits import TimeProfile


class LinkState(StrEnum):
    DOWN = "down"
    PROBING = "probing"
    UP = "up"


class LinkEffect(StrEnum):
    PROBE = "probe"  # send a sign-on or echo; its answer is the input ``answered``
    UP = "up"
    DOWN = "down"
    RESET = "reset"  # close the connection; the dialer opens another after its back-off


NEVER = float("inf")


UP: Final = LinkState.UP  # bound once: to find a member of an Enum costs Python 3.11 as much as a call


class Link:
    def __init__(self, times: TimeProfile) -> None:
        self.state = LinkState.DOWN
        self.deadline = NEVER  # monotonic seconds; call ``due`` once it has passed
        self._times = times
        self._probe_outstanding = False

    @property
    def is_up(self) -> bool:
        return self.state is UP

    def connected(self, now: float) -> list[LinkEffect]:
        self.state = LinkState.PROBING
        return self._probe(now)

    def answered(self, now: float) -> list[LinkEffect]:
        """The probe was answered with success."""
        self._probe_outstanding = False
        self.deadline = now + self._times.echo_idle_s
        if self.state is LinkState.PROBING:
            self.state = LinkState.UP
            return [LinkEffect.UP]
        return []

    def heard(self, now: float) -> None:
        """Any frame of the peer: a link that carries traffic needs no echo."""
        if self.state is LinkState.UP:
            self._probe_outstanding = False
            self.deadline = now + self._times.echo_idle_s

    def due(self, now: float) -> list[LinkEffect]:
        if self.state is LinkState.DOWN or now < self.deadline:
            return []
        if self._probe_outstanding:
            return [*self.lost(now), LinkEffect.RESET]
        return self._probe(now)

    def lost(self, now: float) -> list[LinkEffect]:
        was_up = self.state is LinkState.UP
        self.state = LinkState.DOWN
        self.deadline = NEVER
        self._probe_outstanding = False
        return [LinkEffect.DOWN] if was_up else []

    def _probe(self, now: float) -> list[LinkEffect]:
        self._probe_outstanding = True
        self.deadline = now + self._times.echo_timeout_s
        return [LinkEffect.PROBE]
