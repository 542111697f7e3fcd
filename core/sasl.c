/* SPDX-License-Identifier: MIT */
/* SASL exchanges: finds the mechanism, hands it the message, and answers. Owns when a failure is told and how many are
 * allowed, so that every mechanism has the same; what a credential is worth is the module's business. */

#include "core/sasl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/router.h"
#include "core/server.h"
#include "core/transport.h"

struct stk_auth {
	struct stk_session *session;
	bool challenged;         /* the client has to say more */
	const struct mech *mech; /* NULL: none was found, or the module has ended the exchange */
	double arrived;  /* clock_now() */
	int64_t came_at; /* the same, ms since the epoch */
	struct ev_timer later; /* until a failure is told */
	char *id;              /* of the client's message, to be echoed */
	char *user;            /* who tries, once the throttle counts it */
	enum throttle_account account;
	char *reason;          /* of the failure that waits to be told */
	char address[64];      /* as the throttle counts it */
};

const char *stk_auth_domain(const struct stk_auth *auth)
{
	return auth->session->domain;
}

const char *stk_auth_address(const struct stk_auth *auth)
{
	return auth->session->address;
}

bool stk_auth_secure(const struct stk_auth *auth)
{
	return auth->session->secure;
}

static void free_auth(struct stk_auth *auth)
{
	struct server *server = auth->session->server;
	if (auth->user) {
		/* ended without a verdict: the client went away */
		throttle_end(server->throttle, &server->settings->login, auth->account, auth->user, auth->address, false, clock_now());
	}
	ev_timer_stop(server->ev, &auth->later);
	auth->session->auth = NULL;
	free(auth->id);
	free(auth->user);
	free(auth->reason);
	free(auth);
}

static struct stk_stanza *answer_stanza(int element, const char *name, const struct stk_session *session)
{
	struct stk_stanza *stanza = stanza_new(element, name, "urn:ietf:params:xml:ns:xmpp-sasl", 512);
	if (stanza) {
		stk_node_set(stanza_root(stanza), "domain", session->domain);
	}
	return stanza;
}

static void tell_failure(struct stk_session *session, const char *reason)
{
	session->state = SESSION_STREAM;
	if (session->carrier) {
		transport_tell_login(session, NULL, reason);
		return;
	}
	struct stk_stanza *stanza = answer_stanza(STANZA_FAILURE, "failure", session);
	if (stanza) {
		stk_node_set(stanza_root(stanza), "reason", reason);
	}
	router_deliver(session, stanza);
	session_go_on(session);
}

static void on_later(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)ev;
	(void)events;
	struct stk_auth *auth = timer->data;
	struct stk_session *session = auth->session;
	tell_failure(session, auth->reason ? auth->reason : "not-authorized");
	free_auth(auth);
}

/* The instant depends on the request's arrival and on earlier failures only, never on what was found wrong when. Work that
 * took longer than the delay is answered at the next multiple of it. */
static void schedule_failure(struct stk_auth *auth)
{
	struct stk_session *session = auth->session;
	struct server *server = session->server;
	const struct settings_login *login = &server->settings->login;
	double delay = login->failure_delay;
	for (unsigned i = 0; i < session->auth_failures && delay < login->failure_delay_max; i++) {
		delay *= 2;
	}
	delay = delay < login->failure_delay_max ? delay : login->failure_delay_max;
	session->auth_failures++;
	ev_now_update(server->ev);
	double at = auth->arrived + delay;
	while (delay > 0 && at < clock_now()) {
		at += delay;
	}
	double wait = at - clock_now();
	ev_timer_set(&auth->later, wait > 0 ? wait : 0, 0);
	ev_timer_start(server->ev, &auth->later);
}

bool stk_auth_allowed(struct stk_auth *auth, const char *user)
{
	struct server *server = auth->session->server;
	if (auth->user) {
		return true; /* counted already in this exchange */
	}
	char *copy = strdup(user);
	if (copy) {
		auth->account = throttle_begin(server->throttle, &server->settings->login, user, auth->address, clock_now());
	}
	if (!copy || auth->account == THROTTLE_REFUSED) {
		free(copy);
		return false;
	}
	auth->user = copy;
	return true;
}

static void end_try(struct stk_auth *auth, bool success)
{
	struct server *server = auth->session->server;
	if (auth->user) {
		throttle_end(server->throttle, &server->settings->login, auth->account, auth->user, auth->address, success, clock_now());
		free(auth->user);
		auth->user = NULL;
	}
	auth->mech = NULL;
}

void sasl_note_refusal(const struct stk_session *session, const char *user, const char *why)
{
	char bare[2 * STK_JID_PART_MAX];
	bool whole = !user || strchr(user, '@');
	int len = snprintf(bare, sizeof(bare), "%s%s%s", user ? user : session->claimed, whole ? "" : "@", whole ? "" : session->domain);
	if (len < (int)sizeof(bare)) {
		module_audit(session->server, &(struct stk_audit){ .size = sizeof(struct stk_audit), .event = "login-refused", .user = bare,
		                                                   .address = session->address, .reason = why });
		refusals_add(session->server->refusals, bare, session->address, session->secure, why, stk_now_ms());
	}
}

void stk_auth_fail(struct stk_auth *auth, const char *user, const char *reason, const char *why)
{
	struct stk_session *session = auth->session;
	log_write(LOG_WARNING, "login: %s@%s: refused: %s (%s)", user ? user : "?", session->domain, why, session->address);
	sasl_note_refusal(session, user, why);
	end_try(auth, false);
	auth->reason = strdup(reason ? reason : "not-authorized");
	schedule_failure(auth);
}

void stk_auth_limit(struct stk_module *module, const char *user, const char *address, struct stk_auth_limit *limit)
{
	const struct server *server = module->server;
	struct stk_auth_limit all;
	char counted[64] = "";
	if (!user) {
		throttle_address(address, counted, sizeof(counted));
	}
	throttle_ask(server->throttle, &server->settings->login, user, counted, clock_now(), &all);
	all.size = limit->size;
	memcpy(limit, &all, limit->size < sizeof(all) ? limit->size : sizeof(all));
}

void stk_auth_refusals(struct stk_module *module, const char *user, stk_refusal_fn *each, void *arg)
{
	refusals_each(module->server->refusals, user, each, arg);
}

static void tell_success(struct stk_session *session, const char *id, const char *user)
{
	if (session->carrier) {
		transport_tell_login(session, user, NULL);
		return;
	}
	struct stk_stanza *stanza = answer_stanza(STANZA_SUCCESS, "success", session);
	if (stanza) {
		stk_node_set(stanza_root(stanza), "id", id);
		stk_node_set(stanza_root(stanza), "user", user);
	}
	router_deliver(session, stanza);
	loop_command(session->server->loop, COMMAND_LOGIN, session->id, NULL, session->bare);
	session_go_on(session);
}

void stk_auth_succeed(struct stk_auth *auth, const char *user)
{
	struct stk_session *session = auth->session;
	if (session_log_in(session, user) < 0) {
		stk_auth_fail(auth, user, NULL, "the account's name is no JID");
		return;
	}
	end_try(auth, true);
	session->login_at = auth->came_at;
	log_write(LOG_INFO, "login: %s: ok (%s%s)", session->bare, session->address, session->secure ? ", TLS" : "");
	char *id = auth->id;
	auth->id = NULL;
	free_auth(auth);
	tell_success(session, id, user);
	free(id);
}

int stk_auth_challenge(struct stk_auth *auth, const uint8_t *out, size_t len)
{
	struct stk_session *session = auth->session;
	int rc = session->carrier ? transport_challenge(session, out, len) : -EOPNOTSUPP;
	auth->challenged = rc == 0;
	return rc;
}

static struct stk_auth *new_auth(struct stk_session *session, const char *id)
{
	struct stk_auth *auth = calloc(1, sizeof(*auth));
	if (!auth) {
		return NULL;
	}
	auth->session = session;
	auth->arrived = clock_now();
	auth->came_at = stk_now_ms();
	auth->id = strdup(id ? id : "0");
	throttle_address(session->address, auth->address, sizeof(auth->address));
	ev_timer_init(&auth->later, on_later, 0, 0);
	auth->later.data = auth;
	session->auth = auth;
	session->state = SESSION_AUTH;
	if (!auth->id) {
		free_auth(auth);
		return NULL;
	}
	return auth;
}

static void step(struct stk_auth *auth, const char *text)
{
	gnutls_datum_t in = { .data = (unsigned char *)(uintptr_t)text, .size = (unsigned)strlen(text) }, out = { 0 };
	if (!in.size || gnutls_base64_decode2(&in, &out) < 0) {
		stk_auth_fail(auth, NULL, "bad-protocol", "the message is not base64");
		return;
	}
	const struct mech *mech = auth->mech;
	double entered = module_enter(mech->module, "SASL step");
	int rc = mech->mech.step(mech->module, auth, out.data, out.size);
	module_leave(mech->module, "SASL step", entered);
	gnutls_memset(out.data, 0, out.size);
	gnutls_free(out.data);
	if (rc < 0) {
		stk_auth_fail(auth, NULL, "bad-protocol", "the message has the wrong shape");
	}
}

void sasl_start(struct stk_session *session, const struct stk_stanza *stanza)
{
	const struct stk_node *root = stk_stanza_root(stanza);
	const char *name = stk_node_attr(root, "mechanism");
	struct stk_auth *auth = new_auth(session, stk_node_attr(root, "id"));
	if (!auth) {
		stk_session_end(session, 102, "out of memory");
		return;
	}
	const struct mech *mech = name ? module_find_mech(session->server, name) : NULL;
	if (!mech) {
		stk_auth_fail(auth, NULL, "no-mechanism", "no module has the mechanism it asked for");
	} else if (mech->mech.needs_tls && !session->secure) {
		stk_auth_fail(auth, NULL, "no-mechanism", "the mechanism needs TLS");
	} else {
		auth->mech = mech;
		step(auth, stk_node_text(root));
	}
}

void sasl_continue(struct stk_session *session, const struct stk_stanza *stanza)
{
	struct stk_auth *auth = session->auth;
	if (!auth->challenged || !auth->mech) {
		return; /* out of turn */
	}
	auth->challenged = false;
	step(auth, stk_node_text(stk_stanza_root(stanza)));
}

void sasl_withdraw(struct server *server, const struct stk_module *module)
{
	struct stk_session *session, *next;
	HASH_ITER (hh, server->sessions.by_id, session, next) {
		struct stk_auth *auth = session->auth;
		const struct mech *mech = auth ? auth->mech : NULL;
		if (mech && mech->module == module) {
			if (mech->mech.abort) {
				mech->mech.abort(mech->module, auth);
			}
			stk_auth_fail(auth, auth->user, NULL, "the module that was asked is unloaded");
		}
	}
}

void sasl_abort(struct stk_session *session)
{
	struct stk_auth *auth = session->auth;
	const struct mech *mech = auth->mech;
	if (mech && mech->mech.abort) {
		mech->mech.abort(mech->module, auth);
	}
	free_auth(auth);
}
