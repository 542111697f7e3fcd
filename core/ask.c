/* SPDX-License-Identifier: MIT */
/* IQ requests that modules make to clients. Owns what has been asked and not been answered; each asker is told once: the
 * answer, that the time is over, or that there will be none. */

#include "core/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/router.h"
#include "core/server.h"

struct ask {
	struct ask *next, **at;             /* of the server */
	struct ask *session_next, **session_at; /* of its session */
	struct stk_module *module;
	struct ev_timer timer;
	stk_iq_fn *fn;
	void *arg;
	char id[32];
};

static void unlink_ask(struct ask *ask)
{
	ev_timer_stop(ask->module->server->ev, &ask->timer);
	*ask->at = ask->next;
	if (ask->next) {
		ask->next->at = ask->at;
	}
	*ask->session_at = ask->session_next;
	if (ask->session_next) {
		ask->session_next->session_at = ask->session_at;
	}
}

static void finish(struct ask *ask, struct stk_stanza *answer, int status)
{
	unlink_ask(ask);
	double entered = module_enter(ask->module, "IQ answer");
	ask->fn(ask->module, answer, status, ask->arg);
	module_leave(ask->module, "IQ answer", entered);
	free(ask);
}

static void on_timeout(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)ev;
	(void)events;
	finish(timer->data, NULL, -ETIMEDOUT);
}

static void link_ask(struct ask *ask, struct server *server, struct stk_session *session)
{
	ask->next = server->asks;
	ask->at = &server->asks;
	if (ask->next) {
		ask->next->at = &ask->next;
	}
	server->asks = ask;
	ask->session_next = session->asks;
	ask->session_at = &session->asks;
	if (ask->session_next) {
		ask->session_next->session_at = &ask->session_next;
	}
	session->asks = ask;
}

/* Sends what ASK asks for. The answer comes by mail, so it is early enough to be waiting for it after that. */
static int put_question(struct ask *ask, struct stk_session *session, struct stk_stanza *request, unsigned timeout_ms)
{
	struct server *server = session->server;
	snprintf(ask->id, sizeof(ask->id), "stk-%llx", (unsigned long long)++server->ask_ids);
	stk_node_set(stk_stanza_edit(request), "id", ask->id);
	if (!stk_stanza_from(request)) {
		stk_stanza_set_from(request, session->domain);
	}
	int rc = router_deliver(session, request);
	if (rc == 0 && session->state != SESSION_BOUND) {
		rc = -ENOENT; /* a hook has ended it */
	}
	if (rc == 0) {
		link_ask(ask, server, session);
		ev_timer_init(&ask->timer, on_timeout, timeout_ms / 1000.0, 0);
		ask->timer.data = ask;
		ev_now_update(server->ev);
		ev_timer_start(server->ev, &ask->timer);
	}
	return rc;
}

int stk_iq(struct stk_module *module, struct stk_stanza *request, unsigned timeout_ms, stk_iq_fn *fn, void *arg)
{
	struct stk_session *session = NULL;
	struct ask *ask = NULL;
	int rc = 0;
	if (!request || stanza_failed(request)) {
		rc = -ENOMEM;
	} else if (!fn || !stanza_is_request(request) || !stk_stanza_to(request) || !stk_stanza_edit(request)) {
		rc = -EINVAL;
	} else if (module->state == MODULE_CLOSING) {
		rc = -ECANCELED;
	} else if (!(session = session_by_jid(module->server, stk_stanza_to(request)))) {
		rc = -ENOENT;
	} else if (!(ask = calloc(1, sizeof(*ask)))) {
		rc = -ENOMEM;
	}
	if (rc < 0) {
		stk_stanza_unref(request);
		return rc;
	}
	*ask = (struct ask){ .module = module, .fn = fn, .arg = arg };
	rc = put_question(ask, session, request, timeout_ms);
	if (rc < 0) {
		free(ask);
	}
	return rc;
}

bool ask_answered(struct stk_session *session, struct stk_stanza *answer)
{
	const char *id = stk_stanza_id(answer);
	struct ask *ask = session->asks;
	while (ask && (!id || strcmp(ask->id, id) != 0)) {
		ask = ask->session_next;
	}
	if (ask) {
		finish(ask, answer, 0);
	}
	return ask != NULL;
}

void ask_gone(struct stk_session *session)
{
	while (session->asks) {
		finish(session->asks, NULL, -ENOTCONN);
	}
}

void ask_withdraw(struct stk_module *module)
{
	struct ask *ask = module->server->asks;
	while (ask) {
		if (ask->module == module) {
			finish(ask, NULL, -ECANCELED);
			ask = module->server->asks; /* the list may be another one now */
		} else {
			ask = ask->next;
		}
	}
}
