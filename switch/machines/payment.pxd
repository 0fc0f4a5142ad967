from switch.model.plain cimport Plain
from switch.model.effect cimport Record
from switch.model.payment cimport Posting

cdef class Facts(Plain):
    cdef public str response_code, rrn, settlement_date, authorization_code, reason
    cdef public bint approved, flagged, doubtful
    cdef public object icc_data, decision

cdef class Payment:
    cdef public object payment_id, opened_on, terminal_id, merchant_id, kiosk_date, kiosk_serial, digest, account, amount
    cdef public object batch_number, stan, settlement_day, marketing_day, card_token, card_masked, entry_mode, original_60
    cdef public object times, profile, card, issuer_data, state, leg_input
    cdef public list postings
    cdef public double started_at, cut_over_at, day_close_at, purchase_written_at, approved_at, reversal_written_at
    cdef public double post_written_at, cancel_written_at, status_written_at, leg_deadline, kiosk_deadline, bill_deadline
    cdef public bint approved_seen, flagged, told_pending, forward_only, absent, reversed_blind, refused
    cdef public int ver, attempts
    cdef public object link
    cdef public str response_code, rrn, settlement_date, authorization_code, reversal_reason, case, durable_answer
    cdef public dict changes
    cpdef dict opening_body(self)
    cpdef list step(self, object given, Facts facts, double now)
    cpdef list _unlisted(self, object given, Facts facts)
    cpdef _enter(self, object state, double now)
    cpdef written(self, object effect, double now)
    cpdef _do_claim(self, list effects, Record record, Facts facts, double now)
    cpdef _do_book_charge(self, list effects, Record record, Facts facts, double now)
    cpdef _book(self, Posting posting, Record record)
    cpdef _keep_card_answer(self, Facts facts)
