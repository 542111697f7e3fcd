/* SPDX-License-Identifier: MIT */
/* Says that it answers later, and has not deferred. */

#include "bad.h"

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module;
	(void)session;
	(void)stanza;
	(void)arg;
	return STK_LATER;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:later_without", answer);
}

STK_MODULE(.name = "later_without", .load = load);
