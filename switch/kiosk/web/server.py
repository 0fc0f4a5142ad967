"""HTTP for the kiosk's page: its files, its state, its acts. For a browser on the same machine.

    GET  /              the page; /kiosk.css, /kiosk.js, /mark.svg, /texts.json beside it
    GET  /state?known=  all that there is to show, as soon as it differs from the version known (views.py)
    POST /act           what was pressed, with the step that it was pressed for; 409 for one that has gone
    POST /bench         what was done with a simulated peripheral

Only the page itself may act: a POST needs JSON and an origin that is ours, and no other name than ours is answered to,
so neither another site in the same browser nor a name that points here can press anything. What is typed on the PIN pad
comes with ``/bench`` and is in no log: nothing here logs requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from typing import Any, Final, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from switch.errors import StartError
from switch.kiosk.web.station import StaleError, Station
from switch.kiosk.web.views import Handled, Pressed
from switch.limits import KIOSK_WEB_BODY_MAX, KIOSK_WEB_STOP_S

_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/kiosk.css": ("kiosk.css", "text/css; charset=utf-8"),
    "/kiosk.js": ("kiosk.js", "text/javascript; charset=utf-8"),
    "/mark.svg": ("mark.svg", "image/svg+xml"),
    "/texts.json": ("texts.json", "application/json"),
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Whatever the port: it may be another one at the far end of a tunnel. A name that somebody points here is none
# of these.
_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


class _BadRequestError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message


def application(station: Station) -> Starlette:
    async def state(request: Request) -> Response:
        found = await station.state(request.query_params.get("known", ""))
        return _json(200, found)

    async def act(request: Request) -> Response:
        pressed = await _body(request, Pressed)
        try:
            station.press(pressed.step, pressed.act)
        except StaleError:
            raise _BadRequestError(409, "stale", "that screen has gone; nothing was done") from None
        return _json(200, {})

    async def bench(request: Request) -> Response:
        try:
            station.handle(await _body(request, Handled))
        except ValueError as error:
            raise _BadRequestError(400, "bench", str(error)) from None
        return _json(200, {})

    def guarded(handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            try:
                if re.sub(r":\d+$", "", request.headers.get("host", "")) not in _NAMES:
                    raise _BadRequestError(421, "host", "this server answers to its own address only")
                if request.method == "POST":
                    _check_origin(request)
                response = await handler(request)
            except _BadRequestError as error:
                response = _json(error.status, {"error": {"code": error.code, "message": error.message}})
            response.headers.update(_HEADERS)
            return response

        return answer

    routes = [Route(path, guarded(_file(name, kind))) for path, (name, kind) in _FILES.items()]
    routes.append(Route("/state", guarded(state)))
    routes += [Route(path, guarded(handler), methods=["POST"]) for path, handler in (("/act", act), ("/bench", bench))]
    return Starlette(routes=routes)


def _file(name: str, kind: str) -> Handler:
    data = (resources.files(__package__) / "page" / name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(data, headers={"Content-Type": kind})

    return answer


def _check_origin(request: Request) -> None:
    if request.headers.get("origin") != f"http://{request.headers['host']}":
        raise _BadRequestError(403, "origin", "only the page of this server may do that")
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise _BadRequestError(415, "content_type", "expected application/json")


async def _body(request: Request, kind: type[T]) -> T:
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > KIOSK_WEB_BODY_MAX:
            raise _BadRequestError(413, "size", f"at most {KIOSK_WEB_BODY_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _BadRequestError(400, "format", str(error)) from None
    except msgspec.DecodeError:
        raise _BadRequestError(400, "format", "no JSON") from None


def _json(status: int, value: Any) -> Response:
    return Response(msgspec.json.encode(value), status, headers={"Content-Type": "application/json"})


# ---------------------------------------------------------------------------------------------------- running
def bind(host: str, port: int) -> socket.socket:
    """Raises StartError: the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # whoever is told the address can dial it
    except (OSError, OverflowError) as error:
        listener.close()
        raise StartError("listen", f"--listen {host}:{port}: {error}; name another port") from error
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


async def serve(station: Station, listener: socket.socket, *, started: Callable[[], None]) -> None:
    """Until SIGINT or SIGTERM. Raises what ends the station."""
    config = uvicorn.Config(
        application(station),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(KIOSK_WEB_STOP_S),
    )
    server = _Server(config)

    def stop() -> None:
        station.stop_waiting()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    running = asyncio.create_task(station.run())
    started()
    try:
        await asyncio.wait({serving, running}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        stop()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(serving, running)


class _Server(uvicorn.Server):
    """Signals are ours: to be told to stop is no failure, as uvicorn has it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
