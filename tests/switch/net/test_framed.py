"""Frames in every portion, and what a wire says about what it wrote."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch import limits
from switch.net.framed import DIGITS10, FRAMINGS, LEN2, LEN4, FramedProtocol, Framing, Splitter, make_splitter
from switch.ports import Wire

from .harness import HeldClock, Owner, Peer, Recorder, Run, len2, reset, until

FRAMES = [b"a", b"", b"\x00\x01\x02", b"x" * 255, b"y" * 256, b"\xff\xff", b"z" * 700]


# ---------------------------------------------------------------------------------------------------- the splitter
def prefixed(framing: Framing, frames: list[bytes]) -> bytes:
    return b"".join(framing.prefix(len(frame)) + frame for frame in frames)


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_every_split_of_a_stream_gives_the_same_frames(framing: Framing) -> None:
    stream = prefixed(framing, FRAMES)
    for cut in range(len(stream) + 1):
        splitter = make_splitter(framing)
        assert splitter.feed(stream[:cut]) + splitter.feed(stream[cut:]) == FRAMES
        assert not splitter.partial
    splitter = make_splitter(framing)
    assert [frame for byte in stream for frame in splitter.feed(bytes([byte]))] == FRAMES


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 30), max_size=40))
def test_any_portions_of_any_frames(frames: list[bytes], portions: list[int]) -> None:
    stream = prefixed(LEN2, frames)
    splitter = Splitter(LEN2)
    got = []
    for portion in portions:
        got += splitter.feed(stream[:portion])
        stream = stream[portion:]
    got += splitter.feed(stream)
    assert got == frames


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_any_bytes_give_frames_or_a_refusal_and_never_hold_more_than_one_frame(portions: list[bytes]) -> None:
    framing = Framing("small", 2, 50)
    splitter = make_splitter(framing)
    for portion in portions:
        assert all(len(frame) <= 50 for frame in splitter.feed(portion))
        assert len(splitter._rest) < 2 + 50
        assert splitter.too_long == 0 or splitter.too_long > 50


@pytest.mark.parametrize("prefix", [b"00000000x2", b"         2", b"-000000002", b"0x00000002", "０".encode() * 4])
def test_a_prefix_that_is_no_digits_ends_the_stream(prefix: bytes) -> None:
    splitter = make_splitter(DIGITS10)
    assert splitter.feed(DIGITS10.prefix(1) + b"a" + prefix[:10] + b"ab") == [b"a"]
    assert splitter.trouble == "expected 10 ASCII digits of length"
    assert splitter.feed(DIGITS10.prefix(1) + b"b") == []


def test_frames_before_an_over_long_prefix_are_given_and_nothing_after_it() -> None:
    splitter = Splitter(LEN2)
    assert splitter.feed(len2(b"good") + b"\x10\x01" + b"x" * 9) == [b"good"]
    assert splitter.too_long == 4097 and not splitter.partial
    assert splitter.feed(len2(b"later")) == []


def test_the_largest_frame_is_taken_and_one_byte_more_is_not() -> None:
    for framing in (LEN2, LEN4):
        largest = b"m" * framing.size_max
        assert make_splitter(framing).feed(prefixed(framing, [largest])) == [largest]
        splitter = make_splitter(framing)
        assert splitter.feed(framing.prefix(framing.size_max + 1)) == []
        assert splitter.too_long == framing.size_max + 1


# ---------------------------------------------------------------------------------------------------- the wire
class Pair:
    """A wire on one end of a real TCP connection and a plain socket on the other."""

    owner: Owner
    observer: Recorder
    clock: HeldClock
    wire: FramedProtocol
    peer: Peer
    transport: Any

    @classmethod
    async def new(cls, framing: Framing = LEN2) -> Pair:
        pair = cls()
        pair.owner, pair.observer, pair.clock = Owner(), Recorder(), HeldClock()
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        near.setblocking(False)
        pair.peer = Peer(far)
        loop = asyncio.get_running_loop()
        pair.wire = FramedProtocol(framing, pair.owner, pair.observer, label="test", now=pair.clock.now)
        pair.transport, _ = await loop.create_connection(lambda: cast(asyncio.Protocol, pair.wire), sock=near)
        return pair

    async def lost(self) -> str:
        await until(lambda: self.owner.lost, "wire_lost")
        await asyncio.sleep(0.01)  # for a second one, which must not come
        assert len(self.owner.lost) == 1
        assert self.owner.lost[0][0] is self.wire and not self.wire.is_open
        assert self.wire.send(b"too late", "late") is False and "late" not in self.wire.unflushed
        self.peer.close()
        return self.owner.lost[0][1]


def spy_on_writes(wire: FramedProtocol) -> list[bytes]:
    """The ``transport.write`` calls of a wire, as they happen."""
    written: list[bytes] = []
    real = wire._transport

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def write(self, data: bytes) -> None:
            written.append(data)
            real.write(data)

    wire._transport = Spy()  # type: ignore[assignment]
    return written


def test_frames_of_one_loop_turn_leave_in_one_write(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        written = spy_on_writes(pair.wire)
        assert all(pair.wire.send(frame, frame) for frame in (b"one", b"two", b"three"))
        assert written == [] and list(pair.wire.unflushed) == [b"one", b"two", b"three"]
        expected = len2(b"one", b"two", b"three")
        assert await pair.peer.receive(len(expected)) == expected
        assert written == [expected] and not pair.wire.unflushed
        assert pair.observer.counts["switch_frames_total", ("test", "out")] == 3
        pair.wire.close("done")
        assert await pair.lost() == "done"

    run(main)


def test_every_split_of_a_stream_through_a_socket(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        stream = len2(b"ab", b"", b"cde")
        for cut in range(1, len(stream)):
            await pair.peer.send(stream[:cut])
            await asyncio.sleep(0.001)
            await pair.peer.send(stream[cut:])
            await until(lambda: len(pair.owner.frames) == 2, "two frames")
            assert pair.owner.frames == [b"ab", b"cde"]  # the empty one is a line test
            pair.owner.frames.clear()
        pair.peer.close()
        assert await pair.lost() == "closed by the peer"

    run(main)


def test_an_over_long_prefix_closes_at_once_and_buffers_nothing(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        await pair.peer.send(len2(b"good") + b"\xff\xff")
        assert await pair.lost() == "announced a frame of 65535 bytes; the largest is 4096"
        assert pair.owner.frames == [b"good"]
        assert pair.observer.counts["switch_bad_frames_total", ("test", "too_long")] == 1

    run(main)


def test_a_peer_that_vanishes_in_the_middle_of_a_frame(run: Run) -> None:
    async def main() -> None:
        for leave, reason in ((Peer.close, "closed by the peer"), (lambda peer: reset(peer.sock), "connection reset")):
            pair = await Pair.new()
            await pair.peer.send(b"\x00\x09half")
            await until(lambda: pair.wire.partial_since is not None, "the half is read")  # noqa: B023
            leave(pair.peer)
            assert (await pair.lost()).startswith(reason)
            assert pair.owner.lost[0][1].endswith("in the middle of a frame")
            assert pair.owner.frames == []
            assert pair.observer.counts["switch_bad_frames_total", ("test", "cut")] == 1

    run(main)


def test_close_writes_what_is_queued_and_takes_nothing_more(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        assert pair.wire.send(b"goodbye", 1)
        pair.wire.close("leaving")
        assert not pair.wire.is_open and pair.wire.send(b"more", 2) is False
        assert pair.owner.lost == []  # never from within close()
        pair.wire.close("again")
        assert await pair.peer.ended() == len2(b"goodbye")
        assert await pair.lost() == "leaving"
        assert pair.owner.proved == []

    run(main)


def test_abort_proves_what_was_not_flushed(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        assert pair.wire.send(b"left", "left")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pair.wire.send(b"queued", "queued") and pair.wire.send(b"no token") and pair.wire.send(b"x", "last")
        pair.wire.abort("broken")
        assert await pair.peer.ended() in (len2(b"left"), b"")
        assert await pair.lost() == "broken"
        assert pair.owner.proved == ["queued", "last"] and pair.wire.unflushed == ("queued", "last")

    run(main)


def test_frames_queued_when_the_peer_leaves_are_proved_unsent(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()

        def answer(wire: Wire, _frame: bytes) -> None:
            assert wire.send(b"answer", "answer")
            pair.wire.eof_received()  # the end is read in the same turn, before the flush
            pair.transport.close()

        pair.owner.on_frame = answer
        await pair.peer.send(len2(b"question"))
        assert await pair.peer.ended() == b""
        assert await pair.lost() == "closed by the peer"
        assert pair.owner.proved == ["answer"]

    run(main)


def test_a_slow_reader_is_dropped_at_the_bound_and_its_queue_proved_unsent(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        frame = b"f" * 4000
        accepted: list[int] = []
        for number in range(100_000):
            if not pair.wire.send(frame, number):
                break
            accepted.append(number)
            if number % 8 == 0:
                await asyncio.sleep(0)
        assert not pair.wire.is_open
        await until(lambda: pair.owner.lost, "the drop")
        proved = pair.owner.proved
        # Everything until the pause left; what came after it waited here, up to the bound, and provably did not.
        assert proved == accepted[-len(proved) :] and 0 < len(proved) * 4002 <= limits.WRITE_BUFFER_MAX
        received = await pair.peer.ended()
        assert len(received) <= (len(accepted) - len(proved)) * 4002
        assert (await pair.lost()).startswith("reads too slowly")

    run(main)


def test_a_reader_that_wakes_up_gets_everything_in_order(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        count = 0
        while not pair.wire._paused:
            assert pair.wire.send(count.to_bytes(4, "big") * 500)
            count += 1
            await asyncio.sleep(0)
        for _ in range(100):
            assert pair.wire.send(count.to_bytes(4, "big") * 500, count)
            count += 1
        await asyncio.sleep(0.01)
        assert len(pair.wire.unflushed) == 100  # a paused wire writes nothing
        data = await pair.peer.receive(count * 2002)
        assert [data[at + 2 : at + 6] for at in range(0, len(data), 2002)] == [
            n.to_bytes(4, "big") for n in range(count)
        ]
        assert not pair.wire.unflushed
        pair.wire.close("done")
        await pair.lost()

    run(main)


def test_a_closed_wire_does_not_wait_for_ever_for_a_peer_that_does_not_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECT_TIMEOUT_S", 0.05)

    async def main() -> None:
        pair = await Pair.new()
        while not pair.wire._paused:
            assert pair.wire.send(b"f" * 4000)
            await asyncio.sleep(0)
        assert pair.wire.send(b"queued", "queued")
        pair.wire.close("leaving")
        assert await pair.lost() == "leaving"
        assert pair.owner.proved == ["queued"]

    run(main)


def test_a_handler_that_raises_loses_only_its_own_wire(run: Run) -> None:
    async def main() -> None:
        pair, other = await Pair.new(), await Pair.new()

        def fail(_wire: Wire, frame: bytes) -> None:
            raise RuntimeError("a fault of ours")

        pair.owner.on_frame = fail
        pair.owner.on_lost = lambda wire: fail(wire, b"")
        await pair.peer.send(len2(b"one", b"two"))
        assert await pair.lost() == "our handler failed: RuntimeError"
        assert pair.owner.frames == [b"one"]
        failed = pair.observer.named("wire.handler_failed")
        assert [facts["call"] for facts in failed] == ["frame_received", "wire_lost"]
        assert isinstance(failed[0]["error"], RuntimeError)

        await other.peer.send(len2(b"alive"))
        await until(lambda: other.owner.frames == [b"alive"], "the other wire's frame")
        other.wire.close("done")
        await other.lost()

    run(main)


def test_an_owner_that_closes_hears_no_more_frames(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        pair.owner.on_frame = lambda wire, _frame: wire.close("enough")
        await pair.peer.send(len2(b"one", b"two", b"three"))
        assert await pair.lost() == "enough"
        assert pair.owner.frames == [b"one"]

    run(main)


def test_a_write_that_fails_is_not_called_unflushed(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        real = pair.wire._transport

        class Failing:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def write(self, data: bytes) -> None:
                real.write(data[:3])
                raise RuntimeError("half of it left")

        pair.wire._transport = Failing()  # type: ignore[assignment]
        assert pair.wire.send(b"in doubt", "in doubt")
        assert await pair.lost() == "write failed: RuntimeError"
        assert pair.owner.proved == []

    run(main)


def test_a_frame_that_does_not_fit_the_prefix_is_our_mistake(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        with pytest.raises(ValueError, match="frame of 4097 bytes; the largest on this wire is 4096"):
            pair.wire.send(b"x" * 4097)
        assert pair.wire.is_open
        pair.wire.close("done")
        await pair.lost()

    run(main)


def test_a_slow_loris_is_dropped_though_it_never_is_silent(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        await pair.peer.send(len2(b"fine") + b"\x00\x40")
        await until(lambda: pair.wire.partial_since is not None, "the frame's start")
        steps = int(limits.KIOSK_PARTIAL_FRAME_S // 10)
        for _ in range(steps):
            pair.clock.at += 10
            before = pair.wire.heard_at
            await pair.peer.send(b"x")
            await until(lambda: pair.wire.heard_at > before, "one byte")  # noqa: B023
            pair.wire.check(pair.clock.at, 600)
            assert pair.wire.is_open
        pair.clock.at += 0.1
        pair.wire.check(pair.clock.at, 600)
        assert await pair.lost() == "frame not complete within 30 s"
        assert pair.observer.counts["switch_bad_frames_total", ("test", "partial")] == 1

    run(main)


def test_a_busy_wire_whose_reads_end_inside_frames_is_no_slow_loris(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        for _ in range(10):  # each read completes one frame and begins the next
            pair.clock.at += 20
            count = len(pair.owner.frames)
            await pair.peer.send((b"\x00\x04" if not count else b"") + b"full\x00\x04")
            await until(lambda: len(pair.owner.frames) == count + 1, "a frame")  # noqa: B023
            pair.wire.check(pair.clock.at, 600)
        assert pair.wire.is_open
        pair.wire.close("done")
        await pair.lost()

    run(main)


def test_a_wire_that_rests_reads_nothing_and_then_everything(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        pair.wire.rest(0.2)
        pair.wire.rest(60.0)  # it rests already
        await pair.peer.send(len2(b"one", b"two"))
        assert pair.wire.send(b"answer") and await pair.peer.receive(8) == len2(b"answer")
        assert pair.owner.frames == [], "it still writes"
        await until(lambda: pair.owner.frames == [b"one", b"two"], "what came while it rested")
        pair.wire.rest(0.05)
        pair.wire.close("done")
        assert await pair.lost() == "done"
        await asyncio.sleep(0.1)  # the end of the rest finds it closed
        pair.wire.rest(0.05)

    run(main)


def test_a_peer_that_leaves_while_its_wire_rests_is_noticed(run: Run) -> None:
    async def main() -> None:
        pair = await Pair.new()
        pair.wire.rest(0.05)
        reset(pair.peer.sock)
        assert await pair.lost()

    run(main)
