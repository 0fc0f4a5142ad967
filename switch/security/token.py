"""A PKCS#11 token: how it is opened, the local master key on it, and sessions that each have a thread.

Whatever touches the token runs on the thread of a ``Lane``; nothing here knows what a MAC or a PIN block is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11.exceptions import PinIncorrect

from switch import limits
from switch.config import SecurityConfig
from switch.errors import SecurityError, StartError
from switch.ports import KeyUsage
from switch.security.engine import Family

LABEL: Final = "gridswitch lmk"
DERIVE: Final = "derive"
COMPONENT: Final = "component"
# Each is an object on the token; all but the last wrap, and their letter stands in what they wrapped.
_LETTERS: Final = {
    KeyUsage.TMK.value: b"T",
    KeyUsage.MAC.value: b"M",
    KeyUsage.PIN.value: b"P",
    KeyUsage.TRACK.value: b"D",
    KeyUsage.TRANSPORT.value: b"K",
    COMPONENT: b"C",
}
OBJECTS: Final = (*_LETTERS, DERIVE)
_ZERO_IV: Final = bytes(8)
_NONCE_SIZE: Final = 12
_VERSION: Final = b"\x02"  # the software module's blocks begin with 1: one is never taken for the other


class Token:
    """The token that the configuration names.

    Raises:
        StartError: ``hsm``: the library cannot be loaded.
    """

    def __init__(self, security: SecurityConfig) -> None:
        self._config = security
        self._refused: SecurityError | None = None
        self.opening = threading.Lock()  # a login beside another one fails with some libraries
        path = security.pkcs11_library
        try:
            self._library = pkcs11.lib(path)
            _allow_threads(path)
        except Exception as error:
            raise StartError("hsm", f"security.pkcs11_library: {path}: cannot be loaded: {named(error)}") from None

    @property
    def detail(self) -> str:
        """Maker and version of the library."""
        return f"{self._library.manufacturer_id.strip()} {'.'.join(map(str, self._library.library_version))}"

    def session(self) -> Any:
        """Raises SecurityError ``unavailable``, or ``refused`` for good: the PIN."""
        label = self._config.pkcs11_label
        if self._refused is not None:
            raise self._refused
        try:
            token = self._library.get_token(token_label=label)
        except pkcs11.exceptions.NoSuchToken:
            raise SecurityError(
                "unavailable", f"there is no token {label!r}: security.pkcs11_label, or plug it in"
            ) from None
        try:
            return token.open(rw=True, user_pin=read_pin(Path(self._config.pkcs11_pin_file)))
        except PinIncorrect:
            # Tokens lock themselves after a few of these: nothing tries again by itself.
            self._refused = SecurityError("refused", "the token refuses the PIN in security.pkcs11_pin_file")
            raise self._refused from None
        except pkcs11.exceptions.UserAlreadyLoggedIn:
            return token.open(rw=True)

    def find_masters(self, session: Any) -> dict[str, Any]:
        found = {}
        for name in OBJECTS:
            label = f"{LABEL} {name}"
            objects = list(session.get_objects({pkcs11.Attribute.LABEL: label}))
            if len(objects) != 1:
                how = (
                    "missing; run: gridswitch key init"
                    if not objects
                    else f"there {len(objects)} times; remove the others"
                )
                raise SecurityError("unavailable", f"its object {label!r} is {how}")
            found[name] = objects[0]
        return found


class _InitArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS of PKCS#11 2.40: four mutex functions, flags, reserved."""

    _fields_ = (("mutexes", ctypes.c_void_p * 4), ("flags", ctypes.c_ulong), ("reserved", ctypes.c_void_p))


_OS_LOCKING_OK: Final = 2
_threaded: Final[set[str]] = set()


def _allow_threads(path: str) -> None:
    """Initialize the library once more, for several threads: python-pkcs11 initializes it for one, and lets all in.

    Raises:
        OSError: The library refuses; the text says how.
    """
    if path in _threaded:
        return
    library = ctypes.CDLL(path)
    library.C_Finalize(None)
    refusal = library.C_Initialize(ctypes.byref(_InitArgs(flags=_OS_LOCKING_OK)))
    if refusal:
        raise OSError(f"C_Initialize for several threads gives {refusal:#x}")
    _threaded.add(path)


class Pkcs11Key:
    """A key on the token. ``source`` gives its clear bytes on a lane's thread, from cryptograms: to make it again."""

    __slots__ = ("_kcv", "_usage", "handles", "lane", "session_number", "source")

    def __init__(self, usage: KeyUsage, lane: Lane, source: Callable[[Lane], bytes]) -> None:
        self._usage = usage
        self.lane = lane
        self.source = source
        self.session_number = -1  # of the session in which ``handles`` are good
        self.handles: Handles | None = None
        self._kcv = lane.ecb(lane.handles(self).whole, bytes(8))[:4]

    @property
    def usage(self) -> KeyUsage:
        return self._usage

    @property
    def family(self) -> str:
        return Family.DES

    @property
    def kcv(self) -> bytes:
        return self._kcv

    def __repr__(self) -> str:
        return f"<Pkcs11Key {self._usage} kcv {self._kcv.hex()}>"

    def __reduce__(self) -> str:
        raise SecurityError("refused", "a key is not copied or pickled")

    def __del__(self) -> None:
        # A token's memory is small, and every sign-on brings two new objects.
        if getattr(self, "handles", None) is not None:
            self.lane.put(Call(partial(self.lane.destroy, self.handles, self.session_number), _nobody, 0.0))


class Handles:
    """Session objects of one key: the key, and for algorithm 3 its left half as a key of its own."""

    __slots__ = ("left", "size", "whole")

    def __init__(self, whole: Any, left: Any, size: int) -> None:
        self.whole = whole
        self.left = left
        self.size = size  # bytes of the key: 8 or 16


def _nobody(outcome: object) -> None:
    """Asks for nothing."""


class Call:
    __slots__ = ("answered", "done", "ends_at", "work")

    def __init__(self, work: Callable[[], object], done: Callable[..., None], ends_at: float) -> None:
        self.work = work
        self.done = done
        self.ends_at = ends_at
        self.answered = False


class Lane:
    """One session with its thread. Whatever touches the token runs there."""

    def __init__(self, token: Token, number: int, answered: Callable[[Call, object], None]) -> None:
        self.token = token
        self._answered = answered
        self.session: Any = None
        self.session_number = 0
        self.masters: dict[str, Any] = {}
        self._queue: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"pkcs11-{number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, call: Call | None) -> None:
        self._queue.put(call)

    def join(self) -> None:
        self._thread.join(limits.SECURITY_ANSWER_S)

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            if call.done is _nobody:
                with contextlib.suppress(Exception):  # the session takes its objects along
                    call.work()
                continue
            if call.answered:  # its deadline has passed while it waited
                self._answered(call, None)
                continue
            outcome: object
            try:
                if self.session is None:
                    self.open()
                outcome = call.work()
            except SecurityError as error:
                outcome = error.with_traceback(None)
                error.__context__ = None
            except Exception as error:
                outcome = self._fault(error)
            self._answered(call, outcome)
        self.close()

    def open(self) -> None:
        """Raises SecurityError ``unavailable``: no token, or its objects are not there."""
        try:
            with self.token.opening:
                self.session = self.token.session()
                self.session_number += 1
                self.masters = self.token.find_masters(self.session)
        except SecurityError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise SecurityError("unavailable", f"the token cannot be used: {named(error)}") from None

    def close(self) -> None:
        session, self.session = self.session, None
        self.masters = {}
        if session is not None:
            with contextlib.suppress(Exception):  # it is gone already
                session.close()

    def _fault(self, error: Exception) -> SecurityError:
        if isinstance(error, (ValueError, AssertionError)):
            return SecurityError("key", f"the call cannot be carried out: {error}")
        # Whatever the token raised, its session is not to be trusted: a fresh one costs a millisecond.
        self.close()
        return SecurityError("unavailable", f"the token failed: {named(error)}")

    # -------------------------------------------------------------------------------------------- on the thread
    def destroy(self, handles: Handles | None, session_number: int) -> None:
        if self.session is None or session_number != self.session_number or handles is None:
            return
        handles.whole.destroy()
        if handles.left is not handles.whole:
            handles.left.destroy()

    def handles(self, key: Pkcs11Key) -> Handles:
        if key.session_number != self.session_number or key.handles is None:
            key.handles = self.create(key.source(self))
            key.session_number = self.session_number
        return key.handles

    def create(self, clear: bytes) -> Handles:
        """Session objects of a DES key of 8 or 16 bytes. ``clear`` is in this process for the length of the call."""
        whole = self._object(clear * 3 if len(clear) == 8 else clear + clear[:8])
        return Handles(whole, self._object(clear[:8] * 3) if len(clear) == 16 else whole, len(clear))

    def _object(self, value: bytes) -> Any:
        return self.session.create_object(
            {
                Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: pkcs11.KeyType.DES3,
                Attribute.VALUE: value,
                Attribute.TOKEN: False,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.ENCRYPT: True,
                Attribute.DECRYPT: True,
            }
        )

    def ecb(self, handle: Any, data: bytes, *, decrypt: bool = False) -> bytes:
        work = handle.decrypt if decrypt else handle.encrypt
        result: bytes = work(data, mechanism=Mechanism.DES3_ECB)
        return result

    def cbc_last(self, handle: Any, data: bytes) -> bytes:
        """The last block of a CBC encryption with zero IV."""
        result: bytes = handle.encrypt(data, mechanism=Mechanism.DES3_CBC, mechanism_param=_ZERO_IV)
        return result[-8:]

    def wrap_clear(self, clear: bytes, usage: str) -> bytes:
        """Under the LMK of a usage, for storage: AES-256-GCM, done by the token."""
        nonce = os.urandom(_NONCE_SIZE)
        header = _VERSION + _LETTERS[usage]
        params = pkcs11.GCMParams(nonce=nonce, aad=header)
        sealed: bytes = self.masters[usage].encrypt(clear, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=params)
        return header + nonce + sealed

    def unwrap_clear(self, wrapped: bytes, usage: str) -> bytes:
        header = _VERSION + _LETTERS[usage]
        if wrapped[:2] != header or len(wrapped) < 2 + _NONCE_SIZE + 8 + 16:
            held = next((name for name, letter in _LETTERS.items() if letter == wrapped[1:2]), "")
            if wrapped[:1] == _VERSION and held not in ("", usage):
                raise SecurityError("key", f"stored key: a {held} key cannot be loaded as a {usage} key")
            raise SecurityError("key", f"stored {usage} key: not a key block of this module ({len(wrapped)} bytes)")
        nonce, sealed = wrapped[2 : 2 + _NONCE_SIZE], wrapped[2 + _NONCE_SIZE :]
        params = pkcs11.GCMParams(nonce=nonce, aad=header)
        try:
            clear: bytes = self.masters[usage].decrypt(
                sealed, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=params
            )
        except (pkcs11.exceptions.EncryptedDataInvalid, pkcs11.exceptions.GeneralError):
            # SoftHSM says GeneralError where the standard has a name for it.
            raise SecurityError(
                "key", f"stored {usage} key: damaged, or wrapped under another local master key"
            ) from None
        return clear


def named(error: BaseException) -> str:
    """PKCS#11's errors have a name and seldom a text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def read_pin(path: Path) -> str:
    """The user PIN of the token, the first line of a file that nobody else may read.

    Raises:
        SecurityError: ``refused``: others may read it. ``unavailable``: it cannot be read.
    """
    try:
        content = path.read_text().splitlines()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text"
        raise SecurityError("unavailable", f"security.pkcs11_pin_file: {path}: {why}") from None
    if mode & 0o077:
        raise SecurityError("refused", f"security.pkcs11_pin_file: mode {mode:04o}; run: chmod 600 {path}")
    if not content or not content[0]:
        raise SecurityError("refused", f"security.pkcs11_pin_file: {path} is empty; its first line is the PIN")
    return content[0]


def create_masters(security: SecurityConfig) -> list[str]:
    """Make the local master key's objects on a token that has none; gives their labels. For ``gridswitch key init``.

    Raises:
        SecurityError: The token cannot be used, or has some of them already: a master key is never replaced in silence.
    """
    session = Token(security).session()
    labels = [f"{LABEL} {name}" for name in OBJECTS]
    there = [label for label in labels if list(session.get_objects({Attribute.LABEL: label}))]
    if there:
        raise SecurityError("refused", f"token {security.pkcs11_label!r} holds {there[0]!r} already; nothing was made")
    for name, label in zip(OBJECTS, labels, strict=True):
        purpose = {Attribute.SIGN: True} if name == DERIVE else {Attribute.ENCRYPT: True, Attribute.DECRYPT: True}
        session.generate_key(
            KeyType.GENERIC_SECRET if name == DERIVE else KeyType.AES,
            256,
            label=label,
            store=True,
            template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True, **purpose},
        )
    session.close()
    return labels
