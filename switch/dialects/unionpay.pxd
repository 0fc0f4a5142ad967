cdef class UnionPayDialect:
    cdef public object _spec, shown, _header
    cpdef bytes _upload(self, object terminal_id, object merchant_id, object stan, object private, object reserved)
    cpdef bytes _encode(self, object fields)
    cpdef _both(self, object safe, object secret)
    cpdef bytes _whole(self, object safe, object secret)

cpdef bytes mab(object frame)
cpdef bytes with_mac(object frame, object mac)
cpdef _issuer_data(object message)
cpdef _clear(object value)
cpdef _secrets(object card)
