/* SPDX-License-Identifier: MIT */
/* Frames: the length prefix, the ProtoHeader and what hides the ProtoMessage in it. Owns this thread's deflate states.
 * What a ProtoMessage says is the codec's business. */

#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include "proto/check.h"
#include "proto/startalk.pb-c.h"
#include "proto/tea.h"
#include "proto/wire.h"

#define FRAME_MAX (2u * 1024 * 1024)              /* real clients read three length bytes */
#define HEADER_MAX (FRAME_PREFIX_MAX + 2 + 1 + 4) /* prefix, options, tag and length of message */
#define GZIP_LEVEL 1    /* a hundredth larger than zlib's usual level, in a quarter of the time */
#define GZIP_TAIL 8     /* CRC and size behind the stream */
#define GZIP_STORED 5   /* bytes before a block that is not compressed */
#define STORED_MAX 512  /* up to this size a message is not worth the time that deflate takes */
#define GZIP_RATIO 1032 /* deflate makes nothing smaller than this */

enum { OPTION_PLAIN = 0, OPTION_GZIP = 1, OPTION_TEA = 5 };
enum { FIELD_OPTIONS = 2, FIELD_MESSAGE = 6 };

static _Thread_local struct libdeflate_compressor *deflater;
static _Thread_local struct libdeflate_decompressor *inflater;

int frame_prefix(const uint8_t *in, size_t n, size_t *len)
{
	uint64_t value;
	size_t size = wire_varint(in, n, FRAME_PREFIX_MAX, &value);
	if (!size) {
		return n < FRAME_PREFIX_MAX ? 0 : -EBADMSG;
	}
	*len = (size_t)value;
	return (int)size;
}

static uint8_t *make_room(struct frame_room *room, size_t size)
{
	if (size <= sizeof(room->small)) {
		return room->small;
	}
	room->large = malloc(size);
	return room->large;
}

/* The stream's own word for its size is what memory is taken for, and what it has to inflate to. */
static int open_gzip(const struct wire_field *gz, size_t limit, struct frame_room *room, const uint8_t **msg,
		     size_t *msg_len, const char **why)
{
	*why = "bad gzip";
	if (gz->len < GZIP_TAIL) {
		return -EBADMSG;
	}
	const uint8_t *tail = gz->data + gz->len - 4;
	size_t size = (size_t)tail[3] << 24 | (size_t)tail[2] << 16 | (size_t)tail[1] << 8 | tail[0];
	if (size / GZIP_RATIO > gz->len) {
		return -EBADMSG;
	}
	if (size > limit) {
		*why = "inflates past the limit";
		return -EMSGSIZE;
	}
	uint8_t *out = make_room(room, size);
	inflater = inflater ? inflater : libdeflate_alloc_decompressor();
	if (!out || !inflater) {
		*why = NULL; /* it is none of the gzip's */
		return -ENOMEM;
	}
	size_t used;
	if (libdeflate_gzip_decompress_ex(inflater, gz->data, gz->len, out, size, &used, NULL) != LIBDEFLATE_SUCCESS ||
	    used != gz->len) {
		return -EBADMSG;
	}
	*msg = out;
	*msg_len = size;
	return 0;
}

static int open_tea(const struct wire_field *tea, struct frame_room *room, const uint8_t **msg, size_t *msg_len)
{
	uint8_t *out = make_room(room, tea->len);
	if (!out) {
		return -ENOMEM;
	}
	tea_decrypt(tea->data, tea->len, out);
	*msg = out;
	*msg_len = tea->len;
	return 0;
}

int frame_open(const uint8_t *in, size_t n, size_t limit, struct frame_room *room, const uint8_t **msg, size_t *msg_len,
	       const char **why)
{
	int rc = n > UINT32_MAX / 2
			 ? -EMSGSIZE
			 : check_message(&startalk__proto_header__descriptor, in, n, &check_client, NULL, why);
	if (rc < 0) {
		return rc;
	}
	struct wire_field message = { 0 };
	int32_t options = OPTION_PLAIN;
	for (size_t pos = 0; pos < n;) {
		struct wire_field field;
		pos += wire_field(in + pos, n - pos, &field);
		if (field.number == FIELD_OPTIONS) {
			options = (int32_t)(uint32_t)field.value;
		} else if (field.number == FIELD_MESSAGE) {
			message = field;
		}
	}
	if (message.number != FIELD_MESSAGE) {
		*why = "ProtoHeader without message";
		return -EBADMSG;
	}
	if (options == OPTION_GZIP) {
		return open_gzip(&message, limit, room, msg, msg_len, why);
	}
	if (message.len > limit) {
		*why = "longer than the limit";
		return -EMSGSIZE;
	}
	if (options == OPTION_TEA) {
		return open_tea(&message, room, msg, msg_len);
	}
	*msg = message.data;
	*msg_len = message.len;
	return 0;
}

static size_t put_varint(uint8_t *out, size_t value)
{
	size_t n = 0;
	for (; value >= 0x80; value >>= 7) {
		out[n++] = (uint8_t)(value | 0x80);
	}
	out[n++] = (uint8_t)value;
	return n;
}

/* Writes what stands before LEN bytes of message; returns its size. */
static size_t put_head(uint8_t *out, uint8_t options, size_t len)
{
	uint8_t head[HEADER_MAX];
	size_t n = 0;
	head[n++] = FIELD_OPTIONS << 3 | WIRE_VARINT;
	head[n++] = options;
	head[n++] = FIELD_MESSAGE << 3 | WIRE_BYTES;
	n += put_varint(head + n, len);
	size_t prefix = put_varint(out, n + len);
	memcpy(out + prefix, head, n);
	return prefix + n;
}

static uint8_t *put_little(uint8_t *out, uint32_t value, size_t bytes)
{
	for (; bytes; bytes--, value >>= 8) {
		*out++ = (uint8_t)value;
	}
	return out;
}

/* Gzip without compression: what deflate would take off a short text full of random ids is less than what the packet
 * around it takes, and it would be nine tenths of the time that a message costs. */
static int wrap_stored(const uint8_t *msg, size_t n, struct buf *out)
{
	static const uint8_t gzip_head[] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3 }; /* as zlib writes it */
	const uint8_t last_block = 1;
	size_t len = sizeof(gzip_head) + GZIP_STORED + n + GZIP_TAIL;
	uint8_t *room = buf_reserve(out, HEADER_MAX + len), *at = room;
	if (!room) {
		return -ENOMEM;
	}
	at += put_head(room, OPTION_GZIP, len);
	memcpy(at, gzip_head, sizeof(gzip_head));
	at = put_little(at + sizeof(gzip_head), last_block, 1);
	at = put_little(at, (uint32_t)n, 2);
	at = put_little(at, ~(uint32_t)n, 2);
	memcpy(at, msg, n);
	at = put_little(at + n, libdeflate_crc32(0, msg, n), 4);
	at = put_little(at, (uint32_t)n, 4);
	buf_grew(out, (size_t)(at - room));
	return 0;
}

static int wrap_gzip(const uint8_t *msg, size_t n, struct buf *out)
{
	if (n > UINT32_MAX / 2) {
		return -EMSGSIZE;
	}
	deflater = deflater ? deflater : libdeflate_alloc_compressor(GZIP_LEVEL);
	if (!deflater) {
		return -ENOMEM;
	}
	size_t bound = libdeflate_gzip_compress_bound(deflater, n);
	uint8_t *room = buf_reserve(out, HEADER_MAX + bound);
	if (!room) {
		return -ENOMEM;
	}
	size_t len = libdeflate_gzip_compress(deflater, msg, n, room + HEADER_MAX, bound);
	assert(len); /* the bound is enough */
	if (len >= FRAME_MAX) {
		return -EMSGSIZE;
	}
	size_t head = put_head(room, OPTION_GZIP, len);
	if (head + len >= FRAME_MAX) {
		return -EMSGSIZE;
	}
	memmove(room + head, room + HEADER_MAX, len);
	buf_grew(out, head + len);
	return 0;
}

int frame_wrap(const uint8_t *msg, size_t n, struct buf *out)
{
	if (n > FRAME_TEA_MAX) {
		return n > STORED_MAX ? wrap_gzip(msg, n, out) : wrap_stored(msg, n, out);
	}
	uint8_t *room = buf_reserve(out, HEADER_MAX + n);
	if (!room) {
		return -ENOMEM;
	}
	size_t head = put_head(room, OPTION_TEA, n);
	tea_encrypt(msg, n, room + head);
	buf_grew(out, head + n);
	return 0;
}

void frame_thread_fini(void)
{
	libdeflate_free_decompressor(inflater);
	libdeflate_free_compressor(deflater);
	inflater = NULL;
	deflater = NULL;
}
