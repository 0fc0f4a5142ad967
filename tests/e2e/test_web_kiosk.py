"""The kiosk in a browser: Chromium pays bills at a whole system in real processes; much is done wrong, on purpose."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from switch.ops.rig import LOCALHOST, Rig
from switch.sim import customers, testkeys

pytestmark = pytest.mark.browser
GOOD, POOR, SILENT = (str(card) for card in (testkeys.GOOD_CARDS[0], testkeys.POOR_CARD, testkeys.SILENT_CARD))
PORTRAIT, LANDSCAPE = (1080, 1920), (1280, 1024)  # what kiosks have
PATIENCE_S: Final = 20.0
WRONG_ACCOUNT: Final = "0300000001"  # its check digit does not fit

# What is wrong with the screen as it stands: too wide, targets too small for a thumb, text too faint (WCAG 2.2 AA).
FAULTS: Final = """
const faults = [];
const page = document.documentElement;
if (page.scrollWidth > innerWidth) faults.push(`page is ${page.scrollWidth} wide`);
for (const place of document.querySelectorAll('#top, #main, #bench'))
  if (place.scrollWidth > place.clientWidth) faults.push(`${place.id} is ${place.scrollWidth} wide`);
for (const button of document.querySelectorAll('button')) {
  const {width, height} = button.getBoundingClientRect();
  if (width && (width < 48 || height < 48)) faults.push(`${button.textContent}: ${width} x ${height}`);
  if (width && button.scrollWidth > button.clientWidth + 1) faults.push(`${button.textContent}: its text is wider`);
  if (width && !button.textContent && !button.ariaLabel) faults.push('a button without a name');
}
const numbers = (text) => [...text.matchAll(/rgba?\\(([^)]+)\\)/g)].map(([, list]) => list.split(/[ ,/]+/).map(Number));
const light = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const grounds = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const style = getComputedStyle(each);
    const found = numbers(`${style.backgroundImage} ${style.backgroundColor}`).filter((rgb) => (rgb[3] ?? 1) === 1);
    if (found.length) return found;
  }
  return [[255, 255, 255]];
};
for (const element of document.querySelectorAll('#top *, #ribbon, #ribbon *, #main *, #idle *, #bench *')) {
  const said = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!said || !element.getClientRects().length || element.closest('button:disabled')) continue;
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const ink = light(numbers(style.color)[0]);
  const worst = Math.min(...grounds(element).map(light).map((ground) =>
    (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05)));
  if (worst < (size >= 24 ? 3 : 4.5)) faults.push(`${element.textContent}: contrast ${worst.toFixed(2)}`);
}
return faults;
"""


# ------------------------------------------------------------------------------------------------ the system
@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/tmp"))
    folder.chmod(0o755)
    rig = Rig(folder / "rig", say=print)
    try:
        rig.clean()
        rig.start_all(kiosks=2, scenario="calm")
        yield rig
    finally:
        rig.stop_all()
        rig.unlock()
        shutil.rmtree(folder, ignore_errors=True)


class Page:
    """The program, and what a person does with its page."""

    def __init__(self, browser: webdriver.Chrome, rig: Rig, folder: Path, *options: str, terminal: int = 1) -> None:
        self.browser = browser
        self._log = folder / "kiosk.log"
        self._command = [
            *(sys.executable, "-m", "switch", "kiosk", "--web", "--connect", f"{LOCALHOST}:{rig.ports['switch']}"),
            *("--terminal", str(terminal), "--journal", str(folder / "kiosk.journal"), "--listen", "127.0.0.1:0"),
            *options,
        ]
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        told = self._log.read_text()
        assert "Traceback" not in told and "123456" not in told and "000000" not in told, told

    def restart_session(self) -> None:
        while (state := get(self, "/state?known="))["view"]["screen"] != "home":
            post(self, "/act", {"step": state["step"], "act": {"do": "leave"}})
            time.sleep(0.05)

    def console_is_clean(self) -> None:
        """But for what a browser writes of a server that is away, or of an act that came too late: both are meant."""
        found = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        errors = [each["message"] for each in found if each["level"] == "SEVERE"]
        assert [each for each in errors if "net::ERR_" not in each and "status of 409" not in each] == []

    # ---- looking
    def until(self, looked: Callable[[], Any], what: str) -> Any:
        patient = WebDriverWait(self.browser, PATIENCE_S, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return patient.until(lambda _: looked(), what)

    def open(self, size: tuple[int, int] = PORTRAIT) -> None:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.browser.get(self.url)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "#main") -> str:
        return "\n".join(each.text for each in self.all(selector))

    def screen(self, name: str, *, judged: bool = True) -> None:
        self.until(lambda: self.all(f'#main[data-screen="{name}"]'), f"screen {name}; shown is {self.shown!r}")
        if judged:
            assert self.browser.execute_script(FAULTS) == [], name

    @property
    def shown(self) -> str:
        return self.browser.find_element(By.ID, "main").get_attribute("data-screen") or ""

    def says(self, text: str, selector: str = "#main") -> None:
        self.until(lambda: text in self.text(selector), f"{text!r} in {selector}")

    # ---- touching
    def touch(self, selector: str) -> None:
        def touched() -> bool:
            for each in self.all(selector):
                if each.is_displayed() and each.is_enabled():
                    each.click()
                    return True
            return False

        self.until(touched, f"something to touch at {selector}")

    def act(self, name: str) -> None:
        self.touch(f'#main [data-act="{name}"]')

    def device(self, name: str) -> None:
        self.touch(f'#bench [data-bench="{name}"]')

    def type(self, screen: str, digits: str) -> None:
        self.screen(screen, judged=False)
        self.browser.find_element(By.TAG_NAME, "body").send_keys(digits)

    def pin(self, digits: str = "123456") -> None:
        self.screen("pin", judged=False)
        for digit in digits:
            self.device(f"key-{digit}")

    def bills(self, business: str = "pay", *, number: int = 0) -> str:
        """To the bills of a test bill; gives its account."""
        self.act(business)
        self.screen("account", judged=False)
        account = self.all("#bench .bill")[number].get_attribute("data-bench").removeprefix("account-")  # type: ignore[union-attr]
        self.device(f"account-{account}")
        self.act("inquire")
        self.screen("bills", judged=False)
        return account

    def pay(self, card: str, *, number: int = 0) -> str:
        account = self.bills(number=number)
        self.act("pay")
        self.screen("card", judged=False)
        self.device(f"card-{card}")
        self.pin()
        return account


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.fail(
            f"{' and '.join(missing)} not found: run `make system`, or on Debian apt-get install chromium "
            "chromium-driver fonts-wqy-microhei",
            pytrace=False,
        )
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"] or ""
    for option in ("headless=new", "no-sandbox", "disable-background-networking", "disable-component-update"):
        options.add_argument(f"--{option}")
    for option in ("disable-sync", "disable-dev-shm-usage", "force-prefers-reduced-motion"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def program(browser: webdriver.Chrome, rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(browser, rig, tmp_path_factory.mktemp("kiosk"))
    try:
        yield page
    finally:
        page.stop()


@pytest.fixture
def page(program: Page) -> Iterator[Page]:
    """The program that most tests share, at its start screen."""
    program.restart_session()
    yield program
    program.console_is_clean()


@pytest.fixture
def own_page(browser: webdriver.Chrome, rig: Rig, tmp_path: Path) -> Iterator[Page]:
    """A program of the test's own, on the other terminal, that soon gives up waiting for its customer."""
    page = Page(browser, rig, tmp_path, "--idle", "6", terminal=2)
    try:
        yield page
        page.console_is_clean()
    finally:
        page.stop()


def charges(rig: Rig) -> list[dict[str, Any]]:
    facts = [json.loads(line) for line in rig.ledger("unionpay").read_text().splitlines()]
    return [each for each in facts if each["fact"] == "charge"]


def owed(account: str) -> customers.Customer:
    found = customers.customer(account)
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------ paying
@pytest.mark.parametrize("size", [PORTRAIT, LANDSCAPE], ids=["portrait", "landscape"])
def test_a_bill_of_several_months_is_paid(page: Page, rig: Rig, size: tuple[int, int]) -> None:
    page.open(size)
    page.screen("home")
    before = len(charges(rig))
    page.act("pay")
    page.screen("account")
    page.type("account", WRONG_ACCOUNT)  # a keyboard works, too
    page.type("account", Keys.ENTER)
    page.says("户号不存在")
    page.screen("account")
    account = page.all("#bench .bill")[0].get_attribute("data-bench").removeprefix("account-")  # type: ignore[union-attr]
    page.device(f"account-{account}")
    page.act("inquire")
    page.screen("bills")
    customer = owed(account)
    assert customer.name not in page.text() and customer.name[1:] in page.text(), "others look at this screen"
    rows = page.all("#main .month")
    assert len(rows) == 3 and all("违约金" in row.text for row in rows)
    whole = page.text("#total")
    rows[2].click()
    assert page.text("#total") != whole and "已选 2 个月" in page.text()
    page.act("pay")
    page.screen("card")
    page.device(f"card-{GOOD}")
    page.screen("pin")
    page.pin("000000")
    page.says("密码错误。 未扣款。")
    page.screen("result")
    page.act("again")
    page.pin("1234")
    page.says("已输入 4 位")
    page.device("key-enter")
    page.says("缴费成功")
    page.screen("result")
    slip = page.text("#bench .slip")
    assert f"户名：{customer.name}" in slip and "电费缴费凭条" in slip and page.all("#bench .slip svg path")
    page.device("view")
    assert page.all("#paper[open] .slip svg")
    page.touch("#paper .go")
    page.act("done")
    page.screen("home")
    assert len(charges(rig)) == before + 1


def test_in_english_a_double_click_and_a_reload_leave_one_payment_whose_result_comes(page: Page, rig: Rig) -> None:
    """Two clicks within a millisecond on the same step; the page is loaded again while the card's bank is silent."""
    page.open(LANDSCAPE)
    page.touch("#language")
    page.says("What would you like to do?")
    page.screen("home")
    before = len(charges(rig))
    page.bills(number=1)
    page.screen("bills")
    twice = "const button = document.querySelector('#main [data-act=pay]'); button.click(); button.click()"
    page.browser.execute_script(twice)
    page.screen("card")
    page.device(f"card-{SILENT}")
    page.screen("pin")
    page.pin()
    page.screen("busy")
    page.browser.refresh()
    page.screen("busy")
    assert page.text("#main h1") == "正在缴费"  # a page that was loaded anew begins in Chinese
    page.touch("#language")
    page.says("Do not pay again")
    page.screen("result")
    assert "Nothing was charged" not in page.text() and not page.all('#main [data-act="again"]')
    page.until(lambda: page.all('#main .result[data-final="true"]'), "the final word")
    page.says("Nothing was charged, or it has gone back")
    page.screen("result")
    page.act("done")
    page.screen("home")
    assert not page.all('#main [data-act="earlier"]'), "it was seen"
    assert len(charges(rig)) == before + 1


def test_a_second_press_of_the_same_step_does_nothing(page: Page) -> None:
    """Whatever the page does: the server takes one act for one step."""
    page.open()
    page.screen("home", judged=False)
    state = get(page, "/state?known=")
    begin = {"step": state["step"], "act": {"do": "begin", "business": "pay"}}
    assert [post(page, "/act", begin)[0] for _ in range(2)] == [200, 409]
    page.screen("account", judged=False)
    assert post(page, "/act", {"step": state["step"], "act": {"do": "leave"}})[0] == 409, "that screen has gone"
    assert page.shown == get(page, "/state?known=")["view"]["screen"] == "account"


def test_prepayment_is_asked_about_when_it_comes_twice(page: Page) -> None:
    page.open(LANDSCAPE)
    account = page.pay(GOOD, number=2)
    page.says("缴费成功")
    page.act("done")
    page.act("pay")
    page.type("account", account)
    page.act("inquire")
    page.screen("refused")
    assert "没有欠费" in page.text()
    page.act("again")
    page.screen("amount")
    page.touch('#main [data-amount="100"]')
    page.act("next")
    page.device(f"card-{GOOD}")
    page.pin()
    page.says("预存成功")
    assert "电费预存凭条" in page.text("#bench .slip")
    page.act("done")
    page.act("prepay")
    page.type("account", account)
    page.act("inquire")
    page.type("amount", "100")
    page.act("next")
    page.device(f"card-{GOOD}")
    page.pin()
    page.screen("ask_again")
    page.act("again")
    page.device(f"card-{GOOD}")
    page.pin()
    page.says("预存成功")


def test_what_a_bank_says_and_what_is_on_a_card(page: Page) -> None:
    page.open()
    page.pay(POOR, number=2)
    page.says("余额不足。 未扣款。")
    page.screen("result")
    page.act("done")
    page.act("balance")
    page.device(f"card-{GOOD}")
    page.pin()
    page.says("¥500.00")
    page.screen("balance")
    page.act("done")


def test_months_are_read_paged_and_printed(page: Page) -> None:
    page.open(LANDSCAPE)
    page.screen("home")
    page.act("e_bill")
    page.type("account", WRONG_ACCOUNT + Keys.ENTER)
    page.says("户号不存在")
    page.screen("account")
    bill = page.all("#bench .bill")[0]  # three months are owed
    account = (bill.get_attribute("data-bench") or "").removeprefix("account-")
    page.device(f"account-{account}")
    page.act("inquire")
    page.screen("e_bill")
    first = periods(page)
    assert len(first) >= 3 and first == sorted(first, reverse=True)
    newest = page.all("#main .e-bill")[0].text
    for said in ("抄表", "示数", "→", "第 1 档", "用电", "电费", "未缴"):
        assert said in newest
    assert not page.all('#main [data-act="newer"]')[0].is_enabled()
    page.act("older")
    second = page.until(lambda: (found := periods(page)) != first and found, "older months")
    assert max(second) < min(first)
    page.act("newer")
    page.until(lambda: periods(page) == first, "the first page again")
    page.act("print")
    page.says("请取走账单")
    slip = page.text("#bench .slip")
    assert "电子账单" in slip and "不作缴费凭证" in slip and all(f"电费年月：{period}" in slip for period in first)
    page.device("paper")
    page.says("打印纸 已用完", "#bench")
    page.act("print")
    page.says("账单未能打印")
    page.screen("e_bill")
    page.device("paper")
    page.says("打印纸 正常", "#bench")
    page.touch("#language")
    page.says("Owed ¥")
    page.screen("e_bill")
    page.open(PORTRAIT)
    page.screen("e_bill")
    page.act("older")
    page.until(lambda: periods(page) == second, "older months, of which nobody was asked")
    page.act("leave")
    page.screen("home")


def test_a_slip_that_did_not_come_out_is_printed_when_there_is_paper(page: Page, rig: Rig) -> None:
    page.open(LANDSCAPE)
    page.screen("home", judged=False)
    before = len(charges(rig))
    page.bills(number=2)
    page.act("pay")
    page.device(f"card-{GOOD}")
    page.screen("pin", judged=False)
    page.device("paper")
    page.says("打印纸 已用完", "#bench")
    page.pin()
    page.says("凭条未能打印")
    page.screen("result")
    page.device("paper")
    page.says("打印纸 正常", "#bench")
    page.act("print")
    page.says("请取走银行卡和凭条")
    page.screen("result")
    assert "电费缴费凭条（重打印）" in page.text("#bench .slip") and not page.all('#main [data-act="print"]')
    page.act("done")
    assert len(charges(rig)) == before + 1


def periods(page: Page) -> list[str]:
    return [each.get_attribute("data-period") or "" for each in page.all("#main .e-bill")]


# ------------------------------------------------------------------------------------------------ what goes wrong
def test_without_the_switch_notices_stay_and_no_card_is_asked_for(page: Page, rig: Rig) -> None:
    page.open()
    page.screen("home", judged=False)
    page.bills(number=2)
    rig.kill("switch")
    page.says("网络中断，暂停缴费", "#ribbon")
    page.screen("bills")
    page.act("pay")
    page.screen("refused")
    assert "网络中断" in page.text()
    page.act("leave")
    page.screen("home")
    assert "谨防诈骗" in page.text() and "暂停办理缴费" in page.text()
    assert not any(tile.is_enabled() for tile in page.all("#main .tile"))
    page.browser.refresh()
    page.says("网络中断，暂停缴费", "#ribbon")
    assert "谨防诈骗" in page.text()
    rig.start_switch()
    page.until(lambda: all(tile.is_enabled() for tile in page.all("#main .tile")), "payments open again")
    assert page.text("#ribbon") == ""


def test_without_paper_nothing_is_taken(page: Page) -> None:
    page.open()
    page.screen("home", judged=False)
    page.device("paper")
    page.says("凭条纸已用完", "#ribbon")
    page.screen("home")
    pay, prepay, e_bill, balance = page.all("#main .tile")
    assert not pay.is_enabled() and not prepay.is_enabled() and balance.is_enabled() and e_bill.is_enabled()
    page.device("paper")
    page.until(page.all("#main .tile")[0].is_enabled, "payments open again")


def test_a_kiosk_killed_in_a_payment_tells_its_end_and_the_page_survives(own_page: Page, rig: Rig) -> None:
    page = own_page
    page.open(LANDSCAPE)
    page.touch("#language")
    before = len(charges(rig))
    page.pay(SILENT, number=2)
    page.screen("busy")
    page.process.kill()
    page.process.communicate()
    page.screen("gone")
    assert "Do not pay again" in page.text() and "Beware of fraud" in page.text()
    page.start()
    page.open(LANDSCAPE)
    page.touch("#language")
    page.screen("earlier")
    assert "Nothing was charged" not in page.text() or "gone back" in page.text()
    while page.shown == "earlier":  # nobody touches it: the start is shown, and says that there is something to see
        time.sleep(0.1)
    page.says("to be confirmed or seen: 1")

    def nothing_left() -> bool:
        """Whoever comes by touches what there is: the final word may come on either screen."""
        for each in page.all('#main [data-act="seen"], #main [data-act="earlier"]'):
            if each.is_displayed():
                each.click()
                return False
        return page.shown == "home"

    page.until(nothing_left, "a final word that is seen")
    assert get(page, "/state?known=")["view"]["earlier"] == 0
    assert len(charges(rig)) == before + 1


def test_a_power_cut_gives_the_card_back(page: Page) -> None:
    page.open()
    page.bills(number=2)
    page.act("pay")
    page.device(f"card-{GOOD}")
    page.screen("pin", judged=False)
    assert get(page, "/state?known=")["bench"]["card_inside"] is True
    page.device("power")
    page.screen("home")
    assert get(page, "/state?known=")["bench"]["card_inside"] is False


def test_who_goes_away_is_asked_and_then_the_start_is_shown(own_page: Page) -> None:
    page = own_page
    page.open()
    page.touch("#language")
    page.bills()
    page.act("pay")
    page.screen("card", judged=False)
    began = time.monotonic()
    while time.monotonic() < began + 7.0:  # whoever touches stays
        page.says("Are you still there?", "#idle")
        page.screen("card")
        page.touch("#idle .stay")
    page.device(f"card-{GOOD}")
    page.screen("pin", judged=False)
    page.screen("home")
    assert "您好" in page.text()  # and the next customer's language is Chinese
    assert get(page, "/state?known=")["bench"]["card_inside"] is False, "the card was given back"


# ------------------------------------------------------------------------------------------------ who else asks
def get(page: Page, path: str) -> Any:
    return json.loads(ask(page, "GET", path)[2])


def post(page: Page, path: str, what: Any, **headers: str) -> tuple[int, dict[str, str]]:
    own = {"Origin": page.url.rstrip("/"), "Content-Type": "application/json"}
    body = what if isinstance(what, bytes) else json.dumps(what).encode()
    status, _, data = ask(page, "POST", path, body, own | headers)
    return status, json.loads(data).get("error", {})


def ask(
    page: Page, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(page.url.removeprefix("http://").rstrip("/"), timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_only_the_page_itself_may_act(page: Page) -> None:
    state = get(page, "/state?known=")
    begin = {"step": state["step"], "act": {"do": "begin", "business": "pay"}}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": ""}):
        assert post(page, "/act", begin, **headers)[0] == 403
        assert post(page, "/bench", {"power": True}, **headers)[0] == 403
    assert post(page, "/act", begin, **{"Content-Type": "text/plain"})[0] == 415
    assert post(page, "/act", begin, Host="evil.example")[0] == 421
    assert ask(page, "GET", "/state", headers={"Host": "evil.example:80"})[0] == 421
    assert ask(page, "GET", "/act")[0] == 405
    for body, told in (
        (b"{", "no JSON"),
        (b"[]", "Expected `object`"),
        ({"step": state["step"], "act": {"do": "fly"}}, "fly"),
        ({"step": state["step"], "act": {"do": "amount", "amount": -1}}, "amount"),
        ({"step": "x" * 100, "act": {"do": "leave"}}, "step"),
    ):
        status, error = post(page, "/act", body)
        assert status == 400 and error["code"] == "format" and told in error["message"], error
    assert post(page, "/act", b" " * 5000)[0] == 413
    assert post(page, "/bench", {"card": "1"})[1]["message"] == "card: no such test card"
    assert post(page, "/bench", {"key": "77"})[0] == 400
    assert get(page, "/state?known=")["step"] == state["step"], "none of it did anything"


def test_the_page_takes_nothing_from_elsewhere(page: Page) -> None:
    for path in ("/", "/kiosk.css", "/kiosk.js", "/texts.json", "/mark.svg", "/state?known="):
        status, headers, data = ask(page, "GET", path)
        policy = headers["content-security-policy"]
        assert status == 200 and "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy and headers["x-content-type-options"] == "nosniff"
        assert b"://" not in data.replace(b"http://www.w3.org/", b""), path
    assert b"<style" not in ask(page, "GET", "/")[2] and b" style=" not in ask(page, "GET", "/")[2]


def test_a_missing_browser_is_a_failure_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(pytest.fail.Exception, match="make system"):
        next(browser.__wrapped__())  # type: ignore[attr-defined]
