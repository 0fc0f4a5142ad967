"""Terminals from the command line: a list, and test terminals for the simulated card host."""

from __future__ import annotations

from datetime import UTC, datetime

from switch.config import Config
from switch.errors import StartError
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
from switch.ports import KeyUsage, Terminal
from switch.runtime.clock import SystemClock
from switch.security.backends import ask, make_module
from switch.sim.testkeys import test_terminal, test_tmk
from switch.store.terminals import PostgresTerminals


async def list_terminals(dsn: str) -> list[str]:
    store = _store(dsn)
    lines = ["terminal  merchant         service  batch   keys  signed on (UTC)"]
    for terminal in await store.list():
        signed_on = "never"
        if terminal.signed_on_us:
            signed_on = f"{datetime.fromtimestamp(terminal.signed_on_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
        service = "in" if terminal.in_service else f"out: {terminal.out_of_service_reason}"
        lines.append(
            f"{terminal.terminal_id:<9} {terminal.merchant_id:<16} {service:<8} {terminal.batch_number:<7} "
            f"{terminal.key_epoch:<5} {signed_on}"
        )
    return lines


async def add_test_terminals(config: Config, dsn: str, count: int) -> int:
    """Terminals 1 to ``count``; those that exist stay as they are. Their keys are known to everybody: not for
    production."""
    if config.environment == "production":
        raise StartError("production", "test terminals have published keys and are refused in production")
    security = make_module(config, SystemClock().wall_us)
    await security.start()
    store = _store(dsn)
    known = {terminal.terminal_id for terminal in await store.list()}
    added = 0
    for number in range(1, count + 1):
        terminal_id, merchant_id = test_terminal(number)
        if terminal_id in known:
            continue
        component = await ask(security.seal_component, test_tmk(terminal_id))
        stored = await ask(security.combine_sealed, [component], KeyUsage.TMK, "des")
        await store.add(
            Terminal(
                terminal_id=terminal_id,
                merchant_id=merchant_id,
                key_mode="dual_tmk",
                in_service=True,
                tmk_wrapped=stored.wrapped,
                tmk_kcv=stored.kcv,
            )
        )
        added += 1
    await security.stop()
    return added


def _store(dsn: str) -> PostgresTerminals:
    return PostgresTerminals(dsn, clock=SystemClock(), observer=Observation(Metrics(), Log("error")))
