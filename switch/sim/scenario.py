"""Behaviours of the simulators as data: how often a host declines, stays silent, answers late or twice.

A scenario is a TOML file; ``bench``, ``calm``, ``demo``, ``hall`` and ``storm`` are bundled. Chances are drawn from one
seeded dice per simulator: the same seed and the same order of requests give the same behaviour. One-shot rules
(``script``) come before the dice and make a test exact:

    [[unionpay.script]]
    when = { message = "purchase", amount = 12345 }
    do = "silence:lost"
    times = 1

What a rule can do, with ``:done`` (default: the host acted) or ``:lost`` (it did not) where marked *:

    approve             do what is asked, answer, no dice
    silence*            no answer
    drop*               cut the connection instead of an answer
    late:S              act at once, answer S seconds later
    late_act:S          act only S seconds later, then answer; until then the host knows nothing
    decline:CODE        refuse with CODE, nothing done (also: refuse:CODE)
    ambiguous:CODE*     answer CODE, which proves nothing
    duplicate           answer twice
    bad_mac             act, answer with a wrong MAC (card host only)
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from switch import limits
from switch.errors import ConfigError
from switch.sim.customers import MONTHS_MAX, MONTHS_OWED

BUNDLED: Final = ("bench", "calm", "demo", "hall", "storm")

# A host must be done with a request this long before its quiet time ends: for what the network and a busy loop add.
LATE_MARGIN_S: Final = 0.5
LATE_MAX_S: Final = limits.SHORT.quiet_s - LATE_MARGIN_S
MARKETING_LATE_MAX_S: Final = limits.SHORT.marketing_quiet_s - LATE_MARGIN_S
assert 0 < LATE_MAX_S < limits.SHORT.quiet_s
assert 0 < MARKETING_LATE_MAX_S < limits.SHORT.marketing_quiet_s

Rate = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Code = Annotated[str, msgspec.Meta(min_length=2, max_length=3)]
Codes = Annotated[tuple[Code, ...], msgspec.Meta(min_length=1)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0.0, le=60_000.0)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=3_600.0)]


@dataclass(frozen=True, slots=True)
class Action:
    """What a host does with one request. ``acted`` False: it never acts on it."""

    kind: str  # approve, silence, drop, late, late_act, decline, ambiguous, duplicate, bad_mac
    code: str = ""
    delay_s: float = 0.0
    acted: bool = True


APPROVE: Final = Action("approve")

_TAKES_CODE: Final = ("decline", "ambiguous")
_TAKES_SECONDS: Final = ("late", "late_act")
_TAKES_DONE: Final = ("silence", "drop", "ambiguous")
_PLAIN: Final = ("approve", "duplicate", "bad_mac")


def parse_action(text: str, late_max_s: float) -> Action:
    """Read a rule's ``do``.

    Raises:
        ValueError: Says which part is wrong and what is expected.
    """
    kind, *arguments = text.split(":")
    kind = "decline" if kind == "refuse" else kind
    code, delay_s, acted = "", 0.0, kind != "decline"
    if kind in _TAKES_CODE:
        if not arguments or len(arguments[0]) not in (2, 3):
            raise ValueError(f"{text!r}: expected {kind}:CODE, e.g. {kind}:51")
        code = arguments.pop(0)
    elif kind in _TAKES_SECONDS:
        try:
            delay_s = float(arguments.pop(0))
        except (IndexError, ValueError):
            raise ValueError(f"{text!r}: expected {kind}:SECONDS, e.g. {kind}:1.5") from None
        if not 0 < delay_s <= late_max_s:
            raise ValueError(f"{text!r}: {delay_s:g} s is outside 0 to {late_max_s:g}, the latest a host may act")
    elif kind not in _TAKES_DONE and kind not in _PLAIN:
        known = ", ".join(sorted({*_TAKES_CODE, *_TAKES_SECONDS, *_TAKES_DONE, *_PLAIN, "refuse"}))
        raise ValueError(f"{text!r}: unknown action {kind!r}; expected one of {known}")
    if kind in _TAKES_DONE and arguments:
        word = arguments.pop(0)
        if word not in ("done", "lost"):
            raise ValueError(f"{text!r}: expected done or lost, not {word!r}")
        acted = word == "done"
    if arguments:
        raise ValueError(f"{text!r}: nothing may follow {kind!r} here, got {':'.join(arguments)!r}")
    return Action(kind, code, delay_s, acted)


# Every table forbids unknown keys: a misspelt one is an error.
class CardWhen(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which request a rule of the card host is for; everything given must fit."""

    # purchase, balance, reversal, sign_on, echo, download, script, settlement, upload
    message: str = "purchase"
    amount: int | None = None  # fen
    nth: int | None = None  # the n-th request of this kind since start, from 1
    terminal: str | None = None
    stan: str | None = None


class MarketingWhen(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    message: str = "post"  # post, prepay, cancel, status, inquiry, history, e_bill, sign_on, echo
    amount: int | None = None
    nth: int | None = None
    account: str | None = None
    receivable: str | None = None
    serial: str | None = None
    month: int | None = None  # position of the receivable among the account's, from 1


class CardScript(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    when: CardWhen = CardWhen()
    do: str
    times: Annotated[int, msgspec.Meta(ge=1)] = 1


class MarketingScript(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    when: MarketingWhen = MarketingWhen()
    do: str
    times: Annotated[int, msgspec.Meta(ge=1)] = 1


class CardScenario(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[unionpay]``. The chances of one request are exclusive: their sum is at most 1."""

    delay_ms: tuple[Milliseconds, Milliseconds] = (0.0, 0.0)  # every answer
    decline_rate: Rate = 0.0
    decline_codes: Codes = ("51", "61", "05", "54")
    silence_rate: Rate = 0.0
    silence_charged_share: Rate = 0.5  # of the silent ones: charged all the same
    late_rate: Rate = 0.0
    late_s: tuple[Seconds, Seconds] = (1.0, 2.4)
    late_charge_share: Rate = 0.5  # of the late ones: charged late, so that a reversal before it finds nothing
    bare_decline_share: Rate = 0.0  # of refusals: without a MAC, as from a host that has lost the terminal's keys
    late_other_share: Rate = 0.0  # of refusals, ambiguous answers and wrong MACs: as late as the late ones
    # of all late answers to what was acted on at once, and of second answers: when nobody waits any more …
    stray_share: Rate = 0.0
    stray_s: tuple[Seconds, Seconds] = (0.0, 0.0)  # … so much later
    stray_twice_share: Rate = 0.0  # of those: also sent once before …
    stray_first_s: tuple[Seconds, Seconds] = (0.0, 0.0)  # … so much later
    ambiguous_rate: Rate = 0.0
    ambiguous_codes: Codes = ("68", "96", "98")
    ambiguous_charged_share: Rate = 0.5
    drop_connection_rate: Rate = 0.0
    drop_charged_share: Rate = 0.5
    bad_mac_rate: Rate = 0.0
    bad_mac_other_share: Rate = 0.0  # of the wrong MACs: under a refusal or an ambiguous answer
    duplicate_rate: Rate = 0.0
    reversal_silence_rate: Rate = 0.0
    reversal_silence_done_share: Rate = 0.5
    reversal_refuse_rate: Rate = 0.0  # nothing is done
    reversal_refuse_codes: Codes = ("96", "94", "40")
    reversal_bad_mac_rate: Rate = 0.0
    reversal_not_found: str = "25"  # or "00": some hosts say so of an original they never saw
    reversal_again: str = "00"  # or "25": what is reversed already is "not found" then
    sign_on_silence_rate: Rate = 0.0
    settlement_silence_rate: Rate = 0.0  # of a 0500, and of each message of an upload; half of them were acted on
    script: tuple[CardScript, ...] = ()


class MarketingScenario(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[marketing]``. The chances of one posting are exclusive: their sum is at most 1."""

    months_owed: tuple[Percent, ...] = MONTHS_OWED  # customers who owe one month, two months, … in percent
    delay_ms: tuple[Milliseconds, Milliseconds] = (0.0, 0.0)
    refuse_rate: Rate = 0.0
    refuse_codes: Codes = ("29", "100", "09")
    refuse_silence_share: Rate = 0.0  # of refusals: remembered, but not answered
    refuse_nth: Annotated[int, msgspec.Meta(ge=1)] | None = None  # refuse this month of an account …
    refuse_nth_rate: Rate = 0.0  # … so often, whatever the other chances say: months before it must be undone
    silence_rate: Rate = 0.0
    silence_posted_share: Rate = 0.5
    late_rate: Rate = 0.0
    late_s: tuple[Seconds, Seconds] = (0.5, 1.4)
    late_post_share: Rate = 0.5  # of the late ones: posted late
    ambiguous_rate: Rate = 0.0
    ambiguous_codes: Codes = ("50", "01", "78")
    ambiguous_posted_share: Rate = 0.5
    drop_connection_rate: Rate = 0.0
    drop_posted_share: Rate = 0.5
    duplicate_rate: Rate = 0.0
    cancel_silence_rate: Rate = 0.0
    cancel_silence_done_share: Rate = 0.5
    cancel_ambiguous_rate: Rate = 0.0
    query_silence_rate: Rate = 0.0  # status and inquiry
    inquiry_ms: tuple[Milliseconds, Milliseconds] = (0.0, 0.0)  # more than every answer takes: looking for a bill
    query_ambiguous_rate: Rate = 0.0  # status only
    tombstones: bool = True  # False: a cancel undoes what is posted, else answers 15 and forbids nothing
    keeps_refusals: bool = True  # False: without tombstones a refused serial may be posted when it comes again
    cancels: bool = True  # False: it knows no cancel
    tells_status: bool = True  # False: it cannot be asked for a serial
    knows_serials: bool = True  # False: a serial that comes twice is posted twice
    script: tuple[MarketingScript, ...] = ()


class FleetScenario(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[fleet]``."""

    think_ms: tuple[Milliseconds, Milliseconds] = (0.0, 0.0)  # between two customers of one kiosk
    months_all: Rate = 0.7  # pay everything that is owed
    months_one: Rate = 0.2  # only the oldest month; the rest: some of them, oldest first
    chip_rate: Rate = 0.1  # the rest swipes
    keyed_rate: Rate = 0.02
    wrong_pin_rate: Rate = 0.0
    repeat_rate: Rate = 0.0  # the same request sent twice at once
    disconnect_rate: Rate = 0.0  # the kiosk hangs up while its payment runs
    # Of customers who come when they come (``fleet --arrivals``). What they come for; the rest pays bills:
    look_rate: Rate = 0.0  # asks what is owed, and walks away
    prepay_rate: Rate = 0.0
    balance_rate: Rate = 0.0
    slip_rate: Rate = 0.0  # wants the slip of an earlier payment again
    # What they do, and what happens to them:
    stand_s: tuple[Seconds, Seconds] = (0.0, 0.0)  # choosing months, card, PIN: between bill and payment
    patience_s: Seconds = 60.0  # for a kiosk that somebody else uses
    walk_away_rate: Rate = 0.0  # leaves while the payment runs: the kiosk takes it back
    power_cut_rate: Rate = 0.0  # the kiosk goes dark while the payment runs …
    dark_s: tuple[Seconds, Seconds] = (2.0, 10.0)  # … for so long
    no_paper_rate: Rate = 0.0  # the slip is not printed …
    refill_s: tuple[Seconds, Seconds] = (1.0, 5.0)  # … until somebody has brought paper


class Scenario(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: str
    seed: int = 1
    unionpay: CardScenario = CardScenario()
    marketing: MarketingScenario = MarketingScenario()
    fleet: FleetScenario = FleetScenario()

    def with_seed(self, seed: int) -> Scenario:
        return msgspec.structs.replace(self, seed=seed)


def load_scenario(name_or_file: str | Path) -> Scenario:
    """A bundled scenario by name, or a file.

    Raises:
        ConfigError: Names the file and the key, and says what is expected.
    """
    name = str(name_or_file)
    if name in BUNDLED:
        where = f"{name}.toml"
        text = resources.files("switch.sim").joinpath("scenarios", where).read_text(encoding="utf-8")
    else:
        where = name
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(where, f"cannot read it; a file, or one of {', '.join(BUNDLED)}") from error
    return read_scenario(text, where)


def read_scenario(text: str, where: str = "scenario") -> Scenario:
    """A scenario from TOML text; ``where`` names its origin in errors."""
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(where, f"not TOML: {error}") from error
    try:
        scenario = msgspec.convert(table, Scenario)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `$")
        raise ConfigError(f"{where}: {path.rstrip('`').lstrip('.') or 'top'}", detail) from error
    _check(scenario, where)
    return scenario


def _check(scenario: Scenario, where: str) -> None:
    card, marketing, fleet = scenario.unionpay, scenario.marketing, scenario.fleet
    for key, bounds in (
        ("unionpay.delay_ms", card.delay_ms),
        ("unionpay.late_s", card.late_s),
        ("unionpay.stray_s", card.stray_s),
        ("unionpay.stray_first_s", card.stray_first_s),
        ("marketing.delay_ms", marketing.delay_ms),
        ("marketing.late_s", marketing.late_s),
        ("marketing.inquiry_ms", marketing.inquiry_ms),
        ("fleet.think_ms", fleet.think_ms),
        ("fleet.stand_s", fleet.stand_s),
        ("fleet.dark_s", fleet.dark_s),
        ("fleet.refill_s", fleet.refill_s),
    ):
        if bounds[0] > bounds[1]:
            raise ConfigError(f"{where}: {key}", f"expected [least, most], got {list(bounds)}")
    # Beyond its quiet time the switch believes that a host can no longer act; a simulator must keep that promise.
    for key, late_s, delay_ms, most in (
        ("unionpay.late_s", card.late_s, card.delay_ms, LATE_MAX_S),
        ("marketing.late_s", marketing.late_s, marketing.delay_ms, MARKETING_LATE_MAX_S),
    ):
        if late_s[1] + delay_ms[1] / 1000 > most:
            raise ConfigError(
                f"{where}: {key}",
                f"{late_s[1]:g} s and the delay of {delay_ms[1]:g} ms pass {most:g} s, the latest a host may act",
            )
    for key, chances in (
        ("unionpay", card_chances(card)),
        ("unionpay reversals", reversal_chances(card)),
        ("marketing", marketing_chances(marketing)),
        ("fleet", ((fleet.months_all, ""), (fleet.months_one, ""))),
        ("fleet", ((fleet.chip_rate, ""), (fleet.keyed_rate, ""))),
        ("fleet", visit_chances(fleet)),
        ("fleet", accident_chances(fleet)),
    ):
        total = sum(rate for rate, _ in chances)
        if total > 1.0 + 1e-9:
            raise ConfigError(f"{where}: {key}", f"the chances add up to {total:g}; at most 1")
    months = marketing.months_owed
    if sum(months) != 100 or len(months) > MONTHS_MAX:
        raise ConfigError(f"{where}: marketing.months_owed", f"expected up to {MONTHS_MAX} shares that add up to 100")
    for key, code in (("reversal_not_found", card.reversal_not_found), ("reversal_again", card.reversal_again)):
        if code not in ("25", "00"):
            raise ConfigError(f"{where}: unionpay.{key}", 'expected "25" or "00"')
    _check_scripts("unionpay", card.script, LATE_MAX_S, where)
    _check_scripts("marketing", marketing.script, MARKETING_LATE_MAX_S, where)


def _check_scripts(table: str, scripts: Sequence[CardScript | MarketingScript], late_max_s: float, where: str) -> None:
    messages = _CARD_MESSAGES if table == "unionpay" else _MARKETING_MESSAGES
    for index, script in enumerate(scripts):
        at = f"{where}: {table}.script[{index}]"
        if script.when.message not in messages:
            raise ConfigError(f"{at}.when.message", f"expected one of {', '.join(messages)}")
        try:
            action = parse_action(script.do, late_max_s)
        except ValueError as error:
            raise ConfigError(f"{at}.do", str(error)) from error
        if action.kind == "bad_mac" and table != "unionpay":
            raise ConfigError(f"{at}.do", "bad_mac: the marketing wire carries no MAC")


_CARD_MESSAGES: Final = (
    *("purchase", "balance", "reversal", "sign_on", "echo", "download", "script"),
    *("settlement", "upload"),
)
_MARKETING_MESSAGES: Final = ("post", "prepay", "cancel", "status", "inquiry", "history", "e_bill", "sign_on", "echo")


def visit_chances(fleet: FleetScenario) -> Sequence[tuple[float, str]]:
    """What a customer comes for, if not to pay a bill."""
    return (
        (fleet.look_rate, "look"),
        (fleet.prepay_rate, "prepayment"),
        (fleet.balance_rate, "balance"),
        (fleet.slip_rate, "slip"),
    )


def accident_chances(fleet: FleetScenario) -> Sequence[tuple[float, str]]:
    """What happens while a payment runs."""
    return (
        (fleet.repeat_rate, "double_tap"),
        (fleet.disconnect_rate, "line_cut"),
        (fleet.walk_away_rate, "walked_away"),
        (fleet.power_cut_rate, "power_cut"),
    )


def card_chances(card: CardScenario) -> tuple[tuple[float, str], ...]:
    """What the dice may choose for a purchase: (chance, kind); the rest approves."""
    return (
        (card.decline_rate, "decline"),
        (card.silence_rate, "silence"),
        (card.late_rate, "late"),
        (card.ambiguous_rate, "ambiguous"),
        (card.drop_connection_rate, "drop"),
        (card.bad_mac_rate, "bad_mac"),
        (card.duplicate_rate, "duplicate"),
    )


def reversal_chances(card: CardScenario) -> tuple[tuple[float, str], ...]:
    """The same for a reversal."""
    return (
        (card.reversal_silence_rate, "silence"),
        (card.reversal_refuse_rate, "decline"),
        (card.reversal_bad_mac_rate, "bad_mac"),
    )


def marketing_chances(marketing: MarketingScenario) -> tuple[tuple[float, str], ...]:
    """The same for a posting."""
    return (
        (marketing.refuse_rate, "decline"),
        (marketing.silence_rate, "silence"),
        (marketing.late_rate, "late"),
        (marketing.ambiguous_rate, "ambiguous"),
        (marketing.drop_connection_rate, "drop"),
        (marketing.duplicate_rate, "duplicate"),
    )


class Dice:
    """Draws actions. One per simulator, seeded by the scenario's seed and the simulator's name."""

    def __init__(self, seed: int, owner: str) -> None:
        self.random = random.Random(f"{seed}|{owner}")

    def chance(self, rate: float) -> bool:
        return rate > 0.0 and self.random.random() < rate

    def between(self, bounds: tuple[float, float]) -> float:
        least, most = bounds
        return least if most <= least else least + self.random.random() * (most - least)

    def kind(self, chances: Sequence[tuple[float, str]], otherwise: str = "approve") -> str:
        roll = self.random.random()
        for rate, kind in chances:
            roll -= rate
            if roll < 0.0:
                return kind
        return otherwise

    def action(
        self,
        kind: str,
        *,
        decline_codes: Sequence[str],
        ambiguous_codes: Sequence[str],
        late_s: tuple[float, float],
        late_act_share: float,
        acted_share: float,
    ) -> Action:
        """Fill in what a kind leaves open."""
        match kind:
            case "decline":
                return Action("decline", code=self.random.choice(decline_codes), acted=False)
            case "late":
                late_kind = "late_act" if self.chance(late_act_share) else "late"
                return Action(late_kind, delay_s=self.between(late_s))
            case "ambiguous":
                return Action(kind, code=self.random.choice(ambiguous_codes), acted=self.chance(acted_share))
            case "silence" | "drop":
                return Action(kind, acted=self.chance(acted_share))
            case _:
                return Action(kind)


class Rules:
    """The one-shot rules of one host, in file order; counts requests by kind for ``nth``."""

    def __init__(self, scripts: Sequence[CardScript | MarketingScript], late_max_s: float) -> None:
        self._left: list[_Rule] = []
        for script in scripts:
            wanted = {name: value for name, value in msgspec.structs.asdict(script.when).items() if value is not None}
            message = wanted.pop("message")
            self._left.append(_Rule(message, wanted, parse_action(script.do, late_max_s), script.times))
        self._seen: dict[str, int] = {}

    @property
    def any_left(self) -> bool:
        """False: ``choose`` would give None, and the facts for it need not be put together."""
        return bool(self._left)

    def choose(self, message: str, **facts: object) -> Action | None:
        """The action of the first rule that fits, and one use of it; None: ask the dice."""
        nth = self._seen[message] = self._seen.get(message, 0) + 1
        if not self._left:
            return None
        facts["nth"] = nth
        for rule in self._left:
            if rule.message == message and all(facts.get(name) == value for name, value in rule.wanted.items()):
                rule.times -= 1
                if rule.times == 0:
                    self._left.remove(rule)
                return rule.action
        return None


@dataclass(slots=True)
class _Rule:
    message: str
    wanted: dict[str, object]
    action: Action
    times: int
