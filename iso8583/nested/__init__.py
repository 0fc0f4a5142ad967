"""Values that are made of sub-fields: trees out of bytes, and bytes out of trees.

A tree is a dict in wire order. Its keys are those of the spec: positions and bits ("1", "2"), tags ("9F26", "AS"). Its
values are text, bytes, a tree where the sub-field has a layout itself, and a list where it may stand several times
(``times``, ``repeat``).

    positions   1 | 2 | 3                        sub-fields one after the other
    ber_tlv     tag length value | tag ...       BER-TLV objects
    tlv         tag [length] value | tag ...     the same with tags and lengths of a fixed number of characters
    bitmap      bitmap | 3 | 7                   sub-fields whose bit is set

A path names one of them: ``60.3``, ``60.batch``, ``55.71[2].9F18``. One of several is counted from 1, in brackets.

Where the bytes of a tree lie in the message is three numbers: ``base``, the offset of the first of them; ``step``, the
bytes of the message that each stands for: 1, in a hexadecimal field 2, and in a packed one, whose sub-fields lie in its
digits, 0. :func:`inside` works them out.
"""

from __future__ import annotations

from iso8583.nested._common import Look, Tree, TreeInput, inside, layout_of
from iso8583.nested.reading import check_tree, decode_tree, lookup
from iso8583.nested.writing import encode_field, encode_tree

__all__ = [
    "Look",
    "Tree",
    "TreeInput",
    "check_tree",
    "decode_tree",
    "encode_field",
    "encode_tree",
    "inside",
    "layout_of",
    "lookup",
]
