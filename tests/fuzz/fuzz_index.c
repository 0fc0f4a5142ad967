/* A table, then a message. Read it strictly, leniently and by plan: they must agree; what is found
 * must lie where it can; and a good message can be built again. */
#include "fuzz.h"

enum { FAULTS_MAX = 16 };

static void check_layout(const iso_spec *spec, const uint8_t *data, uint32_t size,
                         const iso_layout *layout)
{
    uint32_t end = layout->head.fields_offset;
    uint32_t count = 0;
    CHECK(end <= size);
    for (uint32_t number = 2; number <= ISO_FIELD_MAX; number++) {
        if (!is_field(spec, layout->head.present, number)) {
            continue;
        }
        const iso_field *const field = &spec->fields[number];
        const iso_slice *const slice = &layout->slices[count++];
        CHECK(is_present(spec->defined, number));
        CHECK(slice->offset >= end && slice->offset <= end + ISO_PREFIX_DIGITS_MAX);
        CHECK(slice->length >= field->length_min && slice->length <= field->length_max);
        CHECK(slice->size == bytes_of(field, slice->length));
        end = (uint32_t)slice->offset + slice->size;
        CHECK(end <= size);
        const uint32_t length = iso_value_length(field, slice);
        uint8_t *const out = exact_room(length);
        iso_value_write(field, data, slice, out);
        free_room(out, length);
    }
    CHECK(count == layout->count);
}

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

static void check_faults(const iso_spec *spec, uint32_t size, const iso_fault *faults,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        CHECK(faults[i].status != ISO_OK && faults[i].status < ISO_STATUS_COUNT);
        CHECK(faults[i].status != ISO_E_SPACE && faults[i].status != ISO_E_SPEC);
        CHECK(faults[i].field <= spec->field_max);
        CHECK(faults[i].offset <= faults[i].position && faults[i].position <= size);
        CHECK(iso_status_name(faults[i].status)[0] != 0);
        if (i > 0) {
            CHECK(rank(&faults[i - 1]) < rank(&faults[i]) ||
                  (rank(&faults[i - 1]) == rank(&faults[i]) &&
                   faults[i - 1].field < faults[i].field));
        }
    }
}

/* The plan says yes exactly when nothing is wrong, and names the same slices. */
static void check_plan(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                       const iso_layout *layout, const iso_fault *fault, bool sound)
{
    iso_head head;
    static iso_plan plan;
    const bool in_head = !sound && fault->field < 2 && fault->status != ISO_E_TRAILING;
    CHECK(iso_head_read(spec, data, size, start, &head) == !in_head);
    if (in_head) {
        return;
    }
    CHECK(head.mti == layout->head.mti && head.fields_offset == layout->head.fields_offset);
    if (!iso_plan_make(spec, head.present, &plan)) {
        CHECK(!sound);
        return;
    }
    iso_slice variables[ISO_FIELD_MAX];
    CHECK(iso_plan_run(&plan, data, size, head.fields_offset, variables) == sound);
    uint32_t end = head.fields_offset;
    for (uint32_t i = 0; i < plan.count && sound; i++) {
        const iso_slice slice =
            iso_plan_slice(&plan, variables, head.fields_offset, plan.numbers[i]);
        const iso_slice *const expected = &layout->slices[i];
        CHECK(slice.offset == expected->offset && slice.size == expected->size &&
              slice.length == expected->length);
        uint32_t at = 0;
        const uint32_t span =
            iso_plan_span(&plan, variables, head.fields_offset, plan.numbers[i], &at);
        CHECK(at == end);
        end += span;
    }
    CHECK(!sound || (plan.count == layout->count && end == size));
}

/* Copied field by field it is the same again but for the case of a hexadecimal bitmap; built from
 * its values it has the same size, and the same values. */
static void check_built_again(const iso_spec *spec, const uint8_t *data, uint32_t size,
                              uint32_t start, const iso_layout *layout)
{
    static uint8_t store[2 * ISO_MESSAGE_SIZE_MAX];
    iso_value copied[ISO_TABLE_SIZE];
    iso_value spelt[ISO_TABLE_SIZE];
    uint8_t mti[ISO_MTI_DIGITS];
    iso_fault fault;
    uint32_t used = 0;
    uint32_t end = layout->head.fields_offset;
    uint32_t count = 0;
    iso_number_write(mti, ISO_MTI_DIGITS, ISO_FORM_ASCII, layout->head.mti);
    for (uint32_t number = 2; number <= ISO_FIELD_MAX; number++) {
        if (!is_field(spec, layout->head.present, number)) {
            continue;
        }
        const iso_slice *const slice = &layout->slices[count++];
        const uint32_t next = (uint32_t)slice->offset + slice->size;
        copied[number] = (iso_value){data + end, next - end, true};
        spelt[number] =
            (iso_value){store + used, iso_value_length(&spec->fields[number], slice), false};
        iso_value_write(&spec->fields[number], data, slice, store + used);
        used += spelt[number].size;
        end = next;
    }
    const uint32_t whole = size - start;
    const uint32_t base = layout->head.fields_offset - start;
    uint8_t *const out = exact_room(whole);
    uint32_t written = 0;
    CHECK(iso_build(spec, mti, layout->head.present, copied, out, whole, &written, &fault) ==
          ISO_OK);
    CHECK(written == whole && memcmp(out + base, data + start + base, whole - base) == 0);
    CHECK(iso_build(spec, mti, layout->head.present, spelt, out, whole, &written, &fault) ==
          ISO_OK);
    CHECK(written == whole);
    iso_layout again;
    CHECK(iso_index(spec, out, whole, 0, &again, &fault, 1) == 0);
    CHECK(again.count == count);
    for (uint32_t number = 2, i = 0; number <= ISO_FIELD_MAX; number++) {
        if (is_field(spec, layout->head.present, number)) {
            const iso_field *const field = &spec->fields[number];
            CHECK(iso_value_length(field, &again.slices[i]) == spelt[number].size);
            iso_value_write(field, out, &again.slices[i], store + used);
            CHECK(memcmp(store + used, spelt[number].data, spelt[number].size) == 0);
            i++;
        }
    }
    free_room(out, whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    source from = {input, (uint32_t)input_size, 0};
    iso_spec spec;
    if (input_size > ISO_MESSAGE_SIZE_MAX || !take_spec(&from, &spec)) {
        return 0;
    }
    uint32_t start = take(&from) % 8;
    uint32_t size = 0;
    const uint8_t *const message = take_bytes(&from, UINT32_MAX, &size);
    start = start < size ? start : size;
    uint8_t *const data = exact_copy(message, size);

    iso_layout strict;
    iso_layout lenient;
    iso_fault fault = {ISO_OK, 0, 0, 0, 0};
    iso_fault *const faults = malloc(FAULTS_MAX * sizeof *faults);
    CHECK(faults != NULL);
    const uint32_t one = iso_index(&spec, data, size, start, &strict, &fault, 1);
    const uint32_t count = iso_index(&spec, data, size, start, &lenient, faults, FAULTS_MAX);
    CHECK(count <= FAULTS_MAX && one == (count == 0 ? 0u : 1u));
    CHECK(count == 0 || memcmp(&fault, faults, sizeof fault) == 0);
    const bool has_head = count == 0 || fault.field > 1 || fault.status == ISO_E_TRAILING;
    if (has_head) {
        check_layout(&spec, data, size, &strict);
        check_layout(&spec, data, size, &lenient);
    }
    check_faults(&spec, size, faults, count);
    check_plan(&spec, data, size, start, &strict, &fault, count == 0);
    if (count == 0) {
        check_built_again(&spec, data, size, start, &strict);
    }
    free(faults);
    free_room(data, size);
    return 0;
}
