#include "iso8583.h"
#include "internal.h"

void iso_build_announce(uint64_t present[ISO_BITMAPS_MAX])
{
    if (present[2] != 0) {
        present[1] |= iso_bit(65);
    }
    if (present[1] != 0) {
        present[0] |= iso_bit(1);
    }
}

static uint32_t bitmap_count(const iso_spec *spec, const uint64_t present[ISO_BITMAPS_MAX])
{
    if ((present[0] & iso_bit(1)) == 0) {
        return 1;
    }
    return spec->field_max > 128 && (present[1] & iso_bit(65)) != 0 ? 3 : 2;
}

uint32_t iso_build_base_size(const iso_spec *spec, const uint64_t present[ISO_BITMAPS_MAX])
{
    return iso_number_size(ISO_MTI_DIGITS, (iso_digits_form)spec->mti_form) +
           iso_bitmap_size((iso_bitmap_form)spec->bitmap_form) * bitmap_count(spec, present);
}

/* Does the value at hand say that the track is encrypted? It is in characters, or encoded. */
static bool is_secret(const iso_spec *spec, const iso_field *field,
                      const uint64_t present[ISO_BITMAPS_MAX], const iso_value *values)
{
    const uint32_t other = field->secret_field;
    if (other == 0 || (present[iso_word(other)] & iso_bit(other)) == 0) {
        return false;
    }
    const iso_value *const value = &values[other];
    if (!value->as_wire) {
        return field->secret_position < value->size &&
               value->data[field->secret_position] == field->secret_character;
    }
    uint32_t offset = 0;
    iso_slice slice;
    iso_fault fault;
    return iso_field_read(&spec->fields[other], value->data, value->size, &offset, &slice,
                          &fault) == ISO_OK &&
           iso_says_secret(field, value->data, &spec->fields[other], &slice);
}

/* A track copied from another message was sound there. It still is, unless the field that said that
 * it is encrypted has been changed or taken away. */
static bool may_have_changed(const iso_field *field, const uint64_t present[ISO_BITMAPS_MAX],
                             const iso_value *values)
{
    const uint32_t other = field->secret_field;
    return other != 0 &&
           ((present[iso_word(other)] & iso_bit(other)) == 0 || !values[other].as_wire);
}

/* What a field alone cannot know: which tags may repeat, and whether a track is encrypted. */
static iso_status check_value(const iso_spec *spec, uint32_t number,
                              const uint64_t present[ISO_BITMAPS_MAX], const iso_value *values,
                              uint32_t *position)
{
    const iso_field *const field = &spec->fields[number];
    const iso_value *const value = &values[number];
    if (value->as_wire) {
        uint32_t offset = 0;
        iso_slice slice;
        iso_fault fault;
        return field->content == ISO_CONTENT_TRACK2 && may_have_changed(field, present, values) &&
                       !is_secret(spec, field, present, values)
                   ? iso_field_read(field, value->data, value->size, &offset, &slice, &fault)
                   : ISO_OK;
    }
    if (field->content == ISO_CONTENT_TLV) {
        return iso_tlv_check(value->data, value->size, spec->repeats, spec->repeat_count, number,
                             position);
    }
    if (field->content == ISO_CONTENT_TRACK2 && !is_secret(spec, field, present, values)) {
        *position = iso_track2_find_bad(NULL, value->data, value->size);
        return *position == ISO_NO_POSITION ? ISO_OK : ISO_E_TRACK;
    }
    return ISO_OK;
}

/* False: `mti` is not four digits. */
static bool write_mti(const uint8_t *mti, iso_digits_form form, uint8_t *out)
{
    uint8_t packed[2];
    const uint32_t digits = iso_load32(mti);
    const bool sound = iso_pack_even(mti, ISO_MTI_DIGITS, false, packed);
    if (form == ISO_FORM_BCD) {
        memcpy(out, packed, sizeof packed);
    } else {
        iso_store32(out, form == ISO_FORM_EBCDIC ? digits | 0xC0C0C0C0u : digits);
    }
    return sound;
}

iso_status iso_build(const iso_spec *spec, const uint8_t *mti,
                     const uint64_t present[ISO_BITMAPS_MAX], const iso_value *values, uint8_t *out,
                     uint32_t capacity, uint32_t *size, iso_fault *fault)
{
    for (uint32_t word = 0; word < ISO_BITMAPS_MAX; word++) {
        const uint64_t undefined = iso_field_bits(spec, present, word) & ~spec->defined[word];
        if (undefined != 0) {
            return iso_fail(fault, ISO_E_UNDEFINED, word * 64 + iso_leading_zeros(undefined) + 1, 0,
                            0, 0);
        }
    }
    /* A bitmap that is not announced would be lost. */
    assert(present[1] == 0 || (present[0] & iso_bit(1)) != 0);
    assert(present[2] == 0 || (present[1] & iso_bit(65)) != 0);
    if (bitmap_count(spec, present) * 64u > spec->field_max) {
        return iso_fail(fault, ISO_E_BITMAP, 1, 0, 0, 0);
    }
    const iso_digits_form mti_form = (iso_digits_form)spec->mti_form;
    const uint32_t mti_size = iso_number_size(ISO_MTI_DIGITS, mti_form);
    uint32_t offset = iso_build_base_size(spec, present);
    if (capacity < offset) {
        return iso_fail(fault, ISO_E_SPACE, 0, 0, 0, 0);
    }
    if (!write_mti(mti, mti_form, out)) {
        return iso_fail(fault, ISO_E_MTI, 0, 0, 0, 0);
    }
    const iso_bitmap_form form = (iso_bitmap_form)spec->bitmap_form;
    for (uint32_t word = 0; word < bitmap_count(spec, present); word++) {
        iso_bitmap_write(form, present[word], out + mti_size + word * iso_bitmap_size(form));
    }

    for (uint32_t word = 0; word < ISO_BITMAPS_MAX; word++) {
        uint64_t left = iso_field_bits(spec, present, word);
        while (left != 0) {
            const uint32_t number = word * 64 + iso_leading_zeros(left) + 1;
            left &= ~iso_bit(number);
            const iso_field *const field = &spec->fields[number];
            const iso_value *const value = &values[number];
            uint32_t written = 0;
            if (ISO_LIKELY(!value->as_wire)) {
                written =
                    iso_shape_put(field, value->data, value->size, out + offset, capacity - offset);
            }
            iso_status status = ISO_OK;
            uint32_t position = 0;
            if (ISO_UNLIKELY(written == 0)) {
                status = iso_field_put(field, value, out + offset, capacity - offset, &written,
                                       &position);
            }
            if (status == ISO_OK &&
                (field->content == ISO_CONTENT_TLV || field->content == ISO_CONTENT_TRACK2)) {
                status = check_value(spec, number, present, values, &position);
            }
            if (ISO_UNLIKELY(status != ISO_OK)) {
                return iso_fail(fault, status, number, offset, position, value->size);
            }
            offset += written;
        }
    }
    assert(offset <= capacity);
    *size = offset;
    return ISO_OK;
}
