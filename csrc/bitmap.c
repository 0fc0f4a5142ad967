#include "iso8583.h"
#include "internal.h"

uint32_t iso_bitmap_size(iso_bitmap_form form)
{
    return form == ISO_BITMAP_BINARY ? 8u : 16u;
}

/* EBCDIC letters and digits stand where all three pages agree. */
static const uint8_t *characters_of(iso_bitmap_form form)
{
    return form == ISO_BITMAP_HEX_EBCDIC ? iso_charset_decoder(ISO_CHARSET_CP037) : NULL;
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
        *bits = __builtin_bswap64(iso_load64(data + offset));
        return ISO_OK;
    }
    if (form == ISO_BITMAP_HEX) {
        uint64_t bad = 0;
        const uint64_t high = iso_hex_nibbles(iso_load64(data + offset), &bad);
        const uint64_t low = iso_hex_nibbles(iso_load64(data + offset + 8), &bad);
        if (ISO_LIKELY(bad == 0)) {
            *bits = (uint64_t)__builtin_bswap32(iso_squeeze(high)) << 32 |
                    __builtin_bswap32(iso_squeeze(low));
            return ISO_OK;
        }
    }
    const uint8_t *const translate = characters_of(form);
    uint64_t found = 0;
    for (uint32_t i = 0; i < needed; i++) {
        const uint8_t byte = data[offset + i];
        const int32_t nibble = iso_hex_value(translate == NULL ? byte : translate[byte]);
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
    if (form == ISO_BITMAP_BINARY) {
        iso_store64(out, __builtin_bswap64(bits));
        return;
    }
    if (form == ISO_BITMAP_HEX) {
        iso_store64(out, iso_hex_characters(iso_spread(__builtin_bswap32((uint32_t)(bits >> 32)))));
        iso_store64(out + 8, iso_hex_characters(iso_spread(__builtin_bswap32((uint32_t)bits))));
        return;
    }
    for (uint32_t i = 0; i < 16; i++) {
        const uint8_t character = (uint8_t) "0123456789ABCDEF"[bits >> (60u - 4u * i) & 0x0Fu];
        out[i] = iso_charset_encoder(ISO_CHARSET_CP037)[character];
    }
}
