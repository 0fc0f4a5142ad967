# The C core as Cython sees it, in the order of csrc/iso8583.h.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "iso8583.h" nogil:
    enum:
        ISO_FIELD_MAX
        ISO_TABLE_SIZE
        ISO_MTI_DIGITS
        ISO_MESSAGE_SIZE_MAX
        ISO_TLV_TAG_SIZE_MAX

    ctypedef enum iso_status:
        ISO_OK
        ISO_E_TRUNCATED
        ISO_E_TRAILING
        ISO_E_SIZE
        ISO_E_MTI
        ISO_E_BITMAP
        ISO_E_UNDEFINED
        ISO_E_PREFIX
        ISO_E_LENGTH
        ISO_E_CONTENT
        ISO_E_TEXT
        ISO_E_TLV
        ISO_E_SPACE
        ISO_E_SPEC
        ISO_E_EMPTY
        ISO_E_TOO_LONG

    const char *iso_status_name(iso_status status)

    ctypedef struct iso_fault:
        uint32_t field
        uint32_t offset
        uint32_t position
        uint32_t length

    ctypedef enum iso_packing:
        ISO_PACK_NONE
        ISO_PACK_BYTES
        ISO_PACK_BCD_LEFT
        ISO_PACK_BCD_RIGHT
        ISO_PACK_TRACK_LEFT

    ctypedef enum iso_content:
        ISO_CONTENT_B
        ISO_CONTENT_N
        ISO_CONTENT_A
        ISO_CONTENT_AN
        ISO_CONTENT_ANS
        ISO_CONTENT_Z
        ISO_CONTENT_XN
        ISO_CONTENT_GBK
        ISO_CONTENT_TLV

    ctypedef enum iso_unit:
        ISO_UNIT_BYTES
        ISO_UNIT_DIGITS

    ctypedef enum iso_digits_form:
        ISO_FORM_BCD
        ISO_FORM_ASCII

    ctypedef enum iso_bitmap_form:
        ISO_BITMAP_BINARY
        ISO_BITMAP_HEX

    ctypedef struct iso_field:
        uint8_t packing
        uint8_t content
        uint8_t unit
        uint8_t prefix_digits
        uint8_t prefix_form
        uint8_t pad_strict
        uint16_t length_min
        uint16_t length_max

    ctypedef struct iso_spec:
        uint8_t mti_form
        uint8_t bitmap_form
        uint8_t field_max
        uint64_t defined[2]
        iso_field fields[129]

    iso_status iso_spec_check(iso_spec *spec, iso_fault *fault)

    ctypedef struct iso_slice:
        uint16_t offset
        uint16_t size
        uint16_t length

    ctypedef struct iso_layout:
        uint64_t present[2]
        uint16_t mti_offset
        uint16_t fields_offset
        uint16_t size
        uint16_t count
        iso_slice slices[127]

    iso_status iso_index(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                         iso_layout *layout, iso_fault *fault)
    int32_t iso_layout_find(const uint64_t *present, uint32_t field)
    uint32_t iso_unpacked_length(const iso_field *field, uint32_t length)
    void iso_unpack(const iso_field *field, const uint8_t *data, uint32_t length, uint8_t *out)
    void iso_mti_unpack(const iso_spec *spec, const uint8_t *data, uint32_t mti_offset, uint8_t *out)

    ctypedef struct iso_value:
        const uint8_t *data
        uint32_t size
        bint as_wire

    uint32_t iso_build_field_size(const iso_field *field, const iso_value *value)
    uint32_t iso_build_base_size(const iso_spec *spec, bint secondary)
    iso_status iso_build(const iso_spec *spec, const uint8_t *mti, const iso_value *values,
                         bint secondary, uint8_t *out, uint32_t capacity, uint32_t *size,
                         iso_fault *fault)

    ctypedef struct iso_tlv:
        uint32_t tag_offset
        uint32_t tag_size
        uint32_t value_offset
        uint32_t value_size

    iso_status iso_tlv_next(const uint8_t *data, uint32_t size, uint32_t *offset, iso_tlv *out)
    bint iso_tlv_tag_valid(const uint8_t *tag, uint32_t size)
    iso_status iso_tlv_write(const uint8_t *tag, uint32_t tag_size, const uint8_t *value,
                             uint32_t value_size, uint8_t *out, uint32_t capacity,
                             uint32_t *offset)

    ctypedef struct iso_frame:
        uint32_t offset
        uint32_t size

    iso_status iso_frame_len2(const uint8_t *data, uint32_t size, uint32_t size_max, iso_frame *out)
