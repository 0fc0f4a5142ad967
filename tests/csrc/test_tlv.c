#include "check.h"

static const uint8_t OBJECTS[] = {0x9F, 0x36, 0x02, 0x00, 0x2A, 0x00, 0x00, 0x82, 0x01, 0xFF};

static void test_objects_come_in_order_and_padding_is_skipped(void)
{
    const uint8_t *const data = guard_copy(OBJECTS, sizeof OBJECTS);
    uint32_t offset = 0;
    iso_tlv found;
    CHECK(iso_tlv_next(data, sizeof OBJECTS, &offset, &found) == ISO_OK);
    CHECK(found.tag_offset == 0 && found.tag_size == 2 && found.value_offset == 3 &&
          found.value_size == 2);
    CHECK(iso_tlv_next(data, sizeof OBJECTS, &offset, &found) == ISO_OK);
    CHECK(found.tag_offset == 7 && found.tag_size == 1 && found.value_size == 1);
    CHECK(offset == sizeof OBJECTS);
    CHECK(iso_tlv_next(data, sizeof OBJECTS, &offset, &found) == ISO_OK);
    CHECK(found.tag_size == 0 && offset == sizeof OBJECTS);
}

static void test_every_cut_inside_an_object_is_truncated(void)
{
    const uint8_t data[] = {0x9F, 0x36, 0x81, 0x03, 1, 2, 3};
    for (uint32_t size = 1; size < sizeof data; size++) {
        uint32_t offset = 0;
        iso_tlv found = {9, 9, 9, 9};
        CHECK(iso_tlv_next(guard_copy(data, size), size, &offset, &found) == ISO_E_TRUNCATED);
        CHECK(offset == 0 && found.tag_size == 9);
    }
    const uint8_t long_form[] = {0x9F, 0x36, 0x82, 0x00};
    uint32_t offset = 0;
    iso_tlv found;
    CHECK(iso_tlv_next(guard_copy(long_form, 4), 4, &offset, &found) == ISO_E_TRUNCATED);
}

static void test_malformed_objects_are_refused(void)
{
    const uint8_t endless_tag[] = {0x9F, 0x81, 0x81, 0x81, 0x01, 0x00};
    const uint8_t indefinite[] = {0x82, 0x80, 0x00, 0x00};
    const uint8_t three_bytes[] = {0x82, 0x83, 0x00, 0x00, 0x00};
    uint32_t offset = 0;
    iso_tlv found;
    CHECK(iso_tlv_next(guard_copy(endless_tag, 6), 6, &offset, &found) == ISO_E_TLV);
    CHECK(iso_tlv_next(guard_copy(indefinite, 4), 4, &offset, &found) == ISO_E_TLV);
    CHECK(iso_tlv_next(guard_copy(three_bytes, 5), 5, &offset, &found) == ISO_E_TLV);
}

static void test_what_is_written_is_read_back_with_the_shortest_length(void)
{
    static uint8_t value[65535];
    const uint32_t sizes[] = {0, 1, 127, 128, 255, 256, 65535};
    const uint32_t overheads[] = {3, 3, 3, 4, 4, 5, 5};
    for (uint32_t i = 0; i < 7; i++) {
        const uint32_t total = sizes[i] + overheads[i];
        uint32_t offset = 0;
        uint8_t *out = guard_copy(NULL, total - 1);
        CHECK(iso_tlv_write((const uint8_t *)"\x9F\x10", 2, value, sizes[i], out, total - 1,
                            &offset) == ISO_E_SPACE);
        CHECK(offset == 0);
        out = guard_copy(NULL, total);
        CHECK(iso_tlv_write((const uint8_t *)"\x9F\x10", 2, value, sizes[i], out, total, &offset) ==
              ISO_OK);
        CHECK(offset == total);
        iso_tlv found;
        offset = 0;
        CHECK(iso_tlv_next(out, total, &offset, &found) == ISO_OK);
        CHECK(found.value_size == sizes[i] && offset == total);
    }
}

static void test_only_whole_tags_are_tags(void)
{
    CHECK(iso_tlv_tag_valid((const uint8_t *)"\x82", 1));
    CHECK(iso_tlv_tag_valid((const uint8_t *)"\x9F\x36", 2));
    CHECK(iso_tlv_tag_valid((const uint8_t *)"\xFF\x00", 2));
    CHECK(iso_tlv_tag_valid((const uint8_t *)"\xDF\x81\x01", 3));
    CHECK(!iso_tlv_tag_valid((const uint8_t *)"", 0));
    CHECK(!iso_tlv_tag_valid((const uint8_t *)"\x00", 1));
    CHECK(!iso_tlv_tag_valid((const uint8_t *)"\x9F", 1));
    CHECK(!iso_tlv_tag_valid((const uint8_t *)"\x82\x01", 2));
    CHECK(!iso_tlv_tag_valid((const uint8_t *)"\x9F\x81\x81\x81\x01", 5));
}

static void test_random_bytes_end(void)
{
    uint32_t state = 7;
    for (uint32_t round = 0; round < 200000; round++) {
        uint8_t noise[24];
        const uint32_t size = dice(&state) % (uint32_t)sizeof noise;
        for (uint32_t i = 0; i < size; i++) {
            noise[i] = (uint8_t)dice(&state);
        }
        const uint8_t *const data = guard_copy(noise, size);
        uint32_t offset = 0;
        while (offset < size) {
            const uint32_t before = offset;
            iso_tlv found;
            if (iso_tlv_next(data, size, &offset, &found) != ISO_OK) {
                CHECK(offset == before);
                break;
            }
            CHECK(offset > before && offset <= size);
            CHECK(found.value_offset + found.value_size <= size);
        }
    }
}

int main(void)
{
    RUN(test_objects_come_in_order_and_padding_is_skipped);
    RUN(test_every_cut_inside_an_object_is_truncated);
    RUN(test_malformed_objects_are_refused);
    RUN(test_what_is_written_is_read_back_with_the_shortest_length);
    RUN(test_only_whole_tags_are_tags);
    RUN(test_random_bytes_end);
    return 0;
}
