cpdef bytes event_link(object previous, object payment_id, object ver, object state, object row, object body, object ledger)
