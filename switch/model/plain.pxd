cdef class Plain:
    pass
