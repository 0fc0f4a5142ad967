#include "iso8583.h"
#include "internal.h"

static bool pads_right(uint8_t packing)
{
    return packing == ISO_PACK_BCD_LEFT || packing == ISO_PACK_TRACK_LEFT ||
           packing == ISO_PACK_SIGNED_LEFT;
}

static bool is_track(uint8_t packing)
{
    return packing == ISO_PACK_TRACK_LEFT || packing == ISO_PACK_TRACK_RIGHT;
}

static bool is_signed(uint8_t packing)
{
    return packing == ISO_PACK_SIGNED_LEFT || packing == ISO_PACK_SIGNED_RIGHT;
}

static const uint8_t *decoder_of(const iso_field *field)
{
    return field->charset == ISO_CHARSET_ASCII ? NULL
                                               : iso_charset_decoder((iso_charset)field->charset);
}

/* Digits of a packed value, without its sign. */
static uint32_t digits_of(const iso_field *field, uint32_t length)
{
    if (is_signed(field->packing)) {
        return length - 1;
    }
    return field->unit == ISO_UNIT_DIGITS ? length : length * 2;
}

static iso_status check_packed(const iso_field *field, const uint8_t *data, uint32_t length,
                               uint32_t *index)
{
    const uint32_t digits = digits_of(field, length);
    const bool left = pads_right(field->packing);
    if (!is_track(field->packing)) {
        *index = iso_bcd_find_bad(data, digits, left);
        if (*index != ISO_NO_POSITION) {
            return ISO_E_CONTENT;
        }
    }
    if (field->pad_strict && digits % 2 == 1) {
        const uint32_t padded = left ? digits / 2 : 0;
        const uint32_t pad = left ? data[padded] & 0x0Fu : (uint32_t)data[padded] >> 4;
        if (pad != field->pad_nibble) {
            *index = padded;
            return ISO_E_PAD;
        }
    }
    return ISO_OK;
}

static iso_status check_hex(const iso_field *field, const uint8_t *data, uint32_t size,
                            uint32_t *index)
{
    const uint8_t *const translate = decoder_of(field);
    for (uint32_t i = 0; i < size; i++) {
        if (iso_hex_value(translate == NULL ? data[i] : translate[data[i]]) < 0) {
            *index = i;
            return ISO_E_CONTENT;
        }
    }
    return ISO_OK;
}

iso_status iso_value_check(const iso_spec *spec, uint32_t number, const iso_field *field,
                           const uint8_t *data, uint32_t size, uint32_t length, uint32_t *index)
{
    switch (field->packing) {
    case ISO_PACK_BYTES:
        if (field->content == ISO_CONTENT_TLV) {
            return spec == NULL ? iso_tlv_check(data, size, NULL, 0, 0, index)
                                : iso_tlv_check(data, size, spec->repeats, spec->repeat_count,
                                                number, index);
        }
        return iso_content_check((iso_content)field->content, decoder_of(field), data, size, index);
    case ISO_PACK_HEX:
        return check_hex(field, data, size, index);
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        if (data[0] != 'C' && data[0] != 'D') {
            *index = 0;
            return ISO_E_CONTENT;
        } else {
            const iso_status status = check_packed(field, data + 1, length, index);
            *index += 1;
            return status;
        }
    default:
        return check_packed(field, data, length, index);
    }
}

uint32_t iso_value_length(const iso_field *field, const iso_slice *slice)
{
    if (field->shape != ISO_SHAPE_GENERAL) {
        return slice->length;
    }
    switch (field->packing) {
    case ISO_PACK_BYTES:
        return slice->size;
    case ISO_PACK_HEX:
        return slice->size / 2u;
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        return slice->length;
    default:
        return digits_of(field, slice->length);
    }
}

void iso_value_write(const iso_field *field, const uint8_t *data, const iso_slice *slice,
                     uint8_t *out)
{
    const uint8_t *const from = data + slice->offset;
    if (field->shape == ISO_SHAPE_DIGITS) {
        iso_unpack_even(from, slice->length, out);
        return;
    }
    const uint8_t *const translate = decoder_of(field);
    switch (field->packing) {
    case ISO_PACK_BYTES:
        for (uint32_t i = 0; i < slice->size; i++) {
            out[i] = translate == NULL ? from[i] : translate[from[i]];
        }
        return;
    case ISO_PACK_HEX:
        for (uint32_t i = 0; i < slice->size / 2u; i++) {
            const uint8_t high = translate == NULL ? from[2 * i] : translate[from[2 * i]];
            const uint8_t low = translate == NULL ? from[2 * i + 1] : translate[from[2 * i + 1]];
            out[i] = (uint8_t)((iso_hex_value(high) & 0x0F) << 4 | (iso_hex_value(low) & 0x0F));
        }
        return;
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        out[0] = from[0];
        iso_unpack(from + 1, slice->length - 1u, pads_right(field->packing), false, out + 1);
        return;
    default:
        iso_unpack(from, digits_of(field, slice->length), pads_right(field->packing),
                   is_track(field->packing), out);
    }
}

/* Is packed data a track? Counted in nibbles: exactly one above 9, a D, behind 1 to 19 others. */
static bool packed_track2_is_sound(const uint8_t *data, uint32_t size, uint32_t digits, bool left)
{
    const bool odd = digits % 2 == 1;
    bool marked = false;
    uint32_t at = 0;
    for (uint32_t i = 0; i < size; i += 8) {
        const uint32_t part = size - i < 8 ? size - i : 8; /* at least 1 */
        uint64_t word = part == 8 ? iso_load64(data + i) : iso_load_part(data + i, part, 0);
        if (odd && left && i + part == size) {
            word &= ~(UINT64_C(0x0F) << (8 * (part - 1))); /* the pad */
        } else if (odd && !left && i == 0) {
            word &= ~UINT64_C(0xF0);
        }
        const uint64_t bad = iso_bad_nibbles(word);
        if (bad != 0) {
            const uint32_t bit = (uint32_t)__builtin_ctzll(bad); /* 3: low nibble, 7: high, ... */
            if (marked || (bad & (bad - 1)) != 0) {
                return false;
            }
            marked = true;
            at = 2 * (i + bit / 8) + (bit % 8 == 3 ? 1 : 0);
        }
    }
    if (!marked) {
        return false;
    }
    const uint8_t nibble = at % 2 == 0 ? data[at / 2] >> 4 : data[at / 2] & 0x0F;
    const uint32_t in_front = at - (odd && !left ? 1 : 0);
    return nibble == 0x0D && in_front >= 1 && in_front <= 19;
}

bool iso_says_secret(const iso_field *field, const uint8_t *data, const iso_field *other,
                     const iso_slice *slice)
{
    const uint8_t *const from = data + slice->offset;
    const uint32_t length = iso_value_length(other, slice);
    uint32_t at = field->secret_position;
    if (at >= length) {
        return false;
    }
    if (other->packing == ISO_PACK_BYTES) {
        const uint8_t *const translate = decoder_of(other);
        return (translate == NULL ? from[at] : translate[from[at]]) == field->secret_character;
    }
    at += other->packing == ISO_PACK_BCD_RIGHT ? length % 2 : 0; /* the pad */
    return '0' + (at % 2 == 0 ? from[at / 2] >> 4 : from[at / 2] & 0x0F) == field->secret_character;
}

bool iso_track2_is_sound(const iso_field *field, const uint8_t *data, const iso_slice *track,
                         const iso_field *secret_field, const iso_slice *secret)
{
    if (secret != NULL && iso_says_secret(field, data, secret_field, secret)) {
        return true;
    }
    if (is_track(field->packing)) {
        return packed_track2_is_sound(data + track->offset, track->size,
                                      iso_value_length(field, track), pads_right(field->packing));
    }
    return iso_track2_find_bad(decoder_of(field), data + track->offset, track->size) ==
           ISO_NO_POSITION;
}

iso_status iso_field_read(const iso_field *field, const uint8_t *data, uint32_t size,
                          uint32_t *offset, iso_slice *slice, iso_fault *fault)
{
    const uint32_t from = *offset;
    uint32_t length = 0;
    uint32_t prefix_size = 0;
    if (size > ISO_MESSAGE_SIZE_MAX) {
        return iso_fail(fault, ISO_E_SIZE, 0, from, from, 0);
    }
    iso_status status = iso_length_read(field, data, size, from, &length, &prefix_size);
    if (status != ISO_OK) {
        return iso_fail(fault, status, 0, from, from, length);
    }
    const uint32_t value_offset = from + prefix_size;
    const uint32_t value_size = iso_value_size(field, length);
    if (size - value_offset < value_size) {
        return iso_fail(fault, ISO_E_TRUNCATED, 0, from, from, length);
    }
    *slice = (iso_slice){(uint16_t)value_offset, (uint16_t)value_size, (uint16_t)length};
    uint32_t index = 0;
    status = iso_value_check(NULL, 0, field, data + value_offset, value_size, length, &index);
    if (status == ISO_OK && field->content == ISO_CONTENT_TRACK2 &&
        !iso_track2_is_sound(field, data, slice, NULL, NULL)) {
        status = ISO_E_TRACK;
    }
    if (status != ISO_OK) {
        return iso_fail(fault, status, 0, from, value_offset + index, length);
    }
    *offset = value_offset + value_size;
    return ISO_OK;
}

/* Length in the field's own unit of a value given as characters or bytes; false if it would end
 * inside a byte that the reader cannot tell to be half empty. */
static bool length_of(const iso_field *field, uint32_t size, uint32_t *length)
{
    switch (field->packing) {
    case ISO_PACK_BYTES:
        *length = field->unit == ISO_UNIT_NIBBLES ? size * 2 : size;
        return true;
    case ISO_PACK_HEX:
        *length = field->unit == ISO_UNIT_DIGITS ? size * 2 : size;
        return true;
    default:
        if (field->unit == ISO_UNIT_DIGITS) {
            *length = size;
            return true;
        }
        *length = size / 2;
        return size % 2 == 0;
    }
}

/* Write the value alone; the room for it has been checked. */
static iso_status write_value(const iso_field *field, const uint8_t *data, uint32_t size,
                              uint8_t *to, uint32_t *position)
{
    const iso_content content = (iso_content)field->content;
    switch (field->packing) {
    case ISO_PACK_BYTES:
        if (content == ISO_CONTENT_TLV) {
            *position = 0; /* checked by those who know which tags may repeat */
        } else if (field->charset != ISO_CHARSET_ASCII) {
            /* Checked as EBCDIC, where more than ASCII is allowed. */
            const uint8_t *const encode = iso_charset_encoder((iso_charset)field->charset);
            for (uint32_t i = 0; i < size; i++) {
                to[i] = encode[data[i]];
            }
            return iso_content_check(content, iso_charset_decoder((iso_charset)field->charset), to,
                                     size, position);
        } else {
            const iso_status status = iso_content_check(content, NULL, data, size, position);
            if (status != ISO_OK) {
                return status;
            }
        }
        if (size > 0) {
            memcpy(to, data, size);
        }
        return ISO_OK;
    case ISO_PACK_HEX: {
        const uint8_t *const encode = field->charset == ISO_CHARSET_ASCII
                                          ? NULL
                                          : iso_charset_encoder((iso_charset)field->charset);
        for (uint32_t i = 0; i < size; i++) {
            const uint8_t high = (uint8_t) "0123456789ABCDEF"[data[i] >> 4];
            const uint8_t low = (uint8_t) "0123456789ABCDEF"[data[i] & 0x0F];
            to[2 * i] = encode == NULL ? high : encode[high];
            to[2 * i + 1] = encode == NULL ? low : encode[low];
        }
        return ISO_OK;
    }
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        if (data[0] != 'C' && data[0] != 'D') {
            *position = 0;
            return ISO_E_CONTENT;
        }
        to[0] = data[0];
        *position = iso_pack(data + 1, size - 1, pads_right(field->packing), false,
                             field->pad_nibble, to + 1);
        if (*position != ISO_NO_POSITION) {
            *position += 1;
            return ISO_E_CONTENT;
        }
        return ISO_OK;
    default:
        *position = iso_pack(data, size, pads_right(field->packing), is_track(field->packing),
                             field->pad_nibble, to);
        return *position == ISO_NO_POSITION ? ISO_OK : ISO_E_CONTENT;
    }
}

uint32_t iso_build_field_size(const iso_field *field, const iso_value *value)
{
    if (value->as_wire) {
        return value->size;
    }
    const uint32_t prefix_size =
        iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form);
    switch (field->packing) {
    case ISO_PACK_BYTES:
        return prefix_size + value->size;
    case ISO_PACK_HEX:
        return prefix_size + value->size * 2;
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        return prefix_size + 1 + value->size / 2;
    default:
        return prefix_size + (value->size + 1) / 2;
    }
}

iso_status iso_field_put(const iso_field *field, const iso_value *value, uint8_t *out,
                         uint32_t capacity, uint32_t *size, uint32_t *position)
{
    *position = 0;
    if (value->as_wire) {
        if (capacity < value->size) {
            return ISO_E_SPACE;
        }
        if (value->size > 0) {
            memcpy(out, value->data, value->size);
        }
        *size = value->size;
        return ISO_OK;
    }
    /* A value that does not fit takes the long way to its error. */
    const uint32_t written = iso_shape_put(field, value->data, value->size, out, capacity);
    if (written != 0) {
        *size = written;
        return ISO_OK;
    }
    uint32_t length = 0;
    if (!length_of(field, value->size, &length) || length < field->length_min ||
        length > field->length_max) {
        return ISO_E_LENGTH;
    }
    const iso_digits_form form = (iso_digits_form)field->prefix_form;
    const uint32_t prefix_size = iso_number_size(field->prefix_digits, form);
    const uint32_t value_size = iso_value_size(field, length);
    assert(value_size != ISO_NO_POSITION);
    if (capacity < prefix_size + value_size) {
        return ISO_E_SPACE;
    }
    if (prefix_size > 0) {
        iso_number_write(out, field->prefix_digits, form, length);
    }
    const iso_status status =
        write_value(field, value->data, value->size, out + prefix_size, position);
    *size = prefix_size + value_size;
    return status;
}

iso_status iso_field_write(const iso_field *field, const iso_value *value, uint8_t *out,
                           uint32_t capacity, uint32_t *size, uint32_t *position)
{
    const iso_status status = iso_field_put(field, value, out, capacity, size, position);
    if (status != ISO_OK || value->as_wire) {
        return status;
    }
    if (field->content == ISO_CONTENT_TLV) {
        return iso_tlv_check(value->data, value->size, NULL, 0, 0, position);
    }
    if (field->content == ISO_CONTENT_TRACK2) {
        *position = iso_track2_find_bad(NULL, value->data, value->size);
        return *position == ISO_NO_POSITION ? ISO_OK : ISO_E_TRACK;
    }
    return ISO_OK;
}
