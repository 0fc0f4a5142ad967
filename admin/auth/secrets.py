"""What the service keeps secret of its own: one key file, and what is derived from it.

The key encrypts second factors at rest and keys the hashes by which accounts are searched. It is no key of cards or
payments: those are in the switch's security module alone.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from admin.errors import StartError

_KEY_SIZE: Final = 32
_STEP_S: Final = 30  # RFC 6238
_TOTP_SIZE: Final = 20


class Secrets:
    """Args:
    key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        assert len(key) == _KEY_SIZE
        self._box = AESGCM(hmac.digest(key, b"admin second factors", "sha256"))
        self._account_key = hmac.digest(key, b"admin account search", "sha256")
        self._pii_box = AESGCM(hmac.digest(key, b"admin personal data", "sha256"))

    @classmethod
    def from_file(cls, path: Path) -> Secrets:
        """Read the key file, or make it. Raises StartError when it cannot be trusted."""
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_hex(_KEY_SIZE).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            if path.stat().st_mode & 0o077:
                raise StartError(f"secrets.key_file: {path}: others may read it; run: chmod 600 {path} [key_file]")
            key = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise StartError(f"secrets.key_file: {path}: {error} [key_file]") from error
        if len(key) != _KEY_SIZE:
            raise StartError(f"secrets.key_file: {path}: expected {_KEY_SIZE} bytes in hex [key_file]")
        return cls(key)

    def seal(self, clear: bytes, purpose: str) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._box.encrypt(nonce, clear, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Raises StartError when another key made it: the key file was exchanged."""
        try:
            return self._box.decrypt(sealed[:12], sealed[12:], purpose.encode())
        except InvalidTag as error:
            raise StartError("secrets.key_file: it does not open what the database has [key_file]") from error

    def account_hash(self, account: str) -> bytes:
        """By what an account is found without being stored: 16 bytes."""
        return hmac.digest(self._account_key, account.encode(), "sha256")[:16]

    @property
    def account_pads(self) -> tuple[bytes, bytes]:
        """The key as RFC 2104 pads it, for a server that makes the same hash of many accounts at once.

        sha256(second + sha256(first + account)), the first 16 bytes, is ``account_hash(account)``.
        """
        block = self._account_key.ljust(64, b"\0")
        return bytes(each ^ 0x36 for each in block), bytes(each ^ 0x5C for each in block)


def new_totp() -> bytes:
    return secrets.token_bytes(_TOTP_SIZE)


def totp_uri(secret: bytes, login: str) -> str:
    """What an authenticator reads from the QR code."""
    return TOTP(secret, 6, SHA1(), _STEP_S, enforce_key_length=False).get_provisioning_uri(login, "gridswitch")  # noqa: S303


def totp_code(secret: bytes, at: float) -> str:
    return TOTP(secret, 6, SHA1(), _STEP_S, enforce_key_length=False).generate(at).decode()  # noqa: S303


def totp_step(secret: bytes, code: str, last_step: int, now: float | None = None) -> int | None:
    """The time step whose code this is, one step around now; None: wrong, or used before."""
    now = time.time() if now is None else now
    otp = TOTP(secret, 6, SHA1(), _STEP_S, enforce_key_length=False)  # noqa: S303
    for step in (int(now) // _STEP_S + shift for shift in (0, -1, 1)):
        if step <= last_step:
            continue
        try:
            otp.verify(code.encode(), step * _STEP_S)
        except InvalidToken:
            continue
        return step
    return None


def digest(token: str) -> bytes:
    """How a random token is kept: it has enough bits that no salt is needed."""
    return hashlib.sha256(token.encode()).digest()


def new_recovery_code() -> str:
    """80 bits in four groups."""
    text = secrets.token_hex(10)
    return "-".join(text[at : at + 5] for at in range(0, 20, 5))
