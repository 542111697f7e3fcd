/* SPDX-License-Identifier: MIT */
/* Headers and bodies: between StringHeaders and attributes, both ways, and the growing of what is sent. Owns the rules
 * by which a header is named and which names a peer may not choose. What a stanza means is said elsewhere. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "proto/frame.h"
#include "proto/names.h"
#include "proto/pass.h"
#include "proto/text.h"

#define SCRATCH 2048 /* a usual frame takes no more on its way out */

/* ---- reading ---- */

const char *text_or_null(const char *text)
{
	return text && *text ? text : NULL;
}

char *keep_text(struct reading *reading, const char *text, size_t len)
{
	char *copy = arena_strndup(stanza_arena(reading->stanza), text, len);
	if (!copy) {
		reading->error = -ENOMEM;
	}
	return copy;
}

char *keep_number(struct reading *reading, int64_t number)
{
	char text[NUMBER_ROOM];
	return keep_text(reading, text, number_print(number, text));
}

char *make_id(struct reading *reading)
{
	uint64_t random[2] = { 0 };
	char id[40];
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
		reading->error = -EIO;
	}
	int len = snprintf(id, sizeof(id), "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
	return keep_text(reading, id, (size_t)len);
}

const char *keep_user(struct reading *reading, const char *jid)
{
	const char *at = jid ? strchr(jid, '@') : NULL;
	return at ? keep_text(reading, jid, (size_t)(at - jid)) : jid;
}

const char *header_known(const Startalk__StringHeader *header)
{
	const char *known = header->has_definedkey ? header_name(header->definedkey) : NULL;
	return known ? known : text_or_null(header->key);
}

const char *header_label(struct reading *reading, const Startalk__StringHeader *header)
{
	const char *known = header_known(header);
	if (known || !header->has_definedkey || !header->definedkey) {
		return known;
	}
	char text[1 + NUMBER_ROOM] = "_";
	return keep_text(reading, text, 1 + number_print(header->definedkey, text + 1));
}

int32_t header_sent_as(const char *name)
{
	int32_t known = header_number(name);
	if (known) {
		return known;
	}
	/* the opposite of header_label's last step */
	const char *digits = name[0] == '_' && name[1] == '-' ? name + 2 : name + 1;
	int64_t number;
	if (name[0] != '_' || *digits < '1' || *digits > '9' ||
	    !number_parse(name + 1, INT32_MIN, INT32_MAX, &number)) {
		return 0;
	}
	return header_name((int32_t)number) ? 0 : (int32_t)number;
}

const char *body_header(const Startalk__MessageBody *body, const char *name)
{
	for (size_t i = body ? body->n_headers : 0; i > 0; i--) {
		const char *own = header_known(body->headers[i - 1]), *value = body->headers[i - 1]->value;
		if (own && strcmp(own, name) == 0) {
			return value ? value : "";
		}
	}
	return NULL;
}

void read_headers(struct stk_node *node, const Startalk__MessageBody *body, const char *const *names)
{
	for (; *names; names++) {
		node_set(node, *names, body_header(body, *names));
	}
}

static bool is_reserved(const char *name)
{
	static const char *const reserved[] = { "from", "to", "id", "type" };
	for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
		if (strcmp(name, reserved[i]) == 0) {
			return true;
		}
	}
	return false;
}

void read_all_headers(struct reading *reading, struct stk_node *node, const Startalk__MessageBody *body,
		      const char *skip)
{
	for (size_t i = 0; body && i < body->n_headers; i++) {
		const char *name = header_label(reading, body->headers[i]);
		if (!name_is_plain(name) || strcmp(name, "xmlns") == 0 || (skip && strcmp(name, skip) == 0) ||
		    (node == reading->root && is_reserved(name))) {
			continue;
		}
		const char *value = body->headers[i]->value;
		node_set(node, name, value ? value : "");
	}
}

void read_text_child(struct stk_node *parent, const char *name, const char *text)
{
	if (text) {
		node_set_text(node_add(parent, name, NULL), text);
	}
}

/* ---- writing ---- */

char *put_text(struct writing *writing, const char *text)
{
	if (text && !text_is_utf8(text, strlen(text))) {
		writing->error = -EILSEQ;
	}
	return (char *)(uintptr_t)text; /* protobuf-c's structs have no const; packing changes nothing */
}

struct arena *put_arena(struct writing *writing)
{
	if (!writing->arena) {
		writing->arena = arena_new(SCRATCH);
	}
	return writing->arena;
}

void *put_room(struct writing *writing, size_t size)
{
	struct arena *arena = put_arena(writing);
	void *piece = arena ? arena_alloc(arena, size) : NULL;
	if (!piece) {
		writing->error = -ENOMEM;
	}
	return piece;
}

void *put_alloc(struct writing *writing, size_t size)
{
	void *piece = put_room(writing, size);
	return piece ? memset(piece, 0, size) : NULL;
}

char *put_number(struct writing *writing, int64_t number)
{
	char *text = put_alloc(writing, NUMBER_ROOM);
	if (text) {
		number_print(number, text);
	}
	return text;
}

struct body *body_new(struct writing *writing)
{
	struct body *body = put_alloc(writing, sizeof(*body));
	if (body) {
		startalk__message_body__init(&body->pb);
	}
	return body;
}

/* Room for one more pointer in LIST, which has N of CAP taken. NULL: out of memory. */
static void *grow(struct writing *writing, void *list, size_t n, size_t *cap)
{
	if (n < *cap) {
		return list;
	}
	size_t more = *cap ? *cap * 2 : 8;
	void *bigger = put_alloc(writing, more * sizeof(void *));
	if (bigger && n) {
		memcpy(bigger, list, n * sizeof(void *));
	}
	*cap = bigger ? more : *cap;
	return bigger;
}

void body_add(struct writing *writing, struct body *body, const char *name, const char *value)
{
	if (!body || !value) {
		return;
	}
	Startalk__StringHeader *header = put_alloc(writing, sizeof(*header));
	Startalk__StringHeader **list = grow(writing, body->pb.headers, body->pb.n_headers, &body->headers_cap);
	if (!header || !list) {
		return;
	}
	startalk__string_header__init(header);
	int32_t number = header_sent_as(name);
	header->has_definedkey = number != 0;
	header->definedkey = number;
	header->key = number ? NULL : put_text(writing, name);
	header->value = put_text(writing, value);
	body->pb.headers = list;
	body->pb.headers[body->pb.n_headers++] = header;
}

void body_add_attrs(struct writing *writing, struct body *body, const struct stk_node *node, const char *const *names)
{
	for (; *names; names++) {
		body_add(writing, body, *names, stk_node_attr(node, *names));
	}
}

struct add_all {
	struct writing *writing;
	struct body *body;
	const char *skip;
	bool is_root;
};

static bool add_one(const char *name, const char *value, void *arg)
{
	const struct add_all *add = arg;
	if (name_is_plain(name) && (!add->skip || strcmp(name, add->skip) != 0) &&
	    (!add->is_root || !is_reserved(name))) {
		body_add(add->writing, add->body, name, value);
	}
	return true;
}

void body_add_all(struct writing *writing, struct body *body, const struct stk_node *node, const char *skip)
{
	struct add_all add = { .writing = writing, .body = body, .skip = skip, .is_root = node == writing->root };
	stk_node_attrs(node, add_one, &add);
}

void bodies_add(struct writing *writing, struct bodies *bodies, struct body *body)
{
	Startalk__MessageBody **list = grow(writing, bodies->list, bodies->n, &bodies->cap);
	if (list && body) {
		bodies->list = list;
		bodies->list[bodies->n++] = &body->pb;
	}
}

const char *sent_from(const struct writing *writing)
{
	const char *from = stk_stanza_from(writing->stanza);
	return from ? from : writing->context->self;
}

const char *sent_to(const struct writing *writing)
{
	const char *to = stk_stanza_to(writing->stanza);
	return to || writing->context->side == CODEC_CLIENT ? to : writing->context->self;
}

void put_addresses(struct writing *writing)
{
	writing->envelope.from = put_text(writing, sent_from(writing));
	writing->envelope.to = put_text(writing, sent_to(writing));
}

int finish_frame(struct writing *writing, int32_t signal, const ProtobufCMessage *inner)
{
	Startalk__ProtoMessage *envelope = &writing->envelope;
	if (writing->error) {
		return writing->error;
	}
	size_t inner_len = protobuf_c_message_get_packed_size(inner);
	envelope->message.data = put_alloc(writing, inner_len);
	if (!envelope->message.data) {
		return -ENOMEM;
	}
	protobuf_c_message_pack(inner, envelope->message.data);
	envelope->has_message = true;
	envelope->message.len = inner_len;
	envelope->has_signaltype = true;
	envelope->signaltype = signal;
	size_t len = protobuf_c_message_get_packed_size(&envelope->base);
	uint8_t *packed = put_alloc(writing, len);
	if (!packed) {
		return -ENOMEM;
	}
	protobuf_c_message_pack(&envelope->base, packed);
	return frame_wrap(packed, len, writing->out);
}
