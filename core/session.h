/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_SESSION_H
#define STK_CORE_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <startalkd/session.h>
#include <startalkd/stanza.h>

#include <ev.h>
#include <uthash.h>

#include "core/jid.h"
#include "core/module.h"

struct server;
struct session_user;
struct carrier;
struct ask;

/*  state      | goes on with                                   | to
 *  OPEN       | Welcome                                        | STREAM
 *  STREAM     | StartTLS / Auth                                | SECURING / AUTH
 *  SECURING   | the handshake's end                            | STREAM
 *  AUTH       | success / failure                              | LOGGED_IN / STREAM
 *  LOGGED_IN  | bind                                           | BOUND
 *  any        | fault, time-out, kick, the peer goes           | ENDED  */
enum session_state {
	SESSION_OPEN,
	SESSION_STREAM,
	SESSION_SECURING,
	SESSION_AUTH,
	SESSION_LOGGED_IN,
	SESSION_BOUND,
	SESSION_ENDED,
};

struct stk_session {
	UT_hash_handle hh; /* by id */
	uint64_t id;
	struct server *server;
	enum session_state state;
	struct session_user *user; /* NULL before bind */
	struct stk_session *user_next; /* of the same user, in the order they were bound */
	struct stk_session *dead_next;
	int listen_tls, priority;
	bool secure, available, bound_due, available_due, eligible_due;
	char *domain;  /* the stream's, folded */
	char *claimed; /* user@domain of the Welcome, or the domain alone: who it says it is before login */
	char *bare, *jid, *show;
	const char *resource; /* in jid */
	int64_t login_at, bound_at;
	unsigned auth_failures;
	struct stk_auth *auth;
	struct carrier *carrier; /* NULL: the I/O loop */
	struct ask *asks;        /* what modules have asked this client */
	struct ev_timer deadline;
	void *slots[SESSION_SLOTS_MAX];
	char address[56];
};

struct session_table {
	struct stk_session *by_id, *dead;
	struct session_user *users;
	size_t bound;
};

/* A session for a new connection, waiting for its Welcome. NULL: it is refused, WHY says why. */
struct stk_session *session_new(struct server *server, uint64_t id, const char *address, int listen_tls, const char **why);
/* Runs the STK_SESSION_OPENED hooks. False: one of them has ended it. */
bool session_tell_opened(struct stk_session *session);
/* It is USER, the account's node, from now on, and has to bind. 0, -EINVAL: no JID can be made of it, -ENOMEM. */
int session_log_in(struct stk_session *session, const char *user);
/* Tells what carries it; as loop_send_tracked and loop_command. STANZA is taken. */
int session_send(struct stk_session *session, struct stk_stanza *stanza, uint64_t mark, bool tell_sent);
void session_go_on(struct stk_session *session); /* what was read behind an answer that waited may come now */
struct stk_session *session_by_id(const struct server *server, uint64_t id);
/* The first session of a bare JID (follow user_next), or NULL. */
struct stk_session *session_of_user(const struct server *server, const char *bare);
struct stk_session *session_of_folded(const struct server *server, const struct folded *bare); /* the same */
struct stk_session *session_by_jid(const struct server *server, const char *jid);
size_t session_users(const struct server *server); /* how many have a bound session */
/* Starts the time that the session has for what comes next; 0: none. */
void session_set_deadline(struct stk_session *session, double seconds);
/* Ends a connection that has no session. */
void session_refuse(struct server *server, uint64_t id, int code, const char *why);
/* The peer is gone, nothing can be sent: as stk_session_end without a word. */
void session_gone(struct stk_session *session);
/* Runs the hooks that a handler's calls have made due. */
void session_run_due(struct stk_session *session);
/* Frees those that have ended since the last call. Nobody may hold a pointer to one. */
void session_reap(struct server *server);
void session_end_all(struct server *server, int code, const char *reason);

#endif
