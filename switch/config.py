"""Every option of the switch, read from one TOML file.

An option is a struct field with ``option(...)``: its help, its unit and its bounds.
From these come the checks, the error texts and ``config.example.toml`` (``document()``), so the three cannot differ.

``load`` reports every problem of a file at once, each with its key, what was expected and what to do:

    switch.toml: unionpay.prot: unknown key; did you mean "port"? [config]

Values of options marked secret never appear in an error.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta, Struct
from msgspec import inspect as shapes

from switch import limits
from switch.dialects.marketing_versions import Upgrade, check_upgrade, make_dialect, read_at
from switch.errors import ConfigError
from switch.records.spec import is_path

EXAMPLE: Final = "switch/config.example.toml"
HOST_SIZE_MAX: Final = 253  # characters of a DNS name, RFC 1035 2.3.4
MAC_ALGORITHMS: Final = (
    *("unionpay_ecb", "sm4_ecb", "sm4_cbc", "xor_sm4"),
    *("x9_9", "x9_19", "x9_19_pad80", "tdes_cbc", "xor_tdes"),
)
LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def option(
    help_text: str,
    *,
    unit: str = "",
    secret: bool = False,
    path: bool = False,
    spec: bool = False,
    example: object = None,
    shape: str = "",
    **bounds: Any,
) -> Meta:
    """Describe one option.

    Args:
        help_text: A sentence: what it does and what to change it for.
        unit: What a number counts.
        secret: True if its value must not be printed.
        path: True for a file or folder; relative ones count from the folder of the configuration file.
        spec: True for a record spec: a bundled one's name, or a path as above.
        example: The value in the example file, for options without a default.
        shape: What a text must look like, in words, when ``pattern`` says it in signs.
        bounds: ``ge``, ``le``, ``min_length``, ``max_length``, ``pattern``.
    """
    extra = {"unit": unit, "secret": secret, "path": path, "spec": spec, "example": example, "shape": shape}
    return Meta(description=help_text, extra=extra, **bounds)


def _host(help_text: str, example: str | None = None) -> Meta:
    return option(help_text, example=example, min_length=1, max_length=HOST_SIZE_MAX)


def _port(help_text: str, example: int | None = None, *, lowest: int = 1) -> Meta:
    return option(help_text, unit="TCP port", example=example, ge=lowest, le=65_535)


def _name(help_text: str, example: str | None = None) -> Meta:
    shape = "a lower-case letter, then up to 31 lower-case letters, digits, - or _"
    return option(help_text, example=example, pattern=r"^[a-z][a-z0-9_-]{0,31}\Z", shape=shape)


def _hex(help_text: str, count: int) -> Meta:
    return option(help_text, pattern=rf"^[0-9A-Fa-f]{{{count}}}\Z", shape=f"{count} hexadecimal digits")


def _printable(help_text: str, count: int, example: str) -> Meta:
    shape = f"{count} letters or digits"
    return option(help_text, pattern=rf"^[0-9A-Za-z]{{{count}}}\Z", shape=shape, example=example)


def _spec(help_text: str) -> Meta:
    shape = "the name of a bundled record spec (gridswitch spec list), or a path that ends in .toml"
    return option(help_text, spec=True, shape=shape)


def _file(help_text: str) -> Meta:
    return option(help_text, path=True, shape="a path, or nothing")


# The docstring of each section is its heading in the example file.
class DatabaseConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where payments are recorded."""

    dsn: Annotated[
        str,
        option(
            'Address of the PostgreSQL server; "" starts a private server, which production refuses.',
            secret=True,
            pattern=r"^(|postgres(ql)?://.+)\Z",
            shape='"" or postgresql://user:password@host:port/name?sslmode=verify-full',
        ),
    ] = ""
    data_dir: Annotated[str, option("Folder of the private server's data.", path=True, min_length=1)] = (
        ".gridswitch/database"
    )


def _per_minute(what: str) -> Meta:
    return option(f"{what}.", unit="messages a minute", ge=0, le=60_000)


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one caller may ask for. 0 is no limit: simulated kiosks pay too fast for one; production refuses it."""

    payments_per_minute: Annotated[float, _per_minute("New payments of one terminal; three may follow at once")] = 12.0
    inquiries_per_minute: Annotated[float, _per_minute("Bill inquiries of one terminal; ten may follow at once")] = 60.0
    requests_per_minute: Annotated[
        float, _per_minute("Messages of one terminal of any kind, results and repeats too; sixty may follow at once")
    ] = 600.0
    greetings_per_minute: Annotated[
        float, _per_minute("Sign-ons and echo tests on one connection; ten may follow at once")
    ] = 30.0
    faults_per_minute: Annotated[
        float,
        _per_minute("Wrong frames from one address that are answered and logged; sixty may follow at once"),
    ] = 60.0
    source_connections_max: Annotated[
        int,
        option(
            "Connections at once from one address; raise it where a router or balancer hides many kiosks behind one.",
            unit="connections",
            ge=1,
            le=limits.KIOSK_CONNECTIONS_MAX,
        ),
    ] = limits.SOURCE_CONNECTIONS_MAX


# For simulated kiosks, which pay faster than people.
UNLIMITED: Final = LimitsConfig(
    payments_per_minute=0,
    inquiries_per_minute=0,
    requests_per_minute=0,
    greetings_per_minute=0,
    faults_per_minute=0,
    source_connections_max=limits.KIOSK_CONNECTIONS_MAX,
)


class ListenTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS 1.2 or newer to kiosks; each shows a certificate, and speaks for the terminal that it names (CN) alone."""

    enabled: Annotated[
        bool,
        option("Whether kiosks must speak TLS; production demands it unless listen.host is this machine alone."),
    ] = False
    certificate: Annotated[str, _file("The switch's own certificate with its chain, PEM.")] = ""
    key: Annotated[str, _file("Its key, PEM without a passphrase, mode 0600.")] = ""
    client_ca: Annotated[
        str,
        _file("CA of the kiosks' certificates, PEM; whoever has a certificate of it is the terminal that it names."),
    ] = ""
    client_crl: Annotated[
        str, _file("Its list of revoked certificates, PEM; keep it fresh: once it has expired, nobody gets in.")
    ] = ""


class ListenConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where kiosks connect to."""

    host: Annotated[str, _host('Address to listen on; "0.0.0.0" means every IPv4 interface.')] = "127.0.0.1"
    port: Annotated[int, _port("Port to listen on; 0 takes a free one and is for development only.", lowest=0)] = 8583
    connections_max: Annotated[
        int,
        option(
            "Kiosks connected at once; further ones are closed at once and try again.",
            unit="connections",
            ge=1,
            le=limits.KIOSK_CONNECTIONS_MAX,
        ),
    ] = limits.KIOSK_CONNECTIONS_MAX
    idle_s: Annotated[
        float,
        option(
            "Silence after which a kiosk's connection is dropped; keep it above its echo interval.", ge=10, le=86_400
        ),
    ] = limits.KIOSK_IDLE_S
    limits: LimitsConfig = LimitsConfig()

    tls: ListenTls = ListenTls()


class SerialConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serial lines to kiosks, one [[serial]] table each. Always 8 data bits: frames are binary."""

    name: Annotated[str, _name("Name of this line in logs and metrics.", "line-1")]
    device: Annotated[
        str,
        option(
            "Its port; names below /dev/serial/by-id stay the same when an adaptor is plugged in again.",
            pattern=r"^/[^\0]+\Z",
            max_length=limits.SERIAL_DEVICE_SIZE_MAX,
            shape="a path that begins with /",
            example="/dev/ttyS0",
        ),
    ]
    kiosks: Annotated[
        dict[
            Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{4}\Z")],
            Annotated[str, Meta(pattern=r"^[0-9A-Za-z]{8}\Z")],
        ],
        option(
            "Kiosks on this line: the address that each writes into its TPDU (origin), and the one terminal it is.",
            min_length=1,
            max_length=limits.SERIAL_KIOSKS_MAX,
            shape="a table of addresses, 4 hexadecimal digits each, with a terminal, 8 letters or digits: "
            f'{{ "0001" = "10000001" }}, at most {limits.SERIAL_KIOSKS_MAX}',
            example={"0000": "10000001"},
        ),
    ]
    baud: Annotated[int, option("Speed of the line.", unit="bits a second", ge=300, le=4_000_000)] = 9600
    parity: Annotated[Literal["none", "even", "odd"], option("Parity bit of each byte.")] = "none"
    stop_bits: Annotated[Literal[1, 2], option("Stop bits of each byte.")] = 1
    flow_control: Annotated[
        Literal["none", "rtscts"], option('"rtscts" where modem or DTU use these two wires to say "wait".')
    ] = "none"
    duplex: Annotated[
        Literal["full", "half"],
        option('"half" for two-wire RS-485: nothing is written while somebody speaks, one answer at a time.'),
    ] = "full"
    turn_round_ms: Annotated[
        int,
        option(
            "Silence before an answer on a half-duplex line: so long a kiosk needs to switch from talking to hearing.",
            ge=0,
            le=5_000,
        ),
    ] = 20
    gap_ms: Annotated[
        int,
        option(
            "Silence inside a frame after which the rest of it will not come; DTUs cut frames into packets.",
            ge=20,
            le=30_000,
        ),
    ] = 1_000
    length: Annotated[
        Literal["bcd2", "len2", "ascii4"],
        option('Length behind STX: "bcd2" 4 packed digits, "len2" 2 binary bytes, "ascii4" 4 ASCII digits.'),
    ] = "bcd2"
    heartbeat: Annotated[
        str,
        option(
            'What a DTU sends between frames as a sign of life, swallowed and counted; "" for nothing.',
            pattern=rf"^([0-9A-Fa-f]{{2}}){{0,{limits.SERIAL_HEARTBEAT_BYTES_MAX}}}\Z",
            shape=f"up to {limits.SERIAL_HEARTBEAT_BYTES_MAX} bytes in hexadecimal",
        ),
    ] = ""


class ObserveConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the switch shows of itself."""

    host: Annotated[
        str, _host("Address of /live, /ready, /metrics; they ask no password, so keep it on an inner network.")
    ] = "127.0.0.1"
    port: Annotated[
        int, _port("Port of /live, /ready, /metrics; 0 takes a free one and is for development only.", lowest=0)
    ] = 9583
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], option("Least important event that is logged.")
    ] = "info"


class SecurityConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where keys live."""

    back_end: Annotated[
        Literal["software", "pkcs11"],
        option(
            'Security module: "pkcs11" is a hardware module; "software" holds keys in memory, which production refuses.'
        ),
    ] = "software"
    lmk_file: Annotated[
        str,
        option(
            'File of the key that wraps all others, for "software"; keep it out of every other folder named here.',
            path=True,
            min_length=1,
        ),
    ] = ".gridswitch/lmk"
    vault_dir: Annotated[str, option("Folder of the wrapped keys.", path=True, min_length=1)] = ".gridswitch/vault"
    pkcs11_library: Annotated[str, option("The module's PKCS#11 library, from its maker.", path=True, min_length=1)] = (
        "/usr/lib/softhsm/libsofthsm2.so"
    )
    pkcs11_label: Annotated[str, option("Label of the token.", min_length=1, max_length=32)] = "gridswitch"
    pkcs11_pin_file: Annotated[
        str, option("File whose first line is the token's user PIN; mode 0600.", path=True, min_length=1)
    ] = ".gridswitch/token.pin"
    pkcs11_sessions: Annotated[
        int,
        option(
            "Sessions of one process with the module: so many operations are under way at once.",
            unit="sessions",
            ge=1,
            le=limits.SECURITY_SESSIONS_MAX,
        ),
    ] = 2
    refund_days: Annotated[
        int,
        option(
            "How long a completed payment can be refunded: its card number is kept for so long, encrypted, and then "
            "destroyed; 0 keeps none. Take it from the acquirer's contract.",
            unit="days",
            ge=0,
            le=limits.REFUND_DAYS_MAX,
        ),
    ] = limits.REFUND_DAYS


class ControlConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How people look into a running switch and give it orders: gridswitch status, trace, drain."""

    path: Annotated[
        str, option("Socket that only this user may open; two switches need two.", path=True, min_length=1)
    ] = ".gridswitch/control.sock"


class WorkerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One switch among several on one database; each takes over what another one leaves open."""

    instance: Annotated[
        str,
        _name("Name of this switch. Several share one database.dsn; two on one machine need two names."),
    ] = "switch"
    count: Annotated[
        int,
        option(
            "Processes of this switch, each with a loop and links of its own; the port after observe.port is the first "
            "one's, and so on.",
            unit="processes",
            ge=1,
            le=limits.WORKERS_MAX,
        ),
    ] = 1


class UpstreamTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS 1.2 or newer to this host, whose certificate must come from ca and carry server_name."""

    enabled: Annotated[bool, option("Whether this link speaks TLS.")] = False
    ca: Annotated[str, _file("CA of the host's certificate, PEM.")] = ""
    server_name: Annotated[
        str,
        option(
            "Name or IP address in the host's certificate; \"\" means the link's own host.", max_length=HOST_SIZE_MAX
        ),
    ] = ""
    certificate: Annotated[str, _file("Our certificate with its chain, PEM, if the host asks for one.")] = ""
    key: Annotated[str, _file("Its key, PEM without a passphrase, mode 0600.")] = ""


class UnionpayProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this acquirer's host behaves; ask it. The defaults trust it with nothing; production wants each one said."""

    reversal_00: Annotated[
        Literal["found_only", "any"],
        option(
            'When the host answers 00 to a reversal: "found_only" if it found the purchase, "any" if it always does.'
        ),
    ] = "any"
    reversal_not_found: Annotated[
        Literal["proves", "unproven"],
        option('Whether "original not found" proves that the card was never charged.'),
    ] = "unproven"
    unmacced_decline: Annotated[
        Literal["reverse", "decline"],
        option('What a decline without a MAC leads to; "reverse" treats it as forged.'),
    ] = "reverse"
    emv_completion: Annotated[
        Literal["online_only", "wait"],
        option(
            "When a payment by chip is paid: once its issuer approves, or when the chip, too, has made its last "
            "cryptogram; the kiosk has 10 s to send that."
        ),
    ] = "online_only"
    reversal_first_s: Annotated[
        float,
        option(
            "A terminal with an undecided reversal begins no payment before that is decided, for at most so long.",
            ge=0,
            le=3600,
            unit="seconds",
        ),
    ] = 15.0
    cut_over: Annotated[
        str,
        option(
            "Local time at which the host's business day ends.",
            pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z",
            shape='a time as "23:00"',
        ),
    ] = "23:00"


class UnionpayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The card network's host."""

    name: Annotated[str, _name("Name of this link in logs and metrics.")] = "unionpay"
    host: Annotated[str, _host("Address of the acquirer's host.", "127.0.0.1")]
    port: Annotated[int, _port("Port of the acquirer's host.", 8001)]
    connection: Annotated[
        Literal["kept", "per_transaction"],
        option(
            'How this host is called: over one connection that is "kept", or "per_transaction": dial, one request, its '
            "answer, close."
        ),
    ] = "kept"
    tpdu: Annotated[str, _hex("TPDU in front of every message, as the acquirer assigned it.", 10)] = "6000030000"
    header: Annotated[str, _hex("Message header after the TPDU, as the acquirer assigned it.", 12)] = "602200000000"
    service_terminal: Annotated[
        str, _printable("Terminal that echo tests are sent for; it takes no payments.", 8, "00000001")
    ]
    service_merchant: Annotated[str, _printable("Merchant of the service terminal.", 15, "000000000000001")]
    mac: Annotated[
        str,
        option(
            "MAC algorithm of this acquirer, and what field 64 holds: hex8 is 8 hexadecimal characters, raw8 is 8 "
            "bytes.",
            pattern=rf"^({'|'.join(MAC_ALGORITHMS)})(:(hex8|raw8))?\Z",
            shape=f"one of {', '.join(MAC_ALGORITHMS)}, with :hex8 or :raw8 or nothing behind it",
        ),
    ] = "unionpay_ecb"
    sign_on: Annotated[
        Literal["001", "003", "004"],
        option(
            'Network code 60.3 of sign-ons: "001" brings single-length keys, "003" double-length ones, "004" a '
            'track key as well. Terminals whose master key is SM4 ask with "006".'
        ),
    ] = "003"
    echo_mac: Annotated[
        Literal["checked", "none"],
        option(
            "Whether echo tests of a terminal that comes into service carry a MAC both ways; ask the acquirer. "
            '"none": only the kiosk\'s half has one.'
        ),
    ] = "checked"
    settle_at: Annotated[
        str,
        option(
            "When the terminals' batches are settled, each day from this time on (0500); empty: never, the host "
            "closes them itself.",
            pattern=r"^(|([01][0-9]|2[0-3]):[0-5][0-9])\Z",
            shape='"HH:MM" or empty',
        ),
    ] = ""
    settle_spread_s: Annotated[
        float,
        option(
            "How long the terminals' settlements are spread over from settle_at on, each at its own moment.",
            ge=0,
            le=limits.SETTLE_SPREAD_MAX_S,
            unit="seconds",
        ),
    ] = 3600.0
    profile: UnionpayProfile = UnionpayProfile()
    tls: UpstreamTls = UpstreamTls()


class MarketingProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this marketing system behaves; ask it. Production wants each one said."""

    fence: Annotated[
        Literal["tombstone", "cancel_if_posted", "none"],
        option(
            'What a cancel does: "tombstone" undoes or forbids a posting for good, "cancel_if_posted" only undoes what '
            'is posted already, "none": there is no cancel.'
        ),
    ] = "tombstone"
    inquiry: Annotated[
        Literal["serial", "history", "none"],
        option('How a posting is asked for: by our "serial", in the account\'s "history", or not at all.'),
    ] = "serial"
    dedupe: Annotated[
        Literal["serial", "none"],
        option('Whether a second posting with the same serial is recognised; "none" means it never posts again.'),
    ] = "none"
    day_close: Annotated[
        str,
        option(
            "Local time at which its accounting day closes: what is not booked by then is booked by hand. "
            "Empty: it books at any time.",
            pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?\Z",
            shape='a time as "16:00", or nothing',
        ),
    ] = ""


class MarketingUpgrade(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new version of the record spec and when it goes live. Way back: empty both, then: gridswitch spec reload."""

    spec: Annotated[
        str, _spec("What payments that begin then speak; those that began before finish as they began.")
    ] = ""
    at: Annotated[
        str,
        option(
            "When, with the distance from UTC.",
            pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?[+-]\d\d:\d\d)?\Z",
            shape='an instant as "2026-12-01T00:00:00+08:00", or nothing',
        ),
    ] = ""


class MarketingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The utility's customer and billing system."""

    name: Annotated[str, _name("Name of this link in logs and metrics.")] = "marketing"
    host: Annotated[str, _host("Address of the marketing system.", "127.0.0.1")]
    port: Annotated[int, _port("Port of the marketing system.", 8002)]
    spec: Annotated[str, _spec("Language of this marketing system, and its version.")] = "marketing_json_1_0"
    channel: Annotated[
        str,
        option(
            "Collector id (收费机构) under which the marketing system knows us.",
            pattern=r"^[0-9A-Za-z_-]{1,32}\Z",
            shape="1 to 32 letters, digits, - or _",
            example="SELF01",
        ),
    ]
    profile: MarketingProfile = MarketingProfile()
    upgrade: MarketingUpgrade = MarketingUpgrade()
    prepay_max_fen: Annotated[int, option("The most that one prepayment may be.", ge=1, le=99_999_999, unit="fen")] = (
        1_000_000
    )
    prepay_while_owing: Annotated[
        bool, option("Whether an account that owes something may be paid in advance; false: the arrears come first.")
    ] = False
    test_account: Annotated[
        str,
        option(
            "Account (户号) with which new terminals prove themselves; whatever is paid for it is given back at once. "
            "Empty: no new terminal passes its last gates.",
            pattern=r"^[0-9A-Za-z]{0,20}\Z",
            shape="up to 20 letters or digits",
        ),
    ] = ""
    tls: UpstreamTls = UpstreamTls()


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration. Paths in it are absolute after ``load``."""

    environment: Annotated[
        Literal["development", "production"],
        option('Where this runs; "production" refuses whatever is unsafe with real money.', example="development"),
    ]
    time_profile: Annotated[
        Literal["standard", "short"],
        option('Time-outs of payments; "short" is for demo, tests and drills, never for real hosts.'),
    ] = "standard"
    database: DatabaseConfig = DatabaseConfig()
    listen: ListenConfig = ListenConfig()
    serial: tuple[SerialConfig, ...] = ()
    observe: ObserveConfig = ObserveConfig()
    security: SecurityConfig = SecurityConfig()
    worker: WorkerConfig = WorkerConfig()
    control: ControlConfig = ControlConfig()
    unionpay: UnionpayConfig
    marketing: MarketingConfig

    @property
    def times(self) -> limits.TimeProfile:
        return limits.PROFILES[self.time_profile]


def fingerprint(config: Config) -> str:
    """12 hex digits that change with any option but the secret ones: do two machines run the same configuration?"""
    told = msgspec.to_builtins(config)
    told["database"].pop("dsn", None)
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()[:12]


# ---------------------------------------------------------------------------------------------------- reading
def load(path: str | Path, *, workers: int | None = None) -> Config:
    """Read, check and return the configuration. Raises ConfigError with every problem found.

    Args:
        workers: In place of ``worker.count``.
    """
    config, problems = _read(Path(path), workers)
    if len(problems) == 1:
        key, detail = problems[0]
        raise ConfigError(f"{path}: {key}" if key else str(path), detail)
    if problems:
        lines = "".join(f"\n  {_line(key, detail)}" for key, detail in problems)
        raise ConfigError(str(path), f"{len(problems)} problems{lines}\n ")
    assert config is not None
    return config


def check(path: str | Path) -> list[str]:
    """Every problem of the file, one line each; empty if the switch could start with it."""
    return [f"{path}: {_line(key, detail)} [config]" for key, detail in _read(Path(path))[1]]


Problem = tuple[str, str]  # key ("" = the file itself), what is wrong and what to do


def _line(key: str, detail: str) -> str:
    return f"{key}: {detail}" if key else detail


def _read(path: Path, workers: int | None = None) -> tuple[Config | None, list[Problem]]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return None, [("", f"cannot be read: {error.strerror}; start from {EXAMPLE}")]
    except UnicodeDecodeError as error:
        return None, [("", f"not UTF-8 at byte {error.start}; save it as UTF-8")]
    except tomllib.TOMLDecodeError as error:
        return None, [("", f"not TOML: {_first_lower(str(error))}; text values need double quotes")]

    if workers is not None and isinstance(section := tree.setdefault("worker", {}), dict):
        section["count"] = workers
    # Through the parent's resolve: a relative path must mean the same whatever the working directory is.
    problems: list[Problem] = []
    _walk(Config, tree, "", path.resolve().parent, problems)
    if problems:
        return None, problems
    config = msgspec.convert(tree, Config)
    problems.extend(_cross_check(config))
    if config.environment == "production":
        problems.extend(_production(config, tree))
    return (None, problems) if problems else (config, [])


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _walk(section: type[Struct], table: dict[str, Any], prefix: str, base: Path, problems: list[Problem]) -> None:
    """Check one table and those inside it; fill in absolute paths in place."""
    fields = {field.encode_name: field for field in _fields(section)}
    meant = set()
    for key in table:
        if key not in fields:
            guess = get_close_matches(key, fields, n=1)
            meant.update(guess)
            hint = f'did you mean "{guess[0]}"?' if guess else f"known here: {', '.join(fields)}"
            problems.append((prefix + key, f"unknown key; {hint}"))
    hints = get_type_hints(section, include_extras=True)
    for key, field in fields.items():
        where = prefix + key
        row = _row_of(field)
        if row is not None:
            _walk_rows(row, table.get(key, []), where, base, problems)
        elif key not in table and field.required:
            if key not in meant:
                problems.append((where, f"missing; {_expected(field)}"))
        elif isinstance(field.type, shapes.StructType):
            value = table.setdefault(key, {})
            if isinstance(value, dict):
                _walk(field.type.cls, value, f"{where}.", base, problems)
            else:
                problems.append((where, f"not a table; write [{where}] on a line of its own, its keys below it"))
        elif key in table and (problem := _refusal(field, hints[key], table[key])):
            problems.append((where, problem))
        elif (named := table.get(key, field.default)) and _names_file(field, named):
            table[key] = str(base / named)


def _walk_rows(row: type[Struct], rows: object, where: str, base: Path, problems: list[Problem]) -> None:
    """A list of tables: each is checked under its own number, counted from 0."""
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        problems.append((where, f"not a list of tables; write [[{where}]] on a line of its own, its keys below it"))
        return
    for number, each in enumerate(rows):
        _walk(row, each, f"{where}[{number}].", base, problems)


def _row_of(field: shapes.Field) -> type[Struct] | None:
    """The table that an option lists; None: it is no list of tables."""
    if isinstance(field.type, shapes.VarTupleType) and isinstance(field.type.item_type, shapes.StructType):
        return field.type.item_type.cls
    return None


def _names_file(field: shapes.Field, named: Any) -> bool:
    return bool(_extra(field)["path"] or (_extra(field)["spec"] and is_path(named)))


def _refusal(field: shapes.Field, hint: Any, value: object) -> str:
    """Why the option does not take this value; "" if it does."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        shown = "this value" if _extra(field)["secret"] else _shown(value)
        return f"{shown} is not accepted; {_expected(field)}"
    return ""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 40 and value.isprintable() else f"a text of {len(value)} characters"
    if isinstance(value, int | float):
        return str(value)
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else "a date or time"


def _cross_check(config: Config) -> Iterator[Problem]:
    listen, observe = config.listen, config.observe
    if listen.port == observe.port != 0 and (listen.host == observe.host or "0.0.0.0" in (listen.host, observe.host)):  # noqa: S104
        yield "observe.port", f"{observe.port} is also listen.port; give each its own port"
    if config.worker.count > 1 and not observe.port:
        yield "observe.port", "0 takes any free port; several workers need a fixed one, 1 to 65535"
    if config.worker.count > 1 and observe.port + config.worker.count > 65_535:
        yield "observe.port", f"{observe.port} leaves no room for {config.worker.count} workers behind it"
    if config.worker.count > 1 and observe.port < config.listen.port <= observe.port + config.worker.count:
        yield "listen.port", f"{config.listen.port} is one of the workers' health ports, which follow observe.port"
    for key, peer in (("unionpay", config.unionpay), ("marketing", config.marketing)):
        for own in ("listen", "observe"):
            mine = getattr(config, own)
            if (peer.host, peer.port) == (mine.host, mine.port):
                yield f"{key}.port", f"{peer.port} is also {own}.port on {peer.host}; the switch would call itself"
    if (config.unionpay.host, config.unionpay.port) == (config.marketing.host, config.marketing.port):
        yield "marketing.port", f"{config.marketing.port} is also unionpay.port on the same host; one of them is wrong"
    if config.unionpay.name == config.marketing.name:
        yield "marketing.name", f'"{config.marketing.name}" is also unionpay.name; give each link its own name'

    yield from _serial_lines(config)
    yield from _specs(config.marketing)
    yield from _tls_files("listen.tls", config.listen.tls, needed=("certificate", "key", "client_ca"))
    for link, tls in (("unionpay", config.unionpay.tls), ("marketing", config.marketing.tls)):
        yield from _tls_files(f"{link}.tls", tls, needed=("ca",))
        if bool(tls.certificate) != bool(tls.key):
            missing = "key" if tls.certificate else "certificate"
            yield f"{link}.tls.{missing}", "missing; a certificate and its key come together"

    # One folder's backup, or its cleaning, must not take another's content along; above all not the LMK.
    places = {
        "database.data_dir": Path(config.database.data_dir),
        "security.vault_dir": Path(config.security.vault_dir),
        "security.lmk_file": Path(config.security.lmk_file),
    }
    for inner, inner_path in places.items():
        for outer, outer_path in places.items():
            if inner_path == outer_path and inner < outer:
                yield outer, f"the same path as {inner}; give each its own"
            elif inner_path != outer_path and outer_path in inner_path.parents:
                yield inner, f"lies inside {outer}; give each its own place"


def _serial_lines(config: Config) -> Iterator[Problem]:
    if len(config.serial) > limits.SERIAL_LINES_MAX:
        yield "serial", f"{len(config.serial)} lines; one switch serves {limits.SERIAL_LINES_MAX} at most"
    seen: dict[tuple[str, str], str] = {}
    for number, line in enumerate(config.serial):
        where = f"serial[{number}]"
        if b"\x02" in bytes.fromhex(line.heartbeat):
            yield f"{where}.heartbeat", "has a byte 02, with which frames begin; set another heartbeat in the DTU"
        if len({address.lower() for address in line.kiosks}) < len(line.kiosks):
            yield f"{where}.kiosks", "names an address twice, in small and capital letters"
        told = [("name", line.name), ("device", line.device)]
        told += [("kiosks", terminal) for terminal in line.kiosks.values()]
        for key, value in told:
            earlier = seen.setdefault((key, value), f"{where}.{key}")
            if earlier != f"{where}.{key}" or (key == "kiosks" and list(line.kiosks.values()).count(value) > 1):
                yield f"{where}.{key}", f'"{value}" is also in {earlier}; it can be at one place only'
                break


def _specs(marketing: MarketingConfig) -> Iterator[Problem]:
    """Record specs that cannot be read or spoken, and a profile that promises what the spec has no words for."""
    profile, upgrade = marketing.profile, marketing.upgrade
    try:
        base = make_dialect(marketing.spec, marketing.channel, lambda: 0).spec
    except ConfigError as error:
        yield "marketing.spec", error.detail
        return
    for key, said, known in (
        ("fence", profile.fence, base.fences),
        ("inquiry", profile.inquiry, base.inquiries),
    ):
        if said not in known:
            choices = ", ".join(f'"{each}"' for each in known)
            yield f"marketing.profile.{key}", f'"{said}" is nothing that {base.title} can do; one of {choices}'
    if bool(upgrade.spec) != bool(upgrade.at):
        missing = "at" if upgrade.spec else "spec"
        yield f"marketing.upgrade.{missing}", "missing; a spec and its instant come together, or neither"
    if not upgrade.spec or not upgrade.at:
        return
    try:
        at_us = read_at(upgrade.at)
    except ValueError as error:
        yield "marketing.upgrade.at", f'no instant: {error}; one as "2026-12-01T00:00:00+08:00"'
        return
    try:
        newer = make_dialect(upgrade.spec, marketing.channel, lambda: 0).spec
    except ConfigError as error:
        yield "marketing.upgrade.spec", error.detail
        return
    if problem := check_upgrade(base, newer, at_us):
        yield "marketing.upgrade", problem


def upgrade_of(marketing: MarketingConfig) -> Upgrade | None:
    """The upgrade that a checked configuration asks for."""
    upgrade = marketing.upgrade
    return Upgrade(upgrade.spec, read_at(upgrade.at)) if upgrade.spec else None


def _tls_files(key: str, tls: ListenTls | UpstreamTls, *, needed: tuple[str, ...]) -> Iterator[Problem]:
    """Files that TLS cannot do without, and files named where TLS is off: somebody believes that it is on."""
    named = [name for name in tls.__struct_fields__ if name not in ("enabled", "server_name") and getattr(tls, name)]
    if tls.enabled:
        for name in needed:
            if name not in named:
                yield f"{key}.{name}", "missing; TLS needs it: the path of a PEM file"
    elif named:
        yield f"{key}.enabled", f"false, but {key}.{named[0]} is set; write enabled = true, or leave the files out"


def _production(config: Config, tree: dict[str, Any]) -> Iterator[Problem]:
    if config.time_profile != "standard":
        yield "time_profile", '"short" reverses purchases that a real host still approves; production needs "standard"'
    if not config.database.dsn:
        yield "database.dsn", "empty; production needs its own PostgreSQL server: postgresql://user@host/name"
    elif not _safe_dsn(config.database.dsn):
        yield (
            "database.dsn",
            "could cross the network unencrypted, or to whoever answers; production needs the server's name and "
            "?sslmode=verify-full&sslrootcert=/path/of/its/ca.pem, or ?host=/folder/of/its/socket on this machine",
        )
    if not config.listen.tls.enabled and config.listen.host not in LOCAL_HOSTS:
        # On loopback there is no network to protect: a TLS proxy or a concentrator on this machine may be in front.
        yield (
            "listen.tls.enabled",
            f"false, and other machines reach {config.listen.host}; production needs TLS towards kiosks: set "
            "certificate, key and client_ca, or listen on 127.0.0.1 behind a proxy of your own",
        )
    for key, port in (("listen.port", config.listen.port), ("observe.port", config.observe.port)):
        if port == 0:
            yield key, "0 takes any free port; production needs a fixed one, 1 to 65535"
    for field in _fields(LimitsConfig):
        if not getattr(config.listen.limits, field.encode_name):
            yield f"listen.limits.{field.encode_name}", f"0 is without limit; production needs {_expected(field)}"
    if config.security.back_end == "software":
        yield (
            "security.back_end",
            '"software" holds keys in memory; production needs a hardware module: "pkcs11"',
        )
    secrets = {"security.lmk_file": config.security.lmk_file, "listen.tls.key": config.listen.tls.key}
    secrets |= {"unionpay.tls.key": config.unionpay.tls.key, "marketing.tls.key": config.marketing.tls.key}
    for key, name in secrets.items():
        secret = Path(name)
        if name and secret.is_file() and secret.stat().st_mode & 0o077:
            yield key, f"other users may read it; run: chmod 600 {secret}"
    for link, profile in (("unionpay", UnionpayProfile), ("marketing", MarketingProfile)):
        said = tree[link].get("profile", {})
        for field in _fields(profile):
            if field.encode_name not in said:
                yield (
                    f"{link}.profile.{field.encode_name}",
                    f"missing; production needs every behaviour of a host said: {_expected(field)}",
                )


def _safe_dsn(dsn: str) -> bool:
    """On this machine, or to a server that must prove its name; never what PGHOST or a service file says instead."""
    try:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query)
        # Several servers may be named: name:port,name:port. urlsplit itself would see the first one only.
        named = [*parts.netloc.rpartition("@")[2].split(","), *",".join(query.get("host", [])).split(",")]
        hosts = {urlsplit(f"//{name}").hostname if name[:1] not in ("", "/") else name for name in named} - {"", None}
    except ValueError:
        return False
    if not hosts or "service" in query:
        return False
    local = all(host in LOCAL_HOSTS or str(host).startswith("/") for host in hosts)
    return local or query.get("sslmode", [])[-1:] == ["verify-full"]


# ---------------------------------------------------------------------------------------------------- describing
@dataclass(frozen=True, slots=True)
class Option:
    """One option as people see it."""

    key: str  # "listen.idle_s"
    help_text: str
    expected: str  # "a number of seconds, 10 to 86400"
    unit: str  # "" for what is not a number
    numeric: bool
    required: bool
    default: object  # None when required
    example: object
    secret: bool


UNIT_SUFFIXES: Final = {"s": "seconds", "ms": "milliseconds", "bytes": "bytes", "count": "items", "fen": "fen"}


def options(section: type[Struct] = Config, prefix: str = "") -> Iterator[Option]:
    """Every option, in the order of the file; a table's own options come before the tables inside it.

    Those of a list of tables are not among them: ``options(SerialConfig, "serial.")``.
    """
    fields = _fields(section)
    for field in fields:
        if isinstance(field.type, shapes.StructType) or _row_of(field) is not None:
            continue
        extra = _extra(field)
        default = None if field.required else field.default
        yield Option(
            key=prefix + field.encode_name,
            help_text=_help(field),
            expected=_expected(field),
            unit=_unit(field),
            numeric=isinstance(_bare(field.type), shapes.IntType | shapes.FloatType),
            required=field.required,
            default=default,
            example=extra["example"] if field.required else default,
            secret=extra["secret"],
        )
    for field in fields:
        if isinstance(field.type, shapes.StructType):
            yield from options(field.type.cls, f"{prefix}{field.encode_name}.")


def document() -> str:
    """The example file: every option with its help, what it takes and its default."""
    lines = [
        "# Every option of the switch. Generated from switch/config.py: change it there.",
        "# A relative path counts from the folder of this file. Check a file with: gridswitch check-config FILE",
    ]
    table = ""
    for one in options():
        parent, _, name = one.key.rpartition(".")
        if parent != table:
            table = parent
            lines += ["", f"[{table}]", f"# {_heading(table)}"]
        lines += [*_facts(one), f"{name} = {_toml(one.example)}"]
    for field in _fields(Config):
        row = _row_of(field)
        if row is not None:  # an example of a line is not a line
            lines += ["", f"#[[{field.encode_name}]]", f"# {(row.__doc__ or '').strip()}"]
            for one in options(row):
                lines += [*_facts(one), f"#{one.key} = {_toml(one.example)}"]
    return "\n".join(lines) + "\n"


def _facts(one: Option) -> list[str]:
    told = "required" if one.required else f"default {_toml(one.default)}"
    return ["", f"# {one.help_text}", f"# {_first_upper(one.expected)}; {told}."]


def _heading(table: str) -> str:
    section: type[Struct] = Config
    for key in table.split("."):
        field = next(field for field in _fields(section) if field.encode_name == key)
        assert isinstance(field.type, shapes.StructType)
        section = field.type.cls
    return (section.__doc__ or "").strip()


@cache  # of our own few sections
def _fields(section: type[Struct]) -> tuple[shapes.Field, ...]:
    shape = shapes.type_info(section)
    assert isinstance(shape, shapes.StructType)
    return shape.fields


def _bare(shape: shapes.Type) -> shapes.Type:
    return shape.type if isinstance(shape, shapes.Metadata) else shape


def _extra(field: shapes.Field) -> dict[str, Any]:
    assert isinstance(field.type, shapes.Metadata) and field.type.extra is not None, field.name
    return field.type.extra


def _help(field: shapes.Field) -> str:
    assert isinstance(field.type, shapes.Metadata)
    return str((field.type.extra_json_schema or {}).get("description", ""))


def _unit(field: shapes.Field) -> str:
    return str(_extra(field)["unit"]) or UNIT_SUFFIXES.get(field.encode_name.rpartition("_")[2], "")


def _expected(field: shapes.Field) -> str:
    """What the option takes, in words, e.g. ``a TCP port, 1 to 65535``."""
    shape = _bare(field.type)
    if isinstance(shape, shapes.StructType):
        needed = [inner.encode_name for inner in shape.fields if inner.required]
        return f"a table [{field.encode_name}] with {', '.join(needed)}"
    if isinstance(shape, shapes.LiteralType):
        return f"one of {', '.join(_toml(value) for value in shape.values)}"
    if isinstance(shape, shapes.BoolType):
        return "true or false"
    if isinstance(shape, shapes.IntType | shapes.FloatType):
        unit = _unit(field)
        kind = "a whole number" if isinstance(shape, shapes.IntType) else "a number"
        what = "a TCP port" if unit == "TCP port" else f"{kind} of {unit}"
        return f"{what}, {shape.ge} to {shape.le}"
    extra = _extra(field)
    if extra["shape"]:
        return str(extra["shape"])
    assert isinstance(shape, shapes.StrType)
    if extra["path"]:
        return "a path, not empty"
    return "a text in double quotes" if not shape.max_length else f"a text, 1 to {shape.max_length} characters"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    assert isinstance(value, int | float), value
    return str(value)


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
