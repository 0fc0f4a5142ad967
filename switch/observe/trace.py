# cython: annotation_typing=False, binding=False
"""The last messages of each link, for people who look for one: what they may see is picked out when a message passes.

Of a message that may carry card data nothing else is kept: a ring of whole frames would be a store of it. So the trace
can always be on.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Protocol

from switch.limits import TRACE_RING_MAX


class Shown(Protocol):
    """What of a link's messages may be seen."""

    def take(self, frame: bytes, /) -> Any:
        """All that is kept of a message. Whatever it raises: the message is shown as "unreadable"."""
        ...

    def tell(self, taken: Any, /) -> dict[str, str]:
        """The same in words; whatever it raises counts as above."""
        ...


@dataclass(slots=True, frozen=True)
class Traced:
    number: int  # 1, 2, 3 … over all links
    wall_us: int
    link: str
    direction: str  # "in" or "out"
    peer: str
    size: int
    facts: dict[str, str]
    frame: bytes = b""  # where it was asked for, and may be seen

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "wall_us": self.wall_us,
            "link": self.link,
            "direction": self.direction,
            "peer": self.peer,
            "size": self.size,
            "facts": self.facts,
            **({"frame": self.frame.hex()} if self.frame else {}),
        }


_UNREADABLE: Final = object()
_Kept = tuple[int, int, str, str, int, Any]  # number, wall_us, direction, peer, size, what was taken


class Trace:
    """Args:
    shown: By link.
    wall_us: Microseconds since 1970, UTC.
    whole: Links whose messages carry no card data and are kept as they are: ``take`` returns the frame.
    """

    def __init__(
        self, shown: Mapping[str, Shown], wall_us: Callable[[], int], *, whole: frozenset[str] = frozenset()
    ) -> None:
        self._whole = whole
        self._shown = dict(shown)
        self._wall_us = wall_us
        self._rings: dict[str, deque[_Kept]] = {link: deque(maxlen=TRACE_RING_MAX) for link in shown}
        self._number = count(1).__next__

    @property
    def links(self) -> list[str]:
        return list(self._rings)

    def tap(self, link: str) -> Callable[[str, str, bytes], None]:
        """For the wires of a link: called with "in" or "out", the peer and each frame."""
        take, keep, wall_us = self._shown[link].take, self._rings[link].append, self._wall_us
        number = self._number

        def note(direction: str, peer: str, frame: bytes) -> None:
            try:
                taken = take(frame)
            except Exception:  # whatever a peer sends must not hurt whoever only looks on
                taken = _UNREADABLE
            keep((number(), wall_us(), direction, peer, len(frame), taken))

        return note

    def last(
        self,
        *,
        link: str = "",
        terminal: str = "",
        after: int = 0,
        limit: int = TRACE_RING_MAX,
        frames: bool = False,
    ) -> list[Traced]:
        """The latest ones in their order.

        Args:
            after: Only those with a higher number.
            frames: With the message itself, on links whose messages are kept whole.
        """
        found = [
            traced
            for name in ([link] if link else self._rings)
            for kept in self._rings[name]
            if kept[0] > after
            for traced in (self._told(name, kept, frames),)
            if not terminal or traced.facts.get("terminal") == terminal
        ]
        found.sort(key=lambda each: each.number)
        return found[-limit:]

    def _told(self, link: str, kept: _Kept, frames: bool) -> Traced:
        number, wall_us, direction, peer, size, taken = kept
        facts = {"message": "unreadable"}
        if taken is not _UNREADABLE:
            with contextlib.suppress(Exception):  # as above
                facts = self._shown[link].tell(taken)
        frame = taken if frames and link in self._whole and isinstance(taken, bytes) else b""
        return Traced(number, wall_us, link, direction, peer, size, facts, frame)
