"""Chip cards: what the kiosk gives reaches the acquirer, what the issuer answers reaches the chip. The whole switch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iso8583 import tlv
from switch.model.cardnumber import Known
from switch.ops.scan import Scan
from switch.sim.kiosk_client import CardChoice

Play = Callable[..., None]
CHIP, SCRIPT = CardChoice(1, entry="chip"), CardChoice(3, entry="chip")  # the second one's issuer sends a script


def script(do: str, message: str = "purchase", times: int = 1) -> str:
    return f'[[unionpay.script]]\nwhen = {{ message = "{message}" }}\ndo = "{do}"\ntimes = {times}\n'


def for_chip(answer: Any) -> dict[str, bytes]:
    """Field 55 of an answer."""
    assert answer.message is not None
    return dict(tlv.decode(answer.message.raw(55))) if 55 in answer.message else {}


class Watch:
    """Answers that a kiosk heard about its payments, and frames that left for the card network."""

    def __init__(self, world: Any, kiosk: Any) -> None:
        self.answers: list[Any] = []
        self.sent: list[bytes] = []
        kiosk._heard = lambda payment, answer, how, final: self.answers.append(answer)
        link = world.worker.switch.card_link
        sends = link.send

        def spy(frame: bytes, token: object = None) -> bool:
            self.sent.append(frame)
            return bool(sends(frame, token))

        link.send = spy


def test_what_the_issuer_says_reaches_the_chip_and_no_disk(play: Play, short_dir: Path, database: str) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        payment = await world.pay(kiosk, 1, SCRIPT)
        (answer,) = watch.answers
        found = for_chip(answer)
        assert payment.final == "00" and set(found) == {"9F36", "91", "72"} and len(found["91"]) == 10
        # A kiosk that did not hear it asks for the result, and gets it as well; on a slip it has no place.
        assert for_chip(await kiosk.ask_result(payment)) == found
        assert 55 not in (await kiosk.ask_slip(payment)).message
        assert (await world.settle()).holds
        scan = Scan(Known([found["91"], found["72"]], issuer="6222"))
        await scan.database(database)
        scan.path(short_dir)
        for traced in world.worker.switch.trace.last():
            scan.look("trace", repr(traced).encode(), str)
        assert scan.hits == []
        await world.worker.stop()
        await world.start_worker()
        kiosk.port = world.worker.kiosk_port
        await kiosk.connect()
        assert await kiosk.sign_on() == "00"
        again = await kiosk.ask_result(payment)
        assert again.code == "00" and for_chip(again) == {}, "it was in memory only"

    play(story)


@pytest.mark.parametrize(("entry", "tags"), [("chip", {"9F36"}), ("track", set())])
def test_a_decline_brings_what_the_issuer_has_to_say(play: Play, entry: str, tags: set[str]) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        assert (await world.pay(kiosk, 1, CardChoice(3, entry=entry))).final == "51"
        assert set(for_chip(watch.answers[0])) == tags

    play(story, script("decline:51"))


@pytest.mark.parametrize(("wrong", "stable"), [("", "found"), ("decline:61", "declined")])
def test_a_balance_brings_it_too(play: Play, wrong: str, stable: str) -> None:
    async def story(world: Any) -> None:
        answer = await (await world.kiosk()).ask_balance(CHIP)
        assert answer.stable == stable and set(for_chip(answer)) == ({"9F36"} if wrong else {"9F36", "91"})

    play(story, script(wrong, "balance") if wrong else "")


def test_what_comes_under_a_wrong_mac_is_not_told_to_a_chip(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        payment = await world.pay(kiosk, 1, SCRIPT)
        assert payment.final == "" and for_chip(watch.answers[0]) == {}
        assert (await world.settle()).charged_fen == 0

    play(story, script("bad_mac"))
