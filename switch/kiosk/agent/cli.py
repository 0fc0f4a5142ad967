"""The command ``gridswitch agent``: enrol a kiosk, then run its agent with simulated units until SIGTERM.

A kiosk's maker writes the same few lines around ``Agent`` with units and hands of his own.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch.errors import StartError, UnavailableError
from switch.kiosk.agent import limits

if TYPE_CHECKING:  # the rest is loaded when the command runs: others do not need what it needs
    from switch.kiosk.agent.identity import Identity, Service
    from switch.kiosk.agent.spool import FileSpool
    from switch.kiosk.agent.wire import Wire

_ABOUT = (
    "Enrols this kiosk with the admin service, waits until a person has approved its key, then reports how it is and "
    "does what it is told. Its units are simulated; what it keeps lies in --dir and survives a kill."
)


def add_agent_parser(commands: Any) -> None:
    parser = commands.add_parser("agent", help="a kiosk's agent for the admin service", description=_ABOUT)
    parser.add_argument("--server", required=True, metavar="URL", help="https://HOST:PORT of the device API")
    parser.add_argument(
        "--ca", type=Path, required=True, metavar="FILE", help="CA of the service's certificate, PEM (device-ca.pem)"
    )
    parser.add_argument(
        "--dir", type=Path, default=Path(".gridswitch/agent"), metavar="DIR", help="its key, spool and files"
    )
    parser.add_argument("--serial", default="", metavar="SN", help="serial number, as registered; to enrol")
    parser.add_argument("--code", default="", metavar="CODE", help="one-time code; to enrol, or to enrol again")
    parser.add_argument("--app", default="simulated", metavar="VERSION", help="version of the kiosk's program")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    from switch.kiosk.agent.identity import Identity
    from switch.kiosk.agent.spool import FileSpool

    identity = Identity(arguments.dir, arguments.ca)
    spool = FileSpool(arguments.dir / "spool.db")
    work = asyncio.ensure_future(_live(arguments, identity, spool))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return 0
    finally:
        spool.close()
    return 0


async def _live(arguments: argparse.Namespace, identity: Identity, spool: FileSpool) -> None:
    from switch.kiosk.agent.agent import Agent, Credentials
    from switch.kiosk.agent.ports import SimulatedHands, SimulatedUnits
    from switch.kiosk.agent.wire import Wire

    service = identity.service
    if service is None or arguments.code:
        wire = Wire(arguments.server, identity.context(enrolling=True))
        try:
            service = await enrol(wire, identity, arguments.serial, arguments.code, _say)
        finally:
            await wire.close()
    _say(f"agent: kiosk {service.kiosk} reports to {arguments.server}")
    units = SimulatedUnits()
    wire = Wire(arguments.server, identity.context())
    credentials = Credentials(service.kiosk, service.public, identity)
    agent = Agent(credentials, wire, spool, units, SimulatedHands(units, arguments.dir), app=arguments.app)
    agent.event("agent.started")
    await agent.run()


async def enrol(wire: Wire, identity: Identity, serial_number: str, code: str, say: Callable[[str], None]) -> Service:
    """Ask for a certificate and wait until a person has approved it; goes on where an earlier run waited.

    Raises:
        StartError: ``enrol``: refused; the text says why and what to do.
        UnavailableError: The service does not answer.
    """
    from switch.kiosk.agent.identity import Service

    pending = identity.pending
    token = pending.token if pending is not None and not code else ""
    if not token:
        if not serial_number or not code:
            raise StartError("enrol", "this kiosk is not enrolled: give --serial and --code")
        body = {"serial_number": serial_number, "code": code, "csr": identity.request()}
        reply = await wire.call("POST", "enroll", body)
        if reply.status != 200:
            raise StartError("enrol", f"refused: {reply.body.get('msg', reply.status)}")
        token = str(reply.body.get("token", ""))
        identity.wait_for(token)
    say(f"agent: compare the fingerprint with the page, then approve:\n    {identity.fingerprint()}")
    while True:
        try:
            reply = await wire.call("POST", "enroll/poll", {"token": token})
        except UnavailableError as error:
            say(f"agent: {error}; asking again")
            await asyncio.sleep(limits.POLL_S)
            continue
        state = reply.body.get("state")
        if reply.status == 200 and state == "active":
            service = Service(str(reply.body.get("kiosk", "")), str(reply.body.get("command_key", "")))
            identity.accept(str(reply.body.get("certificate", "")), service)
            return service
        if not reply.retry and (reply.status != 200 or state != "pending"):
            identity.give_up()
            raise StartError("enrol", f"not approved: {reply.body.get('msg', state)}; ask for a new code")
        await asyncio.sleep(max(limits.POLL_S, reply.after_s))


def _say(text: str) -> None:
    print(text, flush=True)
