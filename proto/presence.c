/* SPDX-License-Identifier: MIT */
/* Presences: between PresenceMessage and presence stanzas. Owns the table of what clients send and the table of what
 * they are told; the categories of notices are numbers that only pass through. */

#include <errno.h>
#include <string.h>

#include "proto/names.h"
#include "proto/pass.h"
#include "proto/text.h"

#define NOTIFY STARTALK__PRESENCE_KEY_TYPE__PresenceKeyNotify
#define RESULT STARTALK__PRESENCE_KEY_TYPE__PresenceKeyResult
#define MANUAL "manual_authentication_confirm"
#define CATEGORY_OLD 1 /* what a notice without category is sent as */

static const char *attr(const struct writing *writing, const char *name)
{
	return stk_node_attr(writing->root, name);
}

static bool is_type(const struct writing *writing, const char *type)
{
	const char *own = stk_stanza_type(writing->stanza);
	return own && type ? strcmp(own, type) == 0 : own == type;
}

static bool is_xmlns(const struct writing *writing, const char *xmlns)
{
	const char *own = stk_node_xmlns(writing->root);
	return own && xmlns ? strcmp(own, xmlns) == 0 : own == xmlns;
}

static const char *child_text(const struct stk_node *node, const char *name)
{
	return stk_node_text(stk_node_child(node, name, NULL));
}

/* ---- notices: the same both ways ---- */

static void read_notify(struct reading *reading, const Startalk__PresenceMessage *presence)
{
	struct stk_node *root = reading->root;
	node_set(root, "from", text_or_null(reading->envelope->from));
	node_set(root, "to", text_or_null(reading->envelope->to));
	if (presence->has_categorytype) {
		node_set(root, "category", keep_number(reading, presence->categorytype));
	}
	node_set(root, "data", presence->body ? presence->body->value : NULL);
	node_set(root, "type", "notify");
	node_add(root, "notify", NS_NOTIFY);
}

static int write_notify(struct writing *writing, Startalk__PresenceMessage *presence)
{
	const char *category = attr(writing, "category"), *data = attr(writing, "data");
	bool server = writing->context->side == CODEC_SERVER;
	int64_t number = CATEGORY_OLD;
	if (category && !number_parse(category, INT32_MIN, INT32_MAX, &number)) {
		return -EINVAL;
	}
	struct body *body = data || server ? body_new(writing) : NULL;
	if (body) {
		body->pb.value = put_text(writing, data ? data : "");
		presence->body = &body->pb;
	}
	presence->has_categorytype = category || server;
	presence->categorytype = (int32_t)number;
	presence->has_definedkey = true;
	presence->definedkey = NOTIFY;
	presence->key = put_text(writing, server ? "result" : NULL);
	presence->value = put_text(writing, server ? "notify" : NULL);
	return 0;
}

/* ---- what clients send ---- */

static void read_priority(struct reading *reading, const Startalk__PresenceMessage *presence)
{
	read_text_child(reading->root, "priority", presence->value ? presence->value : "");
}

static const char *const status_headers[] = { "show", "priority", "status", NULL };

static void read_status(struct reading *reading, const Startalk__PresenceMessage *presence)
{
	for (const char *const *name = status_headers; *name; name++) {
		read_text_child(reading->root, *name, body_header(presence->body, *name));
	}
}

static void read_verify(struct reading *reading, const Startalk__PresenceMessage *presence)
{
	node_set(reading->root, "xmlns", NS_FRIEND);
	node_set(reading->root, "to", text_or_null(reading->envelope->to));
	node_set(reading->root, "type", "verify_friend");
	read_all_headers(reading, reading->root, presence->body, NULL);
}

static const char *const manual_headers[] = { "result", "reason", NULL };

static void read_manual(struct reading *reading, const Startalk__PresenceMessage *presence)
{
	node_set(reading->root, "xmlns", NS_MANUAL);
	node_set(reading->root, "to", text_or_null(reading->envelope->to));
	node_set(reading->root, "type", MANUAL);
	read_headers(reading->root, presence->body, manual_headers);
}

/* The functions that write return PASS_NOTHING for a stanza that is not theirs. */

static int write_client_notify(struct writing *writing, Startalk__PresenceMessage *presence)
{
	return is_type(writing, "notify") ? write_notify(writing, presence) : PASS_NOTHING;
}

static int write_status(struct writing *writing, Startalk__PresenceMessage *presence)
{
	if (!is_xmlns(writing, NULL) || !is_type(writing, NULL)) {
		return PASS_NOTHING;
	}
	struct body *body = body_new(writing);
	for (const char *const *name = status_headers; body && *name; name++) {
		body_add(writing, body, *name, child_text(writing->root, *name));
	}
	presence->value = put_text(writing, "user_update_status");
	presence->body = body ? &body->pb : NULL;
	return 0;
}

static int write_priority(struct writing *writing, Startalk__PresenceMessage *presence)
{
	const struct stk_node *root = writing->root;
	presence->value = put_text(writing, child_text(root, "priority"));
	bool alone = presence->value && !child_text(root, "show") && !child_text(root, "status");
	return alone && is_xmlns(writing, NULL) && is_type(writing, NULL) ? 0 : PASS_NOTHING;
}

static int write_verify(struct writing *writing, Startalk__PresenceMessage *presence)
{
	struct body *body = body_new(writing);
	if (!is_xmlns(writing, NS_FRIEND) || !is_type(writing, "verify_friend") || !body) {
		return PASS_NOTHING;
	}
	body_add_all(writing, body, writing->root, NULL);
	body->pb.value = put_text(writing, "verify_friend");
	presence->body = &body->pb;
	return 0;
}

static int write_manual(struct writing *writing, Startalk__PresenceMessage *presence)
{
	struct body *body = body_new(writing);
	if (!is_xmlns(writing, NS_MANUAL) || !is_type(writing, MANUAL) || !body) {
		return PASS_NOTHING;
	}
	body_add_attrs(writing, body, writing->root, manual_headers);
	body->pb.value = put_text(writing, MANUAL);
	presence->body = &body->pb;
	return 0;
}

/* In the order in which they are tried on a stanza. */
static const struct request {
	const char *key;
	int32_t number; /* 0: goes by its key alone */
	void (*read)(struct reading *reading, const Startalk__PresenceMessage *presence);
	int (*write)(struct writing *writing, Startalk__PresenceMessage *presence);
} requests[] = {
	{ "notify", NOTIFY, read_notify, write_client_notify },
	{ "priority", STARTALK__PRESENCE_KEY_TYPE__PresenceKeyPriority, read_priority, write_priority },
	{ "status", 0, read_status, write_status },
	{ "verify_friend", STARTALK__PRESENCE_KEY_TYPE__PresenceKeyVerifyFriend, read_verify, write_verify },
	{ MANUAL, STARTALK__PRESENCE_KEY_TYPE__PresenceKeyManualAuthenticationConfirm, read_manual, write_manual },
};

static int read_request(struct reading *reading, const Startalk__PresenceMessage *presence)
{
	const struct request *request = NULL;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		if (presence->has_definedkey && requests[i].number && requests[i].number == presence->definedkey) {
			request = &requests[i]; /* decides, whatever the key */
			break;
		}
		if (!request && presence->key && strcmp(requests[i].key, presence->key) == 0) {
			request = &requests[i];
		}
	}
	if (!request) {
		return PASS_NOTHING;
	}
	request->read(reading, presence);
	return 0;
}

static int write_request(struct writing *writing, Startalk__PresenceMessage *presence)
{
	int rc = PASS_NOTHING;
	for (size_t i = 0; i < ARRAY_LEN(requests) && rc == PASS_NOTHING; i++) {
		startalk__presence_message__init(presence);
		rc = requests[i].write(writing, presence);
		if (rc == 0) {
			presence->key = put_text(writing, requests[i].key);
			presence->has_definedkey = requests[i].number != 0;
			presence->definedkey = requests[i].number;
		}
	}
	return rc;
}

/* ---- what clients are told ---- */

enum source {
	ROOT,  /* attributes of presence */
	CHILD, /* attributes of the row's child */
	ITEM,  /* attributes of item in x */
	TEXTS, /* the texts of children */
};

struct row {
	const char *value, *xmlns;
	enum source source;
	/* CHILD: its name. ITEM: what stands beside item; NULL: nothing needs to. TEXTS: the one that must be there. */
	const char *child;
	/* Attributes of presence that tell rows apart. For ITEM and TEXTS, NULL means that there must be no type. */
	const char *type, *method;
	const char *headers[6];
	const char *text; /* the body's value */
	const char *key;  /* sent without a number; NULL: as all the others */
};

/* clang-format off: rows read better as rows */
static const struct row rows[] = {
	{ .value = "invite_user",
	  .xmlns = NS_MUC "invite",
	  .headers = { "invite_jid", "status" },
	  .text = "invite_info" },
	{ .value = "del_muc_register",
	  .xmlns = NS_MUC "del_register",
	  .headers = { "del_jid" },
	  .text = "del_muc_register" },
	{ .value = "subscribe_update",
	  .xmlns = NS_MUC "muc_user_subscribe_v2",
	  .source = CHILD,
	  .child = "subscribe_updte",
	  .headers = { "status" },
	  .text = "subscribe_update" },
	{ .value = "update_muc_vcard",
	  .xmlns = NS_MUC "vcard_update",
	  .source = CHILD,
	  .child = "vcard_updte",
	  .headers = { "nick", "desc", "title", "pic", "version" },
	  .text = "update_muc_vcard" },
	{ .value = "verify_friend",
	  .xmlns = NS_FRIEND,
	  .type = "handle_friend_result",
	  .headers = { "type", "result", "reason", "method", "body" },
	  .text = "verify_friend" },
	{ .value = "confirm_verify_friend",
	  .xmlns = NS_FRIEND,
	  .method = MANUAL,
	  .key = MANUAL,
	  .headers = { "type", "method", "body", "friend_num" },
	  .text = "verify_friend" },
	{ .value = "verify_friend", .xmlns = NS_INVITED, .headers = { "result" }, .text = "verify_friend" },
	{ .value = "delete_friend",
	  .xmlns = NS_UNFRIEND,
	  .headers = { "type", "result", "jid", "domain" },
	  .text = "delete_friend" },
	{ .value = "mask_user",
	  .xmlns = NS_MASK,
	  .source = CHILD,
	  .child = "mask_user",
	  .headers = { "jid" },
	  .text = "mask_user" },
	{ .value = "cancel_mask_user",
	  .xmlns = NS_MASK,
	  .source = CHILD,
	  .child = "cancel_masked_user",
	  .headers = { "jid" },
	  .text = "cancel_mask_user" },
	{ .value = "forbidden_words",
	  .xmlns = NS_MUC "muc_forbidden_words",
	  .headers = { "forbidden_words" },
	  .text = "forbidden_words" },
	{ .value = "user_join_muc",
	  .source = ITEM,
	  .headers = { "jid", "affiliation", "domain" },
	  .text = "user_info" },
	{ .value = "destory_muc",
	  .source = ITEM,
	  .child = "destroy",
	  .type = "unavailable",
	  .headers = { "affiliation", "role" },
	  .text = "item" },
	{ .value = "del_muc_user",
	  .source = ITEM,
	  .child = "status",
	  .type = "unavailable",
	  .headers = { "affiliation", "role", "code" },
	  .text = "item" },
	{ .value = "update_user_status",
	  .source = TEXTS,
	  .child = "show",
	  .headers = { "show", "priority" },
	  .text = "user_update_status" },
};
/* clang-format on */

static void read_row(struct reading *reading, const struct row *row, const Startalk__MessageBody *body)
{
	struct stk_node *node = reading->root, *beside = NULL;
	node_set(node, "xmlns", row->xmlns);
	node_set(node, "type", row->type);
	if (row->source == CHILD) {
		node = node_add(node, row->child, NULL);
	} else if (row->source == ITEM) {
		struct stk_node *x = node_add(node, "x", NS_MUC "user");
		node = node_add(x, "item", NULL);
		beside = row->child ? node_add(x, row->child, NULL) : NULL;
	}
	for (const char *const *name = row->headers; *name; name++) {
		const char *value = body_header(body, *name);
		if (row->source == TEXTS) {
			read_text_child(node, *name, value);
		} else {
			node_set(row->source == ITEM && strcmp(*name, "code") == 0 ? beside : node, *name, value);
		}
	}
}

static int read_told(struct reading *reading, const Startalk__PresenceMessage *presence)
{
	const char *value = presence->value ? presence->value : "";
	if (strcmp(value, "notify") == 0) {
		read_notify(reading, presence);
		return 0;
	}
	node_set(reading->root, "from", text_or_null(reading->envelope->from));
	node_set(reading->root, "to", text_or_null(reading->envelope->to));
	const char *type = body_header(presence->body, "type");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool typed = rows[i].source == ROOT &&
			     rows[i].type; /* two rows share a value: the header tells them apart */
		if (strcmp(rows[i].value, value) == 0 && (!typed || (type && strcmp(rows[i].type, type) == 0))) {
			read_row(reading, &rows[i], presence->body);
			return 0;
		}
	}
	return PASS_NOTHING;
}

/* Where a row's headers come from. */
struct place {
	const struct stk_node *node, *beside;
};

static bool find_place(const struct writing *writing, const struct row *row, struct place *place)
{
	const struct stk_node *root = writing->root, *x;
	const char *method = attr(writing, "method");
	*place = (struct place){ .node = root };
	if (!is_xmlns(writing, row->xmlns) || (row->method && (!method || strcmp(row->method, method) != 0))) {
		return false;
	}
	switch (row->source) {
	case ROOT: return !row->type || is_type(writing, row->type);
	case CHILD: place->node = stk_node_child(root, row->child, NULL); return place->node != NULL;
	case ITEM:
		x = stk_node_child(root, "x", NS_MUC "user");
		place->node = stk_node_child(x, "item", NULL);
		place->beside = row->child ? stk_node_child(x, row->child, NULL) : NULL;
		return is_type(writing, row->type) && place->node && (!row->child || place->beside);
	case TEXTS: return is_type(writing, row->type) && stk_node_child(root, row->child, NULL);
	}
	return false;
}

static const char *put_user(struct writing *writing, const char *jid)
{
	const char *at = jid ? strchr(jid, '@') : NULL;
	char *user = at ? put_alloc(writing, (size_t)(at - jid) + 1) : NULL;
	if (user) {
		memcpy(user, jid, (size_t)(at - jid));
	}
	return at ? user : jid;
}

static const char *header_value(struct writing *writing, const struct row *row, const struct place *place,
				const char *name)
{
	if (row->source == TEXTS) {
		return child_text(place->node, name);
	}
	if (row->source == ITEM && strcmp(name, "code") == 0) {
		return stk_node_attr(place->beside, name);
	}
	const char *value = stk_node_attr(place->node, name);
	if (row->source == ITEM && strcmp(name, "jid") == 0) {
		return put_user(writing, value ? value : stk_node_attr(place->node, "real_jid"));
	}
	return value;
}

static int write_told(struct writing *writing, Startalk__PresenceMessage *presence)
{
	struct place place;
	const struct row *row = rows, *end = rows + ARRAY_LEN(rows);
	startalk__presence_message__init(presence);
	if (is_type(writing, "notify")) {
		return write_notify(writing, presence);
	}
	while (row < end && !find_place(writing, row, &place)) {
		row++;
	}
	if (row == end) {
		return PASS_NOTHING;
	}
	struct body *body = body_new(writing);
	for (const char *const *name = row->headers; body && *name; name++) {
		body_add(writing, body, *name, header_value(writing, row, &place, *name));
	}
	if (body) {
		body->pb.value = put_text(writing, row->text);
		presence->body = &body->pb;
	}
	presence->key = put_text(writing, row->key ? row->key : "result");
	presence->value = put_text(writing, row->value);
	presence->has_definedkey = !row->key;
	presence->definedkey = RESULT;
	return 0;
}

/* ---- both ---- */

int presence_read(struct reading *reading)
{
	const Startalk__PresenceMessage *presence = (const void *)reading->message;
	return reading->context->side == CODEC_CLIENT ? read_request(reading, presence) : read_told(reading, presence);
}

int presence_write(struct writing *writing)
{
	Startalk__PresenceMessage presence;
	bool server = writing->context->side == CODEC_SERVER;
	int rc = server ? write_told(writing, &presence) : write_request(writing, &presence);
	if (rc != 0) {
		return rc;
	}
	put_addresses(writing);
	presence.messageid = put_text(writing, server ? "" : NULL);
	presence.has_receivedtime = server;
	presence.receivedtime = writing->context->now_ms / 1000;
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalTypePresence, &presence.base);
}
