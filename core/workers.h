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
	struct stk_module *module;
	uint64_t key; /* jobs of one module with equal keys run in order; 0: any time */
	stk_work_fn *work;
	stk_done_fn *done;
	void *arg;
	int status; /* 0, or -ECANCELED: never ran */
};

#define WORKERS_QUEUE_MAX 16384 /* jobs that may wait */

/* COUNT threads; finished jobs go to BOX with mail kind KIND. FINI(ARG) runs on each thread at its end. NULL: out of memory or threads. */
struct workers *workers_new(unsigned count, struct mailbox *box, int kind, void (*fini)(void *arg), void *arg);
/* Takes JOB. 0, or -EAGAIN: the queue is full, JOB stays the caller's. */
int workers_put(struct workers *workers, struct job *job);
/* Sends back MODULE's waiting jobs with -ECANCELED. */
void workers_withdraw(struct workers *workers, const struct stk_module *module);
/* Sends back MODULE's waiting jobs with -ECANCELED and waits for those that run. */
void workers_cancel(struct workers *workers, const struct stk_module *module);
/* Ends the threads; what waits is sent back. */
void workers_free(struct workers **workers);

#endif
