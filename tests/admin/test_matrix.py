"""The permission matrix, generated: every route, for every role, in scope and out of it, does what its option says.

``admin/PERMISSIONS.md`` is the same table for people, written from the same source; a test keeps the two equal. A new
route with a new kind of object needs a line in ``SAMPLES``: how to make one at an organisation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import admin
from admin.app import make_app, make_parts
from admin.auth.guard import HALF, PUBLIC, SIGNED_IN
from admin.auth.permissions import PERMISSION_NAMES, ROLE_NAMES, ROLES, Permission, Role
from admin.config import Config, DatabaseConfig, SecretsConfig

DOCUMENT = Path(admin.__file__).parent / "PERMISSIONS.md"
WORDS = {"public", "half", "signed_in"}

_SOMEONE = """
    INSERT INTO operator (login, name, employer, org_id, password_hash)
    SELECT 's' || substr(md5(random()::text), 1, 12), '某人', 'grid', id, '!' FROM org WHERE code = $1
"""
_KIOSK = """
    INSERT INTO kiosk (code, serial_number, model_id, org_id)
    SELECT 'K-' || upper(substr(md5(random()::text), 1, 12)), substr(md5(random()::text), 1, 12), model.id, org.id
      FROM org, new_model AS model WHERE org.code = $1
"""
_MODEL = """
    INSERT INTO kiosk_model (vendor, name, units) VALUES ('厂商', substr(md5(random()::text), 1, 12), '{idc}')
"""
# A new object at the organisation with code $1, by the name of the route's parameter; returns what stands in the path.
SAMPLES: dict[str, str] = {
    "operator_id": f"{_SOMEONE} RETURNING id::text AS id",
    "session_id": f"""
        WITH someone AS ({_SOMEONE} RETURNING id)
        INSERT INTO operator_session (token_sha256, operator_id, stage, csrf, expires_at, address)
        SELECT sha256(random()::text::bytea), id, 'full', 'x', now() + interval '1 h', '' FROM someone
        RETURNING id::text AS id
    """,
    "grant_id": f"""
        WITH someone AS ({_SOMEONE} RETURNING id, org_id)
        INSERT INTO role_grant (operator_id, role, org_id) SELECT id, 'marketing', org_id FROM someone
        RETURNING id::text AS id
    """,
    "org_id": "SELECT id::text FROM org WHERE code = $1",
    "model_id": f"{_MODEL} RETURNING id::text AS id, $1::text",
    "contract_id": """
        INSERT INTO contract (code, name, starts_on, ends_on)
        VALUES (substr(md5(random()::text), 1, 12), '合同', '2026-01-01', '2027-01-01')
        RETURNING id::text AS id, $1::text
    """,
    "group_id": """
        INSERT INTO kiosk_group (name, org_id) SELECT substr(md5(random()::text), 1, 12), id FROM org WHERE code = $1
        RETURNING id::text AS id
    """,
    "kiosk_id": f"WITH new_model AS ({_MODEL} RETURNING id) {_KIOSK} RETURNING id::text AS id",
    "code": f"WITH new_model AS ({_MODEL} RETURNING id) {_KIOSK} RETURNING code AS id",
    "request_id": f"""
        WITH new_model AS ({_MODEL} RETURNING id), someone AS ({_SOMEONE} RETURNING id),
             new_kiosk AS ({_KIOSK} RETURNING id),
             new_code AS (
                 INSERT INTO enrolment_code (kiosk_id, code_sha256, issued_by, expires_at)
                 SELECT new_kiosk.id, sha256(random()::text::bytea), someone.id, now() + interval '1 h'
                   FROM new_kiosk, someone
                 RETURNING id, kiosk_id, issued_by)
        INSERT INTO kiosk_certificate (kiosk_id, state, origin, spki_sha256, request, code_id, issued_by)
        SELECT kiosk_id, 'pending', 'enrolment', sha256(random()::text::bytea), '', id, issued_by FROM new_code
        RETURNING id::text AS id
    """,
    "command_id": f"""
        WITH someone AS ({_SOMEONE} RETURNING id, org_id), model AS (
            INSERT INTO kiosk_model (vendor, name, units) VALUES ('s', substr(md5(random()::text), 1, 12), '{{}}')
            RETURNING id
        ), machine AS (
            INSERT INTO kiosk (code, serial_number, model_id, org_id, state)
            SELECT upper(substr(md5(random()::text), 1, 12)), md5(random()::text), model.id, org_id, 'in_service'
              FROM someone, model RETURNING id
        ), sent AS (
            INSERT INTO kiosk_command (kiosk_id, type, risk, created_by, expires_at, signature)
            SELECT machine.id, 'log.pull', 'low', someone.id, now() + interval '1 hour', decode(repeat('00', 64), 'hex')
              FROM machine, someone RETURNING id, kiosk_id
        )
        INSERT INTO kiosk_upload (id, kiosk_id, command_id, kind, size, sha256, received, state)
        SELECT md5(random()::text), kiosk_id, id, 'log', 1, sha256(''), 1, 'complete' FROM sent
        RETURNING command_id::text AS id
    """,
    "seq": """
        INSERT INTO audit_log (seq, at, actor, action, org_path, result, record, chain)
        SELECT (SELECT coalesce(max(seq), 0) + 1 FROM audit_log), now(), 'u:x', 'sample', path, 'ok', '{}',
               sha256(random()::text::bytea) FROM org WHERE code = $1
        RETURNING seq::text AS id
    """,
}
SAMPLES["payment_id"] = """
    INSERT INTO payment_fact (payment_id, opened_on, ver, state, final, opened_at, changed_at, settled_on, local_on,
                              amount, kind, bills, terminal_id, org_id, org_path, account_hash, account_masked, batch,
                              stan, kiosk_serial, card_first6, card_last4, class, card_from_ms, charged, reversed)
    SELECT (random() * 1e15)::bigint, 20261124, 3, 'COMPLETED', true, now(), now(), '2026-11-24', '2026-11-24',
           100, 'payment', 1, 'GS000001', id, path, '0123456789abcdef', '****0001', '000001',
           '000001', '000001', '622202', '0128', 'ok', 1, true, false
      FROM org WHERE code = $1
    RETURNING payment_id::text AS id
"""
# Whose objects are found by something else than their organisation; each has tests of its own.
BY_OTHER_MEANS = {"approval_id"}
# What belongs to no organisation is changed by those alone who have the permission over the whole network.
WHOLE_NETWORK = {
    *("/kiosk-models/new", "/kiosk-models/{model_id:int}", "/contracts/new", "/contracts/{contract_id:int}"),
}


@dataclass(frozen=True)
class Entry:
    method: str
    path: str
    access: Any
    step_up: bool
    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def url(self, values: dict[str, str]) -> str:
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: values.get(found[1], "0"), self.path)


def entries(app: Any) -> Iterator[Entry]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in sorted(handler.http_methods - {"OPTIONS"}):
                path = route.path_format if "{" not in route.path else route.path
                if path.startswith(("/static", "/schema")):
                    continue
                parameters = tuple(re.findall(r"\{(\w+)(?::\w+)?\}", path))
                yield Entry(method, path, handler.opt.get("access"), bool(handler.opt.get("step_up")), parameters)


@pytest.fixture
def app(tmp_path: Path) -> Any:
    """Not started: its routes are what counts."""
    return make_app(
        make_parts(Config(database=DatabaseConfig(dsn="x"), secrets=SecretsConfig(key_file=str(tmp_path / "k"))))
    )


def test_every_route_says_for_whom_it_is(app: Any) -> None:
    closed = [each.name for each in entries(app) if not (isinstance(each.access, Permission) or each.access in WORDS)]
    assert not closed, f"these open for nobody: {closed}"
    public = {each.path for each in entries(app) if each.access == PUBLIC["access"]}
    assert public == {"/sign-in", "/health"}
    assert {each.path for each in entries(app) if each.access == HALF["access"]} == {
        *("/sign-in/password", "/sign-in/change", "/sign-in/enrol", "/sign-out")
    }


def test_what_changes_something_needs_more_than_to_read(app: Any) -> None:
    reads = {
        Permission.AUDIT_READ: {"/audit/chain"},  # verifying changes nothing but the log of it
        Permission.TRANSACTION_READ: {"/transactions/find"},  # so that no account stands in an address
    }
    for each in entries(app):
        if each.method != "GET" and isinstance(each.access, Permission) and each.access.value.endswith(".read"):
            assert each.path in reads.get(each.access, set()), f"{each.name} changes something with {each.access}"


def _expected(each: Entry, role: Role | None) -> str:
    if each.access == PUBLIC["access"]:
        return "open"
    if role is None:
        return "sign in"
    if each.access in (HALF["access"], SIGNED_IN["access"]):
        return "open"
    return "open" if each.access in ROLES[role] else "no"


def _seen(answer: Any) -> str:
    if answer.status_code in (302, 303) and answer.headers["location"].startswith("/sign-in"):
        return "sign in"
    if answer.status_code == 401 and "<code>signed_out</code>" in answer.text:
        return "sign in"
    if answer.status_code == 403:
        return "no"
    assert answer.status_code < 500, (
        f"{answer.request.method} {answer.request.url}: {answer.status_code}\n{answer.text[:800]}"
    )
    return "absent" if answer.status_code == 404 else "open"


def _send(each: Entry, who: Any, url: str) -> Any:
    if each.path.endswith("/live"):  # it goes on for minutes: how it begins is enough
        with who.http.stream("GET", url) as answer:
            if answer.status_code != 200:
                answer.read()
            return answer
    return who.get(url) if each.method == "GET" else who.post(url)


@pytest.mark.parametrize("role", [*Role, None], ids=lambda role: role.value if role else "stranger")
def test_every_route_does_what_its_option_says(site: Any, role: Role | None) -> None:
    """In scope: open or not, as the table says. Out of scope: what has an organisation is not there at all."""
    deviations, tried = [], 0
    people = {scope: site.sign_in(role, org=scope) for scope in ("gz", "sz")} if role else {}
    for each in entries(site.app):
        if each.path in ("/sign-out", "/sign-in"):
            continue
        unknown = set(each.parameters) - set(SAMPLES) - BY_OTHER_MEANS
        assert not unknown, f"{each.name}: say in SAMPLES how to make {unknown}"
        samples = {name: site.sql(SAMPLES[name], "gz")[0]["id"] for name in each.parameters if name in SAMPLES}
        for scope in ("gz", "sz"):
            if role is None:
                answer = site.stranger().request(each.method, each.url(samples))
            else:
                answer = _send(each, people[scope], each.url(samples))
            tried += 1
            expected = _expected(each, role)
            objects = samples and isinstance(each.access, Permission)
            if expected == "open" and ((scope == "sz" and objects) or each.path in WHOLE_NETWORK):
                expected = "absent"
            seen = _seen(answer)
            missing = not samples and each.parameters and seen == "absent"  # nobody has number 0
            if seen != expected and not missing:
                deviations.append(
                    f"{each.name} as {role} at {scope}: expected {expected}, was {seen} ({answer.status_code})"
                )
    assert not deviations, "\n".join(deviations)
    assert tried > 50


def document(app: Any) -> str:
    """The table for people."""
    roles = " | ".join(ROLE_NAMES[role] for role in Role)
    lines = [
        "# Who may do what",
        "",
        "Generated from the routes and `auth/permissions.py` by `tests/admin/test_matrix.py`, which tries every line.",
        "A role works in its organisations only: elsewhere its objects are not there (404).",
        "",
        f"| route | permission | {roles} |",
        "|---|---|" + "---|" * len(Role),
    ]
    for each in sorted(entries(app), key=lambda each: (each.path, each.method)):
        if isinstance(each.access, Permission):
            word = f"{PERMISSION_NAMES[each.access]} `{each.access.value}`" + (" + 动态码" if each.step_up else "")
            marks = " | ".join("✓" if each.access in ROLES[role] else "" for role in Role)
        else:
            word = {"public": "任何人", "half": "登录途中", "signed_in": "已登录"}[str(each.access)]
            marks = " | ".join("✓" for _ in Role)
        lines.append(f"| `{each.name}` | {word} | {marks} |")
    return "\n".join(lines) + "\n"


def test_the_document_is_the_table(app: Any, request: pytest.FixtureRequest) -> None:
    """After a change: python -m pytest tests/admin/test_matrix.py -k document --write-documents."""
    if request.config.getoption("--write-documents"):
        DOCUMENT.write_text(document(app), encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == document(app), test_the_document_is_the_table.__doc__
