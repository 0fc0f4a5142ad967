cdef class Breaker:
    cdef public bint is_open
    cdef public double _opened_at
    cdef public double _closed_at, _open_s
    cdef public object _recent
    cpdef answered(self, double now)
