#include "check.h"

static void test_binary_and_hex_say_the_same(void)
{
    const uint64_t bits = UINT64_C(0x7024068020C08211);
    uint8_t out[16];
    uint64_t read = 0;
    uint32_t position = 0;
    iso_bitmap_write(ISO_BITMAP_BINARY, bits, out);
    CHECK(memcmp(out, "\x70\x24\x06\x80\x20\xC0\x82\x11", 8) == 0);
    CHECK(iso_bitmap_read(ISO_BITMAP_BINARY, guard_copy(out, 8), 8, 0, &read, &position) == ISO_OK);
    CHECK(read == bits);

    iso_bitmap_write(ISO_BITMAP_HEX, bits, out);
    CHECK(memcmp(out, "7024068020C08211", 16) == 0);
    CHECK(iso_bitmap_read(ISO_BITMAP_HEX, guard_copy(out, 16), 16, 0, &read, &position) == ISO_OK);
    CHECK(read == bits);
    const uint8_t *const lower = guard_copy((const uint8_t *)"7024068020c08211", 16);
    CHECK(iso_bitmap_read(ISO_BITMAP_HEX, lower, 16, 0, &read, &position) == ISO_OK);
    CHECK(read == bits);
}

static void test_a_hex_bitmap_names_the_wrong_character(void)
{
    const uint8_t *const data = guard_copy((const uint8_t *)"70240680G0C08211", 16);
    uint64_t read = 7;
    uint32_t position = 0;
    CHECK(iso_bitmap_read(ISO_BITMAP_HEX, data, 16, 0, &read, &position) == ISO_E_BITMAP);
    CHECK(position == 8 && read == 7);
}

static void test_every_prefix_is_truncated(void)
{
    for (uint32_t size = 0; size < 16; size++) {
        uint64_t read = 7;
        uint32_t position = 0;
        const uint8_t *const data = guard_copy((const uint8_t *)"7024068020C08211", size);
        CHECK(iso_bitmap_read(ISO_BITMAP_HEX, data, size, 0, &read, &position) == ISO_E_TRUNCATED);
        if (size < 8) {
            CHECK(iso_bitmap_read(ISO_BITMAP_BINARY, data, size, 0, &read, &position) ==
                  ISO_E_TRUNCATED);
        }
        CHECK(read == 7);
    }
}

static void test_find_counts_fields_and_skips_the_bit_of_the_bitmap(void)
{
    const uint64_t present[2] = {iso_bit(1) | iso_bit(2) | iso_bit(64), iso_bit(65) | iso_bit(128)};
    CHECK(iso_layout_find(present, 2) == 0);
    CHECK(iso_layout_find(present, 64) == 1);
    CHECK(iso_layout_find(present, 65) == 2);
    CHECK(iso_layout_find(present, 128) == 3);
    CHECK(iso_layout_find(present, 1) == -1);
    CHECK(iso_layout_find(present, 0) == -1);
    CHECK(iso_layout_find(present, 3) == -1);
    CHECK(iso_layout_find(present, 127) == -1);
    CHECK(iso_layout_find(present, 129) == -1);
}

int main(void)
{
    RUN(test_binary_and_hex_say_the_same);
    RUN(test_a_hex_bitmap_names_the_wrong_character);
    RUN(test_every_prefix_is_truncated);
    RUN(test_find_counts_fields_and_skips_the_bit_of_the_bitmap);
    return 0;
}
