"""Routes of the device API: who may ask what, and how errors are told.

    without a certificate   POST /agent/v1/enroll              serial number, code, CSR  -> a poll token
                            POST /agent/v1/enroll/poll         the token                 -> pending, or the certificate
    with a certificate      POST /agent/v1/cert/renew          CSR of the same key       -> the next certificate
                            POST /agent/v1/beat                how it is                 -> when next, commands
                            POST /agent/v1/events              batch                     -> ack
                            POST /agent/v1/sessions            batch                     -> ack
                            POST /agent/v1/commands/{id}       what became of it
                            POST /agent/v1/uploads             announces a file          -> its id
                            GET  /agent/v1/uploads/{id}        how far it is
                            PUT  /agent/v1/uploads/{id}        a part

Who a kiosk is comes from the certificate that TLS verified, and from nothing that a request says.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from admin import limits
from admin.auth.audit import audit
from admin.db.pool import Database
from admin.deviceapi import http, messages, store
from admin.deviceapi.http import Buckets, DeviceError, Receive, Scope, Send
from admin.deviceapi.listener import CERTIFICATE
from admin.deviceapi.store import Kiosk, Pace
from admin.deviceapi.uploads import Uploads
from admin.devices.trust import enrolment
from admin.devices.trust.authority import Authority, spki_sha256
from admin.errors import AdminError, UnavailableError

_log = logging.getLogger("admin.deviceapi")
_PREFIX: Final = "/agent/v1"
_AWAY_S: Final = 10  # seconds after which a kiosk asks again when the database does not answer
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_UPLOAD_ID: Final = re.compile(r"[0-9a-f]{32}")
_ENROLMENT: Final = msgspec.json.Decoder(messages.Enrolment)
_POLL: Final = msgspec.json.Decoder(messages.Poll)
_RENEWAL: Final = msgspec.json.Decoder(messages.Renewal)
_BEAT: Final = msgspec.json.Decoder(messages.Beat)
_EVENTS: Final = msgspec.json.Decoder(messages.EventBatch)
_SESSIONS: Final = msgspec.json.Decoder(messages.SessionBatch)
_REPORT: Final = msgspec.json.Decoder(messages.Report)
_UPLOAD: Final = msgspec.json.Decoder(messages.NewUpload)


def make_device_app(
    database: Database,
    authority: Authority,
    *,
    uploads: Path,
    pace: Pace | None = None,
    wall: Callable[[], float] = time.time,
) -> Any:
    """The ASGI application.

    Args:
        database: A pool of its own (``limits.DEVICE_POOL``): a thousand kiosks must not take people's connections.
        uploads: Folder of what kiosks send, outside of what the web serves.
        pace: How often kiosks are told to beat.
        wall: Seconds since 1970.
    """
    return _App(database, authority, Uploads(database, uploads), pace or Pace(), wall)


@dataclass(frozen=True)
class _Request:
    scope: Scope
    receive: Receive
    headers: dict[bytes, bytes]
    address: str

    async def body(self) -> bytes:
        """JSON text, inflated. Raises DeviceError."""
        sent = await http.read_body(self.receive, self.headers, limits.DEVICE_BODY_MAX)
        clear = http.inflate(sent, self.headers.get(b"content-encoding", b""), limits.DEVICE_BODY_MAX)
        if b"\\u0000" in clear:  # PostgreSQL's text has no such character
            raise DeviceError(422, "E_BODY", "a NUL character is in a text")
        return clear


class _App:
    def __init__(
        self, database: Database, authority: Authority, uploads: Uploads, pace: Pace, wall: Callable[[], float]
    ) -> None:
        self._database = database
        self._authority = authority
        self._uploads = uploads
        self._pace = pace
        self._wall = wall
        self._kiosks = Buckets(limits.DEVICE_RATE, limits.DEVICE_BURST, time.monotonic)
        self._items = Buckets(limits.ITEMS_RATE, limits.ITEMS_BURST, time.monotonic)
        self._enrolments = Buckets(limits.ENROLMENT_RATE, limits.ENROLMENT_BURST, time.monotonic)
        # A token has 256 bits: nobody finds one by trying, and a hall of kiosks may wait behind one address.
        self._polls = Buckets(limits.DEVICE_RATE, limits.DEVICE_BURST, time.monotonic)
        self._shown: dict[bytes, tuple[bytes, float]] = {}  # by certificate: its key, and until when it counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request = _Request(scope, receive, headers, scope["client"][0] if scope["client"] else "")
        try:
            await http.answer(send, 200, await self._answer(request))
        except DeviceError as error:
            # What is left of a body that was not read would be taken for the next request.
            close = error.status in (400, 408, 413)
            await http.answer(send, error.status, error.body, after_s=error.after_s, close=close)
        except UnavailableError as error:
            body = {"code": "E_AWAY", "msg": f"the database does not answer [{error.code}]", "retry": True}
            await http.answer(send, 503, body, after_s=_AWAY_S)
        except AdminError as error:
            await http.answer(
                send, error.status, {"code": f"E_{error.code.upper()}", "msg": str(error), "retry": False}
            )
        except Exception:
            _log.exception("device_request_failed", extra={"path": scope["path"]})
            await http.answer(send, 500, {"code": "E_INTERNAL", "msg": "our fault; it is logged", "retry": True})

    async def _answer(self, request: _Request) -> dict[str, Any]:
        method, path = request.scope["method"], request.scope["path"]
        if not path.startswith(_PREFIX + "/"):
            raise DeviceError(404, "E_PATH", "no such path")
        route, _, item = path.removeprefix(_PREFIX + "/").partition("/")
        if (method, route) == ("POST", "enroll") and item in ("", "poll"):
            (self._polls if item else self._enrolments).take(request.address)
            return await (self._poll(request) if item else self._enrol(request))
        digest = self._identify(request)
        self._kiosks.take(digest)
        async with self._database.connection() as connection:
            kiosk = await store.who(connection, digest)
        if kiosk.state == "retired":
            return await self._retired(request, kiosk, method, route, item)
        match method, route, item:
            case "POST", "beat", "":
                return await self._beat(request, kiosk)
            case "POST", "events" | "sessions", "":
                batch = http.decode(_EVENTS if route == "events" else _SESSIONS, await request.body())
                self._items.take(digest, len(batch.items))
                async with self._database.transaction() as connection:
                    return await store.take_batch(connection, kiosk, batch)
            case "POST", "commands", _ if _NUMBER.fullmatch(item):
                return await self._report(request, kiosk, int(item))
            case "POST", "uploads", "":
                return await self._uploads.announce(kiosk, http.decode(_UPLOAD, await request.body()))
            case "GET", "uploads", _ if _UPLOAD_ID.fullmatch(item):
                return await self._uploads.state(kiosk, item)
            case "PUT", "uploads", _ if _UPLOAD_ID.fullmatch(item):
                part = await http.read_body(request.receive, request.headers, limits.UPLOAD_CHUNK_MAX)
                return await self._uploads.append(kiosk, item, request.headers.get(b"content-range", b""), part)
            case "POST", "cert", "renew":
                return await self._renew(request, kiosk)
        raise DeviceError(404, "E_PATH", "no such path, or not with this method")

    def _identify(self, request: _Request) -> bytes:
        """Digest of the key of the certificate that TLS verified. It is taken apart once.

        Raises:
            DeviceError: 401 ``E_CERTIFICATE``: none was shown; ``E_EXPIRED``: TLS looked at it when the connection was
                made, which may be months ago.
        """
        certificate = request.scope.get("extensions", {}).get("tls", {}).get(CERTIFICATE)
        if certificate is None:
            raise DeviceError(401, "E_CERTIFICATE", "show the kiosk's certificate")
        name = hashlib.sha256(certificate).digest()
        known = self._shown.get(name)
        if known is None:
            shown = x509.load_der_x509_certificate(certificate)
            known = (spki_sha256(shown.public_key()), shown.not_valid_after_utc.timestamp())
            if len(self._shown) >= limits.BUCKETS_MAX:
                self._shown.clear()
            self._shown[name] = known
        if known[1] <= self._wall():
            raise DeviceError(401, "E_EXPIRED", "the certificate has expired: enrol")
        return known[0]

    # ------------------------------------------------------------------------------------------------ identity
    async def _enrol(self, request: _Request) -> dict[str, Any]:
        asked = http.decode(_ENROLMENT, await request.body())
        try:
            async with self._database.transaction() as connection:
                made = await enrolment.ask(connection, asked.serial_number, asked.code, asked.csr, request.address)
                if made.second_key:
                    await store.suspect_clone(
                        connection, made.kiosk_id, {"how": "second_key", "address": request.address}
                    )
                await audit(
                    *(connection, f"kiosk:{made.kiosk_code}", "kiosk.enrol", "kiosk", made.kiosk_id),
                    org_path=made.org_path,
                    address=request.address,
                    certificate=made.certificate_id,
                    fingerprint=made.fingerprint,
                )
        except enrolment.RefusedError as error:
            await self._denied("kiosk.enrol", request, error, asked.serial_number)
            raise DeviceError(403, "E_ENROL", error.text) from None
        return {"state": "pending", "token": made.poll_token, "kiosk": made.kiosk_code, "fingerprint": made.fingerprint}

    async def _poll(self, request: _Request) -> dict[str, Any]:
        asked = http.decode(_POLL, await request.body())
        async with self._database.connection() as connection:
            found = await enrolment.poll(connection, asked.token)
        if found is None:
            raise DeviceError(404, "E_TOKEN", "nobody has this token")
        if found.state != "active":
            return {"state": found.state}
        return {"state": "active", "kiosk": found.kiosk_code, **self._issued(found.certificate)}

    async def _renew(self, request: _Request, kiosk: Kiosk) -> dict[str, Any]:
        asked = http.decode(_RENEWAL, await request.body())
        try:
            async with self._database.transaction() as connection:
                der = await enrolment.renew(
                    connection, self._authority, kiosk.id, kiosk.org_path, kiosk.digest, asked.csr
                )
                await audit(
                    *(connection, f"kiosk:{kiosk.code}", "kiosk.renew", "kiosk", kiosk.id),
                    org_path=kiosk.org_path,
                    address=request.address,
                )
        except enrolment.RefusedError as error:
            await self._denied("kiosk.renew", request, error, "")
            if error.why == "key":
                async with self._database.transaction() as connection:
                    detail = {"how": "second_key", "address": request.address}
                    await store.suspect_clone(connection, kiosk.id, detail)
            raise DeviceError(403, "E_ENROL", error.text) from None
        return self._issued(der)

    def _issued(self, der: bytes) -> dict[str, Any]:
        certificate = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()
        return {
            "certificate": certificate,
            "ca": self._authority.ca_pem.decode(),
            "command_key": base64.b64encode(self._authority.command_public).decode(),
        }

    async def _denied(self, action: str, request: _Request, error: enrolment.RefusedError, serial_number: str) -> None:
        """In a transaction of its own: that of the request is undone."""
        async with self._database.transaction() as connection:
            await audit(
                *(connection, "device", action, "kiosk", error.kiosk_id or ""),
                org_path=error.org_path,
                result="denied",
                reason=error.why,
                address=request.address,
                serial_number=serial_number,
            )

    # ------------------------------------------------------------------------------------------------ daily life
    async def _beat(self, request: _Request, kiosk: Kiosk) -> dict[str, Any]:
        beat = http.decode(_BEAT, await request.body())
        now = datetime.datetime.now(datetime.UTC)
        async with self._database.transaction() as connection:
            return await store.take_beat(connection, kiosk, beat, request.address, now, self._pace)

    async def _report(self, request: _Request, kiosk: Kiosk, command_id: int) -> dict[str, Any]:
        report = http.decode(_REPORT, await request.body())
        async with self._database.transaction() as connection:
            return await store.take_report(connection, kiosk, command_id, report)

    async def _retired(self, request: _Request, kiosk: Kiosk, method: str, route: str, item: str) -> dict[str, Any]:
        """A retired kiosk is refused everything, but for one thing: that it is told to wipe itself, and says it did."""
        if (method, route) == ("POST", "commands") and _NUMBER.fullmatch(item):
            return await self._report(request, kiosk, int(item))
        commands = []
        if (method, route, item) == ("POST", "beat", ""):
            async with self._database.transaction() as connection:
                commands = await store.offer(connection, kiosk, ["factory.wipe"])
        raise DeviceError(403, "E_RETIRED", "this kiosk is retired", commands=commands)
