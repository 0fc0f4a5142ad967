"""The proof as people and programs read it."""

from __future__ import annotations

import orjson
from rich.console import Console
from rich.table import Table

from switch.machines.payment import M_PAYABLE, SUSPENSE_ACCOUNT, U_RECEIVABLE
from switch.model.payment import State
from switch.ops.proof import yuan
from switch.sim.threeway import SHOWN_MAX, Proof

_ORDER = (State.COMPLETED, State.DECLINED, State.REVERSED, State.REFUNDED, State.UNPROVEN, State.SUSPENSE)


def print_proof(proof: Proof, *, as_json: bool = False) -> None:
    if as_json:
        print(orjson.dumps(proof.to_dict()).decode())
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(proof_table(proof))
    for difference in proof.differences[:SHOWN_MAX]:
        console.print(f"  [red]{difference.kind}[/red]  {difference.key}  {difference.detail}  {yuan(difference.fen)}")
    if len(proof.differences) > SHOWN_MAX:
        console.print(f"  … and {len(proof.differences) - SHOWN_MAX} more")
    if proof.holds:
        console.print("[green]the three books agree to the fen[/green]")
    else:
        console.print(f"[red]the proof does not hold: {len(proof.differences)} differences, {proof.open} open[/red]")


def proof_table(proof: Proof) -> Table:
    table = Table(title="three-way proof", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("book")
    table.add_column("", justify="right")
    for state in _ORDER:
        if proof.count(state):
            table.add_row(f"payments {state}", f"{proof.count(state):,}")
    table.add_row("payments open", f"{proof.open:,}")
    months = ", ".join(f"{count:,} of {n}" for n, count in sorted(proof.months.items()))
    table.add_row("months on one payment", months, end_section=True)
    table.add_row("switch: completed", yuan(proof.fen))
    table.add_row("card host: charged, net", yuan(proof.charged_fen))
    table.add_row("marketing system: posted, net", yuan(proof.posted_fen), end_section=True)
    for account in (U_RECEIVABLE, SUSPENSE_ACCOUNT, M_PAYABLE):
        table.add_row(f"ledger {account}", yuan(proof.ledger.get(account, 0)))
    if proof.heard is not None:
        table.add_row("payments in the kiosks' book", f"{proof.heard:,}")
    table.add_row("differences", f"{len(proof.differences):,}")
    return table
