"""The compiled core. A package, so that import linters see it; there is no Python fall-back on purpose."""

try:
    # Not "from .codec import ...": import linters take a compiled module's parent for the thing imported.
    from . import codec, frames
except ImportError as error:
    raise ImportError("the compiled part of iso8583 is missing; in a source checkout run: make build") from error

Codec = codec.Codec
Message = codec.Message
ValueCodec = codec.ValueCodec
bind = codec.bind
message_so_far = codec.message_so_far
tlv_decode = codec.tlv_decode
tlv_encode = codec.tlv_encode
tlv_to_dict = codec.tlv_to_dict

__all__ = [
    "Codec",
    "Message",
    "ValueCodec",
    "bind",
    "frames",
    "message_so_far",
    "tlv_decode",
    "tlv_encode",
    "tlv_to_dict",
]
