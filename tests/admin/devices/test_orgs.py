"""Organisations: a tree whose paths say who may see what; moving a part of it takes two people."""

from __future__ import annotations

from typing import Any

from tests.admin.devices.conftest import OPERATIONS, SECURITY, SYSTEM

HALL = {"kind": "site", "code": "gz-bj", "name": "北京路营业厅", "opens_at": "08:30", "closes_at": "17:30"}


def test_a_hall_is_made_changed_and_closed(site: Any, registry: Any) -> None:
    person = site.sign_in(SYSTEM, org="gd")
    made = person.post("/orgs/new", {**HALL, "parent_id": str(registry.org("gz"))})
    assert made.status_code == 303
    where = made.headers["location"]
    (row,) = site.sql("SELECT path, closes_at::text AS closes_at FROM org WHERE code = 'gz-bj'")
    assert (row["path"], row["closes_at"]) == ("/gd/gz/gz-bj/", "17:30:00")
    edit = {"name": "北京路中心营业厅", "address": "1 号", "opens_at": "00:00", "closes_at": "24:00", "version": "1"}
    assert person.post(f"{where}/edit", edit).status_code == 303
    assert person.post(f"{where}/edit", edit).status_code == 409, "an older version"
    page = person.get(where).text
    assert "北京路中心营业厅" in page and "00:00–24:00" in page
    assert person.post(f"{where}/close", {"reason": ""}).status_code == 422
    assert person.post(f"{where}/close", {"reason": "搬迁", "closed": "yes"}).status_code == 303
    assert "已关闭" in person.get(where).text
    assert person.post(f"{where}/close", {"reason": "重开", "closed": "no"}).status_code == 303
    actions = [row["action"] for row in site.sql("SELECT action FROM audit_log WHERE object_kind = 'org' ORDER BY seq")]
    assert actions == ["org.create", "org.edit", "org.close", "org.open"]


def test_the_tree_counts_what_stands_below(site: Any, registry: Any) -> None:
    for code in ("gz-th", "gz-th", "sz-ns"):
        registry.kiosk(code)
    registry.kiosk("sz-ns", state="retired")
    page = site.sign_in(SYSTEM).get("/orgs").text
    for code, count in (("root", 3), ("gd", 3), ("gz", 2), ("gz-th", 2), ("sz", 1), ("sz-ns", 1)):
        assert f'<a href="/kiosks?org={registry.org(code)}">{count}</a>' in page, code


def test_what_cannot_be_is_told(site: Any, registry: Any) -> None:
    person = site.sign_in(SYSTEM, org="gd")
    for changes, status in (
        ({"code": "gz-th"}, 409),
        ({"code": "Nord/Süd"}, 422),
        ({"opens_at": "18:00"}, 422),
        ({"closes_at": "25:00"}, 422),
        ({"kind": "province"}, 422),
        ({"kind": "network"}, 422),
        ({"parent_id": str(registry.org("gz-th"))}, 422),
        ({"parent_id": str(registry.org("root"))}, 404),
    ):
        form = {**HALL, "parent_id": str(registry.org("gz")), **changes}
        assert person.post("/orgs/new", form).status_code == status, changes
    registry.kiosk("gz-th")
    for code in ("gz-th", "gz"):
        answer = person.post(f"/orgs/{registry.org(code)}/close", {"reason": "不用了"})
        assert answer.status_code == 409 and "不能关闭" in answer.text
    assert site.sign_in(SYSTEM).post(f"/orgs/{registry.org('root')}/close", {"reason": "不用了"}).status_code == 409


def test_moving_a_subtree_takes_two_people_and_carries_all_paths_along(site: Any, registry: Any) -> None:
    kiosk = registry.kiosk("gz-th")
    maker, checker = site.sign_in(SYSTEM), site.sign_in(SECURITY)
    before = site.sign_in(OPERATIONS, org="sz")
    assert before.get(f"/kiosks/{kiosk}").status_code == 404

    asked = maker.post(
        f"/orgs/{registry.org('gz-th')}/move", {"parent_id": str(registry.org("sz")), "reason": "区划调整"}
    )
    assert asked.status_code == 303
    approval = asked.headers["location"]
    assert registry.site.sql("SELECT path FROM org WHERE code = 'gz-th'")[0]["path"] == "/gd/gz/gz-th/"
    assert maker.post(f"{approval}/decide", {"verdict": "approve"}).status_code in (403, 404)
    assert "等待复核" in maker.get(f"/orgs/{registry.org('gz-th')}").text
    assert checker.post(f"{approval}/decide", {"verdict": "approve"}).status_code == 303

    assert site.sql("SELECT path FROM org WHERE code = 'gz-th'")[0]["path"] == "/gd/sz/gz-th/"
    assert before.get(f"/kiosks/{kiosk}").status_code == 200
    assert site.sql("SELECT count(*) AS n FROM audit_log WHERE action = 'org.move'")[0]["n"] == 1


def test_a_whole_city_moves_with_its_halls_and_not_under_itself(site: Any, registry: Any) -> None:
    for parent, kind, code, path in (("root", "province", "gx", "/gx/"), ("gx", "site", "gz_x", "/gx/gz_x/")):
        site.sql(
            "INSERT INTO org (parent_id, kind, code, name, path) SELECT id, $2, $3, $3, $4 FROM org WHERE code = $1",
            *(parent, kind, code, path),
        )
    maker, checker = site.sign_in(SYSTEM), site.sign_in(SECURITY)
    city = registry.org("gz")
    for parent, told in (("gz-th", "自己的下级"), ("gd", "已经在这个上级"), ("sz", "不能设在")):
        answer = maker.post(f"/orgs/{city}/move", {"parent_id": str(registry.org(parent)), "reason": "试试"})
        assert answer.status_code == 409 and told in answer.text, answer.text
    asked = maker.post(f"/orgs/{city}/move", {"parent_id": str(registry.org("gx")), "reason": "区划调整"})
    assert checker.post(f"{asked.headers['location']}/decide", {"verdict": "approve"}).status_code == 303
    paths = {row["code"]: row["path"] for row in site.sql("SELECT code, path FROM org")}
    assert paths["gz"] == "/gx/gz/" and paths["gz-th"] == "/gx/gz/gz-th/"
    assert paths["gz_x"] == "/gx/gz_x/" and paths["sz-ns"] == "/gd/sz/sz-ns/"


def test_what_changed_after_it_was_asked_makes_the_move_void(site: Any, registry: Any) -> None:
    maker, checker = site.sign_in(SYSTEM), site.sign_in(SECURITY)
    hall = registry.org("gz-th")
    asked = maker.post(f"/orgs/{hall}/move", {"parent_id": str(registry.org("sz")), "reason": "区划调整"})
    site.sql("UPDATE org SET name = '新名', version = version + 1 WHERE id = $1", hall)
    checker.post(f"{asked.headers['location']}/decide", {"verdict": "approve"})
    assert site.sql("SELECT path FROM org WHERE id = $1", hall)[0]["path"] == "/gd/gz/gz-th/"
    assert site.sql("SELECT state FROM approval")[0]["state"] == "void"
