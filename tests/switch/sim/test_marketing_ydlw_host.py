"""The simulated marketing system speaking fixed-width records over a real socket, and what both dialects gained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from switch.dialects.marketing import MarketingAnswer
from switch.dialects.marketing_ydlw import YdlwDialect
from switch.machines.payment_table import Input
from switch.model.payment import Posting, Receivable
from switch.net.framed import DIGITS10, DigitsSplitter
from switch.sim.day import wall_s
from switch.sim.truth import read_facts, read_postings

from .peers import channel_to, marketing_host, run
from .test_marketing_host import THREE

DIALECT = YdlwDialect("SELF01", wall_us=lambda: int(wall_s() * 1_000_000))
YDLW: dict[str, Any] = {"specs": ("marketing_ydlw_1_0",)}


class Line:
    """The switch towards it, over a socket of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._splitter = DigitsSplitter(DIGITS10)
        self._id = 0

    def next(self) -> int:
        self._id += 1
        return self._id

    async def ask(self, frame: bytes) -> MarketingAnswer:
        self._writer.write(DIGITS10.prefix(len(frame)) + frame)
        async with asyncio.timeout(5.0):
            while not (frames := self._splitter.feed(await self._reader.read(4096))):
                pass
        answer = DIALECT.read(frames[0])
        assert answer.request_id == self._id
        return answer

    async def sign_on(self) -> str:
        answer = await self.ask(DIALECT.sign_on(self.next()))
        DIALECT.check("sign_on", answer)
        return str(answer.data["day"])

    async def bills(self) -> tuple[Receivable, ...]:
        answer = await self.ask(DIALECT.inquiry(self.next(), THREE))
        if answer.code == "06":
            return ()
        DIALECT.check("inquiry", answer)
        return DIALECT.rows(answer)

    async def post(self, posting: Posting) -> Input:
        frame = DIALECT.post(self.next(), posting, account=THREE, day="", reference="")
        return DIALECT.posted(await self.ask(frame), posting, THREE)

    async def cancel(self, posting: Posting) -> Input:
        frame = DIALECT.cancel(self.next(), posting, undo=True, account=THREE)
        return DIALECT.cancelled(await self.ask(frame), posting)

    async def state(self, posting: Posting) -> Input:
        return DIALECT.stated(await self.ask(DIALECT.status(self.next(), posting, account=THREE)), posting, THREE)


@asynccontextmanager
async def line_to(host: Any) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


def posting_of(row: Receivable, number: int = 1) -> Posting:
    began_ms = int(wall_s() * 1000)
    return Posting(row.receivable, row.period, row.principal, row.penalty, row.amount, f"{began_ms << 22}{number:02d}")


def test_bills_are_asked_paid_found_and_undone(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m", **YDLW) as host, line_to(host) as line:
            assert (await line.ask(DIALECT.inquiry(line.next(), THREE))).code == "99"
            assert await line.sign_on() == host.day
            rows = await line.bills()
            assert len(rows) == 3
            posting = posting_of(rows[0])
            assert await line.state(posting) is Input.BILL_ABSENT
            assert await line.cancel(posting) is Input.CANCEL_ABSENT, "nothing to undo, and nothing forbidden"
            assert await line.post(posting) is Input.BILL_POSTED
            assert await line.state(posting) is Input.BILL_POSTED
            assert [row.period for row in await line.bills()] == [row.period for row in rows[1:]]
            assert await line.cancel(posting) is Input.CANCEL_DONE
            assert await line.state(posting) is Input.BILL_ABSENT
            assert await line.bills() == rows
            assert (await line.ask(DIALECT.sign_off(line.next()))).code == "00"
            assert (await line.ask(DIALECT.inquiry(line.next(), THREE))).code == "99"
        assert {each.posted for each in read_postings(tmp_path / "m").values()} == {0}

    run(story())


def test_a_serial_that_comes_twice_is_posted_twice_and_told_so(tmp_path: Path) -> None:
    """Why such a profile never posts again."""

    async def story() -> None:
        async with marketing_host(tmp_path / "m", **YDLW) as host, line_to(host) as line:
            await line.sign_on()
            posting = posting_of((await line.bills())[0])
            assert await line.post(posting) is Input.BILL_POSTED
            assert await line.post(posting) is Input.BILL_POSTED
            assert await line.state(posting) is Input.BILL_UNCLEAR
        assert read_postings(tmp_path / "m")[posting.serial].posted == 2 * posting.amount
        # It remembers across a restart.
        async with marketing_host(tmp_path / "m", **YDLW) as host, line_to(host) as line:
            assert await line.state(posting) is Input.BILL_UNCLEAR

    run(story())


def test_a_prepayment_counts_in_the_totals_and_can_be_undone(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m", **YDLW) as host, line_to(host) as line:
            day = await line.sign_on()
            first, second = (
                Posting("", "", amount, 0, amount, f"{int(wall_s() * 1000) << 22}{n:02d}")
                for n, amount in ((1, 5000), (2, 700))
            )
            for each in (first, second):
                assert await line.post(each) is Input.BILL_POSTED
                assert await line.state(each) is Input.BILL_POSTED
            asked = await line.ask(DIALECT.totals(line.next(), day, 2, 5700))
            assert DIALECT.agreed(asked, 2, 5700) is True
            assert DIALECT.agreed(await line.ask(DIALECT.totals(line.next(), day, 2, 5701)), 2, 5701) is False
            paid = await line.ask(DIALECT.history(line.next(), THREE, day[:6]))
            assert [row.amount for row in DIALECT.paid_rows(paid, THREE)] == [5000, 700]
            assert await line.cancel(second) is Input.CANCEL_DONE
            assert DIALECT.agreed(await line.ask(DIALECT.totals(line.next(), day, 1, 5000)), 1, 5000) is True
        facts = [fact["fact"] for fact in read_facts(tmp_path / "m", "marketing")]
        assert facts.count("posting") == 2 and facts.count("undo") == 1

    run(story())


def test_noise_ends_no_host_and_is_never_answered_with_money(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m", **YDLW) as host:
            for noise in (
                b"GET / HTTP/1.1\r\n",
                DIGITS10.prefix(5) + b"hello",
                b"9999999999",
                DIGITS10.prefix(192) + b" " * 192,
            ):
                async with line_to(host) as line:
                    line._writer.write(noise)
                    await line._writer.drain()
            async with line_to(host) as line:
                await line.sign_on()
                assert len(await line.bills()) == 3
            assert host.counts["unreadable"] == 2

    run(story())


def test_the_json_dialect_knows_the_same_operations(tmp_path: Path) -> None:
    async def story() -> None:
        async with marketing_host(tmp_path / "m") as host, channel_to(host) as channel:
            row = (await channel.rows(THREE))[0]
            assert await channel.code("post", **channel.posting("1", THREE, row)) == "00"
            deposit = {"serial": "2", "account": THREE, "amount": 900, "day": channel.day, "reference": "1"}
            answer = await channel.ask("prepay", **deposit)
            assert (answer["code"], answer["amount"], answer["serial"]) == ("00", 900, "2")
            assert (await channel.ask("prepay", **deposit))["code"] == "00", "the same serial is the same deposit"
            assert await channel.code("prepay", **deposit | {"amount": 901}) == "13"
            assert await channel.code("prepay", **deposit | {"serial": "3", "amount": 0}) == "29"
            told = await channel.ask("totals", day=channel.day, count=0, amount=0)
            assert (told["count"], told["amount"]) == (2, row["amount"] + 900)
            history = await channel.ask("history", account=THREE, period=row["period"])
            assert [(each["serial"], each["amount"], each["collector"]) for each in history["rows"]] == [
                ("1", row["amount"], "test")
            ]
            assert await channel.code("sign_off") == "00"
            assert await channel.code("history", account=THREE, period=row["period"]) == "99"
        assert sum(each.posted for each in read_postings(tmp_path / "m").values()) == row["amount"] + 900

    run(story())
