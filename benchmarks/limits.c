/* The limits the benchmarks compare with: the least a program can do for the same work.
 *
 *   limits spawn N         runs /bin/true N times, two at a time: posix_spawn and waitpid, no more
 *   limits sink FILE       prints a port, copies one TCP connection to FILE, then fdatasync
 *   limits send PORT CMD   runs the shell command CMD and copies its output to the port
 *
 * `sink` and `send` together do what `CMD | socat - TCP:...` and `socat TCP-LISTEN:... FILE` do.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char buffer[256 * 1024];

static void check(int good, const char *what) {
    if (!good) { perror(what); exit(1); }
}

static void copy(int from, int to) {
    ssize_t n;
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        for (ssize_t done = 0, wrote; done < n; done += wrote) {
            wrote = write(to, buffer + done, (size_t)(n - done));
            check(wrote > 0, "write");
        }
    check(n == 0, "read");
}

static void start_true(void) {
    char *argv[] = {"/bin/true", NULL};
    pid_t pid;
    check(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) == 0, "posix_spawn");
}

static int spawn_many(long count) {
    long started = 0;
    for (; started < 2 && started < count; started++) start_true();
    for (long ended = 0; ended < count; ended++) {
        check(waitpid(-1, NULL, 0) > 0, "waitpid");
        if (started < count) { start_true(); started++; }
    }
    return 0;
}

static int sink(const char *path) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(listener, (struct sockaddr *)&at, size) == 0, "bind");
    check(listen(listener, 1) == 0, "listen");
    getsockname(listener, (struct sockaddr *)&at, &size);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    check(file >= 0, path);
    copy(accept(listener, NULL, NULL), file);
    check(fdatasync(file) == 0, "fdatasync");
    return 0;
}

static int send_output(int port, const char *command) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((unsigned short)port)};
    int wire = socket(AF_INET, SOCK_STREAM, 0);
    check(connect(wire, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    FILE *output = popen(command, "r");
    check(output != NULL, "popen");
    copy(fileno(output), wire);
    return pclose(output);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "spawn")) return spawn_many(atol(argv[2]));
    if (argc == 3 && !strcmp(argv[1], "sink")) return sink(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "send")) return send_output(atoi(argv[2]), argv[3]);
    fprintf(stderr, "usage: limits spawn N | sink FILE | send PORT COMMAND\n");
    return 2;
}
