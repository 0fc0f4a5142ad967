"""Track 2 and PANs."""

import pytest

import iso8583
from iso8583.track import luhn_digit

PAN = "6222000000000017"


def test_track2_is_split_at_either_separator() -> None:
    for separator in "=D":
        track = iso8583.parse_track2(f"{PAN}{separator}301220100001")
        assert (track.pan, track.expiry, track.service_code, track.discretionary) == (PAN, "3012", "201", "00001")
        assert track.has_chip
        assert track.pan_masked == "622200******0017"


def test_expiry_and_service_code_may_be_left_out() -> None:
    track = iso8583.parse_track2(f"{PAN}==1234")
    assert (track.expiry, track.service_code, track.discretionary) == ("", "123", "4")
    track = iso8583.parse_track2(f"{PAN}===")
    assert (track.expiry, track.service_code, track.discretionary) == ("", "", "")
    assert not track.has_chip


def test_repr_hides_the_track() -> None:
    track = iso8583.parse_track2(f"{PAN}=301220100001")
    assert repr(track) == str(track) == "Track2(pan='622200******0017')"


@pytest.mark.parametrize(
    ("text", "offset", "detail"),
    [
        ("", 0, "separator missing"),
        (PAN, 0, "separator missing"),
        (f"{PAN}=30", 17, "expiry is cut off"),
        (f"{PAN}=301220", 21, "service code is cut off"),
        (f"{PAN}=3013201", 17, "expiry is not YYMM"),
        (f"{PAN}=30122A1", 22, "expected digits and separators only"),
        ("1234567=3012201", 0, "expected 8 to 19 digits in front of the separator, got 7"),
        (f"{PAN}=3012201{'0' * 20}", 0, "expected at most 37 characters, got 44"),
    ],
)
def test_bad_tracks_are_refused_without_showing_them(text: str, offset: int, detail: str) -> None:
    with pytest.raises(iso8583.DecodeError) as caught:
        iso8583.parse_track2(text)
    assert str(caught.value) == f"field 35 at byte {offset}: {detail} [track]"
    assert PAN not in str(caught.value)


def test_check_digits() -> None:
    assert iso8583.luhn_ok(PAN)
    assert not any(iso8583.luhn_ok(PAN[:-1] + digit) for digit in "012345689")
    assert luhn_digit("622200000000001") == "7"
    assert iso8583.luhn_ok("79927398713")  # the example that everybody prints; has nines and doubled digits
    for wrong in ("", "0", "62220000000000x7", "６２２２"):
        assert not iso8583.luhn_ok(wrong)
