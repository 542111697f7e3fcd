/* SPDX-License-Identifier: MIT */
/* How write-ahead logs are kept short. A commit waits for the disk anyway; what it would wait for besides, when SQLite moves 4,000 pages
 * within it, is what the slowest of the receipts were late by. */

#include "core/db_wal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include <sqlite3.h>

#include "core/crash.h"
#include "core/db.h"
#include "core/log.h"

#define LONG   4000  /* frames: a page that changes again and again is moved once for all of them */
#define LONGER 16000 /* frames, while the writer is behind: it would share the disk */

enum turn {
	NOBODYS, /* the log is short */
	CHECKPOINTERS,
	WRITERS, /* what the checkpointer has left */
};

struct db_checkpointer {
	struct db *db;
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_t thread;
	bool running, stopping;
	struct db_wal *first; /* wait to be moved */
};

/* All that is in the log by now, if no reader needs the file as it was before. How many frames of the log have been moved; < 0: -errno. */
static int checkpoint(struct sqlite3 *handle, int *length)
{
	int moved = 0;
	int rc = sqlite3_wal_checkpoint_v2(handle, "main", SQLITE_CHECKPOINT_PASSIVE, length, &moved);
	return rc == SQLITE_OK ? moved : rc == SQLITE_BUSY ? -EBUSY : rc == SQLITE_FULL ? -ENOSPC : -EIO;
}

/* ---- the checkpointer's thread ---- */

/* Once: a second time would cost the writer's commits more, which wait for the same disk, than the rest costs it. */
static void checkpoint_most(struct db_checkpointer *checkpointer, const struct db_wal *wal)
{
	struct sqlite3 *handle = db_get(checkpointer->db, "", wal->file, NULL);
	int length = 0;
	if (handle) {
		(void)checkpoint(handle, &length);
	}
}

static void *run_checkpointer(void *arg)
{
	struct db_checkpointer *checkpointer = arg;
	crash_thread();
	pthread_mutex_lock(&checkpointer->lock);
	while (!checkpointer->stopping) {
		struct db_wal *wal = checkpointer->first;
		if (!wal) {
			pthread_cond_wait(&checkpointer->work, &checkpointer->lock);
			continue;
		}
		checkpointer->first = wal->next;
		pthread_mutex_unlock(&checkpointer->lock);
		checkpoint_most(checkpointer, wal);
		atomic_store(&wal->state, WRITERS);
		pthread_mutex_lock(&checkpointer->lock);
	}
	pthread_mutex_unlock(&checkpointer->lock);
	db_thread_fini(checkpointer->db);
	return NULL;
}

/* Under the lock. */
static bool start(struct db_checkpointer *checkpointer)
{
	sigset_t all, before;
	if (checkpointer->running || checkpointer->stopping) {
		return checkpointer->running;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	checkpointer->running = pthread_create(&checkpointer->thread, NULL, run_checkpointer, checkpointer) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return checkpointer->running;
}

/* False: there is no thread for it. */
static bool ask(struct db_checkpointer *checkpointer, struct db_wal *wal)
{
	pthread_mutex_lock(&checkpointer->lock);
	bool asked = !checkpointer->stopping && start(checkpointer);
	if (asked) {
		struct db_wal **at = &checkpointer->first;
		while (*at) {
			at = &(*at)->next;
		}
		wal->next = NULL;
		*at = wal;
		pthread_cond_signal(&checkpointer->work);
	}
	pthread_mutex_unlock(&checkpointer->lock);
	return asked;
}

struct db_checkpointer *db_checkpointer_new(struct db *db)
{
	struct db_checkpointer *checkpointer = calloc(1, sizeof(*checkpointer));
	if (!checkpointer) {
		return NULL;
	}
	checkpointer->db = db;
	pthread_mutex_init(&checkpointer->lock, NULL);
	pthread_cond_init(&checkpointer->work, NULL);
	return checkpointer;
}

void db_checkpointer_stop(struct db_checkpointer *checkpointer)
{
	pthread_mutex_lock(&checkpointer->lock);
	bool running = checkpointer->running;
	checkpointer->stopping = true;
	checkpointer->running = false;
	pthread_cond_signal(&checkpointer->work);
	pthread_mutex_unlock(&checkpointer->lock);
	if (running) {
		pthread_join(checkpointer->thread, NULL);
	}
	for (; checkpointer->first; checkpointer->first = checkpointer->first->next) {
		atomic_store(&checkpointer->first->state, WRITERS);
	}
}

void db_checkpointer_free(struct db_checkpointer **checkpointer_ptr)
{
	struct db_checkpointer *checkpointer = *checkpointer_ptr;
	if (!checkpointer) {
		return;
	}
	*checkpointer_ptr = NULL;
	pthread_cond_destroy(&checkpointer->work);
	pthread_mutex_destroy(&checkpointer->lock);
	free(checkpointer);
}

/* ---- the writers' threads ---- */

static int on_commit(void *arg, struct sqlite3 *handle, const char *schema, int frames)
{
	struct db_wal *wal = arg;
	(void)handle;
	(void)schema;
	wal->frames = frames;
	return SQLITE_OK;
}

void db_wal_open(struct db_wal *wal, struct db_checkpointer *checkpointer, struct sqlite3 *handle, const char *file)
{
	wal->checkpointer = checkpointer;
	wal->handle = handle;
	wal->file = file;
	wal->limit = LONG;
	sqlite3_wal_hook(handle, on_commit, wal);
}

/* A log that a reader keeps from beginning anew grows; it is tried again when it has done so. */
static void checkpoint_rest(struct db_wal *wal)
{
	int length = 0, moved = checkpoint(wal->handle, &length);
	if (moved >= 0 && moved == length) {
		wal->limit = LONG;
		wal->frames = 0;
		return;
	}
	if (moved < 0 && moved != -EBUSY) {
		log_write(LOG_WARNING, "db: %s: what is in its write-ahead log cannot be moved to the file: %s; the log grows", wal->file,
		          sqlite3_errmsg(wal->handle));
	}
	wal->limit = wal->frames + LONG;
}

void db_wal_tend(struct db_wal *wal, bool behind)
{
	int turn = atomic_load(&wal->state);
	if (turn == NOBODYS && wal->frames >= wal->limit + (behind ? LONGER - LONG : 0)) {
		turn = CHECKPOINTERS;
		atomic_store(&wal->state, turn);
		turn = ask(wal->checkpointer, wal) ? CHECKPOINTERS : WRITERS;
	}
	if (turn == WRITERS) {
		checkpoint_rest(wal);
		atomic_store(&wal->state, NOBODYS);
	}
}
