/* SPDX-License-Identifier: MIT */
/* Fuzz target: a frame's length prefix and ProtoHeader. What opens must open again, and to the same bytes, after it was
 * wrapped. */

#undef NDEBUG
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "proto/frame.h"

#define LIMIT (256u * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void wrap_again(const uint8_t *msg, size_t n)
{
	struct frame_room room;
	struct buf frame = { 0 };
	const uint8_t *again;
	size_t len = 0, again_len;
	const char *why;
	room.large = NULL;
	if (frame_wrap(msg, n, &frame) == 0) {
		int prefix = frame_prefix(buf_data(&frame), frame.len, &len);
		assert(prefix > 0 && len == frame.len - (size_t)prefix);
		int rc = frame_open(buf_data(&frame) + prefix, len, LIMIT, &room, &again, &again_len, &why);
		assert(rc == 0 && again_len == n && (!n || memcmp(again, msg, n) == 0));
		(void)rc;
	}
	buf_fini(&frame);
	free(room.large);
}

static void open_one(const uint8_t *data, size_t size)
{
	struct frame_room room;
	const uint8_t *msg;
	size_t n;
	const char *why = NULL;
	room.large = NULL;
	int rc = frame_open(data, size, LIMIT, &room, &msg, &n, &why);
	if (rc == 0) {
		assert(n <= LIMIT);
		wrap_again(msg, n);
	} else {
		assert(why);
	}
	free(room.large);
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
