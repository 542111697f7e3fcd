/* SPDX-License-Identifier: MIT */
/* The tables of archive.db and every statement on them. Owns what must hold of rows: unique by sender and id, flags
 * that only grow, who may revoke what. Which thread runs it and when is not its business. */

#define HASH_NONFATAL_OOM 1
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>
#include <uthash.h>

#include <startalkd/module.h>

#define CHECKPOINT_MS 100 /* for readers to end */
#define NONE (-1)         /* instead of a time; every -errno of here is below it */
#define STRING_(TOKENS) #TOKENS
#define STRING(MACRO) STRING_(MACRO)
#define NAMES_MAX 65536 /* JIDs that the writer remembers; past that it begins anew */

/* Indexes cost most of an insert, so there are two that every row is in. messages_id is led by the id, so that read marks find a
 * message without knowing its sender; messages_talk serves both directions of a talk and the rows of a recipient. Which rows are
 * unread is in none: read_to says up to when all that a recipient has from a sender is read, and what is behind it is looked at. */
const char *const store_migrations[] = {
	"CREATE TABLE jids (id INTEGER PRIMARY KEY, jid TEXT NOT NULL UNIQUE);"
	"CREATE TABLE types (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
	"INSERT INTO types (id, name) VALUES (6, 'chat'), (7, 'groupchat'), (8, 'normal'), (11, 'note'), (14, 'revoke'),"
	"	(15, 'subscription'), (17, 'headline'), (110, 'webrtc'), (132, 'consult'), (136, 'encrypt'), (140, 'collection');"
	"CREATE TABLE messages ("
	"	seq INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	sender INTEGER NOT NULL, recipient INTEGER NOT NULL,"
	"	id TEXT NOT NULL, time INTEGER NOT NULL,"
	"	flag INTEGER NOT NULL DEFAULT 0 CONSTRAINT flag_is_0_1_or_3 CHECK (flag IN (0, 1, 3)),"
	"	type INTEGER NOT NULL, kind INTEGER, client INTEGER, version INTEGER, resource TEXT,"
	"	body TEXT NOT NULL, more TEXT);"
	"CREATE UNIQUE INDEX messages_id ON messages (id, sender);"
	"CREATE INDEX messages_talk ON messages (recipient, sender, time);"
	"CREATE INDEX messages_unread ON messages (recipient, flag) WHERE flag <> 3;"
	"CREATE TABLE revoked ("
	"	seq INTEGER PRIMARY KEY, at INTEGER NOT NULL,"
	"	type INTEGER NOT NULL, kind INTEGER, client INTEGER, version INTEGER, resource TEXT,"
	"	body TEXT NOT NULL, more TEXT);"
	"CREATE TRIGGER messages_deleted AFTER DELETE ON messages BEGIN"
	"	DELETE FROM revoked WHERE seq = OLD.seq;"
	"END;"
	"CREATE VIEW history AS SELECT m.seq, strftime('%Y-%m-%d %H:%M:%f', m.time / 1000.0, 'unixepoch', 'localtime') AS at,"
	"	s.jid AS sender, r.jid AS recipient, t.name AS type,"
	"	CASE m.flag WHEN 0 THEN 'undelivered' WHEN 1 THEN 'delivered' ELSE 'read' END AS state, m.id, m.kind, m.body"
	"	FROM messages AS m JOIN jids AS s ON s.id = m.sender JOIN jids AS r ON r.id = m.recipient"
	"	LEFT JOIN types AS t ON t.id = m.type;",
	"DROP INDEX messages_unread;"
	"CREATE INDEX messages_undelivered ON messages (recipient) WHERE flag = 0;"
	"CREATE TABLE read_to ("
	"	recipient INTEGER NOT NULL, sender INTEGER NOT NULL, time INTEGER NOT NULL,"
	"	PRIMARY KEY (recipient, sender)) WITHOUT ROWID;",
	NULL,
};

/* ---- statements ---- */

static int error_of(struct sqlite3 *db)
{
	switch (sqlite3_errcode(db) & 0xff) {
	case SQLITE_BUSY: return -EBUSY;
	case SQLITE_FULL: return -ENOSPC;
	case SQLITE_READONLY: return -EROFS;
	case SQLITE_NOMEM: return -ENOMEM;
	default: return -EIO;
	}
}

/* Runs a statement that returns no rows. NULL: it could not be had. */
static int run(struct sqlite3 *db, sqlite3_stmt *stmt)
{
	if (!stmt) {
		return -EIO;
	}
	int rc = sqlite3_step(stmt) == SQLITE_DONE ? 0 : error_of(db);
	sqlite3_reset(stmt);
	return rc;
}

/* The number in the only column of the first row; OTHERWISE when there is no row or it is NULL; -errno. */
static int64_t get_number(struct sqlite3 *db, sqlite3_stmt *stmt, int64_t otherwise)
{
	if (!stmt) {
		return -EIO;
	}
	int step = sqlite3_step(stmt);
	int64_t number = otherwise;
	if (step == SQLITE_ROW && sqlite3_column_type(stmt, 0) == SQLITE_INTEGER) {
		number = sqlite3_column_int64(stmt, 0);
	} else if (step != SQLITE_ROW && step != SQLITE_DONE) {
		number = error_of(db);
	}
	sqlite3_reset(stmt);
	return number;
}

static void bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
	sqlite3_bind_text(stmt, i, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

static void bind_number(sqlite3_stmt *stmt, int i, int64_t number)
{
	if (number == RECORD_NONE) {
		sqlite3_bind_null(stmt, i);
	} else {
		sqlite3_bind_int64(stmt, i, number);
	}
}

/* ---- JIDs ---- */

struct name {
	UT_hash_handle hh;
	int64_t id;
	char jid[];
};

struct store {
	struct name *names;
	size_t count;
	int64_t newest; /* no time in read_to is behind it */
	bool looked;    /* that is known */
	bool stale;     /* the transaction in which some of the names were added was rolled back */
};

struct store *store_new(void)
{
	return calloc(1, sizeof(struct store));
}

static void forget_all(struct store *store)
{
	struct name *name, *next;
	HASH_ITER(hh, store->names, name, next)
	{
		HASH_DEL(store->names, name);
		free(name);
	}
	store->count = 0;
	store->stale = false;
}

void store_free(struct store **store)
{
	if (*store) {
		forget_all(*store);
	}
	free(*store);
	*store = NULL;
}

static void on_rollback(void *arg)
{
	((struct store *)arg)->stale = true;
}

void store_begin(struct store *store, struct sqlite3 *db)
{
	void *before = sqlite3_rollback_hook(db, on_rollback, store);
	if (store->stale || before != store || store->count > NAMES_MAX) { /* somebody else was told meanwhile */
		forget_all(store);
	}
}

/* Without memory it is looked up again the next time. */
static void remember(struct store *store, const char *bare, int64_t id)
{
	size_t len = strlen(bare);
	struct name *name = malloc(sizeof(*name) + len + 1);
	if (!name) {
		return;
	}
	*name = (struct name){ .id = id };
	memcpy(name->jid, bare, len + 1);
	HASH_ADD_KEYPTR(hh, store->names, name->jid, len, name);
	if (!name->hh.tbl) {
		free(name);
		return;
	}
	store->count++;
}

int64_t store_find_jid(struct sqlite3 *db, const char *bare)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "SELECT id FROM jids WHERE jid = ?1");
	bind_text(stmt, 1, bare);
	return get_number(db, stmt, 0);
}

int64_t store_jid(struct store *store, struct sqlite3 *db, const char *bare, bool add)
{
	struct name *name = NULL;
	HASH_FIND_STR(store->names, bare, name);
	if (name) {
		return name->id;
	}
	int64_t id = store_find_jid(db, bare);
	if (id == 0 && add) {
		sqlite3_stmt *stmt = stk_db_statement(db, "INSERT INTO jids (jid) VALUES (?1)");
		bind_text(stmt, 1, bare);
		int rc = run(db, stmt);
		id = rc < 0 ? rc : sqlite3_last_insert_rowid(db);
	}
	if (id > 0) {
		remember(store, bare, id);
	}
	return id;
}

/* ---- messages in ---- */

static int insert(struct sqlite3 *db, const struct record *record, int64_t sender, int64_t recipient)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db,
		"INSERT INTO messages (sender, recipient, id, time, type, kind, client, version, resource, body, more) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id, sender) DO NOTHING");
	sqlite3_bind_int64(stmt, 1, sender);
	sqlite3_bind_int64(stmt, 2, recipient);
	bind_text(stmt, 3, record->id);
	sqlite3_bind_int64(stmt, 4, record->time);
	sqlite3_bind_int(stmt, 5, record->type);
	bind_number(stmt, 6, record->kind);
	bind_number(stmt, 7, record->client);
	bind_number(stmt, 8, record->version);
	bind_text(stmt, 9, record->resource);
	bind_text(stmt, 10, record->body);
	bind_text(stmt, 11, record->more);
	return run(db, stmt);
}

/* Is what is there under RECORD's sender and id the same message? Of a revoked one the original counts. */
static int compare(struct sqlite3 *db, const struct record *record, int64_t sender, int64_t recipient, int64_t *time)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db,
		"SELECT m.time, m.recipient = ?3 AND coalesce(r.body, m.body) = ?4 FROM messages AS m LEFT JOIN revoked AS r USING (seq) "
		"WHERE m.id = ?1 AND m.sender = ?2");
	bind_text(stmt, 1, record->id);
	sqlite3_bind_int64(stmt, 2, sender);
	sqlite3_bind_int64(stmt, 3, recipient);
	bind_text(stmt, 4, record->body);
	if (!stmt || sqlite3_step(stmt) != SQLITE_ROW) {
		sqlite3_reset(stmt);
		return -EIO;
	}
	*time = sqlite3_column_int64(stmt, 0);
	int rc = sqlite3_column_int(stmt, 1) ? 0 : -EEXIST;
	sqlite3_reset(stmt);
	return rc;
}

/* Before a row of that time comes, which nobody has read: the clock was set back, or the mark came in the same millisecond. What is read
 * already and then no longer below read_to is looked at once more, no harm is done if the row does not come. */
static int lower_read_to(struct store *store, struct sqlite3 *db, int64_t recipient, int64_t sender, int64_t time)
{
	if (!store->looked) {
		int64_t newest = get_number(db, stk_db_statement(db, "SELECT max(time) FROM read_to"), NONE);
		if (newest < NONE) {
			return (int)newest;
		}
		store->newest = newest > store->newest ? newest : store->newest;
		store->looked = true;
	}
	if (time > store->newest) {
		return 0;
	}
	sqlite3_stmt *stmt = stk_db_statement(db, "UPDATE read_to SET time = ?3 - 1 WHERE recipient = ?1 AND sender = ?2 AND time >= ?3");
	sqlite3_bind_int64(stmt, 1, recipient);
	sqlite3_bind_int64(stmt, 2, sender);
	sqlite3_bind_int64(stmt, 3, time);
	return run(db, stmt);
}

int store_insert(struct store *store, struct sqlite3 *db, const struct record *record, uint64_t *row, int64_t *time)
{
	int64_t sender = store_jid(store, db, record->sender, true);
	int64_t recipient = sender < 0 ? sender : store_jid(store, db, record->recipient, true);
	int rc = recipient < 0 ? (int)recipient : lower_read_to(store, db, recipient, sender, record->time);
	rc = rc < 0 ? rc : insert(db, record, sender, recipient);
	*row = 0;
	if (rc < 0) {
		return rc;
	}
	if (sqlite3_changes(db) == 0) {
		return compare(db, record, sender, recipient, time);
	}
	*row = (uint64_t)sqlite3_last_insert_rowid(db);
	*time = record->time;
	return 0;
}

/* ---- flags ---- */

static int raise_row(struct sqlite3 *db, uint64_t seq, enum store_flag flag)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "UPDATE messages SET flag = ?2 WHERE seq = ?1 AND flag < ?2");
	sqlite3_bind_int64(stmt, 1, (int64_t)seq);
	sqlite3_bind_int(stmt, 2, flag);
	return run(db, stmt);
}

int store_confirm(struct sqlite3 *db, const uint64_t *rows, size_t count)
{
	int rc = 0;
	for (size_t i = 0; i < count && rc == 0; i++) {
		rc = raise_row(db, rows[i], STORE_DELIVERED);
	}
	return rc;
}

int store_mark(struct sqlite3 *db, int64_t recipient, const char *id, enum store_flag flag)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "UPDATE messages INDEXED BY messages_id SET flag = ?3 "
						  "WHERE id = ?1 AND recipient = ?2 AND flag < ?3");
	bind_text(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, recipient);
	sqlite3_bind_int(stmt, 3, flag);
	return run(db, stmt);
}

/* ---- all up to a time ---- */

#define TALKS_STEP 100 /* talks that a step looks at, when they hold little */

static void bind_talk(sqlite3_stmt *stmt, const struct store_sweep *sweep, int64_t after, int64_t until)
{
	sqlite3_bind_int64(stmt, 1, sweep->recipient);
	sqlite3_bind_int64(stmt, 2, sweep->talk);
	sqlite3_bind_int64(stmt, 3, after);
	sqlite3_bind_int64(stmt, 4, until);
}

/* The time of one of the talk's rows between two times. */
#define TIME_OF(ORDER, OFFSET)                                                                                       \
	"SELECT time FROM messages INDEXED BY messages_talk WHERE recipient = ?1 AND sender = ?2 AND time > ?3 " \
	"AND time <= ?4 ORDER BY time " ORDER " LIMIT 1 OFFSET " OFFSET

static int64_t get_time(struct sqlite3 *db, const char *sql, const struct store_sweep *sweep, int64_t after)
{
	sqlite3_stmt *stmt = stk_db_statement(db, sql);
	bind_talk(stmt, sweep, after, sweep->time);
	return get_number(db, stmt, NONE);
}

static int64_t get_read_to(struct sqlite3 *db, const struct store_sweep *sweep)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "SELECT time FROM read_to WHERE recipient = ?1 AND sender = ?2");
	sqlite3_bind_int64(stmt, 1, sweep->recipient);
	sqlite3_bind_int64(stmt, 2, sweep->talk);
	return get_number(db, stmt, NONE);
}

static int raise_talk(struct store *store, struct sqlite3 *db, const struct store_sweep *sweep, int64_t after, int64_t until)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "UPDATE messages INDEXED BY messages_talk SET flag = 3 WHERE recipient = ?1 "
						  "AND sender = ?2 AND time > ?3 AND time <= ?4 AND flag < 3");
	bind_talk(stmt, sweep, after, until);
	int rc = run(db, stmt);
	if (rc < 0) {
		return rc;
	}
	stmt = stk_db_statement(db, "INSERT OR REPLACE INTO read_to (recipient, sender, time) VALUES (?1, ?2, ?3)");
	sqlite3_bind_int64(stmt, 1, sweep->recipient);
	sqlite3_bind_int64(stmt, 2, sweep->talk);
	sqlite3_bind_int64(stmt, 3, until);
	store->newest = until > store->newest ? until : store->newest;
	return run(db, stmt);
}

/* A step ends where the time changes: the next one begins behind read_to. 1: there is more; 0: done; -errno. */
static int sweep_talk(struct store *store, struct sqlite3 *db, const struct store_sweep *sweep)
{
	int64_t after = get_read_to(db, sweep);
	if (after < NONE) {
		return (int)after;
	}
	int64_t until = get_time(db, TIME_OF("", STRING(STORE_STEP)), sweep, after);
	int more = until != NONE;
	if (!more) {
		until = get_time(db, TIME_OF("DESC", "0"), sweep, after);
	}
	if (until == NONE) {
		return 0;
	}
	int rc = until < 0 ? (int)until : raise_talk(store, db, sweep, after, until);
	return rc < 0 ? rc : more;
}

static int64_t next_sender(struct sqlite3 *db, const struct store_sweep *sweep)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db, "SELECT min(sender) FROM messages INDEXED BY messages_talk WHERE recipient = ?1 AND sender > ?2");
	sqlite3_bind_int64(stmt, 1, sweep->recipient);
	sqlite3_bind_int64(stmt, 2, sweep->talk);
	return get_number(db, stmt, 0);
}

int store_sweep(struct store *store, struct sqlite3 *db, struct store_sweep *sweep)
{
	for (int i = 0; i < TALKS_STEP; i++) {
		if (!sweep->unfinished) {
			int64_t sender = !sweep->sender ? next_sender(db, sweep) : sweep->talk ? 0 : sweep->sender;
			if (sender <= 0) {
				return (int)sender;
			}
			sweep->talk = sender;
		}
		int rc = sweep_talk(store, db, sweep);
		sweep->unfinished = rc > 0;
		if (rc != 0) {
			return rc;
		}
	}
	return 1;
}

/* ---- revoking ---- */

/* The row of an id; 0: none; -errno. */
static int64_t find_row(struct sqlite3 *db, int64_t sender, const char *id)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "SELECT seq FROM messages WHERE id = ?1 AND sender = ?2");
	bind_text(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, sender);
	return get_number(db, stmt, 0);
}

static int replace(struct sqlite3 *db, int64_t seq, const struct record *notice, int64_t now)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db, "INSERT INTO revoked (seq, at, type, kind, client, version, resource, body, more) "
		    "SELECT seq, ?2, type, kind, client, version, resource, body, more FROM messages WHERE seq = ?1");
	sqlite3_bind_int64(stmt, 1, seq);
	sqlite3_bind_int64(stmt, 2, now);
	int rc = run(db, stmt);
	if (rc < 0) {
		return rc;
	}
	stmt = stk_db_statement(
		db, "UPDATE messages SET type = ?2, kind = ?3, client = ?4, version = ?5, resource = ?6, body = ?7, "
		    "more = ?8 WHERE seq = ?1");
	sqlite3_bind_int64(stmt, 1, seq);
	sqlite3_bind_int(stmt, 2, notice->type);
	bind_number(stmt, 3, notice->kind);
	bind_number(stmt, 4, notice->client);
	bind_number(stmt, 5, notice->version);
	bind_text(stmt, 6, notice->resource);
	bind_text(stmt, 7, notice->body);
	bind_text(stmt, 8, notice->more);
	return run(db, stmt);
}

/* Somebody else's message, or nobody's? */
static int refuse(struct store *store, struct sqlite3 *db, const char *id, const char *const *partners)
{
	for (; *partners; partners++) {
		int64_t other = store_jid(store, db, *partners, false);
		int64_t seq = other > 0 ? find_row(db, other, id) : other;
		if (seq != 0) {
			return seq < 0 ? (int)seq : -EACCES;
		}
	}
	return -ENOENT;
}

int store_revoke(struct store *store, struct sqlite3 *db, const struct record *notice, const char *id, int64_t oldest,
		 int64_t now, const char *const *partners)
{
	int64_t sender = store_jid(store, db, notice->sender, false);
	int64_t recipient = sender < 0 ? sender : store_jid(store, db, notice->recipient, false);
	int64_t seq = recipient < 0 ? recipient : find_row(db, sender, id);
	if (seq <= 0) {
		return seq < 0 ? (int)seq : refuse(store, db, id, partners);
	}
	sqlite3_stmt *stmt = stk_db_statement(db, "SELECT time, recipient, type FROM messages WHERE seq = ?1");
	sqlite3_bind_int64(stmt, 1, seq);
	if (!stmt || sqlite3_step(stmt) != SQLITE_ROW) {
		sqlite3_reset(stmt);
		return error_of(db);
	}
	int64_t time = sqlite3_column_int64(stmt, 0);
	bool theirs = sqlite3_column_int64(stmt, 1) == recipient,
	     revoked = sqlite3_column_int(stmt, 2) == RECORD_REVOKE;
	sqlite3_reset(stmt);
	if (!theirs) {
		return -ENOENT;
	}
	if (revoked || time < oldest) {
		return revoked ? 0 : -EACCES;
	}
	return replace(db, seq, notice, now);
}

/* ---- keeping it small ---- */

static int run_delete(struct sqlite3 *db, sqlite3_stmt *stmt)
{
	int rc = run(db, stmt);
	return rc < 0 ? rc : sqlite3_changes(db);
}

int store_expire(struct sqlite3 *db, int64_t time)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db, "DELETE FROM messages WHERE seq IN "
		    "(SELECT seq FROM (SELECT seq, time FROM messages ORDER BY seq LIMIT ?2) WHERE time < ?1)");
	sqlite3_bind_int64(stmt, 1, time);
	sqlite3_bind_int(stmt, 2, STORE_STEP);
	return run_delete(db, stmt);
}

int store_trim(struct sqlite3 *db, int64_t recipient, uint64_t last)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db, "DELETE FROM messages WHERE seq IN "
		    "(SELECT seq FROM messages INDEXED BY messages_talk WHERE recipient = ?1 AND seq <= ?2 LIMIT ?3)");
	sqlite3_bind_int64(stmt, 1, recipient);
	sqlite3_bind_int64(stmt, 2, (int64_t)last);
	sqlite3_bind_int(stmt, 3, STORE_STEP);
	return run_delete(db, stmt);
}

int store_shrink(struct sqlite3 *db)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "PRAGMA incremental_vacuum(256)");
	int step = SQLITE_ERROR, pages = 0;
	while (stmt && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		pages++;
	}
	int rc = step == SQLITE_DONE ? pages : error_of(db);
	sqlite3_reset(stmt);
	return rc;
}

/* First what can be done beside writers, then the rest in a moment without one. The latter keeps writers waiting for as long as
 * it waits for readers itself, and a backup reads for long. */
int store_checkpoint(struct sqlite3 *db)
{
	int64_t patience = get_number(db, stk_db_statement(db, "PRAGMA busy_timeout"), 0);
	int64_t rc = get_number(db, stk_db_statement(db, "PRAGMA wal_checkpoint(PASSIVE)"), 0);
	sqlite3_busy_timeout(db, CHECKPOINT_MS);
	rc = rc < 0 ? rc : get_number(db, stk_db_statement(db, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
	sqlite3_busy_timeout(db, (int)patience);
	return rc < 0 ? (int)rc : 0;
}

/* ---- messages out ---- */

#define COLUMNS \
	"s.jid, r.jid, m.resource, m.id, m.body, m.more, m.time, m.type, m.kind, m.client, m.version, m.seq, m.flag"
#define NAMED "CROSS JOIN jids AS s ON s.id = m.sender CROSS JOIN jids AS r ON r.id = m.recipient"

static int64_t column_number(sqlite3_stmt *stmt, int i)
{
	return sqlite3_column_type(stmt, i) == SQLITE_NULL ? RECORD_NONE : sqlite3_column_int64(stmt, i);
}

static const char *column_text(sqlite3_stmt *stmt, int i)
{
	return (const char *)sqlite3_column_text(stmt, i);
}

/* Calls FN for each row of STMT until it returns false. */
static int each_row(struct sqlite3 *db, sqlite3_stmt *stmt, row_fn *fn, void *arg)
{
	struct row row = { 0 };
	int step = SQLITE_ERROR;
	bool more = true;
	while (more && stmt && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		row.record.sender = column_text(stmt, 0);
		row.record.recipient = column_text(stmt, 1);
		row.record.resource = column_text(stmt, 2);
		row.record.id = column_text(stmt, 3);
		row.record.body = column_text(stmt, 4);
		row.record.more = (char *)(uintptr_t)column_text(stmt, 5);
		row.record.time = sqlite3_column_int64(stmt, 6);
		row.record.type = sqlite3_column_int(stmt, 7);
		row.record.kind = column_number(stmt, 8);
		row.record.client = column_number(stmt, 9);
		row.record.version = column_number(stmt, 10);
		row.seq = (uint64_t)sqlite3_column_int64(stmt, 11);
		row.flag = sqlite3_column_int(stmt, 12);
		more = fn(&row, arg);
	}
	int rc = !more || step == SQLITE_DONE ? 0 : stmt ? error_of(db) : -EIO;
	sqlite3_reset(stmt);
	return rc;
}

int store_each_recipient(struct sqlite3 *db, bool (*fn)(const char *bare, void *arg), void *arg)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db, "SELECT jid FROM jids WHERE id IN (SELECT recipient FROM messages INDEXED BY messages_undelivered WHERE flag = 0)");
	int step = SQLITE_ERROR;
	bool more = true;
	while (stmt && more && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		more = fn((const char *)sqlite3_column_text(stmt, 0), arg);
	}
	int rc = !more || step == SQLITE_DONE ? 0 : stmt ? error_of(db) : -EIO;
	sqlite3_reset(stmt);
	return rc;
}

int store_each_undelivered(struct sqlite3 *db, int64_t recipient, uint64_t after, uint64_t last, row_fn *fn, void *arg)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db,
		"SELECT " COLUMNS " FROM messages AS m INDEXED BY messages_undelivered " NAMED
		" WHERE m.recipient = ?1 AND m.flag = 0 AND m.seq > ?2 AND m.seq <= ?3 ORDER BY m.seq");
	sqlite3_bind_int64(stmt, 1, recipient);
	sqlite3_bind_int64(stmt, 2, (int64_t)after);
	sqlite3_bind_int64(stmt, 3, (int64_t)last);
	return each_row(db, stmt, fn, arg);
}

int64_t store_skip_undelivered(struct sqlite3 *db, int64_t recipient, uint64_t last, int64_t most)
{
	sqlite3_stmt *stmt = stk_db_statement(
		db,
		"SELECT seq FROM messages INDEXED BY messages_undelivered WHERE recipient = ?1 AND flag = 0 "
		"AND seq BETWEEN 1 AND ?2 "
		"ORDER BY seq DESC LIMIT 1 OFFSET ?3");
	sqlite3_bind_int64(stmt, 1, recipient);
	sqlite3_bind_int64(stmt, 2, (int64_t)last);
	sqlite3_bind_int64(stmt, 3, most);
	return get_number(db, stmt, 0);
}

int store_row(struct sqlite3 *db, uint64_t seq, row_fn *fn, void *arg)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "SELECT " COLUMNS " FROM messages AS m " NAMED " WHERE m.seq = ?1");
	sqlite3_bind_int64(stmt, 1, (int64_t)seq);
	return each_row(db, stmt, fn, arg);
}

#define ONE_WAY(TO, FROM, ORDER)                                                                      \
	"SELECT * FROM messages INDEXED BY messages_talk WHERE recipient = " TO " AND sender = " FROM \
	" AND time BETWEEN ?3 AND ?5 AND (time, seq) > (?3, ?4) AND (time, seq) < (?5, ?6)"           \
	" ORDER BY time " ORDER ", seq " ORDER " LIMIT ?7"
#define TALK(ORDER)                                                                                             \
	"SELECT " COLUMNS " FROM (SELECT * FROM (" ONE_WAY(                                                     \
		"?1", "?2", ORDER) ") UNION ALL "                                                               \
				   "SELECT * FROM (" ONE_WAY("?2", "?1", ORDER) ") WHERE ?1 <> ?2) AS m " NAMED \
										" ORDER BY m.time " ORDER       \
										", m.seq " ORDER " LIMIT ?7"

int store_each_of_talk(struct sqlite3 *db, const struct store_talk *talk, row_fn *fn, void *arg)
{
	static const char newest[] = TALK("DESC"), oldest[] = TALK("ASC");
	sqlite3_stmt *stmt = stk_db_statement(db, talk->newest_first ? newest : oldest);
	sqlite3_bind_int64(stmt, 1, talk->user);
	sqlite3_bind_int64(stmt, 2, talk->partner);
	sqlite3_bind_int64(stmt, 3, talk->from.time);
	sqlite3_bind_int64(stmt, 4, talk->from.seq);
	sqlite3_bind_int64(stmt, 5, talk->to.time);
	sqlite3_bind_int64(stmt, 6, talk->to.seq);
	sqlite3_bind_int(stmt, 7, talk->most);
	return each_row(db, stmt, fn, arg);
}

int64_t store_next_jid(struct sqlite3 *db, int64_t after)
{
	sqlite3_stmt *stmt = stk_db_statement(db, "SELECT id FROM jids WHERE id > ?1 ORDER BY id LIMIT 1");
	sqlite3_bind_int64(stmt, 1, after);
	return get_number(db, stmt, 0);
}

int64_t store_excess(struct sqlite3 *db, int64_t recipient, int64_t keep)
{
	sqlite3_stmt *stmt =
		stk_db_statement(db, "SELECT count(*) FROM messages INDEXED BY messages_talk WHERE recipient = ?1");
	sqlite3_bind_int64(stmt, 1, recipient);
	int64_t count = get_number(db, stmt, 0);
	if (count <= keep) {
		return count < 0 ? count : 0;
	}
	stmt = stk_db_statement(
		db,
		"SELECT seq FROM messages INDEXED BY messages_talk WHERE recipient = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2");
	sqlite3_bind_int64(stmt, 1, recipient);
	sqlite3_bind_int64(stmt, 2, keep);
	return get_number(db, stmt, 0);
}

int store_status(struct sqlite3 *db, struct store_status *status)
{
	int64_t page = get_number(db, stk_db_statement(db, "PRAGMA page_size"), 0);
	status->rows = get_number(db, stk_db_statement(db, "SELECT count(*) FROM messages"), 0);
	status->undelivered = get_number(
		db,
		stk_db_statement(db, "SELECT count(*) FROM messages INDEXED BY messages_undelivered WHERE flag = 0"),
		0);
	status->revoked = get_number(db, stk_db_statement(db, "SELECT count(*) FROM revoked"), 0);
	status->jids = get_number(db, stk_db_statement(db, "SELECT count(*) FROM jids"), 0);
	status->bytes = get_number(db, stk_db_statement(db, "PRAGMA page_count"), 0) * page;
	status->free_bytes = get_number(db, stk_db_statement(db, "PRAGMA freelist_count"), 0) * page;
	return status->rows < 0 || status->undelivered < 0 || status->revoked < 0 || status->jids < 0 ||
			       status->bytes < 0 || status->free_bytes < 0
		       ? -EIO
		       : 0;
}
