"""How a worker takes over, is ended, starts anew and hands over: by hand, without a database or a process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from switch.config import Config
from switch.errors import UnavailableError
from switch.limits import DRAIN_LOOK_S, RECOVERY_PAGE, SHORT
from switch.machines import days
from switch.machines.payment import NEVER
from switch.model.payment import State, StoredPayment
from switch.runtime import supervisor
from switch.runtime.assembly import Switch
from switch.runtime.supervisor import Worker

NOON_US = 1_795_492_800_000_000  # 2026-11-24 12:00 in China
TODAY = 20261124


class Ear:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, name: str, **facts: Any) -> None:
        self.events.append((name, facts))


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall_us(self) -> int:
        return NOON_US


class Journal:
    """Gives pages, or raises what stands among them."""

    epoch = 7

    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)
        self.limits: list[int] = []

    async def take_over(self, limit: int) -> list[StoredPayment]:
        self.limits.append(limit)
        page = self.pages.pop(0) if self.pages else []
        if isinstance(page, Exception):
            raise page
        return cast(list[StoredPayment], page)


def stored(number: int, **body: Any) -> StoredPayment:
    found = StoredPayment(number, TODAY, 1, State.CARD_PENDING)
    found.body.update({"settlement_day": TODAY, "marketing_day": str(TODAY)} | body)
    return found


class Bench:
    """A switch of which only the heir's side is there."""

    def __init__(self, journal: Journal, *, day_close: int | None = None, bad: int = 0) -> None:
        self.ear = Ear()
        self.journal = journal
        self.adopted: list[tuple[int, float, float]] = []
        self.bad = bad
        self.verdicts = 0
        self.switch = Switch.__new__(Switch)
        parts = {
            "_journal": journal,
            "_clock": Clock(),
            "_observer": self.ear,
            "_times": SHORT,
            "_cut_over_minute": 23 * 60,
            "_day_close_minute": day_close,
            "payments": SimpleNamespace(adopt=self._adopt),
            "_carry_out_verdicts": self._carry_out_verdicts,
        }
        for name, part in parts.items():
            setattr(self.switch, name, part)

    def _adopt(self, payment: StoredPayment, *, cut_over_at: float, day_close_at: float) -> None:
        if payment.payment_id == self.bad:
            raise KeyError("digest")
        self.adopted.append((payment.payment_id, cut_over_at, day_close_at))

    async def _carry_out_verdicts(self) -> None:
        self.verdicts += 1

    def numbers(self) -> list[int]:
        return [number for number, _, _ in self.adopted]


def test_pages_are_taken_until_there_is_none() -> None:
    bench = Bench(Journal([stored(1), stored(2)], [stored(3)]))
    assert asyncio.run(bench.switch.recover()) == 3
    assert bench.numbers() == [1, 2, 3] and bench.journal.limits == [RECOVERY_PAGE] * 3
    assert bench.ear.events == []


def test_a_payment_that_comes_twice_is_a_fault_of_ours() -> None:
    bench = Bench(Journal([stored(1)], [stored(2), stored(1)]))
    with pytest.raises(RuntimeError, match=r"^payment 1 was handed over twice$"):
        asyncio.run(bench.switch.recover())


def test_one_that_cannot_be_adopted_stays_in_the_journal_and_is_named() -> None:
    bench = Bench(Journal([stored(1), stored(2), stored(3)]), bad=2)
    assert asyncio.run(bench.switch.recover()) == 2
    assert bench.numbers() == [1, 3]
    facts = {"level": "error", "payment": 2, "error": "KeyError('digest')"}
    assert bench.ear.events == [("payment.unadoptable", facts)]


@pytest.mark.parametrize(
    ("body", "day_close", "cut_over_at", "day_close_at"),
    [
        ({}, None, 1000.0 + 11 * 3600, NEVER),
        ({"settlement_day": 20261123}, None, 1000.0, NEVER),
        ({"marketing_day": "20261123"}, None, 1000.0 + 11 * 3600, NEVER),
        ({}, 22 * 60, 1000.0 + 11 * 3600, 1000.0 + 10 * 3600),
        ({"marketing_day": "20261123"}, 22 * 60, 1000.0 + 11 * 3600, 1000.0),
    ],
)
def test_a_payment_of_a_day_that_is_over_is_adopted_as_such(
    body: dict[str, Any], day_close: int | None, cut_over_at: float, day_close_at: float
) -> None:
    assert days.settlement_day(NOON_US, 23 * 60) == TODAY
    bench = Bench(Journal([stored(1, **body)]), day_close=day_close)
    asyncio.run(bench.switch.recover())
    assert bench.adopted == [(1, cut_over_at, day_close_at)]


def test_the_look_for_heirless_payments_goes_on_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    outage = UnavailableError("database", "away")
    bench = Bench(Journal([stored(1)], [], [], outage, KeyError("ours"), [stored(2)], [stored(3)], []))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 6:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(bench.switch._take_over_forever())
    assert slept == [SHORT.lease_heartbeat_s] * 6
    assert bench.numbers() == [1, 2, 3]
    assert bench.ear.events == [
        ("payments.taken_over", {"payments": 1, "epoch": 7}),
        ("payments.not_taken_over", {"level": "error", "error": "KeyError('ours')"}),
        ("payments.taken_over", {"payments": 2, "epoch": 7}),
    ]
    assert bench.verdicts == 3


# ------------------------------------------------------------------------------------------------ a worker's life
class FakeWorker:
    """What ``serve`` does to a worker, in order."""

    did: list[str]
    plan: list[Callable[[FakeWorker], None]]  # what happens to each worker once it runs

    def __init__(self, config: Any, dsn: str) -> None:
        self.did.append(f"new {config} {dsn}")
        self.config = config
        self.lost = asyncio.Event()
        self.observer = SimpleNamespace(event=lambda name, **facts: self.did.append(f"{name} {facts}"))
        self.switch = SimpleNamespace(payments=SimpleNamespace(open_count=3))

    async def start(self) -> None:
        self.did.append("start")
        asyncio.get_running_loop().call_soon(self.plan.pop(0), self)

    async def drain(self, hurry: asyncio.Event) -> int:
        self.did.append("drain")
        if self.plan:
            self.plan.pop(0)(self)
            await hurry.wait()
            self.did.append("hurried")
        return 0

    async def stop(self) -> None:
        self.did.append("stop")


def _loses(worker: FakeWorker) -> None:
    worker.lost.set()


def _signal(number: signal.Signals) -> Callable[[FakeWorker], None]:
    return lambda worker: os.kill(os.getpid(), number)


def _served(monkeypatch: pytest.MonkeyPatch, *plan: Callable[[FakeWorker], None]) -> list[str]:
    did: list[str] = []
    FakeWorker.did, FakeWorker.plan = did, list(plan)
    monkeypatch.setattr(supervisor, "Worker", FakeWorker)
    monkeypatch.setattr(supervisor, "forbid_dumps", lambda: did.append("no dumps"))

    async def main() -> None:
        await supervisor.serve(cast(Config, "config"), "dsn")
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1, "what it waited for is over"

    asyncio.run(main())
    assert FakeWorker.plan == []
    return did


STARTED, STOPPED = ["new config dsn", "start"], ["stop", "switch.stopped {'open': 3}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_stops(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    assert _served(monkeypatch, _signal(number)) == ["no dumps", *STARTED, "drain", *STOPPED]


def test_a_second_signal_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    did = _served(monkeypatch, _signal(signal.SIGTERM), _signal(signal.SIGTERM))
    assert did == ["no dumps", *STARTED, "drain", "hurried", *STOPPED]


def test_a_worker_that_was_ended_starts_anew_without_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    did = _served(monkeypatch, _loses, _loses, _signal(signal.SIGTERM))
    assert did == ["no dumps", *(STARTED + STOPPED) * 2, *STARTED, "drain", *STOPPED]


class Draining:
    """A worker of which only what draining needs is there; a payment ends at every look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, step_s: float) -> None:
        self.clock, self.ear = Clock(), Ear()
        self.payments = SimpleNamespace(open_count=count)
        self.dispatcher = SimpleNamespace(draining=False)
        self.slept: list[float] = []
        self.hurry = asyncio.Event()
        self.hurry_after = 0
        self._step_s = step_s
        self.worker = Worker.__new__(Worker)
        self.worker.switch = cast(Switch, SimpleNamespace(dispatcher=self.dispatcher, payments=self.payments))
        for name, part in {"observer": self.ear, "clock": self.clock, "_times": SHORT}.items():
            setattr(self.worker, name, part)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        assert self.dispatcher.draining is True
        self.slept.append(seconds)
        self.payments.open_count -= 1
        self.clock.time += self._step_s
        if len(self.slept) == self.hurry_after:
            self.hurry.set()

    def drained(self) -> int:
        return asyncio.run(self.worker.drain(self.hurry))


def test_draining_ends_with_the_last_payment(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Draining(monkeypatch, 3, 0.1)
    assert bench.drained() == 0 and bench.slept == [DRAIN_LOOK_S] * 3
    assert bench.ear.events == [
        ("switch.draining", {"open": 3, "at_most_s": SHORT.drain_s}),
        ("switch.drained", {"left_open": 0}),
    ]


def test_draining_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Draining(monkeypatch, 10, SHORT.drain_s / 4)
    assert bench.drained() == 6
    assert bench.ear.events[-1] == ("switch.drained", {"left_open": 6})


def test_draining_can_be_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Draining(monkeypatch, 10, 0.1)
    bench.hurry_after = 2
    assert bench.drained() == 8
