"""The agent: beats, sends what the spool holds, does what it is told, renews its certificate. It never gives up.

    async with asyncio.TaskGroup() as group:
        agent = Agent(credentials, wire, spool, units, hands)
        group.create_task(agent.run())
        agent.event("printer.jam", unit="ptr", severity="fault")      # durable when it returns
        agent.session(…); agent.count("sessions")

Three loops share one connection: beats in the service's rhythm, or at once when a unit changes; the spool, oldest
first; commands, one after the other. Each failure is waited out with full jitter, from 1 to 300 s, so that a service
that comes back does not meet its whole fleet in one second.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from switch.errors import UnavailableError
from switch.kiosk.agent import limits, orders
from switch.kiosk.agent.identity import Identity
from switch.kiosk.agent.orders import Command
from switch.kiosk.agent.ports import Clock, Done, Hands, SystemClock, Units
from switch.kiosk.agent.spool import STREAMS, Batch, Spool
from switch.kiosk.agent.wire import Reply, Wire

VERSION: Final = "1.0"
# Said from the first beat on, also when they are 0: the service counts growth.
COUNTERS: Final = ("sessions", "txn_ok", "txn_bad", "slips", "jams", "restarts")
_log = logging.getLogger("switch.kiosk.agent")


@dataclass(frozen=True)
class Credentials:
    """As whom it speaks, and whose commands it obeys. ``identity`` None: a simulated agent, which renews nothing."""

    kiosk: str
    command_key: bytes
    identity: Identity | None = None


@dataclass
class Numbers:
    """What happened since the start, for status and tests."""

    beats: int = 0
    beats_failed: int = 0
    sent: int = 0
    orders_done: int = 0
    orders_refused: int = 0
    refused: str = ""  # why the service refuses us altogether


class BackOff:
    """Full jitter: a random wait below a bound that doubles with each failure in a row."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._bound = limits.BACK_OFF_S

    def wait_s(self, after_s: float = 0.0) -> float:
        wait_s = self._dice.uniform(0, self._bound)
        self._bound = min(self._bound * 2, limits.BACK_OFF_MAX_S)
        return max(wait_s, after_s)

    def clear(self) -> None:
        self._bound = limits.BACK_OFF_S


class Agent:
    """See the module's text.

    Args:
        app: Version of the kiosk's program.
        took: Told the seconds that each answered beat took; for measurements.
    """

    def __init__(
        self,
        credentials: Credentials,
        wire: Wire,
        spool: Spool,
        units: Units,
        hands: Hands,
        *,
        app: str = "",
        clock: Clock | None = None,
        dice: random.Random | None = None,
        took: Callable[[float], None] | None = None,
    ) -> None:
        self.numbers = Numbers()
        self._credentials = credentials
        self._wire = wire
        self._spool = spool
        self._units = units
        self._hands = hands
        self._app = app
        self._clock = clock or SystemClock()
        self._dice = dice or random.Random()  # noqa: S311 - jitter
        self._took = took or (lambda _: None)
        self._seq = 0
        self._most = limits.BATCH_MAX  # fewer while one that cannot be read is looked for
        self._rtt_ms: int | None = None
        self._next_s = limits.BEAT_S
        self._server_ahead: datetime.timedelta | None = None  # of our clock, by the last answer
        self._changed = asyncio.Event()
        self._more = asyncio.Event()
        self._waiting: deque[Command] = deque()
        self._ordered = asyncio.Event()
        self._started = self._clock.monotonic()
        spool.begin()
        units.watch(self._changed.set)

    # ------------------------------------------------------------------------------------------------ said by the kiosk
    def event(
        self,
        kind: str,
        *,
        unit: str = "",
        severity: str = "info",
        detail: Mapping[str, str | int | bool | None] | None = None,
    ) -> None:
        """Keep an event until the service has it. Raises UnavailableError ``spool``: it could not be kept."""
        self._put("events", {"type": kind, "unit": unit, "severity": severity, "detail": dict(detail or {})})

    def session(self, *, seconds: int, outcome: str, business: str = "", last_step: str = "") -> None:
        """Keep what one customer did; never who it was."""
        said = {"seconds": seconds, "outcome": outcome, "business": business, "last_step": last_step}
        self._put("sessions", said)
        self._spool.grow("sessions")

    def count(self, counter: str, by: int = 1) -> None:
        """``sessions``, ``txn_ok``, ``txn_bad``, ``slips``, ``jams``, ``restarts``: they only grow."""
        self._spool.grow(counter, by)

    def _put(self, stream: str, said: dict[str, Any]) -> None:
        self._spool.put(stream, msgspec.json.encode({"ts": self._now_text(), **said}))
        self._more.set()

    # ------------------------------------------------------------------------------------------------ life
    async def run(self) -> None:
        """Until it is cancelled."""
        self._end_interrupted()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat_on(), name="beats")
                group.create_task(self._send_on(), name="spool")
                group.create_task(self._obey_on(), name="orders")
                if self._credentials.identity is not None:
                    group.create_task(self._renew_on(self._credentials.identity), name="renewal")
        finally:
            await self._wire.close()

    def server_now(self) -> datetime.datetime | None:
        """The service's clock; None: it has not answered yet."""
        return None if self._server_ahead is None else self._clock.wall() + self._server_ahead

    # ------------------------------------------------------------------------------------------------ beats
    async def _beat_on(self) -> None:
        back_off = BackOff(self._dice)
        # A hall whose power comes back must not beat in one second.
        await asyncio.sleep(self._dice.uniform(0, 1))
        while True:
            self._changed.clear()
            try:
                reply = await self._beat()
            except UnavailableError as error:
                self.numbers.beats_failed += 1
                _log.info("beat_failed: %s", error)
                await asyncio.sleep(back_off.wait_s())
                continue
            if reply.status == 200:
                back_off.clear()
                await self._until_next()
                continue
            self.numbers.beats_failed += 1
            self.numbers.refused = "" if reply.retry else str(reply.body.get("code", reply.status))
            _log.warning("beat_refused: %s %s", reply.status, reply.body)
            await asyncio.sleep(back_off.wait_s(reply.after_s) if reply.retry else limits.REFUSED_S)

    async def _until_next(self) -> None:
        """The service's time, or as soon as a unit changes."""
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._next_s):
                await self._changed.wait()
        except TimeoutError:
            return
        gap_s = min(limits.CHANGE_GAP_S, self._next_s) - (self._clock.monotonic() - started)
        await asyncio.sleep(max(0.0, gap_s))

    async def _beat(self) -> Reply:
        self._seq += 1
        began = self._clock.monotonic()
        reply = await self._wire.call("POST", "beat", self._said())
        took_s = self._clock.monotonic() - began
        self._learn_time(reply)
        if reply.status == 200:
            self._rtt_ms = round(took_s * 1000)
            self._took(took_s)
            self.numbers.beats += 1
            self.numbers.refused = ""
            next_s = reply.body.get("next_s", limits.BEAT_S)
            if isinstance(next_s, int | float):
                self._next_s = min(max(float(next_s), limits.BEAT_MIN_S), limits.BEAT_MAX_S)
            self._acknowledged(reply.body)
        if reply.status in (200, 403):  # a retired kiosk is refused, and told to wipe itself
            commands = reply.body.get("commands", [])
            for raw in commands if isinstance(commands, list) else []:
                await self._take(raw)
        return reply

    def _said(self) -> dict[str, Any]:
        resources = dict(self._units.resources())
        if self._rtt_ms is not None:
            resources["rtt_ms"] = self._rtt_ms
        return {
            "v": 1,
            "boot_id": self._spool.boot_id,
            "seq": self._seq,
            "ts": self._now_text(),
            "up_s": int(self._clock.monotonic() - self._started),
            "app": self._app,
            "agent": VERSION,
            "mode": self._units.mode(),
            "busy": self._units.busy(),
            "switch": self._units.switch(),
            "dev": self._units.states(),
            "cnt": {**dict.fromkeys(COUNTERS, 0), **self._spool.counters()},
            "res": resources,
            "backlog": self._spool.waiting(),
        }

    def _learn_time(self, reply: Reply) -> None:
        text = reply.body.get("server_time")
        if isinstance(text, str):
            try:
                told = msgspec.convert(text, datetime.datetime)
                self._server_ahead = told - self._clock.wall()
            except (msgspec.ValidationError, TypeError):
                _log.warning("server_time_unreadable: %r", text)

    def _acknowledged(self, body: dict[str, Any]) -> None:
        """An ack whose answer was lost comes with the next beat."""
        for stream in STREAMS:
            ack = body.get(f"{stream}_ack")
            if isinstance(ack, int) and ack > 0:
                self._spool.forget(stream, self._spool.boot_id, ack)

    def _now_text(self) -> str:
        return self._clock.wall().isoformat(timespec="milliseconds")

    # ------------------------------------------------------------------------------------------------ spool
    async def _send_on(self) -> None:
        back_off = BackOff(self._dice)
        while True:
            self._more.clear()
            try:
                pending = self._pending(self._most)
                if pending is None:
                    self._most = limits.BATCH_MAX
                    await self._more.wait()
                    continue
                wait_s = await self._send(*pending, back_off)
            except UnavailableError as error:  # the line, or the disk
                _log.info("batch_failed: %s", error)
                wait_s = back_off.wait_s()
            await asyncio.sleep(wait_s)

    async def _send(self, stream: str, batch: Batch, back_off: BackOff) -> float:
        """One batch; how long to wait before the next."""
        items = [{"seq": seq, **msgspec.json.decode(body)} for seq, body in batch.items]
        body = {"boot_id": batch.boot_id, "first": batch.first, "items": items}
        reply = await self._wire.call("POST", stream, body)
        ack = reply.body.get("ack")
        if reply.status == 200 and isinstance(ack, int):
            self._spool.forget(stream, batch.boot_id, ack)
            self.numbers.sent += len(items)
            if ack >= batch.first or not items:
                back_off.clear()
                return 0.0
            return back_off.wait_s()  # no step forward: not in a circle without a pause
        if reply.status in (413, 422):
            # One of them the service can never read: it must not hold back the others.
            if len(items) > 1:
                self._most = len(items) // 2
            else:
                _log.error("item_refused: %s %s: dropped: %s", stream, batch.first, reply.body)
                self._spool.forget(stream, batch.boot_id, batch.first)
                self._most = limits.BATCH_MAX
            return 0.0
        _log.warning("batch_refused: %s %s", reply.status, reply.body)
        return back_off.wait_s(reply.after_s) if reply.retry else limits.REFUSED_S

    def _pending(self, most: int) -> tuple[str, Batch] | None:
        for stream in STREAMS:
            batch = self._spool.oldest(stream, most)
            if batch is not None:
                return stream, batch
        return None

    # ------------------------------------------------------------------------------------------------ commands
    def _end_interrupted(self) -> None:
        """What was running when the last life ended."""
        for order in self._spool.orders_untold():
            if order.state == "running":
                if order.kind in orders.ENDS:
                    self._spool.end_order(order.id, "done", {"restarted": True})
                else:
                    self._spool.end_order(order.id, "failed", {"code": "interrupted"})
        self._ordered.set()

    async def _take(self, raw: object) -> None:
        """Remember a command and put it into the queue; a wrong one is refused, and never done by coming again."""
        command = orders.read(raw)
        now = self.server_now()
        if command is None or now is None:
            self.numbers.orders_refused += 1
            _log.warning("order_refused: no command")
            return
        wrong = orders.judge(command, self._credentials.kiosk, self._credentials.command_key, now)
        if wrong is not None and not wrong.tell:
            self.numbers.orders_refused += 1
            _log.warning("order_refused: %s: %s", command.id, wrong.code)
            return
        if wrong is None and len(self._waiting) >= limits.ORDERS_WAITING_MAX:
            return  # it is told again
        if not self._spool.take_order(command.id, command.type, self._clock.wall().timestamp()):
            return  # taken before: told again because our report was lost or is not there yet
        if wrong is not None:
            self.numbers.orders_refused += 1
            self._spool.end_order(command.id, "refused", {"code": wrong.code})
        else:
            self._waiting.append(command)
        self._ordered.set()

    async def _obey_on(self) -> None:
        back_off = BackOff(self._dice)
        while True:
            self._ordered.clear()
            try:
                if self._waiting:
                    await self._obey(self._waiting.popleft())
                settled = await self._tell_orders()
            except UnavailableError as error:  # the line, or the disk
                _log.info("report_failed: %s", error)
                settled = False
            if settled:
                back_off.clear()
            if self._waiting:
                continue
            if settled:
                await self._ordered.wait()
            else:
                await asyncio.sleep(back_off.wait_s())

    async def _obey(self, command: Command) -> None:
        try:
            await self._report(command.id, "running", {})
        except UnavailableError as error:
            _log.info("report_failed: %s", error)  # it is done all the same; how it ended is told later
        try:
            async with asyncio.timeout(limits.DO_S + limits.BUSY_WAIT_S):
                done = await self._do(command)
        except TimeoutError:
            done = Done("failed", {"code": "timeout"})
        except Exception as error:
            _log.exception("order_failed")
            done = Done("failed", {"code": "error", "error": type(error).__name__})
        self.numbers.orders_done += done.state == "done"
        self._spool.end_order(command.id, done.state, done.result)

    async def _do(self, command: Command) -> Done:
        busy = self._busy()
        if busy and command.type in orders.IDLE_ONLY:
            return Done("refused", {"code": "busy"})
        if command.type in orders.WAITS:
            left = limits.BUSY_WAIT_S
            while self._busy():
                if left <= 0:
                    return Done("refused", {"code": "busy"})
                await asyncio.sleep(limits.BUSY_LOOK_S)
                left -= limits.BUSY_LOOK_S
        done = await self._hands.do(command.type, command.args)
        if done.file is not None and done.state == "done":
            return await self._upload(command, done.file, done.result)
        return done

    def _busy(self) -> bool:
        return any(bool(value) for value in self._units.busy().values())

    async def _tell_orders(self) -> bool:
        """True: the service knows how everything ended."""
        settled = True
        for order in self._spool.orders_untold():
            if order.state == "running":
                continue
            reply = await self._report(order.id, order.state, order.result)
            # What it does not take now it never will: it is over there, or was never ours.
            if reply.status == 200 or not reply.retry:
                self._spool.order_told(order.id)
            else:
                settled = False
        return settled

    async def _report(self, order_id: str, state: str, result: Mapping[str, Any]) -> Reply:
        return await self._wire.call("POST", f"commands/{order_id}", {"state": state, "result": dict(result)})

    # ------------------------------------------------------------------------------------------------ uploads
    async def _upload(self, command: Command, path: Path, result: Mapping[str, Any]) -> Done:
        """Send a file in parts; after each failure ask how far it is and go on from there."""
        size, digest = await asyncio.to_thread(_measured, path)
        if not 0 < size <= limits.UPLOAD_MAX:
            return Done("failed", {"code": "size", "bytes": size})
        new = {
            "command": command.id,
            "kind": orders.FILES[command.type],
            "size": size,
            "sha256": digest,
            "name": path.name,
        }
        back_off = BackOff(self._dice)
        failures = 0
        upload, at = "", 0
        while failures < limits.UPLOAD_TRIES:
            try:
                if not upload:
                    reply = await self._wire.call("POST", "uploads", new)
                    upload = str(reply.body.get("id", ""))
                else:
                    part = await asyncio.to_thread(_part, path, at)
                    span = f"bytes {at}-{at + len(part) - 1}/{size}"
                    reply = await self._wire.call("PUT", f"uploads/{upload}", part, headers={"Content-Range": span})
            except UnavailableError as error:
                _log.info("upload_failed: %s", error)
                failures, upload = failures + 1, ""  # announced again, it says how far it is
                await asyncio.sleep(back_off.wait_s())
                continue
            state = reply.body.get("state")
            if reply.status == 200 and state == "complete":
                return Done("done", {**result, "upload": upload})
            if reply.status == 200 and state == "bad":
                return Done("failed", {"code": "digest"})
            if reply.status in (200, 416) and isinstance(reply.body.get("received"), int):
                at = int(reply.body["received"])
                failures = failures + (reply.status == 416)
            elif reply.retry:
                failures, upload = failures + 1, ""
                await asyncio.sleep(back_off.wait_s(reply.after_s))
            else:
                return Done("failed", {"code": str(reply.body.get("code", reply.status))})
        return Done("failed", {"code": "line"})

    # ------------------------------------------------------------------------------------------------ certificate
    async def _renew_on(self, identity: Identity) -> None:
        back_off = BackOff(self._dice)
        while True:
            now = self.server_now()
            if now is None or not identity.renewal_due(now):
                await asyncio.sleep(1.0 if now is None else limits.RENEW_CHECK_S)
                continue
            try:
                reply = await self._wire.call("POST", "cert/renew", {"csr": identity.request()})
                if reply.status == 200:
                    identity.accept(str(reply.body.get("certificate", "")))
                    self._wire.context = identity.context()
                    await self._wire.renew()
                    back_off.clear()
                    self.event("certificate.renewed")
                    continue
                _log.warning("renewal_refused: %s %s", reply.status, reply.body)
                await asyncio.sleep(max(back_off.wait_s(reply.after_s), 60.0))
            except (UnavailableError, ValueError) as error:
                _log.warning("renewal_failed: %s", error)
                await asyncio.sleep(max(back_off.wait_s(), 60.0))


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()


def _part(path: Path, at: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(limits.UPLOAD_PART)
