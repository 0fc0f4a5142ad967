"""Destroys each hour's vault key with the last row that needs it, and makes the next hour's key in good time.

    hours with a key  −  hours that some row needs  =  unneeded;   unneeded now and at the last look  ->  shredded

Twice, because card data is sealed a moment before its row is committed. Between two looks whatever was on its way has
been committed, and is seen by the second one; or its worker has been ended, and it never will be. The vault itself
spares the current hour and the one before. "Needs" is asked of the database over all workers, and so is the hour: a
machine whose clock is wrong by hours must not destroy what others have just made.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from switch import limits
from switch.errors import SecurityError, UnavailableError
from switch.ports import Clock, HourlyKeys, Observer

_HOUR_S = 3600


class SealedHours(Protocol):
    """Hours since 1970, UTC."""

    async def read(self) -> tuple[set[int], float]:
        """Hours whose key some row needs, and the database's clock in seconds since 1970. Raises UnavailableError."""
        ...


class KeyShredder:
    def __init__(self, store: SealedHours, vault: HourlyKeys, clock: Clock, observer: Observer) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._observer = observer
        self._unneeded: set[int] = set()  # at the last look
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="key shredder")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        while True:
            try:
                await self.look()
            except UnavailableError:
                pass  # the journal says that the database is away
            except SecurityError as error:
                self._observer.event("vault.unavailable", level="error", error=error.detail)
            except Exception as error:  # a fault of ours: said, and tried again
                self._observer.event("vault.look_failed", level="error", error=repr(error))
            await asyncio.sleep(limits.VAULT_LOOK_S)

    async def look(self) -> int:
        """One look; gives how many key files were destroyed. Files are touched in a thread: a disk may be slow."""
        await asyncio.to_thread(self._vault.prepare_next_hour)
        # In this order: a key made after this line is not among those that could go.
        held = await asyncio.to_thread(self._vault.hours)
        needed, now_s = await self._store.read()
        unneeded = held - needed
        off_s = now_s - self._clock.wall_us() / 1e6
        count = 0
        if abs(off_s) > limits.VAULT_CLOCK_MAX_S:
            self._observer.event("vault.clock_differs", level="warning", database_ahead_s=round(off_s))
            unneeded = set()
        else:
            count = await asyncio.to_thread(self._vault.shred, unneeded & self._unneeded)
            held = await asyncio.to_thread(self._vault.hours)
        self._unneeded = unneeded
        if count:
            self._observer.count("switch_vault_shredded_total", by=count)
            self._observer.event("vault.shredded", files=count)
        hour = int(self._clock.wall_us() / 1e6) // _HOUR_S
        self._observer.gauge("switch_vault_keys", len(held))
        self._observer.gauge("switch_vault_oldest_seconds", max(0, hour - min(held, default=hour)) * _HOUR_S)
        return count
