"""What a MAC and the translation of a PIN block cost, on each engine and each security module.

Calls to a token go through a thread, so one call is measured as a hundred of them in flight, as a busy switch has them:
divide by 100.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from switch.ops.softhsm import make_master_token
from switch.ports import KeyUsage, SecurityModule
from switch.security import mac, primitives
from switch.security.backends import ask
from switch.security.engine import Family
from switch.security.pkcs11 import Pkcs11SecurityModule
from switch.security.primitives import BlockCipher
from switch.security.software import SoftwareSecurityModule

KEY, PAN = bytes(range(16)), "6222021234567890128"
FLIGHT = 100
PROVIDERS = sorted(primitives.ENGINES)


@pytest.mark.benchmark(group="MAC of 200 bytes")
@pytest.mark.parametrize("name", ["unionpay_ecb", "x9_19", "tdes_cbc", "sm4_ecb"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_engine(benchmark: Any, name: str, provider: str) -> None:
    family = Family.SM4 if name.startswith("sm4") else Family.DES
    ready = mac.prepare(name, BlockCipher(family, KEY, provider))
    assert benchmark(ready.make, bytes(200)) == mac.make_mac(name, KEY, bytes(200))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[SecurityModule, asyncio.Runner]]]:
    folder: Path = tmp_path_factory.mktemp("security")
    with asyncio.Runner() as runner:
        modules: list[SecurityModule] = []

        def make(name: str) -> tuple[SecurityModule, asyncio.Runner]:
            module: SecurityModule
            if name == "software":
                module = SoftwareSecurityModule(bytes(32), folder / "vault", "test")
            else:
                module = Pkcs11SecurityModule(
                    make_master_token(folder / "softhsm"), folder, lambda: time.time_ns() // 1000
                )
            runner.run(module.start())
            modules.append(module)
            return module, runner

        yield make
        for module in modules:
            runner.run(module.stop())


async def _key(module: SecurityModule, usage: KeyUsage) -> Any:
    stored = await ask(module.generate, usage, "des")
    return await ask(module.load_key, stored.wrapped, usage)


@pytest.mark.parametrize("name", ["software", "pkcs11"])
def test_module(benchmark: Any, made: Any, name: str) -> None:
    """One MAC and one translation of a PIN block, a hundred in flight."""
    module, runner = made(name)
    mac_key = runner.run(_key(module, KeyUsage.MAC))
    pad, network = runner.run(_key(module, KeyUsage.PIN)), runner.run(_key(module, KeyUsage.PIN))
    block = runner.run(_block(module, pad))
    benchmark.group = "a hundred in flight"
    macs: list[Any] = []
    pins: list[Any] = []

    def flight(call: Callable[[Callable[[Any], None]], None], heard: list[Any]) -> None:
        heard.clear()
        runner.run(_flight(call, heard))

    def mac_call(done: Callable[[Any], None]) -> None:
        module.make_mac(mac_key, "unionpay_ecb", bytes(200), done)

    def pin_call(done: Callable[[Any], None]) -> None:
        module.translate_pin(block, pad, "iso0", network, "iso0", PAN, done)

    started = time.perf_counter()
    rounds = 20
    for _ in range(rounds):
        flight(pin_call, pins)
    benchmark.extra_info["translation_us"] = round((time.perf_counter() - started) / rounds / FLIGHT * 1e6, 2)
    benchmark(flight, mac_call, macs)
    benchmark.extra_info["mac_us"] = round(benchmark.stats.stats.median / FLIGHT * 1e6, 2)
    assert len(set(macs)) == len(set(pins)) == 1 and all(isinstance(each, bytes) for each in (*macs, *pins))
    print(f"\n{name}: MAC {benchmark.extra_info['mac_us']} us, translation {benchmark.extra_info['translation_us']} us")


async def _block(module: SecurityModule, pad: Any) -> Any:
    return await ask(module.encrypt_pin, pad, "iso0", "123456", PAN)


async def _flight(call: Callable[[Callable[[Any], None]], None], heard: list[Any]) -> None:
    over = asyncio.Event()

    def done(outcome: Any) -> None:
        heard.append(outcome)
        if len(heard) == FLIGHT:
            over.set()

    for _ in range(FLIGHT):
        call(done)
    await over.wait()
