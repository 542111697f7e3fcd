/* SPDX-License-Identifier: MIT */
/* IQs: between IQMessage and iq stanzas. Owns the table of what clients ask for, and the errors; results are in
 * result.c, what no table knows is in general.c. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/names.h"
#include "proto/pass.h"
#include "proto/text.h"

enum value {
	UNUSED,
	TO,     /* the stanza's to, where the envelope has none */
	TEXT,   /* the child's text */
	USER,   /* attribute jid of the payload, without the domain */
	ACTION, /* attribute action of the child */
};

struct row {
	int32_t number;
	const char *key, *type, *name, *xmlns;
	const char *child, *child_xmlns, *action; /* of the payload, and the child's fixed attribute action */
	enum value value;
	bool each;            /* a child for each of bodys, with all its headers */
	bool all;             /* every header of the body is an attribute of the child */
	const char *attrs[4]; /* headers that are attributes of the payload */
};

#define SUBSCRIBE NS_MUC "muc_user_subscribe"
#define SUBSCRIBE_V2 NS_MUC "muc_user_subscribe_v2"

/* Where two rows have the same stanza the first is what a client is made to send. */
/* clang-format off: rows read better as rows */
static const struct row rows[] = {
	{ .number = 50, .key = "PING", .type = "get", .name = "ping", .xmlns = NS_PING },
	{ .number = 1,
	  .key = "BIND",
	  .type = "set",
	  .name = "bind",
	  .xmlns = NS_BIND,
	  .child = "resource",
	  .value = TEXT },
	{ .number = 3, .key = "MUC_CREATE", .type = "set", .name = "query", .xmlns = NS_CREATE },
	{ .number = 2, .key = "CREATE_MUC", .type = "set", .name = "query", .xmlns = NS_CREATE, .value = TO },
	{ .number = 4,
	  .key = "MUC_INVITE_V2",
	  .type = "set",
	  .name = "query",
	  .xmlns = NS_MUC "invite_v2",
	  .child = "invite",
	  .each = true },
	{ .number = 5, .key = "GET_MUC_USER", .type = "get", .name = "query", .xmlns = NS_MUC "register" },
	{ .number = 6, .key = "SET_MUC_USER", .type = "set", .name = "query", .xmlns = NS_MUC "register" },
	{ .number = 7, .key = "DEL_MUC_USER", .type = "set", .name = "query", .xmlns = NS_MUC "del_register" },
	{ .number = 8,
	  .key = "ADD_USER_SUBSCRIBE",
	  .type = "set",
	  .name = "query",
	  .xmlns = SUBSCRIBE,
	  .child = "subscribe",
	  .action = "add" },
	{ .number = 9,
	  .key = "DEL_USER_SUBSCRIBE",
	  .type = "set",
	  .name = "query",
	  .xmlns = SUBSCRIBE,
	  .child = "subscribe",
	  .action = "delete" },
	{ .number = 10, .key = "GET_USER_SUBSCRIBE", .type = "get", .name = "query", .xmlns = SUBSCRIBE },
	{ .number = 11,
	  .key = "GET_USER_OPT",
	  .type = "get",
	  .name = "get_verify_friend_mode",
	  .xmlns = NS_MODE,
	  .value = USER },
	{ .number = 12,
	  .key = "SET_USER_OPT",
	  .type = "set",
	  .name = "set_verify_friend_mode",
	  .xmlns = NS_MODE,
	  .attrs = { "mode", "question", "answer" } },
	{ .number = 13,
	  .key = "SET_USER_SUBSCRIBE_V2",
	  .type = "set",
	  .name = "query",
	  .xmlns = SUBSCRIBE_V2,
	  .child = "subscribe",
	  .value = ACTION },
	{ .number = 14, .key = "GET_USER_SUBSCRIBE_V2", .type = "get", .name = "query", .xmlns = SUBSCRIBE_V2 },
	{ .number = 16, .key = "GET_USER_FRIEND", .type = "get", .name = "get_user_friends", .xmlns = NS_FRIENDS },
	{ .number = 18,
	  .key = "DEL_USER_FRIEND",
	  .type = "set",
	  .name = "delete_friend",
	  .xmlns = NS_UNFRIEND,
	  .attrs = { "jid", "domain", "mode" } },
	{ .number = 20, .key = "GET_USER_KEY", .type = "get", .name = "key", .xmlns = NS_KEY },
	{ .number = 28,
	  .key = "SET_ADMIN",
	  .type = "set",
	  .name = "query",
	  .xmlns = NS_MUC "admin",
	  .child = "item",
	  .child_xmlns = NS_MASK,
	  .all = true },
	{ .number = 30,
	  .key = "SET_MEMBER",
	  .type = "set",
	  .name = "query",
	  .xmlns = NS_MUC "admin",
	  .child = "item",
	  .all = true },
	{ .number = 32,
	  .key = "CANCEL_MEMBER",
	  .type = "set",
	  .name = "query",
	  .xmlns = NS_MUC "admin",
	  .child = "item",
	  .all = true },
	{ .number = 36, .key = "USER_MUCS", .type = "get", .name = "query", .xmlns = NS_MUC "user_mucs" },
	{ .number = 40,
	  .key = "DESTROY_MUC",
	  .type = "set",
	  .name = "query",
	  .xmlns = NS_MUC "owner",
	  .child = "destroy" },
	{ .number = 100,
	  .key = "GET_FORBIDDEN_WORDS",
	  .type = "get",
	  .name = "query",
	  .xmlns = NS_MUC "muc_forbidden_words" },
	{ .number = 101,
	  .key = "SET_FORBIDDEN_WORDS",
	  .type = "set",
	  .name = "query",
	  .xmlns = NS_MUC "muc_forbidden_words",
	  .attrs = { "forbidden_words" } },
	/* Known by number, without a stanza of their own. */
	{ .number = 17, .key = "GET_REQUEST" },
	{ .number = 22, .key = "GET_USER_MASK" },
	{ .number = 24, .key = "SET_USER_MASK" },
	{ .number = 26, .key = "CANCEL_USER_MASK" },
	{ .number = 52, .key = "ADD_PUSH" },
	{ .number = 60, .key = "CANCEL_PUSH" },
	{ .number = 92, .key = "GET_VUSER" },
	{ .number = 94, .key = "GET_VUSER_ROLE" },
	{ .number = 96, .key = "START_SESSION" },
	{ .number = 98, .key = "END_SESSION" },
	{ .number = 99, .key = "SESSION_EVENT" },
};
/* clang-format on */

#define RESULT STARTALK__IQMESSAGE_KEY_TYPE__IQKeyResult
#define ERROR STARTALK__IQMESSAGE_KEY_TYPE__IQKeyError

static const struct row *find_number(int32_t number)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].number == number) {
			return &rows[i];
		}
	}
	return NULL;
}

static const struct row *find_key(const char *key)
{
	for (size_t i = 0; key && i < ARRAY_LEN(rows); i++) {
		if (strcmp(rows[i].key, key) == 0) {
			return &rows[i];
		}
	}
	return NULL;
}

/* ---- reading ---- */

static void read_row(struct reading *reading, const struct row *row, const Startalk__IQMessage *iq)
{
	struct stk_node *root = reading->root, *payload = node_add(root, row->name, row->xmlns), *child = NULL;
	node_set(root, "type", row->type);
	read_headers(payload, iq->body, row->attrs);
	if (row->child && !row->each) {
		child = node_add(payload, row->child, row->child_xmlns);
		node_set(child, "action", row->action);
	}
	if (row->all) {
		read_all_headers(reading, child, iq->body, NULL);
	}
	switch (row->value) {
	case UNUSED: break;
	case TO:
		if (!text_or_null(reading->envelope->to)) {
			node_set(root, "to", text_or_null(iq->value));
		}
		break;
	case TEXT: node_set_text(child, iq->value); break;
	case USER: node_set(payload, "jid", keep_user(reading, iq->value)); break;
	case ACTION: node_set(child, "action", iq->value); break;
	}
	for (size_t i = 0; row->each && i < iq->n_bodys; i++) {
		read_all_headers(reading, node_add(payload, row->child, row->child_xmlns), iq->bodys[i], NULL);
	}
}

/* The namespace of a request; NULL for none, and for one that stands for a key, which the key has to say. */
static const char *own_namespace(const Startalk__IQMessage *iq)
{
	const char *xmlns = text_or_null(iq->namespace_);
	return xmlns && strncmp(xmlns, NS_IQ, strlen(NS_IQ)) == 0 ? NULL : xmlns;
}

static int read_unknown(struct reading *reading, const Startalk__IQMessage *iq, const struct row *row)
{
	const char *key = row ? row->key : text_or_null(iq->key), *xmlns = own_namespace(iq);
	char digits[16] = "";
	if (!key && iq->has_definedkey) {
		snprintf(digits, sizeof(digits), "%" PRId32, iq->definedkey);
		key = digits;
	}
	if (xmlns && (!text_or_null(iq->key) || name_is_plain(iq->key))) {
		const char *name = text_or_null(iq->key) ? iq->key : "query";
		general_read(reading, iq, name, strcmp(xmlns, NS_CLIENT) == 0 ? NULL : xmlns, true);
		return 0;
	}
	key = key ? key : "";
	size_t size = sizeof(NS_IQ) + strlen(key);
	char *made = arena_alloc(stanza_arena(reading->stanza), size);
	if (!made) {
		return -ENOMEM;
	}
	snprintf(made, size, "%s%s", NS_IQ, key);
	general_read(reading, iq, "query", made, true);
	return 0;
}

static int read_request(struct reading *reading, const Startalk__IQMessage *iq)
{
	if (reading->context->side == CODEC_SERVER) {
		return read_unknown(reading, iq, NULL);
	}
	const struct row *row = iq->has_definedkey ? find_number(iq->definedkey) : NULL;
	const char *xmlns = own_namespace(iq);
	if (!row) {
		row = find_key(iq->key);
		/* In a namespace of its own a key may be the same as one of ours. */
		row = row && xmlns && (!row->xmlns || strcmp(xmlns, row->xmlns) != 0) ? NULL : row;
	}
	if (row && row->name) {
		read_row(reading, row, iq);
		return 0;
	}
	return read_unknown(reading, iq, row);
}

static void read_error(struct reading *reading, const Startalk__IQMessage *iq)
{
	node_set(reading->root, "type", "error");
	const char *code = body_header(iq->body, "code"), *data = body_header(iq->body, "data");
	struct stk_node *error = node_add(reading->root, "error", NULL);
	node_set(error, "code", code);
	if (data) {
		node_set_text(node_add(error, "text", NS_STANZAS), data);
	}
}

int iq_read(struct reading *reading)
{
	const Startalk__IQMessage *iq = (const void *)reading->message;
	bool server = reading->context->side == CODEC_SERVER;
	int32_t number = iq->has_definedkey ? iq->definedkey : 0;
	bool answer = number == RESULT || number == ERROR;
	const char *id = text_or_null(iq->messageid);
	if (!server && answer && !id) {
		return PASS_NOTHING;
	}
	id = id || server ? id : make_id(reading);
	if (server) {
		node_set(reading->root, "from", text_or_null(reading->envelope->from));
	}
	node_set(reading->root, "to", text_or_null(reading->envelope->to));
	node_set(reading->root, "id", id);
	if (number == RESULT) {
		node_set(reading->root, "type", "result");
		result_read(reading, iq);
		return 0;
	}
	if (number == ERROR) {
		read_error(reading, iq);
		return 0;
	}
	return read_request(reading, iq);
}

/* ---- writing ---- */

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

struct allowed {
	const struct row *row;
	bool is_child, ok;
};

static bool allow_attr(const char *name, const char *value, void *arg)
{
	struct allowed *allowed = arg;
	const struct row *row = allowed->row;
	if (allowed->is_child) {
		allowed->ok = row->all || row->each ||
			      (strcmp(name, "action") == 0 && (row->value == ACTION || is_same(row->action, value)));
		return allowed->ok;
	}
	allowed->ok = row->value == USER && strcmp(name, "jid") == 0 && !strchr(value, '@');
	for (const char *const *attr = row->attrs; !allowed->ok && *attr; attr++) {
		allowed->ok = strcmp(*attr, name) == 0;
	}
	return allowed->ok;
}

/* Does NODE have nothing but what ROW has a place for? */
static bool fits(const struct row *row, const struct stk_node *node, bool is_child)
{
	struct allowed allowed = { .row = row, .is_child = is_child, .ok = true };
	stk_node_attrs(node, allow_attr, &allowed);
	bool text = is_child && row->value == TEXT;
	return allowed.ok && (text || !*stk_node_text(node)) && (!is_child || !stk_node_child(node, NULL, NULL));
}

static bool is_row(const struct row *row, const char *type, const struct stk_node *payload)
{
	if (!row->name || strcmp(row->type, type) != 0 || strcmp(row->name, stk_node_name(payload)) != 0 ||
	    !is_same(row->xmlns, stk_node_xmlns(payload)) || !fits(row, payload, false)) {
		return false;
	}
	size_t children = 0;
	const struct stk_node *child = stk_node_child(payload, NULL, NULL);
	for (; child; child = stk_node_next(child), children++) {
		if (!row->child || strcmp(row->child, stk_node_name(child)) != 0 ||
		    !is_same(row->child_xmlns, stk_node_xmlns(child)) || !fits(row, child, true) ||
		    (row->action && !stk_node_attr(child, "action"))) {
			return false;
		}
	}
	return row->each || children == (row->child ? 1 : 0);
}

static struct body *write_headers(struct writing *writing, const struct stk_node *node, const char *const *attrs)
{
	struct body *body = body_new(writing);
	if (!body) {
		return NULL;
	}
	body->pb.value = put_text(writing, stk_node_name(node));
	if (attrs) {
		body_add_attrs(writing, body, node, attrs);
	} else {
		body_add_all(writing, body, node, NULL);
	}
	return body;
}

static void write_row(struct writing *writing, const struct row *row, const struct stk_node *payload,
		      Startalk__IQMessage *iq)
{
	const struct stk_node *child = stk_node_child(payload, NULL, NULL);
	struct body *body = NULL;
	struct bodies bodies = { 0 };
	iq->has_definedkey = true;
	iq->definedkey = row->number;
	iq->key = put_text(writing, row->key);
	for (; row->each && child; child = stk_node_next(child)) {
		bodies_add(writing, &bodies, write_headers(writing, child, NULL));
	}
	iq->bodys = bodies.list;
	iq->n_bodys = bodies.n;
	if (row->all || row->attrs[0]) {
		body = write_headers(writing, row->all ? child : payload, row->all ? NULL : row->attrs);
	}
	iq->body = body ? &body->pb : NULL;
	switch (row->value) {
	case UNUSED:
	case TO: break;
	case TEXT: iq->value = put_text(writing, stk_node_text(child)); break;
	case USER: iq->value = put_text(writing, stk_node_attr(payload, "jid")); break;
	case ACTION: iq->value = put_text(writing, stk_node_attr(child, "action")); break;
	}
}

/* A key that has a number goes out with it; digits are a number that no table knows. */
static void number_key(Startalk__IQMessage *iq)
{
	const struct row *row = iq->namespace_ ? NULL : find_key(iq->key);
	char digits[16];
	int64_t number;
	if (row) {
		iq->has_definedkey = true;
		iq->definedkey = row->number;
		return;
	}
	if (iq->namespace_ || !number_parse(iq->key, INT32_MIN, INT32_MAX, &number) || find_number((int32_t)number) ||
	    number == RESULT || number == ERROR) {
		return;
	}
	snprintf(digits, sizeof(digits), "%" PRId64, number);
	if (strcmp(digits, iq->key) == 0) {
		iq->has_definedkey = true;
		iq->definedkey = (int32_t)number;
		iq->key = NULL;
	}
}

static int write_request(struct writing *writing, Startalk__IQMessage *iq, const char *type)
{
	const struct stk_node *payload = stk_stanza_payload(writing->stanza);
	if (!payload) {
		return -EINVAL;
	}
	if (writing->context->side == CODEC_SERVER) {
		general_write(writing, iq, payload, true);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (is_row(&rows[i], type, payload)) {
			write_row(writing, &rows[i], payload, iq);
			return 0;
		}
	}
	general_write(writing, iq, payload, true);
	number_key(iq);
	return 0;
}

static void write_error(struct writing *writing, Startalk__IQMessage *iq)
{
	const struct stk_node *error = stk_node_child(writing->root, "error", NULL);
	const char *code = stk_node_attr(error, "code");
	struct body *body = code ? body_new(writing) : NULL;
	iq->has_definedkey = true;
	iq->definedkey = ERROR;
	if (body) {
		body_add(writing, body, "code", code);
		body_add(writing, body, "data", stk_node_text(stk_node_child(error, "text", NULL)));
		body->pb.value = put_text(writing, "error_info");
		iq->body = &body->pb;
	}
}

static int write_content(struct writing *writing, Startalk__IQMessage *iq)
{
	const char *type = stk_stanza_type(writing->stanza);
	if (type && (strcmp(type, "get") == 0 || strcmp(type, "set") == 0)) {
		return write_request(writing, iq, type);
	}
	if (!type || (strcmp(type, "result") != 0 && strcmp(type, "error") != 0)) {
		return -EINVAL;
	}
	if (strcmp(type, "error") == 0) {
		write_error(writing, iq);
		return 0;
	}
	if (!result_write(writing, iq)) {
		general_write(writing, iq, stk_stanza_payload(writing->stanza), false);
	}
	iq->has_definedkey = true;
	iq->definedkey = RESULT;
	return 0;
}

int iq_write(struct writing *writing)
{
	Startalk__IQMessage iq;
	startalk__iqmessage__init(&iq);
	const char *id = stk_stanza_id(writing->stanza);
	bool server = writing->context->side == CODEC_SERVER;
	int rc = write_content(writing, &iq);
	if (rc != 0) {
		return rc;
	}
	put_addresses(writing);
	iq.messageid = put_text(writing, id || !server ? id : "");
	iq.has_receivedtime = server;
	iq.receivedtime = writing->context->now_ms / 1000;
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalTypeIQ, &iq.base);
}
