"""One worker: build the object graph from the configuration, start and stop it in order, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from switch.config import Config
from switch.dialects.codes import CardCodes
from switch.dialects.kiosk import KioskDialect
from switch.dialects.marketing import MarketingDialect
from switch.dialects.unionpay import UnionPayDialect
from switch.errors import StartError, UnavailableError
from switch.limits import BACKOFF_FIRST_S, DATABASE_START_WAIT_S, RECOVERY_PAGE
from switch.machines import days
from switch.machines.payment import HostProfile
from switch.net.framed import LEN2, LEN4
from switch.net.listener import KioskListener
from switch.net.upstream import Dialer
from switch.observe.health import Health, Heartbeat
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
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


class Supervisor:
    """Args: dsn: of a running, migrated PostgreSQL; the embedded one is started by whoever calls us."""

    def __init__(self, config: Config, dsn: str) -> None:
        _assertions_on()
        _check_profiles(config)
        self._config = config
        self._dsn = dsn
        self._metrics = Metrics()
        self._observer = Observation(self._metrics, Log(config.observe.log_level))
        self._clock = SystemClock()
        self._dice = SystemDice()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """From start to the end of the drain. Raises StartError with what to do when it cannot start."""
        config, clock, observer = self._config, self._clock, self._observer
        times = config.times
        loop = asyncio.get_running_loop()
        timers = Timers(loop, clock, observer)
        # Only development may begin with a key of its own making: a lost LMK must not be replaced in silence.
        read_lmk = load_or_create_lmk if config.environment == "development" else load_lmk
        security = SoftwareSecurityModule(
            read_lmk(Path(config.security.lmk_file)),
            Path(config.security.vault_dir),
            config.environment,
            clock.wall_us,
        )
        await self._wait_for_schema()
        journal = PostgresJournal(self._dsn, clock=clock, observer=observer)
        terminals = PostgresTerminals(self._dsn, clock=clock, observer=observer)
        await journal.start()
        try:
            await terminals.start()
            card_dialect = UnionPayDialect(bytes.fromhex(config.unionpay.tpdu), bytes.fromhex(config.unionpay.header))
            marketing_dialect = MarketingDialect(config.marketing.channel)
            codes = CardCodes()
            card_link = CardLink(
                config.unionpay.name,
                card_dialect,
                (config.unionpay.service_terminal, config.unionpay.service_merchant),
                times,
                timers,
                clock,
                observer,
                journal,
            )
            marketing_link = MarketingLink(
                config.marketing.name, marketing_dialect, times, timers, clock, observer, journal
            )
            sessions = TerminalSessions(terminals, security, card_link, clock, observer, old_key_s=times.card_s)
            profile = HostProfile(
                reversal_00_any=config.unionpay.profile.reversal_00 == "any",
                not_found_proves=config.unionpay.profile.reversal_not_found == "proves",
                deduplicates=config.marketing.profile.dedupe == "serial",
            )
            payments = Payments(
                journal=journal,
                security=security,
                sessions=sessions,
                card_link=card_link,
                marketing_link=marketing_link,
                card_dialect=card_dialect,
                marketing_dialect=marketing_dialect,
                codes=codes,
                times=times,
                profile=profile,
                mac_algorithm=config.unionpay.mac,
                unmacced_decline_reverses=config.unionpay.profile.unmacced_decline == "reverse",
                clock=clock,
                timers=timers,
                observer=observer,
            )
            cut_over_minute = _minutes(config.unionpay.profile.cut_over)
            dispatcher = Dispatcher(
                dialect=KioskDialect(codes),
                marketing_dialect=marketing_dialect,
                sessions=sessions,
                payments=payments,
                card_link=card_link,
                marketing_link=marketing_link,
                journal=journal,
                security=security,
                times=times,
                profile=profile,
                mac_algorithm=config.unionpay.mac,
                cut_over_minute=cut_over_minute,
                ids=PaymentIds(clock, journal.epoch),
                clock=clock,
                timers=timers,
                observer=observer,
            )

            def not_ready() -> list[str]:
                # The loop's beat is also when slow-moving numbers are published.
                observer.gauge("switch_open_payments", payments.open_count)
                observer.gauge("switch_journal_pending", journal.pending)
                reasons = []
                if dispatcher.draining:
                    reasons.append("draining")
                if not journal.accepting:
                    reasons.append("the journal cannot commit: PostgreSQL is away or slow")
                reasons += [f"link {link.name} is down" for link in (card_link, marketing_link) if not link.is_up]
                return reasons

            heartbeat = Heartbeat(
                observer,
                not_ready=not_ready,
                drained=lambda: dispatcher.draining and payments.driven_count == 0,
            )
            health = Health(config.observe, heartbeat, self._metrics.text, version={"epoch": str(journal.epoch)})
            dialers = [
                Dialer(
                    config.unionpay.host,
                    config.unionpay.port,
                    LEN2,
                    card_link,
                    observer,
                    self._dice,
                    name=card_link.name,
                ),
                Dialer(
                    config.marketing.host,
                    config.marketing.port,
                    LEN4,
                    marketing_link,
                    observer,
                    self._dice,
                    name=marketing_link.name,
                ),
            ]
            card_link.dialer, marketing_link.dialer = dialers
            listener = KioskListener(config.listen, dispatcher, observer, clock)

            health.start()
            heartbeat.start()
            try:
                # Payments of the last run first: their claims must be driven before the same kiosks ask again.
                adopted = await self._recover(journal, payments, cut_over_minute)
                for dialer in dialers:
                    dialer.start()
                await listener.start()
                observer.event(
                    "switch.started",
                    address=f"{config.listen.host}:{listener.port}",
                    epoch=journal.epoch,
                    adopted=adopted,
                    time_profile=times.name,
                    environment=config.environment,
                )
                self._on_signals(loop)
                await self._stop.wait()
                await self._drain(dispatcher, payments, times.drain_s)
            finally:
                await listener.stop("stopping")
                for dialer in dialers:
                    await dialer.stop()
                heartbeat.stop()
                health.stop()
                timers.stop()
                observer.event("switch.stopped", open=payments.open_count)
        finally:
            await terminals.stop()
            await journal.stop()

    async def _wait_for_schema(self) -> None:
        """A database that is just starting is waited for; one without our schema is a person's business."""
        ends_at = self._clock.now() + DATABASE_START_WAIT_S
        while True:
            try:
                missing = await pending(self._dsn)
                break
            except UnavailableError as error:
                if self._clock.now() >= ends_at:
                    raise StartError(
                        "database_away",
                        f"PostgreSQL does not answer for {DATABASE_START_WAIT_S:.0f} s: {error.detail}; "
                        "start it, or check database.dsn",
                    ) from error
                await asyncio.sleep(BACKOFF_FIRST_S)
        if missing:
            raise StartError("schema", f"the database lacks {len(missing)} migrations; run: gridswitch migrate")

    async def _recover(self, journal: PostgresJournal, payments: Payments, cut_over_minute: int) -> int:
        wall_us = self._clock.wall_us()
        today = days.settlement_day(wall_us, cut_over_minute)
        to_cut_over = self._clock.now() + days.seconds_to_cut_over(wall_us, cut_over_minute)
        after, adopted = 0, 0
        while page := await journal.load_open(after, RECOVERY_PAGE):
            for stored in page:
                after = stored.payment_id
                adopted += 1
                same_day = stored.body.get("settlement_day") == today
                payments.adopt(stored, cut_over_at=to_cut_over if same_day else self._clock.now())
        return adopted

    def _on_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        def stop() -> None:
            if self._stop.is_set():
                self._hurry.set()
            self._stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)

    async def _drain(self, dispatcher: Dispatcher, payments: Payments, drain_s: float) -> None:
        """No new payments; those that run are brought to an end. A second signal hands over at once."""
        dispatcher.draining = True
        self._observer.event("switch.draining", open=payments.open_count, at_most_s=drain_s)
        ends_at = self._clock.now() + drain_s
        while payments.driven_count and self._clock.now() < ends_at and not self._hurry.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        self._observer.event("switch.drained", left_open=payments.driven_count)


def _minutes(cut_over: str) -> int:
    hours, _, minutes = cut_over.partition(":")
    return int(hours) * 60 + int(minutes)


def _assertions_on() -> None:
    try:
        assert False  # noqa: B011 - asks whether assertions run
    except AssertionError:
        return
    raise StartError("assertions", "assertions are part of the design: run without -O and PYTHONOPTIMIZE")


def _check_profiles(config: Config) -> None:
    """What the saga of this version can drive; anything else must not take money."""
    profile = config.marketing.profile
    if (profile.fence, profile.inquiry) != ("tombstone", "serial"):
        raise StartError(
            "profile",
            f'marketing.profile: fence = "{profile.fence}", inquiry = "{profile.inquiry}": this version drives '
            'fence = "tombstone" with inquiry = "serial" only',
        )
