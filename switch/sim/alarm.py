"""An alarm finer than the loop's own timers, which uvloop rounds to milliseconds: too coarse for an instrument.

Linux's timerfd, through ctypes because Python has it only from 3.13 on. An arrival is woken for within 0.1 ms.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

_CLOCK_MONOTONIC: Final = 1  # the clock of time.monotonic
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC
_TFD_TIMER_ABSTIME: Final = 1
_APART_S: Final = 0.0001  # at 10,000 alarms a second several arrivals share one


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Calls ``ring`` on the loop once at the instant of the last ``ring_at``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._when = _Itimerspec()
        self._pointer = ctypes.byref(self._when)
        loop.add_reader(self._descriptor, self._woken)

    def ring_at(self, instant: float) -> None:
        """``instant``: as ``time.monotonic`` counts; one that has passed rings at once."""
        instant = max(instant, time.monotonic() + _APART_S)
        seconds = int(instant)
        self._when.value.seconds = seconds
        self._when.value.nanoseconds = int((instant - seconds) * 1e9)
        self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, self._pointer, None)

    def close(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _woken(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # set anew in between
        self._ring()
