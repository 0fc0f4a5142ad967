"""TLS between a transport and a wire: OpenSSL through ``ssl.SSLObject``, the bytes moved by us.

    TCP transport ──ciphertext──► TlsLine ──plain bytes──► FramedProtocol

A loop's own TLS hides a connection until its handshake is over: it can be neither counted, nor bounded, nor named when
it fails, and asyncio and uvloop differ in how they close it. Here a handshake is seen from its first moment, each
connection takes the certificates of now, and what is written to the transport is written at once, on both loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from switch import limits

# With forward secrecy and authenticated encryption only. TLS 1.3 has no others.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
TERMINAL_ID_SIZE: Final = 8  # field 41
READ_SIZE: Final = 16_384  # one record


class TlsRefusedError(ConnectionError):
    """A handshake or a TLS connection that failed. ``code`` is stable and goes to metrics; the text says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{detail} [tls_{code}]")
        self.code = code
        self.detail = detail


_UNKNOWN_CA: Final = ("unknown_ca", "no CA of ours has signed the peer's certificate")
# By OpenSSL's X509_V_ERR number.
_VERIFY: Final = {
    3: ("crl", "the CA of the peer's certificate has no list of revoked ones in client_crl"),
    9: ("not_yet_valid", "the peer's certificate is not valid yet: look at both clocks"),
    10: ("expired", "the peer's certificate, or one of its CA's, has expired"),
    12: ("crl", "client_crl has expired: fetch the CA's new list"),
    18: _UNKNOWN_CA,
    19: _UNKNOWN_CA,
    20: _UNKNOWN_CA,
    21: _UNKNOWN_CA,
    23: ("revoked", "the peer's certificate is revoked"),
    26: ("purpose", "the peer's certificate is not made for this end of a connection (extended key usage)"),
}
_WRONG_NAME: Final = frozenset({62, 64})  # host name, IP address
_NO_TLS: Final = ("plaintext", "the peer does not speak TLS")
# By OpenSSL's reason.
_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": ("no_certificate", "the peer showed no certificate"),
    "UNSUPPORTED_PROTOCOL": ("version", "the peer speaks no TLS that is taken here: 1.2 or newer"),
    "NO_SHARED_CIPHER": ("cipher", f"the peer has no cipher of {CIPHERS}"),
    "HTTP_REQUEST": _NO_TLS,
    "HTTPS_PROXY_REQUEST": _NO_TLS,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "WRONG_SSL_VERSION": _NO_TLS,
    "UNKNOWN_PROTOCOL": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "INVALID_ALERT": _NO_TLS,
    "UNEXPECTED_EOF_WHILE_READING": ("cut", "the peer hung up"),
}


def refusal(error: ssl.SSLError) -> TlsRefusedError:
    """OpenSSL's error as a stable code and a sentence."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return TlsRefusedError("wrong_name", f"the peer's certificate names somebody else: {error.verify_message}")
        return TlsRefusedError(*_VERIFY.get(error.verify_code, ("certificate", error.verify_message)))
    reason = error.reason or ""
    if reason in _REASONS:
        return TlsRefusedError(*_REASONS[reason])
    words = reason.lower().replace("_", " ")
    if "alert" in words:
        # The peer speaks of us: "alert unknown ca" is our certificate, seen with its eyes.
        return TlsRefusedError("refused_by_peer", f"the peer refuses us: {words}")
    return TlsRefusedError("protocol", words or str(error))


def server_context(certificate: str, key: str, client_ca: str, client_crl: str = "") -> ssl.SSLContext:
    """For the end that kiosks connect to: each must show a certificate of ``client_ca``. Raises OSError, ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would bring yesterday's certificate along, past its end and past its revocation.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.load_cert_chain(certificate, key, password=_no_passphrase)
    context.load_verify_locations(client_ca)
    if client_crl:
        context.load_verify_locations(client_crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def client_context(ca: str, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """For the end that dials: the peer's certificate must come from ``ca`` and carry its name. Raises as above."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
    _harden(context)
    context.load_verify_locations(ca)
    if certificate:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _no_passphrase() -> str:
    # Without this OpenSSL would ask the terminal, and a service would hang.
    raise ValueError("the key is protected by a passphrase; the switch needs one without, mode 0600")


def terminal_of(certificate: Any) -> str:
    """The terminal that a kiosk's certificate names: its subject's one common name (CN), as it stands in field 41.

    Args:
        certificate: as ``ssl.SSLObject.getpeercert`` gives it.

    Raises:
        TlsRefusedError: it names none.

    >>> terminal_of({"subject": ((("organizationName", "grid"),), (("commonName", "10000001"),))})
    '10000001'
    """
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    if len(names) != 1 or len(names[0]) != TERMINAL_ID_SIZE or not (names[0].isascii() and names[0].isalnum()):
        raise TlsRefusedError(
            "not_a_terminal", f"the peer's certificate names no terminal: CN must be its {TERMINAL_ID_SIZE} characters"
        )
    return str(names[0])


class Turns:
    """A storm of handshakes takes turns: so many steps a turn of the loop, and payments run in between."""

    def __init__(self) -> None:
        self._waiting: deque[TlsLine] = deque()
        self._due = False

    def ask(self, line: TlsLine) -> None:
        self._waiting.append(line)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._due = False
        for _ in range(min(limits.TLS_STEPS_A_TURN, len(self._waiting))):
            self._waiting.popleft().step()
        self._schedule()


class Inner(Protocol):
    """What a TlsLine needs of the protocol inside it; a ``FramedProtocol``."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class TlsLine(asyncio.Protocol, asyncio.Transport):
    """A protocol to the TCP transport, a transport to the protocol inside. That one hears of us after the handshake.

    Args:
        inner: Gets plain bytes. After a failed handshake it has heard nothing.
        context: Asked for when the first bytes come.
        ended: Called once when the handshake is over: None, or why it failed.
        server_name: The name that the peer's certificate must carry, at the dialling end. None: we are the server.
        made: Called when the connection is there; False: it is dropped, and ``ended`` is not called.
        turns: Of all handshakes of one listener. None: a step is taken at once.
    """

    def __init__(
        self,
        inner: Inner,
        context: Callable[[], ssl.SSLContext],
        ended: Callable[[TlsLine, TlsRefusedError | None], None],
        *,
        server_name: str | None = None,
        made: Callable[[TlsLine], bool] | None = None,
        turns: Turns | None = None,
    ) -> None:
        super().__init__()
        self._inner = inner
        self._context = context
        self._ended = ended
        self._server_name = server_name
        self._made = made
        self._turns = turns
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None  # a caller that says nothing costs no TLS state
        self._transport: asyncio.Transport
        self._shaking = False  # between the connection and the end of its handshake
        self._up = False
        self._asked = False  # for a turn
        self.failure: TlsRefusedError | None = None  # what ended it after the handshake
        self.terminal_id = ""  # that the kiosk's certificate names

    # ------------------------------------------------------------------------------------------------ TCP side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._made is not None and not self._made(self):
            self._transport.abort()
            return
        self._shaking = True
        if self._server_name is not None:
            self.step()

    def data_received(self, data: bytes) -> None:
        if self._shaking:
            if self._incoming.pending + len(data) > limits.TLS_HANDSHAKE_BYTES_MAX:
                self.refuse(TlsRefusedError("flood", f"more than {limits.TLS_HANDSHAKE_BYTES_MAX} bytes of handshake"))
                return
            self._incoming.write(data)
            if self._turns is None:
                self.step()
            elif not self._asked:
                self._asked = True
                self._turns.ask(self)
        elif self._up:
            self._incoming.write(data)
            self._read()

    def eof_received(self) -> bool:
        if self._up:
            self._inner.eof_received()
        return False

    def pause_writing(self) -> None:
        if self._up:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._up:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._shaking:
            self._over(TlsRefusedError("cut", "the peer hung up in the middle of the handshake"))
        elif self._up:
            self._up = False
            self._inner.connection_lost(self.failure or exc)

    # ------------------------------------------------------------------------------------------------ handshake
    def step(self) -> None:
        """Go on with the handshake as far as the bytes at hand allow."""
        self._asked = False
        if not self._shaking:
            return
        try:
            if self._tls is None:
                self._tls = self._context().wrap_bio(
                    self._incoming,
                    self._outgoing,
                    server_side=self._server_name is None,
                    server_hostname=self._server_name,
                )
            self._tls.do_handshake()
            if self._server_name is None:
                self.terminal_id = terminal_of(self._tls.getpeercert())
        except ssl.SSLWantReadError:
            self._write_out()
            return
        except ssl.SSLError as error:
            self._fail(refusal(error))
            return
        except TlsRefusedError as error:
            self._fail(error)
            return
        except ValueError as error:  # a name that no certificate can carry
            self._fail(TlsRefusedError("name", f"server name {self._server_name!r}: {error}"))
            return
        self._write_out()
        self._over(None)
        self._up = True
        self._inner.connection_made(self)
        if self._up and not self._transport.is_closing():
            self._read()  # the first frame may have come with the end of the handshake

    def refuse(self, error: TlsRefusedError) -> None:
        """End a handshake from our side, without a word to the peer."""
        if self._shaking:
            self._over(error)
            self._transport.abort()

    def _fail(self, error: TlsRefusedError) -> None:
        self._write_out()  # the alert: it tells the peer why
        self._over(error)
        self._transport.close()

    def _over(self, error: TlsRefusedError | None) -> None:
        self._shaking = False
        self._ended(self, error)

    # ------------------------------------------------------------------------------------------------ plain side
    def _read(self) -> None:
        tls = self._tls
        assert tls is not None
        try:
            while data := tls.read(READ_SIZE):
                self._inner.data_received(data)
                if not self._up or self._transport.is_closing():
                    return
        except ssl.SSLWantReadError:
            self._write_out()  # an answer to a change of keys, if any
        except ssl.SSLError as error:
            self.failure = refusal(error)
            self._write_out()
            self._transport.close()
        else:
            # The peer's goodbye, as good as the end of its stream.
            self._inner.eof_received()
            self.close()

    def _write_out(self) -> None:
        data = self._outgoing.read()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # ------------------------------------------------------------------------------------------------ as a transport
    def write(self, data: bytes | bytearray | memoryview) -> None:
        tls = self._tls
        assert tls is not None
        rest = memoryview(data)
        while rest:
            rest = rest[tls.write(rest) :]
        # One write, as without TLS; whoever calls has let go of these frames already.
        self._transport.write(self._outgoing.read())

    def close(self) -> None:
        if self._transport.is_closing():
            return
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # writes our goodbye; the peer's is not waited for
            self._write_out()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "terminal_id":
            return self.terminal_id
        return self._transport.get_extra_info(name, default)
