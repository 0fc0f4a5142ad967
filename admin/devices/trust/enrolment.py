"""How a kiosk gets its certificate: a code, a request, and a second person who compares the key's fingerprint.

    operator A   issue_code      registered kiosk                    -> a code for 24 hours, shown once
    engineer     types it        the kiosk makes its key and asks    -> certificate request "pending"
    operator B   approve         compares the fingerprint on the screen with the page
    kiosk        asks again                                          -> certificate, "active"

Whoever issued the code cannot approve; the database holds the same rule. The functions of pages work inside of the
caller's transaction, where the page audits; ``ask`` is the kiosk's and audits itself (deviceapi).
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from admin import limits
from admin.db.pool import Connection
from admin.db.queries import statements
from admin.devices.trust.authority import Authority, RequestError, fingerprint, read_request, spki_sha256
from admin.errors import NotFoundError, StateError

_QUERY = statements(__file__)


class RefusedError(Exception):
    """An enrolment that is refused.

    Attributes:
        why: For the audit log: ``serial``, ``code``, ``code_expired``, ``code_used``, ``request``, ``key``,
            ``retired``.
        text: For the engineer. A wrong serial and a wrong code read the same: nobody finds serials by trying.
    """

    def __init__(self, why: str, text: str, *, kiosk_id: int | None = None, org_path: str = "/") -> None:
        super().__init__(f"{text} [{why}]")
        self.why = why
        self.text = text
        self.kiosk_id = kiosk_id
        self.org_path = org_path


@dataclass(frozen=True)
class Asked:
    """A pending request: the token to ask again with, and what the kiosk's screen shows."""

    certificate_id: int
    kiosk_id: int
    kiosk_code: str
    org_path: str
    poll_token: str
    fingerprint: str
    second_key: bool  # the kiosk has another key already: a new board, or a clone


# ---------------------------------------------------------------------------------------------------- pages
async def issue_code(connection: Connection, paths: Sequence[str], kiosk_id: int, operator_id: int) -> str:
    """A new code, ``ABCD-EFGH-JKLM-NPQR``, shown this once; an older one of the kiosk no longer works.

    Raises:
        NotFoundError: ``kiosk``. StateError: ``kiosk_retired``.
    """
    state = await connection.fetchval(_QUERY["kiosk_lock"], list(paths), kiosk_id)
    if state is None:
        raise NotFoundError("kiosk", "没有这台终端")
    if state == "retired":
        raise StateError("kiosk_retired", "终端已退役，不能再入网")
    code = base64.b32encode(secrets.token_bytes(limits.ENROLMENT_CODE_BYTES)).decode()
    await connection.execute(_QUERY["code_void"], kiosk_id)
    await connection.execute(_QUERY["code_add"], kiosk_id, _code_digest(code), operator_id, limits.ENROLMENT_CODE_S)
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


async def approve(
    connection: Connection, authority: Authority, paths: Sequence[str], certificate_id: int, operator_id: int
) -> None:
    """The second person compared the fingerprint: sign the request. Another key of this kiosk ends with it.

    Raises:
        NotFoundError: ``request``. StateError: ``request_gone``: no longer pending; ``same_person``.
    """
    row = await _pending(connection, paths, certificate_id)
    if row["issued_by"] == operator_id:
        raise StateError("same_person", "发放入网码的人不能批准", hint="请另一位有权限的人比对指纹并批准")
    public = x509.load_der_x509_csr(row["request"]).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    now = datetime.datetime.now(datetime.UTC)
    issued = await asyncio.to_thread(authority.issue, public, row["code"], now)
    await connection.execute(_QUERY["certificate_supersede"], row["kiosk_id"], operator_id, "another key was approved")
    await connection.execute(
        _QUERY["certificate_approve"],
        certificate_id,
        issued.der,
        issued.serial,
        issued.not_before,
        issued.not_after,
        operator_id,
    )
    await connection.execute(_QUERY["kiosk_advance"], row["kiosk_id"], "pending", "commissioning")


async def refuse(connection: Connection, paths: Sequence[str], certificate_id: int, operator_id: int, why: str) -> None:
    """The fingerprints differ, or nobody knows of it. Raises NotFoundError ``request``, StateError ``request_gone``."""
    row = await _pending(connection, paths, certificate_id)
    await connection.execute(_QUERY["certificate_refuse"], row["id"], operator_id, why)


async def revoke(connection: Connection, paths: Sequence[str], kiosk_id: int, operator_id: int, why: str) -> None:
    """The kiosk's key no longer works, at once. Raises NotFoundError ``certificate``: there is none that works."""
    if await connection.fetchval(_QUERY["certificate_revoke"], list(paths), kiosk_id, operator_id, why) is None:
        raise NotFoundError("certificate", "这台终端没有有效证书")


# ---------------------------------------------------------------------------------------------------- kiosks
async def ask(connection: Connection, serial_number: str, code: str, request_pem: str, address: str) -> Asked:
    """A kiosk's request with its code. One transaction: what is refused changes nothing, so the code still works.

    Raises:
        RefusedError: Why, for the audit log.
    """
    kiosk = await connection.fetchrow(_QUERY["kiosk_by_serial"], serial_number)
    if kiosk is None:
        raise RefusedError("serial", _UNKNOWN)
    kiosk_id = kiosk["id"]

    def refused(why: str, text: str) -> RefusedError:
        return RefusedError(why, text, kiosk_id=kiosk_id, org_path=kiosk["path"])

    if kiosk["state"] == "retired":
        raise refused("retired", "this kiosk is retired")
    found = await connection.fetchrow(_QUERY["code_find"], kiosk_id, _code_digest(code))
    if found is None or found["void"]:
        raise refused("code", _UNKNOWN)
    if found["used"]:
        raise refused("code_used", "this code was used; ask for a new one")
    if found["expired"]:
        raise refused("code_expired", "this code has expired; ask for a new one")
    try:
        request, public = read_request(request_pem)
    except RequestError as error:
        raise refused("request", str(error)) from None
    digest = spki_sha256(public)
    if await connection.fetchval(_QUERY["key_elsewhere"], digest, kiosk_id):
        raise refused("key", "this key is revoked or another kiosk's; make a new one")
    second_key = bool(await connection.fetchval(_QUERY["key_second"], kiosk_id, digest))
    token = secrets.token_urlsafe(limits.POLL_TOKEN_BYTES)
    await connection.execute(_QUERY["code_use"], found["id"])
    await connection.execute(_QUERY["certificate_replace_pending"], kiosk_id)
    certificate_id = await connection.fetchval(
        _QUERY["certificate_ask"], kiosk_id, digest, request, found["id"], found["issued_by"], _digest(token), address
    )
    await connection.execute(_QUERY["actor"], f"kiosk:{kiosk['code']}")
    await connection.execute(_QUERY["kiosk_advance"], kiosk_id, "registered", "pending")
    return Asked(certificate_id, kiosk_id, kiosk["code"], kiosk["path"], token, fingerprint(digest), second_key)


@dataclass(frozen=True)
class Answer:
    """``pending``, ``active`` with a certificate (DER), ``refused`` or ``ended``."""

    state: str
    kiosk_code: str
    certificate: bytes


async def poll(connection: Connection, token: str) -> Answer | None:
    """What became of the request with this token; None: nobody has it."""
    row = await connection.fetchrow(_QUERY["certificate_poll"], _digest(token))
    if row is None:
        return None
    state = row["state"] if row["state"] in ("pending", "active", "refused") else "ended"
    return Answer(state, row["code"], row["certificate"] if state == "active" else b"")


async def renew(
    connection: Connection, authority: Authority, kiosk_id: int, org_path: str, digest: bytes, request_pem: str
) -> bytes:
    """A new certificate for the same key; DER.

    Raises:
        RefusedError: ``request``; ``key``: another key than the one in use, which only enrolment brings.
        StateError: ``renew_early``.
    """
    try:
        request, public = read_request(request_pem)
    except RequestError as error:
        raise RefusedError("request", str(error), kiosk_id=kiosk_id, org_path=org_path) from None
    if spki_sha256(public) != digest:
        raise RefusedError(
            "key", "a renewal keeps the key; another key needs an enrolment code", kiosk_id=kiosk_id, org_path=org_path
        )
    current = await connection.fetchrow(_QUERY["certificate_current"], kiosk_id, digest)
    if current is None:
        raise RefusedError("key", "this key was replaced meanwhile", kiosk_id=kiosk_id, org_path=org_path)
    now = datetime.datetime.now(datetime.UTC)
    if current["not_after"] - now > datetime.timedelta(days=limits.RENEW_BEFORE_DAYS):
        raise StateError("renew_early", "证书未到更新时间")
    issued = await asyncio.to_thread(authority.issue, public, current["code"], now)
    await connection.execute(_QUERY["certificate_supersede"], kiosk_id, None, "renewed")
    await connection.execute(
        _QUERY["certificate_renewed"],
        *(kiosk_id, digest, request, issued.der, issued.serial, issued.not_before, issued.not_after),
    )
    return issued.der


# ---------------------------------------------------------------------------------------------------- parts
_UNKNOWN: Final = "serial number and code do not belong together"


def _code_digest(code: str) -> bytes:
    """Of 80 random bits: no salt and no slow hash can add to them. People may leave out dashes and capitals."""
    return _digest(code.replace("-", "").replace(" ", "").upper())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def _pending(connection: Connection, paths: Sequence[str], certificate_id: int) -> Any:
    row = await connection.fetchrow(_QUERY["certificate_pending"], list(paths), certificate_id)
    if row is None:
        raise NotFoundError("request", "没有这条证书申请")
    if row["state"] != "pending":
        raise StateError("request_gone", "这条证书申请已经处理")
    return row
