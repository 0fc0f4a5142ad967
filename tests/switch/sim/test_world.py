"""Customers, cards, keys, scenarios and the ledger file: everything that needs no socket."""

from __future__ import annotations

import datetime
import itertools
import os
from collections import Counter
from pathlib import Path

import pytest

import iso8583
from switch import limits
from switch.errors import ConfigError, StartError
from switch.sim import customers, testkeys
from switch.sim.day import BusinessDay
from switch.sim.scenario import (
    BUNDLED,
    LATE_MAX_S,
    MARKETING_LATE_MAX_S,
    Action,
    Dice,
    Rules,
    card_chances,
    load_scenario,
    marketing_chances,
    parse_action,
    read_scenario,
)
from switch.sim.truth import TruthLedger, read_charges, read_facts, read_postings


# ---------------------------------------------------------------------------------------------------- test keys
def test_terminals_and_keys_are_derived() -> None:
    terminal_id, merchant_id = testkeys.test_terminal(1)
    assert (terminal_id, len(merchant_id), merchant_id[7:11]) == ("GS000001", 15, "4900")
    tmk = testkeys.test_tmk(terminal_id)
    assert len(tmk) == 16 and tmk != testkeys.test_tmk("GS000002")
    assert all(byte.bit_count() % 2 == 1 for byte in tmk)
    assert testkeys.terminal_number("GS000123") == 123
    assert [testkeys.terminal_number(text) for text in ("GS000000", "XX000001", "GS0001", "GS00000x")] == [None] * 4
    with pytest.raises(ValueError, match="outside 1 to 999999"):
        testkeys.test_terminal(0)


def test_cards_are_of_the_test_range_and_luhn_valid() -> None:
    numbers = [testkeys.test_pan(n) for n in range(2_000)]
    assert len(set(numbers)) == 2_000
    assert {len(pan) for pan in numbers} == {16, 19}
    assert all(iso8583.luhn_ok(pan) and 622_200 <= int(pan[:6]) <= 622_299 for pan in numbers)
    for n in range(100):
        track2 = iso8583.parse_track2(testkeys.test_track2(n))
        assert (track2.pan, track2.expiry) == (numbers[n], testkeys.test_expiry(n))


# ---------------------------------------------------------------------------------------------------- customers
def test_the_world_is_the_same_every_time_and_another_with_another_seed() -> None:
    first = [customers.customer(customers.account(n)) for n in range(50)]
    customers.customer.cache_clear()
    assert first == [customers.customer(customers.account(n)) for n in range(50)]
    assert first != [customers.customer(customers.account(n), 2) for n in range(50)]


def test_accounts_have_a_check_digit() -> None:
    valid = {customers.account(n) for n in range(100)}
    assert len(valid) == 100 and all(len(account) == 10 for account in valid)
    for body in range(100):
        fitting = [digit for digit in range(10) if customers.account_is_valid(f"03{body:07d}{digit}")]
        assert len(fitting) == 1
    for unknown in ("", "x", "0300000000", "9900000008", "03000000090", "０３０００００００９"):
        assert customers.customer(unknown) is None


def test_bills_are_plausible() -> None:
    people = [customers.customer(customers.account(n)) for n in range(3_000)]
    months = Counter(len(person.bills) for person in people if person is not None)
    assert set(months) == {1, 2, 3, 4} and 0.27 < months[3] / 3_000 < 0.33
    partial = sum(person.partial_allowed for person in people if person is not None)
    advance = sum(person.advance_balance > 0 for person in people if person is not None)
    assert 0.92 < partial / 3_000 < 0.98
    assert 0.12 < advance / 3_000 < 0.18
    for person in people:
        assert person is not None
        assert 0 < len(person.name.encode("gbk")) <= 64 and 0 < len(person.address.encode("gbk")) <= 128
        periods = [bill.period for bill in person.bills]
        assert periods == sorted(periods) and periods[-1] == "202512"
        for bill in person.bills:
            assert (bill.principal, bill.tier) == customers.principal_of(bill.energy_kwh)
            assert 0 <= bill.penalty <= bill.principal
            assert 3_000 < bill.amount < 200_000 and len(bill.receivable) <= 24
        assert person.bills[-1].penalty == 0, "last month is not due yet on the 15th"
        assert all(bill.penalty > 0 for bill in person.bills[:-1])


def test_tiers_meet_at_their_borders() -> None:
    assert customers.principal_of(260) == ((260 * 5_889 + 50) // 100, 1)
    assert customers.principal_of(261) == ((260 * 5_889 + 6_389 + 50) // 100, 2)
    assert customers.principal_of(600)[1] == 2
    assert customers.principal_of(601) == ((260 * 5_889 + 340 * 6_389 + 8_889 + 50) // 100, 3)


def test_the_penalty_grows_by_the_day() -> None:
    penalties = []
    for day in (10, 11, 12):
        people = [customers.customer(customers.account(n), 1, datetime.date(2026, 3, day)) for n in range(50)]
        penalties.append(next(person.bills[0].penalty for person in people if person and len(person.bills) == 4))
    assert 0 < penalties[0] < penalties[1] < penalties[2]


WORLD_OF_FOUR = customers.Customer(
    "0300000043",
    "李志欣",
    "广州市天河区人民路162号阳光家园21栋302房",
    0,
    True,
    (
        customers.Bill("0300000043202511", "202511", 182, 1, 10718, 279),
        customers.Bill("0300000043202512", "202512", 275, 2, 16270, 0),
    ),
)


def test_the_world_stays_as_it_is() -> None:
    """Ledgers and seeds in stories speak of it."""
    person = customers.customer("0300000043")
    assert person is not None
    assert person == WORLD_OF_FOUR


def test_how_many_months_are_owed_is_part_of_the_world() -> None:
    for months_owed, expected in (((100,), {1}), ((0, 0, 100), {3}), ((0,) * 5 + (100,), {6}), ((50, 50), {1, 2})):
        people = [customers.customer(customers.account(n), months_owed=months_owed) for n in range(400)]
        assert {len(person.bills) for person in people if person} == expected
    whole = customers.customer(customers.account(1))
    one = customers.customer(customers.account(1), months_owed=(100,))
    assert whole is not None and one is not None and whole.name == one.name and whole.address == one.address


# ---------------------------------------------------------------------------------------------------- scenarios
def test_bundled_scenarios_load_and_keep_the_quiet_times() -> None:
    assert limits.SHORT.quiet_s > LATE_MAX_S and limits.SHORT.marketing_quiet_s > MARKETING_LATE_MAX_S
    for name in BUNDLED:
        scenario = load_scenario(name)
        assert scenario.name == name
        card, marketing = scenario.unionpay, scenario.marketing
        assert card.late_s[1] + card.delay_ms[1] / 1000 <= LATE_MAX_S
        assert marketing.late_s[1] + marketing.delay_ms[1] / 1000 <= MARKETING_LATE_MAX_S
    assert sum(rate for rate, _ in card_chances(load_scenario("calm").unionpay)) == 0.0
    bench = load_scenario("bench")
    chances = [*card_chances(bench.unionpay), *marketing_chances(bench.marketing)]
    kiosks = bench.fleet.wrong_pin_rate + bench.fleet.repeat_rate + bench.fleet.disconnect_rate
    assert sum(rate for rate, _ in chances) + kiosks == pytest.approx(0.01), "one payment in a hundred"
    assert load_scenario("demo").with_seed(5).seed == 5


@pytest.mark.parametrize(
    ("text", "where", "detail"),
    [
        ("[unionpay]\ndecline_rat = 0.1", "unionpay", "unknown field `decline_rat`"),
        ("[unionpay]\ndecline_rate = 2.0", "unionpay.decline_rate", "<= 1.0"),
        ('[unionpay]\ndecline_rate = "x"', "unionpay.decline_rate", "Expected `float`"),
        ("[unionpay]\ndecline_rate = 0.7\nsilence_rate = 0.7", "unionpay", "add up to 1.4"),
        ("[unionpay]\nlate_s = [1.0, 2.9]", "unionpay.late_s", "latest a host may act"),
        ("[unionpay]\ndelay_ms = [5, 1]", "unionpay.delay_ms", "expected [least, most]"),
        ('[unionpay]\nreversal_not_found = "12"', "unionpay.reversal_not_found", 'expected "25" or "00"'),
        ("[marketing]\nlate_s = [0.1, 1.9]", "marketing.late_s", "latest a host may act"),
        ("[marketing]\nmonths_owed = [50, 40]", "marketing.months_owed", "add up to 100"),
        ("[marketing]\nmonths_owed = [0, 0, 0, 0, 0, 0, 100]", "marketing.months_owed", "up to 6 shares"),
        ('[[marketing.script]]\ndo = "sing"', "marketing.script[0].do", "unknown action 'sing'"),
        ('[[marketing.script]]\ndo = "bad_mac"', "marketing.script[0].do", "carries no MAC"),
        ('[[unionpay.script]]\ndo = "late:9"', "unionpay.script[0].do", "outside 0 to 2.5"),
        ('[[unionpay.script]]\ndo = "late"', "unionpay.script[0].do", "expected late:SECONDS"),
        ('[[unionpay.script]]\ndo = "decline"', "unionpay.script[0].do", "expected decline:CODE"),
        ('[[unionpay.script]]\ndo = "silence:maybe"', "unionpay.script[0].do", "expected done or lost"),
        ('[[unionpay.script]]\ndo = "approve:00"', "unionpay.script[0].do", "nothing may follow"),
        (
            '[[unionpay.script]]\nwhen = { message = "post" }\ndo = "approve"',
            "script[0].when.message",
            "expected one of",
        ),
        ('[[unionpay.script]]\nwhen = { account = "1" }\ndo = "approve"', "unionpay.script[0].when", "unknown field"),
        ("[fleet]\nmonths_all = 0.9\nmonths_one = 0.9", "fleet", "add up to 1.8"),
        ("[[[", "test.toml", "not TOML"),
    ],
)
def test_a_wrong_scenario_names_the_file_and_the_key(text: str, where: str, detail: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_scenario(f'name = "x"\n{text}', "test.toml")
    assert "test.toml" in caught.value.where and where in str(caught.value) and detail in str(caught.value)


def test_a_missing_scenario_lists_the_bundled_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="calm, demo, hall, storm"):
        load_scenario(tmp_path / "no.toml")
    (tmp_path / "own.toml").write_text('name = "own"\n[unionpay]\ndelay_ms = [1, 2]\n', encoding="utf-8")
    assert load_scenario(tmp_path / "own.toml").unionpay.delay_ms == (1.0, 2.0)


def test_actions_are_read_as_written() -> None:
    assert parse_action("silence", 1.0) == Action("silence")
    assert parse_action("silence:lost", 1.0) == Action("silence", acted=False)
    assert parse_action("refuse:73", 1.0) == Action("decline", code="73", acted=False)
    assert parse_action("refuse:100", 1.0).code == "100"
    assert parse_action("late_act:0.5", 1.0) == Action("late_act", delay_s=0.5)
    assert parse_action("ambiguous:98:lost", 1.0) == Action("ambiguous", code="98", acted=False)


def test_rules_fire_as_often_as_they_say() -> None:
    scenario = read_scenario(
        'name = "x"\n'
        '[[unionpay.script]]\nwhen = { amount = 5 }\ndo = "decline:51"\ntimes = 2\n'
        '[[unionpay.script]]\nwhen = { nth = 3 }\ndo = "drop"\n'
    )
    rules = Rules(scenario.unionpay.script, LATE_MAX_S)
    chosen = [rules.choose("purchase", amount=amount) for amount in (5, 4, 4, 5, 5)]
    assert [action and action.kind for action in chosen] == ["decline", None, "drop", "decline", None]
    assert rules.choose("reversal", amount=5) is None


def test_the_same_seed_rolls_the_same() -> None:
    chances = card_chances(load_scenario("storm").unionpay)
    rolls = [
        [dice.kind(chances) for _ in range(200)] for dice in (Dice(7, "a"), Dice(7, "a"), Dice(8, "a"), Dice(7, "b"))
    ]
    assert rolls[0] == rolls[1] and rolls[0] != rolls[2] and rolls[0] != rolls[3]


# ---------------------------------------------------------------------------------------------------- day, ledger
def test_the_day_moves_at_its_cut_over() -> None:
    start = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC).timestamp()
    day = BusinessDay(datetime.date(2026, 3, 1), start)
    today = datetime.datetime.now(datetime.UTC)
    passed = int((today.timestamp() - start) // 86_400) + 1
    assert day.date() == datetime.date(2026, 3, 1) + datetime.timedelta(days=passed)
    assert BusinessDay.from_facts(day.facts()).date() == day.date()


def test_every_prefix_of_a_ledger_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = TruthLedger(path)
    key = {"terminal": "GS000001", "batch": "000001"}
    for stan in range(5):
        ledger.write("charge", **key, stan=f"{stan}", fen=10, rrn=f"{stan}", settlement_date="0101")
    ledger.write("reversal", **key, stan="2", fen=10)
    assert path.read_bytes() == b"", "collected, not written"
    ledger.flush()
    ledger.close()
    data = path.read_bytes()
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = data[:size].count(b"\n")
        assert len(list(read_facts(path))) == whole
        if size % 7 == 0:
            reopened = TruthLedger(path)
            reopened.write("end")
            reopened.close()
            assert [fact["fact"] for fact in read_facts(path)][-1] == "end" and path.read_bytes().count(
                b"\n"
            ) == whole + 1
    path.write_bytes(data)
    assert [charge.net for charge in read_charges(path).values()] == [10, 10, 0, 10, 10]


def test_a_damaged_ledger_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b'{"fact": "opened"}\nrubbish\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read_postings(path)
    with pytest.raises(StartError, match="cannot open the ledger"):
        TruthLedger(tmp_path)


def test_postings_are_net(tmp_path: Path) -> None:
    ledger = TruthLedger(tmp_path / "ledger")
    for serial in ("a", "b"):
        ledger.write("posting", serial=serial, fen=10, receivable="r", account="1", reference="2")
    ledger.write("undo", serial="b", fen=10)
    ledger.write("cancel", serial="c")
    ledger.close()
    postings = read_postings(tmp_path / "ledger")
    assert [(p.posted, p.cancelled) for p in postings.values()] == [(10, False), (0, True), (0, True)]
    assert list(itertools.islice(postings, 2)) == ["a", "b"]


def test_a_full_disk_loses_no_fact_and_keeps_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = TruthLedger(tmp_path / "ledger")
    write = os.write
    room = [10]

    def write_little(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("switch.sim.truth.os.write", write_little)
    ledger.write("one")
    ledger.write("two")
    with pytest.raises(OSError, match="No space"):
        ledger.flush()
    ledger.write("three")
    with pytest.raises(OSError, match="No space"):
        ledger.flush()
    assert not list(read_facts(tmp_path / "ledger"))
    room[0] = 10_000
    ledger.close()
    assert [fact["fact"] for fact in read_facts(tmp_path / "ledger")] == ["one", "two", "three"]
