"""``gridswitch line-test``: try a kiosk's line, and say in words which hop failed.

    --connect HOST:PORT     as a kiosk, over TCP or TLS
    --device DEVICE         as a kiosk, at its end of a serial line
    --device DEVICE --listen
                            at our end: show what comes, and answer nothing
    --line NAME             device and settings of a [[serial]] line of the configuration

Blocking reads, one thing after the other: it is a tool for one line. Bytes that make no frame are counted and never
shown, for they may be a card's.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import orjson
from rich.console import Console
from rich.markup import escape

import iso8583
from iso8583 import framing, tlv
from switch import limits
from switch.config import SerialConfig, load
from switch.dialects.shown import CardMessages
from switch.errors import ConfigError, SecurityError, StartError
from switch.net import tcp
from switch.net.serial import Cutter, PortError, open_port, settings
from switch.ops.diagnosis import LENGTHS, Evidence, Verdict, diagnose, diagnose_listening
from switch.ports import KeyUsage
from switch.security import mac, workingkeys
from switch.security.primitives import des
from switch.sim import testkeys
from switch.sim.commands import above_zero, at_least_one
from switch.sim.day import china_now
from switch.sim.histogram import Histogram

_HEADER: Final = "600003{address}603100000000"
_HEADER_SIZE: Final = 11
_MAC_SIZE: Final = 8
_RAW_MAX: Final = 65_536  # bytes of what came that are kept to be judged
_PACE_S: Final = 2.0  # between echo tests once the switch's burst is used up
_BURST: Final = limits.GREETINGS_BURST - 2  # a sign-on and an echo test with MAC take their part
_TIOCGICOUNT: Final = 0x545D
_UART_FIELDS: Final = {"frame": 6, "overrun": 7, "parity": 8}  # of struct serial_icounter_struct
_BARS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # ms
_BAR_WIDTH: Final = 40


# ---------------------------------------------------------------------------------------------------- two ends
class ClosedError(Exception):
    """The other side ended it; the text says how."""


class Line(Protocol):
    def write(self, frame: bytes) -> None: ...

    def read(self, seconds: float) -> list[bytes]:
        """Frames that came within this time; returns as soon as something did."""
        ...

    def close(self) -> None: ...


class Connection:
    """TCP or TLS. Raises OSError where it cannot be opened."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, seen: Evidence) -> None:
        self._seen = seen
        self._framer = framing.Framer("len2")
        self._socket = socket.create_connection((host, port), timeout=limits.CONNECT_TIMEOUT_S)
        if tls is not None:
            try:
                self._socket.settimeout(limits.TLS_HANDSHAKE_S)
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
            except OSError:
                self._socket.close()
                raise

    def write(self, frame: bytes) -> None:
        try:
            self._socket.sendall(framing.frame(frame))
        except OSError as error:
            raise ClosedError(_explain(error)) from error

    def read(self, seconds: float) -> list[bytes]:
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            return []
        except OSError as error:
            raise ClosedError(_explain(error)) from error
        if not data:
            raise ClosedError("closed without a word")
        _keep(self._seen, data)
        try:
            return self._framer.feed(data)
        except iso8583.FrameError as error:
            raise ClosedError(f"what came is no frame: {error}") from error

    def close(self) -> None:
        self._socket.close()


class Port:
    """A serial port. Raises PortError where it cannot be opened."""

    def __init__(self, config: SerialConfig, seen: Evidence) -> None:
        self._seen = seen
        self._config = config
        self._port = open_port(config)
        self._fd = self._port.fileno()
        self._cutter = Cutter(config.length, bytes.fromhex(config.heartbeat))
        self._uart = _uart_errors(self._fd)
        self._sent = b""

    def write(self, frame: bytes) -> None:
        self._sent = frame
        data = framing.frame(frame, "serial", length=self._config.length)
        ends_at = time.monotonic() + limits.CONNECT_TIMEOUT_S
        while data:
            if not select.select([], [self._fd], [], max(0.0, ends_at - time.monotonic()))[1]:
                raise ClosedError("it takes nothing: is flow control set as the modem has it?")
            try:
                data = data[os.write(self._fd, data) :]
            except OSError as error:
                raise ClosedError(tcp.explain(error)) from error

    def read(self, seconds: float) -> list[bytes]:
        readable, _, _ = select.select([self._fd], [], [], min(seconds, self._config.gap_ms / 1000))
        try:
            data = os.read(self._fd, limits.SERIAL_READ_BYTES) if readable else b""
        except OSError as error:
            raise ClosedError(tcp.explain(error)) from error
        if readable and not data:
            raise ClosedError("the device is gone")
        _keep(self._seen, data)
        frames = self._cutter.feed(data) if data else self._cutter.end()
        seen, cutter = self._seen, self._cutter
        seen.noise_bytes, seen.heartbeats, seen.discards = cutter.noise_bytes, cutter.heartbeats, cutter.discards
        now = _uart_errors(self._fd)
        seen.uart = {name: now[name] - self._uart[name] for name in now}
        seen.echoes += frames.count(self._sent)
        return [frame for frame in frames if frame != self._sent]

    def close(self) -> None:
        with contextlib.suppress(termios.error):
            termios.tcflush(self._fd, termios.TCOFLUSH)
        self._port.close()


def _keep(seen: Evidence, data: bytes) -> None:
    seen.raw += data[: _RAW_MAX - len(seen.raw)]


def _uart_errors(fd: int) -> dict[str, int]:
    """What the port's own hardware has counted; nothing where it does not count."""
    try:
        counts = struct.unpack("20i", fcntl.ioctl(fd, _TIOCGICOUNT, bytes(80)))
    except OSError:
        return {}
    return {name: counts[index] for name, index in _UART_FIELDS.items()}


def _explain(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    return tcp.explain(error)


def _fault(error: OSError, where: str) -> tuple[str, str]:
    """Why a connection could not be opened."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate", f"{where} shows a certificate that we do not trust: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "tls", f"{where} and we do not agree on TLS: {_explain(error)}"
    if isinstance(error, socket.gaierror):
        return "name", f"{where}: {tcp.explain(error)}"
    if isinstance(error, ConnectionRefusedError):
        return "refused", f"nobody listens at {where}"
    if isinstance(error, ConnectionError):
        return "refused", f"{where} ends the connection at once: {tcp.explain(error)}"
    return "unreachable", f"{where} does not answer: {tcp.explain(error)}"


# ---------------------------------------------------------------------------------------------------- as a kiosk
class Kiosk:
    """Asks what carries no money, one thing at a time."""

    def __init__(self, line: Line, seen: Evidence, terminal: str, merchant: str, address: str, wait_s: float) -> None:
        self._line = line
        self._seen = seen
        self._parties: dict[int | str, Any] = {41: terminal, 42: merchant}
        self._header = bytes.fromhex(_HEADER.format(address=address))
        self._wait_s = wait_s
        self._spec = iso8583.load("kiosk", header="tpdu+pos6")
        self._serial = int(time.monotonic() * 10) % 999_000
        self._batch = "000000"
        self.times = Histogram()
        self.took_ms: list[float] = []

    def echo(self, key: mac.Mac | None = None) -> iso8583.Message | None:
        self._seen.step = "echo test with MAC" if key is not None else "echo test"
        return self._ask({0: "0820", 60: f"00{self._batch}301"}, key)

    def sign_on(self) -> iso8583.Message | None:
        self._seen.step = "sign-on"
        answer = self._ask({0: "0800", 60: "00000000003", 63: "001"}, None)
        if answer is not None and str(answer[39]) == "00":
            self._batch = str(answer.get(60, ""))[2:8]
        return answer

    def _ask(self, values: dict[int | str, Any], key: mac.Mac | None) -> iso8583.Message | None:
        self._serial += 1
        serial = f"{self._serial:06d}"
        values = {**values, **self._parties, 11: serial, 13: f"{china_now():%m%d}"}
        if key is None:
            frame = self._spec.encode(values, header=self._header)
        else:
            frame = self._spec.encode({**values, 64: bytes(_MAC_SIZE)}, header=self._header)[:-_MAC_SIZE]
            frame += key.make(frame[_HEADER_SIZE:])
        started = time.monotonic()
        self._seen.sent += 1
        self._line.write(frame)
        while (left := started + self._wait_s - time.monotonic()) > 0:
            for each in self._line.read(left):
                with contextlib.suppress(iso8583.DecodeError):
                    answer = self._spec.decode(each)
                    if answer.get(11) == serial and answer.get(39) is not None:
                        self._note(answer, time.monotonic() - started)
                        return answer
        return None

    def _note(self, answer: iso8583.Message, took_s: float) -> None:
        self._seen.answered += 1
        self._seen.code = str(answer[39])
        private = answer.get(48)
        objects = dict(tlv.decode(private)) if isinstance(private, bytes) else {}
        self._seen.stable = objects.get("DF0A", b"").decode("ascii", "replace")
        self.times.add(took_s)
        self.took_ms.append(1000 * took_s)


def _test_mac_key(answer: iso8583.Message, terminal: str) -> mac.Mac:
    """The MAC key of a sign-on, for a test terminal. Raises SecurityError."""
    parts = workingkeys.parse(answer[62])
    master = des(testkeys.test_tmk(terminal))
    key = workingkeys.decrypt_key(parts.mac.cryptogram, parts.mac.kcv, master, KeyUsage.MAC)
    workingkeys.decrypt_key(parts.pin.cryptogram, parts.pin.kcv, master, KeyUsage.PIN)
    return mac.prepare("unionpay_ecb", key)


_LINE_IS_GOOD: Final = ("00", "77")  # to an echo test; 77: and it is time to sign on
Say = Callable[[str], None]


def try_line(kiosk: Kiosk, seen: Evidence, *, count: int, sign_on: bool, test_terminal: str, say: Say) -> None:
    """Echo, sign-on, echo with MAC, round trips; stops at the first step that fails. ``seen`` tells how it went."""
    try:
        answer = kiosk.echo()
        say(f"echo test: {_told(answer)}")
        if answer is None or str(answer[39]) not in _LINE_IS_GOOD:
            return
        if sign_on:
            answer = kiosk.sign_on()
            say(f"sign-on: {_told(answer)}")
            if answer is None or str(answer[39]) != "00":
                return
            if test_terminal:
                try:
                    key = _test_mac_key(answer, test_terminal)
                except SecurityError as error:
                    seen.keys_fault = f"the keys of the sign-on do not fit: {error.detail}"
                    return
                answer = kiosk.echo(key)
                say(f"echo test with MAC: {_told(answer)}")
                if answer is None or str(answer[39]) != "00":
                    return
        for number in range(1, count):
            if number >= _BURST:
                time.sleep(_PACE_S)
            answer = kiosk.echo()
            if answer is not None and str(answer[39]) not in _LINE_IS_GOOD:
                return
    except ClosedError as closed:
        seen.closed = str(closed)


def _told(answer: iso8583.Message | None) -> str:
    return "no answer" if answer is None else f"answered {answer[39]}"


# ---------------------------------------------------------------------------------------------------- listening
def listen(port: Line, seen: Evidence, seconds: float, say: Say) -> int:
    """Show what comes; gives the number of frames."""
    shown = CardMessages(iso8583.load("kiosk", header="tpdu+pos6"))
    frames = noise = beats = damaged = 0
    started = time.monotonic()
    try:
        while (now := time.monotonic()) < started + seconds:
            for frame in port.read(started + seconds - now):
                frames += 1
                say(f"{time.monotonic() - started:8.3f} s  frame of {len(frame)} bytes, {_frame_words(frame, shown)}")
            at = f"{time.monotonic() - started:8.3f} s  "
            if seen.heartbeats > beats:
                say(f"{at}{seen.heartbeats - beats} heartbeats")
            if seen.noise_bytes > noise:
                say(f"{at}{seen.noise_bytes - noise} bytes of noise")
            if seen.discards.total() > damaged:
                reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(seen.discards.items()))
                say(f"{at}frames given up so far: {reasons}")
            beats, noise, damaged = seen.heartbeats, seen.noise_bytes, seen.discards.total()
    except ClosedError as closed:
        seen.closed = str(closed)
    except KeyboardInterrupt:
        pass  # enough seen
    return frames


def _frame_words(frame: bytes, shown: CardMessages) -> str:
    try:
        told = shown.tell(shown.take(frame))
    except iso8583.DecodeError as error:
        return f"no message of a kiosk: {error}"
    address = f"address {frame[3:5].hex().upper()}"
    return ", ".join([address, *(f"{name} {value}" for name, value in told.items())])


# ---------------------------------------------------------------------------------------------------- the command
def _run(arguments: argparse.Namespace) -> int:
    say: Say = (lambda _line: None) if arguments.json else (lambda line: print(line, flush=True))
    config = None if arguments.connect else _serial_config(arguments)
    where = arguments.connect if config is None else f"{config.device}, {settings(config)}"
    seen = Evidence(serial=config is not None, where=where, length=config.length if config else "len2")
    kiosk: Kiosk | None = None
    frames = 0
    with _opened(arguments, config, seen) as line:
        if line is not None:
            say(f"open: {where}")
            if arguments.listen:
                frames = listen(line, seen, arguments.seconds, say)
            else:
                kiosk = Kiosk(line, seen, arguments.terminal, arguments.merchant, arguments.address, arguments.wait)
                try_line(
                    kiosk,
                    seen,
                    count=arguments.count,
                    sign_on=arguments.sign_on or arguments.test_keys,
                    test_terminal=arguments.terminal if arguments.test_keys else "",
                    say=say,
                )
    verdict = diagnose_listening(seen, frames, arguments.seconds) if arguments.listen else diagnose(seen)
    _report(arguments, seen, kiosk, frames, verdict)
    return 0 if verdict.good else 1


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace, config: SerialConfig | None, seen: Evidence) -> Iterator[Line | None]:
    line: Line | None = None
    try:
        if config is not None:
            line = Port(config, seen)
        else:
            host, port = _address(arguments.connect)
            line = Connection(host, port, _tls(arguments), seen)
    except PortError as error:
        seen.fault = error.code, error.detail
    except OSError as error:
        seen.fault = _fault(error, arguments.connect)
    try:
        yield line
    finally:
        if line is not None:
            line.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise StartError("connect", f"--connect {text}: expected HOST:PORT, a port of 1 to 65535")
    return host.strip("[]"), int(port)


def _tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    files = (arguments.ca, arguments.certificate, arguments.key)
    if not any(files):
        return None
    if not all(files):
        raise StartError("connect", "TLS needs all three: --ca, --certificate and --key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(arguments.ca)
        context.load_cert_chain(arguments.certificate, arguments.key)
    except OSError as error:
        raise StartError("connect", f"--ca, --certificate or --key cannot be used: {_explain(error)}") from error
    return context


def _serial_config(arguments: argparse.Namespace) -> SerialConfig:
    """Of the line named in the configuration, or of the options; an option that is given counts."""
    given = {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None}
    if arguments.line:
        lines = {line.name: line for line in load(arguments.config).serial}
        if arguments.line not in lines:
            known = f"known: {', '.join(lines)}" if lines else "it has no [[serial]] line"
            raise StartError("line", f"{arguments.config}: no line {arguments.line!r}; {known}")
        return msgspec.structs.replace(lines[arguments.line], **given)
    values = {"name": "line", "device": arguments.device, "kiosks": {"0000": "00000000"}, **given}
    try:
        return msgspec.convert(values, SerialConfig)
    except msgspec.ValidationError as error:
        raise ConfigError("line-test", f"{error}; see gridswitch line-test --help") from error


def _report(arguments: argparse.Namespace, seen: Evidence, kiosk: Kiosk | None, frames: int, verdict: Verdict) -> None:
    if arguments.json:
        told = {
            "good": verdict.good,
            "hop": verdict.hop,
            "words": verdict.words,
            "remedy": verdict.remedy,
            "where": seen.where,
            "sent": seen.sent,
            "answered": seen.answered,
            "frames": frames,
            "noise_bytes": seen.noise_bytes,
            "heartbeats": seen.heartbeats,
            "discards": dict(seen.discards),
            "port_errors": seen.uart,
            "round_trips": kiosk.times.to_dict() if kiosk is not None else None,
        }
        print(orjson.dumps(told).decode())
        return
    if kiosk is not None and kiosk.times.count:
        print("\n".join(histogram(kiosk.took_ms, kiosk.times)))
    console = Console(highlight=False, soft_wrap=True)
    if verdict.good:
        console.print(f"[green]good[/green]: {escape(verdict.words)}")
    else:
        console.print(f"[red]{verdict.hop}[/red]: {escape(verdict.words)}")
        if verdict.remedy:
            console.print(f"what to do: {escape(verdict.remedy)}")


def histogram(took_ms: list[float], times: Histogram) -> list[str]:
    """Round trips in words and bars."""
    told = times.to_dict()
    lines = [
        f"round trips: {told['count']}, p50 {told['p50_ms']:.1f} ms, p90 {told['p90_ms']:.1f} ms, "
        f"p99 {told['p99_ms']:.1f} ms, longest {told['max_ms']:.1f} ms"
    ]
    counts = [0] * (len(_BARS) + 1)
    for each in took_ms:
        counts[next((n for n, bound in enumerate(_BARS) if each <= bound), len(_BARS))] += 1
    used = [n for n, number in enumerate(counts) if number]
    for n in range(used[0], used[-1] + 1):
        bound = f"to {_BARS[n]:>5} ms" if n < len(_BARS) else "   longer  "
        bar = "█" * max(bool(counts[n]), round(_BAR_WIDTH * counts[n] / len(took_ms)))
        lines.append(f"  {bound} {counts[n]:>5} {bar}".rstrip())
    return lines


_SETTINGS: Final = ("baud", "parity", "stop_bits", "flow_control", "length", "heartbeat")


def add_line_test_parser(commands: Any) -> None:
    text = "try a kiosk's line, serial or network, and say in words which hop failed"
    parser = commands.add_parser(
        "line-test",
        help=text,
        description=f"{text[0].upper()}{text[1:]}: port, line, modem, switch, terminal or card network. Exit status 0 "
        "only when all is well. Nothing that moves money is sent.",
    )
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--connect", metavar="HOST:PORT", help="as a kiosk, over TCP; with --ca … over TLS")
    end.add_argument("--device", metavar="DEVICE", help="a serial port, e.g. /dev/ttyUSB0")
    end.add_argument("--line", metavar="NAME", help="the serial port and settings of this [[serial]] line")
    parser.add_argument(
        "--config", type=Path, default=Path("switch.toml"), metavar="FILE", help="for --line (default switch.toml)"
    )
    parser.add_argument("--listen", action="store_true", help="at our end of a serial line: show what comes")
    parser.add_argument(
        "--seconds", type=above_zero, default=60.0, metavar="S", help="how long to listen (default 60); Ctrl-C ends it"
    )
    terminal, merchant = testkeys.test_terminal(1)
    parser.add_argument("--terminal", default=terminal, metavar="ID", help=f"field 41 (default {terminal})")
    parser.add_argument("--merchant", default=merchant, metavar="ID", help=f"field 42 (default {merchant})")
    parser.add_argument("--address", type=_four_hex, default="0000", metavar="HEX", help="TPDU origin (default 0000)")
    parser.add_argument(
        "--count",
        type=at_least_one,
        default=_BURST,
        metavar="N",
        help=f"echo tests (default {_BURST}; more are slower)",
    )
    parser.add_argument("--wait", type=above_zero, default=10.0, metavar="S", help="for each answer (default 10)")
    parser.add_argument("--sign-on", action="store_true", help="sign on, too: fetches new working keys")
    parser.add_argument(
        "--test-keys", action="store_true", help="a test terminal: sign on, check its keys, and an echo test with MAC"
    )
    parser.add_argument("--ca", type=Path, metavar="FILE", help="CA of the switch's certificate, PEM")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="the kiosk's certificate, PEM")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its key, PEM")
    parser.add_argument("--baud", type=int, metavar="N", help="speed (default 9600)")
    parser.add_argument("--parity", choices=("none", "even", "odd"), help="default none")
    parser.add_argument("--stop-bits", type=int, choices=(1, 2), help="default 1")
    parser.add_argument("--flow-control", choices=("none", "rtscts"), help="default none")
    parser.add_argument("--length", choices=LENGTHS, help="form of the length behind STX (default bcd2)")
    parser.add_argument("--heartbeat", metavar="HEX", help="what a DTU sends as a sign of life")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(run=_checked)


def _checked(arguments: argparse.Namespace) -> int:
    if arguments.listen and arguments.connect:
        raise StartError("connect", "--listen needs a serial port: --device or --line")
    return _run(arguments)


def _four_hex(text: str) -> str:
    if len(text) != 4 or not all(char in "0123456789abcdefABCDEF" for char in text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected 4 hexadecimal digits")
    return text
