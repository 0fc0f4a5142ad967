"""Onboarding: gates open by facts alone, and the way between kiosk and us is judged hop by hop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from admin.devices import gates, hops, onboarding
from admin.devices.hops import Door, Heard
from switch import contract
from switch.ports import GATES
from tests.admin.conftest import opened
from tests.admin.devices.conftest import OPERATIONS, UNITS

TERMINAL = "GS000001"
NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)


def test_the_contract_names_the_gates_that_the_switch_has() -> None:
    assert contract.TERMINAL_GATES == GATES
    assert set(gates.SWITCH_TEXTS) == set(gates.SWITCH_PROOFS) == set(GATES)


def _status(**changes: Any) -> dict[str, Any]:
    units = {**dict.fromkeys(UNITS, "online"), "door": "closed", "ptr.paper": "low"}
    return {"beat_at": NOW, "switch_at": NOW, "skew_ms": 10, "units": units, "diagnosis": "ok", **changes}


@pytest.mark.parametrize(
    ("gate", "status", "opens"),
    [
        ("clock", _status(), True),
        ("clock", _status(skew_ms=-1999), True),
        ("clock", _status(skew_ms=2000), False),
        ("clock", _status(skew_ms=None), False),
        ("clock", _status(beat_at=NOW - timedelta(minutes=10)), False),
        ("clock", None, False),
        ("peripherals", _status(), True),
        ("peripherals", _status(units={**_status()["units"], "ptr.paper": "out"}), False),
        ("peripherals", _status(units={**_status()["units"], "pin": "hwerror"}), False),
        ("peripherals", _status(units={**_status()["units"], "door": "open"}), False),
        ("peripherals", _status(units={"idc": "online"}), False),
        ("peripherals", _status(beat_at=NOW - timedelta(minutes=10)), False),
        ("monitor", _status(), True),
        ("monitor", _status(switch_at=NOW - timedelta(minutes=10)), False),
        ("monitor", _status(switch_at=None), False),
        ("monitor", _status(diagnosis=""), False),
    ],
)
def test_a_gate_opens_by_what_is_seen(gate: str, status: Any, opens: bool) -> None:
    facts = gates.Facts(NOW, list(UNITS), status, None)
    assert gates.JUDGES[gate](facts).ok is opens


def test_a_certificate_counts_while_it_is_valid() -> None:
    held = {"state": "active", "serial": "5f3a9c0177d2", "not_after": NOW + timedelta(days=1), "approver": "李安"}
    assert gates.certificate(gates.Facts(NOW, [], None, held)).ok
    assert not gates.certificate(gates.Facts(NOW, [], None, {**held, "not_after": NOW})).ok
    assert not gates.certificate(gates.Facts(NOW, [], None, {**held, "state": "pending"})).ok
    assert not gates.certificate(gates.Facts(NOW, [], None, None)).ok


def test_what_was_seen_is_written_down_once_and_opens_the_trial(site: Any, registry: Any, switch_door: Any) -> None:
    kiosk = registry.kiosk(state="commissioning", terminal=TERMINAL)
    person = site.sign_in(OPERATIONS)

    async def turn() -> Any:
        async with opened(site.dsn) as database:
            return await onboarding.note_gates(database)

    def begin() -> Any:
        return person.post(f"/kiosks/{kiosk}/state", {"to": "trial", "reason": "装好了"})

    registry.beat(kiosk, diagnosis="", skew_ms=9000)
    assert asyncio.run(turn())["passed"] == 1, "the peripherals alone"
    page = person.get(f"/kiosks/{kiosk}/onboarding").text
    assert "1 / 11 已通过" in page and "时钟偏差 9000 毫秒" in page and "gridswitch terminal add" in page
    refused = begin()
    assert refused.status_code == 409 and "还有 9 道入网关卡没有通过" in refused.text
    registry.beat(kiosk)
    site.sql(
        "INSERT INTO kiosk_certificate (kiosk_id, state, origin, spki_sha256, request, certificate, serial, not_before,"
        " not_after) VALUES ($1, 'active', 'test', sha256('k'), '', 'c', 'abc', now(), now() + interval '9 days')",
        kiosk,
    )
    assert asyncio.run(turn())["passed"] == 3
    assert asyncio.run(turn())["passed"] == 0, "once"
    registry.beat(kiosk, units={}, skew_ms=9000)  # what was proved stays proved
    assert "还有 6 道入网关卡没有通过" in begin().text
    registry.terminal(TERMINAL)
    page = person.get(f"/kiosks/{kiosk}/onboarding").text
    assert "已跳过" in page and "三次带 MAC 的回响测试往返银联" not in page, "nothing is said that was not seen"
    with switch_door():
        assert begin().status_code == 303
    assert site.sql("SELECT in_service FROM switch.terminal")[0]["in_service"] is True


# ---------------------------------------------------------------------------------------------------- hops
GOOD = hops.Facts(
    now=NOW,
    door=Door("devices.example", 8444, "", 1, 2, 3),
    has_certificate=True,
    status={"beat_at": NOW - timedelta(seconds=20)},
    terminal_id=TERMINAL,
    terminal={"signed_on_at": NOW, "key_epoch": 3},
    gates={"mac_echo": NOW},
    stage="in_service",
    heard=Heard(answered=True, heard_s=5.0, echo_s=30.0, signed_on=True, has_line=True),
)


@pytest.mark.parametrize(
    ("changes", "broken", "told"),
    [
        ({}, "", ""),
        ({"door": Door("devices.example", 8444, "name")}, "name", "解析不到"),
        ({"door": Door("devices.example", 8444, "port", 1)}, "port", "连不上"),
        ({"door": Door("devices.example", 8444, "tls", 1, 2)}, "tls", "握手失败"),
        ({"status": {"beat_at": NOW - timedelta(minutes=9)}}, "beat", "没有心跳"),
        ({"status": None, "has_certificate": False}, "beat", "还没有证书"),
        ({"heard": Heard(answered=False)}, "switch", "没有应答"),
        ({"heard": Heard(answered=True)}, "session", "没有听到过它"),
        ({"heard": replace(GOOD.heard, heard_s=900.0)}, "session", "没有听到它"),
        ({"terminal": None}, "session", "没有登记终端号"),
        ({"stage": "registered"}, "sign_on", "主密钥"),
        ({"terminal": {"signed_on_at": None, "key_epoch": 0}}, "sign_on", "从未签到"),
        ({"heard": replace(GOOD.heard, signed_on=False)}, "sign_on", "已失效"),
        ({"gates": {}, "stage": "sign_on"}, "mac", "没有通过三次"),
    ],
)
def test_each_fault_is_told_at_its_hop_and_nothing_behind_it_is_judged(
    changes: dict[str, Any], broken: str, told: str
) -> None:
    found = hops.walk(replace(GOOD, **changes))
    bad = [hop for hop in found if hop.state == "bad"]
    assert [hop.name for hop in bad] == ([broken] if broken else [])
    if broken:
        assert told in bad[0].text and bad[0].todo
        way = found[:4] if broken in ("name", "port", "tls", "beat") else found[4:]
        behind = way[[hop.name for hop in way].index(broken) + 1 :]
        assert all(hop.state in ("skipped", "unknown", "good") for hop in behind)
    else:
        assert all(hop.state == "good" for hop in found)


@contextlib.asynccontextmanager
async def _server(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def test_our_own_door_is_really_tried(tmp_path: Path) -> None:
    async def story() -> None:
        assert (await hops.try_door("no-such-host.invalid", 1)).fault == "name"
        async with _server(None) as port:
            assert (await hops.try_door("127.0.0.1", port)).fault == "tls"
        assert (await hops.try_door("127.0.0.1", port)).fault == "port"
        async with _server(_context(tmp_path)) as port:
            door = await hops.try_door("127.0.0.1", port)
            assert door.fault == "" and door.tls_ms is not None

    asyncio.run(story())


def _context(folder: Path) -> ssl.SSLContext:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "door")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    path = folder / "door.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_the_page_asks_the_switch_about_this_terminal(site: Any, registry: Any, switch_door: Any) -> None:
    registry.terminal(TERMINAL)
    kiosk = registry.kiosk(state="in_service", terminal=TERMINAL)
    person = site.sign_in(OPERATIONS)
    page = person.get(f"/kiosks/{kiosk}/communication").text
    assert "断在“终端心跳”" in page and "还没有证书" in page
    assert "支付前置没有应答" in page
    rows = [["GS000009", 1.0, 1.0, True, True], [TERMINAL, 4.0, 9.0, False, True]]
    with switch_door(rows):
        page = person.get(f"/kiosks/{kiosk}/communication").text
    assert "支付前置 4 秒前听到它" in page and "从未签到成功" in page
