"""What locust loads: users, the chosen shape, options; and the counts that are written when a run ends.

    python -m locust --headless -f loadtests/locustfile.py --host HOST:PORT --health http://HOST:PORT …

A worker's terminals begin at ``first-terminal + index * terminals-per-worker``; its index the master gave it. So no two
users are one terminal, on however many machines. Each worker writes a book of its own.

When the shape is over the master first lets every worker stop its users, each of which asks for what is in doubt, and
send its last counts; only then does it end the run. ``counts.json`` is written by the master, or by a locust that runs
alone.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, Final

from locust import LoadTestShape, events
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import RequestStats

from loadtests import shapes
from loadtests.admin import AdminUser
from loadtests.kiosk import TERMINALS, KioskUser
from loadtests.wire import Book

__all__ = ["AdminUser", "ChosenShape", "KioskUser"]

_SHARES: Final = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
_reports: dict[str, dict[str, Any]] = {}  # worker: the counts of its book, the latest
_started: dict[str, float] = {}


class ChosenShape(LoadTestShape):
    """``--shape``, with the monitoring user beside the kiosks."""

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None and self.runner.environment.parsed_options is not None
        options = self.runner.environment.parsed_options
        elapsed_s = time.perf_counter() - self.start_time
        kiosks = shapes.kiosks_at(options.shape, elapsed_s, seconds=options.seconds, kiosks=options.kiosks)
        if kiosks is None:
            # What locust does by itself at this point tells workers to quit and hears no more of them.
            self.runner.stop()
            return None
        others = sum(int(user.fixed_count) for user in self.runner.environment.user_classes)
        return kiosks + others, shapes.starts_per_s(options.kiosks)


@events.init_command_line_parser.add_listener
def _add_options(parser: Any) -> None:
    add = parser.add_argument_group("kiosks").add_argument
    add("--shape", choices=tuple(shapes.SHAPES), default="steady", help="how their number changes (default steady)")
    add("--seconds", type=float, default=20.0, help="length of the run (default 20)")
    add("--kiosks", type=int, default=50, help="the most at any moment (default 50)")
    add("--rate", type=float, default=0.0, help="customers a second of so many kiosks; 0: thinking times (default 0)")
    add("--first-terminal", type=int, default=1, help="number of the first test terminal (default 1)")
    add("--terminals-per-worker", type=int, default=1_000, help="how many each worker may use (default 1000)")
    add("--workers-max", type=int, default=1, help="workers that there will ever be (default 1)")
    add("--answer-within", type=float, default=6.0, help="seconds a kiosk waits: 6 on the short time profile, else 90")
    add("--settle", type=float, default=30.0, help="seconds in which what is in doubt is asked for at the end")
    add("--repeat-share", type=float, default=0.01, help="payments whose request is sent again (default 0.01)")
    add("--health", default="", help="where the switch serves /ready, e.g. http://127.0.0.1:9583")
    add("--tls-dir", default="", help="folder of `gridswitch certs dev`; without it kiosks speak in the clear")
    add("--out", default=".gridswitch/load", help="where counts.json and the books go")


@events.init.add_listener
def _check(environment: Any, **_: Any) -> None:
    """Raises ValueError, which ends locust, when there can be no such run."""
    options = environment.parsed_options
    if not isinstance(environment.runner, WorkerRunner):  # workers get their options from the master, later
        shapes.kiosks_at(options.shape, 0.0, seconds=options.seconds, kiosks=options.kiosks)


@events.test_start.add_listener
def _begin(environment: Any, **_: Any) -> None:
    options, runner = environment.parsed_options, environment.runner
    _started["wall"] = time.time()
    if isinstance(runner, MasterRunner):
        return
    if runner.worker_index >= options.workers_max:
        # Started again after a crash, perhaps. Its users find no terminal, which the report shows.
        logging.error(
            "worker %s of --workers-max %s: no terminals are left", runner.worker_index + 1, options.workers_max
        )
        return
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    host, _colon, port = environment.host.rpartition(":")
    TERMINALS.address = host, int(port)
    TERMINALS.first = options.first_terminal + runner.worker_index * options.terminals_per_worker
    TERMINALS.count = options.terminals_per_worker
    TERMINALS.in_all = options.workers_max * options.terminals_per_worker
    TERMINALS.answer_s = options.answer_within
    TERMINALS.tls_dir = Path(options.tls_dir) if options.tls_dir else None
    TERMINALS.book = Book(folder / f"book-{runner.worker_index}.jsonl")


@events.report_to_master.add_listener
def _report(client_id: str, data: dict[str, Any], **_: Any) -> None:
    data["kiosks"] = TERMINALS.book.counts


@events.worker_report.add_listener
def _keep_report(client_id: str, data: dict[str, Any], **_: Any) -> None:
    _reports[client_id] = data["kiosks"]


@events.test_stop.add_listener
def _end(environment: Any, **_: Any) -> None:
    """On a worker: the last counts, before it says that it has stopped. Else: everything, into ``counts.json``."""
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        data: dict[str, Any] = {}
        environment.events.report_to_master.fire(client_id=runner.client_id, data=data)
        runner.send_message("stats", data)
        TERMINALS.book.close()
        return
    if not isinstance(runner, MasterRunner):
        _reports["alone"] = TERMINALS.book.counts
        TERMINALS.book.close()
    options = environment.parsed_options
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    counts = {
        "shape": options.shape,
        "seconds": options.seconds,
        "kiosks_max": options.kiosks,
        "workers": len(_reports),
        "started_at": _started["wall"],
        "first_terminal": options.first_terminal,
        "terminals": options.workers_max * options.terminals_per_worker,
        "kiosks": _sum(list(_reports.values())),
        "requests": _requests(environment.stats),
        "exceptions": sorted({str(row["msg"]) for row in runner.exceptions.values()}),
        "errors": [
            {"name": error.name, "error": str(error.error), "count": error.occurrences}
            for error in environment.stats.errors.values()
        ],
    }
    (folder / "counts.json").write_text(json.dumps(counts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sum(reports: list[dict[str, Any]]) -> dict[str, Any]:
    finals: dict[str, int] = {}
    for report in reports:
        for code, count in report["finals"].items():
            finals[code] = finals.get(code, 0) + count
    names = ("sent", "fen_sent", "fen_paid", "contradictions")
    return {name: sum(report[name] for report in reports) for name in names} | {"finals": finals}


def _requests(stats: RequestStats) -> dict[str, dict[str, Any]]:
    return {
        entry.name: {
            "count": entry.num_requests,
            "failures": entry.num_failures,
            **{name: entry.get_response_time_percentile(share) for name, share in _SHARES.items()},
        }
        for entry in stats.entries.values()
    }
