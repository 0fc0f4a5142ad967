"""The life of a kiosk, as a table.

    state            takes payments  may become
    ---------------  --------------  ---------------------------------------------------------------
    registered                       pending *, retired
    pending                          commissioning *, registered, retired
    commissioning                    trial (gates), pending, retired
    trial            yes             in_service (72 h), commissioning, out_of_service, maintenance, retired
    in_service       yes             out_of_service, maintenance, retired
    out_of_service                   what it was (trial or in_service), maintenance, retired
    maintenance                      what it was (trial or in_service), out_of_service, commissioning, retired
    retired                          nothing

    *  by enrolment alone: its certificate is asked for, and approved by a second person

The database holds the same table (``kiosk_step``) and refuses everything else. Pure: no database, no web.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from admin.errors import StateError
from admin.limits import TRIAL_S

STEPS: Final[dict[str, tuple[str, ...]]] = {
    "registered": ("pending", "retired"),
    "pending": ("commissioning", "registered", "retired"),
    "commissioning": ("trial", "pending", "retired"),
    "trial": ("in_service", "commissioning", "out_of_service", "maintenance", "retired"),
    "in_service": ("out_of_service", "maintenance", "retired"),
    "out_of_service": ("in_service", "trial", "maintenance", "retired"),
    "maintenance": ("in_service", "trial", "out_of_service", "commissioning", "retired"),
    "retired": (),
}
BY_ENROLMENT: Final = frozenset({("registered", "pending"), ("pending", "commissioning")})
PAYABLE: Final = frozenset({"trial", "in_service"})
_HALTED: Final = frozenset({"out_of_service", "maintenance"})

STATE_NAMES: Final = {
    "registered": "登记",
    "pending": "待认证",
    "commissioning": "调试",
    "trial": "试运行",
    "in_service": "运行",
    "out_of_service": "暂停",
    "maintenance": "维护",
    "retired": "退役",
}
STATE_TONES: Final = {
    "in_service": "good",
    "trial": "good",
    "commissioning": "warn",
    "pending": "warn",
    "out_of_service": "bad",
    "maintenance": "warn",
}
# What the button says; by where it leads, and for some by where it comes from.
_TITLES: Final = {
    "registered": "退回登记",
    "pending": "退回待认证",
    "commissioning": "退回调试",
    "trial": "开始试运行",
    "in_service": "投入运行",
    "out_of_service": "暂停服务",
    "maintenance": "转入维护",
    "retired": "退役",
}
_BACK: Final = {"trial": "恢复试运行", "in_service": "恢复运行"}


def title(from_state: str, to_state: str) -> str:
    """
    >>> title("maintenance", "in_service"), title("trial", "in_service")
    ('恢复运行', '投入运行')
    """
    return _BACK.get(to_state, _TITLES[to_state]) if from_state in _HALTED else _TITLES[to_state]


def offered(state: str, last_payable: str | None) -> list[str]:
    """Where a person may lead it from here by a button."""
    return [
        each
        for each in STEPS[state]
        if (state, each) not in BY_ENROLMENT
        and not (state in _HALTED and each in PAYABLE and each != (last_payable or "trial"))
    ]


def refuse_illegal(state: str, to_state: str, last_payable: str | None) -> None:
    """Raises StateError ``step`` for a step that nobody may take by hand.

    Args:
        last_payable: "trial" or "in_service", whichever it was last; None: never.
    """
    names = {"now": STATE_NAMES[state], "then": STATE_NAMES.get(to_state, to_state)}
    if to_state not in STEPS[state]:
        raise StateError("step", "终端不能从“{now}”变为“{then}”", hint="可能已被他人变更，请刷新页面", **names)
    if (state, to_state) in BY_ENROLMENT:
        raise StateError("step", "这一步由证书认证完成，不能手工变更", hint="请签发入网码，由另一人复核证书", **names)
    if to_state not in offered(state, last_payable):
        raise StateError("step", "终端暂停前处于另一状态，只能恢复原状态", hint="未转正的终端先恢复试运行", **names)


def trial_left(since: datetime, now: datetime) -> timedelta:
    """How long a trial still lasts; zero or less: it is over."""
    return since + timedelta(seconds=TRIAL_S) - now


def switch_reason(to_state: str, reason: str) -> str:
    """What the switch is told with an order: a kiosk in maintenance tells its customers that it soon comes back."""
    return "" if to_state in PAYABLE else f"{to_state.replace('_', ' ')}: {reason}"


def order_needed(from_state: str, to_state: str) -> bool:
    """Whether a step changes what the switch has to do."""
    return from_state in PAYABLE or to_state in PAYABLE or (from_state in _HALTED and to_state in _HALTED)
