"""Code tables."""

import pytest

import iso8583
from iso8583 import codes


def test_every_table_loads_and_is_named_by_the_specs() -> None:
    assert codes.table_names() == ["currencies", "emv_tags", "processing_codes", "response_codes"]
    for name in codes.table_names():
        assert codes.load_codes(name)
    for spec in ("unionpay_pos", "kiosk", "iso8583_1987_ascii"):
        for field in iso8583.load(spec).fields.values():
            assert field.codes is None or codes.load_codes(field.codes)


def test_a_code_has_a_meaning_in_two_languages_or_none() -> None:
    assert codes.meaning("response_codes", "51") == "余额不足 insufficient funds"
    assert codes.meaning("response_codes", "ZZ") == ""
    assert codes.load_codes("currencies")["156"].en == "CNY"


@pytest.mark.parametrize("name", ["nowhere", "../specs/kiosk", ""])
def test_unknown_tables_are_refused(name: str) -> None:
    with pytest.raises(iso8583.SpecError, match="no such code table"):
        codes.load_codes(name)
