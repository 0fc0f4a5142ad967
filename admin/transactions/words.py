"""What states, classes and steps of payments are called, in Chinese; the catalogue has the English."""

from __future__ import annotations

from typing import Final

STATES: Final = {
    "CARD_PENDING": "等待银联应答",
    "CARD_CONFIRMING": "等待芯片确认",
    "BILL_PENDING": "已扣款，销账中",
    "BILL_CANCELLING": "撤销销账中",
    "REVERSAL_PENDING": "冲正中",
    "UNPROVEN": "待对账证实",
    "SUSPENSE": "挂账，待人工处理",
    "COMPLETED": "成功",
    "DECLINED": "未扣款",
    "REVERSED": "已冲正",
    "REFUNDED": "已退款",
}
TONES: Final = {
    "COMPLETED": "good",
    "DECLINED": "mute",
    "REVERSED": "mute",
    "REFUNDED": "mute",
    "UNPROVEN": "bad",
    "SUSPENSE": "bad",
    **dict.fromkeys(("CARD_PENDING", "CARD_CONFIRMING", "BILL_PENDING", "BILL_CANCELLING", "REVERSAL_PENDING"), "warn"),
}
CLASSES: Final = {
    "ok": "成功",
    "customer": "客户与卡片",
    "issuer": "发卡行",
    "channel": "银联通道",
    "switch": "支付前置",
    "terminal": "终端",
    "grid": "营销系统",
}
KINDS: Final = {"payment": "缴费", "prepayment": "预存"}
RECON: Final = {"open": "未对账"}
POSTINGS: Final = {
    "waiting": "未发送",
    "sent": "已发送",
    "posted": "已销账",
    "rejected": "被拒绝",
    "cancelled": "已撤销",
}
POSTING_TONES: Final = {"posted": "good", "rejected": "bad", "sent": "warn"}
DECISIONS: Final = {
    "paid": "已扣款且已销账（确认成功）",
    "nothing": "未扣款且未销账（确认无此交易）",
    "refunded": "已扣款、已退款、未销账（确认退款）",
    "charged": "清算文件显示已扣款（转挂账处理）",
}
# What each state leaves open: the switch refuses the others.
OPEN_DECISIONS: Final = {"SUSPENSE": ("paid", "nothing", "refunded"), "UNPROVEN": ("nothing", "charged")}
OUTCOMES: Final = {"done": "已执行", "withdrawn": "已撤回"}
STANDINGS: Final = {"none": "待提出", "proposed": "待复核", "confirmed": "待执行"}
STANDING_TONES: Final = {"none": "bad", "proposed": "warn", "confirmed": "good"}
TITLES: Final = {
    "0200": "消费请求",
    "0400": "冲正请求",
    "post": "销账请求",
    "prepay": "预存请求",
    "status": "销账状态查询",
    "cancel": "撤销销账请求",
    "history": "缴费历史查询",
    "unreadable": "无法解析的报文",
}
LINES: Final = {
    "op": "业务",
    "serial": "流水号",
    "account": "户号",
    "receivable": "应收凭证号",
    "period": "电费年月",
    "amount": "金额（分）",
    "day": "账务日期",
    "reference": "参考号",
    "if_posted": "若已销账",
    "version": "接口版本",
    "id": "报文编号",
    "code": "返回码",
}
