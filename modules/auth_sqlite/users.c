/* SPDX-License-Identifier: MIT */
/* The tables of auth_sqlite: their SQL, looking up an account, and what has changed. Operators edit these tables with the
 * sqlite3 command, so constraints and triggers use nothing that the plain command lacks. */

#include "users.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>
#include <unistr.h>

#include <startalkd/jid.h>

#define CHECKPOINT_MS 100 /* for readers to end */
#define NOW_MS "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
#define DEFAULT_DOMAIN "(SELECT value FROM settings WHERE key = 'default-domain')"

/* The column folded is what names are compared by: ASCII is folded here, the rest by the server when it sees the row. It is
 * NULL only until the insert's trigger has run. */
const char *const users_migrations[] = {
	"CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE users ("
	"	username TEXT NOT NULL CONSTRAINT username_is_text CHECK (typeof(username) = 'text')"
	"		CONSTRAINT username_has_1_to_1023_bytes CHECK (length(CAST(username AS BLOB)) BETWEEN 1 AND 1023)"
	"		CONSTRAINT username_without_at_slash_space CHECK (username NOT GLOB '*[@/ ]*')"
	"		CONSTRAINT username_without_control_characters CHECK (username NOT GLOB '*[' || char(1, 45, 31) || ']*'"
	"			AND instr(username, char(127)) = 0 AND instr(CAST(username AS BLOB), x'00') = 0),"
	"	domain TEXT NOT NULL DEFAULT '',"
	"	password TEXT,"
	"	enabled INTEGER NOT NULL DEFAULT 1 CONSTRAINT enabled_is_0_or_1 CHECK (enabled IN (0, 1)),"
	"	pwd_salt TEXT,"
	"	folded TEXT);"
	"CREATE UNIQUE INDEX users_name ON users (folded, domain);"
	"CREATE TABLE users_changed (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, user INTEGER NOT NULL,"
	"	username TEXT NOT NULL, domain TEXT NOT NULL, what TEXT NOT NULL);"
	"CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN"
	"	UPDATE users SET folded = lower(NEW.username),"
	"		domain = lower(CASE NEW.domain WHEN '' THEN " DEFAULT_DOMAIN " ELSE NEW.domain END) WHERE rowid = NEW.rowid;"
	"	INSERT INTO users_changed (at, user, username, domain, what)"
	"		SELECT " NOW_MS ", rowid, username, domain, 'new' FROM users WHERE rowid = NEW.rowid;"
	"END;"
	"CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN"
	"	INSERT INTO users_changed (at, user, username, domain, what)"
	"		VALUES (" NOW_MS ", OLD.rowid, OLD.username, OLD.domain, 'deleted');"
	"END;"
	"CREATE TRIGGER users_renamed AFTER UPDATE OF username, domain ON users"
	"	WHEN OLD.folded IS NOT NULL AND (OLD.username IS NOT NEW.username OR OLD.domain IS NOT NEW.domain) BEGIN"
	"	UPDATE users SET folded = lower(NEW.username) WHERE rowid = NEW.rowid;"
	"	INSERT INTO users_changed (at, user, username, domain, what)"
	"		VALUES (" NOW_MS ", OLD.rowid, OLD.username, OLD.domain, 'deleted'),"
	"		(" NOW_MS ", NEW.rowid, NEW.username, NEW.domain, 'new');"
	"END;"
	"CREATE TRIGGER users_disabled AFTER UPDATE OF enabled ON users WHEN OLD.enabled AND NOT NEW.enabled BEGIN"
	"	INSERT INTO users_changed (at, user, username, domain, what)"
	"		VALUES (" NOW_MS ", NEW.rowid, NEW.username, NEW.domain, 'disabled');"
	"END;"
	"CREATE TRIGGER users_password AFTER UPDATE OF password, pwd_salt ON users"
	"	WHEN OLD.password IS NOT NEW.password OR OLD.pwd_salt IS NOT NEW.pwd_salt BEGIN"
	"	INSERT INTO users_changed (at, user, username, domain, what)"
	"		VALUES (" NOW_MS ", NEW.rowid, NEW.username, NEW.domain, 'password');"
	"END;",
	NULL,
};

static sqlite3_stmt *prepare(struct sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	return sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK ? stmt : NULL;
}

/* Runs STMT, which returns no rows, and frees it. */
static int finish(struct sqlite3 *db, sqlite3_stmt *stmt)
{
	int rc = stmt ? sqlite3_step(stmt) : SQLITE_ERROR;
	int code = stmt ? rc : sqlite3_errcode(db);
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 :
	       (code & 0xff) == SQLITE_CONSTRAINT ? -EEXIST : (code & 0xff) == SQLITE_FULL ? -ENOSPC : -EIO;
}

static char *column(sqlite3_stmt *stmt, int i)
{
	const char *text = (const char *)sqlite3_column_text(stmt, i);
	return text ? strdup(text) : NULL;
}

int users_find(struct sqlite3 *db, const char *folded, const char *domain, struct user *user)
{
	*user = (struct user){ 0 };
	sqlite3_stmt *stmt = prepare(db, "SELECT username, password, pwd_salt, enabled FROM users WHERE folded = ?1 AND domain = ?2");
	if (!stmt) {
		return -EIO;
	}
	sqlite3_bind_text(stmt, 1, folded, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 2, domain, -1, SQLITE_STATIC);
	int rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		user->username = column(stmt, 0);
		user->password = column(stmt, 1);
		user->salt = column(stmt, 2);
		user->enabled = sqlite3_column_int(stmt, 3);
	}
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? (user->username ? 1 : -ENOMEM) : rc == SQLITE_DONE ? 0 : -EIO;
}

static void wipe(char *text)
{
	if (text) {
		explicit_bzero(text, strlen(text));
	}
	free(text);
}

void users_fini(struct user *user)
{
	free(user->username);
	wipe(user->password);
	free(user->salt);
	*user = (struct user){ 0 };
}

int users_set_default_domain(struct sqlite3 *db, const char *domain)
{
	sqlite3_stmt *stmt = prepare(db, "INSERT INTO settings (key, value) VALUES ('default-domain', ?1) "
	                                 "ON CONFLICT (key) DO UPDATE SET value = ?1 WHERE value <> ?1");
	if (stmt) {
		sqlite3_bind_text(stmt, 1, domain, -1, SQLITE_STATIC);
	}
	return finish(db, stmt);
}

int users_each_name(struct sqlite3 *db, int (*each)(const char *, const char *, void *), void *arg)
{
	sqlite3_stmt *stmt = prepare(db, "SELECT username, domain FROM users");
	int step = SQLITE_ERROR, rc = 0;
	while (stmt && rc == 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		rc = each((const char *)sqlite3_column_text(stmt, 0), (const char *)sqlite3_column_text(stmt, 1), arg);
	}
	sqlite3_finalize(stmt);
	return rc < 0 ? rc : step == SQLITE_DONE ? 0 : -EIO;
}

int users_each_behind(struct sqlite3 *db, const char *after, const char *domain, int most,
                      void (*each)(const struct user *, const char *, const char *, void *), void *arg)
{
	sqlite3_stmt *stmt = prepare(db, "SELECT username, password, pwd_salt, enabled, folded, domain FROM users "
	                                 "WHERE (folded, domain) > (?1, ?2) ORDER BY folded, domain LIMIT ?3");
	int step = SQLITE_ERROR, count = 0;
	if (stmt) {
		sqlite3_bind_text(stmt, 1, after, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, domain, -1, SQLITE_STATIC);
		sqlite3_bind_int(stmt, 3, most);
	}
	while (stmt && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct user user = { .username = column(stmt, 0), .password = column(stmt, 1), .salt = column(stmt, 2),
			             .enabled = sqlite3_column_int(stmt, 3) };
		each(&user, (const char *)sqlite3_column_text(stmt, 4), (const char *)sqlite3_column_text(stmt, 5), arg);
		users_fini(&user);
		count++;
	}
	sqlite3_finalize(stmt);
	return step == SQLITE_DONE ? count : -EIO;
}

/* ---- by command ---- */

/* Runs SQL, which has up to three texts for parameters. */
static int run(struct sqlite3 *db, const char *sql, const char *a, const char *b, const char *c)
{
	sqlite3_stmt *stmt = prepare(db, sql);
	if (stmt) {
		sqlite3_bind_text(stmt, 1, a, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, b, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 3, c, -1, SQLITE_STATIC);
	}
	return finish(db, stmt);
}

int users_add(struct sqlite3 *db, const char *name, const char *folded, const char *domain, const char *verifier)
{
	struct user user;
	int rc = users_find(db, folded, domain, &user);
	users_fini(&user);
	if (rc != 0) {
		return rc < 0 ? rc : -EEXIST;
	}
	rc = run(db, "INSERT INTO users (username, domain, password) VALUES (?1, ?2, ?3)", name, domain, verifier);
	return rc < 0 ? rc : users_refold(db, sqlite3_last_insert_rowid(db), folded);
}

int users_set_password(struct sqlite3 *db, const char *folded, const char *domain, const char *verifier)
{
	int rc = run(db, "UPDATE users SET password = ?3, pwd_salt = NULL WHERE folded = ?1 AND domain = ?2", folded, domain, verifier);
	return rc < 0 ? rc : sqlite3_changes(db) ? 0 : -ENOENT;
}

int users_enable(struct sqlite3 *db, const char *folded, const char *domain, bool enabled)
{
	struct user user;
	int rc = users_find(db, folded, domain, &user);
	bool same = user.enabled == enabled;
	users_fini(&user);
	if (rc <= 0 || same) {
		return rc < 0 ? rc : rc == 0 ? -ENOENT : 1;
	}
	return run(db, "UPDATE users SET enabled = CAST(?3 AS INTEGER) WHERE folded = ?1 AND domain = ?2", folded, domain, enabled ? "1" : "0");
}

int users_delete(struct sqlite3 *db, const char *folded, const char *domain)
{
	int rc = run(db, "DELETE FROM users WHERE folded = ?1 AND domain = ?2", folded, domain, NULL);
	return rc < 0 ? rc : sqlite3_changes(db) ? 0 : -ENOENT;
}

/* ---- imported ---- */

static int bind_row(struct sqlite3 *db, const char *sql, const struct user_row *row)
{
	sqlite3_stmt *stmt = prepare(db, sql);
	if (stmt) {
		sqlite3_bind_text(stmt, 1, row->folded, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, row->domain, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 3, row->with_password ? row->password : NULL, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 4, row->with_password ? row->salt : NULL, -1, SQLITE_STATIC);
		sqlite3_bind_int(stmt, 5, row->enabled);
		if (sqlite3_bind_parameter_count(stmt) >= 6) {
			sqlite3_bind_text(stmt, 6, row->name, -1, SQLITE_STATIC);
		}
	}
	return finish(db, stmt);
}

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

int users_put(struct sqlite3 *db, const struct user_row *row, bool update)
{
	struct user user;
	int found = users_find(db, row->folded, row->domain, &user);
	bool same_password = !row->with_password || (is_same(user.password, row->password) && is_same(user.salt, row->salt));
	bool same_enabled = !row->with_enabled || user.enabled == row->enabled;
	users_fini(&user);
	if (found < 0 || (found > 0 && !update)) {
		return found < 0 ? found : -EEXIST;
	}
	int rc = 0;
	if (found == 0) {
		rc = bind_row(db, "INSERT INTO users (domain, password, pwd_salt, enabled, username) VALUES (?2, ?3, ?4, ?5, ?6)", row);
		rc = rc < 0 ? rc : users_refold(db, sqlite3_last_insert_rowid(db), row->folded);
		return rc < 0 ? rc : USERS_ADDED;
	}
	if (!same_password) {
		rc = bind_row(db, "UPDATE users SET password = ?3, pwd_salt = ?4 WHERE folded = ?1 AND domain = ?2 AND ?5 IS NOT NULL", row);
	}
	if (rc == 0 && !same_enabled) {
		rc = bind_row(db, "UPDATE users SET enabled = ?5 WHERE folded = ?1 AND domain = ?2", row);
	}
	return rc < 0 ? rc : same_password && same_enabled ? USERS_SAME : USERS_UPDATED;
}

/* ---- changes ---- */

int64_t users_data_version(struct sqlite3 *db)
{
	sqlite3_stmt *stmt = prepare(db, "PRAGMA data_version");
	int64_t version = stmt && sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -EIO;
	sqlite3_finalize(stmt);
	return version;
}

/* The folded form of NAME when it differs from what the row HAS; malloc'd. */
static char *fold_name(const char *name, const char *has)
{
	char folded[STK_JID_MAX + 1];
	if (!name || stk_jid_fold(name, folded, sizeof(folded)) < 0 || (has && strcmp(folded, has) == 0)) {
		return NULL;
	}
	return strdup(folded);
}

static struct change *read_change(sqlite3_stmt *stmt)
{
	struct change *change = calloc(1, sizeof(*change));
	if (!change) {
		return NULL;
	}
	change->seq = sqlite3_column_int64(stmt, 0);
	change->at = sqlite3_column_int64(stmt, 1);
	change->row = sqlite3_column_int64(stmt, 2);
	change->username = column(stmt, 3);
	change->domain = column(stmt, 4);
	change->what = column(stmt, 5);
	change->password = column(stmt, 6);
	const char *name = (const char *)sqlite3_column_text(stmt, 7);
	change->folded = fold_name(name, (const char *)sqlite3_column_text(stmt, 8));
	return change;
}

/* All rows of STMT as a list; frees STMT. */
static struct change *read_list(sqlite3_stmt *stmt)
{
	struct change *list = NULL, **last = &list;
	while (stmt && sqlite3_step(stmt) == SQLITE_ROW) {
		struct change *change = read_change(stmt);
		if (!change) {
			break;
		}
		*last = change;
		last = &change->next;
	}
	sqlite3_finalize(stmt);
	return list;
}

struct change *users_read_changes(struct sqlite3 *db, int most)
{
	sqlite3_stmt *stmt = prepare(db, "SELECT c.seq, c.at, c.user, c.username, c.domain, c.what, u.password, u.username, u.folded "
	                                 "FROM users_changed AS c LEFT JOIN users AS u ON u.rowid = c.user ORDER BY c.seq LIMIT ?1");
	if (stmt) {
		sqlite3_bind_int(stmt, 1, most);
	}
	return read_list(stmt);
}

struct change *users_read_rows(struct sqlite3 *db, int64_t from, int most)
{
	sqlite3_stmt *stmt = prepare(db, "SELECT 0, 0, rowid, username, domain, NULL, password, username, folded FROM users "
	                                 "WHERE rowid > ?1 ORDER BY rowid LIMIT ?2");
	if (stmt) {
		sqlite3_bind_int64(stmt, 1, from);
		sqlite3_bind_int(stmt, 2, most);
	}
	return read_list(stmt);
}

void users_free_changes(struct change *list)
{
	while (list) {
		struct change *next = list->next;
		free(list->username);
		free(list->domain);
		free(list->what);
		wipe(list->password);
		free(list->folded);
		free(list);
		list = next;
	}
}

int users_consume(struct sqlite3 *db, int64_t seq)
{
	sqlite3_stmt *stmt = prepare(db, "DELETE FROM users_changed WHERE seq <= ?1");
	if (stmt) {
		sqlite3_bind_int64(stmt, 1, seq);
	}
	return finish(db, stmt);
}

static int64_t last_seq(struct sqlite3 *db)
{
	sqlite3_stmt *stmt = prepare(db, "SELECT coalesce(max(seq), 0) FROM users_changed");
	int64_t seq = stmt && sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -EIO;
	sqlite3_finalize(stmt);
	return seq;
}

/* The triggers cannot tell the server's own writes; what they noted of one is taken out again. */
static int forget_after(struct sqlite3 *db, int64_t seq)
{
	sqlite3_stmt *stmt = prepare(db, "DELETE FROM users_changed WHERE seq > ?1");
	if (stmt) {
		sqlite3_bind_int64(stmt, 1, seq);
	}
	return finish(db, stmt);
}

int users_rehash(struct sqlite3 *db, int64_t row, const char *plain, const char *verifier)
{
	int64_t seq = last_seq(db);
	sqlite3_stmt *stmt = seq < 0 ? NULL : prepare(db, "UPDATE users SET password = ?2 WHERE rowid = ?1 AND password = ?3");
	if (stmt) {
		sqlite3_bind_int64(stmt, 1, row);
		sqlite3_bind_text(stmt, 2, verifier, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 3, plain, -1, SQLITE_STATIC);
	}
	int rc = finish(db, stmt);
	return rc < 0 ? rc : forget_after(db, seq);
}

int users_refold(struct sqlite3 *db, int64_t row, const char *folded)
{
	sqlite3_stmt *stmt = prepare(db, "UPDATE users SET folded = ?2 WHERE rowid = ?1");
	if (stmt) {
		sqlite3_bind_int64(stmt, 1, row);
		sqlite3_bind_text(stmt, 2, folded, -1, SQLITE_STATIC);
	}
	return finish(db, stmt);
}

/* Writers wait for as long as this waits for readers, such as a backup; it is tried again. */
bool users_checkpoint(struct sqlite3 *db)
{
	sqlite3_stmt *stmt = prepare(db, "PRAGMA busy_timeout");
	int patience = stmt && sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int(stmt, 0) : 0;
	sqlite3_finalize(stmt);
	sqlite3_busy_timeout(db, CHECKPOINT_MS);
	stmt = prepare(db, "PRAGMA wal_checkpoint(TRUNCATE)");
	bool done = stmt && sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_int(stmt, 0) == 0;
	sqlite3_finalize(stmt);
	sqlite3_busy_timeout(db, patience);
	return done;
}
