"""An e-bill 电子账单: what one month of an account was made of. Amounts are fen; nothing of it is kept."""

from __future__ import annotations

from msgspec import Struct


class Meter(Struct, frozen=True):
    """One metering point 计量点. Readings are decimals as the marketing system writes them."""

    meter: str
    reading_before: str  # 上月示数
    reading: str  # 本月示数
    energy_kwh: int


class Step(Struct, frozen=True):
    """One step 阶梯 of the price: so much energy at this price."""

    tier: int
    energy_kwh: int
    price: str  # yuan per kWh, a decimal
    amount: int


class EBill(Struct, frozen=True):
    """One month."""

    period: str  # YYYYMM
    read_on: str  # YYYYMMDD, when the meters were read
    energy_kwh: int
    principal: int
    penalty: int  # 违约金
    amount: int  # principal and penalty
    paid: int
    paid_at: str  # YYYYMMDDhhmmss of the latest payment; "": none
    meters: tuple[Meter, ...]
    steps: tuple[Step, ...]
    cut: bool = False  # it has more meters or steps than are listed; the sums are of all
