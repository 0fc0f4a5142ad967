"""Code tables as versioned data: what a response code proves, and what a kiosk shows."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from switch.machines.payment_table import Input


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads(files("switch.dialects").joinpath(name).read_text(encoding="utf-8"))


# Bound once: to find a member of an Enum costs Python 3.11 as much as a call, and each payment asks.
_CARD_AMBIGUOUS: Final = Input.CARD_AMBIGUOUS
_CARD_APPROVED: Final = Input.CARD_APPROVED
_CARD_BAD_MAC: Final = Input.CARD_BAD_MAC
_CARD_DECLINED: Final = Input.CARD_DECLINED
_CARD_PARTIAL: Final = Input.CARD_PARTIAL
_REVERSAL_UNCLEAR: Final = Input.REVERSAL_UNCLEAR


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
        self._class: dict[str, str] = {}
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
                self._class[code] = group
        self.flagged = frozenset(purchase["flagged"])
        self.sign_on_again = frozenset(purchase["sign_on_again"])
        self._reversal = dict.fromkeys(table["reversal"]["done"], Input.REVERSAL_DONE)
        self._reversal |= dict.fromkeys(table["reversal"]["not_found"], Input.REVERSAL_NOT_FOUND)
        self._reversal_class: dict[str, str] = {
            code: name for name, codes in table["reversal"].items() for code in codes
        }
        self.stop_lane = frozenset(table["reversal"]["stop_lane"])

    def purchase(self, code: str) -> Input:
        return self._purchase.get(code, _CARD_AMBIGUOUS)

    def reversal(self, code: str) -> Input:
        return self._reversal.get(code, _REVERSAL_UNCLEAR)

    @property
    def listed(self) -> tuple[str, ...]:
        return tuple(self._purchase)

    def purchase_class(self, code: str) -> str:
        """The group in which the table has it."""
        return self._class.get(code, "unlisted")

    def reversal_class(self, code: str) -> str:
        return self._reversal_class.get(code, "unlisted")

    def says_charged(self, code: str) -> bool:
        given = self.purchase(code)
        return given is _CARD_APPROVED or given is _CARD_PARTIAL

    def purchase_proves(
        self, code: str, *, mac_good: bool | None, same_amount: bool, unmacced_decline_reverses: bool
    ) -> Input:
        """What an answer to a purchase is to the machine.

        Args:
            mac_good: None if it has no MAC.
        """
        given = self.purchase(code)
        if (mac_good is None and self.says_charged(code)) or mac_good is False:
            return _CARD_BAD_MAC
        if mac_good is None and given is _CARD_DECLINED and unmacced_decline_reverses:
            return _CARD_AMBIGUOUS
        if given is _CARD_APPROVED and not same_amount:
            return _CARD_PARTIAL
        return given

    def reversal_proves(self, code: str, *, mac_good: bool | None) -> Input:
        return self.reversal(code) if mac_good else _REVERSAL_UNCLEAR

    def text(self, code: str) -> str:
        return self.texts.get(code, "交易被拒绝，未扣款。")
