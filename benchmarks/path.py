"""The stations of a payment, one by one and all together: frame, index, patch, match, machine step, MAC, journal.

Each case is made once (``CASES[name]()``) and gives something to run again and again: ``run(enter)`` does the work
once, calling the part that is measured through ``enter``, and checks what came out. ``bench_payment.py`` times them,
``instructions.py`` counts them.

    python -m benchmarks.path worker      for instructions.py: names in, one line out for each
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from copy import copy
from functools import reduce
from pathlib import Path
from typing import Any, cast

import iso8583
from benchmarks.bench_codec import PURCHASE
from benchmarks.whole import HEADER, Instant, Quiet, Whole
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.limits import SHORT
from switch.machines.payment import Facts, HostProfile, Payment
from switch.machines.payment_table import Input
from switch.model.payment import Card, Posting, State
from switch.model.secret import Pan
from switch.net.framed import LEN2, Splitter
from switch.ports import Appended, JournalEntry, Wire
from switch.runtime.clock import SystemClock
from switch.runtime.links import MarketingLink
from switch.runtime.timers import Timers
from switch.security import mac, primitives
from switch.store.journal import PostgresJournal, _Waiting
from switch.store.pool import Connection

Enter = Callable[[Callable[[], None]], None]
Run = Callable[[Enter], None]
BATCH = 96  # entries of a journal batch: 32 payments
KIOSKS = 20  # payments of one run of "whole"
APPROVED = Facts(response_code="00", rrn="112233445566", settlement_date="1123", approved=True)


_closing: list[Callable[[], object]] = []  # what cases have opened


def close() -> None:
    """Whatever the cases have opened."""
    while _closing:
        _closing.pop()()


def _nothing() -> Run:
    """What the measuring itself costs: it is taken off."""

    def run(enter: Enter) -> None:
        enter(lambda: None)

    return run


def _frame() -> Run:
    splitter, frame = Splitter(LEN2), bytes(200)
    data = len(frame).to_bytes(2, "big") + frame

    def run(enter: Enter) -> None:
        found: list[bytes] = []
        enter(lambda: found.extend(splitter.feed(data)))
        assert found == [frame]

    return run


def _index() -> Run:
    spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
    data = spec.encode(PURCHASE, header=HEADER)

    def run(enter: Enter) -> None:
        found: list[Any] = []
        enter(lambda: found.append(spec.decode(data).pick((3, 4, 11, 25, 41, 42, 49, 60))))
        assert found[0][1] == PURCHASE[4]

    return run


def _patch() -> Run:
    spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
    message = spec.decode(spec.encode(PURCHASE, header=HEADER))

    def run(enter: Enter) -> None:
        found: list[bytes] = []
        enter(lambda: found.append(message.patched({4: 999, 11: "000777"})))
        assert spec.decode(found[0])[11] == "000777"

    return run


class _Up(MarketingLink):
    is_up = True


class _Swallows:
    def send(self, frame: bytes, token: object = None) -> bool:
        return True


def _match() -> Run:
    """A request leaves and its answer finds who waits for it, among 1,000 others."""
    observer, clock = Quiet(), SystemClock()
    loop = asyncio.new_event_loop()
    _closing.append(loop.close)
    timers = Timers(loop, clock, observer)
    link = _Up("marketing", MarketingDialect("SELF01"), SHORT, timers, clock, observer, Instant())
    link._wire = cast(Wire, _Swallows())
    link._machine.state = type(link._machine.state).UP
    for number in range(1_000):
        link.call(1_000_000 + number, b"", lambda answer: None)

    def run(enter: Enter) -> None:
        heard: list[MarketingAnswer | None] = []
        number = link.next_id()
        answer = b'{"id":%d,"code":"00","text":"","serial":"1"}' % number

        def both() -> None:
            link.call(number, b"{}", heard.append)
            link.frame_received(cast(Wire, None), answer)

        enter(both)
        assert heard[0] is not None and heard[0].request_id == number

    return run


def _payment() -> Payment:
    return Payment(
        payment_id=77,
        opened_on=20261123,
        terminal_id="GS000001",
        merchant_id="898110049000001",
        kiosk_date="1123",
        kiosk_serial="000001",
        digest="d",
        account="0500000017",
        amount=1000,
        batch_number="000001",
        stan="000001",
        settlement_day=20261123,
        marketing_day="20261123",
        postings=[Posting("R1", "202601", 900, 100, 1000, "7701")],
        card_token="t",
        card_masked="622200******0017",
        entry_mode="021",
        original_60="22000001000",
        times=SHORT,
        profile=HostProfile(),
        started_at=0.0,
        card=Card(Pan("6222000000000017"), None, None, "021", None, None, None, None, None),
    )


def _steps() -> Run:
    """The three of a good payment."""

    def run(enter: Enter) -> None:
        machine = _payment()

        def steps() -> None:
            machine.step(Input.START, Facts(), 0.0)
            machine.step(Input.CARD_APPROVED, copy(APPROVED), 0.1)
            machine.step(Input.BILL_POSTED, Facts(), 0.2)

        enter(steps)
        assert machine.state is State.COMPLETED

    return run


def _mac() -> Run:
    """200 bytes, with a key that is ready."""
    key = bytes(range(16))
    ready = mac.prepare("unionpay_ecb", primitives.des(key))
    expected = mac.make_mac("unionpay_ecb", key, bytes(200))

    def run(enter: Enter) -> None:
        found: list[bytes] = []
        enter(lambda: found.append(ready.make(bytes(200))))
        assert found == [expected]

    return run


class _Copies:
    """A connection that takes rows and is done."""

    def __init__(self) -> None:
        self.rows = 0
        self.calls = 0

    async def execute(self, statement: str) -> None: ...

    async def fetch(self, statement: str, *arguments: Any) -> None:
        self.calls += 1

    async def copy_records_to_table(self, table: str, *, records: list[Any], **more: Any) -> None:
        self.rows += len(records)


def _journal() -> Run:
    """The rows of one commit of ``BATCH`` entries; what asyncpg and PostgreSQL do with them is not in it."""
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder:
        whole = Whole(Path(folder), BATCH // 3)
        loop.run_until_complete(whole.start())
        entries: list[JournalEntry] = []
        append = whole.journal.append

        def keep(entry: JournalEntry, done: Callable[[Appended], None]) -> None:
            entries.append(entry)
            append(entry, done)

        whole.journal.append = keep  # type: ignore[method-assign]
        whole.turn()
        loop.run_until_complete(whole.stop())
    loop.close()
    journal = PostgresJournal("", clock=SystemClock(), observer=Quiet())
    waiting = [_Waiting(entry, lambda appended: None, number, 0.0) for number, entry in enumerate(entries)]
    assert len(waiting) == BATCH

    def run(enter: Enter) -> None:
        connection = _Copies()

        def write() -> None:
            writing = journal._write(cast(Connection, connection), waiting)
            try:
                writing.send(None)
            except StopIteration:
                return
            raise AssertionError("nothing here is waited for")

        enter(write)
        assert (connection.rows, connection.calls) == (BATCH, 1), "the events by COPY, all claims by one call"

    return run


def _whole() -> Run:
    """``KIOSKS`` payments at once, from bytes to bytes: inquiry, charge, posting, answer; commits are there at once."""
    loop = asyncio.new_event_loop()
    folder = tempfile.TemporaryDirectory()
    whole = Whole(Path(folder.name), KIOSKS)
    loop.run_until_complete(whole.start())
    _closing.extend((folder.cleanup, loop.close, lambda: loop.run_until_complete(whole.stop())))

    def run(enter: Enter) -> None:
        whole.enter = enter
        whole.turn()

    return run


CASES: dict[str, tuple[Callable[[], Run], int]] = {
    "nothing": (_nothing, 1),
    # name: what makes it, and how many of what is counted are in one run
    "frame": (_frame, 1),
    "index": (_index, 1),
    "patch": (_patch, 1),
    "match": (_match, 1),
    "steps": (_steps, 1),
    "mac": (_mac, 1),
    "journal": (_journal, BATCH // 3),
    "whole": (_whole, KIOSKS),
}


def worker(wanted: Sequence[str], runs: int = 30, warm_up: int = 30) -> None:
    """Under callgrind with ``--toggle-collect=functools_reduce --dump-before=getppid``: what runs inside ``reduce`` is
    counted, and each case ends with a dump."""

    def straight(call: Callable[[], None]) -> None:
        call()

    def counted(call: Callable[[], None]) -> None:
        reduce(_call, (call,), None)

    import gc  # noqa: PLC0415

    gc.disable()
    for name in wanted:
        make, each = CASES[name]
        run = make()
        for _ in range(warm_up):
            run(straight)
        gc.collect()
        for _ in range(runs):
            run(counted)
        os.getppid()
        print(json.dumps({"case": name, "count": runs * each}), flush=True)
    close()


def _call(_: None, call: Callable[[], None]) -> None:
    call()


if __name__ == "__main__":
    worker(sys.argv[1:] or [*CASES])
