/* SPDX-License-Identifier: MIT */
#ifndef ARCHIVE_ARCHIVE_H
#define ARCHIVE_ARCHIVE_H

#include <startalkd/module.h>
#include <startalkd/service.h>

#include "store.h"

#define ARCHIVE_FILE "archive.db"

struct conf {
	int durability; /* enum stk_durability */
	bool push_offline;
	int64_t push_limit;   /* 0: no cap */
	double revoke_window; /* s */
	double keep;          /* s; 0: for ever */
	int64_t keep_rows;    /* of a recipient; 0: any number */
};

struct state {
	const struct conf *conf;
	struct store *store;           /* for the writer's transactions only */
	struct waiting *waiting_users; /* see waiting.c */
	int slot;                      /* of each session's struct inbox */
	size_t waiting, waiting_bytes; /* stores and applies that the writer has not done yet */
	struct {
		uint64_t *rows; /* told as delivered, not with the writer yet */
		size_t count, cap;
		unsigned writing; /* writes under way */
	} confirmed;
	struct stk_timer *retry; /* runs when something could not be queued */
	struct keeper *keeper;
	struct stk_service *answers;
	struct command *commands; /* under way */
	struct query *queries;    /* that workers have */
};

typedef void archive_done_fn(int status, uint64_t row, int64_t time, void *arg);

/* ---- apply.c: read marks and revocations ---- */

/* See struct stk_archive. */
int apply_message(struct stk_module *module, struct stk_stanza *message, archive_done_fn *done, void *arg);
/* Takes room among what may wait for the writer, or gives it back. False: too much waits. */
bool archive_take_room(struct state *state, size_t bytes);
void archive_give_room(struct state *state, size_t bytes);
/* About the memory that a stanza takes while it waits. */
size_t archive_weight(const struct stk_stanza *stanza);

/* ---- inbox.c: what sessions get, in which order ---- */

int inbox_init(struct stk_module *module);
/* See struct stk_archive. */
int inbox_deliver(struct stk_module *module, struct stk_session *session, struct stk_stanza *message, uint64_t row);
/* Goes on where a queue was full. */
void inbox_retry(struct stk_module *module);
/* A job with ARG was written off: what of them waits for it tries again, or ends. As history_lost(), keeper_lost() and
 * command_lost(). */
void inbox_lost(struct stk_module *module, const void *arg);

/* ---- waiting.c: who may have undelivered messages; BARE is folded ---- */

struct waiting *waiting_new(struct stk_module *module); /* in load(); NULL: out of memory */
void waiting_free(struct waiting **waiting);
/* Behind each write that may have stored a message for them. */
void waiting_add(struct waiting *waiting, const char *bare);
/* Behind a write that found none, before what was written after it is told of. */
void waiting_remove(struct waiting *waiting, const char *bare);
bool waiting_may(const struct waiting *waiting, const char *bare);

/* ---- confirm.c: rows that have been delivered ---- */

void confirm_add(struct stk_module *module, uint64_t row);
/* Queues what was added, when nothing is being written or ALL. */
void confirm_flush(struct stk_module *module, bool all);
void confirm_fini(struct state *state);
/* Calls inbox_retry() and confirm_flush() soon. */
void archive_retry_later(struct stk_module *module);

/* ---- history.c ---- */

int history_init(struct stk_module *module);
void history_lost(struct stk_module *module, const void *arg);

/* ---- keeper.c: retention ---- */

struct keeper_result {
	int64_t rows, pages; /* deleted; given back */
};
typedef void keeper_done_fn(struct stk_module *module, int status, const struct keeper_result *result, void *arg);

int keeper_init(struct stk_module *module);
/* Cleans up now, beside the hourly run. DONE (may be NULL) is called when it is over and the log is in the file. */
int keeper_run(struct stk_module *module, keeper_done_fn *done, void *arg);
void keeper_lost(struct stk_module *module, const void *arg);
void keeper_fini(struct stk_module *module);

/* ---- command.c ---- */

int command_init(struct stk_module *module);
void command_lost(struct stk_module *module, const void *arg);
void command_fini(struct state *state);

#endif
