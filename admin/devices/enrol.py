"""Enrolment: one-time codes, the fingerprint that a second person compares, certificates and their end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from litestar import Response, get, post

from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.db.pool import Database
from admin.devices.given import Signer
from admin.devices.kiosks import show_kiosk
from admin.devices.store import NOT_FOUND, QUERY, acting, find_kiosk
from admin.devices.trust import enrolment
from admin.devices.trust.authority import fingerprint
from admin.errors import AdminError, BadInputError, NotFoundError, StateError
from admin.limits import FINGERPRINT_GROUPS
from admin.web.forms import form_of, text
from admin.web.given import Data, Number, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, go, language_of, listing, page
from admin.web.table import Column, Filter, Table

_P = Permission
STATES: Final = {
    "pending": "待复核",
    "active": "有效",
    "superseded": "已更替",
    "revoked": "已吊销",
    "refused": "已拒绝",
}
TONES: Final = {"pending": "warn", "active": "good", "revoked": "bad", "refused": "bad"}
# So many of the eight groups are typed from the kiosk's screen and are not on the page: 64 bits, found by no trying.
_TYPED: Final = 4
ORIGINS: Final = {"enrolment": "入网", "renewal": "续期", "test": "测试"}


def _kiosk_link(row: Mapping[str, Any]) -> str:
    return f"/kiosks/{row['kiosk_id']}"


CERTIFICATES: Final = Table(
    name="certificates",
    title="终端证书",
    key="certificate.id",
    sort="not_after",
    row_link=_kiosk_link,
    columns=(
        Column("code", "终端编号", sort="kiosk.code::text"),
        Column("org", "网点", wide_only=True),
        Column("state", "状态", "state", names=STATES, tones=TONES),
        Column("origin", "来源", names=ORIGINS, wide_only=True),
        Column("serial", "证书序号", wide_only=True),
        Column(
            "not_after", "有效至", "time",
            sort="coalesce(certificate.not_after, 'infinity'::timestamptz)::timestamptz",
        ),
        Column("days_left", "剩余天数", "count"),
        Column("issuer", "签发入网码"),
        Column("approver", "复核人"),
    ),
    filters=(
        Filter("q", "终端编号或证书序号"),
        Filter("state", "状态", "choice", choices=STATES, default="active"),
    ),
)  # fmt: skip


@post("/kiosks/{kiosk_id:int}/code", opt=needs(_P.ENROL_MAKE, step_up=True))
async def code_issue(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    """A one-time code, on the page that answers and nowhere else."""
    try:
        async with database.transaction() as connection:
            kiosk = await find_kiosk(connection, access.paths(_P.ENROL_MAKE), kiosk_id)
            code = await enrolment.issue_code(connection, access.paths(_P.ENROL_MAKE), kiosk_id, access.operator_id)
            await audit(
                connection, access, "enrol.code", "kiosk", kiosk_id, org_path=kiosk["org_path"], code_of=kiosk["code"]
            )
    except StateError as error:
        return await show_kiosk(request, kiosk_id, database, access, error=error)
    return await show_kiosk(request, kiosk_id, database, access, code=code)


@get("/enrolment", opt=needs(_P.DEVICE_READ))
async def request_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        rows = await connection.fetch(QUERY["request_list"], access.paths(_P.DEVICE_READ))
    return page(request, "devices/requests.html", rows=rows)


@get("/enrolment/{request_id:int}", opt=needs(_P.DEVICE_READ))
async def request_page(request: AnyRequest, request_id: Number, database: Data, access: Who) -> Response[Any]:
    return await _request_page(request, request_id, database, access)


async def _request_page(
    request: AnyRequest, request_id: int, database: Database, access: Access, error: AdminError | None = None
) -> Response[str]:
    async with database.connection() as connection:
        row = await connection.fetchrow(QUERY["request_get"], access.paths(_P.DEVICE_READ), request_id)
    if row is None:
        raise NotFoundError("not_found", NOT_FOUND)
    message, hint = told(error, language_of(request)) if error else ("", "")
    may = access.reaches(_P.ENROL_APPROVE, row["org_path"])
    return page(
        request,
        "devices/request.html",
        status=error.status if error else 200,
        one=row,
        groups=fingerprint(row["spki_sha256"]).split(),
        states=STATES,
        tones=TONES,
        second_key=row["active_key"] is not None and row["active_key"] != row["spki_sha256"],
        may_approve=may and row["issued_by"] != access.operator_id,
        is_issuer=row["issued_by"] == access.operator_id,
        message=message,
        hint=hint,
    )


def typed_groups(typed: str) -> str:
    """What was typed, as it is compared: hexadecimal digits alone.

    >>> typed_groups(" 3f2a-91C0 ")
    '3F2A91C0'
    """
    return re.sub(r"[^0-9A-F]", "", typed.upper())


@post("/enrolment/{request_id:int}/approve", opt=needs(_P.ENROL_APPROVE, step_up=True))
async def request_approve(
    request: AnyRequest, request_id: Number, database: Data, access: Who, signing: Signer
) -> Response[Any]:
    """Half of the fingerprint is compared, half is typed from the kiosk's screen: no blind click passes."""
    form = await form_of(request)
    paths = access.paths(_P.ENROL_APPROVE)
    try:
        async with database.transaction() as connection:
            row = await connection.fetchrow(QUERY["request_get"], paths, request_id)
            if row is None:
                raise NotFoundError("not_found", NOT_FOUND)
            wanted = typed_groups(fingerprint(row["spki_sha256"]))[-4 * _TYPED :]
            if form.get("same") != "yes" or typed_groups(form.get("groups", "")) != wanted:
                raise BadInputError(
                    "fingerprint", "输入的指纹与申请不一致", field="groups",
                    hint="请照终端屏幕重新核对和输入；若屏幕显示确实不同，请拒绝这条申请",
                )  # fmt: skip
            await acting(connection, access)
            await enrolment.approve(connection, signing.need(), paths, request_id, access.operator_id)
            await audit(
                connection, access, "enrol.approve", "kiosk", row["kiosk_id"], org_path=row["org_path"],
                request=request_id, key=row["spki_sha256"].hex(), issued_by=row["issuer"],
            )  # fmt: skip
    except BadInputError as error:
        async with database.transaction() as connection:
            await audit(
                connection, access, "enrol.approve", "kiosk", row["kiosk_id"], org_path=row["org_path"],
                result="denied", request=request_id, why=error.code,
            )  # fmt: skip
        return await _request_page(request, request_id, database, access, error)
    except StateError as error:
        return await _request_page(request, request_id, database, access, error)
    return go(f"/kiosks/{row['kiosk_id']}")


@post("/enrolment/{request_id:int}/refuse", opt=needs(_P.ENROL_APPROVE))
async def request_refuse(request: AnyRequest, request_id: Number, database: Data, access: Who) -> Response[Any]:
    """At once, by one person: what keeps a key out needs no second one."""
    form = await form_of(request)
    paths = access.paths(_P.ENROL_APPROVE)
    try:
        why = text(form, "reason", "理由", least=2, most=500)
        async with database.transaction() as connection:
            row = await connection.fetchrow(QUERY["request_get"], paths, request_id)
            if row is None:
                raise NotFoundError("not_found", NOT_FOUND)
            await acting(connection, access)
            await enrolment.refuse(connection, paths, request_id, access.operator_id, why)
            await audit(
                connection, access, "enrol.refuse", "kiosk", row["kiosk_id"], org_path=row["org_path"], reason=why,
                request=request_id, key=row["spki_sha256"].hex(),
            )  # fmt: skip
    except (BadInputError, StateError) as error:
        return await _request_page(request, request_id, database, access, error)
    return go("/enrolment")


@get("/certificates", opt=needs(_P.DEVICE_READ))
async def certificate_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    scope = access.paths(_P.DEVICE_READ)
    return await listing(
        request, database, CERTIFICATES, QUERY["certificate_list"], "devices/certificates.html", scope=scope,
        access=access,
    )  # fmt: skip


@post("/kiosks/{kiosk_id:int}/revoke", opt=needs(_P.ENROL_APPROVE, step_up=True))
async def certificate_revoke(request: AnyRequest, kiosk_id: Number, database: Data, access: Who) -> Response[Any]:
    """At once: the next thing that the kiosk says is refused."""
    form = await form_of(request)
    paths = access.paths(_P.ENROL_APPROVE)
    try:
        why = text(form, "reason", "理由", least=2, most=500)
        async with database.transaction() as connection:
            kiosk = await find_kiosk(connection, paths, kiosk_id)
            await enrolment.revoke(connection, paths, kiosk_id, access.operator_id, why)
            await audit(connection, access, "enrol.revoke", "kiosk", kiosk_id, org_path=kiosk["org_path"], reason=why)
    except BadInputError as error:
        return await show_kiosk(request, kiosk_id, database, access, error=error)
    return go(f"/kiosks/{kiosk_id}")


assert FINGERPRINT_GROUPS == 8  # what the texts above say
HANDLERS = [
    *(code_issue, request_list, request_page, request_approve, request_refuse),
    *(certificate_list, certificate_revoke),
]
