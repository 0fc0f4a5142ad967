#include "iso8583.h"
#include "internal.h"

static iso_status fail(iso_fault *fault, iso_status status, uint32_t field, uint32_t offset,
                       uint32_t position, uint32_t length)
{
    assert(status != ISO_OK);
    *fault = (iso_fault){field, offset, position, length};
    return status;
}

/* Offset of the byte of the bitmap that holds the bit of `field`. */
static uint32_t bit_offset(const iso_spec *spec, uint32_t bitmap_offset, uint32_t field)
{
    return bitmap_offset + (field - 1) / (spec->bitmap_form == ISO_BITMAP_BINARY ? 8 : 4);
}

static iso_status read_mti(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                           iso_fault *fault)
{
    const uint32_t mti_size = iso_decimal_size(ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form);
    if (size - start < mti_size) {
        return fail(fault, ISO_E_TRUNCATED, 0, start, start, 0);
    }
    if (iso_decimal_read(data + start, ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form) < 0) {
        return fail(fault, ISO_E_MTI, 0, start, start, 0);
    }
    return ISO_OK;
}

/* Read one or two bitmaps at *offset and refuse every bit that the spec does not define. */
static iso_status read_bitmaps(const iso_spec *spec, const uint8_t *data, uint32_t size,
                               uint32_t *offset, uint64_t present[2], iso_fault *fault)
{
    const uint32_t first = *offset;
    const iso_bitmap_form form = (iso_bitmap_form)spec->bitmap_form;
    uint32_t at = first;
    uint32_t position = at;
    present[1] = 0;
    for (uint32_t word = 0; word < 2; word++) {
        const iso_status status = iso_bitmap_read(form, data, size, at, &present[word], &position);
        if (status != ISO_OK) {
            return fail(fault, status, 1, at, status == ISO_E_BITMAP ? position : at, 0);
        }
        at += iso_bitmap_size(form);
        if ((present[0] & iso_bit(1)) == 0) {
            break;
        }
        if (spec->field_max == 64) {
            return fail(fault, ISO_E_BITMAP, 1, first, first, 1);
        }
    }
    for (uint32_t word = 0; word < 2; word++) {
        const uint64_t defined = spec->defined[word] | (word == 0 ? iso_bit(1) : 0);
        const uint64_t undefined = present[word] & ~defined;
        if (undefined != 0) {
            const uint32_t field = word * 64 + iso_leading_zeros(undefined) + 1;
            const uint32_t byte = bit_offset(spec, first, field);
            return fail(fault, ISO_E_UNDEFINED, field, byte, byte, 0);
        }
    }
    *offset = at;
    return ISO_OK;
}

static iso_status check_packed(const iso_field *field, const uint8_t *data, uint32_t length,
                               uint32_t *index)
{
    const uint32_t digits = iso_unpacked_length(field, length);
    const bool left = field->packing != ISO_PACK_BCD_RIGHT;
    if (field->packing != ISO_PACK_TRACK_LEFT) {
        *index = iso_bcd_find_bad(data, digits, left);
        if (*index != ISO_NO_POSITION) {
            return ISO_E_CONTENT;
        }
    }
    if (field->pad_strict && digits % 2 == 1) {
        const uint32_t padded = left ? digits / 2 : 0;
        const uint32_t pad = left ? data[padded] & 0x0Fu : (uint32_t)data[padded] >> 4;
        if (pad != 0) {
            *index = padded;
            return ISO_E_CONTENT;
        }
    }
    return ISO_OK;
}

static iso_status read_field(const iso_spec *spec, uint32_t number, const uint8_t *data,
                             uint32_t size, uint32_t *offset, iso_slice *slice, iso_fault *fault)
{
    const iso_field *const field = &spec->fields[number];
    const uint32_t from = *offset;
    uint32_t length = 0;
    uint32_t prefix_size = 0;
    iso_status status = iso_length_read(field, data, size, from, &length, &prefix_size);
    if (ISO_UNLIKELY(status != ISO_OK)) {
        return fail(fault, status, number, from, from, length);
    }
    const uint32_t value_offset = from + prefix_size;
    const uint32_t value_size = iso_value_size(field, length);
    if (ISO_UNLIKELY(size - value_offset < value_size)) {
        return fail(fault, ISO_E_TRUNCATED, number, from, from, length);
    }
    uint32_t index = 0;
    if (field->packing == ISO_PACK_BYTES) {
        status =
            iso_content_check((iso_content)field->content, data + value_offset, value_size, &index);
    } else {
        status = check_packed(field, data + value_offset, length, &index);
    }
    if (ISO_UNLIKELY(status != ISO_OK)) {
        return fail(fault, status, number, from, value_offset + index, length);
    }
    slice->offset = (uint16_t)value_offset;
    slice->size = (uint16_t)value_size;
    slice->length = (uint16_t)length;
    *offset = value_offset + value_size;
    assert(*offset <= size);
    return ISO_OK;
}

iso_status iso_index(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                     iso_layout *layout, iso_fault *fault)
{
    assert(start <= size);
    assert(spec->field_max == 64 || spec->field_max == 128);

    if (size > ISO_MESSAGE_SIZE_MAX) {
        return fail(fault, ISO_E_SIZE, 0, 0, 0, 0);
    }
    iso_status status = read_mti(spec, data, size, start, fault);
    if (status != ISO_OK) {
        return status;
    }
    uint32_t offset = start + iso_decimal_size(ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form);
    uint64_t present[2];
    status = read_bitmaps(spec, data, size, &offset, present, fault);
    if (status != ISO_OK) {
        return status;
    }

    /* Slices go straight into the caller's layout: until `count` is set below they mean nothing,
     * so an error leaves the layout as good as untouched. */
    const uint32_t fields_offset = offset;
    uint32_t count = 0;
    for (uint32_t word = 0; word < 2; word++) {
        uint64_t left = present[word] & ~(word == 0 ? iso_bit(1) : 0);
        while (left != 0) {
            const uint32_t number = word * 64 + iso_leading_zeros(left) + 1;
            left &= ~iso_bit(number);
            status = read_field(spec, number, data, size, &offset, &layout->slices[count], fault);
            if (ISO_UNLIKELY(status != ISO_OK)) {
                return status;
            }
            count++;
        }
    }
    if (offset != size) {
        return fail(fault, ISO_E_TRAILING, 0, offset, offset, size - offset);
    }
    layout->present[0] = present[0];
    layout->present[1] = present[1];
    layout->mti_offset = (uint16_t)start;
    layout->fields_offset = (uint16_t)fields_offset;
    layout->size = (uint16_t)size;
    layout->count = (uint16_t)count;
    assert(count < ISO_FIELD_MAX);
    return ISO_OK;
}
