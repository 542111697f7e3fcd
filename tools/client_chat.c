/* SPDX-License-Identifier: MIT */
/* The terminal client's chat: messages, typing, marks and taking back on their way out, the server's answers to them,
 * and the marks for what was displayed. Owns what is known of messages under way; how a message looks in words is
 * decided in client_words.c. */

#include "tools/client_cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <startalkd/jid.h>

#define UNMARKED_MAX 1024 /* marks that may wait for room among the messages without a receipt */
#define MARK_IDS 100      /* messages that one mark names */

#define READ_RECEIVED "3"
#define READ_READ "4"

/* ---- messages out ---- */

/* What is to be sent; NULL: nothing of the kind. */
struct outgoing {
	const char *type, *to, *id, *kind, *text;
	const char *read_type, *extend_info;
};

static struct stk_stanza *make_message(const struct client *client, const struct outgoing *outgoing)
{
	char version[16];
	snprintf(version, sizeof(version), "%d", CLIENT_VERSION);
	struct stk_stanza *message = stk_stanza_new(STK_MESSAGE, outgoing->type, NULL);
	struct stk_node *root = stk_stanza_edit(message), *body = stk_node_add(root, "body", NULL);
	stk_stanza_set_from(message, client->bare);
	stk_stanza_set_to(message, outgoing->to);
	stk_node_set(root, "client_type", "ClientTypeLinux");
	stk_node_set(root, "client_ver", version);
	stk_node_set(root, "read_type", outgoing->read_type);
	stk_node_set(body, "id", outgoing->id);
	stk_node_set(body, "msgType", outgoing->kind);
	stk_node_set(body, "extendInfo", outgoing->extend_info);
	stk_node_set_text(body, outgoing->text);
	return message;
}

/* Waits until there is room for one more message without a receipt. */
static int await_room(struct client *client)
{
	bool full = client->unanswered_n == CLIENT_UNANSWERED;
	return full ? client_await_receipts(client, CLIENT_UNANSWERED - 1) : 0;
}

/* Sends what will have an answer; there is room. */
static int send_kept(struct client *client, const struct outgoing *outgoing, enum client_sent kind)
{
	int rc = client_send(client, make_message(client, outgoing), NULL);
	if (rc == 0) {
		struct client_waiting *waiting = &client->unanswered[client->unanswered_n++];
		snprintf(waiting->id, sizeof(waiting->id), "%s", outgoing->id);
		waiting->kind = kind;
	}
	return rc;
}

static int keep_last(struct client *client, const char *id, const char *to)
{
	char *last_id = strdup(id), *last_to = strdup(to);
	if (!last_id || !last_to) {
		free(last_id);
		free(last_to);
		return command_no_memory(client);
	}
	free(client->last_id);
	free(client->last_to);
	client->last_id = last_id;
	client->last_to = last_to;
	return 0;
}

int client_chat(struct client *client, const char *to, const char *text, const char *id)
{
	char made[CLIENT_ID_SIZE];
	int rc = await_room(client);
	if (rc < 0) {
		return rc;
	}
	client_make_id(made);
	const struct outgoing chat = { .type = "chat", .to = to, .id = id ? id : made, .kind = "1", .text = text };
	rc = send_kept(client, &chat, CLIENT_MESSAGE);
	return rc < 0 ? rc : keep_last(client, chat.id, to);
}

/* ---- marks ---- */

static int send_mark(struct client *client, const char *to, const json_t *entries, const char *kind,
		     enum client_sent sent)
{
	char id[CLIENT_ID_SIZE];
	char *text = json_dumps(entries, JSON_COMPACT);
	if (!text) {
		return command_no_memory(client);
	}
	client_make_id(id);
	const struct outgoing mark = {
		.type = "readmark", .to = to, .id = id, .kind = "0", .text = text, .read_type = kind
	};
	int rc = send_kept(client, &mark, sent);
	free(text);
	return rc;
}

/* Adds ID to the mark for JID that has room for it, or to a new one. */
static int add_unmarked(json_t *marks, const char *jid, const char *id)
{
	json_t *ids = NULL;
	for (size_t i = 0; !ids && i < json_array_size(marks); i++) {
		const json_t *mark = json_array_get(marks, i);
		json_t *each = json_object_get(mark, "ids");
		const char *to = json_string_value(json_object_get(mark, "to"));
		ids = json_array_size(each) < MARK_IDS && strcmp(to, jid) == 0 ? each : NULL;
	}
	if (!ids) {
		json_t *mark = json_pack("{s:s, s:[]}", "to", jid, "ids");
		ids = json_object_get(mark, "ids");
		if (json_array_append_new(marks, mark) < 0) {
			return -ENOMEM;
		}
	}
	return json_array_append_new(ids, json_pack("{s:s}", "id", id)) < 0 ? -ENOMEM : 0;
}

void client_displayed(struct client *client, const struct stk_node *message)
{
	static const char *const kinds[] = { "chat", "consult", "normal" };
	const char *type = stk_node_attr(message, "type"), *id = stk_node_attr(message, "id");
	const char *from = stk_node_attr(message, "from"), *copy = stk_node_attr(message, "carbon_message");
	char bare[STK_JID_MAX + 1];
	struct stk_jid jid;
	bool wanted = false;
	for (size_t i = 0; type && i < sizeof(kinds) / sizeof(*kinds); i++) {
		wanted |= strcmp(type, kinds[i]) == 0;
	}
	id = id ? id : stk_node_attr(stk_node_child(message, "body", NULL), "id");
	if (client->options->no_marks || !wanted || !id || (copy && strcmp(copy, "true") == 0) ||
	    show_is_own(client, message) || stk_jid_parse(&jid, from) < 0 || !jid.node_len ||
	    stk_jid_bare(from, bare, sizeof(bare)) < 0) {
		return;
	}
	client->unmarked = client->unmarked ? client->unmarked : json_array();
	if (json_array_size(client->unmarked) >= UNMARKED_MAX) {
		show_error(client, "the server answers no marks: those that wait are given up");
		json_array_clear(client->unmarked);
	}
	if (add_unmarked(client->unmarked, bare, id) < 0) {
		command_no_memory(client);
	}
}

int client_send_marks(struct client *client)
{
	int rc = 0;
	/* Displaying is reading here, and read means received, too: one mark tells both. */
	while (rc == 0 && json_array_size(client->unmarked) && client->unanswered_n < CLIENT_UNANSWERED) {
		const json_t *mark = json_array_get(client->unmarked, 0);
		rc = send_mark(client, json_string_value(json_object_get(mark, "to")), json_object_get(mark, "ids"),
			       READ_READ, CLIENT_OWN_MARK);
		json_array_remove(client->unmarked, 0);
	}
	return rc;
}

/* ---- messages in ---- */

/* Drops the message ID, as the oldest of that id, and tells its kind. False: nothing waits for its answer. */
static bool drop_unanswered(struct client *client, const char *id, enum client_sent *kind)
{
	struct client_waiting *list = client->unanswered;
	for (size_t i = 0; id && i < client->unanswered_n; i++) {
		if (strcmp(list[i].id, id) == 0) {
			*kind = list[i].kind;
			client->unanswered_n--;
			memmove(&list[i], &list[i + 1], (client->unanswered_n - i) * sizeof(*list));
			return true;
		}
	}
	return false;
}

void client_message(struct client *client, const struct stk_stanza *stanza)
{
	const struct stk_node *root = stk_stanza_root(stanza);
	const char *type = stk_stanza_type(stanza), *id = stk_node_attr(stk_node_child(root, "body", NULL), "id");
	bool error = type && strcmp(type, "error") == 0, receipt = type && strcmp(type, "mstat") == 0;
	enum client_sent kind = CLIENT_MESSAGE;
	if (!error && !receipt) {
		show_message(client, stanza);
		client_displayed(client, root);
		return;
	}
	drop_unanswered(client, id, &kind);
	if (error) {
		client->refused |= kind != CLIENT_OWN_MARK; /* nobody asked for those */
		show_refusal(client, kind, stanza);
	} else if (kind != CLIENT_OWN_MARK) {
		show_receipt(client, kind, id);
	}
}

/* ---- commands ---- */

/* The JID TYPED, or else the chosen one, to be freed; NULL, told: there is none. */
static char *get_partner(struct client *client, const char *typed)
{
	if (!typed && !client->chosen) {
		show_error(client, "whom? give a JID, or choose one with /to JID");
		return NULL;
	}
	return command_jid(client, typed ? typed : client->chosen);
}

int command_to(struct client *client, char *arguments)
{
	const char *typed = command_word(&arguments);
	if (!typed || *command_rest(arguments)) {
		return command_misuse(client, "/to JID");
	}
	char *jid = command_jid(client, typed);
	if (!jid) {
		return -EINVAL;
	}
	free(client->chosen);
	client->chosen = jid;
	show_line(client, "lines go to %s", jid);
	return 0;
}

static int check_id(struct client *client, const char *id)
{
	if (strlen(id) > CLIENT_ID_MAX) {
		show_error(client, "an id has at most %d bytes", CLIENT_ID_MAX);
		return -EMSGSIZE;
	}
	return 0;
}

int command_msg(struct client *client, char *arguments)
{
	const char *typed = command_word(&arguments), *id = NULL;
	if (typed && strcmp(typed, "--id") == 0) {
		id = command_word(&arguments);
		typed = command_word(&arguments);
	}
	const char *text = command_rest(arguments);
	if (!typed || !*text) {
		return command_misuse(client, "/msg [--id ID] JID TEXT");
	}
	int rc = id ? check_id(client, id) : 0;
	char *jid = rc < 0 ? NULL : command_jid(client, typed);
	rc = jid ? client_chat(client, jid, text, id) : -EINVAL;
	free(jid);
	return rc;
}

int command_typing(struct client *client, char *arguments)
{
	const char *typed = command_word(&arguments);
	char id[CLIENT_ID_SIZE];
	if (*command_rest(arguments)) {
		return command_misuse(client, "/typing [JID]");
	}
	char *jid = get_partner(client, typed);
	if (!jid) {
		return -EDESTADDRREQ;
	}
	client_make_id(id);
	const struct outgoing typing = { .type = "typing", .to = jid, .id = id, .kind = "1", .text = "" };
	int rc = client_send(client, make_message(client, &typing), NULL); /* without text it has no receipt */
	free(jid);
	return rc;
}

int command_mark(struct client *client, char *arguments)
{
	const char *typed = command_word(&arguments), *id, *kind = READ_READ;
	if (typed && strcmp(typed, "--received") == 0) {
		kind = READ_RECEIVED;
		typed = command_word(&arguments);
	}
	json_t *ids = json_array();
	int rc = 0;
	while (typed && rc == 0 && (id = command_word(&arguments))) {
		rc = json_array_append_new(ids, json_pack("{s:s}", "id", id)) < 0 ? -EILSEQ : 0;
	}
	if (rc < 0) {
		show_error(client, "not sent: it is not valid UTF-8");
	} else if (!json_array_size(ids)) {
		rc = command_misuse(client, "/mark [--received] JID ID...");
	}
	char *jid = rc < 0 ? NULL : command_jid(client, typed);
	rc = rc < 0 ? rc : !jid ? -EINVAL : await_room(client);
	rc = rc < 0 ? rc : send_mark(client, jid, ids, kind, CLIENT_MARK);
	json_decref(ids);
	free(jid);
	return rc;
}

static int send_revoke(struct client *client, const char *to, const char *id)
{
	json_t *json =
		json_pack("{s:s, s:s, s:s}", "messageId", id, "fromId", client->bare, "message", "revoke a message");
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!text) {
		show_error(client, "not sent: it is not valid UTF-8");
		return -EILSEQ;
	}
	const struct outgoing revoke = {
		.type = "revoke", .to = to, .id = id, .kind = "-1", .text = text, .extend_info = text
	};
	int rc = send_kept(client, &revoke, CLIENT_REVOKE);
	free(text);
	return rc;
}

int command_revoke(struct client *client, char *arguments)
{
	const char *id = command_word(&arguments), *typed = command_word(&arguments);
	if (!id || *command_rest(arguments)) {
		return command_misuse(client, "/revoke ID|last [JID]");
	}
	bool last = strcmp(id, "last") == 0;
	if (last && !client->last_id) {
		show_error(client, "no message was sent yet");
		return -ENOENT;
	}
	id = last ? client->last_id : id;
	if (!typed && client->last_id && strcmp(id, client->last_id) == 0) {
		typed = client->last_to;
	}
	int rc = check_id(client, id);
	char *jid = rc < 0 ? NULL : get_partner(client, typed);
	rc = rc < 0 ? rc : !jid ? -EDESTADDRREQ : await_room(client);
	rc = rc < 0 ? rc : send_revoke(client, jid, id);
	free(jid);
	return rc;
}
