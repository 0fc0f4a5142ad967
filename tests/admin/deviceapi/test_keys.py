"""Keys of CA and commands: one suite for files and for a PKCS#11 token; production and what it refuses."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from admin.config import Config, DatabaseConfig, DeviceApiConfig
from admin.deviceapi.setup import make_device_ca, open_authority
from admin.devices.trust.authority import make_ca_certificate
from admin.devices.trust.keys import FileKeys, Keys, TokenKeys, create_file_keys, create_token_keys
from admin.errors import StartError, UnavailableError

NOW = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)


def _config(folder: Path, environment: str = "development", **more: Any) -> Config:
    options: dict[str, Any] = {
        "certificate_file": str(folder / "listener.pem"),
        "key_file": str(folder / "listener.key"),
        "ca_file": str(folder / "ca.pem"),
        "key_store": "file",
        "key_folder": str(folder / "keys"),
    }
    device_api = DeviceApiConfig(**{**options, **more})
    return Config(database=DatabaseConfig(dsn="postgresql:///unused"), environment=environment, device_api=device_api)


@pytest.fixture(params=["file", pytest.param("token", marks=pytest.mark.hsm)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    if request.param == "file":
        return _config(tmp_path)
    token = request.getfixturevalue("tokens")["device"]
    _emptied(token)
    return _config(
        tmp_path,
        "production",
        key_store="pkcs11",
        pkcs11_library=token.pkcs11_library,
        pkcs11_label=token.pkcs11_label,
        pkcs11_pin_file=token.pkcs11_pin_file,
    )


def _emptied(token: Any) -> None:
    import pkcs11

    pin = Path(token.pkcs11_pin_file).read_text(encoding="ascii").strip()
    with (
        pkcs11.lib(token.pkcs11_library)
        .get_token(token_label=token.pkcs11_label)
        .open(rw=True, user_pin=pin) as session
    ):
        for each in list(session.get_objects()):
            each.destroy()


def test_certificates_and_commands_are_signed_and_verify(config: Config) -> None:
    made = make_device_ca(config, ["admin.example", "10.1.2.3"])
    assert len(made) == 3
    assert make_device_ca(config, ["admin.example"]) == [], "made again, it would lock every kiosk out"
    authority = open_authority(config)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue(key.public_key(), "K-1", NOW)
    certificate = x509.load_der_x509_certificate(issued.der)
    ca = x509.load_pem_x509_certificate(authority.ca_pem)
    certificate.verify_directly_issued_by(ca)
    ca.verify_directly_issued_by(ca)
    assert certificate.public_key() == key.public_key()
    assert issued.not_after - NOW == datetime.timedelta(days=90) and issued.not_before < NOW
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    listener = x509.load_pem_x509_certificate(Path(config.device_api.certificate_file).read_bytes())
    listener.verify_directly_issued_by(ca)
    names = listener.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["admin.example"]

    public = Ed25519PublicKey.from_public_bytes(authority.command_public)
    public.verify(authority.sign_command(b"a command"), b"a command")
    with pytest.raises(InvalidSignature):
        public.verify(authority.sign_command(b"a command"), b"another")
    again = open_authority(config)
    assert again.command_public == authority.command_public


def test_a_ca_of_other_keys_is_refused(config: Config, tmp_path: Path) -> None:
    make_device_ca(config, [])
    create_file_keys(tmp_path / "other")
    other = make_ca_certificate(FileKeys(tmp_path / "other"), "other", NOW)
    from cryptography.hazmat.primitives.serialization import Encoding

    Path(config.device_api.ca_file).write_bytes(other.public_bytes(Encoding.PEM))
    with pytest.raises(StartError, match="another key"):
        open_authority(config)


def test_production_refuses_key_files(tmp_path: Path) -> None:
    make_device_ca(_config(tmp_path), [])
    for act in (open_authority, lambda config: make_device_ca(config, [])):
        with pytest.raises(StartError, match="production"):
            act(_config(tmp_path, "production"))


def test_key_files_that_others_can_read_are_refused_and_never_overwritten(tmp_path: Path) -> None:
    create_file_keys(tmp_path / "keys")
    (tmp_path / "keys" / "device-ca.key").chmod(0o640)
    with pytest.raises(StartError, match="chmod 600"):
        FileKeys(tmp_path / "keys")
    with pytest.raises(StartError, match="not overwritten"):
        create_file_keys(tmp_path / "keys")
    with pytest.raises(StartError, match="missing"):
        FileKeys(tmp_path)


@pytest.mark.hsm
def test_keys_of_a_token_never_leave_it_and_are_never_overwritten(tokens: Any) -> None:
    token = tokens["device"]
    _emptied(token)
    where = (token.pkcs11_library, token.pkcs11_label, Path(token.pkcs11_pin_file))
    with pytest.raises(StartError, match="device-ca"):
        TokenKeys(*where)
    create_token_keys(*where)
    with pytest.raises(StartError, match="not overwritten"):
        create_token_keys(*where)
    keys: Keys = TokenKeys(*where)
    leaving: list[Callable[[], object]] = [
        keys.ca_key.private_numbers,
        lambda: keys.ca_key.private_bytes(None, None, None),  # type: ignore[arg-type]
    ]
    for act in leaving:
        with pytest.raises(NotImplementedError, match="does not leave"):
            act()
    wrong = Path(token.pkcs11_pin_file).with_name("wrong.pin")
    wrong.write_text("000000")
    with pytest.raises(StartError, match="PinIncorrect"):
        TokenKeys(token.pkcs11_library, token.pkcs11_label, wrong)
    _emptied(token)
    with pytest.raises(UnavailableError, match="device_keys"):
        keys.sign_command(b"the token was changed meanwhile")
