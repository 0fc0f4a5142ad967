"""``gridswitch key …`` as custodians use it, on both security modules: what is shown, refused, wiped and recorded."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from switch.cli import main
from switch.config import SecurityConfig, load
from switch.ops.terminals import add_test_terminals
from switch.ports import KeyUsage
from switch.runtime.clock import SystemClock
from switch.security.backends import ask, make_module
from switch.security.primitives import des
from switch.sim import testkeys
from switch.store import keys as store

TERMINAL = testkeys.test_terminal(1)[0]
TMK = testkeys.test_tmk(TERMINAL)
ONE = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
TWO = bytes(a ^ b for a, b in zip(TMK, ONE, strict=True))
KCV = des(TMK).check_value().hex().upper()


class Room:
    """A configuration and its database; ``say`` runs one command and keeps everything that it ever printed."""

    def __init__(
        self, folder: Path, dsn: str, security: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.dsn = dsn
        self.path = folder / "switch.toml"
        self.path.write_text(
            f'environment = "development"\n[database]\ndsn = "{dsn}"\n[security]\n{security}\n'
            '[unionpay]\nhost = "127.0.0.1"\nport = 1\nservice_terminal = "00000001"\n'
            'service_merchant = "000000000000001"\n[marketing]\nhost = "127.0.0.1"\nport = 2\nchannel = "SELF01"\n'
        )
        self.printed = ""
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def say(self, *arguments: str, stdin: str = "") -> tuple[int, str]:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = main(["key", *arguments, "--config", str(self.path)])
        output = self._capsys.readouterr()
        self.printed += output.out + output.err
        return status, output.out + output.err

    def enter(self, component: bytes, custodian: str, *more: str, name: str = TERMINAL) -> tuple[int, str]:
        return self.say("component", name, "--custodian", custodian, *more, stdin=component.hex() + "\n")

    def ask(self, work: Callable[[Any], Any]) -> Any:
        async def asked() -> Any:
            connection = await asyncpg.connect(self.dsn)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(asked())

    def rows(self, statement: str) -> list[Any]:
        return list(self.ask(lambda connection: connection.fetch(statement)))

    def execute(self, statement: str) -> None:
        self.ask(lambda connection: connection.execute(statement))

    def database_text(self) -> str:
        """Every row of every table, as text: bytea as hexadecimal digits."""

        async def dumped(connection: Any) -> str:
            names = await connection.fetch(
                "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE nspname = 'switch' AND relkind IN ('r', 'p')"
            )
            text = ""
            for row in names:
                for each in await connection.fetch(f"SELECT t::text FROM {row['name']} AS t"):
                    text += each[0] + "\n"
            return text

        return str(self.ask(dumped))


@pytest.fixture(params=["software", "pkcs11"])
def room(
    request: pytest.FixtureRequest,
    database: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Room:
    if request.param == "software":
        security = 'back_end = "software"'
    else:
        token: SecurityConfig = request.getfixturevalue("tokens")["ceremony"]
        security = (
            f'back_end = "pkcs11"\npkcs11_library = "{token.pkcs11_library}"\npkcs11_label = "{token.pkcs11_label}"\n'
            f'pkcs11_pin_file = "{token.pkcs11_pin_file}"'
        )
    room = Room(tmp_path, database, security, capsys, monkeypatch)
    status, text = room.say("init")
    assert status == 0 or "already" in text, text
    return room


def register(room: Room) -> None:
    """A terminal without keys."""
    room.execute(
        "INSERT INTO switch.terminal "
        "(terminal_id, merchant_id, key_mode, in_service, tmk_wrapped, tmk_kcv, batch_number) "
        f"VALUES ('{TERMINAL}', '{testkeys.test_terminal(1)[1]}', 'dual_tmk', false, '', '', '000001')"
    )


def clear_key(room: Room, column: str = "next_tmk_wrapped") -> str:
    """The check value of what is really stored, as the module sees it."""
    wrapped = room.rows(f"SELECT {column} AS wrapped FROM switch.terminal")[0]["wrapped"]

    async def loaded() -> str:
        module = make_module(load(room.path), SystemClock().wall_us)
        await module.start()
        try:
            return str((await ask(module.load_key, wrapped, KeyUsage.TMK)).kcv.hex().upper())
        finally:
            await module.stop()

    return asyncio.run(loaded())


def test_two_custodians_make_a_key_that_nobody_has_seen(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    register(room)
    status, text = room.enter(ONE, "Custodian One")
    assert status == 0 and des(ONE).check_value().hex().upper() in text, text
    status, text = room.enter(TWO, "custodian  one")
    assert status == 2 and "another custodian enters this one" in text
    status, text = room.say("confirm", TERMINAL, "--custodian", "Custodian One", "--kcv", KCV)
    assert status == 2 and "no key waits" in text
    status, text = room.enter(TWO, "Custodian Two")
    assert status == 0 and f"the key's check value is {KCV}" in text, text
    assert [row["sealed"] for row in room.rows("SELECT sealed FROM switch.key_component")] == [b"", b""], "wiped"
    assert room.rows("SELECT next_tmk_wrapped FROM switch.terminal")[0][0] == b"", "not before both have confirmed"

    for wrong in ("000000", KCV[:4], "", "not hex"):
        status, text = room.say("confirm", TERMINAL, "--custodian", "Custodian One", "--kcv", wrong)
        assert status == 2 and "the check value is" in text
    status, text = room.say("confirm", TERMINAL, "--custodian", "Custodian Three", "--kcv", KCV)
    assert status == 2 and "entered no component" in text
    assert room.say("confirm", TERMINAL, "--custodian", "Custodian One", "--kcv", KCV[:6])[0] == 0
    assert room.say("confirm", TERMINAL, "--custodian", "CUSTODIAN ONE", "--kcv", KCV)[1].count(
        "still to confirm: Custodian Two"
    )
    status, text = room.say("confirm", TERMINAL, "--custodian", "Custodian Two", "--kcv", KCV.lower())
    assert status == 0 and f"generation 1, check value {KCV}, is pending" in text
    assert clear_key(room) == KCV, "what is stored is the exclusive or of the two"
    assert room.rows("SELECT wrapped FROM switch.key_ceremony")[0][0] == b""

    status, text = room.say("log", "--json")
    acts = [json.loads(line) for line in text.splitlines()]
    assert [(act["who"], act["act"]) for act in acts if act["name"] == TERMINAL] == [
        ("Custodian One", "component"),
        ("Custodian Two", "component"),
        ("Custodian Two", "combined"),
        ("Custodian One", "confirmed"),
        ("CUSTODIAN ONE", "confirmed"),
        ("Custodian Two", "confirmed"),
        ("Custodian Two", "installed"),
    ]
    assert "the chain holds" in room.say("log")[1]
    assert all(act["wall_us"] > 1_700_000_000_000_000 for act in acts)

    seen = (room.printed + caplog.text + room.database_text()).upper()
    assert KCV in seen, "the search finds what is there"
    for secret in (ONE, TWO, TMK):
        assert secret.hex().upper() not in seen


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "has 32 digits, not 0"),
        ("0123", "has 32 digits, not 4"),
        ("0123456789ABCDEF0123456789ABCDEF00", "has 32 digits, not 34"),
        ("G123456789ABCDEF0123456789ABCDEF", "hexadecimal digits"),
        ("01" * 16, "equal bytes"),
    ],
)
def test_a_bad_component_is_refused_and_never_shown(room: Room, typed: str, why: str) -> None:
    register(room)
    status, text = room.say("component", TERMINAL, "--custodian", "Custodian One", stdin=typed + "\n")
    assert status == 2 and why in text and "nothing was kept" in text
    assert len(typed) < 8 or typed not in text
    assert room.rows("SELECT * FROM switch.key_ceremony") == []


def test_the_same_component_twice_makes_no_key(room: Room) -> None:
    register(room)
    room.enter(ONE, "Custodian One")
    status, text = room.enter(ONE, "Custodian Two")
    assert status == 2 and "weak key" in text
    assert room.say("abandon", TERMINAL, "--by", "Custodian One")[0] == 0
    assert room.rows("SELECT count(*) FROM switch.key_component WHERE sealed <> ''")[0][0] == 0
    assert room.enter(ONE, "Custodian One")[0] == 0, "it may begin anew"


def test_what_waits_too_long_is_wiped(room: Room) -> None:
    register(room)
    room.enter(ONE, "Custodian One")
    assert room.rows("SELECT count(*) FROM switch.key_component WHERE sealed <> ''")[0][0] == 1
    room.execute("UPDATE switch.key_ceremony SET ends_at = now()")
    status, text = room.enter(TWO, "Custodian Two")
    assert status == 0 and "component 1 of 2" in text, "it is the first one of another ceremony"
    states = [row["state"] for row in room.rows("SELECT state FROM switch.key_ceremony ORDER BY id")]
    assert states == ["abandoned", "open"]
    assert [row["number"] for row in room.rows("SELECT * FROM switch.key_component WHERE sealed <> ''")] == [1]


def test_three_components(room: Room) -> None:
    register(room)
    three = bytes.fromhex("FEDCBA98765432100123456789ABCDEF")
    last = bytes(a ^ b for a, b in zip(TWO, three, strict=True))
    assert "component 1 of 3" in room.enter(ONE, "Custodian One", "--of", "3")[1]
    assert "1 more by other custodians" in room.enter(three, "Custodian Two")[1]
    assert KCV in room.enter(last, "Custodian Three")[1]
    for who in ("Custodian One", "Custodian Two", "Custodian Three"):
        status, text = room.say("confirm", TERMINAL, "--custodian", who, "--kcv", KCV)
        assert status == 0
    assert "is pending" in text


def test_a_terminal_that_nobody_registered_gets_no_key(room: Room) -> None:
    for status, text in (room.enter(ONE, "Custodian One"), room.say("generate", TERMINAL, "--by", "Custodian One")):
        assert status == 2 and "register it first" in text


def test_a_generated_key_goes_to_the_pin_pad_under_four_eyes(room: Room) -> None:
    register(room)
    assert room.say("generate", "loader-1", "--usage", "transport", "--by", "Custodian One")[0] == 0
    status, text = room.say("generate", TERMINAL, "--by", "Custodian One")
    assert status == 0 and "is pending" in text, text
    assert room.say("generate", TERMINAL, "--by", "Custodian One")[1].count("pending already")
    order = ("export", TERMINAL, "--under", "loader-1")
    assert "nobody has proposed" in room.say(*order, "--by", "Custodian Two", "--confirm")[1]
    assert room.say(*order, "--by", "Custodian One")[0] == 0
    assert "another person must confirm" in room.say(*order, "--by", "CUSTODIAN ONE", "--confirm")[1]
    status, text = room.say(*order, "--by", "Custodian Two", "--confirm", "--json")
    told = json.loads(text)
    assert status == 0 and told["check_value"] == clear_key(room)
    assert len(told["cryptogram"]) == 32
    assert "nobody has proposed" in room.say(*order, "--by", "Custodian Two", "--confirm")[1], "once"
    assert "no active transport key" in room.say("export", TERMINAL, "--under", "x", "--by", "Custodian One")[1]


def test_the_cryptogram_opens_with_the_loader_s_key(room: Room) -> None:
    """The transport key comes by ceremony here, so that the test knows it."""
    register(room)
    room.enter(ONE, "Custodian One", "--usage", "transport", name="loader")
    room.enter(TWO, "Custodian Two", "--usage", "transport", name="loader")
    for who in ("Custodian One", "Custodian Two"):
        room.say("confirm", "loader", "--usage", "transport", "--custodian", who, "--kcv", KCV)
    room.say("generate", TERMINAL, "--by", "Custodian One")
    room.say("export", TERMINAL, "--under", "loader", "--by", "Custodian One")
    told = json.loads(
        room.say("export", TERMINAL, "--under", "loader", "--by", "Custodian Two", "--confirm", "--json")[1]
    )
    opened = des(TMK).decrypt(bytes.fromhex(told["cryptogram"]))
    assert des(opened).check_value().hex().upper() == told["check_value"] == clear_key(room)
    seen = (room.printed + room.database_text()).upper()
    assert opened.hex().upper() not in seen and TMK.hex().upper() not in seen


def test_rotation_retirement_and_destruction(room: Room) -> None:
    asyncio.run(add_test_terminals(load(room.path), room.dsn, 1))
    assert "to rotate" in room.say("rotate", "loader", "--usage", "transport", "--by", "Custodian One")[1]
    assert "its successor comes with" in room.say("generate", TERMINAL, "--by", "Custodian One")[1]
    status, text = room.say("rotate", TERMINAL, "--by", "Custodian One")
    assert status == 0 and "generation 2" in text, text
    assert "generation 1: active" in room.say("show", TERMINAL)[1]

    # The pending one is what an order without a number means.
    assert room.say("retire", TERMINAL, "--by", "Custodian One")[0] == 0
    assert "another person must confirm" in room.say("retire", TERMINAL, "--by", "Custodian One", "--confirm")[1]
    assert "generation 2" in room.say("retire", TERMINAL, "--by", "Custodian Two", "--confirm")[1]
    row = room.rows("SELECT * FROM switch.terminal")[0]
    assert row["next_tmk_wrapped"] == b"" and row["tmk_wrapped"] != b"" and row["in_service"]
    assert "is retired already" in room.say("retire", TERMINAL, "--generation", "2", "--by", "Custodian One")[1]

    assert room.say("destroy", TERMINAL, "--by", "Custodian One")[0] == 0
    status, text = room.say("destroy", TERMINAL, "--by", "Custodian Two", "--confirm")
    assert status == 0 and "its terminal is out of service" in text
    row = room.rows("SELECT * FROM switch.terminal")[0]
    assert (row["tmk_wrapped"], row["working_keys"], row["in_service"]) == (b"", None, False)
    assert "destroyed" in row["out_of_service_reason"]
    room.say("destroy", TERMINAL, "--generation", "2", "--by", "Custodian One")
    assert room.say("destroy", TERMINAL, "--generation", "2", "--by", "Custodian Two", "--confirm")[0] == 0
    assert "no keys" in room.say("list")[1] or room.say("list", "--json")[1] == "[]\n"
    assert room.say("show", TERMINAL)[1].count("destroyed") == 2
    assert [row["state"] for row in room.rows("SELECT state FROM switch.key")] == ["destroyed"] * 2


def test_a_successor_is_of_the_same_family(room: Room) -> None:
    asyncio.run(add_test_terminals(load(room.path), room.dsn, 1))
    for order in ("rotate", "component"):
        who = "--by" if order == "rotate" else "--custodian"
        status, text = room.say(order, TERMINAL, who, "Custodian One", "--family", "sm4", stdin=ONE.hex() + "\n")
        assert status == 2 and "its active key is des" in text
    assert room.rows("SELECT * FROM switch.key_component") == []


def test_a_proposal_does_not_last(room: Room) -> None:
    asyncio.run(add_test_terminals(load(room.path), room.dsn, 1))
    room.say("retire", TERMINAL, "--by", "Custodian One")
    room.execute("UPDATE switch.key_proposal SET ends_at = now()")
    assert "nobody has proposed" in room.say("retire", TERMINAL, "--by", "Custodian Two", "--confirm")[1]


@pytest.mark.parametrize(
    "fraud",
    [
        "UPDATE switch.key_event SET who = 'somebody' WHERE seq = 2",
        "DELETE FROM switch.key_event WHERE seq = 2",
        "UPDATE switch.key_event SET wall_us = wall_us + 1 WHERE seq = 1",
    ],
)
def test_the_record_of_acts_cannot_be_changed_unseen(room: Room, fraud: str) -> None:
    for name in ("one", "two", "three"):
        assert room.say("generate", name, "--usage", "transport", "--by", "Custodian One")[0] == 0
    for refused in (fraud, "TRUNCATE switch.key_event"):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            room.execute(refused)
    # Whoever owns the table can go round the trigger; the chain shows it.
    room.execute(
        f"ALTER TABLE switch.key_event DISABLE TRIGGER ALL; {fraud}; ALTER TABLE switch.key_event ENABLE TRIGGER ALL"
    )
    status, text = room.say("log", "one")
    assert status == 2 and "was changed from there on" in text and text.rstrip().endswith("[chain]")


def test_init_never_replaces_a_master_key(room: Room) -> None:
    config = load(room.path)
    path = Path(config.security.lmk_file)
    before = path.read_bytes() if path.exists() else b""
    status, text = room.say("init")
    if config.security.back_end == "software":
        assert status == 0 and "nothing was made" in text
        assert path.read_bytes() == before != b""
        assert before[:4].hex().upper() not in text
    else:
        assert status == 2 and "nothing was made" in text


def test_a_failed_command_leaves_nothing_half_done(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    register(room)
    room.enter(ONE, "Custodian One")
    events = room.rows("SELECT count(*) FROM switch.key_event")[0][0]

    async def broken(*_: Any) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(store.Keys, "combined", broken)
    with pytest.raises(RuntimeError):
        room.enter(TWO, "Custodian Two")
    monkeypatch.undo()
    assert room.rows("SELECT count(*) FROM switch.key_event")[0][0] == events
    assert len(room.rows("SELECT * FROM switch.key_component")) == 1
