"""Types and docstrings of the compiled core; see codec.pyx."""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from iso8583.spec import Buffer, Key, MessageSpec, TlvInput, Values

M_co = TypeVar("M_co", bound="Index", covariant=True)

class Codec(Generic[M_co]):
    """One spec compiled to the field table of the C core. Immutable; safe to share between threads."""

    @property
    def definition(self) -> MessageSpec: ...
    def __init__(self, definition: MessageSpec, header_size: int, message_type: type[M_co]) -> None:
        """
        Args:
            definition: The spec; already checked by its own constructor.
            header_size: Bytes in front of the MTI, 0 to 64.
            message_type: Subclass of Index that ``decode`` makes.
        """

    def decode(self, data: Buffer) -> M_co:
        """Find every field of one whole message, header included; nothing is copied or converted yet.

        Args:
            data: ``bytes`` are referenced; ``bytearray`` and ``memoryview`` are copied once.

        Raises:
            DecodeError: The bytes do not follow the spec: truncated, trailing, size, mti, bitmap, undefined, prefix,
                length, content, text, tlv.
            TypeError: ``data`` is something else.
        """

    def encode(self, values: Values, *, header: Buffer | None = None) -> bytes:
        """Build one message. ``values`` is never changed.

        Args:
            values: By number or name; the MTI as 0 or ``"mti"``. Text is ``str``, binary is ``bytes``; numeric fields
                of fixed length also take an ``int`` (leading zeros are added); TLV fields also take a mapping or a
                list of pairs of tag and value. None leaves a field out. Values have their full length: nothing is
                padded or cut.
            header: What stands in front of the MTI; as long as the spec's header, so leave it out if there is none.

        Returns:
            Header, MTI, bitmap, fields. If field 64 is present, its 8 bytes are the last ones: to add a MAC, encode
            with ``64: bytes(8)``, compute it over ``iso8583.mab(...)``, and replace the last 8 bytes.

        Raises:
            EncodeError: type, undefined, duplicate, missing, mti, length, content, text, tlv, header, size.
        """

    def number_of(self, key: Key) -> int:
        """Number of a field by number, name or ``"55"``. KeyError if there is no such name."""

class Index:
    """Where the fields of one message are. Made by ``Codec.decode``; immutable."""

    @property
    def codec(self) -> Codec[Index]: ...
    @property
    def header(self) -> bytes:
        """What stands in front of the MTI; ``b""`` if the spec has no header."""

    @property
    def mti(self) -> str:
        """Four digits."""

    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[int]: ...
    def __contains__(self, key: object) -> bool: ...
    # Any, not str | bytes: which of the two is a fact of the spec, and every caller knows its field.
    def __getitem__(self, key: Key) -> Any: ...
    def get(self, key: Key, default: Any = None) -> Any: ...
    def raw(self, key: Key) -> bytes:
        """A field's value as transmitted, without its length prefix. KeyError if absent."""

    def span(self, key: Key) -> tuple[int, int]:
        """(offset, size) in ``bytes(message)`` of a field as encoded, length prefix included. KeyError if absent."""

    def to_dict(self) -> dict[int, Any]:
        """All values, ascending; 0 is the MTI. Text as ``str``, binary as ``bytes``. Unmasked."""

    def patched(self, values: Values, *, header: Buffer | None = None) -> bytes:
        """The message with some fields replaced, added, or removed (None). All other bytes stay as they came.

        Args:
            values: As in ``encode``.
            header: Replaces the header; None keeps it.

        Raises:
            EncodeError: As ``encode``.
        """

    def _echo(self, values: Values, header: bytes, keep: tuple[int, ...]) -> bytes: ...

def tlv_decode(data: Buffer, path: str, base: int) -> list[tuple[str, bytes]]: ...
def tlv_encode(items: TlvInput, path: str, depth: int = 0) -> bytes: ...
def next_frame(buffer: bytearray, offset: int, size_max: int) -> tuple[int, int] | None:
    """(offset, size) of the frame whose two-byte length prefix is at ``offset``; None if it is not all there yet.

    Raises:
        FrameError: empty, too_long; as soon as the prefix is there.
    """
