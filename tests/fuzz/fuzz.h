/* What the fuzz targets share: taking numbers, fields and whole tables from the input. */
#ifndef FUZZ_H
#define FUZZ_H

#include "../csrc/table.h"

/* Called with every input; returns 0, or does not return. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct source {
    const uint8_t *data;
    uint32_t size;
    uint32_t at;
} source;

/* Behind the end there are zeros: every input means something. */
static inline uint8_t take(source *from)
{
    return from->at < from->size ? from->data[from->at++] : 0;
}

static inline uint16_t take16(source *from)
{
    const uint32_t high = take(from);
    return (uint16_t)(high << 8 | take(from));
}

/* At most `most` bytes of the input; *size is set to how many there were. */
static inline const uint8_t *take_bytes(source *from, uint32_t most, uint32_t *size)
{
    const uint8_t *const bytes = from->data + from->at;
    const uint32_t left = from->size - from->at;
    *size = most < left ? most : left;
    from->at += *size;
    return bytes;
}

/* A buffer of its own for every size: the sanitizer sees one byte too far on both sides. */
static inline uint8_t *exact_room(uint32_t size)
{
    uint8_t *const room = calloc(size > 0 ? size : 1, 1);
    CHECK(room != NULL);
    return size > 0 ? room : room + 1;
}

static inline void free_room(uint8_t *room, uint32_t size)
{
    free(size > 0 ? room : room - 1);
}

static inline uint8_t *exact_copy(const uint8_t *data, uint32_t size)
{
    uint8_t *const copy = exact_room(size);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

/* Any field, most of them contradictory: that is for iso_field_check to find. Five to eight bytes.
 */
static inline iso_field take_field(source *from)
{
    const uint8_t how = take(from);
    const uint8_t what = take(from);
    const uint8_t prefix = take(from);
    iso_field field = {
        .packing = how % 16 % 10,
        .pad_strict = how >> 4 & 1,
        .pad_nibble = (how >> 5 & 1) * 15,
        .unit = how >> 6,
        .content = what % 16,
        .charset = (what >> 4) % 5,
        .prefix_digits = prefix % 8,
        .prefix_form = (prefix >> 3) % 6,
    };
    const uint8_t size = take(from);
    const uint8_t more = take(from);
    /* Small ones mostly; the limits have corners of their own. */
    field.length_max = (uint16_t)(size == 255 ? 65535 : size == 254 ? more * 257u : size);
    field.length_min = field.prefix_digits == 0 ? field.length_max
                       : size >= 254            ? 0
                                                : (uint16_t)(more % 8);
    if (field.content == ISO_CONTENT_TRACK2) {
        field.secret_field = take(from);
        field.secret_position = take(from);
        field.secret_character = take(from);
    }
    return field;
}

/* A table: one that has everything, or one that the input describes. False: it is contradictory. */
static inline bool take_spec(source *from, iso_spec *spec)
{
    static const uint8_t FIELD_MAX[] = {64, 128, 192, 65};
    const uint8_t head = take(from);
    if (head >> 6 == 3) {
        *spec = make_shape(head % TABLE_SHAPES);
        return true;
    }
    memset(spec, 0, sizeof *spec);
    spec->mti_form = head % 4;
    spec->bitmap_form = head >> 2 & 3;
    spec->field_max = FIELD_MAX[head >> 4 & 3];
    const uint8_t counts = take(from);
    for (uint32_t i = 0; i < counts % 16u; i++) {
        const uint8_t number = take(from) % ISO_TABLE_SIZE;
        const iso_field field = take_field(from);
        if (iso_field_check(&field)) {
            spec->fields[number] = field;
        }
    }
    spec->repeat_count = counts >> 4 & 3;
    for (uint32_t i = 0; i < spec->repeat_count; i++) {
        spec->repeats[i].field = take(from);
        spec->repeats[i].tag = take16(from);
    }
    iso_fault fault;
    const iso_status status = iso_spec_check(spec, &fault);
    CHECK(status == ISO_OK || (status == ISO_E_SPEC && fault.status == ISO_E_SPEC));
    CHECK(status == ISO_OK || fault.field < ISO_TABLE_SIZE);
    return status == ISO_OK;
}

static inline bool is_field(const iso_spec *spec, const uint64_t *present, uint32_t number)
{
    return is_present(present, number) && !(number == 65 && spec->field_max == 192);
}

static inline bool is_packed_track(const iso_field *field)
{
    return field->packing == ISO_PACK_TRACK_LEFT || field->packing == ISO_PACK_TRACK_RIGHT;
}

/* Are these the same characters? In packed track data D is written as '='. */
static inline bool same_value(const iso_field *field, const uint8_t *given, const uint8_t *found,
                              uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        const uint8_t expected = is_packed_track(field) && given[i] == 'D' ? '=' : given[i];
        if (found[i] != expected) {
            return false;
        }
    }
    return true;
}

#endif /* FUZZ_H */
