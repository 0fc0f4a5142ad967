"""The whole switch in one loop: both simulated hosts, one worker, real PostgreSQL, real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import asyncpg
import msgspec
import orjson
import pytest
import uvloop

from switch import sim
from switch.config import (
    UNLIMITED,
    Config,
    ControlConfig,
    LimitsConfig,
    ListenConfig,
    MarketingConfig,
    MarketingProfile,
    ObserveConfig,
    SecurityConfig,
    UnionpayConfig,
    UnionpayProfile,
)
from switch.errors import SecurityError
from switch.limits import SHORT
from switch.machines import days
from switch.ops.proof import prove
from switch.ops.terminals import add_test_terminals
from switch.runtime.clock import SystemClock
from switch.runtime.supervisor import Worker
from switch.security.token import create_masters
from switch.sim import customers, testkeys
from switch.sim.kiosk_client import Answer, Bills, CardChoice, Kiosk, Payment
from switch.sim.marketing_host import MarketingHost
from switch.sim.scenario import Scenario, read_scenario
from switch.sim.threeway import Proof
from switch.sim.unionpay_host import UnionPayHost
from switch.sim.wire import Turn

KIOSKS = 3


@dataclass
class World:
    """Everything of one test. ``worker`` may be stopped and started again: its database and the hosts stay."""

    folder: Path
    dsn: str
    scenario: Scenario
    profile: UnionpayProfile
    limits: LimitsConfig = UNLIMITED
    terminals: int = KIOSKS
    sign_on: Literal["001", "003", "004"] = "003"  # 60.3
    family: str = "des"  # of the terminals' master keys
    mac_key_size: int = 16
    echo_mac: Literal["checked", "none"] = "checked"
    security: SecurityConfig = field(default_factory=SecurityConfig)
    speaks: Literal["json", "ydlw"] = "json"  # the marketing system, in two versions
    settle_at: str = ""
    test_account: str = ""
    config: Config = field(init=False)
    worker: Worker = field(init=False)
    unionpay: UnionPayHost = field(init=False)
    marketing: MarketingHost = field(init=False)
    kiosks: list[Kiosk] = field(default_factory=list)
    next_account: int = 0

    async def start(self) -> None:
        # No test may run into the closed minutes before the cut-over.
        noon = days.local(SystemClock().wall_us() + 12 * 3_600_000_000)
        self.profile = msgspec.structs.replace(self.profile, cut_over=f"{noon:%H:%M}")
        self.unionpay = UnionPayHost(
            "127.0.0.1", 0, self.folder / "unionpay.jsonl", self.scenario, mac_key_size=self.mac_key_size
        )
        specs = (f"marketing_{self.speaks}_1_0", self.next_spec)
        self.marketing = MarketingHost("127.0.0.1", 0, self.folder / "marketing.jsonl", self.scenario, specs=specs)
        await self.unionpay.start()
        await self.marketing.start()
        terminal, merchant = testkeys.test_terminal(9999)
        self.config = Config(
            environment="development",
            time_profile="short",
            listen=ListenConfig(port=0, limits=self.limits),
            observe=ObserveConfig(port=0, log_level="error"),
            security=msgspec.structs.replace(
                self.security, lmk_file=str(self.folder / "lmk.key"), vault_dir=str(self.folder / "vault")
            ),
            control=ControlConfig(path=str(self.folder / "control.sock")),
            unionpay=UnionpayConfig(
                host="127.0.0.1",
                port=self.unionpay.port,
                service_terminal=terminal,
                service_merchant=merchant,
                profile=self.profile,
                sign_on=self.sign_on,
                echo_mac=self.echo_mac,
                settle_at=self.settle_at,
                settle_spread_s=0.0,
            ),
            marketing=MarketingConfig(
                host="127.0.0.1",
                port=self.marketing.port,
                channel="SELF01",
                spec=f"marketing_{self.speaks}_1_0",
                test_account=self.test_account,
                profile=MarketingProfile(fence="tombstone", inquiry="serial", dedupe="serial")
                if self.speaks == "json"
                else MarketingProfile(fence="cancel_if_posted", inquiry="history", dedupe="none"),
            ),
        )
        await add_test_terminals(self.config, self.dsn, self.terminals, self.family)
        await self.start_worker()

    @property
    def next_spec(self) -> str:
        return str(Path(sim.__file__).parent / "specs" / f"marketing_{self.speaks}_1_1.toml")

    async def start_worker(self) -> None:
        self.worker = Worker(self.config, self.dsn)
        await self.worker.start()
        await until(lambda: self.worker.switch.card_link.is_up and self.worker.switch.marketing_link.is_up)

    async def stop(self) -> None:
        for kiosk in self.kiosks:
            kiosk.close()
        await self.worker.stop()
        await self.unionpay.stop()
        await self.marketing.stop()

    async def kiosk(self, number: int = 1, *, sign_on: bool = True) -> Kiosk:
        """A kiosk that has signed on."""
        kiosk = Kiosk(
            number,
            "127.0.0.1",
            self.worker.kiosk_port,
            turn=Turn(),
            first_serial=1 + 1000 * len(self.kiosks),
            sm4=self.family == "sm4",
        )
        self.kiosks.append(kiosk)
        await kiosk.connect()
        if sign_on:
            assert await kiosk.sign_on() == "00"
        return kiosk

    async def bills(self, kiosk: Kiosk, months: int | None = None, *, partial: bool | None = None) -> Bills:
        """The bills of a customer nobody has asked for yet, with so many months."""
        while True:
            account = customers.account(self.next_account)
            self.next_account += 1
            answer = await kiosk.inquire(account)
            if answer.code != "00":
                continue
            assert answer.bills is not None
            if months in (None, len(answer.bills.rows)) and partial in (None, answer.bills.partial_allowed):
                return answer.bills

    async def pay(
        self,
        kiosk: Kiosk,
        months: int | None = None,
        card: CardChoice = CardChoice(1),  # noqa: B008
        **options: Any,
    ) -> Payment:
        bills = await self.bills(kiosk, months)
        return await kiosk.pay(bills, tuple(row[0] for row in bills.rows), card, **options)

    async def settle(self, seconds: float = 20.0) -> Proof:
        """Until the machines have brought everything to an end; then the three-way proof."""
        await until(lambda: self.worker.switch.payments.open_count == 0 and self.worker.journal.pending == 0, seconds)
        assert self.metric("switch_metric_faults_total") == 0, "a metric was used against its definition"
        return await prove(self.dsn, self.folder / "unionpay.jsonl", self.folder / "marketing.jsonl")

    async def rows(self, statement: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def events(self, table: str = "switch.payment_event") -> list[tuple[str, str]]:
        """(row, state) of every event in the order they were written."""
        return [
            (each["row"], each["state"]) for each in await self.rows(f"SELECT * FROM {table} ORDER BY wall_us, ver")
        ]

    def metric(self, line: str) -> float:
        """The value of one line of the metrics, 0 when it is not there."""
        for each in self.worker.metrics.text().decode().splitlines():
            name, _, value = each.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    while not true():
        assert loop.time() < ends_at, "waited too long"
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def world_token(tokens: dict[str, SecurityConfig]) -> SecurityConfig:
    """A token with a local master key, for a whole switch."""
    create_masters(tokens["world"])
    return tokens["world"]


Story = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(database: str, short_dir: Path) -> Callable[..., None]:
    """Run a story in a world: ``play(story, "scenario as TOML")``."""

    def run(
        story: Story,
        scenario: str = "",
        *,
        profile: UnionpayProfile = UnionpayProfile(reversal_00="found_only", reversal_not_found="proves"),  # noqa: B008
        limits: LimitsConfig = UNLIMITED,
        kiosks: int = KIOSKS,
        **keys: Any,
    ) -> None:
        """``keys``: more fields of ``World``."""

        async def whole() -> None:
            world = World(
                short_dir, database, read_scenario('name = "test"\n' + scenario), profile, limits, kiosks, **keys
            )
            async with _started(world):
                await story(world)

        uvloop.run(whole())

    return run


@asynccontextmanager
async def _started(world: World) -> AsyncIterator[World]:
    await world.start()
    try:
        yield world
    finally:
        await world.stop()


@pytest.fixture
def helpers() -> Any:
    """What the stories need by name; test modules cannot import this file."""

    class Helpers:
        wait_until = staticmethod(until)
        card = CardChoice
        answer = Answer
        times = SHORT
        security_error = SecurityError
        json = staticmethod(orjson.loads)

    return Helpers
