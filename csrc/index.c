#include "iso8583.h"
#include "internal.h"

typedef struct fault_list {
    iso_fault *list;
    uint32_t capacity;
    uint32_t count;
} fault_list;

/* Note a fault; returns whether reading may go on. */
static bool note(fault_list *faults, iso_status status, uint32_t field, uint32_t offset,
                 uint32_t position, uint32_t length)
{
    assert(faults->count < faults->capacity);
    iso_fail(&faults->list[faults->count], status, field, offset, position, length);
    faults->count++;
    return faults->count < faults->capacity;
}

/* Offset of the byte of the bitmaps that holds the bit of `field`. */
static uint32_t bit_offset(const iso_spec *spec, uint32_t bitmap_offset, uint32_t field)
{
    return bitmap_offset + (field - 1) / (spec->bitmap_form == ISO_BITMAP_BINARY ? 8 : 4);
}

iso_status iso_mti_read(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                        uint32_t *mti, iso_fault *fault)
{
    assert(start <= size);
    const iso_digits_form form = (iso_digits_form)spec->mti_form;
    if (size > ISO_MESSAGE_SIZE_MAX) {
        return iso_fail(fault, ISO_E_SIZE, 0, 0, 0, 0);
    }
    if (size - start < iso_number_size(ISO_MTI_DIGITS, form)) {
        return iso_fail(fault, ISO_E_TRUNCATED, 0, start, start, 0);
    }
    const int32_t number = iso_number_read(data + start, ISO_MTI_DIGITS, form);
    if (number < 0) {
        return iso_fail(fault, ISO_E_MTI, 0, start, start, 0);
    }
    *mti = (uint32_t)number;
    return ISO_OK;
}

/* Read MTI and bitmaps. ISO_OK, or the fault; *at is left at the bitmap to blame. */
static iso_status read_head(const iso_spec *spec, const uint8_t *data, uint32_t size,
                            uint32_t start, iso_head *head, iso_fault *fault)
{
    uint32_t mti = 0;
    iso_status status = iso_mti_read(spec, data, size, start, &mti, fault);
    if (status != ISO_OK) {
        return status;
    }
    const iso_bitmap_form form = (iso_bitmap_form)spec->bitmap_form;
    const uint32_t words = spec->field_max / 64u;
    uint32_t at = start + iso_number_size(ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form);
    head->present[1] = 0;
    head->present[2] = 0;
    for (uint32_t word = 0; word < words; word++) {
        uint32_t position = at;
        status = iso_bitmap_read(form, data, size, at, &head->present[word], &position);
        if (status != ISO_OK) {
            return iso_fail(fault, status, 1, at, position, 0);
        }
        const bool more = word < 2 && (head->present[word] & iso_bit(1)) != 0;
        if (more && word + 1 == words && word == 0) {
            return iso_fail(fault, ISO_E_BITMAP, 1, at, at, 1);
        }
        at += iso_bitmap_size(form);
        if (!more) {
            break;
        }
    }
    head->mti = (uint16_t)mti;
    head->fields_offset = (uint16_t)at;
    return ISO_OK;
}

bool iso_head_read(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                   iso_head *head)
{
    iso_fault fault;
    assert(start <= size);
    /* The most common form, without a loop. */
    if (spec->mti_form == ISO_FORM_BCD && spec->bitmap_form == ISO_BITMAP_BINARY &&
        size - start >= 10 && size <= ISO_MESSAGE_SIZE_MAX) {
        const uint8_t *const at = data + start;
        const uint64_t bits = __builtin_bswap64(iso_load64(at + 2));
        const uint32_t high = at[0];
        const uint32_t low = at[1];
        if (iso_bad_nibbles(high << 8 | low) == 0 && (bits & iso_bit(1)) == 0) {
            head->present[0] = bits;
            head->present[1] = 0;
            head->present[2] = 0;
            head->mti =
                (uint16_t)((high >> 4) * 1000 + (high & 15) * 100 + (low >> 4) * 10 + (low & 15));
            head->fields_offset = (uint16_t)(start + 10);
            return true;
        }
    }
    return read_head(spec, data, size, start, head, &fault) == ISO_OK;
}

/* Read one field at *offset. Returns whether reading may go on; *found says whether the slice is
 * there. */
static bool read_field(const iso_spec *spec, uint32_t number, const uint8_t *data, uint32_t size,
                       uint32_t *offset, iso_slice *slice, bool *found, fault_list *faults)
{
    const iso_field *const field = &spec->fields[number];
    const uint32_t from = *offset;
    uint32_t length = 0;
    uint32_t prefix_size = 0;
    *found = false;
    iso_status status = iso_length_read(field, data, size, from, &length, &prefix_size);
    if (status != ISO_OK) {
        note(faults, status, number, from, from, length);
        return false;
    }
    const uint32_t value_offset = from + prefix_size;
    const uint32_t value_size = iso_value_size(field, length);
    if (size - value_offset < value_size) {
        note(faults, ISO_E_TRUNCATED, number, from, from, length);
        return false;
    }
    *slice = (iso_slice){(uint16_t)value_offset, (uint16_t)value_size, (uint16_t)length};
    *offset = value_offset + value_size;
    *found = true;
    uint32_t index = 0;
    status = iso_value_check(spec, number, field, data + value_offset, value_size, length, &index);
    return status == ISO_OK || note(faults, status, number, from, value_offset + index, length);
}

/* Position of a present field in the slices. */
static uint32_t position_of(const iso_spec *spec, const iso_head *head, uint32_t number)
{
    uint32_t position = 0;
    for (uint32_t word = 0; word < ISO_BITMAPS_MAX; word++) {
        uint64_t bits = iso_field_bits(spec, head->present, word);
        if (word == iso_word(number)) {
            bits &= ~(iso_bit(number) | (iso_bit(number) - 1));
        } else if (word > iso_word(number)) {
            break;
        }
        position += (uint32_t)__builtin_popcountll(bits);
    }
    return position;
}

static void check_tracks(const iso_spec *spec, const uint8_t *data, const iso_layout *layout,
                         const uint64_t *announced, fault_list *faults)
{
    for (uint32_t number = 2; number < ISO_TABLE_SIZE; number++) {
        const iso_field *const field = &spec->fields[number];
        if (field->content != ISO_CONTENT_TRACK2 ||
            (layout->head.present[iso_word(number)] & iso_bit(number)) == 0) {
            continue;
        }
        const uint32_t other = field->secret_field;
        const bool known =
            other != 0 && (layout->head.present[iso_word(other)] & iso_bit(other)) != 0;
        if (!known && other != 0 && (announced[iso_word(other)] & iso_bit(other)) != 0) {
            continue; /* reading stopped in front of it: nobody knows what it says */
        }
        const iso_slice *const track = &layout->slices[position_of(spec, &layout->head, number)];
        const iso_slice *const secret =
            known ? &layout->slices[position_of(spec, &layout->head, other)] : NULL;
        if (!iso_track2_is_sound(field, data, track, &spec->fields[other], secret) &&
            !note(faults, ISO_E_TRACK, number,
                  track->offset -
                      iso_number_size(field->prefix_digits, (iso_digits_form)field->prefix_form),
                  track->offset, track->length)) {
            return;
        }
    }
}

uint32_t iso_index(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                   iso_layout *layout, iso_fault *list, uint32_t capacity)
{
    assert(start <= size);
    assert(capacity >= 1);
    fault_list faults = {list, capacity, 0};
    iso_head head = {{0, 0, 0}, 0, 0};
    layout->count = 0;
    layout->head = head;
    if (read_head(spec, data, size, start, &head, list) != ISO_OK) {
        layout->head.mti = head.mti;
        return 1;
    }
    layout->head.mti = head.mti;
    layout->head.fields_offset = head.fields_offset;

    const uint32_t bitmaps =
        start + iso_number_size(ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form);
    for (uint32_t word = 0; word < ISO_BITMAPS_MAX; word++) {
        uint64_t undefined = iso_field_bits(spec, head.present, word) & ~spec->defined[word];
        while (undefined != 0) {
            const uint32_t number = word * 64 + iso_leading_zeros(undefined) + 1;
            undefined &= ~iso_bit(number);
            const uint32_t byte = bit_offset(spec, bitmaps, number);
            if (!note(&faults, ISO_E_UNDEFINED, number, byte, byte, 0)) {
                return faults.count;
            }
        }
    }

    uint32_t offset = head.fields_offset;
    bool goes_on = true;
    for (uint32_t word = 0; word < ISO_BITMAPS_MAX && goes_on; word++) {
        uint64_t left = iso_field_bits(spec, head.present, word);
        /* The bits that announce bitmaps stay as they came. */
        layout->head.present[word] |= head.present[word] & ~left;
        while (left != 0 && goes_on) {
            const uint32_t number = word * 64 + iso_leading_zeros(left) + 1;
            left &= ~iso_bit(number);
            if ((spec->defined[word] & iso_bit(number)) == 0) {
                goes_on = false; /* noted above; nobody knows where it ends */
                break;
            }
            bool found = false;
            goes_on = read_field(spec, number, data, size, &offset, &layout->slices[layout->count],
                                 &found, &faults);
            if (found) {
                layout->head.present[word] |= iso_bit(number);
                layout->count++;
            }
        }
    }
    if (spec->has_track2 && faults.count < capacity) {
        check_tracks(spec, data, layout, head.present, &faults);
    }
    if (goes_on && faults.count < capacity && offset != size) {
        note(&faults, ISO_E_TRAILING, 0, offset, offset, size - offset);
    }
    assert(layout->count < ISO_FIELD_MAX);
    return faults.count;
}
