"""The object graph of one worker, from its configuration and its ports; nothing here knows what is behind them.

The same graph runs in production on PostgreSQL and sockets, and in the simulation on a virtual clock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from switch.config import Config, MarketingConfig, UnionpayConfig, upgrade_of
from switch.dialects.codes import CardCodes
from switch.dialects.kiosk import KioskDialect
from switch.dialects.marketing_versions import MarketingSpecs, Upgrade
from switch.dialects.unionpay import UnionPayDialect
from switch.errors import UnavailableError
from switch.limits import RECOVERY_PAGE
from switch.machines import days
from switch.machines.door import Door
from switch.machines.payment import HostProfile, Payment
from switch.machines.payment_table import Input
from switch.model.payment import DRIVEN, StoredPayment
from switch.net import tcp
from switch.net.certificates import Certificates
from switch.net.framed import FRAMINGS, LEN2, Framing
from switch.net.listener import LABEL, KioskListener
from switch.net.serial import SerialLine
from switch.net.upstream import Dialer, TransactionDialer
from switch.observe.trace import Shown, Trace
from switch.ports import (
    CardBatches,
    Cases,
    Clock,
    Dice,
    KioskBatches,
    LeasedJournal,
    NoticeStore,
    Observer,
    SecurityModule,
    Terminals,
)
from switch.runtime.balance import Balances
from switch.runtime.batch import Batches
from switch.runtime.calls import called
from switch.runtime.dispatcher import Dispatcher, PaymentIds
from switch.runtime.downloads import Downloads
from switch.runtime.links import CardLink, MarketingLink
from switch.runtime.payments import Payments
from switch.runtime.pressure import Pressure
from switch.runtime.scripts import Scripts
from switch.runtime.settlement import CardSettlement
from switch.runtime.terminals import TerminalSessions
from switch.runtime.timers import Timers


class Switch:
    """One worker: kiosks, payments and both links. Build it on the loop that it shall run on.

    Args:
        journal, terminals: started already.
        bind: gives the kiosks' listening socket (``net.tcp.bind``).
        machine: the payment's machine.
        cases: what people decide; None: nobody does.
        batches: settlements of kiosks; None: none settles.
        notices: keeps what chips did with scripts; None: no such word of a chip is taken.
        card_batches: those with the card network, if the configuration has a time for them; None: never.
        certificates: for whatever speaks TLS by the configuration; None: nothing does.
    """

    def __init__(
        self,
        config: Config,
        *,
        journal: LeasedJournal,
        terminals: Terminals,
        security: SecurityModule,
        clock: Clock,
        dice: Dice,
        observer: Observer,
        bind: Callable[..., Any] = tcp.bind,
        machine: type[Payment] = Payment,
        cases: Cases | None = None,
        batches: KioskBatches | None = None,
        notices: NoticeStore | None = None,
        card_batches: CardBatches | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        assert certificates is not None or not any(
            each.tls.enabled for each in (config.listen, config.unionpay, config.marketing)
        )
        self._clock = clock
        self._observer = observer
        self._journal = journal
        self._times = config.times
        self._cases = cases
        self._heir: asyncio.Task[None] | None = None
        self._cut_over_minute = _minutes(config.unionpay.profile.cut_over)
        day_close = config.marketing.profile.day_close
        self._day_close_minute = _minutes(day_close) if day_close else None
        times = config.times
        self._timers = timers = Timers(asyncio.get_running_loop(), clock, observer)
        unionpay, marketing = config.unionpay, config.marketing
        card_dialect = UnionPayDialect(bytes.fromhex(unionpay.tpdu), bytes.fromhex(unionpay.header))
        self.specs = MarketingSpecs(marketing.spec, marketing.channel, clock.wall_us, upgrade_of(marketing))
        marketing_dialect = self.specs.live
        codes = CardCodes()
        self.versions = {"unionpay_codes": codes.version, "marketing": marketing_dialect.version}
        service = (unionpay.service_terminal, unionpay.service_merchant)
        self.card_link = CardLink(unionpay.name, card_dialect, service, times, timers, clock, observer, journal)
        self.marketing_link = MarketingLink(marketing.name, marketing_dialect, times, timers, clock, observer, journal)
        kiosk_dialect = KioskDialect(codes)
        self.card_shown = card_dialect.shown
        shown: dict[str, Shown] = {
            LABEL: kiosk_dialect.shown,
            unionpay.name: card_dialect.shown,
            marketing.name: marketing_dialect.shown,
        }
        self.trace = Trace(shown, clock.wall_us, whole=frozenset({marketing.name}))
        self._dialers: list[Dialer | TransactionDialer] = []
        peers: tuple[tuple[CardLink | MarketingLink, UnionpayConfig | MarketingConfig, Framing], ...] = (
            (self.card_link, unionpay, LEN2),
            (self.marketing_link, marketing, FRAMINGS[self.specs.framing]),
        )
        for link, peer, framing in peers:
            per_transaction = isinstance(peer, UnionpayConfig) and peer.connection == "per_transaction"
            dials = partial(TransactionDialer, answer_s=times.card_s) if per_transaction else Dialer
            dialer = dials(
                peer.host,
                peer.port,
                framing,
                link,
                observer,
                dice,
                name=link.name,
                may_write=lambda: journal.may_send,
                tap=self.trace.tap(link.name),
                tls=certificates.upstreams.get(link.name) if certificates is not None else None,
                server_name=peer.tls.server_name,
            )
            link.dialer = dialer
            self._dialers.append(dialer)
        self._sessions = sessions = TerminalSessions(
            terminals,
            security,
            self.card_link,
            clock,
            timers,
            observer,
            old_key_s=times.card_s,
            sign_on_code=unionpay.sign_on,
            mac_algorithm=unionpay.mac,
            echo_has_mac=unionpay.echo_mac == "checked",
            translate_refused=translate_refused(config.environment, security),
        )
        profile = HostProfile(
            reversal_00_any=unionpay.profile.reversal_00 == "any",
            not_found_proves=unionpay.profile.reversal_not_found == "proves",
            deduplicates=marketing.profile.dedupe == "serial",
            fence=marketing.profile.fence,
            inquiry=marketing.profile.inquiry,
            emv_completion=unionpay.profile.emv_completion,
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
            unmacced_decline_reverses=unionpay.profile.unmacced_decline == "reverse",
            refund_days=config.security.refund_days,
            test_account=marketing.test_account,
            clock=clock,
            timers=timers,
            observer=observer,
            machine=machine,
        )
        balances = Balances(
            link=self.card_link,
            dialect=card_dialect,
            codes=codes,
            sessions=sessions,
            security=security,
            clock=clock,
            observer=observer,
        )
        downloads = Downloads(
            link=self.card_link, dialect=card_dialect, codes=codes, sessions=sessions, times=times, observer=observer
        )
        self.scripts = Scripts(
            notices,
            link=self.card_link,
            dialect=card_dialect,
            codes=codes,
            sessions=sessions,
            security=security,
            times=times,
            observer=observer,
        )
        self._settlement: CardSettlement | None = None
        self._settler: asyncio.Task[None] | None = None
        if card_batches is not None and unionpay.settle_at:
            self._settlement = CardSettlement(
                store=card_batches,
                terminals=terminals,
                sessions=sessions,
                link=self.card_link,
                dialect=card_dialect,
                codes=codes,
                payments=self.payments,
                journal=journal,
                settle_minute=_minutes(unionpay.settle_at),
                spread_s=unionpay.settle_spread_s,
                clock=clock,
                observer=observer,
            )
        self.pressure = Pressure(asyncio.get_running_loop(), clock, observer, journal)
        self.dispatcher = Dispatcher(
            dialect=kiosk_dialect,
            marketing_dialect=marketing_dialect,
            door=Door(config.listen.limits),
            sessions=sessions,
            payments=self.payments,
            balances=balances,
            batches=None if batches is None else Batches(batches, clock, observer),
            downloads=downloads,
            scripts=self.scripts,
            settlement=self._settlement,
            card_link=self.card_link,
            marketing_link=self.marketing_link,
            journal=journal,
            pressure=self.pressure,
            security=security,
            times=times,
            profile=profile,
            cut_over_minute=self._cut_over_minute,
            day_close_minute=self._day_close_minute,
            reversal_first_s=unionpay.profile.reversal_first_s,
            prepay_max_fen=marketing.prepay_max_fen,
            prepay_while_owing=marketing.prepay_while_owing,
            test_account=marketing.test_account,
            ids=PaymentIds(clock, journal.epoch),
            clock=clock,
            timers=timers,
            observer=observer,
        )
        self.listener = KioskListener(
            config.listen,
            self.dispatcher,
            observer,
            clock,
            reuse_port=config.worker.count > 1,
            bind=bind,
            tap=self.trace.tap(LABEL),
            loud=self.dispatcher.loud,
            tls=certificates.listen if certificates is not None else None,
        )
        self.lines = [
            SerialLine(line, self.dispatcher, observer, clock, dice, tap=self.trace.tap(LABEL))
            for line in config.serial
        ]

    def use_upgrade(self, upgrade: Upgrade | None) -> dict[str, str]:
        """From now on with this upgrade of the marketing system's spec, or with none; returns what is spoken.

        Raises:
            ConfigError: The spec cannot be read, or cannot follow; then nothing has changed.
        """
        dialect = self.specs.schedule(upgrade)
        for user in (self.marketing_link, self.payments, self.dispatcher):
            user.speak(dialect)
        told = self.specs.status()
        self._observer.event("specs.changed", link=self.marketing_link.name, **told)
        return told

    async def start(self) -> int:
        """Recover, dial, listen. Returns how many payments were taken over."""
        adopted = await self.recover()
        for dialer in self._dialers:
            dialer.start()
        await self.listener.start()
        for line in self.lines:
            line.start()
        self.pressure.start()
        self.scripts.start()
        self._heir = asyncio.create_task(self._take_over_forever(), name="take over")
        if self._settlement is not None:
            self._settler = asyncio.create_task(self._settlement.run_forever(), name="settlement")
        return adopted

    async def stop(self) -> None:
        """Newest first; what is open stays in the journal for the next worker."""
        for task in (self._settler, self._heir):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await asyncio.gather(self.listener.stop("stopping"), *(line.stop("stopping") for line in self.lines))
        self.pressure.stop()
        await self.scripts.stop()
        for dialer in reversed(self._dialers):
            await dialer.stop()
        self._timers.stop()

    async def recover(self) -> int:
        """Payments that workers which are gone have left open. Returns how many.

        Raises:
            UnavailableError: The database is away; asking again takes the rest.
        """
        adopted = 0
        taken: set[int] = set()
        while page := await self._journal.take_over(RECOVERY_PAGE):
            for stored in page:
                if stored.payment_id in taken:
                    # Ours is ours: given twice, pages would never end, and this process would do nothing else.
                    raise RuntimeError(f"payment {stored.payment_id} was handed over twice")
                taken.add(stored.payment_id)
                adopted += self._adopt(stored)
        return adopted

    def _adopt(self, stored: StoredPayment) -> bool:
        wall_us, now = self._clock.wall_us(), self._clock.now()
        today = days.settlement_day(wall_us, self._cut_over_minute)
        to_cut_over = now + days.seconds_to_cut_over(wall_us, self._cut_over_minute)
        same_day = stored.body.get("settlement_day") == today
        close_minute = self._day_close_minute
        bill_day = None if close_minute is None else str(days.settlement_day(wall_us, close_minute))
        same_bill_day = bill_day in (None, stored.body.get("marketing_day"))
        try:
            self.payments.adopt(
                stored,
                cut_over_at=to_cut_over if same_day else now,
                day_close_at=days.close_at(now, wall_us, close_minute) if same_bill_day else now,
            )
        except Exception as error:
            # A fault of ours over one payment: it stays open in the journal, and the province pays its bills.
            self._observer.event("payment.unadoptable", level="error", payment=stored.payment_id, error=repr(error))
            return False
        return True

    async def _take_over_forever(self) -> None:
        """What other workers leave behind; and the rest of our own start, if the database went away in the middle."""
        while True:
            await asyncio.sleep(self._times.lease_heartbeat_s)
            try:
                adopted = await self.recover()
                if adopted:
                    self._observer.event("payments.taken_over", payments=adopted, epoch=self._journal.epoch)
                await self._carry_out_verdicts()
            except UnavailableError:
                pass  # the journal says it, and the next look takes them
            except Exception as error:
                # A fault of ours: said, and tried again. Without this task nobody would take anything over.
                self._observer.event("payments.not_taken_over", level="error", error=repr(error))

    async def _carry_out_verdicts(self) -> None:
        """What two people decided about payments of ours."""
        if self._cases is None:
            return
        for verdict in await self._cases.verdicts(self._journal.epoch):
            given = SETTLED[verdict.decision]
            try:
                async with asyncio.timeout(self._times.lease_ttl_s):
                    outcome = await called(self.payments.settle, verdict.payment_id, given, verdict.facts)
            except TimeoutError:
                continue  # the commit takes long; the next look finds it done
            if outcome:
                self._observer.event("case.settled", payment=verdict.payment_id, outcome=outcome, **verdict.facts)
                await self._cases.settle(verdict, outcome)

    # -------------------------------------------------------------------------------------------- health
    def not_ready(self) -> list[str]:
        """Reasons why kiosks should go elsewhere; empty means ready."""
        # The loop's beat is also when slow-moving numbers are published.
        self._observer.gauge("switch_open_payments", self.payments.open_count)
        states = self.payments.states()
        for state in DRIVEN:
            self._observer.gauge("switch_inflight", states[state], (state,))
        self._observer.gauge("switch_journal_pending", self._journal.pending)
        lanes, now = self.payments.lanes, self._clock.now()
        oldest = lanes.oldest_of_all()
        self._observer.gauge("switch_saf_depth", lanes.depth, ("reversal",))
        self._observer.gauge("switch_saf_oldest_seconds", 0.0 if oldest is None else now - oldest, ("reversal",))
        reasons = ["draining"] if self.dispatcher.draining else []
        if not self._journal.may_send:
            reasons.append("the lease is not held: PostgreSQL does not renew it")
        elif not self._journal.accepting:
            reasons.append("the journal cannot commit: PostgreSQL is away or slow")
        links = (self.card_link, self.marketing_link)
        reasons += [f"link {link.name} is down" for link in links if not link.is_up]
        return reasons + [f"{link.name} does not answer its work" for link in links if link.breaker.is_open]

    def notes(self) -> list[str]:
        """What somebody should look at, though kiosks elsewhere are served: a line without its port is one of many."""
        return [note for line in self.lines if (note := line.note())]

    def status(self) -> dict[str, Any]:
        """What is true now, for people and for the admin service; nothing in it is secret."""
        journal, payments, now = self._journal, self.payments, self._clock.now()
        oldest = payments.lanes.oldest_of_all()
        reasons = self.not_ready()
        return {
            "epoch": journal.epoch,
            "time_profile": self._times.name,
            "ready": not reasons,
            "not_ready": reasons,
            "draining": self.dispatcher.draining,
            "overloaded": self.pressure.overloaded,
            "lease_held": journal.may_send,
            "journal": {"accepting": journal.accepting, "pending": journal.pending},
            "links": {
                link.name: {
                    "up": link.is_up,
                    "breaker_open": link.breaker.is_open,
                    "echo_rtt_ms": round(1000 * link.echo_rtt_s, 2),
                }
                for link in (self.card_link, self.marketing_link)
            },
            "kiosks": {
                "connections": self.listener.wires,
                "port": self.listener.port,
                "stopped": self.dispatcher.stopped_terminals,
            },
            "serial": {line.name: line.status() for line in self.lines},
            "specs": self.specs.status(),
            "payments": {"open": payments.open_count, "states": dict(payments.states())},
            "reversals": {
                "waiting": payments.lanes.depth,
                "oldest_s": 0.0 if oldest is None else round(now - oldest, 1),
            },
        }

    def heard(self, after: int, limit: int) -> dict[str, Any]:
        """When this worker last heard of the terminals that it has served: rows of ``contract.HEARD_COLUMNS``.

        A page at a time, because the loop that answers also pays; ``next`` is what to ask for after it, 0 at the end.
        """
        now = self._clock.now()
        page = self._sessions.known(after, limit)
        rows = [
            (
                each.terminal.terminal_id,
                round(now - each.heard_at, 1) if each.heard_at else None,
                round(now - each.echo_at, 1) if each.echo_at else None,
                each.is_signed_on,
                self.dispatcher.has_line(each.terminal.terminal_id),
            )
            for each in page
        ]
        return {"rows": rows, "next": after + len(page) if len(page) == limit else 0}

    def drained(self) -> bool:
        return self.dispatcher.draining and self.payments.open_count == 0


# What people say, as the machine hears it.
SETTLED: Final = {
    "paid": Input.SETTLED_PAID,
    "nothing": Input.SETTLED_NOTHING,
    "refunded": Input.SETTLED_REFUNDED,
    "charged": Input.SETTLED_CHARGED,
}


def translate_refused(environment: str, security: SecurityModule) -> str:
    """Why key mode translate is not for this installation; empty: it is."""
    if environment == "production" and not security.translates_inside:
        return (
            f"key mode translate: the security module {security.name} has clear PINs outside for a moment; production "
            "needs one that translates inside"
        )
    return ""


def _minutes(time_of_day: str) -> int:
    hours, _, minutes = time_of_day.partition(":")
    return int(hours) * 60 + int(minutes)
