"""A SoftHSM2 token of the tests' own, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from switch.config import SecurityConfig

LIBRARY: Final = Path("/usr/lib/softhsm/libsofthsm2.so")
LABEL: Final = "test"
PIN: Final = "270914"
# Without a master key. The library looks for tokens once, when it is loaded: all of them are made before.
SPARE: Final = ("empty", "guarded", "fresh")


def make_token(folder: Path) -> SecurityConfig:
    """Fresh tokens without a local master key. The library reads SOFTHSM2_CONF when it is loaded: once a process."""
    if not LIBRARY.exists() or shutil.which("softhsm2-util") is None:
        pytest.fail("SoftHSM2 is missing: run make system (Debian: apt-get install softhsm2)")
    tokens = folder / "tokens"
    tokens.mkdir(parents=True)
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(settings)
    for label in (LABEL, *SPARE):
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return settings_for(folder, LABEL, PIN)


def settings_for(folder: Path, label: str, pin: str) -> SecurityConfig:
    pin_file = folder / f"{label}-{pin}.pin"
    pin_file.write_text(f"{pin}\n")
    pin_file.chmod(0o600)
    return SecurityConfig(
        back_end="pkcs11", pkcs11_library=str(LIBRARY), pkcs11_label=label, pkcs11_pin_file=str(pin_file)
    )
