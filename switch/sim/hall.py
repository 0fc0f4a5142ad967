"""Halls full of kiosks: customers come when they come, whatever the answers do (an open loop).

``fleet.py`` lets each kiosk serve one customer after the other; here the customers decide. They arrive as a Poisson
process whose rate follows a rhythm, each goes to a kiosk at random, waits if somebody stands there and leaves when that
takes too long. He pays bills, pays in advance, asks for his balance, for an old slip, or only looks; and things happen:

    double_tap    the request leaves twice
    line_cut      the line breaks while the payment runs
    walked_away   the customer leaves while the payment runs: the kiosk takes it back
    power_cut     the kiosk goes dark in the middle, comes back, signs on and asks what became of it
    no_paper      the slip is printed when somebody has brought paper

So ten thousand kiosks are one process. The time of a request counts from the moment at which its customer wanted it;
how late this process was itself is told beside (``late``), because a load that cannot keep up measures itself.
"""

from __future__ import annotations

import asyncio
import random
import resource
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

from switch import limits
from switch.errors import StartError
from switch.sim import customers
from switch.sim.fleet import SETTLE_S, Fleet, FleetResult, Stop
from switch.sim.generator import cpu_s
from switch.sim.histogram import Histogram
from switch.sim.kiosk_client import Answer, Payment
from switch.sim.scenario import Scenario, accident_chances, visit_chances

# Share of the busiest moment, by the hour: straight lines between these points.
_DAY: Final = (
    *((0.0, 0.02), (5.0, 0.02), (7.0, 0.30), (9.0, 1.0), (10.5, 0.95), (12.5, 0.55)),
    *((14.0, 0.70), (16.5, 0.90), (18.0, 0.70), (20.0, 0.35), (22.5, 0.08), (24.0, 0.02)),
)
RHYTHMS: Final = ("steady", "day")
READY_S: Final = 600.0  # by then all have signed on: each is a commit of the switch
_OPENING_MAX: Final = 128  # kiosks that connect and sign on at once: their backlog is not what is measured
_LOOK_S: Final = 1.0  # between looks at lines that have been silent
_ECHO_S: Final = limits.KIOSK_STANDARD.echo_s
_AWAY_MAX_S: Final = 1.0  # a customer who leaves while it runs does so within a second
_ADVANCE_FEN: Final = (5_000, 10_000, 20_000, 50_000)  # what people pay in advance
_SLIPS_MAX: Final = 8  # payments of a kiosk whose slips may be wanted again


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Customers of all kiosks together: ``a_second`` in the busiest moment."""

    a_second: float
    rhythm: str = "steady"

    def instants(self, seconds: float, dice: random.Random) -> Iterator[float]:
        """When they come, in seconds from the start. The rhythm ``day`` is a whole day in the time of the run."""
        at = 0.0
        while (at := at + dice.expovariate(self.a_second)) < seconds:
            if self.rhythm == "steady" or dice.random() < share_at(24.0 * at / seconds):
                yield at


def share_at(hour: float) -> float:
    """How busy it is at this hour of the day, of the busiest one.

    >>> share_at(9.0), share_at(3.0), round(share_at(6.0), 2)
    (1.0, 0.02, 0.16)
    """
    for (begins, first), (ends, last) in pairwise(_DAY):
        if begins <= hour <= ends:
            return first + (last - first) * (hour - begins) / (ends - begins)
    raise ValueError(f"hour {hour}: expected 0 to 24")


# Hears ready (all have signed on), begun (customers may come) and ended (no more of them).
Heard = Callable[["Hall", str], None]


class Hall(Fleet):
    """All kiosks, and who comes to them."""

    arrivals: Arrivals
    heard: Heard

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.dice = random.Random(f"{self.scenario.seed}|arrivals")
        self.visits: Counter[str] = Counter()
        self.left = 0  # customers whose kiosk was busy for too long
        self.unserved = 0  # whose kiosk had no line
        self.times = {name: Histogram() for name in ("late", "wait", "inquiry", "payment", "balance", "slip")}
        self.cpu_s = 0.0  # of this process, from the first customer to the last word
        self._opening = asyncio.Semaphore(_OPENING_MAX)

    def stop_of(self, number: int, first_account: int, first_serial: int) -> HallStop:
        return HallStop(self, number, first_account, first_serial)

    async def play(self, stops: list[Stop]) -> None:
        loop = asyncio.get_running_loop()
        kiosks = cast(list[HallStop], stops)
        self.begin(loop.time() + READY_S)  # nobody pays before all are there
        await asyncio.gather(*(stop.open(self._opening) for stop in kiosks))
        ready = sum(stop.kiosk.signed_on for stop in kiosks)
        if ready < len(kiosks):
            raise StartError(
                "fleet", f"{ready} of {len(kiosks)} kiosks signed on within {READY_S:g} s; {self._said(kiosks)}"
            )
        self.heard(self, "ready")
        began = loop.time()
        self.begin(began)
        self.heard(self, "begun")
        used = cpu_s()
        keeper = loop.create_task(self._keep_lines(kiosks))
        try:
            await self._let_come(kiosks, began)
            self.heard(self, "ended")
            await asyncio.gather(*(stop.finish() for stop in kiosks))
        finally:
            keeper.cancel()
            self.cpu_s = cpu_s() - used
            for stop in kiosks:
                stop.close()

    async def _let_come(self, kiosks: list[HallStop], began: float) -> None:
        loop = asyncio.get_running_loop()
        for at in self.arrivals.instants(self.seconds, self.dice):
            due = began + at
            pause_s = due - loop.time()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            if self.stop():
                break
            self.times["late"].add(loop.time() - due)
            self.dice.choice(kiosks).come(due)
        else:
            await asyncio.sleep(max(0.0, self.ends_at - loop.time()))

    async def _keep_lines(self, kiosks: list[HallStop]) -> None:
        """A kiosk says now and then that it is there, and dials again when its line has broken."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            for stop in kiosks:
                if loop.time() - stop.kiosk.asked_at > _ECHO_S and not stop.is_busy:
                    stop.in_background(stop.echo())

    def _said(self, kiosks: list[HallStop]) -> str:
        events = self.result.events + sum((Counter(stop.kiosk.counts) for stop in kiosks), Counter())
        return "events: " + (", ".join(f"{name} {count}" for name, count in sorted(events.items())) or "none")

    def to_phase(self) -> dict[str, Any]:
        """Plain values for JSON; what a generator tells of a phase has its names here too."""
        result, times = self.result, self.times
        finals = result.completed + result.declined + result.returned + result.refused + result.not_charged
        return {
            "due": sum(self.visits.values()) + self.left + self.unserved,
            "begun": sum(self.visits.values()),
            "paid": result.completed,
            "declined": result.declined,
            "doubtful": result.in_doubt,
            "refused": {"inquiry": result.bills_refused, "payment": result.refused},
            "ended_within": finals,
            "inquiry": times["inquiry"].to_dict(),
            "payment": times["payment"].to_dict(),
            "paying": times["payment"].to_dict(),
            "late": times["late"].to_dict(),
            "visits": dict(sorted(self.visits.items())),
            "left": self.left,
            "unserved": self.unserved,
            "times": {name: histogram.to_dict() for name, histogram in self.times.items()},
            "cpu_s": round(self.cpu_s, 2),
            "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


class HallStop(Stop):
    """One kiosk and who stands before it."""

    def __init__(self, hall: Hall, number: int, first_account: int, first_serial: int) -> None:
        super().__init__(hall, number, first_account, first_serial)
        self._hall = hall
        self._queue: deque[float] = deque()  # since when each waits
        self._attending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._paid: deque[Payment] = deque(maxlen=_SLIPS_MAX)
        self._dark_until = 0.0
        self._closed = False
        self.kiosk.on_lost = self._line_lost

    @property
    def is_busy(self) -> bool:
        return self._attending is not None

    # ---- the kiosk
    async def open(self, room: asyncio.Semaphore) -> None:
        async with room:
            await self._ready(self._hall.ends_at)

    async def finish(self) -> None:
        """Who stands here is served to the end, and what is in doubt has its word, or the settle time is over."""
        while self._attending is not None or (self._clarifier is not None and not self._clarifier.done()):
            task = self._attending or self._clarifier
            assert task is not None
            await task

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        self.kiosk.close()

    def in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def echo(self) -> None:
        if await self._ready(self._hall.settled_at):
            await self.kiosk.echo()

    async def _ready(self, until: float) -> bool:
        dark_s = self._dark_until - asyncio.get_running_loop().time()
        if dark_s > 0:
            await asyncio.sleep(dark_s)
        return await super()._ready(until)

    def _line_lost(self) -> None:
        self.kiosk.signed_on = False  # a sign-on is cheap, and proves the line
        if not self._closed and self._hall.seconds and not self.is_busy:
            self.in_background(self._ready(self._hall.settled_at))

    # ---- customers
    def come(self, due: float) -> None:
        self._queue.append(due)
        if self._attending is None:
            self._attending = asyncio.get_running_loop().create_task(self._attend())

    async def _attend(self) -> None:
        hall, loop = self._hall, asyncio.get_running_loop()
        try:
            while self._queue:
                waited_s = loop.time() - self._queue.popleft()
                if waited_s > hall.mood.patience_s:
                    hall.left += 1
                    continue
                hall.times["wait"].add(waited_s)
                if not await self._ready(loop.time() + hall.mood.patience_s):
                    hall.unserved += 1
                    continue
                await self._serve_visit(self._dice.kind(visit_chances(hall.mood), "bills"))
                self._account += hall.count
        finally:
            self._attending = None

    async def _serve_visit(self, what: str) -> None:
        hall, account = self._hall, customers.account(self._account % customers.ACCOUNTS_MAX)
        if what == "slip" and not self._paid:
            what = "look"
        hall.visits[what] += 1
        if what == "balance":
            answer = await self._timed("balance", self.kiosk.ask_balance(self._choose_card()))
            self._note_refusal("balance", answer)
        elif what == "slip":
            await self._slip_again(self._dice.random.choice(self._paid))
        else:
            answer = await self._timed("inquiry", self.kiosk.inquire(account))
            bills = answer.bills
            if bills is None:
                hall.result.bills_refused += 1
                self._note_refusal("inquiry", answer)
            elif what != "look":
                # Who pays in advance pays all that he owes first: utilities want it so.
                chosen = tuple(row[0] for row in bills.rows) if what == "prepayment" else self._choose_months(bills)
                card = self._choose_card()
                await self._stand()
                paid = await self._pay(partial(self.kiosk.pay, bills, chosen, card))
                if paid and what == "prepayment":
                    await self._stand()
                    await self._pay(partial(self.kiosk.prepay, account, self._dice.random.choice(_ADVANCE_FEN), card))

    async def _stand(self) -> None:
        await asyncio.sleep(self._dice.between(self._hall.mood.stand_s))

    async def _timed(self, name: str, asking: Awaitable[Answer]) -> Answer:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        answer = await asking
        self._hall.times[name].add(loop.time() - asked_at)
        return answer

    def _note_refusal(self, what: str, answer: Answer) -> None:
        if answer.code != "00":
            self._hall.result.events[f"{what}_{answer.code or 'silent'}"] += 1

    async def _pay(self, send: Callable[..., Awaitable[Payment]]) -> bool:
        """True: it is paid."""
        hall, dice = self._hall, self._dice
        if not await self._ready(hall.settled_at):  # the line may have broken while he chose
            hall.unserved += 1
            return False
        accident = dice.kind(accident_chances(hall.mood), "")
        if accident:
            hall.result.events[accident] += 1
        soon_s = dice.random.random() ** 2 * _AWAY_MAX_S
        sent: list[Payment] = []

        def before_sending(payment: Payment) -> None:
            sent.append(payment)
            self._before_sending(payment)

        paying = asyncio.ensure_future(
            send(
                before_sending=before_sending,
                repeat=accident == "double_tap",
                hang_up_after_s=soon_s if accident in ("line_cut", "power_cut") else None,
            )
        )
        if accident == "walked_away":
            await asyncio.wait({paying}, timeout=soon_s)
            if sent and not sent[0].final:
                await self.kiosk.take_back(sent[0])
        payment = await paying
        if payment.words:
            hall.times["payment"].add(payment.first_word_s)
        if accident == "power_cut":
            self._go_dark()
        if not payment.final:
            self._doubt(payment)
        elif payment.final == "94":
            self.kiosk.skip_serials(dice.random.randrange(1_000, 50_000))
        elif payment.final == "00":
            self._paid.append(payment)
            if dice.chance(hall.mood.no_paper_rate):
                hall.result.events["no_paper"] += 1
                await asyncio.sleep(dice.between(hall.mood.refill_s))
                await self._slip_again(payment)
        return payment.final == "00"

    def _go_dark(self) -> None:
        """All that lives in memory is gone: line and keys. The book is on disk."""
        self._dark_until = asyncio.get_running_loop().time() + self._dice.between(self._hall.mood.dark_s)
        self.kiosk.hang_up()
        self.kiosk.signed_on = False

    async def _slip_again(self, payment: Payment) -> None:
        if not await self._ready(self._hall.settled_at):
            return
        answer = await self._timed("slip", self.kiosk.ask_slip(payment))
        slip = answer.slip
        if slip is None:
            self._note_refusal("slip", answer)
        elif slip.account != payment.account or sum(amount for _, amount in slip.rows) != payment.amount:
            self._hall.result.events["slip_wrong"] += 1


async def run_hall(
    host: str,
    port: int,
    count: int,
    seconds: float,
    arrivals: Arrivals,
    scenario: Scenario,
    book_path: str | Path | None = None,
    *,
    profile: limits.TimeProfile = limits.SHORT,
    settle_s: float = SETTLE_S,
    first_terminal: int = 1,
    first_account: int = 0,
    heard: Heard = lambda hall, event: None,
    progress: Callable[[FleetResult], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    tls_dir: Path | None = None,
) -> Hall:
    """Let customers come to ``count`` kiosks for ``seconds``, then settle. As ``run_fleet``, and besides:

    Args:
        heard: Called with the hall and what has come: ready, begun, ended.

    Raises:
        StartError: Not all kiosks could sign on. The book belongs to another running fleet.
    """
    hall = Hall(host, port, count, seconds, None, scenario, book_path, profile, settle_s)
    hall.arrivals, hall.heard, hall.stop, hall.tls_dir = arrivals, heard, stop, tls_dir
    await hall.run(first_terminal, first_account, progress)
    hall.result.seconds = hall.seconds
    return hall
