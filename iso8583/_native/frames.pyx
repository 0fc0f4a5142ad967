# cython: language_level=3, embedsignature=True, boundscheck=False, wraparound=False, nonecheck=True
"""Thin Cython skin over csrc/frame.c: keeps what is incomplete, copies out what is whole, statuses to exceptions.

Types and docstrings are in frames.pyi. Where a frame begins and ends is decided in csrc/.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memcpy, memmove, memset

from iso8583.errors import FrameError


cdef enum:
    HELD_MIN = 256  # bytes of the smallest buffer for an incomplete frame

cdef dict FORMS = {"binary": ISO_FRAME_BINARY, "bcd": ISO_FRAME_BCD, "ascii": ISO_FRAME_ASCII}


cdef class Framing:
    cdef iso_framing table  # without size_max and empty_allowed: those are the reader's own

    def __cinit__(self, str form not None, uint8_t prefix_size, bint counts_itself, bint serial):
        memset(&self.table, 0, sizeof(self.table))
        self.table.form = FORMS[form]
        self.table.prefix_size = prefix_size
        self.table.counts_itself = counts_itself
        self.table.serial = serial
        if iso_framing_size_max(&self.table) == 0:
            raise ValueError(f"a length prefix of {prefix_size} bytes in form {form} makes no sense")

    @property
    def size_max(self):
        return iso_framing_size_max(&self.table)

    def wrap(self, data):
        cdef Py_buffer view
        if PyBytes_CheckExact(data):
            return self._wrap(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self._wrap(<const uint8_t *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef bytes _wrap(self, const uint8_t *data, Py_ssize_t size):
        cdef bytes out
        cdef uint32_t most = iso_framing_size_max(&self.table)
        if not 1 <= size <= <Py_ssize_t>most:
            raise ValueError(f"a frame has 1 to {most} bytes, not {size}")
        out = PyBytes_FromStringAndSize(NULL, size + <Py_ssize_t>iso_frame_overhead(&self.table))
        iso_frame_write(&self.table, data, <uint32_t>size, <uint8_t *>PyBytes_AS_STRING(out))
        return out


cdef class Cutter:
    cdef iso_framer state
    cdef uint8_t *held          # an incomplete frame from its first byte; NULL when there is none
    cdef size_t held_size
    cdef size_t held_capacity
    cdef size_t needed          # held_size from which on something can be said
    cdef uint64_t heartbeat_count
    cdef object final           # the FrameError that ended the stream

    def __init__(self, Framing framing not None, size_max, bint empty_allowed):
        cdef uint32_t most = iso_framing_size_max(&framing.table)
        if not 1 <= size_max <= most:  # as Python numbers: whatever does not fit 32 bits is refused here too
            raise ValueError(f"size_max {size_max}: expected 1 to {most}")
        self._drop()
        memset(&self.state, 0, sizeof(self.state))
        self.state.framing = framing.table
        self.state.framing.size_max = size_max
        self.state.framing.empty_allowed = empty_allowed
        self.heartbeat_count = 0
        self.final = None

    def __dealloc__(self):
        PyMem_Free(self.held)

    @property
    def pending(self):
        return self.held_size

    @property
    def fault(self):
        return self.final

    @property
    def heartbeats(self):
        return self.heartbeat_count

    @property
    def skipped(self):
        return self.state.skipped

    @property
    def discarded(self):
        return self.state.discarded

    @property
    def last_discard(self):
        if self.state.discarded == 0:
            return None
        return _error(&self.state.framing, <iso_frame_status>self.state.reason, self.state.announced, b"")

    def feed(self, data):
        cdef Py_buffer view
        if PyBytes_CheckExact(data):
            return self._feed(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), False)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self._feed(<const uint8_t *>view.buf, view.len, False)
        finally:
            PyBuffer_Release(&view)

    def end(self):
        cdef list frames = self._feed(NULL, 0, True)
        if self.held_size:
            self.final = _cut_off(&self.state.framing, self.held_size, self.needed)
            self._drop()
            self._raise_final()
        return frames

    # While bytes are held in C nothing runs that could call back into Python code, and so into this very object: the
    # list is made first, an error last.
    cdef list _feed(self, const uint8_t *data, size_t size, bint ended):
        cdef list frames = []
        cdef bytes start = b""
        cdef iso_frame found
        cdef iso_frame_status status = ISO_FRAME_MORE
        cdef size_t used
        cdef size_t offset = 0
        if self.state.framing.size_max == 0:
            raise TypeError("not initialised: call __init__ first")
        if self.final is not None:
            self._raise_final()
        while self.held_size:
            # Only what the incomplete frame needs is copied behind it: the rest is cut where it lies.
            used = min(self.needed - self.held_size, size - offset)
            self._hold(data + offset, used)
            offset += used
            if self.held_size < self.needed and not ended:
                return frames
            used = self._cut(self.held, self.held_size, ended, frames, &found, &status)
            if status != ISO_FRAME_MORE:
                start = _start(self.held + used, self.held_size - used)
                break
            self.held_size -= used
            if self.held_size == 0:
                self._drop()
            elif ended:
                return frames
            elif used:
                memmove(self.held, self.held + used, self.held_size)
        if status == ISO_FRAME_MORE and offset < size:
            offset += self._cut(data + offset, size - offset, ended, frames, &found, &status)
            if status == ISO_FRAME_MORE:
                self._hold(data + offset, size - offset)
            else:
                start = _start(data + offset, size - offset)
        if status != ISO_FRAME_MORE:
            self._drop()
            self.final = _error(&self.state.framing, status, found.announced, start)
            if not frames:
                self._raise_final()
        return frames

    # Returns the bytes that are done with. A status other than MORE is final, *found says more.
    cdef size_t _cut(self, const uint8_t *data, size_t size, bint ended, list frames, iso_frame *found,
                     iso_frame_status *status) except? 0:
        cdef size_t offset = 0
        while True:
            status[0] = iso_frame_next(&self.state, data + offset, size - offset, ended, found)
            if status[0] == ISO_FRAME_OK:
                if found.size:
                    frames.append(PyBytes_FromStringAndSize(<const char *>data + offset + found.offset, found.size))
                else:
                    self.heartbeat_count += 1
                offset += found.end
                if offset < size:
                    continue
                status[0] = ISO_FRAME_MORE
                return size
            if status[0] == ISO_FRAME_MORE:
                self.needed = found.needed
                return offset + found.start
            return offset

    cdef int _hold(self, const uint8_t *data, size_t size) except -1:
        cdef size_t capacity = self.held_capacity
        cdef void *grown
        if size == 0:
            return 0
        if self.held_size + size > capacity:
            # Doubling, and never to the length announced: memory follows the bytes that came, not a promise.
            capacity = max(<size_t>HELD_MIN, 2 * capacity, self.held_size + size)
            grown = PyMem_Realloc(self.held, capacity)
            if grown == NULL:
                raise MemoryError()
            self.held = <uint8_t *>grown
            self.held_capacity = capacity
        memcpy(self.held + self.held_size, data, size)
        self.held_size += size
        return 0

    cdef void _drop(self) noexcept:
        PyMem_Free(self.held)
        self.held = NULL
        self.held_size = 0
        self.held_capacity = 0
        self.needed = 0

    cdef int _raise_final(self) except -1:
        # A new one each time: an exception that is raised twice collects the tracebacks of both.
        raise FrameError(self.final.code, self.final.detail)


# ---- errors: off the hot path on purpose ---------------------------------------------------------


cdef object _error(const iso_framing *framing, iso_frame_status status, uint64_t announced, bytes start):
    cdef str code = iso_frame_status_name(status).decode("ascii")
    if status == ISO_FRAME_MORE:
        code = "cut"
        inside = f"a frame of {_bytes(announced)}" if announced else "a length prefix"
        detail = f"the line fell silent inside {inside}"
    elif status == ISO_FRAME_E_PREFIX:
        detail = "length prefix is not made of decimal digits"
    elif status == ISO_FRAME_E_SELF:
        detail = f"a length prefix of {announced} that counts its own {framing.prefix_size} bytes"
    elif status == ISO_FRAME_E_EMPTY:
        detail = "a length prefix of 0"
    elif status == ISO_FRAME_E_TOO_LONG:
        detail = f"{_bytes(announced)} announced, at most {framing.size_max} are allowed"
    elif status == ISO_FRAME_E_ETX:
        detail = f"no ETX behind {_bytes(announced)} of data"
    elif status == ISO_FRAME_E_LRC:
        detail = f"the check byte behind {_bytes(announced)} of data does not fit"
    else:
        raise AssertionError(f"iso_frame_status {<int>status} has no message")
    return FrameError(code, detail + _hint(framing, start))


cdef bytes _start(const uint8_t *data, size_t size):
    return data[:min(size, <size_t>ISO_FRAME_PREFIX_MAX)]


cdef object _cut_off(const iso_framing *framing, size_t held, size_t needed):
    if held < framing.prefix_size:
        return FrameError("cut", f"the stream ends inside a length prefix: {held} of {framing.prefix_size} bytes")
    return FrameError("cut", f"the stream ends inside a frame: {held} of {needed} bytes, length prefix included")


cdef str _hint(const iso_framing *framing, bytes start):
    """What the peer seems to speak instead. Looks at the length prefix and never shows it."""
    if start.startswith(b"\x16\x03"):
        return "; looks like the start of TLS"
    if start[:2].isalpha():
        return "; looks like text, perhaps HTTP"
    if framing.form != ISO_FRAME_ASCII and start[:framing.prefix_size].isdigit():
        return "; looks like a length of ASCII digits"
    if framing.form == ISO_FRAME_ASCII and start.startswith(b"\0"):
        return "; looks like a binary length"
    return ""


cdef str _bytes(uint64_t count):
    return "1 byte" if count == 1 else f"{count} bytes"
