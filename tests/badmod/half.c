/* SPDX-License-Identifier: MIT */
/* Claims and starts everything, and fails then. */

#include "bad.h"

#include <startalkd/service.h>

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)session;
	(void)arg;
	stk_log(module, LOG_ERR, "its handler runs");
	return stk_reply(stanza, NULL) < 0 ? -EIO : STK_DONE;
}

static int on_stanza(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)event;
	(void)arg;
	stk_log(module, LOG_ERR, "its hook runs");
	return -EACCES;
}

static void on_timer(struct stk_module *module, void *arg)
{
	(void)arg;
	stk_log(module, LOG_ERR, "its timer runs");
}

static void run_command(struct stk_module *module, const char *args, struct stk_answer *answered)
{
	(void)args;
	(void)answered;
	stk_log(module, LOG_ERR, "its command runs");
}

static int step(struct stk_module *module, struct stk_auth *auth, const uint8_t *in, size_t len)
{
	(void)in;
	(void)len;
	stk_log(module, LOG_ERR, "its mechanism runs");
	stk_auth_succeed(auth, "alice");
	return 0;
}

static void destroy(void *data)
{
	(void)data;
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_command command = { sizeof(command), "half", "Half of a command.", run_command };
	const struct stk_mech mech = { .size = sizeof(mech), .name = "HALF", .step = step };
	(void)conf;
	int rc = bad_answers(module, "urn:bad:half", answer);
	rc = rc < 0 ? rc : stk_on(module, STK_STANZA_IN, 0, on_stanza, NULL);
	rc = rc < 0 ? rc : stk_provide(module, "command:half", 1, 0, &command);
	rc = rc < 0 ? rc : stk_mech(module, &mech);
	rc = rc < 0 ? rc : stk_session_slot(module, destroy);
	if (rc < 0 || !stk_timer(module, 0, 0.01, on_timer, NULL)) {
		stk_log(module, LOG_ERR, "it has not come half-way");
	}
	return -EIO;
}

STK_MODULE(.name = "half", .load = load);
