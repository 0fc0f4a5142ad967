#include "table.h"

static uint8_t sample[512];

static iso_status index_at_guard(const iso_spec *spec, const uint8_t *data, uint32_t size,
                                 iso_layout *layout, iso_fault *fault)
{
    return iso_index(spec, guard_copy(data, size), size, 0, layout, fault);
}

static void test_every_field_is_found_back_to_back(void)
{
    const iso_spec spec = make_table(128, ISO_FORM_ASCII, ISO_BITMAP_HEX);
    const uint32_t size = build_sample(&spec, sample, sizeof sample);
    iso_layout layout;
    iso_fault fault;
    CHECK(index_at_guard(&spec, sample, size, &layout, &fault) == ISO_OK);
    CHECK(layout.count == 13);
    CHECK(layout.fields_offset == 4 + 16 + 16);
    CHECK(layout.size == size);
    const int32_t terminal = iso_layout_find(layout.present, F_TERMINAL);
    CHECK(terminal >= 0);
    CHECK(memcmp(sample + layout.slices[terminal].offset, "10000001", 8) == 0);
    const int32_t bytes = iso_layout_find(layout.present, F_BYTES);
    CHECK(layout.slices[bytes].length == 4 && layout.slices[bytes].size == 4);
    uint32_t end = layout.fields_offset;
    for (uint32_t i = 0; i < layout.count; i++) {
        CHECK(layout.slices[i].offset >= end && layout.slices[i].offset <= end + 3);
        end = (uint32_t)layout.slices[i].offset + layout.slices[i].size;
    }
    CHECK(end == size);
}

static void test_offsets_count_from_the_header(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint32_t size = build_sample(&spec, sample + 11, sizeof sample - 11);
    iso_layout layout;
    iso_fault fault;
    CHECK(iso_index(&spec, guard_copy(sample, size + 11), size + 11, 11, &layout, &fault) ==
          ISO_OK);
    CHECK(layout.mti_offset == 11 && layout.fields_offset == 21);
}

/* Every proper prefix of a valid message is TRUNCATED: never OK, never a read past the end. */
static void test_every_prefix_is_truncated(void)
{
    for (uint32_t form = 0; form < 2; form++) {
        const iso_spec spec = make_table(128, (iso_digits_form)form, (iso_bitmap_form)form);
        const uint32_t whole = build_sample(&spec, sample, sizeof sample);
        for (uint32_t size = 0; size < whole; size++) {
            iso_layout layout;
            iso_fault fault;
            CHECK(index_at_guard(&spec, sample, size, &layout, &fault) == ISO_E_TRUNCATED);
            CHECK(fault.offset <= size);
        }
    }
}

static void test_trailing_bytes_are_an_error(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint32_t size = build_sample(&spec, sample, sizeof sample);
    iso_layout layout;
    iso_fault fault;
    CHECK(index_at_guard(&spec, sample, size + 2, &layout, &fault) == ISO_E_TRAILING);
    CHECK(fault.offset == size && fault.length == 2);
}

static void test_an_undefined_field_is_named_before_any_field_is_walked(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    /* Fields 4, 5 and 64 announced, nothing behind the bitmap: 5 is the fault, not the end. */
    const uint8_t data[] = {0x02, 0x00, 0x18, 0, 0, 0, 0, 0, 0, 0x01};
    iso_layout layout;
    iso_fault fault;
    CHECK(index_at_guard(&spec, data, sizeof data, &layout, &fault) == ISO_E_UNDEFINED);
    CHECK(fault.field == 5 && fault.offset == 2);
    const iso_spec two = make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint8_t with_70[] = {0x08, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0, 0, 0};
    CHECK(index_at_guard(&two, with_70, sizeof with_70, &layout, &fault) == ISO_E_UNDEFINED);
    CHECK(fault.field == 70 && fault.offset == 10);
}

static void test_bit_1_is_an_error_where_there_is_no_second_bitmap(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint8_t data[] = {0x02, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0};
    iso_layout layout;
    iso_fault fault;
    CHECK(index_at_guard(&spec, data, sizeof data, &layout, &fault) == ISO_E_BITMAP);
    CHECK(fault.field == 1 && fault.offset == 2);
}

static void test_a_message_may_have_no_fields_at_all(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint8_t data[] = {0x08, 0x00, 0, 0, 0, 0, 0, 0, 0, 0};
    iso_layout layout;
    iso_fault fault;
    CHECK(index_at_guard(&spec, data, sizeof data, &layout, &fault) == ISO_OK);
    CHECK(layout.count == 0 && layout.present[0] == 0);
}

static iso_status change(uint32_t field, uint32_t byte, uint8_t to, iso_fault *fault)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint32_t size = build_sample(&spec, sample, sizeof sample);
    iso_layout layout;
    CHECK(index_at_guard(&spec, sample, size, &layout, fault) == ISO_OK);
    const int32_t at = iso_layout_find(layout.present, field);
    CHECK(at >= 0);
    sample[layout.slices[at].offset + byte] = to;
    const iso_status status = index_at_guard(&spec, sample, size, &layout, fault);
    CHECK(status == ISO_OK || fault->field == field);
    return status;
}

static void test_content_is_checked_and_pads_only_where_the_spec_says_so(void)
{
    iso_fault fault;
    CHECK(change(F_AMOUNT, 5, 0x5A, &fault) == ISO_E_CONTENT);
    CHECK(fault.position == fault.offset + 5);
    CHECK(change(F_PAN, 9, 0x9F, &fault) == ISO_OK);
    CHECK(change(F_PAN, 9, 0xA0, &fault) == ISO_E_CONTENT);
    CHECK(change(F_ENTRY, 1, 0x1F, &fault) == ISO_OK);
    CHECK(change(F_CARD, 0, 0xF0, &fault) == ISO_OK);
    CHECK(change(F_STRICT, 1, 0x3F, &fault) == ISO_E_CONTENT);
    CHECK(change(F_TRACK, 0, 0xEF, &fault) == ISO_OK);
    CHECK(change(F_TERMINAL, 7, 0x80, &fault) == ISO_E_CONTENT);
    CHECK(change(F_TERMINAL, 7, '\n', &fault) == ISO_E_CONTENT);
    CHECK(change(F_TEXT, 2, ' ', &fault) == ISO_E_TEXT);
    CHECK(change(F_ICC, 2, 0x7F, &fault) == ISO_E_TLV);
    CHECK(change(F_PRIVATE, 0, 0x80, &fault) == ISO_OK);
}

static void test_an_oversized_message_is_refused(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint32_t size = ISO_MESSAGE_SIZE_MAX + 1;
    iso_layout layout;
    iso_fault fault;
    CHECK(iso_index(&spec, guard_copy(NULL, size), size, 0, &layout, &fault) == ISO_E_SIZE);
}

static void test_random_bytes_are_either_a_message_or_an_error(void)
{
    uint32_t state = 20240601;
    uint32_t accepted = 0;
    for (uint32_t round = 0; round < 200000; round++) {
        const uint32_t form = dice(&state) % 2;
        const uint8_t field_max = dice(&state) % 2 ? 64 : 128;
        const iso_spec spec = make_table(field_max, (iso_digits_form)form, (iso_bitmap_form)form);
        uint32_t size = build_sample(&spec, sample, sizeof sample);
        /* Mostly a valid message with a few wrong bytes: pure noise never gets past the bitmap. */
        for (uint32_t i = dice(&state) % 4; i > 0; i--) {
            sample[dice(&state) % size] = (uint8_t)dice(&state);
        }
        size = dice(&state) % 8 == 0 ? dice(&state) % size : size;
        iso_layout layout;
        iso_fault fault = {0, 0, 0, 0};
        const iso_status status = index_at_guard(&spec, sample, size, &layout, &fault);
        if (status == ISO_OK) {
            accepted++;
            CHECK(layout.size == size);
        } else {
            CHECK(status < ISO_E_SPACE);
            CHECK(fault.offset <= size && fault.position <= size);
        }
    }
    CHECK(accepted > 1000);
}

int main(void)
{
    RUN(test_every_field_is_found_back_to_back);
    RUN(test_offsets_count_from_the_header);
    RUN(test_every_prefix_is_truncated);
    RUN(test_trailing_bytes_are_an_error);
    RUN(test_an_undefined_field_is_named_before_any_field_is_walked);
    RUN(test_bit_1_is_an_error_where_there_is_no_second_bitmap);
    RUN(test_a_message_may_have_no_fields_at_all);
    RUN(test_content_is_checked_and_pads_only_where_the_spec_says_so);
    RUN(test_an_oversized_message_is_refused);
    RUN(test_random_bytes_are_either_a_message_or_an_error);
    return 0;
}
