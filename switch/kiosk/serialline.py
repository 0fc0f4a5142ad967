"""A serial port of a peripheral: pyserial, with a deadline on everything that is read."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

import serial

from switch.kiosk.devices import DeviceError
from switch.limits import DEVICE_ANSWER_S

STX: Final = 0x02
ETX: Final = 0x03
ACK: Final = b"\x06"
NAK: Final = b"\x15"


class SerialLine:
    """Args:
    port: Device file, or what pyserial takes as a URL.
    parity: ``N`` or ``E``.
    name: Of the peripheral, for errors.

    Raises:
        DeviceError: ``port``: it cannot be opened, or another program has it.
    """

    def __init__(self, port: str, name: str, *, baud: int, parity: str = "N", flow_control: bool = False) -> None:
        self.name = name
        self._port = port
        try:
            self._serial = serial.serial_for_url(
                port,
                baudrate=baud,
                parity=parity,
                rtscts=flow_control,
                timeout=DEVICE_ANSWER_S,
                write_timeout=DEVICE_ANSWER_S,
                exclusive=True,
            )
        except (serial.SerialException, ValueError, OSError) as error:
            raise DeviceError(
                "port", f"{name} at {port}: cannot be opened: {error}; look at the cable, the name and its rights"
            ) from error

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
            self._serial.flush()
        except (serial.SerialException, OSError) as error:
            raise self.silent(f"cannot be written to: {error}") from error

    def read(self, size: int, timeout_s: float = DEVICE_ANSWER_S) -> bytes:
        """Up to ``size`` bytes: fewer when they did not come in time."""
        try:
            self._serial.timeout = timeout_s
            return bytes(self._serial.read(size))
        except (serial.SerialException, OSError) as error:
            raise self.silent(f"cannot be read: {error}") from error

    def forget(self) -> None:
        """What came unasked: the rest of an answer that was given up."""
        try:
            self._serial.reset_input_buffer()
        except (serial.SerialException, OSError) as error:
            raise self.silent(str(error)) from error

    def silent(self, detail: str) -> DeviceError:
        return DeviceError("no_answer", f"{self.name} at {self._port}: {detail}; look at its cable and power")

    def close(self) -> None:
        self._serial.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def xor(data: bytes) -> int:
    """LRC: all bytes XORed."""
    check = 0
    for byte in data:
        check ^= byte
    return check


def crc16_xmodem(data: bytes) -> int:
    """Polynomial 1021, start 0.

    >>> hex(crc16_xmodem(b"123456789"))
    '0x31c3'
    """
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc
