"""``gridswitch ledger``, ``verify-chain``, ``project``: the books off the path, looked at and made again."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from switch.limits import BATCHES_SHOWN_MAX, SETTLE_TRIES_LOUD
from switch.machines import days
from switch.machines.payment import SUSPENSE_ACCOUNT
from switch.ops.proof import yuan
from switch.store import projector
from switch.store.pool import connected
from switch.store.queries import QUERY


async def show_ledger(dsn: str, *, as_json: bool) -> int:
    """0 only if the sum is zero and the suspense account holds what is open."""
    books = await projector.read_books(dsn)
    held = -next((balance for name, _, _, balance in books.accounts if name == SUSPENSE_ACCOUNT), 0)
    even = books.total == 0 and held == books.suspense_due
    if as_json:
        accounts = {name: balance for name, _, _, balance in books.accounts}
        print(orjson.dumps({"accounts": accounts, "sum": books.total, "suspense_due": books.suspense_due}).decode())
        return 0 if even else 1
    table = Table(show_edge=False, pad_edge=False)
    for name in ("account", "debit", "credit", "balance"):
        table.add_column(name, justify="left" if name == "account" else "right")
    for name, debit, credit, balance in books.accounts:
        table.add_row(name, yuan(debit), yuan(credit), yuan(balance))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"{books.events:,} events in the books; sum of all balances {yuan(books.total)}")
    colour = "green" if held == books.suspense_due else "red"
    console.print(
        f"[{colour}]in suspense {yuan(held)}, open payments account for {yuan(books.suspense_due)}[/{colour}]"
    )
    return 0 if even else 1


async def show_batches(dsn: str) -> int:
    """0 only if no kiosk has settled a day that differs, and the card network has our totals."""
    async with connected(dsn, "batches") as connection:
        rows = await connection.fetch(QUERY["batch_list"], BATCHES_SHOWN_MAX)
        batches = await connection.fetch(QUERY["settle_list"], SETTLE_TRIES_LOUD, BATCHES_SHOWN_MAX)
    seen = set()
    for row in rows:
        key = (row["terminal_id"], row["asked_on"], row["serial"])
        if key not in seen:
            seen.add(key)
            there, here = (f"{row[f'{side}_count']} of {yuan(row[f'{side}_fen'])}" for side in ("kiosk", "switch"))
            print(
                f"{row['terminal_id']}  day {row['day']}, asked {row['asked_on']}-{row['serial']}, {row['state']}: "
                f"kiosk has {there}, journal {here}"
            )
        if row["kind"]:
            payment = f", payment {row['payment_id']}" if row["payment_id"] else ""
            amounts = f"kiosk {yuan(row['kiosk_one'])}, journal {yuan(row['journal_one'])}"
            print(f"    {row['payment_serial']}  {row['kind']}: {amounts}{payment}")
    print(f"{len(seen)} settlements differ")
    for row in batches:
        said = "the card network does not settle it" if row["state"] == "asked" else "the card network has other totals"
        print(
            f"{row['terminal_id']}  batch {row['batch_number']}, day {row['day']}, {row['state']}: {said}; "
            f"we have {row['count']} of {yuan(row['fen'])}, asked {row['tries']} times"
        )
    print(f"{len(batches)} batches with the card network are not balanced")
    return 1 if rows or batches else 0


async def check_chain(dsn: str, *, seal_now: bool) -> int:
    """0 only if nothing was changed, removed or added."""
    if seal_now:
        today = days.day_number(days.local(int(datetime.now(UTC).timestamp() * 1_000_000)))
        async with connected(dsn, "seal") as connection:
            while await projector.project(connection):
                pass
            await projector.seal(connection, today, now=True)
    report = await projector.verify_chain(dsn)
    print(
        f"{report.payments:,} payments, {report.events:,} events; {report.seals} seals over {report.sealed:,} of them"
    )
    for fault in report.broken[:20]:
        print(f"BROKEN {fault}")
    print(
        "every chain and every seal holds" if not report.broken else f"{len(report.broken)} chains or seals are broken"
    )
    return 1 if report.broken else 0


async def rebuild(dsn: str) -> int:
    print(f"the books were made again from {await projector.rebuild(dsn):,} events")
    return 0


def add_books_parsers(commands: Any, run: Any) -> None:
    """``run(arguments, job)``: opens the configured database and runs ``job(dsn)``."""

    def command(name: str, help_text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, description=help_text)
        default = Path("switch.toml")
        parser.add_argument("--config", type=Path, default=default, metavar="FILE", help="default switch.toml")
        return parser

    ledger = command("ledger", "balances of every account; exit status 1 if their sum is not zero")
    ledger.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    ledger.set_defaults(run=lambda arguments: run(arguments, lambda dsn: show_ledger(dsn, as_json=arguments.json)))
    batches = command(
        "batches", "settlements of kiosks, and with the card network, that differ; exit status 1 if there are any"
    )
    batches.set_defaults(run=lambda arguments: run(arguments, show_batches))
    chain = command("verify-chain", "prove that no event was changed, removed or added")
    chain.add_argument("--seal-now", action="store_true", help="seal what is there first, instead of once a day")
    chain.set_defaults(run=lambda arguments: run(arguments, lambda dsn: check_chain(dsn, seal_now=arguments.seal_now)))
    again = command("rebuild-books", "make the books off the path again from all events")
    again.set_defaults(run=lambda arguments: run(arguments, rebuild))
