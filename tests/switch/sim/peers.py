"""What the simulators talk to in these tests: a terminal, a channel of the switch, and a switch for kiosks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson
import uvloop

import iso8583
from iso8583 import tlv
from switch.ports import KeyUsage
from switch.security import mac, pinblock, primitives, workingkeys
from switch.sim import customers, testkeys
from switch.sim.marketing_host import MarketingHost
from switch.sim.scenario import Scenario, read_scenario
from switch.sim.unionpay_host import UnionPayHost
from switch.sim.wire import FrameConnection, Turn, listen

HEADER = bytes.fromhex("6000030001603100000000")
SILENCE_S = 0.15  # long enough on loopback to say that no answer comes
T = TypeVar("T")


def run(story: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(story)


def scenario(text: str = "") -> Scenario:
    return read_scenario('name = "test"\n' + text, "test.toml")


class Peer:
    """Frames over a stream."""

    prefix_size = 2

    async def connect(self, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def write(self, frame: bytes) -> None:
        self._writer.write(len(frame).to_bytes(self.prefix_size, "big") + frame)

    async def read(self, wait_s: float = 5.0) -> bytes | None:
        """The next frame; None for silence. Raises IncompleteReadError or ConnectionError when cut off."""
        try:
            async with asyncio.timeout(wait_s):
                size = int.from_bytes(await self._reader.readexactly(self.prefix_size), "big")
                return await self._reader.readexactly(size)
        except TimeoutError:
            return None


class Terminal(Peer):
    """One terminal towards the card host, written by hand."""

    def __init__(self, number: int = 1) -> None:
        self.terminal_id, self.merchant_id = testkeys.test_terminal(number)
        self.spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
        self.batch = "000000"
        self.mac: mac.Mac | None = None
        self.pin: primitives.BlockCipher | None = None

    async def ask(self, values: dict[int | str, Any], wait_s: float = 5.0) -> iso8583.Message | None:
        self.write(self.spec.encode(values, header=HEADER))
        return await self.hear(wait_s)

    async def hear(self, wait_s: float = 5.0) -> iso8583.Message | None:
        frame = await self.read(wait_s)
        return None if frame is None else self.spec.decode(frame)

    async def sign_on(self, network_code: str = "003") -> iso8583.Message:
        answer = await self.ask(
            {
                0: "0800",
                11: "000001",
                41: self.terminal_id,
                42: self.merchant_id,
                60: f"00000000{network_code}",
                63: "001",
            }
        )
        assert answer is not None
        if answer[39] == "00":
            self.take_keys(answer)
        return answer

    def take_keys(self, answer: iso8583.Message) -> None:
        field_62 = answer[62]
        assert isinstance(field_62, bytes)
        keys = workingkeys.parse(field_62)
        tmk = primitives.des(testkeys.test_tmk(self.terminal_id))
        opened = [
            workingkeys.decrypt_key(key.cryptogram, key.kcv, tmk, usage)
            for key, usage in ((keys.mac, KeyUsage.MAC), (keys.pin, KeyUsage.PIN))
        ]
        if keys.track is not None:
            workingkeys.decrypt_key(keys.track.cryptogram, keys.track.kcv, tmk, KeyUsage.TRACK)
        self.mac, self.pin = mac.prepare("unionpay_ecb", opened[0]), opened[1]
        self.batch = str(answer[60])[2:8]

    def purchase_values(self, stan: int, amount: int, card: int = 7, **changes: Any) -> dict[int | str, Any]:
        values: dict[int | str, Any] = {
            0: "0200",
            3: "000000",
            4: f"{amount:012d}",
            11: f"{stan:06d}",
            22: "022",
            25: "00",
            35: testkeys.test_track2(card),
            41: self.terminal_id,
            42: self.merchant_id,
            49: "156",
            60: f"22{self.batch}000",
        }
        return self.changed(values, changes)

    def reversal_values(self, stan: int, amount: int, card: int = 7, **changes: Any) -> dict[int | str, Any]:
        values = self.purchase_values(stan, amount, card)
        del values[35]
        values |= {0: "0400", 2: testkeys.test_pan(card), 39: "98"}
        return self.changed(values, changes)

    @staticmethod
    def changed(values: dict[int | str, Any], changes: dict[str, Any]) -> dict[int | str, Any]:
        """``f52=b"…"`` sets field 52, ``f42=None`` takes field 42 away."""
        for name, value in changes.items():
            values[int(name[1:])] = value
        return {number: value for number, value in values.items() if value is not None}

    def sealed(self, values: dict[int | str, Any]) -> bytes:
        assert self.mac is not None
        frame = self.spec.encode({**values, 64: bytes(8)}, header=HEADER)[:-8]
        return frame + self.mac.make(frame[len(HEADER) :])

    async def financial(self, values: dict[int | str, Any], wait_s: float = 5.0) -> iso8583.Message | None:
        self.write(self.sealed(values))
        answer = await self.hear(wait_s)
        if answer is not None and 64 in answer:
            assert self.mac_is_right(answer)
        return answer

    def mac_is_right(self, answer: iso8583.Message) -> bool:
        assert self.mac is not None
        return self.mac.verify(bytes(answer)[len(HEADER) : -8], bytes(answer)[-8:])

    async def purchase(self, stan: int, amount: int, card: int = 7, **changes: Any) -> str:
        """Field 39, or "" for silence."""
        wait_s = changes.pop("wait_s", 5.0)
        answer = await self.financial(self.purchase_values(stan, amount, card, **changes), wait_s)
        return "" if answer is None else str(answer[39])

    async def reverse(self, stan: int, amount: int, card: int = 7, **changes: Any) -> str:
        wait_s = changes.pop("wait_s", 5.0)
        answer = await self.financial(self.reversal_values(stan, amount, card, **changes), wait_s)
        return "" if answer is None else str(answer[39])

    def pin_block(self, pin: str, card: int = 7) -> bytes:
        assert self.pin is not None
        return self.pin.encrypt(pinblock.encode_format0(pin, testkeys.test_pan(card)))


class Channel(Peer):
    """The switch towards the marketing system, written by hand."""

    prefix_size = 4

    def __init__(self) -> None:
        self._last_id = 0
        self.day = ""

    async def ask(self, op: str, wait_s: float = 5.0, **fields: Any) -> dict[str, Any]:
        """The answer; {} for silence."""
        self.write_request(op, **fields)
        return await self.hear(wait_s)

    def write_request(self, op: str, **fields: Any) -> None:
        self._last_id += 1
        self.write(orjson.dumps({"op": op, "id": self._last_id, "channel": "test", **fields}))

    async def hear(self, wait_s: float = 5.0) -> dict[str, Any]:
        frame = await self.read(wait_s)
        if frame is None:
            return {}
        answer: dict[str, Any] = orjson.loads(frame)
        return answer

    async def code(self, op: str, wait_s: float = 5.0, **fields: Any) -> str:
        return str((await self.ask(op, wait_s, **fields)).get("code", ""))

    async def sign_on(self) -> None:
        answer = await self.ask("sign_on")
        assert answer["code"] == "00"
        self.day = answer["day"]

    async def rows(self, account: str) -> list[dict[str, Any]]:
        answer = await self.ask("inquiry", account=account)
        return list(answer.get("rows", []))

    def posting(self, serial: str, account: str, row: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return {
            "serial": serial,
            "account": account,
            "receivable": row["receivable"],
            "period": row["period"],
            "amount": row["amount"],
            "day": self.day,
            "reference": "77",
            **changes,
        }

    async def state(self, serial: str) -> str:
        return str((await self.ask("status", serial=serial))["state"])


@asynccontextmanager
async def card_host(ledger: Path, text: str = "", **options: Any) -> Any:
    host = UnionPayHost("127.0.0.1", 0, ledger, scenario(text), **options)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


@asynccontextmanager
async def terminal_at(host: UnionPayHost, number: int = 1, *, signed_on: bool = True) -> Any:
    terminal = Terminal(number)
    await terminal.connect(host.port)
    if signed_on:
        await terminal.sign_on()
    try:
        yield terminal
    finally:
        await terminal.close()


@asynccontextmanager
async def marketing_host(ledger: Path, text: str = "", **options: Any) -> Any:
    host = MarketingHost("127.0.0.1", 0, ledger, scenario(text), **options)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


@asynccontextmanager
async def channel_to(host: MarketingHost, *, signed_on: bool = True) -> Any:
    channel = Channel()
    await channel.connect(host.port)
    if signed_on:
        await channel.sign_on()
    try:
        yield channel
    finally:
        await channel.close()


class FakeSwitch:
    """Answers kiosks as the kiosk interface says; ``words`` are the codes of the next payments, then 00.

    A word is a code, with "!" behind it when the answer has no MAC, "" for silence, "cut" for a lost connection. What a
    later inquiry answers is ``later``.
    """

    def __init__(self, *words: str, later: str = "00") -> None:
        self.words = list(words)
        self.later = later
        self.payments: dict[tuple[str, str, str], int] = {}  # key -> times it came
        self.seen: list[iso8583.Message] = []
        self.port = 0
        self.spec = iso8583.load("kiosk", header="tpdu+pos6")
        self._keys: dict[str, mac.Mac] = {}
        self._pins: dict[str, primitives.BlockCipher] = {}
        self._turn = Turn()
        self._connections: set[FrameConnection] = set()
        self.wrong_macs = 0  # so many answers get a wrong MAC
        self.turned_away = 0  # so many bill inquiries are answered N2, without a MAC

    async def start(self) -> None:
        def made() -> FrameConnection:
            return FrameConnection(
                2, 4096, self._turn, self._frame_received, self._connections.add, self._connections.discard
            )

        self._server = await listen("127.0.0.1", 0, made)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await self._server.wait_closed()

    def _frame_received(self, connection: FrameConnection, frame: bytes) -> None:
        message = self.spec.decode(frame)
        self.seen.append(message)
        terminal, business = str(message[41]), str(message[60])
        if message.mti == "0800":
            tmk = primitives.des(testkeys.test_tmk(terminal))
            clear = {"pin": b"\x23" * 16, "mac": b"\x45" * 8 + b"\x67" * 8}
            self._keys[terminal] = mac.prepare("unionpay_ecb", primitives.des(clear["mac"]))
            self._pins[terminal] = primitives.des(clear["pin"])
            keys = workingkeys.WorkingKeys(
                workingkeys.encrypt_key(clear["pin"], tmk), workingkeys.encrypt_key(clear["mac"], tmk)
            )
            connection.send(message.reply({39: "00", 60: "00000001003", 62: workingkeys.build(keys)}))
            return
        if message.mti == "0820":
            connection.send(message.reply({39: "00"}))
            return
        key = self._keys.get(terminal)
        if key is None:
            connection.send(message.reply({39: "77"}))
            return
        assert key.verify(message.mab(), bytes(frame[-8:])), "the kiosk's MAC"
        private = message.get(48)
        asked = dict(tlv.decode(private)) if isinstance(private, bytes) else {}
        if business.startswith("71") and self.turned_away:
            self.turned_away -= 1
            connection.send(message.reply({39: "N2", 48: tlv.encode([("DF0A", b"busy")])}))
        elif business.startswith("71"):
            self._answer(connection, message, key, "00", self._bills(asked["DF01"].decode()))
        elif business.startswith("72"):
            self._pay(connection, message, key)
        else:
            about = [("DF0C", asked["DF0C"]), ("DF0D", asked["DF0D"])]
            known = (terminal, asked["DF0D"].decode(), asked["DF0C"].decode()) in self.payments
            code = self.later if known else "25"
            self._answer(connection, message, key, code, [("DF0A", _stable(code).encode()), *about])

    def _pay(self, connection: FrameConnection, message: iso8583.Message, key: mac.Mac) -> None:
        payment = (str(message[41]), str(message[13]), str(message[11]))
        self.payments[payment] = self.payments.get(payment, 0) + 1
        if self.payments[payment] > 1:
            word = "09"
        else:
            word = self.words.pop(0) if self.words else "00"
        if word == "cut":
            connection.drop()
        elif word.endswith("!"):
            connection.send(message.reply({39: word[:-1], 48: tlv.encode([("DF0A", b"internal")])}))
        elif word:
            self._answer(connection, message, key, word, [("DF0A", _stable(word).encode()), ("DF0F", b"4711")])

    def _answer(
        self, connection: FrameConnection, message: iso8583.Message, key: mac.Mac, code: str, private: Any
    ) -> None:
        frame = message.reply({39: code, 48: tlv.encode(private), 64: bytes(8)})[:-8]
        code_bytes = key.make(frame[11:])
        if self.wrong_macs:
            self.wrong_macs -= 1
            code_bytes = b"!" * 8
        connection.send(frame + code_bytes)

    def _bills(self, account: str) -> list[tuple[str, Any]]:
        customer = customers.customer(account)
        assert customer is not None
        months = [
            ("E1", [("DF11", bill.receivable.encode()), ("DF15", str(bill.amount).encode())]) for bill in customer.bills
        ]
        return [
            ("DF01", account.encode()),
            ("DF02", b"Q1"),
            ("DF03", customer.name.encode("gbk")),
            ("DF09", b"1" if customer.partial_allowed else b"0"),
            *months,
        ]


def _stable(code: str) -> str:
    return {"00": "completed", "51": "declined", "U1": "result_unknown", "R2": "returned", "U2": "unproven"}.get(
        code, ""
    )
