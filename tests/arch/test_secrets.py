"""Who may see card data in clear. A file joins this list with its reason, in a change that somebody reviews."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAY_REVEAL = {
    "switch/kiosk/keys.py": "a PIN block from typed digits, for trials without a pad",
    "switch/kiosk/messages.py": "builds a kiosk's frame to the switch",
    "switch/kiosk/zt59x.py": "the PIN pad wants twelve digits of the card number",
    "switch/dialects/kiosk.py": "gives a kiosk's chip what its issuer tells it",
    "switch/dialects/unionpay.py": "builds the frames to the card network; picks the tags that a reversal needs",
    "switch/model/payment.py": "makes the bytes that are sealed",
    "switch/runtime/dispatcher.py": "asks the security module for the card's token",
    "switch/runtime/payments.py": "has the card number alone sealed",
    "switch/runtime/translation.py": "a PIN block, with its card number, to the security module",
}


def sources() -> dict[str, str]:
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in ("switch", "admin")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_only_these_files_reveal_card_data() -> None:
    found = {name for name, text in sources().items() if re.search(r"\.reveal\b(?![\"'])", text)}
    assert found - {"switch/model/secret.py"} == set(MAY_REVEAL)


def test_nobody_goes_around_reveal() -> None:
    found = {name for name, text in sources().items() if re.search(r"\._clear\b|[\"']_clear[\"']", text)}
    assert found == {"switch/model/secret.py"}


def test_what_is_revealed_is_not_put_into_a_variable() -> None:
    """A traceback that prints locals would show it."""
    for name, text in sources().items():
        assert not re.search(r"^\s*[\w.]+(: [\w\[\] |]+)? = [\w.]+\.reveal\(\)\s*$", text, re.MULTILINE), name
