"""Seals card data under keys that live for an hour, so that deleting a key shreds the data everywhere.

The database, its log, its standbys and its backups keep every ciphertext that was ever written; the only thing that we
can destroy for certain is a key. Each hour (UTC) has its own AES-256 key, wrapped under the LMK in its own file
``<directory>/<YYYYMMDD>T<HH>.key``. The file is synced before the key's first use: what was sealed can be opened after
kill -9, a power cut, and by the process that takes over. The directory must be outside PostgreSQL and its backups.

    sealed    version 1 byte | hour 4 bytes | nonce 12 bytes | AES-256-GCM ciphertext and tag
    key file  version 1 byte | hour 4 bytes | nonce 12 bytes | the hour's key and tag, the same way, under the LMK

An hour is the number of hours since 1970. Version and hour are authenticated together with the caller's context.

Which hours are needed only the database knows: ``runtime/shredder.py`` asks it and gives ``shred`` the rest.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from switch import limits
from switch.errors import SecurityError
from switch.security import keyfile

_VERSION: Final = b"\x01"
_HEADER_SIZE: Final = 5
_NONCE_SIZE: Final = 12
_TAG_SIZE: Final = 16
_KEY_SIZE: Final = 32
_FILE_SIZE: Final = _HEADER_SIZE + _NONCE_SIZE + _KEY_SIZE + _TAG_SIZE
_FILE_CONTEXT: Final = b"vault key"
_HOUR_US: Final = 3_600_000_000
_HOUR_MAX: Final = 70_389_527  # the last one of the year 9999
_FILE_NAME: Final = re.compile(r"\.?(\d{8}T\d{2})\.key(?:\.[0-9a-f]+\.tmp)?")


def system_wall_us() -> int:
    return time.time_ns() // 1000


class Vault:
    """Seals and opens. Blocks for a few file operations at the first use of an hour, else never.

    Args:
        directory: Made when missing. Shared by the processes of one cell.
        wrapping_key: 32 bytes, derived from the LMK.
        wall_us: Microseconds since 1970: which hour it is.
    """

    def __init__(self, directory: Path, wrapping_key: bytes, wall_us: Callable[[], int] = system_wall_us) -> None:
        assert len(wrapping_key) == 32
        self._directory = directory
        self._wrapping = AESGCM(wrapping_key)
        self._wall_us = wall_us
        # Of this hour and the next, whose file names are known to survive a power cut: replaced whole, so that the
        # loop may read it while another thread prepares an hour.
        self._sealing: dict[int, AESGCM] = {}
        self._opening: OrderedDict[int, AESGCM] = OrderedDict()  # the last used one at the end
        self._lock = threading.Lock()  # of both, for whoever changes them

    def seal(self, context: bytes, clear: bytes) -> bytes:
        """Encrypt under the current hour's key.

        Raises:
            SecurityError: ``key``: the hour's key file is damaged. ``unavailable``: the disk refuses.
        """
        assert context
        hour = self.current_hour()
        key = self._sealing.get(hour) or self._key_for_sealing(hour)
        return _encrypt(key, hour, context, clear)

    def open(self, context: bytes, sealed: bytes) -> bytes:
        """Decrypt what ``seal`` made with the same context.

        Raises:
            SecurityError: ``key``: the hour's key is gone (shredded) or damaged. ``mac``: damaged, tampered with, or
                another context. ``unavailable``: the disk refuses.
        """
        assert context
        hour = self.hour_of(sealed)
        key = self._sealing.get(hour) or self._key_for_opening(hour)
        clear = _decrypt(key, context, sealed)
        if clear is None:
            raise SecurityError("mac", "sealed card data: damaged, tampered with, or of another payment")
        return clear

    def prepare_next_hour(self) -> None:
        """Make the next hour's key ready, so that the turn of the hour costs no file operations. Safe in a thread."""
        hour = self.current_hour() + 1
        if hour not in self._sealing:
            self._key_for_sealing(hour)

    def hours(self) -> set[int]:
        """Hours that have a key file, a rest of one, or a copy of the key in this process. Safe in a thread.

        Raises:
            SecurityError: ``unavailable``: the disk refuses.
        """
        with self._lock:
            held = {*self._sealing, *self._opening}
        return held | {hour for hour, _ in self._files()}

    def shred(self, unneeded: Collection[int]) -> int:
        """Delete the keys of these hours, here and on the disk; gives how many files went. Safe in a thread.

        The caller knows that no row needs them and none is on its way that does. The keys of the current hour, of the
        one before and of later ones stay in any case. Other processes forget their copies when they call this too.

        Raises:
            SecurityError: ``unavailable``: the disk refuses; some may be deleted.
        """
        until = self.current_hour() + 1 - limits.VAULT_HOURS_KEPT
        going = {hour for hour in unneeded if hour < until}
        count = 0
        try:
            for hour, path in self._files():
                if hour in going:
                    path.unlink(missing_ok=True)  # another process is at it too
                    count += 1
            if count:
                keyfile.sync_directory(self._directory)
        except OSError as error:
            raise SecurityError("unavailable", f"{self._directory}: cannot shred: {error.strerror}") from None
        finally:
            # After the files, from which an hour could else be read again meanwhile.
            with self._lock:
                self._sealing = {hour: key for hour, key in self._sealing.items() if hour not in going}
                for hour in going:
                    self._opening.pop(hour, None)
        return count

    def _files(self) -> list[tuple[int, Path]]:
        """Temporary files too: a kill may leave one that is a second name of the key."""
        found: list[tuple[int, Path]] = []
        try:
            for path in self._directory.iterdir() if self._directory.is_dir() else ():
                named = _FILE_NAME.fullmatch(path.name)
                hour = None if named is None else _hour_named(named[1])
                if hour is not None:
                    found.append((hour, path))
        except OSError as error:
            raise SecurityError("unavailable", f"{self._directory}: cannot be listed: {error.strerror}") from None
        return found

    def current_hour(self) -> int:
        return self._wall_us() // _HOUR_US

    @staticmethod
    def hour_of(sealed: bytes) -> int:
        """The hour in which it was sealed, and so the key that it needs.

        Raises:
            SecurityError: ``mac``: not sealed card data.
        """
        hour = int.from_bytes(sealed[1:_HEADER_SIZE], "big")
        short = len(sealed) < _HEADER_SIZE + _NONCE_SIZE + _TAG_SIZE
        if short or sealed[:1] != _VERSION or hour > _HOUR_MAX:
            raise SecurityError("mac", f"not sealed card data of version {_VERSION[0]} ({len(sealed)} bytes)")
        return hour

    def _key_for_sealing(self, hour: int) -> AESGCM:
        path = self._directory / f"{_name(hour)}.key"
        try:
            keyfile.make_private_directory(self._directory)
            if not path.exists():
                content = _encrypt(self._wrapping, hour, _FILE_CONTEXT, AESGCM.generate_key(_KEY_SIZE * 8))
                keyfile.create_once(path, content)
            key = self._read(hour)
            # The process that made the file may not have come to this point yet, and we are about to rely on it.
            keyfile.sync_directory(self._directory)
        except OSError as error:
            raise SecurityError("unavailable", f"{path}: {error.strerror}; no card data can be sealed") from None
        current = self.current_hour()
        with self._lock:
            self._sealing = {each: held for each, held in self._sealing.items() if each >= current} | {hour: key}
        return key

    def _key_for_opening(self, hour: int) -> AESGCM:
        with self._lock:
            key = self._opening.get(hour)
            if key is not None:
                self._opening.move_to_end(hour)
                return key
            try:
                key = self._read(hour)
            except FileNotFoundError:
                raise SecurityError(
                    "key", f"no vault key {_name(hour)}: the card data of that hour was shredded"
                ) from None
            except OSError as error:
                raise SecurityError("unavailable", f"vault key {_name(hour)}: {error.strerror}") from None
            self._opening[hour] = key
            while len(self._opening) > limits.VAULT_KEYS_CACHED_MAX:
                self._opening.popitem(last=False)
            return key

    def _read(self, hour: int) -> AESGCM:
        path = self._directory / f"{_name(hour)}.key"
        content = keyfile.read_private(path, _FILE_SIZE)
        key = None
        if content[:_HEADER_SIZE] == _header(hour):
            key = _decrypt(self._wrapping, _FILE_CONTEXT, content)
        if key is None:
            raise SecurityError("key", f"{path}: damaged, or wrapped under another local master key; restore it")
        return AESGCM(key)

    def __repr__(self) -> str:
        return f"<Vault {self._directory}>"


def _encrypt(key: AESGCM, hour: int, context: bytes, clear: bytes) -> bytes:
    header = _header(hour)
    nonce = os.urandom(_NONCE_SIZE)
    return header + nonce + key.encrypt(nonce, clear, header + context)


def _decrypt(key: AESGCM, context: bytes, sealed: bytes) -> bytes | None:
    header = sealed[:_HEADER_SIZE]
    nonce = sealed[_HEADER_SIZE : _HEADER_SIZE + _NONCE_SIZE]
    try:
        return key.decrypt(nonce, sealed[_HEADER_SIZE + _NONCE_SIZE :], header + context)
    except InvalidTag:
        return None


def _header(hour: int) -> bytes:
    return _VERSION + hour.to_bytes(4, "big")


def _name(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y%m%dT%H")


def _hour_named(name: str) -> int | None:
    try:
        return int(datetime.strptime(name, "%Y%m%dT%H").replace(tzinfo=UTC).timestamp()) // 3600
    except ValueError:  # digits that are no date: not a file of ours
        return None
