# cython: annotation_typing=False, binding=False
"""Terminals in memory: MAC keys, sign-on towards the acquirer, and system trace audit numbers."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from switch import limits
from switch.dialects.unionpay import mab, with_mac
from switch.errors import NOT_NOW, SecurityError, SwitchError, UnavailableError
from switch.model.request import WISH_SIGN_ON, CardAnswer
from switch.ports import Clock, Key, KeyUsage, Observer, SecurityModule, Terminal, Terminals
from switch.runtime.calls import call_each
from switch.runtime.links import CardLink
from switch.runtime.timers import Timer, Timers
from switch.runtime.translation import KIOSK_MAC, KIOSK_SIGN_ON, KioskSide, Translation, stored_blocks
from switch.security import workingkeys

MasterKeys = tuple[Key | None, Key | None]
SignedOn = Callable[[SwitchError | None], None]  # a SecurityError: the keys do not prove themselves
# What only SM4 terminals do, whatever the link's settings say: the family of their master key decides.
_SM4_SIGN_ON, _SM4_MAC = "006", "sm4_ecb"


class TerminalSession:
    __slots__ = (
        "blocks",
        "echo_at",
        "heard_at",
        "kiosk",
        "mac_algorithm",
        "mac_key",
        "must_sign_on",
        "network_code",
        "next_stan",
        "next_tmk",
        "old_kiosk_key",
        "old_mac_key",
        "old_until",
        "refilling",
        "sign_on_waiters",
        "stan_waiters",
        "stans_left",
        "terminal",
        "tmk",
        "wishes",
    )

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.tmk: Key | None = None
        self.next_tmk: Key | None = None  # the acquirer may use it from any sign-on on
        self.blocks: tuple[bytes, bytes] = (b"", b"")  # those two as stored
        self.network_code = ""  # 60.3 of its sign-ons
        self.mac_algorithm = ""
        self.mac_key: Key | None = None
        self.old_mac_key: Key | None = None  # accepted until ``old_until``: answers under way carry the old key's MAC
        self.old_until = 0.0
        self.kiosk: KioskSide | None = None  # mode translate
        self.old_kiosk_key: Key | None = None  # as ``old_mac_key``
        self.must_sign_on = False  # the host refused our keys or batch
        self.heard_at = 0.0  # monotonic; when a frame last named this terminal, 0: never. A hint: frames can be forged
        self.echo_at = 0.0  # the same of echo tests alone
        self.wishes = ""  # what the acquirer asks this terminal for, oldest first; see ``model.request.WISHES``
        self.next_stan = 0
        self.stans_left = 0
        self.refilling = False
        self.stan_waiters: list[Callable[[str | None], None]] = []
        self.sign_on_waiters: list[SignedOn] = []

    @property
    def is_signed_on(self) -> bool:
        return self.kiosk_key is not None and not self.must_sign_on and not self.terminal.sign_on_fault

    @property
    def wish(self) -> str:
        """The one that the kiosk hears of next."""
        return self.wishes[:1]

    @property
    def translates(self) -> bool:
        return self.terminal.key_mode == "translate"

    @property
    def kiosk_key(self) -> Key | None:
        """What the kiosk makes its MACs with, and we ours for it."""
        if self.terminal.key_mode != "translate":
            return self.mac_key
        return None if self.kiosk is None or self.mac_key is None else self.kiosk.mac_key

    @property
    def kiosk_algorithm(self) -> str:
        return self.mac_algorithm if self.terminal.key_mode != "translate" else KIOSK_MAC

    @property
    def kiosk_mac(self) -> tuple[Key | None, str]:
        """``kiosk_key`` and ``kiosk_algorithm``: each frame asks for both."""
        if self.terminal.key_mode != "translate":
            return self.mac_key, self.mac_algorithm
        return self.kiosk_key, KIOSK_MAC

    @property
    def kiosk_keys(self) -> tuple[bytes | None, str]:
        """Field 62 for the kiosk, and its 60.3."""
        if self.translates:
            return self.terminal.kiosk_keys, KIOSK_SIGN_ON
        return self.terminal.working_keys, self.network_code


def life_s(terminal_id: str) -> float:
    """How long a terminal's working keys live: a share of its own, the same in every process and for ever."""
    share = zlib.crc32(terminal_id.encode()) / 2**32
    return limits.SIGN_ON_LIFE_S - share * limits.SIGN_ON_SPREAD_S


class TerminalSessions:
    def __init__(
        self,
        store: Terminals,
        security: SecurityModule,
        link: CardLink,
        clock: Clock,
        timers: Timers,
        observer: Observer,
        *,
        old_key_s: float,
        sign_on_code: str,
        mac_algorithm: str,
        echo_has_mac: bool,
        translate_refused: str = "",
    ) -> None:
        self._store = store
        self._security = security
        self._link = link
        self._clock = clock
        self._observer = observer
        self._timers = timers
        self._old_key_s = old_key_s
        self._sign_on_code = sign_on_code
        self._mac_algorithm = mac_algorithm
        self._echo_has_mac = echo_has_mac
        self._translate_refused = translate_refused
        self.translation = Translation(security)
        self._sessions: dict[str, TerminalSession] = {}
        self._loading: dict[str, list[Callable[[TerminalSession | SwitchError | None], None]]] = {}
        self._signing_on = 0
        self._queue: deque[TerminalSession] = deque()  # they sign on when it is their turn
        self._next_start_at = 0.0
        self._starting: Timer | None = None
        link.on_wish = self.wished

    # ------------------------------------------------------------------------------------------ sessions
    def known(self, after: int, limit: int) -> list[TerminalSession]:
        """The terminals that this worker has served, in an order that stays: ``limit`` of them after so many."""
        return list(islice(self._sessions.values(), after, after + limit))

    def get(self, terminal_id: str, done: Callable[[TerminalSession | SwitchError | None], None]) -> None:
        """None: no such terminal. SwitchError: cannot be had now."""
        session = self._sessions.get(terminal_id)
        known = self._store.known(terminal_id)
        if session is not None and session.terminal is known and known.key_mode != "translate":
            done(session)  # nothing has changed, nearly always
            return
        self._get(terminal_id, partial(self._with_kiosk_side, done))

    def _with_kiosk_side(
        self,
        done: Callable[[TerminalSession | SwitchError | None], None],
        session: TerminalSession | SwitchError | None,
    ) -> None:
        """In mode translate the kiosk's keys belong to it: they are loaded when they, or the acquirer's, are others."""
        if not isinstance(session, TerminalSession) or not session.translates:
            done(session)
        elif self._translate_refused:
            done(SecurityError("refused", self._translate_refused))
        elif session.tmk is None or (session.kiosk and session.kiosk.blocks == stored_blocks(session.terminal)):
            done(session)
        else:
            terminal = session.terminal

            def loaded(side: KioskSide | SecurityError | None) -> None:
                if isinstance(side, SecurityError):
                    self._observer.event("terminal.keys_unusable", terminal=terminal.terminal_id, error=side.detail)
                elif side is None or side.blocks == stored_blocks(session.terminal):
                    session.old_kiosk_key = session.kiosk.mac_key if session.kiosk else None
                    session.kiosk = side
                done(session)

            self.translation.load(terminal, session.tmk, loaded)

    def _get(self, terminal_id: str, done: Callable[[TerminalSession | SwitchError | None], None]) -> None:
        session = self._sessions.get(terminal_id)
        if session is not None:
            self._store.get(terminal_id, lambda found: self._refreshed(session, found, done))
            return
        waiting = self._loading.get(terminal_id)
        if waiting is not None:
            waiting.append(done)
            return
        # How many unknown ones are looked up at once is the store's to bound: known ones must not wait behind them.
        self._loading[terminal_id] = [done]
        self._store.get(terminal_id, lambda found: self._found(terminal_id, found))

    def _refreshed(
        self,
        session: TerminalSession,
        found: Terminal | SwitchError | None,
        done: Callable[[TerminalSession | SwitchError | None], None],
    ) -> None:
        """What others changed meanwhile: service taken away, another master key, a sign-on through another worker."""
        if not isinstance(found, Terminal):
            # Removed, or its cache is gone with the database: what we know still holds for what is under way.
            done(None if found is None else session)
        elif (found.tmk_wrapped, found.next_tmk_wrapped) != session.blocks:
            self._load_master_keys(found, partial(self._master_keys_changed, session, found, done))
        else:
            self._keys_changed(session, found, done)

    def _master_keys_changed(
        self,
        session: TerminalSession,
        found: Terminal,
        done: Callable[[TerminalSession | SwitchError | None], None],
        keys: MasterKeys | SecurityError,
    ) -> None:
        if isinstance(keys, SecurityError):
            self._observer.event("terminal.unusable", terminal=found.terminal_id, error=keys.detail)
            done(keys)
            return
        self._use_master_keys(session, found, keys)
        self._keys_changed(session, found, done)

    def _keys_changed(
        self,
        session: TerminalSession,
        found: Terminal,
        done: Callable[[TerminalSession | SwitchError | None], None],
    ) -> None:
        if found.key_epoch <= session.terminal.key_epoch:
            if found.key_epoch == session.terminal.key_epoch:
                session.terminal = found
            done(session)
            return
        if found.working_keys is None:
            # Its active master key was retired: what was signed on under that is over.
            session.terminal, session.mac_key, session.old_until = found, None, 0.0
            done(session)
            return

        def imported(key: Key | SecurityError) -> None:
            if isinstance(key, SecurityError):
                self._observer.event("terminal.keys_unusable", terminal=found.terminal_id, error=key.detail)
                session.must_sign_on = True
            elif found.key_epoch > session.terminal.key_epoch:  # else several frames asked, and one was first
                self._install(session, found, key)
            done(session)

        self._import_mac_key(session.tmk, found.working_keys, imported)

    def _install(self, session: TerminalSession, terminal: Terminal, key: Key) -> None:
        session.old_mac_key, session.old_until = session.mac_key, self._clock.now() + self._old_key_s
        session.terminal, session.mac_key, session.must_sign_on = terminal, key, False

    def old_mac_key(self, session: TerminalSession) -> Key | None:
        """The MAC key before the last roll-over, while frames made with it may still be under way."""
        return session.old_mac_key if self._clock.now() < session.old_until else None

    def old_kiosk_key(self, session: TerminalSession) -> Key | None:
        """As ``old_mac_key``, for frames of the kiosk."""
        if self._clock.now() >= session.old_until:
            return None
        return session.old_kiosk_key if session.translates else session.old_mac_key

    def _found(self, terminal_id: str, found: Terminal | SwitchError | None) -> None:
        if not isinstance(found, Terminal):
            self._loaded(terminal_id, found)
            return
        self._load_master_keys(found, partial(self._master_keys_loaded, found))

    def _load_master_keys(self, terminal: Terminal, done: Callable[[MasterKeys | SecurityError], None]) -> None:
        """The active one and the next one, each as far as there is one."""
        loaded: list[Key | None] = []

        def load(wrapped: bytes, kcv: bytes, then: Callable[[], None]) -> None:
            def got(key: Key | SecurityError) -> None:
                if isinstance(key, SecurityError):
                    done(key)
                elif not key.kcv.startswith(kcv):
                    # A stored key block is not bound to its terminal: two rows may have been mixed up.
                    done(
                        SecurityError("kcv", f"terminal {terminal.terminal_id}: its stored TMK has another check value")
                    )
                else:
                    loaded.append(key)
                    then()

            if wrapped:
                self._security.load_key(wrapped, KeyUsage.TMK, got)
            else:
                loaded.append(None)
                then()

        def both() -> None:
            done((loaded[0], loaded[1]))

        load(
            terminal.tmk_wrapped,
            terminal.tmk_kcv,
            lambda: load(terminal.next_tmk_wrapped, terminal.next_tmk_kcv, both),
        )

    def _use_master_keys(self, session: TerminalSession, terminal: Terminal, keys: MasterKeys) -> None:
        session.tmk, session.next_tmk = keys
        session.blocks = (terminal.tmk_wrapped, terminal.next_tmk_wrapped)
        # A successor of another family is refused where it is installed, so either says it.
        known = session.tmk or session.next_tmk
        is_sm4 = known is not None and known.family == "sm4"
        session.network_code = _SM4_SIGN_ON if is_sm4 else self._sign_on_code
        session.mac_algorithm = _SM4_MAC if is_sm4 else self._mac_algorithm

    def _master_keys_loaded(self, terminal: Terminal, keys: MasterKeys | SecurityError) -> None:
        terminal_id = terminal.terminal_id
        if isinstance(keys, SecurityError):
            self._observer.event("terminal.unusable", terminal=terminal_id, error=keys.detail)
            self._loaded(terminal_id, keys)
            return
        session = TerminalSession(terminal)
        self._use_master_keys(session, terminal, keys)
        if terminal.working_keys is None:
            self._loaded(terminal_id, session)
            return

        def imported(mac_key: Key | SecurityError) -> None:
            if isinstance(mac_key, SecurityError):
                self._observer.event("terminal.keys_unusable", terminal=terminal_id, error=mac_key.detail)
            else:
                session.mac_key = mac_key
            self._loaded(terminal_id, session)

        self._import_mac_key(session.tmk, terminal.working_keys, imported)

    def _loaded(self, terminal_id: str, result: TerminalSession | SwitchError | None) -> None:
        if isinstance(result, TerminalSession):
            self._sessions[terminal_id] = result
        call_each(self._observer, self._loading.pop(terminal_id, []), result)

    def _import_mac_key(self, tmk: Key | None, field_62: bytes, done: Callable[[Key | SecurityError], None]) -> None:
        if tmk is None:
            done(SecurityError("key", "the terminal has no master key; see: gridswitch key show"))
            return
        try:
            keys = workingkeys.parse(field_62)
        except SecurityError as error:
            done(error)
            return
        self._security.import_key(keys.mac.cryptogram, tmk, KeyUsage.MAC, keys.mac.kcv, done)

    # ------------------------------------------------------------------------------------------ numbers
    def take_stan(self, session: TerminalSession, done: Callable[[str | None], None]) -> None:
        """The next system trace audit number, six digits; None: none can be had now."""
        if session.stans_left == 0:
            session.stan_waiters.append(done)
            self._refill(session)
            return
        stan = session.next_stan
        session.next_stan += 1
        session.stans_left -= 1
        if session.stans_left <= limits.STAN_REFILL_AT:
            self._refill(session)
        done(f"{stan:06d}")

    def _refill(self, session: TerminalSession) -> None:
        if session.refilling:
            return
        session.refilling = True

        def reserved(first: int | SwitchError) -> None:
            session.refilling = False
            waiters, session.stan_waiters = session.stan_waiters, []
            if isinstance(first, SwitchError):
                self._observer.event("stan.unavailable", error=first.detail)
                call_each(self._observer, waiters, None)
                return
            # The rest of the old block is given up: numbers are cheap, reuse of one is not.
            session.next_stan, session.stans_left = first, limits.STAN_BLOCK
            call_each(self._observer, [partial(self.take_stan, session, done) for done in waiters])

        self._store.reserve_stans(session.terminal.terminal_id, limits.STAN_BLOCK, reserved)

    # ------------------------------------------------------------------------------------------ sign-on
    def is_due(self, session: TerminalSession) -> bool:
        """Its keys are missing, refused, or have lived long enough."""
        age_s = self._signed_on_s(session)
        if WISH_SIGN_ON in session.wishes:
            return True
        return not session.is_signed_on or not 0 <= age_s < life_s(session.terminal.terminal_id)

    def wished(self, answer: CardAnswer) -> None:
        """The acquirer asks a terminal for something in an answer's header, or, with a sign-on, for nothing more.

        A new sign-on is our own business: from now on the keys are due, which the kiosk hears with its next echo
        test and no customer has to wait for. All else is the kiosk's, which is told in the header of its answers.
        """
        session = self._sessions.get(answer.terminal_id)
        if session is None:
            return  # the service terminal's, which trades nothing
        wish = answer.wants
        if answer.kind == "sign_on":
            session.wishes = "" if wish == WISH_SIGN_ON else wish
        elif wish == WISH_SIGN_ON and self._signed_on_s(session) < limits.SIGN_ON_WISH_S:
            return  # it has just done so: a host that says it in every answer must not keep the terminal busy
        elif wish not in session.wishes:
            session.wishes += wish
        else:
            return
        if wish:
            self._observer.event("terminal.wished", terminal=answer.terminal_id, wish=wish)

    def fulfilled(self, session: TerminalSession, wish: str) -> None:
        session.wishes = session.wishes.replace(wish, "")

    def _signed_on_s(self, session: TerminalSession) -> float:
        """How long ago it did."""
        return (self._clock.wall_us() - session.terminal.signed_on_us) / 1e6

    def sign_on(self, session: TerminalSession, done: SignedOn) -> None:
        """Once a day and after the host refused our keys; several callers share one sign-on (single-flight).

        Many terminals at once, as at 06:00 or when the host has forgotten everybody's keys, wait for their turn.
        """
        if not self.is_due(session):
            done(None)
            return
        if session.tmk is None and session.next_tmk is None:
            done(SecurityError("key", "the terminal has no master key; see: gridswitch key show"))
            return
        if len(session.sign_on_waiters) >= limits.INBOX_MAX:
            done(UnavailableError("busy", "too many wait for the same sign-on"))
            return
        session.sign_on_waiters.append(done)
        if len(session.sign_on_waiters) > 1:
            return
        if len(self._queue) >= limits.SIGN_ON_QUEUE_MAX:
            self._signed_on(session, UnavailableError("busy", "too many terminals sign on at once"), counted=False)
            return
        self._queue.append(session)
        self._start_next()

    def _start_next(self) -> None:
        """The next in the queue, if it is time and not too many are under way."""
        if not self._queue or self._starting is not None or self._signing_on >= limits.SIGN_ON_PARALLEL_MAX:
            return
        now = self._clock.now()
        if now < self._next_start_at:
            self._starting = self._timers.at(self._next_start_at, self._start_due)
            return
        self._next_start_at = now + limits.SIGN_ON_GAP_S
        session = self._queue.popleft()
        self._signing_on += 1
        if self._queue:
            self._starting = self._timers.at(self._next_start_at, self._start_due)
        self.take_stan(session, lambda stan: self._send_sign_on(session, stan))

    def _start_due(self) -> None:
        self._starting = None
        self._start_next()

    def _send_sign_on(self, session: TerminalSession, stan: str | None) -> None:
        if stan is None:
            self._signed_on(session, UnavailableError("busy", "no trace number can be reserved"))
            return
        terminal = session.terminal
        self._link.sign_on(
            terminal.terminal_id,
            terminal.merchant_id,
            stan,
            session.network_code,
            lambda answer: self._sign_on_answered(session, answer),
        )

    def _sign_on_answered(self, session: TerminalSession, answer: CardAnswer | None) -> None:
        if answer is None:
            self._signed_on(session, UnavailableError("card_unavailable", "the card network does not answer"))
            return
        if answer.response_code != "00":
            detail = f"the card network refuses the sign-on with {answer.response_code or 'no code'}"
            self._signed_on(session, UnavailableError("card_unavailable", detail))
            return
        # From here on the host uses other keys than we have, whatever becomes of those that it sent.
        session.must_sign_on = True
        # Proved by its check value, a successor is told from the active key without asking anybody.
        nxt, next_block = session.next_tmk, session.blocks[1]
        if nxt is None:
            self._import_active(session, answer)
            return

        def tried(key: Key | SecurityError) -> None:
            if isinstance(key, SecurityError) and key.code in NOT_NOW:
                self._keys_unusable(session, key)
            elif isinstance(key, SecurityError):
                self._import_active(session, answer)
            else:
                self._key_imported(session, answer, next_block, key)

        self._import_mac_key(nxt, answer.working_keys, tried)

    def _import_active(self, session: TerminalSession, answer: CardAnswer) -> None:
        self._import_mac_key(
            session.tmk, answer.working_keys, partial(self._key_imported, session, answer, session.blocks[0])
        )

    def _key_imported(
        self, session: TerminalSession, answer: CardAnswer, under: bytes, key: Key | SecurityError
    ) -> None:
        if isinstance(key, SecurityError):
            self._keys_unusable(session, key)
            return
        if not session.translates:
            self._store_keys(session, answer, under, key, None)
            return

        def made(kiosk_keys: bytes | SecurityError) -> None:
            if isinstance(kiosk_keys, SecurityError):
                self._keys_unusable(session, kiosk_keys)
            else:
                self._store_keys(session, answer, under, key, kiosk_keys)

        tmk = session.next_tmk if under == session.blocks[1] else session.tmk
        assert tmk is not None
        self.translation.make(session.terminal, tmk, answer.working_keys, made)

    def _store_keys(
        self, session: TerminalSession, answer: CardAnswer, under: bytes, key: Key, kiosk_keys: bytes | None
    ) -> None:
        def installed(result: Terminal | SwitchError) -> None:
            if isinstance(result, SwitchError):
                self._signed_on(session, UnavailableError("busy", result.detail))
                return
            if under == session.blocks[1]:
                session.tmk, session.next_tmk = session.next_tmk, None
                session.blocks = (result.tmk_wrapped, result.next_tmk_wrapped)
                self._observer.event("terminal.tmk_activated", terminal=result.terminal_id, kcv=result.tmk_kcv.hex())
            self._install(session, result, key)
            self._with_kiosk_side(lambda _: self._signed_on(session, None), session)

        self._store.install_keys(
            session.terminal.terminal_id,
            working_keys=answer.working_keys,
            under=under,
            batch_number=answer.batch_number,
            wall_us=self._clock.wall_us(),
            done=installed,
            kiosk_keys=kiosk_keys,
        )

    def _keys_unusable(self, session: TerminalSession, error: SecurityError) -> None:
        """Keys that do not prove themselves are never used, nor do they replace any."""
        if error.code in NOT_NOW:
            self._signed_on(session, UnavailableError("busy", f"the security module: {error.detail}"))
            return

        def noted(result: Terminal | SwitchError) -> None:
            # Without the database only this process knows it: others find out by themselves.
            fault = error.detail
            session.terminal = (
                replace(session.terminal, sign_on_fault=fault) if isinstance(result, SwitchError) else result
            )
            self._signed_on(session, error)

        self._store.note_fault(session.terminal.terminal_id, error.detail, noted)

    def _signed_on(self, session: TerminalSession, error: SwitchError | None, *, counted: bool = True) -> None:
        if counted:
            self._signing_on -= 1
        self._observer.count("switch_sign_ons_total", ("failed" if error else "done",))
        if error is not None:
            self._observer.event(
                "terminal.sign_on_failed",
                terminal=session.terminal.terminal_id,
                error=error.detail,
                out_of_service=bool(session.terminal.sign_on_fault),
            )
        waiters, session.sign_on_waiters = session.sign_on_waiters, []
        call_each(self._observer, waiters, error)
        self._start_next()

    # ------------------------------------------------------------------------------------------ MAC echo
    def prove_echo(self, session: TerminalSession, done: SignedOn) -> None:
        """The card network's half of a round trip whose other half is the kiosk's echo test with a good MAC.

        The third one passes the gate of a terminal that is coming into service. An error: this one does not count.
        """

        def numbered(stan: str | None) -> None:
            if stan is None:
                done(UnavailableError("busy", "no trace number can be reserved"))
                return
            terminal = session.terminal
            frame = self._link.echo_frame(terminal.terminal_id, terminal.merchant_id, stan, mac=self._echo_has_mac)
            proof = _EchoProof(stan, terminal.key_epoch, session.mac_key, done)
            if not self._echo_has_mac:
                self._link.manage("echo", terminal.terminal_id, stan, frame, partial(self._echoed, session, proof))
                return
            assert proof.key is not None
            self._security.make_mac(
                proof.key, session.mac_algorithm, mab(frame), partial(self._send_echo, session, proof, frame)
            )

        self.take_stan(session, numbered)

    def _send_echo(self, session: TerminalSession, proof: _EchoProof, frame: bytes, mac: bytes | SecurityError) -> None:
        if isinstance(mac, SecurityError):
            self._echo_failed(session, proof, f"the security module: {mac.detail}")
            return
        self._link.manage(
            "echo",
            session.terminal.terminal_id,
            proof.stan,
            with_mac(frame, mac),
            partial(self._echoed, session, proof),
        )

    def _echoed(self, session: TerminalSession, proof: _EchoProof, answer: CardAnswer | None) -> None:
        if answer is None:
            self._echo_failed(session, proof, "the card network does not answer the echo test")
        elif answer.response_code != "00":
            self._echo_failed(session, proof, f"the card network answers the echo test with {answer.response_code}")
        elif not self._echo_has_mac:
            self._echo_judged(session, proof, True)
        elif answer.mac is None:
            self._echo_failed(session, proof, "the card network's echo has no MAC; see unionpay.echo_mac")
        else:
            assert proof.key is not None
            self._security.verify_mac(
                proof.key, session.mac_algorithm, answer.mab, answer.mac, partial(self._echo_judged, session, proof)
            )

    def _echo_judged(self, session: TerminalSession, proof: _EchoProof, good: bool | SecurityError) -> None:
        if good is not True:
            self._echo_failed(session, proof, "the card network's echo has a wrong MAC")
            return

        def noted(result: Terminal | SwitchError) -> None:
            if isinstance(result, SwitchError):
                self._echo_failed(session, proof, result.detail)
                return
            if result.key_epoch == session.terminal.key_epoch:
                session.terminal = result
            self._observer.event("terminal.mac_echo", terminal=result.terminal_id, seen=result.mac_echoes)
            proof.done(None)

        self._store.note_mac_echo(session.terminal.terminal_id, proof.epoch, noted)

    def _echo_failed(self, session: TerminalSession, proof: _EchoProof, why: str) -> None:
        self._observer.event("terminal.mac_echo_failed", terminal=session.terminal.terminal_id, error=why)
        proof.done(UnavailableError("card_unavailable", why))

    # ------------------------------------------------------------------------------------------ test gates
    def prove_query(self, session: TerminalSession, done: SignedOn) -> None:
        """The marketing system answered an inquiry for the test account: passes the gate, if it waits for that."""
        self._store.note_test_query(session.terminal.terminal_id, partial(self._tested, session, "test_query", done))

    def prove_reversal(self, session: TerminalSession, opened_on: int, payment_id: int) -> None:
        """A payment for the test account was charged and given back, durably."""
        self._store.note_test_payment(
            session.terminal.terminal_id,
            opened_on,
            payment_id,
            partial(self._tested, session, "test_reversal", lambda error: None),
        )

    def _tested(self, session: TerminalSession, gate: str, done: SignedOn, result: Terminal | SwitchError) -> None:
        terminal_id = session.terminal.terminal_id
        if isinstance(result, SwitchError):
            self._observer.event("terminal.test_not_counted", terminal=terminal_id, gate=gate, error=result.detail)
            done(result)
            return
        if result.key_epoch == session.terminal.key_epoch:
            session.terminal = result
        self._observer.event("terminal.tested", terminal=terminal_id, gate=gate)
        done(None)


@dataclass(slots=True)
class _EchoProof:
    stan: str
    epoch: int  # of the working keys
    key: Key | None
    done: SignedOn
