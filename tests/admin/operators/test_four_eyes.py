"""Operators and grants through two people, and every way around it that must not be there."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

from admin.auth.permissions import Role

SYSTEM, SECURITY = Role.SYSTEM_ADMINISTRATOR, Role.SECURITY_ADMINISTRATOR
NEW = {"login": "wang.fei", "name": "王菲", "employer": "vendor", "reason": "新入职"}


def _org(site: Any, code: str) -> int:
    number: int = site.sql("SELECT id FROM org WHERE code = $1", code)[0]["id"]
    return number


def _asked(answer: Any) -> int:
    assert answer.status_code == 303, answer.text
    found = re.fullmatch(r"/approvals/(\d+)", answer.headers["location"])
    assert found, answer.headers["location"]
    return int(found[1])


def _decide(visitor: Any, number: int, verdict: str = "approve", answer: str = "") -> Any:
    return visitor.post(f"/approvals/{number}/decide", {"verdict": verdict, "answer": answer})


def _state(site: Any, number: int) -> str:
    state: str = site.sql("SELECT state FROM approval WHERE id = $1", number)[0]["state"]
    return state


def _created(site: Any) -> int:
    maker, checker = site.sign_in(SYSTEM), site.sign_in(SECURITY)
    number = _asked(maker.post("/operators/new", {**NEW, "org_id": _org(site, "gz")}))
    assert _decide(checker, number).status_code == 303
    found: int = site.sql("SELECT id FROM operator WHERE login = 'wang.fei'")[0]["id"]
    return found


def _actions(site: Any) -> list[str]:
    return [row["action"] for row in site.sql("SELECT action FROM audit_log ORDER BY seq")]


def test_a_new_operator_is_there_only_after_a_second_person_said_so(site: Any) -> None:
    maker, checker = site.sign_in(SYSTEM), site.sign_in(SECURITY)
    number = _asked(maker.post("/operators/new", {**NEW, "org_id": _org(site, "gz")}))
    assert not site.sql("SELECT FROM operator WHERE login = 'wang.fei'")
    assert "王菲 (wang.fei) · 广州" in checker.get("/approvals").text

    assert _decide(checker, number).headers["location"] == f"/approvals/{number}"

    (row,) = site.sql("SELECT password_hash, created_by FROM operator WHERE login = 'wang.fei'")
    assert row["password_hash"] == "!" and row["created_by"] == maker.operator_id
    assert _state(site, number) == "consumed"
    assert _actions(site) == ["approval.ask", "operator.create", "approval.consumed"]


def test_nobody_confirms_their_own(site: Any) -> None:
    one, _ = site.sign_in(SECURITY), _created(site)
    target = site.sql("SELECT id FROM operator WHERE login = 'wang.fei'")[0]["id"]
    number = _asked(
        one.post(f"/operators/{target}/grants", {"role": "operations", "org_id": _org(site, "gz"), "reason": "上岗"})
    )
    answer = _decide(one, number)
    assert answer.status_code == 403 and "不能复核自己提出的申请" in answer.text
    assert _state(site, number) == "pending"
    with pytest.raises(asyncpg.CheckViolationError):  # not even by hand in the database
        site.sql("UPDATE approval SET state = 'consumed', checker_id = maker_id WHERE id = $1", number)


def test_a_confirmation_needs_a_fresh_second_factor_scope_and_the_right_role(site: Any) -> None:
    maker = site.sign_in(SYSTEM)
    number = _asked(maker.post("/operators/new", {**NEW, "org_id": _org(site, "gz")}))

    stale = site.sign_in(SECURITY, step_up=False)
    assert _decide(stale, number).headers["location"].startswith("/step-up")
    assert _decide(site.sign_in(SECURITY, org="sz"), number).status_code == 404
    assert _decide(site.sign_in(Role.AUDITOR), number).status_code == 404
    assert site.sign_in(SECURITY, org="sz").get(f"/approvals/{number}").status_code == 404
    assert _state(site, number) == "pending"


def test_what_changed_meanwhile_makes_it_void(site: Any) -> None:
    target = _created(site)
    giver, checker = site.sign_in(SECURITY), site.sign_in(SECURITY)
    form = {"role": "operations", "org_id": _org(site, "gz"), "reason": "上岗"}
    number = _asked(giver.post(f"/operators/{target}/grants", form))
    site.sql("UPDATE operator SET version = version + 1 WHERE id = $1", target)

    _decide(checker, number)

    assert _state(site, number) == "void" and not site.sql("SELECT FROM role_grant WHERE operator_id = $1", target)


def test_a_changed_payload_is_not_carried_out(site: Any) -> None:
    target = _created(site)
    number = _asked(
        site.sign_in(SECURITY).post(
            f"/operators/{target}/grants", {"role": "marketing", "org_id": _org(site, "gz"), "reason": "上岗"}
        )
    )
    with pytest.raises(asyncpg.RestrictViolationError):
        site.sql("UPDATE approval SET payload = jsonb_set(payload, '{role}', '\"finance\"') WHERE id = $1", number)
    site.sql("ALTER TABLE approval DISABLE TRIGGER keep_asked")
    site.sql("UPDATE approval SET payload = jsonb_set(payload, '{role}', '\"finance\"') WHERE id = $1", number)

    answer = _decide(site.sign_in(SECURITY), number)

    assert answer.status_code == 409 and "内容与提交时不符" in answer.text
    assert not site.sql("SELECT FROM role_grant WHERE operator_id = $1", target)


def test_a_decision_is_single_use_even_for_a_double_click(site: Any) -> None:
    target = _created(site)
    form = {"role": "operations", "org_id": _org(site, "gz"), "reason": "上岗"}
    number = _asked(site.sign_in(SECURITY).post(f"/operators/{target}/grants", form))
    checkers = [site.sign_in(SECURITY) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: _decide(each, number).status_code, checkers))

    assert sorted(answers) == [303, 409, 409, 409]
    assert len(site.sql("SELECT FROM role_grant WHERE operator_id = $1", target)) == 1


def test_what_is_refused_needs_a_reason_and_what_is_over_stays_over(site: Any) -> None:
    maker, checker = site.sign_in(SYSTEM), site.sign_in(SECURITY)
    number = _asked(maker.post("/operators/new", {**NEW, "org_id": _org(site, "gz")}))
    assert "驳回请说明原因" in _decide(checker, number, "reject").text
    assert _decide(checker, number, "reject", "没有编制").status_code == 303
    assert _state(site, number) == "rejected"
    assert _decide(checker, number).status_code == 409
    with pytest.raises(asyncpg.RestrictViolationError):
        site.sql("UPDATE approval SET state = 'pending', checker_id = NULL WHERE id = $1", number)

    again = _asked(maker.post("/operators/new", {**NEW, "org_id": _org(site, "gz")}))
    site.sql("ALTER TABLE approval DISABLE TRIGGER keep_asked")
    site.sql("UPDATE approval SET expires_at = now() - interval '1 second' WHERE id = $1", again)
    site.sql("ALTER TABLE approval ENABLE TRIGGER keep_asked")
    assert _decide(checker, again).status_code == 409
    assert _asked(maker.post("/operators/new", {**NEW, "org_id": _org(site, "gz")})) > again


def test_a_role_that_excludes_another_is_refused_when_asked_and_when_done(site: Any) -> None:
    target = _created(site)
    giver, checker = site.sign_in(SECURITY), site.sign_in(SECURITY)
    form = {"role": "operations", "org_id": _org(site, "gz"), "reason": "上岗"}
    later = _asked(giver.post(f"/operators/{target}/grants", form))
    site.sql(
        "INSERT INTO role_grant (operator_id, role, org_id) SELECT $1, 'auditor', id FROM org WHERE code = 'gz'", target
    )

    assert "互斥" in giver.post(f"/operators/{target}/grants", {**form, "role": "finance"}).text
    assert "互斥" in _decide(checker, later).text

    assert _state(site, later) == "pending"


def test_a_grant_works_from_its_day_to_its_day_and_can_be_taken_back_at_once(site: Any) -> None:
    target = _created(site)
    giver, checker = site.sign_in(SECURITY), site.sign_in(SECURITY)
    form = {"role": "operations", "org_id": _org(site, "gz"), "reason": "替班", "valid_to": "2000-01-01"}
    assert "失效日期要在生效日期之后" in giver.post(f"/operators/{target}/grants", form).text
    _decide(checker, _asked(giver.post(f"/operators/{target}/grants", {**form, "valid_to": "2099-01-01"})))
    (row,) = site.sql("SELECT id, valid_to FROM role_grant WHERE operator_id = $1", target)
    assert row["valid_to"].isoformat() == "2099-01-01T16:00:00+00:00"  # to the end of that day, in Shanghai

    assert site.sign_in(SECURITY, org="sz").post(f"/grants/{row['id']}/revoke").status_code == 404
    assert giver.post(f"/grants/{row['id']}/revoke", {"reason": "结束"}).status_code == 303
    assert site.sql("SELECT revoked_by FROM role_grant WHERE id = $1", row["id"])[0]["revoked_by"] == giver.operator_id


def test_disabling_ends_every_session_at_once_and_a_one_time_password_is_shown_once(site: Any) -> None:
    boss, other = site.sign_in(SYSTEM), site.sign_in(Role.OPERATIONS)
    assert other.get("/me").status_code == 200
    shown = boss.post(f"/operators/{other.operator_id}/one-time").text
    assert re.search(r'id="one-time">[a-z2-9]{5}-[a-z2-9]{5}-[a-z2-9]{5}<', shown)
    assert other.get("/me").status_code == 303  # whoever knew the old one is out
    assert 'id="one-time"' not in boss.get(f"/operators/{other.operator_id}").text

    third = site.sign_in(Role.OPERATIONS)
    assert boss.post(f"/operators/{third.operator_id}/disable", {"reason": "离职"}).status_code == 303
    assert third.get("/me").status_code == 303
    assert boss.post(f"/operators/{boss.operator_id}/disable", {"reason": "x"}).status_code == 409
    stale = site.sign_in(SYSTEM, step_up=False)
    assert stale.post(f"/operators/{other.operator_id}/one-time").headers["location"].startswith("/step-up")


def test_a_session_is_ended_by_who_may_in_scope(site: Any) -> None:
    other = site.sign_in(Role.OPERATIONS, org="gz")
    number = site.sql("SELECT id FROM operator_session WHERE operator_id = $1", other.operator_id)[0]["id"]
    assert site.sign_in(SYSTEM, org="sz").post(f"/sessions/{number}/end").status_code == 404
    assert other.get("/me").status_code == 200
    boss = site.sign_in(SYSTEM, org="gd")
    assert other.login in boss.get("/sessions").text
    assert boss.post(f"/sessions/{number}/end").status_code == 303
    assert other.get("/me").status_code == 303
