"""The acquirer's card host, simulated: sign-on, echo, purchase and reversal of UnionPay POS terminals.

Written from the UnionPay POS message tables. What it promises, and its ledger proves:

    - one (terminal, batch, stan) is charged at most once; asked again it answers 94 and does nothing;
    - a reversal takes back the whole charge or nothing: 00 undone, 64 another amount, 14 another card, 25 nothing to
      undo, also when the charge is of an earlier settlement day; undone before: 00, or what ``reversal_again`` says;
    - a reversal that finds nothing leaves no trace: a purchase that is acted on later is charged all the same;
    - it acts on a purchase ``LATE_MAX_S`` after it came, or never.

A batch is settled once, by totals compared with what the ledger has as charged in it; then the terminal has the next.
Details of one that differs are compared when their end is told. A host that is killed before forgets them.

A balance inquiry is answered with a sum that follows from the card number, and leaves no trace. Parameters, public keys
and chip applications can be downloaded (``sim/parameters.py``); after ``renew`` every answer asks terminals for it in
its header, until they have done so.

Refusals of a purchase, in the order of the checks: 77 terminal not signed on, A0 MAC, 03 merchant, 30 a field is
missing, 77 batch number, 94 duplicate, 14 card number, 13 amount, 99 PIN block, 55 PIN 000000; then what the card is
known for (``testkeys.POOR_CARD``, ``SILENT_CARD``); then the scenario.
Every answer to a terminal with keys carries a MAC, refusals too; 77 without keys, 97 and A0 carry none.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import hashlib
import hmac
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import iso8583
from switch.errors import SecurityError
from switch.model.batch import next_batch
from switch.security import mac, pinblock, primitives, workingkeys
from switch.sim import parameters, testkeys
from switch.sim.day import time_and_date, wall_s
from switch.sim.host import SimulatedHost
from switch.sim.scenario import APPROVE, LATE_MAX_S, Action, Rules, Scenario, card_chances, reversal_chances
from switch.sim.truth import Book, Fact
from switch.sim.wire import FrameConnection

_HEADER_SIZE: Final = 11  # TPDU and message header
_MAC_SIZE: Final = 8
_ACQUIRER: Final = "48984401"
_ADDITIONAL: Final = f"{'01020000':<11}{_ACQUIRER:<11}"  # issuer and acquirer
_RRN_BLOCK: Final = 10_000_000  # more answers than one run of a host gives
_TOTALS: Final = re.compile(r"([0-9]{12})([0-9]{3})0{15}0(0{31})?\Z")
_FIRST_BATCH: Final = "000001"
_SCRIPT: Final = bytes.fromhex("9F18041234567886098424000004A1B2C3D4")  # 9F18 its number, 86 PIN unblock; made up
_WISH_AT: Final = 7  # the byte with digit 6 of the header
_FULFILS: Final = {"361": "1", "362": "2", "371": "4", "381": "5"}
_WRONG_PIN: Final = "000000"
# Cards for people who try things: what becomes of a purchase, and of so many reversals.
_SILENT_PAN: Final = testkeys.test_pan(testkeys.SILENT_CARD)
_OF_CARDS: Final = {
    testkeys.test_pan(testkeys.POOR_CARD): Action("decline", code="51", acted=False),
    _SILENT_PAN: Action("silence"),
}
_SILENT_REVERSALS: Final = 2
_REVERSAL_REASONS: Final = ("06", "96", "98", "A0")
_BALANCE_FIELDS: Final = frozenset({3, 11, 22, 25, 41, 42, 49, 60})
_PURCHASE_FIELDS: Final = _BALANCE_FIELDS | {4}
_REVERSAL_FIELDS: Final = _PURCHASE_FIELDS | {39}

Values = dict[int | str, Any]


class _Terminal:
    """What the host keeps of one terminal. Its keys follow from its id and the number of its sign-ons."""

    __slots__ = ("batch", "done", "epoch", "layout", "mac", "merchant_id", "pin", "signed_on", "terminal_id")

    def __init__(self, terminal_id: str, merchant_id: str) -> None:
        self.terminal_id = terminal_id
        self.merchant_id = merchant_id
        self.batch = _FIRST_BATCH
        self.epoch = 0
        self.layout = "003"  # 60.3 of its last sign-on: 001 single DES, 003 double, 004 with a track key, 006 SM4
        self.signed_on = False
        self.done: dict[str, int] = {}  # by wish, how often it was renewed when the terminal last fulfilled it
        self.mac: mac.Mac | None = None
        self.pin: primitives.BlockCipher | None = None

    @property
    def cipher(self) -> Callable[[bytes], primitives.BlockCipher]:
        return primitives.sm4 if self.layout == "006" else primitives.des

    def key(self, usage: str, size: int = 16) -> bytes:
        label = f"{self.terminal_id}|{self.epoch}|{usage}".encode()
        return testkeys.with_odd_parity(hmac.digest(b"gridswitch test host", label, "sha256")[:size])


@dataclass(slots=True)
class _Purchase:
    state: str  # charged, reversed, declined; pending: known, but not acted on yet
    amount: int = 0
    settlement_date: str = ""
    rrn: str = ""
    card: str = ""
    authorization_code: str = ""
    unheard: int = 0  # reversals of a silent card


class UnionPayHost(SimulatedHost):
    """The card host; arguments as ``SimulatedHost`` says.

    Args:
        mac_key_size: 16, or 8 for a single-length MAC key (field 62 then carries 8 zero bytes behind it).
    """

    kind = "unionpay"

    def __init__(
        self,
        host: str,
        port: int,
        ledger_path: Book,
        scenario: Scenario,
        *,
        mac_key_size: int = 16,
        cut_over_in_s: float | None = None,
    ) -> None:
        assert mac_key_size in (8, 16)
        super().__init__(host, port, ledger_path, scenario, cut_over_in_s)
        self.behave(scenario)
        self._mac_key_size = mac_key_size
        self._spec = iso8583.load("unionpay_pos", header="tpdu+pos6")
        self.master_keys: dict[str, bytes] = {}  # of terminals whose own is not the test one any more
        self._terminals: dict[str, _Terminal] = {}
        self._purchases: dict[str, _Purchase] = {}
        self._last_rrn = 0
        self._settled: dict[tuple[str, str], str] = {}  # by terminal and batch: what was said about its totals
        self._uploaded: dict[tuple[str, str], dict[str, int]] = {}  # fen by trace number; in memory until its end
        self._script_dice = random.Random(f"{scenario.seed}|scripts")  # so that those of purchases roll as ever
        self._wishes: dict[str, int] = {}  # how often each was renewed

    def renew(self, wish: str) -> None:
        """From now on terminals are asked for this (digit 6 of the header) until they have done it once more."""
        self._wishes[wish] = self._wishes.get(wish, 0) + 1

    def behave(self, scenario: Scenario) -> None:
        self._mood = scenario.unionpay
        self.delay_ms = self._mood.delay_ms
        self._chances = card_chances(self._mood)
        self._reversal_chances = reversal_chances(self._mood)
        self._rules = Rules(self._mood.script, LATE_MAX_S)

    async def start(self) -> None:
        await super().start()
        # Numbers given out in refusals are not in the ledger: each start counts in a block of its own.
        self._last_rrn = (self._last_rrn // _RRN_BLOCK + 1) * _RRN_BLOCK

    @property
    def settlement_date(self) -> str:
        """MMDD."""
        return _mmdd(self.business_day.date())

    def recall(self, fact: Fact) -> None:
        if "rrn" in fact:
            self._last_rrn = max(self._last_rrn, int(fact["rrn"]))
        match fact["fact"]:
            case "sign_on":
                terminal = self._terminal(fact["terminal"])
                assert terminal is not None
                self._install_keys(terminal, fact["epoch"], fact.get("layout", "003"))
                terminal.batch = fact["batch"]
            case "sign_off":
                terminal = self._terminal(fact["terminal"])
                assert terminal is not None
                terminal.signed_on = False
            case "settled":
                terminal = self._terminal(fact["terminal"])
                assert terminal is not None
                self._close(terminal, fact["batch"], fact["code"])
            case "charge":
                self._purchases[_key_of(fact)] = _Purchase(
                    "charged", fact["fen"], fact["settlement_date"], fact["rrn"], fact["card"], fact["authorization"]
                )
            case "decline":
                self._purchases[_key_of(fact)] = _Purchase("declined")
            case "reversal":
                self._purchases[_key_of(fact)].state = "reversed"

    def obey_frame(self, connection: FrameConnection, frame: bytes) -> None:
        try:
            request = _Request(self._spec.decode(frame), frame)
        except (iso8583.DecodeError, KeyError):
            self.counts["unreadable"] += 1
            return
        if request.business_type == "22" and request.message.get(3) == "000000":
            if request.mti == "0200":
                self._take_purchase(connection, request)
                return
            if request.mti == "0400":
                self._take_reversal(connection, request)
                return
        if (request.mti, request.business_type, request.message.get(3)) == ("0200", "01", "310000"):
            self._take_balance(connection, request)
            return
        if (request.mti, request.network_code) == ("0620", "951"):
            self._take_script(connection, request)
            return
        match request.mti, request.business_type, request.network_code:
            case "0800", "00", "001" | "003" | "004" | "006":
                self._take_sign_on(connection, request)
            case "0820", "00", "301":
                self._take_echo(connection, request)
            case "0820", "00", "002":
                self._take_sign_off(connection, request)
            case ("0820", "00", "362" | "372" | "382") | ("0800", "00", "360" | "361" | "370" | "371" | "380" | "381"):
                self._take_download(connection, request)
            case "0500", "00", "201":
                self._take_settlement(connection, request)
            case "0320", "00", "201" | "202":
                self._take_upload(connection, request)
            case _:
                self.counts["unknown_message"] += 1
                try:
                    self._answer(connection, request, {39: "12"})
                except iso8583.EncodeError:
                    self.counts["unanswerable"] += 1

    # ---- management messages
    def _take_sign_on(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["sign_on"] += 1
        action = self._rules.choose("sign_on", terminal=request.terminal_id)
        if action is None and self.dice.chance(self._mood.sign_on_silence_rate):
            action = Action("silence", acted=self.dice.chance(0.5))
        self._obey(action or APPROVE, connection, request, self._sign_on, self._decline_management)

    def _sign_on(self, request: _Request) -> bytes:
        terminal = self._terminal(request.terminal_id)
        if terminal is None:
            return self._reply(request, {39: "97"})
        if request.merchant_id != terminal.merchant_id:
            return self._reply(request, {39: "03"})
        layout = request.network_code
        self._install_keys(terminal, terminal.epoch + 1, layout)
        terminal.done["3"] = self._wishes.get("3", 0)
        self.write("sign_on", terminal=terminal.terminal_id, epoch=terminal.epoch, batch=terminal.batch, layout=layout)
        tmk = terminal.cipher(self.master_keys.get(terminal.terminal_id) or testkeys.test_tmk(terminal.terminal_id))
        pin_size, mac_size = self._key_sizes(layout)
        keys = workingkeys.build(
            workingkeys.WorkingKeys(
                pin=workingkeys.encrypt_key(terminal.key("pin", pin_size), tmk),
                mac=workingkeys.encrypt_key(terminal.key("mac", mac_size), tmk),
                track=workingkeys.encrypt_key(terminal.key("track"), tmk) if layout in ("004", "006") else None,
            )
        )
        business = f"00{terminal.batch}{request.network_code}"
        return self._reply(request, {37: self._next_rrn(), 39: "00", 60: business, 62: keys})

    def _install_keys(self, terminal: _Terminal, epoch: int, layout: str) -> None:
        terminal.epoch, terminal.layout = epoch, layout
        terminal.signed_on = True
        pin_size, mac_size = self._key_sizes(layout)
        algorithm = "sm4_ecb" if layout == "006" else "unionpay_ecb"
        terminal.mac = mac.prepare(algorithm, terminal.cipher(terminal.key("mac", mac_size)))
        terminal.pin = terminal.cipher(terminal.key("pin", pin_size))

    def _key_sizes(self, layout: str) -> tuple[int, int]:
        """Bytes of the PIN key and of the MAC key."""
        return (8, 8) if layout == "001" else (16, 16 if layout == "006" else self._mac_key_size)

    def _take_echo(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["echo"] += 1
        action = self._rules.choose("echo", terminal=request.terminal_id) or APPROVE
        self._obey(action, connection, request, self._echo, self._decline_management)

    def _echo(self, request: _Request) -> bytes:
        """An echo test with a MAC is answered with one."""
        if 64 not in request.message:
            return self._reply(request, {39: "00"})
        terminal = self._terminals.get(request.terminal_id)
        if terminal is None or not terminal.signed_on or terminal.mac is None:
            return self._reply(request, {39: "77"})
        if not request.mac_is_right(terminal.mac):
            return self._reply(request, {39: "A0"})
        frame = self._reply(request, {39: "00", 64: bytes(_MAC_SIZE)})[:-_MAC_SIZE]
        return frame + terminal.mac.make(frame[_HEADER_SIZE:])

    def _decline_management(self, request: _Request, code: str) -> bytes:
        return self._reply(request, {39: code})

    def _take_sign_off(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["sign_off"] += 1
        terminal = self._terminal(request.terminal_id)
        if terminal is None:
            self._answer(connection, request, {39: "97"})
            return
        if terminal.signed_on:
            terminal.signed_on = False
            self.write("sign_off", terminal=terminal.terminal_id)
        self._answer(connection, request, {39: "00"})

    # ---- downloads
    def _take_download(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["download"] += 1
        action = self._rules.choose("download", terminal=request.terminal_id) or APPROVE
        self._obey(action, connection, request, self._download, self._decline_management)

    def _download(self, request: _Request) -> bytes:
        terminal = self._terminals.get(request.terminal_id)
        if terminal is None or not terminal.signed_on:
            return self._reply(request, {39: "77"})
        question = request.message.raw(62) if 62 in request.message else b""
        found: bytes | None = b""
        match request.network_code:
            case "360":
                found = parameters.TEXT
            case "372":
                found = parameters.listed(parameters.KEYS, question)
            case "370":
                found = parameters.item(parameters.KEYS, question)
            case "382":
                found = parameters.listed(parameters.APPLICATIONS, question)
            case "380":
                found = parameters.item(parameters.APPLICATIONS, question)
            case last:
                wish = _FULFILS[last]
                terminal.done[wish] = self._wishes.get(wish, 0)
        if found is None:
            return self._reply(request, {39: "25"})
        values: Values = {37: self._next_rrn(), 39: "00"}
        return self._reply(request, values | ({62: found} if found else {}))

    # ---- batch settlement
    def _take_settlement(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["settlement"] += 1
        self._obey(self._settling("settlement", request), connection, request, self._settle, self._decline_settlement)

    def _settling(self, message: str, request: _Request) -> Action:
        action = self._rules.choose(message, terminal=request.terminal_id)
        if action is None and self.dice.chance(self._mood.settlement_silence_rate):
            action = Action("silence", acted=self.dice.chance(0.5))
        return action or APPROVE

    def _settle(self, request: _Request) -> bytes:
        """Compare with what is charged in this batch. Only a word about the totals ends the batch; asked again, the
        first word stands."""
        terminal = self._terminals.get(request.terminal_id)
        claimed = _TOTALS.match(str(request.message.get(48, "")))
        if terminal is None or not terminal.signed_on or claimed is None:
            return self._settlement_reply(request, "3")
        known = self._settled.get((request.terminal_id, request.batch))
        if known is None and request.batch != terminal.batch:
            return self._settlement_reply(request, "3")
        if known is None:
            ours = self._charges(request.terminal_id, request.batch)
            asked = int(claimed[2]), int(claimed[1])
            known = "1" if asked == (len(ours), sum(ours.values())) else "2"
            self._close(terminal, request.batch, known)
            self.write(
                "settled",
                terminal=request.terminal_id,
                batch=request.batch,
                code=known,
                count=len(ours),
                fen=sum(ours.values()),
                asked_count=asked[0],
                asked_fen=asked[1],
            )
        return self._settlement_reply(request, known)

    def _charges(self, terminal_id: str, batch: str) -> dict[str, int]:
        """Fen by trace number: charged and not taken back."""
        prefix = f"{terminal_id}|{batch}|"
        return {
            key[len(prefix) :]: purchase.amount
            for key, purchase in self._purchases.items()
            if purchase.state == "charged" and key.startswith(prefix)
        }

    def _close(self, terminal: _Terminal, batch: str, code: str) -> None:
        self._settled[terminal.terminal_id, batch] = code
        terminal.batch = next_batch(batch)

    def _settlement_reply(self, request: _Request, code: str) -> bytes:
        """Without field 39, as real ones are: how it went is a digit of field 48."""
        half = str(request.message.get(48, ""))[:30].ljust(30, "0")
        return self._reply(request, {15: self.settlement_date, 37: self._next_rrn(), 48: f"{half}{code}" + "0" * 31})

    def _decline_settlement(self, request: _Request, code: str) -> bytes:
        return self._settlement_reply(request, "3")

    def _take_upload(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["upload"] += 1
        self._obey(self._settling("upload", request), connection, request, self._upload, self._decline_management)

    def _upload(self, request: _Request) -> bytes:
        key = request.terminal_id, request.batch
        digits = str(request.message.get(48, ""))
        if self._settled.get(key) != "2":
            return self._reply(request, {37: self._next_rrn(), 39: "12"})
        if request.network_code == "202":
            uploaded = self._uploaded.get(key, {})
            if len(uploaded) != int(digits or 0):
                return self._reply(request, {37: self._next_rrn(), 39: "30"})
            ours = self._charges(*key)
            differ = sorted(stan for stan in ours.keys() | uploaded if ours.get(stan) != uploaded.get(stan))
            self.write("uploaded", terminal=key[0], batch=key[1], count=len(uploaded), differ=differ)
        else:
            rows = [digits[at : at + 40] for at in range(2, len(digits), 40)]
            if len(rows) != int(digits[:2]) or not 1 <= len(rows) <= 8:
                return self._reply(request, {37: self._next_rrn(), 39: "30"})
            self._uploaded.setdefault(key, {}).update({row[2:8]: int(row[28:]) for row in rows})
        return self._reply(request, {37: self._next_rrn(), 39: "00"})

    # ---- balance
    def _take_balance(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["balance"] += 1
        refusal = self._refusal(request, purchase=False)
        if refusal is not None:
            self.send_later(connection, self.delay_s(), self._financial_reply(request, {39: refusal}))
            return
        action = self._rules.choose("balance", terminal=request.terminal_id)
        if action is None and request.pin == _WRONG_PIN:
            action = Action("decline", code="55", acted=False)
        self._obey(action or APPROVE, connection, request, self._balance, self._decline_balance)

    def _balance(self, request: _Request) -> bytes:
        values: Values = {15: self.settlement_date, 39: "00", 54: f"1002156C{_balance_of(request.pan):012d}"}
        return self._financial_reply(request, values | _for_chip(request, "00"))

    def _decline_balance(self, request: _Request, code: str) -> bytes:
        return self._financial_reply(request, {39: code, **_for_chip(request, code)})

    # ---- purchase
    def _take_purchase(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["purchase"] += 1
        refusal = self._refusal(request, purchase=True)
        if refusal is not None:
            self.counts[f"purchase_refused_{refusal}"] += 1
            # Nothing is remembered of a refusal that comes before the card: the same key may come again, in order.
            self.send_later(connection, self.delay_s(), self._financial_reply(request, {39: refusal}))
            return
        action = None
        if self._rules.any_left:
            action = self._rules.choose(
                "purchase", amount=request.amount, terminal=request.terminal_id, stan=request.stan
            )
        if action is None and request.pin == _WRONG_PIN:
            action = Action("decline", code="55", acted=False)
        if action is None:
            action = _OF_CARDS.get(request.pan) or self._purchase_by_dice()
        if action.kind == "decline" and self.dice.chance(self._mood.bare_decline_share):
            request.terminal = None
        if action.kind == "late_act":
            self._purchases[request.key] = _Purchase("pending")
        self._obey(action, connection, request, self._charge, self._decline_purchase)

    def _refusal(self, request: _Request, *, purchase: bool) -> str | None:
        """What a request with a card is refused for before its issuer is asked."""
        message = request.message
        terminal = self._terminals.get(request.terminal_id)
        if terminal is None or not terminal.signed_on or terminal.mac is None or terminal.pin is None:
            return "77"
        request.terminal = terminal
        if not request.mac_is_right(terminal.mac):
            request.terminal = None  # the keys are in doubt: answer without MAC
            return "A0"
        if request.merchant_id != terminal.merchant_id:
            return "03"
        if (
            not request.pan
            or message.get(49) != "156"
            or not message.keys() >= (_PURCHASE_FIELDS if purchase else _BALANCE_FIELDS)
        ):
            return "30"
        if request.batch != terminal.batch:
            return "77"
        if purchase and request.key in self._purchases:
            return "94"
        if not request.card_is_good:
            return "14"
        if purchase and request.amount == 0:
            return "13"
        pin_block = message.get(52)
        if isinstance(pin_block, bytes):
            if not str(message.get(53, "")).startswith("2"):
                return "99"  # only PIN blocks with PAN
            try:
                request.pin = _pin(terminal.pin.decrypt(pin_block), request.pan)
            except SecurityError:
                return "99"
        return None

    def _purchase_by_dice(self) -> Action:
        mood, dice = self._mood, self.dice
        kind = dice.kind(self._chances)
        if kind == "approve":
            return APPROVE
        if kind == "bad_mac" and dice.chance(mood.bad_mac_other_share):
            action = replace(self._fill_in(dice.random.choice(("decline", "ambiguous"))), kind=kind)
        else:
            action = self._fill_in(kind)
        other = action.kind in ("decline", "ambiguous", "bad_mac")
        if other and dice.chance(mood.late_other_share):
            action = replace(action, delay_s=dice.between(mood.late_s))
        may_stray = action.kind == "duplicate" or (action.kind != "late_act" and action.delay_s)
        if may_stray and dice.chance(mood.stray_share):
            action = replace(action, delay_s=dice.between(mood.stray_s))
        return action

    def _fill_in(self, kind: str) -> Action:
        mood = self._mood
        return self.dice.action(
            kind,
            decline_codes=mood.decline_codes,
            ambiguous_codes=mood.ambiguous_codes,
            late_s=mood.late_s,
            late_act_share=mood.late_charge_share,
            acted_share={
                "silence": mood.silence_charged_share,
                "drop": mood.drop_charged_share,
                "ambiguous": mood.ambiguous_charged_share,
            }.get(kind, 1.0),
        )

    def _charge(self, request: _Request) -> bytes:
        settlement_date = self.settlement_date
        rrn = self._next_rrn()
        authorization_code = rrn[-6:]
        known = self._purchases.get(request.key)
        assert known is None or known.state == "pending", "one key is never charged twice"
        self._purchases[request.key] = _Purchase(
            "charged", request.amount, settlement_date, rrn, request.card, authorization_code
        )
        self.note(
            {
                "at": int(wall_s() * 1_000_000),
                "fact": "charge",
                "terminal": request.terminal_id,
                "batch": request.batch,
                "stan": request.stan,
                "fen": request.amount,
                "rrn": rrn,
                "settlement_date": settlement_date,
                "authorization": authorization_code,
                "card": request.card,
                "after": "charged",
            }
        )
        values: Values = {15: settlement_date, 37: rrn, 38: authorization_code, 39: "00"}
        return self._financial_reply(request, values | _for_chip(request, "00"))

    def _decline_purchase(self, request: _Request, code: str) -> bytes:
        known = self._purchases.get(request.key)
        rrn = self._next_rrn() if known is None else known.rrn
        if known is None:  # an ambiguous answer may stand for a charge
            self._purchases[request.key] = _Purchase("declined")
            self.write(
                "decline",
                terminal=request.terminal_id,
                batch=request.batch,
                stan=request.stan,
                fen=request.amount,
                rrn=rrn,
                code=code,
                after="declined",
            )
        values: Values = {15: self.settlement_date, 37: rrn, 39: code}
        return self._financial_reply(request, values | _for_chip(request, code))

    # ---- reversal
    def _take_reversal(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["reversal"] += 1
        refusal = self._refusal_of_reversal(request)
        if refusal is not None:
            self.counts[f"reversal_refused_{refusal}"] += 1
            self.send_later(connection, self.delay_s(), self._financial_reply(request, {39: refusal}))
            return
        action = self._rules.choose("reversal", amount=request.amount, terminal=request.terminal_id, stan=request.stan)
        if action is None and request.pan == _SILENT_PAN and (known := self._purchases.get(request.key)) is not None:
            known.unheard += 1
            action = Action("silence") if known.unheard <= _SILENT_REVERSALS else APPROVE
        self._obey(action or self._reversal_by_dice(), connection, request, self._reverse, self._decline_reversal)

    def _reversal_by_dice(self) -> Action:
        mood = self._mood
        kind = self.dice.kind(self._reversal_chances)
        if kind == "silence":
            return Action(kind, acted=self.dice.chance(mood.reversal_silence_done_share))
        if kind == "decline":
            return Action(kind, code=self.dice.random.choice(mood.reversal_refuse_codes), acted=False)
        return Action(kind)

    def _refusal_of_reversal(self, request: _Request) -> str | None:
        message = request.message
        terminal = self._terminals.get(request.terminal_id)
        if terminal is None or not terminal.signed_on or terminal.mac is None:
            return "77"
        request.terminal = terminal
        if not request.mac_is_right(terminal.mac):
            request.terminal = None
            return "A0"
        if request.merchant_id != terminal.merchant_id:
            return "03"
        if not request.pan or not message.keys() >= _REVERSAL_FIELDS:
            return "30"
        if message[39] not in _REVERSAL_REASONS or 52 in message:
            return "30"
        return None

    def _reverse(self, request: _Request) -> bytes:
        purchase = self._purchases.get(request.key)
        if purchase is None or purchase.state not in ("charged", "reversed"):
            self.counts["reversal_not_found"] += 1
            return self._reversal_reply(request, None, self._mood.reversal_not_found)
        if request.amount != purchase.amount:
            return self._reversal_reply(request, purchase, "64")
        if request.card != purchase.card:
            return self._reversal_reply(request, purchase, "14")
        if purchase.state == "reversed":
            return self._reversal_reply(request, purchase, self._mood.reversal_again)
        if purchase.settlement_date != self.settlement_date:
            self.counts["reversal_next_day"] += 1
            return self._reversal_reply(request, purchase, "25")
        purchase.state = "reversed"
        self.write(
            "reversal",
            terminal=request.terminal_id,
            batch=request.batch,
            stan=request.stan,
            fen=purchase.amount,
            reason=request.message[39],
            after="reversed",
        )
        return self._reversal_reply(request, purchase, "00")

    def _reversal_reply(self, request: _Request, purchase: _Purchase | None, code: str) -> bytes:
        if code != "00":
            # For people who read the ledger; nothing is recalled from it.
            self.write(
                "reversal_refused",
                terminal=request.terminal_id,
                batch=request.batch,
                stan=request.stan,
                code=code,
                after="unknown" if purchase is None else purchase.state,
            )
        if purchase is None:
            values: Values = {15: self.settlement_date, 37: self._next_rrn(), 39: code}
        else:
            values = {15: purchase.settlement_date, 37: purchase.rrn, 38: purchase.authorization_code, 39: code}
        return self._financial_reply(request, values)

    def _decline_reversal(self, request: _Request, code: str) -> bytes:
        purchase = self._purchases.get(request.key)
        known = purchase is not None and purchase.state in ("charged", "reversed")
        return self._reversal_reply(request, purchase if known else None, code)

    # ---- scripts
    def _take_script(self, connection: FrameConnection, request: _Request) -> None:
        self.counts["script"] += 1
        refusal = self._refusal_of_script(request)
        if refusal is not None:
            self.counts[f"script_refused_{refusal}"] += 1
            self.send_later(connection, self.delay_s(), self._financial_reply(request, {39: refusal}))
            return
        action = self._rules.choose("script", terminal=request.terminal_id)
        if action is None and self._script_dice.random() < self._mood.silence_rate:
            action = Action("silence", acted=self._script_dice.random() < 0.5)
        self._obey(action or APPROVE, connection, request, self._note_script, self._decline_balance)

    def _refusal_of_script(self, request: _Request) -> str | None:
        terminal = self._terminals.get(request.terminal_id)
        if terminal is None or not terminal.signed_on or terminal.mac is None:
            return "77"
        request.terminal = terminal
        if not request.mac_is_right(terminal.mac):
            request.terminal = None
            return "A0"
        chip = request.message.get(55)
        done = isinstance(chip, bytes) and iso8583.tlv.first(iso8583.tlv.decode(chip), "DF31")
        original = str(request.message.get(61, ""))
        if not done or not request.pan or len(original) != 16:
            return "30"
        known = self._purchases.get(f"{request.terminal_id}|{original[:6]}|{original[6:12]}")
        return None if known is not None and known.card == request.card else "25"

    def _note_script(self, request: _Request) -> bytes:
        original = str(request.message[61])
        # For people who read the ledger; nothing is recalled from it.
        self.write("script", terminal=request.terminal_id, batch=original[:6], stan=original[6:12])
        return self._financial_reply(request, {39: "00"})

    # ---- moods
    def _obey(
        self,
        action: Action,
        connection: FrameConnection,
        request: _Request,
        act: Callable[[_Request], bytes],
        decline: Callable[[_Request, str], bytes],
    ) -> None:
        """Act on one request as the dice or a rule said, and answer or not."""
        delay_s = action.delay_s or self.delay_s()
        if action.kind == "approve":
            self.send_later(connection, delay_s, act(request))
            return
        self.counts[f"{request.mti}_{action.kind}"] += 1
        match action.kind:
            case "late_act":
                self.act_later(
                    action.delay_s,
                    lambda: connection.send(act(request)),
                    lambda: self._forget_pending(request),
                )
                return
            case "decline":
                frame = decline(request, action.code)
            case _:
                frame = act(request) if action.acted else b""
        match action.kind:
            case "silence":
                return
            case "drop":
                self.cut(connection)
                return
            case "ambiguous":
                frame = decline(request, action.code)
            case "bad_mac":
                frame = decline(request, action.code) if action.code else frame
                frame = frame[:-1] + bytes([frame[-1] ^ 1])
            case "duplicate":
                self.send_later(connection, self.delay_s(), frame)
        if self._mood.stray_share and action.delay_s:
            self._send_stray(connection, delay_s, frame)
            if self.dice.chance(self._mood.stray_twice_share):
                self._send_stray(connection, self.dice.between(self._mood.stray_first_s), frame)
        else:
            self.send_later(connection, delay_s, frame)

    def _send_stray(self, connection: FrameConnection, delay_s: float, frame: bytes) -> None:
        """Much later, and if its connection is gone by then, on whatever there is: the host does not care."""

        def send() -> None:
            target = connection if connection.is_open else self.latest
            if target is not None:
                target.send(frame)

        asyncio.get_running_loop().call_later(delay_s, send)

    def _forget_pending(self, request: _Request) -> None:
        known = self._purchases.get(request.key)
        if known is not None and known.state == "pending":
            del self._purchases[request.key]

    # ---- answers
    def _answer(self, connection: FrameConnection, request: _Request, values: Values) -> None:
        self.send_later(connection, self.delay_s(), self._reply(request, values))

    def _reply(self, request: _Request, values: Values) -> bytes:
        time, date = time_and_date()
        return self._with_wish(request, request.message.reply({12: time, 13: date, **values}))

    def _with_wish(self, request: _Request, frame: bytes) -> bytes:
        """Digit 6 of the header: what the terminal has to do, if anything."""
        if not self._wishes:
            return frame
        terminal = self._terminals.get(request.terminal_id)
        for wish, renewed in self._wishes.items():
            if terminal is not None and terminal.done.get(wish, 0) < renewed:
                return frame[:_WISH_AT] + bytes([frame[_WISH_AT] & 0xF0 | int(wish, 16)]) + frame[_WISH_AT + 1 :]
        return frame

    def _financial_reply(self, request: _Request, values: Values) -> bytes:
        if 2 not in request.message and request.pan:
            values[2] = request.pan
        if 37 not in values:
            values[37] = self._next_rrn()
        terminal = request.terminal
        values[12], values[13] = time_and_date()
        values[32] = _ACQUIRER
        values[44] = _ADDITIONAL
        values[63] = "CUP"
        if terminal is None or terminal.mac is None:
            return self._with_wish(request, request.message.reply(values))
        values[64] = bytes(_MAC_SIZE)
        frame = request.message.reply(values)[:-_MAC_SIZE]
        return self._with_wish(request, frame + terminal.mac.make(frame[_HEADER_SIZE:]))

    def _terminal(self, terminal_id: str) -> _Terminal | None:
        """A terminal of the test range, made when first heard of."""
        terminal = self._terminals.get(terminal_id)
        if terminal is None:
            number = testkeys.terminal_number(terminal_id)
            if number is None:
                return None
            terminal = self._terminals[terminal_id] = _Terminal(*testkeys.test_terminal(number))
        return terminal

    def _next_rrn(self) -> str:
        self._last_rrn += 1
        return f"{self._last_rrn:012d}"


class _Request:
    """A decoded message with what the host looks at again and again."""

    __slots__ = (
        "amount", "batch", "business_type", "card", "card_is_good", "frame", "key", "merchant_id", "message", "mti",
        "network_code", "pan", "pin", "stan", "terminal", "terminal_id",
    )  # fmt: skip

    def __init__(self, message: iso8583.Message, frame: bytes) -> None:
        self.message = message
        self.frame = frame
        self.mti = message.mti
        self.terminal_id: str = message[41]
        self.merchant_id: str = message[42]
        self.stan: str | None = message.get(11)
        business: str = message[60]
        self.business_type, self.batch, self.network_code = business[:2], business[2:8], business[8:11]
        self.key = f"{self.terminal_id}|{self.batch}|{self.stan}"
        self.amount = int(message.get(4, "0"))
        pan: str | None = message.get(2)
        if pan is None:
            pan = message.get(35, "").partition("=")[0]
        self.pan, self.card, self.card_is_good = _card(pan)
        self.pin = ""
        self.terminal: _Terminal | None = None  # set once its MAC was right: then answers carry one

    def mac_is_right(self, key: mac.Mac) -> bool:
        if 64 not in self.message:
            return False
        return key.verify(self.frame[_HEADER_SIZE:-_MAC_SIZE], self.frame[-_MAC_SIZE:])


# Cards come again, above all those of a generator's kiosks: what follows from the number alone is worked out once.
@functools.lru_cache(maxsize=65_536)
def _card(pan: str) -> tuple[str, str, bool]:
    """The number if it is one, else nothing; its token; whether its check digit is right.

    The token tells whether two messages are of one card; a ledger must not hold card numbers, not even test ones.
    """
    if not (13 <= len(pan) <= 19 and pan.isdigit()):
        return "", "", False
    token = hashlib.blake2b(pan.encode(), digest_size=6, key=b"gridswitch test card").hexdigest()
    return pan, token, iso8583.luhn_ok(pan)


@functools.lru_cache(maxsize=65_536)
def _pin(clear: bytes, pan: str) -> str:
    """Raises SecurityError: it is no PIN block of this card."""
    return pinblock.decode_format0(clear, pan)


@functools.lru_cache(maxsize=4)
def _mmdd(day: datetime.date) -> str:
    return f"{day:%m%d}"


def _for_chip(request: _Request, code: str) -> Values:
    """Field 55 of an answer: the card's counter, the issuer's word (91) and, for some cards, a script (72) that counts
    its PIN tries anew; of a decline the counter alone. Nothing to a request without."""
    chip = request.message.get(55)
    if not isinstance(chip, bytes):
        return {}
    try:
        counter = iso8583.tlv.first(iso8583.tlv.decode(chip), "9F36") or b"\x00\x01"
    except iso8583.DecodeError:
        counter = b"\x00\x01"
    found = [("9F36", counter)]
    if code == "00":
        found.append(("91", hashlib.sha256(chip).digest()[:8] + code.encode()))
        if has_script(request.pan):
            found.append(("72", _SCRIPT))
    return {55: iso8583.tlv.encode(found)}


def has_script(pan: str) -> bool:
    """Whether the issuer of this test card sends a script."""
    return pan[-2:-1] in ("3", "6", "8")


def _key_of(fact: Fact) -> str:
    return f"{fact['terminal']}|{fact['batch']}|{fact['stan']}"


def _balance_of(pan: str) -> int:
    """Fen on a test card: the digits before the last, so that a test knows it."""
    return int(pan[-7:-1]) * 100
