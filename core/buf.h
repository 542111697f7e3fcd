/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_BUF_H
#define STK_CORE_BUF_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that grow at the end and shrink at the front. Zero-initialised is empty. */
struct buf {
	uint8_t *data;        /* malloc'd; NULL while nothing was ever stored or after buf_fini */
	size_t start, len, cap; /* the bytes are data[start .. start + len) */
};

static inline uint8_t *buf_data(const struct buf *buf)
{
	return buf->data + buf->start;
}

/* Makes room for MORE bytes at the end; returns where they go, or NULL: out of memory. buf_grew() then says how many were written. */
uint8_t *buf_reserve(struct buf *buf, size_t more) __attribute__((warn_unused_result));
void buf_grew(struct buf *buf, size_t n);
/* 0 or -ENOMEM. */
int buf_append(struct buf *buf, const void *data, size_t n) __attribute__((warn_unused_result));
/* Drops N bytes at the front. */
void buf_consume(struct buf *buf, size_t n);
/* Gives the memory back; the buffer is empty and can be used again. */
void buf_fini(struct buf *buf);

#endif
