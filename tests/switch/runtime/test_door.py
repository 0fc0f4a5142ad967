"""Hostile callers at the dispatcher, on a virtual clock: too fast, wrong MACs, replays, strangers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from switch import limits
from switch.config import LimitsConfig
from switch.errors import SecurityError
from switch.model.payment import State
from switch.ports import Terminal
from switch.sim.testkeys import test_terminal as terminal_of

from .test_attacks import BAD_MAC, DAY, GOOD_MAC, HEADER, KIOSK, MERCHANT, TERMINAL, Bench, Line, PlainKey

DAY_S = 86_400.0


def bench(**more: Any) -> Bench:
    return Bench(rates=LimitsConfig(), **more)


def line(address: str = "10.0.0.1", port: int = 1) -> Line:
    return Line(f"{address}:{port}")


def send(bench: Bench, at: Line, frame: bytes, *, mac: bytes = GOOD_MAC) -> None:
    bench.dispatcher.frame_received(at, frame[:-8] + mac)
    bench.loop.advance(0.01)


def inquiry(serial: str = "700001", date: str = "1123", **changed: Any) -> bytes:
    fields: dict[int, Any] = {
        0: "0200",
        3: "310000",
        11: serial,
        13: date,
        25: "00",
        41: TERMINAL,
        42: MERCHANT,
        48: bytes.fromhex("df010a30353030303030303137"),
        49: "156",
        60: "71000001000",
        64: bytes(8),
        **{int(name[1:]): value for name, value in changed.items()},
    }
    return KIOSK.encode(fields, header=HEADER)


def greeting(mti: str, **changed: Any) -> bytes:
    network = "301" if mti == "0820" else "003"
    fields: dict[int, Any] = {0: mti, 11: "000001", 41: TERMINAL, 42: MERCHANT, 60: f"00000000{network}"}
    return KIOSK.encode(fields | {int(name[1:]): value for name, value in changed.items()}, header=HEADER)


def recorded(bench: Bench) -> list[bytes]:
    """Every frame that a kiosk sends from now on, as an eavesdropper has it."""
    frames: list[bytes] = []
    received = bench.dispatcher.frame_received

    def heard(wire: Any, frame: bytes) -> None:
        frames.append(frame)
        received(wire, frame)

    bench.dispatcher.frame_received = heard  # type: ignore[method-assign]
    return frames


def finished(bench: Bench, serial: str = "000001", at: Line | None = None) -> None:
    """One payment, paid and booked."""
    bench.pay(bench.inquire(serial=f"9{serial[1:]}"), serial=serial, line=at)
    bench.answer_card()
    bench.answer_marketing()


# ---------------------------------------------------------------------------------------------------- too fast
def test_the_fourth_payment_within_five_seconds_is_refused_for_good_and_the_next_one_is_taken() -> None:
    world = bench()
    for number in range(limits.PAYMENTS_BURST):
        finished(world, f"{number + 1:06d}")
    quote = world.inquire(serial="900009")
    world.pay(quote, serial="000009")
    assert world.words("000009") == ["too_fast"]
    assert world.watcher.counts["switch_rate_limited_total"] == 1
    world.wait(6.0)
    world.pay(quote, serial="000009")
    assert world.words("000009") == ["too_fast"] * 2, "nothing was charged, and never will be, under this key"
    world.wait(6.0)
    world.pay(quote, serial="000010")
    world.answer_card()
    world.answer_marketing()
    assert world.words("000010") == ["completed"]
    assert world.states == [State.COMPLETED] * (limits.PAYMENTS_BURST + 1)


def test_copies_of_a_payment_are_no_further_payments() -> None:
    world = bench()
    world.pay(world.inquire())
    for _ in range(20):
        world.pay(serial="000001")
    world.answer_card()
    world.answer_marketing()
    assert world.words() == ["completed"] * 21 and len(world.states) == 1


def test_inquiries_are_slowed_down_and_results_are_not() -> None:
    world = bench()
    finished(world)
    for number in range(limits.INQUIRIES_BURST):
        world.ask("71", [("DF01", b"0500000017")], serial=f"70{number:04d}")
    world.loop.advance(0.01)
    refused = [told for told in world.told() if told.code == "too_fast"]
    assert len(refused) == 1, "one inquiry had come before"
    assert [world.ask_result(by=f"80{number:04d}").code for number in range(30)] == ["completed"] * 30


def test_who_asks_without_end_is_hung_up_on_and_hears_nothing_untrue() -> None:
    world = bench()
    finished(world)
    asker = line()
    said = Counter(world.ask_result(by=f"80{number:04d}", line=asker).code for number in range(200))
    assert limits.REQUESTS_BURST <= said["completed"] <= limits.REQUESTS_BURST + 20, "200 asked within two seconds"
    assert set(said) == {"completed", "result_unknown"}
    assert not asker.is_open
    world.wait(10.0)
    assert world.ask_result(by="810000", line=line(port=2)).code == "completed"


def test_greetings_have_their_limit_on_each_connection() -> None:
    world, first, second = bench(), line(), line(port=2)
    for _ in range(limits.GREETINGS_BURST + 5):
        if first.is_open:
            world.dispatcher.frame_received(first, greeting("0820"))
            world.loop.advance(0.01)
    codes = [told.f39 for told in world.told(first)]
    assert codes == ["00"] * limits.GREETINGS_BURST + ["N5"] and not first.is_open
    world.dispatcher.frame_received(second, greeting("0800"))
    world.loop.advance(0.01)
    assert [told.f39 for told in world.told(second)] == ["00"]


def test_wrong_frames_are_answered_and_logged_so_many_times_and_no_kiosk_behind_the_same_address_suffers() -> None:
    world, answers = bench(), 0
    for number in range(500):
        stranger = line(port=number)
        world.dispatcher.frame_received(stranger, inquiry(f41="XX999999"))
        world.dispatcher.frame_received(stranger, inquiry(f60="99000001000"))
        world.dispatcher.frame_received(stranger, b"\x00\x01\x02")
        world.loop.advance(0.001)
        answers += len(stranger.frames)
        assert not stranger.is_open
    logged = [name for name in world.watcher.events if name in ("request.refused", "frame.unreadable")]
    assert answers + len(logged) <= 3 * (limits.FAULTS_BURST + 2)
    kiosk = line(port=9999)
    finished(world, at=kiosk)
    assert world.words(line=kiosk) == ["completed"]


# ---------------------------------------------------------------------------------------------------- wrong MACs
def test_a_terminal_that_has_paid_is_stopped_by_three_wrong_macs_and_its_payment_goes_on() -> None:
    world, kiosk = bench(), line()
    world.pay(world.inquire(), line=kiosk)  # its purchase is on the way
    for number in range(limits.MAC_WRONG_MAX):
        assert kiosk.is_open
        send(world, kiosk, inquiry(f"70000{number}"), mac=BAD_MAC)
    assert [told.f39 for told in world.told(kiosk)] == ["A0"] * 3 and not kiosk.is_open
    assert world.dispatcher.stopped_terminals == [TERMINAL] and "terminal.stopped" in world.watcher.events

    back = line(port=2)
    send(world, back, inquiry("700010"))
    assert [(told.f39, told.code) for told in world.told(back)] == [("A1", "terminal_stopped")]
    world.pay(serial="000002", line=back)
    assert world.words("000002", back) == ["terminal_stopped"]

    # What was begun is brought to its end, and its result is no new business.
    world.answer_card()
    world.answer_marketing()
    assert world.states == [State.COMPLETED]
    assert world.ask_result(line=back).code == "completed"

    world.dispatcher.frame_received(back, greeting("0800"))
    world.loop.advance(0.01)
    world.wait(10.0)
    send(world, back, inquiry("700011"))
    world.answer_inquiry()
    assert world.told(back)[-1].code == "found"
    assert world.dispatcher.stopped_terminals == [] and "terminal.resumed" in world.watcher.events


def test_strangers_with_a_terminals_name_and_a_recorded_frame_cannot_stop_it() -> None:
    world, kiosk = bench(), line()
    frames = recorded(world)
    finished(world, at=kiosk)
    payment = frames[-1]
    for number in range(50):
        stranger = line("10.9.9.9", number)
        send(world, stranger, payment)  # a right MAC: it is the kiosk's own frame
        for _ in range(3):
            send(world, stranger, inquiry(), mac=BAD_MAC)
    assert world.dispatcher.stopped_terminals == []
    world.wait(6.0)
    finished(world, "000002", kiosk)
    assert world.words("000002", kiosk) == ["completed"] and world.states == [State.COMPLETED] * 2


def test_however_many_guess_in_its_name_and_behind_its_address_a_kiosk_with_the_key_is_served() -> None:
    world, answers = bench(), 0
    for number in range(500):
        guesser = line(port=number)
        for _ in range(limits.MAC_WRONG_MAX):
            if guesser.is_open:
                send(world, guesser, inquiry(), mac=BAD_MAC)
        answers += len(guesser.frames)
        world.echo()
        assert not guesser.is_open
    spared = limits.FAULTS_BURST + 20  # it took some seconds
    assert answers <= 500 + spared, "from then on each guess costs a connection"
    assert world.watcher.events.count("kiosk.macs_wrong") <= spared
    kiosk = line(port=999)
    finished(world, at=kiosk)
    assert world.words(line=kiosk) == ["completed"]


def test_a_mac_of_the_key_before_the_last_sign_on_is_no_guess() -> None:
    world, kiosk = bench(), line()
    world.pay(world.inquire(), line=kiosk)
    session = world.sessions._sessions[TERMINAL]
    session.old_mac_key, session.old_until = session.mac_key, world.loop.now() + 2.0
    new = session.mac_key = PlainKey()
    verify = world.dispatcher._security.verify_mac

    def with_keys(key: Any, algorithm: str, data: bytes, mac: bytes, done: Any) -> None:
        if key is new:
            done(False)
        else:
            verify(key, algorithm, data, mac, done)

    world.dispatcher._security.verify_mac = with_keys  # type: ignore[method-assign]
    for number in range(5):
        send(world, kiosk, inquiry(f"70000{number}"))
    assert [told.f39 for told in world.told(kiosk)] == ["A0"] * 5 and kiosk.is_open
    assert world.dispatcher.stopped_terminals == []
    assert "switch_mac_failures_total" not in world.watcher.counts
    world.loop.advance(5.0)  # now it is a key like any other
    for number in range(3):
        send(world, kiosk, inquiry(f"70001{number}"))
    assert not kiosk.is_open


def test_a_security_module_that_fails_accuses_nobody() -> None:
    world, kiosk = bench(), line()
    world.pay(world.inquire(), line=kiosk)
    world.dispatcher._security.verify_mac = (  # type: ignore[method-assign]
        lambda key, algorithm, data, mac, done: done(SecurityError("unavailable", "no answer"))
    )
    for number in range(5):
        send(world, kiosk, inquiry(f"70000{number}"))
    assert [told.f39 for told in world.told(kiosk)] == ["N2"] * 5 and kiosk.is_open
    assert world.dispatcher.stopped_terminals == [] and "switch_mac_failures_total" not in world.watcher.counts


# ---------------------------------------------------------------------------------------------------- replays
def test_a_recorded_payment_is_answered_and_never_charged_again_on_any_day() -> None:
    world, kiosk = bench(), line()
    frames = recorded(world)
    finished(world, at=kiosk)
    (payment,) = [frame for frame in frames if KIOSK.decode(frame)[60].startswith("72")]
    said = []
    for days_later in (0, 1, 3, 6):
        world.loop.time += days_later * DAY_S - (world.loop.time - 1000.0)
        replayer = line("10.9.9.9", days_later)
        send(world, replayer, payment)
        said.append(world.told(replayer)[-1].code)
    assert said == ["completed"] * 4
    # After a restart only the journal knows it, and after a purge nobody does.
    second = bench(database=world.database, loop=world.loop)
    replayer = line("10.9.9.9", 100)
    send(second, replayer, payment)
    assert second.words(line=replayer) == ["completed"]
    world.database.claims.clear()
    third = bench(database=world.database, loop=world.loop)
    replayer = line("10.9.9.9", 101)
    send(third, replayer, payment)
    assert third.words(line=replayer) == ["stale_date"]
    world.loop.time += 2 * DAY_S
    send(third, replayer, payment)
    assert third.told(replayer)[-1].f39 == "77", "its MAC key is too old for anything"
    assert world.states == [State.COMPLETED] and world.rows.count("1") == 1


@pytest.mark.parametrize(("date", "said"), [("1122", "found"), ("1123", "found"), ("1124", "found")])
def test_a_clock_that_is_a_day_off_around_midnight_is_served(date: str, said: str) -> None:
    world, kiosk = bench(), line()
    send(world, kiosk, inquiry(date=date))
    world.answer_inquiry()
    assert world.told(kiosk)[-1].code == said


@pytest.mark.parametrize("date", ["1121", "1125", "0101", "0229"])
def test_another_date_is_refused_before_the_bill_and_before_the_card(date: str) -> None:
    world, kiosk = bench(), line()
    send(world, kiosk, inquiry(date=date))
    assert [(told.f39, told.code) for told in world.told(kiosk)] == [("E7", "stale_date")]
    world.pay(world.inquire(), serial="000001", line=kiosk, f13=date)
    assert world.words(line=kiosk) == ["stale_date"] and world.states == []
    assert world.card.frames == []


def test_a_replayed_reversal_or_inquiry_changes_nothing() -> None:
    world, kiosk = bench(), line()
    finished(world, at=kiosk)
    frames = recorded(world)
    tags = [("DF0C", b"000001"), ("DF0D", b"1123")]
    world.ask("72", tags, serial="800001", line=kiosk, f0="0400", f3="000000")
    world.ask("75", tags, serial="800002", line=kiosk)
    world.loop.advance(0.01)
    before = world.rows
    for number, frame in enumerate(frames * 3):
        send(world, line("10.9.9.9", number), frame)
    assert world.rows == before and world.states == [State.COMPLETED]
    assert not [frame for frame in world.card.frames if KIOSK.decode(frame).mti == "0400"]


def test_a_replayed_sign_on_brings_no_new_keys_and_nothing_that_could_be_used() -> None:
    world = bench()
    for number in range(5):
        world.dispatcher.frame_received(line(port=number), greeting("0800"))
    world.loop.advance(0.01)
    assert world.card.frames == [], "the keys are of today: the card network is not asked"
    assert world.database.terminals[TERMINAL].key_epoch == 1


# ---------------------------------------------------------------------------------------------------- strangers
def test_an_unknown_terminal_and_a_wrong_merchant_cannot_be_told_apart() -> None:
    world = bench()
    answers: list[dict[Any, Any]] = []
    for changed in ({"f41": "XX999999"}, {"f42": "000000000000000"}):
        for frame in (inquiry(**changed), greeting("0800", **changed), greeting("0820", **changed)):
            stranger = line()
            world.dispatcher.frame_received(stranger, frame)
            world.loop.advance(0.01)
            message = KIOSK.decode(stranger.frames[-1])
            answers.append({number: message[number] for number in (0, 39, 48)} | {"mac": 64 in message})
    assert answers[:3] == answers[3:]
    assert {answer[39] for answer in answers} == {"97"} and not any(answer["mac"] for answer in answers)


def test_a_flood_of_unknown_ids_does_not_stand_in_front_of_a_known_one() -> None:
    world = bench()
    terminal_id, merchant_id = terminal_of(2)
    world.database.terminals[terminal_id] = Terminal(
        terminal_id, merchant_id, "dual_tmk", True, b"tmk", bytes(4), "000001", 1, bytes(40), world.loop.wall_us()
    )
    # The store has seen the known one, as it has all of them when it starts; this switch has not.
    world.terminals._cache[terminal_id] = world.database.terminals[terminal_id]
    for number in range(4 * limits.TERMINAL_LOOKUPS_MAX):
        world.dispatcher.frame_received(line(f"10.{number % 250}.1.1", number), inquiry(f41=f"XX{number:06d}"))
    kiosk = line()
    world.dispatcher.frame_received(kiosk, inquiry(f41=terminal_id, f42=merchant_id)[:-8] + GOOD_MAC)
    world.answer_inquiry()
    assert [told.code for told in world.told(kiosk)] == ["found"]
    assert DAY  # the marketing system's day of the bench
