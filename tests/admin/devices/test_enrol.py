"""Enrolment on the pages: a code shown once, a fingerprint that another person compares and types, revoking."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from admin.config import Config, DeviceApiConfig
from admin.deviceapi.setup import make_device_ca
from admin.devices.trust import enrolment
from tests.admin.conftest import Site, opened, running
from tests.admin.devices.conftest import OPERATIONS, SECURITY, Registry


@pytest.fixture
def site(admin_config: Config, tmp_path: Path) -> Iterator[Site]:
    """With a device CA."""
    options = DeviceApiConfig(
        certificate_file=str(tmp_path / "device.pem"),
        key_file=str(tmp_path / "device.key"),
        ca_file=str(tmp_path / "device-ca.pem"),
        key_store="file",
        key_folder=str(tmp_path / "device-keys"),
    )
    config = msgspec.structs.replace(admin_config, device_api=options)
    make_device_ca(config, ["localhost"])
    with running(config) as found:
        yield found


def _asked(site: Site, registry: Registry, kiosk: int, code: str) -> tuple[int, str]:
    """The kiosk's part, with a key of its own: number of the request, and what its screen shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    serial = registry.get(kiosk)["serial_number"]

    async def ask() -> Any:
        async with opened(site.dsn) as database, database.transaction() as connection:
            return await enrolment.ask(connection, serial, code, request, "10.1.2.3")

    asked = asyncio.run(ask())
    return asked.certificate_id, asked.fingerprint


def _code(person: Any, kiosk: int) -> str:
    answer = person.post(f"/kiosks/{kiosk}/code")
    assert answer.status_code in (200, 201)
    found = re.search(r'id="enrol-code"[^>]*>([A-Z2-7-]{19})<', answer.text)
    assert found
    return found[1]


def test_a_kiosk_comes_in_by_two_persons(site: Any, registry: Registry) -> None:
    kiosk = registry.kiosk()
    maker, checker = site.sign_in(OPERATIONS), site.sign_in(SECURITY)
    code = _code(maker, kiosk)
    assert code not in maker.get(f"/kiosks/{kiosk}").text, "shown once"
    assert code.replace("-", "") not in str(site.sql("SELECT * FROM enrolment_code"))
    request, fingerprint = _asked(site, registry, kiosk, code)
    assert registry.get(kiosk)["state"] == "pending"

    assert "K-001" in checker.get("/enrolment").text
    page = checker.get(f"/enrolment/{request}").text
    groups = fingerprint.split()
    assert all(group in page for group in groups[:4]) and not any(group in page for group in groups[4:])
    typed = {"same": "yes", "groups": " ".join(groups[4:]).lower()}
    own = maker.post(f"/enrolment/{request}/approve", typed)
    assert own.status_code == 409 and "发放入网码的人不能批准" in own.text
    for wrong in (
        {"same": "yes", "groups": " ".join(groups[:4])},
        {"groups": typed["groups"]},
        {"same": "yes", "groups": ""},
    ):
        answer = checker.post(f"/enrolment/{request}/approve", wrong)
        assert answer.status_code == 422 and "输入的指纹与申请不一致" in answer.text
    assert len(registry.denied()) == 3
    assert checker.post(f"/enrolment/{request}/approve", typed).status_code == 303

    assert registry.get(kiosk)["state"] == "commissioning"
    (row,) = site.sql("SELECT state, approved_by, issued_by FROM kiosk_certificate")
    assert (row["state"], row["approved_by"], row["issued_by"]) == ("active", checker.operator_id, maker.operator_id)
    history = site.sql("SELECT to_state, actor FROM kiosk_change ORDER BY id")
    assert [(each["to_state"], each["actor"]) for each in history] == [
        ("registered", "system"), ("pending", "kiosk:K-001"), ("commissioning", f"u:{checker.login}"),
    ]  # fmt: skip
    assert "K-001" in checker.get("/certificates").text
    assert checker.post(f"/enrolment/{request}/approve", typed).status_code == 409, "decided once"


def test_four_eyes_stand_in_the_database_as_well(site: Any, registry: Registry) -> None:
    kiosk = registry.kiosk()
    maker = site.sign_in(OPERATIONS)
    request, _ = _asked(site, registry, kiosk, _code(maker, kiosk))
    with pytest.raises(asyncpg.CheckViolationError, match="second_person"):
        site.sql("UPDATE kiosk_certificate SET approved_by = issued_by WHERE id = $1", request)


def test_a_request_is_refused_and_a_certificate_revoked_at_once(site: Any, registry: Registry) -> None:
    kiosk = registry.kiosk()
    maker, checker = site.sign_in(OPERATIONS), site.sign_in(SECURITY)
    request, _ = _asked(site, registry, kiosk, _code(maker, kiosk))
    assert checker.post(f"/enrolment/{request}/refuse", {"reason": ""}).status_code == 422
    assert checker.post(f"/enrolment/{request}/refuse", {"reason": "指纹不一致"}).status_code == 303
    assert site.sql("SELECT state FROM kiosk_certificate")[0]["state"] == "refused"
    request, fingerprint = _asked(site, registry, kiosk, _code(maker, kiosk))
    typed = {"same": "yes", "groups": "".join(fingerprint.split()[4:])}
    assert checker.post(f"/enrolment/{request}/approve", typed).status_code == 303
    assert checker.post(f"/kiosks/{kiosk}/revoke", {"reason": "x"}).status_code == 422
    assert checker.post(f"/kiosks/{kiosk}/revoke", {"reason": "终端被盗"}).status_code == 303
    assert "没有有效证书" in checker.get(f"/kiosks/{kiosk}").text
    listed = checker.get("/certificates?format=json&state=revoked").json()["rows"]
    assert [row["code"] for row in listed] == ["K-001"]


def test_codes_approvals_and_revocations_want_a_fresh_second_factor(site: Any, registry: Registry) -> None:
    kiosk = registry.kiosk()
    tired = site.sign_in(OPERATIONS, step_up=False)
    for path in (f"/kiosks/{kiosk}/code", "/enrolment/1/approve", f"/kiosks/{kiosk}/revoke"):
        answer = tired.post(path, {"reason": "理由"})
        assert answer.status_code == 303 and answer.headers["location"].startswith("/step-up")
    assert site.sql("SELECT * FROM enrolment_code") == []


def test_a_retired_kiosk_gets_no_code(site: Any, registry: Registry) -> None:
    kiosk = registry.kiosk(state="retired")
    assert site.sign_in(OPERATIONS).post(f"/kiosks/{kiosk}/code").status_code == 409
