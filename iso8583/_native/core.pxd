"""The C core as Cython sees it, in the order of csrc/iso8583.h. The contracts are there."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>":
    ctypedef bint bool_c "bool"

cdef extern from "hot.h" nogil:
    enum:
        ISO_FIELD_MAX
        ISO_TABLE_SIZE
        ISO_BITMAPS_MAX
        ISO_MTI_DIGITS
        ISO_MESSAGE_SIZE_MAX
        ISO_REPEATS_MAX
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
        ISO_E_TRACK
        ISO_E_PAD
        ISO_E_CANONICAL
        ISO_E_DUPLICATE

    const char *iso_status_name(iso_status status)

    ctypedef struct iso_fault:
        iso_status status
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
        ISO_PACK_TRACK_RIGHT
        ISO_PACK_SIGNED_LEFT
        ISO_PACK_SIGNED_RIGHT
        ISO_PACK_HEX

    ctypedef enum iso_content:
        ISO_CONTENT_B
        ISO_CONTENT_N
        ISO_CONTENT_A
        ISO_CONTENT_AN
        ISO_CONTENT_ANS
        ISO_CONTENT_Z
        ISO_CONTENT_TRACK2
        ISO_CONTENT_XN
        ISO_CONTENT_LATIN1
        ISO_CONTENT_GBK
        ISO_CONTENT_GB18030
        ISO_CONTENT_UTF8
        ISO_CONTENT_TLV

    ctypedef enum iso_unit:
        ISO_UNIT_BYTES
        ISO_UNIT_DIGITS
        ISO_UNIT_NIBBLES

    ctypedef enum iso_digits_form:
        ISO_FORM_BCD
        ISO_FORM_ASCII
        ISO_FORM_EBCDIC
        ISO_FORM_BINARY
        ISO_FORM_HEX

    ctypedef enum iso_bitmap_form:
        ISO_BITMAP_BINARY
        ISO_BITMAP_HEX
        ISO_BITMAP_HEX_EBCDIC

    ctypedef enum iso_charset:
        ISO_CHARSET_ASCII
        ISO_CHARSET_CP037
        ISO_CHARSET_CP500
        ISO_CHARSET_CP1047

    ctypedef struct iso_field:
        uint8_t packing
        uint8_t content
        uint8_t unit
        uint8_t charset
        uint8_t prefix_digits
        uint8_t prefix_form
        uint8_t pad_strict
        uint8_t pad_nibble
        uint16_t length_min
        uint16_t length_max
        uint8_t secret_field
        uint8_t secret_position
        uint8_t secret_character

    ctypedef struct iso_repeat:
        uint32_t tag
        uint8_t field

    ctypedef struct iso_spec:
        uint8_t mti_form
        uint8_t bitmap_form
        uint8_t field_max
        uint8_t repeat_count
        uint8_t has_track2
        iso_repeat repeats[64]
        uint64_t defined[3]
        iso_field fields[193]

    iso_status iso_spec_check(iso_spec *spec, iso_fault *fault)
    bool_c iso_field_check(const iso_field *field)

    ctypedef struct iso_slice:
        uint16_t offset
        uint16_t size
        uint16_t length

    ctypedef struct iso_head:
        uint64_t present[3]
        uint16_t mti
        uint16_t fields_offset

    iso_status iso_mti_read(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                            uint32_t *mti, iso_fault *fault)
    bool_c iso_head_read(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start, iso_head *head)

    ctypedef struct iso_layout:
        iso_head head
        uint16_t count
        iso_slice slices[192]

    uint32_t iso_index(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                       iso_layout *layout, iso_fault *faults, uint32_t capacity)
    iso_status iso_field_read(const iso_field *field, const uint8_t *data, uint32_t size,
                              uint32_t *offset, iso_slice *slice, iso_fault *fault)
    uint32_t iso_value_length(const iso_field *field, const iso_slice *slice)
    void iso_value_write(const iso_field *field, const uint8_t *data, const iso_slice *slice, uint8_t *out)

    ctypedef struct iso_place:
        uint16_t at
        uint16_t size
        uint8_t step
        uint8_t kind

    enum:
        ISO_PLACE_ABSENT
        ISO_PLACE_FIXED
        ISO_PLACE_VARIABLE

    ctypedef struct iso_plan:
        const iso_spec *spec
        uint64_t present[3]
        uint8_t count
        uint8_t step_count
        uint8_t variable_count
        uint8_t numbers[192]
        iso_place places[193]

    bool_c iso_plan_make(const iso_spec *spec, const uint64_t *present, iso_plan *plan)
    bool_c iso_plan_run(const iso_plan *plan, const uint8_t *data, uint32_t size, uint32_t fields_offset,
                        iso_slice *variables)
    iso_slice iso_plan_slice(const iso_plan *plan, const iso_slice *variables, uint32_t fields_offset, uint32_t number)
    uint32_t iso_plan_span(const iso_plan *plan, const iso_slice *variables, uint32_t fields_offset,
                           uint32_t number, uint32_t *start)

    ctypedef struct iso_value:
        const uint8_t *data
        uint32_t size
        bool_c as_wire

    uint32_t iso_build_field_size(const iso_field *field, const iso_value *value)
    uint32_t iso_build_base_size(const iso_spec *spec, const uint64_t *present)
    void iso_build_announce(uint64_t *present)
    iso_status iso_build(const iso_spec *spec, const uint8_t *mti, const uint64_t *present, const iso_value *values,
                         uint8_t *out, uint32_t capacity, uint32_t *size, iso_fault *fault)
    iso_status iso_field_write(const iso_field *field, const iso_value *value, uint8_t *out,
                               uint32_t capacity, uint32_t *size, uint32_t *position)

    ctypedef struct iso_tlv:
        uint32_t tag_offset
        uint32_t tag_size
        uint32_t value_offset
        uint32_t value_size

    iso_status iso_tlv_next(const uint8_t *data, uint32_t size, uint32_t *offset, iso_tlv *out)
    iso_status iso_tlv_check(const uint8_t *data, uint32_t size, const iso_repeat *repeats, uint32_t repeat_count,
                             uint32_t field, uint32_t *index)
    bool_c iso_tlv_tag_valid(const uint8_t *tag, uint32_t size)
    iso_status iso_tlv_write(const uint8_t *tag, uint32_t tag_size, const uint8_t *value,
                             uint32_t value_size, uint8_t *out, uint32_t capacity, uint32_t *offset)
