"""The registry: registering, editing under each other's eyes, lists, what is in scope."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin.devices.conftest import OPERATIONS, SECURITY, SYSTEM


def _form(registry: Any, **changes: str) -> dict[str, str]:
    return {
        "code": "gz-th-001",
        "serial_number": "SN20260001",
        "model_id": str(registry.model),
        "org_id": str(registry.org("gz-th")),
        "terminal_id": "GS000123",
        "place": "大堂左侧",
        "line": "LINE-7",
        "bought_on": "2026-11-01",
        **changes,
    }


def test_a_kiosk_is_registered_with_its_first_line_of_history(site: Any, registry: Any) -> None:
    person = site.sign_in(OPERATIONS, org="gz")

    answer = person.post("/kiosks/new", _form(registry))

    assert answer.status_code == 303, answer.text
    page = person.get(answer.headers["location"]).text
    assert "GZ-TH-001" in page and "大堂左侧" in page and "LINE-7" in page and "2026-11-01" in page
    (row,) = site.sql("SELECT actor, to_state, from_state FROM kiosk_change")
    assert (row["actor"], row["from_state"], row["to_state"]) == (f"u:{person.login}", None, "registered")
    (noted,) = site.sql("SELECT actor, org_path FROM audit_log WHERE action = 'kiosk.register'")
    assert (noted["actor"], noted["org_path"]) == (f"u:{person.login}", "/gd/gz/gz-th/")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"code": "a"}, "终端编号"),
        ({"code": "GZ_1"}, "大写字母"),
        ({"terminal_id": "123"}, "8 位"),
        ({"bought_on": "gestern"}, "不是日期"),
        ({"model_id": "999"}, "请选择型号"),
        ({"serial_number": ""}, "请填写出厂序列号"),
    ],
)
def test_what_cannot_be_registered_is_told_at_its_field(site: Any, registry: Any, changes: Any, told: str) -> None:
    answer = site.sign_in(OPERATIONS).post("/kiosks/new", _form(registry, **changes))

    assert answer.status_code == 422 and told in answer.text and 'aria-invalid="true"' in answer.text
    assert site.sql("SELECT * FROM kiosk") == []


def test_a_code_serial_or_terminal_that_is_taken_is_told(site: Any, registry: Any) -> None:
    person = site.sign_in(OPERATIONS)
    assert person.post("/kiosks/new", _form(registry)).status_code == 303
    other = {"code": "X-1", "serial_number": "SN9", "terminal_id": "GS000999"}
    for name, title in (("code", "终端编号"), ("serial_number", "出厂序列号"), ("terminal_id", "银联终端号")):
        changes = {key: value for key, value in other.items() if key != name}
        answer = person.post("/kiosks/new", _form(registry, **changes))
        assert answer.status_code == 409 and f"{title}已被另一台终端使用" in answer.text


def test_a_kiosk_stands_only_at_an_open_site_in_scope(site: Any, registry: Any) -> None:
    person = site.sign_in(OPERATIONS, org="gz")
    site.sql("UPDATE org SET closed = true WHERE code = 'gz-th'")
    for code in ("sz-ns", "gz", "gz-th"):  # somewhere else, no site, closed
        answer = person.post("/kiosks/new", _form(registry, org_id=str(registry.org(code))))
        assert answer.status_code == 422 and "请选择您范围内的一个营业厅" in answer.text
    assert site.sql("SELECT * FROM kiosk") == []


def test_who_edits_an_older_version_is_told_who_changed_what(site: Any, registry: Any) -> None:
    kiosk = registry.kiosk()
    wang, li = site.sign_in(OPERATIONS, login="wang"), site.sign_in(OPERATIONS, login="li")
    base = _form(registry, code="K-001", serial_number="SN-00001", terminal_id="", version="1")

    assert wang.post(f"/kiosks/{kiosk}/edit", {**base, "place": "二楼"}).status_code == 303
    answer = li.post(f"/kiosks/{kiosk}/edit", {**base, "place": "门口"})

    assert answer.status_code == 409
    assert "别人已经修改了这份档案" in answer.text and "wang" in answer.text and "<ins>二楼</ins>" in answer.text
    assert registry.get(kiosk)["place"] == "二楼"
    # Whoever has seen it may go on, with the version that the page now carries.
    again = li.post(f"/kiosks/{kiosk}/edit", {**base, "place": "门口", "version": "2"})
    assert again.status_code == 303 and registry.get(kiosk)["place"] == "门口"
    rows = site.sql("SELECT actor, changes FROM kiosk_change WHERE kiosk_id = $1 ORDER BY id", kiosk)
    assert [row["actor"] for row in rows] == ["system", "u:wang", "u:li"]
    assert '"place": ["二楼", "门口"]' in rows[-1]["changes"]


def test_what_is_out_of_scope_is_not_found(site: Any, registry: Any) -> None:
    theirs = registry.kiosk("sz-ns")
    mine = registry.kiosk("gz-th")
    person = site.sign_in(OPERATIONS, SYSTEM, org="gz")
    for path in ("", "/edit", "/onboarding", "/communication"):
        assert person.get(f"/kiosks/{theirs}{path}").status_code == 404
        assert person.get(f"/kiosks/{mine}{path}").status_code == 200
    for path in ("edit", "state", "service", "groups", "code"):
        answer = person.post(f"/kiosks/{theirs}/{path}", {"to": "retired", "reason": "因为", "version": "1"})
        assert answer.status_code == 404
    assert person.get(f"/orgs/{registry.org('sz')}").status_code == 404
    listed = person.get("/kiosks").text
    assert "K-002" in listed and "K-001" not in listed
    assert "南山营业厅" not in person.get("/orgs").text and "天河营业厅" in person.get("/orgs").text


def test_the_list_filters_sorts_and_exports(site: Any, registry: Any) -> None:
    for number in range(7):
        registry.kiosk("gz-th" if number % 2 else "sz-ns", state="in_service" if number < 3 else "registered")
    registry.terminal("GS000001", in_service=False)
    odd = registry.kiosk("gz-th", state="in_service", terminal="GS000001")
    person = site.sign_in(OPERATIONS)

    def codes(query: str) -> list[str]:
        rows = person.get(f"/kiosks?format=json&{query}").json()["rows"]
        return [row["code"] for row in rows]

    assert len(codes("")) == 8
    assert codes("state=in_service&sort=-code") == ["K-008", "K-003", "K-002", "K-001"]
    assert codes(f"org={registry.org('sz')}") == ["K-001", "K-003", "K-005", "K-007"]
    assert codes("q=sn-00005") == ["K-005"]
    assert codes("watch=differs") == ["K-008"]
    assert codes(f"model={registry.model}&size=3") == ["K-001", "K-002", "K-003"]
    assert "与档案不一致" in person.get("/kiosks").text
    csv = person.get("/kiosks?format=csv&state=in_service").content
    assert csv.startswith(b"\xef\xbb\xbf") and "与档案不一致" in csv.decode() and csv.count(b"\r\n") == 5
    assert person.get("/kiosks?format=xlsx").content[:2] == b"PK"
    assert person.get(f"/kiosks/by-code/{registry.get(odd)['code']}").headers["location"] == f"/kiosks/{odd}"


def test_groups_hold_kiosks_under_their_organisation(site: Any, registry: Any) -> None:
    here, there = registry.kiosk("gz-th"), registry.kiosk("sz-ns")
    person = site.sign_in(OPERATIONS)
    made = person.post("/groups", {"name": "先行组", "org_id": str(registry.org("gz"))})
    assert made.status_code == 303
    group = made.headers["location"]
    answer = person.post(f"{group}/join", {"codes": "K-001, K-002"})
    assert answer.status_code == 422 and "K-002" in answer.text
    assert site.sql("SELECT * FROM kiosk_group_member") == []
    assert person.post(f"{group}/join", {"codes": "k-001"}).status_code == 303
    assert "K-001" in person.get(group).text
    assert "先行组" in person.get(f"/kiosks/{here}").text
    assert person.post(f"{group}/leave/{here}").status_code == 303
    assert site.sql("SELECT * FROM kiosk_group_member") == []
    number = group.rsplit("/", 1)[1]
    assert person.post(f"/kiosks/{here}/groups", {"group": number}).status_code == 303
    assert person.post(f"/kiosks/{there}/groups", {"group": number}).status_code == 409
    assert [row["kiosk_id"] for row in site.sql("SELECT * FROM kiosk_group_member")] == [here]
    assert person.post("/groups", {"name": "先行组", "org_id": str(registry.org("gz"))}).status_code == 409


def test_models_and_contracts_are_kept_by_those_who_have_the_whole_network(site: Any, registry: Any) -> None:
    whole, part = site.sign_in(OPERATIONS), site.sign_in(OPERATIONS, org="gz")
    model = {"vendor": "恒达", "name": "K5", "system": "Windows 11", "units": ["idc", "pin"]}
    contract = {"code": "HT-1", "name": "维护", "starts_on": "2026-01-01", "ends_on": "2028-12-31"}
    assert part.post("/kiosk-models/new", model).status_code == 404
    assert part.post("/contracts/new", contract).status_code == 404
    assert whole.post("/kiosk-models/new", model).status_code == 303
    assert whole.post("/kiosk-models/new", model).status_code == 409
    assert whole.post("/kiosk-models/new", {**model, "name": "K6", "units": []}).status_code == 422
    assert whole.post("/contracts/new", contract).status_code == 303
    assert whole.post("/contracts/new", {**contract, "code": "HT-2", "ends_on": "2020-01-01"}).status_code == 422
    (made,) = site.sql("SELECT id FROM contract")
    edited = {**contract, "name": "维护二期", "version": "1"}
    assert whole.post(f"/contracts/{made['id']}", edited).status_code == 303
    assert whole.post(f"/contracts/{made['id']}", edited).status_code == 409, "somebody was faster"
    assert "维护二期" in part.get("/contracts").text and "K5" in part.get("/kiosk-models").text
    for path in ("/kiosk-models/new", f"/kiosk-models/{registry.model}", "/contracts/new", f"/contracts/{made['id']}"):
        assert whole.get(path).status_code == 200


def test_who_may_only_look_sees_no_buttons_and_may_do_nothing(site: Any, registry: Any) -> None:
    kiosk = registry.kiosk()
    person = site.sign_in(SECURITY)
    page = person.get(f"/kiosks/{kiosk}").text
    assert "修改档案" not in page and "状态变更" not in page and "签发入网码" not in page
    for path in (f"/kiosks/{kiosk}/edit", f"/kiosks/{kiosk}/state", "/kiosks/new", "/kiosks/import", "/orgs/new"):
        assert person.post(path, {"to": "retired"}).status_code == 403
