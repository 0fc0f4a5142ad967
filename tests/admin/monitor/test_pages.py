"""The pages of monitoring, as people see them: numbers, scope, a switch that is away, live parts, self-check."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from admin.auth.permissions import Role
from admin.config import Config, WatchConfig
from admin.monitor.health import SelfWatch
from admin.monitor.matrix import DIAGNOSES
from admin.monitor.watch import Prober
from admin.web.loop import Loops
from tests.admin.conftest import Site, opened, running
from tests.admin.monitor.conftest import Fleet
from tests.admin.monitor.test_watch import Worker, board_of


def text_of(answer: httpx.Response) -> str:
    """What a person reads, blanks joined."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def known(site: Site, kiosks: list[int], code: str, risk_fen: int = 0) -> None:
    """Diagnosed so."""
    site.sql(
        "INSERT INTO kiosk_status (kiosk_id, diagnosis, since) SELECT id, $2, now() - interval '2 hours'"
        "  FROM unnest($1::bigint[]) AS id",
        kiosks,
        code,
    )
    site.sql(
        "INSERT INTO kiosk_watch (kiosk_id, payable, risk_fen, risk_sessions) SELECT id, $2, $3, 4"
        "  FROM unnest($1::bigint[]) AS id",
        kiosks,
        DIAGNOSES[code].payable,
        risk_fen,
    )


@pytest.fixture
def site(admin_config: Config) -> Iterator[Site]:
    """The service, while another process has the loops that judge and add up: what stands there a test wrote."""

    async def hold() -> None:
        connection = await asyncpg.connect(admin_config.database.dsn)
        try:
            await connection.execute(
                "INSERT INTO admin.loop (name, holder, held_until)"
                " VALUES ('diagnose', 'another', 'infinity'), ('sums', 'another', 'infinity')"
            )
        finally:
            await connection.close()

    asyncio.run(hold())
    with running(admin_config) as found:
        yield found


@pytest.fixture
def kiosks(site: Site, fleet: Fleet) -> list[int]:
    """Four at two sites of Guangzhou: two in order, one in the dark, one that nobody uses."""
    found = asyncio.run(fleet.build(4))
    known(site, found[:2], "normal")
    known(site, found[2:3], "offline", 123_45)
    known(site, found[3:], "unused", 999_99)
    return found


def test_the_wall_tells_how_the_day_goes(site: Site, fleet: Fleet, kiosks: list[int]) -> None:
    slot = datetime.fromtimestamp(int(datetime.now(UTC).timestamp()) // 900 * 900, UTC)
    day = (slot + timedelta(hours=8)).date()
    site.sql(
        "INSERT INTO org_quarter SELECT id, $1, 105, 90, 5, 10, 0, 12345678 FROM org WHERE code = 'gz'"
        " ON CONFLICT (org_id, slot) DO NOTHING",
        slot,
    )
    site.sql(
        "INSERT INTO usual_day SELECT id, $1, 8, $2, $2, $2, 968, 950, 980 FROM org WHERE code = 'gz'",
        day,
        [100] * 96,
    )
    site.sql("INSERT INTO availability_day VALUES ('switch', $1, 86400000, 120000, 0, 0, 0)", day - timedelta(days=1))
    page = site.sign_in(Role.OPERATIONS, org="gz").get("/monitor")
    text = text_of(page)
    assert page.status_code == 200
    assert "可缴费终端 3 / 4" in text and "1 台不能缴费" in text
    assert "今日成功率 90.0%" in text and "平日 96.8%（95.0% – 98.0%）" in text
    assert "¥123,456.78" in text and "90 笔 · 未对账" in text
    assert "余额 523.6 / 525.6 分钟" in text
    first, second = text.index("K000004"), text.index("K000003")
    assert first < second, "what is at stake comes first"
    assert "¥999.99" in text and "派人查看：触摸屏" in text
    assert '<svg class="curve"' in page.text and "style=" not in page.text


def test_nobody_sees_beyond_their_organisations(site: Site, kiosks: list[int]) -> None:
    elsewhere = site.sign_in(Role.OPERATIONS, org="sz")
    assert "可缴费终端 0 / 0" in text_of(elsewhere.get("/monitor"))
    assert "K00000" not in elsewhere.get("/monitor/kiosks").text
    assert elsewhere.get(f"/monitor/kiosks/{kiosks[0]}").status_code == 404
    site_only = site.sign_in(Role.OPERATIONS, org="s1")
    assert site_only.get(f"/monitor/kiosks/{kiosks[0]}").status_code == 200
    assert site_only.get(f"/monitor/kiosks/{kiosks[3]}").status_code == 404
    nobody = site.sign_in(Role.SECURITY_ADMINISTRATOR)
    assert nobody.get("/monitor").status_code == 403
    assert site.sign_in(Role.MARKETING).get("/monitor/self").status_code == 403


def test_the_list_has_filters_sorts_and_leaves_as_a_file(site: Site, fleet: Fleet, kiosks: list[int]) -> None:
    person = site.sign_in(Role.OPERATIONS)
    codes = re.findall(r"K00000\d", person.get("/monitor/kiosks").text)
    assert codes == ["K000003", "K000004", "K000001", "K000002"] or codes[:2] == ["K000003", "K000004"]

    def seen(query: str) -> list[str]:
        return sorted(re.findall(r">(K00000\d)<", person.get(f"/monitor/kiosks?{query}").text))

    assert seen("diagnosis=offline") == ["K000003"]
    assert seen("q=营业厅1") == ["K000001", "K000002"] and seen("q=T0000004") == ["K000004"]
    (gz,) = site.sql("SELECT id FROM org WHERE code = 'gz'")
    (sz,) = site.sql("SELECT id FROM org WHERE code = 'sz'")
    assert len(seen(f"org={gz['id']}")) == 4 and seen(f"org={sz['id']}") == []
    assert seen("state=retired") == []
    assert person.get("/monitor/kiosks?diagnosis=x").status_code == 422
    file = person.get("/monitor/kiosks?format=csv")
    assert file.status_code == 200 and file.content.startswith(b"\xef\xbb\xbf") and "断电或断网" in file.text


def test_a_kiosks_page_tells_its_last_day(site: Site, fleet: Fleet, kiosks: list[int]) -> None:
    one = kiosks[2]
    now = datetime.now(UTC)
    site.sql(
        "INSERT INTO diagnosis (kiosk_id, at, code, payable, signals) VALUES"
        " ($1, $2::timestamptz - interval '30 hours', 'normal', true, '{ok,ok,usual,ok,ok}'),"
        " ($1, $2::timestamptz - interval '2 hours', 'offline', false, '{missing,silent,unknown,none,ok}')",
        one,
        now,
    )
    site.sql(
        "UPDATE kiosk_status SET units = $2, counters = $3, beat_at = NULL WHERE kiosk_id = $1",
        one,
        '{"idc": "online", "ptr.paper": "out"}',
        '{"sessions": 1240, "jams": 3}',
    )
    asyncio.run(fleet.pay(one, now - timedelta(minutes=3), fen=88_00))
    answer = site.sign_in(Role.OPERATIONS).get(f"/monitor/kiosks/{one}")
    text = text_of(answer)
    assert "断电或断网（本机）" in text and "联系营业厅确认电源和网线；否则派人" in text
    assert "凭条打印机 纸 用尽" in text and "密码键盘 未知" in text, "what its model has and nobody spoke of"
    assert "1,240" in text and "¥88.00" in text and "¥123.45" in text
    assert answer.text.count('class="bad"') >= 3, "diagnosis, agent and switch are red on the strips"
    assert "心跳中断" in text and "style=" not in answer.text
    assert "¥88.00" not in site.sign_in(Role.MARKETING).get(f"/monitor/kiosks/{one}").text


def test_a_switch_that_is_away_is_said_and_what_it_knew_is_shown(site: Site) -> None:
    person = site.sign_in(Role.OPERATIONS)
    assert "还没有问过前置" in text_of(person.get("/monitor/channels"))
    told = {
        "instance": "switch-1",
        "ready": True,
        "not_ready": [],
        "up_s": 7200.0,
        "version": "0.1.0",
        "links": {"unionpay": {"up": True, "breaker_open": False, "echo_rtt_ms": 21.4}},
        "reversals": {"waiting": 2, "oldest_s": 90.0},
    }
    site.sql(
        "INSERT INTO switch_word (place, told_at, told, trouble) VALUES ('a', now() - interval '10 minutes', $1, $2)",
        json.dumps(told),
        "支付前置没有运行",
    )
    channels = text_of(person.get("/monitor/channels"))
    assert "前置没有应答" in channels and "以下是它在" in channels and "switch-1" in channels
    assert "21.4 毫秒" in channels and "10 分钟前" in channels and "待冲正 2" in channels
    wall = text_of(person.get("/monitor"))
    assert "前置没有应答" in wall and "银联" in wall


def test_an_old_picture_says_how_old_it_is(site: Site, kiosks: list[int]) -> None:
    site.sql(
        "INSERT INTO loop (name, holder, held_until, ran_at) VALUES ('diagnose', 'x', now() + interval '1 hour', $1)"
        " ON CONFLICT (name) DO UPDATE"
        " SET holder = excluded.holder, held_until = excluded.held_until, ran_at = excluded.ran_at",
        datetime.now(UTC) - timedelta(minutes=10),
    )
    person = site.sign_in(Role.OPERATIONS)
    for path in ("/monitor", "/monitor/kiosks", f"/monitor/kiosks/{kiosks[0]}"):
        assert "数据延迟 10 分钟" in text_of(person.get(path)), path


def test_live_parts_come_as_events(site: Site, kiosks: list[int]) -> None:
    person = site.sign_in(Role.OPERATIONS)
    with person.http.stream("GET", "/monitor/live") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        data = next(line for line in lines if line.startswith("data: "))
    parts = json.loads(data.removeprefix("data: "))
    assert set(parts) == {f"#{name}" for name in ("state", "tiles", "curve", "numbers", "needs", "channels")}
    assert "K000003" in parts["#needs"]


def test_availability_is_told_raw_and_by_contract(site: Site, kiosks: list[int]) -> None:
    yesterday = (datetime.now(UTC) + timedelta(hours=8)).date() - timedelta(days=1)
    site.sql("INSERT INTO availability_day VALUES ('switch', $1, 86400000, 3660000, 600000, 600000, 0)", yesterday)
    site.sql("INSERT INTO kiosk_day VALUES ($1, $2, 36000, 34200)", kiosks[0], yesterday)
    slot = int(datetime.now(UTC).timestamp()) // 30 - 3000
    site.sql(
        "INSERT INTO probe SELECT 'switch', $1 + n, false, 'link unionpay is down' FROM generate_series(0, 121) AS n",
        slot,
    )
    text = text_of(site.sign_in(Role.AUDITOR).get("/monitor/availability"))
    assert "95.7638%" in text and "96.4335%" in text, "raw: 61 of 1440 min down; by contract 51 of 1430"
    assert "95.0000%" in text, "the kiosk could be paid at for 34,200 of 36,000 s"
    assert " 61.0 link unionpay is down" in text


# ---------------------------------------------------------------------------------------------------- self-watch
def test_health_for_a_service_manager_and_a_page_for_people(site: Site) -> None:
    answer = site.stranger().get("/health")
    assert answer.status_code == 200 and answer.json() == {"ok": True, "faults": []}
    person = site.sign_in(Role.SYSTEM_ADMINISTRATOR)
    text = text_of(person.get("/monitor/self"))
    assert "diagnose" in text and "nights" in text and "audit anchor" in text and "未配置" in text
    site.sql(
        "INSERT INTO loop (name, ran_at, error) VALUES ('diagnose', now(), 'E: broken')"
        " ON CONFLICT (name) DO UPDATE SET error = 'E: broken', holder = 'x', held_until = now() + interval '1 hour'"
    )
    answer = site.stranger().get("/health")
    assert answer.status_code == 503 and answer.json() == {"ok": False, "faults": ["loop diagnose"]}
    assert "后台循环“diagnose”出错：E: broken" in text_of(person.get("/monitor/self"))


def test_the_sign_of_life_ends_when_a_loop_stops(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = tmp_path / "alive"
    asked: list[bytes] = []

    async def outside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(outside, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = WatchConfig(dead_man_file=str(alive), dead_man_url=f"http://127.0.0.1:{port}/ping")
        async with opened(fleet.dsn) as database:
            loops = Loops(database)
            loops.periods["work"] = 0.1
            watch = SelfWatch(config, database, loops, Prober(database, board_of(Worker(tmp_path / "none"))))
            await fleet.run("INSERT INTO admin.loop (name, ran_at) VALUES ('work', now())")
            assert await watch.look() and alive.exists() and asked == [b"GET /ping HTTP/1.1\r\n"]
            alive.unlink()
            # Nobody has run it for longer than any take-over lasts, and we have been here long enough to know.
            watch._started_at -= 3600
            watch._prober.last_at = watch._started_at + 3600
            await fleet.run("UPDATE admin.loop SET ran_at = now() - interval '10 minutes'")
            assert not await watch.look() and not alive.exists() and len(asked) == 1
            assert watch.trouble == "loop work"
            await fleet.run("UPDATE admin.loop SET ran_at = now(), error = 'E: broken'")
            assert not await watch.look() and not alive.exists()
            await fleet.run("UPDATE admin.loop SET ran_at = now(), error = ''")
            assert await watch.look() and alive.exists()
            server.close()
            await server.wait_closed()
            assert not await watch.look() and watch.trouble, "outside does not answer, and that is kept for the page"

    asyncio.run(story())
