/* SPDX-License-Identifier: MIT */
/* The loop that drives all sessions, and bringing many of them up. What is sent when is decided by churn.c, traffic.c
 * and idle.c, which are asked at each turn. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/bench/session.h"

#define EVENTS 512
#define LOOK_EVERY 500000    /* microseconds between looks for logins that hang */
#define LOGIN_BOUND 30000000 /* microseconds, where a mode says nothing else */
#define RAW_SIZE (256 * 1024)
#define SPARE_FILES 16

void engine_open(struct bench *bench)
{
	bench->epoll = epoll_create1(EPOLL_CLOEXEC);
	bench->raw = malloc(RAW_SIZE);
	bench->plain = malloc(RAW_SIZE);
	if (bench->epoll < 0 || !bench->raw || !bench->plain ||
	    gnutls_certificate_allocate_credentials(&bench->credentials) < 0) {
		die("out of memory");
	}
	codec_init(&bench->codec);
	bench->now = bench->start = clock_us();
	bench->login_bound = LOGIN_BOUND;
	bench->deadline = bench->start + (int64_t)(bench->options.limit * 1e6);
}

static void bury(struct bench *bench)
{
	while (bench->graveyard) {
		struct session *session = bench->graveyard;
		bench->graveyard = session->next;
		free(session->jid);
		free(session);
	}
}

void engine_close(struct bench *bench)
{
	while (bench->sessions) {
		session_close(bench->sessions);
	}
	bury(bench);
	close(bench->epoll);
	codec_fini(&bench->codec);
	gnutls_certificate_free_credentials(bench->credentials);
	if (bench->rsa) {
		gnutls_pubkey_deinit(bench->rsa);
	}
	free(bench->raw);
	free(bench->plain);
}

static void look_for_hanging(struct bench *bench)
{
	struct session *next;
	bench->next_look = bench->now + LOOK_EVERY;
	for (struct session *session = bench->sessions; session && bench->logging_in; session = next) {
		next = session->next;
		if (session->state < SESSION_ONLINE && bench->now - session->started > bench->login_bound) {
			session_fail(session, "time-out: %s did not come in %d s", login_step(session->state),
				     (int)(bench->login_bound / 1000000));
		}
	}
}

static int64_t earliest(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void wait_for_events(struct bench *bench, int64_t until)
{
	struct epoll_event events[EVENTS];
	int64_t left = until - clock_us();
	left = left > 0 ? left : 0;
	struct timespec timeout = { .tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000 };
	int n = epoll_pwait2(bench->epoll, events, EVENTS, &timeout, NULL);
	if (n < 0 && errno != EINTR) {
		die("epoll: %s", strerror(errno));
	}
	bench->now = clock_us();
	for (int i = 0; i < n; i++) {
		struct session *session = events[i].data.ptr; /* sessions that ended in this turn are still there */
		session_event(session, events[i].events);
	}
}

bool engine_turn(struct bench *bench, int64_t until)
{
	until = earliest(until, earliest(bench->deadline, bench->next_look));
	until = earliest(until, earliest(churn_due(bench), earliest(traffic_due(bench), idle_due(bench))));
	wait_for_events(bench, until);
	churn_pump(bench);
	traffic_pump(bench);
	idle_pump(bench);
	while (bench->dirty) {
		struct session *session = bench->dirty;
		bench->dirty = session->dirty_next;
		session->dirty = false;
		session_flush(session);
	}
	if (bench->now >= bench->next_look) {
		look_for_hanging(bench);
	}
	bury(bench);
	if (bench->now >= bench->deadline && !bench->stop) {
		bench_fault(bench, "stopped after the --limit of %.0f s", bench->options.limit);
		bench->stop = true;
	}
	return !bench->stop;
}

bool engine_run(struct bench *bench, double seconds)
{
	int64_t until = clock_us() + (int64_t)(seconds * 1e6);
	while (seconds > 0 && !bench->stop && bench->now < until) {
		engine_turn(bench, until);
	}
	return !bench->stop;
}

static void need_files(uint32_t sessions)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && sessions + SPARE_FILES > limit.rlim_cur) {
		die("%u sessions need %u open files, and the limit is %llu (ulimit -n)", sessions,
		    sessions + SPARE_FILES, (unsigned long long)limit.rlim_cur);
	}
}

bool engine_ramp(struct bench *bench, const struct role *role, unsigned first, unsigned count, bool one_user,
		 struct session **out)
{
	uint32_t wanted = bench->online + bench->logging_in + count;
	unsigned started = 0;
	need_files(bench->session_count + count);
	while (bench->online < wanted) {
		while (started < count && bench->logging_in < (uint32_t)bench->options.concurrency) {
			out[started] = session_new(bench, role, first + (one_user ? 0 : started));
			started++;
		}
		if (!engine_turn(bench, INT64_MAX)) {
			return false;
		}
	}
	return true;
}
