"""Admin asks the switch: answers, refusals, and every way in which nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from admin import limits
from admin.control import RefusedError, Switches, ask
from admin.errors import UnavailableError
from switch.errors import BadRequestError
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
from switch.runtime.control import Ask, ControlSocket

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _socket(path: Path, told: list[str] | None = None, wait: asyncio.Event | None = None) -> ControlSocket:
    """The switch's own socket, with two orders."""

    async def status(given: Ask) -> Any:
        if told is not None:
            told.append(path.name)
        if wait is not None:
            await wait.wait()
        return {"instance": path.name}

    async def service(given: Ask) -> Any:
        raise BadRequestError("no_terminal", f"no terminal {given.terminal}")

    observer = Observation(Metrics(), Log("error"))
    return ControlSocket(path, {"status": status, "service": service}, observer, changing=frozenset({"service"}))


def test_an_answer_and_a_refusal_come_back_as_what_they_are(short_dir: Path) -> None:
    async def story() -> None:
        path = short_dir / "a.sock"
        socket = _socket(path)
        await socket.start()
        try:
            assert await ask(path, do="status") == {"instance": "a.sock"}
            with pytest.raises(RefusedError) as refused:
                await ask(path, do="service", terminal="NOBODY00")
            assert refused.value.switch_code == "no_terminal" and "no terminal NOBODY00" in refused.value.said
            with pytest.raises(RefusedError, match="is no order"):
                await ask(path, do="drain")
        finally:
            await socket.stop()

    asyncio.run(story())


def test_a_word_that_the_contract_does_not_know_is_a_fault_of_ours(short_dir: Path) -> None:
    with pytest.raises(AssertionError, match="dance"):
        asyncio.run(ask(short_dir / "none", do="dance"))


@asynccontextmanager
async def _peer(path: Path, talk: Talk) -> AsyncIterator[None]:
    """Something that is no switch behind the file; its conversations have ended when this ends."""
    talks: set[asyncio.Task[None]] = set()

    async def talked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        talks.add(me)
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(talked, str(path))
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*talks)


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()


async def _half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b'{"ok": {"inst')


async def _endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    with contextlib.suppress(OSError):
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()


async def _other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(json.dumps(["ok"]).encode() + b"\n")


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (None, "switch_away"),
        (_silent, "switch_silent"),
        (_hangs_up, "switch_silent"),
        (_half, "switch_silent"),
        (_endless, "switch_silent"),
        (_other, "switch_silent"),
    ],
    ids=["nobody", "silent", "hangs up", "half an answer", "an answer without end", "no object"],
)
def test_whatever_is_no_answer_is_an_outage_within_the_bound(short_dir: Path, talk: Talk | None, code: str) -> None:
    async def story() -> None:
        path = short_dir / "a.sock"
        async with contextlib.nullcontext() if talk is None else _peer(path, talk):
            with pytest.raises(UnavailableError) as away:
                await ask(path, do="status", timeout_s=0.5 if talk is _silent else limits.CONTROL_ANSWER_S)
            assert away.value.code == code and away.value.hint

    asyncio.run(story())


def test_a_socket_of_a_switch_that_was_killed_is_a_switch_that_is_down(short_dir: Path) -> None:
    async def story() -> None:
        path = short_dir / "a.sock"
        async with _peer(path, _silent):
            pass
        assert path.exists(), "the file stays, as after SIGKILL"
        with pytest.raises(UnavailableError, match="没有运行"):
            await ask(path, do="status")

    asyncio.run(story())


def test_any_takes_the_first_that_is_there_and_all_tells_who_is_not(short_dir: Path) -> None:
    async def story() -> None:
        told: list[str] = []
        paths = [short_dir / "a.sock", short_dir / "b.sock", short_dir / "c.sock"]
        sockets = [_socket(path, told) for path in paths[1:]]
        for socket in sockets:
            await socket.start()
        try:
            switches = Switches(paths)
            assert await switches.any(do="status") == {"instance": "b.sock"} and told == ["b.sock"]
            answers = await switches.all(do="status")
            assert list(answers) == [str(path) for path in paths]
            away, second, third = answers.values()
            assert isinstance(away, UnavailableError)
            assert (second, third) == ({"instance": "b.sock"}, {"instance": "c.sock"})
            with pytest.raises(RefusedError):
                await switches.any(do="service", terminal="NOBODY00")
        finally:
            for socket in sockets:
                await socket.stop()
        with pytest.raises(UnavailableError):
            await switches.any(do="status")
        with pytest.raises(UnavailableError) as unknown:
            await Switches([]).any(do="status")
        assert unknown.value.code == "switch_unknown"

    asyncio.run(story())


def test_an_order_that_may_have_been_taken_is_not_given_to_a_second_worker(short_dir: Path) -> None:
    async def story() -> None:
        told: list[str] = []
        second = _socket(short_dir / "b.sock", told)
        await second.start()
        try:
            async with _peer(short_dir / "a.sock", _silent):
                switches = Switches([short_dir / "a.sock", short_dir / "b.sock"])
                with pytest.raises(UnavailableError) as silent:
                    await switches.any(do="service", terminal="TERM0001", timeout_s=0.5)
                assert silent.value.code == "switch_silent" and "可能已经执行" in silent.value.hint
                assert await switches.any(do="status", timeout_s=0.5) == {"instance": "b.sock"}, "a question may go on"
        finally:
            await second.stop()

    asyncio.run(story())


def test_a_crowd_of_callers_leaves_places_at_the_switch(short_dir: Path) -> None:
    async def story() -> None:
        told: list[str] = []
        wait = asyncio.Event()
        path = short_dir / "a.sock"
        socket = _socket(path, told, wait)
        await socket.start()
        try:
            switches = Switches([path])
            crowd = [asyncio.create_task(switches.any(do="status")) for _ in range(20)]
            while len(told) < limits.CONTROL_CALLERS:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            other = asyncio.create_task(ask(path, do="status"))
            while len(told) == limits.CONTROL_CALLERS:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert len(told) == limits.CONTROL_CALLERS + 1, "somebody who is not of us is heard at once"
            with pytest.raises(UnavailableError) as busy:
                await switches.any(do="status", timeout_s=0.2)
            assert busy.value.code == "switch_busy"
            wait.set()
            assert len(await asyncio.gather(*crowd, other)) == 21
        finally:
            await socket.stop()

    asyncio.run(story())
