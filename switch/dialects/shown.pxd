cdef class CardMessages:
    cdef public object _spec

cdef class Records:
    pass
