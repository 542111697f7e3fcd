/* SPDX-License-Identifier: MIT */
/* Workers: threads that run modules' jobs. Owns the queue and the order of equal keys; results go back by mail and
 * are looked at on the router thread. */

#include "core/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct worker {
	struct workers *pool;
	pthread_t thread;
	const struct job *running;
};

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	struct job *first, **last;
	size_t waiting;
	bool stopping;
	struct mailbox *box;
	int kind;
	void (*fini)(void *arg);
	void *arg;
	unsigned count;
	struct worker threads[];
};

static bool is_blocked(const struct workers *pool, const struct job *job)
{
	for (unsigned i = 0; job->key && i < pool->count; i++) {
		const struct job *other = pool->threads[i].running;
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

static void *run_worker(void *arg)
{
	struct worker *self = arg;
	struct workers *pool = self->pool;
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct job *job = next_job(pool);
		if (!job && pool->stopping) {
			break;
		}
		if (!job) {
			pthread_cond_wait(&pool->work, &pool->lock);
			continue;
		}
		self->running = job;
		pthread_mutex_unlock(&pool->lock);
		job->work(job->module, job->arg);
		pthread_mutex_lock(&pool->lock);
		self->running = NULL;
		bool keyed = job->key != 0;
		send_back(pool, job, 0);
		if (keyed) {
			pthread_cond_broadcast(&pool->work); /* one behind it may have waited for its key */
		}
		pthread_cond_broadcast(&pool->idle);
	}
	pthread_mutex_unlock(&pool->lock);
	pool->fini(pool->arg);
	return NULL;
}

struct workers *workers_new(unsigned count, struct mailbox *box, int kind, void (*fini)(void *), void *arg)
{
	struct workers *pool = calloc(1, sizeof(*pool) + count * sizeof(pool->threads[0]));
	if (!pool) {
		return NULL;
	}
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->idle, NULL);
	pool->last = &pool->first;
	pool->box = box;
	pool->kind = kind;
	pool->fini = fini;
	pool->arg = arg;
	/* Signals are for the router thread. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_mutex_lock(&pool->lock);
	for (unsigned i = 0; i < count; i++) {
		pool->threads[i].pool = pool;
		if (pthread_create(&pool->threads[i].thread, NULL, run_worker, &pool->threads[i]) != 0) {
			break;
		}
		pool->count++;
	}
	pthread_mutex_unlock(&pool->lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pool->count < count) {
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
		pthread_cond_signal(&pool->work);
	}
	pthread_mutex_unlock(&pool->lock);
	return rc;
}

static bool is_running(const struct workers *pool, const struct stk_module *module)
{
	for (unsigned i = 0; i < pool->count; i++) {
		if (pool->threads[i].running && pool->threads[i].running->module == module) {
			return true;
		}
	}
	return false;
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

void workers_cancel(struct workers *pool, const struct stk_module *module)
{
	pthread_mutex_lock(&pool->lock);
	cancel_waiting(pool, module);
	while (is_running(pool, module)) {
		pthread_cond_wait(&pool->idle, &pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
}

void workers_free(struct workers **pool_ptr)
{
	struct workers *pool = *pool_ptr;
	if (!pool) {
		return;
	}
	*pool_ptr = NULL;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	cancel_waiting(pool, NULL);
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->count; i++) {
		pthread_join(pool->threads[i].thread, NULL);
	}
	pthread_cond_destroy(&pool->idle);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
