/* SPDX-License-Identifier: MIT */
#ifndef ARCHIVE_STORE_H
#define ARCHIVE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record.h"

struct sqlite3;

/* The tables of archive.db: all of the module's SQL, and nothing but that. */

extern const char *const store_migrations[];

enum store_flag { STORE_UNDELIVERED = 0, STORE_DELIVERED = 1, STORE_READ = 3 };

/* ---- writing: inside the writer's transactions only ---- */

/* What the writer remembers between transactions: the numbers of JIDs. */
struct store;

struct store *store_new(void);
void store_free(struct store **store);

/* Every write begins with it: what was learnt from a transaction that was rolled back is forgotten. */
void store_begin(struct store *store, struct sqlite3 *db);

/* The number of a folded bare JID: above 0; 0: unknown and not to be added; -errno. It is not told of a savepoint that
 * is rolled back: only what stands in none may add. */
int64_t store_jid(struct store *store, struct sqlite3 *db, const char *bare, bool add);

/* Adds RECORD; *ROW is its number and *TIME its time. When this sender and id are there with the same recipient and
 * body: 0, *ROW 0 and *TIME of the row. -EEXIST: with others; -errno. */
int store_insert(struct store *store, struct sqlite3 *db, const struct record *record, uint64_t *row, int64_t *time);

/* Flags only grow. Rows that are gone, or have the flag or a higher one already, are no error. */
int store_confirm(struct sqlite3 *db, const uint64_t *rows, size_t count);
int store_mark(struct sqlite3 *db, int64_t recipient, const char *id, enum store_flag flag);

/* A step of marking as read what RECIPIENT has from SENDER (0: anybody) up to TIME. */
struct store_sweep {
	int64_t recipient, sender, time;
	int64_t talk;    /* whose rows the last step looked at; begin with 0 */
	bool unfinished; /* it has more of them; begin with false */
};
/* 1: call again in another write; 0: done; -errno. */
int store_sweep(struct store *store, struct sqlite3 *db, struct store_sweep *sweep);

/* Puts NOTICE in the place of the message ID of its sender, which goes to the table revoked. PARTNERS are others who
 * may have written ID (NULL-terminated, folded bare JIDs). 0, also when it was revoked before; -EACCES: somebody
 * else's, or older than OLDEST; -ENOENT: unknown between these two. */
int store_revoke(struct store *store, struct sqlite3 *db, const struct record *notice, const char *id, int64_t oldest,
		 int64_t now, const char *const *partners);

/* ---- keeping it small: in steps of STORE_STEP rows ---- */

#define STORE_STEP 500

/* Deletes some of the oldest rows that are older than TIME, or of RECIPIENT's up to row LAST. How many, or -errno. */
int store_expire(struct sqlite3 *db, int64_t time);
int store_trim(struct sqlite3 *db, int64_t recipient, uint64_t last);
/* Gives some free pages back to the file system. How many, or -errno. */
int store_shrink(struct sqlite3 *db);
/* Moves what is in the log into the file, where nobody is in the way; outside of transactions. 0 or -errno. */
int store_checkpoint(struct sqlite3 *db);

/* ---- reading: from any connection ---- */

struct row {
	struct record record; /* addresses unused, more not to be freed */
	uint64_t seq;
	int flag;
};
typedef bool row_fn(const struct row *row, void *arg); /* false: stop */

/* As store_jid() without adding. */
int64_t store_find_jid(struct sqlite3 *db, const char *bare);
/* Those who have undelivered rows, until FN returns false; JIDs are borrowed. 0 or -errno. */
int store_each_recipient(struct sqlite3 *db, bool (*fn)(const char *bare, void *arg), void *arg);
/* RECIPIENT's undelivered rows behind AFTER up to LAST, oldest first. 0 or -errno. */
int store_each_undelivered(struct sqlite3 *db, int64_t recipient, uint64_t after, uint64_t last, row_fn *fn, void *arg);
/* The row behind which the newest MOST of these begin, 0: there are no more than that; or -errno. */
int64_t store_skip_undelivered(struct sqlite3 *db, int64_t recipient, uint64_t last, int64_t most);
/* That row, if it is there. 0 or -errno. */
int store_row(struct sqlite3 *db, uint64_t seq, row_fn *fn, void *arg);

/* Rows between two users in the order of time and seq, strictly between two such points. */
struct store_point {
	int64_t time;
	int64_t seq;
};
struct store_talk {
	int64_t user, partner;
	struct store_point from, to;
	bool newest_first;
	int most;
};
int store_each_of_talk(struct sqlite3 *db, const struct store_talk *talk, row_fn *fn, void *arg);

/* The next JID number behind AFTER; 0: none; -errno. */
int64_t store_next_jid(struct sqlite3 *db, int64_t after);
/* The last of RECIPIENT's rows that are more than KEEP; 0: none; -errno. */
int64_t store_excess(struct sqlite3 *db, int64_t recipient, int64_t keep);

struct store_status {
	int64_t rows, undelivered, revoked, jids, bytes, free_bytes;
};
int store_status(struct sqlite3 *db, struct store_status *status);

#endif
