cdef class PaymentIds:
    cdef public object _clock, _epoch, _last
    cpdef next(self)

cdef class Intake:
    cdef public double asked_at
    cdef public list rows, waiters
    cdef public object request, session, caller, token, digest, quote

cdef class Dispatcher:
    cdef public bint _prepay_while_owing, draining
    cdef public dict _intakes, _callers
    cdef public double _reversal_first_s
    cdef public object _dialect, _marketing_dialect, _door, _sessions, _payments, _balances, _batches, _settlement
    cdef public object _e_bills, _downloads, _scripts, _lines, _card_link, _marketing_link, _journal, _pressure
    cdef public object _security, _times, _profile, _cut_over_minute, _day_close_minute, _prepay_max_fen, _ids
    cdef public object _clock, _timers, _observer, _quotes, _prepaid, _quote_numbers, _inquiries, _time
    cdef public object _cut_over_us, _near, _test_account
    cpdef bint _may_speak_for(self, object wire, object caller, object terminal_id, object reply)
    cpdef _caller(self, object wire)
    cpdef _made(self, object wire, bytes frame, object mac)
    cpdef _quoted(self, object wire, object reply, object session, object terminal_id, object quote)
    cpdef bint _tolerated(self, object wire, object caller)
    cpdef _hang_up(self, object wire, object what)
    cpdef _verify(self, object wire, object caller, object request, object session)
    cpdef bint _keys_are_old(self, object session)
    cpdef _unjudged(self, object wire, object request, object error)
    cpdef _mac_wrong(self, object wire, object caller, object request)
    cpdef _inquire(self, object wire, object caller, object request, object session)
    cpdef _read_quote(self, object account, object answer)
    cpdef speak(self, object dialect)
    cpdef _known_quote(self, object request)
    cpdef _prepay(self, Intake intake)
    cpdef _remember_prepaid(self, object key, double at)
    cpdef _repeat(self, bint same, object waiters, object tell, object peer, object payment)
    cpdef _closed(self, object terminal_id)
    cpdef _why_closed(self, object terminal_id)
    cpdef _card_closed(self, object terminal_id)
    cpdef bint _reversal_first(self, object terminal_id)
    cpdef bint _before_cut_over(self)
    cpdef _begin(self, Intake intake, object stan, object card)
    cpdef _turn_away(self, Intake intake, object code)
    cpdef _end(self, Intake intake, object outcome)
    cpdef _tell(self, object wire, object reply, object session, object asked, object outcome)
    cpdef _refuse(self, object wire, object reply, object session, object code)
    cpdef _answer(self, object wire, object session, object frame)
    cpdef _send(self, object wire, object frame)
    cpdef _dates(self)
    cpdef _now(self)
