-- CARD_PENDING -> CARD_CONFIRMING -> BILL_PENDING or REVERSAL_PENDING: what is due is the word of the card's chip.

CREATE OR REPLACE VIEW switch.outbox AS
    SELECT payment.payment_id, payment.opened_on, payment.state, payment.changed_at AS since, open.owner,
           CASE payment.state WHEN 'CARD_PENDING' THEN 'purchase' WHEN 'CARD_CONFIRMING' THEN 'chip'
                              WHEN 'BILL_PENDING' THEN 'posting' WHEN 'BILL_CANCELLING' THEN 'cancel'
                              WHEN 'REVERSAL_PENDING' THEN 'reversal'
                              ELSE 'decision' END AS due
      FROM switch.open_payment AS open
      JOIN switch.payment ON payment.payment_id = open.payment_id AND payment.opened_on = open.opened_on
     WHERE open.part = 0;
