/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_DB_WAL_H
#define STK_CORE_DB_WAL_H

#include <stdatomic.h>
#include <stdbool.h>

struct db;
struct sqlite3;

/* The write-ahead logs of the databases: what has been committed there is moved to the files by a thread of their own, which begins when
 * one of the logs is first long. Writers go on meanwhile; they only do what little is left in the end, since a log begins anew only when
 * all of it has been moved. */
struct db_checkpointer;

/* The log of one writer's file. All but what says so is that writer's. */
struct db_wal {
	struct db_wal *next; /* that waits to be moved; the checkpointer's */
	struct db_checkpointer *checkpointer;
	struct sqlite3 *handle; /* the writer's; NULL: not open yet */
	const char *file;
	int frames;       /* pages in it, some more than once */
	int limit;        /* frames at which it is long */
	atomic_int state; /* whose turn it is, see db_wal.c */
};

/* NULL: out of memory. DB is borrowed; the checkpointer's connections are its. */
struct db_checkpointer *db_checkpointer_new(struct db *db);
/* Ends the thread; writers that still work move their logs themselves. */
void db_checkpointer_stop(struct db_checkpointer *checkpointer);
void db_checkpointer_free(struct db_checkpointer **checkpointer);

/* HANDLE and FILE are borrowed until the checkpointer is stopped and the writer has ended. Replaces SQLite's own checkpoints on HANDLE. */
void db_wal_open(struct db_wal *wal, struct db_checkpointer *checkpointer, struct sqlite3 *handle, const char *file);
/* After each commit of the writer, on its thread; outside of transactions. BEHIND: much waits to be written. */
void db_wal_tend(struct db_wal *wal, bool behind);

#endif
