"""UnionPay direct-connect POS: the only place with its field numbers.

Frames built here end with eight zero bytes where the MAC belongs (field 64 is always last); ``mab`` gives the bytes
that it covers and ``with_mac`` puts it in. Sources: the field table of ``iso8583/specs/unionpay_pos.toml``.
"""

from __future__ import annotations

from typing import Any

import iso8583
from iso8583 import tlv
from switch.dialects.shown import CardMessages
from switch.errors import BadRequestError
from switch.machines.payment import Payment
from switch.model.payment import Card, KeptCard
from switch.model.request import CardAnswer
from switch.model.secret import ChipData, Secret

HEADER_SIZE = 11  # bytes: TPDU 5 and message header 6
MAC_SIZE = 8  # bytes
NO_MAC = bytes(MAC_SIZE)
PURCHASE_60 = "22"  # 60.1
BALANCE_60 = "01"
_BALANCE = "31"  # field 3 begins with it
_KINDS = {"0210": "purchase", "0410": "reversal", "0810": "sign_on", "0830": "echo"}
# What never enters the journal's copy of a frame: card number, expiry, tracks, PIN block, chip data, MAC.
_SECRET = (2, 14, 35, 36, 52, 53, 55, 62, 64)
# Tags of field 55 in a reversal: TVR, IFD serial, issuer application data, ATC, script results.
_REVERSAL_TAGS = frozenset({"95", "9F1E", "9F10", "9F36", "DF31"})


def mab(frame: bytes) -> bytes:
    """MTI to the last byte before field 64, as transmitted."""
    return frame[HEADER_SIZE:-MAC_SIZE]


def with_mac(frame: bytes, mac: bytes) -> bytes:
    assert len(mac) == MAC_SIZE
    return frame[:-MAC_SIZE] + mac


class UnionPayDialect:
    """Args: tpdu: 5 bytes. header: 6 bytes (application class 60, version, status …), both per link."""

    def __init__(self, tpdu: bytes, header: bytes) -> None:
        self._spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
        self.shown = CardMessages(self._spec)
        self._header = tpdu + header
        assert len(self._header) == HEADER_SIZE

    # -------------------------------------------------------------------------------------------- requests
    def purchase(self, payment: Payment, card: Card) -> tuple[bytes, bytes]:
        """The 0200 without its MAC, and the journal's copy without secrets."""
        fields: dict[int, Any] = {
            0: "0200",
            2: card.pan,
            3: "000000",
            4: payment.amount,
            11: payment.stan,
            22: card.entry_mode,
            25: "00",
            41: payment.terminal_id,
            42: payment.merchant_id,
            49: "156",
            60: payment.original_60,
            64: NO_MAC,
        }
        _add_card(fields, card)
        return self._both(fields)

    def balance(self, terminal_id: str, merchant_id: str, batch_number: str, stan: str, card: Card) -> bytes:
        """What is on a card: a 0200 without its MAC, of which nobody keeps a copy."""
        fields: dict[int, Any] = {
            0: "0200",
            2: card.pan,
            3: "310000",
            11: stan,
            22: card.entry_mode,
            25: "00",
            41: terminal_id,
            42: merchant_id,
            49: "156",
            60: f"{BALANCE_60}{batch_number}000",
            64: NO_MAC,
        }
        _add_card(fields, card)
        return self._whole(fields)

    def kept(self, card: Card) -> KeptCard:
        """What a reversal will need of this card. Chip data that is no TLV is left out."""
        icc_data: ChipData | None = None
        if card.icc_data is not None:
            try:
                found = tlv.decode(card.icc_data.reveal())
                chosen = [(tag, value) for tag, value in found if tag in _REVERSAL_TAGS]
                icc_data = ChipData(tlv.encode(chosen)) if chosen else None
            except iso8583.Iso8583Error:
                icc_data = None
        return KeptCard(card.pan, card.expiry, card.sequence_number, icc_data)

    def reversal(self, payment: Payment, kept: KeptCard, reason: str) -> tuple[bytes, bytes]:
        """The 0400: the original's STAN, batch and amount; field 39 is the reason; no track, no PIN block (C15)."""
        fields: dict[int, Any] = {
            0: "0400",
            2: kept.pan,
            3: "000000",
            4: payment.amount,
            11: payment.stan,
            22: payment.entry_mode,
            25: "00",
            39: reason,
            41: payment.terminal_id,
            42: payment.merchant_id,
            49: "156",
            60: payment.original_60,
            64: NO_MAC,
        }
        if kept.expiry is not None:
            fields[14] = kept.expiry
        if kept.sequence_number is not None:
            fields[23] = kept.sequence_number
        if payment.rrn:
            fields[37] = payment.rrn
        if payment.authorization_code:
            fields[38] = payment.authorization_code
        if kept.icc_data is not None:
            fields[55] = kept.icc_data
        return self._both(fields)

    def sign_on(self, terminal_id: str, merchant_id: str, stan: str, network_code: str) -> bytes:
        """``network_code`` (60.3) says which working keys are wanted; see ``security/workingkeys.py``."""
        reserved = f"00000000{network_code}"
        return self._encode({0: "0800", 11: stan, 41: terminal_id, 42: merchant_id, 60: reserved, 63: "001"})

    def echo(self, terminal_id: str, merchant_id: str, stan: str, *, mac: bool = False) -> bytes:
        """With ``mac`` the frame waits for its MAC: by UnionPay's tables an echo has none, some acquirers check one."""
        fields: dict[int, Any] = {0: "0820", 11: stan, 41: terminal_id, 42: merchant_id, 60: "00000000301"}
        return self._encode({**fields, 64: NO_MAC} if mac else fields)

    def _encode(self, fields: dict[int, Any]) -> bytes:
        return self._spec.encode(fields, header=self._header)

    def _both(self, fields: dict[int, Any]) -> tuple[bytes, bytes]:
        safe = {number: value for number, value in fields.items() if number not in _SECRET}
        return self._whole(fields), self._encode(safe)

    def _whole(self, fields: dict[int, Any]) -> bytes:
        failed: Exception | None = None
        try:
            return self._encode(
                {number: value.reveal() if isinstance(value, Secret) else value for number, value in fields.items()}
            )
        except iso8583.Iso8583Error as error:
            # The frames inside the codec have the clear fields in their locals.
            failed = error.with_traceback(None)
        assert failed is not None
        raise failed

    # -------------------------------------------------------------------------------------------- answers
    def read(self, frame: bytes) -> CardAnswer:
        """Raises: BadRequestError ``unreadable``: not a response that we know; the text has no card data."""
        try:
            message = self._spec.decode(frame)
            kind = _KINDS.get(message.mti)
            if kind is None:
                raise BadRequestError("unreadable", f"MTI {message.mti} is not a response of this dialect")
            balance = ""
            if kind == "purchase" and (message.get(3) or "").startswith(_BALANCE):
                kind, balance = "balance", message.get(54) or ""
            reserved = message.get(60) or ""
            has_mac = 64 in message
            amount = message.get(4)
            return CardAnswer(
                kind=kind,
                terminal_id=message[41],
                batch_number=reserved[2:8],
                stan=message.get(11) or "",
                response_code=message.get(39) or "",
                amount=-1 if amount is None else int(amount),
                rrn=message.get(37) or "",
                settlement_date=message.get(15) or "",
                authorization_code=message.get(38) or "",
                working_keys=(message.get(62) or b"") if kind == "sign_on" else b"",
                mab=mab(frame) if has_mac else b"",
                mac=frame[-MAC_SIZE:] if has_mac else None,
                balance=balance,
            )
        except iso8583.DecodeError as error:
            raise BadRequestError("unreadable", str(error)) from None
        except KeyError:
            raise BadRequestError("unreadable", "field 41 (terminal) is missing") from None


def _add_card(fields: dict[int, Any], card: Card) -> None:
    for number, value in (
        (14, card.expiry),
        (23, card.sequence_number),
        (26, card.pin_capture_code),
        (35, card.track2),
        (52, card.pin_block),
        (53, card.security_control),
        (55, card.icc_data),
    ):
        if value is not None:
            fields[number] = value
