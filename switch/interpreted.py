"""Which form of the path's modules runs: compiled by Cython, or the same ``.py`` interpreted.

What a payment passes through is compiled, with the types that stand in a ``.pxd`` beside each module. With
``GRIDSWITCH_INTERPRETED=1`` in the environment the ``.py`` files run instead, and so they do in a source tree in which
one of them is newer than what was made of it: an editable install would run yesterday's code. It is all of them or
none, because compiled modules know each other's layouts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

WANTED: Final = "GRIDSWITCH_INTERPRETED"
#: As in pyproject.toml; a test compares.
COMPILED: Final = (
    "switch.dialects.kiosk",
    "switch.dialects.marketing",
    "switch.dialects.shown",
    "switch.dialects.unionpay",
    "switch.machines.breaker",
    "switch.machines.door",
    "switch.machines.link",
    "switch.machines.payment",
    "switch.model.chain",
    "switch.model.effect",
    "switch.model.payment",
    "switch.model.plain",
    "switch.net.framed",
    "switch.observe.trace",
    "switch.runtime.dispatcher",
    "switch.runtime.lines",
    "switch.runtime.links",
    "switch.runtime.payments",
    "switch.runtime.terminals",
    "switch.runtime.timers",
)
_ROOT: Final = Path(__file__).parent.parent


class Sources:
    """Finds modules of ``switch`` as ``.py`` where there is one, whatever else lies beside it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not name.startswith("switch."):
            return None
        for folder in path:
            found = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)
            if found is not None and found.loader is not None:
                return found
        return None


def _stale() -> Iterator[str]:
    """Modules of a source tree that are not compiled, or have changed since."""
    for name in COMPILED:
        source = _ROOT / (name.replace(".", "/") + ".py")
        types = source.with_suffix(".pxd")
        if types.exists():  # an installed wheel has none
            try:
                made = source.with_suffix(EXTENSION_SUFFIXES[0]).stat().st_mtime_ns
            except FileNotFoundError:
                yield name
                continue
            if max(source.stat().st_mtime_ns, types.stat().st_mtime_ns) > made:
                yield name


def choose() -> bool:
    """Called once, before any of them is imported. True: interpreted."""
    if os.environ.get(WANTED, "") not in ("", "0") or next(_stale(), None) is not None:
        sys.meta_path.insert(0, Sources)
        return True
    return False


def source_of(name: str) -> ModuleType:
    """A second, interpreted copy of a module, for who looks at its functions without the objects they belong to."""
    spec = spec_from_file_location(f"{name}.interpreted", _ROOT / (name.replace(".", "/") + ".py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module
