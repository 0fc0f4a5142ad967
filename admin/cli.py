"""The commands of the admin service: ``gridswitch admin …`` starts ``python -m admin …``."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
import time
from pathlib import Path
from typing import Any

from admin import demo
from admin.auth.audit import audit, verify
from admin.auth.password import Passwords, one_time
from admin.auth.permissions import Role
from admin.auth.secrets import Secrets, totp_code
from admin.config import Config, document, load
from admin.db.migrate import migrate, pending
from admin.db.pool import Database, connect
from admin.errors import AdminError, StartError
from admin.feed.payments import Feed
from admin.limits import FEED_LAG_EVENTS, ONE_TIME_PASSWORD_S
from admin.operators import store


def main(argv: list[str] | None = None) -> int:
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.run(arguments))
    except (StartError, AdminError) as error:
        print(f"gridswitch admin: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gridswitch admin",
        description="The admin service: who runs the kiosks, what they see and what they did.",
        epilog="first steps: migrate, create-operator (two people at least: what matters needs a second one), run",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--config", default="admin.toml", metavar="FILE", help="configuration (default admin.toml)")
        made.set_defaults(run=run)
        return made

    command("run", _run, "serve the pages until SIGTERM")
    command("migrate", _migrate, "bring the schema admin up to this version; needs an owner's login")
    making = command("create-operator", _create_operator, "an operator with a role, and a one-time password")
    making.add_argument("--login", required=True, help="2 to 32 small letters, digits, dots")
    making.add_argument("--name", required=True, help="as colleagues know them")
    making.add_argument("--role", required=True, action="append", choices=[role.value for role in Role])
    making.add_argument("--org", default="root", metavar="CODE", help="organisation; default the whole network")
    making.add_argument("--employer", default="grid", choices=["grid", "vendor"])
    command("verify-audit", _verify_audit, "walk over the audit log's chain and anchors; exit status 1 if it is broken")
    ca = command(
        "device-ca", _device_ca, "make what the device API needs: two keys, its CA, a certificate to listen with"
    )
    ca.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a name or address under which kiosks reach it, for the listener's certificate; without: made elsewhere",
    )
    agents = command("test-agents", _test_agents, "kiosks with certificates for gridswitch agents; development only")
    agents.add_argument("--count", type=int, default=1000, metavar="N", help="how many (default 1000)")
    agents.add_argument(
        "--out", default="agents.json", metavar="FILE", help="where their keys go (default agents.json)"
    )
    feeding = command("feed", _feed, "how far the copy of the switch's payments is behind")
    feeding.add_argument(
        "--again", action="store_true", help="forget the copy; a running service reads everything anew"
    )
    command("demo-data", _demo_data, "organisations, a kiosk for each terminal, and people; development only")
    showing = command("code", _code, "the second factor of a demo's operator right now; development only")
    showing.add_argument("login")
    example = commands.add_parser("example-config", help="print every option with its default and help")
    example.set_defaults(run=_example)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from admin.serve import serve

    return serve(load(arguments.config))


def _migrate(arguments: argparse.Namespace) -> int:
    applied = asyncio.run(migrate(load(arguments.config).database.dsn))
    print("\n".join(f"applied {name}" for name in applied) or "nothing to do")
    return 0


def _example(_arguments: argparse.Namespace) -> int:
    print(document(), end="")
    return 0


def _device_ca(arguments: argparse.Namespace) -> int:
    from admin.deviceapi.setup import make_device_ca

    made = make_device_ca(load(arguments.config), arguments.name)
    print("\n".join(f"made {name}" for name in made) or "nothing to do")
    return 0


def _test_agents(arguments: argparse.Namespace) -> int:
    from admin.deviceapi.setup import make_test_agents
    from admin.devices.trust.keys import write_private

    path = Path(arguments.out)
    book = asyncio.run(make_test_agents(load(arguments.config), arguments.count))
    path.unlink(missing_ok=True)
    write_private(path, book)
    print(f"{arguments.count} kiosks, their keys in {path}; next: gridswitch agents {path}")
    return 0


def _create_operator(arguments: argparse.Namespace) -> int:
    password = asyncio.run(_created(load(arguments.config), arguments))
    print(f"{arguments.login}: one-time password {password}")
    hours = ONE_TIME_PASSWORD_S // 3600
    print(f"It works for {hours} hours; the first sign-in asks for a new one and for a second factor.")
    return 0


async def _created(config: Config, arguments: argparse.Namespace) -> str:
    password = one_time()
    hashed = await Passwords().hash(password)
    connection = await connect(config.database.dsn, "create-operator")
    try:
        if missing := await pending(connection):
            raise StartError(f"the database lacks {len(missing)} migrations; run: gridswitch admin migrate [schema]")
        async with connection.transaction():
            org = await connection.fetchrow(store.QUERY["org_by_code"], arguments.org)
            if org is None:
                raise StartError(f"--org {arguments.org}: there is no such organisation [org]")
            number = await store.create(
                connection,
                login=arguments.login,
                name=arguments.name,
                employer=arguments.employer,
                org_id=org["id"],
                email="",
                phone="",
                by=None,
            )
            for role in arguments.role:
                held = await store.grants_of(connection, number)
                store.refuse_conflict(store.grant_now(Role(role), org["path"]), held)
                await store.add_grant(
                    connection,
                    operator_id=number,
                    role=Role(role),
                    org_id=org["id"],
                    valid_from=None,
                    valid_to=None,
                    by=None,
                    approval=None,
                )
            await store.set_one_time(connection, number, hashed, "one_time")
            who = f"cli:{getpass.getuser()}"
            await audit(
                connection, who, "operator.create", "operator", number, login=arguments.login, roles=arguments.role
            )
    finally:
        await connection.close()
    return password


def _feed(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)

    async def told() -> str:
        database = Database(config.database.dsn, size=1)
        await database.start()
        try:
            feed = Feed(database, Secrets.from_file(Path(config.secrets.key_file)))
            if arguments.again:
                return f"{await feed.again()} payments forgotten; a running service reads them anew"
            lag = await feed.lag()
        finally:
            await database.stop()
        more = " or more" if lag.events == FEED_LAG_EVENTS else ""
        return f"{lag.read} events read, {lag.events}{more} wait; {lag.seconds:.1f} s behind"

    print(asyncio.run(told()))
    return 0


def _development(config: Config) -> None:
    if config.environment != "development":
        raise StartError('environment: only with environment = "development" [environment]')


def _demo_data(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    _development(config)
    password = demo.new_password()

    async def fill() -> int:
        connection = await connect(config.database.dsn, "demo-data")
        try:
            own = Secrets.from_file(Path(config.secrets.key_file))
            return await demo.fill(connection, Passwords(), own, password)
        finally:
            await connection.close()

    kiosks = asyncio.run(fill())
    people = ", ".join(f"{login} ({role.value})" for login, _, role in demo.PEOPLE)
    print(f"{kiosks} kiosks; people: {people}")
    print(f"password {password}")
    return 0


def _code(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    _development(config)

    async def secret() -> bytes | None:
        connection = await connect(config.database.dsn, "code")
        try:
            return await demo.totp_secret(connection, Secrets.from_file(Path(config.secrets.key_file)), arguments.login)
        finally:
            await connection.close()

    found = asyncio.run(secret())
    if found is None:
        raise StartError(f"{arguments.login}: no such operator, or no second factor yet [login]")
    print(totp_code(found, time.time()))
    return 0


def _verify_audit(arguments: argparse.Namespace) -> int:
    async def walk() -> Any:
        connection = await connect(load(arguments.config).database.dsn, "verify-audit")
        try:
            return await verify(connection)
        finally:
            await connection.close()

    found = asyncio.run(walk())
    if found.wrong is None:
        print(f"{found.rows} rows, every link fits; the last is {found.last.hex()}")
        return 0
    print(f"row {found.wrong}: {found.why}", file=sys.stderr)
    return 1
