"""Requests of kiosks: body within bounds, errors in one shape, one place for how often.

This is plain ASGI: seven routes that all speak JSON need no framework, and here every byte that is read is bounded.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from admin import limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_GZIP: Final = 16 + zlib.MAX_WBITS
_encoder: Final = msgspec.json.Encoder()


class DeviceError(Exception):
    """An answer that is no success: ``{"code": "E_…", "msg": "…", "retry": false}``.

    ``retry``: the same request may work later by itself; the kiosk backs off and sends it again.
    """

    def __init__(
        self, status: int, code: str, text: str, *, retry: bool = False, after_s: int = 0, **more: object
    ) -> None:
        super().__init__(f"{status} {code}: {text}")
        self.status = status
        self.body = {"code": code, "msg": text, "retry": retry, **more}
        self.after_s = after_s


class Buckets:
    """So many at once and so many a second, per name; the names that were quiet longest are forgotten first."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._levels: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, name: object, amount: int = 1) -> None:
        """Raises DeviceError 429 ``E_RATE`` with the seconds after which it would pass."""
        now = self._clock()
        level, at = self._levels.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        allowed = level >= amount
        self._levels[name] = (level - amount if allowed else level, now)
        if len(self._levels) > limits.BUCKETS_MAX:
            self._levels.popitem(last=False)
        if not allowed:
            after_s = max(1, round((amount - level) / self._rate))
            raise DeviceError(429, "E_RATE", "too many requests", retry=True, after_s=after_s)


async def read_body(receive: Receive, headers: dict[bytes, bytes], most: int) -> bytes:
    """The body as sent.

    Raises:
        DeviceError: 413: longer than ``most``, said or sent. 408: it does not end. 400: the kiosk hung up.
    """
    length = headers.get(b"content-length", b"")
    if length and (not length.isdigit() or int(length) > most):
        raise DeviceError(413, "E_SIZE", f"at most {most} bytes")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.DEVICE_BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise DeviceError(400, "E_CUT", "the connection ended inside of the body", retry=True)
                part = message.get("body", b"")
                size += len(part)
                if size > most:
                    raise DeviceError(413, "E_SIZE", f"at most {most} bytes")
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise DeviceError(408, "E_SLOW", f"a body must end within {limits.DEVICE_BODY_S:g} s", retry=True) from None


def inflate(body: bytes, encoding: bytes, most: int) -> bytes:
    """The body without its gzip, never more than ``most`` bytes of it. Raises DeviceError 413, 415, 400."""
    if encoding in (b"", b"identity"):
        return body
    if encoding != b"gzip":
        raise DeviceError(415, "E_ENCODING", "expected gzip or none")
    inflater = zlib.decompressobj(_GZIP)
    try:
        clear = inflater.decompress(body, most + 1)
    except zlib.error:
        raise DeviceError(400, "E_GZIP", "the body is not gzip") from None
    if len(clear) > most:
        raise DeviceError(413, "E_SIZE", f"at most {most} bytes when inflated")
    if not inflater.eof or inflater.unused_data:
        raise DeviceError(400, "E_GZIP", "expected one whole gzip member")
    return clear


def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Raises DeviceError 422 ``E_BODY``; the text names the place."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise DeviceError(422, "E_BODY", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DeviceError(422, "E_BODY", f"not JSON: {error}") from None
    except RecursionError:
        raise DeviceError(422, "E_BODY", "nested too deeply") from None


async def answer(send: Send, status: int, body: object, *, after_s: int = 0, close: bool = False) -> None:
    content = _encoder.encode(body)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if after_s:
        headers.append((b"retry-after", str(after_s).encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
