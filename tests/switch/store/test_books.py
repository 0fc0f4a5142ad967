"""Books off the path: nothing missed however transactions end, nothing twice, and whoever tampers is found."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import asyncpg
import orjson
import pytest

from switch import contract, limits
from switch.errors import SwitchError
from switch.model.chain import event_link
from switch.model.payment import State
from switch.ports import Claim, ClaimKind, JournalEntry
from switch.store import projector, proof
from switch.store.fold import fold
from switch.store.pool import connected
from switch.store.projector import project, read_books, rebuild, seal, verify_chain
from switch.store.proof import load_ledger_totals
from switch.store.queries import QUERY

from .conftest import PostgresStore
from .support import DAY, Recorder, entry, outcome

OPENING = {
    "terminal": "GS000001",
    "kiosk_date": "1124",
    "account": "0500000017",
    "batch": "000001",
    "stan": "000001",
    "settlement_day": 20261124,
    "card_masked": "622202*********0128",
    "card_token": "token",
    "digest": "digest",
    "postings": [["R1", "202610", 900, 100, 1000, "1001", "waiting"]],
}


class Story:
    """Payments whose events are linked and whose ledger balances, as the runtime writes them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.payments: dict[int, tuple[int, bytes]] = {}  # id: ver, link

    def next(self) -> JournalEntry:
        number = self.dice.randint(1, 12)
        ver, link = self.payments.get(number, (0, b""))
        ver += 1
        body: dict[str, Any] = {"reason": f"step {ver}", "rrn": f"{ver:012d}"}
        claims: tuple[Claim, ...] = ()
        if ver == 1:
            body = OPENING | {"kiosk_serial": f"{number:06d}", "amount": 1000}
            claims = (Claim(ClaimKind.OPEN, str(number), b"sealed"),)
        state = (State.CARD_PENDING, State.BILL_PENDING, State.REVERSAL_PENDING)[min(ver, 3) - 1]
        lines = [["u_receivable", 1000, 0], ["customer_suspense", 0, 1000]] if ver == 2 else []
        text, ledger = orjson.dumps(body), orjson.dumps(lines) if lines else None
        link = event_link(link, number, ver, state, "x", text, ledger)
        self.payments[number] = ver, link
        return JournalEntry(DAY, number, ver, state, "x", 10**15 + ver, 1000, text, link, None, ledger, claims)


async def _tell(postgres: PostgresStore, count: int, seed: int = 1) -> Story:
    story = Story(seed)
    async with postgres.journal() as journal:
        for _ in range(count):
            await outcome(journal, story.next())
    return story


async def _books(postgres: PostgresStore) -> list[Any]:
    payments = await postgres.fetch("SELECT * FROM switch.payment ORDER BY payment_id")
    entries = await postgres.fetch("SELECT * FROM switch.ledger_balance ORDER BY opened_on, account")
    at = await postgres.fetch("SELECT events FROM switch.projection")
    return [[tuple(row) for row in rows] for rows in (payments, entries, at)]


@pytest.mark.parametrize("seed", range(3))
def test_books_made_in_any_portions_equal_books_made_again(postgres: PostgresStore, seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        story = Story(seed)
        connection = await asyncpg.connect(postgres.dsn)
        async with postgres.journal() as journal:
            for _ in range(60):
                await outcome(journal, story.next())
                if dice.random() < 0.4:
                    await project(connection, dice.randint(1, 7))
                if dice.random() < 0.1:
                    connection.terminate()  # a worker dies
                    connection = await asyncpg.connect(postgres.dsn)
        while await project(connection, dice.randint(1, 5)):
            pass
        await connection.close()
        mine = await _books(postgres)
        assert await rebuild(postgres.dsn) == 60
        assert await _books(postgres) == mine
        assert [(row[1], row[2]) for row in mine[0]] == sorted((n, ver) for n, (ver, _) in story.payments.items())
        books = await read_books(postgres.dsn)
        assert books.total == 0 and books.events == 60

    asyncio.run(main())


def test_what_commits_late_is_neither_missed_nor_read_too_early(postgres: PostgresStore) -> None:
    """Three writers; the first to begin is the last to commit."""
    insert = (
        'INSERT INTO switch.payment_event (opened_on, payment_id, ver, state, "row", wall_us, amount, body, link, '
        "writer_epoch, writer_seq) VALUES ($1, $2, 1, 'CARD_PENDING', '1', 1, 1000, $3, '', 1, $2)"
    )

    async def main() -> None:
        await postgres.execute(f"SELECT switch.ensure_partition({DAY})")
        writers = [await asyncpg.connect(postgres.dsn) for _ in range(3)]
        reader = await asyncpg.connect(postgres.dsn)
        transactions = [writer.transaction() for writer in writers]
        for number, (writer, transaction) in enumerate(zip(writers, transactions, strict=True), 1):
            await transaction.start()
            body = orjson.dumps(OPENING | {"kiosk_serial": f"{number:06d}"}).decode()
            await writer.execute(insert, DAY, number, body)
        cursor, projected = "", 0

        async def read() -> list[int]:
            nonlocal cursor, projected
            rows = await reader.fetch("SELECT * FROM switch.contract_v1_feed($1, 100)", cursor)
            if rows:
                assert tuple(rows[0].keys()) == contract.FEED_COLUMNS
                cursor = rows[-1]["cursor"]
            projected += await project(reader)
            return [row["payment_id"] for row in rows]

        assert await read() == []
        for index in (2, 1):  # in the wrong order
            await transactions[index].commit()
            assert await read() == [], "the first writer is still open, and its event comes before these"
        await transactions[0].commit()
        assert await read() == [1, 2, 3]
        assert await read() == [] and projected == 3
        for each in (*writers, reader):
            await each.close()

    asyncio.run(main())


TAMPERINGS: dict[str, tuple[str, str]] = {
    "a changed body": (
        "UPDATE {event} SET body = replace(body, 'step 2', 'step 9') WHERE payment_id = 3 AND ver = 2",
        "payment 3: event 2 is not what was written",
    ),
    "a changed state": (
        "UPDATE {event} SET state = 'COMPLETED' WHERE payment_id = 3 AND ver = 1",
        "payment 3: event 1 is not what was written",
    ),
    "an event removed": ("DELETE FROM {event} WHERE payment_id = 3 AND ver = 1", "payment 3: event 1 is missing"),
    "the last event removed": (
        "DELETE FROM {event} WHERE payment_id = 3 AND ver = (SELECT max(ver) FROM {event} WHERE payment_id = 3)",
        "events were sealed",
    ),
    "a whole payment removed": ("DELETE FROM {event} WHERE payment_id = 3", "events were sealed"),
    "a payment added": (
        'INSERT INTO {event} SELECT opened_on, 99, ver, state, "row", wall_us, amount, body, link, attempt, ledger, '
        "writer_epoch, writer_seq, committed_by FROM {event} WHERE payment_id = 3 AND ver = 1",
        "payment 99: event 1 is not what was written",
    ),
    "two swapped": (
        "UPDATE {event} SET committed_by = (SELECT min(committed_by) + max(committed_by) FROM {event} "
        "WHERE payment_id IN (3, 4) AND ver = 1) - committed_by WHERE payment_id IN (3, 4) AND ver = 1",
        "was replaced",
    ),
    "a seal removed": ("DELETE FROM switch.chain_seal WHERE number = 1", "seal 1 is missing"),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_whoever_tampers_is_found_and_the_place_is_named(postgres: PostgresStore, what: str) -> None:
    statement, said = TAMPERINGS[what]

    async def main() -> None:
        await _tell(postgres, 60)
        connection = await asyncpg.connect(postgres.dsn)
        await project(connection, 30)
        assert await seal(connection, 20261124)
        assert not await seal(connection, 20261124), "once a day"
        while await project(connection):
            pass
        assert await seal(connection, 20261125)
        good = await verify_chain(postgres.dsn)
        assert (good.broken, good.seals, good.sealed, good.events) == ((), 2, 60, 60)
        told = await connection.fetchval("SELECT count(DISTINCT payment_id) FROM switch.payment_event")
        assert good.payments == told > 1
        # As somebody who may do everything in the database: the triggers are switched off for this session.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(statement.format(event=f"switch.payment_event_{DAY}"))
        await connection.close()
        report = await verify_chain(postgres.dsn)
        assert any(said in fault for fault in report.broken), report.broken

    asyncio.run(main())


def test_an_unbalanced_ledger_is_refused_by_the_table_itself(postgres: PostgresStore) -> None:
    async def main() -> None:
        await postgres.execute(
            "INSERT INTO switch.ledger_balance "
            "VALUES (1, 'u', 100, 0), (1, 'm', 0, 100), (2, 'u', 7, 0), (2, 'm', 0, 7)"
        )
        for statement in (
            "INSERT INTO switch.ledger_balance VALUES (3, 'u', 105, 0), (3, 'm', 0, 100)",
            "UPDATE switch.ledger_balance SET debit = debit + 5 WHERE account = 'u' AND opened_on = 1",
            # Two days that make up for each other.
            "UPDATE switch.ledger_balance SET debit = debit + 10 - 5 * opened_on WHERE account = 'u'",
            "DELETE FROM switch.ledger_balance WHERE account = 'm' AND opened_on = 1",
        ):
            with pytest.raises(asyncpg.CheckViolationError, match=r"off by (5|100) fen"):
                await postgres.execute(statement)
        await postgres.execute("UPDATE switch.ledger_balance SET debit = debit + 5, credit = credit + 5")

    asyncio.run(main())


def test_an_event_whose_ledger_does_not_balance_stops_the_books_and_is_named(postgres: PostgresStore) -> None:
    """Also one that another event of the batch makes up for."""

    async def main() -> None:
        body = orjson.dumps(OPENING | {"kiosk_serial": "000001"})
        async with postgres.journal() as journal:
            await outcome(journal, entry(1, body=body))
            await outcome(journal, entry(1, 2, ledger=b'[["a",105,0],["b",0,100]]'))
            await outcome(journal, entry(1, 3, ledger=b'[["a",100,0],["b",0,105]]'))
        connection = await asyncpg.connect(postgres.dsn)
        assert await project(connection, 1) == 1
        for _ in range(2):
            with pytest.raises(SwitchError, match=r"payment 1, event [23]: ledger lines are off by -?5 fen") as caught:
                await project(connection)
            assert caught.value.code == "ledger_unbalanced"
        assert (await _books(postgres))[1:] == [[], [(1,)]], "nothing of the batch"
        await connection.close()

    asyncio.run(main())


def test_a_first_event_that_lacks_what_only_it_says_is_refused(postgres: PostgresStore) -> None:
    async def main() -> None:
        async with postgres.journal() as journal:
            await outcome(journal, entry(1, body=b'{"terminal":"GS000001"}'))
        connection = await asyncpg.connect(postgres.dsn)
        with pytest.raises(asyncpg.NotNullViolationError):
            await project(connection)
        await connection.close()

    asyncio.run(main())


WORDS = ("rrn", "reason", "postings", "note", "电", 'a"b', "}\u0001{", "},{")


@pytest.mark.parametrize("seed", range(4))
def test_the_books_are_what_python_makes_of_the_events(postgres: PostgresStore, seed: int) -> None:
    """Random histories, projected in any portions: each payment equals its fold, each balance the sum of the lines."""
    dice = random.Random(seed)

    def value(depth: int = 0) -> Any:
        kinds: list[Any] = [dice.randint(-9, 10**15), dice.choice(WORDS), "", None, dice.random() < 0.5]
        if depth < 2:
            kinds += [[value(2)], {dice.choice(WORDS): value(2)}, []]
        return dice.choice(kinds)

    async def main() -> None:
        vers: dict[int, int] = {}
        connection = await asyncpg.connect(postgres.dsn)
        async with postgres.journal() as journal:
            for _ in range(120):
                number = dice.randint(1, 25)
                ver = vers[number] = vers.get(number, 0) + 1
                body = {dice.choice(WORDS): value() for _ in range(dice.choice((0, 1, 2, 4)))}
                if "rrn" in body:
                    body["rrn"] = f"{dice.randint(0, 10**12):012d}"
                if ver == 1:
                    body = OPENING | {"kiosk_serial": f"{number:06d}"} | body
                fen = dice.randint(1, 10**9)
                lines = [["u_receivable", fen, 0], ["customer_suspense", 0, fen - 1], ["m_payable", 0, 1]]
                ledger = orjson.dumps(lines) if dice.random() < 0.5 and fen > 1 else None
                changes = {"opened_on": DAY + number % 2, "wall_us": 10**15 + dice.randint(0, 10**9)}
                state = dice.choice([state for state in State if state is not State.NEW])
                amount = dice.randint(1, 10**9)
                item = entry(number, ver, state=state, body=orjson.dumps(body), ledger=ledger, amount=amount, **changes)
                await outcome(journal, item)
                if dice.random() < 0.2:
                    await project(connection, dice.randint(1, 9))
        while await project(connection, dice.randint(1, 30)):
            pass
        await connection.close()
        events = await postgres.fetch(
            "SELECT *, state::text AS state FROM switch.payment_event ORDER BY opened_on, payment_id, ver"
        )
        expected: list[Any] = []
        balances: dict[tuple[int, str], tuple[int, int]] = {}
        for _, group in groupby(events, key=lambda event: (event["opened_on"], event["payment_id"])):
            own = list(group)
            stored, first, last = fold([dict(event) for event in own]), own[0], own[-1]
            kept = stored.body
            key = f"{kept['terminal']}|{kept['kiosk_date']}|{kept['kiosk_serial']}"
            expected.append(
                (
                    *(stored.opened_on, stored.payment_id, stored.ver, stored.state.value, last["amount"]),
                    *(first["wall_us"], last["wall_us"], kept["terminal"], kept["account"], key, kept.get("rrn", "")),
                    kept,
                )
            )
            for event in own:
                for account, debit, credit in orjson.loads(event["ledger"] or b"[]"):
                    before = balances.get((event["opened_on"], account), (0, 0))
                    balances[event["opened_on"], account] = (before[0] + debit, before[1] + credit)
        found = await postgres.fetch(
            "SELECT opened_on, payment_id, ver, state::text, amount, "
            "(extract(epoch FROM opened_at) * 1000000)::bigint, (extract(epoch FROM changed_at) * 1000000)::bigint, "
            "terminal_id, account, kiosk_key, rrn, body::text FROM switch.payment ORDER BY opened_on, payment_id"
        )
        assert [(*row[:-1], orjson.loads(row[-1])) for row in map(tuple, found)] == expected
        rows = await postgres.fetch("SELECT opened_on, account, debit, credit FROM switch.ledger_balance")
        assert {(row["opened_on"], row["account"]): (row["debit"], row["credit"]) for row in rows} == balances
        summed = await postgres.fetch(
            "SELECT opened_on, account, sum(debit)::bigint AS debit, sum(credit)::bigint AS credit "
            "FROM switch.ledger_entry GROUP BY 1, 2"
        )
        assert {tuple(row) for row in summed} == {tuple(row) for row in rows}, "the view shows the same lines"

    asyncio.run(main())


def test_the_contract_says_what_the_database_shows_and_opens_nothing_else(postgres: PostgresStore) -> None:
    async def main() -> None:
        rows = await postgres.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'switch' "
            "AND table_name LIKE 'contract%' ORDER BY table_name, ordinal_position"
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], []).append(row["column_name"])
        assert {name: tuple(columns) for name, columns in found.items()} == contract.VIEWS
        states = await postgres.fetch("SELECT unnest(enum_range(NULL::switch.payment_state))::text AS state")
        assert {row["state"] for row in states} - {"NEW"} == set(contract.STATES)
        await _tell(postgres, 20)
        await read_books(postgres.dsn)
        admin = await asyncpg.connect(postgres.dsn)
        await admin.execute(f"SET ROLE {contract.ROLE}")
        for view in contract.VIEWS:
            await admin.fetch(f"SELECT * FROM switch.{view}")
        fed = await admin.fetch("SELECT * FROM switch.contract_v1_feed('', 5)")
        assert len(fed) == 5
        for cursor, waits in (("", 20), (fed[-1]["cursor"], 15)):
            lag = await admin.fetchrow(f"SELECT * FROM switch.{contract.FEED_LAG}($1, 100)", cursor)
            assert tuple(lag.keys()) == contract.FEED_LAG_COLUMNS
            assert lag["events"] == waits and lag["oldest_us"] > 10**15
        assert await admin.fetchval(f"SELECT events FROM switch.{contract.FEED_LAG}('', 7)") == 7, "bounded"
        for table in (
            "payment",
            "payment_event",
            "claim",
            "open_payment",
            "terminal",
            "case_decision",
            "ledger_entry",
            "ledger_balance",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await admin.fetch(f"SELECT * FROM switch.{table}")
        await admin.close()

    asyncio.run(main())


def test_the_projector_of_a_worker_keeps_up(postgres: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switch.limits.PROJECTION_EVERY_S", 0.05)

    async def main() -> None:
        from .support import RealClock

        one = projector.Projector(postgres.dsn, clock=RealClock(), observer=postgres.seen)
        two = projector.Projector(postgres.dsn, clock=RealClock(), observer=postgres.seen)
        await one.start()
        await two.start()
        await _tell(postgres, 40)
        while (await postgres.fetch("SELECT events FROM switch.projection"))[0]["events"] < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        while not await postgres.fetch("SELECT FROM switch.chain_seal"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await one.stop()
        await two.stop()
        assert "projector.failed" not in postgres.seen.names()

    asyncio.run(main())


class _Line:
    """A connection of which only its end matters."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True


class _EarlyMorning:
    """Of the 24th in China, when UTC has the 23rd."""

    def now(self) -> float:
        return 0.0

    def wall_us(self) -> int:
        return 1_795_453_200_000_000


def test_a_projectors_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails, the next round has a connection of its own; a full batch is followed at once by another; a day is
    sealed when nothing is left to project."""
    full = limits.PROJECTION_BATCH_MAX
    answers: list[Any] = [OSError("gone"), 0, full, full - 1, KeyError("ours"), 0]
    did: list[Any] = []
    lines: list[_Line] = []
    seen = Recorder()

    async def connect(dsn: str, name: str) -> _Line:
        did.append(("connect", dsn, name))
        if len(lines) == 1:
            lines.append(_Line())
            raise ConnectionRefusedError
        lines.append(_Line())
        return lines[-1]

    async def project(connection: _Line) -> int:
        assert connection is lines[-1]
        did.append("project")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    async def seal(connection: _Line, today: int) -> bool:
        assert connection is lines[-1]
        did.append(("seal", today))
        lines[-1].closed = not answers  # at the end: closed by the server
        return True

    async def sleep(seconds: float) -> None:
        did.append(("sleep", seconds))
        if not answers:
            raise asyncio.CancelledError

    async def main() -> None:
        one = projector.Projector("dsn", clock=_EarlyMorning(), observer=seen)
        await one.stop()  # not started: nothing to stop
        await one.start()
        task = one._task
        assert task is not None and task.get_name() == "projector"
        await asyncio.wait([task])
        await one.stop()

    for name, stand_in in (("connect", connect), ("project", project), ("seal", seal)):
        monkeypatch.setattr(projector, name, stand_in)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(main())
    again, pause, sealed = ("connect", "dsn", "projector"), ("sleep", limits.PROJECTION_EVERY_S), ("seal", 20261124)
    assert did == [
        *(again, "project", pause),
        *(again, pause),
        *(again, "project", sealed, pause, "project", "project", pause, "project", pause),
        *(again, "project", sealed, pause),
    ]
    said = ["OSError('gone')", "ConnectionRefusedError()", "KeyError('ours')"]
    assert seen.events == [("projector.failed", {"error": error}) for error in said]
    assert [line.closed for line in lines] == [True, False, True, True]


class _Spy:
    """A connection that notes how it was asked for a transaction or a cursor."""

    def __init__(self, connection: Any, asked: list[Any]) -> None:
        self._connection = connection
        self._asked = asked

    def transaction(self, **named: Any) -> Any:
        self._asked.append(named)
        return self._connection.transaction(**named)

    def cursor(self, query: str, *arguments: Any, **named: Any) -> Any:
        self._asked.append(named)
        return self._connection.cursor(query, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_what_is_read_is_of_one_moment_in_portions_and_under_a_name(
    postgres: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    @asynccontextmanager
    async def spied(dsn: str, name: str) -> AsyncIterator[Any]:
        async with connected(dsn, name) as connection:
            asked.append(name)
            yield _Spy(connection, asked)

    monkeypatch.setattr(projector, "connected", spied)
    monkeypatch.setattr(proof, "connected", spied)
    writes = {"isolation": "repeatable_read"}  # below the snapshot's xmin nothing can come any more
    reads = writes | {"readonly": True}
    portion = {"prefetch": limits.PROJECTION_BATCH_MAX}

    async def since(call: Awaitable[Any]) -> list[Any]:
        asked.clear()
        await call
        return asked[:]

    async def main() -> None:
        await _tell(postgres, 5)
        assert await since(rebuild(postgres.dsn)) == ["projector", {}, writes, writes]
        assert await since(read_books(postgres.dsn)) == ["books", writes, reads]
        async with spied(postgres.dsn, "x") as connection:
            assert await since(seal(connection, 20261124)) == [writes, portion]
        assert await since(verify_chain(postgres.dsn)) == ["verify", reads, portion, portion]
        assert await since(load_ledger_totals(postgres.dsn)) == ["proof"]
        assert await since(postgres.rows()) == ["proof", reads, {"prefetch": proof.PREFETCH}]

    asyncio.run(main())


def test_a_payment_is_its_latest_event_and_all_its_bodies(postgres: PostgresStore) -> None:
    async def main() -> None:
        body = OPENING | {"kiosk_serial": "000001", "amount": 1000, "approved_seen": True}
        posted = [["R1", "202610", 900, 100, 1000, "1001", "posted"], ["R2", "202611", 0, 250, 250, "1002", "waiting"]]
        opened = entry(1, amount=1250, wall_us=10**15, body=orjson.dumps(body))
        latest = entry(
            *(1, 2),
            state=State.BILL_PENDING,
            amount=1250,
            wall_us=10**15 + 2_000_000,
            body=orjson.dumps({"rrn": "000000000777", "postings": posted}),
            ledger=b'[["u_receivable",1250,0],["customer_suspense",0,1250]]',
        )
        columns = (
            "SELECT opened_on, payment_id, ver, state::text, amount, extract(epoch FROM opened_at)::bigint, "
            "extract(epoch FROM changed_at)::bigint, terminal_id, account, kiosk_key, rrn, body::text "
            "FROM switch.payment"
        )
        async with postgres.journal() as journal:
            await outcome(journal, opened)
            assert (await read_books(postgres.dsn)).suspense_due == 1250
            ((*before, text),) = await postgres.fetch(columns)
            key = ("GS000001", "0500000017", "GS000001|1124|000001")
            assert before == [DAY, 1, 1, "CARD_PENDING", 1250, 10**9, 10**9, *key, ""]
            assert orjson.loads(text) == body
            await outcome(journal, latest)
            await outcome(journal, entry(2, body=orjson.dumps(body | {"approved_seen": False})))
        books = await read_books(postgres.dsn)
        assert (books.suspense_due, books.events, books.total) == (250, 3, 0)
        assert set(books.accounts) == {("u_receivable", 1250, 0, 1250), ("customer_suspense", 0, 1250, -1250)}
        (*after, text), _ = await postgres.fetch(f"{columns} ORDER BY payment_id")
        assert after == [DAY, 1, 2, "BILL_PENDING", 1250, 10**9, 10**9 + 2, *key, "000000000777"]
        assert orjson.loads(text) == body | {"rrn": "000000000777", "postings": posted}
        lines = await postgres.fetch("SELECT * FROM switch.ledger_entry ORDER BY line")
        assert [tuple(row) for row in lines] == [
            (DAY, 1, 2, 0, "u_receivable", 1250, 0),
            (DAY, 1, 2, 1, "customer_suspense", 0, 1250),
        ]

    asyncio.run(main())


def test_while_another_one_projects_nothing_is_done_twice(postgres: PostgresStore) -> None:
    async def main() -> None:
        await _tell(postgres, 5)
        mine, other = await asyncpg.connect(postgres.dsn), await asyncpg.connect(postgres.dsn)
        async with other.transaction():
            assert await other.fetchval(QUERY["projector_lock"], 0x6772_0003, 1)
            assert await project(mine) == 0 and await seal(mine, 20261124) is False
        assert await project(mine) == 5 and await project(mine) == 0
        assert await seal(mine, 20261124) is True
        for each in (mine, other):
            await each.close()

    asyncio.run(main())


def test_a_day_is_sealed_once_and_only_if_something_happened(postgres: PostgresStore) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(postgres.dsn)
        assert await seal(connection, 20261123) is False, "nothing to seal"
        await _tell(postgres, 5)
        await project(connection, 2)
        assert await seal(connection, 20261124) is True
        await project(connection, 2)
        assert await seal(connection, 20261124) is False and await seal(connection, 20261123) is False
        assert await seal(connection, 20261124, now=True) is True
        assert await seal(connection, 20261126) is False, "nothing new"
        await project(connection)
        assert await seal(connection, 20261126) is True
        rows = await connection.fetch("SELECT number, day, events FROM switch.chain_seal ORDER BY number")
        assert [tuple(row) for row in rows] == [(1, 20261124, 2), (2, 20261124, 2), (3, 20261126, 1)]
        assert await seal(connection, 20261126, now=True) is False, "nothing new"
        await connection.close()
        report = await verify_chain(postgres.dsn)
        assert (report.broken, report.seals, report.sealed) == ((), 3, 5)

    asyncio.run(main())
