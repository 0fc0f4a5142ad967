"""What the switch promises to others, by name and version; the admin service reads this and nothing else of us.

A name never changes its meaning. What must change gets a new version beside the old one.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
ROLE: Final = "gridswitch_admin"  # may read the views and call the feed; no login of its own

# Views in schema "switch" with their columns, in this order.
VIEWS: Final[dict[str, tuple[str, ...]]] = {
    "contract_v1_payments": (
        *("payment_id", "opened_on", "ver", "state", "amount", "opened_at", "changed_at", "terminal_id", "account"),
        *("kiosk_key", "rrn", "card_masked", "response_code", "case_number", "batch", "stan", "settlement_day"),
    ),
    "contract_v1_payment_story": ("payment_id", "opened_on", "ver", "state", "row", "at", "amount", "changes"),
    "contract_v1_attempts": ("payment_id", "opened_on", "ver", "row", "recorded_at", "link", "size"),
    "contract_v1_postings": (
        *("opened_on", "payment_id", "serial", "account", "receivable", "period", "amount", "state"),
    ),
    "contract_v1_outbox": ("payment_id", "opened_on", "state", "since", "owner", "due"),
    "contract_v1_ledger_balance": ("account", "debit", "credit", "balance"),
    "contract_v1_open_cases": (
        *("payment_id", "opened_on", "state", "amount", "account", "since", "case_number", "decision"),
        *("proposed_by", "confirmed_by"),
    ),
    "contract_v1_case_decisions": (
        *("id", "payment_id", "decision", "evidence", "proposed_by", "proposed_at", "confirmed_by", "confirmed_at"),
        *("settled_at", "outcome"),
    ),
    "contract_v1_terminals": (
        *("terminal_id", "merchant_id", "key_mode", "in_service", "out_of_service_reason", "batch_number"),
        *("key_epoch", "signed_on_at"),
    ),
    "contract_v1_terminal_gates": ("terminal_id", "stage", "gate", "proved_at", "proof"),
    "contract_v1_workers": ("epoch", "instance", "started_at", "renewed_at", "ended_at", "ended_by"),
}

# Gates of a terminal on its way into service, in order: what "gate" and "stage" may be. The first one begins anew.
TERMINAL_GATES: Final = ("registered", "keys", "sign_on", "mac_echo", "test_query", "test_reversal", "in_service")

# switch.contract_v1_feed(cursor text, most integer): events in an order in which none can come late.
FEED: Final = "contract_v1_feed"
FEED_COLUMNS: Final = (*("cursor", "payment_id", "opened_on", "ver", "state", "row", "wall_us", "amount", "changes"),)

# switch.contract_v1_feed_lag(cursor text, most integer): how many events wait behind a cursor, and since when.
FEED_LAG: Final = "contract_v1_feed_lag"
FEED_LAG_COLUMNS: Final = ("events", "oldest_us")

# Orders of the control socket (one JSON object a line, key "do"), and what changes something.
CONTROL_VERSION: Final = 1
CONTROL_ORDERS: Final = (
    *("case_confirm", "case_propose", "case_withdraw", "certificates", "check", "drain", "heard", "service", "status"),
    *("story", "trace", "upgrade"),
)
CONTROL_CHANGING: Final = frozenset(
    {"case_confirm", "case_propose", "case_withdraw", "certificates", "drain", "service", "upgrade"}
)

# Decisions about cases, two people for each: "case_propose" with payment, decision, evidence, by answers {"case": "C…",
# "number": M}; another person says "case_confirm" with payment, number, by, or somebody "case_withdraw" likewise. Any
# worker takes them, the one that owns the payment carries them out; how it went stands in contract_v1_case_decisions.
# Refusals have these codes.
CASE_DECISIONS: Final = ("paid", "nothing", "refunded", "charged")
CASE_CODES: Final = (
    *("case_unknown", "case_decision", "case_evidence", "case_proposed", "case_changed", "case_same_person"),
)

# "story" with payment and day (its opened_on) answers with the payment's messages as they left, masked: dicts of these.
# "lines" are [path, what it is, value, meaning, depth]; "link" is "card" or "marketing".
STORY_KEYS: Final = ("ver", "wall_us", "size", "link", "title", "lines")

# What "heard" answers: {"rows": [[…], …], "next": N}, a page of HEARD_PAGE_MAX at most from "after" on; "next" is the
# following page's "after", 0 at the end. Of a terminal that spoke to several workers each tells its own: the smallest
# age is the truth, and it is signed on, or has a line, when one of them says so. Ages are seconds, null: never since
# the worker began. "heard" is a hint, as frames can be forged.
HEARD_COLUMNS: Final = ("terminal_id", "heard_s", "echo_s", "signed_on", "has_line")

# Where a payment can stand; the first five are driven by the switch, the next two wait for a file or a person.
STATES: Final = (
    *("CARD_PENDING", "CARD_CONFIRMING", "BILL_PENDING", "BILL_CANCELLING", "REVERSAL_PENDING"),
    *("UNPROVEN", "SUSPENSE"),
    *("COMPLETED", "DECLINED", "REVERSED", "REFUNDED"),
)
