"""Terminals from the command line: list, register, show, bring into service; test terminals for the simulation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from switch.config import Config
from switch.errors import BadRequestError, StartError
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
from switch.ports import GATES, KeyUsage, Terminal
from switch.runtime.assembly import translate_refused
from switch.runtime.clock import SystemClock
from switch.security.backends import ask, make_module
from switch.sim.testkeys import test_terminal, test_tmk
from switch.store.terminals import PostgresTerminals

_LOOK_S: Final = 0.5  # between looks at a terminal that comes into service
# What opens each gate, for the people who wait in front of it.
_NEXT: Final = {
    "registered": "load its master key: gridswitch key component, see switch/KEY_CEREMONY.md",
    "keys": "let the kiosk sign on: the card network must bring working keys that fit their check values",
    "sign_on": "let the kiosk send echo tests with a MAC (field 64): three must go to the card network and back",
    "mac_echo": "let the kiosk inquire the test account (marketing.test_account): the marketing system must answer",
    "test_query": "let the kiosk pay for the test account with a card: the switch gives the money back by itself, and "
    "the card network must confirm the reversal",
    "test_reversal": "put it into service: gridswitch terminal onboard",
}


async def list_terminals(dsn: str) -> list[str]:
    store = _store(dsn)
    lines = ["terminal  merchant         service  batch   keys  signed on (UTC)"]
    for terminal in await store.list():
        signed_on = "never"
        if terminal.signed_on_us:
            signed_on = f"{datetime.fromtimestamp(terminal.signed_on_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
        lines.append(
            f"{terminal.terminal_id:<9} {terminal.merchant_id:<16} {_service(terminal):<8} {terminal.batch_number:<7} "
            f"{terminal.key_epoch:<5} {signed_on}"
        )
    return lines


def _service(terminal: Terminal) -> str:
    if terminal.stage != "in_service":
        return f"coming: {terminal.stage} ({GATES.index(terminal.stage) + 1} of {len(GATES)})"
    if not terminal.in_service:
        return f"out: {terminal.out_of_service_reason}"
    if terminal.sign_on_fault:
        return f"out until the next good sign-on: {terminal.sign_on_fault}"
    return "in"


async def register(config: Config, dsn: str, terminal_id: str, merchant_id: str, key_mode: str) -> str:
    """The first gate: a row. Raises BadRequestError when it exists or a value is refused."""
    for name, value, size in (("terminal", terminal_id, 8), ("merchant", merchant_id, 15)):
        if not (len(value) == size and value.isascii() and value.isalnum()):
            raise BadRequestError("terminal", f"{name} {value!r}: expected {size} letters or digits")
    if key_mode == "mac_in_ped":
        raise BadRequestError(
            "key_mode",
            "mac_in_ped: only the kiosk's PIN pad could make MACs, so the switch could not reverse a payment on its "
            "own; use dual_tmk, or translate",
        )
    if key_mode == "translate" and (refused := translate_refused(config.environment, make_module(config, _now_us))):
        raise BadRequestError("key_mode", refused)
    await _store(dsn).add(
        Terminal(
            terminal_id=terminal_id,
            merchant_id=merchant_id,
            key_mode=key_mode,
            in_service=False,
            tmk_wrapped=b"",
            tmk_kcv=b"",
            stage="registered",
        )
    )
    return f"{terminal_id}: registered; next: {_NEXT['registered']}"


async def show_terminal(dsn: str, terminal_id: str) -> list[str]:
    """Its gates: when each was passed and what proved it, and what opens the next one."""
    store = _store(dsn)
    terminal = await _one(store, terminal_id)
    lines = [
        f"{terminal.terminal_id}  merchant {terminal.merchant_id}, key mode {terminal.key_mode}, {_service(terminal)}"
    ]
    passed = await store.gates(terminal_id)
    lines += [f"  {_gate(row)}" for row in passed]
    if terminal.stage == "sign_on":
        lines.append(f"  {terminal.mac_echoes} of 3 echo tests with MAC seen")
    if terminal.stage in _NEXT:
        lines.append(f"  next: {_NEXT[terminal.stage]}")
    return lines


async def onboard(dsn: str, terminal_id: str, seconds: float, say: Callable[[str], None]) -> bool:
    """Show each gate as it is passed, and pass the last one; True: in service. Nothing here can skip one."""
    store = _store(dsn)
    told = 0
    stage = ""
    ends_at = time.monotonic() + seconds
    while True:
        terminal = await _one(store, terminal_id)
        if terminal.stage == GATES[-2]:
            terminal = await store.set_service(terminal_id, True, "")
        passed = await store.gates(terminal_id)
        if told > len(passed):
            say("its keys are gone: every gate again")
            told = 0
        for row in passed[told:]:
            say(_gate(row))
        told = len(passed)
        if terminal.stage == "in_service":
            if not terminal.in_service:
                raise BadRequestError(
                    "gate", f"{terminal_id}: onboarded before, and taken out: {terminal.out_of_service_reason}"
                )
            say(f"{terminal_id} is in service")
            return True
        if terminal.stage != stage:
            say(f"next: {_NEXT[terminal.stage]}")
            stage = terminal.stage
        if time.monotonic() >= ends_at:
            say(f"{terminal_id} still waits in front of gate {GATES[GATES.index(stage) + 1]}; say it again to go on")
            return False
        await asyncio.sleep(_LOOK_S)


async def _one(store: PostgresTerminals, terminal_id: str) -> Terminal:
    for terminal in await store.list():
        if terminal.terminal_id == terminal_id:
            return terminal
    raise BadRequestError("terminal", f"there is no terminal {terminal_id}; register it: gridswitch terminal add")


def _gate(row: Any) -> str:
    return f"{row['gate']:<11} {row['proved_at']:%Y-%m-%d %H:%M:%S} UTC  {row['proof']}"


def _now_us() -> int:
    return SystemClock().wall_us()


async def add_test_terminals(config: Config, dsn: str, count: int, family: str = "des") -> int:
    """Terminals 1 to ``count``; those that exist stay as they are. Their keys are known to everybody: not for
    production. ``family`` is that of their master keys: ``des`` or ``sm4``."""
    if config.environment == "production":
        raise StartError("production", "test terminals have published keys and are refused in production")
    security = make_module(config, SystemClock().wall_us)
    await security.start()
    store = _store(dsn)
    known = {terminal.terminal_id for terminal in await store.list()}
    added: list[Terminal] = []
    for number in range(1, count + 1):
        terminal_id, merchant_id = test_terminal(number)
        if terminal_id in known:
            continue
        component = await ask(security.seal_component, test_tmk(terminal_id))
        stored = await ask(security.combine_sealed, [component], KeyUsage.TMK, family)
        added.append(
            Terminal(
                terminal_id=terminal_id,
                merchant_id=merchant_id,
                key_mode="dual_tmk",
                in_service=True,
                tmk_wrapped=stored.wrapped,
                tmk_kcv=stored.kcv,
            )
        )
    await security.stop()
    await store.add_all(added)
    return len(added)


def _store(dsn: str) -> PostgresTerminals:
    return PostgresTerminals(dsn, clock=SystemClock(), observer=Observation(Metrics(), Log("error")))
