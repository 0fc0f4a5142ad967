"""Payments: found, listed, exported; one of them as a story, with its messages masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from litestar import Response, get, post

from admin import limits
from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.control import Switches
from admin.db.pool import Connection, Database
from admin.db.queries import statements
from admin.errors import AdminError, BadInputError, NotFoundError
from admin.feed.payments import lag
from admin.transactions import words
from admin.transactions.story import tell
from admin.web.forms import form_of, text
from admin.web.given import Data, Number, Own, Sockets, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, go, language_of, listing, page
from admin.web.table import Column, Filter, Table, View

_P: Final = Permission
QUERY: Final = statements(__file__)


def _filtered(name: str) -> str:
    org = "true" if name.endswith("_by_place") else QUERY["payment_in_org"]
    return QUERY[name].replace("{filters}", QUERY["payment_filters"].replace("{org}", org))


_LISTS: Final = {name: _filtered(name) for name in ("payment_list", "payment_list_by_place")}
_COUNTS: Final = {
    name: _filtered(name).replace("{most}", str(most + 1))
    for name, most in (("payment_count", limits.COUNT_MAX), ("payment_count_by_place", limits.COUNT_PLACES_MAX))
}
_ORG: Final = 6  # of the filters, the organisation: statement parameter $8


def _hash(value: str) -> str:
    """An account in the address of a page is its hash: addresses are kept in histories and logs."""
    if not re.fullmatch(r"[0-9a-f]{32}", value):
        raise BadInputError("filter", "请在查找框中输入户号", field="account")
    return value


def _trace(value: str) -> str:
    if not re.fullmatch(r"(\d{6}-)?\d{6}", value):
        raise BadInputError("filter", "凭证号是 6 位数字，前面可带 6 位批次号和短横", field="trace")
    return value


def _link(row: Mapping[str, Any]) -> str:
    return f"/transactions/{row['payment']}"


PAYMENTS: Final = Table(
    name="payments",
    title="交易",
    key="fact.payment_id",
    sort="-opened_at",
    row_link=_link,
    columns=(
        Column("opened_at", "时间", "time", sort="fact.payment_id::bigint"),
        Column("state", "状态", "state", names=words.STATES, tones=words.TONES),
        Column("amount", "金额", "money"),
        Column("kind", "业务", "link", names=words.KINDS),
        Column("account_masked", "户号"),
        Column("kiosk", "终端", "link"),
        Column("org", "营业厅", wide_only=True),
        Column("card", "卡号", wide_only=True),
        Column("rrn", "参考号"),
        Column("class", "责任方", "link", names=words.CLASSES, wide_only=True),
    ),
    filters=(
        Filter("account", "户号", change=_hash),
        Filter("rrn", "参考号", placeholder="12 位"),
        Filter("card", "卡末四位", placeholder="4 位"),
        Filter("serial", "终端流水", placeholder="6 位"),
        Filter("terminal", "终端号", placeholder="8 位"),
        Filter("kiosk", "终端编号"),
        Filter("org", "组织"),
        Filter("state", "状态", "choice", choices=words.STATES),
        Filter("class", "责任方", "choice", choices=words.CLASSES),
        Filter("kind", "业务", "choice", choices=words.KINDS),
        Filter("from", "从", "day"),
        Filter("until", "到", "day", ends=True),
        Filter("least", "金额不低于", "yuan", placeholder="元"),
        Filter("most", "金额不高于", "yuan", placeholder="元"),
        Filter("trace", "凭证号", placeholder="6 位，或 批次-凭证号", change=_trace),
    ),
)
assert PAYMENTS.filters[_ORG].name == "org"
# A file has what a page has no room for.
EXPORTED: Final = replace(
    PAYMENTS,
    columns=(
        Column("payment", "交易编号"),
        *PAYMENTS.columns,
        Column("terminal_id", "终端号"),
        Column("kiosk_serial", "终端流水"),
        Column("trace", "批次-凭证号"),
        Column("response_code", "应答码"),
        Column("settled_on", "清算日", "day"),
        Column("total_ms", "历时（毫秒）", "count"),
        Column("recon", "对账", names=words.RECON),
    ),
)
FIND: Final = {
    "": "自动识别",
    "account": "户号",
    "rrn": "参考号",
    "card": "卡末四位",
    "serial": "终端流水",
    "trace": "凭证号",
    "terminal": "终端",
    "payment": "交易编号",
}


async def by_place(connection: Connection, access: Access, view: View) -> bool:
    """Few places are meant: then each one's latest payments are looked up by themselves."""
    scope, org = access.paths(_P.TRANSACTION_READ), view.read[_ORG]
    if org is None and access.everywhere(_P.TRANSACTION_READ):
        return False
    most = limits.PLACES_MAX + 1
    return bool(await connection.fetchval(QUERY["places"], scope, org, most) < most)


async def behind_s(connection: Connection) -> int:
    """Seconds that the copy of the payments is behind the switch, when people should know; 0: it is as good as now."""
    seconds = (await lag(connection)).seconds
    return max(1, int(seconds)) if seconds > limits.STALE_S else 0


def list_statement(*, places: bool) -> str:
    return _LISTS["payment_list_by_place" if places else "payment_list"]


async def count(connection: Connection, access: Access, view: View, *, places: bool) -> tuple[int, bool]:
    """(payments, whether there are more than that)"""
    name, most = ("payment_count", limits.COUNT_MAX)
    if places:
        name, most = ("payment_count_by_place", limits.COUNT_PLACES_MAX)
    found: int = await connection.fetchval(_COUNTS[name], access.paths(_P.TRANSACTION_READ), *view.read)
    return min(found, most), found > most


@get("/transactions", opt=needs(_P.TRANSACTION_READ))
async def payment_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    query = dict(request.query_params)
    form = query.pop("format", "html")
    view = PAYMENTS.view(query)
    scope = access.paths(_P.TRANSACTION_READ)
    async with database.connection() as connection:
        places = await by_place(connection, access, view)
        found = await count(connection, access, view, places=places)
        orgs = await connection.fetch(QUERY["orgs"], scope)
        late_s = await behind_s(connection)
    return await listing(
        request,
        database,
        PAYMENTS if form in ("html", "json") else EXPORTED,
        list_statement(places=places),
        "transactions/list.html",
        scope=scope,
        access=access,
        found=found,
        late_s=late_s,
        orgs={row["code"]: row["name"] for row in orgs},
        find=FIND,
    )


@post("/transactions/find", opt=needs(_P.TRANSACTION_READ))
async def payment_find(request: AnyRequest, database: Data, access: Who, own: Own) -> Response[Any]:
    """The search box. A form, so that an account stands in no address; what it finds has its hash there."""
    form = await form_of(request)
    what = "".join(form.get("q", "").split())
    kind = form.get("kind", "")
    if not what or len(what) > limits.SEARCH_LENGTH_MAX or kind not in FIND:
        raise BadInputError("find", "请输入户号、参考号、流水号、卡末四位、终端或交易编号", field="q")
    hashed = own.account_hash(what)
    if not kind:
        async with database.connection() as connection:
            row = await connection.fetchrow(QUERY["recognise"], access.paths(_P.TRANSACTION_READ), what, hashed)
        kind = recognise(what, row)
    if kind == "payment":
        digits = what.upper().removeprefix("C")
        if not digits.isdecimal() or not 0 < int(digits) < 1 << 63:
            raise BadInputError("find", "交易编号是 18 或 19 位数字，可带字母 C", field="q")
        return go(f"/transactions/{digits}")
    if kind == "account":
        return go(f"/transactions?account={hashed.hex()}")
    if kind == "terminal" and len(what) != 8:
        return go(PAYMENTS.view({"kiosk": what.upper()}).url().replace("?", "/transactions?", 1))
    return go(PAYMENTS.view({kind: what}).url().replace("?", "/transactions?", 1))


def recognise(what: str, known: Mapping[str, bool]) -> str:
    """What somebody means who only types: first what there is, then what it looks like."""
    for kind in ("rrn", "account", "terminal"):
        if known[kind]:
            return kind
    if re.fullmatch(r"\d{6}-\d{6}", what):
        return "trace"
    if known["kiosk"] or not what.isdecimal():
        return "payment" if re.fullmatch(r"[Cc]\d{15,19}", what) else "terminal"
    if len(what) == 6 and not known["serial"]:
        return "trace"
    return {4: "card", 6: "serial", 12: "rrn", 18: "payment", 19: "payment"}.get(len(what), "account")


# ---------------------------------------------------------------------------------------------------- one of them
async def seen(connection: Connection, paths: list[str], payment_id: int) -> Any:
    """The row, if it is theirs to see. Raises NotFoundError."""
    row = await connection.fetchrow(QUERY["payment_get"], paths, payment_id) if payment_id < 1 << 63 else None
    if row is None:
        raise NotFoundError("not_found", "没有这笔交易，或不在您的范围内")
    return row


async def shown(
    request: AnyRequest,
    database: Database,
    access: Access,
    switches: Switches,
    payment_id: int,
    *,
    account: str = "",
    error: AdminError | None = None,
) -> Response[str]:
    async with database.connection() as connection:
        one = await seen(connection, access.paths(_P.TRANSACTION_READ), payment_id)
        key = (one["opened_on"], payment_id)
        events = await connection.fetch(QUERY["payment_story"], *key)
        postings = await connection.fetch(QUERY["payment_postings"], *key)
        decisions = await connection.fetch(QUERY["payment_decisions"], payment_id)
    messages, silent = await told_by_switch(switches, one)
    language = language_of(request)
    message, hint = told(error, language) if error else ("", "")
    return page(
        request,
        "transactions/payment.html",
        status=error.status if error else 200,
        one=one,
        steps=tell(events, messages),
        postings=postings,
        decisions=decisions,
        silent=told(silent, language)[0] if silent else "",
        fault=one["fault_text"] if language == "zh" else one["fault_text_en"],
        account=account,
        may_reveal=access.reaches(_P.PII_REVEAL, one["org_path"]),
        may_decide=access.reaches(_P.CASE_PROPOSE, one["org_path"]) or access.reaches(_P.CASE_CONFIRM, one["org_path"]),
        words=words,
        message=message,
        hint=hint,
    )


async def told_by_switch(switches: Switches, one: Any) -> tuple[list[Any], AdminError | None]:
    """The messages, masked by the switch; without it the story is told all the same."""
    try:
        return await switches.any(do="story", payment=one["payment_id"], day=one["opened_on"]), None
    except AdminError as error:
        return [], error


@get("/transactions/{payment_id:int}", opt=needs(_P.TRANSACTION_READ))
async def payment_page(
    request: AnyRequest, payment_id: Number, database: Data, access: Who, switches: Sockets
) -> Response[Any]:
    return await shown(request, database, access, switches, payment_id)


@post("/transactions/{payment_id:int}/reveal", opt=needs(_P.PII_REVEAL))
async def payment_reveal(
    request: AnyRequest, payment_id: Number, database: Data, access: Who, switches: Sockets
) -> Response[Any]:
    """The whole account number, once, for a reason that is written down before the number is shown."""
    form = await form_of(request)
    try:
        reason = text(form, "reason", "理由", least=4, most=200)
    except BadInputError as error:
        return await shown(request, database, access, switches, payment_id, error=error)
    async with database.transaction() as connection:
        one = await seen(connection, access.paths(_P.PII_REVEAL), payment_id)
        account = await connection.fetchval(QUERY["payment_account"], one["opened_on"], payment_id)
        if account is None:
            raise NotFoundError("not_found", "没有这笔交易，或不在您的范围内")
        await audit(
            connection, access, "account.reveal", "payment", payment_id, org_path=one["org_path"], reason=reason
        )
    return await shown(request, database, access, switches, payment_id, account=account)


HANDLERS = [payment_list, payment_find, payment_page, payment_reveal]
