# cython: annotation_typing=False, binding=False
"""Records that are written to more often than they are compared."""

from __future__ import annotations


class Plain:
    """Equal if all fields are; shown with all of them. The fields are those of ``__slots__``.

    A msgspec Struct cannot be compiled into a class of C; this can (``plain.pxd``).
    """

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"
