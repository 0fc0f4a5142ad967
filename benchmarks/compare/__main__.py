"""This library next to the others on PyPI: one run, interleaved, ratios as a table.

    python -m benchmarks.compare [--rounds N] [--json FILE] [--instructions]

Every library has its own environment under .venv/peers (made once) and its own process. A round times each case of each
message in each library, one after the other, so that a slow minute of the machine is slow for all. A number is the mean
over the five messages of the median over the rounds, in ns a message. Only a library that answers everything correctly
is timed; the others are listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from benchmarks.compare.libraries import CASES, LIBRARIES, OURS, REFERENCE, UNFIT, Library
from benchmarks.compare.messages import FORMS, MESSAGES
from benchmarks.instructions import BUDGET, ENVIRONMENT, ROOT, ToolError, command, count

PEERS: Final = ROOT / ".venv" / "peers"
INSTALL_SECONDS_MAX: Final = 240
BATCH_NS: Final = 10_000_000  # one measurement: long against the clock, short against a neighbour's visit
BUSY: Final = 1.05  # wall over CPU time; above it something else ran on our core

COMPARED: Final = ("map", "encode", "read3", "patch")
STEPS: Final = ("decode", "patched")
Key = tuple[str, str, str, str]  # library, form, case, message


class LibraryError(Exception):
    """A library cannot take part; says why."""


def install(name: str, library: Library) -> Path:
    """Its own interpreter. Made once for each requirement and version of Python."""
    if not library.requirement:
        return Path(sys.executable)
    folder = PEERS / name
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = f"{library.requirement} {sys.version}"
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        print(f"installing {library.requirement} into {folder.relative_to(ROOT)} …", file=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        for step in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, library.requirement]):
            try:
                done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False)
            except subprocess.TimeoutExpired as error:
                raise LibraryError(f"was not installed after {INSTALL_SECONDS_MAX} s") from error
            if done.returncode:
                raise LibraryError(
                    f"cannot be installed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
                )
        stamp.write_text(wanted, encoding="utf-8")
    return python


def harness() -> Path:
    """A folder in which a peer finds ``benchmarks`` and nothing else of ours: our ``iso8583`` must not hide its own."""
    folder = PEERS / "harness"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "benchmarks"
    if not (link.is_symlink() and link.resolve() == ROOT / "benchmarks"):
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / "benchmarks", target_is_directory=True)
    return folder


class Worker:
    """One process with one library and one form."""

    def __init__(self, start: list[str]) -> None:
        # A file, not a pipe: nobody would empty it.
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True, env=ENVIRONMENT
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        process = self._process
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = process.wait()
            self._stderr.seek(0)
            reason = self._stderr.read().strip().splitlines() or [f"exit status {code}"]
            raise LibraryError(f"its process ended: {reason[-1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()


class Comparison:
    """What takes part, and what was measured."""

    def __init__(self) -> None:
        self.workers: dict[tuple[str, str], Worker] = {}
        self.cases: dict[tuple[str, str], list[str]] = {}
        self.variants: dict[tuple[str, str], str] = {}  # how a library's bytes differ from the form's
        self.left_out: dict[str, str] = dict(UNFIT)
        self.python = ""
        self.wall: dict[Key, list[float]] = defaultdict(list)
        self.cpu: dict[Key, list[float]] = defaultdict(list)

    def gather(self) -> None:
        """Install, start and check every library."""
        folder = harness()
        for name, library in LIBRARIES.items():
            try:
                python = install(name, library)
                for form in FORMS:
                    self._admit(
                        name, form, Worker(command(python, folder if library.requirement else ROOT, name, form))
                    )
            except LibraryError as error:
                self.left_out[library.requirement or name] = str(error)
        for form in FORMS:
            for name in (OURS, REFERENCE):
                if (name, form) not in self.workers:
                    keys = (f"{name}, {form}", LIBRARIES[name].requirement or name)
                    why = next((self.left_out[key] for key in keys if key in self.left_out), "not timed")
                    raise LibraryError(f"{name}, {form}: {why}")

    def _admit(self, name: str, form: str, worker: Worker) -> None:
        try:
            found = worker.ask(do="check")
        except LibraryError:
            worker.close()
            raise
        if found.get("unable"):
            worker.close()
            return
        if found["faults"]:
            worker.close()
            more = f" (and {len(found['faults']) - 1} more)" if len(found["faults"]) > 1 else ""
            self.left_out[f"{name}, {form}"] = f"wrong: {found['faults'][0][:200]}{more}"
            return
        key = name, form
        self.workers[key], self.cases[key] = worker, found["cases"]
        usual = vars(FORMS[form])
        differs = [f"{part} {value}" for part, value in found["form"].items() if usual[part] != value]
        if differs:
            self.variants[key] = ", ".join(differs)
        self.python = found["python"]

    def measure(self, rounds: int) -> None:
        """Round robin: all libraries do one case of one message, then the next."""
        counts: dict[Key, int] = {}
        for turn in range(rounds):
            for form in FORMS:
                for case in CASES:
                    able = [name for name, where in self.workers if where == form and case in self.cases[name, form]]
                    able = able[turn % len(able) :] + able[: turn % len(able)]  # nobody always follows the slowest
                    for message in MESSAGES if case != "tlv" else ["0200"]:
                        for name in able:
                            key = name, form, case, message
                            if key not in counts:
                                counts[key] = self._calibrate(key)
                            took = self._time(key, counts[key])
                            self.wall[key].append(took["wall"] / counts[key])
                            self.cpu[key].append(took["cpu"] / counts[key])
            print(f"round {turn + 1} of {rounds} done", file=sys.stderr)

    def _time(self, key: Key, executions: int) -> dict[str, Any]:
        name, form, case, message = key
        return self.workers[name, form].ask(do="time", case=case, message=message, count=executions)

    def _calibrate(self, key: Key) -> int:
        executions = 8
        while True:
            wall: int = self._time(key, executions)["wall"]
            if wall > BATCH_NS / 8:
                return max(1, round(executions * BATCH_NS / wall))
            executions *= 4

    def mean(self, name: str, form: str, case: str) -> float | None:
        """ns a message."""
        found = [median(times) for key, times in self.wall.items() if key[:3] == (name, form, case)]
        return fmean(found) if found else None

    def ratio(self, name: str, form: str, case: str) -> float | None:
        """How many times as fast as the reference. It has no TLV: there its decoding of a message is the yardstick."""
        own, reference = self.mean(name, form, case), self.mean(REFERENCE, form, "map" if case == "tlv" else case)
        return reference / own if own and reference else None

    @property
    def disturbed(self) -> float:
        """Median of wall over CPU time."""
        return median(w / c for key in self.wall for w, c in zip(self.wall[key], self.cpu[key], strict=True) if c)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def report(found: Comparison, budget: dict[str, Any]) -> str:
    """For people."""
    lines: list[str] = []
    width = max(len(name) for name in LIBRARIES) + 4
    notes: list[str] = []
    for form in FORMS:
        lines += ["", f"{form.upper() + ', ns a message':{width}}" + "".join(f"{CASES[case]:>20}" for case in COMPARED)]
        for name in LIBRARIES:
            if (name, form) not in found.workers:
                continue
            label = name
            if variant := found.variants.get((name, form)):
                notes.append(variant)
                label = f"{name} [{len(notes)}]"
            cells = [_cell(found.mean(name, form, case), found.ratio(name, form, case)) for case in COMPARED]
            lines.append(f"{label:{width}}" + "".join(f"{cell:>20}" for cell in cells))
    lines += [f"[{number}] its own wire: {note}" for number, note in enumerate(notes, 1)]

    lines += [
        "",
        f"in brackets: how many times as fast as {REFERENCE}; a mean over five messages of the median over the rounds",
        "",
    ]
    for form in FORMS:
        for name in LIBRARIES:
            if time := found.mean(name, form, "tlv"):
                lines.append(f"{form}, F55 of 24 tags to a map, {name}: {time:,.0f} ns")
        decode, patched = (found.mean(OURS, form, case) or 0.0 for case in STEPS)
        lines.append(f"{form}, {OURS}: decode alone {decode:,.0f} ns, patched alone {patched:,.0f} ns")

    lines.append("")
    for case, bar in budget["ratios"].items():
        worst = min(found.ratio(OURS, form, case) or 0.0 for form in FORMS)
        lines.append(_bar(case, "at least", bar, REFERENCE, worst, worst >= bar))
    bar = budget["instructions"]["patched"]["decodes"]
    decodes = [(found.mean(OURS, form, "patched") or 0.0) / (found.mean(OURS, form, "decode") or 1.0) for form in FORMS]
    lines.append(_bar("patched", "at most", bar, "decode", max(decodes), max(decodes) <= bar))

    lines += ["", "not timed:"] + [f"  {name}: {reason}" for name, reason in found.left_out.items()]
    if found.disturbed > BUSY:
        lines += [
            "",
            f"the machine was busy: wall time was {found.disturbed:.2f} times the CPU time; do not quote this run",
        ]
    return "\n".join(lines)


def _cell(time: float | None, ratio: float | None) -> str:
    return f"{time:,.0f} ({ratio:.2f})" if time and ratio else "–"


def _bar(case: str, word: str, bar: float, unit: str, found: float, ok: bool) -> str:
    wanted = f"{word} {bar:g} times {unit}"
    return f"bar: {CASES[case]:17}{wanted:30}{found:8.2f}  {'ok' if ok else 'MISSED'}"


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}


def instructions(found: Comparison) -> dict[str, dict[str, float]]:
    """Counts of the 0200 in BCD, ours and the reference's."""
    counted: dict[str, dict[str, float]] = {}
    for name, python, folder in (
        (OURS, Path(sys.executable), ROOT),
        (REFERENCE, PEERS / REFERENCE / "bin" / "python", harness()),
    ):
        cases = [(case, "0200") for case in found.cases[name, "bcd"]]
        result = count(command(python, folder, name, "bcd"), cases)
        counted[name] = {case: round(result[case, message]) for case, message in cases}
    return counted


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=9, help="measurements of everything; the median is taken (default 9)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--instructions", action="store_true", help="also count instructions (needs valgrind)")
    arguments = parser.parse_args()
    budget = tomllib.loads(BUDGET.read_text(encoding="utf-8"))
    found, counted = Comparison(), {}
    try:
        found.gather()
        found.measure(arguments.rounds)
        if arguments.instructions:
            counted = instructions(found)
    except (LibraryError, ToolError) as error:
        print(f"bench-compare: {error}", file=sys.stderr)
        return 2
    finally:
        found.close()

    head = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": found.python,
        "rounds": arguments.rounds,
        **machine(),
    }
    print(", ".join(f"{key} {value}" for key, value in head.items()))
    print(report(found, budget))
    for case in COMPARED:
        if counted:
            ours, theirs = counted[OURS][case], counted[REFERENCE][case]
            print(f"instructions, 0200 in bcd, {CASES[case]:26}{ours:12,.0f}{theirs:14,.0f}  ({theirs / ours:.1f})")
    if arguments.json:
        times = [
            {"library": key[0], "form": key[1], "case": key[2], "message": key[3]}
            | {"wall_ns": median(found.wall[key]), "cpu_ns": median(found.cpu[key])}
            for key in found.wall
        ]
        result = {**head, "times": times, "instructions": counted, "left_out": found.left_out}
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
