"""The audit log: who did what, in the same transaction as the act, in a chain of hashes.

    chain = SHA256("AUDIT1" 00 | chain before | seq, 8 bytes | SHA256(record))     first: SHA256("AUDIT1-GENESIS")

``record`` is canonical JSON: keys sorted, no blanks, UTF-8. One writer at a time: a lock of the transaction. What was
changed, removed or put in another order breaks the chain; a chain made anew from some row on breaks the anchors, which
are told to a place outside of the database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from admin.auth.permissions import Access
from admin.db.pool import Connection
from admin.db.queries import statements

GENESIS: Final = hashlib.sha256(b"AUDIT1-GENESIS").digest()
_LOCK: Final = 0x6772_6964_0003
_QUERY = statements(__file__)


def canonical(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def link(before: bytes, seq: int, record: str) -> bytes:
    inner = hashlib.sha256(record.encode()).digest()
    return hashlib.sha256(b"AUDIT1\0" + before + seq.to_bytes(8, "big") + inner).digest()


async def audit(
    connection: Connection,
    who: Access | str,
    action: str,
    object_kind: str = "",
    object_id: object = "",
    *,
    org_path: str = "/",
    result: str = "ok",
    reason: str = "",
    address: str = "",
    **detail: Any,
) -> int:
    """Append one row; call it inside the transaction of the act. Returns its number.

    Args:
        who: The person, or "kiosk:CODE", "system", "cli:NAME".
        detail: What changed, before and after; never a secret or a full account number.
    """
    actor = who if isinstance(who, str) else who.actor
    address = address or ("" if isinstance(who, str) else who.address)
    await connection.execute(_QUERY["audit_lock"], _LOCK)
    last = await connection.fetchrow(_QUERY["audit_last"])
    seq, before = (last["seq"] + 1, last["chain"]) if last else (1, GENESIS)
    at: datetime = await connection.fetchval(_QUERY["audit_now"])
    record = canonical(
        {
            "at": _utc(at),
            "actor": actor,
            "address": address,
            "action": action,
            "object_kind": object_kind,
            "object_id": str(object_id),
            "org_path": org_path,
            "result": result,
            "reason": reason,
            "detail": detail,
        }
    )
    await connection.execute(
        _QUERY["audit_add"],
        *(seq, at, actor, address, action, object_kind, str(object_id), org_path, result, reason),
        *(detail, record, link(before, seq, record)),
    )
    return seq


def _utc(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk over the chain found; ``wrong`` None: every row fits."""

    rows: int
    wrong: int | None
    why: str
    last: bytes


async def verify(connection: Connection) -> Verified:
    """Walk over the whole chain and the anchors."""
    before, expected, seq = GENESIS, 1, 0
    anchors = {row["last_seq"]: row["chain"] for row in await connection.fetch(_QUERY["anchor_list"])}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        async for row in connection.cursor(_QUERY["audit_walk"], prefetch=1000):
            seq = row["seq"]
            if seq != expected:
                return Verified(expected - 1, expected, "缺少这一行", before)
            if canonical(_record(row)) != row["record"]:
                return Verified(expected - 1, seq, "内容与签名的记录不符", before)
            before = link(before, seq, row["record"])
            if before != row["chain"]:
                return Verified(expected - 1, seq, "哈希链断开", before)
            if anchors.get(seq, before) != before:
                return Verified(expected - 1, seq, "与已公布的锚点不符", before)
            expected += 1
    if anchors and max(anchors) > seq:
        return Verified(seq, max(anchors), "锚点之后的行被截掉", before)
    return Verified(seq, None, "", before)


def _record(row: Any) -> dict[str, Any]:
    names = ("actor", "address", "action", "object_kind", "object_id", "org_path", "result", "reason", "detail")
    return {"at": _utc(row["at"]), **{name: row[name] for name in names}}


async def anchor(connection: Connection, told_to: str) -> tuple[int, bytes] | None:
    """Note today's last link; None: there is nothing new. Whoever calls tells it outside first."""
    last = await connection.fetchrow(_QUERY["audit_last"])
    if last is None:
        return None
    added = await connection.fetchval(_QUERY["anchor_add"], last["seq"], last["chain"], told_to)
    return (last["seq"], last["chain"]) if added else None
