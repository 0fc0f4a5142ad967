"""Errors of the admin service: a stable code, an HTTP status, a text in Chinese for the person, and what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


class AdminError(Exception):
    """What went wrong, for a person.

    Attributes:
        code: Stable identifier for logs, tests and other programs.
        status: HTTP status of the answer.
        message: In Chinese, the msgid of the catalogue; ``{name}`` is filled from ``values`` after translation.
        hint: What to do next; may be empty.
        field: The form's field that is meant; may be empty.
    """

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, code: str, message: str, *, hint: str = "", field: str = "", **values: Any) -> None:
        super().__init__(f"{message.format(**values) if values else message} [{code}]")
        self.code = code
        self.message = message
        self.hint = hint
        self.field = field
        self.values = values


class BadInputError(AdminError):
    """What was typed cannot be used."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class SignInError(AdminError):
    """Nobody is signed in, or not far enough."""

    status = HTTPStatus.UNAUTHORIZED


class NoPermissionError(AdminError):
    """Signed in, but not for this."""

    status = HTTPStatus.FORBIDDEN


class NotFoundError(AdminError):
    """No such thing, or outside of what this person may see: the two look the same."""

    status = HTTPStatus.NOT_FOUND


class StateError(AdminError):
    """Not now: the thing is in another state, or somebody else changed it."""

    status = HTTPStatus.CONFLICT


class TooManyError(AdminError):
    """Too many tries; ``retry_s`` says when to come back."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, code: str, message: str, *, retry_s: int, hint: str = "", **values: Any) -> None:
        super().__init__(code, message, hint=hint, **values)
        self.retry_s = retry_s


class UnavailableError(AdminError):
    """The database or the switch does not answer; trying again may help."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class StartError(Exception):
    """The service cannot start; the text says what to do. For a terminal, in English."""
