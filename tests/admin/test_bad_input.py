"""Bad input of every kind: to the operations of the OpenAPI document, to every form of every page, to every list.
Nothing ends in a fault of ours."""

from __future__ import annotations

import warnings
from html.parser import HTMLParser
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from admin.auth.permissions import Role

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, about itself
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.core.result import Ok

pytestmark = pytest.mark.timeout(300)
EXAMPLES = 8  # of each operation, form and list: together some thousand requests
ROLES = [Role.SYSTEM_ADMINISTRATOR, Role.SECURITY_ADMINISTRATOR, Role.OPERATIONS, Role.FINANCE, Role.AUDITOR]
ENDING = ("/sign-out", "/sign-in/change", "/end", "/language")  # they end the session that asks, or change its words
PAGING = ("sort", "size", "after", "before", "format", "nonsense")  # what a list takes beside its filters
SETTINGS = hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
STRANGE = (
    *("", "0", "-1", "9" * 40, "\0", "' OR 1=1 --", "<script>alert(1)</script>", "%", "_", "\\", "a" * 5000),
    *("2026-13-01", "2026-02-29", "0001-01-01", "9999-12-31", "1e9", "¥1,234.56", "１２３", "\u202e", "NaN", "null"),
    *("[]", "{}", "../../etc/passwd"),
)
WEIRD = st.one_of(st.text(max_size=40), st.sampled_from(STRANGE))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)
def test_what_the_document_allows_never_ends_in_a_fault(site: Any, role: Role) -> None:
    visitor = site.sign_in(role)
    document = visitor.get("/schema/openapi.json", headers={"Accept": "application/json"}).json()
    tried = set()
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.path.endswith(ENDING):
            continue
        tried.add(operation.label)

        @SETTINGS
        @hypothesis.given(case=operation.as_strategy())
        def attempt(case: Any) -> None:
            headers = {"X-CSRF-Token": visitor.csrf, "Accept": "text/html", "Cookie": visitor.http.headers["Cookie"]}
            case.call_and_validate(base_url=site.url, headers=headers, checks=[not_a_server_error])

        attempt()
    assert len(tried) > 15, tried


class Forms(HTMLParser):
    """Forms that change something, forms that ask (action "-"), with the names of their fields; and links."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, list[str]]] = []
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            self.forms.append((values.get("action") or "", []) if values.get("method") == "post" else ("-", []))
        elif tag in ("input", "select", "textarea", "button") and self.forms and values.get("name"):
            self.forms[-1][1].append(values["name"] or "")
        elif tag == "a" and (values.get("href") or "").startswith("/"):
            self.links.add(values["href"] or "")


def _crawl(visitor: Any) -> dict[str, Forms]:
    """Every page that can be reached by links, up to a bound for each kind of page."""
    seen: dict[str, Forms] = {}
    kinds: dict[str, int] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        kind = "/".join("N" if part.isdigit() else part for part in path.partition("?")[0].split("/"))
        if path in seen or kinds.get(kind, 0) >= 2 or path.startswith(("/static", "/schema")) or "format=" in path:
            continue
        answer = visitor.get(path)
        waiting += [answer.headers["location"]] if answer.is_redirect else []
        assert answer.status_code < 500, f"{path}: {answer.status_code}\n{answer.text[:1500]}"
        kinds[kind] = kinds.get(kind, 0) + 1
        seen[path] = Forms()
        if "text/html" in answer.headers.get("content-type", ""):
            seen[path].feed(answer.text)
            waiting += sorted(seen[path].links)
    return seen


def _type_into(visitor: Any, target: str, names: list[str]) -> None:
    @SETTINGS
    @hypothesis.given(st.fixed_dictionaries({}, optional=dict.fromkeys(names, WEIRD)))
    def attempt(data: dict[str, str]) -> None:
        answer = visitor.post(target, data)
        assert answer.status_code < 500, f"POST {target} {data}: {answer.status_code}\n{answer.text[:1500]}"

    attempt()


def _ask_of(visitor: Any, path: str, names: list[str]) -> None:
    @SETTINGS
    @hypothesis.given(st.fixed_dictionaries({}, optional=dict.fromkeys(names, WEIRD)))
    def attempt(query: dict[str, str]) -> None:
        answer = visitor.get(path, params=query)
        assert answer.status_code < 500, f"GET {path} {query}: {answer.status_code}\n{answer.text[:1500]}"

    attempt()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)
def test_whatever_is_typed_into_a_form_or_asked_of_a_list_is_answered(site: Any, role: Role) -> None:
    site.sign_in(Role.OPERATIONS, org="gz")
    visitor = site.sign_in(role)
    tried = 0
    for path, found in _crawl(visitor).items():
        for action, names in found.forms:
            target = action or path
            if action == "-" and names:
                _ask_of(visitor, path.partition("?")[0], [*names, *PAGING])
                tried += 1
            if action == "-" or target.partition("?")[0].endswith(ENDING) or "csrf" not in names:
                continue
            _type_into(visitor, target, [name for name in names if name != "csrf"])
            tried += 1
    assert tried
