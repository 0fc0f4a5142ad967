"""What the switch stands on: disk, clock, commits of the database, and slow-moving numbers for metrics.

A thing that cannot be read is named ``unknown``; it makes nobody unready, for then no machine without it could serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from switch import limits
from switch.errors import UnavailableError
from switch.ports import Observer, StoreVitals


class VitalsStore(Protocol):
    async def read(self) -> StoreVitals:
        """Raises UnavailableError."""
        ...


class Vitals:
    """Args:
    folders: where the switch writes; the one with the least space counts.
    renewed_in_s: how long the last renewals of the lease took: the smallest commit that there is.
    versions: interfaces and code tables in force, by name.
    clock_offset_s: seconds that the kernel knows our clock to be off; None: nobody keeps it.
    """

    def __init__(
        self,
        store: VitalsStore,
        observer: Observer,
        *,
        folders: Sequence[Path],
        renewed_in_s: Callable[[], float],
        versions: Mapping[str, str],
        clock_offset_s: Callable[[], float | None] | None = None,
    ) -> None:
        self._store = store
        self._observer = observer
        self._folders = tuple(folders)
        self._renewed_in_s = renewed_in_s
        self._clock_offset_s = clock_offset_s or kernel_clock_offset_s
        self._task: asyncio.Task[None] | None = None
        self._reasons: tuple[str, ...] = ()
        self.unknown: tuple[str, ...] = ()  # replaced whole: health's threads read it
        for name, version in versions.items():
            observer.gauge("switch_spec_version", 1, (name, version))

    def start(self) -> None:
        self._look()
        self._task = asyncio.create_task(self._work(), name="vitals")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def not_ready(self) -> list[str]:
        """Reasons why kiosks should go elsewhere."""
        renewed_in_s = self._renewed_in_s()
        slow = renewed_in_s > limits.COMMIT_PROBE_MAX_S
        probe = f"PostgreSQL is slow: a commit took {renewed_in_s:.1f} s (bound {limits.COMMIT_PROBE_MAX_S} s)"
        return [*self._reasons, *([probe] if slow else [])]

    async def _work(self) -> None:
        while True:
            try:
                self._look()
                self._publish(await self._store.read())
            except UnavailableError:
                pass  # the journal says that the database is away
            except Exception as error:  # whatever it is, the next look may go well
                self._observer.event("vitals.put_off", error=repr(error))
            await asyncio.sleep(limits.VITALS_EVERY_S)

    def _look(self) -> None:
        reasons, unknown = [], []
        free: list[int] = []
        for folder in self._folders:
            try:
                free.append(shutil.disk_usage(folder).free)
            except OSError:
                unknown.append(f"disk of {folder}")
                continue
            if free[-1] < limits.DISK_FREE_MIN_BYTES:
                reasons.append(f"{folder}: {free[-1] >> 20} MB free, below {limits.DISK_FREE_MIN_BYTES >> 20} MB")
        if free:
            self._observer.gauge("switch_disk_free_bytes", min(free))
        offset_s = self._clock_offset_s()
        self._observer.gauge("switch_clock_offset_seconds", math.nan if offset_s is None else offset_s)
        if offset_s is None:
            unknown.append("clock offset: the kernel's clock is not synchronised; run chrony or another NTP client")
        elif abs(offset_s) > limits.CLOCK_OFFSET_MAX_S:
            reasons.append(f"the clock is off by {offset_s:+.1f} s (bound {limits.CLOCK_OFFSET_MAX_S} s)")
        self._reasons, self.unknown = tuple(reasons), tuple(unknown)

    def _publish(self, read: StoreVitals) -> None:
        self._observer.gauge("switch_stan_open", read.stan_open)
        self._observer.gauge("switch_sad_rows", read.sealed_rows)
        self._observer.gauge("switch_sad_oldest_seconds", read.sealed_oldest_s)
        self._observer.gauge("switch_link_signed_on", read.signed_on)
        self._observer.gauge("switch_key_age_seconds", read.key_age_s)


class _Timex(ctypes.Structure):
    """``struct timex`` of Linux, adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),  # more than any version of it has
    )


NOT_SYNCHRONISED: Final = 0x40  # STA_UNSYNC
NANOSECONDS: Final = 0x2000  # STA_NANO: offset is in ns, else in µs


def kernel_clock_offset_s() -> float | None:
    """What the kernel still has to correct, in seconds; None where nobody keeps the clock or it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    told = _Timex()  # modes 0: only read
    if adjtimex(ctypes.byref(told)) < 0 or told.status & NOT_SYNCHRONISED:
        return None
    return float(told.offset) / (1e9 if told.status & NANOSECONDS else 1e6)
