"""Commands to a kiosk through the pages: alone, by two, taken back; the files they bring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from admin.auth.permissions import Role
from admin.config import Config, DeviceApiConfig
from admin.deviceapi.setup import make_device_ca

from ..conftest import Site, running
from .conftest import Registry

OPERATIONS, FIELD = Role.OPERATIONS, Role.FIELD_ENGINEER


@pytest.fixture
def site(admin_config: Config, tmp_path: Path) -> Iterator[Site]:
    options = DeviceApiConfig(
        certificate_file=str(tmp_path / "device.pem"),
        key_file=str(tmp_path / "device.key"),
        ca_file=str(tmp_path / "device-ca.pem"),
        key_store="file",
        key_folder=str(tmp_path / "device-keys"),
        upload_folder=str(tmp_path / "uploads"),
    )
    config = msgspec.structs.replace(admin_config, device_api=options)
    make_device_ca(config, ["localhost"])
    with running(config) as found:
        yield found


def _sent(site: Any, kiosk: int) -> list[Any]:
    rows: list[Any] = site.sql("SELECT * FROM kiosk_command WHERE kiosk_id = $1 ORDER BY id", kiosk)
    return rows


def test_an_ordinary_command_is_signed_at_once_and_can_be_taken_back(site: Any, registry: Registry) -> None:
    kiosk, person = registry.kiosk(state="in_service"), site.sign_in(FIELD, org="gz")
    assert person.post(f"/kiosks/{kiosk}/commands", {"type": "diag.run"}).status_code == 303
    (row,) = _sent(site, kiosk)
    assert row["state"] == "queued" and len(row["signature"]) == 64 and row["created_by"] == person.operator_id
    assert "运行自检" in person.get(f"/kiosks/{kiosk}/commands").text

    assert person.post(f"/commands/{row['id']}/cancel").status_code == 303
    assert _sent(site, kiosk)[0]["state"] == "cancelled"
    assert person.post(f"/commands/{row['id']}/cancel").status_code == 409
    acts = site.sql("SELECT action FROM audit_log WHERE action LIKE 'command.%' ORDER BY seq")
    assert [each["action"] for each in acts] == ["command.send", "command.cancel"]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"type": "rm -rf"}, "请选择命令"),
        ({"type": "log.pull", "day": "yesterday"}, "日期格式应为"),
        ({"type": "app.restart"}, "请填写原因"),
        ({"type": "service.stop", "reason": ""}, "请填写理由"),
    ],
)
def test_what_is_no_command_is_told(site: Any, registry: Registry, form: dict[str, str], told: str) -> None:
    kiosk = registry.kiosk(state="in_service")
    answer = site.sign_in(OPERATIONS).post(f"/kiosks/{kiosk}/commands", form)
    assert answer.status_code == 422 and told in answer.text
    assert not _sent(site, kiosk)


def test_a_dangerous_command_needs_two_and_names_both(site: Any, registry: Registry) -> None:
    kiosk = registry.kiosk(state="in_service")
    maker, checker = site.sign_in(OPERATIONS), site.sign_in(OPERATIONS)
    asked = maker.post(f"/kiosks/{kiosk}/commands", {"type": "key.signon", "reason": "密钥更换后"})
    approval = asked.headers["location"].rpartition("/")[2]
    assert not _sent(site, kiosk)
    assert maker.post(f"/approvals/{approval}/decide", {"verdict": "approve"}).status_code == 403
    assert "重新签到" in checker.get(f"/approvals/{approval}").text

    assert checker.post(f"/approvals/{approval}/decide", {"verdict": "approve"}).status_code == 303

    (row,) = _sent(site, kiosk)
    assert (row["type"], row["created_by"], row["approval_id"]) == ("key.signon", maker.operator_id, int(approval))
    page = maker.get(f"/kiosks/{kiosk}/commands").text
    assert f"{maker.login} / {checker.login}" in page


def test_a_field_engineer_asks_for_nothing_dangerous_and_nobody_elsewhere_sends_at_all(
    site: Any, registry: Registry
) -> None:
    kiosk = registry.kiosk(state="in_service")
    engineer = site.sign_in(FIELD, org="gz")
    assert engineer.post(f"/kiosks/{kiosk}/commands", {"type": "service.stop", "reason": "检修"}).status_code == 404
    elsewhere = site.sign_in(OPERATIONS, org="sz")
    assert elsewhere.post(f"/kiosks/{kiosk}/commands", {"type": "diag.run"}).status_code == 404
    retired = registry.kiosk(state="retired")
    assert site.sign_in(OPERATIONS).post(f"/kiosks/{retired}/commands", {"type": "diag.run"}).status_code == 409
    assert not _sent(site, kiosk) and not _sent(site, retired)


def test_a_file_is_given_to_who_may_have_it_and_each_look_is_noted(
    site: Any, registry: Registry, tmp_path: Path
) -> None:
    kiosk, person = registry.kiosk(state="in_service"), site.sign_in(OPERATIONS, org="gz")
    person.post(f"/kiosks/{kiosk}/commands", {"type": "log.pull", "day": "2026-11-29"})
    (row,) = _sent(site, kiosk)
    name = "0" * 32
    site.sql(
        "INSERT INTO kiosk_upload (id, kiosk_id, command_id, kind, size, sha256, received, state)"
        " VALUES ($1, $2, $3, 'log', 3, sha256('abc'), 3, 'complete')",
        *(name, kiosk, row["id"]),
    )
    assert person.get(f"/commands/{row['id']}/file").status_code == 409  # cleaned away
    folder = tmp_path / "uploads" / str(kiosk)
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"abc")

    answer = person.get(f"/commands/{row['id']}/file")

    assert answer.content == b"abc" and "attachment" in answer.headers["content-disposition"]
    assert site.sign_in(OPERATIONS, org="sz").get(f"/commands/{row['id']}/file").status_code == 404
    assert site.sign_in(Role.FINANCE).get(f"/commands/{row['id']}/file").status_code == 403
    looks = site.sql("SELECT actor FROM audit_log WHERE action = 'command.file'")
    assert {look["actor"] for look in looks} == {f"u:{person.login}"}
