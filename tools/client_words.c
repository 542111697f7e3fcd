/* SPDX-License-Identifier: MIT */
/* Messages in plain words: text, typing, read marks, what was taken back, receipts and refusals, own copies. Owns how
 * their bodies are read for that. How a line gets to the terminal is decided in client_show.c, what is done about a
 * message in client_chat.c. */

#include "tools/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>
#include <startalkd/jid.h>

#include "core/buf.h"

bool show_is_own(const struct client *client, const struct stk_node *node)
{
	return stk_jid_same_bare(stk_node_attr(node, "from"), client->bare);
}

void show_date(const char *ms, char out[SHOW_DATE_SIZE])
{
	char *end;
	long long number = ms ? strtoll(ms, &end, 10) : 0;
	time_t seconds = (time_t)(number / 1000);
	struct tm local;
	if (!ms || end == ms || *end || !localtime_r(&seconds, &local) ||
	    !strftime(out, SHOW_DATE_SIZE, "%a %d %b %Y %H:%M:%S", &local)) {
		snprintf(out, SHOW_DATE_SIZE, "at an unknown time");
	}
}

static bool is_copy(const struct stk_node *root)
{
	const char *copy = stk_node_attr(root, "carbon_message");
	return copy && strcmp(copy, "true") == 0;
}

/* Who does what ROOT tells of. An own copy comes from the partner, to whom it went. */
static void name_doer(const struct client *client, const struct stk_node *root, char *out, size_t size)
{
	static const char before[] = "me to ", behind[] = " (other device)";
	size_t at = is_copy(root) ? strlen(before) : 0;
	memcpy(out, before, at);
	show_name(client, stk_node_attr(root, "from"), false, out + at, size - at - strlen(behind));
	if (is_copy(root)) {
		strcat(out, behind);
	}
}

/* "bob DID"; an own copy: "me to bob (other device): DID". */
static void show_deed(struct client *client, const struct stk_node *root, const char *did)
{
	char doer[SHOW_NAME_SIZE];
	name_doer(client, root, doer, sizeof(doer));
	show_line(client, "%s%s %s", doer, is_copy(root) ? ":" : "", did);
}

/* ---- text ---- */

static void show_text(struct client *client, const struct stk_node *root, const char *type)
{
	const struct stk_node *body = stk_node_child(root, "body", NULL);
	const char *text = stk_node_text(body), *kind = stk_node_attr(body, "msgType");
	const char *sender = stk_node_attr(root, "realfrom");
	char doer[SHOW_NAME_SIZE], who[SHOW_NAME_SIZE] = "";
	bool chat = strcmp(type, "chat") == 0, group = strcmp(type, "groupchat") == 0;
	bool plain = !kind || strcmp(kind, "1") == 0 || strcmp(kind, "0") == 0;
	name_doer(client, root, doer, sizeof(doer));
	if (group && sender) {
		show_name(client, sender, true, who, sizeof(who));
	}
	show_line(client, "%s%s%s%s%s%s%s: %s", doer, *who ? ", " : "", who, chat || group ? "" : ", ",
		  chat || group ? "" : type, plain ? "" : ", kind ", plain ? "" : kind, text ? text : "");
}

/* ---- what was taken back ---- */

/* Member NAME of the JSON object that TEXT is, to be freed, or NULL. */
static char *read_member(const char *text, const char *name)
{
	json_t *json = text ? json_loads(text, 0, NULL) : NULL;
	const char *value = json_string_value(json_object_get(json, name));
	char *copy = value ? strdup(value) : NULL;
	json_decref(json);
	return copy;
}

static void show_revoke(struct client *client, const struct stk_node *root)
{
	const struct stk_node *body = stk_node_child(root, "body", NULL);
	char *id = read_member(stk_node_text(body), "messageId"), *did = NULL;
	id = id ? id : read_member(stk_node_attr(body, "extendInfo"), "messageId");
	const char *own = stk_node_attr(body, "id");
	if (asprintf(&did, "took back %s", id ? id : own ? own : "a message without id") >= 0) {
		show_deed(client, root, did);
		free(did);
	}
	free(id);
}

/* ---- marks ---- */

/* Appends what one entry of a mark names: a message, or a room and the time up to which it was read. */
static int put_entry(const json_t *entry, struct buf *out)
{
	const char *id = json_string_value(json_object_get(entry, "id"));
	const json_t *until = json_object_get(entry, "t");
	char ms[24], date[SHOW_DATE_SIZE] = "";
	if (json_is_integer(until)) {
		snprintf(ms, sizeof(ms), "%lld", (long long)json_integer_value(until));
		show_date(ms, date);
	}
	int rc = out->len ? buf_append(out, ", ", 2) : 0;
	rc = rc < 0 ? rc : buf_append(out, id ? id : "something without id", id ? strlen(id) : 20);
	rc = rc < 0 || !*date ? rc : buf_append(out, " until ", 7);
	return rc < 0 ? rc : buf_append(out, date, strlen(date));
}

static int put_entries(const json_t *entries, struct buf *out)
{
	int rc = 0;
	for (size_t i = 0; i < json_array_size(entries) && rc == 0; i++) {
		rc = put_entry(json_array_get(entries, i), out);
	}
	return rc;
}

/* What a mark of read_type 0 says: everything up to a time. */
static int put_time(const json_t *object, struct buf *out)
{
	char ms[24], date[SHOW_DATE_SIZE];
	snprintf(ms, sizeof(ms), "%lld", (long long)json_integer_value(json_object_get(object, "T")));
	show_date(ms, date);
	int rc = buf_append(out, "everything until ", 17);
	return rc < 0 ? rc : buf_append(out, date, strlen(date));
}

static void show_mark(struct client *client, const struct stk_node *root)
{
	const char *kind = stk_node_attr(root, "read_type"), *text = stk_node_text(stk_node_child(root, "body", NULL));
	json_t *json = text ? json_loads(text, 0, NULL) : NULL;
	struct buf what = { 0 };
	char *did = NULL;
	const char *verb = kind && strcmp(kind, "3") == 0 ? "received" : "read";
	bool entries = json_array_size(json) > 0, time = json_is_integer(json_object_get(json, "T"));
	int rc = entries ? put_entries(json, &what) : time ? put_time(json, &what) : -1;
	if (rc < 0) {
		buf_fini(&what);
		rc = buf_append(&what, text ? text : "", text ? strlen(text) : 0); /* as it is, then */
	}
	if (rc == 0 && asprintf(&did, "%s%s %.*s", is_copy(root) ? "" : "has ", verb, (int)what.len,
				what.len ? (const char *)buf_data(&what) : "") >= 0) {
		show_deed(client, root, did);
		free(did);
	}
	buf_fini(&what);
	json_decref(json);
}

/* ---- answers of the server ---- */

void show_receipt(struct client *client, enum client_sent kind, const char *id)
{
	static const char *const names[] = {
		[CLIENT_MESSAGE] = "message",
		[CLIENT_MARK] = "mark",
		[CLIENT_OWN_MARK] = "mark",
		[CLIENT_REVOKE] = "revoke of",
	};
	show_line(client, "%s %s: the server has it", names[kind], id ? id : "without id");
}

void show_refusal(struct client *client, enum client_sent kind, const struct stk_stanza *stanza)
{
	static const char *const names[] = {
		[CLIENT_MESSAGE] = "message",
		[CLIENT_MARK] = "mark",
		[CLIENT_OWN_MARK] = "mark",
		[CLIENT_REVOKE] = "revoke",
	};
	char name[SHOW_NAME_SIZE], why[512];
	show_name(client, stk_stanza_from(stanza), false, name, sizeof(name));
	show_failure(stanza, why, sizeof(why));
	show_line(client, "%s to %s refused: error %s", names[kind], name, why);
}

void show_message(struct client *client, const struct stk_stanza *stanza)
{
	const struct stk_node *root = stk_stanza_root(stanza);
	const char *type = stk_stanza_type(stanza);
	type = type ? type : "chat";
	if (strcmp(type, "error") == 0) {
		show_refusal(client, CLIENT_MESSAGE, stanza);
	} else if (strcmp(type, "mstat") == 0) {
		show_receipt(client, CLIENT_MESSAGE, stk_node_attr(stk_node_child(root, "body", NULL), "id"));
	} else if (strcmp(type, "typing") == 0) {
		show_deed(client, root, "is typing");
	} else if (strcmp(type, "revoke") == 0) {
		show_revoke(client, root);
	} else if (strcmp(type, "readmark") == 0) {
		show_mark(client, root);
	} else {
		show_text(client, root, type);
	}
}
