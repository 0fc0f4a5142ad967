"""The lock that proves that a process lives."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from switch.errors import StartError
from switch.runtime.instance import InstanceLock, boot_id


def test_one_process_holds_it_and_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "vault"
    first = InstanceLock(folder, "main")
    path = folder / "instance-main.lock"
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert first.proof == f"{boot_id()}:{found.st_dev}:{found.st_ino}"
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(StartError) as caught:
        InstanceLock(folder, "main")
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files, "the refused one left its file open"
    assert caught.value.code == "instance_taken"
    assert str(caught.value) == (
        f"worker.instance: a switch named main runs already, it holds {path}; stop it, or name this one differently "
        "[instance_taken]"
    )
    other = InstanceLock(folder, "other")
    assert other.proof != first.proof
    first.release()
    assert first._file == -1
    again = InstanceLock(folder, "main")
    assert again.proof == first.proof
    first.release()  # a second time: must not close what somebody else has opened meanwhile
    with pytest.raises(StartError):
        InstanceLock(folder, "main")
    again.release()
    other.release()


def test_the_first_number_of_a_file_is_released_too(tmp_path: Path) -> None:
    """A process without standard input: its lock may be file 0."""
    kept = os.dup(0)
    os.close(0)
    try:
        lock = InstanceLock(tmp_path, "x")
        assert lock._file == 0
        lock.release()
        InstanceLock(tmp_path, "x").release()
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_a_restarted_machine_is_another_one() -> None:
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert len(boot_id()) == 36
