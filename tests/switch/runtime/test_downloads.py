"""Parameters, public keys and chip applications from the acquirer to a kiosk, and how it asks for them.

The whole switch: real sockets, real PostgreSQL, the simulated card host and the client library.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from iso8583 import tlv
from switch import limits
from switch.kiosk import KioskClient, KioskJournal, ParameterFile, Parameters, Refusal, SoftwareKeys
from switch.kiosk.parameters import APPLICATIONS, PUBLIC_KEYS
from switch.limits import KIOSK_SHORT
from switch.sim import parameters, testkeys

Play = Callable[..., None]
QUESTION = b"100"


@asynccontextmanager
async def library(world: Any) -> AsyncIterator[tuple[KioskClient, ParameterFile]]:
    terminal, merchant = testkeys.test_terminal(1)
    journal = KioskJournal.open(world.folder / "kiosk", terminal, create=True)
    try:
        async with KioskClient(
            "127.0.0.1",
            world.worker.kiosk_port,
            terminal_id=terminal,
            merchant_id=merchant,
            journal=journal,
            keys=SoftwareKeys(testkeys.test_tmk(terminal)),
            times=KIOSK_SHORT,
        ) as kiosk:
            yield kiosk, ParameterFile(world.folder / "parameters.json", terminal)
    finally:
        journal.close()


def script(do: str, times: int = 1, message: str = "download") -> str:
    return f'[[unionpay.script]]\nwhen = {{ message = "{message}" }}\ndo = "{do}"\ntimes = {times}\n'


def test_everything_comes_over_several_messages_and_is_what_the_acquirer_has(play: Play) -> None:
    async def story(world: Any) -> None:
        async with library(world) as (kiosk, file):
            found = await kiosk.download_parameters(file)
            assert isinstance(found, Parameters) and found == file.parameters
            assert found.text == parameters.TEXT
            assert found.public_keys == tuple(dict(key) for key in parameters.KEYS)
            assert found.applications == tuple(dict(each) for each in parameters.APPLICATIONS)
            pages = -(-len(parameters.KEYS) // parameters.PAGE)
            # text and its end; pages of keys, keys, end; one page of applications, those, end
            messages = 2 + pages + len(parameters.KEYS) + 1 + 1 + len(parameters.APPLICATIONS) + 1
            assert world.unionpay.counts["download"] == messages
            terminal, _ = testkeys.test_terminal(1)
            again = ParameterFile(world.folder / "parameters.json", terminal)
            assert again.parameters == found, "it is on the disk"
        assert await world.events() == [] and await world.rows("SELECT * FROM switch.claim") == []

    play(story)


def test_the_acquirers_wish_reaches_the_kiosk_and_ends_when_it_is_fulfilled(play: Play) -> None:
    async def story(world: Any) -> None:
        world.unionpay.renew(PUBLIC_KEYS)
        world.unionpay.renew(APPLICATIONS)
        async with library(world) as (kiosk, file):
            assert kiosk.wish == PUBLIC_KEYS, "it came with the sign-on"
            assert await kiosk.echo() and await kiosk.echo(with_mac=True) and kiosk.wish == PUBLIC_KEYS
            assert isinstance(await kiosk.download_parameters(file, (PUBLIC_KEYS,)), Parameters)
            assert kiosk.wish == APPLICATIONS, "the host asks for one thing after the other"
            assert isinstance(await kiosk.download_parameters(file, (APPLICATIONS,)), Parameters)
            assert kiosk.wish == "" and await kiosk.echo(with_mac=True) and kiosk.wish == ""

    play(story)


def test_a_wish_comes_with_any_answer_of_the_card_network(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk, other = await world.kiosk(1), await world.kiosk(2)
        assert kiosk.wish == ""
        world.unionpay.renew(PUBLIC_KEYS)
        assert (await world.pay(kiosk, 1)).final == "00"
        assert await kiosk.echo() == "00" and kiosk.wish == PUBLIC_KEYS
        assert await other.echo() == "00" and other.wish == "", "nothing has been said to this one yet"
        assert (await world.settle()).holds

    play(story)


def test_asked_to_sign_on_again_it_does_so_between_two_customers_and_not_for_ever(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        world.unionpay.renew("3")
        assert (await world.pay(kiosk, 1)).final == "00"
        assert await kiosk.echo() == "00" and kiosk.wish == "", "it has only just signed on"
        monkeypatch.setattr(limits, "SIGN_ON_WISH_S", 0.0)
        assert (await world.pay(kiosk, 1)).final == "00"
        assert (await world.pay(kiosk, 1)).final == "00", "no customer has to wait for it"
        assert await kiosk.echo() == "77" and kiosk.wish == "3", "the keys are due"
        sign_ons = world.unionpay.counts["sign_on"]
        assert await kiosk.sign_on() == "00" and kiosk.wish == ""
        assert world.unionpay.counts["sign_on"] == sign_ons + 1 and await kiosk.echo() == "00"
        assert (await world.pay(kiosk, 1)).final == "00"
        assert (await world.settle()).holds

    play(story)


def test_an_interrupted_download_goes_on_where_it_was(play: Play) -> None:
    async def story(world: Any) -> None:
        async with library(world) as (kiosk, file):
            asked = 0
            found = await kiosk.download_parameters(file, (PUBLIC_KEYS,))
            while isinstance(found, Refusal):
                asked += 1
                assert found.code == "card_unavailable" and file.parameters.public_keys == (), "never half a set"
                if asked == 2:  # and after a restart of the switch
                    await world.worker.stop()
                    await world.start_worker()
                    kiosk._port = world.worker.kiosk_port
                found = await kiosk.download_parameters(file, (PUBLIC_KEYS,))
            assert asked == 3 and len(found.public_keys) == len(parameters.KEYS)
            fetched = world.unionpay.counts["download"] - 2 * (asked + 1) - 1  # less listings and the end
            assert fetched <= len(parameters.KEYS) + asked, "what had come was not fetched again"

    rules = [f'[[unionpay.script]]\nwhen = {{ message = "download", nth = {n} }}\ndo = "silence"\n' for n in (4, 8, 12)]
    play(story, "".join(rules))


@pytest.mark.parametrize(
    ("step", "data", "code"),
    [("370", bytes.fromhex("9F0605A0000009999F220177"), "25"), ("372", b"x", "25")],
)
def test_the_acquirers_refusal_is_told_as_it_is(play: Play, step: str, data: bytes, code: str) -> None:
    async def story(world: Any) -> None:
        answer = await (await world.kiosk()).download(step, data)
        assert (answer.code, answer.stable, answer.data) == (code, "declined", b"") and answer.is_proof

    play(story)


def test_an_item_that_comes_late_is_not_taken_for_the_next_one(play: Play) -> None:
    """Downloads have no trace number: the answer to the question before would fit, but for what is in it."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        one, other = (tlv.encode(key[:2]) for key in parameters.KEYS[:2])
        assert (await kiosk.download("370", one)).stable == "card_unavailable"
        answer = await kiosk.download("370", other)
        assert answer.stable == "card_unavailable", "that was the first one's"
        again = await kiosk.download("370", other)
        assert again.code == "00" and again.data == b"1" + tlv.encode(parameters.KEYS[1])

    play(story, script("late:2.2") + script("silence"))


def test_only_so_many_at_once_and_one_for_each_terminal(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: Any) -> None:
        first, second = await world.kiosk(1), await world.kiosk(2)
        waiting = asyncio.ensure_future(first.download("372", QUESTION))
        await asyncio.sleep(0.2)
        assert (await first.download("372", QUESTION)).stable == "busy"
        monkeypatch.setattr(limits, "DOWNLOADS_MAX", 1)
        assert (await second.download("372", QUESTION)).stable == "busy"
        assert (await waiting).stable == "card_unavailable"
        assert (await second.download("372", QUESTION)).code == "00"

    play(story, script("silence"))


def test_without_a_mac_nothing_is_downloaded(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        encode = kiosk._encode
        monkeypatch.setattr(kiosk, "_encode", lambda values, *, with_mac: encode(values, with_mac=False))
        assert (await kiosk.download("372", QUESTION)).code == "30"
        monkeypatch.setattr(kiosk, "_mac", None)
        monkeypatch.setattr(kiosk, "_encode", encode)
        assert (await kiosk.download("372", QUESTION)).code == "A0"
        assert world.unionpay.counts["download"] == 0

    play(story)


def test_a_host_that_has_forgotten_the_terminal_makes_it_sign_on(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert (await kiosk.download("372", QUESTION)).code == "77"
        assert (await kiosk.download("372", QUESTION)).stable == "sign_on_first"
        assert await kiosk.sign_on() == "00" and (await kiosk.download("372", QUESTION)).code == "00"

    play(story, script("decline:77"))


def test_the_simulated_keys_have_the_check_value_of_real_ones() -> None:
    key = dict(parameters.KEYS[0])
    covered = key["9F06"] + key["9F22"] + key["DF02"] + key["DF04"]
    assert hashlib.sha1(covered, usedforsecurity=False).digest() == key["DF03"]
