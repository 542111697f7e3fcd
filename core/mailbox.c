/* SPDX-License-Identifier: MIT */
/* Mailboxes: how threads hand work to an event loop. A lock-free stack that is taken whole and turned over, so that
 * the order of each sender is kept. Knows nothing of what the mail says. */

#include "core/mailbox.h"

#include <assert.h>
#include <stddef.h>

/* Waking is all that is wanted: the owner drains its boxes before it sleeps again. */
static void on_wake(struct ev_loop *ev, struct ev_async *wake, int events)
{
	(void)ev;
	(void)wake;
	(void)events;
}

void mailbox_init(struct mailbox *box, struct ev_loop *ev)
{
	atomic_init(&box->newest, NULL);
	box->ev = ev;
	box->owner = pthread_self();
	ev_async_init(&box->wake, on_wake);
	ev_async_start(ev, &box->wake);
	ev_unref(ev);
}

void mailbox_fini(struct mailbox *box)
{
	assert(!atomic_load(&box->newest));
	ev_ref(box->ev);
	ev_async_stop(box->ev, &box->wake);
}

void mailbox_give(struct mailbox *box, pthread_t thread)
{
	box->owner = thread;
}

/* NEWEST to OLDEST are linked that way already. */
static void put(struct mailbox *box, struct mail *newest, struct mail *oldest)
{
	struct mail *before = atomic_load_explicit(&box->newest, memory_order_relaxed);
	do {
		oldest->next = before;
	} while (!atomic_compare_exchange_weak_explicit(&box->newest, &before, newest, memory_order_acq_rel,
	                                                memory_order_relaxed));
	if (!before) {
		mailbox_wake(box);
	}
}

void mailbox_put(struct mailbox *box, struct mail *mail)
{
	put(box, mail, mail);
}

void mail_batch_add(struct mail_batch *batch, struct mail *mail)
{
	mail->next = batch->newest;
	batch->newest = mail;
	batch->oldest = batch->oldest ? batch->oldest : mail;
	batch->count++;
}

void mailbox_put_batch(struct mailbox *box, struct mail_batch *batch)
{
	if (batch->newest) {
		put(box, batch->newest, batch->oldest);
	}
	*batch = (struct mail_batch){ 0 };
}

void mailbox_wake(struct mailbox *box)
{
	if (!pthread_equal(box->owner, pthread_self())) {
		ev_async_send(box->ev, &box->wake);
	}
}

void mailbox_stay_awake(struct mailbox *box)
{
	ev_async_send(box->ev, &box->wake);
}

struct mail *mailbox_take(struct mailbox *box)
{
	struct mail *mail = atomic_exchange_explicit(&box->newest, NULL, memory_order_acq_rel);
	struct mail *oldest = NULL;
	while (mail) {
		struct mail *next = mail->next;
		mail->next = oldest;
		oldest = mail;
		mail = next;
	}
	return oldest;
}
