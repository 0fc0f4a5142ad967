"""The listener of kiosks: TLS with a client certificate that OpenSSL has verified, handed to the app.

uvicorn does not tell the app who the peer is. Its protocol is extended by two things: the certificate's DER in
``scope["extensions"]["tls"]``, and a bound on how long a connection may take to say what it wants.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from admin import limits
from admin.errors import StartError

CERTIFICATE: Final = "client_cert_der"  # of scope["extensions"]["tls"]; absent: none was shown
_STOP_S: Final = 5.0


class DeviceProtocol(HttpToolsProtocol):
    """One connection of a kiosk."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self._extensions: dict[str, Any] = {"tls": {CERTIFICATE: certificate} if certificate else {}}
        self._head_due: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_due is not None:  # the parser keeps what it has of a header, however long
            self._head_bytes += len(data)
            if self._head_bytes > limits.DEVICE_HEAD_MAX:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        if self._head_due is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_due = self.loop.call_later(limits.DEVICE_HEAD_S, self.transport.abort)

    def _head_came(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
            self._head_bytes = 0


def server_context(certificate: Path, private_key: Path, ca_file: Path) -> ssl.SSLContext:
    """TLS 1.2 and later; a client's certificate is asked for and, if shown, must be of the device CA and in date.

    Without one a connection can only enrol, which the app enforces: TLS cannot know which request will come.

    Raises:
        StartError: ``device_tls``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_cert_chain(certificate, private_key)
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"device_api: {certificate}, {private_key}, {ca_file}: {error} [device_tls]") from None
    # A resumed session would show no certificate to be looked at anew.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


class DeviceListener:
    """Serves ``app`` to kiosks, in the loop that calls ``start``; needs no signal handlers."""

    def __init__(self, app: Any, context: ssl.SSLContext, *, host: str, port: int) -> None:
        self._context = context
        self._host = host
        self._port = port
        self._state = ServerState()
        self._config = uvicorn.Config(
            app,
            http=DeviceProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=limits.DEVICE_KEEP_S,
            limit_concurrency=limits.DEVICE_CONNECTIONS_MAX,
        )
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens; with port 0 the system chose."""
        assert self._server is not None, "start() comes first"
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises StartError ``device_listen``."""
        self._config.load()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: DeviceProtocol(self._config, self._state, {}, loop),
                self._host,
                self._port,
                ssl=self._context,
                ssl_handshake_timeout=limits.DEVICE_HANDSHAKE_S,
                backlog=2048,  # a network comes back and a thousand kiosks with it
            )
        except OSError as error:
            raise StartError(
                f"device_api.listen: {self._host}:{self._port}: {error.strerror} [device_listen]"
            ) from None

    async def stop(self) -> None:
        """No new connections; what is being answered is answered, for a few seconds."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=_STOP_S)
        for task in self._state.tasks:
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.abort()
        self._server = None
