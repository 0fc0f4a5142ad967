"""Message type indicators."""

import pytest

import iso8583
from iso8583 import mti


@pytest.mark.parametrize(
    ("request_mti", "response_mti"),
    [("0100", "0110"), ("0200", "0210"), ("0220", "0230"), ("0320", "0330"), ("0400", "0410"), ("0401", "0410"),
     ("0421", "0430"), ("0500", "0510"), ("0620", "0630"), ("0800", "0810"), ("0820", "0830")],
)  # fmt: skip
def test_a_response_is_its_request_plus_ten(request_mti: str, response_mti: str) -> None:
    assert mti.response(request_mti) == response_mti
    assert mti.is_request(request_mti) and not mti.is_response(request_mti)
    assert mti.is_response(response_mti) and not mti.is_request(response_mti)


def test_a_request_is_found_from_its_response() -> None:
    assert mti.request("0210") == "0200"
    assert mti.request("0830") == "0820"


@pytest.mark.parametrize("wrong", ["0210", "020", "02000", "02A0", "", "０２００"])
def test_only_requests_have_responses(wrong: str) -> None:
    with pytest.raises(iso8583.EncodeError) as caught:
        mti.response(wrong)
    assert caught.value.code == "mti"


def test_only_responses_have_requests() -> None:
    with pytest.raises(iso8583.EncodeError):
        mti.request("0200")


def test_words_for_people() -> None:
    assert mti.describe("0200") == "financial request"
    assert mti.describe("0401") == "reversal request, repeat"
    assert mti.describe("0990") == "private reserved"
    assert mti.describe("x") == "not an MTI"
    assert mti.is_repeat("0401") and not mti.is_repeat("0400")
