#include "check.h"

static void test_every_prefix_is_truncated(void)
{
    const uint8_t data[] = {0x00, 0x03, 'a', 'b', 'c'};
    for (uint32_t size = 0; size < sizeof data; size++) {
        iso_frame found = {9, 9};
        CHECK(iso_frame_len2(guard_copy(data, size), size, 3, &found) == ISO_E_TRUNCATED);
        CHECK(found.offset == 9);
    }
    iso_frame found = {9, 9};
    CHECK(iso_frame_len2(guard_copy(data, sizeof data), sizeof data, 3, &found) == ISO_OK);
    CHECK(found.offset == 2 && found.size == 3);
}

static void test_what_cannot_be_accepted_is_refused_at_the_prefix(void)
{
    iso_frame found = {9, 9};
    CHECK(iso_frame_len2(guard_copy((const uint8_t *)"\x00\x00", 2), 2, 4096, &found) ==
          ISO_E_EMPTY);
    CHECK(iso_frame_len2(guard_copy((const uint8_t *)"\x10\x01", 2), 2, 4096, &found) ==
          ISO_E_TOO_LONG);
    CHECK(iso_frame_len2(guard_copy((const uint8_t *)"\x10\x00", 2), 2, 4096, &found) ==
          ISO_E_TRUNCATED);
    CHECK(found.offset == 9 && found.size == 9);
}

int main(void)
{
    RUN(test_every_prefix_is_truncated);
    RUN(test_what_cannot_be_accepted_is_refused_at_the_prefix);
    return 0;
}
