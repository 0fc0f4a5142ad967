"""Commands, before anything is done: is it ours, signed, in time, on our own list, and not one that was taken already?

The list is the kiosk's own. Whoever holds the command key can have a kiosk restarted, not have it run a program.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta, Struct

from switch.kiosk.agent import limits

# Type to the names of its arguments.
KNOWN: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "diag.run": frozenset(),
        "time.sync": frozenset(),
        "log.pull": frozenset({"day"}),
        "ej.pull": frozenset({"day"}),
        "content.refresh": frozenset(),
        "config.refresh": frozenset(),
        "screenshot": frozenset(),
        "app.restart": frozenset(),
        "os.reboot": frozenset(),
        "service.stop": frozenset(),
        "service.start": frozenset(),
        "key.signon": frozenset(),
        "factory.wipe": frozenset(),
    }
)
WAITS: Final = frozenset({"app.restart", "os.reboot"})  # until nobody stands there and nothing is unsettled
IDLE_ONLY: Final = frozenset({"screenshot"})  # a customer's data are on the screen
ENDS: Final = frozenset({"app.restart", "os.reboot"})  # that this process ended is how they succeed
FILES: Final = MappingProxyType({"log.pull": "log", "ej.pull": "ej", "screenshot": "screenshot", "diag.run": "diag"})
_SIGNED_AS: Final = b"gridswitch device command v1\n"


class Command(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^[0-9]{1,18}$")]
    kiosk: str
    type: str
    args: dict[str, str]
    expires: str
    alg: str
    sig: Annotated[str, Meta(pattern="^[0-9a-f]{128}$")]

    def signed(self) -> bytes:
        body = {"args": self.args, "expires": self.expires, "id": self.id, "kiosk": self.kiosk, "type": self.type}
        return _SIGNED_AS + json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Wrong:
    """Why a command is not taken. ``tell``: only what was signed by the service is answered."""

    code: str
    tell: bool


def read(raw: object) -> Command | None:
    """None: it has not even the form of a command."""
    try:
        return msgspec.convert(raw, Command)
    except msgspec.ValidationError:
        return None


def judge(command: Command, kiosk: str, public: bytes, now: datetime.datetime) -> Wrong | None:
    """What is wrong with it; None: it may be done.

    Args:
        public: The command key that was pinned at enrolment, 32 bytes.
        now: By the service's clock, as its last answer told: ours may be wrong.
    """
    if command.alg != "ed25519":
        return Wrong("algorithm", tell=False)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(command.sig), command.signed())
    except InvalidSignature:
        return Wrong("signature", tell=False)
    if command.kiosk != kiosk:
        return Wrong("other_kiosk", tell=False)
    try:
        expires = datetime.datetime.strptime(command.expires, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return Wrong("expires", tell=True)
    if expires <= now:
        return Wrong("expired", tell=True)
    if expires > now + datetime.timedelta(seconds=limits.COMMAND_AGE_MAX_S + 60):
        return Wrong("expires_late", tell=True)
    arguments = KNOWN.get(command.type)
    if arguments is None:
        return Wrong("unknown", tell=True)
    if set(command.args) != arguments:
        return Wrong("arguments", tell=True)
    if "day" in arguments:
        try:
            datetime.date.fromisoformat(command.args["day"])
        except ValueError:
            return Wrong("arguments", tell=True)
    return None
