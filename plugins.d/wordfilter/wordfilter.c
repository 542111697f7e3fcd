/* SPDX-License-Identifier: MIT */
/* Looks for words of a list in what people write, and refuses such messages or masks the words. Owns which messages are
 * looked at and what becomes of them; what a word is, is in words.c. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include <startalkd/module.h>

#include "words.h"

#define PRIORITY 500 /* before others that look at the text */

enum action { REFUSE, MASK };
static const char *const actions[] = { "refuse", "mask", NULL };

struct conf {
	const char *words, *reason;
	int action;
	const char *const *types;
	double look_every;
};

static const struct stk_option options[] = {
	{ "words", STK_OPT_PATH, offsetof(struct conf, words), NULL, 1, 3000, "The file with the words, one a line",
	  NULL },
	{ "action", STK_OPT_ENUM, offsetof(struct conf, action), "refuse", 0, 0,
	  "Send such a message back, or put *** in the place of the words", actions },
	{ "reason", STK_OPT_STR, offsetof(struct conf, reason), "This message has words that are not allowed here", 1,
	  200, "The text of a message that is sent back", NULL },
	{ "types", STK_OPT_LIST, offsetof(struct conf, types),
	  "chat, groupchat, consult, typing, headline, subscription", 1, 20, "The types of messages that are looked at",
	  NULL },
	{ "look-every", STK_OPT_SECONDS, offsetof(struct conf, look_every), "5s", 100, 86400000,
	  "How often to look whether the file has changed", NULL },
	{ 0 },
};

struct state {
	const struct conf *conf;
	struct words *words;
	struct timespec changed; /* the file, when it was read */
	struct stk_timer *timer;
	bool looking; /* a job is under way */
	struct stk_metric *refused, *masked;
};

/* ---- messages ---- */

static bool is_listed(const char *const *list, const char *name)
{
	while (*list && (!name || strcmp(*list, name) != 0)) {
		list++;
	}
	return *list != NULL;
}

/* Messages of other kinds than text are data for a program, often JSON, in which *** might be anything. */
static bool is_text(const struct stk_node *body)
{
	const char *kind = stk_node_attr(body, "msgType");
	return !kind || strcmp(kind, "0") == 0 || strcmp(kind, "1") == 0;
}

/* An error as the server's own, but for its text: what was written does not come back. */
static int refuse(struct stk_session *session, const struct stk_stanza *message, const char *reason)
{
	struct stk_stanza *error = stk_stanza_new(STK_MESSAGE, "error", NULL);
	struct stk_node *root = stk_stanza_edit(error), *body = stk_node_add(root, "body", NULL);
	const struct stk_node *old = stk_node_child(stk_stanza_root(message), "body", NULL);
	stk_stanza_set_from(error, stk_stanza_to(message));
	stk_stanza_set_to(error, stk_session_bare(session));
	stk_node_set(root, "msec_times", stk_node_attr(stk_stanza_root(message), "msec_times"));
	stk_node_set(body, "id", stk_node_attr(old, "id"));
	stk_node_set(body, "msgType", "1");
	stk_node_set_text(body, reason);
	stk_node_set(stk_node_add(root, "error", NULL), "code", "403");
	if (error) {
		stk_send_to(session, error);
	}
	return error ? STK_DONE : -EACCES; /* the server's own error */
}

static int on_message(struct stk_module *module, const struct stk_event *event, void *arg)
{
	struct state *state = arg;
	const struct stk_stanza *message = event->stanza;
	const struct stk_node *body = stk_node_child(stk_stanza_root(message), "body", NULL);
	const char *text = stk_node_text(body), *id = stk_node_attr(body, "id");
	if (stk_stanza_element(message) != STK_MESSAGE || !text ||
	    !is_listed(state->conf->types, stk_stanza_type(message))) {
		return STK_PASS;
	}
	bool mask = state->conf->action == MASK && is_text(body);
	char *masked = NULL;
	size_t count = words_find(state->words, text, mask ? &masked : NULL);
	if (!count) {
		return STK_PASS;
	}
	stk_log(module, LOG_INFO, "%s: message %s has %zu of the words: %s", stk_session_jid(event->session),
		id ? id : "-", count, masked ? "masked" : "refused");
	if (masked) {
		/* In this hook a stanza may be changed, so its body may. */
		stk_node_set_text((struct stk_node *)(uintptr_t)body, masked);
		free(masked);
		stk_metric_add(state->masked, 1);
		return STK_PASS;
	}
	stk_metric_add(state->refused, 1);
	return refuse(event->session, message, state->conf->reason);
}

/* ---- the file ---- */

/* Reads a file that has changed, on a worker: a disk may be slow. */
struct look {
	const char *path; /* of a configuration, which lives while a job is under way */
	struct timespec changed;
	struct words *words; /* NULL: it has not changed, or ERR says what is wrong */
	char err[512];
};

static void look_at_file(struct stk_module *module, void *arg)
{
	struct look *look = arg;
	struct stat st;
	(void)module;
	if (stat(look->path, &st) < 0) {
		snprintf(look->err, sizeof(look->err), "words: %s: %s", look->path, strerror(errno));
		look->changed = (struct timespec){ 0 }; /* told once */
	} else if (st.st_mtim.tv_sec != look->changed.tv_sec || st.st_mtim.tv_nsec != look->changed.tv_nsec) {
		look->changed = st.st_mtim;
		look->words = words_read(look->path, look->err, sizeof(look->err));
	}
}

/* A faulty file changes nothing: the words that are in use stay. */
static void on_looked(struct stk_module *module, int status, void *arg)
{
	struct state *state = stk_data(module);
	struct look *look = arg;
	bool changed = look->changed.tv_sec != state->changed.tv_sec || look->changed.tv_nsec != state->changed.tv_nsec;
	state->looking = false;
	if (status == 0 && changed && look->path == state->conf->words) {
		state->changed = look->changed;
		if (look->words) {
			words_free(state->words);
			state->words = look->words;
			look->words = NULL;
			stk_log(module, LOG_NOTICE, "%s: was read anew", look->path);
		} else {
			stk_log(module, LOG_ERR, "%s; the words in use stay", look->err);
		}
	}
	words_free(look->words);
	free(look);
}

static void on_timer(struct stk_module *module, void *arg)
{
	struct state *state = arg;
	struct look *look = state->looking ? NULL : calloc(1, sizeof(*look));
	if (look) {
		look->path = state->conf->words;
		look->changed = state->changed;
		state->looking = stk_job(module, 0, look_at_file, on_looked, look) == 0;
		if (!state->looking) {
			free(look); /* the next time will do */
		}
	}
}

/* ---- life ---- */

static int check(const void *arg, char *err, size_t errlen)
{
	const struct conf *conf = arg;
	static const char *const sealed[] = { "encrypt", "webrtc", "readmark", "revoke", NULL };
	for (const char *const *type = conf->types; *type; type++) {
		if (is_listed(sealed, *type)) {
			snprintf(err, errlen, "types: the text of messages of type '%s' is not what somebody wrote",
				 *type);
			return -EINVAL;
		}
	}
	struct words *words = words_read(conf->words, err, errlen);
	words_free(words);
	return words ? 0 : -EINVAL;
}

/* Takes CONF, its words and the rhythm of looking. An error leaves everything as it was. */
static int use(struct stk_module *module, struct state *state, const struct conf *conf)
{
	char err[512];
	struct stat st = { 0 };
	(void)stat(conf->words, &st); /* before reading: what is written meanwhile is seen the next time */
	struct words *words = words_read(conf->words, err, sizeof(err));
	struct stk_timer *timer = words ? stk_timer(module, conf->look_every, conf->look_every, on_timer, state) : NULL;
	if (!timer) {
		stk_log(module, LOG_ERR, "%s", words ? "out of memory" : err);
		words_free(words);
		return words ? -ENOMEM : -EINVAL;
	}
	words_free(state->words);
	stk_timer_stop(&state->timer);
	*state = (struct state){ .conf = conf,
				 .words = words,
				 .timer = timer,
				 .changed = st.st_mtim,
				 .looking = state->looking,
				 .refused = state->refused,
				 .masked = state->masked };
	return 0;
}

static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	words_free(state->words);
	free(state);
}

static int load(struct stk_module *module, const void *conf)
{
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	stk_set_data(module, state);
	state->refused = stk_metric(module, "refused", "Messages that were sent back");
	state->masked = stk_metric(module, "masked", "Messages that went on with words masked");
	int rc = use(module, state, conf);
	rc = rc < 0 ? rc : stk_on(module, STK_STANZA_IN, PRIORITY, on_message, state);
	if (rc < 0) { /* unload() is only called after a load that succeeded */
		words_free(state->words);
		free(state);
	}
	return rc;
}

static int reload(struct stk_module *module, const void *conf)
{
	return use(module, stk_data(module), conf);
}

STK_MODULE(.name = "wordfilter", .version = "1.0", .options = options, .conf_size = sizeof(struct conf), .check = check,
	   .load = load, .reload = reload, .unload = unload);
