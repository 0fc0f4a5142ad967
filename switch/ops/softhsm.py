"""A SoftHSM2 token for demos and tests: a PKCS#11 module without hardware. It protects nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from switch.config import SecurityConfig
from switch.errors import StartError

LIBRARIES: Final = tuple(
    Path(folder) / "softhsm/libsofthsm2.so"
    for folder in ("/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
)
PIN: Final = "270914"
_INIT_S: Final = 60.0  # making a token needs a tenth of a second; a stuck tool must not hang a demo


def make_tokens(folder: Path, labels: Sequence[str]) -> list[SecurityConfig]:
    """Make a folder of tokens, without a local master key; gives each one's options.

    Sets SOFTHSM2_CONF, which the library reads when it is loaded, once in a process; processes started later have it.

    Raises:
        StartError: ``softhsm``: it is not installed, or does not work.
    """
    library = next((path for path in LIBRARIES if path.exists()), None)
    tool = shutil.which("softhsm2-util")
    if library is None or tool is None:
        raise StartError("softhsm", "SoftHSM2 is missing: run make system (Debian: apt-get install softhsm2)")
    tokens = folder / "tokens"
    tokens.mkdir(parents=True)
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(settings)
    for label in labels:
        command = [tool, "--init-token", "--free", "--label", label, "--so-pin", PIN, "--pin", PIN]
        done = subprocess.run(command, check=False, capture_output=True, timeout=_INIT_S)
        if done.returncode:
            raise StartError("softhsm", f"softhsm2-util fails: {done.stderr.decode(errors='replace').strip()}")
    return [token_options(folder, library, label, PIN) for label in labels]


def make_master_token(folder: Path) -> SecurityConfig:
    """One token with a local master key."""
    from switch.security.token import create_masters  # noqa: PLC0415 - only who has a token needs it

    (security,) = make_tokens(folder, ("gridswitch",))
    create_masters(security)
    return security


def token_options(folder: Path, library: Path | str, label: str, pin: str) -> SecurityConfig:
    """Options of one token, its PIN in a file of its own."""
    pin_file = folder / f"{label}-{pin}.pin"
    pin_file.write_text(f"{pin}\n")
    pin_file.chmod(0o600)
    return SecurityConfig(
        back_end="pkcs11", pkcs11_library=str(library), pkcs11_label=label, pkcs11_pin_file=str(pin_file)
    )
