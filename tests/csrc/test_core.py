"""Builds the C core with -Werror and runs its tests: one pytest case per program and build."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.stem for path in Path(__file__).parent.glob("test_*.c"))

# With sanitizers, and optimized as it is shipped: what one of them hides, the other may show.
BUILDS = {"checked": [], "shipped": ["CFLAGS=-std=c11 -O2 -UNDEBUG"]}


@pytest.fixture(scope="session", params=BUILDS)
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC", "cc")
    for tool in ("make", compiler):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} not found: the tests of the C core need make and a C compiler (gcc or clang)")
    folder = tmp_path_factory.mktemp("csrc")
    targets = [f"{folder}/{program}" for program in PROGRAMS]
    done = subprocess.run(
        ["make", "-s", "-C", str(ROOT / "csrc"), f"BUILD={folder}", *BUILDS[request.param], *targets],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_core_passes(build: Path, program: str) -> None:
    # LeakSanitizer needs ptrace, which containers forbid; the core never allocates.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([str(build / program)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = re.findall(r"RUN\((\w+)\);", (ROOT / "tests/csrc" / f"{program}.c").read_text(encoding="utf-8"))
    assert done.stdout.split() == [word for run in runs for word in ("ok", run)]


def test_every_source_file_has_its_tests() -> None:
    sources = {path.stem for path in (ROOT / "csrc").glob("*.c")}
    assert {program.removeprefix("test_") for program in PROGRAMS} == sources


def test_every_test_is_run() -> None:
    for program in PROGRAMS:
        text = (ROOT / "tests/csrc" / f"{program}.c").read_text(encoding="utf-8")
        written = re.findall(r"^static void (test_\w+)\(void\)", text, re.MULTILINE)
        assert written == re.findall(r"RUN\((\w+)\);", text), program


def test_the_core_knows_neither_python_nor_the_heap() -> None:
    for path in (ROOT / "csrc").glob("*.[ch]"):
        text = path.read_text(encoding="utf-8")
        for word in ("Python.h", "malloc(", "calloc(", "free(", "printf("):
            assert word not in text, f"{path.name}: {word}"


def test_the_ebcdic_tables_are_those_of_python() -> None:
    text = (ROOT / "csrc/charset.c").read_text(encoding="utf-8")
    numbers = bytes(int(number, 16) for number in re.findall(r"0x([0-9A-F]{2})\b", text))
    assert len(numbers) == 6 * 256
    every = bytes(range(256))
    cp037 = every.decode("cp037").encode("latin-1")
    cp500 = every.decode("cp500").encode("latin-1")
    # Python has no cp1047. Source: IBM's chart of it; these are the codes where it is not cp037.
    cp1047 = bytearray(cp037)
    for code, character in zip(b"\x5f\xad\xb0\xba\xbb\xbd", "^[\xac\xdd\xa8]".encode("latin-1"), strict=True):
        cp1047[code] = character
    decoders = (cp037, cp500, bytes(cp1047))
    assert numbers[: 3 * 256] == b"".join(decoders)
    assert numbers[3 * 256 :] == b"".join(bytes(decoder.index(byte) for byte in every) for decoder in decoders)
