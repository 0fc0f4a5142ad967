"""Keys of terminals in PostgreSQL: generations, ceremonies, four eyes. Every act is written down with what it does.

Blocks are wrapped by the security module before they come here. Nothing in this module has seen a clear key.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from switch import limits
from switch.errors import BadRequestError
from switch.ports import StoredKey
from switch.store.pool import Connection, connected
from switch.store.queries import QUERY

USAGES: Final = ("tmk", "platform", "transport")
_SEPARATOR: Final = "\x1f"


@dataclass(slots=True, frozen=True)
class Act:
    """Who does what to which key."""

    who: str
    name: str
    usage: str


@dataclass(slots=True, frozen=True)
class Ceremony:
    id: int
    name: str
    usage: str
    family: str
    needed: int
    state: str  # open, combined
    kcv: bytes
    wrapped: bytes
    ends_at: Any  # datetime
    components: tuple[Any, ...]  # rows: number, custodian, kcv, sealed, confirmed_at


class Keys:
    """One transaction on the keys; see ``transaction``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -------------------------------------------------------------------------------------------- what is there
    async def generations(self, name: str | None = None) -> list[Any]:
        """Rows of generations: name, usage, generation, state, kcv, made_at, changed_at."""
        return list(await self._connection.fetch(QUERY["key_list"], name))

    async def get(self, name: str, usage: str, generation: int | None) -> Any:
        """One generation with its block; None means the pending one, else the active one. BadRequestError: none."""
        if generation is None:
            generation = await self._connection.fetchval(QUERY["key_latest"], name, usage)
        row = None
        if generation is not None:
            row = await self._connection.fetchrow(QUERY["key_get"], name, usage, generation)
        if row is None:
            raise _wrong(f"{name}: no {usage} key{f' of generation {generation}' if generation else ' in use'}")
        return row

    async def transport(self, name: str) -> Any:
        row = await self._connection.fetchrow(QUERY["key_transport"], name)
        if row is None:
            raise _wrong(f"{name}: no active transport key; see: gridswitch key list")
        return row

    async def ceremony(self, name: str, usage: str) -> Ceremony | None:
        """The one that runs."""
        row = await self._connection.fetchrow(QUERY["key_ceremony_get"], name, usage)
        return None if row is None else await self._ceremony(row)

    async def _ceremony(self, row: Any) -> Ceremony:
        components = await self._connection.fetch(QUERY["key_components"], row["id"])
        return Ceremony(**dict(row), components=tuple(components))

    # -------------------------------------------------------------------------------------------- ceremonies
    async def open_ceremony(self, act: Act, family: str, needed: int) -> Ceremony:
        await self.check_name(act.name, act.usage)
        row = await self._connection.fetchrow(
            QUERY["key_ceremony_add"], act.name, act.usage, family, needed, limits.KEY_CEREMONY_LIFE_S
        )
        return await self._ceremony(row)

    async def add_component(self, act: Act, ceremony: Ceremony, kcv: bytes, sealed: bytes) -> Ceremony:
        """BadRequestError: this custodian has entered one already."""
        number = len(ceremony.components) + 1
        try:
            await self._connection.execute(QUERY["key_component_add"], ceremony.id, number, act.who, kcv, sealed)
        except asyncpg.UniqueViolationError as error:
            raise _wrong(
                f"{act.name}: {act.who} has entered a component already; another custodian enters this one"
            ) from (error)
        await self.note(act, "component", 0, kcv, f"component {number} of {ceremony.needed}")
        row = await self._connection.fetchrow(QUERY["key_ceremony_get"], act.name, act.usage)
        return await self._ceremony(row)

    async def combined(self, act: Act, ceremony: Ceremony, whole: StoredKey) -> None:
        """The components are wiped; the whole key waits for its custodians."""
        await self._connection.execute(QUERY["key_ceremony_state"], ceremony.id, "combined", whole.kcv, whole.wrapped)
        await self.note(act, "combined", 0, whole.kcv, f"{ceremony.needed} components; waits for its custodians")

    async def confirm(self, act: Act, ceremony: Ceremony) -> Ceremony:
        """This custodian has compared the check value. BadRequestError: not a custodian of this ceremony."""
        if await self._connection.fetchval(QUERY["key_component_confirm"], ceremony.id, act.who) is None:
            raise _wrong(f"{act.name}: {act.who} entered no component of this key")
        await self.note(act, "confirmed", 0, ceremony.kcv, "check value compared")
        row = await self._connection.fetchrow(QUERY["key_ceremony_get"], act.name, act.usage)
        return await self._ceremony(row)

    async def end_ceremony(self, act: Act, ceremony: Ceremony, state: str) -> None:
        """``installed`` or ``abandoned``: its block and what is left of its components are wiped."""
        kcv = ceremony.kcv if state == "installed" else b""
        await self._connection.execute(QUERY["key_ceremony_state"], ceremony.id, state, kcv, b"")
        if state == "abandoned":
            await self.note(act, "abandoned", 0, b"", "ceremony ended, components wiped")

    # -------------------------------------------------------------------------------------------- generations
    async def check_name(self, name: str, usage: str) -> Any:
        """A terminal's key needs its terminal; gives its row. BadRequestError: none, or a key waits already."""
        if usage == "transport":
            if not (1 <= len(name) <= limits.KEY_NAME_SIZE_MAX and name.isascii() and name.isprintable()):
                raise _wrong(f"a name of 1 to {limits.KEY_NAME_SIZE_MAX} printable ASCII characters is needed")
            return None
        row = await self._connection.fetchrow(QUERY["key_terminal"], name)
        if row is None:
            raise _wrong(f"there is no terminal {name}; register it first: gridswitch terminal add")
        if usage == "platform":
            if row["key_mode"] != "translate":
                raise _wrong(
                    f"{name}: its kiosk uses the acquirer's keys (key mode {row['key_mode']}); no platform key"
                )
            return row
        if row["next_tmk_wrapped"]:
            raise _wrong(
                f"{name}: a key is pending already: its terminal signs on with it, or retire it: gridswitch key retire"
            )
        return row

    async def install(self, act: Act, said: str, stored: StoredKey) -> tuple[int, str]:
        """A new generation; gives its number and state: a terminal's waits for its first sign-on, others work at
        once and their predecessor is retired."""
        await self.check_name(act.name, act.usage)
        if act.usage == "tmk":
            await self._connection.execute(QUERY["key_terminal_next"], act.name, stored.wrapped, stored.kcv)
        else:
            old = await self._connection.fetchrow(QUERY["key_supersede"], act.name, act.usage)
            if old is not None:
                await self.note(act, "retired", old["generation"], old["kcv"], "its successor works; block wiped")
        if act.usage == "platform":
            await self._connection.execute(QUERY["key_terminal_platform"], act.name, stored.wrapped, stored.kcv)
        state = "pending" if act.usage == "tmk" else "active"
        block = stored.wrapped if act.usage == "transport" else b""
        generation: int = await self._connection.fetchval(
            QUERY["key_add"], act.name, act.usage, state, stored.kcv, block
        )
        await self.note(act, said, generation, stored.kcv, state)
        return generation, state

    async def end(self, act: Act, row: Any, state: str, why: str) -> None:
        """``retired`` or ``destroyed``: the block is wiped. BadRequestError: its terminal still has open payments."""
        if act.usage != "transport" and row["state"] == "active":
            left = await self._connection.fetchval(QUERY["key_open_payments"], act.name)
            if left:
                raise _wrong(
                    f"{act.name}: {left} payments are not final; without this key they could not be reversed. "
                    "Wait, or settle them: gridswitch case list"
                )
            if act.usage == "tmk":
                await self._connection.execute(
                    QUERY["key_terminal_wipe"], act.name, f"its terminal master key is {state}"
                )
            else:
                await self._connection.execute(QUERY["key_terminal_platform"], act.name, b"", b"")
        elif act.usage == "tmk" and row["state"] == "pending":
            await self._connection.execute(QUERY["key_terminal_next"], act.name, b"", b"")
        await self._connection.execute(QUERY["key_state"], act.name, act.usage, row["generation"], state)
        await self.note(act, state, row["generation"], row["kcv"], why)

    # -------------------------------------------------------------------------------------------- four eyes
    async def propose(self, act: Act, what: str, row: Any, target: str = "") -> None:
        await self._connection.execute(
            QUERY["key_propose"],
            *(what, act.name, act.usage, row["generation"], target, act.who, limits.KEY_CEREMONY_LIFE_S),
        )
        await self.note(act, f"{what} proposed", row["generation"], row["kcv"], target)

    async def confirm_proposal(self, act: Act, what: str, row: Any, target: str = "") -> str:
        """Who proposed it. BadRequestError: nobody, or the same person."""
        try:
            proposed_by: str | None = await self._connection.fetchval(
                QUERY["key_confirm"], what, act.name, act.usage, row["generation"], target, act.who
            )
        except asyncpg.CheckViolationError as error:
            raise _wrong(f"{act.name}: {act.who} proposed this; another person must confirm it") from error
        if proposed_by is None:
            raise _wrong(f"{act.name}: nobody has proposed to {what} it; say it first without --confirm")
        return proposed_by

    # -------------------------------------------------------------------------------------------- the record
    async def note(self, act: Act, what: str, generation: int, kcv: bytes, detail: str) -> None:
        await self._connection.execute(QUERY["key_note"], act.who, what, act.name, act.usage, generation, kcv, detail)

    async def events(self, name: str | None = None) -> list[Any]:
        """Every act, oldest first. BadRequestError ``chain``: one was changed, removed or put in."""
        events: list[Any] = []
        link, last = bytes(32), 0
        while page := await self._connection.fetch(QUERY["key_events"], None, last, limits.KEY_EVENTS_PAGE):
            for row in page:
                said = _SEPARATOR.join(str(row[column]) for column in _SAID)
                link = hashlib.sha256(link + said.encode()).digest()
                if row["seq"] != last + 1 or row["link"] != link:
                    raise BadRequestError(
                        "chain", f"key_event {last + 1}: the record of acts was changed from there on"
                    )
                last = row["seq"]
            events += [row for row in page if name in (None, row["name"])]
        return events


_SAID: Final = ("seq", "wall_us", "who", "act", "name", "usage", "generation", "kcv", "detail")


@asynccontextmanager
async def transaction(dsn: str) -> AsyncIterator[Keys]:
    """All acts of one command, or none. What has waited too long is wiped first, and stays so."""
    async with connected(dsn, "keys") as connection:
        async with connection.transaction():
            for row in await connection.fetch(QUERY["key_ceremony_end"]):
                await connection.execute(
                    QUERY["key_note"],
                    *(
                        "gridswitch",
                        "abandoned",
                        row["name"],
                        row["usage"],
                        0,
                        b"",
                        "its time was over; components wiped",
                    ),
                )
        async with connection.transaction():
            yield Keys(connection)


def _wrong(detail: str) -> BadRequestError:
    return BadRequestError("key", detail)
