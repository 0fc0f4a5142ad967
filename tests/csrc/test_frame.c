#include "check.h"

#include "frame.h"

enum { STREAM_MAX = 2048 };

/* Every shape that iso8583/framing.py offers, with and without a length that counts itself. */
static const iso_framing SHAPES[] = {
    {ISO_FRAME_BINARY, 2, false, false, false, 300}, {ISO_FRAME_BINARY, 2, true, false, false, 300},
    {ISO_FRAME_BINARY, 4, false, false, false, 300}, {ISO_FRAME_BINARY, 4, true, false, false, 300},
    {ISO_FRAME_BCD, 2, false, false, false, 300},    {ISO_FRAME_BCD, 2, true, false, false, 300},
    {ISO_FRAME_ASCII, 4, false, false, false, 300},  {ISO_FRAME_ASCII, 4, true, false, false, 300},
    {ISO_FRAME_ASCII, 10, false, false, false, 300}, {ISO_FRAME_ASCII, 10, true, false, false, 300},
    {ISO_FRAME_BCD, 2, false, false, true, 300},     {ISO_FRAME_BCD, 2, true, false, true, 300},
    {ISO_FRAME_BINARY, 2, false, false, true, 300},  {ISO_FRAME_ASCII, 4, false, false, true, 300},
};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof SHAPES[0] };

static const iso_framing LEN2 = {ISO_FRAME_BINARY, 2, false, false, false, 16};
static const iso_framing SERIAL = {ISO_FRAME_BCD, 2, false, false, true, 16};

static iso_framer begin(iso_framing framing)
{
    iso_framer framer;
    memset(&framer, 0, sizeof framer);
    framer.framing = framing;
    CHECK(iso_framing_valid(&framer.framing));
    return framer;
}

static iso_frame_status status_of(iso_framing framing, const char *data, uint32_t size)
{
    iso_framer framer = begin(framing);
    iso_frame found;
    return iso_frame_next(&framer, guard_copy((const uint8_t *)data, size), size, false, &found);
}

static void test_the_names_are_stable(void)
{
    const char *const names[] = {"ok",    "more",     "prefix", "prefix",
                                 "empty", "too_long", "etx",    "lrc"};
    CHECK(sizeof names / sizeof names[0] == ISO_FRAME_STATUS_COUNT);
    for (uint32_t status = 0; status < ISO_FRAME_STATUS_COUNT; status++) {
        CHECK(strcmp(iso_frame_status_name((iso_frame_status)status), names[status]) == 0);
    }
    CHECK(strcmp(iso_frame_status_name((iso_frame_status)ISO_FRAME_STATUS_COUNT), "unknown") == 0);
}

static void test_the_largest_frame_follows_from_the_prefix(void)
{
    const struct {
        iso_framing framing;
        uint32_t most;
    } cases[] = {
        {{ISO_FRAME_BINARY, 1, false, false, false, 0}, 255},
        {{ISO_FRAME_BINARY, 2, false, false, false, 0}, 65535},
        {{ISO_FRAME_BINARY, 2, true, false, false, 0}, 65533},
        {{ISO_FRAME_BINARY, 4, false, false, false, 0}, ISO_FRAME_SIZE_MAX},
        {{ISO_FRAME_BINARY, 4, false, false, true, 0}, ISO_FRAME_SERIAL_SIZE_MAX},
        {{ISO_FRAME_BCD, 2, false, false, false, 0}, 9999},
        {{ISO_FRAME_BCD, 2, true, false, true, 0}, 9997},
        {{ISO_FRAME_ASCII, 1, true, false, false, 0}, 8},
        {{ISO_FRAME_ASCII, 4, true, false, false, 0}, 9995},
        {{ISO_FRAME_ASCII, 10, false, false, false, 0}, ISO_FRAME_SIZE_MAX},
        {{ISO_FRAME_BINARY, 0, false, false, false, 0}, 0},
        {{ISO_FRAME_BINARY, 5, false, false, false, 0}, 0},
        {{ISO_FRAME_BCD, 5, false, false, false, 0}, 0},
        {{ISO_FRAME_ASCII, 11, false, false, false, 0}, 0},
        {{3, 2, false, false, false, 0}, 0},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        iso_framing framing = cases[i].framing;
        CHECK(iso_framing_size_max(&framing) == cases[i].most);
        CHECK(!iso_framing_valid(&framing)); /* size_max 0 */
        framing.size_max = cases[i].most;
        CHECK(iso_framing_valid(&framing) == (cases[i].most > 0));
        framing.size_max = cases[i].most + 1;
        CHECK(!iso_framing_valid(&framing));
    }
}

/* Written at the very end of a page, against a check byte that is summed up byte by byte. */
static void test_a_frame_is_written_as_it_is_documented(void)
{
    uint8_t data[300];
    uint32_t state = 11;
    for (uint32_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)dice(&state);
    }
    for (uint32_t size = 0; size <= sizeof data; size++) {
        const uint32_t total = size + iso_frame_overhead(&SERIAL);
        CHECK(total == size + 5);
        uint8_t *const out = guard_copy(NULL, total);
        iso_frame_write(&SERIAL, data, size, out);
        CHECK(out[0] == 0x02);
        CHECK(out[1] == size / 1000 * 16 + size / 100 % 10 &&
              out[2] == size / 10 % 10 * 16 + size % 10);
        CHECK(memcmp(out + 3, data, size) == 0);
        CHECK(out[size + 3] == 0x03);
        uint8_t sum = 0;
        for (uint32_t i = 1; i < total - 1; i++) {
            sum = (uint8_t)(sum ^ out[i]);
        }
        CHECK(out[total - 1] == sum);
    }

    const struct {
        iso_framing framing;
        const char *prefix;
    } cases[] = {
        {{ISO_FRAME_BINARY, 2, false, false, false, 0}, "\x01\x02"},
        {{ISO_FRAME_BINARY, 2, true, false, false, 0}, "\x01\x04"},
        {{ISO_FRAME_BINARY, 4, false, false, false, 0}, "\x00\x00\x01\x02"},
        {{ISO_FRAME_BCD, 2, false, false, false, 0}, "\x02\x58"},
        {{ISO_FRAME_ASCII, 4, false, false, false, 0}, "0258"},
        {{ISO_FRAME_ASCII, 4, true, false, false, 0}, "0262"},
        {{ISO_FRAME_ASCII, 10, false, false, false, 0}, "0000000258"},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t prefix_size = iso_frame_overhead(&cases[i].framing);
        CHECK(prefix_size == cases[i].framing.prefix_size);
        uint8_t *const out = guard_copy(NULL, prefix_size + 258);
        iso_frame_write(&cases[i].framing, data, 258, out);
        CHECK(memcmp(out, cases[i].prefix, prefix_size) == 0);
        CHECK(memcmp(out + prefix_size, data, 258) == 0);
    }
}

static void test_every_prefix_asks_for_more(void)
{
    const uint32_t sizes[] = {1, 2, 3, 255, 256, 300};
    uint8_t data[300];
    memset(data, 0x02, sizeof data); /* as hard as it can be on a serial line */
    for (uint32_t i = 0; i < SHAPE_COUNT * (sizeof sizes / sizeof sizes[0]); i++) {
        const iso_framing *const shape = &SHAPES[i % SHAPE_COUNT];
        const uint32_t size = sizes[i / SHAPE_COUNT];
        const uint32_t total = size + iso_frame_overhead(shape);
        uint8_t stream[400];
        iso_frame_write(shape, data, size, stream);
        stream[total] = 0xEE; /* of the next frame: not looked at */

        iso_framer framer = begin(*shape);
        iso_frame found;
        for (uint32_t cut = 0; cut < total; cut++) {
            CHECK(iso_frame_next(&framer, guard_copy(stream, cut), cut, false, &found) ==
                  ISO_FRAME_MORE);
            CHECK(found.start == 0 && found.needed > cut && found.needed <= total);
        }
        for (uint32_t end = total; end <= total + 1; end++) {
            CHECK(iso_frame_next(&framer, guard_copy(stream, end), end, false, &found) ==
                  ISO_FRAME_OK);
            CHECK(found.start == 0 && found.size == size && found.end == total);
            CHECK(found.offset == shape->prefix_size + (shape->serial ? 1u : 0u));
        }
        CHECK(framer.skipped == 0 && framer.discarded == 0);
    }
    iso_framer framer = begin(LEN2);
    iso_frame found;
    CHECK(iso_frame_next(&framer, NULL, 0, true, &found) == ISO_FRAME_MORE);
    CHECK(found.start == 0 && found.needed == 2);
}

static void test_what_cannot_be_accepted_is_refused_at_the_prefix(void)
{
    const iso_framing own = {ISO_FRAME_BINARY, 2, true, false, false, 16};
    const iso_framing len4 = {ISO_FRAME_BINARY, 4, false, false, false, 16};
    const iso_framing bcd2 = {ISO_FRAME_BCD, 2, false, false, false, 16};
    const iso_framing ascii4 = {ISO_FRAME_ASCII, 4, true, false, false, 16};
    const iso_framing ascii10 = {ISO_FRAME_ASCII, 10, false, false, false, 16};

    CHECK(status_of(LEN2, "\x00\x00", 2) == ISO_FRAME_E_EMPTY);
    CHECK(status_of(LEN2, "\x00\x10", 2) == ISO_FRAME_MORE);
    CHECK(status_of(LEN2, "\x00\x11", 2) == ISO_FRAME_E_TOO_LONG);
    CHECK(status_of(LEN2, "\xFF", 1) == ISO_FRAME_MORE);
    CHECK(status_of(own, "\x00\x01", 2) == ISO_FRAME_E_SELF);
    CHECK(status_of(own, "\x00\x02", 2) == ISO_FRAME_E_EMPTY);
    CHECK(status_of(own, "\x00\x12", 2) == ISO_FRAME_MORE);
    CHECK(status_of(own, "\x00\x13", 2) == ISO_FRAME_E_TOO_LONG);
    CHECK(status_of(len4, "\xFF\xFF\xFF\xFF", 4) == ISO_FRAME_E_TOO_LONG);
    CHECK(status_of(len4, "\x01\x00\x00\x10", 4) == ISO_FRAME_E_TOO_LONG);
    CHECK(status_of(bcd2, "\x00\x16", 2) == ISO_FRAME_MORE);
    CHECK(status_of(bcd2, "\x00\x17", 2) == ISO_FRAME_E_TOO_LONG);
    CHECK(status_of(bcd2, "\x0A", 1) == ISO_FRAME_E_PREFIX);
    CHECK(status_of(bcd2, "\xA0", 1) == ISO_FRAME_E_PREFIX);
    CHECK(status_of(bcd2, "\x00\x1F", 2) == ISO_FRAME_E_PREFIX);
    CHECK(status_of(ascii4, "0003", 4) == ISO_FRAME_E_SELF);
    CHECK(status_of(ascii4, "0004", 4) == ISO_FRAME_E_EMPTY);
    CHECK(status_of(ascii4, "0020", 4) == ISO_FRAME_MORE);
    CHECK(status_of(ascii4, "0021", 4) == ISO_FRAME_E_TOO_LONG);
    /* More than 32 bits: 4294967297 is not 1. */
    CHECK(status_of(ascii10, "4294967297", 10) == ISO_FRAME_E_TOO_LONG);
    CHECK(status_of(ascii10, "9999999999", 10) == ISO_FRAME_E_TOO_LONG);
    CHECK(status_of(ascii10, "0000000016", 10) == ISO_FRAME_MORE);
    /* A digit that is none does not wait for the other nine. */
    CHECK(status_of(ascii10, "/", 1) == ISO_FRAME_E_PREFIX);
    CHECK(status_of(ascii10, "0:", 2) == ISO_FRAME_E_PREFIX);
    CHECK(status_of(ascii10, "000000000 ", 10) == ISO_FRAME_E_PREFIX);

    iso_framer framer = begin(own);
    iso_frame found;
    CHECK(iso_frame_next(&framer, guard_copy((const uint8_t *)"\x00\x13", 2), 2, true, &found) ==
          ISO_FRAME_E_TOO_LONG);
    CHECK(found.announced == 17);
    CHECK(iso_frame_next(&framer, guard_copy((const uint8_t *)"\x00\x01", 2), 2, true, &found) ==
          ISO_FRAME_E_SELF);
    CHECK(found.announced == 1);

    /* So it asks for one digit at a time; of a binary length no part says anything. */
    framer = begin(ascii10);
    CHECK(iso_frame_next(&framer, guard_copy((const uint8_t *)"00", 2), 2, false, &found) ==
          ISO_FRAME_MORE);
    CHECK(found.needed == 3);
    framer = begin(len4);
    CHECK(iso_frame_next(&framer, guard_copy((const uint8_t *)"\x00\x00", 2), 2, false, &found) ==
          ISO_FRAME_MORE);
    CHECK(found.needed == 4);
}

static void test_a_heartbeat_is_a_frame_without_data(void)
{
    for (uint32_t i = 0; i < SHAPE_COUNT; i++) {
        iso_framing shape = SHAPES[i];
        shape.empty_allowed = true;
        const uint32_t total = iso_frame_overhead(&shape);
        uint8_t stream[16];
        iso_frame_write(&shape, NULL, 0, stream);
        iso_framer framer = begin(shape);
        iso_frame found;
        CHECK(iso_frame_next(&framer, guard_copy(stream, total), total, false, &found) ==
              ISO_FRAME_OK);
        CHECK(found.size == 0 && found.end == total);
    }
}

/* ---- a serial line ------------------------------------------------------------------------- */

typedef struct line {
    iso_framer framer;
    uint8_t got[STREAM_MAX]; /* the data of all frames, one after the other */
    uint32_t got_size;
    uint32_t frames;
} line;

/* Feed a stream in portions, as its owner does: what is incomplete is kept and asked for again. */
static void run(line *to, const uint8_t *stream, uint32_t size, uint32_t portion, bool end)
{
    static uint8_t held[STREAM_MAX];
    uint32_t held_size = 0;
    uint32_t used = 0;
    bool ended = false;
    while (used < size || (end && !ended)) {
        const uint32_t take = size - used < portion ? size - used : portion;
        memcpy(held + held_size, stream + used, take);
        held_size += take;
        used += take;
        ended = end && used == size;

        iso_frame found;
        const uint8_t *const data = guard_copy(held, held_size);
        size_t at = 0;
        iso_frame_status status;
        while ((status = iso_frame_next(&to->framer, data + at, held_size - at, ended, &found)) ==
               ISO_FRAME_OK) {
            CHECK(found.start <= found.offset && found.offset + found.size <= found.end);
            CHECK(found.end <= held_size - at && found.end > 0);
            memcpy(to->got + to->got_size, data + at + found.offset, found.size);
            to->got_size += found.size;
            to->frames++;
            at += found.end;
        }
        CHECK(status == ISO_FRAME_MORE);
        at += found.start;
        CHECK(at <= held_size);
        held_size -= (uint32_t)at;
        memmove(held, data + at, held_size);
        CHECK(held_size < found.needed);
        CHECK(held_size < to->framer.framing.size_max + iso_frame_overhead(&to->framer.framing));
        CHECK(!ended || held_size == 0);
    }
}

/* What comes of a stream at every portion size: `frames` joined, and the three counts. */
static void check_line(const char *stream, uint32_t size, const char *joined, uint32_t joined_size,
                       uint32_t frames, uint32_t skipped, uint32_t discarded,
                       iso_frame_status reason, bool end)
{
    for (uint32_t portion = 1; portion <= size; portion++) {
        line result;
        memset(&result, 0, sizeof result);
        result.framer = begin(SERIAL);
        run(&result, (const uint8_t *)stream, size, portion, end);
        CHECK(result.got_size == joined_size && memcmp(result.got, joined, joined_size) == 0);
        CHECK(result.frames == frames);
        CHECK(result.framer.skipped == skipped);
        CHECK(result.framer.discarded == discarded);
        CHECK(discarded == 0 || result.framer.reason == (uint8_t)reason);
    }
}

#define LINE(stream) stream, sizeof(stream) - 1
#define ABC "\x02\x00\x03\x61\x62\x63\x03\x60" /* data abc */
#define DE "\x02\x00\x02\x64\x65\x03\x00"      /* data de */

static void test_a_serial_line_finds_its_step_again(void)
{
    const iso_frame_status none = ISO_FRAME_OK;
    check_line(LINE(ABC DE), LINE("abcde"), 2, 0, 0, none, false);
    check_line(LINE("noise" ABC "\x06\x15" DE "\x03"), LINE("abcde"), 2, 8, 0, none, false);
    /* A wrong check byte, a wrong ETX: only that frame is lost. */
    check_line(LINE(ABC "\x02\x00\x01x\x03\x79" DE), LINE("abcde"), 2, 6, 1, ISO_FRAME_E_LRC,
               false);
    check_line(LINE(ABC "\x02\x00\x01x\x04\x7D" DE), LINE("abcde"), 2, 6, 1, ISO_FRAME_E_ETX,
               false);
    /* A length that cannot be. */
    check_line(LINE("\x02\x0A\x01" ABC), LINE("abc"), 1, 3, 1, ISO_FRAME_E_PREFIX, false);
    check_line(LINE("\x02\x00\x00" ABC), LINE("abc"), 1, 3, 1, ISO_FRAME_E_EMPTY, false);
    check_line(LINE("\x02\x00\x17" ABC), LINE("abc"), 1, 3, 1, ISO_FRAME_E_TOO_LONG, false);
    /* Cut in the middle of the data: the frames that it swallowed come out, both of them. */
    check_line(LINE("\x02\x00\x14xy" ABC DE "z"), LINE("abcde"), 2, 6, 1, ISO_FRAME_E_ETX, false);
    /* Cut behind STX, and inside the length. */
    check_line(LINE("\x02" ABC), LINE("abc"), 1, 1, 1, ISO_FRAME_E_TOO_LONG, false);
    check_line(LINE("\x02\x00" ABC), LINE("abc"), 1, 2, 1, ISO_FRAME_E_ETX, false);
    /* What looks like frames inside a frame that is given up is not counted again. */
    check_line(LINE("\x02\x00\x08\x02\x0A\x02\x0A\x02\x00\x01x\x03\xFF" ABC), LINE("abc"), 1, 13, 1,
               ISO_FRAME_E_LRC, false);
    /* A good frame puts an end to that: what is wrong behind it is another fault. */
    check_line(LINE("\x02\x00\x14xy" ABC "\x02\x0A......"), LINE("abc"), 1, 13, 2,
               ISO_FRAME_E_PREFIX, false);
    /* Inside a good frame everything is data. */
    check_line(LINE("\x02\x00\x08" ABC "\x03\x09"), LINE(ABC), 1, 0, 0, none, false);
}

static void test_a_silence_gives_up_what_is_incomplete(void)
{
    /* Without the silence the good frame waits for bytes that the broken one announced. */
    check_line(LINE("\x02\x00\x16xy" ABC), LINE(""), 0, 0, 0, ISO_FRAME_OK, false);
    check_line(LINE("\x02\x00\x16xy" ABC), LINE("abc"), 1, 5, 1, ISO_FRAME_MORE, true);
    check_line(LINE(ABC "\x02\x00\x16xy"), LINE("abc"), 1, 5, 1, ISO_FRAME_MORE, true);
    check_line(LINE("\x02\x00\x16\x02\x0A\x02\x0A"), LINE(""), 0, 7, 1, ISO_FRAME_MORE, true);
    check_line(LINE(ABC "\x02"), LINE("abc"), 1, 1, 1, ISO_FRAME_MORE, true);
    check_line(LINE(ABC DE), LINE("abcde"), 2, 0, 0, ISO_FRAME_OK, true);
    check_line(LINE("noise"), LINE(""), 0, 5, 0, ISO_FRAME_OK, true);

    line result;
    memset(&result, 0, sizeof result);
    result.framer = begin(SERIAL);
    run(&result, (const uint8_t *)"\x02\x00\x16xy", 5, 5, true);
    CHECK(result.framer.announced == 16);
    run(&result, (const uint8_t *)ABC, sizeof ABC - 1, 3, false); /* the line goes on */
    CHECK(result.frames == 1 && result.framer.skipped == 5 && result.framer.discarded == 1);
}

/* 20,000 lines of whole frames, damaged frames and noise that loves STX, ETX and small lengths: the
 * same comes out however they are portioned, and every byte is in a frame or counted. */
static void test_random_lines_come_out_the_same_in_any_portions(void)
{
    static const uint8_t LOVED[] = {0x02, 0x03, 0x00, 0x01, 0x04, 0x05, 0x10, 0xFF};
    uint32_t state = 2024;
    uint64_t frames = 0;
    uint64_t discarded = 0;
    for (uint32_t round = 0; round < 20000; round++) {
        const iso_framing shape = {dice(&state) % 2 ? ISO_FRAME_BCD : ISO_FRAME_BINARY,
                                   2,
                                   dice(&state) % 4 == 0,
                                   dice(&state) % 2 == 0,
                                   true,
                                   1 + dice(&state) % 20};
        uint8_t stream[STREAM_MAX];
        uint32_t size = 0;
        for (uint32_t part = dice(&state) % 8 + 1; part > 0; part--) {
            uint8_t data[20];
            uint32_t data_size = dice(&state) % 20;
            for (uint32_t i = 0; i < data_size; i++) {
                data[i] = LOVED[dice(&state) % sizeof LOVED];
            }
            if (dice(&state) % 3 == 0) {
                memcpy(stream + size, data, data_size);
            } else {
                iso_frame_write(&shape, data, data_size, stream + size);
                data_size += iso_frame_overhead(&shape);
                if (dice(&state) % 3 == 0) {
                    stream[size + dice(&state) % data_size] = LOVED[dice(&state) % sizeof LOVED];
                }
                if (dice(&state) % 4 == 0) {
                    data_size -= dice(&state) % data_size;
                }
            }
            size += data_size;
        }

        static line whole, cut;
        memset(&whole, 0, sizeof whole);
        memset(&cut, 0, sizeof cut);
        whole.framer = cut.framer = begin(shape);
        run(&whole, stream, size, STREAM_MAX, true);
        run(&cut, stream, size, 1 + dice(&state) % 7, true);
        CHECK(whole.frames == cut.frames && whole.got_size == cut.got_size);
        CHECK(memcmp(whole.got, cut.got, whole.got_size) == 0);
        CHECK(whole.framer.skipped == cut.framer.skipped);
        CHECK(whole.framer.discarded == cut.framer.discarded);
        CHECK(whole.framer.reason == cut.framer.reason);
        CHECK(whole.framer.announced == cut.framer.announced);
        CHECK(whole.framer.skipped + whole.got_size + whole.frames * iso_frame_overhead(&shape) ==
              size);
        frames += whole.frames;
        discarded += whole.framer.discarded;
    }
    CHECK(frames > 10000 && discarded > 10000); /* or the dice have tested nothing */
}

static void test_random_connections_end_with_a_frame_or_an_error(void)
{
    uint32_t state = 77;
    uint32_t seen[ISO_FRAME_STATUS_COUNT] = {0};
    for (uint32_t round = 0; round < 200000; round++) {
        iso_framing shape = SHAPES[dice(&state) % SHAPE_COUNT];
        shape.size_max = 1 + dice(&state) % 300;
        uint8_t data[24];
        const uint32_t size = dice(&state) % (sizeof data + 1);
        for (uint32_t i = 0; i < size; i++) {
            const uint32_t roll = dice(&state);
            data[i] = (uint8_t)(roll % 2 ? roll >> 8 : shape.form == ISO_FRAME_ASCII ? '0' : 0);
        }
        iso_framer framer = begin(shape);
        iso_frame found;
        const iso_frame_status status =
            iso_frame_next(&framer, guard_copy(data, size), size, false, &found);
        CHECK((uint32_t)status < ISO_FRAME_STATUS_COUNT);
        CHECK(!shape.serial || status <= ISO_FRAME_MORE);
        CHECK(status != ISO_FRAME_OK || (found.end <= size && found.size <= shape.size_max));
        CHECK(status != ISO_FRAME_MORE || found.start + found.needed > size);
        seen[status]++;
    }
    for (uint32_t status = 0; status < ISO_FRAME_E_ETX; status++) {
        CHECK(seen[status] > 0);
    }
}

int main(void)
{
    RUN(test_the_names_are_stable);
    RUN(test_the_largest_frame_follows_from_the_prefix);
    RUN(test_a_frame_is_written_as_it_is_documented);
    RUN(test_every_prefix_asks_for_more);
    RUN(test_what_cannot_be_accepted_is_refused_at_the_prefix);
    RUN(test_a_heartbeat_is_a_frame_without_data);
    RUN(test_a_serial_line_finds_its_step_again);
    RUN(test_a_silence_gives_up_what_is_incomplete);
    RUN(test_random_lines_come_out_the_same_in_any_portions);
    RUN(test_random_connections_end_with_a_frame_or_an_error);
    return 0;
}
