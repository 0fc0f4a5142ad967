"""The vault: what is sealed can be opened until its hour is shredded, and by nobody else."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switch.errors import SecurityError
from switch.security import keyfile
from switch.security.vault import Vault

ROOT = Path(__file__).parents[3]
WRAPPING = bytes(range(32))
HOUR_US = 3_600_000_000
START = 500_000  # 2027-01-15 08:00 UTC, in hours
CONTEXT = b"payment 20270115 4711"
CARD = b'{"pan":"6222020000000000017","expiry":"3012"}'


class Clock:
    def __init__(self, hour: int = START) -> None:
        self.wall_us = hour * HOUR_US

    def __call__(self) -> int:
        return self.wall_us

    def go_to(self, hour: int) -> None:
        self.wall_us = hour * HOUR_US


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_sealed_now_opened_by_another_process_later(tmp_path: Path) -> None:
    clock = Clock()
    sealed = Vault(tmp_path / "vault", WRAPPING, clock).seal(CONTEXT, CARD)
    assert files(tmp_path / "vault") == ["20270115T08.key"]
    clock.go_to(START + 30)
    assert Vault(tmp_path / "vault", WRAPPING, clock).open(CONTEXT, sealed) == CARD
    assert Vault.hour_of(sealed) == START


def test_every_hour_has_its_own_key_file_for_its_owner_only(tmp_path: Path) -> None:
    clock = Clock()
    vault = Vault(tmp_path / "vault", WRAPPING, clock)
    before = os.umask(0)
    try:
        sealed = []
        for hour in range(START, START + 3):
            clock.go_to(hour)
            sealed.append(vault.seal(CONTEXT, CARD))
    finally:
        os.umask(before)
    assert files(tmp_path / "vault") == ["20270115T08.key", "20270115T09.key", "20270115T10.key"]
    for path in (tmp_path / "vault").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [vault.open(CONTEXT, one) for one in sealed] == [CARD] * 3


def test_equal_data_seals_differently_and_shows_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path, WRAPPING, Clock())
    first, second = vault.seal(CONTEXT, CARD), vault.seal(CONTEXT, CARD)
    assert first != second
    assert b"6222" not in first and len(first) == 5 + 12 + len(CARD) + 16


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(context=st.binary(min_size=1, max_size=40), clear=st.binary(max_size=300))
def test_there_and_back(tmp_path: Path, context: bytes, clear: bytes) -> None:
    vault = Vault(tmp_path, WRAPPING, Clock())
    assert vault.open(context, vault.seal(context, clear)) == clear


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(context=st.binary(min_size=1, max_size=40), other=st.binary(min_size=1, max_size=40))
def test_the_wrong_context_fails(tmp_path: Path, context: bytes, other: bytes) -> None:
    vault = Vault(tmp_path, WRAPPING, Clock())
    sealed = vault.seal(context, CARD)
    if other != context:
        with pytest.raises(SecurityError, match="of another payment") as caught:
            vault.open(other, sealed)
        assert caught.value.code == "mac"


def test_any_flipped_bit_fails(tmp_path: Path) -> None:
    vault = Vault(tmp_path, WRAPPING, Clock())
    sealed = vault.seal(CONTEXT, CARD)
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SecurityError) as caught:
            vault.open(CONTEXT, bytes(changed))
        # A changed hour is another hour, and that one has no key.
        assert caught.value.code == ("key" if 8 <= bit < 40 and "no vault key" in str(caught.value) else "mac")


def test_a_blob_moved_to_another_hour_fails_even_if_that_hour_has_a_key(tmp_path: Path) -> None:
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    sealed = vault.seal(CONTEXT, CARD)
    clock.go_to(START + 1)
    later = vault.seal(CONTEXT, CARD)
    with pytest.raises(SecurityError):
        vault.open(CONTEXT, later[:5] + sealed[5:])


def test_every_proper_prefix_fails(tmp_path: Path) -> None:
    vault = Vault(tmp_path, WRAPPING, Clock())
    sealed = vault.seal(CONTEXT, CARD)
    for size in range(len(sealed)):
        with pytest.raises(SecurityError) as caught:
            vault.open(CONTEXT, sealed[:size])
        assert caught.value.code == "mac"


# ------------------------------------------------------------------------------ shredding
def test_shredded_data_cannot_be_opened_again_by_anybody(tmp_path: Path) -> None:
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    old = vault.seal(CONTEXT, CARD)
    clock.go_to(START + 5)
    kept = vault.seal(CONTEXT, CARD)

    assert vault.shred({START}) == 1
    assert files(tmp_path) == ["20270115T13.key"]
    for each in (vault, Vault(tmp_path, WRAPPING, clock)):
        with pytest.raises(SecurityError, match="20270115T08: the card data of that hour was shredded") as caught:
            each.open(CONTEXT, old)
        assert caught.value.code == "key"
        assert each.open(CONTEXT, kept) == CARD
    assert vault.shred({START}) == 0


def test_an_hour_that_is_needed_outlives_its_neighbours(tmp_path: Path) -> None:
    """One payment that waits for a person must not keep the keys of everybody after it."""
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    sealed = {}
    for hour in range(START, START + 6):
        clock.go_to(hour)
        sealed[hour] = vault.seal(CONTEXT, CARD)
    assert vault.hours() == set(sealed)
    assert vault.shred(vault.hours() - {START + 1}) == 3
    assert vault.hours() == {START + 1, START + 4, START + 5}
    assert vault.open(CONTEXT, sealed[START + 1]) == CARD


def test_shredding_never_takes_this_hour_the_one_before_or_a_later_one(tmp_path: Path) -> None:
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    sealed = []
    for hour in range(START, START + 4):
        clock.go_to(hour)
        sealed.append(vault.seal(CONTEXT, CARD))
    vault.prepare_next_hour()
    assert vault.shred(range(START - 1, START + 1000)) == 2
    assert files(tmp_path) == ["20270115T10.key", "20270115T11.key", "20270115T12.key"]
    for one in sealed[2:]:
        assert vault.open(CONTEXT, one) == CARD
    assert vault.open(CONTEXT, vault.seal(CONTEXT, CARD)) == CARD


def test_another_process_forgets_when_it_shreds_too(tmp_path: Path) -> None:
    clock = Clock()
    first, second = Vault(tmp_path, WRAPPING, clock), Vault(tmp_path, WRAPPING, clock)
    sealed = first.seal(CONTEXT, CARD)
    clock.go_to(START + 5)
    assert second.open(CONTEXT, sealed) == CARD
    assert first.shred({START}) == 1
    assert second.hours() == {START}, "the file is gone, its own copy is not"
    assert second.shred(second.hours()) == 0
    with pytest.raises(SecurityError, match="was shredded"):
        second.open(CONTEXT, sealed)


def test_shredding_sweeps_what_a_kill_left_and_leaves_foreign_files(tmp_path: Path) -> None:
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    vault.seal(CONTEXT, CARD)
    (tmp_path / ".20270115T08.key.00ff00ff00ff00ff.tmp").hardlink_to(tmp_path / "20270115T08.key")
    foreign = ["20270115T08.key.bak", "20279999T99.key", "README", ".20270115T12.key.aa.tmp"]
    for name in foreign:
        (tmp_path / name).write_text("")
    clock.go_to(START + 5)
    assert vault.shred(vault.hours()) == 2
    assert files(tmp_path) == sorted(foreign)


def test_a_kill_between_two_files_leaves_the_rest_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    for hour in range(START, START + 4):
        clock.go_to(hour)
        vault.seal(CONTEXT, CARD)
    clock.go_to(START + 9)
    real = Path.unlink
    unlinked: list[Path] = []

    def dies(path: Path, missing_ok: bool = False) -> None:
        if unlinked:
            raise KeyboardInterrupt
        unlinked.append(path)
        real(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            vault.shred(vault.hours())
    heir = Vault(tmp_path, WRAPPING, clock)
    assert len(heir.hours()) == 3 and heir.shred(heir.hours()) == 3 and heir.hours() == set()


def test_shredding_before_anything_was_sealed(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault", WRAPPING, Clock())
    assert vault.hours() == set() and vault.shred({START - 9}) == 0


# ------------------------------------------------------------------------------ crashes, damage, rights
@pytest.mark.parametrize("size", [0, 1, 17, 64, 66])
def test_a_key_file_cut_short_is_an_error_never_another_key(tmp_path: Path, size: int) -> None:
    clock = Clock()
    sealed = Vault(tmp_path, WRAPPING, clock).seal(CONTEXT, CARD)
    path = tmp_path / "20270115T08.key"
    content = (path.read_bytes() + b"\x00")[:size]
    path.write_bytes(content)
    fresh = Vault(tmp_path, WRAPPING, clock)
    calls: tuple[Callable[[], object], ...] = (lambda: fresh.seal(CONTEXT, CARD), lambda: fresh.open(CONTEXT, sealed))
    for call in calls:
        with pytest.raises(SecurityError, match=f"20270115T08.key: {size} bytes instead of 65") as caught:
            call()
        assert caught.value.code == "key"
    assert path.read_bytes() == content


def test_any_flipped_bit_of_a_key_file_is_noticed(tmp_path: Path) -> None:
    clock = Clock()
    sealed = Vault(tmp_path, WRAPPING, clock).seal(CONTEXT, CARD)
    path = tmp_path / "20270115T08.key"
    content = path.read_bytes()
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        fresh = Vault(tmp_path, WRAPPING, clock)
        calls = (partial(fresh.seal, CONTEXT, CARD), partial(fresh.open, CONTEXT, sealed))
        for call in calls:
            with pytest.raises(SecurityError, match="damaged") as caught:
                call()
            assert caught.value.code == "key"


def test_a_key_file_under_another_hours_name_is_refused(tmp_path: Path) -> None:
    clock = Clock()
    Vault(tmp_path, WRAPPING, clock).seal(CONTEXT, CARD)
    path = (tmp_path / "20270115T08.key").rename(tmp_path / "20270115T09.key")
    clock.go_to(START + 1)
    with pytest.raises(SecurityError, match="damaged"):
        Vault(tmp_path, WRAPPING, clock).seal(CONTEXT, CARD)
    content = path.read_bytes()
    path.write_bytes(content[:1] + (START + 1).to_bytes(4, "big") + content[5:])  # and with the hour corrected
    with pytest.raises(SecurityError, match="damaged"):
        Vault(tmp_path, WRAPPING, clock).seal(CONTEXT, CARD)


def test_another_lmk_opens_nothing(tmp_path: Path) -> None:
    sealed = Vault(tmp_path, WRAPPING, Clock()).seal(CONTEXT, CARD)
    other = Vault(tmp_path, bytes(32), Clock())
    calls: tuple[Callable[[], object], ...] = (lambda: other.seal(CONTEXT, CARD), lambda: other.open(CONTEXT, sealed))
    for call in calls:
        with pytest.raises(SecurityError, match="another local master key"):
            call()


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Vault(tmp_path, WRAPPING, Clock()).seal(CONTEXT, CARD)
    (tmp_path / "20270115T08.key").chmod(0o644)
    with pytest.raises(SecurityError, match="chmod 600") as caught:
        Vault(tmp_path, WRAPPING, Clock()).seal(CONTEXT, CARD)
    assert caught.value.code == "refused"


def test_nothing_is_sealed_before_the_key_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(directory: Path) -> None:
        raise OSError(5, "Input/output error")

    vault = Vault(tmp_path, WRAPPING, Clock())
    with monkeypatch.context() as patch:
        patch.setattr(keyfile, "sync_directory", broken)
        for _ in range(2):  # the second time the file is there already, but nobody knows whether it would survive
            with pytest.raises(SecurityError, match="no card data can be sealed") as caught:
                vault.seal(CONTEXT, CARD)
            assert caught.value.code == "unavailable"
    assert vault.open(CONTEXT, vault.seal(CONTEXT, CARD)) == CARD


def test_a_key_read_for_opening_is_synced_before_it_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Vault(tmp_path, WRAPPING, Clock()), Vault(tmp_path, WRAPPING, Clock())
    second.open(CONTEXT, first.seal(CONTEXT, CARD))
    synced: list[Path] = []
    monkeypatch.setattr(keyfile, "sync_directory", synced.append)
    second.seal(CONTEXT, CARD)
    second.seal(CONTEXT, CARD)
    assert synced == [tmp_path]


def test_the_loser_of_the_race_uses_the_winners_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both saw no file; the other one links its own first."""
    loser, winner = Vault(tmp_path, WRAPPING, Clock()), Vault(tmp_path, WRAPPING, Clock())
    real = keyfile.create_once
    sealed: list[bytes] = []

    def late(path: Path, content: bytes) -> bool:
        monkeypatch.setattr(keyfile, "create_once", real)
        sealed.append(winner.seal(CONTEXT, CARD))
        assert not real(path, content)
        return False

    monkeypatch.setattr(keyfile, "create_once", late)
    sealed.append(loser.seal(CONTEXT, CARD))
    fresh = Vault(tmp_path, WRAPPING, Clock())
    assert [vault.open(CONTEXT, one) for vault in (loser, winner, fresh) for one in sealed] == [CARD] * 6
    assert files(tmp_path) == ["20270115T08.key"]


# Seals as soon as the gate opens, prints the result, then dies as by power cut.
CHILD = f"""
import os, signal, sys, time
from pathlib import Path
from switch.security.vault import Vault
directory, gate = Path(sys.argv[1]), Path(sys.argv[2])
vault = Vault(directory, bytes(range(32)), lambda: {START * HOUR_US})
print("ready", flush=True)
while not gate.exists():
    pass
print(vault.seal({CONTEXT!r}, {CARD!r}).hex(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_that_make_the_same_hours_key_at_once_agree_and_survive_kill_9(tmp_path: Path) -> None:
    directory, gate = tmp_path / "vault", tmp_path / "gate"
    command = [sys.executable, "-c", CHILD, str(directory), str(gate)]
    children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        gate.touch()
        printed = [child.communicate(timeout=30)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [child.returncode for child in children] == [-signal.SIGKILL] * 4
    vault = Vault(directory, WRAPPING, Clock())
    assert [vault.open(CONTEXT, bytes.fromhex(one)) for one in printed] == [CARD] * 4
    assert files(directory) == ["20270115T08.key"]


# ------------------------------------------------------------------------------ memory
def test_the_next_hour_can_be_prepared_and_then_costs_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    vault.prepare_next_hour()
    assert files(tmp_path) == ["20270115T09.key"]

    def forbidden(*arguments: object) -> None:
        raise AssertionError("a file operation")

    for name in ("read_private", "create_once", "sync_directory"):
        monkeypatch.setattr(keyfile, name, forbidden)
    clock.go_to(START + 1)
    assert vault.open(CONTEXT, vault.seal(CONTEXT, CARD)) == CARD


def test_the_keys_in_memory_are_bounded(tmp_path: Path) -> None:
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    sealed = []
    for hour in range(START, START + 100):
        clock.go_to(hour)
        sealed.append(vault.seal(CONTEXT, CARD))
        vault.prepare_next_hour()
    assert set(vault._sealing) == {START + 99, START + 100} and not vault._opening
    assert [vault.open(CONTEXT, one) for one in sealed] == [CARD] * 100
    assert len(vault._opening) == 48


def test_old_hours_that_are_opened_do_not_push_out_the_one_that_seals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refunds open what is weeks old, in any order; the hour at hand must not be read again because of them."""
    clock = Clock()
    vault = Vault(tmp_path, WRAPPING, clock)
    sealed = []
    for hour in range(START, START + 60):
        clock.go_to(hour)
        sealed.append(vault.seal(CONTEXT, CARD))
    for one in (sealed * 2)[::-1]:
        assert vault.open(CONTEXT, one) == CARD

    def forbidden(*arguments: object) -> None:
        raise AssertionError("a file operation")

    monkeypatch.setattr(keyfile, "read_private", forbidden)
    vault.seal(CONTEXT, CARD)
    vault.open(CONTEXT, sealed[0])  # the last one used


def test_repr_shows_the_directory_only(tmp_path: Path) -> None:
    assert repr(Vault(tmp_path, WRAPPING)) == f"<Vault {tmp_path}>"
