#include "check.h"

static bool allowed(iso_content content, uint8_t byte)
{
    uint32_t index = 9;
    const iso_status status = iso_content_check(content, guard_copy(&byte, 1), 1, &index);
    CHECK(status == ISO_OK || index == 0);
    return status == ISO_OK;
}

static void test_every_byte_is_in_exactly_the_classes_of_the_standard(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        const uint8_t c = (uint8_t)byte;
        const bool digit = c >= '0' && c <= '9';
        const bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        CHECK(allowed(ISO_CONTENT_B, c));
        CHECK(allowed(ISO_CONTENT_N, c) == digit);
        CHECK(allowed(ISO_CONTENT_A, c) == (letter || c == ' '));
        CHECK(allowed(ISO_CONTENT_AN, c) == (digit || letter || c == ' '));
        CHECK(allowed(ISO_CONTENT_ANS, c) == (c >= 0x20 && c <= 0x7E));
        CHECK(allowed(ISO_CONTENT_Z, c) == ((c >= 0x30 && c <= 0x3F) || (c >= 'A' && c <= 'F')));
        CHECK(allowed(ISO_CONTENT_XN, c) == (c == 'C' || c == 'D'));
        CHECK(allowed(ISO_CONTENT_GBK, c) == (c >= 0x20 && c <= 0x7E));
    }
}

static void test_every_pair_is_gbk_or_not(void)
{
    for (uint32_t lead = 0x80; lead < 256; lead++) {
        for (uint32_t trail = 0; trail < 256; trail++) {
            const uint8_t pair[2] = {(uint8_t)lead, (uint8_t)trail};
            uint32_t index = 9;
            const iso_status status =
                iso_content_check(ISO_CONTENT_GBK, guard_copy(pair, 2), 2, &index);
            const bool good =
                lead >= 0x81 && lead <= 0xFE && trail >= 0x40 && trail <= 0xFE && trail != 0x7F;
            CHECK(status == (good ? ISO_OK : ISO_E_TEXT));
        }
    }
}

static void test_a_signed_amount_is_a_letter_and_digits(void)
{
    uint32_t index = 9;
    CHECK(iso_content_check(ISO_CONTENT_XN, (const uint8_t *)"C00000012", 9, &index) == ISO_OK);
    CHECK(iso_content_check(ISO_CONTENT_XN, (const uint8_t *)"D0000C012", 9, &index) ==
          ISO_E_CONTENT);
    CHECK(index == 5);
    CHECK(iso_content_check(ISO_CONTENT_XN, (const uint8_t *)"", 0, &index) == ISO_OK);
}

static void test_tlv_must_fill_the_field(void)
{
    const uint8_t data[] = {0x9F, 0x36, 0x02, 0x00, 0x2A, 0x82, 0x02, 0x01, 0x02};
    for (uint32_t size = 0; size <= sizeof data; size++) {
        uint32_t index = 9;
        const iso_status status =
            iso_content_check(ISO_CONTENT_TLV, guard_copy(data, size), size, &index);
        const bool whole = size == 0 || size == 5 || size == sizeof data;
        CHECK(status == (whole ? ISO_OK : ISO_E_TLV));
        CHECK(whole || index == (size < 5 ? 0u : 5u));
    }
}

int main(void)
{
    RUN(test_every_byte_is_in_exactly_the_classes_of_the_standard);
    RUN(test_every_pair_is_gbk_or_not);
    RUN(test_a_signed_amount_is_a_letter_and_digits);
    RUN(test_tlv_must_fill_the_field);
    return 0;
}
