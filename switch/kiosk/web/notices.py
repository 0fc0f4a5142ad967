"""Notices for customers: a TOML file on this machine, looked at again when it changes. No line is needed to show them.

[[notice]]
title = "计划停电"
text = "……"
title_en = "Planned outage"       # optional, as all that follows
text_en = "…"
kind = "outage"                   # stands first; default "info"
begins_on = "2026-12-01"          # first and last day on which it is shown
ends_on = "2026-12-03"
"""

from __future__ import annotations

import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec

from switch.errors import SwitchError
from switch.kiosk.web.views import Notice
from switch.limits import KIOSK_WEB_NOTICES_BYTES_MAX, KIOSK_WEB_NOTICES_MAX


class NoticesError(SwitchError):
    """The file of notices cannot be used. ``code``: ``notices``."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    notice: Annotated[tuple[Notice, ...], msgspec.Meta(max_length=KIOSK_WEB_NOTICES_MAX)] = ()


class Notices:
    """Args:
    path: None: those that come with the program.

    Raises:
        NoticesError: As ``look``.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._all: tuple[Notice, ...] = ()
        self.look()

    def look(self) -> None:
        """Read the file if it has changed. What was read before stays when it cannot be used.

        Raises:
            NoticesError: The file cannot be read, or something in it is wrong: where, and what is expected.
        """
        if self._path is None:
            if not self._all:
                self._all = _read(resources.files(__package__).joinpath("notices.toml").read_bytes(), "notices.toml")
            return
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return
            self._stamp = stamp  # told once of a file that is wrong
            data = self._path.read_bytes()
        except OSError as error:
            raise NoticesError("notices", f"{self._path}: {(error.strerror or str(error)).lower()}") from error
        self._all = _read(data, str(self._path))

    def of(self, day: datetime.date) -> tuple[Notice, ...]:
        """Those to show on a day, outages first."""
        today = day.isoformat()
        shown = [each for each in self._all if each.begins_on <= today and (not each.ends_on or today <= each.ends_on)]
        return tuple(sorted(shown, key=lambda each: each.kind != "outage"))


def _read(data: bytes, name: str) -> tuple[Notice, ...]:
    if len(data) > KIOSK_WEB_NOTICES_BYTES_MAX:
        raise NoticesError("notices", f"{name}: {len(data)} bytes; at most {KIOSK_WEB_NOTICES_BYTES_MAX}")
    try:
        found = msgspec.toml.decode(data, type=_File).notice
        for each in found:
            for day in (each.begins_on, each.ends_on):
                if day:
                    datetime.date.fromisoformat(day)
            if each.kind not in ("info", "outage"):
                raise ValueError(f'kind "{each.kind}": expected "info" or "outage"')
    except (msgspec.DecodeError, ValueError) as error:
        raise NoticesError("notices", f"{name}: {error}") from error
    return found
