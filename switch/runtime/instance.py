"""Proof that a process lives: a lock on a file, which the kernel takes back when the process dies, however it dies.

A worker's journal row names the lock. Who holds that very lock now knows for sure that the row's process is gone, and
may take over its payments at once instead of waiting for its lease to run out.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from switch.errors import StartError

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class InstanceLock:
    """The lock ``instance-NAME.lock`` in ``folder``, held until ``release``.

    Raises:
        StartError: ``instance_taken``: another process holds it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"instance-{name}.lock"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise StartError(
                "instance_taken",
                f"worker.instance: a switch named {name} runs already, it holds {path}; stop it, or name this one "
                "differently",
            ) from None
        found = os.fstat(self._file)
        # A file can be deleted and made again while its lock is held: only the same inode is the same lock.
        self.proof = f"{boot_id()}:{found.st_dev}:{found.st_ino}"

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def boot_id() -> str:
    """Of the running kernel: a lock of another machine, or from before a restart, proves nothing here."""
    return _BOOT_ID.read_text(encoding="ascii").strip()
