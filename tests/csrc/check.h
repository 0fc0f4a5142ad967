/* Checks that stay on, and copies that lie against an unreadable page. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iso8583.h"
#include "internal.h"

/* abort() and not exit(): a fuzzer keeps the input. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        test();                                                                                    \
        printf("ok %s\n", #test);                                                                  \
        fflush(stdout); /* abort() would lose it */                                                \
    } while (0)

enum { GUARD_SIZE = 1 << 17 };

/* GUARD_SIZE bytes between two unreadable pages. */
static inline uint8_t *guarded_pages(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *const pages = mmap(NULL, GUARD_SIZE + 2 * page, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK(mprotect(pages, page, PROT_NONE) == 0);
    CHECK(mprotect(pages + page + GUARD_SIZE, page, PROT_NONE) == 0);
    return pages + page;
}

static inline uint8_t *fill_copy(uint8_t *copy, const uint8_t *data, uint32_t size)
{
    if (data != NULL && size > 0) {
        memcpy(copy, data, size);
    } else {
        memset(copy, 0xA5, size);
    }
    return copy;
}

/* `size` bytes that end exactly at an unreadable page: one byte too far is a crash, not luck. One
 * buffer, reused by every call. With data == NULL the bytes are 0xA5. */
static inline uint8_t *guard_copy(const uint8_t *data, uint32_t size)
{
    static uint8_t *pages = NULL;
    if (pages == NULL) {
        pages = guarded_pages();
    }
    CHECK(size <= GUARD_SIZE);
    return fill_copy(pages + GUARD_SIZE - size, data, size);
}

/* The same, but the unreadable page is in front: for what works backwards or in overlapping words.
 * A buffer of its own. */
static inline uint8_t *guard_front(const uint8_t *data, uint32_t size)
{
    static uint8_t *pages = NULL;
    if (pages == NULL) {
        pages = guarded_pages();
    }
    CHECK(size <= GUARD_SIZE);
    return fill_copy(pages, data, size);
}

/* xorshift32: the same numbers on every machine. */
static inline uint32_t dice(uint32_t *state)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    return x;
}

#endif /* CHECK_H */
