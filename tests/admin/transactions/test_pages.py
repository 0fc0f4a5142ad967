"""Payments and cases as people see them: found, masked, revealed for a reason, decided by two."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from admin import limits
from admin.auth.permissions import Role
from admin.config import Config, SwitchConfig
from switch.dialects.unionpay import UnionPayDialect
from switch.model.payment import State
from switch.observe.log import Log, Observation
from switch.observe.metrics import Metrics
from switch.runtime.control import ControlSocket
from switch.runtime.desk import Desk, PostgresAttempts
from switch.store.projector import project

from ..conftest import Site, Visitor, running
from ..feed.stories import Event, payment_id, story, write

GOOD = 3  # number of the payment that goes well; 4 ends in SUSPENSE
PAID_MS = 1_795_492_800_000


def _suspense(number: int) -> list[Event]:
    first = story(random.Random(number), number, began_ms=PAID_MS + number, terminal="GS000001", good=1.0)[0]
    steps = (("BILL_PENDING", "2"), ("SUSPENSE", "12m"))
    changes: list[dict[str, Any]] = [
        {"approved_seen": True, "response_code": "00", "rrn": f"{number:012d}"},
        {"case": f"C{first.payment_id}"},
    ]
    later = [
        Event(
            first.payment_id,
            first.opened_on,
            at + 2,
            state,
            row,
            first.wall_us + 1_000_000 * (at + 1),
            first.amount,
            body,
        )
        for at, ((state, row), body) in enumerate(zip(steps, changes, strict=True))
    ]
    return [first, *later]


@contextmanager
def _desk(dsn: str, path: Path) -> Iterator[None]:
    """The switch's own desk behind its own socket, in a thread."""
    started, stopped = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        observer = Observation(Metrics(), Log("error"))
        attempts = PostgresAttempts(dsn, "stories")
        card = UnionPayDialect(bytes.fromhex("6000030000"), bytes.fromhex("603100311300"))
        desk = Desk(dsn, attempts, card=lambda: card.shown, marketing=lambda: card.shown)
        socket = ControlSocket(path, desk.orders(), observer, changing=frozenset())
        await socket.start()
        loops.append(asyncio.get_running_loop())
        started.set()
        await stopped.wait()
        await socket.stop()
        await attempts.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(stopped.set)
        thread.join(30)


@pytest.fixture
def shop(admin_config: Config, short_dir: Path) -> Iterator[Site]:
    """The service with two payments of a kiosk at gz-th: one that went well, one that waits for a person."""
    path = short_dir / "control.sock"
    dsn = admin_config.database.dsn
    config = msgspec.structs.replace(admin_config, switch=SwitchConfig(control=(str(path),)))
    good = story(random.Random(2), GOOD, began_ms=PAID_MS + GOOD, terminal="GS000001", good=1.0)
    while good[-1].state != "COMPLETED":
        good = story(random.Random(good[-1].amount), GOOD, began_ms=PAID_MS + GOOD, terminal="GS000001", good=1.0)
    asyncio.run(_prepared(dsn, good))
    with _desk(dsn, path), running(config) as site:
        for _ in range(600):
            if (
                site.sql("SELECT count(*) AS n FROM payment_fact WHERE org_path <> '/' AND state <> 'CARD_PENDING'")[0][
                    "n"
                ]
                == 2
            ):
                break
            threading.Event().wait(0.05)
        else:
            raise AssertionError("the feed has not read the payments")
        yield site


async def _prepared(dsn: str, good: list[Event]) -> None:
    waits = _suspense(4)
    await write(dsn, good + waits)
    connection = await asyncpg.connect(dsn)
    try:
        while await project(connection):
            pass
        await connection.execute(
            "INSERT INTO switch.open_payment (payment_id, opened_on, owner) VALUES ($1, 20261124, 1)",
            waits[0].payment_id,
        )
        await connection.execute(
            "INSERT INTO admin.kiosk_model (vendor, name, units) VALUES ('v', 'm', ARRAY['idc']);"
            "INSERT INTO admin.kiosk (code, serial_number, model_id, org_id, terminal_id) "
            "SELECT 'KSK-1', 'SN-1', 1, id, 'GS000001' FROM admin.org WHERE code = 'gz-th'"
        )
    finally:
        await connection.close()


def _numbers(page: str) -> set[int]:
    return {int(found) for found in re.findall(r"/transactions/(\d{15,})", page)}


PAID, WAITS = payment_id(PAID_MS + GOOD, GOOD), payment_id(PAID_MS + 4, 4)
ACCOUNT = f"05{GOOD:08d}"


def test_whatever_somebody_types_finds_the_payment_and_no_account_is_in_an_address(shop: Site) -> None:
    li = shop.sign_in(Role.OPERATIONS, org="gz")
    (fact,) = shop.sql("SELECT * FROM payment_fact WHERE payment_id = $1", PAID)
    assert _numbers(li.get("/transactions").text) == {PAID, WAITS}
    for what, kind, where, found in (
        (ACCOUNT, "", "/transactions?account=", {PAID}),
        (f" {ACCOUNT[:4]} {ACCOUNT[4:]} ", "account", "/transactions?account=", {PAID}),
        (fact["rrn"], "", "/transactions?rrn=", {PAID}),
        (fact["card_last4"], "", "/transactions?card=", {PAID}),
        (fact["kiosk_serial"], "", "/transactions?serial=", {PAID}),
        (fact["stan"], "", "/transactions?trace=", {PAID}),
        (f"{fact['batch']}-{fact['stan']}", "", "/transactions?trace=", {PAID}),
        ("GS000001", "", "/transactions?terminal=", {PAID, WAITS}),
        ("ksk-1", "", "/transactions?kiosk=KSK-1", {PAID, WAITS}),
        ("0599999999", "", "/transactions?account=", set()),
        ("999999999999", "", "/transactions?rrn=", set()),
        ("nowhere", "", "/transactions?kiosk=NOWHERE", set()),
    ):
        answer = li.post("/transactions/find", {"q": what, "kind": kind})
        target = answer.headers["location"]
        assert answer.status_code == 303 and target.startswith(where), (what, target)
        assert ACCOUNT not in target
        assert _numbers(li.get(target).text) == found, what
    for what in (str(PAID), f"C{PAID}"):
        assert li.post("/transactions/find", {"q": what}).headers["location"] == f"/transactions/{PAID}"
    for wrong in ("", "x" * 41):
        assert li.post("/transactions/find", {"q": wrong}).status_code == 422
    assert li.get("/transactions?account=" + ACCOUNT).status_code == 422
    assert li.get("/transactions?trace=1").status_code == 422
    text = li.get("/transactions?state=COMPLETED&from=2026-11-24&until=2026-11-24&least=0.01&class=ok&org=gz-th").text
    assert _numbers(text) == {PAID} and "共 1 笔" in text
    assert _numbers(li.get("/transactions?until=2026-11-23").text) == set()


def test_who_looks_after_another_city_finds_nothing(shop: Site) -> None:
    wang = shop.sign_in(Role.FINANCE, org="sz")
    assert _numbers(wang.get("/transactions").text) == set()
    assert wang.post("/transactions/find", {"q": str(PAID)}).status_code == 303
    for path in (f"/transactions/{PAID}", f"/cases/{WAITS}", "/transactions/12"):
        assert wang.get(path).status_code == 404
    assert wang.post(f"/transactions/{PAID}/reveal", {"reason": "客户投诉查询"}).status_code == 404
    assert wang.post(f"/cases/{WAITS}/propose", {"decision": "paid", "evidence": "文件"}).status_code == 404
    assert "没有等待处理的差错" in wang.get("/cases").text


def test_exports_hold_what_the_list_shows_and_no_account(shop: Site) -> None:
    li = shop.sign_in(Role.FINANCE, org="gz")
    text = li.get("/transactions?format=csv").content.decode("utf-8-sig")
    assert len(text.splitlines()) == 3 and ACCOUNT not in text and f"****{ACCOUNT[-4:]}" in text
    assert li.get("/transactions?format=xlsx").content.startswith(b"PK")
    assert [row["action"] for row in shop.sql("SELECT action FROM audit_log")] == ["export", "export"]


def test_a_payment_tells_its_story_masked_and_the_account_only_for_a_reason(shop: Site) -> None:
    li = shop.sign_in(Role.OPERATIONS, org="gz")
    page = li.get(f"/transactions/{PAID}").text
    assert "销账成功，交易完成" in page and page.index("受理缴费") < page.index("银联批准扣款") < page.index("交易完成")
    assert ACCOUNT not in page and f"****{ACCOUNT[-4:]}" in page and "显示完整户号" not in page
    assert li.post(f"/transactions/{PAID}/reveal", {"reason": "客户投诉查询"}).status_code == 403

    wang = shop.sign_in(Role.FINANCE, org="gz")
    assert "显示完整户号" in wang.get(f"/transactions/{PAID}").text
    assert wang.get(f"/transactions/{PAID}/reveal").status_code == 405, "nothing that a link could do"
    refused = wang.post(f"/transactions/{PAID}/reveal", {"reason": "x"})
    assert refused.status_code == 422 and ACCOUNT not in refused.text
    before = shop.sql("SELECT count(*) AS n FROM audit_log WHERE action = 'account.reveal'")[0]["n"]
    told = wang.post(f"/transactions/{PAID}/reveal", {"reason": "客户投诉查询"})
    assert told.status_code == 200 and ACCOUNT in told.text and "no-store" in told.headers["cache-control"]
    rows = shop.sql("SELECT * FROM audit_log WHERE action = 'account.reveal'")
    assert before == 0 and len(rows) == 1
    assert (rows[0]["object_id"], rows[0]["reason"], rows[0]["org_path"]) == (
        str(PAID),
        "客户投诉查询",
        "/gd/gz/gz-th/",
    )
    assert ACCOUNT not in str(dict(rows[0]))
    assert ACCOUNT not in wang.get(f"/transactions/{PAID}").text


def test_the_story_is_told_without_the_switch_too(site: Site) -> None:
    asyncio.run(_prepared(site.dsn, _suspense(5)))
    li = site.sign_in(Role.OPERATIONS)
    for _ in range(600):
        answer = li.get(f"/transactions/{WAITS}")
        if answer.status_code == 200:
            break
        threading.Event().wait(0.05)
    assert "没有配置支付前置的控制接口" in answer.text and "转人工处理" in answer.text


def test_what_is_behind_the_switch_says_so(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    li = shop.sign_in(Role.FINANCE, org="gz")
    for path in ("/transactions", "/cases"):
        assert "数据延迟" not in li.get(path).text
        with monkeypatch.context() as patch:
            patch.setattr(limits, "STALE_S", 0)
            assert "数据延迟" in li.get(path).text


def _propose(site: Site, who: Visitor) -> int:
    answer = who.post(f"/cases/{WAITS}/propose", {"decision": "paid", "evidence": "清算文件 1124 第 7 行"})
    assert answer.status_code == 303, answer.text
    return int(site.sql("SELECT id FROM approval WHERE state = 'pending'")[0]["id"])


def test_two_people_decide_a_case_and_the_switch_gets_both_names(shop: Site) -> None:
    li, wang = shop.sign_in(Role.FINANCE, org="gz", login="li"), shop.sign_in(Role.FINANCE, org="gz", login="wang")
    listed = li.get("/cases").text
    assert f"C{WAITS}" in listed and "待提出" in listed
    page = li.get(f"/cases/{WAITS}").text
    assert "已扣款且已销账" in page and "清算文件显示已扣款" not in page, "only what the state leaves open"
    for wrong in (
        {"decision": "charged", "evidence": "文件 7 行"},
        {"decision": "paid", "evidence": "x"},
        {"decision": "paid", "evidence": "卡 6222021234567890128"},
    ):
        assert li.post(f"/cases/{WAITS}/propose", wrong).status_code == 422
    assert li.post(f"/cases/{PAID}/propose", {"decision": "paid", "evidence": "文件 7 行"}).status_code == 409
    number = _propose(shop, li)
    assert li.post(f"/cases/{WAITS}/propose", {"decision": "paid", "evidence": "文件 8 行"}).status_code == 409
    assert "去复核" in wang.get(f"/cases/{WAITS}").text and "待复核" in wang.get("/cases?standing=proposed").text
    assert li.post(f"/approvals/{number}/decide", {"verdict": "approve"}).status_code == 403, "not one's own"
    assert shop.sql("SELECT count(*) AS n FROM switch.case_decision")[0]["n"] == 0
    assert wang.post(f"/approvals/{number}/decide", {"verdict": "approve"}).status_code == 303
    (row,) = shop.sql("SELECT * FROM switch.case_decision")
    assert (row["payment_id"], row["decision"], row["proposed_by"], row["confirmed_by"]) == (
        WAITS,
        "paid",
        "li",
        "wang",
    )
    assert shop.sql("SELECT state, outcome FROM approval")[0]["state"] == "consumed"
    assert "待执行" in li.get(f"/cases/{WAITS}").text


def test_a_proposal_that_was_interrupted_goes_on_and_another_one_stands_in_the_way(shop: Site) -> None:
    li, wang = shop.sign_in(Role.FINANCE, org="gz", login="li"), shop.sign_in(Role.FINANCE, org="gz", login="wang")
    number = _propose(shop, li)
    add = "INSERT INTO switch.case_decision (payment_id, decision, evidence, proposed_by) VALUES ($1, 'paid', $2, $3)"
    shop.sql(add, WAITS, "清算文件 1124 第 7 行", "somebody")
    refused = wang.post(f"/approvals/{number}/decide", {"verdict": "approve"})
    assert refused.status_code == 409 and "另一项待复核的处理意见" in refused.text
    assert shop.sql("SELECT state FROM approval")[0]["state"] == "pending", "nothing was done"
    assert "已扣款且已销账" in wang.get(f"/approvals/{number}").text, "who confirms reads words"
    row = shop.sql("SELECT id FROM switch.case_decision")[0]["id"]
    stale = wang.post(f"/cases/{WAITS}/withdraw", {"number": str(row + 1)})
    assert stale.status_code == 409 and "处理意见已变化" in stale.text
    assert wang.post(f"/cases/{WAITS}/withdraw", {"number": str(row)}).status_code == 303
    assert shop.sql("SELECT outcome FROM switch.case_decision")[0]["outcome"] == "withdrawn"
    assert [row["action"] for row in shop.sql("SELECT action FROM audit_log")].count("case.withdraw") == 1
    shop.sql("DELETE FROM switch.case_decision")
    shop.sql(add, WAITS, "清算文件 1124 第 7 行", "li")  # proposed, and then the service was killed
    assert wang.post(f"/approvals/{number}/decide", {"verdict": "approve"}).status_code == 303
    assert [row["confirmed_by"] for row in shop.sql("SELECT confirmed_by FROM switch.case_decision")] == ["wang"]


def test_what_changed_meanwhile_is_not_decided_and_a_switch_that_is_down_decides_nothing(
    shop: Site, short_dir: Path
) -> None:
    li, wang = shop.sign_in(Role.FINANCE, org="gz", login="li"), shop.sign_in(Role.FINANCE, org="gz", login="wang")
    number = _propose(shop, li)
    (short_dir / "control.sock").rename(short_dir / "away.sock")
    refused = wang.post(f"/approvals/{number}/decide", {"verdict": "approve"})
    assert refused.status_code == 409 and "支付前置没有运行" in refused.text
    assert shop.sql("SELECT state FROM approval")[0]["state"] == "pending"
    (short_dir / "away.sock").rename(short_dir / "control.sock")
    shop.sql("UPDATE payment_fact SET ver = ver + 1 WHERE payment_id = $1", WAITS)
    assert wang.post(f"/approvals/{number}/decide", {"verdict": "approve"}).status_code == 303
    assert shop.sql("SELECT state FROM approval")[0]["state"] == "void"
    assert shop.sql("SELECT count(*) AS n FROM switch.case_decision")[0]["n"] == 0


def test_the_auditor_reads_and_decides_nothing(shop: Site) -> None:
    zhao = shop.sign_in(Role.AUDITOR)
    page = zhao.get(f"/cases/{WAITS}").text
    assert "提交复核" not in page and "等待财务人员提出处理意见" in page
    assert zhao.post(f"/cases/{WAITS}/propose", {"decision": "paid", "evidence": "文件 7 行"}).status_code == 403
    assert State.SUSPENSE.value == shop.sql("SELECT state FROM payment_fact WHERE payment_id = $1", WAITS)[0]["state"]
