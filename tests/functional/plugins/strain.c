/* SPDX-License-Identifier: MIT */
/* A module for the tests: does to the server what bad or busy modules do, at the word of its command. Its jobs use static
 * memory, so that those that are written off leave no leak for a sanitizer to find. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <startalkd/module.h>
#include <startalkd/service.h>

#define STRAIN "urn:test:strain"

struct conf {
	double job_limit;
	bool slow_hook, resume;
};

static const struct stk_option options[] = {
	{ "job-limit", STK_OPT_SECONDS, offsetof(struct conf, job_limit), "0", 0, 60000, "Of its jobs", NULL },
	{ "slow-hook", STK_OPT_BOOL, offsetof(struct conf, slow_hook), "off", 0, 0, "Keeps every answer for 80 ms", NULL },
	{ "resume", STK_OPT_BOOL, offsetof(struct conf, resume), "off", 0, 0, "Resumes deferred requests in unload()", NULL },
	{ 0 },
};

/* What a hanging job has, all its own: it may still run when the module was unloaded and loaded anew. */
struct hanging {
	char gate[4096]; /* the file that it waits for */
	struct stk_metric *back;
	bool used;
};

static struct hanging slots[64];

static struct {
	struct stk_metric *asked, *held, *back;
	struct stk_service *answers;
	struct stk_pending *pending[16];
	int count;
	bool resume;
} state;

static void rest(long ms)
{
	const struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	nanosleep(&time, NULL);
}

/* ---- jobs ---- */

static void posted(struct stk_module *module, void *arg)
{
	(void)arg;
	stk_log(module, LOG_INFO, "the post of a late job");
}

static void hang(struct stk_module *module, void *arg)
{
	struct hanging *hanging = arg;
	stk_log(module, LOG_INFO, "hanging is at work");
	while (access(hanging->gate, F_OK) < 0) {
		rest(5);
	}
	int rc = stk_post(module, posted, NULL);
	stk_metric_add(hanging->back, 1);
	stk_log(module, LOG_INFO, "a hanging job is back, its post: %s", rc == 0 ? "taken" : strerror(-rc));
}

static int hang_writing(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	(void)db;
	const struct hanging *hanging = arg;
	stk_log(module, LOG_INFO, "hanging is at work");
	while (access(hanging->gate, F_OK) < 0) {
		rest(5);
	}
	return 0;
}

static void pass(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
}

static void quick_done(struct stk_module *module, int status, void *arg)
{
	(void)arg;
	stk_log(module, LOG_INFO, "quick is done: %d", status);
}

static void hang_done(struct stk_module *module, int status, void *arg)
{
	struct hanging *hanging = arg;
	hanging->used = false;
	stk_log(module, LOG_INFO, "hanging is done: %d", status);
}

/* KEY 0: in a write. */
static int start_hanging(struct stk_module *module, uint64_t key)
{
	struct hanging *hanging = slots;
	while (hanging < slots + 64 && hanging->used) {
		hanging++;
	}
	if (hanging == slots + 64) {
		return -ENOBUFS;
	}
	snprintf(hanging->gate, sizeof(hanging->gate), "%s/gate", stk_state_dir(module));
	hanging->back = state.back;
	int rc = key ? stk_job(module, key, hang, hang_done, hanging) : stk_db_write(module, "strain.db", hang_writing, hang_done, hanging);
	hanging->used = rc == 0;
	return rc;
}

/* ---- the router thread ---- */

static void slow(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	rest(80);
}

static int on_out(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)module;
	(void)arg;
	if (stk_stanza_element(event->stanza) == STK_IQ) {
		rest(80);
	}
	return STK_PASS;
}

static int on_iq(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module;
	(void)session;
	(void)arg;
	struct stk_pending *pending = state.count < 16 ? stk_defer(stanza, 60000) : NULL;
	if (!pending) {
		return -EBUSY;
	}
	state.pending[state.count++] = pending;
	stk_metric_add(state.asked, 1);
	stk_metric_set(state.held, state.count);
	return STK_LATER;
}

static bool is(const char *args, const char *what)
{
	char text[64];
	snprintf(text, sizeof(text), "\"do\":\"%s\"", what);
	return strstr(args, text) != NULL;
}

static void flood(struct stk_module *module, char *text, size_t size)
{
	int rc = 0, count = 0;
	while (rc == 0) {
		rc = start_hanging(module, 9);
		count += rc == 0;
	}
	snprintf(text, size, "{\"text\":\"%d jobs, then %s\"}", count, rc == -EAGAIN ? "-EAGAIN" : strerror(-rc));
}

static void run(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	char text[256] = "{\"text\":\"ok\"}";
	int rc = 0;
	const struct stk_answers *answers = stk_service(state.answers, NULL);
	if (is(args, "hang")) {
		rc = start_hanging(module, 7);
	} else if (is(args, "hang-writing")) {
		rc = start_hanging(module, 0);
	} else if (is(args, "quick")) {
		rc = stk_job(module, 7, pass, quick_done, NULL);
	} else if (is(args, "slow")) {
		rc = stk_timer(module, 0, 0, slow, NULL) ? 0 : -ENOMEM;
	} else if (is(args, "flood")) {
		flood(module, text, sizeof(text));
	} else if (is(args, "talk")) {
		stk_log(module, LOG_DEBUG, "a word of debug");
		stk_log(module, LOG_WARNING, "a word of warning");
	}
	answers->line(answer, text);
	answers->end(answer, rc < 0 ? strerror(-rc) : NULL);
}

/* ---- life ---- */

static int load(struct stk_module *module, const void *arg)
{
	static const struct stk_command command = { sizeof(command), "strain WHAT", "Strains the server.", run };
	const struct conf *conf = arg;
	struct stk_match match = { .size = sizeof(match), .element = STK_IQ, .xmlns = STRAIN };
	state.resume = conf->resume;
	state.answers = stk_use(module, "answers", 1, 0);
	state.asked = stk_metric(module, "asked", "Requests so far");
	state.held = stk_metric(module, "held", "Requests without an answer");
	state.back = stk_metric(module, "back", "Jobs that came back");
	if (stk_metric(module, "asked", "Twice") || stk_metric(module, "Not-A-Name", "Wrong") || stk_metric(module, "", NULL) ||
	    stk_job_limit(module, -1) != -EINVAL) {
		return -EINVAL;
	}
	int rc = stk_job_limit(module, conf->job_limit);
	rc = rc < 0 ? rc : stk_handle(module, &match, on_iq, NULL);
	rc = rc < 0 || !conf->slow_hook ? rc : stk_on(module, STK_STANZA_OUT, 0, on_out, NULL);
	stk_log(module, LOG_DEBUG, "loading");
	return rc < 0 ? rc : stk_provide(module, "command:strain", 1, 0, &command);
}

static void unload(struct stk_module *module)
{
	while (state.resume && state.count) {
		int rc = stk_resume(state.pending[--state.count], NULL, 0);
		stk_log(module, LOG_INFO, "resumed late: %s", strerror(-rc));
	}
	state.count = 0;
}

STK_MODULE(.name = "strain", .version = "1", .options = options, .conf_size = sizeof(struct conf), .load = load, .unload = unload);
