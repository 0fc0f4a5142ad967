/* A field number, tags that may repeat in it, then BER-TLV. The check agrees with the slow one, and
 * what it accepts is the same when it is written again, but for the padding. */
#include "fuzz.h"

#include "../csrc/naive.h"

static void check_written_again(const uint8_t *data, uint32_t size)
{
    uint8_t *const out = exact_room(size);
    uint32_t written = 0;
    uint32_t offset = 0;
    while (offset < size) {
        iso_tlv object;
        const uint32_t before = offset;
        CHECK(iso_tlv_next(data, size, &offset, &object) == ISO_OK);
        if (object.tag_size == 0) {
            break;
        }
        CHECK(object.tag_offset >= before && offset == object.value_offset + object.value_size);
        const uint8_t *const tag = data + object.tag_offset;
        CHECK(iso_tlv_tag_valid(tag, object.tag_size));
        CHECK(naive_tag_size(tag, size - object.tag_offset) == object.tag_size);
        const uint32_t at = written;
        CHECK(iso_tlv_write(tag, object.tag_size, data + object.value_offset, object.value_size,
                            out, size, &written) == ISO_OK);
        CHECK(written - at == offset - object.tag_offset);
        CHECK(memcmp(out + at, tag, written - at) == 0);
    }
    CHECK(written <= size);
    free_room(out, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    source from = {input, (uint32_t)input_size, 0};
    if (input_size > ISO_MESSAGE_SIZE_MAX) {
        return 0;
    }
    iso_repeat repeats[4];
    const uint8_t head = take(&from);
    for (uint32_t i = 0; i < head % 4u; i++) {
        const uint8_t tag_size = take(&from) % 3;
        repeats[i].field = head >> 4 & 1;
        repeats[i].tag = take(&from);
        for (uint32_t k = 0; k < tag_size; k++) {
            repeats[i].tag = repeats[i].tag << 8 | take(&from);
        }
    }
    uint32_t size = 0;
    const uint8_t *const bytes = take_bytes(&from, UINT32_MAX, &size);
    uint8_t *const data = exact_copy(bytes, size);

    uint32_t offset = 0;
    while (offset < size) {
        const uint32_t before = offset;
        iso_tlv object = {1, 2, 3, 4};
        if (iso_tlv_next(data, size, &offset, &object) != ISO_OK) {
            CHECK(offset == before && object.tag_offset == 1 && object.value_size == 4);
            break;
        }
        CHECK(offset > before && offset <= size);
        CHECK(object.value_offset + object.value_size <= size);
    }
    uint32_t index = 0;
    uint32_t expected = 0;
    const iso_status status =
        iso_tlv_check(data, size, head % 4 == 0 ? NULL : repeats, head % 4u, 1, &index);
    CHECK(status == naive_tlv_check(data, size, repeats, head % 4u, 1, &expected));
    CHECK(status == ISO_OK || (index == expected && index < size));
    if (status == ISO_OK) {
        check_written_again(data, size);
    }
    free_room(data, size);
    return 0;
}
