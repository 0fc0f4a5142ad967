"""The marketing system over a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from switch.sim import customers
from switch.sim.truth import read_facts, read_postings

from .peers import SILENCE_S, Channel, channel_to, marketing_host, run


def script(do: str, when: str = "") -> str:
    return f'[[marketing.script]]\nwhen = {{ {when} }}\ndo = "{do}"\n'


def account_with(months: int) -> str:
    """An account that owes so many months in the tests' world."""
    for n in range(1_000):
        number = customers.account(n)
        customer = customers.customer(number)
        if customer is not None and len(customer.bills) == months:
            return number
    raise AssertionError("no such account")


THREE = account_with(3)


def test_an_inquiry_tells_what_is_owed(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m") as host, channel_to(host) as channel:
            answer = await channel.ask("inquiry", account=THREE)
            assert answer["code"] == "00" and answer["id"] == 2 and answer["text"] == "成功"
            assert answer["day"] == channel.day == host.day and len(answer["day"]) == 8
            rows = answer["rows"]
            assert len(rows) == 3 and answer["total"] == sum(row["amount"] for row in rows)
            assert [row["period"] for row in rows] == sorted(row["period"] for row in rows)
            assert all(row["amount"] == row["principal"] + row["penalty"] for row in rows)
            assert all(len(row["receivable"]) <= 24 for row in rows)
            assert len(answer["name"]) <= 32 and len(answer["address"]) <= 64
            wrong_digit = THREE[:-1] + str((int(THREE[-1]) + 1) % 10)
            assert await channel.code("inquiry", account=wrong_digit) == "03"
            assert await channel.code("echo") == "00"

    run(story())


def test_nothing_goes_before_the_sign_on_and_odd_requests_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m") as host, channel_to(host, signed_on=False) as channel:
            assert await channel.code("inquiry", account=THREE) == "99"
            await channel.sign_on()
            assert await channel.code("inquiry", account="") == "13"
            assert await channel.code("cancel", serial="s", if_posted="maybe") == "13"
            assert await channel.code("post", serial="s", amount="12") == "13"
            assert await channel.code("dance") == "59"
            channel.write(b"[1]")
            assert (await channel.hear())["code"] == "78"

    run(story())


def test_the_same_serial_is_posted_once_and_answered_as_the_first_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m") as host, channel_to(host) as channel:
            row, second, _ = await channel.rows(THREE)
            first = await channel.ask("post", **channel.posting("s1", THREE, row))
            again = await channel.ask("post", **channel.posting("s1", THREE, row))
            assert {**first, "id": 0} == {**again, "id": 0}
            assert (first["code"], first["period"], first["amount"]) == ("00", row["period"], row["amount"])
            assert await channel.code("post", **channel.posting("s1", THREE, second)) == "13", "another content"
            assert await channel.code("post", **channel.posting("s2", THREE, row)) == "06", "paid already"
            assert len(await channel.rows(THREE)) == 2
            assert (await channel.state("s1"), await channel.state("s2")) == ("posted", "rejected")

    run(story())
    (posted,) = read_postings(tmp_path / "m").values()
    assert posted.posted > 0 and posted.account == THREE and posted.reference == "77" and not posted.cancelled


def test_a_host_that_knows_no_serials_posts_again_what_comes_again(tmp_path: Path) -> None:
    async def story() -> None:
        text = "[marketing]\nknows_serials = false\n"
        async with marketing_host(tmp_path / "m", text) as host, channel_to(host) as channel:
            row = (await channel.rows(THREE))[0]
            for _ in range(2):
                assert await channel.code("post", **channel.posting("s1", THREE, row)) == "00"
            assert read_postings(tmp_path / "m")["s1"].posted == 2 * row["amount"]
            assert await channel.code("cancel", serial="s1", if_posted="undo") == "00"
            assert read_postings(tmp_path / "m")["s1"].posted == row["amount"], "one cancel takes one back"

    run(story())


def test_a_host_without_cancel_and_status_does_not_know_what_is_meant(tmp_path: Path) -> None:
    async def story() -> None:
        text = "[marketing]\ncancels = false\ntells_status = false\n"
        async with marketing_host(tmp_path / "m", text) as host, channel_to(host) as channel:
            assert await channel.code("cancel", serial="s1", if_posted="refuse") == "59"
            assert await channel.code("status", serial="s1") == "59"

    run(story())


def test_without_tombstones_refusals_are_kept_or_not(tmp_path: Path) -> None:
    async def story(kept: bool) -> None:
        text = f"[marketing]\ntombstones = false\nkeeps_refusals = {str(kept).lower()}\n"
        async with marketing_host(tmp_path / f"m{kept}", text) as host, channel_to(host) as channel:
            row = (await channel.rows(THREE))[0]
            cheap = channel.posting("s1", THREE, row, amount=row["amount"] - 1)
            assert await channel.code("post", **cheap) == "73"
            assert await channel.state("s1") == ("rejected" if kept else "unknown")
            assert await channel.code("post", **channel.posting("s1", THREE, row)) == ("73" if kept else "00")

    for kept in (True, False):
        run(story(kept))


def test_a_refusal_may_stay_unanswered_and_is_remembered(tmp_path: Path) -> None:
    async def story() -> None:
        text = "[marketing]\nrefuse_rate = 1.0\nrefuse_silence_share = 1.0\n"
        async with marketing_host(tmp_path / "m", text) as host, channel_to(host) as channel:
            row = (await channel.rows(THREE))[0]
            channel.write_request("post", **channel.posting("s1", THREE, row))
            assert await channel.read(SILENCE_S) is None
            assert await channel.state("s1") == "rejected"

    run(story())


def test_an_account_that_paid_everything_owes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m") as host, channel_to(host) as channel:
            for number, row in enumerate(await channel.rows(THREE)):
                assert await channel.code("post", **channel.posting(f"s{number}", THREE, row)) == "00"
            assert await channel.code("inquiry", account=THREE) == "06"

    run(story())


def test_refusals_are_definite_and_sticky(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m") as host, channel_to(host) as channel:
            row = (await channel.rows(THREE))[0]
            cheap = channel.posting("s1", THREE, row, amount=row["amount"] - 1)
            assert await channel.code("post", **cheap) == "73"
            assert await channel.code("post", **channel.posting("s1", THREE, row)) == "73", "sticky"
            assert await channel.state("s1") == "rejected"
            assert await channel.code("post", **channel.posting("s2", "0300000000", row)) == "03"
            assert await channel.code("post", **channel.posting("s3", THREE, row, day="20200101")) == "84"
            assert await channel.code("post", **channel.posting("s4", THREE, row, receivable="x")) == "06"

    run(story())
    assert not read_postings(tmp_path / "m")


def test_a_fence_leaves_a_posting_and_a_tombstone_stops_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m") as host, channel_to(host) as channel:
            row, second, _ = await channel.rows(THREE)
            assert await channel.code("cancel", serial="s1", if_posted="refuse") == "00"
            assert await channel.code("post", **channel.posting("s1", THREE, row)) == "15"
            assert await channel.state("s1") == "cancelled"

            assert await channel.code("post", **channel.posting("s2", THREE, row)) == "00"
            assert await channel.code("cancel", serial="s2", if_posted="refuse") == "14"
            assert await channel.state("s2") == "posted"

            assert await channel.code("cancel", serial="s2", if_posted="undo") == "00"
            assert await channel.code("cancel", serial="s2", if_posted="undo") == "00"
            assert await channel.code("post", **channel.posting("s2", THREE, row)) == "15"
            assert len(await channel.rows(THREE)) == 3, "owed again"
            assert await channel.code("post", **channel.posting("s3", THREE, row)) == "00"

            assert await channel.code("post", **channel.posting("s4", THREE, second, amount=1)) == "73"
            assert await channel.code("cancel", serial="s4", if_posted="undo") == "00", "a refused one, for good"

    run(story())
    postings = read_postings(tmp_path / "m")
    assert {serial: (p.posted > 0, p.cancelled) for serial, p in postings.items()} == {
        "s1": (False, True),
        "s2": (False, True),
        "s3": (True, False),
        "s4": (False, True),
    }


def test_a_late_posting_meets_the_tombstone(tmp_path: Path) -> None:
    async def story() -> None:
        text = script("late_act:0.2", "month = 1")
        async with marketing_host(tmp_path / "m", text) as host, channel_to(host) as channel:
            row = (await channel.rows(THREE))[0]
            assert await channel.code("post", 0.05, **channel.posting("s1", THREE, row)) == ""
            assert await channel.state("s1") == "unknown"
            assert await channel.code("cancel", serial="s1", if_posted="refuse") == "00"
            assert (await channel.hear())["code"] == "15"

    run(story())
    assert read_postings(tmp_path / "m")["s1"].posted == 0


@pytest.mark.parametrize(("do", "state"), [("silence", "posted"), ("silence:lost", "unknown")])
def test_silence_may_have_posted(tmp_path: Path, do: str, state: str) -> None:
    async def story() -> None:
        text = script(do, f'account = "{THREE}"')
        async with marketing_host(tmp_path / "m", text) as host, channel_to(host) as channel:
            row = (await channel.rows(THREE))[0]
            assert await channel.code("post", SILENCE_S, **channel.posting("s1", THREE, row)) == ""
            assert await channel.state("s1") == state
            assert await channel.code("post", **channel.posting("s1", THREE, row)) == "00"

    run(story())
    assert len(read_postings(tmp_path / "m")) == 1


def test_late_twice_ambiguous_and_dropped(tmp_path: Path) -> None:
    async def story() -> None:
        text = script("late:0.1", "nth = 1") + script("duplicate", "nth = 2") + script("ambiguous:50", "nth = 3")
        text += script("drop:lost", 'message = "cancel"')
        async with marketing_host(tmp_path / "m", text) as host, channel_to(host) as channel:
            rows = await channel.rows(THREE)
            assert await channel.code("post", 0.03, **channel.posting("s1", THREE, rows[0])) == ""
            assert await channel.state("s1") == "posted"
            assert (await channel.hear())["code"] == "00"
            assert await channel.code("post", **channel.posting("s2", THREE, rows[1])) == "00"
            assert (await channel.hear())["code"] == "00"
            assert await channel.code("post", **channel.posting("s3", THREE, rows[2])) == "50"
            assert await channel.state("s3") == "posted"
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await channel.ask("cancel", serial="s3", if_posted="undo")

    run(story())
    assert not any(posted.cancelled for posted in read_postings(tmp_path / "m").values())


def test_the_second_month_can_be_the_one_that_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        text = '[marketing]\nrefuse_nth = 2\nrefuse_nth_rate = 1.0\nrefuse_codes = ["29"]\n'
        async with marketing_host(tmp_path / "m", text) as host, channel_to(host) as channel:
            rows = await channel.rows(THREE)
            codes = [
                await channel.code("post", **channel.posting(f"s{number}", THREE, row))
                for number, row in enumerate(rows)
            ]
            assert codes == ["00", "29", "00"]

    run(story())


def test_after_the_day_is_closed_a_posting_stays(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m", cut_over_in_s=0.4) as host, channel_to(host) as channel:
            row = (await channel.rows(THREE))[0]
            posting = channel.posting("s1", THREE, row)
            assert await channel.code("post", **posting) == "00"
            await asyncio.sleep(0.45)
            assert host.day != channel.day
            assert await channel.code("inquiry", account=THREE) == "99", "a new day, a new sign-on"
            await channel.sign_on()
            assert await channel.code("cancel", serial="s1", if_posted="undo") == "16"
            assert await channel.code("post", **posting) == "00", "the same serial, the same answer"
            second = (await channel.rows(THREE))[0]
            assert await channel.code("post", **channel.posting("s2", THREE, second, day=posting["day"])) == "84"

    run(story())


def test_a_restarted_host_knows_what_it_knew(tmp_path: Path) -> None:
    ledger = tmp_path / "m"

    async def before() -> Channel:
        async with marketing_host(ledger) as host, channel_to(host) as channel:
            rows = await channel.rows(THREE)
            await channel.ask("post", **channel.posting("posted", THREE, rows[0]))
            await channel.ask("post", **channel.posting("undone", THREE, rows[1]))
            await channel.ask("cancel", serial="undone", if_posted="undo")
            await channel.ask("cancel", serial="fenced", if_posted="refuse")
            await channel.ask("post", **channel.posting("refused", THREE, rows[2], amount=1))
            return cast(Channel, channel)

    async def after(channel: Channel) -> None:
        async with marketing_host(ledger, "seed = 9\n[marketing]\nmonths_owed = [100]") as host:
            await channel.connect(host.port)
            states = {serial: await channel.state(serial) for serial in ("posted", "undone", "fenced", "refused")}
            assert states == {"posted": "posted", "undone": "cancelled", "fenced": "cancelled", "refused": "rejected"}
            rows = await channel.rows(THREE)
            assert len(rows) == 2, "the world is the ledger's, whatever the new seed says"
            assert await channel.code("post", **channel.posting("undone", THREE, rows[0])) == "15"
            await channel.close()

    channel = run(before())
    truth = read_postings(ledger)
    run(after(channel))
    assert read_postings(ledger) == truth


def test_moods_come_as_often_as_the_scenario_says(tmp_path: Path) -> None:
    count = 1_500
    text = '[marketing]\nrefuse_rate = 0.2\nrefuse_codes = ["29"]\nsilence_rate = 0.2\nsilence_posted_share = 1.0\n'

    async def story() -> dict[str, int]:
        async with marketing_host(tmp_path / "m", text) as host, channel_to(host) as channel:
            codes: dict[str, int] = {}
            for n in range(count):
                number = customers.account(n)
                customer = customers.customer(number, 1, host.date)
                assert customer is not None
                bill = customer.bills[0]
                row = {"receivable": bill.receivable, "period": bill.period, "amount": bill.amount}
                channel.write_request("post", **channel.posting(f"s{n}", number, row))
                if n % 50 == 0:
                    await asyncio.sleep(0)  # a host that could not move for a second forgets what it was asked
            while answer := await channel.hear(1.0):
                codes[answer["code"]] = codes.get(answer["code"], 0) + 1
            return codes

    codes = run(story())
    assert 0.17 * count < codes["29"] < 0.23 * count
    assert 0.57 * count < codes["00"] < 0.63 * count
    assert len(read_postings(tmp_path / "m")) == count - codes["29"]


def test_facts_are_on_disk_before_the_answer(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m") as host, channel_to(host) as channel:
            for number, row in enumerate(await channel.rows(THREE)):
                await channel.ask("post", **channel.posting(f"s{number}", THREE, row))
                assert list(read_facts(tmp_path / "m"))[-1]["serial"] == f"s{number}"

    run(story())
