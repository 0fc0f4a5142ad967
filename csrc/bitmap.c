#include "iso8583.h"
#include "internal.h"

uint32_t iso_bitmap_size(iso_bitmap_form form)
{
    return form == ISO_BITMAP_BINARY ? 8u : 16u;
}

static uint64_t read_binary(const uint8_t *data)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < 8; i++) {
        bits = bits << 8 | data[i];
    }
    return bits;
}

static int32_t hex_value(uint8_t character)
{
    if (character >= '0' && character <= '9') {
        return character - '0';
    }
    if (character >= 'A' && character <= 'F') {
        return character - 'A' + 10;
    }
    if (character >= 'a' && character <= 'f') {
        return character - 'a' + 10;
    }
    return -1;
}

iso_status iso_bitmap_read(iso_bitmap_form form, const uint8_t *data, uint32_t size,
                           uint32_t offset, uint64_t *bits, uint32_t *position)
{
    assert(offset <= size);
    const uint32_t needed = iso_bitmap_size(form);
    if (size - offset < needed) {
        return ISO_E_TRUNCATED;
    }
    if (form == ISO_BITMAP_BINARY) {
        *bits = read_binary(data + offset);
        return ISO_OK;
    }

    uint64_t found = 0;
    for (uint32_t i = 0; i < needed; i++) {
        const int32_t nibble = hex_value(data[offset + i]);
        if (nibble < 0) {
            *position = offset + i;
            return ISO_E_BITMAP;
        }
        found = found << 4 | (uint64_t)nibble;
    }
    *bits = found;
    return ISO_OK;
}

void iso_bitmap_write(iso_bitmap_form form, uint64_t bits, uint8_t *out)
{
    const uint32_t size = iso_bitmap_size(form);
    const uint32_t step = 64u / size;
    for (uint32_t i = 0; i < size; i++) {
        const uint64_t part = bits >> (64u - step * (i + 1u));
        out[i] = form == ISO_BITMAP_BINARY ? (uint8_t)(part & 0xFFu)
                                           : (uint8_t)"0123456789ABCDEF"[part & 0x0Fu];
    }
}

int32_t iso_layout_find(const uint64_t present[2], uint32_t field)
{
    if (field < 2 || field > ISO_FIELD_MAX) {
        return -1;
    }
    const uint64_t bit = iso_bit(field);
    const uint64_t first = present[0] & ~iso_bit(1); /* bit 1 announces a bitmap, not a field */
    /* Bits above `bit` are the fields in front of it. */
    const uint64_t before = ~(bit | (bit - 1u));
    if (field <= 64) {
        return first & bit ? (int32_t)iso_popcount(first & before) : -1;
    }
    return present[1] & bit ? (int32_t)(iso_popcount(first) + iso_popcount(present[1] & before))
                            : -1;
}
