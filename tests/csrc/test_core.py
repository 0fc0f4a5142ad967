"""Builds the C core with -Werror, ASan and UBSan, and runs its tests: one pytest case per program."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.stem for path in Path(__file__).parent.glob("test_*.c"))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC", "cc")
    for tool in ("make", compiler):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} not found: the tests of the C core need make and a C compiler (gcc or clang)")
    folder = tmp_path_factory.mktemp("csrc")
    targets = [f"{folder}/{program}" for program in PROGRAMS]
    done = subprocess.run(
        ["make", "-s", "-C", str(ROOT / "csrc"), f"BUILD={folder}", *targets],
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


def test_every_source_file_has_its_tests() -> None:
    sources = {path.stem for path in (ROOT / "csrc").glob("*.c")}
    assert {program.removeprefix("test_") for program in PROGRAMS} == sources


def test_the_core_knows_neither_python_nor_the_heap() -> None:
    for path in (ROOT / "csrc").glob("*.[ch]"):
        text = path.read_text(encoding="utf-8")
        for word in ("Python.h", "malloc(", "calloc(", "free(", "printf("):
            assert word not in text, f"{path.name}: {word}"
