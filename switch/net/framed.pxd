cdef class Splitter:
    cdef public int _prefix_bytes
    cdef public Py_ssize_t _size_max, too_long
    cdef public bytearray _rest
    cpdef list feed(self, bytes data)

cdef class DigitsSplitter(Splitter):
    cdef public bint _no_length
    cpdef list feed(self, bytes data)

cdef class FramedProtocol:
    cdef public bint _open, _held, _lost, _paused, _flush_due, spoke
    cdef public double opened_at, heard_at
    cdef public list _queue, _tokens
    cdef public object _loud, _may_write, _tap, _handler, _observer, _label, _now, _opened, _closed
    cdef public object _in_labels, _out_labels, _in_digits, _loop, _transport
    cdef public object _linger, _resting, _peer, _terminal_id, _reason, _early
    cdef public object partial_since
    cdef public Py_ssize_t _prefix_bytes, _size_max, _buffer_max, _queued_bytes, _stuck_bytes
    cdef public long long frames_in
    cdef public Splitter _splitter
    cpdef bint send(self, bytes frame, object token=*)
    cpdef close(self, object reason)
    cpdef data_received(self, object data)
    cpdef _flush(self)
    cpdef _linger_briefly(self)
    cpdef _bad_frame(self, object reason)
    cpdef _handler_failed(self, object where, object error)
