"""Configuration: every mistake is named with its key and its cure, and the example file is the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch import config, limits
from switch.config import Config, check, document, load, options
from switch.errors import ConfigError

EXAMPLE = Path(config.__file__).with_name("config.example.toml")
MINIMAL = """
environment = "development"
[unionpay]
host = "10.0.0.1"
port = 8001
service_terminal = "00000001"
service_merchant = "000000000000001"
[marketing]
host = "10.0.0.2"
port = 8002
channel = "SELF01"
"""
PROFILES = """
[unionpay.profile]
reversal_00 = "found_only"
reversal_not_found = "proves"
unmacced_decline = "reverse"
emv_completion = "online_only"
cut_over = "23:00"
reversal_first_s = 15
[marketing.profile]
fence = "tombstone"
inquiry = "serial"
dedupe = "serial"
day_close = "16:00"
"""
PRODUCTION = (
    MINIMAL.replace("development", "production")
    + PROFILES
    + """
[database]
dsn = "postgresql://switch:hunter2@db.inner/switch?sslmode=verify-full"
"""
)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes switch.toml and returns its (relative) path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("switch.toml").write_text(text, encoding="utf-8")
        return "switch.toml"

    return write


def test_the_committed_example_is_what_the_code_says_and_loads(at: Any) -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == document()
    assert load(at(document())).environment == "development"


def test_every_option_is_helpful_and_documented() -> None:
    text = document()
    seen = set()
    for one in options():
        assert re.fullmatch(r"[A-Z].*\.", one.help_text), f"{one.key}: help is not a sentence"
        assert one.help_text in text and one.key not in seen
        assert bool(one.unit) >= one.numeric, f"{one.key}: a number without a unit"
        assert one.required != (one.default is not None), one.key
        assert one.example is not None, f"{one.key}: nothing to show in the example file"
        assert "None" not in one.expected, f"{one.key}: a number without bounds"
        seen.add(one.key)
    # the options are exactly the leaves of the example file
    assert seen == set(leaves(tomllib.loads(text)))


def leaves(tree: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def test_the_example_shows_the_defaults(at: Any) -> None:
    example, minimal = load(at(document())), load(at(MINIMAL))
    for name in ("listen", "observe", "security", "database"):
        assert getattr(example, name) == getattr(minimal, name)
    assert example.unionpay.profile == minimal.unionpay.profile
    assert minimal.unionpay.profile.reversal_00 == "any" and minimal.marketing.profile.dedupe == "none"


def test_a_minimal_file_loads_with_absolute_paths(at: Any, tmp_path: Path) -> None:
    loaded = load(at(MINIMAL))
    assert isinstance(loaded, Config) and loaded.times is limits.STANDARD
    assert loaded.listen.connections_max == limits.KIOSK_CONNECTIONS_MAX and loaded.listen.idle_s == 600
    assert loaded.security.lmk_file == str(tmp_path / ".gridswitch/lmk")
    assert loaded.database.data_dir == str(tmp_path / ".gridswitch/database")
    loaded = load(at(MINIMAL + '[security]\nvault_dir = "keys"\nlmk_file = "/etc/gridswitch/lmk"\n'))
    assert loaded.security.vault_dir == str(tmp_path / "keys") and loaded.security.lmk_file == "/etc/gridswitch/lmk"
    assert load(at('time_profile = "short"\n' + MINIMAL)).times is limits.SHORT


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("port = 8001", "prot = 8001", 'switch.toml: unionpay.prot: unknown key; did you mean "port"? [config]'),
        ("port = 8001", "", "switch.toml: unionpay.port: missing; a TCP port, 1 to 65535 [config]"),
        (
            "port = 8001",
            "port = 70000",
            "switch.toml: unionpay.port: 70000 is not accepted; a TCP port, 1 to 65535 [config]",
        ),
        (
            "port = 8001",
            'port = "8001"',
            'switch.toml: unionpay.port: "8001" is not accepted; a TCP port, 1 to 65535 [config]',
        ),
        (
            "port = 8001",
            "port = true",
            "switch.toml: unionpay.port: true is not accepted; a TCP port, 1 to 65535 [config]",
        ),
        (
            "[unionpay]",
            "[listen]\nidle_s = 5\n[unionpay]",
            "switch.toml: listen.idle_s: 5 is not accepted; a number of seconds, 10 to 86400 [config]",
        ),
        (
            "[unionpay]",
            "[listen]\nidle_s = nan\n[unionpay]",
            "switch.toml: listen.idle_s: nan is not accepted; a number of seconds, 10 to 86400 [config]",
        ),
        (
            "[unionpay]",
            "[listen]\nconnections_max = 20001\n[unionpay]",
            "switch.toml: listen.connections_max: 20001 is not accepted; "
            "a whole number of connections, 1 to 20000 [config]",
        ),
        (
            "[unionpay]",
            "[security]\nback_end = 'hsm'\n[unionpay]",
            'switch.toml: security.back_end: "hsm" is not accepted; one of "pkcs11", "software" [config]',
        ),
        (
            "[unionpay]",
            "[unionpay]\ntpdu = '60000300'",
            'switch.toml: unionpay.tpdu: "60000300" is not accepted; 10 hexadecimal digits [config]',
        ),
        (
            "[unionpay]",
            "[unionpay]\ntpdu = '6000030000\\n'".replace("'", '"'),
            "switch.toml: unionpay.tpdu: a text of 11 characters is not accepted; 10 hexadecimal digits [config]",
        ),
        (
            "[marketing]",
            "[unionpay.profile]\ncut_over = '24:00'\n[marketing]",
            'switch.toml: unionpay.profile.cut_over: "24:00" is not accepted; a time as "23:00" [config]',
        ),
        (
            "[unionpay]",
            "listen = 5\n[unionpay]",
            "switch.toml: listen: not a table; write [listen] on a line of its own, its keys below it [config]",
        ),
        (
            "[unionpay]",
            "[[unionpay]]",
            "switch.toml: unionpay: not a table; write [unionpay] on a line of its own, its keys below it [config]",
        ),
        (
            'environment = "development"',
            "",
            'switch.toml: environment: missing; one of "development", "production" [config]',
        ),
        (
            'environment = "development"',
            "environment = 2026-11-23",
            'switch.toml: environment: a date or time is not accepted; one of "development", "production" [config]',
        ),
        (
            "[unionpay]",
            "[observe]\nport = 8583\n[unionpay]",
            "switch.toml: observe.port: 8583 is also listen.port; give each its own port [config]",
        ),
        (
            'host = "10.0.0.2"\nport = 8002',
            'host = "10.0.0.1"\nport = 8001',
            "switch.toml: marketing.port: 8001 is also unionpay.port on the same host; one of them is wrong [config]",
        ),
        (
            'host = "10.0.0.1"\nport = 8001',
            'host = "127.0.0.1"\nport = 9583',
            "switch.toml: unionpay.port: 9583 is also observe.port on 127.0.0.1; the switch would call itself [config]",
        ),
        (
            "[marketing]",
            "[marketing]\nname = 'unionpay'",
            'switch.toml: marketing.name: "unionpay" is also unionpay.name; give each link its own name [config]',
        ),
        (
            "[unionpay]",
            "[security]\nlmk_file = '.gridswitch/vault/lmk'\n[unionpay]",
            "switch.toml: security.lmk_file: lies inside security.vault_dir; give each its own place [config]",
        ),
        (
            "[unionpay]",
            "[security]\nvault_dir = '.gridswitch/database'\n[unionpay]",
            "switch.toml: security.vault_dir: the same path as database.data_dir; give each its own [config]",
        ),
        (
            "port = 8001",
            "port = = 8001",
            "switch.toml: not TOML: invalid value (at line 5, column 8); text values need double quotes [config]",
        ),
    ],
)
def test_one_mistake_is_one_clear_error(at: Any, old: str, new: str, message: str) -> None:
    path = at(MINIMAL.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == message
    assert check(path) == [message]
    assert caught.value.code == "config"


def test_several_mistakes_are_all_listed(at: Any) -> None:
    path = at(
        "colour = 1\n" + MINIMAL.replace("8001", "0").replace('channel = "SELF01"', "") + "[listen]\nidle_s = 1\n"
    )
    problems = check(path)
    assert [line.split(": ")[1] for line in problems] == [
        "colour",
        "listen.idle_s",
        "unionpay.port",
        "marketing.channel",
    ]
    with pytest.raises(ConfigError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith("switch.toml: 4 problems\n  colour: unknown key; known here: environment,")
    assert text.endswith("[config]")
    assert all(line.removeprefix("switch.toml: ").removesuffix(" [config]") in text for line in problems)


def test_an_empty_file_says_what_is_needed(at: Any) -> None:
    problems = check(at(""))
    assert problems[1] == (
        "switch.toml: unionpay: missing; "
        "a table [unionpay] with host, port, service_terminal, service_merchant [config]"
    )
    assert len(problems) == 3


def test_files_that_cannot_be_read(at: Any, tmp_path: Path) -> None:
    assert check("nowhere.toml") == [
        "nowhere.toml: cannot be read: No such file or directory; start from switch/config.example.toml [config]"
    ]
    assert check(tmp_path)[0].startswith(f"{tmp_path}: cannot be read: Is a directory")
    path = at("")
    Path(path).write_bytes(b"# \xb5\xe7\xc1\xa6")  # GBK
    assert check(path) == ["switch.toml: not UTF-8 at byte 2; save it as UTF-8 [config]"]


def test_a_password_is_never_printed(at: Any) -> None:
    for dsn in ('"mysql://switch:hunter2@db/x"', "['hunter2']", '"postgresql://switch:hunter2@db/x"'):
        problems = check(
            at(PRODUCTION.replace('"postgresql://switch:hunter2@db.inner/switch?sslmode=verify-full"', dsn))
        )
        assert any("database.dsn" in line for line in problems)
        assert "hunter2" not in " ".join(problems)


def production_problems(path: str) -> list[str]:
    """Without the one that nothing can cure yet: this version has no hardware module."""
    return [line for line in check(path) if "security.back_end" not in line]


def test_production_refuses_keys_in_software(at: Any) -> None:
    assert check(at(PRODUCTION)) == [
        'switch.toml: security.back_end: "software" holds keys in memory; '
        'production needs a hardware module: "pkcs11" [config]'
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[unionpay]", 'time_profile = "short"\n[unionpay]', 'time_profile: "short" reverses purchases that'),
        (
            "[database]",
            "[listen]\nport = 0\n[database]",
            "listen.port: 0 takes any free port; production needs a fixed",
        ),
        ("[database]", "[observe]\nport = 0\n[database]", "observe.port: 0 takes any free port"),
        (
            "[database]",
            "[listen.limits]\npayments_per_minute = 0\n[database]",
            "listen.limits.payments_per_minute: 0 is without limit; production needs a number of messages a minute",
        ),
        ("[database]", "[nothing]", "nothing: unknown key"),
        ("?sslmode=verify-full", "", "database.dsn: could cross the network unencrypted"),
        ("?sslmode=verify-full", "?sslmode=prefer", "database.dsn: could cross the network unencrypted"),
        ("?sslmode=verify-full", "?sslmode=require&sslmode=disable", "database.dsn: could cross the network"),
        (
            "?sslmode=verify-full",
            "?sslmode=require",
            "database.dsn: could cross the network unencrypted, or to whoever",
        ),
        ("?sslmode=verify-full", "?sslmode=verify-ca", "database.dsn: could cross the network"),
        (
            "[database]",
            '[listen]\nhost = "0.0.0.0"\n[database]',
            "listen.tls.enabled: false, and other machines reach 0",
        ),
        ('fence = "tombstone"', "", "marketing.profile.fence: missing; production needs"),
    ],
)
def test_production_refuses_what_is_unsafe(at: Any, old: str, new: str, problem: str) -> None:
    assert old in PRODUCTION and production_problems(at(PRODUCTION)) == []
    (line, *_) = production_problems(at(PRODUCTION.replace(old, new, 1)))
    assert line.startswith(f"switch.toml: {problem}")


def test_production_refuses_missing_profiles_and_the_private_database(at: Any) -> None:
    problems = production_problems(at(MINIMAL.replace("development", "production")))
    assert [line.split(": ")[1] for line in problems] == [
        "database.dsn",
        *(
            f"unionpay.profile.{key}"
            for key in ("reversal_00", "reversal_not_found", "unmacced_decline", "emv_completion")
        ),
        *(f"unionpay.profile.{key}" for key in ("reversal_first_s", "cut_over")),
        *(f"marketing.profile.{key}" for key in ("fence", "inquiry", "dedupe", "day_close")),
    ]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://a@127.0.0.1:5432,db.inner:5432/b",  # the second host was once not looked at
        "postgresql://a@127.0.0.1/b?host=db.inner",
        "postgresql://a@/b?host=/run/postgresql,db.inner",
        "postgresql://a@/b",  # PGHOST says where
        "postgresql://a@db.inner/b?service=main&sslmode=verify-full",  # a service file says how
        "postgresql://a@db.inner/b?sslmode=verify-full&sslmode=prefer",
        "postgresql://a@db.inner/b?SSLMODE=verify-full",
        "postgresql://a@[2001:db8::1]/b",
        "postgresql://a@localhost.example/b",
    ],
)
def test_production_lets_no_database_connection_fall_back_to_plain_text(at: Any, dsn: str) -> None:
    (line,) = production_problems(at(re.sub('dsn = ".*"', f'dsn = "{dsn}"', PRODUCTION)))
    assert line.startswith("switch.toml: database.dsn: could cross the network unencrypted")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql:///switch?host=/run/postgresql",
        "postgresql://a@127.0.0.1/b",
        "postgresql://a:p%40ss@localhost:5432,[::1]:5433/b",
    ],
)
def test_production_takes_a_database_on_this_machine_without_tls(at: Any, dsn: str) -> None:
    text = re.sub('dsn = ".*"', f'dsn = "{dsn}"', PRODUCTION)
    assert production_problems(at(text)) == []


TLS = """
[listen.tls]
enabled = true
certificate = "certs/server.pem"
key = "certs/server.key"
client_ca = "/etc/kiosks.pem"
"""


def test_tls_files_have_their_places(at: Any, tmp_path: Path) -> None:
    loaded = load(at(MINIMAL + TLS + '[unionpay.tls]\nenabled = true\nca = "ca.pem"\n'))
    assert loaded.listen.tls.certificate == str(tmp_path / "certs/server.pem")
    assert loaded.listen.tls.client_ca == "/etc/kiosks.pem" and loaded.listen.tls.client_crl == ""
    assert loaded.unionpay.tls.ca == str(tmp_path / "ca.pem") and loaded.unionpay.tls.certificate == ""
    assert not loaded.marketing.tls.enabled
    assert production_problems(at(PRODUCTION + '[listen]\nhost = "0.0.0.0"\n' + TLS)) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('client_ca = "/etc/kiosks.pem"', "", "listen.tls.client_ca: missing; TLS needs it: the path of a PEM file"),
        ('key = "certs/server.key"', 'key = ""', "listen.tls.key: missing; TLS needs it: the path of a PEM file"),
        (
            "enabled = true",
            "",
            "listen.tls.enabled: false, but listen.tls.certificate is set; write enabled = true, or leave",
        ),
        ("[listen.tls]", "[unionpay.tls]\nenabled = true\n[listen.tls]", "unionpay.tls.ca: missing; TLS needs it"),
        (
            "[listen.tls]",
            '[marketing.tls]\nenabled = true\nca = "a"\nkey = "b"\n[listen.tls]',
            "marketing.tls.certificate: missing; a certificate and its key come together",
        ),
        ("enabled = true", 'enabled = "yes"', 'listen.tls.enabled: "yes" is not accepted; true or false'),
        ("key =", "kye =", 'listen.tls.kye: unknown key; did you mean "key"?'),
    ],
)
def test_half_a_tls_section_is_one_clear_error(at: Any, old: str, new: str, message: str) -> None:
    lines = check(at(MINIMAL + TLS.replace(old, new, 1)))
    assert lines[0].startswith(f"switch.toml: {message}") and len(lines) == 1


def test_production_refuses_tls_keys_that_others_may_read(at: Any, tmp_path: Path) -> None:
    key = tmp_path / "server.key"
    key.write_bytes(b"x")
    path = at(PRODUCTION + TLS.replace("certs/server.key", "server.key"))
    key.chmod(0o644)
    assert production_problems(path) == [
        f"switch.toml: listen.tls.key: other users may read it; run: chmod 600 {key} [config]"
    ]
    key.chmod(0o600)
    assert production_problems(path) == []


def test_production_refuses_a_key_file_that_others_may_read(at: Any, tmp_path: Path) -> None:
    lmk_file = tmp_path / "lmk"
    lmk_file.write_bytes(b"x")
    path = at(PRODUCTION + f'[security]\nlmk_file = "{lmk_file}"\n')
    lmk_file.chmod(0o640)
    assert production_problems(path) == [
        f"switch.toml: security.lmk_file: other users may read it; run: chmod 600 {lmk_file} [config]"
    ]
    lmk_file.chmod(0o600)
    assert production_problems(path) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_tree_is_a_configuration_or_a_list_of_problems(data: st.DataObject) -> None:
    tree = tomllib.loads(MINIMAL + PROFILES)
    key = data.draw(
        st.sampled_from([one.key for one in options()] + ["unionpay", "listen", "marketing.profile", "serial", "new"])
    )
    *tables, last = key.split(".")
    table = tree
    for name in tables:
        table = table.setdefault(name, {})
    table[last] = data.draw(VALUES)
    problems: list[tuple[str, str]] = []
    config._walk(Config, tree, "", Path("/etc"), problems)
    if problems:
        assert all(where and detail for where, detail in problems)
    else:
        msgspec.convert(tree, Config)  # the walk lets nothing through that the structs refuse


def test_a_number_of_workers_on_the_command_line_counts_instead_and_is_checked_like_the_option(tmp_path: Path) -> None:
    file = tmp_path / "switch.toml"
    file.write_text(document())
    assert load(file, workers=3).worker.count == 3
    assert load(file).worker.count == 1
    with pytest.raises(ConfigError, match=r"worker\.count"):
        load(file, workers=0)


# ---------------------------------------------------------------------------------------------------- serial lines
LINE = """
[[serial]]
name = "line-1"
device = "/dev/ttyS0"
kiosks = { "0001" = "10000001" }
"""


def test_serial_lines_are_read_with_their_defaults_and_the_example_is_one(at: Any) -> None:
    (line,) = load(at(MINIMAL + LINE)).serial
    assert (line.baud, line.parity, line.stop_bits, line.duplex, line.length) == (9600, "none", 1, "full", "bcd2")
    assert load(at(MINIMAL)).serial == ()
    shown = document().partition("#[[serial]]")[2]
    taken_in = "".join(line[1:] + "\n" for line in shown.splitlines() if re.match(r"#[a-z_]+ = ", line))
    (example,) = load(at(MINIMAL + "[[serial]]\n" + taken_in)).serial
    assert example == config.SerialConfig(name="line-1", device="/dev/ttyS0", kiosks={"0000": "10000001"})
    for one in options(config.SerialConfig, "serial."):
        assert re.fullmatch(r"[A-Z\"].*\.", one.help_text) and one.help_text in shown
        assert bool(one.unit) >= one.numeric and one.example is not None and "None" not in one.expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("/dev/ttyS0", "ttyS0"), 'serial[0].device: "ttyS0" is not accepted; a path that begins with /'),
        (("0001", "1"), "serial[0].kiosks: a table is not accepted; a table of addresses, 4 hexadecimal digits each"),
        (('"10000001"', '"1"'), "serial[0].kiosks: a table is not accepted"),
        (('{ "0001" = "10000001" }', "{}"), "serial[0].kiosks: a table is not accepted"),
        (
            ('{ "0001"', '{ "00ab" = "10000009", "00AB"'),
            "serial[0].kiosks: names an address twice, in small and capital",
        ),
        (('{ "0001"', '{ "0002" = "10000001", "0001"'), 'serial[0].kiosks: "10000001" is also in serial[0].kiosks'),
        (("[[serial]]", "[serial]"), "serial: not a list of tables; write [[serial]] on a line of its own"),
        (("name =", "boud = 1\nname ="), 'serial[0].boud: unknown key; did you mean "baud"?'),
        (('name = "line-1"\n', ""), "serial[0].name: missing; a lower-case letter"),
        (("name =", "baud = 1\nname ="), "serial[0].baud: 1 is not accepted; a whole number of bits a second, 300 to"),
        (("name =", 'heartbeat = "FE02"\nname ='), "serial[0].heartbeat: has a byte 02, with which frames begin"),
    ],
)
def test_a_wrong_serial_line_is_told_with_its_number(at: Any, change: tuple[str, str], expected: str) -> None:
    problems = check(at(MINIMAL + LINE.replace(*change)))
    assert any(problem.startswith(f"switch.toml: {expected}") for problem in problems), problems


@pytest.mark.parametrize(
    ("same", "told"),
    [
        ("", 'serial[1].name: "line-1" is also in serial[0].name'),
        ("name", 'serial[1].device: "/dev/ttyS0" is also in serial[0].device'),
        ("name device", 'serial[1].kiosks: "10000001" is also in serial[0].kiosks'),
    ],
)
def test_two_lines_share_neither_name_nor_port_nor_terminal(at: Any, same: str, told: str) -> None:
    second = LINE
    second = second.replace("line-1", "line-2") if "name" in same else second
    second = second.replace("ttyS0", "ttyS1") if "device" in same else second
    problems = check(at(MINIMAL + LINE + second))
    assert len(problems) == 1 and told in problems[0], problems


def test_so_many_lines_and_no_more(at: Any) -> None:
    lines = "".join(
        LINE.replace("line-1", f"line-{n}").replace("ttyS0", f"ttyS{n}").replace("10000001", f"{n:08d}")
        for n in range(limits.SERIAL_LINES_MAX + 1)
    )
    assert "257 lines; one switch serves 256 at most" in check(at(MINIMAL + lines))[0]


# ---------------------------------------------------------------------------------------------------- record specs
def _marketing(more: str) -> str:
    return MINIMAL + more


def test_a_record_spec_is_bundled_or_a_file_beside_the_configuration(at: Any, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('extends = "marketing_json_1_0"\nwire_version = "1.1"\n')
    assert load(at(MINIMAL)).marketing.spec == "marketing_json_1_0"
    upgrade = '[marketing.upgrade]\nspec = "own.toml"\nat = "2026-12-01T00:00:00+08:00"\n'
    loaded = load(at(_marketing(upgrade)))
    assert loaded.marketing.upgrade.spec == str(tmp_path / "own.toml")
    found = config.upgrade_of(loaded.marketing)
    assert found is not None and found.at_us == 1_796_054_400_000_000
    assert config.upgrade_of(load(at(MINIMAL)).marketing) is None


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('spec = "x"', "marketing.spec: x: no such spec; known: marketing_json_1_0"),
        ('spec = "gone.toml"', "gone.toml: cannot be read"),
        (
            'spec = "marketing_ydlw_1_0"',
            'marketing.profile.fence: "tombstone" is nothing that marketing_ydlw 1.0 can do; one of "cancel_if_posted"',
        ),
        (
            '[marketing.profile]\ninquiry = "history"',
            'marketing.profile.inquiry: "history" is nothing that marketing_json 1.0 can do; one of "serial", "none"',
        ),
        ('[marketing.upgrade]\nspec = "marketing_json_1_0"', "marketing.upgrade.at: missing; a spec and its instant"),
        ('[marketing.upgrade]\nat = "2026-12-01T00:00:00+08:00"', "marketing.upgrade.spec: missing"),
        ('[marketing.upgrade]\nspec = "x"\nat = "2026-12-01"', 'an instant as "2026-12-01T00:00:00+08:00"'),
        ('[marketing.upgrade]\nspec = "x"\nat = "2026-13-01T00:00:00+08:00"', "marketing.upgrade.at: no instant"),
        (
            '[marketing.upgrade]\nspec = "marketing_json_1_0"\nat = "2026-12-01T00:00:00+08:00"',
            'marketing.upgrade: marketing_json 1.0 and marketing_json 1.0 have the same wire_version, ""',
        ),
    ],
)
def test_a_spec_that_cannot_be_spoken_is_told_before_anything_starts(at: Any, more: str, problem: str) -> None:
    told = check(at(_marketing(more)))
    assert any(problem in line for line in told), told
