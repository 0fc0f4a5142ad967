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
