from switch.model.plain cimport Plain

cdef class Posting(Plain):
    cdef public object receivable, period, principal, penalty, amount, serial, state
    cdef public int sends
    cpdef list to_row(self)
