/* SPDX-License-Identifier: MIT */
/* New passwords for startalkctl: from the terminal or standard input, never from arguments or the environment. Owns the
 * terminal's echo while it is off, and the memory of what was typed. */

#include "tools/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define SECRET_MAX 1024 /* bytes that the server takes */

static volatile sig_atomic_t stopped; /* the signal that came, or 0 */
/* The mask while waiting for input, when alone signals are let in; NULL: as it is. */
static const sigset_t *awaited;

static void on_signal(int number)
{
	stopped = number;
}

void ctl_secret_free(char **secret)
{
	if (*secret) {
		explicit_bzero(*secret, strlen(*secret));
		free(*secret);
		*secret = NULL;
	}
}

/* One line from FD without its end; LINE has SIZE bytes. Its length, SIZE: too long, or -errno. Not a byte behind the
 * line is read. */
static ssize_t read_line(int fd, char *line, size_t size)
{
	size_t len = 0;
	while (len < size) {
		struct pollfd pollfd = { .fd = fd, .events = POLLIN };
		ssize_t n = ppoll(&pollfd, 1, NULL, awaited) < 0 ? -1 : read(fd, line + len, 1);
		if (n < 0 && errno == EINTR && !stopped) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		if (n == 0 || line[len] == '\n') {
			break;
		}
		len++;
	}
	return (ssize_t)(len && len < size && line[len - 1] == '\r' ? len - 1 : len);
}

static int read_secret(int fd, char **secret)
{
	char line[SECRET_MAX + 1];
	ssize_t len = read_line(fd, line, sizeof(line));
	int rc = len < 0 ? (int)len : 0;
	if (len == (ssize_t)sizeof(line)) {
		ctl_error("the password is longer than %d bytes", SECRET_MAX);
		rc = -EMSGSIZE;
	} else if (len == 0 || (len > 0 && memchr(line, '\0', (size_t)len))) {
		ctl_error("the password %s", len ? "has a NUL in it" : "is empty");
		rc = -EINVAL;
	} else if (len > 0 && !(*secret = strndup(line, (size_t)len))) {
		rc = -ENOMEM;
	}
	explicit_bzero(line, sizeof(line));
	return rc;
}

static int ask(int fd, const char *prompt, const char *name, char **secret)
{
	char *escaped = show_escape(name);
	dprintf(fd, "%s %s: ", prompt, escaped ? escaped : "?");
	free(escaped);
	int rc = read_secret(fd, secret);
	dprintf(fd, "\n");
	return rc;
}

static int ask_twice(int fd, const char *name, char **secret)
{
	char *again = NULL;
	int rc = ask(fd, "New password for", name, secret);
	rc = rc < 0 ? rc : ask(fd, "The same again for", name, &again);
	if (rc == 0 && strcmp(*secret, again) != 0) {
		ctl_error("the passwords differ");
		rc = -EINVAL;
	}
	ctl_secret_free(&again);
	return rc;
}

/* The terminal gets its echo back also when a signal ends the program. */
static int ask_terminal(const char *name, char **secret)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	enum { COUNT = sizeof(numbers) / sizeof(*numbers) };
	struct sigaction action = { .sa_handler = on_signal }, before[COUNT];
	sigset_t set, mask;
	struct termios usual, silent;
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	if (fd < 0 || tcgetattr(fd, &usual) < 0) {
		int rc = -errno;
		ctl_error("no terminal to ask for the password: %s", strerror(-rc));
		if (fd >= 0) {
			close(fd);
		}
		return rc;
	}
	sigemptyset(&set);
	for (int i = 0; i < COUNT; i++) {
		sigaddset(&set, numbers[i]);
	}
	sigprocmask(SIG_BLOCK, &set, &mask);
	for (int i = 0; i < COUNT; i++) {
		sigaction(numbers[i], &action, &before[i]);
	}
	awaited = &mask;
	silent = usual;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	int rc = tcsetattr(fd, TCSAFLUSH, &silent) < 0 ? -errno : ask_twice(fd, name, secret);
	tcsetattr(fd, TCSAFLUSH, &usual);
	for (int i = 0; i < COUNT; i++) {
		sigaction(numbers[i], &before[i], NULL);
	}
	awaited = NULL;
	sigprocmask(SIG_SETMASK, &mask, NULL);
	close(fd);
	if (stopped) {
		ctl_secret_free(secret);
		raise(stopped);
	}
	return rc;
}

int ctl_new_password(const char *name, char **secret)
{
	int rc = isatty(STDIN_FILENO) ? ask_terminal(name, secret) : read_secret(STDIN_FILENO, secret);
	if (rc < 0) {
		ctl_secret_free(secret);
	}
	if (rc == -ENOMEM || rc == -EIO) {
		ctl_error("no password: %s", strerror(-rc));
	}
	return rc;
}
