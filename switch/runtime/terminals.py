"""Terminals in memory: MAC keys, sign-on towards the acquirer, and system trace audit numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from switch import limits
from switch.errors import SecurityError, SwitchError, UnavailableError
from switch.model.request import CardAnswer
from switch.ports import Clock, Key, KeyUsage, Observer, SecurityModule, Terminal, Terminals
from switch.runtime.calls import call_each
from switch.runtime.links import CardLink
from switch.security import workingkeys

SignedOn = Callable[[SwitchError | None], None]


@dataclass(slots=True)
class TerminalSession:
    terminal: Terminal
    tmk: Key
    mac_key: Key | None = None
    old_mac_key: Key | None = None  # accepted until ``old_until``: answers under way carry the old key's MAC
    old_until: float = 0.0
    must_sign_on: bool = False  # the host refused our keys or batch
    next_stan: int = 0
    stans_left: int = 0
    refilling: bool = False
    stan_waiters: list[Callable[[str | None], None]] = field(default_factory=list)
    sign_on_waiters: list[SignedOn] = field(default_factory=list)

    @property
    def is_signed_on(self) -> bool:
        return self.mac_key is not None and not self.must_sign_on


class TerminalSessions:
    def __init__(
        self,
        store: Terminals,
        security: SecurityModule,
        link: CardLink,
        clock: Clock,
        observer: Observer,
        *,
        old_key_s: float,
    ) -> None:
        self._store = store
        self._security = security
        self._link = link
        self._clock = clock
        self._observer = observer
        self._old_key_s = old_key_s
        self._sessions: dict[str, TerminalSession] = {}
        self._loading: dict[str, list[Callable[[TerminalSession | SwitchError | None], None]]] = {}
        self._signing_on = 0

    # ------------------------------------------------------------------------------------------ sessions
    def get(self, terminal_id: str, done: Callable[[TerminalSession | SwitchError | None], None]) -> None:
        """None: no such terminal. SwitchError: cannot be had now."""
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
        """What others changed meanwhile: service taken away, or a sign-on through another worker (new epoch)."""
        if not isinstance(found, Terminal):
            # Removed, or its cache is gone with the database: what we know still holds for what is under way.
            done(None if found is None else session)
            return
        if found.key_epoch <= session.terminal.key_epoch or found.working_keys is None:
            if found.key_epoch == session.terminal.key_epoch:
                session.terminal = found
            done(session)
            return

        def imported(key: Key | SecurityError) -> None:
            if isinstance(key, SecurityError):
                self._observer.event("terminal.keys_unusable", terminal=found.terminal_id, error=key.detail)
                session.must_sign_on = True
            else:
                self._install(session, found, key)
            done(session)

        self._import_mac_key(session, found.working_keys, imported)

    def _install(self, session: TerminalSession, terminal: Terminal, key: Key) -> None:
        session.old_mac_key, session.old_until = session.mac_key, self._clock.now() + self._old_key_s
        session.terminal, session.mac_key, session.must_sign_on = terminal, key, False

    def _found(self, terminal_id: str, found: Terminal | SwitchError | None) -> None:
        if not isinstance(found, Terminal):
            self._loaded(terminal_id, found)
            return
        self._security.load_key(found.tmk_wrapped, KeyUsage.TMK, lambda key: self._tmk_loaded(terminal_id, found, key))

    def _tmk_loaded(self, terminal_id: str, terminal: Terminal, key: Key | SecurityError) -> None:
        if isinstance(key, SecurityError):
            self._observer.event("terminal.unusable", terminal=terminal_id, error=key.detail)
            self._loaded(terminal_id, key)
            return
        if not key.kcv.startswith(terminal.tmk_kcv):
            # A stored key block is not bound to its terminal: two rows may have been mixed up.
            self._observer.event("terminal.unusable", terminal=terminal_id, error="stored TMK has another check value")
            self._loaded(terminal_id, SecurityError("kcv", f"terminal {terminal_id}: TMK has another check value"))
            return
        session = TerminalSession(terminal, key)
        if terminal.working_keys is None:
            self._loaded(terminal_id, session)
            return

        def imported(mac_key: Key | SecurityError) -> None:
            if isinstance(mac_key, SecurityError):
                self._observer.event("terminal.keys_unusable", terminal=terminal_id, error=mac_key.detail)
            else:
                session.mac_key = mac_key
            self._loaded(terminal_id, session)

        self._import_mac_key(session, terminal.working_keys, imported)

    def _loaded(self, terminal_id: str, result: TerminalSession | SwitchError | None) -> None:
        if isinstance(result, TerminalSession):
            self._sessions[terminal_id] = result
        call_each(self._observer, self._loading.pop(terminal_id, []), result)

    def _import_mac_key(
        self, session: TerminalSession, field_62: bytes, done: Callable[[Key | SecurityError], None]
    ) -> None:
        try:
            keys = workingkeys.parse(field_62)
        except SecurityError as error:
            done(error)
            return
        self._security.import_key(keys.mac.cryptogram, session.tmk, KeyUsage.MAC, keys.mac.kcv, done)

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
    def sign_on(self, session: TerminalSession, done: SignedOn) -> None:
        """Once a day and after the host refused our keys; several callers share one sign-on (single-flight)."""
        age_s = (self._clock.wall_us() - session.terminal.signed_on_us) / 1e6
        if session.is_signed_on and 0 <= age_s < limits.SIGN_ON_LIFE_S:
            done(None)
            return
        session.sign_on_waiters.append(done)
        if len(session.sign_on_waiters) > 1:
            return
        if self._signing_on >= limits.SIGN_ON_PARALLEL_MAX:
            self._signed_on(session, UnavailableError("busy", "too many terminals sign on at once"), counted=False)
            return
        self._signing_on += 1
        self.take_stan(session, lambda stan: self._send_sign_on(session, stan))

    def _send_sign_on(self, session: TerminalSession, stan: str | None) -> None:
        if stan is None:
            self._signed_on(session, UnavailableError("busy", "no trace number can be reserved"))
            return
        terminal = session.terminal
        self._link.sign_on(
            terminal.terminal_id, terminal.merchant_id, stan, lambda answer: self._sign_on_answered(session, answer)
        )

    def _sign_on_answered(self, session: TerminalSession, answer: CardAnswer | None) -> None:
        if answer is None:
            self._signed_on(session, UnavailableError("card_unavailable", "the card network does not answer"))
            return
        if answer.response_code != "00":
            detail = f"the card network refuses the sign-on with {answer.response_code or 'no code'}"
            self._signed_on(session, UnavailableError("card_unavailable", detail))
            return
        self._import_mac_key(session, answer.working_keys, lambda key: self._key_imported(session, answer, key))

    def _key_imported(self, session: TerminalSession, answer: CardAnswer, key: Key | SecurityError) -> None:
        if isinstance(key, SecurityError):
            # Keys that do not prove themselves are never used; the terminal stays out until a good sign-on.
            session.must_sign_on = True
            self._signed_on(session, key)
            return

        def installed(result: Terminal | SwitchError) -> None:
            if isinstance(result, SwitchError):
                self._signed_on(session, result)
                return
            self._install(session, result, key)
            self._signed_on(session, None)

        self._store.install_keys(
            session.terminal.terminal_id,
            working_keys=answer.working_keys,
            batch_number=answer.batch_number,
            wall_us=self._clock.wall_us(),
            done=installed,
        )

    def _signed_on(self, session: TerminalSession, error: SwitchError | None, *, counted: bool = True) -> None:
        if counted:
            self._signing_on -= 1
        self._observer.count("switch_sign_ons_total", ("failed" if error else "done",))
        if error is not None:
            self._observer.event("terminal.sign_on_failed", terminal=session.terminal.terminal_id, error=error.detail)
        waiters, session.sign_on_waiters = session.sign_on_waiters, []
        call_each(self._observer, waiters, error)
