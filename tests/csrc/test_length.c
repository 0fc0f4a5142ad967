#include "check.h"

static const iso_field LL_DIGITS = {
    ISO_PACK_BCD_LEFT, ISO_CONTENT_N, ISO_UNIT_DIGITS, 2, ISO_FORM_BCD, 0, 2, 19};
static const iso_field LLL_ASCII = {
    ISO_PACK_BYTES, ISO_CONTENT_B, ISO_UNIT_BYTES, 3, ISO_FORM_ASCII, 0, 0, 999};
static const iso_field LLL_BCD = {
    ISO_PACK_BYTES, ISO_CONTENT_B, ISO_UNIT_BYTES, 3, ISO_FORM_BCD, 0, 0, 999};

static iso_status read_prefix(const iso_field *field, const char *data, uint32_t size,
                              uint32_t *length)
{
    uint32_t prefix_size = 0;
    return iso_length_read(field, guard_copy((const uint8_t *)data, size), size, 0, length,
                           &prefix_size);
}

static void test_the_same_prefix_counts_digits_or_bytes(void)
{
    CHECK(iso_value_size(&LL_DIGITS, 19) == 10);
    CHECK(iso_value_size(&LLL_BCD, 19) == 19);
    const iso_field digits_in_bytes = {
        ISO_PACK_BCD_LEFT, ISO_CONTENT_N, ISO_UNIT_BYTES, 2, ISO_FORM_BCD, 0, 0, 6};
    CHECK(iso_value_size(&digits_in_bytes, 4) == 4);
    CHECK(iso_unpacked_length(&digits_in_bytes, 4) == 8);
    CHECK(iso_unpacked_length(&LL_DIGITS, 19) == 19);
}

static void test_the_limits_are_inclusive(void)
{
    uint32_t length = 0;
    CHECK(read_prefix(&LL_DIGITS, "\x19", 1, &length) == ISO_OK && length == 19);
    CHECK(read_prefix(&LL_DIGITS, "\x20", 1, &length) == ISO_E_LENGTH && length == 20);
    CHECK(read_prefix(&LL_DIGITS, "\x02", 1, &length) == ISO_OK && length == 2);
    CHECK(read_prefix(&LL_DIGITS, "\x01", 1, &length) == ISO_E_LENGTH && length == 1);
}

static void test_three_bcd_digits_take_two_bytes(void)
{
    uint32_t length = 0;
    CHECK(read_prefix(&LLL_BCD, "\x01\x45", 2, &length) == ISO_OK && length == 145);
    CHECK(read_prefix(&LLL_BCD, "\x10\x00", 2, &length) == ISO_E_LENGTH && length == 1000);
    CHECK(read_prefix(&LLL_BCD, "\x01", 1, &length) == ISO_E_TRUNCATED);
    CHECK(read_prefix(&LLL_BCD, "", 0, &length) == ISO_E_TRUNCATED);
}

static void test_other_than_digits_is_a_bad_prefix(void)
{
    uint32_t length = 0;
    CHECK(read_prefix(&LL_DIGITS, "\x1A", 1, &length) == ISO_E_PREFIX);
    CHECK(read_prefix(&LLL_ASCII, "1 2", 3, &length) == ISO_E_PREFIX);
    CHECK(read_prefix(&LLL_ASCII, "102", 3, &length) == ISO_OK && length == 102);
    CHECK(read_prefix(&LLL_ASCII, "10", 2, &length) == ISO_E_TRUNCATED);
}

int main(void)
{
    RUN(test_the_same_prefix_counts_digits_or_bytes);
    RUN(test_the_limits_are_inclusive);
    RUN(test_three_bcd_digits_take_two_bytes);
    RUN(test_other_than_digits_is_a_bad_prefix);
    return 0;
}
