"""Who holds the kiosk's master key: opens working keys, makes MACs. A PIN pad that can do both, or memory for trials.

The library itself never sees a clear PIN. ``SoftwareKeys`` keeps the master key in the memory of the kiosk's program:
for development and simulators; in the field it belongs into the PIN pad (interface §4.1).
"""

from __future__ import annotations

from typing import Protocol

from switch.errors import SecurityError
from switch.model.secret import Pan, PinBlock
from switch.ports import KeyUsage
from switch.security import mac, pinblock, workingkeys
from switch.security.engine import Family
from switch.security.primitives import BlockCipher
from switch.security.workingkeys import WorkingKeys


class KeyHolder(Protocol):
    """Attributes:
    is_slow: A call may take longer than a millisecond, as over a serial line: it is then made in a thread.
    """

    is_slow: bool

    def load(self, keys: WorkingKeys) -> None:
        """Take the working keys of a sign-on, each proven by its check value; the keys before stay valid if one fails.

        Raises:
            SecurityError: ``kcv``, ``key``: do not trade, sign on again.
        """
        ...

    def make_mac(self, data: bytes) -> bytes:
        """Field 64, 8 bytes. Raises SecurityError ``key``: there are no keys yet."""
        ...

    def verify_mac(self, data: bytes, mac: bytes) -> bool:
        """With the keys of the last sign-on, or those before: an answer may be on its way while keys change."""
        ...


class SoftwareKeys:
    """Keys in memory.

    Args:
        master_key: The terminal's: 16 bytes.
        sm4: It is an SM4 key, and so are those that it opens.
    """

    is_slow = False

    def __init__(self, master_key: bytes, *, sm4: bool = False) -> None:
        self._master = BlockCipher(Family.SM4 if sm4 else Family.DES, master_key)
        self._algorithm = "sm4_ecb" if sm4 else "unionpay_ecb"
        self._mac: mac.Mac | None = None
        self._mac_before: mac.Mac | None = None
        self._pin: BlockCipher | None = None

    def load(self, keys: WorkingKeys) -> None:
        mac_key = workingkeys.decrypt_key(keys.mac.cryptogram, keys.mac.kcv, self._master, KeyUsage.MAC)
        pin_key = workingkeys.decrypt_key(keys.pin.cryptogram, keys.pin.kcv, self._master, KeyUsage.PIN)
        self._mac_before, self._mac, self._pin = self._mac, mac.prepare(self._algorithm, mac_key), pin_key

    def make_mac(self, data: bytes) -> bytes:
        if self._mac is None:
            raise SecurityError("key", "no MAC key yet: sign on first")
        return self._mac.make(data)

    def verify_mac(self, data: bytes, mac: bytes) -> bool:
        return any(key.verify(data, mac) for key in (self._mac, self._mac_before) if key is not None)

    def pin_block(self, pin: str, pan: Pan) -> PinBlock:
        """As a PIN pad makes it; for simulators and trials. DES keys only.

        Raises:
            SecurityError: ``key``: there are no keys yet, or they are SM4 keys.
        """
        if self._pin is None or self._pin.family is not Family.DES:
            raise SecurityError("key", "no DES PIN key yet: sign on first")
        return PinBlock(self._pin.encrypt(pinblock.encode_format0(pin, pan.reveal())))
