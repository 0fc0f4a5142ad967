"""One worker process: adapters, health and signals around one ``Switch``; start and stop in order, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from switch import __version__, contract
from switch.config import Config, MarketingUpgrade, fingerprint, upgrade_of
from switch.errors import BadRequestError, SecurityError, StartError, UnavailableError
from switch.limits import BACKOFF_FIRST_S, DATABASE_START_WAIT_S, DRAIN_LOOK_S, HEARD_PAGE_MAX, TRACE_RING_MAX
from switch.net.certificates import Certificates
from switch.observe.health import Health, Heartbeat
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
from switch.ports import SecurityModule
from switch.runtime.assembly import Switch
from switch.runtime.clock import SystemClock, SystemDice
from switch.runtime.control import Ask, ControlSocket, Handler
from switch.runtime.desk import Desk, PostgresAttempts
from switch.runtime.dumps import forbid_dumps
from switch.runtime.garbage import Garbage
from switch.runtime.instance import InstanceLock
from switch.runtime.shredder import KeyShredder
from switch.runtime.threeway import ThreeWayCheck
from switch.runtime.vitals import Vitals
from switch.security.backends import make_module
from switch.store.batches import PostgresBatches
from switch.store.cardbatches import PostgresCardBatches
from switch.store.cases import PostgresCases
from switch.store.journal import PostgresJournal
from switch.store.kept import PostgresSealedHours
from switch.store.migrate import pending
from switch.store.notices import PostgresNotices
from switch.store.projector import Projector
from switch.store.terminals import PostgresTerminals
from switch.store.threeway import PostgresThreeWay
from switch.store.vitals import PostgresVitals


class Worker:
    """One loop with its links, its journal's writer and its kiosks.

    Args:
        dsn: of a running, migrated PostgreSQL; a private server is started by whoever calls us.

    Raises:
        StartError: from the constructor or ``start``, with what to do.
    """

    def __init__(self, config: Config, dsn: str) -> None:
        _assertions_on()
        self.config = config
        self._dsn = dsn
        self._times = config.times
        self.metrics = Metrics()
        self.observer = Observation(self.metrics, Log(config.observe.log_level))
        self.clock = SystemClock()
        self.lost = asyncio.Event()  # another worker has ended this one: stop it, and start a new one
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
        return self.switch.listener.port

    async def _start(self) -> None:
        config, clock, observer = self.config, self.clock, self.observer
        security = self._security = make_module(config, clock.wall_us)
        await security.start()
        self._closing.append(security.stop)
        _prove(security)
        certificates = self._certificates = Certificates(config, observer, clock.wall_us, dsn=self._dsn)
        await self._wait_for_schema()
        instance = config.worker.instance
        lock = InstanceLock(Path(config.security.vault_dir), instance)
        self._closing.append(_as_async(lock.release))
        self.journal = PostgresJournal(
            self._dsn, clock=clock, observer=observer, times=self._times, instance=instance, proof=lock.proof
        )
        self.journal.on_lost = self.lost.set
        await self.journal.start()
        self._closing.append(self._stop_journal)
        self._started_at = clock.now()
        terminals = self._terminals = PostgresTerminals(self._dsn, clock=clock, observer=observer)
        await terminals.start()
        self._closing.append(terminals.stop)

        projector = Projector(self._dsn, clock=clock, observer=observer)
        await projector.start()
        self._closing.append(projector.stop)
        cases = PostgresCases(self._dsn)
        self._closing.append(cases.stop)
        batches = PostgresBatches(self._dsn, observer)
        self._closing.append(batches.stop)
        notices = PostgresNotices(self._dsn, "script notices")
        self._closing.append(notices.stop)
        card_batches = PostgresCardBatches(self._dsn, "card batches")
        self._closing.append(card_batches.stop)
        self.switch = Switch(
            config,
            journal=self.journal,
            terminals=terminals,
            security=security,
            clock=clock,
            dice=SystemDice(),
            observer=observer,
            cases=cases,
            batches=batches,
            notices=notices,
            card_batches=card_batches,
            certificates=certificates,
        )
        certificates.start()
        self._closing.append(certificates.stop)
        versions = self.switch.versions
        numbers = PostgresVitals(self._dsn, "vitals")
        self._closing.append(numbers.stop)
        self.vitals = Vitals(
            numbers,
            observer,
            folders=(Path(config.security.vault_dir),),
            renewed_in_s=lambda: self.journal.renewed_in_s,
            versions=versions,
        )
        self.vitals.start()
        self._closing.append(self.vitals.stop)
        hours = PostgresSealedHours(self._dsn, "sealed hours")
        self._closing.append(hours.stop)
        shredder = KeyShredder(hours, security.vault, clock, observer)
        shredder.start()
        self._closing.append(shredder.stop)
        heartbeat = Heartbeat(observer, not_ready=self._not_ready, drained=self.switch.drained)
        told = {"epoch": str(self.journal.epoch), "python": platform.python_version(), "config": fingerprint(config)}
        health = Health(
            config.observe,
            heartbeat,
            self.metrics.text,
            version=told | versions,
            unknown=lambda: self.vitals.unknown,
            notes=self._notes,
        )
        health.start()
        self._closing.append(_as_async(health.stop))
        heartbeat.start()
        self._closing.append(_as_async(heartbeat.stop))
        store = PostgresThreeWay(self._dsn, "three-way")
        self._closing.append(store.stop)
        self.threeway = ThreeWayCheck(
            store,
            self.switch.marketing_link,
            self.switch.specs.live,
            self._times,
            observer,
            can_ask=config.marketing.profile.inquiry == "serial",
        )
        self.threeway.start()
        self._closing.append(self.threeway.stop)
        attempts = PostgresAttempts(self._dsn, "stories")
        self._closing.append(attempts.stop)
        self._desk = Desk(
            self._dsn,
            attempts,
            card=lambda: self.switch.card_shown,
            marketing=lambda: self.switch.specs.live.shown,
        )
        control = ControlSocket(Path(config.control.path), self._orders(), observer, changing=contract.CONTROL_CHANGING)
        await control.start()
        self._closing.append(control.stop)
        self._closing.append(self.switch.stop)
        adopted = await self.switch.start()
        garbage = Garbage(clock, observer, lambda: self.switch.payments.open_count)
        self._closing.append(garbage.stop)
        garbage.start()
        observer.event(
            "switch.started",
            address=f"{config.listen.host}:{self.kiosk_port}",
            epoch=self.journal.epoch,
            adopted=adopted,
            time_profile=self._times.name,
            environment=config.environment,
        )

    def _not_ready(self) -> list[str]:
        trouble = self._security.trouble
        self.observer.gauge("switch_security_up", 0 if trouble else 1)
        reasons = self.switch.not_ready() + self.vitals.not_ready() + self._certificates.not_ready()
        if trouble:
            reasons.append(f"the security module cannot be used: {trouble}")
            self._security.random(1, _ignore)  # without kiosks nobody else would find out that it is back
        return reasons

    def _notes(self) -> list[str]:
        return [*self._certificates.notes(), *self.switch.notes()]

    def _orders(self) -> dict[str, Handler]:
        """What the control socket understands."""

        async def status(ask: Ask) -> Any:
            config = self.config
            return {
                "version": __version__,
                "instance": config.worker.instance,
                "pid": os.getpid(),
                "environment": config.environment,
                "up_s": round(self.clock.now() - self._started_at, 1),
                "security": {"back_end": self._security.name, "detail": self._security.detail},
                **self.switch.status(),
                "ready": not (reasons := self._not_ready()),
                "not_ready": reasons,
                "unknown": list(self.vitals.unknown),
                "notes": self._notes(),
                "certificates": self._certificates.status(),
                "versions": {**self.switch.versions, "config": fingerprint(config)},
            }

        async def trace(ask: Ask) -> Any:
            known = self.switch.trace.links
            if ask.link and ask.link not in known:
                raise BadRequestError("control", f"no link {ask.link!r}; known: {', '.join(known)}")
            limit = max(1, min(ask.limit, TRACE_RING_MAX))
            last = self.switch.trace.last(
                link=ask.link, terminal=ask.terminal, after=ask.after, limit=limit, frames=ask.frames
            )
            return [each.to_dict() for each in last]

        async def drain(ask: Ask) -> Any:
            self.switch.dispatcher.draining = ask.on
            return {"draining": ask.on, "open": self.switch.payments.open_count}

        async def service(ask: Ask) -> Any:
            reason = "" if ask.on else ask.reason or "taken out of service by hand"
            terminal = await self._terminals.set_service(ask.terminal, ask.on, reason)
            return {"terminal": terminal.terminal_id, "in_service": terminal.in_service}

        async def check(ask: Ask) -> Any:
            return await self.threeway.check()

        async def heard(ask: Ask) -> Any:
            return self.switch.heard(max(0, ask.after), max(1, min(ask.limit, HEARD_PAGE_MAX)))

        async def certificates(ask: Ask) -> Any:
            return self._certificates.look(reload_all=True)

        async def upgrade(ask: Ask) -> Any:
            marketing = msgspec.structs.replace(
                self.config.marketing, upgrade=MarketingUpgrade(spec=ask.spec, at=ask.at)
            )
            try:
                told = self.switch.use_upgrade(upgrade_of(marketing))
            except ValueError as error:
                raise BadRequestError("control", f"at: {error}") from None
            self.threeway.speak(self.switch.specs.live)
            self.config = msgspec.structs.replace(self.config, marketing=marketing)
            return told

        return {
            **self._desk.orders(),
            "certificates": certificates,
            "check": check,
            "drain": drain,
            "heard": heard,
            "service": service,
            "status": status,
            "trace": trace,
            "upgrade": upgrade,
        }

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

    async def _stop_journal(self) -> None:
        await self.journal.stop()

    # -------------------------------------------------------------------------------------------- health and drain
    async def drain(self, hurry: asyncio.Event) -> int:
        """No new payments; those that run are brought to an end. Returns how many are left for the next worker."""
        self.switch.dispatcher.draining = True
        self.observer.event("switch.draining", open=self.switch.payments.open_count, at_most_s=self._times.drain_s)
        ends_at = self.clock.now() + self._times.drain_s
        while self.switch.payments.open_count and self.clock.now() < ends_at and not hurry.is_set():  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK_S)
        left = self.switch.payments.open_count
        self.observer.event("switch.drained", left_open=left)
        return left


async def serve(config: Config, dsn: str) -> None:
    """Run one worker until SIGTERM or SIGINT, drain, stop. A second signal hands over at once.

    A worker that slept so long that another one ended it starts anew: what it knows is stale.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    forbid_dumps()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    while not stop.is_set():
        worker = Worker(config, dsn)
        await worker.start()
        waits = [asyncio.create_task(event.wait()) for event in (stop, worker.lost)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not worker.lost.is_set():
                await worker.drain(hurry)
        finally:
            for wait in waits:
                wait.cancel()
            await worker.stop()
            config = worker.config  # an upgrade may have come or gone meanwhile
            worker.observer.event("switch.stopped", open=worker.switch.payments.open_count)


def _ignore(outcome: object) -> None:
    """The module keeps how it went."""


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


def _assertions_on() -> None:
    try:
        assert False  # noqa: B011 - asks whether assertions run
    except AssertionError:
        return
    raise StartError("assertions", "assertions are part of the design: run without -O and PYTHONOPTIMIZE")
