"""One suite for both spools, and what only the file must stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from switch.errors import UnavailableError
from switch.kiosk.agent import limits
from switch.kiosk.agent.spool import Batch, FileSpool, MemorySpool, Spool

Make = Callable[..., Any]


@pytest.fixture(params=["file", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """A spool that has begun its first boot."""

    def made(**more: int) -> Spool:
        spool: Spool = FileSpool(tmp_path / "spool.db", **more) if request.param == "file" else MemorySpool(**more)
        spool.begin()
        return spool

    return made


def test_the_oldest_comes_first_and_goes_when_it_is_acknowledged(make: Make) -> None:
    spool = make()
    first = spool.boot_id
    assert spool.oldest("events", 10) is None
    assert [spool.put("events", b"%d" % n) for n in range(3)] == [1, 2, 3]
    assert spool.put("sessions", b"s") == 1, "each stream counts on its own"
    spool.begin()
    assert spool.boot_id != first and spool.put("events", b"new") == 1
    assert spool.oldest("events", 2) == Batch(first, 1, ((1, b"0"), (2, b"1")))
    spool.forget("events", first, 2)
    spool.forget("events", first, 1)  # an older answer that comes late
    assert spool.oldest("events", 9) == Batch(first, 3, ((3, b"2"),))
    spool.forget("events", first, 99)
    assert spool.oldest("events", 9) == Batch(spool.boot_id, 1, ((1, b"new"),))
    spool.forget("events", "no such boot", 9)
    assert spool.waiting() == 2


def test_a_full_spool_loses_its_oldest_and_says_from_where_it_goes_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SPOOL_DROP", 10)
    spool = make(bytes_max=50 * 100)
    for _ in range(51):
        spool.put("events", b"x" * 100)
    batch = spool.oldest("events", 1)
    assert batch is not None and batch.first == 11
    assert spool.waiting() == 41
    # Even when all of a boot is gone, the service is told so: nothing from here on is below "first".
    spool.begin()
    for _ in range(95):
        spool.put("events", b"x" * 100)
    lost = spool.oldest("events", 1)
    assert lost == Batch(batch.boot_id, 52, ())
    spool.forget("events", batch.boot_id, 51)
    after = spool.oldest("events", 1)
    assert after is not None and after.boot_id == spool.boot_id


def test_a_batch_fits_into_a_request(make: Make) -> None:
    spool = make()
    for _ in range(50):
        spool.put("events", b"x" * limits.ITEM_BYTES_MAX)
    batch = spool.oldest("events", limits.BATCH_MAX)
    assert batch is not None and len(batch.items) == limits.BATCH_BYTES_MAX // limits.ITEM_BYTES_MAX
    with pytest.raises(ValueError, match="at most"):
        spool.put("events", b"x" * (limits.ITEM_BYTES_MAX + 1))


def test_counters_and_commands_outlive_a_boot(make: Make) -> None:
    spool = make()
    spool.grow("sessions")
    spool.grow("sessions", 4)
    assert spool.take_order("7", "os.reboot", 1000.0) is True
    spool.begin()
    assert spool.counters() == {"sessions": 5}
    assert spool.take_order("7", "os.reboot", 2000.0) is False
    (order,) = spool.orders_untold()
    assert (order.id, order.kind, order.state) == ("7", "os.reboot", "running")
    spool.end_order("7", "done", {"restarted": True})
    assert spool.orders_untold()[0].result == {"restarted": True}
    spool.order_told("7")
    assert spool.orders_untold() == [] and spool.take_order("7", "os.reboot", 3000.0) is False


def test_what_is_in_the_file_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = FileSpool(path)
    spool.begin()
    spool.put("events", b"kept")
    with pytest.raises(UnavailableError, match="spool"):
        FileSpool(path)  # two agents would number the same events twice
    first = spool.boot_id
    spool.close()
    again = FileSpool(path)
    again.begin()
    assert again.oldest("events", 9) == Batch(first, 1, ((1, b"kept"),))
    assert path.stat().st_mode & 0o077 == 0
    again.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"no database at all, but long enough to look at" * 100)
    spool = FileSpool(path)
    spool.begin()
    assert spool.damaged and spool.put("events", b"x") == 1
    assert path.with_name("spool.db.damaged").exists()
    spool.close()


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool.db")
    spool.begin()
    spool.put("events", b"x")
    (pages,) = spool._db.execute("PRAGMA page_count").fetchone()
    spool._db.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(UnavailableError, match="cannot be written"):
        for _ in range(100):
            spool.put("events", b"x" * limits.ITEM_BYTES_MAX)
    kept = spool.waiting()
    batch = spool.oldest("events", 500)
    assert batch is not None and batch.first == 1 and kept >= 1
    spool._db.execute("PRAGMA max_page_count = 100000")
    assert spool.put("events", b"x") == kept + 1, "a number was used up by what was not kept"
    spool.close()
