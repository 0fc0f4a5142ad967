"""``gridswitch line-test`` against the whole switch, over TCP, TLS and ptys: each fault that is put in is found."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from iso8583 import framing, load
from switch.cli import main
from switch.config import ListenTls, SerialConfig, document
from switch.ops import linetest
from switch.ops.certs import make_development_certificates
from switch.sim import testkeys
from switch.sim.histogram import Histogram
from tests.ptys import Cable, NullModem, bits_of, heard_at

Play = Callable[..., None]
Capture = pytest.CaptureFixture[str]
(ONE, MERCHANT), (TWO, MERCHANT_TWO) = (testkeys.test_terminal(number) for number in (1, 2))


async def line_test(capsys: Capture, *arguments: str, status: int = 1) -> dict[str, Any]:
    capsys.readouterr()
    code = await asyncio.to_thread(main, ["line-test", "--json", "--wait", "0.5", *arguments])
    out = capsys.readouterr()
    assert code == status, (out.out, out.err)
    told: dict[str, Any] = json.loads(out.out)
    return told


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linetest, "_PACE_S", 0.01)


def test_over_tcp_each_hop_behind_it_is_named(play: Play, capsys: Capture) -> None:
    async def story(world: Any) -> None:
        connect = ("--connect", f"127.0.0.1:{world.worker.kiosk_port}")
        told = await line_test(capsys, *connect, "--test-keys", "--count", "12", "--wait", "5", status=0)
        assert told["good"] and told["answered"] == told["sent"] == 14
        assert told["round_trips"]["count"] == 14 and told["round_trips"]["p50_ms"] > 0

        told = await line_test(capsys, *connect, "--terminal", "99999999")
        assert told["hop"] == "terminal" and "does not know" in told["words"]
        told = await line_test(capsys, *connect, "--merchant", "999999999999999")
        assert told["hop"] == "terminal"

        await world.worker.switch.card_link.dialer.stop()
        two = ("--terminal", TWO, "--merchant", MERCHANT_TWO)  # has not signed on: its keys must be fetched
        told = await line_test(capsys, *connect, *two, "--sign-on", "--wait", "5")
        assert told["hop"] == "card network" and told["answered"] == 2, "the echo test before it was answered"

    play(story)


def test_a_terminal_out_of_service_is_named(play: Play, capsys: Capture) -> None:
    async def story(world: Any) -> None:
        await world.worker._terminals.set_service(TWO, False, "test")
        connect = ("--connect", f"127.0.0.1:{world.worker.kiosk_port}")
        told = await line_test(capsys, *connect, "--terminal", TWO, "--merchant", MERCHANT_TWO, "--wait", "5")
        assert told["hop"] == "terminal" and "out of service" in told["words"]

    play(story)


def test_over_tls_certificates_are_judged(play: Play, capsys: Capture) -> None:
    async def story(world: Any) -> None:
        folder: Path = world.folder / "certs"
        make_development_certificates(folder, [ONE, TWO])
        make_development_certificates(world.folder / "others", [ONE])
        files = {name: str(folder / name) for name in ("server.pem", "server.key", "ca.pem")}
        tls = ListenTls(
            enabled=True, certificate=files["server.pem"], key=files["server.key"], client_ca=files["ca.pem"]
        )
        await world.worker.stop()
        listen = msgspec.structs.replace(world.config.listen, tls=tls)
        world.config = msgspec.structs.replace(world.config, listen=listen)
        await world.start_worker()
        connect = ("--connect", f"127.0.0.1:{world.worker.kiosk_port}", "--wait", "5")

        def certificate(terminal: str, of: Path = folder, ca: Path = folder) -> list[str]:
            pair = of / "terminals" / terminal
            return ["--ca", str(ca / "ca.pem"), "--certificate", f"{pair}.pem", "--key", f"{pair}.key"]

        assert (await line_test(capsys, *connect, *certificate(ONE), status=0))["good"]
        told = await line_test(capsys, *connect, *certificate(TWO))
        assert told["hop"] == "terminal" and "belong to another terminal" in told["words"]
        told = await line_test(capsys, *connect, *certificate(ONE, of=world.folder / "others"))
        assert told["hop"] == "switch" and ("TLS" in told["words"] or "reset" in told["words"])
        told = await line_test(capsys, *connect, *certificate(ONE, ca=world.folder / "others"))
        assert told["hop"] == "switch" and "do not trust" in told["words"]
        told = await line_test(capsys, *connect)
        assert told["hop"] == "switch" and "TLS" in told["words"] + told["remedy"]

    play(story)


def test_where_nobody_listens_the_switch_is_named(capsys: Capture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        told = asyncio.run(line_test(capsys, "--connect", f"127.0.0.1:{taken.getsockname()[1]}"))
    assert told["hop"] == "switch" and "nobody listens" in told["words"]


def test_on_a_serial_line_each_fault_has_its_own_verdict(play: Play, capsys: Capture) -> None:
    async def story(world: Any) -> None:
        ours, theirs = Cable(world.folder / "ours"), Cable(world.folder / "theirs")
        with ours, theirs:
            serial = SerialConfig(name="line-1", device=str(ours.device), kiosks={"0001": ONE}, gap_ms=50)
            await world.worker.stop()
            world.config = msgspec.structs.replace(world.config, serial=(serial,))
            await world.start_worker()
            device = ("--device", str(theirs.device), "--address", "0001", "--count", "2")
            async with NullModem(theirs, ours) as modem:
                told = await line_test(capsys, *device, "--test-keys", "--wait", "5", status=0)
                assert told["good"] and told["answered"] == 4

                told = await line_test(capsys, *device[:3], "0009")
                assert (told["hop"], told["words"]) == ("line", "nothing comes back")

                modem.back = lambda data: heard_at(bits_of(data), 0.5) if data else b""
                told = await line_test(capsys, *device)
                assert told["hop"] == "line" and "speed or parity" in told["remedy"]
                assert told["noise_bytes"] > 0

                modem.back = lambda data: data[:-1] + b"\x00" if data else b""
                told = await line_test(capsys, *device)
                assert told["hop"] == "line" and "wrong LRC" in told["words"]

                modem.there = lambda data: b""
                modem.back = bytes
                theirs_only = asyncio.create_task(line_test(capsys, *device, "--heartbeat", "44545531"))
                while not theirs_only.done():
                    theirs.write(b"DTU1")
                    await asyncio.sleep(0.02)
                told = await theirs_only
                assert told["hop"] == "modem" and told["heartbeats"] > 0

                modem.there = bytes
                told = await line_test(capsys, *device, "--terminal", TWO, "--merchant", MERCHANT_TWO)
                assert told["hop"] == "terminal" and "belong to another" in told["words"]
                told = await line_test(capsys, *device)
                assert told["words"] == "nothing comes back", "hung up on: deaf for some seconds"

            told = await line_test(capsys, "--device", str(ours.device))
            assert told["hop"] == "port" and "another program has it" in told["words"]
        told = await line_test(capsys, "--device", str(theirs.device))
        assert told["hop"] == "port" and "no such device" in told["words"]

    play(story)


def test_a_line_that_only_hears_itself_is_named(capsys: Capture, short_dir: Path) -> None:
    async def story() -> None:
        with Cable(short_dir / "line") as cable:
            testing = asyncio.create_task(line_test(capsys, "--device", str(cable.device)))
            while not testing.done():
                if data := cable.read():
                    cable.write(data)
                await asyncio.sleep(0.001)
            told = await testing
            assert told["hop"] == "line" and "only our own frames" in told["words"]

    asyncio.run(story())


# ---------------------------------------------------------------------------------------------------- listening
def heard(capsys: Capture, cable: Cable, sent: bytes, *arguments: str) -> tuple[int, str]:
    """What the command says about a line that brings these bytes as soon as it is opened."""

    async def story() -> int:
        options = ["line-test", "--device", str(cable.device), "--listen", "--seconds", "0.6", *arguments]
        testing = asyncio.create_task(asyncio.to_thread(main, options))
        while "open:" not in (out := capsys.readouterr().out):
            assert not testing.done(), out
            await asyncio.sleep(0.001)
        cable.write(sent)
        return await testing

    status = asyncio.run(story())
    return status, capsys.readouterr().out


def test_listening_shows_frames_heartbeats_noise_and_damage_and_no_card(capsys: Capture, short_dir: Path) -> None:
    pan = testkeys.test_pan(1)
    values: dict[int | str, Any] = {0: "0200", 2: pan, 3: "000000", 4: "000000012345", 11: "000007", 41: ONE}
    message = load("kiosk", header="tpdu+pos6").encode(values, header=bytes.fromhex("6000030001603100000000"))
    good = framing.frame(message, "serial")
    damaged = good[:-1] + bytes([good[-1] ^ 1])
    with Cable(short_dir / "line") as cable:
        status, out = heard(capsys, cable, b"DTU" + good + b"??" + damaged + good, "--heartbeat", "445455")
    assert status == 0, out
    assert out.count(f"frame of {len(message)} bytes, address 0001, mti 0200") == 2 and f"terminal {ONE}" in out
    assert "1 heartbeats" in out and f"{2 + len(good)} bytes of noise" in out and "1 lrc" in out
    assert "good: 2 frames came" in out
    assert pan not in out and pan[6:] not in out and message.hex() not in out


def test_listening_to_nothing_says_so(capsys: Capture, short_dir: Path) -> None:
    with Cable(short_dir / "line") as cable:
        status, out = heard(capsys, cable, b"")
    assert status == 1 and "line: nothing came within 0.6 s" in out and "what to do:" in out


# ---------------------------------------------------------------------------------------------------- the command
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--connect", "nowhere"], "expected HOST:PORT"),
        (["--connect", "127.0.0.1:99999"], "a port of 1 to 65535"),
        (["--connect", "127.0.0.1:1", "--listen"], "--listen needs a serial port"),
        (["--connect", "127.0.0.1:1", "--ca", "ca.pem"], "TLS needs all three"),
        (["--connect", "127.0.0.1:1", "--ca", "a", "--certificate", "b", "--key", "c"], "cannot be used"),
        (["--device", "/dev/x", "--baud", "1"], "baud"),
        (["--line", "line-9"], "it has no [[serial]] line"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], words: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("switch.toml").write_text(document())
    assert main(["line-test", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_line_of_the_configuration_is_taken_with_its_settings(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = '[[serial]]\nname = "line-1"\ndevice = "/dev/no-such"\nbaud = 1200\nkiosks = { "0001" = "10000001" }\n'
    Path("switch.toml").write_text(document() + line)
    told = asyncio.run(line_test(capsys, "--line", "line-1", "--parity", "even"))
    assert told["where"] == "/dev/no-such, 1200 8E1" and told["hop"] == "port"


def test_the_histogram_has_a_bar_for_each_range_that_was_met() -> None:
    times = Histogram()
    took = [0.5, 0.7, 4.0, 40.0]
    for each in took:
        times.add(each / 1000)
    lines = linetest.histogram(took, times)
    assert lines[0].startswith("round trips: 4, p50 0.7 ms")
    assert [line.split()[1:4:2] for line in lines[1:]] == [
        ["1", "2"],
        ["2", "0"],
        ["5", "1"],
        ["10", "0"],
        ["20", "0"],
        ["50", "1"],
    ]
    assert lines[1].count("█") == 20
