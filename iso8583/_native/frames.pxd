# csrc/frame.h as Cython sees it, in its order.

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "frame.h" nogil:
    enum:
        ISO_FRAME_PREFIX_MAX

    ctypedef enum iso_frame_status:
        ISO_FRAME_OK
        ISO_FRAME_MORE
        ISO_FRAME_E_PREFIX
        ISO_FRAME_E_SELF
        ISO_FRAME_E_EMPTY
        ISO_FRAME_E_TOO_LONG
        ISO_FRAME_E_ETX
        ISO_FRAME_E_LRC

    const char *iso_frame_status_name(iso_frame_status status)

    ctypedef enum iso_frame_form:
        ISO_FRAME_BINARY
        ISO_FRAME_BCD
        ISO_FRAME_ASCII

    ctypedef struct iso_framing:
        uint8_t form
        uint8_t prefix_size
        bint counts_itself
        bint empty_allowed
        bint serial
        uint32_t size_max

    uint32_t iso_framing_size_max(const iso_framing *framing)
    bint iso_framing_valid(const iso_framing *framing)
    uint32_t iso_frame_overhead(const iso_framing *framing)
    void iso_frame_write(const iso_framing *framing, const uint8_t *data, uint32_t size, uint8_t *out)

    ctypedef struct iso_framer:
        iso_framing framing
        uint64_t skipped
        uint64_t discarded
        uint8_t reason
        uint64_t announced

    ctypedef struct iso_frame:
        size_t start
        size_t needed
        size_t offset
        uint32_t size
        size_t end
        uint64_t announced

    iso_frame_status iso_frame_next(iso_framer *framer, const uint8_t *data, size_t size, bint ended,
                                    iso_frame *out)
