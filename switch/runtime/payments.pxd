from switch.machines.payment cimport Facts, Payment
from switch.model.effect cimport Record

cdef class Ready:
    cdef public bytes frame
    cdef public object request_id

cdef class Slot:
    cdef public Payment payment
    cdef public object session, chip, kept, outstanding, timer, refused, began, settled
    cdef public str kiosk_key, stan_key
    cdef public bint busy
    cdef public list inbox, waiters
    cdef public bytes sealed, sealed_pan
    cdef public Ready ready
    cdef public object key_epoch, request_id
    cdef public double timer_at, leg_started_at

cdef class Payments:
    cdef public object machine, lanes
    cdef public object _journal, _security, _sessions, _card_link, _marketing_link, _card_dialect, _marketing_dialect
    cdef public object _codes, _times, _profile, _clock, _timers, _observer, _parked, _test_account
    cdef public bint _unmacced_decline_reverses
    cdef public int _refund_days
    cdef public dict _open, _by_kiosk_key, _by_stan
    cpdef start(self, Slot slot)
    cpdef _sealed(self, Slot slot, object kept, object result)
    cpdef _pan_sealed(self, Slot slot, object result)
    cpdef _keep(self, Slot slot)
    cpdef _leave_lane(self, Slot slot)
    cpdef _free_lane(self, Slot slot)
    cpdef _next_in_lane(self, Slot slot)
    cpdef _give(self, Slot slot, object given, Facts facts)
    cpdef _step(self, Slot slot, object given, Facts facts)
    cpdef _run(self, Slot slot, list effects, int index)
    cpdef _tell(self, Slot slot)
    cpdef _commit(self, Slot slot, Record record, list effects, object attempt)
    cpdef _committed(self, Slot slot, list effects, object appended)
    cpdef _park(self, Slot slot)
    cpdef _prepare(self, Slot slot, object sending, object then)
    cpdef bytes _bill_frame(self, Payment payment, object sending, object request_id)
    cpdef _mac_made(self, Slot slot, bytes frame, object then, object mac)
    cpdef _carry_out(self, Slot slot, object effect)
    cpdef _send(self, Slot slot, object effect)
    cpdef _schedule(self, Slot slot)
    cpdef _due(self, Slot slot)
    cpdef _card_checked(self, Slot slot, object answer, object mac_good)
    cpdef _bill_answered(self, Slot slot, object effect, object request_id, object answer)
    cpdef _bill_meaning(self, object effect, object answer, object posting, object account)

cpdef list _bill_keys(Payment payment)
cpdef bytes _context(object payment_id, bytes part=*)
