/* SPDX-License-Identifier: MIT */
/* Posts stored messages to a URL, in the order in which they were stored, one batch at a time, until the other side has
 * taken it. Owns when a batch is sent and what becomes of it; what is in a batch is payload.c's, what waits queue.c's,
 * and how requests are made curl_loop.c's. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>

#include <startalkd/module.h>

#include "../curl_loop/curl_loop.h"
#include "payload.h"
#include "queue.h"

#define BATCH_BYTES (256 * 1024)

struct conf {
	const char *url, *ca_file, *secret_file;
	bool allow_http;
	double timeout, retry_min, retry_max;
	int64_t queue_size;
};

static const struct stk_option options[] = {
	{ "url", STK_OPT_STR, offsetof(struct conf, url), NULL, 1, 2000,
	  "Where to post, https://; http:// on this machine only", NULL },
	{ "ca-file", STK_OPT_PATH, offsetof(struct conf, ca_file), NULL, 0, 3000,
	  "Certificates in PEM of who may vouch for that server, instead of the system's", NULL },
	{ "allow-http", STK_OPT_BOOL, offsetof(struct conf, allow_http), "off", 0, 0,
	  "Let messages go over the net unencrypted", NULL },
	{ "secret-file", STK_OPT_PATH, offsetof(struct conf, secret_file), NULL, 0, 3000,
	  "Its first line is the key of the signature in each request", NULL },
	{ "timeout", STK_OPT_SECONDS, offsetof(struct conf, timeout), "10s", 100, 300000, "How long an answer may take",
	  NULL },
	{ "retry-min", STK_OPT_SECONDS, offsetof(struct conf, retry_min), "1s", 10, 3600000,
	  "The pause after a first failure; it doubles", NULL },
	{ "retry-max", STK_OPT_SECONDS, offsetof(struct conf, retry_max), "5min", 10, 86400000, "... up to this",
	  NULL },
	{ "queue-size", STK_OPT_BYTES, offsetof(struct conf, queue_size), "16 MiB", 4096, 1024LL * 1024 * 1024,
	  "Memory for what waits; when it is full the oldest messages are dropped", NULL },
	{ 0 },
};

struct state {
	struct curl_request request; /* the only one; under way while `batch` is there */
	const struct conf *conf;
	struct curl_loop *loop;
	struct stk_timer *retry;
	struct queue queue;
	char *batch;       /* what is being posted */
	unsigned failures; /* in a row */
	struct stk_metric *posted, *given_up, *dropped;
	bool overflowing; /* told in the log */
	char secret[PAYLOAD_SECRET_MAX];
};

/* ---- posting ---- */

static void send_next(struct stk_module *module);

static int on_stored(struct stk_module *module, const struct stk_event *event, void *arg)
{
	struct state *state = arg;
	char *text = payload_event(event->stanza);
	size_t lost = state->queue.lost;
	if (!text || queue_add(&state->queue, text) < 0) {
		state->queue.lost++;
	}
	stk_metric_add(state->dropped, (int64_t)(state->queue.lost - lost));
	if (state->queue.lost && !state->overflowing) {
		stk_log(module, LOG_WARNING, "the queue is full: the oldest messages are dropped until %s takes some",
			state->conf->url);
		state->overflowing = true;
	}
	send_next(module);
	return STK_PASS;
}

static void on_retry(struct stk_module *module, void *arg)
{
	struct state *state = arg;
	stk_timer_stop(&state->retry);
	send_next(module);
}

/* Twice as long with each failure, and somewhere between the half and the whole of it, so that many servers do not come
 * back at the same time. */
static void retry_later(struct stk_module *module, const char *why)
{
	struct state *state = stk_data(module);
	double pause = state->conf->retry_min;
	for (unsigned i = 0; i < state->failures && pause < state->conf->retry_max; i++) {
		pause *= 2;
	}
	pause = pause < state->conf->retry_max ? pause : state->conf->retry_max;
	uint32_t dice = 0;
	(void)!getrandom(&dice, sizeof(dice), GRND_NONBLOCK);
	pause *= 0.5 + dice / 2.0 / UINT32_MAX;
	stk_log(module, state->failures ? LOG_INFO : LOG_WARNING, "%s: %s; again in %.1f s", state->conf->url, why,
		pause);
	state->failures++;
	state->retry = stk_timer(module, pause, 0, on_retry, state);
}

/* Does nothing while a batch is under way or has to wait. */
static void send_next(struct stk_module *module)
{
	struct state *state = stk_data(module);
	char signature[128];
	const char *headers[] = { "Content-Type: application/json", *state->secret ? signature : NULL, NULL };
	size_t len = 0;
	if (state->batch || state->retry || !state->queue.first) {
		return;
	}
	state->batch = queue_batch(&state->queue, BATCH_BYTES, &len);
	if (state->batch) {
		payload_sign(state->secret, state->batch, len, signature, sizeof(signature));
	}
	if (!state->batch || curl_loop_start(state->loop, &state->request, state->batch, len, headers) < 0) {
		free(state->batch);
		state->batch = NULL;
		queue_batch_over(&state->queue, false);
		retry_later(module, "out of memory");
	}
}

/* The other side says that what it got makes no sense: it would not the next time either. */
static bool is_final(long status)
{
	return status == 400 || status == 413 || status == 415 || status == 422;
}

static void on_answer(struct stk_module *module, struct curl_request *request, CURLcode code)
{
	struct state *state = (struct state *)request; /* its first member */
	bool taken = code == CURLE_OK && request->status / 100 == 2,
	     given_up = code == CURLE_OK && is_final(request->status);
	size_t count = queue_batch_over(&state->queue, taken || given_up);
	free(state->batch);
	state->batch = NULL;
	if (!taken && !given_up) {
		char why[64];
		snprintf(why, sizeof(why), "status %ld", request->status);
		retry_later(module, code == CURLE_OK ? why : request->why);
		return;
	}
	if (given_up) {
		stk_log(module, LOG_ERR, "%s: status %ld: %zu messages are not posted again", state->conf->url,
			request->status, count);
		stk_metric_add(state->given_up, (int64_t)count);
	} else if (state->failures) {
		stk_log(module, LOG_NOTICE, "%s: takes messages again", state->conf->url);
	}
	stk_metric_add(state->posted, taken ? (int64_t)count : 0);
	state->failures = 0;
	if (!state->queue.first && state->overflowing) {
		stk_log(module, LOG_WARNING, "nothing waits any more; %zu messages had been dropped",
			state->queue.lost);
		state->overflowing = false;
		state->queue.lost = 0;
	}
	send_next(module);
}

/* ---- life ---- */

static int check(const void *arg, char *err, size_t errlen)
{
	const struct conf *conf = arg;
	char secret[PAYLOAD_SECRET_MAX];
	int rc = curl_loop_check(conf->url, conf->allow_http, err, errlen);
	rc = rc < 0 ? rc : payload_read_secret(conf->secret_file, secret, err, errlen);
	explicit_bzero(secret, sizeof(secret));
	if (rc == 0 && conf->retry_min > conf->retry_max) {
		snprintf(err, errlen, "retry-min is longer than retry-max");
		rc = -EINVAL;
	}
	return rc;
}

static struct curl_loop_conf loop_conf(const struct conf *conf)
{
	return (struct curl_loop_conf){
		.url = conf->url, .ca_file = conf->ca_file, .timeout = conf->timeout, .connections = 1
	};
}

static void path_of_queue(struct stk_module *module, char *out, size_t size)
{
	snprintf(out, size, "%s/webhook.queue", stk_state_dir(module));
}

static void release(struct state *state)
{
	curl_loop_cancel(state->loop, &state->request);
	curl_loop_free(state->loop);
	queue_free(&state->queue);
	free(state->batch);
	explicit_bzero(state->secret, sizeof(state->secret));
	free(state);
}

/* What still waits, a batch under way included, goes into a file; the next load() reads it. */
static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	char path[4096];
	path_of_queue(module, path, sizeof(path));
	int rc = state->queue.first && !stk_planning(module) ? queue_save(&state->queue, path) : 0;
	if (rc < 0) {
		stk_log(module, LOG_ERR, "%s: cannot be written, what waited is lost: %s", path, strerror(-rc));
	}
	release(state);
}

static int start(struct stk_module *module, struct state *state)
{
	char path[4096], err[256];
	struct curl_loop_conf wanted = loop_conf(state->conf);
	int rc = payload_read_secret(state->conf->secret_file, state->secret, err, sizeof(err));
	if (rc < 0) {
		stk_log(module, LOG_ERR, "%s", err);
		return rc;
	}
	state->loop = curl_loop_new(module, &wanted);
	rc = state->loop ? stk_on(module, STK_STORED, 0, on_stored, state) : -ENOMEM;
	if (rc < 0 || stk_planning(module)) {
		return rc;
	}
	path_of_queue(module, path, sizeof(path));
	rc = queue_restore(&state->queue, path);
	if (rc < 0 && rc != -ENOENT) {
		stk_log(module, LOG_ERR, "%s: cannot be read: %s", path, strerror(-rc));
		return rc;
	}
	send_next(module);
	return 0;
}

static int load(struct stk_module *module, const void *conf)
{
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	stk_set_data(module, state);
	state->request.done = on_answer;
	state->conf = conf;
	state->queue.max = (size_t)state->conf->queue_size;
	state->posted = stk_metric(module, "posted", "Messages that the receiver took");
	state->given_up = stk_metric(module, "given_up", "Messages that the receiver calls wrong");
	state->dropped = stk_metric(module, "dropped", "Messages for which the queue had no room");
	int rc = start(module, state);
	if (rc < 0) {
		release(state); /* unload() is only called after a load that succeeded */
	}
	return rc;
}

/* The queue stays. What waits because of failures is tried at once: perhaps the new options are the cure. */
static int reload(struct stk_module *module, const void *conf)
{
	struct state *state = stk_data(module);
	char secret[PAYLOAD_SECRET_MAX], err[256];
	struct curl_loop_conf wanted = loop_conf(conf);
	int rc = payload_read_secret(((const struct conf *)conf)->secret_file, secret, err, sizeof(err));
	if (rc == 0) {
		memcpy(state->secret, secret, sizeof(secret));
		state->conf = conf;
		state->queue.max = (size_t)state->conf->queue_size;
		state->failures = 0;
		curl_loop_set(state->loop, &wanted);
		stk_timer_stop(&state->retry);
		send_next(module);
	} else {
		stk_log(module, LOG_ERR, "%s", err);
	}
	explicit_bzero(secret, sizeof(secret));
	return rc;
}

static const char *const needs[] = { "archive", NULL };

STK_MODULE(.name = "webhook", .version = "1.0", .needs = needs, .options = options, .conf_size = sizeof(struct conf),
	   .check = check, .load = load, .reload = reload, .unload = unload);
