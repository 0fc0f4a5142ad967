"""Signing in, as a browser does it: every step, every way to be refused."""

from __future__ import annotations

import base64
import re
import time
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from admin.auth.permissions import Role
from admin.auth.secrets import totp_code
from admin.limits import (
    ADDRESS_FAILURES_MAX,
    LOCKED_S,
    PASSWORD_FAILURES_MAX,
    PASSWORD_WINDOW_S,
    TOTP_FAILURES_MAX,
)

ONE_TIME, OWN = "abcde-fghjk-mnpqr", "correct horse battery staple"
CHEAP = PasswordHasher(
    time_cost=1, memory_cost=8, parallelism=1
)  # of the tests' own passwords: the service verifies any strength


class Browser:
    """Keeps cookies; the service marks them Secure, which a browser allows on this machine."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.cookies: dict[str, str] = {}

    def _sent(self, answer: httpx.Response) -> httpx.Response:
        for header in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                assert (
                    "Secure" in header and "HttpOnly" in header and "SameSite=strict" in header and "Path=/" in header
                )
                self.cookies[name] = morsel.value
        self.client.headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return answer

    def get(self, path: str) -> httpx.Response:
        return self._sent(self.client.get(path))

    def post(self, path: str, **data: str) -> httpx.Response:
        seen = self.client.get(path if path != "/sign-out" else "/sign-in/password").text
        found = re.search(r'name="csrf" value="([^"]+)"', seen)
        offer = re.search(r'name="offer" value="([^"]+)"', seen)
        data = {**({"offer": offer[1]} if offer else {}), **data}
        return self._sent(self.client.post(path, data={"csrf": found[1] if found else "", **data}))

    def secret(self) -> bytes:
        found = re.search(r'id="totp-secret">(\w+)<', self.get("/sign-in/enrol").text)
        assert found
        return base64.b32decode(found[1])


def _operator(site: Any, login: str = "wang", *, password: str = ONE_TIME, one_time: bool = True) -> int:
    until = "now() + interval '1 hour'" if one_time else "NULL"
    (row,) = site.sql(
        "INSERT INTO operator (login, name, employer, org_id, password_hash, one_time_until)"
        f" SELECT $1, '王建国', 'grid', id, $2, {until} FROM org WHERE code = 'root' RETURNING id",
        *(login, CHEAP.hash(password)),
    )
    site.sql(
        "INSERT INTO role_grant (operator_id, role, org_id) SELECT $1, $2, id FROM org WHERE code = 'root'",
        *(row["id"], Role.SYSTEM_ADMINISTRATOR.value),
    )
    number: int = row["id"]
    return number


def _enrolled(site: Any, browser: Browser) -> tuple[bytes, list[str]]:
    """Through all steps of a first time. The step of the code is behind us, so that the next one is another."""
    answer = browser.post("/sign-in", login="wang", password=ONE_TIME)
    assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in/change")
    answer = browser.post("/sign-in/change", password=OWN, again=OWN)
    assert answer.headers["location"].startswith("/sign-in/enrol")
    page = browser.get("/sign-in/enrol").text
    found = re.search(r'id="totp-secret">(\w+)<', page)
    offer = re.search(r'name="offer" value="([^"]+)"', page)
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found and offer and csrf
    secret = base64.b32decode(found[1])
    code = totp_code(secret, time.time() - 30)
    answer = browser._sent(
        browser.client.post("/sign-in/enrol", data={"csrf": csrf[1], "offer": offer[1], "code": code})
    )
    codes = re.findall(r"<li><code>([0-9a-f-]+)</code>", answer.text)
    assert answer.status_code in (200, 201) and len(codes) == 10
    return secret, codes


def test_a_first_sign_in_goes_through_every_step_and_shows_recovery_codes_once(site: Any) -> None:
    _operator(site)
    browser = Browser(site.stranger())
    assert browser.get("/operators").headers["location"] == "/sign-in?next=%2Foperators"

    secret, codes = _enrolled(site, browser)

    assert browser.get("/operators").status_code == 200
    stored = site.sql("SELECT totp_secret, password_hash FROM operator WHERE login = 'wang'")[0]
    assert secret not in stored["totp_secret"] and "m=65536" in stored["password_hash"]
    assert not set(codes) & {row["code_sha256"].hex() for row in site.sql("SELECT code_sha256 FROM recovery_code")}


def test_a_later_sign_in_takes_each_code_once_and_each_recovery_code_once(site: Any) -> None:
    _operator(site)
    secret, codes = _enrolled(site, Browser(site.stranger()))

    again = Browser(site.stranger())
    assert again.post("/sign-in", login="wang", password=OWN).headers["location"].startswith("/sign-in/password")
    assert again.get("/operators").headers["location"] == "/sign-in/password"
    code = totp_code(secret, time.time())
    assert again.post("/sign-in/password", code=code).headers["location"] == "/"

    other = Browser(site.stranger())
    other.post("/sign-in", login="wang", password=OWN)
    assert "动态码不正确或已使用过" in other.post("/sign-in/password", code=code).text
    assert other.post("/sign-in/password", code=codes[0]).headers["location"] == "/"

    third = Browser(site.stranger())
    third.post("/sign-in", login="wang", password=OWN)
    assert third.post("/sign-in/password", code=codes[0]).status_code == 401
    # Two sessions are the most: the first browser's is over.
    site.sql("UPDATE operator SET totp_last_step = 0")
    assert third.post("/sign-in/password", code=totp_code(secret, time.time())).status_code == 303
    open_sessions = site.sql("SELECT count(*) FROM operator_session WHERE ended_at IS NULL AND stage = 'full'")
    assert open_sessions[0]["count"] == 2


def test_a_token_from_before_a_step_is_worth_nothing_after_it(site: Any) -> None:
    _operator(site)
    browser = Browser(site.stranger())
    browser.post("/sign-in", login="wang", password=ONE_TIME)
    before = browser.cookies["__Host-session"]
    browser.post("/sign-in/change", password=OWN, again=OWN)

    thief = site.stranger()
    thief.headers["Cookie"] = f"__Host-session={before}"

    assert before != browser.cookies["__Host-session"]
    assert thief.get("/sign-in/enrol").headers["location"].startswith("/sign-in?")


@pytest.mark.parametrize("login", ["wang", "nobody-here"])
def test_wrong_passwords_get_one_text_and_then_a_pause_whether_the_login_exists_or_not(site: Any, login: str) -> None:
    _operator(site, password=OWN, one_time=False)
    browser = Browser(site.stranger())

    for _ in range(PASSWORD_FAILURES_MAX):
        answer = browser.post("/sign-in", login=login, password="not the password")
        assert answer.status_code == 401 and "账号或密码不正确" in answer.text
    answer = browser.post("/sign-in", login=login, password=OWN)

    assert answer.status_code == 429 and "失败次数过多" in answer.text


def test_the_pause_is_as_long_as_it_says_and_failures_far_apart_make_none(site: Any) -> None:
    _operator(site, password=OWN, one_time=False)
    browser = Browser(site.stranger())
    for _ in range(PASSWORD_FAILURES_MAX):
        browser.post("/sign-in", login="wang", password="guess")

    site.sql("UPDATE login_attempt SET at = at - make_interval(secs => $1)", float(LOCKED_S - 60))
    assert browser.post("/sign-in", login="wang", password=OWN).status_code == 429
    site.sql("UPDATE login_attempt SET at = at - interval '90 seconds'")
    assert browser.post("/sign-in", login="wang", password=OWN).status_code == 303

    site.sql("DELETE FROM login_attempt")
    site.sql(
        "INSERT INTO login_attempt (at, login, factor, ok, address)"
        " SELECT now() - n * make_interval(secs => $1), 'wang', 'password', false, '10.0.0.1'"
        " FROM generate_series(1, $2) AS n",
        *(PASSWORD_WINDOW_S / 3, PASSWORD_FAILURES_MAX),
    )
    assert browser.post("/sign-in", login="wang", password=OWN).status_code == 303


def test_strangers_cannot_lock_an_operator_out_of_a_browser_that_is_known(site: Any) -> None:
    _operator(site)
    browser = Browser(site.stranger())
    secret, _ = _enrolled(site, browser)
    browser.post("/sign-out")

    stranger = Browser(site.stranger())
    for _ in range(PASSWORD_FAILURES_MAX + 1):
        stranger.post("/sign-in", login="wang", password="guess")
    assert stranger.post("/sign-in", login="wang", password=OWN).status_code == 429

    assert browser.post("/sign-in", login="wang", password=OWN).headers["location"].startswith("/sign-in/password")
    assert browser.post("/sign-in/password", code=totp_code(secret, time.time())).status_code == 303


def test_the_second_factor_cannot_be_guessed(site: Any) -> None:
    _operator(site)
    secret, _ = _enrolled(site, Browser(site.stranger()))
    thief = Browser(site.stranger())
    thief.post("/sign-in", login="wang", password=OWN)
    right = totp_code(secret, time.time())
    wrong = f"{(int(right) + 1) % 1_000_000:06d}"

    for _ in range(TOTP_FAILURES_MAX):
        assert thief.post("/sign-in/password", code=wrong).status_code == 401

    assert thief.post("/sign-in/password", code=right).status_code == 429


def test_one_address_that_fails_with_many_logins_is_slowed(site: Any) -> None:
    site.sql(
        "INSERT INTO login_attempt (login, factor, ok, address)"
        " SELECT 'l' || n, 'password', false, '127.0.0.1' FROM generate_series(1, $1) AS n",
        ADDRESS_FAILURES_MAX,
    )
    answer = Browser(site.stranger()).post("/sign-in", login="wang", password=OWN)
    assert answer.status_code == 429 and "网络地址" in answer.text


def test_a_one_time_password_ends_and_a_disabled_operator_is_nobody(site: Any) -> None:
    _operator(site)
    site.sql("UPDATE operator SET one_time_until = now() - interval '1 second'")
    browser = Browser(site.stranger())
    assert "一次性密码已过期" in browser.post("/sign-in", login="wang", password=ONE_TIME).text

    site.sql("UPDATE operator SET one_time_until = NULL, state = 'disabled'")
    assert "账号或密码不正确" in browser.post("/sign-in", login="wang", password=ONE_TIME).text


@pytest.mark.parametrize("weak", ["short", "a" * 20, "password123456", "wangwangwang", "dianfeidianfei12"])
def test_a_weak_password_is_refused_with_what_to_do(site: Any, weak: str) -> None:
    _operator(site)
    browser = Browser(site.stranger())
    browser.post("/sign-in", login="wang", password=ONE_TIME)

    answer = browser.post("/sign-in/change", password=weak, again=weak)

    assert answer.status_code == 422 and "不相关的词" in answer.text


def test_nothing_of_ours_sends_people_elsewhere(site: Any) -> None:
    _operator(site, password=OWN, one_time=False)
    for target in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        answer = Browser(site.stranger()).post("/sign-in", login="wang", password=OWN, next=target)
        assert answer.headers["location"] == "/sign-in/enrol?next=/"


def test_another_site_cannot_act_with_somebodys_cookie(site: Any) -> None:
    visitor = site.sign_in(Role.SYSTEM_ADMINISTRATOR)
    data = {"csrf": visitor.csrf, "language": "en", "next": "/"}

    assert visitor.http.post("/me/language", data=data, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert visitor.http.post("/me/language", data=data, headers={"Origin": "http://evil.example"}).status_code == 403
    assert visitor.http.post("/me/language", data={**data, "csrf": "x"}).status_code == 403
    assert visitor.http.post("/me/language", data={"language": "en"}).status_code == 403
    assert site.sql("SELECT language FROM operator WHERE id = $1", visitor.operator_id)[0]["language"] == "zh"
    assert visitor.http.post("/me/language", data=data, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_an_idle_session_ends_and_a_live_page_does_not_keep_it(site: Any) -> None:
    visitor = site.sign_in(Role.SYSTEM_ADMINISTRATOR)
    assert visitor.get("/operators").status_code == 200
    site.sql("UPDATE operator_session SET seen_at = now() - interval '16 minutes'")
    assert visitor.get("/operators").status_code == 303


def test_every_page_forbids_what_is_not_ours(site: Any) -> None:
    for answer in (site.stranger().get("/sign-in"), site.sign_in(Role.AUDITOR).get("/audit")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<style|style=|<script(?![^>]*src=)|onclick=", answer.text)
