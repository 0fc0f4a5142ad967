"""What a kiosk's maker gives to the agent: the states of its units, and hands that do commands. Beside each port stands
its stand-in, for tests, demos and the fleet of simulated agents."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

UNIT_WORDS: Final = (
    *("online", "offline", "poweroff", "nodevice", "hwerror", "usererror", "busy", "fraudattempt", "potentialfraud"),
    "unknown",
)


class Clock(Protocol):
    def wall(self) -> datetime.datetime:
        """UTC, as this machine believes; it may be wrong by years."""
        ...

    def monotonic(self) -> float: ...


class SystemClock:
    def wall(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Units(Protocol):
    """The kiosk as its own programs see it; asked before each beat, must answer at once."""

    def states(self) -> Mapping[str, str]:
        """In CEN/XFS words: ``{"idc": "online", "ptr": "online", "ptr.paper": "low", "door": "closed"}``."""
        ...

    def mode(self) -> str:
        """``in_service``, ``out_of_service``, ``maintenance``, ``starting``."""
        ...

    def busy(self) -> Mapping[str, Any]:
        """``{"session": false, "unsettled": 0, "journal_dirty": false}``."""
        ...

    def switch(self) -> Mapping[str, Any]:
        """``{"signed_on": true, "last_echo_s": 12, "last_rc": "00"}``."""
        ...

    def resources(self) -> Mapping[str, int]:
        """``cpu`` and ``mem`` in percent, ``disk_mb``, ``temp``."""
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a state or the mode is another: it is told at once, not with the next beat."""
        ...


@dataclass(frozen=True)
class Done:
    """How a command ended: ``done``, ``failed`` or ``refused``; what to tell; a file to send."""

    state: str
    result: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    file: Path | None = None


class Hands(Protocol):
    """Does the commands of the fixed list. There is none that runs a program of somebody else's choice."""

    async def do(self, kind: str, args: Mapping[str, str]) -> Done:
        """``app.restart`` and ``os.reboot`` may end this process: what it was doing is known at the next start."""
        ...


# ---------------------------------------------------------------------------------------------------- stand-ins
class SimulatedUnits:
    """A kiosk with everything in order, until somebody says otherwise."""

    def __init__(self) -> None:
        self._states = {
            **dict.fromkeys(("idc", "pin", "ptr", "touch", "ups"), "online"),
            "ptr.paper": "full",
            "door": "closed",
        }
        self._mode = "in_service"
        self.session = False
        self.signed_on = True
        self._changed: Callable[[], None] = lambda: None

    def set(self, unit: str, state: str) -> None:
        if self._states.get(unit) != state:
            self._states[unit] = state
            self._changed()

    def set_mode(self, mode: str) -> None:
        if mode != self._mode:
            self._mode = mode
            self._changed()

    def states(self) -> Mapping[str, str]:
        return dict(self._states)

    def mode(self) -> str:
        return self._mode

    def busy(self) -> Mapping[str, Any]:
        return {"session": self.session, "unsettled": 0, "journal_dirty": False}

    def switch(self) -> Mapping[str, Any]:
        return {"signed_on": self.signed_on, "last_echo_s": 5 if self.signed_on else None}

    def resources(self) -> Mapping[str, int]:
        return {"cpu": 12, "mem": 40, "disk_mb": 20_000, "temp": 38}

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed


class SimulatedHands:
    """Does nothing to the machine and says that it did. Logs are a file it writes into ``folder``."""

    def __init__(self, units: SimulatedUnits, folder: Path | None = None) -> None:
        self._units = units
        self._folder = folder
        self.done: list[tuple[str, dict[str, str]]] = []

    async def do(self, kind: str, args: Mapping[str, str]) -> Done:
        self.done.append((kind, dict(args)))
        if kind == "service.stop":
            self._units.set_mode("out_of_service")
        if kind == "service.start":
            self._units.set_mode("in_service")
        if kind in ("log.pull", "ej.pull", "screenshot"):
            if self._folder is None:
                return Done("failed", {"code": "no_files"})
            path = self._folder / f"{kind}-{args.get('day', 'now')}.log"
            path.write_text(f"{kind} {dict(args)}\n" * 100, encoding="utf-8")
            return Done("done", {"bytes": path.stat().st_size}, path)
        return Done("done")
