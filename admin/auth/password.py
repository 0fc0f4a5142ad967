"""Passwords: which are accepted, how they are kept (Argon2id), and that a storm of sign-ins takes no more memory than
a few hashes."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from admin.auth.words import COMMON, CONTEXT
from admin.errors import BadInputError
from admin.limits import HASHES_AT_ONCE, PASSWORD_LENGTH_MAX, PASSWORD_LENGTH_MIN

_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
_NOBODY: Final = _HASHER.hash(secrets.token_urlsafe())  # compared with when there is no such operator: the same time
_ONE_TIME_SIGNS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read for something else


class Passwords:
    """Hashing off the loop, a few at once."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(HASHES_AT_ONCE)

    async def hash(self, password: str) -> str:
        async with self._turn:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def matches(self, stored: str | None, password: str) -> bool:
        """False in the same time for a wrong password and for nobody (``stored`` None)."""
        if len(password) > PASSWORD_LENGTH_MAX:
            password = ""  # cannot be right; hashed anyway
        async with self._turn:
            right = await asyncio.to_thread(_verify, stored or _NOBODY, password)
        return right and stored is not None


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def check(password: str, login: str, name: str) -> None:
    """Raises BadInputError with what is wrong. No rules of composition: length and not being guessable count."""
    if len(password) < PASSWORD_LENGTH_MIN:
        raise _bad("密码至少 {least} 个字符", least=PASSWORD_LENGTH_MIN)
    if len(password) > PASSWORD_LENGTH_MAX:
        raise _bad("密码最多 {most} 个字符", most=PASSWORD_LENGTH_MAX)
    plain = password.casefold()
    if len(set(plain)) < 5:
        raise _bad("密码太单调，请换一个")
    rest = plain
    for word in (*COMMON, *CONTEXT, login.casefold(), name.casefold()):
        rest = rest.replace(word, "")
    # A common word may be in it; what is left must be long enough to be a password of its own.
    if len(rest) < PASSWORD_LENGTH_MIN - 4:
        raise _bad("密码里不能主要是常见词、单位名称或本人账号")


def _bad(message: str, **values: object) -> BadInputError:
    hint = "可以用几个不相关的词连起来，也可以粘贴密码管理器生成的密码"
    return BadInputError("password_weak", message, hint=hint, field="password", **values)


def one_time() -> str:
    """Three groups of five: 74 bits, read out over a telephone."""
    return "-".join("".join(secrets.choice(_ONE_TIME_SIGNS) for _ in range(5)) for _ in range(3))
