cdef class MarketingDialect:
    cdef public dict _outcomes, _operations, _records, _digits, _shapes, _always
    cdef public object spec, version, not_signed_on, shown, _channel
    cpdef _prepare(self)
    cpdef bytes _request(self, object op, object request_id, object fields)
    cpdef check(self, object op, object answer)
    cpdef outcome(self, object op, object code)

cpdef _op_of(object posting)
cpdef bint _all_digits(object data, object digits)
