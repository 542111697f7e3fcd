/* SPDX-License-Identifier: MIT */
#ifndef WEBHOOK_QUEUE_H
#define WEBHOOK_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

/* What waits to be posted: texts of one line each, in their order, within a bound. All zero but `max` is an empty
 * queue. */
struct queue {
	struct entry *first, *last;
	size_t max, bytes; /* bytes: of all entries, with what it takes to keep them */
	size_t busy;       /* entries at its head that are being posted, which must stay */
	size_t lost;       /* dropped since queue_forget_lost() */
};

/* Takes TEXT (malloc'd); the oldest entries that are not busy make room. */
int queue_add(struct queue *queue, char *text);
/* Makes the first entries busy, as many as MAX bytes hold but one at least, and returns them as the JSON array of a
 * batch, malloc'd. NULL: out of memory. The queue is not empty. */
char *queue_batch(struct queue *queue, size_t max, size_t *len);
/* The busy entries are done with (REMOVE), or wait again. Returns how many. */
size_t queue_batch_over(struct queue *queue, bool remove);
/* Appends the queue to a file, or reads it from there and removes the file. 0 or -errno; -ENOENT: there is none. */
int queue_save(const struct queue *queue, const char *path);
int queue_restore(struct queue *queue, const char *path);
void queue_free(struct queue *queue);

#endif
