/* A table, then values. What can be built can be read and holds what was given; and so it is after
 * one field has been changed, taken away or added, the rest copied as it was. */
#include "fuzz.h"

/* A value for every other field: mostly of a size that fits. */
static void take_value(source *from, const iso_field *field, iso_value *value)
{
    const uint8_t how = take(from);
    const uint32_t span = (uint32_t)field->length_max - field->length_min;
    const uint32_t length = field->length_min + (how >> 2) % (span + 1);
    const uint32_t wanted = how % 4 == 1 ? take16(from) : characters_of(field, length);
    value->data = take_bytes(from, wanted, &value->size);
    value->as_wire = false;
}

static uint32_t build_size(const iso_spec *spec, const uint64_t *present, const iso_value *values)
{
    uint32_t total = iso_build_base_size(spec, present);
    for (uint32_t number = 2; number <= ISO_FIELD_MAX; number++) {
        if (is_field(spec, present, number)) {
            total += iso_build_field_size(&spec->fields[number], &values[number]);
        }
    }
    return total;
}

/* Build into exactly the room that it takes; NULL if it is refused or too large to be read. */
static uint8_t *build(const iso_spec *spec, const uint64_t *present, const iso_value *values,
                      uint32_t *size, iso_layout *layout)
{
    const uint32_t total = build_size(spec, present, values);
    uint8_t *const out = exact_room(total);
    iso_fault fault = {ISO_OK, 0, 0, 0, 0};
    *size = total + 1;
    const iso_status status =
        iso_build(spec, (const uint8_t *)"0200", present, values, out, total, size, &fault);
    if (status == ISO_OK) {
        CHECK(*size == total);
        if (total <= ISO_MESSAGE_SIZE_MAX) {
            CHECK(iso_index(spec, out, total, 0, layout, &fault, 1) == 0);
            CHECK(memcmp(layout->head.present, present, sizeof layout->head.present) == 0);
            return out;
        }
    } else {
        CHECK(*size == total + 1 && fault.status == status && status != ISO_E_SPACE);
        CHECK(fault.field == 1 || is_field(spec, present, fault.field));
        CHECK(fault.field < 2 || fault.position <= values[fault.field].size);
    }
    free_room(out, total);
    return NULL;
}

static void check_values(const iso_spec *spec, const uint8_t *data, const iso_layout *layout,
                         const iso_value *values)
{
    uint32_t count = 0;
    for (uint32_t number = 2; number <= ISO_FIELD_MAX; number++) {
        if (!is_field(spec, layout->head.present, number)) {
            continue;
        }
        const iso_field *const field = &spec->fields[number];
        const iso_slice *const slice = &layout->slices[count++];
        const iso_value *const value = &values[number];
        const uint32_t length = iso_value_length(field, slice);
        if (value->as_wire) {
            const uint32_t prefix_size =
                iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form);
            CHECK(value->size == prefix_size + slice->size);
            CHECK(memcmp(value->data, data + slice->offset - prefix_size, value->size) == 0);
            continue;
        }
        uint8_t *const out = exact_room(length);
        iso_value_write(field, data, slice, out);
        CHECK(length == value->size && same_value(field, value->data, out, length));
        free_room(out, length);
    }
}

/* Everything as it was transmitted but one field. */
static void patch(source *from, const iso_spec *spec, const uint8_t *data, const iso_layout *layout)
{
    iso_value values[ISO_TABLE_SIZE];
    uint64_t present[ISO_BITMAPS_MAX];
    memset(values, 0, sizeof values);
    memcpy(present, layout->head.present, sizeof present);
    uint32_t end = layout->head.fields_offset;
    uint32_t count = 0;
    for (uint32_t number = 2; number <= ISO_FIELD_MAX; number++) {
        if (is_field(spec, present, number)) {
            const iso_slice *const slice = &layout->slices[count++];
            const uint32_t next = (uint32_t)slice->offset + slice->size;
            values[number] = (iso_value){data + end, next - end, true};
            end = next;
        }
    }
    const uint32_t number = take(from) % ISO_TABLE_SIZE;
    if (number < 2 || !is_present(spec->defined, number)) {
        return;
    }
    const bool drop = take(from) % 4 == 0;
    if (drop) {
        present[iso_word(number)] &= ~iso_bit(number);
    } else {
        take_value(from, &spec->fields[number], &values[number]);
        present[iso_word(number)] |= iso_bit(number);
    }
    iso_build_announce(present);
    uint32_t size = 0;
    iso_layout patched;
    uint8_t *const out = build(spec, present, values, &size, &patched);
    if (out != NULL) {
        check_values(spec, out, &patched, values);
        free_room(out, size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    source from = {input, (uint32_t)input_size, 0};
    iso_spec spec;
    if (input_size > ISO_MESSAGE_SIZE_MAX || !take_spec(&from, &spec)) {
        return 0;
    }
    uint64_t present[ISO_BITMAPS_MAX] = {0, 0, 0};
    iso_value values[ISO_TABLE_SIZE];
    memset(values, 0, sizeof values);
    const uint8_t odds = take(&from);
    for (uint32_t number = 2; number <= ISO_FIELD_MAX; number++) {
        const uint32_t choice = number * 2654435761u >> 16;
        if (is_present(spec.defined, number) && (odds == 0 || choice % odds == 0)) {
            present[iso_word(number)] |= iso_bit(number);
            take_value(&from, &spec.fields[number], &values[number]);
        }
    }
    iso_build_announce(present);
    uint32_t size = 0;
    iso_layout layout;
    uint8_t *const out = build(&spec, present, values, &size, &layout);
    if (out != NULL) {
        check_values(&spec, out, &layout, values);
        patch(&from, &spec, out, &layout);
        free_room(out, size);
    }
    return 0;
}
