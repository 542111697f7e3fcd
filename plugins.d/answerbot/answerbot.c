/* SPDX-License-Identifier: MIT */
/* A bot that counts primes: it answers messages to its account, and an IQ in urn:example:primes. Owns what is answered
 * and how, not how much a user may ask at a time (quota.c); the account itself is an ordinary one, and what is written
 * to it is kept and confirmed by the server like any other message. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <startalkd/module.h>

#include "quota.h"

#define PRIMES "urn:example:primes"
#define LAST (-1000)     /* the hook's priority: filters have had their say, and the message has its time */
#define TIMEOUT_MS 60000 /* of an IQ */

struct conf {
	const char *jid;
	int64_t most, jobs;
};

static const struct stk_option options[] = {
	{ "jid", STK_OPT_STR, offsetof(struct conf, jid), NULL, 3, STK_JID_MAX, "The bot's account, which must exist",
	  NULL },
	{ "most", STK_OPT_INT, offsetof(struct conf, most), "10000000", 2, 100000000, "Up to which number it counts",
	  NULL },
	{ "jobs-per-user", STK_OPT_INT, offsetof(struct conf, jobs), "2", 1, 100,
	  "How many questions of a user it works on at a time", NULL },
	{ 0 },
};

struct state {
	const struct conf *conf;
	struct quota *quotas; /* of users with jobs under way */
};

/* A question. What a worker reads or writes is its own; nothing here is a session's. */
struct task {
	struct quota *quota;         /* NULL: it takes no job */
	struct stk_pending *pending; /* of an IQ; NULL: a message */
	struct stk_stanza *answer;   /* without the number */
	uint32_t below, count;
	int status;
};

/* ---- the work ---- */

/* On a worker: no session, no stanza, nothing of the module's state. */
static void work(struct stk_module *module, void *arg)
{
	struct task *task = arg;
	uint8_t *sieve = calloc(task->below, 1); /* not 0: no prime */
	(void)module;
	if (!sieve) {
		task->status = -ENOMEM;
		return;
	}
	for (uint64_t i = 2; i < task->below; i++) {
		task->count += !sieve[i];
		for (uint64_t j = i * i; !sieve[i] && j < task->below; j += i) {
			sieve[j] = 1;
		}
	}
	free(sieve);
}

static void free_task(struct state *state, struct task *task)
{
	quota_end(&state->quotas, task->quota);
	stk_stanza_unref(task->answer);
	free(task);
}

static const char *say(const struct conf *conf, const struct task *task, char *out, size_t size)
{
	switch (task->status) {
	case 0: snprintf(out, size, "%u primes below %u", task->count, task->below); break;
	case -EINVAL: snprintf(out, size, "Send me a number from 2 to %lld", (long long)conf->most); break;
	case -EDQUOT: snprintf(out, size, "One thing after the other, please"); break;
	case -ECANCELED: snprintf(out, size, "I have to go, ask again later"); break;
	default: snprintf(out, size, "I am too busy, ask again later"); break;
	}
	return out;
}

/* Sends what TASK came to, and frees it. */
static void answer(struct stk_module *module, void *arg)
{
	struct task *task = arg;
	struct state *state = stk_data(module);
	char text[64];
	/* The stanza is not sent yet, so what is in it may be changed. */
	struct stk_node *payload = (struct stk_node *)(uintptr_t)stk_stanza_payload(task->answer);
	stk_node_set_text(payload, say(state->conf, task, text, sizeof(text)));
	if (task->pending) {
		stk_resume(task->pending, task->status < 0 ? NULL : stk_stanza_ref(task->answer), task->status);
	} else {
		int rc = stk_send(module, stk_stanza_ref(task->answer));
		if (rc < 0) {
			stk_log(module, LOG_WARNING, "an answer does not arrive: %s", strerror(-rc));
		}
	}
	free_task(state, task);
}

/* On the router's thread again. STATUS below 0: the job did not run, since the module is being unloaded; the server
 * answers IQs then. */
static void done(struct stk_module *module, int status, void *arg)
{
	struct task *task = arg;
	task->status = status < 0 ? status : task->status;
	answer(module, task);
}

/* Takes TASK when it returns 0. Else -EDQUOT: SESSION's user asks too much at a time, -EAGAIN: the server has too much
 * to do, -ENOMEM. */
static int start(struct stk_module *module, struct stk_session *session, struct task *task)
{
	struct state *state = stk_data(module);
	int rc = quota_begin(&state->quotas, stk_session_bare(session), state->conf->jobs, &task->quota);
	return rc < 0 ? rc : stk_job(module, 0, work, done, task);
}

/* A number from 2 to what is allowed, or 0. */
static uint32_t read_number(const struct conf *conf, const char *text)
{
	char *end;
	errno = 0;
	unsigned long long number = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
	return number >= 2 && !errno && !*end && number <= (unsigned long long)conf->most ? (uint32_t)number : 0;
}

/* ---- IQ ---- */

static int on_iq(struct stk_module *module, struct stk_session *session, struct stk_stanza *request, void *arg)
{
	struct state *state = arg;
	const char *below = stk_node_attr(stk_stanza_payload(request), "value");
	struct task *task = calloc(1, sizeof(*task));
	if (!task) {
		return -ENOMEM;
	}
	task->below = read_number(state->conf, below);
	task->answer = task->below ? stk_stanza_result(request) : NULL;
	stk_node_add(stk_stanza_edit(task->answer), "primes", PRIMES);
	task->pending = task->answer ? stk_defer(request, TIMEOUT_MS) : NULL;
	if (!task->pending) {
		int rc = task->below ? -ENOMEM : -EINVAL;
		free_task(state, task);
		return rc; /* the client gets the error that stands for it */
	}
	task->status = start(module, session, task);
	if (task->status < 0) {
		answer(module, task); /* the same, since it is deferred by now */
	}
	return STK_LATER;
}

/* ---- messages ---- */

/* A chat from the bot's JID to the sender's bare JID, marked as written by a program, under an id that follows from the
 * question's: a question that is sent twice gets the same answer, which the archive then keeps once. */
static struct stk_stanza *new_answer(const struct state *state, const struct stk_session *session,
				     const struct stk_node *question)
{
	char id[STK_JID_MAX + 300];
	const char *asked = stk_node_attr(question, "id");
	snprintf(id, sizeof(id), "re_%s_%.256s", stk_session_bare(session), asked ? asked : "");
	struct stk_stanza *answer = stk_stanza_new(STK_MESSAGE, "chat", NULL);
	struct stk_node *root = stk_stanza_edit(answer), *body = stk_node_add(root, "body", NULL);
	stk_stanza_set_from(answer, state->conf->jid);
	stk_stanza_set_to(answer, stk_session_bare(session));
	stk_node_set(root, "auto_reply", "true");
	stk_node_set(body, "id", asked && strlen(asked) <= 256 ? id : NULL);
	stk_node_set(body, "msgType", "1"); /* text */
	return answer;
}

/* What the bot never answers: errors, receipts, typing and the like, and what a program wrote. What modules send does
 * not come here. */
static bool is_question(const struct state *state, const struct stk_stanza *stanza)
{
	const struct stk_node *root = stk_stanza_root(stanza);
	const char *type = stk_stanza_type(stanza), *automatic = stk_node_attr(root, "auto_reply");
	return stk_stanza_element(stanza) == STK_MESSAGE && type && strcmp(type, "chat") == 0 &&
	       stk_jid_same_bare(stk_stanza_to(stanza), state->conf->jid) &&
	       !(automatic && strcmp(automatic, "true") == 0);
}

static int on_message(struct stk_module *module, const struct stk_event *event, void *arg)
{
	struct state *state = arg;
	const struct stk_node *body = stk_node_child(stk_stanza_root(event->stanza), "body", NULL);
	const char *text = stk_node_text(body);
	/* Not its own account either: somebody may be logged in as the bot. */
	if (!is_question(state, event->stanza) || !text || !*text ||
	    stk_jid_same_bare(stk_session_bare(event->session), state->conf->jid)) {
		return STK_PASS;
	}
	struct task *task = calloc(1, sizeof(*task));
	if (!task) {
		return STK_PASS;
	}
	task->below = read_number(state->conf, text);
	task->answer = new_answer(state, event->session, body);
	if (!task->answer) {
		free_task(state, task);
		return STK_PASS;
	}
	task->status = task->below ? start(module, event->session, task) : -EINVAL;
	/* Not here and now: then the answer would be older than the question, which is only on its way to the archive.
	 */
	if (task->status < 0 && stk_post(module, answer, task) < 0) {
		free_task(state, task);
	}
	return STK_PASS;
}

/* ---- life ---- */

static int check(const void *arg, char *err, size_t errlen)
{
	const struct conf *conf = arg;
	struct stk_jid jid;
	if (stk_jid_parse(&jid, conf->jid) < 0 || !jid.node_len || jid.resource_len) {
		snprintf(err, errlen, "jid: '%s' is no user@domain", conf->jid);
		return -EINVAL;
	}
	return 0;
}

/* Every job is over by now, and each took its user along. */
static void unload(struct stk_module *module)
{
	free(stk_data(module));
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_match match = {
		.size = sizeof(match), .element = STK_IQ, .type = "get", .xmlns = PRIMES
	};
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	state->conf = conf;
	stk_set_data(module, state);
	int rc = stk_handle(module, &match, on_iq, state);
	rc = rc < 0 ? rc : stk_on(module, STK_STANZA_IN, LAST, on_message, state);
	if (rc < 0) {
		unload(module); /* the server calls it only after a load that succeeded */
	}
	return rc;
}

static int reload(struct stk_module *module, const void *conf)
{
	struct state *state = stk_data(module);
	state->conf = conf;
	return 0;
}

STK_MODULE(.name = "answerbot", .version = "1.0", .options = options, .conf_size = sizeof(struct conf), .check = check,
	   .load = load, .reload = reload, .unload = unload);
