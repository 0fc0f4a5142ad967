"""Kiosks by the hundred, and the ones that should not stay."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from switch import limits
from switch.config import LimitsConfig, ListenConfig
from switch.errors import StartError
from switch.net import listener as listener_module
from switch.net.listener import KioskListener
from switch.ports import Wire

from .harness import HeldClock, Owner, Peer, Recorder, Run, len2, reset, until


def echo(wire: Wire, frame: bytes) -> None:
    assert wire.send(frame)


class Door:
    """A started listener that echoes."""

    def __init__(
        self,
        *,
        connections_max: int = 1000,
        port: int = 0,
        reuse_port: bool = False,
        source_connections_max: int = 1000,
    ) -> None:
        self.owner, self.observer, self.clock = Owner(), Recorder(), HeldClock()
        self.owner.on_frame = echo
        config = ListenConfig(
            host="127.0.0.1",
            port=port,
            connections_max=connections_max,
            limits=LimitsConfig(source_connections_max=source_connections_max),
        )
        self.listener = KioskListener(config, self.owner, self.observer, self.clock, reuse_port=reuse_port)


def test_five_hundred_kiosks_are_answered_and_leave(run: Run) -> None:
    async def main() -> None:
        door = Door()
        await door.listener.start()
        peers = await asyncio.gather(*(Peer.connect(door.listener.port) for _ in range(500)))
        await until(lambda: door.listener.wires == 500, "500 connections")
        assert door.observer.gauges["switch_kiosk_connections", ()] == 500

        async def talk(number: int, peer: Peer) -> None:
            for turn in range(3):
                frame = f"kiosk {number} turn {turn}".encode()
                await peer.send(len2(frame))
                assert await peer.receive(len(frame) + 2) == len2(frame)

        await asyncio.gather(*(talk(number, peer) for number, peer in enumerate(peers)))
        assert door.observer.counts["switch_frames_total", ("kiosk", "in")] == 1500
        for number, peer in enumerate(peers):
            reset(peer.sock) if number % 2 else peer.close()
        await until(lambda: door.listener.wires == 0, "all gone")
        assert len(door.owner.lost) == 500 and len({id(wire) for wire, _ in door.owner.lost}) == 500
        assert door.observer.gauges["switch_kiosk_connections", ()] == 0
        await door.listener.stop("done")

    run(main)


@pytest.mark.parametrize("most", [{"connections_max": 3}, {"source_connections_max": 3}])
def test_who_says_nothing_gives_way_the_oldest_first_and_who_spoke_stays(run: Run, most: dict[str, int]) -> None:
    async def main() -> None:
        door = Door(**most)  # type: ignore[arg-type]
        await door.listener.start()
        kiosk = await Peer.connect(door.listener.port)
        await kiosk.send(len2(b"here"))
        assert await kiosk.receive(6) == len2(b"here")
        mute = [await Peer.connect(door.listener.port) for _ in range(2)]
        await until(lambda: door.listener.wires == 3, "full")
        third = await Peer.connect(door.listener.port)
        assert await mute[0].ended() == b""
        await third.send(len2(b"me too"))
        assert await third.receive(8) == len2(b"me too")
        assert door.listener.wires == 3
        await mute[1].send(len2(b""))  # a line test is no word
        fourth = await Peer.connect(door.listener.port)
        assert await mute[1].ended() == b""
        await fourth.send(len2(b"and me"))
        assert await fourth.receive(8) == len2(b"and me")
        fifth = await Peer.connect(door.listener.port)
        assert await fifth.ended() == b"", "all have spoken"
        await kiosk.send(len2(b"still here"))
        assert await kiosk.receive(12) == len2(b"still here")
        assert door.observer.counts["switch_admission_rejects_total", ("mute",)] == 2
        await door.listener.stop("done")
        assert door.listener.wires == 0 and not door.listener._sources and not door.listener._mute
        for peer in (kiosk, *mute, third, fourth, fifth):
            peer.close()

    run(main)


def test_who_says_nothing_within_a_minute_is_closed_and_a_quiet_kiosk_is_not(run: Run) -> None:
    async def main() -> None:
        door = Door()
        await door.listener.start()
        kiosk, mute = await Peer.connect(door.listener.port), await Peer.connect(door.listener.port)
        await kiosk.send(len2(b"here"))
        assert await kiosk.receive(6) == len2(b"here")
        await until(lambda: door.listener.wires == 2, "two")
        door.clock.at += limits.KIOSK_FIRST_FRAME_S + 1.0
        door.listener.sweep()
        assert await mute.ended() == b""
        await until(lambda: door.listener.wires == 1, "the kiosk")
        await kiosk.send(len2(b"still here"))
        assert await kiosk.receive(12) == len2(b"still here")
        await door.listener.stop("done")
        kiosk.close()
        mute.close()

    run(main)


def test_a_kiosk_gets_less_room_for_what_it_does_not_read_than_a_host(run: Run) -> None:
    async def main() -> None:
        door = Door()
        frames = limits.KIOSK_WRITE_BUFFER_MAX // 4000 + 1

        def tell_all(wire: Wire, _frame: bytes) -> None:
            for _ in range(frames):
                wire.send(bytes(4000))

        door.owner.on_frame = tell_all
        await door.listener.start()
        kiosk = await Peer.connect(door.listener.port)
        await kiosk.send(len2(b"tell me all"))
        assert await kiosk.ended() == b"", "nothing of it was written"
        (aborted,) = door.observer.named("wire.aborted")
        assert str(limits.KIOSK_WRITE_BUFFER_MAX) in aborted["reason"]
        await door.listener.stop("done")
        kiosk.close()

    run(main)


def test_a_source_that_has_had_its_lines_gets_no_further_one(run: Run) -> None:
    async def main() -> None:
        door = Door()
        door.listener._loud = lambda wire: len(door.observer.named("wire.aborted")) < 2
        await door.listener.start()
        for _ in range(5):
            peer = await Peer.connect(door.listener.port)
            await peer.send(b"\xff\xff")
            assert await peer.ended() == b""
            peer.close()
        assert len(door.observer.named("wire.aborted")) == 2
        assert door.observer.counts["switch_bad_frames_total", ("kiosk", "too_long")] == 5
        await door.listener.stop("done")

    run(main)


def test_a_kiosk_too_many_is_turned_away_and_the_others_stay(run: Run) -> None:
    async def main() -> None:
        door = Door(connections_max=2)
        await door.listener.start()
        first, second = await Peer.connect(door.listener.port), await Peer.connect(door.listener.port)
        for peer in (first, second):
            await peer.send(len2(b"here"))
            assert await peer.receive(6) == len2(b"here")
        third = await Peer.connect(door.listener.port)
        assert await third.ended() == b""
        assert door.observer.counts["switch_admission_rejects_total", ("connections",)] == 1
        assert door.owner.lost == [] and door.listener.wires == 2

        first.close()
        await until(lambda: door.listener.wires == 1, "one left")
        fourth = await Peer.connect(door.listener.port)
        await fourth.send(len2(b"now"))
        assert await fourth.receive(5) == len2(b"now")
        await door.listener.stop("done")
        for peer in (second, third, fourth):
            peer.close()

    run(main)


def test_one_sweep_drops_the_silent_and_the_stuck_only(run: Run) -> None:
    async def main() -> None:
        door = Door()
        await door.listener.start()
        silent, stuck, lively = [await Peer.connect(door.listener.port) for _ in range(3)]
        for peer in (silent, stuck, lively):
            await peer.send(len2(b"here"))
            assert await peer.receive(6) == len2(b"here")
        door.clock.at += 590
        await lively.send(len2(b"echo"))
        await lively.receive(6)
        await stuck.send(b"\x00")
        await until(lambda: any(w.partial_since for w in door.listener._wires), "a partial frame")
        door.clock.at += 11
        door.listener.sweep()
        assert await silent.ended() == b""
        door.clock.at += 20
        door.listener.sweep()
        assert await stuck.ended() == b""
        await until(lambda: door.listener.wires == 1, "one left")
        assert [reason for _, reason in door.owner.lost] == [
            "silent for more than 600 s",
            "frame not complete within 30 s",
        ]
        await lively.send(len2(b"echo"))
        assert await lively.receive(6) == len2(b"echo")
        await door.listener.stop("done")
        for peer in (silent, stuck, lively):
            peer.close()

    run(main)


def test_the_sweep_runs_by_itself(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "SWEEP_S", 0.01)

    async def main() -> None:
        door = Door()
        await door.listener.start()
        for _ in range(2):  # again after the first time
            peer = await Peer.connect(door.listener.port)
            await until(lambda: door.listener.wires == 1, "connected")
            door.clock.at += 601
            assert await peer.ended() == b""
            peer.close()
            await until(lambda: door.listener.wires == 0, "dropped")
        await door.listener.stop("done")

    run(main)


def test_a_closed_door_keeps_those_inside(run: Run) -> None:
    async def main() -> None:
        door = Door()
        await door.listener.start()
        inside = await Peer.connect(door.listener.port)
        await until(lambda: door.listener.wires == 1, "one inside")
        door.listener.stop_accepting()
        door.listener.stop_accepting()
        await asyncio.sleep(0.01)
        with pytest.raises(OSError):
            await Peer.connect(door.listener.port)
        await inside.send(len2(b"still here"))
        assert await inside.receive(12) == len2(b"still here")

        def last_word(wire: Wire, _frame: bytes) -> None:
            wire.send(b"last word")
            door.listener.close_all("drained")

        door.owner.on_frame = last_word
        await inside.send(len2(b"x"))
        assert await inside.ended() == len2(b"last word")
        await door.listener.stop("done")
        assert [reason for _, reason in door.owner.lost] == ["drained"]
        inside.close()

    run(main)


def test_a_taken_port_is_a_clear_error(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(StartError) as caught:
                await Door(port=port).listener.start()
        assert str(caught.value) == (
            f"cannot listen for kiosks on 127.0.0.1:{port}: "
            "another program has this port; stop it or choose another port [listen]"
        )

    run(main)


def test_an_address_that_is_not_ours_is_a_clear_error(run: Run) -> None:
    async def main() -> None:
        for host, advice in (("192.0.2.1", "no interface of this machine"), ("no such host", "name not found")):
            config = ListenConfig(host=host, port=0)
            with pytest.raises(StartError, match=advice):
                await KioskListener(config, Owner(), Recorder(), HeldClock()).start()

    run(main)


def test_two_workers_share_a_port(run: Run) -> None:
    async def main() -> None:
        one = Door(reuse_port=True)
        await one.listener.start()
        two = Door(port=one.listener.port, reuse_port=True)
        await two.listener.start()
        peers = [await Peer.connect(one.listener.port) for _ in range(40)]
        await until(lambda: one.listener.wires + two.listener.wires == 40, "all connected")
        assert one.listener.wires and two.listener.wires
        for door in (one, two):
            await door.listener.stop("done")
        for peer in peers:
            peer.close()

    run(main)


def test_accepted_sockets_have_their_options(run: Run) -> None:
    async def main() -> None:
        door = Door()
        await door.listener.start()
        peer = await Peer.connect(door.listener.port)
        await until(lambda: door.listener.wires == 1, "connected")
        (wire,) = door.listener._wires
        sock = wire._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == limits.KIOSK_PARTIAL_FRAME_S * 1000
        assert wire.peer == f"127.0.0.1:{peer.sock.getsockname()[1]}"
        await door.listener.stop("done")
        peer.close()

    run(main)


def test_garbage_from_one_kiosk_does_not_touch_another(run: Run) -> None:
    async def main() -> None:
        door = Door()
        await door.listener.start()
        good, bad = await Peer.connect(door.listener.port), await Peer.connect(door.listener.port)
        await bad.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await bad.ended() == b""
        await good.send(len2(b"fine"))
        assert await good.receive(6) == len2(b"fine")
        assert [reason for _, reason in door.owner.lost] == [
            f"announced a frame of {struct.unpack('>H', b'GE')[0]} bytes; the largest is 4096"
        ]
        await door.listener.stop("done")
        good.close()
        bad.close()

    run(main)


def test_a_handler_may_close_every_wire_from_within_a_frame(run: Run) -> None:
    async def main() -> None:
        door = Door()
        await door.listener.start()

        def close_all(_wire: Wire, _frame: bytes) -> None:
            door.listener.close_all("operator")

        door.owner.on_frame = close_all
        peers = [await Peer.connect(door.listener.port) for _ in range(5)]
        await until(lambda: door.listener.wires == 5, "connected")
        await peers[0].send(len2(b"x"))
        for peer in peers:
            assert await peer.ended() == b""
            peer.close()
        await door.listener.stop("done")
        assert [reason for _, reason in door.owner.lost] == ["operator"] * 5

    run(main)
