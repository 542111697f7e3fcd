/* SPDX-License-Identifier: MIT */
/* Listeners: sockets that are bound, and the connections that come in there. Which loop gets a connection, and whether
 * there is room for it, is the loops' business. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/conn.h"
#include "core/handover.h"
#include "core/log.h"

#define ACCEPT_BATCH 64  /* connections taken in one go, so that those that are open get their turn */
#define ACCEPT_PAUSE 0.2 /* seconds without accepting when descriptors have run out */
#define KEPT_FREE    32  /* descriptors that connections leave to databases, certificates and operators */

struct listener {
	struct listener *next;
	struct loop *loop;
	struct ev_io io;
	struct ev_timer again;
	int tls;
	int reserve; /* a descriptor to give up, so that one more can be accepted and told that there are none; -1: none */
	bool short_told;
	char address[56];
};

static void print_address(const struct sockaddr_storage *peer, char *out, size_t size)
{
	char text[INET6_ADDRSTRLEN] = "?";
	if (peer->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)peer;
		inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
		snprintf(out, size, "[%s]:%u", text, ntohs(v6->sin6_port));
	} else {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)peer;
		inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
		snprintf(out, size, "%s:%u", text, ntohs(v4->sin_port));
	}
}

static void add_connection(const struct listener *listener, int fd, const struct sockaddr_storage *peer)
{
	struct event *opened = calloc(1, sizeof(*opened));
	if (!opened) {
		log_write(LOG_WARNING, "listen: out of memory for a connection");
		close(fd);
		return;
	}
	opened->tls = listener->tls;
	print_address(peer, opened->address, sizeof(opened->address));
	loop_accepted(listener->loop, fd, opened);
}

/* The kernel gives the lowest free number, so a high one says that few are left. */
static int last_descriptor(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX) {
		return INT_MAX;
	}
	int most = (int)limit.rlim_cur;
	return most - (most / 4 < KEPT_FREE ? most / 4 : KEPT_FREE);
}

static void refuse(struct listener *listener, int fd)
{
	if (!listener->short_told) {
		log_write(LOG_WARNING, "listen: descriptors are running out: new connections are refused");
	}
	listener->short_told = true;
	conn_refuse(fd, listener->tls, "too many connections");
}

/* Not one descriptor is left: the reserve is for telling so. */
static void refuse_with_reserve(struct listener *listener)
{
	if (listener->reserve < 0) {
		return;
	}
	close(listener->reserve);
	int fd = accept4(listener->io.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		refuse(listener, fd);
	}
	listener->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_accept_again(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)events;
	struct listener *listener = timer->data;
	ev_io_start(ev, &listener->io);
}

static void on_accept(struct ev_loop *ev, struct ev_io *io, int events)
{
	(void)events;
	struct listener *listener = io->data;
	int last = last_descriptor();
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t len = sizeof(peer);
		int fd = accept4(io->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= last) {
			refuse(listener, fd);
		} else if (fd >= 0) {
			listener->short_told = false;
			add_connection(listener, fd, &peer);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_write(LOG_WARNING, "listen: no new connections for a moment: %s", strerror(errno));
			refuse_with_reserve(listener);
			ev_io_stop(ev, io);
			ev_timer_set(&listener->again, ACCEPT_PAUSE, 0);
			ev_timer_start(ev, &listener->again);
			return;
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

static socklen_t make_address(const struct settings_listen *listen, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)out;
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, listen->address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)listen->port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, listen->address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)listen->port);
		return sizeof(*v6);
	}
	return 0;
}

/* Connections inherit them, which spares each six system calls. */
static void set_options(int fd)
{
	int on = 1, idle = 60, interval = 15, count = 4, user_timeout_ms = 60 * 1000;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
}

/* One that was handed over, or a new one. */
static int open_socket(const struct settings_listen *conf)
{
	struct sockaddr_storage address;
	socklen_t len = make_address(conf, &address);
	if (!len) {
		return -EINVAL;
	}
	int on = 1, fd = handover_take(&address);
	if (fd >= 0) {
		return fd;
	}
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address.ss_family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	}
	if (bind(fd, (struct sockaddr *)&address, len) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int tell(const struct settings_listen *listen, int rc, char *err, size_t errlen)
{
	const char *hint = rc == -EADDRINUSE ? "; is another server running there?" :
	                   rc == -EACCES ? "; a port below 1024 needs root or CAP_NET_BIND_SERVICE" : "";
	snprintf(err, errlen, "listen: %s:%d: %s%s", listen->address, (int)listen->port, strerror(-rc), hint);
	return rc;
}

int listen_bind(const struct settings_listen *listen, char *err, size_t errlen)
{
	int fd = open_socket(listen);
	return fd < 0 ? tell(listen, fd, err, errlen) : fd;
}

int listen_check(const struct settings_listen *list, const char *listening, conf_report_fn *report, void *arg)
{
	int rc = 0;
	for (const struct settings_listen *listen = list; listen; listen = listen->next) {
		struct sockaddr_storage address = { 0 };
		char text[56], name[64], all[4096], err[512], fault[640];
		make_address(listen, &address);
		print_address(&address, text, sizeof(text));
		snprintf(name, sizeof(name), " %s ", text);
		snprintf(all, sizeof(all), " %s ", listening);
		if (!listen->port || strstr(all, name)) {
			continue;
		}
		int fd = listen_bind(listen, err, sizeof(err));
		if (fd >= 0) {
			close(fd);
			continue;
		}
		snprintf(fault, sizeof(fault), "%s; a restart in place cannot take it, and the server may have been root when it was started: stop it "
		                               "and start it", err);
		report(fault, arg);
		rc = fd;
	}
	return rc;
}

int loop_listen(struct loop *loop, const struct settings_listen *conf, int fd, char *err, size_t errlen)
{
	static const char *const modes[] = { "off", "optional", "required", "direct" };
	struct sockaddr_storage address = { 0 };
	socklen_t len = sizeof(address);
	struct listener *listener = calloc(1, sizeof(*listener));
	int rc = listener ? 0 : -ENOMEM;
	set_options(fd);
	if (rc == 0 && (listen(fd, (int)conf->backlog) < 0 || getsockname(fd, (struct sockaddr *)&address, &len) < 0)) {
		rc = -errno;
	}
	if (rc < 0) {
		free(listener);
		return tell(conf, rc, err, errlen);
	}
	struct listener **first = loop_listeners(loop);
	*listener = (struct listener){ .next = *first, .loop = loop, .tls = conf->tls, .reserve = open("/dev/null", O_RDONLY | O_CLOEXEC) };
	*first = listener;
	ev_io_init(&listener->io, on_accept, fd, EV_READ);
	listener->io.data = listener;
	ev_timer_init(&listener->again, on_accept_again, ACCEPT_PAUSE, 0);
	listener->again.data = listener;
	ev_io_start(loop_ev(loop), &listener->io);
	print_address(&address, listener->address, sizeof(listener->address));
	log_write(LOG_NOTICE, "listen: %s: tls %s", listener->address, modes[conf->tls]);
	return 0;
}

void loop_each_listener(struct loop *loop, bool (*each)(const char *, enum stk_tls, void *), void *arg)
{
	_Static_assert((int)LISTEN_TLS_DIRECT == (int)STK_TLS_DIRECT, "modules are told the modes by the same numbers");
	const struct listener *listener = *loop_listeners(loop);
	while (listener && each(listener->address, (enum stk_tls)listener->tls, arg)) {
		listener = listener->next;
	}
}

size_t loop_stop_listening(struct loop *loop, int *fds, size_t most)
{
	struct listener **first = loop_listeners(loop);
	size_t n = 0;
	while (*first) {
		struct listener *listener = *first;
		*first = listener->next;
		ev_io_stop(loop_ev(loop), &listener->io);
		ev_timer_stop(loop_ev(loop), &listener->again);
		if (n < most) {
			fds[n++] = listener->io.fd;
		} else {
			close(listener->io.fd);
		}
		if (listener->reserve >= 0) {
			close(listener->reserve);
		}
		free(listener);
	}
	return n;
}
