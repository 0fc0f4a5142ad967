"""The one list of what must not be seen, and how each is shown instead.

Every text for people (``repr``, exceptions, the command line, logs that use :func:`mask`) goes through here.
A spec names the kind of each field in ``sensitive``; a field without a kind is shown as it is.
"""

from __future__ import annotations

from typing import Final

#: What a spec may write in ``sensitive``, and why it is on the list.
KINDS: Final = {
    "pan": "shown as first 6 + last 4 digits, the most that PCI DSS 3.4 allows",
    "track": "never shown: PCI DSS 3.3.1 forbids even to keep it",
    "pin": "never shown: PIN block",
    "mac": "never shown: with the message it would allow offline search for the key",
    "key": "never shown: working keys under the terminal master key",
    "expiry": "never shown: with the PAN it is enough for a card-not-present purchase",
    "balance": "never shown: the customer's money is nobody's business",
    "private": "never shown: content depends on the acquirer and has been seen to hold card data",
    "icc": "tags are shown, values of the tags in TAGS are not",
    "public": "shown: a sub-field that its field's kind does not reach",
}

#: A ``sensitive`` that hides nothing.
OPEN_KINDS: Final = (None, "public")

#: EMV tags whose values hold card data or what proves the card. Source: EMV Book 3, annex A.
TAGS: Final = {
    "56": "track 1 equivalent",
    "57": "track 2 equivalent",
    "5A": "PAN",
    "5F20": "cardholder name",
    "5F24": "expiry",
    "5F25": "effective date",
    "5F34": "PAN sequence number",
    "70": "record template: may hold any of these",
    "77": "response template: may hold any of these",
    "99": "transaction PIN data",
    "9F0B": "cardholder name, extended",
    "9F1F": "track 1 discretionary data",
    "9F20": "track 2 discretionary data",
    "9F61": "cardholder identity number",
    "9F6B": "track 2 data, contactless",
    "DF32": "chip serial number",
    "DF33": "session key data",
}


def hidden(size: int, unit: str = "byte") -> str:
    """Stand-in that gives away nothing but the size.

    >>> hidden(8), hidden(1)
    ('<hidden, 8 bytes>', '<hidden, 1 byte>')
    """
    return f"<hidden, {size} {unit}{'' if size == 1 else 's'}>"


def hidden_value(value: str | bytes) -> str:
    """The same for a value.

    >>> hidden_value("3012"), hidden_value(bytes(8))
    ('<hidden, 4 characters>', '<hidden, 8 bytes>')
    """
    return hidden(len(value), "character" if isinstance(value, str) else "byte")


def mask_pan(pan: str) -> str:
    """First 6 and last 4 digits; everything else, and every short PAN, as stars.

    >>> mask_pan("6222000000000000")
    '622200******0000'
    >>> mask_pan("62220000")
    '********'
    """
    # Below 13 characters first 6 + last 4 would leave fewer than three to guess.
    if len(pan) < 13:
        return "*" * len(pan)
    return f"{pan[:6]}{'*' * (len(pan) - 10)}{pan[-4:]}"


def mask_text(kind: str | None, value: str) -> str:
    """A text value as people may see it; ``kind`` is the field's ``sensitive``."""
    if kind in OPEN_KINDS:
        return value
    if kind == "pan":
        return mask_pan(value)
    return hidden_value(value)


def mask_bytes(kind: str | None, value: bytes) -> str:
    """A binary value as people may see it, in hexadecimal."""
    if kind in OPEN_KINDS:
        return value.hex().upper()
    return hidden_value(value)
