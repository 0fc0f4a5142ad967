"""The utility's marketing system, simulated: who owes what, postings by serial, cancels with tombstones.

It speaks ``marketing_json`` or ``marketing_ydlw`` (``marketing_wire``). As the latter it does as that interface does: a
serial that comes twice is posted twice, a cancel leaves no tombstone, and an account's history is what can be asked.
What it promises, and its ledger proves:

    - a serial is posted at most once, and the same serial is answered as the first time (unless the scenario says that
      it does not know serials: then what is posted is posted again each time it comes, and undone with one cancel);
    - a cancelled serial is dead: a later post with it is refused with 15;
    - a receivable is paid by one serial at a time; once paid it is owed no more.

A posting it knows is in one of four states, and only these moves exist:

    unknown -> posted            post
    unknown -> rejected          post refused; sticky
    unknown -> cancelled         cancel, either kind
    posted  -> cancelled         cancel with if_posted = "undo", on the same day
"""

from __future__ import annotations

import datetime
import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from switch import limits
from switch.machines.days import local, months_before
from switch.records.spec import Spec
from switch.sim import customers
from switch.sim.day import wall_s
from switch.sim.host import SimulatedHost
from switch.sim.marketing_wire import HostWire, UnreadableError, make_wire
from switch.sim.scenario import APPROVE, MARKETING_LATE_MAX_S, Action, Rules, Scenario, marketing_chances
from switch.sim.truth import Book, Fact
from switch.sim.wire import FrameConnection

Json = dict[str, Any]

_TEXTS: Final = {
    "00": "成功",
    "01": "对方处理程序异常",
    "03": "无此用户",
    "06": "该用户无欠费",
    "09": "请到营业厅办理",
    "13": "报文内容错误",
    "14": "已销账, 不能撤销",
    "15": "该流水已撤销",
    "16": "已日结, 不能撤销",
    "18": "批扣在途",
    "27": "欠费必须全交",
    "29": "销账失败",
    "50": "数据库错误",
    "59": "交易码未知",
    "73": "金额已变更",
    "78": "报文格式错误",
    "84": "日终处理中",
    "99": "未签到",
    "100": "账户已锁定",
}


@dataclass(slots=True)
class _Serial:
    """What the host knows of one serial."""

    state: str  # posted, rejected, cancelled
    code: str  # what a post with it is answered
    account: str = ""
    receivable: str = ""
    period: str = ""
    amount: int = 0
    day: str = ""
    at_us: int = 0
    channel: str = ""  # who posted it
    times: int = 1  # it was posted


class MarketingHost(SimulatedHost):
    """The marketing system; arguments as ``SimulatedHost`` says.

    Args:
        seed: Of the world of customers, if the ledger is new; default: the scenario's. An old ledger keeps its world.
        specs: What it speaks: a record spec, and more of them while an interface is upgraded; all of one format.
    """

    kind = "marketing"
    prefix_size = 4
    frame_max = limits.MARKETING_FRAME_SIZE_MAX

    def __init__(
        self,
        host: str,
        port: int,
        ledger_path: Book,
        scenario: Scenario,
        *,
        seed: int | None = None,
        cut_over_in_s: float | None = None,
        specs: tuple[Spec | str, ...] = ("marketing_json_1_0",),
    ) -> None:
        super().__init__(host, port, ledger_path, scenario, cut_over_in_s)
        self._wire: HostWire = make_wire(specs)
        self.prefix_size, self.in_digits = self._wire.framing.prefix_bytes, self._wire.framing.in_digits
        self.behave(scenario)
        self._seed = scenario.seed if seed is None else seed
        self._months_owed = scenario.marketing.months_owed
        self._serials: dict[str, _Serial] = {}
        self._paid: dict[str, str] = {}  # receivable -> serial that paid it
        self._prepaid: Counter[str] = Counter()  # fen by account
        self._channels: set[tuple[str, str]] = set()  # (channel, day) signed on
        self._history: dict[tuple[str, str], list[str]] = {}  # (account, period) -> serials that were posted

    def behave(self, scenario: Scenario) -> None:
        self._mood = mood = scenario.marketing
        if self._wire.bare:
            self._mood = msgspec.structs.replace(mood, tombstones=False, keeps_refusals=False, knows_serials=False)
        self.delay_ms = self._mood.delay_ms
        self._chances = marketing_chances(self._mood)
        self._rules = Rules(self._mood.script, MARKETING_LATE_MAX_S)

    @property
    def date(self) -> datetime.date:
        return self.business_day.date()

    @property
    def day(self) -> str:
        """YYYYMMDD."""
        return _yyyymmdd(self.date)

    def opening(self) -> dict[str, Any]:
        return {"seed": self._seed, "months_owed": self._months_owed}

    def recall(self, fact: Fact) -> None:
        match fact["fact"]:
            case "opened":
                # Amounts in the ledger are of that world.
                self._seed = fact["seed"]
                self._months_owed = tuple(fact.get("months_owed", customers.MONTHS_OWED))
            case "sign_on":
                self._channels.add((fact["channel"], fact["day"]))
            case "sign_off":
                self._channels.discard((fact["channel"], fact["day"]))
            case "posting":
                entry = _Serial(
                    *("posted", "00", fact["account"], fact["receivable"], fact["period"], fact["fen"], fact["day"]),
                    at_us=fact["at"],
                    channel=fact.get("channel", ""),
                )
                again = self._serials.get(fact["serial"])
                if again is not None and again.state == "posted":
                    again.times += 1
                else:
                    self._take(fact["serial"], entry)
            case "rejected":
                self._serials[fact["serial"]] = _Serial("rejected", fact["code"], fact["account"])
            case "cancel":
                self._serials[fact["serial"]] = _Serial("cancelled", "15")
            case "undo":
                entry = self._serials[fact["serial"]]
                self._give_back(entry)

    def _take(self, serial: str, entry: _Serial) -> None:
        """What is posted: a receivable is paid, or an account has more."""
        self._serials[serial] = entry
        serials = self._history.setdefault((entry.account, entry.period or entry.day[:6]), [])
        if serial not in serials:
            serials.append(serial)
        if entry.receivable:
            self._paid[entry.receivable] = serial
        else:
            self._prepaid[entry.account] += entry.amount

    def _give_back(self, entry: _Serial) -> None:
        entry.state, entry.code = "cancelled", "15"
        if entry.receivable:
            self._paid.pop(entry.receivable, None)
        else:
            self._prepaid[entry.account] -= entry.amount

    def obey_frame(self, connection: FrameConnection, frame: bytes) -> None:
        try:
            request = self._wire.read(frame)
        except UnreadableError:
            self.counts["unreadable"] += 1
            if answer := self._wire.reply({}, {"code": "78"}, _TEXTS["78"]):
                connection.send(answer)
            return
        message = request.get("op")
        act = _OPERATIONS.get(message) if isinstance(message, str) else None
        if (
            act is None
            or (message == "cancel" and not self._mood.cancels)
            or (message == "status" and not self._mood.tells_status)
        ):
            self.counts["unknown_operation"] += 1
            connection.send(self._reply(request, {"code": "59"}))
            return
        assert isinstance(message, str)
        self.counts[message] += 1
        if request.get("version"):
            self.counts[f"version_{request['version']}"] += 1
        if self._wire.bare:
            request.setdefault("day", self.day)  # a posting names none: it counts for the day on which it comes
        if not _well_formed(message, request):
            connection.send(self._reply(request, {"code": "13"}))
            return
        if (
            message not in ("sign_on", "sign_off", "echo")
            and (str(request.get("channel")), self.day) not in self._channels
        ):
            connection.send(self._reply(request, {"code": "99"}))
            return
        self._obey(self._choose(message, request), connection, request, act)

    def _choose(self, message: str, request: Json) -> Action:
        mood, dice = self._mood, self.dice
        if self._rules.any_left:
            action = self._rules.choose(
                message,
                amount=request.get("amount"),
                account=request.get("account"),
                receivable=request.get("receivable"),
                serial=request.get("serial"),
                month=self._month_position(request) if message == "post" else None,
            )
            if action is not None:
                return action
        if message in _POSTS:
            if (
                message == "post"
                and mood.refuse_nth_rate
                and self._month_position(request) == mood.refuse_nth
                and dice.chance(mood.refuse_nth_rate)
            ):
                return Action("decline", code=dice.random.choice(mood.refuse_codes), acted=False)
            kind = dice.kind(self._chances)
            if kind == "approve":
                return APPROVE
            codes = mood.refuse_codes
            if message == "prepay":
                # What is only said of a bill is not said of a deposit: a switch could not know what that means.
                codes = tuple(code for code in codes if code in _DEPOSIT_REFUSALS) or ("29",)
            return dice.action(
                kind,
                decline_codes=codes,
                ambiguous_codes=mood.ambiguous_codes,
                late_s=mood.late_s,
                late_act_share=mood.late_post_share,
                acted_share={
                    "silence": mood.silence_posted_share,
                    "drop": mood.drop_posted_share,
                    "ambiguous": mood.ambiguous_posted_share,
                }.get(kind, 1.0),
            )
        if message == "cancel":
            if dice.chance(mood.cancel_silence_rate):
                return Action("silence", acted=dice.chance(mood.cancel_silence_done_share))
            if dice.chance(mood.cancel_ambiguous_rate):
                done = dice.chance(mood.cancel_silence_done_share)
                return Action("ambiguous", code=dice.random.choice(mood.ambiguous_codes), acted=done)
        tells_postings = message == ("history" if self._wire.bare else "status")
        if (tells_postings or message in ("inquiry", "e_bill")) and dice.chance(mood.query_silence_rate):
            return Action("silence", acted=False)
        if tells_postings and dice.chance(mood.query_ambiguous_rate):
            return Action("ambiguous", code=dice.random.choice(mood.ambiguous_codes), acted=False)
        return APPROVE

    def _reply(self, request: Json, answer: Json) -> bytes:
        return self._wire.reply(request, answer, _TEXTS.get(answer["code"], "处理失败"))

    def _obey(self, action: Action, connection: FrameConnection, request: Json, act: Operation) -> None:
        """Act on one request as the dice or a rule said, and answer or not."""
        delay_s = self.delay_s()
        if request["op"] == "inquiry":
            delay_s += self.dice.between(self._mood.inquiry_ms) / 1000
        if action.kind == "approve":
            self.send_later(connection, delay_s, self._reply(request, act(self, request)))
            return
        self.counts[f"{request['op']}_{action.kind}"] += 1
        match action.kind:
            case "late_act":
                self.act_later(
                    action.delay_s,
                    lambda: connection.send(self._reply(request, act(self, request))),
                    lambda: None,
                )
                return
            case "decline":
                answer = self._refuse(request, action.code)
                if self.dice.chance(self._mood.refuse_silence_share):
                    return
            case _:
                answer = act(self, request) if action.acted else {}
        match action.kind:
            case "silence":
                return
            case "drop":
                self.cut(connection)
                return
            case "ambiguous":
                answer = {"code": action.code}
            case "late":
                delay_s = action.delay_s
            case "duplicate":
                self.send_later(connection, delay_s, self._reply(request, answer))
        self.send_later(connection, delay_s, self._reply(request, answer))

    # ---- operations: each gives the answer and has done what it says
    def _sign_on(self, request: Json) -> Json:
        channel, day = str(request.get("channel")), self.day
        if (channel, day) not in self._channels:
            self._channels.add((channel, day))
            self.write("sign_on", channel=channel, day=day)
        return {"code": "00", "day": day}

    def _sign_off(self, request: Json) -> Json:
        channel, day = str(request.get("channel")), self.day
        self._channels.discard((channel, day))
        self.write("sign_off", channel=channel, day=day)
        return {"code": "00"}

    def _echo(self, _request: Json) -> Json:
        return {"code": "00", "day": self.day}

    def _inquiry(self, request: Json) -> Json:
        customer = self._customer(request["account"])
        if customer is None:
            return {"code": "03"}
        bills = [bill for bill in customer.bills if bill.receivable not in self._paid]
        if not bills:
            return {"code": "06"}
        return {
            "code": "00",
            "account": customer.account,
            "name": customer.name,
            "address": customer.address,
            "day": self.day,
            "total": sum(bill.amount for bill in bills),
            "advance_balance": customer.advance_balance + self._prepaid[customer.account],
            "partial_allowed": customer.partial_allowed,
            "rows": [
                {
                    "receivable": bill.receivable,
                    "period": bill.period,
                    "principal": bill.principal,
                    "penalty": bill.penalty,
                    "amount": bill.amount,
                    "energy_kwh": bill.energy_kwh,
                    "tier": bill.tier,
                }
                for bill in bills
            ],
        }

    def _post(self, request: Json) -> Json:
        serial, receivable, day = request["serial"], request["receivable"], request["day"]
        known = self._serials.get(serial)
        if known is not None and not self._forgets(known):
            return self._post_again(known, request)
        customer = self._customer(request["account"])
        if customer is None:
            return self._refuse(request, "03")
        for bill in customer.bills:
            if bill.receivable == receivable:
                break
        else:
            return self._refuse(request, "06")
        if receivable in self._paid:
            return self._refuse(request, "06")
        if day != self.day:
            return self._refuse(request, "84")
        amount = bill.amount
        if request["amount"] != amount or request["period"] != bill.period:
            return self._refuse(request, "73")
        entry = _Serial("posted", "00", customer.account, receivable, bill.period, amount, day)
        self._book(request, entry)
        return _posted_answer(serial, entry)

    def _prepay(self, request: Json) -> Json:
        serial = request["serial"]
        known = self._serials.get(serial)
        if known is not None and not self._forgets(known):
            return self._post_again(known, request)
        customer = self._customer(request["account"])
        if customer is None:
            return self._refuse(request, "03")
        if request["day"] != self.day:
            return self._refuse(request, "84")
        if not request["amount"]:
            return self._refuse(request, "29")
        entry = _Serial("posted", "00", customer.account, amount=request["amount"], day=request["day"])
        self._book(request, entry)
        return _posted_answer(serial, entry)

    def _book(self, request: Json, entry: _Serial) -> None:
        entry.at_us, entry.channel = int(wall_s() * 1_000_000), str(request["channel"])
        self._take(request["serial"], entry)
        self._note_posting(request["serial"], entry, request["reference"])

    def _note_posting(self, serial: str, entry: _Serial, reference: str) -> None:
        self.note(
            {
                "at": entry.at_us,
                "channel": entry.channel,
                "fact": "posting",
                "serial": serial,
                "account": entry.account,
                "receivable": entry.receivable,
                "period": entry.period,
                "fen": entry.amount,
                "reference": reference,
                "day": entry.day,
                "after": "posted",
            }
        )

    def _post_again(self, known: _Serial, request: Json) -> Json:
        self.counts["post_again"] += 1
        if known.state == "posted" and not self._mood.knows_serials:
            known.times += 1
            self._note_posting(request["serial"], known, request["reference"])
            return _posted_answer(request["serial"], known)
        if known.state != "posted":
            return {"code": known.code}
        month = request.get("receivable", ""), request.get("period", "")
        asked = (request["account"], *month, request["amount"])
        if asked != (known.account, known.receivable, known.period, known.amount):
            self.counts["post_changed"] += 1
            return {"code": "13"}  # one serial, two contents: proves nothing, a person must look
        return _posted_answer(request["serial"], known)

    def _refuse(self, request: Json, code: str) -> Json:
        """Refuse; for a post the serial remembers it, unless it has a fate already."""
        if request["op"] in _POSTS:
            known = self._serials.get(request["serial"])
            if known is not None and not self._forgets(known):
                return self._post_again(known, request)
            self._serials[request["serial"]] = _Serial("rejected", code, request["account"])
            self.write("rejected", serial=request["serial"], account=request["account"], code=code, after="rejected")
        return {"code": code}

    def _forgets(self, known: _Serial) -> bool:
        """Without tombstones only what is posted now is remembered, and perhaps what was refused."""
        if self._mood.tombstones or known.state == "posted":
            return False
        return known.state == "cancelled" or not self._mood.keeps_refusals

    def _status(self, request: Json) -> Json:
        known = self._serials.get(request["serial"])
        state = "unknown" if known is None or self._forgets(known) else known.state
        return {"code": "00", "serial": request["serial"], "state": state}

    def _history_of(self, request: Json) -> Json:
        """Payments of one month that stand; one that was posted twice is there twice."""
        account, period = request["account"], request["period"]
        customer = self._customer(account)
        if customer is None:
            return {"code": "03"}
        principals = {bill.receivable: (bill.principal, bill.energy_kwh) for bill in customer.bills}
        used = self._used(account).get(period)
        rows = _paid_at_a_counter(used) if self._wire.bare and used is not None and used.bill is None else []
        for serial in self._history.get((account, period), ()):
            entry = self._serials[serial]
            if entry.state != "posted":
                continue
            principal, energy_kwh = principals.get(entry.receivable, (entry.amount, 0))
            paid = local(entry.at_us)
            meter = {} if used is None or not entry.receivable else _readings(used)
            rows += entry.times * [
                {
                    **meter,
                    "prepaid": 0 if entry.receivable else entry.amount,
                    "serial": serial,
                    "period": period,
                    "amount": entry.amount,
                    "penalty": max(0, entry.amount - principal),
                    "energy_kwh": energy_kwh,
                    "collector": entry.channel,
                    "paid_date": f"{paid:%Y%m%d}",
                    "paid_time": f"{paid:%H%M%S}",
                }
            ]
        return {"code": "00", "account": account, "customer": customer.name, "period": period, "rows": rows}

    def _e_bill(self, request: Json) -> Json:
        """What one month was made of; one that was posted twice shows that it was paid twice."""
        account, period = request["account"], request["period"]
        if self._customer(account) is None:
            return {"code": "03"}
        used = self._used(account).get(period)
        if used is None:
            return {"code": "06"}
        principal = sum(step.fen for step in used.steps)
        penalty, paid, paid_at = 0, principal, f"{_month_after(period)}18101500"
        if used.bill is not None:
            penalty, paid, paid_at = used.bill.penalty, 0, ""
            if serial := self._paid.get(used.bill.receivable):
                entry = self._serials[serial]
                paid, paid_at = entry.amount * entry.times, f"{local(entry.at_us):%Y%m%d%H%M%S}"
        return {
            "code": "00",
            "account": account,
            "period": period,
            "read_on": f"{period}25",
            "energy_kwh": used.energy_kwh,
            "principal": principal,
            "penalty": penalty,
            "amount": principal + penalty,
            "paid": paid,
            "paid_at": paid_at,
            "meters": [
                {
                    "meter": f"M{account}",
                    "reading_before": str(used.reading_before),
                    "reading": str(used.reading),
                    "energy_kwh": used.energy_kwh,
                }
            ],
            "steps": [
                {"tier": step.tier, "energy_kwh": step.energy_kwh, "price": step.price, "amount": step.fen}
                for step in used.steps
            ],
        }

    def _totals(self, request: Json) -> Json:
        """What this channel posted on a day, and still stands."""
        amounts = [
            entry.amount
            for entry in self._serials.values()
            if (entry.state, entry.day, entry.channel) == ("posted", request["day"], request["channel"])
        ]
        return {"code": "00", "day": request["day"], "count": len(amounts), "amount": sum(amounts)}

    def _cancel(self, request: Json) -> Json:
        serial = request["serial"]
        known = self._serials.get(serial)
        if not self._mood.tombstones and (known is None or known.state != "posted"):
            return {"code": "15"}
        if known is None or known.state == "rejected":
            # A tombstone also for a refused serial: it must not be accepted later either.
            self._serials[serial] = _Serial("cancelled", "15")
            self.write("cancel", serial=serial, kind=request["if_posted"], after="cancelled")
        elif known.state == "posted":
            if request["if_posted"] == "refuse" and self._mood.tombstones:
                self.write("cancel_refused", serial=serial, code="14", after="posted")
                return {"code": "14"}
            if known.day != self.day:
                code = "16" if self._mood.tombstones else "14"
                self.write("cancel_refused", serial=serial, code=code, after="posted")
                return {"code": code}
            self._give_back(known)
            self.write("undo", serial=serial, receivable=known.receivable, fen=known.amount, after="cancelled")
        return {"code": "00", "serial": serial}

    # ---- world
    def _customer(self, account: str) -> customers.Customer | None:
        return customers.customer(account, self._seed, self.date, self._months_owed)

    def _used(self, account: str) -> dict[str, customers.Used]:
        return customers.used(account, self._seed, self.date, self._months_owed)

    def _month_position(self, request: Json) -> int | None:
        customer = self._customer(request["account"])
        if customer is None:
            return None
        receivables = [bill.receivable for bill in customer.bills]
        receivable = request["receivable"]
        return receivables.index(receivable) + 1 if receivable in receivables else None


@functools.lru_cache(maxsize=4)
def _yyyymmdd(day: datetime.date) -> str:
    return f"{day:%Y%m%d}"


def _readings(used: customers.Used) -> Json:
    """Of the records of ``marketing_ydlw``: one row a payment, so one price: what a kWh cost on the whole."""
    principal = sum(step.fen for step in used.steps)
    return {
        "reading_before": str(used.reading_before),
        "reading": str(used.reading),
        "price": f"{principal / used.energy_kwh / 100:.4f}",
        "metering_point": "1",
    }


def _paid_at_a_counter(used: customers.Used) -> list[Json]:
    """A month that was paid before this world began, a row for each price."""
    after = _month_after(used.period)
    return [
        {
            **_readings(used),
            "serial": "",
            "period": used.period,
            "amount": step.fen,
            "penalty": 0,
            "prepaid": 0,
            "energy_kwh": step.energy_kwh,
            "price": step.price,
            "collector": "HALL01",
            "paid_date": f"{after}18",
            "paid_time": "101500",
        }
        for step in used.steps
    ]


def _month_after(period: str) -> str:
    return months_before(period, -1)


def _posted_answer(serial: str, entry: _Serial) -> Json:
    month = {"period": entry.period} if entry.receivable else {}
    return {"code": "00", "serial": serial, "account": entry.account, **month, "amount": entry.amount}


def _well_formed(message: str, request: Json) -> bool:
    for name, kind, size_max in _FIELDS[message]:
        value = request.get(name)
        if type(value) is not kind:
            return False
        if isinstance(value, str) and not 0 < len(value) <= size_max:
            return False
    return message != "cancel" or request["if_posted"] in ("refuse", "undo")


_POSTS: Final = ("post", "prepay")
_DEPOSIT_REFUSALS: Final = frozenset({"03", "09", "18", "29", "84", "100"})
_FIELDS: Final[dict[str, tuple[tuple[str, type, int], ...]]] = {
    "sign_on": (),
    "echo": (),
    "inquiry": (("account", str, 20),),
    "post": (
        ("serial", str, 24),
        ("account", str, 20),
        ("receivable", str, 24),
        ("period", str, 6),
        ("amount", int, 0),
        ("day", str, 8),
        ("reference", str, 20),
    ),
    "sign_off": (),
    "prepay": (
        ("serial", str, 24),
        ("account", str, 20),
        ("amount", int, 0),
        ("day", str, 8),
        ("reference", str, 20),
    ),
    "history": (("account", str, 20), ("period", str, 6)),
    "e_bill": (("account", str, 20), ("period", str, 6)),
    "totals": (("day", str, 8), ("count", int, 0), ("amount", int, 0)),
    "status": (("serial", str, 24),),
    "cancel": (("serial", str, 24), ("if_posted", str, 8)),
}
Operation = Callable[[MarketingHost, Json], Json]
_OPERATIONS: Final[dict[str, Operation]] = {
    "sign_on": MarketingHost._sign_on,
    "sign_off": MarketingHost._sign_off,
    "echo": MarketingHost._echo,
    "inquiry": MarketingHost._inquiry,
    "post": MarketingHost._post,
    "prepay": MarketingHost._prepay,
    "history": MarketingHost._history_of,
    "e_bill": MarketingHost._e_bill,
    "totals": MarketingHost._totals,
    "status": MarketingHost._status,
    "cancel": MarketingHost._cancel,
}
