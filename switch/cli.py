"""The command ``gridswitch``: one parser, one function per command, errors without tracebacks."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from switch import __version__
from switch.errors import StartError, SwitchError

EXIT_OK, EXIT_DIFFERENCES, EXIT_WRONG = 0, 1, 2

_OURS = {"switch", "iso8583"}  # a module of these that is missing is a fault of ours, not an extra to install

_EPILOG = """\
first steps:
  gridswitch demo --seconds 10          everything at once: hosts, switch, fleet, proof
  gridswitch check-config switch.toml   what is wrong with a configuration, and what to do
  gridswitch run --config switch.toml   the switch
"""


def main(argv: list[str] | None = None) -> int:
    try:
        words = sys.argv[1:] if argv is None else argv
        if words[:1] == ["admin"]:  # its options are its own: the parser below must not read them
            return _admin(words[1:])
        arguments = _parser().parse_args(words)
        status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except SwitchError as error:
        print(f"gridswitch: {error}", file=sys.stderr)
        return EXIT_WRONG
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in _OURS:
            raise
        # A plain `pip install gridswitch` is the ISO 8583 library alone, but brings this command along.
        remedy = "the switch needs its extra; run: pip install 'gridswitch[switch]' [extra]"
        print(f"gridswitch: {name} is not installed: {remedy}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        print("gridswitch: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough, e.g. `| head`. Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"gridswitch: {where}{(error.strerror or str(error)).lower()} [os]", file=sys.stderr)
        return EXIT_WRONG


def _parser() -> argparse.ArgumentParser:
    from switch.kiosk.__main__ import add_kiosk_parser
    from switch.kiosk.agent.cli import add_agent_parser
    from switch.ops.bench import add_bench_parser
    from switch.ops.books import add_books_parsers
    from switch.ops.cases import add_case_parser
    from switch.ops.certs import add_certs_parser
    from switch.ops.drill import add_drill_parser
    from switch.ops.faultproxy import add_faultproxy_parser
    from switch.ops.interface import add_interface_parser
    from switch.ops.keys import add_key_parser
    from switch.ops.linetest import add_line_test_parser
    from switch.ops.rig import add_marketing_option, add_rig_parser
    from switch.ops.scan import add_scan_parser
    from switch.ops.specs import add_spec_parser
    from switch.ops.status import add_status_parsers
    from switch.sim.agents import add_agents_parser
    from switch.sim.commands import (
        above_zero,
        add_fleet_parser,
        add_generate_parser,
        add_host_parser,
        at_least_one,
        test_terminals,
    )
    from switch.sim.simulate import add_sim_parser
    from switch.sim.verify_model import add_verify_parser

    parser = argparse.ArgumentParser(
        prog="gridswitch",
        description="Payment front-end between self-service kiosks, UnionPay and the utility's marketing system.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gridswitch {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run the switch until SIGTERM, which drains it")
    _config_option(run)
    run.add_argument("--workers", type=int, metavar="N", help="processes, instead of worker.count")
    # One of them, started by their supervisor.
    run.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    run.set_defaults(run=_run)

    migrate = commands.add_parser("migrate", help="bring the database's schema up to this version")
    _config_option(migrate)
    migrate.set_defaults(run=_migrate)

    check = commands.add_parser("check-config", help="check a configuration file; says file, key, problem, remedy")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check_config)

    example = commands.add_parser("example-config", help="print every option with unit, default, bounds and help")
    example.set_defaults(run=_example_config)

    terminal = commands.add_parser("terminal", help="terminals: register them, bring them into service, list them")
    actions = terminal.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="terminals with their merchant, service state and batch")
    _config_option(listing)
    listing.set_defaults(run=_terminal_list)
    registering = actions.add_parser(
        "add", help="register a terminal: the first gate on its way into service", aliases=["register"]
    )
    _config_option(registering)
    registering.add_argument("terminal", metavar="TERMINAL", help="its number at the acquirer (field 41), 8 characters")
    registering.add_argument("merchant", metavar="MERCHANT", help="its merchant (field 42), 15 characters")
    registering.add_argument(
        "--key-mode",
        choices=("dual_tmk", "translate", "mac_in_ped"),
        default="dual_tmk",
        help="dual_tmk: the acquirer's keys in the PIN pad (default); translate: ours, and PINs are translated; "
        "mac_in_ped is refused",
    )
    registering.set_defaults(run=_terminal_add)
    showing = actions.add_parser("show", help="a terminal's gates: when each was passed, what proved it, what is next")
    _config_option(showing)
    showing.add_argument("terminal", metavar="TERMINAL", help="its number")
    showing.set_defaults(run=_terminal_show)
    onboarding = actions.add_parser(
        "onboard",
        help="follow a terminal through its gates and put it into service",
        description="Registered, keys, sign-on, three echo tests with MAC, an inquiry for the test account, a payment "
        "for it that is given back, in service: each gate is passed by what the switch has seen, in this order. Shows "
        "each one as it is passed and says what opens the next.",
    )
    _config_option(onboarding)
    onboarding.add_argument("terminal", metavar="TERMINAL", help="its number")
    onboarding.add_argument(
        "--seconds", type=above_zero, default=600.0, metavar="S", help="how long to wait in all (default 600)"
    )
    onboarding.set_defaults(run=_terminal_onboard)
    adding = actions.add_parser("add-test", help="add terminals whose keys the simulated card host knows")
    _config_option(adding)
    adding.add_argument(
        "--count", type=test_terminals, default=50, metavar="N", help="how many, from number 1 (default 50)"
    )
    adding.set_defaults(run=_terminal_add_test)

    proof = commands.add_parser(
        "proof",
        help="compare the switch's journal with the two hosts' own books",
        description="Three-way proof: every payment against what the simulated card host and marketing system "
        "wrote into their truth ledgers. Exit status 0 only when nothing is open and nothing differs.",
    )
    _config_option(proof)
    proof.add_argument("--card-ledger", type=Path, required=True, metavar="FILE", help="truth ledger of the card host")
    proof.add_argument(
        "--marketing-ledger", type=Path, required=True, metavar="FILE", help="truth ledger of the marketing system"
    )
    proof.add_argument("--kiosk-book", type=Path, metavar="FILE", help="what a fleet of kiosks was told, as well")
    proof.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    proof.set_defaults(run=_proof)

    demo = commands.add_parser(
        "demo",
        help="run everything for some seconds and prove that the three books agree",
        description="Starts PostgreSQL, both simulated hosts and the switch, signs virtual kiosks on and lets them "
        "pay; then prints the three-way proof. The last line is one JSON object.",
    )
    demo.add_argument("--seconds", type=above_zero, default=20.0, metavar="S", help="seconds of load (default 20)")
    demo.add_argument("--kiosks", type=at_least_one, default=50, metavar="N", help="virtual kiosks (default 50)")
    demo.add_argument("--scenario", default="demo", metavar="NAME", help="faults: calm, demo, storm or a TOML file")
    demo.add_argument(
        "--security",
        choices=("software", "pkcs11"),
        default="software",
        help="security module; pkcs11: a SoftHSM2 token made for this run (default software)",
    )
    demo.add_argument("--tls", action="store_true", help="with TLS between kiosks, switch and both hosts")
    add_marketing_option(demo)
    demo.add_argument("--keep", action="store_true", help="leave everything running at the end")
    demo.add_argument(
        "--dir",
        type=Path,
        default=Path(".gridswitch/demo"),
        metavar="DIR",
        help="its own folder for data and logs, emptied at every start (default .gridswitch/demo)",
    )
    demo.set_defaults(run=_demo)

    commands.add_parser("admin", help="the admin service for operators, in its own process; see admin --help")

    add_host_parser(commands)
    add_agent_parser(commands)
    add_agents_parser(commands)
    add_fleet_parser(commands)
    add_generate_parser(commands)
    add_verify_parser(commands)
    add_sim_parser(commands)
    add_interface_parser(commands)
    add_status_parsers(commands)
    add_drill_parser(commands)
    add_bench_parser(commands)
    add_rig_parser(commands)
    add_case_parser(commands, _on_database)
    add_key_parser(commands, _on_database)
    add_books_parsers(commands, _on_database)
    add_faultproxy_parser(commands)
    add_scan_parser(commands, _on_database)
    add_certs_parser(commands)
    add_line_test_parser(commands)
    add_spec_parser(commands)
    add_kiosk_parser(commands)
    return parser


def _config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("switch.toml"), metavar="FILE", help="configuration (default switch.toml)"
    )


def _uvloop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import uvloop

    return uvloop.run(coroutine)


@contextmanager
def _database(config: Any) -> Iterator[str]:
    """DSN of the configured database, or of the private server: started if it does not run, and then stopped again."""
    from switch.ops.postgres import EmbeddedPostgres

    if config.database.dsn:
        yield config.database.dsn
        return
    server = EmbeddedPostgres(Path(config.database.data_dir))
    was_running = server.pid is not None
    dsn = server.start()
    try:
        yield dsn
    finally:
        if not was_running:
            server.stop()


async def _ready_schema(config: Any, dsn: str) -> None:
    """A private server's schema is ours to bring up to date; on another one a person decides."""
    from switch.store.migrate import migrate, pending

    if not config.database.dsn:
        await migrate(dsn)
    elif missing := await pending(dsn):
        raise StartError("schema", f"the database lacks {len(missing)} migrations; run: gridswitch migrate")


def _run(arguments: argparse.Namespace) -> int:
    from switch.config import load
    from switch.ops.supervise import of_worker, supervise
    from switch.runtime.supervisor import serve
    from switch.store.migrate import migrate

    config = load(arguments.config, workers=arguments.workers)
    with _database(config) as dsn:
        if arguments.worker:
            _uvloop(serve(of_worker(config, arguments.worker), dsn))
            return EXIT_OK
        if not config.database.dsn:
            _uvloop(migrate(dsn))
        if config.worker.count > 1:
            return supervise(config, arguments.config)
        _uvloop(serve(config, dsn))  # waits for another's database that is just starting, and checks its schema
    return EXIT_OK


def _admin(words: list[str]) -> int:
    """Becomes ``python -m admin``: signals and exit status are its own."""
    if find_spec("litestar") is None:
        raise StartError("extra", "the admin service needs its extra; run: pip install 'gridswitch[admin]'")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "admin", *words])  # noqa: S606


def _migrate(arguments: argparse.Namespace) -> int:
    from switch.config import load
    from switch.store.migrate import migrate

    with _database(load(arguments.config)) as dsn:
        applied = _uvloop(migrate(dsn))
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("nothing to do: the schema is up to date")
    return EXIT_OK


def _check_config(arguments: argparse.Namespace) -> int:
    from switch.config import check

    problems = check(arguments.file)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return EXIT_WRONG
    print(f"{arguments.file}: good")
    return EXIT_OK


def _example_config(arguments: argparse.Namespace) -> int:
    from switch.config import document

    print(document(), end="")
    return EXIT_OK


def _on_database(arguments: argparse.Namespace, job: Callable[[str], Coroutine[Any, Any, int]]) -> int:
    """Run ``job(dsn)`` on the configured database, whose schema is up to date."""
    from switch.config import load

    config = load(arguments.config)

    async def done(dsn: str) -> int:
        await _ready_schema(config, dsn)
        return await job(dsn)

    with _database(config) as dsn:
        status: int = _uvloop(done(dsn))
    return status


def _terminal_list(arguments: argparse.Namespace) -> int:
    from switch.config import load
    from switch.ops.terminals import list_terminals

    config = load(arguments.config)

    async def listed(dsn: str) -> list[str]:
        await _ready_schema(config, dsn)
        return await list_terminals(dsn)

    with _database(config) as dsn:
        for line in _uvloop(listed(dsn)):
            print(line)
    return EXIT_OK


def _terminal_add(arguments: argparse.Namespace) -> int:
    from switch.config import load
    from switch.ops.terminals import register

    config = load(arguments.config)

    async def added(dsn: str) -> int:
        print(await register(config, dsn, arguments.terminal, arguments.merchant, arguments.key_mode))
        return EXIT_OK

    return _on_database(arguments, added)


def _terminal_show(arguments: argparse.Namespace) -> int:
    from switch.ops.terminals import show_terminal

    async def shown(dsn: str) -> int:
        for line in await show_terminal(dsn, arguments.terminal):
            print(line)
        return EXIT_OK

    return _on_database(arguments, shown)


def _terminal_onboard(arguments: argparse.Namespace) -> int:
    from switch.ops.terminals import onboard

    async def done(dsn: str) -> int:
        finished = await onboard(dsn, arguments.terminal, arguments.seconds, lambda line: print(line, flush=True))
        return EXIT_OK if finished else EXIT_DIFFERENCES

    return _on_database(arguments, done)


def _terminal_add_test(arguments: argparse.Namespace) -> int:
    from switch.config import load
    from switch.ops.terminals import add_test_terminals

    config = load(arguments.config)

    async def added(dsn: str) -> int:
        await _ready_schema(config, dsn)
        return await add_test_terminals(config, dsn, arguments.count)

    with _database(config) as dsn:
        print(f"added {_uvloop(added(dsn))} test terminals")
    return EXIT_OK


def _proof(arguments: argparse.Namespace) -> int:
    from switch.config import load
    from switch.ops.proof import prove
    from switch.ops.report import print_proof
    from switch.sim.threeway import Proof

    config = load(arguments.config)

    async def proved(dsn: str) -> Proof:
        await _ready_schema(config, dsn)
        return await prove(dsn, arguments.card_ledger, arguments.marketing_ledger, arguments.kiosk_book)

    with _database(config) as dsn:
        proof: Proof = _uvloop(proved(dsn))
    print_proof(proof, as_json=arguments.json)
    return EXIT_OK if proof.holds else EXIT_DIFFERENCES


def _demo(arguments: argparse.Namespace) -> int:
    from switch.ops.demo import Demo

    demo = Demo(
        arguments.dir,
        seconds=arguments.seconds,
        kiosks=arguments.kiosks,
        scenario=arguments.scenario,
        keep=arguments.keep,
        security=arguments.security,
        tls=arguments.tls,
        marketing=arguments.marketing,
    )
    return demo.run()
