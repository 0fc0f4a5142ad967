"""Short rounds of the drills, as real processes; the long ones are `gridswitch drill`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = (sys.executable, "-m", "switch")


def drill(folder: Path, name: str, rounds: int, *more: str) -> dict[str, Any]:
    command = [*RUN, "drill", name, "--rounds", str(rounds), "--kiosks", "8", "--dir", str(folder), "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    ("name", "rounds"), [("kill-switch", 2), ("kill-worker", 2), ("kill-postgres", 1), ("cut", 4), ("hostile", 1)]
)
def test_a_short_drill_loses_doubles_and_leaves_open_nothing(short_dir: Path, name: str, rounds: int) -> None:
    told = drill(short_dir / "drill", name, rounds)
    assert (told["lost"], told["doubled"], told["open"], told["other_differences"]) == (0, 0, 0, 0)
    assert told["payments"] > 0 and told["rounds"] == rounds
    assert told["restarts"] == (rounds if name in ("kill-switch", "kill-worker") else 0)


def test_a_drill_that_does_not_exist_is_refused(short_dir: Path) -> None:
    done = subprocess.run([*RUN, "drill", "dance"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "kill-switch" in done.stderr
