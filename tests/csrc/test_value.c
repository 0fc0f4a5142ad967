#include "table.h"

static const iso_field SMALL[] = {
    {PACKED(BCD_LEFT, DIGITS), FIXED(3)},
    {PACKED(BCD_RIGHT, DIGITS), FIXED(3)},
    {PACKED(BCD_LEFT, DIGITS), .pad_nibble = 15, FIXED(3)},
    {PACKED(BCD_RIGHT, DIGITS), .pad_nibble = 15, FIXED(3)},
    {PACKED(BCD_LEFT, BYTES), PREFIX(BCD, 2, 0, 9)},
    {PACKED(BCD_LEFT, DIGITS), PREFIX(ASCII, 2, 0, 9)},
    {TRACK(LEFT, Z, DIGITS), PREFIX(BCD, 2, 0, 37)},
    {TRACK(RIGHT, Z, DIGITS), PREFIX(EBCDIC, 2, 0, 37)},
    {SIGNED(LEFT), FIXED(9)},
    {SIGNED(RIGHT), FIXED(8)},
    {SIGNED(LEFT), .pad_nibble = 15, FIXED(8)},
    {EBCDIC(CP500, XN), FIXED(4)},
    {EBCDIC(CP1047, ANS), PREFIX(BINARY, 1, 0, 9)},
    {HEX(BYTES), PREFIX(HEX, 2, 0, 20)},
    {HEX(DIGITS), .charset = ISO_CHARSET_CP037, PREFIX(HEX, 2, 0, 20)},
    {PLAIN(B), .unit = ISO_UNIT_NIBBLES, PREFIX(BCD, 3, 0, 20)},
    {PLAIN(TLV), PREFIX(BCD, 3, 0, 20)},
    {PLAIN(UTF8), PREFIX(BINARY, 2, 0, 300)},
};

static void test_values_look_on_the_wire_as_they_should(void)
{
    static const struct {
        const char *characters;
        uint32_t size;
        const char *wire;
        uint32_t wire_size;
    } CASES[] = {
        {"021", 3, "\x02\x10", 2},
        {"021", 3, "\x00\x21", 2},
        {"021", 3, "\x02\x1F", 2},
        {"021", 3, "\xF0\x21", 2},
        {"1234", 4, "\x02\x12\x34", 3},
        {"12345", 5, "05\x12\x34\x50", 5},
        {"62=3A", 5, "\x05\x62\xD3\xA0", 4},
        {"62=3A", 5, "\xF0\xF5\x06\x2D\x3A", 5},
        {"D00000012", 9, "D\x00\x00\x00\x12", 5},
        {"C0000012", 8, "C\x00\x00\x00\x12", 5},
        {"D0000012", 8, "D\x00\x00\x01\x2F", 5},
        {"C012", 4, "\xC3\xF0\xF1\xF2", 4},
        {"A[\xE9^", 4, "\x04\xC1\xAD\x51\x5F", 5},
        {"\x00\xAB\xFF", 3, "0300ABFF", 8},
        {"\x00\xAB", 2, "04\xF0\xF0\xC1\xC2", 6},
        {"\x00\xFF", 2, "\x00\x04\x00\xFF", 4},
        {"\x82\x01\xFF", 3, "\x00\x03\x82\x01\xFF", 5},
        {"\xE4\xB8\xAD", 3, "\x00\x03\xE4\xB8\xAD", 5},
    };
    CHECK(sizeof CASES / sizeof CASES[0] == sizeof SMALL / sizeof SMALL[0]);
    for (uint32_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const iso_field *const field = &SMALL[i];
        const uint8_t *const characters =
            guard_front((const uint8_t *)CASES[i].characters, CASES[i].size);
        const iso_value value = {characters, CASES[i].size, false};
        uint32_t size = 0;
        uint32_t position = 77;
        CHECK(iso_field_check(field));
        uint8_t *const out = guard_copy(NULL, CASES[i].wire_size);
        CHECK(iso_field_write(field, &value, out, CASES[i].wire_size, &size, &position) == ISO_OK);
        CHECK(size == CASES[i].wire_size && memcmp(out, CASES[i].wire, size) == 0);
        uint32_t offset = 0;
        iso_slice slice;
        iso_fault fault;
        CHECK(iso_field_read(field, out, size, &offset, &slice, &fault) == ISO_OK);
        CHECK(offset == size && iso_value_length(field, &slice) == CASES[i].size);
        uint8_t back[16];
        iso_value_write(field, out, &slice, back);
        CHECK(memcmp(back, CASES[i].characters, CASES[i].size) == 0);
    }
}

/* Every kind of field with random values: written into exactly the room that was counted, behind
 * other bytes, and read back; with less room and from fewer bytes it is refused. */
static void test_what_is_written_is_read_back(void)
{
    uint32_t state = 23;
    for (uint32_t round = 0; round < 40u * TABLE_COUNT; round++) {
        const iso_field *const field = &TABLE[round % TABLE_COUNT].field;
        uint32_t length = dice_length(field, &state);
        if (field->content == ISO_CONTENT_TRACK2 && length > TRACK2_MAX) {
            length = TRACK2_MAX;
        }
        uint8_t characters[1024];
        const uint32_t count = characters_of(field, length);
        fill_value(field, &state, false, false, characters, count);
        const iso_value value = {guard_front(characters, count), count, false};
        const uint32_t whole = iso_build_field_size(field, &value);
        const uint32_t prefix_size =
            iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form);
        CHECK(whole == prefix_size + bytes_of(field, length));

        uint32_t size = 77;
        uint32_t position = 77;
        for (uint32_t capacity = whole > 40 ? whole - 40 : 0; capacity < whole; capacity++) {
            CHECK(iso_field_write(field, &value, guard_copy(NULL, capacity), capacity, &size,
                                  &position) == ISO_E_SPACE);
            CHECK(size == 77);
        }
        uint8_t *const out = guard_copy(NULL, whole);
        CHECK(iso_field_write(field, &value, out, whole, &size, &position) == ISO_OK);
        CHECK(size == whole);

        uint8_t data[2100] = {0};
        memcpy(data + 5, out, whole);
        iso_slice slice;
        iso_fault fault;
        for (uint32_t cut = whole > 40 ? whole - 40 : 0; cut < whole; cut++) {
            uint32_t offset = 5;
            CHECK(iso_field_read(field, guard_copy(data, 5 + cut), 5 + cut, &offset, &slice,
                                 &fault) == ISO_E_TRUNCATED);
            CHECK(offset == 5 && fault.status == ISO_E_TRUNCATED && fault.field == 0 &&
                  fault.offset == 5 && fault.position == 5);
        }
        uint32_t offset = 5;
        const uint8_t *const message = guard_copy(data, 5 + whole);
        CHECK(iso_field_read(field, message, 5 + whole, &offset, &slice, &fault) == ISO_OK);
        CHECK(offset == 5 + whole && slice.offset == 5 + prefix_size);
        CHECK(slice.length == length && slice.size == whole - prefix_size);
        CHECK(iso_value_length(field, &slice) == count);
        uint8_t *const back = guard_front(NULL, count + 1);
        iso_value_write(field, message, &slice, back);
        CHECK(memcmp(back, characters, count) == 0 && back[count] == 0xA5);
    }
}

static void test_what_is_encoded_already_is_copied(void)
{
    const iso_value value = {(const uint8_t *)"\xFF\xFF\xFF", 3, true};
    uint32_t size = 77;
    uint32_t position = 77;
    CHECK(iso_build_field_size(&SMALL[0], &value) == 3);
    CHECK(iso_field_write(&SMALL[0], &value, guard_copy(NULL, 2), 2, &size, &position) ==
          ISO_E_SPACE);
    uint8_t *const out = guard_copy(NULL, 3);
    CHECK(iso_field_write(&SMALL[0], &value, out, 3, &size, &position) == ISO_OK);
    CHECK(size == 3 && memcmp(out, "\xFF\xFF\xFF", 3) == 0);
    const iso_value nothing = {NULL, 0, true};
    CHECK(iso_field_write(&SMALL[0], &nothing, out, 0, &size, &position) == ISO_OK && size == 0);
}

/* ---- lengths ----------------------------------------------------------------------------------
 */

static iso_status write_characters(const iso_field *field, const char *characters, uint32_t count,
                                   uint32_t *position)
{
    const iso_value value = {guard_copy((const uint8_t *)characters, count), count, false};
    uint8_t out[4096];
    uint32_t size = 0;
    return iso_field_write(field, &value, out, sizeof out, &size, position);
}

static void test_every_length_is_inside_its_limits_or_refused(void)
{
    char digits[64];
    memset(digits, '5', sizeof digits);
    for (uint32_t unit = 0; unit < 2; unit++) {
        const iso_field packed = {.packing = ISO_PACK_BCD_LEFT,
                                  .content = ISO_CONTENT_N,
                                  .unit = (uint8_t)unit,
                                  PREFIX(ASCII, 2, 3, 7)};
        const iso_field fixed = {.packing = ISO_PACK_BCD_RIGHT,
                                 .content = ISO_CONTENT_N,
                                 .unit = (uint8_t)unit,
                                 FIXED(5)};
        for (uint32_t count = 0; count < 20; count++) {
            uint32_t position = 77;
            const uint32_t length = unit == ISO_UNIT_DIGITS ? count : count / 2;
            const bool whole = unit == ISO_UNIT_DIGITS || count % 2 == 0;
            CHECK(write_characters(&packed, digits, count, &position) ==
                  (whole && length >= 3 && length <= 7 ? ISO_OK : ISO_E_LENGTH));
            CHECK(write_characters(&fixed, digits, count, &position) ==
                  (whole && length == 5 ? ISO_OK : ISO_E_LENGTH));
        }
    }
    const iso_field nibbles = {PLAIN(B), .unit = ISO_UNIT_NIBBLES, PREFIX(ASCII, 2, 4, 8)};
    const iso_field hex = {HEX(DIGITS), PREFIX(ASCII, 2, 4, 8)};
    for (uint32_t count = 0; count < 20; count++) {
        uint32_t position = 77;
        const iso_status expected = count >= 2 && count <= 4 ? ISO_OK : ISO_E_LENGTH;
        CHECK(write_characters(&nibbles, digits, count, &position) == expected);
        CHECK(write_characters(&hex, digits, count, &position) == expected);
    }
}

static void test_more_than_a_message_can_hold_is_refused(void)
{
    const iso_field field = {PLAIN(B), FIXED(1)};
    static uint8_t data[ISO_MESSAGE_SIZE_MAX + 1];
    uint32_t offset = 9;
    iso_slice slice;
    iso_fault fault;
    CHECK(iso_field_read(&field, data, ISO_MESSAGE_SIZE_MAX + 1, &offset, &slice, &fault) ==
          ISO_E_SIZE);
    CHECK(offset == 9 && fault.offset == 9 && fault.position == 9);
    CHECK(iso_field_read(&field, data, ISO_MESSAGE_SIZE_MAX, &offset, &slice, &fault) == ISO_OK);
    offset = ISO_MESSAGE_SIZE_MAX - 1;
    CHECK(iso_field_read(&field, data, ISO_MESSAGE_SIZE_MAX, &offset, &slice, &fault) == ISO_OK);
    CHECK(slice.offset == ISO_MESSAGE_SIZE_MAX - 1 && offset == ISO_MESSAGE_SIZE_MAX);
}

static void test_a_wrong_length_is_told(void)
{
    const iso_field field = {PLAIN(B), PREFIX(ASCII, 2, 3, 5)};
    uint32_t offset = 0;
    iso_slice slice;
    iso_fault fault;
    CHECK(iso_field_read(&field, guard_copy((const uint8_t *)"06abcdef", 8), 8, &offset, &slice,
                         &fault) == ISO_E_LENGTH);
    CHECK(fault.length == 6 && offset == 0);
    CHECK(iso_field_read(&field, guard_copy((const uint8_t *)"0;abcdef", 8), 8, &offset, &slice,
                         &fault) == ISO_E_PREFIX);
    CHECK(iso_field_read(&field, guard_copy((const uint8_t *)"05abcd", 6), 6, &offset, &slice,
                         &fault) == ISO_E_TRUNCATED);
    CHECK(fault.length == 5);
}

/* ---- content ----------------------------------------------------------------------------------
 */

static iso_status read_all(const iso_field *field, const uint8_t *data, uint32_t size,
                           iso_fault *fault)
{
    uint32_t offset = 0;
    iso_slice slice;
    const iso_status status =
        iso_field_read(field, guard_copy(data, size), size, &offset, &slice, fault);
    CHECK(offset == (status == ISO_OK ? size : 0));
    return status;
}

/* Each pad nibble in each place, wanted and unwanted. */
static void test_the_pad_is_looked_at_only_where_the_spec_says_so(void)
{
    static const uint8_t PACKINGS[] = {ISO_PACK_BCD_LEFT,    ISO_PACK_BCD_RIGHT,
                                       ISO_PACK_TRACK_LEFT,  ISO_PACK_TRACK_RIGHT,
                                       ISO_PACK_SIGNED_LEFT, ISO_PACK_SIGNED_RIGHT};
    for (uint32_t i = 0; i < sizeof PACKINGS; i++) {
        const bool left = i % 2 == 0;
        const bool is_signed = i >= 4;
        for (uint32_t pad = 0; pad < 16; pad++) {
            for (uint32_t mode = 0; mode < 4; mode++) {
                const iso_field field = {
                    .packing = PACKINGS[i],
                    .content = i < 2   ? ISO_CONTENT_N
                               : i < 4 ? ISO_CONTENT_Z
                                       : ISO_CONTENT_XN,
                    .unit = ISO_UNIT_DIGITS,
                    .pad_strict = mode % 2 == 1,
                    .pad_nibble = mode / 2 == 1 ? 15 : 0,
                    FIXED(is_signed ? 4 : 3),
                };
                CHECK(iso_field_check(&field));
                uint8_t data[3] = {'C', (uint8_t)(left ? 0x12 : pad << 4 | 1),
                                   (uint8_t)(left ? 0x30 | pad : 0x23)};
                const uint8_t *const from = is_signed ? data : data + 1;
                iso_fault fault;
                const iso_status status = read_all(&field, from, is_signed ? 3 : 2, &fault);
                CHECK(status == (field.pad_strict && pad != field.pad_nibble ? ISO_E_PAD : ISO_OK));
                CHECK(status == ISO_OK || fault.position == (left ? 1u : 0) + (is_signed ? 1 : 0));
            }
        }
    }
}

static void test_an_even_number_of_digits_has_no_pad(void)
{
    const iso_field left = {PACKED(BCD_LEFT, DIGITS), .pad_strict = 1, .pad_nibble = 15, FIXED(4)};
    const iso_field right = {PACKED(BCD_RIGHT, DIGITS), .pad_strict = 1, .pad_nibble = 15,
                             FIXED(4)};
    iso_fault fault;
    CHECK(read_all(&left, (const uint8_t *)"\x12\x34", 2, &fault) == ISO_OK);
    CHECK(read_all(&right, (const uint8_t *)"\x12\x34", 2, &fault) == ISO_OK);
}

static void test_all_256_signs_and_digits_of_a_signed_amount(void)
{
    const iso_field field = {SIGNED(LEFT), PREFIX(BCD, 0, 5, 5)};
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint8_t data[3] = {(uint8_t)byte, 0x12, 0x34};
        iso_fault fault;
        const bool good = byte == 'C' || byte == 'D';
        CHECK(read_all(&field, data, 3, &fault) == (good ? ISO_OK : ISO_E_CONTENT));
        CHECK(good || fault.position == 0);
        data[0] = 'D';
        for (uint32_t place = 1; place < 3; place++) {
            data[1] = 0x12;
            data[2] = 0x34;
            data[place] = (uint8_t)byte;
            const bool digits = byte >> 4 <= 9 && (byte & 15) <= 9;
            CHECK(read_all(&field, data, 3, &fault) == (digits ? ISO_OK : ISO_E_CONTENT));
            CHECK(digits || fault.position == place);
        }
        uint32_t position = 77;
        char characters[5] = {(char)byte, '1', '2', '3', '4'};
        CHECK(write_characters(&field, characters, 5, &position) ==
              (good ? ISO_OK : ISO_E_CONTENT));
        CHECK(good || position == 0);
        memcpy(characters, "C1234", 5);
        characters[3] = (char)byte;
        const bool digit = byte >= '0' && byte <= '9';
        CHECK(write_characters(&field, characters, 5, &position) ==
              (digit ? ISO_OK : ISO_E_CONTENT));
        CHECK(digit || position == 3);
    }
}

static void test_all_256_bytes_as_hexadecimal_digits(void)
{
    for (uint32_t page = 0; page <= ISO_CHARSET_CP1047; page++) {
        const iso_field field = {HEX(BYTES), .charset = (uint8_t)page, FIXED(2)};
        const uint8_t zero = page == 0 ? '0' : 0xF0;
        for (uint32_t place = 0; place < 4; place++) {
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint8_t data[4] = {zero, zero, zero, zero};
                data[place] = (uint8_t)byte;
                const uint8_t character =
                    page == 0 ? (uint8_t)byte : iso_charset_decoder((iso_charset)page)[byte];
                const int32_t digit = iso_hex_value(character);
                iso_fault fault;
                CHECK(read_all(&field, data, 4, &fault) == (digit >= 0 ? ISO_OK : ISO_E_CONTENT));
                CHECK(digit >= 0 || fault.position == place);
                uint8_t out[2];
                const iso_slice slice = {0, 4, 2};
                iso_value_write(&field, data, &slice, out);
                CHECK(digit < 0 || out[place / 2] == (place % 2 == 0 ? digit << 4 : digit));
            }
        }
    }
}

/* Every field of the table, every byte of a value replaced: refused at that byte or accepted; what
 * is refused as an encoded value is refused as characters too. */
static void test_the_first_wrong_character_is_named(void)
{
    uint32_t state = 31;
    uint32_t refused = 0;
    for (uint32_t round = 0; round < 400u * TABLE_COUNT; round++) {
        const iso_field *const field = &TABLE[round % TABLE_COUNT].field;
        const uint8_t content = field->content;
        const uint32_t length =
            field->length_max > TRACK2_MAX && field->length_min <= 16 ? 16 : field->length_max;
        uint8_t characters[64];
        const uint32_t count = characters_of(field, length);
        fill_value(field, &state, false, false, characters, count);
        const uint32_t place = dice(&state) % count;
        characters[place] = (uint8_t)dice(&state);
        const iso_value value = {guard_copy(characters, count), count, false};
        uint8_t out[128];
        uint32_t size = 0;
        uint32_t position = 77;
        const iso_status status = iso_field_write(field, &value, out, sizeof out, &size, &position);
        const bool in_several = content == ISO_CONTENT_GBK || content == ISO_CONTENT_GB18030 ||
                                content == ISO_CONTENT_UTF8 || content == ISO_CONTENT_TLV ||
                                content == ISO_CONTENT_TRACK2;
        if (status != ISO_OK) {
            refused++;
            CHECK(position == place || (in_several && position <= count));
            continue;
        }
        uint32_t offset = 0;
        iso_slice slice;
        iso_fault fault;
        CHECK(iso_field_read(field, out, size, &offset, &slice, &fault) == ISO_OK);
    }
    CHECK(refused > 1000);
}

static void test_tags_and_tracks_are_checked_in_a_field_alone(void)
{
    const iso_field tlv = {PLAIN(TLV), PREFIX(ASCII, 2, 0, 20)};
    const iso_field track = {TRACK(LEFT, TRACK2, DIGITS), PREFIX(BCD, 2, 1, 37)};
    const iso_field text = {EBCDIC(CP037, TRACK2), PREFIX(ASCII, 2, 1, 99)};
    uint32_t position = 77;
    CHECK(write_characters(&tlv, "\x82\x00\x82\x00", 4, &position) == ISO_E_DUPLICATE);
    CHECK(position == 2);
    CHECK(write_characters(&tlv, "\x82\x00\x9F", 3, &position) == ISO_E_TLV && position == 2);
    CHECK(write_characters(&track, "62=30=1", 7, &position) == ISO_E_TRACK && position == 5);
    CHECK(write_characters(&track, "6230", 4, &position) == ISO_E_TRACK && position == 4);
    CHECK(write_characters(&text, "62=30A", 6, &position) == ISO_E_TRACK && position == 5);
    CHECK(write_characters(&text, "62D30", 5, &position) == ISO_OK);
    iso_fault fault;
    CHECK(read_all(&tlv, (const uint8_t *)"04\x82\x00\x82\x00", 6, &fault) == ISO_E_DUPLICATE);
    CHECK(fault.position == 4);
    CHECK(read_all(&track, (const uint8_t *)"\x04\x62\x30", 3, &fault) == ISO_E_TRACK);
    CHECK(fault.offset == 0 && fault.position == 1);
    CHECK(read_all(&text, (const uint8_t *)"02\xF1\xF2", 4, &fault) == ISO_E_TRACK);
    CHECK(read_all(&text, (const uint8_t *)"02\xF1\x7E", 4, &fault) == ISO_OK);
}

/* Packed tracks are judged by their nibbles, without unpacking: compared with the characters. */
static void test_packed_tracks_are_judged_as_their_characters(void)
{
    uint32_t state = 77;
    uint32_t sound = 0;
    for (uint32_t round = 0; round < 300000; round++) {
        const bool left = dice(&state) % 2 == 0;
        const iso_field field = {.packing = left ? ISO_PACK_TRACK_LEFT : ISO_PACK_TRACK_RIGHT,
                                 .content = ISO_CONTENT_TRACK2,
                                 .unit = dice(&state) % 4 == 0 ? ISO_UNIT_BYTES : ISO_UNIT_DIGITS,
                                 PREFIX(BINARY, 1, 1, 60)};
        const uint32_t length = dice_between(&state, 1, 45);
        const uint32_t size = bytes_of(&field, length);
        uint8_t data[64] = {(uint8_t)length};
        for (uint32_t i = 1; i <= size; i++) {
            data[i] = (uint8_t)(dice(&state) % 10 << 4 | dice(&state) % 10);
        }
        /* A separator or two, another letter, and any pad. */
        for (uint32_t marks = dice(&state) % 4; marks > 0; marks--) {
            const uint32_t at = 1 + dice(&state) % size;
            const uint32_t nibble = dice(&state) % 4 == 0 ? dice(&state) % 16 : 0x0D;
            data[at] = (uint8_t)(dice(&state) % 2 ? (data[at] & 0xF0) | nibble
                                                  : (data[at] & 0x0F) | nibble << 4);
        }
        if (characters_of(&field, length) % 2 == 1) {
            const uint32_t pad = dice(&state) % 16;
            data[left ? size : 1] =
                (uint8_t)(left ? (data[size] & 0xF0) | pad : (data[1] & 0x0F) | pad << 4);
        }
        uint8_t characters[128];
        const uint32_t count = characters_of(&field, length);
        iso_unpack(data + 1, count, left, true, characters);
        const bool good = iso_track2_find_bad(NULL, characters, count) == ISO_NO_POSITION;
        iso_fault fault;
        CHECK(read_all(&field, data, 1 + size, &fault) == (good ? ISO_OK : ISO_E_TRACK));
        sound += good ? 1 : 0;
    }
    CHECK(sound > 10000);
}

/* Every place of a field that may say so, in each form in which it may stand. */
static void test_the_character_that_tells_secrets_is_found_everywhere(void)
{
    static const iso_field OTHERS[] = {
        {PACKED(BCD_LEFT, DIGITS), FIXED(15)},
        {PACKED(BCD_LEFT, DIGITS), FIXED(16)},
        {PACKED(BCD_RIGHT, DIGITS), FIXED(15)},
        {PACKED(BCD_RIGHT, BYTES), FIXED(8)},
        {PLAIN(N), FIXED(16)},
        {EBCDIC(CP500, N), FIXED(16)},
    };
    for (uint32_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        const uint32_t count = characters_of(&OTHERS[i], OTHERS[i].length_max);
        for (uint32_t position = 0; position < count + 2; position++) {
            for (uint32_t hit = 0; hit < 2; hit++) {
                char characters[16];
                uint8_t out[16];
                uint32_t size = 0;
                uint32_t wrong = 0;
                memset(characters, hit ? '3' : '7', sizeof characters);
                if (position < count) {
                    characters[position] = hit ? '7' : '3';
                }
                const iso_value value = {(const uint8_t *)characters, count, false};
                CHECK(iso_field_write(&OTHERS[i], &value, out, sizeof out, &size, &wrong) ==
                      ISO_OK);
                const iso_field track = {TRACK(LEFT, TRACK2, DIGITS), .secret_field = 9,
                                         .secret_position = (uint8_t)position,
                                         .secret_character = '7', PREFIX(BCD, 2, 1, 37)};
                const iso_slice slice = {0, (uint16_t)size, OTHERS[i].length_max};
                const uint8_t *const data = guard_copy(out, size);
                CHECK(iso_says_secret(&track, data, &OTHERS[i], &slice) ==
                      (position < count && hit == 1));
            }
        }
    }
}

int main(void)
{
    RUN(test_values_look_on_the_wire_as_they_should);
    RUN(test_what_is_written_is_read_back);
    RUN(test_what_is_encoded_already_is_copied);
    RUN(test_every_length_is_inside_its_limits_or_refused);
    RUN(test_more_than_a_message_can_hold_is_refused);
    RUN(test_a_wrong_length_is_told);
    RUN(test_the_pad_is_looked_at_only_where_the_spec_says_so);
    RUN(test_an_even_number_of_digits_has_no_pad);
    RUN(test_all_256_signs_and_digits_of_a_signed_amount);
    RUN(test_all_256_bytes_as_hexadecimal_digits);
    RUN(test_the_first_wrong_character_is_named);
    RUN(test_tags_and_tracks_are_checked_in_a_field_alone);
    RUN(test_packed_tracks_are_judged_as_their_characters);
    RUN(test_the_character_that_tells_secrets_is_found_everywhere);
    return 0;
}
