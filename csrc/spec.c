#include "iso8583.h"
#include "internal.h"

static uint32_t prefix_max(uint32_t digits, uint32_t form)
{
    const uint32_t base = form == ISO_FORM_BINARY ? 256 : form == ISO_FORM_HEX ? 16 : 10;
    uint32_t value = 1;
    for (uint32_t i = 0; i < digits; i++) {
        value *= base;
    }
    return value - 1;
}

static bool content_fits_packing(const iso_field *field)
{
    const uint8_t content = field->content;
    switch (field->packing) {
    case ISO_PACK_BYTES:
        if (content > ISO_CONTENT_TLV || field->unit == ISO_UNIT_DIGITS) {
            return false;
        }
        if (field->unit == ISO_UNIT_NIBBLES && content != ISO_CONTENT_B &&
            content != ISO_CONTENT_TLV) {
            return false;
        }
        /* An EBCDIC page is for characters; the other character sets have contents of their own. */
        return field->charset == ISO_CHARSET_ASCII ||
               (content >= ISO_CONTENT_N && content <= ISO_CONTENT_XN);
    case ISO_PACK_BCD_LEFT:
    case ISO_PACK_BCD_RIGHT:
        return content == ISO_CONTENT_N && field->unit != ISO_UNIT_NIBBLES;
    case ISO_PACK_TRACK_LEFT:
    case ISO_PACK_TRACK_RIGHT:
        return (content == ISO_CONTENT_Z || content == ISO_CONTENT_TRACK2) &&
               field->unit != ISO_UNIT_NIBBLES;
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        return content == ISO_CONTENT_XN && field->unit == ISO_UNIT_DIGITS &&
               field->prefix_digits == 0;
    case ISO_PACK_HEX:
        return content == ISO_CONTENT_B && field->unit != ISO_UNIT_NIBBLES;
    default:
        return false;
    }
}

bool iso_field_check(const iso_field *field)
{
    if (!content_fits_packing(field)) {
        return false;
    }
    if (field->unit > ISO_UNIT_NIBBLES || field->prefix_form > ISO_FORM_HEX ||
        field->charset > ISO_CHARSET_CP1047) {
        return false;
    }
    if (field->pad_nibble != 0 && field->pad_nibble != 15) {
        return false;
    }
    if (field->secret_field != 0 && field->content != ISO_CONTENT_TRACK2) {
        return false;
    }
    if (field->length_max == 0 || field->length_min > field->length_max) {
        return false;
    }
    if (field->prefix_digits == 0) {
        return field->length_min == field->length_max &&
               iso_value_size(field, field->length_max) != ISO_NO_POSITION;
    }
    const uint32_t digits_max = field->prefix_form == ISO_FORM_BINARY ? 2
                                : field->prefix_form == ISO_FORM_HEX  ? 4
                                                                      : ISO_PREFIX_DIGITS_MAX;
    return field->prefix_digits <= digits_max &&
           field->length_max <= prefix_max(field->prefix_digits, field->prefix_form);
}

static uint8_t shape_of(const iso_field *field)
{
    const uint8_t packing = field->packing;
    const bool digits = packing == ISO_PACK_BCD_LEFT || packing == ISO_PACK_BCD_RIGHT;
    const bool track = packing == ISO_PACK_TRACK_LEFT || packing == ISO_PACK_TRACK_RIGHT;
    const bool plain = packing == ISO_PACK_BYTES && field->unit == ISO_UNIT_BYTES &&
                       field->charset == ISO_CHARSET_ASCII;
    if (field->prefix_digits != 0) {
        const bool counts =
            (field->prefix_form == ISO_FORM_BCD || field->prefix_form == ISO_FORM_ASCII) &&
            (field->prefix_digits == 2 || field->prefix_digits == 3);
        if (counts && (digits || track) && field->unit == ISO_UNIT_DIGITS) {
            return ISO_SHAPE_PACKED;
        }
        const bool simple = field->content == ISO_CONTENT_ANS || field->content == ISO_CONTENT_B ||
                            field->content == ISO_CONTENT_TLV || field->content == ISO_CONTENT_N ||
                            field->content == ISO_CONTENT_TRACK2;
        return counts && plain && simple ? ISO_SHAPE_COUNTED : ISO_SHAPE_GENERAL;
    }
    if (digits && field->unit == ISO_UNIT_DIGITS) {
        return field->length_max % 2 == 0 ? ISO_SHAPE_DIGITS : ISO_SHAPE_ODD;
    }
    if (!plain) {
        return ISO_SHAPE_GENERAL;
    }
    switch (field->content) {
    case ISO_CONTENT_ANS:
        return ISO_SHAPE_PRINTABLE;
    case ISO_CONTENT_AN:
        return ISO_SHAPE_WORDS;
    case ISO_CONTENT_N:
        return ISO_SHAPE_NUMBER;
    case ISO_CONTENT_B:
        return ISO_SHAPE_BYTES;
    default:
        return ISO_SHAPE_GENERAL;
    }
}

/* Is there a bit for this field, and not one that announces a bitmap? */
static bool has_bit(const iso_spec *spec, uint32_t number)
{
    return number >= 2 && number <= spec->field_max && !(number == 65 && spec->field_max == 192);
}

/* The field that says whether a track is encrypted must be one whose characters mean what they say:
 * a bitmap has none, D is '=' in track data, and only these packings are looked into. */
static bool secret_is_plain(const iso_spec *spec, const iso_field *field)
{
    if (field->secret_field == 0) {
        return true;
    }
    if (!has_bit(spec, field->secret_field)) {
        return false;
    }
    const iso_field *const other = &spec->fields[field->secret_field];
    switch (other->packing) {
    case ISO_PACK_NONE:
    case ISO_PACK_BCD_LEFT:
    case ISO_PACK_BCD_RIGHT:
        return true;
    case ISO_PACK_BYTES:
        return other->content != ISO_CONTENT_TRACK2 && other->content != ISO_CONTENT_TLV;
    default:
        return false;
    }
}

iso_status iso_spec_check(iso_spec *spec, iso_fault *fault)
{
    uint64_t defined[ISO_BITMAPS_MAX] = {0, 0, 0};
    uint8_t has_track2 = 0;
    uint32_t bad = ISO_NO_POSITION;
    if (spec->mti_form > ISO_FORM_EBCDIC) {
        bad = 0;
    } else if (spec->bitmap_form > ISO_BITMAP_HEX_EBCDIC || spec->repeat_count > ISO_REPEATS_MAX ||
               (spec->field_max != 64 && spec->field_max != 128 && spec->field_max != 192)) {
        bad = 1;
    }
    for (uint32_t number = 0; number < ISO_TABLE_SIZE && bad == ISO_NO_POSITION; number++) {
        iso_field *const field = &spec->fields[number];
        if (field->packing == ISO_PACK_NONE) {
            continue;
        }
        if (!has_bit(spec, number) || !iso_field_check(field) || !secret_is_plain(spec, field)) {
            bad = number;
        } else {
            defined[iso_word(number)] |= iso_bit(number);
            field->shape = shape_of(field);
            has_track2 |= field->content == ISO_CONTENT_TRACK2;
        }
    }
    if (bad != ISO_NO_POSITION) {
        return iso_fail(fault, ISO_E_SPEC, bad, 0, 0, 0);
    }
    memcpy(spec->defined, defined, sizeof defined);
    spec->has_track2 = has_track2;
    return ISO_OK;
}
