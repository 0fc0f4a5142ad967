"""Every error code exists for a reason, is documented, and appears in a test."""

import inspect
import pickle
import re
import traceback
from pathlib import Path

import pytest

import iso8583
from iso8583 import errors

PAN = "6222987654321097"

HERE = Path(__file__).parent


def frame_codes() -> set[str]:
    # Python 3.13 takes the indentation away, earlier ones keep it.
    text = re.search(r"code: (.*?)\n    \w+:", inspect.cleandoc(errors.FrameError.__doc__ or ""), re.S)
    assert text
    return set(re.findall(r"``([a-z_]+)``", text[1]))


def test_every_documented_code_appears_in_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py") if path != Path(__file__))
    for codes in (errors.DECODE_CODES, errors.ENCODE_CODES, frame_codes()):
        assert codes
        for code in codes:
            assert f"[{code}]" in tests or f'"{code}"' in tests, code


def test_what_the_data_says_is_shown_only_when_asked_for(spec: iso8583.Spec, purchase: bytes) -> None:
    """An error knows the data, or it could not help; none of it may leave in a text, an attribute or a pickle."""
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(purchase[:-3])
    error = caught.value
    secrets = [PAN, purchase.hex(), "3012", repr(purchase)[2:-1], purchase[14:22].hex()]
    shown = [str(error), repr(error), str(error.args), error.hint, error.detail, error.expected, error.got]
    shown += ["".join(traceback.format_exception(error)), repr(error.message)]
    shown += [str(value) for key, value in vars(error).items() if key != "_source"]
    for secret in secrets:
        assert not any(secret in text for text in shown), secret
        assert secret.encode() not in pickle.dumps(error)
    assert purchase[10:30] not in pickle.dumps(error)
    assert error.unmask().startswith(str(error))
    copied = pickle.loads(pickle.dumps(error))
    assert str(copied) == str(error) and copied.message is None and copied.unmask() == str(error)


def test_an_error_has_the_fields_in_front_of_it(spec: iso8583.Spec, purchase: bytes) -> None:
    message = spec.decode(purchase)
    start = message.span(41)[0]
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(purchase[: start + 2] + b"\x00" + purchase[start + 3 :])
    so_far = caught.value.message
    assert (caught.value.code, caught.value.path, caught.value.offset) == ("content", "41", start)
    assert so_far.mti == "0200"
    assert so_far.to_dict() == {number: message[number] for number in message if number < 41}
    with pytest.raises(iso8583.DecodeError) as caught:
        spec.decode(b"\x02")
    assert caught.value.message is None


def test_the_tree_has_one_root() -> None:
    for cls in (errors.DecodeError, errors.EncodeError, errors.SpecError, errors.FrameError):
        assert issubclass(cls, iso8583.Iso8583Error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (iso8583.DecodeError("length", "2", 10, "too long"), "field 2 at byte 10: too long [length]"),
        (iso8583.DecodeError("mti", "mti", 0, "no"), "mti at byte 0: no [mti]"),
        (iso8583.EncodeError("tlv", "55.9F", "no tag"), "field 55.9F: no tag [tlv]"),
        (iso8583.SpecError("a.toml", "field.2.name", "missing"), "a.toml: field.2.name: missing [spec]"),
        (iso8583.SpecError("a.toml", "", "not TOML"), "a.toml: not TOML [spec]"),
        (iso8583.FrameError("empty", "no bytes"), "frame: no bytes [empty]"),
    ],
)
def test_texts_say_where_what_and_code_and_survive_pickling(error: iso8583.Iso8583Error, text: str) -> None:
    assert str(error) == text
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == text
    assert {key: vars(copy)[key] for key in vars(error) if key != "_hint"} == {
        key: value for key, value in vars(error).items() if key != "_hint"
    }
