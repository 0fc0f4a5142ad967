"""What the switch itself says, asked again and again: status of each worker, when it heard each terminal, its times.

Asking costs it one control order of each kind every few seconds; it does not wait for us, and whatever it does, we do
not wait for it: each answer is bounded, and none is an answer too.
"""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from admin import limits
from admin.control import Switches
from admin.errors import AdminError
from admin.monitor.fleet import Heard
from switch import contract

_BUCKET: Final = re.compile(r"^switch_leg_seconds_bucket\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
# What the switch calls its legs, for people.
LEGS: Final = {
    "inquiry": "欠费查询",
    "card": "银联扣款",
    "bill": "营销销账",
    "total": "缴费全程",
    "balance": "余额查询",
    "e_bill": "电子账单",
}
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
Buckets = dict[str, dict[float, float]]  # leg -> upper bound -> how many so far


@dataclass(frozen=True, slots=True)
class Word:
    """What one worker said. ``told``: its status; empty with ``trouble`` when it said nothing usable."""

    place: str
    told: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One service in one slot."""

    service: str
    good: bool
    detail: str = ""


def probes_of(words: Sequence[Word]) -> list[Probe]:
    """The switch is up while one worker takes kiosks; a link is up while one worker's is, with its breaker closed."""
    told = [word.told for word in words if word.told]
    reasons = [word.trouble for word in words if word.trouble]
    reasons += [reason for each in told for reason in each["not_ready"]]
    found = [Probe("switch", any(each["ready"] for each in told), "; ".join(dict.fromkeys(reasons))[:500])]
    for name in sorted({name for each in told for name in each["links"]}):
        links = [each["links"][name] for each in told if name in each["links"]]
        found.append(Probe(f"link {name}", any(link["up"] and not link["breaker_open"] for link in links)))
    return found


def merged(pages: Iterable[Sequence[Sequence[Any]]], asked_at: datetime) -> dict[str, Heard]:
    """Rows of ``contract.HEARD_COLUMNS`` of all workers: a terminal may have spoken to several.

    Its last word is the newest; it is signed on, or has a line, when one of them says so.
    """
    found: dict[str, Heard] = {}
    for rows in pages:
        for row in rows:
            told = dict(zip(contract.HEARD_COLUMNS, row, strict=True))
            at = None if told["heard_s"] is None else asked_at - timedelta(seconds=told["heard_s"])
            other = found.get(told["terminal_id"], Heard(None, False, False))
            found[told["terminal_id"]] = Heard(
                max((each for each in (at, other.heard_at) if each is not None), default=None),
                bool(told["signed_on"]) or other.signed_on,
                bool(told["has_line"]) or other.has_line,
            )
    return found


class Switchboard:
    """Args:
    switches: The control sockets.
    observe: Addresses of ``/metrics``; none: no times of the legs.
    """

    def __init__(self, switches: Switches, observe: Sequence[str] = ()) -> None:
        self._switches = switches
        self._observe = tuple(each.rstrip("/") for each in observe)
        self._samples: deque[tuple[datetime, Buckets]] = deque()
        self.words: list[Word] = []

    async def status(self) -> list[Word]:
        """Every worker, answered or not; kept as ``words``."""
        answers = await self._switches.all(do="status")
        self.words = [
            Word(place, trouble=answer.message) if isinstance(answer, AdminError) else Word(place, answer)
            for place, answer in answers.items()
        ]
        return self.words

    async def heard(self) -> tuple[dict[str, Heard], bool]:
        """When each terminal was last heard; and whether that is the whole truth.

        It is not when a worker did not answer, or began so short a time ago that a silent kiosk would not yet have
        been heard by it: nothing may then be said of who is missing.
        """
        asked_at = datetime.now(UTC)
        whole = bool(self._switches.paths)
        pages: list[Sequence[Sequence[Any]]] = []
        for place in self._switches.paths:
            after = 0
            try:
                while True:
                    answer = await self._switches.ask(place, do="heard", after=after, limit=limits.HEARD_PAGE)
                    pages.append(answer["rows"])
                    after = answer["next"]
                    if not after:
                        break
            except AdminError:
                whole = False
        up_s = [word.told["up_s"] for word in self.words if word.told]
        whole = whole and len(up_s) == len(self._switches.paths) and min(up_s, default=0.0) >= limits.HEARD_S
        return merged(pages, asked_at), whole

    async def measure(self) -> dict[str, dict[str, int]]:
        """The times of the legs over the last quarter of an hour: leg -> {"n", "p50_ms", "p95_ms", "p99_ms"}."""
        texts = await asyncio.gather(*(asyncio.to_thread(_metrics, each) for each in self._observe))
        now = datetime.now(UTC)
        if any(texts):
            self._samples.append((now, buckets_of("\n".join(texts))))
        while self._samples and now - self._samples[0][0] > timedelta(seconds=limits.LEG_WINDOW_S):
            self._samples.popleft()
        return times_between(self._samples[0][1], self._samples[-1][1]) if len(self._samples) > 1 else {}


def _metrics(address: str) -> str:
    try:
        with urllib.request.urlopen(f"{address}/metrics", timeout=limits.CONTROL_ANSWER_S) as answer:  # noqa: S310
            text: str = answer.read(limits.METRICS_MAX).decode("utf-8", "replace")
            return text
    except (OSError, urllib.error.URLError, ValueError):
        return ""


def buckets_of(text: str) -> Buckets:
    """How often each leg took how long, all workers together."""
    found: Buckets = {}
    for labels_text, count in _BUCKET.findall(text):
        labels = dict(_LABEL.findall(labels_text))
        leg = found.setdefault(labels["leg"], {})
        bound = float(labels["le"])
        leg[bound] = leg.get(bound, 0.0) + float(count)
    return found


def times_between(first: Buckets, last: Buckets) -> dict[str, dict[str, int]]:
    """Percentiles of what happened between two samples; upper bounds of the buckets, so never flattering.

    A worker that began anew counts from zero: a leg with fewer than before is taken as a whole.
    """
    found: dict[str, dict[str, int]] = {}
    for leg, bounds in last.items():
        before = first.get(leg, {})
        fresh = any(count < before.get(bound, 0.0) for bound, count in bounds.items())
        counts = [
            (bound, count - (0.0 if fresh else before.get(bound, 0.0))) for bound, count in sorted(bounds.items())
        ]
        total = counts[-1][1] if counts else 0.0
        if total < 1:
            continue
        told = {"n": int(total)}
        for percent in (50, 95, 99):
            bound = next(bound for bound, count in counts if count * 100 >= total * percent)
            told[f"p{percent}_ms"] = int(1000 * min(bound, 100.0))
        found[leg] = told
    return found
