cdef class Timer:
    cdef public dict _spoke
    cdef public object callback
    cpdef cancel(self)

cdef class Timers:
    cdef public dict _spokes
    cdef public double _armed_for
    cdef public list _ticks
    cdef public object _loop, _clock, _observer, _handle
    cpdef Timer at(self, double when, object callback)
    cpdef Timer after(self, double seconds, object callback)
    cpdef _arm(self, object tick)
