"""Sign-ons for real: every layout of working keys, keys that do not prove themselves, roll-overs, a whole fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest

from switch import limits
from switch.config import ControlConfig, WorkerConfig
from switch.errors import BadRequestError
from switch.ops.terminals import add_test_terminals, list_terminals
from switch.ports import KeyUsage
from switch.runtime.supervisor import Worker
from switch.runtime.terminals import TerminalSession, life_s
from switch.security.backends import ask
from switch.sim import testkeys
from switch.sim.kiosk_client import Kiosk
from switch.sim.scenario import Scenario
from switch.sim.wire import Turn
from switch.store.keys import Act, transaction

DAY_US = 86_400_000_000
WRONG_KEYS_ONCE = """
[[unionpay.script]]
when = { message = "sign_on", nth = 1 }
do = "bad_mac"
"""
REFUSED_SECOND = """
[[unionpay.script]]
when = { message = "sign_on", nth = 2 }
do = "decline:96"
"""


def session_of(world: Any, number: int = 1, worker: Worker | None = None) -> TerminalSession:
    got: list[Any] = []
    (worker or world.worker).switch.dispatcher._sessions.get(testkeys.test_terminal(number)[0], got.append)
    assert isinstance(got[0], TerminalSession)
    return got[0]


@pytest.mark.parametrize(
    ("sign_on", "family", "mac_key_size", "size"),
    [
        ("001", "des", 16, 24),
        ("003", "des", 16, 40),
        ("003", "des", 8, 40),
        ("004", "des", 16, 60),
        ("004", "des", 8, 60),
        ("003", "sm4", 16, 60),  # an SM4 master key asks with 006, whatever the link says
    ],
)
def test_a_bill_is_paid_with_keys_of_every_layout(
    play: Callable[..., None], helpers: Any, sign_on: str, family: str, mac_key_size: int, size: int
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert len(kiosk.keys) == size
        # The PIN of an SM4 kiosk does not fit field 52: keyed, without one.
        card = helpers.card(1, "keyed") if family == "sm4" else helpers.card(1)
        payment = await world.pay(kiosk, card=card)
        assert payment.stable == "completed"
        layouts = {each["layout"] for each in facts(world, "sign_on")}
        assert layouts == {"006" if family == "sm4" else sign_on}
        assert (await world.settle()).holds

    play(story, sign_on=sign_on, family=family, mac_key_size=mac_key_size)


def facts(world: Any, kind: str) -> list[Any]:
    lines = (world.folder / "unionpay.jsonl").read_bytes().splitlines()
    return [fact for fact in map(orjson.loads, lines) if fact.get("fact") == kind]


def test_a_wrong_check_value_takes_the_terminal_out_until_the_next_good_sign_on(
    play: Callable[..., None],
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk(sign_on=False)
        assert await kiosk.sign_on() == "K1"
        assert await kiosk.echo() == "K1"
        answer = await kiosk.inquire("1000000001")
        assert (answer.code, answer.stable) == ("K1", "keys_wrong")
        listed = "\n".join(await list_terminals(world.dsn))
        assert "out until the next good sign-on: mac key: the check value differs" in listed
        row = (await world.rows("SELECT * FROM switch.terminal ORDER BY terminal_id"))[0]
        assert (row["working_keys"], row["key_epoch"], row["signed_on_us"]) == (None, 0, 0)

        # Another process, or this one after a restart, knows it as well.
        await world.worker.stop()
        await world.start_worker()
        again = await world.kiosk(sign_on=False)
        assert await again.echo() == "K1"
        assert await again.sign_on() == "00"
        assert await again.echo() == "00"
        assert (await world.pay(again)).stable == "completed"
        assert "out until" not in "\n".join(await list_terminals(world.dsn))
        assert (await world.settle()).holds

    play(story, WRONG_KEYS_ONCE)


@pytest.mark.parametrize("scenario", [WRONG_KEYS_ONCE.replace("nth = 1", "nth = 2"), REFUSED_SECOND])
def test_a_sign_on_that_fails_never_replaces_good_keys(play: Callable[..., None], scenario: str) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        before = (await world.rows("SELECT * FROM switch.terminal ORDER BY terminal_id"))[0]
        session = session_of(world)
        key = session.mac_key
        session.must_sign_on = True
        assert await kiosk.sign_on() == ("K1" if "bad_mac" in scenario else "N4")
        after = (await world.rows("SELECT * FROM switch.terminal ORDER BY terminal_id"))[0]
        for column in ("working_keys", "key_epoch", "signed_on_us", "batch_number"):
            assert after[column] == before[column]
        assert session_of(world).mac_key is key
        assert await kiosk.sign_on() == "00"
        assert (await world.pay(kiosk)).stable == "completed"

    play(story, scenario)


def test_a_frame_made_with_the_key_before_the_roll_over_is_no_wrong_mac(play: Callable[..., None]) -> None:
    """It is no attack, and its PIN block is of the old key too: it is not counted, and nothing is done with it."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        session_of(world).must_sign_on = True
        other = await world.kiosk()  # the same terminal, on another connection
        assert (await kiosk.inquire("1000000001")).code == "A0"
        assert world.metric('switch_mac_failures_total{peer="kiosk"}') == 0
        session_of(world).old_until = 0.0  # the card time-out has passed
        assert (await kiosk.inquire("1000000001")).code == "A0"
        assert world.metric('switch_mac_failures_total{peer="kiosk"}') == 1
        assert (await other.inquire("1000000001")).code in ("00", "E1", "E2")

    play(story)


def test_the_answer_to_an_echo_says_when_keys_have_lived_long_enough(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert await kiosk.echo() == "00"
        session = session_of(world)
        own_us = int(life_s(session.terminal.terminal_id) * 1e6)
        assert DAY_US - limits.SIGN_ON_SPREAD_S * 1e6 < own_us <= DAY_US
        now_us = time.time_ns() // 1000
        session.terminal.signed_on_us = now_us - own_us + 60_000_000
        assert await kiosk.echo() == "00"
        session.terminal.signed_on_us = now_us - own_us
        assert await kiosk.echo() == "77"
        assert await kiosk.sign_on() == "00"
        assert session_of(world).terminal.key_epoch == 2
        assert await kiosk.echo() == "00"

    play(story)


def test_a_reversal_is_made_with_the_keys_that_its_terminal_got_through_another_worker(
    play: Callable[..., None], helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it sign the terminal on again: that would take the kiosk's new keys from it."""
    monkeypatch.setattr(limits, "TERMINAL_REFRESH_S", 0.05)

    async def story(world: Any) -> None:
        config = msgspec.structs.replace(
            world.config,
            worker=WorkerConfig(instance="other"),
            control=ControlConfig(path=str(world.folder / "other.sock")),
        )
        other = Worker(config, world.dsn)
        await other.start()
        try:
            await helpers.wait_until(lambda: other.switch.card_link.is_up and other.switch.marketing_link.is_up)
            first = await world.kiosk()
            assert (await world.pay(first)).final == "", "the reversal is not answered yet"
            second = Kiosk(1, "127.0.0.1", other.kiosk_port, turn=Turn(), first_serial=1001)
            world.kiosks.append(second)
            await second.connect()
            session_of(world, worker=other).must_sign_on = True
            assert await second.sign_on() == "00"
            known = world.worker._terminals.known
            await helpers.wait_until(lambda: known(first.terminal_id).key_epoch == 2)
            world.unionpay.behave(Scenario(name="calm"))
            proof = await world.settle()
            assert proof.holds and world.unionpay.counts["sign_on"] == 2
            assert (await world.pay(second)).final == "00", "with the keys that it has"
        finally:
            await other.stop()

    play(story, "[unionpay]\nambiguous_rate = 1.0\nreversal_silence_rate = 1.0")


def test_the_lives_of_a_fleets_keys_are_spread() -> None:
    """10,000 terminals that signed on together: in no minute of the next day more than three times the average."""
    minutes = [0] * int(limits.SIGN_ON_SPREAD_S // 60)
    for number in range(1, 10_001):
        early_s = limits.SIGN_ON_LIFE_S - life_s(testkeys.test_terminal(number)[0])
        minutes[int(early_s // 60)] += 1
    assert max(minutes) < 3 * sum(minutes) / len(minutes)
    assert min(minutes) > 0


def test_a_fleet_that_signs_on_at_once_waits_its_turn(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a mass A0 or 77: nobody is refused, and the host never sees more than the bound."""
    monkeypatch.setattr(limits, "SIGN_ON_PARALLEL_MAX", 4)
    fleet = 60

    async def story(world: Any) -> None:
        await add_test_terminals(world.config, world.dsn, fleet)
        sessions = world.worker.switch.dispatcher._sessions
        kiosks = [await world.kiosk(number, sign_on=False) for number in range(1, fleet + 1)]
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(world.worker.switch.card_link._managed))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        assert await asyncio.gather(*(kiosk.sign_on() for kiosk in kiosks)) == ["00"] * fleet
        for kiosk in kiosks:
            session_of(world, kiosk.number).must_sign_on = True  # the host has forgotten all of them
        started = time.monotonic()
        assert await asyncio.gather(*(kiosk.sign_on() for kiosk in kiosks)) == ["00"] * fleet
        took = time.monotonic() - started
        watching.cancel()
        assert 0 < most <= 4
        assert took >= (fleet - 1) * limits.SIGN_ON_GAP_S * 0.9, "a gap between any two starts"
        assert (sessions._signing_on, len(sessions._queue)) == (0, 0)
        assert {session_of(world, kiosk.number).terminal.key_epoch for kiosk in kiosks} == {2}

    play(story, "[unionpay]\ndelay_ms = [5, 10]\n")


def test_a_whole_queue_is_told_when_the_link_is_down(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosks = [await world.kiosk(number, sign_on=False) for number in (1, 2, 3)]
        await world.unionpay.stop()
        assert await asyncio.gather(*(kiosk.sign_on() for kiosk in kiosks)) == ["N4"] * 3
        await world.unionpay.start()

    play(story)


def test_one_sign_on_for_all_who_ask_at_once(play: Callable[..., None]) -> None:
    async def story(world: Any) -> None:
        kiosks = [await world.kiosk(1, sign_on=False) for _ in range(8)]
        assert await asyncio.gather(*(kiosk.sign_on() for kiosk in kiosks)) == ["00"] * 8
        assert len(facts(world, "sign_on")) == 1
        assert len({kiosk.keys for kiosk in kiosks}) == 1

    play(story)


def test_a_new_master_key_takes_over_with_the_first_sign_on_that_it_proves(
    play: Callable[..., None], helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch has it first, then the acquirer and the PIN pad: whenever that is, nothing stops working between."""
    monkeypatch.setattr(limits, "TERMINAL_REFRESH_S", 0.05)
    successor = bytes.fromhex("FEDCBA98765432100123456789ABCDEF")

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        module = world.worker._security
        sealed = await ask(module.seal_component, successor)
        stored = await ask(module.combine_sealed, [sealed], KeyUsage.TMK, "des")
        async with transaction(world.dsn) as keys:
            await keys.install(Act("Custodian One", kiosk.terminal_id, "tmk"), "installed", stored)

        await helpers.wait_until(lambda: session_of(world).blocks[1] == stored.wrapped)
        assert (await world.pay(kiosk)).stable == "completed"
        session_of(world).must_sign_on = True
        assert await kiosk.sign_on() == "00", "the acquirer still uses the old one"
        assert (await world.pay(kiosk)).stable == "completed"
        states = "SELECT state FROM switch.key WHERE name = $1 ORDER BY generation"
        assert [row["state"] for row in await world.rows(states, kiosk.terminal_id)] == ["active", "pending"]

        world.unionpay.master_keys[kiosk.terminal_id] = successor
        kiosk.load_master_key(successor)
        session_of(world).must_sign_on = True
        assert await kiosk.sign_on() == "00"
        assert (await world.pay(kiosk)).stable == "completed"
        assert [row["state"] for row in await world.rows(states, kiosk.terminal_id)] == ["retired", "active"]
        row = (await world.rows("SELECT * FROM switch.terminal WHERE terminal_id = $1", kiosk.terminal_id))[0]
        assert (row["tmk_wrapped"], row["next_tmk_wrapped"]) == (stored.wrapped, b"")
        async with transaction(world.dsn) as keys:
            acts = [event["act"] for event in await keys.events(kiosk.terminal_id)]
        assert acts == ["added", "installed", "retired", "activated"]

        await world.worker.stop()
        await world.start_worker()
        again = await world.kiosk(sign_on=False)
        again.load_master_key(successor)
        assert await again.sign_on() == "00"
        assert (await world.pay(again)).stable == "completed"
        assert (await world.settle()).holds

    play(story)


def test_a_terminal_whose_key_was_retired_stops_at_every_worker(
    play: Callable[..., None], helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TERMINAL_REFRESH_S", 0.05)

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        act = Act("Custodian One", kiosk.terminal_id, "tmk")
        async with transaction(world.dsn) as keys:
            await keys.end(act, await keys.get(act.name, act.usage, None), "retired", "test")
        await helpers.wait_until(lambda: session_of(world).tmk is None)
        assert session_of(world).mac_key is None
        assert (await kiosk.inquire("1000000001")).code == "58"
        assert await kiosk.sign_on() == "58"

    play(story)


def test_a_key_that_open_payments_need_is_not_retired(play: Callable[..., None], helpers: Any) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        paying = asyncio.create_task(world.pay(kiosk))
        await helpers.wait_until(lambda: world.worker.switch.payments.open_count > 0)
        await helpers.wait_until(lambda: world.unionpay.counts["purchase"] > 0)  # so it is recorded
        act = Act("Custodian One", kiosk.terminal_id, "tmk")
        with pytest.raises(BadRequestError, match="1 payments are not final"):
            async with transaction(world.dsn) as keys:
                await keys.end(act, await keys.get(act.name, act.usage, None), "retired", "test")
        await paying
        await world.settle()

    play(story, '[[unionpay.script]]\ndo = "silence:lost"')
