"""The reference agent against the real listener: what it must not lose, not do twice and not believe."""

from __future__ import annotations

import asyncio
import datetime
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from admin.deviceapi.store import Pace
from admin.devices.trust import enrolment, orders
from switch.kiosk.agent import limits as agent_limits
from switch.kiosk.agent.agent import Agent, BackOff, Credentials
from switch.kiosk.agent.cli import enrol
from switch.kiosk.agent.identity import Identity
from switch.kiosk.agent.orders import judge, read
from switch.kiosk.agent.ports import Done, SimulatedHands, SimulatedUnits, SystemClock
from switch.kiosk.agent.spool import FileSpool, MemorySpool, Spool
from switch.kiosk.agent.wire import Wire

from .conftest import EVERYWHERE, Bench, Pair

QUICK = Pace(1.0, 1.0)
SOON_S = 90.0  # the machine may be slow; nothing here waits for it to be quick


async def _until(question: Callable[[], Any], s: float = SOON_S) -> None:
    async with asyncio.timeout(s):
        while True:
            found = question()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.05)


def _credentials(b: Bench, kiosk: str = "K-1") -> Credentials:
    return Credentials(kiosk, b.authority.command_public)


def _agent(b: Bench, pair: Pair, spool: Spool, hands: Any = None, **more: Any) -> Agent:
    units = more.pop("units", None) or SimulatedUnits()
    wire = Wire(f"https://127.0.0.1:{b.listener.port}", b.context(pair), source=more.pop("source", ""))
    return Agent(_credentials(b), wire, spool, units, hands or SimulatedHands(units), **more)


@asynccontextmanager
async def _running(agent: Agent) -> AsyncIterator[Agent]:
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _give(b: Bench, kind: str, args: Mapping[str, str] | None = None, reason: str = "test") -> int:
    async with b.database.transaction() as connection:
        return await orders.give(connection, b.authority, EVERYWHERE, 1, kind, args or {}, operator_id=1, reason=reason)


async def _state(b: Bench, number: int) -> tuple[str, dict[str, Any]]:
    (row,) = await b.fetch("SELECT state, result FROM kiosk_command WHERE id = $1", number)
    return row["state"], row["result"]


def test_an_agent_enrols_reports_and_renews(bench: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(agent_limits, "POLL_S", 0.1)
    monkeypatch.setattr(agent_limits, "RENEW_CHECK_S", 0.1)

    async def story() -> None:
        async with bench(QUICK) as b:
            kiosk = await b.bare_kiosk()
            async with b.database.transaction() as connection:
                code = await enrolment.issue_code(connection, EVERYWHERE, kiosk, 1)
            ca = tmp_path / "ca.pem"
            ca.write_bytes(b.authority.ca_pem)
            identity = Identity(tmp_path / "agent", ca)
            server = f"https://localhost:{b.listener.port}"
            said: list[str] = []
            wire = Wire(server, identity.context())
            waiting = asyncio.create_task(enrol(wire, identity, "SN-K-1", code, said.append))
            await _until(lambda: identity.pending)
            waiting.cancel()  # the power goes while it waits; the next life goes on with the same token
            await asyncio.gather(waiting, return_exceptions=True)
            waiting = asyncio.create_task(enrol(wire, identity, "", "", said.append))
            async with b.database.transaction() as connection:
                (row,) = await connection.fetch("SELECT id, spki_sha256 FROM kiosk_certificate")
                assert identity.fingerprint() in said[0]
                await enrolment.approve(connection, b.authority, EVERYWHERE, row["id"], 2)
            service = await asyncio.wait_for(waiting, SOON_S)
            assert (service.kiosk, service.public) == ("K-1", b.authority.command_public)
            await wire.close()

            await b.value("UPDATE kiosk_certificate SET not_after = now() + interval '20 days'")
            monkeypatch.setattr(agent_limits, "RENEW_DAYS", 91)
            units = SimulatedUnits()
            credentials = Credentials(service.kiosk, service.public, identity)
            agent = Agent(credentials, Wire(server, identity.context()), MemorySpool(), units, SimulatedHands(units))
            async with _running(agent):
                await _until(lambda: agent.numbers.beats)

                async def renewed() -> bool:
                    return bool(await b.value("SELECT count(*) FROM kiosk_certificate WHERE origin = 'renewal'"))

                await _until(renewed)
                before = agent.numbers.beats
                await _until(lambda: agent.numbers.beats > before)
            assert identity.days_left(datetime.datetime.now(datetime.UTC)) > 89

    asyncio.run(story())


_CHATTY = """
import asyncio, sys
from pathlib import Path
from switch.kiosk.agent.agent import Agent, Credentials
from switch.kiosk.agent.ports import SimulatedHands, SimulatedUnits
from switch.kiosk.agent.spool import FileSpool
from switch.kiosk.agent.wire import Wire
import ssl
server, ca, pair, spool, count = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(pair)
units = SimulatedUnits()
kept = FileSpool(Path(spool))
agent = Agent(Credentials("K-1", bytes(32)), Wire(server, context), kept, units, SimulatedHands(units))

async def talk():
    for number in range(int(count)):
        agent.event("test.event", detail={"number": number})
        agent.count("sessions")
        print(kept.boot_id, number, flush=True)
        await asyncio.sleep(0)
    while kept.waiting():
        await asyncio.sleep(0.05)
    print("all sent", flush=True)

async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run())
        group.create_task(talk())
asyncio.run(main())
"""


def test_a_killed_agent_loses_no_event_and_sends_none_twice(bench: Any, tmp_path: Path) -> None:
    kept: set[tuple[str, int]] = set()

    def start(b: Bench, pair: Pair, port: int, count: int) -> subprocess.Popen[str]:
        ca = tmp_path / "ca.pem"
        ca.write_bytes(b.authority.ca_pem)
        arguments = (f"https://127.0.0.1:{port}", str(ca), str(pair.file()), str(tmp_path / "spool.db"), str(count))
        return subprocess.Popen([sys.executable, "-c", _CHATTY, *arguments], stdout=subprocess.PIPE, text=True)

    def read_until_killed(process: subprocess.Popen[str], lines: int) -> None:
        """What was printed was durable before."""
        with process:
            assert process.stdout is not None
            for count, line in enumerate(process.stdout):
                boot, number = line.split()
                kept.add((boot, int(number)))
                if count == lines:
                    process.send_signal(signal.SIGKILL)

    async def story() -> None:
        async with bench(QUICK) as b:
            _, pair = await b.kiosk()
            # Nobody listens there: nothing of the first life can be sent.
            await asyncio.to_thread(read_until_killed, start(b, pair, 1, 100_000), 300)
            # The second life is killed while it sends.
            await asyncio.to_thread(read_until_killed, start(b, pair, b.listener.port, 100_000), 300)
            last = start(b, pair, b.listener.port, 10)
            try:
                async with asyncio.timeout(SOON_S):
                    output = await asyncio.to_thread(_until_sent, last)
            finally:
                last.kill()  # what it would still say ends, and with it the thread that listens
            kept.update((line.split()[0], int(line.split()[1])) for line in output)
            rows = await b.fetch(
                "SELECT boot_id, (detail ->> 'number')::integer AS number FROM kiosk_event WHERE type = 'test.event'"
            )
            there = [(row["boot_id"], row["number"]) for row in rows]
            assert len(there) == len(set(there)), "an event is there twice"
            assert kept <= set(there), "an event was lost"
            assert len({boot for boot, _ in there}) == 3
            lost = await b.value("SELECT count(*) FROM kiosk_event WHERE type IN ('events_lost', 'counters_reset')")
            assert lost == 0

    asyncio.run(story())


def _until_sent(process: subprocess.Popen[str]) -> list[str]:
    with process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            if line.startswith("all sent"):
                break
            lines.append(line)
        process.kill()
    return lines


def test_an_agent_outlives_the_service(bench: Any) -> None:
    async def story() -> None:
        async with bench(QUICK) as b:
            _, pair = await b.kiosk()
            port = b.listener.port
            agent = _agent(b, pair, MemorySpool())
            task = asyncio.create_task(agent.run())
            await _until(lambda: agent.numbers.beats)
            for _ in range(3):
                agent.event("test.before")
        assert agent.numbers.beats_failed == 0
        agent.event("test.while_away")
        await _until(lambda: agent.numbers.beats_failed)
        async with bench(QUICK, prepared=True, port=port) as b:
            before = agent.numbers.beats

            async def there() -> bool:
                kept = await b.fetch("SELECT type FROM kiosk_event WHERE type LIKE 'test.%' ORDER BY seq")
                return [row["type"] for row in kept] == ["test.before"] * 3 + ["test.while_away"]

            await _until(there)
            await _until(lambda: agent.numbers.beats > before)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def test_commands_are_done_once_and_their_files_arrive(bench: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(QUICK) as b:
            _, pair = await b.kiosk()
            units = SimulatedUnits()
            hands = SimulatedHands(units, tmp_path)
            async with _running(_agent(b, pair, MemorySpool(), hands, units=units)):
                number = await _give(b, "log.pull", {"day": "2026-11-01"})

                async def done() -> bool:
                    return (await _state(b, number))[0] == "done"

                await _until(done)
                (upload,) = await b.fetch("SELECT id, state, kind FROM kiosk_upload")
                assert (upload["state"], upload["kind"]) == ("complete", "log")
                assert (await _state(b, number))[1]["upload"] == upload["id"]
                stop = await _give(b, "service.stop")

                async def stopped() -> bool:
                    return str(await b.value("SELECT mode FROM kiosk_status")) == "out_of_service"

                await _until(stopped)
                units.session = True
                shot = await _give(b, "screenshot")

                async def refused() -> bool:
                    return (await _state(b, shot)) == ("refused", {"code": "busy"})

                await _until(refused)
            assert [kind for kind, _ in hands.done] == ["log.pull", "service.stop"]
            assert (await _state(b, stop))[0] == "done"

    asyncio.run(story())


def test_replayed_forged_expired_and_foreign_commands_are_not_done(bench: Any) -> None:
    async def story() -> None:
        async with bench(QUICK) as b:
            _, pair = await b.kiosk()
            units = SimulatedUnits()
            hands = SimulatedHands(units)
            spool = MemorySpool()
            agent = _agent(b, pair, spool, hands, units=units)
            number = await _give(b, "time.sync")
            async with _running(agent):
                await _until(lambda: hands.done)
                (row,) = await b.fetch("SELECT * FROM kiosk_command WHERE id = $1", number)
            command = {
                "id": str(number),
                "kiosk": "K-1",
                "type": "time.sync",
                "args": {},
                "alg": "ed25519",
                "expires": orders.instant(row["expires_at"]),
                "sig": row["signature"].hex(),
            }
            now = datetime.datetime.now(datetime.UTC)
            public = b.authority.command_public

            def wrong(**changed: Any) -> str:
                parsed = read(command | changed)
                assert parsed is not None
                found = judge(parsed, "K-1", public, now)
                return "" if found is None else found.code

            assert wrong() == ""
            assert wrong(type="os.reboot") == "signature"
            assert wrong(id=str(number + 1)) == "signature"
            assert wrong(expires="2036-01-01T00:00:00Z") == "signature"
            assert wrong(sig="00" * 64) == "signature"
            assert wrong(alg="none") == "algorithm"
            assert read(command | {"id": "../1"}) is None and read([command]) is None

            def resigned(kiosk: str = "K-1", kind: str = "time.sync", args: Any = None, s: float = 60) -> str:
                expires = now + datetime.timedelta(seconds=s)
                data = orders.canonical(7, kiosk, kind, args or {}, expires)
                return wrong(
                    id="7",
                    kiosk=kiosk,
                    type=kind,
                    args=args or {},
                    expires=orders.instant(expires),
                    sig=b.authority.sign_command(data).hex(),
                )

            assert resigned() == ""
            assert resigned(kiosk="K-2") == "other_kiosk"
            assert resigned(kind="shell.run") == "unknown"
            assert resigned(kind="log.pull", args={"day": "../../etc/passwd"}) == "arguments"
            assert resigned(s=-1) == "expired"
            assert resigned(s=2 * 86400) == "expires_late"

            # Told again after a power cut, because the report was lost: it is not done again.
            await b.value("UPDATE kiosk_command SET state = 'delivered', finished_at = NULL")
            again = SimulatedHands(units)
            async with _running(_agent(b, pair, spool, again, units=units)) as restarted:
                await _until(lambda: restarted.numbers.beats > 1)
            assert again.done == []

    asyncio.run(story())


def test_what_was_interrupted_is_told_and_a_reboot_is_done_by_it(bench: Any, tmp_path: Path) -> None:
    class Dying(SimulatedHands):
        async def do(self, kind: str, args: Mapping[str, str]) -> Done:
            self.done.append((kind, dict(args)))
            await asyncio.sleep(3600)  # the power goes before this ends
            return Done("done")

    async def story() -> None:
        async with bench(QUICK) as b:
            _, pair = await b.kiosk()
            for kind, end in (
                ("os.reboot", ("done", {"restarted": True})),
                ("diag.run", ("failed", {"code": "interrupted"})),
            ):
                spool = FileSpool(tmp_path / "spool.db")
                units = SimulatedUnits()
                hands = Dying(units)
                number = await _give(b, kind)
                async with _running(_agent(b, pair, spool, hands, units=units)):
                    await _until(lambda: hands.done)  # noqa: B023 - waited for here
                spool.close()
                spool = FileSpool(tmp_path / "spool.db")
                hands = Dying(units)

                async def told(number: int = number, end: Any = end) -> bool:
                    return bool(await _state(b, number) == end)

                async with _running(_agent(b, pair, spool, hands, units=units)):
                    await _until(told)
                assert hands.done == []
                spool.close()

    asyncio.run(story())


def test_a_clock_that_is_days_off_changes_nothing_but_what_is_shown(bench: Any) -> None:
    class Wrong(SystemClock):
        def wall(self) -> datetime.datetime:
            return super().wall() - datetime.timedelta(days=2)

    async def story() -> None:
        async with bench(QUICK) as b:
            _, pair = await b.kiosk()
            hands = SimulatedHands(SimulatedUnits())
            await _give(b, "time.sync")
            async with _running(_agent(b, pair, MemorySpool(), hands, clock=Wrong())) as agent:
                await _until(lambda: hands.done)
                agent.event("test.event")
                await _until(lambda: agent.numbers.sent)
            assert abs(await b.value("SELECT skew_ms FROM kiosk_status") + 2 * 86_400_000) < 60_000

    asyncio.run(story())


def test_a_unit_that_changes_is_told_at_once(bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(agent_limits, "CHANGE_GAP_S", 0.1)

    async def story() -> None:
        async with bench(Pace(3000, 3000)) as b:
            _, pair = await b.kiosk()
            units = SimulatedUnits()
            async with _running(_agent(b, pair, MemorySpool(), units=units)) as agent:
                await _until(lambda: agent.numbers.beats)
                units.set("ptr.paper", "out")
                await _until(lambda: agent.numbers.beats > 1)
            assert (await b.value("SELECT units FROM kiosk_status"))["ptr.paper"] == "out"

    asyncio.run(story())


def test_one_event_that_cannot_be_read_does_not_hold_back_the_others(bench: Any) -> None:
    async def story() -> None:
        async with bench(QUICK) as b:
            _, pair = await b.kiosk()
            spool = MemorySpool()
            agent = _agent(b, pair, spool)
            for number in range(20):
                kind = "NOT A TYPE" if number == 7 else "test.event"
                agent.event(kind, detail={"number": number})
            async with _running(agent):
                await _until(lambda: not spool.waiting())
            rows = await b.fetch(
                "SELECT (detail ->> 'number')::integer AS n FROM kiosk_event WHERE type = 'test.event'"
            )
            assert sorted(row["n"] for row in rows) == [n for n in range(20) if n != 7]
            assert await b.value("SELECT detail ->> 'count' FROM kiosk_event WHERE type = 'events_lost'") == "1"

    asyncio.run(story())


def test_an_agent_does_not_speak_to_somebody_else(bench: Any) -> None:
    async def story() -> None:
        async with bench(QUICK) as b:
            _, pair = await b.kiosk()
            context = ssl.create_default_context()  # the public CAs; ours is not among them
            context.load_cert_chain(pair.file())
            wire = Wire(f"https://127.0.0.1:{b.listener.port}", context)
            with pytest.raises(Exception, match="certificate"):
                await wire.call("POST", "beat", {})

    asyncio.run(story())


def test_waits_grow_are_jittered_and_obey_the_service() -> None:
    back_off = BackOff(random.Random(1))
    waits = [back_off.wait_s() for _ in range(400)]
    assert max(waits[:1]) <= 1 and max(waits[:4]) <= 8
    late = waits[20:]
    assert max(late) <= agent_limits.BACK_OFF_MAX_S and max(late) > 250 and min(late) < 50
    assert back_off.wait_s(after_s=3000) == 3000
    back_off.clear()
    assert back_off.wait_s() <= agent_limits.BACK_OFF_S
