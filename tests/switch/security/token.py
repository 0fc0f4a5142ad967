"""A SoftHSM2 token of the tests' own, in a folder of their own."""

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


def make_token(folder: Path) -> SecurityConfig:
    """Sets SOFTHSM2_CONF, which the library reads when it is loaded: once in a process."""
    if not LIBRARY.exists() or shutil.which("softhsm2-util") is None:
        pytest.fail("SoftHSM2 is missing: run make system (Debian: apt-get install softhsm2)")
    tokens = folder / "tokens"
    tokens.mkdir(parents=True)
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    pin_file = folder / "pin"
    pin_file.write_text(f"{PIN}\n")
    pin_file.chmod(0o600)
    os.environ["SOFTHSM2_CONF"] = str(settings)
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", PIN],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return SecurityConfig(
        back_end="pkcs11", pkcs11_library=str(LIBRARY), pkcs11_label=LABEL, pkcs11_pin_file=str(pin_file)
    )
