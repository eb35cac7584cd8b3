/* The program that the tests of `run` supervise: plain C, no Python, built as version 1 and 2 from the same source.
 * Every start appends "VERSION PID PPID ARGUMENTS..." to the file named by APP_STARTS. Its first argument says how it ends;
 * "nuitka" before it, that it is two processes as a onefile of Nuitka 4. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void note(const char *text, int number) {
    FILE *file = fopen(getenv("APP_NOTES"), "a");
    fprintf(file, "%s %d\n", text, number);
    fclose(file);
}

static void on_signal(int number) {
    note("signal", number);
    if (number == SIGTERM)
        _exit(0);
}

static void notify(const char *message) {
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, name, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    sendto(fd, message, strlen(message), 0, (struct sockaddr *)&address, sizeof address);
    close(fd);
}

static pid_t application;

static void interrupt(int number) {
    (void)number;
    kill(application, SIGINT);
    for (int tenth = 0; tenth < 50 && !waitpid(application, NULL, WNOHANG); tenth++)
        usleep(100000);
    kill(application, SIGKILL);
}

/* As a Nuitka onefile: its launcher makes SIGINT, and after 5 s SIGKILL, of whatever is to stop it. */
static int launch(char **argv) {
    char own[16];
    int status = 0;
    snprintf(own, sizeof own, "%d", getpid());
    setenv("NUITKA_ONEFILE_PARENT", own, 1);
    for (int number = SIGINT; number <= SIGTERM; number++)
        if (number == SIGINT || number == SIGQUIT || number == SIGTERM)
            signal(number, interrupt);
    application = fork();
    if (!application) {
        argv[1] = argv[0];
        execv("/proc/self/exe", argv + 1);
        _exit(127);
    }
    while (waitpid(application, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "nuitka"))
        return launch(argv);
    int death_signal = 0;
    prctl(PR_GET_PDEATHSIG, &death_signal);
    FILE *file = fopen(getenv("APP_STARTS"), "a");
    fprintf(file, "%s %d %d %d", VERSION, getpid(), getppid(), death_signal);
    for (int number = 0; number < argc; number++)
        fprintf(file, " %s", argv[number]);
    fprintf(file, "\n");
    fclose(file);
    const char *how = argc > 1 ? argv[1] : "";
    if (!strcmp(how, "exit"))
        return atoi(argv[2]);
    if (!strcmp(how, "die"))
        raise(atoi(argv[2]));
    if (!strcmp(how, "ready"))
        notify("READY=1\nSTATUS=at work\nMAINPID=1\n");
    if (!strcmp(how, "stopping"))
        notify("STOPPING=1\nSTATUS=bye");
    if (!strcmp(how, "interrupted"))
        signal(SIGINT, on_signal);
    if (!strcmp(how, "stubborn"))
        signal(SIGTERM, SIG_IGN);
    else
        for (int number = 1; number <= SIGRTMAX; number++)
            if (number == SIGHUP || number == SIGTERM || number == SIGUSR1 || number == SIGUSR2 || number == SIGRTMIN + 3)
                signal(number, on_signal);
    note("running", 0);
    for (;;)
        pause();
}
