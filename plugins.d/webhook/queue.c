/* SPDX-License-Identifier: MIT */
/* A bounded queue of texts. Owns which of them are dropped when it is full, and the file in which they outlive the
 * process. */

#include "queue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct entry {
	struct entry *next;
	size_t len;
	char *text;
};

static size_t weight(const struct entry *entry)
{
	return sizeof(*entry) + entry->len + 1;
}

/* Removes what stands behind BEFORE (NULL: the first). */
static void drop(struct queue *queue, struct entry *before)
{
	struct entry **at = before ? &before->next : &queue->first, *entry = *at;
	*at = entry->next;
	queue->last = entry == queue->last ? before : queue->last;
	queue->bytes -= weight(entry);
	free(entry->text);
	free(entry);
}

int queue_add(struct queue *queue, char *text)
{
	struct entry *entry = malloc(sizeof(*entry)), *before = NULL;
	if (!entry) {
		free(text);
		return -ENOMEM;
	}
	*entry = (struct entry){ .text = text, .len = strlen(text) };
	*(queue->last ? &queue->last->next : &queue->first) = entry;
	queue->last = entry;
	queue->bytes += weight(entry);
	if (queue->bytes <= queue->max) {
		return 0;
	}
	for (size_t i = 0; i < queue->busy; i++) {
		before = before ? before->next : queue->first;
	}
	while (queue->bytes > queue->max && (before ? before->next : queue->first)) {
		drop(queue, before);
		queue->lost++;
	}
	return 0;
}

char *queue_batch(struct queue *queue, size_t max, size_t *len)
{
	const struct entry *entry = queue->first;
	size_t size = entry->len + 3; /* brackets and NUL */
	queue->busy = 1;
	for (entry = entry->next; entry && size + entry->len + 1 <= max; entry = entry->next) {
		size += entry->len + 1;
		queue->busy++;
	}
	char *batch = malloc(size), *end = batch;
	if (!batch) {
		queue->busy = 0;
		return NULL;
	}
	entry = queue->first;
	for (size_t i = 0; i < queue->busy; i++, entry = entry->next) {
		*end++ = i ? ',' : '[';
		memcpy(end, entry->text, entry->len);
		end += entry->len;
	}
	memcpy(end, "]", 2);
	*len = size - 1;
	return batch;
}

size_t queue_batch_over(struct queue *queue, bool remove)
{
	size_t count = queue->busy;
	for (size_t i = 0; remove && i < count; i++) {
		drop(queue, NULL);
	}
	queue->busy = 0;
	return count;
}

int queue_save(const struct queue *queue, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600); /* it holds what people wrote */
	FILE *file = fd < 0 ? NULL : fdopen(fd, "a");
	if (!file) {
		int rc = -errno;
		if (fd >= 0) {
			close(fd);
		}
		return rc;
	}
	for (const struct entry *entry = queue->first; entry; entry = entry->next) {
		fprintf(file, "%s\n", entry->text);
	}
	bool good = fflush(file) == 0 && fsync(fd) == 0;
	good = fclose(file) == 0 && good;
	return good ? 0 : -EIO;
}

int queue_restore(struct queue *queue, const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int rc = file ? 0 : -errno;
	while (rc == 0 && (len = getline(&line, &size, file)) > 0) {
		if (line[len - 1] == '\n') { /* else it is half a line, from a full disk */
			line[len - 1] = '\0';
			char *text = strdup(line);
			rc = text ? queue_add(queue, text) : -ENOMEM;
		}
	}
	if (file) {
		rc = rc == 0 && ferror(file) ? -EIO : rc;
		fclose(file);
	}
	free(line);
	return rc == 0 && unlink(path) < 0 ? -errno : rc;
}

void queue_free(struct queue *queue)
{
	while (queue->first) {
		drop(queue, NULL);
	}
}
