/* SPDX-License-Identifier: MIT */
/* The look at bytes from the net before protobuf-c sees them, which recurses without limit, checks no text and takes
 * memory out of proportion. Owns those bounds and the unpacking behind them. What the fields mean is the codec's
 * business. */

#include "proto/check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "proto/startalk.pb-c.h"
#include "proto/text.h"
#include "proto/wire.h"

/* Upper bound of what protobuf-c keeps for one field beside its text: a message, its place in an array, the scanner's
 * notes. */
#define FIELD_COST 256

const struct check_limits check_client = { .depth = CHECK_DEPTH, .headers = 256, .others = 256, .fields = 4096 };
const struct check_limits check_server = { .depth = CHECK_DEPTH, .headers = 65536, .others = 32768, .fields = 524288 };

struct level {
	const ProtobufCMessageDescriptor *type;
	size_t end; /* offset behind it */
};

struct walk {
	struct level stack[CHECK_DEPTH];
	size_t depth, headers, others, fields;
	const struct check_limits *limits;
};

static const char *enter(struct walk *walk, const ProtobufCMessageDescriptor *type, size_t end)
{
	bool header = type == &startalk__string_header__descriptor;
	if (walk->depth >= CHECK_DEPTH || walk->depth >= walk->limits->depth) {
		return "nested too deep";
	}
	if (header ? ++walk->headers > walk->limits->headers : ++walk->others > walk->limits->others) {
		return header ? "too many headers" : "too many bodies";
	}
	walk->stack[walk->depth++] = (struct level){ .type = type, .end = end };
	return NULL;
}

static bool is_packed(const struct wire_field *field)
{
	uint64_t value;
	for (size_t pos = 0, size; pos < field->len; pos += size) {
		size = wire_varint(field->data + pos, field->len - pos, WIRE_VARINT_MAX, &value);
		if (!size) {
			return false;
		}
	}
	return true;
}

/* NULL: TYPE has no such field. Our messages number their fields from 1 on, which saves the search. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type, uint32_t number)
{
	if (number <= type->n_fields && type->fields[number - 1].id == number) {
		return &type->fields[number - 1];
	}
	return protobuf_c_message_descriptor_get_field(type, number);
}

/* Looks at FIELD, which ends at offset END; a message is entered, so that its own fields come next. */
static const char *look_at(struct walk *walk, const ProtobufCFieldDescriptor *known, const struct wire_field *field,
			   size_t end)
{
	switch (known->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_INT64:
		if (field->type == WIRE_VARINT) {
			return NULL;
		}
		if (known->label == PROTOBUF_C_LABEL_REPEATED && field->type == WIRE_BYTES && is_packed(field)) {
			walk->fields += field->len;
			return NULL;
		}
		return "field of the wrong type";
	case PROTOBUF_C_TYPE_STRING:
		if (field->type != WIRE_BYTES) {
			return "field of the wrong type";
		}
		if (memchr(field->data, 0, field->len)) {
			return "U+0000 in text";
		}
		return text_is_utf8(field->data, field->len) ? NULL : "text is not UTF-8";
	case PROTOBUF_C_TYPE_BYTES: return field->type == WIRE_BYTES ? NULL : "field of the wrong type";
	case PROTOBUF_C_TYPE_MESSAGE:
		return field->type == WIRE_BYTES ? enter(walk, known->descriptor, end) : "field of the wrong type";
	default: return "field of the wrong type"; /* the schema has no others */
	}
}

int check_message(const ProtobufCMessageDescriptor *type, const uint8_t *in, size_t n,
		  const struct check_limits *limits, size_t *fields, const char **why)
{
	struct walk walk; /* of the stack nothing is read that was not entered: not worth clearing */
	walk.limits = limits;
	walk.depth = 1;
	walk.headers = walk.others = walk.fields = 0;
	walk.stack[0] = (struct level){ .type = type, .end = n };
	size_t pos = 0;
	*why = NULL;
	while (walk.depth) {
		const struct level *level = &walk.stack[walk.depth - 1];
		if (pos == level->end) {
			walk.depth--;
			continue;
		}
		struct wire_field field;
		size_t size = wire_field(in + pos, level->end - pos, &field);
		if (!size) {
			*why = "malformed protobuf";
			return -EBADMSG;
		}
		const ProtobufCFieldDescriptor *known = find_field(level->type, field.number);
		pos += size;
		walk.fields++;
		if (known) {
			*why = look_at(&walk, known, &field, pos);
			if (!*why && known->type == PROTOBUF_C_TYPE_MESSAGE) {
				pos -= field.len;
			}
		}
		if (!*why && walk.fields > limits->fields) {
			*why = "too many fields";
		}
		if (*why) {
			return -EBADMSG;
		}
	}
	if (fields) {
		*fields = walk.fields;
	}
	return 0;
}

struct purse {
	struct arena *arena;
	size_t limit;
	int error; /* why an allocation failed */
};

static void *take_bytes(void *arg, size_t size)
{
	struct purse *purse = arg;
	size_t used = arena_used(purse->arena);
	if (used > purse->limit || size > purse->limit - used) {
		purse->error = -EMSGSIZE;
		return NULL;
	}
	void *piece = arena_alloc(purse->arena, size);
	if (!piece) {
		purse->error = -ENOMEM;
	}
	return piece;
}

static void keep_bytes(void *arg, void *piece)
{
	(void)arg; /* the arena's end is theirs */
	(void)piece;
}

int check_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *in, size_t n, const struct check_limits *limits,
		 struct arena *arena, ProtobufCMessage **out, const char **why)
{
	size_t fields;
	int rc = check_message(type, in, n, limits, &fields, why);
	if (rc < 0) {
		return rc;
	}
	struct purse purse = { .arena = arena, .limit = arena_used(arena) + 2 * n + FIELD_COST * (fields + 16) };
	ProtobufCAllocator allocator = { .alloc = take_bytes, .free = keep_bytes, .allocator_data = &purse };
	*out = protobuf_c_message_unpack(type, &allocator, n, in);
	if (!*out) {
		*why = purse.error ? "more than its share of memory" : "malformed protobuf";
		return purse.error ? purse.error : -EBADMSG;
	}
	return 0;
}
