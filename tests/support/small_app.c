/* The program that the fleet tests update: says its version and its arguments, then waits to be stopped if it is told to.
 * Told to be "ready" it says READY=1 a moment later. With APP_LOG set, each start also appends "VERSION PID ARGUMENTS..." to that file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
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
    if (argc > 1 && !strcmp(argv[1], "ready") && getenv("NOTIFY_SOCKET")) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, getenv("NOTIFY_SOCKET"), sizeof address.sun_path - 1);
        usleep(200000);
        sendto(socket(AF_UNIX, SOCK_DGRAM, 0), "READY=1", 7, 0, (struct sockaddr *)&address, sizeof address);
    }
    while (argc > 1 && (!strcmp(argv[1], "stay") || !strcmp(argv[1], "ready")))
        pause();
    return 0;
}
