#include "check.h"

static bool allowed_as(iso_content content, const uint8_t *translate, const uint8_t *data,
                       uint32_t size)
{
    uint32_t index = 77;
    const iso_status status =
        iso_content_check(content, translate, guard_copy(data, size), size, &index);
    if (status == ISO_OK) {
        CHECK(index == 77);
        return true;
    }
    const bool text =
        content == ISO_CONTENT_GBK || content == ISO_CONTENT_GB18030 || content == ISO_CONTENT_UTF8;
    CHECK(status == (text ? ISO_E_TEXT : ISO_E_CONTENT));
    CHECK(index < size);
    return false;
}

static bool in_class(iso_content content, uint8_t c, bool translated)
{
    const bool digit = c >= '0' && c <= '9';
    const bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    const bool printable = c >= 0x20 && c <= 0x7E;
    switch (content) {
    case ISO_CONTENT_B:
        return true;
    case ISO_CONTENT_N:
        return digit;
    case ISO_CONTENT_A:
        return letter || c == ' ';
    case ISO_CONTENT_AN:
        return digit || letter || c == ' ';
    case ISO_CONTENT_ANS:
        return printable || (translated && c >= 0xA0);
    case ISO_CONTENT_Z:
    case ISO_CONTENT_TRACK2:
        return (c >= 0x30 && c <= 0x3F) || (c >= 'A' && c <= 'F');
    case ISO_CONTENT_XN:
        return c == 'C' || c == 'D';
    case ISO_CONTENT_LATIN1:
        return printable || c >= 0xA0;
    default:
        return printable; /* alone, in GBK, GB18030 and UTF-8 */
    }
}

static void test_every_byte_is_in_exactly_the_classes_of_the_standard(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        const uint8_t c = (uint8_t)byte;
        for (uint32_t content = ISO_CONTENT_B; content < ISO_CONTENT_TLV; content++) {
            CHECK(allowed_as((iso_content)content, NULL, &c, 1) ==
                  in_class((iso_content)content, c, false));
        }
        for (uint32_t page = ISO_CHARSET_CP037; page <= ISO_CHARSET_CP1047; page++) {
            const uint8_t *const translate = iso_charset_decoder((iso_charset)page);
            for (uint32_t content = ISO_CONTENT_N; content <= ISO_CONTENT_XN; content++) {
                CHECK(allowed_as((iso_content)content, translate, &c, 1) ==
                      in_class((iso_content)content, translate[c], true));
            }
        }
    }
}

/* With a wrong byte at each place, and with two: the first is named. */
static void test_the_first_wrong_byte_is_named(void)
{
    static const struct {
        iso_content content;
        uint8_t good;
        uint8_t bad;
    } CASES[] = {
        {ISO_CONTENT_N, '5', ':'},        {ISO_CONTENT_A, 'x', '@'},
        {ISO_CONTENT_AN, 'Z', '['},       {ISO_CONTENT_ANS, '~', 0x7F},
        {ISO_CONTENT_Z, '=', 'G'},        {ISO_CONTENT_TRACK2, '=', '/'},
        {ISO_CONTENT_LATIN1, 0xFF, 0x9F}, {ISO_CONTENT_GBK, ' ', 0x80},
        {ISO_CONTENT_GB18030, ' ', 0xFF}, {ISO_CONTENT_UTF8, ' ', 0xF5},
    };
    for (uint32_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        for (uint32_t size = 1; size < 20; size++) {
            for (uint32_t bad = 0; bad < size; bad++) {
                uint8_t data[20];
                memset(data, CASES[i].good, sizeof data);
                data[size - 1] = CASES[i].bad;
                data[bad] = CASES[i].bad;
                uint32_t index = 77;
                CHECK(iso_content_check(CASES[i].content, NULL, guard_copy(data, size), size,
                                        &index) != ISO_OK);
                CHECK(index == bad);
            }
        }
    }
    const uint8_t *const cp500 = iso_charset_decoder(ISO_CHARSET_CP500);
    uint32_t index = 77;
    CHECK(iso_content_check(ISO_CONTENT_N, cp500,
                            guard_copy((const uint8_t *)"\xF1\xF2\x31\x32", 4), 4,
                            &index) == ISO_E_CONTENT);
    CHECK(index == 2);
}

static void test_words_are_letters_digits_and_spaces(void)
{
    for (uint32_t size = 0; size < 20; size++) {
        for (uint32_t place = 0; place < size; place++) {
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint8_t data[20];
                memset(data, byte % 2 ? 'x' : '5', sizeof data);
                data[place] = (uint8_t)byte;
                CHECK(iso_words_are_clean(guard_copy(data, size), size) ==
                      in_class(ISO_CONTENT_AN, (uint8_t)byte, false));
            }
        }
    }
    CHECK(iso_words_are_clean(guard_copy(NULL, 0), 0));
}

static void test_nothing_is_always_allowed(void)
{
    for (uint32_t content = ISO_CONTENT_B; content < ISO_CONTENT_TLV; content++) {
        CHECK(allowed_as((iso_content)content, NULL, NULL, 0));
    }
}

static void test_a_signed_amount_is_a_letter_and_digits(void)
{
    uint32_t index = 77;
    CHECK(allowed_as(ISO_CONTENT_XN, NULL, (const uint8_t *)"C00000012", 9));
    CHECK(allowed_as(ISO_CONTENT_XN, NULL, (const uint8_t *)"D", 1));
    CHECK(!allowed_as(ISO_CONTENT_XN, NULL, (const uint8_t *)"c0000", 5));
    CHECK(iso_content_check(ISO_CONTENT_XN, NULL, (const uint8_t *)"D0000C012", 9, &index) ==
          ISO_E_CONTENT);
    CHECK(index == 5);
    CHECK(iso_content_check(ISO_CONTENT_XN, NULL, (const uint8_t *)"00000", 5, &index) ==
          ISO_E_CONTENT);
    CHECK(index == 0);
    const uint8_t *const cp037 = iso_charset_decoder(ISO_CHARSET_CP037);
    CHECK(allowed_as(ISO_CONTENT_XN, cp037, (const uint8_t *)"\xC4\xF0\xF9", 3));
    CHECK(!allowed_as(ISO_CONTENT_XN, cp037, (const uint8_t *)"D\xF0\xF9", 3));
}

/* ---- texts of several bytes a character ----------------------------------------------------- */

static bool is_pair(uint32_t lead, uint32_t trail)
{
    return lead >= 0x81 && lead <= 0xFE && trail >= 0x40 && trail <= 0xFE && trail != 0x7F;
}

static void test_all_65536_pairs_are_gbk_or_not(void)
{
    for (uint32_t first = 0; first < 256; first++) {
        for (uint32_t second = 0; second < 256; second++) {
            const uint8_t pair[2] = {(uint8_t)first, (uint8_t)second};
            const bool good =
                is_pair(first, second) || (in_class(ISO_CONTENT_ANS, pair[0], false) &&
                                           in_class(ISO_CONTENT_ANS, pair[1], false));
            CHECK(allowed_as(ISO_CONTENT_GBK, NULL, pair, 2) == good);
            CHECK(allowed_as(ISO_CONTENT_GB18030, NULL, pair, 2) == good);
        }
    }
}

static void test_half_a_pair_at_the_end_is_named(void)
{
    uint32_t index = 77;
    CHECK(iso_content_check(ISO_CONTENT_GBK, NULL, guard_copy((const uint8_t *)"A\xD6\xD0\xD6", 4),
                            4, &index) == ISO_E_TEXT);
    CHECK(index == 3);
    CHECK(iso_content_check(ISO_CONTENT_GBK, NULL,
                            guard_copy((const uint8_t *)"\xD6\xD0\x81\x30", 4), 4,
                            &index) == ISO_E_TEXT);
    CHECK(index == 2);
}

/* Source: GB 18030-2005: the four-byte forms of the BMP end at 84 31 A4 39 (U+FFFF), those of the
 * other planes go from 90 30 81 30 (U+10000) to E3 32 9A 35 (U+10FFFF). */
static void test_four_bytes_are_gb18030_where_a_code_point_is(void)
{
    static const struct {
        const char *bytes;
        bool good;
    } CASES[] = {
        {"\x81\x30\x81\x30", true},  {"\x84\x31\xA4\x39", true},  {"\x84\x31\xA5\x30", false},
        {"\x84\x32\x81\x30", false}, {"\x85\x30\x81\x30", false}, {"\x8F\x39\xFE\x39", false},
        {"\x90\x30\x81\x30", true},  {"\xE3\x32\x9A\x35", true},  {"\xE3\x32\x9A\x36", false},
        {"\xE3\x32\x9B\x30", false}, {"\xE3\x33\x81\x30", false}, {"\xFE\x39\xFE\x39", false},
        {"\x90\x30\x80\x30", false}, {"\x90\x30\xFF\x30", false}, {"\x90\x30\x81\x2F", false},
        {"\x90\x30\x81\x3A", false}, {"\x90\x2F\x81\x30", false}, {"\x90\x3A\x81\x30", false},
        {"\x80\x30\x81\x30", false}, {"\xFF\x30\x81\x30", false}, {"\x95\x37\xA3\x33", true},
    };
    for (uint32_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const uint8_t *const bytes = (const uint8_t *)CASES[i].bytes;
        CHECK(allowed_as(ISO_CONTENT_GB18030, NULL, bytes, 4) == CASES[i].good);
        CHECK(!allowed_as(ISO_CONTENT_GBK, NULL, bytes, 4));
        for (uint32_t size = 1; size < 4; size++) {
            CHECK(!allowed_as(ISO_CONTENT_GB18030, NULL, bytes, size));
        }
    }
    uint32_t index = 77;
    CHECK(iso_content_check(
              ISO_CONTENT_GB18030, NULL,
              guard_copy((const uint8_t *)"\xD6\xD0\x90\x30\x81\x30 \xE3\x33\x81\x30", 11), 11,
              &index) == ISO_E_TEXT);
    CHECK(index == 7);
}

/* The code point that well-formed UTF-8 stands for, or -1: by its definition, shortest form only.
 */
static int32_t naive_utf8(const uint8_t *data, uint32_t size)
{
    const uint32_t expected = data[0] < 0x80       ? 1
                              : data[0] >> 5 == 6  ? 2
                              : data[0] >> 4 == 14 ? 3
                              : data[0] >> 3 == 30 ? 4
                                                   : 0;
    if (expected != size) {
        return -1;
    }
    int32_t point = size == 1 ? data[0] : data[0] & (0x7F >> size);
    for (uint32_t i = 1; i < size; i++) {
        if (data[i] >> 6 != 2) {
            return -1;
        }
        point = point << 6 | (data[i] & 0x3F);
    }
    static const int32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    return point < LEAST[size] || surrogate || point > 0x10FFFF ? -1 : point;
}

/* Characters, but neither C0, DEL nor C1. */
static bool is_utf8_text(const uint8_t *data, uint32_t size)
{
    const int32_t point = naive_utf8(data, size);
    return point >= 0x20 && !(point >= 0x7F && point <= 0x9F);
}

static void test_every_sequence_of_two_bytes_and_every_boundary_of_utf8(void)
{
    for (uint32_t first = 0; first < 256; first++) {
        for (uint32_t second = 0; second < 256; second++) {
            uint8_t bytes[4] = {(uint8_t)first, (uint8_t)second, 0, 0};
            const bool good =
                is_utf8_text(bytes, 2) || (is_utf8_text(bytes, 1) && is_utf8_text(bytes + 1, 1));
            CHECK(allowed_as(ISO_CONTENT_UTF8, NULL, bytes, 2) == good);
            if (first < 0xC0) {
                continue;
            }
            static const uint8_t EDGES[] = {0x00, 0x41, 0x7F, 0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
            for (uint32_t i = 0; i < sizeof EDGES; i++) {
                bytes[2] = EDGES[i];
                const bool two = is_utf8_text(bytes, 2) && is_utf8_text(bytes + 2, 1);
                CHECK(allowed_as(ISO_CONTENT_UTF8, NULL, bytes, 3) ==
                      (is_utf8_text(bytes, 3) || two));
                for (uint32_t k = 0; k < sizeof EDGES; k++) {
                    bytes[3] = EDGES[k];
                    const bool others =
                        (is_utf8_text(bytes, 3) && is_utf8_text(bytes + 3, 1)) ||
                        (is_utf8_text(bytes, 2) &&
                         (is_utf8_text(bytes + 2, 2) ||
                          (is_utf8_text(bytes + 2, 1) && is_utf8_text(bytes + 3, 1))));
                    CHECK(allowed_as(ISO_CONTENT_UTF8, NULL, bytes, 4) ==
                          (is_utf8_text(bytes, 4) || others));
                }
            }
        }
    }
}

static void test_a_cut_character_of_utf8_is_named(void)
{
    static const char *const CHARACTERS[] = {"\xC2\xA0", "\xE4\xB8\xAD", "\xF0\xA0\x80\x80"};
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t size = 1; size < strlen(CHARACTERS[i]); size++) {
            uint8_t data[8] = {'x', 'y'};
            memcpy(data + 2, CHARACTERS[i], size);
            uint32_t index = 77;
            CHECK(iso_content_check(ISO_CONTENT_UTF8, NULL, guard_copy(data, size + 2), size + 2,
                                    &index) == ISO_E_TEXT);
            CHECK(index == 2);
        }
    }
}

/* ---- track 2 -------------------------------------------------------------------------------- */

static uint32_t find_bad(const char *track)
{
    const uint32_t size = (uint32_t)strlen(track);
    return iso_track2_find_bad(NULL, guard_copy((const uint8_t *)track, size), size);
}

static void test_track_2_is_digits_one_separator_and_digits(void)
{
    CHECK(find_bad("6222000000000017=3012201") == ISO_NO_POSITION);
    CHECK(find_bad("6222000000000017D3012201") == ISO_NO_POSITION);
    CHECK(find_bad("6222000000000000019=") == ISO_NO_POSITION); /* 19 digits are the most */
    CHECK(find_bad("1=") == ISO_NO_POSITION);
    CHECK(find_bad("62220000000000000199=") == 20);
    CHECK(find_bad("=3012") == 0);
    CHECK(find_bad("D3012") == 0);
    CHECK(find_bad("62=30=1") == 5);
    CHECK(find_bad("62=30D1") == 5);
    CHECK(find_bad("62A=30") == 2);
    CHECK(find_bad("62:30") == 2);
    CHECK(find_bad("62=3?") == 4);
    CHECK(find_bad("6222") == 4); /* the separator is missing: behind the last */
    CHECK(find_bad("") == 0);
    const uint8_t *const cp037 = iso_charset_decoder(ISO_CHARSET_CP037);
    CHECK(iso_track2_find_bad(cp037, (const uint8_t *)"\xF1\x7E\xF9", 3) == ISO_NO_POSITION);
    CHECK(iso_track2_find_bad(cp037, (const uint8_t *)"\xF1=\xF9", 3) == 1);
}

int main(void)
{
    RUN(test_every_byte_is_in_exactly_the_classes_of_the_standard);
    RUN(test_the_first_wrong_byte_is_named);
    RUN(test_words_are_letters_digits_and_spaces);
    RUN(test_nothing_is_always_allowed);
    RUN(test_a_signed_amount_is_a_letter_and_digits);
    RUN(test_all_65536_pairs_are_gbk_or_not);
    RUN(test_half_a_pair_at_the_end_is_named);
    RUN(test_four_bytes_are_gb18030_where_a_code_point_is);
    RUN(test_every_sequence_of_two_bytes_and_every_boundary_of_utf8);
    RUN(test_a_cut_character_of_utf8_is_named);
    RUN(test_track_2_is_digits_one_separator_and_digits);
    return 0;
}
