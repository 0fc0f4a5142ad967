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
ATTEMPTS_DAYS: Final = 180  # as long as the cookie by which a browser is known: its success is the other half
ATTEMPTS_S: Final = 3600.0  # between two looks for older ones
ANCHOR_S: Final = 3600.0  # between two looks whether the day has its anchor

# ---------------------------------------------------------------------------------------------------- pages
PAGE_ROWS: Final = 50
PAGE_ROWS_MAX: Final = 200
EXPORT_ROWS_MAX: Final = 200_000  # of one file; XLSX holds 1,048,576, but nobody reads them
BODY_MAX: Final = 1_048_576  # bytes of a form or JSON body
NUMBER_LENGTH_MAX: Final = 18  # digits: a bigint holds all of them
FILTER_LENGTH_MAX: Final = 100  # characters of one filter
SSE_CLIENTS_MAX: Final = 200  # open pages that are told news; 200 cost 5 % of a core
LIVE_S: Final = 300.0  # a live stream ends and is asked for anew, with the rights of then

# ---------------------------------------------------------------------------------------------------- device API
# How kiosks become known.
ENROLMENT_CODE_BYTES: Final = 10  # 80 bit: 16 letters that an engineer types once
ENROLMENT_CODE_S: Final = 24 * 3600  # issued in the morning, used at the site on the same day
POLL_TOKEN_BYTES: Final = 32
CERTIFICATE_DAYS: Final = 90  # a stolen disk is of use for no longer, should nobody notice
SERVER_CERTIFICATE_DAYS: Final = 397  # of the listener; made again by hand once a year
RENEW_BEFORE_DAYS: Final = 30  # from day 60: a kiosk may be cut off for a month
CLOCK_SLACK_S: Final = 300  # a certificate begins this much earlier: kiosks' clocks lag
DEVICE_CA_DAYS: Final = 20 * 365  # longer than any kiosk stands
REQUEST_BYTES_MAX: Final = 4096  # a P-256 request has 300
FINGERPRINT_GROUPS: Final = 8  # of four hexadecimal digits, compared by two people on the telephone

# What a request may be.
DEVICE_BODY_MAX: Final = 256 * 1024  # bytes, as sent and when inflated
DEVICE_BODY_S: Final = 30.0  # a body that does not end within it is somebody holding us
DEVICE_HEAD_S: Final = 20.0  # from connecting to the end of a request's headers
DEVICE_HEAD_MAX: Final = 16 * 1024  # bytes of a request before its body
DEVICE_KEEP_S: Final = 90  # longer than a beat with its jitter: one handshake a day instead of one a minute
DEVICE_CONNECTIONS_MAX: Final = 4000  # 1,000 kiosks and what is left of a network that went down; 60 KB each
DEVICE_HANDSHAKE_S: Final = 15.0
DEVICE_RATE: Final = 2.0  # requests a second of one kiosk, on average: a beat a minute, events, chunks of an upload
DEVICE_BURST: Final = 60  # at once: what a kiosk has to tell after a week without a line
ITEMS_RATE: Final = 1.0  # events and sessions a second of one kiosk, on average: a program in a circle must not fill us
ITEMS_BURST: Final = 200_000  # at once: a spool of 50 MB
ENROLMENT_RATE: Final = 0.2  # asks a second of one address: every one is audited
ENROLMENT_BURST: Final = 20  # a hall's kiosks on one address, each with a typing error
BUCKETS_MAX: Final = 20_000  # addresses and kiosks that are remembered; the oldest is forgotten
DEVICE_POOL: Final = 4  # connections to the database: kiosks must not take those of people

# What a beat may say.
BEAT_S: Final = 60.0  # how often a kiosk beats: a cable that was pulled is told within three beats
BEAT_BUSY_S: Final = 15.0  # while a command runs
BEAT_JITTER: Final = 0.2  # of the period: a restart must not leave a thousand kiosks in step
UNITS_MAX: Final = 40  # entries of "dev"
COUNTER_MAX: Final = 2**53 - 1  # beyond it JSON's readers differ
COUNTER_STEP_MAX: Final = 1_000_000  # nobody has so many sessions between two beats: it is a fault, and not booked
SKEW_MAX_MS: Final = 2**31 - 1  # what the column holds: 24 days; a clock that is off by more is off by that
BATCH_MAX: Final = 500  # events or sessions of one request
AHEAD_MAX: Final = 5000  # numbers ahead of what is acknowledged; a kiosk sends the oldest first
DETAIL_MAX: Final = 20  # entries of an event's detail
STEPS_MAX: Final = 50  # of one session
CLONE_EVENT_S: Final = 3600  # the same suspicion is told once an hour

# Commands and uploads.
COMMANDS_SHOWN: Final = 50  # of one kiosk on its page: a month of an ordinary one
COMMAND_S: Final = 24 * 3600
COMMANDS_OLD_S: Final = 60.0  # between looks for commands that expired
COMMANDS_OPEN_MAX: Final = 20  # of one kiosk
COMMANDS_A_BEAT: Final = 5
RESULT_MAX: Final = 50  # entries of a result
UPLOAD_MAX: Final = 64 * 1024 * 1024  # a day's log, compressed, of a kiosk that logs ten times too much
UPLOAD_CHUNK_MAX: Final = 1024 * 1024  # a lost chunk costs that much again
UPLOADS_OPEN_MAX: Final = 4  # of one kiosk, begun within a day: an older one is given up

# ---------------------------------------------------------------------------------------------------- reports
REPORTS_AT_ONCE: Final = 2  # on the whole server, and one of each operator: a report takes one core while it runs
REPORT_WAIT_S: Final = 5.0  # for another report to end; a month over a million payments takes three
REPORT_MEMORY_MB: Final = 32  # of each sort or hash; larger ones go to the disk
REPORT_DAYS_MAX: Final = 31  # of a report by days: 3,000 kiosks make 93,000 lines of it
PEAK_DAYS_MAX: Final = 92  # of a heat map: a quarter of a year has 13 of each weekday
PEAK_DAYS: Final = 28  # when nothing is said: four of each weekday
REPORT_ROWS_SHOWN: Final = 100  # of a table on a page; files have all
REPORT_ROWS_MAX: Final = 10_000  # that are read for a page: its sums, and every kiosk of a province
REPORT_BARS: Final = 12  # of a chart; more cannot be told apart
PAYERS_MIN: Final = 5  # fewer accounts are not counted out: they could be told who they are
REPORT_STALE_S: Final = 60.0  # a report says that its numbers are old: the feed is looked at every second

# ---------------------------------------------------------------------------------------------------- the feed
FEED_PERIOD_S: Final = 1.0  # between two looks: nearly every payment is whole by then, and is written once
FEED_BATCH: Final = 2_000  # events: some 600 payments, 50 ms of one server process, and as long a transaction
FEED_WORK_S: Final = 20.0  # of reading without a break, then the loop is renewed; below LOOP_HOLD_S
# After a full batch so many times as long as it took is not read: what is behind catches up with a third of one core,
# and the switch's own work goes before.
FEED_REST: Final = 2.0
FEED_LAG_EVENTS: Final = 10_000  # counted at most: more is "more than", and as bad
FEED_STAMP_PLACES: Final = 50  # moved terminals looked at in one round
FEED_FORGET: Final = 20_000  # rows deleted in one transaction when everything is read anew
# ---------------------------------------------------------------------------------------------------- registry
TRIAL_S: Final = 72 * 3600  # three days with tighter watching before a kiosk counts as one of the others
IMPORT_ROWS_MAX: Final = 2000  # of one file: a city's delivery; checked row by row within a page's time
IMPORT_INFLATED_MAX: Final = 32 * 1_048_576  # bytes of an opened workbook: a small file may pretend to be huge
IMPORT_ERRORS_SHOWN: Final = 200  # a file that is wrong in every line needs no longer list
ORGS_MAX: Final = 5000  # shown as one tree: a province has some 2,000 halls
SERVICE_RETRY_S: Final = 10.0  # between tries of an order that the switch has not carried out; doubled each time
SERVICE_RETRY_MAX_S: Final = 300.0
SERVICE_ORDERS_MAX: Final = 20  # of one turn of the loop: people at the switch's console find a place
GATES_S: Final = 10.0  # how often kiosks in commissioning are looked at: an engineer stands in front of one
CLOCK_SKEW_MAX_MS: Final = 2000  # between a kiosk's clock and ours: messages carry its time
FACT_FRESH_S: Final = 180.0  # older facts prove nothing about now
HOP_S: Final = 3.0  # one hop of the communication check; slower is broken for a customer

# ---------------------------------------------------------------------------------------------------- transactions
COUNT_MAX: Final = 10_000  # payments of a search that are counted; nobody needs to know whether it is 12,345 or 54,321
COUNT_PLACES_MAX: Final = (
    2_000  # of some sites: their payments lie apart, and each that is looked at is a page of the disk
)
PLACES_MAX: Final = 64  # sites whose payments are looked up site by site: each costs an index probe a row of the page
SEARCH_LENGTH_MAX: Final = 40  # characters of the search box

# ---------------------------------------------------------------------------------------------------- loops
LOOP_HOLD_S: Final = 30.0  # a loop that is not renewed within it is another process's

# ---------------------------------------------------------------------------------------------------- monitoring
BEAT_MISSING_S: Final = 165.0  # two beats at their latest (144 s) and a bit; told within three minutes
HEARD_S: Final = 240.0  # a kiosk echoes after 180 s of silence (interface §4.2), and the answer takes its time
ABSENCE_GRACE_S: Final = 2 * BEAT_S * (1 + BEAT_JITTER)  # after a start or a gap of ours: everybody beats once more
FEED_LAG_MAX_S: Final = 120.0  # beyond it nothing is said of sessions and payments
FAILURES_STRAIGHT: Final = 4  # payments in a row: three may be bad luck with one customer
PAID_LATELY_S: Final = 3600.0  # an older success says nothing of now
NEIGHBOURS_PERCENT: Final = 60  # of the others on a line or at a site: then it is not this kiosk
RHYTHM_WEEKS: Final = 8  # of counts behind a rhythm: eight days of each kind
SILENCE_MIN_S: Final = 15 * 60.0  # shorter gaps are no news, whatever was expected
SILENCE_DAYS_MAX: Final = 60  # beyond it Λ is not counted on: a kiosk used once a week alarms after 40 days
HEARD_PAGE: Final = 500  # terminals in one answer of the switch: its own bound, for its loop also pays
HEARD_WRITTEN_S: Final = 60.0  # how much newer the switch's word must be to be written: a fleet talks all the time
WATCH_S: Final = 10.0  # between two looks at the whole fleet
PACE_S: Final = 300.0  # between two looks at how each city's day goes
PAYMENTS_BACK_S: Final = 1800.0  # payments begun within it are looked at again each time: nearly all end within minutes
PAYMENTS_LAST: Final = 12  # of a kiosk, that count for a row of failures: four of ours among customers' own
LEG_WINDOW_S: Final = 900.0  # times of legs are told of the last quarter of an hour
METRICS_MAX: Final = 4_000_000  # bytes of /metrics of eight workers, and room
PROBES_KEPT: Final = 5760  # two days of probes that wait for the database
PROBE_OFFSET_S: Final = 1.0  # into its slot: no probe falls on the edge of two
DIAGNOSES_DAYS: Final = 180  # as events of kiosks
QUARTERS_DAYS: Final = 430  # holidays are compared with those of last year
PROBES_DAYS: Final = 40  # raw; days are folded the night after
FIT_KIOSKS: Final = 500  # in one statement: it must end within STATEMENT_S
WORTH_DAYS: Final = 14  # of payments behind what a session brings
OVERVIEW_S: Final = 5.0  # one reading serves every open page for so long
STALE_S: Final = 25  # two rounds of the loop, and its time
NIGHTS_S: Final = 60.0  # today's availability is summed up so often; the night's work begins within it
DEAD_MAN_S: Final = 60.0  # between two signs of life to the outside
DEAD_MAN_ANSWER_S: Final = 10.0
NEEDS_ROWS: Final = 20  # of the wall's list; the rest is in the list of kiosks
KIOSK_ROWS: Final = 20  # events, sessions and payments on a kiosk's page
TIMELINE_S: Final = 24 * 3600
PROBE_S: Final = 30.0  # requirement R48
PROBE_PAYMENTS_MIN: Final = 10  # of a minute: fewer say nothing about the service

assert 2 * BEAT_S * (1 + BEAT_JITTER) < BEAT_MISSING_S < 180 - WATCH_S  # one lost beat is none; requirement R06
assert 60 % PROBE_S == 0  # a minute is whole slots
assert SESSION_IDLE_S < SESSION_S
assert STEP_UP_S < SESSION_IDLE_S
assert STATEMENT_S < IDLE_TRANSACTION_S
assert ENROLMENT_CODE_BYTES * 8 % 5 == 0  # base32 without padding
assert RENEW_BEFORE_DAYS < CERTIFICATE_DAYS
assert BEAT_S * (1 + BEAT_JITTER) < DEVICE_KEEP_S
assert COMMAND_S <= 24 * 3600  # the table's own CHECK
assert UPLOAD_CHUNK_MAX < UPLOAD_MAX
assert FEED_WORK_S < LOOP_HOLD_S
assert ITEMS_BURST > BATCH_MAX
