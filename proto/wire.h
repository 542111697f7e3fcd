/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_WIRE_H
#define STK_PROTO_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_VARINT_MAX 10         /* bytes of a 64-bit varint */
#define WIRE_FIELD_MAX 0x1fffffffu /* the greatest field number */

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* One field as it lies in the input. */
struct wire_field {
	uint32_t number;
	enum wire_type type;
	uint64_t value;      /* WIRE_VARINT */
	const uint8_t *data; /* WIRE_BYTES: what it holds */
	size_t len;
};

/* Reads a varint of at most MAX bytes. Returns how many it took; 0: it does not end within N or MAX bytes. */
static inline size_t wire_varint(const uint8_t *in, size_t n, size_t max, uint64_t *value)
{
	uint64_t sum = 0;
	if (n && in[0] < 0x80) { /* nearly all of them */
		*value = in[0];
		return 1;
	}
	for (size_t i = 0; i < n && i < max; i++) {
		sum |= (uint64_t)(in[i] & 0x7f) << (7 * i);
		if (!(in[i] & 0x80)) {
			*value = sum;
			return i + 1;
		}
	}
	return 0;
}

/* Reads the field at the start of IN. Returns its size; 0: it is not well-formed or does not end within N bytes. */
static inline size_t wire_field(const uint8_t *in, size_t n, struct wire_field *field)
{
	uint64_t tag, len;
	size_t head = wire_varint(in, n, 5, &tag), more;
	*field = (struct wire_field){ 0 };
	if (!head || tag >> 3 == 0 || tag >> 3 > WIRE_FIELD_MAX) {
		return 0;
	}
	field->number = (uint32_t)(tag >> 3);
	switch (tag & 7) {
	case WIRE_VARINT:
		field->type = WIRE_VARINT;
		more = wire_varint(in + head, n - head, WIRE_VARINT_MAX, &field->value);
		return more ? head + more : 0;
	case WIRE_FIXED64: field->type = WIRE_FIXED64; return n - head >= 8 ? head + 8 : 0;
	case WIRE_FIXED32: field->type = WIRE_FIXED32; return n - head >= 4 ? head + 4 : 0;
	case WIRE_BYTES:
		field->type = WIRE_BYTES;
		more = wire_varint(in + head, n - head, 5, &len);
		if (!more || len > n - head - more) {
			return 0;
		}
		field->data = in + head + more;
		field->len = (size_t)len;
		return head + more + field->len;
	default: return 0; /* groups are older than this protocol */
	}
}

#endif
