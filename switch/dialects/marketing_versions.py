"""Which record spec is spoken when: one for good, or two around an upgrade.

An upgrade has an instant. What belongs to a payment that began before it is said in the old spec to the end, with its
repeats, inquiries and cancels; the payment's own number tells when it began, so that a worker which takes it over
decides the same. Everything else is said in the new one. Answers say themselves which spec they are in.

The way back is an upgrade taken away: from then on everything is said in the old spec, and what is still answered in
the new one is understood all the same.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from switch.dialects.marketing import MarketingAnswer, MarketingDialect
from switch.dialects.marketing_ydlw import YdlwDialect
from switch.errors import BadRequestError, ConfigError
from switch.machines.payment_table import Input
from switch.model.ebill import EBill
from switch.model.payment import PaidRow, Posting, Receivable, serial_began_us
from switch.records.spec import Spec, load

NEVER_US: Final = 1 << 62
KNOWN_MAX: Final = 8  # specs that one process understands: each one that it has spoken since it began


class Upgrade(Struct, frozen=True):
    spec: str  # name or file
    at_us: int  # wall clock


def read_at(text: str) -> int:
    """Microseconds since 1970 of an instant as "2026-12-01T00:00:00+08:00".

    Raises:
        ValueError: Not one, or without its distance from UTC.
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no distance from UTC")
    return int(moment.timestamp() * 1_000_000)


def check_upgrade(base: Spec, newer: Spec, at_us: int) -> str:
    """Why one spec cannot follow the other at that time; "": it can."""
    if newer.name != base.name:
        return f"{newer.title} is another format than {base.title}; change spec itself, with the switch stopped"
    if newer.wire_version == base.wire_version:
        return (
            f'{newer.title} and {base.title} have the same wire_version, "{base.wire_version}": answers could not be '
            "told apart"
        )
    begins = datetime.datetime.combine(
        newer.effective_on, datetime.time(), datetime.timezone(datetime.timedelta(hours=8))
    )
    if at_us < begins.timestamp() * 1_000_000:
        return f"{newer.title} is in force from {newer.effective_on} on; give at that day or a later one"
    return ""


def make_dialect(spec: Spec | str, channel: str, wall_us: Callable[[], int]) -> MarketingDialect:
    """What speaks a spec. Raises ConfigError."""
    spec = load(spec) if isinstance(spec, str) else spec
    if spec.name == "marketing_json":
        return MarketingDialect(channel, spec)
    if spec.name == "marketing_ydlw":
        return YdlwDialect(channel, spec, wall_us=wall_us)
    raise ConfigError(f"{spec.title}: name", "the switch speaks marketing_json and marketing_ydlw")


class MarketingSpecs:
    """The specs of one marketing system over the life of a process. ``live`` is what the links speak.

    Raises:
        ConfigError: From the constructor and ``schedule``: a spec cannot be read, or cannot follow the other.
    """

    def __init__(self, spec: str, channel: str, wall_us: Callable[[], int], upgrade: Upgrade | None = None) -> None:
        self._channel = channel
        self._wall_us = wall_us
        self._base = make_dialect(spec, channel, wall_us)
        self._known = [self._base]  # all that answers may come in
        self.upgrade: Upgrade | None = None
        self.live = self._base
        self.schedule(upgrade)

    @property
    def framing(self) -> str:
        return self._base.framing

    def schedule(self, upgrade: Upgrade | None) -> MarketingDialect:
        """From now on with this upgrade, or without any; returns what to speak."""
        if upgrade is not None:
            newer = load(upgrade.spec)
            if problem := check_upgrade(self._base.spec, newer, upgrade.at_us):
                raise ConfigError("marketing.upgrade", problem)
            dialect = make_dialect(newer, self._channel, self._wall_us)
            others = [each for each in self._known if each.spec.wire_version != newer.wire_version]
            # The base is never forgotten, whatever was tried since.
            self._known = [self._base, *[each for each in others if each is not self._base][-KNOWN_MAX:], dialect]
            self.live = TwoSpecs(self._known, self._base, dialect, upgrade.at_us, self._wall_us)
        elif len(self._known) > 1:
            self.live = TwoSpecs(self._known, self._base, self._base, NEVER_US, self._wall_us)
        self.upgrade = upgrade
        return self.live

    def status(self) -> dict[str, str]:
        """What is spoken now and what comes, for people."""
        told = {"spec": self._base.spec.title, "source": self._base.spec.source}
        if self.upgrade is not None:
            live = self._wall_us() >= self.upgrade.at_us
            at = datetime.datetime.fromtimestamp(
                self.upgrade.at_us / 1_000_000, datetime.timezone(datetime.timedelta(hours=8))
            )
            newer = self._known[-1].spec
            told |= {"upgrade": newer.title, "upgrade_at": at.isoformat(), "upgrade_live": "yes" if live else "no"}
        return told


class TwoSpecs(MarketingDialect):
    """Speaks one spec or the other, and understands every one of ``known``."""

    def __init__(
        self,
        known: list[MarketingDialect],
        old: MarketingDialect,
        new: MarketingDialect,
        at_us: int,
        wall_us: Callable[[], int],
    ) -> None:
        self._known = {each.spec.wire_version: each for each in known}
        self._old, self._new = old, new
        self._at_us = at_us
        self._wall_us = wall_us
        self.spec = new.spec
        self.version = new.version
        self.not_signed_on = old.not_signed_on | new.not_signed_on
        self.shown = old.shown

    def _now(self) -> MarketingDialect:
        return self._new if self._wall_us() >= self._at_us else self._old

    def _of(self, posting: Posting) -> MarketingDialect:
        return self._new if serial_began_us(posting.serial) >= self._at_us else self._old

    def _in(self, answer: MarketingAnswer) -> MarketingDialect:
        return self._known[answer.version]

    # -------------------------------------------------------------------------------------------- requests
    def sign_on(self, request_id: int) -> bytes:
        return self._now().sign_on(request_id)

    def sign_off(self, request_id: int) -> bytes:
        return self._now().sign_off(request_id)

    def echo(self, request_id: int) -> bytes:
        return self._now().echo(request_id)

    def inquiry(self, request_id: int, account: str) -> bytes:
        return self._now().inquiry(request_id, account)

    def post(self, request_id: int, posting: Posting, *, account: str, day: str, reference: str) -> bytes:
        return self._of(posting).post(request_id, posting, account=account, day=day, reference=reference)

    def status(self, request_id: int, posting: Posting, *, account: str = "") -> bytes:
        return self._of(posting).status(request_id, posting, account=account)

    def cancel(self, request_id: int, posting: Posting, *, undo: bool, account: str = "") -> bytes:
        return self._of(posting).cancel(request_id, posting, undo=undo, account=account)

    def history(self, request_id: int, account: str, period: str) -> bytes:
        return self._now().history(request_id, account, period)

    def e_bill(self, request_id: int, account: str, period: str) -> bytes:
        return self._now().e_bill(request_id, account, period)

    def totals(self, request_id: int, day: str, count: int, amount: int) -> bytes:
        return self._now().totals(request_id, day, count, amount)

    # -------------------------------------------------------------------------------------------- answers
    def read(self, frame: bytes) -> MarketingAnswer:
        for version, dialect in self._known.items():
            if dialect.speaks(frame):
                answer = dialect.read(frame)
                answer.version = version
                return answer
        versions = ", ".join(f'"{version}"' for version in self._known)
        raise BadRequestError("unreadable", f"neither of the versions that are spoken: {versions}")

    def speaks(self, frame: bytes) -> bool:
        return any(dialect.speaks(frame) for dialect in self._known.values())

    def check(self, op: str, answer: MarketingAnswer) -> None:
        self._in(answer).check(op, answer)

    def outcome(self, op: str, code: str) -> str:
        return self._now().outcome(op, code)

    def codes(self, op: str) -> tuple[str, ...]:
        return self._now().codes(op)

    def posted(self, answer: MarketingAnswer, posting: Posting, account: str) -> Input:
        return self._in(answer).posted(answer, posting, account)

    def is_doubtful(self, answer: MarketingAnswer, posting: Posting) -> bool:
        return self._in(answer).is_doubtful(answer, posting)

    def stated(self, answer: MarketingAnswer, posting: Posting, account: str = "") -> Input:
        return self._in(answer).stated(answer, posting, account)

    def cancelled(self, answer: MarketingAnswer, posting: Posting, *, undo: bool = False) -> Input:
        return self._in(answer).cancelled(answer, posting, undo=undo)

    def rows(self, answer: MarketingAnswer) -> tuple[Receivable, ...]:
        return self._in(answer).rows(answer)

    def paid_rows(self, answer: MarketingAnswer, account: str) -> tuple[PaidRow, ...]:
        return self._in(answer).paid_rows(answer, account)

    def e_bill_of(self, answer: MarketingAnswer, account: str, period: str) -> EBill | str:
        return self._in(answer).e_bill_of(answer, account, period)

    def agreed(self, answer: MarketingAnswer, count: int, amount: int) -> bool | None:
        return self._in(answer).agreed(answer, count, amount)
