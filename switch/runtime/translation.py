"""Key mode "translate": the kiosk has a master key of ours, the platform key, and working keys under it.

Those are made in the security module; the acquirer's stay here. A PIN block is translated by the module too: its clear
PIN is never in this code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs

from switch.errors import SecurityError
from switch.model.payment import Card
from switch.model.secret import PinBlock
from switch.ports import ExportedKey, Key, KeyUsage, SecurityModule, StoredKey, Terminal
from switch.security import workingkeys
from switch.security.workingkeys import WorkingKey, WorkingKeys

KIOSK_SIGN_ON: Final = "003"  # layout of the kiosk's field 62: double length, no track key
KIOSK_MAC: Final = "unionpay_ecb"
_PIN_FORMAT: Final = "iso0"
# Field 53 towards the acquirer: PIN block with card number; single or double length; tracks in clear.
_SECURITY_CONTROL: Final = {8: "2000000000000000", 16: "2600000000000000"}

Blocks = tuple[bytes, bytes | None, bytes | None]


@dataclass(slots=True, frozen=True)
class KioskSide:
    """The keys between us and a kiosk, and the acquirer's PIN key that its PINs are translated to."""

    blocks: Blocks  # of what they were made
    mac_key: Key
    pin_key: Key
    upstream_pin_key: Key
    upstream_pin_size: int  # bytes


def stored_blocks(terminal: Terminal) -> Blocks:
    return terminal.platform_wrapped, terminal.kiosk_keys, terminal.working_keys


class Translation:
    def __init__(self, security: SecurityModule) -> None:
        self._security = security

    # -------------------------------------------------------------------------------------------- keys
    def load(self, terminal: Terminal, tmk: Key, done: Callable[[KioskSide | SecurityError | None], None]) -> None:
        """What is stored of a terminal. None: its kiosk has no working keys yet."""
        if terminal.kiosk_keys is None or terminal.working_keys is None or not terminal.platform_wrapped:
            done(None)
            return
        security, blocks = self._security, stored_blocks(terminal)
        ours, theirs = workingkeys.parse(terminal.kiosk_keys), workingkeys.parse(terminal.working_keys)

        def made(keys: list[Key]) -> None:
            _, mac_key, pin_key, upstream = keys
            done(KioskSide(blocks, mac_key, pin_key, upstream, len(theirs.pin.cryptogram)))

        _in_turn(
            [
                lambda keys, then: self._platform(terminal, then),
                lambda keys, then: security.import_key(ours.mac.cryptogram, keys[0], KeyUsage.MAC, ours.mac.kcv, then),
                lambda keys, then: security.import_key(ours.pin.cryptogram, keys[0], KeyUsage.PIN, ours.pin.kcv, then),
                lambda keys, then: security.import_key(theirs.pin.cryptogram, tmk, KeyUsage.PIN, theirs.pin.kcv, then),
            ],
            made,
            done,
        )

    def make(
        self, terminal: Terminal, tmk: Key, field_62: bytes, done: Callable[[bytes | SecurityError], None]
    ) -> None:
        """New working keys for the kiosk, as its field 62. The acquirer's PIN key is proved first: without it no PIN
        could be translated, and the sign-on is not good."""
        security = self._security
        theirs = workingkeys.parse(field_62)
        if tmk.family != "des":
            done(SecurityError("refused", "key mode translate: field 52 has no room for an SM4 PIN block"))
            return

        def made(given: list[Any]) -> None:
            pin, mac = given[4], given[7]
            assert isinstance(pin, ExportedKey) and isinstance(mac, ExportedKey)
            keys = WorkingKeys(WorkingKey(pin.cryptogram, pin.kcv), WorkingKey(mac.cryptogram, mac.kcv))
            done(workingkeys.build(keys))

        def generate(usage: KeyUsage) -> Step:
            return lambda given, then: security.generate(usage, "des", then)

        def load(at: int, usage: KeyUsage) -> Step:
            def loaded(given: list[Any], then: Callable[[Any], None]) -> None:
                stored: StoredKey = given[at]
                security.load_key(stored.wrapped, usage, then)

            return loaded

        def export(at: int) -> Step:
            return lambda given, then: security.export_key(given[at], given[1], then)

        _in_turn(
            [
                lambda given, then: security.import_key(theirs.pin.cryptogram, tmk, KeyUsage.PIN, theirs.pin.kcv, then),
                lambda given, then: self._platform(terminal, then),
                *(generate(KeyUsage.PIN), load(2, KeyUsage.PIN), export(3)),
                *(generate(KeyUsage.MAC), load(5, KeyUsage.MAC), export(6)),
            ],
            made,
            done,
        )

    def _platform(self, terminal: Terminal, done: Callable[[Key | SecurityError], None]) -> None:
        def loaded(key: Key | SecurityError) -> None:
            if not isinstance(key, SecurityError) and not key.kcv.startswith(terminal.platform_kcv):
                key = SecurityError("kcv", f"terminal {terminal.terminal_id}: its platform key has another check value")
            done(key)

        if not terminal.platform_wrapped:
            done(SecurityError("key", "the kiosk has no platform key; see: gridswitch key show"))
            return
        self._security.load_key(terminal.platform_wrapped, KeyUsage.TMK, loaded)

    # -------------------------------------------------------------------------------------------- PIN
    def translate(self, side: KioskSide, card: Card, done: Callable[[Card | SecurityError], None]) -> None:
        """The card as the acquirer shall see it: its PIN block under the acquirer's key, field 53 to match."""
        if card.pin_block is None:
            done(card)
            return

        def translated(block: bytes | SecurityError) -> None:
            if isinstance(block, SecurityError):
                done(block)
            else:
                control = _SECURITY_CONTROL[side.upstream_pin_size]
                done(structs.replace(card, pin_block=PinBlock(block), security_control=control))

        self._security.translate_pin(
            card.pin_block.reveal(),
            side.pin_key,
            _PIN_FORMAT,
            side.upstream_pin_key,
            _PIN_FORMAT,
            card.pan.reveal(),
            translated,
        )


Step = Callable[[list[Any], Callable[[Any], None]], None]


def _in_turn(steps: list[Step], done: Callable[[list[Any]], None], failed: Callable[[SecurityError], None]) -> None:
    """Each step gets what those before it gave. The first error ends it."""
    given: list[Any] = []

    def step() -> None:
        if len(given) == len(steps):
            done(given)
        else:
            steps[len(given)](given, answered)

    def answered(outcome: Any) -> None:
        if isinstance(outcome, SecurityError):
            failed(outcome)
        else:
            given.append(outcome)
            step()

    step()
