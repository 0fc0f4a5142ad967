"""One worker: build the object graph from the configuration, start and stop it in order, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from switch.config import Config
from switch.dialects.codes import CardCodes
from switch.dialects.kiosk import KioskDialect
from switch.dialects.marketing import MarketingDialect
from switch.dialects.unionpay import UnionPayDialect
from switch.errors import SecurityError, StartError, UnavailableError
from switch.limits import BACKOFF_FIRST_S, DATABASE_START_WAIT_S, DRAIN_LOOK_S, RECOVERY_PAGE
from switch.machines import days
from switch.machines.payment import HostProfile
from switch.model.payment import DRIVEN
from switch.net.framed import LEN2, LEN4
from switch.net.listener import KioskListener
from switch.net.upstream import Dialer
from switch.observe.health import Health, Heartbeat
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
from switch.ports import SecurityModule, Terminals
from switch.runtime.clock import SystemClock, SystemDice
from switch.runtime.dispatcher import Dispatcher, PaymentIds
from switch.runtime.links import CardLink, MarketingLink
from switch.runtime.payments import Payments
from switch.runtime.terminals import TerminalSessions
from switch.runtime.timers import Timers
from switch.security.lmk import load_lmk, load_or_create_lmk
from switch.security.software import SoftwareSecurityModule
from switch.store.journal import PostgresJournal
from switch.store.migrate import pending
from switch.store.terminals import PostgresTerminals


class Worker:
    """One loop with its links, its journal's writer and its kiosks.

    Args:
        dsn: of a running, migrated PostgreSQL; a private server is started by whoever calls us.

    Raises:
        StartError: from the constructor or ``start``, with what to do.
    """

    def __init__(self, config: Config, dsn: str) -> None:
        _assertions_on()
        self._config = config
        self._dsn = dsn
        self._times = config.times
        self._cut_over_minute = _minutes(config.unionpay.profile.cut_over)
        day_close = config.marketing.profile.day_close
        self._day_close_minute = _minutes(day_close) if day_close else None
        self.metrics = Metrics()
        self.observer = Observation(self.metrics, Log(config.observe.log_level))
        self.clock = SystemClock()
        self._dice = SystemDice()
        self._dialers: list[Dialer] = []
        self._closing: list[Callable[[], Awaitable[None]]] = []  # how to undo what was started, oldest first

    async def start(self) -> None:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Undo what was started, newest first; what is open stays in the journal for the next worker."""
        while self._closing:
            await self._closing.pop()()

    @property
    def kiosk_port(self) -> int:
        return self.listener.port

    async def _start(self) -> None:
        config, clock, observer = self._config, self.clock, self.observer
        security = SoftwareSecurityModule(
            self._local_master_key(), Path(config.security.vault_dir), config.environment, clock.wall_us
        )
        _prove(security)
        await self._wait_for_schema()
        self.journal = PostgresJournal(self._dsn, clock=clock, observer=observer)
        await self.journal.start()
        self._closing.append(self._stop_journal)
        terminals = PostgresTerminals(self._dsn, clock=clock, observer=observer)
        await terminals.start()
        self._closing.append(terminals.stop)

        self._build(security, terminals)

        heartbeat = Heartbeat(observer, not_ready=self._not_ready, drained=self._drained)
        health = Health(config.observe, heartbeat, self.metrics.text, version={"epoch": str(self.journal.epoch)})
        health.start()
        self._closing.append(_as_async(health.stop))
        heartbeat.start()
        self._closing.append(_as_async(heartbeat.stop))
        # Payments of the last run first: they must be known before the same kiosks ask again.
        adopted = await self._recover()
        for dialer in self._dialers:
            dialer.start()
            self._closing.append(dialer.stop)
        await self.listener.start()
        self._closing.append(lambda: self.listener.stop("stopping"))
        observer.event(
            "switch.started",
            address=f"{config.listen.host}:{self.listener.port}",
            epoch=self.journal.epoch,
            adopted=adopted,
            time_profile=self._times.name,
            environment=config.environment,
        )

    def _local_master_key(self) -> bytes:
        """Only development may begin with a key of its own making: a lost one must not be replaced in silence."""
        path = Path(self._config.security.lmk_file)
        if self._config.environment == "development":
            return load_or_create_lmk(path)
        try:
            return load_lmk(path)
        except FileNotFoundError:
            raise StartError("lmk", f"{path}: the local master key is missing; restore it from its backup") from None

    def _build(self, security: SecurityModule, terminals: Terminals) -> None:
        """The object graph; nothing of it has started."""
        config, clock, observer, times = self._config, self.clock, self.observer, self._times
        journal = self.journal
        timers = Timers(asyncio.get_running_loop(), clock, observer)
        self._closing.append(_as_async(timers.stop))
        unionpay, marketing = config.unionpay, config.marketing
        card_dialect = UnionPayDialect(bytes.fromhex(unionpay.tpdu), bytes.fromhex(unionpay.header))
        marketing_dialect = MarketingDialect(marketing.channel)
        codes = CardCodes()
        service = (unionpay.service_terminal, unionpay.service_merchant)
        self.card_link = CardLink(unionpay.name, card_dialect, service, times, timers, clock, observer, journal)
        self.marketing_link = MarketingLink(marketing.name, marketing_dialect, times, timers, clock, observer, journal)
        for link, host, port, framing in (
            (self.card_link, unionpay.host, unionpay.port, LEN2),
            (self.marketing_link, marketing.host, marketing.port, LEN4),
        ):
            dialer = Dialer(host, port, framing, link, observer, self._dice, name=link.name)
            link.dialer = dialer
            self._dialers.append(dialer)
        sessions = TerminalSessions(terminals, security, self.card_link, clock, observer, old_key_s=times.card_s)
        profile = HostProfile(
            reversal_00_any=unionpay.profile.reversal_00 == "any",
            not_found_proves=unionpay.profile.reversal_not_found == "proves",
            deduplicates=marketing.profile.dedupe == "serial",
            fence=marketing.profile.fence,
            inquiry=marketing.profile.inquiry,
        )
        self.payments = Payments(
            journal=journal,
            security=security,
            sessions=sessions,
            card_link=self.card_link,
            marketing_link=self.marketing_link,
            card_dialect=card_dialect,
            marketing_dialect=marketing_dialect,
            codes=codes,
            times=times,
            profile=profile,
            mac_algorithm=unionpay.mac,
            unmacced_decline_reverses=unionpay.profile.unmacced_decline == "reverse",
            clock=clock,
            timers=timers,
            observer=observer,
        )
        self.dispatcher = Dispatcher(
            dialect=KioskDialect(codes),
            marketing_dialect=marketing_dialect,
            sessions=sessions,
            payments=self.payments,
            card_link=self.card_link,
            marketing_link=self.marketing_link,
            journal=journal,
            security=security,
            times=times,
            profile=profile,
            mac_algorithm=unionpay.mac,
            cut_over_minute=self._cut_over_minute,
            day_close_minute=self._day_close_minute,
            ids=PaymentIds(clock, journal.epoch),
            clock=clock,
            timers=timers,
            observer=observer,
        )
        self.listener = KioskListener(config.listen, self.dispatcher, observer, clock)

    async def _wait_for_schema(self) -> None:
        """A database that is just starting is waited for; one without our schema is a person's business."""
        ends_at = self.clock.now() + DATABASE_START_WAIT_S
        while True:
            try:
                missing = await pending(self._dsn)
                break
            except UnavailableError as error:
                if self.clock.now() >= ends_at:
                    raise StartError(
                        "database_away",
                        f"PostgreSQL does not answer for {DATABASE_START_WAIT_S:.0f} s: {error.detail}; "
                        "start it, or check database.dsn",
                    ) from error
                await asyncio.sleep(BACKOFF_FIRST_S)
        if missing:
            raise StartError("schema", f"the database lacks {len(missing)} migrations; run: gridswitch migrate")

    async def _recover(self) -> int:
        wall_us = self.clock.wall_us()
        today = days.settlement_day(wall_us, self._cut_over_minute)
        now = self.clock.now()
        to_cut_over = now + days.seconds_to_cut_over(wall_us, self._cut_over_minute)
        close_minute = self._day_close_minute
        day_close_at = days.close_at(now, wall_us, close_minute)
        bill_day = None if close_minute is None else str(days.settlement_day(wall_us, close_minute))
        after, adopted = 0, 0
        while page := await self.journal.load_open(after, RECOVERY_PAGE):
            for stored in page:
                after = stored.payment_id
                same_day = stored.body.get("settlement_day") == today
                try:
                    self.payments.adopt(
                        stored,
                        cut_over_at=to_cut_over if same_day else now,
                        day_close_at=day_close_at if bill_day in (None, stored.body.get("marketing_day")) else now,
                    )
                except Exception as error:
                    # A fault of ours over one payment: it stays open in the journal, and the province pays its bills.
                    self.observer.event(
                        "payment.unadoptable", level="error", payment=stored.payment_id, error=repr(error)
                    )
                else:
                    adopted += 1
        return adopted

    async def _stop_journal(self) -> None:
        await self.journal.stop()

    # -------------------------------------------------------------------------------------------- health and drain
    def _not_ready(self) -> list[str]:
        # The loop's beat is also when slow-moving numbers are published.
        self.observer.gauge("switch_open_payments", self.payments.open_count)
        states = self.payments.states()
        for state in DRIVEN:
            self.observer.gauge("switch_inflight", states[state], (state,))
        self.observer.gauge("switch_journal_pending", self.journal.pending)
        reasons = ["draining"] if self.dispatcher.draining else []
        if not self.journal.accepting:
            reasons.append("the journal cannot commit: PostgreSQL is away or slow")
        links = (self.card_link, self.marketing_link)
        return reasons + [f"link {link.name} is down" for link in links if not link.is_up]

    def _drained(self) -> bool:
        return self.dispatcher.draining and self.payments.open_count == 0

    async def drain(self, hurry: asyncio.Event) -> int:
        """No new payments; those that run are brought to an end. Returns how many are left for the next worker."""
        self.dispatcher.draining = True
        self.observer.event("switch.draining", open=self.payments.open_count, at_most_s=self._times.drain_s)
        ends_at = self.clock.now() + self._times.drain_s
        while self.payments.open_count and self.clock.now() < ends_at and not hurry.is_set():  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK_S)
        left = self.payments.open_count
        self.observer.event("switch.drained", left_open=left)
        return left


async def serve(config: Config, dsn: str) -> None:
    """Run one worker until SIGTERM or SIGINT, drain, stop. A second signal hands over at once."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    worker = Worker(config, dsn)

    def signalled() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    await worker.start()
    try:
        await stop.wait()
        await worker.drain(hurry)
    finally:
        await worker.stop()
        worker.observer.event("switch.stopped", open=worker.payments.open_count)


def _as_async(stop: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def stopped() -> None:
        stop()

    return stopped


def _prove(security: SecurityModule) -> None:
    """Seal something now: a switch that cannot keep card data would refuse every payment, and look healthy."""

    def sealed(result: bytes | SecurityError) -> None:
        if isinstance(result, SecurityError):
            raise StartError("vault", f"security.vault_dir: card data cannot be sealed: {result.detail}")

    security.seal(b"start", b"proof", sealed)


def _minutes(cut_over: str) -> int:
    hours, _, minutes = cut_over.partition(":")
    return int(hours) * 60 + int(minutes)


def _assertions_on() -> None:
    try:
        assert False  # noqa: B011 - asks whether assertions run
    except AssertionError:
        return
    raise StartError("assertions", "assertions are part of the design: run without -O and PYTHONOPTIMIZE")
