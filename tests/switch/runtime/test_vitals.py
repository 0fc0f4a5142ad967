"""Disk, clock and commits: what makes a switch unready, and what is only named unknown."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from switch import limits
from switch.errors import UnavailableError
from switch.observe.metrics import Metrics
from switch.ports import StoreVitals
from switch.runtime.vitals import Vitals, kernel_clock_offset_s

NUMBERS = StoreVitals(stan_open=3, sealed_rows=2, sealed_oldest_s=61.5, signed_on=40, key_age_s=7200.0)
Usage = namedtuple("Usage", "total used free")


class Counting(Metrics):
    def __init__(self) -> None:
        super().__init__(strict=True)
        self.events: list[str] = []

    def event(self, name: str, *, level: str = "info", **facts: object) -> None:
        self.events.append(name)


class Numbers:
    def __init__(self, *answers: StoreVitals | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def read(self) -> StoreVitals:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def vitals(
    tmp_path: Path,
    metrics: Counting,
    *answers: StoreVitals | Exception,
    offset_s: Callable[[], float | None] = lambda: 0.0,
    renewed_in_s: float = 0.01,
    folder: Path | None = None,
) -> Vitals:
    return Vitals(
        Numbers(*(answers or (NUMBERS,))),
        metrics,
        folders=(folder or tmp_path,),
        renewed_in_s=lambda: renewed_in_s,
        versions={"unionpay_codes": "1.0"},
        clock_offset_s=offset_s,
    )


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_numbers_of_the_database_become_metrics(tmp_path: Path) -> None:
    metrics = Counting()

    async def run() -> None:
        looked = vitals(tmp_path, metrics)
        looked.start()
        await _until(lambda: b"switch_stan_open 3.0" in metrics.text())
        assert looked.not_ready() == [] and looked.unknown == ()
        await looked.stop()

    asyncio.run(run())
    text = metrics.text().decode()
    for line in (
        "switch_sad_rows 2.0",
        "switch_sad_oldest_seconds 61.5",
        "switch_link_signed_on 40.0",
        "switch_key_age_seconds 7200.0",
        'switch_spec_version{name="unionpay_codes",version="1.0"} 1.0',
    ):
        assert line in text, line
    assert "switch_disk_free_bytes " in text and "switch_disk_free_bytes 0.0" not in text


def test_an_outage_or_a_fault_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VITALS_EVERY_S", 0.01)
    metrics = Counting()

    async def run() -> None:
        looked = vitals(tmp_path, metrics, UnavailableError("database", "away"), ValueError("odd"), NUMBERS)
        looked.start()
        await _until(lambda: b"switch_stan_open 3.0" in metrics.text())
        await looked.stop()

    asyncio.run(run())
    assert metrics.events == ["vitals.put_off"], "an outage is the journal's news, a fault is ours"


def test_a_full_disk_says_where_how_much_and_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9, 12 << 20))
    looked = vitals(tmp_path, Counting())
    looked._look()
    assert looked.not_ready() == [f"{tmp_path}: 12 MB free, below 256 MB"]


def test_what_cannot_be_read_is_named_and_makes_nobody_unready(tmp_path: Path) -> None:
    metrics = Counting()
    looked = vitals(tmp_path, metrics, folder=tmp_path / "gone", offset_s=lambda: None)
    looked._look()
    assert b"switch_clock_offset_seconds NaN" in metrics.text()
    assert looked.not_ready() == []
    disk, clock = looked.unknown
    assert disk == f"disk of {tmp_path / 'gone'}" and clock.startswith("clock offset: the kernel's clock")


@pytest.mark.parametrize(("offset_s", "ready"), [(0.9, True), (-0.9, True), (1.1, False), (-3600.0, False)])
def test_a_clock_that_is_off_by_more_than_a_second_is_said(tmp_path: Path, offset_s: float, ready: bool) -> None:
    looked = vitals(tmp_path, Counting(), offset_s=lambda: offset_s)
    looked._look()
    assert looked.not_ready() == ([] if ready else [f"the clock is off by {offset_s:+.1f} s (bound 1.0 s)"])


def test_a_slow_commit_sends_kiosks_elsewhere(tmp_path: Path) -> None:
    looked = vitals(tmp_path, Counting(), renewed_in_s=0.74)
    assert looked.not_ready() == ["PostgreSQL is slow: a commit took 0.7 s (bound 0.5 s)"]


def test_the_kernel_can_be_asked_and_its_answer_is_small_or_unknown() -> None:
    offset_s = kernel_clock_offset_s()
    assert offset_s is None or abs(offset_s) < 10
