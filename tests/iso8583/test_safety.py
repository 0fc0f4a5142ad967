"""What goes wrong only after a million messages, from many threads, or with a peer who means it."""

import contextlib
import gc
import resource
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

import iso8583

ROUNDS = 20_000


def blocks_after(action: Callable[[], object], rounds: int) -> int:
    for _ in range(rounds):
        action()
    gc.collect()
    return sys.getallocatedblocks()


def decode_badly(spec: iso8583.Spec, data: bytes) -> str:
    try:
        spec.decode(data)
    except iso8583.DecodeError as error:
        return str(error)
    raise AssertionError("a fault went unnoticed")


def actions(spec: iso8583.Spec, data: bytes, values: dict[int, Any]) -> dict[str, Callable[[], object]]:
    message = spec.decode(data)
    without = {key: value for key, value in values.items() if key != 55}
    return {
        "decode": lambda: spec.decode(data),
        "buffers": lambda: spec.decode(bytearray(data)),
        "map": lambda: spec.decode(data).to_dict(),
        "tree": lambda: spec.decode(data).to_dict(nested=True),
        "path": lambda: message["55.9F26"],
        "encode": lambda: spec.encode(values),
        "encode trees": lambda: spec.encode(without | {4: 12, 55: {"9F26": bytes(8)}}),
        "in place": lambda: message.patched({11: "000124"}),
        "patch": lambda: message.patched({2: "6222000000000017", 62: None}),
        "reply": lambda: message.reply({39: "00"}),
        "truncated": lambda: decode_badly(spec, data[:-1]),
        "content": lambda: decode_badly(spec, data[:30] + b"\xff" + data[31:]),
        "findings": lambda: spec.decode(data[:-1], strict=False).findings,
        "tlv": lambda: iso8583.tlv.to_dict(message.raw(55)),
        "repr": lambda: repr(message),
    }


@pytest.mark.parametrize(
    "name",
    ["decode", "buffers", "map", "tree", "path", "encode", "encode trees", "in place", "patch", "reply", "truncated",
     "content", "findings", "tlv", "repr"],
)  # fmt: skip
def test_nothing_leaks(spec: iso8583.Spec, purchase: bytes, purchase_values: dict[int, Any], name: str) -> None:
    action = actions(spec, purchase, purchase_values)[name]
    rounds = ROUNDS if name in ("decode", "map", "encode", "in place", "tlv") else ROUNDS // 20
    first = blocks_after(action, rounds)
    # One block a call would be `rounds`; caches and the test itself take a few once.
    assert blocks_after(action, rounds) - first < rounds // 50


def test_a_million_decodes_and_errors_take_no_memory(spec: iso8583.Spec, purchase: bytes) -> None:
    broken = purchase[:12] + b"\xaa" + purchase[13:]
    for _ in range(10_000):
        spec.decode(purchase)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1_000_000):
        spec.decode(purchase)
    for _ in range(100_000):
        with contextlib.suppress(iso8583.DecodeError):
            spec.decode(broken)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024  # KiB


def test_bitmaps_of_a_peer_do_not_fill_our_memory() -> None:
    """Each set of fields has a plan of some KiB; a peer can send as many sets as it likes."""
    spec = iso8583.load("iso8583_1987_ascii")
    fixed = [number for number, field in spec.fields.items() if field.fixed and field.content == "n"][:14]
    values = {number: "1" * spec.fields[number].length_max for number in fixed}
    messages = [
        spec.encode({0: "0200"} | {number: values[number] for place, number in enumerate(fixed) if chosen >> place & 1})
        for chosen in range(1 << len(fixed))
    ]
    for data in messages[:200]:
        spec.decode(data)
    gc.collect()
    tracemalloc.start()
    for data in messages:
        assert len(spec.decode(data)) >= 1
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1_000_000, f"{len(messages)} bitmaps left {grown} bytes"


def test_a_plan_that_was_pushed_out_still_serves_its_messages() -> None:
    spec = iso8583.Spec(iso8583.load("iso8583_1987_ascii").definition)
    kept = spec.decode(spec.encode({0: "0200", 3: "123456", 32: "77", 41: "ABCDEFGH"}))
    fixed = [number for number, field in spec.fields.items() if field.fixed and field.content == "n"][:9]
    for chosen in range(1 << len(fixed)):
        picked = [number for place, number in enumerate(fixed) if chosen >> place & 1]
        values = {number: "1" * spec.fields[number].length_max for number in picked}
        spec.decode(spec.encode({0: "0800"} | values))
    gc.collect()
    assert kept.to_dict() == {0: "0200", 3: "123456", 32: "77", 41: "ABCDEFGH"}


def test_one_spec_serves_many_threads(spec: iso8583.Spec, purchase: bytes, purchase_values: dict[int, Any]) -> None:
    expected = spec.decode(purchase).to_dict()
    faults: list[BaseException] = []
    interval = sys.getswitchinterval()

    def work(number: int) -> None:
        stan = f"{number:06d}"
        try:
            for turn in range(400):
                values = purchase_values | {11: stan, 62: bytes([turn % 256]) * (turn % 50)}
                message = spec.decode(spec.encode(values))
                assert message.to_dict() == expected | {11: stan, 62: values[62]}
                assert spec.decode(message.patched({11: "999999"}))[11] == "999999"
                assert spec.decode(spec.encode({0: "0200", 55: {"9F26": stan.encode()}}))["55.9F26"] == stan.encode()
                decode_badly(spec, purchase[: turn % len(purchase)])
        except BaseException as error:
            faults.append(error)

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not faults, faults[0]


@pytest.mark.parametrize("start", ["encode", "patched"])
def test_a_mapping_that_changes_while_it_is_encoded_harms_nobody(
    spec: iso8583.Spec, purchase: bytes, start: str
) -> None:
    """What has been taken out of the dict before its values run code of their own stays what it was."""

    class Tag(str):
        values: dict[int, Any]
        kept: list[str]

        def __str__(self) -> str:
            self.values.clear()
            gc.collect()
            # Whoever still looks at the freed string sees one of these.
            self.kept = ["".join(["OTHER", f"{number:03d}"]) for number in range(1000)]
            return "123456789012"

    values: dict[int, Any] = {0: "0200", 41: "".join(["ABC", "DEFGH"]), 52: bytes(bytearray(b"SECRET78"))}
    if start == "patched":
        del values[0]
    tag = Tag("x")
    tag.values = values
    values[37] = tag
    data = spec.encode(values) if start == "encode" else spec.decode(purchase).patched(values)
    message = spec.decode(data)
    assert message[37] == "123456789012"
    assert message[41] == "ABCDEFGH"
    assert message[52] == b"SECRET78"


def test_every_way_out_of_encode_lets_go_of_what_it_held(spec: iso8583.Spec, purchase: bytes) -> None:
    value = bytes(900)
    before = sys.getrefcount(value)
    for bad in ({4: "x"}, {200: "1"}, {"no_such_field": 1}, {55: "text"}, {55: {"9F26": 1}}):
        with pytest.raises(iso8583.EncodeError):
            spec.encode({0: "0200", 62: value, **bad})
        with pytest.raises(iso8583.EncodeError):
            spec.decode(purchase).patched({62: value, **bad})
    gc.collect()  # errors and the frames that they come from form circles
    assert sys.getrefcount(value) == before


def test_a_finding_that_is_raised_is_forgotten_with_its_message(spec: iso8583.Spec) -> None:
    """An error keeps the frames it has passed, they keep the message, and no collector looks into a message."""
    data = bytes.fromhex("0800 0020000000000000 0000A7")

    def raised() -> None:
        message = spec.decode(data, strict=False)
        with contextlib.suppress(iso8583.DecodeError):
            raise message.findings[0]

    raised()
    gc.collect()
    before = sum(isinstance(thing, iso8583.DecodeError) for thing in gc.get_objects())
    for _ in range(50):
        raised()
    gc.collect()
    assert sum(isinstance(thing, iso8583.DecodeError) for thing in gc.get_objects()) == before


def test_a_sign_of_any_byte_makes_sound_text() -> None:
    """Text that says it is ASCII must be: what reads it later trusts it."""
    spec = iso8583.load("iso8583_1987_bcd")
    data = bytearray(spec.encode({0: "0200", 28: "D00000001"}))
    for sign in range(256):
        data[10] = sign
        value = spec.decode(data, strict=False)[28]
        assert value == chr(sign) + "00000001"
        assert value.isascii() == (sign < 128)
        assert value.encode("latin-1")[0] == sign
