cdef class KioskDialect:
    cdef public object _spec, shown, _card_codes, _codes, _said, _quote_tails
    cpdef _request(self, object message, object mti, object frame, object reply)
    cpdef bytes _answer(self, object reply, object f39, object tags, object more, object time, object mac)

cpdef _reply_to(object message)
cpdef _amount(object fields)
cpdef _tags(object message)
cpdef _text(object tags, object tag, object what, object size_max)
cpdef _asked(object tags)
cpdef _card(object message)
cpdef _month(object row)
cpdef bytes _gbk(object text, object size_max)
cpdef _screen(object text)
