"""What a terminal downloads from its acquirer, and the file that keeps it: ``KioskClient.download_parameters``.

The file is JSON, replaced as a whole. Items that have come stand under ``coming`` until the last of their kind; then
they take the place of those before them at once. So a download that was interrupted, by whatever, goes on where it was,
and a chip reader never sees half a set. Nothing in it is secret; who can write it, though, decides which cards the
reader believes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

import iso8583
from iso8583 import tlv
from switch.kiosk.results import JournalError
from switch.limits import KIOSK_DOWNLOAD_ITEMS_MAX

# A kind of download is what digit 6 of the header asks for.
TEXT, PUBLIC_KEYS, APPLICATIONS = "1", "4", "5"
Tags = dict[str, bytes]


class Steps(Struct, frozen=True):
    """60.3 of the messages of one kind; ``listing`` is "" where there is but one item."""

    listing: str
    item: str
    done: str


STEPS: Final = {
    TEXT: Steps("", "360", "361"),
    PUBLIC_KEYS: Steps("372", "370", "371"),
    APPLICATIONS: Steps("382", "380", "381"),
}
_NAMES: Final = ("9F06", "9F22")


class Parameters(Struct, frozen=True):
    """Everything that has come whole.

    Attributes:
        text: Parameters of the terminal as the acquirer sent them: two digits for a name, then a value whose size and
            meaning the acquirer's specification tells.
        public_keys: Of card schemes, by tag: 9F06 scheme, 9F22 index, DF05 expiry, DF02 modulus, DF04 exponent, …
        applications: Of the chip reader, by tag: 9F06 application, DF11 to DF13 action codes, 9F1B floor limit, …
    """

    text: bytes = b""
    public_keys: tuple[Tags, ...] = ()
    applications: tuple[Tags, ...] = ()


class _State(Struct):
    terminal: str
    whole: dict[str, list[str]] = {}  # by kind: items in hexadecimal
    coming: dict[str, dict[str, str]] = {}  # by kind: what the listing said of an item, and the item


class ParameterFile:
    """Of one terminal. Raises JournalError ``parameters_damaged``, ``journal_foreign``, ``journal_write``."""

    def __init__(self, path: Path, terminal_id: str) -> None:
        self.path = path
        try:
            self._state = msgspec.json.decode(path.read_bytes(), type=_State)
            self._loaded()
        except FileNotFoundError:
            self._state = _State(terminal_id)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise JournalError(
                "parameters_damaged", f"{path}: {error}; remove it, and the parameters are downloaded anew"
            ) from None
        if self._state.terminal != terminal_id:
            raise JournalError("journal_foreign", f"{path} is of terminal {self._state.terminal}, not of {terminal_id}")

    def _loaded(self) -> Parameters:
        whole = {kind: [bytes.fromhex(item) for item in items] for kind, items in self._state.whole.items()}
        return Parameters(
            b"".join(whole.get(TEXT, [])),
            tuple(dict(_decoded(item)) for item in whole.get(PUBLIC_KEYS, [])),
            tuple(dict(_decoded(item)) for item in whole.get(APPLICATIONS, [])),
        )

    @property
    def parameters(self) -> Parameters:
        return self._loaded()

    def coming(self, kind: str) -> dict[bytes, bytes]:
        """Items of an unfinished download, by what the listing says of them."""
        return {bytes.fromhex(key): bytes.fromhex(item) for key, item in self._state.coming.get(kind, {}).items()}

    def keep(self, kind: str, listed: bytes, item: bytes) -> None:
        self._state.coming.setdefault(kind, {})[listed.hex()] = item.hex()
        self._write()

    def finish(self, kind: str, listing: list[bytes]) -> None:
        """All of this listing have come: they are what counts from now on."""
        coming = self._state.coming.pop(kind, {})
        self._state.whole[kind] = [coming[listed.hex()] for listed in listing]
        self._write()

    def _write(self) -> None:
        new = self.path.with_name(self.path.name + ".new")
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(self._state))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise JournalError("journal_write", f"{new}: {error.strerror}") from None


def read_listing(kind: str, data: bytes) -> tuple[list[bytes], bool]:
    """One page of what there is: an entry an item, and whether more follow.

    Raises:
        ValueError: It is no listing, or has more items than a chip reader holds.
    """
    if not data or data[:1] not in b"0123":
        raise ValueError("the listing does not begin with 0, 1, 2 or 3")
    entries: list[bytes] = []
    for tag, value in _decoded(data[1:]):
        pair = tlv.encode([(tag, value)])
        if tag == "9F06":
            entries.append(pair)
        elif entries:
            entries[-1] += pair
        else:
            raise ValueError("the listing does not begin with tag 9F06")
    if len(entries) > KIOSK_DOWNLOAD_ITEMS_MAX:
        raise ValueError(f"more than {KIOSK_DOWNLOAD_ITEMS_MAX} items")
    return entries, data[:1] == b"2"


def question(listed: bytes) -> bytes:
    """Field 62 that asks for an item of the listing."""
    return tlv.encode([pair for pair in _decoded(listed) if pair[0] in _NAMES])


def read_item(kind: str, listed: bytes, data: bytes) -> bytes:
    """An item as it is kept. ``listed``: what the listing says of it.

    Raises:
        ValueError: It is another one, or a public key whose check value (SHA-1 over scheme, index, modulus, exponent)
            is not its own.
    """
    if kind == TEXT:
        return data
    found = dict(_decoded(data[1:]))
    if any(found.get(tag) != value for tag, value in _decoded(listed) if tag in _NAMES):
        raise ValueError("it is another item than the one that was asked for")
    if kind == PUBLIC_KEYS:
        covered = b"".join(found.get(tag, b"") for tag in ("9F06", "9F22", "DF02", "DF04"))
        if hashlib.sha1(covered, usedforsecurity=False).digest() != found.get("DF03"):
            raise ValueError("the public key does not fit its check value")
    return data[1:]


def _decoded(data: bytes) -> list[tuple[str, bytes]]:
    try:
        return tlv.decode(data)
    except iso8583.Iso8583Error:
        raise ValueError("field 62 is no BER-TLV") from None
