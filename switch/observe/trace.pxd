cdef class Trace:
    cdef public dict _rings
    cdef public object _whole, _shown, _wall_us, _number
    cpdef _told(self, object link, object kept, object frames)
