#include "iso8583.h"
#include "internal.h"

static iso_status fail(iso_fault *fault, iso_status status, uint32_t field, uint32_t offset,
                       uint32_t position, uint32_t length)
{
    assert(status != ISO_OK);
    *fault = (iso_fault){field, offset, position, length};
    return status;
}

uint32_t iso_build_field_size(const iso_field *field, const iso_value *value)
{
    if (value->as_wire) {
        return value->size;
    }
    const uint32_t prefix_size =
        iso_decimal_size(field->prefix_digits, (iso_digits_form)field->prefix_form);
    return prefix_size + (field->packing == ISO_PACK_BYTES ? value->size : (value->size + 1) / 2);
}

uint32_t iso_build_base_size(const iso_spec *spec, bool secondary)
{
    return iso_decimal_size(ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form) +
           iso_bitmap_size((iso_bitmap_form)spec->bitmap_form) * (secondary ? 2u : 1u);
}

/* Length in the field's own unit of a value given as characters or bytes; false if an odd number
 * of digits meets a prefix that counts bytes, because the reader could not tell the pad apart. */
static bool length_of(const iso_field *field, uint32_t size, uint32_t *length)
{
    if (field->packing == ISO_PACK_BYTES || field->unit == ISO_UNIT_DIGITS) {
        *length = size;
        return true;
    }
    *length = size / 2;
    return size % 2 == 0;
}

static iso_status write_field(const iso_spec *spec, uint32_t number, const iso_value *value,
                              uint8_t *out, uint32_t capacity, uint32_t *offset, iso_fault *fault)
{
    const iso_field *const field = &spec->fields[number];
    const uint32_t from = *offset;
    assert(from <= capacity);

    if (value->as_wire) {
        if (capacity - from < value->size) {
            return fail(fault, ISO_E_SPACE, number, from, from, 0);
        }
        if (value->size > 0) {
            memcpy(out + from, value->data, value->size);
        }
        *offset = from + value->size;
        return ISO_OK;
    }

    uint32_t length = 0;
    if (!length_of(field, value->size, &length) || length < field->length_min ||
        length > field->length_max) {
        return fail(fault, ISO_E_LENGTH, number, from, from, value->size);
    }
    const uint32_t prefix_size =
        iso_decimal_size(field->prefix_digits, (iso_digits_form)field->prefix_form);
    const uint32_t value_size = iso_value_size(field, length);
    if (capacity - from < prefix_size + value_size) {
        return fail(fault, ISO_E_SPACE, number, from, from, 0);
    }
    if (prefix_size > 0) {
        iso_decimal_write(out + from, field->prefix_digits, (iso_digits_form)field->prefix_form,
                          length);
    }
    uint8_t *const to = out + from + prefix_size;
    uint32_t index = 0;
    iso_status status = ISO_OK;
    if (field->packing == ISO_PACK_BYTES) {
        status = iso_content_check((iso_content)field->content, value->data, value->size, &index);
        if (status == ISO_OK && value_size > 0) {
            memcpy(to, value->data, value_size);
        }
    } else {
        index = iso_pack((iso_packing)field->packing, value->data, value->size, to);
        status = index == ISO_NO_POSITION ? ISO_OK : ISO_E_CONTENT;
    }
    if (status != ISO_OK) {
        return fail(fault, status, number, from, index, value->size);
    }
    *offset = from + prefix_size + value_size;
    assert(*offset <= capacity);
    return ISO_OK;
}

static iso_status write_mti(const iso_spec *spec, const uint8_t *mti, uint8_t *out,
                            iso_fault *fault)
{
    const int32_t value = iso_decimal_read(mti, ISO_MTI_DIGITS, ISO_FORM_ASCII);
    if (value < 0) {
        return fail(fault, ISO_E_MTI, 0, 0, 0, 0);
    }
    iso_decimal_write(out, ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form, (uint32_t)value);
    return ISO_OK;
}

iso_status iso_build(const iso_spec *spec, const uint8_t *mti, const iso_value *values,
                     bool secondary, uint8_t *out, uint32_t capacity, uint32_t *size,
                     iso_fault *fault)
{
    assert(spec->field_max == 64 || spec->field_max == 128);
    assert(!secondary || spec->field_max == 128);

    uint64_t present[2] = {0, 0};
    for (uint32_t number = 2; number < ISO_TABLE_SIZE; number++) {
        if (values[number].data == NULL) {
            continue;
        }
        if (spec->fields[number].packing == ISO_PACK_NONE) {
            return fail(fault, ISO_E_UNDEFINED, number, 0, 0, 0);
        }
        present[number > 64] |= iso_bit(number);
    }
    const bool two = secondary || present[1] != 0;
    if (two) {
        present[0] |= iso_bit(1);
    }

    const iso_bitmap_form form = (iso_bitmap_form)spec->bitmap_form;
    const uint32_t mti_size = iso_decimal_size(ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form);
    const uint32_t bitmap_size = iso_bitmap_size(form);
    uint32_t offset = iso_build_base_size(spec, two);
    if (capacity < offset) {
        return fail(fault, ISO_E_SPACE, 0, 0, 0, 0);
    }
    iso_status status = write_mti(spec, mti, out, fault);
    if (status != ISO_OK) {
        return status;
    }
    iso_bitmap_write(form, present[0], out + mti_size);
    if (two) {
        iso_bitmap_write(form, present[1], out + mti_size + bitmap_size);
    }

    for (uint32_t word = 0; word < 2; word++) {
        uint64_t left = present[word] & ~(word == 0 ? iso_bit(1) : 0);
        while (left != 0) {
            const uint32_t number = word * 64 + iso_leading_zeros(left) + 1;
            left &= ~iso_bit(number);
            status = write_field(spec, number, &values[number], out, capacity, &offset, fault);
            if (ISO_UNLIKELY(status != ISO_OK)) {
                return status;
            }
        }
    }
    assert(offset <= capacity);
    *size = offset;
    return ISO_OK;
}
