/* SPDX-License-Identifier: MIT */
/* Hands listening sockets over: takes those that a service manager or the process before has left, and executes the
 * program anew with those that it has. Knows nothing of what is done with them. */

#include "core/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

#define FIRST     3 /* descriptor, as the protocol wants it */
#define LISTENING "STARTALKD_LISTENING"

extern char **environ;

static struct {
	char program[PATH_MAX];
	int fds[HANDOVER_MAX]; /* -1: taken */
	size_t n;
} inherited;

static long number_of(const char *name)
{
	const char *text = getenv(name);
	char *end = NULL;
	errno = 0;
	long value = text ? strtol(text, &end, 10) : -1;
	return text && !errno && end != text && !*end ? value : -1;
}

/* The program may be replaced by another one under the same name: then the name counts. */
void handover_init(void)
{
	ssize_t len = readlink("/proc/self/exe", inherited.program, sizeof(inherited.program) - 1);
	inherited.program[len > 0 ? len : 0] = '\0';
	long n = number_of("LISTEN_PID") == (long)getpid() ? number_of("LISTEN_FDS") : 0;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	for (long i = 0; i < n && i < HANDOVER_MAX; i++) {
		int fd = FIRST + (int)i, flags = fcntl(fd, F_GETFL);
		if (flags >= 0) {
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			fcntl(fd, F_SETFL, flags | O_NONBLOCK);
			inherited.fds[inherited.n++] = fd;
		}
	}
}

static bool is_at(int fd, const struct sockaddr_storage *wanted, struct sockaddr_storage *real)
{
	socklen_t len = sizeof(*real);
	int type = 0, listens = 0;
	socklen_t size = sizeof(int);
	memset(real, 0, sizeof(*real));
	if (getsockname(fd, (struct sockaddr *)real, &len) < 0 || real->ss_family != wanted->ss_family ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens) {
		return false;
	}
	if (real->ss_family == AF_INET) {
		const struct sockaddr_in *a = (const void *)wanted, *b = (const void *)real;
		return a->sin_addr.s_addr == b->sin_addr.s_addr && (!a->sin_port || a->sin_port == b->sin_port);
	}
	const struct sockaddr_in6 *a = (const void *)wanted, *b = (const void *)real;
	return memcmp(&a->sin6_addr, &b->sin6_addr, sizeof(a->sin6_addr)) == 0 && (!a->sin6_port || a->sin6_port == b->sin6_port);
}

int handover_take(struct sockaddr_storage *address)
{
	for (size_t i = 0; i < inherited.n; i++) {
		struct sockaddr_storage real;
		if (inherited.fds[i] >= 0 && is_at(inherited.fds[i], address, &real)) {
			int fd = inherited.fds[i];
			inherited.fds[i] = -1;
			*address = real;
			return fd;
		}
	}
	return -ENOENT;
}

void handover_drop_rest(void)
{
	for (size_t i = 0; i < inherited.n; i++) {
		if (inherited.fds[i] >= 0) {
			log_write(LOG_WARNING, "listen: descriptor %d, which was handed over, belongs to no [listen] and is closed", inherited.fds[i]);
			close(inherited.fds[i]);
		}
	}
	inherited.n = 0;
}

const char *handover_listening(void)
{
	return getenv(LISTENING);
}

int handover_check(const char *config, const char *listening)
{
	char check[] = "--check", option[] = "-c", *file = strdup(config);
	char *argv[] = { inherited.program, option, file, check, NULL };
	pid_t pid = 0;
	if (!file) {
		return -ENOMEM;
	}
	setenv(LISTENING, listening, 1);
	int rc = posix_spawn(&pid, inherited.program, NULL, NULL, argv, environ);
	unsetenv(LISTENING);
	free(file);
	return rc ? -rc : (int)pid;
}

/* The arguments as the kernel keeps them. NULL: they cannot be read. Never freed: exec follows. */
static char **read_arguments(void)
{
	static char text[65536];
	static char *argv[1024];
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	size_t n = 0;
	if (fd >= 0) {
		close(fd);
	}
	for (ssize_t at = 0; at < len && n + 1 < sizeof(argv) / sizeof(*argv); at += (ssize_t)strlen(text + at) + 1) {
		argv[n++] = text + at;
	}
	return n ? argv : NULL;
}

int handover_exec(const int *fds, size_t n)
{
	char pid[32], count[32];
	int high[HANDOVER_MAX];
	char **argv = read_arguments();
	if (!argv || n > HANDOVER_MAX) {
		return -EINVAL;
	}
	for (size_t i = 0; i < n; i++) { /* out of the way first */
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST + HANDOVER_MAX);
		if (high[i] < 0) {
			return -errno;
		}
	}
	for (size_t i = 0; i < n; i++) {
		if (dup2(high[i], FIRST + (int)i) < 0) {
			return -errno;
		}
	}
	close_range(FIRST + (unsigned)n, ~0u, 0);
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	snprintf(count, sizeof(count), "%zu", n);
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", count, 1);
	execv(inherited.program, argv);
	return -errno;
}
