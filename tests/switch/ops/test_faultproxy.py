"""The fault proxy on real sockets: what it spoils is exactly what it was told to spoil."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from switch.cli import main
from switch.errors import ConfigError, StartError
from switch.ops.faultproxy import FaultProxy, Order, read_faults, serve_control, tell

FRAME = b"\x00\x10" + bytes(range(16))


class Echo:
    """A peer that sends back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.ends = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                self.heard += data
                writer.write(data)
        except ConnectionError:
            pass
        self.ends += 1
        writer.close()


@asynccontextmanager
async def proxied(**options: Any) -> AsyncIterator[tuple[FaultProxy, Echo, int]]:
    echo = Echo()
    server = await asyncio.start_server(echo.talk, "127.0.0.1", 0)
    proxy = FaultProxy(("127.0.0.1", server.sockets[0].getsockname()[1]), **options)
    port = await proxy.start("127.0.0.1", 0)
    try:
        yield proxy, echo, port
    finally:
        await proxy.stop()
        server.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def play(story: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(story())  # type: ignore[arg-type]


def test_without_faults_bytes_go_through_in_both_directions() -> None:
    async def story() -> None:
        async with proxied() as (proxy, echo, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(bytes(100_000))
            assert await reader.readexactly(100_000) == bytes(100_000)
            writer.write_eof()
            assert await reader.read() == b"" and echo.ends == 1
            assert proxy.counts["up bytes"] == proxy.counts["down bytes"] == 100_000
            writer.close()

    play(story)


def test_a_cut_at_every_byte_of_a_frame() -> None:
    async def story() -> None:
        for offset in range(len(FRAME)):
            async with proxied() as (proxy, echo, port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                proxy.obey(Order(cut_after={"up": offset}))
                writer.write(FRAME)
                with pytest.raises(ConnectionResetError):
                    while await reader.read(100):
                        pass
                    raise ConnectionResetError  # an end instead of a reset would be no cut cable, but also an end
                await until(lambda echo=echo: echo.ends == 1)  # type: ignore[misc]
                assert FRAME.startswith(echo.heard) and len(echo.heard) <= offset
                assert proxy.counts["up cut"] == 1
                writer.close()

    play(story)


def test_a_half_open_line_swallows_one_direction_and_keeps_the_other() -> None:
    async def story() -> None:
        async with proxied() as (proxy, echo, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            proxy.obey(Order(down={"silent": True}))
            writer.write(FRAME)
            await until(lambda: echo.heard == FRAME)
            await until(lambda: proxy.counts["down swallowed"] == len(FRAME))
            proxy.obey(Order(down={"silent": False}))
            writer.write(FRAME)
            assert await reader.readexactly(len(FRAME)) == FRAME
            writer.close()

    play(story)


def test_frames_are_lost_repeated_and_reordered_whole() -> None:
    async def story() -> None:
        frames = [len(text).to_bytes(2, "big") + text for text in (b"one", b"three", b"five and more", b"", b"x" * 300)]
        for fault in ("loss", "duplicate", "reorder"):
            async with proxied(prefix=2, seed=5) as (proxy, echo, port):
                proxy.obey(Order(up={fault: 0.5}))
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                for _ in range(40):
                    for frame in frames:
                        writer.write(frame)
                        await asyncio.sleep(0)
                writer.write_eof()
                await until(lambda echo=echo: echo.ends == 1)  # type: ignore[misc]
                seen, rest = [], echo.heard
                while rest:
                    size = 2 + int.from_bytes(rest[:2], "big")
                    seen.append(rest[:size])
                    rest = rest[size:]
                assert set(seen) <= set(frames), "never half a frame"
                count = {"loss": proxy.counts["up lost"], "duplicate": proxy.counts["up repeated"]}.get(fault, 0)
                assert len(seen) == 200 + (count if fault == "duplicate" else -count) - (len(seen) == 199)
                if fault == "reorder":
                    assert proxy.counts["up reordered"] > 10 and seen != (frames * 40)[: len(seen)]
                else:
                    assert count > 20
                writer.close()

    play(story)


def test_new_connections_are_refused_or_left_hanging_and_the_old_ones_reset() -> None:
    async def story() -> None:
        async with proxied() as (proxy, echo, port):
            old, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(FRAME)
            await old.readexactly(len(FRAME))
            proxy.obey(Order(refuse=True, reset=True))
            with pytest.raises(ConnectionError):
                await old.readexactly(1)
                raise ConnectionResetError
            fresh, other = await asyncio.open_connection("127.0.0.1", port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await fresh.readexactly(1)
            proxy.obey(Order(refuse=False, hang=True))
            fresh, third = await asyncio.open_connection("127.0.0.1", port)
            third.write(FRAME)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(fresh.read(1), 0.2)
            assert echo.heard == FRAME
            for each in (writer, other, third):
                each.close()

    play(story)


def test_it_takes_orders_while_it_runs_and_says_what_is_wrong_with_them(tmp_path: Path) -> None:
    async def story() -> None:
        async with proxied() as (proxy, _, _):
            path = tmp_path / "p.sock"
            server = await serve_control(proxy, path)
            told = await asyncio.to_thread(tell, path, {"up": {"delay_ms": [5, 9]}, "cut_after": {"down": 3}})
            assert told["up"]["delay_ms"] == [5.0, 9.0] and told["waiting_cuts"] == {"down": 3}
            for order, why in (
                ({"up": {"loss": 0.1}}, "need --prefix"),
                ({"up": {"cut": 7}}, "from 0 to 1"),
                ({"down": {"delay_ms": [9, 5]}}, "smaller first"),
                ({"sideways": {}}, "unknown field"),
                ({"up": {"lost": 1}}, "unknown field"),
            ):
                with pytest.raises(StartError, match=why):
                    await asyncio.to_thread(tell, path, order)
            assert (await asyncio.to_thread(tell, path, {}))["up"]["delay_ms"] == [5.0, 9.0], "nothing half-done"
            server.close()

    play(story)


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, why in (
        (["--listen", "127.0.0.1:0"], "needs --listen HOST:PORT and --to"),
        (["--listen", "8.8.8.8:1", "--to", "127.0.0.1:1"], "not this machine"),
        (["--listen", "127.0.0.1:x", "--to", "127.0.0.1:1"], "expected HOST:PORT"),
        (["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--fault", "up.loss"], "expected e.g."),
        (["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--fault", "up.loss=0.1"], "need --prefix"),
        (["--tell", "{}"], "without --control"),
        (["--control", str(tmp_path / "none"), "--tell", "{}"], "no fault proxy answers"),
    ):
        assert main(["faultproxy", *arguments]) == 2
        assert why in capsys.readouterr().err, arguments
    assert read_faults(["both.delay_ms=20..80", "down.slow=true"]) == {
        "up": {"delay_ms": [20.0, 80.0]},
        "down": {"delay_ms": [20.0, 80.0], "slow": True},
    }
    with pytest.raises(ConfigError):
        read_faults(["up.loss=much"])
