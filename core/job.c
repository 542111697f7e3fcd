/* SPDX-License-Identifier: MIT */
/* Jobs of modules on their way to a worker and back. Owns how many a module may have, how long they may run, and what
 * becomes of those that do not end; the threads are in workers.c. */

#include "core/job.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/server.h"

#define LOOK_LEAST 0.02 /* seconds between two looks at what runs */

/* ---- limits ---- */

static double limit_of(const struct stk_module *module, void *arg)
{
	(void)arg;
	return module->job_limit > 0 ? module->job_limit : module->server->settings->limits.job_time_limit;
}

/* Those that one look has written off, for their modules, which may not be called under the pool's lock. */
struct look {
	const struct server *server;
	struct job *lost;
};

static void on_lost(struct job *job, double ran, void *arg)
{
	struct look *look = arg;
	struct stk_module *module = job->module;
	job->next_lost = look->lost;
	look->lost = job;
	module->figures.jobs_lost++;
	module->jobs_lost++;
	module->jobs_under_way--;
	atomic_fetch_sub(&module->under_way, 1);
	module_log(module, LOG_ERR, "a job has not ended in %.1f s and is written off: what it holds is lost%s", ran,
	           look->server->stop_at > 0 ? "; the server stops without it" : "");
}

static void look_again(struct server *server, double after)
{
	struct ev_timer *timer = &server->job_timer;
	after = after > LOOK_LEAST ? after : LOOK_LEAST;
	if (ev_is_active(timer) && ev_timer_remaining(server->ev, timer) <= after) {
		return;
	}
	ev_timer_stop(server->ev, timer);
	if (isfinite(after)) {
		ev_timer_set(timer, after, 0);
		ev_timer_start(server->ev, timer);
	}
}

/* The jobs have not gone: their mail, should they end after all, is for this thread. */
static void tell_lost(const struct job *lost)
{
	for (const struct job *job = lost; job; job = job->next_lost) {
		struct stk_module *module = job->module;
		if (module->job_lost && module->state != MODULE_CLOSING) {
			double entered = module_enter(module, "lost");
			module->job_lost(module, job->work, job->arg);
			module_leave(module, "lost", entered);
		}
	}
}

void jobs_look(struct server *server)
{
	struct look look = { .server = server };
	const struct workers_watch watch = { .limit = limit_of, .lost = on_lost, .arg = &look };
	look_again(server, workers_expire(server->workers, &watch));
	tell_lost(look.lost);
}

/* Modules that waited for a job that was written off are unloaded before the loop sleeps again. */
static void on_timer(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)ev;
	(void)events;
	jobs_look(timer->data);
}

void jobs_init(struct server *server)
{
	ev_init(&server->job_timer, on_timer);
	server->job_timer.data = server;
}

int stk_job_limit(struct stk_module *module, double seconds)
{
	if (module->state != MODULE_LOADING) {
		return -EPERM;
	}
	if (!isfinite(seconds) || seconds < 0) {
		return -EINVAL;
	}
	module->job_limit = seconds;
	return 0;
}

int stk_job_lost(struct stk_module *module, stk_lost_fn *fn)
{
	if (module->state != MODULE_LOADING) {
		return -EPERM;
	}
	module->job_lost = fn;
	return 0;
}

/* ---- there and back ---- */

int stk_job(struct stk_module *module, uint64_t key, stk_work_fn *work, stk_done_fn *done, void *arg)
{
	struct server *server = module->server;
	if (module->state == MODULE_CLOSING) {
		return -ECANCELED;
	}
	if (module->jobs_under_way >= (uint64_t)server->settings->limits.max_jobs) {
		return -EAGAIN;
	}
	struct job *job = calloc(1, sizeof(*job));
	if (!job) {
		return -ENOMEM;
	}
	*job = (struct job){ .module = module, .key = key, .work = work, .done = done, .arg = arg };
	atomic_fetch_add(&module->under_way, 1);
	int rc = workers_put(server->workers, job);
	if (rc < 0) {
		atomic_fetch_sub(&module->under_way, 1);
		free(job);
		return rc;
	}
	module->jobs_under_way++;
	double limit = limit_of(module, NULL);
	if (limit > 0) {
		look_again(server, limit);
	}
	return 0;
}

void job_returned(struct mail *mail)
{
	struct job *job = (struct job *)mail;
	struct stk_module *module = job->module;
	if (job->status == -ETIMEDOUT) {
		module->jobs_lost--;
		module_log(module, LOG_NOTICE, "a job that was written off has ended after all");
		module_bury(module);
		free(job);
		return;
	}
	module->jobs_under_way--;
	module->figures.jobs += job->status == 0;
	if (job->done) {
		double entered = module_enter(module, "done");
		job->done(module, job->status, job->arg);
		module_leave(module, "done", entered);
	}
	atomic_fetch_sub(&module->under_way, 1);
	free(job);
}

/* ---- the end ---- */

void jobs_cancel(struct stk_module *module)
{
	struct server *server = module->server;
	struct look look = { .server = server }; /* they are not told: they go */
	const struct workers_watch watch = { .limit = limit_of, .lost = on_lost, .arg = &look };
	double now = clock_now();
	server->stop_at = server->stop_at > 0 ? server->stop_at : now + JOBS_STOP_BOUND;
	workers_cancel(server->workers, module, &watch, server->stop_at - now);
}
