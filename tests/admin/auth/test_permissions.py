"""Roles, what excludes what, and what a grant reaches: the table itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.auth.permissions import ROLES, Access, Grant, Permission, Role, conflict

NOW = datetime(2026, 11, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def grant(role: Role, path: str = "/", starts: int = 0, ends: int | None = None) -> Grant:
    return Grant(role, path, NOW + starts * DAY, None if ends is None else NOW + ends * DAY)


def access(*grants: tuple[Role, str]) -> Access:
    return Access(1, "wang", "王", 1, "full", "x", "127.0.0.1", grants=grants)


@pytest.mark.parametrize("other", [role for role in Role if role is not Role.AUDITOR])
def test_who_audits_does_nothing_else(other: Role) -> None:
    assert conflict(grant(Role.AUDITOR), [grant(other, "/gd/sz/")]) is other
    assert conflict(grant(other), [grant(Role.AUDITOR, "/gd/sz/")]) is Role.AUDITOR


def test_who_runs_the_system_neither_grants_nor_sees_money() -> None:
    for other in (Role.SECURITY_ADMINISTRATOR, Role.FINANCE):
        assert conflict(grant(Role.SYSTEM_ADMINISTRATOR, "/gd/gz/"), [grant(other, "/gd/sz/")]) is other


def test_operations_and_finance_are_two_people_at_one_site_but_may_be_one_at_two() -> None:
    finance = grant(Role.FINANCE, "/gd/gz/")
    assert conflict(grant(Role.OPERATIONS, "/gd/gz/th/"), [finance]) is Role.FINANCE
    assert conflict(grant(Role.OPERATIONS, "/gd/"), [finance]) is Role.FINANCE
    assert conflict(grant(Role.OPERATIONS, "/gd/sz/"), [finance]) is None


def test_roles_that_follow_each_other_do_not_exclude_each_other() -> None:
    before = grant(Role.AUDITOR, ends=10)
    assert conflict(grant(Role.FINANCE, starts=10), [before]) is None
    assert conflict(grant(Role.FINANCE, starts=9), [before]) is Role.AUDITOR


@given(st.sampled_from(Role), st.sampled_from(Role), st.sampled_from(["/", "/gd/", "/gd/gz/"]), st.integers(0, 5))
def test_exclusion_knows_no_order(one: Role, other: Role, path: str, starts: int) -> None:
    first, second = grant(one, path), grant(other, "/gd/gz/", starts)
    assert (conflict(first, [second]) is None) == (conflict(second, [first]) is None)


def test_nobody_can_ask_and_confirm_alone_what_the_other_role_must_confirm() -> None:
    """Making operators is one role's, granting another's: no role has both."""
    for role, permissions in ROLES.items():
        assert not {Permission.OPERATOR_WRITE, Permission.OPERATOR_APPROVE} <= permissions, role
        assert not {Permission.OPERATOR_WRITE, Permission.GRANT_MAKE} <= permissions, role
    auditor = ROLES[Role.AUDITOR]
    acts = {
        p
        for p in Permission
        if p.value.rpartition(".")[2] not in ("read", "finance", "operations", "behaviour", "export")
    }
    assert not auditor & acts
    for one, other in combinations(Role, 2):
        assert ROLES[one] != ROLES[other]


def test_a_grant_reaches_its_subtree_and_nothing_beside_it() -> None:
    who = access((Role.OPERATIONS, "/gd/gz/"))
    assert who.reaches(Permission.DEVICE_READ, "/gd/gz/th/") and who.reaches(Permission.DEVICE_READ, "/gd/gz/")
    assert not who.reaches(Permission.DEVICE_READ, "/gd/") and not who.reaches(Permission.DEVICE_READ, "/gd/gz2/")
    assert not who.reaches(Permission.PII_REVEAL, "/gd/gz/")
    assert who.paths(Permission.DEVICE_READ) == ["/gd/gz/%"] and who.paths(Permission.PII_REVEAL) == []
    assert access((Role.OPERATIONS, "/gd/g_z/")).paths(Permission.DEVICE_READ) == ["/gd/g\\_z/%"]
