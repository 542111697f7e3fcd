/* SPDX-License-Identifier: MIT */
/* Has a global function of the same name as another module has. */

#include "bad.h"

const char *who_is_it(void);

const char *who_is_it(void)
{
	return "a";
}

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)session;
	(void)arg;
	stk_log(module, LOG_NOTICE, "it is %s", who_is_it());
	return stk_reply(stanza, NULL) < 0 ? -EIO : STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:clash_a", answer);
}

STK_MODULE(.name = "clash_a", .load = load);
