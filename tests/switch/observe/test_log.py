"""What reaches the log, and above all what does not."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.observe.log import DENIED, Log, Observation, mask
from switch.observe.metrics import Metrics
from switch.ports import Observer

PAN = "6222021234567890128"  # 19 digits, valid check digit, no real card
PAN16 = "4111111111111111"


def logged(*, level: str = "info", name: str = "test.done", **facts: Any) -> list[dict[str, Any]]:
    stream = io.BytesIO()
    log = Log(level, stream)
    log.event(name, **facts)
    assert log.failed_count == 0
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (PAN, "622202*********0128"),
        (f"card {PAN16}.", "card 411111******1111."),
        (f"{PAN16}=2512101", "411111******1111=2512101"),
        (f"{PAN16}D2512", "411111******1111D2512"),
        ("a4111111111111111f", "a411111******1111f"),
        ("16" + PAN16, "164111********1111"),
        ("4111 1111 1111 1111", "411111******1111"),
        ("4111-1111-1111-1111", "411111******1111"),
        (PAN16 + PAN16, "411111**********************1111"),
        (f"账号{PAN16}，", "账号411111******1111，"),
        ("4111111111111112", "4111111111111112"),  # no valid check digit
        ("000123456789", "000123456789"),  # an rrn has twelve
        ("postgresql://switch:hunter2@db/x", "postgresql://***@db/x"),
        ("10.11.12.13:45678 2026-11-23 18:28:01", "10.11.12.13:45678 2026-11-23 18:28:01"),
        ("", ""),
    ],
)
def test_what_looks_like_a_card_number_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@given(st.text(), st.sampled_from([PAN, PAN16, "3566002020360505"]), st.text())
def test_no_surrounding_text_saves_a_card_number(before: str, pan: str, after: str) -> None:
    assert pan not in mask(f"{before}|{pan}|{after}")


@pytest.mark.parametrize(
    "facts",
    [
        {"detail": f"for {PAN}"},
        {"detail": {"deep": [f"x{PAN}"]}},
        {"detail": {PAN: 1}},
        {"error": ValueError(f"bad {PAN}")},
        {"number": int(PAN16)},
        {"payment_id": PAN16},  # as a text it is no payment id
        {"raw": PAN.encode()},
        {"long": "x" * (8192 - 8) + PAN},  # the cut must not leave its front
        {"thing": type("Thing", (), {"__str__": lambda _self: PAN})()},
        {"pan": PAN, "track2": PAN, "PIN": "1234", "dsn": "x", "key": "00" * 16},
        {"nested": {"pin_block": PAN, "cvv": "123"}},
    ],
)
def test_no_fact_carries_a_card_number_out(facts: dict[str, Any]) -> None:
    (line,) = logged(**facts)
    text = json.dumps(line)
    assert (
        PAN not in text
        and PAN16 not in text
        and PAN[:8] not in text
        and PAN16[:8] not in text
        and "1234" not in text.replace("1234567890128", "")
    )


def test_denied_facts_are_dropped_whatever_they_hold() -> None:
    (line,) = logged(**dict.fromkeys(DENIED, "value"), kept="yes")
    assert set(line) == {"at", "event", "level", "kept"}


def test_an_exception_is_shown_with_its_place_and_masked() -> None:
    try:
        raise RuntimeError(f"card {PAN16}")
    except RuntimeError as error:
        (line,) = logged(error=error)
    assert "test_log.py" in line["error"] and "RuntimeError: card 411111******1111" in line["error"]


def test_a_line_has_its_time_name_level_and_facts() -> None:
    (line,) = logged(name="link.dial_failed", link="unionpay", attempt=3, payment_id=int(PAN16))
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "event": "link.dial_failed",
        "level": "warning",
        "link": "unionpay",
        "attempt": 3,
        "payment_id": int(PAN16),
    }


def test_levels() -> None:
    assert logged(name="wire.lost", link="kiosk") == []
    assert len(logged(level="debug", name="wire.lost", link="kiosk")) == 1
    assert logged(level="error", name="link.dial_failed") == []
    assert len(logged(level="error", name="wire.handler_failed")) == 1
    stream = io.BytesIO()
    log = Log("error", stream)
    log.event("some.thing", level="info")
    log.set_level("info")
    log.event("some.thing", level="info")
    assert stream.getvalue().count(b"\n") == 1


def test_a_log_that_fails_does_not_raise() -> None:
    class Full(io.BytesIO):
        def write(self, _data: Any, /) -> int:
            raise OSError("disk full")

    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no")

    log = Log("info", Full())
    log.event("test.done")
    assert log.failed_count == 1
    log = Log("info", io.BytesIO())
    log.event("test.done", rude=Rude())
    log.event("test.done", huge=2**70, nan=float("nan"), many={1, 2}, deep=[[[[[[1]]]]]])
    assert log.failed_count == 1


def test_pretty_lines_are_for_people_and_masked_too() -> None:
    stream = io.BytesIO()
    Log("info", stream, pretty=True).event("link.connected", link="unionpay", note=PAN16)
    text = stream.getvalue().decode()
    assert "link.connected" in text and "unionpay" in text and PAN16 not in text


def test_an_observation_is_an_observer() -> None:
    stream = io.BytesIO()
    observer: Observer = Observation(Metrics(strict=True), Log("info", stream))
    observer.count("switch_strays_total")
    observer.gauge("switch_link_up", 1, ("unionpay",))
    observer.observe("switch_echo_rtt_seconds", 0.01, ("x",))
    observer.event("link.connected", link="unionpay")
    assert b"link.connected" in stream.getvalue()
