/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_DB_H
#define STK_CORE_DB_H

#include <stdbool.h>
#include <startalkd/module.h>

#include "core/mailbox.h"

struct sqlite3;

/* The SQLite files of the state directory: a connection per thread and file to read with, and one writer thread per file. */
struct db;

struct db_request {
	struct mail mail;
	struct db_request *next;
	struct stk_module *module;
	stk_tx_fn *tx;
	stk_done_fn *done;
	void *arg;
	bool append; /* see stk_db_append() */
	int status; /* 0: on disk; else -errno */
};

#define DB_QUEUE_MAX 65536 /* writes that may wait for a file */

/* DELIVER gets finished writes, linked by next, on the writer's thread. NULL: out of memory. */
struct db *db_new(const char *state_dir, void (*deliver)(struct db_request *list, void *arg), void *arg);
/* This thread's connection to FILE, brought up to date by the migrations of module NAME. NULL: logged. */
struct sqlite3 *db_get(struct db *db, const char *name, const char *file, const char *const *migrations);
/* What a commit to FILE promises; before the file's writer opens it. 0 or -ENOMEM. */
int db_durability(struct db *db, const char *file, enum stk_durability durability);
/* See stk_db_statement(). */
struct sqlite3_stmt *db_statement(struct sqlite3 *handle, const char *sql);
/* Queues a write, which a writer that sleeps does not know of before db_wake(). 0; -EAGAIN: the queue is full; -errno: no writer. The request stays the caller's on error. */
int db_write(struct db *db, const char *file, struct db_request *request);
/* Once for all writes that were queued. */
void db_wake(struct db *db);
/* Waits until everything queued has been delivered. False: the module's part of a write does not end, which is logged; then the process
 * has to end without db_free(). */
bool db_drain(struct db *db);
/* Closes the calling thread's connections. */
void db_thread_fini(struct db *db);
/* Ends the writers, which write what is queued and close their files, but for those that do not end. */
void db_close(struct db *db);
void db_free(struct db **db);

#endif
