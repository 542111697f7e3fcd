/* SPDX-License-Identifier: MIT */
/* Deferred answers: a token stands for one request of one connection. It is good for one answer; past its time, or
 * without its session, that answer goes nowhere and says so. */

#include "core/pending.h"

#include <errno.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/router.h"
#include "core/server.h"

struct stk_pending {
	struct stk_pending *next, **at; /* of its module */
	struct stk_module *module;
	struct stk_stanza *request;
	struct ev_timer timer;
	bool late;
};

static void free_pending(struct stk_pending *pending)
{
	ev_timer_stop(pending->module->server->ev, &pending->timer);
	*pending->at = pending->next;
	if (pending->next) {
		pending->next->at = pending->at;
	}
	stk_stanza_unref(pending->request);
	free(pending);
}

/* The token stays: its module still holds it and will hear -ECANCELED. */
static void on_timeout(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)ev;
	(void)events;
	struct stk_pending *pending = timer->data;
	pending->late = true;
	module_log(pending->module, LOG_WARNING, "a deferred request got no answer in time");
	router_fail(pending->request, -ETIMEDOUT);
}

struct stk_pending *stk_defer(struct stk_stanza *request, unsigned timeout_ms)
{
	struct request *context = stanza_context(request);
	if (!context || !context->module || context->answered || context->deferred) {
		return NULL;
	}
	struct stk_pending *pending = calloc(1, sizeof(*pending));
	if (!pending) {
		return NULL;
	}
	struct stk_module *module = context->module;
	*pending = (struct stk_pending){ .next = module->pendings, .at = &module->pendings, .module = module };
	if (module->pendings) {
		module->pendings->at = &pending->next;
	}
	module->pendings = pending;
	pending->request = stk_stanza_ref(request);
	ev_timer_init(&pending->timer, on_timeout, timeout_ms / 1000.0, 0);
	pending->timer.data = pending;
	ev_timer_start(module->server->ev, &pending->timer);
	context->deferred = true;
	return pending;
}

int stk_resume(struct stk_pending *pending, struct stk_stanza *answer, int status)
{
	struct stk_stanza *request = stk_stanza_ref(pending->request);
	bool late = pending->late;
	free_pending(pending);
	int rc = -ECANCELED;
	if (late) {
		stk_stanza_unref(answer);
	} else if (!answer && status < 0) {
		rc = router_fail(request, status);
	} else {
		rc = stk_reply(request, answer);
	}
	stk_stanza_unref(request);
	return rc;
}

void pending_cancel(struct stk_module *module)
{
	for (struct stk_pending *pending = module->pendings; pending; pending = pending->next) {
		ev_timer_stop(module->server->ev, &pending->timer);
		if (!pending->late) {
			pending->late = true;
			router_fail(pending->request, -ECANCELED);
		}
	}
}

unsigned pending_free(struct stk_module *module)
{
	unsigned count = 0;
	while (module->pendings) {
		free_pending(module->pendings);
		count++;
	}
	return count;
}
