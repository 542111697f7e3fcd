/* SPDX-License-Identifier: MIT */
/* IQ results that have a frame of their own kind: the table of what stands in them, read both ways. Results that no row
 * knows take the general form (general.c). */

#include <string.h>

#include "proto/names.h"
#include "proto/pass.h"

enum source {
	END,
	ATTR,  /* an attribute of the element that the row names */
	CHILD, /* the text of a child of it */
	CLOCK, /* the time in seconds; not read */
	FIXED, /* always the same; not read */
};

/* One header of the result's body. */
struct part {
	const char *header;
	enum source source;
	const char *name;      /* ATTR, CHILD: whose; FIXED: the value */
	const char *otherwise; /* when it is absent; NULL: no header */
};

enum text {
	NO_BODY,    /* no body at all */
	CONSTANT,   /* `text` */
	FROM_ATTR,  /* the attribute `text`, and no body without it */
	FROM_CHILD, /* the text of child `text` */
	OWN_NAME,   /* the name of the element that the row names */
};

struct row {
	const char *value, *name, *xmlns;
	const char *child; /* the element that holds the parts; NULL: the payload itself */
	bool child_needed; /* without it the row does not match */
	enum text kind;
	const char *text;
	struct part parts[5];
	/* The payload's children by the name `each` are bodys of the value `each_value`, and the parts are theirs. */
	const char *each, *each_value;
};

/* clang-format off: rows read better as rows */
#define SUBSCRIPTION(space, element)                                                                               \
	{                                                                                                          \
		.value = "subscribe", .name = "query", .xmlns = (space), .child = (element), .child_needed = true, \
		.kind = OWN_NAME, .parts = {                                                                       \
			{ "status", ATTR, "status", "false" }                                                      \
		}                                                                                                  \
	}

/* A value that several rows have is read as the first of them that fits. */
static const struct row rows[] = {
	{ .value = "bind",
	  .name = "bind",
	  .xmlns = NS_BIND,
	  .kind = FROM_CHILD,
	  .text = "jid",
	  .parts = { { "time_value", CLOCK, NULL, NULL }, { "key_value", CHILD, "key_value", NULL } } },
	{ .value = "user_mucs",
	  .name = "query",
	  .xmlns = NS_MUC "user_mucs",
	  .each = "muc_rooms",
	  .each_value = "muc_room",
	  .parts = { { "name", ATTR, "name", NULL }, { "host", ATTR, "host", NULL } } },
	{ .value = "create_muc",
	  .name = "query",
	  .xmlns = NS_CREATE,
	  .child = "create_muc",
	  .kind = FROM_ATTR,
	  .text = "result" },
	{ .value = "muc_invite_user_v2",
	  .name = "query",
	  .xmlns = NS_MUC "invite_v2",
	  .each = "muc_invites",
	  .each_value = "muc_invites",
	  .parts = { { "jid", ATTR, "jid", NULL }, { "status", ATTR, "status", NULL } } },
	{ .value = "muc_users",
	  .name = "query",
	  .xmlns = NS_MUC "register",
	  .each = "m_user",
	  .each_value = "m_user",
	  .parts = { { "jid", ATTR, "jid", NULL }, { "affiliation", ATTR, "affiliation", NULL } } },
	{ .value = "muc_del_register",
	  .name = "query",
	  .xmlns = NS_MUC "del_register",
	  .child = "del_register",
	  .kind = CONSTANT,
	  .text = "del_register" },
	{ .value = "muc_admin", .name = "query", .xmlns = NS_MUC "admin" },
	{ .value = "desctroy_muc",
	  .name = "query",
	  .xmlns = NS_MUC "owner",
	  .kind = CONSTANT,
	  .text = "desctroy_muc",
	  .parts = { { "result", FIXED, "success", NULL } } },
	{ .value = "forbidden_words",
	  .name = "query",
	  .xmlns = NS_MUC "muc_forbidden_words",
	  .child = "forbidden_words",
	  .kind = CONSTANT,
	  .text = "forbidden_words",
	  .parts = { { "result", ATTR, "forbidden", "failed" } } },
	SUBSCRIPTION(NS_MUC "muc_user_subscribe", "subscribe"),
	SUBSCRIPTION(NS_MUC "muc_user_subscribe", "add_subscribe"),
	SUBSCRIPTION(NS_MUC "muc_user_subscribe", "delete_subscribe"),
	SUBSCRIPTION(NS_MUC "muc_user_subscribe_v2", "subscribe"),
	SUBSCRIPTION(NS_MUC "muc_user_subscribe_v2", "add_subscribe"),
	SUBSCRIPTION(NS_MUC "muc_user_subscribe_v2", "delete_subscribe"),
	{ .value = "get_verify_friend_mode",
	  .name = "get_verify_friend_mode",
	  .xmlns = NS_MODE,
	  .kind = CONSTANT,
	  .text = "result",
	  .parts = { { "jid", ATTR, "jid", NULL },
		     { "mode", ATTR, "mode", NULL },
		     { "question", ATTR, "question", NULL },
		     { "answer", ATTR, "answer", NULL } } },
	{ .value = "set_verify_friend_mode",
	  .name = "set_verify_friend_mode",
	  .xmlns = NS_MODE,
	  .kind = CONSTANT,
	  .text = "set_verify_friend_mode",
	  .parts = { { "result", ATTR, "result", "false" } } },
	{ .value = "user_get_friends",
	  .name = "get_user_friends",
	  .xmlns = NS_FRIENDS,
	  .kind = CONSTANT,
	  .text = "get_friends",
	  .parts = { { "friends", ATTR, "friends", NULL } } },
	{ .value = "user_del_friend",
	  .name = "delete_friend",
	  .xmlns = NS_UNFRIEND,
	  .kind = CONSTANT,
	  .text = "del_user_friend",
	  .parts = { { "jid", ATTR, "jid", NULL }, { "result", ATTR, "result", NULL } } },
	{ .value = "get_key",
	  .name = "key",
	  .xmlns = NS_KEY,
	  .kind = CONSTANT,
	  .text = "get_key",
	  .parts = { { "time_key", CLOCK, NULL, NULL }, { "key", ATTR, "value", NULL } } },
	{ .value = "get_mask_users", .name = "query", .xmlns = NS_MASK_V2 },
	{ .value = "set_mask_user",
	  .name = "mask_user",
	  .xmlns = NS_MASK,
	  .kind = CONSTANT,
	  .text = "mask_user",
	  .parts = { { "result", ATTR, "result", NULL } } },
	{ .value = "cancel_mask_user",
	  .name = "cancel_mask_user",
	  .xmlns = NS_MASK,
	  .kind = CONSTANT,
	  .text = "mask_user",
	  .parts = { { "result", ATTR, "result", NULL } } },
	{ .value = "start_session",
	  .name = "start_session",
	  .xmlns = NS_VIRTUAL,
	  .kind = CONSTANT,
	  .text = "start_session",
	  .parts = { { "start_session", FIXED, "success", NULL }, { "real_user", ATTR, "real_user", NULL } } },
	{ .value = "end_session",
	  .name = "end_session",
	  .xmlns = NS_VIRTUAL,
	  .kind = CONSTANT,
	  .text = "end_session",
	  .parts = { { "result", ATTR, "result", NULL } } },
};
/* clang-format on */

#define PING "ping" /* a result without a child */

/* ---- reading ---- */

static void read_parts(struct stk_node *node, const struct row *row, const Startalk__MessageBody *body)
{
	for (const struct part *part = row->parts; part->source != END; part++) {
		const char *value = body_header(body, part->header);
		if (part->source == ATTR) {
			node_set(node, part->name, value ? value : part->otherwise); /* as it would be sent */
		} else if (part->source == CHILD) {
			read_text_child(node, part->name, value);
		}
	}
}

static void read_row(struct reading *reading, const struct row *row, const Startalk__IQMessage *iq)
{
	struct stk_node *payload = node_add(reading->root, row->name, row->xmlns), *node = payload;
	const char *text = iq->body ? iq->body->value : NULL;
	bool has_child = row->kind == FROM_ATTR ? text != NULL : row->kind == CONSTANT || iq->body; /* as it would be sent */
	if (row->child && has_child) {
		node = node_add(payload, row->child, NULL);
	}
	if (row->kind == FROM_CHILD) {
		read_text_child(node, row->text, text);
	} else if (row->kind == FROM_ATTR && node != payload) {
		node_set(node, row->text, text);
	}
	if (!row->each) {
		read_parts(node, row, iq->body);
		return;
	}
	for (size_t i = 0; i < iq->n_bodys; i++) {
		read_parts(node_add(payload, row->each, NULL), row, iq->bodys[i]);
	}
}

void result_read(struct reading *reading, const Startalk__IQMessage *iq)
{
	const char *value = iq->value, *text = iq->body ? iq->body->value : NULL;
	bool named = text_or_null(iq->namespace_) != NULL;
	if (!text_or_null(value) || (!named && strcmp(value, PING) == 0)) {
		return;
	}
	for (size_t i = 0; !named && i < ARRAY_LEN(rows); i++) {
		if (strcmp(rows[i].value, value) == 0 &&
		    (rows[i].kind != OWN_NAME || (text && strcmp(rows[i].child, text) == 0))) {
			read_row(reading, &rows[i], iq);
			return;
		}
	}
	const char *xmlns = named && strcmp(iq->namespace_, NS_CLIENT) != 0 ? iq->namespace_ : NULL;
	general_read(reading, iq, name_is_plain(value) ? value : "query", xmlns, false);
}

/* ---- writing ---- */

static const char *part_value(struct writing *writing, const struct part *part, const struct stk_node *node)
{
	const char *value = NULL;
	switch (part->source) {
	case ATTR: value = stk_node_attr(node, part->name); break;
	case CHILD: value = stk_node_text(stk_node_child(node, part->name, NULL)); break;
	case CLOCK: return put_number(writing, writing->context->now_ms / 1000);
	case FIXED: return part->name;
	case END: break;
	}
	return value ? value : part->otherwise;
}

static struct body *write_parts(struct writing *writing, const struct row *row, const struct stk_node *node)
{
	struct body *body = body_new(writing);
	for (const struct part *part = row->parts; part->source != END; part++) {
		body_add(writing, body, part->header, part_value(writing, part, node));
	}
	return body;
}

static void write_each(struct writing *writing, const struct row *row, const struct stk_node *payload,
		       Startalk__IQMessage *iq)
{
	struct bodies bodies = { 0 };
	const struct stk_node *child = stk_node_child(payload, row->each, NULL);
	for (; child; child = stk_node_next(child)) {
		if (strcmp(stk_node_name(child), row->each) == 0) {
			struct body *body = write_parts(writing, row, child);
			if (body) {
				body->pb.value = put_text(writing, row->each_value);
			}
			bodies_add(writing, &bodies, body);
		}
	}
	iq->bodys = bodies.list;
	iq->n_bodys = bodies.n;
}

static void write_row(struct writing *writing, const struct row *row, const struct stk_node *payload,
		      Startalk__IQMessage *iq)
{
	const struct stk_node *node = row->child ? stk_node_child(payload, row->child, NULL) : payload;
	const char *text = row->text;
	iq->value = put_text(writing, row->value);
	if (row->each) {
		write_each(writing, row, payload, iq);
		return;
	}
	switch (row->kind) {
	case NO_BODY: return;
	case CONSTANT: break;
	case FROM_ATTR: text = stk_node_attr(node, text); break;
	case FROM_CHILD: text = stk_node_text(stk_node_child(node, text, NULL)); break;
	case OWN_NAME: text = row->child; break;
	}
	if (row->kind == FROM_ATTR && !text) {
		return;
	}
	struct body *body = write_parts(writing, row, node);
	if (body) {
		body->pb.value = put_text(writing, text);
		iq->body = &body->pb;
	}
}

bool result_write(struct writing *writing, Startalk__IQMessage *iq)
{
	const struct stk_node *payload = stk_stanza_payload(writing->stanza);
	const char *xmlns = stk_node_xmlns(payload);
	if (!payload) {
		iq->value = put_text(writing, PING);
		return true;
	}
	for (size_t i = 0; xmlns && i < ARRAY_LEN(rows); i++) {
		if (strcmp(rows[i].name, stk_node_name(payload)) == 0 && strcmp(rows[i].xmlns, xmlns) == 0 &&
		    (!rows[i].child_needed || stk_node_child(payload, rows[i].child, NULL))) {
			write_row(writing, &rows[i], payload, iq);
			return true;
		}
	}
	return false;
}
