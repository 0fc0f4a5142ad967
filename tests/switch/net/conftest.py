from __future__ import annotations

import pytest

from .harness import LOOPS, Run


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)
