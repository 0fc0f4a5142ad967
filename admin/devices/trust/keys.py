"""The two private keys of the device API: of the device CA (P-256) and of commands (Ed25519).

In production they lie in a PKCS#11 module and never leave it. For development they lie in two files (mode 0600) that
production refuses. Both kinds serve one port, and one suite of tests runs against both.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from admin.errors import StartError, UnavailableError

CA_LABEL: Final = "gridswitch device ca"
COMMAND_LABEL: Final = "gridswitch device commands"
_CA_FILE: Final = "device-ca.key"
_COMMAND_FILE: Final = "device-commands.key"
_ED25519: Final = bytes.fromhex("130c656477617264733235353139")  # PrintableString "edwards25519", as PKCS#11 names it
_OCTET_STRING_HEAD: Final = 2  # bytes of tag and length before a point on the token


class Keys(Protocol):
    """Blocking: call it from a thread."""

    @property
    def ca_key(self) -> ec.EllipticCurvePrivateKey:
        """What ``cryptography`` signs certificates with."""
        ...

    @property
    def command_public(self) -> bytes:
        """32 bytes: what kiosks pin."""
        ...

    def sign_command(self, data: bytes) -> bytes:
        """64 bytes, Ed25519."""
        ...


# ---------------------------------------------------------------------------------------------------- files
class FileKeys:
    """Both keys in a folder, for development.

    Raises:
        StartError: ``device_keys``: there are none, or others may read them.
    """

    def __init__(self, folder: Path) -> None:
        ca = _read(folder / _CA_FILE)
        command = _read(folder / _COMMAND_FILE)
        if not isinstance(ca, ec.EllipticCurvePrivateKey) or not isinstance(command, ed25519.Ed25519PrivateKey):
            raise StartError(f"device_api.key_folder: {folder}: expected a P-256 and an Ed25519 key [device_keys]")
        self.ca_key = ca
        self._command = command
        self.command_public = command.public_key().public_bytes_raw()

    def sign_command(self, data: bytes) -> bytes:
        return self._command.sign(data)


def create_file_keys(folder: Path) -> None:
    """Raises StartError ``device_keys``: there are some already; they are never overwritten."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(folder / _CA_FILE, _pem(ec.generate_private_key(ec.SECP256R1())))
    write_private(folder / _COMMAND_FILE, _pem(ed25519.Ed25519PrivateKey.generate()))


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_private(path: Path, content: bytes) -> None:
    """A new file with mode 0600, whole or not at all. Raises StartError ``device_keys`` when there is one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        beside.unlink()
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(beside)  # unlike rename: fails when there is one
    except FileExistsError:
        raise StartError(f"{path}: exists and is not overwritten [device_keys]") from None
    finally:
        beside.unlink()


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise StartError(f"{path}: others may read it; run: chmod 600 {path} [device_keys]")
            return serialization.load_pem_private_key(file.read(), None)
    except FileNotFoundError:
        raise StartError(f"{path}: missing; run: gridswitch admin device-ca [device_keys]") from None
    except ValueError:
        raise StartError(f"{path}: not a PEM private key [device_keys]") from None


# ---------------------------------------------------------------------------------------------------- token
class TokenKeys:
    """Both keys as objects of a PKCS#11 token; they are found by label.

    Raises:
        StartError: ``device_hsm``: library, token, PIN or key.
    """

    def __init__(self, library: str, label: str, pin_file: Path) -> None:
        self._token = _Token(library, label, pin_file)
        with self._token as session:
            ca = self._token.find(session, CA_LABEL, private=False)
            command = self._token.find(session, COMMAND_LABEL, private=False)
            self._token.find(session, CA_LABEL, private=True)
            self._token.find(session, COMMAND_LABEL, private=True)
            self.ca_key = _TokenKey(self._token, _p256(ca))
            self.command_public = _point(command)

    def sign_command(self, data: bytes) -> bytes:
        return self._token.sign(COMMAND_LABEL, data, "EDDSA")


def create_token_keys(library: str, label: str, pin_file: Path) -> None:
    """Make both keys on the token, never to leave it. Raises StartError ``device_hsm``, also when they are there."""
    import pkcs11  # noqa: PLC0415 - an extra of its own
    from pkcs11.util.ec import encode_named_curve_parameters  # noqa: PLC0415

    token = _Token(library, label, pin_file)
    with token as session:
        for name in (CA_LABEL, COMMAND_LABEL):
            if list(session.get_objects({pkcs11.Attribute.LABEL: name})):
                raise StartError(f"token {label!r}: {name!r} is there and is not overwritten [device_hsm]")
        kept = {pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True}
        for name, kind, curve, mechanism in (
            (CA_LABEL, pkcs11.KeyType.EC, encode_named_curve_parameters("secp256r1"), pkcs11.Mechanism.EC_KEY_PAIR_GEN),
            (COMMAND_LABEL, pkcs11.KeyType.EC_EDWARDS, _ED25519, pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN),
        ):
            parameters = session.create_domain_parameters(kind, {pkcs11.Attribute.EC_PARAMS: curve}, local=True)
            parameters.generate_keypair(mechanism=mechanism, store=True, label=name, private_template=kept)


class _Token:
    """A session at a time: sessions of python-pkcs11 are for one thread, and a certificate a day needs no more."""

    def __init__(self, library: str, label: str, pin_file: Path) -> None:
        import pkcs11  # noqa: PLC0415 - an extra of its own

        self._pkcs11 = pkcs11
        self._label = label
        self._pin_file = pin_file
        self._lock = threading.Lock()
        self._session: Any = None
        try:
            self._library = pkcs11.lib(library)
        except Exception as error:
            raise StartError(f"device_api.pkcs11_library: {library}: cannot be loaded: {error} [device_hsm]") from None

    def __enter__(self) -> Any:
        self._lock.acquire()
        try:
            token = self._library.get_token(token_label=self._label)
            self._session = token.open(rw=True, user_pin=self._pin_file.read_text(encoding="utf-8").strip())
        except (self._pkcs11.PKCS11Error, OSError) as error:
            self._lock.release()
            raise StartError(f"token {self._label!r}: {str(error) or type(error).__name__} [device_hsm]") from None
        return self._session

    def __exit__(self, *_: object) -> None:
        try:
            self._session.close()
        finally:
            self._lock.release()

    def find(self, session: Any, name: str, *, private: bool) -> Any:
        kind = self._pkcs11.ObjectClass.PRIVATE_KEY if private else self._pkcs11.ObjectClass.PUBLIC_KEY
        found = list(session.get_objects({self._pkcs11.Attribute.LABEL: name, self._pkcs11.Attribute.CLASS: kind}))
        if len(found) != 1:
            remedy = "run: gridswitch admin device-ca" if not found else "remove the others"
            raise StartError(f"token {self._label!r}: {name!r} is there {len(found)} times; {remedy} [device_hsm]")
        return found[0]

    def sign(self, name: str, data: bytes, mechanism: str) -> bytes:
        """Raises UnavailableError ``device_keys``: the module does not do it now."""
        try:
            with self as session:
                key = self.find(session, name, private=True)
                return bytes(key.sign(data, mechanism=getattr(self._pkcs11.Mechanism, mechanism)))
        except (StartError, self._pkcs11.PKCS11Error) as error:
            raise UnavailableError(
                "device_keys", "密钥模块暂时没有响应", hint="请稍后重试；如果持续出现，请联系系统管理员"
            ) from error


class _TokenKey(ec.EllipticCurvePrivateKey):
    """Enough of a private key for ``CertificateBuilder.sign``, which asks it for a signature and nothing else."""

    def __init__(self, token: _Token, public: ec.EllipticCurvePublicKey) -> None:
        self._token = token
        self._public = public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        algorithm = signature_algorithm.algorithm
        assert isinstance(algorithm, hashes.SHA256) and not isinstance(algorithm, Prehashed)
        digest = hashes.Hash(algorithm)
        digest.update(data)
        raw = self._token.sign(CA_LABEL, digest.finalize(), "ECDSA")
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        raise NotImplementedError("this key signs and does nothing else")

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        raise NotImplementedError("this key does not leave its module")

    def private_bytes(self, *_: Any, **__: Any) -> bytes:
        raise NotImplementedError("this key does not leave its module")

    def __copy__(self) -> _TokenKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> _TokenKey:
        return self


def _point(public: Any) -> bytes:
    """The point on the curve: PKCS#11 wraps it into an OCTET STRING."""
    import pkcs11  # noqa: PLC0415 - an extra of its own

    return bytes(public[pkcs11.Attribute.EC_POINT])[_OCTET_STRING_HEAD:]


def _p256(public: Any) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _point(public))
