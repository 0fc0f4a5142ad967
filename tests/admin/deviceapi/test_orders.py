"""What kiosks are told, and what they send because of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from admin import limits
from admin.devices.trust import orders
from admin.errors import AdminError

from .conftest import EVERYWHERE, Bench, Pair, beat


async def _give(b: Bench, kiosk: int, kind: str = "time.sync", **more: Any) -> int:
    args, paths = more.pop("args", {}), more.pop("paths", EVERYWHERE)
    async with b.database.transaction() as connection:
        return await orders.give(connection, b.authority, paths, kiosk, kind, args, operator_id=1, **more)


async def _told(b: Bench, pair: Pair, seq: int) -> list[dict[str, Any]]:
    answer = await b.call("POST", "beat", beat(seq), pair=pair)
    commands: list[dict[str, Any]] = answer.body["commands"]
    return commands


def test_a_command_is_signed_told_until_it_is_reported_and_done_once(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk, pair = await b.kiosk()
            number = await _give(b, kiosk, "log.pull", args={"day": "2026-11-01"})
            (command,) = await _told(b, pair, 1)
            signed = {name: command[name] for name in ("args", "expires", "id", "kiosk", "type")}
            text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
            line = b"gridswitch device command v1\n" + text.encode()
            key = Ed25519PublicKey.from_public_bytes(b.authority.command_public)
            key.verify(bytes.fromhex(command["sig"]), line)
            with pytest.raises(InvalidSignature):
                key.verify(bytes.fromhex(command["sig"]), line.replace(b"11-01", b"11-02"))
            assert (command["id"], command["kiosk"], command["alg"]) == (str(number), "K-1", "ed25519")

            assert await _told(b, pair, 2) == [command], "the answer was lost: it is told again"
            path = f"commands/{number}"
            assert (await b.call("POST", path, {"state": "running"}, pair=pair)).body == {"state": "running"}
            beats = await b.call("POST", "beat", beat(3), pair=pair)
            assert beats.body["commands"] == [] and beats.body["next_s"] <= 18, "while it runs the kiosk beats faster"
            done = {"state": "done", "result": {"bytes": 17}}
            for _ in range(2):
                assert (await b.call("POST", path, done, pair=pair)).body == {"state": "done"}
            answer = await b.call("POST", path, {"state": "failed"}, pair=pair)
            assert (answer.status, answer.body["code"]) == (409, "E_STATE")
            (row,) = await b.fetch("SELECT state, result, risk FROM kiosk_command")
            assert row == {"state": "done", "result": {"bytes": 17}, "risk": "low"}
            assert (await b.call("POST", "beat", beat(4), pair=pair)).body["next_s"] >= 48

            _, other = await b.kiosk("K-2")
            assert (await b.call("POST", path, done, pair=other)).status == 404, "another kiosk's command"

    asyncio.run(story())


def test_an_expired_command_is_not_told_and_a_cancelled_one_neither(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk, pair = await b.kiosk()
            number = await _give(b, kiosk)
            cancelled = await _give(b, kiosk)
            async with b.database.transaction() as connection:
                await orders.cancel(connection, EVERYWHERE, cancelled)
            await b.value(
                "UPDATE kiosk_command SET created_at = now() - interval '3 hours', expires_at = now() - interval '1 s'"
                " WHERE id = $1",
                number,
            )
            await b.kiosk("K-2")
            assert await orders.expire(b.database) == {"expired": 1}, "also of a kiosk that never comes back"
            assert await _told(b, pair, 1) == []
            assert await b.value("SELECT state FROM kiosk_command WHERE id = $1", number) == "expired"
            late = await b.call("POST", f"commands/{number}", {"state": "done"}, pair=pair)
            assert late.status == 200, "it was done in time and told late"
            told = await b.call("POST", f"commands/{cancelled}", {"state": "done"}, pair=pair)
            assert told.status == 409

    asyncio.run(story())


def test_what_may_not_be_commanded_is_refused_by_name(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk, _ = await b.kiosk()
            fresh = await b.bare_kiosk("K-2")
            for code, asking in (
                ("command_kind", {"kind": "shell.run"}),
                ("command_args", {"kind": "log.pull"}),
                ("command_args", {"kind": "log.pull", "args": {"day": "../../etc"}}),
                ("command_args", {"kind": "time.sync", "args": {"to": "now"}}),
                ("command_reason", {"kind": "os.reboot"}),
                ("command_approval", {"kind": "key.signon", "reason": "keys are old"}),
                ("command_approval", {"kind": "factory.wipe", "reason": "sold"}),
                ("command_lifetime", {"kind": "time.sync", "lifetime_s": limits.COMMAND_S + 1}),
                ("kiosk", {"kind": "time.sync", "paths": ["/elsewhere/%"]}),
            ):
                with pytest.raises(AdminError) as caught:
                    await _give(b, kiosk, **asking)
                assert caught.value.code == code, asking
            with pytest.raises(AdminError, match="command_state"):
                await _give(b, fresh)
            for _ in range(limits.COMMANDS_OPEN_MAX):
                await _give(b, kiosk)
            with pytest.raises(AdminError, match="command_open"):
                await _give(b, kiosk)

    asyncio.run(story())


def test_a_retired_kiosk_is_told_to_wipe_itself_and_nothing_else(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk, pair = await b.kiosk()
            await _give(b, kiosk)
            approval = await b.value(
                "INSERT INTO approval (action, object_kind, object_id, object_version, payload, payload_sha256,"
                " summary, reason, org_id, maker_id, expires_at, checker_id, state) VALUES ('wipe', 'kiosk', '1', 1,"
                " '{}', sha256(''), '', 'sold', 1, 1, now() + interval '1 day', 2, 'consumed') RETURNING id"
            )
            await b.value("UPDATE kiosk SET state = 'retired'")
            number = await _give(b, kiosk, "factory.wipe", reason="sold", approval_id=approval)
            answer = await b.call("POST", "beat", beat(1), pair=pair)
            assert answer.status == 403
            assert [command["type"] for command in answer.body["commands"]] == ["factory.wipe"]
            assert (await b.call("POST", f"commands/{number}", {"state": "done"}, pair=pair)).status == 200
            assert (await b.call("POST", "uploads", {}, pair=pair)).status == 403

    asyncio.run(story())


async def _announce(b: Bench, pair: Pair, command: int, data: bytes, **more: Any) -> Any:
    digest = hashlib.sha256(data).hexdigest()
    body = {"command": str(command), "kind": "log", "size": len(data), "sha256": digest, **more}
    return await b.call("POST", "uploads", body, pair=pair)


async def _put(b: Bench, pair: Pair, upload: str, data: bytes, first: int, size: int) -> Any:
    headers = {"Content-Range": f"bytes {first}-{first + len(data) - 1}/{size}"}
    return await b.call("PUT", f"uploads/{upload}", data, pair=pair, headers=headers)


def test_an_upload_that_is_cut_at_every_part_goes_on_where_it_was(bench: Any) -> None:
    data = random.Random(8).randbytes(10_000)

    async def cut(b: Bench, pair: Pair, upload: str, at: int, length: int) -> None:
        """The connection ends in the middle of a part."""
        _, writer = await asyncio.open_connection("127.0.0.1", b.listener.port, ssl=b.context(pair))
        head = f"PUT /agent/v1/uploads/{upload} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        part = data[at : at + length]
        writer.write(f"{head}Content-Range: bytes {at}-{at + length - 1}/{len(data)}\r\n\r\n".encode() + part[:-1])
        await writer.drain()
        writer.close()

    async def story() -> None:
        async with bench() as b:
            kiosk, pair = await b.kiosk()
            command = await _give(b, kiosk, "log.pull", args={"day": "2026-11-01"})
            assert (await _announce(b, pair, command, data)).status == 409, "before the kiosk was told"
            await _told(b, pair, 1)
            made = await _announce(b, pair, command, data)
            upload = made.body["id"]
            assert made.body == {"id": upload, "received": 0, "state": "open"}
            at, steps = 0, (1, 999, 3000, 4096, len(data) - 8096)
            for step in steps:
                await cut(b, pair, upload, at, step)
                assert (await b.call("GET", f"uploads/{upload}", pair=pair)).body["received"] == at
                answer = await _put(b, pair, upload, data[at : at + step], at, len(data))
                at += step
                state = "complete" if at == len(data) else "open"
                assert answer.body == {"received": at, "state": state}
                if state == "open":
                    again = await _put(b, pair, upload, data[:step], 0, len(data))
                    assert (again.status, again.body["received"]) == (416, at), "a part that is here already"
                    assert (await _announce(b, pair, command, data)).body["received"] == at
            kept = Path(b.config.device_api.upload_folder) / str(kiosk) / upload
            assert kept.read_bytes() == data and kept.stat().st_mode & 0o077 == 0
            assert (await _put(b, pair, upload, b"x", 0, len(data))).status == 409

    asyncio.run(story())


def test_what_is_no_part_of_an_upload_is_refused(bench: Any) -> None:
    data = b"log" * 100

    async def story() -> None:
        async with bench() as b:
            kiosk, pair = await b.kiosk()
            _, other = await b.kiosk("K-2")
            command = await _give(b, kiosk, "log.pull", args={"day": "2026-11-01"})
            await _told(b, pair, 1)
            assert (await _announce(b, pair, command, data, kind="screenshot")).status == 409
            assert (await _announce(b, pair, command + 1, data)).status == 404
            assert (await _announce(b, other, command, data)).status == 404
            assert (await _announce(b, pair, command, data, size=limits.UPLOAD_MAX + 1)).status == 422
            upload = (await _announce(b, pair, command, data)).body["id"]
            assert (await _put(b, other, upload, data, 0, 300)).status == 404
            assert (await _put(b, pair, "0" * 32, data, 0, 300)).status == 404
            assert (await b.call("PUT", f"uploads/{'../' * 8}etc", data, pair=pair)).status == 404
            assert (await b.call("PUT", f"uploads/{upload}", data, pair=pair)).status == 422
            assert (await _put(b, pair, upload, data[:9], 1, 300)).status == 416
            assert (await _put(b, pair, upload, data[:9], 0, 299)).status == 422
            large = b"x" * (limits.UPLOAD_CHUNK_MAX + 1)
            assert (await _put(b, pair, upload, large, 0, 300)).status == 413
            # Other bytes than announced: seen at the end, and gone.
            answer = await _put(b, pair, upload, b"X" + data[1:], 0, 300)
            assert answer.body == {"received": 300, "state": "bad"}
            assert not (Path(b.config.device_api.upload_folder) / str(kiosk) / upload).exists()

    asyncio.run(story())
