"""Chip cards: what the kiosk gives reaches the acquirer, what the issuer answers reaches the chip. The whole switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import iso8583
from iso8583 import tlv
from switch import limits
from switch.config import UnionpayProfile
from switch.kiosk import Bills, KioskClient, KioskJournal, Outcome, SoftwareKeys, chip
from switch.limits import KIOSK_SHORT
from switch.model.cardnumber import Known
from switch.ops.scan import Scan
from switch.sim import customers, testkeys
from switch.sim.devices import ChipSimulator
from switch.sim.kiosk_client import CardChoice, _last_cryptogram

Play = Callable[..., None]
SPEC = iso8583.load("unionpay_pos", header="tpdu+pos6")
WAITS = UnionpayProfile(reversal_00="found_only", reversal_not_found="proves", emv_completion="wait")
ONLINE = UnionpayProfile(reversal_00="found_only", reversal_not_found="proves")
CHIP, SCRIPT = CardChoice(1, entry="chip"), CardChoice(3, entry="chip")  # the second one's issuer sends a script


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Due script notices are looked for more often than the two seconds of the short profile."""
    monkeypatch.setattr(limits, "NOTICES_EVERY_S", 0.1)


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
        answer, *_ = watch.answers
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


# ---------------------------------------------------------------------------------------------------- the last word
def reversals(watch: Watch) -> list[Any]:
    return [message for frame in watch.sent if (message := SPEC.decode(frame)).mti == "0400"]


def test_a_chip_that_accepts_lets_the_bill_be_posted(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        payment = await world.pay(kiosk, 2, CHIP)
        first, last = watch.answers
        assert (first.code, first.stable) == ("P1", "chip_decides") and set(for_chip(first)) == {"9F36", "91"}
        assert (last.code, payment.final, payment.stable) == ("00", "00", "completed")
        assert await world.events() == [
            ("1", "CARD_PENDING"),
            ("2c", "CARD_CONFIRMING"),
            ("2t", "BILL_PENDING"),
            ("8n", "BILL_PENDING"),
            ("8", "COMPLETED"),
        ]
        proof = await world.settle()
        assert proof.holds and proof.fen == payment.amount

    play(story, profile=WAITS)


@pytest.mark.parametrize(
    ("says", "row", "reason", "iad"), [("aac", "4a", "06", "FFFF"), ("nothing", "6c", "96", "0000")]
)
def test_a_chip_that_refuses_or_says_nothing_has_the_charge_taken_back(
    play: Play, says: str, row: str, reason: str, iad: str
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        payment = await world.pay(kiosk, 1, CardChoice(1, entry="chip", says=says))
        proof = await world.settle()
        assert proof.holds and proof.charged_fen == 0
        assert (await kiosk.ask_result(payment)).code == "R2"
        assert [each for each, _ in await world.events()] == ["1", "2c", row, "15"]
        (reversal,) = reversals(watch)
        found = dict(tlv.decode(reversal.raw(55)))
        assert reversal[39] == reason and {"95", "9F10", "9F36"} <= set(found)
        assert found["9F10"].hex().upper().endswith(iad), "of the last cryptogram where there is one"
        assert world.marketing.counts["post"] == 0

    play(story, profile=WAITS)


@pytest.mark.parametrize("entry", ["track", "keyed"])
def test_without_a_chip_nobody_waits_for_one(play: Play, entry: str) -> None:
    async def story(world: Any) -> None:
        payment = await world.pay(await world.kiosk(), 1, CardChoice(1, entry=entry))
        assert payment.final == "00" and payment.words == 1

    play(story, profile=WAITS)


def test_the_kiosk_may_take_it_back_instead(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1, CardChoice(1, entry="chip", says="nothing"))
        answer = await kiosk.take_back(payment)
        assert answer.stable == "being_returned"
        late = await kiosk.chip_says(payment, accepts=True)
        assert late.stable in ("being_returned", "returned"), "too late: it hears how it stands"
        assert (await world.settle()).charged_fen == 0
        assert "6j" in [row for row, _ in await world.events()]

    play(story, profile=WAITS)


def test_a_repeat_and_a_result_inquiry_are_told_that_the_chip_decides(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1, CardChoice(1, entry="chip", says="nothing"))
        asked = await kiosk.ask_result(payment)
        assert (asked.code, set(for_chip(asked))) == ("P1", {"9F36", "91"})
        assert (await kiosk.chip_says(payment, accepts=True)).code == "00"
        again = await kiosk.chip_says(payment, accepts=False)
        assert again.code == "00", "said once, it counts"
        assert (await world.settle()).holds

    play(story, profile=WAITS)


def test_who_takes_over_a_payment_that_waits_for_its_chip_takes_the_charge_back(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1, CardChoice(1, entry="chip", says="nothing"))
        await world.worker.stop()
        await world.start_worker()
        kiosk.port = world.worker.kiosk_port
        await kiosk.connect()
        assert await kiosk.sign_on() == "00"
        assert (await kiosk.chip_says(payment, accepts=True)).stable in ("being_returned", "returned")
        assert (await world.settle()).charged_fen == 0
        assert "6v" in [row for row, _ in await world.events()]

    play(story, profile=WAITS)


@pytest.mark.parametrize("information", [b"", b"\x80", b"\xc0", b"\x40\x40"])
def test_a_last_word_that_is_none_is_refused(play: Play, monkeypatch: pytest.MonkeyPatch, information: bytes) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1, CardChoice(1, entry="chip", says="nothing"))
        word = [("9F27", information)]
        monkeypatch.setattr("switch.sim.kiosk_client._last_cryptogram", lambda *, accepts: word)
        assert (await kiosk.chip_says(payment, accepts=True)).code == "30"
        assert (await world.settle()).charged_fen == 0

    play(story, profile=WAITS)


def test_of_what_never_was_the_chip_says_nothing(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1, CHIP)
        payment.serial = "999998"
        assert (await kiosk.chip_says(payment, accepts=True)).code == "25"

    play(story, profile=WAITS)


# ---------------------------------------------------------------------------------------------------- client library
@asynccontextmanager
async def library(world: Any, **options: Any) -> AsyncIterator[tuple[KioskClient, SoftwareKeys]]:
    terminal, merchant = testkeys.test_terminal(1)
    keys = SoftwareKeys(testkeys.test_tmk(terminal))
    journal = KioskJournal.open(world.folder / "kiosk", terminal, create=True)
    try:
        async with KioskClient(
            "127.0.0.1",
            world.worker.kiosk_port,
            terminal_id=terminal,
            merchant_id=merchant,
            journal=journal,
            keys=keys,
            times=KIOSK_SHORT,
            **options,
        ) as kiosk:
            yield kiosk, keys
    finally:
        journal.close()


async def pay_by_chip(world: Any, kiosk: KioskClient, keys: SoftwareKeys, reader: ChipSimulator, **lost: bool) -> Any:
    while True:
        bills = await kiosk.inquire(customers.account(world.next_account))
        world.next_account += 1
        if isinstance(bills, Bills) and len(bills.months) == 1:
            break
    card = reader.start(bills.total)
    block = keys.pin_block("123456", card.pan)
    reader.gone = bool(lost)
    read = chip(card.pan, card.expiry, block, card.icc_data, sequence=card.sequence, track2=card.track2)
    return await kiosk.pay(bills, bills.months, read, chip=reader)


@pytest.mark.parametrize("profile", [WAITS, ONLINE], ids=["wait", "online_only"])
@pytest.mark.parametrize("number", [1, 3])
def test_the_library_gives_the_chip_its_issuers_answer(play: Play, profile: UnionpayProfile, number: int) -> None:
    async def story(world: Any) -> None:
        async with library(world) as (kiosk, keys):
            reader = ChipSimulator(number)
            result = await pay_by_chip(world, kiosk, keys, reader)
            assert (result.outcome, result.code) == (Outcome.PAID, "completed")
            assert reader.cryptograms == [0x80, 0x40] and len(reader.scripts) == (1 if number == 3 else 0)
            assert kiosk.result(result.key).issuer_data == b"", "not in its file"
            assert world.unionpay.counts["script"] == len(reader.scripts)
        assert (await world.settle()).holds

    play(story, profile=profile)


def test_the_library_tells_a_chip_that_its_issuer_declined(play: Play) -> None:
    async def story(world: Any) -> None:
        async with library(world) as (kiosk, keys):
            reader = ChipSimulator(1)
            result = await pay_by_chip(world, kiosk, keys, reader)
            assert result.outcome is Outcome.DECLINED and reader.cryptograms == [0x80, 0x00]

    play(story, script("decline:51"), profile=WAITS)


def test_what_the_chip_refuses_the_library_follows_to_its_end(play: Play) -> None:
    async def story(world: Any) -> None:
        async with library(world) as (kiosk, keys):
            reader = ChipSimulator(1)
            reader.refuses = True
            result = await pay_by_chip(world, kiosk, keys, reader)
            assert result.outcome in (Outcome.BEING_RETURNED, Outcome.RETURNED)
            final = await kiosk.wait_final(result.key, 10.0)
            assert final.outcome is Outcome.RETURNED and reader.cryptograms == [0x80, 0x00]
        assert (await world.settle()).charged_fen == 0

    play(story, profile=WAITS)


def test_a_card_that_is_gone_has_the_charge_taken_back_at_once(play: Play) -> None:
    async def story(world: Any) -> None:
        async with library(world) as (kiosk, keys):
            result = await pay_by_chip(world, kiosk, keys, ChipSimulator(1), gone=True)
            final = await kiosk.wait_final(result.key, 10.0)
            assert final.outcome is Outcome.RETURNED
        assert (await world.settle()).charged_fen == 0
        assert "6j" in [row for row, _ in await world.events()], "the switch need not wait for its time to end"

    play(story, profile=WAITS)


def test_where_the_issuers_word_counts_a_card_that_is_gone_is_paid_with(play: Play) -> None:
    async def story(world: Any) -> None:
        async with library(world) as (kiosk, keys):
            result = await pay_by_chip(world, kiosk, keys, ChipSimulator(1), gone=True)
            assert result.outcome is Outcome.PAID
        assert (await world.settle()).holds

    play(story, profile=ONLINE)


def test_a_last_word_that_gets_lost_leaves_no_unknown(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: Any) -> None:
        async with library(world) as (kiosk, keys):
            reader = ChipSimulator(1)
            exchange = kiosk._exchange

            async def loses(frame: bytes, mti: str, serial: str, wait_s: float) -> Any:
                if mti == "0630":
                    kiosk._drop()
                    return None
                return await exchange(frame, mti, serial, wait_s)

            monkeypatch.setattr(kiosk, "_exchange", loses)
            result = await pay_by_chip(world, kiosk, keys, reader)
            assert (await kiosk.wait_final(result.key, 10.0)).outcome is Outcome.RETURNED
        assert (await world.settle()).charged_fen == 0

    play(story, profile=WAITS)


# ---------------------------------------------------------------------------------------------------- scripts
def notices(watch: Watch) -> list[Any]:
    return [message for frame in watch.sent if (message := SPEC.decode(frame)).mti == "0620"]


async def until_no_notice(world: Any, seconds: float = 12.0) -> None:
    ends = asyncio.get_running_loop().time() + seconds
    while await world.rows("SELECT * FROM switch.script_notice"):
        assert asyncio.get_running_loop().time() < ends, "a script notice is still there"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("profile", [ONLINE, WAITS], ids=["online_only", "wait"])
def test_what_a_chip_did_with_scripts_goes_to_the_acquirer(play: Play, profile: UnionpayProfile) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        payment = await world.pay(kiosk, 1, SCRIPT)
        assert payment.final == "00" and world.unionpay.counts["script"] == 1
        (notice,) = notices(watch)
        (purchase,) = (found for frame in watch.sent if (found := SPEC.decode(frame)).mti == "0200")
        assert notice[61][:12] == purchase[60][2:8] + purchase[11] and notice[11] != purchase[11]
        assert (notice[2], notice[23], notice[4], notice[60][8:]) == (purchase[2], purchase[23], purchase[4], "951")
        tags = dict(tlv.decode(notice.raw(55)))
        assert tags["DF31"].hex() == "2112345678" and not {"9F27", "9F02"} & set(tags)
        await until_no_notice(world)
        assert (await world.settle()).holds

    play(story, profile=profile)


def test_the_notice_goes_before_the_reversal_that_the_chip_causes(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        await world.pay(kiosk, 1, CardChoice(3, entry="chip", says="aac"))
        assert (await world.settle()).charged_fen == 0
        order = [SPEC.decode(frame).mti for frame in watch.sent]
        assert [mti for mti in order if mti in ("0620", "0400")] == ["0620", "0400"]
        (reversal,) = reversals(watch)
        assert dict(tlv.decode(reversal.raw(55)))["DF31"].hex() == "2112345678"

    play(story, profile=WAITS)


@pytest.mark.parametrize("do", ["silence:done", "bad_mac", "decline:77", "ambiguous:96"])
def test_without_an_answer_it_is_sent_again_and_with_the_same_number(play: Play, do: str) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        assert (await world.pay(kiosk, 1, SCRIPT)).final == "00"
        assert len(await world.rows("SELECT * FROM switch.script_notice")) == 1
        if do == "decline:77":
            answer = await kiosk.inquire(customers.account(world.next_account))
            assert answer.stable == "sign_on_first", "the host has forgotten its keys"
            assert await kiosk.sign_on() == "00"
        await until_no_notice(world)
        assert len(notices(watch)) == 2 and len({each[11] for each in notices(watch)}) == 1
        assert (await world.settle()).holds

    play(story, script(do, "script"))


def test_a_definite_refusal_ends_it(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert (await world.pay(kiosk, 1, SCRIPT)).final == "00"
        await until_no_notice(world, 1.0)
        assert world.unionpay.counts["script"] == 1

    play(story, script("decline:05", "script"))


def test_a_notice_outlives_the_switch_and_is_nowhere_in_clear(play: Play, short_dir: Path, database: str) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        watch = Watch(world, kiosk)
        payment = await world.pay(kiosk, 1, SCRIPT)
        again = await kiosk.chip_says(payment, SCRIPT, accepts=True, issuer_data={"72": b""})
        assert again.code == "00", "said twice"
        assert len(await world.rows("SELECT * FROM switch.script_notice")) == 1
        sent = dict(tlv.decode(notices(watch)[0].raw(55)))
        scan = Scan(Known([testkeys.test_pan(3), sent["9F26"]], issuer="6222"))
        await scan.database(database)
        scan.path(short_dir)
        assert scan.hits == []
        await world.worker.stop()
        await world.start_worker()
        await until_no_notice(world)
        assert world.unionpay.counts["script"] >= 2
        assert (await world.settle()).holds

    play(story, script("silence", "script", 2))


def test_of_another_card_and_of_no_card_nothing_is_taken(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1, CHIP)
        said = {"72": b""}
        assert (await kiosk.chip_says(payment, SCRIPT, accepts=True, issuer_data=said)).stable == "key_conflict"
        assert (await kiosk.chip_says(payment, CHIP, accepts=True, issuer_data=said)).code == "00"
        word = [*_last_cryptogram(accepts=True), ("DF31", bytes(5))]
        values = kiosk._about(payment, "0620", "77")
        del values[3]
        answer = await kiosk._ask({**values, 55: tlv.encode(word)}, "0630", with_mac=True, wait_s=3.0)
        assert answer.code == "30"
        assert world.unionpay.counts["script"] == 1

    play(story)


def test_what_cannot_be_kept_is_not_said_to_be(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        payment = await world.pay(kiosk, 1, CHIP)
        monkeypatch.setattr(limits, "NOTICES_MAX", 0)
        said = {"72": b""}
        assert (await kiosk.chip_says(payment, CHIP, accepts=True, issuer_data=said)).stable == "busy"
        assert await world.rows("SELECT * FROM switch.script_notice") == []

    play(story)


def test_a_notice_that_is_a_day_old_is_given_up(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        await world.pay(kiosk, 1, SCRIPT)
        monkeypatch.setattr(limits, "NOTICE_LIFE_S", 0.0)
        await until_no_notice(world)
        assert world.unionpay.counts["script"] == 1

    play(story, script("silence", "script", 9))
