#include "table.h"

static sample made;
static const uint8_t *const PURCHASE = (const uint8_t *)"0200";

typedef struct draft {
    uint64_t present[ISO_BITMAPS_MAX];
    iso_value values[ISO_TABLE_SIZE];
} draft;

static void put(draft *given, uint32_t number, const char *data, uint32_t size, bool as_wire)
{
    given->values[number] = (iso_value){(const uint8_t *)data, size, as_wire};
    given->present[iso_word(number)] |= iso_bit(number);
}

static iso_status build(const iso_spec *spec, draft *given, uint8_t *out, uint32_t capacity,
                        uint32_t *size, iso_fault *fault)
{
    iso_build_announce(given->present);
    return iso_build(spec, PURCHASE, given->present, given->values, out, capacity, size, fault);
}

/* ---- whole messages ---------------------------------------------------------------------------
 */

/* What was built holds what was put into it, and built again from its own slices it is the same:
 * once from characters, once copied. */
static void test_reading_and_building_undo_each_other(void)
{
    uint32_t state = 51;
    for (uint32_t round = 0; round < 4000; round++) {
        const iso_spec spec = make_shape(round % TABLE_SHAPES);
        make_sample(&spec, &state, round % 8 == 0, &made);
        iso_layout layout;
        iso_fault fault;
        CHECK(iso_index(&spec, made.message, made.size, 0, &layout, &fault, 1) == 0);
        static uint8_t store[1 << 16];
        uint8_t *free_room = store;
        uint32_t end = layout.head.fields_offset;
        iso_value values[2][ISO_TABLE_SIZE];
        memset(values, 0, sizeof values);
        uint32_t count = 0;
        for (uint32_t number = 2; number <= spec.field_max; number++) {
            if (made.values[number].data == NULL) {
                continue;
            }
            const iso_slice *const slice = &layout.slices[count++];
            const uint32_t length = iso_value_length(&spec.fields[number], slice);
            iso_value_write(&spec.fields[number], made.message, slice, free_room);
            values[0][number] = (iso_value){free_room, length, false};
            free_room += length;
            const uint32_t next = (uint32_t)slice->offset + slice->size;
            values[1][number] = (iso_value){made.message + end, next - end, true};
            CHECK(iso_build_field_size(&spec.fields[number], &values[0][number]) == next - end);
            end = next;
        }
        for (uint32_t copied = 0; copied < 2; copied++) {
            uint8_t *const out = guard_copy(NULL, made.size);
            uint32_t size = 0;
            CHECK(iso_build(&spec, PURCHASE, layout.head.present, values[copied], out, made.size,
                            &size, &fault) == ISO_OK);
            CHECK(size == made.size && memcmp(out, made.message, size) == 0);
        }
    }
}

/* The output ends at an unreadable page too: one byte too few never writes over it. */
static void test_every_smaller_buffer_is_refused(void)
{
    uint32_t state = 52;
    for (uint32_t shape = 0; shape < TABLE_SHAPES; shape++) {
        const iso_spec spec = make_shape(shape);
        make_sample(&spec, &state, true, &made);
        for (uint32_t capacity = 0; capacity < made.size; capacity++) {
            uint32_t size = 77;
            iso_fault fault;
            CHECK(iso_build(&spec, PURCHASE, made.present, made.values, guard_copy(NULL, capacity),
                            capacity, &size, &fault) == ISO_E_SPACE);
            CHECK(size == 77 && fault.status == ISO_E_SPACE);
        }
    }
}

static void test_the_size_can_be_known_before(void)
{
    uint32_t state = 53;
    for (uint32_t round = 0; round < 500; round++) {
        const iso_spec spec = make_shape(round % TABLE_SHAPES);
        make_sample(&spec, &state, false, &made);
        uint32_t total = iso_build_base_size(&spec, made.present);
        for (uint32_t number = 2; number < ISO_TABLE_SIZE; number++) {
            if (made.values[number].data != NULL) {
                total += iso_build_field_size(&spec.fields[number], &made.values[number]);
            }
        }
        CHECK(total == made.size);
    }
}

static void test_a_message_looks_on_the_wire_as_it_should(void)
{
    static const struct {
        iso_digits_form mti_form;
        iso_bitmap_form bitmap_form;
        const char *wire;
        uint32_t size;
    } CASES[] = {
        {ISO_FORM_BCD, ISO_BITMAP_BINARY, "\x02\x00\x50\x00\x00\x00\x00\x00\x00\x00", 10},
        {ISO_FORM_ASCII, ISO_BITMAP_HEX, "02005000000000000000", 20},
        {ISO_FORM_EBCDIC, ISO_BITMAP_HEX_EBCDIC,
         "\xF0\xF2\xF0\xF0\xF5\xF0\xF0\xF0\xF0\xF0\xF0\xF0\xF0\xF0\xF0\xF0\xF0\xF0\xF0\xF0", 20},
    };
    for (uint32_t i = 0; i < 3; i++) {
        const iso_spec spec = make_table(64, CASES[i].mti_form, CASES[i].bitmap_form);
        draft given = {{0}, {{0}}};
        put(&given, F_PAN, "62222", 5, false);
        put(&given, F_AMOUNT, "000000001250", 12, false);
        uint8_t *const out = guard_copy(NULL, CASES[i].size + 10);
        uint32_t size = 0;
        iso_fault fault;
        CHECK(build(&spec, &given, out, CASES[i].size + 10, &size, &fault) == ISO_OK);
        CHECK(size == CASES[i].size + 10 && memcmp(out, CASES[i].wire, CASES[i].size) == 0);
        CHECK(memcmp(out + CASES[i].size, "\x05\x62\x22\x20\x00\x00\x00\x00\x12\x50", 10) == 0);
    }
}

static void test_the_mti_must_be_four_digits(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint64_t none[ISO_BITMAPS_MAX] = {0, 0, 0};
    iso_value values[ISO_TABLE_SIZE];
    memset(values, 0, sizeof values);
    for (uint32_t place = 0; place < 4; place++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint8_t mti[4] = {'0', '8', '0', '0'};
            mti[place] = (uint8_t)byte;
            uint8_t out[10];
            uint32_t size = 77;
            iso_fault fault;
            const bool good = byte >= '0' && byte <= '9';
            CHECK(iso_build(&spec, mti, none, values, out, sizeof out, &size, &fault) ==
                  (good ? ISO_OK : ISO_E_MTI));
            CHECK(size == (good ? 10 : 77));
        }
    }
}

/* ---- bitmaps ----------------------------------------------------------------------------------
 */

static void test_bitmaps_are_announced_as_the_fields_need_them(void)
{
    for (uint32_t number = 2; number <= 192; number++) {
        uint64_t present[ISO_BITMAPS_MAX] = {0, 0, 0};
        present[iso_word(number)] |= iso_bit(number);
        iso_build_announce(present);
        CHECK(is_present(present, 1) == (number > 64));
        CHECK(is_present(present, 65) == (number >= 129 || number == 65));
        CHECK(is_present(present, number));
    }
    uint64_t empty[ISO_BITMAPS_MAX] = {0, 0, 0};
    iso_build_announce(empty);
    CHECK(empty[0] == 0 && empty[1] == 0 && empty[2] == 0);
}

static void test_an_empty_bitmap_that_came_is_kept(void)
{
    const iso_spec spec = make_table(192, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    uint8_t out[64];
    uint32_t size = 0;
    iso_fault fault;
    draft one = {{iso_bit(1), 0, 0}, {{0}}};
    CHECK(iso_build_base_size(&spec, one.present) == 18);
    CHECK(build(&spec, &one, out, sizeof out, &size, &fault) == ISO_OK);
    CHECK(size == 18 && out[2] == 0x80 && out[10] == 0);
    draft two = {{0, iso_bit(65), 0}, {{0}}};
    CHECK(build(&spec, &two, out, sizeof out, &size, &fault) == ISO_OK);
    CHECK(size == 26 && out[2] == 0x80 && out[10] == 0x80 && out[18] == 0);
}

static void test_bit_65_is_a_field_where_there_are_two_bitmaps(void)
{
    const iso_spec spec = make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    uint8_t out[64];
    uint32_t size = 0;
    iso_fault fault;
    draft given = {{0}, {{0}}};
    put(&given, F_BIT65, "\xAA", 1, false);
    CHECK(build(&spec, &given, out, sizeof out, &size, &fault) == ISO_OK);
    CHECK(size == 19 && out[2] == 0x80 && out[10] == 0x80 && out[18] == 0xAA);
}

static void test_more_bitmaps_than_the_spec_has_are_refused(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    uint8_t out[64];
    uint32_t size = 77;
    iso_fault fault;
    draft given = {{iso_bit(1), 0, 0}, {{0}}};
    CHECK(build(&spec, &given, out, sizeof out, &size, &fault) == ISO_E_BITMAP);
    CHECK(fault.field == 1 && size == 77);
}

static void test_undefined_fields_are_refused(void)
{
    for (uint32_t shape = 0; shape < 3; shape++) {
        const iso_spec spec = make_shape(shape);
        for (uint32_t number = 2; number <= spec.field_max; number++) {
            if (is_present(spec.defined, number) || (number == 65 && spec.field_max == 192)) {
                continue;
            }
            draft given = {{0}, {{0}}};
            put(&given, number, "1", 1, false);
            uint8_t out[64];
            uint32_t size = 77;
            iso_fault fault;
            CHECK(build(&spec, &given, out, sizeof out, &size, &fault) == ISO_E_UNDEFINED);
            CHECK(fault.field == number && size == 77);
        }
    }
}

/* ---- values -----------------------------------------------------------------------------------
 */

static iso_status build_one(uint32_t number, const char *data, uint32_t size, iso_fault *fault)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    draft given = {{0}, {{0}}};
    /* Behind guard pages: a value is never read past its size. */
    put(&given, number, (const char *)guard_copy((const uint8_t *)data, size), size, false);
    uint8_t out[1200];
    uint32_t written = 77;
    const iso_status status = build(&spec, &given, out, sizeof out, &written, fault);
    if (status != ISO_OK) {
        CHECK(written == 77 && fault->status == status);
        CHECK(fault->field == number && fault->offset == 10);
        CHECK(fault->length == size);
    }
    return status;
}

static void test_wrong_values_are_refused_with_their_place(void)
{
    iso_fault fault;
    CHECK(build_one(F_AMOUNT, "1250", 4, &fault) == ISO_E_LENGTH && fault.position == 0);
    CHECK(build_one(F_AMOUNT, "00000000125x", 12, &fault) == ISO_E_CONTENT);
    CHECK(fault.position == 11);
    CHECK(build_one(F_PAN, "12345678901234567890", 20, &fault) == ISO_E_LENGTH);
    CHECK(build_one(F_PAN, "", 0, &fault) == ISO_E_LENGTH);
    CHECK(build_one(F_BYTES, "123", 3, &fault) == ISO_E_LENGTH); /* odd digits, counted in bytes */
    CHECK(build_one(F_BYTES, "1234", 4, &fault) == ISO_OK);
    CHECK(build_one(F_BYTES, "", 0, &fault) == ISO_OK);
    CHECK(build_one(F_TERMINAL, "1000000\x01", 8, &fault) == ISO_E_CONTENT && fault.position == 7);
    CHECK(build_one(F_TEXT, "A\xD6", 2, &fault) == ISO_E_TEXT && fault.position == 1);
    CHECK(build_one(F_ICC, "\x82\x00\x9F", 3, &fault) == ISO_E_TLV && fault.position == 2);
    CHECK(build_one(F_ICC, "\x82\x81\x01\xFF", 4, &fault) == ISO_E_CANONICAL);
    CHECK(build_one(F_ICC, "\x82\x00\x82\x00", 4, &fault) == ISO_E_DUPLICATE);
    CHECK(build_one(F_ICC, "\xDF\x01\x00\xDF\x01\x00", 6, &fault) == ISO_OK);
    CHECK(build_one(54, "\xDF\x01\x00\xDF\x01\x00", 6, &fault) == ISO_E_DUPLICATE);
    CHECK(build_one(F_MAC, "1234567", 7, &fault) == ISO_E_LENGTH);
    CHECK(build_one(F_FEE, "E000000001", 10, &fault) == ISO_E_CONTENT && fault.position == 0);
    CHECK(build_one(37, "ABCDEFGHIJK\xE9", 12, &fault) == ISO_E_CONTENT && fault.position == 11);
}

static void test_wire_values_are_copied_unchanged(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    draft given = {{0}, {{0}}};
    put(&given, F_PAN, "\x03\x12\x3F", 3, true); /* pad F stays F */
    put(&given, F_AMOUNT, "000000001250", 12, false);
    uint8_t out[64];
    uint32_t size = 0;
    iso_fault fault;
    CHECK(build(&spec, &given, out, sizeof out, &size, &fault) == ISO_OK);
    CHECK(size == 19 && memcmp(out + 10, "\x03\x12\x3F", 3) == 0);
}

/* ---- tracks that may be encrypted -------------------------------------------------------------
 */

/* Values of fields that are not present may be anything, also those that tell secrets. */
static void test_a_field_that_is_not_there_tells_nothing(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    for (uint32_t as_wire = 0; as_wire < 2; as_wire++) {
        draft given = {{0}, {{0}}};
        put(&given, F_TRACK, "\x04\xAA\xAA", 3, true);
        put(&given, F_SECURITY, as_wire ? "\x10\0\0\0\0\0\0\0" : "1000000000000000",
            as_wire ? 8 : 16, as_wire == 1);
        given.present[0] &= ~iso_bit(F_SECURITY);
        uint8_t out[64];
        uint32_t size = 0;
        iso_fault fault;
        CHECK(build(&spec, &given, out, sizeof out, &size, &fault) == ISO_E_TRACK);
    }
}

/* It may be shorter than the place that is looked at. */
static void test_a_short_field_tells_nothing(void)
{
    iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_fault fault;
    spec.fields[F_SECURITY] = (iso_field){PLAIN(N), PREFIX(ASCII, 1, 0, 9)};
    CHECK(iso_spec_check(&spec, &fault) == ISO_OK);
    for (uint32_t length = 0; length < 5; length++) {
        draft given = {{0}, {{0}}};
        put(&given, F_TRACK_E, "12=34", 5, false);
        put(&given, F_SECURITY, (const char *)guard_copy((const uint8_t *)"99999", length), length,
            false);
        uint8_t out[64];
        uint32_t size = 0;
        CHECK(build(&spec, &given, out, sizeof out, &size, &fault) == ISO_OK);
        put(&given, F_TRACK_E, "12?34", 5, false);
        CHECK(build(&spec, &given, out, sizeof out, &size, &fault) ==
              (length > 2 ? ISO_OK : ISO_E_TRACK));
    }
}

static iso_status build_track(const char *track, uint32_t track_size, bool track_as_wire,
                              const char *security, bool security_as_wire, iso_fault *fault)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    draft given = {{0}, {{0}}};
    put(&given, F_TRACK, track, track_size, track_as_wire);
    if (security != NULL) {
        put(&given, F_SECURITY, security, security_as_wire ? 8 : 16, security_as_wire);
    }
    uint8_t out[64];
    uint32_t size = 0;
    const iso_status status = build(&spec, &given, out, sizeof out, &size, fault);
    if (status == ISO_OK) {
        iso_layout layout;
        iso_fault second;
        const uint32_t count = iso_index(&spec, out, size, 0, &layout, &second, 1);
        /* What may be built may be read. A track and its excuse that are copied together were sound
         * where they came from: the builder does not look again. */
        CHECK(count == 0 || (track_as_wire && security_as_wire));
    }
    return status;
}

static void test_a_track_must_be_one_unless_field_53_says_that_it_is_encrypted(void)
{
    iso_fault fault;
    CHECK(build_track("62=30", 5, false, NULL, false, &fault) == ISO_OK);
    CHECK(build_track("62D30", 5, false, NULL, false, &fault) == ISO_OK);
    CHECK(build_track("62=30A", 6, false, NULL, false, &fault) == ISO_E_TRACK);
    CHECK(fault.field == F_TRACK && fault.position == 5);
    CHECK(build_track("62:30", 5, false, NULL, false, &fault) == ISO_E_CONTENT);
    CHECK(fault.position == 2);
    CHECK(build_track("AAAA", 4, false, "1000000000000000", false, &fault) == ISO_OK);
    CHECK(build_track("AAAA", 4, false, "2100000000000000", false, &fault) == ISO_E_TRACK);
    CHECK(build_track("AAGA", 4, false, "1000000000000000", false, &fault) == ISO_E_CONTENT);
    CHECK(build_track("AAAA", 4, false, "\x10\0\0\0\0\0\0\0", true, &fault) == ISO_OK);
    CHECK(build_track("AAAA", 4, false, "\x21\0\0\0\0\0\0\0", true, &fault) == ISO_E_TRACK);
}

/* A router that changes or drops field 53 must not send an encrypted track as a plain one. */
static void test_a_copied_track_is_looked_at_again_when_field_53_has_changed(void)
{
    iso_fault fault;
    const char *const encrypted = "\x04\xAA\xAA";
    const char *const plain = "\x05\x62\xD3\x00";
    CHECK(build_track(encrypted, 3, true, "\x10\0\0\0\0\0\0\0", true, &fault) == ISO_OK);
    CHECK(build_track(encrypted, 3, true, "1000000000000000", false, &fault) == ISO_OK);
    CHECK(build_track(encrypted, 3, true, "2000000000000000", false, &fault) == ISO_E_TRACK);
    CHECK(fault.field == F_TRACK && fault.offset == 10);
    CHECK(build_track(encrypted, 3, true, NULL, false, &fault) == ISO_E_TRACK);
    CHECK(build_track(plain, 4, true, NULL, false, &fault) == ISO_OK);
    CHECK(build_track(plain, 4, true, "2000000000000000", false, &fault) == ISO_OK);
    CHECK(build_track(plain, 4, true, "\x21\0\0\0\0\0\0\0", true, &fault) == ISO_OK);
}

/* Every sample again with one character of one value changed: refused there, or a message. */
static void test_damaged_values_are_refused_or_make_a_message(void)
{
    uint32_t state = 55;
    uint32_t refused = 0;
    iso_spec specs[TABLE_SHAPES];
    for (uint32_t shape = 0; shape < TABLE_SHAPES; shape++) {
        specs[shape] = make_shape(shape);
    }
    for (uint32_t round = 0; round < 30000; round++) {
        const iso_spec *const spec = &specs[round % TABLE_SHAPES];
        make_sample(spec, &state, false, &made);
        uint32_t number = dice_between(&state, 2, spec->field_max);
        while (made.values[number].size == 0) {
            number = number < spec->field_max ? number + 1 : F_SECURITY;
            if (number == F_SECURITY && made.values[F_SECURITY].size == 0) {
                break;
            }
        }
        iso_value *const value = &made.values[number];
        if (value->size == 0) {
            continue;
        }
        const uint32_t place = dice(&state) % value->size;
        made.store[(uint32_t)(value->data - made.store) + place] = (uint8_t)dice(&state);
        value->size -= dice(&state) % 16 == 0 ? 1 : 0;
        static uint8_t out[1 << 15];
        uint32_t size = 0;
        iso_fault fault;
        const iso_status status =
            iso_build(spec, PURCHASE, made.present, made.values, out, sizeof out, &size, &fault);
        if (status == ISO_OK) {
            iso_layout layout;
            CHECK(iso_index(spec, out, size, 0, &layout, &fault, 1) == 0);
            continue;
        }
        refused++;
        CHECK(fault.status == status && fault.position <= made.values[fault.field].size);
        CHECK(fault.field == number || (number == F_SECURITY && status == ISO_E_TRACK));
    }
    CHECK(refused > 1000);
}

int main(void)
{
    RUN(test_reading_and_building_undo_each_other);
    RUN(test_every_smaller_buffer_is_refused);
    RUN(test_the_size_can_be_known_before);
    RUN(test_a_message_looks_on_the_wire_as_it_should);
    RUN(test_the_mti_must_be_four_digits);
    RUN(test_bitmaps_are_announced_as_the_fields_need_them);
    RUN(test_an_empty_bitmap_that_came_is_kept);
    RUN(test_bit_65_is_a_field_where_there_are_two_bitmaps);
    RUN(test_more_bitmaps_than_the_spec_has_are_refused);
    RUN(test_undefined_fields_are_refused);
    RUN(test_wrong_values_are_refused_with_their_place);
    RUN(test_wire_values_are_copied_unchanged);
    RUN(test_a_field_that_is_not_there_tells_nothing);
    RUN(test_a_short_field_tells_nothing);
    RUN(test_a_track_must_be_one_unless_field_53_says_that_it_is_encrypted);
    RUN(test_a_copied_track_is_looked_at_again_when_field_53_has_changed);
    RUN(test_damaged_values_are_refused_or_make_a_message);
    return 0;
}
