"""Who looks at the switch over HTTP while kiosks pay: a load balancer and a metrics collector.

The admin service is not there yet; when it is, its operators come here. What the switch itself serves is little:

    /live     once a second: is the process there?
    /ready    once a second: does it take payments?
    /metrics  once in five seconds, as a collector does
"""

from __future__ import annotations

from typing import Any, Final

from locust import FastHttpUser, constant_pacing, task

_EVERY_S: Final = 1.0
_METRICS_EVERY: Final = 5  # rounds


class AdminUser(FastHttpUser):
    """One of them is enough: it stands for the monitoring of one site, not for load."""

    fixed_count = 1
    wait_time = constant_pacing(_EVERY_S)

    def __init__(self, environment: Any) -> None:
        self.host = environment.parsed_options.health  # locust's own --host is where kiosks connect
        self._rounds = 0
        super().__init__(environment)

    @task
    def look(self) -> None:
        self.client.get("/live")
        self.client.get("/ready")
        if self._rounds % _METRICS_EVERY == 0:
            with self.client.get("/metrics", catch_response=True) as answer:
                if "switch_build_info" not in (answer.text or ""):
                    answer.failure("no metrics of a switch")
        self._rounds += 1
