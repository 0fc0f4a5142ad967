"""What people may do: permissions, the seven roles, which roles exclude each other, and over which organisations.

The table is data. A role is given over a subtree of organisations from one instant to another; whoever holds a
permission somewhere holds it there alone. Pure: no database, no web.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    MONITOR_READ = "monitor.read"
    DEVICE_READ = "device.read"
    DEVICE_WRITE = "device.write"
    DEVICE_STATE = "device.state"
    COMMAND_LOW = "command.low"
    COMMAND_HIGH = "command.high"
    COMMAND_APPROVE = "command.approve"
    ENROL_MAKE = "enrol.make"
    ENROL_APPROVE = "enrol.approve"
    ORG_WRITE = "org.write"
    TRANSACTION_READ = "transaction.read"
    PII_REVEAL = "pii.reveal"
    CASE_PROPOSE = "case.propose"
    CASE_CONFIRM = "case.confirm"
    REPORT_FINANCE = "report.finance"
    REPORT_OPERATIONS = "report.operations"
    REPORT_BEHAVIOUR = "report.behaviour"
    REPORT_EXPORT = "report.export"
    OPERATOR_READ = "operator.read"
    OPERATOR_WRITE = "operator.write"
    OPERATOR_APPROVE = "operator.approve"
    GRANT_MAKE = "grant.make"
    GRANT_APPROVE = "grant.approve"
    SESSION_END = "session.end"
    AUDIT_READ = "audit.read"
    SYSTEM_READ = "system.read"


class Role(StrEnum):
    SYSTEM_ADMINISTRATOR = "system_administrator"
    SECURITY_ADMINISTRATOR = "security_administrator"
    OPERATIONS = "operations"
    FINANCE = "finance"
    MARKETING = "marketing"
    AUDITOR = "auditor"
    FIELD_ENGINEER = "field_engineer"


KNOWN_ROLES: Final = frozenset(role.value for role in Role)  # of what the database has; one taken out counts no more

# Shown to people; the catalogue has the English.
ROLE_NAMES: Final = {
    Role.SYSTEM_ADMINISTRATOR: "系统管理员",
    Role.SECURITY_ADMINISTRATOR: "安全管理员",
    Role.OPERATIONS: "运维人员",
    Role.FINANCE: "财务对账员",
    Role.MARKETING: "市场人员",
    Role.AUDITOR: "审计员",
    Role.FIELD_ENGINEER: "现场工程师",
}
PERMISSION_NAMES: Final = {
    Permission.MONITOR_READ: "查看监控",
    Permission.DEVICE_READ: "查看终端档案",
    Permission.DEVICE_WRITE: "登记和修改终端",
    Permission.DEVICE_STATE: "变更终端状态",
    Permission.COMMAND_LOW: "下发一般命令",
    Permission.COMMAND_HIGH: "申请高风险命令",
    Permission.COMMAND_APPROVE: "复核高风险命令",
    Permission.ENROL_MAKE: "签发入网码",
    Permission.ENROL_APPROVE: "复核终端证书",
    Permission.ORG_WRITE: "维护组织机构",
    Permission.TRANSACTION_READ: "查询交易(脱敏)",
    Permission.PII_REVEAL: "查看完整户号",
    Permission.CASE_PROPOSE: "提出差错处理",
    Permission.CASE_CONFIRM: "复核差错处理",
    Permission.REPORT_FINANCE: "财务报表",
    Permission.REPORT_OPERATIONS: "运维报表",
    Permission.REPORT_BEHAVIOUR: "行为报表",
    Permission.REPORT_EXPORT: "导出数据",
    Permission.OPERATOR_READ: "查看操作员",
    Permission.OPERATOR_WRITE: "申请新建或停用操作员",
    Permission.OPERATOR_APPROVE: "复核操作员变更",
    Permission.GRANT_MAKE: "申请授权",
    Permission.GRANT_APPROVE: "复核授权",
    Permission.SESSION_END: "强制下线",
    Permission.AUDIT_READ: "查看和校验审计日志",
    Permission.SYSTEM_READ: "系统自检",
}

_P = Permission
# The auditor watches and does nothing; who runs the system grants nothing; who grants sees no money.
ROLES: Final[dict[Role, frozenset[Permission]]] = {
    Role.SYSTEM_ADMINISTRATOR: frozenset(
        {
            *(_P.MONITOR_READ, _P.DEVICE_READ, _P.DEVICE_WRITE, _P.DEVICE_STATE, _P.ORG_WRITE, _P.SYSTEM_READ),
            *(_P.REPORT_OPERATIONS, _P.REPORT_BEHAVIOUR, _P.OPERATOR_READ, _P.OPERATOR_WRITE, _P.SESSION_END),
        }
    ),
    Role.SECURITY_ADMINISTRATOR: frozenset(
        {
            *(_P.OPERATOR_READ, _P.OPERATOR_APPROVE, _P.GRANT_MAKE, _P.GRANT_APPROVE, _P.SESSION_END),
            *(_P.ENROL_APPROVE, _P.DEVICE_READ, _P.SYSTEM_READ),
        }
    ),
    Role.OPERATIONS: frozenset(
        {
            *(_P.MONITOR_READ, _P.DEVICE_READ, _P.DEVICE_WRITE, _P.DEVICE_STATE, _P.SYSTEM_READ),
            *(_P.COMMAND_LOW, _P.COMMAND_HIGH, _P.COMMAND_APPROVE, _P.ENROL_MAKE, _P.ENROL_APPROVE),
            *(_P.TRANSACTION_READ, _P.REPORT_OPERATIONS, _P.REPORT_BEHAVIOUR, _P.REPORT_EXPORT),
        }
    ),
    Role.FINANCE: frozenset(
        {
            *(_P.MONITOR_READ, _P.DEVICE_READ, _P.TRANSACTION_READ, _P.PII_REVEAL, _P.CASE_PROPOSE, _P.CASE_CONFIRM),
            *(_P.REPORT_FINANCE, _P.REPORT_OPERATIONS, _P.REPORT_EXPORT),
        }
    ),
    Role.MARKETING: frozenset({_P.MONITOR_READ, _P.DEVICE_READ, _P.REPORT_BEHAVIOUR, _P.REPORT_EXPORT}),
    Role.AUDITOR: frozenset(
        {
            *(_P.MONITOR_READ, _P.DEVICE_READ, _P.TRANSACTION_READ, _P.REPORT_FINANCE, _P.REPORT_OPERATIONS),
            *(_P.REPORT_BEHAVIOUR, _P.REPORT_EXPORT, _P.OPERATOR_READ, _P.AUDIT_READ, _P.SYSTEM_READ),
        }
    ),
    Role.FIELD_ENGINEER: frozenset({_P.MONITOR_READ, _P.DEVICE_READ, _P.COMMAND_LOW, _P.ENROL_MAKE}),
}

_ALONE: Final = {Role.AUDITOR}  # who watches must not do
_APART: Final = {
    frozenset({Role.SYSTEM_ADMINISTRATOR, Role.SECURITY_ADMINISTRATOR}),
    frozenset({Role.SYSTEM_ADMINISTRATOR, Role.FINANCE}),
}
_APART_AT_ONE_SITE: Final = {frozenset({Role.OPERATIONS, Role.FINANCE})}


@dataclass(frozen=True, slots=True)
class Grant:
    """A role over the organisations whose path begins with ``path``; half-open in time."""

    role: Role
    path: str
    valid_from: datetime
    valid_to: datetime | None = None

    def overlaps(self, other: Grant) -> bool:
        ends, other_ends = self.valid_to, other.valid_to
        return (ends is None or ends > other.valid_from) and (other_ends is None or other_ends > self.valid_from)

    def meets(self, other: Grant) -> bool:
        """One of the two subtrees lies in the other."""
        return self.path.startswith(other.path) or other.path.startswith(self.path)


def conflict(new: Grant, held: Iterable[Grant]) -> Role | None:
    """The first role among ``held`` that ``new`` may not stand beside."""
    for each in held:
        pair = frozenset({new.role, each.role})
        if len(pair) == 1 or not new.overlaps(each):
            continue
        if pair & _ALONE or pair in _APART or (pair in _APART_AT_ONE_SITE and new.meets(each)):
            return each.role
    return None


@dataclass(frozen=True, slots=True)
class Access:
    """Who is asking, and what they may do now.

    Attributes:
        stage: As in ``operator_session``: only "full" opens anything.
        grants: (role, path) of those that are valid now.
        step_up: The second factor was shown within the last minutes.
    """

    operator_id: int
    login: str
    name: str
    session_id: int
    stage: str
    csrf: str
    address: str
    language: str = "zh"
    step_up: bool = False
    grants: tuple[tuple[Role, str], ...] = ()

    def may(self, permission: Permission) -> bool:
        """True if it is theirs anywhere."""
        return any(permission in ROLES[role] for role, _ in self.grants)

    def reaches(self, permission: Permission, path: str) -> bool:
        """True if it is theirs at the organisation with this path."""
        return any(permission in ROLES[role] and path.startswith(scope) for role, scope in self.grants)

    def paths(self, permission: Permission) -> list[str]:
        """Patterns for ``org.path LIKE ANY ($1)``; empty: nothing is theirs."""
        scopes = {scope for role, scope in self.grants if permission in ROLES[role]}
        return sorted(f"{_escaped(scope)}%" for scope in scopes)

    def everywhere(self, permission: Permission) -> bool:
        """True if it is theirs over the whole network: what belongs to no organisation is shown to these alone."""
        return self.reaches(permission, "/")

    @property
    def roles(self) -> list[Role]:
        return sorted({role for role, _ in self.grants})

    @property
    def actor(self) -> str:
        return f"u:{self.login}"


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
