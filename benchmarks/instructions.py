"""What a message and a payment cost in instructions, counted by callgrind, held against ``budget.toml``.

    python -m benchmarks.instructions            two tables; exit 1 if a ceiling is passed
    python -m benchmarks.instructions --update   the same, and ceilings of source "measured" are written anew

Times move with the machine and its neighbours; counts repeat to a fraction of a per cent for one interpreter and one
compiler. A statement runs ``COUNT`` and then twice ``COUNT`` times; the difference is free of everything that happens
once. What an empty loop costs is counted in the same way and taken off. The stations of a payment (``path.py``) are
counted only while they run, in a process that has run them before.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from benchmarks.compare.libraries import CASES, OURS
from benchmarks.compare.messages import MESSAGES

ROOT: Final = Path(__file__).resolve().parent.parent
BUDGET: Final = Path(__file__).with_name("budget.toml")
COUNT: Final = 500  # executions; enough that a resized table or a collection of garbage does not show
SECONDS_MAX: Final = 900  # of one run: a bound for what hangs; the longest takes two minutes beside other work
HEADROOM: Final = 1.10  # what --update leaves above the count

#: Starts a worker that sees the folder given first, and nothing of the tree besides (-P: not the working directory).
START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks.compare import worker; worker.run(*sys.argv[2:])"
)
#: No variable of the caller reaches a worker: PYTHONPATH would, and hashes must be the same each time.
ENVIRONMENT: Final = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}


class ToolError(Exception):
    """The counting itself failed; says what to do."""


def command(python: Path | str, folder: Path, library: str, form: str) -> list[str]:
    """How a worker is started. ``folder`` holds ``benchmarks``; for this library, the whole tree."""
    return [str(python), "-s", "-P", "-c", START, str(folder), library, form]


def count(start: Sequence[str], wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Instructions of one execution, for each case and message.

    Args:
        start: A worker, from ``command``.
        wanted: Cases and messages.

    Raises:
        ToolError: valgrind is missing or failed, or the library gave a wrong answer.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise ToolError("valgrind is missing: install it (Debian: apt-get install valgrind), or run make system")
    asked = [("", wanted[0][1]), *wanted]
    requests: list[dict[str, Any]] = [{"do": "check"}]
    requests += [{"do": "count", "case": case, "message": message, "count": COUNT} for case, message in asked]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind")
        tool = [valgrind, "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}", "--quiet"]
        told = _run([*tool, *start], "".join(json.dumps(request) + "\n" for request in requests))
        faults = json.loads(told[0])["faults"]
        if faults:
            raise ToolError("wrong answers are not counted:\n" + "\n".join(faults))
        # Three parts a request: what came before, COUNT executions, 2 * COUNT executions.
        parts = [_total(Path(f"{out}.{part}")) for part in range(1, 3 * len(asked) + 1)]
    each = [(parts[3 * n + 2] - parts[3 * n + 1]) / COUNT for n in range(len(asked))]
    loop = each[0]
    return {("", ""): loop, **{key: found - loop for key, found in zip(wanted, each[1:], strict=True)}}


def count_path(wanted: Sequence[str]) -> dict[str, float]:
    """Instructions of each case of ``path.py``, of one payment where a run has several.

    Raises:
        ToolError: As ``count``.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise ToolError("valgrind is missing: install it (Debian: apt-get install valgrind), or run make system")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind")
        tool = [valgrind, "--tool=callgrind", "--toggle-collect=functools_reduce", "--dump-before=getppid"]
        start = [sys.executable, "-m", "benchmarks.path", "nothing", *wanted]
        told = [json.loads(line) for line in _run([*tool, f"--callgrind-out-file={out}", "--quiet", *start])]
        each = {one["case"]: _total(Path(f"{out}.{number}")) / one["count"] for number, one in enumerate(told, start=1)}
    nothing = each.pop("nothing")
    if not nothing:
        raise ToolError("callgrind counted nothing: this Python has no symbol functools_reduce")
    return {case: counted - (0 if case in ("journal", "whole") else nothing) for case, counted in each.items()}


def _run(command: Sequence[str], said: str = "") -> list[str]:
    """Lines that a command under callgrind prints. Raises ToolError."""
    try:
        done = subprocess.run(
            command,
            input=said,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            cwd=ROOT,
            timeout=SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"callgrind was not done after {SECONDS_MAX} s") from error
    if done.returncode != 0:
        raise ToolError(f"callgrind ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout.splitlines()


def _total(part: Path) -> int:
    try:
        lines = part.read_text().splitlines()
    except OSError as error:
        raise ToolError(f"callgrind wrote no {part.name}: this valgrind does not see getppid()") from error
    return next(int(line.split()[1]) for line in lines if line.startswith(("totals:", "summary:")))


@dataclass(frozen=True)
class Row:
    """One line of the table: what was counted, and what is allowed."""

    name: str
    counted: float
    limit: float
    source: str

    @property
    def over(self) -> bool:
        return self.counted > self.limit

    def __str__(self) -> str:
        digits = 0 if self.limit > 100 or self.limit == 0 else 2
        verdict = (
            f"OVER by {self.counted / self.limit - 1:.1%}"
            if self.over and self.limit
            else "OVER"
            if self.over
            else "ok"
        )
        return f"{self.name:30}{self.counted:10,.{digits}f}{self.limit:10,.{digits}f}  {self.source:10}{verdict}"


def rows(budget: Mapping[str, Any], counted: Mapping[tuple[str, str], float]) -> list[Row]:
    """Counts next to their limits."""
    found: list[Row] = []
    for case, entry in budget["instructions"].items():
        found.append(Row(CASES[case], counted[case, budget["message"]], entry["ceiling"], entry["source"]))
        if "decodes" in entry:
            # Over all messages: beside the field 55 of one of them everything else looks cheap.
            decodes = fmean(counted[case, message] for message in MESSAGES)
            decodes /= fmean(counted["decode", message] for message in MESSAGES)
            found.append(Row("  in decodes, five messages", decodes, entry["decodes"], "goal"))
    return found


def path_rows(budget: Mapping[str, Any], counted: Mapping[str, float]) -> list[Row]:
    """The same for the stations of a payment."""
    return [
        Row(entry["name"], counted[case], entry["ceiling"], entry["source"]) for case, entry in budget["path"].items()
    ]


def updated(text: str, counted: Mapping[str, float], path: Mapping[str, float]) -> str:
    """``budget.toml`` with new ceilings where the source is "measured"; everything else as it was."""
    budget, table, case, lines = tomllib.loads(text), "", "", []
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            table, _, case = line.strip("[]\n").partition(".")
        if line.startswith("ceiling") and budget[table][case]["source"] == "measured":
            found = (counted if table == "instructions" else path)[case]
            line = f"ceiling = {math.ceil(found * HEADROOM / 10) * 10}\n"  # noqa: PLW2901
        lines.append(line)
    return "".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help='write new ceilings where the source is "measured"')
    arguments = parser.parse_args()
    text = BUDGET.read_text(encoding="utf-8")
    budget = tomllib.loads(text)
    form, message = budget["form"], budget["message"]
    wanted = {(case, message) for case in budget["instructions"]}
    wanted |= {
        (case, each) for case, entry in budget["instructions"].items() if "decodes" in entry for each in MESSAGES
    }
    wanted |= {("decode", each) for each in MESSAGES}
    try:
        counted = count(command(sys.executable, ROOT, OURS, form), sorted(wanted))
        path = count_path([*budget["path"]])
    except ToolError as error:
        print(f"bench-check: {error}", file=sys.stderr)
        return 2
    if arguments.update:
        text = updated(text, {case: value for (case, each), value in counted.items() if each == message}, path)
        BUDGET.write_text(text, encoding="utf-8")
        budget = tomllib.loads(text)
    found = rows(budget, counted)
    loop = f"the loop's {counted['', '']:.0f} taken off"
    print(f"{message} in {form}, {sys.implementation.name} {sys.version.split()[0]}, {loop}")
    print(f"{'instructions a message':30}{'counted':>10}{'ceiling':>10}  from")
    print(*found, sep="\n")
    on_path = path_rows(budget, path)
    print(f"\n{'instructions on the path':30}{'counted':>10}{'ceiling':>10}  from")
    print(*on_path, sep="\n")
    found += on_path
    over = [row.name.strip() for row in found if row.over]
    if over:
        print(f"bench-check: over the budget (benchmarks/budget.toml): {'; '.join(over)}", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
