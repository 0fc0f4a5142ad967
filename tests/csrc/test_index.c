#include "table.h"

enum { FAULTS_MAX = 64 };

static sample made;

static uint32_t index_at_guard(const iso_spec *spec, const uint8_t *data, uint32_t size,
                               iso_layout *layout, iso_fault *faults, uint32_t capacity)
{
    return iso_index(spec, guard_copy(data, size), size, 0, layout, faults, capacity);
}

static iso_status first_fault(const iso_spec *spec, const uint8_t *data, uint32_t size,
                              iso_fault *fault)
{
    iso_layout layout;
    return index_at_guard(spec, data, size, &layout, fault, 1) == 0 ? ISO_OK : fault->status;
}

/* ---- whole messages ---------------------------------------------------------------------------
 */

static void test_every_field_is_found_with_what_was_put_into_it(void)
{
    uint32_t state = 41;
    for (uint32_t round = 0; round < 2000; round++) {
        const iso_spec spec = make_shape(round % TABLE_SHAPES);
        make_sample(&spec, &state, round < TABLE_SHAPES, &made);
        iso_layout layout;
        iso_fault faults[2];
        const uint8_t *const data = guard_copy(made.message, made.size);
        CHECK(iso_index(&spec, data, made.size, 0, &layout, faults, 2) == 0);
        CHECK(memcmp(layout.head.present, made.present, sizeof made.present) == 0);
        CHECK(layout.head.mti == 200);
        CHECK(layout.head.fields_offset == iso_build_base_size(&spec, made.present));
        uint32_t end = layout.head.fields_offset;
        uint32_t count = 0;
        for (uint32_t number = 2; number <= spec.field_max; number++) {
            if (made.values[number].data == NULL) {
                continue;
            }
            const iso_field *const field = &spec.fields[number];
            const iso_slice *const slice = &layout.slices[count++];
            CHECK(slice->offset ==
                  end + iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form));
            CHECK(slice->length == made.lengths[number]);
            CHECK(slice->size == bytes_of(field, made.lengths[number]));
            CHECK(iso_value_length(field, slice) == made.values[number].size);
            uint8_t *const out = guard_front(NULL, made.values[number].size);
            iso_value_write(field, data, slice, out);
            CHECK(memcmp(out, made.values[number].data, made.values[number].size) == 0);
            end = (uint32_t)slice->offset + slice->size;
        }
        CHECK(count == layout.count && end == made.size);
    }
}

static void test_offsets_count_from_the_header(void)
{
    uint32_t state = 2;
    for (uint32_t shape = 0; shape < TABLE_SHAPES; shape++) {
        const iso_spec spec = make_shape(shape);
        make_sample(&spec, &state, false, &made);
        iso_layout plain;
        iso_layout moved;
        iso_fault fault;
        CHECK(index_at_guard(&spec, made.message, made.size, &plain, &fault, 1) == 0);
        memmove(made.message + 11, made.message, made.size);
        CHECK(iso_index(&spec, guard_copy(made.message, made.size + 11), made.size + 11, 11, &moved,
                        &fault, 1) == 0);
        CHECK(moved.head.fields_offset == plain.head.fields_offset + 11);
        for (uint32_t i = 0; i < plain.count; i++) {
            CHECK(moved.slices[i].offset == plain.slices[i].offset + 11);
            CHECK(moved.slices[i].size == plain.slices[i].size);
        }
        uint32_t mti = 0;
        CHECK(iso_mti_read(&spec, made.message, made.size + 11, 11, &mti, &fault) == ISO_OK);
        CHECK(mti == 200);
    }
}

/* Every proper prefix of a valid message is TRUNCATED: never OK, never a read past the end. */
static void test_every_prefix_is_truncated(void)
{
    uint32_t state = 3;
    for (uint32_t shape = 0; shape < TABLE_SHAPES; shape++) {
        const iso_spec spec = make_shape(shape);
        make_sample(&spec, &state, true, &made);
        for (uint32_t size = 0; size < made.size; size++) {
            iso_layout layout;
            iso_fault faults[FAULTS_MAX];
            const uint32_t count =
                index_at_guard(&spec, made.message, size, &layout, faults, FAULTS_MAX);
            CHECK(count == 1 && faults[0].status == ISO_E_TRUNCATED);
            CHECK(faults[0].offset <= size && faults[0].position == faults[0].offset);
        }
    }
}

static void test_trailing_bytes_are_an_error(void)
{
    uint32_t state = 4;
    const iso_spec spec = make_shape(1);
    make_sample(&spec, &state, true, &made);
    iso_fault fault;
    for (uint32_t more = 1; more < 4; more++) {
        CHECK(first_fault(&spec, made.message, made.size + more, &fault) == ISO_E_TRAILING);
        CHECK(fault.field == 0 && fault.offset == made.size && fault.position == made.size &&
              fault.length == more);
    }
}

static void test_a_message_may_have_no_fields_at_all(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint8_t data[] = {0x08, 0x00, 0, 0, 0, 0, 0, 0, 0, 0};
    iso_layout layout;
    iso_fault fault;
    CHECK(index_at_guard(&spec, data, sizeof data, &layout, &fault, 1) == 0);
    CHECK(layout.count == 0 && layout.head.present[0] == 0 && layout.head.mti == 800 &&
          layout.head.fields_offset == 10);
}

static void test_the_largest_message_is_read_and_a_larger_one_refused(void)
{
    static uint8_t data[ISO_MESSAGE_SIZE_MAX + 1];
    iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_fault fault;
    memset(&spec.fields, 0, sizeof spec.fields);
    spec.fields[64] = (iso_field){PLAIN(B), FIXED(ISO_MESSAGE_SIZE_MAX - 10)};
    CHECK(iso_spec_check(&spec, &fault) == ISO_OK);
    data[0] = 0x02;
    data[9] = 0x01;
    iso_layout layout;
    iso_head head;
    CHECK(index_at_guard(&spec, data, ISO_MESSAGE_SIZE_MAX, &layout, &fault, 1) == 0);
    CHECK(layout.slices[0].offset == 10 && layout.slices[0].size == ISO_MESSAGE_SIZE_MAX - 10);
    CHECK(iso_head_read(&spec, data, ISO_MESSAGE_SIZE_MAX, 0, &head));
    const uint32_t larger = ISO_MESSAGE_SIZE_MAX + 1;
    CHECK(first_fault(&spec, data, larger, &fault) == ISO_E_SIZE);
    CHECK(fault.field == 0 && fault.offset == 0 && fault.position == 0);
    CHECK(!iso_head_read(&spec, data, larger, 0, &head));
    uint32_t mti = 77;
    CHECK(iso_mti_read(&spec, data, larger, 0, &mti, &fault) == ISO_E_SIZE && mti == 77);
}

/* ---- MTI and bitmaps --------------------------------------------------------------------------
 */

/* All 65536 pairs of bytes as a packed MTI, and every byte at every place of the others. */
static void test_every_mti_is_four_digits_or_refused(void)
{
    const iso_spec packed = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    for (uint32_t pair = 0; pair < 65536; pair++) {
        const uint8_t data[10] = {(uint8_t)(pair >> 8), (uint8_t)pair};
        uint32_t value = 0;
        bool good = true;
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t digit = pair >> (12 - 4 * i) & 15;
            good = good && digit <= 9;
            value = value * 10 + digit;
        }
        uint32_t mti = 77777;
        iso_fault fault;
        iso_head head;
        CHECK(iso_mti_read(&packed, data, 10, 0, &mti, &fault) == (good ? ISO_OK : ISO_E_MTI));
        CHECK(mti == (good ? value : 77777));
        CHECK(iso_head_read(&packed, data, 10, 0, &head) == good);
        CHECK(!good || (head.mti == value && head.fields_offset == 10));
        CHECK(good || (fault.field == 0 && fault.offset == 0));
        CHECK(first_fault(&packed, data, 10, &fault) == (good ? ISO_OK : ISO_E_MTI));
    }
    for (uint32_t ebcdic = 0; ebcdic < 2; ebcdic++) {
        const iso_spec spec =
            make_table(64, ebcdic ? ISO_FORM_EBCDIC : ISO_FORM_ASCII, ISO_BITMAP_BINARY);
        const uint8_t zero = ebcdic ? 0xF0 : '0';
        for (uint32_t place = 0; place < 4; place++) {
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint8_t data[12] = {zero, zero, zero, zero};
                data[place] = (uint8_t)byte;
                iso_fault fault;
                const bool good = byte >= zero && byte <= zero + 9u;
                CHECK(first_fault(&spec, data, 12, &fault) == (good ? ISO_OK : ISO_E_MTI));
            }
        }
    }
}

static void test_a_truncated_head_is_told_apart_by_its_part(void)
{
    uint32_t state = 6;
    for (uint32_t shape = 0; shape < TABLE_SHAPES; shape++) {
        const iso_spec spec = make_shape(shape);
        make_sample(&spec, &state, true, &made);
        const uint32_t mti_size = iso_number_size(4, (iso_digits_form)spec.mti_form);
        const uint32_t bitmap_size = iso_bitmap_size((iso_bitmap_form)spec.bitmap_form);
        const uint32_t whole = iso_build_base_size(&spec, made.present);
        CHECK(whole == mti_size + bitmap_size * (spec.field_max / 64));
        for (uint32_t size = 0; size < whole; size++) {
            iso_fault fault;
            iso_head head;
            uint32_t mti = 0;
            CHECK(first_fault(&spec, made.message, size, &fault) == ISO_E_TRUNCATED);
            CHECK(fault.field == (size < mti_size ? 0 : 1));
            CHECK(fault.offset ==
                  (size < mti_size ? 0 : mti_size + (size - mti_size) / bitmap_size * bitmap_size));
            const uint8_t *const data = guard_copy(made.message, size);
            CHECK(!iso_head_read(&spec, data, size, 0, &head));
            CHECK(iso_mti_read(&spec, data, size, 0, &mti, &fault) ==
                  (size < mti_size ? ISO_E_TRUNCATED : ISO_OK));
        }
        iso_head head;
        CHECK(iso_head_read(&spec, guard_copy(made.message, whole), whole, 0, &head));
    }
}

static void test_a_wrong_hex_digit_in_any_bitmap_is_named(void)
{
    uint32_t state = 8;
    const iso_spec spec = make_table(192, ISO_FORM_ASCII, ISO_BITMAP_HEX);
    for (uint32_t place = 4; place < 4 + 48; place++) {
        make_sample(&spec, &state, true, &made);
        made.message[place] = 'G';
        iso_fault fault;
        CHECK(first_fault(&spec, made.message, made.size, &fault) == ISO_E_BITMAP);
        CHECK(fault.field == 1 && fault.position == place);
        CHECK(fault.offset == 4 + (place - 4) / 16 * 16);
        iso_head head;
        CHECK(!iso_head_read(&spec, made.message, made.size, 0, &head));
    }
}

static void test_bit_1_is_an_error_where_there_is_no_second_bitmap(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    const uint8_t data[18] = {0x02, 0x00, 0x80};
    iso_fault fault;
    iso_head head;
    CHECK(first_fault(&spec, data, sizeof data, &fault) == ISO_E_BITMAP);
    CHECK(fault.field == 1 && fault.offset == 2);
    CHECK(!iso_head_read(&spec, data, sizeof data, 0, &head));
}

static void test_the_bitmaps_that_are_announced_are_read_and_no_others(void)
{
    const uint8_t two[18] = {0x08, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0};
    uint8_t three[26] = {0};
    memcpy(three, two, sizeof two);
    iso_head head;
    iso_fault fault;
    /* Three: bit 65 announces, and the third bitmap is empty. */
    const iso_spec wide = make_table(192, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    CHECK(iso_head_read(&wide, three, 26, 0, &head));
    CHECK(head.fields_offset == 26 && head.present[0] == iso_bit(1) &&
          head.present[1] == iso_bit(65) && head.present[2] == 0);
    CHECK(first_fault(&wide, three, 26, &fault) == ISO_OK);
    CHECK(first_fault(&wide, two, 18, &fault) == ISO_E_TRUNCATED);
    CHECK(fault.field == 1 && fault.offset == 18);
    /* In the third, bit 1 is field 129. */
    three[18] = 0x80;
    CHECK(first_fault(&wide, three, 26, &fault) == ISO_E_TRUNCATED && fault.field == F_TERTIARY);
    /* Two: bit 65 is field 65, of one byte. */
    const iso_spec narrow = make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    CHECK(iso_head_read(&narrow, two, 18, 0, &head));
    CHECK(head.fields_offset == 18 && head.present[1] == iso_bit(65));
    CHECK(first_fault(&narrow, two, 18, &fault) == ISO_E_TRUNCATED && fault.field == F_BIT65);
    CHECK(first_fault(&narrow, three, 19, &fault) == ISO_OK);
    /* One: words that were not read are empty, whatever was there before. */
    const uint8_t one[10] = {0x08, 0x00};
    memset(&head, 0xFF, sizeof head);
    CHECK(iso_head_read(&wide, one, 10, 0, &head));
    CHECK(head.present[0] == 0 && head.present[1] == 0 && head.present[2] == 0);
}

static void test_undefined_fields_are_named_before_any_field_is_walked(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    /* Fields 4, 21 and 64 announced, nothing behind the bitmap: 21 is the fault, not the end. */
    const uint8_t data[] = {0x02, 0x00, 0x10, 0, 0x08, 0, 0, 0, 0, 0x01};
    iso_layout layout;
    iso_fault faults[4];
    CHECK(index_at_guard(&spec, data, sizeof data, &layout, faults, 1) == 1);
    CHECK(faults[0].status == ISO_E_UNDEFINED && faults[0].field == 21 && faults[0].offset == 4);
    CHECK(layout.count == 0 && layout.head.present[0] == 0);
    CHECK(index_at_guard(&spec, data, sizeof data, &layout, faults, 4) == 2);
    CHECK(faults[1].status == ISO_E_TRUNCATED && faults[1].field == 4);
}

/* The byte of the bitmap that holds the bit, in each form and each of three bitmaps. */
static void test_the_bit_of_an_undefined_field_is_pointed_at(void)
{
    for (uint32_t shape = 2; shape < TABLE_SHAPES; shape += 3) {
        const iso_spec spec = make_shape(shape);
        CHECK(spec.field_max == 192);
        const uint32_t mti_size = iso_number_size(4, (iso_digits_form)spec.mti_form);
        const uint32_t bits_a_byte = spec.bitmap_form == ISO_BITMAP_BINARY ? 8 : 4;
        for (uint32_t number = 2; number <= 192; number++) {
            if (number == 65 || is_present(spec.defined, number)) {
                continue;
            }
            uint64_t present[ISO_BITMAPS_MAX] = {0, 0, 0};
            present[iso_word(number)] = iso_bit(number);
            iso_build_announce(present);
            uint8_t data[4 + 48];
            iso_number_write(data, 4, (iso_digits_form)spec.mti_form, 800);
            const uint32_t bitmap_size = iso_bitmap_size((iso_bitmap_form)spec.bitmap_form);
            for (uint32_t word = 0; word < ISO_BITMAPS_MAX; word++) {
                iso_bitmap_write((iso_bitmap_form)spec.bitmap_form, present[word],
                                 data + mti_size + word * bitmap_size);
            }
            iso_fault fault;
            const uint32_t size = iso_build_base_size(&spec, present);
            CHECK(first_fault(&spec, data, size, &fault) == ISO_E_UNDEFINED);
            CHECK(fault.field == number);
            CHECK(fault.offset == mti_size + (number - 1) / bits_a_byte);
            CHECK(fault.position == fault.offset);
        }
    }
}

/* ---- content ----------------------------------------------------------------------------------
 */

/* Replace one byte of the value of a field in a message with all fields. */
static iso_status change(uint32_t number, uint32_t byte, uint8_t to, iso_fault *fault)
{
    uint32_t state = 9;
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_layout layout;
    do {
        make_sample(&spec, &state, true, &made);
        CHECK(index_at_guard(&spec, made.message, made.size, &layout, fault, 1) == 0);
    } while (layout.slices[slice_index(&spec, &layout, number)].size <= byte);
    const iso_slice *const slice = &layout.slices[slice_index(&spec, &layout, number)];
    made.message[slice->offset + byte] = to;
    const iso_status status = first_fault(&spec, made.message, made.size, fault);
    const iso_field *const field = &spec.fields[number];
    const uint32_t prefix_size =
        iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form);
    CHECK(status == ISO_OK ||
          (fault->field == number && fault->offset == slice->offset - prefix_size &&
           fault->length == slice->length));
    CHECK(status == ISO_OK || status == ISO_E_TLV || status == ISO_E_TEXT ||
          status == ISO_E_TRACK || fault->position == slice->offset + byte);
    return status;
}

static void test_content_is_checked_and_pads_only_where_the_spec_says_so(void)
{
    iso_fault fault;
    CHECK(change(F_AMOUNT, 5, 0x5A, &fault) == ISO_E_CONTENT);
    CHECK(change(F_PAN, 0, 0xA0, &fault) == ISO_E_CONTENT);
    CHECK(change(F_ENTRY, 1, 0x1F, &fault) == ISO_OK);
    CHECK(change(F_ENTRY, 1, 0xF1, &fault) == ISO_E_CONTENT);
    CHECK(change(F_CARD, 0, 0xF0, &fault) == ISO_OK);
    CHECK(change(F_CARD, 0, 0x0F, &fault) == ISO_E_CONTENT);
    CHECK(change(F_STRICT, 1, 0x3F, &fault) == ISO_E_PAD);
    CHECK(change(F_STRICT, 1, 0x30, &fault) == ISO_OK);
    CHECK(change(F_FEE, 5, 0x3F, &fault) == ISO_OK);
    CHECK(change(F_FEE, 5, 0x30, &fault) == ISO_E_PAD);
    CHECK(change(F_COUNT, 2, 'a', &fault) == ISO_E_CONTENT);
    CHECK(change(F_TERMINAL, 7, 0x80, &fault) == ISO_E_CONTENT);
    CHECK(change(F_TERMINAL, 7, '\n', &fault) == ISO_E_CONTENT);
    CHECK(change(F_TEXT, 0, 0xFF, &fault) == ISO_E_TEXT);
    CHECK(change(F_ICC, 0, 0x1F, &fault) == ISO_E_TLV);
    CHECK(change(F_PRIVATE, 0, 0x80, &fault) == ISO_OK);
    CHECK(change(F_MAC, 0, 0xFF, &fault) == ISO_OK);
}

static void test_a_tag_comes_again_only_where_the_spec_says_so(void)
{
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_fault fault;
    uint8_t data[] = {0x02, 0x00, 0,    0,    0,    0,    0,    0,    0x02, 0x00, /* field 55 */
                      0x00, 0x08, 0xDF, 0x01, 0x01, 0xAA, 0xDF, 0x01, 0x01, 0xBB};
    CHECK(first_fault(&spec, data, sizeof data, &fault) == ISO_OK);
    data[13] = data[17] = 0x02;
    CHECK(first_fault(&spec, data, sizeof data, &fault) == ISO_E_DUPLICATE);
    CHECK(fault.field == F_ICC && fault.offset == 10 && fault.position == 16);
    data[18] = 0x81;
    CHECK(first_fault(&spec, data, sizeof data, &fault) == ISO_E_TLV);
    uint8_t longer[] = {0x02, 0x00, 0,    0,    0,    0,    0,    0,
                        0x02, 0x00, 0x00, 0x04, 0xDF, 0x01, 0x81, 0x00};
    CHECK(first_fault(&spec, longer, sizeof longer, &fault) == ISO_E_CANONICAL);
    CHECK(fault.position == 12);
}

/* Fields 35 (packed) and 53. */
static uint32_t track_message(const char *track, uint32_t track_digits, const char *security,
                              uint8_t *out)
{
    memcpy(out, "\x02\x00\x00\x00\x00\x00\x20\x00\x00\x00", 10);
    out[8] = security == NULL ? 0 : 0x08;
    out[10] = (uint8_t)(track_digits / 10 << 4 | track_digits % 10);
    const uint32_t track_size = (track_digits + 1) / 2;
    memcpy(out + 11, track, track_size);
    if (security == NULL) {
        return 11 + track_size;
    }
    memcpy(out + 11 + track_size, security, 8);
    return 19 + track_size;
}

static void test_a_track_is_a_track_unless_field_53_says_that_it_is_encrypted(void)
{
    static const char SECRET[8] = "\x10\x00\x00\x00\x00\x00\x00\x00";
    static const char OPEN[8] = "\x21\x11\x11\x11\x11\x11\x11\x11";
    const iso_spec spec = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    uint8_t data[64];
    iso_fault fault;
    uint32_t size = track_message("\x62\xD3\x00", 5, NULL, data);
    CHECK(first_fault(&spec, data, size, &fault) == ISO_OK);
    size = track_message("\x62\xD3\x00", 5, OPEN, data);
    CHECK(first_fault(&spec, data, size, &fault) == ISO_OK);
    size = track_message("\x62\xA3\xF0", 5, SECRET, data);
    CHECK(first_fault(&spec, data, size, &fault) == ISO_OK);
    size = track_message("\x62\xA3\xF0", 5, OPEN, data);
    CHECK(first_fault(&spec, data, size, &fault) == ISO_E_TRACK);
    CHECK(fault.field == F_TRACK && fault.offset == 10 && fault.position == 11 &&
          fault.length == 5);
    size = track_message("\x62\xA3\xF0", 5, NULL, data);
    CHECK(first_fault(&spec, data, size, &fault) == ISO_E_TRACK);
    /* Cut in front of field 53, and inside it: nobody knows what it says, so only that is told. */
    size = track_message("\x62\xA3\xF0", 5, SECRET, data);
    for (uint32_t cut = 1; cut <= 8; cut++) {
        iso_layout layout;
        iso_fault faults[4];
        CHECK(index_at_guard(&spec, data, size - cut, &layout, faults, 4) == 1);
        CHECK(faults[0].status == ISO_E_TRUNCATED && faults[0].field == F_SECURITY);
    }
    /* Behind a fault elsewhere the track is still looked at. */
    size = track_message("\x62\xA3\xF0", 5, "\x21\x11\x11\x11\x11\x11\x11\x1A", data);
    iso_layout layout;
    iso_fault faults[4];
    CHECK(index_at_guard(&spec, data, size + 1, &layout, faults, 4) == 3);
    CHECK(faults[0].status == ISO_E_CONTENT && faults[0].field == F_SECURITY);
    CHECK(faults[1].status == ISO_E_TRACK && faults[1].field == F_TRACK);
    CHECK(faults[2].status == ISO_E_TRAILING);
}

/* The slices in front of a track are counted across all bitmaps. */
static void test_a_track_is_found_among_the_slices_wherever_it_stands(void)
{
    for (uint32_t number = 2; number <= 192; number++) {
        if (number == 65) {
            continue;
        }
        iso_spec spec = make_table(192, ISO_FORM_BCD, ISO_BITMAP_BINARY);
        iso_fault fault;
        for (uint32_t other = 2; other <= 192; other++) {
            if (other != 65) {
                spec.fields[other] = (iso_field){PLAIN(B), FIXED(1)};
            }
        }
        const uint8_t secret = (uint8_t)(number % 7 == 0 ? 66 : number % 7 == 1 ? 190 : 0);
        spec.fields[number] = (iso_field){PLAIN(TRACK2), FIXED(3), .secret_field = secret,
                                          .secret_position = 0, .secret_character = '1'};
        CHECK(number == secret || iso_spec_check(&spec, &fault) == ISO_OK);
        if (number == secret) {
            continue;
        }
        uint8_t data[26 + 250];
        memset(data, 0, sizeof data);
        data[0] = 0x02;
        memset(data + 2, 0xFF, 24);
        uint32_t at = 26;
        uint32_t track = 0;
        for (uint32_t other = 2; other <= 192; other++) {
            if (other == number) {
                track = at;
                memcpy(data + at, "1=2", 3);
                at += 3;
            } else if (other != 65) {
                data[at++] = other == secret ? '1' : '=';
            }
        }
        CHECK(first_fault(&spec, data, at, &fault) == ISO_OK);
        data[track + 1] = '3';
        CHECK(first_fault(&spec, data, at, &fault) == (secret != 0 ? ISO_OK : ISO_E_TRACK));
        CHECK(secret != 0 || (fault.field == number && fault.offset == track));
    }
}

/* ---- everything that is wrong -----------------------------------------------------------------
 */

static void check_layout(const iso_spec *spec, const uint8_t *data, uint32_t size,
                         const iso_layout *layout)
{
    uint32_t end = layout->head.fields_offset;
    uint32_t count = 0;
    CHECK(end <= size);
    for (uint32_t number = 2; number <= ISO_FIELD_MAX; number++) {
        if (number == 65 && spec->field_max == 192) {
            continue;
        }
        if (!is_present(layout->head.present, number)) {
            continue;
        }
        const iso_field *const field = &spec->fields[number];
        const iso_slice *const slice = &layout->slices[count++];
        CHECK(is_present(spec->defined, number));
        CHECK(slice->offset ==
              end + iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form));
        CHECK(slice->length >= field->length_min && slice->length <= field->length_max);
        CHECK(slice->size == bytes_of(field, slice->length));
        end = (uint32_t)slice->offset + slice->size;
        CHECK(end <= size);
        /* Values with bad content come out somehow, inside their room. */
        uint8_t *const out = guard_front(NULL, iso_value_length(field, slice) + 1);
        iso_value_write(field, data, slice, out);
        CHECK(out[iso_value_length(field, slice)] == 0xA5);
    }
    CHECK(count == layout->count);
}

/* Undefined bits first, then the fields as they come, then the tracks, then what is left over. */
static uint32_t rank(const iso_fault *fault)
{
    switch (fault->status) {
    case ISO_E_UNDEFINED:
        return 0;
    case ISO_E_TRACK:
        return 2;
    case ISO_E_TRAILING:
        return 3;
    default:
        return 1;
    }
}

static void test_damaged_messages_are_read_as_far_as_it_goes(void)
{
    uint32_t state = 20240601;
    uint32_t seen[ISO_STATUS_COUNT] = {0};
    uint32_t several = 0;
    iso_spec specs[TABLE_SHAPES];
    for (uint32_t shape = 0; shape < TABLE_SHAPES; shape++) {
        specs[shape] = make_shape(shape);
    }
    for (uint32_t round = 0; round < 60000; round++) {
        const iso_spec *const spec = &specs[round % TABLE_SHAPES];
        make_sample(spec, &state, false, &made);
        const uint32_t size = damage(&state, made.message, made.size, sizeof made.message);
        const uint8_t *const data = guard_copy(made.message, size);
        iso_layout strict;
        iso_layout lenient;
        iso_fault fault;
        iso_fault faults[FAULTS_MAX + 1];
        const uint32_t capacity = dice_between(&state, 1, FAULTS_MAX);
        memset(faults, 0xA5, sizeof faults);
        const uint32_t one = iso_index(spec, data, size, 0, &strict, &fault, 1);
        const uint32_t count = iso_index(spec, data, size, 0, &lenient, faults, capacity);
        CHECK(one == (count == 0 ? 0u : 1u) && count <= capacity);
        for (uint32_t i = count * (uint32_t)sizeof *faults; i < sizeof faults; i++) {
            CHECK(((const uint8_t *)faults)[i] == 0xA5);
        }
        check_layout(spec, data, size, &strict);
        check_layout(spec, data, size, &lenient);
        CHECK(lenient.count >= strict.count);
        if (count > 0) {
            /* The first is the same, and nothing in front of it is different. */
            CHECK(memcmp(&faults[0], &fault, sizeof fault) == 0);
            CHECK(memcmp(strict.slices, lenient.slices, strict.count * sizeof *strict.slices) == 0);
        }
        if (count > 0 && fault.status == ISO_E_UNDEFINED) {
            /* Nobody knows where it ends: what stands behind it is not looked for. */
            for (uint32_t number = fault.field; number <= ISO_FIELD_MAX; number++) {
                CHECK(!is_present(lenient.head.present, number) ||
                      (number == 65 && spec->field_max == 192));
            }
            CHECK(faults[count - 1].status != ISO_E_TRAILING);
        }
        for (uint32_t i = 0; i < count; i++) {
            seen[faults[i].status]++;
            CHECK(faults[i].status != ISO_OK && faults[i].status < ISO_STATUS_COUNT);
            CHECK(faults[i].status != ISO_E_SPACE && faults[i].status != ISO_E_SPEC);
            CHECK(faults[i].field <= spec->field_max);
            CHECK(faults[i].offset <= faults[i].position && faults[i].position <= size);
            if (i == 0) {
                continue;
            }
            several++;
            CHECK(rank(&faults[i - 1]) <= rank(&faults[i]));
            if (rank(&faults[i - 1]) == rank(&faults[i])) {
                CHECK(faults[i - 1].field < faults[i].field);
                CHECK(faults[i - 1].offset < faults[i].offset || rank(&faults[i]) == 0);
                CHECK(faults[i - 1].offset <= faults[i].offset);
            }
        }
    }
    CHECK(several > 1000);
    for (uint32_t status = 0; status < ISO_STATUS_COUNT; status++) {
        const bool never = status == ISO_OK || status == ISO_E_SIZE || status == ISO_E_SPACE ||
                           status == ISO_E_SPEC;
        CHECK(never == (seen[status] == 0));
    }
}

/* With room for n faults the first n are found. */
static void test_more_room_finds_more_and_nothing_else(void)
{
    uint32_t state = 99;
    const iso_spec spec = make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    for (uint32_t round = 0; round < 300; round++) {
        make_sample(&spec, &state, true, &made);
        uint32_t size = made.size;
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t at = 18 + dice(&state) % (size - 18);
            made.message[at] ^= (uint8_t)dice(&state);
        }
        iso_fault all[FAULTS_MAX];
        iso_layout layout;
        const uint32_t whole = index_at_guard(&spec, made.message, size, &layout, all, FAULTS_MAX);
        CHECK(whole < FAULTS_MAX);
        for (uint32_t capacity = 1; capacity <= whole; capacity++) {
            iso_fault some[FAULTS_MAX];
            CHECK(index_at_guard(&spec, made.message, size, &layout, some, capacity) == capacity);
            for (uint32_t i = 0; i < capacity; i++) {
                CHECK(memcmp(&some[i], &all[i], sizeof some[i]) == 0);
            }
        }
    }
}

int main(void)
{
    RUN(test_every_field_is_found_with_what_was_put_into_it);
    RUN(test_offsets_count_from_the_header);
    RUN(test_every_prefix_is_truncated);
    RUN(test_trailing_bytes_are_an_error);
    RUN(test_a_message_may_have_no_fields_at_all);
    RUN(test_the_largest_message_is_read_and_a_larger_one_refused);
    RUN(test_every_mti_is_four_digits_or_refused);
    RUN(test_a_truncated_head_is_told_apart_by_its_part);
    RUN(test_a_wrong_hex_digit_in_any_bitmap_is_named);
    RUN(test_bit_1_is_an_error_where_there_is_no_second_bitmap);
    RUN(test_the_bitmaps_that_are_announced_are_read_and_no_others);
    RUN(test_undefined_fields_are_named_before_any_field_is_walked);
    RUN(test_the_bit_of_an_undefined_field_is_pointed_at);
    RUN(test_content_is_checked_and_pads_only_where_the_spec_says_so);
    RUN(test_a_tag_comes_again_only_where_the_spec_says_so);
    RUN(test_a_track_is_a_track_unless_field_53_says_that_it_is_encrypted);
    RUN(test_a_track_is_found_among_the_slices_wherever_it_stands);
    RUN(test_damaged_messages_are_read_as_far_as_it_goes);
    RUN(test_more_room_finds_more_and_nothing_else);
    return 0;
}
