"""The loops against a real database, and a control socket that speaks as the switch does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from admin import limits
from admin.control import Switches
from admin.monitor import watch
from admin.monitor.fleet import Heard
from admin.monitor.switchboard import Switchboard, Word, buckets_of, merged, probes_of, times_between
from admin.monitor.watch import QUERY, Diagnoser, Folder, Prober
from switch.observe.metrics import Metrics
from switch.runtime.control import Ask, ControlSocket
from tests.admin.conftest import opened
from tests.admin.monitor.conftest import Fleet


class Quiet:
    def event(self, name: str, **facts: Any) -> None:
        pass


class Worker:
    """A worker of the switch, as far as monitoring asks it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.up_s = 9_999.0
        self.ready = True
        self.heard: dict[str, list[Any]] = {}
        self.links = {"unionpay": True, "marketing": True}
        self.asked: list[Ask] = []

    async def _status(self, ask: Ask) -> Any:
        return {
            "instance": "switch",
            "up_s": self.up_s,
            "ready": self.ready,
            "not_ready": [] if self.ready else ["link unionpay is down"],
            "links": {name: {"up": up, "breaker_open": False} for name, up in self.links.items()},
        }

    async def _heard(self, ask: Ask) -> Any:
        self.asked.append(ask)
        rows = [[terminal, *told] for terminal, told in self.heard.items()][ask.after : ask.after + ask.limit]
        return {"rows": rows, "next": ask.after + len(rows) if len(rows) == ask.limit else 0}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        socket = ControlSocket(
            self.path,
            {"status": self._status, "heard": self._heard},
            Quiet(),  # type: ignore[arg-type]
            changing=frozenset(),
        )
        await socket.start()
        try:
            yield
        finally:
            await socket.stop()


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path / "control")


def board_of(*workers: Worker) -> Switchboard:
    return Switchboard(Switches([each.path for each in workers]))


def fine(count: int) -> dict[str, list[Any]]:
    return {f"T{number:07d}": [30.0, 60.0, True, True] for number in range(1, count + 1)}


async def diagnosed(fleet: Fleet) -> dict[int, str]:
    return {row["kiosk_id"]: row["diagnosis"] for row in await fleet.run("SELECT * FROM admin.kiosk_status")}


async def round_of(diagnoser: Diagnoser) -> dict[str, Any]:
    diagnoser._ran_at = datetime.now(UTC)  # it has been there all the time
    return await diagnoser.run()


def test_a_fleet_is_judged_and_only_changes_are_written(fleet: Fleet, worker: Worker) -> None:
    async def story() -> None:
        kiosks = await fleet.build(6)
        await fleet.beat(kiosks)
        worker.heard = fine(6)
        async with opened(fleet.dsn) as database, worker.listening():
            board = board_of(worker)
            await board.status()
            diagnoser = Diagnoser(database, board)
            assert await round_of(diagnoser) == {"kiosks": 6, "judged": 6, "changed": 6, "switch_told": True}
            assert set((await diagnosed(fleet)).values()) == {"normal"}
            assert (await round_of(diagnoser))["changed"] == 0
            await fleet.beat(kiosks[:1], 600)
            del worker.heard["T0000001"]
            assert (await round_of(diagnoser))["changed"] == 1
            assert await diagnosed(fleet) == {kiosks[0]: "offline", **dict.fromkeys(kiosks[1:], "normal")}
            log = await fleet.run("SELECT * FROM admin.diagnosis WHERE kiosk_id = $1 ORDER BY id", kiosks[0])
            assert [(row["code"], row["payable"]) for row in log] == [("normal", True), ("offline", False)]
            assert log[1]["signals"] == ["missing", "silent", "unknown", "none", "ok"]
            (row,) = await fleet.run("SELECT * FROM admin.kiosk_watch WHERE kiosk_id = $1", kiosks[0])
            assert not row["payable"] and row["payable_since"] is not None
            (status,) = await fleet.run("SELECT * FROM admin.kiosk_status WHERE kiosk_id = $1", kiosks[0])
            assert status["since"] == log[1]["at"]

    asyncio.run(story())


def test_after_a_start_nobody_is_missed_until_two_beats_have_passed(
    fleet: Fleet, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        (kiosk,) = await fleet.build(1)
        await fleet.beat([kiosk], 600)
        await fleet.run("UPDATE admin.kiosk_status SET diagnosis = 'normal', since = now()")
        async with opened(fleet.dsn) as database, worker.listening():
            board = board_of(worker)
            await board.status()
            diagnoser = Diagnoser(database, board)
            assert (await diagnoser.run())["judged"] == 0
            assert await diagnosed(fleet) == {kiosk: "normal"}
            monkeypatch.setattr(diagnoser, "_judges_from", datetime.now(UTC))
            await round_of(diagnoser)
            assert await diagnosed(fleet) == {kiosk: "offline"}
            # A gap of ours is like a start: nobody took the beats.
            await fleet.run("UPDATE admin.kiosk_status SET diagnosis = 'normal'")
            diagnoser._ran_at = datetime.now(UTC) - timedelta(seconds=limits.BEAT_S + 1)
            assert (await diagnoser.run())["judged"] == 0

    asyncio.run(story())


def test_a_switch_that_does_not_answer_accuses_nobody(fleet: Fleet, worker: Worker, tmp_path: Path) -> None:
    async def story() -> None:
        kiosks = await fleet.build(3)
        await fleet.beat(kiosks)
        async with opened(fleet.dsn) as database:
            board = board_of(worker)
            await board.status()
            diagnoser = Diagnoser(database, board)
            await round_of(diagnoser)
            assert set((await diagnosed(fleet)).values()) == {"switch_away"}
            worker.heard = fine(3)
            async with worker.listening():
                await board.status()
                await round_of(diagnoser)
                assert set((await diagnosed(fleet)).values()) == {"normal"}
                # It began anew and has not heard everybody yet; and of two workers one may be away.
                worker.up_s, worker.heard = 5.0, {}
                await board.status()
                assert not (await round_of(diagnoser))["switch_told"]
                worker.up_s = 9_999.0
                both = board_of(worker, Worker(tmp_path / "away"))
                await both.status()
                assert not (await round_of(Diagnoser(database, both)))["switch_told"]

    asyncio.run(story())


def test_terminals_are_told_in_pages(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(limits, "HEARD_PAGE", 3)
        worker.heard = fine(7)
        async with worker.listening():
            board = board_of(worker)
            await board.status()
            heard, whole = await board.heard()
            assert len(heard) == 7 and whole
            assert [ask.after for ask in worker.asked] == [0, 3, 6]

    asyncio.run(story())


def test_what_two_workers_say_of_a_terminal_is_one_word() -> None:
    now = datetime(2026, 11, 2, tzinfo=UTC)
    pages: list[list[list[Any]]] = [
        [["A", 300.0, None, True, False], ["B", None, None, False, False]],
        [["A", 10.0, 10.0, False, True]],
    ]
    assert merged(pages, now) == {
        "A": Heard(now - timedelta(seconds=10), True, True),
        "B": Heard(None, False, False),
    }


def told(ready: bool, up: bool = True, breaker: bool = False) -> Word:
    return Word(
        "a",
        {
            "ready": ready,
            "not_ready": [] if ready else ["why"],
            "links": {"unionpay": {"up": up, "breaker_open": breaker}},
        },
    )


def test_what_a_look_at_the_switch_proves() -> None:
    def good(*words: Word) -> dict[str, bool]:
        return {probe.service: probe.good for probe in probes_of(words)}

    assert good(told(True)) == {"switch": True, "link unionpay": True}
    assert good(told(True), told(False, up=False)) == {"switch": True, "link unionpay": True}
    assert good(told(False, breaker=True)) == {"switch": False, "link unionpay": False}
    assert good(Word("a", trouble="gone")) == {"switch": False}
    (probe,) = probes_of([Word("a", trouble="gone")])
    assert probe.detail == "gone"


def test_probes_wait_while_their_table_is_locked(fleet: Fleet, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCK_S", 0.2)

    async def story() -> None:
        slots = iter([100, 101, 102])
        monkeypatch.setattr(watch, "slot_of", lambda at: next(slots))
        async with opened(fleet.dsn) as database, worker.listening():
            prober = Prober(database, board_of(worker))
            await prober.probe()
            holder = await asyncpg.connect(fleet.dsn)
            async with holder.transaction():
                await holder.execute("LOCK TABLE admin.probe")
                await prober.probe()
            await holder.close()
            worker.ready = False
            await prober.probe()
        rows = await fleet.run("SELECT slot, good, detail FROM admin.probe WHERE service = 'switch' ORDER BY slot")
        assert [tuple(row) for row in rows] == [(100, True, ""), (101, True, ""), (102, False, "link unionpay is down")]
        (word,) = await fleet.run("SELECT * FROM admin.switch_word")
        assert word["told_at"] is not None and word["trouble"] == ""

    asyncio.run(story())


def test_the_last_word_of_a_switch_is_kept_when_it_is_away(fleet: Fleet, worker: Worker) -> None:
    async def story() -> None:
        async with opened(fleet.dsn) as database:
            prober = Prober(database, board_of(worker))
            async with worker.listening():
                await prober.probe()
            await prober.probe()
        (word,) = await fleet.run("SELECT *, asked_at > told_at AS older FROM admin.switch_word")
        assert word["older"] and word["trouble"] and "unionpay" in word["told"]

    asyncio.run(story())


def test_the_prober_asks_once_in_each_slot_until_it_is_stopped(
    fleet: Fleet, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROBE_S", 0.1)
    monkeypatch.setattr(limits, "PROBE_OFFSET_S", 0.0)

    async def story() -> None:
        async with opened(fleet.dsn) as database, worker.listening():
            prober = Prober(database, board_of(worker))
            prober.start()
            async with asyncio.timeout(60):
                while not await fleet.run("SELECT FROM admin.probe"):  # noqa: ASYNC110 - a database is asked
                    await asyncio.sleep(0.05)
            await prober.stop()
            assert prober.last_at > 0

    asyncio.run(story())


# ---------------------------------------------------------------------------------------------------- times of legs
def test_percentiles_come_from_what_happened_between_two_looks() -> None:
    metrics = Metrics(strict=True)

    def look() -> dict[str, dict[float, float]]:
        return buckets_of(metrics.text().decode())

    first = look()
    for milliseconds in (*[10] * 90, *[200] * 9, 5000):
        metrics.observe("switch_leg_seconds", milliseconds / 1000, ("card",))
    second = look()
    times = times_between(first, second)
    assert times == {"card": {"n": 100, "p50_ms": 10, "p95_ms": 200, "p99_ms": 200}}
    assert times_between(second, look()) == {}, "nothing happened since"
    anew = Metrics(strict=True)
    anew.observe("switch_leg_seconds", 0.5, ("card",))
    assert times_between(second, buckets_of(anew.text().decode()))["card"]["n"] == 1, "a worker that began anew"


# ---------------------------------------------------------------------------------------------------- payments
QUARTER = timedelta(minutes=15)


def quarter_before(now: datetime, back: int) -> datetime:
    return datetime.fromtimestamp(int(now.timestamp()) // 900 * 900, UTC) - back * QUARTER


async def sums(fleet: Fleet, code: str) -> list[tuple[Any, ...]]:
    rows = await fleet.run(
        "SELECT slot, begun, completed, declined, failed, open, fen FROM admin.org_quarter"
        " JOIN admin.org ON org.id = org_id WHERE org.code = $1 ORDER BY slot",
        code,
    )
    return [tuple(row) for row in rows]


def test_payments_are_summed_into_every_organisation_above_them(fleet: Fleet) -> None:
    async def story() -> None:
        one, two, three = await fleet.build(3)  # two at the first site
        start = quarter_before(datetime.now(UTC), 1)
        await fleet.pay(one, start, fen=10_01, count=3)
        await fleet.pay(two, start + timedelta(seconds=899), class_="customer")
        await fleet.pay(three, start, class_="channel")
        await fleet.pay(three, start + timedelta(minutes=5), class_=None)
        async with opened(fleet.dsn) as database:
            folder = Folder(database)
            await folder.run()
            await folder.run()
            assert await sums(fleet, "s1") == [(start, 4, 3, 1, 0, 0, 30_03)]
            assert await sums(fleet, "s2") == [(start, 2, 0, 0, 1, 1, 0)]
            assert await sums(fleet, "gz") == await sums(fleet, "root") == [(start, 6, 3, 1, 1, 1, 30_03)]
            # Its site is another one since: what was summed there is taken away.
            await fleet.run("UPDATE admin.payment_fact SET org_path = '/gd/gz/s1/' WHERE kiosk_id = $1", three)
            await folder.run()
            assert await sums(fleet, "s2") == [] and (await sums(fleet, "s1"))[0][1] == 6

    asyncio.run(story())


def test_a_payment_that_takes_hours_is_summed_when_it_ends(fleet: Fleet) -> None:
    async def story() -> None:
        (kiosk,) = await fleet.build(1)
        start = quarter_before(datetime.now(UTC), 8)
        await fleet.pay(kiosk, start, class_=None, fen=5)
        async with opened(fleet.dsn) as database:
            async with database.connection() as connection:
                await connection.execute(QUERY["quarters_fold"], start, start + QUARTER)
            assert await sums(fleet, "gz") == [(start, 1, 0, 0, 0, 1, 0)]
            await fleet.run("UPDATE admin.payment_fact SET state = 'COMPLETED', final = true, class = 'ok'")
            assert (await Folder(database).run())["again"] == 1
            assert await sums(fleet, "gz") == [(start, 1, 1, 0, 0, 0, 5)]
            assert (await Folder(database).run())["again"] == 0

    asyncio.run(story())


def test_payments_older_than_this_service_are_summed_day_by_day(fleet: Fleet) -> None:
    async def story() -> None:
        (kiosk,) = await fleet.build(1)
        old = [quarter_before(datetime.now(UTC), 96 * days) for days in (40, 3)]
        for at in old:
            await fleet.pay(kiosk, at)
        await fleet.run("INSERT INTO admin.usual_day VALUES (1, current_date, 1, '{}', '{}', '{}')")
        async with opened(fleet.dsn) as database:
            folder = Folder(database)
            for _ in range(2):
                await folder.run()
                assert not folder._filled
            await folder.run()
            assert folder._filled
        assert [row[0] for row in await sums(fleet, "gz")] == old
        assert await fleet.run("SELECT FROM admin.usual_day") == [], "it was summed up from fewer days: anew"

    asyncio.run(story())


def test_what_a_late_feed_brings_is_summed(fleet: Fleet) -> None:
    """The copy was two days behind: payments then appear in quarters that were summed long ago."""

    async def story() -> None:
        (kiosk,) = await fleet.build(1)
        behind = datetime.now(UTC) - timedelta(days=2)
        await fleet.run("UPDATE admin.feed_position SET read_at = now(), last_at = $1, more = true", behind)
        async with opened(fleet.dsn) as database:
            folder = Folder(database)
            await folder.run()
            at = quarter_before(datetime.now(UTC), 100)
            await fleet.pay(kiosk, at)
            folder._filled = True
            await fleet.run("UPDATE admin.feed_position SET last_at = now(), more = false")
            await folder.run()
            assert [row[0] for row in await sums(fleet, "gz")] == [at]

    asyncio.run(story())


async def failures(fleet: Fleet) -> int:
    (row,) = await fleet.run("SELECT coalesce(max(failures), 0) AS n FROM admin.kiosk_watch")
    return int(row["n"])


def test_a_row_of_failures_is_ended_by_a_success_and_not_by_a_customer(fleet: Fleet) -> None:
    async def story() -> None:
        (kiosk,) = await fleet.build(1)
        start = datetime.now(UTC) - timedelta(minutes=10)
        minute = timedelta(minutes=1)
        async with opened(fleet.dsn) as database:
            folder = Folder(database)
            await fleet.pay(kiosk, start, class_="ok")
            assert (await folder.run())["kiosks"] == 1
            assert (await folder.run())["kiosks"] == 0, "nothing new"
            await fleet.pay(kiosk, start + minute, class_="terminal", count=2)
            await fleet.pay(kiosk, start + 2 * minute, class_="customer")
            await fleet.pay(kiosk, start + 3 * minute, class_="channel", count=2)
            await fleet.pay(kiosk, start + 4 * minute, class_=None)
            assert (await folder.run())["kiosks"] == 1 and await failures(fleet) == 4
            (status,) = await fleet.run("SELECT * FROM admin.kiosk_status")
            assert abs((status["payment_at"] - start - 3 * minute).total_seconds() - 3) < 0.01
            assert abs((status["completed_at"] - start).total_seconds() - 2) < 0.01
            await fleet.pay(kiosk, start + 5 * minute, class_="ok")
            await folder.run()
            assert await failures(fleet) == 0

    asyncio.run(story())
