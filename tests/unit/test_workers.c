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
	workers_wake(workers);
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

static atomic_int lost, gate_opened;

static double no_limit(const struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	return 0;
}

static double short_limit(const struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	return 0.05;
}

static void count_lost(struct job *job, double ran, void *arg)
{
	(void)arg;
	assert_true(ran > 0);
	assert_int_equal(job->status, 0);
	lost++;
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
	workers_wake(workers);
	const struct workers_watch watch = { .limit = no_limit, .lost = count_lost };
	workers_cancel(workers, NULL, &watch, 60);
	assert_int_equal(lost, 0);
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

/* ---- jobs that do not end ---- */

/* Hangs until the test opens the gate. */
static void work_long(struct stk_module *module, void *arg)
{
	(void)module;
	(void)arg;
	while (!gate_opened) {
		usleep(1000);
	}
}

static void put_all(struct workers *workers, stk_work_fn *work, uint64_t key, int count)
{
	for (int i = 0; i < count; i++) {
		assert_int_equal(workers_put(workers, make_job(work, key, i + 1)), 0);
	}
	workers_wake(workers);
}

/* Waits for COUNT mails and frees them. Returns how many of them had STATUS. */
static int receive(struct mailbox *box, int count, int status)
{
	int found = 0;
	while (count) {
		for (struct mail *mail = mailbox_take(box), *next; mail; mail = next) {
			next = mail->next;
			found += ((struct job *)mail)->status == status;
			free(mail);
			count--;
		}
		usleep(500);
	}
	return found;
}

static void expire_until(struct workers *workers, const struct workers_watch *watch, int count)
{
	while (lost < count) {
		double next = workers_expire(workers, watch);
		assert_true(next >= 0);
		usleep(next < 1 ? (useconds_t)(next * 1e6) : 1000);
	}
}

static void a_job_past_its_limit_leaves_its_key_and_its_place_to_others(void **state)
{
	(void)state;
	const struct workers_watch watch = { .limit = short_limit, .lost = count_lost };
	struct ev_loop *ev = ev_loop_new(0);
	struct mailbox box;
	mailbox_init(&box, ev);
	lost = finished_threads = 0;
	gate_opened = 0;
	struct workers *workers = workers_new(1, &box, 7, count_thread, NULL);
	put_all(workers, work_long, 5, 1);
	put_all(workers, no_work, 5, 10);
	expire_until(workers, &watch, 1);
	assert_int_equal(receive(&box, 10, 0), 10);
	assert_int_equal(finished_threads, 0);
	gate_opened = 1;
	assert_int_equal(receive(&box, 1, -ETIMEDOUT), 1);
	put_all(workers, no_work, 5, 1);
	assert_int_equal(receive(&box, 1, 0), 1);
	assert_true(workers_expire(workers, &watch) > 1e9);
	unsigned left = workers_free(&workers); /* the late thread may be on its last steps */
	assert_true(left <= 1);
	while (finished_threads < 2) {
		usleep(500);
	}
	assert_int_equal(lost, 1);
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

static void what_waits_for_a_thread_has_all_its_time_left(void **state)
{
	(void)state;
	const struct workers_watch watch = { .limit = short_limit, .lost = count_lost };
	struct ev_loop *ev = ev_loop_new(0);
	struct mailbox box;
	mailbox_init(&box, ev);
	lost = 0;
	struct workers *workers = workers_new(1, &box, 7, count_thread, NULL);
	put_all(workers, work_alone, 0, 400); /* 0.2 s in all, 0.5 ms each */
	assert_true(workers_expire(workers, &watch) <= 0.05);
	assert_int_equal(receive(&box, 400, 0), 400);
	workers_expire(workers, &watch);
	assert_int_equal(lost, 0);
	assert_int_equal(workers_free(&workers), 0);
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

static void an_end_does_not_wait_for_what_hangs_past_its_bound(void **state)
{
	(void)state;
	const struct workers_watch watch = { .limit = no_limit, .lost = count_lost };
	struct ev_loop *ev = ev_loop_new(0);
	struct mailbox box;
	mailbox_init(&box, ev);
	lost = finished_threads = 0;
	gate_opened = 0;
	struct workers *workers = workers_new(2, &box, 7, count_thread, NULL);
	put_all(workers, work_long, 0, 1);
	put_all(workers, work_alone, 1, 5);
	assert_int_equal(receive(&box, 5, 0), 5);
	workers_cancel(workers, NULL, &watch, 0.05);
	assert_int_equal(lost, 1);
	assert_int_equal(workers_free(&workers), 1);
	assert_int_equal(finished_threads, 2);
	gate_opened = 1; /* the last one ends on its own, and sends nothing */
	while (finished_threads < 3) {
		usleep(500);
	}
	assert_null(mailbox_take(&box));
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

static void threads_are_replaced_up_to_a_bound_and_again_when_lost_ones_return(void **state)
{
	(void)state;
	const struct workers_watch watch = { .limit = short_limit, .lost = count_lost };
	struct ev_loop *ev = ev_loop_new(0);
	struct mailbox box;
	mailbox_init(&box, ev);
	lost = finished_threads = 0;
	gate_opened = 0;
	struct workers *workers = workers_new(4, &box, 7, count_thread, NULL);
	put_all(workers, work_long, 0, WORKERS_LOST_MAX + 4);
	expire_until(workers, &watch, WORKERS_LOST_MAX + 4);
	put_all(workers, no_work, 0, 1); /* there is no thread any more */
	usleep(20000);
	assert_null(mailbox_take(&box));
	gate_opened = 1;
	assert_int_equal(receive(&box, WORKERS_LOST_MAX + 5, -ETIMEDOUT), WORKERS_LOST_MAX + 4);
	while (finished_threads < WORKERS_LOST_MAX + 4) {
		usleep(500);
	}
	workers_free(&workers);
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_of_one_key_run_one_after_the_other_in_order),
		cmocka_unit_test(cancelling_sends_back_what_waits_and_awaits_what_runs),
		cmocka_unit_test(a_full_queue_refuses_and_leaves_the_job_to_its_sender),
		cmocka_unit_test(a_job_past_its_limit_leaves_its_key_and_its_place_to_others),
		cmocka_unit_test(what_waits_for_a_thread_has_all_its_time_left),
		cmocka_unit_test(an_end_does_not_wait_for_what_hangs_past_its_bound),
		cmocka_unit_test(threads_are_replaced_up_to_a_bound_and_again_when_lost_ones_return),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
