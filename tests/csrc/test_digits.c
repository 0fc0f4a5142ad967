#include "check.h"

/* Nothing wrong, the first and last of each class and their neighbours, and what a carry from one
 * byte of a word to the next would come from. */
static const uint8_t NEIGHBOURS[] = {0x00, 0x1F, 0x20, 0x2F, 0x30, 0x39, 0x3A, 0x7E, 0x7F,
                                     0x80, 0x99, 0x9A, 0xA9, 0xB9, 0xBA, 0xCF, 0xFE, 0xFF};

static bool is_clean_pair(uint32_t byte)
{
    return byte >> 4 <= 9 && (byte & 15) <= 9;
}

static bool is_digit(uint32_t byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_printable(uint32_t byte)
{
    return byte >= 0x20 && byte <= 0x7E;
}

static void test_words_are_right_for_every_byte_at_every_place_beside_any_neighbour(void)
{
    for (uint32_t place = 0; place < 8; place++) {
        for (uint32_t n = 0; n < sizeof NEIGHBOURS; n++) {
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint8_t bytes[8];
                memset(bytes, NEIGHBOURS[n], sizeof bytes);
                bytes[place] = (uint8_t)byte;
                const uint32_t other = NEIGHBOURS[n];
                const uint64_t word = iso_load64(bytes);
                CHECK((iso_bad_digits(word) == 0) == (is_digit(byte) && is_digit(other)));
                CHECK((iso_bad_printable(word) == 0) ==
                      (is_printable(byte) && is_printable(other)));
                /* Of nibbles each bad one is marked, and nothing else. */
                uint64_t marks = 0;
                for (uint32_t i = 0; i < 8; i++) {
                    marks |= (uint64_t)((bytes[i] >> 4 > 9 ? 0x80u : 0) |
                                        ((bytes[i] & 15) > 9 ? 0x08u : 0))
                             << 8 * i;
                }
                CHECK(iso_bad_nibbles(word) == marks);
            }
        }
    }
}

static void test_words_are_stored_as_they_are_loaded(void)
{
    const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 0xF8};
    uint8_t out[8];
    CHECK(iso_load64(bytes) == UINT64_C(0xF807060504030201));
    CHECK(iso_load32(bytes) == 0x04030201u);
    iso_store64(out, UINT64_C(0xF807060504030201));
    CHECK(memcmp(out, bytes, 8) == 0);
    iso_store32(out, 0xF8070605u);
    CHECK(memcmp(out, bytes + 4, 4) == 0);
    for (uint32_t size = 1; size < 8; size++) {
        uint8_t expected[8];
        memset(expected, 0x20, sizeof expected);
        memcpy(expected, bytes, size);
        const uint64_t word = iso_load64(expected);
        CHECK(iso_load_part(guard_copy(bytes, size), size, ISO_BYTES(0x20)) == word);
        CHECK(iso_load_part(guard_front(bytes, size), size, ISO_BYTES(0x20)) == word);
        uint8_t *part = guard_copy(NULL, size);
        iso_store_part(part, size, word);
        CHECK(memcmp(part, bytes, size) == 0);
        part = guard_front(NULL, size + 1);
        iso_store_part(part, size, word);
        CHECK(memcmp(part, bytes, size) == 0 && part[size] == 0xA5);
    }
}

/* Every byte at every place of every size, the rest clean, against both ends of the memory. */
static void test_runs_are_clean_or_not(void)
{
    for (uint32_t size = 0; size <= 26; size++) {
        for (uint32_t place = 0; place < size || place == 0; place++) {
            for (uint32_t byte = 0; byte<256; byte += size> 10 ? 3 : 1) {
                for (uint32_t front = 0; front < 2; front++) {
                    uint8_t *const data = front ? guard_front(NULL, size) : guard_copy(NULL, size);
                    const bool any = size > 0;
                    memset(data, 0x99, size);
                    CHECK(iso_bcd_is_clean(data, size));
                    memset(data, '9', size);
                    CHECK(iso_digits_are_clean(data, size));
                    memset(data, '~', size);
                    CHECK(iso_printable_is_clean(data, size));
                    if (!any) {
                        continue;
                    }
                    data[place] = (uint8_t)byte;
                    CHECK(iso_printable_is_clean(data, size) == is_printable(byte));
                    memset(data, '0', size);
                    data[place] = (uint8_t)byte;
                    CHECK(iso_digits_are_clean(data, size) == is_digit(byte));
                    memset(data, 0x00, size);
                    data[place] = (uint8_t)byte;
                    CHECK(iso_bcd_is_clean(data, size) == is_clean_pair(byte));
                }
            }
        }
    }
}

/* ---- packed digits --------------------------------------------------------------------------- */

/* Nibble i of a packed value, 0 the first that counts. */
static uint32_t naive_nibble(const uint8_t *data, uint32_t count, bool left, uint32_t i)
{
    const uint32_t at = i + (!left && count % 2 == 1 ? 1 : 0);
    return at % 2 == 0 ? data[at / 2] >> 4 : data[at / 2] & 15u;
}

static void naive_pack(const uint8_t *nibbles, uint32_t count, bool left, uint8_t pad, uint8_t *out)
{
    const bool odd = count % 2 == 1;
    for (uint32_t at = 0; at < count + (odd ? 1 : 0); at++) {
        const uint32_t nibble = odd && !left ? (at == 0 ? pad : nibbles[at - 1])
                                : at < count ? nibbles[at]
                                             : pad;
        out[at / 2] = (uint8_t)(at % 2 == 0 ? nibble << 4 : (out[at / 2] & 0xF0u) | nibble);
    }
}

static uint8_t character_of(uint32_t nibble)
{
    return (uint8_t) "0123456789ABC=EF"[nibble];
}

static void test_field_22_packs_left_and_field_23_right(void)
{
    uint8_t out[2];
    CHECK(iso_pack((const uint8_t *)"021", 3, true, false, 0, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x02 && out[1] == 0x10);
    CHECK(iso_pack((const uint8_t *)"021", 3, false, false, 0, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x00 && out[1] == 0x21);
    CHECK(iso_pack((const uint8_t *)"021", 3, true, false, 15, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x02 && out[1] == 0x1F);
    CHECK(iso_pack((const uint8_t *)"021", 3, false, false, 15, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0xF0 && out[1] == 0x21);
}

/* Every length to 40, both paddings, both pads, digits and track data, against nibble by nibble. */
static void test_packing_is_the_naive_one_at_every_length(void)
{
    uint32_t state = 11;
    for (uint32_t length = 0; length <= 40; length++) {
        for (uint32_t round = 0; round < 400; round++) {
            const bool left = round % 2 == 0;
            const bool track = round / 2 % 2 == 0;
            const uint8_t pad = round / 4 % 2 == 0 ? 0 : 15;
            /* Now and then one letter among digits: where the words give way to single bytes. */
            const uint32_t odds = round / 8 % 3 == 0 ? 1 : round / 8 % 3 == 1 ? 20 : 1000;
            uint8_t nibbles[40];
            uint8_t characters[40];
            uint8_t expected[20] = {0};
            for (uint32_t i = 0; i < length; i++) {
                nibbles[i] =
                    (uint8_t)(dice(&state) % (track && dice(&state) % odds == 0 ? 16 : 10));
                characters[i] = character_of(nibbles[i]);
            }
            const uint32_t size = (length + 1) / 2;
            naive_pack(nibbles, length, left, pad, expected);
            uint8_t *const packed =
                round % 3 == 0 ? guard_front(NULL, size) : guard_copy(NULL, size);
            CHECK(iso_pack(characters, length, left, track, pad, packed) == ISO_NO_POSITION);
            CHECK(memcmp(packed, expected, size) == 0);
            for (uint32_t i = 0; i < length; i++) {
                CHECK(naive_nibble(packed, length, left, i) == nibbles[i]);
            }
            uint8_t out[41];
            memset(out, 0x5A, sizeof out);
            iso_unpack(packed, length, left, track, out);
            CHECK(memcmp(out, characters, length) == 0 && out[length] == 0x5A);
            if (!track) {
                CHECK(iso_bcd_find_bad(packed, length, left) == ISO_NO_POSITION);
            }
        }
    }
}

/* The characters end at an unreadable page, and so does what they are unpacked to. */
static void test_neither_side_is_read_or_written_past_its_end(void)
{
    const uint8_t digits[41] = "0123456789012345678901234567890123456789";
    for (uint32_t length = 0; length <= 40; length++) {
        for (uint32_t left = 0; left < 2; left++) {
            const uint32_t size = (length + 1) / 2;
            uint8_t packed[20];
            const uint8_t *characters = guard_copy(digits, length);
            CHECK(iso_pack(characters, length, left == 1, false, 0, packed) == ISO_NO_POSITION);
            characters = guard_front(digits, length);
            CHECK(iso_pack(characters, length, left == 1, true, 0, packed) == ISO_NO_POSITION);
            uint8_t *out = guard_copy(NULL, length);
            iso_unpack(guard_front(packed, size), length, left == 1, false, out);
            CHECK(memcmp(out, digits, length) == 0);
            out = guard_front(NULL, length);
            iso_unpack(guard_copy(packed, size), length, left == 1, true, out);
            CHECK(memcmp(out, digits, length) == 0);
        }
    }
}

/* All 65536 pairs of bytes: alone, and as the middle of a word. */
static void test_every_pair_of_bytes_unpacks_nibble_by_nibble(void)
{
    for (uint32_t pair = 0; pair < 65536; pair++) {
        uint8_t data[8] = {0x12, 0x34, 0x56, (uint8_t)(pair >> 8), (uint8_t)pair, 0x78, 0x90, 0x12};
        const uint8_t four[4] = {character_of(pair >> 12), character_of(pair >> 8 & 15),
                                 character_of(pair >> 4 & 15), character_of(pair & 15)};
        uint8_t out[16];
        iso_unpack(data, 16, true, true, out);
        CHECK(memcmp(out, "123456", 6) == 0 && memcmp(out + 6, four, 4) == 0 &&
              memcmp(out + 10, "789012", 6) == 0);
        iso_unpack(data + 3, 4, false, true, out);
        CHECK(memcmp(out, four, 4) == 0);
        iso_unpack(data + 3, 3, true, true, out);
        CHECK(memcmp(out, four, 3) == 0);
        iso_unpack(data + 3, 3, false, true, out);
        CHECK(memcmp(out, four + 1, 3) == 0);
        /* A packed number with wrong nibbles unpacks to something, and inside its room. */
        iso_unpack(data + 3, 4, true, false, out);
        CHECK(out[0] == '0' + (pair >> 12) && out[3] == '0' + (pair & 15));

        const bool first = is_clean_pair(pair >> 8);
        const bool second = is_clean_pair(pair & 255);
        const uint32_t expected = !first ? 0 : !second ? 1 : ISO_NO_POSITION;
        CHECK(iso_bcd_find_bad(data + 3, 4, true) == expected);
        CHECK(iso_bcd_find_bad(data + 3, 4, false) == expected);
        CHECK(iso_bcd_find_bad(data + 3, 3, true) == (!first                 ? 0
                                                      : (pair >> 4 & 15) > 9 ? 1
                                                                             : ISO_NO_POSITION));
        CHECK(iso_bcd_find_bad(data + 3, 3, false) == ((pair >> 8 & 15) > 9 ? 0
                                                       : !second            ? 1
                                                                            : ISO_NO_POSITION));
    }
}

static void test_the_first_bad_nibble_is_found_and_the_pad_is_not_looked_at(void)
{
    for (uint32_t digits = 0; digits <= 40; digits++) {
        for (uint32_t left = 0; left < 2; left++) {
            const uint32_t size = (digits + 1) / 2;
            for (uint32_t bad = 0; bad < size; bad++) {
                for (uint32_t low = 0; low < 2; low++) {
                    uint8_t *const data = guard_copy(NULL, size);
                    memset(data, 0x00, size);
                    data[bad] = low ? 0x0A : 0xF0;
                    data[size - 1] |= bad + 1 < size && digits % 2 == 0 ? 0xAA : 0;
                    const bool pads_last = digits % 2 == 1 && left == 1 && bad + 1 == size;
                    const bool pads_first = digits % 2 == 1 && left == 0 && bad == 0;
                    const bool is_pad = (pads_last && low == 1) || (pads_first && low == 0);
                    CHECK(iso_bcd_find_bad(data, digits, left == 1) ==
                          (is_pad ? ISO_NO_POSITION : bad));
                }
            }
        }
    }
}

/* All 256 characters at every place of every length to 20: packed, or named. */
static void test_every_character_at_every_place_is_packed_or_named(void)
{
    for (uint32_t length = 1; length <= 20; length++) {
        for (uint32_t place = 0; place < length; place++) {
            for (uint32_t byte = 0; byte < 256; byte++) {
                for (uint32_t mode = 0; mode < 4; mode++) {
                    const bool left = mode % 2 == 0;
                    const bool track = mode / 2 == 1;
                    uint8_t characters[20];
                    uint8_t out[10];
                    memset(characters, '7', sizeof characters);
                    characters[length - 1] = place + 1 == length ? '7' : ':';
                    characters[place] = (uint8_t)byte;
                    const bool good =
                        is_digit(byte) || (track && ((byte >= 'A' && byte <= 'F') || byte == '='));
                    const uint32_t expected = !good                 ? place
                                              : place + 1 == length ? ISO_NO_POSITION
                                                                    : length - 1;
                    CHECK(iso_pack(characters, length, left, track, 0, out) == expected);
                }
            }
        }
    }
}

/* The short ways for an even number of digits: as the long ones, and a wrong character is seen. */
static void test_an_even_number_of_digits_takes_a_short_way(void)
{
    const uint8_t digits[41] = "1234567890987654321012345678901234567890";
    for (uint32_t count = 0; count <= 40; count += 2) {
        uint8_t packed[20];
        CHECK(iso_pack(digits, count, true, false, 0, packed) == ISO_NO_POSITION);
        for (uint32_t front = 0; front < 2; front++) {
            const uint8_t *const characters =
                front ? guard_copy(digits, count) : guard_front(digits, count);
            uint8_t *const out = front ? guard_front(NULL, count / 2) : guard_copy(NULL, count / 2);
            CHECK(iso_pack_even(characters, count, false, out));
            CHECK(memcmp(out, packed, count / 2) == 0);
            /* With room behind, of which no more than is allowed is written over. */
            uint8_t *const roomy = guard_copy(NULL, count / 2 + 3);
            CHECK(iso_pack_even(digits, count, true, roomy));
            CHECK(memcmp(roomy, packed, count / 2) == 0);
        }
        uint8_t *const back = guard_copy(NULL, count);
        iso_unpack_even(guard_front(packed, count / 2), count, back);
        CHECK(memcmp(back, digits, count) == 0);
        uint8_t *const second = guard_front(NULL, count);
        iso_unpack_even(guard_copy(packed, count / 2), count, second);
        CHECK(memcmp(second, digits, count) == 0);
        for (uint32_t place = 0; place < count; place++) {
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint8_t characters[40];
                uint8_t out[23];
                memcpy(characters, digits, sizeof characters);
                characters[place] = (uint8_t)byte;
                CHECK(iso_pack_even(characters, count, byte % 2 == 0, out) == is_digit(byte));
            }
        }
    }
}

static void test_any_number_of_digits_takes_the_short_way_too(void)
{
    const uint8_t digits[41] = "1234567890987654321012345678901234567890";
    for (uint32_t round = 0; round < 41 * 8; round++) {
        const uint32_t count = round / 8;
        const bool left = (round & 1) != 0;
        const bool roomy = (round & 2) != 0;
        const uint8_t pad = (round & 4) != 0 ? 15 : 0;
        const uint32_t size = (count + 1) / 2;
        uint8_t packed[20];
        CHECK(iso_pack(digits, count, left, false, pad, packed) == ISO_NO_POSITION);
        uint8_t *const out = guard_copy(NULL, size + (roomy ? 3 : 0));
        CHECK(iso_pack_digits(guard_front(digits, count), count, left, pad, roomy, out));
        CHECK(memcmp(out, packed, size) == 0);
        for (uint32_t place = 0; place < count; place++) {
            uint8_t characters[40];
            memcpy(characters, digits, sizeof characters);
            characters[place] = (uint8_t) "/:=D A"[place % 6];
            CHECK(!iso_pack_digits(characters, count, left, pad, roomy, out));
        }
    }
}

static void test_equals_and_d_are_the_same_nibble(void)
{
    uint8_t out[2];
    CHECK(iso_pack((const uint8_t *)"1=2", 3, true, true, 0, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x1D && out[1] == 0x20);
    CHECK(iso_pack((const uint8_t *)"1D2", 3, true, true, 0, out) == ISO_NO_POSITION);
    CHECK(out[0] == 0x1D && out[1] == 0x20);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Everything that fits the digits, in steps; up to 999 without a gap. */
static void test_numbers_go_both_ways_in_every_form(void)
{
    static const struct {
        iso_digits_form form;
        uint32_t digits_max;
        uint32_t base;
    } FORMS[] = {{ISO_FORM_BCD, 6, 10},
                 {ISO_FORM_ASCII, 6, 10},
                 {ISO_FORM_EBCDIC, 6, 10},
                 {ISO_FORM_BINARY, 2, 256},
                 {ISO_FORM_HEX, 4, 16}};
    for (uint32_t f = 0; f < 5; f++) {
        uint32_t limit = 1;
        for (uint32_t digits = 1; digits <= FORMS[f].digits_max; digits++) {
            limit *= FORMS[f].base;
            const uint32_t size = iso_number_size(digits, FORMS[f].form);
            CHECK(size == (FORMS[f].form == ISO_FORM_BCD ? (digits + 1) / 2 : digits));
            for (uint32_t value = 0; value < limit; value += value < 1000 ? 1 : 61) {
                uint8_t *const out = guard_copy(NULL, size);
                iso_number_write(out, digits, FORMS[f].form, value);
                CHECK(iso_number_read(out, digits, FORMS[f].form) == (int32_t)value);
            }
            uint8_t *const out = guard_copy(NULL, size);
            iso_number_write(out, digits, FORMS[f].form, limit - 1);
            CHECK(iso_number_read(out, digits, FORMS[f].form) == (int32_t)(limit - 1));
        }
    }
}

static void expect_number(iso_digits_form form, uint32_t digits, const char *wire, uint32_t value)
{
    const uint32_t size = iso_number_size(digits, form);
    uint8_t *const out = guard_copy(NULL, size);
    iso_number_write(out, digits, form, value);
    CHECK(memcmp(out, wire, size) == 0);
    CHECK(iso_number_read(guard_copy((const uint8_t *)wire, size), digits, form) == (int32_t)value);
}

static void test_numbers_look_as_they_should(void)
{
    expect_number(ISO_FORM_BCD, 1, "\x09", 9);
    expect_number(ISO_FORM_BCD, 3, "\x01\x45", 145);
    expect_number(ISO_FORM_BCD, 4, "\x02\x00", 200);
    expect_number(ISO_FORM_BCD, 5, "\x06\x55\x35", 65535);
    expect_number(ISO_FORM_ASCII, 3, "045", 45);
    expect_number(ISO_FORM_EBCDIC, 2, "\xF1\xF9", 19);
    expect_number(ISO_FORM_BINARY, 1, "\xFF", 255);
    expect_number(ISO_FORM_BINARY, 2, "\x01\x02", 258);
    expect_number(ISO_FORM_HEX, 2, "1F", 31);
    expect_number(ISO_FORM_HEX, 4, "00AB", 171);
    CHECK(iso_number_read((const uint8_t *)"00ab", 4, ISO_FORM_HEX) == 171);
}

/* All 256 bytes at each place of a number of three digits. */
static void test_every_byte_is_a_digit_of_its_form_or_none(void)
{
    static const char *const ZEROS[] = {"\x00\x00", "000", "\xF0\xF0\xF0", "\x00\x00", "000"};
    for (uint32_t form = 0; form <= ISO_FORM_HEX; form++) {
        const uint32_t digits = form == ISO_FORM_BINARY ? 2 : 3;
        const uint32_t size = iso_number_size(digits, (iso_digits_form)form);
        for (uint32_t place = 0; place < size; place++) {
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint8_t data[3];
                memcpy(data, ZEROS[form], size);
                data[place] = (uint8_t)byte;
                const bool good = form == ISO_FORM_BCD
                                      ? is_clean_pair(byte) && (place > 0 || byte < 0x10)
                                  : form == ISO_FORM_ASCII  ? is_digit(byte)
                                  : form == ISO_FORM_EBCDIC ? byte >= 0xF0 && byte <= 0xF9
                                  : form == ISO_FORM_BINARY ? true
                                                            : iso_hex_value((uint8_t)byte) >= 0;
                CHECK((iso_number_read(data, digits, (iso_digits_form)form) >= 0) == good);
            }
        }
    }
}

static void test_every_byte_is_a_pair_of_digits_or_none(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        const int32_t value = (int32_t)((byte >> 4) * 10 + (byte & 15));
        CHECK(iso_bcd_pair(byte) == (is_clean_pair(byte) ? value : -1));
    }
}

static void test_hex_characters(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        const char *const upper = "0123456789ABCDEF";
        const char *const lower = "0123456789abcdef";
        int32_t value = -1;
        for (int32_t i = 0; i < 16; i++) {
            value = (uint8_t)upper[i] == byte || (uint8_t)lower[i] == byte ? i : value;
        }
        CHECK(iso_hex_value((uint8_t)byte) == value);
    }
}

int main(void)
{
    RUN(test_words_are_right_for_every_byte_at_every_place_beside_any_neighbour);
    RUN(test_words_are_stored_as_they_are_loaded);
    RUN(test_runs_are_clean_or_not);
    RUN(test_field_22_packs_left_and_field_23_right);
    RUN(test_packing_is_the_naive_one_at_every_length);
    RUN(test_neither_side_is_read_or_written_past_its_end);
    RUN(test_every_pair_of_bytes_unpacks_nibble_by_nibble);
    RUN(test_the_first_bad_nibble_is_found_and_the_pad_is_not_looked_at);
    RUN(test_every_character_at_every_place_is_packed_or_named);
    RUN(test_an_even_number_of_digits_takes_a_short_way);
    RUN(test_any_number_of_digits_takes_the_short_way_too);
    RUN(test_equals_and_d_are_the_same_nibble);
    RUN(test_numbers_go_both_ways_in_every_form);
    RUN(test_numbers_look_as_they_should);
    RUN(test_every_byte_is_a_digit_of_its_form_or_none);
    RUN(test_every_byte_is_a_pair_of_digits_or_none);
    RUN(test_hex_characters);
    return 0;
}
