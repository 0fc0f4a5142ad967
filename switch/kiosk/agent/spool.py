"""What must outlive a power cut: events and sessions until the service has them, counters, which commands were done.

    FileSpool     one SQLite file in WAL mode, synced at every commit: what ``put`` returned for is there after a kill
                  or a power cut
    MemorySpool   the same, in memory, for simulated agents: it outlives their simulated power cuts

Each start of the agent is a boot with a name of its own; within it events and sessions are numbered from 1, so that the
service can tell what is missing. A spool that is full loses its oldest, and the service is told which numbers.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from switch.errors import UnavailableError
from switch.kiosk.agent import limits

STREAMS: Final = ("events", "sessions")


@dataclass(frozen=True)
class Batch:
    """The oldest of a stream. ``first``: the lowest number still held, or the one that comes next."""

    boot_id: str
    first: int
    items: tuple[tuple[int, bytes], ...]  # number, JSON


@dataclass(frozen=True)
class Order:
    """A command that was taken: ``running``, or how it ended; ``told``: the service knows."""

    id: str
    kind: str
    state: str
    result: dict[str, Any]
    told: bool


class Spool(Protocol):
    @property
    def boot_id(self) -> str: ...

    def begin(self) -> None:
        """A new boot."""
        ...

    def put(self, stream: str, body: bytes) -> int:
        """Keep an event or session; its number. Raises UnavailableError ``spool``: the disk."""
        ...

    def oldest(self, stream: str, most: int) -> Batch | None:
        """What to send next; None: the service has everything."""
        ...

    def forget(self, stream: str, boot_id: str, ack: int) -> None:
        """The service has everything of this boot up to ``ack``."""
        ...

    def waiting(self) -> int: ...

    def grow(self, counter: str, by: int = 1) -> None: ...

    def counters(self) -> dict[str, int]: ...

    def take_order(self, order_id: str, kind: str, wall: float) -> bool:
        """Remember a command before it is done; False: it was taken before. ``wall`` is in seconds, to forget by."""
        ...

    def end_order(self, order_id: str, state: str, result: Mapping[str, Any]) -> None: ...

    def order_told(self, order_id: str) -> None: ...

    def orders_untold(self) -> list[Order]: ...


def new_boot_id() -> str:
    return secrets.token_hex(12)


# ---------------------------------------------------------------------------------------------------- file
def _statements() -> dict[str, str]:
    """The named statements of spool.sql."""
    text = Path(__file__).with_name("spool.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- (\w+) --$", text, flags=re.MULTILINE)
    return {name: body.strip().removesuffix(";") for name, body in zip(parts[0::2], parts[1::2], strict=True)}


_QUERY: Final = _statements()
_TABLES: Final = ("table_boot", "table_stream", "table_item", "table_counter", "table_command")


class FileSpool:
    """One file, one process at a time.

    Raises:
        UnavailableError: ``spool``: the disk, the rights, or another agent has it.
    """

    def __init__(self, path: Path, *, bytes_max: int = limits.SPOOL_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.damaged = False  # it could not be read and was put aside
        try:
            self._db = self._open(path)
        except sqlite3.OperationalError as error:
            raise UnavailableError("spool", f"{path}: {error}") from None
        except sqlite3.DatabaseError:
            path.replace(path.with_name(f"{path.name}.damaged"))
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self.damaged = True
            self._db = self._open(path)
        self._bytes = self._one("bytes")
        self._boot = 0
        self.boot_id = ""

    def _open(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None, timeout=0)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN IMMEDIATE")  # takes the lock now: a second agent fails here and not in the middle
        for table in _TABLES:
            db.execute(_QUERY[table])
        db.execute("COMMIT")
        path.chmod(0o600)
        return db

    def close(self) -> None:
        self._db.close()

    def _one(self, name: str, *values: object) -> Any:
        row = self._db.execute(_QUERY[name], values).fetchone()
        return row[0] if row else None

    def begin(self) -> None:
        self.boot_id = new_boot_id()
        with _writing(self._db) as db:
            self._boot = int(db.execute(_QUERY["boot_add"], (self.boot_id,)).lastrowid or 0)
            db.executemany(_QUERY["stream_add"], [(self._boot, name) for name in STREAMS])
            # Boots of which everything is known are history.
            db.execute(_QUERY["stream_forget_known"], (self._boot,))
            db.execute(_QUERY["boot_forget_known"])

    def put(self, stream: str, body: bytes) -> int:
        assert self._boot, "begin() comes first"
        if len(body) > limits.ITEM_BYTES_MAX:
            raise ValueError(f"{len(body)} bytes; an event has at most {limits.ITEM_BYTES_MAX}")
        with _writing(self._db) as db:
            seq = int(self._one("stream_next", self._boot, stream))
            db.execute(_QUERY["item_add"], (self._boot, stream, seq, body))
            db.execute(_QUERY["stream_advance"], (seq + 1, self._boot, stream))
            full = self._bytes + len(body) - self._bytes_max
            freed = self._drop(db) if full > 0 else 0
        self._bytes += len(body) - freed
        return seq

    def _drop(self, db: sqlite3.Connection) -> int:
        rows = db.execute(_QUERY["items_oldest"], (limits.SPOOL_DROP,)).fetchall()
        db.execute(_QUERY["items_drop"], (rows[-1][0],))
        return sum(size for _, size in rows)

    def oldest(self, stream: str, most: int) -> Batch | None:
        row = self._db.execute(_QUERY["stream_waiting"], (stream,)).fetchone()
        if row is None:
            return None
        boot, boot_id, following = row
        found = self._db.execute(_QUERY["items_of"], (stream, boot, most)).fetchall()
        return Batch(boot_id, found[0][0] if found else following, _fitting(found))

    def forget(self, stream: str, boot_id: str, ack: int) -> None:
        boot = self._one("stream_behind", boot_id, stream, ack)
        if boot is None:
            return  # known already: every beat says it again, and a write costs a sync
        with _writing(self._db) as db:
            known = (stream, boot, ack)
            freed = self._one("items_known_bytes", *known)
            db.execute(_QUERY["items_known_drop"], known)
            db.execute(_QUERY["stream_ack"], (ack, boot, stream))
        self._bytes -= freed

    def waiting(self) -> int:
        return int(self._one("items_count"))

    def grow(self, counter: str, by: int = 1) -> None:
        with _writing(self._db) as db:
            db.execute(_QUERY["counter_grow"], (counter, by))

    def counters(self) -> dict[str, int]:
        return dict(self._db.execute(_QUERY["counters"]).fetchall())

    def take_order(self, order_id: str, kind: str, wall: float) -> bool:
        with _writing(self._db) as db:
            db.execute(_QUERY["command_forget"], (wall - limits.REMEMBERED_S,))
            return db.execute(_QUERY["command_take"], (order_id, kind, wall)).rowcount == 1

    def end_order(self, order_id: str, state: str, result: Mapping[str, Any]) -> None:
        with _writing(self._db) as db:
            text = msgspec.json.encode(dict(result)).decode()
            db.execute(_QUERY["command_end"], (state, text, order_id))

    def order_told(self, order_id: str) -> None:
        with _writing(self._db) as db:
            db.execute(_QUERY["command_told"], (order_id,))

    def orders_untold(self) -> list[Order]:
        rows = self._db.execute(_QUERY["commands_untold"]).fetchall()
        return [
            Order(order_id, kind, state, msgspec.json.decode(result), False) for order_id, kind, state, result in rows
        ]


class _writing:  # noqa: N801 - used like a function
    """One durable change. Raises UnavailableError ``spool`` when the disk refuses; nothing has changed then."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self._db.execute("ROLLBACK" if kind else "COMMIT")
        except sqlite3.OperationalError as failure:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            error = error or failure
        if isinstance(error, sqlite3.OperationalError):
            raise UnavailableError("spool", f"the spool cannot be written: {error}") from None


# ---------------------------------------------------------------------------------------------------- memory
@dataclass
class _Stream:
    next: int = 1
    ack: int = 0
    items: OrderedDict[int, bytes] = field(default_factory=OrderedDict)


class MemorySpool:
    """The same without a disk."""

    def __init__(self, *, bytes_max: int = limits.SPOOL_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._boots: OrderedDict[str, dict[str, _Stream]] = OrderedDict()
        self._counters: dict[str, int] = {}
        self._orders: OrderedDict[str, tuple[str, str, dict[str, Any], bool]] = OrderedDict()
        self._order: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self.boot_id = ""

    def begin(self) -> None:
        self._boots = OrderedDict(
            (name, streams)
            for name, streams in self._boots.items()
            if any(each.ack < each.next - 1 for each in streams.values())
        )
        self.boot_id = new_boot_id()
        self._boots[self.boot_id] = {name: _Stream() for name in STREAMS}

    def put(self, stream: str, body: bytes) -> int:
        if len(body) > limits.ITEM_BYTES_MAX:
            raise ValueError(f"{len(body)} bytes; an event has at most {limits.ITEM_BYTES_MAX}")
        kept = self._boots[self.boot_id][stream]
        seq, kept.next = kept.next, kept.next + 1
        kept.items[seq] = body
        self._order[(self.boot_id, stream, seq)] = len(body)
        self._bytes += len(body)
        if self._bytes > self._bytes_max:
            for boot_id, name, number in list(self._order)[: limits.SPOOL_DROP]:
                self._bytes -= self._order.pop((boot_id, name, number))
                del self._boots[boot_id][name].items[number]
        return seq

    def oldest(self, stream: str, most: int) -> Batch | None:
        for boot_id, streams in self._boots.items():
            kept = streams[stream]
            if kept.ack < kept.next - 1:
                found = list(kept.items.items())[:most]
                return Batch(boot_id, found[0][0] if found else kept.next, _fitting(found))
        return None

    def forget(self, stream: str, boot_id: str, ack: int) -> None:
        if boot_id not in self._boots:
            return
        kept = self._boots[boot_id][stream]
        for seq in [seq for seq in kept.items if seq <= ack]:
            del kept.items[seq]
            self._bytes -= self._order.pop((boot_id, stream, seq))
        kept.ack = max(kept.ack, min(ack, kept.next - 1))

    def waiting(self) -> int:
        return len(self._order)

    def grow(self, counter: str, by: int = 1) -> None:
        self._counters[counter] = self._counters.get(counter, 0) + by

    def counters(self) -> dict[str, int]:
        return dict(self._counters)

    def take_order(self, order_id: str, kind: str, wall: float) -> bool:
        if order_id in self._orders:
            return False
        self._orders[order_id] = (kind, "running", {}, False)
        return True

    def end_order(self, order_id: str, state: str, result: Mapping[str, Any]) -> None:
        self._orders[order_id] = (self._orders[order_id][0], state, dict(result), False)

    def order_told(self, order_id: str) -> None:
        kind, state, result, _ = self._orders[order_id]
        self._orders[order_id] = (kind, state, result, True)

    def orders_untold(self) -> list[Order]:
        return [
            Order(order_id, kind, state, result, False)
            for order_id, (kind, state, result, told) in self._orders.items()
            if not told
        ]


def _fitting(found: list[tuple[int, bytes]]) -> tuple[tuple[int, bytes], ...]:
    """As many from the front as fit into a request."""
    size, fitting = 0, []
    for seq, body in found:
        size += len(body)
        if size > limits.BATCH_BYTES_MAX:
            break
        fitting.append((seq, body))
    return tuple(fitting)
