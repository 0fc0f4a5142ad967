#include "table.h"

static sample made;

/* A plan says yes exactly when iso_index finds nothing wrong, and then names the same slices.
 * Returns whether it said yes. */
static bool compare(const iso_spec *spec, const uint8_t *data, uint32_t size)
{
    iso_layout layout;
    iso_fault fault;
    const uint32_t faults = iso_index(spec, data, size, 0, &layout, &fault, 1);
    iso_head head;
    const bool in_head = faults > 0 && fault.status != ISO_E_TRAILING && fault.field < 2;
    CHECK(iso_head_read(spec, data, size, 0, &head) == !in_head);
    if (in_head) {
        return false;
    }
    CHECK(head.mti == layout.head.mti && head.fields_offset == layout.head.fields_offset);
    static iso_plan plan;
    const bool undefined = faults > 0 && fault.status == ISO_E_UNDEFINED;
    CHECK(iso_plan_make(spec, head.present, &plan) == !undefined);
    if (undefined) {
        return false;
    }
    iso_slice variables[ISO_FIELD_MAX + 1];
    memset(variables, 0xA5, sizeof variables);
    const bool sound = iso_plan_run(&plan, data, size, head.fields_offset, variables);
    CHECK(sound == (faults == 0));
    for (uint32_t i = plan.variable_count; i <= ISO_FIELD_MAX; i++) {
        CHECK(variables[i].offset == 0xA5A5 && variables[i].size == 0xA5A5);
    }
    if (!sound) {
        return false;
    }
    CHECK(plan.count == layout.count);
    CHECK(memcmp(head.present, layout.head.present, sizeof head.present) == 0);
    CHECK(memcmp(head.present, plan.present, sizeof head.present) == 0);
    uint32_t end = head.fields_offset;
    uint32_t place = 0;
    for (uint32_t number = 2; number <= ISO_FIELD_MAX; number++) {
        const bool announces = number == 65 && spec->field_max == 192;
        const bool here = is_present(head.present, number) && !announces;
        CHECK((plan.places[number].kind == ISO_PLACE_ABSENT) == !here);
        if (!here) {
            continue;
        }
        CHECK(plan.numbers[place] == number);
        const iso_slice slice = iso_plan_slice(&plan, variables, head.fields_offset, number);
        const iso_slice *const expected = &layout.slices[place++];
        CHECK(slice.offset == expected->offset && slice.size == expected->size &&
              slice.length == expected->length);
        uint32_t start = 0;
        const uint32_t span = iso_plan_span(&plan, variables, head.fields_offset, number, &start);
        CHECK(start == end);
        end = start + span;
        CHECK(end == (uint32_t)slice.offset + slice.size);
    }
    CHECK(place == layout.count && end == size);
    return true;
}

static void test_valid_messages_are_seen_to_be_valid(void)
{
    uint32_t state = 61;
    for (uint32_t round = 0; round < 5000; round++) {
        const iso_spec spec = make_shape(round % TABLE_SHAPES);
        make_sample(&spec, &state, round % 8 == 0, &made);
        CHECK(compare(&spec, guard_copy(made.message, made.size), made.size));
    }
}

static void test_damaged_messages_are_judged_as_the_index_does(void)
{
    uint32_t state = 62;
    uint32_t accepted = 0;
    iso_spec specs[TABLE_SHAPES];
    for (uint32_t shape = 0; shape < TABLE_SHAPES; shape++) {
        specs[shape] = make_shape(shape);
    }
    for (uint32_t round = 0; round < 100000; round++) {
        const iso_spec *const spec = &specs[round % TABLE_SHAPES];
        make_sample(spec, &state, false, &made);
        const uint32_t size = damage(&state, made.message, made.size, sizeof made.message);
        accepted += compare(spec, guard_copy(made.message, size), size) ? 1 : 0;
    }
    CHECK(accepted > 5000);
}

/* Each byte of a message with everything, with each of its bits turned. */
static void test_every_bit_turned(void)
{
    uint32_t state = 63;
    for (uint32_t shape = 0; shape < 3; shape++) {
        const iso_spec spec = make_shape(shape);
        make_sample(&spec, &state, true, &made);
        uint8_t *const data = guard_copy(made.message, made.size);
        for (uint32_t bit = 0; bit < made.size * 8; bit++) {
            data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            compare(&spec, data, made.size);
            data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

/* One field of every kind alone, all 256 values of each of its bytes: the prefix, the content. */
static void test_every_byte_of_every_kind_of_field(void)
{
    uint32_t state = 64;
    const iso_spec spec = make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    for (uint32_t i = 0; i < TABLE_COUNT; i++) {
        const uint32_t number = TABLE[i].number;
        if (number > 128) {
            continue;
        }
        for (uint32_t length = 0; length < 9; length++) {
            const iso_field *const field = &spec.fields[number];
            if (length < field->length_min || length > field->length_max ||
                iso_value_size(field, length) == ISO_NO_POSITION) {
                if (length != 8 || field->prefix_digits != 0) {
                    continue;
                }
            }
            const uint32_t in_unit = field->prefix_digits == 0 ? field->length_max : length;
            uint8_t characters[64];
            iso_value values[ISO_TABLE_SIZE];
            memset(values, 0, sizeof values);
            const uint32_t count = characters_of(field, in_unit);
            fill_value(field, &state, false, false, characters, count);
            values[number] = (iso_value){characters, count, false};
            uint64_t present[ISO_BITMAPS_MAX] = {0, 0, 0};
            present[iso_word(number)] |= iso_bit(number);
            iso_build_announce(present);
            uint8_t message[128];
            uint32_t size = 0;
            iso_fault fault;
            CHECK(iso_build(&spec, (const uint8_t *)"0200", present, values, message,
                            sizeof message, &size, &fault) == ISO_OK);
            const uint32_t base = iso_build_base_size(&spec, present);
            for (uint32_t at = base; at < size; at++) {
                for (uint32_t byte = 0; byte < 256; byte++) {
                    uint8_t *const data = guard_copy(message, size);
                    data[at] = (uint8_t)byte;
                    compare(&spec, data, size);
                }
            }
            for (uint32_t cut = base; cut < size; cut++) {
                CHECK(!compare(&spec, guard_copy(message, cut), cut));
            }
            CHECK(compare(&spec, guard_copy(message, size), size));
        }
    }
}

/* Prefixes of packed digits are read by themselves: all 65536 of two bytes. */
static void test_every_packed_prefix(void)
{
    iso_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.field_max = 64;
    spec.fields[2] = (iso_field){PLAIN(B), PREFIX(BCD, 3, 5, 999)};
    spec.fields[3] = (iso_field){PLAIN(B), PREFIX(BCD, 4, 5, 2000)};
    spec.fields[4] = (iso_field){TRACK(LEFT, Z, DIGITS), PREFIX(BCD, 3, 5, 999)};
    spec.fields[5] = (iso_field){PLAIN(B), PREFIX(BCD, 2, 5, 99)};
    iso_fault fault;
    CHECK(iso_spec_check(&spec, &fault) == ISO_OK);
    for (uint32_t number = 2; number <= 5; number++) {
        static uint8_t message[12 + 2500];
        message[0] = 0x02;
        message[2] = (uint8_t)(0x80u >> (number - 1));
        for (uint32_t prefix = 0; prefix < 65536; prefix++) {
            message[10] = (uint8_t)(prefix >> 8);
            message[11] = (uint8_t)prefix;
            /* The size that the prefix asks for if it is a good one. */
            const int32_t length =
                number == 5 ? iso_bcd_pair(prefix >> 8)
                            : iso_bcd_pair(prefix >> 8) * 100 + iso_bcd_pair(prefix & 255);
            const uint32_t bytes = length < 0 || length > 2000 ? 5u
                                   : number == 4               ? ((uint32_t)length + 1) / 2
                                                               : (uint32_t)length;
            compare(&spec, message, (number == 5 ? 11 : 12) + bytes);
        }
    }
}

/* Random sets of fields: the plan of one set is not mistaken for that of another. */
static void test_every_set_of_fields(void)
{
    uint32_t state = 65;
    for (uint32_t round = 0; round < 30000; round++) {
        const iso_spec spec = make_shape(round % 3);
        uint64_t present[ISO_BITMAPS_MAX] = {0, 0, 0};
        for (uint32_t word = 0; word < spec.field_max / 64u; word++) {
            const uint64_t noise = (uint64_t)dice(&state) << 32 | dice(&state);
            present[word] = noise & (dice(&state) % 4 == 0 ? UINT64_MAX : spec.defined[word]);
        }
        bool undefined = false;
        uint32_t count = 0;
        uint32_t variables = 0;
        for (uint32_t number = 2; number <= 192; number++) {
            const bool announces = number == 65 && spec.field_max == 192;
            if (announces || !is_present(present, number)) {
                continue;
            }
            undefined = undefined || !is_present(spec.defined, number);
            count++;
            variables += spec.fields[number].prefix_digits != 0 ? 1 : 0;
        }
        static iso_plan plan;
        CHECK(iso_plan_make(&spec, present, &plan) == !undefined);
        if (!undefined) {
            CHECK(plan.count == count && plan.variable_count == variables);
            CHECK(plan.step_count == variables + 1);
            CHECK(plan.spec == &spec);
        }
    }
}

static iso_spec fixed_spec(uint32_t size, uint32_t count)
{
    iso_spec spec;
    iso_fault fault;
    memset(&spec, 0, sizeof spec);
    spec.field_max = 64;
    for (uint32_t number = 2; number < 2 + count; number++) {
        spec.fields[number] = (iso_field){PLAIN(ANS), FIXED((uint16_t)size)};
    }
    CHECK(iso_spec_check(&spec, &fault) == ISO_OK);
    return spec;
}

static void test_fixed_fields_larger_than_a_message_have_no_plan(void)
{
    static iso_plan plan;
    const iso_spec fits = fixed_spec(13107, 5); /* 65535 */
    const iso_spec larger = fixed_spec(13107, 6);
    const iso_spec alone = fixed_spec(65535, 1);
    const iso_spec two = fixed_spec(65535, 2);
    CHECK(iso_plan_make(&fits, fits.defined, &plan));
    CHECK(!iso_plan_make(&larger, larger.defined, &plan));
    CHECK(iso_plan_make(&alone, alone.defined, &plan));
    CHECK(!iso_plan_make(&two, two.defined, &plan));
    /* It has a plan, and no message is large enough for it. */
    static uint8_t message[65535];
    memset(message, ' ', sizeof message);
    iso_slice none;
    CHECK(iso_plan_make(&fits, fits.defined, &plan));
    CHECK(!iso_plan_run(&plan, message, 65535, 10, &none));
    CHECK(iso_plan_run(&plan, message, 65535, 0, &none));
    message[65534] = 0x1F;
    CHECK(!iso_plan_run(&plan, message, 65535, 0, &none));
}

/* A table with all its bits in use is where the arrays of a plan are fullest. */
static void test_a_plan_has_room_for_all_fields(void)
{
    for (uint32_t kind = 0; kind < 3; kind++) {
        iso_spec spec;
        iso_fault fault;
        memset(&spec, 0, sizeof spec);
        spec.field_max = 192;
        for (uint32_t number = 2; number <= 192; number++) {
            if (number == 65) {
                continue;
            }
            /* All variable; all with two checks; one and the other in turn. */
            spec.fields[number] = kind == 0 || (kind == 2 && number % 2 == 0)
                                      ? (iso_field){PLAIN(B), PREFIX(BCD, 1, 0, 9)}
                                      : (iso_field){PACKED(BCD_LEFT, DIGITS), FIXED(3)};
        }
        CHECK(iso_spec_check(&spec, &fault) == ISO_OK);
        static iso_plan plan;
        CHECK(iso_plan_make(&spec, spec.defined, &plan));
        CHECK(plan.count == 190 && plan.variable_count == (kind == 0 ? 190 : kind == 1 ? 0 : 96));
        uint8_t message[26 + 2 * 190] = {0x02, 0x00};
        memset(message + 2, 0xFF, 24);
        const uint32_t size = 26 + (kind == 0 ? 190 : kind == 1 ? 380 : 96 + 2 * 94);
        CHECK(compare(&spec, guard_copy(message, size), size));
    }
}

/* Packed fields of any number and size, odd and even, in one run: each nibble that counts is looked
 * at and no pad is, in front of the place where the masks of a plan end and behind it. */
static void test_every_nibble_of_a_long_run_counts(void)
{
    for (uint32_t digits = 1; digits <= 60; digits++) {
        iso_spec spec;
        iso_fault fault;
        memset(&spec, 0, sizeof spec);
        spec.field_max = 64;
        for (uint32_t number = 2; number <= 30; number++) {
            spec.fields[number] =
                (iso_field){.packing = number % 3 ? ISO_PACK_BCD_LEFT : ISO_PACK_BCD_RIGHT,
                            .content = ISO_CONTENT_N,
                            .unit = ISO_UNIT_DIGITS,
                            FIXED((uint16_t)(digits + number % 4))};
        }
        CHECK(iso_spec_check(&spec, &fault) == ISO_OK);
        uint8_t message[10 + 29 * 40] = {0x02, 0x00, 0x7F, 0xFF, 0xFF, 0xFC};
        uint32_t size = 10;
        for (uint32_t number = 2; number <= 30; number++) {
            size += bytes_of(&spec.fields[number], spec.fields[number].length_max);
        }
        uint8_t *const data = guard_copy(message, size);
        CHECK(compare(&spec, data, size));
        for (uint32_t at = 10; at < size; at++) {
            for (uint32_t half = 0; half < 2; half++) {
                data[at] = half ? 0x0A : 0xA0;
                compare(&spec, data, size);
            }
            data[at] = 0;
        }
    }
}

int main(void)
{
    RUN(test_valid_messages_are_seen_to_be_valid);
    RUN(test_damaged_messages_are_judged_as_the_index_does);
    RUN(test_every_bit_turned);
    RUN(test_every_byte_of_every_kind_of_field);
    RUN(test_every_packed_prefix);
    RUN(test_every_set_of_fields);
    RUN(test_fixed_fields_larger_than_a_message_have_no_plan);
    RUN(test_a_plan_has_room_for_all_fields);
    RUN(test_every_nibble_of_a_long_run_counts);
    return 0;
}
