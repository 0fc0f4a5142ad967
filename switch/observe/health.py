"""Health over HTTP: ``/live /ready /drained /version /metrics``.

The server runs in threads of its own, because ``/live`` must answer "no" just when the loop no longer turns. What
only the loop may look at (readiness) is looked at by the loop, by ``Heartbeat``, and remembered for the threads.

    /live      200, or 503 when the loop has not turned for LOOP_LAG_MAX_S: restart the process
    /ready     200, or 503 with every reason: send no new kiosks here; what cannot be read is named unknown, what will
               need somebody soon is a note
    /drained   200 when no payment is open any more, else 503: may be stopped
    /version   what runs: program, interfaces and code tables, a hash of the configuration
    /metrics   Prometheus text
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from switch import __version__, limits
from switch.config import ObserveConfig
from switch.errors import StartError
from switch.ports import Observer

BEAT_S: Final = limits.LOOP_LAG_MAX_S / 8  # a stall is noticed with this precision
CALLER_TIMEOUT_S: Final = limits.LOOP_LAG_MAX_S  # silence of one caller

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


class Heartbeat:
    """The loop's sign of life, measured lag, and readiness as the loop last saw it.

    Args:
        not_ready: Reasons why new kiosks should go elsewhere; empty means ready. Called on the loop, often: be quick.
        drained: True when no payment is open. Called on the loop too.
    """

    def __init__(
        self,
        observer: Observer,
        *,
        not_ready: Callable[[], list[str]] = list,
        drained: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        self._not_ready = not_ready
        self._drained = drained
        self._monotonic = monotonic
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._beat_at = monotonic()
        # Replaced whole, never changed in place: the threads read it without a lock.
        self._seen: tuple[tuple[str, ...], bool] = (("starting",), False)

    def start(self) -> None:
        """On the loop's thread."""
        assert self._timer is None, "a heartbeat starts once"
        self._due_at = self._monotonic()
        self._beat(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._seen = (("stopped",), self._seen[1])

    @property
    def age_s(self) -> float:
        """Seconds since the loop last turned. From any thread."""
        return self._monotonic() - self._beat_at

    @property
    def live(self) -> bool:
        return self.age_s < limits.LOOP_LAG_MAX_S

    @property
    def not_ready(self) -> tuple[str, ...]:
        """Reasons, as of the last beat; a stalled loop is one more. From any thread."""
        age_s = self.age_s
        stalled = () if age_s < limits.LOOP_LAG_MAX_S else (f"the loop has not turned for {age_s:.1f} s",)
        return (*stalled, *self._seen[0])

    @property
    def drained(self) -> bool:
        return self._seen[1]

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._monotonic()
        lag_s = max(0.0, now - self._due_at)
        self._beat_at = now
        self._due_at = now + BEAT_S
        self._timer = loop.call_later(BEAT_S, self._beat, loop)
        self._observer.observe("switch_loop_lag_seconds", lag_s)
        if lag_s >= limits.LOOP_LAG_MAX_S:
            self._observer.event("loop.stalled", lag_s=round(lag_s, 3))
        try:
            self._seen = (tuple(self._not_ready()), bool(self._drained()))
        except Exception as error:
            # Fail closed: who cannot tell is not ready.
            self._seen = ((f"readiness check failed: {type(error).__name__}",), False)


Answer = Callable[[str], tuple[HTTPStatus, str, bytes]]


class HealthServer:
    """The HTTP server. ``start`` and ``stop`` from any thread; ``answer`` is called on threads of its own."""

    def __init__(self, config: ObserveConfig, answer: Answer) -> None:
        self._config = config
        self._answer_path = answer
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened on, also when the configuration says 0."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    def start(self) -> None:
        """Raises StartError when the address cannot be had."""
        assert self._server is None, "a server starts once"
        host, port = self._config.host, self._config.port
        try:
            self._server = _Server(host, port, self._answer_path)
        except OSError as error:
            raise StartError(
                "listen",
                f"cannot serve health on {host}:{port}: {(error.strerror or str(error)).lower()}; "
                "stop the program that has it or change observe.host, observe.port",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and join every thread."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.cut_off_all()
        self._server.server_close()  # joins the callers' threads
        self._thread = None


class Health(HealthServer):
    """Of one worker."""

    def __init__(
        self,
        config: ObserveConfig,
        heartbeat: Heartbeat,
        metrics: Callable[[], bytes],
        *,
        version: Mapping[str, str] | None = None,
        unknown: Callable[[], Sequence[str]] = tuple,
        notes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        super().__init__(config, self._answer)
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._unknown = unknown
        self._notes = notes
        self._version = {"version": __version__, **(version or {})}

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        heartbeat = self._heartbeat
        if path == "/live":
            return _status(heartbeat.live), JSON, _json(live=heartbeat.live, loop_age_s=round(heartbeat.age_s, 3))
        if path == "/ready":
            reasons = heartbeat.not_ready
            told = {"reasons": reasons, "unknown": self._unknown(), "notes": self._notes()}
            return _status(not reasons), JSON, _json(ready=not reasons, **told)
        if path == "/drained":
            drained = heartbeat.drained
            return _status(drained), JSON, _json(drained=drained)
        if path == "/version":
            return HTTPStatus.OK, JSON, _json(**self._version)
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, self._metrics()
        return HTTPStatus.NOT_FOUND, TEXT, b"try /live /ready /drained /version /metrics\n"


def _status(good: bool) -> HTTPStatus:
    return HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE


def _json(**facts: object) -> bytes:
    return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE)


class _Server(ThreadingHTTPServer):
    """A thread for each caller, of a bounded number: the newest caller is served, for it may be the balancer."""

    daemon_threads = False  # so that server_close joins them
    request_queue_size = 4 * limits.HEALTH_CALLERS_MAX  # waiting in the kernel; a full queue costs a caller a second

    def __init__(self, host: str, port: int, answer: Answer) -> None:
        self.answer = answer
        self._callers: OrderedDict[int, socket.socket] = OrderedDict()
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that looks up our own name in the DNS, which may take long and is not used.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            oldest = next(iter(self._callers.values())) if len(self._callers) >= limits.HEALTH_CALLERS_MAX else None
            if oldest is not None:
                self._callers.popitem(last=False)
                _cut_off(oldest)
            self._callers[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._callers.pop(id(request), None)
        super().shutdown_request(request)

    def cut_off_all(self) -> None:
        with self._lock:
            for request in self._callers.values():
                _cut_off(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that left in the middle: not worth a word on stderr."""


def _cut_off(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # gone already


class _Handler(BaseHTTPRequestHandler):
    timeout = CALLER_TIMEOUT_S
    server_version = "gridswitch"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        try:
            status, kind, body = self.server.answer(self.path.partition("?")[0])
        except Exception as error:
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, f"{type(error).__name__}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """No access log: a balancer asks every second."""
