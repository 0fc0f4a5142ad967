"""Batch settlement with the card network through the whole switch: totals, batch numbers, details, lost answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest

from switch import limits
from switch.ops.books import show_batches
from switch.sim import testkeys
from switch.sim.unionpay_host import _Purchase

FIRST, NEXT = "000001", "000002"


def terminal(number: int) -> str:
    return testkeys.test_terminal(number)[0]


async def settle_now(world: Any) -> None:
    await world.worker.switch._settlement.look()


async def batch_of(world: Any, number: int = 1) -> str:
    (row,) = await world.rows("SELECT batch_number FROM switch.terminal WHERE terminal_id = $1", terminal(number))
    return str(row["batch_number"])


async def states(world: Any) -> dict[tuple[str, str], str]:
    rows = await world.rows("SELECT terminal_id, batch_number, state FROM switch.card_settlement")
    return {(row["terminal_id"], row["batch_number"]): row["state"] for row in rows}


def said(world: Any, kind: str) -> list[dict[str, Any]]:
    """Facts of the host's ledger."""
    world.unionpay.ledger.flush()
    lines = (world.folder / "unionpay.jsonl").read_bytes().splitlines()
    return [fact for line in lines if (fact := orjson.loads(line))["fact"] == kind]


@pytest.fixture
def settling(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``play`` with a switch that settles from midnight on, when it is told to look."""
    monkeypatch.setattr(limits, "SETTLE_LOOK_S", 3_600.0)
    return partial(play, settle_at="00:00")


def test_terminals_with_charges_get_their_next_batch_and_others_keep_theirs(settling: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        one, two, _ = [await world.kiosk(number) for number in (1, 2, 3)]
        first, second = await world.pay(one), await world.pay(one)
        third = await world.pay(two)
        assert [each.final for each in (first, second, third)] == ["00"] * 3
        await settle_now(world)
        facts = said(world, "settled")
        assert [(fact["terminal"], fact["code"], fact["count"], fact["fen"]) for fact in facts] == [
            (terminal(1), "1", 2, first.amount + second.amount),
            (terminal(2), "1", 1, third.amount),
        ]
        assert [await batch_of(world, number) for number in (1, 2, 3)] == [NEXT, NEXT, FIRST]
        assert await states(world) == {
            (terminal(1), FIRST): "balanced",
            (terminal(2), FIRST): "balanced",
            (terminal(3), FIRST): "empty",
        }
        assert (await world.pay(one)).final == "00", "the kiosk goes on, and knows nothing of it"
        stan_keys = [row["stan_key"] for row in await world.rows("SELECT stan_key FROM switch.claim ORDER BY made_at")]
        assert [key[9:15] for key in stan_keys] == [FIRST, FIRST, FIRST, NEXT]
        await settle_now(world)
        assert world.unionpay.counts["settlement"] == 2, "once a day"
        assert world.metric('switch_settlements_total{result="balanced"}') == 2
        assert (await world.settle()).holds

    settling(story)


def test_details_are_sent_where_the_totals_differ(
    settling: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        for _ in range(limits.SETTLE_DETAILS_MAX + 2):
            assert (await world.pay(kiosk, 1)).final == "00"
        # A charge that no journal knows.
        world.unionpay._purchases[f"{terminal(1)}|{FIRST}|999999"] = _Purchase("charged", 500)
        await settle_now(world)
        (fact,) = said(world, "settled")
        assert (fact["code"], fact["count"], fact["asked_count"]) == ("2", 11, 10)
        (uploaded,) = said(world, "uploaded")
        assert (uploaded["count"], uploaded["differ"]) == (10, ["999999"])
        assert world.unionpay.counts["upload"] == 3, "eight, two, and the end"
        assert await states(world) == {(terminal(1), FIRST): "uploaded"}
        assert await batch_of(world) == NEXT and (await world.pay(kiosk)).final == "00"
        assert (await world.settle()).holds, "it moved no money"
        assert await show_batches(world.dsn) == 1
        shown = capsys.readouterr().out
        assert f"{terminal(1)}  batch {FIRST}" in shown and "uploaded: the card network has other totals" in shown

    settling(story)


def test_the_host_settled_and_its_word_was_lost(settling: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert (await world.pay(kiosk)).final == "00"
        await settle_now(world)
        assert await states(world) == {(terminal(1), FIRST): "asked"} and await batch_of(world) == FIRST
        await settle_now(world)
        assert world.unionpay.counts["settlement"] == 1, "not again so soon"
        await world.pay(kiosk)
        await world.settle()
        ends = [state for _, state in await world.events()][-1:]
        assert ends == ["DECLINED"], "the host has the next batch: 77, and nothing was charged"
        assert await kiosk.sign_on() == "00" and await batch_of(world) == NEXT, "the sign-on brought it"
        assert (await world.pay(kiosk)).final == "00"
        monkeypatch.setattr(limits, "SETTLE_AGAIN_S", 0.0)
        await settle_now(world)
        assert await states(world) == {(terminal(1), FIRST): "balanced"}, "asked about the old batch, it says so again"
        assert await batch_of(world) == NEXT and len(said(world, "settled")) == 1
        assert (await world.settle()).holds

    settling(story, '[[unionpay.script]]\nwhen = { message = "settlement" }\ndo = "silence:done"')


@pytest.mark.parametrize("do", ["silence:lost", "drop:done", "decline:96"])
def test_what_is_lost_is_asked_again_after_a_restart_too(
    settling: Callable[..., None], monkeypatch: pytest.MonkeyPatch, helpers: Any, do: str
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert (await world.pay(kiosk)).final == "00"
        await settle_now(world)
        assert await states(world) == {(terminal(1), FIRST): "asked"} and await batch_of(world) == FIRST
        if do != "drop:done":
            assert (await world.pay(kiosk)).final == "00", "its batch goes on: the totals of the next question are new"
        await world.worker.stop()
        await world.start_worker()
        monkeypatch.setattr(limits, "SETTLE_AGAIN_S", 0.0)
        await settle_now(world)
        assert await states(world) == {(terminal(1), FIRST): "balanced"} and await batch_of(world) == NEXT
        (fact,) = said(world, "settled")
        assert fact["count"] == (1 if do == "drop:done" else 2)
        assert (await (await world.kiosk()).inquire("0300000009")).code in ("00", "E2")
        assert (await world.settle()).holds

    settling(story, f'[[unionpay.script]]\nwhen = {{ message = "settlement" }}\ndo = "{do}"')


@pytest.mark.parametrize(("nth", "do"), [(1, "silence:lost"), (2, "decline:30"), (2, "drop:done")])
def test_an_upload_that_breaks_off_is_made_again(
    settling: Callable[..., None], monkeypatch: pytest.MonkeyPatch, helpers: Any, nth: int, do: str
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert (await world.pay(kiosk)).final == "00"
        world.unionpay._purchases[f"{terminal(1)}|{FIRST}|999999"] = _Purchase("charged", 500)
        await settle_now(world)
        assert await states(world) == {(terminal(1), FIRST): "differs"} and await batch_of(world) == NEXT
        await world.worker.stop()
        await world.start_worker()
        monkeypatch.setattr(limits, "SETTLE_AGAIN_S", 0.0)
        await settle_now(world)
        assert await states(world) == {(terminal(1), FIRST): "uploaded"}
        assert world.unionpay.counts["settlement"] == 1
        assert all(fact["differ"] == ["999999"] for fact in said(world, "uploaded"))

    settling(story, f'[[unionpay.script]]\nwhen = {{ message = "upload", nth = {nth} }}\ndo = "{do}"')


def test_only_with_nothing_under_way_and_then_nothing_begins(settling: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        paying = asyncio.create_task(world.pay(kiosk, 1))
        await helpers.wait_until(lambda: world.unionpay.counts["purchase"] == 1)
        await settle_now(world)
        assert world.unionpay.counts["settlement"] == 0, "its totals do not stand still"
        assert (await paying).final == "00"
        bills = await world.bills(kiosk, 1)
        looking = asyncio.create_task(settle_now(world))
        await helpers.wait_until(lambda: world.unionpay.counts["settlement"] == 1)
        refused = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), helpers.card(1))
        assert (refused.final, refused.stable) == ("N2", "busy")
        await looking
        paid = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), helpers.card(1))
        assert paid.final == "00" and await batch_of(world) == NEXT
        assert (await world.settle()).holds

    settling(story, "[unionpay]\ndelay_ms = [300.0, 400.0]\nlate_s = [0.2, 0.3]\n")


def test_a_reversal_keeps_the_batch_of_its_purchase(settling: Callable[..., None], helpers: Any) -> None:
    """The purchase waits for a person when its batch is settled; undone later, it is undone in that batch."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1)
        assert payment.final == ""
        await helpers.wait_until(lambda: world.unionpay.counts["reversal"] >= 1)
        await settle_now(world)
        assert world.unionpay.counts["settlement"] == 0, "something has to be taken back first"
        await world.settle()
        assert (await kiosk.ask_result(payment)).code == "R2"
        await settle_now(world)
        assert await states(world) == {(terminal(1), FIRST): "empty"}, "what is taken back is no charge"
        assert [fact["batch"] for fact in said(world, "reversal")] == [FIRST]

    settling(story, '[[unionpay.script]]\nwhen = { message = "purchase" }\ndo = "silence:done"')


def test_without_a_time_nobody_settles(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        assert world.worker.switch._settlement is None

    play(story)


def test_a_refusal_of_old_keys_says_nothing_about_new_ones(play: Callable[..., None]) -> None:
    """The reversal and the sign-on leave together, and the host knows the new keys first: it refuses the reversal for
    its MAC, and that is heard when the new keys are there. Then the next one goes with those, and does not ask for
    others again, and so for ever."""

    async def story(world: Any) -> None:
        kiosk, send_later = await world.kiosk(), world.unionpay.send_later

        def later(connection: Any, delay_s: float, frame: bytes) -> None:
            is_refusal = frame[11:13] == b"\x04\x10" and b"A0" in frame
            send_later(connection, 0.3 if is_refusal else delay_s, frame)

        world.unionpay.send_later = later
        payment = await world.pay(kiosk, 1)
        assert (await world.settle()).holds
        assert await kiosk.sign_on() == "00" and (await kiosk.ask_result(payment)).code == "R2"
        assert world.unionpay.counts["reversal_refused_A0"] == 1
        assert world.unionpay.counts["sign_on"] == 2, "the kiosk's, and one"

    play(
        story,
        '[[unionpay.script]]\nwhen = { message = "purchase" }\ndo = "silence:done"\n'
        '[[unionpay.script]]\nwhen = { message = "reversal" }\ndo = "decline:40"\n',
    )
