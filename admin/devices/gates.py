"""The gates between a kiosk's registration and its trial: what each is, what opens it, and whether the facts are there.

The switch's gates are the switch's: it writes them when it saw the proof, and nobody else can. Admin's own are facts of
the kiosk's certificate and beats. None can be ticked. Pure: no database, no web.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from admin import limits
from admin.web import show
from switch import contract

SWITCH_GATES: Final = contract.TERMINAL_GATES
# Title, and what opens it.
SWITCH_TEXTS: Final = {
    "registered": ("登记终端号", "在支付前置登记：gridswitch terminal add 终端号 商户号"),
    "keys": ("终端主密钥", "两名保管人按密钥仪式录入主密钥分量，并核对校验值"),
    "sign_on": ("银联签到", "让终端签到：银联须下发与校验值相符的工作密钥"),
    "mac_echo": ("MAC 回响测试", "让终端发带 MAC 的回响测试：须三次往返银联"),
    "test_query": ("测试查询", "让终端查询测试户号的欠费，营销系统须应答"),
    "test_reversal": ("测试缴费与冲正", "让终端用测试卡为测试户号缴费：前置自动冲正，银联须确认"),
    "in_service": ("投入使用", "以上全部通过后，点“开始试运行”"),
}
OWN_TEXTS: Final = {
    "certificate": ("证书认证", "签发入网码，由另一人核对指纹后批准"),
    "clock": ("时钟", "检查终端的时间同步；偏差须小于 2 秒"),
    "peripherals": ("外设自检", "检查不在线的外设，装纸、关好机门"),
    "monitor": ("接入监控", "终端须有心跳，且支付前置听到过它"),
}
_GOOD: Final = {
    "": frozenset({"online", "busy"}),
    "door": frozenset({"closed"}),
    "paper": frozenset({"full", "low"}),
    "ink": frozenset({"full", "low"}),
    "bin": frozenset({"ok", "high"}),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``text`` is a msgid with ``values`` to fill in."""

    ok: bool
    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known now; ``status`` and ``certificate`` are rows, or None."""

    now: datetime
    units: Sequence[str]
    status: Mapping[str, Any] | None
    certificate: Mapping[str, Any] | None

    def fresh(self, at: datetime | None) -> bool:
        return at is not None and self.now - at <= timedelta(seconds=limits.FACT_FRESH_S)


def certificate(facts: Facts) -> Verdict:
    held = facts.certificate
    if held is None or held["state"] != "active":
        waits = held is not None and held["state"] == "pending"
        return Verdict(False, "证书申请等待复核" if waits else "没有有效证书")
    if held["not_after"] <= facts.now:
        return Verdict(False, "证书已过期")
    serial, until = held["serial"][:12], show.when(held["not_after"], seconds=False)
    if held["approver"]:
        return Verdict(
            True,
            "证书 {serial} 由 {who} 复核，有效至 {until}",
            {"serial": serial, "who": held["approver"], "until": until},
        )
    return Verdict(True, "证书 {serial} 有效至 {until}", {"serial": serial, "until": until})


def clock(facts: Facts) -> Verdict:
    status = facts.status
    if status is None or status["beat_at"] is None:
        return Verdict(False, "还没有收到心跳")
    if not facts.fresh(status["beat_at"]):
        return Verdict(False, "最近没有心跳")
    skew = status["skew_ms"]
    if skew is None:
        return Verdict(False, "心跳没有带时间")
    return Verdict(abs(skew) < limits.CLOCK_SKEW_MAX_MS, "时钟偏差 {ms} 毫秒", {"ms": skew})


def faulty_units(required: Sequence[str], told: Mapping[str, str]) -> list[str]:
    """Units and their parts that are not as they must be; one that says nothing is among them.

    >>> faulty_units(["idc", "ptr", "door"], {"idc": "online", "ptr": "online", "ptr.paper": "out", "door": "closed"})
    ['ptr.paper=out']
    """
    wrong = []
    for unit in required:
        state = told.get(unit, "-")
        if state not in _GOOD["door" if unit == "door" else ""]:
            wrong.append(f"{unit}={state}")
        for name, part in sorted(told.items()):
            owner, _, kind = name.partition(".")
            if owner == unit and kind in _GOOD and kind and part not in _GOOD[kind]:
                wrong.append(f"{name}={part}")
    return wrong


def peripherals(facts: Facts) -> Verdict:
    status = facts.status
    if status is None or not facts.fresh(status["beat_at"]):
        return Verdict(False, "最近没有心跳")
    wrong = faulty_units(facts.units, status["units"])
    if wrong:
        return Verdict(False, "外设未就绪：{units}", {"units": ", ".join(wrong)})
    return Verdict(
        True, "{count} 个外设全部就绪：{units}", {"count": len(facts.units), "units": ", ".join(facts.units)}
    )


def monitor(facts: Facts) -> Verdict:
    status = facts.status
    if status is None or not facts.fresh(status["beat_at"]):
        return Verdict(False, "最近没有心跳")
    if not facts.fresh(status["switch_at"]):
        return Verdict(False, "支付前置最近没有听到这台终端")
    if not status["diagnosis"]:
        return Verdict(False, "监控还没有给出诊断")
    return Verdict(True, "心跳与支付前置两路都能看到它")


JUDGES: Final = {"certificate": certificate, "clock": clock, "peripherals": peripherals, "monitor": monitor}


@dataclass(frozen=True, slots=True)
class Gate:
    """One line of the page.

    Attributes:
        state: passed, skipped (a test terminal), seen (the fact is there and not yet written down), next (what to do
            now), waiting (behind another).
    """

    name: str
    title: str
    owner: str
    state: str
    at: datetime | None
    proof: str
    values: Mapping[str, Any]
    todo: str

    @property
    def is_open(self) -> bool:
        return self.state in ("passed", "skipped")


def own_gates(facts: Facts, passed: Mapping[str, Mapping[str, Any]]) -> list[Gate]:
    """Admin's, in order; what was written down stays passed, for the others it says what is missing now."""
    gates = []
    for name, (title, todo) in OWN_TEXTS.items():
        row = passed.get(name)
        if row is not None:
            gates.append(Gate(name, title, "admin", "passed", row["passed_at"], row["proof"], row["facts"], ""))
        else:
            verdict = JUDGES[name](facts)
            state, then = ("seen", "") if verdict.ok else ("next", todo)
            gates.append(Gate(name, title, "admin", state, None, verdict.text, verdict.values, then))
    return gates


def switch_gates(proved: Sequence[Mapping[str, Any]]) -> list[Gate]:
    """The switch's, in order. A terminal that was added past its gates (for tests) has them all, and says so."""
    rows = {row["gate"]: row for row in proved}
    done = bool(proved) and proved[0]["stage"] == SWITCH_GATES[-1]
    gates, is_next = [], True
    for name in SWITCH_GATES:
        title, todo = SWITCH_TEXTS[name]
        row = rows.get(name)
        if row is not None:
            gates.append(Gate(name, title, "switch", "passed", row["proved_at"], row["proof"], {}, ""))
        elif done:
            gates.append(Gate(name, title, "switch", "skipped", None, "测试终端：登记时跳过了关卡", {}, ""))
        else:
            gates.append(Gate(name, title, "switch", "next" if is_next else "waiting", None, "", {}, todo))
            is_next = False
    return gates


# The switch proves in its own words; these say the same to the people here.
SWITCH_PROOFS: Final = {
    "registered": "已在支付前置登记",
    "keys": "主密钥已装入，校验值已由保管人核对",
    "sign_on": "银联应答 00，工作密钥与校验值相符",
    "mac_echo": "三次带 MAC 的回响测试往返银联，MAC 全部正确",
    "test_query": "测试户号的查询得到营销系统应答",
    "test_reversal": "测试缴费已冲正，银联确认",
    "in_service": "已投入使用",
}
