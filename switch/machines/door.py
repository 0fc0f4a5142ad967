# cython: annotation_typing=False, binding=False
"""How much one caller may ask for, and what wrong MACs lead to; no I/O.

Nobody is punished for what another one did. A terminal's name proves nothing, a right MAC may be a replay, and many
kiosks may share one address. So every limit is kept for what cannot be borrowed: the connection itself, its source
address, or the two of source and terminal. Only a connection on which a payment *began* is known to be the terminal's:
its frame was new, and its MAC right.

    wrong MACs                                 lead to
    ----------------------------------------   -----------------------------------------
    each one                                   ``A0``; one more fault of its source
    the third in a row on a connection         that connection is closed
    … where a payment of that terminal began   the terminal is stopped

A right MAC is looked at and believed however many wrong ones came before it: any bound on guesses would let whoever
shares a kiosk's address, or only knows its name, keep it out. What guessing costs is a connection for each try.

    terminal    input              next
    ---------   ----------------   --------
    open        (third, above)     stopped        takes no new business; what is under way goes on
    stopped     sign-on answered   on trial
    on trial    right MAC          open
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from switch import limits


class Rates(Protocol):
    """What is configured (``[listen.limits]``), a minute each; 0: no limit."""

    @property
    def payments_per_minute(self) -> float: ...
    @property
    def inquiries_per_minute(self) -> float: ...
    @property
    def requests_per_minute(self) -> float: ...
    @property
    def greetings_per_minute(self) -> float: ...
    @property
    def faults_per_minute(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket that remembers one number: when all that was taken would be paid off.

    >>> rate, due = Rate(every_s=5.0, burst=2), 0.0
    >>> due = rate.take(due, 100.0); due = rate.take(due, 100.0); rate.take(due, 100.0) is None
    True
    >>> rate.take(due, 105.0)
    115.0
    """

    every_s: float  # seconds until one token comes back; 0: no limit
    burst: int  # tokens that a caller finds who has been quiet

    def take(self, due: float, now: float) -> float | None:
        """The next ``due``; None: no token is left, and nothing was taken."""
        start = max(due, now)
        return start + self.every_s if start - now <= (self.burst - 1) * self.every_s else None


def _per_minute(tokens: float, burst: int) -> Rate:
    return Rate(60.0 / tokens if tokens else 0.0, burst)


class Buckets:
    """One bucket a key. What was used longest ago is forgotten first: its bucket is full again."""

    def __init__(self, rate: Rate, keys_max: int = limits.DOOR_KEYS_MAX) -> None:
        self._rate = rate
        self._keys_max = keys_max
        self._due: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def take(self, key: str, now: float) -> bool:
        if not self._rate.every_s:
            return True
        due = self._rate.take(self._due.get(key, now), now)
        if due is None:
            return False
        self._due[key] = due
        self._due.move_to_end(key)
        if len(self._due) > self._keys_max:
            self._due.popitem(last=False)
        return True


class Caller:
    """One connection, as far as it has shown who it is. ``source``: its address without the port."""

    __slots__ = ("greeted", "keyed", "proved", "signed_on", "source", "wrong", "wrong_of")

    def __init__(self, source: str) -> None:
        self.source = source
        self.proved = ""  # the terminal whose payment began here
        self.wrong = 0  # wrong MACs in a row
        self.wrong_of = ""  # the terminal that all of them named; "" if several were
        self.greeted = 0.0  # its bucket for greetings: sign-ons and echo tests, which carry no MAC
        self.signed_on = ""  # the terminal that it signed on for, until its first right MAC proves that it has the keys
        self.keyed = ("", "")  # the terminal that it spoke for last, and ``key`` of it

    def key(self, terminal_id: str) -> str:
        """The two of source and terminal."""
        if self.keyed[0] != terminal_id:
            self.keyed = terminal_id, f"{self.source}|{terminal_id}"
        return self.keyed[1]


class Wrong(Enum):
    """What a wrong MAC leads to."""

    ANSWER = "answer"
    HANG_UP = "hang up"
    STOP = "stop"  # the terminal, and hang up


class Door:
    def __init__(self, rates: Rates) -> None:
        self._greetings = _per_minute(rates.greetings_per_minute, limits.GREETINGS_BURST)
        self._faults = Buckets(_per_minute(rates.faults_per_minute, limits.FAULTS_BURST))
        self._requests = Buckets(_per_minute(rates.requests_per_minute, limits.REQUESTS_BURST))
        self._inquiries = Buckets(_per_minute(rates.inquiries_per_minute, limits.INQUIRIES_BURST))
        self._payments = Buckets(_per_minute(rates.payments_per_minute, limits.PAYMENTS_BURST))
        self._stopped: dict[str, bool] = {}  # terminal to whether it is on trial; only real terminals come here

    # -------------------------------------------------------------------------------------------- how much
    def greeting(self, caller: Caller, now: float) -> bool:
        """A sign-on or an echo test; False: too many on this connection."""
        due = self._greetings.take(caller.greeted, now)
        if due is None:
            return False
        caller.greeted = due
        return True

    def fault(self, caller: Caller, now: float) -> bool:
        """A frame that is wrong or nobody's; False: this source has had its answers and its lines in the log."""
        return self._faults.take(caller.source, now)

    def request(self, caller: Caller, terminal_id: str, now: float) -> bool:
        """Anything with a right MAC, repeats and results too."""
        return self._requests.take(caller.key(terminal_id), now)

    def inquiry(self, caller: Caller, terminal_id: str, now: float) -> bool:
        return self._inquiries.take(caller.key(terminal_id), now)

    def payment(self, caller: Caller, terminal_id: str, now: float) -> bool:
        """A payment that would be new; copies of one are only requests."""
        return self._payments.take(caller.key(terminal_id), now)

    # -------------------------------------------------------------------------------------------- MACs
    def wrong_mac(self, caller: Caller, terminal_id: str) -> Wrong:
        caller.wrong_of = terminal_id if caller.wrong == 0 or caller.wrong_of == terminal_id else ""
        caller.wrong += 1
        if caller.wrong < limits.MAC_WRONG_MAX:
            return Wrong.ANSWER
        if not caller.proved or caller.wrong_of != caller.proved or terminal_id in self._stopped:
            return Wrong.HANG_UP
        self._stopped[terminal_id] = False
        return Wrong.STOP

    def right_mac(self, caller: Caller, terminal_id: str) -> bool:
        """True: the terminal was on trial and is open again."""
        caller.wrong = 0
        if not self._stopped.get(terminal_id):
            return False
        del self._stopped[terminal_id]
        return True

    def began(self, caller: Caller, terminal_id: str) -> None:
        """A payment of this terminal began on this connection: nobody else could have asked for it."""
        caller.proved = terminal_id

    # -------------------------------------------------------------------------------------------- stopped terminals
    def signed_on(self, terminal_id: str) -> None:
        if terminal_id in self._stopped:
            self._stopped[terminal_id] = True

    def is_stopped(self, terminal_id: str) -> bool:
        return terminal_id in self._stopped

    @property
    def stopped(self) -> list[str]:
        return list(self._stopped)
