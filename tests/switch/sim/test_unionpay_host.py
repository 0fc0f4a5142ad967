"""The card host over a real socket."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from switch.errors import StartError
from switch.sim import testkeys
from switch.sim.truth import read_charges, read_facts
from switch.sim.unionpay_host import UnionPayHost

from .peers import HEADER, SILENCE_S, Terminal, card_host, run, scenario, terminal_at

CALM = "[unionpay]\n"


def script(do: str, when: str = "") -> str:
    return f'[[unionpay.script]]\nwhen = {{ {when} }}\ndo = "{do}"\n'


def test_sign_on_brings_keys_that_fit_their_check_values(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host, signed_on=False) as terminal:
            double = await terminal.sign_on("003")
            assert (double.mti, double[39], double[60], len(double[62])) == ("0810", "00", "00000001003", 40)
            with_track = await terminal.sign_on("004")
            assert (with_track[60], len(with_track[62])) == ("00000001004", 60)
            assert with_track[62][:36] != double[62][:36], "every sign-on brings new keys"
            assert with_track.header == HEADER[:1] + HEADER[3:5] + HEADER[1:3] + HEADER[5:]

    run(story())


def test_a_single_length_mac_key_is_padded_with_zeros(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u", mac_key_size=8) as host, terminal_at(host) as terminal:
            answer = await terminal.sign_on()
            assert answer[62][28:36] == bytes(8)
            assert await terminal.purchase(1, 100) == "00"

    run(story())


def test_a_purchase_is_approved_with_every_field_a_response_must_have(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            request = terminal.purchase_values(
                5, 12_345, f22="021", f26="06", f52=terminal.pin_block("123456"), f53="2600000000000000"
            )
            answer = await terminal.financial(request)
            assert answer is not None
            assert (answer.mti, answer[39], answer[4], answer[11]) == ("0210", "00", "000000012345", "000005")
            assert terminal.mac_is_right(answer)
            assert answer[2] == testkeys.test_pan(7) and len(answer[37]) == 12 and len(answer[38]) == 6
            assert answer[15] == host.settlement_date and answer[63] == "CUP" and len(answer[44]) == 22
            assert not {14, 22, 26, 35, 52, 53} & set(answer)

    run(story())
    charges = read_charges(tmp_path / "u")
    assert list(charges) == [("GS000001", "000001", "000005")]
    assert charges["GS000001", "000001", "000005"].net == 12_345


def test_a_chip_card_gets_issuer_data_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            values = terminal.purchase_values(1, 100, f22="052", f55=bytes.fromhex("9F36020102"))
            answer = await terminal.financial(values)
            assert answer["55.9F36"] == b"\x01\x02" and len(answer["55.91"]) == 10

    run(story())


def test_refusals_come_in_the_documented_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            stranger = Terminal(2)
            stranger.mac, stranger.pin, stranger.batch = terminal.mac, terminal.pin, "000001"
            await stranger.connect(host.port)
            unknown = await stranger.financial(stranger.purchase_values(1, 100))
            assert unknown is not None and unknown[39] == "77" and 64 not in unknown
            await stranger.close()

            frame = terminal.sealed(terminal.purchase_values(1, 100))
            terminal.write(frame[:-1] + b"!")
            wrong_mac = await terminal.hear()
            assert wrong_mac[39] == "A0" and 64 not in wrong_mac

            pin = {"f53": "2600000000000000", "f22": "021"}
            assert await terminal.purchase(1, 100, f42="898440149009999") == "03"
            assert await terminal.purchase(1, 100, f35=None) == "30"
            assert await terminal.purchase(1, 100, f25=None) == "30"
            assert await terminal.purchase(1, 100, f60="22000002000") == "77"
            assert await terminal.purchase(1, 100, f35=None, f2="6222000000000001") == "14"
            assert await terminal.purchase(1, 0) == "13"
            assert await terminal.purchase(1, 100, f52=bytes(8), **pin) == "99"
            assert await terminal.purchase(1, 100, f52=terminal.pin_block("123456", card=8), **pin) == "99"
            assert await terminal.purchase(1, 100, f52=terminal.pin_block("000000"), **pin) == "55"
            assert await terminal.purchase(2, 100, f52=terminal.pin_block("4321"), **pin) == "00"

    run(story())
    assert len(read_charges(tmp_path / "u")) == 1


def test_what_is_reversed_already_is_not_found_where_the_host_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            card_host(tmp_path / "u", '[unionpay]\nreversal_again = "25"\n') as host,
            terminal_at(host) as terminal,
        ):
            assert await terminal.purchase(1, 100) == "00"
            assert [await terminal.reverse(1, 100) for _ in range(2)] == ["00", "25"]

    run(story())


def test_a_refusal_may_come_without_a_mac(tmp_path: Path) -> None:
    async def story() -> None:
        text = "[unionpay]\ndecline_rate = 1.0\nbare_decline_share = 1.0\n"
        async with card_host(tmp_path / "u", text) as host, terminal_at(host) as terminal:
            answer = await terminal.financial(terminal.purchase_values(1, 100))
            assert answer[39] in ("51", "61", "05", "54") and 64 not in answer

    run(story())


def test_a_wrong_mac_may_be_under_any_answer(tmp_path: Path) -> None:
    async def story() -> None:
        text = "[unionpay]\nbad_mac_rate = 1.0\nbad_mac_other_share = 1.0\n"
        async with card_host(tmp_path / "u", text) as host, terminal_at(host) as terminal:
            terminal.write(terminal.sealed(terminal.purchase_values(1, 100)))
            answer = await terminal.hear()
            assert answer[39] != "00" and not terminal.mac_is_right(answer)

    run(story())


def test_a_stray_comes_much_later_and_on_whatever_connection_there_is(tmp_path: Path) -> None:
    async def story() -> None:
        text = "[unionpay]\nlate_rate = 1.0\nlate_charge_share = 0.0\nstray_share = 1.0\nstray_s = [0.3, 0.3]\n"
        async with card_host(tmp_path / "u", text) as host, terminal_at(host) as terminal:
            terminal.write(terminal.sealed(terminal.purchase_values(1, 100)))
            await asyncio.sleep(0.1)
            await terminal.close()
            await terminal.connect(host.port)
            answer = await terminal.hear()
            assert (answer.mti, answer[39], answer[11]) == ("0210", "00", "000001")

    run(story())


def test_reversals_may_be_refused_or_answered_under_a_wrong_mac(tmp_path: Path) -> None:
    async def story() -> None:
        for text, code, good in (
            ("reversal_refuse_rate = 1.0\nreversal_refuse_codes = ['40']", "40", True),
            ("reversal_bad_mac_rate = 1.0", "00", False),
        ):
            ledger = tmp_path / code
            async with card_host(ledger, f"[unionpay]\n{text}\n") as host, terminal_at(host) as terminal:
                assert await terminal.purchase(1, 100) == "00"
                terminal.write(terminal.sealed(terminal.reversal_values(1, 100)))
                answer = await terminal.hear()
                assert answer[39] == code and terminal.mac_is_right(answer) is good
            assert read_charges(ledger)["GS000001", "000001", "000001"].net == (100 if code == "40" else 0)

    run(story())


def test_unknown_terminals_cannot_sign_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host, signed_on=False) as terminal:
            terminal.merchant_id = "898440149009999"
            assert (await terminal.sign_on())[39] == "03"
            terminal.terminal_id = "XX000001"
            assert (await terminal.sign_on())[39] == "97"

    run(story())


def test_echo_sign_off_and_what_nobody_knows(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            common = {11: "000009", 41: terminal.terminal_id, 42: terminal.merchant_id}
            echo = await terminal.ask({0: "0820", **common, 60: "00000001301"})
            assert (echo.mti, echo[39], echo[11]) == ("0830", "00", "000009")
            assert (await terminal.ask({0: "0820", **common, 60: "00000001999"}))[39] == "12"
            assert (await terminal.ask({0: "0820", **common, 60: "00000001002"}))[39] == "00"
            assert await terminal.purchase(1, 100) == "77"
            terminal.write(b"\x00" * 30)
            assert await terminal.hear(SILENCE_S) is None
            assert host.counts["unreadable"] == 1

    run(story())


def test_the_same_key_is_never_charged_twice(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            assert await terminal.purchase(1, 100) == "00"
            assert await terminal.purchase(1, 100) == "94"
            assert await terminal.reverse(1, 100) == "00"
            assert await terminal.purchase(1, 100) == "94", "also not after it was reversed"

    run(story())
    (charge,) = read_charges(tmp_path / "u").values()
    assert (charge.charged, charge.reversed, charge.net) == (100, 100, 0)


def test_a_reversal_undoes_all_or_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            purchase = await terminal.financial(terminal.purchase_values(1, 100))
            assert await terminal.reverse(1, 99) == "64"
            assert await terminal.reverse(1, 100, card=8) == "14"
            assert await terminal.reverse(1, 100, f39="00") == "30"
            assert await terminal.reverse(2, 100) == "25"
            answer = await terminal.financial(terminal.reversal_values(1, 100))
            assert (answer.mti, answer[39], answer[37], answer[15]) == ("0410", "00", purchase[37], purchase[15])
            assert await terminal.reverse(1, 100) == "00", "asked again, the answer is the same"

    run(story())
    (charge,) = read_charges(tmp_path / "u").values()
    assert charge.net == 0 and charge.reversed == 100


def test_a_reversal_that_found_nothing_does_not_stop_the_purchase(tmp_path: Path) -> None:
    async def story() -> None:
        text = script("late_act:0.2", "amount = 777")
        async with card_host(tmp_path / "u", text) as host, terminal_at(host) as terminal:
            assert await terminal.purchase(1, 777, wait_s=0.05) == ""
            assert await terminal.reverse(1, 777) == "25"
            assert await terminal.purchase(1, 777) == "94", "it is waiting to be charged"
            late = await terminal.hear()
            assert (late.mti, late[39]) == ("0210", "00")
            assert read_charges(tmp_path / "u")["GS000001", "000001", "000001"].net == 777
            assert await terminal.reverse(1, 777) == "00"

    run(story())
    assert [fact["fact"] for fact in read_facts(tmp_path / "u")][2:] == ["reversal_refused", "charge", "reversal"]


def test_a_host_can_say_00_of_a_purchase_it_never_saw(tmp_path: Path) -> None:
    async def story() -> None:
        text = '[unionpay]\nreversal_not_found = "00"\n'
        async with card_host(tmp_path / "u", text) as host, terminal_at(host) as terminal:
            assert await terminal.reverse(1, 100) == "00"

    run(story())
    assert not read_charges(tmp_path / "u")


@pytest.mark.parametrize(("do", "net"), [("silence", 500), ("silence:lost", 0)])
def test_silence_tells_nothing_about_the_charge(tmp_path: Path, do: str, net: int) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u", script(do, "nth = 1")) as host, terminal_at(host) as terminal:
            assert await terminal.purchase(1, 500, wait_s=SILENCE_S) == ""

    run(story())
    assert sum(charge.net for charge in read_charges(tmp_path / "u").values()) == net


@pytest.mark.parametrize(("do", "net"), [("drop:done", 500), ("drop:lost", 0)])
def test_a_dropped_connection_tells_nothing_either(tmp_path: Path, do: str, net: int) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u", script(do)) as host, terminal_at(host) as terminal:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await terminal.purchase(1, 500)
            async with terminal_at(host, signed_on=False) as again:
                again.mac, again.batch = terminal.mac, terminal.batch
                assert await again.reverse(1, 500) == ("00" if net else "25")

    run(story())


@pytest.mark.parametrize(("do", "found"), [("ambiguous:98", "00"), ("ambiguous:96:lost", "25")])
def test_an_ambiguous_code_may_hide_a_charge(tmp_path: Path, do: str, found: str) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u", script(do)) as host, terminal_at(host) as terminal:
            assert await terminal.purchase(1, 500) == do.split(":")[1]
            assert await terminal.reverse(1, 500) == found

    run(story())


def test_late_twice_and_badly_sealed_answers(tmp_path: Path) -> None:
    async def story() -> None:
        text = script("late:0.2", "amount = 1") + script("duplicate", "amount = 2") + script("bad_mac", "amount = 3")
        async with card_host(tmp_path / "u", text) as host, terminal_at(host) as terminal:
            assert await terminal.purchase(1, 1, wait_s=0.05) == ""
            assert len(read_charges(tmp_path / "u")) == 1, "charged at once, answered late"
            assert (await terminal.hear())[11] == "000001"
            assert await terminal.purchase(2, 2) == "00"
            assert (await terminal.hear())[11] == "000002"
            terminal.write(terminal.sealed(terminal.purchase_values(3, 3)))
            answer = await terminal.hear()
            assert answer[39] == "00" and not terminal.mac_is_right(answer)
            assert await terminal.purchase(4, 3) == "00", "a rule works once"

    run(story())


def test_silent_reversals_may_have_worked(tmp_path: Path) -> None:
    async def story() -> None:
        text = script("silence:done", 'message = "reversal"')
        async with card_host(tmp_path / "u", text) as host, terminal_at(host) as terminal:
            await terminal.purchase(1, 100)
            assert await terminal.reverse(1, 100, wait_s=SILENCE_S) == ""
            assert read_charges(tmp_path / "u")["GS000001", "000001", "000001"].net == 0
            assert await terminal.reverse(1, 100) == "00"

    run(story())


def test_a_restarted_host_knows_what_it_knew(tmp_path: Path) -> None:
    ledger = tmp_path / "u"

    async def before() -> tuple[Terminal, str]:
        async with card_host(ledger, script("decline:51", "amount = 3")) as host, terminal_at(host) as terminal:
            assert await terminal.purchase(1, 1) == "00"
            assert await terminal.purchase(2, 2) == "00"
            assert await terminal.reverse(2, 2) == "00"
            answer = await terminal.financial(terminal.purchase_values(3, 3))
            assert answer[39] == "51"
            return terminal, answer[37]

    async def after(terminal: Terminal, last_rrn: str) -> None:
        async with card_host(ledger) as host:
            await terminal.connect(host.port)
            assert [await terminal.purchase(stan, stan) for stan in (1, 2, 3)] == ["94"] * 3
            answer = await terminal.financial(terminal.purchase_values(4, 4))
            assert answer is not None and answer[39] == "00" and str(answer[37]) > last_rrn
            assert await terminal.reverse(1, 1) == "00"
            assert await terminal.reverse(3, 3) == "25"
            await terminal.close()

    terminal, last_rrn = run(before())
    truth = read_charges(ledger)
    with ledger.open("ab") as file:
        file.write(b'{"at": 1, "fact": "cha')  # killed while it wrote
    assert read_charges(ledger) == truth
    run(after(terminal, last_rrn))
    assert {key[2]: charge.net for key, charge in read_charges(ledger).items()} == {
        "000001": 0,
        "000002": 0,
        "000004": 4,
    }


def test_yesterdays_charge_cannot_be_reversed(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u", cut_over_in_s=0.3) as host, terminal_at(host) as terminal:
            first_day = host.settlement_date
            assert await terminal.purchase(1, 100) == "00"
            await asyncio.sleep(0.35)
            assert host.settlement_date != first_day
            answer = await terminal.financial(terminal.reversal_values(1, 100))
            assert (answer[39], answer[15]) == ("25", first_day)
            answer = await terminal.financial(terminal.purchase_values(2, 100))
            assert (answer[39], answer[15]) == ("00", host.settlement_date)

    run(story())
    assert read_charges(tmp_path / "u")["GS000001", "000001", "000001"].net == 100


def test_moods_come_as_often_as_the_scenario_says(tmp_path: Path) -> None:
    count = 2_000
    text = """[unionpay]
decline_rate = 0.2
decline_codes = ["51", "61"]
ambiguous_rate = 0.1
duplicate_rate = 0.1
silence_rate = 0.1
"""

    async def story() -> dict[str, int]:
        async with card_host(tmp_path / "u", text) as host, terminal_at(host) as terminal:
            for stan in range(1, count + 1):
                terminal.write(terminal.sealed(terminal.purchase_values(stan, stan)))
            codes: dict[str, int] = {}
            while (answer := await terminal.hear(3.0)) is not None:  # silence this long is the end, on any machine
                codes[answer[39]] = codes.get(answer[39], 0) + 1
            return codes

    codes = run(story())
    declined = codes["51"] + codes["61"]
    assert 0.17 * count < declined < 0.23 * count
    assert 0.07 * count < codes["68"] + codes["96"] + codes["98"] < 0.13 * count
    assert 0.97 * count < sum(codes.values()) < 1.03 * count, "as many answered twice as not at all"
    charged = len(read_charges(tmp_path / "u"))
    assert 0.67 * count < charged < 0.73 * count, "silent and ambiguous ones are charged half the time"


def test_a_port_or_a_ledger_that_is_taken_is_said_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host:
            with pytest.raises(StartError, match="belongs to another running host"):
                await UnionPayHost("127.0.0.1", 0, tmp_path / "u", scenario()).start()
            with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{host.port}"):
                await UnionPayHost("127.0.0.1", host.port, tmp_path / "v", scenario()).start()
            with pytest.raises(StartError, match="loopback"):
                await UnionPayHost("0.0.0.0", 0, tmp_path / "w", scenario()).start()

    run(story())


def test_a_host_that_was_stopped_forgets_what_waited_in_its_sockets(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            host._awake_at -= 2.0  # as if the process had stood still
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await terminal.purchase(1, 100)
            await asyncio.sleep(0.15)  # the next pulse
            async with terminal_at(host) as again:
                assert await again.reverse(1, 100) == "25"
                assert await again.purchase(1, 100) == "00"

    run(story())


def test_a_late_charge_that_cannot_be_made_in_time_is_never_made(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u", script("late_act:0.1")) as host, terminal_at(host) as terminal:
            assert await terminal.purchase(1, 100, wait_s=0.03) == ""
            time.sleep(0.5)  # noqa: ASYNC251 - the whole process stands still
            assert await terminal.hear(SILENCE_S) is None
            assert host.counts["late_given_up"] == 1 and not read_charges(tmp_path / "u")
            assert await terminal.purchase(1, 100) == "00", "nothing is remembered of it"

    run(story())


def test_facts_are_on_disk_before_the_answer(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            for stan in range(1, 20):
                await terminal.purchase(stan, 100)
                assert len(read_charges(tmp_path / "u")) == stan
            await terminal.reverse(3, 100)
            assert sum(charge.net for charge in read_charges(tmp_path / "u").values()) == 18 * 100

    run(story())


def test_odd_fields_are_refused_and_do_not_hurt(tmp_path: Path) -> None:
    async def story() -> None:
        async with card_host(tmp_path / "u") as host, terminal_at(host) as terminal:
            encrypted = {"f35": "1" * 37, "f53": "2610000000000000"}
            assert await terminal.purchase(1, 100, **encrypted) == "30"
            assert await terminal.purchase(1, 100, f35=None, f2="12345678") == "30"
            assert await terminal.purchase(1, 100, f60="22") == "77"
            assert await terminal.purchase(1, 100, f55=b"") == "00"
            no_terminal = terminal.purchase_values(2, 100, f41=None)
            assert await terminal.financial(no_terminal, SILENCE_S) is None
            assert await terminal.purchase(2, 100) == "00"

    run(story())
