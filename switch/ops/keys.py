"""``gridswitch key …``: the local master key, ceremonies of two custodians, generations, and the record of every act.

A component is typed in without echo and goes to the security module; what is shown are check values, names and states.
See ``KEY_CEREMONY.md`` for the people who do it.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from switch import limits
from switch.config import Config, load
from switch.errors import BadRequestError, SecurityError, StartError
from switch.machines.days import local
from switch.observe.log import mask
from switch.ports import ExportedKey, KeyUsage, SecurityModule, StoredKey
from switch.runtime.clock import SystemClock
from switch.security.backends import ask, make_module
from switch.security.engine import Family
from switch.security.lmk import derive, load_lmk, load_or_create_lmk
from switch.security.primitives import BlockCipher
from switch.store import keys as store
from switch.store.keys import Act, Ceremony, Keys

_COMPONENT_SIZE: Final = 16  # bytes
_KCV_DIGITS: Final = (6, 8)  # of a check value on paper
_USAGES: Final = {"tmk": KeyUsage.TMK, "platform": KeyUsage.TMK, "transport": KeyUsage.TRANSPORT}

Job = Callable[[str], Coroutine[Any, Any, int]]


# ---------------------------------------------------------------------------------------------------- commands
def init(arguments: argparse.Namespace) -> int:
    """Make the local master key; never replaces one."""
    config = load(arguments.config)
    security = config.security
    if security.back_end == "pkcs11":
        from switch.security.token import create_masters  # noqa: PLC0415 - only who has a token needs it

        try:
            labels = create_masters(security)
        except SecurityError as error:
            raise StartError("hsm", f"token {security.pkcs11_label!r}: {error.detail}") from None
        for label in labels:
            print(f"made {label}")
        print("They never leave the token. Back the token up with its maker's tool before you load a key.")
        return 0
    path = Path(security.lmk_file)
    if path.exists():
        print(f"{path} is there already, check value {_lmk_check(load_lmk(path))}; nothing was made")
        return 0
    print(f"made {path}, check value {_lmk_check(load_or_create_lmk(path))}")
    print("Back it up apart from the database: without it no stored key can be opened again.")
    return 0


def _lmk_check(lmk: bytes) -> str:
    """Shows whether two files hold the same key; a derived key's first bytes, as those of the key itself are secret."""
    return derive(lmk, "check value")[:4].hex().upper()


async def component(config: Config, dsn: str, arguments: argparse.Namespace) -> int:
    """One custodian's component. The last one makes the key."""
    act = Act(_person(arguments.custodian), arguments.name, arguments.usage)
    async with store.transaction(dsn) as keys:
        # Before the custodian unfolds his sheet: is it possible at all?
        ceremony = await keys.ceremony(act.name, act.usage)
        await _check_component(keys, act, ceremony)
    number = 1 if ceremony is None else len(ceremony.components) + 1
    needed = arguments.of if ceremony is None else ceremony.needed
    family = arguments.family if ceremony is None else ceremony.family
    print(f"{act.name}: component {number} of {needed} of a {family} {act.usage} key; custodian {act.who}")
    clear = _read_component()
    kcv = BlockCipher(Family(family), clear).check_value()
    async with _module(config) as security, store.transaction(dsn) as keys:
        ceremony = await keys.ceremony(act.name, act.usage)
        await _check_component(keys, act, ceremony)
        if ceremony is None:
            await _check_family(security, act, await keys.check_name(act.name, act.usage), family)
            ceremony = await keys.open_ceremony(act, family, needed)
        ceremony = await keys.add_component(act, ceremony, kcv, await ask(security.seal_component, clear))
        del clear
        if len(ceremony.components) < ceremony.needed:
            _print_component(kcv)
            print(
                f"{ceremony.needed - len(ceremony.components)} more by other custodians, until "
                f"{_when(ceremony.ends_at)}; then all components are wiped"
            )
            return 0
        sealed = [row["sealed"] for row in ceremony.components]
        whole: StoredKey = await ask(security.combine_sealed, sealed, _USAGES[act.usage], ceremony.family)
        await keys.combined(act, ceremony, whole)
    _print_component(kcv)
    print(f"all components are there: the key's check value is {_shown(whole.kcv)}")
    print("each custodian compares it with the issuer's letter and says so:")
    print(f"  gridswitch key confirm {act.name} --custodian NAME --kcv DIGITS{_usage_option(act)}")
    return 0


async def _check_component(keys: Keys, act: Act, ceremony: Ceremony | None) -> None:
    if ceremony is None:
        await keys.check_name(act.name, act.usage)
    elif ceremony.state == "combined":
        raise _wrong(
            f"{act.name}: every component is there; the custodians confirm its check value: gridswitch key confirm"
        )
    elif any(row["custodian"].lower() == act.who.lower() for row in ceremony.components):
        raise _wrong(f"{act.name}: {act.who} has entered a component already; another custodian enters this one")


async def _check_family(security: SecurityModule, act: Act, terminal: Any, family: str) -> None:
    """The family of its master key decides how a terminal signs on: a successor cannot change it beside the old one."""
    if act.usage == "platform" and family != "des":
        raise _wrong(f"{act.name}: a platform key is a DES key: field 52 has no room for an SM4 PIN block")
    if act.usage == "tmk" and terminal["tmk_wrapped"]:
        active = await ask(security.load_key, terminal["tmk_wrapped"], KeyUsage.TMK)
        if active.family != family:
            raise _wrong(f"{act.name}: its active key is {active.family}; retire that before you load a {family} key")


async def confirm(dsn: str, arguments: argparse.Namespace) -> int:
    """A custodian has compared the check value; the last one installs the key."""
    act = Act(_person(arguments.custodian), arguments.name, arguments.usage)
    digits = arguments.kcv.replace(" ", "").upper()
    async with store.transaction(dsn) as keys:
        ceremony = await keys.ceremony(act.name, act.usage)
        if ceremony is None or ceremony.state != "combined":
            raise _wrong(f"{act.name}: no key waits for a confirmation; see: gridswitch key show {act.name}")
        if len(digits) not in _KCV_DIGITS or not ceremony.kcv.hex().upper().startswith(digits):
            raise _wrong(
                f"{act.name}: the check value is {_shown(ceremony.kcv)}, not {digits!r}: a component is wrong, or the "
                f"letter is another key's. Begin again: gridswitch key abandon {act.name} --by NAME{_usage_option(act)}"
            )
        ceremony = await keys.confirm(act, ceremony)
        missing = [row["custodian"] for row in ceremony.components if row["confirmed_at"] is None]
        if missing:
            print(f"{act.name}: confirmed by {act.who}; still to confirm: {', '.join(missing)}")
            return 0
        stored = StoredKey(ceremony.wrapped, ceremony.kcv)
        await keys.end_ceremony(act, ceremony, "installed")
        generation, state = await keys.install(act, "installed", stored)
    print(f"{act.name}: confirmed by every custodian; {_standing(act, generation, state, stored.kcv)}")
    return 0


async def abandon(dsn: str, arguments: argparse.Namespace) -> int:
    act = Act(_person(arguments.by), arguments.name, arguments.usage)
    async with store.transaction(dsn) as keys:
        ceremony = await keys.ceremony(act.name, act.usage)
        if ceremony is None:
            raise _wrong(f"{act.name}: no ceremony runs")
        await keys.end_ceremony(act, ceremony, "abandoned")
    print(f"{act.name}: the ceremony is over, its components are wiped")
    return 0


async def generate(config: Config, dsn: str, arguments: argparse.Namespace, *, rotate: bool) -> int:
    """A key that nobody ever sees."""
    act = Act(_person(arguments.by), arguments.name, arguments.usage)
    async with _module(config) as security, store.transaction(dsn) as keys:
        rows = await keys.generations(act.name)
        active = [row for row in rows if (row["usage"], row["state"]) == (act.usage, "active")]
        if rotate and not active:
            raise _wrong(f"{act.name}: no active {act.usage} key to rotate; see: gridswitch key generate")
        if active and not rotate:
            raise _wrong(
                f"{act.name}: it has an active {act.usage} key; its successor comes with: gridswitch key rotate"
            )
        await _check_family(security, act, await keys.check_name(act.name, act.usage), arguments.family)
        stored: StoredKey = await ask(security.generate, _USAGES[act.usage], arguments.family)
        generation, state = await keys.install(act, "generated", stored)
    print(f"{act.name}: {_standing(act, generation, state, stored.kcv)}")
    return 0


async def export(config: Config, dsn: str, arguments: argparse.Namespace) -> int:
    """A terminal's key for the loader of its PIN pad, once two people want it."""
    act = Act(_person(arguments.by), arguments.name, arguments.usage)
    if act.usage == "transport":
        raise _wrong("a transport key is never exported; it goes to its loader in components")
    async with _module(config) as security, store.transaction(dsn) as keys:
        row = await keys.get(act.name, act.usage, None)
        transport = await keys.transport(arguments.under)
        if not arguments.confirm:
            await keys.propose(act, "export", row, arguments.under)
            _print_proposed(act, "export", f"--under {arguments.under}{_usage_option(act)} ")
            return 0
        await keys.confirm_proposal(act, "export", row, arguments.under)
        carried = await ask(security.load_key, row["wrapped"], KeyUsage.TMK)
        carrier = await ask(security.load_key, transport["wrapped"], KeyUsage.TRANSPORT)
        exported: ExportedKey = await ask(security.export_key, carried, carrier)
        await keys.note(act, "exported", row["generation"], row["kcv"], f"under {arguments.under}")
    told = {
        "terminal": act.name,
        "generation": row["generation"],
        "cryptogram": exported.cryptogram.hex().upper(),
        "check_value": _shown(exported.kcv),
        "under": arguments.under,
        "under_check_value": _shown(transport["kcv"]),
    }
    if arguments.json:
        print(orjson.dumps(told).decode())
    else:
        for name, value in told.items():
            print(f"{name.replace('_', ' '):<18}{value}")
    return 0


async def end(dsn: str, arguments: argparse.Namespace, what: str) -> int:
    """``retire`` or ``destroy``: the block is wiped, once two people want it."""
    act = Act(_person(arguments.by), arguments.name, arguments.usage)
    state = "retired" if what == "retire" else "destroyed"
    async with store.transaction(dsn) as keys:
        row = await keys.get(act.name, act.usage, arguments.generation)
        allowed = ("pending", "active") if what == "retire" else ("pending", "active", "retired")
        if row["state"] not in allowed:
            raise _wrong(f"{act.name}: generation {row['generation']} is {row['state']} already")
        if not arguments.confirm:
            await keys.propose(act, what, row)
            _print_proposed(
                act, what, f"--generation {row['generation']} {_usage_option(act).strip()} ".replace("  ", " ")
            )
            return 0
        proposed_by = await keys.confirm_proposal(act, what, row)
        await keys.end(act, row, state, f"proposed by {proposed_by}; block wiped")
    print(f"{act.name}: {act.usage} key generation {row['generation']}, check value {_shown(row['kcv'])}, is {state}")
    if act.usage == "tmk" and row["state"] == "active":
        print("its terminal is out of service; wipe the key in its PIN pad, too")
    return 0


async def listing(dsn: str, arguments: argparse.Namespace) -> int:
    async with store.transaction(dsn) as keys:
        rows = await keys.generations()
    if arguments.json:
        print(orjson.dumps([_plain(row) for row in rows]).decode())
        return 0
    console = Console(highlight=False, soft_wrap=True)
    if not rows:
        console.print("no keys; see switch/KEY_CEREMONY.md")
        return 0
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("name", "usage", "generation", "state", "check value", "since"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            *(escape(row["name"]), row["usage"], str(row["generation"]), row["state"]),
            *(_shown(row["kcv"]), _when(row["changed_at"])),
        )
    console.print(table)
    return 0


async def show(dsn: str, arguments: argparse.Namespace) -> int:
    """Every generation of one name, and the ceremony that runs."""
    async with store.transaction(dsn) as keys:
        rows = await keys.generations(arguments.name)
        ceremonies = [await keys.ceremony(arguments.name, usage) for usage in store.USAGES]
    running = [ceremony for ceremony in ceremonies if ceremony is not None]
    if not rows and not running:
        raise _wrong(f"{arguments.name}: no key and no ceremony of this name; see: gridswitch key list")
    for row in rows:
        print(
            f"{row['usage']} key generation {row['generation']}: {row['state']}, check value {_shown(row['kcv'])}, "
            f"since {_when(row['changed_at'])}"
        )
    for ceremony in running:
        print(
            f"ceremony of a {ceremony.family} {ceremony.usage} key: {ceremony.state}, {len(ceremony.components)} of "
            f"{ceremony.needed} components, until {_when(ceremony.ends_at)}"
        )
        for part in ceremony.components:
            said = "confirmed" if part["confirmed_at"] else "not confirmed"
            print(f"  component {part['number']} by {part['custodian']}, check value {_shown(part['kcv'])}; {said}")
        if ceremony.kcv:
            print(f"  the whole key: check value {_shown(ceremony.kcv)}")
    return 0


async def log(dsn: str, arguments: argparse.Namespace) -> int:
    """Every act, after the chain has been checked."""
    async with store.transaction(dsn) as keys:
        events = await keys.events(arguments.name)
    if arguments.json:
        for row in events:
            print(orjson.dumps({name: row[name] for name in row.keys() if name != "link"}).decode())  # noqa: SIM118
        return 0
    for row in events:
        generation = f" generation {row['generation']}" if row["generation"] else ""
        kcv = f", check value {row['kcv'].upper()}" if row["kcv"] else ""
        detail = f"; {row['detail']}" if row["detail"] else ""
        print(
            f"{local(row['wall_us']):%Y-%m-%d %H:%M:%S}  {row['act']}: {row['name']} {row['usage']} key"
            f"{generation}{kcv}, by {row['who']}{detail}"
        )
    print(f"{len(events)} acts; the chain holds")
    return 0


# ---------------------------------------------------------------------------------------------------- inside
@asynccontextmanager
async def _module(config: Config) -> AsyncIterator[SecurityModule]:
    security = make_module(config, SystemClock().wall_us)
    await security.start()
    try:
        yield security
    finally:
        await security.stop()


def _read_component() -> bytes:
    """32 hexadecimal digits, twice and hidden at a terminal, once from a pipe. BadRequestError never shows them."""
    if sys.stdin.isatty():
        first = getpass.getpass("component, 32 hexadecimal digits (not shown): ")
        if getpass.getpass("once more: ") != first:
            raise _wrong("the two entries differ; nothing was kept")
    else:
        first = sys.stdin.readline()
    digits = "".join(first.split())
    try:
        clear = bytes.fromhex(digits)
    except ValueError:
        raise _wrong("a component is hexadecimal digits; nothing was kept") from None
    if len(clear) != _COMPONENT_SIZE:
        raise _wrong(f"a component has {2 * _COMPONENT_SIZE} digits, not {len(digits)}; nothing was kept")
    if len({byte & 0xFE for byte in clear}) == 1:
        raise _wrong("a component of equal bytes protects nothing; nothing was kept")
    return clear


def _print_component(kcv: bytes) -> None:
    print(f"component accepted, check value {_shown(kcv)}; compare it with your sheet")


def _person(name: str) -> str:
    name = " ".join(name.split())
    if not (2 <= len(name) <= limits.KEY_NAME_SIZE_MAX and name.isprintable()) or mask(name) != name:
        raise _wrong(f"a person's name of 2 to {limits.KEY_NAME_SIZE_MAX} characters is needed")
    return name


def _standing(act: Act, generation: int, state: str, kcv: bytes) -> str:
    if state == "pending":
        wait = "it becomes active with the first sign-on that it proves"
    else:
        wait = "it works from now on"
    return f"{act.usage} key generation {generation}, check value {_shown(kcv)}, is {state}: {wait}"


def _print_proposed(act: Act, what: str, options: str) -> None:
    print(f"{act.name}: {what} proposed by {act.who}; another person must confirm it:")
    print(f"  gridswitch key {what} {act.name} {options}--by NAME --confirm")


def _usage_option(act: Act) -> str:
    return "" if act.usage == "tmk" else f" --usage {act.usage}"


def _plain(row: Any) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("name", "usage", "generation", "state")},
        "check_value": _shown(row["kcv"]),
        "since": row["changed_at"].isoformat(),
    }


def _shown(kcv: bytes) -> str:
    return kcv.hex().upper()


def _when(moment: Any) -> str:
    return local(int(moment.timestamp() * 1e6)).strftime("%Y-%m-%d %H:%M")


def _wrong(detail: str) -> BadRequestError:
    return BadRequestError("key", detail)


# ---------------------------------------------------------------------------------------------------- parser
def add_key_parser(commands: Any, run: Callable[[argparse.Namespace, Job], int]) -> None:
    """``run(arguments, job)``: opens the configured database and runs ``job(dsn)``."""
    key = commands.add_parser("key", help="keys: ceremonies under four eyes, generations, the record of every act")
    actions = key.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, help_text: str, *, named: bool = True, usage: bool = True) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(name, help=help_text, description=help_text + ".")
        parser.add_argument(
            "--config",
            type=Path,
            default=Path("switch.toml"),
            metavar="FILE",
            help="configuration (default switch.toml)",
        )
        if named:
            parser.add_argument("name", metavar="NAME", help="the terminal, or the name of a transport key")
        if named and usage:
            parser.add_argument(
                "--usage",
                choices=store.USAGES,
                default="tmk",
                help="tmk: a terminal's master key at the acquirer (default); platform: ours, in its kiosk, for key "
                "mode translate; transport: carries those to the loader of PIN pads",
            )
        return parser

    def person(parser: argparse.ArgumentParser, option: str = "--by", help_text: str = "who does it") -> None:
        parser.add_argument(option, required=True, metavar="WHO", help=help_text)

    def family(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--family", choices=("des", "sm4"), default="des", help="cipher of the key (default des)")

    def four_eyes(parser: argparse.ArgumentParser) -> None:
        person(parser)
        parser.add_argument("--confirm", action="store_true", help="confirm what another person has proposed")

    making = action("init", "make the local master key, which wraps all others", named=False)
    making.set_defaults(run=init)

    entering = action("component", "enter one component of a key, without echo; another custodian enters the next")
    person(entering, "--custodian", "whose component it is")
    family(entering)
    entering.add_argument("--of", type=int, choices=(2, 3), default=2, help="components of the key (default 2)")
    entering.set_defaults(
        run=lambda arguments: run(arguments, lambda dsn: component(load(arguments.config), dsn, arguments))
    )

    confirming = action("confirm", "say that the whole key's check value is the one on the issuer's letter")
    person(confirming, "--custodian", "who compared it")
    confirming.add_argument("--kcv", required=True, metavar="DIGITS", help="6 or 8 hexadecimal digits, from the letter")
    confirming.set_defaults(run=lambda arguments: run(arguments, lambda dsn: confirm(dsn, arguments)))

    abandoning = action("abandon", "end a ceremony and wipe its components")
    person(abandoning)
    abandoning.set_defaults(run=lambda arguments: run(arguments, lambda dsn: abandon(dsn, arguments)))

    for name, rotate, help_text in (
        ("generate", False, "make a key in the security module; nobody ever sees it"),
        ("rotate", True, "generate the successor of an active key, beside it"),
    ):
        generating = action(name, help_text)
        person(generating)
        family(generating)
        generating.set_defaults(
            run=lambda arguments, rotate=rotate: run(
                arguments, lambda dsn: generate(load(arguments.config), dsn, arguments, rotate=rotate)
            )
        )

    exporting = action("export", "a terminal's master key under a transport key, for its PIN pad's loader")
    exporting.add_argument("--under", required=True, metavar="TRANSPORT", help="name of the transport key")
    exporting.add_argument("--json", action="store_true", help="one JSON object")
    four_eyes(exporting)
    exporting.set_defaults(
        run=lambda arguments: run(arguments, lambda dsn: export(load(arguments.config), dsn, arguments))
    )

    for name, help_text in (
        ("retire", "take a key out of use and wipe it"),
        ("destroy", "wipe a key and record that no copy is left anywhere"),
    ):
        ending = action(name, help_text)
        ending.add_argument(
            "--generation", type=int, metavar="N", help="which one (default: the pending, else the active)"
        )
        four_eyes(ending)
        ending.set_defaults(run=lambda arguments, name=name: run(arguments, lambda dsn: end(dsn, arguments, name)))

    every = action("list", "every key that is not destroyed: state and check value", named=False)
    every.add_argument("--json", action="store_true", help="one JSON array instead of the table")
    every.set_defaults(run=lambda arguments: run(arguments, lambda dsn: listing(dsn, arguments)))

    showing = action("show", "every generation of one name, and its ceremony", usage=False)
    showing.set_defaults(run=lambda arguments: run(arguments, lambda dsn: show(dsn, arguments)))

    telling = action("log", "who did what to which key; says whether the record is whole", named=False)
    telling.add_argument("name", nargs="?", metavar="NAME", help="only acts on this key")
    telling.add_argument("--json", action="store_true", help="one JSON object a line")
    telling.set_defaults(run=lambda arguments: run(arguments, lambda dsn: log(dsn, arguments)))
