"""Every bound of the admin service, in one place, with its reason. Other modules import these names."""

from typing import Final

# ---------------------------------------------------------------------------------------------------- database
POOL_SIZE: Final = 8  # connections of pages and loops: 50 people click less than once a second each
CONNECT_S: Final = 5.0  # a server that does not take a connection within it is away
ACQUIRE_S: Final = 5.0  # a person waits no longer for a page to begin
STATEMENT_S: Final = 15.0  # a page's statement; the server ends it, so that no click burdens the switch for longer
REPORT_STATEMENT_S: Final = 120.0  # a month's report over ten million payments
LOCK_S: Final = 3.0  # nobody waits longer for a row that another holds
IDLE_TRANSACTION_S: Final = 30.0  # a transaction that its program forgot must not hold back the switch's vacuum
ANSWER_S: Final = 2.0  # beyond the server's own bound: the way there and back

# ---------------------------------------------------------------------------------------------------- the switch
CONTROL_ANSWER_S: Final = 5.0  # a switch that is alive answers in milliseconds; longer, and a page says that it is away
CONTROL_ANSWER_MAX: Final = 4 * 1024 * 1024  # bytes of one answer: a full trace of 2,000 messages is 1 MiB
CONTROL_CALLERS: Final = 4  # of us at once at one worker, which takes 8: people at its console find a place

# ---------------------------------------------------------------------------------------------------- operators
PASSWORD_LENGTH_MIN: Final = 12  # PCI DSS 8.3.6
PASSWORD_LENGTH_MAX: Final = 128  # hashing takes as long as the text is; nobody types more
HASHES_AT_ONCE: Final = 4  # 64 MiB each; a storm of sign-ins must not take the machine's memory
ONE_TIME_PASSWORD_S: Final = 72 * 3600  # long enough to reach somebody on a weekend
PASSWORD_FAILURES_MAX: Final = (
    5  # in the window, by strangers or by a known browser, counted apart (PCI DSS 8.3.4: at most 10)
)
PASSWORD_WINDOW_S: Final = 15 * 60
LOCKED_S: Final = 30 * 60  # PCI DSS 8.3.4
TOTP_FAILURES_MAX: Final = 5  # then a security administrator must reset it: a million codes, five guesses
ADDRESS_FAILURES_MAX: Final = 50  # of one address in the window, whatever the names: a hall shares an address
RECOVERY_CODES: Final = 10
SESSION_IDLE_S: Final = 15 * 60
SESSION_S: Final = 8 * 3600  # a working day
SESSIONS_MAX: Final = 2  # of one operator: desk and phone; the oldest ends
HALF_SESSION_S: Final = 10 * 60  # between password and second factor
STEP_UP_S: Final = 5 * 60  # how long a fresh second factor counts for critical acts
APPROVAL_S: Final = 24 * 3600
KNOWN_BROWSER_S: Final = 180 * 24 * 3600

# ---------------------------------------------------------------------------------------------------- pages
PAGE_ROWS: Final = 50
PAGE_ROWS_MAX: Final = 200
EXPORT_ROWS_MAX: Final = 200_000  # of one file; XLSX holds 1,048,576, but nobody reads them
BODY_MAX: Final = 1_048_576  # bytes of a form or JSON body
FILTER_LENGTH_MAX: Final = 100  # characters of one filter
SSE_CLIENTS_MAX: Final = 200  # open pages that are told news; 200 cost 5 % of a core
SSE_PERIOD_S: Final = 1.0

# ---------------------------------------------------------------------------------------------------- loops
LOOP_HOLD_S: Final = 30.0  # a loop that is not renewed within it is another process's

# ---------------------------------------------------------------------------------------------------- monitoring
BEAT_S: Final = 60.0  # how often an agent beats
BEATS_MISSED_MAX: Final = 3  # then it is missing: a cable that was pulled is told within three minutes
HEARD_S: Final = 180.0  # a kiosk that pays or asks for an echo at least once a minute, and has not
RHYTHM_WEEKS: Final = 8  # of counts behind a rhythm: eight days of each kind
SILENCE_MIN_S: Final = 15 * 60.0  # shorter gaps are no news, whatever was expected
SILENCE_DAYS_MAX: Final = 60  # beyond it Λ is not counted on: a kiosk used once a week alarms after 40 days
PROBE_S: Final = 30.0  # requirement R48
PROBE_PAYMENTS_MIN: Final = 10  # of a minute: fewer say nothing about the service

assert BEAT_S * BEATS_MISSED_MAX <= 180  # requirement R06
assert 60 % PROBE_S == 0  # a minute is whole slots
assert SESSION_IDLE_S < SESSION_S
assert STEP_UP_S < SESSION_IDLE_S
assert STATEMENT_S < IDLE_TRANSACTION_S
