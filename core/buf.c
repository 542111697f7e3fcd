/* SPDX-License-Identifier: MIT */
/* Byte buffers. Owns growth and compaction, nothing else. */

#include "core/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint8_t *buf_reserve(struct buf *buf, size_t more)
{
	if (more > SIZE_MAX / 2 - buf->len) {
		return NULL;
	}
	if (buf->start && buf->start + buf->len + more > buf->cap) {
		memmove(buf->data, buf_data(buf), buf->len);
		buf->start = 0;
	}
	if (buf->start + buf->len + more > buf->cap) {
		size_t cap = buf->cap ? buf->cap : 256;
		while (cap < buf->len + more) {
			cap *= 2;
		}
		uint8_t *data = realloc(buf->data, cap);
		if (!data) {
			return NULL;
		}
		buf->data = data;
		buf->cap = cap;
	}
	return buf->data + buf->start + buf->len;
}

void buf_grew(struct buf *buf, size_t n)
{
	assert(n <= buf->cap - buf->start - buf->len);
	buf->len += n;
}

int buf_append(struct buf *buf, const void *data, size_t n)
{
	if (!n) {
		return 0;
	}
	uint8_t *room = buf_reserve(buf, n);
	if (!room) {
		return -ENOMEM;
	}
	memcpy(room, data, n);
	buf->len += n;
	return 0;
}

void buf_consume(struct buf *buf, size_t n)
{
	assert(n <= buf->len);
	buf->len -= n;
	buf->start = buf->len ? buf->start + n : 0;
}

void buf_fini(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf){ 0 };
}
