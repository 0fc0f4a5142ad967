"""The command ``iso8583``: look at messages, make them, check specs.

Card data is masked unless --unmask asks for it. Exit status 0: done; 1: check-spec found something missing;
2: the input is wrong, and standard error says what, where and what was expected.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from iso8583 import codes, describe, specfile
from iso8583.errors import DecodeError, Iso8583Error
from iso8583.message import Message, Spec, load
from iso8583.spec import HEADERS

INPUT_SIZE_MAX: Final = 4 * 65536  # characters; twice the largest message in hexadecimal, with room for white space


class InputError(Exception):
    """What the caller gave cannot be read. The text names the place, never the data."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (InputError, Iso8583Error) as error:
        print(f"iso8583 {arguments.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0  # the reader of our output, e.g. `head`, has seen enough


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iso8583",
        description="Look at ISO 8583 messages, make them, check specs.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: iso8583 decode --spec unionpay_pos 08000020000000C0001000000131303030303030313839383130303030"
        "303030303030310011000000010030",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    decode = commands.add_parser(
        "decode",
        help="print a message as a table",
        description="Print a message as a table: field, name, length, value, meaning. Card data is masked.",
        epilog="example: iso8583 decode --spec unionpay_pos --header auto - < message.hex",
    )
    _add_spec(decode)
    decode.add_argument(
        "--header",
        default="auto",
        choices=["auto", *HEADERS],
        help="what stands in front of the MTI; auto (the default) tries all, with and without a 2-byte length",
    )
    decode.add_argument("--json", action="store_true", help="print one JSON object; binary values in hexadecimal")
    decode.add_argument("--unmask", action="store_true", help="show PAN, tracks, PIN block, keys: test data only")
    decode.add_argument(
        "message", metavar="HEX", nargs="+", help="hexadecimal, white space ignored; - reads standard input"
    )
    decode.set_defaults(run=_decode)

    encode = commands.add_parser(
        "encode",
        help="make a message from JSON",
        description="Make a message from a JSON object of field numbers or names to values; binary values in "
        "hexadecimal, TLV fields also as objects. Prints hexadecimal. Also takes what decode --json --unmask prints.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""example: echo '{"0": "0820", "11": 7, "41": "10000001"}' | iso8583 encode --spec unionpay_pos -""",
    )
    _add_spec(encode)
    encode.add_argument("--header", metavar="HEX", help="bytes in front of the MTI: 5, 6 or 11 of them")
    encode.add_argument("message", metavar="JSON", help="the object itself; - reads standard input")
    encode.set_defaults(run=_encode)

    check = commands.add_parser(
        "check-spec",
        help="check a spec file",
        description="Check a spec file and list its fields. Exit status 1 if an entry does not name its source.",
        epilog="example: iso8583 check-spec my_acquirer.toml",
    )
    check.add_argument("spec", metavar="FILE", help="a .toml file, or the name of a bundled spec")
    check.set_defaults(run=_check_spec)
    return parser


def _add_spec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spec",
        required=True,
        metavar="SPEC",
        help=f"a .toml file, or one of {', '.join(specfile.bundled_names())}",
    )


def _decode(arguments: argparse.Namespace) -> int:
    data = _hex(_text(" ".join(arguments.message)), "HEX")
    if arguments.header == "auto":
        message, framing = _decode_auto(load(arguments.spec), data)
        print(f"framing: {framing}", file=sys.stderr)
    else:
        message = load(arguments.spec, arguments.header).decode(data)
    if arguments.json:
        print(json.dumps(_as_json(message, unmask=arguments.unmask), ensure_ascii=False))
    else:
        print(describe.table(message, unmask=arguments.unmask))
    return 0


def _decode_auto(spec: Spec, data: bytes) -> tuple[Message, str]:
    faults = []
    for name in HEADERS:
        reader = spec.with_header(name)
        for prefixed in (False, True):
            if prefixed and int.from_bytes(data[:2], "big") != len(data) - 2:
                continue
            framing = f"2-byte length, header {name}" if prefixed else f"header {name}"
            try:
                return reader.decode(data[2:] if prefixed else data), framing
            except DecodeError as error:
                faults.append((error.offset, f"  {framing}: {error}"))
    # The reading that got furthest is most likely the one that was meant.
    faults.sort(key=lambda fault: -fault[0])
    raise InputError(f"no header makes this a message of {spec.name}; tried\n" + "\n".join(text for _, text in faults))


def _as_json(message: Message, *, unmask: bool) -> dict[str, Any]:
    fields: dict[str, str] = {}
    for number in message:
        if not unmask:
            fields[str(number)] = message.masked(number)
            continue
        value = message[number]
        fields[str(number)] = value if isinstance(value, str) else value.hex().upper()
    return {
        "spec": message.spec.name,
        "header": message.header.hex(),
        "masked": not unmask,
        "fields": fields,
    }


def _encode(arguments: argparse.Namespace) -> int:
    try:
        given = json.loads(_text(arguments.message))
    except json.JSONDecodeError as error:
        raise InputError(f"JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    if not isinstance(given, dict):
        raise InputError("JSON: expected an object of fields")
    header = arguments.header or ""
    if isinstance(given.get("fields"), dict):
        if given.get("masked"):
            raise InputError("JSON: masked values cannot be sent; decode with --unmask")
        header = arguments.header if arguments.header is not None else str(given.get("header", ""))
        given = given["fields"]
    header_bytes = _hex(header, "--header")
    layout = next((layout for layout in HEADERS.values() if layout.size == len(header_bytes)), None)
    if layout is None:
        raise InputError(f"--header: expected 5, 6 or 11 bytes, got {len(header_bytes)}")
    spec = load(arguments.spec, layout.name)
    values = {key: _value(spec, key, value) for key, value in given.items()}
    print(spec.encode(values, header=header_bytes or None).hex().upper())
    return 0


def _value(spec: Spec, key: str, value: Any) -> Any:
    try:
        number = spec.number_of(key)
        binary = number != 0 and spec.fields[number].type is bytes
    except KeyError:
        return value  # encode() says what is wrong with it
    if not binary:
        return value
    if isinstance(value, dict):
        return {tag: _tlv_value(f"{key}.{tag}", content) for tag, content in value.items()}
    return _tlv_value(key, value)


def _tlv_value(path: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {tag: _tlv_value(f"{path}.{tag}", content) for tag, content in value.items()}
    if not isinstance(value, str):
        raise InputError(f"field {path}: expected hexadecimal text")
    return _hex(value, f"field {path}")


def _check_spec(arguments: argparse.Namespace) -> int:
    definition = load(arguments.spec).definition
    print(f"{definition.name}: {len(definition.fields)} fields of {definition.field_max}, MTI {definition.mti}, "
          f"bitmap {definition.bitmap}")  # fmt: skip
    print(f"source: {definition.source or 'missing'}")
    missing = [] if definition.source else ["source"]
    for field in definition.fields:
        if field.codes is not None:
            codes.load_codes(field.codes)
        if not field.source:
            missing.append(f"field.{field.number}.source")
        prefix = field.length_prefix or "fixed"
        kind = f"{field.content} {field.encoding}"
        sensitive = f"  sensitive: {field.sensitive}" if field.sensitive else ""
        print(f"{field.number:>5}  {field.name:<28}  {kind:<14}  {prefix:<6}  {field.expected()}{sensitive}")
    if missing:
        print(f"missing: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def _text(argument: str) -> str:
    if argument != "-":
        return argument
    text = sys.stdin.read(INPUT_SIZE_MAX + 1)
    if len(text) > INPUT_SIZE_MAX:
        raise InputError(f"standard input: more than {INPUT_SIZE_MAX} characters")
    return text


def _hex(text: str, place: str) -> bytes:
    digits = "".join(text.split())
    for index, character in enumerate(digits):
        if character not in "0123456789abcdefABCDEF":
            raise InputError(f"{place}: expected hexadecimal characters, found something else at character {index + 1}")
    if len(digits) % 2:
        raise InputError(f"{place}: expected two characters a byte, got an odd number ({len(digits)})")
    return bytes.fromhex(digits)
