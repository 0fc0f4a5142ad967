"""Break the code line by line (mutmut) and say which mutants no test noticed: ``make mutation GROUP=leases``.

A group is what one question is about: some functions, and the quickest tests that judge them. mutmut itself runs for
each mutant only those that reach its function, and stops at the first that fails. All of them share one PostgreSQL.

mutmut writes the broken code beside the code, so it works in a copy.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from switch.ops.postgres import EmbeddedPostgres

COPY = Path(sys.prefix) / "mutation"
MUTMUT = Path(sys.prefix) / "bin" / "mutmut"
BUILT = ("iso8583/_native/*.so", "switch/security/*.so")


@dataclass(frozen=True, slots=True)
class Group:
    code: dict[str, str]  # file: the functions in it, "*" for all
    tests: str
    at_once: int = 2


GROUPS = {
    "saga": Group(
        {"switch/machines/payment.py": "*", "switch/runtime/lanes.py": "*"},
        "tests/switch/machines tests/switch/runtime/test_lanes.py",
    ),
    "leases": Group(
        {
            "switch/runtime/instance.py": "*",
            "switch/runtime/assembly.py": "Switch.recover Switch._adopt Switch._take_over_forever",
            "switch/runtime/supervisor.py": "serve Worker.drain",
            "switch/store/journal.py": "PostgresJournal._resign PostgresJournal.take_over PostgresJournal._end_worker "
            "PostgresJournal._renew_forever PostgresJournal._lose PostgresJournal._connect_writer",
            "switch/store/memory.py": "MemoryDatabase.may_write MemoryDatabase.enter MemoryDatabase.renew "
            "MemoryDatabase.end_others MemoryDatabase.take_over MemoryJournal.open MemoryJournal.take_over "
            "MemoryJournal._renew MemoryJournal._renewed MemoryJournal._lose",
        },
        "tests/switch/store/test_lease_rules.py tests/switch/runtime/test_instance.py "
        "tests/switch/runtime/test_heirs.py",
    ),
    "matching": Group(
        {
            "switch/machines/link.py": "*",
            "switch/machines/threeway.py": "*",
            "switch/runtime/links.py": "*",
            "switch/runtime/calls.py": "*",
            "switch/runtime/threeway.py": "*",
            "switch/runtime/payments.py": "Payments.card_answered Payments._card_checked Payments._card_link_lost "
            "Payments._leg_lost Payments._bill_answered Payments._bill_meaning",
            "switch/dialects/unionpay.py": "UnionPayDialect.read",
            "switch/dialects/marketing.py": "MarketingDialect.read MarketingDialect.check MarketingDialect.outcome "
            "MarketingDialect.posted MarketingDialect.stated MarketingDialect.cancelled _shape _check",
        },
        "tests/switch/machines/test_link.py tests/switch/machines/test_threeway.py tests/switch/dialects "
        "tests/switch/runtime/test_links.py tests/switch/runtime/test_threeway_rounds.py "
        "tests/switch/runtime/test_matching.py",
    ),
    # What must be durable before anything leaves: the journal's writer.
    "outbox": Group(
        {
            "switch/store/journal.py": "_Waiting.__init__ PostgresJournal.append PostgresJournal._write_forever "
            "PostgresJournal._take_batch PostgresJournal._complete PostgresJournal._settle PostgresJournal._write "
            "PostgresJournal._after_error PostgresJournal._halve PostgresJournal._add_partitions "
            "PostgresJournal._look_up PostgresJournal._sort_out PostgresJournal._split PostgresJournal._was_written "
            "PostgresJournal._writers PostgresJournal._holders PostgresJournal._reconnect PostgresJournal._give_up "
            "PostgresJournal._line_lost PostgresJournal._watch PostgresJournal._make_partitions _copy",
        },
        "tests/switch/store/test_outbox.py",
    ),
    # What is made of it afterwards. One at a time: the books stop before the oldest transaction of the whole server.
    "books": Group(
        {
            "switch/store/fold.py": "*",
            "switch/store/projector.py": "*",
            "switch/store/proof.py": "*",
            "switch/store/threeway.py": "*",
        },
        "tests/switch/store/test_books.py tests/switch/store/test_threeway.py tests/switch/store/test_fold.py",
        at_once=1,
    ),
}


def patterns(group: Group) -> list[str]:
    """mutmut's names of the group's mutants."""
    found = []
    for path, functions in group.code.items():
        module = path.removesuffix(".py").replace("/", ".")
        for function in functions.split():
            owner, _, name = function.rpartition(".")
            mangled = "*" if function == "*" else f"xǁ{owner}ǁ{name}" if owner else f"x_{name}"
            found.append(f"{module}.{mangled}__mutmut_*")
    return found


def copy(group: Group) -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout.split("\0")
    built = [str(path) for pattern in BUILT for path in Path().glob(pattern)]
    for name in filter(os.path.exists, [*filter(None, tracked), *built]):
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, COPY / name)
    settings = COPY / "pyproject.toml"
    text = settings.read_text(encoding="utf-8")
    for key, values in (("only_mutate", [*group.code]), ("pytest_add_cli_args_test_selection", group.tests.split())):
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {values!r}", text)
    settings.write_text(text, encoding="utf-8")


def mutate(group: Group, only: list[str]) -> None:
    """The log is mutmut's; it is shown when mutmut itself fails."""
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/dev/shm"))  # in memory: mutants come by the thousand
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder)
    try:
        environment = os.environ | {"GRIDSWITCH_TEST_DSN": server.start()}
        with (COPY / "run.log").open("wb") as log:
            command = [str(MUTMUT), "run", "--max-children", str(group.at_once), *only]
            done = subprocess.run(command, cwd=COPY, env=environment, stdout=log, stderr=log, check=False)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode:
        lines = (COPY / "run.log").read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        raise SystemExit("\n".join(lines[-30:]))


def results(only: list[str]) -> dict[str, str]:
    said = subprocess.run(
        [MUTMUT, "results", "--all", "1"], cwd=COPY, check=True, capture_output=True, text=True
    ).stdout
    found = dict(line.strip().rsplit(": ", 1) for line in said.splitlines() if ": " in line)
    return {name: how for name, how in found.items() if any(fnmatch.fnmatchcase(name, each) for each in only)}


def main(name: str) -> None:
    group = GROUPS[name]
    only = patterns(group)
    began = time.monotonic()
    copy(group)
    mutate(group, only)
    found = results(only)
    for mutant, how in sorted(found.items()):
        if how != "killed":
            print(f"{how}: {mutant}")
    told = ", ".join(f"{count} {how}" for how, count in Counter(found.values()).most_common())
    print(f"{name}: {len(found)} mutants in {(time.monotonic() - began) / 60:.0f} min: {told}")
    print(f"to see one: cd {COPY} && {MUTMUT} show NAME")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in GROUPS:
        raise SystemExit(f"usage: python -m tests.mutation {' | '.join(GROUPS)}")
    main(sys.argv[1])
