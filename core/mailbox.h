/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_MAILBOX_H
#define STK_CORE_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>

#include <ev.h>

/* A batch queue into a thread that runs an event loop. Any thread puts mail in; the owner takes all of it at once, oldest first,
 * before its loop sleeps. A put from another thread wakes the owner, and only the first since the owner took does. */
struct mail {
	struct mail *next;
	int kind; /* what it is, in terms of the box's owner */
};

/* Mail that is collected by one thread before it is put as one. Zero-initialised is empty. */
struct mail_batch {
	struct mail *newest, *oldest;
	unsigned count;
};

struct mailbox {
	_Atomic(struct mail *) newest;
	struct ev_loop *ev;
	struct ev_async wake;
	pthread_t owner;
};

/* The calling thread becomes the owner. */
void mailbox_init(struct mailbox *box, struct ev_loop *ev);
void mailbox_fini(struct mailbox *box); /* the owner; the box must be empty */
/* THREAD becomes the owner; before it runs EV, and before others put. */
void mailbox_give(struct mailbox *box, pthread_t thread);
/* Gives MAIL to the box. Thread-safe. */
void mailbox_put(struct mailbox *box, struct mail *mail);
void mail_batch_add(struct mail_batch *batch, struct mail *mail);
/* Gives all of BATCH, which is empty afterwards. Thread-safe as far as the box is concerned. */
void mailbox_put_batch(struct mailbox *box, struct mail_batch *batch);
/* Makes the owner's loop go round once, though it sleeps. Thread-safe; nothing happens on the owner's thread. */
void mailbox_wake(struct mailbox *box);
/* The owner's loop does not sleep before its next round: mail may have been left in the box. The owner only. */
void mailbox_stay_awake(struct mailbox *box);
/* Everything put so far, oldest first, linked by next; NULL: nothing. The owner only. */
struct mail *mailbox_take(struct mailbox *box);

#endif
