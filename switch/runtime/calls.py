"""Calls with a callback: for all that wait, and for a coroutine that awaits one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVarTuple

from switch.ports import Observer

Args = TypeVarTuple("Args")


def call_each(observer: Observer, callbacks: Iterable[Callable[[*Args], None]], *args: *Args) -> None:
    """One that raises is a fault of ours, and must not silence the others."""
    for callback in callbacks:
        try:
            callback(*args)
        except Exception as error:
            observer.event("callback.failed", level="error", error=repr(error), kind=type(error).__name__)


async def called(call: Callable[..., Any], *arguments: Any) -> Any:
    """What ``call`` is told: its last argument is the callback, which may be called before it returns. Off the path of
    payments only: there nothing is awaited."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    call(*arguments, lambda given: None if future.done() else future.set_result(given))
    return await future
