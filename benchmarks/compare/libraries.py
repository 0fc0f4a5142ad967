"""How each library is used: its spec, prepared once, and one statement for each case.

A statement is what a user of the library would write after its documentation, with ``data`` (bytes), ``fields`` (the
library's own kind of map) and whatever ``names`` holds in reach; it leaves its result in ``answer``. The same text is
checked and timed. ``plain`` turns an answer into the common form of ``messages.py``; that is not timed.

Each function runs in an environment where its library is installed, and imports it by name at run time: two of them
are called ``iso8583``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Final

from benchmarks.compare.messages import LAYOUT, Fields, Form

#: What is timed. "patch 2" is from bytes to bytes: decode, replace two fields, encode. The last two split our own work.
CASES: Final[Mapping[str, str]] = {
    "map": "decode to a map",
    "encode": "encode",
    "read3": "decode + read 3",
    "patch": "patch 2",
    "tlv": "F55 to a map",
    "decode": "decode alone",
    "patched": "patched alone",
}


@dataclass(frozen=True)
class Side:
    """One library, ready to run with one form."""

    form: Form
    names: Mapping[str, Any]  # what the statements may use
    statements: Mapping[str, str]  # case -> statement; a case that the library does not have is left out
    own: Callable[[Fields], Any]  # a message in the library's own terms
    plain: Callable[[Any], Fields]  # and back: what "map" answers
    icc: Callable[[bytes], Any] = bytes  # field 55 in the library's own terms
    tags: Callable[[Any], dict[str, bytes]] = dict


def this(form: Form) -> Side:
    """This library."""
    iso8583 = import_module("iso8583")
    tlv = import_module("iso8583.tlv")
    spec = iso8583.load(form.spec)
    return Side(
        form,
        {"decode": spec.decode, "encode": spec.encode, "icc_map": tlv.to_dict},
        {
            "map": "answer = decode(data).to_dict()",
            "encode": "answer = encode(fields)",
            "read3": "message = decode(data); answer = message[11], message[41], message[42]",
            "patch": "answer = decode(data).patched({11: '777777', 41: 'GS009999'})",
            "tlv": "answer = icc_map(icc)",
            "decode": "answer = decode(data)",
            "patched": "answer = decoded.patched({11: '777777', 41: 'GS009999'})",
        },
        own=dict,
        plain=dict,
    )


def pyiso8583(form: Form) -> Side:
    iso8583 = import_module("iso8583")
    text = "b" if form.packed else "ascii"
    spec: dict[str, dict[str, Any]] = {
        "h": {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0, "max_len": 0, "desc": ""},
        "t": {"data_enc": text, "len_enc": text, "len_type": 0, "max_len": 2 if form.packed else 4, "desc": ""},
    }
    for bitmap in ("p", "1"):
        hexadecimal = form.bitmap != "binary"
        enc = "ascii" if hexadecimal else "b"
        spec[bitmap] = {"data_enc": enc, "len_enc": enc, "len_type": 0, "max_len": 16 if hexadecimal else 8, "desc": ""}
    for number, (kind, length, prefix) in LAYOUT.items():
        packed = form.packed and kind in {"digits", "track"}
        spec[str(number)] = {
            "data_enc": "b" if packed or kind == "bytes" else "ascii",
            "len_enc": form.lengths,
            "len_type": prefix if form.lengths == "ascii" else (prefix + 1) // 2,
            "len_count": "nibbles" if packed else "bytes",
            "left_pad": "0",
            "max_len": length,
            "desc": "",
        }

    def own(fields: Fields) -> dict[str, str]:
        found = {str(number) if number else "t": _hex(value) for number, value in fields.items()}
        if form.packed and "35" in found:
            found["35"] = found["35"].replace("=", "D")
        return found

    def plain(answer: dict[str, str]) -> Fields:
        return _from_hex({0 if key == "t" else int(key): v for key, v in answer.items() if key not in {"h", "p", "1"}})

    return Side(
        form,
        {"spec": spec, "decode": iso8583.decode, "encode": iso8583.encode},
        {
            "map": "answer, _ = decode(data, spec)",
            "encode": "answer, _ = encode(fields, spec)",
            "read3": "found, _ = decode(data, spec); answer = found['11'], found['41'], found['42']",
            "patch": "found, _ = decode(data, spec); found['11'] = '777777'; found['41'] = 'GS009999'; "
            "answer, _ = encode(found, spec)",
        },
        own,
        plain,
    )


def iso8583sim(form: Form) -> Side:
    core, types, wire = (import_module(f"iso8583sim.{name}") for name in ("core", "core.types", "wire"))
    emv = import_module("iso8583sim.core.emv")
    # Its table holds 39 and 49 as numeric, which would be packed; everybody else sends text.
    for number in (39, 49):
        types.ISO8583_FIELDS[number] = replace(
            types.ISO8583_FIELDS[number],
            field_type=types.FieldType.ALPHANUMERIC,
            padding_char=" ",
            padding_direction="right",
        )
    layout = wire.WireFormat.bcd() if form.packed else wire.WireFormat(bitmap="hex")
    return Side(
        form,
        {
            "layout": layout,
            "decode": wire.decode_message,
            "encode": wire.encode_message,
            "Message": types.ISO8583Message,
            "builder": core.ISO8583Builder(),
            "icc_map": emv.parse_emv_data,
        },
        {
            "map": "answer = decode(data, layout).fields",
            "encode": "answer = encode(Message(mti=fields[0], fields=fields), layout, builder)",
            "read3": "found = decode(data, layout).fields; answer = found[11], found[41], found[42]",
            # Without a network: the one it detects would ask every response for fields of a request.
            "patch": "message = decode(data, layout); message.network = None; "
            "message.fields[11] = '777777'; message.fields[41] = 'GS009999'; "
            "answer = encode(message, layout, builder)",
            "tlv": "answer = icc_map(icc)",
        },
        own=lambda fields: {number: _hex(value) for number, value in fields.items()},
        plain=_from_hex,
        icc=lambda data: data.hex().upper(),
        tags=lambda answer: {tag: bytes.fromhex(value) for tag, value in answer.items()},
    )


def py8583(form: Form) -> Side:
    module, specs = import_module("py8583.py8583"), import_module("py8583.py8583spec")
    spec = specs.IsoSpec1987BCD() if form.packed else specs.IsoSpec1987ASCII()
    for number, (kind, _, prefix) in LAYOUT.items():
        if kind == "bytes":
            spec.ContentType(number, "b")
            spec.DataType(number, module.DT.BIN)
        elif kind == "text" or (kind == "track" and not form.packed):
            spec.ContentType(number, "ans")  # its track 2 in ASCII turns "=" into "D" and adds an F
            spec.DataType(number, module.DT.ASCII)
        if prefix:
            spec.LengthDataType(number, module.DT.BCD if form.packed else module.DT.ASCII)
    # FieldData() counts the characters of a binary value, the parser its bytes: building needs another maximum.
    build = copy(spec)  # a second IsoSpec would overwrite the first: they share their tables
    build.ContentTypes = {
        number: {**entry, "MaxLen": entry["MaxLen"] * 2} if number in LAYOUT and LAYOUT[number][0] == "bytes" else entry
        for number, entry in spec.ContentTypes.items()
    }

    def own(fields: Fields) -> dict[int, str | int]:
        return {
            number: int(value) if number and LAYOUT[number][0] == "digits" else _hex(value)
            for number, value in fields.items()
        }

    def plain(answer: Any) -> Fields:
        found: dict[int, str] = {0: answer.MTI()}
        for number, bit in answer.Bitmap().items():
            if bit and number != 1:
                value = answer.FieldData(number)
                # Digits are integers here, so the zeros in front are gone; the spec knows how many of a fixed field.
                kind, length, prefix = LAYOUT[number]
                found[number] = f"{value:0{1 if prefix else length}}" if kind == "digits" else value
        return _from_hex(found)

    return Side(
        replace(form, bitmap="binary" if form.packed else "hex"),
        {"Iso8583": module.Iso8583, "spec": spec, "build": build},
        {
            "map": "answer = Iso8583(data, spec)",
            "encode": "message = Iso8583(IsoSpec=build); message.MTI(fields[0])\n"
            "for number, value in fields.items():\n"
            "    if number: message.FieldData(number, value); message.Field(number, 1)\n"
            "answer = message.BuildIso()",
            "read3": "message = Iso8583(data, spec); "
            "answer = message.FieldData(11), message.FieldData(41), message.FieldData(42)",
            "patch": "message = Iso8583(data, spec); message.FieldData(11, 777777); message.FieldData(41, 'GS009999'); "
            "answer = message.BuildIso()",
        },
        own,
        plain,
    )


def starkbank(form: Form) -> Side:
    iso8583 = import_module("starkbank.iso8583")
    rules, lengths = import_module("starkbank.iso8583.utils.parser"), import_module("starkbank.iso8583.utils.length")
    field = import_module("starkbank.iso8583.utils.field").Field
    version = import_module("starkbank.iso8583.version").IsoVersion
    base = import_module("starkbank.iso8583.template.base").Template
    header = import_module("starkbank.iso8583.utils.header").NoHeaderRule
    digits = rules.ParseBcdString if form.packed else rules.ParseString
    prefix_form = "binary" if form.packed else "ascii"

    entries = [
        field(name="MTI", lengthRule=lengths.FixedLengthRule(limit=4), parsingRule=digits()),
        field(name="DE000", lengthRule=lengths.FixedLengthRule(limit=8), parsingRule=rules.ParseBitmap(offset=0)),
        field(name="DE001", lengthRule=lengths.FixedLengthRule(limit=8), parsingRule=rules.ParseBitmap(offset=64)),
    ]
    for number, (kind, length, prefix) in LAYOUT.items():
        size = (prefix + 1) // 2 if form.packed else prefix
        entries.append(
            field(
                name=f"DE{number:03}",
                lengthRule=lengths.VariableLengthRule(limit=length, byteLength=size, encoding=prefix_form)
                if prefix
                else lengths.FixedLengthRule(limit=length),
                parsingRule={
                    "digits": digits,
                    "track": digits,
                    "text": rules.ParseString,
                    "bytes": rules.ParseHexadecimal,
                }[kind](),
            )
        )

    def own(fields: Fields) -> dict[str, str]:
        found = {f"DE{number:03}" if number else "MTI": _hex(value) for number, value in fields.items()}
        if form.packed and "DE035" in found:
            found["DE035"] = found["DE035"].replace("=", "D")
        return found

    def plain(answer: dict[str, str]) -> Fields:
        kept = {key: value for key, value in answer.items() if key not in {"BMP", "DE001", "Length"}}
        return _from_hex({0 if key == "MTI" else int(key[2:]): value for key, value in kept.items()})

    names = {
        "parse": iso8583.parse,
        "unparse": iso8583.unparse,
        "template": {version._1987: base(headerRule=header(), fields=entries)},
    }
    return Side(
        replace(form, bitmap="binary", lengths=prefix_form),
        names,
        {
            "map": "answer = parse(data, template)",
            "encode": "answer = unparse(fields, template)",
            "read3": "found = parse(data, template); answer = found['DE011'], found['DE041'], found['DE042']",
            "patch": "found = parse(data, template); found['DE011'] = '777777'; found['DE041'] = 'GS009999'; "
            "answer = unparse(found, template)",
        },
        own,
        plain,
    )


def toolbox(form: Form) -> Side | None:
    if not form.packed:
        return None
    package, fixed, extendable = (
        import_module(f"iso_8583{name}") for name in ("", ".fixed_formats", ".extendable_formats")
    )
    lengths, formats = extendable.LengthType, fixed.FieldFormat
    spec = {
        number: package.FieldSpec(
            {0: lengths.FIXED, 2: lengths.LLVAR, 3: lengths.LLLVAR}[prefix],
            {"digits": formats.N, "track": formats.Z, "text": formats.ANSP, "bytes": formats.B}[kind],
            length,
            min_length=1 if prefix else 0,
        )
        for number, (kind, length, prefix) in LAYOUT.items()
    }

    def own(fields: Fields) -> dict[int, Any]:
        found: dict[int, Any] = {0: int(str(fields[0]), 16), **{n: v for n, v in fields.items() if n}}
        if 35 in found:
            found[35] = found[35].replace("=", "D")
        return found

    def plain(answer: Any) -> Fields:
        found: Fields = {0: f"{int(answer._mti):04x}", **answer.fields()}
        if 35 in found:
            found[35] = str(found[35]).replace("D", "=")
        return found

    return Side(
        replace(form, lengths="binary"),
        {"Message": package.Message, "spec": spec},
        {
            "map": "answer = Message.unpack(spec, data)",
            "encode": "message = Message(spec, fields[0])\n"
            "for number, value in fields.items():\n"
            "    if number: message[number] = value\n"
            "answer = message.pack()",
            "read3": "message = Message.unpack(spec, data); answer = message[11], message[41], message[42]",
            "patch": "message = Message.unpack(spec, data); message[11] = '777777'; message[41] = 'GS009999'; "
            "answer = message.pack()",
        },
        own,
        plain,
    )


def _hex(value: str | bytes) -> str:
    return value.hex().upper() if isinstance(value, bytes) else value


def _from_hex(found: Mapping[int, str]) -> Fields:
    fields: Fields = {}
    for number, value in found.items():
        kind = LAYOUT[number][0] if number else "digits"
        fields[number] = bytes.fromhex(value) if kind == "bytes" else value
        if kind == "track":
            fields[number] = value.upper().replace("D", "=")
    return fields


@dataclass(frozen=True)
class Library:
    """What to install and how to use it."""

    requirement: str  # for pip; empty is this library, which is not installed but taken from the tree
    side: Callable[[Form], Side | None]


OURS: Final = "this library"
REFERENCE: Final = "pyiso8583"  # ratios are to it

LIBRARIES: Final[Mapping[str, Library]] = {
    OURS: Library("", this),
    REFERENCE: Library("pyiso8583==4.0.1", pyiso8583),
    "iso8583sim": Library("iso8583sim==1.6.0", iso8583sim),
    "py8583": Library("py8583==1.3", py8583),
    "starkbank-iso8583": Library("starkbank-iso8583==0.7.1", starkbank),
    "iso-8583-toolbox": Library("iso-8583-toolbox==0.1.0", toolbox),
}

#: Tried with Python 3.11 and left out.
UNFIT: Final[Mapping[str, str]] = {
    "cardutil 0.7.3": "reads messages with a 128-bit bitmap only, and among those none with field 128; no BCD",
    "ISO8583-Module 1.3": "is written for Python 2: cannot be imported",
    "iso8583 1.4": "cannot be installed by pip alone: its setup imports a package that it does not ask for",
    "bpc8583 1.60": "cannot be installed: needs pycrypto, which no longer compiles",
    "ISO8583-Dlib 0.1.8": "reads some of fields 1 to 14, at fixed offsets; no variable fields, no encoder",
}
