#include "frame.h"

/* As in internal.h: the assertions stay on in every build. */
#undef NDEBUG
#include <assert.h>

#include <string.h>

enum { STX = 0x02, ETX = 0x03, TRAILER_SIZE = 2 };

const char *iso_frame_status_name(iso_frame_status status)
{
    static const char *const NAMES[ISO_FRAME_STATUS_COUNT] = {
        "ok", "more", "prefix", "prefix", "empty", "too_long", "etx", "lrc",
    };
    return (uint32_t)status < ISO_FRAME_STATUS_COUNT ? NAMES[status] : "unknown";
}

/* ---- the framing --------------------------------------------------------------------------- */

static uint64_t power(uint64_t base, uint32_t exponent)
{
    uint64_t result = 1;
    for (uint32_t i = 0; i < exponent; i++) {
        result *= base;
    }
    return result;
}

uint32_t iso_framing_size_max(const iso_framing *framing)
{
    static const uint32_t BASES[] = {256, 100, 10};
    if (framing->form > ISO_FRAME_ASCII || framing->prefix_size < 1 ||
        framing->prefix_size > (framing->form == ISO_FRAME_ASCII ? ISO_FRAME_PREFIX_MAX : 4)) {
        return 0;
    }
    uint64_t most = power(BASES[framing->form], framing->prefix_size) - 1;
    if (framing->counts_itself) {
        most -= framing->prefix_size; /* at least 9 - 1 */
    }
    const uint32_t bound = framing->serial ? ISO_FRAME_SERIAL_SIZE_MAX : ISO_FRAME_SIZE_MAX;
    return most < bound ? (uint32_t)most : bound;
}

bool iso_framing_valid(const iso_framing *framing)
{
    return framing->size_max >= 1 && framing->size_max <= iso_framing_size_max(framing);
}

/* ---- the prefix ---------------------------------------------------------------------------- */

static bool digits_fit(iso_frame_form form, uint8_t byte)
{
    switch (form) {
    case ISO_FRAME_BCD:
        return byte >> 4 <= 9 && (byte & 0x0Fu) <= 9;
    case ISO_FRAME_ASCII:
        return byte >= '0' && byte <= '9';
    default:
        return true;
    }
}

static uint64_t prefix_value(iso_frame_form form, const uint8_t *prefix, uint32_t size)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++) {
        switch (form) {
        case ISO_FRAME_BCD:
            value = value * 100 + (prefix[i] >> 4) * 10u + (prefix[i] & 0x0Fu);
            break;
        case ISO_FRAME_ASCII:
            value = value * 10 + (uint32_t)(prefix[i] - '0');
            break;
        default:
            value = value << 8 | prefix[i];
            break;
        }
    }
    return value;
}

static void prefix_write(iso_frame_form form, uint64_t value, uint8_t *out, uint32_t size)
{
    for (uint32_t i = size; i > 0; i--) {
        switch (form) {
        case ISO_FRAME_BCD:
            out[i - 1] = (uint8_t)(value / 10 % 10 << 4 | value % 10);
            value /= 100;
            break;
        case ISO_FRAME_ASCII:
            out[i - 1] = (uint8_t)('0' + value % 10);
            value /= 10;
            break;
        default:
            out[i - 1] = (uint8_t)value;
            value >>= 8;
            break;
        }
    }
    assert(value == 0);
}

/* ---- the check byte ------------------------------------------------------------------------ */

static uint8_t xor_of(const uint8_t *data, size_t size)
{
    /* Eight bytes at a time: noise may ask for the check byte of many overlapping frames. */
    uint64_t wide = 0;
    size_t i = 0;
    for (; i + sizeof wide <= size; i += sizeof wide) {
        uint64_t word;
        memcpy(&word, data + i, sizeof word);
        wide ^= word;
    }
    wide ^= wide >> 32;
    wide ^= wide >> 16;
    wide ^= wide >> 8;
    uint8_t sum = (uint8_t)wide;
    for (; i < size; i++) {
        sum ^= data[i];
    }
    return sum;
}

/* ---- writing ------------------------------------------------------------------------------- */

uint32_t iso_frame_overhead(const iso_framing *framing)
{
    return framing->prefix_size + (framing->serial ? 1u + TRAILER_SIZE : 0u);
}

void iso_frame_write(const iso_framing *framing, const uint8_t *data, uint32_t size, uint8_t *out)
{
    assert(size <= iso_framing_size_max(framing));
    const uint32_t prefix_size = framing->prefix_size;
    if (framing->serial) {
        *out++ = STX;
    }
    prefix_write(framing->form, (uint64_t)size + (framing->counts_itself ? prefix_size : 0), out,
                 prefix_size);
    if (size > 0) {
        memcpy(out + prefix_size, data, size);
    }
    if (framing->serial) {
        uint8_t *const trailer = out + prefix_size + size;
        trailer[0] = ETX;
        trailer[1] = xor_of(out, prefix_size + size + 1);
    }
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Read a frame that starts at data[0]; sets *out relative to it, `end` also with ETX and LRC. */
static iso_frame_status read_one(const iso_framing *framing, const uint8_t *data, size_t size,
                                 iso_frame *out)
{
    const uint32_t prefix_size = framing->prefix_size;
    const size_t lead = framing->serial ? 1 : 0;
    assert(lead <= size);
    out->start = 0;
    out->announced = 0;

    /* A digit that is none is final at once: whoever waits for ten of them should not. */
    const size_t at_hand = size - lead < prefix_size ? size - lead : prefix_size;
    for (size_t i = 0; i < at_hand; i++) {
        if (!digits_fit(framing->form, data[lead + i])) {
            return ISO_FRAME_E_PREFIX;
        }
    }
    if (at_hand < prefix_size) {
        out->needed = framing->form == ISO_FRAME_BINARY ? lead + prefix_size : size + 1;
        return ISO_FRAME_MORE;
    }

    uint64_t announced = prefix_value(framing->form, data + lead, prefix_size);
    if (framing->counts_itself) {
        if (announced < prefix_size) {
            out->announced = announced;
            return ISO_FRAME_E_SELF;
        }
        announced -= prefix_size;
    }
    out->announced = announced;
    /* The maximum comes before the bytes at hand: a peer must not be able to make us wait for data
     * that we would reject anyway. */
    if (announced > framing->size_max) {
        return ISO_FRAME_E_TOO_LONG;
    }
    if (announced == 0 && !framing->empty_allowed) {
        return ISO_FRAME_E_EMPTY;
    }

    out->offset = lead + prefix_size;
    out->size = (uint32_t)announced;
    const size_t data_end = out->offset + out->size;
    out->end = data_end + (framing->serial ? TRAILER_SIZE : 0);
    if (size < out->end) {
        out->needed = out->end;
        return ISO_FRAME_MORE;
    }
    if (framing->serial) {
        if (data[data_end] != ETX) {
            return ISO_FRAME_E_ETX;
        }
        if (data[data_end + 1] != xor_of(data + lead, data_end + 1 - lead)) {
            return ISO_FRAME_E_LRC;
        }
    }
    return ISO_FRAME_OK;
}

static void skip(iso_framer *framer, size_t count)
{
    framer->skipped += count;
    framer->suspect = count < framer->suspect ? framer->suspect - (uint32_t)count : 0;
}

/* Count a frame that is given up. What lies inside it may look like frames too, and is not counted
 * again: one broken frame of binary data would count as several. */
static void discard(iso_framer *framer, iso_frame_status reason, const iso_frame *frame,
                    size_t left)
{
    if (framer->suspect > 0) {
        return;
    }
    framer->discarded++;
    framer->reason = (uint8_t)reason;
    framer->announced = frame->announced;
    switch (reason) {
    case ISO_FRAME_MORE:
        framer->suspect = (uint32_t)left; /* the line ended: nothing of it is still to come */
        break;
    case ISO_FRAME_E_ETX:
    case ISO_FRAME_E_LRC:
        framer->suspect = (uint32_t)frame->end;
        break;
    default:
        framer->suspect = 1; /* its extent is unknown */
        break;
    }
}

static iso_frame_status next_on_serial(iso_framer *framer, const uint8_t *data, size_t size,
                                       bool ended, iso_frame *out)
{
    size_t start = 0;
    while (start < size) {
        const uint8_t *const found = memchr(data + start, STX, size - start);
        const size_t noise = found == NULL ? size - start : (size_t)(found - data) - start;
        skip(framer, noise);
        start += noise;
        if (found == NULL) {
            break;
        }

        const size_t left = size - start;
        const iso_frame_status status = read_one(&framer->framing, data + start, left, out);
        if (status == ISO_FRAME_OK) {
            framer->suspect = 0;
            out->start = start;
            out->offset += start;
            out->end += start;
            assert(out->end <= size);
            return ISO_FRAME_OK;
        }
        if (status == ISO_FRAME_MORE && !ended) {
            out->start = start;
            assert(out->needed > left);
            return ISO_FRAME_MORE;
        }
        discard(framer, status, out, left);
        skip(framer, 1);
        start++;
    }
    assert(start == size);
    out->start = size;
    out->needed = 1;
    return ISO_FRAME_MORE;
}

iso_frame_status iso_frame_next(iso_framer *framer, const uint8_t *data, size_t size, bool ended,
                                iso_frame *out)
{
    assert(iso_framing_valid(&framer->framing));
    if (framer->framing.serial) {
        return next_on_serial(framer, data, size, ended, out);
    }
    return read_one(&framer->framing, data, size, out);
}
