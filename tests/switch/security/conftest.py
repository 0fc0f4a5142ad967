"""Both security modules behind their port, and both engines under the software one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from switch.config import SecurityConfig
from switch.errors import SecurityError
from switch.ports import Key, KeyUsage, SecurityModule
from switch.security import primitives
from switch.security.backends import ask
from switch.security.pkcs11 import Pkcs11SecurityModule
from switch.security.software import SoftwareSecurityModule
from switch.security.token import create_masters

LMK = bytes(range(100, 132))


def wall_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture(params=sorted(primitives.ENGINES), scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each engine that this installation has; ``test_engines.py`` says which it must have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(primitives, "PROVIDER", request.param)
        yield request.param


@pytest.fixture(scope="session")
def token(tokens: dict[str, SecurityConfig]) -> SecurityConfig:
    """A token with a local master key."""
    create_masters(tokens["test"])
    return tokens["test"]


class Module:
    """One module with its loop: the port's calls as plain calls, which raise what the module says."""

    def __init__(self, module: SecurityModule, runner: asyncio.Runner) -> None:
        self.module = module
        self.runner = runner

    def __call__(self, name: str, *arguments: Any) -> Any:
        async def called() -> Any:
            return await ask(getattr(self.module, name), *arguments)

        return self.runner.run(called())

    def fails(self, name: str, *arguments: Any) -> SecurityError:
        with pytest.raises(SecurityError) as caught:
            self(name, *arguments)
        return caught.value

    def load(self, clear: bytes, usage: KeyUsage, family: str = "des") -> Key:
        """A key that the test knows."""
        sealed = self("seal_component", clear)
        stored = self("combine_sealed", [sealed], usage, family)
        key: Key = self("load_key", stored.wrapped, usage)
        assert (key.usage, key.kcv) == (usage, stored.kcv)
        return key


@pytest.fixture(params=["software", pytest.param("pkcs11", marks=pytest.mark.hsm)])
def module(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Module]:
    made: SecurityModule
    if request.param == "software":
        made = SoftwareSecurityModule(LMK, tmp_path / "vault", "test", wall_us)
    else:
        made = Pkcs11SecurityModule(request.getfixturevalue("token"), tmp_path / "vault", wall_us)
    with asyncio.Runner() as runner:
        runner.run(made.start())
        try:
            yield Module(made, runner)
        finally:
            runner.run(made.stop())
