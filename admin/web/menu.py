"""Where a person can go: one line for each page, by group, with the permission that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from admin.auth.permissions import Access, Permission


@dataclass(frozen=True, slots=True)
class Entry:
    """Attributes:
    permission: None: every operator.
    key: Pressed after "g" it leads there.
    """

    group: str
    title: str
    path: str
    permission: Permission | None
    key: str = ""


MENU: Final = (
    Entry("监控", "总览", "/monitor", Permission.MONITOR_READ, "d"),
    Entry("监控", "终端监控", "/monitor/kiosks", Permission.MONITOR_READ, "m"),
    Entry("监控", "渠道", "/monitor/channels", Permission.MONITOR_READ),
    Entry("监控", "可用率", "/monitor/availability", Permission.MONITOR_READ),
    Entry("终端", "终端档案", "/kiosks", Permission.DEVICE_READ, "k"),
    Entry("终端", "组织机构", "/orgs", Permission.DEVICE_READ),
    Entry("终端", "证书申请", "/enrolment", Permission.DEVICE_READ, "e"),
    Entry("终端", "终端证书", "/certificates", Permission.DEVICE_READ),
    Entry("终端", "分组", "/groups", Permission.DEVICE_READ),
    Entry("终端", "型号", "/kiosk-models", Permission.DEVICE_READ),
    Entry("终端", "合同", "/contracts", Permission.DEVICE_READ),
    Entry("交易", "交易查询", "/transactions", Permission.TRANSACTION_READ, "t"),
    Entry("交易", "差错处理", "/cases", Permission.TRANSACTION_READ, "c"),
    Entry("报表", "日结算表", "/reports/daily", Permission.REPORT_FINANCE, "r"),
    Entry("报表", "月报", "/reports/month", Permission.REPORT_OPERATIONS, "y"),
    Entry("报表", "失败原因", "/reports/failures", Permission.REPORT_OPERATIONS, "f"),
    Entry("报表", "时延分布", "/reports/latency", Permission.REPORT_OPERATIONS),
    Entry("报表", "时间曲线", "/reports/curve", Permission.REPORT_BEHAVIOUR),
    Entry("报表", "高峰热力图", "/reports/peaks", Permission.REPORT_BEHAVIOUR),
    Entry("系统", "操作员", "/operators", Permission.OPERATOR_READ, "o"),
    Entry("系统", "角色权限", "/roles", Permission.OPERATOR_READ),
    Entry("系统", "会话", "/sessions", Permission.SESSION_END),
    Entry("系统", "审计日志", "/audit", Permission.AUDIT_READ, "a"),
    Entry("系统", "系统自检", "/monitor/self", Permission.SYSTEM_READ),
    Entry("审批", "审批", "/approvals", None, "p"),
)


def menu(access: Access | None, path: str) -> list[tuple[str, list[tuple[Entry, bool]]]]:
    """Groups with their entries and whether each is where we are; what is not theirs is not there."""
    if access is None or access.stage != "full":
        return []
    groups: dict[str, list[tuple[Entry, bool]]] = {}
    best = max(
        (each.path for each in MENU if (path + "/").startswith(each.path.rstrip("/") + "/")), key=len, default=""
    )
    for entry in MENU:
        if entry.permission is None or access.may(entry.permission):
            groups.setdefault(entry.group, []).append((entry, entry.path == best))
    return list(groups.items())
