#include "iso8583.h"
#include "internal.h"

bool iso_bcd_is_clean(const uint8_t *data, uint32_t size)
{
    if (size < 8) {
        return size == 0 || iso_bad_nibbles(iso_load_part(data, size, 0)) == 0;
    }
    uint64_t bad = 0;
    for (uint32_t i = 0; i + 8 < size; i += 8) {
        bad |= iso_bad_nibbles(iso_load64(data + i));
    }
    /* The last word overlaps the one before it: no tail to walk byte by byte. */
    return (bad | iso_bad_nibbles(iso_load64(data + size - 8))) == 0;
}

bool iso_digits_are_clean(const uint8_t *data, uint32_t size)
{
    if (size < 8) {
        return size == 0 || iso_bad_digits(iso_load_part(data, size, ISO_BYTES('0'))) == 0;
    }
    uint64_t bad = 0;
    for (uint32_t i = 0; i + 8 < size; i += 8) {
        bad |= iso_bad_digits(iso_load64(data + i));
    }
    return (bad | iso_bad_digits(iso_load64(data + size - 8))) == 0;
}

bool iso_printable_is_clean(const uint8_t *data, uint32_t size)
{
    if (size < 8) {
        return size == 0 || iso_bad_printable(iso_load_part(data, size, ISO_BYTES(' '))) == 0;
    }
    uint64_t bad = 0;
    for (uint32_t i = 0; i + 8 < size; i += 8) {
        bad |= iso_bad_printable(iso_load64(data + i));
    }
    return (bad | iso_bad_printable(iso_load64(data + size - 8))) == 0;
}

static bool pair_is_bad(uint8_t byte)
{
    return (byte & 0x0Fu) > 9 || byte >> 4 > 9;
}

uint32_t iso_bcd_find_bad(const uint8_t *data, uint32_t digits, bool left)
{
    const bool odd = digits % 2 == 1;
    const uint32_t size = (digits + 1) / 2;
    if (odd && !left && (data[0] & 0x0Fu) > 9) {
        return 0;
    }
    const uint32_t from = odd && !left ? 1 : 0;
    const uint32_t to = odd && left ? size - 1 : size;
    if (ISO_UNLIKELY(!iso_bcd_is_clean(data + from, to - from))) {
        for (uint32_t i = from; i < to; i++) {
            if (pair_is_bad(data[i])) {
                return i;
            }
        }
        assert(false);
    }
    if (odd && left && data[to] >> 4 > 9) {
        return to;
    }
    return ISO_NO_POSITION;
}

int32_t iso_hex_value(uint8_t character)
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

uint32_t iso_number_size(uint32_t digits, iso_digits_form form)
{
    return form == ISO_FORM_BCD ? (digits + 1) / 2 : digits;
}

int32_t iso_number_read(const uint8_t *data, uint32_t digits, iso_digits_form form)
{
    assert(digits >= 1 && digits <= ISO_PREFIX_DIGITS_MAX);
    if (form == ISO_FORM_BCD && digits == 2) {
        return iso_bcd_pair(data[0]);
    }
    if (form == ISO_FORM_BCD && digits == 3 && data[0] <= 9) {
        const int32_t low = iso_bcd_pair(data[1]);
        return low < 0 ? -1 : data[0] * 100 + low;
    }
    if (form == ISO_FORM_ASCII && digits == 2) {
        const uint32_t high = data[0] - (uint32_t)'0';
        const uint32_t low = data[1] - (uint32_t)'0';
        return high <= 9 && low <= 9 ? (int32_t)(high * 10 + low) : -1;
    }
    if (form == ISO_FORM_ASCII && digits == 3) {
        const uint32_t high = data[0] - (uint32_t)'0';
        const uint32_t middle = data[1] - (uint32_t)'0';
        const uint32_t low = data[2] - (uint32_t)'0';
        return high <= 9 && middle <= 9 && low <= 9 ? (int32_t)(high * 100 + middle * 10 + low)
                                                    : -1;
    }
    const uint32_t size = iso_number_size(digits, form);
    int32_t value = 0;
    for (uint32_t i = 0; i < size; i++) {
        const uint8_t byte = data[i];
        switch (form) {
        case ISO_FORM_BCD:
            if (pair_is_bad(byte) || (i == 0 && digits % 2 == 1 && byte >> 4 != 0)) {
                return -1;
            }
            value = value * 100 + (byte >> 4) * 10 + (byte & 0x0F);
            break;
        case ISO_FORM_ASCII:
            if (byte < '0' || byte > '9') {
                return -1;
            }
            value = value * 10 + (byte - '0');
            break;
        case ISO_FORM_EBCDIC:
            if (byte < 0xF0 || byte > 0xF9) {
                return -1;
            }
            value = value * 10 + (byte - 0xF0);
            break;
        case ISO_FORM_BINARY:
            value = value * 256 + byte;
            break;
        case ISO_FORM_HEX: {
            const int32_t nibble = iso_hex_value(byte);
            if (nibble < 0) {
                return -1;
            }
            value = value * 16 + nibble;
            break;
        }
        }
    }
    return value;
}

void iso_number_write(uint8_t *out, uint32_t digits, iso_digits_form form, uint32_t value)
{
    assert(digits >= 1 && digits <= ISO_PREFIX_DIGITS_MAX);
    if (form == ISO_FORM_BCD && (digits == 2 || digits == 3) && value <= 999) {
        const uint32_t hundreds = value / 100;
        const uint32_t low = value % 100;
        if (digits == 3) {
            *out++ = (uint8_t)hundreds;
        }
        assert(digits == 3 || hundreds == 0);
        *out = (uint8_t)(low + 6 * (low / 10));
        return;
    }
    uint32_t rest = value;
    for (uint32_t i = iso_number_size(digits, form); i > 0; i--) {
        switch (form) {
        case ISO_FORM_BCD:
            out[i - 1] = (uint8_t)(rest % 10 | rest / 10 % 10 << 4);
            rest /= 100;
            break;
        case ISO_FORM_ASCII:
            out[i - 1] = (uint8_t)('0' + rest % 10);
            rest /= 10;
            break;
        case ISO_FORM_EBCDIC:
            out[i - 1] = (uint8_t)(0xF0 + rest % 10);
            rest /= 10;
            break;
        case ISO_FORM_BINARY:
            out[i - 1] = (uint8_t)(rest & 0xFFu);
            rest >>= 8;
            break;
        case ISO_FORM_HEX:
            out[i - 1] = (uint8_t) "0123456789ABCDEF"[rest & 0x0Fu];
            rest >>= 4;
            break;
        }
    }
    assert(rest == 0);
}

/* UnionPay POS, fields 35 and 36: the separator '=' travels as nibble D. */
static int32_t nibble_of(uint8_t character, bool track)
{
    if (character >= '0' && character <= '9') {
        return character - '0';
    }
    if (!track) {
        return -1;
    }
    if (character == '=') {
        return 0x0D;
    }
    return character >= 'A' && character <= 'F' ? character - 'A' + 10 : -1;
}

/* Nibbles to '0'..'9', 'A'..'F', with D to '=', which is '0' + 13. */
static inline uint64_t track_characters(uint64_t nibbles)
{
    const uint64_t letters = (nibbles + ISO_BYTES(0x76)) & ISO_BYTES(0x80);
    const uint64_t not_d = ((nibbles ^ ISO_BYTES(0x0D)) + ISO_BYTES(0x7F)) & ISO_BYTES(0x80);
    return nibbles + ISO_BYTES('0') + ((letters & not_d) >> 7) * ('A' - '0' - 10);
}

static inline uint64_t characters(uint32_t packed, bool track)
{
    const uint64_t nibbles = iso_spread(packed);
    /* Most words of a track are digits only. */
    return track && iso_bad_nibbles(packed) != 0 ? track_characters(nibbles)
                                                 : nibbles + ISO_BYTES('0');
}

void iso_unpack(const uint8_t *data, uint32_t count, bool left, bool track, uint8_t *out)
{
    uint32_t rest = count;
    if (count % 2 == 1) {
        rest--;
        if (left) {
            out[rest] = (uint8_t)characters(data[rest / 2], track);
        } else {
            *out++ = (uint8_t)(characters(*data++, track) >> 8);
        }
    }
    if (!track) {
        iso_unpack_even(data, rest, out);
    } else if (rest >= 8) {
        for (uint32_t i = 0; i + 8 < rest; i += 8) {
            iso_store64(out + i, characters(iso_load32(data + i / 2), true));
        }
        const uint32_t last = rest - 8;
        iso_store64(out + last, characters(iso_load32(data + last / 2), true));
    } else if (rest > 0) {
        const uint32_t packed = (uint32_t)iso_load_part(data, rest / 2, 0);
        iso_store_part(out, rest, characters(packed, true));
    }
}

/* Pairs of characters, one by one: `from` is even relative to the first pair. */
static uint32_t pack_slowly(const uint8_t *from, uint32_t rest, bool track, uint8_t pad,
                            uint8_t *out)
{
    for (uint32_t i = 0; i < rest; i += 2) {
        const int32_t high = nibble_of(from[i], track);
        const int32_t low = i + 1 < rest ? nibble_of(from[i + 1], track) : pad;
        if (ISO_UNLIKELY((high | low) < 0)) {
            return high < 0 ? i : i + 1;
        }
        out[i / 2] = (uint8_t)((uint32_t)high << 4 | (uint32_t)low);
    }
    return ISO_NO_POSITION;
}

/* '=' to '0', every other byte as it is. The separator is '0' + 13, so it packs to its nibble by
 * itself: only the check must not see it. */
static inline uint64_t without_separators(uint64_t word)
{
    const uint64_t other = word ^ ISO_BYTES('=');
    const uint64_t equal =
        ~(((other & ISO_BYTES(0x7F)) + ISO_BYTES(0x7F)) | other) & ISO_BYTES(0x80);
    return word - (equal >> 7) * ('=' - '0');
}

uint32_t iso_pack(const uint8_t *characters, uint32_t count, bool left, bool track, uint8_t pad,
                  uint8_t *out)
{
    const uint8_t *from = characters;
    uint32_t rest = count;
    if (!left && count % 2 == 1) {
        const int32_t nibble = nibble_of(*from, track);
        if (nibble < 0) {
            return 0;
        }
        *out++ = (uint8_t)((uint32_t)pad << 4 | (uint32_t)nibble);
        from++;
        rest--;
    }
    /* Eight digits at a time, then four and two; a separator or a fault takes the slow way. */
    for (; rest >= 8; rest -= 8, from += 8, out += 4) {
        const uint64_t word = iso_load64(from);
        if (ISO_UNLIKELY(iso_bad_digits(word) != 0) &&
            !(track && iso_bad_digits(without_separators(word)) == 0)) {
            break;
        }
        iso_store32(out, iso_squeeze(word - ISO_BYTES('0')));
    }
    if (rest == 0) {
        return ISO_NO_POSITION;
    }
    if (rest < 8) {
        const uint64_t word = iso_load_part(from, rest, ISO_BYTES('0'));
        if (ISO_LIKELY(iso_bad_digits(word) == 0)) {
            const uint32_t packed = iso_squeeze(word - ISO_BYTES('0'));
            iso_store_part(out, (rest + 1) / 2, packed);
            if (rest % 2 == 1) {
                out[rest / 2] = (uint8_t)(out[rest / 2] | pad);
            }
            return ISO_NO_POSITION;
        }
    }
    const uint32_t bad = pack_slowly(from, rest, track, pad, out);
    return bad == ISO_NO_POSITION ? bad : (uint32_t)(from - characters) + bad;
}
