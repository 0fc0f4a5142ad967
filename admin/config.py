"""Every option of the admin service, from one TOML file; all problems at once, each with its key and what to do."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec import inspect as shapes

from admin.errors import StartError

EXAMPLE: Final = "admin/config.example.toml"


def option(help_text: str, *, example: object = None, path: bool = False, **bounds: Any) -> Meta:
    """Describe one option: what it does, and what a value looks like.

    Args:
        path: A file or folder; a relative one counts from the folder of the configuration file.
    """
    return Meta(description=help_text, extra={"example": example, "path": path}, **bounds)


_Port = Annotated[int, option("TCP port to listen on; 0 takes a free one and says which.", ge=0, le=65_535)]


class DatabaseConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PostgreSQL: the switch's own cluster. The service works there as role gridswitch_admin."""

    dsn: Annotated[
        str,
        option(
            "Its login is a member of gridswitch_admin; `gridswitch admin migrate` needs the schema's owner.",
            example="postgresql://gridswitch_admin_login@/gridswitch?host=/var/run/postgresql",
            min_length=1,
        ),
    ]


class ListenConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pages for operators. Away from this machine only over TLS: here, or by a proxy in front."""

    host: Annotated[str, option("Address to listen on.", min_length=1)] = "127.0.0.1"
    port: _Port = 8443
    certificate_file: Annotated[str, option("Certificate chain, PEM; empty: no TLS here.", path=True)] = ""
    key_file: Annotated[str, option("Its private key, PEM.", path=True)] = ""


class SwitchConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The switch that is watched. It does not notice whether anybody watches."""

    control: Annotated[
        tuple[str, ...],
        option("Control sockets of all instances of the switch.", example=("switch.control",), path=True),
    ] = ()
    observe: Annotated[
        tuple[str, ...],
        option("Health addresses of all instances.", example=("http://127.0.0.1:9464",)),
    ] = ()


class SecretsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service's own key: second factors at rest, hashes by which accounts are searched."""

    key_file: Annotated[
        str, option("Made at the first start, mode 0600. Keep a copy: without it everybody enrols anew.", path=True)
    ] = "admin.key"


class DeviceApiConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where kiosks report, over TLS with certificates of our own device CA. Off while certificate_file is empty."""

    host: Annotated[str, option("Address to listen on.", min_length=1)] = "127.0.0.1"
    port: _Port = 8444
    certificate_file: Annotated[
        str, option("The listener's certificate chain, PEM, of a CA that kiosks know; empty: no device API.", path=True)
    ] = ""
    key_file: Annotated[str, option("Its private key, PEM.", path=True)] = ""
    ca_file: Annotated[str, option("The device CA's certificate, made by `gridswitch admin device-ca`.", path=True)] = (
        "device-ca.pem"
    )
    key_store: Annotated[
        str,
        option(
            'Where the keys of CA and commands lie: "pkcs11", or "file", which production refuses.',
            pattern="^(pkcs11|file)$",
        ),
    ] = "pkcs11"
    key_folder: Annotated[str, option('Of key_store = "file": a folder for both keys.', path=True)] = "device-keys"
    pkcs11_library: Annotated[str, option("The module's library.", example="/usr/lib/softhsm/libsofthsm2.so")] = ""
    pkcs11_label: Annotated[str, option("Label of the token.")] = "gridswitch"
    pkcs11_pin_file: Annotated[str, option("A file with its PIN, mode 0600.", path=True)] = ""
    beat_s: Annotated[
        float,
        option(
            "Seconds between a kiosk's beats; below 60 for trials. After three minutes without one it is lost.",
            ge=1,
            le=120,
        ),
    ] = 60.0
    upload_folder: Annotated[str, option("Logs and journals that kiosks send; up to 64 MiB each.", path=True)] = (
        "uploads"
    )


class WatchConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who watches the service itself, and where its audit log is anchored."""

    dead_man_file: Annotated[
        str,
        option("Touched every minute while all loops are well; empty: not. Something else must look at it.", path=True),
    ] = ""
    dead_man_url: Annotated[
        str,
        option(
            "Fetched every minute while all loops are well; a service there that hears nothing raises the alarm.",
            example="https://watch.example/ping/gridswitch",
            pattern="^(https?://.+)?$",
        ),
    ] = ""
    anchor_file: Annotated[
        str,
        option(
            "The audit log's last link of each day is appended here: on another machine, or a medium written once.",
            path=True,
        ),
    ] = ""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    database: DatabaseConfig
    environment: Annotated[
        str,
        option('"production" or "development"; the latter allows keys in files.', pattern="^(production|development)$"),
    ] = "production"
    listen: ListenConfig = ListenConfig()
    switch: SwitchConfig = SwitchConfig()
    secrets: SecretsConfig = SecretsConfig()
    device_api: DeviceApiConfig = DeviceApiConfig()
    watch: WatchConfig = WatchConfig()


def load(path: str | Path) -> Config:
    """Read and check; paths come back absolute. Raises StartError with every problem, one a line."""
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartError(f"{path}: {(error.strerror or str(error)).lower()} [config]") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartError(f"{path}: no TOML: {error} [config]") from error
    problems: list[str] = []
    values = _section(Config, tree, "", path.resolve().parent, problems)
    if problems:
        raise StartError("\n".join(f"{path.name}: {each} [config]" for each in problems))
    config = msgspec.convert(values, Config)
    listen = config.listen
    if bool(listen.certificate_file) != bool(listen.key_file):
        raise StartError(f"{path.name}: listen: certificate_file and key_file go together [config]")
    return config


def _section(
    section: type[Struct], tree: dict[str, Any], prefix: str, base: Path, problems: list[str]
) -> dict[str, Any]:
    fields = {field.encode_name: field for field in _fields(section)}
    problems += [
        f"{prefix}{name}: unknown key; known: {', '.join(sorted(fields))}" for name in sorted(set(tree) - set(fields))
    ]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in tree and field.required:
            problems.append(f"{prefix}{name}: missing; {_told(field) or f'a table [{name}]'}")
            continue
        value = tree.get(name, {} if isinstance(field.type, shapes.StructType) else field.default)
        if isinstance(field.type, shapes.StructType):
            if isinstance(value, dict):
                values[name] = _section(field.type.cls, value, f"{prefix}{name}.", base, problems)
            else:
                problems.append(f"{prefix}{name}: expected a table [{name}]")
            continue
        try:
            value = msgspec.convert(value, _hints(section)[name])
        except msgspec.ValidationError as error:
            problems.append(f"{prefix}{name}: {str(error)[:1].lower()}{str(error)[1:]}; {_told(field)}")
            continue
        values[name] = _absolute(value, base) if _extra(field).get("path") else value
    return values


def _absolute(value: Any, base: Path) -> Any:
    if isinstance(value, str):
        return str(base / value) if value else ""
    return tuple(str(base / each) for each in value)


def document() -> str:
    """The example file: every option with its help and its default."""
    lines = [
        "# Every option of the admin service. Generated from admin/config.py: change it there.",
        "# A relative path counts from the folder of this file.",
    ]
    tables: list[str] = []
    for field in _fields(Config):
        if isinstance(field.type, shapes.StructType):
            tables += ["", f"[{field.encode_name}]", f"# {(field.type.cls.__doc__ or '').strip()}"]
            for inner in _fields(field.type.cls):
                tables += ["", f"# {_told(inner)}", f"{inner.encode_name} = {_toml(_shown(inner))}"]
        else:
            lines += ["", f"# {_told(field)}", f"{field.encode_name} = {_toml(_shown(field))}"]
    return "\n".join(lines + tables) + "\n"


def _shown(field: shapes.Field) -> object:
    return _extra(field).get("example") or field.default


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return msgspec.json.encode(value).decode()


def _fields(section: type[Struct]) -> tuple[shapes.Field, ...]:
    shape = shapes.type_info(section)
    assert isinstance(shape, shapes.StructType)
    return shape.fields


def _hints(section: type[Struct]) -> dict[str, Any]:
    return get_type_hints(section, include_extras=True)


def _extra(field: shapes.Field) -> dict[str, Any]:
    return (field.type.extra or {}) if isinstance(field.type, shapes.Metadata) else {}


def _told(field: shapes.Field) -> str:
    schema = field.type.extra_json_schema if isinstance(field.type, shapes.Metadata) else None
    return str((schema or {}).get("description", ""))
