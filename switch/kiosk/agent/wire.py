"""HTTP/1.1 over one kept TLS connection: asyncio's streams and h11, every wait and every answer bounded."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import h11
import msgspec

from switch.errors import UnavailableError
from switch.kiosk.agent import limits

_READ_BYTES: Final = 65_536
_PREFIX: Final = "/agent/v1/"


@dataclass(frozen=True)
class Reply:
    """What the service answered; ``after_s``: its Retry-After, or 0."""

    status: int
    body: dict[str, Any]
    after_s: float

    @property
    def retry(self) -> bool:
        return bool(self.body.get("retry", self.status >= 500))


class Wire:
    """One request at a time; the connection is made when it is needed and kept.

    Args:
        server: ``https://host:port``.
        source: Address to speak from; for simulated kiosks on one machine.
    """

    def __init__(self, server: str, context: ssl.SSLContext, *, source: str = "") -> None:
        parts = urlsplit(server)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"server: expected https://HOST:PORT, not {server!r}")
        self._host = parts.hostname
        self._port = parts.port or 443
        self.context = context
        self.source = source
        self._lock = asyncio.Lock()
        self._connection: h11.Connection | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request, once. ``body``: bytes as they are, anything else as JSON.

        Raises:
            UnavailableError: ``away``: no connection, no answer in time, or none that can be read. Whether the service
                has acted is not known then.
        """
        data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self._lock:
            fresh = self._connection is None
            try:
                return await self._call(method, path, data, headers or {})
            except _StaleError:
                # A kept connection that the service had closed: nothing of the answer came. Everything in this protocol
                # may be said twice, so it is said on a fresh one.
                self._drop()
                if fresh:
                    raise UnavailableError("away", f"{self._host}:{self._port} hung up") from None
                try:
                    return await self._call(method, path, data, headers or {})
                except _StaleError:
                    self._drop()
                    raise UnavailableError("away", f"{self._host}:{self._port} hung up") from None
            except BaseException:
                self._drop()
                raise

    async def _call(self, method: str, path: str, data: bytes, headers: Mapping[str, str]) -> Reply:
        try:
            if self._connection is None:
                async with asyncio.timeout(limits.CONNECT_S):
                    local = (self.source, 0) if self.source else None
                    self._reader, self._writer = await asyncio.open_connection(
                        self._host, self._port, ssl=self.context, local_addr=local
                    )
                self._connection = h11.Connection(h11.CLIENT)
            async with asyncio.timeout(limits.ANSWER_S):
                return await self._exchange(method, path, data, headers)
        except TimeoutError:
            raise UnavailableError("away", f"{self._host}:{self._port} does not answer in time") from None
        except ssl.SSLCertVerificationError as error:
            raise UnavailableError("away", f"{self._host}: its certificate: {error.verify_message}") from None
        except (ConnectionError, ssl.SSLError) as error:
            if self._connection is not None:
                raise _StaleError from error
            raise UnavailableError("away", f"{self._host}:{self._port}: {str(error) or type(error).__name__}") from None
        except OSError as error:
            raise UnavailableError("away", f"{self._host}:{self._port}: {error.strerror or error}") from None
        except h11.ProtocolError as error:
            raise UnavailableError("away", f"{self._host}:{self._port}: no HTTP: {error}") from None

    async def _exchange(self, method: str, path: str, data: bytes, headers: Mapping[str, str]) -> Reply:
        connection, reader, writer = self._connection, self._reader, self._writer
        assert connection is not None and reader is not None and writer is not None
        request = h11.Request(
            method=method,
            target=_PREFIX + path,
            headers=[("Host", self._host), ("Content-Length", str(len(data))), *headers.items()],
        )
        sent = [connection.send(request), connection.send(h11.Data(data)), connection.send(h11.EndOfMessage())]
        writer.write(b"".join(part for part in sent if part))
        await writer.drain()
        response: h11.Response | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                got = await reader.read(_READ_BYTES)
                if not got and response is None:
                    raise _StaleError
                connection.receive_data(got)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > limits.ANSWER_BYTES_MAX:
                    raise UnavailableError(
                        "away", f"{self._host}: an answer of more than {limits.ANSWER_BYTES_MAX} bytes"
                    )
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise _StaleError
        assert response is not None
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
        else:
            self._drop()
        return _reply(response, bytes(body))

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._connection = self._reader = self._writer = None

    async def renew(self) -> None:
        """The next request goes over a new connection: with another certificate, say."""
        async with self._lock:
            self._drop()

    async def close(self) -> None:
        writer = self._writer
        self._drop()
        if writer is not None:
            with suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)


class _StaleError(Exception):
    """The connection ended before an answer began."""


def _reply(response: h11.Response, body: bytes) -> Reply:
    headers = {name.lower(): value for name, value in response.headers}
    after = headers.get(b"retry-after", b"0")
    after_s = min(float(after), limits.RETRY_AFTER_MAX_S) if after.isdigit() else 0.0
    try:
        decoded = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        decoded = {"code": "E_NO_JSON", "msg": "the answer is no JSON object", "retry": response.status_code >= 500}
    return Reply(response.status_code, decoded, after_s)
