#include "iso8583.h"
#include "internal.h"

/* How a piece of a fixed run is checked. The first ones need only its bytes, so neighbours with the
 * same rule are one piece. */
enum {
    RULE_BCD,       /* the nibbles that plan->masks says are digits; the others are pads */
    RULE_DIGITS,    /* ASCII digits */
    RULE_PRINTABLE, /* ASCII */
    RULE_WORDS,     /* ASCII letters, digits and spaces */
    RULE_ANY,       /* binary: nothing to check */
    RULE_TLV,       /* BER-TLV objects */
    RULE_TRACK,     /* track data as text, mostly a track */
    RULE_FIELD      /* whatever the field says */
};

/* How a length prefix is read. */
enum {
    PREFIX_BCD_PAIR, /* one byte, two digits */
    PREFIX_BCD_FOUR, /* two bytes, three or four digits */
    PREFIX_TWO,      /* two ASCII digits */
    PREFIX_THREE,
    PREFIX_ANY /* by its form */
};

typedef struct plan_builder {
    iso_plan *plan;
    iso_step *step;
    uint32_t check_count;
    uint32_t mask_count;
} plan_builder;

static void add_check(plan_builder *builder, uint32_t rule, uint32_t at, uint32_t size,
                      uint32_t number)
{
    iso_plan *const plan = builder->plan;
    const uint32_t first = builder->step == plan->steps ? 0 : builder->step[-1].check_end;
    if (builder->check_count > first && rule != RULE_FIELD) {
        iso_check *const last = &plan->checks[builder->check_count - 1];
        if (last->rule == rule && (uint32_t)last->at + last->size == at) {
            last->size = (uint16_t)(last->size + size);
            return;
        }
    }
    assert(builder->check_count < ISO_FIELD_MAX);
    plan->checks[builder->check_count] =
        (iso_check){(uint16_t)at, (uint16_t)size, (uint8_t)rule, (uint8_t)number,
                    (uint16_t)builder->mask_count};
    builder->check_count++;
}

static void add_fixed(plan_builder *builder, const iso_field *field, uint32_t number, uint32_t at,
                      uint32_t size)
{
    const bool packed = field->packing == ISO_PACK_BCD_LEFT || field->packing == ISO_PACK_BCD_RIGHT;
    const bool odd = packed && field->unit == ISO_UNIT_DIGITS && field->length_max % 2 == 1;
    if (packed && !(odd && field->pad_strict) && builder->mask_count + size <= ISO_MASKS_SIZE) {
        uint8_t *const masks = builder->plan->masks + builder->mask_count;
        memset(masks, 0x88, size);
        if (odd && field->packing == ISO_PACK_BCD_LEFT) {
            masks[size - 1] = 0x80;
        } else if (odd) {
            masks[0] = 0x08;
        }
        add_check(builder, RULE_BCD, at, size, number);
        builder->mask_count += size;
    } else if (field->packing != ISO_PACK_BYTES || field->charset != ISO_CHARSET_ASCII) {
        add_check(builder, RULE_FIELD, at, size, number);
    } else if (field->content == ISO_CONTENT_N) {
        add_check(builder, RULE_DIGITS, at, size, number);
    } else if (field->content == ISO_CONTENT_ANS) {
        add_check(builder, RULE_PRINTABLE, at, size, number);
    } else if (field->content == ISO_CONTENT_AN) {
        add_check(builder, RULE_WORDS, at, size, number);
    } else if (field->content != ISO_CONTENT_B) {
        add_check(builder, RULE_FIELD, at, size, number);
    }
}

/* The variable field at the end of a step, in the few words that reading it takes. */
static void set_variable(iso_step *step, const iso_field *field, uint32_t number)
{
    const uint8_t packing = field->packing;
    const bool packed = packing >= ISO_PACK_BCD_LEFT && packing <= ISO_PACK_TRACK_RIGHT;
    const bool simple = packing == ISO_PACK_BYTES && field->unit == ISO_UNIT_BYTES &&
                        field->charset == ISO_CHARSET_ASCII;
    step->number = (uint8_t)number;
    step->length_min = field->length_min;
    step->length_max = field->length_max;
    step->halved = packed && field->unit == ISO_UNIT_DIGITS;
    step->prefix = PREFIX_ANY;
    if (field->prefix_form == ISO_FORM_BCD && (step->halved || simple)) {
        step->prefix = field->prefix_digits == 2                                ? PREFIX_BCD_PAIR
                       : field->prefix_digits == 3 || field->prefix_digits == 4 ? PREFIX_BCD_FOUR
                                                                                : PREFIX_ANY;
    } else if (field->prefix_form == ISO_FORM_ASCII && (step->halved || simple)) {
        step->prefix = field->prefix_digits == 2   ? PREFIX_TWO
                       : field->prefix_digits == 3 ? PREFIX_THREE
                                                   : PREFIX_ANY;
    }
    step->rule = RULE_FIELD;
    if (simple && field->content == ISO_CONTENT_B) {
        step->rule = RULE_ANY;
    } else if (simple && field->content == ISO_CONTENT_ANS) {
        step->rule = RULE_PRINTABLE;
    } else if (simple && field->content == ISO_CONTENT_N) {
        step->rule = RULE_DIGITS;
    } else if (simple && field->content == ISO_CONTENT_AN) {
        step->rule = RULE_WORDS;
    } else if (simple && field->content == ISO_CONTENT_TRACK2) {
        step->rule = RULE_TRACK;
    } else if (simple && field->content == ISO_CONTENT_TLV) {
        step->rule = RULE_TLV;
    } else if (packed && !field->pad_strict &&
               (packing == ISO_PACK_TRACK_LEFT || packing == ISO_PACK_TRACK_RIGHT)) {
        step->rule = RULE_ANY; /* every nibble is a track character */
    } else if (step->halved && !field->pad_strict && packing == ISO_PACK_BCD_LEFT) {
        step->rule = RULE_BCD;
    }
}

bool iso_plan_make(const iso_spec *spec, const uint64_t present[ISO_BITMAPS_MAX], iso_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    plan->spec = spec;
    memcpy(plan->present, present, sizeof plan->present);
    plan_builder builder = {plan, plan->steps, 0, 0};
    uint32_t run = 0;
    for (uint32_t word = 0; word < ISO_BITMAPS_MAX; word++) {
        uint64_t left = iso_field_bits(spec, present, word);
        if ((left & ~spec->defined[word]) != 0) {
            return false;
        }
        while (left != 0) {
            const uint32_t number = word * 64 + iso_leading_zeros(left) + 1;
            left &= ~iso_bit(number);
            const iso_field *const field = &spec->fields[number];
            iso_place *const place = &plan->places[number];
            plan->numbers[plan->count++] = (uint8_t)number;
            if (field->content == ISO_CONTENT_TRACK2) {
                plan->track2_first = plan->track2_first == 0 ? (uint8_t)number : plan->track2_first;
                plan->track2_last = (uint8_t)number;
            }
            place->step = (uint8_t)(builder.step - plan->steps);
            place->at = (uint16_t)run;
            if (field->prefix_digits != 0) {
                place->kind = ISO_PLACE_VARIABLE;
                builder.step->run_size = (uint16_t)run;
                builder.step->check_end = (uint16_t)builder.check_count;
                set_variable(builder.step, field, number);
                builder.step++;
                plan->variable_count++;
                run = 0;
                continue;
            }
            const uint32_t size = iso_value_size(field, field->length_max);
            place->kind = ISO_PLACE_FIXED;
            place->size = (uint16_t)size;
            if (run + size > ISO_MESSAGE_SIZE_MAX) {
                return false;
            }
            add_fixed(&builder, field, number, run, size);
            run += size;
        }
    }
    builder.step->run_size = (uint16_t)run;
    builder.step->check_end = (uint16_t)builder.check_count;
    builder.step++;
    plan->step_count = (uint8_t)(builder.step - plan->steps);
    assert(plan->step_count == plan->variable_count + 1);
    return true;
}

static inline bool masked_bcd_is_clean(const uint8_t *data, const uint8_t *masks, uint32_t size)
{
    if (size < 8) {
        return (iso_bad_nibbles(iso_load_part(data, size, 0)) & iso_load_part(masks, size, 0)) == 0;
    }
    uint64_t bad = 0;
    for (uint32_t i = 0; i + 8 < size; i += 8) {
        bad |= iso_bad_nibbles(iso_load64(data + i)) & iso_load64(masks + i);
    }
    const uint32_t last = size - 8;
    return (bad | (iso_bad_nibbles(iso_load64(data + last)) & iso_load64(masks + last))) == 0;
}

static inline bool piece_is_sound(const iso_plan *plan, const iso_check *check, const uint8_t *data)
{
    switch (check->rule) {
    case RULE_BCD:
        return masked_bcd_is_clean(data, plan->masks + check->mask, check->size);
    case RULE_DIGITS:
        return iso_digits_are_clean(data, check->size);
    case RULE_PRINTABLE:
        return iso_printable_is_clean(data, check->size);
    case RULE_WORDS:
        return iso_words_are_clean(data, check->size);
    default: {
        const iso_field *const field = &plan->spec->fields[check->number];
        uint32_t index;
        return iso_value_check(plan->spec, check->number, field, data, check->size,
                               field->length_max, &index) == ISO_OK;
    }
    }
}

static bool tracks_are_sound(const iso_plan *plan, const uint8_t *data, uint32_t fields_offset,
                             const iso_slice *variables)
{
    for (uint32_t number = plan->track2_first; number <= plan->track2_last; number++) {
        const iso_field *const field = &plan->spec->fields[number];
        if (plan->places[number].kind == ISO_PLACE_ABSENT || field->content != ISO_CONTENT_TRACK2) {
            continue;
        }
        const uint32_t other = field->secret_field;
        const bool known = other != 0 && plan->places[other].kind != ISO_PLACE_ABSENT;
        const iso_slice track = iso_plan_slice(plan, variables, fields_offset, number);
        const iso_slice secret =
            known ? iso_plan_slice(plan, variables, fields_offset, other) : (iso_slice){0, 0, 0};
        if (!iso_track2_is_sound(field, data, &track, &plan->spec->fields[other],
                                 known ? &secret : NULL)) {
            return false;
        }
    }
    return true;
}

static inline bool variable_is_sound(const iso_plan *plan, const iso_step *step,
                                     const uint8_t *data, uint32_t size, uint32_t length)
{
    uint32_t index;
    switch (step->rule) {
    case RULE_ANY:
        return true;
    case RULE_BCD:
        return length % 2 == 0 ? iso_bcd_is_clean(data, size)
                               : iso_bcd_is_clean(data, size - 1) && data[size - 1] >> 4 <= 9;
    case RULE_DIGITS:
        return iso_digits_are_clean(data, size);
    case RULE_PRINTABLE:
        return iso_printable_is_clean(data, size);
    case RULE_WORDS:
        return iso_words_are_clean(data, size);
    case RULE_TLV:
        return iso_tlv_check(data, size, plan->spec->repeats, plan->spec->repeat_count,
                             step->number, &index) == ISO_OK;
    default:
        if (step->rule == RULE_TRACK &&
            ISO_LIKELY(iso_track2_find_bad(NULL, data, size) == ISO_NO_POSITION)) {
            return true; /* and what is none may be encrypted */
        }
        return iso_value_check(plan->spec, step->number, &plan->spec->fields[step->number], data,
                               size, length, &index) == ISO_OK;
    }
}

static const uint8_t PREFIX_SIZES[] = {
    [PREFIX_BCD_PAIR] = 1, [PREFIX_BCD_FOUR] = 2, [PREFIX_TWO] = 2, [PREFIX_THREE] = 3};

/* The length that a prefix says; what is not digits, or has a digit too many, is above every
 * maximum. */
static inline uint32_t quick_length(uint8_t prefix, const uint8_t *data)
{
    switch (prefix) {
    case PREFIX_BCD_PAIR:
        return (uint32_t)iso_bcd_pair(data[0]);
    case PREFIX_BCD_FOUR: {
        const int32_t high = iso_bcd_pair(data[0]);
        const int32_t low = iso_bcd_pair(data[1]);
        return (high | low) < 0 ? UINT32_MAX : (uint32_t)(high * 100 + low);
    }
    default: {
        const uint32_t first = data[0] - (uint32_t)'0';
        const uint32_t second = data[1] - (uint32_t)'0';
        const uint32_t third = prefix == PREFIX_THREE ? data[2] - (uint32_t)'0' : 0;
        if (ISO_UNLIKELY(first > 9 || second > 9 || third > 9)) {
            return UINT32_MAX;
        }
        return prefix == PREFIX_THREE ? first * 100 + second * 10 + third : first * 10 + second;
    }
    }
}

bool iso_plan_run(const iso_plan *plan, const uint8_t *data, uint32_t size, uint32_t fields_offset,
                  iso_slice *variables)
{
    assert(size <= ISO_MESSAGE_SIZE_MAX && fields_offset <= size);
    const iso_check *check = plan->checks;
    uint32_t offset = fields_offset;
    for (const iso_step *step = plan->steps;; step++) {
        if (ISO_UNLIKELY(size - offset < step->run_size)) {
            return false;
        }
        const iso_check *const end = plan->checks + step->check_end;
        for (; check < end; check++) {
            if (ISO_UNLIKELY(!piece_is_sound(plan, check, data + offset + check->at))) {
                return false;
            }
        }
        offset += step->run_size;
        if (step->number == 0) {
            break;
        }
        uint32_t length = 0;
        if (ISO_LIKELY(step->prefix != PREFIX_ANY)) {
            if (ISO_UNLIKELY(size - offset < PREFIX_SIZES[step->prefix])) {
                return false;
            }
            length = quick_length(step->prefix, data + offset);
            offset += PREFIX_SIZES[step->prefix];
            if (ISO_UNLIKELY(length > step->length_max || length < step->length_min)) {
                return false;
            }
        } else {
            uint32_t prefix_size = 0;
            if (ISO_UNLIKELY(iso_length_read(&plan->spec->fields[step->number], data, size, offset,
                                             &length, &prefix_size) != ISO_OK)) {
                return false;
            }
            offset += prefix_size;
        }
        const uint32_t value_size = step->prefix == PREFIX_ANY
                                        ? iso_value_size(&plan->spec->fields[step->number], length)
                                    : step->halved ? (length + 1) / 2
                                                   : length;
        if (ISO_UNLIKELY(size - offset < value_size ||
                         !variable_is_sound(plan, step, data + offset, value_size, length))) {
            return false;
        }
        *variables++ = (iso_slice){(uint16_t)offset, (uint16_t)value_size, (uint16_t)length};
        offset += value_size;
    }
    if (ISO_UNLIKELY(offset != size)) {
        return false;
    }
    return plan->track2_first == 0 ||
           tracks_are_sound(plan, data, fields_offset, variables - plan->variable_count);
}

/* Where the run of a step starts. */
static uint32_t run_offset(const iso_slice *variables, uint32_t fields_offset, uint32_t step)
{
    if (step == 0) {
        return fields_offset;
    }
    return (uint32_t)variables[step - 1].offset + variables[step - 1].size;
}

iso_slice iso_plan_slice(const iso_plan *plan, const iso_slice *variables, uint32_t fields_offset,
                         uint32_t number)
{
    const iso_place place = plan->places[number];
    if (place.kind == ISO_PLACE_VARIABLE) {
        return variables[place.step];
    }
    assert(place.kind == ISO_PLACE_FIXED);
    const uint32_t offset = run_offset(variables, fields_offset, place.step) + place.at;
    return (iso_slice){(uint16_t)offset, place.size, plan->spec->fields[number].length_max};
}

uint32_t iso_plan_span(const iso_plan *plan, const iso_slice *variables, uint32_t fields_offset,
                       uint32_t number, uint32_t *start)
{
    const iso_place place = plan->places[number];
    assert(place.kind != ISO_PLACE_ABSENT);
    *start = run_offset(variables, fields_offset, place.step) + place.at;
    if (place.kind == ISO_PLACE_FIXED) {
        return place.size;
    }
    return (uint32_t)variables[place.step].offset + variables[place.step].size - *start;
}
