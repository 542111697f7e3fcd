/* SPDX-License-Identifier: MIT */
/* What read marks and revocations do to stored messages. Owns how their bodies are read and that a long one is worked
 * off in steps, so that it does not keep other writes waiting; who may do what is decided by the tables' rules in
 * store.c. */

#include "archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

struct applying {
	struct stk_stanza *message;
	archive_done_fn *done;
	void *arg;
	size_t bytes;
	int64_t now, window; /* ms */
	bool parsed, more;   /* another step is needed */
	bool sweeping;       /* all up to a time; else those of the list */
	json_t *ids;
	size_t next; /* in ids */
	enum store_flag flag;
	struct store_sweep sweep;
};

static const struct stk_node *body_of(const struct stk_stanza *message)
{
	return stk_node_child(stk_stanza_root(message), "body", NULL);
}

static json_t *parse(const char *text)
{
	return text ? json_loads(text, 0, NULL) : NULL;
}

/* ---- read marks ---- */

static int parse_ids(struct applying *applying, json_t *list)
{
	size_t i;
	json_t *item;
	if (!json_is_array(list)) {
		return -EINVAL;
	}
	json_array_foreach(list, i, item)
	{
		if (!json_is_string(json_object_get(item, "id"))) {
			return -EINVAL;
		}
	}
	applying->ids = json_incref(list);
	return 0;
}

/* Clients spell the time in three ways, some put it into a list. */
static int parse_time(struct applying *applying, const json_t *marker)
{
	static const char *const names[] = { "T", "t", "time" };
	marker = json_is_array(marker) ? json_array_get(marker, 0) : marker;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const json_t *time = json_object_get(marker, names[i]);
		if (json_is_integer(time)) {
			applying->sweep.time = json_integer_value(time);
			applying->sweeping = true;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_mark(struct applying *applying, const char *read_type)
{
	json_t *json = parse(stk_node_text(body_of(applying->message)));
	int rc = strcmp(read_type, "0") == 0 ? parse_time(applying, json) : parse_ids(applying, json);
	applying->flag = strcmp(read_type, "3") == 0 ? STORE_DELIVERED : STORE_READ;
	json_decref(json);
	return rc;
}

/* Finds whose rows these are. 1: go on; 0: there can be none; -errno. */
static int address_mark(struct applying *applying, struct store *store, struct sqlite3 *db)
{
	char own[STK_JID_MAX + 1], partner[STK_JID_MAX + 1];
	if (record_fold(stk_stanza_from(applying->message), own) < 0 ||
	    record_fold(stk_stanza_to(applying->message), partner) < 0) {
		return -EINVAL;
	}
	int64_t recipient = store_jid(store, db, own, false);
	applying->sweep.recipient = recipient;
	if (recipient <= 0 || !applying->sweeping || strcmp(own, partner) == 0) {
		return recipient < 0 ? (int)recipient : recipient > 0;
	}
	applying->sweep.sender = store_jid(store, db, partner, false);
	return applying->sweep.sender < 0 ? (int)applying->sweep.sender : applying->sweep.sender > 0;
}

/* 1: another step is needed; 0: done; -errno. */
static int mark_step(struct applying *applying, struct store *store, struct sqlite3 *db)
{
	static const char *const known[] = { "0", "1", "3", "4" };
	const char *read_type = stk_node_attr(stk_stanza_root(applying->message), "read_type");
	size_t i = 0;
	while (i < 4 && (!read_type || strcmp(known[i], read_type) != 0)) {
		i++;
	}
	if (i == 4) {
		return 0; /* about rooms, or unknown */
	}
	if (!applying->parsed) {
		applying->parsed = true;
		int rc = parse_mark(applying, read_type);
		rc = rc < 0 ? rc : address_mark(applying, store, db);
		if (rc <= 0) {
			return rc;
		}
	}
	if (applying->sweeping) {
		return store_sweep(store, db, &applying->sweep);
	}
	int rc = 0;
	for (size_t n = 0; n < STORE_STEP && applying->next < json_array_size(applying->ids) && rc == 0; n++) {
		const json_t *item = json_array_get(applying->ids, applying->next++);
		rc = store_mark(db, applying->sweep.recipient, json_string_value(json_object_get(item, "id")),
				applying->flag);
	}
	return rc < 0 ? rc : applying->next < json_array_size(applying->ids);
}

/* ---- revocations ---- */

struct revocation {
	const char *id;
	char author[STK_JID_MAX + 1]; /* as the client says, folded; "" when it does not */
	json_t *json;                 /* what id points into */
};

static void read_revocation(struct revocation *revocation, const struct stk_stanza *message)
{
	const struct stk_node *body = body_of(message);
	json_t *json = parse(stk_node_attr(body, "extendInfo"));
	if (!json_is_string(json_object_get(json, "messageId"))) {
		json_decref(json);
		json = parse(stk_node_text(body));
	}
	const char *id = json_string_value(json_object_get(json, "messageId"));
	*revocation = (struct revocation){ .id = id ? id : stk_node_attr(body, "id"), .json = json };
	if (record_fold(json_string_value(json_object_get(json, "fromId")), revocation->author) < 0) {
		revocation->author[0] = '\0';
	}
}

static int revoke(struct stk_module *module, struct applying *applying, struct sqlite3 *db)
{
	const struct state *state = stk_data(module);
	struct record notice;
	struct revocation revocation;
	int rc = record_read(&notice, applying->message);
	if (rc == 0) {
		read_revocation(&revocation, applying->message);
		const char *partners[] = { notice.recipient, revocation.author[0] ? revocation.author : NULL, NULL };
		rc = store_revoke(state->store, db, &notice, revocation.id, applying->now - applying->window,
				  applying->now, partners);
		json_decref(revocation.json);
	}
	record_fini(&notice);
	return rc;
}

/* ---- both ---- */

static void finish(struct stk_module *module, struct applying *applying, int status)
{
	archive_give_room(stk_data(module), applying->bytes);
	applying->done(status, 0, 0, applying->arg);
	stk_stanza_unref(applying->message);
	json_decref(applying->ids);
	free(applying);
}

static int write_step(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	struct state *state = stk_data(module);
	struct applying *applying = arg;
	const char *type = stk_stanza_type(applying->message);
	store_begin(state->store, db);
	int rc = type && strcmp(type, "revoke") == 0     ? revoke(module, applying, db)
		 : type && strcmp(type, "readmark") == 0 ? mark_step(applying, state->store, db)
							 : -EINVAL;
	applying->more = rc > 0;
	return rc < 0 ? rc : 0;
}

static void on_step(struct stk_module *module, int status, void *arg)
{
	struct applying *applying = arg;
	if (status == 0 && applying->more) {
		status = stk_db_write(module, ARCHIVE_FILE, write_step, on_step, applying);
		if (status == 0) {
			return;
		}
	}
	finish(module, applying, status);
}

int apply_message(struct stk_module *module, struct stk_stanza *message, archive_done_fn *done, void *arg)
{
	struct state *state = stk_data(module);
	size_t bytes = archive_weight(message);
	struct applying *applying = calloc(1, sizeof(*applying));
	if (!applying || !archive_take_room(state, bytes)) {
		free(applying);
		return -EAGAIN;
	}
	*applying = (struct applying){
		.message = stk_stanza_ref(message), .done = done, .arg = arg, .bytes = bytes, .now = stk_now_ms()
	};
	applying->window = (int64_t)(state->conf->revoke_window * 1000);
	int rc = stk_db_write(module, ARCHIVE_FILE, write_step, on_step, applying);
	if (rc < 0) {
		archive_give_room(state, bytes);
		stk_stanza_unref(message);
		free(applying);
		return rc;
	}
	return 0;
}
