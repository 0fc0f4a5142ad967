#include "iso8583.h"
#include "internal.h"

enum { IS_N = 1, IS_A = 2, IS_AN = 4, IS_ANS = 8, IS_Z = 16, IS_LATIN1 = 32 };

/* Sums of the IS_ values for every Latin-1 character. Space counts as a letter because fixed text
 * fields are space filled. */
static const uint8_t CLASSES[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 00 */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 10 */
    46, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, /* 20 */
    61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 56, 56, 56, 56, 56, 56, /* 30 */
    40, 62, 62, 62, 62, 62, 62, 46, 46, 46, 46, 46, 46, 46, 46, 46, /* 40 */
    46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 40, 40, 40, 40, 40, /* 50 */
    40, 46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 46, /* 60 */
    46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 46, 40, 40, 40, 40, 0,  /* 70 */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 80 */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 90 */
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, /* A0 */
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, /* B0 */
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, /* C0 */
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, /* D0 */
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, /* E0 */
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, /* F0 */
};

static uint32_t find_outside(uint8_t class, const uint8_t *data, uint32_t from, uint32_t size)
{
    uint8_t all = class;
    for (uint32_t i = from; i < size; i++) {
        all &= CLASSES[data[i]];
    }
    if (ISO_LIKELY(all != 0)) {
        return ISO_NO_POSITION;
    }
    for (uint32_t i = from; i < size; i++) {
        if ((CLASSES[data[i]] & class) == 0) {
            return i;
        }
    }
    return ISO_NO_POSITION;
}

static uint32_t find_outside_translated(uint8_t class, const uint8_t *translate,
                                        const uint8_t *data, uint32_t from, uint32_t size)
{
    for (uint32_t i = from; i < size; i++) {
        if ((CLASSES[translate[data[i]]] & class) == 0) {
            return i;
        }
    }
    return ISO_NO_POSITION;
}

static bool is_between(uint8_t byte, uint8_t low, uint8_t high)
{
    return byte >= low && byte <= high;
}

/* GB 18030: printable ASCII; pairs of a lead byte 81-FE and a trail byte 40-FE other than 7F (that
 * much is GBK); and four bytes, lead and digit twice, of which only those up to 84 31 A4 39 and
 * from 90 30 81 30 to E3 32 9A 35 stand for a code point. Whether a pair has a character assigned
 * is left to the reader's code table: the one used above this core has a code point for each. */
static uint32_t find_outside_gb(const uint8_t *data, uint32_t size, bool four)
{
    uint32_t i = 0;
    while (i < size) {
        if (CLASSES[data[i]] & IS_ANS) {
            i += 1;
            continue;
        }
        if (!is_between(data[i], 0x81, 0xFE) || size - i < 2) {
            return i;
        }
        const uint8_t trail = data[i + 1];
        if (four && is_between(trail, '0', '9')) {
            if (size - i < 4 || !is_between(data[i + 2], 0x81, 0xFE) ||
                !is_between(data[i + 3], '0', '9')) {
                return i;
            }
            const uint32_t linear =
                (((uint32_t)data[i] - 0x81u) * 10u + (trail - (uint32_t)'0')) * 1260u +
                ((uint32_t)data[i + 2] - 0x81u) * 10u + (data[i + 3] - (uint32_t)'0');
            if (linear > 39419u && (linear < 189000u || linear > 1237575u)) {
                return i;
            }
            i += 4;
            continue;
        }
        if (trail < 0x40 || trail == 0x7F || trail == 0xFF) {
            return i;
        }
        i += 2;
    }
    return ISO_NO_POSITION;
}

/* UTF-8 without control characters, overlong forms, surrogates and what is above 10FFFF.
 * Source: the table of well-formed byte sequences of the Unicode standard. */
static uint32_t find_outside_utf8(const uint8_t *data, uint32_t size)
{
    uint32_t i = 0;
    while (i < size) {
        const uint8_t lead = data[i];
        if (CLASSES[lead] & IS_ANS) {
            i += 1;
            continue;
        }
        const uint32_t more = is_between(lead, 0xC2, 0xDF)   ? 1
                              : is_between(lead, 0xE0, 0xEF) ? 2
                              : is_between(lead, 0xF0, 0xF4) ? 3
                                                             : 0;
        if (more == 0 || size - i <= more) {
            return i;
        }
        const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : lead == 0xC2 ? 0xA0 : 0x80;
        const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (!is_between(data[i + 1], low, high)) {
            return i;
        }
        for (uint32_t k = 2; k <= more; k++) {
            if (!is_between(data[i + k], 0x80, 0xBF)) {
                return i;
            }
        }
        i += 1 + more;
    }
    return ISO_NO_POSITION;
}

static uint8_t class_of(iso_content content, bool translated)
{
    switch (content) {
    case ISO_CONTENT_N:
    case ISO_CONTENT_XN:
        return IS_N;
    case ISO_CONTENT_A:
        return IS_A;
    case ISO_CONTENT_AN:
        return IS_AN;
    case ISO_CONTENT_Z:
    case ISO_CONTENT_TRACK2:
        return IS_Z;
    case ISO_CONTENT_LATIN1:
        return IS_LATIN1;
    default:
        /* An EBCDIC page is a permutation of Latin-1, and its letters are used. */
        return translated ? IS_LATIN1 : IS_ANS;
    }
}

iso_status iso_content_check(iso_content content, const uint8_t *translate, const uint8_t *data,
                             uint32_t size, uint32_t *index)
{
    assert(content != ISO_CONTENT_TLV);
    uint32_t bad = ISO_NO_POSITION;
    iso_status status = ISO_E_CONTENT;
    if (content == ISO_CONTENT_B) {
        return ISO_OK;
    }
    if (translate == NULL && content == ISO_CONTENT_ANS && iso_printable_is_clean(data, size)) {
        return ISO_OK;
    }
    if (content == ISO_CONTENT_GBK || content == ISO_CONTENT_GB18030) {
        status = ISO_E_TEXT;
        bad = find_outside_gb(data, size, content == ISO_CONTENT_GB18030);
    } else if (content == ISO_CONTENT_UTF8) {
        status = ISO_E_TEXT;
        bad = find_outside_utf8(data, size);
    } else {
        uint32_t from = 0;
        if (content == ISO_CONTENT_XN && size > 0) {
            const uint8_t sign = translate == NULL ? data[0] : translate[data[0]];
            if (sign != 'C' && sign != 'D') {
                *index = 0;
                return ISO_E_CONTENT;
            }
            from = 1;
        }
        const uint8_t class = class_of(content, translate != NULL);
        bad = translate == NULL ? find_outside(class, data, from, size)
                                : find_outside_translated(class, translate, data, from, size);
    }
    if (ISO_LIKELY(bad == ISO_NO_POSITION)) {
        return ISO_OK;
    }
    assert(bad < size);
    *index = bad;
    return status;
}

bool iso_words_are_clean(const uint8_t *data, uint32_t size)
{
    return iso_digits_are_clean(data, size) ||
           find_outside(IS_AN, data, 0, size) == ISO_NO_POSITION;
}

/* How many characters are digits before another comes. */
static uint32_t digits_in_front(const uint8_t *characters, uint32_t count)
{
    uint32_t at = 0;
    for (; count - at >= 8; at += 8) {
        const uint64_t bad = iso_bad_digits(iso_load64(characters + at));
        if (bad != 0) {
            return at + (uint32_t)__builtin_ctzll(bad) / 8; /* the lowest is exact */
        }
    }
    while (at < count && characters[at] >= '0' && characters[at] <= '9') {
        at++;
    }
    return at;
}

uint32_t iso_track2_find_bad(const uint8_t *translate, const uint8_t *characters, uint32_t count)
{
    if (translate == NULL) {
        /* A track, nearly always: digits, a separator among the first twenty, digits. */
        const uint32_t at = digits_in_front(characters, count);
        if (ISO_LIKELY(at >= 1 && at <= 19 && at < count &&
                       (characters[at] == '=' || characters[at] == 'D') &&
                       iso_digits_are_clean(characters + at + 1, count - at - 1))) {
            return ISO_NO_POSITION;
        }
    }
    bool separated = false;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t character = translate == NULL ? characters[i] : translate[characters[i]];
        if (is_between(character, '0', '9')) {
            continue;
        }
        if (separated || i == 0 || i > 19 || (character != '=' && character != 'D')) {
            return i;
        }
        separated = true;
    }
    return separated ? ISO_NO_POSITION : count;
}
