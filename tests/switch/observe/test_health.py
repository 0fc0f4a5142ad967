"""Health answers when the loop does not."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import uvloop

from switch import limits
from switch.config import ObserveConfig
from switch.errors import StartError
from switch.limits import HEALTH_CALLERS_MAX
from switch.observe.health import Health, Heartbeat
from switch.observe.metrics import Metrics

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Recorder:
    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.observed: list[float] = []

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None: ...

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        assert name == "switch_loop_lag_seconds"
        self.observed.append(value)

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None: ...

    def event(self, name: str, **facts: Any) -> None:
        self.events[name] += 1


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class World:
    """A health server over a heartbeat that may run on a loop."""

    def __init__(self) -> None:
        self.observer = Recorder()
        self.reasons: list[str] = []
        self.is_drained = False
        self.heartbeat = Heartbeat(self.observer, not_ready=lambda: list(self.reasons), drained=lambda: self.is_drained)
        config = ObserveConfig(host="127.0.0.1", port=0)
        self.health = Health(config, self.heartbeat, Metrics().text, version={"spec": "unionpay_pos"})

    def __enter__(self) -> World:
        self.health.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.health.stop()

    def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        return ask(self.health.port, path, method)


@pytest.mark.parametrize("kind", LOOPS)
def test_live_says_no_while_the_loop_is_blocked_and_yes_afterwards(kind: str) -> None:
    answers: list[tuple[str, int, bytes]] = []

    async def main(world: World) -> None:
        loop = asyncio.get_running_loop()
        world.heartbeat.start()
        assert (await loop.run_in_executor(None, world.ask, "/live"))[0] == 200
        assert (await loop.run_in_executor(None, world.ask, "/ready"))[0] == 200

        def ask_late() -> None:
            time.sleep(2.5)
            answers.extend((path, *world.ask(path)) for path in ("/live", "/ready", "/metrics"))

        asker = threading.Thread(target=ask_late)
        asker.start()
        time.sleep(3)  # noqa: ASYNC251  # what a fault of ours would do
        await loop.run_in_executor(None, asker.join)
        await asyncio.sleep(0.1)
        assert (await loop.run_in_executor(None, world.ask, "/live"))[0] == 200
        world.heartbeat.stop()

    with World() as world, asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main(world))
    (_, live, _), (_, ready, reasons), (_, metrics, _) = answers
    assert (live, ready, metrics) == (503, 503, 200)
    assert "the loop has not turned for 2." in json.loads(reasons)["reasons"][0]
    assert world.observer.events["loop.stalled"] == 1 and max(world.observer.observed) > limits.LOOP_LAG_MAX_S


def test_ready_gives_every_reason_and_drained_follows() -> None:
    async def main(world: World) -> None:
        async def answer(path: str) -> tuple[int, dict[str, Any]]:
            status, body = await asyncio.get_running_loop().run_in_executor(None, world.ask, path)
            return status, json.loads(body)

        assert await answer("/ready") == (503, {"ready": False, "reasons": ["starting"], "unknown": [], "notes": []})
        world.reasons = ["no link to unionpay is up", "the database is away"]
        world.heartbeat.start()
        assert await answer("/ready") == (503, {"ready": False, "reasons": world.reasons, "unknown": [], "notes": []})
        assert await answer("/drained") == (503, {"drained": False})
        world.reasons, world.is_drained = [], True
        give_up_at = time.monotonic() + 20
        while (await answer("/ready"))[0] != 200:
            assert time.monotonic() < give_up_at
        assert await answer("/ready") == (200, {"ready": True, "reasons": [], "unknown": [], "notes": []})
        assert await answer("/drained") == (200, {"drained": True})
        world.heartbeat.stop()
        assert await answer("/ready") == (503, {"ready": False, "reasons": ["stopped"], "unknown": [], "notes": []})

    with World() as world:
        asyncio.run(main(world))


def test_a_readiness_check_that_raises_means_not_ready() -> None:
    def broken() -> list[str]:
        raise RuntimeError("a fault of ours")

    async def main() -> None:
        heartbeat = Heartbeat(Recorder(), not_ready=broken, drained=lambda: True)
        heartbeat.start()
        assert heartbeat.not_ready == ("readiness check failed: RuntimeError",) and not heartbeat.drained
        heartbeat.stop()

    asyncio.run(main())


def test_the_pages() -> None:
    with World() as world:
        status, body = world.ask("/version")
        assert status == 200 and json.loads(body)["spec"] == "unionpay_pos" and json.loads(body)["version"]
        status, body = world.ask("/metrics?x=1")
        assert status == 200 and b"switch_payments_total" in body and b"process_open_fds" in body
        assert world.ask("/nothing")[0] == 404
        assert world.ask("/live", "HEAD") == (200, b"")
        assert world.ask("/live", "POST")[0] == 501


def test_metrics_that_fail_are_an_error_and_the_server_lives() -> None:
    world = World()

    def broken() -> bytes:
        raise RuntimeError("no")

    world.health._metrics = broken
    with world:
        assert world.ask("/metrics") == (500, b"RuntimeError\n")
        assert world.ask("/live")[0] == 200


def test_callers_that_say_nothing_or_nonsense_do_not_shut_others_out() -> None:
    with World() as world:
        silent = [socket.create_connection(("127.0.0.1", world.health.port)) for _ in range(3 * HEALTH_CALLERS_MAX)]
        for sock in silent[::2]:
            sock.sendall(b"\x00\xff garbage")
        assert world.ask("/version")[0] == 200
        assert threading.active_count() < 2 * HEALTH_CALLERS_MAX + 8
        for sock in silent:
            sock.close()
        assert world.ask("/version")[0] == 200


def test_stop_joins_every_thread_even_with_a_silent_caller() -> None:
    before = set(threading.enumerate())
    with World() as world:
        silent = socket.create_connection(("127.0.0.1", world.health.port))
        silent.sendall(b"GET ")
        assert world.ask("/live")[0] == 200
        port = world.health.port
    assert set(threading.enumerate()) <= before
    silent.close()
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/live")
    world.health.stop()


def test_a_taken_port_is_a_clear_error() -> None:
    with World() as world:
        port = world.health.port
        other = Health(ObserveConfig(host="127.0.0.1", port=port), world.heartbeat, bytes)
        with pytest.raises(StartError) as caught:
            other.start()
        assert str(caught.value) == (
            f"cannot serve health on 127.0.0.1:{port}: address already in use; "
            "stop the program that has it or change observe.host, observe.port [listen]"
        )
        other.stop()
