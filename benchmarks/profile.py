"""Where a payment's time goes: a flame graph of the switch under ``gridswitch bench payments``.

    python -m benchmarks.profile [--seconds 20] [--kiosks 256] [--dir .gridswitch/profile]

Writes into the folder:

    switch.svg   the switch's Python, by py-spy; open it in a browser
    switch.txt   shares of kernel, interpreter and libraries, and the functions behind them, by perf; where the kernel
                 lets it (needs perf and kernel.perf_event_paranoid at most 1, or root)
    bench.txt    what the benchmark itself says: it must hold like any other

Both count only time on a core. The run is a little slower than one that nobody looks at.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

START_S = 60.0  # PostgreSQL, hosts, switch and sign-ons
SETTLED_S = 4.0  # warm-up of the benchmark
RATE_HZ = 997  # not a multiple of anything that happens by the clock


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=20, metavar="S", help="of load (default 20)")
    parser.add_argument("--kiosks", type=int, default=256, metavar="N")
    parser.add_argument("--dir", type=Path, default=Path(".gridswitch/profile"))
    options = parser.parse_args(arguments)
    py_spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if py_spy is None:
        print('profile: py-spy is missing: pip install "gridswitch[profile]", or make profile', file=sys.stderr)
        return 2
    folder: Path = options.dir
    folder.mkdir(parents=True, exist_ok=True)
    rig, told = folder / "rig", folder / "bench.txt"
    load = [*(sys.executable, "-m", "switch", "bench", "payments"), *("--dir", str(rig))]
    load += ["--seconds", str(options.seconds), "--kiosks", str(options.kiosks)]
    print(f"profiling {options.seconds} s of payments from {options.kiosks} kiosks …", flush=True)
    with told.open("wb") as log:
        bench = subprocess.Popen(load, stdout=log, stderr=log)
        try:
            process = _switch(rig, bench)
            time.sleep(SETTLED_S)
            _record(py_spy, process, max(5, options.seconds - 6), folder)
        finally:
            status = bench.wait()
    if status:
        print(told.read_text(errors="replace")[-3000:], file=sys.stderr)
        print(f"profile: the benchmark ended with {status}: {told}", file=sys.stderr)
        return 1
    print(f"flame graph: {folder / 'switch.svg'}; the benchmark's own numbers: {told}")
    return 0


def _switch(rig: Path, bench: subprocess.Popen[bytes]) -> int:
    """The process to look at, once kiosks pay. Raises SystemExit."""
    ends_at, begun = time.monotonic() + START_S, time.time()
    while time.monotonic() < ends_at and bench.poll() is None:
        try:
            noted: dict[str, int] = orjson.loads((rig / "processes.json").read_bytes())
        except (OSError, orjson.JSONDecodeError):
            noted = {}
        switch = noted.get("switch")
        generator = rig / "generator.log"
        if switch is not None and generator.exists() and generator.stat().st_mtime >= begun - 1.0:
            return switch
        time.sleep(0.2)
    raise SystemExit("profile: the benchmark did not start; see bench.txt")


def _record(py_spy: str, process: int, seconds: int, folder: Path) -> None:
    running = []
    svg = folder / "switch.svg"
    command = [*(py_spy, "record", "--pid", str(process), "--duration", str(seconds), "--rate", "250"), "-o", str(svg)]
    running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    perf, data = shutil.which("perf"), folder / "perf.data"
    if perf is None:
        print("perf is not here: no switch.txt (Debian: apt-get install linux-perf)")
    else:
        # cpu-clock, because virtual machines have no counters of cycles.
        command = [*(perf, "record", "-e", "cpu-clock", "-F", str(RATE_HZ), "-p", str(process)), "-o", str(data)]
        command += ["--", "sleep", str(seconds)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    statuses = [each.wait() for each in running]
    if statuses[0]:
        raise SystemExit(f"profile: py-spy ended with {statuses[0]}; as a user it needs kernel.yama.ptrace_scope 0")
    if perf is None or statuses[1]:
        return
    text = ""
    for by in ("dso", "dso,sym"):
        report = [*(perf, "report", "-i", str(data), "--stdio", "-g", "none", "--percent-limit", "0.3"), "--sort", by]
        text += subprocess.run(report, capture_output=True, text=True, check=False).stdout
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    (folder / "switch.txt").write_text("\n".join(lines) + "\n")
    data.unlink()
    print("share of the switch's CPU time:")
    print(*lines[:8], sep="\n")


if __name__ == "__main__":
    sys.exit(main())
