"""The story of a payment in sentences: one for each row of the saga's table, in the order in which it happened.

The rows are the switch's (``switch/machines/payment_table.py``); the journal names the row that was taken. A test sees
that none is without its sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

Tone = Literal["good", "warn", "bad", "mute", ""]

# Row number: tone, sentence.
SENTENCES: Final[dict[str, tuple[Tone, str]]] = {
    # ---- the card
    "1": ("", "受理缴费，向银联发送消费请求"),
    "2c": ("", "银联批准扣款，等待卡片芯片确认"),
    "2": ("good", "银联批准扣款，向营销系统发送销账请求"),
    "3": ("mute", "银联拒绝，未扣款，交易结束"),
    "4": ("bad", "银联应答不能说明是否扣款，开始冲正"),
    "4p": ("bad", "银联只批准了部分金额，开始冲正"),
    "5": ("bad", "银联应答的 MAC 校验失败，重新签到并开始冲正"),
    "6": ("bad", "银联超时无应答，是否扣款未知，开始冲正"),
    "6r": ("bad", "原处理进程中断，未等到银联应答，开始冲正"),
    "7": ("mute", "银联链路中断，请求没有发出，未扣款，交易结束"),
    "11c": ("warn", "终端等待超时，银联仍未应答"),
    "6k": ("warn", "终端发起冲正，开始冲正"),
    # ---- the chip
    "2t": ("good", "卡片芯片确认，向营销系统发送销账请求"),
    "4a": ("bad", "卡片芯片拒绝，扣款须退回，开始冲正"),
    "6c": ("bad", "终端没有回报芯片结果，开始冲正"),
    "6v": ("bad", "原处理进程中断，芯片结果未知，开始冲正"),
    "6j": ("warn", "终端发起冲正，开始冲正"),
    # ---- the bill
    "8n": ("good", "一个月份销账成功，继续下一个月份"),
    "8": ("good", "销账成功，交易完成"),
    "9q": ("warn", "营销系统拒绝销账，但可能是对先前请求的应答，先查询"),
    "9": ("bad", "营销系统拒绝销账，撤销销账后冲正"),
    "9s": ("bad", "营销系统拒绝销账，但已有月份销账成功，转人工处理"),
    "9w": ("warn", "营销系统拒绝销账，先前请求的结果未知，继续等待"),
    "9n": ("bad", "营销系统拒绝销账，开始冲正"),
    "10": ("warn", "营销系统没有明确应答，稍后再查"),
    "10i": ("warn", "查询销账结果"),
    "10p": ("warn", "以同一流水号重发销账请求"),
    "10y": ("bad", "营销系统无法查询，放弃销账，先撤销再冲正"),
    "10q": ("bad", "营销系统无应答，结果无法确认，转人工处理"),
    "10z": ("warn", "继续等待营销系统"),
    "10e": ("bad", "营销系统确认拒绝且没有销账，开始冲正"),
    "10r": ("warn", "营销系统查无此笔，以同一流水号重发"),
    "10x": ("bad", "营销系统查无此笔，放弃销账，先撤销再冲正"),
    "10s": ("bad", "营销系统查无此笔，不能确认，转人工处理"),
    "10o": ("warn", "营销系统查无此笔，但请求可能仍在途，继续等待"),
    "10v": ("warn", "由另一进程接管，查询销账结果"),
    "10w": ("warn", "由另一进程接管，以同一流水号重发销账请求"),
    "10u": ("warn", "由另一进程接管，继续等待营销系统"),
    "11": ("warn", "终端等待超时，告知客户“正在入账”"),
    "12": ("bad", "销账时限已到，放弃销账，先撤销再冲正"),
    "12f": ("warn", "销账时限已到，但不能再退回，继续销账"),
    "12m": ("bad", "营销系统日终前没有销账，转人工处理"),
    "10c": ("warn", "银联已日切，不能再冲正，只能继续销账"),
    "12k": ("warn", "终端发起冲正，先撤销销账"),
    "11k": ("warn", "终端发起冲正，但销账可能已完成，不予冲正"),
    "13u": ("warn", "撤销成功，但先前的请求可能仍在途，继续等待"),
    "13n": ("", "一个月份已撤销，继续撤销下一个"),
    "13": ("", "销账已全部撤销，开始冲正"),
    "13a": ("warn", "营销系统没有可撤销的销账，但请求可能仍在途，继续等待"),
    "13b": ("", "一个月份没有销账，继续撤销下一个"),
    "13e": ("", "营销系统没有销账，开始冲正"),
    "14": ("good", "撤销时发现已经销账，交易完成"),
    "14n": ("warn", "撤销时发现一个月份已经销账，继续撤销其余月份"),
    "14s": ("bad", "营销系统拒绝撤销，销账保留，转人工处理"),
    "13w": ("warn", "撤销没有明确应答，稍后重试"),
    "13i": ("warn", "重发撤销请求"),
    "13v": ("warn", "由另一进程接管，重发撤销请求"),
    "13c": ("bad", "银联已日切，不能再冲正，转人工处理"),
    "13t": ("warn", "营销系统日终，撤销仍然有效，继续"),
    "13m": ("bad", "营销系统日终前没有撤销成功，转人工处理"),
    "13k": ("warn", "终端等待超时，告知客户“正在退回”"),
    # ---- the reversal
    "15": ("mute", "冲正成功，扣款已退回，交易结束"),
    "15w": ("warn", "冲正应答成功，但不能证明扣款已退回，继续"),
    "16s": ("bad", "银联称没有这笔扣款，但曾收到批准应答，转人工处理"),
    "16": ("mute", "银联证实没有扣款，交易结束"),
    "16u": ("bad", "银联称没有这笔扣款，但不足为证，等待清算文件"),
    "17n": ("warn", "银联称没有这笔扣款，请求可能仍在途，继续冲正"),
    "17": ("warn", "冲正没有明确应答，稍后重发"),
    "17i": ("warn", "重发冲正"),
    "17v": ("warn", "由另一进程接管，重发冲正"),
    "17k": ("warn", "终端等待超时，告知客户“正在退回”"),
    "18": ("bad", "银联日切前冲正没有成功，转人工处理"),
    # ---- late answers
    "6l": ("warn", "冲正期间收到迟到的批准应答，确认曾经扣款，继续冲正"),
    "6p": ("warn", "冲正期间收到迟到的部分批准应答，继续冲正"),
    "6m": ("warn", "冲正期间收到 MAC 有误的应答，继续冲正"),
    "6d": ("mute", "冲正期间收到迟到的拒绝应答"),
    "6a": ("mute", "冲正期间收到迟到且不明确的应答"),
    "16l": ("bad", "收到迟到的批准应答，确认曾经扣款，转人工处理"),
    "16q": ("bad", "收到迟到的部分批准应答，转人工处理"),
    "16m": ("bad", "收到 MAC 有误的批准应答，转人工处理"),
    "16n": ("mute", "收到 MAC 有误的应答，不改变结论"),
    "18l": ("warn", "待处理期间收到批准应答，确认曾经扣款"),
    "18d": ("mute", "待处理期间再次收到批准应答"),
    "18p": ("warn", "待处理期间收到部分批准应答"),
    "18q": ("mute", "待处理期间再次收到部分批准应答"),
    "18r": ("warn", "待处理期间收到冲正成功的应答，留作证据"),
    # ---- decided
    "19": ("mute", "人工确认：未扣款且未销账，交易结束"),
    "20": ("mute", "人工确认：已退款，交易结束"),
    "20p": ("good", "人工确认：已扣款且已销账，交易完成"),
    "19u": ("mute", "对账确认：没有扣款，交易结束"),
    "20u": ("bad", "清算文件显示已扣款，转人工处理"),
}
_CODES: Final = ("response_code", "bill_code", "rrn", "authorization_code")


@dataclass(frozen=True, slots=True)
class Step:
    """One transition.

    Attributes:
        text: What happened, the catalogue's key.
        after_ms: Since the step before; None: the first.
        facts: What the answer carried, by name.
        messages: What left with it, in words, masked.
    """

    ver: int
    at: datetime
    state: str
    row: str
    tone: Tone
    text: str
    after_ms: int | None
    facts: dict[str, str]
    messages: list[Mapping[str, Any]]


def tell(events: Sequence[Mapping[str, Any]], messages: Iterable[Mapping[str, Any]]) -> list[Step]:
    """The steps of a payment.

    Args:
        events: Rows of ``contract_v1_payment_story`` in their order.
        messages: Of the control order ``story``.
    """
    left: dict[int, list[Mapping[str, Any]]] = {}
    for message in messages:
        left.setdefault(message["ver"], []).append(message)
    steps: list[Step] = []
    before: datetime | None = None
    for event in events:
        tone, text = SENTENCES.get(event["row"], ("warn", "支付前置的新步骤"))
        facts = {name: str(event["changes"][name]) for name in _CODES if event["changes"].get(name)}
        after_ms = None if before is None else (event["at"] - before) // timedelta(milliseconds=1)
        steps.append(
            Step(
                *(event["ver"], event["at"], event["state"], event["row"], tone, text, after_ms, facts),
                left.get(event["ver"], []),
            )
        )
        before = event["at"]
    return steps
