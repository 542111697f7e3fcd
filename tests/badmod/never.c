/* SPDX-License-Identifier: MIT */
/* Defers its answers and never gives them. */

#include "bad.h"

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module;
	(void)session;
	(void)arg;
	return stk_defer(stanza, 200) ? STK_LATER : -ENOMEM;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:never", answer);
}

STK_MODULE(.name = "never", .load = load);
