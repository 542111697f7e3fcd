/* SPDX-License-Identifier: MIT */
/* A module for the tests: its job outlasts it, and what comes after that still names its timer and its watch. It also hears of stored
 * messages, twice. */

#include <errno.h>
#include <stdint.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <startalkd/module.h>

static struct stk_timer *timer;
static struct stk_watch *watch;
static int pipes[2];

static void tick(struct stk_module *module, void *arg)
{
	(void)arg;
	stk_log(module, LOG_INFO, "tick");
}

static void ready(struct stk_module *module, int fd, unsigned events, void *arg)
{
	(void)fd;
	(void)events;
	(void)arg;
	stk_log(module, LOG_INFO, "ready");
}

static void work(struct stk_module *module, void *arg)
{
	const struct timespec while_ = { .tv_sec = 1 };
	(void)module;
	(void)arg;
	nanosleep(&while_, NULL);
}

static void done(struct stk_module *module, int status, void *arg)
{
	(void)arg;
	stk_watch_set(watch, STK_WRITE); /* at once, were it not too late */
	stk_watch_stop(&watch);
	stk_timer_stop(&timer);
	stk_log(module, LOG_INFO, "job over, status %d, %s", status, timer || watch ? "?" : "both stopped");
}

static int stored(struct stk_module *module, const struct stk_event *event, void *arg)
{
	const struct stk_node *body = stk_node_child(stk_stanza_root(event->stanza), "body", NULL);
	stk_log(module, LOG_INFO, "%s: %s is on disk", (const char *)arg, stk_node_attr(body, "id"));
	return STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	static char first[] = "first", second[] = "second";
	(void)conf;
	timer = stk_timer(module, 3600, 0, tick, NULL);
	if (!timer || pipe(pipes) < 0) {
		return -ENOMEM;
	}
	int rc = stk_watch(module, pipes[1], 0, ready, NULL, &watch);
	rc = rc < 0 ? rc : stk_on(module, STK_STORED, 1, stored, first);
	rc = rc < 0 ? rc : stk_on(module, STK_STORED, 0, stored, second);
	return rc < 0 ? rc : stk_job(module, 0, work, done, NULL);
}

static void unload(struct stk_module *module)
{
	stk_watch_stop(&watch);
	stk_timer_stop(&timer);
	close(pipes[0]);
	close(pipes[1]);
	stk_log(module, LOG_INFO, "unload");
}

STK_MODULE(.name = "late", .version = "1", .load = load, .unload = unload);
