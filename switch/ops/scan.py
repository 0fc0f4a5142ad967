"""``gridswitch scan-secrets``: is there card data in clear where none may be?

Looks through the database's tables, the ring of traced messages, the metrics' text, and any file or folder: logs, core
files, backups. What counts as card data, and why so little else does, stands in ``model/cardnumber.py``. A find is
shown masked, with its place.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import stat
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.markup import escape

from switch import limits
from switch.config import Config, load
from switch.errors import BadRequestError, StartError
from switch.model.cardnumber import Found, Known, find
from switch.net.listener import LABEL
from switch.observe.log import mask
from switch.ops.status import ask, workers
from switch.store.scan import TableRows, read_tables

_DEFAULT_CONFIG: Final = Path("switch.toml")
_NEWLINE: Final = b"\n"


@dataclass(frozen=True, slots=True)
class Hit:
    place: str  # "database", "trace", "metrics", "file"
    where: str  # table.column with the row's key; file with its offset …
    kind: str
    shown: str


@dataclass(slots=True)
class Scan:
    """Args: known: test secrets that must not be anywhere, in any form."""

    known: Known | None = None
    hits: list[Hit] = field(default_factory=list)
    hit_count: int = 0
    scanned: Counter[str] = field(default_factory=Counter)  # tables, rows, files, messages, metrics, bytes
    not_scanned: list[str] = field(default_factory=list)

    def look(self, place: str, data: bytes, where: Callable[[int], str]) -> None:
        """``where`` gives the place of a byte of ``data`` in words."""
        self.scanned["bytes"] += len(data)
        for found in self._find(data):
            self._add(place, where(found.offset), found)

    def _find(self, data: bytes) -> Iterator[Found]:
        seen: set[int] = set()
        for found in find(data):
            seen.add(found.offset)
            yield found
        for found in self.known.find(data) if self.known is not None else ():
            if found.offset not in seen:
                yield found

    def _add(self, place: str, where: str, found: Found) -> None:
        self.hit_count += 1
        if len(self.hits) < limits.SCAN_HITS_MAX:
            self.hits.append(Hit(place, where, found.kind, found.shown))

    # -------------------------------------------------------------------------------------------- files
    def path(self, path: Path) -> None:
        """A file, or every file in a folder and below. Links are not followed."""
        if not path.exists():
            raise BadRequestError("scan", f"{path}: there is no such file or folder")
        if not path.is_dir():
            self.file(path)
            return
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                self.file(Path(folder) / name)

    def file(self, path: Path) -> None:
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return  # a socket, a link
            self._file(path)
        except FileNotFoundError:
            return  # a log that was rotated, a file of PostgreSQL: it is gone
        except OSError as error:
            self.not_scanned.append(f"{path}: {(error.strerror or str(error)).lower()}")

    def _file(self, path: Path) -> None:
        """In pieces that overlap, so that what lies across a border is whole in one of them."""
        kept, begins, told = b"", 0, 0  # of the piece before; where it begins; what has been told
        with path.open("rb") as file:
            piece = file.read(limits.SCAN_PIECE_BYTES)
            while piece:
                data, following = kept + piece, file.read(limits.SCAN_PIECE_BYTES)
                self.scanned["bytes"] += len(piece)
                # What begins after this may not be whole yet: the next piece tells it.
                until = begins + len(data) - (limits.SCAN_OVERLAP_BYTES // 2 if following else 0)
                for found in self._find(data):
                    if told <= begins + found.offset < until:
                        self._add("file", f"{path} at byte {begins + found.offset}", found)
                told = until
                kept = data[-limits.SCAN_OVERLAP_BYTES :]
                begins += len(data) - len(kept)
                piece = following
        self.scanned["files"] += 1

    # -------------------------------------------------------------------------------------------- the switch
    def rows(self, rows: TableRows) -> None:
        self.scanned["rows"] += rows.count
        self.look("database", rows.data, lambda offset: mask(rows.place(offset)))

    async def database(self, dsn: str) -> None:
        """Every column of every table in schema ``switch``: text, JSON, bytes, numbers."""
        self.scanned["tables"] += await read_tables(dsn, self.rows)

    def live(self, config: Config) -> None:
        """What the running switch shows: the ring of its last messages, and its metrics."""
        for each in workers(config):
            name = each.worker.instance
            try:
                for link in (LABEL, each.unionpay.name, each.marketing.name):
                    told = ask(each, do="trace", link=link, limit=limits.TRACE_RING_MAX)
                    for row in told:
                        self.look("trace", orjson.dumps(row), partial(_in_message, name, row["number"]))
                    self.scanned["messages"] += len(told)
            except StartError as error:
                self.not_scanned.append(f"trace of {name}: {error.detail}")
            try:
                text = _metrics(each)
            except OSError as error:
                self.not_scanned.append(f"metrics of {name}: {(error.strerror or str(error)).lower()}")
            else:
                self.look("metrics", text, partial(_in_line, name, text))
                self.scanned["metrics"] += 1

    # -------------------------------------------------------------------------------------------- the result
    @property
    def is_clean(self) -> bool:
        return not self.hit_count

    def summary(self) -> str:
        count = self.scanned
        parts = [
            f"{count['rows']:,} rows of {count['tables']} tables" if count["tables"] else "",
            f"{count['messages']:,} traced messages" if count["messages"] else "",
            f"metrics of {count['metrics']} workers" if count["metrics"] else "",
            f"{count['files']:,} files" if count["files"] else "",
        ]
        looked_at = ", ".join(part for part in parts if part) or "nothing"
        return f"card data in clear: {self.hit_count} found in {looked_at}; {count['bytes'] / 1e6:.1f} MB"

    def to_dict(self) -> dict[str, Any]:
        return {
            "found": self.hit_count,
            "hits": [
                {"place": hit.place, "where": hit.where, "kind": hit.kind, "shown": hit.shown} for hit in self.hits
            ],
            "scanned": dict(self.scanned),
            "not_scanned": self.not_scanned,
        }


def _in_message(name: str, number: int, offset: int) -> str:
    return f"{name}, message {number}"


def _in_line(name: str, text: bytes, offset: int) -> str:
    return f"{name}, line {text[:offset].count(_NEWLINE) + 1}"


def _metrics(config: Config) -> bytes:
    connection = http.client.HTTPConnection(config.observe.host, config.observe.port, timeout=limits.CONNECT_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()


def read_known(lines: Iterable[str]) -> Known:
    """A secret a line: digits, or anything else in hexadecimal; "#" begins a comment. Raises BadRequestError."""
    secrets: list[str | bytes] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text.isdigit() and len(text) >= 12:
            secrets.append(text)
            continue
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            raise BadRequestError("scan", f"line {number}: neither digits nor hexadecimal") from None
        if text and len(secret) < 6:
            raise BadRequestError("scan", f"line {number}: a secret this short would be found everywhere")
        if text:
            secrets.append(secret)
    return Known(secrets)


# ---------------------------------------------------------------------------------------------------- command
OnDatabase = Callable[[argparse.Namespace, Callable[[str], Coroutine[Any, Any, int]]], int]


def _scan(arguments: argparse.Namespace, on_database: OnDatabase) -> int:
    known = None
    if arguments.known is not None:
        known = read_known(arguments.known.read_text(encoding="utf-8").splitlines())
    scan = Scan(known)
    if arguments.config is None and not arguments.dsn and not arguments.path:
        arguments.config = _DEFAULT_CONFIG
    if arguments.config is not None:
        scan.live(load(arguments.config))

        async def job(dsn: str) -> int:
            await scan.database(dsn)
            return 0

        on_database(arguments, job)
    if arguments.dsn:
        asyncio.run(scan.database(arguments.dsn))
    for path in arguments.path:
        scan.path(path)
    if arguments.json:
        print(orjson.dumps(scan.to_dict()).decode())
    else:
        print_scan(scan)
    return 0 if scan.is_clean else 1


def print_scan(scan: Scan) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if scan.hits:
        # No wrapping, whatever the terminal: a place is copied, and found by grep.
        rows = [("place", "what", "masked", "where")]
        rows += [(hit.place, hit.kind, hit.shown, hit.where) for hit in scan.hits]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for row in rows:
            console.print(escape("  ".join(f"{text:<{width}}" for text, width in zip(row, [*widths, 0], strict=True))))
        if scan.hit_count > len(scan.hits):
            console.print(f"… and {scan.hit_count - len(scan.hits):,} more")
    for what in scan.not_scanned:
        console.print(f"[yellow]not scanned:[/yellow] {escape(what)}")
    colour = "green" if scan.is_clean else "red"
    console.print(f"[{colour}]{scan.summary()}[/{colour}]")


def add_scan_parser(commands: Any, on_database: OnDatabase) -> None:
    parser = commands.add_parser(
        "scan-secrets",
        help="look for card data in clear: database, traces, metrics, logs, core files; exit status 1 on a find",
        description="Looks for card numbers and tracks in clear, in digits and packed, where none may be. Without "
        "options: everything that the switch of ./switch.toml keeps or shows. What is found is shown masked, with its "
        "place; then the exit status is 1.",
    )
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE", help="database, traces and metrics of this switch"
    )
    parser.add_argument("--dsn", default="", metavar="DSN", help="only this database")
    parser.add_argument(
        "--path",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a file, or a folder with all below it: logs, core files, backups; may be given again",
    )
    parser.add_argument(
        "--known",
        type=Path,
        metavar="FILE",
        help="test secrets, one a line, digits or hexadecimal (card numbers, clear PIN blocks): found in every form",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.set_defaults(run=lambda arguments: _scan(arguments, on_database))
