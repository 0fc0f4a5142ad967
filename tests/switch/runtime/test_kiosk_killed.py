"""kill -9 of a kiosk program at every step of a payment: the next life leaves nothing unknown, nobody pays twice."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from switch.ops.proof import prove
from switch.sim.fleet import BookEntry, read_book

PROGRAM = Path(__file__).with_name("killed_kiosk.py")


async def _killed_at(world: Any, steps: str) -> tuple[int, dict[str, BookEntry]]:
    """How often it was killed, and the kiosk's book. The books of all four agree."""
    book = world.folder / "kiosk-book.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), str(world.worker.kiosk_port), str(world.folder), str(book), "0", steps),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert (await world.settle()).holds
    proof = await prove(world.dsn, world.folder / "unionpay.jsonl", world.folder / "marketing.jsonl", book)
    assert proof.holds, proof.differences
    entries = read_book(book)
    # A payment that the switch knows has its final word at the kiosk: 25 says that the switch knows none.
    known = [entry for entry in entries.values() if entry.final not in (None, "25")]
    assert proof.payments == len(known)
    return int(output.split()[-2]), entries


def test_at_every_step_of_a_payment(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        killed, entries = await _killed_at(world, "all")
        assert killed >= 34, "begin 10, send 2, receive 2, finish 10, acknowledge 10"
        paid = Counter(entry.account for entry in entries.values() if entry.final == "00")
        # One customer for each kill, and one who was not disturbed: each has paid once.
        assert len(paid) == killed + 1 and set(paid.values()) == {1}

    play(story)


@pytest.mark.parametrize("steps", ["12,17", "27"])
def test_while_the_card_network_is_silent(play: Callable[..., None], steps: str) -> None:
    """Before and after "unknown" was heard and written down: it becomes "returned"."""

    async def story(world: Any) -> None:
        killed, entries = await _killed_at(world, steps)
        assert killed == len(steps.split(","))
        assert {entry.final for entry in entries.values()} <= {None, "25", "R2"}
        assert world.marketing and not any("00" in entry.told for entry in entries.values())

    play(story, "[unionpay]\nsilence_rate = 1.0\n")


def test_at_every_step_of_a_settlement(play: Callable[..., None]) -> None:
    """Each life begins anew; the last one is told the same difference, and no payment has moved."""

    async def story(world: Any) -> None:
        killed, entries = await _killed_at(world, "settle")
        assert killed >= 12, "three messages sent and received, and a write of the journal"
        settlements = await world.rows("SELECT * FROM switch.batch_settlement")
        assert {row["switch_count"] for row in settlements} == {2} and {row["kiosk_count"] for row in settlements} == {
            1
        }
        reported = [row for row in settlements if row["state"] == "reported"]
        differences = await world.rows("SELECT kind, switch_fen FROM switch.batch_difference")
        assert len(reported) == len(differences) >= 1 and {row["kind"] for row in differences} == {"journal_only"}
        assert {entry.final for entry in entries.values()} == {"00"}

    play(story)
