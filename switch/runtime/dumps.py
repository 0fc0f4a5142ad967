"""No core file of a process that has card data in its memory, and no look into that memory by its own user.

Frames on their way and the card numbers of open payments are in memory by necessity, and no type of Python's hides them
there: a core file would put them on a disk, where nobody shreds them.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def forbid_dumps() -> bool:
    """For this process and what it starts: core files of 0 bytes; for this one: not dumpable at all, which also stops a
    core that is piped to a program (``core_pattern = |…`` ignores the limit), ptrace and /proc/PID/mem, but for root.

    False: the system knows no such thing (it is not Linux); then only the limit holds.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False
