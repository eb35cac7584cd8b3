/* A native program that knows nothing of updates: one header gives it its region, `pypatcher run` does the rest. */
#include <pypatcher.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "1.0.0"
#endif

PYPATCHER_REGION(VERSION)

static volatile sig_atomic_t stop;

static void on_stop(int number) {
    (void)number;
    stop = 1;
}

int main(int argc, char **argv) {
    signal(SIGTERM, on_stop);
    signal(SIGINT, on_stop);
    printf("version %s, %d arguments, first: %s\n", VERSION, argc - 1, argc > 1 ? argv[1] : "none");
    fflush(stdout);
    while (!stop) {
        pause();
    }
    return 0;
}
