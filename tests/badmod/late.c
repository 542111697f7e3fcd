/* SPDX-License-Identifier: MIT */
/* Gives a deferred answer when its time is over. */

#include "bad.h"

static void on_timer(struct stk_module *module, void *arg)
{
	stk_log(module, LOG_NOTICE, "resumed: %d", stk_resume(arg, NULL, 0));
}

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)session;
	(void)arg;
	struct stk_pending *pending = stk_defer(stanza, 100);
	return pending && stk_timer(module, 0.4, 0, on_timer, pending) ? STK_LATER : -ENOMEM;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:late", answer);
}

STK_MODULE(.name = "late", .load = load);
