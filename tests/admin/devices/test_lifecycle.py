"""The life of a kiosk: the table, that the database has the same one, and that the switch does what it says."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from admin.devices import service
from admin.devices.lifecycle import BY_ENROLMENT, PAYABLE, STATE_NAMES, STEPS, offered, refuse_illegal
from admin.errors import StateError
from tests.admin.conftest import opened
from tests.admin.devices.conftest import OPERATIONS

TERMINAL = "GS000001"
STATES = tuple(STEPS)


def test_the_database_has_the_same_table(site: Any) -> None:
    rows = site.sql("SELECT from_state, to_state FROM kiosk_step")
    assert {(row["from_state"], row["to_state"]) for row in rows} == {
        (state, other) for state, others in STEPS.items() for other in others
    }
    assert set(STATES) == set(STATE_NAMES)


@pytest.mark.parametrize("state", STATES)
def test_no_other_step_is_taken_by_a_person(state: str) -> None:
    for other in STATES:
        for before in (None, "trial", "in_service"):
            if other in offered(state, before):
                refuse_illegal(state, other, before)
            else:
                with pytest.raises(StateError):
                    refuse_illegal(state, other, before)


def test_enrolment_and_the_trial_cannot_be_gone_around() -> None:
    for state, other in BY_ENROLMENT:
        assert other not in offered(state, None)
    for halted in ("out_of_service", "maintenance"):
        assert PAYABLE & set(offered(halted, "trial")) == {"trial"}
        assert PAYABLE & set(offered(halted, "in_service")) == {"in_service"}
        assert PAYABLE & set(offered(halted, None)) == {"trial"}
    assert offered("retired", "in_service") == []


def test_a_step_that_is_none_is_a_conflict_and_stands_in_the_audit_log(site: Any, registry: Any) -> None:
    kiosk = registry.kiosk(state="in_service")
    answer = site.sign_in(OPERATIONS).post(f"/kiosks/{kiosk}/state", {"to": "pending", "reason": "试一下"})
    assert answer.status_code == 409 and "终端不能从“运行”变为“待认证”" in answer.text
    assert registry.get(kiosk)["state"] == "in_service"
    (denied,) = registry.denied()
    assert (denied["action"], denied["object_id"]) == ("kiosk.state", str(kiosk))
    assert '"after": "pending"' in denied["detail"] and '"why": "step"' in denied["detail"]


def test_the_database_refuses_it_as_well(site: Any, registry: Any) -> None:
    kiosk = registry.kiosk(state="in_service")
    with pytest.raises(asyncpg.CheckViolationError, match="no step leads from in_service to registered"):
        site.sql("UPDATE kiosk SET state = 'registered' WHERE id = $1", kiosk)
    retired = registry.kiosk(state="retired")
    with pytest.raises(asyncpg.CheckViolationError, match="retired and stays"):
        site.sql("UPDATE kiosk SET place = 'x' WHERE id = $1", retired)
    with pytest.raises(asyncpg.RestrictViolationError):
        site.sql("DELETE FROM kiosk_change")


def test_retirement_wants_the_code_typed_and_a_reason(site: Any, registry: Any) -> None:
    kiosk = registry.kiosk(state="out_of_service")
    person = site.sign_in(OPERATIONS)
    assert person.post(f"/kiosks/{kiosk}/state", {"to": "retired", "reason": "拆除"}).status_code == 422
    assert person.post(f"/kiosks/{kiosk}/state", {"to": "retired", "typed_code": "K-001"}).status_code == 422
    done = person.post(f"/kiosks/{kiosk}/state", {"to": "retired", "reason": "拆除", "typed_code": "k-001"})
    assert done.status_code == 303 and registry.get(kiosk)["state"] == "retired"
    assert person.post(f"/kiosks/{kiosk}/edit", {"version": "2", "code": "K-001"}).status_code in (409, 422)
    page = person.get(f"/kiosks/{kiosk}").text
    assert "拆除" in page and "状态变更" not in page


def test_a_state_is_ordered_from_the_switch_and_what_it_says_is_shown(
    site: Any, registry: Any, switch_door: Any
) -> None:
    registry.terminal(TERMINAL, in_service=True)
    kiosk = registry.kiosk(state="in_service", terminal=TERMINAL)
    person = site.sign_in(OPERATIONS)
    with switch_door() as asked:
        answer = person.post(f"/kiosks/{kiosk}/state", {"to": "maintenance", "reason": "换打印机"})
        assert answer.status_code == 303
        (told,) = asked
        assert (told.terminal, told.on) == (TERMINAL, False)
        # So begins what makes the switch tell customers that the kiosk soon comes back.
        assert told.reason == "maintenance: 换打印机"
        page = person.get(f"/kiosks/{kiosk}").text
        assert "不可缴费" in page and "maintenance: 换打印机" in page and "还没有执行" not in page
        assert person.post(f"/kiosks/{kiosk}/state", {"to": "in_service", "reason": "修好了"}).status_code == 303
    (said,) = site.sql("SELECT in_service FROM switch.terminal WHERE terminal_id = $1", TERMINAL)
    assert said["in_service"] is True
    states = site.sql("SELECT from_state, to_state, reason, actor FROM kiosk_change ORDER BY id")
    steps = [(row["to_state"], row["reason"]) for row in states[1:]]
    assert steps == [("maintenance", "换打印机"), ("in_service", "修好了")]
    assert {row["actor"] for row in states[1:]} == {f"u:{person.login}"}


def test_a_switch_that_is_away_is_told_about_and_asked_again(site: Any, registry: Any, switch_door: Any) -> None:
    registry.terminal(TERMINAL, in_service=True)
    kiosk = registry.kiosk(state="in_service", terminal=TERMINAL)
    person = site.sign_in(OPERATIONS)

    assert person.post(f"/kiosks/{kiosk}/state", {"to": "out_of_service", "reason": "漏水"}).status_code == 303

    page = person.get(f"/kiosks/{kiosk}").text
    assert "支付前置还没有执行：应不可缴费，实际可缴费" in page and "支付前置没有运行" in page
    assert "与档案不一致" in person.get("/kiosks").text
    (order,) = site.sql("SELECT tries, done_at, error_code FROM kiosk_order")
    assert (order["tries"], order["done_at"], order["error_code"]) == (1, None, "switch_away")

    async def turn() -> Any:
        async with opened(site.dsn) as database:
            return await service.retry(database, site.app.state.parts.switches)

    assert asyncio.run(turn())["due"] == 0, "not before its time"
    site.sql("UPDATE kiosk_order SET tried_at = now() - interval '1 minute'")
    with switch_door() as asked:
        assert asyncio.run(turn()) == {"due": 1, "done": 1}
    assert len(asked) == 1
    page = person.get(f"/kiosks/{kiosk}").text
    assert "还没有执行" not in page and "与档案不一致" not in page


def test_what_the_switch_refuses_is_told_with_its_words(site: Any, registry: Any, switch_door: Any) -> None:
    registry.terminal(TERMINAL, stage="registered")
    kiosk = registry.kiosk(state="maintenance", terminal=TERMINAL)
    site.sql("UPDATE kiosk SET state = 'trial' WHERE id = $1", kiosk)
    person = site.sign_in(OPERATIONS)
    with switch_door():
        assert person.post(f"/kiosks/{kiosk}/service").status_code == 303
    page = person.get(f"/kiosks/{kiosk}").text
    assert "应可缴费，实际不可缴费" in page and "has passed its gates up to registered only" in page
    (order,) = site.sql("SELECT error_code, done_at FROM kiosk_order")
    assert (order["error_code"], order["done_at"]) == ("gate", None)


def test_what_somebody_changed_at_the_switch_is_shown_and_not_overruled(
    site: Any, registry: Any, switch_door: Any
) -> None:
    registry.terminal(TERMINAL, in_service=True)
    kiosk = registry.kiosk(state="out_of_service", terminal=TERMINAL)
    person = site.sign_in(OPERATIONS)
    with switch_door() as asked:
        person.post(f"/kiosks/{kiosk}/service")
        site.sql("UPDATE switch.terminal SET in_service = true")

        async def turn() -> Any:
            async with opened(site.dsn) as database:
                return await service.retry(database, site.app.state.parts.switches)

        assert asyncio.run(turn())["due"] == 0
        assert "支付前置与档案不一致：应不可缴费，实际可缴费" in person.get(f"/kiosks/{kiosk}").text
        assert len(asked) == 1
        person.post(f"/kiosks/{kiosk}/service")
    assert "与档案不一致" not in person.get(f"/kiosks/{kiosk}").text


def test_a_payable_kiosk_keeps_its_terminal(site: Any, registry: Any) -> None:
    kiosk = registry.kiosk(state="in_service", terminal=TERMINAL)
    form = {
        "code": "K-001", "serial_number": "SN-00001", "model_id": str(registry.model), "version": "1",
        "org_id": str(registry.org("gz-th")), "terminal_id": "GS000002",
    }  # fmt: skip
    answer = site.sign_in(OPERATIONS).post(f"/kiosks/{kiosk}/edit", form)
    assert answer.status_code == 409 and "不能更换银联终端号" in answer.text


def test_a_trial_lasts_three_days_and_is_then_proposed(site: Any, registry: Any) -> None:
    from admin.devices import onboarding

    kiosk = registry.kiosk(state="trial")
    person = site.sign_in(OPERATIONS)
    early = person.post(f"/kiosks/{kiosk}/state", {"to": "in_service", "reason": "很稳"})
    assert early.status_code == 409 and "未满 72 小时，还差约 72 小时" in early.text

    async def turn() -> Any:
        async with opened(site.dsn) as database:
            return await onboarding.note_gates(database)

    assert asyncio.run(turn())["proposed"] == 0
    site.sql("ALTER TABLE kiosk DISABLE TRIGGER USER")
    site.sql("UPDATE kiosk SET state_since = now() - interval '73 hours'")
    site.sql("ALTER TABLE kiosk ENABLE TRIGGER USER")
    assert asyncio.run(turn())["proposed"] == 1
    assert asyncio.run(turn())["proposed"] == 0, "once"
    assert "建议投入运行" in person.get(f"/kiosks/{kiosk}").text
    assert [row["code"] for row in person.get("/kiosks?format=json&watch=due").json()["rows"]] == ["K-001"]
    assert person.post(f"/kiosks/{kiosk}/state", {"to": "in_service", "reason": "很稳"}).status_code == 303
