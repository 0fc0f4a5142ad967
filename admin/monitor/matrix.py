"""The liveness matrix: from what four witnesses say of a kiosk to one diagnosis, with what to do. Pure.

A red dot says that something is wrong; a person wants to know what, and whether to drive there. Four witnesses who do
not know each other (the monitoring agent's beat, the switch, how much the kiosk is used, how its payments end) and its
neighbours (same line or site) tell it apart. The table below is all there is: for every combination of what they can
say exactly one row holds, whatever the order of the rows; a test goes through all of them.

    column      values
    ---------   ------------------------------------------------------------------------------------------------
    duty        on: in service and open · closed: outside of opening hours · off: not in service
    agent       ok · missing: two beats were missed · unknown: no agent, or its absence may not be judged now
    switch      ok: heard and signed on · unsigned: heard, not signed on · silent · unknown: the switch does not tell
    sessions    usual · quiet: nobody came for longer than its rhythm explains · unknown: no rhythm, or none now
    payments    ok · failing: the last ones failed, and not through the customer · none lately
    units       ok · weak: needs a hand, payments go on · broken: no card can be taken
    neighbours  each: most of the others in its line or site are dark, cut off, failing, quiet (``Neighbours``)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class Duty(StrEnum):
    ON = "on"
    CLOSED = "closed"
    OFF = "off"


class Agent(StrEnum):
    OK = "ok"
    MISSING = "missing"
    UNKNOWN = "unknown"


class Switch(StrEnum):
    OK = "ok"
    UNSIGNED = "unsigned"
    SILENT = "silent"
    UNKNOWN = "unknown"


class Sessions(StrEnum):
    USUAL = "usual"
    QUIET = "quiet"
    UNKNOWN = "unknown"


class Payments(StrEnum):
    OK = "ok"
    FAILING = "failing"
    NONE = "none"


class Units(StrEnum):
    OK = "ok"
    WEAK = "weak"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What most of a kiosk's neighbours show, itself not counted; all False where it has none to compare with."""

    dark: bool = False  # neither their agents nor the switch hear of them
    cut: bool = False  # their agents beat, and the switch does not hear them
    failing: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Signals:
    """All that is known of one kiosk now."""

    duty: Duty = Duty.ON
    agent: Agent = Agent.OK
    switch: Switch = Switch.OK
    sessions: Sessions = Sessions.USUAL
    payments: Payments = Payments.OK
    units: Units = Units.OK
    neighbours: Neighbours = Neighbours()


class Severity(IntEnum):
    NONE = 0  # nothing to do
    NOTICE = 1  # look at it when there is time
    WARNING = 2  # somebody should act today
    SERIOUS = 3  # customers are turned away now


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``payable``: a customer at this kiosk can pay, as far as we know. Texts are msgids of the catalogue."""

    code: str
    name: str  # for a badge
    payable: bool
    severity: Severity
    says: str
    do: str


# ---------------------------------------------------------------------------------------------------- what is said
_TABLE: Final = (
    Diagnosis("normal", "正常", True, Severity.NONE, "运行正常", ""),
    Diagnosis("off", "未运行", False, Severity.NONE, "未投入运行", ""),
    Diagnosis("closed", "非营业", False, Severity.NONE, "非营业时间", ""),
    Diagnosis(
        "low_traffic",
        "客流低",
        True,
        Severity.NONE,
        "客流低：同一线路或营业厅的其他终端也少有人用（节假日、天气）",
        "不必处理",
    ),
    Diagnosis(
        "unit_weak", "外设待处理", True, Severity.NOTICE, "外设需要处理，仍可缴费", "按外设状态补纸、清理或安排更换"
    ),
    Diagnosis(
        "unit_broken", "外设故障", False, Severity.SERIOUS, "外设故障，不能受理银行卡", "派人检查读卡器、密码键盘"
    ),
    Diagnosis(
        "unused",
        "有电无人用",
        True,
        Severity.WARNING,
        "有电无人用：终端和链路都正常，但比平常久无人使用",
        "派人查看：触摸屏、界面是否卡住、屏幕是否被遮挡、照明是否停电",
    ),
    Diagnosis(
        "payment_fault",
        "本机交易异常",
        False,
        Severity.SERIOUS,
        "本机交易异常：连续失败，同一线路或营业厅的其他终端正常",
        "检查密码键盘、密钥和读卡器；必要时重新签到",
    ),
    Diagnosis(
        "channel_fault",
        "渠道异常",
        False,
        Severity.SERIOUS,
        "支付渠道异常：多台终端的交易同时失败",
        "查看渠道状态，联系银联或营销系统；不必派人到现场",
    ),
    Diagnosis(
        "sign_on_fault",
        "签到异常",
        False,
        Severity.SERIOUS,
        "签到异常：前置能收到本机报文，但本机没有签到成功",
        "查看签到失败原因；核对终端主密钥的校验值",
    ),
    Diagnosis(
        "link_fault",
        "到前置不通",
        False,
        Severity.SERIOUS,
        "本机到前置的链路异常：心跳正常，但前置收不到本机报文",
        "检查缴费程序是否在运行、到前置的地址和端口、证书是否过期",
    ),
    Diagnosis(
        "links_cut",
        "多台到前置不通",
        False,
        Severity.SERIOUS,
        "多台终端到前置都不通，而心跳正常",
        "检查这些终端到前置的线路、前置的接入端口和防火墙",
    ),
    Diagnosis(
        "agent_fault",
        "监控程序故障",
        True,
        Severity.NOTICE,
        "监控程序故障：没有心跳，业务正常",
        "远程重启监控程序；下次巡检时查看",
    ),
    Diagnosis(
        "agent_fault_quiet",
        "疑似卡死",
        True,
        Severity.WARNING,
        "没有心跳，而且比平常久无人使用：终端程序可能卡死",
        "远程重启终端；无效则派人查看",
    ),
    Diagnosis(
        "offline", "断电或断网", False, Severity.SERIOUS, "断电或断网（本机）", "联系营业厅确认电源和网线；否则派人"
    ),
    Diagnosis(
        "line_down",
        "线路或营业厅中断",
        False,
        Severity.SERIOUS,
        "线路或营业厅断电、断网：多台终端同时中断",
        "联系营业厅和线路运营商；各终端不必分别处理",
    ),
    Diagnosis(
        "silent",
        "无信号",
        False,
        Severity.SERIOUS,
        "前置收不到本机报文，又没有心跳可对照：断电、断网或程序停止",
        "联系营业厅确认；为本机安装监控程序",
    ),
    Diagnosis(
        "switch_away",
        "前置未应答",
        False,
        Severity.WARNING,
        "前置没有应答：心跳正常，能否缴费未知",
        "查看前置是否在运行；不必派人到现场",
    ),
    Diagnosis(
        "beat_lost",
        "心跳中断",
        False,
        Severity.WARNING,
        "没有心跳，前置也没有应答：无法判断是断网还是监控程序故障",
        "先恢复前置，再看本机；或联系营业厅确认",
    ),
    Diagnosis(
        "unknown",
        "暂无信号",
        False,
        Severity.NONE,
        "暂时没有任何信号可供判断",
        "等待两个心跳周期；检查前置和监控程序",
    ),
)
DIAGNOSES: Final = {each.code: each for each in _TABLE}


# ---------------------------------------------------------------------------------------------------- when
@dataclass(frozen=True, slots=True)
class Row:
    """One row: each column "*" or the values for which it holds, "|" between them.

    ``most`` is what the neighbours must show, "!" before what they must not; "" does not look at them.
    """

    code: str
    agent: str = "*"
    switch: str = "*"
    sessions: str = "*"
    payments: str = "*"
    most: str = ""
    units: str = "*"
    duty: str = "on"


ROWS: Final = (
    Row("off", duty="off"),
    Row("closed", duty="closed"),
    # The switch hears it and it is signed on.
    Row("channel_fault", switch="ok", payments="failing", most="failing"),
    Row("payment_fault", switch="ok", payments="failing", most="!failing"),
    Row("unit_broken", agent="ok|unknown", switch="ok", payments="ok|none", units="broken"),
    Row("unused", "ok|unknown", "ok", "quiet", "ok|none", most="!quiet", units="ok|weak"),
    Row("unit_weak", "ok|unknown", "ok", "quiet", "ok|none", most="quiet", units="weak"),
    Row("unit_weak", "ok|unknown", "ok", "usual|unknown", "ok|none", units="weak"),
    Row("low_traffic", "ok|unknown", "ok", "quiet", "ok|none", most="quiet", units="ok"),
    Row("normal", "ok|unknown", "ok", "usual|unknown", "ok|none", units="ok"),
    # What a silent agent last said of the units is old.
    Row("agent_fault_quiet", "missing", "ok", "quiet", "ok|none", most="!quiet"),
    Row("agent_fault", "missing", "ok", "quiet", "ok|none", most="quiet"),
    Row("agent_fault", "missing", "ok", "usual|unknown", "ok|none"),
    # The switch hears it, and it cannot pay.
    Row("sign_on_fault", switch="unsigned"),
    # The switch does not hear it.
    Row("links_cut", "ok", "silent", most="cut"),
    Row("link_fault", "ok", "silent", most="!cut"),
    Row("line_down", "missing|unknown", "silent", most="dark"),
    Row("offline", "missing", "silent", most="!dark"),
    Row("silent", "unknown", "silent", most="!dark"),
    # The switch does not tell.
    Row("switch_away", "ok", "unknown"),
    Row("beat_lost", "missing", "unknown"),
    Row("unknown", "unknown", "unknown"),
)


def holds(row: Row, signals: Signals) -> bool:
    """Whether this row is the one for these signals."""
    columns = ("duty", "agent", "switch", "sessions", "payments", "units")
    if not all(
        getattr(row, name) == "*" or getattr(signals, name) in getattr(row, name).split("|") for name in columns
    ):
        return False
    return not row.most or getattr(signals.neighbours, row.most.lstrip("!")) is not row.most.startswith("!")


TONES: Final = {Severity.NONE: "good", Severity.NOTICE: "warn", Severity.WARNING: "warn", Severity.SERIOUS: "bad"}


def tone(diagnosis: Diagnosis) -> str:
    """Of the badge: who is off duty is neither good nor bad."""
    return "mute" if diagnosis.code in ("off", "closed", "unknown") else TONES[diagnosis.severity]


def diagnose(signals: Signals) -> Diagnosis:
    """The one diagnosis. Remembered: a fleet shows a few dozen combinations, each thousands of times."""
    found = _KNOWN.get(signals)
    if found is None:
        (row,) = (row for row in ROWS if holds(row, signals))
        found = _KNOWN[signals] = DIAGNOSES[row.code]
    return found


_KNOWN: Final[dict[Signals, Diagnosis]] = {}  # of 25,920 combinations at most
