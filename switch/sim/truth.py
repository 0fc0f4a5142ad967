"""What really happened at a simulated host: an append-only file of facts, one JSON object a line.

A host writes a fact before the answer that tells of it leaves, so the file knows at least what any peer knows. Its
state is nothing but this file: a host that is killed and started again replays it and comes back knowing. The same
file, read by ``read_charges`` or ``read_postings``, is what checkers compare the switch against.

    card host     opened, sign_on, sign_off, charge, decline, reversal, reversal_refused
    marketing     opened, sign_on, posting, rejected, cancel, undo, cancel_refused
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from switch.errors import StartError
from switch.sim.day import wall_s

Fact = dict[str, Any]

_READ_SIZE: Final = 1 << 20
KIOSKS: Final = "kiosks"  # whose book has these facts
_BOOK: Final = frozenset({"sent", "told", "final"})


@dataclass(slots=True)
class Charge:
    """One purchase at the card host, net of its reversal. Amounts are fen."""

    charged: int
    reversed: int
    rrn: str
    settlement_date: str  # MMDD

    @property
    def net(self) -> int:
        return self.charged - self.reversed


@dataclass(slots=True)
class Posted:
    """One serial at the marketing system, net of its undoing. ``posted`` is fen and 0 once it was undone."""

    posted: int
    cancelled: bool  # a tombstone stands
    receivable: str
    account: str
    reference: str


class TruthLedger:
    """Appends facts. ``write`` only collects; ``flush`` writes everything collected with one system call.

    The owner flushes before it lets answers go. There is no fsync: the file must survive a killed process, not a
    power cut.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._pending: list[bytes] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError("ledger", f"cannot open the ledger {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise StartError(
                "ledger", f"the ledger {self.path} belongs to another running host; give each its own file"
            ) from error
        self._cut_torn_line()

    def replay(self) -> Iterator[Fact]:
        """Every fact so far, oldest first."""
        return read_facts(self.path)

    def write(self, fact: str, **facts: Any) -> None:
        self._pending.append(orjson.dumps({"at": int(wall_s() * 1_000_000), "fact": fact, **facts}))

    def add(self, line: bytes) -> None:
        """As ``write``, of facts that are JSON already: whole lines, the last one without its newline."""
        self._pending.append(line)

    def flush(self) -> None:
        if not self._pending:
            return
        self._pending.append(b"")
        data = b"\n".join(self._pending)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        finally:
            # A full disk: what is left goes first next time, and until then no answer leaves.
            self._pending = [data[written:].removesuffix(b"\n")] if written < len(data) else []

    def close(self) -> None:
        if self._descriptor >= 0:
            self.flush()
            os.close(self._descriptor)  # releases the lock
            self._descriptor = -1

    def _cut_torn_line(self) -> None:
        """A host killed while it wrote leaves half a line, whose answer never left: cut it off."""
        size = os.fstat(self._descriptor).st_size
        end = size
        while end > 0:
            start = max(0, end - _READ_SIZE)
            newline = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._descriptor, end)


class MemoryTruthLedger:
    """The same without a file, for the simulation: what was flushed survives the host, what was not is lost with it."""

    def __init__(self, name: str) -> None:
        self.path = Path(name)
        self.lines: list[bytes] = []
        self._pending: list[bytes] = []

    def open(self) -> MemoryTruthLedger:
        self._pending.clear()
        return self

    def replay(self) -> Iterator[Fact]:
        return read_facts(self)

    def write(self, fact: str, **facts: Any) -> None:
        self._pending.append(orjson.dumps({"at": int(wall_s() * 1_000_000), "fact": fact, **facts}))

    def add(self, line: bytes) -> None:
        self._pending.append(line)

    def flush(self) -> None:
        self.lines += self._pending
        self._pending.clear()

    def close(self) -> None:
        self.flush()


Book = str | Path | MemoryTruthLedger  # where a ledger is


def open_ledger(where: Book) -> TruthLedger | MemoryTruthLedger:
    return where.open() if isinstance(where, MemoryTruthLedger) else TruthLedger(where)


def read_facts(book: Book, host: str | None = None) -> Iterator[Fact]:
    """Facts of a ledger, also while its host still writes; a line that is not finished yet is left out.

    Args:
        host: Whose ledger it must be, "unionpay" or "marketing"; a proof against the wrong book proves nothing.

    Raises:
        ValueError: A finished line is not a fact, or the file is somebody else's; names the file and the line.
    """
    path = book.path if isinstance(book, MemoryTruthLedger) else Path(book)
    with contextlib.ExitStack() as stack:
        lines: Iterable[bytes]
        if isinstance(book, MemoryTruthLedger):
            lines = [line + b"\n" for line in book.lines]
        else:
            lines = stack.enter_context(path.open("rb"))
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                fact = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise ValueError(f"{path}: line {number} is not JSON; the ledger was damaged from outside") from error
            if not isinstance(fact, dict) or not isinstance(fact.get("fact"), str):
                raise ValueError(f'{path}: line {number} is no fact, a JSON object with "fact"; another file?')
            owner = fact.get("host") if fact["fact"] == "opened" else KIOSKS if fact["fact"] in _BOOK else None
            if host is not None and owner not in (None, host):
                raise ValueError(f"{path}: line {number}: expected the ledger of {host}, this is of {owner}")
            yield fact


def read_charges(book: Book) -> dict[tuple[str, str, str], Charge]:
    """Net truth of the card host by (terminal, batch, stan). Purchases that charged nothing are not in it."""
    charges: dict[tuple[str, str, str], Charge] = {}
    for fact in read_facts(book, "unionpay"):
        match fact["fact"]:
            case "charge":
                key = (fact["terminal"], fact["batch"], fact["stan"])
                assert key not in charges, "a host never charges one key twice"
                charges[key] = Charge(fact["fen"], 0, fact["rrn"], fact["settlement_date"])
            case "reversal":
                charges[fact["terminal"], fact["batch"], fact["stan"]].reversed += fact["fen"]
    return charges


def read_postings(book: Book) -> dict[str, Posted]:
    """Net truth of the marketing system by serial. Serials that were only refused are not in it."""
    postings: dict[str, Posted] = {}
    for fact in read_facts(book, "marketing"):
        match fact["fact"]:
            case "posting":
                # A host that does not know serials posts again what it has posted; then the sum is no month's amount.
                known = postings.get(fact["serial"])
                already = known.posted if known is not None else 0
                postings[fact["serial"]] = Posted(
                    already + fact["fen"], False, fact["receivable"], fact["account"], fact["reference"]
                )
            case "undo":
                posting = postings[fact["serial"]]
                posting.posted -= fact["fen"]
                posting.cancelled = True
            case "cancel":
                postings[fact["serial"]] = Posted(0, True, "", "", "")
    return postings
