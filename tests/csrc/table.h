/* A spec with one field of every kind, and messages made of it. */
#ifndef TABLE_H
#define TABLE_H

#include "check.h"

enum {
    F_PAN = 2,       /* LL BCD digits, left */
    F_AMOUNT = 4,    /* fixed, even; 3 and 4 are one run */
    F_COUNT = 5,     /* fixed ASCII digits */
    F_FEE = 10,      /* signed, left, fixed, odd: the pad must be F */
    F_ENTRY = 22,    /* fixed, odd, left, any pad */
    F_CARD = 23,     /* fixed, odd, right, any pad */
    F_BYTES = 32,    /* LL BCD digits, prefix counts bytes */
    F_STRICT = 33,   /* fixed, odd, left, pad must be 0 */
    F_TRACK = 35,    /* LL track 2, packed left; encrypted when 53 starts with 1 */
    F_TRACK_E = 36,  /* LL track 2 in EBCDIC; encrypted when character 2 of 53 is 9 */
    F_TERMINAL = 41, /* fixed ans */
    F_TEXT = 44,     /* LL GBK */
    F_NIBBLES = 52,  /* LLL binary, the prefix counts nibbles */
    F_SECURITY = 53, /* n16 */
    F_ICC = 55,      /* LLL TLV; DF01 may come again */
    F_PRIVATE = 62,  /* LLL bytes, ASCII prefix */
    F_MAC = 64,      /* fixed bytes */
    F_BIT65 = 65,    /* a field with two bitmaps, with three the bit that announces the third */
    F_LAST = 128,    /* fixed bytes, only with a secondary bitmap */
    F_TERTIARY = 129,
    F_FINAL = 192
};

#define FIXED(size) .length_min = (size), .length_max = (size)
#define PREFIX(form, digits, min, max)                                                             \
    .prefix_digits = (digits), .prefix_form = ISO_FORM_##form, .length_min = (min),                \
    .length_max = (max)
#define PACKED(how, counts)                                                                        \
    .packing = ISO_PACK_##how, .content = ISO_CONTENT_N, .unit = ISO_UNIT_##counts
#define TRACK(how, what, counts)                                                                   \
    .packing = ISO_PACK_TRACK_##how, .content = ISO_CONTENT_##what, .unit = ISO_UNIT_##counts
#define SIGNED(how)                                                                                \
    .packing = ISO_PACK_SIGNED_##how, .content = ISO_CONTENT_XN, .unit = ISO_UNIT_DIGITS
#define HEX(counts) .packing = ISO_PACK_HEX, .content = ISO_CONTENT_B, .unit = ISO_UNIT_##counts
#define PLAIN(what) .packing = ISO_PACK_BYTES, .content = ISO_CONTENT_##what
#define EBCDIC(page, what) PLAIN(what), .charset = ISO_CHARSET_##page

static const struct {
    uint32_t number;
    iso_field field;
} TABLE[] = {
    {F_PAN, {PACKED(BCD_LEFT, DIGITS), PREFIX(BCD, 2, 1, 19)}},
    {3, {PACKED(BCD_LEFT, DIGITS), FIXED(6)}},
    {F_AMOUNT, {PACKED(BCD_LEFT, DIGITS), FIXED(12)}},
    {F_COUNT, {PLAIN(N), FIXED(6)}},
    {6, {PLAIN(ANS), FIXED(3)}},
    {7, {PLAIN(ANS), FIXED(25)}},
    {8, {PACKED(BCD_RIGHT, DIGITS), FIXED(8)}},
    {9, {PACKED(BCD_RIGHT, DIGITS), FIXED(1)}},
    {F_FEE, {SIGNED(LEFT), .pad_strict = 1, .pad_nibble = 15, FIXED(10)}},
    {11, {SIGNED(RIGHT), FIXED(8)}},
    {12, {PLAIN(XN), FIXED(9)}},
    {13, {EBCDIC(CP500, XN), FIXED(9)}},
    {14, {PACKED(BCD_RIGHT, BYTES), FIXED(3)}},
    {15, {PACKED(BCD_LEFT, DIGITS), FIXED(1)}},
    {F_ENTRY, {PACKED(BCD_LEFT, DIGITS), FIXED(3)}},
    {F_CARD, {PACKED(BCD_RIGHT, DIGITS), FIXED(3)}},
    {24, {PACKED(BCD_RIGHT, DIGITS), .pad_strict = 1, PREFIX(ASCII, 2, 0, 15)}},
    {25, {TRACK(RIGHT, Z, DIGITS), .pad_strict = 1, .pad_nibble = 15, PREFIX(BCD, 3, 0, 104)}},
    {26, {TRACK(LEFT, Z, BYTES), PREFIX(BINARY, 1, 1, 50)}},
    {27, {PLAIN(Z), PREFIX(ASCII, 3, 0, 104)}},
    {28, {PACKED(BCD_RIGHT, DIGITS), PREFIX(BCD, 2, 0, 15)}},
    {29, {EBCDIC(CP037, N), FIXED(5)}},
    {30, {EBCDIC(CP1047, ANS), FIXED(5)}},
    {31, {EBCDIC(CP500, AN), PREFIX(EBCDIC, 2, 0, 11)}},
    {F_BYTES, {PACKED(BCD_LEFT, BYTES), PREFIX(BCD, 2, 0, 6)}},
    {F_STRICT, {PACKED(BCD_LEFT, DIGITS), .pad_strict = 1, FIXED(3)}},
    {34, {TRACK(RIGHT, TRACK2, DIGITS), PREFIX(BCD, 2, 3, 37)}},
    {F_TRACK,
     {TRACK(LEFT, TRACK2, DIGITS), PREFIX(BCD, 2, 3, 80), .secret_field = F_SECURITY,
      .secret_position = 0, .secret_character = '1'}},
    {F_TRACK_E,
     {EBCDIC(CP037, TRACK2), PREFIX(EBCDIC, 2, 3, 37), .secret_field = F_SECURITY,
      .secret_position = 2, .secret_character = '9'}},
    {37, {EBCDIC(CP037, AN), FIXED(12)}},
    {38, {PLAIN(AN), FIXED(6)}},
    {39, {PLAIN(A), PREFIX(ASCII, 1, 0, 9)}},
    {40, {PLAIN(LATIN1), PREFIX(ASCII, 2, 0, 40)}},
    {F_TERMINAL, {PLAIN(ANS), FIXED(8)}},
    {42, {EBCDIC(CP1047, ANS), PREFIX(EBCDIC, 3, 0, 300)}},
    {43, {PLAIN(ANS), PREFIX(ASCII, 6, 0, 40)}},
    {F_TEXT, {PLAIN(GBK), PREFIX(BCD, 2, 0, 25)}},
    {45, {PLAIN(GB18030), PREFIX(ASCII, 2, 0, 60)}},
    {46, {PLAIN(UTF8), PREFIX(BINARY, 2, 0, 300)}},
    {47, {HEX(BYTES), PREFIX(HEX, 2, 1, 255)}},
    {48, {HEX(DIGITS), .charset = ISO_CHARSET_CP500, PREFIX(HEX, 4, 0, 300)}},
    {49, {HEX(BYTES), FIXED(8)}},
    {50, {PLAIN(B), PREFIX(BCD, 5, 0, 12000)}},
    {51, {PLAIN(B), PREFIX(ASCII, 4, 7, 1200)}},
    {F_NIBBLES, {PLAIN(B), .unit = ISO_UNIT_NIBBLES, PREFIX(BCD, 3, 2, 64)}},
    {F_SECURITY, {PACKED(BCD_LEFT, DIGITS), FIXED(16)}},
    {54, {PLAIN(TLV), .unit = ISO_UNIT_NIBBLES, PREFIX(ASCII, 3, 0, 510)}},
    {F_ICC, {PLAIN(TLV), PREFIX(BCD, 3, 0, 400)}},
    {F_PRIVATE, {PLAIN(B), PREFIX(ASCII, 3, 0, 999)}},
    {63, {PLAIN(B), .unit = ISO_UNIT_NIBBLES, FIXED(6)}},
    {F_MAC, {PLAIN(B), FIXED(8)}},
    {F_BIT65, {PLAIN(B), FIXED(1)}},
    {66, {PACKED(BCD_LEFT, DIGITS), FIXED(1)}},
    {70, {PACKED(BCD_RIGHT, DIGITS), FIXED(3)}},
    {127, {PLAIN(ANS), PREFIX(ASCII, 3, 0, 999)}},
    {F_LAST, {PLAIN(B), FIXED(8)}},
    {F_TERTIARY, {PACKED(BCD_LEFT, DIGITS), PREFIX(BCD, 1, 0, 9)}},
    {191, {PLAIN(ANS), FIXED(2)}},
    {F_FINAL, {PLAIN(N), PREFIX(ASCII, 1, 1, 5)}},
};
enum { TABLE_COUNT = sizeof TABLE / sizeof TABLE[0], REPEATED_TAG = 0xDF01, TRACK2_MAX = 37 };

static inline iso_spec make_table(uint8_t field_max, iso_digits_form mti_form,
                                  iso_bitmap_form bitmap_form)
{
    iso_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.mti_form = (uint8_t)mti_form;
    spec.bitmap_form = (uint8_t)bitmap_form;
    spec.field_max = field_max;
    spec.repeat_count = 1;
    spec.repeats[0] = (iso_repeat){REPEATED_TAG, F_ICC};
    for (uint32_t i = 0; i < TABLE_COUNT; i++) {
        const uint32_t number = TABLE[i].number;
        if (number <= field_max && !(number == F_BIT65 && field_max == 192)) {
            spec.fields[number] = TABLE[i].field;
        }
    }
    iso_fault fault;
    CHECK(iso_spec_check(&spec, &fault) == ISO_OK);
    return spec;
}

/* 0..17: every number of bitmaps with every form of MTI and two forms of bitmap each. */
enum { TABLE_SHAPES = 18 };

static inline iso_spec make_shape(uint32_t shape)
{
    const uint8_t field_max = (uint8_t)(64 * (1 + shape % 3));
    const iso_digits_form mti_form = (iso_digits_form)(shape / 3 % 3);
    return make_table(field_max, mti_form, (iso_bitmap_form)((shape / 9 + shape) % 3));
}

/* ---- values -------------------------------------------------------------------------------- */

static inline uint8_t dice_of(uint32_t *state, const char *characters)
{
    return (uint8_t)characters[dice(state) % strlen(characters)];
}

static inline uint32_t dice_between(uint32_t *state, uint32_t low, uint32_t high)
{
    return low + dice(state) % (high - low + 1);
}

/* Characters or bytes of a value whose length in the field's own unit is `length`. Written from the
 * manual and not from the core: it is what the core is compared with. */
static inline uint32_t characters_of(const iso_field *field, uint32_t length)
{
    switch (field->packing) {
    case ISO_PACK_BYTES:
        return field->unit == ISO_UNIT_NIBBLES ? length / 2 : length;
    case ISO_PACK_HEX:
        return field->unit == ISO_UNIT_DIGITS ? length / 2 : length;
    default:
        return field->unit == ISO_UNIT_BYTES ? length * 2 : length;
    }
}

/* Bytes as transmitted. */
static inline uint32_t bytes_of(const iso_field *field, uint32_t length)
{
    const uint32_t characters = characters_of(field, length);
    switch (field->packing) {
    case ISO_PACK_BYTES:
        return characters;
    case ISO_PACK_HEX:
        return characters * 2;
    case ISO_PACK_SIGNED_LEFT:
    case ISO_PACK_SIGNED_RIGHT:
        return 1 + characters / 2;
    default:
        return (characters + 1) / 2;
    }
}

static inline void write_utf8(uint32_t point, uint32_t size, uint8_t *out)
{
    for (uint32_t i = size - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (point & 0x3F));
        point >>= 6;
    }
    out[0] = (uint8_t)((size == 1 ? 0 : size == 2 ? 0xC0 : size == 3 ? 0xE0 : 0xF0) | point);
}

static inline void fill_text(iso_content content, uint32_t *state, uint8_t *out, uint32_t size)
{
    uint32_t at = 0;
    while (at < size) {
        uint32_t step = dice_between(state, 1, 4);
        step = step <= size - at ? step : 1;
        if (step == 1) {
            out[at] = (uint8_t)dice_between(state, 0x20, 0x7E);
        } else if (content == ISO_CONTENT_UTF8) {
            const uint32_t point = step == 2   ? dice_between(state, 0xA0, 0x7FF)
                                   : step == 3 ? dice_between(state, 0x800, 0xD7FF)
                                               : dice_between(state, 0x10000, 0x10FFFF);
            write_utf8(point, step, out + at);
        } else if (step == 4 && content == ISO_CONTENT_GB18030) {
            out[at] = (uint8_t)dice_between(state, 0x90, 0xE2);
            out[at + 1] = (uint8_t)dice_between(state, '0', '9');
            out[at + 2] = (uint8_t)dice_between(state, 0x81, 0xFE);
            out[at + 3] = (uint8_t)dice_between(state, '0', '9');
        } else {
            step = 2;
            out[at] = (uint8_t)dice_between(state, 0x81, 0xFE);
            out[at + 1] = (uint8_t)dice_between(state, 0x80, 0xFE);
        }
        at += step;
    }
}

/* Objects with padding between them; what is too short for one is padding. */
static inline void fill_tlv(uint32_t *state, bool repeats, uint8_t *out, uint32_t size)
{
    static const struct {
        uint32_t size;
        const char *bytes;
    } TAGS[] = {{1, "\x82"},         {2, "\x9F\x36"},         {2, "\x5F\x2A"},
                {3, "\xDF\x81\x01"}, {4, "\xDF\x81\x82\x03"}, {2, "\xDF\x01"},
                {1, "\x70"},         {2, "\x1F\x00"}};
    uint32_t at = 0;
    memset(out, 0, size);
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t left = size - at;
        const uint32_t tag_size = TAGS[i].size;
        if (left < tag_size + 6 || dice(state) % 3 == 0) {
            continue;
        }
        uint32_t value_size = dice(state) % (dice(state) % 4 == 0 ? 300 : 12);
        value_size = value_size > left - tag_size - 3 ? left - tag_size - 3 : value_size;
        memcpy(out + at, TAGS[i].bytes, tag_size);
        at += tag_size;
        if (value_size >= 0x100) {
            out[at++] = 0x82;
            out[at++] = (uint8_t)(value_size >> 8);
        } else if (value_size >= 0x80) {
            out[at++] = 0x81;
        }
        out[at++] = (uint8_t)value_size;
        for (uint32_t k = 0; k < value_size; k++) {
            out[at++] = (uint8_t)dice(state);
        }
        at += dice(state) % 4 == 0 && at < size ? 1 : 0;
        i -= repeats && i == 5 && dice(state) % 2 == 0 ? 1 : 0;
    }
}

static inline void fill_track2(uint32_t *state, uint8_t *out, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        out[i] = dice_of(state, "0123456789");
    }
    if (size > 1) {
        out[dice_between(state, 1, size - 1 < 19 ? size - 1 : 19)] = '=';
    }
}

/* A legal value of `size` characters, in the form that iso_value_write writes. */
static inline void fill_value(const iso_field *field, uint32_t *state, bool repeats, bool secret,
                              uint8_t *out, uint32_t size)
{
    const bool translated = field->charset != ISO_CHARSET_ASCII;
    switch (field->content) {
    case ISO_CONTENT_GBK:
    case ISO_CONTENT_GB18030:
    case ISO_CONTENT_UTF8:
        fill_text((iso_content)field->content, state, out, size);
        return;
    case ISO_CONTENT_TLV:
        fill_tlv(state, repeats, out, size);
        return;
    case ISO_CONTENT_TRACK2:
        if (!secret) {
            fill_track2(state, out, size);
            return;
        }
        break;
    default:
        break;
    }
    for (uint32_t i = 0; i < size; i++) {
        switch (field->content) {
        case ISO_CONTENT_B:
            out[i] = (uint8_t)dice(state);
            break;
        case ISO_CONTENT_A:
            out[i] = dice_of(state, "ABCXYZabcxyz ");
            break;
        case ISO_CONTENT_AN:
            out[i] = dice_of(state, "ABCXYZabcxyz 0123456789");
            break;
        case ISO_CONTENT_ANS:
        case ISO_CONTENT_LATIN1:
            out[i] = (translated || field->content == ISO_CONTENT_LATIN1) && dice(state) % 2
                         ? (uint8_t)dice_between(state, 0xA0, 0xFF)
                         : (uint8_t)dice_between(state, 0x20, 0x7E);
            break;
        case ISO_CONTENT_Z:
        case ISO_CONTENT_TRACK2:
            out[i] = dice_of(state, "0123456789ABC=EF");
            break;
        case ISO_CONTENT_XN:
            out[i] = i == 0 ? dice_of(state, "CD") : dice_of(state, "0123456789");
            break;
        default:
            out[i] = dice_of(state, "0123456789");
            break;
        }
    }
}

/* A length that the field allows; long ones are rare. */
static inline uint32_t dice_length(const iso_field *field, uint32_t *state)
{
    const uint32_t span = field->length_max - field->length_min;
    const uint32_t most = span > 40 && dice(state) % 8 != 0 ? 40 : span > 900 ? 900 : span;
    uint32_t length = field->length_min + dice(state) % (most + 1);
    const bool in_halves = (field->packing == ISO_PACK_BYTES && field->unit == ISO_UNIT_NIBBLES) ||
                           (field->packing == ISO_PACK_HEX && field->unit == ISO_UNIT_DIGITS);
    if (in_halves) {
        length -= length % 2; /* every length_min of the table is even there */
    }
    return length;
}

/* ---- messages ------------------------------------------------------------------------------ */

typedef struct sample {
    uint64_t present[ISO_BITMAPS_MAX];
    iso_value values[ISO_TABLE_SIZE];
    uint32_t lengths[ISO_TABLE_SIZE]; /* in the field's own unit */
    uint8_t store[1 << 15];           /* what the values point to */
    uint32_t size;                    /* of the message */
    uint8_t message[1 << 15];
} sample;

static inline bool is_present(const uint64_t *present, uint32_t number)
{
    return (present[iso_word(number)] & iso_bit(number)) != 0;
}

/* Choose values for a random half of the fields, or for all, and build the message. */
static inline void make_sample(const iso_spec *spec, uint32_t *state, bool all, sample *made)
{
    uint32_t used = 0;
    memset(made->present, 0, sizeof made->present);
    memset(made->values, 0, sizeof made->values);
    const bool with_security = all || dice(state) % 2;
    const bool first = with_security && dice(state) % 2;  /* 35 is encrypted */
    const bool second = with_security && dice(state) % 2; /* 36 is */
    for (uint32_t number = 2; number <= spec->field_max; number++) {
        const iso_field *const field = &spec->fields[number];
        const bool wanted = number == F_SECURITY ? with_security : all || dice(state) % 2;
        if (field->packing == ISO_PACK_NONE || !wanted) {
            continue;
        }
        const bool secret = (number == F_TRACK && first) || (number == F_TRACK_E && second);
        uint32_t length = dice_length(field, state);
        if (field->content == ISO_CONTENT_TRACK2 && !secret && length > TRACK2_MAX) {
            length = TRACK2_MAX;
        }
        const uint32_t size = characters_of(field, length);
        uint8_t *const value = made->store + used;
        CHECK(used + size <= sizeof made->store);
        fill_value(field, state, number == F_ICC, secret, value, size);
        if (number == F_SECURITY) {
            value[0] = first ? '1' : '2';
            value[2] = second ? '9' : '8';
        }
        made->values[number] = (iso_value){value, size, false};
        made->lengths[number] = length;
        made->present[iso_word(number)] |= iso_bit(number);
        used += size;
    }
    iso_build_announce(made->present);
    if (spec->field_max > 64 && dice(state) % 8 == 0) {
        made->present[0] |= iso_bit(1); /* an empty bitmap is legal */
    }
    iso_fault fault;
    CHECK(iso_build(spec, (const uint8_t *)"0200", made->present, made->values, made->message,
                    sizeof made->message, &made->size, &fault) == ISO_OK);
}

/* One to three small wounds. Mostly single bytes: pure noise never gets past the bitmap. */
static inline uint32_t damage(uint32_t *state, uint8_t *data, uint32_t size, uint32_t capacity)
{
    for (uint32_t wounds = dice_between(state, 1, 3); wounds > 0 && size > 0; wounds--) {
        const uint32_t at = dice(state) % size;
        switch (dice(state) % 8) {
        case 0:
            data[at] = (uint8_t)dice(state);
            break;
        case 1:
        case 2:
            data[at] ^= (uint8_t)(1u << dice(state) % 8);
            break;
        case 3:
            data[at] = dice_of(state, "\x7F\x80\xFF\x0F\xF0 =DC09\x1F\xA0\xFE");
            break;
        case 4:
            data[dice(state) % (size < 28 ? size : 28)] ^= (uint8_t)(1u << dice(state) % 8);
            break;
        case 5:
            size = dice(state) % 4 == 0 ? at : size - 1;
            break;
        case 6:
            memmove(data + at, data + at + 1, size - at - 1);
            size--;
            break;
        default:
            if (size < capacity) {
                memmove(data + at + 1, data + at, size - at);
                size++;
            }
            break;
        }
    }
    return size;
}

/* Position of a present field among the slices of a layout. */
static inline uint32_t slice_index(const iso_spec *spec, const iso_layout *layout, uint32_t number)
{
    CHECK(is_present(layout->head.present, number));
    uint32_t index = 0;
    for (uint32_t other = 2; other < number; other++) {
        const bool announces = other == 65 && spec->field_max == 192;
        index += !announces && is_present(layout->head.present, other) ? 1 : 0;
    }
    CHECK(index < layout->count);
    return index;
}

#endif /* TABLE_H */
