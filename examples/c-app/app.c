/* A native program that knows nothing of updates: one header gives it its region, `pypatcher run` does the rest. */
#ifndef PYPATCHER_VERSION
#define PYPATCHER_VERSION "1.0.0"
#endif
#include <pypatcher.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_stop(int number) {
    (void)number;
    stop = 1;
}

int main(int argc, char **argv) {
    signal(SIGTERM, on_stop);
    signal(SIGINT, on_stop);
    printf("version %.16s, %d arguments, first: %s\n", pypatcher_version(), argc - 1, argc > 1 ? argv[1] : "none");
    fflush(stdout);
    while (!stop) {
        pause();
    }
    return 0;
}
