/* SPDX-License-Identifier: MIT */
/* The history query: IQ get in startalk:history. Owns its parameters, what an answer looks like and how large it gets;
 * a user sees nothing but the talks that are their own. */

#include "archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#define XMLNS "startalk:history"
#define LIMIT_MAX 100
#define LIMIT 20
#define ANSWER_BYTES (1024 * 1024) /* about; the first message may pass it */
#define TIMEOUT_MS 30000

struct query {
	struct query *prev, *next; /* of those that workers have */
	struct stk_pending *pending;
	struct stk_stanza *request, *answer;
	uint64_t session;
	struct store_talk talk;
	struct stk_stanza *messages[LIMIT_MAX + 1]; /* in the order in which they were found */
	struct {
		uint64_t seq;
		int64_t time;
		int flag;
	} rows[LIMIT_MAX + 1];
	size_t count, bytes;
	bool cut; /* the answer got too large */
	int status;
	char user[STK_JID_MAX + 1], partner[STK_JID_MAX + 1]; /* folded */
};

/* ---- the request ---- */

/* 0: absent, *NUMBER stays; 1; -EINVAL. */
static int read_number(const struct stk_node *node, const char *name, int64_t min, int64_t max, int64_t *number)
{
	const char *text = stk_node_attr(node, name);
	if (!text) {
		return 0;
	}
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (errno || *end || end == text || value < min || value > max) {
		return -EINVAL;
	}
	*number = value;
	return 1;
}

/* A cursor is the point where the page before ended. */
static int read_cursor(const struct stk_node *node, struct store_talk *talk)
{
	const char *text = stk_node_attr(node, "cursor");
	long long time, seq;
	int end = 0;
	if (!text) {
		return 0;
	}
	if (sscanf(text, "%lld-%lld%n", &time, &seq, &end) != 2 || text[end] || time < 0 || seq < 0) {
		return -EINVAL;
	}
	*(talk->newest_first ? &talk->to : &talk->from) = (struct store_point){ .time = time, .seq = seq };
	return 0;
}

static int read_request(struct query *query, const struct stk_session *session, const struct stk_node *node)
{
	char bare[STK_JID_MAX + 1];
	const char *with = stk_node_attr(node, "with");
	int64_t limit = LIMIT, before = stk_now_ms() + 1, after = -1;
	struct stk_jid jid;
	if (!with || stk_jid_parse(&jid, with) < 0 || stk_jid_bare(with, bare, sizeof(bare)) < 0 ||
	    stk_jid_fold(bare, query->partner, sizeof(query->partner)) < 0 ||
	    stk_jid_fold(stk_session_bare(session), query->user, sizeof(query->user)) < 0) {
		return -EINVAL;
	}
	int forward = read_number(node, "after", 0, INT64_MAX, &after);
	if (forward < 0 || read_number(node, "before", 0, INT64_MAX, &before) < 0 ||
	    read_number(node, "limit", 1, LIMIT_MAX, &limit) < 0) {
		return -EINVAL;
	}
	query->talk = (struct store_talk){
		.from = { .time = after, .seq = INT64_MAX },
		.to = { .time = before },
		.newest_first = !forward,
		.most = (int)limit + 1,
	};
	return read_cursor(node, &query->talk);
}

/* ---- on a worker ---- */

static bool take_row(const struct row *row, void *arg)
{
	struct query *query = arg;
	size_t bytes = strlen(row->record.body) + (row->record.more ? strlen(row->record.more) : 0) + 256;
	if (query->count && query->bytes + bytes > ANSWER_BYTES) {
		query->cut = true;
		return false;
	}
	query->bytes += bytes;
	query->rows[query->count].seq = row->seq;
	query->rows[query->count].time = row->record.time;
	query->rows[query->count].flag = row->flag;
	query->messages[query->count] = record_stanza(&row->record);
	return query->messages[query->count++] != NULL;
}

static bool copy_attr(const char *name, const char *value, void *arg)
{
	if (strcmp(name, "msec_times") != 0) {
		stk_node_set(arg, name, value);
	}
	return true;
}

static void add_message(struct stk_node *parent, const struct query *query, size_t i)
{
	const struct stk_stanza *stanza = query->messages[i];
	const struct stk_node *root = stk_stanza_root(stanza), *body = stk_node_child(root, "body", NULL);
	struct stk_node *node = stk_node_add(parent, "message", NULL);
	char text[24];
	stk_node_attrs(body, copy_attr, node);
	stk_node_attrs(root, copy_attr, node);
	stk_node_set(node, "id", stk_node_attr(body, "id"));
	snprintf(text, sizeof(text), "%lld", (long long)query->rows[i].time);
	stk_node_set(node, "time", text);
	snprintf(text, sizeof(text), "%d", query->rows[i].flag);
	stk_node_set(node, "flag", text);
	if (strcmp(stk_stanza_type(stanza), "revoke") == 0) {
		stk_node_set(node, "revoked", "true");
	}
	stk_node_set_text(node, stk_node_text(body));
	for (const struct stk_node *child = stk_node_child(root, NULL, NULL); child; child = stk_node_next(child)) {
		if (child != body) {
			struct stk_node *copy = stk_node_add(node, stk_node_name(child), stk_node_xmlns(child));
			stk_node_attrs(child, copy_attr, copy);
			stk_node_set_text(copy, stk_node_text(child));
		}
	}
}

static void build_answer(struct query *query)
{
	size_t limit = (size_t)query->talk.most - 1;
	bool complete = query->count <= limit && !query->cut;
	size_t count = query->count < limit ? query->count : limit;
	char text[48];
	query->answer = stk_stanza_result(query->request);
	struct stk_node *node = stk_node_add(stk_stanza_edit(query->answer), "query", XMLNS);
	snprintf(text, sizeof(text), "%zu", count);
	stk_node_set(node, "count", text);
	stk_node_set(node, "complete", complete ? "true" : "false");
	if (!complete && count) {
		snprintf(text, sizeof(text), "%lld-%llu", (long long)query->rows[count - 1].time,
			 (unsigned long long)query->rows[count - 1].seq);
		stk_node_set(node, "next", text);
	}
	for (size_t i = 0; i < count; i++) {
		add_message(node, query, query->talk.newest_first ? count - 1 - i : i);
	}
}

static void read_history(struct stk_module *module, void *arg)
{
	struct query *query = arg;
	struct sqlite3 *db = stk_db(module, ARCHIVE_FILE, NULL);
	int64_t user = db ? store_find_jid(db, query->user) : -EIO;
	int64_t partner = user < 0 ? user : store_find_jid(db, query->partner);
	query->talk.user = user;
	query->talk.partner = partner;
	if (user > 0 && partner > 0) {
		query->status = store_each_of_talk(db, &query->talk, take_row, query);
	} else {
		query->status = partner < 0 ? (int)partner : 0;
	}
	if (query->status == 0) {
		build_answer(query);
	}
}

/* ---- on the router ---- */

static void finish(struct query *query, int status)
{
	stk_resume(query->pending, query->answer, status);
	for (size_t i = 0; i < query->count; i++) {
		stk_stanza_unref(query->messages[i]);
	}
	stk_stanza_unref(query->request);
	free(query);
}

static void on_read(struct stk_module *module, int status, void *arg)
{
	struct query *query = arg;
	struct state *state = stk_data(module);
	DL_DELETE(state->queries, query);
	status = status < 0 ? status : query->status;
	finish(query, status < 0 || query->answer ? status : -ENOMEM);
}

static int pass(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	(void)module;
	(void)db;
	(void)arg;
	return 0;
}

/* All writes that were queued before the query are on disk. */
static void on_barrier(struct stk_module *module, int status, void *arg)
{
	struct query *query = arg;
	struct state *state = stk_data(module);
	int rc = status < 0 ? status : stk_job(module, query->session, read_history, on_read, query);
	if (rc < 0) {
		finish(query, rc);
		return;
	}
	DL_PREPEND(state->queries, query);
}

void history_lost(struct stk_module *module, const void *arg)
{
	struct state *state = stk_data(module);
	struct query *query = state->queries;
	while (query && query != arg) {
		query = query->next;
	}
	if (query) { /* it stays with its worker, which may be using all but these */
		DL_DELETE(state->queries, query);
		stk_resume(query->pending, NULL, -ETIMEDOUT);
	}
}

static int handle_query(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)arg;
	struct query *query = calloc(1, sizeof(*query));
	if (!query) {
		return -ENOMEM;
	}
	int rc = read_request(query, session, stk_stanza_payload(stanza));
	query->pending = rc < 0 ? NULL : stk_defer(stanza, TIMEOUT_MS);
	if (!query->pending) {
		free(query);
		return rc < 0 ? rc : -ENOMEM;
	}
	query->request = stk_stanza_ref(stanza);
	query->session = stk_session_id(session);
	rc = stk_db_append(module, ARCHIVE_FILE, pass, on_barrier, query);
	if (rc < 0) {
		finish(query, rc);
	}
	return STK_LATER;
}

int history_init(struct stk_module *module)
{
	static const struct stk_match match = {
		.size = sizeof(match), .element = STK_IQ, .type = "get", .xmlns = XMLNS
	};
	return stk_handle(module, &match, handle_query, NULL);
}
