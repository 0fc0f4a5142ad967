#include "naive.h"

static const uint8_t OBJECTS[] = {0x9F, 0x36, 0x02, 0x00, 0x2A, 0x00, 0x00, 0x82, 0x01, 0xFF};

/* ---- one object -------------------------------------------------------------------------------
 */

static void test_objects_come_in_order_and_padding_is_skipped(void)
{
    const uint8_t *const data = guard_copy(OBJECTS, sizeof OBJECTS);
    uint32_t offset = 0;
    iso_tlv found;
    CHECK(iso_tlv_next(data, sizeof OBJECTS, &offset, &found) == ISO_OK);
    CHECK(found.tag_offset == 0 && found.tag_size == 2 && found.value_offset == 3 &&
          found.value_size == 2 && offset == 5);
    CHECK(iso_tlv_next(data, sizeof OBJECTS, &offset, &found) == ISO_OK);
    CHECK(found.tag_offset == 7 && found.tag_size == 1 && found.value_offset == 9 &&
          found.value_size == 1);
    CHECK(offset == sizeof OBJECTS);
    CHECK(iso_tlv_next(data, sizeof OBJECTS, &offset, &found) == ISO_OK);
    CHECK(found.tag_size == 0 && offset == sizeof OBJECTS);
}

static void test_padding_alone_is_no_object(void)
{
    for (uint32_t size = 0; size < 9; size++) {
        const uint8_t zeros[9] = {0};
        uint32_t offset = 0;
        iso_tlv found = {9, 9, 9, 9};
        CHECK(iso_tlv_next(guard_copy(zeros, size), size, &offset, &found) == ISO_OK);
        CHECK(found.tag_size == 0 && found.tag_offset == size && found.value_offset == size &&
              found.value_size == 0 && offset == size);
    }
}

static void test_every_cut_inside_an_object_is_truncated(void)
{
    static const struct {
        uint32_t size;
        const char *bytes;
    } CASES[] = {{4, "\x82\x02\x01\x02"},
                 {6, "\x9F\x36\x03\x01\x02\x03"},
                 {4, "\xDF\x81\x01\x00"},
                 {6, "\xDF\x81\x82\x03\x01\xFF"}};
    for (uint32_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        for (uint32_t size = 1; size < CASES[i].size; size++) {
            uint32_t offset = 0;
            iso_tlv found = {9, 9, 9, 9};
            CHECK(iso_tlv_next(guard_copy((const uint8_t *)CASES[i].bytes, size), size, &offset,
                               &found) == ISO_E_TRUNCATED);
            CHECK(offset == 0 && found.tag_offset == 9 && found.tag_size == 9 &&
                  found.value_offset == 9 && found.value_size == 9);
        }
    }
    /* Lengths of two and three bytes: the cut length, then the cut value. */
    for (uint32_t longer = 0; longer < 2; longer++) {
        uint8_t data[0x110] = {0x82, (uint8_t)(0x81 + longer), (uint8_t)(longer ? 1 : 0x80)};
        const uint32_t whole = longer ? 4 + 0x100 : 3 + 0x80;
        for (uint32_t size = 1; size < whole; size++) {
            uint32_t offset = 0;
            iso_tlv found;
            CHECK(iso_tlv_next(guard_copy(data, size), size, &offset, &found) == ISO_E_TRUNCATED);
        }
        uint32_t offset = 0;
        iso_tlv found;
        CHECK(iso_tlv_next(guard_copy(data, whole), whole, &offset, &found) == ISO_OK);
        CHECK(found.value_size == (longer ? 0x100u : 0x80u) && offset == whole);
    }
}

/* All lengths of the forms 81 xx and 82 xx xx: the shortest form or none. */
static void test_only_the_shortest_form_of_a_length_is_canonical(void)
{
    static uint8_t data[0x10010];
    data[0] = 0x82;
    for (uint32_t length = 0; length < 0x10000; length++) {
        iso_tlv found;
        uint32_t offset = 0;
        data[1] = 0x82;
        data[2] = (uint8_t)(length >> 8);
        data[3] = (uint8_t)length;
        CHECK(iso_tlv_next(data, sizeof data, &offset, &found) ==
              (length < 0x100 ? ISO_E_CANONICAL : ISO_OK));
        CHECK(length < 0x100 || (found.value_size == length && found.value_offset == 4));
        if (length < 0x100) {
            CHECK(offset == 0);
            data[1] = 0x81;
            data[2] = (uint8_t)length;
            CHECK(iso_tlv_next(data, sizeof data, &offset, &found) ==
                  (length < 0x80 ? ISO_E_CANONICAL : ISO_OK));
            CHECK(length < 0x80 || (found.value_size == length && found.value_offset == 3));
        }
    }
    for (uint32_t first = 0; first < 256; first++) {
        iso_tlv found;
        uint32_t offset = 0;
        data[1] = (uint8_t)first;
        data[2] = 0xFF;
        const bool known = first < 0x80 || first == 0x81 || first == 0x82;
        CHECK(iso_tlv_next(data, sizeof data, &offset, &found) == (known ? ISO_OK : ISO_E_TLV));
        /* The same in a field, behind a tag of one byte and of two. */
        uint32_t index = 77;
        CHECK(iso_tlv_check(data, sizeof data, NULL, 0, 1, &index) == (known ? ISO_OK : ISO_E_TLV));
        static uint8_t two[0x10010] = {0x9F, 0x36};
        two[2] = (uint8_t)first;
        two[3] = 0xFF;
        CHECK(iso_tlv_check(two, sizeof two, NULL, 0, 1, &index) == (known ? ISO_OK : ISO_E_TLV));
    }
}

static void test_only_whole_tags_are_tags(void)
{
    static const uint8_t NEXT[] = {0x00, 0x01, 0x1F, 0x7F, 0x80, 0x81, 0x9F, 0xFF};
    for (uint32_t first = 0; first < 256; first++) {
        for (uint32_t more = 0; more < 8 * 8 * 8 * 8; more++) {
            const uint8_t tag[5] = {(uint8_t)first, NEXT[more % 8], NEXT[more / 8 % 8],
                                    NEXT[more / 64 % 8], NEXT[more / 512]};
            for (uint32_t size = 1; size <= 5; size++) {
                CHECK(iso_tlv_tag_valid(tag, size) ==
                      (first != 0 && naive_tag_size(tag, size) == size));
            }
        }
    }
    CHECK(!iso_tlv_tag_valid(guard_copy(NULL, 0), 0));
    CHECK(!iso_tlv_tag_valid(guard_copy((const uint8_t *)"\x9F", 1), 1));
    const uint8_t endless[] = {0x9F, 0x81, 0x81, 0x81, 0x01, 0x00};
    uint32_t offset = 0;
    iso_tlv found;
    CHECK(iso_tlv_next(guard_copy(endless, 6), 6, &offset, &found) == ISO_E_TLV);
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static void test_what_is_written_is_read_back_with_the_shortest_length(void)
{
    static uint8_t value[65535];
    const uint32_t sizes[] = {0, 1, 127, 128, 255, 256, 65535};
    const uint32_t overheads[] = {3, 3, 3, 4, 4, 5, 5};
    memset(value, 0x5A, sizeof value);
    for (uint32_t i = 0; i < 7; i++) {
        const uint32_t total = sizes[i] + overheads[i];
        uint32_t offset = 0;
        uint8_t *out = guard_copy(NULL, total - 1);
        CHECK(iso_tlv_write((const uint8_t *)"\x9F\x10", 2, value, sizes[i], out, total - 1,
                            &offset) == ISO_E_SPACE);
        CHECK(offset == 0 && out[0] == 0xA5);
        out = guard_copy(NULL, total + 1);
        offset = 1;
        CHECK(iso_tlv_write((const uint8_t *)"\x9F\x10", 2, value, sizes[i], out, total + 1,
                            &offset) == ISO_OK);
        CHECK(offset == total + 1 && out[0] == 0xA5);
        iso_tlv found;
        offset = 1;
        CHECK(iso_tlv_next(out, total + 1, &offset, &found) == ISO_OK);
        CHECK(found.value_size == sizes[i] && found.tag_offset == 1 && found.tag_size == 2);
        CHECK(memcmp(out + found.value_offset, value, sizes[i]) == 0 && offset == total + 1);
    }
}

static void test_a_wrong_tag_is_not_written(void)
{
    uint8_t out[16] = {0};
    uint32_t offset = 3;
    CHECK(iso_tlv_write((const uint8_t *)"\x9F", 1, out, 0, out, sizeof out, &offset) == ISO_E_TLV);
    CHECK(iso_tlv_write((const uint8_t *)"\x82\x01", 2, out, 0, out, sizeof out, &offset) ==
          ISO_E_TLV);
    CHECK(iso_tlv_write((const uint8_t *)"\x00", 1, out, 0, out, sizeof out, &offset) == ISO_E_TLV);
    CHECK(offset == 3);
}

/* ---- a whole field ----------------------------------------------------------------------------
 */

static const iso_repeat REPEATS[] = {
    {0x82, 54}, {0x9F36, 55}, {0xDF8101, 55}, {0x82, 55}, {0xDF01, 56}};
enum { REPEAT_COUNT = 5 };

static iso_status check_at_guard(const void *data, uint32_t size, uint32_t field, uint32_t *index)
{
    return iso_tlv_check(guard_copy(data, size), size, REPEATS, REPEAT_COUNT, field, index);
}

static void test_objects_must_fill_the_field(void)
{
    for (uint32_t size = 0; size <= sizeof OBJECTS; size++) {
        uint32_t index = 77;
        const iso_status status = check_at_guard(OBJECTS, size, 1, &index);
        const bool whole = size == 0 || (size >= 5 && size <= 7) || size == sizeof OBJECTS;
        CHECK(status == (whole ? ISO_OK : ISO_E_TLV));
        CHECK(index == (whole ? 77u : size < 5 ? 0u : 7u)); /* the object, not the padding */
    }
}

static void test_the_object_to_blame_is_named(void)
{
    uint32_t index = 77;
    CHECK(check_at_guard("\x82\x01\xFF\x00\x84\x81\x05\x01\x02\x03\x04\x05", 12, 1, &index) ==
          ISO_E_CANONICAL);
    CHECK(index == 4);
    CHECK(check_at_guard("\x82\x01\xFF\x00\x84\x80\x05", 7, 1, &index) == ISO_E_TLV && index == 4);
    CHECK(check_at_guard("\x82\x01\xFF\x00\x84", 5, 1, &index) == ISO_E_TLV && index == 4);
    CHECK(check_at_guard("\x82\x01\xFF\x00\x82\x00", 6, 1, &index) == ISO_E_DUPLICATE);
    CHECK(index == 4);
    CHECK(check_at_guard("\x82\x01\xFF\x00\x00\x00", 6, 1, &index) == ISO_OK && index == 4);
}

/* Every tag of one byte and of two, and some longer: alone, twice, and twice where it may. */
static void test_a_tag_comes_again_only_where_it_may(void)
{
    for (uint32_t number = 0x100; number < 0x20000; number++) {
        /* 01 xx: one byte; 1 xx xx: two. */
        const uint8_t bytes[3] = {(uint8_t)(number >> 8), (uint8_t)number, 0};
        const bool two = number >= 0x10000;
        const uint8_t *const tag = two ? bytes : bytes + 1;
        const uint32_t size = two ? 2 : 1;
        if (!iso_tlv_tag_valid(tag, size) || (!two && number >= 0x200)) {
            continue;
        }
        uint8_t data[16];
        uint32_t used = 0;
        CHECK(iso_tlv_write(tag, size, bytes, 1, data, sizeof data, &used) == ISO_OK);
        uint32_t index = 77;
        CHECK(iso_tlv_check(data, used, NULL, 0, 55, &index) == ISO_OK);
        const uint32_t first = used;
        /* Between them another one, with a length that takes the fast way, or not. */
        CHECK(iso_tlv_write((const uint8_t *)(number % 2 ? "\xC1" : "\xDF\x85\x01"),
                            number % 2 ? 1 : 3, bytes, 1, data, sizeof data, &used) == ISO_OK);
        const uint32_t second = used;
        CHECK(iso_tlv_write(tag, size, bytes, 0, data, sizeof data, &used) == ISO_OK);
        const bool other = size == 1 && tag[0] == 0xC1 && number % 2;
        CHECK(iso_tlv_check(data, used, NULL, 0, 55, &index) == ISO_E_DUPLICATE);
        CHECK(index == (other ? first : second));
        const iso_repeat repeat = {number & (two ? 0xFFFF : 0xFF), 55};
        CHECK(iso_tlv_check(data, used, &repeat, 1, 55, &index) == ISO_OK);
        CHECK(iso_tlv_check(data, used, &repeat, 1, 54, &index) == ISO_E_DUPLICATE);
    }
}

static void test_long_tags_come_again_only_where_they_may(void)
{
    const char *const twice = "\xDF\x81\x01\x01\x05\xDF\x81\x01\x00";
    uint32_t index = 77;
    CHECK(check_at_guard(twice, 9, 55, &index) == ISO_OK);
    CHECK(check_at_guard(twice, 9, 54, &index) == ISO_E_DUPLICATE && index == 5);
    CHECK(check_at_guard("\xDF\x81\x01\x01\x05\xDF\x81\x02\x00", 9, 54, &index) == ISO_OK);
    CHECK(check_at_guard("\xDF\x81\x82\x01\x00\xDF\x81\x82\x01\x00", 10, 55, &index) ==
          ISO_E_DUPLICATE);
    /* The value of one looks like the tag of the other: only tags count. */
    CHECK(check_at_guard("\x82\x03\xDF\x81\x05\xDF\x81\x05\x00", 9, 54, &index) == ISO_OK);
    CHECK(check_at_guard("\x9F\x36\x00\x5F\x36\x00\xDF\x36\x00\x36\x00\x1F\x36\x00", 14, 1,
                         &index) == ISO_OK);
}

/* A peer chooses the tags. Looking through all that stand in front costs the square of their
 * number, so unusual ones are limited; the usual ones are not. */
static void test_unusual_tags_are_limited_in_number(void)
{
    uint8_t data[2048];
    uint32_t used = 0;
    uint32_t index = 77;
    for (uint32_t i = 0; i <= ISO_REPEATS_MAX; i++) {
        const uint8_t tag[3] = {0xDF, 0x81, (uint8_t)i};
        CHECK(iso_tlv_check(data, used, NULL, 0, 55, &index) == ISO_OK);
        CHECK(iso_tlv_write(tag, 3, tag, 0, data, sizeof data, &used) == ISO_OK);
    }
    CHECK(iso_tlv_check(data, used, NULL, 0, 55, &index) == ISO_E_TLV);
    CHECK(index == used - 4);
    used = 0;
    for (uint32_t i = 0; i < 128; i++) {
        const uint8_t tag[2] = {0x9F, (uint8_t)i};
        CHECK(iso_tlv_write(tag, 2, tag, 0, data, sizeof data, &used) == ISO_OK);
    }
    CHECK(iso_tlv_check(data, used, NULL, 0, 55, &index) == ISO_OK);
}

static void test_random_objects_are_judged_as_the_naive_check_does(void)
{
    static const uint8_t LOVED[] = {0x82, 0x9F, 0x36, 0xDF, 0x01, 0x81, 0x00,
                                    0x5F, 0x80, 0x7F, 0x03, 0x1F, 0x02};
    uint32_t state = 7;
    uint32_t seen[ISO_STATUS_COUNT] = {0};
    for (uint32_t round = 0; round < 300000; round++) {
        uint8_t noise[40];
        const uint32_t size = dice(&state) % (uint32_t)sizeof noise;
        for (uint32_t i = 0; i < size; i++) {
            noise[i] =
                dice(&state) % 3 ? LOVED[dice(&state) % sizeof LOVED] : (uint8_t)(dice(&state) % 5);
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
            CHECK(found.tag_size == 0 || naive_tag_size(data + found.tag_offset,
                                                        size - found.tag_offset) == found.tag_size);
        }
        const uint32_t field = 54 + dice(&state) % 3;
        uint32_t expected = 0;
        uint32_t index = 0;
        const iso_status status =
            naive_tlv_check(data, size, REPEATS, REPEAT_COUNT, field, &expected);
        CHECK(check_at_guard(noise, size, field, &index) == status);
        CHECK(status == ISO_OK || index == expected);
        seen[status]++;
    }
    CHECK(seen[ISO_OK] > 1000 && seen[ISO_E_TLV] > 1000 && seen[ISO_E_CANONICAL] > 1000 &&
          seen[ISO_E_DUPLICATE] > 1000); /* or the dice have tested nothing */
}

int main(void)
{
    RUN(test_objects_come_in_order_and_padding_is_skipped);
    RUN(test_padding_alone_is_no_object);
    RUN(test_every_cut_inside_an_object_is_truncated);
    RUN(test_only_the_shortest_form_of_a_length_is_canonical);
    RUN(test_only_whole_tags_are_tags);
    RUN(test_what_is_written_is_read_back_with_the_shortest_length);
    RUN(test_a_wrong_tag_is_not_written);
    RUN(test_objects_must_fill_the_field);
    RUN(test_the_object_to_blame_is_named);
    RUN(test_a_tag_comes_again_only_where_it_may);
    RUN(test_long_tags_come_again_only_where_they_may);
    RUN(test_unusual_tags_are_limited_in_number);
    RUN(test_random_objects_are_judged_as_the_naive_check_does);
    return 0;
}
