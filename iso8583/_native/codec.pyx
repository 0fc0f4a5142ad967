# cython: language_level=3, embedsignature=False, boundscheck=False, wraparound=False, nonecheck=False, binding=False
# cython: initializedcheck=False, auto_pickle=False
"""Cython skin over csrc/: buffers in, Python objects out, statuses to exceptions.

Types and docstrings are in codec.pyi. No rule of ISO 8583 lives here: which characters are allowed, what a length
counts and where fields begin is decided in csrc/ from the field tables that `Codec` fills in. What is done for people
(repr, trees of sub-fields, the causes of errors) is Python, bound by `bind`.

Where time matters: `Codec.decode` with a plan it has seen before, `Message.__getitem__`, `Message.to_dict`,
`Message.patched` in place, and `_build`. Everything else may be slow and should be plain.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next, PyDict_SetItem, PyDict_Size
from cpython.list cimport PyList_GET_ITEM
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_New, PyTuple_SET_ITEM
from libc.string cimport memcmp, memcpy, memset

from .core cimport *

from collections.abc import Mapping
from difflib import get_close_matches
from sys import intern

from iso8583 import mti as mti_module
from iso8583.errors import DecodeError, EncodeError, SpecError
from iso8583.spec import CONTENTS, HEADERS, NESTING_MAX, PREFIXES


cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    object PyUnicode_FromKindAndData(int kind, const void *buffer, Py_ssize_t size)
    void *PyUnicode_DATA(object text)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_1BYTE_KIND
    PyObject *PyDict_GetItemWithError(object mapping, object key) except? NULL


cdef extern from "hot.h":
    enum:
        KIND_ASCII
        KIND_DIGITS
        KIND_TRACK
        KIND_BYTES
        KIND_HEX
        KIND_GB
        KIND_UTF8
        KIND_LATIN1
        KIND_EBCDIC
        PLAIN_TEXT
        PLAIN_BYTES

    ctypedef struct Table "iso_table":
        iso_spec spec
        uint8_t kinds[193]
        uint8_t readings[193]
        uint8_t plain[193]
        uint16_t digits[193]
        uint8_t has_tree[193]
        uint8_t pads[193]
        uint8_t secrets[193]

    ctypedef struct Item "iso_item":
        uint8_t number

    ctypedef struct Cursor "iso_cursor":
        const Item *item
        const iso_slice *variable
        uint32_t run
        iso_slice slice

    ctypedef struct Draft "iso_draft":
        uint64_t present[3]
        uint64_t seen[3]
        bint careful
        iso_value values[193]

    void iso_draft_start(Draft *draft) noexcept
    void iso_draft_hold(Draft *draft, object thing) noexcept
    void iso_draft_end(Draft *draft) noexcept
    uint32_t iso_plan_slot(const uint64_t *present, uint32_t variant) noexcept
    int iso_small_key(object key) noexcept
    bint iso_take_plain(const Table *table, Draft *draft, object key, object value) noexcept
    object iso_small_text(uint32_t number, uint32_t count)
    uint8_t iso_reading_of(const iso_field *field, uint8_t kind) noexcept
    object iso_plain_value(uint8_t reading, const uint8_t *data, uint32_t size, uint32_t length)
    void iso_items_make(Item *items, const Table *table, const iso_plan *plan, PyObject **keys) noexcept
    int iso_items_read(dict values, const uint8_t *data, const Item *end, Cursor *cursor) except -1


cdef extern from *:
    # Cython's own, with its care for every version of Python: a dict that need not grow.
    dict _presized_dict "__Pyx_PyDict_NewPresized"(Py_ssize_t count)
    uint32_t _last_bit "__builtin_ctzll"(uint64_t bits) noexcept


cdef enum:
    # Variable fields of a long purchase; a message with more pays for one allocation.
    INLINE_VARIABLES = 14
    # Bitmaps are chosen by the peer: what is kept of them is bounded. A link uses one or two dozen.
    PLAN_COUNT = 64
    VARIANT_MAX = 255
    # What a lenient reader collects before it gives up.
    FAULTS_MAX = 64
    HEADER_SIZE_MAX = 64
    NO_MTI = 0xFFFF
    # Messages that fit are written here first and copied once; nearly all do.
    SHORT_SIZE = 2048

# Every pair that csrc accepts as GBK has a code point in GB 18030, and goes back to the same two bytes; plain "gbk"
# has holes. See tests/iso8583/test_message.py.
cdef str GB = "gb18030"

# What is Python: set once by bind(), when iso8583.message is imported.
cdef object _pleasant = None


def bind(pleasant):
    """Give the compiled part what it calls for people: see iso8583/message.py."""
    global _pleasant
    _pleasant = pleasant


# ---- values --------------------------------------------------------------------------------------

# The numbers of fields as Python objects: made once, so that a dict costs no look-up of each.
cdef PyObject *_keys[193]
cdef tuple _key_owner = tuple(range(193))
for _number_of_key in range(193):
    _keys[<uint32_t>_number_of_key] = <PyObject *>_key_owner[_number_of_key]


cdef object _other_value(const iso_field *field, uint8_t kind, const uint8_t *data, const iso_slice *slice, bint sound):
    """The Python value of a slice, of whatever kind. `sound`: csrc has found nothing wrong with it."""
    cdef object result
    cdef uint32_t count
    if kind == KIND_DIGITS or kind == KIND_TRACK:
        count = iso_value_length(field, slice)
        if not sound:
            # The sign of an amount may be any byte here, and text that says it is ASCII must be.
            result = PyBytes_FromStringAndSize(NULL, count)
            iso_value_write(field, data, slice, <uint8_t *>PyBytes_AS_STRING(result))
            return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, PyBytes_AS_STRING(result), count)
        result = PyUnicode_New(count, 127)
        iso_value_write(field, data, slice, <uint8_t *>PyUnicode_DATA(result))
        return result
    if kind == KIND_BYTES:
        return PyBytes_FromStringAndSize(<const char *>data + slice.offset, slice.size)
    if kind == KIND_ASCII:
        return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, data + slice.offset, slice.size)
    if kind == KIND_HEX:
        result = PyBytes_FromStringAndSize(NULL, slice.size // 2)
        iso_value_write(field, data, slice, <uint8_t *>PyBytes_AS_STRING(result))
        return result
    if kind == KIND_LATIN1:
        return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, data + slice.offset, slice.size)
    if kind == KIND_EBCDIC:
        result = PyBytes_FromStringAndSize(NULL, slice.size)
        iso_value_write(field, data, slice, <uint8_t *>PyBytes_AS_STRING(result))
        return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, PyBytes_AS_STRING(result), slice.size)
    result = PyBytes_FromStringAndSize(<const char *>data + slice.offset, slice.size)
    return result.decode("utf-8" if kind == KIND_UTF8 else GB, "strict" if sound else "replace")


# ---- field tables --------------------------------------------------------------------------------


cdef int _fill_field(value, iso_field *entry) except -1:
    """Translate a ValueSpec; returns its Kind."""
    memset(entry, 0, sizeof(iso_field))
    cdef str encoding = value.encoding
    cdef str content = value.content
    entry.content = _content(value)
    entry.unit = {"digits": ISO_UNIT_DIGITS, "bytes": ISO_UNIT_BYTES, "nibbles": ISO_UNIT_NIBBLES}[value.length_unit]
    entry.pad_strict = value.pad_strict
    entry.pad_nibble = 15 if value.pad_nibble == "F" else 0
    entry.length_min = value.length_min
    entry.length_max = value.length_max
    if value.length_prefix is not None:
        digits, form = PREFIXES[value.length_prefix]
        entry.prefix_digits = digits
        entry.prefix_form = {"bcd": ISO_FORM_BCD, "ascii": ISO_FORM_ASCII, "ebcdic": ISO_FORM_EBCDIC,
                             "binary": ISO_FORM_BINARY, "hex": ISO_FORM_HEX}[form]
    if value.encrypted_when is not None:
        entry.secret_field, position, character = value.encrypted_when
        entry.secret_position = position - 1
        entry.secret_character = ord(character)
    entry.packing = ISO_PACK_BYTES
    if encoding.startswith("bcd"):
        left = encoding == "bcd_left"
        if content == "n":
            entry.packing = ISO_PACK_BCD_LEFT if left else ISO_PACK_BCD_RIGHT
            return KIND_DIGITS
        if content == "xn":
            entry.packing = ISO_PACK_SIGNED_LEFT if left else ISO_PACK_SIGNED_RIGHT
            return KIND_DIGITS
        entry.packing = ISO_PACK_TRACK_LEFT if left else ISO_PACK_TRACK_RIGHT
        return KIND_TRACK
    if encoding.startswith("hex"):
        entry.packing = ISO_PACK_HEX
        entry.charset = ISO_CHARSET_CP037 if encoding == "hex_ebcdic" else ISO_CHARSET_ASCII
        return KIND_HEX
    if encoding in ("cp037", "cp500", "cp1047"):
        entry.charset = {"cp037": ISO_CHARSET_CP037, "cp500": ISO_CHARSET_CP500,
                         "cp1047": ISO_CHARSET_CP1047}[encoding]
        return KIND_EBCDIC
    return {"binary": KIND_BYTES, "ascii": KIND_ASCII, "latin1": KIND_LATIN1, "gbk": KIND_GB, "gb18030": KIND_GB,
            "utf8": KIND_UTF8}[encoding]


cdef int _content(value) except -1:
    if value.tlv and value.encoding == "binary":
        return ISO_CONTENT_TLV
    if value.encoding in ("latin1", "gbk", "gb18030", "utf8"):
        return {"latin1": ISO_CONTENT_LATIN1, "gbk": ISO_CONTENT_GBK, "gb18030": ISO_CONTENT_GB18030,
                "utf8": ISO_CONTENT_UTF8}[value.encoding]
    return {
        "b": ISO_CONTENT_B,
        "n": ISO_CONTENT_N,
        "a": ISO_CONTENT_A,
        "an": ISO_CONTENT_AN,
        "ans": ISO_CONTENT_ANS,
        "z": ISO_CONTENT_Z,
        "track2": ISO_CONTENT_TRACK2,
        "xn": ISO_CONTENT_XN,
    }[value.content]


@cython.final
cdef class Plan:
    cdef iso_plan plan
    cdef uint32_t variant
    cdef Item *items  # of plan.numbers

    def __dealloc__(self):
        PyMem_Free(self.items)


cdef class Codec:
    cdef Table *tables
    cdef uint32_t table_count
    cdef uint8_t *variant_of  # by MTI; NULL if there is one table only
    cdef uint32_t header_size
    cdef int32_t total_at     # where the header says the total length; -1: nowhere
    cdef list names           # per table: field name -> number
    cdef list specs           # per table: number -> FieldSpec
    cdef list plans
    cdef dict replies         # MTI -> (MTI of the response, numbers that it repeats)
    cdef readonly object definition
    cdef readonly object header

    def __cinit__(self):
        self.tables = NULL
        self.variant_of = NULL

    def __dealloc__(self):
        PyMem_Free(self.tables)
        PyMem_Free(self.variant_of)

    def __init__(self, definition, str header not None="none"):
        layout = HEADERS.get(header)
        if layout is None:
            raise SpecError(definition.name, "header", f"no header {header!r}; expected one of {', '.join(HEADERS)}")
        if self.tables != NULL:
            raise TypeError("a codec is made once")
        if len(definition.variants) >= VARIANT_MAX:
            raise SpecError(definition.name, "mti", f"more than {VARIANT_MAX - 1} variants")
        assert layout.size <= HEADER_SIZE_MAX
        self.definition = definition
        self.header = layout
        self.header_size = layout.size
        self.total_at = -1 if layout.total_at is None else layout.total_at
        self.table_count = 1 + len(definition.variants)
        self.tables = <Table *>PyMem_Calloc(self.table_count, sizeof(Table))
        if self.tables == NULL:
            raise MemoryError
        self.names = []
        self.specs = []
        self.plans = [None] * PLAN_COUNT
        self.replies = {}
        for index, variant in enumerate([None, *definition.variants]):
            self._fill_table(index, definition.fields_of(variant))
        if definition.variants:
            self._fill_variants()

    cdef int _fill_table(self, uint32_t index, fields) except -1:
        cdef Table *table = &self.tables[index]
        cdef iso_fault fault
        cdef uint32_t number
        definition = self.definition
        table.spec.mti_form = {"bcd": ISO_FORM_BCD, "ascii": ISO_FORM_ASCII,
                               "ebcdic": ISO_FORM_EBCDIC}[definition.mti_encoding]
        table.spec.bitmap_form = {"binary": ISO_BITMAP_BINARY, "hex": ISO_BITMAP_HEX,
                                  "hex_ebcdic": ISO_BITMAP_HEX_EBCDIC}[definition.bitmap]
        table.spec.field_max = definition.field_max
        names = {field.name: field.number for field in fields.values()}
        names["mti"] = 0
        for field in fields.values():
            number = field.number
            table.kinds[number] = _fill_field(field, &table.spec.fields[number])
            table.has_tree[number] = field.layout is not None or len(field.usages) > 0
            table.pads[number] = field.pad_side is not None
            if table.kinds[number] == KIND_BYTES or table.kinds[number] == KIND_HEX:
                table.plain[number] = PLAIN_BYTES
            elif not table.pads[number]:
                table.plain[number] = PLAIN_TEXT
            if field.encrypted_when is not None:
                table.secrets[<uint32_t>field.encrypted_when[0]] = 1
            if field.tlv and field.encoding == "binary":
                for sub in field.layout.subs:
                    if sub.repeat:
                        if table.spec.repeat_count >= ISO_REPEATS_MAX:
                            raise SpecError(definition.name, f"field.{number}",
                                            f"more than {ISO_REPEATS_MAX} tags that repeat")
                        table.spec.repeats[table.spec.repeat_count].tag = int(sub.key, 16)
                        table.spec.repeats[table.spec.repeat_count].field = <uint8_t>number
                        table.spec.repeat_count += 1
        if iso_spec_check(&table.spec, &fault) != ISO_OK:
            raise SpecError(definition.name, f"field.{fault.field}", "contradicts itself")
        for number in fields:
            table.readings[number] = iso_reading_of(&table.spec.fields[number], table.kinds[number])
            table.digits[number] = _digits_of(&table.spec.fields[number])
        self.names.append(names)
        self.specs.append(dict(fields))
        return 0

    cdef int _fill_variants(self) except -1:
        self.variant_of = <uint8_t *>PyMem_Calloc(10000, 1)
        if self.variant_of == NULL:
            raise MemoryError
        # The most particular pattern is written last, so it wins; of two equals the first in the file.
        order = sorted(enumerate(self.definition.variants, 1),
                       key=lambda item: (item[1].mti.count("x"), item[0]), reverse=True)
        for index, variant in order:
            numbers = [""]
            for character in variant.mti:
                numbers = [number + digit for number in numbers
                           for digit in ("0123456789" if character == "x" else character)]
            for number in numbers:
                self.variant_of[<uint32_t>int(number)] = <uint8_t>index
        return 0

    cdef inline uint32_t _variant(self, uint32_t mti) noexcept:
        return 0 if self.variant_of == NULL or mti > 9999 else self.variant_of[mti]

    cdef inline uint32_t _mti_size(self) noexcept:
        return 2 if self.tables[0].spec.mti_form == ISO_FORM_BCD else 4

    cdef Plan _plan(self, uint32_t variant, const uint64_t *present):
        """The plan for these bitmaps, None if there cannot be one."""
        cdef uint32_t slot = iso_plan_slot(present, variant)
        cdef PyObject *cached = <PyObject *>PyList_GET_ITEM(self.plans, slot)
        cdef Plan plan
        if cached != <PyObject *>None:
            plan = <Plan>cached
            if (plan.plan.present[0] == present[0] and plan.plan.present[1] == present[1]
                    and plan.plan.present[2] == present[2] and plan.variant == variant):
                return plan
        plan = Plan.__new__(Plan)
        plan.variant = variant
        if not iso_plan_make(&self.tables[variant].spec, present, &plan.plan):
            return None
        plan.items = <Item *>PyMem_Malloc(plan.plan.count * sizeof(Item))
        if plan.items == NULL:
            raise MemoryError
        iso_items_make(plan.items, &self.tables[variant], &plan.plan, _keys)
        self.plans[slot] = plan
        return plan

    def decode(self, data, *, bint strict=True):
        cdef bytes buffer
        cdef const uint8_t *start
        cdef Py_ssize_t size
        cdef iso_head head
        cdef Plan plan
        cdef Message message
        if type(data) is bytes:
            buffer = <bytes>data
        elif isinstance(data, (bytes, bytearray, memoryview)):
            # Copied once, so that the message stays what it was when the caller reuses the buffer.
            buffer = bytes(data)
        else:
            raise TypeError(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")
        size = PyBytes_GET_SIZE(buffer)
        start = <const uint8_t *>PyBytes_AS_STRING(buffer)
        # A lenient reader wants to know what is wrong inside the fields as well: never the short way.
        if (strict and self.header_size <= size <= ISO_MESSAGE_SIZE_MAX and (self.total_at < 0 or _total_is(self, start, size))
                and iso_head_read(&self.tables[0].spec, start, <uint32_t>size, self.header_size, &head)):
            plan = self._plan(self._variant(head.mti), head.present)
            if plan is not None:
                message = Message.__new__(Message)
                message._make_room(plan.plan.variable_count)
                if iso_plan_run(&plan.plan, start, <uint32_t>size, head.fields_offset, message._variables):
                    message._data = buffer
                    message._codec = self
                    message._plan = plan
                    message._mti = head.mti
                    message._start = <uint16_t>self.header_size
                    message._fields_offset = head.fields_offset
                    return message
        return _decode_slowly(self, buffer, strict)

    def encode(self, values, *, header=None):
        return _build(self, None, values, header, False, None)

    def number_of(self, key):
        return _number(self, 0, key)

    cdef object _field(self, uint32_t variant, uint32_t number):
        return (<dict>self.specs[variant])[number]


cdef bint _total_is(Codec codec, const uint8_t *data, Py_ssize_t size):
    """Do the four digits of the header count the whole message?"""
    cdef uint32_t total = 0
    cdef uint32_t i
    for i in range(4):
        if not 48 <= data[codec.total_at + i] <= 57:
            return False
        total = total * 10 + data[codec.total_at + i] - 48
    return total == size


# ---- messages ------------------------------------------------------------------------------------


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Message:
    cdef bytes _data
    cdef Codec _codec
    cdef Plan _plan
    cdef tuple _findings
    cdef iso_slice *_variables
    cdef uint16_t _mti
    cdef uint16_t _start          # of the MTI: the size of the header
    cdef uint16_t _fields_offset
    cdef iso_slice _inline[INLINE_VARIABLES]

    def __cinit__(self):
        self._variables = NULL

    def __init__(self, *args, **kwargs):
        raise TypeError("messages come from Spec.decode()")

    def __dealloc__(self):
        if self._variables != &self._inline[0]:
            PyMem_Free(self._variables)

    cdef inline int _make_room(self, uint32_t count) except -1:
        if count <= INLINE_VARIABLES:
            self._variables = &self._inline[0]
        else:
            self._variables = <iso_slice *>PyMem_Malloc(count * sizeof(iso_slice))
            if self._variables == NULL:
                raise MemoryError
        return 0

    cdef inline str _mti_text(self):
        return "" if self._mti == NO_MTI else iso_small_text(self._mti, 4)

    cdef inline bint _has(self, uint32_t number) noexcept:
        return self._plan.plan.places[number].kind != ISO_PLACE_ABSENT

    cdef inline object _value(self, uint32_t number):
        cdef const Table *table = &self._codec.tables[self._plan.variant]
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(self._data)
        cdef iso_slice slice = iso_plan_slice(&self._plan.plan, self._variables, self._fields_offset, number)
        if self._findings is None:
            value = iso_plain_value(table.readings[number], data + slice.offset, slice.size, slice.length)
            if value is not None:
                return value
        return _other_value(&table.spec.fields[number], table.kinds[number], data, &slice, self._findings is None)

    @property
    def spec(self):
        return self._codec

    @property
    def findings(self):
        return () if self._findings is None else _pleasant.copies(self._findings)

    @property
    def sound(self):
        return self._findings is None

    @property
    def header(self):
        return self._data[:self._start]

    @property
    def mti(self):
        return self._mti_text()

    @property
    def fields(self):
        return dict(self._codec.specs[self._plan.variant])

    def field(self, key):
        number = _number(self._codec, self._plan.variant, key)
        return self._codec._field(self._plan.variant, number)

    def __bytes__(self):
        return self._data

    def __len__(self):
        return self._plan.plan.count + 1

    def __iter__(self):
        return iter(_numbers(self))

    def __eq__(self, other):
        if isinstance(other, Message):
            if self._codec is (<Message>other)._codec and self._data == (<Message>other)._data:
                return True
            return self.to_dict() == other.to_dict()
        if isinstance(other, Mapping):
            return self.to_dict() == dict(other)
        return NotImplemented

    # Equal to dicts, so hashed like them: not at all.
    __hash__ = None

    def __contains__(self, key):
        cdef long number = iso_small_key(key)
        if number > 0:
            return self._has(<uint32_t>number)
        try:
            if type(key) is str and "." in <str>key:
                _by_path(self, <str>key)
                return True
            number = _number(self._codec, self._plan.variant, key)
        except KeyError:
            return False
        return number == 0 or self._has(number)

    def __getitem__(self, key):
        cdef long number = iso_small_key(key)
        if number > 0:
            if self._has(<uint32_t>number):
                return self._value(<uint32_t>number)
        elif type(key) is str and "." in <str>key:
            return _by_path(self, <str>key)
        number = _number(self._codec, self._plan.variant, key)
        if number == 0:
            return self._mti_text()
        if not self._has(<uint32_t>number):
            raise KeyError(key)
        return self._value(<uint32_t>number)

    def get(self, key, default=None):
        cdef long number = iso_small_key(key)
        if number > 0:
            return self._value(<uint32_t>number) if self._has(<uint32_t>number) else default
        try:
            if type(key) is str and "." in <str>key:
                return _by_path(self, <str>key)
            number = _number(self._codec, self._plan.variant, key)
        except KeyError:
            return default
        if number == 0:
            return self._mti_text()
        return self._value(<uint32_t>number) if self._has(<uint32_t>number) else default

    def pick(self, tuple numbers not None):
        cdef Py_ssize_t count = len(numbers)
        cdef Py_ssize_t i
        cdef long number
        cdef object value
        cdef tuple result = PyTuple_New(count)
        for i in range(count):
            number = iso_small_key(<object>PyTuple_GET_ITEM(numbers, i))
            if number > 0:
                value = self._value(<uint32_t>number) if self._has(<uint32_t>number) else None
            else:
                value = self.get(<object>PyTuple_GET_ITEM(numbers, i))
            Py_INCREF(value)
            PyTuple_SET_ITEM(result, i, value)
        return result

    def keys(self):
        return self.to_dict().keys()

    def values(self):
        return self.to_dict().values()

    def items(self):
        return self.to_dict().items()

    def raw(self, key):
        cdef uint32_t number = _number(self._codec, self._plan.variant, key)
        cdef iso_slice slice
        if number == 0:
            return self._data[self._start:self._start + self._codec._mti_size()]
        if not self._has(number):
            raise KeyError(key)
        slice = iso_plan_slice(&self._plan.plan, self._variables, self._fields_offset, number)
        return self._data[slice.offset:slice.offset + slice.size]

    def span(self, key):
        cdef uint32_t number = _number(self._codec, self._plan.variant, key)
        cdef uint32_t start = 0
        cdef uint32_t size
        if number == 0:
            return self._start, self._fields_offset - self._start
        if not self._has(number):
            raise KeyError(key)
        size = iso_plan_span(&self._plan.plan, self._variables, self._fields_offset, number, &start)
        return start, size

    def to_dict(self, *, bint nested=False):
        cdef const iso_plan *plan = &self._plan.plan
        cdef dict result = _presized_dict(plan.count + 1)
        cdef const Table *table
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(self._data)
        cdef const Item *end = self._plan.items + plan.count
        cdef Cursor cursor
        cdef uint32_t number
        PyDict_SetItem(result, <object>_keys[0], self._mti_text())
        if nested or self._findings is not None:
            return _to_dict_slowly(self, result, nested)
        cursor.item = self._plan.items
        cursor.variable = self._variables
        cursor.run = self._fields_offset
        while True:
            iso_items_read(result, data, end, &cursor)
            if cursor.item == end:
                return result
            number = cursor.item.number
            table = &self._codec.tables[self._plan.variant]
            PyDict_SetItem(result, <object>_keys[number],
                           _other_value(&table.spec.fields[number], table.kinds[number], data, &cursor.slice, True))
            cursor.item += 1

    def patched(self, values, *, header=None):
        cdef bytes result
        if header is None and type(values) is dict and self._findings is None and self._codec.total_at < 0:
            result = _patched_in_place(self, <dict>values)
            if result is not None:
                return result
        return _build(self._codec, self, values, self._data[:self._start] if header is None else header, True, None)

    def reply(self, values, *, header=None):
        cdef Codec codec = self._codec
        plan = codec.replies.get(self._mti)
        if plan is None:
            plan = _reply_plan(codec, self.mti)
            codec.replies[self._mti] = plan  # bounded: only MTIs that the spec lists get here
        if header is None:
            header = codec.header.turned(self._data[:self._start])
        return _build(codec, self, values, header, False, plan)

    def mab(self):
        return _pleasant.mab(self)

    def masked(self, key):
        return _pleasant.masked(self, key)

    def __repr__(self):
        return _pleasant.represent(self)

    def __reduce__(self):
        return _pleasant.rebuild, (self._codec, self._data, self._findings is None)


Mapping.register(Message)


cdef dict _to_dict_slowly(Message message, dict result, bint nested):
    cdef const Table *table = &message._codec.tables[message._plan.variant]
    cdef uint32_t number
    for number in _numbers(message)[1:]:
        value = message._value(number)
        if nested and table.has_tree[number]:
            value = _pleasant.tree(message, number, value)
        result[number] = value
    return result


cdef list _numbers(Message message):
    cdef list numbers = [0]
    cdef uint32_t i
    for i in range(message._plan.plan.count):
        numbers.append(message._plan.plan.numbers[i])
    return numbers


cdef int32_t _number(Codec codec, uint32_t variant, key) except -1:
    """Number of a field by number or name; KeyError if there is no such thing."""
    cdef object number
    if isinstance(key, int) and not isinstance(key, bool):
        if key == 0 or 2 <= key <= ISO_FIELD_MAX:
            return key
        raise KeyError(key)
    if isinstance(key, str):
        number = (<dict>codec.names[variant]).get(key)
        if number is not None:
            return number
        # "55" is the head of the path "55.9F26".
        if key.isascii() and key.isdigit() and len(key) <= 3:
            return _number(codec, variant, int(key))
    raise KeyError(key)


cdef object _by_path(Message message, str path):
    """A value inside a field. The common case, a tag of a BER-TLV field, is found without building anything."""
    cdef Codec codec = message._codec
    cdef uint32_t variant = message._plan.variant
    head, _, rest = path.partition(".")
    cdef uint32_t number = _number(codec, variant, head)
    cdef iso_slice slice
    cdef object found
    if number == 0 or not message._has(number):
        raise KeyError(path)
    if codec.tables[variant].spec.fields[number].content == ISO_CONTENT_TLV and "." not in rest:
        field = codec._field(variant, number)
        tag = rest.upper()
        if tag not in field.layout.by_key:
            slice = iso_plan_slice(&message._plan.plan, message._variables, message._fields_offset, number)
            found = _find_tag(message._data, slice.offset, slice.size, tag)
            if found is not None:
                return found
    return _pleasant.by_path(message, number, path, rest)


cdef object _find_tag(bytes data, uint32_t start, uint32_t size, str wanted):
    cdef const uint8_t *field = <const uint8_t *>PyBytes_AS_STRING(data) + start
    cdef uint32_t offset = 0
    cdef iso_tlv found
    cdef bytes tag
    try:
        tag = bytes.fromhex(wanted)
    except ValueError:
        return None
    while offset < size:
        if iso_tlv_next(field, size, &offset, &found) != ISO_OK:
            return None
        if (found.tag_size == <uint32_t>len(tag) and found.tag_size
                and memcmp(field + found.tag_offset, PyBytes_AS_STRING(tag), found.tag_size) == 0):
            return PyBytes_FromStringAndSize(<const char *>field + found.value_offset, found.value_size)
    return None


# ---- reading what a plan cannot ------------------------------------------------------------------


cdef Message _decode_slowly(Codec codec, bytes buffer, bint strict):
    """Messages with a fault, and messages that are too strange to be worth a plan."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(buffer)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(buffer)
    cdef iso_layout layout
    cdef iso_fault faults[FAULTS_MAX]
    cdef uint32_t count
    cdef uint32_t i
    cdef uint32_t mti = 0
    cdef uint32_t variant = 0
    cdef list findings = []
    cdef Message message
    if size < <Py_ssize_t>codec.header_size:
        error = _with_source(codec, buffer, DecodeError(
            "truncated", "header", 0, f"expected {codec.header_size} bytes in front of the MTI, got {size}",
            expected=f"{codec.header_size} bytes", got=f"{size} bytes"))
        if strict:
            raise error
        return _empty_message(codec, buffer, size, (error,))
    if codec.total_at >= 0 and not _total_is(codec, data, size):
        findings.append(_with_source(codec, buffer, DecodeError(
            "header", "header", codec.total_at, expected=f"the total length, {size}, as four digits",
            got="another length, or no digits")))
        if strict:
            raise findings[0]
    # The core counts in 32 bits; anything above its limit is refused there as one size too large.
    if iso_mti_read(&codec.tables[0].spec, data, <uint32_t>min(size, <Py_ssize_t>ISO_MESSAGE_SIZE_MAX + 1),
                    codec.header_size, &mti, &faults[0]) != ISO_OK:
        error = _decode_error(codec, 0, buffer, &faults[0])
        if strict:
            raise error
        findings.append(error)
        return _empty_message(codec, buffer, codec.header_size, tuple(findings))
    variant = codec._variant(mti)
    count = iso_index(&codec.tables[variant].spec, data, <uint32_t>size, codec.header_size, &layout, faults,
                      1 if strict else FAULTS_MAX)
    if count == 0 and not findings and strict:
        message = _message_of(codec, buffer, variant, &layout)
        return message
    for i in range(count):
        findings.append(_decode_error(codec, variant, buffer, &faults[i]))
    if strict:
        raise findings[0]
    message = _message_of(codec, buffer, variant, &layout)
    if layout.head.fields_offset == 0:
        # The bitmap is no bitmap: there is an MTI, and nothing behind it.
        message._mti = <uint16_t>mti
        message._fields_offset = <uint16_t>(codec.header_size + codec._mti_size())
    message._findings = ()  # from here on values are read with care
    findings.extend(_pleasant.check_trees(message, findings))
    message._findings = tuple(sorted(findings, key=lambda error: error.offset)) if findings else None
    return message


cdef Message _message_of(Codec codec, bytes buffer, uint32_t variant, const iso_layout *layout):
    """A message of the fields in a layout, which may be fewer than the bytes announce."""
    cdef Plan plan = codec._plan(variant, layout.head.present)
    cdef Message message
    cdef uint32_t i
    cdef uint32_t filled = 0
    if plan is None:
        raise AssertionError("no plan for fields that the core has found")
    message = Message.__new__(Message)
    message._make_room(plan.plan.variable_count)
    for i in range(plan.plan.count):
        if plan.plan.places[plan.plan.numbers[i]].kind == ISO_PLACE_VARIABLE:
            message._variables[filled] = layout.slices[i]
            filled += 1
    message._data = buffer
    message._codec = codec
    message._plan = plan
    message._mti = layout.head.mti
    message._start = <uint16_t>codec.header_size
    message._fields_offset = layout.head.fields_offset
    return message


cdef Message _empty_message(Codec codec, bytes buffer, Py_ssize_t start, tuple findings):
    cdef uint64_t nothing[3]
    cdef Message message = Message.__new__(Message)
    memset(nothing, 0, sizeof(nothing))
    message._make_room(0)
    message._data = buffer
    message._codec = codec
    message._plan = codec._plan(0, nothing)
    message._mti = NO_MTI
    message._start = <uint16_t>min(start, ISO_MESSAGE_SIZE_MAX)
    message._fields_offset = message._start
    message._findings = findings
    return message


def message_so_far(Codec codec not None, bytes buffer not None, uint32_t offset):
    """The fields in front of byte `offset`, as a message; None if not even the MTI is there."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(buffer)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(buffer)
    cdef iso_layout layout
    cdef iso_fault faults[FAULTS_MAX]
    cdef uint32_t mti = 0
    cdef uint32_t variant
    cdef uint32_t number
    cdef Message message
    if size < <Py_ssize_t>codec.header_size or size > ISO_MESSAGE_SIZE_MAX:
        return None
    if iso_mti_read(&codec.tables[0].spec, data, <uint32_t>size, codec.header_size, &mti, &faults[0]) != ISO_OK:
        return None
    variant = codec._variant(mti)
    iso_index(&codec.tables[variant].spec, data, <uint32_t>size, codec.header_size, &layout, faults, FAULTS_MAX)
    if layout.head.fields_offset == 0:
        return None
    message = _message_of(codec, buffer, variant, &layout)
    for number in _numbers(message)[1:]:
        if message.span(number)[0] >= offset:
            layout.head.present[(number - 1) >> 6] &= ~_bit(number)
    message = _message_of(codec, buffer, variant, &layout)
    message._findings = ()
    return message


# ---- building ------------------------------------------------------------------------------------

cdef inline uint64_t _bit(uint32_t number) noexcept:
    return (<uint64_t>1) << (63 - ((number - 1) & 63))


cdef int _take(Codec codec, uint32_t variant, Draft *draft, object key, object value, object values,
               object mti) except -1:
    """Put one value into the draft that iso_take_plain has left. The MTI has been dealt with."""
    cdef const Table *table = &codec.tables[variant]
    cdef long number = _number_given(codec, variant, key)
    cdef uint32_t word
    cdef uint64_t bit
    if number == 0:
        if values.get(_ZERO) is not None and values.get(_MTI) is not None:
            raise EncodeError("duplicate", "mti", "given twice, by number and by name")
        return 0
    word = <uint32_t>(number - 1) >> 6
    bit = _bit(<uint32_t>number)
    if draft.seen[word] & bit:
        raise EncodeError("duplicate", str(number), "given twice, by number and by name")
    draft.seen[word] |= bit
    # First: a field that the old type of message had and the new one has not may be taken away.
    if value is None and draft.present[word] & bit:
        draft.present[word] &= ~bit
        return 0
    if not table.spec.defined[word] & bit:
        _raise_undefined(codec, variant, <uint32_t>number)
    if value is None:
        return 0
    draft.present[word] |= bit
    return _fill(codec, variant, <uint32_t>number, value, draft, values, mti)


cdef int _take_carefully(Codec codec, uint32_t variant, Draft *draft, object key, object value, dict values,
                         object mti) except -1:
    """The same for a value of a dict whose values are not held yet: from here on Python code may run and change it."""
    if not draft.careful:
        draft.careful = True
        iso_draft_hold(draft, values.copy())
    return _take(codec, variant, draft, key, value, values, mti)


cdef long _number_given(Codec codec, uint32_t variant, key) except -1:
    try:
        return _number(codec, variant, key)
    except KeyError:
        pass
    name = codec.definition.name
    known = codec.names[variant]
    near = get_close_matches(key, known, 1) if isinstance(key, str) and len(key) <= 32 else []
    hint = f"; did you mean {near[0]}?" if near else ""
    raise EncodeError("undefined", _shown(key), f"not defined in spec {name}{hint}")


cdef int _raise_undefined(Codec codec, uint32_t variant, uint32_t number) except -1:
    if variant and number in <dict>codec.specs[0]:
        pattern = codec.definition.variants[variant - 1].mti
        raise EncodeError("undefined", str(number), f"messages {pattern} of spec {codec.definition.name} do not have it")
    raise EncodeError("undefined", str(number), f"not defined in spec {codec.definition.name}")


cdef int _fill(Codec codec, uint32_t variant, uint32_t number, object value, Draft *draft, object values,
               object mti) except -1:
    cdef const Table *table = &codec.tables[variant]
    cdef uint8_t kind = table.kinds[number]
    cdef iso_value *out = &draft.values[number]
    cdef Py_ssize_t size
    out.as_wire = False
    if type(value) is str:
        if kind != KIND_BYTES and kind != KIND_HEX:
            if table.pads[number]:
                value = _padded(codec._field(variant, number), <str>value)
            if not PyUnicode_IS_ASCII(value):
                value = _encoded(codec, variant, number, kind, <str>value)
                iso_draft_hold(draft, value)
                out.data = <const uint8_t *>PyBytes_AS_STRING(value)
                size = PyBytes_GET_SIZE(value)
            else:
                iso_draft_hold(draft, value)
                out.data = <const uint8_t *>PyUnicode_DATA(value)
                size = PyUnicode_GET_LENGTH(value)
            # The core refuses what is too long; its size type is narrower than Python's.
            out.size = <uint32_t>min(size, <Py_ssize_t>ISO_MESSAGE_SIZE_MAX + 1)
            return 0
    elif type(value) is bytes and (kind == KIND_BYTES or kind == KIND_HEX):
        iso_draft_hold(draft, value)
        out.data = <const uint8_t *>PyBytes_AS_STRING(value)
        out.size = <uint32_t>min(PyBytes_GET_SIZE(value), <Py_ssize_t>ISO_MESSAGE_SIZE_MAX + 1)
        return 0
    elif isinstance(value, int) and not isinstance(value, bool) and kind != KIND_BYTES and kind != KIND_HEX:
        return _fill_number(codec, variant, number, value, draft)
    return _fill_other(codec, variant, number, value, draft, values, mti)


cdef inline uint32_t _digits_of(const iso_field *field) noexcept:
    """Digits that an int is written with; 0 if the field takes none."""
    if field.content != ISO_CONTENT_N or field.prefix_digits != 0:
        return 0
    return field.length_max * (2 if field.packing != ISO_PACK_BYTES and field.unit == ISO_UNIT_BYTES else 1)


cdef int _fill_number(Codec codec, uint32_t variant, uint32_t number, object value, Draft *draft) except -1:
    """An int in a numeric field of fixed length that iso_take_plain has left: leading zeros are added."""
    cdef const iso_field *field = &codec.tables[variant].spec.fields[number]
    cdef iso_value *out = &draft.values[number]
    if field.content != ISO_CONTENT_N:
        raise EncodeError("type", str(number), "expected str; only numeric fields take an int")
    if field.prefix_digits != 0:
        # 01234567 would silently become 1234567.
        raise EncodeError("type", str(number), "expected str; an int has no leading zeros and the length varies")
    if value < 0:
        raise EncodeError("content", str(number), "expected digits, got a negative number")
    # Python refuses to write out very large numbers.
    text = "" if value.bit_length() > 64 + 4 * _digits_of(field) else str(value).zfill(_digits_of(field))
    if not 0 < len(text) <= _digits_of(field):
        raise EncodeError("length", str(number), expected=codec._field(variant, number).expected(),
                          got=str(len(text)) if text else "many more")
    iso_draft_hold(draft, text)
    out.data = <const uint8_t *>PyUnicode_DATA(text)
    out.size = <uint32_t>len(text)
    return 0


cdef int _fill_other(Codec codec, uint32_t variant, uint32_t number, object value, Draft *draft, object values,
                     object mti) except -1:
    """Buffers, trees of sub-fields, subclasses of str; and what no field takes."""
    cdef const Table *table = &codec.tables[variant]
    cdef uint8_t kind = table.kinds[number]
    cdef iso_value *out = &draft.values[number]
    cdef iso_slice slice
    cdef bint binary = kind == KIND_BYTES or kind == KIND_HEX
    if binary and isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
    elif not binary and isinstance(value, str):
        return _fill(codec, variant, number, str(value), draft, values, mti)
    elif table.has_tree[number] and isinstance(value, (Mapping, list, tuple)):
        value = _pleasant.encode_tree(codec, codec._field(variant, number), value, values, mti)
        if kind == KIND_EBCDIC:
            # The tree is in bytes as transmitted, the builder wants characters.
            slice.offset = 0
            slice.size = slice.length = <uint16_t>min(len(value), <Py_ssize_t>ISO_MESSAGE_SIZE_MAX)
            characters = PyBytes_FromStringAndSize(NULL, slice.size)
            iso_value_write(&table.spec.fields[number], <const uint8_t *>PyBytes_AS_STRING(value), &slice,
                            <uint8_t *>PyBytes_AS_STRING(characters))
            value = characters
    else:
        wanted = "bytes" if binary else "str"
        more = ", or a tree of sub-fields" if table.has_tree[number] else ""
        raise EncodeError("type", str(number), expected=f"{wanted}{more}", got=type(value).__name__)
    iso_draft_hold(draft, value)
    out.data = <const uint8_t *>PyBytes_AS_STRING(value)
    out.size = <uint32_t>min(PyBytes_GET_SIZE(value), <Py_ssize_t>ISO_MESSAGE_SIZE_MAX + 1)
    return 0


cdef str _padded(field, str value):
    """A value that is shorter than its fixed length, filled up."""
    cdef Py_ssize_t count = field.length_max
    if field.packed and field.length_unit == "bytes":
        count *= 2
    if field.encoding in ("gbk", "gb18030", "utf8"):
        count -= len(value.encode(GB if field.encoding.startswith("gb") else "utf-8", "replace")) - len(value)
    if field.pad_side == "left":
        return value.rjust(max(count, 0), field.pad_character)
    return value.ljust(max(count, 0), field.pad_character)


cdef bytes _encoded(Codec codec, uint32_t variant, uint32_t number, uint8_t kind, str value):
    if kind not in (KIND_GB, KIND_UTF8, KIND_LATIN1, KIND_EBCDIC):
        content = CONTENTS[codec._field(variant, number).content]
        raise EncodeError("content", str(number), f"expected {content}")
    try:
        return value.encode(GB if kind == KIND_GB else "utf-8" if kind == KIND_UTF8 else "latin-1")
    except UnicodeEncodeError:
        pass
    # Raised out here: even with `from None` the original error, and the text in it, would hang on ours.
    encoding = codec._field(variant, number).encoding.upper()
    raise EncodeError("text", str(number), f"a character is not in {encoding}")


cdef object _ZERO = 0
cdef object _MTI = "mti"


cdef object _mti_given(values):
    """The MTI of a mapping of values, or None. Given twice is found by _take, which sees all keys."""
    cdef PyObject *found
    if type(values) is dict:
        found = PyDict_GetItemWithError(values, _ZERO)
        if found == NULL or found == <PyObject *>None:
            found = PyDict_GetItemWithError(values, _MTI)
        return None if found == NULL else <object>found
    number = values.get(_ZERO)
    return values.get(_MTI) if number is None else number


cdef inline int32_t _mti_number(object mti) except -1:
    """Value of four ASCII digits."""
    cdef const uint8_t *text
    cdef int32_t number = 0
    cdef uint32_t i
    if type(mti) is not str:
        if not isinstance(mti, str):
            raise EncodeError("type", "mti", expected="str", got=type(mti).__name__)
        mti = str(mti)
    if PyUnicode_IS_ASCII(mti) and PyUnicode_GET_LENGTH(mti) == 4:
        text = <const uint8_t *>PyUnicode_DATA(mti)
        for i in range(4):
            if not 48 <= text[i] <= 57:
                break
            number = number * 10 + text[i] - 48
        else:
            return number
    raise EncodeError("mti", "mti", "expected four digits")


cdef bytes _build(Codec codec, Message origin, values, header, bint keep_all, reply):
    """Encode `values` on top of `origin` (or nothing).

    Args:
        keep_all: All fields of `origin` stay.
        reply: (MTI of the response, numbers of the fields of `origin` that stay), or None.
    """
    cdef Draft draft
    cdef iso_fault fault
    cdef iso_status status
    cdef uint32_t variant
    cdef uint32_t size = 0
    cdef Py_ssize_t front_size
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    cdef PyObject *value
    cdef uint8_t short[SHORT_SIZE]
    cdef bytes out
    cdef object mti
    cdef bytes front = _header(codec, header)
    if type(values) is not dict and not isinstance(values, Mapping):
        raise TypeError(f"values must be a mapping of fields, not {type(values).__name__}")
    mti = _mti_given(values)
    if mti is None:
        if reply is not None:
            mti = reply[0]
        elif keep_all:
            mti = origin._mti_text()
        else:
            raise EncodeError("missing", "mti", "give the MTI as field 0")
    variant = codec._variant(<uint32_t>_mti_number(mti))

    iso_draft_start(&draft)
    try:
        if origin is not None:
            _inherit(codec, variant, origin, &draft, keep_all, reply)
        if type(values) is dict:
            while PyDict_Next(values, &position, &key, &value):
                if not iso_take_plain(&codec.tables[variant], &draft, <object>key, <object>value):
                    _take_carefully(codec, variant, &draft, <object>key, <object>value, <dict>values, mti)
        else:
            for one, other in values.items():
                _take(codec, variant, &draft, one, other, values, mti)

        iso_build_announce(draft.present)
        front_size = PyBytes_GET_SIZE(front)
        if front_size:
            memcpy(short, PyBytes_AS_STRING(front), front_size)
        status = iso_build(&codec.tables[variant].spec, <const uint8_t *>PyUnicode_DATA(mti), draft.present,
                           draft.values, short + front_size, <uint32_t>(SHORT_SIZE - front_size), &size, &fault)
        if status == ISO_OK:
            out = PyBytes_FromStringAndSize(<const char *>short, front_size + <Py_ssize_t>size)
        elif status == ISO_E_SPACE:
            out = _build_long(codec, variant, &draft, mti, front)
        else:
            raise _encode_error(codec, variant, &fault)
    finally:
        iso_draft_end(&draft)
    if codec.total_at >= 0:
        memcpy(PyBytes_AS_STRING(out) + codec.total_at, PyBytes_AS_STRING(b"%04d" % len(out)), 4)
    return out


cdef bytes _build_long(Codec codec, uint32_t variant, Draft *draft, object mti, bytes front):
    """Write a message that does not fit the buffer on the stack: count first."""
    cdef const iso_spec *spec = &codec.tables[variant].spec
    cdef Py_ssize_t front_size = PyBytes_GET_SIZE(front)
    cdef uint64_t total = iso_build_base_size(spec, draft.present) + _fields_size(spec, draft)
    cdef uint32_t size = 0
    cdef iso_fault fault
    cdef bytes out
    if total + front_size > ISO_MESSAGE_SIZE_MAX:
        raise _too_large(codec, variant, draft)
    out = PyBytes_FromStringAndSize(NULL, front_size + <Py_ssize_t>total)
    memcpy(PyBytes_AS_STRING(out), PyBytes_AS_STRING(front), front_size)
    if iso_build(spec, <const uint8_t *>PyUnicode_DATA(mti), draft.present, draft.values,
                 <uint8_t *>PyBytes_AS_STRING(out) + front_size, <uint32_t>total, &size, &fault) != ISO_OK:
        raise _encode_error(codec, variant, &fault)
    if size != total:
        raise AssertionError("a message of another size than was counted")
    return out


cdef uint64_t _fields_size(const iso_spec *spec, const Draft *draft):
    cdef uint64_t total = 0
    cdef uint64_t left
    cdef uint32_t word
    cdef uint32_t number
    for word in range(ISO_BITMAPS_MAX):
        left = draft.present[word] & spec.defined[word]
        while left:
            number = word * 64 + 64 - _last_bit(left)
            left &= left - 1
            total += iso_build_field_size(&spec.fields[number], &draft.values[number])
    return total


cdef object _too_large(Codec codec, uint32_t variant, Draft *draft):
    """Name the field that is too long by itself, if there is one."""
    cdef uint32_t number
    for number in range(2, ISO_TABLE_SIZE):
        if (draft.present[(number - 1) >> 6] & _bit(number)
                and codec.tables[variant].spec.defined[(number - 1) >> 6] & _bit(number)
                and draft.values[number].size > ISO_MESSAGE_SIZE_MAX):
            return EncodeError("length", str(number), expected=codec._field(variant, number).expected(),
                               got=f"more than {ISO_MESSAGE_SIZE_MAX}")
    return EncodeError("size", "message", f"larger than {ISO_MESSAGE_SIZE_MAX} bytes")


cdef int _inherit(Codec codec, uint32_t variant, Message origin, Draft *draft, bint keep_all, reply) except -1:
    """Put the fields of `origin` that stay into the draft, as they were transmitted."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(origin._data)
    cdef uint32_t number
    cdef uint32_t start = 0
    cdef bint same = origin._plan.variant == variant
    cdef list kept = _numbers(origin)[1:] if keep_all else [each for each in reply[1] if origin._has(each)]
    if keep_all:
        # An empty bitmap is kept: the rest of a patched message does not change.
        draft.present[0] |= origin._plan.plan.present[0] & _bit(1)
        if codec.definition.field_max > 128:
            draft.present[1] |= origin._plan.plan.present[1] & _bit(65)
    for number in kept:
        if same or memcmp(&codec.tables[variant].spec.fields[number],
                          &codec.tables[origin._plan.variant].spec.fields[number], sizeof(iso_field)) == 0:
            draft.values[number].size = iso_plan_span(
                &origin._plan.plan, origin._variables, origin._fields_offset, number, &start)
            draft.values[number].data = data + start
            draft.values[number].as_wire = True
        else:
            # Another type of message writes the field another way, or does not have it. Nothing is dropped unasked: the
            # builder refuses what is still there then.
            if codec.tables[variant].spec.defined[(number - 1) >> 6] & _bit(number):
                _fill(codec, variant, number, origin._value(number), draft, origin, origin.mti)
            elif reply is not None:
                continue
        draft.present[(number - 1) >> 6] |= _bit(number)
    return 0


cdef bytes _patched_in_place(Message message, dict values):
    """The message with values of the same size written over the old ones; None if it takes more than that."""
    cdef Codec codec = message._codec
    cdef uint32_t variant = message._plan.variant
    cdef const iso_spec *spec = &codec.tables[variant].spec
    cdef Draft draft
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    cdef PyObject *value
    cdef uint32_t number
    cdef uint32_t start = 0
    cdef uint32_t size
    cdef uint32_t written = 0
    cdef uint32_t index = 0
    cdef int given
    cdef uint32_t word
    cdef uint64_t left
    cdef iso_status status
    cdef iso_fault fault
    cdef bytes out
    iso_draft_start(&draft)
    try:
        while PyDict_Next(values, &position, &key, &value):
            given = iso_small_key(<object>key)
            if given == 0 or value == <PyObject *>None or (given < 0 and <object>key == _MTI):
                return None
            if type(<object>value) is not str and type(<object>value) is not bytes and type(<object>value) is not int:
                return None  # may run code of its own, which must not run twice
            if not iso_take_plain(&codec.tables[variant], &draft, <object>key, <object>value):
                _take_carefully(codec, variant, &draft, <object>key, <object>value, values, message._mti_text())
        for word in range(ISO_BITMAPS_MAX):
            left = draft.present[word]
            while left:
                number = word * 64 + 64 - _last_bit(left)
                left &= left - 1
                # What depends on other fields or tags is checked by the builder.
                if (not message._has(number) or spec.fields[number].content == ISO_CONTENT_TLV
                        or spec.fields[number].content == ISO_CONTENT_TRACK2
                        or codec.tables[variant].secrets[number]):
                    return None
                size = iso_plan_span(&message._plan.plan, message._variables, message._fields_offset, number, &start)
                if iso_build_field_size(&spec.fields[number], &draft.values[number]) != size:
                    return None
        out = PyBytes_FromStringAndSize(PyBytes_AS_STRING(message._data), PyBytes_GET_SIZE(message._data))
        for word in range(ISO_BITMAPS_MAX):
            left = draft.present[word]
            while left:
                number = word * 64 + 64 - _last_bit(left)
                left &= left - 1
                size = iso_plan_span(&message._plan.plan, message._variables, message._fields_offset, number, &start)
                status = iso_field_write(&spec.fields[number], &draft.values[number],
                                         <uint8_t *>PyBytes_AS_STRING(out) + start, size, &written, &index)
                if status != ISO_OK:
                    fault.status = status
                    fault.field = number
                    fault.offset = start
                    fault.position = index
                    fault.length = draft.values[number].size
                    raise _encode_error(codec, variant, &fault)
    finally:
        iso_draft_end(&draft)
    return out


cdef tuple _reply_plan(Codec codec, str mti):
    """(MTI of the response, fields that it repeats). A repeat is answered like the original."""
    response = mti_module.response(mti)
    original = f"{mti[:3]}{int(mti[3]) & ~1}"
    echoed = dict(codec.definition.reply).get(original)
    if echoed is None:
        raise EncodeError("reply", "mti", f"spec {codec.definition.name} has no [reply] entry for {original}")
    return response, echoed


cdef bytes _header(Codec codec, header):
    if header is None:
        header = b""
    elif type(header) is not bytes:
        if not isinstance(header, (bytes, bytearray, memoryview)):
            raise EncodeError("type", "header", expected="bytes", got=type(header).__name__)
        header = bytes(header)
    if PyBytes_GET_SIZE(header) != <Py_ssize_t>codec.header_size:
        raise EncodeError("header", "header",
                          f"expected {codec.header_size} bytes in front of the MTI, got {len(header)}")
    return <bytes>header


# ---- single values -------------------------------------------------------------------------------


@cython.final
cdef class ValueCodec:
    """One value that belongs to no message: a sub-field."""

    cdef iso_field entry
    cdef uint8_t kind
    cdef readonly object spec

    def __init__(self, spec):
        self.spec = spec
        self.kind = _fill_field(spec, &self.entry)
        # What may be encrypted, or takes what is left, is for the caller to say.
        self.entry.secret_field = 0
        if self.entry.prefix_digits == 0:
            self.entry.length_min = self.entry.length_max
        if not iso_field_check(&self.entry):
            raise SpecError(spec.place, "", "contradicts itself")

    def read(self, bytes data not None, uint32_t offset, uint32_t end, str path not None, uint32_t base=0):
        cdef iso_field entry = self.entry
        cdef iso_slice slice
        cdef iso_fault fault
        cdef uint32_t at = offset
        cdef uint32_t length
        if end > <uint32_t>min(PyBytes_GET_SIZE(data), <Py_ssize_t>ISO_MESSAGE_SIZE_MAX) or offset > end:
            raise ValueError(f"offset {offset} and end {end} are not inside the data ({len(data)} bytes)")
        if entry.prefix_digits == 0 and self.spec.length_min != self.spec.length_max:
            # It takes what is left.
            length = _length_in_unit(&entry, end - offset)
            if not self.spec.length_min <= length <= self.spec.length_max:
                raise DecodeError("length", path, base + offset, expected=self.spec.expected(), got=str(length))
            if entry.packing == ISO_PACK_HEX and entry.unit == ISO_UNIT_DIGITS and length % 2:
                raise DecodeError("length", path, base + offset, expected="whole bytes", got=f"{length} digits")
            if length == 0 and entry.content != ISO_CONTENT_TRACK2:
                return ("" if self.spec.type is str else b""), offset
            entry.length_min = entry.length_max = <uint16_t>length
        if iso_field_read(&entry, <const uint8_t *>PyBytes_AS_STRING(data), end, &at, &slice, &fault) != ISO_OK:
            raise _fault_error(self.spec, fault.status, path, base + offset, base + fault.position, fault.length,
                               data[fault.position] if fault.position < end else 0)
        return _other_value(&entry, self.kind, <const uint8_t *>PyBytes_AS_STRING(data), &slice, True), at

    def write(self, value, str path not None):
        cdef iso_field entry = self.entry
        cdef iso_value given
        cdef uint32_t size = 0
        cdef uint32_t position = 0
        cdef iso_status status
        cdef bytes characters
        cdef bytes out
        cdef uint32_t count
        binary = self.kind == KIND_BYTES or self.kind == KIND_HEX
        if binary:
            if not isinstance(value, (bytes, bytearray, memoryview)):
                raise EncodeError("type", path, expected="bytes", got=type(value).__name__)
            characters = bytes(value)
        else:
            if isinstance(value, int) and not isinstance(value, bool):
                if entry.content != ISO_CONTENT_N or not self.spec.fixed:
                    raise EncodeError("type", path, "expected str; only numeric values of fixed length take an int")
                if value < 0:
                    raise EncodeError("content", path, "expected digits, got a negative number")
                count = entry.length_max * (2 if self.spec.packed and entry.unit == ISO_UNIT_BYTES else 1)
                value = str(value).zfill(count)
            if not isinstance(value, str):
                raise EncodeError("type", path, expected="str", got=type(value).__name__)
            if self.spec.pad_side is not None:
                value = _padded(self.spec, str(value))
            characters = self._encoded(str(value), path)
        if len(characters) > ISO_MESSAGE_SIZE_MAX:
            raise EncodeError("length", path, expected=self.spec.expected(), got=f"more than {ISO_MESSAGE_SIZE_MAX}")
        if entry.prefix_digits == 0 and self.spec.length_min != self.spec.length_max:
            if self.kind == KIND_HEX:
                length = len(characters) * 2 if entry.unit == ISO_UNIT_DIGITS else len(characters)
            elif entry.packing == ISO_PACK_BYTES:
                length = _length_in_unit(&entry, <uint32_t>len(characters))
            elif entry.unit == ISO_UNIT_DIGITS:
                length = len(characters)
            elif len(characters) % 2:
                raise EncodeError("length", path, expected="an even count of digits", got=str(len(characters)))
            else:
                length = len(characters) // 2
            if not self.spec.length_min <= length <= self.spec.length_max:
                raise EncodeError("length", path, expected=self.spec.expected(), got=str(length))
            if length == 0 and entry.content != ISO_CONTENT_TRACK2:
                return b""
            entry.length_min = entry.length_max = <uint16_t>length
        given.data = <const uint8_t *>PyBytes_AS_STRING(characters)
        given.size = <uint32_t>len(characters)
        given.as_wire = False
        out = PyBytes_FromStringAndSize(NULL, iso_build_field_size(&entry, &given))
        status = iso_field_write(&entry, &given, <uint8_t *>PyBytes_AS_STRING(out), <uint32_t>len(out), &size,
                                 &position)
        if status != ISO_OK:
            raise _written_error(self.spec, status, path, position, given.size)
        return out

    cdef bytes _encoded(self, str value, str path):
        try:
            return value.encode(GB if self.kind == KIND_GB else "utf-8" if self.kind == KIND_UTF8
                                else "latin-1" if self.kind in (KIND_LATIN1, KIND_EBCDIC) else "ascii")
        except UnicodeEncodeError:
            pass
        if self.kind in (KIND_GB, KIND_UTF8, KIND_LATIN1, KIND_EBCDIC):
            raise EncodeError("text", path, f"a character is not in {self.spec.encoding.upper()}")
        raise EncodeError("content", path, f"expected {CONTENTS[self.spec.content]}")


cdef uint32_t _length_in_unit(const iso_field *entry, uint32_t size):
    """Length of a value that takes `size` bytes."""
    if entry.packing == ISO_PACK_HEX:
        return size if entry.unit == ISO_UNIT_DIGITS else size // 2
    if entry.packing == ISO_PACK_BYTES:
        return size * 2 if entry.unit == ISO_UNIT_NIBBLES else size
    return size * 2 if entry.unit == ISO_UNIT_DIGITS else size


# ---- TLV -----------------------------------------------------------------------------------------

# Names of the tags in use, made once: all of one byte, and those of two that start with 9F, 5F or DF.
cdef PyObject *_tag_names[1024]


cdef object _tag_name(const uint8_t *tag, uint32_t size):
    cdef uint32_t at = 0xFFFF
    if size == 1:
        at = tag[0]
    elif size == 2 and tag[1] < 0x80:
        if tag[0] == 0x9F:
            at = 256 + tag[1]
        elif tag[0] == 0x5F:
            at = 384 + tag[1]
        elif tag[0] == 0xDF:
            at = 512 + tag[1]
    if at == 0xFFFF:
        return PyBytes_FromStringAndSize(<const char *>tag, size).hex().upper()
    if _tag_names[at] == NULL:
        name = intern(PyBytes_FromStringAndSize(<const char *>tag, size).hex().upper())
        Py_INCREF(name)
        _tag_names[at] = <PyObject *>name
    return <object>_tag_names[at]


cdef int _raise_tlv(iso_status status, str path, uint32_t offset) except -1:
    if status == ISO_E_TRUNCATED:
        raise DecodeError("tlv", path, offset, "an object leaves the field", expected="BER-TLV objects",
                          got="an object that is longer than what is left")
    if status == ISO_E_CANONICAL:
        raise DecodeError("canonical", path, offset, "a length in a longer form than it needs",
                          expected="the shortest form of the length", got="a longer one")
    raise DecodeError("tlv", path, offset, "not a BER-TLV object", expected="BER-TLV objects", got="something else")


cdef bytes _tlv_bytes(data, str path, uint32_t base):
    if type(data) is not bytes:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")
        data = bytes(data)
    if PyBytes_GET_SIZE(data) > ISO_MESSAGE_SIZE_MAX:
        raise DecodeError("size", path, base, f"larger than {ISO_MESSAGE_SIZE_MAX} bytes")
    return <bytes>data


def tlv_decode(data, str path not None="tlv", uint32_t base=0):
    cdef bytes buffer = _tlv_bytes(data, path, base)
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(buffer)
    cdef uint32_t size = <uint32_t>PyBytes_GET_SIZE(buffer)
    cdef uint32_t offset = 0
    cdef iso_tlv found
    cdef iso_status status
    cdef list result = []
    while offset < size:
        status = iso_tlv_next(start, size, &offset, &found)
        if status != ISO_OK:
            _raise_tlv(status, path, base + offset)
        if found.tag_size:
            result.append((
                _tag_name(start + found.tag_offset, found.tag_size),
                PyBytes_FromStringAndSize(<const char *>start + found.value_offset, found.value_size),
            ))
    return result


def tlv_to_dict(data, str path not None="tlv", uint32_t base=0):
    cdef bytes buffer = _tlv_bytes(data, path, base)
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(buffer)
    cdef uint32_t size = <uint32_t>PyBytes_GET_SIZE(buffer)
    cdef uint32_t offset = 0
    cdef uint32_t before
    cdef iso_tlv found
    cdef iso_status status
    # An object of a card message has six or seven bytes: the dict need not grow.
    cdef dict result = _presized_dict(min(size // 6, 64))
    cdef Py_ssize_t count = 0
    while offset < size:
        before = offset
        found.tag_size = 0
        status = iso_tlv_next(start, size, &offset, &found)
        if status != ISO_OK:
            _raise_tlv(status, path, base + offset)
        if found.tag_size == 0:
            break
        name = _tag_name(start + found.tag_offset, found.tag_size)
        PyDict_SetItem(
            result, name, PyBytes_FromStringAndSize(<const char *>start + found.value_offset, found.value_size))
        count += 1
        if PyDict_Size(result) != count:
            raise DecodeError("duplicate", f"{path}.{name}", base + before, "a second object with this tag",
                              expected="each tag once", got="a second object with this tag")
    return result


cdef inline int _hex_digit(uint8_t character) noexcept:
    if 48 <= character <= 57:
        return character - 48
    character |= 32  # lower case
    return character - 87 if 97 <= character <= 102 else -1


cdef uint32_t _tag_bytes(object name, uint8_t *tag) noexcept:
    """A tag's bytes, at most four; 0: not a tag, or one that the slow way should look at."""
    if type(name) is not str or not PyUnicode_IS_ASCII(name):
        return 0
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(name)
    cdef const uint8_t *text = <const uint8_t *>PyUnicode_DATA(name)
    cdef int high
    cdef int low
    cdef Py_ssize_t i
    if size & 1 or not 2 <= size <= 8:
        return 0
    for i in range(size >> 1):
        high = _hex_digit(text[2 * i])
        low = _hex_digit(text[2 * i + 1])
        if high < 0 or low < 0:
            return 0
        tag[i] = <uint8_t>(high << 4 | low)
    return <uint32_t>(size >> 1) if iso_tlv_tag_valid(tag, <uint32_t>(size >> 1)) else 0


cdef bytes _tlv_of_pairs(list items):
    """Pairs of a tag and bytes, as programs write them; None: something else is among them."""
    cdef uint8_t tag[4]
    cdef uint32_t tag_size
    cdef uint32_t used = 0
    cdef Py_ssize_t size = 0
    cdef object name
    cdef object value
    cdef bytes out
    for item in items:
        if type(item) is not tuple or len(<tuple>item) != 2:
            return None
        value = <object>PyTuple_GET_ITEM(item, 1)
        if type(value) is not bytes or PyBytes_GET_SIZE(value) > 0xFFFF:
            return None
        size += 7 + PyBytes_GET_SIZE(value)
    if size > 0x7FFFFFFF:
        return None
    out = PyBytes_FromStringAndSize(NULL, size)
    for item in items:
        name = <object>PyTuple_GET_ITEM(item, 0)
        value = <object>PyTuple_GET_ITEM(item, 1)
        tag_size = _tag_bytes(name, tag)
        if tag_size == 0:
            return None
        if iso_tlv_write(tag, tag_size, <const uint8_t *>PyBytes_AS_STRING(value), <uint32_t>PyBytes_GET_SIZE(value),
                         <uint8_t *>PyBytes_AS_STRING(out), <uint32_t>size, &used) != ISO_OK:
            raise AssertionError("iso_tlv_write refused what was checked above")
    return out[:used]


def tlv_encode(items, str path not None="tlv", uint32_t depth=0):
    cdef list parts = []
    cdef bytes tag
    cdef bytes content
    cdef bytes part
    cdef uint32_t used
    if depth >= NESTING_MAX:
        raise EncodeError("tlv", path, f"more than {NESTING_MAX} levels of objects")
    if type(items) is list:
        content = _tlv_of_pairs(<list>items)
        if content is not None:
            return content
    if isinstance(items, Mapping):
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
        if isinstance(value, (Mapping, list, tuple)):
            content = tlv_encode(value, place, depth + 1)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            content = bytes(value)
        else:
            raise EncodeError("type", place, expected="bytes", got=type(value).__name__)
        if PyBytes_GET_SIZE(content) > 0xFFFF:
            raise EncodeError("length", place, expected="0 to 65535 bytes", got=str(len(content)))
        part = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(tag) + 3 + PyBytes_GET_SIZE(content))
        used = 0
        if iso_tlv_write(<const uint8_t *>PyBytes_AS_STRING(tag), <uint32_t>PyBytes_GET_SIZE(tag),
                         <const uint8_t *>PyBytes_AS_STRING(content), <uint32_t>PyBytes_GET_SIZE(content),
                         <uint8_t *>PyBytes_AS_STRING(part), <uint32_t>PyBytes_GET_SIZE(part), &used) != ISO_OK:
            raise AssertionError("iso_tlv_write refused what was checked above")
        parts.append(part[:used])
    return b"".join(parts)


# ---- errors: off the hot path on purpose ---------------------------------------------------------


cdef str _shown(key):
    """A key as an error may show it. What is neither short nor a name may be a value in the wrong place."""
    cdef str text = str(key)
    return text if len(text) <= 8 or (len(text) <= 32 and text.isidentifier()) else "?"


cdef object _with_source(Codec codec, bytes buffer, error):
    error._source = _pleasant.source(codec, buffer)
    return error


cdef str _shape(field, uint8_t byte):
    """What kind of byte it is, without saying which."""
    if field is not None and field.packed:
        return "a nibble above 9"
    if field is not None and field.encoding.startswith("cp"):
        return "another character"
    if 48 <= byte <= 57:
        return "a digit"
    if 65 <= byte <= 90 or 97 <= byte <= 122:
        return "a letter"
    if byte == 32:
        return "a space"
    if byte < 32 or byte == 127:
        return "a control character"
    return "punctuation" if byte < 128 else "a byte above 7F"


cdef object _fault_error(field, iso_status status, str path, uint32_t offset, uint32_t position, uint32_t length,
                         uint8_t byte):
    """The DecodeError for a fault inside one field. `field` is its ValueSpec."""
    cdef str code = iso_status_name(status).decode("ascii")
    cdef str detail = ""
    cdef str expected = field.expected()
    cdef str got = ""
    if status == ISO_E_TRUNCATED:
        detail = "the message ends inside the field"
        got = "less"
    elif status == ISO_E_PREFIX:
        _, form = PREFIXES[field.length_prefix]
        expected = {"bcd": "a length in BCD digits", "ascii": "a length in ASCII digits",
                    "ebcdic": "a length in EBCDIC digits"}.get(form, "a length in hexadecimal characters")
        got = "something else"
        detail = "length prefix is not made of " + expected.removeprefix("a length in ")
    elif status == ISO_E_LENGTH:
        got = str(length)
        if length > field.length_max:
            detail = f"length prefix above the maximum of {field.length_max}"
        elif length < field.length_min:
            detail = f"length prefix below the minimum of {field.length_min}"
        else:
            detail = "the length ends inside a byte: expected an even number"
    elif status == ISO_E_CONTENT:
        expected = "hexadecimal characters" if field.encoding.startswith("hex") else CONTENTS[field.content]
        got = f"{_shape(field, byte)} at byte {position}"
    elif status == ISO_E_TEXT:
        expected = f"{field.encoding.upper()} text"
        got = f"something else at byte {position}"
    elif status == ISO_E_PAD:
        expected = f"pad nibble {field.pad_nibble}"
        got = f"another at byte {position}"
    elif status == ISO_E_TRACK:
        expected = "digits, one separator and digits, or a field that says the track is encrypted"
        got = "neither"
    elif status == ISO_E_TLV:
        expected = "BER-TLV objects"
        got = f"something else at byte {position}"
    elif status == ISO_E_CANONICAL:
        expected = "the shortest form of each length"
        got = f"a longer one at byte {position}"
    elif status == ISO_E_DUPLICATE:
        expected = "each tag once"
        got = f"a second object with the same tag at byte {position}"
    elif status == ISO_E_SIZE:
        detail = f"larger than {ISO_MESSAGE_SIZE_MAX} bytes"
    else:
        raise AssertionError(f"iso_status {<int>status} has no message")
    return DecodeError(code, path, offset, detail, expected=expected, got=got)


cdef object _decode_error(Codec codec, uint32_t variant, bytes buffer, const iso_fault *fault):
    cdef str code = iso_status_name(fault.status).decode("ascii")
    cdef uint32_t number = fault.field
    cdef iso_status status = fault.status
    cdef uint32_t size = <uint32_t>min(PyBytes_GET_SIZE(buffer), <Py_ssize_t>ISO_MESSAGE_SIZE_MAX + 1)
    cdef str name = codec.definition.name
    cdef str place = "mti" if number == 0 else "bitmap" if number == 1 else str(number)
    if status == ISO_E_TRAILING:
        plural = "byte is" if fault.length == 1 else "bytes are"
        error = DecodeError(code, "message", fault.offset, f"{fault.length} {plural} left after the last field",
                            expected="the end of the message", got=f"{fault.length} more bytes")
    elif status == ISO_E_SIZE:
        error = DecodeError(code, "message", 0, f"larger than {ISO_MESSAGE_SIZE_MAX} bytes",
                            expected=f"at most {ISO_MESSAGE_SIZE_MAX} bytes", got=f"{PyBytes_GET_SIZE(buffer)}")
    elif status == ISO_E_TRUNCATED and number < 2:
        what = "MTI" if number == 0 else "bitmap"
        error = DecodeError(code, place, fault.offset, f"the message ends inside the {what}",
                            expected=f"the whole {what}", got=f"{size - fault.offset} bytes")
    elif status == ISO_E_MTI:
        error = DecodeError(code, place, fault.offset, "expected four digits", expected="four digits",
                            got="something else")
    elif status == ISO_E_BITMAP and fault.length:
        error = DecodeError(
            code, place, fault.offset, f"bit 1 is set, but spec {name} has 64 fields and no secondary bitmap",
            expected="bit 1 not set", got="bit 1 set")
    elif status == ISO_E_BITMAP:
        error = DecodeError(code, place, fault.offset, expected="hexadecimal characters",
                            got=f"{_shape(None, buffer[fault.position])} at byte {fault.position}")
    elif status == ISO_E_UNDEFINED:
        error = DecodeError(
            code, place, fault.offset,
            f"bit {number} of the bitmap is set, but spec {name} does not define the field" + (
                f" for messages {codec.definition.variants[variant - 1].mti}"
                if variant and number in <dict>codec.specs[0] else ""),
            expected="bits of defined fields only", got=f"bit {number}")
    else:
        field = codec._field(variant, number)
        error = _fault_error(field, status, place, fault.offset, fault.position, fault.length,
                             buffer[fault.position] if fault.position < size else 0)
        if status == ISO_E_TRUNCATED:
            error.got = f"{size - fault.offset} bytes left, length prefix included"
    return _with_source(codec, buffer, error)


cdef object _written_error(field, iso_status status, str path, uint32_t position, uint32_t size):
    """The EncodeError for one value. `field` is its ValueSpec."""
    cdef str code = iso_status_name(status).decode("ascii")
    if status == ISO_E_LENGTH:
        if field.packed and field.length_unit == "bytes":
            return EncodeError(code, path, expected=f"{field.expected()} of two digits each", got=f"{size} digits")
        return EncodeError(code, path, expected=field.expected(), got=str(size))
    if status == ISO_E_CONTENT:
        return EncodeError(code, path, f"expected {CONTENTS[field.content]}, found something else at position {position}",
                           expected=CONTENTS[field.content], got=f"something else at position {position}")
    if status == ISO_E_TEXT:
        return EncodeError(code, path, expected=f"{field.encoding.upper()} text",
                           got=f"something else at position {position}")
    if status == ISO_E_TRACK:
        return EncodeError(code, path, expected="digits, one separator (= or D), digits",
                           got=f"something else at position {position}")
    if status == ISO_E_TLV:
        return EncodeError(code, path, expected="BER-TLV objects", got=f"something else at position {position}")
    if status == ISO_E_CANONICAL:
        return EncodeError(code, path, expected="the shortest form of each length",
                           got=f"a longer one at position {position}")
    if status == ISO_E_DUPLICATE:
        return EncodeError(code, path, expected="each tag once", got=f"a second one at position {position}")
    raise AssertionError(f"iso_status {<int>status} has no message")


cdef object _encode_error(Codec codec, uint32_t variant, const iso_fault *fault):
    if fault.status == ISO_E_MTI:
        return EncodeError("mti", "mti", "expected four digits")
    if fault.status == ISO_E_UNDEFINED:
        _raise_undefined(codec, variant, fault.field)
    return _written_error(codec._field(variant, fault.field), fault.status, str(fault.field), fault.position,
                          fault.length)
