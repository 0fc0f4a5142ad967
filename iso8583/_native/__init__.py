"""The compiled core. A package, so that import linters see it; there is no Python fall-back on purpose."""

try:
    # Not "from .codec import ...": import linters take a compiled module's parent for the thing imported.
    from . import codec
except ImportError as error:
    raise ImportError("the compiled part of iso8583 is missing; in a source checkout run: make build") from error

Codec = codec.Codec
Index = codec.Index
next_frame = codec.next_frame
tlv_decode = codec.tlv_decode
tlv_encode = codec.tlv_encode

__all__ = ["Codec", "Index", "next_frame", "tlv_decode", "tlv_encode"]
