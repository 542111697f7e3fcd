/* SPDX-License-Identifier: MIT */
/* The service manager's side door: datagrams that say ready, reloading, stopping, and alive. Owns the socket's address and the
 * watchdog's timer; when something is said is the server's business. */

#include "core/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"

static struct variable {
	const char *name;
	char *value; /* NULL: was not there */
} variables[] = { { "NOTIFY_SOCKET", NULL }, { "WATCHDOG_USEC", NULL }, { "WATCHDOG_PID", NULL } };

static struct {
	struct sockaddr_un address;
	socklen_t len;
	int fd;        /* kept open, since the watchdog bites also when descriptors have run out; -1: nobody is to be told */
	double every;  /* seconds between two signs of life; 0: none are wanted */
	struct ev_loop *ev;
	struct ev_timer timer;
} notify = { .fd = -1 };

/* A path, or with @ in front the name of an abstract socket. False: neither. */
static bool set_address(const char *name)
{
	size_t len = strlen(name);
	if ((name[0] != '/' && name[0] != '@') || !name[1] || len >= sizeof(notify.address.sun_path)) {
		return false;
	}
	notify.address.sun_family = AF_UNIX;
	memcpy(notify.address.sun_path, name, len + 1);
	if (name[0] == '@') {
		notify.address.sun_path[0] = '\0';
	}
	/* The name of an abstract socket ends where the address does, without a terminator. */
	notify.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
	return true;
}

static double watchdog_interval(const char *usec, const char *pid)
{
	char *end;
	if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid())) {
		return 0;
	}
	errno = 0;
	unsigned long long value = strtoull(usec, &end, 10);
	return errno || *end || !value ? 0 : (double)value / 2e6;
}

void notify_init(void)
{
	enum { NAME, USEC, PID, COUNT };
	_Static_assert(sizeof(variables) / sizeof(*variables) == COUNT, "as many as are named");
	for (size_t i = 0; i < COUNT; i++) {
		const char *value = getenv(variables[i].name);
		variables[i].value = value ? strdup(value) : NULL;
		unsetenv(variables[i].name);
	}
	const char *name = variables[NAME].value;
	if (name && !set_address(name)) {
		log_write(LOG_WARNING, "notify: NOTIFY_SOCKET: '%s' is no socket's name", name);
	} else if (name) {
		notify.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		notify.every = watchdog_interval(variables[USEC].value, variables[PID].value);
	}
}

void notify_restore(void)
{
	for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++) {
		if (variables[i].value) {
			setenv(variables[i].name, variables[i].value, 1);
		}
	}
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	char text[512];
	if (notify.fd < 0) {
		return;
	}
	va_list args;
	va_start(args, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (sendto(notify.fd, text, (size_t)len, MSG_NOSIGNAL, (struct sockaddr *)&notify.address, notify.len) < 0) {
		log_write(LOG_WARNING, "notify: the service manager cannot be told: %s", strerror(errno));
	}
}

static void on_timer(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)ev;
	(void)timer;
	(void)events;
	say("WATCHDOG=1");
}

void notify_ready(struct ev_loop *ev)
{
	say("READY=1\nSTATUS=Serving clients");
	if (notify.every > 0) {
		notify.ev = ev;
		ev_timer_init(&notify.timer, on_timer, notify.every, notify.every);
		ev_timer_start(ev, &notify.timer);
		ev_unref(ev);
	}
}

void notify_reloading(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	say("RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reading the configuration anew",
	    (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

void notify_reloaded(int rc)
{
	say("READY=1\nSTATUS=%s", rc < 0 ? "Serving clients; the new configuration was refused, the log says why" : "Serving clients");
}

void notify_stopping(void)
{
	say("STOPPING=1\nSTATUS=Ending the sessions");
}

void notify_fini(void)
{
	if (notify.ev) {
		ev_ref(notify.ev);
		ev_timer_stop(notify.ev, &notify.timer);
		notify.ev = NULL;
	}
	if (notify.fd >= 0) {
		close(notify.fd);
		notify.fd = -1;
	}
}
