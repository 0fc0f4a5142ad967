/* What the core does fast, done slowly and by the letter: for comparing. */
#ifndef NAIVE_H
#define NAIVE_H

#include "check.h"

/* The size of the tag at data by the rule itself: bits 1-5 of the first byte all set mean that more
 * follow, bit 8 of each of those that it is not the last. 0: longer than four bytes, or cut. */
static inline uint32_t naive_tag_size(const uint8_t *data, uint32_t size)
{
    uint32_t count = 1;
    if ((data[0] & 0x1F) == 0x1F) {
        do {
            count++;
        } while (count <= size && count <= 5 && (data[count - 1] & 0x80) != 0);
    }
    return count <= 4 && count <= size ? count : 0;
}

/* iso_tlv_check: object after object, each compared with all before. */
static inline iso_status naive_tlv_check(const uint8_t *data, uint32_t size,
                                         const iso_repeat *repeats, uint32_t repeat_count,
                                         uint32_t field, uint32_t *index)
{
    uint32_t offset = 0;
    uint32_t rare = 0;
    while (offset < size) {
        iso_tlv found;
        *index = offset;
        while (*index < size && data[*index] == 0) {
            *index += 1;
        }
        const iso_status status = iso_tlv_next(data, size, &offset, &found);
        if (status != ISO_OK) {
            return status == ISO_E_TRUNCATED ? ISO_E_TLV : status;
        }
        if (found.tag_size == 0) {
            break;
        }
        const uint8_t *const tag = data + found.tag_offset;
        const bool usual =
            found.tag_size == 1 ||
            (found.tag_size == 2 && (tag[0] == 0x9F || tag[0] == 0x5F || tag[0] == 0xDF));
        rare += usual ? 0 : 1;
        if (rare > ISO_REPEATS_MAX) {
            return ISO_E_TLV;
        }
        uint32_t number = 0;
        for (uint32_t i = 0; i < found.tag_size; i++) {
            number = number << 8 | tag[i];
        }
        bool may = false;
        for (uint32_t i = 0; i < repeat_count; i++) {
            may = may || (repeats[i].tag == number && repeats[i].field == field);
        }
        uint32_t again = 0;
        while (!may && again < found.tag_offset) {
            iso_tlv other;
            CHECK(iso_tlv_next(data, size, &again, &other) == ISO_OK);
            if (other.tag_offset < found.tag_offset && other.tag_size == found.tag_size &&
                memcmp(data + other.tag_offset, tag, found.tag_size) == 0) {
                return ISO_E_DUPLICATE;
            }
        }
    }
    return ISO_OK;
}

#endif /* NAIVE_H */
