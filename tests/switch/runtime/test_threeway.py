"""The continuous three-way check, on real parts, with differences planted at the host itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from switch import limits
from switch.ops.status import ask
from switch.store.projector import read_books


async def _raw(world: Any, **request: Any) -> Any:
    """Straight to the marketing system, past the switch: what an operator there might do by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.marketing.port)
    for number, each in enumerate(({"op": "sign_on"}, request), 1):
        frame = json.dumps({"id": number, "channel": "SELF01", **each}).encode()
        writer.write(len(frame).to_bytes(4, "big") + frame)
        size = int.from_bytes(await reader.readexactly(4), "big")
        answer = json.loads(await reader.readexactly(size))
    writer.close()
    return answer


async def _check(world: Any) -> Any:
    await read_books(world.dsn)  # as the projector does every second
    return await asyncio.to_thread(ask, world.config, do="check")


async def _postings(world: Any, payment: Any) -> list[Any]:
    rows = await world.rows("SELECT body::text AS body FROM switch.payment WHERE account = $1", payment.account)
    return list(json.loads(rows[0]["body"])["postings"])


def test_differences_are_found_named_and_forgotten_when_they_are_gone(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "THREEWAY_AFTER_S", 0.0)

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        good, undone = await world.pay(kiosk, 1), await world.pay(kiosk, 2)
        assert good.final == undone.final == "00"
        told = await _check(world)
        assert told["classes"] == {"card_unconfirmed": {"payments": 2, "fen": 0}} and told["money_at_risk_fen"] == 0
        # Somebody undoes one month at the marketing system. What was compared stays compared until it moves, so the
        # record of it is taken away as well.
        row = (await _postings(world, undone))[0]
        answer = await _raw(world, op="cancel", serial=row[5], if_posted="undo")
        assert answer["code"] == "00", answer
        await world.rows("DELETE FROM switch.threeway_check")
        told = await _check(world)
        assert told["classes"]["marketing_short"] == {"payments": 1, "fen": row[4]}
        assert told["money_at_risk_fen"] == row[4]
        assert world.metric("switch_money_at_risk_fen") == row[4]
        assert world.metric('switch_threeway_breaks{class="marketing_short"}') == 1
        await world.rows("UPDATE switch.threeway_check SET ver = 0")
        assert (await _check(world))["classes"]["marketing_short"]["payments"] == 1, "still there, counted once"

    play(story)


def test_a_posting_without_its_payment_is_the_utilitys_loss(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "THREEWAY_AFTER_S", 0.0)

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1)
        assert payment.stable == "declined"
        await read_books(world.dsn)
        (row,) = await _postings(world, payment)
        receivable, period, _, _, amount, serial, _ = row
        day = world.worker.switch.marketing_link.day
        answer = await _raw(
            world,
            op="post",
            serial=serial,
            account=payment.account,
            receivable=receivable,
            period=period,
            amount=amount,
            day=day,
            reference="by hand",
        )
        assert answer["code"] == "00", answer
        told = await _check(world)
        assert told["classes"] == {"utility_out_of_pocket": {"payments": 1, "fen": amount}}

    play(story, "[unionpay]\ndecline_rate = 1.0\n")


def test_a_host_that_does_not_answer_proves_nothing(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "THREEWAY_AFTER_S", 0.0)

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert (await world.pay(kiosk, 1)).final == "00"
        replace = msgspec.structs.replace
        mute = replace(world.scenario, marketing=replace(world.scenario.marketing, query_silence_rate=1.0))
        world.marketing.behave(mute)
        told = await _check(world)
        assert (told["compared"], told["not_answered"], told["classes"]) == (0, 1, {})

    play(story)
