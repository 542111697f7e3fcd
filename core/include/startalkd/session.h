/* SPDX-License-Identifier: MIT */
#ifndef STARTALKD_SESSION_H
#define STARTALKD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A session is one client's stream, from its bind to its end. Modules see it on the router thread only; a pointer
 * is valid during the call it was handed to. To remember a session, remember stk_session_id(). */
struct stk_session;

/* Reading. Strings live as long as the session, or until the value is set anew. Since 0.1. */
uint64_t stk_session_id(const struct stk_session *session);         /* unique while the process runs, never 0 */
const char *stk_session_jid(const struct stk_session *session);     /* full JID, or NULL before bind */
const char *stk_session_bare(const struct stk_session *session);    /* user@domain as registered */
const char *stk_session_domain(const struct stk_session *session);
const char *stk_session_resource(const struct stk_session *session); /* or NULL before bind */
const char *stk_session_address(const struct stk_session *session); /* peer as "ADDRESS:PORT", for logs */
bool stk_session_secure(const struct stk_session *session);         /* inside TLS */
bool stk_session_available(const struct stk_session *session);      /* has sent its presence */
int stk_session_priority(const struct stk_session *session);        /* -128 to 127; 0 until set */
const char *stk_session_show(const struct stk_session *session);    /* "" until set */
int64_t stk_session_login_at(const struct stk_session *session);    /* when the login that succeeded was asked for, ms since the epoch */
int64_t stk_session_bound_at(const struct stk_session *session);    /* ms since the epoch; 0 before bind */

/* Gives SESSION its resource. A session of the same full JID is ended (222 "replaced"). STK_SESSION_BOUND hooks run after the
 * handler that called this has returned, so that its reply goes first. 0, -EISCONN: bound already, -EACCES: not
 * logged in, -EINVAL: no resource can be spelled so, -ENOMEM. Since 0.1. */
int stk_session_bind(struct stk_session *session, const char *resource);

/* Sets what the session says of its presence. After the handler that called this, AVAILABLE from false to true runs the
 * STK_SESSION_AVAILABLE hooks, then available with priority >= 0 from not being so, also when the priority alone rose, the
 * STK_SESSION_ELIGIBLE hooks. 0, -ENOTCONN before bind, -ERANGE: priority, -ENOMEM. Since 0.1. */
int stk_session_set_presence(struct stk_session *session, bool available, int priority, const char *show);

/* Sends StreamEnd with CODE and REASON and closes. The session is gone for routing at once. Since 0.1. */
void stk_session_end(struct stk_session *session, int code, const char *reason);

/* Stops reading what the client sends, or goes on: the client is slowed down by TCP. What has been read already still arrives.
 * Since 0.1. */
void stk_session_hold(struct stk_session *session, bool hold);

/* A module's own data in each session; SLOT is what stk_session_slot() returned. NULL until set. Since 0.1. */
void *stk_session_get(const struct stk_session *session, int slot);
void stk_session_set(struct stk_session *session, int slot, void *data);

#ifdef __cplusplus
}
#endif
#endif
