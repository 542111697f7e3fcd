/* SPDX-License-Identifier: MIT */
/* Keeps messages: the service by which another module stores and delivers them, the options, and the module's life.
 * What is in the tables is store.c's, what a session gets inbox.c's. */

#include "archive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#define WAITING_MAX 20000                /* stores and applies that may wait for the writer */
#define WAITING_BYTES (64 * 1024 * 1024) /* ... and about how much memory they may hold */
#define RETRY_AFTER 0.1                  /* s */

static const char *const durabilities[] = { "full", "normal", "off", NULL };

static const struct stk_option options[] = {
	{ "durability", STK_OPT_ENUM, offsetof(struct conf, durability), "full", 0, 0,
	  "What a receipt promises: full survives a loss of power, normal the end of the process, off nothing for certain; changes with a restart",
	  durabilities },
	{ "push-offline", STK_OPT_BOOL, offsetof(struct conf, push_offline), "on", 0, 0,
	  "Send what waits for a user to a session that becomes available", NULL },
	{ "push-offline-limit", STK_OPT_INT, offsetof(struct conf, push_limit), "0", 0, INT32_MAX,
	  "Push only the newest that many, the others stay undelivered and are in the history; 0: all", NULL },
	{ "revoke-window", STK_OPT_SECONDS, offsetof(struct conf, revoke_window), "120s", 0, 10LL * 365 * 86400 * 1000,
	  "For how long its author may take a message back", NULL },
	{ "keep", STK_OPT_SECONDS, offsetof(struct conf, keep), "0", 0, 100LL * 365 * 86400 * 1000,
	  "Delete messages that are older, delivered or not; 0: never", NULL },
	{ "keep-rows", STK_OPT_INT, offsetof(struct conf, keep_rows), "0", 0, INT32_MAX,
	  "Delete the oldest messages of a recipient who has more; 0: never", NULL },
	{ 0 },
};

/* ---- what waits ---- */

size_t archive_weight(const struct stk_stanza *stanza)
{
	const struct stk_node *root = stk_stanza_root(stanza), *body = stk_node_child(root, "body", NULL);
	const char *text = stk_node_text(body), *info = stk_node_attr(body, "extendInfo");
	return 1024 + (text ? strlen(text) : 0) + (info ? strlen(info) : 0);
}

bool archive_take_room(struct state *state, size_t bytes)
{
	if (state->waiting >= WAITING_MAX || state->waiting_bytes + bytes > WAITING_BYTES) {
		return false;
	}
	state->waiting++;
	state->waiting_bytes += bytes;
	return true;
}

void archive_give_room(struct state *state, size_t bytes)
{
	state->waiting--;
	state->waiting_bytes -= bytes;
}

static void on_retry(struct stk_module *module, void *arg)
{
	struct state *state = arg;
	stk_timer_stop(&state->retry);
	confirm_flush(module, false);
	inbox_retry(module);
}

void archive_retry_later(struct stk_module *module)
{
	struct state *state = stk_data(module);
	if (!state->retry) {
		state->retry = stk_timer(module, RETRY_AFTER, 0, on_retry, state);
	}
}

/* ---- storing ---- */

struct storing {
	struct stk_stanza *message;
	archive_done_fn *done;
	void *arg;
	size_t bytes;
	uint64_t row;
	int64_t time;
};

static int write_message(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	const struct state *state = stk_data(module);
	struct storing *storing = arg;
	struct record record;
	store_begin(state->store, db);
	int rc = record_read(&record, storing->message);
	if (rc == 0) {
		rc = record.type == RECORD_REVOKE
			     ? -EINVAL
			     : store_insert(state->store, db, &record, &storing->row, &storing->time);
	}
	record_fini(&record);
	return rc; /* JIDs that were added stay, whatever became of the message */
}

static void on_stored(struct stk_module *module, int status, void *arg)
{
	struct storing *storing = arg;
	struct state *state = stk_data(module);
	char bare[STK_JID_MAX + 1];
	archive_give_room(state, storing->bytes);
	if (record_fold(stk_stanza_to(storing->message), bare) == 0) {
		waiting_add(state->waiting_users, bare); /* a commit that failed may be on disk all the same */
	}
	if (status == 0 && storing->row) {
		stk_stored(module, storing->message);
	}
	storing->done(status, status == 0 ? storing->row : 0, storing->time, storing->arg);
	stk_stanza_unref(storing->message);
	free(storing);
}

static int store_message(struct stk_module *module, struct stk_stanza *message, archive_done_fn *done, void *arg)
{
	struct state *state = stk_data(module);
	size_t bytes = archive_weight(message);
	struct storing *storing = malloc(sizeof(*storing));
	if (!storing || !archive_take_room(state, bytes)) {
		free(storing);
		return -EAGAIN;
	}
	*storing = (struct storing){ .message = stk_stanza_ref(message), .done = done, .arg = arg, .bytes = bytes };
	int rc = stk_db_append(module, ARCHIVE_FILE, write_message, on_stored, storing);
	if (rc < 0) {
		archive_give_room(state, bytes);
		stk_stanza_unref(message);
		free(storing);
	}
	return rc < 0 ? -EAGAIN : 0;
}

static const struct stk_archive service = {
	.size = sizeof(service), .store = store_message, .apply = apply_message, .deliver = inbox_deliver
};

/* ---- life ---- */

static void on_job_lost(struct stk_module *module, stk_work_fn *work, const void *arg)
{
	(void)work;
	inbox_lost(module, arg);
	history_lost(module, arg);
	keeper_lost(module, arg);
	command_lost(module, arg);
}

static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	if (state) {
		keeper_fini(module);
		command_fini(state);
		confirm_fini(state);
		waiting_free(&state->waiting_users);
		store_free(&state->store);
	}
	free(state);
	stk_set_data(module, NULL);
}

static int start(struct stk_module *module, struct state *state)
{
	state->store = store_new();
	if (!state->store) {
		return -ENOMEM;
	}
	int rc = stk_db_durability(module, ARCHIVE_FILE, (enum stk_durability)state->conf->durability);
	if (rc == 0 && !stk_db(module, ARCHIVE_FILE, store_migrations)) {
		rc = -EIO;
	}
	if (rc == 0 && !(state->waiting_users = waiting_new(module))) {
		rc = -ENOMEM;
	}
	rc = rc < 0 ? rc : stk_job_lost(module, on_job_lost);
	rc = rc < 0 ? rc : inbox_init(module);
	rc = rc < 0 ? rc : history_init(module);
	rc = rc < 0 ? rc : keeper_init(module);
	rc = rc < 0 ? rc : command_init(module);
	return rc < 0 ? rc : stk_provide(module, "archive", 1, 0, &service);
}

static int load(struct stk_module *module, const void *conf)
{
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	state->conf = conf;
	stk_set_data(module, state);
	int rc = start(module, state);
	if (rc < 0) {
		unload(module);
	}
	return rc;
}

static int reload(struct stk_module *module, const void *arg)
{
	const struct conf *conf = arg;
	struct state *state = stk_data(module);
	if (conf->durability != state->conf->durability) {
		stk_log(module, LOG_WARNING, "durability: takes effect with the next start");
	}
	state->conf = conf;
	return 0;
}

STK_MODULE(.name = "archive", .version = "0.1", .options = options, .conf_size = sizeof(struct conf), .load = load,
	   .reload = reload, .unload = unload);
