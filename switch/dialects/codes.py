"""Code tables as versioned data: what a response code proves, and what a kiosk shows."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from switch.machines.payment_table import Input


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads(files("switch.dialects").joinpath(name).read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class KioskCode:
    code: str
    f39: str
    text: str
    charged: str


@cache
def kiosk_codes() -> dict[str, KioskCode]:
    rows = _table("kiosk_codes.toml")["codes"]
    return {code: KioskCode(code, row["f39"], row["text"], row["charged"]) for code, row in rows.items()}


class CardCodes:
    """Response codes of one card network, by table ``version``; a code that is not listed is ambiguous."""

    def __init__(self, name: str = "unionpay_codes.toml") -> None:
        table = _table(name)
        self.version: str = table["version"]
        self.texts: dict[str, str] = table["texts"]
        purchase = table["purchase"]
        self._purchase: dict[str, Input] = {}
        for group, given in (
            ("approved", Input.CARD_APPROVED),
            ("flagged", Input.CARD_APPROVED),
            ("partial", Input.CARD_PARTIAL),
            ("ambiguous", Input.CARD_AMBIGUOUS),
            ("declined", Input.CARD_DECLINED),
        ):
            for code in purchase[group]:
                assert code not in self._purchase, f"response code {code} stands in two groups"
                self._purchase[code] = given
        self.flagged = frozenset(purchase["flagged"])
        self.sign_on_again = frozenset(purchase["sign_on_again"])
        self._reversal = dict.fromkeys(table["reversal"]["done"], Input.REVERSAL_DONE)
        self._reversal |= dict.fromkeys(table["reversal"]["not_found"], Input.REVERSAL_NOT_FOUND)
        self.stop_lane = frozenset(table["reversal"]["stop_lane"])

    def purchase(self, code: str) -> Input:
        return self._purchase.get(code, Input.CARD_AMBIGUOUS)

    def reversal(self, code: str) -> Input:
        return self._reversal.get(code, Input.REVERSAL_UNCLEAR)

    def text(self, code: str) -> str:
        return self.texts.get(code, "交易被拒绝，未扣款。")
