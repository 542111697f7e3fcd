/* SPDX-License-Identifier: MIT */
/* Messages as columns. Owns what has a column of its own and how all the rest is kept as JSON, so that a stanza that is
 * built from a row equals the one that was stored. Knows no SQL. */

#include "record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

/* The protocol's numbers. They stand in the files of operators: never change one. */
static const struct type {
	int number;
	const char *name;
} types[] = {
	{ RECORD_CHAT, "chat" },     { 7, "groupchat" },     { 8, "normal" },       { 11, "note" },
	{ RECORD_REVOKE, "revoke" }, { 15, "subscription" }, { 17, "headline" },    { 110, "webrtc" },
	{ 132, "consult" },          { 136, "encrypt" },     { 140, "collection" },
};
#define TYPES (sizeof(types) / sizeof(*types))

static const char *const clients[] = {
	NULL, "ClientTypeMac", "ClientTypeiOS", "ClientTypePC", "ClientTypeAndroid", "ClientTypeLinux", "ClientTypeWeb",
};
#define CLIENTS (sizeof(clients) / sizeof(*clients))

int record_type(const char *name)
{
	for (size_t i = 0; name && i < TYPES; i++) {
		if (strcmp(types[i].name, name) == 0) {
			return types[i].number;
		}
	}
	return 0;
}

const char *record_type_name(int type)
{
	for (size_t i = 0; i < TYPES; i++) {
		if (types[i].number == type) {
			return types[i].name;
		}
	}
	return NULL;
}

/* ---- reading ---- */

/* What has no column, while it is collected. */
struct rest {
	struct record *record;
	json_t *object;   /* NULL: nothing yet */
	const char *part; /* the member that attributes go to */
	bool failed;
};

/* RECORD_NONE when TEXT is not just how the number is written. */
static int64_t parse_number(const char *text)
{
	char again[24];
	if (!text) {
		return RECORD_NONE;
	}
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	snprintf(again, sizeof(again), "%lld", number);
	return errno || *end || strcmp(again, text) != 0 ? RECORD_NONE : number;
}

static int64_t parse_client(const char *text)
{
	for (size_t i = 1; text && i < CLIENTS; i++) {
		if (strcmp(clients[i], text) == 0) {
			return (int64_t)i;
		}
	}
	return RECORD_NONE;
}

static json_t *rest_object(struct rest *rest)
{
	rest->object = rest->object ? rest->object : json_object();
	return rest->object;
}

static void keep_attr(struct rest *rest, const char *name, const char *value)
{
	json_t *part = json_object_get(rest_object(rest), rest->part);
	if (!part) {
		rest->failed |= json_object_set_new(rest->object, rest->part, json_object()) < 0;
		part = json_object_get(rest->object, rest->part);
	}
	rest->failed |= json_object_set_new(part, name, json_string(value)) < 0;
}

/* Is the attribute told by the columns already? */
static bool has_column(const struct rest *rest, const char *name, const char *value)
{
	const struct record *record = rest->record;
	if (strcmp(rest->part, "body") == 0) {
		return strcmp(name, "id") == 0 || (strcmp(name, "msgType") == 0 && record->kind != RECORD_NONE);
	}
	if (strcmp(name, "from") == 0) {
		size_t len = strlen(record->sender);
		return strncmp(value, record->sender, len) == 0 &&
		       (record->resource ? value[len] == '/' : value[len] == '\0');
	}
	return (strcmp(name, "to") == 0 && strcmp(value, record->recipient) == 0) || strcmp(name, "type") == 0 ||
	       strcmp(name, "msec_times") == 0 || (strcmp(name, "client_type") == 0 && record->client != RECORD_NONE) ||
	       (strcmp(name, "client_ver") == 0 && record->version != RECORD_NONE);
}

static bool keep_rest(const char *name, const char *value, void *arg)
{
	struct rest *rest = arg;
	if (!has_column(rest, name, value)) {
		keep_attr(rest, name, value);
	}
	return !rest->failed;
}

static bool keep_member(const char *name, const char *value, void *arg)
{
	return json_object_set_new(arg, name, json_string(value)) == 0;
}

/* A child as {"NAME": {attributes}, "text": ..., "xmlns": ...}; text and xmlns only when there are such. */
static void keep_child(struct rest *rest, const struct stk_node *node)
{
	json_t *list = json_object_get(rest_object(rest), "children"), *attrs = json_object(), *child = json_object();
	if (!list) {
		rest->failed |= json_object_set_new(rest->object, "children", json_array()) < 0;
		list = json_object_get(rest->object, "children");
	}
	stk_node_attrs(node, keep_member, attrs);
	rest->failed |= json_object_set_new(child, "element", json_string(stk_node_name(node))) < 0;
	if (json_object_size(attrs)) {
		rest->failed |= json_object_set(child, "attributes", attrs) < 0;
	}
	if (*stk_node_text(node)) {
		rest->failed |= json_object_set_new(child, "text", json_string(stk_node_text(node))) < 0;
	}
	if (stk_node_xmlns(node)) {
		rest->failed |= json_object_set_new(child, "xmlns", json_string(stk_node_xmlns(node))) < 0;
	}
	json_decref(attrs);
	rest->failed |= json_array_append_new(list, child) < 0;
}

/* What no column holds, as JSON in RECORD->more. */
static int read_rest(struct record *record, const struct stk_node *root, const struct stk_node *body)
{
	struct rest rest = { .record = record, .part = "message" };
	size_t before = 0;
	stk_node_attrs(root, keep_rest, &rest);
	if (stk_node_xmlns(root)) {
		keep_attr(&rest, "xmlns", stk_node_xmlns(root));
	}
	rest.part = "body";
	stk_node_attrs(body, keep_rest, &rest);
	if (stk_node_xmlns(body)) {
		keep_attr(&rest, "xmlns", stk_node_xmlns(body));
	}
	bool seen = false;
	for (const struct stk_node *node = stk_node_child(root, NULL, NULL); node; node = stk_node_next(node)) {
		seen |= node == body;
		before += !seen;
		if (node != body) {
			keep_child(&rest, node);
		}
	}
	if (before) {
		rest.failed |= json_object_set_new(rest_object(&rest), "before", json_integer((json_int_t)before)) < 0;
	}
	if (*stk_node_text(root)) {
		rest.failed |= json_object_set_new(rest_object(&rest), "text", json_string(stk_node_text(root))) < 0;
	}
	record->more = rest.object && !rest.failed ? json_dumps(rest.object, JSON_COMPACT) : NULL;
	rest.failed |= rest.object && !record->more;
	json_decref(rest.object);
	return rest.failed ? -ENOMEM : 0;
}

int record_fold(const char *jid, char *out)
{
	char bare[STK_JID_MAX + 1];
	return !jid || stk_jid_bare(jid, bare, sizeof(bare)) < 0 || stk_jid_fold(bare, out, STK_JID_MAX + 1) < 0
		       ? -EINVAL
		       : 0;
}

static bool has_grandchildren(const struct stk_node *root)
{
	const struct stk_node *node = stk_node_child(root, NULL, NULL);
	while (node && !stk_node_child(node, NULL, NULL)) {
		node = stk_node_next(node);
	}
	return node != NULL;
}

int record_read(struct record *record, const struct stk_stanza *message)
{
	const struct stk_node *root = stk_stanza_root(message), *body = stk_node_child(root, "body", NULL);
	const char *from = stk_stanza_from(message);
	struct stk_jid jid;
	record->more = NULL;
	record->type = record_type(stk_stanza_type(message));
	record->id = stk_node_attr(body, "id");
	record->body = stk_node_text(body);
	record->time = parse_number(stk_node_attr(root, "msec_times"));
	if (!record->type || !record->id || record->time == RECORD_NONE || has_grandchildren(root) ||
	    record_fold(from, record->addresses[0]) < 0 || record_fold(stk_stanza_to(message), record->addresses[1]) < 0 ||
	    stk_jid_parse(&jid, from) < 0) {
		return -EINVAL;
	}
	record->sender = record->addresses[0];
	record->recipient = record->addresses[1];
	record->resource = jid.resource_len ? jid.resource : NULL;
	record->kind = parse_number(stk_node_attr(body, "msgType"));
	record->client = parse_client(stk_node_attr(root, "client_type"));
	record->version = parse_number(stk_node_attr(root, "client_ver"));
	return read_rest(record, root, body);
}

void record_fini(struct record *record)
{
	free(record->more);
	record->more = NULL;
}

/* ---- building ---- */

static void set_number(struct stk_node *node, const char *name, int64_t number)
{
	char text[24];
	if (number != RECORD_NONE) {
		snprintf(text, sizeof(text), "%lld", (long long)number);
		stk_node_set(node, name, text);
	}
}

static void set_members(struct stk_node *node, json_t *members)
{
	const char *name;
	json_t *value;
	json_object_foreach(members, name, value)
	{
		stk_node_set(node, name, json_string_value(value));
	}
}

static void build_child(struct stk_node *root, const json_t *child)
{
	const char *name = json_string_value(json_object_get(child, "element"));
	struct stk_node *node =
		name ? stk_node_add(root, name, json_string_value(json_object_get(child, "xmlns"))) : NULL;
	set_members(node, json_object_get(child, "attributes"));
	stk_node_set_text(node, json_string_value(json_object_get(child, "text")));
}

static void build_from(struct stk_stanza *stanza, const struct record *record)
{
	char jid[STK_JID_MAX + 1];
	if (record->resource &&
	    snprintf(jid, sizeof(jid), "%s/%s", record->sender, record->resource) < (int)sizeof(jid)) {
		stk_stanza_set_from(stanza, jid);
	} else {
		stk_stanza_set_from(stanza, record->sender);
	}
}

struct stk_stanza *record_stanza(const struct record *record)
{
	json_t *more = record->more ? json_loads(record->more, 0, NULL) : NULL;
	const char *type = record_type_name(record->type);
	struct stk_stanza *stanza = (record->more && !more) || !type ? NULL : stk_stanza_new(STK_MESSAGE, type, NULL);
	struct stk_node *root = stk_stanza_edit(stanza), *body = NULL;
	if (!root) {
		json_decref(more);
		return NULL;
	}
	build_from(stanza, record);
	stk_stanza_set_to(stanza, record->recipient);
	set_number(root, "msec_times", record->time);
	if (record->client > 0 && record->client < (int64_t)CLIENTS) {
		stk_node_set(root, "client_type", clients[record->client]);
	}
	set_number(root, "client_ver", record->version);
	set_members(root, json_object_get(more, "message"));
	stk_node_set_text(root, json_string_value(json_object_get(more, "text")));
	json_t *children = json_object_get(more, "children");
	size_t before = (size_t)json_integer_value(json_object_get(more, "before")), n = json_array_size(children);
	for (size_t i = 0; i <= n; i++) {
		if (i == (before < n ? before : n)) {
			body = stk_node_add(root, "body", NULL);
		}
		if (i < n) {
			build_child(root, json_array_get(children, i));
		}
	}
	stk_node_set(body, "id", record->id);
	set_number(body, "msgType", record->kind);
	set_members(body, json_object_get(more, "body"));
	stk_node_set_text(body, record->body);
	json_decref(more);
	return stanza;
}
