#include "check.h"

/* The names stand in logs and dashboards: changing one is changing the interface. */
static void test_the_names_are_stable(void)
{
    static const struct {
        iso_status status;
        const char *name;
    } NAMES[] = {
        {ISO_OK, "ok"},
        {ISO_E_TRUNCATED, "truncated"},
        {ISO_E_TRAILING, "trailing"},
        {ISO_E_SIZE, "size"},
        {ISO_E_MTI, "mti"},
        {ISO_E_BITMAP, "bitmap"},
        {ISO_E_UNDEFINED, "undefined"},
        {ISO_E_PREFIX, "prefix"},
        {ISO_E_LENGTH, "length"},
        {ISO_E_CONTENT, "content"},
        {ISO_E_TEXT, "text"},
        {ISO_E_TLV, "tlv"},
        {ISO_E_SPACE, "space"},
        {ISO_E_SPEC, "spec"},
        {ISO_E_TRACK, "track"},
        {ISO_E_PAD, "pad"},
        {ISO_E_CANONICAL, "canonical"},
        {ISO_E_DUPLICATE, "duplicate"},
    };
    CHECK(sizeof NAMES / sizeof NAMES[0] == ISO_STATUS_COUNT);
    for (uint32_t i = 0; i < ISO_STATUS_COUNT; i++) {
        CHECK((uint32_t)NAMES[i].status == i);
        CHECK(strcmp(iso_status_name(NAMES[i].status), NAMES[i].name) == 0);
    }
}

int main(void)
{
    RUN(test_the_names_are_stable);
    return 0;
}
