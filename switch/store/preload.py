"""Millions of finished payments, so that something can be measured on full tables.

Rows of payments that the switch has just made are copied by COPY under new numbers and earlier days: whatever the
schema and the switch have become, copies look like what they write.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from switch.errors import StartError
from switch.store.pool import connected
from switch.store.queries import QUERY

# Days before today over which copies are spread: as many partitions, all within the days in which claims are kept, and
# none so late that the continuous check would ask the hosts about payments that they never saw.
DAYS: Final = range(3, 23)
_TEMPLATES_MAX: Final = 200
_CHUNK: Final = 10_000  # payments of one COPY
_TABLES: Final = ("payment_event", "claim", "payment")


@dataclass(slots=True)
class _Table:
    name: str
    columns: list[str]
    rows: dict[int, list[tuple[Any, ...]]]  # of each template payment

    def at(self, column: str) -> int:
        return self.columns.index(column)


async def preload(
    dsn: str, count: int, today: datetime.date, room_bytes: Callable[[], int], progress: Callable[[int], None]
) -> int:
    """Copy finished payments until there are ``count`` more of them, opened on the days before ``today``.

    Args:
        room_bytes: How much the disk still takes.
        progress: Called with the number of payments so far.

    Returns:
        Bytes by which the database has grown.

    Raises:
        StartError: There is nothing to copy, or not enough room for the copies.
    """
    async with connected(dsn, "preload") as connection:
        finished = await connection.fetch(QUERY["preload_finished"], _TEMPLATES_MAX)
        if not finished:
            raise StartError("preload_empty", "no completed payment in the books to copy; let some be paid first")
        ids = [row["payment_id"] for row in finished]
        tables = [await _read(connection, name, ids) for name in _TABLES]
        days = [_Day(today, back) for back in DAYS]
        for day in days:
            await connection.execute(QUERY["preload_partition"], day.opened_on)
        before = await connection.fetchval(QUERY["meter_size"])
        done = 0
        while done < count:
            chunk = range(done, min(count, done + _CHUNK))
            for table in tables:
                # One after the other: copies of a table are made while the server takes them.
                await connection.copy_records_to_table(
                    table.name,
                    schema_name="switch",
                    columns=table.columns,
                    records=_copies(table, ids, chunk, min(ids), days),
                )
            done = chunk.stop
            progress(done)
            grown = await connection.fetchval(QUERY["meter_size"]) - before
            # The WAL of the load itself is bounded; a tenth is for what vacuum and the load that follows write.
            if grown / done * (count - done) * 1.1 > room_bytes():
                each = grown / done
                raise StartError(
                    "preload",
                    f"{count:,} payments need {each * count / 1e9:.1f} GB ({each:,.0f} bytes each); the disk has room "
                    f"for {room_bytes() / 1e9:.1f} GB more: fewer rows, or another --dir",
                )
        await connection.execute(QUERY["preload_done"])
        size: int = await connection.fetchval(QUERY["meter_size"])
        return int(size - before)


async def _read(connection: Any, name: str, ids: list[int]) -> _Table:
    columns = [row["attname"] for row in await connection.fetch(QUERY["preload_columns"], name)]
    rows: dict[int, list[tuple[Any, ...]]] = {}
    for row in await connection.fetch(QUERY["preload_rows"].replace("{table}", name), ids):
        rows.setdefault(row["payment_id"], []).append(tuple(row[column] for column in columns))
    return _Table(name, columns, rows)


class _Day:
    def __init__(self, today: datetime.date, back: int) -> None:
        self.before = datetime.timedelta(days=back)
        self.opened_on = int(f"{today - self.before:%Y%m%d}")


def _copies(table: _Table, ids: list[int], chunk: range, below: int, days: list[_Day]) -> Iterator[tuple[Any, ...]]:
    payment_id, opened_on = table.at("payment_id"), table.at("opened_on")
    # Payment ids follow the clock, so earlier ones are free; projected they are not again: they are in the books.
    committed_by = table.at("committed_by") if "committed_by" in table.columns else None
    unique = [table.at(column) for column in ("kiosk_key", "stan_key") if column in table.columns]
    sample = next(iter(table.rows.values()), [()])[0]
    times = [column for column, value in enumerate(sample) if isinstance(value, datetime.datetime)]
    for number in chunk:
        template = ids[number % len(ids)]
        day = days[number % len(days)]
        for place, row in enumerate(table.rows.get(template, ())):
            copy = list(row)
            copy[payment_id] = below - 1 - number
            copy[opened_on] = day.opened_on
            for column in times:
                copy[column] -= day.before
            if committed_by is not None:
                copy[committed_by] = 0
            for column in unique:
                copy[column] = f"P{number:09d}|{place}"
            yield tuple(copy)
