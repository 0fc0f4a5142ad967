"""Every metric of the switch. Nothing registers one elsewhere.

Counting happens in plain dicts (about 0.15 µs), because it stands on the path of every message; Prometheus' own
objects are built when somebody reads ``/metrics``. All counting is done on the loop's thread, reading on any.

Labels come from small closed sets: never a card number, a terminal id or an address.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from switch import __version__, limits

OTHER: Final = "other"  # stands for every label set beyond it


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


def _log_linear(first: float, decades: int) -> tuple[float, ...]:
    """Bounds 1, 1.5, 2, 3, 4, 5, 7.5 of each decade from ``first``: an error of at most a third, at any size."""
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5)
    bounds = [first * 10**decade * step for decade in range(decades) for step in steps]
    return (*(float(f"{bound:.3g}") for bound in bounds), float(f"{first * 10**decades:.3g}"))


SECONDS: Final = _log_linear(0.0001, 6)  # 0.1 ms to 100 s
ROWS: Final = tuple(float(2**power) for power in range(11))  # 1 to 1024


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. Its unit is the last word of its name; ``_total`` counts things."""

    name: str
    kind: Kind
    help_text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, help_text: str, *labels: str) -> Definition:
    return Definition(name, Kind.COUNTER, help_text, labels)


def _gauge(name: str, help_text: str, *labels: str) -> Definition:
    return Definition(name, Kind.GAUGE, help_text, labels)


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Definition:
    return Definition(name, Kind.HISTOGRAM, help_text, labels, buckets)


METRICS: Final = (
    # money
    _counter("switch_payments_total", "Payments brought to an end, by what the kiosk is told.", "result"),
    _histogram("switch_leg_seconds", "Time of a leg: inquiry, e_bill, balance, card, bill or total.", SECONDS, "leg"),
    _gauge("switch_inflight", "Payments that the switch still drives, by state.", "state"),
    _gauge("switch_open_payments", "Payments that the switch still drives."),
    _counter("switch_reversals_total", "Reversals answered, by their reason and response code.", "reason", "rc"),
    _gauge("switch_saf_depth", "Payments that must be reversed and are not yet, on all terminals.", "kind"),
    _gauge("switch_saf_oldest_seconds", "How long the oldest of them has been waiting.", "kind"),
    _gauge("switch_threeway_breaks", "Payments by what the three-way check found, class by class.", "class"),
    _gauge("switch_money_at_risk_fen", "What somebody is short of by the three-way check, in fen."),
    _gauge("switch_unknown_open", "Payments whose outcome nobody knows yet."),
    _gauge("switch_unknown_oldest_seconds", "Age of the oldest of them."),
    _counter("switch_late_responses_total", "Responses that came after their request was given up."),
    _counter("switch_late_after_final_total", "Late responses that contradict a final state; must stay 0."),
    _counter("switch_duplicates_total", "Messages seen before, by who sent them.", "source"),
    _counter("switch_strays_dropped_total", "Strays that could not be recorded; must stay 0."),
    _counter("switch_strays_total", "Responses that no payment in memory waited for."),
    # links
    _gauge("switch_breaker_state", "1 while a peer is left alone because it answers echoes but not its work.", "peer"),
    _gauge("switch_link_up", "1 while the peer answers echo tests.", "peer"),
    _histogram("switch_echo_rtt_seconds", "Time of an echo test, there and back.", SECONDS, "peer"),
    _counter("switch_batches_total", "Batch settlements of kiosks: equal, differs, reported.", "result"),
    _counter(
        "switch_settlements_total", "Batches settled with the card network: balanced, differs, refused.", "result"
    ),
    _counter("switch_lines_replaced_total", "Connections whose terminal signed on over another one."),
    _counter("switch_mac_failures_total", "Messages whose MAC was wrong.", "peer"),
    _gauge("switch_link_signed_on", "Terminals in service whose working keys are of the last 24 hours."),
    _gauge("switch_key_age_seconds", "Age of the oldest working keys of a terminal in service."),
    _gauge("switch_stan_open", "Trace numbers that may not come again: payments that are not final, of all workers."),
    _gauge("switch_sad_rows", "Payments whose card data is kept, encrypted, because they are not final."),
    _gauge("switch_sad_oldest_seconds", "Age of the oldest of them."),
    _gauge("switch_vault_keys", "Hours whose vault key is kept: some row still needs it, or it is new."),
    _gauge("switch_vault_oldest_seconds", "Age of the oldest of these keys; about the refund window."),
    _counter("switch_vault_shredded_total", "Vault key files that this worker destroyed: no row needed them any more."),
    _gauge("switch_spec_version", "1; which interface and code tables are in force.", "name", "version"),
    _gauge("switch_security_up", "1 while the security module answers."),
    _counter("switch_sign_ons_total", "Terminal sign-ons, by result.", "result"),
    _counter("switch_frames_total", "Frames, by peer and direction (in, out).", "peer", "direction"),
    _counter("switch_bad_frames_total", "Frames refused before they were read.", "peer", "reason"),
    _gauge("switch_kiosk_connections", "Kiosks connected."),
    _gauge("switch_tls_pending", "Kiosks whose TLS handshake has begun and not ended."),
    _counter("switch_tls_refused_total", "TLS handshakes with kiosks that failed, by reason.", "reason"),
    _counter("switch_wrong_terminal_total", "Requests for a terminal that the kiosk's certificate does not name."),
    _gauge("switch_certificate_expiry_seconds", "How long a certificate in use still lasts, by option.", "certificate"),
    _gauge("switch_serial_up", "1 while the port of a serial line is open.", "line"),
    _counter(
        "switch_serial_noise_bytes_total", "Bytes on a serial line that were of no frame and no heartbeat.", "line"
    ),
    _counter(
        "switch_serial_discards_total", "Frames on a serial line that were given up, by reason.", "line", "reason"
    ),
    _counter("switch_serial_heartbeats_total", "Signs of life of a serial line's DTU.", "line"),
    _counter("switch_serial_unsent_total", "Answers that a serial line did not take, by reason.", "line", "reason"),
    _counter("switch_admission_rejects_total", "Kiosks or payments turned away, by reason.", "reason"),
    _counter("switch_rate_limited_total", "Frames of kiosks refused because there were too many, by what.", "what"),
    _gauge("switch_terminals_stopped", "Terminals that must sign on again after three wrong MACs in a row."),
    # journal
    _histogram("switch_db_commit_seconds", "Time of one commit of the journal.", SECONDS),
    _gauge("switch_lease_margin_seconds", "How long this worker may still send if its lease is not renewed."),
    _counter("switch_takeovers_total", "Workers that this one has ended because their lease was over."),
    _histogram("switch_db_batch_rows", "Entries in one commit of the journal.", ROWS),
    _counter("switch_db_unknown_commits_total", "Commits without an answer; each was read again by key."),
    _gauge("switch_journal_pending", "Entries waiting for their commit."),
    # process
    _histogram("switch_queue_delay_seconds", "How long work waited: for the loop, or for a commit.", SECONDS),
    _gauge("switch_overload_state", "1 while new bill inquiries are turned away because work waits too long."),
    _histogram("switch_gc_pause_seconds", "Pauses of Python's garbage collector.", SECONDS),
    _histogram("switch_loop_lag_seconds", "How late the loop ran a timer.", SECONDS),
    _gauge("switch_disk_free_bytes", "Free space where the switch keeps its keys and its sockets, the smallest."),
    _gauge("switch_clock_offset_seconds", "How far the kernel knows our clock to be off; NaN: nobody keeps it."),
    _counter("switch_metric_faults_total", "Uses of a metric that its definition does not allow: a fault of ours."),
    _gauge("switch_build_info", "1; the labels say what runs.", "version", "python"),
)
DEFINITIONS: Final = {definition.name: definition for definition in METRICS}

Key = tuple[str, Sequence[str]]


class _Buckets:
    """One histogram's cells."""

    __slots__ = ("bounds", "cells", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.cells = [0] * (len(bounds) + 1)  # the last is above every bound
        self.total = 0.0


class Metrics(Collector):
    """The counting part of ``ports.Observer``.

    Args:
        strict: Raise ValueError for an unknown metric or wrong labels, as tests want. Otherwise such a use is only
            counted (``switch_metric_faults_total``): a payment must not fail because its counter is misspelt.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._counts: dict[Key, float] = {}
        self._gauges: dict[Key, float] = {}
        self._histograms: dict[Key, _Buckets] = {}
        self._series_counts = dict.fromkeys(DEFINITIONS, 0)
        for one in METRICS:  # what has no labels exists from the start, as 0
            if not one.labels:
                self._new_series(one.name, (), one.kind)
        self.gauge("switch_build_info", 1, (__version__, platform.python_version()))
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None:
        try:
            self._counts[name, labels] += by
        except (KeyError, TypeError):  # first use, or labels in a list
            self._use(name, labels, Kind.COUNTER, lambda key: self._counts.__setitem__(key, self._counts[key] + by))

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        try:
            buckets = self._histograms[name, labels]
        except (KeyError, TypeError):
            self._use(name, labels, Kind.HISTOGRAM, lambda key: self.observe(key[0], value, key[1]))
            return
        buckets.cells[bisect_left(buckets.bounds, value)] += 1
        buckets.total += value

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        if type(labels) is tuple and (name, labels) in self._gauges:
            self._gauges[name, labels] = value
        else:
            self._use(name, labels, Kind.GAUGE, lambda key: self._gauges.__setitem__(key, value))

    def text(self) -> bytes:
        """Prometheus' text format. From any thread."""
        return generate_latest(self.registry)

    # ------------------------------------------------------------------------------------------------ inside
    def _use(self, name: str, labels: Sequence[str], kind: Kind, act: Callable[[Key], None]) -> None:
        """The slow way: a series used for the first time, labels in a list, or a fault."""
        one = DEFINITIONS.get(name)
        values = tuple(map(str, labels))
        if one is None or one.kind is not kind or len(values) != len(one.labels):
            if self._strict:
                expected = f"{one.kind} with labels {one.labels}" if one else "a name from switch/observe/metrics.py"
                raise ValueError(f"metric {name} used as {kind} with {len(values)} labels; expected {expected}")
            self._counts["switch_metric_faults_total", ()] += 1
            return
        series: tuple[dict[Key, float], dict[Key, float], dict[Key, _Buckets]] = (
            self._counts,
            self._gauges,
            self._histograms,
        )
        if not any((name, values) in cells for cells in series):
            if self._series_counts[name] >= limits.METRIC_SERIES_MAX:
                values = (OTHER,) * len(values)
            if not any((name, values) in cells for cells in series):
                self._new_series(name, values, kind)
        act((name, values))

    def _new_series(self, name: str, values: tuple[str, ...], kind: Kind) -> None:
        self._series_counts[name] += 1
        if kind is Kind.COUNTER:
            self._counts[name, values] = 0
        elif kind is Kind.GAUGE:
            self._gauges[name, values] = 0.0
        else:
            self._histograms[name, values] = _Buckets(DEFINITIONS[name].buckets)

    def collect(self) -> Iterator[Metric]:
        # Copies: the loop goes on counting, and adding series, while another thread renders.
        counts, gauges, histograms = self._counts.copy(), self._gauges.copy(), self._histograms.copy()
        for one in METRICS:
            if one.kind is Kind.COUNTER:
                counter = CounterMetricFamily(one.name, one.help_text, labels=one.labels)
                for (name, values), value in counts.items():
                    if name == one.name:
                        counter.add_metric(values, value)
                yield counter
            elif one.kind is Kind.GAUGE:
                gauge = GaugeMetricFamily(one.name, one.help_text, labels=one.labels)
                for (name, values), value in gauges.items():
                    if name == one.name:
                        gauge.add_metric(values, value)
                yield gauge
            else:
                histogram = HistogramMetricFamily(one.name, one.help_text, labels=one.labels)
                for (name, values), buckets in histograms.items():
                    if name == one.name:
                        histogram.add_metric(values, _cumulative(buckets), sum_value=buckets.total)
                yield histogram


def _cumulative(buckets: _Buckets) -> list[tuple[str, float]]:
    total = 0
    rows: list[tuple[str, float]] = []
    for bound, cell in zip((*buckets.bounds, float("inf")), tuple(buckets.cells), strict=True):
        total += cell
        rows.append(("+Inf" if bound == float("inf") else repr(bound), total))
    return rows
