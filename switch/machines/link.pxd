cdef class Link:
    cdef public bint _probe_outstanding
    cdef public double deadline
    cdef public object state, _times
    cpdef heard(self, double now)
    cpdef lost(self, double now)
    cpdef _probe(self, double now)
