"""Which security module: as the configuration says. Everybody else knows the port only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from switch.config import Config
from switch.errors import SecurityError, StartError
from switch.ports import SecurityModule
from switch.security.lmk import load_lmk, load_or_create_lmk
from switch.security.software import SoftwareSecurityModule


def make_module(config: Config, wall_us: Callable[[], int]) -> SecurityModule:
    """The configured module, not started yet.

    Args:
        wall_us: Microseconds since 1970, for the hourly keys of sealed card data.

    Raises:
        StartError: ``lmk`` or ``hsm``, with what to do.
    """
    security = config.security
    vault_dir = Path(security.vault_dir)
    if security.back_end == "pkcs11":
        try:
            from switch.security.pkcs11 import Pkcs11SecurityModule  # noqa: PLC0415 - only who has a token needs it
        except ImportError:
            raise StartError("hsm", "python-pkcs11 is missing; run: pip install 'gridswitch[hsm]'") from None
        return Pkcs11SecurityModule(security, vault_dir, wall_us)
    path = Path(security.lmk_file)
    if config.environment == "development":
        # Only development may begin with a key of its own making: a lost one must not be replaced in silence.
        lmk = load_or_create_lmk(path)
    else:
        try:
            lmk = load_lmk(path)
        except FileNotFoundError:
            raise StartError("lmk", f"{path}: the local master key is missing; restore it from its backup") from None
    return SoftwareSecurityModule(lmk, vault_dir, config.environment, wall_us)


async def ask(method: Callable[..., None], *arguments: Any) -> Any:
    """A module's operation as something to await: for commands and tests, not for the path of a payment.

    Raises:
        SecurityError: As the module says.
    """
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(outcome: Any) -> None:
        if not answered.done():
            answered.set_result(outcome)

    method(*arguments, done)
    outcome = await answered
    if isinstance(outcome, SecurityError):
        raise outcome
    return outcome
