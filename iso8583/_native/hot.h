/* The loops where every instruction counts, in C: a field of a message to a Python value, all of them to a dict, and a
 * Python value to a field. Each of them knows the common shapes and leaves the rest to the caller in Cython.
 *
 * Functions that return a PyObject pointer return a new reference, or NULL with an exception set. */
#ifndef ISO8583_HOT_H
#define ISO8583_HOT_H

#include <Python.h>

#include "unity.h"

/* What a value is in Python, and what has to be done to it. */
enum {
    KIND_ASCII = 1,  /* the characters as transmitted */
    KIND_DIGITS = 2, /* packed digits, with or without a sign */
    KIND_TRACK = 3,  /* packed track characters */
    KIND_BYTES = 4,  /* the bytes as transmitted */
    KIND_HEX = 5,
    KIND_GB = 6, /* GBK and GB 18030 */
    KIND_UTF8 = 7,
    KIND_LATIN1 = 8, /* Latin-1 as transmitted */
    KIND_EBCDIC = 9  /* to be translated to Latin-1 */
};

/* What encode may take as it is. */
enum {
    PLAIN_TEXT = 1, /* ASCII str */
    PLAIN_BYTES = 2 /* bytes */
};

/* One variant of a spec: the table of the core, and what Python needs to know about each field. */
typedef struct iso_table {
    iso_spec spec;
    uint8_t kinds[ISO_TABLE_SIZE];
    uint8_t plain[ISO_TABLE_SIZE];    /* PLAIN_, 0 for what is not defined */
    uint8_t has_tree[ISO_TABLE_SIZE]; /* a value may be given as a tree of sub-fields */
    uint8_t pads[ISO_TABLE_SIZE];     /* a short value is filled up */
    uint8_t secrets[ISO_TABLE_SIZE];  /* says of another field whether it is encrypted */
} iso_table;

/* Digits of whole numbers given as int, per message. */
enum { SCRATCH_SIZE = 256 };

/* What a message is made of before it is written. The values point into Python objects, which are held until then: the
 * caller's mapping may change under us when another thread runs. */
typedef struct iso_draft {
    uint64_t present[ISO_BITMAPS_MAX];
    uint64_t seen[ISO_BITMAPS_MAX];
    uint32_t held_count;
    uint32_t scratch_used;
    PyObject *held[2 * ISO_TABLE_SIZE]; /* for each field at most the value and what it was turned into */
    uint8_t scratch[SCRATCH_SIZE];
    iso_value values[ISO_TABLE_SIZE];
} iso_draft;

static inline void iso_draft_start(iso_draft *draft)
{
    memset(draft->present, 0, sizeof draft->present);
    memset(draft->seen, 0, sizeof draft->seen);
    draft->held_count = 0;
    draft->scratch_used = 0;
}

static inline void iso_draft_hold(iso_draft *draft, PyObject *thing)
{
    assert(draft->held_count < 2 * ISO_TABLE_SIZE);
    Py_INCREF(thing);
    draft->held[draft->held_count++] = thing;
}

static inline void iso_draft_end(iso_draft *draft)
{
    for (uint32_t i = 0; i < draft->held_count; i++) {
        Py_DECREF(draft->held[i]);
    }
    draft->held_count = 0;
}

/* 0..63. Bitmaps differ in few bits: a multiplication spreads them. */
static inline uint32_t iso_plan_slot(const uint64_t *present, uint32_t variant)
{
    const uint64_t spread = UINT64_C(0x9E3779B97F4A7C15);
    const uint64_t mixed = ((present[0] ^ variant) * spread + present[1]) * spread + present[2];
    return (uint32_t)((mixed ^ mixed >> 32) * spread >> 58);
}

/* A field number given as int; -1 for everything that needs a closer look. */
static inline int iso_small_key(PyObject *key)
{
    if (!PyLong_CheckExact(key)) {
        return -1;
    }
#if PY_VERSION_HEX >= 0x030C0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)key)) {
        return -1;
    }
    const Py_ssize_t number = PyUnstable_Long_CompactValue((PyLongObject *)key);
#else
    const Py_ssize_t number = Py_SIZE(key) == 1   ? (Py_ssize_t)((PyLongObject *)key)->ob_digit[0]
                              : Py_SIZE(key) == 0 ? 0
                                                  : -1;
#endif
    return number >= 0 && number <= (Py_ssize_t)ISO_FIELD_MAX && number != 1 ? (int)number : -1;
}

/* Put a value into the draft if there is nothing to be said about it: an int key, a str or bytes that the field takes
 * as it is. Returns whether it did. */
static inline bool iso_take_plain(const iso_table *table, iso_draft *draft, PyObject *key, PyObject *value)
{
    const int number = iso_small_key(key);
    if (number < 2) {
        return number == 0; /* the MTI has been dealt with */
    }
    const uint32_t word = iso_word((uint32_t)number);
    const uint64_t bit = iso_bit((uint32_t)number);
    iso_value *const out = &draft->values[number];
    Py_ssize_t size;
    if (PyUnicode_CheckExact(value) && table->plain[number] == PLAIN_TEXT && PyUnicode_IS_COMPACT_ASCII(value)) {
        size = PyUnicode_GET_LENGTH(value);
        out->data = (const uint8_t *)((PyASCIIObject *)value + 1);
    } else if (PyBytes_CheckExact(value) && table->plain[number] == PLAIN_BYTES) {
        size = PyBytes_GET_SIZE(value);
        out->data = (const uint8_t *)PyBytes_AS_STRING(value);
    } else {
        return false;
    }
    if (ISO_UNLIKELY((draft->seen[word] & bit) != 0 || size > (Py_ssize_t)ISO_MESSAGE_SIZE_MAX)) {
        return false;
    }
    out->size = (uint32_t)size;
    out->as_wire = false;
    draft->seen[word] |= bit;
    draft->present[word] |= bit;
    iso_draft_hold(draft, value);
    return true;
}

/* Most values of 2 to 4 digits come again and again; a str for each is made once and shared. */
__attribute__((always_inline)) static inline PyObject *iso_small_text(uint32_t number, uint32_t count)
{
    static PyObject *texts[100 + 1000 + 10000];
    PyObject **const text = &texts[number + (count == 2 ? 0u : count == 3 ? 100u : 1100u)];
    if (ISO_UNLIKELY(*text == NULL)) {
        PyObject *const made = PyUnicode_New((Py_ssize_t)count, 127);
        if (made == NULL) {
            return NULL;
        }
        for (uint32_t i = 0, rest = number; i < count; i++, rest /= 10) {
            PyUnicode_1BYTE_DATA(made)[count - 1 - i] = (uint8_t)('0' + rest % 10);
        }
        *text = made;
    }
    Py_INCREF(*text);
    return *text;
}

/* `size` ASCII characters. */
__attribute__((always_inline)) static inline PyObject *iso_ascii_text(const uint8_t *data, uint32_t size)
{
    if (size <= 4 && size >= 2 && iso_digits_are_clean(data, size)) {
        uint32_t number = 0;
        for (uint32_t i = 0; i < size; i++) {
            number = number * 10 + (data[i] - (uint32_t)'0');
        }
        return iso_small_text(number, size);
    }
    PyObject *const text = PyUnicode_New((Py_ssize_t)size, 127);
    if (ISO_LIKELY(text != NULL && size > 0)) {
        memcpy((PyASCIIObject *)text + 1, data, size);
    }
    return text;
}

/* The Python value of a slice that the core has found nothing wrong with, for the kinds that are text of digits and
 * ASCII; None, which no value is, for all others. */
__attribute__((always_inline)) static inline PyObject *iso_plain_value(const iso_field *field, uint8_t kind, const uint8_t *data,
                                        const iso_slice *slice)
{
    if (kind == KIND_ASCII) {
        return iso_ascii_text(data + slice->offset, slice->size);
    }
    if (kind != KIND_DIGITS && kind != KIND_TRACK) {
        Py_INCREF(Py_None);
        return Py_None;
    }
    const uint32_t count = iso_value_length(field, slice);
    if (count <= 4 && kind == KIND_DIGITS) {
        uint8_t four[4];
        if (field->shape == ISO_SHAPE_DIGITS && count != 0) {
            const uint32_t high = (uint32_t)iso_bcd_pair(data[slice->offset]);
            return count == 2 ? iso_small_text(high, 2)
                              : iso_small_text(high * 100 + (uint32_t)iso_bcd_pair(data[slice->offset + 1]), 4);
        }
        iso_value_write(field, data, slice, four);
        return iso_ascii_text(four, count);
    }
    PyObject *const text = PyUnicode_New((Py_ssize_t)count, 127);
    if (ISO_LIKELY(text != NULL && count > 0)) {
        iso_value_write(field, data, slice, (uint8_t *)((PyASCIIObject *)text + 1));
    }
    return text;
}

/* Put the plain values of a sound message into a dict, each under its number, from `*next` (an index of plan->numbers)
 * on. Stops at a field that is not plain, with *next there and its slice set; at the end *next is plan->count.
 * Returns -1 with an exception set. `keys` are the numbers as Python objects; `*run` starts as the offset of the first
 * field. */
static inline int iso_plain_items(PyObject *dict, PyObject *const *keys, const iso_table *table, const iso_plan *plan,
                                  const uint8_t *data, const iso_slice *variables, uint32_t *run, uint32_t *next,
                                  iso_slice *slice)
{
    for (uint32_t i = *next; i < plan->count; i++) {
        const uint32_t number = plan->numbers[i];
        const iso_place *const place = &plan->places[number];
        const iso_field *const field = &table->spec.fields[number];
        if (place->kind == ISO_PLACE_VARIABLE) {
            *slice = variables[place->step];
            *run = (uint32_t)slice->offset + slice->size;
        } else {
            *slice = (iso_slice){(uint16_t)(*run + place->at), place->size, field->length_max};
        }
        PyObject *const value = iso_plain_value(field, table->kinds[number], data, slice);
        if (ISO_UNLIKELY(value == NULL)) {
            return -1;
        }
        if (value == Py_None) {
            Py_DECREF(value);
            *next = i;
            return 0;
        }
        const int failed = PyDict_SetItem(dict, keys[number], value);
        Py_DECREF(value);
        if (ISO_UNLIKELY(failed < 0)) {
            return -1;
        }
    }
    *next = plan->count;
    return 0;
}

#endif /* ISO8583_HOT_H */
