"""The two benchmarks of single parts: ``codec`` in this process, ``journal`` on a PostgreSQL of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console

import iso8583
from iso8583 import tlv
from switch.dialects.codes import CardCodes
from switch.dialects.kiosk import KioskDialect
from switch.dialects.unionpay import UnionPayDialect
from switch.limits import SHORT
from switch.model.chain import event_link
from switch.model.payment import State
from switch.ops import usage
from switch.ops.bench_report import Report, machine_facts, speed_us
from switch.ops.rig import Rig
from switch.ports import Append, Appended, Claim, ClaimKind, JournalEntry
from switch.runtime.clock import SystemClock
from switch.security import mac, primitives
from switch.sim import testkeys
from switch.sim.day import china_now
from switch.sim.histogram import Histogram
from switch.store.journal import PostgresJournal
from switch.store.meter import read_meter
from switch.store.migrate import migrate

_HEADER: Final = bytes.fromhex("6000030000603100000000")
_ROUNDS: Final = 7
_CALLS: Final = 500  # between two looks at the clock
_LIMIT_S: Final = 1.0
_LIMIT_BLOCKS: Final = 64  # of the file: it is written round and round
_WARM_UP_S: Final = 1.0


# ---------------------------------------------------------------------------------------------------- codec
def bench_codec(seconds: float) -> Report:
    """Nanoseconds of CPU for each thing that is done to a message on its way; each case checks its own answer."""
    report = Report("codec")
    speed = speed_us()
    cases = _cases()
    for name, call, expected in cases:
        found = call()
        if found != expected:
            report.fail(f"{name}: gives another answer than expected")
    best = {name: float("inf") for name, _, _ in cases}
    share_s = seconds / (_ROUNDS * len(cases))
    # Round by round, so that whatever else the machine does meanwhile hits all cases alike.
    for _ in range(_ROUNDS):
        for name, call, _ in cases:
            best[name] = min(best[name], _ns(call, share_s))
    for name, ns in best.items():
        report.add(f"{name}_ns", round(ns))
    report.machine = machine_facts(None, {}) | {"speed_us": [round(speed, 1), round(speed_us(), 1)]}
    return report


def _ns(call: Callable[[], object], seconds: float) -> float:
    calls, started = 0, time.process_time()
    ends_at = started + seconds
    while True:
        for _ in range(_CALLS):
            call()
        calls += _CALLS
        now = time.process_time()
        if now >= ends_at:
            return 1e9 * (now - started) / calls


def _cases() -> list[tuple[str, Callable[[], object], object]]:
    terminal_id, merchant_id = testkeys.test_terminal(1)
    kiosk = iso8583.load("kiosk", header="tpdu+pos6")
    card = iso8583.load("unionpay_pos", header="tpdu+pos6")
    key = mac.prepare("unionpay_ecb", primitives.des(bytes(range(16))))
    private = tlv.encode([("DF01", b"0300000009"), ("DF02", b"1a2b3c4d5e6f001"), ("DF11", b"0300000009202610")])
    payment = kiosk.encode(
        {
            0: "0200",
            3: "000000",
            4: 12874,
            11: "000123",
            13: "1129",
            22: "021",
            25: "00",
            26: "06",
            35: testkeys.test_track2(4),
            41: terminal_id,
            42: merchant_id,
            48: private,
            49: "156",
            52: bytes(8),
            53: "2600000000000000",
            60: "72000001000",
            64: bytes(8),
        },
        header=_HEADER,
    )
    values: dict[int | str, Any] = {
        0: "0210",
        3: "000000",
        4: 12874,
        11: "000123",
        12: "101112",
        13: "1129",
        15: "1129",
        25: "00",
        32: "48984401",
        37: "000010000001",
        38: "000001",
        39: "00",
        41: terminal_id,
        42: merchant_id,
        49: "156",
        60: "22000001000",
        64: bytes(8),
    }
    answer = card.encode(values, header=_HEADER)
    message = kiosk.decode(payment)
    request, approval = kiosk.decode(payment), card.decode(answer)
    kiosk_dialect = KioskDialect(CardCodes())
    card_dialect = UnionPayDialect(_HEADER[:5], _HEADER[5:])
    covered, code = payment[11:-8], key.make(payment[11:-8])

    def decode_and_read() -> tuple[str, str, str]:
        found = kiosk.decode(payment)
        return found[11], found[41], found[60]

    return [
        ("decode_read_3", decode_and_read, (request[11], request[41], request[60])),
        ("encode_0210", lambda: card.encode(values, header=_HEADER), answer),
        ("patch_2", lambda: message.patched({11: "000123", 4: 12874}), payment),
        ("tlv_decode", lambda: len(tlv.decode(private)), 3),
        ("mac_make", lambda: key.make(covered), code),
        ("mac_verify", lambda: key.verify(covered, code), True),
        ("kiosk_payment_read", lambda: kiosk_dialect.read(payment).terminal_id, terminal_id),
        ("card_answer_read", lambda: card_dialect.read(answer).response_code, approval[39]),
    ]


# ---------------------------------------------------------------------------------------------------- journal
def bench_journal(folder: Path, seconds: float, inflight: int, settings: dict[str, str]) -> Report:
    """Payments as the journal sees them, ``inflight`` at a time: three entries each, claims taken and released."""
    console = Console(highlight=False, soft_wrap=True)
    rig = Rig(folder, say=console.print, settings=settings)
    report = Report("journal")
    speed = speed_us()
    try:
        rig.clean()
        dsn = rig.server.start()
        uvloop.run(migrate(dsn))
        console.print(f"[bold]gridswitch bench journal[/bold]: {inflight} payments at a time for {seconds:g} s")
        uvloop.run(_JournalLoad(rig, dsn, inflight, report).run(seconds))
    finally:
        if rig.is_ours:
            rig.stop_all()
        rig.unlock()
    tell_limit(report, folder, 3.0)
    report.machine = machine_facts(rig.server, settings) | {"speed_us": [round(speed, 1), round(speed_us(), 1)]}
    return report


def tell_limit(report: Report, folder: Path, entries_per_payment: float) -> None:
    """What the disk alone could do in this run: as many bytes as one commit has, written and made durable, again and
    again. Nothing that is as durable can be faster; call it when everything else has stopped."""
    entries = report.numbers["entries_per_commit"]
    size = max(1, round(report.numbers["wal_bytes"] * entries / entries_per_payment))
    block, path, count = b"x" * size, folder / "limit", 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size * _LIMIT_BLOCKS)  # as PostgreSQL's WAL: its size never changes
        os.fsync(descriptor)
        began = time.monotonic()
        while (took := time.monotonic() - began) < _LIMIT_S:
            os.pwrite(descriptor, block, size * (count % _LIMIT_BLOCKS))
            os.fdatasync(descriptor)
            count += 1
    finally:
        os.close(descriptor)
        path.unlink()
    report.add("raw_commits_per_s", round(count / took, 1))
    report.add("raw_payments_per_s", round(count / took * entries / entries_per_payment, 1))


class _Tally:
    """An observer that adds up."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None:
        pass

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        pass

    def event(self, name: str, **facts: Any) -> None:
        pass


class _JournalLoad:
    _STATES: Final = (State.CARD_PENDING, State.BILL_PENDING, State.COMPLETED)

    def __init__(self, rig: Rig, dsn: str, inflight: int, report: Report) -> None:
        self._rig = rig
        self._dsn = dsn
        self._inflight = inflight
        self._report = report
        self._observer = _Tally()
        self._clock = SystemClock()
        self._opened_on = int(f"{china_now():%Y%m%d}")
        self._next = 0
        self._open = 0
        self._payments = 0
        self._refused = 0
        self._ends_at = 0.0
        self._times = Histogram()
        self._done = asyncio.Event()
        self._body = b'{"terminal":"GS000001","batch":"000001","account":"0300000009","day":"20261129","fill":"%b"}' % (
            b"x" * 300
        )

    async def run(self, seconds: float) -> None:
        self._journal = PostgresJournal(self._dsn, clock=self._clock, observer=self._observer, times=SHORT)
        await self._journal.start()
        try:
            await self._load(_WARM_UP_S)
            self._times = Histogram()
            for numbers in (self._observer.sums, self._observer.counts):
                numbers.clear()
            before, warm = await read_meter(self._dsn), self._payments
            started, cpu = time.monotonic(), self._cpu()
            await self._load(seconds)
            took, used = time.monotonic() - started, self._cpu()
        finally:
            left = await self._journal.stop()
        after = await read_meter(self._dsn)
        paid = self._payments - warm
        self._tell(paid, took, {role: used[role] - cpu[role] for role in used}, after.since(before).totals)
        rows = sum(after.since(before).tables.values())
        self._report.add("rows", round(rows / max(1, paid), 2))
        if self._refused or left:
            self._report.fail(f"{self._refused} entries were refused, {left} never answered")
        if not paid:
            self._report.fail("not one payment was committed")

    def _tell(self, paid: int, took: float, used: dict[str, float], totals: dict[str, int]) -> None:
        add, each = self._report.add, 1 / max(1, paid)
        add("payments", paid)
        add("payments_per_s", round(paid / took, 1))
        add("entries_per_s", round(3 * paid / took, 1))
        for name in ("p50", "p99", "p999", "max"):
            add(f"commit_{name}_ms", self._times.to_dict()[f"{name}_ms"])
        add("cpu_us_postgres", round(1e6 * used["postgres"] * each, 1))
        add("cpu_us_client", round(1e6 * used["client"] * each, 1))
        add("wal_bytes", round(totals.get("wal_bytes", 0) * each))
        add("commits", round(totals.get("xact_commit", 0) * each, 3))
        rows = "switch_db_batch_rows"
        add(
            "entries_per_commit",
            round(self._observer.sums.get(rows, 0.0) / max(1, self._observer.counts.get(rows, 0)), 1),
        )

    def _cpu(self) -> dict[str, float]:
        return {"postgres": usage.cpu_s(self._rig.server.processes()), "client": time.process_time()}

    async def _load(self, seconds: float) -> None:
        self._ends_at = self._clock.now() + seconds
        self._done.clear()
        for _ in range(self._inflight):
            self._begin()
        await self._done.wait()

    def _begin(self) -> None:
        self._next += 1
        self._open += 1
        self._append(self._next, 0, bytes(32))

    def _append(self, payment_id: int, step: int, previous: bytes) -> None:
        wall_us = self._clock.wall_us()
        claims: tuple[Claim, ...] = ()
        releases: tuple[Claim, ...] = ()
        if step == 0:
            claims = (
                Claim(ClaimKind.KIOSK, f"GS000001|1129|{payment_id}"),
                Claim(ClaimKind.STAN, f"GS000001|000001|{payment_id}"),
                Claim(ClaimKind.OPEN, str(payment_id)),
                Claim(ClaimKind.BILL, f"0300000009|{payment_id}"),
            )
        elif step == len(self._STATES) - 1:
            releases = (Claim(ClaimKind.OPEN, str(payment_id)), Claim(ClaimKind.BILL, f"0300000009|{payment_id}"))
        ledger = b'[["U-RECEIVABLE",12874,0],["M-PAYABLE",0,12874]]' if step else None
        entry = JournalEntry(
            opened_on=self._opened_on,
            payment_id=payment_id,
            ver=step + 1,
            state=self._STATES[step],
            row=str(step + 1),
            wall_us=wall_us,
            amount=12874,
            body=self._body,
            link=event_link(previous, payment_id, step + 1, self._STATES[step], str(step + 1), self._body, ledger),
            attempt=bytes(150) if step < 2 else None,
            ledger=ledger,
            claims=claims,
            releases=releases,
        )
        began = self._clock.now()
        self._journal.append(entry, lambda appended: self._appended(payment_id, step, entry.link, began, appended))

    def _appended(self, payment_id: int, step: int, link: bytes, began: float, appended: Appended) -> None:
        now = self._clock.now()
        self._times.add(now - began)
        if appended.result is not Append.COMMITTED:
            self._refused += 1
        elif step < len(self._STATES) - 1:
            self._append(payment_id, step + 1, link)
            return
        self._payments += 1
        self._open -= 1
        if now < self._ends_at:
            self._begin()
        elif not self._open:
            self._done.set()
