"""The rounds of the three-way check by hand: whom it asks, what it records, when it stops, what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest

from switch import limits
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.limits import SHORT
from switch.machines.threeway import CLASSES, Comparison
from switch.model.payment import State
from switch.runtime.links import MarketingLink
from switch.runtime.threeway import ThreeWayCheck

TIMES = replace(SHORT, post_s=0.02)
NOTHING: tuple[dict[str, tuple[int, int]], int, float] = ({}, 0, 0.0)


class Host:
    """A link with a marketing system behind it that says what the test wants of each serial."""

    is_usable = True

    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said
        self.asked: list[str] = []
        self.forgotten: list[int] = []
        self.twice = False
        self._next = 0

    def next_id(self) -> int:
        self._next += 1
        return self._next

    def call(self, request_id: int, frame: bytes, done: Callable[[MarketingAnswer | None], None]) -> bool:
        request = orjson.loads(frame)
        assert (request["op"], request["id"]) == ("status", request_id)
        self.asked.append(request["serial"])
        said = self.said.get(request["serial"], "posted")
        if said == "unsent":
            return False
        if said == "mute":
            return True
        if said == "lost":
            answer = None
        else:
            data = {"serial": request["serial"], "state": said} if said != "wrong" else {}
            answer = MarketingAnswer(request_id, "99" if said == "busy" else "00", "", data)
        loop = asyncio.get_running_loop()
        for _ in range(1 + self.twice):
            loop.call_soon(done, answer)
        return True

    def forget(self, request_id: int) -> None:
        self.forgotten.append(request_id)


class Books:
    """``ThreeWayStore``: pages of payments, and what was found about them."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        self.pages = list(pages)
        self.found: list[tuple[int, int | None, int, Comparison]] = []
        self.summed = NOTHING
        self.away: list[Exception] = []

    async def due(self) -> list[Any]:
        if self.away:
            raise self.away.pop()
        return self.pages.pop(0) if self.pages else []

    async def record(self, row: Any, charged: int | None, booked: int, found: Comparison) -> None:
        self.found.append((row["payment_id"], charged, booked, found))

    async def summary(self) -> tuple[dict[str, tuple[int, int]], int, float]:
        return self.summed


class Ear:
    def __init__(self) -> None:
        self.gauges: dict[tuple[str, ...], float] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None: ...

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None: ...

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.gauges[name, *labels] = value

    def event(self, name: str, **facts: Any) -> None:
        self.events.append((name, facts))


def paid(number: int, *serials: str, state: State = State.COMPLETED) -> dict[str, Any]:
    """A payment of 100 fen for each serial."""
    postings = [["R", "202610", 100, 0, 100, serial, "posted"] for serial in serials]
    body = orjson.dumps({"postings": postings})
    return {"payment_id": number, "state": state.value, "amount": 100 * len(serials), "body": body}


def check(books: Books, host: Host, ear: Ear, *, can_ask: bool = True) -> ThreeWayCheck:
    return ThreeWayCheck(books, cast(MarketingLink, host), MarketingDialect("SELF01"), TIMES, ear, can_ask=can_ask)


def told(books: Books, host: Host, ear: Ear | None = None, *, can_ask: bool = True) -> Any:
    async def main() -> Any:
        return await check(books, host, ear or Ear(), can_ask=can_ask).check()

    return asyncio.run(main())


def test_every_posting_is_asked_for_and_the_sum_is_compared() -> None:
    books, host, ear = Books([paid(1, "a", "b"), paid(2, "c")], [paid(3, "d")]), Host({"b": "unknown"}), Ear()
    said = told(books, host, ear)
    assert host.asked == ["a", "b", "c", "d"]
    good = Comparison("card_unconfirmed", 0)
    assert books.found == [
        (1, None, 100, Comparison("marketing_short", 100)),
        (2, None, 100, good),
        (3, None, 100, good),
    ]
    facts = {"level": "error", "payment": 1, "difference": "marketing_short", "fen": 100}
    assert ear.events == [("threeway.difference", facts)]
    assert (said["compared"], said["not_answered"], said["asked"]) == (3, 0, True)


def test_two_months_posted_are_both_counted() -> None:
    books = Books([paid(1, "a", "b")])
    told(books, Host({}))
    assert books.found == [(1, None, 200, Comparison("card_unconfirmed", 0))]


@pytest.mark.parametrize("said", ["unsent", "mute", "lost", "wrong", "busy"])
def test_who_does_not_answer_is_asked_in_the_next_round(said: str) -> None:
    books = Books([paid(1, "a", "b"), paid(2, "c"), paid(3, "d", "e")], [paid(4, "x")])
    host = Host({"a": said, "d": said})
    summed = told(books, host)
    assert host.asked == ["a", "c", "d"], "not the rest of a payment, and no further page"
    assert [number for number, *_ in books.found] == [2]
    assert (summed["compared"], summed["not_answered"]) == (1, 2)
    assert len(host.forgotten) == (2 if said == "mute" else 0)
    assert not host.forgotten or host.forgotten == [1, 3]


def test_an_answer_that_comes_twice_is_no_fault() -> None:
    host = Host({})
    host.twice = True
    faults: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        await check(Books([paid(1, "a")]), host, Ear()).check()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert faults == []


def test_a_round_has_an_end() -> None:
    books = Books(*[[paid(number, f"s{number}")] for number in range(limits.THREEWAY_LOOKS_MAX + 5)])
    assert told(books, Host({}))["compared"] == limits.THREEWAY_LOOKS_MAX
    assert len(books.pages) == 5


@pytest.mark.parametrize(("can_ask", "usable"), [(False, True), (True, False)])
def test_who_cannot_be_asked_is_not_asked_but_the_books_are_summed(can_ask: bool, usable: bool) -> None:
    books, host = Books([paid(1, "a")]), Host({})
    host.is_usable = usable
    books.summed = ({"card_short": (2, 300)}, 4, 55.0)
    said = told(books, host, can_ask=can_ask)
    assert host.asked == [] and said["asked"] is False
    assert said["money_at_risk_fen"] == 300


def test_what_is_at_risk_is_summed_and_told() -> None:
    books, ear = Books(), Ear()
    books.summed = ({"wrong_verdict": (1, 40), "card_short": (2, 300)}, 4, 55.0)
    said = told(books, Host({}), ear)
    assert said == {
        "classes": {"card_short": {"payments": 2, "fen": 300}, "wrong_verdict": {"payments": 1, "fen": 40}},
        "money_at_risk_fen": 340,
        "compared": 0,
        "not_answered": 0,
        "asked": True,
        "undecided": 4,
    }
    assert list(said["classes"]) == ["card_short", "wrong_verdict"]
    breaks = {("switch_threeway_breaks", kind): 0 for kind in CLASSES}
    assert ear.gauges == breaks | {
        ("switch_threeway_breaks", "card_short"): 2,
        ("switch_threeway_breaks", "wrong_verdict"): 1,
        ("switch_money_at_risk_fen",): 340,
        ("switch_unknown_open",): 4,
        ("switch_unknown_oldest_seconds",): 55.0,
    }


def test_rounds_go_on_whatever_fails_and_stop_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "THREEWAY_EVERY_S", 0.001)
    books, ear = Books([paid(1, "a")], [paid(2, "b")]), Ear()
    books.away = [OSError("away")]

    async def main() -> None:
        rounds = check(books, Host({}), ear)
        await rounds.stop()  # not started: nothing to stop
        rounds.start()
        assert "three-way check" in {task.get_name() for task in asyncio.all_tasks()}
        while len(books.found) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await rounds.stop()
        books.pages = [[paid(3, "c")]]
        await asyncio.sleep(0.01)
        assert len(books.found) == 2
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert ear.events == [("threeway.put_off", {"error": "OSError('away')"})]


def test_two_who_check_at_once_take_turns() -> None:
    async def main() -> None:
        books, host = Books([paid(1, "a")], [paid(2, "b")]), Host({"a": "mute"})
        both = check(books, host, Ear())
        first, second = await asyncio.gather(both.check(), both.check())
        assert (first["not_answered"], second["compared"]) == (1, 1)
        assert host.asked == ["a", "b"] and books.found[0][0] == 2

    asyncio.run(main())
