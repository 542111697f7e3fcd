/* SPDX-License-Identifier: MIT */
/* Sessions that are online and do nothing but ping, each every --ping-every seconds, spread evenly over that time. */

#include <stdio.h>
#include <string.h>

#include "tests/bench/session.h"

enum { IQ_ID = 4 };

static void on_online(struct bench *bench, struct session *session)
{
	(void)bench;
	(void)session;
}

static void on_frame(struct bench *bench, struct session *session, const struct frame *frame)
{
	if (frame->signal == SIGNAL_IQ && view_is(field_bytes(frame->inner, IQ_ID), "keep-alive")) {
		session->answers++;
		bench->idle.answers++;
	}
}

static void on_ended(struct bench *bench, struct session *session, const char *why)
{
	bench_fault(bench, "%s%05u: %s", bench->options.prefix, session->user, why);
	bench->stop = true;
}

const struct role idle_role = { .online = on_online, .frame = on_frame, .ended = on_ended };

void idle_start(struct bench *bench, struct session **sessions, unsigned count)
{
	bench->idle.sessions = sessions;
	bench->idle.count = bench->options.ping_every > 0 ? count : 0;
	bench->idle.since = clock_us();
	bench->idle.pings = bench->idle.answers = 0;
}

int64_t idle_due(const struct bench *bench)
{
	const struct idle *idle = &bench->idle;
	if (!idle->count) {
		return INT64_MAX;
	}
	return idle->since + (int64_t)((double)idle->pings * bench->options.ping_every * 1e6 / idle->count);
}

void idle_pump(struct bench *bench)
{
	struct idle *idle = &bench->idle;
	while (!bench->stop && idle_due(bench) <= bench->now) {
		struct session *session = idle->sessions[idle->pings++ % idle->count];
		session->pings++;
		session_send(session, frame_ping(&bench->codec, session->jid, "keep-alive"));
	}
}

void idle_finish(struct bench *bench)
{
	struct idle *idle = &bench->idle;
	int64_t until = clock_us() + 2000000;
	idle->count = 0;
	while (idle->answers < idle->pings && bench->now < until && engine_turn(bench, until)) {
	}
	if (idle->answers < idle->pings) {
		bench_fault(bench, "%llu of %llu pings were not answered",
			    (unsigned long long)(idle->pings - idle->answers), (unsigned long long)idle->pings);
	}
}
