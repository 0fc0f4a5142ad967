"""The control socket: a running switch tells what it does, and takes orders of who may open the file.

One JSON object a line each way: ``{"do": "status"}`` is answered with ``{"ok": …}`` or ``{"error": …, "code": …}``. The
file is the door: its mode is 0600. Every order that changes something is in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

from switch.errors import BadRequestError, StartError, SwitchError
from switch.limits import CONTROL_CALLERS_MAX, CONTROL_LINE_MAX
from switch.ports import Observer

VERSION = 1  # of this language


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """One request. Which of the others count depends on ``do``."""

    do: str
    link: str = ""
    terminal: str = ""
    after: int = 0
    limit: int = 50
    on: bool = True
    reason: str = ""
    frames: bool = False
    spec: str = ""
    at: str = ""
    payment: int = 0
    day: int = 0
    decision: str = ""
    evidence: str = ""
    by: str = ""
    number: int = 0


Handler = Callable[[Ask], Awaitable[Any]]


class ControlSocket:
    """Args:
    handlers: By the word after "do". What they return is the answer; a SwitchError is told to the caller.
    changing: Words that change something, and so are logged.
    """

    def __init__(
        self, path: Path, handlers: Mapping[str, Handler], observer: Observer, *, changing: frozenset[str]
    ) -> None:
        self._path = path
        self._handlers = dict(handlers)
        self._observer = observer
        self._changing = changing
        self._callers = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises StartError when the file cannot be made."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()  # of a switch that was killed; ours alone, for the instance lock is held
            mask = os.umask(0o177)  # nobody else may open it, not even for a moment
            try:
                self._server = await asyncio.start_unix_server(self._talk, str(self._path), limit=CONTROL_LINE_MAX)
            finally:
                os.umask(mask)
        except OSError as error:
            raise StartError("control", f"control.path: {self._path}: {error.strerror or error}") from error

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers += 1
        try:
            if self._callers > CONTROL_CALLERS_MAX:
                writer.write(_line({"error": f"busy: {CONTROL_CALLERS_MAX} callers at once are the most"}))
                return
            while line := await reader.readline():
                writer.write(_line(await self._answer(line)))
                await writer.drain()
        except (OSError, ValueError):
            pass  # a caller that hangs up, or sends a line without end
        finally:
            self._callers -= 1
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            ask = msgspec.json.decode(line, type=Ask)
            handler = self._handlers.get(ask.do)
            if handler is None:
                raise BadRequestError("control", f"{ask.do!r} is no order; known: {', '.join(sorted(self._handlers))}")
            if ask.do in self._changing:
                self._observer.event("control.order", order=msgspec.structs.asdict(ask))
            return {"ok": await handler(ask), "version": VERSION}
        except msgspec.DecodeError as error:
            return {"error": f"expected a JSON object with do: {error}", "code": "control"}
        except SwitchError as error:
            return {"error": str(error), "code": error.code}
        except Exception as error:
            self._observer.event("control.failed", level="error", error=repr(error))
            return {"error": "internal: see the log"}


def _line(answer: Mapping[str, Any]) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS) + b"\n"
