/* SPDX-License-Identifier: MIT */
/* A module for the tests that has one of everything that is withdrawn at unload, and takes new options by being loaded anew. */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <startalkd/module.h>

struct conf {
	const char *word;
};

struct state {
	int slot, pipe[2];
	struct stk_watch *watch;
	unsigned jobs;
};

static int mark_session(struct stk_module *module, const struct stk_event *event, void *arg)
{
	struct state *state = arg;
	(void)module;
	if (!stk_session_get(event->session, state->slot)) {
		stk_session_set(event->session, state->slot, strdup("seen"));
	}
	return STK_PASS;
}

static int look_in(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	return stk_data(module) && event->stanza ? STK_PASS : -EIO;
}

static void work(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	usleep(2000);
}

static void done(struct stk_module *module, int status, void *arg)
{
	struct state *state = arg;
	(void)module;
	(void)status;
	state->jobs--;
}

static void tick(struct stk_module *module, void *arg)
{
	struct state *state = arg;
	if (stk_job(module, 1, work, done, state) == 0) {
		state->jobs++;
	}
	ssize_t n = write(state->pipe[1], "x", 1);
	(void)n;
}

static void on_byte(struct stk_module *module, int fd, unsigned events, void *arg)
{
	char byte;
	(void)module;
	(void)events;
	(void)arg;
	ssize_t n = read(fd, &byte, 1);
	(void)n;
}

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module;
	(void)session;
	(void)arg;
	return stk_reply(stanza, NULL);
}

static int claim(struct stk_module *module, struct state *state)
{
	static const struct stk_match match = { .size = sizeof(match), .element = STK_IQ, .type = "get", .xmlns = "urn:example:echo" };
	static const int table = 1;
	int rc = stk_handle(module, &match, answer, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_SESSION_AVAILABLE, 0, mark_session, state);
	rc = rc < 0 ? rc : stk_on(module, STK_STANZA_IN, 0, look_in, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_STANZA_OUT, 0, look_in, NULL);
	rc = rc < 0 ? rc : stk_provide(module, "echo", 1, 0, &table);
	rc = rc < 0 ? rc : stk_watch(module, state->pipe[0], STK_READ, on_byte, NULL, &state->watch);
	return rc < 0 || stk_timer(module, 0.01, 0.01, tick, state) ? rc : -ENOMEM;
}

static int load(struct stk_module *module, const void *conf)
{
	struct state *state = calloc(1, sizeof(*state));
	(void)conf;
	if (!state || pipe(state->pipe) < 0) {
		free(state);
		return -ENOMEM;
	}
	stk_set_data(module, state);
	state->slot = stk_session_slot(module, free);
	return state->slot < 0 ? state->slot : claim(module, state);
}

static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	if (state->jobs) {
		abort(); /* every done has to come before this */
	}
	stk_watch_stop(&state->watch);
	close(state->pipe[0]);
	close(state->pipe[1]);
	free(state);
}

static const struct stk_option options[] = {
	{ "word", STK_OPT_STR, offsetof(struct conf, word), "word", 0, 0, "says nothing", NULL },
	{ 0 },
};

STK_MODULE(.name = "echo", .version = "1", .options = options, .conf_size = sizeof(struct conf), .load = load, .unload = unload);
