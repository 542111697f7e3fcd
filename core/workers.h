/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_WORKERS_H
#define STK_CORE_WORKERS_H

#include <stdint.h>
#include <startalkd/module.h>

#include "core/mailbox.h"

/* A small pool of threads for what blocks. */
struct workers;

/* One piece of work. When it is over it comes back as mail; its sender then calls done and frees it. */
struct job {
	struct mail mail;
	struct job *next;
	struct job *next_lost; /* of those that were just written off; router thread */
	struct stk_module *module;
	uint64_t key; /* jobs of one module with equal keys run in order; 0: any time */
	stk_work_fn *work;
	stk_done_fn *done;
	void *arg;
	int status; /* 0; -ECANCELED: never ran; -ETIMEDOUT: was written off, and has ended after all */
};

#define WORKERS_QUEUE_MAX 16384 /* jobs that may wait */
#define WORKERS_LOST_MAX  64    /* threads that hang in written-off jobs and are replaced */

/* How long jobs may run, and who is told of those that take longer: from then on they belong to their thread alone, their keys are
 * free, and another thread takes its place. Both are called under the pool's lock, on the thread that asks. */
struct workers_watch {
	double (*limit)(const struct stk_module *module, void *arg); /* seconds; 0: any time */
	void (*lost)(struct job *job, double ran, void *arg);
	void *arg;
};

/* COUNT threads; finished jobs go to BOX with mail kind KIND. FINI(ARG) runs on each thread at its end. NULL: out of memory or threads. */
struct workers *workers_new(unsigned count, struct mailbox *box, int kind, void (*fini)(void *arg), void *arg);
/* Takes JOB, which a thread that sleeps does not know of before workers_wake(). 0, or -EAGAIN: the queue is full, JOB stays the caller's. */
int workers_put(struct workers *workers, struct job *job);
/* Once for all jobs that were put: each wake-up costs two switches of threads. The thread that puts them. */
void workers_wake(struct workers *workers);
/* Sends back MODULE's waiting jobs with -ECANCELED. */
void workers_withdraw(struct workers *workers, const struct stk_module *module);
/* Writes off the jobs that run for too long. Returns in how many seconds to look again; INFINITY: no job has a limit. */
double workers_expire(struct workers *workers, const struct workers_watch *watch);
/* Sends back MODULE's waiting jobs with -ECANCELED and waits for those that run, but no longer than BOUND seconds: then, or at their
 * limits, they are written off. MODULE NULL: everybody's. */
void workers_cancel(struct workers *workers, const struct stk_module *module, const struct workers_watch *watch, double bound);
/* Ends the threads; what waits is sent back. Returns how many threads still hang in jobs that were written off: they end with the
 * process, or free themselves, and what FINI and the jobs use must stay. No mail comes after this. */
unsigned workers_free(struct workers **workers);

#endif
