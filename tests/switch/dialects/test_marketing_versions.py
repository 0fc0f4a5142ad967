"""Two versions around an upgrade: who speaks which, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from switch import sim
from switch.dialects.marketing import MarketingDialect
from switch.dialects.marketing_versions import KNOWN_MAX, MarketingSpecs, Upgrade, read_at
from switch.errors import BadRequestError, ConfigError
from switch.machines.payment_table import Input
from switch.model.payment import Posting
from switch.sim.marketing_wire import HostWire, make_wire

AT_US = read_at("2026-12-01T00:00:00+08:00")
SECOND = 1_000_000
FORMATS = ("json", "ydlw")


def next_spec(kind: str) -> str:
    return str(Path(sim.__file__).parent / "specs" / f"marketing_{kind}_1_1.toml")


def posting(begun_us: int) -> Posting:
    return Posting("0300000009202601", "202601", 900, 100, 1000, f"{begun_us // 1000 << 22}01")


def prepayment(of: Posting) -> Posting:
    return Posting("", "", 500, 0, 500, of.serial)


class Bench:
    def __init__(self, kind: str) -> None:
        self.now_us = AT_US - 10 * SECOND
        self.upgrade = Upgrade(next_spec(kind), AT_US)
        self.specs = MarketingSpecs(f"marketing_{kind}_1_0", "SELF01", lambda: self.now_us, self.upgrade)
        self.host: HostWire = make_wire([f"marketing_{kind}_1_0", next_spec(kind)])
        self.old = "" if kind == "json" else "1.0.0"
        self.new = "1.1" if kind == "json" else "1.1.0"

    @property
    def live(self) -> MarketingDialect:
        return self.specs.live

    def version(self, frame: bytes) -> str:
        """The host's own word for it."""
        return str(self.host.read(frame).get("version", ""))

    def post(self, begun_us: int, live: MarketingDialect | None = None) -> bytes:
        return (live or self.live).post(
            1, posting(begun_us), account="0300000009", day="20261201", reference=posting(begun_us).serial[:-2]
        )

    def answer(self, frame: bytes, begun_us: int, code: str = "00") -> bytes:
        answer = {"code": code, "serial": posting(begun_us).serial, "account": "0300000009", "period": "202601"}
        return self.host.reply(self.host.read(frame), answer | {"amount": 1000}, "")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_payment_finishes_in_the_spec_in_which_it_began(kind: str) -> None:
    bench = Bench(kind)
    before, after = AT_US - SECOND, AT_US
    calls: list[Callable[[Posting], bytes]] = [
        lambda each: bench.live.post(1, each, account="1", day="20261201", reference="1"),
        lambda each: bench.live.status(1, each, account="1"),
        lambda each: bench.live.cancel(1, each, undo=True, account="1"),
        lambda each: bench.live.post(1, prepayment(each), account="1", day="20261201", reference="1"),
    ]
    for now_us in (AT_US - 2 * SECOND, AT_US + 600 * SECOND):
        bench.now_us = now_us
        for call in calls:
            assert bench.version(call(posting(before))) == bench.old
            assert bench.version(call(posting(after))) == bench.new


@pytest.mark.parametrize("kind", FORMATS)
def test_what_belongs_to_no_payment_changes_at_the_instant(kind: str) -> None:
    bench = Bench(kind)
    calls: list[Callable[[], bytes]] = [
        lambda: bench.live.sign_on(1),
        lambda: bench.live.echo(1),
        lambda: bench.live.sign_off(1),
        lambda: bench.live.inquiry(1, "1"),
        lambda: bench.live.history(1, "1", "202601"),
        lambda: bench.live.e_bill(1, "1", "202601"),
        lambda: bench.live.totals(1, "20261201", 1, 1),
    ]
    for now_us, version in ((AT_US - 1, bench.old), (AT_US, bench.new)):
        bench.now_us = now_us
        assert [bench.version(call()) for call in calls] == [version] * len(calls)


@pytest.mark.parametrize("kind", FORMATS)
def test_answers_of_both_versions_are_understood_whenever_they_come(kind: str) -> None:
    bench = Bench(kind)
    for begun_us in (AT_US - SECOND, AT_US + SECOND):
        frame = bench.post(begun_us)
        for now_us in (AT_US - SECOND, AT_US + SECOND):
            bench.now_us = now_us
            read = bench.live.read(bench.answer(frame, begun_us))
            assert bench.live.posted(read, posting(begun_us), "0300000009") is Input.BILL_POSTED
            refused = bench.live.read(bench.answer(frame, begun_us, "73"))
            assert bench.live.posted(refused, posting(begun_us), "0300000009") is Input.BILL_REJECTED


@pytest.mark.parametrize("kind", FORMATS)
def test_the_way_back_speaks_the_old_spec_to_all_and_still_understands_the_new_one(kind: str) -> None:
    bench = Bench(kind)
    bench.now_us = begun_us = AT_US + SECOND
    under_way = bench.post(begun_us)
    live = bench.specs.schedule(None)
    assert bench.specs.status().keys() == {"spec", "source"}
    assert bench.version(bench.post(begun_us)) == bench.version(live.echo(1)) == bench.old
    late = live.read(bench.answer(under_way, begun_us))
    assert live.posted(late, posting(begun_us), "0300000009") is Input.BILL_POSTED
    again = bench.specs.schedule(bench.upgrade)
    assert bench.version(again.echo(1)) == bench.new


def test_a_base_is_never_forgotten_however_many_were_tried(tmp_path: Path) -> None:
    bench = Bench("json")
    for number in range(2, 2 * KNOWN_MAX):
        other = tmp_path / f"{number}.toml"
        other.write_text(f'extends = "marketing_json_1_0"\nversion = "1.{number}"\nwire_version = "1.{number}"\n')
        bench.specs.schedule(Upgrade(str(other), AT_US))
    frame = bench.post(AT_US - SECOND)
    assert bench.live.read(bench.answer(frame, AT_US - SECOND)).version == ""
    assert len(bench.specs._known) <= KNOWN_MAX + 2


def test_a_version_that_nobody_speaks_is_unreadable() -> None:
    for kind, frame in (("json", b'{"id":1,"code":"00","version":"9"}'), ("json", b"no"), ("ydlw", b"x" * 300)):
        with pytest.raises(BadRequestError, match="neither of the versions that are spoken"):
            Bench(kind).live.read(frame)


@pytest.mark.parametrize(
    ("base", "text", "at", "said"),
    [
        ("marketing_ydlw_1_0", None, "2026-12-01T00:00:00+08:00", "is another format than marketing_ydlw 1.0"),
        ("marketing_json_1_0", "", "2026-12-01T00:00:00+08:00", "answers could not be told apart"),
        (
            "marketing_json_1_0",
            'wire_version = "2"\neffective_on = 2026-12-02',
            "2026-12-01T23:59:59+08:00",
            "in force from 2026-12-02 on; give at that day or a later one",
        ),
        ("marketing_json_1_0", 'wire_version = "2"\nname = "other"', "2026-12-01T00:00:00+08:00", "another format"),
    ],
)
def test_what_cannot_follow_is_refused_and_changes_nothing(
    tmp_path: Path, base: str, text: str | None, at: str, said: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f'extends = "marketing_json_1_0"\n{text or ""}\n')
    specs = MarketingSpecs(base, "SELF01", lambda: AT_US)
    live = specs.live
    with pytest.raises(ConfigError, match=said):
        specs.schedule(Upgrade(str(own), read_at(at)))
    assert specs.live is live and specs.upgrade is None


@pytest.mark.parametrize("text", ["2026-12-01T00:00:00", "2026-13-01T00:00:00+08:00", "", "soon"])
def test_an_instant_has_a_date_a_time_and_its_distance_from_utc(text: str) -> None:
    with pytest.raises(ValueError):
        read_at(text)


def test_instants_are_the_same_whatever_zone_they_are_written_in() -> None:
    assert read_at("2026-11-30T16:00:00+00:00") == AT_US
