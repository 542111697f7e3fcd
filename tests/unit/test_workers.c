/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/workers.h"

static atomic_int finished_threads, running, overlapped;

static void count_thread(void *arg)
{
	(void)arg;
	finished_threads++;
}

static void work_alone(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	if (atomic_fetch_add(&running, 1) != 0) {
		overlapped++;
	}
	usleep(500);
	running--;
}

static struct job *make_job(stk_work_fn *work, uint64_t key, intptr_t number)
{
	struct job *job = calloc(1, sizeof(*job));
	assert_non_null(job);
	*job = (struct job){ .key = key, .work = work, .arg = (void *)number };
	return job;
}

static int collect(struct mailbox *box, int *ran, int *cancelled, intptr_t *last, bool *ordered)
{
	int count = 0;
	for (struct mail *mail = mailbox_take(box), *next; mail; mail = next) {
		next = mail->next;
		struct job *job = (struct job *)mail;
		*(job->status == 0 ? ran : cancelled) += 1;
		*ordered = *ordered && (job->status != 0 || (intptr_t)job->arg > *last);
		*last = job->status == 0 ? (intptr_t)job->arg : *last;
		free(job);
		count++;
	}
	return count;
}

static void jobs_of_one_key_run_one_after_the_other_in_order(void **state)
{
	(void)state;
	struct ev_loop *ev = ev_loop_new(0);
	struct mailbox box;
	mailbox_init(&box, ev);
	finished_threads = 0;
	struct workers *workers = workers_new(4, &box, 7, count_thread, NULL);
	assert_non_null(workers);
	for (intptr_t i = 1; i <= 50; i++) {
		assert_int_equal(workers_put(workers, make_job(work_alone, 42, i)), 0);
	}
	int ran = 0, cancelled = 0;
	intptr_t last = 0;
	bool ordered = true;
	while (ran < 50) {
		collect(&box, &ran, &cancelled, &last, &ordered);
	}
	assert_true(ordered);
	assert_int_equal(overlapped, 0);
	assert_int_equal(cancelled, 0);
	workers_free(&workers);
	assert_null(workers);
	assert_int_equal(finished_threads, 4);
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

static void cancelling_sends_back_what_waits_and_awaits_what_runs(void **state)
{
	(void)state;
	struct ev_loop *ev = ev_loop_new(0);
	struct mailbox box;
	mailbox_init(&box, ev);
	struct workers *workers = workers_new(1, &box, 7, count_thread, NULL);
	for (intptr_t i = 1; i <= 100; i++) {
		assert_int_equal(workers_put(workers, make_job(work_alone, 0, i)), 0);
	}
	workers_cancel(workers, NULL);
	assert_int_equal(running, 0);
	int ran = 0, cancelled = 0;
	intptr_t last = 0;
	bool ordered = true;
	assert_int_equal(collect(&box, &ran, &cancelled, &last, &ordered), 100);
	assert_true(cancelled > 0);
	workers_free(&workers);
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

static void no_work(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
}

static void a_full_queue_refuses_and_leaves_the_job_to_its_sender(void **state)
{
	(void)state;
	struct ev_loop *ev = ev_loop_new(0);
	struct mailbox box;
	mailbox_init(&box, ev);
	struct workers *workers = workers_new(1, &box, 7, count_thread, NULL);
	assert_int_equal(workers_put(workers, make_job(work_alone, 1, 1)), 0);
	int rc = 0, put = 1;
	while (rc == 0 && put < 10 * WORKERS_QUEUE_MAX) {
		struct job *job = make_job(put < 200 ? work_alone : no_work, 1, put + 1);
		rc = workers_put(workers, job);
		if (rc < 0) {
			free(job);
		} else {
			put++;
		}
	}
	assert_int_equal(rc, -EAGAIN);
	workers_free(&workers);
	int ran = 0, cancelled = 0;
	intptr_t last = 0;
	bool ordered = true;
	assert_int_equal(collect(&box, &ran, &cancelled, &last, &ordered), put);
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_of_one_key_run_one_after_the_other_in_order),
		cmocka_unit_test(cancelling_sends_back_what_waits_and_awaits_what_runs),
		cmocka_unit_test(a_full_queue_refuses_and_leaves_the_job_to_its_sender),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
