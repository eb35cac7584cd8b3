/* The program that the fleet tests update: says its version and its arguments, then waits to be stopped if it is told to.
 * With APP_LOG set, each start also appends "VERSION PID ARGUMENTS..." to that file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PYPATCHER_VERSION VERSION
#include <pypatcher.h>

int main(int argc, char **argv) {
    const char *log = getenv("APP_LOG");
    FILE *file = log ? fopen(log, "a") : stdout;
    fprintf(file, "%.16s", pypatcher_version());
    if (log)
        fprintf(file, " %d", getpid());
    for (int number = 1; number < argc; number++)
        fprintf(file, " %s", argv[number]);
    fprintf(file, "\n");
    fflush(file);
    while (argc > 1 && !strcmp(argv[1], "stay"))
        pause();
    return 0;
}
