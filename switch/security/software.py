"""The security module in software: for development, demonstrations, tests and simulators.

Keys lie in this process's memory and, wrapped under the local master key, wherever the caller stores them. That is not
enough for the key of somebody else's card network, so in production the module refuses every terminal master key,
without a waiver: a hardware module answers the same port. Python cannot wipe memory; nothing here pretends to.

A stored key is a block bound to its usage: a TMK's block cannot be loaded as a MAC key.

    block   version 1 byte | usage 1 byte | family 1 byte | nonce 12 bytes | AES-256-GCM of the key and tag

Every ``done`` is called at once, exactly once. The errors given to it carry no traceback: its frames would hold clear
keys, and some log formatters print frames.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from switch.errors import SecurityError
from switch.ports import Key, KeyUsage, MacAlgorithm
from switch.security import mac as macs
from switch.security import workingkeys
from switch.security.lmk import LMK_SIZE, derive
from switch.security.primitives import BlockCipher, Family
from switch.security.vault import Vault, system_wall_us

# An environment that is not listed is taken for production: a typing error must not open the door.
DEVELOPMENT_ENVIRONMENTS: Final = ("development", "demo", "test", "drill")

_BLOCK_VERSION: Final = 1
_HEADER_SIZE: Final = 3
_NONCE_SIZE: Final = 12
_BLOCK_SIZE_MIN: Final = _HEADER_SIZE + _NONCE_SIZE + 8 + 16
_USAGE_BYTES: Final = {KeyUsage.TMK: b"T", KeyUsage.MAC: b"M", KeyUsage.PIN: b"P", KeyUsage.TRACK: b"D"}
_FAMILY_BYTES: Final = {Family.DES: b"D", Family.SM4: b"S"}
_USAGES: Final = {byte: usage for usage, byte in _USAGE_BYTES.items()}
_FAMILIES: Final = {byte: family for family, byte in _FAMILY_BYTES.items()}


class SoftwareKey:
    """A key held by the module. Nothing about it can be read but its usage, family and check value."""

    __slots__ = ("_cipher", "_kcv", "_macs", "_usage")

    def __init__(self, cipher: BlockCipher, usage: KeyUsage) -> None:
        self._cipher = cipher
        self._usage = usage
        self._kcv = cipher.check_value()
        self._macs: dict[str, macs.Mac] = {}

    @property
    def usage(self) -> KeyUsage:
        return self._usage

    @property
    def family(self) -> Family:
        return self._cipher.family

    @property
    def kcv(self) -> bytes:
        return self._kcv

    def __repr__(self) -> str:
        return f"<SoftwareKey {self._usage} {self.family} kcv {self._kcv.hex()}>"

    def __reduce__(self) -> str:
        raise SecurityError("refused", "a key is not copied or pickled")


class SoftwareSecurityModule:
    """``switch.ports.SecurityModule`` in software.

    Args:
        lmk: 32 bytes; see ``lmk.load_or_create_lmk``.
        vault_dir: Where the hourly keys of sealed card data lie; see ``vault``.
        environment: One of ``DEVELOPMENT_ENVIRONMENTS``; anything else counts as ``"production"``.
        wall_us: Microseconds since 1970, for the vault.
    """

    def __init__(
        self, lmk: bytes, vault_dir: Path, environment: str, wall_us: Callable[[], int] = system_wall_us
    ) -> None:
        if len(lmk) != LMK_SIZE:
            raise SecurityError("key", f"the local master key has {LMK_SIZE} bytes, not {len(lmk)}")
        self._wrapping = AESGCM(derive(lmk, "stored keys"))
        self._tokens = hmac.new(derive(lmk, "card tokens"), digestmod="sha256")  # keyed; copied for each card
        self._environment = environment
        self.vault = Vault(vault_dir, derive(lmk, "vault keys"), wall_us)

    @property
    def name(self) -> str:
        return "software"

    # ------------------------------------------------------------------------------------------------ keys
    def load_key(self, wrapped: bytes, usage: KeyUsage, done: Callable[[Key | SecurityError], None]) -> None:
        outcome: Key | SecurityError
        try:
            outcome = self._unwrap(wrapped, usage)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    def import_key(
        self, cryptogram: bytes, under: Key, usage: KeyUsage, kcv: bytes, done: Callable[[Key | SecurityError], None]
    ) -> None:
        outcome: Key | SecurityError
        try:
            outcome = self._import(cryptogram, under, usage, kcv)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    def wrap_new(self, clear: bytes, usage: KeyUsage, family: Family = Family.DES) -> tuple[bytes, bytes]:
        """Wrap a clear key under the LMK: gives the block to store and the key's check value (4 bytes).

        The development ceremony. A real one loads components, by two people, into a hardware module and the PIN pad.

        Raises:
            SecurityError: ``refused``: a TMK in production. ``key``: the size does not fit the family.
        """
        self._check_environment(usage)
        kcv = BlockCipher(family, clear).check_value()
        header = bytes([_BLOCK_VERSION]) + _USAGE_BYTES[usage] + _FAMILY_BYTES[family]
        nonce = os.urandom(_NONCE_SIZE)
        return header + nonce + self._wrapping.encrypt(nonce, clear, header), kcv

    def generate(self, usage: KeyUsage, family: Family = Family.DES) -> tuple[bytes, bytes]:
        """A new random key of 16 bytes, wrapped: as ``wrap_new``. Nobody ever sees it in the clear.

        A TMK that a simulated host or PIN pad needs as well is made outside and given to ``wrap_new``.
        """
        clear = os.urandom(16)
        if family is Family.DES:
            clear = bytes(byte ^ (byte.bit_count() + 1 & 1) for byte in clear)  # odd parity: some PIN pads insist
        return self.wrap_new(clear, usage, family)

    # ------------------------------------------------------------------------------------------------ MAC
    def make_mac(
        self, key: Key, algorithm: MacAlgorithm, data: bytes, done: Callable[[bytes | SecurityError], None]
    ) -> None:
        outcome: bytes | SecurityError
        try:
            outcome = _mac(key, algorithm).make(data)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    def verify_mac(
        self, key: Key, algorithm: MacAlgorithm, data: bytes, mac: bytes, done: Callable[[bool | SecurityError], None]
    ) -> None:
        outcome: bool | SecurityError
        try:
            outcome = _mac(key, algorithm).verify(data, mac)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    # ------------------------------------------------------------------------------------------------ card data
    def seal(self, context: bytes, clear: bytes, done: Callable[[bytes | SecurityError], None]) -> None:
        outcome: bytes | SecurityError
        try:
            outcome = self.vault.seal(context, clear)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    def open_sealed(self, context: bytes, sealed: bytes, done: Callable[[bytes | SecurityError], None]) -> None:
        outcome: bytes | SecurityError
        try:
            outcome = self.vault.open(context, sealed)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    def token(self, pan: str) -> str:
        """32 hexadecimal characters: HMAC-SHA-256 under a key derived from the LMK, cut to 128 bits.

        The same for every process with this LMK, for ever: reports join on it.

        Raises:
            ValueError: Not 8 to 19 digits. The text never holds them.
        """
        if not (8 <= len(pan) <= 19 and pan.isascii() and pan.isdigit()):
            raise ValueError("pan: expected 8 to 19 digits")
        keyed = self._tokens.copy()
        keyed.update(pan.encode())
        return keyed.hexdigest()[:32]

    # ------------------------------------------------------------------------------------------------ inside
    def _check_environment(self, usage: KeyUsage) -> None:
        if usage is KeyUsage.TMK and self._environment not in DEVELOPMENT_ENVIRONMENTS:
            raise SecurityError(
                "refused",
                f"environment {self._environment!r}: the software module holds no terminal master key outside "
                f"{', '.join(DEVELOPMENT_ENVIRONMENTS)}; configure a hardware security module",
            )

    def _unwrap(self, wrapped: bytes, usage: KeyUsage) -> SoftwareKey:
        self._check_environment(usage)
        header = wrapped[:_HEADER_SIZE]
        held = _USAGES.get(header[1:2])
        family = _FAMILIES.get(header[2:3])
        if len(wrapped) < _BLOCK_SIZE_MIN or header[0] != _BLOCK_VERSION or held is None or family is None:
            raise SecurityError("key", f"stored {usage} key: not a key block of this module ({len(wrapped)} bytes)")
        if held is not usage:
            raise SecurityError("key", f"stored key: a {held} key cannot be loaded as a {usage} key")
        nonce = wrapped[_HEADER_SIZE : _HEADER_SIZE + _NONCE_SIZE]
        try:
            clear = self._wrapping.decrypt(nonce, wrapped[_HEADER_SIZE + _NONCE_SIZE :], header)
        except InvalidTag:
            raise SecurityError(
                "key", f"stored {usage} key: damaged, or wrapped under another local master key"
            ) from None
        return SoftwareKey(BlockCipher(family, clear), usage)

    def _import(self, cryptogram: bytes, under: Key, usage: KeyUsage, kcv: bytes) -> SoftwareKey:
        if usage is KeyUsage.TMK:
            raise SecurityError("key", "a terminal master key is loaded by ceremony, never imported under another")
        tmk = _checked(under, KeyUsage.TMK)
        return SoftwareKey(workingkeys.decrypt_key(cryptogram, kcv, tmk._cipher, usage), usage)

    def __repr__(self) -> str:
        return f"<SoftwareSecurityModule {self._environment}>"


def _checked(key: Key, usage: KeyUsage) -> SoftwareKey:
    if not isinstance(key, SoftwareKey):
        raise SecurityError("key", "this key belongs to another security module")
    if key.usage is not usage:
        raise SecurityError("key", f"a {key.usage} key cannot do what a {usage} key does")
    return key


def _mac(key: Key, algorithm: str) -> macs.Mac:
    held = _checked(key, KeyUsage.MAC)
    ready = held._macs.get(algorithm)
    if ready is None:
        ready = held._macs[algorithm] = macs.prepare(algorithm, held._cipher)
    return ready


def _bare(error: SecurityError) -> SecurityError:
    """The error without the frames it passed through."""
    error.__context__ = None
    return error.with_traceback(None)
