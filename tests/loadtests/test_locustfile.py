"""What locust is given, in a process of its own: gevent patches whatever process imports locust."""

from __future__ import annotations

import json
import subprocess
import sys

# A worker whose users have stopped, before it says so; its runner is only what the listener looks at.
LAST_REPORT = """
import json, types
from locust import events
from locust.runners import WorkerRunner
from loadtests import locustfile

sent = []
runner = WorkerRunner.__new__(WorkerRunner)
runner.client_id = "w"
runner.send_message = lambda kind, data=None, client_id=None: sent.append([kind, sorted(data), data["kiosks"]])
locustfile.TERMINALS.book.sent = 3
events.test_stop.fire(environment=types.SimpleNamespace(events=events, runner=runner))
print(json.dumps(sent))
"""
SUM = """
import json
from loadtests import locustfile
reports = [{"sent": 2, "fen_sent": 20, "fen_paid": 10, "contradictions": 0, "finals": {"00": 1, "R2": 1}},
           {"sent": 1, "fen_sent": 5, "fen_paid": 5, "contradictions": 1, "finals": {"00": 1}}]
print(json.dumps(locustfile._sum(reports)))
"""
NO_TERMINAL = """
import json
from loadtests.kiosk import Terminals
terminals = Terminals(first=5, count=2)
one, two, none = terminals.take(), terminals.take(), terminals.take()
one.visits = 7
terminals.give_back(one)
again = terminals.take()
print(json.dumps([one.terminal.number, two.terminal.number, none, again is one and again.visits, terminals.take()]))
"""


def run(script: str) -> object:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_worker_sends_its_last_counts_before_it_says_that_it_has_stopped() -> None:
    """Without it they come with the next report, if the master still listens then."""
    counts = {"sent": 3, "fen_sent": 0, "fen_paid": 0, "finals": {}, "contradictions": 0}
    assert run(LAST_REPORT) == [["stats", ["kiosks"], counts]]


def test_the_counts_of_all_workers_are_added() -> None:
    finals = {"00": 2, "R2": 1}
    assert run(SUM) == {"sent": 3, "fen_sent": 25, "fen_paid": 15, "contradictions": 1, "finals": finals}


def test_a_terminal_is_one_users_at_a_time_and_comes_back_with_its_serials() -> None:
    assert run(NO_TERMINAL) == [5, 6, None, 7, None]


def test_what_judges_and_starts_a_run_does_not_load_gevent() -> None:
    script = "import json, sys, loadtests.run, loadtests.wire; print(json.dumps('gevent' in sys.modules))"
    assert run(script) is False
