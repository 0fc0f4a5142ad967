-- A chip may have the last word on a charge. The new state is used by the next file: not in the transaction that makes it.

ALTER TYPE switch.payment_state ADD VALUE 'CARD_CONFIRMING' AFTER 'CARD_PENDING';
