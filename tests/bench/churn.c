/* SPDX-License-Identifier: MIT */
/* Logins that come and go: each session is closed as soon as it is online. As many at a time as --concurrency says, at
 * a rate when there is one. */

#include <string.h>

#include "tests/bench/session.h"

#define FAILURES_MAX 100 /* after so many the rest would fail too */

static void on_online(struct bench *bench, struct session *session)
{
	struct churn *churn = &bench->churn;
	churn->busy--;
	if (session->started >= bench->measure_from) {
		histogram_add(&churn->times, (uint64_t)(bench->now - session->started));
	}
	churn->done++;
	session_close(session);
}

static void on_frame(struct bench *bench, struct session *session, const struct frame *frame)
{
	(void)bench;
	(void)session;
	(void)frame;
}

static void on_ended(struct bench *bench, struct session *session, const char *why)
{
	bench->churn.busy--;
	bench->churn.failed++;
	bench_fault(bench, "login of %s%05u: %s", bench->options.prefix, session->user, why);
	bench->stop = bench->stop || bench->churn.failed >= FAILURES_MAX;
}

static const struct role churn_role = { .online = on_online, .frame = on_frame, .ended = on_ended };

void churn_start(struct bench *bench, unsigned first_user, unsigned users, double rate)
{
	bench->churn.first_user = first_user;
	bench->churn.users = users;
	bench->churn.rate = rate;
	bench->churn.since = clock_us();
	bench->churn.on = true;
}

/* When the next login may begin. */
static int64_t next_start(const struct churn *churn)
{
	return churn->rate > 0 ? churn->since + (int64_t)((double)churn->started / churn->rate * 1e6) : 0;
}

static bool may_start(const struct bench *bench)
{
	return bench->churn.on && bench->churn.busy < (unsigned)bench->options.concurrency;
}

int64_t churn_due(const struct bench *bench)
{
	return may_start(bench) ? next_start(&bench->churn) : INT64_MAX;
}

void churn_pump(struct bench *bench)
{
	struct churn *churn = &bench->churn;
	while (may_start(bench) && next_start(churn) <= bench->now) {
		session_new(bench, &churn_role, churn->first_user + churn->next_user);
		churn->next_user = (churn->next_user + 1) % churn->users;
		churn->started++;
		churn->busy++;
	}
}
