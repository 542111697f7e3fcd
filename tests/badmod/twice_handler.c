/* SPDX-License-Identifier: MIT */
/* Wants what the module ping has. */

#include "bad.h"

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module;
	(void)session;
	(void)stanza;
	(void)arg;
	return STK_PASS;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:xmpp:ping", answer);
}

STK_MODULE(.name = "twice_handler", .load = load);
