"""Every bound of the switch, in one place, with its reason.

Other modules import these names; none of them writes such a number itself. Times that belong to a peer's
behaviour are in ``TimeProfile``: ``STANDARD`` for real links, ``SHORT`` for demo, tests and drills (it is printed
whenever it is used).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# ---- frames and connections
FRAME_SIZE_MAX: Final = 4096  # bytes; the longest message (F48 999 + F62 512 + F55 255), rounded up
MARKETING_FRAME_SIZE_MAX: Final = 262_144  # bytes; an inquiry answer of 24 months is under 16 KiB
KIOSK_CONNECTIONS_MAX: Final = 20_000  # one per kiosk of the largest province, doubled
KIOSK_IDLE_S: Final = 600.0  # a kiosk echoes every few minutes; silence this long means a dead modem
KIOSK_PARTIAL_FRAME_S: Final = 30.0  # a frame that is not complete by then is a slow-loris or a broken line
KIOSK_FIRST_FRAME_S: Final = 60.0  # a kiosk signs on or echoes when it has connected; who says nothing is none
# connected at once from one address: the kiosks of a city behind one router; a twentieth of all
SOURCE_CONNECTIONS_MAX: Final = 1_000
KIOSK_WRITE_BUFFER_MAX: Final = 65_536  # bytes waiting for one kiosk: thirty answers, and it waits for each
WRITE_BUFFER_MAX: Final = 1_048_576  # bytes waiting in our process for one peer; a reader this slow is dropped
CONNECT_TIMEOUT_S: Final = 5.0  # a peer in the same province answers a SYN in milliseconds
TRANSACTION_CONNECTIONS_MAX: Final = 256  # at once to a host that wants one for each; beyond it we decline at once
DIAL_FAILURES_MAX: Final = 3  # in a row: one lost SYN is a lost SYN, three are a host that is away
BACKOFF_FIRST_S: Final = 0.2  # first reconnect; doubles up to the next value, each with full jitter
BACKOFF_MAX_S: Final = 15.0  # a peer that comes back is noticed within this time

# ---- serial lines
SERIAL_LINES_MAX: Final = 256  # of one switch: eight concentrators of 32 ports
SERIAL_KIOSKS_MAX: Final = 32  # on one line: what an RS-485 driver can feed
SERIAL_DEVICE_SIZE_MAX: Final = 255  # characters of a port's path
SERIAL_HEARTBEAT_BYTES_MAX: Final = 64  # DTUs send their number, at most
SERIAL_READ_BYTES: Final = 4096  # at once: the kernel keeps no more of a port
SERIAL_QUEUE_MAX: Final = 64  # answers waiting for one line: two for each kiosk on it
SERIAL_ANSWER_S: Final = 30.0  # an answer that waited longer for a free line is of no use: its kiosk asks again
SERIAL_WRITE_S: Final = 30.0  # a port that takes nothing for so long (flow control) is opened anew
SERIAL_HANG_UP_S: Final = 5.0  # an address that was hung up on is not heard for so long: dialling again takes it too
SERIAL_SAY_EVERY_S: Final = 60.0  # between lines in the log about the noise of one line

# ---- TLS
TLS_HANDSHAKE_S: Final = 10.0  # two round trips and a millisecond of arithmetic; a bad mobile line takes seconds
TLS_HANDSHAKE_BYTES_MAX: Final = 131_072  # of a peer's side of it; OpenSSL takes chains of up to 100 KB
TLS_STEPS_A_TURN: Final = 8  # handshake steps of one loop turn, each up to 1 ms: payments run in between
TLS_REFUSED_LINES_MAX: Final = 20  # warnings between two sweeps (5 s); a flood of failed handshakes is only counted
CERTIFICATE_LOOK_S: Final = 30.0  # between looks for renewed files: much quicker than anybody renews them twice
CERTIFICATE_WARN_S: Final = 14 * 86_400.0  # two weeks before the end: a utility's CA signs in days, not minutes
CERTIFICATE_WARN_EVERY_S: Final = 86_400.0  # a warning that is in the log once a day is read

# ---- work in progress
PAYMENTS_OPEN_MAX: Final = 20_000  # in memory at once; about 4 KiB each; beyond it kiosks are told to try later
PAYMENTS_REMEMBERED_MAX: Final = 20_000  # finished ones kept for repeats; older ones come from the journal
# Deadlines are seconds, and a payment sets four of them: a hundredth later is no difference to anybody, and all that
# fall into one are one entry of the loop's timer
TIMER_TICK_S: Final = 0.01
RETRY_JITTER: Final = 0.2  # most that a wait between two attempts is longer than its profile says
INBOX_MAX: Final = 64  # inputs waiting for one payment while its record commits; more means a peer is flooding us
INFLIGHT_PER_LINK_MAX: Final = 8_192  # unanswered requests on one link; beyond it we decline at once
PREPAY_AGAIN_S: Final = 600.0  # the same prepayment again within this is more often a double tap than a wish (C11)
PREPAYS_REMEMBERED_MAX: Final = 65_536  # of them; ten minutes at 100 a second
INQUIRIES_MAX: Final = 4_096  # bill inquiries in flight; they are shed first
QUOTES_MAX: Final = 100_000  # quotes kept for QUOTE_LIFE_S at 160 inquiries a second
QUOTE_LIFE_S: Final = 600.0  # the customer chooses months and finds the card within ten minutes (saga C10)
RECEIVABLES_MAX: Final = 24  # months on one quote: two years; more are paged
E_BILL_BACK_MAX: Final = 24  # months before this one of which e-bills are told: two winters to compare
E_BILL_PAGE_MAX: Final = 6  # months of one page, each a question to the marketing system; field 48 holds about as many
E_BILL_METERS_MAX: Final = 4  # of one month: a shop has two
E_BILL_STEPS_MAX: Final = 8  # of one month: three tiers, or four times of day in two seasons; with them a month fits
POSTINGS_PER_PAYMENT_MAX: Final = 24  # one charge covers at most what one quote shows
STRAY_QUEUE_MAX: Final = 10_000  # late and duplicate answers waiting to be recorded; beyond it they are only counted

# ---- journal
JOURNAL_BATCH_MAX: Final = 512  # entries in one commit: more only adds latency (measured: 206k rows/s at 512)
# Entries from which on a commit is made by COPY. Below it is one statement with arrays: one round trip and not seven
# (measured: PERFORMANCE.md)
JOURNAL_COPY_FROM: Final = 24
JOURNAL_PENDING_MAX: Final = 50_000  # entries waiting for a commit; beyond it admission is closed
# bytes in one commit; asyncpg waits for a slow socket from 512 KiB on, and for ever if it dies then
JOURNAL_BATCH_BYTES_MAX: Final = 393_216
# a commit without an answer for so long: the connection is given up and the rows are re-read
JOURNAL_ANSWER_S: Final = 10.0
# entries the database refuses for good (a fault of ours): one must not close a province, a pattern must
JOURNAL_PARKED_MAX: Final = 8
JOURNAL_PARKED_RETRY_S: Final = 5.0  # between attempts to write such an entry, in case the reason has gone
JOURNAL_STOP_S: Final = 5.0  # how long `stop` waits for what is still uncommitted
PARTITIONS_AHEAD_DAYS: Final = 7  # days whose partition exists in advance
JOURNAL_RECONNECT_S: Final = 0.2  # between attempts to reach PostgreSQL again
DATABASE_START_WAIT_S: Final = 15.0  # how long `run` waits for a database that is starting
# Work that waits longer than this, look after look: fewer new bill inquiries. A customer notices half a second, and the
# waits of a payment's six steps add up
ADMISSION_DELAY_S: Final = 0.03
# The room while there is too much: this share of what is in progress, each time that it still waits too long …
ROOM_SHRINKS_TO: Final = 0.85
# … and so much of it is added each time that it does not: gently, for it is felt half a second later
ROOM_GROWS_BY: Final = 0.05
ROOM_MIN: Final = 32  # inquiries and payments that are always served: fewer keep no worker busy
OVERLOAD_REST_S: Final = 0.2  # a kiosk that was told "busy" is not read for so long: its next try costs nothing then
PRESSURE_EVERY_S: Final = 0.02  # between looks at how long work waits …
PRESSURE_LOOKS: Final = 10  # … and so many of them must agree: a fifth of a second, longer than any one pause
ADMISSION_COMMIT_LAG_S: Final = 2.0  # oldest waiting commit older than this: no new payments until it has passed

# a kiosk's key names MMDD without a year; a busy terminal's trace numbers wrap in two months
CLAIM_KEPT_DAYS: Final = 30

# ---- terminals and numbers
STAN_MAX: Final = 999_999  # six digits; wraps to 1
STAN_BLOCK: Final = 200  # numbers reserved at once; a restart loses the rest of a block and never reuses one
STAN_REFILL_AT: Final = 100  # numbers left when the next block is asked for, so that nobody waits for it
SIGN_ON_PARALLEL_MAX: Final = 64  # terminal sign-ons in flight: a fleet that starts at 06:00 must not flood its host
# Starts of two sign-ons of one process, in the queue behind those: 10,000 terminals whose host has forgotten their keys
# at once take 50 s, and a host that serves payments sees 200 a second of them, not all
SIGN_ON_GAP_S: Final = 0.005
SIGN_ON_QUEUE_MAX: Final = 20_000  # terminals in that queue: every kiosk of a province; beyond it they try later
# an acquirer may ask for another sign-on so long after the last: one that asks in every answer is heard now and then
SIGN_ON_WISH_S: Final = 600.0
ISSUER_DATA_BYTES_MAX: Final = 512  # of field 55 in an answer: 16 bytes of 91 and scripts of 128 each, twice over
NOTICES_MAX: Final = 256  # script notices being kept; a kiosk whose notice is not kept sends it again
NOTICES_AT_ONCE: Final = 50  # due ones sent by one look: no load that customers could feel
NOTICES_EVERY_S: Final = 5.0  # between looks for those that are due
NOTICE_LIFE_S: Final = 86_400.0  # the terminal's batch has been settled by then: they are given up
DOWNLOADS_MAX: Final = 32  # downloads in flight: a fleet that fetches new keys leaves the link to customers
DOWNLOAD_ANSWER_S: Final = 15.0  # no answer of the acquirer by then: the kiosk, which waits 20 s, asks again
SIGN_ON_LIFE_S: Final = 86_400.0  # working keys are renewed once a day (facts: every 24 h) …
# … or up to so much sooner, by a fixed share of each terminal: a fleet that signed on in one minute at 06:00 is told to
# do so again (by the answer to its echo test) between 00:00 and 06:00, a terminal every two seconds
SIGN_ON_SPREAD_S: Final = 21_600.0
TERMINAL_LOOKUPS_MAX: Final = 256  # unknown terminal ids being looked up at once; random ids must not load the database
TERMINAL_UNKNOWN_S: Final = 5.0  # an id that nobody knows is not looked up again for so long
TERMINAL_REFRESH_S: Final = 5.0  # what another process changed (in service, new TMK) is seen within this time

# ---- the door: what a kiosk may ask for (rates are in [listen.limits])
PAYMENTS_BURST: Final = 3  # payments one after the other: a customer with three accounts in his hand
INQUIRIES_BURST: Final = 10  # bill inquiries one after the other: a customer who mistypes, and the next in the queue
REQUESTS_BURST: Final = 60  # of any kind with a right MAC: a kiosk that is back asks for the results of its day
GREETINGS_BURST: Final = 10  # sign-ons and echo tests on one connection: they carry no MAC, so anybody can send them
FAULTS_BURST: Final = 60  # wrong frames of one source that are answered and logged: a vendor who tries things out
MAC_WRONG_MAX: Final = 3  # wrong MACs in a row: one is a stale key, two a kiosk that has not heard yet
DOOR_KEYS_MAX: Final = 40_000  # sources or terminals whose use is remembered: twice as many as may be connected
# Working keys older than this open nothing: a week of an acquirer that refuses sign-ons, and far less than keys of
# payments are remembered. So what was recorded on a line can no longer be replayed when its payment is forgotten.
WORKING_KEYS_LIFE_S: Final = 604_800.0

# ---- circuit breakers (per peer)
BREAKER_WINDOW: Final = 100  # latest requests that are looked at
BREAKER_WINDOW_S: Final = 120.0  # and none older than this: two card time-outs
BREAKER_REQUESTS_MIN: Final = 10  # fewer prove nothing: a quiet night must not close the door over one silence
BREAKER_SILENT_SHARE: Final = 0.5  # of them without an answer: the peer does not work
BREAKER_OPEN_S: Final = 10.0  # left alone for so long; twice as long each time that it happens again …
BREAKER_OPEN_MAX_S: Final = 160.0  # … up to this
BREAKER_FORGETS_S: Final = 600.0  # … within this time

# ---- control and trace
TRACE_RING_MAX: Final = 2_000  # messages kept of each link: half a minute of a busy one, about 1 MiB
CONTROL_CALLERS_MAX: Final = 8  # people and scripts at once
HEARD_PAGE_MAX: Final = 500  # terminals told of at once: a third of a millisecond of the loop that also pays
CONTROL_LINE_MAX: Final = 65_536  # bytes of one request
CASE_NAME_MAX: Final = 64  # characters of who proposes or confirms

# ---- memory
# New objects between two looks of Python's garbage collector: it takes 2 ms to look at so many, and a thousand payments
# leave so many behind
GC_YOUNG_OBJECTS: Final = 50_000
GC_LOOK_S: Final = 10.0  # between looks whether it is time to look at all objects …
GC_QUIET_S: Final = 300.0  # … which it is so long after the last time, when no payment is open …
GC_BUSY_S: Final = 7_200.0  # … or in any case: a pause of 0.1 s with 20,000 payments remembered, twelve times a day

# ---- observation
METRIC_SERIES_MAX: Final = 1_024  # label sets of one metric: response codes are two characters of a peer's choice
HEALTH_CALLERS_MAX: Final = 16  # a balancer or two, Prometheus, a person; beyond it the oldest is cut off
LOG_DEPTH_MAX: Final = 4  # of nested facts; deeper ones are named, not shown
LOG_TEXT_SIZE_MAX: Final = 8_192  # characters of one fact: a traceback of the deepest call chain fits

# ---- security module
SECURITY_ANSWER_S: Final = 2.0  # no answer of a module by then: the call is given up; a healthy one needs 10 ms at most
SECURITY_PENDING_MAX: Final = 8_192  # operations waiting for the module; beyond it they are refused at once
SECURITY_SESSIONS_MAX: Final = 32  # sessions of one process with a hardware module
SECURITY_AGAIN_S: Final = 0.5  # between attempts to verify an answer that the module could not judge …
SECURITY_AGAIN_MAX: Final = 6  # … and so many of them: then the answer counts as not believed
RANDOM_SIZE_MAX: Final = 1_024  # bytes asked of a module at once: its generator is slow

# ---- key ceremonies
KEY_CEREMONY_LIFE_S: Final = 86_400.0  # between the first component and the last confirmation: custodians of two shifts
KEY_NAME_SIZE_MAX: Final = 32  # characters of a transport key's or a person's name: they are columns of a table
KEY_EVENTS_PAGE: Final = 1_000  # acts read at once while the chain of all of them is checked

# ---- card data and keys of the vault
# days in which a purchase may be refunded: a month's bill is disputed when the next one comes
REFUND_DAYS: Final = 45
REFUND_DAYS_MAX: Final = 400  # a year and the clearing of its last day; 9,600 key files of 65 bytes
VAULT_HOURS_KEPT: Final = 2  # the current hour's key and the one before: a payment may have begun a minute ago
# hours that one process holds ready: two days of open payments. Refunds read older ones, 65 bytes each, when they come
VAULT_KEYS_CACHED_MAX: Final = 48
# between looks for keys that no row needs. One goes when two looks in a row say so: between them whatever was on its
# way has been committed, or its worker has been ended
VAULT_LOOK_S: Final = 600.0
VAULT_CLOCK_MAX_S: Final = 600.0  # our clock and the database's differ by more: no key goes, nobody knows the hour

PROJECTION_BATCH_MAX: Final = 2_000  # events of one transaction of the projector: a tenth of a second
PROJECTION_EVERY_S: Final = 1.0  # books are this far behind when nothing else happens
CASES_SHOWN_MAX: Final = 1_000  # waiting payments on one list; more are an incident, not a list

# ---- three-way check
THREEWAY_EVERY_S: Final = 300.0  # between rounds
THREEWAY_AFTER_S: Final = 900.0  # a payment is compared when nothing about it can still be under way
THREEWAY_UNTIL_S: Final = 172_800.0  # two days: then both settlement files have been read
THREEWAY_AGAIN_S: Final = 600.0  # a difference is looked at again after so long, until it is gone
THREEWAY_AT_ONCE: Final = 200  # payments of one look, asked one after the other: no load that customers could feel
THREEWAY_LOOKS_MAX: Final = 50  # of one round: a backlog must not keep it from ending

# ---- scan for card data
SCAN_PIECE_BYTES: Final = 4_194_304  # read at once: a core file is larger than the memory that looks at it
SCAN_OVERLAP_BYTES: Final = 1_024  # of two pieces: the longest thing looked for, a track in hexadecimal, ten times
SCAN_HITS_MAX: Final = 1_000  # shown; more are only counted

# ---- batch settlement of kiosks
BATCH_BACK_DAYS: Final = 25  # a day may be settled so long after it: its keys are kept for CLAIM_KEPT_DAYS
BATCH_DETAILS_MAX: Final = 30  # of one upload message: what field 48 holds with the largest amounts
BATCH_COUNT_MAX: Final = 100_000  # payments of one terminal in one day: one a second is less
BATCH_DIFFERENCES_TOLD_MAX: Final = 20  # in the answer to a kiosk: as many as fit; people see all
BATCHES_SHOWN_MAX: Final = 1_000  # rows of `gridswitch batches`, the newest: more is an incident, not a list
BATCHES_WAITING_MAX: Final = 256  # questions waiting for the database: all kiosks settle at the same hour

# ---- batch settlement with the card network
SETTLE_LOOK_S: Final = 10.0  # between looks for terminals whose turn it is
SETTLE_PAGE: Final = 100  # terminals of one look: each is asked after the other
SETTLE_AGAIN_S: Final = 120.0  # a settlement without an answer is asked again: two card time-outs later
SETTLE_TRIES_LOUD: Final = 5  # tries after which `gridswitch batches` shows a batch that the host does not settle
SETTLE_TRIES_MAX: Final = 50  # of one batch: two hours; then a person looks why the host does not settle it
SETTLE_SPREAD_MAX_S: Final = 43_200.0  # over which terminals are spread at most: half a day
SETTLE_COUNT_MAX: Final = 999  # charges that field 48 has digits for
SETTLE_DETAILS_MAX: Final = 8  # of one upload message (UnionPay)

# ---- client library for kiosks (switch/kiosk)
KIOSK_OPEN_MAX: Final = 16  # payments of one kiosk without a final word; a kiosk with more takes no new ones
KIOSK_FINISHED_MAX: Final = 16  # final words kept until the slip is printed; beyond it the oldest is forgotten
KIOSK_PAID_MAX: Final = 1_000  # paid ones of days that are not settled; a busy kiosk has 200 a day
KIOSK_STATE_BYTES: Final = 65_536  # of one copy of its file: 32 payments of 24 months are below 40 KB, 1,000 paid 22 KB
KIOSK_SERIAL_BLOCK: Final = 100  # serials reserved by one write: a kiosk that is switched off and on loses the rest
KIOSK_SERIALS_A_SECOND: Final = 11  # where a new file begins: 86,400 seconds into 999,999 serials
KIOSK_SERIAL_SKIP: Final = 1_000  # serials left out after "key conflict": somebody used those of today
KIOSK_CHIP_TRIES: Final = 3  # a chip's last word is sent so often at most: the customer waits
KIOSK_DOWNLOAD_ITEMS_MAX: Final = 99  # public keys or applications of one listing: two digits count them; 40 are usual
KIOSK_REQUESTS_MAX: Final = 32  # unanswered requests of one kiosk: one customer, and what it asks by itself

# ---- peripherals of kiosks
DEVICE_ANSWER_S: Final = 1.0  # a byte of a peripheral; they answer in 0.3 s
DEVICE_MOVE_S: Final = 20.0  # a card or paper that moves
DEVICE_TRIES: Final = 4  # of one command: noise on a line of half a metre hits one frame, not four
DEVICE_FRAME_MAX: Final = 1_024  # bytes of one answer; three tracks are below 250
PIN_ENTRY_S: Final = 60.0  # a customer who takes longer has gone

# ---- the kiosk's page (switch/kiosk/web)
KIOSK_WEB_IDLE_S: Final = 60.0  # without a touch, back to the start: to read six months takes an old customer 30 s
KIOSK_WEB_E_BILL_MONTHS: Final = 4  # of one page: the newest has no bill yet, three fit a screen without scrolling
KIOSK_WEB_POLL_S: Final = 15.0  # an answer without news: proxies and browsers drop what is silent for a minute
KIOSK_WEB_LOOK_S: Final = 0.25  # between looks at line and notices: what people feel as at once
KIOSK_WEB_PAPER_LOOK_S: Final = 5.0  # between questions to the printer, while nobody stands there
KIOSK_WEB_RESTART_S: Final = 5.0  # between tries to use the kiosk's file again: a full disk stays full for a while
KIOSK_WEB_BODY_MAX: Final = 4_096  # bytes of one act; 24 receivables of 24 characters are below 1 KB
KIOSK_WEB_TEXT_MAX: Final = 64  # characters of one value of an act: an account has 20, a receivable 24
KIOSK_WEB_SLIPS_MAX: Final = 4  # slips that lie in the simulated printer's tray
KIOSK_WEB_STOP_S: Final = 1.0  # a browser that waits for news is told none, when the program ends
KIOSK_WEB_NOTICES_MAX: Final = 20  # more nobody reads
KIOSK_WEB_NOTICES_BYTES_MAX: Final = 65_536  # of their file: twenty of them at 3 KB

# ---- fault proxy
FAULT_QUEUE_BYTES_MAX: Final = 4_194_304  # bytes delayed in one direction of one connection; then it reads no more

# ---- process
WORKERS_MAX: Final = 64  # processes of one switch: more cores than the largest machine we know for it
LOOP_LAG_MAX_S: Final = 2.0  # /live fails when the loop has not turned for so long
VITALS_EVERY_S: Final = 5.0  # between looks at disk, clock and the numbers of the database
DISK_FREE_MIN_BYTES: Final = 268_435_456  # not ready below 256 MB: keys of the vault and logs need little, but always
CLOCK_OFFSET_MAX_S: Final = 1.0  # not ready beyond: both networks judge our times by seconds
COMMIT_PROBE_MAX_S: Final = 0.5  # a renewal of the lease is one small commit; two slower: send kiosks elsewhere
DRAIN_LOOK_S: Final = 0.05  # between looks at what is still open while the switch drains
RECOVERY_PAGE: Final = 200  # open payments loaded at once after a restart


@dataclass(frozen=True, slots=True)
class TimeProfile:
    """Times of the saga, in seconds (saga C17). The relations between them are asserted below."""

    name: str
    card_s: float  # no 0210 by then: in doubt, reverse
    kiosk_s: float  # the kiosk gives up waiting; we tell it PENDING before
    chip_s: float  # an approved chip card has its last word by then, or the charge is taken back (saga C14)
    quiet_s: float  # longest time the card host can still act on a purchase
    late_s: float  # longest time an answer of the card host can be under way
    post_s: float  # no answer to a posting by then: ask
    marketing_quiet_s: float  # longest time the marketing system can still act on a posting
    bill_s: float  # after it a posting is given up and cancelled, unless the kiosk was told PENDING
    reversal_backoff_s: tuple[float, ...]  # waits before reversal 1, 2, 3 …; the last repeats
    bill_backoff_s: tuple[float, ...]  # waits before inquiry, posting again, cancel again
    echo_idle_s: float  # silence on a link before an echo test
    echo_timeout_s: float  # no echo answer by then: the link is reset
    drain_s: float  # SIGTERM: how long in-flight payments may still run
    cut_over_s: float  # before the card network's cut-over: nothing begins whose reversal could come too late
    lease_ttl_s: float  # a worker that could not renew its lease for so long sends nothing more
    lease_heartbeat_s: float  # between renewals, and between looks for workers whose lease has ended
    lease_margin_s: float  # clocks that run at different speeds, and frames on their way: waited on top by others

    @property
    def answer_s(self) -> float:
        """The kiosk is told what we know by then: a fifth of its patience is left for the line."""
        return self.kiosk_s * 0.8

    def __post_init__(self) -> None:
        assert self.card_s < self.answer_s, "a card time-out is told, not guessed"
        # A kiosk must outlast the card network, or it shows "failed" for a payment that we then approve.
        assert self.card_s < self.kiosk_s
        # A slow issuer and then a silent chip: the kiosk still hears of it while it waits.
        assert self.card_s + self.chip_s < self.answer_s
        # A reversal can only be proved needless after the host can no longer act on the purchase.
        assert self.card_s <= self.quiet_s
        # The drain must let a customer who stands there see an answer.
        assert self.drain_s > self.kiosk_s
        assert self.post_s < self.bill_s
        # A purchase that stays silent must still be reversed on its own day.
        assert self.cut_over_s >= 2 * self.card_s
        assert self.echo_timeout_s < self.echo_idle_s
        # One lost renewal must not cost the lease, and the margin is part of it.
        assert 3 * self.lease_heartbeat_s < self.lease_ttl_s - self.lease_margin_s
        # What a worker sent just before its lease ended has long been acted on when its heir proves what is charged.
        assert self.lease_ttl_s + self.lease_margin_s < self.quiet_s


STANDARD: Final = TimeProfile(
    name="standard",
    card_s=60.0,
    kiosk_s=90.0,
    chip_s=10.0,
    quiet_s=120.0,
    late_s=60.0,
    post_s=10.0,
    marketing_quiet_s=60.0,
    bill_s=600.0,
    reversal_backoff_s=(0.0, 5.0, 15.0, 60.0, 300.0),
    bill_backoff_s=(1.0, 2.0, 4.0, 8.0, 15.0),
    echo_idle_s=30.0,
    echo_timeout_s=10.0,
    drain_s=100.0,
    cut_over_s=150.0,
    lease_ttl_s=10.0,
    lease_heartbeat_s=1.0,
    lease_margin_s=5.0,
)

SHORT: Final = TimeProfile(
    name="short",
    card_s=2.0,
    kiosk_s=6.0,
    chip_s=1.5,
    quiet_s=3.0,
    late_s=2.0,
    post_s=1.0,
    marketing_quiet_s=2.0,
    bill_s=10.0,
    reversal_backoff_s=(0.0, 0.5, 1.0, 2.0, 5.0),
    bill_backoff_s=(0.2, 0.5, 1.0, 2.0),
    echo_idle_s=2.0,
    echo_timeout_s=1.0,
    drain_s=10.0,
    cut_over_s=5.0,
    lease_ttl_s=2.0,
    lease_heartbeat_s=0.25,
    lease_margin_s=0.5,
)

PROFILES: Final = {profile.name: profile for profile in (STANDARD, SHORT)}


@dataclass(frozen=True, slots=True)
class KioskTimes:
    """Times of the client library, in seconds. Source: the kiosk interface; what it leaves open has its reason here."""

    answer_s: float  # for the response to a payment (interface §4.4)
    inquiry_s: float  # for any other: the switch gives up on the marketing system after 10 s (1 s on the short profile)
    ready_s: float  # a customer waits so long for a line and keys before he is told to try later
    clarify_s: float  # and so long for the result of a payment whose response did not come
    ask_first_s: float  # between result inquiries: "every few seconds" …
    ask_max_s: float  # … and once a minute when it takes hours
    echo_s: float  # silence before an echo test: "every few minutes"
    sign_on_pause_s: tuple[float, float]  # at random, between sign-ons that fail (interface §4.1)
    keys_wrong_s: float  # after K1 (interface §6: "in a minute")

    def __post_init__(self) -> None:
        assert self.echo_s < KIOSK_IDLE_S
        assert 0 < self.ask_first_s <= self.ask_max_s


# for real lines
KIOSK_STANDARD: Final = KioskTimes(
    answer_s=STANDARD.kiosk_s,
    inquiry_s=20.0,
    ready_s=15.0,
    clarify_s=30.0,
    ask_first_s=2.0,
    ask_max_s=60.0,
    echo_s=180.0,
    sign_on_pause_s=(5.0, 60.0),
    keys_wrong_s=60.0,
)
# for demo, tests and drills, with TimeProfile SHORT
KIOSK_SHORT: Final = KioskTimes(
    answer_s=SHORT.kiosk_s,
    inquiry_s=4.0,
    ready_s=5.0,
    clarify_s=6.0,
    ask_first_s=0.2,
    ask_max_s=2.0,
    echo_s=20.0,
    sign_on_pause_s=(0.2, 1.0),
    keys_wrong_s=2.0,
)

# A replayed request meets the key of its payment, or its MAC key has gone.
assert WORKING_KEYS_LIFE_S + 2 * SIGN_ON_LIFE_S < CLAIM_KEPT_DAYS * 86_400
assert BATCH_BACK_DAYS + 2 < CLAIM_KEPT_DAYS
assert 2 * STANDARD.card_s <= SETTLE_AGAIN_S
assert SIGN_ON_LIFE_S < WORKING_KEYS_LIFE_S
assert SOURCE_CONNECTIONS_MAX < KIOSK_CONNECTIONS_MAX < DOOR_KEYS_MAX
assert STAN_REFILL_AT < STAN_BLOCK
# An answer is given up before its kiosk has stopped waiting.
assert STANDARD.kiosk_s > SERIAL_ANSWER_S
assert 2 * SERIAL_KIOSKS_MAX <= SERIAL_QUEUE_MAX
assert 0 < REFUND_DAYS <= REFUND_DAYS_MAX
assert JOURNAL_ANSWER_S + STANDARD.lease_ttl_s + STANDARD.lease_margin_s < VAULT_LOOK_S
# The next hour's key is made at some look of this one.
assert VAULT_LOOK_S + VAULT_CLOCK_MAX_S < 3600
assert SIGN_ON_SPREAD_S < SIGN_ON_LIFE_S
# A terminal's open window must be far below the six digits, or an open number could come round again.
assert STAN_BLOCK * 100 < STAN_MAX
assert POSTINGS_PER_PAYMENT_MAX <= RECEIVABLES_MAX
assert JOURNAL_BATCH_MAX < JOURNAL_PENDING_MAX
assert JOURNAL_BATCH_BYTES_MAX < 512 * 1024
