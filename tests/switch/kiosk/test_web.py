"""What of the kiosk's page needs no browser: its texts, notices, what it hides, and wrong calls of its program."""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from switch.kiosk import EBill, EBills, Outcome, PaymentKey, PaymentResult
from switch.kiosk.__main__ import main
from switch.kiosk.devices import _TEXTS as DEVICE_TEXTS
from switch.kiosk.results import NO_ANSWER
from switch.kiosk.web import station
from switch.kiosk.web.notices import Notices, NoticesError
from switch.kiosk.web.views import Earlier, EBillPage
from switch.limits import KIOSK_WEB_NOTICES_BYTES_MAX

ROOT = Path(__file__).parents[3]
TODAY = datetime.date(2026, 11, 30)


@pytest.fixture(scope="module")
def texts() -> Any:
    return json.loads((resources.files("switch.kiosk.web") / "page" / "texts.json").read_text("utf-8"))


# ------------------------------------------------------------------------------------------------ texts
def test_both_languages_say_the_same_things(texts: Any) -> None:
    assert texts["zh"].keys() == texts["en"].keys()
    for name, text in texts["zh"].items():
        if name != "codes":
            assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", texts["en"][name])), name
    assert texts["zh"]["codes"].keys() <= texts["en"]["codes"].keys()


def test_every_code_that_a_kiosk_is_told_has_an_english_text(texts: Any) -> None:
    codes = tomllib.loads((ROOT / "switch/dialects/kiosk_codes.toml").read_text("utf-8"))["codes"]
    english = texts["en"]["codes"]
    missing = {*codes, *DEVICE_TEXTS} - english.keys()
    assert not missing, "texts.json in switch/kiosk/web/page needs their English"
    for code, row in codes.items():
        if row["charged"] != "no":
            assert "othing was charged" not in english[code], f"{code} says so of money that may be gone"
    for outcome in Outcome:
        assert f"result_{outcome.value}" in texts["zh"]


def test_a_payment_without_an_answer_is_not_told_as_one_that_cost_nothing() -> None:
    result = PaymentResult(
        key=PaymentKey("GS000001", "1130", "000001"),
        account="0300000009",
        amount=100,
        receivables=(),
        outcome=Outcome.UNKNOWN,
        code=NO_ANSWER,
        text="…",
    )
    shown = Earlier((station._earlier_payment(result),)).payments[0]
    assert shown.told.code == "result_unknown" and not shown.final


# ------------------------------------------------------------------------------------------------ e-bills
def test_pages_of_e_bills_can_be_turned_where_there_are_more() -> None:
    bill = EBill("202610", "20261025", 300, 18000, 0, 18000, 0, "", (), ())
    pages = (EBills("0300000009", (bill,), "202609"), EBills("0300000009", (), ""))
    first, last = (station._e_bill_page(pages, at, "", None) for at in (0, 1))
    assert isinstance(first, EBillPage) and isinstance(last, EBillPage)
    assert (first.newer, first.older, first.months) == (False, True, (bill,))
    assert (last.newer, last.older, last.months) == (True, False, ())


# ------------------------------------------------------------------------------------------------ notices
def test_notices_are_shown_from_their_first_day_to_their_last(tmp_path: Path) -> None:
    path = tmp_path / "notices.toml"
    path.write_text(
        '[[notice]]\ntitle = "always"\ntext = "a"\n'
        '[[notice]]\ntitle = "outage"\ntext = "b"\nkind = "outage"\nbegins_on = "2026-11-30"\nends_on = "2026-12-01"\n'
    )
    notices = Notices(path)
    for days, shown in ((-1, ["always"]), (0, ["outage", "always"]), (1, ["outage", "always"]), (2, ["always"])):
        assert [each.title for each in notices.of(TODAY + datetime.timedelta(days))] == shown


def test_a_file_of_notices_that_goes_wrong_leaves_those_before(tmp_path: Path) -> None:
    path = tmp_path / "notices.toml"
    path.write_text('[[notice]]\ntitle = "first"\ntext = "a"\n')
    notices = Notices(path)
    path.write_text('[[notice]]\ntitle = "second, and longer"\n')
    with pytest.raises(NoticesError, match=r"notices\.toml: .*`text`"):
        notices.look()
    notices.look()  # told once
    assert [each.title for each in notices.of(TODAY)] == ["first"]
    path.write_text('[[notice]]\ntitle = "third"\ntext = "c"\n')
    notices.look()
    assert [each.title for each in notices.of(TODAY)] == ["third"]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[[notice]]", "title"),
        ('[[notice]]\ntitle = "a"\ntext = "b"\nends_on = "tomorrow"', "tomorrow"),
        ('[[notice]]\ntitle = "a"\ntext = "b"\nkind = "advert"', 'expected "info" or "outage"'),
        ('[[notice]]\ntitle = "a"\ntext = "b"\ncolour = "red"', "colour"),
        ("notice = 1", "Expected `array`"),
        ("#" * (KIOSK_WEB_NOTICES_BYTES_MAX + 1), "at most"),
    ],
)
def test_what_is_wrong_with_notices_is_told(written: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "notices.toml"
    path.write_text(written)
    with pytest.raises(NoticesError) as error:
        Notices(path)
    assert told in str(error.value) and str(path) in str(error.value)


def test_the_program_brings_notices_in_both_languages() -> None:
    found = Notices(None).of(TODAY)
    assert found and all(each.title_en and each.text_en for each in found)


# ------------------------------------------------------------------------------------------------ what others may see
@pytest.mark.parametrize(("name", "shown"), [("王小明", "*小明"), ("惠民药房", "*民药房"), ("", "")])
def test_a_name_is_shown_without_its_first_character(name: str, shown: str) -> None:
    assert station.masked_name(name) == shown


def test_an_address_ends_before_the_house_and_an_account_has_a_hole() -> None:
    assert station.masked_address("广州市天河区中山路12号翠园小区3栋401房") == "广州市天河区中山路***"
    assert station.masked_address("村口") == "村口"
    assert station.masked_account("0300000009") == "03****0009"
    assert station.masked_account("123456") == "****"


# ------------------------------------------------------------------------------------------------ wrong calls
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--web", "open"), "without any of them"),
        ((), "say what to do"),
        (("--web", "--listen", "0.0.0.0:8480"), "the kiosk's browser is on the same machine"),
        (("--web", "--listen", "example.org:8480"), "expected 127.0.0.1:PORT"),
        (("--web", "--listen", "127.0.0.1:99999"), "expected 127.0.0.1:PORT"),
        (("--web", "--notices", "/nonexistent"), "/nonexistent: no such file or directory"),
        (("--web", "--idle", "0"), "expected 1 to 3600 seconds"),
    ],
)
def test_a_wrong_call_is_told(
    arguments: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(list(arguments))
    except SystemExit as error:
        status = int(error.code or 0)
    assert status == 2 and told in capsys.readouterr().err
