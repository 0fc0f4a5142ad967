"""``gridswitch spec``: a new spec against recorded traffic says what would fail, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from switch import sim
from switch.cli import main
from switch.dialects.marketing import MarketingDialect
from switch.dialects.marketing_versions import make_dialect
from switch.model.payment import Posting
from switch.sim.marketing_wire import HostWire, make_wire

SPECS = Path(sim.__file__).parent / "specs"
POSTING = Posting("0300000009202601", "202601", 900, 100, 1000, f"{1_780_000_000_000 << 22}01")
ACCOUNT = "0300000009"
BILL: dict[str, Any] = {
    "receivable": "0300000009202601",
    "period": "202601",
    "principal": 900,
    "penalty": 100,
    "amount": 1000,
    "energy_kwh": 15,
    "tier": 1,
}
INQUIRY: dict[str, Any] = {
    "code": "00",
    "account": ACCOUNT,
    "name": "欧阳张三",
    "address": "广州市越秀区中山路1号",
    "day": "20261201",
    "total": 1000,
    "advance_balance": 0,
    "partial_allowed": True,
    "rows": [BILL],
}
POSTED = {"code": "00", "serial": POSTING.serial, "account": ACCOUNT, "period": "202601", "amount": 1000}


class Traffic:
    """A capture as the switch writes it."""

    def __init__(self, kind: str) -> None:
        self.dialect: MarketingDialect = make_dialect(f"marketing_{kind}_1_0", "SELF01", lambda: 1_796_000_000_000_000)
        self.host: HostWire = make_wire([f"marketing_{kind}_1_0"])
        self.lines: list[bytes] = []

    def call(self, frame: bytes, answer: dict[str, Any]) -> None:
        for direction, each in (("out", frame), ("in", self.host.reply(self.host.read(frame), answer, "成功"))):
            self.lines.append(orjson.dumps({"link": "marketing", "direction": direction, "frame": each.hex()}))

    def write(self, path: Path) -> Path:
        dialect = self.dialect
        self.call(dialect.sign_on(1), {"code": "00", "day": "20261201"})
        self.call(dialect.inquiry(2, ACCOUNT), INQUIRY)
        self.call(dialect.inquiry(3, "0300000017"), {"code": "03"})
        self.call(dialect.post(4, POSTING, account=ACCOUNT, day="20261201", reference="77"), POSTED)
        self.call(dialect.cancel(5, POSTING, undo=True, account=ACCOUNT), {"code": "00", "serial": POSTING.serial})
        path.write_bytes(b"\n".join(self.lines) + b"\n\n")
        return path


@pytest.fixture
def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    def run(spec: str, capture: Path) -> tuple[int, Any]:
        status = main(["spec", "check", spec, "--against", str(capture), "--json"])
        return status, orjson.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("kind", ["json", "ydlw"])
def test_a_good_upgrade_passes_and_says_what_the_utility_must_send(
    kind: str, tmp_path: Path, checked: Callable[..., tuple[int, Any]]
) -> None:
    status, told = checked(str(SPECS / f"marketing_{kind}_1_1.toml"), Traffic(kind).write(tmp_path / "capture"))
    assert (status, told["passed"], told["failed"], told["unread"]) == (0, 10, 0, 0)
    assert told["notes"] == ["post.answer.receipt_number: new; the utility must send it"]


def test_a_name_that_no_longer_fits_is_told_with_its_field_and_line(
    tmp_path: Path, checked: Callable[..., tuple[int, Any]]
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'extends = "marketing_json_1_0"\nwire_version = "2"\n'
        '[operation.inquiry.response]\nname = { type = "text", max = 3 }\n'
        '[operation.post.request]\nserial = { type = "text", max = 20 }\n'
    )
    status, told = checked(str(own), Traffic("json").write(tmp_path / "capture"))
    assert (status, told["passed"], told["failed"]) == (1, 8, 2)
    assert told["failures"] == [
        {"what": "answer inquiry.name: longer than 3 characters", "count": 1, "first_line": 4},
        {"what": "request post.serial: longer than 20 characters", "count": 1, "first_line": 7},
    ]


def test_a_record_that_became_narrower_is_told_the_same(
    tmp_path: Path, checked: Callable[..., tuple[int, Any]]
) -> None:
    text = (SPECS / "marketing_ydlw_1_1.toml").read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(
        text.replace('name = "address", type = "text", width = 256', 'name = "address", type = "text", width = 20')
    )
    status, told = checked(str(own), Traffic("ydlw").write(tmp_path / "capture"))
    assert status == 1 and told["failed"] == 1
    (failure,) = told["failures"]
    assert failure["what"] == "inquiry.answer.rows.address: 21 bytes; the field takes 20"
    assert failure["first_line"] == 4
    assert "广州" not in str(told), "no customer's data in it"


def test_what_we_would_send_otherwise_is_told(tmp_path: Path, checked: Callable[..., tuple[int, Any]]) -> None:
    own = tmp_path / "own.toml"
    own.write_text('extends = "marketing_ydlw_1_0"\nwire_version = "1.0.1"\n[constants]\nmode = "120"\n')
    status, told = checked(str(own), Traffic("ydlw").write(tmp_path / "capture"))
    assert (status, told["failed"]) == (0, 0)
    assert "post.request.mode: carries another value than was recorded" in told["notes"]


def test_traffic_in_no_known_version_is_no_proof(tmp_path: Path, checked: Callable[..., tuple[int, Any]]) -> None:
    capture = tmp_path / "capture"
    capture.write_bytes(orjson.dumps({"direction": "in", "frame": "00"}) + b"\n")
    for kind in ("json", "ydlw"):
        status, told = checked(f"marketing_{kind}_1_0", capture)
        assert (status, told["passed"], told["unread"]) == (1, 0, 1)


@pytest.mark.parametrize(
    "line", [b"no", b"[]", b"{}", b'{"direction":"in","frame":"xx"}', b'{"direction":"up","frame":""}']
)
def test_a_capture_that_is_none_is_refused_by_line(
    line: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = tmp_path / "capture"
    capture.write_bytes(b'{"direction":"in"}\n' + line + b"\n")
    assert main(["spec", "check", "marketing_json_1_0", "--against", str(capture)]) == 2
    assert "line 2: expected an object with direction and frame, as written by" in capsys.readouterr().err


def test_list_check_and_a_reload_without_a_switch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", "list"]) == 0
    assert "marketing_ydlw_1_0" in capsys.readouterr().out
    assert main(["spec", "check", "marketing_ydlw_1_0"]) == 0
    assert "good: marketing_ydlw 1.0, in force from 2026-01-01" in capsys.readouterr().out
    assert main(["spec", "check", "nothing"]) == 2
    assert "no such spec; known" in capsys.readouterr().err
    assert main(["spec", "reload", "--config", str(tmp_path / "gone.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err
