"""What a hostile or broken kiosk can send: each has a clear end, and nobody else notices."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

import iso8583
from iso8583 import tlv
from switch.config import ListenConfig
from switch.errors import StartError
from switch.limits import FRAME_SIZE_MAX

Play = Callable[..., None]

HEADER = bytes.fromhex("6000030000603100000000")
SPEC = iso8583.load("kiosk", header="tpdu+pos6")


async def exchange(port: int, data: bytes, *, wait_s: float = 5.0) -> bytes:
    """Send raw bytes; what came back until the switch closed or ``wait_s`` passed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    received = b""
    try:
        async with asyncio.timeout(wait_s):
            while chunk := await reader.read(65536):
                received += chunk
                if len(received) > 2 and len(received) >= 2 + int.from_bytes(received[:2], "big"):
                    break
    except TimeoutError:
        received += b"" if received else b"<open>"
    except ConnectionError:
        pass
    writer.close()
    return received


def inquiry(**changed: Any) -> bytes:
    fields: dict[int, Any] = {
        0: "0200",
        3: "310000",
        11: "000001",
        13: "1123",
        25: "00",
        41: "GS000001",
        42: "898110049000001",
        48: tlv.encode([("DF01", b"0500000017")]),
        49: "156",
        60: "71000001000",
        64: b"00000000",
    }
    for number, value in changed.items():
        fields[int(number[1:])] = value
    return iso8583.frame(SPEC.encode({n: v for n, v in fields.items() if v is not None}, header=HEADER))


def test_random_bytes_end_that_connection_only(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        dice = random.Random(7)
        for size in (1, 2, 3, 50, 500, 5000):
            for _ in range(5):
                # A plausible length in front, so that the bytes reach the decoder and not only the framer.
                noise = dice.randbytes(size)
                answer = await exchange(world.worker.kiosk_port, size.to_bytes(2, "big") + noise, wait_s=1.0)
                assert answer == b"", "closed without a word"
                await exchange(world.worker.kiosk_port, noise, wait_s=0.05)
        assert (await world.pay(kiosk)).final == "00"
        assert (await world.settle()).holds

    play(story)


def test_a_frame_above_the_limit_is_refused_by_its_length_alone(play: Play) -> None:
    async def story(world: Any) -> None:
        port = world.worker.kiosk_port
        assert await exchange(port, (FRAME_SIZE_MAX + 1).to_bytes(2, "big")) == b""
        assert world.metric('switch_bad_frames_total{peer="kiosk",reason="too_long"}') == 1

    play(story)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"f48": None}, "field 48"),
        ({"f48": tlv.encode([("DF03", b"x")])}, "DF01"),
        ({"f48": tlv.encode([("DF01", b"")])}, "DF01"),
        ({"f60": "99000001000"}, "60.1 = 99"),
        ({"f60": "710"}, "field 60"),
        ({"f13": None}, "field 13"),
        ({"f64": None}, "field 64"),
        ({"f60": "72000001000"}, "field 4"),
        ({"f60": "72000001000", "f4": 0}, "field 4"),
        ({"f60": "72000001000", "f4": 5, "f22": "021"}, "DF02"),
        ({"f60": "75000001000"}, "DF0C"),
    ],
)
def test_a_wrong_field_is_named_to_the_kiosk_and_the_connection_stays(
    play: Play, changed: dict[str, Any], named: str
) -> None:
    async def story(world: Any) -> None:
        answer = SPEC.decode((await exchange(world.worker.kiosk_port, inquiry(**changed)))[2:])
        tags = dict(tlv.decode(answer[48]))
        assert answer[39] == "30" and tags["DF0A"] == b"format"
        assert named in tags["DF07"].decode("gbk")
        assert answer[11] == "000001" and 64 not in answer

    play(story)


def test_an_unknown_terminal_and_a_foreign_merchant_are_refused(play: Play) -> None:
    async def story(world: Any) -> None:
        for changed in ({"f41": "XX999999"}, {"f42": "000000000000000"}):
            answer = SPEC.decode((await exchange(world.worker.kiosk_port, inquiry(**changed)))[2:])
            assert answer[39] == "97" and 64 not in answer

    play(story)


def test_a_terminal_that_never_signed_on_is_told_to(play: Play) -> None:
    async def story(world: Any) -> None:
        from switch.sim.testkeys import test_terminal

        terminal, merchant = test_terminal(2)
        answer = SPEC.decode((await exchange(world.worker.kiosk_port, inquiry(f41=terminal, f42=merchant)))[2:])
        assert answer[39] == "77"

    play(story)


def test_a_wrong_mac_is_refused_and_nothing_is_looked_up(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        asked = world.marketing.counts.copy()
        frame = inquiry(f41=kiosk.terminal_id, f42=kiosk.merchant_id)
        answer = SPEC.decode((await exchange(world.worker.kiosk_port, frame))[2:])
        assert answer[39] == "A0" and 64 not in answer
        assert world.marketing.counts == asked
        assert world.metric('switch_mac_failures_total{peer="kiosk"}') == 1

    play(story)


def test_an_amount_that_differs_from_the_bill_is_refused_before_the_card(play: Play) -> None:
    async def story(world: Any) -> None:
        kiosk = await world.kiosk()
        bills = await world.bills(kiosk, 2, partial=True)
        from dataclasses import replace

        from switch.sim.kiosk_client import CardChoice

        wrong = replace(bills, rows=tuple((name, amount + 1) for name, amount in bills.rows))
        payment = await kiosk.pay(wrong, tuple(row[0] for row in bills.rows), CardChoice(1))
        assert (payment.final, payment.stable) == ("E4", "amount_mismatch")
        foreign = replace(bills, rows=(("R-not-mine", 100),))
        assert (await kiosk.pay(foreign, ("R-not-mine",), CardChoice(1))).stable == "quote_expired"
        unknown = replace(bills, quote="nosuchquote", rows=tuple((name, amount + 1) for name, amount in bills.rows))
        names = tuple(row[0] for row in bills.rows)
        assert (await kiosk.pay(unknown, names, CardChoice(1))).stable == "quote_expired"
        assert (await world.settle()).payments == 0

    play(story)


def test_a_quote_from_before_a_restart_is_asked_again_and_paid(play: Play) -> None:
    async def story(world: Any) -> None:
        from dataclasses import replace

        from switch.sim.kiosk_client import CardChoice

        kiosk = await world.kiosk()
        bills = replace(await world.bills(kiosk, 1), quote="lost")
        assert (await kiosk.pay(bills, (bills.rows[0][0],), CardChoice(1))).final == "00"
        assert (await world.settle()).holds

    play(story)


def test_the_same_key_with_another_content_is_refused(play: Play) -> None:
    async def story(world: Any) -> None:
        from switch.sim.kiosk_client import CardChoice

        kiosk = await world.kiosk()
        first = await world.pay(kiosk)
        kiosk._serial -= 2  # the inquiry of the next customer takes one number before its payment
        bills = await world.bills(kiosk, 1)
        kiosk._serial = int(first.serial) - 1
        second = await kiosk.pay(bills, (bills.rows[0][0],), CardChoice(2))
        assert (second.final, second.stable) == ("94", "key_conflict")
        proof = await world.settle()
        assert proof.holds and proof.payments == 1

    play(story)


def test_a_switch_that_cannot_keep_card_data_does_not_start(play: Play) -> None:
    """It would refuse every payment and look healthy."""

    async def story(world: Any) -> None:
        from msgspec.structs import replace

        from switch.runtime.supervisor import Worker

        file = world.folder / "file"
        file.write_text("")
        security = replace(world.config.security, vault_dir=str(file))
        with pytest.raises(StartError, match=r"security\.vault_dir"):
            await Worker(replace(world.config, security=security), world.dsn).start()

    play(story)


def test_a_port_that_is_taken_is_named(play: Play) -> None:
    async def story(world: Any) -> None:
        from msgspec.structs import replace

        from switch.net.listener import KioskListener

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            config = replace(ListenConfig(), port=port)
            listener = KioskListener(config, world.worker.switch.dispatcher, world.worker.observer, world.worker.clock)
            with pytest.raises(StartError, match=str(port)):
                await listener.start()

    play(story)
