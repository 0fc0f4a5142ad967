#include "iso8583.h"
#include "internal.h"

static const uint8_t DIGIT_CHARACTERS[17] = "0123456789ABCDEF";
/* UnionPay POS, fields 35 and 36: the separator '=' travels as nibble D. */
static const uint8_t TRACK_CHARACTERS[17] = "0123456789ABC=EF";

static bool pair_is_bad(uint8_t byte)
{
    return (byte & 0x0Fu) > 9 || byte >> 4 > 9;
}

uint32_t iso_bcd_find_bad(const uint8_t *data, uint32_t digits, bool left)
{
    const bool odd = digits % 2 == 1;
    const uint32_t size = (digits + 1) / 2;
    uint32_t from = 0;
    uint32_t to = size;
    if (odd && left) {
        to = size - 1;
        if (data[to] >> 4 > 9) {
            /* Earlier bytes are reported first, so that the position is that of the first fault. */
            const uint32_t earlier = iso_bcd_find_bad(data, digits - 1, true);
            return earlier != ISO_NO_POSITION ? earlier : to;
        }
    } else if (odd) {
        from = 1;
        if ((data[0] & 0x0Fu) > 9) {
            return 0;
        }
    }
    for (uint32_t i = from; i < to; i++) {
        if (ISO_UNLIKELY(pair_is_bad(data[i]))) {
            return i;
        }
    }
    return ISO_NO_POSITION;
}

uint32_t iso_decimal_size(uint32_t digits, iso_digits_form form)
{
    return form == ISO_FORM_BCD ? (digits + 1) / 2 : digits;
}

int32_t iso_decimal_read(const uint8_t *data, uint32_t digits, iso_digits_form form)
{
    assert(digits >= 1 && digits <= 4);
    const uint32_t size = iso_decimal_size(digits, form);
    int32_t value = 0;
    for (uint32_t i = 0; i < size; i++) {
        if (form == ISO_FORM_BCD) {
            if (pair_is_bad(data[i])) {
                return -1;
            }
            value = value * 100 + (data[i] >> 4) * 10 + (data[i] & 0x0F);
        } else {
            if (data[i] < '0' || data[i] > '9') {
                return -1;
            }
            value = value * 10 + (data[i] - '0');
        }
    }
    return value;
}

void iso_decimal_write(uint8_t *out, uint32_t digits, iso_digits_form form, uint32_t value)
{
    assert(digits >= 1 && digits <= 4);
    assert(value <= 9999);
    uint32_t rest = value;
    for (uint32_t i = iso_decimal_size(digits, form); i > 0; i--) {
        if (form == ISO_FORM_BCD) {
            out[i - 1] = (uint8_t)(rest % 10 | rest / 10 % 10 << 4);
            rest /= 100;
        } else {
            out[i - 1] = (uint8_t)('0' + rest % 10);
            rest /= 10;
        }
    }
    assert(rest == 0);
}

static int32_t nibble_of(iso_packing packing, uint8_t character)
{
    if (character >= '0' && character <= '9') {
        return character - '0';
    }
    if (packing != ISO_PACK_TRACK_LEFT) {
        return -1;
    }
    if (character == '=') {
        return 0x0D;
    }
    return character >= 'A' && character <= 'F' ? character - 'A' + 10 : -1;
}

uint32_t iso_pack(iso_packing packing, const uint8_t *characters, uint32_t count, uint8_t *out)
{
    assert(packing >= ISO_PACK_BCD_LEFT && packing <= ISO_PACK_TRACK_LEFT);
    const uint32_t size = (count + 1) / 2;
    memset(out, 0, size);
    /* Right packing starts in the low nibble of the first byte when the count is odd. */
    const uint32_t first = packing == ISO_PACK_BCD_RIGHT ? count % 2 : 0;
    for (uint32_t i = 0; i < count; i++) {
        const int32_t nibble = nibble_of(packing, characters[i]);
        if (ISO_UNLIKELY(nibble < 0)) {
            return i;
        }
        const uint32_t at = first + i;
        out[at / 2] = (uint8_t)(out[at / 2] | (uint32_t)nibble << (at % 2 == 0 ? 4 : 0));
    }
    return ISO_NO_POSITION;
}

uint32_t iso_unpacked_length(const iso_field *field, uint32_t length)
{
    if (field->packing == ISO_PACK_BYTES || field->unit == ISO_UNIT_DIGITS) {
        return length;
    }
    return length * 2;
}

void iso_unpack(const iso_field *field, const uint8_t *data, uint32_t length, uint8_t *out)
{
    assert(field->packing >= ISO_PACK_BCD_LEFT && field->packing <= ISO_PACK_TRACK_LEFT);
    const uint32_t count = iso_unpacked_length(field, length);
    const uint32_t first = field->packing == ISO_PACK_BCD_RIGHT ? count % 2 : 0;
    const uint8_t *const characters =
        field->packing == ISO_PACK_TRACK_LEFT ? TRACK_CHARACTERS : DIGIT_CHARACTERS;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = first + i;
        const uint8_t byte = data[at / 2];
        out[i] = characters[at % 2 == 0 ? byte >> 4 : byte & 0x0F];
    }
}

void iso_mti_unpack(const iso_spec *spec, const uint8_t *data, uint32_t mti_offset, uint8_t *out)
{
    for (uint32_t i = 0; i < ISO_MTI_DIGITS; i++) {
        if (spec->mti_form == ISO_FORM_ASCII) {
            out[i] = data[mti_offset + i];
        } else {
            const uint8_t byte = data[mti_offset + i / 2];
            out[i] = DIGIT_CHARACTERS[i % 2 == 0 ? byte >> 4 : byte & 0x0F];
        }
    }
}
