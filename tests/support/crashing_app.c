/* The program of the crash-loop tests. FAULT says how this build fails: none, abort, exit0 or hang.
 * A good one notes its start in $APP_LOG, says READY=1 to its notify socket if it has one, and stays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PYPATCHER_VERSION VERSION
#include <pypatcher.h>

static void say_ready(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof address.sun_family + strlen(path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (path[0] == '@')
        address.sun_path[0] = 0;
    else
        size++;
    sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&address, size);
    close(fd);
}

int main(void) {
    FILE *log = fopen(getenv("APP_LOG"), "a");
    fprintf(log, "%.16s\n", pypatcher_version());
    fclose(log);
    if (!strcmp(FAULT, "abort"))
        abort();
    if (!strcmp(FAULT, "exit0"))
        return 0;
    while (!strcmp(FAULT, "hang"))
        pause();
    if (getenv("NOTIFY_SOCKET"))
        say_ready(getenv("NOTIFY_SOCKET"));
    for (;;)
        pause();
}
