#include "check.h"

/* The tables again, told another way: the characters that the pages share, in order of their code,
 * then what differs. tests/csrc/test_core.py compares all 256 codes with Python's own tables. */
static void expect_run(const uint8_t *decode, uint32_t first, const char *characters)
{
    for (uint32_t i = 0; characters[i] != 0; i++) {
        CHECK(decode[first + i] == (uint8_t)characters[i]);
    }
}

static void test_what_the_pages_share(void)
{
    for (uint32_t page = ISO_CHARSET_CP037; page <= ISO_CHARSET_CP1047; page++) {
        const uint8_t *const decode = iso_charset_decoder((iso_charset)page);
        expect_run(decode, 0xF0, "0123456789");
        expect_run(decode, 0xC1, "ABCDEFGHI");
        expect_run(decode, 0xD1, "JKLMNOPQR");
        expect_run(decode, 0xE2, "STUVWXYZ");
        expect_run(decode, 0x81, "abcdefghi");
        expect_run(decode, 0x91, "jklmnopqr");
        expect_run(decode, 0xA2, "stuvwxyz");
        expect_run(decode, 0x40, " ");
        expect_run(decode, 0x4B, ".<(+");
        expect_run(decode, 0x50, "&");
        expect_run(decode, 0x5B, "$*);");
        expect_run(decode, 0x60, "-/");
        expect_run(decode, 0x6B, ",%_>?");
        expect_run(decode, 0x79, "`:#@'=\"");
        CHECK(decode[0xA1] == '~' && decode[0xC0] == '{' && decode[0xD0] == '}' &&
              decode[0xE0] == '\\');
        CHECK(decode[0x15] == 0x85 && decode[0x25] == 0x0A && decode[0x0D] == 0x0D);
    }
}

static void test_where_the_pages_differ(void)
{
    static const uint8_t CODES[] = {0x4A, 0x4F, 0x5A, 0x5F, 0xAD, 0xB0, 0xBA, 0xBB, 0xBD};
    static const char *const CHARACTERS[] = {
        "\xA2|!\xAC\xDD^[]\xA8", /* cp037 */
        "[!]^\xDD\xA2\xAC|\xA8", /* cp500 */
        "\xA2|!^[\xAC\xDD\xA8]", /* cp1047 */
    };
    for (uint32_t page = 0; page < 3; page++) {
        const uint8_t *const decode = iso_charset_decoder((iso_charset)(page + 1));
        for (uint32_t i = 0; i < sizeof CODES; i++) {
            CHECK(decode[CODES[i]] == (uint8_t)CHARACTERS[page][i]);
        }
        for (uint32_t code = 0; code < 256; code++) {
            const bool differs = memchr(CODES, (int)code, sizeof CODES) != NULL;
            CHECK(differs || decode[code] == iso_charset_decoder(ISO_CHARSET_CP037)[code]);
        }
    }
}

static void test_encoding_undoes_decoding_for_all_256_bytes(void)
{
    for (uint32_t page = ISO_CHARSET_CP037; page <= ISO_CHARSET_CP1047; page++) {
        const uint8_t *const decode = iso_charset_decoder((iso_charset)page);
        const uint8_t *const encode = iso_charset_encoder((iso_charset)page);
        for (uint32_t byte = 0; byte < 256; byte++) {
            CHECK(encode[decode[byte]] == byte);
            CHECK(decode[encode[byte]] == byte);
        }
    }
}

int main(void)
{
    RUN(test_what_the_pages_share);
    RUN(test_where_the_pages_differ);
    RUN(test_encoding_undoes_decoding_for_all_256_bytes);
    return 0;
}
