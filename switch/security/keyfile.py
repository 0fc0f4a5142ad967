"""A small secret file that appears whole or not at all, and is readable by its owner only."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from switch.errors import SecurityError

TEMPORARY_SUFFIX: Final = ".tmp"


def create_once(path: Path, content: bytes) -> bool:
    """Create ``path`` with ``content`` unless it exists; False: it did, and stays as it is.

    A file that one process is still writing must not be read by another, and one that a kill cut short must not stand
    under the final name: so the content is written and synced under a temporary name (``.NAME.….tmp``) and then linked
    to its own, which is atomic and fails when the name is taken. After a True the file survives a power cut.

    Raises:
        OSError: The disk, or the rights.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    sync_directory(path.parent)
    return True


def read_private(path: Path, size: int) -> bytes:
    """The file's ``size`` bytes.

    Raises:
        FileNotFoundError: There is none.
        SecurityError: ``refused``: others may read or write it. ``key``: it has another size: damaged, or not ours.
        OSError: The disk, or the rights.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SecurityError("refused", f"{path}: not a regular file")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise SecurityError("refused", f"{path}: mode {mode:04o} lets others at a key; run: chmod 600 {path}")
        content = file.read(size + 1)
    if len(content) != size:
        found = status.st_size
        raise SecurityError("key", f"{path}: {found} bytes instead of {size}; damaged or not a key file of ours")
    return content


def sync_directory(directory: Path) -> None:
    """Make the directory's names survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_private_directory(directory: Path) -> None:
    """Create it (mode 0700) with its parents, unless it exists."""
    if directory.is_dir():
        return
    make_private_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    sync_directory(directory.parent)
