/* A framing, the size of the portions, then a stream. In portions it gives the same frames as in
 * one piece, and every frame is what the writer makes of its data. */
#include "fuzz.h"

#include "frame.h"

enum { EVENTS_MAX = 4096 };

typedef struct event {
    iso_frame_status status;
    uint32_t start; /* of the frame in the stream */
    uint32_t size;
} event;

typedef struct reading {
    event events[EVENTS_MAX];
    uint32_t count;
    iso_framer framer;
} reading;

static void check_frame(const iso_framing *framing, const uint8_t *data, const iso_frame *frame)
{
    const uint32_t span = frame->size + iso_frame_overhead(framing);
    uint8_t *const copy = exact_room(span);
    CHECK(frame->size <= framing->size_max && (frame->size > 0 || framing->empty_allowed));
    CHECK(frame->end - frame->start == span);
    iso_frame_write(framing, data + frame->offset, frame->size, copy);
    CHECK(memcmp(copy, data + frame->start, span) == 0);
    free_room(copy, span);
}

/* Feed the stream as it would come: kept bytes, and behind them the next portion. */
static void feed(reading *run, const iso_framing *framing, const uint8_t *stream, uint32_t size,
                 uint32_t portion)
{
    memset(run, 0, sizeof *run);
    run->framer.framing = *framing;
    uint32_t begin = 0; /* of what is kept */
    uint32_t arrived = 0;
    for (;;) {
        const uint32_t step = size - arrived < portion ? size - arrived : portion;
        const bool ended = arrived == size;
        arrived += step;
        uint8_t *const data = exact_copy(stream + begin, arrived - begin);
        const uint32_t held = arrived - begin;
        uint32_t at = 0;
        for (;;) {
            iso_frame frame = {0, 0, 0, 0, 0, 0};
            const iso_frame_status status =
                iso_frame_next(&run->framer, data + at, held - at, ended, &frame);
            CHECK(iso_frame_status_name(status)[0] != 0);
            CHECK(run->count < EVENTS_MAX);
            if (status == ISO_FRAME_MORE) {
                CHECK(frame.start <= held - at);
                CHECK(frame.needed > held - at - frame.start);
                at += (uint32_t)frame.start;
                break;
            }
            event *const found = &run->events[run->count++];
            *found = (event){status, begin + at + (uint32_t)frame.start, frame.size};
            if (status != ISO_FRAME_OK) {
                CHECK(!framing->serial);
                found->size = 0;
                free_room(data, held);
                return;
            }
            CHECK(frame.end <= held - at && frame.end > frame.start);
            check_frame(framing, data + at, &frame);
            at += (uint32_t)frame.end;
        }
        free_room(data, held);
        begin += at;
        if (ended) {
            return;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    static reading whole;
    static reading parts;
    source from = {input, (uint32_t)input_size, 0};
    if (input_size > EVENTS_MAX) {
        return 0;
    }
    const uint8_t head = take(&from);
    iso_framing framing = {
        .form = head % 4,
        .counts_itself = (head >> 2 & 1) != 0,
        .empty_allowed = (head >> 3 & 1) != 0,
        .serial = (head >> 4 & 1) != 0,
    };
    const uint8_t sizes = take(&from);
    framing.prefix_size = sizes % 12;
    framing.size_max = sizes >> 4 == 15 ? iso_framing_size_max(&framing) : take(&from);
    const uint32_t portion = 1u + take(&from) % 16;
    if (!iso_framing_valid(&framing)) {
        return 0;
    }
    uint32_t size = 0;
    const uint8_t *const stream = take_bytes(&from, UINT32_MAX, &size);
    feed(&whole, &framing, stream, size, size > 0 ? size : 1);
    feed(&parts, &framing, stream, size, portion);
    CHECK(whole.count == parts.count);
    for (uint32_t i = 0; i < whole.count; i++) {
        CHECK(whole.events[i].status == parts.events[i].status);
        CHECK(whole.events[i].start == parts.events[i].start);
        CHECK(whole.events[i].size == parts.events[i].size);
    }
    CHECK(whole.framer.skipped == parts.framer.skipped);
    CHECK(whole.framer.discarded == parts.framer.discarded);
    return 0;
}
