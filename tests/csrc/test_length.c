#include "table.h"

static const iso_field LL_DIGITS = {PACKED(BCD_LEFT, DIGITS), PREFIX(BCD, 2, 2, 19)};
static const iso_field LLL_BCD = {PLAIN(B), PREFIX(BCD, 3, 0, 999)};
static const iso_field LLL_NIBBLES = {PLAIN(B), .unit = ISO_UNIT_NIBBLES, PREFIX(ASCII, 3, 0, 99)};
static const iso_field LL_HEX_BYTES = {HEX(BYTES), PREFIX(ASCII, 2, 0, 50)};
static const iso_field LL_HEX_DIGITS = {HEX(DIGITS), PREFIX(ASCII, 2, 0, 50)};

static iso_status read_prefix(const iso_field *field, const char *data, uint32_t size,
                              uint32_t *length)
{
    uint32_t prefix_size = 0;
    const iso_status status = iso_length_read(field, guard_copy((const uint8_t *)data, size), size,
                                              0, length, &prefix_size);
    if (status == ISO_OK) {
        CHECK(prefix_size ==
              iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form));
    }
    return status;
}

/* Every kind of field, every length, against the sizes that table.h works out by itself. */
static void test_the_size_of_every_length_of_every_kind_of_field(void)
{
    for (uint32_t i = 0; i < TABLE_COUNT; i++) {
        const iso_field *const field = &TABLE[i].field;
        const bool in_halves =
            (field->packing == ISO_PACK_BYTES && field->unit == ISO_UNIT_NIBBLES) ||
            (field->packing == ISO_PACK_HEX && field->unit == ISO_UNIT_DIGITS);
        for (uint32_t length = field->length_min; length <= field->length_max; length++) {
            CHECK(iso_value_size(field, length) ==
                  (in_halves && length % 2 == 1 ? ISO_NO_POSITION : bytes_of(field, length)));
        }
    }
}

static void test_the_same_prefix_counts_digits_bytes_or_nibbles(void)
{
    const iso_field digits_in_bytes = {PACKED(BCD_LEFT, BYTES), PREFIX(BCD, 2, 0, 6)};
    const iso_field amount = {SIGNED(LEFT), FIXED(9)};
    CHECK(iso_value_size(&LL_DIGITS, 19) == 10);
    CHECK(iso_value_size(&LLL_BCD, 19) == 19);
    CHECK(iso_value_size(&digits_in_bytes, 4) == 4);
    CHECK(iso_value_size(&LLL_NIBBLES, 16) == 8);
    CHECK(iso_value_size(&LLL_NIBBLES, 15) == ISO_NO_POSITION);
    CHECK(iso_value_size(&LL_HEX_BYTES, 15) == 30);
    CHECK(iso_value_size(&LL_HEX_DIGITS, 30) == 30);
    CHECK(iso_value_size(&LL_HEX_DIGITS, 31) == ISO_NO_POSITION);
    CHECK(iso_value_size(&amount, 9) == 5); /* the sign, then eight digits */
    CHECK(iso_value_size(&amount, 8) == 5);
    CHECK(iso_value_size(&amount, 1) == 1);
}

static void test_the_limits_are_inclusive(void)
{
    uint32_t length = 0;
    CHECK(read_prefix(&LL_DIGITS, "\x19", 1, &length) == ISO_OK && length == 19);
    CHECK(read_prefix(&LL_DIGITS, "\x20", 1, &length) == ISO_E_LENGTH && length == 20);
    CHECK(read_prefix(&LL_DIGITS, "\x02", 1, &length) == ISO_OK && length == 2);
    CHECK(read_prefix(&LL_DIGITS, "\x01", 1, &length) == ISO_E_LENGTH && length == 1);
}

/* A length that ends inside a byte is a wrong length, not a wrong prefix. */
static void test_half_a_byte_is_a_wrong_length(void)
{
    uint32_t length = 0;
    CHECK(read_prefix(&LLL_NIBBLES, "016", 3, &length) == ISO_OK && length == 16);
    CHECK(read_prefix(&LLL_NIBBLES, "017", 3, &length) == ISO_E_LENGTH && length == 17);
    CHECK(read_prefix(&LL_HEX_DIGITS, "49", 2, &length) == ISO_E_LENGTH && length == 49);
    CHECK(read_prefix(&LL_HEX_BYTES, "49", 2, &length) == ISO_OK && length == 49);
}

static void test_three_bcd_digits_take_two_bytes(void)
{
    uint32_t length = 0;
    CHECK(read_prefix(&LLL_BCD, "\x01\x45", 2, &length) == ISO_OK && length == 145);
    CHECK(read_prefix(&LLL_BCD, "\x10\x00", 2, &length) == ISO_E_PREFIX);
    CHECK(read_prefix(&LLL_BCD, "\x01", 1, &length) == ISO_E_TRUNCATED);
    CHECK(read_prefix(&LLL_BCD, "", 0, &length) == ISO_E_TRUNCATED);
}

static void test_other_than_digits_is_a_bad_prefix(void)
{
    uint32_t length = 77;
    CHECK(read_prefix(&LL_DIGITS, "\x1A", 1, &length) == ISO_E_PREFIX && length == 77);
    CHECK(read_prefix(&LLL_NIBBLES, "1 2", 3, &length) == ISO_E_PREFIX && length == 77);
}

/* All 65536 prefixes of two bytes in every form: the number and its place, or an error. */
static void test_every_prefix_of_two_bytes_in_every_form(void)
{
    for (uint32_t form = 0; form <= ISO_FORM_HEX; form++) {
        const iso_field field = {PLAIN(B), .prefix_digits = form == ISO_FORM_BCD ? 4 : 2,
                                 .prefix_form = (uint8_t)form, .length_min = 3, .length_max = 77};
        for (uint32_t prefix = 0; prefix < 65536; prefix++) {
            const uint8_t data[2] = {(uint8_t)(prefix >> 8), (uint8_t)prefix};
            const int32_t number =
                iso_number_read(data, field.prefix_digits, (iso_digits_form)form);
            uint32_t length = 999;
            uint32_t prefix_size = 999;
            const iso_status status = iso_length_read(&field, data, 2, 0, &length, &prefix_size);
            if (number < 0) {
                CHECK(status == ISO_E_PREFIX && length == 999);
            } else {
                CHECK(status == (number < 3 || number > 77 ? ISO_E_LENGTH : ISO_OK));
                CHECK(length == (uint32_t)number && prefix_size == 2);
            }
        }
    }
}

static void test_every_cut_of_a_prefix_is_truncated(void)
{
    for (uint32_t i = 0; i < TABLE_COUNT; i++) {
        const iso_field *const field = &TABLE[i].field;
        uint32_t length = 0;
        uint32_t prefix_size = 77;
        if (field->prefix_digits == 0) {
            CHECK(iso_length_read(field, guard_copy(NULL, 0), 0, 0, &length, &prefix_size) ==
                  ISO_OK);
            CHECK(length == field->length_max && prefix_size == 0);
            continue;
        }
        const uint32_t size =
            iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form);
        uint8_t data[8] = {0};
        iso_number_write(data + 2, field->prefix_digits, (iso_digits_form)field->prefix_form,
                         field->length_max);
        for (uint32_t at_hand = 0; at_hand < size; at_hand++) {
            CHECK(iso_length_read(field, guard_copy(data, 2 + at_hand), 2 + at_hand, 2, &length,
                                  &prefix_size) == ISO_E_TRUNCATED);
        }
        CHECK(iso_length_read(field, guard_copy(data, 2 + size), 2 + size, 2, &length,
                              &prefix_size) == ISO_OK);
        CHECK(length == field->length_max && prefix_size == size);
    }
}

int main(void)
{
    RUN(test_the_size_of_every_length_of_every_kind_of_field);
    RUN(test_the_same_prefix_counts_digits_bytes_or_nibbles);
    RUN(test_the_limits_are_inclusive);
    RUN(test_half_a_byte_is_a_wrong_length);
    RUN(test_three_bcd_digits_take_two_bytes);
    RUN(test_other_than_digits_is_a_bad_prefix);
    RUN(test_every_prefix_of_two_bytes_in_every_form);
    RUN(test_every_cut_of_a_prefix_is_truncated);
    return 0;
}
