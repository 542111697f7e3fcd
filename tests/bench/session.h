/* SPDX-License-Identifier: MIT */
#ifndef STK_BENCH_SESSION_H
#define STK_BENCH_SESSION_H

#include "tests/bench/bench.h"

enum session_state {
	SESSION_CONNECTING,
	SESSION_WELCOME, /* what is waited for: the server's Welcome, */
	SESSION_PROCEED, /* ProceedTLS, */
	SESSION_HANDSHAKE,
	SESSION_AUTH, /* the answer to Auth, */
	SESSION_BIND, /* that to Bind, */
	SESSION_PING, /* and that to the first ping, which says that the session is available */
	SESSION_ONLINE,
	SESSION_ENDED /* freed at the end of the turn */
};

struct session {
	struct session *next, *prev; /* all; next also links the graveyard */
	struct session *dirty_next;
	struct bench *bench;
	const struct role *role;
	enum session_state state;
	int fd;
	bool dirty, watches_output;
	unsigned user;   /* its number */
	uint32_t serial; /* different in all sessions of a run */
	char *jid;       /* full; NULL: not bound yet */
	gnutls_session_t tls;
	const uint8_t *pull; /* input for TLS, while there is some */
	size_t pull_len;
	struct buf in, out;
	int64_t started;         /* when it began to connect */
	int32_t flow_number;     /* of the flow it sends or receives on, or -1 */
	uint32_t expect;         /* number of the message that is to come next */
	uint64_t pings, answers; /* idle */
};

/* Begins to connect; what happens then comes through ROLE. */
struct session *session_new(struct bench *bench, const struct role *role, unsigned user);
/* Ends it at once, by reset, so that no port is left waiting. */
void session_close(struct session *session);
/* Ends it and tells its role. */
void session_fail(struct session *session, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void session_send(struct session *session, struct view frame);
void session_flush(struct session *session);
/* EVENTS of epoll. */
void session_event(struct session *session, unsigned events);
/* Bytes that the socket did not take yet. */
size_t session_backlog(const struct session *session);
void session_start_tls(struct session *session);

/* login.c */
void login_connected(struct session *session);
void login_secured(struct session *session);
void login_frame(struct session *session, const struct frame *frame);
/* What LOGIN is waiting for, for messages. */
const char *login_step(enum session_state state);

#endif
