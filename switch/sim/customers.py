"""Customers and bills of the simulated utility, computed from the account number: no file, no memory.

The same seed and day always give the same world; another seed gives other customers behind the same accounts.

    account   10 digits: 2 for the region, 7 counting, 1 check digit (weighted sum modulo 10). A number whose check
              digit does not fit belongs to nobody.
    bills     1 to 4 months, the newest is last month; each month's principal follows from its kWh by three tiers.
    penalty   违约金: 0.1 % of the principal a day from the 21st of the month after, never above the principal.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from typing import Final, NamedTuple

ACCOUNTS_MAX: Final = 10_000_000
_REGION: Final = "03"
_WEIGHTS: Final = (7, 3, 1, 7, 3, 1, 7, 3, 1)

# 阶梯: kWh of a month up to which the price holds, and the price in 1/100 fen per kWh.
_TIERS: Final = ((260, 5_889), (600, 6_389), (None, 8_889))
_PENALTY_PER_MILLE_A_DAY: Final = 1
_DUE_DAY: Final = 20

MONTHS_MAX: Final = 6  # as many as the 42 numbers drawn for a customer suffice for
MONTHS_KNOWN: Final = 30  # before this one of which there are readings: more than a switch asks for
MONTHS_OWED: Final = (25, 25, 30, 20)  # percent of the customers who owe one month, two months, …
_ADVANCE_PERCENT: Final = 15  # customers with an advance balance 预收
_ALL_OR_NONE_PERCENT: Final = 5  # customers who must pay all arrears at once
_SHOP_PERCENT: Final = 8

_SURNAMES: Final = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕"
_GIVEN: Final = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂英华玉梅文建国红志海燕春生辉鹏飞晓宇婷雪琳浩然子轩思佳欣怡"
_SHOPS: Final = ("便利店", "五金店", "早餐店", "理发店", "水果店", "文具店", "药房", "茶叶店", "服装店", "修理部")
_SHOP_WORDS: Final = ("顺发", "惠民", "鑫源", "佳和", "永盛", "华联", "新世纪", "百汇", "东升", "福满")
_DISTRICTS: Final = ("越秀区", "海珠区", "天河区", "白云区", "荔湾区", "番禺区", "黄埔区", "南沙区")
_ROADS: Final = ("中山路", "解放路", "人民路", "建设路", "和平路", "文化路", "新华路", "东风路", "江南大道", "滨江路")
_ESTATES: Final = ("翠园小区", "东湖花园", "金桂苑", "阳光家园", "丽景新村", "河畔居", "锦绣华庭", "和谐里", "名雅居")


class Bill(NamedTuple):
    """One receivable 应收. Amounts are fen."""

    receivable: str  # account and month
    period: str  # YYYYMM
    energy_kwh: int
    tier: int  # highest tier the month reached
    principal: int
    penalty: int

    @property
    def amount(self) -> int:
        return self.principal + self.penalty


class Customer(NamedTuple):
    account: str
    name: str  # 户名
    address: str  # 用电地址
    advance_balance: int  # fen
    partial_allowed: bool
    bills: tuple[Bill, ...]  # oldest first


class Step(NamedTuple):
    """So much energy of a month at one price 阶梯."""

    tier: int
    energy_kwh: int
    price: str  # yuan per kWh
    fen: int


class Used(NamedTuple):
    """One month of a meter, owed or paid long ago. Readings are whole kWh."""

    period: str
    energy_kwh: int
    reading_before: int
    reading: int
    steps: tuple[Step, ...]
    bill: Bill | None  # None: paid long ago, at a counter


def account(n: int) -> str:
    """The account number of customer ``n``, from 0.

    >>> account(0), account(17)
    ('0300000009', '0300000178')
    """
    if not 0 <= n < ACCOUNTS_MAX:
        raise ValueError(f"n: {n} is outside 0 to {ACCOUNTS_MAX - 1}")
    body = f"{_REGION}{n:07d}"
    return body + _check_digit(body)


def account_is_valid(number: str) -> bool:
    return (
        len(number) == 10
        and number.isascii()
        and number.isdigit()
        and number.startswith(_REGION)
        and _check_digit(number[:9]) == number[9]
    )


@functools.lru_cache(maxsize=65_536)
def customer(
    number: str,
    seed: int = 1,
    day: datetime.date = datetime.date(2026, 1, 15),
    months_owed: tuple[int, ...] = MONTHS_OWED,
) -> Customer | None:
    """Who lives behind an account and owes what on ``day``, before anything was paid. None: nobody."""
    if not account_is_valid(number):
        return None
    draw = _Draw(seed, number)
    if draw.percent() < _SHOP_PERCENT:
        name = draw.pick(_SHOP_WORDS) + draw.pick(_SHOPS)
    else:
        given = draw.pick(_GIVEN) + (draw.pick(_GIVEN) if draw.percent() < 75 else "")
        name = draw.pick(_SURNAMES) + given
    address = (
        f"广州市{draw.pick(_DISTRICTS)}{draw.pick(_ROADS)}{draw.below(400) + 1}号{draw.pick(_ESTATES)}"
        f"{draw.below(30) + 1}栋{draw.below(32) + 1}{draw.below(8) + 1:02d}房"
    )
    advance_balance = (draw.below(200) + 1) * 100 if draw.percent() < _ADVANCE_PERCENT else 0
    partial_allowed = draw.percent() >= _ALL_OR_NONE_PERCENT
    roll, months = draw.percent(), 1
    for share in months_owed:
        roll -= share
        if roll < 0:
            break
        months += 1
    bills = tuple([_bill(number, back, draw, day) for back in range(months, 0, -1)])
    return Customer(number, name, address, advance_balance, partial_allowed, bills)


@functools.lru_cache(maxsize=2_048)
def principal_of(energy_kwh: int) -> tuple[int, int]:
    """Principal in fen and the highest tier reached, for the energy of one month."""
    hundredths, below, tier = 0, 0, 0
    for limit, price in _TIERS:
        tier += 1
        upper = energy_kwh if limit is None else min(energy_kwh, limit)
        hundredths += (upper - below) * price
        below = upper
        if energy_kwh == upper:
            break
    return (hundredths + 50) // 100, tier


@functools.lru_cache(maxsize=1_024)
def used(
    number: str,
    seed: int = 1,
    day: datetime.date = datetime.date(2026, 1, 15),
    months_owed: tuple[int, ...] = MONTHS_OWED,
) -> dict[str, Used]:
    """What an account used, by month, the oldest first; empty where nobody lives."""
    known = customer(number, seed, day, months_owed)
    if known is None:
        return {}
    bills = {bill.period: bill for bill in known.bills}
    reading, months = 10_000 + int(number[2:9]) % 50_000, {}
    for back in range(MONTHS_KNOWN, 0, -1):
        period, _ = _month(day, back)
        bill = bills.get(period)
        energy_kwh = bill.energy_kwh if bill is not None else 60 + _Draw(seed, number + period).below(700)
        months[period] = Used(period, energy_kwh, reading, reading + energy_kwh, steps_of(energy_kwh), bill)
        reading += energy_kwh
    return months


def steps_of(energy_kwh: int) -> tuple[Step, ...]:
    """The tiers that a month's energy reached. Their fen are those of ``principal_of``.

    >>> [(step.energy_kwh, step.fen) for step in steps_of(300)], principal_of(300)[0]
    ([(260, 15311), (40, 2556)], 17867)
    """
    left, below, steps = principal_of(energy_kwh)[0], 0, []
    for tier, (limit, price) in enumerate(_TIERS, 1):
        upper = energy_kwh if limit is None else min(energy_kwh, limit)
        fen = left if upper == energy_kwh else ((upper - below) * price) // 100
        steps.append(Step(tier, upper - below, f"{price / 10_000:.4f}", fen))
        left, below = left - fen, upper
        if upper == energy_kwh:
            break
    return tuple(steps)


def _bill(number: str, back: int, draw: _Draw, day: datetime.date) -> Bill:
    energy_kwh = 60 + draw.below(340) + (draw.below(600) if draw.percent() < 15 else 0)
    principal, tier = principal_of(energy_kwh)
    period, days_late = _month(day, back)
    penalty = min(principal, (principal * days_late * _PENALTY_PER_MILLE_A_DAY + 500) // 1000)
    return Bill(number + period, period, energy_kwh, tier, principal, penalty)


@functools.lru_cache(maxsize=256)
def _month(day: datetime.date, back: int) -> tuple[str, int]:
    """The month so many before ``day``: YYYYMM, and by how many days its bill is overdue."""
    months = day.year * 12 + day.month - 1 - back
    month = datetime.date(months // 12, months % 12 + 1, 1)
    due = (month.replace(day=28) + datetime.timedelta(days=7)).replace(day=_DUE_DAY)
    return f"{month:%Y%m}", max(0, (day - due).days)


def _check_digit(body: str) -> str:
    # Three digits at a time: one weight after the other would cost more than all the rest of a customer.
    return _DIGITS[(_WEIGHED[body[:3]] + _WEIGHED[body[3:6]] + _WEIGHED[body[6:]]) % 10]


assert _WEIGHTS[:3] * 3 == _WEIGHTS
_WEIGHED: Final = {
    f"{n:03d}": sum(weight * int(digit) for weight, digit in zip(_WEIGHTS[:3], f"{n:03d}", strict=True))
    for n in range(1_000)
}
_DIGITS: Final = "0123456789"


class _Draw:
    """Numbers from a hash of seed and account: cheap, and the same on every machine."""

    __slots__ = ("_at", "_material", "_of")

    def __init__(self, seed: int, number: str) -> None:
        self._of = f"{seed}|{number}|"
        self._material = hashlib.blake2b(f"{self._of}0".encode(), digest_size=64).digest()
        self._at = 0

    def below(self, bound: int) -> int:
        start = self._at
        end = self._at = start + 3
        if end > len(self._material):  # most customers never come here
            assert end < 128
            self._material += hashlib.blake2b(f"{self._of}1".encode(), digest_size=64).digest()
        return int.from_bytes(self._material[start:end], "big") % bound

    def percent(self) -> int:
        return self.below(100)

    def pick(self, choices: str | tuple[str, ...]) -> str:
        return choices[self.below(len(choices))]
