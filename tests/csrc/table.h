/* A small spec with one field of every kind, and a message that has them all. */
#ifndef TABLE_H
#define TABLE_H

#include "check.h"

enum {
    F_PAN = 2,       /* LL BCD digits, left */
    F_AMOUNT = 4,    /* fixed, even */
    F_ENTRY = 22,    /* fixed, odd, left */
    F_CARD = 23,     /* fixed, odd, right */
    F_BYTES = 32,    /* LL BCD digits, prefix counts bytes */
    F_STRICT = 33,   /* fixed, odd, pad must be 0 */
    F_TRACK = 35,    /* LL track */
    F_TERMINAL = 41, /* fixed ans */
    F_TEXT = 44,     /* LL GBK */
    F_ICC = 55,      /* LLL TLV */
    F_PRIVATE = 62,  /* LLL bytes */
    F_MAC = 64,      /* fixed bytes */
    F_LAST = 128     /* fixed bytes, only with a secondary bitmap */
};

static inline iso_spec make_table(uint8_t field_max, iso_digits_form mti_form,
                                  iso_bitmap_form bitmap_form)
{
    iso_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.mti_form = (uint8_t)mti_form;
    spec.bitmap_form = (uint8_t)bitmap_form;
    spec.field_max = field_max;
    const uint8_t digits = ISO_UNIT_DIGITS;
    const uint8_t bytes = ISO_UNIT_BYTES;
    spec.fields[F_PAN] = (iso_field){ISO_PACK_BCD_LEFT, ISO_CONTENT_N, digits, 2, 0, 0, 1, 19};
    spec.fields[F_AMOUNT] = (iso_field){ISO_PACK_BCD_LEFT, ISO_CONTENT_N, digits, 0, 0, 0, 12, 12};
    spec.fields[F_ENTRY] = (iso_field){ISO_PACK_BCD_LEFT, ISO_CONTENT_N, digits, 0, 0, 0, 3, 3};
    spec.fields[F_CARD] = (iso_field){ISO_PACK_BCD_RIGHT, ISO_CONTENT_N, digits, 0, 0, 0, 3, 3};
    spec.fields[F_BYTES] = (iso_field){ISO_PACK_BCD_LEFT, ISO_CONTENT_N, bytes, 2, 0, 0, 0, 6};
    spec.fields[F_STRICT] = (iso_field){ISO_PACK_BCD_LEFT, ISO_CONTENT_N, digits, 0, 0, 1, 3, 3};
    spec.fields[F_TRACK] = (iso_field){ISO_PACK_TRACK_LEFT, ISO_CONTENT_Z, digits, 2, 0, 0, 0, 37};
    spec.fields[F_TERMINAL] = (iso_field){ISO_PACK_BYTES, ISO_CONTENT_ANS, bytes, 0, 0, 0, 8, 8};
    spec.fields[F_TEXT] = (iso_field){ISO_PACK_BYTES, ISO_CONTENT_GBK, bytes, 2, 0, 0, 0, 25};
    spec.fields[F_ICC] = (iso_field){ISO_PACK_BYTES, ISO_CONTENT_TLV, bytes, 3, 0, 0, 0, 255};
    spec.fields[F_PRIVATE] = (iso_field){ISO_PACK_BYTES, ISO_CONTENT_B, bytes, 3, 1, 0, 0, 999};
    spec.fields[F_MAC] = (iso_field){ISO_PACK_BYTES, ISO_CONTENT_B, bytes, 0, 0, 0, 8, 8};
    if (field_max == 128) {
        spec.fields[F_LAST] = (iso_field){ISO_PACK_BYTES, ISO_CONTENT_B, bytes, 0, 0, 0, 8, 8};
    }
    iso_fault fault;
    CHECK(iso_spec_check(&spec, &fault) == ISO_OK);
    return spec;
}

static inline void set_value(iso_value values[ISO_TABLE_SIZE], uint32_t field, const char *data,
                             uint32_t size)
{
    values[field] = (iso_value){(const uint8_t *)data, size, false};
}

/* Every field of the table, each with a legal value. */
static inline void fill_values(iso_value values[ISO_TABLE_SIZE], uint8_t field_max)
{
    memset(values, 0, ISO_TABLE_SIZE * sizeof *values);
    set_value(values, F_PAN, "6222000000000000019", 19);
    set_value(values, F_AMOUNT, "000000001250", 12);
    set_value(values, F_ENTRY, "021", 3);
    set_value(values, F_CARD, "001", 3);
    set_value(values, F_BYTES, "01234567", 8);
    set_value(values, F_STRICT, "123", 3);
    set_value(values, F_TRACK, "6222000000000017=3012201", 24);
    set_value(values, F_TERMINAL, "10000001", 8);
    set_value(values, F_TEXT, "A\xD6\xD0 B", 5);
    set_value(values, F_ICC, "\x9F\x36\x02\x00\x2A\x82\x01\xFF", 8);
    set_value(values, F_PRIVATE, "\x00\xFFx", 3);
    set_value(values, F_MAC, "ABCDEF01", 8);
    if (field_max == 128) {
        set_value(values, F_LAST, "12345678", 8);
    }
}

static inline uint32_t build_sample(const iso_spec *spec, uint8_t *out, uint32_t capacity)
{
    iso_value values[ISO_TABLE_SIZE];
    iso_fault fault;
    uint32_t size = 0;
    fill_values(values, spec->field_max);
    CHECK(iso_build(spec, (const uint8_t *)"0200", values, false, out, capacity, &size, &fault) ==
          ISO_OK);
    return size;
}

#endif /* TABLE_H */
