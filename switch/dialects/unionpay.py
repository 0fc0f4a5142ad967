# cython: annotation_typing=False, binding=False
"""UnionPay direct-connect POS: the only place with its field numbers.

Frames built here end with eight zero bytes where the MAC belongs (field 64 is always last); ``mab`` gives the bytes
that it covers and ``with_mac`` puts it in. Sources: the field table of ``iso8583/specs/unionpay_pos.toml``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import iso8583
from iso8583 import tlv
from switch.dialects.shown import CardMessages
from switch.errors import BadRequestError
from switch.limits import ISSUER_DATA_BYTES_MAX, SETTLE_COUNT_MAX
from switch.machines.payment import Payment
from switch.model.batch import BatchDetail
from switch.model.payment import Card, KeptCard
from switch.model.request import DOWNLOADS, WISHES, CardAnswer
from switch.model.secret import ChipData, Secret

HEADER_SIZE = 11  # bytes: TPDU 5 and message header 6
MAC_SIZE = 8  # bytes
NO_MAC = bytes(MAC_SIZE)
PURCHASE_60 = "22"  # 60.1
BALANCE_60 = "01"
_BALANCE = "31"  # field 3 begins with it
_ASKS = frozenset({"362", "372", "382"})  # downloads that begin with a question: 0820, all others 0800
WISH_AT = 7  # the byte whose low half is digit 6 of the header
_KINDS = {
    "0210": "purchase",
    "0330": "upload",
    "0410": "reversal",
    "0510": "settlement",
    "0630": "script",
    "0810": "sign_on",
    "0830": "echo",
}
_HALF = 31  # digits of field 48 for domestic cards, as many for foreign ones; the last one says how they compare
# Tags of field 55 in a reversal: TVR, IFD serial, issuer application data, ATC, script results.
_REVERSAL_TAGS = frozenset({"95", "9F1E", "9F10", "9F36", "DF31"})


# … and in a script notice.
_SCRIPT_TAGS = frozenset({"9F33", "95", "9F37", "9F1E", "9F10", "9F26", "9F36", "82", "DF31", "9F1A", "9A"})


def mab(frame: bytes) -> bytes:
    """MTI to the last byte before field 64, as transmitted."""
    return frame[HEADER_SIZE:-MAC_SIZE]


def with_mac(frame: bytes, mac: bytes) -> bytes:
    assert len(mac) == MAC_SIZE
    return frame[:-MAC_SIZE] + mac


def _of(icc_data: ChipData, tags: frozenset[str]) -> ChipData | None:
    """These tags of it, as far as it has them."""
    try:
        found = tlv.decode(icc_data.reveal())
    except iso8583.Iso8583Error:
        return None
    chosen = [(tag, value) for tag, value in found if tag in tags]
    return ChipData(tlv.encode(chosen)) if chosen else None


def _issuer_data(message: iso8583.Message) -> ChipData | None:
    """Field 55 of an answer as it came."""
    size = len(message.raw(55))
    return ChipData(message.raw(55)) if 0 < size <= ISSUER_DATA_BYTES_MAX else None


def _clear(value: Secret[Any] | None) -> Any:
    return None if value is None else value.reveal()


def _secrets(card: Card) -> dict[int, Any]:
    """In clear: for the codec and nobody else."""
    return {
        2: card.pan.reveal(),
        14: card.expiry,
        35: _clear(card.track2),
        52: _clear(card.pin_block),
        53: card.security_control,
        55: _clear(card.icc_data),
        64: NO_MAC,
    }


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
        safe: dict[int, Any] = {
            0: "0200",
            3: "000000",
            4: payment.amount,
            11: payment.stan,
            22: card.entry_mode,
            23: card.sequence_number,
            25: "00",
            26: card.pin_capture_code,
            41: payment.terminal_id,
            42: payment.merchant_id,
            49: "156",
            60: payment.original_60,
        }
        return self._both(safe, partial(_secrets, card))

    def balance(self, terminal_id: str, merchant_id: str, batch_number: str, stan: str, card: Card) -> bytes:
        """What is on a card: a 0200 without its MAC, of which nobody keeps a copy."""
        fields: dict[int, Any] = {
            0: "0200",
            3: "310000",
            11: stan,
            22: card.entry_mode,
            23: card.sequence_number,
            25: "00",
            26: card.pin_capture_code,
            41: terminal_id,
            42: merchant_id,
            49: "156",
            60: f"{BALANCE_60}{batch_number}000",
        }
        return self._whole(fields, partial(_secrets, card))

    def kept(self, card: Card) -> KeptCard:
        """What a reversal will need of this card. Chip data that is no TLV is left out."""
        icc_data = None if card.icc_data is None else _of(card.icc_data, _REVERSAL_TAGS)
        return KeptCard(card.pan, card.expiry, card.sequence_number, icc_data)

    def with_chip(self, kept: KeptCard, icc_data: ChipData) -> KeptCard:
        """The same after the chip's last cryptogram: 95, 9F10 and the results of scripts are those of that."""
        return KeptCard(kept.pan, kept.expiry, kept.sequence_number, _of(icc_data, _REVERSAL_TAGS) or kept.icc_data)

    def reversal(self, payment: Payment, kept: KeptCard, reason: str) -> tuple[bytes, bytes]:
        """The 0400: the original's STAN, batch and amount; field 39 is the reason; no track, no PIN block (C15)."""
        safe: dict[int, Any] = {
            0: "0400",
            3: "000000",
            4: payment.amount,
            11: payment.stan,
            22: payment.entry_mode,
            23: kept.sequence_number,
            25: "00",
            37: payment.rrn or None,
            38: payment.authorization_code or None,
            39: reason,
            41: payment.terminal_id,
            42: payment.merchant_id,
            49: "156",
            60: payment.original_60,
        }
        return self._both(
            safe,
            lambda: {2: kept.pan.reveal(), 14: kept.expiry, 55: _clear(kept.icc_data), 64: NO_MAC},
        )

    def script_notice(self, body: dict[str, Any], batch_number: str, card: KeptCard) -> bytes:
        """The 0620 without its MAC: what the chip of an earlier purchase did with scripts. ``body``: see
        ``runtime.scripts``."""
        fields: dict[int, Any] = {
            0: "0620",
            3: "000000",
            4: body["amount"],
            11: body["stan"],
            22: body["entry_mode"],
            23: card.sequence_number,
            25: "00",
            37: body["rrn"] or None,
            41: body["terminal"],
            42: body["merchant"],
            49: "156",
            60: f"00{batch_number}951",
            61: body["original"],
        }
        chosen = None if card.icc_data is None else _of(card.icc_data, _SCRIPT_TAGS)
        return self._whole(fields, lambda: {2: card.pan.reveal(), 55: _clear(chosen), 64: NO_MAC})

    def sign_on(self, terminal_id: str, merchant_id: str, stan: str, network_code: str) -> bytes:
        """``network_code`` (60.3) says which working keys are wanted; see ``security/workingkeys.py``."""
        reserved = f"00000000{network_code}"
        return self._encode({0: "0800", 11: stan, 41: terminal_id, 42: merchant_id, 60: reserved, 63: "001"})

    def settlement(
        self, terminal_id: str, merchant_id: str, batch_number: str, stan: str, *, count: int, amount: int
    ) -> bytes:
        """Totals of a batch: what was charged and not reversed. Cards are not told apart by where they come from."""
        totals = f"{amount:012d}{min(count, SETTLE_COUNT_MAX):03d}".ljust(_HALF, "0").ljust(2 * _HALF, "0")
        reserved = f"00{batch_number}201"
        fields = {0: "0500", 11: stan, 41: terminal_id, 42: merchant_id, 48: totals, 49: "156", 60: reserved, 63: "001"}
        return self._encode(fields)

    def upload(
        self, terminal_id: str, merchant_id: str, batch_number: str, stan: str, details: Sequence[BatchDetail]
    ) -> bytes:
        """Charges of a batch that differs, by trace number. The card number is left out (zeros): the host finds a
        charge by batch and trace number (v)."""
        rows = "".join(f"00{detail.serial}{0:020d}{detail.amount:012d}" for detail in details)
        return self._upload(terminal_id, merchant_id, stan, f"{len(details):02d}{rows}", f"00{batch_number}201")

    def upload_end(self, terminal_id: str, merchant_id: str, batch_number: str, stan: str, count: int) -> bytes:
        return self._upload(terminal_id, merchant_id, stan, f"{count:04d}", f"00{batch_number}202")

    def _upload(self, terminal_id: str, merchant_id: str, stan: str, private: str, reserved: str) -> bytes:
        return self._encode({0: "0320", 11: stan, 41: terminal_id, 42: merchant_id, 48: private, 60: reserved})

    def echo(self, terminal_id: str, merchant_id: str, stan: str, *, mac: bool = False) -> bytes:
        """With ``mac`` the frame waits for its MAC: by UnionPay's tables an echo has none, some acquirers check one."""
        fields: dict[int, Any] = {0: "0820", 11: stan, 41: terminal_id, 42: merchant_id, 60: "00000000301"}
        return self._encode({**fields, 64: NO_MAC} if mac else fields)

    def download(self, terminal_id: str, merchant_id: str, batch_number: str, network_code: str, data: bytes) -> bytes:
        """One message of a download of parameters. It has neither trace number nor MAC (facts of live traffic)."""
        fields: dict[int, Any] = {
            0: "0820" if network_code in _ASKS else "0800",
            41: terminal_id,
            42: merchant_id,
            60: f"00{batch_number}{network_code}",
            62: data or None,
        }
        return self._encode(fields)

    def _encode(self, fields: dict[int, Any]) -> bytes:
        return self._spec.encode(fields, header=self._header)

    def _both(self, safe: dict[int, Any], secret: Callable[[], dict[int, Any]]) -> tuple[bytes, bytes]:
        """The frame, and the journal's copy of it, in which ``secret`` is missing: card number, expiry, tracks, PIN
        block, chip data, MAC. None: no such field."""
        return self._whole(safe, secret), self._encode(safe)

    def _whole(self, safe: dict[int, Any], secret: Callable[[], dict[int, Any]]) -> bytes:
        failed: Exception | None = None
        try:
            return self._encode({**safe, **secret()})
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
            stan = message.get(11) or ""
            if kind in ("sign_on", "echo") and reserved[8:11] in DOWNLOADS:
                kind, stan = "download", reserved[8:11]
            wish = f"{frame[WISH_AT] & 0x0F:x}"
            has_mac = 64 in message
            amount = message.get(4)
            return CardAnswer(
                kind=kind,
                terminal_id=message[41],
                batch_number=reserved[2:8],
                stan=stan,
                response_code=message.get(39) or "",
                amount=-1 if amount is None else int(amount),
                rrn=message.get(37) or "",
                settlement_date=message.get(15) or "",
                authorization_code=message.get(38) or "",
                working_keys=(message.get(62) or b"") if kind == "sign_on" else b"",
                mab=mab(frame) if has_mac else b"",
                mac=frame[-MAC_SIZE:] if has_mac else None,
                balance=balance,
                wants=wish if wish in WISHES else "",
                data=(message.get(62) or b"") if kind == "download" else b"",
                icc_data=_issuer_data(message) if 55 in message else None,
                settled=_settled(message) if kind == "settlement" else "",
            )
        except iso8583.DecodeError as error:
            raise BadRequestError("unreadable", str(error)) from None
        except KeyError:
            raise BadRequestError("unreadable", "field 41 (terminal) is missing") from None


def _settled(message: iso8583.Message) -> str:
    """How the totals of a settlement compare, the worse of both halves: 1 equal, 2 not, 3 an error; "": none."""
    digits = str(message.get(48) or "")
    if len(digits) not in (_HALF, 2 * _HALF):
        return ""
    said = {digits[at + _HALF - 1] for at in range(0, len(digits), _HALF)} - {"0"}
    return max(said, default="") if said <= {"1", "2", "3"} else ""
