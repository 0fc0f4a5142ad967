"""Files that kiosks were asked for: announced with size and digest, sent in parts, resumed wherever they were cut.

A part is written at its offset and synced, then the row says how far it goes: after a crash between the two the same
part is sent and written again. Files lie in ``folder/<kiosk>/<id>``, which no web server serves; the kiosk chooses no
part of the path.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Any, Final

from admin import limits
from admin.db.pool import Database
from admin.db.queries import statements
from admin.deviceapi.http import DeviceError
from admin.deviceapi.messages import NewUpload
from admin.deviceapi.store import Kiosk

_QUERY = statements(__file__)
_RANGE: Final = re.compile(rb"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
# What a command may bring.
_KINDS: Final = {"log.pull": "log", "ej.pull": "ej", "screenshot": "screenshot", "diag.run": "diag"}
_READ_BYTES: Final = 1024 * 1024


class Uploads:
    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    async def announce(self, kiosk: Kiosk, new: NewUpload) -> dict[str, Any]:
        """Where to send it and from which byte on; announced twice, it is the same upload.

        Raises:
            DeviceError: 404 ``E_COMMAND``; 409 ``E_STATE``: the command asks for no such file now; 429 ``E_UPLOADS``.
        """
        command_id, digest = int(new.command), bytes.fromhex(new.sha256)
        async with self._database.transaction() as connection:
            command = await connection.fetchrow(_QUERY["command_lock"], kiosk.id, command_id)
            if command is None:
                raise DeviceError(404, "E_COMMAND", "this kiosk has no such command")
            same = await connection.fetchrow(_QUERY["upload_same"], kiosk.id, command_id, digest)
            if same is not None:
                return {"id": same["id"], "received": same["received"], "state": same["state"]}
            if _KINDS.get(command["type"]) != new.kind or command["state"] not in ("delivered", "running"):
                raise DeviceError(409, "E_STATE", "this command asks for no such file now")
            if await connection.fetchval(_QUERY["uploads_open"], kiosk.id) >= limits.UPLOADS_OPEN_MAX:
                raise DeviceError(429, "E_UPLOADS", "too many uploads are open", retry=True, after_s=60)
            upload_id = secrets.token_hex(16)
            await connection.execute(
                _QUERY["upload_add"], upload_id, kiosk.id, command_id, new.kind, new.name, new.size, digest
            )
            return {"id": upload_id, "received": 0, "state": "open"}

    async def state(self, kiosk: Kiosk, upload_id: str) -> dict[str, Any]:
        async with self._database.connection() as connection:
            row = await self._row(connection, kiosk, upload_id)
        return {"received": row["received"], "state": row["state"]}

    async def append(self, kiosk: Kiosk, upload_id: str, content_range: bytes, part: bytes) -> dict[str, Any]:
        """One part. The last one ends it: ``complete``, or ``bad`` when the digest is another.

        Raises:
            DeviceError: 404; 409 ``E_STATE``: it is over; 416 ``E_RANGE``: says from which byte to go on;
                422: range and part differ; 503: the disk.
        """
        match = _RANGE.fullmatch(content_range)
        if match is None:
            raise DeviceError(422, "E_RANGE", "expected Content-Range: bytes FIRST-LAST/SIZE")
        first, last, size = (int(text) for text in match.groups())
        async with self._database.connection() as connection:
            row = await self._row(connection, kiosk, upload_id)
        if row["state"] != "open":
            raise DeviceError(409, "E_STATE", f"this upload is {row['state']}", state=row["state"])
        if size != row["size"] or last - first + 1 != len(part) or not part:
            raise DeviceError(422, "E_RANGE", f"{len(part)} bytes, and {row['size']} in all, do not fit the range")
        if first != row["received"] or last >= size:
            raise DeviceError(416, "E_RANGE", "go on from where it stands", received=row["received"])
        path = self._folder / str(kiosk.id) / upload_id
        try:
            await asyncio.to_thread(_write, path, part, first)
            whole = last + 1 == size
            good = not whole or await asyncio.to_thread(_digest, path, size) == row["sha256"]
        except OSError as error:
            raise DeviceError(503, "E_DISK", f"cannot be kept now: {error.strerror}", retry=True, after_s=300) from None
        state = "open" if not whole else "complete" if good else "bad"
        async with self._database.transaction() as connection:
            received = await connection.fetchval(_QUERY["upload_grow"], kiosk.id, upload_id, first, last + 1)
            if received is None:
                row = await self._row(connection, kiosk, upload_id)
                raise DeviceError(416, "E_RANGE", "another request wrote it meanwhile", received=row["received"])
            if state != "open":
                await connection.execute(_QUERY["upload_end"], kiosk.id, upload_id, state)
        if state == "bad":
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return {"received": received, "state": state}

    async def _row(self, connection: Any, kiosk: Kiosk, upload_id: str) -> Any:
        row = await connection.fetchrow(_QUERY["upload_read"], kiosk.id, upload_id)
        if row is None:
            raise DeviceError(404, "E_UPLOAD", "this kiosk has no such upload")
        return row


def _write(path: Path, part: bytes, at: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(part)
        while view:
            written = os.pwrite(handle, view, at)
            view, at = view[written:], at + written
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path, size: int) -> bytes:
    """Of the first ``size`` bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(size, _READ_BYTES))):
            digest.update(piece)
            size -= len(piece)
    return digest.digest()
