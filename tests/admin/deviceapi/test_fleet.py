"""The fleet of simulated agents against the real listener, with one of every fault."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from admin.deviceapi.setup import agent_book, make_agents
from admin.deviceapi.store import Pace
from switch.errors import ConfigError
from switch.kiosk.agent import limits as agent_limits
from switch.sim.agents import Book, Fault, Script, load_book, load_script, run_agents

from .conftest import Bench

FAULTS = Script(
    sessions_per_hour=1200.0,
    fault=(
        Fault("cable", first=1, count=2, at_s=4, for_s=4),
        Fault("power", first=3, count=2, at_s=4, for_s=1),
        Fault("paper_out", first=5, count=2, at_s=4),
        Fault("skew", first=7, count=2, seconds=7200),
        Fault("clone", first=9, count=2, at_s=4),
        Fault("silent_app", first=11, count=2, at_s=4),
        Fault("card_reader", first=13, count=2, at_s=4, for_s=2),
    ),
)


async def _book(b: Bench, count: int) -> Book:
    async with b.database.transaction() as connection:
        agents = await make_agents(connection, b.authority, count)
    return msgspec.json.decode(agent_book(b.authority, f"https://127.0.0.1:{b.listener.port}", agents), type=Book)


def test_every_scripted_fault_is_seen_as_what_it_is(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_limits, "CHANGE_GAP_S", 0.5)

    async def story() -> None:
        async with bench(Pace(1.0, 1.0)) as b:
            book = await _book(b, 20)
            stop = asyncio.Event()
            running = asyncio.create_task(
                run_agents(book, FAULTS, count=20, seconds=600, ramp_s=2, settle_s=90, stop=stop)
            )

            async def kiosks(condition: str) -> set[int]:
                rows = await b.fetch(
                    "SELECT DISTINCT right(k.code, 5)::integer AS n FROM kiosk k"
                    " JOIN kiosk_status s ON s.kiosk_id = k.id"
                    f" LEFT JOIN kiosk_event e ON e.kiosk_id = k.id WHERE {condition}"
                )
                return {row["n"] for row in rows}

            boots = "(SELECT count(*) FROM kiosk_boot o WHERE o.kiosk_id = k.id AND o.ordinal IS NOT NULL)"
            seen = {
                "s.seq > 0": set(range(1, 21)),
                "e.type = 'clone_suspected'": {9, 10},
                "s.skew_ms > 3600000": {7, 8},
                "s.units ->> 'ptr.paper' = 'out'": {5, 6},
                "e.type = 'printer.paper_out'": {5, 6},
                "s.mode = 'unknown'": {11, 12},
                "e.type = 'card_reader.ok' AND s.units ->> 'idc' = 'online'": {13, 14},
                f"{boots} = 2": {3, 4, 9, 10},
            }
            async with asyncio.timeout(100):
                while any([await kiosks(condition) != which for condition, which in seen.items()]):
                    assert not running.done(), running
                    await asyncio.sleep(0.2)
            stop.set()
            result = await running
            assert result.crashed == [] and result.items_left == 0
            assert sum(result.faults.values()) == 14 and result.sessions > 0
            assert {which: await kiosks(which) for which in seen} == seen
            assert await kiosks("e.type IN ('counters_reset', 'events_lost', 'sessions_lost')") == set()
            # Every customer was heard of once, through cut cables and power cuts.
            assert await b.value("SELECT count(*) FROM kiosk_session") == result.sessions

    asyncio.run(story())


def test_bundled_scripts_load_and_wrong_ones_say_why(tmp_path: Path) -> None:
    assert load_script("calm").fault == () and len(load_script("faults").fault) == 9
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[[fault]]\nkind = "flood"\n')
    with pytest.raises(ConfigError, match="flood"):
        load_script(str(wrong))
    with pytest.raises(ConfigError, match="bundled are"):
        load_script("nothing")
    with pytest.raises(ConfigError, match="test-agents"):
        load_book(tmp_path / "nothing.json")
