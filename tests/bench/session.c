/* SPDX-License-Identifier: MIT */
/* One connection to the server: socket, TLS, cutting input into frames. What the frames mean is decided by login.c
 * until the session is online, by its role after. */

#include "tests/bench/session.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/wire.h"

#define RAW_SIZE (256 * 1024)
#define PREFIX_MAX 4

/* ---- life ---- */

static void watch(struct session *session, int op, bool output)
{
	struct epoll_event event = { .events = EPOLLIN | (output ? EPOLLOUT : 0u), .data.ptr = session };
	if (epoll_ctl(session->bench->epoll, op, session->fd, &event) < 0) {
		die("epoll: %s", strerror(errno));
	}
	session->watches_output = output;
}

/* Loopback has 2^24 addresses to come from, each with some 28,000 ports to one server. */
static void bind_source(const struct bench *bench, int fd, uint32_t serial)
{
	int on = 1;
	struct sockaddr_in source = { .sin_family = AF_INET };
	source.sin_addr.s_addr = htonl(0x7f000002 + serial % (uint32_t)bench->options.sources);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&source, sizeof(source)) < 0) {
		die("bind: a source address in 127.0.0.0/8: %s", strerror(errno));
	}
}

struct session *session_new(struct bench *bench, const struct role *role, unsigned user)
{
	struct session *session = calloc(1, sizeof(*session));
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (!session) {
		die("out of memory");
	}
	if (fd < 0) {
		die("socket: %s%s", strerror(errno),
		    errno == EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*session = (struct session){
		.next = bench->sessions, .bench = bench, .role = role, .fd = fd, .user = user, .serial = bench->serial++
	};
	if (bench->sessions) {
		bench->sessions->prev = session;
	}
	bench->sessions = session;
	bench->session_count++;
	bench->logging_in++;
	session->started = clock_us();
	if (bench->options.sources) {
		bind_source(bench, fd, session->serial);
	}
	if (connect(fd, (const struct sockaddr *)&bench->target, sizeof(bench->target)) < 0 && errno != EINPROGRESS) {
		die("connect: %s:%d: %s%s", bench->options.address, (int)bench->options.port, strerror(errno),
		    errno == EADDRNOTAVAIL ? "; more --sources give more ports" : "");
	}
	watch(session, EPOLL_CTL_ADD, true);
	return session;
}

static void undirty(struct bench *bench, const struct session *session)
{
	for (struct session **at = &bench->dirty; *at; at = &(*at)->dirty_next) {
		if (*at == session) {
			*at = session->dirty_next;
			return;
		}
	}
}

void session_close(struct session *session)
{
	struct bench *bench = session->bench;
	struct linger reset = { .l_onoff = 1 };
	if (session->state == SESSION_ENDED) {
		return;
	}
	if (session->state == SESSION_ONLINE) {
		bench->online--;
	} else {
		bench->logging_in--;
	}
	session->state = SESSION_ENDED;
	if (session->dirty) {
		undirty(bench, session);
	}
	setsockopt(session->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(session->fd);
	if (session->tls) {
		gnutls_deinit(session->tls);
	}
	buf_fini(&session->in);
	buf_fini(&session->out);
	if (session->prev) {
		session->prev->next = session->next;
	} else {
		bench->sessions = session->next;
	}
	if (session->next) {
		session->next->prev = session->prev;
	}
	bench->session_count--;
	session->tls = NULL;
	session->next = bench->graveyard;
	bench->graveyard = session;
}

void session_fail(struct session *session, const char *fmt, ...)
{
	char why[400];
	va_list args;
	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	if (session->state != SESSION_ENDED) {
		session->role->ended(session->bench, session, why);
		session_close(session);
	}
}

/* ---- output ---- */

static void write_out(struct session *session, const void *data, size_t n)
{
	struct bench *bench = session->bench;
	if (!session->out.len && !bench->options.coalesce) {
		ssize_t sent = send(session->fd, data, n, MSG_NOSIGNAL);
		if (sent == (ssize_t)n || (sent < 0 && errno != EAGAIN)) {
			return; /* a broken connection is told by the next read */
		}
		data = (const uint8_t *)data + (sent > 0 ? sent : 0);
		n -= sent > 0 ? (size_t)sent : 0;
	}
	if (buf_append(&session->out, data, n) < 0) {
		die("out of memory");
	}
	if (!session->dirty) {
		session->dirty = true;
		session->dirty_next = bench->dirty;
		bench->dirty = session;
	}
}

void session_flush(struct session *session)
{
	while (session->out.len) {
		ssize_t sent = send(session->fd, buf_data(&session->out), session->out.len, MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN) {
			break;
		}
		buf_consume(&session->out, sent < 0 ? session->out.len : (size_t)sent);
	}
	if (!session->out.len) {
		buf_fini(&session->out);
	}
	if (session->state != SESSION_CONNECTING && session->watches_output != (session->out.len > 0)) {
		watch(session, EPOLL_CTL_MOD, session->out.len > 0);
	}
}

size_t session_backlog(const struct session *session)
{
	return session->out.len;
}

/* One record for each frame, as clients do. */
void session_send(struct session *session, struct view frame)
{
	if (!session->tls) {
		write_out(session, frame.data, frame.len);
		return;
	}
	while (frame.len) {
		ssize_t sent = gnutls_record_send(session->tls, frame.data, frame.len);
		if (sent <= 0) {
			session_fail(session, "TLS: %s", gnutls_strerror((int)sent));
			return;
		}
		frame.data += sent;
		frame.len -= (size_t)sent;
	}
}

/* ---- input ---- */

static void take_stream_end(struct session *session, const struct frame *frame)
{
	struct view reason = field_bytes(frame->inner, 1);
	session_fail(session, "the server ended the stream: %d %.*s", (int)field_int(frame->inner, 2),
		     (int)(reason.len < 200 ? reason.len : 200), reason.data ? (const char *)reason.data : "");
}

static void take_frame(struct session *session, const uint8_t *data, size_t n)
{
	struct frame frame;
	if (!frame_read(&session->bench->codec, data, n, &frame)) {
		session_fail(session, "the server sent a broken frame");
	} else if (frame.signal == SIGNAL_STREAM_END) {
		take_stream_end(session, &frame);
	} else if (session->state == SESSION_ONLINE) {
		session->role->frame(session->bench, session, &frame);
	} else {
		login_frame(session, &frame);
	}
}

/* Returns how many bytes were used. */
static size_t cut_frames(struct session *session, const uint8_t *data, size_t n)
{
	size_t used = 0;
	while (used < n && session->state != SESSION_ENDED) {
		uint64_t len = 0;
		size_t prefix = wire_varint(data + used, n - used, PREFIX_MAX, &len);
		if ((!prefix && n - used >= PREFIX_MAX) || len >= FRAME_MAX) {
			session_fail(session, "the server sent a broken frame length");
			break;
		}
		if (!prefix || len > n - used - prefix) {
			break;
		}
		take_frame(session, data + used + prefix, (size_t)len);
		used += prefix + (size_t)len;
	}
	return used;
}

static void feed(struct session *session, const uint8_t *data, size_t n)
{
	if (!session->in.len) {
		size_t used = cut_frames(session, data, n);
		data += used;
		n -= used;
	}
	if (session->state == SESSION_ENDED || !n) {
		return;
	}
	if (buf_append(&session->in, data, n) < 0) {
		die("out of memory");
	}
	size_t used = cut_frames(session, buf_data(&session->in), session->in.len);
	if (session->state != SESSION_ENDED) {
		buf_consume(&session->in, used);
		if (!session->in.len) {
			buf_fini(&session->in);
		}
	}
}

/* ---- TLS ---- */

static ssize_t push(gnutls_transport_ptr_t ptr, const void *data, size_t n)
{
	write_out(ptr, data, n);
	return (ssize_t)n;
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *data, size_t n)
{
	struct session *session = ptr;
	if (!session->pull_len) {
		gnutls_transport_set_errno(session->tls, EAGAIN);
		return -1;
	}
	n = n < session->pull_len ? n : session->pull_len;
	memcpy(data, session->pull, n);
	session->pull += n;
	session->pull_len -= n;
	return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
	(void)ms;
	return ((struct session *)ptr)->pull_len > 0;
}

static void shake_hands(struct session *session)
{
	int rc;
	do {
		rc = gnutls_handshake(session->tls);
	} while (rc < 0 && rc != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(rc));
	if (rc == 0) {
		login_secured(session);
	} else if (rc != GNUTLS_E_AGAIN) {
		session_fail(session, "TLS handshake: %s", gnutls_strerror(rc));
	}
}

void session_start_tls(struct session *session)
{
	session->state = SESSION_HANDSHAKE;
	if (gnutls_init(&session->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0 ||
	    gnutls_set_default_priority(session->tls) < 0 ||
	    gnutls_credentials_set(session->tls, GNUTLS_CRD_CERTIFICATE, session->bench->credentials) < 0) {
		die("GnuTLS: cannot make a session");
	}
	gnutls_transport_set_ptr(session->tls, session);
	gnutls_transport_set_push_function(session->tls, push);
	gnutls_transport_set_pull_function(session->tls, pull);
	gnutls_transport_set_pull_timeout_function(session->tls, pull_timeout);
	shake_hands(session);
}

static void feed_tls(struct session *session, const uint8_t *data, size_t n)
{
	session->pull = data;
	session->pull_len = n;
	if (session->state == SESSION_HANDSHAKE) {
		shake_hands(session);
	}
	while (session->state != SESSION_HANDSHAKE && session->state != SESSION_ENDED) {
		ssize_t got = gnutls_record_recv(session->tls, session->bench->plain, RAW_SIZE);
		if (got > 0) {
			feed(session, session->bench->plain, (size_t)got);
		} else if (got == GNUTLS_E_AGAIN) {
			return;
		} else if (got != GNUTLS_E_INTERRUPTED) {
			session_fail(session, "%s",
				     got == 0 ? "the server closed the connection" : gnutls_strerror((int)got));
		}
	}
}

/* ---- events ---- */

static void connected(struct session *session)
{
	int error = 0;
	socklen_t len = sizeof(error);
	getsockopt(session->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error && !session->bench->reached) {
		die("connect: %s:%d: %s; is a server running there?", session->bench->options.address,
		    (int)session->bench->options.port, strerror(error));
	}
	if (error) {
		session_fail(session, "connect: %s", strerror(error));
		return;
	}
	session->bench->reached = true;
	session->state = SESSION_WELCOME;
	watch(session, EPOLL_CTL_MOD, false);
	if (session->bench->options.tls == TLS_DIRECT) {
		session_start_tls(session);
	} else {
		login_connected(session);
	}
}

static void read_ready(struct session *session)
{
	struct bench *bench = session->bench;
	ssize_t n = recv(session->fd, bench->raw, RAW_SIZE, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (n <= 0) {
		session_fail(session, "%s", n == 0 ? "the server closed the connection" : strerror(errno));
		return;
	}
	bench->now = clock_us();
	if (session->tls) {
		feed_tls(session, bench->raw, (size_t)n);
	} else {
		feed(session, bench->raw, (size_t)n);
	}
}

void session_event(struct session *session, unsigned events)
{
	if (session->state == SESSION_CONNECTING) {
		connected(session);
		return;
	}
	if (events & EPOLLOUT && session->state != SESSION_ENDED) {
		session_flush(session);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && session->state != SESSION_ENDED) {
		read_ready(session);
	}
}
