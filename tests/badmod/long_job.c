/* SPDX-License-Identifier: MIT */
/* Its jobs take their time, and it asks for more of them when it is told to go. */

#include "bad.h"

#include <time.h>

static void work(struct stk_module *module, void *arg)
{
	const struct timespec wait = { .tv_sec = 1 };
	stk_log(module, LOG_NOTICE, "job %s is at work", (const char *)arg);
	nanosleep(&wait, NULL);
}

static void done(struct stk_module *module, int status, void *arg)
{
	stk_log(module, LOG_NOTICE, "job %s: %d, another: %d", (const char *)arg, status, stk_job(module, 1, work, NULL, arg));
}

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	static char first[] = "one", second[] = "two";
	(void)session;
	(void)arg;
	int rc = stk_job(module, 1, work, done, first);
	rc = rc < 0 ? rc : stk_job(module, 1, work, done, second);
	return rc < 0 ? rc : stk_reply(stanza, NULL) < 0 ? -EIO : STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:long_job", answer);
}

static void unload(struct stk_module *module)
{
	stk_log(module, LOG_NOTICE, "unload");
}

STK_MODULE(.name = "long_job", .load = load, .unload = unload);
