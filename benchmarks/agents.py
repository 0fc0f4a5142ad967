"""A thousand agents beat for ten minutes; some lose their cable, some their paper. How soon is it told?

    python -m benchmarks.agents [--count 1000] [--minutes 10] [--dir DIR]

Everything is real processes: PostgreSQL, hosts, switch, admin service, agents over mutual TLS with their true period,
and kiosks that pay now and then, but for those whose cable will be pulled: of these nothing is ever heard again. The
last line is one JSON object. Exit status 1 when a bar is missed: list <= 1 s (p99), offline <= 180 s, paper <= 60 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from admin.auth.secrets import digest
from switch.ops.rig import LOCALHOST, Rig

RAMP_S: Final = 60.0  # until all have started; the times of a script count from then
GRACE_S: Final = 200.0  # everybody beats twice before anything is missed
CUT, EMPTY = range(1, 21), range(21, 41)  # whose cable is pulled, whose paper runs out
LOOK_S: Final = 2.0
PAUSE_S: Final = 120.0  # between two payments of one kiosk: the switch has heard of it lately
LIST_MS, OFFLINE_S, PAPER_S = 1000.0, 180.0, 60.0

SCRIPT: Final = """
sessions_per_hour = 12.0
[[fault]]
kind = "cable"
first = {cut}
count = {cuts}
at_s = {at}
[[fault]]
kind = "paper_out"
first = {empty}
count = {empties}
at_s = {at}
"""
# The simulated kiosks get the switch's terminals: what the switch says of them is asked as for any other.
TERMINALS: Final = """
UPDATE kiosk SET terminal_id = NULL WHERE code LIKE 'K-%';
UPDATE kiosk SET terminal_id = 'GS' || lpad(substr(code, 5)::integer::text, 6, '0') WHERE code LIKE 'SIM-%'
"""
OPERATOR: Final = """
WITH someone AS (SELECT id FROM operator WHERE login = 'ops')
INSERT INTO operator_session (token_sha256, operator_id, stage, csrf, expires_at, address)
SELECT $1, id, 'full', 'x', now() + interval '2 hours', '127.0.0.1' FROM someone
"""
DIAGNOSES: Final = """
SELECT substr(kiosk.code, 5)::integer AS number, status.diagnosis
  FROM kiosk JOIN kiosk_status AS status ON status.kiosk_id = kiosk.id WHERE kiosk.code LIKE 'SIM-%'
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--count", type=int, default=1000, metavar="N")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M")
    parser.add_argument("--dir", type=Path, default=Path(".gridswitch/agents"), metavar="DIR")
    arguments = parser.parse_args()
    rig = Rig(arguments.dir, say=print)
    try:
        rig.clean()
        rig.start_all(kiosks=arguments.count, scenario="calm")
        url, _ = rig.start_admin(agents=arguments.count)
        script = rig.folder / "script.toml"
        faults = {"cut": CUT[0], "cuts": len(CUT), "empty": EMPTY[0], "empties": len(EMPTY), "at": GRACE_S}
        script.write_text(SCRIPT.format(**faults), encoding="utf-8")
        seconds = 60 * arguments.minutes
        found = asyncio.run(watch(rig, url, script, seconds))
    finally:
        rig.stop_all()
        rig.unlock()
    met = found["list_p99_ms"] <= LIST_MS and found["offline_s"] <= OFFLINE_S and found["paper_s"] <= PAPER_S
    print(json.dumps({"agents": arguments.count, "seconds": seconds, **found, "met": met}))
    return 0 if met else 1


async def watch(rig: Rig, url: str, script: Path, seconds: float) -> dict[str, Any]:
    """Look at the list as an operator does, and at what is said of those with a fault."""
    connection = await asyncpg.connect(rig.dsn, server_settings={"search_path": "admin"})
    token = secrets.token_urlsafe()
    await connection.execute(TERMINALS)
    await connection.execute(OPERATOR, digest(token))
    book = str(rig.folder / "agents.json")
    rig.start("agents", "agents", book, "--seconds", str(seconds), "--script", str(script), "--ramp", str(RAMP_S))
    others = json.loads((rig.folder / "agents.json").read_text())["agents"][len(CUT) :]
    kiosks = ("--first-terminal", str(len(CUT) + 1), "--count", str(len(others)), "--rate", str(len(others) / PAUSE_S))
    connect = ("--connect", f"{LOCALHOST}:{rig.ports['switch']}")
    rig.start("fleet", "fleet", *connect, *kiosks, "--seconds", str(seconds))
    started = time.monotonic()
    times: list[float] = []
    offline: dict[int, float] = {}
    paper: dict[int, float] = {}
    headers = {"Cookie": f"__Host-session={token}", "Accept": "text/html"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        while (at := time.monotonic() - started) < seconds:
            answer = await client.get("/monitor/kiosks")
            answer.raise_for_status()
            times.append(1000 * (time.monotonic() - started - at))
            for row in await connection.fetch(DIAGNOSES):
                past = time.monotonic() - started - RAMP_S - GRACE_S
                if past > 0 and row["number"] in CUT and row["diagnosis"] == "offline":
                    offline.setdefault(row["number"], round(past, 1))
                if past > 0 and row["number"] in EMPTY and row["diagnosis"].startswith("unit_"):
                    paper.setdefault(row["number"], round(past, 1))
            await asyncio.sleep(LOOK_S)
    said = await connection.fetch("SELECT diagnosis, count(*) FROM kiosk_status GROUP BY 1 ORDER BY 2 DESC")
    await connection.close()
    print(f"diagnoses at the end: {[tuple(row) for row in said]}")
    never = 10 * seconds
    return {
        "lists": len(times),
        "list_p50_ms": round(statistics.median(times), 1),
        "list_p99_ms": round(sorted(times)[int(0.99 * len(times))], 1),
        "offline_told": len(offline),
        "offline_s": max(offline.values()) if len(offline) == len(CUT) else never,
        "paper_told": len(paper),
        "paper_s": max(paper.values()) if len(paper) == len(EMPTY) else never,
    }


if __name__ == "__main__":
    sys.exit(main())
