"""Hostile callers on real sockets, with the worker's limits in force, while honest kiosks pay."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import iso8583
from iso8583 import tlv
from switch.config import LimitsConfig
from switch.sim.intruder import Intruder, inquiry
from switch.sim.testkeys import test_pan as pan_of
from switch.sim.testkeys import test_track2 as track2_of

Play = Callable[..., None]
KIOSK = iso8583.load("kiosk", header="tpdu+pos6")
STRICT = LimitsConfig()  # what a configuration has that says nothing
HALL = 20
# For kiosks that pay faster than people; whatever strangers can reach stays as it is by default.
OPEN_TO_KIOSKS = replace(STRICT, payments_per_minute=0, inquiries_per_minute=0, requests_per_minute=0)


def test_twenty_kiosks_pay_while_everything_is_tried_at_their_door(play: Play) -> None:
    """None fails, none waits for ever, and the three books agree; attackers sit behind the kiosks' own address too."""

    async def story(world: Any) -> None:
        port = world.worker.kiosk_port
        kiosks = [await world.kiosk(number) for number in range(1, HALL + 1)]
        finals: list[str] = []

        async def pay(kiosk: Any) -> None:
            for _ in range(4):
                finals.append((await world.pay(kiosk)).final)

        neighbour, stranger = Intruder(port), Intruder(port, source="127.0.0.2", dice=random.Random(2))
        names = range(1, HALL + 1)
        async with asyncio.TaskGroup() as group:
            for intruder in (neighbour, stranger):
                group.create_task(intruder.everything(names, sockets=300))
            await asyncio.sleep(0.2)
            for kiosk in kiosks:
                group.create_task(pay(kiosk))
        assert finals == ["00"] * (4 * HALL)
        assert [kiosk.counts.get("connection_lost", 0) for kiosk in kiosks] == [0] * HALL
        proof = await world.settle()
        assert proof.holds and proof.payments == 4 * HALL
        assert {KIOSK.decode(frame)[39] for frame in neighbour.heard + stranger.heard} <= {"97", "A0", "00", "N5", "N2"}
        assert world.worker.switch.dispatcher.stopped_terminals == []

    play(story, limits=OPEN_TO_KIOSKS, kiosks=HALL)


def test_a_thousand_mute_sockets_keep_no_kiosk_out(play: Play, helpers: Any) -> None:
    async def story(world: Any) -> None:
        port = world.worker.kiosk_port
        holding = asyncio.create_task(Intruder(port).hold_open(1_100, 3.0))
        await helpers.wait_until(lambda: world.worker.switch.listener.wires >= STRICT.source_connections_max)
        kiosk = await world.kiosk()  # behind the same address
        assert (await world.pay(kiosk)).final == "00"
        assert world.worker.switch.listener.wires <= STRICT.source_connections_max
        left = await holding
        assert STRICT.source_connections_max - 10 <= left < STRICT.source_connections_max
        assert world.metric('switch_admission_rejects_total{reason="mute"}') >= 101
        assert (await world.pay(kiosk)).final == "00" and (await world.settle()).holds

    play(story, limits=STRICT)


def test_sockets_that_speak_are_bounded_for_each_address_and_another_address_comes_in(play: Play) -> None:
    async def story(world: Any) -> None:
        port = world.worker.kiosk_port
        crowd = Intruder(port, source="127.0.0.2")
        async with crowd.connections(12) as held:
            for _, writer in held:
                writer.write(inquiry("XX000001"))
            await asyncio.sleep(0.3)
            async with crowd.connections(1) as refused:
                assert await refused[0][0].read() == b"", "nobody made room: all of them have spoken"
            assert world.metric('switch_admission_rejects_total{reason="source"}') >= 1
            kiosk = await world.kiosk()
            assert (await world.pay(kiosk)).final == "00"
        assert (await world.settle()).holds

    play(story, limits=replace(STRICT, source_connections_max=12))


def test_a_recorded_payment_is_worth_nothing_to_who_recorded_it(play: Play) -> None:
    async def story(world: Any) -> None:
        frames: list[bytes] = []
        world.worker.switch.listener._tap = lambda direction, _peer, frame: (
            frames.append(frame) if direction == "in" else None
        )
        kiosk = await world.kiosk()
        first = await world.pay(kiosk)
        thief = Intruder(world.worker.kiosk_port, source="127.0.0.2")
        payments = [frame for frame in frames if str(KIOSK.decode(frame).get(60, "")).startswith("72")]
        assert len(payments) == 1
        answers = [KIOSK.decode(frame) for frame in await thief.replay(payments * 3 + frames)]
        assert {answer[39] for answer in answers if answer.mti == "0210" and 37 in answer} == {"00"}
        # After a restart the journal knows it; after a new sign-on its MAC is nobody's.
        await world.worker.stop()
        await world.start_worker()
        thief = Intruder(world.worker.kiosk_port, source="127.0.0.2")
        assert [KIOSK.decode(frame)[39] for frame in await thief.replay(payments)] == ["00"]
        session = world.worker.switch.dispatcher._sessions._sessions[kiosk.terminal_id]
        session.must_sign_on = True
        again = await world.kiosk()
        session.old_mac_key = None
        assert [KIOSK.decode(frame)[39] for frame in await thief.replay(payments)] == ["A0"]
        assert (await world.pay(again)).final == "00"
        proof = await world.settle()
        assert proof.holds and proof.payments == 2 and first.final == "00"

    play(story, limits=STRICT)


def test_a_reader_who_never_reads_is_dropped_long_before_it_costs_memory(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        deaf = Intruder(world.worker.kiosk_port, source="127.0.0.2")
        await deaf.never_read(20, 5_000)
        assert (await world.pay(kiosk)).final == "00"
        assert world.metric('switch_rate_limited_total{what="greetings"}') >= 20
        assert (await world.settle()).holds

    play(story, limits=STRICT)


def test_strangers_leave_no_flood_in_the_log(play: Play, capfd: pytest.CaptureFixture[str]) -> None:
    async def story(world: Any) -> None:
        world.worker.observer.log.set_level("info")
        await Intruder(world.worker.kiosk_port, source="127.0.0.2").noise(400)
        world.worker.observer.log.set_level("error")
        assert world.metric('switch_rate_limited_total{what="faults"}') >= 1

    play(story, limits=STRICT)
    assert 20 < len(capfd.readouterr().err.splitlines()) < 150


# ---------------------------------------------------------------------------------------------------- fuzz
def _frames() -> tuple[list[bytes], list[bytes]]:
    """One good frame of each kind, without length; and each without one of its fields. All MACs are wrong."""
    header = bytes.fromhex("6000030000603100000000")
    card = {2: pan_of(1), 4: 1000, 14: "3012", 22: "021", 35: track2_of(1), 52: b"PINBLOCK", 53: "2600000000000000"}
    bill = tlv.encode([("DF01", b"0500000017"), ("DF02", b"quote"), ("DF11", b"R1")])
    asked = tlv.encode([("DF0C", b"000001"), ("DF0D", b"1123")])
    message = KIOSK.decode(inquiry(1)[2:])
    base = {number: message[number] for number in message}
    head = {number: base[number] for number in (11, 41, 42)}
    whole = [
        {0: "0200", **base},
        {0: "0200", **base, 3: "000000", 48: bill, 60: "72000001000", **card},
        {0: "0200", **base, 48: asked, 60: "75000001000"},
        {0: "0400", **base, 3: "000000", 48: asked, 60: "72000001000"},
        {0: "0800", **head, 60: "00000000003"},
        {0: "0820", **head, 60: "00000000301"},
    ]
    lacking = [{n: value for n, value in fields.items() if n != gone} for fields in whole for gone in fields if gone]
    both = [[KIOSK.encode(fields, header=header) for fields in some] for some in (whole, lacking)]
    return both[0], both[1]


WHOLE, LACKING = _frames()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A stream that begins as good frames do and goes wrong somewhere."""
    stream = b""
    for _ in range(draw(st.integers(1, 3))):
        frame = bytearray(draw(st.sampled_from(WHOLE) | st.sampled_from(LACKING)))
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.integers(0, max(0, len(frame) - 1)))
            match draw(st.sampled_from(("flip", "set", "cut", "insert", "double"))):
                case "flip":
                    frame[at] ^= 1 << draw(st.integers(0, 7))
                case "set":
                    frame[at] = draw(st.sampled_from((0x00, 0x0A, 0x7F, 0x99, 0xFF)))
                case "cut":
                    del frame[at : at + draw(st.integers(1, 20))]
                case "insert":
                    frame[at:at] = draw(st.binary(min_size=1, max_size=20))
                case "double":
                    frame += frame[at:]
            if not frame:
                break
        size = len(frame) if draw(st.integers(0, 9)) else draw(st.integers(0, 0xFFFF))
        stream += size.to_bytes(2, "big") + bytes(frame)
    return stream


@contextmanager
def open_door(play: Play) -> Iterator[dict[str, Any]]:
    """A running worker in a thread; ``knock(stream)`` sends bytes and gives the answers."""
    ready, over = threading.Event(), threading.Event()
    held: dict[str, Any] = {}

    async def story(world: Any) -> None:
        held["world"], held["loop"] = world, asyncio.get_running_loop()
        held["faults"] = []
        held["loop"].set_exception_handler(lambda _loop, context: held["faults"].append(context))
        await world.kiosk()  # from now on the terminal has keys, and MACs are looked at
        world.worker.observer.log.set_level("info")
        ready.set()
        await asyncio.to_thread(over.wait)
        world.worker.observer.log.set_level("error")
        kiosk = await world.kiosk()
        held["final"] = (await world.pay(kiosk)).final
        held["proof"] = await world.settle()

    failure: list[BaseException] = []

    def run() -> None:
        try:
            play(story)
        except BaseException as error:
            failure.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(60) and not failure, failure

    def knock(stream: bytes) -> list[bytes]:
        intruder = Intruder(held["world"].worker.kiosk_port)
        return asyncio.run_coroutine_threadsafe(intruder.say(stream, wait_s=0.03), held["loop"]).result(20)

    held["knock"] = knock
    try:
        yield held
    finally:
        over.set()
        thread.join(60)
    assert not failure, failure
    assert held["final"] == "00", "an honest kiosk pays, after all that"
    assert held["proof"].holds and held["proof"].payments == 1


def test_mutated_frames_end_no_worker_and_buy_nothing(play: Play, capfd: pytest.CaptureFixture[str]) -> None:
    pan = pan_of(1)
    answered: set[tuple[str, str]] = set()
    with open_door(play) as door:

        @settings(
            max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
        )
        @given(mutated())
        def whatever_comes(stream: bytes) -> None:
            for frame in door["knock"](stream):
                answer = KIOSK.decode(frame)
                answered.add((answer.mti, answer[39]))
                # Without a key nobody is told of money: no 00 but to a sign-on or an echo.
                assert answer[39] != "00" or answer.mti in ("0810", "0830")

        whatever_comes()
        assert not door["faults"], door["faults"]
        assert door["world"].unionpay.counts.get("purchase", 0) == 0
    assert {("0210", "A0"), ("0210", "30"), ("0830", "00")} <= answered, "the mutations reach every depth"
    log = capfd.readouterr().err
    assert "frame.unreadable" in log, "it is the switch's log that is looked at"
    assert pan not in log and track2_of(1) not in log and "PINBLOCK" not in log and "handler_failed" not in log


def test_the_fuzz_would_notice_a_card_number(capfd: pytest.CaptureFixture[str]) -> None:
    """What the last test looks for is what is logged, if somebody logs it."""
    from switch.observe.log import Log

    print(pan_of(1), file=sys.stderr)
    assert pan_of(1) in capfd.readouterr().err
    Log("info").event("frame.unreadable", error=pan_of(1))
    assert pan_of(1) not in capfd.readouterr().err, "and the mask is under it all"
