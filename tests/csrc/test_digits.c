#include "check.h"

static void test_field_22_packs_left_and_field_23_right(void)
{
    uint8_t out[2];
    CHECK(iso_pack(ISO_PACK_BCD_LEFT, (const uint8_t *)"021", 3, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x02 && out[1] == 0x10);
    CHECK(iso_pack(ISO_PACK_BCD_RIGHT, (const uint8_t *)"021", 3, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x00 && out[1] == 0x21);
}

static void test_unpacking_undoes_packing_at_every_length(void)
{
    const iso_packing packings[] = {ISO_PACK_BCD_LEFT, ISO_PACK_BCD_RIGHT, ISO_PACK_TRACK_LEFT};
    const char *const digits = "0123456789012345678901234567890123456";
    for (uint32_t p = 0; p < 3; p++) {
        for (uint32_t length = 0; length <= 37; length++) {
            const uint32_t size = (length + 1) / 2;
            uint8_t *const packed = guard_copy(NULL, size);
            CHECK(iso_pack(packings[p], (const uint8_t *)digits, length, packed) ==
                  ISO_NO_POSITION);
            const iso_field field = {(uint8_t)packings[p], 0, ISO_UNIT_DIGITS, 2, 0, 0, 0, 37};
            uint8_t out[38] = {0};
            iso_unpack(&field, packed, length, out);
            CHECK(memcmp(out, digits, length) == 0 && out[length] == 0);
            if (packings[p] != ISO_PACK_TRACK_LEFT) {
                CHECK(iso_bcd_find_bad(packed, length, packings[p] == ISO_PACK_BCD_LEFT) ==
                      ISO_NO_POSITION);
            }
        }
    }
}

static void test_equals_and_d_are_the_same_nibble(void)
{
    uint8_t out[2];
    CHECK(iso_pack(ISO_PACK_TRACK_LEFT, (const uint8_t *)"1=2", 3, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x1D && out[1] == 0x20);
    CHECK(iso_pack(ISO_PACK_TRACK_LEFT, (const uint8_t *)"1D2", 3, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x1D && out[1] == 0x20);
    CHECK(iso_pack(ISO_PACK_BCD_LEFT, (const uint8_t *)"1=2", 3, out) == 1);
    CHECK(iso_pack(ISO_PACK_TRACK_LEFT, (const uint8_t *)"12G", 3, out) == 2);
}

static void test_the_first_bad_nibble_is_found_and_the_pad_is_not_looked_at(void)
{
    CHECK(iso_bcd_find_bad((const uint8_t *)"\x12\x3F", 3, true) == ISO_NO_POSITION);
    CHECK(iso_bcd_find_bad((const uint8_t *)"\xF1\x23", 3, false) == ISO_NO_POSITION);
    CHECK(iso_bcd_find_bad((const uint8_t *)"\x12\x3F", 4, true) == 1);
    CHECK(iso_bcd_find_bad((const uint8_t *)"\x12\xA0", 3, true) == 1);
    CHECK(iso_bcd_find_bad((const uint8_t *)"\xA2\xA0", 3, true) == 0);
    CHECK(iso_bcd_find_bad((const uint8_t *)"\x0A\x23", 3, false) == 0);
    for (uint32_t byte = 0; byte < 256; byte++) {
        const uint8_t data[1] = {(uint8_t)byte};
        const bool good = (byte >> 4) <= 9 && (byte & 15) <= 9;
        CHECK((iso_bcd_find_bad(data, 2, true) == ISO_NO_POSITION) == good);
    }
}

static void test_decimals_go_both_ways(void)
{
    for (uint32_t digits = 1; digits <= 4; digits++) {
        for (uint32_t form = 0; form < 2; form++) {
            const uint32_t size = iso_decimal_size(digits, (iso_digits_form)form);
            for (uint32_t value = 0; value < 10000 && value < (digits == 4   ? 10000u
                                                               : digits == 3 ? 1000u
                                                               : digits == 2 ? 100u
                                                                             : 10u);
                 value += 7) {
                uint8_t *const out = guard_copy(NULL, size);
                iso_decimal_write(out, digits, (iso_digits_form)form, value);
                CHECK(iso_decimal_read(out, digits, (iso_digits_form)form) == (int32_t)value);
            }
        }
    }
    CHECK(iso_decimal_read((const uint8_t *)"\x1A", 2, ISO_FORM_BCD) == -1);
    CHECK(iso_decimal_read((const uint8_t *)"1:", 2, ISO_FORM_ASCII) == -1);
    CHECK(iso_decimal_read((const uint8_t *)"\x01\x45", 3, ISO_FORM_BCD) == 145);
}

int main(void)
{
    RUN(test_field_22_packs_left_and_field_23_right);
    RUN(test_unpacking_undoes_packing_at_every_length);
    RUN(test_equals_and_d_are_the_same_nibble);
    RUN(test_the_first_bad_nibble_is_found_and_the_pad_is_not_looked_at);
    RUN(test_decimals_go_both_ways);
    return 0;
}
