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

void mailbox_put(struct mailbox *box, struct mail *mail)
{
	struct mail *newest = atomic_load_explicit(&box->newest, memory_order_relaxed);
	do {
		mail->next = newest;
	} while (!atomic_compare_exchange_weak_explicit(&box->newest, &newest, mail, memory_order_acq_rel,
	                                                memory_order_relaxed));
	if (!newest && !pthread_equal(box->owner, pthread_self())) {
		ev_async_send(box->ev, &box->wake);
	}
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
