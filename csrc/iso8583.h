/* ISO 8583 codec core: the one header that the outside sees (frames have their own, frame.h).
 *
 * Contract for every function below:
 *   - no allocation, no I/O, no global state: safe from any thread, with or without the GIL;
 *   - reads only inside [data, data + size); values are named by offset, never copied;
 *   - writes only inside [out, out + capacity);
 *   - every loop is bounded by the input or by a constant;
 *   - on error nothing that the caller passed in has changed, except faults, which say where, and
 *     the contents of an output (a buffer, a layout), which are then unspecified;
 *   - a pointer is never NULL unless its comment says so.
 *
 * Words: size is bytes; length is in the field's own unit (digits, bytes or nibbles); offset is
 * bytes from `data`. A field number is 2..192; in a fault, 0 means the MTI and 1 the bitmap.
 *
 * Two ways to read a message. iso_plan_run is for the messages that come all day: what depends on
 * the bitmap alone is worked out once (a plan), and the answer is only yes or no. iso_index is for
 * the rest: it walks field by field and says what is wrong, once or everywhere. */
#ifndef ISO8583_H
#define ISO8583_H

#include <stdbool.h>
#include <stdint.h>

#define ISO_FIELD_MAX 192u
#define ISO_TABLE_SIZE (ISO_FIELD_MAX + 1u) /* arrays indexed by field number */
#define ISO_BITMAPS_MAX 3u
#define ISO_MTI_DIGITS 4u
/* Offsets are 16 bits wide: an index that is kept with every message takes 6 bytes a field. */
#define ISO_MESSAGE_SIZE_MAX 65535u
#define ISO_FIELD_LENGTH_MAX 65535u
#define ISO_PREFIX_DIGITS_MAX 6u
#define ISO_TLV_TAG_SIZE_MAX 4u
#define ISO_REPEATS_MAX 64u

/* ---- statuses ------------------------------------------------------------------------------ */

typedef enum iso_status {
    ISO_OK = 0,
    ISO_E_TRUNCATED = 1, /* the input ends inside a field */
    ISO_E_TRAILING = 2,  /* bytes are left after the last field */
    ISO_E_SIZE = 3,      /* the whole message is above ISO_MESSAGE_SIZE_MAX */
    ISO_E_MTI = 4,       /* the MTI is not four digits */
    ISO_E_BITMAP = 5,    /* a bitmap announces another that the spec lacks, or is not hexadecimal */
    ISO_E_UNDEFINED = 6, /* the field has no entry in the spec */
    ISO_E_PREFIX = 7,    /* the length prefix is not made of the digits that it should be */
    ISO_E_LENGTH = 8,    /* the length is outside its bounds, or counts half a byte too many */
    ISO_E_CONTENT = 9,   /* a character or nibble that the field's content does not allow */
    ISO_E_TEXT = 10,     /* not text in the field's encoding */
    ISO_E_TLV = 11,      /* not BER-TLV, or a TLV object that leaves its field */
    ISO_E_SPACE = 12,    /* the output buffer is too small */
    ISO_E_SPEC = 13,     /* the field table contradicts itself */
    ISO_E_TRACK = 14,    /* track 2 that is neither a track nor said to be encrypted */
    ISO_E_PAD = 15,      /* the pad nibble is not the one that the spec wants */
    ISO_E_CANONICAL = 16, /* a BER-TLV length in a longer form than it needs */
    ISO_E_DUPLICATE = 17  /* a BER-TLV tag that may stand there once stands there again */
} iso_status;

#define ISO_STATUS_COUNT 18u

/* Stable name for logs and metrics: "ok", "truncated", ... Never NULL; static storage. */
const char *iso_status_name(iso_status status);

/* Where something went wrong. */
typedef struct iso_fault {
    iso_status status;
    uint32_t field;    /* 0 MTI, 1 bitmap, 2..192 field; ISO_E_TRAILING and ISO_E_SIZE: 0 */
    uint32_t offset;   /* first byte of the field, its length prefix included */
    uint32_t position; /* the byte that is wrong; == offset where no single byte is to blame */
    uint32_t length;   /* the length found, for ISO_E_LENGTH; bytes left over, for ISO_E_TRAILING */
} iso_fault;

/* ---- the field table ----------------------------------------------------------------------- */

/* How the value is packed. LEFT: an odd count is padded on the right, 021 = 02 10. RIGHT: on the
 * left, 021 = 00 21. */
typedef enum iso_packing {
    ISO_PACK_NONE = 0,  /* the field is not defined */
    ISO_PACK_BYTES = 1, /* one byte a character, or raw binary */
    ISO_PACK_BCD_LEFT = 2,
    ISO_PACK_BCD_RIGHT = 3,
    ISO_PACK_TRACK_LEFT = 4, /* all nibbles allowed; D stands for '=' */
    ISO_PACK_TRACK_RIGHT = 5,
    ISO_PACK_SIGNED_LEFT = 6, /* a sign as one character, then packed digits */
    ISO_PACK_SIGNED_RIGHT = 7,
    ISO_PACK_HEX = 8 /* two hexadecimal characters a byte of the value */
} iso_packing;

/* Which characters a value may hold. The letters are those of the standard. */
typedef enum iso_content {
    ISO_CONTENT_B = 0,        /* any byte */
    ISO_CONTENT_N = 1,        /* 0-9 */
    ISO_CONTENT_A = 2,        /* letters and space */
    ISO_CONTENT_AN = 3,       /* letters, digits and space (fixed fields are space filled) */
    ISO_CONTENT_ANS = 4,      /* printable ASCII; in EBCDIC also what Latin-1 adds to it */
    ISO_CONTENT_Z = 5,        /* track data: 0-9 A-F = and the code points between 9 and A */
    ISO_CONTENT_TRACK2 = 6,   /* Z, and the shape of track 2 unless it is encrypted */
    ISO_CONTENT_XN = 7,       /* C or D, then digits: signed amounts */
    ISO_CONTENT_LATIN1 = 8,   /* printable Latin-1 */
    ISO_CONTENT_GBK = 9,      /* GBK: printable ASCII or pairs of lead and trail byte */
    ISO_CONTENT_GB18030 = 10, /* the same, and its four-byte forms */
    ISO_CONTENT_UTF8 = 11,
    ISO_CONTENT_TLV = 12 /* a sequence of BER-TLV objects that fills the field exactly */
} iso_content;

/* What a length prefix counts. Two libraries that disagree here lose step with each other at the
 * first odd field, so it is a fact of the spec and never derived from the packing. */
typedef enum iso_unit {
    ISO_UNIT_BYTES = 0,  /* bytes as transmitted; of ISO_PACK_HEX, bytes of the value */
    ISO_UNIT_DIGITS = 1, /* packed digits; of ISO_PACK_HEX, characters */
    ISO_UNIT_NIBBLES = 2 /* twice the bytes */
} iso_unit;

typedef enum iso_digits_form {
    ISO_FORM_BCD = 0,    /* packed, two digits a byte, an odd count padded with 0 on the left */
    ISO_FORM_ASCII = 1,  /* one character a digit */
    ISO_FORM_EBCDIC = 2, /* the same in EBCDIC */
    ISO_FORM_BINARY = 3, /* big-endian; "digits" are bytes, 1 or 2 */
    ISO_FORM_HEX = 4     /* hexadecimal ASCII characters, 2 or 4 */
} iso_digits_form;

typedef enum iso_bitmap_form {
    ISO_BITMAP_BINARY = 0,    /* 8 bytes */
    ISO_BITMAP_HEX = 1,       /* 16 characters; read in either case, written in upper case */
    ISO_BITMAP_HEX_EBCDIC = 2 /* the same in EBCDIC */
} iso_bitmap_form;

typedef enum iso_charset {
    ISO_CHARSET_ASCII = 0, /* or whatever the content says; bytes are not translated */
    ISO_CHARSET_CP037 = 1,
    ISO_CHARSET_CP500 = 2,
    ISO_CHARSET_CP1047 = 3
} iso_charset;

typedef struct iso_field {
    uint8_t packing;       /* iso_packing */
    uint8_t content;       /* iso_content */
    uint8_t unit;          /* iso_unit: of length_min, length_max and the prefix */
    uint8_t charset;       /* iso_charset */
    uint8_t prefix_digits; /* 0: fixed length; else 1..6 (1..2 bytes for ISO_FORM_BINARY) */
    uint8_t prefix_form;   /* iso_digits_form */
    uint8_t pad_strict;    /* 1: the pad nibble must be pad_nibble; 0: it is never looked at */
    uint8_t pad_nibble;    /* what is written: 0 or 15 */
    uint16_t length_min;
    uint16_t length_max; /* == length_min when prefix_digits is 0 */
    /* ISO_CONTENT_TRACK2: encrypted, and then any Z, when character `secret_position` (from 0) of
     * field `secret_field` is `secret_character`. secret_field 0: never. */
    uint8_t secret_field;
    uint8_t secret_position;
    uint8_t secret_character;
    uint8_t
        shape; /* set by iso_spec_check: how it is best checked and written; 0 is always right */
} iso_field;

typedef struct iso_repeat {
    uint32_t tag; /* its bytes, big-endian */
    uint8_t field;
} iso_repeat;

typedef struct iso_spec {
    uint8_t mti_form;                    /* ISO_FORM_BCD, _ASCII or _EBCDIC */
    uint8_t bitmap_form;                 /* iso_bitmap_form */
    uint8_t field_max;                   /* 64, 128 or 192: how many bitmaps there may be */
    uint8_t repeat_count;                /* entries of `repeats` in use */
    uint8_t has_track2;                  /* set by iso_spec_check */
    iso_repeat repeats[ISO_REPEATS_MAX]; /* tags of ISO_CONTENT_TLV fields that may come again */
    uint64_t defined[ISO_BITMAPS_MAX];   /* set by iso_spec_check, laid out as bitmaps */
    iso_field fields[ISO_TABLE_SIZE];    /* by field number; entries 0 and 1 stay empty */
} iso_spec;

/* Check a table once, so that everything below may trust it; sets spec->defined, has_track2.
 *
 * Returns ISO_OK, or ISO_E_SPEC with fault->field at the first entry that makes no sense. */
iso_status iso_spec_check(iso_spec *spec, iso_fault *fault);

/* The same for one field that belongs to no message: a sub-field. */
bool iso_field_check(const iso_field *field);

/* ---- reading ------------------------------------------------------------------------------- */

typedef struct iso_slice {
    uint16_t offset; /* first byte of the value, after its length prefix */
    uint16_t size;   /* bytes as transmitted */
    uint16_t length; /* in the field's own unit */
} iso_slice;

/* What MTI and bitmaps say. */
typedef struct iso_head {
    uint64_t present[ISO_BITMAPS_MAX]; /* bit 63 of present[0] is bit 1; unused words are 0 */
    uint16_t mti;                      /* 0..9999 */
    uint16_t fields_offset;            /* first byte after the bitmaps */
} iso_head;

/* Read the number of the MTI at data[start], without the bitmaps: which variant of the spec to use
 * may depend on it. start <= size. ISO_E_SIZE, ISO_E_TRUNCATED or ISO_E_MTI in *fault. */
iso_status iso_mti_read(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                        uint32_t *mti, iso_fault *fault);

/* Read MTI and bitmaps as they are, whether the spec defines the fields or not. Returns false if
 * something is wrong with them; iso_index says what. */
bool iso_head_read(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                   iso_head *head);

typedef struct iso_layout {
    iso_head head;  /* of the fields found: less than announced if an error came between */
    uint16_t count; /* slices in use */
    iso_slice slices[ISO_FIELD_MAX]; /* of the present fields, ascending */
} iso_layout;

/* Find every field of one whole message and everything that is wrong with it.
 *
 * `start` is the offset of the MTI (the size of whatever header precedes it); start <= size. At
 * most `capacity` (>= 1) faults are stored; reading stops there, so with 1 it stops at the first,
 * which is what a strict reader wants. A fault that leaves no way to find the next field stops it
 * too.
 *
 * Returns the number of faults. With 0, every length is within the spec, every value holds only
 * what its content allows, and the fields fill the input exactly. With more, *layout holds the
 * fields in front of the place where reading stopped, those with bad content included.
 *
 * An undefined field is reported before any field is walked: later, the loss of step that it causes
 * would be blamed on an innocent neighbour. */
uint32_t iso_index(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                   iso_layout *layout, iso_fault *faults, uint32_t capacity);

/* Read one value with its prefix at *offset: a sub-field. Returns ISO_OK with *slice set and
 * *offset moved past it; else *fault is set (its field is 0). */
iso_status iso_field_read(const iso_field *field, const uint8_t *data, uint32_t size,
                          uint32_t *offset, iso_slice *slice, iso_fault *fault);

/* Characters or bytes of the value of a slice, as iso_value_write writes them. */
uint32_t iso_value_length(const iso_field *field, const iso_slice *slice);

/* Write a value as characters: digits unpacked, EBCDIC as Latin-1, hexadecimal as bytes.
 *
 * `data` is the message; `out` has room for iso_value_length() bytes. Cannot fail: the field was
 * checked when it was found. What was not (iso_index with a fault) comes out as it best can. */
void iso_value_write(const iso_field *field, const uint8_t *data, const iso_slice *slice,
                     uint8_t *out);

/* ---- plans --------------------------------------------------------------------------------- */

/* A piece of a fixed run and the rule for its bytes. */
typedef struct iso_check {
    uint16_t at;   /* bytes from the start of the run */
    uint16_t size; /* bytes */
    uint8_t rule;
    uint8_t number; /* of the field, for the rules that need one */
    uint16_t mask;  /* where in plan->masks, for packed digits */
} iso_check;

#define ISO_MASKS_SIZE 256u

/* A run of fixed fields, whose places are known, then one variable field, whose size must be read.
 */
typedef struct iso_step {
    uint16_t run_size;
    uint16_t check_end;  /* checks from the step before's check_end up to here */
    uint16_t length_min; /* of the variable field */
    uint16_t length_max;
    uint8_t number; /* of the variable field; 0: the message ends here */
    uint8_t prefix; /* how its length is read */
    uint8_t rule;   /* for its bytes */
    uint8_t halved; /* 1: its length counts packed digits, 0: bytes */
} iso_step;

/* Where a field is: `at` bytes into the run of `step`, or the variable field at its end. */
typedef struct iso_place {
    uint16_t at;
    uint16_t size; /* of a fixed field */
    uint8_t step;
    uint8_t kind; /* ISO_PLACE_ */
} iso_place;

enum { ISO_PLACE_ABSENT = 0, ISO_PLACE_FIXED = 1, ISO_PLACE_VARIABLE = 2 };

typedef struct iso_plan {
    const iso_spec *spec; /* must outlive the plan */
    uint64_t present[ISO_BITMAPS_MAX];
    uint8_t count;          /* fields */
    uint8_t step_count;     /* >= 1 */
    uint8_t variable_count; /* slices that iso_plan_run fills */
    uint8_t track2_first;   /* fields whose content is track 2; 0: none */
    uint8_t track2_last;
    uint8_t numbers[ISO_FIELD_MAX]; /* of the present fields, ascending */
    iso_place places[ISO_TABLE_SIZE];
    iso_step steps[ISO_FIELD_MAX];
    iso_check checks[ISO_FIELD_MAX];
    uint8_t masks[ISO_MASKS_SIZE]; /* which nibbles of packed fields are digits: 88, 80 or 08 */
} iso_plan;

/* Work out the plan for one set of bitmaps. Returns false if a bit is not defined by the spec or
 * the fixed fields alone are larger than a message may be. */
bool iso_plan_make(const iso_spec *spec, const uint64_t present[ISO_BITMAPS_MAX], iso_plan *plan);

/* Is this a message without any fault? `variables` has room for plan->variable_count slices; they
 * are set, in wire order, when the answer is yes. size <= ISO_MESSAGE_SIZE_MAX. */
bool iso_plan_run(const iso_plan *plan, const uint8_t *data, uint32_t size, uint32_t fields_offset,
                  iso_slice *variables);

/* The slice of a present field. */
iso_slice iso_plan_slice(const iso_plan *plan, const iso_slice *variables, uint32_t fields_offset,
                         uint32_t number);

/* Bytes of the encoded form of a present field, prefix included, and where it starts. */
uint32_t iso_plan_span(const iso_plan *plan, const iso_slice *variables, uint32_t fields_offset,
                       uint32_t number, uint32_t *start);

/* ---- writing ------------------------------------------------------------------------------- */

typedef struct iso_value {
    const uint8_t *data; /* may point at nothing when size is 0 */
    uint32_t size;       /* bytes at data */
    bool as_wire; /* true: data is a whole encoded field of an indexed message, copied unchanged */
} iso_value;

/* Bytes that one field takes, prefix and value: exact for a value that iso_build accepts. */
uint32_t iso_build_field_size(const iso_field *field, const iso_value *value);
/* Bytes that MTI and bitmaps take when these fields are present. */
uint32_t iso_build_base_size(const iso_spec *spec, const uint64_t present[ISO_BITMAPS_MAX]);

/* Set the bits that announce further bitmaps, as the fields need them; bits that are already set
 * stay, so a message that came with an empty secondary bitmap keeps it when it is patched. */
void iso_build_announce(uint64_t present[ISO_BITMAPS_MAX]);

/* Write MTI, bitmaps and fields.
 *
 * `mti` is four ASCII digits. `present` has been through iso_build_announce. `values` is indexed by
 * field number; only those of present fields are looked at. A value is given as iso_value_write
 * writes it ('=' or 'D' in track data).
 *
 * Returns ISO_OK with *size set to the bytes written at out. */
iso_status iso_build(const iso_spec *spec, const uint8_t *mti,
                     const uint64_t present[ISO_BITMAPS_MAX], const iso_value *values, uint8_t *out,
                     uint32_t capacity, uint32_t *size, iso_fault *fault);

/* Write one field, prefix included: a sub-field, whose tags come once and whose track is not
 * encrypted. On error, *position is the index in value->data of the first character to blame, or 0.
 */
iso_status iso_field_write(const iso_field *field, const iso_value *value, uint8_t *out,
                           uint32_t capacity, uint32_t *size, uint32_t *position);

/* ---- BER-TLV ------------------------------------------------------------------------------- */

typedef struct iso_tlv {
    uint32_t tag_offset;
    uint32_t tag_size; /* 1..ISO_TLV_TAG_SIZE_MAX */
    uint32_t value_offset;
    uint32_t value_size;
} iso_tlv;

/* Step to the next object at *offset. Bytes 00 between objects are skipped, as EMV Book 3 annex B
 * allows. Lengths: short form, 81 and 82; the indefinite form is not used in card messages.
 *
 * Returns ISO_OK with *out and *offset moved past the object; *offset == size and
 * out->tag_size == 0 when nothing but padding was left. ISO_E_TRUNCATED when the object leaves
 * [0, size), ISO_E_TLV when it is malformed, ISO_E_CANONICAL when its length is longer than it
 * need be. */
iso_status iso_tlv_next(const uint8_t *data, uint32_t size, uint32_t *offset, iso_tlv *out);

/* Are these bytes objects, each tag once unless `repeats` has it for `field`? ISO_OK, or ISO_E_TLV,
 * ISO_E_CANONICAL or ISO_E_DUPLICATE with *index at the first byte of the object to blame.
 * `repeats` may be NULL when repeat_count is 0. */
iso_status iso_tlv_check(const uint8_t *data, uint32_t size, const iso_repeat *repeats,
                         uint32_t repeat_count, uint32_t field, uint32_t *index);

/* Are these bytes exactly one BER-TLV tag, whose first byte is not 00? */
bool iso_tlv_tag_valid(const uint8_t *tag, uint32_t size);

/* Write one object at out + *offset with the shortest length form. `value_size` <= 65535.
 * ISO_E_TLV: the tag is not valid. ISO_E_SPACE: it does not fit. */
iso_status iso_tlv_write(const uint8_t *tag, uint32_t tag_size, const uint8_t *value,
                         uint32_t value_size, uint8_t *out, uint32_t capacity, uint32_t *offset);

#endif /* ISO8583_H */
