"""What the switch itself adds to a payment, station by station (``path.py``); the MAC algorithms beside each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.path import CASES, close
from switch.security import mac, primitives


def straight(call: Callable[[], None]) -> None:
    call()


@pytest.mark.benchmark(group="path")
@pytest.mark.parametrize("case", [name for name in CASES if name != "nothing"])
def test_station(benchmark: Any, case: str) -> None:
    """Each run checks itself; "journal" and "whole" are of many payments at once, hosts and kiosks included."""
    make, each = CASES[case]
    benchmark.extra_info["payments"] = each
    try:
        benchmark(make(), straight)
    finally:
        close()


@pytest.mark.benchmark(group="mac")
@pytest.mark.parametrize("name", ["unionpay_ecb", "x9_19", "sm4_ecb"])
def test_mac_of_200_bytes(benchmark: Any, name: str) -> None:
    """With a key that is ready, as the switch keeps it for a terminal's day."""
    key = bytes(range(16))
    ready = mac.prepare(name, primitives.sm4(key) if name.startswith("sm4") else primitives.des(key))
    assert benchmark(ready.make, bytes(200)) == mac.make_mac(name, key, bytes(200))
