"""Every metric is defined once, documented, and counted as defined."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from switch.limits import METRIC_SERIES_MAX
from switch.observe.metrics import METRICS, OTHER, Kind, Metrics

DOCUMENTED = """
switch_payments_total{result} switch_leg_seconds{leg} switch_inflight{state} switch_open_payments
switch_reversals_total{reason,rc} switch_late_responses_total switch_late_after_final_total
switch_duplicates_total{source} switch_link_up{peer} switch_echo_rtt_seconds{peer} switch_mac_failures_total{peer}
switch_db_commit_seconds switch_db_batch_rows switch_db_unknown_commits_total switch_admission_rejects_total{reason}
switch_rate_limited_total{what} switch_terminals_stopped switch_lines_replaced_total
switch_batches_total{result} switch_settlements_total{result}
switch_tls_pending switch_tls_refused_total{reason} switch_wrong_terminal_total
switch_certificate_expiry_seconds{certificate}
switch_kiosk_connections switch_frames_total{peer,direction} switch_bad_frames_total{peer,reason}
switch_serial_up{line} switch_serial_noise_bytes_total{line} switch_serial_discards_total{line,reason}
switch_serial_heartbeats_total{line} switch_serial_unsent_total{line,reason}
switch_sign_ons_total{result} switch_loop_lag_seconds switch_gc_pause_seconds
switch_queue_delay_seconds switch_overload_state
switch_strays_total switch_strays_dropped_total
switch_journal_pending
switch_build_info{version,python} switch_metric_faults_total
switch_saf_depth{kind}
switch_saf_oldest_seconds{kind}
switch_threeway_breaks{class}
switch_money_at_risk_fen
switch_unknown_open
switch_unknown_oldest_seconds
switch_lease_margin_seconds
switch_takeovers_total
switch_breaker_state{peer}
switch_link_signed_on switch_key_age_seconds switch_stan_open switch_sad_rows switch_sad_oldest_seconds
switch_spec_version{name,version} switch_disk_free_bytes switch_clock_offset_seconds switch_security_up
switch_vault_keys switch_vault_oldest_seconds switch_vault_shredded_total
"""


def samples(metrics: Metrics) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def use_all(metrics: Metrics) -> None:
    for one in METRICS:
        labels = tuple(f"some_{label}" for label in one.labels)
        if one.kind is Kind.COUNTER:
            metrics.count(one.name, labels)
        elif one.kind is Kind.GAUGE:
            metrics.gauge(one.name, 7, labels)
        else:
            metrics.observe(one.name, 0.0025, labels)


def test_the_definitions_are_the_documented_ones_and_all_appear_in_the_text() -> None:
    documented = {name.partition("{")[0]: name for name in DOCUMENTED.split()}
    assert {one.name + (f"{{{','.join(one.labels)}}}" if one.labels else "") for one in METRICS} == set(
        documented.values()
    )
    metrics = Metrics(strict=True)
    text = metrics.text().decode()
    for one in METRICS:  # even before anybody used them
        assert f"# HELP {one.name} {one.help_text}" in text and f"# TYPE {one.name} {one.kind}" in text
    use_all(metrics)
    found = samples(metrics)
    for one in METRICS:
        suffix = "_count" if one.kind is Kind.HISTOGRAM else ""
        labels = ",".join(f"{label}=some_{label}" for label in sorted(one.labels))
        names = [name for name in found if name.startswith(one.name + suffix)]
        assert any(set(filter(None, labels.split(","))) <= set(re.split("[{},]", name)) for name in names), one.name


def test_names_and_helps_follow_the_rules() -> None:
    for one in METRICS:
        assert re.fullmatch(r"switch_[a-z_]+", one.name)
        assert (one.kind is Kind.COUNTER) == one.name.endswith("_total"), one.name
        assert one.help_text.endswith(".") or one.help_text.startswith("1;")
        assert not {"pan", "terminal", "terminal_id", "address", "payment_id"} & set(one.labels)
        assert list(one.buckets) == sorted(set(one.buckets)) and bool(one.buckets) == (one.kind is Kind.HISTOGRAM)


def test_counts_gauges_and_distributions_come_out_as_they_went_in() -> None:
    metrics = Metrics(strict=True)
    metrics.count("switch_frames_total", ("kiosk", "in"), 3)
    metrics.count("switch_frames_total", ["kiosk", "in"])
    metrics.count("switch_strays_total")
    metrics.gauge("switch_link_up", 1, ("unionpay",))
    metrics.gauge("switch_link_up", 0, ["unionpay"])
    for value in (0.0001, 0.0012, 0.0012, 1000.0):
        metrics.observe("switch_leg_seconds", value, ("card",))
    found = samples(metrics)
    assert found["switch_frames_total{direction=in,peer=kiosk}"] == 4
    assert found["switch_strays_total"] == 1 and found["switch_late_after_final_total"] == 0
    assert found["switch_link_up{peer=unionpay}"] == 0
    assert found["switch_leg_seconds_count{leg=card}"] == 4
    assert found["switch_leg_seconds_sum{leg=card}"] == pytest.approx(1000.0025)
    assert found["switch_leg_seconds_bucket{le=0.0001,leg=card}"] == 1  # a bound belongs to its bucket
    assert found["switch_leg_seconds_bucket{le=0.001,leg=card}"] == 1
    assert found["switch_leg_seconds_bucket{le=0.0015,leg=card}"] == 3
    assert found["switch_leg_seconds_bucket{le=100.0,leg=card}"] == 3
    assert found["switch_leg_seconds_bucket{le=+Inf,leg=card}"] == 4


def test_a_misspelt_metric_fails_a_test_but_not_a_payment() -> None:
    misuses: list[Callable[[Metrics], None]] = [
        lambda metrics: metrics.count("switch_no_such_total"),
        lambda metrics: metrics.count("switch_link_up", ("x",)),
        lambda metrics: metrics.count("switch_payments_total"),
        lambda metrics: metrics.gauge("switch_payments_total", 1, ("x",)),
        lambda metrics: metrics.observe("switch_leg_seconds", 1, ("a", "b")),
    ]
    for misuse in misuses:
        with pytest.raises(ValueError, match="metric switch_"):
            misuse(Metrics(strict=True))
        metrics = Metrics()
        misuse(metrics)
        assert samples(metrics)["switch_metric_faults_total"] == 1


def test_labels_of_a_peers_choice_cannot_fill_the_memory() -> None:
    metrics = Metrics(strict=True)
    for number in range(3 * METRIC_SERIES_MAX):
        metrics.count("switch_reversals_total", ("timeout", str(number)))
    found = samples(metrics)
    assert sum(name.startswith("switch_reversals_total{") for name in found) == METRIC_SERIES_MAX + 1
    assert found[f"switch_reversals_total{{rc={OTHER},reason={OTHER}}}"] == 2 * METRIC_SERIES_MAX


def test_reading_while_counting() -> None:
    metrics = Metrics()
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        while not stop.is_set():
            try:
                metrics.text()
            except BaseException as error:
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20_000):
        metrics.count("switch_reversals_total", ("x", str(number % 1000)))
        metrics.observe("switch_leg_seconds", 0.01, (str(number % 100),))
    stop.set()
    reader.join()
    assert not failures
