#include "iso8583.h"
#include "internal.h"

iso_status iso_frame_len2(const uint8_t *data, uint32_t size, uint32_t size_max, iso_frame *out)
{
    assert(size_max >= 1 && size_max <= 0xFFFF);
    if (size < 2) {
        return ISO_E_TRUNCATED;
    }
    const uint32_t announced = (uint32_t)data[0] << 8 | data[1];
    if (announced == 0) {
        return ISO_E_EMPTY;
    }
    if (announced > size_max) {
        return ISO_E_TOO_LONG;
    }
    if (size - 2 < announced) {
        return ISO_E_TRUNCATED;
    }
    out->offset = 2;
    out->size = announced;
    assert(out->offset + out->size <= size);
    return ISO_OK;
}
