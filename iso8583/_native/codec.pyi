"""Types and docstrings of the compiled core; see codec.pyx."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from iso8583.errors import DecodeError
from iso8583.message import Spec
from iso8583.spec import Buffer, FieldSpec, HeaderLayout, Key, MessageSpec, TlvInput, Values, ValueSpec

class Codec:
    """One spec compiled to the field tables of the C core, one for each variant. Immutable; safe to share between
    threads. What depends on the bitmap alone is worked out once and kept for the 64 sets of fields used last."""

    @property
    def definition(self) -> MessageSpec: ...
    @property
    def header(self) -> HeaderLayout: ...
    def __init__(self, definition: MessageSpec, header: str = "none") -> None: ...
    def decode(self, data: Buffer, *, strict: bool = True) -> Message:
        """Find every field of one whole message, header included; nothing is copied or converted yet.

        Args:
            data: ``bytes`` are referenced; ``bytearray`` and ``memoryview`` are copied once.
            strict: False: no fault is raised; ``message.findings`` has them all, and the message the fields that could
                be found. For people and tools, never for a message that something is done about.

        Raises:
            DecodeError: The bytes do not follow the spec; the first fault, by one of ``errors.DECODE_CODES``. Fields
                are checked as wholes: content, lengths, the objects of BER-TLV fields. What is inside a field of
                sub-fields is checked when it is read.
            TypeError: ``data`` is something else.

        >>> import iso8583
        >>> spec = iso8583.load("unionpay_pos")
        >>> spec.decode(bytes.fromhex("0800 0020000000000000 000001"))[11]
        '000001'
        >>> message = spec.decode(bytes.fromhex("0800 0020000000000000 00000A"), strict=False)
        >>> [(finding.code, finding.path) for finding in message.findings]
        [('content', '11')]
        """

    def encode(self, values: Values, *, header: Buffer | None = None) -> bytes:
        """Build one message. ``values`` is never changed.

        Args:
            values: By number or name; the MTI as 0 or ``"mti"``. Text is ``str``, binary is ``bytes``; numeric fields
                of fixed length also take an ``int`` (leading zeros are added); fields of sub-fields also take a tree: a
                mapping of keys or names to values, for BER-TLV also pairs. None leaves a field out. Values have their
                full length: nothing is cut, and filled up only where the spec says ``pad_side``.
            header: What stands in front of the MTI; as long as the spec's header, so leave it out if there is none.

        Returns:
            Header, MTI, bitmaps, fields. If field 64 is present, its 8 bytes are the last ones: to add a MAC, encode
            with ``64: bytes(8)``, compute it over ``iso8583.mab(...)``, and replace the last 8 bytes.

        Raises:
            EncodeError: A value does not fit; by one of ``errors.ENCODE_CODES``.

        >>> import iso8583
        >>> spec = iso8583.load("unionpay_pos")
        >>> spec.encode({0: "0200", "amount": 1250, 55: {"9F36": b"\\x00\\x2a"}}).hex()
        '0200100000000000020000000000125000059f3602002a'
        """

    def number_of(self, key: Key) -> int:
        """Number of a field by number, name or ``"55"``. KeyError if there is no such name."""

class Message(Mapping[Key, Any]):
    """One decoded message: an immutable mapping of field numbers to values, bytes kept as they came.

    Keys are numbers (``message[4]``), names (``message["amount"]``) or paths to sub-fields (``message["55.9F26"]``,
    ``message["60.3"]``). Iteration gives the numbers of the present fields, ascending, 0 for the MTI. Nothing is
    converted before it is asked for. ``repr`` is masked like ``masked``; ``to_dict`` and indexing are not.

    Values are ``str``, of full length, or ``bytes`` for binary fields; sub-fields may also be dicts and lists.
    """

    @property
    def spec(self) -> Spec: ...
    @property
    def sound(self) -> bool:
        """Nothing is wrong. Only a message decoded with ``strict=False``, or cut short by an error, is not."""

    @property
    def header(self) -> bytes:
        """What stands in front of the MTI; ``b""`` if the spec has no header."""

    @property
    def mti(self) -> str:
        """Four digits; ``""`` in a message with findings whose MTI is none."""

    @property
    def findings(self) -> tuple[DecodeError, ...]:
        """What is wrong, by offset, if the message was decoded with ``strict=False``.

        Each call makes new errors, so they may be raised.
        """

    @property
    def fields(self) -> dict[int, FieldSpec]:
        """The definitions that messages of this type follow."""

    def field(self, key: Key) -> FieldSpec:
        """One of them, by number or name. KeyError if the spec does not define it."""

    def __bytes__(self) -> bytes:
        """Exactly what was decoded."""

    def __len__(self) -> int:
        """Fields, the MTI counted as one."""

    def __iter__(self) -> Iterator[int]: ...
    def __contains__(self, key: object) -> bool: ...
    # Any, not str | bytes: which of the two is a fact of the spec, and every caller knows its field.
    def __getitem__(self, key: Key) -> Any:
        """The value of a field or sub-field.

        Raises:
            KeyError: It is not there.
            DecodeError: A sub-field, or what stands in front of it in its field, does not follow the spec.
        """

    def get(self, key: Key, default: Any = None) -> Any: ...
    def pick(self, numbers: tuple[Key, ...]) -> tuple[Any, ...]:
        """Several values in one call, in the order asked for; None for what is not there.

        >>> import iso8583
        >>> spec = iso8583.load("unionpay_pos")
        >>> spec.decode(spec.encode({0: "0200", 4: 1250, 11: 7})).pick((11, 4, 39))
        ('000007', '000000001250', None)
        """

    def keys(self) -> KeysView[Any]: ...
    def values(self) -> ValuesView[Any]: ...
    def items(self) -> ItemsView[Any, Any]: ...
    def raw(self, key: Key) -> bytes:
        """A field's value as transmitted, without its length prefix. KeyError if absent."""

    def span(self, key: Key) -> tuple[int, int]:
        """(offset, size) in ``bytes(message)`` of a field as encoded, length prefix included; of MTI and bitmaps for 0.
        KeyError if absent."""

    def to_dict(self, *, nested: bool = False) -> dict[int, Any]:
        """All values, ascending; 0 is the MTI. Text as ``str``, binary as ``bytes``. Unmasked.

        Args:
            nested: Fields of sub-fields as trees: dicts by position or tag, lists where one may come again.

        Raises:
            DecodeError: With ``nested``: sub-fields that do not follow the spec.

        >>> import iso8583
        >>> spec = iso8583.load("unionpay_pos")
        >>> message = spec.decode(spec.encode({0: "0820", 60: "00000001301"}))
        >>> message.to_dict()
        {0: '0820', 60: '00000001301'}
        >>> message.to_dict(nested=True)[60]
        {'1': '00', '2': '000001', '3': '301'}
        """

    def patched(self, values: Values, *, header: Buffer | None = None) -> bytes:
        """The message with some fields replaced, added, or removed (None). All other bytes stay as they came.

        Args:
            values: As in ``Spec.encode``.
            header: Replaces the header; None keeps it.

        Raises:
            EncodeError: As ``Spec.encode``.
        """

    def reply(self, values: Values, *, header: Buffer | None = None) -> bytes:
        """The response to this message.

        MTI + 10; the fields that the spec's ``[reply]`` table lists for this MTI are copied byte for byte if they are
        present; the header comes back with destination and source exchanged.

        Args:
            values: What the response adds or changes, as in ``Spec.encode``; None leaves an echoed field out.
            header: Replaces the header, e.g. to set a processing requirement for the terminal.

        Raises:
            EncodeError: This is not a request [mti]; the spec has no entry for it [reply]; or as ``Spec.encode``.

        >>> import iso8583
        >>> spec = iso8583.load("unionpay_pos")
        >>> request = spec.decode(spec.encode({0: "0800", 11: 7, 41: "10000001"}))
        >>> spec.decode(request.reply({39: "00"})).to_dict()
        {0: '0810', 11: '000007', 39: '00', 41: '10000001'}
        """

    def mab(self) -> bytes:
        """What the MAC of this message covers, as transmitted.

        MTI, bitmaps and all fields in front of field 64 (or 128); without header.

        Raises:
            DecodeError: The message carries no MAC [missing].
        """

    def masked(self, key: Key) -> str:
        """A field's value as people may see it; binary in hexadecimal, BER-TLV as ``tag=value tag=value``.

        What is hidden depends on the kind of the field, or where sub-fields can be read, of each of them. In a message
        that is not ``sound`` every value is hidden if a fault may have moved the fields: what is called the terminal
        may then be the middle of a PAN. So it is with ``error.message``.

        Raises:
            KeyError: It is not there.

        >>> import iso8583
        >>> spec = iso8583.load("unionpay_pos")
        >>> data = spec.encode({0: "0200", 2: "6222000000000017", 55: {"9F36": b"\\x00\\x2a", "5A": bytes(8)}})
        >>> message = spec.decode(data)
        >>> message.masked(2), message.masked(55)
        ('622200******0017', '9F36=002A 5A=<hidden, 8 bytes>')
        >>> spec.decode(data + b"?", strict=False)
        <Message 0200 unionpay_pos 2='<hidden, 16 characters>' 55='<hidden, 15 bytes>'>
        """

class ValueCodec:
    """One value that belongs to no message: a sub-field. Immutable."""

    @property
    def spec(self) -> ValueSpec: ...
    def __init__(self, spec: ValueSpec) -> None: ...
    def read(self, data: bytes, offset: int, end: int, path: str, base: int = 0) -> tuple[str | bytes, int]:
        """(value, offset behind it). What has no prefix and no fixed length takes all up to ``end``.

        Args:
            base: Bytes from the start of the message to ``data``, for errors.

        Raises:
            DecodeError: As ``Codec.decode``, with ``path``.
        """

    def write(self, value: object, path: str) -> bytes:
        """The value as transmitted, prefix included.

        Raises:
            EncodeError: As ``Codec.encode``, with ``path``.
        """

def bind(pleasant: object) -> None: ...
def message_so_far(codec: Codec, buffer: bytes, offset: int) -> Message | None: ...
def tlv_decode(data: Buffer, path: str = "tlv", base: int = 0) -> list[tuple[str, bytes]]: ...
def tlv_to_dict(data: Buffer, path: str = "tlv", base: int = 0) -> dict[str, bytes]: ...
def tlv_encode(items: TlvInput, path: str = "tlv", depth: int = 0) -> bytes: ...
