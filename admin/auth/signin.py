"""Signing in, step by step: password, second factor, and what a first time asks for.

    stage      what is due                                            next
    --------   ----------------------------------------------------   -------------------------
    (none)     login and password                                     password, change or enrol
    password   the second factor: authenticator or recovery code      full, or change
    change     a password of one's own in place of the one-time one   enrol, or full
    enrol      an authenticator, shown to work once                   full
    full       nothing

Every step gives the session another token. Strangers cannot lock an operator out: their failures are counted apart
from those of a browser from which this operator has signed in before. Nobody learns whether a login exists.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from admin.auth.audit import audit
from admin.auth.password import Passwords, check
from admin.auth.permissions import Access
from admin.auth.secrets import Secrets, digest, new_recovery_code, new_totp, totp_step
from admin.db.pool import Connection, Database
from admin.db.queries import statements
from admin.errors import BadInputError, NoPermissionError, SignInError, TooManyError
from admin.limits import (
    ADDRESS_FAILURES_MAX,
    ATTEMPTS_DAYS,
    HALF_SESSION_S,
    LOCKED_S,
    PASSWORD_FAILURES_MAX,
    PASSWORD_WINDOW_S,
    RECOVERY_CODES,
    SESSION_S,
    SESSIONS_MAX,
    TOTP_FAILURES_MAX,
)

_QUERY = statements(__file__)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the browser gets: the session's token, and for a full one the cookie by which it is known from now on."""

    token: str
    stage: str
    known: str = ""


class SignIn:
    def __init__(self, database: Database, passwords: Passwords, own: Secrets) -> None:
        self._database = database
        self._passwords = passwords
        self._own = own

    async def password(self, login: str, password: str, *, address: str, browser: str, known: str) -> Ticket:
        """The first step. Raises SignInError (one text for every reason) or TooManyError."""
        login = login.strip().lower()[:64]
        async with self._database.connection() as connection:
            await self._not_too_many(connection, address)
            mark = digest(known) if known else None
            if mark is not None and not await connection.fetchval(_QUERY["attempt_known"], login, mark):
                mark = None
            locked = await connection.fetchval(
                _QUERY["attempt_locked"],
                *(login, "password", mark, PASSWORD_FAILURES_MAX, PASSWORD_WINDOW_S, LOCKED_S),
            )
            row = await connection.fetchrow(_QUERY["operator_to_sign_in"], login)
        active = row is not None and row["state"] == "active"
        right = await self._passwords.matches(row["password_hash"] if active else None, password)
        if locked:
            minutes = LOCKED_S // 60
            raise TooManyError("locked", "失败次数过多，请 {minutes} 分钟后再试", retry_s=LOCKED_S, minutes=minutes)
        async with self._database.transaction() as connection:
            await connection.execute(_QUERY["attempt_add"], login, "password", right, address, mark)
            if not right:
                who = f"u:{login}" if row is not None else "unknown"
                await audit(connection, who, "sign_in.password", "operator", login, result="denied", address=address)
        if not right:
            raise SignInError("sign_in", "账号或密码不正确")
        assert row is not None
        if row["one_time_until"] is not None and row["one_time_until"] < datetime.now(UTC):
            raise SignInError("one_time_over", "一次性密码已过期", hint="请联系系统管理员重新签发")
        stage = "password" if row["totp_secret"] is not None else "change" if row["one_time_until"] else "enrol"
        token = secrets.token_urlsafe(32)
        async with self._database.connection() as connection:
            await connection.fetchval(
                _QUERY["session_add"],
                *(digest(token), row["id"], stage, secrets.token_urlsafe(24), HALF_SESSION_S, address, browser[:200]),
            )
        return Ticket(token, stage)

    async def second_factor(self, access: Access, code: str, *, known: str) -> Ticket:
        """Authenticator or recovery code. Raises SignInError, TooManyError."""
        _stage(access, "password")
        async with self._database.transaction() as connection:
            row = await self._shown(connection, access, code, known=known)
            stage = "full" if row["one_time_until"] is None else "change"
            return await self._advance(connection, access, stage, shown=True, known=known)

    async def step_up(self, access: Access, code: str) -> Ticket:
        """The second factor again, before something critical. Raises SignInError, TooManyError."""
        _stage(access, "full")
        async with self._database.transaction() as connection:
            await self._shown(connection, access, code, known="")
            token = secrets.token_urlsafe(32)
            await connection.fetchval(_QUERY["session_keep"], access.session_id, digest(token))
            return Ticket(token, "full")

    async def change_password(self, access: Access, password: str, again: str, *, known: str) -> Ticket:
        """Raises BadInputError with what is wrong with it."""
        if access.stage not in ("change", "full"):
            raise SignInError("stage", "请按顺序完成登录步骤")
        if access.stage == "full" and not access.step_up:
            raise NoPermissionError("step_up", "请先输入动态码确认身份")
        if password != again:
            raise BadInputError("password_again", "两次输入不一致", field="again")
        check(password, access.login, access.name)
        hashed = await self._passwords.hash(password)
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_QUERY["operator_to_sign_in"], access.login)
            await connection.execute(_QUERY["operator_password"], access.operator_id, hashed)
            # Whoever had the old one is out; this browser goes on.
            await connection.execute(_QUERY["session_end_all"], access.operator_id, "password", access.session_id)
            await audit(connection, access, "operator.password", "operator", access.operator_id)
            if access.stage == "full":
                return await self._advance(connection, access, "full", shown=False, known=known)
            stage = "full" if row["totp_secret"] is not None else "enrol"
            return await self._advance(connection, access, stage, shown=False, known=known)

    def offer_totp(self) -> bytes:
        return new_totp()

    async def enrol_totp(self, access: Access, secret: bytes, code: str, *, known: str) -> tuple[Ticket, list[str]]:
        """Keep an authenticator that has shown one right code; gives recovery codes, told once."""
        _stage(access, "enrol")
        step = totp_step(secret, code.strip(), 0)
        if step is None:
            raise BadInputError("totp", "动态码不正确，请核对手机时间后再试", field="code")
        codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
        async with self._database.transaction() as connection:
            sealed = self._own.seal(secret, f"totp {access.operator_id}")
            await connection.execute(_QUERY["operator_totp"], access.operator_id, sealed)
            await connection.fetchval(_QUERY["operator_totp_step"], access.operator_id, step)
            await connection.execute(_QUERY["recovery_replace"], access.operator_id)
            await connection.execute(_QUERY["recovery_add"], access.operator_id, [digest(each) for each in codes])
            await audit(connection, access, "operator.totp", "operator", access.operator_id)
            return await self._advance(connection, access, "full", shown=True, known=known), codes

    async def sign_out(self, access: Access) -> None:
        async with self._database.transaction() as connection:
            await connection.fetchval(_QUERY["session_end"], access.session_id, "signed_out")
            await audit(connection, access, "sign_out", "operator", access.operator_id)

    async def forget(self) -> dict[str, int]:
        """A loop's work: tries of half a year ago count no more, and say nothing to anybody."""
        async with self._database.connection() as connection:
            return {"forgotten": await connection.fetchval(_QUERY["attempt_prune"], ATTEMPTS_DAYS)}

    # ------------------------------------------------------------------------------------------------ parts
    async def _not_too_many(self, connection: Connection, address: str) -> None:
        count = await connection.fetchval(_QUERY["attempt_failures_address"], address, PASSWORD_WINDOW_S)
        if count >= ADDRESS_FAILURES_MAX:
            raise TooManyError("address", "这个网络地址失败次数过多，请稍后再试", retry_s=PASSWORD_WINDOW_S)

    async def _shown(self, connection: Connection, access: Access, code: str, *, known: str) -> dict[str, object]:
        """The operator's row after a right code. The failure is kept although the caller's transaction is given up."""
        failures = await connection.fetchval(_QUERY["attempt_failures_totp"], access.login)
        if failures >= TOTP_FAILURES_MAX:
            raise TooManyError(
                "totp_locked", "动态码连续错误过多，已锁定", retry_s=LOCKED_S, hint="请联系安全管理员当面核实后重置"
            )
        row: dict[str, object] = dict(await connection.fetchrow(_QUERY["operator_to_sign_in"], access.login))
        code = code.strip().lower()
        if not isinstance(row["totp_secret"], bytes):  # reset while this session was open
            raise SignInError("totp", "没有绑定验证器", hint="请重新登录并绑定")
        assert isinstance(row["totp_last_step"], int)
        secret = self._own.open(row["totp_secret"], f"totp {access.operator_id}")
        right = False
        if "-" in code:
            used = await connection.fetchval(_QUERY["recovery_use"], access.operator_id, digest(code))
            right = used is not None
            if right:
                await audit(connection, access, "operator.recovery_code", "operator", access.operator_id)
        else:
            step = totp_step(secret, code, row["totp_last_step"])
            right = step is not None and (
                await connection.fetchval(_QUERY["operator_totp_step"], access.operator_id, step) is not None
            )
        if not right:
            async with self._database.transaction() as apart:
                await apart.execute(_QUERY["attempt_add"], access.login, "totp", False, access.address, None)
                await audit(apart, access, "sign_in.totp", "operator", access.operator_id, result="denied")
            raise SignInError("totp", "动态码不正确或已使用过", hint="每个动态码只能用一次，请等下一个")
        return row

    async def _advance(self, connection: Connection, access: Access, stage: str, *, shown: bool, known: str) -> Ticket:
        token = secrets.token_urlsafe(32)
        seconds = SESSION_S if stage == "full" else HALF_SESSION_S
        session = await connection.fetchval(
            _QUERY["session_rotate"], access.session_id, digest(token), stage, seconds, shown
        )
        if session is None:
            raise SignInError("signed_out", "会话已结束，请重新登录")
        if stage != "full" or access.stage == "full":
            return Ticket(token, stage)
        known = known or secrets.token_urlsafe(32)
        await connection.execute(_QUERY["attempt_add"], access.login, "totp", True, access.address, digest(known))
        await connection.execute(_QUERY["operator_touch"], access.operator_id)
        await connection.execute(_QUERY["session_end_oldest"], access.operator_id, SESSIONS_MAX)
        await audit(connection, access, "sign_in", "operator", access.operator_id, roles=[*access.roles])
        return Ticket(token, stage, known)


def _stage(access: Access, stage: str) -> None:
    if access.stage != stage:
        raise SignInError("stage", "请按顺序完成登录步骤")
