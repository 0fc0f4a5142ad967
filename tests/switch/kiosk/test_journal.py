"""The kiosk's file: a power cut makes it forget nothing that may have left, and no serial comes twice."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switch.kiosk.journal import KioskJournal, OpenPayment
from switch.kiosk.results import JournalError, OpenPaymentError, Outcome, PaymentKey, PaymentResult
from switch.limits import KIOSK_FINISHED_MAX, KIOSK_OPEN_MAX, KIOSK_SERIAL_BLOCK, KIOSK_STATE_BYTES, STAN_MAX

TERMINAL = "10000001"


def payment(serial: str = "000001", account: str = "0300000009", months: int = 1) -> OpenPayment:
    receivables = tuple(f"{account}2026{month:02d}" for month in range(1, months + 1))
    return OpenPayment(PaymentKey(TERMINAL, "1129", serial), account, 12345, receivables, "2026-11-29 10:00:00")


def paid(opened: OpenPayment, outcome: Outcome = Outcome.PAID) -> PaymentResult:
    return PaymentResult(
        opened.key, opened.account, opened.amount, opened.receivables, outcome, "completed", "缴费成功"
    )


def reopened(path: Path) -> KioskJournal:
    return KioskJournal.open(path, TERMINAL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kiosk.journal"


def test_what_was_begun_is_there_in_the_next_life(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL)
    opened = payment()
    journal.begin(opened)
    journal.note(opened.key, reversing=True)
    journal.close()
    after = reopened(path)
    assert after.open_payments == (msgspec.structs.replace(opened, reversing=True),) and not after.repaired
    after.finish(paid(opened))
    after.close()
    last = reopened(path)
    assert last.open_payments == () and last.finished == (paid(opened),)
    last.acknowledge(opened.key)
    last.close()
    assert reopened(path).finished == ()


def test_no_serial_comes_twice_whenever_the_power_goes(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL, first_serial=1)
    seen: list[str] = []
    for life in range(5):
        seen += [journal.take_serial() for _ in range(KIOSK_SERIAL_BLOCK * life // 2 + 1)]
        journal.close()
        journal = reopened(path)
    assert seen[0] == "000001" and len(set(seen)) == len(seen) and seen == sorted(seen)


def test_serials_go_on_after_the_last_one_and_leave_out_what_somebody_used(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL, first_serial=STAN_MAX)
    assert [journal.take_serial(), journal.take_serial()] == ["999999", "000001"]
    journal.skip_serials(1000)
    assert journal.take_serial() == "001002"
    journal.close()
    assert reopened(path).take_serial() > "001002"


def test_a_bill_that_is_being_paid_cannot_be_begun_again(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL)
    journal.begin(payment("000001", months=2))
    with pytest.raises(OpenPaymentError, match=r"account 0300000009: payment .*\[bill_open\]"):
        journal.begin(payment("000002"))
    journal.begin(payment("000003", account="0300000178"))
    journal.close()
    after = reopened(path)
    with pytest.raises(OpenPaymentError, match="bill_open"):
        after.begin(payment("000004"))
    after.finish(paid(payment("000001", months=2)))
    after.begin(payment("000005"))


def test_a_second_prepayment_for_an_account_waits_for_the_first(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL)
    journal.begin(payment("000001", months=0))
    with pytest.raises(OpenPaymentError, match="bill_open"):
        journal.begin(payment("000002", months=0))
    journal.begin(payment("000003", months=1))
    journal.begin(payment("000004", account="0300000178", months=0))


def test_open_and_finished_payments_are_bounded_and_the_largest_fit(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL)
    text = "缴" * 60
    for number in range(KIOSK_FINISHED_MAX + KIOSK_OPEN_MAX):
        account = f"{number:020d}"
        receivables = tuple(f"{account}{month:04d}" for month in range(24))
        key = PaymentKey(TERMINAL, "1129", f"{number:06d}")
        journal.begin(OpenPayment(key, account, 10**12 - 1, receivables, "2026-11-29 10:00:00"))
        word = PaymentResult(
            key, account, 10**12 - 1, receivables, Outcome.BEING_BOOKED, "x" * 32, text, "B1", "9" * 20, "c" * 32
        )
        journal.note(key, last=word)
        if number < KIOSK_FINISHED_MAX:
            journal.finish(msgspec.structs.replace(word, outcome=Outcome.SUSPENSE))
    with pytest.raises(OpenPaymentError, match=r"16 payments have no final word yet.*\[too_many_open\]"):
        journal.begin(payment())
    journal.close()
    assert len(reopened(path).open_payments) == KIOSK_OPEN_MAX
    assert path.stat().st_size == 2 * KIOSK_STATE_BYTES


def test_the_oldest_final_word_is_forgotten_when_nobody_ever_acknowledges(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL)
    for number in range(KIOSK_FINISHED_MAX + 1):
        opened = payment(f"{number:06d}")
        journal.begin(opened)
        journal.finish(paid(opened))
    assert journal.finished[0].key.serial == "000001"


def test_a_word_about_a_payment_that_is_not_open_changes_nothing(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL)
    before = path.read_bytes()
    journal.note(payment().key, reversing=True)
    journal.finish(paid(payment()))
    journal.acknowledge(payment().key)
    assert path.read_bytes() == before


# ---- power loss
Change = Callable[[KioskJournal], object]
CHANGES: dict[str, Change] = {
    "begin": lambda journal: journal.begin(payment("000002", account="0300000178")),
    "finish": lambda journal: journal.finish(paid(payment())),
    "serials": lambda journal: journal.skip_serials(1),
}


def _writes(path: Path, change: Change, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, int]]:
    """What a change writes, in order, each followed by an fsync."""
    done: list[tuple[bytes, int] | None] = []
    with monkeypatch.context() as patch:
        write, sync = os.pwrite, os.fsync

        def noted_write(descriptor: int, data: bytes, at: int) -> int:
            done.append((bytes(data), at))
            return write(descriptor, data, at)

        def noted_sync(descriptor: int) -> None:
            done.append(None)
            sync(descriptor)

        patch.setattr(os, "pwrite", noted_write)
        patch.setattr(os, "fsync", noted_sync)
        journal = reopened(path)
        change(journal)
        journal.close()
    assert [each is None for each in done] == [False, True, False, True], "each copy is on disk before the next"
    return [each for each in done if each is not None]


@pytest.mark.parametrize("name", CHANGES)
def test_power_lost_at_any_byte_of_a_write_leaves_the_state_before_or_after(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = KioskJournal.create(path, TERMINAL, first_serial=1)
    journal.begin(payment())
    journal.close()
    disk = path.read_bytes()
    before = _state(path)
    (first, at_first), (second, at_second) = _writes(path, CHANGES[name], monkeypatch)
    after = _state(path)
    assert before != after and (at_first, at_second) == (0, KIOSK_STATE_BYTES)
    dice = random.Random(name)
    monkeypatch.setattr(os, "fsync", _unsynced)
    for torn in range(len(first)):
        # A disk writes in any order of sectors: sometimes the torn part is noise.
        noise = dice.randbytes(len(first) - torn) if torn % 7 == 0 else disk[torn : len(first)]
        path.write_bytes(first[:torn] + noise + disk[len(first) :])
        assert _state(path) == before, torn
    half = first + disk[len(first) :]
    for torn in range(len(second)):
        path.write_bytes(half[:at_second] + second[:torn] + half[at_second + torn :])
        assert _state(path) == after, torn
        # What was repaired is whole: the next life may lose the other copy.
        path.write_bytes(bytes(100) + path.read_bytes()[100:])
        assert _state(path) == after, torn


def test_a_file_cut_at_any_byte_is_told_or_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _unsynced)
    journal = KioskJournal.create(path, TERMINAL, first_serial=1)
    journal.begin(payment())
    journal.close()
    whole = path.read_bytes()
    state = _state(path)
    size = len(whole[:KIOSK_STATE_BYTES].rstrip(b"\0"))
    cuts = [*range(size + 64), *range(KIOSK_STATE_BYTES - 8, KIOSK_STATE_BYTES + size + 64), len(whole) - 1]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        if cut < size:
            with pytest.raises(
                JournalError, match=r"both copies are damaged; .*KioskJournal.create \[journal_damaged\]"
            ):
                reopened(path)
            assert path.read_bytes() == whole[:cut], "the damaged file is evidence"
        else:
            assert _state(path) == state


def test_any_flipped_byte_of_one_copy_is_mended_from_the_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _unsynced)
    journal = KioskJournal.create(path, TERMINAL, first_serial=1)
    journal.begin(payment())
    journal.close()
    whole = path.read_bytes()
    state = _state(path)
    size = len(whole[:KIOSK_STATE_BYTES].rstrip(b"\0"))
    for at in [*range(size), *range(KIOSK_STATE_BYTES, KIOSK_STATE_BYTES + size)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        mended = reopened(path)
        assert mended.repaired
        mended.close()
        assert _state(path) == state


def _unsynced(_: int) -> None:
    """A thousand files a test: what is on the disk is written by hand here."""


def _state(path: Path) -> tuple[Any, ...]:
    """What the next life knows."""
    journal = reopened(path)
    found = (journal.open_payments, journal.finished, journal._state.reserved)
    journal.close()
    return found


# ---- refusals
def test_a_missing_file_is_not_taken_for_a_new_kiosk(path: Path) -> None:
    with pytest.raises(JournalError, match=r"there is none; for a new kiosk make it once .*\[journal_missing\]"):
        reopened(path)
    KioskJournal.open(path, TERMINAL, create=True).close()
    with pytest.raises(JournalError, match=r"exists already.*\[journal_exists\]"):
        KioskJournal.create(path, TERMINAL)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_two_programs_cannot_share_a_file(path: Path) -> None:
    first = KioskJournal.create(path, TERMINAL)
    with pytest.raises(JournalError, match="journal_locked"):
        reopened(path)
    first.close()
    reopened(path).close()


def test_the_file_of_another_terminal_is_refused(path: Path) -> None:
    KioskJournal.create(path, TERMINAL).close()
    with pytest.raises(JournalError, match=r"belongs to terminal 10000001, not to 10000002 \[journal_foreign\]"):
        KioskJournal.open(path, "10000002")


def test_after_a_failed_fsync_nothing_is_begun_until_the_file_is_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = KioskJournal.create(path, TERMINAL)
    with monkeypatch.context() as patch:

        def failing(_: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(os, "fsync", failing)
        with pytest.raises(JournalError, match=r"Input/output error; nothing was sent.*\[journal_write\]"):
            journal.begin(payment())
    assert journal.open_payments == ()
    for change in (lambda: journal.begin(payment()), journal.take_serial):
        with pytest.raises(JournalError, match=r"mend the disk and start again \[journal_write\]"):
            change()
    journal.close()
    # It may be there: then it is asked for.
    assert {each.key for each in reopened(path).open_payments} <= {payment().key}


def test_a_closed_file_says_so(path: Path) -> None:
    journal = KioskJournal.create(path, TERMINAL)
    journal.close()
    with pytest.raises(JournalError, match="is closed"):
        journal.take_serial()
