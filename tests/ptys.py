"""A serial cable for tests: a pty whose slave the program under test opens, under a name that stays."""

from __future__ import annotations

import asyncio
import os
import select
import tty
from pathlib import Path

from iso8583 import framing

PATIENCE_S = 20.0  # how long a test waits for what must happen; it says nothing about speed


class Cable:
    """``device`` is the port's name; the test sits at the other end. Can be unplugged and plugged in again."""

    def __init__(self, device: Path) -> None:
        self.device = device
        self.master = -1
        self.plug_in()

    def plug_in(self) -> None:
        assert self.master < 0
        self.master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        new = self.device.with_suffix(".new")
        new.symlink_to(os.ttyname(slave))
        new.replace(self.device)
        os.close(slave)

    def unplug(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.device.unlink()
            self.master = -1

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def write(self, data: bytes) -> None:
        """All of it at once: tests write less than a pty holds."""
        assert os.write(self.master, data) == len(data)

    def send(self, *frames: bytes, length: str = "bcd2") -> None:
        self.write(b"".join(framing.frame(frame, "serial", length=length) for frame in frames))

    def silent(self) -> bool:
        """Nothing has come that was not read."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        # While nobody has the other end open the master hangs up: that is no byte.
        return not any(event & select.POLLIN for _, event in poll.poll(0))

    def read(self) -> bytes:
        """What is there."""
        try:
            return os.read(self.master, 65_536)
        except (BlockingIOError, OSError):
            return b""

    async def frames(self, count: int, length: str = "bcd2") -> list[bytes]:
        """So many frames that the port's owner writes."""
        framer = framing.Framer("serial", length=length)
        found: list[bytes] = []
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_S
        while len(found) < count:
            assert loop.time() < give_up_at, f"{len(found)} of {count} frames came"
            found += framer.feed(self.read())
            await asyncio.sleep(0.002)
        assert framer.skipped == 0 and framer.pending == 0, "more than frames came"
        return found
