"""Seals card data under keys that live for an hour, so that deleting a key shreds the data everywhere.

The database, its log, its standbys and its backups keep every ciphertext that was ever written; the only thing that we
can destroy for certain is a key. Each hour (UTC) has its own AES-256 key, wrapped under the LMK in its own file
``<directory>/<YYYYMMDD>T<HH>.key``. The file is synced before the key's first use: what was sealed can be opened after
kill -9, a power cut, and by the process that takes over. The directory must be outside PostgreSQL and its backups.

    sealed    version 1 byte | hour 4 bytes | nonce 12 bytes | AES-256-GCM ciphertext and tag
    key file  version 1 byte | hour 4 bytes | nonce 12 bytes | the hour's key and tag, the same way, under the LMK

An hour is the number of hours since 1970. Version and hour are authenticated together with the caller's context.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
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
# A payment sealed just before the hour may be committed just after it: shredding by what the database shows must not
# take the key of a row that is still on its way.
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
        self._keys: dict[int, AESGCM] = {}
        self._synced: set[int] = set()  # hours whose file name is known to survive a power cut

    def seal(self, context: bytes, clear: bytes) -> bytes:
        """Encrypt under the current hour's key.

        Raises:
            SecurityError: ``key``: the hour's key file is damaged. ``unavailable``: the disk refuses.
        """
        assert context
        hour = self.current_hour()
        key = self._keys.get(hour)
        if key is None or hour not in self._synced:
            key = self._key_for_sealing(hour)
        return _encrypt(key, hour, context, clear)

    def open(self, context: bytes, sealed: bytes) -> bytes:
        """Decrypt what ``seal`` made with the same context.

        Raises:
            SecurityError: ``key``: the hour's key is gone (shredded) or damaged. ``mac``: damaged, tampered with, or
                another context. ``unavailable``: the disk refuses.
        """
        assert context
        hour = self.hour_of(sealed)
        key = self._keys.get(hour)
        if key is None:
            try:
                key = self._read(hour)
            except FileNotFoundError:
                raise SecurityError(
                    "key", f"no vault key {_name(hour)}: the card data of that hour was shredded"
                ) from None
            except OSError as error:
                raise SecurityError("unavailable", f"vault key {_name(hour)}: {error.strerror}") from None
            self._remember(hour, key)
        clear = _decrypt(key, context, sealed)
        if clear is None:
            raise SecurityError("mac", "sealed card data: damaged, tampered with, or of another payment")
        return clear

    def prepare_next_hour(self) -> None:
        """Make the next hour's key ready, so that the turn of the hour costs no file operations. Safe in a thread."""
        self._key_for_sealing(self.current_hour() + 1)

    def shred(self, before_hour: int) -> int:
        """Delete the keys of all hours before ``before_hour``; gives how many files went.

        The caller knows that nothing sealed then is open any more: see ``hour_of``. The keys of the current hour and
        the one before stay in any case. Other processes forget their copies when they call this themselves.

        Raises:
            SecurityError: ``unavailable``: the disk refuses; some may be deleted.
        """
        before_hour = min(before_hour, self.current_hour() + 1 - limits.VAULT_HOURS_KEPT)
        for hour in [hour for hour in list(self._keys) if hour < before_hour]:
            self._synced.discard(hour)
            self._keys.pop(hour, None)
        count = 0
        try:
            if not self._directory.is_dir():
                return 0
            for path in list(self._directory.iterdir()):
                # Temporary files too: a kill may leave one that is a second name of the key.
                named = _FILE_NAME.fullmatch(path.name)
                if named is not None and _hour_named(named[1], _HOUR_MAX) < before_hour:
                    path.unlink(missing_ok=True)
                    count += 1
            keyfile.sync_directory(self._directory)
        except OSError as error:
            raise SecurityError("unavailable", f"{self._directory}: cannot shred: {error.strerror}") from None
        return count

    def current_hour(self) -> int:
        return self._wall_us() // _HOUR_US

    @staticmethod
    def hour_of(sealed: bytes) -> int:
        """The hour in which it was sealed: the oldest one of all open rows is the argument of ``shred``.

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
        self._remember(hour, key)
        self._synced.add(hour)
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

    def _remember(self, hour: int, key: AESGCM) -> None:
        while len(self._keys) >= limits.VAULT_KEYS_CACHED_MAX:
            oldest = min(self._keys)
            self._synced.discard(oldest)
            self._keys.pop(oldest, None)
        self._keys[hour] = key

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


def _hour_named(name: str, otherwise: int) -> int:
    try:
        return int(datetime.strptime(name, "%Y%m%dT%H").replace(tzinfo=UTC).timestamp()) // 3600
    except ValueError:  # digits that are no date: not a file of ours
        return otherwise
