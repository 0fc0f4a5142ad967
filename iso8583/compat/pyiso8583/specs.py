r"""The specs of pyiso8583: one dict a field, by key. Plain dicts, to be copied and changed.

    >>> import copy
    >>> spec = copy.deepcopy(default_ascii)
    >>> spec["2"].update({"data_enc": "b", "len_enc": "bcd", "len_type": 1, "len_count": "nibbles", "right_pad": "0"})

Keys of a spec. ``h`` and ``t`` and ``p`` must be there; of the others, those that messages carry.

===== ==================================================================================================================
``h`` header in front of the MTI: a field like any other. ``max_len`` 0 or less: the messages have none
``t`` MTI. Always 2 bytes with ``data_enc`` ``"b"``, else 4 bytes. Of its entry only ``data_enc`` and ``desc`` count
``p`` bitmap. Always 8 bytes with ``data_enc`` ``"b"``, else 16 bytes of hex digits. Likewise
``1`` second bitmap, like ``p``, and behind it the third one if bit 65 is set: 16 bytes or 32 hex digits in all
``2`` to ``192``: fields. ``65`` never is one, whatever its entry says
===== ==================================================================================================================

Keys of a field.

``data_enc``
    ``"b"``: bytes, in the decoded dict as hex (upper case out, either in); BCD is a case of it. Anything else: the name
    of a Python text codec, errors strict (``"ascii"``, ``"cp500"``).
``len_type``
    **Bytes** of the length in front of the value; 0 for a value of fixed length.
``len_enc``
    How the length is written. ``"b"``: unsigned, most significant byte first. ``"bcd"``: two digits a byte. Anything
    else: a text codec, one digit a byte, zeros in front. No matter with ``len_type`` 0.
``max_len``
    Largest length, in ``len_count``. With ``len_type`` 0 the length itself; nothing else fits, values are not padded.
``len_count``
    What ``max_len`` and the length in the message count. ``"bytes"`` (also if missing): **encoded** bytes, so two hex
    digits of a ``"b"`` value are one. ``"nibbles"``: half bytes: digits of a ``"b"`` value, pad excluded, and twice the
    bytes of a text.
``left_pad``, ``right_pad``
    Hex digit that fills a ``"b"`` value with an odd count of nibbles; only the first character of the text counts.
    Encoding takes ``left_pad`` if both are there. Decoding drops the first digit if it equals ``left_pad``, else the
    last one if it equals ``right_pad``, else fails. Without either an odd count is an error. Even counts have no pad.
``desc``
    Name for ``pp``. May be missing.

Source: pyiso8583 4.0.1, documentation and behaviour; ISO 8583:1987 for the fields themselves.
"""

from typing import Any

__all__ = ["default", "default_ascii"]

# First field, last field, len_type, max_len, desc.
_FIELDS = (
    (2, 2, 2, 19, "Primary Account Number (PAN)"),
    (3, 3, 0, 6, "Processing Code"),
    (4, 4, 0, 12, "Amount, Transaction"),
    (5, 5, 0, 12, "Amount, Settlement"),
    (6, 6, 0, 12, "Amount, Cardholder Billing"),
    (7, 7, 0, 10, "Transmission Date and Time"),
    (8, 8, 0, 8, "Amount, Cardholder Billing Fee"),
    (9, 9, 0, 8, "Conversion Rate, Settlement"),
    (10, 10, 0, 8, "Conversion Rate, Cardholder Billing"),
    (11, 11, 0, 6, "System Trace Audit Number"),
    (12, 12, 0, 6, "Time, Local Transaction"),
    (13, 13, 0, 4, "Date, Local Transaction"),
    (14, 14, 0, 4, "Date, Expiration"),
    (15, 15, 0, 4, "Date, Settlement"),
    (16, 16, 0, 4, "Date, Conversion"),
    (17, 17, 0, 4, "Date, Capture"),
    (18, 18, 0, 4, "Merchant Type"),
    (19, 19, 0, 3, "Acquiring Institution Country Code"),
    (20, 20, 0, 3, "PAN Country Code"),
    (21, 21, 0, 3, "Forwarding Institution Country Code"),
    (22, 22, 0, 3, "Point-of-Service Entry Mode"),
    (23, 23, 0, 3, "PAN Sequence Number"),
    (24, 24, 0, 3, "Network International ID (NII)"),
    (25, 25, 0, 2, "Point-of-Service Condition Code"),
    (26, 26, 0, 2, "Point-of-Service Capture Code"),
    (27, 27, 0, 1, "Authorizing ID Response Length"),
    (28, 28, 0, 9, "Amount, Transaction Fee"),
    (29, 29, 0, 9, "Amount, Settlement Fee"),
    (30, 30, 0, 9, "Amount, Transaction Processing Fee"),
    (31, 31, 0, 9, "Amount, Settlement Processing Fee"),
    (32, 32, 2, 11, "Acquiring Institution ID Code"),
    (33, 33, 2, 11, "Forwarding Institution ID Code"),
    (34, 34, 2, 28, "Primary Account Number, Extended"),
    (35, 35, 2, 37, "Track 2 Data"),
    (36, 36, 3, 104, "Track 3 Data"),
    (37, 37, 0, 12, "Retrieval Reference Number"),
    (38, 38, 0, 6, "Authorization ID Response"),
    (39, 39, 0, 2, "Response Code"),
    (40, 40, 0, 3, "Service Restriction Code"),
    (41, 41, 0, 8, "Card Acceptor Terminal ID"),
    (42, 42, 0, 15, "Card Acceptor ID Code"),
    (43, 43, 0, 40, "Card Acceptor Name/Location"),
    (44, 44, 2, 25, "Additional Response Data"),
    (45, 45, 2, 76, "Track 1 Data"),
    (46, 46, 3, 999, "Additional Data - ISO"),
    (47, 47, 3, 999, "Additional Data - National"),
    (48, 48, 3, 999, "Additional Data - Private"),
    (49, 49, 0, 3, "Currency Code, Transaction"),
    (50, 50, 0, 3, "Currency Code, Settlement"),
    (51, 51, 0, 3, "Currency Code, Cardholder Billing"),
    (52, 52, 0, 8, "PIN"),
    (53, 53, 0, 16, "Security-Related Control Information"),
    (54, 54, 3, 240, "Additional Amounts"),
    (55, 55, 3, 255, "ICC data"),
    (56, 56, 3, 999, "Reserved ISO"),
    (57, 60, 3, 999, "Reserved National"),
    (61, 63, 3, 999, "Reserved Private"),
    (64, 64, 0, 8, "MAC"),
    (65, 65, 0, 8, "Bitmap, Extended"),
    (66, 66, 0, 1, "Settlement Code"),
    (67, 67, 0, 2, "Extended Payment Code"),
    (68, 68, 0, 3, "Receiving Institution Country Code"),
    (69, 69, 0, 3, "Settlement Institution Country Code"),
    (70, 70, 0, 3, "Network Management Information Code"),
    (71, 71, 0, 4, "Message Number"),
    (72, 72, 0, 4, "Message Number, Last"),
    (73, 73, 0, 6, "Date, Action"),
    (74, 74, 0, 10, "Credits, Number"),
    (75, 75, 0, 10, "Credits, Reversal Number"),
    (76, 76, 0, 10, "Debits, Number"),
    (77, 77, 0, 10, "Debits, Reversal Number"),
    (78, 78, 0, 10, "Transfer, Number"),
    (79, 79, 0, 10, "Transfer, Reversal Number"),
    (80, 80, 0, 10, "Inquiries, Number"),
    (81, 81, 0, 10, "Authorizations, Number"),
    (82, 82, 0, 12, "Credits, Processing Fee Amount"),
    (83, 83, 0, 12, "Credits, Transaction Fee Amount"),
    (84, 84, 0, 12, "Debits, Processing Fee Amount"),
    (85, 85, 0, 12, "Debits, Transaction Fee Amount"),
    (86, 86, 0, 16, "Credits, Amount"),
    (87, 87, 0, 16, "Credits, Reversal Amount"),
    (88, 88, 0, 16, "Debits, Amount"),
    (89, 89, 0, 16, "Debits, Reversal Amount"),
    (90, 90, 0, 42, "Original Data Elements"),
    (91, 91, 0, 1, "File Update Code"),
    (92, 92, 0, 2, "File Security Code"),
    (93, 93, 0, 5, "Response Indicator"),
    (94, 94, 0, 7, "Service Indicator"),
    (95, 95, 0, 42, "Replacement Amounts"),
    (96, 96, 0, 8, "Message Security Code"),
    (97, 97, 0, 17, "Amount, Net Settlement"),
    (98, 98, 0, 25, "Payee"),
    (99, 99, 2, 11, "Settlement Institution ID Code"),
    (100, 100, 2, 11, "Receiving Institution ID Code"),
    (101, 101, 2, 17, "File Name"),
    (102, 102, 2, 28, "Account ID 1"),
    (103, 103, 2, 28, "Account ID 2"),
    (104, 104, 3, 100, "Transaction Description"),
    (105, 111, 3, 999, "Reserved for ISO Use"),
    (112, 119, 3, 999, "Reserved for National Use"),
    (120, 127, 3, 999, "Reserved for Private Use"),
    (128, 128, 0, 8, "MAC"),
)

# Bytes in `default`; hex digits, twice as many, in `default_ascii`.
_BINARY = {"p", "1", "52", "55", "64", "65", "96", "128"}


def _spec(*, binary: bool) -> dict[str, dict[str, Any]]:
    rows = [("h", 0, 0, "Message Header"), ("t", 0, 4, "Message Type")]
    rows += [("p", 0, 8, "Bitmap, Primary"), ("1", 0, 8, "Bitmap, Secondary")]
    rows += [
        (str(number), len_type, max_len, desc)
        for first, last, len_type, max_len, desc in _FIELDS
        for number in range(first, last + 1)
    ]
    return {
        key: {
            "data_enc": "b" if binary and key in _BINARY else "ascii",
            "len_enc": "ascii",
            "len_type": len_type,
            "max_len": max_len if binary or key not in _BINARY else max_len * 2,
            "desc": desc,
        }
        for key, len_type, max_len, desc in rows
    }


#: Text in ASCII; bitmaps, PIN block, ICC data and MACs as bytes.
default = _spec(binary=True)

#: All in ASCII; what is binary in ``default`` as hex digits.
default_ascii = _spec(binary=False)
