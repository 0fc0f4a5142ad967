"""Beats, batches and commands in the database: one transaction each."""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from admin import limits
from admin.db.pool import Connection
from admin.db.queries import statements
from admin.deviceapi import beat as rules
from admin.deviceapi.http import DeviceError
from admin.deviceapi.messages import COUNTERS, Beat, EventBatch, Report, SessionBatch, known_units
from admin.devices.trust.orders import instant

_QUERY = statements(__file__)
_FINAL: Final = ("done", "failed", "refused")


@dataclass(frozen=True)
class Kiosk:
    """Who speaks: found by the key of its certificate."""

    id: int
    code: str
    state: str
    org_path: str
    digest: bytes  # of the key


async def who(connection: Connection, digest: bytes) -> Kiosk:
    """Raises DeviceError: 401 ``E_UNKNOWN``; 403 ``E_REVOKED``, ``E_SUPERSEDED``."""
    row = await connection.fetchrow(_QUERY["who"], digest)
    if row is None:
        raise DeviceError(401, "E_UNKNOWN", "nobody knows this key: enrol")
    if row["certificate"] == "revoked":
        raise DeviceError(403, "E_REVOKED", "this key was revoked")
    if row["certificate"] == "superseded":
        raise DeviceError(403, "E_SUPERSEDED", "another key was approved for this kiosk")
    return Kiosk(row["kiosk_id"], row["code"], row["state"], row["path"], digest)


@dataclass(frozen=True)
class Pace:
    """Seconds between beats: usually, and while a command runs."""

    beat_s: float = limits.BEAT_S
    busy_s: float = limits.BEAT_BUSY_S

    def next_s(self, *, busy: bool) -> float:
        period = self.busy_s if busy else self.beat_s
        return round(period * random.uniform(1 - limits.BEAT_JITTER, 1 + limits.BEAT_JITTER), 1)  # noqa: S311 - jitter


async def take_beat(
    connection: Connection, kiosk: Kiosk, beat: Beat, address: str, now: datetime.datetime, pace: Pace
) -> dict[str, Any]:
    """Book a beat; the answer to it."""
    row = await connection.fetchrow(_QUERY["beat_read"], kiosk.id, beat.boot_id)
    if row is None:
        await connection.execute(_QUERY["status_make"], kiosk.id)
        row = await connection.fetchrow(_QUERY["beat_read"], kiosk.id, beat.boot_id)
    known = rules.Known(
        *(row["latest"], row["latest_address"], row["counters"], row["ordinal"]),
        *(row["last_seq"], row["address"], row["returned"]),
    )
    verdict = rules.judge(known, beat.seq, address, beat.cnt)
    if verdict.kind == rules.NEWS:
        await _write(connection, kiosk, beat, address, now, verdict)
    elif verdict.kind == rules.RETURNED:
        await connection.execute(_QUERY["boot_returned"], kiosk.id, beat.boot_id, beat.seq)
    for kind, severity, detail in verdict.events:
        await connection.execute(_QUERY["event_ours"], kiosk.id, kind, severity, detail)
    if verdict.suspicious:
        detail = {"how": verdict.suspicious, "address": address, "other": row["latest_address"] or row["address"]}
        await suspect_clone(connection, kiosk.id, detail)
    commands = await offer(connection, kiosk) if row["commands"] else []
    return {
        "server_time": _millis(now),
        "next_s": pace.next_s(busy=bool(row["commands"])),
        "events_ack": row["events_ack"],
        "sessions_ack": row["sessions_ack"],
        "commands": commands,
    }


async def suspect_clone(connection: Connection, kiosk_id: int, detail: dict[str, Any]) -> None:
    """Tell once an hour that two machines seem to be one kiosk."""
    await connection.execute(_QUERY["event_clone"], kiosk_id, detail, limits.CLONE_EVENT_S)


async def _write(
    connection: Connection, kiosk: Kiosk, beat: Beat, address: str, now: datetime.datetime, verdict: rules.Verdict
) -> None:
    more = {"up_s": beat.up_s, "backlog": beat.backlog, "ui": beat.ui, "cfg": beat.cfg, "content": beat.content}
    resources = beat.res
    await connection.execute(
        _QUERY["beat_write"],
        *(kiosk.id, beat.boot_id, verdict.ordinal, beat.seq, address, beat.app, beat.agent, beat.mode),
        *(msgspec.to_builtins(beat.busy), msgspec.to_builtins(beat.switch), known_units(beat.dev), beat.cnt),
        *({**msgspec.to_builtins(resources), **more}, rules.skew_ms(beat.ts, now), int(beat.mode == "in_service")),
        *(verdict.grown.get(name, 0) for name in COUNTERS),
        *(resources.cpu, resources.mem, resources.rtt_ms, resources.disk_mb, resources.temp),
    )


# ---------------------------------------------------------------------------------------------------- batches
async def take_batch(connection: Connection, kiosk: Kiosk, batch: EventBatch | SessionBatch) -> dict[str, Any]:
    """Keep what is new of a batch; up to where all is here.

    Raises:
        DeviceError: 422: ``first`` is above an item. 409 ``E_AHEAD``: the oldest must come first; says the ack.
    """
    stream = "events" if isinstance(batch, EventBatch) else "sessions"
    if any(item.seq < batch.first for item in batch.items):
        raise DeviceError(422, "E_BODY", "first: is above the number of an item - at `$.first`")
    await connection.execute(_QUERY["boot_hear"], kiosk.id, batch.boot_id)
    ack = await connection.fetchval(_QUERY[f"{stream}_lock"], kiosk.id, batch.boot_id)
    whole = max(ack, batch.first - 1)
    if any(item.seq > whole + limits.AHEAD_MAX for item in batch.items):
        raise DeviceError(409, "E_AHEAD", "send the oldest first", ack=ack)
    if whole > ack:
        lost = await connection.fetchval(_QUERY[f"{stream}_lost"], kiosk.id, batch.boot_id, ack + 1, whole)
        if lost:
            detail = {"boot": batch.boot_id, "from": ack + 1, "to": whole, "count": lost}
            await connection.execute(_QUERY["event_ours"], kiosk.id, f"{stream}_lost", "warning", detail)
    if batch.items:
        await connection.execute(
            _QUERY[f"{stream}_add"], kiosk.id, batch.boot_id, [_plain(item) for item in batch.items]
        )
    ack = await connection.fetchval(_QUERY[f"{stream}_ack"], kiosk.id, batch.boot_id, whole)
    return {"ack": ack}


def _plain(item: Any) -> dict[str, Any]:
    return {**msgspec.to_builtins(item), "ts": rules.sane(item.ts).isoformat()}


# ---------------------------------------------------------------------------------------------------- commands
async def offer(connection: Connection, kiosk: Kiosk, types: list[str] | None = None) -> list[dict[str, Any]]:
    """Commands for an answer, as signed. They are told again until the kiosk reports: it does each once."""
    await connection.execute(_QUERY["commands_expire"], kiosk.id)
    rows = await connection.fetch(_QUERY["commands_offer"], kiosk.id, limits.COMMANDS_A_BEAT, types)
    return [
        {
            "id": str(row["id"]),
            "kiosk": kiosk.code,
            "type": row["type"],
            "args": row["args"],
            "expires": instant(row["expires_at"]),
            "alg": row["alg"],
            "sig": row["signature"].hex(),
        }
        for row in rows
    ]


async def take_report(connection: Connection, kiosk: Kiosk, command_id: int, report: Report) -> dict[str, Any]:
    """What became of a command. Said twice, it counts once; what is over stays as it is.

    Raises:
        DeviceError: 404 ``E_COMMAND``: not this kiosk's. 409 ``E_STATE``: it is over, otherwise.
    """
    row = await connection.fetchrow(_QUERY["command_lock"], kiosk.id, command_id)
    if row is None:
        raise DeviceError(404, "E_COMMAND", "this kiosk has no such command")
    state = row["state"]
    if state in _FINAL and (state, row["result"]) == (report.state, report.result):
        return {"state": state}
    # expired: the kiosk did it in time and could not say so until now. That it was done is the truth.
    if state not in ("delivered", "running", "expired"):
        raise DeviceError(409, "E_STATE", f"this command is {state}", state=state)
    await connection.execute(_QUERY["command_report"], kiosk.id, command_id, report.state, report.result)
    return {"state": report.state}


def _millis(now: datetime.datetime) -> str:
    return now.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
