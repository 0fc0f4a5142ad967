"""Message type indicators: four digits that say what a message is.

    digit    1 version   2 class            3 function                  4 origin
    example  0 (1987)    2 financial        0 request, 1 response       0 acquirer, 1 acquirer repeat
                         4 reversal         2 advice, 3 advice response 2 issuer, 3 issuer repeat
                         8 network          4 notification

Source: ISO 8583:1987, 4.2; UnionPay POS adds nothing but its own choice of them (0500 settlement, 0320 batch upload).
"""

from __future__ import annotations

from iso8583.errors import EncodeError

CLASSES = {
    "1": "authorization",
    "2": "financial",
    "3": "file action",
    "4": "reversal",
    "5": "reconciliation",
    "6": "administrative",
    "7": "fee collection",
    "8": "network management",
    "9": "private",
}

# An odd function answers the even one below it. 4 and 5 (notification) follow the same rule in the 1993 edition.
_RESPONSE_OF = {"0": "1", "2": "3", "4": "5"}


def is_valid(mti: str) -> bool:
    return len(mti) == 4 and mti.isascii() and mti.isdigit()


def is_request(mti: str) -> bool:
    """True for what waits for a response: requests, advices and their repeats."""
    return is_valid(mti) and mti[2] in _RESPONSE_OF


def is_response(mti: str) -> bool:
    return is_valid(mti) and mti[2] in _RESPONSE_OF.values()


def is_repeat(mti: str) -> bool:
    """True for a repeat of an earlier message, e.g. ``0401``."""
    return is_valid(mti) and mti[3] in "135"


def response(mti: str) -> str:
    """MTI of the response to ``mti``; a repeat is answered like the original.

    Raises:
        EncodeError: ``mti`` is not four digits, or is a response itself [mti].

    >>> response("0200"), response("0401"), response("0820")
    ('0210', '0410', '0830')
    """
    if not is_request(mti):
        raise EncodeError("mti", "mti", "expected the MTI of a request or an advice")
    origin = str(int(mti[3]) & ~1)
    return f"{mti[:2]}{_RESPONSE_OF[mti[2]]}{origin}"


def request(mti: str) -> str:
    """MTI of the request that ``mti`` answers.

    Raises:
        EncodeError: ``mti`` is not the MTI of a response [mti].

    >>> request("0210")
    '0200'
    """
    if not is_response(mti):
        raise EncodeError("mti", "mti", "expected the MTI of a response")
    return f"{mti[:2]}{int(mti[2]) - 1}{mti[3]}"


def describe(mti: str) -> str:
    """Words for people.

    >>> describe("0210"), describe("0401")
    ('financial response', 'reversal request, repeat')
    """
    if not is_valid(mti):
        return "not an MTI"
    function = {"0": "request", "1": "response", "2": "advice", "3": "advice response", "4": "notification"}
    words = f"{CLASSES.get(mti[1], 'reserved')} {function.get(mti[2], 'reserved')}"
    return f"{words}, repeat" if is_repeat(mti) else words
