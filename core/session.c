/* SPDX-License-Identifier: MIT */
/* Sessions: who is connected, as whom, and whether available. Owns the tables by connection, by user and the end of
 * a session; what arrives on one is the router's business. */

#define HASH_NONFATAL_OOM 1
#include "core/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ask.h"
#include "core/clock.h"
#include "core/crash.h"
#include "core/log.h"
#include "core/router.h"
#include "core/sasl.h"
#include "core/server.h"
#include "core/transport.h"

struct session_user {
	UT_hash_handle hh;
	struct stk_session *first;
	char bare[]; /* folded */
};

/* ---- reading ---- */

uint64_t stk_session_id(const struct stk_session *session)
{
	return session->id;
}

const char *stk_session_jid(const struct stk_session *session)
{
	return session->jid;
}

const char *stk_session_bare(const struct stk_session *session)
{
	return session->bare;
}

const char *stk_session_domain(const struct stk_session *session)
{
	return session->domain;
}

const char *stk_session_resource(const struct stk_session *session)
{
	return session->resource;
}

const char *stk_session_address(const struct stk_session *session)
{
	return session->address;
}

bool stk_session_secure(const struct stk_session *session)
{
	return session->secure;
}

bool stk_session_available(const struct stk_session *session)
{
	return session->available;
}

int stk_session_priority(const struct stk_session *session)
{
	return session->priority;
}

const char *stk_session_show(const struct stk_session *session)
{
	return session->show ? session->show : "";
}

int64_t stk_session_login_at(const struct stk_session *session)
{
	return session->login_at;
}

int64_t stk_session_bound_at(const struct stk_session *session)
{
	return session->bound_at;
}

void stk_session_hold(struct stk_session *session, bool hold)
{
	if (session->state == SESSION_BOUND && session->carrier) {
		transport_hold(session, hold);
	} else if (session->state == SESSION_BOUND) {
		loop_command(session->server->loop, hold ? COMMAND_HOLD : COMMAND_RESUME, session->id, NULL, NULL);
	}
}

void *stk_session_get(const struct stk_session *session, int slot)
{
	return slot >= 0 && slot < SESSION_SLOTS_MAX ? session->slots[slot] : NULL;
}

void stk_session_set(struct stk_session *session, int slot, void *data)
{
	if (slot >= 0 && slot < SESSION_SLOTS_MAX) {
		session->slots[slot] = data;
	}
}

/* ---- tables ---- */

struct stk_session *session_by_id(const struct server *server, uint64_t id)
{
	struct stk_session *session = NULL;
	HASH_FIND(hh, server->sessions.by_id, &id, sizeof(id), session);
	return session;
}

static struct session_user *find_user(const struct server *server, const char *folded, size_t len)
{
	struct session_user *user = NULL;
	HASH_FIND(hh, server->sessions.users, folded, len, user);
	return user;
}

struct stk_session *session_of_folded(const struct server *server, const struct folded *bare)
{
	struct session_user *user = find_user(server, bare->text, bare->len);
	return user ? user->first : NULL;
}

struct stk_session *session_of_user(const struct server *server, const char *bare)
{
	struct stk_jid parts;
	struct folded folded;
	if (stk_jid_parse(&parts, bare) < 0 || jid_fold_bare(bare, &parts, &folded) < 0) {
		return NULL;
	}
	return session_of_folded(server, &folded);
}

struct stk_session *session_by_jid(const struct server *server, const char *jid)
{
	struct stk_jid parts;
	struct folded folded;
	if (stk_jid_parse(&parts, jid) < 0 || !parts.resource_len || jid_fold_bare(jid, &parts, &folded) < 0) {
		return NULL;
	}
	struct stk_session *session = session_of_folded(server, &folded);
	while (session && strcmp(session->resource, parts.resource) != 0) {
		session = session->user_next;
	}
	return session;
}

size_t session_users(const struct server *server)
{
	return HASH_COUNT(server->sessions.users);
}

static struct session_user *get_user(struct server *server, const char *bare)
{
	char folded[STK_JID_MAX + 1];
	if (stk_jid_fold(bare, folded, sizeof(folded)) < 0) {
		return NULL;
	}
	size_t len = strlen(folded);
	struct session_user *user = find_user(server, folded, len);
	if (user) {
		return user;
	}
	user = calloc(1, sizeof(*user) + len + 1);
	if (!user) {
		return NULL;
	}
	memcpy(user->bare, folded, len + 1);
	HASH_ADD_KEYPTR(hh, server->sessions.users, user->bare, len, user);
	if (!user->hh.tbl) {
		free(user);
		return NULL;
	}
	return user;
}

static void leave_user(struct stk_session *session)
{
	struct session_user *user = session->user;
	if (!user) {
		return;
	}
	struct stk_session **at = &user->first;
	while (*at != session) {
		at = &(*at)->user_next;
	}
	*at = session->user_next;
	session->user_next = NULL;
	session->user = NULL;
	session->server->sessions.bound--;
	if (!user->first) {
		HASH_DEL(session->server->sessions.users, user);
		free(user);
	}
}

/* ---- life ---- */

static void on_deadline(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	static const char *const reasons[] = {
		[SESSION_OPEN] = "wait for stream timeout",
		[SESSION_STREAM] = "wait for feature for timeout",
		[SESSION_SECURING] = "wait for feature for timeout",
		[SESSION_AUTH] = "wait for feature for timeout",
		[SESSION_LOGGED_IN] = "wait for bind for timeout",
	};
	(void)ev;
	(void)events;
	struct stk_session *session = timer->data;
	if (session->state <= SESSION_LOGGED_IN) {
		stk_session_end(session, 102, reasons[session->state]);
	}
}

struct stk_session *session_new(struct server *server, uint64_t id, const char *address, int listen_tls, const char **why)
{
	*why = gate_enter(server->gate, &server->settings->limits, address, clock_now());
	if (*why) {
		return NULL;
	}
	*why = "out of memory";
	struct stk_session *session = calloc(1, sizeof(*session));
	if (!session) {
		gate_leave(server->gate, address, false);
		return NULL;
	}
	session->server = server;
	session->id = id;
	session->listen_tls = listen_tls;
	snprintf(session->address, sizeof(session->address), "%s", address);
	ev_timer_init(&session->deadline, on_deadline, 0, 0);
	session->deadline.data = session;
	HASH_ADD(hh, server->sessions.by_id, id, sizeof(session->id), session);
	if (!session->hh.tbl) {
		free(session);
		gate_leave(server->gate, address, false);
		return NULL;
	}
	session_set_deadline(session, server->settings->login.stream_timeout);
	return session;
}

bool session_tell_opened(struct stk_session *session)
{
	struct stk_event event = { .size = sizeof(event), .hook = STK_SESSION_OPENED, .session = session };
	module_run_hooks(session->server, &event);
	return session->state != SESSION_ENDED;
}

int session_log_in(struct stk_session *session, const char *user)
{
	char bare[STK_JID_MAX + 1];
	struct stk_jid parts;
	if (snprintf(bare, sizeof(bare), "%s@%s", user, session->domain) >= (int)sizeof(bare) ||
	    stk_jid_parse(&parts, bare) < 0 || !parts.node_len || parts.resource_len) {
		return -EINVAL;
	}
	session->bare = strdup(bare);
	if (!session->bare) {
		return -ENOMEM;
	}
	gate_log_in(session->server->gate, session->address);
	session->login_at = stk_now_ms();
	session->state = SESSION_LOGGED_IN;
	session_set_deadline(session, session->server->settings->login.bind_timeout);
	module_audit(session->server, &(struct stk_audit){ .size = sizeof(struct stk_audit), .event = "login", .user = session->bare,
	                                                   .address = session->address, .reason = session->secure ? "inside TLS" : "without TLS" });
	return 0;
}

int session_send(struct stk_session *session, struct stk_stanza *stanza, uint64_t mark, bool tell_sent)
{
	if (session->carrier) {
		return transport_send(session, stanza, mark, tell_sent);
	}
	return loop_send_tracked(session->server->loop, session->id, stanza, mark, tell_sent);
}

void session_go_on(struct stk_session *session)
{
	if (!session->carrier) {
		loop_command(session->server->loop, COMMAND_RESUME, session->id, NULL, NULL);
	}
}

void session_set_deadline(struct stk_session *session, double seconds)
{
	ev_timer_stop(session->server->ev, &session->deadline);
	if (seconds > 0) {
		ev_timer_set(&session->deadline, seconds, 0);
		ev_timer_start(session->server->ev, &session->deadline);
	}
}

/* Out of the tables, then the modules are told, while its data can still be read. */
static void retire(struct stk_session *session, int code, const char *reason)
{
	struct server *server = session->server;
	bool was_bound = session->state == SESSION_BOUND;
	session->state = SESSION_ENDED;
	ev_timer_stop(server->ev, &session->deadline);
	if (session->auth) {
		sasl_abort(session);
	}
	gate_leave(server->gate, session->address, session->bare != NULL);
	HASH_DEL(server->sessions.by_id, session);
	leave_user(session);
	ask_gone(session);
	if (was_bound) {
		struct stk_event event = {
			.size = sizeof(event), .hook = STK_SESSION_CLOSED, .session = session, .reason = code
		};
		module_run_hooks(server, &event);
	}
	if (session->bare) {
		module_audit(server, &(struct stk_audit){ .size = sizeof(struct stk_audit), .event = "logout",
		                                          .user = session->jid ? session->jid : session->bare, .address = session->address,
		                                          .reason = reason, .code = code });
	}
	if (session->carrier) {
		transport_end(session, code, reason);
	}
	session->available = false;
	session->dead_next = server->sessions.dead;
	server->sessions.dead = session;
}

void session_gone(struct stk_session *session)
{
	if (session->state != SESSION_ENDED) {
		retire(session, 0, NULL);
	}
}

void session_refuse(struct server *server, uint64_t id, int code, const char *why)
{
	loop_command(server->loop, COMMAND_END, id, stanza_stream_end(code, why), NULL);
}

void stk_session_end(struct stk_session *session, int code, const char *reason)
{
	if (session->state == SESSION_ENDED) {
		return;
	}
	log_write(LOG_INFO, "session: %s: ended with %d: %s (%s)", session->jid ? session->jid : session->bare ? session->bare : "-",
	          code, reason, session->address);
	if (!session->carrier) {
		session_refuse(session->server, session->id, code, reason);
	}
	retire(session, code, reason);
}

void session_reap(struct server *server)
{
	while (server->sessions.dead) {
		struct stk_session *session = server->sessions.dead;
		server->sessions.dead = session->dead_next;
		for (int i = 0; i < server->modules.slot_count; i++) {
			if (session->slots[i] && server->modules.slots[i].destroy) {
				crash_enter(server->modules.slots[i].module->name, "destroy of a session's data");
				server->modules.slots[i].destroy(session->slots[i]);
				crash_leave();
			}
		}
		free(session->domain);
		free(session->claimed);
		free(session->bare);
		free(session->jid);
		free(session->show);
		free(session);
	}
}

void session_end_all(struct server *server, int code, const char *reason)
{
	struct stk_session *session, *next;
	HASH_ITER (hh, server->sessions.by_id, session, next) {
		stk_session_end(session, code, reason);
	}
}

/* ---- bind and presence ---- */

int stk_session_bind(struct stk_session *session, const char *resource)
{
	if (session->state == SESSION_BOUND) {
		return -EISCONN;
	}
	if (session->state != SESSION_LOGGED_IN) {
		return -EACCES;
	}
	struct stk_jid parts;
	char jid[STK_JID_MAX + 1];
	if (snprintf(jid, sizeof(jid), "%s/%s", session->bare, resource) >= (int)sizeof(jid) ||
	    stk_jid_parse(&parts, jid) < 0 || !parts.resource_len) {
		return -EINVAL;
	}
	struct stk_session *before = session_by_jid(session->server, jid);
	if (before) {
		stk_session_end(before, 222, "replaced");
	}
	char *copy = strdup(jid);
	struct session_user *user = copy ? get_user(session->server, session->bare) : NULL;
	if (!user) {
		free(copy);
		return -ENOMEM;
	}
	session->jid = copy;
	session->resource = copy + strlen(session->bare) + 1;
	struct stk_session **at = &user->first;
	while (*at) {
		at = &(*at)->user_next;
	}
	*at = session;
	session->user = user;
	session->state = SESSION_BOUND;
	session->bound_at = stk_now_ms();
	session->bound_due = true;
	session->server->sessions.bound++;
	session_set_deadline(session, 0);
	log_write(LOG_INFO, "session: %s: bound (%s%s)", session->jid, session->address, session->secure ? ", TLS" : "");
	return session->carrier ? 0 : loop_command(session->server->loop, COMMAND_SELF, session->id, NULL, session->jid);
}

static bool is_eligible(const struct stk_session *session)
{
	return session->available && session->priority >= 0;
}

int stk_session_set_presence(struct stk_session *session, bool available, int priority, const char *show)
{
	if (session->state != SESSION_BOUND) {
		return -ENOTCONN;
	}
	if (priority < -128 || priority > 127) {
		return -ERANGE;
	}
	char *copy = NULL;
	if (show && !(copy = strdup(show))) {
		return -ENOMEM;
	}
	if (show) {
		free(session->show);
		session->show = copy;
	}
	bool was_eligible = is_eligible(session);
	session->priority = priority;
	session->available_due |= available && !session->available;
	session->available = available;
	session->eligible_due = is_eligible(session) && (session->eligible_due || !was_eligible);
	return 0;
}

void session_run_due(struct stk_session *session)
{
	struct stk_event event = { .size = sizeof(event), .session = session };
	if (session->bound_due && session->state == SESSION_BOUND) {
		session->bound_due = false;
		event.hook = STK_SESSION_BOUND;
		module_run_hooks(session->server, &event);
	}
	if (session->available_due && session->state == SESSION_BOUND) {
		session->available_due = false;
		event.hook = STK_SESSION_AVAILABLE;
		module_run_hooks(session->server, &event);
	}
	if (session->eligible_due && session->state == SESSION_BOUND) {
		session->eligible_due = false;
		event.hook = STK_SESSION_ELIGIBLE;
		module_run_hooks(session->server, &event);
	}
}
