#include "table.h"

static void test_what_is_built_can_be_read_back(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    uint8_t out[512];
    const uint32_t size = build_sample(&spec, out, sizeof out);
    iso_layout layout;
    iso_fault fault;
    CHECK(iso_index(&spec, guard_copy(out, size), size, 0, &layout, &fault) == ISO_OK);
    uint8_t text[64];
    iso_mti_unpack(&spec, out, 0, text);
    CHECK(memcmp(text, "0200", 4) == 0);
    const iso_slice *const pan = &layout.slices[iso_layout_find(layout.present, F_PAN)];
    iso_unpack(&spec.fields[F_PAN], out + pan->offset, pan->length, text);
    CHECK(memcmp(text, "6222000000000000019", 19) == 0);
    const iso_slice *const track = &layout.slices[iso_layout_find(layout.present, F_TRACK)];
    iso_unpack(&spec.fields[F_TRACK], out + track->offset, track->length, text);
    CHECK(memcmp(text, "6222000000000017=3012201", 24) == 0);
}

/* The output ends at an unreadable page too: one byte too few never writes over it. */
static void test_every_smaller_buffer_is_refused(void)
{
    const iso_spec spec = make_table(128, ISO_FORM_ASCII, ISO_BITMAP_HEX);
    uint8_t out[512];
    const uint32_t whole = build_sample(&spec, out, sizeof out);
    iso_value values[ISO_TABLE_SIZE];
    fill_values(values, 128);
    for (uint32_t capacity = 0; capacity < whole; capacity++) {
        uint32_t size = 77;
        iso_fault fault;
        CHECK(iso_build(&spec, (const uint8_t *)"0200", values, false, guard_copy(NULL, capacity),
                        capacity, &size, &fault) == ISO_E_SPACE);
        CHECK(size == 77);
    }
    uint32_t size = 0;
    iso_fault fault;
    uint8_t *const exact = guard_copy(NULL, whole);
    CHECK(iso_build(&spec, (const uint8_t *)"0200", values, false, exact, whole, &size, &fault) ==
          ISO_OK);
    CHECK(size == whole && memcmp(exact, out, whole) == 0);
}

static void test_the_size_can_be_known_before(void)
{
    const iso_spec spec = make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    uint8_t out[512];
    const uint32_t whole = build_sample(&spec, out, sizeof out);
    iso_value values[ISO_TABLE_SIZE];
    fill_values(values, 128);
    uint32_t total = iso_build_base_size(&spec, true);
    for (uint32_t field = 2; field < ISO_TABLE_SIZE; field++) {
        if (values[field].data != NULL) {
            total += iso_build_field_size(&spec.fields[field], &values[field]);
        }
    }
    CHECK(total == whole);
}

static iso_status build_one(uint32_t field, const char *data, uint32_t size, iso_fault *fault)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_value values[ISO_TABLE_SIZE];
    memset(values, 0, sizeof values);
    /* Behind guard pages: a value is never read past its size. */
    values[field] = (iso_value){guard_copy((const uint8_t *)data, size), size, false};
    uint8_t out[1200];
    uint32_t written = 0;
    return iso_build(&spec, (const uint8_t *)"0200", values, false, out, sizeof out, &written,
                     fault);
}

static void test_wrong_values_are_refused_with_their_place(void)
{
    iso_fault fault;
    CHECK(build_one(F_AMOUNT, "1250", 4, &fault) == ISO_E_LENGTH);
    CHECK(fault.field == F_AMOUNT && fault.length == 4);
    CHECK(build_one(F_AMOUNT, "00000000125x", 12, &fault) == ISO_E_CONTENT);
    CHECK(fault.position == 11);
    CHECK(build_one(F_PAN, "12345678901234567890", 20, &fault) == ISO_E_LENGTH);
    CHECK(build_one(F_PAN, "", 0, &fault) == ISO_E_LENGTH);
    CHECK(build_one(F_BYTES, "123", 3, &fault) == ISO_E_LENGTH); /* odd digits, counted in bytes */
    CHECK(build_one(F_BYTES, "1234", 4, &fault) == ISO_OK);
    CHECK(build_one(F_TRACK, "1=2=", 4, &fault) == ISO_OK);
    CHECK(build_one(F_TRACK, "1:2", 3, &fault) == ISO_E_CONTENT);
    CHECK(build_one(F_TERMINAL, "1000000\x01", 8, &fault) == ISO_E_CONTENT);
    CHECK(build_one(F_TEXT, "\xD6", 1, &fault) == ISO_E_TEXT);
    CHECK(build_one(F_ICC, "\x9F", 1, &fault) == ISO_E_TLV);
    CHECK(build_one(F_MAC, "1234567", 7, &fault) == ISO_E_LENGTH);
    CHECK(build_one(3, "000000", 6, &fault) == ISO_E_UNDEFINED);
    CHECK(fault.field == 3);
}

static void test_the_mti_must_be_four_digits(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_value values[ISO_TABLE_SIZE];
    memset(values, 0, sizeof values);
    uint8_t out[64];
    uint32_t size = 0;
    iso_fault fault;
    CHECK(iso_build(&spec, (const uint8_t *)"02X0", values, false, out, sizeof out, &size,
                    &fault) == ISO_E_MTI);
    CHECK(iso_build(&spec, (const uint8_t *)"0800", values, false, out, sizeof out, &size,
                    &fault) == ISO_OK);
    CHECK(size == 10);
}

static void test_wire_values_are_copied_unchanged(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_value values[ISO_TABLE_SIZE];
    memset(values, 0, sizeof values);
    values[F_PAN] = (iso_value){(const uint8_t *)"\x03\x12\x3F", 3, true}; /* pad F stays F */
    uint8_t out[64];
    uint32_t size = 0;
    iso_fault fault;
    CHECK(iso_build(&spec, (const uint8_t *)"0200", values, false, out, sizeof out, &size,
                    &fault) == ISO_OK);
    CHECK(size == 13 && memcmp(out + 10, "\x03\x12\x3F", 3) == 0);
}

static void test_a_second_bitmap_appears_when_needed_or_asked_for(void)
{
    const iso_spec spec = make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_value values[ISO_TABLE_SIZE];
    memset(values, 0, sizeof values);
    uint8_t out[64];
    uint32_t size = 0;
    iso_fault fault;
    CHECK(iso_build(&spec, (const uint8_t *)"0800", values, true, out, sizeof out, &size, &fault) ==
          ISO_OK);
    CHECK(size == 18 && out[2] == 0x80 && out[10] == 0);
    set_value(values, F_LAST, "12345678", 8);
    CHECK(iso_build(&spec, (const uint8_t *)"0800", values, false, out, sizeof out, &size,
                    &fault) == ISO_OK);
    CHECK(size == 26 && out[2] == 0x80 && out[17] == 0x01);
}

int main(void)
{
    RUN(test_what_is_built_can_be_read_back);
    RUN(test_every_smaller_buffer_is_refused);
    RUN(test_the_size_can_be_known_before);
    RUN(test_wrong_values_are_refused_with_their_place);
    RUN(test_the_mti_must_be_four_digits);
    RUN(test_wire_values_are_copied_unchanged);
    RUN(test_a_second_bitmap_appears_when_needed_or_asked_for);
    return 0;
}
