"""What can go wrong, as classes with stable codes.

    Iso8583Error
        DecodeError   the bytes do not follow the spec: the peer's doing, or the wrong spec
        EncodeError   a value does not fit its field: our own doing
        SpecError     a spec file contradicts itself
        FrameError    the byte stream cannot be cut into frames any more: close the connection

No message and no attribute ever holds field data: PANs, tracks and PIN blocks reach logs through
exceptions more easily than any other way.
"""

from __future__ import annotations


def _place(path: str) -> str:
    # "mti", "bitmap", "header" and "message" are places, not fields.
    return f"field {path}" if path[:1].isdigit() else path


class Iso8583Error(Exception):
    """Base of everything that this library raises about messages, specs and frames.

    Attributes:
        code: Stable identifier for logs, metrics and tests, e.g. ``"length"``.
    """

    code: str


class DecodeError(Iso8583Error):
    """The bytes do not follow the spec.

    Attributes:
        code: Stable identifier: ``truncated``, ``trailing``, ``size``, ``mti``, ``bitmap``, ``undefined``, ``prefix``,
            ``length``, ``content``, ``text``, ``tlv``, ``track``, ``missing``.
        field: Path of the field, outermost first, e.g. ``"55.9F26"``; or ``"mti"``, ``"bitmap"``, ``"header"``,
            ``"message"``.
        offset: Bytes from the start of the given data (header included) to the start of that field.
        detail: What was expected there.
    """

    def __init__(self, code: str, field: str, offset: int, detail: str) -> None:
        super().__init__(code, field, offset, detail)
        self.code = code
        self.field = field
        self.offset = offset
        self.detail = detail

    def __str__(self) -> str:
        return f"{_place(self.field)} at byte {self.offset}: {self.detail} [{self.code}]"


class EncodeError(Iso8583Error):
    """A value does not fit its field.

    Attributes:
        code: Stable identifier: ``type``, ``undefined``, ``duplicate``, ``missing``, ``mti``, ``length``, ``content``,
            ``text``, ``tlv``, ``header``, ``reply``, ``size``.
        field: Path of the field, as in :class:`DecodeError`.
        detail: What was expected.
    """

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(code, field, detail)
        self.code = code
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        return f"{_place(self.field)}: {self.detail} [{self.code}]"


class SpecError(Iso8583Error):
    """A spec or code table is wrong.

    Attributes:
        source: The file, or the spec's name.
        key: Path of the key inside it, e.g. ``"field.35.length_prefix"``.
        detail: What was expected there.
    """

    def __init__(self, source: str, key: str, detail: str) -> None:
        super().__init__(source, key, detail)
        self.code = "spec"
        self.source = source
        self.key = key
        self.detail = detail

    def __str__(self) -> str:
        where = f"{self.source}: {self.key}" if self.key else self.source
        return f"{where}: {self.detail} [{self.code}]"


class FrameError(Iso8583Error):
    """The stream is out of step; nothing after this point can be trusted.

    Attributes:
        code: ``empty`` or ``too_long``.
        detail: What the frame announced and what was allowed: sizes only.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"frame: {self.detail} [{self.code}]"
