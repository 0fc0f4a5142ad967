"""Callbacks of many, called for all of them: one that raises is a fault of ours and must not silence the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVarTuple

from switch.ports import Observer

Args = TypeVarTuple("Args")


def call_each(observer: Observer, callbacks: Iterable[Callable[[*Args], None]], *args: *Args) -> None:
    for callback in callbacks:
        try:
            callback(*args)
        except Exception as error:
            observer.event("callback.failed", level="error", error=repr(error), kind=type(error).__name__)
