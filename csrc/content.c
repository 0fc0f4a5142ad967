#include "iso8583.h"
#include "internal.h"

enum { IS_N = 1, IS_A = 2, IS_AN = 4, IS_ANS = 8, IS_Z = 16 };

/* Sums of the IS_ values for every ASCII character; zero from 80 on. Space counts as a letter
 * because fixed text fields are space filled. */
static const uint8_t CLASSES[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 00 */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 10 */
    14, 8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 20 */
    29, 29, 29, 29, 29, 29, 29, 29, 29, 29, 24, 24, 24, 24, 24, 24, /* 30 */
    8,  30, 30, 30, 30, 30, 30, 14, 14, 14, 14, 14, 14, 14, 14, 14, /* 40 */
    14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 8,  8,  8,  8,  8,  /* 50 */
    8,  14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, /* 60 */
    14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 8,  8,  8,  8,  0,  /* 70 */
};

static uint32_t find_outside(uint8_t class, const uint8_t *data, uint32_t from, uint32_t size)
{
    for (uint32_t i = from; i < size; i++) {
        if (ISO_UNLIKELY((CLASSES[data[i]] & class) == 0)) {
            return i;
        }
    }
    return ISO_NO_POSITION;
}

/* GBK: a lead byte 81-FE is followed by a trail byte 40-FE other than 7F; everything else is
 * printable ASCII. Whether a pair has a character assigned is left to the reader's code table: the
 * one used above this core (GB 18030) has a code point for every such pair. */
static uint32_t find_outside_gbk(const uint8_t *data, uint32_t size)
{
    uint32_t i = 0;
    while (i < size) {
        if (CLASSES[data[i]] & IS_ANS) {
            i += 1;
            continue;
        }
        const bool lead = data[i] >= 0x81 && data[i] <= 0xFE;
        if (!lead || i + 1 >= size) {
            return i;
        }
        const uint8_t trail = data[i + 1];
        if (trail < 0x40 || trail == 0x7F || trail == 0xFF) {
            return i;
        }
        i += 2;
    }
    return ISO_NO_POSITION;
}

static uint32_t find_outside_tlv(const uint8_t *data, uint32_t size)
{
    uint32_t offset = 0;
    while (offset < size) {
        const uint32_t before = offset;
        iso_tlv object;
        if (iso_tlv_next(data, size, &offset, &object) != ISO_OK) {
            return before;
        }
        assert(offset > before);
    }
    return ISO_NO_POSITION;
}

iso_status iso_content_check(iso_content content, const uint8_t *data, uint32_t size,
                             uint32_t *index)
{
    uint32_t bad = ISO_NO_POSITION;
    iso_status status = ISO_E_CONTENT;
    switch (content) {
    case ISO_CONTENT_B:
        return ISO_OK;
    case ISO_CONTENT_N:
        bad = find_outside(IS_N, data, 0, size);
        break;
    case ISO_CONTENT_A:
        bad = find_outside(IS_A, data, 0, size);
        break;
    case ISO_CONTENT_AN:
        bad = find_outside(IS_AN, data, 0, size);
        break;
    case ISO_CONTENT_ANS:
        bad = find_outside(IS_ANS, data, 0, size);
        break;
    case ISO_CONTENT_Z:
        bad = find_outside(IS_Z, data, 0, size);
        break;
    case ISO_CONTENT_XN:
        bad = size > 0 && data[0] != 'C' && data[0] != 'D' ? 0 : find_outside(IS_N, data, 1, size);
        break;
    case ISO_CONTENT_GBK:
        status = ISO_E_TEXT;
        bad = find_outside_gbk(data, size);
        break;
    case ISO_CONTENT_TLV:
        status = ISO_E_TLV;
        bad = find_outside_tlv(data, size);
        break;
    }
    if (ISO_LIKELY(bad == ISO_NO_POSITION)) {
        return ISO_OK;
    }
    assert(bad < size);
    *index = bad;
    return status;
}
