# cython: annotation_typing=False, binding=False
"""The two kept upstream links: a dialer for the bytes, a machine for their health, answers matched to who waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Protocol

from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.dialects.unionpay import UnionPayDialect
from switch.errors import BadRequestError
from switch.limits import INFLIGHT_PER_LINK_MAX, STAN_MAX, TimeProfile
from switch.machines.breaker import Breaker
from switch.machines.link import UP, Link, LinkEffect
from switch.model.request import CardAnswer
from switch.ports import Clock, Journal, Observer, Stray, Wire
from switch.runtime.calls import call_each
from switch.runtime.timers import Timer, Timers


class Resettable(Protocol):
    def reset(self, reason: str) -> None: ...


class UpstreamLink:
    """What both links share: ``LinkHandler`` towards the dialer, ``is_up`` and ``send`` towards the payments."""

    def __init__(
        self, name: str, times: TimeProfile, timers: Timers, clock: Clock, observer: Observer, journal: Journal
    ) -> None:
        self.name = name
        self.dialer: Resettable | None = None  # set by the supervisor: the dialer needs this handler first
        self.on_up: Callable[[], None] = lambda: None
        self.breaker = Breaker()
        self.echo_rtt_s = 0.0  # of the latest echo
        self.on_lost: Callable[[Wire], None] = lambda wire: None
        self.on_frame_lost: Callable[[object, bool], None] = lambda token, unsent: None
        self._machine = Link(times)
        self._times = times
        self._timers = timers
        self._clock = clock
        self._observer = observer
        self._journal = journal
        self._wire: Wire | None = None
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._probed_at = 0.0

    @property
    def is_up(self) -> bool:
        return self._machine.state is UP

    @property
    def is_usable(self) -> bool:
        """New work may be begun with this peer."""
        return self._machine.state is UP and not self.breaker.is_open

    def heard_of(self, *, silent: bool) -> None:
        """A request was answered, or had no answer in its time: what the breaker goes by."""
        now = self._clock.now()
        if not silent:
            self.breaker.answered(now)
        elif self.breaker.silent(now):
            self._observer.gauge("switch_breaker_state", 1, (self.name,))
            self._observer.event("breaker.opened", level="warning", link=self.name)
            self._probe_again()

    def _probe_again(self) -> None:
        """While the breaker is open only an echo may find out that the peer is well."""
        if not self.breaker.is_open:
            return
        if self._machine.is_up:
            self._probed_at = self._clock.now()
            self._probe()
        self._timers.after(self._times.echo_timeout_s, self._probe_again)

    def send(self, frame: bytes, token: object = None) -> bool:
        """False: proved not to have left."""
        wire = self._wire
        return wire is not None and self._machine.state is UP and wire.send(frame, token)

    # ------------------------------------------------------------------------------------------ LinkHandler
    def wire_up(self, wire: Wire) -> None:
        self._wire = wire
        self._carry_out(self._machine.connected(self._clock.now()))

    def wire_lost(self, wire: Wire, reason: str) -> None:
        self._wire = None
        self._observer.event("link.lost", link=self.name, reason=reason)
        self._carry_out(self._machine.lost(self._clock.now()))
        self._forget_all()
        self.on_lost(wire)

    def frame_lost(self, token: object, *, unsent: bool) -> None:
        self.on_frame_lost(token, unsent)

    def frame_received(self, wire: Wire, frame: bytes) -> None:
        self._machine.heard(self._clock.now())
        try:
            self._read(frame)
        except BadRequestError as error:
            # The framing is intact, so the link stays; whoever waits sees silence, not garbage.
            self._observer.count("switch_bad_frames_total", (self.name, error.code))
            self._observer.event("frame.unreadable", link=self.name, error=error.detail, size=len(frame))
            self.stray("unreadable", "", error.detail)
        except Exception as error:
            # A fault of ours over one answer. Left to rise it would cut the link, and with it everybody's answers.
            self._observer.event(
                "answer.failed", level="error", link=self.name, error=repr(error), kind=type(error).__name__
            )

    def stray(self, kind: str, key: str, detail: str) -> None:
        self._journal.note(Stray(self.name, kind, key, detail, self._clock.wall_us()))

    # ------------------------------------------------------------------------------------------ machine
    def _carry_out(self, effects: list[LinkEffect]) -> None:
        for effect in effects:
            if effect is LinkEffect.PROBE:
                self._probed_at = self._clock.now()
                self._probe()
            elif effect is LinkEffect.UP:
                self._observer.gauge("switch_link_up", 1, (self.name,))
                self._observer.event("link.up", link=self.name)
                self.on_up()
            elif effect is LinkEffect.DOWN:
                self._observer.gauge("switch_link_up", 0, (self.name,))
                self._observer.event("link.down", link=self.name)
            elif self.dialer is not None:
                self.dialer.reset("no answer to the echo test")
        self._schedule()

    def _schedule(self) -> None:
        """One timer, moved lazily: ``heard`` only pushes the machine's deadline out."""
        deadline = self._machine.deadline
        if self._timer is not None and deadline < self._timer_at:
            self._timer.cancel()  # from before the link was lost: the new one is probed sooner
            self._timer = None
        if self._timer is None and deadline != float("inf"):
            self._timer, self._timer_at = self._timers.at(deadline, self._due), deadline

    def _due(self) -> None:
        self._timer = None
        self._carry_out(self._machine.due(self._clock.now()))

    def _answered(self) -> None:
        self.echo_rtt_s = self._clock.now() - self._probed_at
        self._observer.observe("switch_echo_rtt_seconds", self.echo_rtt_s, (self.name,))
        if self.breaker.alive(self._clock.now()):
            self._observer.gauge("switch_breaker_state", 0, (self.name,))
            self._observer.event("breaker.closed", link=self.name)
        self._carry_out(self._machine.answered(self._clock.now()))

    def _probe_send(self, frame: bytes) -> None:
        if self._wire is not None:
            self._wire.send(frame)

    # ------------------------------------------------------------------------------------------ of each link
    def _probe(self) -> None:
        raise NotImplementedError

    def _read(self, frame: bytes) -> None:
        raise NotImplementedError

    def _forget_all(self) -> None:
        raise NotImplementedError


class CardLink(UpstreamLink):
    """UnionPay. Purchases and reversals are matched by terminal, batch and STAN where the payments are kept."""

    def __init__(
        self,
        name: str,
        dialect: UnionPayDialect,
        service: tuple[str, str],
        times: TimeProfile,
        timers: Timers,
        clock: Clock,
        observer: Observer,
        journal: Journal,
    ) -> None:
        super().__init__(name, times, timers, clock, observer, journal)
        self.on_answer: Callable[[CardAnswer], None] = lambda answer: None
        self.on_wish: Callable[[CardAnswer], None] = lambda answer: None
        self._dialect = dialect
        self._service = service
        self._echo_stan = count(1)
        self._managed: dict[tuple[str, str, str], tuple[Callable[[CardAnswer | None], None], Timer]] = {}

    def sign_on(
        self,
        terminal_id: str,
        merchant_id: str,
        stan: str,
        network_code: str,
        done: Callable[[CardAnswer | None], None],
    ) -> None:
        """``done(None)``: no answer in time, or the link is down."""
        frame = self._dialect.sign_on(terminal_id, merchant_id, stan, network_code)
        self.manage("sign_on", terminal_id, stan, frame, done)

    def manage(
        self,
        kind: str,
        terminal_id: str,
        stan: str,
        frame: bytes,
        done: Callable[[CardAnswer | None], None],
        wait_s: float | None = None,
    ) -> None:
        """A message that moves no money: ``sign_on``, ``balance``, ``settlement`` …, or ``download`` with its 60.3
        in place of a trace number. ``done`` as with ``sign_on``."""
        key = (kind, terminal_id, stan)
        if not self.send(frame, key):
            done(None)
            return
        timer = self._timers.after(wait_s or self._times.card_s, lambda: self._end_managed(key, None))
        self._managed[key] = (done, timer)

    def frame_lost(self, token: object, *, unsent: bool) -> None:
        if isinstance(token, tuple):
            if token in self._managed:
                self._end_managed(token, None)
        else:
            super().frame_lost(token, unsent=unsent)

    def echo_frame(self, terminal_id: str, merchant_id: str, stan: str, *, mac: bool) -> bytes:
        return self._dialect.echo(terminal_id, merchant_id, stan, mac=mac)

    def _end_managed(self, key: tuple[str, str, str], answer: CardAnswer | None) -> None:
        waiting = self._managed.pop(key, None)
        if waiting is None:
            self.stray("late", f"{key[1]}|{key[2]}", f"{key[0]} answered after its time-out, or twice")
            return
        done, timer = waiting
        timer.cancel()
        done(answer)

    def _probe(self) -> None:
        self._probe_send(self._dialect.echo(*self._service, f"{next(self._echo_stan) % STAN_MAX:06d}"))

    def _read(self, frame: bytes) -> None:
        answer = self._dialect.read(frame)
        if answer.wants or answer.kind == "sign_on":
            self.on_wish(answer)
        if answer.kind in ("purchase", "reversal"):
            self.on_answer(answer)
        elif (
            answer.kind in ("sign_on", "balance", "download", "script", "settlement", "upload")
            or (answer.kind, answer.terminal_id, answer.stan) in self._managed
        ):
            self._end_managed((answer.kind, answer.terminal_id, answer.stan), answer)
        elif answer.response_code == "00":
            self._answered()
        else:
            self._observer.event("link.echo_refused", link=self.name, response_code=answer.response_code)

    def _forget_all(self) -> None:
        call_each(self._observer, [partial(self._end_managed, key, None) for key in self._managed])


class MarketingLink(UpstreamLink):
    """The marketing system. Answers are matched by our request id, in any order."""

    def __init__(
        self,
        name: str,
        dialect: MarketingDialect,
        times: TimeProfile,
        timers: Timers,
        clock: Clock,
        observer: Observer,
        journal: Journal,
    ) -> None:
        super().__init__(name, times, timers, clock, observer, journal)
        self.day = ""  # YYYYMMDD, the marketing system's accounting day as it last said
        self._signed_on_day = ""  # a channel is opened for one day
        self._dialect = dialect
        self._ids = count(1)
        self._pending: dict[int, Callable[[MarketingAnswer | None], None]] = {}
        self._signed_on = False
        self._probe_id = 0

    def speak(self, dialect: MarketingDialect) -> None:
        """From now on this one towards the marketing system."""
        self._dialect = dialect

    def next_id(self) -> int:
        return next(self._ids)

    @property
    def inflight(self) -> int:
        return len(self._pending)

    def call(
        self, request_id: int, frame: bytes, done: Callable[[MarketingAnswer | None], None], token: object = None
    ) -> bool:
        """Send a request. True: ``done`` is called once, with None when the link is lost; the caller keeps the time and
        says ``forget``. False: proved not to have left; ``done`` is never called."""
        if len(self._pending) >= INFLIGHT_PER_LINK_MAX or not self.send(frame, token):
            return False
        self._pending[request_id] = done
        return True

    def heard_day(self, day: str) -> None:
        """Any answer may tell it: a busy link sends no echo."""
        self.day = max(self.day, day)

    def forget(self, request_id: int) -> None:
        """Its time is over; an answer that still comes is a stray."""
        self._pending.pop(request_id, None)

    def _probe(self) -> None:
        self._probe_id = self.next_id()
        build = self._dialect.echo if self._signed_on else self._dialect.sign_on
        self._probe_send(build(self._probe_id))

    def _read(self, frame: bytes) -> None:
        answer = self._dialect.read(frame)
        if answer.request_id == self._probe_id:
            self._probe_id = 0
            signs_on = not self._signed_on
            if answer.code != "00":
                self._observer.event("link.sign_on_refused", link=self.name, code=answer.code, text=answer.text)
                return
            self._dialect.check("echo", answer)
            self._signed_on = True
            self.day = answer.data["day"]
            self._signed_on_day = self.day if signs_on else self._signed_on_day
            self._answered()
            if self.day != self._signed_on_day:
                self._sign_on_again()
            return
        done = self._pending.pop(answer.request_id, None)
        if done is None:
            self._observer.count("switch_late_responses_total")
            self.stray("late", str(answer.request_id), f"code {answer.code} after its time-out, or twice")
            return
        if answer.code in self._dialect.not_signed_on:
            self._sign_on_again()
        done(answer)

    def _sign_on_again(self) -> None:
        """A new day, or the peer has forgotten us: without it nothing is answered any more but echo tests. A busy link
        sends none, so the first refusal must do; and one sign-on is enough for all that are refused meanwhile."""
        now = self._clock.now()
        if self._signed_on or now - self._probed_at > self._times.echo_timeout_s:
            self._signed_on = False
            self._probed_at = now
            self._probe()

    def _forget_all(self) -> None:
        self._signed_on = False
        pending, self._pending = self._pending, {}
        call_each(self._observer, pending.values(), None)
