"""The software module behind its port: usages are kept apart, production is refused, nothing shows a key."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.errors import SecurityError
from switch.ports import Key, KeyUsage, SecurityModule
from switch.security import mac, workingkeys
from switch.security.engine import Family
from switch.security.lmk import derive
from switch.security.primitives import des, sm4
from switch.security.software import DEVELOPMENT_ENVIRONMENTS, SoftwareKey, SoftwareSecurityModule

LMK = bytes(range(100, 132))
TMK = bytes.fromhex("258FB0AB70D025CDB99DF2C4D302D646")
FIELD_62 = bytes.fromhex("46F161A743497B32EAC760DF5EA57DF5900ECCE3977731A7EA402DDF0000000000000000CFF1592A")
DATA = bytes(range(200))


class Once:
    """A callback that insists on being called exactly once, at once."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []

    def __call__(self, outcome: Any) -> None:
        self.outcomes.append(outcome)

    @property
    def outcome(self) -> Any:
        (outcome,) = self.outcomes
        return outcome


def call(method: Callable[..., None], *arguments: Any) -> Any:
    done = Once()
    method(*arguments, done)
    return done.outcome


def error(method: Callable[..., None], *arguments: Any) -> SecurityError:
    outcome = call(method, *arguments)
    assert isinstance(outcome, SecurityError)
    return outcome


@pytest.fixture
def module(tmp_path: Path) -> SoftwareSecurityModule:
    return SoftwareSecurityModule(LMK, tmp_path / "vault", "test")


def load(module: SoftwareSecurityModule, clear: bytes, usage: KeyUsage, family: Family = Family.DES) -> SoftwareKey:
    key = call(module.load_key, module.wrap_new(clear, usage, family)[0], usage)
    assert isinstance(key, SoftwareKey)
    return key


def test_it_is_a_security_module(module: SoftwareSecurityModule) -> None:
    port: SecurityModule = module
    assert port.name == "software"


# ------------------------------------------------------------------------------ stored keys
@pytest.mark.parametrize("usage", list(KeyUsage))
@pytest.mark.parametrize(("family", "size"), [(Family.DES, 8), (Family.DES, 16), (Family.SM4, 16)])
def test_a_stored_key_comes_back_with_usage_and_check_value(
    module: SoftwareSecurityModule, tmp_path: Path, usage: KeyUsage, family: Family, size: int
) -> None:
    clear = bytes(range(1, size + 1))
    wrapped, kcv = module.wrap_new(clear, usage, family)
    assert kcv == (sm4(clear) if family is Family.SM4 else des(clear)).check_value()
    again = SoftwareSecurityModule(LMK, tmp_path / "elsewhere", "test")
    for each in (module, again):
        key = call(each.load_key, wrapped, usage)
        assert (key.usage, key.kcv, key.family) == (usage, kcv, family)


@pytest.mark.parametrize("stored", list(KeyUsage))
@pytest.mark.parametrize("asked", list(KeyUsage))
def test_a_block_is_bound_to_its_usage(module: SoftwareSecurityModule, stored: KeyUsage, asked: KeyUsage) -> None:
    wrapped = call(module.generate, stored, Family.DES).wrapped
    outcome = call(module.load_key, wrapped, asked)
    if stored is asked:
        assert outcome.usage is asked
        return
    assert outcome.code == "key" and f"a {stored} key cannot be loaded as a {asked} key" in str(outcome)
    # Writing the other usage into the block does not help.
    letters = dict(zip(KeyUsage, (b"T", b"M", b"P", b"D", b"K"), strict=True))
    relabelled = wrapped[:1] + letters[asked] + wrapped[2:]
    assert "damaged" in str(error(module.load_key, relabelled, asked))


def test_any_flipped_bit_or_cut_of_a_block_fails(module: SoftwareSecurityModule) -> None:
    wrapped = call(module.generate, KeyUsage.MAC, Family.DES).wrapped
    for bit in range(len(wrapped) * 8):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        assert error(module.load_key, bytes(changed), KeyUsage.MAC).code == "key"
    for size in range(len(wrapped)):
        assert error(module.load_key, wrapped[:size], KeyUsage.MAC).code == "key"


def test_a_block_of_another_lmk_fails(module: SoftwareSecurityModule, tmp_path: Path) -> None:
    other = SoftwareSecurityModule(bytes(32), tmp_path, "test")
    wrapped = call(other.generate, KeyUsage.MAC, Family.DES).wrapped
    assert "another local master key" in str(error(module.load_key, wrapped, KeyUsage.MAC))


def test_generated_keys_differ_and_have_odd_parity(module: SoftwareSecurityModule) -> None:
    seen = set()
    for _ in range(20):
        stored = call(module.generate, KeyUsage.TMK, Family.DES)
        wrapped, kcv = stored.wrapped, stored.kcv
        key = call(module.load_key, wrapped, KeyUsage.TMK)
        seen.add(kcv)
        expanded = key._cipher._key
        assert all(byte.bit_count() % 2 == 1 for byte in expanded)
    assert len(seen) == 20


def test_the_lmk_must_have_its_size(tmp_path: Path) -> None:
    for size in (0, 16, 31, 33):
        with pytest.raises(SecurityError, match=f"not {size}"):
            SoftwareSecurityModule(bytes(size), tmp_path, "test")


# ------------------------------------------------------------------------------ production
@pytest.mark.parametrize("environment", ["production", "prod", "Production", "staging", "developement", ""])
def test_no_terminal_master_key_outside_development(
    module: SoftwareSecurityModule, tmp_path: Path, environment: str
) -> None:
    """A name that is not known counts as production: a typing error must not open the door."""
    production = SoftwareSecurityModule(LMK, tmp_path / "vault", environment)
    wrapped, _ = module.wrap_new(TMK, KeyUsage.TMK)
    refused = error(production.load_key, wrapped, KeyUsage.TMK)
    assert refused.code == "refused" and "configure a hardware security module" in str(refused)
    with pytest.raises(SecurityError) as caught:
        production.wrap_new(TMK, KeyUsage.TMK)
    component = call(production.seal_component, TMK)
    for usage in (KeyUsage.TMK, KeyUsage.TRANSPORT):
        for attempt in (
            caught.value,
            error(production.generate, usage, "des"),
            error(production.combine_sealed, [component], usage, "des"),
        ):
            assert attempt.code == "refused"


def test_production_may_seal_and_token(module: SoftwareSecurityModule, tmp_path: Path) -> None:
    production = SoftwareSecurityModule(LMK, tmp_path / "vault", "production")
    sealed = call(production.seal, b"p", b"card")
    assert call(production.open_sealed, b"p", sealed) == b"card"
    assert production.token("6222020000000000017") == module.token("6222020000000000017")


@pytest.mark.parametrize("environment", DEVELOPMENT_ENVIRONMENTS)
def test_development_loads_them(tmp_path: Path, environment: str) -> None:
    module = SoftwareSecurityModule(LMK, tmp_path, environment)
    assert load(module, TMK, KeyUsage.TMK).kcv == des(TMK).check_value()


# ------------------------------------------------------------------------------ working keys
def test_a_sign_on_from_field_62_to_a_mac(module: SoftwareSecurityModule) -> None:
    """Published TMK and field 62; the MAC key is a single DES key followed by zeros."""
    tmk = load(module, TMK, KeyUsage.TMK)
    keys = workingkeys.parse(FIELD_62)
    key = call(module.import_key, keys.mac.cryptogram, tmk, KeyUsage.MAC, keys.mac.kcv)
    assert (key.usage, key.kcv) == (KeyUsage.MAC, keys.mac.kcv)
    made = call(module.make_mac, key, "unionpay_ecb", DATA)
    assert made == mac.make_mac("unionpay_ecb", bytes.fromhex("AB7C577CC7A18045"), DATA)
    assert call(module.verify_mac, key, "unionpay_ecb", DATA, made.lower()) is True
    assert call(module.verify_mac, key, "unionpay_ecb", DATA + b"x", made) is False


@pytest.mark.parametrize("clear", [bytes(range(16)), bytes(range(8))])
@pytest.mark.parametrize("usage", [KeyUsage.MAC, KeyUsage.PIN, KeyUsage.TRACK])
def test_keys_of_both_lengths(module: SoftwareSecurityModule, clear: bytes, usage: KeyUsage) -> None:
    tmk = load(module, TMK, KeyUsage.TMK)
    issued = workingkeys.encrypt_key(clear, des(TMK))
    key = call(module.import_key, issued.cryptogram, tmk, usage, issued.kcv)
    assert key.kcv == issued.kcv == des(clear).check_value()


def test_sm4_all_the_way(module: SoftwareSecurityModule) -> None:
    tmk = load(module, TMK, KeyUsage.TMK, Family.SM4)
    issued = workingkeys.encrypt_key(bytes(range(16)), sm4(TMK))
    key = call(module.import_key, issued.cryptogram, tmk, KeyUsage.MAC, issued.kcv)
    assert key.family is Family.SM4
    assert call(module.make_mac, key, "sm4_ecb", DATA) == mac.make_mac("sm4_ecb", bytes(range(16)), DATA)
    assert error(module.make_mac, key, "unionpay_ecb", DATA).code == "key"


def test_a_wrong_check_value_is_kcv(module: SoftwareSecurityModule) -> None:
    tmk = load(module, TMK, KeyUsage.TMK)
    other = load(module, TMK[::-1], KeyUsage.TMK)
    keys = workingkeys.parse(FIELD_62)
    wrong = bytes([keys.mac.kcv[0] ^ 1]) + keys.mac.kcv[1:]
    assert error(module.import_key, keys.mac.cryptogram, tmk, KeyUsage.MAC, wrong).code == "kcv"
    assert error(module.import_key, keys.mac.cryptogram, other, KeyUsage.MAC, keys.mac.kcv).code == "kcv"
    assert error(module.import_key, keys.mac.cryptogram, tmk, KeyUsage.MAC, b"").code == "kcv"


def test_only_a_tmk_carries_keys_and_no_tmk_is_carried(module: SoftwareSecurityModule) -> None:
    issued = workingkeys.encrypt_key(bytes(range(16)), des(TMK))
    tmk = load(module, TMK, KeyUsage.TMK)
    for usage in (KeyUsage.MAC, KeyUsage.PIN, KeyUsage.TRACK):
        under = load(module, TMK, usage)
        assert error(module.import_key, issued.cryptogram, under, KeyUsage.MAC, issued.kcv).code == "key"
    assert error(module.import_key, issued.cryptogram, tmk, KeyUsage.TMK, issued.kcv).code == "key"


# ------------------------------------------------------------------------------ MAC
@pytest.mark.parametrize("usage", [KeyUsage.TMK, KeyUsage.PIN, KeyUsage.TRACK])
def test_only_a_mac_key_makes_macs(module: SoftwareSecurityModule, usage: KeyUsage) -> None:
    key = load(module, TMK, usage)
    assert error(module.make_mac, key, "unionpay_ecb", DATA).code == "key"
    assert error(module.verify_mac, key, "unionpay_ecb", DATA, bytes(8)).code == "key"


def test_another_modules_key_is_refused(module: SoftwareSecurityModule) -> None:
    class Foreign:
        usage = KeyUsage.MAC
        family = "des"
        kcv = bytes(4)

    foreign: Key = Foreign()
    assert error(module.make_mac, foreign, "unionpay_ecb", DATA).code == "key"
    assert error(module.import_key, bytes(16), foreign, KeyUsage.MAC, bytes(4)).code == "key"


def test_one_key_with_several_algorithms(module: SoftwareSecurityModule) -> None:
    key = load(module, TMK, KeyUsage.MAC)
    for _ in range(2):
        for algorithm in ("unionpay_ecb", "unionpay_ecb:raw8", "x9_19", "x9_19_pad80", "tdes_cbc", "xor_tdes"):
            assert call(module.make_mac, key, algorithm, DATA) == mac.make_mac(algorithm, TMK, DATA)
    assert error(module.make_mac, key, "x9_9", DATA).code == "key"
    assert error(module.make_mac, key, "hmac", DATA).code == "mac"
    assert error(module.make_mac, key, "unionpay_ecb", b"").code == "mac"


@given(data=st.binary(min_size=1, max_size=100), key=st.binary(min_size=16, max_size=16))
def test_what_it_makes_it_verifies(tmp_path_factory: pytest.TempPathFactory, data: bytes, key: bytes) -> None:
    module = SoftwareSecurityModule(LMK, tmp_path_factory.getbasetemp(), "test")
    held = load(module, key, KeyUsage.MAC)
    made = call(module.make_mac, held, "unionpay_ecb", data)
    assert call(module.verify_mac, held, "unionpay_ecb", data, made) is True
    for at in range(8):
        wrong = made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :]
        assert call(module.verify_mac, held, "unionpay_ecb", data, wrong) is False


def test_a_callback_that_raises_is_not_called_again(module: SoftwareSecurityModule) -> None:
    """Not even when it raises the very error that we catch inside."""
    key = load(module, TMK, KeyUsage.MAC)
    outcomes: list[object] = []

    def raising(outcome: object) -> None:
        outcomes.append(outcome)
        raise SecurityError("mac", "from the callback")

    sealed = call(module.seal, b"p", b"card")
    wrapped = call(module.generate, KeyUsage.MAC, Family.DES).wrapped
    attempts: tuple[Callable[[], object], ...] = (
        lambda: module.make_mac(key, "unionpay_ecb", DATA, raising),
        lambda: module.make_mac(key, "unknown", DATA, raising),
        lambda: module.verify_mac(key, "unionpay_ecb", DATA, bytes(8), raising),
        lambda: module.seal(b"p", b"card", raising),
        lambda: module.open_sealed(b"p", sealed, raising),
        lambda: module.open_sealed(b"q", sealed, raising),
        lambda: module.load_key(wrapped, KeyUsage.MAC, raising),
        lambda: module.import_key(bytes(16), key, KeyUsage.MAC, bytes(4), raising),
    )
    for attempt in attempts:
        outcomes.clear()
        with pytest.raises(SecurityError, match="from the callback"):
            attempt()
        assert len(outcomes) == 1


# ------------------------------------------------------------------------------ card data
def test_seal_and_open(module: SoftwareSecurityModule) -> None:
    sealed = call(module.seal, b"payment 1", b"card")
    assert call(module.open_sealed, b"payment 1", sealed) == b"card"
    assert error(module.open_sealed, b"payment 2", sealed).code == "mac"
    assert error(module.open_sealed, b"payment 1", sealed[:-1] + bytes([sealed[-1] ^ 1])).code == "mac"


def test_tokens(module: SoftwareSecurityModule, tmp_path: Path) -> None:
    token = module.token("6222020000000000017")
    assert len(token) == 32 and set(token) <= set("0123456789abcdef")
    assert SoftwareSecurityModule(LMK, tmp_path, "demo").token("6222020000000000017") == token
    assert SoftwareSecurityModule(bytes(32), tmp_path, "test").token("6222020000000000017") != token
    assert module.token("6222020000000000025") != token
    for pan in ("", "1234567", "6222 0200", "62220200000000000170", "6222020000000000O17"):
        with pytest.raises(ValueError, match=r"^pan: expected 8 to 19 digits$"):
            module.token(pan)


# ------------------------------------------------------------------------------ nothing shows a key
def test_no_text_about_keys_holds_key_bytes(module: SoftwareSecurityModule, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clear = bytes.fromhex("9CAA6FBFE5E5A51AE8C99FA2371ACAA9")
    tmk = load(module, TMK, KeyUsage.TMK)
    key = load(module, clear, KeyUsage.MAC)
    issued = workingkeys.encrypt_key(clear, des(TMK))
    texts = [repr(one) + str(one) for one in (module, module.vault, tmk, key, key._cipher, issued)]
    texts += [repr(vars(module))]

    failures = [
        error(module.import_key, issued.cryptogram, tmk, KeyUsage.MAC, bytes(4)),
        error(module.import_key, issued.cryptogram, key, KeyUsage.MAC, issued.kcv),
        error(module.import_key, issued.cryptogram[:7], tmk, KeyUsage.MAC, issued.kcv),
        error(module.load_key, clear * 4, KeyUsage.MAC),
        error(module.load_key, module.wrap_new(clear, KeyUsage.MAC)[0] + b"x", KeyUsage.MAC),
        error(module.load_key, module.wrap_new(clear, KeyUsage.MAC)[0], KeyUsage.PIN),
        error(module.make_mac, tmk, "unionpay_ecb", DATA),
        error(module.make_mac, key, "unionpay_ecb", b""),
        error(module.open_sealed, b"p", bytes(100)),
    ]
    for failure in failures:
        assert failure.__traceback__ is None and failure.__context__ is None and failure.__cause__ is None
        texts.append(repr(failure) + "".join(traceback.format_exception(failure)))
    attempts: tuple[Callable[[], object], ...] = (
        lambda: pickle.dumps(key),
        lambda: copy.copy(key),
        lambda: copy.deepcopy(key),
    )
    for attempt in attempts:
        with pytest.raises(SecurityError) as caught:
            attempt()
        texts.append(str(caught.value))
    texts.append(caplog.text)

    secrets = [LMK, TMK, clear, clear[:8], clear[8:], TMK[:8], TMK[8:], LMK[:16]]
    secrets += [derive(LMK, purpose) for purpose in ("stored keys", "card tokens", "vault keys")]
    for text in texts:
        for secret in secrets:
            # repr of bytes is written out in part, so look for the inside of it, without the quotes.
            assert secret.hex() not in text.lower() and repr(secret)[2:-1] not in text


def test_the_token_key_is_not_in_the_modules_repr(module: SoftwareSecurityModule) -> None:
    assert repr(module) == "<SoftwareSecurityModule test>"
