"""The reports as pages and files."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

from litestar import Response, get

from admin import limits
from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.db.pool import Database
from admin.errors import BadInputError, NoPermissionError
from admin.reports.asked import BUSINESSES
from admin.reports.behaviour import CURVE, PEAKS
from admin.reports.daily import DAILY
from admin.reports.failures import FAILURES
from admin.reports.latency import LATENCY
from admin.reports.month import MONTH
from admin.reports.report import Done, Report, Say, run
from admin.web import show
from admin.web.export import CSV_TYPE, XLSX_TYPE, to_csv, to_workbook
from admin.web.given import Data, Who
from admin.web.render import AnyRequest, download, language_of, page, sayer

REPORTS: Final = (DAILY, FAILURES, LATENCY, CURVE, PEAKS, MONTH)


async def _report(request: AnyRequest, report: Report, database: Database, access: Access) -> Response[Any]:
    query = dict(request.query_params)
    form, table = query.pop("format", ""), query.pop("table", "")
    if form not in ("", "csv", "xlsx"):
        raise BadInputError("format", "没有这种文件格式", field="format")
    if form and not access.may(Permission.REPORT_EXPORT):
        raise NoPermissionError("no_permission", "您没有导出数据的权限", hint="如需开通，请联系安全管理员")
    say = sayer(request)
    most = limits.EXPORT_ROWS_MAX if form else limits.REPORT_ROWS_MAX
    done = await run(report, database, access, query, say, english=language_of(request) == "en", most=most)
    if form:
        return await _file(report, done, database, access, say, form=form, table=table)
    return page(
        request,
        "reports/report.html",
        report=report,
        done=done,
        asked=done.asked,
        made=done.made,
        businesses=BUSINESSES,
        rows_shown=limits.REPORT_ROWS_SHOWN,
        exports=access.may(Permission.REPORT_EXPORT),
    )


async def _file(
    report: Report, done: Done, database: Database, access: Access, say: Say, *, form: str, table: str
) -> Response[Any]:
    """One table as CSV, or all of them as a workbook; who took what is written down, with the file's digest."""
    tables = done.made.tables
    if form == "csv":
        chosen = next((each for each in tables if each.name == table), None if table else tables[0])
        if chosen is None:
            raise BadInputError("table", "没有这张表", field="table")
        body, kind, tables = await asyncio.to_thread(to_csv, chosen.columns, chosen.rows, say), CSV_TYPE, (chosen,)
    else:
        notes = {
            say("参数"): "; ".join(f"{name}={value}" for name, value in done.asked.values.items()),
            say("数据截至"): f"{show.when(done.as_of.at)} · {say('流水位置')} {done.as_of.events}",
            say("口径"): "\n".join(say(each) for each in report.definitions),
        }
        body, kind = await asyncio.to_thread(to_workbook, say(report.title), tables, say, notes), XLSX_TYPE
    async with database.transaction() as connection:
        await audit(
            connection,
            access,
            "export",
            "report",
            report.name,
            form=form,
            table=table,
            rows=sum(len(each.rows) for each in tables),
            parameters=done.asked.values,
            sha256=hashlib.sha256(body).hexdigest(),
        )
    asked = done.asked
    days = (
        asked.month if asked.panel.period == "month" else "_".join(dict.fromkeys(map(str, (asked.first, asked.last))))
    )
    return download(body, kind, f"{say(report.title)}-{days}.{form}")


@get("/reports/daily", opt=needs(DAILY.permission))
async def daily(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return await _report(request, DAILY, database, access)


@get("/reports/failures", opt=needs(FAILURES.permission))
async def failures(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return await _report(request, FAILURES, database, access)


@get("/reports/latency", opt=needs(LATENCY.permission))
async def latency(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return await _report(request, LATENCY, database, access)


@get("/reports/curve", opt=needs(CURVE.permission))
async def curve(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return await _report(request, CURVE, database, access)


@get("/reports/peaks", opt=needs(PEAKS.permission))
async def peaks(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return await _report(request, PEAKS, database, access)


@get("/reports/month", opt=needs(MONTH.permission))
async def month(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    return await _report(request, MONTH, database, access)


HANDLERS = [daily, failures, latency, curve, peaks, month]
