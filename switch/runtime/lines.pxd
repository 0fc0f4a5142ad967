cdef class Lines:
    cdef public dict _newest, _lines
    cdef public double _drain_s
    cdef public object _timers, _observer
    cpdef _close(self, object wire)
