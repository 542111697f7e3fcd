/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/mailbox.h"
#include "core/pool.h"

#define PIECES 20000
#define THREADS 3

/* A piece that is given to two at once is found written over. */
struct parcel {
	struct mail mail;
	unsigned char rest[POOL_SMALL_SIZE - sizeof(struct mail)];
};

static struct mailbox box;
static atomic_uint wrong;

static void *send_parcels(void *arg)
{
	unsigned char sign = (unsigned char)(uintptr_t)arg;
	pool_thread_init();
	for (int i = 0; i < PIECES; i++) {
		struct parcel *parcel = pool_take(POOL_SMALL);
		if (!parcel) {
			wrong++;
			break;
		}
		memset(parcel->rest, sign, sizeof(parcel->rest));
		parcel->mail.kind = sign;
		mailbox_put(&box, &parcel->mail);
		unsigned char *large = pool_take(POOL_LARGE); /* these stay with the thread */
		if (large) {
			large[0] = large[POOL_LARGE_SIZE - 1] = sign;
		}
		pool_give(POOL_LARGE, large);
	}
	pool_thread_fini();
	return NULL;
}

static int receive(void)
{
	int count = 0;
	for (struct mail *mail = mailbox_take(&box), *next; mail; mail = next, count++) {
		struct parcel *parcel = (struct parcel *)mail;
		next = mail->next;
		for (size_t i = 0; i < sizeof(parcel->rest); i++) {
			wrong += parcel->rest[i] != mail->kind;
		}
		pool_give(POOL_SMALL, parcel);
	}
	return count;
}

static void pieces_that_threads_pass_on_are_nobody_elses(void **state)
{
	(void)state;
	struct ev_loop *ev = ev_loop_new(0);
	pthread_t threads[THREADS];
	mailbox_init(&box, ev);
	pool_thread_init();
	for (uintptr_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, send_parcels, (void *)(i + 1)), 0);
	}
	int received = 0;
	while (received < THREADS * PIECES) {
		received += receive();
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(wrong, 0);
	pool_thread_fini();
	mailbox_fini(&box);
	ev_loop_destroy(ev);
}

static void without_a_beginning_pieces_go_back_at_once(void **state)
{
	(void)state;
	void *piece = pool_take(POOL_LARGE); /* a leak would be seen by the sanitizer */
	assert_non_null(piece);
	pool_give(POOL_LARGE, piece);
	pool_give(POOL_SMALL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_beginning_pieces_go_back_at_once),
		cmocka_unit_test(pieces_that_threads_pass_on_are_nobody_elses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
