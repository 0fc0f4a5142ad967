"""Who may speak: certificates, enrolment, renewal. Every refusal by its name."""

from __future__ import annotations

import asyncio
import datetime
import http.client
import json
import ssl
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from admin.auth.audit import verify
from admin.devices.trust import enrolment
from admin.errors import NotFoundError, StateError

from .conftest import EVERYWHERE, Bench, Pair, beat


async def _code(bench: Bench, kiosk: int, operator: int = 1) -> str:
    async with bench.database.transaction() as connection:
        return await enrolment.issue_code(connection, EVERYWHERE, kiosk, operator)


async def _enrol(bench: Bench, pair: Pair, code: str, serial: str = "SN-K-1", **more: Any) -> Any:
    body = {"serial_number": serial, "code": code, "csr": pair.request(), **more}
    return await bench.call("POST", "enroll", body)


async def _approve(bench: Bench, certificate: int, operator: int) -> None:
    async with bench.database.transaction() as connection:
        await enrolment.approve(connection, bench.authority, EVERYWHERE, certificate, operator)


async def _audits(bench: Bench) -> list[tuple[str, str, str]]:
    rows = await bench.fetch("SELECT action, result, reason FROM audit_log ORDER BY seq")
    return [(row["action"], row["result"], row["reason"]) for row in rows]


def test_a_kiosk_gets_its_certificate_after_a_second_person_compared_the_fingerprint(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk = await b.bare_kiosk()
            pair = b.pair()
            asked = await _enrol(b, pair, await _code(b, kiosk))
            assert (asked.status, asked.body["state"], asked.body["kiosk"]) == (200, "pending", "K-1")
            assert await b.value("SELECT state FROM kiosk") == "pending"
            assert await b.value("SELECT actor FROM kiosk_change WHERE to_state = 'pending'") == "kiosk:K-1"
            spki = pair.key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            digest = hashes.Hash(hashes.SHA256())
            digest.update(spki)
            shown = asked.body["fingerprint"]
            assert shown.replace(" ", "") == digest.finalize().hex().upper()[:32] and shown.count(" ") == 7

            token = {"token": asked.body["token"]}
            assert (await b.call("POST", "enroll/poll", token)).body == {"state": "pending"}
            certificate = await b.value("SELECT id FROM kiosk_certificate")
            with pytest.raises(StateError, match="same_person"):
                await _approve(b, certificate, 1)
            await _approve(b, certificate, 2)
            assert await b.value("SELECT state FROM kiosk") == "commissioning"
            with pytest.raises(StateError, match="request_gone"):
                await _approve(b, certificate, 2)

            answer = await b.call("POST", "enroll/poll", token)
            assert answer.body["state"] == "active"
            pair.certificate = answer.body["certificate"]
            (issued,) = x509.load_pem_x509_certificates(pair.certificate.encode())
            days = (issued.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days
            assert days in (89, 90)
            assert (await b.call("POST", "beat", beat(1), pair=pair)).status == 200
            assert await _audits(b) == [("kiosk.enrol", "ok", "")]

    asyncio.run(story())


def test_each_wrong_enrolment_is_refused_and_audited(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk = await b.bare_kiosk()
            other, other_pair = await b.kiosk("K-2")
            retired = await b.bare_kiosk("K-3")
            code = await _code(b, kiosk)
            late_code = await _code(b, retired)
            await b.value("UPDATE kiosk SET state = 'retired' WHERE id = $1", retired)
            pair = b.pair()

            for why, asking in (
                ("serial", {"pair": pair, "code": code, "serial": "SN-NOBODY"}),
                ("code", {"pair": pair, "code": "AAAA-AAAA-AAAA-AAAA"}),
                ("code", {"pair": pair, "code": code, "serial": "SN-K-2"}),
                ("retired", {"pair": pair, "code": late_code, "serial": "SN-K-3"}),
                ("request", {"pair": pair, "code": code, "csr": "no request"}),
                ("request", {"pair": pair, "code": code, "csr": _rsa_request()}),
                ("request", {"pair": pair, "code": code, "csr": _tampered(pair)}),
                ("key", {"pair": other_pair, "code": code}),
            ):
                answer = await _enrol(b, **asking)
                assert (answer.status, answer.body["code"]) == (403, "E_ENROL"), why
                assert (await _audits(b))[-1] == ("kiosk.enrol", "denied", why)
            unknown, wrong = await _enrol(b, pair, code, serial="SN-NOBODY"), await _enrol(b, pair, "AAAA")
            assert unknown.body == wrong.body, "an answer tells which serial numbers there are"

            # What was refused has not used up the code.
            assert (await _enrol(b, pair, code.lower())).status == 200
            assert (await _enrol(b, pair, code)).body["code"] == "E_ENROL"
            assert (await _audits(b))[-1] == ("kiosk.enrol", "denied", "code_used")
            expired = await _code(b, other)
            await b.value(
                "UPDATE enrolment_code SET issued_at = now() - interval '25 hours',"
                " expires_at = now() - interval '1 hour' WHERE kiosk_id = $1",
                other,
            )
            assert (await _enrol(b, b.pair(), expired, serial="SN-K-2")).status == 403
            assert (await _audits(b))[-1] == ("kiosk.enrol", "denied", "code_expired")
            async with b.database.connection() as connection:
                assert (await verify(connection)).wrong is None

    asyncio.run(story())


def _rsa_request() -> str:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "k")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _tampered(pair: Pair) -> str:
    """Signed by another key than the one inside: somebody else's public key, which this machine does not hold."""
    mine, theirs = (x509.load_pem_x509_csr(each.request().encode()) for each in (pair, Pair(pair.folder)))
    spki = [
        each.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for each in (mine, theirs)
    ]
    der = mine.public_bytes(serialization.Encoding.DER).replace(spki[0], spki[1])
    assert spki[1] in der
    return x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM).decode()


def test_a_new_code_ends_the_older_one(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk = await b.bare_kiosk()
            older = await _code(b, kiosk)
            await _code(b, kiosk)
            assert (await _enrol(b, b.pair(), older)).status == 403
            with pytest.raises(NotFoundError):
                async with b.database.transaction() as connection:
                    await enrolment.issue_code(connection, ["/elsewhere/%"], kiosk, 1)

    asyncio.run(story())


def test_a_second_key_is_told_as_a_suspicion_and_ends_the_first_when_it_is_approved(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk, first = await b.kiosk()
            second = b.pair()
            asked = await _enrol(b, second, await _code(b, kiosk))
            assert asked.status == 200
            suspicion = await b.fetch("SELECT type, severity, detail FROM kiosk_event")
            assert [(row["type"], row["detail"]["how"]) for row in suspicion] == [("clone_suspected", "second_key")]
            assert (await b.call("POST", "beat", beat(1), pair=first)).status == 200
            await _approve(b, await b.value("SELECT id FROM kiosk_certificate WHERE state = 'pending'"), 2)
            answer = await b.call("POST", "beat", beat(2), pair=first)
            assert (answer.status, answer.body["code"]) == (403, "E_SUPERSEDED")

    asyncio.run(story())


def test_without_a_certificate_nothing_but_enrolment_answers(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            for method, path in (
                *(("POST", "beat"), ("POST", "events"), ("POST", "sessions"), ("POST", "cert/renew")),
                *(("POST", "commands/1"), ("POST", "uploads"), ("PUT", f"uploads/{'0' * 32}"), ("GET", "nothing")),
            ):
                answer = await b.call(method, path, {}, headers={"X-Client-Cert": "K-1"})
                assert (answer.status, answer.body["code"]) == (401, "E_CERTIFICATE"), path

    asyncio.run(story())


def test_keys_that_are_unknown_revoked_or_of_a_retired_kiosk_are_refused(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            retired, pair = await b.kiosk("K-2")
            assert (await b.call("POST", "beat", beat(1), pair=pair)).status == 200
            await b.value("UPDATE kiosk SET state = 'retired' WHERE id = $1", retired)
            answer = await b.call("POST", "beat", beat(2), pair=pair)
            assert (answer.status, answer.body["code"], answer.body["commands"]) == (403, "E_RETIRED", [])
            kiosk, pair = await b.kiosk()
            async with b.database.transaction() as connection:
                await enrolment.revoke(connection, EVERYWHERE, kiosk, 2, "stolen")
            answer = await b.call("POST", "beat", beat(3), pair=pair)
            assert (answer.status, answer.body["code"]) == (403, "E_REVOKED")
            # The same key does not come back by another enrolment.
            assert (await _enrol(b, pair, await _code(b, kiosk))).status == 403
            unknown = b.pair()
            issued = b.authority.issue(unknown.key.public_key(), "K-1", datetime.datetime.now(datetime.UTC))
            unknown.certificate = _pem(issued.der)
            answer = await b.call("POST", "beat", beat(4), pair=unknown)
            assert (answer.status, answer.body["code"]) == (401, "E_UNKNOWN")

    asyncio.run(story())


def _pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()


def test_certificates_of_another_ca_and_expired_ones_do_not_pass_tls(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()
            foreign = b.pair()
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gridswitch device CA")])
            now = datetime.datetime.now(datetime.UTC)
            foreign.certificate = (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(name)
                .public_key(pair.key.public_key())  # the right key, which is not a secret
                .serial_number(1)
                .not_valid_before(now)
                .not_valid_after(now + datetime.timedelta(days=1))
                .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
                .public_bytes(serialization.Encoding.PEM)
                .decode()
            )
            foreign.key = pair.key
            past = b.pair()
            then = now - datetime.timedelta(days=91)
            past.certificate = _pem(b.authority.issue(past.key.public_key(), "K-1", then).der)
            for wrong in (foreign, past):
                with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                    await b.call("POST", "beat", beat(1), pair=wrong)
            assert (await b.call("POST", "beat", beat(1), pair=pair)).status == 200

    asyncio.run(story())


def test_a_kiosk_cannot_pose_as_the_service(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            _, pair = await b.kiosk()
            posing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            posing.load_cert_chain(pair.file())
            server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=posing)
            context = b.context()
            context.check_hostname = False
            async with server:
                port = server.sockets[0].getsockname()[1]
                with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
                    await asyncio.open_connection("127.0.0.1", port, ssl=context)

    asyncio.run(story())


def test_renewal_keeps_the_key_and_waits_for_its_day(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            kiosk, pair = await b.kiosk()
            early = await b.call("POST", "cert/renew", {"csr": pair.request()}, pair=pair)
            assert (early.status, early.body["code"]) == (409, "E_RENEW_EARLY")
            await b.value("UPDATE kiosk_certificate SET not_after = now() + interval '29 days'")
            other = await b.call("POST", "cert/renew", {"csr": b.pair().request()}, pair=pair)
            assert (other.status, other.body["code"]) == (403, "E_ENROL")
            assert await b.value("SELECT detail ->> 'how' FROM kiosk_event WHERE kiosk_id = $1", kiosk) == "second_key"
            renewed = await b.call("POST", "cert/renew", {"csr": pair.request()}, pair=pair)
            assert renewed.status == 200
            # Had that answer been lost, the older certificate of the same key would still do.
            assert (await b.call("POST", "beat", beat(1), pair=pair)).status == 200
            pair.certificate = renewed.body["certificate"]
            assert (await b.call("POST", "beat", beat(2), pair=pair)).status == 200
            assert await _audits(b) == [("kiosk.renew", "denied", "key"), ("kiosk.renew", "ok", "")]

    asyncio.run(story())


def test_an_address_that_tries_codes_is_slowed_down(bench: Any) -> None:
    async def story() -> None:
        async with bench() as b:
            await b.bare_kiosk()
            body = {"serial_number": "SN-K-1", "code": "A", "csr": "x"}
            answers = [await b.call("POST", "enroll", body, source="127.0.0.9") for _ in range(40)]
            slowed = [answer for answer in answers if answer.status == 429]
            assert slowed and slowed[0].body["code"] == "E_RATE" and int(slowed[0].headers["retry-after"]) >= 1
            assert (await b.call("POST", "enroll", body, source="127.0.0.10")).status == 403

    asyncio.run(story())


def test_a_connection_does_not_outlive_its_certificate(bench: Any) -> None:
    async def story() -> None:
        ahead_s = 0.0
        async with bench(wall=lambda: time.time() + ahead_s) as b:
            _, pair = await b.kiosk()
            reader, writer = await asyncio.open_connection("127.0.0.1", b.listener.port, ssl=b.context(pair))

            async def say(seq: int) -> bytes:
                body = json.dumps(beat(seq)).encode()
                head = f"POST /agent/v1/beat HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                line = await asyncio.wait_for(reader.readuntil(b"}"), 60)
                return line.split(b"\r\n")[0]

            assert b"200" in await say(1)
            ahead_s = 89 * 86400.0
            assert b"200" in await say(2)
            ahead_s = 91 * 86400.0
            assert b"401" in await say(3)
            writer.close()

    asyncio.run(story())
