/* SPDX-License-Identifier: MIT */
/* Answers twice. */

#include "bad.h"

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)session;
	(void)arg;
	int first = stk_reply(stanza, NULL), second = stk_reply(stanza, NULL);
	stk_log(module, LOG_NOTICE, "first %d, second %d, deferred %s", first, second, stk_defer(stanza, 10) ? "too" : "not");
	return -EACCES;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:twice_answer", answer);
}

STK_MODULE(.name = "twice_answer", .load = load);
