"""``gridswitch spec``: the record specs of marketing systems, and the way from one version to the next.

    gridswitch spec list                                        what is bundled
    gridswitch trace --link marketing --frames --json --follow > capture.jsonl
    gridswitch spec check NEW --against capture.jsonl           would recorded traffic fit the new version?
    gridswitch spec reload                                      take [marketing.upgrade] as the file has it now

``check`` reads each recorded message with the spec that it came in, writes it again with the new one and reads that.
A new field of the utility's answers cannot be in old traffic: it is noted, not held against the spec.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from msgspec import Struct, field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from switch.config import load
from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.dialects.marketing_versions import make_dialect
from switch.dialects.marketing_ydlw import YdlwDialect
from switch.errors import BadRequestError, ConfigError, StartError
from switch.ops.status import ask, say_specs, workers
from switch.records.fixed import FixedWire
from switch.records.spec import COUNT, DECIMAL, DIGITS, FEN, FLAG, SIGNED, Field, Spec, bundled
from switch.records.spec import load as load_spec

SHOWN_MAX: Final = 20  # kinds of failure; all are counted


class Message(Struct):
    """One line of a capture."""

    line: int
    sent: bool  # by the switch: a request
    frame: bytes


class Finding(Struct):
    """Failures of one kind."""

    count: int = 0
    first_line: int = 0


class Trial(Struct):
    """What a capture says about a spec."""

    passed: int = 0
    failed: int = 0
    unread: int = 0  # in no version that is known: says nothing about the new one
    failures: dict[str, Finding] = field(default_factory=dict)  # what is wrong and where
    notes: Counter[str] = field(default_factory=Counter)

    def fail(self, message: Message, detail: str) -> None:
        self.failed += 1
        found = self.failures.setdefault(detail, Finding(first_line=message.line))
        found.count += 1


def read_capture(path: Path) -> Iterator[Message]:
    """The marketing system's messages of ``gridswitch trace --frames --json``.

    Raises:
        StartError: Names the line and what was expected.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                told = orjson.loads(line)
                direction, frame = told["direction"], told.get("frame")
                if direction not in ("in", "out"):
                    raise ValueError
                if frame is not None:
                    yield Message(number, direction == "out", bytes.fromhex(frame))
            except (ValueError, TypeError, KeyError, AttributeError):
                raise StartError(
                    "capture",
                    f"{path}: line {number}: expected an object with direction and frame, as written by: "
                    "gridswitch trace --link marketing --frames --json",
                ) from None


def try_spec(new: Spec, recorded: Sequence[Spec], messages: Iterator[Message]) -> Trial:
    """Args: recorded: Specs that the messages may be in."""
    if new.wire == "fixed":
        return _try_fixed(new, recorded, messages)
    return _try_json(new, recorded, messages)


# ---------------------------------------------------------------------------------------------------- fixed records
def make_wire(spec: Spec) -> FixedWire:
    """As the switch writes it."""
    dialect = make_dialect(spec, "check", lambda: 0)
    assert isinstance(dialect, YdlwDialect)
    return dialect.wire


def _try_fixed(new: Spec, recorded: Sequence[Spec], messages: Iterator[Message]) -> Trial:
    trial = Trial()
    wires = [FixedWire(spec) for spec in recorded]
    wire = make_wire(new)
    for message in messages:
        frame = message.frame
        old = next((each for each in wires if each.is_ours(frame)), None)
        try:
            if old is None:
                raise BadRequestError("unreadable", "a version that is not known")
            header = old.read_header(frame)
            op = old.operation(header["code"])
            bare = not message.sent and len(frame) == old.header.size  # an error, or an operation without data
            side = "request" if message.sent else "answer"
            values = {} if bare else old.body(op, side, frame)
        except BadRequestError:
            trial.unread += 1
            continue
        if op not in new.operations:
            trial.fail(message, f"operation {op}: the new spec lacks it")
            continue
        try:
            if message.sent:
                again = wire.request(op, header, values)
            else:
                if not bare:
                    _fill(new, op, values, trial)
                again = wire.answer(op, header, None if bare else values)
            for path in _changed(f"{op}.{side}", values, {} if bare else wire.body(op, side, again)):
                if not message.sent:
                    raise BadRequestError("bad_record", f"{path}: comes out as another value")
                trial.notes[f"{path}: carries another value than was recorded"] += 1
        except BadRequestError as error:
            trial.fail(message, error.detail)
        else:
            trial.passed += 1
    return trial


def _fill(new: Spec, op: str, values: dict[str, Any], trial: Trial) -> None:
    """Stand-ins for what only answers of the new version have."""
    shape = new.operations[op].answer
    parts: list[tuple[str, tuple[Field, ...], dict[str, Any]]] = [(f"{op}.answer", shape.head, values)]
    parts += [(f"{op}.answer.rows", shape.rows, row) for row in values.get("rows", ())]
    for where, fields, present in parts:
        for each in fields:
            if each.name not in present and each.value is None and not each.optional:
                trial.notes[f"{where}.{each.name}: new; the utility must send it"] += 1
                present[each.name] = _stand_in(each)


def _stand_in(each: Field) -> Any:
    return {FEN: 0, COUNT: 0, SIGNED: 0, FLAG: False, DIGITS: "0" * each.width, DECIMAL: "0"}.get(each.type, "")


def _changed(where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Paths of what both versions name and does not come out as it went in."""
    for name, value in before.items():
        if name == "rows":
            for old, new in zip(value, after.get("rows", ()), strict=True):
                yield from _changed(f"{where}.rows", old, new)
        elif name in after and after[name] != value:
            yield f"{where}.{name}"


# ---------------------------------------------------------------------------------------------------- JSON objects
def _try_json(new: Spec, recorded: Sequence[Spec], messages: Iterator[Message]) -> Trial:
    trial = Trial()
    dialect = MarketingDialect("check", new)
    versions = {spec.wire_version: spec for spec in recorded}
    asked: dict[Any, str] = {}  # operation by request id: an answer does not name it
    for message in messages:
        try:
            data = orjson.loads(message.frame)
            spec = versions[data.get("version", "")]
            op = data["op"] if message.sent else asked.pop(data["id"])
        except (ValueError, KeyError, AttributeError, TypeError):
            trial.unread += 1
            continue
        if message.sent:
            asked[data["id"]] = op
        operation = new.table["operation"].get(op)
        if operation is None:
            trial.fail(message, f"operation {op}: the new spec lacks it")
            continue
        try:
            if message.sent:
                always = {name: rule["value"] for name, rule in operation["request"].items() if "value" in rule}
                dialect.check_request(op, data | always)
            elif data["code"] == "00":
                _fill_json(spec, new, op, data, trial)
                dialect.check(op, MarketingAnswer(0, "00", "", data, has_nul=b"\\u0000" in message.frame))
        except BadRequestError as error:
            trial.fail(message, f"{'request' if message.sent else 'answer'} {error.detail}")
        else:
            trial.passed += 1
    return trial


def _fill_json(old: Spec, new: Spec, op: str, data: dict[str, Any], trial: Trial) -> None:
    before = old.table["operation"].get(op, {}).get("response", {})
    for name, rule in new.table["operation"][op]["response"].items():
        if name in before or name in data:
            continue
        trial.notes[f"{op}.answer.{name}: new; the utility must send it"] += 1
        stand_ins = {"fen": 0, "count": 0, "flag": False, "list": [], "digits": "0" * rule.get("size", 0)}
        data[name] = stand_ins.get(rule["type"], "")


# ---------------------------------------------------------------------------------------------------- commands
def _list(arguments: argparse.Namespace) -> int:
    table = Table(show_edge=False, pad_edge=False)
    for name in ("spec", "version", "in force from", "source"):
        table.add_column(name, no_wrap=name != "source")
    for name in bundled():
        spec = load_spec(name)
        table.add_row(name, spec.version, str(spec.effective_on), escape(spec.source))
    Console(highlight=False).print(table)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    new = make_dialect(arguments.spec, "check", lambda: 0).spec
    if arguments.against is None:
        console.print(f"{arguments.spec}: good: {new.title}, in force from {new.effective_on}; {new.source}")
        return 0
    known = {each.wire_version: each for name in bundled() if (each := load_spec(name)).name == new.name}
    known[new.wire_version] = new
    for name in arguments.recorded or ():
        spec = load_spec(name)
        if spec.name != new.name:
            raise ConfigError(name, f"{spec.title} is another format than {new.title}")
        known[spec.wire_version] = spec
    trial = try_spec(new, list(known.values()), read_capture(arguments.against))
    if arguments.json:
        print(
            orjson.dumps(
                {
                    "spec": new.title,
                    "passed": trial.passed,
                    "failed": trial.failed,
                    "unread": trial.unread,
                    "failures": [
                        {"what": what, "count": each.count, "first_line": each.first_line}
                        for what, each in trial.failures.items()
                    ],
                    "notes": list(trial.notes),
                }
            ).decode()
        )
    else:
        _print_trial(console, new, trial)
    return 0 if trial.passed and not trial.failed else 1


def _print_trial(console: Console, new: Spec, trial: Trial) -> None:
    judged = trial.passed + trial.failed
    colour = "red" if trial.failed or not judged else "green"
    console.print(f"[{colour}]{judged:,} messages against {new.title}: {trial.failed:,} would fail[/{colour}]")
    if not judged:
        console.print("nothing in the capture is in a version that is known; name its spec: --recorded SPEC")
    if trial.failures:
        table = Table(show_edge=False, pad_edge=False)
        for name in ("messages", "first in line", "what is wrong"):
            table.add_column(name, justify="left" if name == "what is wrong" else "right")
        worst = sorted(trial.failures.items(), key=lambda each: -each[1].count)
        for what, each in worst[:SHOWN_MAX]:
            table.add_row(f"{each.count:,}", str(each.first_line), escape(what))
        console.print(table)
        if len(worst) > SHOWN_MAX:
            console.print(f"and {len(worst) - SHOWN_MAX} other kinds; --json has all")
    for note in trial.notes:
        console.print(f"[dim]{escape(note)}[/dim]")
    if trial.unread:
        console.print(f"{trial.unread:,} messages could not be read in any version that is known, and were left out")


def reload_specs(path: Path) -> dict[str, dict[str, str]]:
    """Every worker takes the upgrade of this configuration file. What each one speaks, by its name.

    Raises:
        ConfigError: Of the file; then nothing was told to anybody.
        StartError: A worker cannot be reached.
    """
    config = load(path)
    upgrade = config.marketing.upgrade
    return {each.worker.instance: ask(each, do="upgrade", spec=upgrade.spec, at=upgrade.at) for each in workers(config)}


def _reload(arguments: argparse.Namespace) -> int:
    for name, told in reload_specs(arguments.config).items():
        print(f"{name}: {say_specs(told)}")
    return 0


def add_spec_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "spec",
        help="record specs of marketing systems: list, check against recorded traffic, take an upgrade or its way back",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="bundled specs with version, date and source")
    listing.set_defaults(run=_list)
    check = actions.add_parser(
        "check",
        help="check a spec, alone or against recorded traffic",
        description="Checks a record spec. With a capture, a dry run: each recorded message is read in the version it "
        "came in, written in the new one and read again. Exit status 1 if one would fail.",
        epilog="a capture holds names and addresses of customers; keep it as you keep those:\n"
        "  gridswitch trace --link marketing --frames --json --limit 2000 > capture.jsonl\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("spec", metavar="SPEC", help="a bundled spec's name, or a .toml file")
    check.add_argument("--against", type=Path, metavar="CAPTURE", help="recorded traffic")
    check.add_argument(
        "--recorded", action="append", metavar="SPEC", help="one that the traffic was recorded in, if it is not bundled"
    )
    check.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    check.set_defaults(run=_check)
    again = actions.add_parser(
        "reload",
        help="a running switch takes [marketing.upgrade] as the file has it now; emptied, that is the way back",
    )
    again.add_argument(
        "--config", type=Path, default=Path("switch.toml"), metavar="FILE", help="configuration (default switch.toml)"
    )
    again.set_defaults(run=_reload)
