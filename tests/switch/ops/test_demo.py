"""What the demo may delete, and what a proof accepts as a book."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from switch.errors import StartError
from switch.ops.proof import prove
from switch.ops.rig import MARKER, Rig
from switch.sim.truth import TruthLedger


def rig(folder: Path) -> Rig:
    return Rig(folder, say=print)


def test_the_demo_empties_only_a_folder_of_its_own(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "keep.txt").write_text("keep")
    with pytest.raises(StartError, match="not a demo's folder"):
        rig(precious).clean()
    assert (precious / "keep.txt").read_text() == "keep"
    own = tmp_path / "own"
    for _ in range(2):
        one = rig(own)
        one.clean()
        assert [entry.name for entry in own.iterdir()] == [MARKER]
        (own / "old.log").write_text("old")
        one.unlock()


def test_a_file_is_no_folder_for_a_demo(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("keep")
    with pytest.raises(StartError):
        rig(file).clean()
    assert file.read_text() == "keep"


def test_two_demos_in_one_folder_are_one_too_many(tmp_path: Path) -> None:
    first = rig(tmp_path / "own")
    first.clean()
    with pytest.raises(StartError, match="another demo or drill runs"):
        rig(tmp_path / "own").clean()
    first.unlock()


def ledger(path: Path, host: str) -> Path:
    truth = TruthLedger(path)
    truth.write("opened", host=host)
    truth.flush()
    truth.close()
    return path


@pytest.mark.parametrize("wrong", ["swapped", "empty", "text", "book", "missing"])
def test_a_proof_against_the_wrong_book_is_refused(database: str, tmp_path: Path, wrong: str) -> None:
    card, marketing = ledger(tmp_path / "card", "unionpay"), ledger(tmp_path / "marketing", "marketing")
    assert asyncio.run(prove(database, card, marketing)).holds
    if wrong == "swapped":
        card, marketing = marketing, card
    elif wrong == "missing":
        card = tmp_path / "nothing"
    else:
        card.write_text({"empty": "", "text": "hello\n", "book": '{"fact":"sent","key":"k","fen":1}\n'}[wrong])
    with pytest.raises(StartError, match=r"ledger|card|nothing"):
        asyncio.run(prove(database, card, marketing))


def test_a_ledger_is_no_kiosks_book(database: str, tmp_path: Path) -> None:
    card, marketing = ledger(tmp_path / "card", "unionpay"), ledger(tmp_path / "marketing", "marketing")
    with pytest.raises(StartError, match="book"):
        asyncio.run(prove(database, card, marketing, marketing))
