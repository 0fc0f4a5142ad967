"""What only a token can do wrong: away, silent, locked, without its master key, gone in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from msgspec.structs import replace

from switch import limits
from switch.config import SecurityConfig
from switch.errors import SecurityError, StartError
from switch.ops.softhsm import PIN, token_options
from switch.ports import KeyUsage
from switch.security import token as tokens
from switch.security.backends import ask
from switch.security.pkcs11 import Pkcs11SecurityModule
from switch.security.token import OBJECTS, Lane, create_masters

from .conftest import wall_us

pytestmark = pytest.mark.hsm

TMK = bytes.fromhex("258FB0AB70D025CDB99DF2C4D302D646")
MAC_CRYPTOGRAM, MAC_KCV = bytes.fromhex("977731A7EA402DDF0000000000000000"), bytes.fromhex("CFF1592A")


class Bench:
    def __init__(self, security: SecurityConfig, folder: Path) -> None:
        self.module = Pkcs11SecurityModule(security, folder / "vault", wall_us)

    async def __aenter__(self) -> Bench:
        await self.module.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.module.stop()

    async def call(self, name: str, *arguments: Any) -> Any:
        return await ask(getattr(self.module, name), *arguments)

    async def mac_key(self) -> Any:
        """As a sign-on brings it: imported under a TMK."""
        tmk = await self.stored_key(TMK, KeyUsage.TMK)
        return await self.call("import_key", MAC_CRYPTOGRAM, tmk, KeyUsage.MAC, MAC_KCV)

    async def stored_key(self, clear: bytes, usage: KeyUsage) -> Any:
        sealed = await self.call("seal_component", clear)
        stored = await self.call("combine_sealed", [sealed], usage, "des")
        return await self.call("load_key", stored.wrapped, usage)

    def lose_the_token(self) -> None:
        """Whatever was open is closed behind the module's back, as when somebody resets the device."""
        for lane in self.module._lanes:
            with contextlib.suppress(pkcs11.exceptions.SessionHandleInvalid):  # closed before, and not missed yet
                lane.session.close()


async def until(true: Callable[[], bool]) -> None:
    """The test's time-out is the bound."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def run(story: Callable[[Bench], Any], security: SecurityConfig, folder: Path) -> Any:
    async def told() -> Any:
        async with Bench(security, folder) as bench:
            return await story(bench)

    return asyncio.run(told())


def test_a_lost_session_is_opened_again_and_its_keys_made_anew(token: SecurityConfig, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        key = await bench.mac_key()
        before = await bench.call("make_mac", key, "unionpay_ecb", b"message")
        for _ in range(3):
            bench.lose_the_token()
            outcomes = []
            for _ in range(2 * len(bench.module._lanes)):
                try:
                    outcomes.append(await bench.call("make_mac", key, "unionpay_ecb", b"message"))
                except SecurityError as error:
                    assert error.code == "unavailable"
            assert outcomes and set(outcomes) == {before}
            assert await bench.call("make_mac", key, "unionpay_ecb", b"message") == before

    run(story, token, tmp_path)


def test_a_token_that_does_not_answer_is_given_up_in_time(
    token: SecurityConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECURITY_ANSWER_S", 0.3)
    release, real = threading.Event(), Lane.ecb

    def stuck(self: Lane, handle: Any, data: bytes, *, decrypt: bool = False) -> bytes:
        release.wait(30)
        return real(self, handle, data, decrypt=decrypt)

    async def story(bench: Bench) -> None:
        key = await bench.stored_key(TMK, KeyUsage.MAC)
        monkeypatch.setattr(Lane, "ecb", stuck)
        heard: list[Any] = []
        for _ in range(5):
            bench.module.make_mac(key, "xor_tdes", b"m", heard.append)
        await until(lambda: len(heard) == 5)
        assert {each.code for each in heard} == {"unavailable"}
        assert all("does not answer for" in each.detail for each in heard)
        release.set()
        await until(lambda: not bench.module._pending)
        assert len(heard) == 5, "a late answer calls nobody a second time"
        assert "does not answer" in bench.module.trouble
        assert not bench.module._calls
        assert isinstance(await bench.call("make_mac", key, "unionpay_ecb", b"m"), bytes), "and it goes on"
        assert bench.module.trouble == ""

    try:
        run(story, token, tmp_path)
    finally:
        release.set()


def test_more_than_it_can_do_is_refused_at_once(
    token: SecurityConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECURITY_PENDING_MAX", 10)

    async def story(bench: Bench) -> None:
        key = await bench.mac_key()
        heard: list[Any] = []
        for _ in range(25):
            bench.module.make_mac(key, "unionpay_ecb", b"m", heard.append)
        assert [each.code for each in heard] == ["busy"] * 15
        await until(lambda: len(heard) == 25)
        assert len({each for each in heard if isinstance(each, bytes)}) == 1

    run(story, token, tmp_path)


def test_many_calls_at_once_on_every_session(token: SecurityConfig, tmp_path: Path) -> None:
    """The library is used by several threads: without its locking flag this crashes or answers nonsense."""

    async def story(bench: Bench) -> None:
        keys = [await bench.mac_key() for _ in range(8)]
        assert len({key.lane for key in keys}) > 1
        calls = [bench.call("make_mac", keys[n % 8], "unionpay_ecb", b"message %d" % (n % 16)) for n in range(800)]
        answers = await asyncio.gather(*calls)
        assert len(set(answers)) == 16 and all(answers[n] == answers[n % 16] for n in range(800))

    run(story, replace(token, pkcs11_sessions=4), tmp_path)


def test_keys_that_nobody_holds_leave_the_token(token: SecurityConfig, tmp_path: Path) -> None:
    def objects(bench: Bench) -> int:
        lane = bench.module._lanes[0]
        return sum(1 for _ in lane.session.get_objects({pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.DES3}))

    async def story(bench: Bench) -> None:
        before = objects(bench)
        keys = [await bench.stored_key(TMK, KeyUsage.TMK) for _ in range(20)]
        assert objects(bench) == before + 40, "each with its left half"
        keys.clear()
        # Whatever is asked next waits behind them in the same thread.
        await bench.stored_key(TMK, KeyUsage.TMK)
        assert objects(bench) <= before + 2

    run(story, replace(token, pkcs11_sessions=1), tmp_path)


# ------------------------------------------------------------------------------------------------ at the start
def refused(security: SecurityConfig, folder: Path) -> StartError:
    async def started() -> None:
        async with Bench(security, folder):
            pass

    with pytest.raises(StartError) as caught:
        asyncio.run(started())
    return caught.value


def test_what_is_wrong_at_the_start_is_said_with_what_to_do(token: SecurityConfig, tmp_path: Path) -> None:
    empty = token_options(tmp_path, token.pkcs11_library, "empty", PIN)
    assert "'gridswitch lmk tmk' is missing; run: gridswitch key init" in str(refused(empty, tmp_path))
    absent = replace(token, pkcs11_label="nowhere")
    assert "there is no token 'nowhere'" in str(refused(absent, tmp_path))
    library = replace(token, pkcs11_library="/nowhere/lib.so")
    assert "security.pkcs11_library: /nowhere/lib.so: cannot be loaded" in str(refused(library, tmp_path))
    open_to_all = Path(empty.pkcs11_pin_file)
    open_to_all.chmod(0o644)
    assert f"run: chmod 600 {open_to_all}" in str(refused(empty, tmp_path))
    open_to_all.chmod(0o600)
    open_to_all.write_text("")
    assert "its first line is the PIN" in str(refused(empty, tmp_path))
    open_to_all.unlink()
    assert "No such file" in str(refused(empty, tmp_path))


def test_a_wrong_pin_is_tried_once(token: SecurityConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token locks itself after a few: two sessions that each try again by themselves would see to that."""
    tries: list[Path] = []
    real = tokens.read_pin

    def counted(path: Path) -> str:
        tries.append(path)
        return real(path)

    monkeypatch.setattr(tokens, "read_pin", counted)
    wrong = replace(token_options(tmp_path, token.pkcs11_library, "guarded", "000000"), pkcs11_sessions=4)
    error = refused(wrong, tmp_path)
    assert "refuses the PIN in security.pkcs11_pin_file" in str(error) and "000000" not in str(error)
    assert len(tries) == 1


def test_a_local_master_key_is_made_once(token: SecurityConfig, tmp_path: Path) -> None:
    fresh = token_options(tmp_path, token.pkcs11_library, "fresh", PIN)
    assert len(create_masters(fresh)) == len(OBJECTS)
    with pytest.raises(SecurityError, match="holds 'gridswitch lmk tmk' already; nothing was made"):
        create_masters(fresh)
    session = tokens.Token(fresh).session()
    for master in tokens.Token(fresh).find_masters(session).values():
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            master[pkcs11.Attribute.VALUE]
        assert master[pkcs11.Attribute.EXTRACTABLE] is False
    session.close()

    async def sealed(bench: Bench) -> Any:
        return (await bench.call("generate", KeyUsage.TMK, "des")).wrapped

    block = run(sealed, token, tmp_path)

    async def opened(bench: Bench) -> None:
        with pytest.raises(SecurityError, match="another local master key"):
            await bench.call("load_key", block, KeyUsage.TMK)

    run(opened, fresh, tmp_path)
