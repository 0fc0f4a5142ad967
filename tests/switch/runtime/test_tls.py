"""Kiosks over TLS against the whole switch: a certificate speaks for its own terminal and for no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switch.cli import main
from switch.config import ListenTls
from switch.observe import log
from switch.ops.certs import make_development_certificates
from switch.ops.status import ask
from switch.sim import testkeys
from switch.sim.kiosk_client import CardChoice, Kiosk
from switch.sim.wire import Turn, kiosk_tls

Play = Callable[..., None]
ONE, TWO = (testkeys.test_terminal(number)[0] for number in (1, 2))


async def with_tls(world: Any) -> Path:
    """Start the worker again, with TLS to kiosks. Gives the folder of the certificates."""
    folder: Path = world.folder / "certs"
    make_development_certificates(folder, [ONE, TWO])
    tls = ListenTls(
        enabled=True,
        certificate=str(folder / "server.pem"),
        key=str(folder / "server.key"),
        client_ca=str(folder / "ca.pem"),
    )
    await world.worker.stop()
    world.config = msgspec.structs.replace(world.config, listen=msgspec.structs.replace(world.config.listen, tls=tls))
    await world.start_worker()
    return folder


def kiosk(world: Any, number: int, folder: Path, certificate: str) -> Kiosk:
    made = Kiosk(number, "127.0.0.1", world.worker.kiosk_port, turn=Turn(), tls=kiosk_tls(folder, certificate))
    world.kiosks.append(made)
    return made


def test_a_bill_is_paid_over_tls(play: Play) -> None:
    async def story(world: Any) -> None:
        folder = await with_tls(world)
        one = kiosk(world, 1, folder, ONE)
        await one.connect()
        assert await one.sign_on() == "00" and await one.echo() == "00"
        payment = await world.pay(one)
        assert payment.final == "00"
        assert (await world.settle()).holds
        assert world.metric("switch_wrong_terminal_total") == 0

    play(story)


@pytest.mark.parametrize("what", ["sign_on", "echo", "inquire", "pay", "ask_result", "take_back", "malformed"])
def test_a_stolen_certificate_opens_no_other_terminal(play: Play, what: str, helpers: Any) -> None:
    async def story(world: Any) -> None:
        folder = await with_tls(world)
        owner = kiosk(world, 1, folder, ONE)
        await owner.connect()
        assert await owner.sign_on() == "00"
        # The thief has terminal 2's keys, and even a payment of it, but terminal 1's certificate.
        thief = kiosk(world, 2, folder, TWO)
        await thief.connect()
        assert await thief.sign_on() == "00"
        bills = await world.bills(thief)
        paid = await world.pay(thief)
        thief.close()
        thief._tls = kiosk_tls(folder, ONE)
        await thief.connect()
        seen = dict(world.unionpay.counts), dict(world.marketing.counts), await world.events()
        looked_up = len(world.worker.switch.dispatcher._sessions._sessions)

        if what == "malformed":
            thief._batch = ""  # field 60 is too short: once answered "format" before anybody looked who asks
        acts: dict[str, Callable[[], Any]] = {
            "pay": lambda: thief.pay(bills, tuple(row[0] for row in bills.rows), CardChoice(1)),
            "ask_result": lambda: thief.ask_result(paid),
            "take_back": lambda: thief.take_back(paid),
            "inquire": lambda: thief.inquire(bills.account),
            "sign_on": thief.sign_on,
            "echo": thief.echo,
            "malformed": thief.echo,
        }
        told = await acts[what]()
        if what in ("sign_on", "echo", "malformed"):
            assert told == "97"
        elif what == "pay":
            assert told.words == 1 and not told.final
        else:
            assert told.code == "97" and told.stable == "wrong_certificate"
        await helpers.wait_until(lambda: not thief.is_connected)
        assert world.metric("switch_wrong_terminal_total") == 1
        assert world.metric('switch_mac_failures_total{peer="kiosk"}') == 0, "not even its MAC was looked at"
        assert len(world.worker.switch.dispatcher._sessions._sessions) == looked_up

        # Echo tests of the links go on by themselves.
        def without_echo(counts: dict[str, int]) -> dict[str, int]:
            return {name: count for name, count in counts.items() if "echo" not in name}

        now = world.unionpay.counts, world.marketing.counts
        assert [without_echo(each) for each in now] == [without_echo(each) for each in seen[:2]]
        assert await world.events() == seen[2]
        # The rightful owner of the certificate notices nothing, and terminal 2 with its own is as before.
        assert (await world.pay(owner)).final == "00"
        thief._tls, thief._batch = kiosk_tls(folder, TWO), "000001"
        await thief.connect()
        assert await thief.echo() == "00"
        thief.unfinished.clear()
        assert (await world.settle()).holds

    play(story)


def test_renewed_certificates_are_taken_on_order_and_told(
    play: Play, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: Any) -> None:
        folder = await with_tls(world)
        one = kiosk(world, 1, folder, ONE)
        await one.connect()
        told = await asyncio.to_thread(ask, world.config, do="status")
        assert [each["name"] for each in told["certificates"]] == ["listen.tls.certificate", "listen.tls.client_ca"]
        assert told["notes"] == [] and told["ready"]

        for name in ("server.pem", "server.key"):
            (folder / name).unlink()
        make_development_certificates(folder, [])
        order = await asyncio.to_thread(ask, world.config, do="certificates")
        assert order == [{"name": "listen.tls", "loaded": True, "problem": ""}]

        (folder / "server.pem").write_bytes(b"broken")
        monkeypatch.setattr("switch.ops.certs.load", lambda _path: world.config)
        monkeypatch.setattr("switch.ops.status.load", lambda _path: world.config)
        assert await asyncio.to_thread(main, ["certs", "reload", "--config", "x"]) == 1
        assert "NOT taken, the ones before stay in force: listen.tls.certificate" in capsys.readouterr().out
        assert await asyncio.to_thread(main, ["status", "--config", "x"]) == 0
        shown = capsys.readouterr().out
        assert "no certificate in PEM form; the ones before are in force" in shown
        assert "listen.tls.certificate" in shown and "days left" in shown
        assert await one.sign_on() == "00", "the connection of before goes on"
        two = kiosk(world, 2, folder, TWO)
        await two.connect()
        assert await two.sign_on() == "00"

    play(story)


def test_an_expired_certificate_of_ours_is_not_ready_with_its_reason(play: Play) -> None:
    async def story(world: Any) -> None:
        await with_tls(world)
        certificates = world.worker._certificates
        months_us = int(40 * 86_400e6)
        now_us = certificates._wall_us()
        certificates._wall_us = lambda: now_us + months_us
        told = await asyncio.to_thread(ask, world.config, do="status")
        assert not told["ready"]
        (reason,) = told["not_ready"]
        assert reason.startswith("listen.tls.certificate (") and "expired 10 days ago: put a new one" in reason
        assert any(note.startswith("listen.tls.client_ca (") for note in told["notes"])

    play(story)


def test_what_people_must_see_is_no_mere_information() -> None:
    for name in ("kiosk.wrong_terminal", "certificates.refused", "certificate.ending", "link.tls_failed"):
        assert log.LEVELS[log.LEVEL_OF[name]] >= log.LEVELS["warning"]
