/* SPDX-License-Identifier: MIT */
/* Fuzz target: a serialised ProtoMessage as each side could send it. What is a stanza must print, and be the same
 * stanza after it was a frame again; frames of the server, which leave out what has a default, from the second time on.
 */

#undef NDEBUG
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/stanza.h"
#include "core/xml.h"
#include "proto/codec.h"
#include "proto/frame.h"
#include "tests/unit/stanza_equal.h"

#define LIMIT (256u * 1024)
#define CLOCK_MS INT64_C(1614599258867)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* STANZA as a frame and back; NULL: it has none. */
static struct stk_stanza *take_around(const struct codec_context *context, const struct stk_stanza *stanza)
{
	struct buf frame = { 0 };
	struct stk_stanza *again = NULL;
	const char *from, *why = NULL;
	size_t len = 0;
	int rc = codec_encode(context, stanza, &frame);
	assert(rc == 0);
	if (frame.len) {
		int prefix = frame_prefix(buf_data(&frame), frame.len, &len);
		assert(prefix > 0 && len == frame.len - (size_t)prefix);
		rc = codec_decode(context, buf_data(&frame) + prefix, len, &again, &from, &why);
		assert(rc == 0 && again);
	}
	(void)rc;
	buf_fini(&frame);
	return again;
}

static void try_print(const struct stk_stanza *stanza)
{
	struct buf text = { 0 };
	int rc = xml_print(stanza, &text);
	assert(rc == 0 && text.len > 0);
	(void)rc;
	buf_fini(&text);
}

/* What is the server's to say is not in a message of a client, as no attribute and no header. */
static void try_modesty(const struct stk_stanza *stanza)
{
	static const char *const names[] = { "errcode",  "carbon_message", "originfrom",
					     "originto", "origintype",     "sendjid" };
	const struct stk_node *root = stk_stanza_root(stanza), *child = stk_stanza_payload(stanza);
	assert(!stk_node_child(root, "error", NULL));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		assert(!stk_node_attr(root, names[i]));
	}
	for (; child; child = stk_node_next(child)) {
		const char *name = stk_node_attr(child, "name");
		for (size_t i = 0; name && i < sizeof(names) / sizeof(*names); i++) {
			assert(strcmp(name, names[i]) != 0);
		}
	}
}

static void try_side(const uint8_t *frame, size_t n, enum codec_side side)
{
	struct codec_context context = { .now_ms = CLOCK_MS, .inflate_max = LIMIT, .side = side };
	struct stk_stanza *first, *second, *third;
	const char *from, *why = NULL;
	int rc = codec_decode(&context, frame, n, &first, &from, &why);
	if (rc < 0) {
		assert(!first && why);
		return;
	}
	if (!first) {
		return;
	}
	try_print(first);
	if (side == CODEC_CLIENT && stanza_element(first) == STK_MESSAGE) {
		try_modesty(first);
	}
	second = take_around(&context, first);
	if (side == CODEC_CLIENT) {
		assert(second);
		assert(stanza_equal(first, second));
	} else if (second) {
		third = take_around(&context, second);
		assert(third);
		assert(stanza_equal(second, third));
		stk_stanza_unref(third);
	}
	stk_stanza_unref(first);
	stk_stanza_unref(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > LIMIT) {
		return 0;
	}
	/* The ProtoHeader around it: nothing hidden, so that the fuzzer reaches what matters. */
	uint8_t *frame = malloc(size + 8);
	size_t n = 0, rest = size;
	assert(frame);
	frame[n++] = 0x32;
	for (; rest >= 0x80; rest >>= 7) {
		frame[n++] = (uint8_t)(rest | 0x80);
	}
	frame[n++] = (uint8_t)rest;
	if (size) {
		memcpy(frame + n, data, size);
	}
	try_side(frame, n + size, CODEC_CLIENT);
	try_side(frame, n + size, CODEC_SERVER);
	free(frame);
	return 0;
}
