"""Many kiosks at once: each pays the bills of one customer after the other, and keeps a book of what it was told.

The loop is closed: a kiosk starts its next payment when the last one has an answer, so a slow switch gets less work,
not a longer queue; ``rate`` caps the whole fleet. Kiosk ``n`` of ``count`` serves the accounts n - 1, n - 1 + count, …
so that no two kiosks meet at one bill.

A payment without a final word is asked for in the background until it has one or the settle time is over, while the
kiosk goes on. The book is a file of facts like a host's ledger:

    sent     key, fen, account, receivables      before the request leaves
    told     key, code, stable, reference, how   every word about it
    final    key, code, stable                   the first word that is final

``key`` is terminal|MMDD|serial.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from switch import limits
from switch.sim import customers, testkeys
from switch.sim.day import china_now
from switch.sim.histogram import Histogram
from switch.sim.kiosk_client import Answer, Bills, CardChoice, Kiosk, Payment
from switch.sim.scenario import Dice, FleetScenario, Scenario
from switch.sim.truth import TruthLedger, read_facts
from switch.sim.wire import Turn, kiosk_tls

SETTLE_S: Final = 30.0  # after the load ends: every bound of the short profile is below it
_PROGRESS_S: Final = 1.0
_ASK_EVERY_MAX_S: Final = 5.0  # "ask with a result inquiry every few seconds"
_SIGN_ON_AGAIN: Final = frozenset({"77", "A0", "A1"})
CARDS_OF_A_KIOSK: Final = 1_000
_REFUSED_PAUSE_S: Final = 0.2  # a refusal before the card is quick; without a pause it becomes a flood
_HANG_UP_MAX_S: Final = 1.0
_SERIALS_A_SECOND: Final = 11  # 86,400 seconds a day into 999,999 serials


@dataclass
class FleetResult:
    """What a run came to. Counts are payments unless the name says otherwise."""

    kiosks: int = 0
    seconds: float = 0.0  # of load; settling comes after
    settle_seconds: float = 0.0
    payments: int = 0  # sent
    completed: int = 0
    declined: int = 0
    returned: int = 0
    unproven: int = 0
    suspense: int = 0
    not_charged: int = 0  # N1, 25
    refused: int = 0  # before the card: E*, N2 to N4, 30, 58, 94, 96
    unknown: int = 0  # no final word when the settle time was over
    fen_completed: int = 0
    in_doubt: int = 0  # went through U1, B1, R1, a time-out or a lost connection on the way
    bills_refused: int = 0  # inquiries that gave no bill
    codes: Counter[str] = field(default_factory=Counter)  # first words
    events: Counter[str] = field(default_factory=Counter)  # of the kiosks: lost connections, wrong MACs …
    first_word: Histogram = field(default_factory=Histogram)  # payments, from the request to the first word

    @property
    def payments_per_s(self) -> float:
        return self.payments / self.seconds if self.seconds else 0.0

    def latency_ms(self, share: float) -> float:
        """The latency that ``share`` of the payments did not exceed, in milliseconds; 0 without payments."""
        return 1000 * self.first_word.at(share)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = {
            name: round(value, 3) for name, value in vars(self).items() if isinstance(value, int | float)
        }
        return plain | {
            "payments_per_s": round(self.payments_per_s, 1),
            "latency_ms_p50": round(self.latency_ms(0.50), 2),
            "latency_ms_p99": round(self.latency_ms(0.99), 2),
            "latency_ms_max": round(self.latency_ms(1.0), 2),
            "codes": dict(sorted(self.codes.items())),
            "events": dict(sorted(self.events.items())),
        }


@dataclass(slots=True)
class BookEntry:
    """One payment in the kiosks' book."""

    fen: int
    account: str
    receivables: tuple[str, ...]
    told: list[str] = field(default_factory=list)  # every code, in order
    final: str | None = None
    stable: str = ""
    reference: str = ""


def read_book(path: str | Path) -> dict[str, BookEntry]:
    """The kiosks' book by key (terminal|MMDD|serial).

    Raises:
        ValueError: The file is no book of kiosks.
    """
    entries: dict[str, BookEntry] = {}
    for fact in read_facts(path):
        match fact["fact"]:
            case "sent":
                entries[fact["key"]] = BookEntry(fact["fen"], fact["account"], tuple(fact["receivables"]))
            case "told":
                entry = entries[fact["key"]]
                entry.told.append(fact["code"])
                entry.reference = fact["reference"] or entry.reference
            case "final":
                entries[fact["key"]].final = fact["code"]
                entries[fact["key"]].stable = fact["stable"]
            case other:
                raise ValueError(f"{path}: {other!r} is nothing that kiosks note; expected their book")
    return entries


async def run_fleet(
    host: str,
    port: int,
    count: int,
    seconds: float,
    rate: float | None = None,
    scenario: Scenario | None = None,
    book_path: str | Path | None = None,
    *,
    profile: limits.TimeProfile = limits.SHORT,
    settle_s: float = SETTLE_S,
    first_terminal: int = 1,
    first_account: int = 0,
    progress: Callable[[FleetResult], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    tls_dir: Path | None = None,
) -> FleetResult:
    """Let ``count`` kiosks pay for ``seconds``, then settle.

    Args:
        rate: Payments a second of the whole fleet, at most; None: as fast as answers come.
        book_path: Where the kiosks' book goes; serials of today go on behind it. None: no book.
        settle_s: How long unclear payments are still asked for at the end.
        first_account: Customers before this one are left alone: for runs that follow each other.
        progress: Called every second with the result so far.
        stop: Asked before each payment; True ends the load early.
        tls_dir: A folder of ``gridswitch certs dev``; None: kiosks speak in the clear.

    Raises:
        StartError: The book belongs to another running fleet.
    """
    fleet = Fleet(host, port, count, seconds, rate, scenario or Scenario(name="calm"), book_path, profile, settle_s)
    fleet.stop = stop
    fleet.tls_dir = tls_dir
    return await fleet.run(first_terminal, first_account, progress)


class Fleet:
    def __init__(
        self,
        host: str,
        port: int,
        count: int,
        seconds: float,
        rate: float | None,
        scenario: Scenario,
        book_path: str | Path | None,
        profile: limits.TimeProfile,
        settle_s: float,
    ) -> None:
        assert count >= 1 and seconds >= 0 and (rate is None or rate > 0)
        self.host, self.port, self.count = host, port, count
        self.scenario = scenario
        self.mood: FleetScenario = scenario.fleet
        self.profile = profile
        self.result = FleetResult(kiosks=count)
        self.book = None if book_path is None else TruthLedger(book_path)
        self.turn = Turn(None if self.book is None else self.book.flush)
        self.seconds, self._settle_s = seconds, settle_s
        self._slot_s = 0.0 if rate is None else 1.0 / rate
        self._next_slot = 0.0
        self.stop: Callable[[], bool] = lambda: False
        self.tls_dir: Path | None = None
        self.ends_at = 0.0  # loop time
        self.settled_at = 0.0

    def begin(self, now: float) -> None:
        """The load begins at this time of the loop."""
        self.ends_at = now + self.seconds
        self.settled_at = self.ends_at + self._settle_s

    async def run(
        self, first_terminal: int, first_account: int, progress: Callable[[FleetResult], None] | None
    ) -> FleetResult:
        loop = asyncio.get_running_loop()
        started = self._next_slot = loop.time()
        self.begin(started)
        serials = self._serials_in_book()
        default = first_serial()
        numbers = range(first_terminal, first_terminal + self.count)
        stops = [
            self.stop_of(number, first_account + place, serials.get(number, default))
            for place, number in enumerate(numbers)
        ]
        watch = None if progress is None else loop.create_task(self._watch(started, progress))
        try:
            await self.play(stops)
        finally:
            if watch is not None:
                watch.cancel()
            if self.book is not None:
                self.book.close()
        self.result.settle_seconds = max(0.0, loop.time() - self.ends_at)
        self.result.seconds = min(self.seconds, loop.time() - started)
        for stop in stops:
            self.result.events.update(stop.kiosk.counts)
            self.result.unknown += len(stop.kiosk.unfinished)
        if progress is not None:
            progress(self.result)
        return self.result

    def stop_of(self, number: int, first_account: int, first_serial: int) -> Stop:
        return Stop(self, number, first_account, first_serial)

    async def play(self, stops: list[Stop]) -> None:
        async with asyncio.TaskGroup() as group:
            for stop in stops:
                group.create_task(stop.run())

    async def slot(self) -> bool:
        """Wait for this kiosk's turn under ``rate``; False when the load is over."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self.stop():
            # The settle time counts from here.
            self.ends_at = min(self.ends_at, now)
            self.settled_at = min(self.settled_at, now + self._settle_s)
        if self._slot_s:
            at = max(self._next_slot, now - self._slot_s)
            self._next_slot = at + self._slot_s
            if at >= self.ends_at:
                await asyncio.sleep(max(0.0, self.ends_at - now))
                return False
            await asyncio.sleep(max(0.0, at - now))
        return loop.time() < self.ends_at

    def count_final(self, payment: Payment) -> None:
        story = _story(payment)
        setattr(self.result, story, getattr(self.result, story) + 1)
        if story == "completed":
            self.result.fen_completed += payment.amount

    def write(self, fact: str, **facts: Any) -> None:
        if self.book is not None:
            self.book.write(fact, **facts)
            self.turn.schedule()

    async def _watch(self, started: float, progress: Callable[[FleetResult], None]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_PROGRESS_S)
            self.result.seconds = min(self.seconds, loop.time() - started)
            progress(self.result)

    def _serials_in_book(self) -> dict[int, int]:
        """Next serial of each terminal that has payments of today in the book."""
        last: dict[int, int] = {}
        if self.book is not None:
            today = f"{china_now():%m%d}"
            for fact in self.book.replay():
                if fact["fact"] == "sent":
                    terminal, date, serial = fact["key"].split("|")
                    if date == today:
                        number = int(terminal[2:])
                        last[number] = max(last.get(number, 0), int(serial))
        return {number: serial + 1 for number, serial in last.items()}


class Stop:
    """One kiosk with its queue of customers."""

    def __init__(self, fleet: Fleet, number: int, first_account: int, first_serial: int) -> None:
        self._fleet = fleet
        self._dice = Dice(fleet.scenario.seed, f"kiosk {number}")
        self._account = first_account
        self._first_card = number * CARDS_OF_A_KIOSK
        self._in_doubt: dict[tuple[str, str], Payment] = {}  # answered, timed out or cut off without a final word
        self._clarifier: asyncio.Task[None] | None = None
        self._getting_ready = asyncio.Lock()
        self.kiosk = Kiosk(
            number,
            fleet.host,
            fleet.port,
            turn=fleet.turn,
            profile=fleet.profile,
            heard=self._heard,
            first_serial=first_serial,
            tls=None if fleet.tls_dir is None else kiosk_tls(fleet.tls_dir, testkeys.test_terminal(number)[0]),
        )

    async def run(self) -> None:
        fleet = self._fleet
        # A hall opens its kiosks one after the other; all in one millisecond would only measure the backlog.
        await asyncio.sleep(self._dice.random.random() * min(1.0, fleet.count / 500))
        if await self._ready(fleet.ends_at):
            while await fleet.slot():
                await self._serve(customers.account(self._account % customers.ACCOUNTS_MAX))
                self._account += fleet.count
                await asyncio.sleep(self._dice.between(fleet.mood.think_ms) / 1000)
        if self._clarifier is not None:
            await self._clarifier
        self.kiosk.close()

    # ---- one customer
    async def _serve(self, account: str) -> None:
        fleet, kiosk, dice = self._fleet, self.kiosk, self._dice
        for _attempt in range(2):
            if not await self._ready(fleet.ends_at):
                return
            answer = await kiosk.inquire(account)
            if answer.bills is None:
                fleet.result.bills_refused += 1
                fleet.result.events[f"inquiry_{answer.code or 'silent'}"] += 1
                if answer.code not in _SIGN_ON_AGAIN:
                    await asyncio.sleep(_REFUSED_PAUSE_S * dice.random.random())
                    return
                kiosk.signed_on = False
                continue
            hangs_up = dice.chance(fleet.mood.disconnect_rate)
            payment = await kiosk.pay(
                answer.bills,
                self._choose_months(answer.bills),
                self._choose_card(),
                before_sending=self._before_sending,
                repeat=dice.chance(fleet.mood.repeat_rate),
                hang_up_after_s=dice.random.random() ** 2 * _HANG_UP_MAX_S if hangs_up else None,
            )
            if not payment.final:
                self._doubt(payment)
                return
            if payment.final == "94":
                kiosk.skip_serials(dice.random.randrange(1_000, 50_000))
            elif payment.final != "N1":  # these two say: again, with a new serial
                if _story(payment) == "refused":
                    await asyncio.sleep(_REFUSED_PAUSE_S * dice.random.random())
                return

    def _choose_months(self, bills: Bills) -> tuple[str, ...]:
        receivables = tuple(receivable for receivable, _ in bills.rows)
        mood, roll = self._fleet.mood, self._dice.random.random()
        if not bills.partial_allowed or len(receivables) == 1 or roll < mood.months_all:
            return receivables
        if roll < mood.months_all + mood.months_one:
            return receivables[:1]
        return receivables[: self._dice.random.randrange(1, len(receivables))]

    def _choose_card(self) -> CardChoice:
        mood, roll = self._fleet.mood, self._dice.random.random()
        number = self._first_card + self._dice.random.randrange(CARDS_OF_A_KIOSK)
        entry = "chip" if roll < mood.chip_rate else "keyed" if roll < mood.chip_rate + mood.keyed_rate else "track"
        return CardChoice(number % testkeys.PANS_MAX, entry, self._dice.chance(mood.wrong_pin_rate))

    def _before_sending(self, payment: Payment) -> None:
        self._fleet.result.payments += 1
        self._fleet.write(
            "sent",
            key=self._key(payment),
            fen=payment.amount,
            account=payment.account,
            receivables=payment.receivables,
        )

    def _key(self, payment: Payment) -> str:
        return f"{self.kiosk.terminal_id}|{payment.date}|{payment.serial}"

    # ---- words about payments
    def _heard(self, payment: Payment, answer: Answer, how: str, became_final: bool) -> None:
        fleet, key = self._fleet, self._key(payment)
        if answer.code in _SIGN_ON_AGAIN:
            self.kiosk.signed_on = False
        if payment.words == 1:
            fleet.result.codes[answer.code] += 1
            fleet.result.first_word.add(payment.first_word_s)
        fleet.write(
            "told",
            key=key,
            code=answer.code,
            stable=answer.stable,
            reference=answer.reference,
            case=answer.case,
            how=how,
        )
        if became_final:
            self._in_doubt.pop((payment.date, payment.serial), None)
            fleet.write("final", key=key, code=payment.final, stable=payment.stable)
            fleet.count_final(payment)

    def _doubt(self, payment: Payment) -> None:
        self._fleet.result.in_doubt += 1
        self._in_doubt[payment.date, payment.serial] = payment
        if self._clarifier is None or self._clarifier.done():
            self._clarifier = asyncio.get_running_loop().create_task(self._clarify())

    async def _clarify(self) -> None:
        """Ask for every payment in doubt, every few seconds, until nothing is left or the settle time is over."""
        loop, fleet = asyncio.get_running_loop(), self._fleet
        pause_s = min(_ASK_EVERY_MAX_S, fleet.profile.kiosk_s / 6)
        while self._in_doubt and loop.time() < fleet.settled_at:
            await asyncio.sleep(min(pause_s, max(0.0, fleet.settled_at - loop.time())))
            for payment in list(self._in_doubt.values()):
                if payment.final or not await self._ready(fleet.settled_at):
                    continue
                answer = await self.kiosk.ask_result(payment)
                if answer.code in _SIGN_ON_AGAIN:
                    self.kiosk.signed_on = False

    async def _ready(self, until: float) -> bool:
        """Connected and signed on; False when that was not possible in time."""
        kiosk, loop = self.kiosk, asyncio.get_running_loop()
        async with self._getting_ready:
            pause_s = limits.BACKOFF_FIRST_S
            while not (kiosk.is_connected and kiosk.signed_on):
                if not await kiosk.connect_again(until):
                    return False
                if kiosk.signed_on:
                    break
                code = await kiosk.sign_on()
                if code != "00":
                    self._fleet.result.events[f"sign_on_{code or 'silent'}"] += 1
                    if loop.time() + pause_s >= until:
                        return False
                    await asyncio.sleep(pause_s * self._dice.random.uniform(0.5, 1.0))
                    pause_s = min(2 * pause_s, limits.BACKOFF_MAX_S)
        return True


def _story(payment: Payment) -> str:
    """Which count of the result a final word belongs to."""
    if payment.final == "00":
        return "completed"
    if payment.final in ("N1", "25"):
        return "not_charged"
    return payment.stable if payment.stable in ("declined", "returned", "unproven", "suspense") else "refused"


def first_serial() -> int:
    """Serials that no earlier run of today is likely to have used; the book knows better, if there is one."""
    now = china_now()
    return 1 + ((now.hour * 60 + now.minute) * 60 + now.second) * _SERIALS_A_SECOND
