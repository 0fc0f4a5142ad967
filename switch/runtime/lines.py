# cython: annotation_typing=False, binding=False
"""Which connection is a terminal's own: the newest that signed on and proved its keys.

A kiosk whose modem dropped the line connects anew while the switch still believes in the old connection, and a kiosk
that was cloned uses a terminal's name twice. The newest wins; the old one drains: what is under way there is answered,
results are told, new business is not taken, and it is closed when nobody can wait for an answer on it any more.

A sign-on carries no MAC, so whoever knows a terminal's name can send one: a connection takes another one's place with
its first right MAC under the new keys, not before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from switch.ports import Observer, Wire
from switch.runtime.timers import Timers


@dataclass(slots=True, eq=False)
class _Line:
    own: set[str] = field(default_factory=set)  # terminals whose newest connection this is
    replaced: set[str] = field(default_factory=set)  # terminals that have another one since


class Lines:
    def __init__(self, timers: Timers, observer: Observer, drain_s: float) -> None:
        self._timers = timers
        self._observer = observer
        self._drain_s = drain_s
        self._newest: dict[str, Wire] = {}
        self._lines: dict[Wire, _Line] = {}

    def take(self, terminal_id: str, wire: Wire) -> None:
        """This connection signed on for the terminal, and the keys are right."""
        before = self._newest.get(terminal_id)
        if before is wire:
            return
        self._newest[terminal_id] = wire
        line = self._lines.setdefault(wire, _Line())
        line.own.add(terminal_id)
        line.replaced.discard(terminal_id)
        if before is None or (old := self._lines.get(before)) is None:
            return
        old.own.discard(terminal_id)
        old.replaced.add(terminal_id)
        self._observer.count("switch_lines_replaced_total")
        self._observer.event("kiosk.replaced", terminal=terminal_id, peer=before.peer, by=wire.peer)
        if not old.own:
            self._timers.after(self._drain_s, lambda: self._close(before))

    def is_replaced(self, terminal_id: str, wire: Wire) -> bool:
        """It was the terminal's own once, and another one is now."""
        line = self._lines.get(wire)
        return line is not None and terminal_id in line.replaced

    def has(self, terminal_id: str) -> bool:
        """A connection is this terminal's own now."""
        return terminal_id in self._newest

    def leave(self, terminal_id: str, wire: Wire) -> None:
        """Signed off on this connection; from another one it means nothing."""
        if self._newest.get(terminal_id) is wire:
            del self._newest[terminal_id]
            self._lines[wire].own.discard(terminal_id)

    def lost(self, wire: Wire) -> None:
        line = self._lines.pop(wire, None)
        for terminal_id in line.own if line is not None else ():
            self._newest.pop(terminal_id, None)

    def _close(self, wire: Wire) -> None:
        line = self._lines.get(wire)
        if line is not None and not line.own and wire.is_open:
            wire.close("its terminal signed on elsewhere")
