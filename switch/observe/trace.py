"""The last messages of each link, for people who look for one: what they may see is picked out when a message passes.

Nothing else of a message is kept: a ring of whole frames would be a store of card data. So it can always be on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from switch.limits import TRACE_RING_MAX

Describe = Callable[[bytes], dict[str, str]]


@dataclass(slots=True, frozen=True)
class Traced:
    number: int  # 1, 2, 3 … over all links
    wall_us: int
    link: str
    direction: str  # "in" or "out"
    peer: str
    size: int
    facts: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "wall_us": self.wall_us,
            "link": self.link,
            "direction": self.direction,
            "peer": self.peer,
            "size": self.size,
            "facts": self.facts,
        }


class Trace:
    """Args:
    describe: By link, what of a message may be shown; whatever it raises is shown as "unreadable".
    """

    def __init__(self, describe: Mapping[str, Describe], wall_us: Callable[[], int]) -> None:
        self._describe = dict(describe)
        self._wall_us = wall_us
        self._rings: dict[str, deque[Traced]] = {link: deque(maxlen=TRACE_RING_MAX) for link in describe}
        self._number = 0

    @property
    def links(self) -> list[str]:
        return list(self._rings)

    def note(self, link: str, direction: str, peer: str, frame: bytes) -> None:
        try:
            facts = self._describe[link](frame)
        except Exception:  # whatever a peer sends must not hurt whoever only looks on
            facts = {"message": "unreadable"}
        self._number += 1
        self._rings[link].append(Traced(self._number, self._wall_us(), link, direction, peer, len(frame), facts))

    def last(self, *, link: str = "", terminal: str = "", after: int = 0, limit: int = TRACE_RING_MAX) -> list[Traced]:
        """The latest ones in their order. ``after``: only those with a higher number."""
        rings = [self._rings[link]] if link else list(self._rings.values())
        found = [
            each
            for ring in rings
            for each in ring
            if each.number > after and (not terminal or each.facts.get("terminal") == terminal)
        ]
        found.sort(key=lambda each: each.number)
        return found[-limit:]
