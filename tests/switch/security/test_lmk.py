"""The local master key's file: who may read it, and that it is never replaced."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from switch.errors import StartError
from switch.security import keyfile
from switch.security.lmk import derive, load_lmk, load_or_create_lmk


def test_made_once_and_read_ever_after(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys" / "lmk"
    lmk = load_or_create_lmk(path)
    assert len(lmk) == 32
    assert load_or_create_lmk(path) == lmk == load_lmk(path)
    assert load_or_create_lmk(tmp_path / "other") != lmk


def test_only_the_owner_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "lmk"
    before = os.umask(0)
    try:
        load_or_create_lmk(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["lmk"]  # no temporary file stays


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "lmk"
    lmk = load_or_create_lmk(path)
    path.chmod(mode)
    with pytest.raises(StartError, match=f"mode {mode:04o} .*chmod 600 {path}") as caught:
        load_or_create_lmk(path)
    assert caught.value.code == "lmk"
    path.chmod(0o600)
    assert load_or_create_lmk(path) == lmk


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_file_of_another_size_is_refused_and_kept(tmp_path: Path, size: int) -> None:
    path = tmp_path / "lmk"
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    with pytest.raises(StartError, match=f"{size} bytes instead of 32"):
        load_or_create_lmk(path)
    assert path.read_bytes() == bytes(size)


def test_load_never_makes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_lmk(tmp_path / "lmk")
    assert not list(tmp_path.iterdir())


def test_a_directory_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(StartError):
        load_or_create_lmk(tmp_path)


def test_a_parent_that_is_a_file_is_a_start_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="local master key"):
        load_or_create_lmk(tmp_path / "file" / "lmk")


def test_all_who_start_together_agree(tmp_path: Path) -> None:
    for turn in range(20):
        path = tmp_path / f"lmk{turn}"
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(load_or_create_lmk, [path] * 8))
        assert len(found) == 1


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StartError, match="No space left on device"):
        load_or_create_lmk(tmp_path / "lmk")
    assert not list(tmp_path.iterdir())


def test_the_content_is_synced_before_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real = os.fsync

    def noted(handle: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content"
        steps.append(f"{kind}, {'named' if (tmp_path / 'key').exists() else 'not named'}")
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    assert keyfile.create_once(tmp_path / "key", b"secret")
    assert steps == ["content, not named", "directory, named"]
    assert not keyfile.create_once(tmp_path / "key", b"other")
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_derived_keys_differ_by_purpose_and_lmk() -> None:
    keys = {derive(lmk, purpose) for lmk in (bytes(32), bytes(31) + b"\x01") for purpose in ("a", "b")}
    assert len(keys) == 4 and {len(key) for key in keys} == {32}
