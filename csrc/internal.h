/* What the files of the core share with each other, and nobody else sees. */
#ifndef ISO8583_INTERNAL_H
#define ISO8583_INTERNAL_H

/* Python's own compiler flags define NDEBUG. The assertions here cost a few nanoseconds a message
 * and are the last thing between a wrong table and a wrong payment, so they stay on. */
#undef NDEBUG
#include <assert.h>

#include <stddef.h>
#include <string.h>

#include "iso8583.h"

#define ISO_LIKELY(x) __builtin_expect(!!(x), 1)
#define ISO_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* "Nothing is wrong", from the functions that return the position of the first bad byte. */
#define ISO_NO_POSITION UINT32_MAX

/* ---- words of eight bytes: the first byte in memory is the lowest, on every machine -----------
 */

static inline uint64_t iso_load64(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline void iso_store64(uint8_t *out, uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    memcpy(out, &word, sizeof word);
}

static inline uint32_t iso_load32(const uint8_t *data)
{
    uint32_t word;
    memcpy(&word, data, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

static inline void iso_store32(uint8_t *out, uint32_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    memcpy(out, &word, sizeof word);
}

#define ISO_BYTES(byte) (0x0101010101010101u * (uint64_t)(byte))

/* One to seven bytes as the low ones of a word; the others are `fill`, whose bytes are all equal.
 * Reads only [data, data + size), each end with one load: the two may overlap. */
static inline uint64_t iso_load_part(const uint8_t *data, uint32_t size, uint64_t fill)
{
    uint64_t word;
    if (size >= 4) {
        word = iso_load32(data) | (uint64_t)iso_load32(data + size - 4) << (8 * (size - 4));
    } else {
        word = data[0] | (uint64_t)data[size / 2] << (8 * (size / 2)) |
               (uint64_t)data[size - 1] << (8 * (size - 1));
    }
    return word | fill << (8 * size);
}

/* Write the low one to seven bytes of a word. */
static inline void iso_store_part(uint8_t *out, uint32_t size, uint64_t word)
{
    if (size >= 4) {
        iso_store32(out, (uint32_t)word);
        iso_store32(out + size - 4, (uint32_t)(word >> (8 * (size - 4))));
    } else {
        out[0] = (uint8_t)word;
        out[size / 2] = (uint8_t)(word >> (8 * (size / 2)));
        out[size - 1] = (uint8_t)(word >> (8 * (size - 1)));
    }
}

/* The top bit of every nibble above 9: bit 3 set together with bit 2 or bit 1. */
static inline uint64_t iso_bad_nibbles(uint64_t word)
{
    return word & (word << 1 | word << 2) & ISO_BYTES(0x88);
}

/* Not 0 if a byte is outside 20..7E. A borrow or carry that reaches the next byte comes from a
 * byte that is outside itself, so the answer is exact for the word as a whole. */
static inline uint64_t iso_bad_printable(uint64_t word)
{
    return (word | (word - ISO_BYTES(0x20)) | (word + ISO_BYTES(0x01))) & ISO_BYTES(0x80);
}

/* The same for '0'..'9'. */
static inline uint64_t iso_bad_digits(uint64_t word)
{
    return (word | (word - ISO_BYTES(0x30)) | (word + ISO_BYTES(0x46))) & ISO_BYTES(0x80);
}

/* The eight values of upper-case or lower-case hexadecimal characters, one a byte; *bad is not 0 if
 * one of them is something else. */
static inline uint64_t iso_hex_nibbles(uint64_t word, uint64_t *bad)
{
    const uint64_t upper = word & ~((word & ISO_BYTES(0x40)) >> 1); /* a..f to A..F, digits stay */
    const uint64_t letters = (upper & ISO_BYTES(0x40)) >> 6;
    /* Letters 41..46 to 3A..3F: one range with the digits, of which letters, and only they, are the
     * upper part. */
    const uint64_t even = upper - letters * 7;
    *bad |= (word | (even - ISO_BYTES(0x30)) | (even + ISO_BYTES(0x40))) & ISO_BYTES(0x80);
    *bad |= ((even + ISO_BYTES(0x46)) >> 7 ^ letters) & ISO_BYTES(1);
    return even - ISO_BYTES(0x30);
}

/* The opposite: eight nibbles, one a byte, to characters; letters in upper case. */
static inline uint64_t iso_hex_characters(uint64_t nibbles)
{
    const uint64_t letters = (nibbles + ISO_BYTES(0x76)) & ISO_BYTES(0x80);
    return nibbles + ISO_BYTES('0') + (letters >> 7) * ('A' - '0' - 10);
}

/* Four bytes to the eight nibbles they hold, in order, one a byte. */
static inline uint64_t iso_spread(uint32_t packed)
{
    uint64_t word = packed;
    word = (word | word << 16) & UINT64_C(0x0000FFFF0000FFFF);
    word = (word | word << 8) & UINT64_C(0x00FF00FF00FF00FF);
    return (word >> 4 & ISO_BYTES(0x0F)) | (word << 8 & UINT64_C(0x0F000F000F000F00));
}

/* The opposite: eight nibbles, one a byte, to four bytes. */
static inline uint32_t iso_squeeze(uint64_t nibbles)
{
    uint64_t word = (nibbles << 4 | nibbles >> 8) & UINT64_C(0x00FF00FF00FF00FF);
    word = (word | word >> 8) & UINT64_C(0x0000FFFF0000FFFF);
    return (uint32_t)(word | word >> 16);
}

/* An even number of digits, which is most of what a message holds: iso_unpack and iso_pack below
 * without their cases. */
static inline void iso_unpack_even(const uint8_t *data, uint32_t count, uint8_t *out)
{
    if (count >= 8) {
        /* The last word overlaps the one before it: no tail. */
        for (uint32_t i = 0; i + 8 < count; i += 8) {
            iso_store64(out + i, iso_spread(iso_load32(data + i / 2)) + ISO_BYTES('0'));
        }
        const uint32_t last = count - 8;
        iso_store64(out + last, iso_spread(iso_load32(data + last / 2)) + ISO_BYTES('0'));
    } else if (count > 0) {
        const uint32_t packed = (uint32_t)iso_load_part(data, count / 2, 0);
        iso_store_part(out, count, iso_spread(packed) + ISO_BYTES('0'));
    }
}

/* Pack an even number of digits. False: a character is not a digit; what is written then means
 * nothing. `roomy`: up to three bytes behind the value may be written over. */
static inline bool iso_pack_even(const uint8_t *characters, uint32_t count, bool roomy,
                                 uint8_t *out)
{
    uint64_t bad = 0;
    if (count >= 8) {
        /* The last word overlaps the one before it: no tail. */
        for (uint32_t i = 0; i + 8 < count; i += 8) {
            const uint64_t word = iso_load64(characters + i);
            bad |= iso_bad_digits(word);
            iso_store32(out + i / 2, iso_squeeze(word - ISO_BYTES('0')));
        }
        const uint32_t last = count - 8;
        const uint64_t word = iso_load64(characters + last);
        bad |= iso_bad_digits(word);
        iso_store32(out + last / 2, iso_squeeze(word - ISO_BYTES('0')));
    } else if (count > 0) {
        const uint64_t word = iso_load_part(characters, count, ISO_BYTES('0'));
        bad |= iso_bad_digits(word);
        const uint32_t packed = iso_squeeze(word - ISO_BYTES('0'));
        if (roomy) {
            iso_store32(out, packed);
        } else {
            iso_store_part(out, count / 2, packed);
        }
    }
    return bad == 0;
}

/* The value of two packed digits that are known to be digits. */
static inline uint32_t iso_bcd_value(uint32_t byte)
{
    return byte - 6 * (byte >> 4);
}

/* The same for any byte; -1: a nibble above 9. */
static inline int32_t iso_bcd_pair(uint32_t byte)
{
    return iso_bad_nibbles(byte) == 0 ? (int32_t)iso_bcd_value(byte) : -1;
}

/* ---- what most fields are: iso_field.shape ------------------------------------------------------
 */

enum {
    ISO_SHAPE_GENERAL = 0,
    ISO_SHAPE_DIGITS = 1,    /* fixed, packed, an even number of digits */
    ISO_SHAPE_PRINTABLE = 2, /* fixed, printable ASCII */
    ISO_SHAPE_BYTES = 3,     /* fixed, binary */
    ISO_SHAPE_NUMBER = 4,    /* fixed, ASCII digits */
    ISO_SHAPE_WORDS = 5,     /* fixed, ASCII letters, digits and spaces */
    ISO_SHAPE_ODD = 6,       /* fixed, packed, an odd number of digits */
    ISO_SHAPE_PACKED = 7,    /* two or three digits of BCD or ASCII, and as many packed ones */
    ISO_SHAPE_COUNTED = 8    /* the same, and as many bytes that are sent as they are */
};

/* digits.c ------------------------------------------------------------------------------------- */

/* Is every nibble of [data, data + size) 0..9? */
bool iso_bcd_is_clean(const uint8_t *data, uint32_t size);
bool iso_digits_are_clean(const uint8_t *data, uint32_t size);
bool iso_printable_is_clean(const uint8_t *data, uint32_t size);

/* First byte of [data, data + ceil(digits / 2)) with a nibble above 9, or ISO_NO_POSITION. The pad
 * nibble of an odd count is not looked at: left packing pads the last byte, right packing the
 * first. */
uint32_t iso_bcd_find_bad(const uint8_t *data, uint32_t digits, bool left);

/* Value of `digits` digits (bytes, for ISO_FORM_BINARY) at data; an odd BCD count has its pad on
 * the left and the pad must be 0. Returns -1 if something is not a digit of the form. */
int32_t iso_number_read(const uint8_t *data, uint32_t digits, iso_digits_form form);
void iso_number_write(uint8_t *out, uint32_t digits, iso_digits_form form, uint32_t value);
uint32_t iso_number_size(uint32_t digits, iso_digits_form form);

/* Write `count` digits or track characters. `left`: the first nibble is the high one. */
void iso_unpack(const uint8_t *data, uint32_t count, bool left, bool track, uint8_t *out);

/* Pack `count` characters; returns the index of the first that is not allowed or ISO_NO_POSITION.
 * An odd count is padded with `pad`. */
uint32_t iso_pack(const uint8_t *characters, uint32_t count, bool left, bool track, uint8_t pad,
                  uint8_t *out);

/* Value of a hexadecimal character, or -1. */
int32_t iso_hex_value(uint8_t character);

/* charset.c ------------------------------------------------------------------------------------ */

/* 256 bytes: EBCDIC to Latin-1, and back. `charset` is not ISO_CHARSET_ASCII. */
const uint8_t *iso_charset_decoder(iso_charset charset);
const uint8_t *iso_charset_encoder(iso_charset charset);

/* content.c ------------------------------------------------------------------------------------ */

/* Check the characters of a value against its content. Returns the status (ISO_OK, ISO_E_CONTENT or
 * ISO_E_TEXT) and, on error, the index of the offending byte. `translate`: NULL, or the table that
 * turns bytes as transmitted into characters. Not for ISO_CONTENT_TLV. */
iso_status iso_content_check(iso_content content, const uint8_t *translate, const uint8_t *data,
                             uint32_t size, uint32_t *index);

/* Is every character a letter, a digit or a space? Quick when all are digits, as reference numbers
 * mostly are. */
bool iso_words_are_clean(const uint8_t *data, uint32_t size);

/* Index of the first character that cannot stand in track 2 (digits, one = or D, digits), `count`
 * if the separator is missing, or ISO_NO_POSITION. `translate` as above. */
uint32_t iso_track2_find_bad(const uint8_t *translate, const uint8_t *characters, uint32_t count);

/* length.c ------------------------------------------------------------------------------------- */

/* Bytes that a value of `length` takes; ISO_NO_POSITION if it would end inside a byte. */
uint32_t iso_value_size(const iso_field *field, uint32_t length);

/* Read the length of a field at data[offset]; *prefix_size is set to the bytes of the prefix.
 * ISO_E_TRUNCATED, ISO_E_PREFIX, or ISO_E_LENGTH with *length set. */
iso_status iso_length_read(const iso_field *field, const uint8_t *data, uint32_t size,
                           uint32_t offset, uint32_t *length, uint32_t *prefix_size);

/* value.c -------------------------------------------------------------------------------------- */

/* Check the bytes of a value as transmitted. ISO_OK, or the status with *index at the byte to
 * blame, counted from the value's first. The shape of track 2 is not looked at. */
iso_status iso_value_check(const iso_spec *spec, uint32_t number, const iso_field *field,
                           const uint8_t *data, uint32_t size, uint32_t length, uint32_t *index);

/* Is the value of a track 2 field a track, or said to be encrypted? `secret` is the slice of the
 * field that may say so; NULL if it is absent. */
bool iso_track2_is_sound(const iso_field *field, const uint8_t *data, const iso_slice *track,
                         const iso_field *secret_field, const iso_slice *secret);

/* Does the slice of `other` say that the track in `field` is encrypted? */
bool iso_says_secret(const iso_field *field, const uint8_t *data, const iso_field *other,
                     const iso_slice *slice);

/* iso_field_write, but for what depends on other fields or tags: TLV and track 2 are not checked.
 */
iso_status iso_field_put(const iso_field *field, const iso_value *value, uint8_t *out,
                         uint32_t capacity, uint32_t *size, uint32_t *position);

/* memcpy, but for the few bytes that a field mostly has. `roomy`: up to seven bytes behind them may
 * be written over. */
static inline void iso_copy_short(uint8_t *out, const uint8_t *data, uint32_t size, bool roomy)
{
    if (size >= 8 && size <= 16) {
        iso_store64(out, iso_load64(data));
        iso_store64(out + size - 8, iso_load64(data + size - 8));
    } else if (roomy && size > 0 && size < 8) {
        iso_store64(out, iso_load_part(data, size, 0));
    } else if (size > 0) {
        memcpy(out, data, size);
    }
}

/* iso_pack_even for any number of digits. */
static inline bool iso_pack_digits(const uint8_t *characters, uint32_t count, bool left,
                                   uint8_t pad, bool roomy, uint8_t *out)
{
    if (count % 2 == 0) {
        return iso_pack_even(characters, count, roomy, out);
    }
    if (left) {
        const uint32_t last = characters[count - 1] - (uint32_t)'0';
        const bool sound = iso_pack_even(characters, count - 1, roomy, out);
        out[count / 2] = (uint8_t)(last << 4 | pad);
        return sound && last <= 9;
    }
    const uint32_t first = characters[0] - (uint32_t)'0';
    out[0] = (uint8_t)((uint32_t)pad << 4 | (first & 0x0F));
    return first <= 9 && iso_pack_even(characters + 1, count - 1, roomy, out + 1);
}

/* iso_field_put for the fields that have a shape and values that fit; returns the bytes written. 0
 * for all others, and if the capacity is not enough: iso_field_put knows why. Not for values as
 * transmitted. */
__attribute__((always_inline)) static inline uint32_t iso_shape_put(const iso_field *field,
                                                                    const uint8_t *data,
                                                                    uint32_t count, uint8_t *out,
                                                                    uint32_t capacity)
{
    const uint8_t shape = field->shape;
    if (count > field->length_max || count < field->length_min) {
        return 0;
    }
    const bool packed =
        shape == ISO_SHAPE_DIGITS || shape == ISO_SHAPE_ODD || shape == ISO_SHAPE_PACKED;
    const bool counted = shape >= ISO_SHAPE_PACKED;
    const bool ascii = field->prefix_form == ISO_FORM_ASCII;
    const uint32_t prefix_size = !counted ? 0 : field->prefix_digits - (ascii ? 0u : 1u);
    const uint32_t needed = prefix_size + (packed ? (count + 1) / 2 : count);
    if (capacity < needed) {
        return 0;
    }
    const bool roomy = capacity - needed >= 8;
    if (counted) {
        const uint32_t high = count / 100;
        const uint32_t low = count % 100;
        if (field->prefix_digits == 3) {
            *out++ = (uint8_t)(ascii ? '0' + high : high);
        }
        if (ascii) {
            *out++ = (uint8_t)('0' + low / 10);
            *out++ = (uint8_t)('0' + low % 10);
        } else {
            *out++ = (uint8_t)(low + 6 * (low / 10));
        }
    }
    switch (shape) {
    case ISO_SHAPE_DIGITS:
        return iso_pack_even(data, count, roomy, out) ? needed : 0;
    case ISO_SHAPE_ODD:
    case ISO_SHAPE_PACKED: {
        const bool left =
            field->packing == ISO_PACK_BCD_LEFT || field->packing == ISO_PACK_TRACK_LEFT;
        const bool track =
            field->packing == ISO_PACK_TRACK_LEFT || field->packing == ISO_PACK_TRACK_RIGHT;
        const bool done =
            track ? iso_pack(data, count, left, true, field->pad_nibble, out) == ISO_NO_POSITION
                  : iso_pack_digits(data, count, left, field->pad_nibble, roomy, out);
        return done ? needed : 0;
    }
    case ISO_SHAPE_PRINTABLE:
        if (!iso_printable_is_clean(data, count)) {
            return 0;
        }
        break;
    case ISO_SHAPE_WORDS:
        if (!iso_words_are_clean(data, count)) {
            return 0;
        }
        break;
    case ISO_SHAPE_NUMBER:
        if (!iso_digits_are_clean(data, count)) {
            return 0;
        }
        break;
    case ISO_SHAPE_BYTES:
        break;
    case ISO_SHAPE_COUNTED:
        if ((field->content == ISO_CONTENT_ANS && !iso_printable_is_clean(data, count)) ||
            (field->content == ISO_CONTENT_N && !iso_digits_are_clean(data, count)) ||
            (field->content == ISO_CONTENT_TRACK2 &&
             iso_track2_find_bad(NULL, data, count) != ISO_NO_POSITION)) {
            return 0;
        }
        break;
    default:
        return 0;
    }
    iso_copy_short(out, data, count, roomy);
    return needed;
}

/* bitmap.c ------------------------------------------------------------------------------------- */

uint32_t iso_bitmap_size(iso_bitmap_form form);
/* ISO_E_TRUNCATED, or ISO_E_BITMAP with *position at the byte that is not a hex digit. */
iso_status iso_bitmap_read(iso_bitmap_form form, const uint8_t *data, uint32_t size,
                           uint32_t offset, uint64_t *bits, uint32_t *position);
void iso_bitmap_write(iso_bitmap_form form, uint64_t bits, uint8_t *out);

/* Bit of a field in its word, counted from the left as the standard does. */
static inline uint64_t iso_bit(uint32_t field)
{
    return UINT64_C(1) << (63u - ((field - 1u) & 63u));
}

/* Which word: fields 1..64 in the first, 65..128 in the second, ... */
static inline uint32_t iso_word(uint32_t field)
{
    return (field - 1u) >> 6;
}

/* Bits 1 and 65 announce a bitmap, not a field, where the spec has room for it. */
static inline uint64_t iso_field_bits(const iso_spec *spec, const uint64_t *present, uint32_t word)
{
    const bool announces = word == 0 || (word == 1 && spec->field_max > 128);
    return announces ? present[word] & ~iso_bit(1) : present[word];
}

static inline uint32_t iso_leading_zeros(uint64_t bits)
{
    return (uint32_t)__builtin_clzll(bits);
}

static inline iso_status iso_fail(iso_fault *fault, iso_status status, uint32_t field,
                                  uint32_t offset, uint32_t position, uint32_t length)
{
    assert(status != ISO_OK);
    *fault = (iso_fault){status, field, offset, position, length};
    return status;
}

#endif /* ISO8583_INTERNAL_H */
