"""A card host that wants one connection per transaction: payments, and lines that are cut in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from iso8583.framing import Framer, frame

Play = Callable[..., None]
PURCHASE, REVERSAL, ECHO = (bytes.fromhex(mti) for mti in ("0200", "0400", "0820"))
MTI = slice(11, 13)  # behind TPDU and header


class Relay:
    """Stands between switch and card host; ``rule`` says what becomes of a request: pass, drop or cut after it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.rule: Callable[[bytes], str] = lambda mti: "pass"
        self.requests: list[list[bytes]] = []  # MTIs of each connection
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen: list[bytes] = []
        self.requests.append(seen)
        host_reader, host = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(_pour(host_reader, writer))
        framer = Framer()
        try:
            while data := await reader.read(4096):
                for each in framer.feed(data):
                    seen.append(each[MTI])
                    fate = self.rule(each[MTI])
                    if fate == "cut":  # the host has it, and its answer meets a closed line
                        back.cancel()
                        host.write(frame(each))
                        await host.drain()
                        writer.transport.abort()
                    elif fate == "pass":
                        host.write(frame(each))
                    else:
                        writer.transport.abort()
        except ConnectionError:
            pass
        back.cancel()
        host.close()
        writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)


@asynccontextmanager
async def relayed(world: Any) -> AsyncIterator[Relay]:
    relay = Relay(world.unionpay.port)
    await relay.start()
    await world.worker.stop()
    unionpay = msgspec.structs.replace(world.config.unionpay, connection="per_transaction", port=relay.port)
    world.config = msgspec.structs.replace(world.config, unionpay=unionpay)
    await world.start_worker()
    try:
        yield relay
    finally:
        relay.server.close()


def test_payments_are_made_each_on_a_connection_of_its_own(play: Play) -> None:
    async def story(world: Any) -> None:
        async with relayed(world) as relay:
            kiosks = [await world.kiosk(number) for number in (1, 2, 3)]
            paid = await asyncio.gather(*(world.pay(kiosk) for kiosk in kiosks * 3))
            assert [payment.final for payment in paid] == ["00"] * 9
            proof = await world.settle()
            assert proof.holds and proof.payments == 9
            assert all(len(seen) == 1 for seen in relay.requests), "one request a connection"
            assert [PURCHASE] in relay.requests and [ECHO] in relay.requests
            assert world.worker.switch.status()["links"]["unionpay"]["up"]

    play(story)


def test_a_purchase_cut_after_it_left_is_reversed_at_once_and_its_neighbour_is_not(play: Play, helpers: Any) -> None:
    async def story(world: Any) -> None:
        async with relayed(world) as relay:
            one, two = await world.kiosk(1), await world.kiosk(2)
            left = ["cut"]
            relay.rule = lambda mti: left.pop() if mti == PURCHASE and left else "pass"
            first = await world.pay(one)
            second = await world.pay(two)
            assert first.final == "" and first.words == 1, "unknown, and told so"
            assert second.final == "00"
            assert world.worker.switch.card_link.is_up, "one cut connection is not the link"
            proof = await world.settle()
            assert proof.holds and [REVERSAL] in relay.requests
            assert ("15", "reversed") in [(row, state.lower()) for row, state in await world.events()]
            lost = await world.rows("SELECT body FROM switch.payment_event WHERE body::text LIKE '%link_lost%'")
            assert lost, "told by the line, and not by a time-out"

    play(story)


def test_a_purchase_that_could_not_be_dialled_for_needs_no_reversal(play: Play, helpers: Any) -> None:
    async def story(world: Any) -> None:
        async with relayed(world) as relay:
            kiosk = await world.kiosk(1)
            bills = await world.bills(kiosk)
            relay.server.close()
            payment = await kiosk.pay(bills, tuple(row[0] for row in bills.rows), helpers.card(1))
            assert payment.final not in ("", "00", "U1")
            assert (await world.settle()).holds
            assert not any(REVERSAL in seen or PURCHASE in seen for seen in relay.requests)

    play(story)


def test_a_sign_on_whose_connection_is_cut_is_answered_at_once(play: Play) -> None:
    async def story(world: Any) -> None:
        async with relayed(world) as relay:
            kiosk = await world.kiosk(1, sign_on=False)
            relay.rule = lambda mti: "drop" if mti == bytes.fromhex("0800") else "pass"
            assert await kiosk.sign_on() == "N4"
            relay.rule = lambda mti: "pass"
            assert await kiosk.sign_on() == "00"

    play(story)
