"""Kiosks on serial lines against the whole switch: payments, several kiosks on a line, a terminal of its own."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from switch.config import Config, SerialConfig, document
from switch.ops.status import ask
from switch.ops.supervise import of_worker
from switch.sim import testkeys
from switch.sim.kiosk_client import CardChoice, Kiosk
from switch.sim.wire import Turn
from tests.ptys import Cable, Concentrator

Play = Callable[..., None]
ONE, TWO = (testkeys.test_terminal(number)[0] for number in (1, 2))


@asynccontextmanager
async def line(world: Any, noise: bytes = b"", portion: int = 4096, **options: Any) -> AsyncIterator[Concentrator]:
    """Start the worker again, with two kiosks on a serial line."""
    with Cable(world.folder / "line") as cable:
        serial = SerialConfig(
            name="line-1", device=str(cable.device), kiosks={"0001": ONE, "0002": TWO}, baud=115_200, **options
        )
        await world.worker.stop()
        world.config = msgspec.structs.replace(world.config, serial=(serial,))
        await world.start_worker()
        concentrator = Concentrator(cable, noise=noise, portion=portion)
        await concentrator.start()
        try:
            yield concentrator
        finally:
            for kiosk in world.kiosks:
                kiosk.close()
            await concentrator.stop()


async def kiosk(world: Any, concentrator: Concentrator, number: int) -> Kiosk:
    made = Kiosk(number, "127.0.0.1", concentrator.port, turn=Turn(), first_serial=1 + 1000 * number)
    world.kiosks.append(made)
    await made.connect()
    return made


@pytest.mark.parametrize("duplex", ["full", "half"])
def test_two_kiosks_pay_their_bills_over_one_noisy_line(play: Play, duplex: str) -> None:
    async def story(world: Any) -> None:
        options = {"duplex": duplex, "turn_round_ms": 2, "heartbeat": "FE"}
        async with line(world, noise=b"\xfe?", portion=7, **options) as concentrator:
            one, two = await kiosk(world, concentrator, 1), await kiosk(world, concentrator, 2)
            assert await one.sign_on() == "00" and await two.sign_on() == "00"
            paid = await asyncio.gather(*(world.pay(each) for each in (one, two, one, two)))
            assert [payment.final for payment in paid] == ["00"] * 4
            proof = await world.settle()
            assert proof.holds and proof.payments == 4
            told = world.worker.switch.status()["serial"]["line-1"]
            assert told["kiosks"] == sorted([ONE, TWO])
            assert told["heartbeats"] == told["noise_bytes"] > 8, "one before each frame"
            assert world.metric('switch_serial_heartbeats_total{line="line-1"}') == told["heartbeats"]
            assert one.counts == two.counts == {}

    play(story)


def test_an_address_speaks_for_its_own_terminal_and_for_no_other(play: Play) -> None:
    async def story(world: Any) -> None:
        async with line(world) as concentrator:
            impostor = await kiosk(world, concentrator, 2)  # dials first: address 0001, which is terminal 1
            assert await impostor.sign_on() == "97"
            assert world.metric("switch_wrong_terminal_total") == 1

    play(story)


def test_a_payment_survives_a_line_that_is_unplugged_before_its_answer(play: Play, helpers: Any) -> None:
    async def story(world: Any) -> None:
        async with line(world) as concentrator:
            one = await kiosk(world, concentrator, 1)
            assert await one.sign_on() == "00"
            bills = await world.bills(one)
            cable = concentrator._cable
            paying = asyncio.create_task(one.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1)))
            serial = world.worker.switch.lines[0]
            await helpers.wait_until(lambda: world.worker.switch.payments.open_count)  # it has begun
            cable.unplug()
            await helpers.wait_until(lambda: not serial.is_up)
            note = world.worker.switch.notes()[0]
            assert str(cable.device) in note and note.startswith("serial line line-1: ")
            cable.plug_in()
            payment = await paying
            assert payment.final == "", "its answer went into the air"
            await helpers.wait_until(lambda: serial.is_up)
            answer = await one.ask_result(payment)
            assert answer.code == payment.final == "00"
            assert (await world.settle()).holds

    play(story, "[unionpay]\ndelay_ms = [100, 100]\n")


def test_a_port_that_is_missing_is_a_note_and_kiosks_elsewhere_pay(play: Play) -> None:
    async def story(world: Any) -> None:
        missing = SerialConfig(name="line-1", device="/dev/no-such-port", kiosks={"0001": ONE})
        await world.worker.stop()
        world.config = msgspec.structs.replace(
            world.config, serial=(missing,), observe=msgspec.structs.replace(world.config.observe, port=0)
        )
        await world.start_worker()
        payment = await world.pay(await world.kiosk(2))
        assert payment.final == "00" and (await world.settle()).holds
        told = await asyncio.to_thread(ask, world.config, do="status")
        assert told["serial"]["line-1"]["up"] is False
        assert any("/dev/no-such-port: there is no such device: plug it in" in note for note in told["notes"])
        assert world.metric('switch_serial_up{line="line-1"}') == 0

    play(story)


def test_each_of_several_workers_has_lines_of_its_own() -> None:
    lines = tuple(
        SerialConfig(name=f"line-{n}", device=f"/dev/ttyS{n}", kiosks={"0001": f"1000000{n}"}) for n in range(5)
    )
    config = msgspec.structs.replace(msgspec.convert(tomllib.loads(document()), Config), serial=lines)
    config = msgspec.structs.replace(config, worker=msgspec.structs.replace(config.worker, count=2))
    dealt = [of_worker(config, number).serial for number in (1, 2)]
    assert [[each.name for each in own] for own in dealt] == [["line-0", "line-2", "line-4"], ["line-1", "line-3"]]
