#include "table.h"

static iso_spec good_table(void)
{
    return make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
}

static void expect_refused(iso_spec spec, uint32_t field)
{
    iso_fault fault = {ISO_OK, 99, 99, 99, 99};
    const iso_spec before = spec;
    CHECK(iso_spec_check(&spec, &fault) == ISO_E_SPEC);
    CHECK(fault.status == ISO_E_SPEC && fault.field == field);
    CHECK(memcmp(spec.defined, before.defined, sizeof spec.defined) == 0);
    CHECK(spec.has_track2 == before.has_track2);
}

static void test_defined_fields_are_marked(void)
{
    for (uint32_t shape = 0; shape < TABLE_SHAPES; shape++) {
        const iso_spec spec = make_shape(shape);
        for (uint32_t number = 1; number <= ISO_FIELD_MAX; number++) {
            CHECK(is_present(spec.defined, number) ==
                  (spec.fields[number].packing != ISO_PACK_NONE));
        }
        CHECK(spec.has_track2 == 1);
    }
}

static void test_a_table_without_track_2_says_so(void)
{
    iso_spec spec = good_table();
    iso_fault fault;
    spec.fields[34].packing = ISO_PACK_NONE;
    spec.fields[F_TRACK].packing = ISO_PACK_NONE;
    CHECK(iso_spec_check(&spec, &fault) == ISO_OK && spec.has_track2 == 1);
    spec.fields[F_TRACK_E].packing = ISO_PACK_NONE;
    CHECK(iso_spec_check(&spec, &fault) == ISO_OK && spec.has_track2 == 0);
    CHECK(!is_present(spec.defined, 34));
}

static void test_the_head_must_make_sense(void)
{
    iso_spec bad = good_table();
    bad.mti_form = ISO_FORM_BINARY;
    expect_refused(bad, 0);
    bad = good_table();
    bad.bitmap_form = ISO_BITMAP_HEX_EBCDIC + 1;
    expect_refused(bad, 1);
    for (uint32_t field_max = 0; field_max < 256; field_max++) {
        iso_spec spec = good_table();
        iso_fault fault;
        memset(spec.fields, 0, sizeof spec.fields);
        spec.field_max = (uint8_t)field_max;
        const bool good = field_max == 64 || field_max == 128 || field_max == 192;
        CHECK(iso_spec_check(&spec, &fault) == (good ? ISO_OK : ISO_E_SPEC));
    }
    bad = good_table();
    bad.repeat_count = ISO_REPEATS_MAX + 1;
    expect_refused(bad, 1);
    bad.repeat_count = ISO_REPEATS_MAX;
    iso_fault fault;
    CHECK(iso_spec_check(&bad, &fault) == ISO_OK);
}

static void test_fields_stand_only_where_there_is_a_bit(void)
{
    for (uint32_t field_max = 64; field_max <= 192; field_max += 64) {
        for (uint32_t number = 0; number < ISO_TABLE_SIZE; number++) {
            iso_spec spec;
            iso_fault fault;
            memset(&spec, 0, sizeof spec);
            spec.field_max = (uint8_t)field_max;
            spec.fields[number] = (iso_field){PLAIN(B), FIXED(8)};
            const bool good =
                number >= 2 && number <= field_max && !(number == 65 && field_max == 192);
            CHECK(iso_spec_check(&spec, &fault) == (good ? ISO_OK : ISO_E_SPEC));
            CHECK(good || fault.field == number);
        }
    }
}

/* The field that says whether a track is encrypted has to be one that can stand in a message and
 * whose characters are plain to see. */
static void test_the_field_that_tells_secrets_must_be_a_plain_one(void)
{
    iso_spec bad = good_table();
    bad.fields[F_PAN].secret_field = F_SECURITY; /* not a track */
    expect_refused(bad, F_PAN);
    for (uint32_t field_max = 64; field_max <= 192; field_max += 64) {
        for (uint32_t other = 0; other < 256; other++) {
            iso_spec spec = make_table((uint8_t)field_max, ISO_FORM_BCD, ISO_BITMAP_BINARY);
            iso_fault fault;
            spec.fields[34].secret_field = (uint8_t)other;
            const bool outside =
                other == 1 || other > field_max || (other == 65 && field_max == 192);
            const iso_field field = spec.fields[outside ? 0 : other];
            const bool plain =
                field.packing == ISO_PACK_NONE || field.packing == ISO_PACK_BCD_LEFT ||
                field.packing == ISO_PACK_BCD_RIGHT ||
                (field.packing == ISO_PACK_BYTES && field.content != ISO_CONTENT_TLV &&
                 field.content != ISO_CONTENT_TRACK2);
            const bool good = other == 0 || (!outside && plain);
            CHECK(iso_spec_check(&spec, &fault) == (good ? ISO_OK : ISO_E_SPEC));
            CHECK(good || fault.field == 34);
        }
    }
}

/* ---- one field --------------------------------------------------------------------------------
 */

static bool unit_fits(const iso_field *field)
{
    switch (field->packing) {
    case ISO_PACK_BYTES:
        return field->unit == ISO_UNIT_BYTES ||
               (field->unit == ISO_UNIT_NIBBLES &&
                (field->content == ISO_CONTENT_B || field->content == ISO_CONTENT_TLV));
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        return field->unit == ISO_UNIT_DIGITS;
    default:
        return field->unit == ISO_UNIT_BYTES || field->unit == ISO_UNIT_DIGITS;
    }
}

static bool content_fits(const iso_field *field)
{
    const uint8_t content = field->content;
    switch (field->packing) {
    case ISO_PACK_BYTES:
        return content <= ISO_CONTENT_TLV;
    case ISO_PACK_BCD_LEFT:
    case ISO_PACK_BCD_RIGHT:
        return content == ISO_CONTENT_N;
    case ISO_PACK_TRACK_LEFT:
    case ISO_PACK_TRACK_RIGHT:
        return content == ISO_CONTENT_Z || content == ISO_CONTENT_TRACK2;
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        return content == ISO_CONTENT_XN;
    case ISO_PACK_HEX:
        return content == ISO_CONTENT_B;
    default:
        return false;
    }
}

/* Every combination of packing, content, unit and character set, fixed and variable. */
static void test_every_combination_makes_sense_or_not(void)
{
    uint32_t accepted = 0;
    for (uint32_t i = 0; i < 12u * 16 * 5 * 6 * 2; i++) {
        const bool variable = i % 2 == 1;
        const iso_field field = {
            .packing = (uint8_t)(i / 2 % 12),
            .content = (uint8_t)(i / 24 % 16),
            .unit = (uint8_t)(i / 384 % 5),
            .charset = (uint8_t)(i / 1920),
            .prefix_digits = variable ? 2 : 0,
            .length_min = 8,
            .length_max = 8,
        };
        const bool is_signed =
            field.packing == ISO_PACK_SIGNED_LEFT || field.packing == ISO_PACK_SIGNED_RIGHT;
        const bool page_fits =
            field.charset <= ISO_CHARSET_CP1047 &&
            (field.charset == ISO_CHARSET_ASCII || field.packing != ISO_PACK_BYTES ||
             (field.content >= ISO_CONTENT_N && field.content <= ISO_CONTENT_XN));
        const bool good =
            content_fits(&field) && unit_fits(&field) && page_fits && !(is_signed && variable);
        CHECK(iso_field_check(&field) == good);
        accepted += good ? 1 : 0;
    }
    CHECK(accepted > 100);
}

static void test_pads_are_0_or_f(void)
{
    for (uint32_t pad = 0; pad < 256; pad++) {
        const iso_field field = {PACKED(BCD_LEFT, DIGITS), .pad_nibble = (uint8_t)pad, FIXED(3)};
        CHECK(iso_field_check(&field) == (pad == 0 || pad == 15));
    }
}

static void test_a_fixed_field_has_one_length_that_fills_its_bytes(void)
{
    const iso_field two = {PLAIN(B), .length_min = 7, .length_max = 8};
    const iso_field none = {PLAIN(B), FIXED(0)};
    const iso_field half = {PLAIN(B), .unit = ISO_UNIT_NIBBLES, FIXED(7)};
    const iso_field half_hex = {HEX(DIGITS), FIXED(7)};
    const iso_field whole_hex = {HEX(BYTES), FIXED(7)};
    CHECK(!iso_field_check(&two));
    CHECK(!iso_field_check(&none));
    CHECK(!iso_field_check(&half));
    CHECK(!iso_field_check(&half_hex));
    CHECK(iso_field_check(&whole_hex));
}

static void test_a_variable_field_has_room_in_its_prefix(void)
{
    static const struct {
        uint8_t form;
        uint32_t digits_max;
        uint32_t base;
    } FORMS[] = {{ISO_FORM_BCD, 6, 10},
                 {ISO_FORM_ASCII, 6, 10},
                 {ISO_FORM_EBCDIC, 6, 10},
                 {ISO_FORM_BINARY, 2, 256},
                 {ISO_FORM_HEX, 4, 16}};
    for (uint32_t f = 0; f < 5; f++) {
        uint32_t limit = 1;
        for (uint32_t digits = 1; digits < 256; digits++) {
            iso_field field = {PLAIN(B), .prefix_form = FORMS[f].form,
                               .prefix_digits = (uint8_t)digits, .length_max = 1};
            CHECK(iso_field_check(&field) == (digits <= FORMS[f].digits_max));
            if (digits > FORMS[f].digits_max) {
                continue;
            }
            limit *= FORMS[f].base;
            for (uint32_t max = limit - 1; max <= limit; max++) {
                field.length_max = (uint16_t)max;
                field.length_min = (uint16_t)max;
                CHECK(max > ISO_FIELD_LENGTH_MAX || iso_field_check(&field) == (max < limit));
            }
        }
    }
    const iso_field no_form = {PLAIN(B), .prefix_form = 5, .prefix_digits = 1, .length_max = 1};
    const iso_field upside_down = {PLAIN(B), PREFIX(BCD, 2, 20, 19)};
    const iso_field never = {PLAIN(B), PREFIX(BCD, 2, 0, 0)};
    CHECK(!iso_field_check(&no_form));
    CHECK(!iso_field_check(&upside_down));
    CHECK(!iso_field_check(&never));
}

/* The fast ways to read and write a field must not be taken where they would be wrong: with them
 * and without, everything comes out the same. */
static void test_the_shape_of_a_field_changes_nothing_but_the_time(void)
{
    static const uint8_t CONTENTS[] = {ISO_CONTENT_B,      ISO_CONTENT_N,   ISO_CONTENT_N,
                                       ISO_CONTENT_AN,     ISO_CONTENT_ANS, ISO_CONTENT_A,
                                       ISO_CONTENT_TRACK2, ISO_CONTENT_XN,  ISO_CONTENT_Z};
    uint32_t state = 5;
    uint32_t shaped[9] = {0};
    for (uint32_t round = 0; round < 200000; round++) {
        const uint32_t length = dice_between(&state, 1, dice(&state) % 8 == 0 ? 140 : 20);
        const uint32_t prefix_digits = dice(&state) % 2 == 0 ? dice_between(&state, 1, 4) : 0;
        const uint32_t length_min = prefix_digits == 0 ? length : dice(&state) % (length + 1);
        iso_spec spec;
        iso_fault fault;
        memset(&spec, 0, sizeof spec);
        spec.field_max = 64;
        spec.fields[2] = (iso_field){.packing = (uint8_t)(1 + dice(&state) % 8),
                                     .content = CONTENTS[dice(&state) % sizeof CONTENTS],
                                     .unit = (uint8_t)(dice(&state) % 3),
                                     .charset = (uint8_t)(dice(&state) % 8 == 0 ? 1 : 0),
                                     .prefix_digits = (uint8_t)prefix_digits,
                                     .prefix_form = (uint8_t)(dice(&state) % 8 == 0 ? 1 : 0),
                                     .pad_strict = (uint8_t)(dice(&state) % 2),
                                     .pad_nibble = (uint8_t)(dice(&state) % 2 * 15),
                                     .length_min = (uint16_t)length_min,
                                     .length_max = (uint16_t)length};
        if (iso_spec_check(&spec, &fault) != ISO_OK ||
            characters_of(&spec.fields[2], length) == 0) {
            continue;
        }
        const iso_field *const fast = &spec.fields[2];
        iso_field slow = *fast;
        slow.shape = ISO_SHAPE_GENERAL;
        shaped[fast->shape]++;

        uint8_t characters[512];
        uint32_t size = characters_of(fast, dice(&state) % 4 == 0 ? length_min : length);
        size = size > 0 ? size : 1;
        fill_value(fast, &state, false, false, characters, size);
        if (dice(&state) % 2 == 0) {
            characters[dice(&state) % size] = (uint8_t)dice(&state);
        }
        size -= dice(&state) % 8 == 0 && size > 1 ? 1 : 0;
        /* Nothing behind the value is read, or nothing behind the capacity is written. */
        const bool end = dice(&state) % 2 == 0;
        const iso_value value = {end ? characters : guard_copy(characters, size), size, false};
        /* Too small by one, exact, or with some room behind it. */
        const uint32_t capacity = iso_build_field_size(fast, &value) + dice(&state) % 12 - 1;
        uint8_t plain[512];
        uint8_t *const outs[2] = {end ? guard_copy(NULL, capacity) : guard_front(NULL, capacity),
                                  plain};
        uint32_t sizes[2] = {0, 0};
        uint32_t positions[2] = {0, 0};
        iso_status statuses[2];
        for (uint32_t i = 0; i < 2; i++) {
            statuses[i] = iso_field_write(i == 0 ? fast : &slow, &value, outs[i], capacity,
                                          &sizes[i], &positions[i]);
        }
        CHECK(statuses[0] == statuses[1]);
        CHECK(statuses[0] == ISO_OK || positions[0] == positions[1]);
        if (statuses[0] != ISO_OK) {
            continue;
        }
        CHECK(sizes[0] == sizes[1] && memcmp(outs[0], outs[1], sizes[0]) == 0);
        uint32_t offset = 0;
        iso_slice slice;
        if (iso_field_read(fast, outs[0], sizes[0], &offset, &slice, &fault) != ISO_OK) {
            continue;
        }
        CHECK(iso_value_length(fast, &slice) == iso_value_length(&slow, &slice));
        uint8_t texts[2][512];
        iso_value_write(fast, outs[0], &slice, texts[0]);
        iso_value_write(&slow, outs[0], &slice, texts[1]);
        CHECK(memcmp(texts[0], texts[1], iso_value_length(fast, &slice)) == 0);
    }
    for (uint32_t shape = 0; shape < sizeof shaped / sizeof shaped[0]; shape++) {
        CHECK(shaped[shape] > 300);
    }
}

int main(void)
{
    RUN(test_defined_fields_are_marked);
    RUN(test_a_table_without_track_2_says_so);
    RUN(test_the_head_must_make_sense);
    RUN(test_fields_stand_only_where_there_is_a_bit);
    RUN(test_the_field_that_tells_secrets_must_be_a_plain_one);
    RUN(test_every_combination_makes_sense_or_not);
    RUN(test_pads_are_0_or_f);
    RUN(test_a_fixed_field_has_one_length_that_fills_its_bytes);
    RUN(test_a_variable_field_has_room_in_its_prefix);
    RUN(test_the_shape_of_a_field_changes_nothing_but_the_time);
    return 0;
}
