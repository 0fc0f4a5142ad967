"""Key mode translate: the kiosk has keys of ours, the acquirer's stay here, and the customer's PIN arrives."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from switch import limits
from switch.cli import main
from switch.config import SecurityConfig
from switch.ports import KeyUsage, Terminal
from switch.runtime.assembly import translate_refused
from switch.runtime.clock import SystemClock
from switch.security import workingkeys
from switch.security.backends import ask
from switch.security.primitives import des
from switch.security.software import SoftwareSecurityModule
from switch.sim import testkeys
from switch.store.keys import Act, transaction
from switch.store.terminals import PostgresTerminals

NUMBER = 8
TERMINAL, MERCHANT = testkeys.test_terminal(NUMBER)
PLATFORM = bytes.fromhex("89ABCDEF0123456776543210FEDCBA98")
OTHER = bytes.fromhex("1032547698BADCFEEFCDAB8967452301")


async def stored(world: Any, key: bytes) -> Any:
    module = world.worker._security
    return await ask(module.combine_sealed, [await ask(module.seal_component, key)], KeyUsage.TMK, "des")


async def kiosk_of(world: Any, *, sign_on: bool = True) -> Any:
    kiosk = await world.kiosk(NUMBER, sign_on=False)
    kiosk.load_master_key(PLATFORM)
    if sign_on:
        assert await kiosk.sign_on() == "00"
    return kiosk


async def add(world: Any) -> None:
    acquirer, ours = await stored(world, testkeys.test_tmk(TERMINAL)), await stored(world, PLATFORM)
    store = PostgresTerminals(world.dsn, clock=SystemClock(), observer=world.worker.observer)
    await store.add(
        Terminal(
            *(TERMINAL, MERCHANT, "translate", True, acquirer.wrapped, acquirer.kcv),
            platform_wrapped=ours.wrapped,
            platform_kcv=ours.kcv,
        )
    )


async def row(world: Any) -> Any:
    return (await world.rows("SELECT * FROM switch.terminal WHERE terminal_id = $1", TERMINAL))[0]


@pytest.mark.parametrize(("sign_on", "mac_key_size"), [("003", 16), ("003", 8), ("004", 16), ("001", 16)])
def test_a_bill_is_paid_with_a_pin_under_our_key(
    play: Callable[..., None], helpers: Any, sign_on: str, mac_key_size: int
) -> None:
    async def story(world: Any) -> None:
        await add(world)
        kiosk = await kiosk_of(world)
        found = await row(world)
        assert kiosk.keys == found["kiosk_keys"] and kiosk.keys != found["working_keys"]
        ours, theirs = workingkeys.parse(kiosk.keys), workingkeys.parse(found["working_keys"])
        assert {ours.pin.kcv, ours.mac.kcv}.isdisjoint({theirs.pin.kcv, theirs.mac.kcv}), "keys of its own"

        assert (await world.pay(kiosk)).stable == "completed"
        assert (await world.pay(kiosk, card=helpers.card(2, "chip"))).stable == "completed"
        assert (await world.pay(kiosk, card=helpers.card(3, "keyed"))).stable == "completed", "without a PIN"
        # The simulated host opens the block with its own key: it must find the very PIN.
        wrong = await world.pay(kiosk, card=helpers.card(1, wrong_pin=True))
        assert (wrong.stable, wrong.final) == ("declined", "55")
        assert kiosk.counts.get("mac_error", 0) == 0
        assert (await world.settle()).holds

    play(story, sign_on=sign_on, mac_key_size=mac_key_size)


def test_the_kiosk_s_keys_survive_a_restart_and_meet_other_workers(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        await add(world)
        kiosk = await kiosk_of(world)
        keys = kiosk.keys
        await world.worker.stop()
        await world.start_worker()
        again = await kiosk_of(world)
        assert again.keys == keys, "the day's keys are handed out again"
        assert (await world.pay(again)).stable == "completed"
        session = world.worker.switch.dispatcher._sessions._sessions[TERMINAL]
        session.must_sign_on = True
        assert await again.sign_on() == "00"
        assert again.keys != keys, "new ones with each sign-on"
        assert (await world.pay(again)).stable == "completed"
        assert (await world.settle()).holds

    play(story)


def test_a_pin_block_that_does_not_open_is_refused_before_the_card(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        await add(world)
        kiosk = await kiosk_of(world)
        kiosk._pin = des(OTHER)
        payment = await world.pay(kiosk)
        assert (payment.stable, payment.final) == ("pin_wrong", "99")
        assert world.unionpay.counts["purchase"] == 0

    play(story)


def test_reversals_go_with_the_acquirer_s_key(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        await add(world)
        kiosk = await kiosk_of(world)
        await world.pay(kiosk)
        assert (await world.settle(30.0)).holds
        assert world.unionpay.counts["reversal"] >= 1
        assert world.unionpay.counts["reversal_refused_A0"] == 0

    play(story, '[[unionpay.script]]\ndo = "silence:done"')


def test_a_new_platform_key_asks_for_a_sign_on(
    play: Callable[..., None], helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TERMINAL_REFRESH_S", 0.05)

    async def story(world: Any) -> None:
        await add(world)
        kiosk = await kiosk_of(world)
        key = await stored(world, OTHER)
        async with transaction(world.dsn) as keys:
            assert await keys.install(Act("Custodian One", TERMINAL, "platform"), "generated", key) == (2, "active")
        sessions = world.worker.switch.dispatcher._sessions

        def seen() -> bool:
            got: list[Any] = []
            sessions.get(TERMINAL, got.append)
            return got[0].terminal.platform_wrapped == key.wrapped and got[0].kiosk is None

        await helpers.wait_until(seen)
        assert await kiosk.echo() == "77"
        assert await kiosk.sign_on() == "kcv", "its PIN pad has the old key yet"
        kiosk.load_master_key(OTHER)
        assert await kiosk.sign_on() == "00"
        assert (await world.pay(kiosk)).stable == "completed"

    play(story)


def test_in_production_translation_outside_the_module_is_refused(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: Any) -> None:
        await add(world)
        sessions = world.worker.switch.dispatcher._sessions
        security = world.worker._security
        assert translate_refused("development", security) == ""
        sessions._translate_refused = translate_refused("production", security)
        assert "translates inside" in sessions._translate_refused
        kiosk = await kiosk_of(world, sign_on=False)
        assert await kiosk.sign_on() == "96"
        other = await world.kiosk(1)
        assert (await world.pay(other)).stable == "completed", "dual_tmk goes on"
        monkeypatch.setattr(SoftwareSecurityModule, "translates_inside", True)
        assert translate_refused("production", security) == ""

    play(story)


def configure(world: Any) -> Path:
    path: Path = world.folder / "people.toml"
    path.write_text(
        f'environment = "development"\ntime_profile = "short"\n[database]\ndsn = "{world.dsn}"\n'
        f'[security]\nlmk_file = "{world.folder}/lmk.key"\nvault_dir = "{world.folder}/vault"\n'
        '[unionpay]\nhost = "127.0.0.1"\nport = 1\nservice_terminal = "GS009999"\n'
        'service_merchant = "898440149009999"\n[marketing]\nhost = "127.0.0.1"\nport = 2\nchannel = "SELF01"\n'
    )
    return path


def test_a_terminal_in_each_mode_from_the_command_line(
    play: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: Any) -> None:
        path = configure(world)

        async def say(*arguments: str, stdin: str = "") -> tuple[int, str]:
            monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
            status = await asyncio.to_thread(main, [*arguments, "--config", str(path)])
            output = capsys.readouterr()
            return status, output.out + output.err

        status, text = await say("terminal", "add", TERMINAL, MERCHANT, "--key-mode", "mac_in_ped")
        assert status == 2 and "could not reverse a payment on its own" in text
        assert (await say("terminal", "add", TERMINAL, MERCHANT, "--key-mode", "translate"))[0] == 0
        assert (
            "no platform key"
            in (await say("key", "generate", "GS000001", "--usage", "platform", "--by", "Custodian One"))[1]
        )
        assert (await say("key", "generate", TERMINAL, "--by", "Custodian One"))[0] == 0
        assert (await row(world))["stage"] == "registered", "its kiosk has no key yet"
        status, text = await say("key", "generate", TERMINAL, "--usage", "platform", "--by", "Custodian One")
        assert status == 0 and "works from now on" in text
        assert (await row(world))["stage"] == "keys"
        await say("key", "generate", "loader", "--usage", "transport", "--by", "Custodian One")
        export = ("key", "export", TERMINAL, "--usage", "platform", "--under", "loader")
        assert (await say(*export, "--by", "Custodian One"))[0] == 0
        status, text = await say(*export, "--by", "Custodian Two", "--confirm")
        assert status == 0 and (await row(world))["platform_kcv"].hex().upper() in text
        status, text = await say("key", "show", TERMINAL)
        assert "platform key generation 1: active" in text and "tmk key generation 1: pending" in text

    play(story)


def test_both_modes_on_a_token(play: Callable[..., None], helpers: Any, world_token: SecurityConfig) -> None:
    """Every step of every key completes later there, and in between other frames come."""

    async def story(world: Any) -> None:
        assert world.worker._security.name == "pkcs11"
        await add(world)
        kiosk = await kiosk_of(world)
        assert (await world.pay(kiosk)).stable == "completed"
        assert (await world.pay(kiosk, card=helpers.card(1, wrong_pin=True))).final == "55"
        session = world.worker.switch.dispatcher._sessions._sessions[TERMINAL]
        session.must_sign_on = True
        assert set(await asyncio.gather(kiosk.sign_on(), kiosk.sign_on())) == {"00"}
        answers = await asyncio.gather(*(kiosk.inquire(f"100000000{number}") for number in range(5)))
        assert {answer.code for answer in answers} <= {"00", "E1", "E2"}
        dual = await world.kiosk(1)
        assert (await world.pay(dual)).stable == "completed"
        assert (await world.settle()).holds

    play(story, security=world_token)
