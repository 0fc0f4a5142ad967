"""Serial lines on ptys: every split of a frame, noise, heartbeats, several kiosks, half duplex, unplugging."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iso8583 import framing
from switch import limits
from switch.config import SerialConfig
from switch.net.serial import Cutter, PortError, SerialLine, open_port, settings
from switch.ports import Wire
from tests.ptys import Cable

from .harness import HeldClock, HeldDice, Owner, Recorder, Run, until

ONE, TWO = "10000001", "10000002"
KIOSKS = {"0001": ONE, "000A": TWO}


def request(address: str = "0001", body: bytes = b"question") -> bytes:
    """A message as far as a line looks at it: TPDU, then anything."""
    return bytes.fromhex("600003" + address) + body


@pytest.fixture
def cable(short_dir: Path) -> Iterator[Cable]:
    with Cable(short_dir / "line") as made:
        yield made


def answering(answer: Callable[[bytes], bytes]) -> Callable[[Wire, bytes], None]:
    def answered(wire: Wire, frame: bytes) -> None:
        assert wire.send(answer(frame))

    return answered


class Bench:
    """A line on a cable, with its owner, and clocks that we hold."""

    def __init__(self, cable: Cable, **options: Any) -> None:
        self.cable = cable
        self.owner, self.observer, self.clock = Owner(), Recorder(), HeldClock()
        self.config = SerialConfig(name="line-1", device=str(cable.device), kiosks=KIOSKS, **options)
        self.line = SerialLine(self.config, self.owner, self.observer, self.clock, HeldDice())

    async def __aenter__(self) -> Bench:
        self.line.start()
        assert self.line.is_up, self.line.trouble
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.line.stop("the test ends")

    async def heard(self, count: int) -> list[bytes]:
        await until(lambda: len(self.owner.frames) >= count, f"{count} frames")
        return self.owner.frames

    def counted(self, name: str, *labels: str) -> int:
        return self.observer.counts[f"switch_serial_{name}_total", ("line-1", *labels)]


async def turns(count: int = 20) -> None:
    """Let the loop run: whatever could happen has happened."""
    for _ in range(count):
        await asyncio.sleep(0.001)


# ---------------------------------------------------------------------------------------------------- bytes to frames
def test_every_split_of_frames_with_noise_and_heartbeats_gives_the_same() -> None:
    beat = b"DTU\xfe"
    one, two = request(body=b"\x02\x00\x03\x03"), request("000a", b"\x03\x60")
    stream = beat + framing.frame(one, "serial") + b"\x06?" + beat + beat + framing.frame(two, "serial") + b"D" + beat
    for cut in range(len(stream) + 1):
        cutter = Cutter("bcd2", beat)
        frames = cutter.feed(stream[:cut]) + cutter.feed(stream[cut:])
        assert frames == [one, two], cut
        assert (cutter.heartbeats, cutter.noise_bytes, cutter.partial) == (4, 3, False), cut


BEATS = st.sampled_from([b"", b"\xfe", b"DTU", b"\x03\x03", b"ababac"])
PIECES = st.one_of(
    st.tuples(st.just("frame"), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("noise"), st.binary(min_size=1, max_size=10).map(lambda data: data.replace(b"\x02", b"?"))),
    st.tuples(st.just("beat"), st.just(b"")),
    st.tuples(st.just("empty"), st.just(b"")),
)


@given(BEATS, st.lists(PIECES, max_size=12), st.data())
def test_whatever_lies_between_frames_they_all_come_out_and_every_byte_is_accounted_for(
    beat: bytes, pieces: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    fixed = {"beat": beat, "empty": bytes.fromhex("0200000303")}
    stream = b"".join(
        framing.frame(body, "serial") if kind == "frame" else fixed.get(kind, body) for kind, body in pieces
    )
    cutter = Cutter("bcd2", beat)
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += cutter.feed(stream[:size])
        stream = stream[size:]
    assert found == [body for kind, body in pieces if kind == "frame"]
    assert not cutter.discards and not cutter.partial
    beats = sum(kind == "beat" for kind, _ in pieces) if beat else 0
    empties = sum(kind == "empty" for kind, _ in pieces)
    noise = sum(len(body) for kind, body in pieces if kind == "noise")
    if not any(kind == "noise" for kind, _ in pieces):
        assert (cutter.heartbeats, cutter.noise_bytes) == (beats + empties, 0)
    # noise may look like a heartbeat, or break the next one in two; but it all adds up
    beat_bytes = (cutter.heartbeats - empties) * len(beat)
    assert cutter.noise_bytes + beat_bytes == noise + beats * len(beat) - len(cutter._run)


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_no_noise_whatsoever_stops_a_line(chunks: list[bytes]) -> None:
    cutter = Cutter("bcd2", b"\xfe")
    for chunk in chunks:
        cutter.feed(chunk)
    cutter.end()
    assert cutter.feed(framing.frame(b"abc", "serial")) == [b"abc"]
    assert cutter.noise_bytes >= 0


# ---------------------------------------------------------------------------------------------------- the line
def test_a_frame_in_any_two_portions_reaches_its_kiosks_wire(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:
            frame = request(body=b"\x02\x03\x02 ETX inside")
            whole = framing.frame(frame, "serial")
            for cut in range(1, len(whole)):
                cable.write(whole[:cut])
                await asyncio.sleep(0)
                cable.write(whole[cut:])
            assert await bench.heard(len(whole) - 1) == [frame] * (len(whole) - 1)
            assert len(bench.owner.wires) == 1 and bench.owner.wires[0].terminal_id == ONE
            assert bench.owner.wires[0].peer == "line-1#0001"
            assert bench.counted("noise_bytes") == 0

    run(main)


def test_two_kiosks_on_one_line_each_get_their_own_answers(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:

            def answer(wire: Wire, frame: bytes) -> None:
                assert wire.send(b"\x60" + frame[3:5] + frame[1:3] + wire.terminal_id.encode())

            bench.owner.on_frame = answer
            cable.send(request("0001"), request("000A"), request("0001"))
            answers = await cable.frames(3)
            assert [frame[1:3].hex() + frame[5:].decode() for frame in answers] == [
                f"0001{ONE}",
                f"000a{TWO}",
                f"0001{ONE}",
            ]
            assert len(bench.owner.wires) == 2

    run(main)


def test_noise_before_between_and_inside_frames_costs_only_the_frame_it_hits(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable, gap_ms=20) as bench:
            whole = framing.frame(request(), "serial")
            broken = whole[:9] + bytes([whole[9] ^ 0x10]) + whole[10:]
            cable.write(b"\xff\x00~" + whole + b"\x15" + broken + whole + whole[:-1] + b"\x00" + whole)
            await bench.heard(3)
            assert bench.owner.frames == [request()] * 3
            assert bench.counted("discards", "lrc") == 2
            cable.write(whole[:7])  # and never the rest
            await until(lambda: bench.counted("discards", "cut") == 1, "the cut frame given up")
            cable.write(whole)
            await bench.heard(4)
            assert bench.counted("noise_bytes") == 4 + 2 * len(whole) + 7
            told = bench.observer.named("serial.noise")
            assert len(told) == 1, "one line a minute, however loud the line"
            bench.clock.at += limits.SERIAL_SAY_EVERY_S
            cable.write(b"?")
            await until(lambda: len(bench.observer.named("serial.noise")) == 2, "the next line in the log")
            assert bench.observer.named("serial.noise")[1]["cut"] == 1
            assert cable.silent(), "noise is not answered"

    run(main)


def test_a_dtus_heartbeats_are_swallowed_and_counted(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable, heartbeat="44545531") as bench:
            cable.write(b"DTU1")
            await until(lambda: bench.counted("heartbeats") == 1, "a heartbeat")
            cable.write(b"DTU1DT")
            await until(lambda: bench.counted("heartbeats") == 2, "the second one, and half of the third")
            cable.write(b"U1" + framing.frame(request(), "serial") + b"DTU1")
            await until(lambda: bench.counted("heartbeats") == 4, "three more")
            assert bench.owner.frames == [request()] and bench.counted("noise_bytes") == 0
            assert bench.line.status()["heartbeats"] == 4

    run(main)


def test_an_address_that_is_not_configured_is_counted_and_not_answered(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:
            cable.send(request("0009"), b"\x60\x00", b"no TPDU at all", request())
            assert await bench.heard(1) == [request()]
            assert bench.counted("discards", "address") == 3 and cable.silent()

    run(main)


def test_an_address_that_was_hung_up_on_is_deaf_for_a_while_and_its_neighbour_is_not(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:
            cable.send(request("0001"), request("000a"))
            await bench.heard(2)
            wire = bench.owner.wires[0]
            assert wire.send(b"\x60 last word")
            wire.close("too many")
            assert not wire.is_open and not wire.send(b"\x60 too late") and bench.owner.lost == []
            await until(lambda: bench.owner.lost == [(wire, "too many")], "the loss told")
            assert await cable.frames(1) == [b"\x60 last word"]
            cable.send(request("0001"), request("000a"))
            await bench.heard(3)
            assert bench.counted("discards", "hung_up") == 1 and bench.owner.frames[-1] == request("000a")
            bench.clock.at += limits.SERIAL_HANG_UP_S
            cable.send(request("0001"))
            await bench.heard(4)
            assert len(bench.owner.wires) == 3 and bench.owner.wires[-1].terminal_id == ONE, "a new wire, a new caller"

    run(main)


def test_a_handler_that_fails_costs_its_kiosk_and_no_other(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:

            def fail(wire: Wire, frame: bytes) -> None:
                if wire.terminal_id == ONE:
                    raise RuntimeError("ours")

            bench.owner.on_frame = fail
            cable.send(request("0001"), request("000a"))
            await bench.heard(2)
            assert bench.observer.named("wire.handler_failed")[0]["call"] == "frame_received"
            assert [wire.is_open for wire in bench.owner.wires] == [False, True]

    run(main)


def test_a_slow_line_brings_a_frame_byte_by_byte(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:
            for byte in framing.frame(request(), "serial"):
                cable.write(bytes([byte]))
                await asyncio.sleep(0.001)  # 9600 baud
            assert await bench.heard(1) == [request()]

    run(main)


@pytest.mark.parametrize("length", ["bcd2", "len2", "ascii4"])
def test_each_form_of_the_length_is_spoken_both_ways(run: Run, cable: Cable, length: str) -> None:
    async def main() -> None:
        async with Bench(cable, length=length) as bench:
            bench.owner.on_frame = answering(lambda frame: frame[::-1])
            cable.send(request(), length=length)
            assert await cable.frames(1, length) == [request()[::-1]]

    run(main)


# ---------------------------------------------------------------------------------------------------- half duplex
HALF = {"duplex": "half", "turn_round_ms": 4}


def test_nothing_is_written_while_somebody_speaks_nor_before_the_turn_round(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable, **HALF) as bench:
            bench.owner.on_frame = answering(lambda frame: b"\x60 to " + frame[3:5])
            second = framing.frame(request("000a"), "serial")
            cable.write(framing.frame(request("0001"), "serial") + second[:1])
            await bench.heard(1)
            for byte in second[1:]:
                bench.clock.at += 1.0  # silence enough, but a frame is half here
                await turns(8)
                assert cable.silent(), "written into a frame that comes in"
                cable.write(bytes([byte]))
            await bench.heard(2)
            await turns()
            assert cable.silent(), "no turn-round"
            bench.clock.at += 0.003
            await turns()
            assert cable.silent(), "the turn-round is shorter than configured"
            bench.clock.at += 0.002
            assert await cable.frames(1) == [b"\x60 to \x00\x01"]
            await turns()
            assert cable.silent(), "two answers at once"
            bench.clock.at += 12 * 10 / 9600 + 0.003  # the first one is out, and nobody had his turn
            await turns()
            assert cable.silent(), "no turn-round between two answers"
            bench.clock.at += 0.002
            assert await cable.frames(1) == [b"\x60 to \x00\x0a"]

    run(main)


def test_a_frame_that_was_cut_short_does_not_silence_a_half_duplex_line(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable, gap_ms=20, **HALF) as bench:
            bench.owner.on_frame = answering(lambda frame: b"\x60 answer")
            cable.write(framing.frame(request(), "serial") + framing.frame(request(), "serial")[:10])
            await bench.heard(1)
            bench.clock.at += 1.0
            assert await cable.frames(1) == [b"\x60 answer"]

    run(main)


def test_an_adaptor_that_hears_itself_is_no_kiosk(run: Run, cable: Cable) -> None:
    async def main() -> None:
        # the switch's own address is a kiosk's: its echo would come back as a request
        async with Bench(cable, **HALF) as bench:
            bench.owner.on_frame = answering(lambda frame: b"\x60" + frame[3:5] + frame[3:5] + b"answer")
            cable.send(request())
            await bench.heard(1)
            bench.clock.at += 1.0
            (answer,) = await cable.frames(1)
            cable.send(answer)
            await until(lambda: bench.counted("discards", "echo") == 1, "the echo dropped")
            assert len(bench.owner.frames) == 1

    run(main)


def test_an_answer_that_waited_too_long_is_dropped_and_the_queue_is_bounded(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable, **HALF) as bench:
            cable.send(request())
            await bench.heard(1)
            wire = bench.owner.wires[0]
            for _ in range(limits.SERIAL_QUEUE_MAX):
                assert wire.send(b"\x60 old")
            assert not wire.send(b"\x60 one too many") and bench.counted("unsent", "full") == 1
            bench.clock.at += limits.SERIAL_ANSWER_S + 1
            await until(lambda: bench.counted("unsent", "stale") == limits.SERIAL_QUEUE_MAX, "old answers dropped")
            assert wire.send(b"\x60 new")
            assert await cable.frames(1) == [b"\x60 new"]

    run(main)


# ---------------------------------------------------------------------------------------------------- the port
def test_an_unplugged_line_is_lost_and_comes_back(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:
            cable.send(request("0001"), request("000a"))
            await bench.heard(2)
            cable.unplug()
            await until(lambda: len(bench.owner.lost) == 2, "both kiosks lost")
            assert not bench.owner.wires[0].send(b"\x60 into the air")
            assert "the device is gone" in bench.observer.named("serial.lost")[0]["reason"]
            assert bench.observer.gauges["switch_serial_up", ("line-1",)] == 0
            await until(lambda: bench.observer.named("serial.open_failed"), "an attempt to open it")
            assert "no such device" in bench.line.note() and str(cable.device) in bench.line.note()
            cable.plug_in()
            await until(lambda: bench.line.is_up, "opened again")
            assert bench.line.note() == "" and bench.observer.gauges["switch_serial_up", ("line-1",)] == 1
            cable.send(request("0001"))
            await bench.heard(3)
            assert bench.owner.wires[-1] not in bench.owner.wires[:2]

    run(main)


def test_half_a_frame_from_before_the_unplugging_spoils_nothing_after_it(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:
            cable.write(bytes.fromhex("021999") + b"of a frame of 1999 bytes")
            await turns()
            cable.unplug()
            await until(lambda: not bench.line.is_up, "lost")
            cable.plug_in()
            await until(lambda: bench.line.is_up, "opened again")
            cable.send(request())
            assert await bench.heard(1) == [request()]
            assert not bench.counted("discards", "cut"), "it waited for the rest of that frame"

    run(main)


def test_a_line_that_cannot_be_opened_at_start_is_no_error_and_opens_later(run: Run, cable: Cable) -> None:
    async def main() -> None:
        cable.unplug()
        bench = Bench(cable)
        bench.line.start()
        assert not bench.line.is_up
        told = bench.observer.named("serial.open_failed")[0]
        assert told["code"] == "missing" and told["device"] == str(cable.device)
        assert bench.line.status()["trouble"] == told["reason"]
        cable.plug_in()
        await until(lambda: bench.line.is_up, "opened")
        await bench.line.stop("the test ends")

    run(main)


def test_a_port_that_takes_nothing_is_opened_anew(run: Run, cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERIAL_WRITE_S", 0.05)

    async def main() -> None:
        async with Bench(cable) as bench:
            cable.send(request())
            await bench.heard(1)
            for _ in range(limits.SERIAL_QUEUE_MAX):
                if not bench.owner.wires[0].send(b"\x60" + bytes(4000)):
                    break
                await asyncio.sleep(0)
            await until(lambda: bench.observer.named("serial.lost"), "given up")
            assert "flow control" in bench.observer.named("serial.lost")[0]["reason"]
            assert bench.counted("unsent", "lost") > 0
            await until(lambda: bench.line.is_up, "opened anew")
            while not cable.silent():
                cable.read()
            cable.send(request())
            await bench.heard(2)
            assert bench.owner.wires[-1].send(b"\x60 answer")
            assert await cable.frames(1) == [b"\x60 answer"]

    run(main)


def test_stopping_writes_what_is_queued(run: Run, cable: Cable) -> None:
    async def main() -> None:
        bench = Bench(cable)
        bench.line.start()
        cable.send(request())
        await bench.heard(1)
        for number in range(5):
            assert bench.owner.wires[0].send(b"\x60 answer %d" % number)
        written = asyncio.create_task(cable.frames(5))
        await asyncio.sleep(0)
        await bench.line.stop("stopping")
        assert await written == [b"\x60 answer %d" % number for number in range(5)]
        assert bench.owner.lost == [(bench.owner.wires[0], "stopping")]
        await bench.line.stop("again")

    run(main)


def test_stopping_waits_for_the_turn_on_a_half_duplex_line(run: Run, cable: Cable) -> None:
    async def main() -> None:
        bench = Bench(cable, **HALF)
        bench.line.start()
        cable.send(request())
        await bench.heard(1)
        assert bench.owner.wires[0].send(b"\x60 answer")
        stopping = asyncio.create_task(bench.line.stop("stopping"))
        await turns()
        assert cable.silent() and not stopping.done()
        bench.clock.at += 1.0
        assert await cable.frames(1) == [b"\x60 answer"]
        await stopping

    run(main)


def test_a_silent_line_is_a_note_for_people(run: Run, cable: Cable) -> None:
    async def main() -> None:
        async with Bench(cable) as bench:
            bench.clock.at += limits.KIOSK_IDLE_S + 60
            assert bench.line.note() == "serial line line-1: nothing came for 11 min"

    run(main)


def config(device: object, **options: Any) -> SerialConfig:
    return SerialConfig(name="line-1", device=str(device), kiosks=KIOSKS, **options)


def test_the_port_is_set_as_configured(cable: Cable) -> None:
    wanted = config(cable.device, baud=19_200, parity="even", stop_bits=2)
    port = open_port(wanted)
    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = termios.tcgetattr(port.fileno())
    port.close()
    assert ispeed == ospeed == termios.B19200 and cflag & termios.CSTOPB
    assert cflag & termios.CSIZE == termios.CS8
    assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG) and not oflag & termios.OPOST
    assert not iflag & (termios.ICRNL | termios.IXON | termios.BRKINT) and cc[termios.VMIN] == 1
    assert settings(wanted) == "19200 8E2"


def broken(what: str, folder: Path, cable: Cable) -> tuple[object, Callable[[], object]]:
    if what == "missing":
        return folder / "nothing", lambda: None
    if what == "busy":
        port = open_port(config(cable.device))
        return cable.device, port.close
    path = folder / "file"
    path.write_bytes(b"no terminal")
    return path, lambda: None


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", "no such device: plug it in"),
        ("busy", "another program has it: end that one (fuser -v"),
        ("settings", "it is no serial port, or does not take 9600 8N1"),
    ],
)
def test_a_port_that_cannot_be_opened_says_why_and_what_to_do(
    what: str, words: str, short_dir: Path, cable: Cable
) -> None:
    device, undo = broken(what, short_dir, cable)
    try:
        with pytest.raises(PortError) as caught:
            open_port(config(device))
    finally:
        undo()
    assert caught.value.code == what
    assert caught.value.detail.startswith(f"{device}: ") and words in caught.value.detail


def test_a_port_that_we_may_not_open_says_so(monkeypatch: pytest.MonkeyPatch, cable: Cable) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, who may open everything
    with pytest.raises(PortError) as caught:
        open_port(config(cable.device))
    assert caught.value.code == "permission" and "group that owns it" in caught.value.detail


def test_a_configuration_is_a_value() -> None:
    assert msgspec.structs.replace(config("/dev/x"), baud=1200) == config("/dev/x", baud=1200)
