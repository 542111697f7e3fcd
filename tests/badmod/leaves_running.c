/* SPDX-License-Identifier: MIT */
/* Stops neither its timer nor its watch. */

#include "bad.h"

#include <unistd.h>

static int ends[2] = { -1, -1 };
static unsigned ticks, reads;

static void on_timer(struct stk_module *module, void *arg)
{
	(void)arg;
	if (ticks++ == 0) {
		stk_log(module, LOG_NOTICE, "ticks");
	}
}

static void on_read(struct stk_module *module, int fd, unsigned events, void *arg)
{
	char byte;
	(void)events;
	(void)arg;
	if (read(fd, &byte, 1) == 1 && write(ends[1], "x", 1) == 1 && reads++ == 0) {
		stk_log(module, LOG_NOTICE, "reads");
	}
}

static int load(struct stk_module *module, const void *conf)
{
	struct stk_watch *watch;
	(void)conf;
	if (pipe(ends) < 0 || write(ends[1], "x", 1) != 1) {
		return -EIO;
	}
	int rc = stk_watch(module, ends[0], STK_READ, on_read, NULL, &watch);
	return rc < 0 ? rc : stk_timer(module, 0, 0.005, on_timer, NULL) ? 0 : -ENOMEM;
}

static void unload(struct stk_module *module)
{
	stk_log(module, LOG_NOTICE, "unload after %s ticks and %s reads", ticks ? "some" : "no", reads ? "some" : "no");
	close(ends[0]);
	close(ends[1]);
	ticks = reads = 0;
}

STK_MODULE(.name = "leaves_running", .load = load, .unload = unload);
