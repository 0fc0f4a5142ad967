"""Whole payments in one process, without sockets and without a database: what the switch itself costs.

The object graph of one worker as it ships, real frames, real MACs, real hosts' logic; only the transports are lists,
and a commit is there as soon as it is asked for. Time is counted while bytes are given to the switch and while its
own callbacks run, not while hosts and kiosks compute. Each payment is of one month: an inquiry, a charge, a posting.

    python -m benchmarks.whole --payments 2000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvloop

import iso8583
from iso8583 import tlv
from switch.config import (
    UNLIMITED,
    Config,
    ListenConfig,
    MarketingConfig,
    MarketingProfile,
    ObserveConfig,
    SecurityConfig,
    UnionpayConfig,
    UnionpayProfile,
)
from switch.model.payment import StoredPayment
from switch.net.framed import FramedProtocol
from switch.net.upstream import Dialer
from switch.observe.metrics import Metrics
from switch.ports import Append, Appended, Claim, Found, JournalEntry, KeyUsage, Stray, Terminal
from switch.runtime.assembly import Switch
from switch.runtime.clock import SystemClock
from switch.security import mac, pinblock, primitives, workingkeys
from switch.security.software import SoftwareSecurityModule
from switch.sim import customers, testkeys
from switch.sim.day import china_now
from switch.sim.marketing_host import MarketingHost
from switch.sim.scenario import Scenario
from switch.sim.truth import MemoryTruthLedger
from switch.sim.unionpay_host import UnionPayHost
from switch.sim.wire import FrameConnection
from switch.store.memory import MemoryDatabase, MemoryTerminals

HEADER = bytes.fromhex("6000030000603100000000")
COMMITTED = Appended(Append.COMMITTED)
FIRST_ACCOUNT = 1_000


class Quiet(Metrics):
    """An observer that counts as in production and logs nothing but faults."""

    def event(self, name: str, **facts: Any) -> None:
        if facts.get("level") == "error" or "error" in facts:
            raise AssertionError(f"{name}: {facts}")


class Instant:
    """A journal whose commits are there when ``commit`` is called: all that waits at once, as a group commit does."""

    epoch = 1
    accepting = True
    may_send = True
    queue_s = 0.0
    on_lost: Callable[[], None]

    def __init__(self) -> None:
        self.waiting: list[tuple[JournalEntry, Callable[[Appended], None]]] = []
        self.entries = 0

    @property
    def pending(self) -> int:
        return len(self.waiting)

    def append(self, entry: JournalEntry, done: Callable[[Appended], None]) -> None:
        self.waiting.append((entry, done))

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.entries += len(waiting)
        for _, done in waiting:
            done(COMMITTED)

    def find(self, claim: Claim, done: Callable[[Found], None], *, close: str = "") -> None:
        raise AssertionError("nothing here is a repeat")

    def note(self, stray: Stray) -> None:
        raise AssertionError(f"stray: {stray}")

    async def take_over(self, limit: int) -> list[StoredPayment]:
        return []


class Line(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_read = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 9) if name == "peername" else default

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def abort(self) -> None:
        raise AssertionError("the switch cut a line")

    def take(self, prefix_size: int) -> list[bytes]:
        data, frames, at = b"".join(self.written), [], 0
        self.written.clear()
        while at < len(data):
            end = at + prefix_size + int.from_bytes(data[at : at + prefix_size], "big")
            frames.append(data[at + prefix_size : end])
            at = end
        return frames


class Soon:
    """What the switch's wires know of a loop: what they want done soon is done when ``turn`` is called."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self.later: Callable[[], None] = lambda: None  # the latest

    def call_soon(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        self.later = call

    def turn(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call()


class _Back:
    """What a simulated host answers through."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.is_open = True

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)


class KioskEnd:
    def __init__(self, number: int, protocol: FramedProtocol, soon: Soon) -> None:
        self.protocol = protocol
        self.line = Line()
        self.terminal_id, self.merchant_id = testkeys.test_terminal(number)
        self.card = number
        self.serial = 0
        self.spec = iso8583.load("kiosk", header="tpdu+pos6")
        self.mac: mac.Mac
        self.pin: primitives.BlockCipher
        protocol.connection_made(self.line)
        protocol._loop = cast(asyncio.AbstractEventLoop, soon)

    def frame(self, **more: Any) -> bytes:
        self.serial += 1
        fields = {11: f"{self.serial:06d}", 41: self.terminal_id, 42: self.merchant_id}
        return self.spec.encode(fields | {int(key[1:]): value for key, value in more.items()}, header=HEADER)

    def signed(self, **more: Any) -> bytes:
        frame = self.frame(f13=f"{china_now():%m%d}", f49="156", f25="00", f64=bytes(8), **more)[:-8]
        return frame + self.mac.make(frame[11:])

    def inquiry(self, account: str) -> bytes:
        private = tlv.encode([("DF01", account.encode())])
        return self.signed(f0="0200", f3="310000", f48=private, f60="71000001000")

    def payment(self, answer: bytes) -> bytes:
        """Pays the oldest month of what an inquiry answered."""
        message = self.spec.decode(answer)
        assert message[39] == "00" and self.mac.verify(answer[11:-8], answer[-8:]), message[39]
        objects = tlv.decode(message.raw(48))
        row = dict(tlv.decode(tlv.every(objects, "E1")[0]))
        known = dict(objects)
        private = tlv.encode([("DF01", known["DF01"]), ("DF02", known["DF02"]), ("DF11", row["DF11"])])
        block = self.pin.encrypt(pinblock.encode_format0("123456", testkeys.test_pan(self.card)))
        return self.signed(
            f0="0200", f3="000000", f4=row["DF15"].decode().zfill(12), f22="021", f26="06", f48=private,
            f35=testkeys.test_track2(self.card), f52=block, f53="2600000000000000", f60="72000001000",
        )  # fmt: skip

    def check(self, answer: bytes) -> None:
        message = self.spec.decode(answer)
        assert message[39] == "00" and self.mac.verify(answer[11:-8], answer[-8:]), message[39]


class Whole:
    """One worker with its kiosks. ``start``, then ``turn`` as often as wanted: each pays one month at every kiosk."""

    def __init__(self, folder: Path, kiosks: int) -> None:
        self.kiosks_count = kiosks
        self.spent_ns = 0
        self.stages: dict[str, int] = {}
        self.folder = folder
        self.account = FIRST_ACCOUNT
        self.journal = Instant()
        self.soon = Soon()
        self.enter: Callable[[Callable[[], None]], None] = self._time  # how the switch is called

    async def start(self) -> None:
        terminal, merchant = testkeys.test_terminal(9_999)
        config = Config(
            environment="development",
            time_profile="standard",
            listen=ListenConfig(port=0, limits=UNLIMITED),
            observe=ObserveConfig(port=0, log_level="error"),
            security=SecurityConfig(lmk_file=str(self.folder / "lmk.key"), vault_dir=str(self.folder)),
            unionpay=UnionpayConfig(
                host="127.0.0.1", port=1, service_terminal=terminal, service_merchant=merchant,
                profile=UnionpayProfile(cut_over="12:00" if china_now().hour not in (11, 12) else "20:00"),
            ),
            marketing=MarketingConfig(host="127.0.0.1", port=2, channel="SELF01", profile=MarketingProfile()),
        )  # fmt: skip
        security = SoftwareSecurityModule(bytes(range(32)), self.folder, "development")
        database = MemoryDatabase()
        for number in range(1, self.kiosks_count + 1):
            terminal_id, merchant_id = testkeys.test_terminal(number)
            wrapped, kcv = security.wrap_new(testkeys.test_tmk(terminal_id), KeyUsage.TMK)
            database.terminals[terminal_id] = Terminal(
                terminal_id, merchant_id, "dual_tmk", in_service=True, tmk_wrapped=wrapped, tmk_kcv=kcv
            )
        clock = SystemClock()
        self.switch = Switch(
            config,
            journal=self.journal,
            terminals=MemoryTerminals(database),
            security=security,
            clock=clock,
            dice=_NoDice(),
            observer=Quiet(),
        )
        self.switch.listener._accepting = True
        self.hosts = (
            UnionPayHost("127.0.0.1", 0, MemoryTruthLedger("card"), Scenario(name="calm"), cut_over_in_s=40_000),
            MarketingHost("127.0.0.1", 0, MemoryTruthLedger("bill"), Scenario(name="calm"), cut_over_in_s=40_000),
        )
        for host in self.hosts:
            await host.start()
            host.turn._scheduled = True  # nobody waits for its ledger, and there need not be a loop
        self.links: list[tuple[FramedProtocol, Line]] = []
        for dialer in self.switch._dialers:
            assert isinstance(dialer, Dialer)
            protocol, line = dialer._new_wire(dialer._handler, dialer._closed), Line()
            protocol.connection_made(line)
            protocol._loop = cast(asyncio.AbstractEventLoop, self.soon)
            self.links.append((protocol, line))
            dialer._hand_over(protocol)
        self.hosts_answer()
        self.ends = [
            KioskEnd(number, cast(FramedProtocol, self.switch.listener._wire()), self.soon)
            for number in range(1, self.kiosks_count + 1)
        ]
        tmks = [primitives.des(testkeys.test_tmk(end.terminal_id)) for end in self.ends]
        for end in self.ends:
            self.give(end, end.frame(f0="0800", f60="00000000003", f63="001"))
        while not all(end.line.written for end in self.ends):
            await asyncio.sleep(0.005)  # sign-ons are spaced out
            self.hosts_answer()
        for end, tmk in zip(self.ends, tmks, strict=True):
            (answer,) = end.line.take(2)
            keys = workingkeys.parse(end.spec.decode(answer)[62])
            found = workingkeys.decrypt_key(keys.mac.cryptogram, keys.mac.kcv, tmk, KeyUsage.MAC)
            end.mac = mac.prepare("unionpay_ecb", found)
            end.pin = workingkeys.decrypt_key(keys.pin.cryptogram, keys.pin.kcv, tmk, KeyUsage.PIN)
        self.spent_ns = 0
        self.stages.clear()

    async def stop(self) -> None:
        for host in self.hosts:
            await host.stop()
        self.switch._timers.stop()

    def turn(self) -> None:
        """One payment of one month at each kiosk, all of them at the same time."""
        for end in self.ends:
            self.give(end, end.inquiry(self.customer()), "kiosk inquiry")
        self.hosts_answer("bill inquiry answer")
        for end in self.ends:
            (answer,) = end.line.take(2)
            self.give(end, end.payment(answer), "kiosk payment")
        self.commit("commit of 1")
        self.hosts_answer("card answer")
        self.commit("commit of 2")
        self.hosts_answer("post answer")
        self.commit("commit of 8")
        for end in self.ends:
            (answer,) = end.line.take(2)
            end.check(answer)

    def customer(self) -> str:
        """The next one who owes a single month."""
        host = self.hosts[1]
        assert isinstance(host, MarketingHost)
        while True:
            self.account += 1
            found = host._customer(customers.account(self.account))
            if found is not None and len(found.bills) == 1:
                return found.account

    # ------------------------------------------------------------------------------------------------ bytes
    def commit(self, stage: str) -> None:
        self._timed(stage, self.journal.commit)
        self._settle(stage)

    def hosts_answer(self, stage: str = "") -> None:
        self._settle(stage)
        for host, (protocol, line), prefix_size in zip(self.hosts, self.links, (2, 4), strict=True):
            back = _Back()
            for frame in line.take(prefix_size):
                host.obey_frame(cast(FrameConnection, back), frame)
            if back.frames:
                data = b"".join(len(frame).to_bytes(prefix_size, "big") + frame for frame in back.frames)
                self._timed(stage, partial(protocol.data_received, data))
        self._settle(stage)

    def give(self, end: KioskEnd, frame: bytes, stage: str = "") -> None:
        self._timed(stage, lambda: end.protocol.data_received(len(frame).to_bytes(2, "big") + frame))

    def _timed(self, stage: str, call: Callable[[], None]) -> None:
        self._stage = stage
        self.enter(call)

    def _time(self, call: Callable[[], None]) -> None:
        before = time.perf_counter_ns()
        call()
        spent = time.perf_counter_ns() - before
        self.spent_ns += spent
        self.stages[self._stage] = self.stages.get(self._stage, 0) + spent

    def _settle(self, stage: str = "") -> None:
        """What its wires have collected leaves."""
        self._timed(stage, self.soon.turn)


class _NoDice:
    def uniform(self) -> float:
        return 0.5


async def measure(payments: int, kiosks: int, profile: Callable[[Whole], None] | None = None) -> dict[str, Any]:
    """µs of a payment, and of each stage: the least of all turns, because whatever disturbs makes it more."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Whole(Path(folder), kiosks)
        await whole.start()
        least: dict[str, int] = {}
        totals: list[int] = []
        for _ in range(max(2, payments // kiosks)):
            whole.spent_ns = 0
            whole.stages.clear()
            whole.turn()
            totals.append(whole.spent_ns)
            for stage, spent in whole.stages.items():
                least[stage] = min(spent, least.get(stage, spent))
        await whole.stop()
    totals.sort()
    return {
        "payments": len(totals) * kiosks,
        "us_least": round(totals[0] / kiosks / 1000, 2),
        "us_mean": round(sum(totals) / len(totals) / kiosks / 1000, 2),
        "us_median": round(totals[len(totals) // 2] / kiosks / 1000, 2),
        "stages": {stage: round(spent / kiosks / 1000, 2) for stage, spent in least.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments", type=int, default=2_000)
    parser.add_argument("--kiosks", type=int, default=100)
    options = parser.parse_args(arguments)
    print(json.dumps(uvloop.run(measure(options.payments, options.kiosks)), indent=2))


if __name__ == "__main__":
    main()
