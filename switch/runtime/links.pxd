cdef class UpstreamLink:
    cdef public double echo_rtt_s, _timer_at, _probed_at
    cdef public object name, dialer, on_up, breaker, on_lost, on_frame_lost, _machine, _times, _timers, _clock
    cdef public object _observer, _journal, _wire, _timer
    cpdef _probe_again(self)
    cpdef bint send(self, object frame, object token=*)
    cpdef stray(self, object kind, object key, object detail)
    cpdef _carry_out(self, object effects)
    cpdef _schedule(self)
    cpdef _answered(self)
    cpdef _probe_send(self, object frame)
    cpdef _probe(self)
    cpdef _read(self, object frame)
    cpdef _forget_all(self)

cdef class CardLink(UpstreamLink):
    cdef public dict _managed
    cdef public object on_answer, on_wish, _dialect, _service, _echo_stan
    cpdef sign_on(self, object terminal_id, object merchant_id, object stan, object network_code, object done)
    cpdef _end_managed(self, object key, object answer)
    cpdef _probe(self)
    cpdef _read(self, object frame)
    cpdef _forget_all(self)

cdef class MarketingLink(UpstreamLink):
    cdef public bint _signed_on
    cdef public dict _pending
    cdef public object day, _signed_on_day, _dialect, _ids, _probe_id
    cpdef next_id(self)
    cpdef _probe(self)
    cpdef _read(self, object frame)
    cpdef _sign_on_again(self)
    cpdef _forget_all(self)
