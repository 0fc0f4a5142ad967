"""The load generator: that its payments are payments, and that its times are those of the customers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import iso8583
from iso8583 import tlv
from switch import limits
from switch.errors import ConfigError
from switch.sim import customers
from switch.sim.alarm import Alarm
from switch.sim.fleet import read_book
from switch.sim.generator import Generator, Phase, PhaseResult, check_files
from switch.sim.truth import read_facts
from switch.sim.wire import FrameConnection

from .peers import FakeSwitch, run, scenario

ROOT = Path(__file__).parents[3]
QUICK = dataclasses.replace(
    limits.SHORT,
    card_s=0.2,
    chip_s=0.1,
    kiosk_s=0.6,
    quiet_s=0.3,
    lease_ttl_s=0.2,
    lease_heartbeat_s=0.02,
    lease_margin_s=0.05,
)


class HeldSwitch(FakeSwitch):
    """Answers nothing between two instants, and then everything at once: a host that stands still."""

    held_from = held_until = float("inf")

    def _frame_received(self, connection: FrameConnection, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self.held_from <= loop.time() < self.held_until:
            loop.call_later(self.held_until - loop.time(), super()._frame_received, connection, frame)
        else:
            super()._frame_received(connection, frame)


def generated(
    phases: list[Phase],
    *words: str,
    later: str = "00",
    kiosks: int = 3,
    text: str = "",
    book: Path | None = None,
    profile: limits.TimeProfile = QUICK,
    before: Callable[[HeldSwitch], None] = lambda switch: None,
) -> tuple[list[PhaseResult], Generator, HeldSwitch, int]:
    """Phases, against a switch of these tests; with the generator, the switch and how many payments stay unclear."""

    async def story() -> tuple[list[PhaseResult], Generator, HeldSwitch, int]:
        switch = HeldSwitch(*words, later=later)
        await switch.start()
        generator = Generator(
            "127.0.0.1", switch.port, kiosks, scenario(text), book, profile=profile, settle_s=3.0, first_account=10
        )
        try:
            assert await generator.start(5.0) == kiosks
            before(switch)
            results = [await generator.play(phase) for phase in phases]
            unclear = await generator.settle()
        finally:
            await generator.stop()
            await switch.stop()
        return results, generator, switch, unclear

    return run(story())


def test_a_phase_is_read_from_text() -> None:
    assert Phase.parse("warm:closed:64:2.5") == Phase("warm", 2.5, inflight=64)
    assert Phase.parse("run:open:5000:10") == Phase("run", 10.0, rate=5000.0)
    assert Phase.parse("run+20:open:0.5:10:poisson") == Phase("run", 10.0, rate=0.5, poisson=True, probes=20.0)
    assert Phase.parse("pause:rest:0:3") == Phase("pause", 3.0)


@pytest.mark.parametrize(
    "text", ["", "run", "run:open:5000", "run:open:0:10", "run:open:-1:10", "run:shut:1:1", "run:closed:1.5:1",
             ":open:1:1", "run:open:1:0", "run:closed:1:1:poisson", "run:open:1:1:uniform", "run+x:open:1:1"],
)  # fmt: skip
def test_a_wrong_phase_is_told_with_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--phase.*expected NAME:closed:INFLIGHT:SECONDS"):
        Phase.parse(text)


def test_its_payments_are_payments(tmp_path: Path) -> None:
    (result,), generator, switch, unclear = generated([Phase("run", 0.5, inflight=3)], book=tmp_path / "book")
    assert unclear == 0 and not generator.events
    assert result.paid == result.begun == len(switch.payments) > 30
    assert set(switch.payments.values()) == {1}
    assert result.payment.count == result.inquiry.count == result.paying.count == result.paid
    book = read_book(tmp_path / "book")
    assert len(book) == result.paid and {entry.final for entry in book.values()} == {"00"}
    assert {entry.reference for entry in book.values()} == {"4711"}
    for number, entry in zip(range(10, 10 + len(book)), book.values(), strict=True):
        customer = customers.customer(entry.account)
        assert customer is not None and number >= 10
        assert entry.receivables == tuple(bill.receivable for bill in customer.bills), "all that is owed"
        assert entry.fen == sum(bill.amount for bill in customer.bills)
    assert len({entry.account for entry in book.values()}) == len(book), "every customer pays once"
    first: dict[str, str] = {}
    for fact in read_facts(tmp_path / "book"):
        first.setdefault(fact["key"], fact["fact"])
    assert set(first.values()) == {"sent"}, "the key is in the book before anything else happens"
    paid = next(message for message in switch.seen if str(message.get(60, "")).startswith("72"))
    assert {4, 22, 26, 35, 48, 52, 53, 64} <= set(paid)
    keys = {f"{message[41]}|{message[13]}|{message[11]}" for message in switch.seen if _is_payment(message)}
    assert keys == set(book), "what left is in the book under its key"


def _is_payment(message: iso8583.Message) -> bool:
    return message.mti == "0200" and str(message[60]).startswith("72")


def test_every_way_to_read_a_card_is_one_that_the_switch_reads() -> None:
    _, generator, switch, _ = generated(
        [Phase("run", 0.4, inflight=3)],
        text="[fleet]\nchip_rate = 0.4\nkeyed_rate = 0.3\nwrong_pin_rate = 0.1\nrepeat_rate = 0.1\n",
    )
    payments = [message for message in switch.seen if _is_payment(message)]
    assert {message[22] for message in payments} == {"021", "051", "012"}
    assert {55 in message for message in payments if message[22] == "051"} == {True}
    assert {52 in message for message in payments if message[22] == "012"} == {False}
    assert len({message.get(52) for message in payments}) >= 3, "none, the right one and a wrong one"
    assert max(switch.payments.values()) == 2, "a repeated request"
    assert generator.finals["completed"] == len(switch.payments)


def test_what_is_unclear_is_asked_for(tmp_path: Path) -> None:
    (result,), generator, switch, unclear = generated(
        [Phase("run", 0.5, inflight=2)], "00", "51", "U1", "", "cut", later="R2", book=tmp_path / "book"
    )
    assert unclear == 0 and result.doubtful == 3 and result.declined == 1
    assert generator.finals == {"completed": result.paid, "declined": 1, "returned": 3}
    assert generator.events["payment_silent"] == generator.events["payment_cut"] == 1
    assert result.payment.longest >= QUICK.kiosk_s, "the customer who waited in vain is in the times"
    finals = [entry.final for entry in read_book(tmp_path / "book").values()]
    assert sorted(str(final) for final in finals if final != "00") == ["51", "R2", "R2", "R2"]
    asked = [message for message in switch.seen if str(message.get(60, "")).startswith("75")]
    assert len(asked) >= 3


def test_what_stays_unclear_is_counted() -> None:
    _, generator, _, unclear = generated([Phase("run", 0.1, rate=15.0)], "U1", later="U1")
    assert unclear == 1 and generator.codes["U1"] == 1


def test_an_answer_with_a_wrong_mac_never_came() -> None:
    def spoil(switch: HeldSwitch) -> None:
        switch.wrong_macs = 1

    (result,), generator, _, unclear = generated([Phase("run", 0.2, inflight=1)], kiosks=1, before=spoil)
    assert generator.events["mac_error"] == 1 and generator.events["inquiry_silent"] == 1
    assert result.refused == {"inquiry silent": 1} and unclear == 0


def test_an_answer_without_a_mac_says_nothing_about_money(tmp_path: Path) -> None:
    def turn_away(switch: HeldSwitch) -> None:
        switch.turned_away = 3

    (result,), generator, _, unclear = generated(
        [Phase("run", 0.4, rate=50.0)], "96!", "51!", later="R2", before=turn_away, book=tmp_path / "book"
    )
    assert result.refused == {"inquiry N2": 3}
    assert generator.events["mac_error"] == 1, "a refusal of the card always carries one"
    assert unclear == 0 and result.doubtful == 2 and generator.finals["returned"] == 2
    told = [entry for entry in read_book(tmp_path / "book").values() if entry.final == "R2"]
    assert sorted(entry.told for entry in told) == [["96", "R2"], ["R2"]]


def test_the_schedule_does_not_depend_on_the_answers() -> None:
    """A switch that stands still for a second: everybody who came meanwhile has waited, asked or not.

    Two kiosks only: the others stand in front of them. Times from request to answer know of two customers who waited;
    that is how coordinated omission hides a pause. Times from the instant at which a payment was due know of all.
    """

    def hold(switch: HeldSwitch) -> None:
        switch.held_from = asyncio.get_running_loop().time() + 0.5
        switch.held_until = switch.held_from + 1.0

    patient = dataclasses.replace(QUICK, kiosk_s=3.0, card_s=1.0, quiet_s=1.0)
    (result,), _, _, unclear = generated([Phase("run", 2.5, rate=80.0)], kiosks=2, profile=patient, before=hold)
    assert unclear == 0 and result.due == 200, "as many as the schedule says"
    assert result.paid == result.due and result.left == 0
    assert result.payment.at(0.99) > 0.9 and result.payment.at(0.75) > 0.2
    assert result.payment.at(0.3) < 0.1, "before and after the pause nobody waits"
    assert result.inquiry.at(0.9) < 0.1, "what a generator that waits for answers would have reported"
    assert result.late.at(0.99) > 0.9, "that kiosks were busy is told as well"


def test_who_finds_no_kiosk_in_time_leaves_and_is_counted() -> None:
    def hold(switch: HeldSwitch) -> None:
        switch.held_from = asyncio.get_running_loop().time()
        switch.held_until = switch.held_from + 2.0

    (result,), _, _, _ = generated([Phase("run", 1.5, rate=40.0)], kiosks=1, before=hold)
    assert result.left >= 20 and result.payment.count >= result.left
    assert result.payment.at(0.5) >= QUICK.kiosk_s * 0.9


def test_an_open_phase_is_even_or_poisson() -> None:
    even, poisson = (
        generated([dataclasses.replace(Phase("run", 1.0, rate=100.0), poisson=poisson)], kiosks=20)[0][0]
        for poisson in (False, True)
    )
    assert even.due == 100
    assert 60 < poisson.due < 150 and poisson.due == poisson.paid
    assert even.late.at(0.5) < 0.01, "an arrival waits for no tick of the loop"


def test_probes_ask_for_payments_that_have_ended() -> None:
    _, _, switch, _ = generated([Phase("run", 0.3, inflight=2)], kiosks=2)
    assert not any(str(message.get(60, "")).startswith("75") for message in switch.seen)
    results, _, switch, _ = generated(
        [Phase("run", 0.3, inflight=2), Phase("probed", 0.5, inflight=2, probes=40.0)], kiosks=2
    )
    probes = [message for message in switch.seen if str(message.get(60, "")).startswith("75") or message.mti == "0400"]
    assert len(probes) == results[1].probes == pytest.approx(20, abs=2)
    assert {message.mti for message in probes} == {"0200", "0400"}, "inquiries and reversals"
    assert results[1].probes_answered >= 9 and results[1].probe.at(0.5) < 0.1
    for message in probes:
        asked = dict(tlv.decode(message.raw(48)))
        key = (str(message[41]), asked["DF0D"].decode(), asked["DF0C"].decode())
        assert key in switch.payments


def test_idle_kiosks_only_sign_on() -> None:
    async def story() -> None:
        switch = FakeSwitch()
        await switch.start()
        generator = Generator("127.0.0.1", switch.port, 1, scenario(), None, settle_s=1.0, idle=4)
        assert await generator.start(5.0) == 5
        await generator.play(Phase("run", 0.1, inflight=5))
        assert {str(message[41]) for message in switch.seen if _is_payment(message)} == {"GS000001"}
        assert len({str(message[41]) for message in switch.seen}) == 5
        await generator.stop()
        await switch.stop()

    run(story())


def test_more_kiosks_than_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1_024, 4_096))
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.setrlimit", lambda _, bounds: raised.append(bounds))
    check_files(500)
    assert not raised
    check_files(4_000)
    assert raised == [(4_064, 4_096)]
    with pytest.raises(ConfigError, match=r"10000 connections need 10064 open files, allowed are 4096.*ulimit"):
        check_files(10_000)


def test_an_alarm_rings_when_it_should() -> None:
    async def story() -> list[float]:
        rung: list[float] = []
        done = asyncio.Event()

        def ring() -> None:
            rung.append(time.monotonic() - wanted[0])
            done.set()

        alarm = Alarm(asyncio.get_running_loop(), ring)
        wanted = [0.0]
        try:
            for after_s in (0.0203, 0.0007, -1.0):
                wanted[0] = time.monotonic() + max(0.0, after_s)
                done.clear()
                alarm.ring_at(time.monotonic() + after_s)
                await asyncio.wait_for(done.wait(), 1.0)
        finally:
            alarm.close()
        return rung

    late = run(story())
    assert len(late) == 3 and min(late) >= -0.00001, "never too early"
    assert sorted(late)[1] < 0.05


def test_the_command_reports_as_json_lines(tmp_path: Path) -> None:
    async def story() -> tuple[int, list[dict[str, object]]]:
        switch = FakeSwitch()
        await switch.start()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "switch.sim.commands", "generate", "--connect", f"127.0.0.1:{switch.port}"),
            *("--kiosks", "2", "--phase", "-", "--json", "--settle", "2", "--book", str(tmp_path / "book")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdin is not None and process.stdout is not None
        lines = [json.loads(await process.stdout.readline())]
        for phase in ("warm:closed:2:0.2", "run:open:20:0.5"):
            process.stdin.write(phase.encode() + b"\n")
            lines += [json.loads(await process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        lines.append(json.loads(await process.stdout.readline()))
        status = await process.wait()
        await switch.stop()
        return status, lines

    status, lines = run(story())
    assert status == 0
    assert [line["event"] for line in lines] == ["ready", "begun", "ended", "begun", "ended", "result"]
    result = lines[-1]
    assert isinstance(result["phases"], dict)
    assert result["phases"]["run"]["due"] == 10 and result["unclear"] == 0
    assert result["phases"]["run"]["payment"]["p99_ms"] > 0
