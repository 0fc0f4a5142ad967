"""Interfaces of everything outside the machines. Real adapters and stand-ins implement the same port.

Ports on the path of a payment complete by callback: ``done`` is called exactly once, at once or later, always on
the loop's thread, never from another. An implementation may call ``done`` before the method returns, so callers
set their state first. Callbacks must not raise; what they raise is a fault of ours and is logged, and must not
take other callbacks with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from msgspec import Struct

from switch.errors import SecurityError, SwitchError
from switch.model.batch import BatchDetail, BatchKey, BatchStanding
from switch.model.payment import State, StoredPayment


# ---------------------------------------------------------------------------------------------------- time and dice
class Clock(Protocol):
    def now(self) -> float:
        """Monotonic seconds: all deadlines."""
        ...

    def wall_us(self) -> int:
        """Microseconds since 1970, UTC: only for fields and rows."""
        ...


class Dice(Protocol):
    def uniform(self) -> float:
        """0 <= x < 1: jitter."""
        ...


# ---------------------------------------------------------------------------------------------------- journal
class ClaimKind(StrEnum):
    __hash__ = str.__hash__  # as of ``State``

    KIOSK = "kiosk"  # terminal|MMDD|serial: the kiosk's idempotency key
    STAN = "stan"  # terminal|batch|stan: the card network's key
    BILL = "bill"  # account|receivable: two kiosks paying one bill at once
    OPEN = "open"  # payment id: the payment is not final; carries the sealed card data


# A kiosk's key and a trace number stay with their payment; old ones go by age.
GIVEN_BACK: Final = (ClaimKind.OPEN, ClaimKind.BILL)


class Claim(Struct, frozen=True):
    kind: ClaimKind
    key: str
    sealed: bytes | None = None  # only on OPEN: card data for a reversal
    sealed_pan: bytes | None = None  # only on OPEN: the card number alone, for a refund


class JournalEntry(Struct):
    """One transition of one payment, to be committed before the effect after it starts.

    ``(opened_on, payment_id, ver)`` is the primary key and so the compare-and-set: whoever writes ``ver`` first has
    decided. ``claims`` are taken and ``releases`` given back in the same transaction. OPEN is claimed by the first
    entry of a payment alone; an entry that gives it back gives back whatever bills its payment still holds.
    """

    opened_on: int  # YYYYMMDD
    payment_id: int
    ver: int
    state: State
    row: str  # the transition table's row, e.g. "2"
    wall_us: int
    amount: int  # fen
    body: bytes  # JSON object: what changed; never card data
    link: bytes  # 32 bytes: SHA-256 over the previous event's link and this event
    attempt: bytes | None = None  # the frame about to leave, secrets removed
    ledger: bytes | None = None  # JSON array of [account, debit fen, credit fen]; balanced
    claims: tuple[Claim, ...] = ()
    releases: tuple[Claim, ...] = ()  # of GIVEN_BACK
    # YYYYMMDD. With the release of OPEN: its ``sealed_pan`` becomes a kept card until the end of that day; 0: it goes.
    # With its claim: what that day will be if the payment completes today, so that nothing need be written then.
    keep_until: int = 0


class Append(StrEnum):
    """How an append ended. There is no "unknown": the journal re-reads by key until it knows."""

    COMMITTED = "committed"
    LOST = "lost"  # another writer wrote this ver: drop the payment, it is theirs
    CLAIMED = "claimed"  # a claim exists already; nothing of the entry was written


class Appended(Struct, frozen=True):
    result: Append
    claim: Claim | None = None  # with CLAIMED: the (first) claim that was refused


@dataclass(slots=True, frozen=True)
class Closed:
    """A kiosk's key under which there is no payment and never will be: its kiosk was told so."""

    code: str


Found = StoredPayment | Closed | None


@dataclass(slots=True, frozen=True)
class Stray:
    """An answer that no payment in memory waits for: late, duplicate or foreign. Recorded, never lost."""

    peer: str  # "unionpay" or "marketing"
    kind: str  # "late", "duplicate", "foreign", "unreadable"
    key: str  # match key, or "" when unreadable
    detail: str  # masked text
    wall_us: int


class Journal(Protocol):
    def append(self, entry: JournalEntry, done: Callable[[Appended], None]) -> None:
        """Commit one entry (with whatever else waits: group commit) and call ``done`` after COMMIT.

        Entries of one payment are given one at a time, the next only after ``done``. During an outage entries wait,
        bounded by ``limits.JOURNAL_PENDING_MAX``; the caller checks ``accepting`` before it starts new payments.
        """
        ...

    def find(self, claim: Claim, done: Callable[[Found], None], *, close: str = "") -> None:
        """The payment that holds ``claim`` (kind and key), read from the database, folded. None: nobody.

        Args:
            close: With a kiosk's key that nobody holds: close it with this code, durably, before ``done``. Only then
                may the kiosk hear that nothing was charged: another worker may have a copy of its request.
        """
        ...

    def note(self, stray: Stray) -> None:
        """Record a stray answer soon, off the path. Bounded; an overflow is counted."""
        ...

    @property
    def accepting(self) -> bool:
        """False while commits are late, the database is away or the lease is not held: no new payments."""
        ...

    @property
    def may_send(self) -> bool:
        """True while nobody else can have taken a payment of ours. Asked right before each write to a host."""
        ...

    @property
    def pending(self) -> int:
        """Entries waiting for their commit."""
        ...

    @property
    def queue_s(self) -> float:
        """Seconds that the oldest entry has waited for its turn in a commit; 0: none waits."""
        ...


class LeasedJournal(Journal, Protocol):
    """What a worker needs of a journal beside the path of payments.

    Each open payment has one owner, the worker that drives it, and each worker a lease that it renews by itself. A
    worker whose lease ran out may be ended by any other one: from then on it can write nothing.
    """

    on_lost: Callable[[], None]
    """Called once when this worker has been ended: everything it knows is stale, and its payments are another's."""

    @property
    def epoch(self) -> int:
        """Of this worker, in this database; a new one for every start."""
        ...

    async def take_over(self, limit: int) -> list[StoredPayment]:
        """End workers whose lease is over and take at most ``limit`` of their open payments, by payment id."""
        ...


@dataclass(slots=True, frozen=True)
class Verdict:
    """What two people decided about a payment that waits for them."""

    id: int
    payment_id: int
    decision: str  # paid, nothing, refunded, charged
    facts: dict[str, str]  # evidence, proposed_by, confirmed_by


@dataclass(slots=True, frozen=True)
class StoreVitals:
    """Numbers of the whole database, over all workers."""

    stan_open: int  # payments that are not final: their trace numbers may not come again
    sealed_rows: int  # of them with card data
    sealed_oldest_s: float
    signed_on: int  # terminals in service whose working keys are good
    key_age_s: float  # of the oldest working keys of a terminal in service


class Cases(Protocol):
    async def verdicts(self, epoch: int) -> list[Verdict]:
        """Confirmed, not carried out, about payments of this worker. Raises UnavailableError."""
        ...

    async def settle(self, verdict: Verdict, outcome: str) -> None:
        """It was carried out ("done"), or why not. Again after a crash: nothing changes."""
        ...


@dataclass(slots=True, frozen=True)
class ScriptNotice:
    """What a chip did with its issuer's scripts, for the acquirer. One a payment."""

    opened_on: int
    payment_id: int
    body: dict[str, Any]  # no card data
    sealed: bytes  # ``KeptCard`` under ``payment id | "script"``
    age_s: float = 0.0


class NoticeStore(Protocol):
    """All raise UnavailableError."""

    async def add(self, notice: ScriptNotice, again_s: float) -> None:
        """Durably; it is due after ``again_s``. Nothing, if its payment has one."""
        ...

    async def due(self, again_s: float) -> list[ScriptNotice]:
        """Some that are due, no longer due for any worker for ``again_s``, then for twice as long, and so on."""
        ...

    async def end(self, notice: ScriptNotice) -> None: ...


# ---------------------------------------------------------------------------------------------------- terminals
@dataclass(slots=True)
class Terminal:
    """A kiosk as the card network knows it, with what its last sign-on brought."""

    terminal_id: str  # 8 characters
    merchant_id: str  # 15 characters
    key_mode: str  # "dual_tmk", or "translate": the kiosk has keys of ours, and PIN blocks are translated
    in_service: bool
    tmk_wrapped: bytes  # the active terminal master key under the LMK; empty: none yet
    tmk_kcv: bytes  # 3 or 4 bytes; empty with it
    batch_number: str = "000001"
    key_epoch: int = 0  # bumped by every sign-on
    working_keys: bytes | None = None  # field 62 as the acquirer sent it: cryptograms under the TMK with their KCVs
    signed_on_us: int = 0  # wall clock of the last sign-on
    out_of_service_reason: str = ""
    sign_on_fault: str = ""  # why the last sign-on gave no usable keys; until the next good one it trades nothing
    next_tmk_wrapped: bytes = b""  # the active one's successor: the first sign-on that it proves makes it that
    next_tmk_kcv: bytes = b""
    stage: str = "in_service"  # the last of GATES that it has passed; one that is added further on is a test terminal
    platform_wrapped: bytes = b""  # mode translate: the kiosk's master key under the LMK
    platform_kcv: bytes = b""
    kiosk_keys: bytes | None = None  # mode translate: its working keys as field 62, under the platform key
    mac_echoes: int = 0  # echo tests with MAC, kiosk to card network and back, with these working keys


# How a new terminal comes into service: each is passed by its proof alone, in this order, never by hand.
GATES: Final = ("registered", "keys", "sign_on", "mac_echo", "test_query", "test_reversal", "in_service")


class Terminals(Protocol):
    def known(self, terminal_id: str) -> Terminal | None:
        """From the cache. None: ask with ``get``."""
        ...

    def get(self, terminal_id: str, done: Callable[[Terminal | SwitchError | None], None]) -> None:
        """From the cache at once, else from the database. None: no such terminal. SwitchError: database away."""
        ...

    def reserve_stans(self, terminal_id: str, count: int, done: Callable[[int | SwitchError], None]) -> None:
        """Reserve ``count`` consecutive numbers durably; gives the first (1…999999; the block never wraps inside)."""
        ...

    def install_keys(
        self,
        terminal_id: str,
        *,
        working_keys: bytes,
        under: bytes,
        batch_number: str,
        wall_us: int,
        done: Callable[[Terminal | SwitchError], None],
        kiosk_keys: bytes | None = None,
    ) -> None:
        """Store what a sign-on brought, bump ``key_epoch``, durably and atomically; gives the updated terminal.

        ``under`` is the block of the master key that proved the keys. If that is the next one it becomes the active
        one with this; BadRequestError: it is neither, people have changed the terminal's keys meanwhile.
        """
        ...

    def note_mac_echo(self, terminal_id: str, key_epoch: int, done: Callable[[Terminal | SwitchError], None]) -> None:
        """An echo test with MAC has gone there and back with the working keys of this epoch; the third passes the gate.

        BadRequestError: the terminal does not wait for one, or has other keys by now.
        """
        ...

    def note_test_query(self, terminal_id: str, done: Callable[[Terminal | SwitchError], None]) -> None:
        """The marketing system answered an inquiry for the test account; BadRequestError: it waits for none."""
        ...

    def note_test_payment(
        self, terminal_id: str, opened_on: int, payment_id: int, done: Callable[[Terminal | SwitchError], None]
    ) -> None:
        """This payment for the test account was charged and given back: the journal is asked whether that is so.

        BadRequestError: it is not, or the terminal waits for none.
        """
        ...

    def close_batch(
        self, terminal_id: str, batch_number: str, state: str, done: Callable[[Terminal | SwitchError], None]
    ) -> None:
        """The card network has settled a batch, ``state`` "balanced" or "differs": durably, with the terminal's next
        batch number, unless a sign-on brought that already. Again: nothing changes."""
        ...

    def note_fault(self, terminal_id: str, fault: str, done: Callable[[Terminal | SwitchError], None]) -> None:
        """A sign-on brought keys that do not prove themselves. What is stored of an earlier one stays as it is."""
        ...


# ---------------------------------------------------------------------------------------------------- batch settlement
class KioskBatches(Protocol):
    """Settlements of kiosks. Each call gives how the settlement stands now, and again the same when it is repeated.

    SwitchError: the database is away; the kiosk begins anew.
    """

    def ask(
        self,
        key: BatchKey,
        *,
        day: int,
        batch_number: str,
        count: int,
        amount: int,
        done: Callable[[BatchStanding | SwitchError], None],
    ) -> None:
        """Compare what a kiosk says that it took on ``day`` (YYYYMMDD) with the journal, and remember it."""
        ...

    def add(
        self, key: BatchKey, details: Sequence[BatchDetail], done: Callable[[BatchStanding | SwitchError], None]
    ) -> None:
        """Details of a settlement that differs. A serial that comes again stands for the earlier one."""
        ...

    def compare(self, key: BatchKey, count: int, done: Callable[[BatchStanding | SwitchError], None]) -> None:
        """The kiosk has sent ``count`` details and no more will come: compare one by one, and remember what differs."""
        ...


@dataclass(slots=True, frozen=True)
class DueBatch:
    terminal_id: str
    merchant_id: str
    batch_number: str


@dataclass(slots=True, frozen=True)
class BegunBatch:
    state: str  # "asked": a 0500 with these totals may leave; "differs": the details may
    count: int
    amount: int  # fen


class CardBatches(Protocol):
    """Settlements of terminals' batches with the card network. UnavailableError: the database is away."""

    async def due(self, day: int, since_s: float, spread_s: float, limit: int) -> list[DueBatch]:
        """Batches to settle now: begun ones without an end, then those of terminals whose turn came on ``day``.

        Args:
            since_s: Seconds since that day's settlement began; each terminal has its own share of ``spread_s``.
        """
        ...

    async def begin(self, batch: DueBatch, day: int) -> BegunBatch | None:
        """Durably: it may leave now. None: a payment of it is under way, somebody else has begun, or nothing was
        charged."""
        ...

    async def details(self, batch: DueBatch) -> list[BatchDetail]:
        """What is charged in it, by trace number."""
        ...

    async def uploaded(self, batch: DueBatch) -> None: ...


# ---------------------------------------------------------------------------------------------------- security
class KeyUsage(StrEnum):
    TMK = "tmk"
    MAC = "mac"
    PIN = "pin"
    TRACK = "track"
    TRANSPORT = "transport"  # carries a terminal master key to the PIN pad's loader; opens nothing else


class Key(Protocol):
    """A key inside a security module: opaque to everybody else."""

    @property
    def usage(self) -> KeyUsage: ...

    @property
    def family(self) -> str:
        """``des``, ``sm4`` or ``aes``."""
        ...

    @property
    def kcv(self) -> bytes:
        """First 4 bytes of the encryption of zeros."""
        ...


@dataclass(slots=True, frozen=True)
class StoredKey:
    """A key under the local master key: to be kept anywhere, and opened by ``load_key`` alone."""

    wrapped: bytes
    kcv: bytes  # 4 bytes


@dataclass(slots=True, frozen=True)
class ExportedKey:
    """A key under another key, for somebody who holds that."""

    cryptogram: bytes  # 8 or 16 bytes
    kcv: bytes  # 4 bytes


MacAlgorithm = str  # "unionpay_ecb", "x9_19:hex8" …: a setting of the link; see ``security/mac.py``
PinFormat = str  # "iso0", "iso4", "sm4", "iso0z"

# How an operation of a module ends: with its result, or with why there is none.
Loaded = Callable[[Key | SecurityError], None]
Stored = Callable[[StoredKey | SecurityError], None]
Exported = Callable[[ExportedKey | SecurityError], None]
Given = Callable[[bytes | SecurityError], None]
Judged = Callable[[bool | SecurityError], None]


class HourlyKeys(Protocol):
    """The keys under which ``seal`` works, one an hour: each is destroyed with the last row that needs it.

    Hours count from 1970, UTC. Safe in a thread; all raise SecurityError when the disk refuses.
    """

    def hours(self) -> set[int]:
        """Hours that have a key."""
        ...

    def shred(self, unneeded: Collection[int]) -> int:
        """Destroy the keys of these hours, but never of the current one, the one before or later ones."""
        ...

    def prepare_next_hour(self) -> None: ...


class SecurityModule(Protocol):
    """Holds keys and does everything that needs one. Clear keys never leave it.

    Errors are ``SecurityError``s: ``kcv``, ``key``, ``mac``, ``pin`` and ``refused`` are final; ``unavailable`` and
    ``busy`` say that the module did not answer within ``limits.SECURITY_ANSWER_S`` or has too much to do: the same call
    may go through later, and nothing is known about what it would have said. A key outlives such a fault: a module
    that has lost its sessions makes its keys anew from what they were loaded from.
    """

    @property
    def name(self) -> str:
        """The back end: ``software``, ``pkcs11``."""
        ...

    @property
    def detail(self) -> str:
        """What computes, for people: library and version."""
        ...

    @property
    def trouble(self) -> str:
        """Why it cannot be used now; "" while its last answer was one. Asking it for anything may end the trouble."""
        ...

    @property
    def translates_inside(self) -> bool:
        """True: no clear PIN block is ever outside the module. False: key mode ``translate`` is not for production."""
        ...

    async def start(self) -> None:
        """Open sessions, prove that keys can be used. Raises StartError with what to do."""
        ...

    async def stop(self) -> None: ...

    @property
    def vault(self) -> HourlyKeys:
        """After ``start``."""
        ...

    # ------------------------------------------------------------------------------------------------ keys
    def load_key(self, wrapped: bytes, usage: KeyUsage, done: Loaded) -> None:
        """A key stored under the LMK."""
        ...

    def import_key(self, cryptogram: bytes, under: Key, usage: KeyUsage, kcv: bytes, done: Loaded) -> None:
        """A working key under a TMK (16 bytes, or 8 + 8 zero bytes for a single-length MAK, or 8).

        Fails with code ``kcv`` when the check value differs.
        """
        ...

    def generate(self, usage: KeyUsage, family: str, done: Stored) -> None:
        """A new random key of 16 bytes (DES with odd parity); nobody ever sees it in the clear."""
        ...

    def seal_component(self, component: bytes, done: Given) -> None:
        """Keep one custodian's component until the next one comes, in another session: opaque bytes to store."""
        ...

    def combine_sealed(self, sealed: Sequence[bytes], usage: KeyUsage, family: str, done: Stored) -> None:
        """The key that is the XOR of one to three sealed components, which are never shown again.

        That each came from another custodian is the ceremony's rule; one alone is for published test keys.
        """
        ...

    def export_key(self, key: Key, under: Key, done: Exported) -> None:
        """A working key under a TMK, for a PIN pad; a TMK under a transport key, for its loader. Nothing else."""
        ...

    # ------------------------------------------------------------------------------------------------ MAC, PIN, track
    def make_mac(self, key: Key, algorithm: MacAlgorithm, data: bytes, done: Given) -> None:
        """The 8 bytes of the MAC field over ``data`` (MAB as transmitted)."""
        ...

    def verify_mac(self, key: Key, algorithm: MacAlgorithm, data: bytes, mac: bytes, done: Judged) -> None: ...

    def encrypt_pin(self, key: Key, pin_format: PinFormat, pin: str, pan: str, done: Given) -> None:
        """For simulated PIN pads and tests: a switch never has a clear PIN."""
        ...

    def verify_pin_format(self, key: Key, pin_format: PinFormat, block: bytes, pan: str, done: Judged) -> None:
        """Whether the block holds a well-formed PIN for this card. The PIN stays inside."""
        ...

    def translate_pin(
        self,
        block: bytes,
        source: Key,
        source_format: PinFormat,
        target: Key,
        target_format: PinFormat,
        pan: str,
        done: Given,
    ) -> None:
        """The same PIN under another key, and perhaps in another format. ``pin``: it is no PIN block for this card."""
        ...

    def encrypt_track(self, key: Key, packed: bytes, done: Given) -> None:
        """Field 35 or 36 as packed, with its covered eight bytes encrypted; see ``security/track.py``."""
        ...

    def random(self, size: int, done: Given) -> None:
        """From the module's own generator; 1 to 1024 bytes."""
        ...

    # ------------------------------------------------------------------------------------------------ card data
    def seal(self, context: bytes, clear: bytes, done: Given) -> None:
        """Encrypt card data for storage (AES-256-GCM, ``context`` = payment id as associated data)."""
        ...

    def open_sealed(self, context: bytes, sealed: bytes, done: Given) -> None: ...

    def token(self, pan: str) -> str:
        """Keyed token of a card number: equal cards have equal tokens, nothing can be computed back."""
        ...


# ---------------------------------------------------------------------------------------------------- wires
class Wire(Protocol):
    """One connection that carries whole frames."""

    @property
    def peer(self) -> str:
        """Address for logs."""
        ...

    @property
    def terminal_id(self) -> str:
        """The one terminal that may speak here, as the peer's certificate names it, or our
        configuration of a serial line; "" where nothing is checked."""
        ...

    @property
    def is_open(self) -> bool: ...

    @property
    def heard_at(self) -> float:
        """Monotonic seconds when bytes last came."""
        ...

    def send(self, frame: bytes, token: object = None) -> bool:
        """Queue one frame (without length prefix); written once per loop turn with its neighbours.

        True: assume that it left. ``token`` names the frame in ``unflushed``.
        False: the wire is closed or its peer reads too slowly, and nothing of this frame was or will be written.
        """
        ...

    @property
    def unflushed(self) -> Sequence[object]:
        """Tokens of frames not yet given to the kernel, oldest first.

        Once the wire is lost this is final: whatever it names was proved never to have left.
        """
        ...

    def close(self, reason: str) -> None:
        """Write what is queued, then close. ``wire_lost`` follows once, never from within this call."""
        ...

    def rest(self, seconds: float) -> None:
        """Read nothing more for so long, if this wire is one kiosk's own; what comes meanwhile is read then."""
        ...


class WireHandler(Protocol):
    """What the owner of a wire gets to hear."""

    def frame_received(self, wire: Wire, frame: bytes) -> None: ...

    def wire_lost(self, wire: Wire, reason: str) -> None: ...


# ---------------------------------------------------------------------------------------------------- observation
class Observer(Protocol):
    """Counters and logs, so that machines and runtime need not know who listens."""

    def count(self, name: str, labels: Sequence[str] = (), by: int = 1) -> None: ...

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        """One measurement of a distribution, in the unit of the metric's name."""
        ...

    def gauge(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        """What is true now."""
        ...

    def event(self, name: str, **facts: Any) -> None: ...
