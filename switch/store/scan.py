"""Every row of every table of ours, as PostgreSQL's COPY writes it, with a way back from a byte to column and row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from switch import limits
from switch.store.pool import Connection, connected
from switch.store.queries import QUERY

_KEY_SIZE_MAX: Final = 80  # characters of a row's key that are shown


@dataclass(slots=True, frozen=True)
class TableRows:
    """Whole rows of one table: a line each, columns between tabs, bytes as ``\\\\x`` and hexadecimal digits."""

    table: str
    columns: list[str]
    key: list[int]  # which columns are the primary key
    data: bytes
    count: int

    def place(self, offset: int) -> str:
        """``table.column, key …`` of a byte of ``data``."""
        begin = self.data.rfind(b"\n", 0, offset) + 1
        end = self.data.find(b"\n", offset)
        values = self.data[begin:end].split(b"\t")
        column = self.columns[self.data.count(b"\t", begin, offset)]
        key = "|".join(values[index].decode("utf-8", "replace") for index in self.key)
        return f"{self.table}.{column}, key {key[:_KEY_SIZE_MAX]}"


async def read_tables(dsn: str, each: Callable[[TableRows], None]) -> int:
    """Give every row to ``each``, in pieces of whole rows; returns how many tables there are. A partition is one.

    Raises:
        UnavailableError: The database is away.
    """
    async with connected(dsn, "scan") as connection:
        tables = await connection.fetch(QUERY["scan_tables"])
        for table in tables:
            await _read(connection, table, each)
    return len(tables)


async def _read(connection: Connection, table: Any, each: Callable[[TableRows], None]) -> None:
    columns, key = list(table["columns"]), list(table["key"])
    name = table["name"] if table["schema"] == "switch" else f"{table['schema']}.{table['name']}"
    buffer = bytearray()

    def give(end: int) -> None:
        data = bytes(buffer[:end])
        del buffer[:end]
        if data:
            each(TableRows(name, columns, key, data, data.count(b"\n")))

    async def take(data: bytes) -> None:
        # Bounded: a year of payments must not come into memory.
        buffer.extend(data)
        if len(buffer) >= limits.SCAN_PIECE_BYTES:
            give(buffer.rfind(b"\n") + 1)

    await connection.copy_from_table(table["name"], schema_name=table["schema"], columns=columns, output=take)
    give(len(buffer))
