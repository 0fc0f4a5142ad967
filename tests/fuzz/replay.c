/* The fuzz targets without a fuzzer: every file of the folders named, its every prefix, and it
 * again with each of its bits turned. For compilers that lack libFuzzer, and for the ordinary
 * tests. */
#include "fuzz.h"

#include <dirent.h>

static uint32_t inputs = 0;

static void run_one(const uint8_t *data, uint32_t size)
{
    uint8_t *const copy = exact_copy(data, size);
    CHECK(LLVMFuzzerTestOneInput(copy, size) == 0);
    free_room(copy, size);
    inputs++;
}

static void run_file(const char *path)
{
    static uint8_t data[1 << 16];
    FILE *const file = fopen(path, "rb");
    CHECK(file != NULL);
    const uint32_t size = (uint32_t)fread(data, 1, sizeof data, file);
    CHECK(size < sizeof data && fclose(file) == 0);
    fprintf(stderr, "%s\n", path); /* the last one is the one to blame */
    for (uint32_t cut = 0; cut <= size; cut++) {
        run_one(data, cut);
    }
    for (uint32_t bit = 0; bit < size * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        run_one(data, size);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(int count, char **folders)
{
    for (int i = 1; i < count; i++) {
        DIR *const folder = opendir(folders[i]);
        if (folder == NULL) {
            run_file(folders[i]);
            continue;
        }
        for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
            char path[4096];
            if (entry->d_name[0] == '.') {
                continue;
            }
            CHECK(snprintf(path, sizeof path, "%s/%s", folders[i], entry->d_name) <
                  (int)sizeof path);
            run_file(path);
        }
        CHECK(closedir(folder) == 0);
    }
    printf("%u inputs\n", inputs);
    return 0;
}
