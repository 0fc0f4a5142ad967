"""The commands ``host``, ``fleet`` and ``generate``: simulators that a person or a drill starts from the shell.

``python -m switch.sim.commands`` runs them alone.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from switch import limits
from switch.errors import ConfigError, StartError, SwitchError
from switch.sim.fleet import SETTLE_S, FleetResult, run_fleet
from switch.sim.generator import Generator, Phase, PhaseResult, check_files
from switch.sim.hall import RHYTHMS, Arrivals, Hall, run_hall
from switch.sim.marketing_host import MarketingHost
from switch.sim.scenario import BUNDLED, Scenario, load_scenario
from switch.sim.unionpay_host import UnionPayHost
from switch.sim.wire import LOOPBACK, host_tls

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1  # the run ended, and something is wrong: payments without a final word
EXIT_USAGE: Final = 2  # it never started

TERMINALS_MAX: Final = 20_000  # as many kiosks as one switch takes; each is a row made one by one

_GENERATE_EXAMPLE: Final = """example:
  gridswitch generate --connect 127.0.0.1:9000 --kiosks 500 --phase warm:closed:64:2 --phase run:open:2000:10
"""
SIGN_ON_S: Final = 600.0  # by then every kiosk is signed on: 20,000 at 40 a second, for each is a commit of the switch

Subparsers = Any  # argparse gives the type no public name

_HOST_EXAMPLE: Final = """example:
  gridswitch host unionpay --listen 127.0.0.1:9001 --ledger run/unionpay.jsonl --scenario demo
"""
_FLEET_EXAMPLE: Final = """example:
  gridswitch fleet --connect 127.0.0.1:9000 --count 50 --seconds 20 --scenario demo --book run/book.jsonl
  gridswitch fleet --connect 127.0.0.1:9000 --count 10000 --arrivals 100 --rhythm day --seconds 600 --scenario hall
"""


def add_host_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Register ``host``; the parsed arguments go to ``host_command``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "host",
        help="run a simulated card host or marketing system",
        description="Run a simulated upstream on a loopback address until SIGTERM or SIGINT. Its ledger is its memory: "
        "started again with the same file, it goes on where it was.",
        epilog=_HOST_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("unionpay", "marketing"), help="which upstream")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="loopback; port 0 takes a free one")
    parser.add_argument("--ledger", required=True, type=Path, metavar="FILE", help="its truth, JSON lines; appended to")
    _add_scenario(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the scenario's seed")
    parser.add_argument(
        "--cut-over-in",
        type=float,
        metavar="SECONDS",
        help="when its business day ends (default: 12 hours after the ledger began)",
    )
    parser.add_argument("--tls", type=Path, metavar="DIR", help="speak TLS with a folder of: gridswitch certs dev")
    parser.add_argument(
        "--spec",
        action="append",
        metavar="NAME",
        help="marketing: record spec that it speaks, bundled or a .toml file; given again: versions side by side "
        "(default marketing_json_1_0)",
    )
    parser.set_defaults(run=host_command)
    return parser


def add_fleet_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Register ``fleet``; the parsed arguments go to ``fleet_command``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "fleet",
        help="run simulated kiosks against a switch",
        description="Let simulated kiosks pay bills, one customer after the other, and report what they were told; or, "
        "with --arrivals, let customers come when they come, with all they come for and all that happens to them. "
        "Exit code 1 when a payment has no final word at the end.",
        epilog=_FLEET_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--connect", required=True, metavar="HOST:PORT", help="kiosk port of a switch on this machine")
    parser.add_argument("--count", type=at_least_one, default=10, metavar="N", help="kiosks (default 10)")
    parser.add_argument("--seconds", type=above_zero, default=10.0, metavar="S", help="length of the load (default 10)")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=above_zero, metavar="R", help="payments a second of all kiosks, at most")
    pace.add_argument(
        "--arrivals",
        type=above_zero,
        metavar="R",
        help="open loop: so many customers a second come to all kiosks together, in the busiest moment",
    )
    parser.add_argument(
        "--rhythm",
        choices=RHYTHMS,
        default=RHYTHMS[0],
        help="of --arrivals: day is a whole day, midnight to midnight, in the time of the run (default steady)",
    )
    _add_scenario(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the scenario's seed")
    parser.add_argument("--book", type=Path, metavar="FILE", help="where the kiosks keep their book, JSON lines")
    parser.add_argument(
        "--profile", choices=tuple(limits.PROFILES), default="short", help="times of the kiosk (default short)"
    )
    settle_help = f"how long unclear payments are asked for at the end (default {SETTLE_S:g})"
    parser.add_argument("--settle", type=float, default=SETTLE_S, metavar="S", help=settle_help)
    parser.add_argument("--first-terminal", type=test_terminals, default=1, metavar="N", help="first kiosk's number")
    parser.add_argument("--first-account", type=int, default=0, metavar="N", help="number of the first customer")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="speak TLS with a folder of: gridswitch certs dev")
    parser.add_argument("--json", action="store_true", help="report as one JSON object")
    parser.set_defaults(run=fleet_command)
    return parser


def add_generate_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Register ``generate``; the parsed arguments go to ``generate_command``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "generate",
        help="load a switch with payments at a measured rate: many kiosks at a tenth of what a fleet costs",
        description="Load for measurements. A run is a row of phases: closed (so many payments under way at any time) "
        "or open (so many begin each second, whatever the answers do; times count from the instant at which a payment "
        "was due). Exit code 1 when a payment has no final word at the end.",
        epilog=_GENERATE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--connect", required=True, metavar="HOST:PORT", help="kiosk port of a switch on this machine")
    parser.add_argument("--kiosks", type=test_terminals, default=100, metavar="N", help="that pay (default 100)")
    parser.add_argument(
        "--idle", type=int, default=0, metavar="N", help="more kiosks that only sign on and stay connected (default 0)"
    )
    parser.add_argument(
        "--phase",
        action="append",
        required=True,
        metavar="SPEC",
        help="NAME:closed:INFLIGHT:SECONDS, NAME:open:RATE:SECONDS or NAME:open:RATE:SECONDS:poisson; may be given "
        "again; NAME+N adds N probes a second; - reads them from standard input, one a line",
    )
    _add_scenario(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the scenario's seed")
    parser.add_argument("--book", type=Path, metavar="FILE", help="where the kiosks keep their book, JSON lines")
    settle_help = f"how long unclear payments are asked for at the end (default {SETTLE_S:g})"
    parser.add_argument("--settle", type=float, default=SETTLE_S, metavar="S", help=settle_help)
    parser.add_argument("--first-terminal", type=test_terminals, default=1, metavar="N", help="first kiosk's number")
    parser.add_argument("--first-account", type=int, default=0, metavar="N", help="number of the first customer")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="speak TLS with a folder of: gridswitch certs dev")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: ready, begun, ended, result")
    parser.set_defaults(run=generate_command)
    return parser


def generate_command(args: argparse.Namespace) -> int:
    """Run a generator and report; gives the exit code."""
    return _guarded(_run_generator, args)


def host_command(args: argparse.Namespace) -> int:
    """Run one host; gives the exit code. Prints one line when it is ready."""
    return _guarded(_run_host, args)


def fleet_command(args: argparse.Namespace) -> int:
    """Run a fleet and report; gives the exit code."""
    return _guarded(_run_fleet, args)


async def _run_host(args: argparse.Namespace) -> int:
    address, port = _address(args.listen, "--listen")
    scenario = _scenario(args)
    host: UnionPayHost | MarketingHost
    if args.kind == "unionpay":
        host = UnionPayHost(address, port, args.ledger, scenario, cut_over_in_s=args.cut_over_in)
    else:
        specs = tuple(args.spec or ("marketing_json_1_0",))
        host = MarketingHost(address, port, args.ledger, scenario, cut_over_in_s=args.cut_over_in, specs=specs)
    host.tls = None if args.tls is None else host_tls(args.tls)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await host.start()
    _say(
        f"{args.kind} host listening on {address}:{host.port}, ledger {args.ledger}, scenario {scenario.name}, "
        f"seed {scenario.seed}"
    )
    await stopped.wait()
    await host.stop()
    counts = ", ".join(f"{name} {count}" for name, count in sorted(host.counts.items())) or "no requests"
    _say(f"{args.kind} host stopped: {counts}")
    return EXIT_OK


async def _run_fleet(args: argparse.Namespace) -> int:
    address, port = _address(args.connect, "--connect")
    if args.arrivals:
        return await _run_hall(args, address, port)
    result = await run_fleet(
        address,
        port,
        args.count,
        args.seconds,
        args.rate,
        _scenario(args),
        args.book,
        profile=limits.PROFILES[args.profile],
        settle_s=args.settle,
        first_terminal=args.first_terminal,
        first_account=args.first_account,
        progress=None if args.json else _show_progress,
        tls_dir=args.tls,
    )
    if args.json:
        _say(orjson.dumps(result.to_dict()).decode())
    else:
        _say(_report(result))
    if not result.payments:
        sys.stderr.write(f"gridswitch: not one payment was made; {_why(result)}\n")
    return EXIT_FAILED if result.unknown or result.events["contradiction"] or not result.payments else EXIT_OK


async def _run_hall(args: argparse.Namespace, address: str, port: int) -> int:
    check_files(args.count)
    tell = _tell_json if args.json else _tell_nothing

    def heard(hall: Hall, event: str) -> None:
        if event == "ready":
            tell({"event": event, "kiosks": hall.count})
        else:
            tell({"event": event, "phase": "visits", **(hall.to_phase() if event == "ended" else {})})

    hall = await run_hall(
        address,
        port,
        args.count,
        args.seconds,
        Arrivals(args.arrivals, args.rhythm),
        _scenario(args),
        args.book,
        profile=limits.PROFILES[args.profile],
        settle_s=args.settle,
        first_terminal=args.first_terminal,
        first_account=args.first_account,
        heard=heard,
        progress=None if args.json else _show_progress,
        tls_dir=args.tls,
    )
    result = hall.result
    if args.json:
        told = {"unclear": result.unknown, "phases": {"visits": hall.to_phase()}}
        tell({"event": "result", **told, "events": dict(sorted(result.events.items()))})
    else:
        _say(_hall_report(hall))
        _say(_report(result))
    wrong = result.unknown or result.events["contradiction"] or result.events["slip_wrong"]
    return EXIT_FAILED if wrong or not result.payments else EXIT_OK


def _hall_report(hall: Hall) -> str:
    came = ", ".join(f"{what} {count}" for what, count in hall.visits.most_common())
    lines = [f"{sum(hall.visits.values())} customers at {hall.count} kiosks in {hall.seconds:.1f} s: {came}"]
    if hall.left or hall.unserved:
        lines.append(f"  {hall.left} left because their kiosk was busy, {hall.unserved} because it had no line")
    for name, histogram in hall.times.items():
        if histogram.count:
            ms = histogram.to_dict()
            shares = ", ".join(f"{share} {ms[f'{share}_ms']:.1f}" for share in ("p50", "p90", "p99", "p999", "max"))
            lines.append(f"  {name:<9}{histogram.count:>8}  {shares} ms")
    spent = 1e6 * hall.cpu_s / max(1, sum(hall.visits.values()))
    mib = hall.to_phase()["rss_bytes"] / (1 << 20)
    lines.append(f"  this process: {spent:.0f} µs of CPU a customer, {hall.cpu_s:.1f} s in all, {mib:.0f} MiB at most")
    return "\n".join(lines)


async def _run_generator(args: argparse.Namespace) -> int:
    address, port = _address(args.connect, "--connect")
    from_input = args.phase == ["-"]
    phases = [] if from_input else [Phase.parse(text) for text in args.phase]
    check_files(args.kiosks + args.idle)
    generator = Generator(
        address,
        port,
        args.kiosks,
        _scenario(args),
        args.book,
        settle_s=args.settle,
        first_terminal=args.first_terminal,
        first_account=args.first_account,
        idle=args.idle,
        tls_dir=args.tls,
    )
    tell = _tell_json if args.json else _tell_nothing
    results = []
    try:
        ready = await generator.start(SIGN_ON_S)
        tell({"event": "ready", "kiosks": ready})
        if ready < args.kiosks + args.idle:
            raise StartError(
                "generator",
                f"{ready} of {args.kiosks + args.idle} kiosks signed on within {SIGN_ON_S:g} s; events: "
                f"{dict(generator.events) or 'none'}",
            )
        async for phase in _phases_of_input() if from_input else _each(phases):
            tell({"event": "begun", "phase": phase.name})
            result = await generator.play(phase)
            results.append(result)
            tell({"event": "ended", "phase": phase.name, **result.to_dict()})
        unclear = await generator.settle()
    finally:
        await generator.stop()
    told = {
        "event": "result",
        "unclear": unclear,
        "phases": {result.name: result.to_dict() for result in results},
        **{name: dict(sorted(getattr(generator, name).items())) for name in ("events", "codes", "finals")},
    }
    tell(told)
    if not args.json:
        for result in results:
            _say(_phase_report(result))
        _say(f"{unclear} have no final word; events: {told['events'] or 'none'}")
    paid = sum(result.paid for result in results)
    return EXIT_FAILED if unclear or not paid else EXIT_OK


async def _each(phases: list[Phase]) -> AsyncIterator[Phase]:
    for phase in phases:
        yield phase


async def _phases_of_input() -> AsyncIterator[Phase]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield Phase.parse(line.decode().strip())


def _tell_json(facts: dict[str, Any]) -> None:
    _say(orjson.dumps(facts).decode())


def _tell_nothing(_facts: dict[str, Any]) -> None:
    pass


def _phase_report(result: PhaseResult) -> str:
    ms = {name: 1000 * result.payment.at(share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))}
    refused = ", ".join(f"{code} {count}" for code, count in sorted(result.refused.items()))
    return (
        f"{result.name}: {result.due} payments due in {result.seconds:.1f} s, {result.paid} paid "
        f"({result.paid_within / result.seconds:.0f} a second), {result.declined} declined, {result.doubtful} in doubt"
        + (f", refused: {refused}" if refused else "")
        + "; "
        + ", ".join(f"{name} {value:.2f} ms" for name, value in ms.items())
        + f"; begun late by {1000 * result.late.at(0.99):.2f} ms (p99); "
        + f"{1e6 * result.cpu_s / max(1, result.ended_within):.0f} µs of CPU a payment here"
    )


def _why(result: FleetResult) -> str:
    if result.events["sign_on_97"]:
        return "97: the switch does not know these terminals; run: gridswitch terminal add-test --count N"
    return "events: " + (", ".join(f"{name} {count}" for name, count in sorted(result.events.items())) or "none")


def _report(result: FleetResult) -> str:
    yuan = result.fen_completed / 100
    lines = [
        f"{result.payments} payments of {result.kiosks} kiosks in {result.seconds:.1f} s: "
        f"{result.payments_per_s:.1f} a second, first word after {result.latency_ms(0.5):.1f} ms (p50), "
        f"{result.latency_ms(0.99):.1f} ms (p99)",
        f"  completed {result.completed} ({yuan:,.2f} yuan), declined {result.declined}, refused {result.refused}, "
        f"not charged {result.not_charged}, returned {result.returned}, unproven {result.unproven}, "
        f"suspense {result.suspense}",
        f"  {result.in_doubt} were in doubt on the way; {result.unknown} have no final word",
    ]
    if result.bills_refused:
        lines.append(f"  {result.bills_refused} bill inquiries gave no bill")
    if result.events:
        lines.append("  events: " + ", ".join(f"{name} {count}" for name, count in sorted(result.events.items())))
    return "\n".join(lines)


def _show_progress(result: FleetResult) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(
            f"\r{result.seconds:5.1f} s  {result.payments} payments, {result.completed} completed, "
            f"{result.declined} declined, {result.in_doubt} in doubt "
        )
        sys.stderr.flush()


def _guarded(run: Any, args: argparse.Namespace) -> int:
    try:
        code: int = uvloop.run(run(args))
    except (StartError, ConfigError) as error:
        sys.stderr.write(f"gridswitch: {error}\n")
        return EXIT_USAGE
    except SwitchError as error:
        sys.stderr.write(f"gridswitch: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    return code


def _scenario(args: argparse.Namespace) -> Scenario:
    scenario = load_scenario(args.scenario)
    return scenario if args.seed is None else scenario.with_seed(args.seed)


def _address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(option, f"expected HOST:PORT, e.g. 127.0.0.1:9001, not {text!r}")
    host = host.strip("[]")
    if host not in LOOPBACK:
        # Simulators carry published keys and make load: neither has any business on another machine.
        raise ConfigError(option, f"simulators stay on this machine ({', '.join(LOOPBACK)}), not {host}")
    return host, int(port)


def _add_scenario(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scenario",
        default="calm",
        metavar="NAME|FILE",
        help=f"how it behaves: {', '.join(BUNDLED)}, or a TOML file (default calm)",
    )


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected at least 1")
    return value


def test_terminals(text: str) -> int:
    number = at_least_one(text)
    if number > TERMINALS_MAX:
        raise argparse.ArgumentTypeError(f"{number}: at most {TERMINALS_MAX} test terminals")
    return number


def above_zero(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("expected more than 0")
    return value


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gridswitch", description="Simulators of the switch's neighbours.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    add_host_parser(subparsers)
    add_fleet_parser(subparsers)
    add_generate_parser(subparsers)
    args = parser.parse_args(arguments)
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
