/* SPDX-License-Identifier: MIT */
/* Workers: threads that run modules' jobs. Owns the queue, the order of equal keys, and the threads that are lost to jobs
 * which do not end; results go back by mail and are looked at on the router thread. */

#include "core/workers.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "core/clock.h"
#include "core/log.h"

#include "core/crash.h"
#include "core/module.h"

struct worker {
	struct worker *next;
	struct workers *pool;
	pthread_t thread;
	struct job *running;
	double since; /* it runs */
	bool lost;    /* it was written off; the thread counts no more and is nobody's to wait for */
};

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	struct job *first, **last;
	size_t waiting;
	size_t unwoken; /* jobs that came since workers_wake(); who puts jobs knows it alone */
	bool stopping, left; /* left: the last of the lost threads frees the pool */
	struct mailbox *box;
	int kind;
	void (*fini)(void *arg);
	void *arg;
	struct worker *threads;
	unsigned wanted, count, lost; /* lost ones are not in count */
};

static bool is_blocked(const struct workers *pool, const struct job *job)
{
	for (const struct worker *worker = job->key ? pool->threads : NULL; worker; worker = worker->next) {
		const struct job *other = worker->running;
		if (other && other->module == job->module && other->key == job->key) {
			return true;
		}
	}
	return false;
}

static struct job *unlink_job(struct workers *pool, struct job **at)
{
	struct job *job = *at;
	*at = job->next;
	if (pool->last == &job->next) {
		pool->last = at;
	}
	pool->waiting--;
	return job;
}

/* The first job whose key does not run already; those before it with the same key run already, too. */
static struct job *next_job(struct workers *pool)
{
	for (struct job **at = &pool->first; *at; at = &(*at)->next) {
		if (!is_blocked(pool, *at)) {
			return unlink_job(pool, at);
		}
	}
	return NULL;
}

static void send_back(struct workers *pool, struct job *job, int status)
{
	job->status = status;
	job->mail.kind = pool->kind;
	mailbox_put(pool->box, &job->mail);
}

static int start_worker(struct workers *pool);

static void destroy(struct workers *pool)
{
	pthread_cond_destroy(&pool->idle);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

/* The end of a thread whose job was written off. The pool may have been too short of threads to replace it at once. */
static void leave(struct worker *self)
{
	struct workers *pool = self->pool;
	pthread_mutex_lock(&pool->lock);
	pool->lost--;
	bool is_last = pool->left && !pool->lost;
	if (!pool->stopping && pool->count < pool->wanted) {
		(void)start_worker(pool);
	}
	pthread_mutex_unlock(&pool->lock);
	free(self);
	if (is_last) {
		destroy(pool);
	}
}

/* JOB of SELF is through. */
static void finish(struct worker *self, struct job *job)
{
	struct workers *pool = self->pool;
	self->running = NULL;
	if (self->lost && pool->stopping) { /* nobody reads the mail any more */
		free(job);
		return;
	}
	bool keyed = job->key != 0;
	send_back(pool, job, self->lost ? -ETIMEDOUT : 0);
	if (keyed) {
		pthread_cond_broadcast(&pool->work); /* one behind it may have waited for its key */
	}
	pthread_cond_broadcast(&pool->idle);
}

static void *run_worker(void *arg)
{
	struct worker *self = arg;
	struct workers *pool = self->pool;
	crash_thread();
	pthread_mutex_lock(&pool->lock);
	while (!self->lost) {
		struct job *job = next_job(pool);
		if (!job && pool->stopping) {
			break;
		}
		if (!job) {
			pthread_cond_wait(&pool->work, &pool->lock);
			continue;
		}
		self->running = job;
		self->since = clock_now();
		pthread_mutex_unlock(&pool->lock);
		crash_enter(module_name(job->module), "job");
		job->work(job->module, job->arg);
		crash_leave();
		pthread_mutex_lock(&pool->lock);
		finish(self, job);
	}
	bool lost = self->lost;
	pthread_mutex_unlock(&pool->lock);
	pool->fini(pool->arg);
	if (lost) {
		leave(self);
	}
	return NULL;
}

/* Under the lock. Signals are for the router thread. */
static int start_worker(struct workers *pool)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	if (!worker) {
		return -ENOMEM;
	}
	worker->pool = pool;
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&worker->thread, NULL, run_worker, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		free(worker);
		return -rc;
	}
	worker->next = pool->threads;
	pool->threads = worker;
	pool->count++;
	return 0;
}

struct workers *workers_new(unsigned count, struct mailbox *box, int kind, void (*fini)(void *), void *arg)
{
	struct workers *pool = calloc(1, sizeof(*pool));
	if (!pool) {
		return NULL;
	}
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->idle, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pool->last = &pool->first;
	pool->box = box;
	pool->kind = kind;
	pool->fini = fini;
	pool->arg = arg;
	pool->wanted = count;
	int rc = 0;
	pthread_mutex_lock(&pool->lock);
	while (pool->count < count && rc == 0) {
		rc = start_worker(pool);
	}
	pthread_mutex_unlock(&pool->lock);
	if (rc < 0) {
		workers_free(&pool);
	}
	return pool;
}

int workers_put(struct workers *pool, struct job *job)
{
	pthread_mutex_lock(&pool->lock);
	int rc = pool->waiting >= WORKERS_QUEUE_MAX || pool->stopping ? -EAGAIN : 0;
	if (rc == 0) {
		job->next = NULL;
		*pool->last = job;
		pool->last = &job->next;
		pool->waiting++;
		pool->unwoken++;
	}
	pthread_mutex_unlock(&pool->lock);
	return rc;
}

/* Without the lock, which whoever wakes would have to wait for. */
void workers_wake(struct workers *pool)
{
	for (size_t i = 0; i < pool->unwoken && i < pool->wanted; i++) {
		pthread_cond_signal(&pool->work);
	}
	pool->unwoken = 0;
}

/* MODULE NULL: everybody's. */
static void cancel_waiting(struct workers *pool, const struct stk_module *module)
{
	struct job **at = &pool->first;
	while (*at) {
		if (!module || (*at)->module == module) {
			send_back(pool, unlink_job(pool, at), -ECANCELED);
		} else {
			at = &(*at)->next;
		}
	}
}

void workers_withdraw(struct workers *pool, const struct stk_module *module)
{
	pthread_mutex_lock(&pool->lock);
	cancel_waiting(pool, module);
	pthread_mutex_unlock(&pool->lock);
}

/* ---- jobs that do not end ---- */

static void write_off(struct workers *pool, struct worker **at, const struct workers_watch *watch, double ran)
{
	struct worker *worker = *at;
	*at = worker->next;
	worker->lost = true;
	pool->count--;
	pool->lost++;
	pthread_detach(worker->thread);
	watch->lost(worker->running, ran, watch->arg);
	if (pool->lost > WORKERS_LOST_MAX || start_worker(pool) < 0) {
		log_write(LOG_ERR, "workers: %u threads hang in jobs that were written off: this one is not replaced, %u of %u are left; "
		          "restart the server, and switch off the modules that the lines before this one name",
		          pool->lost, pool->count, pool->wanted);
	}
	pthread_cond_broadcast(&pool->work); /* its key is free */
}

/* Writes off what runs for too long, of MODULE or everybody (NULL). UNTIL: when any job has run for too long. Returns when the next
 * one will have. */
static double expire(struct workers *pool, const struct stk_module *module, const struct workers_watch *watch, double until)
{
	double moment = clock_now(), next = INFINITY;
	struct worker **at = &pool->threads;
	while (*at) {
		const struct worker *worker = *at;
		if (!worker->running || (module && worker->running->module != module)) {
			at = &(*at)->next;
			continue;
		}
		double limit = watch->limit(worker->running->module, watch->arg);
		double due = limit > 0 && worker->since + limit < until ? worker->since + limit : until;
		if (moment >= due) {
			write_off(pool, at, watch, moment - worker->since);
		} else {
			next = due < next ? due : next;
			at = &(*at)->next;
		}
	}
	return next;
}

double workers_expire(struct workers *pool, const struct workers_watch *watch)
{
	pthread_mutex_lock(&pool->lock);
	double next = expire(pool, NULL, watch, INFINITY) - clock_now();
	for (const struct job *job = pool->first; job; job = job->next) {
		double limit = watch->limit(job->module, watch->arg);
		next = limit > 0 && limit < next ? limit : next;
	}
	pthread_mutex_unlock(&pool->lock);
	return next > 0 ? next : 0;
}

static bool is_running(const struct workers *pool, const struct stk_module *module)
{
	const struct worker *worker = pool->threads;
	while (worker && !(worker->running && (!module || worker->running->module == module))) {
		worker = worker->next;
	}
	return worker != NULL;
}

void workers_cancel(struct workers *pool, const struct stk_module *module, const struct workers_watch *watch, double bound)
{
	double until = clock_now() + bound;
	pthread_mutex_lock(&pool->lock);
	cancel_waiting(pool, module);
	double next = expire(pool, module, watch, until);
	while (is_running(pool, module)) {
		double whole = floor(next);
		struct timespec at = { .tv_sec = (time_t)whole, .tv_nsec = (long)((next - whole) * 1e9) };
		pthread_cond_timedwait(&pool->idle, &pool->lock, &at);
		next = expire(pool, module, watch, until);
	}
	pthread_mutex_unlock(&pool->lock);
}

unsigned workers_free(struct workers **pool_ptr)
{
	struct workers *pool = *pool_ptr;
	if (!pool) {
		return 0;
	}
	*pool_ptr = NULL;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	cancel_waiting(pool, NULL);
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	while (pool->threads) {
		struct worker *worker = pool->threads;
		pool->threads = worker->next;
		pthread_join(worker->thread, NULL);
		free(worker);
	}
	pthread_mutex_lock(&pool->lock);
	unsigned lost = pool->lost;
	pool->left = true;
	pthread_mutex_unlock(&pool->lock);
	if (!lost) {
		destroy(pool);
	}
	return lost;
}
