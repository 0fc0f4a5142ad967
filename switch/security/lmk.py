"""The local master key of the software module: 32 random bytes in a file of mode 0600.

Whoever can read the file holds every key of the switch; that is what a hardware module is for. Without it no stored key
and no sealed card data can be opened again: back it up apart from the database.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Final

from switch.errors import SecurityError, StartError
from switch.security import keyfile

LMK_SIZE: Final = 32


def load_or_create_lmk(path: Path) -> bytes:
    """Read the LMK, or make one when there is no file. Processes that start together get the same.

    Raises:
        StartError: ``lmk``: others can read the file, it has the wrong size, or the disk refuses.
    """
    try:
        return load_lmk(path)
    except FileNotFoundError:
        pass
    try:
        keyfile.make_private_directory(path.parent)
        keyfile.create_once(path, os.urandom(LMK_SIZE))
        # Read back also after creating it: what is used is what is on disk, whoever wrote it.
        return load_lmk(path)
    except OSError as error:
        raise StartError("lmk", f"{path}: cannot create the local master key: {error.strerror}") from None


def load_lmk(path: Path) -> bytes:
    """Read the LMK; never makes one.

    Raises:
        FileNotFoundError: There is no file.
        StartError: As above.
    """
    try:
        lmk = keyfile.read_private(path, LMK_SIZE)
    except FileNotFoundError:
        raise
    except SecurityError as error:
        raise StartError("lmk", f"local master key: {error.detail}") from None
    except OSError as error:
        raise StartError("lmk", f"{path}: cannot read the local master key: {error.strerror}") from None
    return lmk


def derive(lmk: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose. The LMK is uniformly random, so one PRF call is a sound derivation."""
    return hmac.digest(lmk, f"gridswitch {purpose} v1".encode(), "sha256")
