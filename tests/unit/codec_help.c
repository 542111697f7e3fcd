/* SPDX-License-Identifier: MIT */
/* What the tests of frames and codec share: the vectors, the comparison of stanzas, the making of frames. */

#include "tests/unit/codec_help.h"

#include <jansson.h>

#include "core/xml.h"
#include "proto/frame.h"
#include "tools/xml_parse.h"

static struct {
	struct vector *list;
	json_t **lines;
	size_t n;
} all;

static uint8_t *read_hex(const char *hex, size_t *len)
{
	*len = strlen(hex) / 2;
	uint8_t *bytes = malloc(*len + 1);
	assert_non_null(bytes);
	for (size_t i = 0; i < *len; i++) {
		unsigned byte;
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		bytes[i] = (uint8_t)byte;
	}
	return bytes;
}

static void add_vector(json_t *line)
{
	all.list = realloc(all.list, (all.n + 1) * sizeof(*all.list));
	all.lines = realloc(all.lines, (all.n + 1) * sizeof(*all.lines));
	assert_non_null(all.list);
	assert_non_null(all.lines);
	struct vector *vector = &all.list[all.n];
	const char *xml = json_string_value(json_object_get(line, "xml"));
	*vector = (struct vector){
		.name = json_string_value(json_object_get(line, "name")),
		.xml = xml && *xml ? xml : NULL,
		.stands_for = json_string_value(json_object_get(line, "stands_for")),
		.session = json_string_value(json_object_get(line, "session")),
		.from_client = strcmp(json_string_value(json_object_get(line, "direction")), "client->server") == 0,
	};
	vector->frame = read_hex(json_string_value(json_object_get(line, "hex")), &vector->len);
	all.lines[all.n++] = line;
}

const struct vector *vectors_load(size_t *n)
{
	if (!all.n) {
		const char *srcdir = getenv("srcdir");
		char path[4096], *line = NULL;
		size_t cap = 0;
		snprintf(path, sizeof(path), "%s/tests/data/vectors.jsonl", srcdir ? srcdir : ".");
		FILE *file = fopen(path, "r");
		assert_non_null(file);
		while (getline(&line, &cap, file) > 0) {
			json_t *json = json_loads(line, 0, NULL);
			assert_non_null(json);
			add_vector(json);
		}
		free(line);
		fclose(file);
	}
	*n = all.n;
	return all.list;
}

void vectors_free(void)
{
	for (size_t i = 0; i < all.n; i++) {
		free(all.list[i].frame);
		json_decref(all.lines[i]);
	}
	free(all.list);
	free(all.lines);
	memset(&all, 0, sizeof(all));
}

struct codec_context context_of(enum codec_side side, const char *self)
{
	return (struct codec_context){ .self = self, .now_ms = CLOCK_MS, .inflate_max = LIMIT, .side = side };
}

struct stk_stanza *stanza_of(const char *xml)
{
	struct stk_stanza *stanza;
	const char *why;
	if (xml_parse(xml, strlen(xml), &stanza, &why) < 0) {
		fail_msg("%s: %s", why, xml);
	}
	return stanza;
}

void assert_stanza(const struct stk_stanza *stanza, const char *xml)
{
	if (!stanza) {
		fail_msg("nothing instead of %s", xml);
	}
	struct stk_stanza *wanted = stanza_of(xml);
	if (!stanza_equal(stanza, wanted)) {
		struct buf text = { 0 };
		assert_int_equal(xml_print(stanza, &text), 0);
		fail_msg("%.*s\ninstead of %s", (int)text.len, (const char *)buf_data(&text), xml);
	}
	stk_stanza_unref(wanted);
}

int decode_frame(const struct codec_context *context, const uint8_t *frame, size_t len, struct stk_stanza **out,
		 const char **why)
{
	size_t size = 0;
	int prefix = frame_prefix(frame, len, &size);
	assert_true(prefix > 0);
	assert_int_equal(size, len - (size_t)prefix);
	uint8_t *exact = malloc(size ? size : 1);
	assert_non_null(exact);
	memcpy(exact, frame + prefix, size);
	int rc = codec_decode(context, exact, size, out, NULL, why);
	free(exact);
	return rc;
}

static void wrap_plain(struct buf *out, const Startalk__ProtoMessage *envelope)
{
	Startalk__ProtoHeader header;
	startalk__proto_header__init(&header);
	header.has_message = true;
	header.message.len = protobuf_c_message_get_packed_size(&envelope->base);
	header.message.data = malloc(header.message.len + 1);
	assert_non_null(header.message.data);
	protobuf_c_message_pack(&envelope->base, header.message.data);
	size_t len = protobuf_c_message_get_packed_size(&header.base);
	uint8_t *room = buf_reserve(out, len);
	assert_non_null(room);
	protobuf_c_message_pack(&header.base, room);
	buf_grew(out, len);
	free(header.message.data);
}

static void fill(struct buf *out, int32_t signal, uint8_t *inner, size_t n, const char *from, const char *to)
{
	Startalk__ProtoMessage envelope;
	startalk__proto_message__init(&envelope);
	envelope.has_signaltype = true;
	envelope.signaltype = signal;
	envelope.from = text(from);
	envelope.to = text(to);
	envelope.has_message = true;
	envelope.message.data = inner;
	envelope.message.len = n;
	wrap_plain(out, &envelope);
}

void frame_of_bytes(struct buf *out, int32_t signal, const uint8_t *inner, size_t n)
{
	fill(out, signal, (uint8_t *)(uintptr_t)inner, n, "alice@example.org", NULL);
}

void frame_of(struct buf *out, int32_t signal, const ProtobufCMessage *inner, const char *from, const char *to)
{
	size_t n = protobuf_c_message_get_packed_size(inner);
	uint8_t *packed = malloc(n + 1);
	assert_non_null(packed);
	protobuf_c_message_pack(inner, packed);
	fill(out, signal, packed, n, from, to);
	free(packed);
}

struct stk_stanza *decode_inner(const struct codec_context *context, int32_t signal, const ProtobufCMessage *inner,
				const char *from, const char *to)
{
	struct buf frame = { 0 };
	struct stk_stanza *stanza;
	const char *why;
	frame_of(&frame, signal, inner, from, to);
	int rc = codec_decode(context, buf_data(&frame), frame.len, &stanza, NULL, &why);
	if (rc < 0) {
		fail_msg("%d: %s", rc, why ? why : "");
	}
	buf_fini(&frame);
	return stanza;
}

void open_frame(const uint8_t *frame, size_t len, struct buf *out)
{
	size_t size, msg_len;
	const uint8_t *msg;
	const char *why;
	int prefix = frame_prefix(frame, len, &size);
	assert_true(prefix > 0);
	struct frame_room room;
	room.large = NULL;
	assert_int_equal(frame_open(frame + prefix, size, LIMIT, &room, &msg, &msg_len, &why), 0);
	assert_int_equal(buf_append(out, msg, msg_len), 0);
	free(room.large);
}

Startalk__ProtoMessage *encode_stanza(const struct codec_context *context, const struct stk_stanza *stanza)
{
	struct buf frame = { 0 }, msg = { 0 };
	assert_int_equal(codec_encode(context, stanza, &frame), 0);
	if (!frame.len) {
		return NULL;
	}
	open_frame(buf_data(&frame), frame.len, &msg);
	Startalk__ProtoMessage *envelope = startalk__proto_message__unpack(NULL, msg.len, buf_data(&msg));
	assert_non_null(envelope);
	buf_fini(&frame);
	buf_fini(&msg);
	return envelope;
}

char *text(const char *constant)
{
	return (char *)(uintptr_t)constant;
}

Startalk__MessageBody *make_body(struct made_body *made, const struct head *heads, const char *value)
{
	startalk__message_body__init(&made->body);
	for (size_t i = 0; heads && i < HEADS_MAX && heads[i].value; i++) {
		startalk__string_header__init(&made->headers[i]);
		made->headers[i].has_definedkey = heads[i].number != 0;
		made->headers[i].definedkey = heads[i].number;
		made->headers[i].key = text(heads[i].key);
		made->headers[i].value = text(heads[i].value);
		made->list[made->body.n_headers++] = &made->headers[i];
	}
	made->body.headers = made->list;
	made->body.value = text(value);
	return &made->body;
}

void assert_round_trip(enum codec_side side, const char *self, const struct stk_stanza *stanza)
{
	struct codec_context context = context_of(side, self);
	struct buf frame = { 0 };
	struct stk_stanza *again;
	const char *why;
	assert_int_equal(codec_encode(&context, stanza, &frame), 0);
	assert_true(frame.len > 0);
	assert_int_equal(decode_frame(&context, buf_data(&frame), frame.len, &again, &why), 0);
	assert_non_null(again);
	assert_true(stanza_equal(stanza, again));
	stk_stanza_unref(again);
	buf_fini(&frame);
}
