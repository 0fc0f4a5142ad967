/* The loops where every instruction counts, in C: a field of a message to a Python value, all of
 * them to a dict, and a Python value to a field. Each of them knows the common shapes and leaves
 * the rest to the caller in Cython.
 *
 * Functions that return a PyObject pointer return a new reference, or NULL with an exception set.
 */
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

/* The same more closely, for the values that C turns into objects: how the bytes are read. */
enum {
    READ_OTHER = 0, /* in Cython */
    READ_TEXT,      /* ASCII */
    READ_BYTES,
    READ_PAIR, /* so many packed digits, always */
    READ_THREE_LEFT,
    READ_THREE_RIGHT,
    READ_FOUR,
    READ_DIGITS_LEFT, /* any number of packed digits */
    READ_DIGITS_RIGHT,
    READ_TRACK_LEFT
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
    uint8_t readings[ISO_TABLE_SIZE]; /* READ_ */
    uint8_t plain[ISO_TABLE_SIZE];    /* PLAIN_, 0 for what is not defined */
    uint16_t digits[ISO_TABLE_SIZE];  /* that an int is written with; 0: the field takes none */
    uint8_t has_tree[ISO_TABLE_SIZE]; /* a value may be given as a tree of sub-fields */
    uint8_t pads[ISO_TABLE_SIZE];     /* a short value is filled up */
    uint8_t secrets[ISO_TABLE_SIZE];  /* says of another field whether it is encrypted */
} iso_table;

/* Digits of whole numbers given as int, per message. */
enum { SCRATCH_SIZE = 256 };

/* What a message is made of before it is written. The values point into Python objects. As long as
 * no Python code runs, and no other thread can, the caller's mapping keeps them; from then on
 * (`careful`) they are held. */
typedef struct iso_draft {
    uint64_t present[ISO_BITMAPS_MAX];
    uint64_t seen[ISO_BITMAPS_MAX];
    bool careful;
    uint32_t held_count;
    uint32_t scratch_used;
    PyObject *held[1 + 2 * ISO_TABLE_SIZE]; /* the mapping; for each field the value and what it was
                                               turned into */
    uint8_t scratch[SCRATCH_SIZE];
    iso_value values[ISO_TABLE_SIZE];
} iso_draft;

static inline void iso_draft_start(iso_draft *draft)
{
    memset(draft->present, 0, sizeof draft->present);
    memset(draft->seen, 0, sizeof draft->seen);
    draft->careful = false;
    draft->held_count = 0;
    draft->scratch_used = 0;
}

static inline void iso_draft_hold(iso_draft *draft, PyObject *thing)
{
    assert(draft->held_count < sizeof draft->held / sizeof draft->held[0]);
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

/* Write `number` with `count` digits, zeros in front. False if it has more. */
static inline bool iso_digits_write(uint64_t number, uint32_t count, uint8_t *out)
{
    uint64_t rest = number;
    for (uint32_t i = count; i > 0; i--) {
        out[i - 1] = (uint8_t)('0' + rest % 10);
        rest /= 10;
    }
    return rest == 0;
}

/* Put a value into the draft if there is nothing to be said about it: an int key, and a str, bytes
 * or whole number that the field takes as it is. Returns whether it did. Runs no Python code. */
static inline bool iso_take_plain(const iso_table *table, iso_draft *draft, PyObject *key,
                                  PyObject *value)
{
    const int number = iso_small_key(key);
    if (number < 2) {
        return number == 0; /* the MTI has been dealt with */
    }
    const uint32_t word = iso_word((uint32_t)number);
    const uint64_t bit = iso_bit((uint32_t)number);
    iso_value *const out = &draft->values[number];
    Py_ssize_t size;
    if (PyUnicode_CheckExact(value) && table->plain[number] == PLAIN_TEXT &&
        PyUnicode_IS_COMPACT_ASCII(value)) {
        size = PyUnicode_GET_LENGTH(value);
        out->data = (const uint8_t *)((PyASCIIObject *)value + 1);
    } else if (PyBytes_CheckExact(value) && table->plain[number] == PLAIN_BYTES) {
        size = PyBytes_GET_SIZE(value);
        out->data = (const uint8_t *)PyBytes_AS_STRING(value);
    } else if (PyLong_CheckExact(value) && table->digits[number] != 0) {
        int overflow = 0;
        const long long given = PyLong_AsLongLongAndOverflow(value, &overflow);
        uint8_t *const digits = draft->scratch + draft->scratch_used;
        size = table->digits[number];
        if (overflow != 0 || given < 0 || size > SCRATCH_SIZE - (Py_ssize_t)draft->scratch_used ||
            !iso_digits_write((uint64_t)given, (uint32_t)size, digits)) {
            return false;
        }
        draft->scratch_used += (uint32_t)size;
        out->data = digits;
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
    if (ISO_UNLIKELY(draft->careful)) {
        iso_draft_hold(draft, value);
    }
    return true;
}

/* Most values of 2 to 4 digits come again and again; a str for each is made once and shared. */
__attribute__((always_inline)) static inline PyObject *iso_small_text(uint32_t number,
                                                                      uint32_t count)
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

/* How the values of a field are read. */
static inline uint8_t iso_reading_of(const iso_field *field, uint8_t kind)
{
    if (kind == KIND_ASCII || kind == KIND_BYTES) {
        return kind == KIND_ASCII ? READ_TEXT : READ_BYTES;
    }
    if (field->unit != ISO_UNIT_DIGITS) {
        return READ_OTHER;
    }
    const uint32_t fixed = field->prefix_digits == 0 ? field->length_max : 0;
    switch (field->packing) {
    case ISO_PACK_BCD_LEFT:
        return fixed == 2   ? READ_PAIR
               : fixed == 3 ? READ_THREE_LEFT
               : fixed == 4 ? READ_FOUR
                            : READ_DIGITS_LEFT;
    case ISO_PACK_BCD_RIGHT:
        return fixed == 2   ? READ_PAIR
               : fixed == 3 ? READ_THREE_RIGHT
               : fixed == 4 ? READ_FOUR
                            : READ_DIGITS_RIGHT;
    case ISO_PACK_TRACK_LEFT:
        return READ_TRACK_LEFT;
    default:
        return READ_OTHER;
    }
}

/* `size` ASCII characters. */
__attribute__((always_inline)) static inline PyObject *iso_ascii_text(const uint8_t *data,
                                                                      uint32_t size)
{
    if (size <= 4 && size >= 2) {
        uint32_t number = 0;
        uint32_t worst = 0;
        for (uint32_t i = 0; i < size; i++) {
            const uint32_t digit = data[i] - (uint32_t)'0';
            number = number * 10 + digit;
            worst |= digit > 9;
        }
        if (worst == 0) {
            return iso_small_text(number, size);
        }
    }
    PyObject *const text = PyUnicode_New((Py_ssize_t)size, 127);
    if (ISO_UNLIKELY(text == NULL)) {
        return NULL;
    }
    uint8_t *const out = (uint8_t *)((PyASCIIObject *)text + 1);
    if (size >= 8 && size <= 16) {
        iso_store64(out, iso_load64(data));
        iso_store64(out + size - 8, iso_load64(data + size - 8));
    } else if (size > 0) {
        memcpy(out, data, size);
    }
    return text;
}

/* `count` packed digits or track characters. */
__attribute__((always_inline)) static inline PyObject *
iso_packed_text(const uint8_t *data, uint32_t count, bool left, bool track)
{
    PyObject *const text = PyUnicode_New((Py_ssize_t)count, 127);
    if (ISO_LIKELY(text != NULL && count > 0)) {
        uint8_t *const out = (uint8_t *)((PyASCIIObject *)text + 1);
        if (count % 2 == 0 && !track) {
            iso_unpack_even(data, count, out);
        } else {
            iso_unpack(data, count, left, track, out);
        }
    }
    return text;
}

/* The Python value of `size` bytes, `length` in the field's own unit, that the core has found
 * nothing wrong with. None, which no value is, for READ_OTHER. */
__attribute__((always_inline)) static inline PyObject *
iso_plain_value(uint8_t reading, const uint8_t *data, uint32_t size, uint32_t length)
{
    if (reading > READ_TRACK_LEFT) {
        __builtin_unreachable();
    }
    switch (reading) {
    case READ_TEXT:
        return iso_ascii_text(data, size);
    case READ_BYTES:
        return PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
    case READ_PAIR:
        return iso_small_text(iso_bcd_value(data[0]), 2);
    case READ_THREE_LEFT:
        return iso_small_text(iso_bcd_value(data[0]) * 10 + (data[1] >> 4), 3);
    case READ_THREE_RIGHT:
        return iso_small_text((data[0] & 0x0Fu) * 100 + iso_bcd_value(data[1]), 3);
    case READ_FOUR:
        return iso_small_text(iso_bcd_value(data[0]) * 100 + iso_bcd_value(data[1]), 4);
    case READ_DIGITS_LEFT:
        return iso_packed_text(data, length, true, false);
    case READ_DIGITS_RIGHT:
        return iso_packed_text(data, length, false, false);
    case READ_TRACK_LEFT:
        return iso_packed_text(data, length, true, true);
    default:
        Py_INCREF(Py_None);
        return Py_None;
    }
}

/* One field of the messages that follow a plan, all that reading it takes. */
typedef struct iso_item {
    PyObject *key; /* borrowed: the numbers of fields live as long as the module */
    uint16_t at;   /* of a fixed field, in its run */
    uint16_t size;
    uint16_t length;
    uint8_t number;
    uint8_t reading;
    bool is_variable;
} iso_item;

static inline void iso_items_make(iso_item *items, const iso_table *table, const iso_plan *plan,
                                  PyObject *const *keys)
{
    for (uint32_t i = 0; i < plan->count; i++) {
        const uint8_t number = plan->numbers[i];
        const iso_place *const place = &plan->places[number];
        items[i] = (iso_item){.key = keys[number],
                              .at = place->at,
                              .size = place->size,
                              .length = table->spec.fields[number].length_max,
                              .number = number,
                              .reading = table->readings[number],
                              .is_variable = place->kind == ISO_PLACE_VARIABLE};
    }
}

/* Where iso_items_read stands in a message. */
typedef struct iso_cursor {
    const iso_item *item;
    const iso_slice *variable; /* the next one */
    uint32_t run;              /* offset of the current run of fixed fields */
    iso_slice slice;           /* of the field it stopped at */
} iso_cursor;

/* Put the values of a sound message into a dict, each under its number, from cursor->item up to
 * `end`. Stops at a field that is read in Cython, with its slice set. Returns -1 with an exception
 * set. */
static inline int iso_items_read(PyObject *dict, const uint8_t *data, const iso_item *end,
                                 iso_cursor *cursor)
{
    const iso_item *item = cursor->item;
    const iso_slice *variable = cursor->variable;
    uint32_t run = cursor->run;
    int failed = 0;
    for (; item < end; item++) {
        uint32_t offset = run + item->at;
        uint32_t size = item->size;
        uint32_t length = item->length;
        if (item->is_variable) {
            offset = variable->offset;
            size = variable->size;
            length = variable->length;
            run = offset + size;
            variable++;
        }
        PyObject *const value = iso_plain_value(item->reading, data + offset, size, length);
        if (ISO_UNLIKELY(value == NULL)) {
            return -1;
        }
        if (ISO_UNLIKELY(value == Py_None)) {
            Py_DECREF(value);
            cursor->slice = (iso_slice){(uint16_t)offset, (uint16_t)size, (uint16_t)length};
            break;
        }
        failed = PyDict_SetItem(dict, item->key, value);
        Py_DECREF(value);
        if (ISO_UNLIKELY(failed < 0)) {
            return -1;
        }
    }
    cursor->item = item;
    cursor->variable = variable;
    cursor->run = run;
    return 0;
}

#endif /* ISO8583_HOT_H */
