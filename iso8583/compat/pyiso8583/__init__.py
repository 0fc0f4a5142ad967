"""Drop-in for PyPI's ``pyiso8583`` 4.0.1: its functions, exceptions, specs and texts, on our own code.

For programs that move to this library step by step. One line changes, the calls stay::

    import iso8583                             ->  from iso8583.compat import pyiso8583 as iso8583
    from iso8583.specs import default_ascii    ->  from iso8583.compat.pyiso8583.specs import default_ascii

    >>> from iso8583.compat import pyiso8583 as iso8583
    >>> spec = iso8583.specs.default_ascii
    >>> decoded, encoded = iso8583.decode(b"0800002000000080000000012310000001", spec)
    >>> decoded
    {'t': '0800', 'p': '0020000000800000', '11': '000123', '41': '10000001'}
    >>> encoded["41"]
    {'len': b'', 'data': b'10000001'}
    >>> decoded.update({"t": "0810", "39": "00"})
    >>> iso8583.encode(decoded, spec)[0]
    bytearray(b'081000200000028000000001230010000001')

pyiso8583's own tests run against this package in our suite, and generated messages are compared with the original.

**Kept on purpose**, although ``iso8583.load`` does better:

- ``encode`` writes into the caller's dict: the bitmaps ``p`` and ``1`` are set or removed and ``65`` is removed, also
  when it then fails. Callers read the bitmaps there.
- The exceptions carry the message in clear, in ``s``, ``doc_dec``, ``doc_enc`` and in their pickles. Their text does
  not.
- ``pp`` prints in clear: never into a log.
- Content is not checked: letters pass in a numeric field. A text length is read as ``int`` reads it, so ``b" 5"`` and
  ``b"+5"`` are 5.
- Keys of the dict that are no numbers (``"note"``) are ignored. ``decode`` takes ``bytes`` and ``bytearray`` only.

**Mended**, because the original reads a message wrongly or lets an undocumented exception out:

- A field without an entry in the spec (129 to 192 of the bundled ones) is a ``DecodeError`` or an ``EncodeError``, not
  a ``KeyError``: the sender of a message chooses its bits.
- A bitmap in text is 16 hex digits. The original skips blanks in it, and then reads other fields than were sent.
- A text length below zero is "non-numeric data". The original can take it for an empty field.
- A key such as ``"02"`` or ``"½"`` is an ``EncodeError``, not a ``KeyError`` or a plain ``ValueError``, and no longer
  ignored beside ``"2"``. A value that is no text is an ``EncodeError`` in binary fields too, not a ``TypeError``.
- A pad may be written in lower case (``"f"``) for decoding too. The original cannot read back what it encoded so.
- ``pp`` prints fields that have no description, or no entry in the spec, with an empty one, and leaves out keys like
  ``"½"``. The original raises.
- The exceptions have no ``__context__``: the ``UnicodeDecodeError`` that the original leaves there holds the field.
"""

from iso8583.compat.pyiso8583 import specs
from iso8583.compat.pyiso8583.decoder import DecodeError, decode
from iso8583.compat.pyiso8583.encoder import EncodeError, encode
from iso8583.compat.pyiso8583.tools import pp

__version__ = "4.0.1"  # of the interface
__all__ = ["DecodeError", "EncodeError", "decode", "encode", "pp", "specs"]
