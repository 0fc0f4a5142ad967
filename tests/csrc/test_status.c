#include "check.h"

static void test_every_status_has_its_own_name(void)
{
    for (uint32_t i = 0; i < ISO_STATUS_COUNT; i++) {
        const char *const name = iso_status_name((iso_status)i);
        CHECK(name != NULL && strlen(name) > 0);
        for (uint32_t j = 0; j < i; j++) {
            CHECK(strcmp(name, iso_status_name((iso_status)j)) != 0);
        }
    }
}

int main(void)
{
    RUN(test_every_status_has_its_own_name);
    return 0;
}
