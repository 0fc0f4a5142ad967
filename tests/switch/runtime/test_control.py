"""A running switch, asked: status, trace, drain; and what a stranger or a wrong line gets."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from switch import contract
from switch.cli import main
from switch.errors import StartError
from switch.ops.status import ask
from switch.runtime.control import VERSION
from switch.sim import customers, testkeys


async def _ask(world: Any, **request: Any) -> Any:
    return await asyncio.to_thread(ask, world.config, **request)


def test_status_and_trace_tell_what_happened_and_no_card(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        told = await _ask(world, do="status")
        for _ in range(50):
            if told["ready"]:
                break
            # While others write to the disk two commits in a row may take longer than COMMIT_PROBE_MAX_S: it is right
            # to say so then, and to be ready with the next quick one.
            await asyncio.sleep(0.1)
            told = await _ask(world, do="status")
        assert told["ready"], told["not_ready"]
        assert told["lease_held"] and told["instance"] == "switch"
        assert told["links"]["unionpay"]["up"] and not told["links"]["marketing"]["breaker_open"]
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk)
        assert payment.final == "00"
        rows = await _ask(world, do="trace", limit=500)
        assert [row["number"] for row in rows] == sorted(row["number"] for row in rows)
        seen = {(row["link"], row["direction"], row["facts"].get("mti") or row["facts"].get("op")) for row in rows}
        assert {("kiosk", "in", "0200"), ("kiosk", "out", "0210"), ("unionpay", "out", "0200")} <= seen
        assert ("unionpay", "in", "0210") in seen and ("marketing", "out", "post") in seen
        text = json.dumps(rows)
        assert testkeys.test_pan(1) not in text and testkeys.test_pan(1)[:12] not in text
        mine = await _ask(world, do="trace", link="unionpay", terminal=kiosk.terminal_id, limit=500)
        assert mine and {row["facts"]["terminal"] for row in mine} == {kiosk.terminal_id}
        assert await _ask(world, do="trace", after=rows[-1]["number"] + 50) == []

    play(story)


def test_when_each_terminal_was_last_heard(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        assert await _ask(world, do="heard") == {"rows": [], "next": 0}, "nobody has spoken yet"
        kiosk = await world.kiosk()
        assert (await world.pay(kiosk)).final == "00"
        (row,) = (await _ask(world, do="heard"))["rows"]
        told = dict(zip(contract.HEARD_COLUMNS, row, strict=True))
        assert told["terminal_id"] == kiosk.terminal_id and told["signed_on"] and told["has_line"]
        assert 0 <= told["heard_s"] < 60 and told["echo_s"] is None, "it has paid, and sent no echo test"
        await kiosk.echo()
        (row,) = (await _ask(world, do="heard"))["rows"]
        assert row[1] == row[2] is not None, "the echo test was the last word"
        other = await world.kiosk(2)
        kiosk.close()
        pages = [await _ask(world, do="heard", limit=1, after=after) for after in (0, 1, 2)]
        assert [page["next"] for page in pages] == [1, 2, 0]
        assert [row[0] for page in pages for row in page["rows"]] == [kiosk.terminal_id, other.terminal_id]
        async with asyncio.timeout(30):
            while (gone := (await _ask(world, do="heard", limit=1))["rows"][0])[4]:  # noqa: ASYNC110 - asked over a socket
                await asyncio.sleep(0.05)
        assert gone[3], "its keys are good; only its line is gone"

    play(story)


def test_frames_that_are_refused_are_heard_of_too(play: Callable[..., None]) -> None:
    """Out of service or not signed on: the terminal is there. A name that is no terminal's is nobody."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await _ask(world, do="service", terminal=kiosk.terminal_id, on=False, reason="stolen")
        session = world.worker.switch._sessions._sessions[kiosk.terminal_id]
        session.heard_at = 0.0
        assert (await _ask(world, do="heard"))["rows"][0][1] is None
        assert (await kiosk.inquire(customers.account(0))).code != "00"
        assert (await _ask(world, do="heard"))["rows"][0][1] is not None

    play(story)


def test_the_story_of_a_payment_is_its_messages_in_words_and_no_card_and_no_account(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk)
        assert payment.final == "00"
        (row,) = await world.rows("SELECT DISTINCT payment_id, opened_on FROM switch.payment_event")
        told = await _ask(world, do="story", payment=row["payment_id"], day=row["opened_on"])
        assert [each["link"] for each in told] == ["card"] + ["marketing"] * (len(told) - 1)
        assert all(tuple(each) == contract.STORY_KEYS and each["lines"] for each in told)
        card, *months = told
        assert card["title"].startswith("0200") and {each["title"] for each in months} == {"post"}
        fields = {line[0]: line for line in card["lines"]}
        assert fields["11"][2].isdigit() and fields["41"][2] == kiosk.terminal_id
        posted = [{line[0]: line[2] for line in each["lines"]} for each in months]
        assert sum(int(each["amount"]) for each in posted) == payment.amount
        assert all(each["account"].startswith("****") for each in posted)
        text = json.dumps(told)
        (opened,) = await world.rows("SELECT body FROM switch.payment_event WHERE ver = 1")
        assert json.loads(opened["body"])["account"] not in text
        assert testkeys.test_pan(1) not in text and testkeys.test_pan(1)[6:15] not in text
        assert await _ask(world, do="story", payment=12, day=20261124) == []
        with pytest.raises(StartError, match="number of a payment"):
            await _ask(world, do="story")

    play(story)


def test_a_drain_by_hand_closes_the_door_and_opens_it_again(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk)
        assert await _ask(world, do="drain") == {"draining": True, "open": 0}
        assert not (await _ask(world, do="status"))["ready"]
        assert (await kiosk.inquire(bills.account)).code != "00"
        await _ask(world, do="drain", on=False)
        assert (await kiosk.inquire(bills.account)).code == "00"
        told = await _ask(world, do="service", terminal=kiosk.terminal_id, on=False, reason="stolen")
        assert told == {"terminal": kiosk.terminal_id, "in_service": False}
        assert (await kiosk.inquire(bills.account)).code != "00"

    play(story)


def test_wrong_orders_are_told_what_is_wrong(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        path = Path(world.config.control.path)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116
        for request, why in (
            ({"do": "dance"}, "known: case_confirm, case_propose, case_withdraw, certificates, check, drain, heard"),
            ({"do": "trace", "link": "moon"}, "no link 'moon'"),
            ({"do": "status", "and": 1}, "expected a JSON object"),
            ({"do": "service", "terminal": "NOBODY00"}, "no terminal NOBODY00"),
        ):
            with pytest.raises(StartError, match=why):
                await _ask(world, **request)
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"x" * 200_000)
        assert await reader.read() == b"", "a line without end is not waited for"
        writer.close()
        assert (await _ask(world, do="status"))["ready"], "and nobody else is hurt by it"

    play(story)


def test_no_switch_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = main(["example-config"]) == 0 and capsys.readouterr().out
    path = tmp_path / "switch.toml"
    path.write_text(str(text))
    for command in ("status", "trace", "drain"):
        assert main([command, "--config", str(path)]) == 2
        assert "no switch runs here" in capsys.readouterr().err


def test_the_contract_names_every_order_of_the_socket(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        orders = world.worker._orders()
        assert tuple(sorted(orders)) == contract.CONTROL_ORDERS and contract.CONTROL_VERSION == VERSION

    play(story)
