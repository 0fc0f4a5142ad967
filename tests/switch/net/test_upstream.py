"""A link that comes back, and how hard it tries."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from switch import limits
from switch.net.framed import LEN2, FramedProtocol
from switch.net.upstream import Dialer, backoff_s
from switch.ports import Wire

from .harness import HeldDice, Owner, Peer, Recorder, Run, len2, until


class Host:
    """A listening peer that can be switched off and on again at the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.server: asyncio.Server | None = None
        self.accepted: list[asyncio.StreamWriter] = []
        self.heard = b""
        self.hang_up = False

    async def on(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(writer)
        if self.hang_up:
            writer.close()
            return
        try:
            while data := await reader.read(1000):
                self.heard += data
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    def off(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.accepted:
            writer.transport.abort()


class Link:
    def __init__(self, port: int, dice: float = 0.0) -> None:
        self.owner, self.observer, self.dice = Owner(), Recorder(), HeldDice(dice)
        self.dialer = Dialer("127.0.0.1", port, LEN2, self.owner, self.observer, self.dice, name="unionpay")

    async def up(self, count: int = 1) -> Wire:
        await until(lambda: len(self.owner.up) == count, "wire_up")
        return self.owner.up[-1]


def test_back_off_doubles_and_is_bounded() -> None:
    longest = [backoff_s(attempt, HeldDice(1.0)) for attempt in range(1, 10)]
    assert longest == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]
    assert backoff_s(10**9, HeldDice(0.999)) < limits.BACKOFF_MAX_S
    assert backoff_s(5, HeldDice(0.0)) == 0.0  # full jitter reaches down to nothing


def test_a_link_is_dialled_and_carries_frames(run: Run) -> None:
    async def main() -> None:
        host = Host()
        await host.on()
        link = Link(host.port)

        def greet(wire: Wire) -> None:  # may send at once
            assert wire.send(b"first")

        link.owner.on_up = greet
        link.dialer.start()
        wire = await link.up()
        await until(lambda: link.owner.frames == [b"first"], "the echo")
        assert link.dialer.wire is wire and wire.peer == f"127.0.0.1:{host.port}"
        assert wire.send(b"last")
        await link.dialer.stop()
        assert not wire.is_open
        assert [reason for _, reason in link.owner.lost] == ["stopping"]
        await until(lambda: host.heard == len2(b"first", b"last"), "what was queued at the stop")
        host.off()

    run(main)


def test_a_link_comes_back_after_its_peer_was_away(run: Run) -> None:
    async def main() -> None:
        host = Host()
        await host.on()
        link = Link(host.port)
        link.dialer.start()
        for count in range(1, 4):
            wire = await link.up(count)
            assert wire.send(b"hello")
            await until(lambda: len(link.owner.frames) == count, "the echo")  # noqa: B023
            assert len(link.owner.lost) == count - 1
            host.off()
            await until(lambda: len(link.owner.lost) == count, "the loss")  # noqa: B023
            assert link.dialer.wire is None
            failures = len(link.observer.named("link.dial_failed"))
            await until(lambda: len(link.observer.named("link.dial_failed")) > failures, "a refused dial")  # noqa: B023
            await host.on()
        await link.up(4)
        assert link.observer.named("link.dial_failed")[0]["reason"] == "connection refused"
        await link.dialer.stop()
        host.off()

    run(main)


def test_reset_drops_and_dials_again_and_proves_what_was_queued(run: Run) -> None:
    async def main() -> None:
        host = Host()
        await host.on()
        link = Link(host.port)
        link.dialer.start()
        wire = await link.up()
        assert wire.send(b"purchase", "000123")
        link.dialer.reset("no echo answer")
        assert not wire.is_open and link.owner.lost == []
        second = await link.up(2)
        assert second is not wire and second.is_open
        assert link.owner.lost == [(wire, "no echo answer")] and link.owner.proved == ["000123"]
        assert host.heard == b""
        await link.dialer.stop()
        host.off()

    run(main)


def test_a_peer_that_accepts_and_hangs_up_is_dialled_more_and_more_rarely(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(delay: float) -> None:
        slept.append(delay)
        await real_sleep(0)

    async def main() -> None:
        host = Host()
        host.hang_up = True
        await host.on()
        link = Link(host.port, dice=0.5)
        monkeypatch.setattr("switch.net.upstream.asyncio.sleep", sleep)
        link.dialer.start()
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + 20
        while len(slept) < 10:
            assert loop.time() < give_up_at
            await real_sleep(0.002)
        assert slept[:10] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 7.5, 7.5, 7.5]

        host.hang_up = False  # it is back, and speaks: the next loss is dialled soon
        while not link.owner.frames:
            if link.dialer.wire is not None:
                link.dialer.wire.send(b"x")
            assert loop.time() < give_up_at
            await real_sleep(0.002)
        slept.clear()
        link.dialer.reset("test")
        while not slept:
            assert loop.time() < give_up_at
            await real_sleep(0.002)
        assert slept[0] == 0.1
        await link.dialer.stop()
        host.off()

    run(main)


def test_a_dial_that_gets_no_answer_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECT_TIMEOUT_S", 0.05)

    async def main() -> None:
        # A full accept queue: the kernel answers no further SYN.
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            port = deaf.getsockname()[1]
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            link = Link(port)
            link.dialer.start()
            await until(lambda: len(link.observer.named("link.dial_failed")) >= 2, "two given up")
            assert link.observer.named("link.dial_failed")[0]["reason"] == "no answer in time"
            assert link.owner.up == []
            await link.dialer.stop()
            for filler in fillers:
                filler.close()

    run(main)


def test_stop_while_waiting_to_dial_again_and_before_start(run: Run) -> None:
    async def main() -> None:
        await Link(1).dialer.stop()
        link = Link(1, dice=0.99)
        link.dialer.start()
        await until(lambda: link.observer.named("link.dial_failed"), "a refused dial")
        await link.dialer.stop()
        assert link.owner.up == [] and link.owner.lost == []

    run(main)


def test_stop_in_the_middle_of_a_dial_leaves_nothing_open(run: Run) -> None:
    async def main() -> None:
        host = Host()
        await host.on()
        for turns in range(25):
            link = Link(host.port)
            link.dialer.start()
            for _ in range(turns):
                await asyncio.sleep(0)
            await link.dialer.stop()
            assert link.dialer.wire is None
            assert [wire for wire, _ in link.owner.lost] == link.owner.up
        host.off()

    run(main)


def test_an_owner_that_fails_in_wire_up_loses_that_wire_only(run: Run) -> None:
    async def main() -> None:
        host = Host()
        await host.on()
        link = Link(host.port)

        def fail(_wire: Wire) -> None:
            if len(link.owner.up) == 1:
                raise RuntimeError("a fault of ours")

        link.owner.on_up = fail
        link.dialer.start()
        await link.up(2)
        assert link.owner.lost[0][1] == "our handler failed: RuntimeError"
        assert link.observer.named("wire.handler_failed")[0]["call"] == "wire_up"
        await link.dialer.stop()
        host.off()

    run(main)


@pytest.mark.interpreted
def test_a_dialer_that_reaches_itself_does_not_call_that_a_link(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FramedProtocol, "is_self_connected", property(lambda _self: True))

    async def main() -> None:
        host = Host()
        await host.on()
        link = Link(host.port)
        link.dialer.start()
        await until(lambda: len(link.observer.named("link.dial_failed")) >= 2, "two refusals")
        assert "reached itself" in link.observer.named("link.dial_failed")[0]["reason"]
        assert link.owner.up == [] and link.owner.lost == []
        await link.dialer.stop()
        host.off()

    run(main)


def test_a_socket_joined_to_itself_is_recognised(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.connect(("127.0.0.1", port))  # TCP's simultaneous open
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        owner = Owner()
        wire = FramedProtocol(LEN2, owner, Recorder(), label="test", now=loop.time)
        await loop.create_connection(lambda: cast(asyncio.Protocol, wire), sock=sock)
        assert wire.is_self_connected
        wire.close("done")
        await until(lambda: owner.lost, "the loss")

    run(main)


def test_what_a_peer_says_before_the_hand_over_comes_after_wire_up(run: Run) -> None:
    async def main() -> None:
        host = Host()
        await host.on()
        owner = Owner()
        loop = asyncio.get_running_loop()
        wire = FramedProtocol(LEN2, owner, Recorder(), label="test", now=loop.time, held=True)
        await loop.create_connection(lambda: cast(asyncio.Protocol, wire), "127.0.0.1", host.port)
        await until(lambda: host.accepted, "the host's side")
        host.accepted[0].write(len2(b"early", b"bird"))
        await until(lambda: wire.heard_at and wire._early, "the early bytes")
        assert owner.frames == [] and wire.is_open
        wire.release()
        assert owner.frames == [b"early", b"bird"]
        wire.close("done")
        await until(lambda: owner.lost, "the loss")
        host.off()

    run(main)


def test_a_name_that_does_not_exist_is_tried_again(run: Run) -> None:
    async def main() -> None:
        for name in ("no-such-host.invalid", "a..b", "x" * 300):
            link = Link(1)
            link.dialer = Dialer(name, 1, LEN2, link.owner, link.observer, link.dice, name="marketing")
            link.dialer.start()
            await until(lambda: len(link.observer.named("link.dial_failed")) >= 2, "two failures")  # noqa: B023
            assert link.observer.named("link.dial_failed")[1]["attempt"] == 2
            await link.dialer.stop()

    run(main)


def test_a_plain_peer_sees_one_connection_at_a_time(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            loop = asyncio.get_running_loop()
            link = Link(server.getsockname()[1])
            link.dialer.start()
            first, _ = await loop.sock_accept(server)
            peer = Peer(first)
            await peer.send(len2(b"hi"))
            await until(lambda: link.owner.frames == [b"hi"], "the frame")
            with pytest.raises(BlockingIOError):
                server.accept()
            await link.dialer.stop()
            assert await peer.ended() == b""
            peer.close()

    run(main)
