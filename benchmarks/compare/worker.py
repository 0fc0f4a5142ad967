"""Runs one library with one form, in a process and an environment of its own; asked by lines of JSON.

    {"do": "check"}                          which cases there are, and every wrong answer
    {"do": "time", "case": "map", "message": "0200", "count": 500}
                                             nanoseconds of 500 executions, by the wall and by the CPU
    {"do": "count", "case": ..., ...}        the same without a clock, for callgrind

The process ends with its input, or after ``SECONDS_MAX``. The garbage collector stays on.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import signal
import sys
from collections.abc import Callable
from itertools import repeat
from time import perf_counter_ns, process_time_ns
from typing import Any, Final

from benchmarks.compare.libraries import LIBRARIES, Side
from benchmarks.compare.messages import FORMS, ICC, MESSAGES, PATCH, READ, TAGS, Fields

SECONDS_MAX: Final = 900  # a forgotten worker ends itself
WARM_UP: Final = 64  # executions: past the interpreter's own specialising and every cache of a library

Batch = Callable[[int], tuple[int, int, Any]]

# The loop is part of the measurement: `empty` says what it costs.
TEMPLATE: Final = """
def batch(count):
    answer = None
    wall, cpu = perf_counter_ns(), process_time_ns()
    for _ in repeat(None, count):
        {statement}
    return perf_counter_ns() - wall, process_time_ns() - cpu, answer
"""


class Runner:
    """The batches of one library and form. ``cases`` are those that it can do."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.cases: Final = list(side.statements)
        self._batches: dict[tuple[str, str], Batch] = {}

    def batch(self, case: str, message: str) -> Batch:
        """A function that executes the case's statement n times, and answers wall ns, CPU ns, last answer."""
        key = case, message
        if key not in self._batches:
            self._batches[key] = self._make(case, message)
        return self._batches[key]

    def _make(self, case: str, message: str) -> Batch:
        statement = self.side.statements.get(case, "pass")
        fields = MESSAGES[message]
        names: dict[str, Any] = {
            **self.side.names,
            "perf_counter_ns": perf_counter_ns,
            "process_time_ns": process_time_ns,
            "repeat": repeat,
            "data": self.side.form.wire(fields),
            "fields": self.side.own(fields),
            "icc": self.side.icc(ICC),
        }
        if case == "patched":
            names["decoded"] = names["decode"](names["data"])
        exec(TEMPLATE.format(statement=statement.replace("\n", "\n        ")), names)
        made: Batch = names["batch"]
        return made

    def fault(self, case: str, message: str) -> str | None:
        """Why this case must not be timed, or None: the answer is compared, not only the absence of an error."""
        fields = MESSAGES[message]
        wanted: Any = self._wanted(case, fields)
        try:
            got = self._common(case, self.batch(case, message)(2)[2])  # twice: an encoder may spoil its own input
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if got == wanted:
            return None
        if isinstance(got, dict) and isinstance(wanted, dict):
            wrong = [str(key) for key in sorted({*got, *wanted}) if got.get(key) != wanted.get(key)]
            return f"wrong values of {', '.join(wrong)}"
        return f"got {got!r}, expected {wanted!r}"

    def _wanted(self, case: str, fields: Fields) -> Any:
        match case:
            case "map" | "decode":
                return fields
            case "encode":
                return self.side.form.wire(fields)
            case "read3":
                return tuple(fields[number] for number in READ)
            case "tlv":
                return dict(TAGS)
            case _:
                return self.side.form.wire({**fields, **PATCH})

    def _common(self, case: str, answer: Any) -> Any:
        match case:
            case "map":
                return self.side.plain(answer)
            case "decode":
                return dict(answer)
            case "read3":
                # Integers of a library that drops leading zeros.
                return tuple(f"{value:06}" if isinstance(value, int) else value for value in answer)
            case "tlv":
                return self.side.tags(answer)
            case _:
                return bytes(answer)


def run(library: str, form: str) -> None:
    """Answer requests until the input ends."""
    signal.alarm(SECONDS_MAX)
    side = LIBRARIES[library].side(FORMS[form])
    if side is None:
        print(json.dumps({"unable": True}), flush=True)
        return
    runner = Runner(side)
    for line in sys.stdin:
        print(json.dumps(answer(runner, json.loads(line))), flush=True)


def answer(runner: Runner, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "check":
        assert gc.isenabled()
        return {
            "python": python(),
            "form": vars(runner.side.form),
            "cases": runner.cases,
            "faults": [
                f"{case} of {message}: {fault}"
                for case in runner.cases
                for message in (MESSAGES if case != "tlv" else ["0200"])
                if (fault := runner.fault(case, message))
            ],
        }
    batch, count = runner.batch(request["case"], request["message"]), request["count"]
    if request["do"] == "time":
        wall, cpu, _ = batch(count)
        return {"wall": wall, "cpu": cpu}
    batch(WARM_UP)
    # Each call of getppid() makes callgrind write down and reset its counter; Python itself never calls it.
    os.getppid()
    batch(count)
    os.getppid()
    batch(2 * count)
    os.getppid()
    return {}


def python() -> str:
    """The interpreter, with what makes it faster or slower than another of the same version."""
    import sysconfig  # noqa: PLC0415

    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimized = "PGO" if "--enable-optimizations" in arguments else "no PGO"
    return f"{platform.python_implementation()} {platform.python_version()}, {optimized}, {platform.python_compiler()}"


if __name__ == "__main__":
    run(*sys.argv[1:])
