"""``gridswitch case list|show|resolve``: payments that wait for a person, decided under four eyes.

A person decides only what both sides already show: whatever was missing has been posted, undone or refunded before.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from switch.errors import BadRequestError
from switch.machines.days import local
from switch.observe.log import mask
from switch.ops.proof import yuan
from switch.store import cases
from switch.store.cases import DECISIONS, Case

CARRIED_OUT_S: Final = 10.0  # a running switch looks every second or so
_POLL_S: Final = 0.2


async def list_cases(dsn: str, *, as_json: bool) -> int:
    found = await cases.open_cases(dsn)
    if as_json:
        print(orjson.dumps([_plain(case) for case in found]).decode())
        return 0
    console = Console(highlight=False, soft_wrap=True)
    if not found:
        console.print("no payment waits for a person")
        return 0
    table = Table(show_edge=False, pad_edge=False)
    for name, justify in (
        *(("case", "left"), ("state", "left"), ("amount", "right"), ("account", "left"), ("terminal", "left")),
        *(("since", "left"), ("decision", "left")),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for case in found:
        body = case.payment.body
        table.add_row(
            *(case.number, case.payment.state.value, yuan(case.amount), body["account"], body["terminal"]),
            *(_when(case.events[-1]["wall_us"]), _standing(case)),
        )
    console.print(table)
    return 0


async def show_case(dsn: str, number: str, *, as_json: bool) -> int:
    case = await _case(dsn, number)
    if as_json:
        print(orjson.dumps(_plain(case)).decode())
        return 0
    console = Console(highlight=False, soft_wrap=True)
    body = case.payment.body
    console.print(f"[bold]{case.number}[/bold]  {case.payment.state}  {yuan(case.amount)}")
    facts = {
        "account": body["account"],
        "card": body["card_masked"],
        "terminal": f"{body['terminal']}, batch {body['batch']}, trace number {body['stan']}",
        "kiosk": f"serial {body['kiosk_serial']} of {body['kiosk_date']}",
        "card network": f"reference {body.get('rrn') or 'none'}, last code {body.get('response_code') or 'none'}, "
        f"settlement day {body['settlement_day']}, approval {'seen' if body.get('approved_seen') else 'never seen'}",
    }
    for name, text in facts.items():
        console.print(f"  {name:<13}{escape(text)}")
    for posting in body["postings"]:
        console.print(f"  {'posting':<13}{posting[1]} {yuan(posting[4])} serial {posting[5]}: {posting[6]}")
    console.print("\nwhat happened")
    for event in case.events:
        changed: dict[str, Any] = orjson.loads(event["body"])
        why = f"  ({escape(str(changed['reason']))})" if "reason" in changed else ""
        console.print(f"  {_when(event['wall_us'])}  row {event['row']:<4} {event['state']}{why}")
    if case.decisions:
        console.print("\ndecisions")
    for each in case.decisions:
        console.print(f"  {each['decision']}: {escape(each['evidence'])}")
        confirmed = f", confirmed by {each['confirmed_by']}" if each["confirmed_by"] else ""
        console.print(f"    proposed by {each['proposed_by']}{confirmed}; {each['outcome'] or _standing(case)}")
    return 0


async def resolve_case(dsn: str, arguments: argparse.Namespace) -> int:
    case = await _case(dsn, arguments.case)
    console = Console(highlight=False, soft_wrap=True)
    if arguments.withdraw:
        await cases.withdraw(dsn, case)
        console.print(f"{case.number}: withdrawn; the payment waits as before")
        return 0
    if not arguments.confirm:
        if arguments.decision is None or arguments.evidence is None:
            raise BadRequestError("case", "propose with --decision and --evidence; another person then says --confirm")
        if mask(arguments.evidence) != arguments.evidence:
            raise BadRequestError("case", "--evidence holds a card number; name the line or the ticket instead")
        await cases.propose(dsn, case, arguments.decision, arguments.evidence, arguments.by)
        console.print(f"{case.number}: {DECISIONS[arguments.decision]}")
        console.print(
            f"proposed by {arguments.by}; another person must confirm it: gridswitch case resolve "
            f"{case.number} --confirm --by NAME"
        )
        return 0
    decision_id = await cases.confirm(dsn, case, arguments.by)
    console.print(f"{case.number}: confirmed by {arguments.by}; the switch carries it out …")
    ends_at = time.monotonic() + CARRIED_OUT_S
    while time.monotonic() < ends_at:
        said = await cases.outcome(dsn, decision_id)
        if said is not None:
            console.print(f"{case.number}: {said}")
            return 0 if said == "done" else 1
        await asyncio.sleep(_POLL_S)
    console.print("no switch has carried it out yet: it will as soon as one runs that owns the payment")
    return 1


async def _case(dsn: str, number: str) -> Case:
    text = number.removeprefix("C")
    found = await cases.open_cases(dsn, int(text)) if text.isdigit() and int(text) < 1 << 63 else []
    if not found:
        raise BadRequestError("case", f"{number}: no such payment waits for a person; see: gridswitch case list")
    return found[0]


def _standing(case: Case) -> str:
    proposal = case.proposal
    if proposal is None:
        return "none proposed"
    if proposal["confirmed_by"] is None:
        return f"{proposal['decision']}, proposed by {proposal['proposed_by']}, not confirmed"
    return f"{proposal['decision']}, confirmed, not carried out yet"


def _plain(case: Case) -> dict[str, Any]:
    body = case.payment.body
    kept = ("account", "terminal", "card_masked", "batch", "stan", "settlement_day", "rrn", "response_code", "postings")
    proposal = case.proposal
    return {
        "case": case.number,
        "payment": str(case.payment.payment_id),
        "state": case.payment.state.value,
        "fen": case.amount,
        **{name: body.get(name) for name in kept},
        "decision": None
        if proposal is None
        else {name: proposal[name] for name in ("decision", "evidence", "proposed_by", "confirmed_by")},
    }


def _when(wall_us: int) -> str:
    return local(wall_us).strftime("%Y-%m-%d %H:%M:%S")


def add_case_parser(commands: Any, run: Any) -> None:
    """``run(config, job)``: opens the configured database and runs ``job(dsn)``."""
    case = commands.add_parser("case", help="payments that wait for a person: list, show, decide under four eyes")
    actions = case.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, help_text: str, **more: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(name, help=help_text, **more)
        parser.add_argument(
            "--config",
            type=Path,
            default=Path("switch.toml"),
            metavar="FILE",
            help="configuration (default switch.toml)",
        )
        return parser

    listing = action("list", "every payment that waits, oldest first")
    listing.add_argument("--json", action="store_true", help="one JSON array instead of the table")
    listing.set_defaults(run=lambda arguments: run(arguments, lambda dsn: list_cases(dsn, as_json=arguments.json)))
    showing = action("show", "one of them with everything that is known")
    showing.add_argument("case", metavar="CASE", help="its number, e.g. C7417400136210325504")
    showing.add_argument("--json", action="store_true", help="one JSON object instead of the text")
    showing.set_defaults(
        run=lambda arguments: run(arguments, lambda dsn: show_case(dsn, arguments.case, as_json=arguments.json))
    )
    resolving = action(
        "resolve",
        "propose a decision, or confirm another person's",
        epilog="decisions:\n" + "\n".join(f"  {name:<10}{text}" for name, text in DECISIONS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    resolving.add_argument("case", metavar="CASE", help="its number")
    resolving.add_argument(
        "--by", required=True, metavar="NAME", help="who decides; the confirmation needs another one"
    )
    resolving.add_argument("--decision", choices=tuple(DECISIONS), help="what is true at both sides; see below")
    resolving.add_argument("--evidence", metavar="TEXT", help="what shows it: files, lines, tickets; no card numbers")
    resolving.add_argument("--confirm", action="store_true", help="confirm what another person proposed")
    resolving.add_argument("--withdraw", action="store_true", help="take a proposal back that is not confirmed")
    resolving.set_defaults(run=lambda arguments: run(arguments, lambda dsn: resolve_case(dsn, arguments)))
