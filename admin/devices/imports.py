"""Import of many kiosks: a dry run that lists every wrong line, then one transaction."""

from __future__ import annotations

import json
from typing import Any, Final

from litestar import Response, get, post
from litestar.datastructures import UploadFile

from admin.auth.audit import audit
from admin.auth.guard import needs
from admin.auth.permissions import Access, Permission
from admin.db.pool import Connection
from admin.devices import importer
from admin.devices.store import QUERY, add_kiosk
from admin.errors import AdminError, BadInputError, StateError
from admin.limits import IMPORT_ERRORS_SHOWN, IMPORT_ROWS_MAX
from admin.web.export import CSV_TYPE
from admin.web.forms import form_of
from admin.web.given import Data, Who
from admin.web.i18n import told
from admin.web.render import AnyRequest, download, language_of, page

_P = Permission
_TITLES: Final = {name: title for name, title, _, _ in importer.COLUMNS}


def _page(request: AnyRequest, error: AdminError | None = None, **values: Any) -> Response[str]:
    message, hint = told(error, language_of(request)) if error else ("", "")
    status = error.status if error else 422 if values.get("wrong_rows") else 200
    given = {
        "wrong_rows": [],
        "wrong_count": 0,
        "good": 0,
        "rows": "",
        "sample": [],
        "done": 0,
        "file_name": "",
        **values,
    }
    return page(
        request,
        "devices/import.html",
        status=status,
        columns=importer.COLUMNS,
        titles=_TITLES,
        most=IMPORT_ROWS_MAX,
        shown=IMPORT_ERRORS_SHOWN,
        message=message,
        hint=hint,
        **given,
    )


@get("/kiosks/import", opt=needs(_P.DEVICE_WRITE))
async def import_form(request: AnyRequest) -> Response[Any]:
    return _page(request)


@get("/kiosks/import/example", opt=needs(_P.DEVICE_WRITE))
async def import_example() -> Response[Any]:
    return download(importer.example(), CSV_TYPE, "kiosks.csv")


async def _known(connection: Connection, access: Access, rows: list[tuple[int, dict[str, str]]]) -> importer.Known:
    """What these rows are checked against."""
    taken = await connection.fetch(
        QUERY["kiosk_taken"],
        [row.get("code", "").upper() for _, row in rows],
        [row.get("serial_number", "") for _, row in rows],
        [row["terminal_id"] for _, row in rows if row.get("terminal_id")],
    )
    orgs = await connection.fetch(QUERY["import_orgs"], access.paths(_P.DEVICE_WRITE))
    return importer.Known(
        orgs={row["code"]: row["id"] for row in orgs},
        models={row["name"]: row["id"] for row in await connection.fetch(QUERY["import_models"])},
        contracts={row["code"]: row["id"] for row in await connection.fetch(QUERY["import_contracts"])},
        codes=frozenset(row["code"] for row in taken),
        serial_numbers=frozenset(row["serial_number"] for row in taken),
        terminals=frozenset(row["terminal_id"] for row in taken if row["terminal_id"]),
    )


@post("/kiosks/import", opt=needs(_P.DEVICE_WRITE))
async def import_check(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    """The dry run: nothing is written, whatever the file says."""
    sent = (await request.form()).get("file")
    try:
        if not isinstance(sent, UploadFile):
            raise BadInputError("file", "请选择文件", field="file")
        rows = importer.read(sent.filename, await sent.read())
    except BadInputError as error:
        return _page(request, error)
    async with database.connection() as connection:
        known = await _known(connection, access, rows)
    good, wrong = importer.check(rows, known)
    if wrong:
        return _page(
            request, wrong_rows=wrong[:IMPORT_ERRORS_SHOWN], wrong_count=len({each.line for each in wrong}),
            good=len(rows) - len({each.line for each in wrong}), file_name=sent.filename,
        )  # fmt: skip
    return _page(
        request, good=len(good), rows=json.dumps(rows, ensure_ascii=False), sample=[row for _, row in rows[:10]],
        file_name=sent.filename,
    )  # fmt: skip


@post("/kiosks/import/do", opt=needs(_P.DEVICE_WRITE))
async def import_do(request: AnyRequest, database: Data, access: Who) -> Response[Any]:
    """All of them in one transaction, checked once more: meanwhile somebody may have registered one of them."""
    form = await form_of(request)
    rows = _rows(form.get("rows", ""))
    try:
        async with database.transaction() as connection:
            known = await _known(connection, access, rows)
            good, wrong = importer.check(rows, known)
            if wrong:
                return _page(
                    request, wrong_rows=wrong[:IMPORT_ERRORS_SHOWN], wrong_count=len({each.line for each in wrong}),
                    good=len(good), file_name=form.get("file_name", "")[:100],
                )  # fmt: skip
            paths = {row["id"]: row["path"] for row in await connection.fetch(
                QUERY["import_orgs"], access.paths(_P.DEVICE_WRITE))}  # fmt: skip
            for values in good:
                await add_kiosk(connection, access, values, paths[values["org_id"]])
            await audit(
                connection, access, "kiosk.import", "kiosk", "", rows=len(good), file=form.get("file_name", "")[:100]
            )
    except StateError as error:
        return _page(request, error)
    return _page(request, done=len(good))


def _rows(text: str) -> list[tuple[int, dict[str, str]]]:
    """What the dry run's page carried. Raises BadInputError when it is not that."""
    wrong = BadInputError("rows", "导入内容无法识别，请重新上传文件")
    try:
        rows = [
            (int(line), {str(name): str(value) for name, value in row.items() if name in _TITLES})
            for line, row in json.loads(text)
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise wrong from error
    if not 1 <= len(rows) <= IMPORT_ROWS_MAX:
        raise wrong
    return rows


HANDLERS = [import_form, import_example, import_check, import_do]
