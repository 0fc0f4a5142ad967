cdef class Buckets:
    cdef public object _rate, _keys_max, _due
    cpdef bint take(self, object key, double now)

cdef class Caller:
    cdef public double greeted
    cdef public object source, proved, wrong, wrong_of, signed_on, keyed
    cpdef key(self, object terminal_id)

cdef class Door:
    cdef public dict _stopped
    cdef public object _greetings, _faults, _requests, _inquiries, _payments
