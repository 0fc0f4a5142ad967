"""Development certificates: marked, short-lived, private, and never over something that is there."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from switch.cli import main
from switch.errors import StartError
from switch.net.tls import client_context, server_context
from switch.ops.certs import LIFE_DAYS, ORGANIZATION, DevelopmentCa, make_development_certificates


def test_every_certificate_is_marked_short_lived_and_its_key_private(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    made = make_development_certificates(folder, ["10000001", "GS000002"]).made
    assert sorted(path.relative_to(folder).as_posix() for path in made) == [
        *("ca.pem", "database.pem", "server.pem", "switch.pem"),
        *("terminals/10000001.pem", "terminals/GS000002.pem"),
    ]
    for path in made:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        (organization,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        assert organization.value == ORGANIZATION and "DEVELOPMENT ONLY" in ORGANIZATION
        assert certificate.not_valid_after_utc <= datetime.now(UTC) + timedelta(days=LIFE_DAYS)
        assert stat.S_IMODE(path.with_suffix(".key").stat().st_mode) == 0o600
    server = str(folder / "server.pem")
    server_context(server, str(folder / "server.key"), str(folder / "ca.pem"))
    client_context(str(folder / "ca.pem"), str(folder / "switch.pem"), str(folder / "switch.key"))
    names = x509.load_pem_x509_certificate(Path(server).read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(each) for each in names.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_nothing_is_overwritten_and_what_is_missing_is_made(tmp_path: Path) -> None:
    make_development_certificates(tmp_path, ["10000001"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = make_development_certificates(tmp_path, ["10000001", "10000002"])
    assert again.made == [tmp_path / "terminals/10000002.pem"] and len(again.kept) == 5
    assert all(path.read_bytes() == data for path, data in before.items())
    for name in ("server.pem", "server.key"):
        (tmp_path / name).unlink()
    assert make_development_certificates(tmp_path, []).made == [tmp_path / "server.pem"]
    assert (tmp_path / "server.pem").read_bytes() != before[tmp_path / "server.pem"]


def test_half_a_pair_and_a_strange_ca_are_refused(tmp_path: Path) -> None:
    make_development_certificates(tmp_path / "half", [])
    (tmp_path / "half/server.key").unlink()
    with pytest.raises(StartError, match=r"server.pem: is there, but not server.key; remove it"):
        make_development_certificates(tmp_path / "half", [])
    make_development_certificates(tmp_path / "strange", ["10000001"])
    for suffix in ("pem", "key"):
        (tmp_path / f"strange/switch.{suffix}").write_bytes(b"mine")
        (tmp_path / f"strange/ca.{suffix}").write_bytes(b"no certificate")
    with pytest.raises(StartError, match=r"ca.pem: cannot be read"):
        make_development_certificates(tmp_path / "strange", [])
    assert (tmp_path / "strange/switch.key").read_bytes() == b"mine"
    expired = DevelopmentCa(tmp_path / "old")
    past = datetime.now(UTC) - timedelta(days=1)
    for path in (tmp_path / "old").iterdir():
        path.unlink()
    expired._write(
        tmp_path / "old/ca.pem",
        expired._sign(expired._certificate.subject, expired._key, expired._certificate.subject, past, is_ca=True),
        expired._key,
    )
    with pytest.raises(StartError, match="has expired; remove"):
        DevelopmentCa(tmp_path / "old")


def test_the_command_says_what_it_made_and_how_to_use_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certs"
    assert main(["certs", "dev", "--dir", str(folder), "--terminal", "10000001", "--terminal", "10000002"]) == 0
    told = capsys.readouterr().out
    for text in (f"made: {folder}/server.pem", f'client_ca = "{folder}/ca.pem"', "[listen.tls]", "DEVELOPMENT ONLY"):
        assert text in told, told
    assert (folder / "terminals/10000002.key").exists()
    assert main(["certs", "dev", "--dir", str(tmp_path / "n"), "--terminals", "3"]) == 0
    assert len(list((tmp_path / "n/terminals").glob("*.pem"))) == 3
    assert main(["certs", "dev", "--dir", str(folder), "--terminal", "../../etc"]) == 2
    assert "--terminal ../../etc: expected 8 letters or digits" in capsys.readouterr().err


def test_a_sim_without_its_certificates_says_how_to_make_them(tmp_path: Path) -> None:
    from switch.sim.wire import host_tls, kiosk_tls

    remedy = f"make them: gridswitch certs dev --dir {tmp_path}"
    with pytest.raises(StartError, match=remedy):
        host_tls(tmp_path)
    with pytest.raises(StartError, match=remedy):
        kiosk_tls(tmp_path, "10000001")
    make_development_certificates(tmp_path, [])
    assert isinstance(host_tls(tmp_path), ssl.SSLContext)
