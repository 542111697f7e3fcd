/* SPDX-License-Identifier: MIT */
/* Messages: between XmppMessage and message stanzas. Owns the table of message types, what of a message is an
 * attribute, and the header elements that carry all the others; what a server adds to a message on its way is not
 * decided here. */

#include <errno.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/names.h"
#include "proto/pass.h"
#include "proto/text.h"
#include "proto/wire_out.h"

#define CLIENT_TYPE_DEFAULT STARTALK__CLIENT_TYPE__ClientTypePC
#define CLIENT_TYPE_MAX STARTALK__CLIENT_TYPE__ClientTypeWeb
#define MESSAGE_TYPE_TEXT STARTALK__MESSAGE_TYPE__MessageTypeText

struct type {
	const char *name; /* NULL: stands for no stanza */
	int32_t signal;
	bool from_client; /* clients send it; from them the others stand for nothing */
	bool bodiless;    /* goes out without a body too */
};

/* The first row of a signal is what is read; normal and stat go out as chat. */
static const struct type types[] = {
	{ "chat", STARTALK__SIGNAL_TYPE__SignalTypeChat, true, false },
	{ "groupchat", STARTALK__SIGNAL_TYPE__SignalTypeGroupChat, true, false },
	{ "error", STARTALK__SIGNAL_TYPE__SignalTypeError, false, false },
	{ "typing", STARTALK__SIGNAL_TYPE__SignalTypeTyping, true, true },
	{ "note", STARTALK__SIGNAL_TYPE__SignalTypeNote, false, false },
	{ "readmark", STARTALK__SIGNAL_TYPE__SignalTypeReadmark, true, false },
	{ "revoke", STARTALK__SIGNAL_TYPE__SignalTypeRevoke, true, false },
	{ "subscription", STARTALK__SIGNAL_TYPE__SignalTypeSubscription, true, false },
	{ "mstat", STARTALK__SIGNAL_TYPE__SignalTypeMState, false, false },
	{ "headline", STARTALK__SIGNAL_TYPE__SignalTypeHeadline, true, false },
	{ "webrtc", STARTALK__SIGNAL_TYPE__SignalTypeWebRtc, true, false },
	{ "carbon", STARTALK__SIGNAL_TYPE__SignalTypeCarbon, false, false },
	{ "consult", STARTALK__SIGNAL_TYPE__SignalTypeConsult, true, false },
	{ "encrypt", STARTALK__SIGNAL_TYPE__SignalTypeEncryption, true, false },
	{ "collection", STARTALK__SIGNAL_TYPE__SignalTypeCollection, false, false },
	{ "normal", STARTALK__SIGNAL_TYPE__SignalTypeChat, false, false },
	{ "stat", STARTALK__SIGNAL_TYPE__SignalTypeChat, false, true },
	{ NULL, STARTALK__SIGNAL_TYPE__SignalTypeNormal, false, false },
	{ NULL, STARTALK__SIGNAL_TYPE__SignalTypeTransfor, false, false },
	{ NULL, STARTALK__SIGNAL_TYPE__SignalTypeShareLocation, false, false },
	{ NULL, STARTALK__SIGNAL_TYPE__SignalTypeHeartBeat, false, false },
	{ NULL, STARTALK__SIGNAL_TYPE__SignalTypeTrans, false, false },
	{ NULL, STARTALK__SIGNAL_TYPE__SignalTypeCustomize, false, false },
};

enum place { ON_MESSAGE, ON_BODY, ON_ERROR };

/* Attributes that are headers, in the order in which they are sent. */
static const struct attribute {
	const char *name;
	int32_t number; /* that it is sent by; 0: by its name */
	enum place place;
	bool from_client; /* a client's word is taken for it */
} attributes[] = {
	{ "qchatid", 0, ON_MESSAGE, true },
	{ "channelid", STARTALK__STRING_HEADER_TYPE__StringHeaderTypeChannelId, ON_BODY, true },
	{ "extendInfo", STARTALK__STRING_HEADER_TYPE__StringHeaderTypeExtendInfo, ON_BODY, true },
	{ "backupinfo", STARTALK__STRING_HEADER_TYPE__StringHeaderTypeBackupInfo, ON_BODY, true },
	{ "read_type", STARTALK__STRING_HEADER_TYPE__StringHeaderTypeReadType, ON_MESSAGE, true },
	{ "auto_reply", 0, ON_MESSAGE, true },
	{ "errcode", 0, ON_ERROR, false }, /* the attribute code of the element error */
	{ "carbon_message", STARTALK__STRING_HEADER_TYPE__StringHeaderTypeCarbon, ON_MESSAGE, false },
};

/* Not headers but fields of the envelope, which clients leave to the server; they cannot be had as headers either. */
static const char *const server_words[] = { "originfrom", "originto", "origintype", "sendjid" };

/* A header that is no attribute is a child of the message: <header name='…' value='…'/>. */
#define OTHER "header"

/* Headers by name, for the last one of a name to take the place of the first. */
struct index {
	size_t mask;
	struct entry {
		const char *name; /* NULL: free */
		void *header;
	} entries[];
};

/* Where NAME is in ATTRIBUTES; ARRAY_LEN(attributes): it is not. */
static size_t attribute_index(const char *name)
{
	size_t i = 0;
	while (i < ARRAY_LEN(attributes) && strcmp(attributes[i].name, name) != 0) {
		i++;
	}
	return i;
}

/* Is the header NAME (may be NULL) one that goes into an element of its own? */
static bool is_other(const char *name, enum codec_side side)
{
	if (!name || attribute_index(name) < ARRAY_LEN(attributes)) {
		return false;
	}
	for (size_t i = 0; side == CODEC_CLIENT && i < ARRAY_LEN(server_words); i++) {
		if (strcmp(name, server_words[i]) == 0) {
			return false;
		}
	}
	return true;
}

/* An index with room for N names; NULL: out of memory. ARENA may be NULL because of that. */
static struct index *index_new(struct arena *arena, size_t n)
{
	size_t size = 2;
	while (size < 2 * n) {
		size *= 2;
	}
	size_t bytes = sizeof(struct index) + size * sizeof(struct entry);
	struct index *index = arena ? arena_alloc(arena, bytes) : NULL;
	if (index) {
		memset(index, 0, bytes);
		index->mask = size - 1;
	}
	return index;
}

/* NAME's entry; a new one has no header yet. */
static struct entry *index_entry(struct index *index, const char *name)
{
	uint32_t hash = 2166136261u;
	for (const char *c = name; *c; c++) {
		hash = (hash ^ (uint8_t)*c) * 16777619u;
	}
	size_t i = hash & index->mask;
	while (index->entries[i].name && strcmp(index->entries[i].name, name) != 0) {
		i = (i + 1) & index->mask;
	}
	index->entries[i].name = name;
	return &index->entries[i];
}

bool message_signal(int32_t signal, enum codec_side side, const char **type)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (types[i].signal == signal) {
			*type = side == CODEC_SERVER || types[i].from_client ? types[i].name : NULL;
			return true;
		}
	}
	return false;
}

/* ---- reading ---- */

static void read_addresses(struct reading *reading)
{
	const Startalk__ProtoMessage *envelope = reading->envelope;
	struct stk_node *root = reading->root;
	node_set(root, "from", text_or_null(envelope->from));
	node_set(root, "to", text_or_null(envelope->to));
	node_set(root, "realfrom", text_or_null(envelope->realfrom));
	node_set(root, "realto", text_or_null(envelope->realto));
	if (reading->context->side == CODEC_SERVER) {
		node_set(root, "originfrom", text_or_null(envelope->originfrom));
		node_set(root, "originto", text_or_null(envelope->originto));
		node_set(root, "origintype", text_or_null(envelope->origintype));
		node_set(root, "sendjid", text_or_null(envelope->sendjid));
	}
}

/* Clients take part in two kinds of customer service; another number is noise. */
static bool is_wanted(const struct attribute *attribute, enum codec_side side, const char *value)
{
	if (side == CODEC_SERVER || strcmp(attribute->name, "qchatid") != 0) {
		return side == CODEC_SERVER || attribute->from_client;
	}
	return strcmp(value, "4") == 0 || strcmp(value, "5") == 0;
}

/* The last value of each header that is an attribute, in the order of ATTRIBUTES. */
static void find_attributes(const Startalk__MessageBody *body, const char **values)
{
	for (size_t i = 0; body && i < body->n_headers; i++) {
		const char *name = header_known(body->headers[i]);
		size_t which = name ? attribute_index(name) : ARRAY_LEN(attributes);
		if (which < ARRAY_LEN(attributes)) {
			values[which] = body->headers[i]->value ? body->headers[i]->value : "";
		}
	}
}

static void read_attributes(struct reading *reading, struct stk_node *body, const char *const *values)
{
	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		const char *value = values[i];
		if (!value || !is_wanted(&attributes[i], reading->context->side, value)) {
			continue;
		}
		if (attributes[i].place != ON_ERROR) {
			node_set(attributes[i].place == ON_BODY ? body : reading->root, attributes[i].name, value);
		} else if (strcmp(value, "0") != 0) {
			node_set(node_add(reading->root, "error", NULL), "code", value);
		}
	}
}

static void read_others(struct reading *reading, const Startalk__MessageBody *body)
{
	struct index *index = NULL;
	for (size_t i = 0; body && i < body->n_headers; i++) {
		const char *name = header_label(reading, body->headers[i]), *value = body->headers[i]->value;
		if (!is_other(name, reading->context->side)) {
			continue;
		}
		index = index ? index : index_new(stanza_arena(reading->stanza), body->n_headers - i);
		if (!index) {
			reading->error = -ENOMEM;
			return;
		}
		struct entry *entry = index_entry(index, name);
		if (!entry->header) {
			entry->header = node_add(reading->root, OTHER, NULL);
			node_set(entry->header, "name", name);
		}
		node_set(entry->header, "value", value ? value : "");
	}
}

/* What a server sends with nothing in it is what went out without a body. */
static bool is_bodiless(const struct reading *reading, const char *type, const Startalk__XmppMessage *message,
			const char *const *values)
{
	if (reading->context->side != CODEC_SERVER || strcmp(type, "typing") != 0 || text_or_null(message->messageid) ||
	    message->messagetype != MESSAGE_TYPE_TEXT || (message->body && text_or_null(message->body->value))) {
		return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		if (attributes[i].place == ON_BODY && values[i]) {
			return false;
		}
	}
	return true;
}

int message_read(struct reading *reading)
{
	const Startalk__XmppMessage *message = (const void *)reading->message;
	bool server = reading->context->side == CODEC_SERVER;
	struct stk_node *root = reading->root;
	const char *type = NULL;
	message_signal(reading->envelope->signaltype, reading->context->side, &type);
	if (!type) {
		return PASS_NOTHING;
	}
	const char *client = message->has_clienttype ? client_name(message->clienttype) : NULL;
	const char *text = message->body && message->body->value ? message->body->value : "";
	const char *id = text_or_null(message->messageid);
	id = id || server ? id : make_id(reading);
	read_addresses(reading);
	node_set(root, "type", type);
	node_set(root, "client_type", client ? client : client_name(CLIENT_TYPE_DEFAULT));
	node_set(root, "client_ver", keep_number(reading, message->has_clientversion ? message->clientversion : 0));
	if (server && message->has_receivedtime) {
		node_set(root, "msec_times", keep_number(reading, message->receivedtime));
	}
	const char *values[ARRAY_LEN(attributes)] = { NULL };
	find_attributes(message->body, values);
	struct stk_node *body = is_bodiless(reading, type, message, values) ? NULL : node_add(root, "body", NULL);
	read_attributes(reading, body, values);
	node_set(body, "id", id);
	node_set(body, "msgType", keep_number(reading, message->has_messagetype ? message->messagetype : 0));
	node_set_text(body, text);
	read_others(reading, message->body);
	return 0;
}

/* ---- writing ---- */

/* Fields by number, of ProtoMessage, XmppMessage, MessageBody and StringHeader. */
enum { P_OPTIONS = 1, P_SIGNAL = 2, P_FROM = 3, P_TO = 4, P_MESSAGE = 5, P_REALFROM = 6, P_SENDJID = 11 };
enum { X_TYPE = 1, X_CLIENT = 2, X_VERSION = 3, X_ID = 7, X_BODY = 9, X_TIME = 10 };
enum { B_HEADER = 1, B_VALUE = 2 };
enum { H_KEY = 2, H_VALUE = 3, H_NUMBER = 4 };

#define FEW_HEADERS 16   /* that need no memory of their own */
#define SMALL_FRAME 1024 /* nor does a ProtoMessage up to this size */
#define NUMBERS_MAX 8    /* numbers and messages in a ProtoMessage beside its headers */

struct text {
	const char *text; /* NULL: there is none */
	size_t len;
};

struct sent_header {
	int32_t number; /* 0: it goes by its name */
	struct text name, value;
};

/* A message on its way out, all of it measured and its text checked. */
struct outgoing {
	struct writing *writing;
	struct text envelope[P_SENDJID + 1], id, text;
	int32_t signal, type, client;
	int64_t version, time;
	struct sent_header few[FEW_HEADERS], *headers;
	size_t n_headers, room; /* what all of it takes at most */
};

static const struct type *find_type(const char *name, enum codec_side side)
{
	for (size_t i = 0; name && i < ARRAY_LEN(types) && types[i].name; i++) {
		if (strcmp(types[i].name, name) == 0) {
			return types[i].from_client || side == CODEC_SERVER ? &types[i] : NULL;
		}
	}
	return NULL;
}

static int32_t client_type(const struct stk_node *root, const struct stk_node *body)
{
	const char *type = stk_node_attr(root, "client_type");
	int64_t number = type ? client_number(type) : 0;
	if (!number && !number_parse(type, 1, CLIENT_TYPE_MAX, &number) &&
	    !number_parse(stk_node_attr(body, "maType"), 1, CLIENT_TYPE_MAX, &number)) {
		return CLIENT_TYPE_DEFAULT;
	}
	return (int32_t)number;
}

static int64_t number_attr(const struct stk_node *node, const char *name, int64_t min, int64_t max, int64_t otherwise)
{
	int64_t number;
	return number_parse(stk_node_attr(node, name), min, max, &number) ? number : otherwise;
}

/* TEXT (may be NULL) as it will be sent. */
static struct text take_text(struct outgoing *out, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	if (!text_is_utf8(text, len)) {
		out->writing->error = -EILSEQ;
	}
	out->room += WIRE_HEAD_MAX + len;
	return (struct text){ .text = text, .len = len };
}

static struct sent_header *add_header(struct outgoing *out, int32_t number, const char *name, const char *value)
{
	struct sent_header *header = &out->headers[out->n_headers++];
	header->number = number;
	header->name = take_text(out, number ? NULL : name);
	header->value = take_text(out, value);
	out->room += WIRE_NUMBER_MAX + WIRE_HEAD_MAX;
	return header;
}

static void take_envelope(struct outgoing *out, const struct stk_node *root)
{
	static const char *const names[P_SENDJID + 1 - P_REALFROM] = { "realfrom", "realto",     "originfrom",
								       "originto", "origintype", "sendjid" };
	out->envelope[P_FROM] = take_text(out, sent_from(out->writing));
	out->envelope[P_TO] = take_text(out, sent_to(out->writing));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		out->envelope[P_REALFROM + i] = take_text(out, stk_node_attr(root, names[i]));
	}
}

static void take_attributes(struct outgoing *out, const struct stk_node *root, const struct stk_node *body)
{
	bool server = out->writing->context->side == CODEC_SERVER;
	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		const char *value;
		if (!server && !attributes[i].from_client) {
			continue;
		}
		if (attributes[i].place == ON_ERROR) {
			value = stk_node_attr(stk_node_child(root, "error", NULL), "code");
			value = value ? value : "0";
		} else {
			value = stk_node_attr(attributes[i].place == ON_BODY ? body : root, attributes[i].name);
		}
		if (value) {
			add_header(out, attributes[i].number, attributes[i].name, value);
		}
	}
}

/* The next child from NODE on that is a header of its own, with name and value; NULL: there is none. */
static const struct stk_node *find_other(const struct stk_node *node, enum codec_side side)
{
	while (node && (strcmp(stk_node_name(node), OTHER) != 0 || stk_node_xmlns(node) ||
			!stk_node_attr(node, "value") || !is_other(text_or_null(stk_node_attr(node, "name")), side))) {
		node = stk_node_next(node);
	}
	return node;
}

static size_t count_others(const struct stk_node *node, enum codec_side side)
{
	size_t n = 0;
	for (node = find_other(node, side); node; node = find_other(stk_node_next(node), side)) {
		n++;
	}
	return n;
}

static void take_others(struct outgoing *out, struct index *index)
{
	enum codec_side side = out->writing->context->side;
	const struct stk_node *node = find_other(stk_stanza_payload(out->writing->stanza), side);
	for (; node; node = find_other(stk_node_next(node), side)) {
		const char *name = stk_node_attr(node, "name"), *value = stk_node_attr(node, "value");
		struct entry *entry = index_entry(index, name);
		struct sent_header *header = entry->header;
		if (header) {
			header->value = take_text(out, value);
		} else {
			entry->header = add_header(out, header_sent_as(name), name, value);
		}
	}
}

static void take_headers(struct outgoing *out, const struct stk_node *root, const struct stk_node *body)
{
	struct writing *writing = out->writing;
	size_t others = count_others(stk_stanza_payload(writing->stanza), writing->context->side);
	struct index *index = others ? index_new(put_arena(writing), others) : NULL;
	out->headers = out->few;
	if (ARRAY_LEN(attributes) + others > FEW_HEADERS) {
		out->headers = put_room(writing, (ARRAY_LEN(attributes) + others) * sizeof(*out->headers));
	}
	if (!out->headers || (others && !index)) {
		writing->error = -ENOMEM;
		return;
	}
	take_attributes(out, root, body);
	take_others(out, index);
}

static void put(struct wire_out *wire, uint32_t field, const struct text *text)
{
	if (text->text) {
		wire_put_bytes(wire, field, text->text, text->len);
	}
}

static void put_header(struct wire_out *wire, const struct sent_header *header)
{
	const uint8_t *end = wire->at;
	if (header->number) {
		wire_put_number(wire, H_NUMBER, header->number);
	}
	put(wire, H_VALUE, &header->value);
	put(wire, H_KEY, &header->name);
	wire_put_head(wire, B_HEADER, end);
}

/* From the end to the beginning. */
static void put_message(struct wire_out *wire, const struct outgoing *out)
{
	for (uint32_t field = P_SENDJID; field >= P_REALFROM; field--) {
		put(wire, field, &out->envelope[field]);
	}
	const uint8_t *message_end = wire->at;
	if (out->writing->context->side == CODEC_SERVER) {
		wire_put_number(wire, X_TIME, out->time);
	}
	const uint8_t *body_end = wire->at;
	put(wire, B_VALUE, &out->text);
	for (size_t i = out->n_headers; i > 0; i--) {
		put_header(wire, &out->headers[i - 1]);
	}
	wire_put_head(wire, X_BODY, body_end);
	put(wire, X_ID, &out->id);
	wire_put_number(wire, X_VERSION, out->version);
	wire_put_number(wire, X_CLIENT, out->client);
	wire_put_number(wire, X_TYPE, out->type);
	wire_put_head(wire, P_MESSAGE, message_end);
	put(wire, P_TO, &out->envelope[P_TO]);
	put(wire, P_FROM, &out->envelope[P_FROM]);
	wire_put_number(wire, P_SIGNAL, out->signal);
	wire_put_number(wire, P_OPTIONS, out->writing->envelope.options);
}

static int send_message(const struct outgoing *out)
{
	struct writing *writing = out->writing;
	uint8_t small[SMALL_FRAME], *room = small;
	if (out->room > sizeof(small)) {
		room = put_room(writing, out->room);
	}
	if (writing->error) {
		return writing->error;
	}
	struct wire_out wire = { .start = room, .at = room + out->room };
	put_message(&wire, out);
	return frame_wrap(wire.at, (size_t)(room + out->room - wire.at), writing->out);
}

int message_write(struct writing *writing)
{
	const struct stk_node *root = writing->root, *body = stk_node_child(root, "body", NULL);
	const struct type *type = find_type(stk_node_attr(root, "type"), writing->context->side);
	if (!type || (!body && !type->bodiless)) {
		return PASS_NOTHING;
	}
	const char *id = stk_node_attr(body, "id");
	id = id || !body ? id : stk_node_attr(root, "id");
	struct outgoing out;
	out.writing = writing;
	out.room = NUMBERS_MAX * WIRE_NUMBER_MAX;
	out.n_headers = 0;
	out.signal = type->signal;
	out.type = (int32_t)number_attr(body, "msgType", INT32_MIN, INT32_MAX, MESSAGE_TYPE_TEXT);
	out.client = client_type(root, body);
	out.version = number_attr(root, "client_ver", INT64_MIN, INT64_MAX, 0);
	out.time = number_attr(root, "msec_times", INT64_MIN, INT64_MAX, writing->context->now_ms);
	out.id = take_text(&out, id ? id : "");
	out.text = take_text(&out, body ? stk_node_text(body) : "");
	take_envelope(&out, root);
	take_headers(&out, root, body);
	return send_message(&out);
}
