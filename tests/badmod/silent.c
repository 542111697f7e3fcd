/* SPDX-License-Identifier: MIT */
/* Takes requests and answers nothing. */

#include "bad.h"

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module;
	(void)session;
	(void)stanza;
	(void)arg;
	return STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:silent", answer);
}

STK_MODULE(.name = "silent", .load = load);
