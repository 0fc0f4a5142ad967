"""``gridswitch status``, ``trace``, ``drain``: a running switch, asked through its control socket."""

from __future__ import annotations

import argparse
import socket
import time
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from switch.config import Config, load
from switch.errors import StartError
from switch.machines.days import local
from switch.ops.proof import yuan
from switch.ops.supervise import of_worker

_ANSWER_S: Final = 5.0
_FOLLOW_S: Final = 0.5
_CHECK_S: Final = 120.0  # a whole round of the three-way check

STOPPED_SHOWN_MAX: Final = 10  # terminals; `--json` has all


def ask(config: Config, *, timeout_s: float = _ANSWER_S, **request: Any) -> Any:
    """One order to the switch of this configuration, and its answer. Raises StartError."""
    path = config.control.path
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(timeout_s)
            line.connect(path)
            line.sendall(orjson.dumps(request) + b"\n")
            with line.makefile("rb") as answers:
                answer = orjson.loads(answers.readline())
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise StartError("control", f"{path}: no switch runs here; start it with: gridswitch run") from error
    except PermissionError as error:
        raise StartError("control", f"{path}: only the user who runs the switch may look into it") from error
    except (OSError, orjson.JSONDecodeError) as error:
        raise StartError("control", f"{path}: the switch does not answer: {error or type(error).__name__}") from error
    if "error" in answer:
        raise StartError("control", answer["error"])
    return answer["ok"]


def workers(config: Config) -> list[Config]:
    """A configuration for each worker of this switch."""
    count = config.worker.count
    return [config] if count == 1 else [of_worker(config, number) for number in range(1, count + 1)]


def _status(arguments: argparse.Namespace) -> int:
    found: list[Any] = []
    for config in workers(load(arguments.config)):
        try:
            found.append(ask(config, do="status"))
        except StartError as error:
            if config.worker.count == 1:
                raise
            found.append({"instance": config.worker.instance, "ready": False, "error": error.detail})
    for told in found:
        if arguments.json:
            print(orjson.dumps(told).decode())
        else:
            _print_status(told)
    return 0 if any(told["ready"] for told in found) else 1


def _print_status(told: Any) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if "error" in told:
        console.print(f"[bold]{told['instance']}[/bold]  [red]{escape(told['error'])}[/red]")
        return
    state = "[green]ready[/green]" if told["ready"] else "[red]not ready[/red]"
    console.print(
        f"[bold]{told['instance']}[/bold]  {state}  version {told['version']}, {told['environment']}, "
        f"epoch {told['epoch']}, up {_span(told['up_s'])}, time profile {told['time_profile']}"
    )
    for reason in told["not_ready"]:
        console.print(f"  [red]{escape(reason)}[/red]")
    for unknown in told["unknown"]:
        console.print(f"  [dim]unknown: {escape(unknown)}[/dim]")
    for note in told["notes"]:
        console.print(f"  [yellow]{escape(note)}[/yellow]")
    table = Table(show_header=False, show_edge=False, box=None, pad_edge=False, padding=(0, 2))
    journal, payments, reversals = told["journal"], told["payments"], told["reversals"]
    states = ", ".join(f"{count} {state}" for state, count in payments["states"].items())
    table.add_row("lease", "held" if told["lease_held"] else "[red]not held: nothing is sent[/red]")
    table.add_row(
        "journal",
        f"{'accepting' if journal['accepting'] else '[red]closed[/red]'}, {journal['pending']} wait for a commit",
    )
    for name, link in told["links"].items():
        up = "up" if link["up"] else "[red]down[/red]"
        breaker = ", [red]breaker open[/red]" if link["breaker_open"] else ""
        table.add_row(name, f"{up}, echo {link['echo_rtt_ms']:.1f} ms{breaker}")
    security = told["security"]
    table.add_row("security", f"{security['back_end']} ({escape(security['detail'])})")
    table.add_row("kiosks", f"{told['kiosks']['connections']} connected on port {told['kiosks']['port']}")
    if told["kiosks"]["stopped"]:
        table.add_row("stopped", f"[red]{', '.join(told['kiosks']['stopped'][:STOPPED_SHOWN_MAX])}[/red]: wrong MACs")
    for name, line in told["serial"].items():
        heard = (
            f"up, {len(line['kiosks'])} kiosks, silent for {_span(line['silent_s'])}"
            if line["up"]
            else "[red]down[/red]"
        )
        faults = f", {line['noise_bytes']} bytes of noise, {sum(line['discards'].values())} frames given up"
        table.add_row(name, f"{heard}{faults if line['noise_bytes'] or line['discards'] else ''}")
    table.add_row("payments", f"{payments['open']} open{f': {states}' if states else ''}")
    waiting = (
        f"{reversals['waiting']} wait, the oldest for {_span(reversals['oldest_s'])}"
        if reversals["waiting"]
        else "none"
    )
    table.add_row("reversals", waiting)
    for each in told["certificates"]:
        table.add_row(each["name"], f"{each['days_left']:.0f} days left ({escape(each['subject'])})")
    console.print(table)


def _trace(arguments: argparse.Namespace) -> int:
    after = {config.control.path: (config, 0) for config in workers(load(arguments.config))}
    wanted = {"link": arguments.link, "terminal": arguments.terminal, "limit": arguments.limit}
    while True:
        rows: list[Any] = []
        for path, (config, number) in after.items():
            told = ask(config, do="trace", after=number, **wanted)
            rows += told
            after[path] = config, told[-1]["number"] if told else number
        for row in sorted(rows, key=lambda row: (row["wall_us"], row["number"]))[-arguments.limit :]:
            if arguments.json:
                print(orjson.dumps(row).decode())
            else:
                arrow = "<-" if row["direction"] == "in" else "->"
                facts = "  ".join(f"{name}={value}" for name, value in row["facts"].items())
                at = local(row["wall_us"]).strftime("%H:%M:%S.%f")[:-3]
                print(f"{at}  {row['link']:<10} {arrow} {row['peer']:<21} {row['size']:>5} B  {facts}")
        if not arguments.follow:
            return 0
        time.sleep(_FOLLOW_S)


def _drain(arguments: argparse.Namespace) -> int:
    for config in workers(load(arguments.config)):
        told = ask(config, do="drain", on=not arguments.undo)
        still = f"draining: {told['open']} payments are still open"
        print(f"{config.worker.instance}: {still if told['draining'] else 'new payments are taken again'}")
    return 0


def _check_books(arguments: argparse.Namespace) -> int:
    # One of them looks at everybody's payments.
    told = ask(workers(load(arguments.config))[0], timeout_s=_CHECK_S, do="check")
    if arguments.json:
        print(orjson.dumps(told).decode())
    else:
        console = Console(highlight=False, soft_wrap=True)
        if not told["asked"]:
            console.print("[yellow]the marketing system cannot be asked now; this is what is known already[/yellow]")
        table = Table(show_edge=False, pad_edge=False)
        for name in ("class", "payments", "at risk"):
            table.add_column(name, justify="left" if name == "class" else "right")
        for kind, each in told["classes"].items():
            table.add_row(kind, f"{each['payments']:,}", yuan(each["fen"]))
        console.print(table)
        console.print(
            f"{told['compared']:,} compared now, {told['not_answered']:,} without an answer; "
            f"{told['undecided']:,} payments are undecided; money at risk {yuan(told['money_at_risk_fen'])}"
        )
        console.print("the card side is confirmed by the settlement file: there is no inquiry for it")
    return 1 if told["money_at_risk_fen"] else 0


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def add_status_parsers(commands: Any) -> None:
    def command(name: str, help_text: str, run: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, description=help_text)
        parser.add_argument(
            "--config", type=Path, default=Path("switch.toml"), metavar="FILE", help="default switch.toml"
        )
        parser.set_defaults(run=run)
        return parser

    status = command("status", "what a running switch is doing; exit status 1 when it is not ready", _status)
    status.add_argument("--json", action="store_true", help="one JSON object instead of the text")
    trace = command("trace", "the last messages of each link, without card data", _trace)
    trace.add_argument("--link", default="", metavar="NAME", help="only this one: kiosk, unionpay, marketing")
    trace.add_argument("--terminal", default="", metavar="ID", help="only messages of this terminal")
    trace.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default 50)")
    trace.add_argument("--follow", action="store_true", help="go on with what comes")
    trace.add_argument("--json", action="store_true", help="one JSON object a line")
    check = command(
        "check-books", "compare finished payments with both hosts now; exit status 1 on a difference", _check_books
    )
    check.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    drain = command("drain", "take no new payments; those that run are brought to an end", _drain)
    drain.add_argument("--undo", action="store_true", help="take new payments again")
