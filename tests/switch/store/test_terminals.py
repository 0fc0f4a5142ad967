"""Terminals: the same promises from PostgreSQL and from memory, and what only PostgreSQL has to stand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from switch import limits
from switch.errors import BadRequestError, UnavailableError
from switch.ports import Terminal
from switch.store.terminals import PostgresTerminals

from .conftest import PostgresStore, Run, Store
from .support import RealClock, Recorder, asked, until


def test_an_added_terminal_is_known(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            assert await asked(terminals.get, terminal.terminal_id) is None
            await terminals.add(terminal)
            assert await asked(terminals.get, terminal.terminal_id) == terminal
            with pytest.raises(BadRequestError, match="exists already"):
                await terminals.add(terminal)
            other = replace(terminal, terminal_id="10000000")
            await terminals.add(other)
            assert await terminals.list() == [other, terminal]
        async with store.terminals() as terminals:
            assert await asked(terminals.get, terminal.terminal_id) == terminal

    run(main())


def test_many_are_added_all_or_none(postgres: PostgresStore, run: Run, terminal: Terminal) -> None:
    many = [replace(terminal, terminal_id=f"GS{number:06d}") for number in range(1, 40)]

    async def main() -> None:
        async with postgres.terminals() as terminals:
            await terminals.add_all(many)
            assert await terminals.list() == many
            with pytest.raises(BadRequestError, match="no terminal was added"):
                await terminals.add_all([replace(terminal, terminal_id="GS000040"), many[3]])
            assert len(await terminals.list()) == len(many)

    run(main())


def test_numbers_are_reserved_in_blocks_that_do_not_wrap_inside(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            await terminals.add(terminal)
            reserve = terminals.reserve_stans
            assert await asked(reserve, terminal.terminal_id, 200) == 1
            assert await asked(reserve, terminal.terminal_id, 999_700) == 201
            assert await asked(reserve, terminal.terminal_id, 99) == 999_901  # up to 999999 exactly
            assert await asked(reserve, terminal.terminal_id, 10) == 1
            assert await asked(reserve, terminal.terminal_id, 999_980) == 11
            assert await asked(reserve, terminal.terminal_id, 10) == 1  # nine were left
            assert isinstance(await asked(reserve, "99999999", 1), BadRequestError)

    run(main())


def test_reserved_blocks_never_overlap(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            await terminals.add(terminal)
            firsts = await asyncio.gather(
                *(asked(terminals.reserve_stans, terminal.terminal_id, limits.STAN_BLOCK) for _ in range(50))
            )
            assert sorted(firsts) == [1 + index * limits.STAN_BLOCK for index in range(50)]

    run(main())


def test_a_sign_on_is_stored_and_bumps_the_epoch(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            await terminals.add(terminal)
            for epoch in (1, 2):
                installed = await asked(
                    terminals.install_keys,
                    terminal.terminal_id,
                    working_keys=b"keys %d" % epoch,
                    under=terminal.tmk_wrapped,
                    batch_number=f"00000{epoch}",
                    wall_us=1000 + epoch,
                )
                assert installed == replace(
                    terminal,
                    working_keys=b"keys %d" % epoch,
                    batch_number=f"00000{epoch}",
                    signed_on_us=1000 + epoch,
                    key_epoch=epoch,
                )
                assert await asked(terminals.get, terminal.terminal_id) == installed
            unknown = await asked(
                terminals.install_keys, "99999999", working_keys=b"", under=b"", batch_number="000001", wall_us=1
            )
            assert isinstance(unknown, BadRequestError)
        async with store.terminals() as terminals:
            assert await asked(terminals.get, terminal.terminal_id) == installed

    run(main())


def test_the_next_master_key_becomes_the_active_one_when_it_proves_keys(
    store: Store, run: Run, terminal: Terminal
) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            both = replace(terminal, next_tmk_wrapped=b"next", next_tmk_kcv=b"nkcv")
            await terminals.add(both)
            keys = {"working_keys": b"k", "batch_number": "000001", "wall_us": 1}
            old = await asked(terminals.install_keys, both.terminal_id, under=both.tmk_wrapped, **keys)
            assert (old.tmk_wrapped, old.next_tmk_wrapped) == (both.tmk_wrapped, b"next"), (
                "the host uses the old one yet"
            )
            new = await asked(terminals.install_keys, both.terminal_id, under=b"next", **keys)
            assert (new.tmk_wrapped, new.tmk_kcv, new.next_tmk_wrapped, new.next_tmk_kcv) == (
                b"next",
                b"nkcv",
                b"",
                b"",
            )
            refused = await asked(terminals.install_keys, both.terminal_id, under=both.tmk_wrapped, **keys)
            assert isinstance(refused, BadRequestError), "it is gone: what was signed on under it is of no use"
            assert await asked(terminals.get, both.terminal_id) == new

    run(main())


def test_a_kiosk_s_own_keys_are_stored_with_the_acquirer_s(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            new = replace(terminal, in_service=False, stage="registered", key_mode="translate")
            await terminals.add(new)
            assert (await asked(terminals.get, new.terminal_id)).stage == "registered", "its kiosk has no key yet"
            ours = replace(new, terminal_id="20000002", platform_wrapped=b"ours", platform_kcv=b"pkcv")
            await terminals.add(ours)
            assert (await asked(terminals.get, ours.terminal_id)).stage == "keys"
            keys = {"working_keys": b"k", "under": ours.tmk_wrapped, "batch_number": "000001", "wall_us": 1}
            done = await asked(terminals.install_keys, ours.terminal_id, **keys, kiosk_keys=b"kiosk")
            assert (done.working_keys, done.kiosk_keys, done.stage) == (b"k", b"kiosk", "sign_on")
            assert await asked(terminals.get, ours.terminal_id) == done

    run(main())


def test_gates_are_passed_one_after_the_other(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            new = replace(
                terminal,
                in_service=False,
                stage="registered",
                tmk_wrapped=b"",
                tmk_kcv=b"",
                next_tmk_wrapped=b"next",
                next_tmk_kcv=b"nkcv",
            )
            await terminals.add(new)
            identity = new.terminal_id
            keyed = await asked(terminals.get, identity)
            assert keyed == replace(new, stage="keys"), "it came with its key"
            assert isinstance(await asked(terminals.note_mac_echo, identity, 0), BadRequestError)
            with pytest.raises(BadRequestError, match="up to keys only"):
                await terminals.set_service(identity, True, "")
            keys = {"working_keys": b"k", "under": b"next", "batch_number": "000001", "wall_us": 1}
            signed_on = await asked(terminals.install_keys, identity, **keys)
            assert (signed_on.stage, signed_on.mac_echoes) == ("sign_on", 0)
            assert (await asked(terminals.note_mac_echo, identity, 1)).mac_echoes == 1
            assert isinstance(await asked(terminals.note_mac_echo, identity, 2), BadRequestError), "other keys"
            again = await asked(terminals.install_keys, identity, **keys)
            assert (again.stage, again.mac_echoes, again.key_epoch) == ("sign_on", 0, 2)
            for seen in (1, 2, 3):
                noted = await asked(terminals.note_mac_echo, identity, 2)
                assert (noted.stage, noted.mac_echoes) == ("mac_echo" if seen == 3 else "sign_on", seen)
            assert isinstance(await asked(terminals.note_mac_echo, identity, 2), BadRequestError)
            with pytest.raises(BadRequestError, match="up to mac_echo only"):
                await terminals.set_service(identity, True, "")
            assert isinstance(await asked(terminals.note_test_payment, identity, 20261130, 7), BadRequestError)
            assert (await asked(terminals.note_test_query, identity)).stage == "test_query"
            assert isinstance(await asked(terminals.note_test_query, identity), BadRequestError), "once"
            missing = await asked(terminals.note_test_payment, identity, 20261130, 7)
            assert isinstance(missing, BadRequestError) and "charged and given back" in missing.detail
            with pytest.raises(BadRequestError, match="up to test_query only"):
                await terminals.set_service(identity, True, "")
            shortcut = replace(terminal, terminal_id="GS000002", stage="test_reversal", in_service=False)
            await terminals.add(shortcut)
            identity = shortcut.terminal_id
            keys["under"] = shortcut.tmk_wrapped
            done = await terminals.set_service(identity, True, "")
            assert (done.stage, done.in_service) == ("in_service", True)
            assert await asked(terminals.get, identity) == done
            later = await asked(terminals.install_keys, identity, **keys)
            assert (later.stage, later.in_service) == ("in_service", True)

    run(main())


def test_a_fault_keeps_what_an_earlier_sign_on_brought(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            await terminals.add(terminal)
            install = {"working_keys": b"k", "under": terminal.tmk_wrapped, "batch_number": "000001", "wall_us": 1}
            good = await asked(terminals.install_keys, terminal.terminal_id, **install)
            bad = await asked(terminals.note_fault, terminal.terminal_id, "the check value differs")
            assert bad == replace(good, sign_on_fault="the check value differs")
            assert await asked(terminals.get, terminal.terminal_id) == bad
            again = await asked(terminals.install_keys, terminal.terminal_id, **install)
            assert again == replace(good, key_epoch=2)
            assert isinstance(await asked(terminals.note_fault, "99999999", "x"), BadRequestError)

    run(main())


def test_out_of_service_keeps_what_a_sign_on_brought(store: Store, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with store.terminals() as terminals:
            await terminals.add(terminal)
            await asked(
                terminals.install_keys,
                terminal.terminal_id,
                working_keys=b"k",
                under=terminal.tmk_wrapped,
                batch_number="000001",
                wall_us=1,
            )
            out = await terminals.set_service(terminal.terminal_id, False, "paper jam")
            assert (out.in_service, out.out_of_service_reason, out.working_keys) == (False, "paper jam", b"k")
            assert await asked(terminals.get, terminal.terminal_id) == out
            with pytest.raises(BadRequestError, match="no terminal"):
                await terminals.set_service("99999999", True, "")

    run(main())


def test_another_process_s_changes_are_seen(
    postgres: PostgresStore, run: Run, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TERMINAL_REFRESH_S", 0.05)

    async def main() -> None:
        async with postgres.terminals() as here, postgres.terminals() as there:
            await there.add(terminal)
            assert await asked(here.get, terminal.terminal_id) == terminal  # looked up
            await there.set_service(terminal.terminal_id, False, "stolen")
            answers: list[Any] = []

            def seen() -> bool:
                here.get(terminal.terminal_id, answers.append)
                return not answers[-1].in_service

            await until(seen)

    run(main())


def test_a_late_commit_is_not_missed(
    postgres: PostgresStore, run: Run, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that began before a refresh and commits after it."""
    monkeypatch.setattr(limits, "TERMINAL_REFRESH_S", 0.05)
    import asyncpg

    async def main() -> None:
        slow = await asyncpg.connect(postgres.dsn)
        async with postgres.terminals() as terminals:
            await terminals.add(terminal)
            transaction = slow.transaction()
            await transaction.start()
            await slow.execute(
                "UPDATE switch.terminal SET in_service = false, changed_by = pg_current_xact_id() "
                "WHERE terminal_id = $1",
                terminal.terminal_id,
            )
            other = replace(terminal, terminal_id="20000000")
            await terminals.add(other)  # a younger transaction commits first, and is refreshed
            await asyncio.sleep(0.2)
            await transaction.commit()
            answers: list[Any] = []

            def seen() -> bool:
                terminals.get(terminal.terminal_id, answers.append)
                return not answers[-1].in_service

            await until(seen)
        await slow.close()

    run(main())


def test_unknown_ids_are_looked_up_once_and_remembered(
    postgres: PostgresStore, run: Run, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TERMINAL_UNKNOWN_S", 0.3)

    async def main() -> None:
        async with postgres.terminals() as here, postgres.terminals() as there:
            answers = await asyncio.gather(*(asked(here.get, terminal.terminal_id) for _ in range(1000)))
            assert set(answers) == {None}
            await there.add(terminal)
            assert await asked(here.get, terminal.terminal_id) is None  # for a short while
            await asyncio.sleep(0.35)
            assert await asked(here.get, terminal.terminal_id) == terminal
            assert await asked(here.get, "short") is None
            assert await asked(here.get, "1000000\x00") is None

    run(main())


def test_too_many_unknown_ids_are_turned_away(postgres: PostgresStore, run: Run) -> None:
    async def main() -> None:
        async with postgres.terminals() as terminals:
            answers = await asyncio.gather(*(asked(terminals.get, f"{number:08d}") for number in range(1000)))
            busy = [answer for answer in answers if isinstance(answer, UnavailableError)]
            assert len(busy) == 1000 - limits.TERMINAL_LOOKUPS_MAX
            assert answers.count(None) == limits.TERMINAL_LOOKUPS_MAX

    run(main())


def test_an_outage_is_told_and_ends(postgres: PostgresStore, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with postgres.terminals() as terminals:
            await terminals.add(terminal)
            await postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE '%terminals'"
            )
            first = await asked(terminals.reserve_stans, terminal.terminal_id, 10)
            assert isinstance(first, UnavailableError) or first == 1
            assert await asked(terminals.get, terminal.terminal_id) == terminal  # the cache goes on
            second = await asked(terminals.reserve_stans, terminal.terminal_id, 10)
            assert second in (1, 11)

    run(main())


def test_a_callback_that_raises_takes_nobody_along(postgres: PostgresStore, run: Run, terminal: Terminal) -> None:
    def explode(_: object) -> None:
        raise RuntimeError("a fault of ours")

    async def main() -> None:
        async with postgres.terminals() as terminals:
            await terminals.add(terminal)
            terminals.reserve_stans(terminal.terminal_id, 10, explode)
            terminals.get("77777777", explode)
            assert await asked(terminals.reserve_stans, terminal.terminal_id, 10) == 11
            assert await asked(terminals.get, "88888888") is None
            assert postgres.seen.names() == ["terminals.callback_failed"] * 2

    run(main())


def test_bad_values_are_refused_by_name(postgres: PostgresStore, run: Run, terminal: Terminal) -> None:
    async def main() -> None:
        async with postgres.terminals() as terminals:
            for bad in (
                replace(terminal, terminal_id="1"),
                replace(terminal, merchant_id="1"),
                replace(terminal, key_mode="mac_in_ped"),
                replace(terminal, batch_number="1"),
            ):
                with pytest.raises(BadRequestError):
                    await terminals.add(bad)
            assert await terminals.list() == []

    run(main())


def test_no_database_at_start_is_an_outage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DATABASE_START_WAIT_S", 0.3)

    async def main() -> None:
        nowhere = "postgresql://gridswitch@/gridswitch?host=/tmp/gs-no-such-folder"
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await PostgresTerminals(nowhere, clock=RealClock(), observer=Recorder()).start()

    run(main())
