/* SPDX-License-Identifier: MIT */
/* A thread of its own posts without end until unload() stops it. */

#include "bad.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

static pthread_t thread;
static atomic_bool stop;
static atomic_int last, waiting;

static void on_post(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	atomic_fetch_sub(&waiting, 1);
}

static void *run(void *arg)
{
	while (!atomic_load(&stop)) {
		if (atomic_load(&waiting) > 1000) {
			sched_yield();
			continue;
		}
		atomic_fetch_add(&waiting, 1);
		int rc = stk_post(arg, on_post, NULL);
		atomic_store(&last, rc);
		if (rc < 0) {
			atomic_fetch_sub(&waiting, 1);
		}
	}
	return NULL;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	atomic_store(&stop, false);
	atomic_store(&last, 0);
	return -pthread_create(&thread, NULL, run, module);
}

static void unload(struct stk_module *module)
{
	while (atomic_load(&last) == 0) { /* the thread goes on until it has been refused */
		sched_yield();
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	stk_log(module, LOG_NOTICE, "the last post: %d, lost: %d", atomic_load(&last), atomic_load(&waiting));
}

STK_MODULE(.name = "poster", .load = load, .unload = unload);
