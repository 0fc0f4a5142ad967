"""The security module on a PKCS#11 token: a hardware module in production, SoftHSM2 in the tests.

    what                            where it lies
    ------------------------------  -----------------------------------------------------------------------------
    LMK                             six objects on the token, made by ``gridswitch key init``: an AES-256 wrapping
                                    key for each usage, and a secret that other keys are derived from. They never
                                    leave: CKA_EXTRACTABLE is false
    TMK, transport key              wrapped under the LMK of its usage in our database; a session object while in
                                    use. A TMK's block cannot be opened as another usage: that is another key
    working keys                    cryptograms under the TMK in our database; session objects while in use
    hourly keys of card data        as with the software module; their wrapping key is derived on the token

What PKCS#11 lacks for this network is made of what it has, and where that costs secrecy it is said:

    - ``unionpay_ecb`` is one CBC encryption of the 16 hexadecimal characters; X9.19 is CBC under the left half, then
      the last block triple DES; single DES is triple DES with one key three times, as tokens no longer have single DES;
    - tokens do not unwrap under DES3_ECB, so a working key is decrypted by the token and made an object from its clear
      bytes, which for that moment are in this process. Likewise at the end of a key ceremony, and to export a key;
    - no mechanism translates a PIN block: it is decrypted and encrypted, and clear for that moment in this process. So
      ``translates_inside`` is false, and key mode ``translate`` is refused in production;
    - SM4 and AES PIN blocks are refused: SoftHSM2 has no SM4, and field 52 has room for 8 bytes.

Each session has a thread; a call waits for the session in which its key lies. ``done`` is called on the loop, once:
by the answer, or by the deadline. When the token is lost, sessions are opened again and keys made anew as they are
asked for.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pkcs11 import Mechanism

from switch import limits
from switch.config import SecurityConfig
from switch.errors import SecurityError, StartError
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
from switch.security.engine import Family, check_size, fold
from switch.security.software import EXPORTS, check_export, check_random_size, combine, complete, new_key, token_of
from switch.security.token import COMPONENT, DERIVE, Call, Lane, Pkcs11Key, Token
from switch.security.vault import Vault


class Pkcs11SecurityModule:
    """``switch.ports.SecurityModule`` on a token; see the module's text.

    Args:
        security: Where the token is: library, label, PIN file, sessions.
        vault_dir: Where the hourly keys of sealed card data lie; see ``vault``.
        wall_us: Microseconds since 1970, for the vault.
    """

    def __init__(self, security: SecurityConfig, vault_dir: Path, wall_us: Callable[[], int]) -> None:
        self._config = security
        self._vault_dir = vault_dir
        self._wall_us = wall_us
        self._token = Token(security)
        self._lanes = [Lane(self._token, number, self._answered) for number in range(security.pkcs11_sessions)]
        self._next_lane = 0
        self._pending = 0
        self._calls: deque[Call] = deque()  # by deadline, which is by age
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trouble = ""

    @property
    def name(self) -> str:
        return "pkcs11"

    @property
    def detail(self) -> str:
        return self._token.detail

    @property
    def trouble(self) -> str:
        return self._trouble

    @property
    def translates_inside(self) -> bool:
        return False

    # ------------------------------------------------------------------------------------------------ life
    async def start(self) -> None:
        """Raises StartError ``hsm``: no token, PIN or local master key; with what to do."""
        self._loop = asyncio.get_running_loop()
        for lane in self._lanes:
            lane.start()
        try:
            secrets = await asyncio.gather(*(self._first(lane) for lane in self._lanes))
        except SecurityError as error:
            await self.stop()
            raise StartError("hsm", f"token {self._config.pkcs11_label!r}: {error.detail}") from None
        tokens, vault = secrets[0]
        self._tokens = hmac.new(tokens, digestmod="sha256")
        self.vault = Vault(self._vault_dir, vault, self._wall_us)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for lane in self._lanes:
            lane.put(None)
        for lane in self._lanes:
            await asyncio.to_thread(lane.join)

    async def _first(self, lane: Lane) -> tuple[bytes, bytes]:
        """Every session is opened before anything relies on it; each gives the two derived keys."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def derived() -> tuple[bytes, bytes]:
            secret = lane.masters[DERIVE]
            return tuple(
                secret.sign(f"gridswitch {purpose} v1".encode(), mechanism=Mechanism.SHA256_HMAC)
                for purpose in ("card tokens", "vault keys")
            )

        self._put(lane, derived, answered.set_result)
        outcome = await answered
        if isinstance(outcome, SecurityError):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------------------------ calls
    def _put(self, lane: Lane, work: Callable[[], object], done: Callable[..., None]) -> None:
        loop = self._loop
        assert loop is not None, "start() comes first"
        if self._pending >= limits.SECURITY_PENDING_MAX:
            done(SecurityError("busy", f"{self._pending} operations wait for the token already"))
            return
        call = Call(work, done, loop.time() + limits.SECURITY_ANSWER_S)
        self._pending += 1
        self._calls.append(call)
        if self._timer is None:
            self._timer = loop.call_at(call.ends_at, self._look)
        lane.put(call)

    def _answered(self, call: Call, outcome: object) -> None:
        """On the lane's thread."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._finish, call, outcome)
        except RuntimeError:  # the loop has ended, and with it whoever asked
            return

    def _finish(self, call: Call, outcome: object) -> None:
        self._pending -= 1
        if not call.answered:
            call.answered = True
            away = isinstance(outcome, SecurityError) and outcome.code == "unavailable"
            self._trouble = outcome.detail if away and isinstance(outcome, SecurityError) else ""
            call.done(outcome)
        while self._calls and self._calls[0].answered:
            self._calls.popleft()

    def _look(self) -> None:
        """One timer for all deadlines."""
        assert self._loop is not None
        self._timer = None
        now = self._loop.time()
        while self._calls and (self._calls[0].answered or self._calls[0].ends_at <= now):
            call = self._calls.popleft()
            if not call.answered:
                call.answered = True
                self._trouble = f"the token does not answer for {limits.SECURITY_ANSWER_S:.0f} s"
                call.done(SecurityError("unavailable", self._trouble))
        if self._calls:
            self._timer = self._loop.call_at(self._calls[0].ends_at, self._look)

    def _any_lane(self) -> Lane:
        self._next_lane = (self._next_lane + 1) % len(self._lanes)
        return self._lanes[self._next_lane]

    def _with(
        self, key: Key, usage: KeyUsage | None, done: Callable[..., None], work: Callable[[Lane, Any], object]
    ) -> None:
        """Run ``work(lane, key)`` in the session of ``key``."""
        if not isinstance(key, Pkcs11Key) or key.lane not in self._lanes:
            done(SecurityError("key", "this key belongs to another security module"))
        elif usage is not None and key.usage is not usage:
            done(SecurityError("key", f"a {key.usage} key cannot do what a {usage} key does"))
        else:
            self._put(key.lane, partial(work, key.lane, key), done)

    # ------------------------------------------------------------------------------------------------ keys
    def load_key(self, wrapped: bytes, usage: KeyUsage, done: Loaded) -> None:
        lane = self._any_lane()
        self._put(lane, lambda: Pkcs11Key(usage, lane, lambda lane: lane.unwrap_clear(wrapped, usage)), done)

    def import_key(self, cryptogram: bytes, under: Key, usage: KeyUsage, kcv: bytes, done: Loaded) -> None:
        if usage in EXPORTS:
            done(SecurityError("key", "a terminal master key is loaded by ceremony, never imported under another"))
            return

        def imported(lane: Lane, tmk: Pkcs11Key) -> Pkcs11Key:
            checked = workingkeys.check_sizes(cryptogram, kcv, Family.DES, usage)
            # In the lane of its TMK, as it is made again from that.
            key = Pkcs11Key(usage, lane, lambda lane: lane.ecb(lane.handles(tmk).whole, checked, decrypt=True))
            whole = lane.ecb(lane.handles(key).whole, bytes(8))
            if not hmac.compare_digest(whole[: len(kcv)], kcv):
                raise workingkeys.wrong_check_value(usage)
            return key

        self._with(under, KeyUsage.TMK, done, imported)

    def generate(self, usage: KeyUsage, family: str, done: Stored) -> None:
        lane = self._any_lane()

        def generated() -> StoredKey:
            _only_des(family)
            noise: bytes = lane.session.generate_random(128)
            return self._store(lane, new_key(Family.DES, noise), usage)

        self._put(lane, generated, done)

    def seal_component(self, component: bytes, done: Given) -> None:
        lane = self._any_lane()
        self._put(lane, lambda: lane.wrap_clear(component, COMPONENT), done)

    def combine_sealed(self, sealed: Sequence[bytes], usage: KeyUsage, family: str, done: Stored) -> None:
        lane = self._any_lane()

        def combined() -> StoredKey:
            _only_des(family)
            components = [lane.unwrap_clear(each, COMPONENT) for each in sealed]
            return self._store(lane, combine(components, Family.DES), usage)

        self._put(lane, combined, done)

    def _store(self, lane: Lane, clear: bytes, usage: KeyUsage) -> StoredKey:
        handles = lane.create(clear)
        kcv = lane.ecb(handles.whole, bytes(8))[:4]
        lane.destroy(handles, lane.session_number)
        return StoredKey(lane.wrap_clear(clear, usage), kcv)

    def export_key(self, key: Key, under: Key, done: Exported) -> None:
        def opened(clear: bytes | SecurityError) -> None:
            if isinstance(clear, SecurityError):
                done(clear)
                return

            def exported(lane: Lane, carrier: Pkcs11Key) -> ExportedKey:
                return ExportedKey(lane.ecb(lane.handles(carrier).whole, clear), key.kcv)

            self._with(under, None, done, exported)

        try:
            check_export(key, under)
        except SecurityError as error:
            done(error)
            return
        self._with(key, None, opened, lambda lane, ours: ours.source(lane))

    # ------------------------------------------------------------------------------------------------ MAC, PIN, track
    def make_mac(self, key: Key, algorithm: MacAlgorithm, data: bytes, done: Given) -> None:
        self._with(key, KeyUsage.MAC, done, lambda lane, ours: _mac(lane, ours, algorithm, data))

    def verify_mac(self, key: Key, algorithm: MacAlgorithm, data: bytes, mac: bytes, done: Judged) -> None:
        def judged(lane: Lane, ours: Pkcs11Key) -> bool:
            made = _mac(lane, ours, algorithm, data)
            return hmac.compare_digest(made, mac.upper() if macs.split_name(algorithm)[1] == "hex8" else mac)

        self._with(key, KeyUsage.MAC, done, judged)

    def encrypt_pin(self, key: Key, pin_format: PinFormat, pin: str, pan: str, done: Given) -> None:
        self._with(key, KeyUsage.PIN, done, lambda lane, ours: _encrypt_pin(lane, ours, pin_format, pin, pan))

    def verify_pin_format(self, key: Key, pin_format: PinFormat, block: bytes, pan: str, done: Judged) -> None:
        def judged(lane: Lane, ours: Pkcs11Key) -> bool:
            try:
                _decrypt_pin(lane, ours, pin_format, block, pan)
            except SecurityError as error:
                if error.code != "pin":
                    raise
                return False
            return True

        self._with(key, KeyUsage.PIN, done, judged)

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
        def opened(pin: str | SecurityError) -> None:
            if isinstance(pin, SecurityError):
                done(pin)
            else:
                self.encrypt_pin(target, target_format, pin, pan, done)

        self._with(source, KeyUsage.PIN, opened, lambda lane, ours: _decrypt_pin(lane, ours, source_format, block, pan))

    def encrypt_track(self, key: Key, packed: bytes, done: Given) -> None:
        def encrypted(lane: Lane, ours: Pkcs11Key) -> bytes:
            return track.replace_covered(packed, partial(lane.ecb, lane.handles(ours).whole))

        self._with(key, KeyUsage.TRACK, done, encrypted)

    def random(self, size: int, done: Given) -> None:
        check_random_size(size)
        lane = self._any_lane()
        self._put(lane, lambda: lane.session.generate_random(size * 8), done)

    # ------------------------------------------------------------------------------------------------ card data
    def seal(self, context: bytes, clear: bytes, done: Given) -> None:
        complete(done, lambda: self.vault.seal(context, clear))

    def open_sealed(self, context: bytes, sealed: bytes, done: Given) -> None:
        complete(done, lambda: self.vault.open(context, sealed))

    def token(self, pan: str) -> str:
        """As with the software module; its key is derived on the token."""
        return token_of(self._tokens, pan)

    def __repr__(self) -> str:
        return f"<Pkcs11SecurityModule {self._config.pkcs11_label}>"


# ------------------------------------------------------------------------------------------------ on a lane's thread
def _mac(lane: Lane, key: Pkcs11Key, algorithm: str, data: bytes) -> bytes:
    """The algorithms of ``mac`` on what the token can: ECB and CBC of triple DES."""
    name, output = macs.split_name(algorithm)
    handles = lane.handles(key)
    macs.check_key(name, Family.DES, handles.size)
    if name == "x9_19_pad80":
        padded = data + b"\x80" + bytes(-(len(data) + 1) % 8)
    else:
        padded = data + bytes(-len(data) % 8)
    check_size(len(data))
    if name in ("unionpay_ecb", "xor_tdes"):
        folded = fold(data).to_bytes(8, "big")
        # E(E(H1) ^ H2) is a CBC encryption of the sixteen characters: one call to the token.
        full = (
            lane.cbc_last(handles.whole, folded.hex().upper().encode())
            if name == "unionpay_ecb"
            else lane.ecb(handles.whole, folded)
        )
    elif name in ("x9_19", "x9_19_pad80"):
        chained = lane.cbc_last(handles.left, padded[:-8]) if len(padded) > 8 else bytes(8)
        full = lane.ecb(handles.whole, bytes(a ^ b for a, b in zip(chained, padded[-8:], strict=True)))
    else:
        full = lane.cbc_last(handles.whole, padded)
    return full[:4].hex().upper().encode() if output == "hex8" else full[:8]


def _encrypt_pin(lane: Lane, key: Pkcs11Key, pin_format: str, pin: str, pan: str) -> bytes:
    pinblock.check_key(pin_format, Family.DES, lane.handles(key).size)
    return lane.ecb(lane.handles(key).whole, pinblock.encode_format0(pin, pan))


def _decrypt_pin(lane: Lane, key: Pkcs11Key, pin_format: str, block: bytes, pan: str) -> str:
    pinblock.check_key(pin_format, Family.DES, lane.handles(key).size)
    if len(block) != 8:
        raise SecurityError("pin", f"PIN block of {len(block)} bytes; expected 8")
    return pinblock.decode_format0(lane.ecb(lane.handles(key).whole, block, decrypt=True), pan)


def _only_des(family: str) -> None:
    if family != Family.DES:
        raise SecurityError("key", f"this token holds DES keys only, not {family}")
