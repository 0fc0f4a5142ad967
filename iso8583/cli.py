"""The command ``iso8583``: look at messages, make them, compare them; check specs and turn them into others.

Card data is masked unless --unmask asks for it. Exit status 0: done; 1: some message is wrong, two messages differ, a
spec has shortcomings; 2: the input cannot be read, and standard error says what, where and what was expected.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from iso8583 import checkspec, codes, describe, explain, hints, parts, specfile
from iso8583._native import Message
from iso8583.describe import Column, Paint, Table
from iso8583.errors import DecodeError, Iso8583Error
from iso8583.framing import KINDS, frame
from iso8583.inputs import FORMS, Found, InputError, from_capture, from_file, from_words, hex_bytes, one_of, text_of
from iso8583.jsonform import as_json, parsed, spec_values
from iso8583.message import Spec, load
from iso8583.spec import HEADERS

DEFAULT_SPEC: Final = "unionpay_pos"
SPEC_VARIABLE: Final = "ISO8583_SPEC"
JSON_SIZE_MAX: Final = 16 * 1024 * 1024  # bytes; some thousand messages
FAULTS_SHOWN_MAX: Final = 3  # readings that --header auto tells about
STATUS_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - closed by whoever started us
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that has no Chinese gets \uXXXX instead of a crash.
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()
    except (InputError, Iso8583Error) as error:
        _complain(arguments.command, str(error))
        return 2
    except BrokenPipeError:
        _forget_output()
        return 0  # the reader of our output, e.g. `head`, has seen enough
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED
    return status


def _complain(command: str, text: str) -> None:
    paint = _paint(sys.stderr)
    print(f"iso8583 {command}: {paint('red', describe.printable_lines(text))}", file=sys.stderr)


def _forget_output() -> None:
    """What is still buffered must not raise again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _paint(stream: IO[str]) -> Paint:
    """Colours if somebody looks, and does not mind: https://no-color.org."""
    return Paint(stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def _width() -> int:
    if not sys.stdout.isatty():
        return describe.WIDTH
    return min(max(shutil.get_terminal_size((describe.WIDTH, 24)).columns, 72), 200)


# ---- arguments -----------------------------------------------------------------------------------

_SAMPLE: Final = "08000020000000C0001000000131303030303030313839383130303030303030303030310011000000010030"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iso8583",
        description="Look at ISO 8583 messages, make them, compare them; check specs. Card data is masked.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        f"  iso8583 decode {_SAMPLE}\n"
        "  iso8583 decode --stream < capture.bin\n"
        "  iso8583 explain message.hex\n\n"
        "exit status: 0 done; 1 a message is wrong, messages differ, a spec has shortcomings; 2 wrong input",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_decode, _add_explain, _add_diff, _add_encode, _add_check_spec, _add_convert, _add_specs):
        add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        try:
            version = metadata.version("gridswitch")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"iso8583 {version}")
        parser.exit()


def _command(commands: Any, name: str, help_text: str, description: str, examples: Sequence[str]) -> Any:
    command = commands.add_parser(
        name,
        help=help_text,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
    )
    command.set_defaults(run=_RUN[name])
    return command


def _add_spec(command: Any) -> None:
    command.add_argument(
        "--spec",
        default=os.environ.get(SPEC_VARIABLE) or DEFAULT_SPEC,
        metavar="SPEC",
        help=f"a bundled spec (`iso8583 specs` lists them), or a .toml, .json, .yaml or .xml file; default: "
        f"${SPEC_VARIABLE}, else {DEFAULT_SPEC}",
    )


def _add_reading(command: Any, *, words: bool = True) -> None:
    _add_spec(command)
    command.add_argument(
        "--header",
        default="auto",
        choices=["auto", *HEADERS],
        help="what stands in front of the MTI; auto (the default) tries all, with and without a length in front",
    )
    command.add_argument(
        "--input", default="auto", choices=FORMS, help="how messages are written; auto (the default) finds out"
    )
    command.add_argument("--unmask", action="store_true", help="show PAN, tracks, PIN block, keys: test data only")
    if words:
        command.add_argument(
            "message",
            metavar="MESSAGE",
            nargs="*",
            help="hexadecimal or base64, white space ignored; or a file; or - for standard input (the default)",
        )
        command.add_argument("--file", metavar="FILE", help="messages of a file, one a line, or one in binary")


def _add_decode(commands: Any) -> None:
    command = _command(
        commands, "decode", "print messages as tables",
        "Print messages as tables: field, name, length, value, meaning. Card data is masked.\n"
        "Files and standard input hold one message a line, or one in binary, or with --stream a capture of many.",
        [f"iso8583 decode {_SAMPLE}",
         "iso8583 decode --spec unionpay_cups --json < messages.hex",
         "iso8583 decode --stream --framing ascii4 < capture.bin"],
    )  # fmt: skip
    _add_reading(command)
    command.add_argument("--json", action="store_true", help="one JSON object a message; binary values in hexadecimal")
    command.add_argument("--nested", action="store_true", help="with --json: sub-fields as objects")
    command.add_argument(
        "--stream", action="store_true", help="the input is what went over a line in one direction, byte for byte"
    )
    command.add_argument(
        "--framing", choices=KINDS, default="len2", help="with --stream: how messages are told apart; default: len2"
    )


def _add_explain(commands: Any) -> None:
    command = _command(
        commands, "explain", "show a message byte by byte, and what is wrong with it",
        "Show messages byte by byte: a hex dump with the boundaries of the fields, their names, values and meanings;\n"
        "of a wrong message the place, the fault and its likely causes. Card data is masked, in the dump too.",
        [f"iso8583 explain {_SAMPLE}", "iso8583 explain --unmask --header tpdu message.bin"],
    )  # fmt: skip
    _add_reading(command)


def _add_diff(commands: Any) -> None:
    command = _command(
        commands, "diff", "compare two messages field by field",
        "Compare two messages field by field, and inside fields sub-field by sub-field. Exit status 1 if they differ.",
        ["iso8583 diff sent.hex received.hex", "iso8583 diff --json sent.hex received.hex"],
    )  # fmt: skip
    _add_reading(command, words=False)
    command.add_argument("--json", action="store_true", help="one JSON object a difference")
    for name in ("A", "B"):
        command.add_argument(name.lower(), metavar=name, help="hexadecimal or base64, or a file, or -")


def _add_encode(commands: Any) -> None:
    command = _command(
        commands, "encode", "make messages from JSON",
        "Make messages from JSON objects of field numbers or names to values; binary values in hexadecimal, fields\n"
        "with sub-fields also as objects of them. Also takes what decode --json --unmask prints.",
        ["""iso8583 encode '{"0": "0820", "11": 7, "41": "10000001", "60": {"1": "00", "2": "000001", "3": "301"}}'""",
         "iso8583 encode --output raw --framing len2 < messages.json | iso8583 decode --stream"],
    )  # fmt: skip
    _add_spec(command)
    command.add_argument("--header", metavar="HEX", help="bytes in front of the MTI: 5, 6, 11, 41 or 46 of them")
    command.add_argument(
        "--output", default="hex", choices=["hex", "base64", "raw"], help="how messages are written; default: hex"
    )
    command.add_argument("--framing", choices=KINDS, help="write each message as a frame of this kind")
    command.add_argument(
        "message", metavar="JSON", nargs="?", default="-", help="an object; or - for standard input (the default)"
    )
    command.add_argument("--file", metavar="FILE", help="objects of a file, one after the other")


def _add_check_spec(commands: Any) -> None:
    command = _command(
        commands, "check-spec", "check a spec",
        "Check a spec and list its fields. Exit status 1 if a source is missing, or a field that usually is sensitive\n"
        "is not marked so.",
        ["iso8583 check-spec my_acquirer.toml", "iso8583 check-spec packager.xml"],
    )  # fmt: skip
    command.add_argument("spec", metavar="SPEC", help="a .toml, .json, .yaml or .xml file, or a bundled spec")


def _add_convert(commands: Any) -> None:
    command = _command(
        commands, "convert", "turn a spec into one of another library, or back",
        "Turn a spec into the form of another library, or back. What the other form cannot say is refused by name.",
        ["iso8583 convert packager.xml --to toml -o my_acquirer.toml",
         "iso8583 convert unionpay_pos --to jpos-xml --flat --mti 0200"],
    )  # fmt: skip
    command.add_argument("spec", metavar="SPEC", help="a file, by its suffix, or a bundled spec")
    forms = "toml, moov-json, moov-yaml, jpos-xml, pyiso8583"
    command.add_argument("--from", dest="source", default="", metavar="FORM", help="if the suffix does not tell it")
    command.add_argument("--to", required=True, metavar="FORM", help=f"what to write: {forms}")
    command.add_argument("-o", "--output", metavar="FILE", help="where to write; default: standard output")
    command.add_argument("--flat", action="store_true", help="leave sub-fields out")
    command.add_argument("--mti", default="", metavar="MTI", help="write the fields of messages of this type")


def _add_specs(commands: Any) -> None:
    _command(commands, "specs", "list the bundled specs", "List the specs that come with the library.",
             ["iso8583 specs"])  # fmt: skip


# ---- reading -------------------------------------------------------------------------------------


class _Reader:
    """Decodes messages, and finds out what stands in front of them if it is told to."""

    _LENGTHS: Final = (("", 0), ("2-byte length", 2), ("length of 4 ASCII digits", 4))

    def __init__(self, spec: Spec, header: str) -> None:
        names = list(HEADERS) if header == "auto" else [header]
        lengths = self._LENGTHS if header == "auto" else self._LENGTHS[:1]
        # What fitted the last message most likely fits the next one: it is moved to the front.
        self._ways = [(spec.with_header(name), words, size) for name in names for words, size in lengths]

    def read(self, data: bytes) -> tuple[Message, str]:
        """(message, what stands in front of it).

        Raises:
            _UnreadableError: It is no message behind any header in question.
        """
        faults: list[_Fault] = []
        for index, (spec, words, size) in enumerate(self._ways):
            if size and self._length(data[:size]) != len(data) - size:
                continue
            try:
                message = spec.decode(data[size:])
            except DecodeError as error:
                faults.append(_Fault(error, spec, data[size:], words))
                continue
            self._ways.insert(0, self._ways.pop(index))
            return message, _front(words, spec)
        faults.sort(key=lambda fault: fault.weight, reverse=True)
        raise _UnreadableError(faults)

    @staticmethod
    def _length(head: bytes) -> int:
        if len(head) == 4:
            return int(head) if head.isdigit() else -1
        return int.from_bytes(head, "big")

    def is_sound(self, data: bytes) -> bool:
        try:
            self.read(data)
        except _UnreadableError:
            return False
        return True


class _Fault:
    """One reading that failed."""

    def __init__(self, error: DecodeError, spec: Spec, data: bytes, words: str) -> None:
        self.error = error
        self.spec = spec
        self.data = data
        self.front = _front(words, spec)

    @property
    def weight(self) -> tuple[int, int]:
        """The reading that got furthest is most likely the one that was meant."""
        message = self.error.message
        # A type that nobody sends is an accident of the bytes.
        if message is None or not hints.is_in_use(message.mti):
            return 0, 0
        return len(message), self.error.offset


class _UnreadableError(InputError):
    def __init__(self, faults: list[_Fault]) -> None:
        self.faults = faults
        best = faults[0]
        if len(faults) == 1:
            super().__init__(str(best.error))
            return
        lines = [f"no header makes this a message of {best.spec.name}; of {len(faults)} readings this got furthest"]
        lines.append(f"  {best.front}: {best.error}")
        # Hints of the others would only speak of headers again.
        others = [fault for fault in faults[1:FAULTS_SHOWN_MAX] if fault.weight > (0, 0)]
        lines += [f"  {fault.front}: {fault.error.detail} [{fault.error.code}]" for fault in others]
        super().__init__("\n".join(lines))


def _front(words: str, spec: Spec) -> str:
    header = f"header {spec.header.name}"
    return f"{words}, {header}" if words else header


def _messages(arguments: argparse.Namespace, reader: _Reader) -> Iterator[Found]:
    if arguments.file is not None and arguments.message:
        raise InputError("give a message or --file, not both")
    words = arguments.message or ["-"]
    if getattr(arguments, "stream", False):
        if len(words) > 1:
            raise InputError("--stream reads one file, or standard input")
        return from_capture(arguments.file or words[0], arguments.framing)
    if arguments.file is not None:
        return from_file(arguments.file, arguments.input, reader.is_sound)
    return from_words(words, arguments.input, reader.is_sound)


def _each(found: Iterable[Found], show: Callable[[Found], None], complain: Callable[[Found, InputError], None]) -> int:
    """Deal with every message; one that is wrong does not stop the others. Returns the exit status."""
    wrong = count = 0
    for one in found:
        count += 1
        try:
            if one.data is None:
                raise InputError(one.fault)
            show(one)
        except InputError as error:
            if one.single:
                raise
            wrong += 1
            complain(one, error)
    if wrong:
        sys.stdout.flush()
        print(f"{wrong} of {count} messages cannot be read", file=sys.stderr)
    return 1 if wrong else 0


# ---- commands ------------------------------------------------------------------------------------


def _decode(arguments: argparse.Namespace) -> int:
    if arguments.nested and not arguments.json:
        raise InputError("--nested goes with --json")
    reader = _Reader(load(arguments.spec), arguments.header)
    paint, width = _paint(sys.stdout), _width()

    def show(found: Found) -> None:
        assert found.data is not None
        message, front = reader.read(found.data)
        if arguments.json:
            place = {"place": found.place} if found.place else {}
            shown = as_json(message, unmask=arguments.unmask, tree=arguments.nested)
            _print_json({**place, "front": front, **shown})
            return
        parts = [found.place, describe.title(message), f"spec {message.spec.name}", front, f"{len(found.data)} bytes"]
        print(paint("bold", " · ".join(part for part in parts if part)))
        print(describe.table(message, unmask=arguments.unmask, width=width, paint=paint))
        if found.place:
            print()

    def complain(found: Found, error: InputError) -> None:
        if arguments.json:
            _print_json({"place": found.place, "error": _json_error(error)})
        else:
            print(paint("red", f"{found.place} · ✗ {describe.printable_lines(str(error))}"))
            print()

    return _each(_messages(arguments, reader), show, complain)


def _print_json(value: dict[str, Any]) -> None:
    # Characters that the terminal does not have are escaped as JSON does it.
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=ascii_only))


def _json_error(error: InputError) -> dict[str, Any]:
    if not isinstance(error, _UnreadableError):
        return {"code": "input", "detail": str(error)}
    best = error.faults[0].error
    return {
        "code": best.code, "path": best.path, "offset": best.offset, "detail": best.detail, "expected": best.expected,
        "got": best.got, "hint": best.hint, "front": error.faults[0].front,
    }  # fmt: skip


def _explain(arguments: argparse.Namespace) -> int:
    reader = _Reader(load(arguments.spec), arguments.header)
    paint, width = _paint(sys.stdout), _width()
    sound = True

    def show(found: Found) -> None:
        nonlocal sound
        assert found.data is not None
        try:
            message, front = reader.read(found.data)
            spec, data = message.spec, bytes(message)
        except _UnreadableError as error:
            best = error.faults[0]
            spec, data, front = best.spec, best.data, best.front
        if found.place:
            print(paint("bold", f"── {found.place} · {front} ──"))
        explained = explain.explain(spec, data, unmask=arguments.unmask, width=width, paint=paint)
        print(explained.text)
        if found.place:
            print()
        sound = sound and explained.sound

    def complain(found: Found, error: InputError) -> None:
        print(paint("red", f"{found.place} · ✗ {describe.printable_lines(str(error))}"))

    status = _each(_messages(arguments, reader), show, complain)
    return status or (0 if sound else 1)


def _diff(arguments: argparse.Namespace) -> int:
    reader = _Reader(load(arguments.spec), arguments.header)
    if arguments.a == arguments.b == "-":
        raise InputError("only one of A and B can be standard input")
    messages = []
    for place in ("A", "B"):
        data = one_of(getattr(arguments, place.lower()), arguments.input, reader.is_sound, place)
        try:
            messages.append(reader.read(data)[0])
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    left, right = messages
    found = describe.differences(left, right, unmask=arguments.unmask)
    if arguments.json:
        for one in found:
            _print_json({"path": one.path, "name": one.name, "a": one.left, "b": one.right, "note": one.note})
    else:
        heads = {one.path.partition(".")[0] for one in found}
        equal = sum(str(number) not in heads for number in left if number and number in right)
        print(describe.difference_table(found, equal, width=_width(), paint=_paint(sys.stdout)))
    return 1 if found else 0


def _encode(arguments: argparse.Namespace) -> int:
    if arguments.file is not None:
        text = text_of(arguments.file, "JSON", JSON_SIZE_MAX)
    elif arguments.message == "-":
        text = text_of("-", "JSON", JSON_SIZE_MAX)
    else:
        text = arguments.message
    for given in parsed(text):
        header = arguments.header or ""
        fields = given
        if isinstance(given.get("fields"), dict):
            if given.get("masked"):
                raise InputError("JSON: masked values cannot be sent; decode with --unmask")
            header = arguments.header if arguments.header is not None else str(given.get("header", ""))
            fields = given["fields"]
        front = hex_bytes(header, "--header")
        layout = next((layout for layout in HEADERS.values() if layout.size == len(front)), None)
        if layout is None:
            raise InputError(f"--header: expected 5, 6, 11, 41 or 46 bytes, got {len(front)}")
        spec = load(arguments.spec, layout.name)
        _write(spec.encode(spec_values(spec, fields), header=front or None), arguments)
    return 0


def _write(data: bytes, arguments: argparse.Namespace) -> None:
    if arguments.framing is not None:
        try:
            data = frame(data, arguments.framing)
        except ValueError as error:
            raise InputError(f"--framing {arguments.framing}: {error}") from None
    if arguments.output == "raw":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    elif arguments.output == "base64":
        print(b64encode(data).decode("ascii"))
    else:
        print(data.hex().upper())


def _check_spec(arguments: argparse.Namespace) -> int:
    definition = load(arguments.spec).definition
    paint = _paint(sys.stdout)
    print(paint("bold", checkspec.summary(definition)))
    print(f"source: {definition.source or 'missing'}")
    print()
    print("\n".join(checkspec.field_table(definition, paint).lines(_width())))
    for table in checkspec.code_tables(definition):
        codes.load_codes(table)
    warnings, notes = checkspec.shortcomings(definition)
    sys.stdout.flush()
    mark = _paint(sys.stderr)
    for kind, style, texts in (("warning", "yellow", warnings), ("note", "dim", notes)):
        for text in texts:
            print(f"{mark(style, kind)}: {parts.printable(text)}", file=sys.stderr)
    return 1 if warnings else 0


def _convert(arguments: argparse.Namespace) -> int:
    # Not above: the forms of others cost more to import than all the rest, and no other command needs them.
    from iso8583 import convert

    if not arguments.source and arguments.spec in specfile.bundled_names():
        definition = specfile.load_bundled(arguments.spec)
    else:
        definition = convert.read_file(arguments.spec, arguments.source)
    text = convert.write_text(definition, arguments.to, flat=arguments.flat, mti=arguments.mti)
    if arguments.output is None:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    else:
        try:
            Path(arguments.output).write_text(text, encoding="utf-8")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a file name"
            raise InputError(f"{arguments.output}: cannot be written: {why}") from None
    for what in convert.left_out(definition, arguments.to):
        print(f"left out: {what}", file=sys.stderr)
    return 0


def _specs(arguments: argparse.Namespace) -> int:
    paint = _paint(sys.stdout)
    table = Table([
        Column("name", paint, "cyan"), Column("fields", paint, right=True), Column("of", paint, right=True),
        Column("MTI", paint), Column("bitmap", paint), Column("source", paint, "dim", wrap=True),
    ])  # fmt: skip
    for name in specfile.bundled_names():
        definition = specfile.load_bundled(name)
        numbers = [str(len(definition.fields)), str(definition.field_max)]
        table.add([name, *numbers, definition.mti_encoding, definition.bitmap, definition.source])
    print("\n".join(table.lines(_width())))
    return 0


_RUN: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "decode": _decode,
    "explain": _explain,
    "diff": _diff,
    "encode": _encode,
    "check-spec": _check_spec,
    "convert": _convert,
    "specs": _specs,
}
