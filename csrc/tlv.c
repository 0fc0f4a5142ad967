#include "iso8583.h"
#include "internal.h"

/* Size of the tag at data, 0 if it is longer than allowed, ISO_NO_POSITION if it is cut off. */
static uint32_t tag_size_at(const uint8_t *data, uint32_t size)
{
    assert(size > 0);
    if ((data[0] & 0x1Fu) != 0x1F) {
        return 1;
    }
    for (uint32_t i = 1; i < ISO_TLV_TAG_SIZE_MAX; i++) {
        if (i >= size) {
            return ISO_NO_POSITION;
        }
        if ((data[i] & 0x80u) == 0) {
            return i + 1;
        }
    }
    return 0;
}

iso_status iso_tlv_next(const uint8_t *data, uint32_t size, uint32_t *offset, iso_tlv *out)
{
    assert(*offset <= size);
    uint32_t at = *offset;
    while (at < size && data[at] == 0x00) {
        at++;
    }
    if (at == size) {
        *out = (iso_tlv){.tag_offset = size, .value_offset = size};
        *offset = size;
        return ISO_OK;
    }

    const uint32_t tag_offset = at;
    const uint32_t tag_size = tag_size_at(data + at, size - at);
    if (tag_size == ISO_NO_POSITION) {
        return ISO_E_TRUNCATED;
    }
    if (tag_size == 0) {
        return ISO_E_TLV;
    }
    at += tag_size;
    if (at == size) {
        return ISO_E_TRUNCATED;
    }

    uint32_t value_size = data[at];
    at += 1;
    if (value_size > 0x82 || value_size == 0x80) {
        return ISO_E_TLV;
    }
    if (value_size > 0x80) {
        const uint32_t more = value_size - 0x80u;
        if (size - at < more) {
            return ISO_E_TRUNCATED;
        }
        value_size = more == 1 ? data[at] : (uint32_t)data[at] << 8 | data[at + 1];
        if (value_size < (more == 1 ? 0x80u : 0x100u)) {
            return ISO_E_CANONICAL;
        }
        at += more;
    }
    if (size - at < value_size) {
        return ISO_E_TRUNCATED;
    }
    out->tag_offset = tag_offset;
    out->tag_size = tag_size;
    out->value_offset = at;
    out->value_size = value_size;
    *offset = at + value_size;
    assert(*offset <= size);
    return ISO_OK;
}

/* The tags in use have an index of their own, so that one look tells whether a tag was there
 * before: all of one byte, and those of two bytes that start with 9F, 5F or DF. */
enum { SEEN_9F = 256, SEEN_5F = 384, SEEN_DF = 512, SEEN_COUNT = 640 };

/* By the first byte of a tag: where its index starts, and whether a second byte counts from there.
 * 0: it needs a closer look, for it is padding or the start of a rare tag. */
enum { TWO_BYTES = 0x8000 };

#define FOUR_TAGS(n) (n), (n) + 1, (n) + 2, (n) + 3
#define ROW_OF_TAGS(n)                                                                             \
    FOUR_TAGS(n), FOUR_TAGS((n) + 4), FOUR_TAGS((n) + 8), FOUR_TAGS((n) + 12),                     \
        FOUR_TAGS((n) + 16), FOUR_TAGS((n) + 20), FOUR_TAGS((n) + 24), (n) + 28, (n) + 29,         \
        (n) + 30

static const uint16_t USUAL[256] = {
    ROW_OF_TAGS(0x00), 0,
    ROW_OF_TAGS(0x20), 0,
    ROW_OF_TAGS(0x40), SEEN_5F | TWO_BYTES,
    ROW_OF_TAGS(0x60), 0,
    ROW_OF_TAGS(0x80), SEEN_9F | TWO_BYTES,
    ROW_OF_TAGS(0xA0), 0,
    ROW_OF_TAGS(0xC0), SEEN_DF | TWO_BYTES,
    ROW_OF_TAGS(0xE0), 0,
};

/* The rare tags: walk what is in front of `end` again. */
static bool was_before(const uint8_t *data, uint32_t end, const uint8_t *tag, uint32_t tag_size)
{
    uint32_t offset = 0;
    iso_tlv object;
    while (offset < end && iso_tlv_next(data, end, &offset, &object) == ISO_OK) {
        if (object.tag_size == tag_size && memcmp(data + object.tag_offset, tag, tag_size) == 0) {
            return true;
        }
    }
    return false;
}

static bool may_repeat(const uint8_t *tag, uint32_t tag_size, const iso_repeat *repeats,
                       uint32_t repeat_count, uint32_t field)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < tag_size; i++) {
        number = number << 8 | tag[i];
    }
    for (uint32_t i = 0; i < repeat_count; i++) {
        if (repeats[i].field == field && repeats[i].tag == number) {
            return true;
        }
    }
    return false;
}

/* The shape of nearly every object in a card message: one or two bytes of tag, one of length, not
 * there before. Returns the offset of the first that is anything else, `size` if there is none. */
static uint32_t skip_usual(const uint8_t *data, uint32_t size, uint32_t from,
                           uint8_t seen[SEEN_COUNT])
{
    if (size < 3) {
        return from;
    }
    const size_t last = size - 3;
    size_t offset = from;
    size_t start = from; /* of the object that was skipped last */
    while (offset <= last) {
        uint32_t index = USUAL[data[offset]];
        uint32_t length = data[offset + 1];
        size_t next = offset + 2;
        if ((index & TWO_BYTES) != 0) {
            index = (index - TWO_BYTES) + length;
            length = data[offset + 2] | (length & 0x80u); /* the top bit of either is too much */
            next = offset + 3;
        }
        if (length >= 0x80 || seen[index] != 0) {
            break;
        }
        seen[index] = 1;
        start = offset;
        offset = next + length;
    }
    /* One that leaves the field ends the loop as well; the long way says what is wrong with it. */
    return (uint32_t)(offset > size ? start : offset);
}

iso_status iso_tlv_check(const uint8_t *data, uint32_t size, const iso_repeat *repeats,
                         uint32_t repeat_count, uint32_t field, uint32_t *index)
{
    uint8_t seen[SEEN_COUNT] = {[0] = 1}; /* by index, which is 0 for what is not usual */
    uint32_t rare = 0;
    uint32_t offset = 0;
    while (offset < size) {
        offset = skip_usual(data, size, offset, seen);
        if (offset == size) {
            break;
        }

        const uint32_t before = offset;
        iso_tlv object;
        const iso_status status = iso_tlv_next(data, size, &offset, &object);
        if (status != ISO_OK) {
            *index = before;
            while (data[*index] == 0x00) {
                *index += 1; /* the object is to blame, not the padding in front of it */
            }
            return status == ISO_E_CANONICAL ? ISO_E_CANONICAL : ISO_E_TLV;
        }
        if (object.tag_size == 0) {
            break;
        }
        assert(offset > before && offset <= size);
        const uint8_t *const tag = data + object.tag_offset;
        uint32_t place = object.tag_size <= 2 ? USUAL[tag[0]] : 0;
        if ((place & TWO_BYTES) != 0) {
            place = (place - TWO_BYTES) + tag[1];
        }
        bool again;
        if (place != 0) {
            again = seen[place] != 0;
            seen[place] = 1;
        } else if (++rare > ISO_REPEATS_MAX) {
            /* Walking again for each would cost a peer's square of our time. */
            *index = object.tag_offset;
            return ISO_E_TLV;
        } else {
            again = was_before(data, object.tag_offset, tag, object.tag_size);
        }
        if (again && !may_repeat(tag, object.tag_size, repeats, repeat_count, field)) {
            *index = object.tag_offset;
            return ISO_E_DUPLICATE;
        }
    }
    return ISO_OK;
}

bool iso_tlv_tag_valid(const uint8_t *tag, uint32_t size)
{
    return size > 0 && tag[0] != 0x00 && tag_size_at(tag, size) == size;
}

iso_status iso_tlv_write(const uint8_t *tag, uint32_t tag_size, const uint8_t *value,
                         uint32_t value_size, uint8_t *out, uint32_t capacity, uint32_t *offset)
{
    assert(*offset <= capacity);
    assert(value_size <= 0xFFFF);
    if (!iso_tlv_tag_valid(tag, tag_size)) {
        return ISO_E_TLV;
    }
    const uint32_t length_size = value_size < 0x80 ? 1 : value_size < 0x100 ? 2 : 3;
    if (capacity - *offset < tag_size + length_size + value_size) {
        return ISO_E_SPACE;
    }
    uint8_t *to = out + *offset;
    memcpy(to, tag, tag_size);
    to += tag_size;
    if (length_size == 1) {
        to[0] = (uint8_t)value_size;
    } else if (length_size == 2) {
        to[0] = 0x81;
        to[1] = (uint8_t)value_size;
    } else {
        to[0] = 0x82;
        to[1] = (uint8_t)(value_size >> 8);
        to[2] = (uint8_t)(value_size & 0xFFu);
    }
    to += length_size;
    if (value_size > 0) {
        memcpy(to, value, value_size);
    }
    *offset += tag_size + length_size + value_size;
    assert(*offset <= capacity);
    return ISO_OK;
}
