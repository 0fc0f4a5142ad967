/* Checks that stay on, and copies that end at an unreadable page. */
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

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        test();                                                                                    \
        printf("ok %s\n", #test);                                                                  \
    } while (0)

enum { GUARD_SIZE = 1 << 17 };

/* `size` bytes that end exactly at an unreadable page: one byte too far is a crash, not luck. One
 * buffer, reused by every call. With data == NULL the bytes are 0xA5. */
static inline uint8_t *guard_copy(const uint8_t *data, uint32_t size)
{
    static uint8_t *pages = NULL;
    if (pages == NULL) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        pages = mmap(NULL, GUARD_SIZE + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0);
        CHECK(pages != MAP_FAILED);
        CHECK(mprotect(pages + GUARD_SIZE, page, PROT_NONE) == 0);
    }
    CHECK(size <= GUARD_SIZE);
    uint8_t *const copy = pages + GUARD_SIZE - size;
    if (data != NULL && size > 0) {
        memcpy(copy, data, size);
    } else {
        memset(copy, 0xA5, size);
    }
    return copy;
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
