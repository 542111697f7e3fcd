/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_MAILBOX_H
#define STK_CORE_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>

#include <ev.h>

/* A batch queue into a thread that runs an event loop. Any thread puts mail in; the owner takes all of it at once, oldest first,
 * before its loop sleeps. A put from another thread wakes the owner, and only the first of a batch does. */
struct mail {
	struct mail *next;
	int kind; /* what it is, in terms of the box's owner */
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
/* Gives MAIL to the box. Thread-safe. */
void mailbox_put(struct mailbox *box, struct mail *mail);
/* Everything put so far, oldest first, linked by next; NULL: nothing. The owner only. */
struct mail *mailbox_take(struct mailbox *box);

#endif
