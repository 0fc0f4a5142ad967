"""A host that wants one connection per transaction: what is heard, and what is known of a frame whose line was cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from switch import limits
from switch.net.framed import LEN2
from switch.net.upstream import TransactionDialer

from .harness import HeldDice, Owner, Recorder, Run, len2, until


class Host:
    """Answers each connection's first frame with its reverse; ``mood`` says otherwise."""

    def __init__(self) -> None:
        self.mood = "answer"
        self.heard: list[bytes] = []
        self.calls: list[asyncio.StreamWriter] = []
        self.ended = 0

    async def start(self, port: int = 0) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port: int = self.server.sockets[0].getsockname()[1]

    def off(self) -> None:
        self.server.close()
        for writer in self.calls:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls.append(writer)
        try:
            size = int.from_bytes(await reader.readexactly(2), "big")
            frame = await reader.readexactly(size)
            self.heard.append(frame)
            if self.mood == "cut":
                writer.transport.abort()
            elif self.mood == "half":
                writer.write(b"\0\x09half")
                await writer.drain()
                writer.transport.abort()
            elif self.mood == "twice":
                writer.write(len2(frame[::-1], b"again"))
            elif self.mood == "answer":
                writer.write(len2(frame[::-1]))
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        self.ended += 1
        writer.close()


class Link:
    def __init__(self, port: int, answer_s: float, **options: Any) -> None:
        self.owner, self.observer = Owner(), Recorder()
        self.dialer = TransactionDialer(
            *("127.0.0.1", port, LEN2, self.owner, self.observer, HeldDice()),
            name="unionpay",
            answer_s=answer_s,
            **options,
        )


@asynccontextmanager
async def link(host: Host, answer_s: float = 60.0, **options: Any) -> AsyncIterator[Link]:
    await host.start()
    made = Link(host.port, answer_s, **options)
    made.dialer.start()
    await until(lambda: made.owner.up, "the link is there")
    try:
        yield made
    finally:
        await made.dialer.stop()
        assert not made.dialer._calls and not made.dialer._by_token
        host.off()


def test_each_frame_has_a_connection_of_its_own_that_ends_with_the_answer(run: Run) -> None:
    async def main() -> None:
        host = Host()
        async with link(host) as made:
            for number in range(10):
                assert made.dialer.send(b"request %d" % number, object())
            await until(lambda: len(made.owner.frames) == 10, "ten answers")
            assert sorted(made.owner.frames) == sorted((b"request %d" % number)[::-1] for number in range(10))
            await until(lambda: host.ended == 10, "ten connections closed")
            assert len(host.calls) == 10
            assert not made.owner.frames_lost and not made.owner.lost and made.owner.wires == [made.dialer]

    run(main)


def test_a_second_frame_on_one_connection_is_not_heard(run: Run) -> None:
    async def main() -> None:
        host = Host()
        host.mood = "twice"
        async with link(host) as made:
            assert made.dialer.send(b"one")
            await until(lambda: host.ended == 1, "closed")
            assert made.owner.frames == [b"eno"]

    run(main)


@pytest.mark.parametrize("mood", ["cut", "half"])
def test_a_connection_cut_before_its_answer_is_told_as_unknown_and_costs_no_other(run: Run, mood: str) -> None:
    async def main() -> None:
        host = Host()
        async with link(host) as made:
            host.mood = "mute"
            assert made.dialer.send(b"neighbour", "neighbour")
            await until(lambda: host.heard == [b"neighbour"], "the neighbour's frame")
            host.mood = mood
            assert made.dialer.send(b"purchase", "purchase")
            await until(lambda: made.owner.frames_lost, "the loss told")
            assert made.owner.frames_lost == [("purchase", False)], "it has left, and may have been acted on"
            assert made.owner.lost == [] and made.dialer.is_open

    run(main)


def test_a_frame_that_could_not_be_dialled_for_never_left(run: Run) -> None:
    async def main() -> None:
        host = Host()
        async with link(host) as made:
            host.off()
            assert made.dialer.send(b"purchase", "purchase") and made.dialer.unflushed == ("purchase",)
            await until(lambda: made.owner.frames_lost, "the loss told")
            assert made.owner.frames_lost == [("purchase", True)] and made.owner.lost == []
            assert "refused" in made.observer.named("link.dial_failed")[0]["reason"]
            for number in range(1, limits.DIAL_FAILURES_MAX):  # never so many in a row
                await host.start(host.port)
                assert made.dialer.send(b"again")
                await until(lambda: len(made.owner.frames) == number, "the host back")  # noqa: B023
                host.off()
                assert made.dialer.send(b"purchase", number)
                await until(lambda: made.owner.frames_lost[-1] == (number, True), "the loss told")  # noqa: B023
            assert made.owner.lost == [] and made.dialer.is_open

    run(main)


def test_dials_that_fail_in_a_row_lose_the_link_until_one_goes_through(run: Run) -> None:
    async def main() -> None:
        host = Host()
        async with link(host) as made:
            host.off()
            for number in range(limits.DIAL_FAILURES_MAX):
                assert made.dialer.send(b"purchase", f"purchase {number}")
            await until(lambda: made.owner.lost, "the link lost")
            assert "cannot be dialled" in made.owner.lost[0][1]
            await until(lambda: len(made.owner.up) >= 2, "there again, to be probed")
            assert made.dialer.send(b"probe")
            await until(lambda: len(made.owner.lost) == 2, "the first failure is enough now")
            await host.start(host.port)
            await until(lambda: len(made.owner.up) >= 3, "there again")
            assert made.dialer.send(b"probe")
            await until(lambda: made.owner.frames == [b"eborp"], "an answer")

    run(main)


def test_a_reset_tells_what_never_left_and_what_may_have(run: Run) -> None:
    async def main() -> None:
        host = Host()
        async with link(host) as made:
            assert made.dialer.send(b"answered")
            await until(lambda: made.owner.frames, "an answer: the link is well")
            host.mood = "mute"
            assert made.dialer.send(b"left", "left")
            await until(lambda: host.heard[-1] == b"left", "one frame")
            assert made.dialer.send(b"dialling", "dialling")
            made.dialer.reset("no answer to the echo test")
            assert not made.dialer.send(b"too late") and made.owner.lost == [], "told, but not from within the call"
            await until(lambda: made.owner.lost, "the loss")
            assert made.owner.proved == ["dialling"] and made.owner.frames_lost == []
            await until(lambda: host.ended == len(host.calls) >= 1, "its connections are gone")
            await until(lambda: len(made.owner.up) == 2, "there again")

    run(main)


def test_what_may_not_be_written_any_more_is_told_as_never_sent(run: Run) -> None:
    async def main() -> None:
        host = Host()
        async with link(host, may_write=lambda: False) as made:
            assert made.dialer.send(b"purchase", "purchase")
            await until(lambda: made.owner.frames_lost, "told")
            assert made.owner.frames_lost == [("purchase", True)] and host.heard == []

    run(main)


def test_a_host_that_never_answers_holds_a_connection_for_a_bounded_time(run: Run) -> None:
    async def main() -> None:
        host = Host()
        host.mood = "mute"
        async with link(host, answer_s=0.05) as made:
            assert made.dialer.send(b"purchase", "purchase")
            await until(lambda: host.ended == 1, "closed")
            assert made.owner.frames_lost == [], "its owner has its own deadline"

    run(main)


def test_connections_at_once_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRANSACTION_CONNECTIONS_MAX", 3)

    async def main() -> None:
        host = Host()
        host.mood = "mute"
        async with link(host) as made:
            assert [made.dialer.send(b"purchase") for _ in range(5)] == [True, True, True, False, False]
            await until(lambda: len(host.heard) == 3, "three frames")
            host.calls[0].write(len2(b"answer"))
            await until(lambda: made.owner.frames == [b"answer"] and len(made.dialer._calls) == 2, "one free again")
            assert made.dialer.send(b"purchase")

    run(main)


def test_a_frame_sent_again_for_the_same_owner_is_the_one_whose_fate_it_hears(run: Run) -> None:
    async def main() -> None:
        host = Host()
        host.mood = "mute"
        async with link(host) as made:
            owner = object()
            assert made.dialer.send(b"purchase", owner)
            await until(lambda: host.heard == [b"purchase"], "the purchase")
            assert made.dialer.send(b"reversal", owner)
            await until(lambda: len(host.heard) == 2, "its reversal")
            host.calls[0].transport.abort()
            await until(lambda: len(made.dialer._calls) == 1, "the purchase's connection gone")
            assert made.owner.frames_lost == [], "that one had been given up"
            host.calls[1].transport.abort()
            await until(lambda: made.owner.frames_lost == [(owner, False)], "the reversal's fate")

    run(main)


def test_nothing_leaves_for_a_port_where_nobody_listens(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            made = Link(taken.getsockname()[1], 60.0)
            made.dialer.start()
            await until(lambda: made.owner.up, "the link is there")
            assert made.dialer.send(b"purchase", "purchase")
            await until(lambda: made.owner.frames_lost == [("purchase", True)], "told")
            await made.dialer.stop()

    run(main)
