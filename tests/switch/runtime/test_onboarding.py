"""A new terminal comes into service: each gate is passed by what was seen on the wire, in order, by nothing else."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from switch import limits
from switch.cli import main
from switch.errors import BadRequestError
from switch.ports import GATES, KeyUsage, Terminal
from switch.runtime.clock import SystemClock
from switch.security import mac
from switch.security.primitives import des
from switch.sim import customers, testkeys
from switch.sim.kiosk_client import CardChoice
from switch.store.terminals import PostgresTerminals

NEW = 7  # no test terminal of this world
# One that owes something; a test account of a real marketing system does, too.
TEST_ACCOUNT = next(
    one.account for number in range(900, 1000) if (one := customers.customer(customers.account(number))) and one.bills
)
TERMINAL, MERCHANT = testkeys.test_terminal(NEW)
TMK = testkeys.test_tmk(TERMINAL)
ONE = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
TWO = bytes(a ^ b for a, b in zip(TMK, ONE, strict=True))
KCV = des(TMK).check_value().hex()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TERMINAL_REFRESH_S", 0.05)
    monkeypatch.setattr(limits, "TERMINAL_UNKNOWN_S", 0.05)


def configure(world: Any) -> Path:
    path: Path = world.folder / "people.toml"
    path.write_text(
        f'environment = "development"\ntime_profile = "short"\n[database]\ndsn = "{world.dsn}"\n'
        f'[security]\nlmk_file = "{world.folder}/lmk.key"\nvault_dir = "{world.folder}/vault"\n'
        '[unionpay]\nhost = "127.0.0.1"\nport = 1\nservice_terminal = "GS009999"\n'
        'service_merchant = "898440149009999"\n[marketing]\nhost = "127.0.0.1"\nport = 2\nchannel = "SELF01"\n'
    )
    return path


async def stage(world: Any) -> tuple[str, int, bool]:
    (row,) = await world.rows("SELECT * FROM switch.terminal WHERE terminal_id = $1", TERMINAL)
    return row["stage"], row["mac_echoes"], row["in_service"]


async def gates(world: Any) -> list[str]:
    rows = await world.rows("SELECT gate FROM switch.terminal_gate WHERE terminal_id = $1 ORDER BY id", TERMINAL)
    return [row["gate"] for row in rows]


async def add_with_key(world: Any) -> None:
    """Registered, with the key that the simulated host has: at gate ``keys``."""
    wrapped, kcv = world.worker._security.wrap_new(TMK, KeyUsage.TMK)
    store = PostgresTerminals(world.dsn, clock=SystemClock(), observer=world.worker.observer)
    await store.add(
        Terminal(
            *(TERMINAL, MERCHANT, "dual_tmk", False, b"", b""),
            next_tmk_wrapped=wrapped,
            next_tmk_kcv=kcv,
            stage="registered",
        )
    )


def test_a_new_terminal_from_its_registration_to_a_paid_bill(
    play: Callable[..., None],
    helpers: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(world: Any) -> None:
        path = configure(world)

        async def say(*arguments: str, stdin: str = "") -> tuple[int, str]:
            monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
            status = await asyncio.to_thread(main, [*arguments, "--config", str(path)])
            output = capsys.readouterr()
            return status, output.out + output.err

        kiosk = await world.kiosk(NEW, sign_on=False)
        assert await kiosk.sign_on() == "97"
        status, text = await say("terminal", "onboard", TERMINAL)
        assert status == 2 and "register it: gridswitch terminal add" in text
        status, text = await say("terminal", "add", TERMINAL, MERCHANT)
        assert status == 0 and "gridswitch key component" in text
        for wrong in ((TERMINAL, "12345"), (TERMINAL[:7], MERCHANT)):
            status, text = await say("terminal", "add", *wrong)
            assert status == 2 and "letters or digits [terminal]" in text
        assert "exists already" in (await say("terminal", "register", TERMINAL, MERCHANT))[1]
        await asyncio.sleep(0.1)
        assert await kiosk.sign_on() == "58", "without keys it may do nothing"

        for component, who in ((ONE, "Custodian One"), (TWO, "Custodian Two")):
            assert (await say("key", "component", TERMINAL, "--custodian", who, stdin=component.hex()))[0] == 0
        for who in ("Custodian One", "Custodian Two"):
            assert await gates(world) == ["registered"], "not before the last custodian has confirmed"
            assert (await say("key", "confirm", TERMINAL, "--custodian", who, "--kcv", KCV))[0] == 0
        assert await gates(world) == ["registered", "keys"]

        status, text = await say("terminal", "onboard", TERMINAL, "--seconds", "0.1")
        assert status == 1 and "still waits in front of gate sign_on" in text
        assert "coming: keys (2 of 7)" in (await say("terminal", "list"))[1]
        await helpers.wait_until(lambda: session_has_key(world))
        assert await kiosk.sign_on() == "00"
        assert await stage(world) == ("sign_on", 0, False)
        assert (await kiosk.inquire("1000000001")).code == "58", "no business before the last gate"

        assert await kiosk.echo() == "00"
        assert await stage(world) == ("sign_on", 0, False), "an echo without a MAC proves nothing"
        good, kiosk._mac = kiosk._mac, des_mac(b"\x11" * 8 + b"\x22" * 8)
        assert await kiosk.echo(with_mac=True) == "A0"
        kiosk._mac = good
        for seen in (1, 2):
            assert await kiosk.echo(with_mac=True) == "00"
            assert await stage(world) == ("sign_on", seen, False)
        status, text = await say("terminal", "show", TERMINAL)
        assert "2 of 3 echo tests with MAC seen" in text and "echo tests with a MAC (field 64)" in text

        assert await kiosk.echo(with_mac=True) == "00"
        assert (await stage(world))[0] == "mac_echo"
        assert "inquire the test account" in (await say("terminal", "show", TERMINAL))[1]
        with pytest.raises(BadRequestError, match="up to mac_echo only"):
            await world.worker._terminals.set_service(TERMINAL, True, "")
        assert (await kiosk.inquire("1000000001")).code == "58", "no account but the test account"
        bills = (await kiosk.inquire(TEST_ACCOUNT)).bills
        assert bills is not None and (await stage(world))[0] == "test_query"

        following = asyncio.create_task(say("terminal", "onboard", TERMINAL, "--seconds", "60"))
        paid = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1))
        assert paid.final == "", "it is being given back"
        await helpers.wait_until(lambda: world.worker.switch.payments.open_count == 0, 20)
        assert (await kiosk.ask_result(paid)).stable == "returned"
        status, text = await following
        assert status == 0 and f"{TERMINAL} is in service" in text, text
        assert [line.split()[0] for line in text.splitlines() if " UTC  " in line] == await gates(world)
        assert await gates(world) == list(GATES)
        assert "charged, and the card network confirmed its reversal" in text
        await helpers.wait_until(lambda: in_service(world))
        assert await kiosk.echo(with_mac=True) == "00"
        assert (await world.pay(kiosk)).stable == "completed"
        echoes = world.unionpay.counts["echo"]
        assert await kiosk.echo(with_mac=True) == "00"
        assert world.unionpay.counts["echo"] == echoes, "in service an echo stays here"
        assert (await world.settle()).holds
        again = (await kiosk.inquire(TEST_ACCOUNT)).bills
        assert again is not None and again.rows == bills.rows, "nothing was posted for it"

    play(story, test_account=TEST_ACCOUNT)


def session(world: Any) -> Any:
    got: list[Any] = []
    world.worker.switch.dispatcher._sessions.get(TERMINAL, got.append)
    return got[0]


def session_has_key(world: Any) -> bool:
    return session(world).next_tmk is not None


def in_service(world: Any) -> bool:
    return bool(session(world).terminal.in_service)


def des_mac(key: bytes) -> Any:
    return mac.prepare("unionpay_ecb", des(key))


@pytest.mark.parametrize(
    "jump",
    [
        "UPDATE switch.terminal SET stage = 'mac_echo'",
        "UPDATE switch.terminal SET stage = 'in_service', in_service = true",
        "UPDATE switch.terminal SET in_service = true",
        "UPDATE switch.terminal SET mac_echoes = 3",
        "UPDATE switch.terminal SET mac_echoes = 1",
        "UPDATE switch.terminal SET shortcut = true",
        "UPDATE switch.terminal SET test_queries = 1",
        "UPDATE switch.terminal SET test_payment_on = 20261130, test_payment_id = 7",
        "UPDATE switch.terminal_gate SET gate = 'mac_echo'",
        "DELETE FROM switch.terminal_gate",
    ],
)
def test_no_gate_can_be_skipped_by_hand(play: Callable[..., None], jump: str) -> None:
    async def story(world: Any) -> None:
        await add_with_key(world)
        assert (await stage(world))[0] == "keys"
        with pytest.raises((asyncpg.CheckViolationError, asyncpg.RestrictViolationError)):
            await world.rows(f"{jump} WHERE terminal_id = '{TERMINAL}'")
        with pytest.raises(BadRequestError, match="up to keys only") as refused:
            await world.worker._terminals.set_service(TERMINAL, True, "")
        assert refused.value.code == "gate"
        assert await stage(world) == ("keys", 0, False)

    play(story)


def test_a_wrong_mac_of_the_card_network_does_not_count(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        await add_with_key(world)
        kiosk = await world.kiosk(NEW)
        assert await kiosk.echo(with_mac=True) == "N4"
        assert await stage(world) == ("sign_on", 0, False)
        for seen in (1, 2):
            assert await kiosk.echo(with_mac=True) == "00"
            assert (await stage(world))[1] == seen
        session(world).must_sign_on = True
        assert await kiosk.sign_on() == "00"
        assert (await stage(world))[1] == 0, "other working keys: from the beginning"

    play(story, f'[[unionpay.script]]\nwhen = {{ message = "echo", terminal = "{TERMINAL}" }}\ndo = "bad_mac"\n')


def test_an_acquirer_whose_echo_has_no_mac(play: Callable[..., None]) -> None:
    """Then the kiosk's half alone has one; the card network's is an echo that is answered."""

    async def story(world: Any) -> None:
        await add_with_key(world)
        kiosk = await world.kiosk(NEW)
        for seen in (1, 2, 3):
            echoes = world.unionpay.counts["echo"]
            assert await kiosk.echo(with_mac=True) == "00"
            assert world.unionpay.counts["echo"] == echoes + 1
            assert (await stage(world))[1] == seen
        assert (await stage(world))[0] == "mac_echo"

    play(story, echo_mac="none")


def test_without_its_key_a_terminal_begins_anew(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        await add_with_key(world)
        kiosk = await world.kiosk(NEW)
        for _ in range(3):
            assert await kiosk.echo(with_mac=True) == "00"
        assert (await kiosk.inquire(TEST_ACCOUNT)).bills is not None
        assert await stage(world) == ("test_query", 3, False)
        await world.rows(
            "UPDATE switch.terminal SET tmk_wrapped = '', tmk_kcv = '', working_keys = NULL, key_epoch = key_epoch + 1 "
            "WHERE terminal_id = $1",
            TERMINAL,
        )
        assert await stage(world) == ("registered", 0, False)
        assert (await gates(world))[-1] == "registered"
        assert len(await world.worker._terminals.gates(TERMINAL)) == 1

    play(story, test_account=TEST_ACCOUNT)


async def ready_to_pay(world: Any) -> Any:
    """A kiosk whose terminal waits for its test payment, and the test account's bills."""
    await add_with_key(world)
    kiosk = await world.kiosk(NEW)
    for _ in range(3):
        assert await kiosk.echo(with_mac=True) == "00"
    bills = (await kiosk.inquire(TEST_ACCOUNT)).bills
    assert bills is not None and (await stage(world))[0] == "test_query"
    return kiosk, bills


def test_a_test_payment_that_is_declined_proves_nothing(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        kiosk, bills = await ready_to_pay(world)
        paid = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1))
        assert paid.stable == "declined"
        await helpers.wait_until(lambda: world.worker.switch.payments.open_count == 0, 20)
        assert await stage(world) == ("test_query", 3, False)
        assert (await world.settle()).holds

    scenario = f'[[unionpay.script]]\nwhen = {{ message = "purchase", terminal = "{TERMINAL}" }}\ndo = "decline:51"\n'
    play(story, scenario, test_account=TEST_ACCOUNT)


def test_what_is_paid_for_the_test_account_comes_back_from_every_terminal(
    play: Callable[..., None], helpers: Any
) -> None:
    """Also from one that is in service: money for it never stays, and never becomes a posting."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk(1)
        bills = (await kiosk.inquire(TEST_ACCOUNT)).bills
        assert bills is not None
        paid = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1))
        assert paid.final == "", "it is being given back"
        await helpers.wait_until(lambda: world.worker.switch.payments.open_count == 0, 20)
        states = [state for _, state in await world.events()]
        assert states[0] == "CARD_PENDING" and states[-1] == "REVERSED" and "BILL_PENDING" not in states
        assert (await world.settle()).holds

    play(story, test_account=TEST_ACCOUNT)


def test_without_a_test_account_nobody_passes(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        await add_with_key(world)
        kiosk = await world.kiosk(NEW)
        for _ in range(3):
            assert await kiosk.echo(with_mac=True) == "00"
        assert (await kiosk.inquire(TEST_ACCOUNT)).code == "58"
        assert await stage(world) == ("mac_echo", 3, False)

    play(story)


def test_out_of_service_and_back_needs_no_gate_again(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        terminals = world.worker._terminals
        await terminals.set_service("GS000001", False, "paper")
        back = await terminals.set_service("GS000001", True, "")
        assert (back.in_service, back.stage) == (True, "in_service")
        (row,) = await world.rows("SELECT shortcut FROM switch.terminal WHERE terminal_id = 'GS000001'")
        assert row["shortcut"], "a test terminal is marked as one"

    play(story)
