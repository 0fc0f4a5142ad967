"""The admin service in Chromium over a whole system of real processes: every page looked at, the commonest tasks done
by keyboard alone. Pictures of every page are left in ``.gridswitch/screenshots`` for people to look at."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import uvloop
from playwright.sync_api import Browser, Page, sync_playwright

from admin import demo
from admin.auth.secrets import Secrets, totp_code
from admin.db.pool import connect
from admin.web.show import money
from switch.ops.rig import LOCALHOST, Rig
from switch.sim.fleet import run_fleet
from switch.sim.scenario import load_scenario

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
FAULTS: Final = (Path(__file__).parents[1] / "looks.js").read_text(encoding="utf-8")
PICTURES: Final = Path(".gridswitch/screenshots")
DESK, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
KIOSKS: Final = 12
TABS_MAX: Final = 150  # of one page


def _apart(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """In a thread: the browser's library has a loop of its own in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


class Office:
    """The running system and the people who use it."""

    def __init__(self, rig: Rig, url: str, password: str, browser: Browser) -> None:
        self.rig = rig
        self.url = url
        self.password = password
        self.browser = browser
        self._steps: dict[str, int] = {}
        self.seen: set[tuple[str, str]] = set()

    def sql(self, statement: str, *values: Any) -> list[Any]:
        async def go() -> list[Any]:
            connection = await asyncpg.connect(self.rig.dsn, server_settings={"search_path": "admin"})
            try:
                rows: list[Any] = await connection.fetch(statement, *values)
                return rows
            finally:
                await connection.close()

        rows: list[Any] = _apart(go())
        return rows

    def code(self, login: str) -> str:
        """A second factor that has not been used: each works once, one step ahead is taken too."""

        async def secret() -> bytes | None:
            connection = await connect(self.rig.dsn, "test")
            try:
                return await demo.totp_secret(connection, Secrets.from_file(self.rig.folder / "admin.key"), login)
            finally:
                await connection.close()

        found = _apart(secret())
        assert found is not None
        step = max(int(time.time()) // 30 - 1, self._steps.get(login, 0) + 1)
        wait_s = 30 * (step - 1) - time.time()
        if wait_s > 0:  # only who signs in a third time within a minute waits
            time.sleep(wait_s)
        self._steps[login] = step
        return totp_code(found, 30 * step)

    @contextmanager
    def desk(self, login: str, size: dict[str, int] = DESK) -> Iterator[Page]:
        """Signed in by keyboard alone. What the browser complains of fails the test."""
        context = self.browser.new_context(viewport=size, locale="zh-CN", timezone_id="Asia/Shanghai")  # type: ignore[arg-type]
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            page.goto(self.url)
            # No function to wait for: tried a second time it goes through eval, which the content policy forbids.
            page.wait_for_selector("#f-login:focus")
            page.keyboard.type(login)
            page.keyboard.press("Tab")
            page.keyboard.type(self.password)
            page.keyboard.press("Enter")
            page.wait_for_selector("#f-code:focus")
            page.keyboard.type(self.code(login))
            page.keyboard.press("Enter")
            page.wait_for_selector("#menu", state="attached")
            yield page
            assert not complaints, complaints
        finally:
            context.close()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus says or is labelled ``name``; Enter is the caller's."""
    script = """() => { const e = document.activeElement; if (!e || e === document.body) return '';
        const own = ['INPUT', 'SELECT'].includes(e.tagName) ? '' : e.textContent;
        return [e.labels?.[0]?.textContent, e.ariaLabel, own]
          .filter(Boolean).map((t) => t.trim()).join('|'); }"""
    for _ in range(TABS_MAX):
        if name in page.evaluate(script).split("|"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{page.url}: {name!r} cannot be reached by Tab")


def choose(page: Page, name: str) -> None:
    """Go down a list of choices until it says ``name``."""
    for _ in range(60):
        page.keyboard.press("ArrowDown")
        if page.evaluate("document.activeElement.selectedOptions[0].textContent.trim()") == name:
            return
    raise AssertionError(f"{page.url}: no choice {name!r}")


def go(page: Page, key: str) -> None:
    """``g`` and a letter, as the help says."""
    page.keyboard.press("g")
    with page.expect_navigation():
        page.keyboard.press(key)


def enter(page: Page) -> None:
    with page.expect_navigation():
        page.keyboard.press("Enter")


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/tmp"))
    folder.chmod(0o755)
    rig = Rig(folder / "rig", say=print)
    try:
        rig.clean()
        rig.start_all(kiosks=KIOSKS, scenario="demo")
        url, password = rig.start_admin()
        uvloop.run(
            run_fleet(
                LOCALHOST,
                rig.ports["switch"],
                KIOSKS,
                6.0,
                scenario=load_scenario("demo"),
                book_path=rig.book(),
                settle_s=30.0,
            )
        )
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            yield Office(rig, url, password, browser)
            browser.close()
    finally:
        rig.stop_all()
        rig.unlock()


# ------------------------------------------------------------------------------------------------ how pages look
def _pages(page: Page) -> list[str]:
    """Everything this person's menu leads to, and the first thing in each list."""
    found = [link.get_attribute("href") or "" for link in page.locator("#menu a").all()]
    for path in list(found):
        page.goto(path if path.startswith("http") else page.url.split("/", 3)[0] + "//" + page.url.split("/")[2] + path)
        first = page.locator("tr[data-row] a[href]").first
        if first.count():
            found.append(first.get_attribute("href") or "")
    return found


def _named(path: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\d+", "one", path.lower())).strip("-") or "home"


@pytest.mark.parametrize("login", ["ops", "fin", "boss", "sec", "audit", "market", "field"])
def test_every_page_of_every_role_is_wide_enough_readable_and_labelled(office: Office, login: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    with office.desk(login) as page:
        paths = _pages(page)
        assert paths
        for size, kind in ((DESK, "desk"), (PHONE, "phone")):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            for path in paths:
                if (_named(path), kind) in office.seen and kind == "phone":
                    continue  # another's menu does not change how wide it is there
                office.seen.add((_named(path), kind))
                answer = page.goto(office.url.rstrip("/") + path)
                assert answer is not None and answer.status == 200, f"{path}: {answer and answer.status}"
                page.screenshot(path=PICTURES / f"{_named(path)}-{kind}.png", full_page=True)
                faults += [f"{path} ({kind}): {each}" for each in page.evaluate(FAULTS)]
    assert not faults, "\n".join(dict.fromkeys(faults))


def test_a_page_without_permission_one_that_is_not_there_and_english_have_the_same_face(office: Office) -> None:
    context = office.browser.new_context(viewport=DESK)  # type: ignore[arg-type]
    try:
        page = context.new_page()
        page.goto(office.url)
        page.screenshot(path=PICTURES / "sign-in-desk.png")
        assert not page.evaluate(FAULTS)
    finally:
        context.close()
    with office.desk("market") as page:
        tab_to(page, "English")
        enter(page)
        assert page.locator("html").get_attribute("lang") == "en"
        assert not re.search(r"[\u4e00-\u9fff]", page.locator("#menu").inner_text())
        tab_to(page, "中文")
        enter(page)
        page.on("console", lambda _: None)
    context = office.browser.new_context(viewport=DESK)  # type: ignore[arg-type]
    try:
        page = context.new_page()
        answer = page.goto(office.url + "no/such/page")
        assert answer is not None and answer.status == 404
        page.screenshot(path=PICTURES / "error-404.png")
        assert not page.evaluate(FAULTS)
    finally:
        context.close()


# ------------------------------------------------------------------------------------------------ by keyboard alone
def test_task_help_and_menu_keys(office: Office) -> None:
    with office.desk("sec2") as page:
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        page.screenshot(path=PICTURES / "keys.png")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog[open]", state="hidden")
        go(page, "p")
        assert page.url.endswith("/approvals")


def test_task_a_new_operator_is_asked_for_confirmed_and_gets_a_password(office: Office) -> None:
    with office.desk("boss") as page:
        go(page, "o")
        tab_to(page, "新建操作员")
        enter(page)
        for label, text in (("账号", "zhao.min"), ("姓名", "赵敏")):
            tab_to(page, label)
            page.keyboard.type(text)
        tab_to(page, "所属组织")
        page.keyboard.press("ArrowDown")
        tab_to(page, "单位")
        page.keyboard.press("ArrowDown")
        tab_to(page, "理由")
        page.keyboard.type("新入职")
        tab_to(page, "提交复核")
        enter(page)
        assert "待复核" in page.locator("main").inner_text()
    with office.desk("sec") as page:
        go(page, "p")
        page.keyboard.press("j")
        enter(page)
        assert "赵敏" in page.locator("main").inner_text()
        tab_to(page, "同意并执行")
        enter(page)
        assert "已执行" in page.locator("main").inner_text()
    (row,) = office.sql("SELECT id FROM operator WHERE login = 'zhao.min'")
    with office.desk("boss") as page:
        go(page, "o")
        page.keyboard.press("/")
        page.keyboard.type("zhao")
        enter(page)
        page.keyboard.press("j")
        enter(page)
        assert page.url.endswith(f"/operators/{row['id']}")
        tab_to(page, "签发一次性密码")
        page.keyboard.press("Enter")
        tab_to(page, "签发")
        enter(page)
        assert re.fullmatch(r"[a-z2-9-]{17}", page.locator("#one-time").inner_text())


def test_task_a_role_is_granted_by_two_security_administrators(office: Office) -> None:
    (row,) = office.sql("SELECT id FROM operator WHERE login = 'field'")
    with office.desk("sec") as page:
        page.goto(f"{office.url}operators/{row['id']}")
        tab_to(page, "申请授权")
        page.keyboard.press("Enter")
        tab_to(page, "角色")
        choose(page, "市场人员")
        tab_to(page, "组织范围")
        page.keyboard.press("ArrowDown")
        tab_to(page, "理由")
        page.keyboard.type("兼任宣传")
        tab_to(page, "提交复核")
        enter(page)
        assert "同意并执行" not in page.locator("main").inner_text()  # not by oneself
    with office.desk("sec2") as page:
        go(page, "p")
        page.keyboard.press("j")
        enter(page)
        tab_to(page, "同意并执行")
        enter(page)
        assert "已执行" in page.locator("main").inner_text()
    assert office.sql("SELECT FROM role_grant WHERE operator_id = $1 AND role = 'marketing'", row["id"])


def test_task_the_audit_log_is_searched_exported_and_verified(office: Office) -> None:
    with office.desk("audit") as page:
        go(page, "a")
        tab_to(page, "操作")
        page.keyboard.type("sign_in")
        enter(page)
        assert "action=sign_in" in page.url
        with page.expect_download() as download:
            page.keyboard.press("e")
        assert download.value.suggested_filename.endswith(".xlsx")
        go(page, "a")
        tab_to(page, "校验")
        enter(page)
        tab_to(page, "开始校验")
        enter(page)
        assert "全部吻合" in page.locator("main").inner_text()


def test_task_the_days_settlement_is_seen_by_kiosk_and_taken_home(office: Office) -> None:
    (truth,) = office.sql(
        "SELECT body ->> 'settlement_day' AS day, sum(amount)::bigint AS fen, count(*) AS payments FROM switch.payment"
        " WHERE state = 'COMPLETED' GROUP BY 1 ORDER BY 1 DESC LIMIT 1"
    )
    with office.desk("fin2") as page:
        go(page, "r")
        assert page.locator("h1").inner_text() == "日结算表"
        assert page.locator("main table").count() and page.locator("main svg").count()
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "q-from"
        tab_to(page, "汇总方式")
        choose(page, "按终端")
        tab_to(page, "查询")
        enter(page)
        day = f"{truth['day'][:4]}-{truth['day'][4:6]}-{truth['day'][6:]}"
        assert "by=kiosk" in page.url and f"until={day}" in page.url
        told = page.locator(".tiles").inner_text()
        assert money(truth["fen"]) in told and f"{truth['payments']:,} 笔" in told, "to the fen"
        with page.expect_download() as download:
            page.keyboard.press("e")
        assert download.value.suggested_filename == f"日结算表-{day}.xlsx"


def test_task_a_payment_is_found_its_story_read_and_its_account_shown_with_a_reason(office: Office) -> None:
    (row,) = office.sql(
        "SELECT payment_id, rrn FROM payment_fact WHERE state = 'COMPLETED' ORDER BY payment_id LIMIT 1"
    )
    with office.desk("fin") as page:
        go(page, "t")
        page.keyboard.press("/")
        page.keyboard.type(row["rrn"])
        enter(page)
        page.keyboard.press("j")
        enter(page)
        assert page.url.endswith(f"/transactions/{row['payment_id']}")
        assert page.locator(".story li").count() >= 3 and "****" in page.locator("main").inner_text()
        tab_to(page, "显示完整户号")
        page.keyboard.press("Enter")
        tab_to(page, "理由（记入审计日志）")
        page.keyboard.type("客户来电查询")
        tab_to(page, "显示")
        enter(page)
        assert page.locator("#account").inner_text().isdigit()
    (trace,) = office.sql("SELECT reason, detail FROM audit_log WHERE action LIKE '%reveal%'")
    assert trace["reason"] == "客户来电查询"


def test_task_payments_of_a_kiosk_are_exported(office: Office) -> None:
    with office.desk("fin2") as page:
        go(page, "t")
        with page.expect_download() as download:
            page.keyboard.press("e")
        assert download.value.suggested_filename.endswith(".xlsx")


def test_task_a_kiosk_is_taken_out_of_service_and_the_switch_obeys(office: Office) -> None:
    (kiosk,) = office.sql("SELECT id, code, terminal_id FROM kiosk WHERE state = 'in_service' ORDER BY code LIMIT 1")
    with office.desk("ops") as page:
        go(page, "k")
        page.keyboard.press("/")
        page.keyboard.type(kiosk["code"])
        enter(page)
        page.keyboard.press("j")
        enter(page)
        assert page.url.endswith(f"/kiosks/{kiosk['id']}")
        tab_to(page, "暂停服务")
        page.keyboard.press("Space")
        tab_to(page, "理由")
        page.keyboard.type("读卡器检修")
        tab_to(page, "确认变更")
        enter(page)
        assert page.locator(".life .now").inner_text() != "运行"
    (terminal,) = office.sql("SELECT in_service FROM switch.terminal WHERE terminal_id = $1", kiosk["terminal_id"])
    assert not terminal["in_service"]


def test_task_a_kiosk_is_registered_and_gets_its_enrolment_code(office: Office) -> None:
    with office.desk("boss") as page:
        go(page, "k")
        tab_to(page, "登记终端")
        enter(page)
        for label, text in (("终端编号", "K-NEW-1"), ("出厂序列号", "SN-NEW-1")):
            tab_to(page, label)
            page.keyboard.type(text)
        for label in ("型号", "网点"):
            tab_to(page, label)
            page.keyboard.press("ArrowDown")
        tab_to(page, "保存")
        enter(page)
        assert page.locator("h1").inner_text() == "K-NEW-1"
    with office.desk("ops2") as page:
        go(page, "k")
        page.keyboard.press("/")
        page.keyboard.type("K-NEW-1")
        enter(page)
        page.keyboard.press("j")
        enter(page)
        tab_to(page, "签发入网码")
        page.keyboard.press("Enter")
        tab_to(page, "签发")
        enter(page)
        assert len(page.locator("#enrol-code").inner_text()) >= 16


def test_task_sign_out(office: Office) -> None:
    with office.desk("market") as page:
        tab_to(page, "退出")
        enter(page)
        assert page.url.endswith("/sign-in")
        page.goto(office.url + "me")
        assert "/sign-in" in page.url


def test_task_a_kiosk_is_looked_at_from_the_wall(office: Office) -> None:
    (kiosk,) = office.sql("SELECT id, code FROM kiosk WHERE code LIKE 'K-GS%' ORDER BY code DESC LIMIT 1")
    with office.desk("ops") as page:
        go(page, "d")
        assert page.locator(".tile").count() >= 5 and page.locator("main svg").count()
        go(page, "m")
        page.keyboard.press("/")
        page.keyboard.type(kiosk["code"])
        enter(page)
        page.keyboard.press("j")
        enter(page)
        assert page.url.endswith(f"/monitor/kiosks/{kiosk['id']}")
        assert kiosk["code"] in page.locator("h1").inner_text()


def test_task_failures_are_read_by_class_and_exported(office: Office) -> None:
    with office.desk("ops2") as page:
        go(page, "f")
        assert "失败原因" in page.locator("h1").inner_text() and page.locator("main table").count()
        with page.expect_download() as download:
            page.keyboard.press("e")
        assert download.value.suggested_filename.endswith(".xlsx")
