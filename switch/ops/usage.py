"""What processes use, from the kernel's own accounting: CPU time, memory, open files.

CPU time is exact to 10 ms for a whole process, threads that have ended included. It counts what the kernel does on a
process's behalf as well; on loopback that is also the receiving half of whatever it sends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TICKS_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")


def tree(pid: int) -> list[int]:
    """A process and everything that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of these processes so far, and of their children that have ended."""
    total = 0
    for pid in pids:
        fields = _stat(pid)
        total += sum(int(ticks) for ticks in fields[11:15])
    return total / _TICKS_S


def waited_s(pids: Iterable[int]) -> float:
    """Seconds in which threads of these processes wanted a core and had none: what sharing the machine costs."""
    total = 0
    for pid in pids:
        try:
            for task in (_PROC / str(pid) / "task").iterdir():
                total += int((task / "schedstat").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue  # gone, or a kernel that does not count this
    return total / 1e9


def rss_bytes(pids: Iterable[int]) -> int:
    """Memory that is in use now; what several of them share counts for each."""
    total = 0
    for pid in pids:
        fields = _stat(pid)
        total += int(fields[21]) * _PAGE if fields else 0
    return total


def open_files(pids: Iterable[int]) -> int:
    """Raises PermissionError for processes of somebody else."""
    total = 0
    for pid in pids:
        try:
            total += len(list((_PROC / str(pid) / "fd").iterdir()))
        except FileNotFoundError:
            continue
    return total


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on (the state); nothing for a process that is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The second field is the name in brackets, and a name may hold anything.
    return text.rpartition(")")[2].split()
