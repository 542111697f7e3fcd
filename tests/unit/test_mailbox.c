/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/mailbox.h"

#define SENDERS 2
#define MAILS   5000

struct letter {
	struct mail mail;
	int sender, number;
};

static struct mailbox box;

static struct letter *write_letter(int sender, int number)
{
	struct letter *letter = malloc(sizeof(*letter));
	assert_non_null(letter);
	*letter = (struct letter){ .sender = sender, .number = number };
	return letter;
}

/* Batches of different sizes, and single mails between them. */
static void *send_letters(void *arg)
{
	int sender = (int)(intptr_t)arg;
	struct mail_batch batch = { 0 };
	for (int i = 0; i < MAILS; i++) {
		struct letter *letter = write_letter(sender, i);
		if (i % 7 == 6) {
			mailbox_put_batch(&box, &batch);
			mailbox_put(&box, &letter->mail);
		} else {
			mail_batch_add(&batch, &letter->mail);
		}
	}
	mailbox_put_batch(&box, &batch);
	return NULL;
}

/* Takes all there is; each sender's letters must be in order. */
static int take_letters(int *next)
{
	int count = 0;
	for (struct mail *mail = mailbox_take(&box), *after; mail; mail = after, count++) {
		struct letter *letter = (struct letter *)mail;
		after = mail->next;
		assert_int_equal(letter->number, next[letter->sender]);
		next[letter->sender]++;
		free(letter);
	}
	return count;
}

static void batches_and_single_mails_of_a_sender_come_in_order(void **state)
{
	(void)state;
	struct ev_loop *ev = ev_loop_new(0);
	pthread_t threads[SENDERS];
	int next[SENDERS] = { 0 }, count = 0;
	mailbox_init(&box, ev);
	for (intptr_t i = 0; i < SENDERS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, send_letters, (void *)i), 0);
	}
	ev_ref(ev); /* the box's watcher does not count */
	while (count < SENDERS * MAILS) {
		int some = take_letters(next);
		count += some;
		if (!some) {
			ev_run(ev, EVRUN_ONCE); /* it would sleep for ever if a wake-up were missed */
		}
	}
	ev_unref(ev);
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_null(mailbox_take(&box));
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

static void mail_that_is_left_keeps_the_owner_awake(void **state)
{
	(void)state;
	struct ev_loop *ev = ev_loop_new(0);
	struct mail mail = { .kind = 5 };
	mailbox_init(&box, ev);
	mailbox_put(&box, &mail);
	mailbox_wake(&box); /* nothing: the owner is awake */
	mailbox_stay_awake(&box);
	ev_ref(ev);
	ev_run(ev, EVRUN_ONCE); /* does not wait */
	ev_unref(ev);
	assert_ptr_equal(mailbox_take(&box), &mail);
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

static void an_empty_batch_puts_nothing(void **state)
{
	(void)state;
	struct ev_loop *ev = ev_loop_new(0);
	struct mail_batch batch = { 0 };
	mailbox_init(&box, ev);
	mailbox_put_batch(&box, &batch);
	assert_null(mailbox_take(&box));
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batches_and_single_mails_of_a_sender_come_in_order),
		cmocka_unit_test(mail_that_is_left_keeps_the_owner_awake),
		cmocka_unit_test(an_empty_batch_puts_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
