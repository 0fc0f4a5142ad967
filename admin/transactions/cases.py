"""Cases: payments that wait for a person, decided by two. Asked for and confirmed here, carried out by the switch.

The switch is given both names and refuses one that stands for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from litestar import Response, get, post

from admin.auth.approval import ACTIONS, Action, Asked, ask
from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.control import RefusedError, Switches
from admin.db.pool import Connection, Database
from admin.errors import AdminError, BadInputError, StateError, UnavailableError
from admin.transactions import words
from admin.transactions.payments import QUERY, behind_s, seen, told_by_switch
from admin.transactions.story import tell
from admin.web.forms import choice, form_of, text
from admin.web.forms import number as number_of
from admin.web.given import Data, Number, Sockets, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, go, language_of, listing, page
from admin.web.show import money
from admin.web.table import Column, Filter, Table

_P: Final = Permission
_READ: Final = _P.TRANSACTION_READ
# What the switch says no with, for people.
REFUSALS: Final = {
    "case_unknown": "这笔交易已不在待处理状态",
    "case_decision": "支付前置不接受对这种状态作此处理",
    "case_evidence": "证据须为 3 到 2000 字，且不能含有卡号",
    "case_proposed": "支付前置上已有另一项待复核的处理意见",
    "case_changed": "支付前置上的处理意见已变化，请刷新后重试",
    "case_same_person": "提出人和复核人不能是同一人",
}


def _link(row: Mapping[str, Any]) -> str:
    return f"/cases/{row['payment']}"


CASES: Final = Table(
    name="cases",
    title="差错处理",
    key="waiting.payment_id",
    sort="case_number",
    row_link=_link,
    columns=(
        Column("case_number", "差错编号", sort="waiting.payment_id::bigint"),
        Column("state", "状态", "state", names=words.STATES, tones=words.TONES),
        Column("amount", "金额", "money"),
        Column("account_masked", "户号"),
        Column("kiosk", "终端"),
        Column("org", "营业厅", wide_only=True),
        Column("since", "等待自", "time"),
        Column("standing", "处理", "state", names=words.STANDINGS, tones=words.STANDING_TONES),
        Column("proposed_by", "提出人", wide_only=True),
    ),
    filters=(
        Filter("state", "状态", "choice", choices={name: words.STATES[name] for name in ("SUSPENSE", "UNPROVEN")}),
        Filter("standing", "处理", "choice", choices=words.STANDINGS),
    ),
)


@get("/cases", opt=needs(_READ))
async def case_list(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    async with database.connection() as connection:
        late_s = await behind_s(connection)
    return await listing(
        request,
        database,
        CASES,
        QUERY["case_list"],
        "transactions/cases.html",
        scope=access.paths(_READ),
        access=access,
        late_s=late_s,
    )


@get("/cases/{payment_id:int}", opt=needs(_READ))
async def case_page(
    request: AnyRequest, payment_id: Number, database: Data, access: Who, switches: Sockets
) -> Response[Any]:
    return await _page(request, database, access, switches, payment_id)


async def _page(
    request: AnyRequest,
    database: Database,
    access: Access,
    switches: Switches,
    payment_id: int,
    *,
    given: Mapping[str, str] | None = None,
    error: AdminError | None = None,
) -> Response[str]:
    async with database.connection() as connection:
        one = await seen(connection, access.paths(_READ), payment_id)
        key = (one["opened_on"], payment_id)
        events = await connection.fetch(QUERY["payment_story"], *key)
        postings = await connection.fetch(QUERY["payment_postings"], *key)
        decisions = await connection.fetch(QUERY["payment_decisions"], payment_id)
        pending = await connection.fetchrow(QUERY["case_pending"], str(payment_id))
    messages, silent = await told_by_switch(switches, one)
    language = language_of(request)
    message, hint = told(error, language) if error else ("", "")
    waits = one["state"] in words.OPEN_DECISIONS
    under_way = next((each for each in decisions if each["settled_at"] is None), None)
    return page(
        request,
        "transactions/case.html",
        status=error.status if error else 200,
        one=one,
        steps=tell(events, messages),
        postings=postings,
        decisions=decisions,
        pending=pending,
        under_way=under_way,
        may_withdraw=under_way is not None
        and under_way["confirmed_by"] is None
        and access.reaches(_P.CASE_PROPOSE, one["org_path"]),
        silent=told(silent, language)[0] if silent else "",
        fault=one["fault_text"] if language == "zh" else one["fault_text_en"],
        choices={name: words.DECISIONS[name] for name in words.OPEN_DECISIONS.get(one["state"], ())},
        may_propose=waits
        and pending is None
        and under_way is None
        and access.reaches(_P.CASE_PROPOSE, one["org_path"]),
        given=given or {},
        wrong=error.field if error else "",
        words=words,
        message=message,
        hint=hint,
    )


@post("/cases/{payment_id:int}/propose", opt=needs(_P.CASE_PROPOSE))
async def case_propose(
    request: AnyRequest, payment_id: Number, database: Data, access: Who, switches: Sockets
) -> Response[Any]:
    form = await form_of(request)
    try:
        async with database.transaction() as connection:
            one = await seen(connection, access.paths(_P.CASE_PROPOSE), payment_id)
            open_decisions = words.OPEN_DECISIONS.get(one["state"])
            if open_decisions is None:
                raise StateError("case_unknown", REFUSALS["case_unknown"])
            choices = {name: words.DECISIONS[name] for name in open_decisions}
            decision = choice(form, "decision", "处理意见", choices)
            evidence = text(form, "evidence", "证据", least=3, most=500)
            if _looks_like_card(evidence):
                raise BadInputError("case_evidence", REFUSALS["case_evidence"], field="evidence")
            await ask(
                connection,
                access,
                DECIDE,
                "payment",
                payment_id,
                {"case": f"C{payment_id}", "fen": one["amount"], "state": one["state"], "decision": decision}
                | {"evidence": evidence},
                summary=f"C{payment_id}",
                reason=evidence,
                org_id=one["org_id"] or 1,
                org_path=one["org_path"],
            )
    except (BadInputError, StateError) as error:
        return await _page(request, database, access, switches, payment_id, given=form, error=error)
    return go(f"/cases/{payment_id}")


@post("/cases/{payment_id:int}/withdraw", opt=needs(_P.CASE_PROPOSE))
async def case_withdraw(
    request: AnyRequest, payment_id: Number, database: Data, access: Who, switches: Sockets
) -> Response[Any]:
    """Take back what stands at the switch: proposed on its command line, or left by an approval that was refused."""
    form = await form_of(request)
    try:
        number = number_of(form, "number", "处理意见")
        async with database.connection() as connection:
            one = await seen(connection, access.paths(_P.CASE_PROPOSE), payment_id)
        # Before the transaction: nobody who writes the audit log waits for the switch.
        await switches.any(do="case_withdraw", payment=payment_id, number=number, by=access.login)
        async with database.transaction() as connection:
            await audit(
                connection, access, "case.withdraw", "payment", payment_id, org_path=one["org_path"], number=number
            )
    except RefusedError as error:
        said = StateError(error.switch_code, REFUSALS.get(error.switch_code, error.said))
        return await _page(request, database, access, switches, payment_id, error=said)
    except (BadInputError, UnavailableError) as error:
        return await _page(request, database, access, switches, payment_id, error=error)
    return go(f"/cases/{payment_id}")


def _looks_like_card(evidence: str) -> bool:
    """13 digits or more in a row, blanks between them or not; the switch looks closer, and refuses as well."""
    run = 0
    for sign in evidence:
        if sign.isdecimal():
            run += 1
            if run >= 13:
                return True
        elif sign not in " -":
            run = 0
    return False


# ---------------------------------------------------------------------------------------------------- four eyes
class _Hand:
    """Through which confirmed decisions reach the switch; the application puts it in at its start."""

    switches = Switches([])


HAND: Final = _Hand()


async def _decide(connection: Connection, asked: Asked, access: Access) -> str:
    """Both names to the switch: who asked, who confirmed. Raises StateError: nothing is decided then."""
    maker = await connection.fetchval(QUERY["login_of"], asked.maker_id)
    order = {"payment": int(asked.object_id)}
    decision, evidence = asked.payload["decision"], asked.payload["evidence"]
    try:
        try:
            proposed = await HAND.switches.any(
                do="case_propose", decision=decision, evidence=evidence, by=maker, **order
            )
            number = proposed["number"]
        except RefusedError as error:
            if error.switch_code != "case_proposed":
                raise
            number = await _same(connection, order["payment"], decision, evidence, maker)
        await HAND.switches.any(do="case_confirm", number=number, by=access.login, **order)
    except RefusedError as error:
        raise StateError(error.switch_code, REFUSALS.get(error.switch_code, error.said)) from error
    except UnavailableError as error:
        raise StateError(error.code, error.message, hint=error.hint) from error
    return "已交支付前置执行"


async def _same(connection: Connection, payment_id: int, decision: str, evidence: str, maker: str) -> int:
    """The proposal that is under way, if it is this one: we were interrupted between the two orders."""
    for row in await connection.fetch(QUERY["payment_decisions"], payment_id):
        if row["settled_at"] is None and (row["decision"], row["evidence"], row["proposed_by"]) == (
            *(decision, evidence, maker),
        ):
            return int(row["id"])
    raise StateError("case_proposed", REFUSALS["case_proposed"], hint="请先撤回命令行提出的意见")


async def _version(connection: Connection, payment: str) -> int | None:
    version: int | None = await connection.fetchval(QUERY["case_version"], payment)
    return version


def _in_words(name: str, value: Any) -> str:
    if name == "fen":
        return money(value)
    return {"state": words.STATES, "decision": words.DECISIONS}.get(name, {}).get(value, str(value))


DECIDE: Final = Action(
    *("case.decide", "差错处理", _P.CASE_PROPOSE, _P.CASE_CONFIRM, _decide, _version),
    fields={"case": "差错编号", "fen": "金额", "state": "状态", "decision": "双方账目现在表明", "evidence": "证据"},
    show=_in_words,
    page="/cases/{}",
)
ACTIONS.add(DECIDE)
HANDLERS = [case_list, case_page, case_propose, case_withdraw]
