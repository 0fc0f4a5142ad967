# cython: language_level=3, embedsignature=True, boundscheck=False, wraparound=False, nonecheck=True
"""Thin Cython skin over csrc/: buffers in, Python objects out, statuses to exceptions.

Types and docstrings are in codec.pyi. No rule of ISO 8583 lives here: which characters are allowed, what a
length counts and where fields begin is decided in csrc/ from the field table that `Codec` fills in.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcpy, memset

from .core cimport *

from types import GenericAlias

from iso8583.errors import DecodeError, EncodeError, FrameError, SpecError
from iso8583.spec import CONTENTS, PREFIXES


cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object text)
    bint PyUnicode_IS_ASCII(object text)


cdef enum:
    # Fields of a long purchase; a message with more pays for one allocation.
    INLINE_SLICES = 40
    TLV_DEPTH_MAX = 8

# What a value is in Python.
cdef enum Kind:
    KIND_ASCII = 1
    KIND_GBK = 2
    KIND_BYTES = 3

# Every pair that csrc accepts as GBK has a code point in GB 18030, and goes back to the same two bytes; plain "gbk"
# has holes. See tests/iso8583/test_message.py.
cdef str GBK = "gb18030"


cdef class Codec:
    cdef iso_spec table
    cdef uint8_t kinds[129]
    cdef uint32_t header_size
    cdef dict numbers      # field name -> number
    cdef object message_type
    cdef readonly object definition

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, definition, uint32_t header_size, message_type):
        cdef iso_fault fault
        cdef iso_field *entry
        memset(&self.table, 0, sizeof(self.table))
        memset(self.kinds, 0, sizeof(self.kinds))
        if header_size > 64:
            raise ValueError(f"header_size {header_size} is above 64")
        if not issubclass(message_type, Index):
            raise TypeError("message_type must be a subclass of Index")
        self.definition = definition
        self.header_size = header_size
        self.message_type = message_type
        self.numbers = {field.name: field.number for field in definition.fields}
        self.numbers["mti"] = 0
        self.table.mti_form = ISO_FORM_BCD if definition.mti == "bcd" else ISO_FORM_ASCII
        self.table.bitmap_form = ISO_BITMAP_BINARY if definition.bitmap == "binary" else ISO_BITMAP_HEX
        self.table.field_max = definition.field_max
        for field in definition.fields:
            entry = &self.table.fields[<uint32_t>field.number]
            entry.packing = _packing(field)
            entry.content = _content(field)
            entry.unit = ISO_UNIT_DIGITS if field.length_unit == "digits" else ISO_UNIT_BYTES
            entry.pad_strict = field.pad_strict
            entry.length_min = field.length_min
            entry.length_max = field.length_max
            if field.length_prefix is not None:
                digits, form = PREFIXES[field.length_prefix]
                entry.prefix_digits = digits
                entry.prefix_form = ISO_FORM_BCD if form == "bcd" else ISO_FORM_ASCII
            if field.encoding == "binary":
                self.kinds[<uint32_t>field.number] = KIND_BYTES
            elif field.encoding == "gbk":
                self.kinds[<uint32_t>field.number] = KIND_GBK
            else:
                self.kinds[<uint32_t>field.number] = KIND_ASCII
        if iso_spec_check(&self.table, &fault) != ISO_OK:
            raise SpecError(definition.name, f"field.{fault.field}", "contradicts itself")

    def decode(self, data):
        cdef bytes buffer
        cdef iso_layout layout
        cdef iso_fault fault
        cdef iso_status status
        cdef Index message
        if type(data) is bytes:
            buffer = <bytes>data
        elif isinstance(data, (bytes, bytearray, memoryview)):
            # Copied once, so that the message stays what it was when the caller reuses the buffer.
            buffer = bytes(data)
        else:
            raise TypeError(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")
        if PyBytes_GET_SIZE(buffer) < <Py_ssize_t>self.header_size:
            raise DecodeError("truncated", "header", 0, f"expected {self.header_size} bytes in front of the MTI")
        # The core counts in 32 bits; anything above its limit is refused there as one size too large.
        status = iso_index(
            &self.table,
            <const uint8_t *>PyBytes_AS_STRING(buffer),
            <uint32_t>min(PyBytes_GET_SIZE(buffer), <Py_ssize_t>ISO_MESSAGE_SIZE_MAX + 1),
            self.header_size,
            &layout,
            &fault,
        )
        if status != ISO_OK:
            _raise_decode_error(self, status, &fault)
        message = self.message_type.__new__(self.message_type)
        message._take(self, buffer, &layout)
        return message

    def encode(self, values, *, header=None):
        return _build(self, None, values, header, ())

    def number_of(self, key):
        """Number of a field by number or name; KeyError if the spec does not define it."""
        return _number(self, key)

    cdef str _expected(self, uint32_t number):
        return self.definition.by_number[number].expected()


cdef class Index:
    cdef bytes _data
    cdef Codec _codec
    cdef uint64_t _present[2]
    cdef uint16_t _mti_offset
    cdef uint16_t _fields_offset
    cdef uint16_t _count
    cdef iso_slice *_slices
    cdef iso_slice _inline[INLINE_SLICES]

    def __init__(self, *args, **kwargs):
        raise TypeError("messages come from Spec.decode()")

    def __dealloc__(self):
        if self._slices != NULL and self._slices != &self._inline[0]:
            PyMem_Free(self._slices)

    cdef int _take(self, Codec codec, bytes data, const iso_layout *layout) except -1:
        self._slices = &self._inline[0]
        if layout.count > INLINE_SLICES:
            self._slices = <iso_slice *>PyMem_Malloc(layout.count * sizeof(iso_slice))
            if self._slices == NULL:
                raise MemoryError
        memcpy(self._slices, layout.slices, layout.count * sizeof(iso_slice))
        self._present[0] = layout.present[0]
        self._present[1] = layout.present[1]
        self._mti_offset = layout.mti_offset
        self._fields_offset = layout.fields_offset
        self._count = layout.count
        self._codec = codec
        self._data = data
        return 0

    @property
    def codec(self):
        return self._codec

    @property
    def header(self):
        return self._data[:self._mti_offset]

    @property
    def mti(self):
        cdef object text = PyUnicode_New(ISO_MTI_DIGITS, 127)
        iso_mti_unpack(&self._codec.table, <const uint8_t *>PyBytes_AS_STRING(self._data), self._mti_offset,
                       <uint8_t *>PyUnicode_DATA(text))
        return text

    def __bytes__(self):
        return self._data

    def __len__(self):
        return self._count + 1

    def __iter__(self):
        return iter(_numbers(self))

    def __contains__(self, key):
        cdef int32_t number
        try:
            if type(key) is str and "." in <str>key:
                self[key]
                return True
            number = _number(self._codec, key)
        except KeyError:
            return False
        return number == 0 or iso_layout_find(self._present, number) >= 0

    def __getitem__(self, key):
        cdef uint32_t number
        cdef int32_t at
        if type(key) is str and "." in <str>key:
            return _by_path(self, <str>key)
        number = _number(self._codec, key)
        if number == 0:
            return self.mti
        at = iso_layout_find(self._present, number)
        if at < 0:
            raise KeyError(key)
        return _value(self, number, &self._slices[at])

    def get(self, key, default=None):
        cdef uint32_t number
        cdef int32_t at
        try:
            if type(key) is str and "." in <str>key:
                return _by_path(self, <str>key)
            number = _number(self._codec, key)
        except KeyError:
            return default
        if number == 0:
            return self.mti
        at = iso_layout_find(self._present, number)
        return default if at < 0 else _value(self, number, &self._slices[at])

    def raw(self, key):
        cdef uint32_t number = _number(self._codec, key)
        cdef int32_t at
        if number == 0:
            return self._data[self._mti_offset:self._mti_offset + (2 if self._codec.table.mti_form == ISO_FORM_BCD
                                                                   else 4)]
        at = iso_layout_find(self._present, number)
        if at < 0:
            raise KeyError(key)
        return self._data[self._slices[at].offset:self._slices[at].offset + self._slices[at].size]

    def span(self, key):
        """(offset, size) in bytes(message) of a field as encoded, length prefix included."""
        cdef uint32_t number = _number(self._codec, key)
        cdef int32_t at = iso_layout_find(self._present, number)
        cdef uint32_t start
        if at < 0:
            raise KeyError(key)
        start = _start(self, at)
        return start, self._slices[at].offset + self._slices[at].size - start

    def to_dict(self):
        cdef dict result = {0: self.mti}
        cdef uint32_t at = 0
        for number in _numbers(self)[1:]:
            result[number] = _value(self, number, &self._slices[at])
            at += 1
        return result

    def patched(self, values, *, header=None):
        return _build(self._codec, self, values, self._data[:self._mti_offset] if header is None else header, None)

    def _echo(self, values, header, tuple keep):
        return _build(self._codec, self, values, header, keep)


cdef uint32_t _start(Index message, uint32_t at):
    """Where the encoded form of slice `at` starts: fields lie back to back."""
    if at == 0:
        return message._fields_offset
    return message._slices[at - 1].offset + message._slices[at - 1].size


cdef list _numbers(Index message):
    cdef list numbers = [0]
    cdef uint32_t number
    for number in range(2, <uint32_t>ISO_TABLE_SIZE):
        if message._present[number > 64] >> (63 - ((number - 1) & 63)) & 1:
            numbers.append(number)
    return numbers


cdef int32_t _number(Codec codec, key) except -1:
    cdef object number
    if isinstance(key, int) and not isinstance(key, bool):
        if key == 0 or 2 <= key <= 128:
            return key
        raise KeyError(key)
    if isinstance(key, str):
        number = codec.numbers.get(key)
        if number is not None:
            return number
        # "55" is the head of the path "55.9F26".
        if key.isascii() and key.isdigit() and len(key) <= 3:
            return _number(codec, int(key))
    raise KeyError(key)


cdef object _value(Index message, uint32_t number, const iso_slice *slice):
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(message._data) + slice.offset
    cdef const iso_field *field = &message._codec.table.fields[number]
    cdef object text
    if message._codec.kinds[number] == KIND_BYTES:
        return PyBytes_FromStringAndSize(<const char *>data, slice.size)
    if message._codec.kinds[number] == KIND_GBK:
        return PyBytes_FromStringAndSize(<const char *>data, slice.size).decode(GBK)
    if field.packing == ISO_PACK_BYTES:
        if slice.size == 0:
            return ""
        # csrc has checked that every byte is ASCII.
        text = PyUnicode_New(slice.size, 127)
        memcpy(PyUnicode_DATA(text), data, slice.size)
        return text
    if slice.length == 0:
        return ""
    text = PyUnicode_New(iso_unpacked_length(field, slice.length), 127)
    iso_unpack(field, data, slice.length, <uint8_t *>PyUnicode_DATA(text))
    return text


cdef object _by_path(Index message, str path):
    cdef list parts = path.split(".")
    cdef uint32_t number
    cdef bytes value
    if len(parts) - 1 > TLV_DEPTH_MAX:
        raise KeyError(path)
    number = _number(message._codec, parts[0])
    if number == 0 or message._codec.table.fields[number].content != ISO_CONTENT_TLV:
        raise KeyError(path)
    value = message[number]
    for tag in parts[1:]:
        found = _find_tag(value, tag)
        if found is None:
            raise KeyError(path)
        value = found
    return value


cdef object _find_tag(bytes data, str tag):
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef uint32_t size = PyBytes_GET_SIZE(data)
    cdef uint32_t offset = 0
    cdef iso_tlv found
    cdef str wanted = tag.upper()
    while offset < size:
        if iso_tlv_next(start, size, &offset, &found) != ISO_OK:
            return None  # inside a primitive value: not TLV at all
        if found.tag_size and data[found.tag_offset:found.tag_offset + found.tag_size].hex().upper() == wanted:
            return data[found.value_offset:found.value_offset + found.value_size]
    return None


# ---- building ------------------------------------------------------------------------------------


cdef bytes _build(Codec codec, Index origin, values, header, keep):
    """Encode `values` on top of `origin` (or nothing).

    `keep` says which fields of `origin` stay: None for all, else a tuple of numbers.
    """
    cdef iso_value table[129]
    cdef iso_fault fault
    cdef iso_status status
    cdef uint32_t number
    cdef uint32_t at
    cdef uint32_t start
    cdef uint32_t size = 0
    cdef uint64_t total
    cdef bint secondary = False
    cdef bytes out
    cdef bytes mti_text
    cdef list alive = []  # what the pointers in `table` point into
    cdef const char *data

    memset(table, 0, sizeof(table))
    front = _header(codec, header)
    mti = None
    if origin is not None:
        mti = origin.mti
        data = PyBytes_AS_STRING(origin._data)
        # An empty secondary bitmap is kept: the rest of a patched message does not change.
        secondary = keep is None and origin._present[0] >> 63
        at = 0
        for field_number in _numbers(origin)[1:]:
            number = field_number
            if keep is None or field_number in keep:
                start = _start(origin, at)
                table[number].data = <const uint8_t *>data + start
                table[number].size = origin._slices[at].offset + origin._slices[at].size - start
                table[number].as_wire = True
            at += 1

    seen = set()
    for key, value in values.items():
        try:
            field_number = _number(codec, key)
        except KeyError:
            field_number = None
        if field_number is None:
            raise EncodeError("undefined", _shown(key), f"not defined in spec {codec.definition.name}")
        if field_number in seen:
            raise EncodeError("duplicate", str(field_number), "given twice, by number and by name")
        seen.add(field_number)
        if field_number == 0:
            mti = value
            continue
        number = field_number
        if codec.table.fields[number].packing == ISO_PACK_NONE:
            raise EncodeError("undefined", str(field_number), f"not defined in spec {codec.definition.name}")
        if value is None:
            memset(&table[number], 0, sizeof(iso_value))
        else:
            _fill(codec, number, value, &table[number], alive)

    if mti is None:
        raise EncodeError("missing", "mti", "give the MTI as field 0")
    if not isinstance(mti, str):
        raise EncodeError("type", "mti", f"expected str, got {type(mti).__name__}")
    if not (len(mti) == 4 and mti.isascii()):
        raise EncodeError("mti", "mti", "expected four digits")
    mti_text = mti.encode("ascii")

    total = 0
    for number in range(2, <uint32_t>ISO_TABLE_SIZE):
        if table[number].data != NULL:
            total += iso_build_field_size(&codec.table.fields[number], &table[number])
            if number > 64:
                secondary = True
    total += iso_build_base_size(&codec.table, secondary)
    if total + PyBytes_GET_SIZE(front) > ISO_MESSAGE_SIZE_MAX:
        raise EncodeError("size", "message", f"larger than {ISO_MESSAGE_SIZE_MAX} bytes")

    out = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(front) + <Py_ssize_t>total)
    memcpy(PyBytes_AS_STRING(out), PyBytes_AS_STRING(front), PyBytes_GET_SIZE(front))
    status = iso_build(
        &codec.table,
        <const uint8_t *>PyBytes_AS_STRING(mti_text),
        table,
        secondary,
        <uint8_t *>PyBytes_AS_STRING(out) + PyBytes_GET_SIZE(front),
        <uint32_t>total,
        &size,
        &fault,
    )
    if status != ISO_OK:
        _raise_encode_error(codec, status, &fault)
    assert size == total
    return out


cdef bytes _header(Codec codec, header):
    if header is None:
        header = b""
    elif not isinstance(header, (bytes, bytearray, memoryview)):
        raise EncodeError("type", "header", f"expected bytes, got {type(header).__name__}")
    header = bytes(header)
    if len(header) != codec.header_size:
        raise EncodeError("header", "header",
                          f"expected {codec.header_size} bytes in front of the MTI, got {len(header)}")
    return header


cdef int _fill(Codec codec, uint32_t number, value, iso_value *out, list alive) except -1:
    cdef Py_ssize_t size = 0
    cdef const iso_field *field = &codec.table.fields[number]
    cdef uint8_t kind = codec.kinds[number]
    cdef bytes buffer
    if kind == KIND_BYTES:
        if field.content == ISO_CONTENT_TLV and isinstance(value, (dict, list, tuple)):
            buffer = tlv_encode(value, str(number))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            buffer = bytes(value)
        else:
            extra = ", or a dict or list of TLV objects" if field.content == ISO_CONTENT_TLV else ""
            raise EncodeError("type", str(number), f"expected bytes{extra}, got {type(value).__name__}")
        alive.append(buffer)
        out.data = <const uint8_t *>PyBytes_AS_STRING(buffer)
        out.size = <uint32_t>min(PyBytes_GET_SIZE(buffer), <Py_ssize_t>ISO_MESSAGE_SIZE_MAX)
        out.as_wire = False
        return 0

    if isinstance(value, int) and not isinstance(value, bool):
        value = _digits(codec, number, value)
    elif not isinstance(value, str):
        raise EncodeError("type", str(number), f"expected str, got {type(value).__name__}")
    if not PyUnicode_IS_ASCII(value):
        if kind != KIND_GBK:
            content = CONTENTS[codec.definition.by_number[number].content]
            raise EncodeError("content", str(number), f"expected {content}")
        try:
            value = value.encode(GBK)
        except UnicodeEncodeError:
            value = None
        if value is None:
            # Raised out here: even with `from None` the original error, and the text in it, would hang on ours.
            raise EncodeError("text", str(number), "a character is not in GBK")
        alive.append(value)
        out.data = <const uint8_t *>PyBytes_AS_STRING(value)
        size = PyBytes_GET_SIZE(value)
    else:
        alive.append(value)
        out.data = <const uint8_t *>PyUnicode_AsUTF8AndSize(value, &size)
    out.size = <uint32_t>min(size, <Py_ssize_t>ISO_MESSAGE_SIZE_MAX)
    out.as_wire = False
    return 0


cdef str _digits(Codec codec, uint32_t number, value):
    cdef const iso_field *field = &codec.table.fields[number]
    if field.content != ISO_CONTENT_N:
        raise EncodeError("type", str(number), "expected str; only numeric fields take an int")
    if field.prefix_digits != 0:
        # 01234567 would silently become 1234567.
        raise EncodeError("type", str(number), "expected str; an int has no leading zeros and the length varies")
    if value < 0:
        raise EncodeError("content", str(number), "expected digits, got a negative number")
    return str(value).zfill(iso_unpacked_length(field, field.length_max))


# ---- TLV -----------------------------------------------------------------------------------------


def tlv_decode(data, str path not None, uint32_t base):
    cdef bytes buffer = bytes(data)
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(buffer)
    cdef uint32_t size
    cdef uint32_t offset = 0
    cdef iso_tlv found
    cdef iso_status status
    cdef list result = []
    if PyBytes_GET_SIZE(buffer) > ISO_MESSAGE_SIZE_MAX:
        raise DecodeError("size", path, base, f"larger than {ISO_MESSAGE_SIZE_MAX} bytes")
    size = PyBytes_GET_SIZE(buffer)
    while offset < size:
        status = iso_tlv_next(start, size, &offset, &found)
        if status != ISO_OK:
            detail = "an object leaves the field" if status == ISO_E_TRUNCATED else "not a BER-TLV object"
            raise DecodeError("tlv", path, base + offset, detail)
        if found.tag_size:
            result.append((
                buffer[found.tag_offset:found.tag_offset + found.tag_size].hex().upper(),
                buffer[found.value_offset:found.value_offset + found.value_size],
            ))
    return result


def tlv_encode(items, str path not None, uint32_t depth=0):
    cdef list parts = []
    cdef bytes tag
    cdef bytes content
    cdef bytes part
    cdef uint32_t used
    if depth >= TLV_DEPTH_MAX:
        raise EncodeError("tlv", path, f"more than {TLV_DEPTH_MAX} levels of objects")
    if isinstance(items, dict):
        items = items.items()
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise EncodeError("type", path, "expected pairs of tag and value")
        name, value = item
        if not isinstance(name, str):
            raise EncodeError("type", path, "expected tags as hexadecimal str")
        try:
            tag = bytes.fromhex(name)
        except ValueError:
            tag = b""
        place = f"{path}.{_shown(name)}"
        if not iso_tlv_tag_valid(<const uint8_t *>PyBytes_AS_STRING(tag), min(PyBytes_GET_SIZE(tag), 255)):
            raise EncodeError("tlv", place, "not a BER-TLV tag")
        if isinstance(value, (dict, list, tuple)):
            content = tlv_encode(value, place, depth + 1)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            content = bytes(value)
        else:
            raise EncodeError("type", place, f"expected bytes, got {type(value).__name__}")
        if PyBytes_GET_SIZE(content) > 0xFFFF:
            raise EncodeError("length", place, f"expected 0 to 65535 bytes, got {len(content)}")
        part = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(tag) + 3 + PyBytes_GET_SIZE(content))
        used = 0
        if iso_tlv_write(<const uint8_t *>PyBytes_AS_STRING(tag), PyBytes_GET_SIZE(tag),
                         <const uint8_t *>PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content),
                         <uint8_t *>PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part), &used) != ISO_OK:
            raise AssertionError("iso_tlv_write refused what was checked above")
        parts.append(part[:used])
    return b"".join(parts)


# ---- frames --------------------------------------------------------------------------------------


def next_frame(bytearray buffer not None, uint32_t offset, uint32_t size_max):
    cdef const uint8_t[:] view
    cdef iso_frame found
    cdef iso_status status
    cdef Py_ssize_t size = len(buffer)
    if not 1 <= size_max <= 0xFFFF:
        raise ValueError(f"size_max {size_max} is outside 1..65535")
    if offset > size:
        raise ValueError(f"offset {offset} is past the end of the buffer ({size} bytes)")
    if offset == size:
        return None
    view = buffer
    status = iso_frame_len2(&view[offset], <uint32_t>(size - offset), size_max, &found)
    if status == ISO_E_TRUNCATED:
        return None
    if status == ISO_E_EMPTY:
        raise FrameError("empty", "a length prefix of 0")
    if status == ISO_E_TOO_LONG:
        announced = buffer[offset] << 8 | buffer[offset + 1]
        raise FrameError("too_long", f"{announced} bytes announced, at most {size_max} are allowed")
    assert status == ISO_OK
    return offset + found.offset, found.size


# ---- errors: off the hot path on purpose ---------------------------------------------------------


cdef str _shown(key):
    """A key as an error may show it. What is neither short nor a name may be a value in the wrong place."""
    cdef str text = str(key)
    return text if len(text) <= 8 or (len(text) <= 32 and text.isidentifier()) else "?"


cdef int _packing(field) except -1:
    if not field.packed:
        return ISO_PACK_BYTES
    if field.content == "z":
        return ISO_PACK_TRACK_LEFT
    return ISO_PACK_BCD_LEFT if field.encoding == "bcd_left" else ISO_PACK_BCD_RIGHT


cdef int _content(field) except -1:
    if field.tlv:
        return ISO_CONTENT_TLV
    if field.encoding == "gbk":
        return ISO_CONTENT_GBK
    return {
        "b": ISO_CONTENT_B,
        "n": ISO_CONTENT_N,
        "a": ISO_CONTENT_A,
        "an": ISO_CONTENT_AN,
        "ans": ISO_CONTENT_ANS,
        "z": ISO_CONTENT_Z,
        "xn": ISO_CONTENT_XN,
    }[field.content]


cdef int _raise_decode_error(Codec codec, iso_status status, const iso_fault *fault) except -1:
    cdef str code = iso_status_name(status).decode("ascii")
    cdef uint32_t number = fault.field
    place = "mti" if number == 0 else "bitmap" if number == 1 else str(number)
    name = codec.definition.name
    if status == ISO_E_TRUNCATED:
        detail = "the message ends inside the " + ("MTI" if number == 0 else "bitmap" if number == 1 else "field")
    elif status == ISO_E_TRAILING:
        place = "message"
        plural = "byte is" if fault.length == 1 else "bytes are"
        detail = f"{fault.length} {plural} left after the last field"
    elif status == ISO_E_SIZE:
        place = "message"
        detail = f"larger than {ISO_MESSAGE_SIZE_MAX} bytes"
    elif status == ISO_E_MTI:
        detail = "expected four digits"
    elif status == ISO_E_BITMAP and fault.length:
        detail = f"bit 1 is set, but spec {name} has 64 fields and no secondary bitmap"
    elif status == ISO_E_BITMAP:
        detail = f"expected hexadecimal characters, found something else at byte {fault.position}"
    elif status == ISO_E_UNDEFINED:
        detail = f"bit {number} of the bitmap is set, but spec {name} does not define the field"
    elif status == ISO_E_PREFIX:
        detail = "length prefix is not made of decimal digits"
    elif status == ISO_E_LENGTH:
        entry = &codec.table.fields[number]
        if fault.length > entry.length_max:
            detail = f"length prefix above the maximum of {entry.length_max}"
        else:
            detail = f"length prefix below the minimum of {entry.length_min}"
    elif status == ISO_E_CONTENT:
        content = CONTENTS[codec.definition.by_number[number].content]
        detail = f"expected {content}, found something else at byte {fault.position}"
    elif status == ISO_E_TEXT:
        detail = f"expected GBK text, found something else at byte {fault.position}"
    elif status == ISO_E_TLV:
        detail = f"expected BER-TLV objects, found something else at byte {fault.position}"
    else:
        raise AssertionError(f"iso_status {<int>status} has no message")
    raise DecodeError(code, place, fault.offset, detail)


cdef int _raise_encode_error(Codec codec, iso_status status, const iso_fault *fault) except -1:
    cdef str code = iso_status_name(status).decode("ascii")
    cdef uint32_t number = fault.field
    if status == ISO_E_MTI:
        raise EncodeError(code, "mti", "expected four digits")
    if status == ISO_E_LENGTH:
        entry = &codec.table.fields[number]
        if entry.packing != ISO_PACK_BYTES and entry.unit == ISO_UNIT_BYTES:
            raise EncodeError(code, str(number), f"expected {codec._expected(number)} of two digits each, "
                              f"got {fault.length} digits")
        raise EncodeError(code, str(number), f"expected {codec._expected(number)}, got {fault.length}")
    if status == ISO_E_CONTENT:
        content = CONTENTS[codec.definition.by_number[number].content]
        raise EncodeError(code, str(number), f"expected {content}, found something else at position {fault.position}")
    if status == ISO_E_TEXT:
        raise EncodeError(code, str(number), f"expected GBK text, found something else at position {fault.position}")
    if status == ISO_E_TLV:
        raise EncodeError(code, str(number), f"expected BER-TLV objects, found something else at position "
                          f"{fault.position}")
    raise AssertionError(f"iso_status {<int>status} has no message")
