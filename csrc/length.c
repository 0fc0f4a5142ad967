#include "iso8583.h"
#include "internal.h"

uint32_t iso_value_size(const iso_field *field, uint32_t length)
{
    return field->unit == ISO_UNIT_DIGITS && field->packing != ISO_PACK_BYTES ? (length + 1) / 2
                                                                              : length;
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
    const uint32_t needed =
        iso_decimal_size(field->prefix_digits, (iso_digits_form)field->prefix_form);
    if (size - offset < needed) {
        return ISO_E_TRUNCATED;
    }
    const int32_t found =
        iso_decimal_read(data + offset, field->prefix_digits, (iso_digits_form)field->prefix_form);
    if (found < 0) {
        return ISO_E_PREFIX;
    }
    /* The limits come before the bytes at hand: a peer must not be able to make us wait for data
     * that we would reject anyway. */
    *length = (uint32_t)found;
    *prefix_size = needed;
    if (*length > field->length_max || *length < field->length_min) {
        return ISO_E_LENGTH;
    }
    return ISO_OK;
}
