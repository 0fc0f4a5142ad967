#include "iso8583.h"
#include "internal.h"

uint32_t iso_value_size(const iso_field *field, uint32_t length)
{
    switch (field->packing) {
    case ISO_PACK_BYTES:
        if (field->unit == ISO_UNIT_NIBBLES) {
            return length % 2 == 0 ? length / 2 : ISO_NO_POSITION;
        }
        return length;
    case ISO_PACK_HEX:
        if (field->unit == ISO_UNIT_DIGITS) {
            return length % 2 == 0 ? length : ISO_NO_POSITION;
        }
        return length * 2;
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        return 1 + length / 2; /* the sign, and ceil((length - 1) / 2) */
    default:
        return field->unit == ISO_UNIT_DIGITS ? (length + 1) / 2 : length;
    }
}

iso_status iso_length_read(const iso_field *field, const uint8_t *data, uint32_t size,
                           uint32_t offset, uint32_t *length, uint32_t *prefix_size)
{
    assert(offset <= size);
    assert(field->packing != ISO_PACK_NONE);

    if (field->prefix_digits == 0) {
        *length = field->length_max;
        *prefix_size = 0;
        return ISO_OK;
    }
    const iso_digits_form form = (iso_digits_form)field->prefix_form;
    const uint32_t needed = iso_number_size(field->prefix_digits, form);
    if (size - offset < needed) {
        return ISO_E_TRUNCATED;
    }
    const int32_t found = iso_number_read(data + offset, field->prefix_digits, form);
    if (found < 0) {
        return ISO_E_PREFIX;
    }
    /* The limits come before the bytes at hand: a peer must not be able to make us wait for data
     * that we would reject anyway. */
    *length = (uint32_t)found;
    *prefix_size = needed;
    if (*length > field->length_max || *length < field->length_min ||
        iso_value_size(field, *length) == ISO_NO_POSITION) {
        return ISO_E_LENGTH;
    }
    return ISO_OK;
}
