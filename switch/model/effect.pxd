from switch.model.plain cimport Plain

cdef class Record(Plain):
    cdef public object state, row
    cdef public dict changes
    cdef public list ledger
    cdef public bint claim, release_bills, release_open
