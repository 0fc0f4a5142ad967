"""Who watches the watcher: whether its own loops run, and a sign of life to the outside while they do.

The sign comes from a task that looks at what the loops have written, not from the loops: a scheduler that stopped, a
process that hangs, a database that is away all end it, and somebody outside notices that nothing comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from admin import limits
from admin.config import WatchConfig
from admin.db.pool import Database
from admin.db.queries import statements
from admin.errors import UnavailableError
from admin.monitor.watch import Prober
from admin.web.loop import Loops

_LOG = logging.getLogger("admin.health")
_QUERY: Final = statements(str(Path(__file__).parent / "views" / "health.py"))


@dataclass(frozen=True, slots=True)
class Fault:
    """``code`` for programs; ``text`` is a msgid, filled from ``values``. ``ours``: a new start may help."""

    code: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = True


def late_s(period_s: float) -> float:
    """How old a loop's last run may be: another process takes it over within so long when its holder dies."""
    return limits.LOOP_HOLD_S + 4 * period_s


class SelfWatch:
    """Args:
    loops: Those of this process; their runs are looked up in the database, whoever made them.
    """

    def __init__(self, config: WatchConfig, database: Database, loops: Loops, prober: Prober) -> None:
        self._config = config
        self._database = database
        self._loops = loops
        self._prober = prober
        self._started_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self.told_at: float | None = None  # monotonic; when the sign went out last
        self.trouble = ""

    @property
    def is_configured(self) -> bool:
        return bool(self._config.dead_man_file or self._config.dead_man_url)

    def start(self) -> None:
        self._started_at = time.monotonic()
        self._task = asyncio.create_task(self._run(), name="self watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def faults(self) -> list[Fault]:
        """What is wrong with this service now; empty: nothing."""
        found: list[Fault] = []
        up_s = time.monotonic() - self._started_at
        try:
            async with self._database.connection() as connection:
                rows = {row["name"]: row for row in await connection.fetch(_QUERY["loops"])}
                lag_s = await connection.fetchval(_QUERY["lag"])
        except UnavailableError as error:
            return [Fault("database", error.message)]
        for name, period_s in self._loops.periods.items():
            row = rows.get(name)
            age_s = row["age_s"] if row is not None else None
            if up_s > late_s(period_s) and (age_s is None or age_s > late_s(period_s)):
                found.append(Fault(f"loop {name}", "后台循环“{name}”停滞", {"name": name}))
            elif row is not None and row["error"]:
                text = "后台循环“{name}”出错：{error}"
                found.append(Fault(f"loop {name}", text, {"name": name, "error": row["error"]}))
        if up_s > late_s(limits.PROBE_S) and time.monotonic() - self._prober.last_at > late_s(limits.PROBE_S):
            found.append(Fault("prober", "对前置的探测停滞"))
        if lag_s is not None and lag_s > limits.FEED_LAG_MAX_S:
            found.append(Fault("feed", "交易数据延迟 {seconds} 秒", {"seconds": lag_s}, ours=False))
        return found

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # without this task nobody outside would hear from us, which is an alarm
                _LOG.exception("self watch")
            await asyncio.sleep(limits.DEAD_MAN_S)

    async def look(self) -> bool:
        """Send the sign of life if all is well. Returns whether it went out."""
        faults = await self.faults()
        if faults or not self.is_configured:
            self.trouble = ", ".join(each.code for each in faults)
            if faults:
                _LOG.warning("no sign of life: %s", self.trouble)
            return False
        try:
            if self._config.dead_man_file:
                await asyncio.to_thread(Path(self._config.dead_man_file).touch)
            if self._config.dead_man_url:
                await asyncio.to_thread(_ping, self._config.dead_man_url)
        except (OSError, urllib.error.URLError) as error:
            self.trouble = str(error)
            _LOG.warning("sign of life: %s", error)
            return False
        self.told_at, self.trouble = time.monotonic(), ""
        return True


def _ping(address: str) -> None:
    with urllib.request.urlopen(address, timeout=limits.DEAD_MAN_ANSWER_S):  # noqa: S310 http or https, by its option
        pass
