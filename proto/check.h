/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_CHECK_H
#define STK_PROTO_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <protobuf-c/protobuf-c.h>

#include "core/arena.h"

#define CHECK_DEPTH 16 /* messages within messages: what there is room for, and what the codec reads */

/* How much a message may hold, whatever its size in bytes. */
struct check_limits {
	size_t depth;   /* messages within messages, CHECK_DEPTH at most */
	size_t headers; /* StringHeaders */
	size_t others;  /* other messages within it: bodys, params */
	size_t fields;  /* fields of all of them, those of unknown numbers too */
};

extern const struct check_limits check_client, check_server; /* for what clients and what servers send */

/* Is IN, N bytes, a well-formed TYPE within LIMITS, all its text UTF-8 without U+0000? Does not recurse, takes no
 * memory. 0 (FIELDS, may be NULL, gets their count), or -EBADMSG and WHY. */
int check_message(const ProtobufCMessageDescriptor *type, const uint8_t *in, size_t n,
		  const struct check_limits *limits, size_t *fields, const char **why);

/* Checks IN, then unpacks it into ARENA, of which it takes an amount in proportion to N. What *OUT points to lives as
 * long as the arena and is not to be freed. 0, -EBADMSG and WHY, -EMSGSIZE, -ENOMEM. */
int check_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *in, size_t n, const struct check_limits *limits,
		 struct arena *arena, ProtobufCMessage **out, const char **why);

#endif
