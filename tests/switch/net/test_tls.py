"""Kiosks and hosts over TLS: who gets in, who does not and why, and a thousand that never finish."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switch import limits
from switch.config import UNLIMITED, Config, ListenConfig, ListenTls, MarketingConfig, UnionpayConfig, UpstreamTls
from switch.errors import StartError
from switch.net import tcp
from switch.net.certificates import Certificates
from switch.net.framed import LEN2, FramedProtocol
from switch.net.listener import KioskListener
from switch.net.tls import TlsRefusedError, Turns, terminal_of
from switch.net.upstream import Dialer
from switch.ops.certs import _CLIENT, _SERVER, LOCAL_NAMES, DevelopmentCa, make_development_certificates
from switch.ports import Wire

from .harness import PATIENCE_S, HeldClock, HeldDice, Owner, Peer, Recorder, Run, len2, until

TERMINAL, OTHER = "10000001", "10000002"
PAST = datetime.now(UTC) - timedelta(days=2)


@cache
def now_us() -> int:
    """When the first test asked: the certificates are made just before, this file may be read long before."""
    return int(datetime.now(UTC).timestamp() * 1e6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    ca = make_development_certificates(folder, [TERMINAL, OTHER])
    ca.issue("terminals/expired", TERMINAL, _CLIENT, ends_at=PAST)
    ca.issue("terminals/nameless", "a kiosk", _CLIENT)
    ca.issue("expired", "localhost", _SERVER, LOCAL_NAMES, ends_at=PAST)
    ca.issue("elsewhere", "elsewhere", _SERVER)
    make_development_certificates(folder / "stranger", [TERMINAL])
    return folder


def configuration(folder: Path, *, port: int = 1, server: str = "server", crl: str = "", **changed: Any) -> Config:
    tls = ListenTls(
        enabled=True,
        certificate=str(folder / f"{server}.pem"),
        key=str(folder / f"{server}.key"),
        client_ca=str(folder / "ca.pem"),
        client_crl=crl,
    )
    up = UpstreamTls(
        enabled=True,
        ca=str(folder / "ca.pem"),
        certificate=str(folder / "switch.pem"),
        key=str(folder / "switch.key"),
    )
    up = msgspec.structs.replace(up, **changed)
    return Config(
        environment="development",
        listen=ListenConfig(port=0, tls=tls, limits=UNLIMITED),
        unionpay=UnionpayConfig(
            host="127.0.0.1", port=port, service_terminal="0" * 8, service_merchant="0" * 15, tls=up
        ),
        marketing=MarketingConfig(host="127.0.0.1", port=port, channel="SELF01"),
    )


class Door:
    """A started listener that echoes, and tells which terminal a frame came from."""

    def __init__(self, config: Config, *, connections_max: int = 5000, source_max: int = 5000) -> None:
        self.owner, self.observer, self.clock = Owner(), Recorder(), HeldClock()
        self.owner.on_frame = self._echo
        self.certificates = Certificates(config, self.observer, now_us)
        rates = msgspec.structs.replace(config.listen.limits, source_connections_max=source_max)
        listen = msgspec.structs.replace(config.listen, connections_max=connections_max, limits=rates)
        self.listener = KioskListener(listen, self.owner, self.observer, self.clock, tls=self.certificates.listen)

    def _echo(self, wire: Wire, frame: bytes) -> None:
        wire.send(wire.terminal_id.encode() + b" " + frame)

    @property
    def refused(self) -> list[str]:
        return [facts["code"] for facts in self.observer.named("kiosk.tls_refused")]


def kiosk_context(folder: Path, name: str | None = f"terminals/{TERMINAL}", ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca or folder / "ca.pem")
    if name is not None:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


class Kiosk:
    """A kiosk with the loop's own TLS: not ours, so that both ends cannot share a mistake."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext) -> Kiosk:
        kiosk = cls()
        kiosk.reader, kiosk.writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", port, ssl=context), PATIENCE_S
        )
        return kiosk

    async def ask(self, frame: bytes) -> bytes:
        self.writer.write(len2(frame))
        head = await asyncio.wait_for(self.reader.readexactly(2), PATIENCE_S)
        return await asyncio.wait_for(self.reader.readexactly(int.from_bytes(head, "big")), PATIENCE_S)

    async def gone(self) -> bool:
        """True once the other end has closed, with or without a word."""
        try:
            return not await asyncio.wait_for(self.reader.read(), PATIENCE_S)
        except OSError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


# ---------------------------------------------------------------------------------------------------- who gets in
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_kiosk_with_its_certificate_is_heard_as_its_terminal(run: Run, folder: Path, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        context = kiosk_context(folder)
        context.minimum_version = context.maximum_version = version
        kiosk = await Kiosk.connect(door.listener.port, context)
        large = b"x" * 4000
        for frame in (b"one", large, b"three"):
            assert await kiosk.ask(frame) == b"10000001 " + frame
        assert door.listener.wires == 1 and door.listener.handshakes == 0
        assert door.observer.gauges["switch_tls_pending", ()] == 0
        await kiosk.close()
        await until(lambda: door.owner.lost, "the loss")
        assert door.owner.lost[0][1] == "closed by the peer"
        await door.listener.stop("done")
        assert door.refused == []

    run(main)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        (None, "no_certificate", "the peer showed no certificate"),
        ("stranger/terminals/10000001", "unknown_ca", "no CA of ours has signed the peer's certificate"),
        ("terminals/expired", "expired", "the peer's certificate, or one of its CA's, has expired"),
        ("terminals/nameless", "not_a_terminal", "the peer's certificate names no terminal: CN must be its 8"),
        ("server", "purpose", "the peer's certificate is not made for this end of a connection"),
    ],
)
def test_a_kiosk_without_a_good_certificate_is_refused_with_its_reason(
    run: Run, folder: Path, name: str | None, code: str, text: str
) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            kiosk = await Kiosk.connect(door.listener.port, kiosk_context(folder, name))
            await kiosk.ask(b"hello")  # with TLS 1.3 the refusal comes with the first answer
        await until(lambda: door.refused, "the refusal")
        (facts,) = door.observer.named("kiosk.tls_refused")
        assert facts["code"] == code and facts["reason"].startswith(text) and facts["level"] == "warning"
        assert door.observer.counts["switch_tls_refused_total", (code,)] == 1
        assert door.owner.frames == [] and door.owner.lost == [], "the switch never heard of it"
        await door.listener.stop("done")

    run(main)


def test_a_revoked_certificate_is_refused_and_its_neighbour_is_not(run: Run, folder: Path, tmp_path: Path) -> None:
    crl = DevelopmentCa(folder).revoke("revoked", folder / f"terminals/{OTHER}.pem")

    async def main() -> None:
        door = Door(configuration(folder, crl=str(crl)))
        await door.listener.start()
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            kiosk = await Kiosk.connect(door.listener.port, kiosk_context(folder, f"terminals/{OTHER}"))
            await kiosk.ask(b"hello")
        await until(lambda: door.refused == ["revoked"], "the refusal")
        good = await Kiosk.connect(door.listener.port, kiosk_context(folder))
        assert await good.ask(b"hello") == b"10000001 hello"
        await good.close()
        await door.listener.stop("done")

    run(main)


def test_tls_1_1_is_refused(run: Run, folder: Path) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        context = kiosk_context(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError, match=r"(?i)protocol version"):
            await Kiosk.connect(door.listener.port, context)
        await until(lambda: door.refused == ["version"], "the refusal")
        await door.listener.stop("done")

    run(main)


@pytest.mark.parametrize(
    "data", [len2(bytes(20)), len2(b"x" * 4000), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", bytes(3)]
)
def test_plain_bytes_on_the_tls_port_end_that_connection_only(run: Run, folder: Path, data: bytes) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        good = await Kiosk.connect(door.listener.port, kiosk_context(folder))
        peer = await Peer.connect(door.listener.port)
        await peer.send(data)
        if len(data) < 5:  # not even a record's head: cut off by the sweep
            await until(lambda: door.listener.handshakes == 1, "the handshake")
            door.clock.at += limits.TLS_HANDSHAKE_S + 1
            door.listener.sweep()
        await peer.ended()
        await until(lambda: door.refused, "the refusal")
        assert door.refused[0] in (("slow",) if len(data) < 5 else ("plaintext", "protocol"))
        assert await good.ask(b"still here") == b"10000001 still here"
        assert door.owner.frames == [b"still here"]
        peer.close()
        await good.close()
        await door.listener.stop("done")

    run(main)


def test_a_wire_in_the_clear_names_no_terminal(run: Run) -> None:
    async def main() -> None:
        owner = Owner()
        listener = KioskListener(ListenConfig(port=0), owner, Recorder(), HeldClock())
        await listener.start()
        peer = await Peer.connect(listener.port)
        await peer.send(len2(b"x"))
        await until(lambda: owner.wires, "the frame")
        assert owner.wires[0].terminal_id == ""
        await listener.stop("done")
        peer.close()

    run(main)


def test_names_that_are_no_terminal() -> None:
    def named(*names: str) -> dict[str, Any]:
        return {"subject": tuple((("commonName", name),) for name in names)}

    assert terminal_of(named("GS000001")) == "GS000001"
    for names in ((), ("1000001",), ("100000011",), ("1000000 ",), ("1000000é",), (TERMINAL, OTHER), (TERMINAL,) * 2):
        with pytest.raises(TlsRefusedError, match=r"\[tls_not_a_terminal\]"):
            terminal_of(named(*names))


# ---------------------------------------------------------------------------------------------------- half open
def test_a_thousand_stuck_handshakes_harm_nobody_and_go(run: Run, folder: Path) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        inside = await Kiosk.connect(door.listener.port, kiosk_context(folder))
        hello = client_hello(folder)
        # A third says nothing, a third half a word, a third stops after its first word.
        said = (b"", hello[:40], hello)
        stuck = [await Peer.connect(door.listener.port) for _ in range(1000)]
        for number, peer in enumerate(stuck):
            if said[number % 3]:
                await peer.send(said[number % 3])
        await until(lambda: door.listener.handshakes == 1000, "a thousand handshakes")
        assert door.observer.gauges["switch_tls_pending", ()] == 1000
        assert door.observer.gauges["switch_kiosk_connections", ()] == 1, "they are no kiosks"
        assert await inside.ask(b"paying") == b"10000001 paying"
        newcomer = await Kiosk.connect(door.listener.port, kiosk_context(folder, f"terminals/{OTHER}"))
        assert await newcomer.ask(b"paying") == b"10000002 paying"
        door.clock.at += limits.TLS_HANDSHAKE_S - 1
        door.listener.sweep()
        assert door.listener.handshakes == 1000, "in time still"
        door.clock.at += 2
        door.listener.sweep()
        assert door.listener.handshakes == 0
        for peer in stuck:
            await peer.ended()
            peer.close()
        assert door.observer.counts["switch_tls_refused_total", ("slow",)] == 1000
        assert await inside.ask(b"paying on") == b"10000001 paying on"
        assert await newcomer.ask(b"paying on") == b"10000002 paying on"
        # A flood is in the counter whole, and in the log only as far as somebody could read it.
        levels = [facts["level"] for facts in door.observer.named("kiosk.tls_refused")]
        assert levels.count("warning") == limits.TLS_REFUSED_LINES_MAX and len(levels) == 1000
        await inside.close()
        await newcomer.close()
        await door.listener.stop("done")

    run(main)


@pytest.mark.parametrize(("bound", "reason"), [("connections_max", "connections"), ("source_max", "source")])
def test_when_all_is_taken_the_oldest_handshake_makes_room(run: Run, folder: Path, bound: str, reason: str) -> None:
    async def main() -> None:
        door = Door(configuration(folder), **{bound: 3})
        await door.listener.start()
        inside = await Kiosk.connect(door.listener.port, kiosk_context(folder))
        assert await inside.ask(b"in") == b"10000001 in"
        oldest = await Peer.connect(door.listener.port)
        await until(lambda: door.listener.handshakes == 1, "one stuck")
        younger = await Peer.connect(door.listener.port)
        await until(lambda: door.listener.handshakes == 2, "two stuck")
        second = await Kiosk.connect(door.listener.port, kiosk_context(folder, f"terminals/{OTHER}"))
        assert await second.ask(b"in") == b"10000002 in"
        assert await oldest.ended() == b"" and door.refused == ["crowded_out"]
        third = await Kiosk.connect(door.listener.port, kiosk_context(folder))
        assert await third.ask(b"in") == b"10000001 in"
        assert await younger.ended() == b"" and door.refused == ["crowded_out"] * 2
        # Three that have spoken stay: a fourth is turned away.
        with pytest.raises(OSError):
            await Kiosk.connect(door.listener.port, kiosk_context(folder))
        assert door.observer.counts["switch_admission_rejects_total", (reason,)] == 1
        for kiosk in (inside, second, third):
            assert await kiosk.ask(b"here")
            await kiosk.close()
        await door.listener.stop("done")
        oldest.close()
        younger.close()

    run(main)


def test_a_flood_instead_of_a_handshake_is_cut_off(run: Run, folder: Path) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        # Nobody gets a turn: what comes only gathers.
        door.listener._turns.ask = lambda line: None  # type: ignore[method-assign]
        peer = await Peer.connect(door.listener.port)
        with pytest.raises(OSError):
            for _ in range(100):
                await peer.send(b"\x16\x03\x03\x40\x00" + bytes(0x4000))
        await until(lambda: door.refused == ["flood"], "the refusal")
        peer.close()
        await door.listener.stop("done")

    run(main)


def test_handshakes_take_turns_and_each_gets_one(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns, stepped, turn = Turns(), [], 0

        class Line:
            def __init__(self, number: int) -> None:
                self.number = number

            def step(self) -> None:
                stepped.append((turn, self.number))

        for number in range(3 * limits.TLS_STEPS_A_TURN + 1):
            turns.ask(Line(number))  # type: ignore[arg-type]
        while len(stepped) <= 3 * limits.TLS_STEPS_A_TURN:
            turn += 1
            at_once = len(stepped)
            await asyncio.sleep(0)
            assert len(stepped) - at_once <= limits.TLS_STEPS_A_TURN
            assert turn < 100
        assert [number for _, number in stepped] == list(range(3 * limits.TLS_STEPS_A_TURN + 1))
        assert loop.time()

    run(main)


def test_stop_ends_handshakes_too(run: Run, folder: Path) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        peers = [await Peer.connect(door.listener.port) for _ in range(3)]
        await until(lambda: door.listener.handshakes == 3, "three")
        await door.listener.stop("done")
        assert door.listener.handshakes == 0
        for peer in peers:
            assert await peer.ended() == b""
            peer.close()

    run(main)


def client_hello(folder: Path) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = kiosk_context(folder).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


# ---------------------------------------------------------------------------------------------------- the wire
class ByHand:
    """A kiosk that moves every byte itself: ``portion`` of them at a time."""

    def __init__(self, peer: Peer, folder: Path, portion: int) -> None:
        self.peer, self._portion = peer, portion
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = kiosk_context(folder).wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def do(self, step: Callable[[], Any]) -> Any:
        """Until ``step`` has all the bytes that it needs."""
        while True:
            result, done = None, True
            try:
                result = step()
            except ssl.SSLWantReadError:
                done = False
            while data := self._outgoing.read(self._portion):
                await self.peer.send(data)
            if done:
                return result
            data = await asyncio.wait_for(self.peer.loop.sock_recv(self.peer.sock, self._portion), PATIENCE_S)
            assert data, "the switch hung up"
            self._incoming.write(data)


def test_every_split_of_a_tls_stream_gives_the_same_frames(run: Run, folder: Path) -> None:
    """Byte by byte, handshake and all: nothing depends on how TCP cuts it."""

    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        for portion in (1, 7, 1 << 16):
            kiosk = ByHand(await Peer.connect(door.listener.port), folder, portion)
            await kiosk.do(kiosk.tls.do_handshake)
            await kiosk.do(lambda: kiosk.tls.write(len2(b"ab", b"cde")))  # noqa: B023
            expected = len2(b"10000001 ab", b"10000001 cde")
            got = b""
            while len(got) < len(expected):
                got += await kiosk.do(lambda: kiosk.tls.read(100))  # noqa: B023
            assert got == expected and door.owner.frames[-2:] == [b"ab", b"cde"]
            kiosk.peer.close()
        await until(lambda: len(door.owner.lost) == 3, "the loss")
        await door.listener.stop("done")

    run(main)


def test_what_waits_is_proved_unsent_and_what_was_written_is_not(run: Run, folder: Path) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        door.owner.on_frame = lambda _wire, _frame: None
        kiosk = await Kiosk.connect(door.listener.port, kiosk_context(folder))
        kiosk.writer.write(len2(b"hello"))
        await until(lambda: door.owner.wires, "the wire")
        (wire,) = door.owner.wires
        assert isinstance(wire, FramedProtocol)
        assert wire.send(b"written", "written") and list(wire.unflushed) == ["written"]
        await asyncio.sleep(0)
        await until(lambda: not wire.unflushed, "the write of that turn")
        assert wire.send(b"waits", "waits")
        wire.abort("test")
        await until(lambda: door.owner.lost, "the loss")
        assert door.owner.proved == ["waits"]
        assert wire.send(b"late") is False
        await kiosk.close()
        await door.listener.stop("done")

    run(main)


def test_a_kiosk_that_does_not_read_is_dropped_within_the_bound(run: Run, folder: Path) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        door.owner.on_frame = lambda _wire, _frame: None
        kiosk = await Kiosk.connect(door.listener.port, kiosk_context(folder))
        kiosk.writer.write(len2(b"hello"))
        await until(lambda: door.owner.wires, "the wire")
        (wire,) = door.owner.wires
        transport: Any = kiosk.writer.transport
        transport.pause_reading()
        sent = 0
        while wire.send(b"x" * 4096, sent):
            sent += 1
            assert sent < 20_000, "bytes gather without end"
            await asyncio.sleep(0)
        await until(lambda: door.owner.lost, "the loss")
        assert "reads too slowly" in door.owner.lost[0][1]
        # What was never encrypted is proved unsent: a tail of it, or nothing, as its bound is the transport's own.
        proved = [token for token in door.owner.proved if isinstance(token, int)]
        assert proved == list(range(sent - len(proved), sent)) and len(proved) < sent
        transport.abort()
        await door.listener.stop("done")

    run(main)


def test_a_forged_record_ends_the_wire_and_is_named(run: Run, folder: Path) -> None:
    async def main() -> None:
        door = Door(configuration(folder))
        await door.listener.start()
        kiosk = ByHand(await Peer.connect(door.listener.port), folder, 1 << 16)
        await kiosk.do(kiosk.tls.do_handshake)
        await kiosk.do(lambda: kiosk.tls.write(len2(b"hello")))
        await kiosk.peer.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await until(lambda: door.owner.lost, "the loss")
        assert "decryption failed" in door.owner.lost[0][1]
        assert door.owner.frames == [b"hello"]
        kiosk.peer.close()
        await door.listener.stop("done")

    run(main)


# ---------------------------------------------------------------------------------------------------- reload
def test_a_renewed_certificate_is_taken_while_connections_live(run: Run, folder: Path, tmp_path: Path) -> None:
    make_development_certificates(tmp_path, [TERMINAL])

    def serial(kiosk: Kiosk) -> str:
        return str(kiosk.writer.get_extra_info("peercert")["serialNumber"])

    async def main() -> None:
        door = Door(configuration(tmp_path))
        await door.listener.start()
        port, context = door.listener.port, kiosk_context(tmp_path)
        first = await Kiosk.connect(port, context)
        for name in ("server.pem", "server.key"):
            (tmp_path / name).unlink()
        DevelopmentCa(tmp_path).issue("server", "localhost", _SERVER, LOCAL_NAMES)
        same = await Kiosk.connect(port, context)
        assert serial(same) == serial(first), "nobody has looked yet"
        assert door.certificates.look() == [{"name": "listen.tls", "loaded": True, "problem": ""}]
        assert door.certificates.look() == [], "unchanged since"
        second = await Kiosk.connect(port, context)
        assert serial(second) != serial(first)

        # Half of a renewal, then a broken file: the one before stays in force, and the reason is said.
        good = (tmp_path / "server.pem").read_bytes()
        for broken, problem in (
            ((tmp_path / f"terminals/{TERMINAL}.pem").read_bytes(), "key and certificate do not belong together"),
            (
                b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
                "server.pem: no certificate in PEM",
            ),
            (b"", "server.pem: no certificate in PEM"),
        ):
            (tmp_path / "server.pem").write_bytes(broken)
            (told,) = door.certificates.look()
            assert not told["loaded"] and problem in told["problem"]
            assert problem in door.observer.named("certificates.refused")[-1]["reason"]
            assert any(problem in note and "are in force" in note for note in door.certificates.notes())
            assert door.certificates.look() == [], "said once"
            third = await Kiosk.connect(port, context)
            assert serial(third) == serial(second)
            await third.close()
        (tmp_path / "server.pem").unlink()
        (told,) = door.certificates.look()
        assert told["problem"] == f"listen.tls.certificate: {tmp_path}/server.pem: no such file or directory"
        (tmp_path / "server.pem").write_bytes(good)
        assert [each["loaded"] for each in door.certificates.look()] == [True] and not [
            note for note in door.certificates.notes() if "in force" in note
        ]
        for kiosk in (first, same, second):
            assert await kiosk.ask(b"alive") == b"10000001 alive"
            await kiosk.close()
        await door.listener.stop("done")

    run(main)


def test_a_ca_that_is_taken_away_lets_nobody_in_any_more(run: Run, folder: Path, tmp_path: Path) -> None:
    ca = tmp_path / "kiosks.pem"
    ca.write_bytes((folder / "ca.pem").read_bytes())

    async def main() -> None:
        config = configuration(folder)
        tls = msgspec.structs.replace(config.listen.tls, client_ca=str(ca))
        door = Door(msgspec.structs.replace(config, listen=msgspec.structs.replace(config.listen, tls=tls)))
        await door.listener.start()
        inside = await Kiosk.connect(door.listener.port, kiosk_context(folder))
        ca.write_bytes((folder / "stranger/ca.pem").read_bytes())
        door.certificates.look()
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await (await Kiosk.connect(door.listener.port, kiosk_context(folder))).ask(b"hello")
        await until(lambda: door.refused == ["unknown_ca"], "the refusal")
        assert await inside.ask(b"alive") == b"10000001 alive"
        await inside.close()
        await door.listener.stop("done")

    run(main)


def test_the_look_runs_by_itself(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CERTIFICATE_LOOK_S", 0.01)
    make_development_certificates(tmp_path, [])

    async def main() -> None:
        observer = Recorder()
        certificates = Certificates(configuration(tmp_path), observer, now_us)
        certificates.start()
        assert observer.named("certificates.loaded") == []
        for times in (1, 2):
            for name in ("server.pem", "server.key"):
                (tmp_path / name).unlink()
            DevelopmentCa(tmp_path).issue("server", "localhost", _SERVER, LOCAL_NAMES)
            await until(lambda: len(observer.named("certificates.loaded")) >= times, "taken")  # noqa: B023
        await certificates.stop()

    run(main)


# ---------------------------------------------------------------------------------------------------- expiry
def test_what_ends_soon_is_said_once_a_day_and_what_has_ended_is_not_ready(folder: Path) -> None:
    observer, clock = Recorder(), [now_us()]
    certificates = Certificates(configuration(folder), observer, lambda: clock[0])
    certificates.look()
    day_us = int(86_400e6)
    names = {"listen.tls.certificate", "listen.tls.client_ca", "unionpay.tls.ca", "unionpay.tls.certificate"}
    assert {each["name"] for each in certificates.status()} == names
    assert all(29 < each["days_left"] < 30.1 for each in certificates.status())
    assert "gridswitch DEVELOPMENT ONLY" in certificates.status()[0]["subject"]
    for name in names:
        left_s = observer.gauges["switch_certificate_expiry_seconds", (name,)]
        assert 29 * 86_400 < left_s < 30 * 86_400 + 600
    assert certificates.notes() == [] and certificates.not_ready() == [] and not observer.named("certificate.ending")

    clock[0] += 20 * day_us
    certificates.look()
    certificates.look()
    assert {facts["certificate"] for facts in observer.named("certificate.ending")} == names
    assert len(observer.named("certificate.ending")) == 4, "once a day"
    assert len(certificates.notes()) == 4 and "ends in 10 days: put a new one" in certificates.notes()[0]
    assert certificates.not_ready() == []
    clock[0] += day_us
    certificates.look()
    assert len(observer.named("certificate.ending")) == 8

    clock[0] += 10 * day_us
    certificates.look()
    assert observer.gauges["switch_certificate_expiry_seconds", ("listen.tls.certificate",)] < 0
    reasons = certificates.not_ready()
    assert [reason.split(" ")[0] for reason in reasons] == ["listen.tls.certificate", "unionpay.tls.certificate"]
    assert "expired" in reasons[0] and "ago: put a new one in its place" in reasons[0]
    assert [note.split(" ")[0] for note in certificates.notes()] == ["listen.tls.client_ca", "unionpay.tls.ca"]


def test_files_that_cannot_be_used_at_start_are_named(folder: Path, tmp_path: Path) -> None:
    def start(**changed: str) -> str:
        config = configuration(folder)
        tls = msgspec.structs.replace(config.listen.tls, **changed)
        config = msgspec.structs.replace(config, listen=msgspec.structs.replace(config.listen, tls=tls))
        with pytest.raises(StartError) as caught:
            Certificates(config, Recorder(), now_us)
        return str(caught.value)

    missing = str(tmp_path / "nothing")
    for option in ("certificate", "key", "client_ca", "client_crl"):
        assert start(**{option: missing}) == (
            f"listen.tls.{option}: {missing}: no such file or directory [certificates]"
        )
    other = str(folder / "switch.key")
    assert "key and certificate do not belong together" in start(key=other) and other in start(key=other)
    assert "no list of revoked certificates in PEM form" in start(client_crl=str(folder / "ca.pem"))
    locked = tmp_path / "locked.key"
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((folder / "server.key").read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "the key is protected by a passphrase" in start(key=str(locked))


# ---------------------------------------------------------------------------------------------------- upstreams
class Host:
    """An upstream with the loop's own TLS that echoes frames back."""

    def __init__(self, folder: Path, name: str = "server", *, ca: Path | None = None) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(ca or folder / "ca.pem")
        self.port = 0
        self.names: list[str] = []

    async def start(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = writer.get_extra_info("peercert")
            self.names.append(peer["subject"][-1][0][1])
            try:
                while data := await reader.read(1 << 16):
                    writer.write(data)
            except OSError:
                pass
            writer.close()

        self.server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]


class Link:
    def __init__(self, config: Config, host: str = "127.0.0.1") -> None:
        self.owner, self.observer = Owner(), Recorder()
        certificates = Certificates(config, self.observer, now_us)
        self.certificates = certificates
        self.dialer = Dialer(
            host,
            config.unionpay.port,
            LEN2,
            self.owner,
            self.observer,
            HeldDice(),
            name="unionpay",
            tls=certificates.upstreams["unionpay"],
            server_name=config.unionpay.tls.server_name,
        )

    async def why_not(self) -> str:
        self.dialer.start()
        await until(lambda: self.observer.named("link.dial_failed"), "a failed dial")
        await self.dialer.stop()
        assert self.owner.up == [] and self.owner.lost == []
        facts = self.observer.named("link.dial_failed")[0]
        assert facts["link"] == "unionpay" and facts["address"].startswith("127.0.0.1:")
        return str(facts["reason"])


def test_a_link_over_tls_carries_frames_and_shows_our_certificate(run: Run, folder: Path) -> None:
    async def main() -> None:
        host = Host(folder)
        await host.start()
        link = Link(configuration(folder, port=host.port))
        link.dialer.start()
        await until(lambda: link.owner.up, "the link")
        (wire,) = link.owner.up
        assert wire.send(b"purchase" * 500, "token")
        await until(lambda: link.owner.frames == [b"purchase" * 500], "the echo")
        assert host.names == ["gridswitch"] and not wire.unflushed
        await link.dialer.stop()
        assert [reason for _, reason in link.owner.lost] == ["stopping"]
        host.server.close()

    run(main)


@pytest.mark.parametrize(
    ("server", "changed", "text"),
    [
        ("expired", {}, "the peer's certificate, or one of its CA's, has expired [tls_expired]"),
        ("stranger/server", {}, "no CA of ours has signed the peer's certificate [tls_unknown_ca]"),
        ("elsewhere", {}, "names somebody else: IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("server", {"server_name": "unionpay.example"}, "names somebody else: Hostname mismatch"),
        ("server", {"server_name": ".bad"}, "server name '.bad'"),
        ("switch", {}, "is not made for this end of a connection"),
    ],
)
def test_a_host_that_is_not_whom_we_mean_is_no_link(
    run: Run, folder: Path, server: str, changed: dict[str, str], text: str
) -> None:
    async def main() -> None:
        host = Host(folder, server)
        await host.start()
        assert text in await Link(configuration(folder, port=host.port, **changed)).why_not()
        host.server.close()

    run(main)


def test_a_name_of_its_own_is_looked_for_instead_of_the_address(run: Run, folder: Path) -> None:
    async def main() -> None:
        host = Host(folder)
        await host.start()
        link = Link(configuration(folder, port=host.port, server_name="localhost"))
        link.dialer.start()
        await until(lambda: link.owner.up, "the link")
        await link.dialer.stop()
        host.server.close()

    run(main)


@pytest.mark.parametrize("certificate", ["stranger/switch", ""])
def test_a_host_that_refuses_our_certificate_is_named(run: Run, folder: Path, certificate: str) -> None:
    files = {each: str(folder / f"{certificate}.{each[:3]}") if certificate else "" for each in ("pem", "key")}

    async def main() -> None:
        host = Door(configuration(folder))  # the loops' own TLS hangs up without a word
        await host.listener.start()
        config = configuration(folder, port=host.listener.port, certificate=files["pem"], key=files["key"])
        link = Link(config)
        link.dialer.start()

        def reasons() -> list[str]:
            events = link.observer.named("link.tls_failed") + link.observer.named("link.dial_failed")
            return [each["reason"] for each in events if "the peer refuses us" in each["reason"]]

        await until(reasons, "the refusal")
        assert ("unknown ca" if certificate else "certificate required") in reasons()[0]
        await link.dialer.stop()
        await host.listener.stop("done")

    run(main)


def test_a_host_that_hangs_up_over_our_certificate_is_named_too(run: Run, folder: Path) -> None:
    async def main() -> None:
        host = Host(folder, ca=folder / "stranger/ca.pem")
        await host.start()
        link = Link(configuration(folder, port=host.port))
        link.dialer.start()
        await until(lambda: link.observer.named("link.tls_failed"), "the hint")
        assert "does it take our certificate?" in link.observer.named("link.tls_failed")[0]["reason"]
        await link.dialer.stop()
        host.server.close()

    run(main)


def test_a_host_without_tls_and_one_that_never_answers(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(len2(bytes(40)))
            writer.close()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        for serve, text in ((plain, "does not speak TLS"), (silent, "no TLS handshake within")):
            if serve is silent:
                monkeypatch.setattr(limits, "TLS_HANDSHAKE_S", 0.1)
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            assert text in await Link(configuration(folder, port=port)).why_not()
            server.close()

    run(main)


def test_stop_in_the_middle_of_a_handshake_leaves_nothing_open(run: Run, folder: Path) -> None:
    async def main() -> None:
        host = Host(folder)
        await host.start()
        for turns in range(30):
            link = Link(configuration(folder, port=host.port))
            link.dialer.start()
            for _ in range(turns):
                await asyncio.sleep(0)
            await link.dialer.stop()
            assert link.dialer.wire is None
            assert [wire for wire, _ in link.owner.lost] == link.owner.up
        host.server.close()

    run(main)


def test_a_renewed_ca_of_a_host_is_taken_at_the_next_dial(run: Run, folder: Path, tmp_path: Path) -> None:
    ca = tmp_path / "hosts.pem"
    ca.write_bytes((folder / "stranger/ca.pem").read_bytes())

    async def main() -> None:
        host = Host(folder)
        await host.start()
        link = Link(configuration(folder, port=host.port, ca=str(ca)))
        link.dialer.start()
        await until(lambda: link.observer.named("link.dial_failed"), "a failed dial")
        ca.write_bytes((folder / "ca.pem").read_bytes())
        link.certificates.look()
        await until(lambda: link.owner.up, "the link")
        await link.dialer.stop()
        host.server.close()

    run(main)


def test_an_error_of_tls_reads_well() -> None:
    assert tcp.explain(TlsRefusedError("slow", "no handshake")) == "no handshake [tls_slow]"
