"""A kiosk's batch settlement: what it took on a day, held against the journal.

It moves no money and changes no payment. What differs is kept, one by one, for people and reconciliation. All of it is
durable before the kiosk hears of it, so either side may be killed between any two messages: the kiosk asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from switch import limits
from switch.errors import SwitchError
from switch.machines import days
from switch.model.batch import BatchKey, BatchStanding
from switch.model.request import BatchRequest, BatchSettlement, BatchUpload, BatchUploadEnd
from switch.ports import Clock, KioskBatches, Observer

Told = Callable[[BatchStanding | str], None]  # how it stands, or the code of why nobody can say


class Batches:
    def __init__(self, store: KioskBatches, clock: Clock, observer: Observer) -> None:
        self._store = store
        self._clock = clock
        self._observer = observer

    def obey(self, request: BatchRequest, told: Told) -> None:
        wall_us = self._clock.wall_us()
        today, oldest = days.day_after(wall_us, 1), days.day_after(wall_us, -limits.BATCH_BACK_DAYS)
        if isinstance(request, BatchSettlement):
            key = BatchKey(request.terminal_id, days.dated(request.date, wall_us), request.serial)
            day = days.dated(request.day, wall_us)
            if request.date not in days.dates_around(wall_us) or not oldest <= day <= today:
                told("stale_date")
                return
            self._store.ask(
                key,
                day=day,
                batch_number=request.batch_number,
                count=request.count,
                amount=request.amount,
                done=partial(self._asked, key, told),
            )
            return
        assert isinstance(request, BatchUpload | BatchUploadEnd)
        key = BatchKey(request.terminal_id, days.dated(request.asked_date, wall_us), request.asked_serial)
        if isinstance(request, BatchUpload):
            self._store.add(key, request.details, partial(self._answered, told))
        else:
            self._store.compare(key, request.count, partial(self._asked, key, told))

    def _asked(self, key: BatchKey, told: Told, standing: BatchStanding | SwitchError) -> None:
        if isinstance(standing, BatchStanding) and standing.code in ("batch_equal", "batch_differs", "batch_reported"):
            self._observer.count("switch_batches_total", (standing.code.removeprefix("batch_"),))
            if standing.code == "batch_reported":
                self._observer.event(
                    "batch.differs",
                    level="warning",
                    terminal=key.terminal_id,
                    asked_on=key.asked_on,
                    serial=key.serial,
                    differences=standing.differences,
                )
        self._answered(told, standing)

    def _answered(self, told: Told, standing: BatchStanding | SwitchError) -> None:
        told("busy" if isinstance(standing, SwitchError) else standing)
