cdef class TerminalSession:
    cdef public bint must_sign_on, refilling
    cdef public double old_until, heard_at, echo_at
    cdef public list stan_waiters, sign_on_waiters
    cdef public object terminal, tmk, next_tmk, blocks, network_code, mac_algorithm, mac_key, old_mac_key, kiosk
    cdef public object old_kiosk_key, wishes, next_stan, stans_left

cdef class TerminalSessions:
    cdef public bint _echo_has_mac
    cdef public dict _sessions, _loading
    cdef public double _old_key_s, _next_start_at
    cdef public object _store, _security, _link, _clock, _observer, _timers, _sign_on_code, _mac_algorithm
    cdef public object _translate_refused, translation, _signing_on, _queue, _starting
    cpdef get(self, object terminal_id, object done)
    cpdef _refreshed(self, object session, object found, object done)
    cpdef _install(self, object session, object terminal, object key)
    cpdef _found(self, object terminal_id, object found)
    cpdef _use_master_keys(self, object session, object terminal, object keys)
    cpdef _loaded(self, object terminal_id, object result)
    cpdef _import_mac_key(self, object tmk, object field_62, object done)
    cpdef take_stan(self, object session, object done)
    cpdef bint is_due(self, object session)
    cpdef double _signed_on_s(self, object session)
    cpdef sign_on(self, object session, object done)
    cpdef _import_active(self, object session, object answer)
    cpdef _echo_failed(self, object session, object proof, object why)
