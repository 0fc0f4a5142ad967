"""Everything of monitoring that runs: built from the configuration, started with the service, stopped with it."""

from __future__ import annotations

from typing import Any, Final

from admin import limits
from admin.config import Config
from admin.control import Switches
from admin.db.pool import Database
from admin.monitor.health import SelfWatch
from admin.monitor.nights import Nights
from admin.monitor.switchboard import Switchboard
from admin.monitor.views import channels, health, kiosks, overview
from admin.monitor.watch import Diagnoser, Folder, Prober
from admin.web.loop import Loops

HANDLERS: Final[list[Any]] = [*overview.HANDLERS, *kiosks.HANDLERS, *channels.HANDLERS, *health.HANDLERS]


class Monitor:
    def __init__(self, config: Config, database: Database, loops: Loops, switches: Switches) -> None:
        board = Switchboard(switches, config.switch.observe)
        self._loops = loops
        self._prober = Prober(database, board)
        self._diagnoser = Diagnoser(database, board)
        self._folder = Folder(database)
        self._nights = Nights(database)
        self.health = SelfWatch(config.watch, database, loops, self._prober)

    def start(self) -> None:
        self._prober.start()
        self._loops.start("sums", limits.WATCH_S, self._folder.run)
        self._loops.start("diagnose", limits.WATCH_S, self._diagnoser.run)
        self._loops.start("nights", limits.NIGHTS_S, self._nights.run)
        self.health.start()

    async def stop(self) -> None:
        await self.health.stop()
        await self._prober.stop()
