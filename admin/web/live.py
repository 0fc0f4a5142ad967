"""Live parts of open pages: ``{"#id": "<html>"}`` by server-sent events, when something has changed.

A stream ends by itself after a while: the browser asks again, and whoever may no longer see it is told so then.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Any, Final

from litestar.response import Stream

from admin.errors import TooManyError, UnavailableError
from admin.limits import LIVE_S, SSE_CLIENTS_MAX
from admin.web.render import HEADERS

Parts = Callable[[], Awaitable[dict[str, str]]]
_open = 0


def live(parts: Parts, period_s: float) -> Stream:
    """``parts`` every so many seconds; sent only when it differs from before, else a comment that keeps the line.

    Raises:
        TooManyError: so many pages are open that one more would slow down the others.
    """
    if _open >= SSE_CLIENTS_MAX:
        raise TooManyError("live", "打开的实时页面太多", retry_s=60, hint="页面仍可手动刷新")
    headers = {**HEADERS, "X-Accel-Buffering": "no"}
    return Stream(_stream(parts, period_s), media_type="text/event-stream", headers=headers)


def open_streams() -> int:
    """How many pages are told news by this process."""
    return _open


async def _stream(parts: Parts, period_s: float) -> AsyncIterator[bytes]:
    global _open  # noqa: PLW0603 of this process, as its loop is
    _open += 1
    sent: dict[str, str] = {}
    ends_at = time.monotonic() + LIVE_S
    try:
        yield b"retry: 3000\n\n"
        while time.monotonic() < ends_at:
            try:
                now = await parts()
            except UnavailableError:
                now = sent  # the page's own clock tells how old it is
                await asyncio.sleep(period_s)
                continue
            news = {place: html for place, html in now.items() if sent.get(place) != html}
            sent = now
            yield f"data: {json.dumps(news, ensure_ascii=False)}\n\n".encode()
            await asyncio.sleep(period_s)
    finally:
        _open -= 1


class Shared:
    """What many open pages ask for is made once: by key, for ``life_s`` seconds; who comes meanwhile waits for it."""

    def __init__(self, life_s: float, keys_max: int = 256) -> None:
        self._life_s = life_s
        self._keys_max: Final = keys_max
        self._made: dict[Hashable, tuple[float, Any]] = {}
        self._locks: dict[Hashable, asyncio.Lock] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> Any:
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            made = self._made.get(key)
            if made is None or time.monotonic() - made[0] > self._life_s:
                if made is None and len(self._made) >= self._keys_max:
                    self._made.clear()
                    self._locks = {key: lock}
                made = self._made[key] = time.monotonic(), await make()
            return made[1]
