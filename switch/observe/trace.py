"""The last messages of each link, masked, for people who look into a fault.

Bounded in every direction: the links are named at the start, each remembers a fixed number, texts are cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from switch import limits
from switch.observe.log import mask

UNNAMED: Final = "other"  # the ring of whoever was not named at the start


@dataclass(frozen=True, slots=True)
class Traced:
    wall_us: int
    direction: str  # "in" or "out"
    text: str


class Trace:
    """One ring per link name."""

    def __init__(self, links: Sequence[str]) -> None:
        self._rings: dict[str, deque[Traced]] = {
            link: deque(maxlen=limits.TRACE_RING_MAX) for link in (*links, UNNAMED)
        }

    @property
    def links(self) -> tuple[str, ...]:
        return tuple(self._rings)

    def record(self, link: str, direction: str, text: str, wall_us: int) -> None:
        """Remember a message as described for people. Masked once more here, whatever the caller did."""
        ring = self._rings[link if link in self._rings else UNNAMED]
        # Masked before it is cut: the cut could leave the front of a card number that no longer looks like one.
        ring.append(Traced(wall_us, direction, mask(text)[: limits.FRAME_SIZE_MAX]))

    def last(self, link: str, count: int = limits.TRACE_RING_MAX) -> list[Traced]:
        """The last ``count`` messages, oldest first; none for an unknown link."""
        ring = self._rings.get(link)
        return list(ring)[-count:] if ring and count > 0 else []
