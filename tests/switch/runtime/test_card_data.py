"""What is kept of a card, for how long, and that nothing of it is anywhere in clear. Real sockets, real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import iso8583
from iso8583 import tlv
from switch import limits
from switch.machines.days import day_after
from switch.model.cardnumber import Known, find
from switch.ops.scan import Scan
from switch.security import pinblock
from switch.security.lmk import derive, load_lmk
from switch.security.vault import Vault
from switch.sim import testkeys
from switch.store.kept import PostgresKeptCards

Play = Callable[..., None]
SPEC = iso8583.load("unionpay_pos", header="tpdu+pos6")


def kept_pan(folder: Path, payment_id: int, sealed: bytes) -> str:
    """As a refund, days later and in another process, will open it."""
    vault = Vault(folder / "vault", derive(load_lmk(folder / "lmk.key"), "vault keys"))
    return vault.open(payment_id.to_bytes(8, "big") + b"pan", sealed).decode()


async def chip(world: Any, kiosk: Any, helpers: Any, **options: Any) -> Any:
    bills = await world.bills(kiosk, 1)
    return await kiosk.pay(bills, (bills.rows[0][0],), helpers.card(1, entry="chip"), **options)


def test_a_completed_payment_leaves_the_card_number_alone_and_only_sealed(
    play: Play, short_dir: Path, helpers: Any
) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        assert (await chip(world, kiosk, helpers)).final == "00"
        await world.settle()
        (row,) = await world.rows("SELECT * FROM switch.claim WHERE sealed_pan IS NOT NULL")
        assert kept_pan(short_dir, row["payment_id"], row["sealed_pan"]) == testkeys.test_pan(1)
        assert row["keep_until"] == day_after(world.worker.clock.wall_us(), limits.REFUND_DAYS)
        cards = PostgresKeptCards(world.dsn, "test")
        assert await cards.sealed(row["opened_on"], row["payment_id"]) == row["sealed_pan"]
        await cards.stop()
        assert not await world.rows("SELECT * FROM switch.open_payment")

    play(story)


@pytest.mark.parametrize("script", ["decline:51", "silence:done"])
def test_a_payment_that_charges_nothing_leaves_nothing_of_its_card(play: Play, helpers: Any, script: str) -> None:
    async def story(world: Any) -> None:
        await chip(world, await world.kiosk(), helpers)
        await world.settle()
        assert not await world.rows("SELECT * FROM switch.claim WHERE sealed_pan IS NOT NULL")
        assert not await world.rows("SELECT * FROM switch.open_payment")

    play(story, f'[[unionpay.script]]\ndo = "{script}"')


@pytest.mark.parametrize("restart", [False, True])
def test_a_reversal_carries_what_it_needs_of_the_chip_also_from_the_next_worker(
    play: Play, helpers: Any, restart: bool
) -> None:
    """With a restart everything comes out of the vault: number, expiry, sequence number and the tags of field 55."""

    async def story(world: Any) -> None:
        seen: list[bytes] = []
        kiosk = await world.kiosk()
        sends = world.worker.switch.card_link.send

        def spy(frame: bytes, token: object) -> bool:
            seen.append(frame)
            return bool(sends(frame, token))

        world.worker.switch.card_link.send = spy
        paying = asyncio.ensure_future(chip(world, kiosk, helpers, hang_up_after_s=0.3))
        await helpers.wait_until(lambda: bool(seen))
        if restart:
            await world.worker.stop()
            await world.start_worker()
            sends = world.worker.switch.card_link.send
            world.worker.switch.card_link.send = spy
        await paying
        assert (await world.settle()).charged_fen == 0
        await helpers.wait_until(lambda: any(SPEC.decode(frame).mti == "0400" for frame in seen))
        purchase = next(SPEC.decode(frame) for frame in seen if SPEC.decode(frame).mti == "0200")
        reversal = next(SPEC.decode(frame) for frame in seen if SPEC.decode(frame).mti == "0400")
        assert [reversal[number] for number in (2, 14, 23)] == [purchase[number] for number in (2, 14, 23)]
        found, all_tags = tlv.decode(reversal.raw(55)), dict(tlv.decode(purchase.raw(55)))
        assert {tag for tag, _ in found} == {"95", "9F10", "9F36", "9F1E"} & set(all_tags)
        assert all(all_tags[tag] == value for tag, value in found)
        assert not {35, 36, 52} & set(reversal.to_dict())

    play(story, '[[unionpay.script]]\ndo = "silence:done"')


def test_nothing_of_cards_tracks_and_pins_is_in_any_table_trace_metric_or_file(
    play: Play, short_dir: Path, helpers: Any, database: str
) -> None:
    """Known secrets in every form: numbers, tracks, PIN blocks in clear and as they were sent."""

    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        sent: list[bytes] = []
        pin_key = kiosk._pin

        class Spy:
            def encrypt(self, block: bytes) -> bytes:
                sent.append(pin_key.encrypt(block))
                return sent[-1]

        kiosk._pin = Spy()
        for entry in ("chip", "track", "keyed"):
            bills = await world.bills(kiosk, 1)
            await kiosk.pay(bills, (bills.rows[0][0],), helpers.card(1, entry=entry))
        await world.settle()
        assert len(sent) == 2
        pan = testkeys.test_pan(1)
        blocks = [pinblock.encode_format0("123456", pan), *sent]
        known = Known([pan, *blocks], issuer="6222")
        scan = Scan(known)
        await scan.database(database)
        for traced in world.worker.switch.trace.last():
            scan.look("trace", repr(traced).encode(), str)
        scan.look("metrics", world.worker.metrics.text(), str)
        scan.path(short_dir)
        assert scan.hits == [] and scan.scanned["rows"] > 20 and scan.scanned["files"] > 3
        # And it would have found them: each of these was on the wire.
        frames = [testkeys.test_track2(1).encode(), bytes.fromhex(pan + "0"), *blocks]
        assert all(list(known.find(frame)) or list(find(frame)) for frame in frames)

    play(story)


def test_a_vault_that_cannot_seal_the_second_time_begins_no_payment(play: Play, helpers: Any) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        security = world.worker.switch.payments._security
        real, calls = security.vault.seal, []

        def fails(context: bytes, clear: bytes) -> bytes:
            calls.append(context)
            if context.endswith(b"pan"):
                raise helpers.security_error("unavailable", "disk full")
            return bytes(real(context, clear))

        security.vault.seal = fails
        payment = await chip(world, kiosk, helpers)
        assert payment.stable == "internal" and len(calls) == 2
        assert not await world.rows("SELECT * FROM switch.payment_event")
        security.vault.seal = real
        assert (await chip(world, kiosk, helpers)).final == "00"

    play(story)
