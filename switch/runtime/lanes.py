"""Reversal lanes: at most one outstanding reversal for each terminal, in the order in which they came due.

Terminals are independent of each other. A reversal that is never answered keeps only its own terminal's lane, and only
until its time is over; then the next one of that terminal has its turn. Nothing leaves a lane but by being decided.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Lane(Generic[T]):
    since: OrderedDict[int, float] = field(default_factory=OrderedDict)  # payments that must be reversed, since when
    sending: T | None = None
    waiting: deque[T] = field(default_factory=deque)


class Lanes(Generic[T]):
    """``T``: whoever sends; compared by identity."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[T]] = {}

    def begin(self, terminal_id: str, payment_id: int, now: float) -> None:
        """This payment must be reversed."""
        self._lanes.setdefault(terminal_id, _Lane()).since.setdefault(payment_id, now)

    def end(self, terminal_id: str, payment_id: int, sender: T) -> T | None:
        """It need not any more. Returns whose turn it is now, if that changes."""
        lane = self._lanes.get(terminal_id)
        if lane is None:
            return None
        lane.since.pop(payment_id, None)
        if sender in lane.waiting:
            lane.waiting.remove(sender)
        following = self.free(terminal_id, sender)
        if not lane.since and lane.sending is None and not lane.waiting:
            del self._lanes[terminal_id]
        return following

    def take(self, terminal_id: str, sender: T) -> bool:
        """True: send now, the lane is yours until ``free``. False: you wait, and ``free`` will name you."""
        lane = self._lanes.setdefault(terminal_id, _Lane())
        if lane.sending is None or lane.sending is sender:
            lane.sending = sender
            return True
        if sender not in lane.waiting:
            lane.waiting.append(sender)
        return False

    def free(self, terminal_id: str, sender: T) -> T | None:
        """The outstanding reversal is answered, given up or never left. Returns whose turn it is now."""
        lane = self._lanes.get(terminal_id)
        if lane is None or lane.sending is not sender:
            return None
        lane.sending = lane.waiting.popleft() if lane.waiting else None
        return lane.sending

    def is_waiting(self, terminal_id: str, sender: T) -> bool:
        lane = self._lanes.get(terminal_id)
        return lane is not None and sender in lane.waiting

    def oldest(self, terminal_id: str) -> float | None:
        """Since when the terminal has a reversal that is not decided. None: it has none."""
        lane = self._lanes.get(terminal_id)
        return None if lane is None or not lane.since else next(iter(lane.since.values()))

    @property
    def depth(self) -> int:
        return sum(len(lane.since) for lane in self._lanes.values())

    def oldest_of_all(self) -> float | None:
        return min((next(iter(lane.since.values())) for lane in self._lanes.values() if lane.since), default=None)
