/* A program that uses so many megabytes as its argument says, says its version in the file APP_LOG, and stays.
 * What its supervisor may use by a soft limit is no limit of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define PYPATCHER_VERSION VERSION
#include <pypatcher.h>

int main(int argc, char **argv) {
    struct rlimit limit;
    getrlimit(RLIMIT_DATA, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_DATA, &limit);
    size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 0) << 20;
    char *used = malloc(bytes + 1);
    for (size_t at = 0; used && at < bytes; at += 512)
        used[at] = at >> 9 | 1;
    FILE *file = fopen(getenv("APP_LOG"), "a");
    fprintf(file, "%.16s %s\n", pypatcher_version(), used ? "runs" : "has no memory");
    fclose(file);
    while (used)
        pause();
    return 1;
}
