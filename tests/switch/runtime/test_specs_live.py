"""A switch whose marketing system speaks fixed-width records, and one that changes its version under payments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest

from switch.errors import StartError
from switch.machines import days
from switch.ops.status import ask
from switch.runtime.clock import SystemClock
from switch.sim import customers
from switch.sim.kiosk_client import CardChoice
from switch.sim.truth import read_facts

from .conftest import until

Speaks = Literal["json", "ydlw"]


async def _ask(world: Any, **request: Any) -> Any:
    return await asyncio.to_thread(ask, world.config, **request)


def _script(do: str, message: str = "post") -> str:
    return f'[[marketing.script]]\nwhen = {{ message = "{message}" }}\ndo = "{do}"\n'


def _spoken(rows: list[Any]) -> set[tuple[str, str]]:
    """(operation, version) of what was sent."""
    sent = [row["facts"] for row in rows if row["direction"] == "out"]
    return {(facts["op"], facts.get("version", "")) for facts in sent}


def _at(seconds: float) -> str:
    return days.local(SystemClock().wall_us() + int(seconds * 1_000_000)).isoformat()


def test_bills_are_paid_over_fixed_records_and_the_books_agree(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 3)
        customer = customers.customer(bills.account, day=world.marketing.date)
        assert customer is not None and bills.name == customer.name
        payment = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1))
        assert payment.final == "00"
        proof = await world.settle()
        assert (proof.payments, proof.differences, proof.months) == (1, [], {3: 1})

    play(story, speaks="ydlw")


@pytest.mark.parametrize(
    ("do", "final"),
    [
        ("silence:done", "COMPLETED"),  # found in the account's history
        ("silence:lost", "REVERSED"),  # not found, cancelled, and the card is given back
        ("drop:done", "COMPLETED"),
        ("ambiguous:50:done", "COMPLETED"),
        ("ambiguous:50:lost", "REVERSED"),
        ("refuse:27", "REVERSED"),
    ],
)
def test_a_posting_without_a_word_is_looked_for_in_the_history(play: Callable[..., None], do: str, final: str) -> None:
    async def story(world: Any) -> None:
        await world.pay(await world.kiosk(), 1)
        proof = await world.settle()
        assert proof.differences == [] and proof.states == {final: 1}
        posted = [
            fact for fact in read_facts(world.folder / "marketing.jsonl", "marketing") if fact["fact"] == "posting"
        ]
        assert len(posted) == (1 if final == "COMPLETED" else 0), "never posted twice: it knows no serials"

    play(story, _script(do), speaks="ydlw")


@pytest.mark.parametrize("speaks", ["json", "ydlw"])
def test_a_payment_that_began_before_the_upgrade_finishes_in_its_version(
    play: Callable[..., None], speaks: Speaks
) -> None:
    """Its posting is silent, the new version goes live, and it is settled in the old one; the next payment is new."""
    old, new = ("", "1.1") if speaks == "json" else ("1.0.0", "1.1.0")

    async def story(world: Any) -> None:
        kiosk, other = await world.kiosk(), await world.kiosk(2)
        bills, more = await world.bills(kiosk, 1), await world.bills(other, 1)
        first = asyncio.create_task(kiosk.pay(bills, (bills.rows[0][0],), CardChoice(1)))
        await until(lambda: world.marketing.counts["post_silence"] == 1)
        told = await _ask(world, do="upgrade", spec=world.next_spec, at=_at(0))
        assert told["upgrade_live"] == "yes"
        after = (await _ask(world, do="trace", limit=1))[-1]["number"]
        second = await other.pay(more, (more.rows[0][0],), CardChoice(1))
        assert second.final == "00" and (await first).final == "00"
        proof = await world.settle()
        assert proof.differences == [] and proof.states == {"COMPLETED": 2}
        rows = await _ask(world, do="trace", link="marketing", after=after, limit=500)
        spoken = _spoken(rows) - {("echo", new), ("sign_on", new)}
        asks = "status" if speaks == "json" else "history"
        assert spoken == {("post", new), (asks, old)}
        status = await _ask(world, do="status")
        assert status["specs"]["upgrade"].endswith("1.1")

        assert world.worker.threeway._dialect is world.worker.switch.specs.live, "it asks in both versions too"

        # The way back.
        told = await _ask(world, do="upgrade")
        assert "upgrade" not in told
        assert world.worker.threeway._dialect is world.worker.switch.specs.live
        after = rows[-1]["number"]
        assert (await world.pay(kiosk, 1)).final == "00"
        rows = await _ask(world, do="trace", link="marketing", after=after, limit=500)
        assert {row["facts"].get("version", "") for row in rows if row["facts"].get("op") == "post"} == {old}
        assert (await world.settle()).differences == []

    play(story, _script("silence:done"), speaks=speaks)


def test_an_upgrade_that_is_wrong_is_refused_and_changes_nothing(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        for order, said in (
            ({"spec": "gone.toml", "at": _at(0)}, r"gone\.toml"),
            ({"spec": world.next_spec, "at": "soon"}, "soon"),
            ({"spec": "marketing_ydlw_1_0", "at": _at(0)}, "another format"),
            ({"spec": "marketing_json_1_0", "at": _at(0)}, "could not be told apart"),
        ):
            with pytest.raises(StartError, match=said):
                await _ask(world, do="upgrade", **order)
        assert "upgrade" not in (await _ask(world, do="status"))["specs"]
        assert (await world.pay(await world.kiosk())).final == "00"

    play(story)


def test_an_upgrade_survives_a_worker_that_starts_anew(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        await _ask(world, do="upgrade", spec=world.next_spec, at=_at(0))
        config = world.worker.config
        await world.worker.stop()
        world.config = config
        await world.start_worker()
        assert (await _ask(world, do="status"))["specs"]["upgrade_live"] == "yes"
        assert (await world.pay(await world.kiosk())).final == "00"
        assert world.marketing.counts["version_1.1"] > 0

    play(story)


def test_a_trace_gives_whole_messages_of_the_marketing_system_and_of_no_other(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        assert (await world.pay(await world.kiosk())).final == "00"
        rows = await _ask(world, do="trace", frames=True, limit=500)
        assert {row["link"] for row in rows if "frame" in row} == {"marketing"}
        assert all(len(row["frame"]) == 2 * row["size"] for row in rows if row["link"] == "marketing")
        assert not any("frame" in row for row in await _ask(world, do="trace", limit=500))

    play(story)
