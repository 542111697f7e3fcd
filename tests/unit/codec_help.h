/* SPDX-License-Identifier: MIT */
#ifndef STK_TESTS_CODEC_HELP_H
#define STK_TESTS_CODEC_HELP_H

/* What the tests of frames and codec share. Failures of the helpers themselves end the test. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>

#include "core/buf.h"
#include "core/stanza.h"
#include "proto/codec.h"
#include "proto/startalk.pb-c.h"
#include "tests/unit/stanza_equal.h"

#define CLOCK_MS INT64_C(1614599258867) /* when the vectors were recorded */
#define LIMIT (2u * 1024 * 1024)

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

#define ALICE "alice@example.org"
#define FULL "alice@example.org/x"
#define ROOM "room@conf.example.org"

struct vector {
	const char *name, *xml, *stands_for, *session; /* xml and session: NULL where there is none */
	bool from_client;
	uint8_t *frame; /* prefix included */
	size_t len;     /* 0: not sent on this transport */
};

/* All vectors; the same array each time. It lives until vectors_free(). */
const struct vector *vectors_load(size_t *n);
void vectors_free(void);

struct codec_context context_of(enum codec_side side, const char *self);
/* The stanza that XML is. */
struct stk_stanza *stanza_of(const char *xml);
/* Fails with both as text when STANZA is not what XML says. */
void assert_stanza(const struct stk_stanza *stanza, const char *xml);

/* codec_decode() of a whole frame, prefix included, that lies in memory of exactly its size. */
int decode_frame(const struct codec_context *context, const uint8_t *frame, size_t len, struct stk_stanza **out,
		 const char **why);
/* A frame that holds INNER under SIGNAL, without compression, as the bytes of its ProtoHeader. */
void frame_of(struct buf *out, int32_t signal, const ProtobufCMessage *inner, const char *from, const char *to);
/* The same of raw bytes. */
void frame_of_bytes(struct buf *out, int32_t signal, const uint8_t *inner, size_t n);
/* Decodes what CONTEXT's side says with INNER; must succeed. NULL: it stands for nothing. */
struct stk_stanza *decode_inner(const struct codec_context *context, int32_t signal, const ProtobufCMessage *inner,
				const char *from, const char *to);
/* Encodes, unwraps and unpacks; the caller frees with protobuf_c_message_free_unpacked. NULL: not sent. */
Startalk__ProtoMessage *encode_stanza(const struct codec_context *context, const struct stk_stanza *stanza);
/* The ProtoMessage in FRAME, prefix included, is appended to OUT. */
void open_frame(const uint8_t *frame, size_t len, struct buf *out);

#define HEADS_MAX 12

/* A header: by number, or, when that is 0, by name. */
struct head {
	int32_t number;
	const char *key, *value;
};

/* Where make_body() puts what it makes. */
struct made_body {
	Startalk__MessageBody body;
	Startalk__StringHeader headers[HEADS_MAX], *list[HEADS_MAX];
};

/* A body of HEADS up to one without value (NULL: none), at most HEADS_MAX. */
Startalk__MessageBody *make_body(struct made_body *made, const struct head *heads, const char *value);
/* A constant as protobuf-c's structs want it. */
char *text(const char *constant);
/* STANZA has a frame from SIDE, and that is STANZA. */
void assert_round_trip(enum codec_side side, const char *self, const struct stk_stanza *stanza);

#endif
