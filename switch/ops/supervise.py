"""Several workers of one switch: started, started again when they die, asked together, stopped together.

The supervisor touches no payment. A worker that dies is a normal event: a neighbour takes its payments over, and a
new one begins. Kiosks connect to one port; the kernel spreads them over the workers.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from switch import limits
from switch.config import Config
from switch.observe.health import JSON, TEXT, HealthServer
from switch.observe.log import Log

_LOOK_S: Final = 0.1
_ASK_S: Final = 2.0
_SAMPLE: Final = re.compile(rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(.*)\})?( .+)$")


def of_worker(config: Config, number: int) -> Config:
    """The configuration of worker 1, 2 …: names, sockets, health ports and serial lines of its own."""
    replace = msgspec.structs.replace
    port = config.observe.port
    return replace(
        config,
        worker=replace(config.worker, instance=f"{config.worker.instance}-{number}"),
        control=replace(config.control, path=f"{config.control.path}.{number}"),
        observe=replace(config.observe, port=port + number if port else 0),
        serial=config.serial[number - 1 :: config.worker.count],  # a port can be open once only
    )


@dataclass
class _Child:
    number: int
    process: subprocess.Popen[bytes]
    started_at: float
    deaths: int = 0  # in a row, each soon after its start
    again_at: float = 0.0


class Supervisor:
    """``run`` returns when everything has ended.

    Args:
        command: Of worker 1, 2 …
    """

    def __init__(self, config: Config, command: Callable[[int], list[str]]) -> None:
        self._config = config
        self._command = command
        self._log = Log(config.observe.log_level)
        self._children: list[_Child] = []
        self._stop = threading.Event()
        self._signals = 0

    def run(self) -> int:
        """0 when every worker ended well after a stop."""
        health = HealthServer(self._config.observe, self.answer)
        health.start()
        previous = {each: signal.signal(each, self._signalled) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            for number in range(1, self._config.worker.count + 1):
                self._children.append(_Child(number, self._spawn(number), time.monotonic()))
            while not self._stop.wait(_LOOK_S):
                self._look()
            return self._end()
        finally:
            for child in self._children:
                if child.process.poll() is None:
                    child.process.kill()
                    child.process.wait()
            health.stop()
            for each, handler in previous.items():
                signal.signal(each, handler)

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        # A group of its own: an interrupt from the keyboard comes to us alone, and we pass it on.
        return subprocess.Popen(self._command(number), start_new_session=True)

    def _look(self) -> None:
        now = time.monotonic()
        for child in self._children:
            status = child.process.poll()
            if status is None:
                continue
            if not child.again_at:
                child.deaths = child.deaths + 1 if now - child.started_at < limits.BACKOFF_MAX_S else 1
                wait_s = min(limits.BACKOFF_MAX_S, limits.BACKOFF_FIRST_S * 2 ** (child.deaths - 1))
                child.again_at = now + wait_s
                self._log.event("worker.died", level="error", worker=child.number, status=status, again_s=wait_s)
            elif now >= child.again_at:
                child.again_at = 0.0
                child.process, child.started_at = self._spawn(child.number), now
                self._log.event("worker.started", worker=child.number, pid=child.process.pid)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        for child in self._children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        self._stop.set()

    def _end(self) -> int:
        """Every worker drains; a second signal, already passed on, makes them hand over at once."""
        ends_at = time.monotonic() + self._config.times.drain_s + limits.JOURNAL_STOP_S + limits.BACKOFF_MAX_S
        worst = 0
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worst = max(worst, abs(child.process.wait(max(0.1, ends_at - time.monotonic()))))
        return 1 if worst else 0

    # ------------------------------------------------------------------------------------------------ health
    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """What all workers say together: ready when one is, live and drained when all are."""
        if path not in ("/live", "/ready", "/drained", "/version", "/metrics"):
            return HTTPStatus.NOT_FOUND, TEXT, b"try /live /ready /drained /version /metrics\n"
        told = {number: self._ask(number, path) for number in range(1, self._config.worker.count + 1)}
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, merged({number: body for number, (_, body) in told.items()})
        good = [status == HTTPStatus.OK for status, _ in told.values()]
        ok = any(good) if path in ("/ready", "/version") else all(good)
        workers = {str(number): _plain(body) for number, (_, body) in told.items()}
        body = orjson.dumps({path[1:]: ok, "workers": workers}, option=orjson.OPT_APPEND_NEWLINE)
        return HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, JSON, body

    def _ask(self, number: int, path: str) -> tuple[int, bytes]:
        observe = of_worker(self._config, number).observe
        line = http.client.HTTPConnection(observe.host, observe.port, timeout=_ASK_S)
        try:
            line.request("GET", path)
            answer = line.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            line.close()


def _plain(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return "no answer"


def merged(texts: dict[int, bytes]) -> bytes:
    """Metrics of all workers in one text: each sample with a label ``worker``, each HELP and TYPE once.

    >>> print(merged({1: b"# HELP a A.\\na 1\\n", 2: b"# HELP a A.\\na{x=\\"y\\"} 2\\n"}).decode(), end="")
    # HELP a A.
    a{worker="1"} 1
    a{worker="2",x="y"} 2
    """
    families: dict[bytes, list[bytes]] = {}
    for number, text in texts.items():
        family = b""
        for line in text.splitlines():
            if line.startswith(b"#"):
                family = line.split(b" ", 3)[2]
                known = families.setdefault(family, [])
                if line not in known:
                    known.append(line)
                continue
            match = _SAMPLE.match(line)
            if match is not None:
                labels = b'worker="%d"' % number + (b"," + match[3] if match[3] else b"")
                families.setdefault(family, []).append(match[1] + b"{" + labels + b"}" + match[4])
    return b"".join(line + b"\n" for lines in families.values() for line in lines)


def supervise(config: Config, path: Path) -> int:
    """Run ``worker.count`` workers of this configuration until a signal."""

    def command(number: int) -> list[str]:
        of_all = str(config.worker.count)
        return [
            *(sys.executable, "-m", "switch", "run", "--config", str(path)),
            *("--workers", of_all, "--worker", str(number)),
        ]

    return Supervisor(config, command).run()
