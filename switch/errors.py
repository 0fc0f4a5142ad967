"""Every error of the switch, with a stable code.

Bad data, misuse by our own code and outage are three different classes, because three different people act on
them: whoever sent the data, whoever wrote the code, whoever runs the machine.

    SwitchError
    ├── ConfigError        a configuration file or value is wrong; the operator edits a file
    ├── BadRequestError    a peer sent something that we refuse; the peer is answered and nothing is lost
    ├── SecurityError      a key, MAC or PIN operation failed or was refused
    ├── UnavailableError   something outside does not answer now; try again later
    ├── StartError         the switch cannot start; says what to do
    └── OutOfOrderError    our own code gave a machine an input its table does not list
"""

from __future__ import annotations


class SwitchError(Exception):
    """Base of all; ``code`` is stable and goes to logs and metrics. The text never holds card data."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{detail} [{code}]")
        self.code = code
        self.detail = detail


class ConfigError(SwitchError):
    """``where`` is ``file: key``; the text says what was expected and what to do."""

    def __init__(self, where: str, detail: str) -> None:
        super().__init__("config", f"{where}: {detail}")
        self.where = where


class BadRequestError(SwitchError):
    """A peer's message that we understand well enough to refuse. ``code`` is one of the kiosk codes."""


class SecurityError(SwitchError):
    """``code`` is one of ``kcv``, ``mac``, ``key``, ``pin``, ``refused``; or of ``NOT_NOW``."""


# Codes of a security module that did not answer: the same call may go through later, and nothing is known meanwhile.
NOT_NOW = frozenset({"unavailable", "busy"})


class UnavailableError(SwitchError):
    """An outage: the same call may go through later."""


class StartError(SwitchError):
    """The switch, the database or a simulator cannot start."""


class OutOfOrderError(SwitchError):
    """A machine was given an input that its table does not list in this state: a fault of ours."""

    def __init__(self, machine: str, state: str, given: str) -> None:
        super().__init__("out_of_order", f"{machine}: no row for input {given!r} in state {state!r}")
