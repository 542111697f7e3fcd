/* SPDX-License-Identifier: MIT */
/* A module for the tests: logs when its session hooks run. */

#include <stdint.h>
#include <syslog.h>

#include <startalkd/module.h>

static int tell(struct stk_module *module, const struct stk_event *event, void *arg)
{
	stk_log(module, LOG_INFO, "%s: %s, priority %d", stk_session_resource(event->session), (const char *)arg,
	        stk_session_priority(event->session));
	return STK_PASS;
}

static int load(struct stk_module *module, const void *conf)
{
	static char available[] = "available", eligible[] = "eligible";
	(void)conf;
	int rc = stk_on(module, STK_SESSION_AVAILABLE, 0, tell, available);
	return rc < 0 ? rc : stk_on(module, STK_SESSION_ELIGIBLE, 0, tell, eligible);
}

STK_MODULE(.name = "witness", .version = "1", .load = load);
