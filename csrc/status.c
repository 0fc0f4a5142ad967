#include "iso8583.h"
#include "internal.h"

static const char *const NAMES[ISO_STATUS_COUNT] = {
    [ISO_OK] = "ok",
    [ISO_E_TRUNCATED] = "truncated",
    [ISO_E_TRAILING] = "trailing",
    [ISO_E_SIZE] = "size",
    [ISO_E_MTI] = "mti",
    [ISO_E_BITMAP] = "bitmap",
    [ISO_E_UNDEFINED] = "undefined",
    [ISO_E_PREFIX] = "prefix",
    [ISO_E_LENGTH] = "length",
    [ISO_E_CONTENT] = "content",
    [ISO_E_TEXT] = "text",
    [ISO_E_TLV] = "tlv",
    [ISO_E_SPACE] = "space",
    [ISO_E_SPEC] = "spec",
    [ISO_E_TRACK] = "track",
    [ISO_E_PAD] = "pad",
    [ISO_E_CANONICAL] = "canonical",
    [ISO_E_DUPLICATE] = "duplicate",
};

const char *iso_status_name(iso_status status)
{
    assert((uint32_t)status < ISO_STATUS_COUNT);
    assert(NAMES[status] != NULL);
    return NAMES[status];
}
