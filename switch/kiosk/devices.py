"""Ports of a kiosk's peripherals, and the slip. A driver is whatever has these methods; ours are beside this file.

    CardReader       sankyo.py    Sankyo ICT3K5
    ChipReader       none yet: the makers' chip commands are in no public source; ``switch.sim.devices.ChipSimulator``
    PinPad           zt59x.py     SZZT ZT588, ZT598
    ReceiptPrinter   escpos.py    ESC/POS with Chinese text

All of them block: an async program calls them in a thread (``asyncio.to_thread``). What a customer should read when one
fails is ``DeviceError.text``.
"""

from __future__ import annotations

from typing import Final, Protocol
from unicodedata import east_asian_width

from msgspec import Struct

from switch.errors import SwitchError
from switch.kiosk.results import Bills, EBills, Outcome, PaymentResult, SlipAgain
from switch.model.secret import ChipData, Pan, PinBlock, Track
from switch.security.workingkeys import WorkingKey

_TEXTS: Final = {
    "printer_paper_out": "凭条纸已用完，请联系管理人员。",
    "printer_offline": "凭条打印机故障，请联系管理人员。",
    "card_jam": "卡片卡住，请联系管理人员。",
    "card_unreadable": "读卡失败，请重新插卡。",
    "card_missing": "未检测到卡片，请插卡。",
    "chip_refused": "卡片拒绝交易，请更换卡片。",
    "pin_timeout": "密码输入超时，请重新操作。",
    "pin_cancelled": "已取消输入密码。",
    "pin_keys": "密码键盘密钥无效，请联系管理人员。",
}


class DeviceError(SwitchError):
    """A peripheral failed or refused. ``code`` is stable; ``text`` is Chinese, for the screen."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.text = _TEXTS.get(code, "设备故障，请联系管理人员。")


class CardReader(Protocol):
    def wait_for_card(self, timeout_s: float) -> bool:
        """Let a card in. False: none came. Raises DeviceError."""
        ...

    def read_track2(self) -> Track:
        """Of the card inside. Raises DeviceError ``card_missing``, ``card_unreadable``."""
        ...

    def eject(self) -> None: ...

    def capture(self) -> None:
        """Swallow the card: the customer left it, or its bank said so (吞卡)."""
        ...


class ChipCard(Struct, frozen=True):
    """What a chip said with its first GENERATE AC."""

    pan: Pan
    expiry: str  # YYMM, tag 5F24
    sequence: str  # 3 digits, tag 5F34
    track2: Track  # tag 57, "=" as separator
    icc_data: ChipData  # field 55 of the request: an ARQC


class ChipReader(Protocol):
    """The chip of the card inside, with its EMV kernel. It gets what ``KioskClient.download_parameters`` brought."""

    def start(self, amount: int) -> ChipCard:
        """Select the application, authenticate the card, first GENERATE AC for so many fen.

        Raises:
            DeviceError: ``card_missing``, ``card_unreadable``; ``chip_refused``, when it makes no ARQC.
        """
        ...

    def finish(self, issuer_data: bytes, *, approved: bool) -> ChipData:
        """EXTERNAL AUTHENTICATE and scripts from the issuer's answer, second GENERATE AC; then the card may go.

        Args:
            issuer_data: Field 55 of the answer, any of 91, 8A, 71, 72; b"": it had none.
            approved: Response code 00 for the chip, else 05.

        Returns:
            9F27 (40 TC, 00 AAC), 9F26, 9F10, 9F36, 95, and DF31 when there were scripts.

        Raises:
            DeviceError: The card is gone, or does not answer.
        """
        ...


class PinPad(Protocol):
    def load_pin_key(self, key: WorkingKey) -> None:
        """The PIN key of a sign-on, under the master key in the pad; the pad's check value is compared.

        Raises:
            SecurityError: ``kcv``: it differs. DeviceError: the pad refused, or does not answer.
        """
        ...

    def read_pin(self, pan: Pan, timeout_s: float) -> PinBlock:
        """Let the customer type. Raises DeviceError ``pin_cancelled``, ``pin_timeout``."""
        ...


class PrinterStatus(Struct, frozen=True):
    online: bool
    paper: bool  # False: there is none
    paper_low: bool

    @property
    def can_print(self) -> bool:
        return self.online and self.paper


class ReceiptPrinter(Protocol):
    def status(self) -> PrinterStatus:
        """Ask before money is taken. Raises DeviceError: it does not answer."""
        ...

    def print_slip(self, slip: Slip) -> None:
        """Raises DeviceError ``printer_paper_out``, ``printer_offline``: what came out so far is not to be trusted."""
        ...


class Slip(Struct, frozen=True):
    """What a customer takes away: lines of (label, text), and what the QR code says ("" for none)."""

    title: str
    rows: tuple[tuple[str, str], ...]
    note: str
    qr: str = ""

    @classmethod
    def of(cls, result: PaymentResult, printed_at: str, bills: Bills | None = None) -> Slip:
        """The slip of a payment. No card number is on it, not even a masked one."""
        rows = [("户号", result.account)]
        if bills is not None and bills.account == result.account:
            rows.append(("户名", bills.name))
            periods = [month.period for month in bills.months if month.receivable in result.receivables]
            rows.append(("电费年月", "、".join(periods)))
        rows.append(("金额", yuan(result.amount)))
        rows.append(("终端号", result.key.terminal_id))
        rows.append(("流水号", f"{result.key.date}-{result.key.serial}"))
        if result.reference:
            rows.append(("缴费参考号", result.reference))
        if result.rrn:
            rows.append(("检索参考号", result.rrn))
        if result.case_number:
            rows.append(("差错单号", result.case_number))
        rows.append(("打印时间", printed_at))
        kind = "缴费" if result.receivables else "预存"
        title = f"电费{kind}凭条" if result.outcome is Outcome.PAID else f"电费{kind}受理凭条"
        return cls(title, tuple(rows), result.text, result.reference)

    @classmethod
    def again(cls, slip: SlipAgain) -> Slip:
        """The slip of an earlier payment, marked as printed again."""
        at = slip.began_at
        shown = f"{at[:4]}-{at[4:6]}-{at[6:8]} {at[8:10]}:{at[10:12]}:{at[12:]}" if len(at) == 14 else at
        first = cls.of(slip.result, shown)
        rows = tuple(("缴费时间", text) if label == "打印时间" else (label, text) for label, text in first.rows)
        periods = "、".join(month.period for month in slip.months)
        return cls(
            f"{first.title}（重打印）",
            (*rows, *([("电费年月", periods)] if periods else []), ("卡号", slip.card_masked)),
            first.note,
            first.qr,
        )

    @classmethod
    def of_e_bills(cls, page: EBills, printed_at: str) -> Slip:
        """What is known of some months 电子账单. It proves no payment, and says so."""
        rows = [("户号", page.account)]
        for bill in page.months:
            rows.append(("电费年月", bill.period))
            for meter in bill.meters:
                rows += [("上月示数", meter.reading_before), ("本月示数", meter.reading)]
            rows.append(("用电", f"{bill.energy_kwh} kWh"))
            # ASCII, and no more of it than goes on one line: × is one column here and two on paper.
            rows += [
                (f"阶梯 {step.tier}", f"{step.energy_kwh}x{step.price}={yuan(step.amount)}") for step in bill.steps
            ]
            if bill.cut:
                rows.append(("其余", "未列出"))
            rows.append(("电费", yuan(bill.principal)))
            if bill.penalty:
                rows.append(("违约金", yuan(bill.penalty)))
            owed = bill.amount - bill.paid
            rows.append(("未缴", yuan(owed)) if owed > 0 else ("已缴", yuan(bill.paid)))
        rows.append(("打印时间", printed_at))
        return cls("电子账单", tuple(rows), "仅供查阅，不作缴费凭证。")

    def lines(self, width: int) -> list[str]:
        """As printed, ``width`` in half-width columns; long texts go on in the next line."""
        found = [self.title.center(width - _wide(self.title)), "-" * width]
        for label, text in self.rows:
            found += _wrapped(f"{label}：{text}", width)
        found.append("-" * width)
        return found + _wrapped(self.note, width)


def yuan(fen: int) -> str:
    """
    >>> yuan(12345678), yuan(5)
    ('¥123,456.78', '¥0.05')
    """
    return f"¥{fen // 100:,}.{fen % 100:02d}"


def columns(text: str) -> int:
    """Half-width columns that a text takes on paper."""
    return len(text) + _wide(text)


def _wide(text: str) -> int:
    return sum(east_asian_width(character) in "WF" for character in text)


def _wrapped(text: str, width: int) -> list[str]:
    lines, line, used = [], "", 0
    for character in text:
        size = 1 + _wide(character)
        if used + size > width:
            lines.append(line)
            line, used = "", 0
        line += character
        used += size
    return [*lines, line]
