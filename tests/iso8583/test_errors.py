"""Every error code exists for a reason, is documented, and appears in a test."""

import inspect
import pickle
import re
from pathlib import Path

import pytest

import iso8583
from iso8583 import errors

HERE = Path(__file__).parent


def documented(cls: type[Exception]) -> set[str]:
    # Python 3.13 takes the indentation away, earlier ones keep it.
    text = re.search(r"code: (.*?)\n    \w+:", inspect.cleandoc(cls.__doc__ or ""), re.S)
    assert text
    return set(re.findall(r"``([a-z_]+)``", text[1]))


def test_every_documented_code_appears_in_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py") if path != Path(__file__))
    for cls in (errors.DecodeError, errors.EncodeError, errors.FrameError):
        codes = documented(cls)
        assert codes
        for code in codes:
            assert f"[{code}]" in tests or f'"{code}"' in tests, f"{cls.__name__} {code}"


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
    assert str(copy) == text and vars(copy) == vars(error)
