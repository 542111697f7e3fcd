/* SPDX-License-Identifier: MIT */
/* Keeps the router waiting in its handler. */

#include "bad.h"

#include <time.h>

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	const struct timespec wait = { .tv_nsec = 120000000 };
	(void)module;
	(void)session;
	(void)arg;
	nanosleep(&wait, NULL);
	return stk_reply(stanza, NULL) < 0 ? -EIO : STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:slow", answer);
}

STK_MODULE(.name = "slow", .load = load);
