/* Frames: how a byte stream is cut into messages. Stands alone; needs nothing of iso8583.h.
 *
 * Contract for every function below:
 *   - no allocation, no I/O, no global state: safe from any thread as long as no two threads share
 *     an iso_framer;
 *   - reads only inside [data, data + size); frames are named by offset, never copied;
 *   - every loop is bounded by the input;
 *   - a pointer is never NULL unless its comment says so.
 *
 * Two shapes:
 *
 *     length  data                      a connection: what is wrong here ends the stream
 *     STX  length  data  ETX  LRC       a serial line: what is wrong here is skipped
 *
 * LRC is the XOR of everything behind STX, ETX included. The data may hold any byte, STX and ETX
 * too: where a frame ends is told by its length alone, ETX and LRC only confirm it.
 */
#ifndef ISO8583_FRAME_H
#define ISO8583_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ISO_FRAME_PREFIX_MAX 10u /* bytes of the longest length prefix */
/* No link carries messages of this size; it keeps a length of ten digits from meaning 10 GB. */
#define ISO_FRAME_SIZE_MAX (1u << 24)
/* After a fault a serial line is searched again byte by byte, and each place may cost one pass over
 * a whole frame. So frames on such lines stay small. */
#define ISO_FRAME_SERIAL_SIZE_MAX 65535u

typedef enum iso_frame_status {
    ISO_FRAME_OK = 0,
    ISO_FRAME_MORE = 1,       /* not all there yet: ask again with more bytes */
    ISO_FRAME_E_PREFIX = 2,   /* the length is not made of decimal digits */
    ISO_FRAME_E_SELF = 3,     /* the length counts itself and is less than its own size */
    ISO_FRAME_E_EMPTY = 4,    /* announces no bytes */
    ISO_FRAME_E_TOO_LONG = 5, /* announces more than the reader allows */
    ISO_FRAME_E_ETX = 6,      /* serial: no ETX where the length puts it */
    ISO_FRAME_E_LRC = 7       /* serial: the check byte does not fit */
} iso_frame_status;

#define ISO_FRAME_STATUS_COUNT 8u

/* Stable name for logs and metrics: "ok", "more", "prefix" (E_SELF too), ... Never NULL; static
 * storage. */
const char *iso_frame_status_name(iso_frame_status status);

typedef enum iso_frame_form {
    ISO_FRAME_BINARY = 0, /* big-endian */
    ISO_FRAME_BCD = 1,    /* packed, two digits a byte */
    ISO_FRAME_ASCII = 2   /* one character a digit */
} iso_frame_form;

typedef struct iso_framing {
    uint8_t form;        /* iso_frame_form */
    uint8_t prefix_size; /* bytes; 1..4, of ASCII digits 1..ISO_FRAME_PREFIX_MAX */
    bool counts_itself;  /* the length announced includes the prefix */
    bool empty_allowed;  /* a frame without data is a heartbeat and not a fault */
    bool serial;         /* STX in front; ETX and LRC behind */
    uint32_t size_max;   /* bytes of data to accept; 1..iso_framing_size_max() */
} iso_framing;

/* The most bytes of data that such a frame can have, whatever size_max says. 0: the prefix makes no
 * sense. */
uint32_t iso_framing_size_max(const iso_framing *framing);
/* Check once, so that the functions below may trust it. */
bool iso_framing_valid(const iso_framing *framing);

/* ---- writing ------------------------------------------------------------------------------- */

/* Bytes that a frame has besides its data. */
uint32_t iso_frame_overhead(const iso_framing *framing);

/* Write a whole frame. `size` <= iso_framing_size_max(), `out` has room for size +
 * iso_frame_overhead() bytes and does not overlap data; data may be NULL when size is 0. */
void iso_frame_write(const iso_framing *framing, const uint8_t *data, uint32_t size, uint8_t *out);

/* ---- reading ------------------------------------------------------------------------------- */

/* One direction of one line. Set `framing` (iso_framing_valid) and all else to 0 to begin. */
typedef struct iso_framer {
    iso_framing framing;
    uint64_t skipped;   /* serial: bytes that belong to no frame */
    uint64_t discarded; /* serial: frames that began (an STX) and were given up */
    uint8_t reason;     /* iso_frame_status: why the last one was; MORE: the line fell silent */
    uint64_t announced; /* serial: what the last one announced, see iso_frame */
    uint32_t suspect;   /* private: bytes still to come of a frame already counted as discarded */
} iso_framer;

typedef struct iso_frame {
    size_t start;  /* first byte of the frame, STX or prefix; what stands in front is skipped */
    size_t needed; /* MORE: nothing more can be said before this many bytes from `start` */
    size_t offset; /* OK: first byte of the data */
    uint32_t size; /* OK: bytes of data */
    size_t end;    /* OK: first byte behind the frame: where the next one begins */
    uint64_t announced; /* E_*: bytes of data announced; with E_SELF the length as it came; with
                         * E_PREFIX 0 */
} iso_frame;

/* Find the next frame of a stream. `data` starts behind the last one, or at the `start` of the last
 * MORE; it may be NULL when size is 0.
 *
 * `ended`: no more bytes belong to these. A serial line then gives up an incomplete frame and looks
 * for others inside it; a connection's stream answers MORE as ever.
 *
 * OK: out->start, offset, size and end are set; go on at end.
 *
 * MORE: out->start and needed are set. Keep the bytes from start on (none, if start == size); that
 * is less than a whole frame. needed is above what was kept: asking earlier is useless.
 *
 * E_*: final, and never on a serial line. Comes as soon as the prefix shows it: a peer must not be
 * able to make us buffer what we would reject anyway.
 *
 * On a serial line a wrong frame is given up at its first byte only, since a good one may begin
 * anywhere inside: of a frame cut short and the next one, the next one comes out. It may have to
 * wait for the bytes that the broken one announced, or for `ended`: to look ahead of an incomplete
 * frame would let the data of a good one pass for a frame. What comes out depends on the bytes and
 * on `ended` alone, never on how the bytes were portioned. */
iso_frame_status iso_frame_next(iso_framer *framer, const uint8_t *data, size_t size, bool ended,
                                iso_frame *out);

#endif /* ISO8583_FRAME_H */
