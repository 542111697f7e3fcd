/* SPDX-License-Identifier: MIT */
/* Dies where its option says. */

#include "bad.h"

#include <signal.h>
#include <stdlib.h>

struct conf {
	int where, how;
};

static const char *const places[] = { "check", "load", "handler", "hook", "timer", "job", "post", "unload", "nowhere", NULL };
static const char *const ways[] = { "segv", "abort", "fpe", "deep", NULL };
enum { CHECK, LOAD, HANDLER, HOOK, TIMER, JOB, POST, UNLOAD };
enum { SEGV, ABORT, FPE, DEEP };

static const struct stk_option options[] = {
	{ "where", STK_OPT_ENUM, offsetof(struct conf, where), "nowhere", 0, 0, "Where", places },
	{ "how", STK_OPT_ENUM, offsetof(struct conf, how), "segv", 0, 0, "How", ways },
	{ 0 },
};

static struct conf now;

static unsigned dig(unsigned depth)
{
	volatile char page[4096];
	page[depth % sizeof(page)] = (char)depth;
	return depth == 0 ? 0 : dig(depth - 1) + (unsigned char)page[depth % sizeof(page)];
}

static void die(int where)
{
	volatile int *volatile nothing = NULL;
	if (now.where != where) {
		return;
	}
	switch (now.how) {
	case SEGV: *nothing = 1; break;
	case ABORT: abort();
	case FPE: raise(SIGFPE); break;
	case DEEP: (void)dig(1000000); break;
	}
}

static int check(const void *conf, char *err, size_t errlen)
{
	(void)err;
	(void)errlen;
	now = *(const struct conf *)conf;
	die(CHECK);
	return 0;
}

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module;
	(void)session;
	(void)arg;
	die(HANDLER);
	return stk_reply(stanza, NULL) < 0 ? -EIO : STK_DONE;
}

static int on_bound(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)module;
	(void)event;
	(void)arg;
	die(HOOK);
	return STK_PASS;
}

static void on_timer(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	die(TIMER);
}

static void work(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	die(JOB);
}

static void on_post(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	die(POST);
}

static int load(struct stk_module *module, const void *conf)
{
	now = *(const struct conf *)conf;
	die(LOAD);
	int rc = bad_answers(module, "urn:bad:crash", answer);
	rc = rc < 0 ? rc : stk_on(module, STK_SESSION_BOUND, 0, on_bound, NULL);
	rc = rc < 0 || now.where != JOB ? rc : stk_job(module, 0, work, NULL, NULL);
	rc = rc < 0 || now.where != POST ? rc : stk_post(module, on_post, NULL);
	return rc < 0 || now.where != TIMER ? rc : stk_timer(module, 0, 0, on_timer, NULL) ? 0 : -ENOMEM;
}

static void unload(struct stk_module *module)
{
	(void)module;
	die(UNLOAD);
}

STK_MODULE(.name = "crash", .options = options, .conf_size = sizeof(struct conf), .check = check, .load = load, .unload = unload);
