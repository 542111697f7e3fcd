/* SPDX-License-Identifier: MIT */
/* The modes: which sessions and what load each consists of, and the result that is printed. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/session.h"

#define RATE_KEPT 0.98 /* share of --rate that must have been sent */
#define STORM_RETRIES 20 /* for each session, in the mean */
#define LIMITED 0.9    /* share of a processor above which the generator may be what limits */

/* Counters and processor time at one moment, or what they grew by between two. */
struct sample {
	double seconds, own_cpu, all_cpu, server_cpu; /* server_cpu: negative without --server-pid */
	uint64_t sent, delivered, receipts, logins, pings;
};

static pid_t server_pid(const struct bench *bench)
{
	return bench->options.server_pid ? (pid_t)atoi(bench->options.server_pid) : 0;
}

static struct sample take_sample(const struct bench *bench)
{
	return (struct sample){
		.seconds = (double)clock_us() / 1e6,
		.own_cpu = cpu_seconds(0),
		.all_cpu = cpu_seconds_of_all(),
		.server_cpu = server_pid(bench) ? cpu_seconds(server_pid(bench)) : -1,
		.sent = bench->traffic.sent,
		.delivered = bench->traffic.delivered,
		.receipts = bench->traffic.receipts,
		.logins = bench->churn.done,
		.pings = bench->idle.answers,
	};
}

static struct sample since(const struct bench *bench, const struct sample *before)
{
	struct sample now = take_sample(bench);
	now.seconds -= before->seconds;
	now.own_cpu -= before->own_cpu;
	now.all_cpu -= before->all_cpu;
	now.server_cpu = now.server_cpu < 0 || before->server_cpu < 0 ? -1 : now.server_cpu - before->server_cpu;
	now.sent -= before->sent;
	now.delivered -= before->delivered;
	now.receipts -= before->receipts;
	now.logins -= before->logins;
	now.pings -= before->pings;
	return now;
}

/* Runs what was started: warm-up, then the part that is measured. */
static struct sample measure(struct bench *bench)
{
	engine_run(bench, bench->options.warmup);
	struct sample before = take_sample(bench);
	bench->measure_from = clock_us();
	bench->traffic.last =
		bench->options.messages ? bench->traffic.sent + (uint64_t)bench->options.messages : UINT64_MAX;
	int64_t until = bench->measure_from + (int64_t)(bench->options.seconds * 1e6);
	while (!bench->stop && bench->now < until && !traffic_exhausted(bench)) {
		engine_turn(bench, until);
	}
	return since(bench, &before);
}

/* ---- the result ---- */

static double share(double part, double of)
{
	return of > 0 ? part / of : 0;
}

static struct json begin_result(const struct bench *bench)
{
	static const char *const tls[] = { "off", "starttls", "direct" };
	struct json json = { .file = stdout };
	json_open(&json, NULL);
	json_text(&json, "mode", bench->options.mode);
	json_text(&json, "tls", tls[bench->options.tls]);
	json_text(&json, "credential", bench->rsa ? "rsa" : "plain");
	return json;
}

static void put_load(struct json *json, const struct bench *bench)
{
	static const char *const kinds[] = { "chat", "notify", "ping" }, *const wraps[] = { "auto", "tea", "gzip",
											    "none" };
	json_text(json, "kind", kinds[bench->traffic.kind]);
	json_text(json, "loop", bench->options.rate > 0 ? "open" : "closed");
	if (bench->options.rate > 0) {
		json_number(json, "rate", bench->options.rate, 1);
	} else {
		json_int(json, "window", bench->options.window);
	}
	if (bench->traffic.kind != KIND_PING) {
		json_int(json, "body", bench->options.body);
	}
	json_text(json, "wrap", wraps[bench->options.wrap]);
	json_bool(json, "coalesce", bench->options.coalesce);
	json_bool(json, "marks", bench->options.marks);
}

static void put_traffic(struct json *json, const struct bench *bench, const struct sample *sample)
{
	const struct traffic *traffic = &bench->traffic;
	json_number(json, "messages_per_s", share((double)sample->delivered, sample->seconds), 1);
	if (bench->options.rate > 0) {
		json_bool(json, "rate_kept",
			  share((double)sample->sent, sample->seconds) >= RATE_KEPT * bench->options.rate);
	}
	json_int(json, "messages", (int64_t)sample->delivered);
	json_open(json, "latency_us");
	json_histogram(json, "delivery", &traffic->delivery);
	if (traffic->receipts_wanted) {
		json_histogram(json, "receipt", &traffic->receipt);
	}
	json_close(json);
	json_open(json, "whole_run");
	json_int(json, "sent", (int64_t)traffic->sent);
	json_int(json, "delivered", (int64_t)traffic->delivered);
	json_int(json, "receipts", (int64_t)traffic->receipts);
	json_int(json, "lost", (int64_t)traffic->lost);
	json_int(json, "lost_receipts", (int64_t)traffic->lost_receipts);
	json_int(json, "marks", (int64_t)traffic->marks);
	json_int(json, "lost_marks", (int64_t)traffic->lost_marks);
	json_int(json, "reordered", (int64_t)traffic->reordered);
	json_int(json, "altered", (int64_t)traffic->altered);
	json_int(json, "refused", (int64_t)traffic->refused);
	json_close(json);
}

/* What took processor time besides the two disturbs a measurement. */
static void put_others(struct json *json, const struct sample *sample)
{
	double others = sample->all_cpu - sample->own_cpu - sample->server_cpu;
	json_number(json, "others_cpu_share", share(others > 0 ? others : 0, sample->seconds), 3);
}

/* UNITS are what the server's work is counted in. */
static void end_result(struct json *json, const struct bench *bench, const struct sample *sample, const char *per,
		       uint64_t units)
{
	double own = share(sample->own_cpu, sample->seconds);
	json_number(json, "seconds", sample->seconds, 3);
	if (sample->server_cpu >= 0) {
		json_open(json, "server");
		json_number(json, "cpu_share", share(sample->server_cpu, sample->seconds), 3);
		json_number(json, per, share(sample->server_cpu * 1e6, (double)units), 2);
		json_int(json, "rss_kib", rss_kib(server_pid(bench)));
		json_close(json);
	}
	json_open(json, "generator");
	json_number(json, "cpu_share", own, 3);
	json_bool(json, "is_limit", own > LIMITED);
	json_close(json);
	if (sample->server_cpu >= 0) {
		put_others(json, sample);
	}
	json_array(json, "faults");
	for (unsigned i = 0; i < bench->fault_count && i < BENCH_FAULTS; i++) {
		json_text(json, NULL, bench->faults[i]);
	}
	json_array_close(json);
	json_int(json, "fault_count", bench->fault_count);
	json_close(json);
	putchar('\n');
}

static void need_users(const struct bench *bench, int64_t wanted)
{
	if (wanted > bench->options.users) {
		die("%s: these options need %lld users, and there are %lld (--users)", bench->options.mode,
		    (long long)wanted, (long long)bench->options.users);
	}
}

/* COUNT sessions of as many users from FIRST on, or of FIRST alone; to be freed. */
static struct session **bring_up(struct bench *bench, const struct role *role, unsigned first, int64_t count,
				 bool one_user)
{
	struct session **sessions = calloc((size_t)count, sizeof(*sessions));
	if (!sessions) {
		die("out of memory");
	}
	engine_ramp(bench, role, first, (unsigned)count, one_user, sessions);
	return sessions;
}

/* ---- login ---- */

static void run_login(struct bench *bench)
{
	churn_start(bench, 0, (unsigned)bench->options.users, 0);
	struct sample sample = measure(bench);
	bench->churn.on = false;
	while (bench->churn.busy && engine_turn(bench, INT64_MAX)) {
	}
	struct json json = begin_result(bench);
	json_int(&json, "concurrency", bench->options.concurrency);
	json_number(&json, "logins_per_s", share((double)sample.logins, sample.seconds), 1);
	json_int(&json, "logins", (int64_t)sample.logins);
	json_int(&json, "failed", (int64_t)bench->churn.failed);
	json_histogram(&json, "latency_us", &bench->churn.times);
	end_result(&json, bench, &sample, "cpu_us_per_login", sample.logins);
}

/* ---- idle ---- */

static long settled_rss(struct bench *bench)
{
	engine_run(bench, bench->options.settle);
	return server_pid(bench) ? rss_kib(server_pid(bench)) : -1;
}

static void put_memory(struct json *json, const long rss[4], unsigned half, unsigned count)
{
	json_open(json, "rss_kib");
	json_int(json, "before", rss[0]);
	json_int(json, "half", rss[1]);
	json_int(json, "full", rss[2]);
	json_int(json, "after", rss[3]);
	json_number(json, "per_session", share((double)(rss[2] - rss[0]), count), 2);
	json_number(json, "per_session_second_half", share((double)(rss[2] - rss[1]), count - half), 2);
	json_close(json);
}

static void run_idle(struct bench *bench)
{
	unsigned count = (unsigned)bench->options.sessions, half = count / 2;
	need_users(bench, count);
	struct session **sessions = calloc(count, sizeof(*sessions));
	if (!sessions) {
		die("out of memory");
	}
	long rss[4];
	rss[0] = settled_rss(bench);
	struct sample before = take_sample(bench);
	engine_ramp(bench, &idle_role, 0, half, false, sessions);
	rss[1] = settled_rss(bench);
	engine_ramp(bench, &idle_role, half, bench->stop ? 0 : count - half, false, sessions + half);
	struct sample logins = since(bench, &before);
	rss[2] = settled_rss(bench);
	struct sample sample = { 0 };
	uint32_t held = bench->online;
	if (!bench->stop) {
		idle_start(bench, sessions, count);
		sample = measure(bench);
		idle_finish(bench);
	}
	while (bench->sessions) {
		session_close(bench->sessions);
	}
	rss[3] = settled_rss(bench);
	free(sessions);
	struct json json = begin_result(bench);
	json_int(&json, "sessions", count);
	json_int(&json, "held", held);
	json_number(&json, "ping_every", bench->options.ping_every, 1);
	json_int(&json, "pings", (int64_t)sample.pings);
	if (server_pid(bench)) {
		put_memory(&json, rss, half, count);
		json_number(&json, "server_cpu_us_per_login", share(logins.server_cpu * 1e6, count), 1);
	}
	end_result(&json, bench, &sample, "cpu_us_per_ping", sample.pings);
}

/* ---- storm ---- */

/* With more connections than the listener's queue holds, some are lost before the server knows of them; clients then try
 * again, as those here do. What is lost later, or refused, is a fault. */
static void storm_ended(struct bench *bench, struct session *session, const char *why)
{
	if (session->state > SESSION_WELCOME || bench->retries >= STORM_RETRIES * (uint64_t)bench->options.sessions) {
		idle_role.ended(bench, session, why);
		return;
	}
	bench->retries++;
	session_new(bench, session->role, session->user);
}

static struct sample ramp(struct bench *bench, struct session **sessions, unsigned count)
{
	static struct role role;
	role = (struct role){ .online = idle_role.online, .frame = idle_role.frame, .ended = storm_ended };
	struct sample before = take_sample(bench);
	engine_ramp(bench, &role, 0, count, false, sessions);
	return since(bench, &before);
}

static void put_storm(struct json *json, const char *name, const struct sample *sample, unsigned count)
{
	json_open(json, name);
	json_number(json, "seconds", sample->seconds, 3);
	json_number(json, "logins_per_s", share(count, sample->seconds), 1);
	if (sample->server_cpu >= 0) {
		json_number(json, "server_cpu_us_per_login", share(sample->server_cpu * 1e6, count), 1);
	}
	json_close(json);
}

/* All come at once, are cut at once, and all come back at once. */
static void run_storm(struct bench *bench)
{
	unsigned count = (unsigned)bench->options.sessions;
	need_users(bench, count);
	struct session **sessions = calloc(count, sizeof(*sessions));
	if (!sessions) {
		die("out of memory");
	}
	bench->options.concurrency = count;
	bench->login_bound = (int64_t)(bench->options.limit * 1e6);
	struct sample first = ramp(bench, sessions, count), again = { .server_cpu = -1 };
	if (!bench->stop) {
		engine_run(bench, bench->options.settle);
		while (bench->sessions) {
			session_close(bench->sessions);
		}
		again = ramp(bench, sessions, count);
	}
	uint32_t held = bench->online;
	free(sessions);
	struct json json = begin_result(bench);
	json_int(&json, "sessions", count);
	json_int(&json, "held", held);
	json_int(&json, "retries", (int64_t)bench->retries);
	put_storm(&json, "first", &first, count);
	put_storm(&json, "again", &again, count);
	end_result(&json, bench, &again, "cpu_us_per_login", count);
}

/* ---- messages ---- */

static void finish_traffic(struct bench *bench, struct json *json, const struct sample *sample)
{
	put_load(json, bench);
	put_traffic(json, bench, sample);
	end_result(json, bench, sample, "cpu_us_per_message", sample->delivered);
}

static void add_pairs(struct bench *bench, struct session **sessions)
{
	traffic_init(bench, (enum load_kind)bench->options.kind, bench->options.rate);
	/* A bare echo has no receivers: what a sender sends comes back to it. */
	int64_t step = bench->options.bare ? 1 : 2;
	for (int64_t i = 0; i < bench->options.pairs && !bench->stop; i++) {
		traffic_add(bench, sessions[step * i], step == 2 ? &sessions[2 * i + 1] : NULL, step == 2);
	}
}

/* Runs the flows that were added. */
static struct sample run_traffic(struct bench *bench)
{
	struct sample sample = { 0 };
	if (!bench->stop) {
		traffic_start(bench);
		sample = measure(bench);
		traffic_finish(bench);
	}
	return sample;
}

static void run_chat(struct bench *bench)
{
	need_users(bench, 2 * bench->options.pairs);
	int64_t wanted = (bench->options.bare ? 1 : 2) * bench->options.pairs;
	struct session **sessions = bring_up(bench, &traffic_role, 0, wanted, false);
	add_pairs(bench, sessions);
	struct sample sample = run_traffic(bench);
	free(sessions);
	struct json json = begin_result(bench);
	json_int(&json, "pairs", bench->options.pairs);
	finish_traffic(bench, &json, &sample);
}

static void run_ping(struct bench *bench)
{
	need_users(bench, bench->options.sessions);
	struct session **sessions = bring_up(bench, &traffic_role, 0, bench->options.sessions, false);
	traffic_init(bench, KIND_PING, bench->options.rate);
	for (int64_t i = 0; i < bench->options.sessions && !bench->stop; i++) {
		traffic_add(bench, sessions[i], NULL, 0);
	}
	struct sample sample = run_traffic(bench);
	free(sessions);
	struct json json = begin_result(bench);
	json_int(&json, "sessions", bench->options.sessions);
	finish_traffic(bench, &json, &sample);
}

static void run_fanout(struct bench *bench)
{
	need_users(bench, 2);
	struct session **sender = bring_up(bench, &traffic_role, 0, 1, false);
	struct session **devices = bring_up(bench, &traffic_role, 1, bench->stop ? 1 : bench->options.devices, true);
	traffic_init(bench, (enum load_kind)bench->options.kind, bench->options.rate);
	if (!bench->stop) {
		traffic_add(bench, sender[0], devices, (unsigned)bench->options.devices);
	}
	struct sample sample = run_traffic(bench);
	free(sender);
	free(devices);
	struct json json = begin_result(bench);
	json_int(&json, "devices", bench->options.devices);
	json_number(&json, "sent_per_s", share((double)sample.sent, sample.seconds), 1);
	finish_traffic(bench, &json, &sample);
}

static void run_mixed(struct bench *bench)
{
	const struct options *options = &bench->options;
	need_users(bench, 2 * options->pairs + options->sessions + 1);
	unsigned talking = (unsigned)(2 * options->pairs), idling = (unsigned)options->sessions;
	struct session **pairs = bring_up(bench, &traffic_role, 0, talking, false);
	struct session **idle = bring_up(bench, &idle_role, talking, bench->stop ? 1 : idling, false);
	add_pairs(bench, pairs);
	if (!bench->stop) {
		idle_start(bench, idle, idling);
	}
	if (!bench->stop && options->login_rate > 0) {
		churn_start(bench, talking + idling, (unsigned)options->users - talking - idling, options->login_rate);
	}
	struct sample sample = run_traffic(bench);
	bench->churn.on = false;
	while (bench->churn.busy && engine_turn(bench, INT64_MAX)) {
	}
	idle_finish(bench);
	free(pairs);
	free(idle);
	struct json json = begin_result(bench);
	json_int(&json, "pairs", options->pairs);
	json_int(&json, "sessions", options->sessions);
	json_int(&json, "pings", (int64_t)sample.pings);
	json_number(&json, "logins_per_s", share((double)sample.logins, sample.seconds), 1);
	json_int(&json, "logins_failed", (int64_t)bench->churn.failed);
	json_histogram(&json, "login_latency_us", &bench->churn.times);
	finish_traffic(bench, &json, &sample);
}

const struct mode modes[] = {
	{ "login", "log in, again and again", run_login },
	{ "idle", "hold sessions that only ping, for the server's memory", run_idle },
	{ "storm", "log all in at once, cut all, log all in at once again", run_storm },
	{ "ping", "sessions that ping", run_ping },
	{ "chat", "messages from one of a pair to the other", run_chat },
	{ "fanout", "messages from one user to all devices of another", run_fanout },
	{ "mixed", "pairs that chat, idle sessions that ping, logins that come and go", run_mixed },
	{ 0 },
};

const struct mode *mode_find(const char *name)
{
	for (const struct mode *mode = modes; mode->name; mode++) {
		if (strcmp(mode->name, name) == 0) {
			return mode;
		}
	}
	return NULL;
}
