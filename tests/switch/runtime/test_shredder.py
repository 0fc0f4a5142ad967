"""Hourly keys go with their last row, and never before: what is on its way, another worker's, another clock's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from switch import limits
from switch.errors import SecurityError, UnavailableError
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
from switch.runtime.shredder import KeyShredder
from switch.security.vault import Vault

WRAPPING = bytes(range(32))
HOUR_S = 3600
START = 500_000  # hours since 1970
CONTEXT = b"payment"


class World:
    """One database and one vault's folder, with a clock for all; workers come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time_s = float(START * HOUR_S)
        self.rows: list[bytes] = []
        self.away = False
        self.database_ahead_s = 0.0
        self.metrics = Metrics(strict=True)
        self.observer = Observation(self.metrics, Log("error"))

    def now(self) -> float:
        return self.time_s

    def wall_us(self) -> int:
        return int(self.time_s * 1e6)

    async def read(self) -> tuple[set[int], float]:
        if self.away:
            raise UnavailableError("database", "away")
        return {Vault.hour_of(row) for row in self.rows}, self.time_s + self.database_ahead_s

    def worker(self) -> tuple[Vault, KeyShredder]:
        vault = Vault(self.folder, WRAPPING, self.wall_us)
        return vault, KeyShredder(self, vault, self, self.observer)

    def go_to(self, hours: float) -> None:
        self.time_s = (START + hours) * HOUR_S

    @property
    def files(self) -> set[int]:
        return Vault(self.folder, WRAPPING, self.wall_us).hours()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_a_key_goes_at_the_second_look_that_finds_no_row_for_it(world: World) -> None:
    async def main() -> None:
        vault, shredder = world.worker()
        sealed = vault.seal(CONTEXT, b"card")
        world.rows = [sealed]
        world.go_to(5)
        for _ in range(3):
            assert await shredder.look() == 0
        world.rows = []  # its payment is final
        assert await shredder.look() == 0 and vault.open(CONTEXT, sealed) == b"card"
        assert await shredder.look() == 1
        # The database has been restored from a backup: the row is back, its key is not.
        world.rows = [sealed]
        with pytest.raises(SecurityError, match="the card data of that hour was shredded"):
            vault.open(CONTEXT, sealed)
        assert START not in world.files

    run(main())


def test_a_row_on_its_way_between_two_looks_keeps_its_key(world: World) -> None:
    """Sealed, then the database was away for hours; it is committed a moment after the look that did not see it."""

    async def main() -> None:
        vault, _ = world.worker()
        _, neighbour = world.worker()
        sealed = vault.seal(CONTEXT, b"card")
        world.away = True
        world.go_to(4)
        with pytest.raises(UnavailableError):
            await neighbour.look()
        world.away = False
        assert await neighbour.look() == 0
        world.rows = [sealed]
        for _ in range(3):
            assert await neighbour.look() == 0
        assert vault.open(CONTEXT, sealed) == b"card"

    run(main())


def test_a_row_that_moves_to_the_kept_cards_keeps_its_key_and_nothing_else_does(world: World) -> None:
    async def main() -> None:
        vault, shredder = world.worker()
        kept: dict[int, bytes] = {}
        for hour in range(6):
            world.go_to(hour)
            kept[hour] = vault.seal(CONTEXT, b"card")
        world.rows = [kept[1], kept[3]]
        world.go_to(10)
        await shredder.look()
        assert await shredder.look() == 4
        assert world.files == {START + 1, START + 3, START + 11}, "and the next hour's"
        assert [vault.open(CONTEXT, kept[hour]) for hour in (1, 3)] == [b"card"] * 2

    run(main())


def test_two_workers_shred_and_both_forget(world: World) -> None:
    async def main() -> None:
        (first, one), (second, two) = world.worker(), world.worker()
        sealed = first.seal(CONTEXT, b"card")
        world.go_to(3)
        assert second.open(CONTEXT, sealed) == b"card"
        await asyncio.gather(one.look(), two.look())
        counts = await asyncio.gather(one.look(), two.look())
        assert sum(counts) >= 1
        for vault in (first, second):
            with pytest.raises(SecurityError, match="was shredded"):
                vault.open(CONTEXT, sealed)

    run(main())


def test_a_new_worker_begins_to_count_anew(world: World) -> None:
    """Killed between its two looks: what the dead one had seen counts for nothing."""

    async def main() -> None:
        vault, first = world.worker()
        sealed = vault.seal(CONTEXT, b"card")
        world.go_to(3)
        await first.look()
        _, heir = world.worker()
        assert await heir.look() == 0
        world.rows = [sealed]
        assert await heir.look() == 0 and START in world.files

    run(main())


@pytest.mark.parametrize("ahead_s", [-7200.0, 7200.0, limits.VAULT_CLOCK_MAX_S + 1])
def test_nothing_goes_while_our_clock_and_the_databases_differ(world: World, ahead_s: float) -> None:
    async def main() -> None:
        vault, shredder = world.worker()
        vault.seal(CONTEXT, b"card")
        world.go_to(5)
        world.database_ahead_s = ahead_s
        for _ in range(4):
            assert await shredder.look() == 0
        world.database_ahead_s = 0.0
        assert await shredder.look() == 0, "and what was seen meanwhile does not count"
        assert await shredder.look() == 1

    run(main())


def test_the_next_hours_key_is_ready_before_the_hour_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        vault, shredder = world.worker()
        await shredder.look()
        assert world.files == {START + 1}
        monkeypatch.setattr(Vault, "_key_for_sealing", None)  # whoever goes to the disk now fails
        world.go_to(1)
        vault.seal(CONTEXT, b"card")

    run(main())


def test_the_metrics_say_how_many_keys_there_are_and_how_old(world: World) -> None:
    async def main() -> None:
        vault, shredder = world.worker()
        world.rows = [vault.seal(CONTEXT, b"card")]
        world.go_to(2)
        vault.seal(CONTEXT, b"card")
        await shredder.look()
        text = world.metrics.text().decode()
        assert "switch_vault_keys 3.0" in text and "switch_vault_oldest_seconds 7200.0" in text
        world.rows = []
        world.go_to(6)
        await shredder.look()
        await shredder.look()
        text = world.metrics.text().decode()
        assert "switch_vault_keys 1.0" in text and "switch_vault_oldest_seconds 0.0" in text
        assert "switch_vault_shredded_total 3.0" in text

    run(main())


def test_the_task_outlives_a_database_that_is_away_and_a_disk_that_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "VAULT_LOOK_S", 0.001)

    async def main() -> None:
        vault, shredder = world.worker()
        vault.seal(CONTEXT, b"card")
        world.go_to(3)
        world.away = True
        real, fails = vault.hours, [SecurityError("unavailable", "disk"), RuntimeError("a fault of ours")]

        def hours() -> set[int]:
            if fails:
                raise fails.pop()
            return real()

        monkeypatch.setattr(vault, "hours", hours)
        shredder.start()
        async with asyncio.timeout(10):
            while fails:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            world.away = False
            while START in real():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await shredder.stop()

    run(main())
