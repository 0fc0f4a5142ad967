"""Two engines, one result; and that an installation has the fast one wherever it could be built."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.errors import SecurityError
from switch.security import primitives
from switch.security.engine import Family, Portable
from switch.security.primitives import BlockCipher

KEYS = [(Family.DES, 8), (Family.DES, 16), (Family.SM4, 16), (Family.AES, 16), (Family.AES, 32)]


def has_openssl_headers() -> bool:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "this project is built with a C compiler"
    source = b"#include <openssl/des.h>\n#include <openssl/evp.h>\nint main(void) { return EVP_sm4_ecb() == 0; }\n"
    built = subprocess.run(
        [compiler, "-xc", "-", "-Wno-deprecated-declarations", "-lcrypto", "-o", "/dev/null"],
        input=source,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return built.returncode == 0


def test_the_fast_engine_is_there_where_it_can_be_built() -> None:
    """Its build is optional, so that one that fails would go unnoticed."""
    expected = "libcrypto" if has_openssl_headers() else "cryptography"
    assert expected == primitives.PROVIDER, "run: make clean build"
    assert ("OpenSSL" in primitives.PROVIDER_VERSION) is (expected == "libcrypto")


@pytest.mark.parametrize(("family", "size"), KEYS)
@given(data=st.data())
def test_every_engine_gives_what_the_portable_one_gives(family: Family, size: int, data: st.DataObject) -> None:
    key = data.draw(st.binary(min_size=size, max_size=size))
    portable = Portable(family, key)
    blocks = data.draw(st.integers(1, 40)) * portable.block_size
    whole = data.draw(st.binary(min_size=blocks, max_size=blocks))
    any_size = whole[: data.draw(st.integers(1, blocks))]
    for provider in primitives.ENGINES:
        engine = BlockCipher(family, key, provider).engine
        assert engine.block_size == portable.block_size
        assert engine.encrypt(whole) == portable.encrypt(whole)
        assert engine.decrypt(whole) == portable.decrypt(whole)
        assert engine.decrypt(engine.encrypt(whole)) == whole
        assert engine.cbc_mac(whole) == portable.cbc_mac(whole)
        assert engine.fold_mac(any_size) == portable.fold_mac(any_size)
        assert engine.xor_mac(any_size) == portable.xor_mac(any_size)


@pytest.mark.parametrize("provider", sorted(primitives.ENGINES))
def test_an_engine_takes_no_other_type_and_survives_it(provider: str) -> None:
    engine = BlockCipher(Family.DES, bytes(range(16)), provider).engine
    before = engine.fold_mac(b"message")
    for wrong in (None, "message", 7):
        for method in (engine.encrypt, engine.fold_mac, engine.xor_mac):
            with pytest.raises((TypeError, SecurityError)):
                method(wrong)  # type: ignore[arg-type]
    assert engine.fold_mac(b"message") == before
