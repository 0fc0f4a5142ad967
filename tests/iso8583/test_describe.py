"""The table for people."""

import unicodedata

import iso8583
from iso8583.describe import rows, table


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def test_rows_name_fields_tags_and_codes() -> None:
    spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
    header = bytes.fromhex("6000000003603103000000")
    message = spec.decode(spec.encode({0: "0210", 39: "51", 55: {"9F36": b"\0\1"}, 63: "余额"}, header=header))
    found = {row.path: row for row in rows(message, unmask=True)}
    assert list(found) == ["tpdu", "header", "0", "39", "55", "55.9F36", "63"]
    assert found["header"].meaning == "requirement 3: sign on again"
    assert found["0"].meaning == "financial response"
    assert (found["39"].name, found["39"].value) == ("response_code", "51")
    assert found["39"].meaning == "余额不足 insufficient funds"
    assert (found["55.9F36"].length, found["55.9F36"].value) == ("2", "0001")
    assert found["63"].value == "余额"


def test_columns_line_up_behind_chinese_text(spec: iso8583.Spec) -> None:
    message = spec.decode(spec.encode({0: "0210", 39: "51", 43: "电力公司" + "x" * 32, 44: "中国"}))
    lines = table(message).splitlines()
    starts = {width(line[: line.rindex("  ")]) for line in lines[1:]}
    assert len(starts) == 1, lines


def test_long_values_are_wrapped_and_complete(spec: iso8583.Spec) -> None:
    value = bytes(range(100))
    text = table(spec.decode(spec.encode({0: "0800", 62: value})), unmask=True)
    assert max(width(line) for line in text.splitlines()) < 130
    # The wrapped parts, joined, are the whole value.
    assert value.hex().upper() in "".join(text.split()).replace("自定义域", "")
