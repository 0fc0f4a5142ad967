/* ISO 8583 codec core: the one header that the outside sees.
 *
 * Contract for every function below:
 *   - no allocation, no I/O, no global state: safe from any thread, with or without the GIL;
 *   - reads only inside [data, data + size); values are named by offset, never copied;
 *   - writes only inside [out, out + capacity);
 *   - every loop is bounded by the input or by a constant;
 *   - on error nothing that the caller passed in has changed, except *fault, which says where, and
 *     the contents of an output (a buffer, a layout), which are then unspecified;
 *   - a pointer is never NULL unless its comment says so.
 *
 * Words: size is bytes; length is in the field's own unit (digits or bytes); offset is bytes from
 * `data`. A field number is 2..128; in a fault, 0 means the MTI and 1 the bitmap.
 */
#ifndef ISO8583_H
#define ISO8583_H

#include <stdbool.h>
#include <stdint.h>

#define ISO_FIELD_MAX 128u
#define ISO_TABLE_SIZE (ISO_FIELD_MAX + 1u) /* arrays indexed by field number */
#define ISO_MTI_DIGITS 4u
/* Offsets are 16 bits wide: an index that is kept with every message takes 6 bytes a field. */
#define ISO_MESSAGE_SIZE_MAX 65535u
#define ISO_FIELD_LENGTH_MAX 9999u /* four digits of length prefix */
#define ISO_TLV_TAG_SIZE_MAX 4u

/* ---- statuses ------------------------------------------------------------------------------ */

typedef enum iso_status {
    ISO_OK = 0,
    ISO_E_TRUNCATED = 1, /* the input ends inside a field */
    ISO_E_TRAILING = 2,  /* bytes are left after the last field */
    ISO_E_SIZE = 3,      /* the whole message is above ISO_MESSAGE_SIZE_MAX */
    ISO_E_MTI = 4,       /* the MTI is not four digits */
    ISO_E_BITMAP = 5,    /* bit 1 in a 64-field spec, or a hex bitmap with other characters */
    ISO_E_UNDEFINED = 6, /* the field has no entry in the spec */
    ISO_E_PREFIX = 7,    /* the length prefix is not made of decimal digits */
    ISO_E_LENGTH = 8,    /* the length is outside length_min..length_max of the field */
    ISO_E_CONTENT = 9,   /* a character or nibble that the field's content does not allow */
    ISO_E_TEXT = 10,     /* not GBK text */
    ISO_E_TLV = 11,      /* not BER-TLV, or a TLV object that leaves its field */
    ISO_E_SPACE = 12,    /* the output buffer is too small */
    ISO_E_SPEC = 13,     /* the field table contradicts itself */
    ISO_E_EMPTY = 14,    /* a frame that announces no bytes */
    ISO_E_TOO_LONG = 15  /* a frame that announces more than the reader allows */
} iso_status;

#define ISO_STATUS_COUNT 16u

/* Stable name for logs and metrics: "ok", "truncated", ... Never NULL; static storage. */
const char *iso_status_name(iso_status status);

/* Where something went wrong. */
typedef struct iso_fault {
    uint32_t field;    /* 0 MTI, 1 bitmap, 2..128 field; ISO_E_TRAILING and ISO_E_SIZE: 0 */
    uint32_t offset;   /* first byte of the field, its length prefix included */
    uint32_t position; /* the byte that is wrong; == offset where no single byte is to blame */
    uint32_t length;   /* the length found, for ISO_E_LENGTH; bytes left over, for ISO_E_TRAILING */
} iso_fault;

/* ---- the field table ----------------------------------------------------------------------- */

/* How the value is packed. */
typedef enum iso_packing {
    ISO_PACK_NONE = 0,     /* the field is not defined */
    ISO_PACK_BYTES = 1,    /* one byte a character, or raw binary */
    ISO_PACK_BCD_LEFT = 2, /* two digits a byte, an odd count is padded on the right: 021 = 02 10 */
    ISO_PACK_BCD_RIGHT = 3, /* two digits a byte, an odd count is padded on the left: 021 = 00 21 */
    ISO_PACK_TRACK_LEFT = 4 /* as BCD_LEFT, but all nibbles allowed and D stands for '=' */
} iso_packing;

/* Which characters a value may hold. The letters are those of the standard. */
typedef enum iso_content {
    ISO_CONTENT_B = 0,   /* any byte */
    ISO_CONTENT_N = 1,   /* 0-9 */
    ISO_CONTENT_A = 2,   /* letters and space */
    ISO_CONTENT_AN = 3,  /* letters, digits and space (fixed fields are space filled) */
    ISO_CONTENT_ANS = 4, /* printable ASCII */
    ISO_CONTENT_Z = 5,   /* track data: 0-9 A-F = and the code points between 9 and A */
    ISO_CONTENT_XN = 6,  /* C or D, then digits: signed amounts */
    ISO_CONTENT_GBK = 7, /* GBK text: printable ASCII or pairs of lead and trail byte */
    ISO_CONTENT_TLV = 8  /* a sequence of BER-TLV objects that fills the field exactly */
} iso_content;

/* What a length prefix counts. Two libraries that disagree here lose step with each other at the
 * first odd field, so it is a fact of the spec and never derived from the packing. */
typedef enum iso_unit { ISO_UNIT_BYTES = 0, ISO_UNIT_DIGITS = 1 } iso_unit;

typedef enum iso_digits_form {
    ISO_FORM_BCD = 0,  /* packed, two digits a byte */
    ISO_FORM_ASCII = 1 /* one character a digit */
} iso_digits_form;

typedef enum iso_bitmap_form {
    ISO_BITMAP_BINARY = 0, /* 8 bytes */
    ISO_BITMAP_HEX = 1     /* 16 characters; read in either case, written in upper case */
} iso_bitmap_form;

typedef struct iso_field {
    uint8_t packing;       /* iso_packing */
    uint8_t content;       /* iso_content */
    uint8_t unit;          /* iso_unit: of length_min, length_max and the prefix */
    uint8_t prefix_digits; /* 0: fixed length; else 2, 3 or 4 */
    uint8_t prefix_form;   /* iso_digits_form */
    uint8_t pad_strict;    /* 1: the pad nibble must be 0; 0: it is never looked at */
    uint16_t length_min;
    uint16_t length_max; /* == length_min when prefix_digits is 0 */
} iso_field;

typedef struct iso_spec {
    uint8_t mti_form;    /* iso_digits_form */
    uint8_t bitmap_form; /* iso_bitmap_form */
    uint8_t field_max;   /* 64 or 128; with 64, bit 1 is an error */
    uint64_t
        defined[2]; /* set by iso_spec_check: which fields have an entry, laid out as bitmaps */
    iso_field fields[ISO_TABLE_SIZE]; /* by field number; entries 0 and 1 stay empty */
} iso_spec;

/* Check a table once, so that iso_index and iso_build may trust it; sets spec->defined.
 *
 * Returns ISO_OK, or ISO_E_SPEC with fault->field at the first entry that makes no sense. */
iso_status iso_spec_check(iso_spec *spec, iso_fault *fault);

/* ---- reading ------------------------------------------------------------------------------- */

typedef struct iso_slice {
    uint16_t offset; /* first byte of the value, after its length prefix */
    uint16_t size;   /* bytes */
    uint16_t length; /* in the field's own unit */
} iso_slice;

typedef struct iso_layout {
    uint64_t present[2]; /* bit 63 of present[0] is bit 1 of the bitmap; [1] is the secondary */
    uint16_t mti_offset;
    uint16_t fields_offset; /* first byte after the bitmaps */
    uint16_t size;          /* of the message, everything in front of the MTI included */
    uint16_t count;         /* slices in use */
    iso_slice slices[ISO_FIELD_MAX - 1u]; /* of the present fields, ascending */
} iso_layout;

/* Find every field of one whole message in one pass.
 *
 * `start` is the offset of the MTI (the size of whatever header precedes it); start <= size.
 *
 * Returns ISO_OK with *layout set: every length is within the spec, every value holds only what its
 * content allows, and the fields fill the input exactly. Fields lie back to back, so the encoded
 * form of slice i, prefix included, starts where slice i - 1 ends.
 *
 * An undefined field is reported before any field is walked: later, the loss of step that it causes
 * would be blamed on an innocent neighbour. */
iso_status iso_index(const iso_spec *spec, const uint8_t *data, uint32_t size, uint32_t start,
                     iso_layout *layout, iso_fault *fault);

/* Position of `field` in slices, or -1 if it is absent. */
int32_t iso_layout_find(const uint64_t present[2], uint32_t field);

/* Characters that iso_unpack writes for a value of `length` in the field's unit. */
uint32_t iso_unpacked_length(const iso_field *field, uint32_t length);

/* Write a packed value as characters, one a digit, without a terminator.
 *
 * `data` is the value alone (slice.offset, slice.size); the field's packing is not ISO_PACK_BYTES;
 * `out` has room for iso_unpacked_length() characters. Cannot fail: iso_index has checked. */
void iso_unpack(const iso_field *field, const uint8_t *data, uint32_t length, uint8_t *out);

/* Write four characters at `out`: the MTI of an indexed message. */
void iso_mti_unpack(const iso_spec *spec, const uint8_t *data, uint32_t mti_offset, uint8_t *out);

/* ---- writing ------------------------------------------------------------------------------- */

typedef struct iso_value {
    const uint8_t *data; /* NULL: the field is absent; may point at nothing when size is 0 */
    uint32_t size;       /* bytes at data */
    bool as_wire; /* true: data is a whole encoded field of an indexed message, copied unchanged */
} iso_value;

/* Bytes that one field takes, prefix and value: exact for a value that iso_build accepts. */
uint32_t iso_build_field_size(const iso_field *field, const iso_value *value);
/* Bytes that MTI and bitmaps take. */
uint32_t iso_build_base_size(const iso_spec *spec, bool secondary);

/* Write MTI, bitmaps and fields.
 *
 * `mti` is four ASCII digits. `values` is indexed by field number. A value of a packed field is
 * given as characters ('=' or 'D' in track data), all others as the bytes to send.
 * `secondary` forces the secondary bitmap even if no field needs it: a message that came with an
 * empty one keeps it when it is patched.
 *
 * Returns ISO_OK with *size set to the bytes written at out. */
iso_status iso_build(const iso_spec *spec, const uint8_t *mti, const iso_value *values,
                     bool secondary, uint8_t *out, uint32_t capacity, uint32_t *size,
                     iso_fault *fault);

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
 * [0, size), ISO_E_TLV when it is malformed. */
iso_status iso_tlv_next(const uint8_t *data, uint32_t size, uint32_t *offset, iso_tlv *out);

/* Are these bytes exactly one BER-TLV tag, whose first byte is not 00? */
bool iso_tlv_tag_valid(const uint8_t *tag, uint32_t size);

/* Write one object at out + *offset with the shortest length form. `value_size` <= 65535.
 * ISO_E_TLV: the tag is not valid. ISO_E_SPACE: it does not fit. */
iso_status iso_tlv_write(const uint8_t *tag, uint32_t tag_size, const uint8_t *value,
                         uint32_t value_size, uint8_t *out, uint32_t capacity, uint32_t *offset);

/* ---- frames -------------------------------------------------------------------------------- */

typedef struct iso_frame {
    uint32_t offset; /* first byte after the length prefix */
    uint32_t size;
} iso_frame;

/* Find one frame at data: a two-byte big-endian binary length that counts what follows.
 *
 * ISO_E_TRUNCATED: not all there yet, ask again with more bytes. ISO_E_EMPTY and ISO_E_TOO_LONG are
 * final and come as soon as the prefix is there: a peer must not be able to make us buffer what we
 * would reject anyway. `size_max` <= 65535. */
iso_status iso_frame_len2(const uint8_t *data, uint32_t size, uint32_t size_max, iso_frame *out);

#endif /* ISO8583_H */
