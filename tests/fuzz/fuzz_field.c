/* One field, then bytes: once as what was transmitted, once as a value to be written. */
#include "fuzz.h"

static void check_read(const iso_field *field, const uint8_t *bytes, uint32_t size)
{
    uint8_t *const data = exact_copy(bytes, size);
    uint32_t offset = size > 3 ? size % 3 : 0;
    const uint32_t before = offset;
    iso_slice slice;
    iso_fault fault;
    const iso_status status = iso_field_read(field, data, size, &offset, &slice, &fault);
    if (status != ISO_OK) {
        CHECK(offset == before && fault.status == status && fault.field == 0);
        CHECK(fault.offset == before && fault.position >= before && fault.position <= size);
        free_room(data, size);
        return;
    }
    CHECK(offset == (uint32_t)slice.offset + slice.size && offset <= size);
    CHECK(slice.length >= field->length_min && slice.length <= field->length_max);
    CHECK(slice.size == bytes_of(field, slice.length));
    const uint32_t length = iso_value_length(field, &slice);
    CHECK(length == characters_of(field, slice.length));
    uint8_t *const text = exact_room(length);
    iso_value_write(field, data, &slice, text);
    const bool verbatim = field->packing == ISO_PACK_BYTES && field->charset == ISO_CHARSET_ASCII;
    CHECK(!verbatim || memcmp(text, data + slice.offset, length) == 0);

    /* Written again it takes as many bytes, and is read as the same. */
    const iso_value value = {text, length, false};
    const uint32_t span = iso_build_field_size(field, &value);
    uint8_t *const out = exact_room(span);
    uint8_t *const again = exact_room(length);
    uint32_t written = 0;
    uint32_t position = 0;
    uint32_t at = 0;
    iso_slice second;
    CHECK(span == offset - before);
    CHECK(iso_field_write(field, &value, out, span, &written, &position) == ISO_OK);
    CHECK(written == span);
    CHECK(iso_field_read(field, out, span, &at, &second, &fault) == ISO_OK);
    CHECK(second.length == slice.length && second.size == slice.size);
    iso_value_write(field, out, &second, again);
    CHECK(memcmp(again, text, length) == 0);
    free_room(again, length);
    free_room(out, span);
    free_room(text, length);
    free_room(data, size);
}

static void check_write(const iso_field *field, const uint8_t *bytes, uint32_t size)
{
    uint8_t *const text = exact_copy(bytes, size);
    const iso_value value = {text, size, false};
    const uint32_t span = iso_build_field_size(field, &value);
    uint8_t *const out = exact_room(span);
    uint32_t written = span + 1;
    uint32_t position = 0;
    const iso_status status = iso_field_write(field, &value, out, span, &written, &position);
    CHECK(status != ISO_E_SPACE);
    if (status != ISO_OK) {
        CHECK(position <= size);
    } else if (span <= ISO_MESSAGE_SIZE_MAX) {
        uint32_t at = 0;
        iso_slice slice;
        iso_fault fault;
        CHECK(written == span);
        CHECK(iso_field_read(field, out, span, &at, &slice, &fault) == ISO_OK);
        CHECK(at == span && iso_value_length(field, &slice) == size);
        uint8_t *const back = exact_room(size);
        iso_value_write(field, out, &slice, back);
        CHECK(same_value(field, text, back, size));
        free_room(back, size);
    }
    free_room(out, span);
    free_room(text, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    source from = {input, (uint32_t)input_size, 0};
    const iso_field field = take_field(&from);
    if (input_size > ISO_MESSAGE_SIZE_MAX || !iso_field_check(&field)) {
        return 0;
    }
    uint32_t size = 0;
    const uint8_t *const bytes = take_bytes(&from, UINT32_MAX, &size);
    check_read(&field, bytes, size);
    check_write(&field, bytes, size);
    return 0;
}
