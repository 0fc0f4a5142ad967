"""The kiosk's memory across power loss: its serials, its open payments, and final words nobody has printed yet.

One file of fixed size with two copies of the state. Copy 1 stands at byte 0, copy 2 at ``KIOSK_STATE_BYTES``:

    0        8         16       20           20 + size
    GSKIOSK1 version   size     state, JSON  BLAKE2b of all before it, 16 bytes
             (u64)     (u32)

**The rule.** A change is written to copy 1, fsync, copy 2, fsync; only then does anything leave for the switch. So what
ever single copy is lost, the other holds the state that the last frame left with, or the one before a change after
which nothing had left yet. Neither can lead to a second charge:

    copy 1 torn (power lost in the first write)    copy 2 is the state before; nothing was sent
    copy 2 torn (power lost in the second write)   copy 1 is the state after; asked for, it is "not found"
    one copy rotten, later                         the other is the same state; both are written again
    both                                           ``journal_damaged``: no payment until a person says so

There is no card data in it. One process at a time: the file is locked.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import threading
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from switch.kiosk.results import JournalError, OpenPaymentError, Outcome, PaymentKey, PaymentResult
from switch.limits import (
    KIOSK_FINISHED_MAX,
    KIOSK_OPEN_MAX,
    KIOSK_PAID_MAX,
    KIOSK_SERIAL_BLOCK,
    KIOSK_SERIALS_A_SECOND,
    KIOSK_STATE_BYTES,
    STAN_MAX,
)

_MAGIC: Final = b"GSKIOSK1"
_HEAD: Final = 20
_DIGEST: Final = 16
_COPIES: Final = (0, KIOSK_STATE_BYTES)
_CHINA: Final = datetime.timezone(datetime.timedelta(hours=8))


class OpenPayment(Struct, frozen=True):
    """A payment that may have left and has no final word yet."""

    key: PaymentKey
    account: str
    amount: int  # fen
    receivables: tuple[str, ...]  # none: a prepayment
    began_at: str  # local time, for people
    reversing: bool = False  # the customer left: it is to be taken back
    last: PaymentResult | None = None  # the last word about it, not final


class _State(Struct, frozen=True):
    terminal_id: str
    reserved: int  # serials up to this count may have been used
    open: tuple[OpenPayment, ...] = ()
    finished: tuple[PaymentResult, ...] = ()  # not acknowledged yet, oldest first
    paid: dict[str, tuple[tuple[int, int], ...]] = {}  # by date: serials and fen, until the day is over and settled
    settled: dict[str, int] = {}  # how many of them were settled already


class KioskJournal:
    """Made by ``create`` or ``open``. Its methods block for two fsyncs and may be called from any thread.

    Each either has made its change durable when it returns, or raises ``JournalError`` and the file must be opened
    again: after a failed fsync nobody knows what the disk holds.
    """

    def __init__(self, path: Path, descriptor: int, version: int, state: _State, *, repaired: bool) -> None:
        self.path = path
        self.repaired = repaired  # one copy was damaged when it was opened; it is whole again
        self._descriptor = descriptor
        self._version = version
        self._state = state
        self._serial = state.reserved  # after a restart the rest of a block is left out
        self._lock = threading.Lock()
        self._fault = ""

    # ------------------------------------------------------------------------------------------------ open
    @classmethod
    def create(cls, path: Path | str, terminal_id: str, *, first_serial: int | None = None) -> KioskJournal:
        """A new file, for a kiosk that is installed, or whose file was lost.

        Args:
            first_serial: Default: by the time of day, so that serials that a lost file gave out today are not met.
                Where one is met all the same the switch answers ``key_conflict`` and charges nothing.

        Raises:
            JournalError: ``journal_exists``, ``journal_write``.
        """
        path = Path(path)
        if first_serial is None:
            now = datetime.datetime.now(_CHINA)
            first_serial = 1 + ((now.hour * 60 + now.minute) * 60 + now.second) * KIOSK_SERIALS_A_SECOND
        if not 1 <= first_serial <= STAN_MAX:
            raise ValueError(f"first_serial: {first_serial} is outside 1 to {STAN_MAX}")
        copy = _packed(0, _State(terminal_id, first_serial - 1))
        beside = path.with_name(f"{path.name}.new-{os.getpid()}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                for at in _COPIES:
                    _write(descriptor, copy.ljust(KIOSK_STATE_BYTES, b"\0"), at)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.link(beside, path)  # unlike rename: fails when there is one
            _sync_folder(path.parent)
        except FileExistsError:
            raise JournalError("journal_exists", f"{path}: exists already; open it, it knows what is open") from None
        except OSError as error:
            raise _write_error(path, error) from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
        return cls.open(path, terminal_id)

    @classmethod
    def open(cls, path: Path | str, terminal_id: str, *, create: bool = False) -> KioskJournal:
        """The file of an earlier run.

        Args:
            create: Make it when there is none. For an installer and for trials: a kiosk that lost its file must not go
                on as if nothing were open.

        Raises:
            JournalError: ``journal_missing``, ``journal_locked`` (another process has it), ``journal_foreign`` (of
                another terminal), ``journal_damaged``, ``journal_write``.
        """
        path = Path(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if create:
                return cls.create(path, terminal_id)
            raise JournalError(
                "journal_missing",
                f"{path}: there is none; for a new kiosk make it once with KioskJournal.create, "
                "for one that had a file find that first: it says which payments are open",
            ) from None
        except OSError as error:
            raise _write_error(path, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise JournalError("journal_locked", f"{path}: another process uses it; end that first") from None
            copies = [_unpacked(os.pread(descriptor, KIOSK_STATE_BYTES, at)) for at in _COPIES]
            good = [copy for copy in copies if copy is not None]
            if not good:
                raise JournalError(
                    "journal_damaged",
                    f"{path}: both copies are damaged; keep the file for the maker, ask operations which payments of "
                    f"terminal {terminal_id} are open, then make a new one with KioskJournal.create",
                )
            version, state = max(good, key=lambda copy: copy[0])
            if state.terminal_id != terminal_id:
                raise JournalError(
                    "journal_foreign", f"{path}: belongs to terminal {state.terminal_id}, not to {terminal_id}"
                )
            differs = len(good) == 1 or good[0] != good[1]
            journal = cls(path, descriptor, version, state, repaired=len(good) == 1)
            if differs:
                journal._save(state)
            return journal
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)  # and with it the lock
                self._descriptor = -1

    # ------------------------------------------------------------------------------------------------ read
    @property
    def terminal_id(self) -> str:
        return self._state.terminal_id

    @property
    def open_payments(self) -> tuple[OpenPayment, ...]:
        """Oldest first."""
        return self._state.open

    @property
    def finished(self) -> tuple[PaymentResult, ...]:
        """Final words that nobody has acknowledged, oldest first."""
        return self._state.finished

    def find(self, key: PaymentKey) -> OpenPayment | None:
        return next((each for each in self._state.open if each.key == key), None)

    def result(self, key: PaymentKey) -> PaymentResult | None:
        return next((each for each in self._state.finished if each.key == key), None)

    def paid_on(self, day: str) -> tuple[tuple[str, int], ...]:
        """Serials and fen of what was paid on a day (MMDD), as far as it is not forgotten."""
        return tuple((f"{serial:06d}", amount) for serial, amount in self._state.paid.get(day, ()))

    @property
    def unsettled_days(self) -> tuple[str, ...]:
        """Days (MMDD) with paid payments that are not settled, oldest first."""
        state = self._state
        return tuple(day for day, paid in state.paid.items() if len(paid) != state.settled.get(day))

    # ------------------------------------------------------------------------------------------------ change
    def take_serial(self) -> str:
        """A serial that was never taken before; one in a hundred writes."""
        with self._lock:
            if self._serial >= self._state.reserved:
                self._save(structs.replace(self._state, reserved=self._serial + KIOSK_SERIAL_BLOCK))
            elif self._fault or self._descriptor < 0:
                raise self._unusable()
            serial = self._serial % STAN_MAX + 1
            self._serial += 1
            return f"{serial:06d}"

    def skip_serials(self, count: int) -> None:
        """Leave serials out: the switch says that somebody used these today."""
        with self._lock:
            start = self._serial + count
            self._save(structs.replace(self._state, reserved=start + KIOSK_SERIAL_BLOCK))
            self._serial = start

    def begin(self, payment: OpenPayment) -> None:
        """The payment may leave when this returns.

        Raises:
            OpenPaymentError: ``bill_open``: a payment without a final word has one of its months, or both are
                prepayments for one account. ``too_many_open``.
        """
        with self._lock:
            self.check(payment.account, payment.receivables)
            self._save(structs.replace(self._state, open=(*self._state.open, payment)))

    def check(self, account: str, receivables: tuple[str, ...]) -> None:
        """Whether a payment of these months may begin. Raises as ``begin``."""
        for each in self._state.open:
            same = not set(each.receivables).isdisjoint(receivables) or not (each.receivables or receivables)
            if each.account == account and same:
                raise OpenPaymentError(
                    "bill_open",
                    f"account {account}: payment {each.key} is for the same and has no final word yet; "
                    "wait for it (wait_final) or take it back (reverse)",
                )
        if len(self._state.open) >= KIOSK_OPEN_MAX:
            raise OpenPaymentError(
                "too_many_open",
                f"{KIOSK_OPEN_MAX} payments have no final word yet: take no new ones until the line is back",
            )

    def note(self, key: PaymentKey, *, last: PaymentResult | None = None, reversing: bool | None = None) -> None:
        """The last word about an open payment, or that it is to be taken back. Nothing, if it is not open."""
        with self._lock:
            before = self.find(key)
            if before is None:
                return
            after = structs.replace(
                before,
                last=before.last if last is None else _kept(last),
                reversing=before.reversing if reversing is None else reversing,
            )
            if after != before:
                now = tuple(after if each.key == key else each for each in self._state.open)
                self._save(structs.replace(self._state, open=now))

    def finish(self, result: PaymentResult) -> PaymentResult:
        """The final word. It is kept until ``acknowledge``. Gives the one that counts: if two are heard in one moment,
        both callers tell the first."""
        assert result.final
        with self._lock:
            if self.find(result.key) is None:
                return self.result(result.key) or result
            self._save(
                structs.replace(
                    self._state,
                    open=tuple(each for each in self._state.open if each.key != result.key),
                    paid=_with_paid(self._state.paid, result) if result.outcome is Outcome.PAID else self._state.paid,
                    finished=(*self._state.finished, _kept(result))[-KIOSK_FINISHED_MAX:],
                )
            )
            return result

    def settle(self, day: str, count: int, *, over: bool) -> None:
        """The first ``count`` paid ones of a day are settled. ``over``: the day is, too, and can be forgotten."""
        with self._lock:
            state = self._state
            paid, settled = dict(state.paid), dict(state.settled)
            if over and len(paid.get(day, ())) == count:
                paid.pop(day, None)
                settled.pop(day, None)
            else:
                settled[day] = count
            self._save(structs.replace(state, paid=paid, settled=settled))

    def acknowledge(self, key: PaymentKey) -> None:
        """The customer was told, the slip is printed: do not tell of it again after a restart."""
        with self._lock:
            rest = tuple(each for each in self._state.finished if each.key != key)
            if rest != self._state.finished:
                self._save(structs.replace(self._state, finished=rest))

    # ------------------------------------------------------------------------------------------------ inside
    def _save(self, state: _State) -> None:
        if self._fault or self._descriptor < 0:
            raise self._unusable()
        data = _packed(self._version + 1, state)
        try:
            for at in _COPIES:
                _write(self._descriptor, data, at)
                os.fsync(self._descriptor)
        except OSError as error:
            self._fault = error.strerror or str(error)
            raise _write_error(self.path, error) from error
        self._version += 1
        self._state = state

    def _unusable(self) -> JournalError:
        if self._descriptor < 0:
            return JournalError("journal_write", f"{self.path}: is closed")
        return JournalError(
            "journal_write", f"{self.path}: could not be written before ({self._fault}); mend the disk and start again"
        )


def _with_paid(paid: dict[str, tuple[tuple[int, int], ...]], result: PaymentResult) -> dict[str, Any]:
    """Beyond KIOSK_PAID_MAX the oldest are forgotten: their day will be reported as one that differs."""
    day = result.key.date
    paid = {**paid, day: (*paid.get(day, ()), (int(result.key.serial), result.amount))}
    too_many = sum(map(len, paid.values())) - KIOSK_PAID_MAX
    for each in list(paid):
        cut = max(0, min(too_many, len(paid[each])))
        too_many -= cut
        paid[each] = paid[each][cut:]
        if not paid[each]:
            del paid[each]
    return paid


def _packed(version: int, state: _State) -> bytes:
    body = msgspec.json.encode(state)
    data = _MAGIC + version.to_bytes(8, "big") + len(body).to_bytes(4, "big") + body
    assert len(data) + _DIGEST <= KIOSK_STATE_BYTES, "the bounds of a state do not fit its copy"
    return data + blake2b(data, digest_size=_DIGEST).digest()


def _unpacked(copy: bytes) -> tuple[int, _State] | None:
    size = int.from_bytes(copy[16:_HEAD], "big")
    end = _HEAD + size
    if copy[:8] != _MAGIC or len(copy) < end + _DIGEST:
        return None
    if blake2b(copy[:end], digest_size=_DIGEST).digest() != copy[end : end + _DIGEST]:
        return None
    try:
        return int.from_bytes(copy[8:16], "big"), msgspec.json.decode(copy[_HEAD:end], type=_State)
    except msgspec.DecodeError:
        return None  # whole, but not of this version: as good as damaged


def _write(descriptor: int, data: bytes, at: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], at + written)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_error(path: Path, error: OSError) -> JournalError:
    reason: Any = error.strerror or error
    return JournalError("journal_write", f"{path}: cannot be used: {reason}; nothing was sent, mend the disk first")


def _kept(result: PaymentResult) -> PaymentResult:
    """Without what is for the chip that is in the reader now."""
    return structs.replace(result, issuer_data=b"") if result.issuer_data else result
