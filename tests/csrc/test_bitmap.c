#include "table.h"

enum { FORM_COUNT = 3 };

static const uint8_t *at_guard(const char *text, uint32_t size)
{
    return guard_copy((const uint8_t *)text, size);
}

static void test_the_forms_say_the_same(void)
{
    static const struct {
        iso_bitmap_form form;
        uint32_t size;
        const char *wire;
    } CASES[] = {
        {ISO_BITMAP_BINARY, 8, "\x70\x24\x06\x80\x20\xC0\x82\x1F"},
        {ISO_BITMAP_HEX, 16, "7024068020C0821F"},
        {ISO_BITMAP_HEX_EBCDIC, 16,
         "\xF7\xF0\xF2\xF4\xF0\xF6\xF8\xF0\xF2\xF0\xC3\xF0\xF8\xF2\xF1\xC6"},
    };
    for (uint32_t i = 0; i < FORM_COUNT; i++) {
        const uint64_t bits = UINT64_C(0x7024068020C0821F);
        uint64_t read = 0;
        uint32_t position = 77;
        CHECK(iso_bitmap_size(CASES[i].form) == CASES[i].size);
        uint8_t *const out = guard_copy(NULL, CASES[i].size);
        iso_bitmap_write(CASES[i].form, bits, out);
        CHECK(memcmp(out, CASES[i].wire, CASES[i].size) == 0);
        CHECK(iso_bitmap_read(CASES[i].form, out, CASES[i].size, 0, &read, &position) == ISO_OK);
        CHECK(read == bits && position == 77);
    }
    uint64_t read = 0;
    uint32_t position = 77;
    CHECK(iso_bitmap_read(ISO_BITMAP_HEX, at_guard("7024068020c0821f", 16), 16, 0, &read,
                          &position) == ISO_OK);
    CHECK(read == UINT64_C(0x7024068020C0821F));
    const uint8_t *const lower =
        at_guard("\xF7\xF0\xF2\xF4\xF0\xF6\xF8\xF0\xF2\xF0\x83\xF0\xF8\xF2\xF1\x86", 16);
    CHECK(iso_bitmap_read(ISO_BITMAP_HEX_EBCDIC, lower, 16, 0, &read, &position) == ISO_OK);
    CHECK(read == UINT64_C(0x7024068020C0821F));
}

/* Field 1 is the highest bit of the first byte, field 64 the lowest of the eighth. */
static void test_every_bit_alone_is_the_field_that_the_standard_counts(void)
{
    for (uint32_t field = 1; field <= ISO_FIELD_MAX; field++) {
        const uint32_t bit = (field - 1) % 64;
        uint8_t wire[8] = {0};
        wire[bit / 8] = (uint8_t)(0x80u >> bit % 8);
        uint8_t out[8];
        iso_bitmap_write(ISO_BITMAP_BINARY, iso_bit(field), out);
        CHECK(memcmp(out, wire, sizeof wire) == 0);
        CHECK(iso_word(field) == (field - 1) / 64);
        CHECK(iso_word(field) * 64 + iso_leading_zeros(iso_bit(field)) + 1 == field);
    }
}

static void test_every_byte_at_every_place_is_a_hex_digit_or_named(void)
{
    for (uint32_t form = ISO_BITMAP_HEX; form < FORM_COUNT; form++) {
        uint8_t others[16];
        for (uint32_t place = 0; place < 32; place++) {
            /* Among zeros, and among the highest digit there is. */
            const bool zeros = place < 16;
            const uint8_t zero = form == ISO_BITMAP_HEX ? '0' : 0xF0;
            const uint8_t highest = form == ISO_BITMAP_HEX ? 'f' : 0x86;
            memset(others, zeros ? zero : highest, sizeof others);
            for (uint32_t byte = 0; byte < 256; byte++) {
                static const uint8_t EBCDIC_DIGITS[] = {0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5,
                                                        0xF6, 0xF7, 0xF8, 0xF9, 0xC1, 0xC2,
                                                        0xC3, 0xC4, 0xC5, 0xC6};
                int32_t digit = -1;
                for (uint32_t i = 0; i < 16; i++) {
                    const bool ascii = byte == (uint8_t) "0123456789ABCDEF"[i] ||
                                       byte == (uint8_t) "0123456789abcdef"[i];
                    const bool ebcdic =
                        byte == EBCDIC_DIGITS[i] || (i > 9 && byte == EBCDIC_DIGITS[i] - 0x40u);
                    digit = (form == ISO_BITMAP_HEX ? ascii : ebcdic) ? (int32_t)i : digit;
                }
                uint8_t *const data = guard_copy(others, 16);
                data[place % 16] = (uint8_t)byte;
                uint64_t read = 7;
                uint32_t position = 77;
                const iso_status status =
                    iso_bitmap_read((iso_bitmap_form)form, data, 16, 0, &read, &position);
                if (digit < 0) {
                    CHECK(status == ISO_E_BITMAP && position == place % 16 && read == 7);
                } else {
                    const uint32_t shift = 60 - 4 * (place % 16);
                    const uint64_t rest = zeros ? 0 : ~(UINT64_C(15) << shift);
                    CHECK(status == ISO_OK && read == (rest | (uint64_t)digit << shift));
                }
            }
        }
    }
}

static void test_every_prefix_is_truncated(void)
{
    for (uint32_t form = 0; form < FORM_COUNT; form++) {
        const uint32_t whole = iso_bitmap_size((iso_bitmap_form)form);
        uint8_t wire[16];
        iso_bitmap_write((iso_bitmap_form)form, UINT64_C(0x7024068020C08211), wire);
        for (uint32_t size = 0; size < whole; size++) {
            uint64_t read = 7;
            uint32_t position = 77;
            CHECK(iso_bitmap_read((iso_bitmap_form)form, guard_copy(wire, size), size, 0, &read,
                                  &position) == ISO_E_TRUNCATED);
            CHECK(read == 7);
        }
    }
}

static void test_what_is_written_is_read_back_behind_any_offset(void)
{
    uint32_t state = 3;
    for (uint32_t round = 0; round < 20000; round++) {
        const iso_bitmap_form form = (iso_bitmap_form)(round % FORM_COUNT);
        const uint64_t bits = (uint64_t)dice(&state) << 32 | dice(&state);
        const uint32_t offset = dice(&state) % 9;
        const uint32_t size = offset + iso_bitmap_size(form);
        uint8_t *const data = guard_copy(NULL, size);
        iso_bitmap_write(form, bits, data + offset);
        CHECK(offset == 0 || data[offset - 1] == 0xA5);
        uint64_t read = 0;
        uint32_t position = 0;
        CHECK(iso_bitmap_read(form, data, size, offset, &read, &position) == ISO_OK);
        CHECK(read == bits);
    }
}

static void test_only_bits_that_announce_are_no_fields(void)
{
    const uint64_t all[ISO_BITMAPS_MAX] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    for (uint32_t shape = 0; shape < 3; shape++) {
        const iso_spec spec = make_shape(shape);
        CHECK(iso_field_bits(&spec, all, 0) == (UINT64_MAX & ~iso_bit(1)));
        CHECK(iso_field_bits(&spec, all, 1) ==
              (spec.field_max == 192 ? UINT64_MAX & ~iso_bit(65) : UINT64_MAX));
        CHECK(iso_field_bits(&spec, all, 2) == UINT64_MAX);
    }
}

int main(void)
{
    RUN(test_the_forms_say_the_same);
    RUN(test_every_bit_alone_is_the_field_that_the_standard_counts);
    RUN(test_every_byte_at_every_place_is_a_hex_digit_or_named);
    RUN(test_every_prefix_is_truncated);
    RUN(test_what_is_written_is_read_back_behind_any_offset);
    RUN(test_only_bits_that_announce_are_no_fields);
    return 0;
}
