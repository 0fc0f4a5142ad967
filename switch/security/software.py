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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import cryptography
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from switch.errors import SecurityError
from switch.limits import RANDOM_SIZE_MAX
from switch.ports import (
    Exported,
    ExportedKey,
    Given,
    Judged,
    Key,
    KeyUsage,
    Loaded,
    MacAlgorithm,
    PinFormat,
    Stored,
    StoredKey,
)
from switch.security import mac as macs
from switch.security import pinblock, track, workingkeys
from switch.security.engine import Family
from switch.security.lmk import LMK_SIZE, derive
from switch.security.primitives import KEY_SIZES, PROVIDER, PROVIDER_VERSION, BlockCipher
from switch.security.vault import Vault, system_wall_us

# An environment that is not listed is taken for production: a typing error must not open the door.
DEVELOPMENT_ENVIRONMENTS: Final = ("development", "demo", "test", "drill")

_BLOCK_VERSION: Final = 1
_HEADER_SIZE: Final = 3
_NONCE_SIZE: Final = 12
_BLOCK_SIZE_MIN: Final = _HEADER_SIZE + _NONCE_SIZE + 8 + 16
_USAGE_BYTES: Final = {
    KeyUsage.TMK: b"T",
    KeyUsage.MAC: b"M",
    KeyUsage.PIN: b"P",
    KeyUsage.TRACK: b"D",
    KeyUsage.TRANSPORT: b"K",
}
_FAMILY_BYTES: Final = {Family.DES: b"D", Family.SM4: b"S", Family.AES: b"A"}
_COMPONENT_HEADER: Final = bytes([_BLOCK_VERSION]) + b"C-"
# What may leave under what: a working key for the pad that holds the TMK, a TMK for the loader of a pad.
EXPORTS: Final = {
    KeyUsage.TMK: (KeyUsage.MAC, KeyUsage.PIN, KeyUsage.TRACK),
    KeyUsage.TRANSPORT: (KeyUsage.TMK,),
}
_USAGES: Final = {byte: usage for usage, byte in _USAGE_BYTES.items()}
_FAMILIES: Final = {byte: family for family, byte in _FAMILY_BYTES.items()}


class SoftwareKey:
    """A key held by the module. Nothing about it can be read but its usage, family and check value."""

    __slots__ = ("_cipher", "_kcv", "_macs", "_usage")

    def __init__(self, cipher: BlockCipher, usage: KeyUsage) -> None:
        self._cipher = cipher
        self._usage = usage
        self._kcv = cipher.check_value()
        self._macs: dict[str, macs.Mac] = {}  # what ``_mac`` has made before; only MAC keys have any

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

    @property
    def detail(self) -> str:
        return f"{PROVIDER}: {PROVIDER_VERSION}" if PROVIDER_VERSION else f"{PROVIDER} {cryptography.__version__}"

    @property
    def trouble(self) -> str:
        return ""

    @property
    def translates_inside(self) -> bool:
        return False

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    # ------------------------------------------------------------------------------------------------ keys
    def load_key(self, wrapped: bytes, usage: KeyUsage, done: Loaded) -> None:
        complete(done, lambda: self._unwrap(wrapped, usage))

    def import_key(self, cryptogram: bytes, under: Key, usage: KeyUsage, kcv: bytes, done: Loaded) -> None:
        complete(done, lambda: self._import(cryptogram, under, usage, kcv))

    def generate(self, usage: KeyUsage, family: str, done: Stored) -> None:
        complete(done, lambda: self._wrap(new_key(Family(family), os.urandom(16)), usage, Family(family)))

    def seal_component(self, component: bytes, done: Given) -> None:
        def sealed() -> bytes:
            nonce = os.urandom(_NONCE_SIZE)
            return _COMPONENT_HEADER + nonce + self._wrapping.encrypt(nonce, component, _COMPONENT_HEADER)

        complete(done, sealed)

    def combine_sealed(self, sealed: Sequence[bytes], usage: KeyUsage, family: str, done: Stored) -> None:
        def combined() -> StoredKey:
            clear = combine([self._open_component(each) for each in sealed], Family(family))
            return self._wrap(clear, usage, Family(family))

        complete(done, combined)

    def export_key(self, key: Key, under: Key, done: Exported) -> None:
        def exported() -> ExportedKey:
            carried, carrier = _ours(key), _ours(under)
            check_export(carried, carrier)
            return ExportedKey(carrier._cipher.wrap(carried._cipher), carried.kcv)

        complete(done, exported)

    # ------------------------------------------------------------------------------------------------ MAC, PIN, track
    def make_mac(self, key: Key, algorithm: MacAlgorithm, data: bytes, done: Given) -> None:
        outcome: bytes | SecurityError
        try:
            ready = key._macs.get(algorithm) if type(key) is SoftwareKey else None
            outcome = (ready or _mac(key, algorithm)).make(data)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    def verify_mac(self, key: Key, algorithm: MacAlgorithm, data: bytes, mac: bytes, done: Judged) -> None:
        outcome: bool | SecurityError
        try:
            ready = key._macs.get(algorithm) if type(key) is SoftwareKey else None
            outcome = (ready or _mac(key, algorithm)).verify(data, mac)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    def encrypt_pin(self, key: Key, pin_format: PinFormat, pin: str, pan: str, done: Given) -> None:
        complete(done, lambda: pinblock.encrypt(pin_format, _checked(key, KeyUsage.PIN)._cipher, pin, pan))

    def verify_pin_format(self, key: Key, pin_format: PinFormat, block: bytes, pan: str, done: Judged) -> None:
        def judged() -> bool:
            try:
                pinblock.decrypt(pin_format, _checked(key, KeyUsage.PIN)._cipher, block, pan)
            except SecurityError as error:
                if error.code != "pin":
                    raise
                return False
            return True

        complete(done, judged)

    def translate_pin(
        self,
        block: bytes,
        source: Key,
        source_format: PinFormat,
        target: Key,
        target_format: PinFormat,
        pan: str,
        done: Given,
    ) -> None:
        def translated() -> bytes:
            pin = pinblock.decrypt(source_format, _checked(source, KeyUsage.PIN)._cipher, block, pan)
            return pinblock.encrypt(target_format, _checked(target, KeyUsage.PIN)._cipher, pin, pan)

        complete(done, translated)

    def encrypt_track(self, key: Key, packed: bytes, done: Given) -> None:
        complete(done, lambda: track.encrypt_packed(packed, _checked(key, KeyUsage.TRACK)._cipher))

    def random(self, size: int, done: Given) -> None:
        check_random_size(size)
        done(os.urandom(size))

    # ------------------------------------------------------------------------------------------------ card data
    def seal(self, context: bytes, clear: bytes, done: Given) -> None:
        outcome: bytes | SecurityError
        try:
            outcome = self.vault.seal(context, clear)
        except SecurityError as error:
            outcome = _bare(error)
        done(outcome)

    def open_sealed(self, context: bytes, sealed: bytes, done: Given) -> None:
        complete(done, lambda: self.vault.open(context, sealed))

    def token(self, pan: str) -> str:
        """32 hexadecimal characters: HMAC-SHA-256 under a key derived from the LMK, cut to 128 bits.

        The same for every process with this LMK, for ever: reports join on it.

        Raises:
            ValueError: Not 8 to 19 digits. The text never holds them.
        """
        return token_of(self._tokens, pan)

    # ------------------------------------------------------------------------------------------------ inside
    def wrap_new(self, clear: bytes, usage: KeyUsage, family: Family = Family.DES) -> tuple[bytes, bytes]:
        """Wrap a clear key that everybody knows: for the simulation. Gives the block and the check value.

        Raises:
            SecurityError: ``refused``: a TMK in production. ``key``: the size does not fit the family.
        """
        stored = self._wrap(clear, usage, family)
        return stored.wrapped, stored.kcv

    def _wrap(self, clear: bytes, usage: KeyUsage, family: Family) -> StoredKey:
        self._check_environment(usage)
        kcv = BlockCipher(family, clear).check_value()
        header = bytes([_BLOCK_VERSION]) + _USAGE_BYTES[usage] + _FAMILY_BYTES[family]
        nonce = os.urandom(_NONCE_SIZE)
        return StoredKey(header + nonce + self._wrapping.encrypt(nonce, clear, header), kcv)

    def _open_component(self, sealed: bytes) -> bytes:
        header, nonce = sealed[:_HEADER_SIZE], sealed[_HEADER_SIZE : _HEADER_SIZE + _NONCE_SIZE]
        try:
            if header != _COMPONENT_HEADER:
                raise InvalidTag
            return self._wrapping.decrypt(nonce, sealed[_HEADER_SIZE + _NONCE_SIZE :], header)
        except (InvalidTag, ValueError):
            raise SecurityError(
                "key", "key component: damaged, or sealed under another local master key; begin the ceremony again"
            ) from None

    def _check_environment(self, usage: KeyUsage) -> None:
        if usage in EXPORTS and self._environment not in DEVELOPMENT_ENVIRONMENTS:
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
        if usage in EXPORTS:
            raise SecurityError("key", "a terminal master key is loaded by ceremony, never imported under another")
        tmk = _checked(under, KeyUsage.TMK)
        return SoftwareKey(workingkeys.decrypt_key(cryptogram, kcv, tmk._cipher, usage), usage)

    def __repr__(self) -> str:
        return f"<SoftwareSecurityModule {self._environment}>"


def new_key(family: Family, noise: bytes) -> bytes:
    """A key of 16 random bytes; DES with odd parity, as some PIN pads insist."""
    clear = noise
    if family is Family.DES:
        clear = bytes(byte ^ (byte.bit_count() + 1 & 1) for byte in clear)
    return clear


def combine(components: Sequence[bytes], family: Family) -> bytes:
    """The XOR of one to three components.

    Raises:
        SecurityError: ``key``: their number or sizes; or the result is a weak key (all bytes alike, as when two
            custodians entered the same component).
    """
    if not 1 <= len(components) <= 3 or {len(each) for each in components} - {*KEY_SIZES[family]}:
        sizes = " or ".join(map(str, KEY_SIZES[family]))
        raise SecurityError("key", f"key components: one to three of {sizes} bytes each, all of one size")
    first, *others = components
    clear = bytearray(first)
    for other in others:
        if len(other) != len(clear):
            raise SecurityError("key", "key components of different sizes")
        for at, byte in enumerate(other):
            clear[at] ^= byte
    if len({byte & 0xFE for byte in clear}) == 1:
        raise SecurityError("key", "the components make a weak key: was one entered twice? Begin the ceremony again")
    return bytes(clear)


def check_export(key: Key, under: Key) -> None:
    """Raises SecurityError ``refused`` when such a key never leaves under such a key."""
    if key.usage not in EXPORTS.get(under.usage, ()):
        raise SecurityError("refused", f"a {key.usage} key is never exported under a {under.usage} key")
    if under.family == "des" and key.family != "des":
        raise SecurityError("refused", f"a {key.family} key is not exported under a weaker {under.family} key")


def check_random_size(size: int) -> None:
    if not 1 <= size <= RANDOM_SIZE_MAX:
        raise ValueError(f"random: {size} bytes asked for; 1 to {RANDOM_SIZE_MAX} are possible")


def token_of(keyed: hmac.HMAC, pan: str) -> str:
    """See ``SoftwareSecurityModule.token``."""
    if not (8 <= len(pan) <= 19 and pan.isascii() and pan.isdigit()):
        raise ValueError("pan: expected 8 to 19 digits")
    copy = keyed.copy()
    copy.update(pan.encode())
    return copy.hexdigest()[:32]


def complete(done: Callable[..., None], work: Callable[[], object]) -> None:
    """Call ``done`` with what ``work`` gives, or with why it gives nothing; never from inside ``work``."""
    outcome: object
    try:
        outcome = work()
    except SecurityError as error:
        outcome = _bare(error)
    done(outcome)


def _ours(key: Key) -> SoftwareKey:
    if not isinstance(key, SoftwareKey):
        raise SecurityError("key", "this key belongs to another security module")
    return key


def _checked(key: Key, usage: KeyUsage) -> SoftwareKey:
    key = _ours(key)
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
