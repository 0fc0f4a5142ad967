"""When customers come to a hall, and who could not be served. Whole halls: tests/switch/ops/test_bench.py."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from switch.errors import ConfigError, StartError
from switch.sim import hall
from switch.sim.hall import Arrivals, Hall, run_hall, share_at
from switch.sim.scenario import load_scenario, read_scenario

from .peers import FakeSwitch, run
from .test_fleet import QUICK


def test_customers_come_as_often_as_asked_and_at_random() -> None:
    found = list(Arrivals(50.0).instants(200.0, random.Random(1)))
    assert found == sorted(found) and found[0] > 0 and found[-1] < 200
    assert len(found) == pytest.approx(10_000, rel=0.03)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    alone = sum(gap > 0.04 for gap in gaps) / len(gaps)
    assert alone == pytest.approx(0.135, abs=0.02), "Poisson: e**-2 of the gaps are twice as long as the mean"


def test_a_day_has_its_rhythm() -> None:
    found = list(Arrivals(100.0, "day").instants(240.0, random.Random(1)))  # ten seconds an hour
    by_hour = [sum(10 * hour <= at < 10 * hour + 10 for at in found) for hour in range(24)]
    assert by_hour[9] == max(by_hour) == pytest.approx(980, rel=0.1)
    assert by_hour[3] == pytest.approx(20, abs=15) and by_hour[16] > by_hour[13] > by_hour[21]
    with pytest.raises(ValueError, match="0 to 24"):
        share_at(24.5)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("look_rate = 0.7\nprepay_rate = 0.4", "fleet"),
        ("repeat_rate = 0.6\npower_cut_rate = 0.6", "fleet"),
        ("dark_s = [3, 1]", "fleet.dark_s"),
    ],
)
def test_impossible_people_are_refused_by_name(text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        read_scenario(f'name = "x"\n[fleet]\n{text}\n')


def test_nobody_comes_before_all_kiosks_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hall, "READY_S", 0.5)
    with pytest.raises(StartError, match=r"0 of 3 kiosks signed on within 0.5 s; events: connect_failed"):
        run(run_hall("127.0.0.1", 9, 3, 1.0, Arrivals(10.0), load_scenario("hall"), profile=QUICK))


def test_who_waits_too_long_leaves_and_is_counted(tmp_path: Path) -> None:
    async def story() -> Hall:
        switch = FakeSwitch()
        await switch.start()
        try:
            slow = read_scenario('name = "x"\n[fleet]\nstand_s = [0.3, 0.3]\npatience_s = 0.5\n')
            return await run_hall(
                "127.0.0.1", switch.port, 1, 1.0, Arrivals(20.0), slow, tmp_path / "book", profile=QUICK
            )
        finally:
            await switch.stop()

    found = run(story())
    assert found.left >= 5 and found.visits["bills"] in (3, 4, 5), "one at a time, each takes 0.3 s"
    assert found.times["wait"].longest <= 0.5 and found.result.unknown == 0
    phase = found.to_phase()
    assert phase["due"] == phase["begun"] + found.left and phase["payment"]["count"] == found.result.payments
