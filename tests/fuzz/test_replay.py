"""Runs the fuzz targets without a fuzzer: over the corpus, its prefixes, and it with every bit turned."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
CSRC = FOLDER.parents[1] / "csrc"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.c"))
CORPUS_BYTES_MAX = 64 * 1024


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-s", "-C", str(CSRC), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC", "cc")
    for tool in ("make", compiler):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} not found: the fuzz targets need make and a C compiler (gcc or clang)")
    folder = tmp_path_factory.mktemp("fuzz")
    done = make(f"BUILD={folder}", *(f"{folder}/replay_{target}" for target in TARGETS))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus_is_parsed_or_gets_its_error(build: Path, target: str) -> None:
    files = sorted((FOLDER / "corpus" / target).iterdir())
    assert files
    # Each file whole and cut at every place, and once for each of its bits.
    expected = sum(1 + 9 * path.stat().st_size for path in files)
    done = subprocess.run(
        [str(build / f"replay_{target}"), str(FOLDER / "corpus" / target)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout == f"{expected} inputs\n"


def test_the_corpus_is_small_and_has_no_strangers() -> None:
    assert sorted(path.name for path in (FOLDER / "corpus").iterdir()) == TARGETS
    assert sum(path.stat().st_size for path in (FOLDER / "corpus").rglob("*") if path.is_file()) < CORPUS_BYTES_MAX


def test_a_missing_fuzzer_is_named_with_its_remedy(tmp_path: Path) -> None:
    done = make(f"BUILD={tmp_path}", "FUZZ_CC=no-such-clang", "fuzz")
    assert done.returncode != 0
    assert "no-such-clang is missing" in done.stderr
    assert "apt-get install clang libclang-rt-dev" in done.stderr
