#include "iso8583.h"
#include "internal.h"

static uint32_t power_of_ten(uint32_t exponent)
{
    uint32_t value = 1;
    for (uint32_t i = 0; i < exponent; i++) {
        value *= 10;
    }
    return value;
}

static bool content_fits_packing(const iso_field *field)
{
    switch (field->packing) {
    case ISO_PACK_BYTES:
        /* Unpacked values are counted in bytes, whatever the characters are. */
        return field->content <= ISO_CONTENT_TLV && field->unit == ISO_UNIT_BYTES;
    case ISO_PACK_BCD_LEFT:
    case ISO_PACK_BCD_RIGHT:
        return field->content == ISO_CONTENT_N;
    case ISO_PACK_TRACK_LEFT:
        return field->content == ISO_CONTENT_Z;
    default:
        return false;
    }
}

static bool field_is_sound(const iso_field *field)
{
    if (!content_fits_packing(field)) {
        return false;
    }
    if (field->unit > ISO_UNIT_DIGITS || field->prefix_form > ISO_FORM_ASCII) {
        return false;
    }
    if (field->length_max == 0 || field->length_min > field->length_max) {
        return false;
    }
    if (field->prefix_digits == 0) {
        return field->length_min == field->length_max && field->length_max <= ISO_FIELD_LENGTH_MAX;
    }
    return field->prefix_digits <= 4 && field->length_max < power_of_ten(field->prefix_digits);
}

iso_status iso_spec_check(iso_spec *spec, iso_fault *fault)
{
    uint64_t defined[2] = {0, 0};
    uint32_t bad = ISO_NO_POSITION;
    if (spec->mti_form > ISO_FORM_ASCII) {
        bad = 0;
    } else if (spec->bitmap_form > ISO_BITMAP_HEX ||
               (spec->field_max != 64 && spec->field_max != 128)) {
        bad = 1;
    }
    for (uint32_t number = 0; number < ISO_TABLE_SIZE && bad == ISO_NO_POSITION; number++) {
        const iso_field *const field = &spec->fields[number];
        if (field->packing == ISO_PACK_NONE) {
            continue;
        }
        if (number < 2 || number > spec->field_max || !field_is_sound(field)) {
            bad = number;
        } else {
            defined[number > 64] |= iso_bit(number);
        }
    }
    if (bad != ISO_NO_POSITION) {
        *fault = (iso_fault){.field = bad};
        return ISO_E_SPEC;
    }
    spec->defined[0] = defined[0];
    spec->defined[1] = defined[1];
    assert((spec->defined[0] & iso_bit(1)) == 0);
    return ISO_OK;
}
