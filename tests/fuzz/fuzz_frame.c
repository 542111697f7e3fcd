/* SPDX-License-Identifier: MIT */
/* Fuzz target: a frame's length prefix and ProtoHeader. What opens must open again, and to the same bytes, after it was
 * wrapped. */

#undef NDEBUG
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "core/arena.h"
#include "core/buf.h"
#include "proto/frame.h"

#define LIMIT (256u * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void wrap_again(const uint8_t *msg, size_t n)
{
	struct arena *arena = arena_new(0);
	struct buf frame = { 0 };
	const uint8_t *again;
	size_t len = 0, again_len;
	const char *why;
	assert(arena);
	if (frame_wrap(msg, n, &frame) == 0) {
		int prefix = frame_prefix(buf_data(&frame), frame.len, &len);
		assert(prefix > 0 && len == frame.len - (size_t)prefix);
		int rc = frame_open(buf_data(&frame) + prefix, len, LIMIT, arena, &again, &again_len, &why);
		assert(rc == 0 && again_len == n && (!n || memcmp(again, msg, n) == 0));
		(void)rc;
	}
	buf_fini(&frame);
	arena_free(&arena);
}

static void open_one(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	const uint8_t *msg;
	size_t n;
	const char *why = NULL;
	assert(arena);
	int rc = frame_open(data, size, LIMIT, arena, &msg, &n, &why);
	assert(arena_used(arena) <= LIMIT + 64);
	if (rc == 0) {
		assert(n <= LIMIT);
		wrap_again(msg, n);
	} else {
		assert(why);
	}
	arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len = 0;
	int prefix = frame_prefix(data, size, &len);
	if (prefix > 0 && len <= size - (size_t)prefix) {
		open_one(data + prefix, len);
	}
	open_one(data, size);
	return 0;
}
