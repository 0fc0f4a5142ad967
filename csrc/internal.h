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

/* digits.c ------------------------------------------------------------------------------------- */

/* First byte of [data, data + ceil(digits / 2)) with a nibble above 9, or ISO_NO_POSITION. The pad
 * nibble of an odd count is not looked at: left packing pads the last byte, right packing the
 * first. */
uint32_t iso_bcd_find_bad(const uint8_t *data, uint32_t digits, bool left);

/* Decimal value of `digits` (1..4) ASCII or BCD digits at data; an odd BCD count has its pad on the
 * left and the pad must be 0. Returns -1 if something is not a digit. */
int32_t iso_decimal_read(const uint8_t *data, uint32_t digits, iso_digits_form form);
void iso_decimal_write(uint8_t *out, uint32_t digits, iso_digits_form form, uint32_t value);
uint32_t iso_decimal_size(uint32_t digits, iso_digits_form form);

/* Pack `count` characters; returns the index of the first that is not allowed or ISO_NO_POSITION.
 * The pad nibble is written as 0. */
uint32_t iso_pack(iso_packing packing, const uint8_t *characters, uint32_t count, uint8_t *out);

/* content.c ------------------------------------------------------------------------------------ */

/* Check unpacked bytes against a content. Returns the status (ISO_OK, ISO_E_CONTENT, ISO_E_TEXT or
 * ISO_E_TLV) and, on error, the index of the offending byte. */
iso_status iso_content_check(iso_content content, const uint8_t *data, uint32_t size,
                             uint32_t *index);

/* length.c ------------------------------------------------------------------------------------- */

/* Bytes that a value of `length` takes. */
uint32_t iso_value_size(const iso_field *field, uint32_t length);

/* Read the length of a field at data[offset]; *prefix_size is set to the bytes of the prefix.
 * ISO_E_TRUNCATED, ISO_E_PREFIX, or ISO_E_LENGTH with *length set. */
iso_status iso_length_read(const iso_field *field, const uint8_t *data, uint32_t size,
                           uint32_t offset, uint32_t *length, uint32_t *prefix_size);

/* bitmap.c ------------------------------------------------------------------------------------- */

uint32_t iso_bitmap_size(iso_bitmap_form form);
/* ISO_E_TRUNCATED, or ISO_E_BITMAP with *position at the byte that is not a hex digit. */
iso_status iso_bitmap_read(iso_bitmap_form form, const uint8_t *data, uint32_t size,
                           uint32_t offset, uint64_t *bits, uint32_t *position);
void iso_bitmap_write(iso_bitmap_form form, uint64_t bits, uint8_t *out);

/* Bit of field 1..64 (or 65..128 in the second word), counted from the left as the standard does.
 */
static inline uint64_t iso_bit(uint32_t field)
{
    return UINT64_C(1) << (63u - ((field - 1u) & 63u));
}

static inline uint32_t iso_leading_zeros(uint64_t bits)
{
    return (uint32_t)__builtin_clzll(bits);
}

static inline uint32_t iso_popcount(uint64_t bits)
{
    return (uint32_t)__builtin_popcountll(bits);
}

#endif /* ISO8583_INTERNAL_H */
