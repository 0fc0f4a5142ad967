"""What kiosks say: beats, batches, and everything that is no such thing."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin import limits
from admin.deviceapi.beat import NEWS, REPEATED, RETURNED, Known, judge
from admin.deviceapi.http import DeviceError, inflate
from admin.deviceapi.store import Pace

from .conftest import Bench, Pair, beat, now_text


def _event(seq: int, **more: Any) -> dict[str, Any]:
    return {"seq": seq, "ts": now_text(), "type": "printer.paper_low", "unit": "ptr", "severity": "warning", **more}


async def _send(
    b: Bench, pair: Pair, first: int, seqs: list[int], boot: str = "boot-0001", kind: str = "events"
) -> Any:
    items = [
        _event(seq) if kind == "events" else {"seq": seq, "ts": now_text(), "seconds": 40, "outcome": "done"}
        for seq in seqs
    ]
    return await b.call("POST", kind, {"boot_id": boot, "first": first, "items": items}, pair=pair)


def test_a_beat_becomes_the_kiosks_status_and_the_hours_sums(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk, pair = await b.kiosk()
            said = beat(
                1,
                app="3.4.1",
                dev={"idc": "online", "ptr.paper": "low", "door": "closed", "ptr.colour": "red", "lamp": "on"},
                cnt={"sessions": 800, "txn_ok": 600},
                res={"cpu": 23, "mem": 61, "disk_mb": 18233, "rtt_ms": 38},
                switch={"signed_on": True, "last_echo_s": 12, "last_rc": "00"},
                new_word={"a": [1, {"b": 2}]},
            )
            answer = await b.call("POST", "beat", said, pair=pair)
            assert answer.status == 200 and answer.body["commands"] == [] and answer.body["events_ack"] == 0
            assert 48 <= answer.body["next_s"] <= 72
            more = said | {"seq": 2, "cnt": {"sessions": 812, "txn_ok": 603}, "res": {"cpu": 25, "rtt_ms": 60}}
            await b.call("POST", "beat", gzip.compress(json.dumps(more).encode()), pair=pair, headers=_GZIP)
            (status,) = await b.fetch("SELECT * FROM kiosk_status WHERE kiosk_id = $1", kiosk)
            assert status["units"] == {"idc": "online", "ptr.paper": "low", "door": "closed"}, (
                "unknown words are left out"
            )
            assert (status["seq"], status["mode"], status["app"]) == (2, "in_service", "3.4.1")
            assert status["switch_said"]["signed_on"] is True and status["resources"]["cpu"] == 25
            assert abs(status["skew_ms"]) < 60_000 and status["session_at"] is not None
            (hour,) = await b.fetch(
                "SELECT sum(beats) AS beats, sum(sessions) AS sessions, sum(txn_ok) AS ok,"
                " sum(cpu_sum) AS cpu, max(rtt_max_ms) AS rtt FROM telemetry_hour"
            )
            assert (hour["beats"], hour["sessions"], hour["ok"], hour["cpu"], hour["rtt"]) == (2, 12, 3, 48, 60)

    asyncio.run(story())


_GZIP = {"Content-Encoding": "gzip"}


def test_lost_late_and_repeated_beats_and_a_wrong_clock_change_no_order(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()

            async def say(seq: int, sessions: int, boot: str, ts: str = "") -> None:
                said = beat(seq, boot, cnt={"sessions": sessions}) | ({"ts": ts} if ts else {})
                assert (await b.call("POST", "beat", said, pair=pair)).status == 200

            await say(1, 10, "boot-0001", "2031-01-01T00:00:00Z")
            await say(9, 25, "boot-0001")  # seven were lost: nothing of what they counted is
            await say(4, 12, "boot-0001")  # late
            await say(9, 25, "boot-0001")  # repeated
            await say(1, 30, "boot-0002", "2001-01-01T00:00:00Z")  # after a reboot the clock is at its beginning
            await say(2, 3, "boot-0002", "0001-01-01T00:00:00+14:00")  # installed anew: counts from zero
            (status,) = await b.fetch("SELECT boot_id, seq, counters, skew_ms FROM kiosk_status")
            assert (status["boot_id"], status["seq"], status["counters"]) == ("boot-0002", 2, {"sessions": 3})
            assert status["skew_ms"] == -limits.SKEW_MAX_MS
            assert await b.value("SELECT sum(sessions) FROM telemetry_hour") == 15 + 5 + 3
            assert await b.value("SELECT sum(beats) FROM telemetry_hour") == 4
            assert [row["type"] for row in await b.fetch("SELECT type FROM kiosk_event")] == ["counters_reset"]

    asyncio.run(story())


def test_two_machines_with_one_key_are_suspected(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()

            async def say(seq: int, boot: str, source: str = "127.0.0.1") -> None:
                assert (await b.call("POST", "beat", beat(seq, boot), pair=pair, source=source)).status == 200

            async def told() -> list[str]:
                rows = await b.fetch("SELECT detail ->> 'how' AS how FROM kiosk_event WHERE type = 'clone_suspected'")
                return sorted(row["how"] for row in rows)

            await say(1, "boot-0001")
            await say(2, "boot-0001", "127.0.0.2")  # a new address alone is a new modem
            await say(1, "boot-0002")  # and a new boot alone a reboot
            assert await told() == []
            await say(3, "boot-0001", "127.0.0.2")
            assert await told() == ["two_boots"]
            await say(4, "boot-0001", "127.0.0.2")
            assert await told() == ["two_boots"], "told again within the hour"
            await say(1, "boot-0002", "127.0.0.3")
            assert await told() == ["one_memory", "two_boots"]
            assert await b.value("SELECT boot_id FROM kiosk_status") == "boot-0002"

    asyncio.run(story())


def test_batches_are_kept_once_whatever_is_lost_or_sent_again(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()
            assert (await _send(b, pair, 1, [1, 2, 3])).body == {"ack": 3}
            assert (await _send(b, pair, 1, [1, 2, 3])).body == {"ack": 3}, "the answer was lost, it was sent again"
            assert (await _send(b, pair, 4, [5, 6])).body == {"ack": 3}, "4 is missing"
            assert (await _send(b, pair, 4, [4])).body == {"ack": 6}
            # The kiosk's disk was full: 7 to 9 are gone, but 8 had come.
            assert (await _send(b, pair, 7, [8])).body == {"ack": 6}
            assert (await _send(b, pair, 10, [10])).body == {"ack": 10}
            (lost,) = await b.fetch("SELECT detail FROM kiosk_event WHERE type = 'events_lost'")
            assert lost["detail"] == {"boot": "boot-0001", "from": 7, "to": 9, "count": 2}
            # Another boot counts on its own; sessions too.
            assert (await _send(b, pair, 1, [1], "boot-0002")).body == {"ack": 1}
            assert (await _send(b, pair, 1, [1, 2], kind="sessions")).body == {"ack": 2}
            assert (await b.call("POST", "beat", beat(1), pair=pair)).body["events_ack"] == 10
            kept = await b.fetch("SELECT boot_id, seq FROM kiosk_event WHERE seq IS NOT NULL ORDER BY boot_id, seq")
            assert [row["seq"] for row in kept] == [1, 2, 3, 4, 5, 6, 8, 10, 1]
            ahead = await _send(b, pair, 11, [11 + limits.AHEAD_MAX])
            assert (ahead.status, ahead.body["code"], ahead.body["ack"]) == (409, "E_AHEAD", 10)
            assert (await _send(b, pair, 12, [11])).status == 422
            assert (await _send(b, pair, 11, list(range(11, 12 + limits.BATCH_MAX)))).status == 422

    asyncio.run(story())


def test_two_batches_at_once_are_kept_once(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()
            answers = await asyncio.gather(*(_send(b, pair, 1, list(range(1, 101))) for _ in range(4)))
            assert [answer.body for answer in answers] == [{"ack": 100}] * 4
            assert await b.value("SELECT count(*) FROM kiosk_event") == 100

    asyncio.run(story())


def test_what_is_no_beat_is_refused_with_the_place(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()
            good = json.dumps(beat(1)).encode()
            big = b" " * (limits.DEVICE_BODY_MAX + 1)
            for body, status, code, headers in (
                (b"", 422, "E_BODY", {}),
                (b"\xff\xfe", 422, "E_BODY", {}),
                (json.dumps(beat(0)).encode(), 422, "E_BODY", {}),
                (json.dumps(beat(1) | {"ts": "yesterday"}).encode(), 422, "E_BODY", {}),
                (json.dumps(beat(1) | {"ts": "2026-01-01T00:00:00"}).encode(), 422, "E_BODY", {}),
                (json.dumps(beat(1) | {"app": "a\0b"}).encode(), 422, "E_BODY", {}),
                (good.replace(b'"seq": 1', b'"seq": 1e400'), 422, "E_BODY", {}),
                (good.replace(b'"in_service"', b'"\\ud800"'), 422, "E_BODY", {}),
                (b'{"x":' + b"[" * 100_000, 422, "E_BODY", {}),
                (good + big, 413, "E_SIZE", {}),
                (gzip.compress(good + big * 30), 413, "E_SIZE", _GZIP),
                (gzip.compress(good)[:-9], 400, "E_GZIP", _GZIP),
                (good, 400, "E_GZIP", _GZIP),
                (good, 415, "E_ENCODING", {"Content-Encoding": "br"}),
            ):
                answer = await b.call("POST", "beat", body, pair=pair, headers=headers)
                assert (answer.status, answer.body["code"]) == (status, code), body[:80]
            answer = await b.call("POST", "beat", beat(1, dev={"idc": 7}), pair=pair)
            assert "$.dev[...]" in answer.body["msg"]
            assert (await b.call("DELETE", "beat", pair=pair)).status == 404
            assert await b.value("SELECT count(*) FROM kiosk_boot") == 0

    asyncio.run(story())


def test_a_bomb_is_not_inflated_whole() -> None:
    bomb = gzip.compress(bytes(64 * limits.DEVICE_BODY_MAX))
    assert len(bomb) < limits.DEVICE_BODY_MAX
    tracemalloc.start()
    try:
        with pytest.raises(DeviceError, match="when inflated"):
            inflate(bomb, b"gzip", limits.DEVICE_BODY_MAX)
        assert tracemalloc.get_traced_memory()[1] < 8 * limits.DEVICE_BODY_MAX
    finally:
        tracemalloc.stop()


def test_a_kiosk_that_storms_is_slowed_down_alone(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, storming = await b.kiosk("K-1")
            _, calm = await b.kiosk("K-2")
            context = b.context(storming)
            reader, writer = await asyncio.open_connection("127.0.0.1", b.listener.port, ssl=context)
            body = json.dumps(beat(1)).encode()
            head = f"POST /agent/v1/beat HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            writer.write((head + body) * (3 * limits.DEVICE_BURST))
            seen = b""
            while b"E_RATE" not in seen:
                seen = seen[-200:] + await asyncio.wait_for(reader.read(65536), 60)
            assert (await b.call("POST", "beat", beat(1), pair=calm)).status == 200
            writer.close()

    asyncio.run(story())


def test_whoever_says_nothing_or_never_ends_is_hung_up_on(bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "DEVICE_HEAD_S", 0.3)
    monkeypatch.setattr(limits, "DEVICE_BODY_S", 0.3)

    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()

            async def ended(said: bytes) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", b.listener.port, ssl=b.context(pair))
                writer.write(said)
                try:
                    return await asyncio.wait_for(reader.read(), 60)
                except TimeoutError:
                    raise  # it is an OSError too, but says that nobody hung up
                except OSError:
                    return b""
                finally:
                    writer.close()

            assert await ended(b"") == b""
            assert await ended(b"POST /agent/v1/beat HTTP/1.1\r\nHost: x\r\n") == b""
            with monkeypatch.context() as patient:
                patient.setattr(limits, "DEVICE_HEAD_S", 3600.0)
                assert await ended(b"GET / HTTP/1.1\r\nX: " + b"x" * limits.DEVICE_HEAD_MAX + b"x") == b""
            slow = await ended(b"POST /agent/v1/beat HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            assert b"408" in slow and b"E_SLOW" in slow
            assert (await b.call("POST", "beat", beat(1), pair=pair)).status == 200

    asyncio.run(story())


def test_the_listener_starts_again_where_it_was(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()
            await b.call("POST", "beat", beat(1, cnt={"sessions": 5}), pair=pair)
            await _send(b, pair, 1, [1, 2])
        async with bench(prepared=True) as b:
            answer = await b.call("POST", "beat", beat(2, cnt={"sessions": 9}), pair=pair)
            assert answer.body["events_ack"] == 2
            assert await b.value("SELECT sum(sessions) FROM telemetry_hour") == 4

    asyncio.run(story())


def test_the_pace_is_jittered_and_faster_while_a_command_runs() -> None:
    pace = Pace(60, 15)
    calm, busy = [pace.next_s(busy=False) for _ in range(200)], [pace.next_s(busy=True) for _ in range(200)]
    assert 48 <= min(calm) < 55 and 65 < max(calm) <= 72
    assert min(busy) >= 12 and max(busy) <= 18


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 50)), max_size=40))
def test_no_beat_is_counted_twice_and_the_latest_boot_only_goes_forward(said: list[tuple[int, int, int]]) -> None:
    """Whatever order beats come in: news of a boot never goes back, and an earlier boot is never news."""
    boots: dict[int, tuple[int, int]] = {}
    latest, counters = 0, {"sessions": 0}
    for boot, seq, sessions in said:
        ordinal, last = boots.get(boot, (None, 0))
        verdict = judge(Known(latest, "a", counters, ordinal, last, "a", 0), seq, "a", {"sessions": sessions})
        if verdict.kind == NEWS:
            assert ordinal is None or (ordinal == latest and seq > last)
            assert verdict.ordinal == (latest + 1 if ordinal is None else ordinal)
            grown = verdict.grown.get("sessions", 0)
            assert grown == (sessions - counters["sessions"] if sessions >= counters["sessions"] else sessions)
            latest, counters = verdict.ordinal, {"sessions": sessions}
            boots[boot] = (verdict.ordinal, seq)
        else:
            assert verdict.grown == {} and ordinal is not None
            assert verdict.kind == (RETURNED if ordinal < latest and seq > last else REPEATED)
