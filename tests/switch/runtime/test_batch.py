"""Batch settlement of kiosks through the whole switch: totals, details, differences; and that no payment is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from switch import limits
from switch.machines import days
from switch.ops.books import show_batches
from switch.runtime.clock import SystemClock
from switch.sim.kiosk_client import CardChoice


def _mmdd(back: int = 0) -> str:
    return f"{days.day_after(SystemClock().wall_us(), -back) % 10_000:04d}"


async def _paid(world: Any, kiosk: Any, count: int) -> None:
    for _ in range(count):
        assert (await world.pay(kiosk, 1)).final == "00"


async def _events(world: Any) -> int:
    (row,) = await world.rows("SELECT count(*) AS events FROM switch.payment_event")
    return int(row["events"])


def test_a_day_on_which_both_agree(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk, other = await world.kiosk(), await world.kiosk(2)
        await _paid(world, kiosk, 2)
        await _paid(world, other, 1)
        answer = await kiosk.ask_batch()
        assert (answer.code, answer.stable) == ("00", "batch_equal") and answer.is_proof
        assert (answer.batch.count, answer.batch.amount) == (2, sum(kiosk.paid[_mmdd()].values()))
        again = await kiosk.ask_batch(serial=answer.batch.serial)
        assert (again.stable, again.batch) == ("batch_equal", answer.batch), "the same key is answered the same"
        await _paid(world, kiosk, 1)
        conflict = await kiosk.ask_batch(serial=answer.batch.serial)
        assert conflict.code == "94", "the same key, and it says something else"
        assert (await kiosk.ask_batch()).batch.count == 3, "more was paid: the day is settled once more"
        nothing = await (await world.kiosk(3)).ask_batch()
        assert (nothing.stable, nothing.batch.count) == ("batch_equal", 0)
        assert (await kiosk.ask_batch(day=_mmdd(1))).stable == "batch_equal", "yesterday neither has anything"
        states = [row["state"] for row in await world.rows("SELECT state FROM switch.batch_settlement")]
        assert states == ["equal"] * 4
        assert world.metric('switch_batches_total{result="equal"}') == 5

    play(story)


def test_what_differs_is_reported_one_by_one_and_changes_no_payment(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await _paid(world, kiosk, 4)
        declined = await world.pay(kiosk, 1, CardChoice(3, wrong_pin=True))
        assert declined.final == "55"
        book = kiosk.paid[_mmdd()]
        same, lost, other, _ = list(book)
        amount = book.pop(lost)  # a slip of the kiosk's memory
        book[other] += 1
        book["777777"] = 500  # never was
        book[declined.serial] = declined.amount
        events = await _events(world)
        answer = await kiosk.ask_batch()
        assert (answer.code, answer.stable, answer.batch.count) == ("B3", "batch_differs", 4)
        assert (await kiosk.end_batch(answer.batch, len(book))).stable == "upload_incomplete", "nothing has come yet"
        assert (await kiosk.upload_batch(answer.batch)).stable == "batch_stored"
        assert (await kiosk.upload_batch(answer.batch)).stable == "batch_stored", "again: the same rows"
        told = await kiosk.end_batch(answer.batch, len(book))
        assert (told.code, told.stable, told.batch.differences) == ("B4", "batch_reported", 4)
        wanted = {
            (lost, "journal_only", 0, amount),
            (other, "amount", book[other], book[other] - 1),
            ("777777", "kiosk_only", 500, 0),
            (declined.serial, "not_paid", declined.amount, 0),
        }
        assert set(told.batch.listed) == wanted and same not in {each[0] for each in told.batch.listed}
        assert (await kiosk.end_batch(answer.batch, len(book))).batch.listed == told.batch.listed, (
            "again: the same word"
        )
        late = await kiosk.upload_batch(answer.batch, {"000001": 1})
        assert late.stable == "batch_reported", "what was compared stays as it was"
        rows = await world.rows("SELECT payment_serial, kind, kiosk_fen, switch_fen FROM switch.batch_difference")
        assert {tuple(row) for row in rows} == wanted
        assert await _events(world) == events, "no payment has moved"
        assert (await world.settle()).holds

    play(story)


def test_wrong_totals_with_right_details_agree_after_all(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await _paid(world, kiosk, 2)
        right = dict(kiosk.paid[_mmdd()])
        kiosk.paid[_mmdd()]["000999"] = 1
        answer = await kiosk.ask_batch()
        assert answer.stable == "batch_differs"
        await kiosk.upload_batch(answer.batch, right)
        assert (await kiosk.end_batch(answer.batch, 2)).stable == "batch_equal"
        assert await world.rows("SELECT * FROM switch.batch_difference") == []

    play(story)


def test_a_day_with_an_open_payment_is_settled_later(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        paying = asyncio.create_task(world.pay(kiosk, 1))
        await helpers.wait_until(lambda: world.unionpay.counts["purchase"] == 1)
        answer = await kiosk.ask_batch()
        assert (answer.code, answer.stable) == ("B2", "batch_open")
        assert await world.rows("SELECT * FROM switch.batch_settlement") == [], "nothing is said of it yet"
        assert (await paying).final == "00"
        assert (await kiosk.ask_batch()).stable == "batch_equal"

    play(story, "[unionpay]\ndelay_ms = [400.0, 500.0]\nlate_s = [0.2, 0.3]\n")


@pytest.mark.parametrize("moment", ["asked", "half", "all"])
def test_the_switch_is_restarted_in_the_middle(play: Callable[..., None], moment: str) -> None:
    """What a kiosk heard is durable; what it did not hear it does again, and nothing is there twice."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await _paid(world, kiosk, 2)
        today = kiosk.paid[_mmdd()]
        today["777777"] = 500
        answer = await kiosk.ask_batch()
        rows = list(today.items())
        if moment != "asked":
            await kiosk.upload_batch(answer.batch, dict(rows[:2]))
        if moment == "all":
            await kiosk.upload_batch(answer.batch, dict(rows[2:]))
        await world.worker.stop()
        await world.start_worker()
        back = await world.kiosk(1)
        back.paid = kiosk.paid
        assert (await back.ask_batch(serial=answer.batch.serial)).stable == "batch_differs", "it remembers"
        await back.upload_batch(answer.batch)
        told = await back.end_batch(answer.batch, 3)
        assert told.batch.listed == (("777777", "kiosk_only", 500, 0),)

    play(story)


def test_what_is_wrong_with_a_settlement_is_told(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        first = await kiosk.ask_batch()
        assert (await kiosk.ask_batch(day=_mmdd(limits.BATCH_BACK_DAYS + 2))).stable == "stale_date"
        assert (await kiosk.ask_batch(day="0230")).stable == "stale_date"
        assert (await kiosk.ask_batch(day="12")).stable == "format"
        unknown = type(first.batch)("999999", _mmdd(), 0, 0, 0, ())
        assert (await kiosk.upload_batch(unknown, {"000001": 1})).code == "25"
        assert (await kiosk.end_batch(unknown, 1)).code == "25"
        assert (await kiosk.upload_batch(first.batch, {"000001": 1})).stable == "batch_equal"
        assert (await kiosk.upload_batch(first.batch, {"1": 1})).stable == "format"
        stranger = await world.kiosk(2)
        assert (await stranger.end_batch(first.batch, 0)).code == "25", "another terminal's settlement is nobody's"

    play(story)


def test_more_than_one_message_of_details(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        count = 2 * limits.BATCH_DETAILS_MAX + 5
        kiosk.paid[_mmdd()] = {f"{n:06d}": 10**10 + n for n in range(900_000, 900_000 + count)}
        answer = await kiosk.ask_batch()
        assert (await kiosk.upload_batch(answer.batch)).stable == "batch_stored"
        told = await kiosk.end_batch(answer.batch, count)
        assert told.batch.differences == count and 5 < len(told.batch.listed) <= limits.BATCH_DIFFERENCES_TOLD_MAX
        assert told.message is not None and len(told.message.raw(48)) <= 999

    play(story)


def test_people_see_what_differs(play: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    async def story(world: Any) -> None:
        assert await show_batches(world.dsn) == 0
        kiosk = await world.kiosk()
        await _paid(world, kiosk, 1)
        kiosk.paid[_mmdd()]["777777"] = 500
        answer = await kiosk.ask_batch()
        assert await show_batches(world.dsn) == 1, "its details have not come: that is worth a look, too"
        await kiosk.upload_batch(answer.batch)
        await kiosk.end_batch(answer.batch, 2)
        capsys.readouterr()
        assert await show_batches(world.dsn) == 1
        shown = capsys.readouterr().out
        assert "777777" in shown and "kiosk_only" in shown and "¥5.00" in shown and "1 settlements differ" in shown

    play(story)
