/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_WIRE_OUT_H
#define STK_PROTO_WIRE_OUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/wire.h"

/* Protobuf written from its end to its beginning, so that a message's size is known when it has to stand before it. */
struct wire_out {
	uint8_t *start; /* of the room, which the caller has measured */
	uint8_t *at;    /* of what is written; at first the end of the room */
};

#define WIRE_NUMBER_MAX (2 + WIRE_VARINT_MAX) /* bytes of a number with its tag */
#define WIRE_HEAD_MAX (2 + 5)                 /* bytes before the text or message of a field, up to 4 GiB of it */

static inline void wire_put_varint(struct wire_out *out, uint64_t value)
{
	size_t n = 1;
	for (uint64_t rest = value >> 7; rest; rest >>= 7) {
		n++;
	}
	assert((size_t)(out->at - out->start) >= n);
	out->at -= n;
	for (size_t i = 0; i < n - 1; i++, value >>= 7) {
		out->at[i] = (uint8_t)(value | 0x80);
	}
	out->at[n - 1] = (uint8_t)value;
}

static inline void wire_put_number(struct wire_out *out, uint32_t field, int64_t number)
{
	wire_put_varint(out, (uint64_t)number);
	wire_put_varint(out, field << 3 | WIRE_VARINT);
}

/* What was written since out->at was END becomes a message in FIELD. */
static inline void wire_put_head(struct wire_out *out, uint32_t field, const uint8_t *end)
{
	wire_put_varint(out, (uint64_t)(end - out->at));
	wire_put_varint(out, field << 3 | WIRE_BYTES);
}

static inline void wire_put_bytes(struct wire_out *out, uint32_t field, const void *bytes, size_t n)
{
	const uint8_t *end = out->at;
	assert((size_t)(out->at - out->start) >= n);
	out->at -= n;
	memcpy(out->at, bytes, n);
	wire_put_head(out, field, end);
}

#endif
