/* SPDX-License-Identifier: MIT */
/* Its jobs never end, and it says how long they may take. */

#include "bad.h"

#include <time.h>

static void work(struct stk_module *module, void *arg)
{
	const struct timespec wait = { .tv_sec = 1 };
	(void)arg;
	stk_log(module, LOG_NOTICE, "a job is at work");
	for (;;) {
		nanosleep(&wait, NULL);
	}
}

static void done(struct stk_module *module, int status, void *arg)
{
	(void)arg;
	stk_log(module, LOG_ERR, "done: %d", status);
}

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)session;
	(void)arg;
	int rc = stk_job(module, 0, work, done, NULL);
	return rc < 0 ? rc : stk_reply(stanza, NULL) < 0 ? -EIO : STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	int rc = stk_job_limit(module, 0.5);
	return rc < 0 ? rc : bad_answers(module, "urn:bad:never_ends", answer);
}

static void unload(struct stk_module *module)
{
	stk_log(module, LOG_NOTICE, "unload");
}

STK_MODULE(.name = "never_ends", .load = load, .unload = unload);
