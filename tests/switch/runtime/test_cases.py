"""Payments that wait for a person: the commands, four eyes, and the running switch that carries a decision out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from switch.cli import main
from switch.config import UnionpayProfile
from switch.errors import StartError
from switch.machines.payment_table import Input
from switch.model.payment import State
from switch.ops.status import ask

from .test_attacks import Bench

# A purchase that the host never saw, and whose word about it is no proof.
SILENT = """
[unionpay]
silence_rate = 1.0
silence_charged_share = 0.0
reversal_not_found = "25"
"""
UNPROVEN = UnionpayProfile(reversal_00="found_only", reversal_not_found="unproven")
CARD = "card 6222021234567890128"  # a test number: BIN 622202, valid check digit
WHO = {"evidence": "settlement file of 1124, line 7", "proposed_by": "lee", "confirmed_by": "wang"}


def test_two_people_close_a_case_and_the_switch_carries_it_out(
    play: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(world: Any) -> None:
        path = world.folder / "people.toml"
        _configure(path, world)

        async def say(*arguments: str) -> tuple[int, str]:
            status = await asyncio.to_thread(main, ["case", *arguments, "--config", str(path)])
            output = capsys.readouterr()
            return status, output.out + output.err

        assert await say("list") == (0, "no payment waits for a person\n")
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk)
        await _until_state(world, "UNPROVEN")
        status, text = await say("list", "--json")
        (case,) = json.loads(text)
        number = case["case"]
        assert (case["state"], case["fen"], case["decision"]) == ("UNPROVEN", payment.amount, None)
        status, text = await say("show", number)
        assert status == 0, text
        assert "row 16u" in text and "approval never seen" in text and "6222" in text

        refused = [
            (("resolve", number, "--by", "lee"), "propose with --decision"),
            (("resolve", number, "--by", "lee", "--confirm"), "nothing is proposed"),
            (("resolve", number, "--by", "lee", "--decision", "nothing", "--evidence", "x"), "3 to 2000"),
            (
                ("resolve", number, "--by", "l", "--decision", "nothing", "--evidence", "6222021234567890128"),
                "card number",
            ),
            (("resolve", "C12", "--by", "lee", "--confirm"), "no such payment"),
            (("resolve", number, "--by", "lee", "--withdraw"), "no proposal"),
        ]
        for arguments, why in refused:
            status, text = await say(*arguments)
            assert status == 2 and why in text, (arguments, text)
        for wrong in ("paid", "nothing"):
            propose = ("resolve", number, "--decision", wrong, "--evidence", WHO["evidence"], "--by", "lee")
            assert (await say(*propose))[0] == 0
            status, text = await say(*propose)
            assert status == 2 and "just proposed" in text
            for alone in ("lee", "LEE"):
                status, text = await say("resolve", number, "--confirm", "--by", alone)
                assert status == 2 and "another person must confirm" in text
            status, text = await say("resolve", number, "--confirm", "--by", "wang")
            if wrong == "paid":
                assert status == 1 and "UNPROVEN cannot be settled so" in text
        assert status == 0 and f"{number}: done" in text
        assert await _states(world) == {"REVERSED"}
        assert await say("list") == (0, "no payment waits for a person\n")
        await kiosk.ask_result(payment)
        assert payment.stable == "returned"
        proof = await world.settle()
        assert proof.holds, proof.differences
        rows = await world.rows("SELECT proposed_by, confirmed_by, outcome FROM switch.case_decision ORDER BY id")
        assert [tuple(row) for row in rows][1] == ("lee", "wang", "done")
        (body,) = [
            json.loads(row["body"])
            for row in await world.rows("SELECT body FROM switch.payment_event WHERE \"row\" = '19u'")
        ]
        assert body["decision"]["confirmed_by"] == "wang"

    play(story, SILENT, profile=UNPROVEN)


def test_the_same_through_the_control_socket_for_the_admin_service(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await world.pay(kiosk)
        await _until_state(world, "UNPROVEN")
        (row,) = await world.rows("SELECT payment_id FROM switch.open_payment")
        number = row["payment_id"]

        async def say(word: str, **more: Any) -> Any:
            return await asyncio.to_thread(ask, world.config, do=f"case_{word}", payment=number, **more)

        good = {"decision": "nothing", "evidence": "file of 1124", "by": "lee"}
        for word, order, code in (
            ("propose", good | {"payment": 12}, "case_unknown"),
            ("propose", good | {"decision": "lost"}, "case_decision"),
            ("propose", good | {"decision": "paid"}, "case_decision"),
            ("propose", good | {"evidence": CARD}, "case_evidence"),
            ("propose", good | {"evidence": "x"}, "case_evidence"),
            ("propose", good | {"by": " "}, "control"),
            ("confirm", {"number": 1, "by": "wang"}, "case_changed"),
        ):
            with pytest.raises(StartError, match=f"\\[{code}\\]"):
                await asyncio.to_thread(ask, world.config, **({"do": f"case_{word}", "payment": number} | order))
        first = await say("propose", **good)
        assert first["case"] == f"C{number}"
        with pytest.raises(StartError, match="case_proposed"):
            await say("propose", **good)
        await say("withdraw", number=first["number"], by="lee")
        second = await say("propose", **good)
        for told, who, code in ((first, "wang", "case_changed"), (second, "LEE", "case_same_person")):
            with pytest.raises(StartError, match=code):
                await say("confirm", number=told["number"], by=who)
        assert await _states(world) == {"UNPROVEN"}
        await say("confirm", number=second["number"], by="wang")
        await _until_state(world, "REVERSED")
        for _ in range(100):
            rows = await world.rows("SELECT outcome FROM switch.contract_v1_case_decisions ORDER BY id")
            if rows[-1]["outcome"]:
                break
            await asyncio.sleep(0.1)
        assert [row["outcome"] for row in rows] == ["withdrawn", "done"]

    play(story, SILENT, profile=UNPROVEN)


def test_one_person_cannot_do_both_not_even_in_sql(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        import asyncpg

        columns = "payment_id, decision, evidence, proposed_by"
        add = f"INSERT INTO switch.case_decision ({columns}) VALUES (1, 'paid', 'abc', 'lee')"
        await world.rows(add)
        with pytest.raises(asyncpg.CheckViolationError, match="four_eyes"):
            await world.rows("UPDATE switch.case_decision SET confirmed_by = 'Lee', confirmed_at = now()")

    play(story)


@pytest.mark.parametrize(
    ("given", "state", "books"),
    [
        (Input.SETTLED_PAID, State.COMPLETED, {"u_receivable": 2000, "m_payable": -2000}),
        (Input.SETTLED_NOTHING, State.REVERSED, {}),
        (Input.SETTLED_REFUNDED, State.REFUNDED, {}),
    ],
)
def test_a_payment_in_suspense_is_settled_and_its_books_are_even(
    given: Input, state: State, books: dict[str, int]
) -> None:
    bench = _in_suspense()
    (payment_id,) = [number for _, number in bench.database.events]
    said: list[str] = []
    bench.payments.settle(payment_id, given, WHO, said.append)
    bench.loop.advance(0.1)
    assert (said, bench.states, bench.books()) == (["done"], [state], books)
    bench.payments.settle(payment_id, given, WHO, said.append)  # again: a worker that died before it could say so
    assert bench.states == [state] and len(said) == 2 and "cannot be settled" in said[1]


def test_a_payment_that_is_not_remembered_is_read_again_first() -> None:
    bench = _in_suspense()
    (payment_id,) = [number for _, number in bench.database.events]
    bench.payments._drop(bench.payments._parked[payment_id])
    said: list[str] = []
    for _ in range(2):
        bench.payments.settle(payment_id, Input.SETTLED_PAID, WHO, said.append)
        bench.loop.advance(0.1)
    assert said == ["", "done"] and bench.states == [State.COMPLETED]


def _in_suspense() -> Bench:
    bench = Bench().charged(months=2)
    bench.answer_marketing()
    bench.answer_marketing(code="29")
    bench.answer_marketing()
    for _ in range(5):
        if bench.marketing.frames:
            bench.answer_marketing(code="14")
    assert bench.states == [State.SUSPENSE]
    return bench


def _configure(path: Path, world: Any) -> None:
    path.write_text(
        f"""\
environment = "development"
time_profile = "short"
[database]
dsn = "{world.dsn}"
[unionpay]
host = "127.0.0.1"
port = 1
service_terminal = "GS009999"
service_merchant = "898440149009999"
[marketing]
host = "127.0.0.1"
port = 2
channel = "SELF01"
[marketing.profile]
fence = "tombstone"
inquiry = "serial"
dedupe = "serial"
"""
    )


async def _states(world: Any) -> set[str]:
    rows = await world.rows("SELECT state::text FROM switch.payment_now")
    return {row["state"] for row in rows}


async def _until_state(world: Any, state: str) -> None:
    ends_at = asyncio.get_running_loop().time() + 30
    while await _states(world) != {state}:
        assert asyncio.get_running_loop().time() < ends_at, await _states(world)
        await asyncio.sleep(0.1)
