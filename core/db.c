/* SPDX-License-Identifier: MIT */
/* SQLite files of the state directory: opening, migrations, and the writers that commit in groups. What stands in the
 * tables is the modules' business. */

#include "core/db.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "core/clock.h"
#include "core/crash.h"
#include "core/db_copy.h"
#include "core/db_wal.h"
#include "core/log.h"
#include "core/module.h"

#define BUSY_MS     10000 /* how long a statement waits for a lock that somebody else holds */
#define WRITE_TRIES 6     /* times BUSY_MS that a write waits */
#define LOOK_MS     2     /* until it looks again; SQLite's own waiting looks every 100 ms in the end */
#define GROUP_MAX   1000  /* writes in one transaction */
#define BEHIND      250   /* writes that wait behind a commit: then the disk is left to them */
/* Pages that groups change again and again are kept, up to 16 MiB: messages of many users change pages all over the indexes. What a log
 * was longer once than it mostly is goes back to the file system. */
#define WRITER_PRAGMAS "PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 33554432"
#define STUCK       20.0  /* seconds that a stop waits for a module's part of one write */
#define STUCK_LOOK  0.1

#define STATEMENTS 64 /* cached statements of a connection; more are an error, since each is named by a constant */

/* One thread's connection. */
struct db_conn {
	struct db_conn *next;
	struct sqlite3 *handle;
	char *file;
	struct {
		const char *sql;
		sqlite3_stmt *stmt;
	} statements[STATEMENTS];
};

struct db_writer {
	struct db_writer *next;
	struct db *db;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	struct db_request *first, **last;
	size_t waiting;
	bool busy, stopping, configured;
	bool unwoken; /* it was given something since db_wake(); the router thread's */
	bool stuck; /* it is in a module's part of a write that does not end; nobody waits for it */
	_Atomic(const struct stk_module *) inside; /* whose part of a write runs */
	atomic_ulong turns; /* parts of writes that began */
	enum stk_durability durability;
	struct db_wal wal;
	char *file;
};

struct db {
	char *state_dir;
	void (*deliver)(struct db_request *list, void *arg);
	void *arg;
	bool unwoken;         /* a writer is; the router thread's */
	pthread_mutex_t lock; /* of the list of writers */
	struct db_writer *writers;
	struct db_checkpointer *checkpointer;
};

static _Thread_local struct db_conn *connections;

/* ---- opening ---- */

static int run(struct sqlite3 *handle, const char *path, const char *sql)
{
	char *err = NULL;
	if (sqlite3_exec(handle, sql, NULL, NULL, &err) == SQLITE_OK) {
		return 0;
	}
	int code = sqlite3_errcode(handle);
	log_write(LOG_ERR, "db: %s: %s%s", path, err ? err : sqlite3_errmsg(handle),
	          code == SQLITE_CORRUPT || code == SQLITE_NOTADB ?
	                  "; the database is damaged: stop the server, keep the file, and put a backup in its place" : "");
	sqlite3_free(err);
	return code == SQLITE_BUSY ? -EBUSY : code == SQLITE_FULL ? -ENOSPC : -EIO;
}

/* -1 on error, logged. */
static int read_version(struct sqlite3 *handle, const char *path, const char *name)
{
	sqlite3_stmt *stmt = NULL;
	int version = -1;
	if (sqlite3_prepare_v2(handle, "SELECT version FROM schema_version WHERE module = ?1", -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC) == SQLITE_OK) {
		int rc = sqlite3_step(stmt);
		version = rc == SQLITE_ROW ? sqlite3_column_int(stmt, 0) : rc == SQLITE_DONE ? 0 : -1;
	}
	if (version < 0) {
		log_write(LOG_ERR, "db: %s: schema_version: %s", path, sqlite3_errmsg(handle));
	}
	sqlite3_finalize(stmt);
	return version;
}

static int write_version(struct sqlite3 *handle, const char *name, int version)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(handle, "INSERT INTO schema_version (module, version) VALUES (?1, ?2) "
	                                    "ON CONFLICT (module) DO UPDATE SET version = ?2", -1, &stmt, NULL);
	rc = rc ? rc : sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	rc = rc ? rc : sqlite3_bind_int(stmt, 2, version);
	rc = rc ? rc : sqlite3_step(stmt);
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE ? 0 : -EIO;
}

/* From one version to another in the transaction that is open. */
static int run_steps(struct sqlite3 *handle, const char *path, const char *name, const char *const *migrations, int from, int to)
{
	int rc = 0;
	for (int version = from; version < to && rc == 0; version++) {
		rc = run(handle, path, migrations[version]);
		rc = rc < 0 ? rc : write_version(handle, name, version + 1);
	}
	return rc;
}

/* All in one transaction, so that the tables are what they were or what they are to be. Another process may have been faster. What
 * has data is copied first, under the lock of the transaction. */
static int migrate_all(struct sqlite3 *handle, const char *path, const char *name, const char *const *migrations, int count)
{
	char copy[8192] = "";
	int rc = run(handle, path, "BEGIN IMMEDIATE");
	if (rc < 0) {
		return rc;
	}
	int from = read_version(handle, path, name);
	rc = from < 0 ? -EIO : 0;
	if (from > 0 && from < count) {
		rc = db_copy(handle, name, from, copy, sizeof(copy));
		*copy = rc < 0 ? '\0' : *copy;
	}
	rc = rc < 0 ? rc : run_steps(handle, path, name, migrations, from, count);
	rc = rc < 0 ? rc : run(handle, path, "COMMIT");
	if (rc < 0 && !sqlite3_get_autocommit(handle)) {
		run(handle, path, "ROLLBACK");
	}
	if (!*copy) {
		return rc;
	}
	db_copy_prune(copy, name, from);
	if (rc < 0) {
		log_write(LOG_ERR, "db: %s: the tables of module %s stay at version %d, as they were; a copy of before is %s", path, name, from, copy);
	} else {
		log_write(LOG_NOTICE, "db: %s: the tables of module %s went from version %d to %d; a copy of before is %s", path, name, from, count,
		          copy);
	}
	return rc;
}

static int migrate(struct sqlite3 *handle, const char *path, const char *name, const char *const *migrations)
{
	int count = 0;
	while (migrations && migrations[count]) {
		count++;
	}
	int rc = run(handle, path, "CREATE TABLE IF NOT EXISTS schema_version (module TEXT PRIMARY KEY, version INTEGER NOT NULL)");
	int version = rc < 0 ? -1 : read_version(handle, path, name);
	if (version >= 0 && version < count) {
		rc = migrate_all(handle, path, name, migrations, count);
		version = rc < 0 ? -1 : read_version(handle, path, name);
	}
	if (version > count && count) {
		log_write(LOG_ERR, "db: %s: the tables of module %s have version %d, this server knows up to %d; run the server that made "
		                   "them, or a newer one", path, name, version, count);
		return -EINVAL;
	}
	return version < 0 ? -EIO : 0;
}

/* The pragma writes to the file, also when it changes nothing; so only a file that is new gets it. */
static int make_shrinkable(struct sqlite3 *handle, const char *path)
{
	sqlite3_stmt *stmt = NULL;
	bool is = sqlite3_prepare_v2(handle, "PRAGMA auto_vacuum", -1, &stmt, NULL) == SQLITE_OK &&
	          sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_int(stmt, 0) == 2;
	sqlite3_finalize(stmt);
	return is ? 0 : run(handle, path, "PRAGMA auto_vacuum = INCREMENTAL");
}

static struct sqlite3 *open_file(const struct db *db, const char *file)
{
	char path[4096];
	struct sqlite3 *handle = NULL;
	if (strchr(file, '/') || snprintf(path, sizeof(path), "%s/%s", db->state_dir, file) >= (int)sizeof(path)) {
		log_write(LOG_ERR, "db: %s: a plain file name is wanted", file);
		return NULL;
	}
	int rc = sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
	if (rc != SQLITE_OK) {
		log_write(LOG_ERR, "db: %s: cannot be opened: %s", path, handle ? sqlite3_errmsg(handle) : sqlite3_errstr(rc));
		sqlite3_close(handle);
		return NULL;
	}
	if (sqlite3_db_readonly(handle, "main") == 1) {
		log_write(LOG_ERR, "db: %s: may only be read by user %u, who the server runs as; it and its folder have to be the server's", path,
		          (unsigned)geteuid());
		sqlite3_close(handle);
		return NULL;
	}
	sqlite3_busy_timeout(handle, BUSY_MS);
	sqlite3_extended_result_codes(handle, 0);
	if (make_shrinkable(handle, path) < 0 ||
	    run(handle, path, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON") < 0) {
		sqlite3_close(handle);
		return NULL;
	}
	return handle;
}

struct sqlite3 *db_get(struct db *db, const char *name, const char *file, const char *const *migrations)
{
	struct db_conn *conn = connections;
	while (conn && strcmp(conn->file, file) != 0) {
		conn = conn->next;
	}
	if (!conn) {
		conn = calloc(1, sizeof(*conn));
		if (!conn || !(conn->file = strdup(file)) || !(conn->handle = open_file(db, file))) {
			free(conn ? conn->file : NULL);
			free(conn);
			return NULL;
		}
		conn->next = connections;
		connections = conn;
	}
	return migrations && migrate(conn->handle, file, name, migrations) < 0 ? NULL : conn->handle;
}

void db_thread_fini(struct db *db)
{
	(void)db;
	while (connections) {
		struct db_conn *conn = connections;
		connections = conn->next;
		for (int i = 0; i < STATEMENTS && conn->statements[i].sql; i++) {
			sqlite3_finalize(conn->statements[i].stmt);
		}
		sqlite3_close(conn->handle);
		free(conn->file);
		free(conn);
	}
}

struct sqlite3_stmt *db_statement(struct sqlite3 *handle, const char *sql)
{
	struct db_conn *conn = connections;
	while (conn && conn->handle != handle) {
		conn = conn->next;
	}
	int i = 0;
	while (conn && i < STATEMENTS && conn->statements[i].sql && conn->statements[i].sql != sql) {
		i++;
	}
	if (!conn || i == STATEMENTS) {
		log_write(LOG_ERR, "db: %s", conn ? "too many statements; is the SQL a constant?" : "a statement for another thread's connection");
		return NULL;
	}
	sqlite3_stmt *stmt = conn->statements[i].stmt;
	if (!stmt && sqlite3_prepare_v3(handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK) {
		log_write(LOG_ERR, "db: %s: %s: %s", conn->file, sql, sqlite3_errmsg(handle));
		return NULL;
	}
	conn->statements[i].sql = sql;
	conn->statements[i].stmt = stmt;
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return stmt;
}

/* ---- writing ---- */

static int error_of(struct sqlite3 *handle)
{
	switch (sqlite3_errcode(handle)) {
	case SQLITE_BUSY: return -EBUSY;
	case SQLITE_FULL: return -ENOSPC;
	case SQLITE_READONLY: return -EROFS;
	case SQLITE_NOMEM: return -ENOMEM;
	default: return -EIO;
	}
}

/* What piles up behind somebody else's lock has waited for long enough: the end of it must not be missed. */
static int begin(struct sqlite3 *handle, const char *file)
{
	const struct timespec look = { .tv_nsec = LOOK_MS * 1000000L };
	const double since = clock_now();
	int rc = SQLITE_BUSY, told = 0;
	while ((rc = sqlite3_exec(handle, "BEGIN IMMEDIATE", NULL, NULL, NULL)) == SQLITE_BUSY && told < WRITE_TRIES) {
		if (clock_now() - since > BUSY_MS / 1000.0 * (told + 1)) {
			told++;
			log_write(LOG_WARNING, "db: %s: somebody else holds the database locked; still waiting", file);
		}
		nanosleep(&look, NULL);
	}
	return rc == SQLITE_OK ? 0 : error_of(handle);
}

/* Each write stands alone: one that fails is undone without the others. A savepoint keeps a copy of every page that is changed
 * behind it, so those that need none have none. */
static void run_request(struct db_writer *writer, struct sqlite3 *handle, struct db_request *request)
{
	if (!request->append && sqlite3_exec(handle, "SAVEPOINT one", NULL, NULL, NULL) != SQLITE_OK) {
		request->status = error_of(handle);
		return;
	}
	atomic_fetch_add(&writer->turns, 1);
	atomic_store(&writer->inside, request->module);
	crash_enter(module_name(request->module), "write");
	request->status = request->tx(request->module, handle, request->arg);
	crash_leave();
	atomic_store(&writer->inside, NULL);
	if (request->append) {
		return;
	}
	if (request->status < 0) {
		sqlite3_exec(handle, "ROLLBACK TO one", NULL, NULL, NULL);
	}
	sqlite3_exec(handle, "RELEASE one", NULL, NULL, NULL);
}

static struct sqlite3 *open_writer(struct db_writer *writer)
{
	static const char *const levels[] = { "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL", "PRAGMA synchronous = OFF" };
	struct sqlite3 *handle = db_get(writer->db, "", writer->file, NULL);
	if (handle && !writer->configured) {
		writer->configured = run(handle, writer->file, levels[writer->durability]) == 0 && run(handle, writer->file, WRITER_PRAGMAS) == 0 &&
		                     sqlite3_busy_timeout(handle, 0) == SQLITE_OK; /* begin() waits */
		if (writer->configured) {
			db_wal_open(&writer->wal, writer->db->checkpointer, handle, writer->file);
		}
	}
	return handle && writer->configured ? handle : NULL;
}

static void run_group(struct db_writer *writer, struct db_request *list)
{
	struct sqlite3 *handle = open_writer(writer);
	int rc = handle ? begin(handle, writer->file) : -EIO;
	for (struct db_request *request = list; request && rc == 0; request = request->next) {
		run_request(writer, handle, request);
		if (sqlite3_get_autocommit(handle)) { /* SQLite has given the whole transaction up: a full disk, for one */
			rc = request->status < 0 ? request->status : -EIO;
		}
	}
	if (rc == 0 && sqlite3_exec(handle, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
		rc = error_of(handle);
		sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL);
	}
	if (rc < 0) {
		log_write(LOG_ERR, "db: %s: cannot be written: %s", writer->file, strerror(-rc));
	}
	for (struct db_request *request = list; request && rc < 0; request = request->next) {
		request->status = request->status < 0 ? request->status : rc;
	}
}

static struct db_request *take_group(struct db_writer *writer)
{
	struct db_request *list = writer->first, **at = &writer->first;
	for (int i = 0; i < GROUP_MAX && *at; i++) {
		at = &(*at)->next;
		writer->waiting--;
	}
	writer->first = *at;
	*at = NULL;
	if (!writer->first) {
		writer->last = &writer->first;
	}
	return list;
}

static void *run_writer(void *arg)
{
	struct db_writer *writer = arg;
	crash_thread();
	pthread_mutex_lock(&writer->lock);
	while (writer->first || !writer->stopping) {
		if (!writer->first) {
			pthread_cond_wait(&writer->work, &writer->lock);
			continue;
		}
		struct db_request *list = take_group(writer);
		writer->busy = true;
		pthread_mutex_unlock(&writer->lock);
		run_group(writer, list);
		writer->db->deliver(list, writer->db->arg);
		pthread_mutex_lock(&writer->lock);
		bool behind = writer->waiting > BEHIND;
		pthread_mutex_unlock(&writer->lock);
		if (writer->configured) {
			db_wal_tend(&writer->wal, behind);
		}
		pthread_mutex_lock(&writer->lock);
		writer->busy = false;
		pthread_cond_broadcast(&writer->idle);
	}
	pthread_mutex_unlock(&writer->lock);
	db_thread_fini(writer->db);
	return NULL;
}

static struct db_writer *new_writer(struct db *db, const char *file)
{
	struct db_writer *writer = calloc(1, sizeof(*writer));
	if (!writer || !(writer->file = strdup(file))) {
		free(writer);
		return NULL;
	}
	writer->db = db;
	writer->last = &writer->first;
	pthread_mutex_init(&writer->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&writer->work, NULL);
	pthread_cond_init(&writer->idle, &monotonic);
	pthread_condattr_destroy(&monotonic);
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&writer->thread, NULL, run_writer, writer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		free(writer->file);
		free(writer);
		return NULL;
	}
	writer->next = db->writers;
	db->writers = writer;
	return writer;
}

static struct db_writer *get_writer(struct db *db, const char *file)
{
	pthread_mutex_lock(&db->lock);
	struct db_writer *writer = db->writers;
	while (writer && strcmp(writer->file, file) != 0) {
		writer = writer->next;
	}
	if (!writer) {
		writer = new_writer(db, file);
	}
	pthread_mutex_unlock(&db->lock);
	return writer;
}

int db_durability(struct db *db, const char *file, enum stk_durability durability)
{
	struct db_writer *writer = get_writer(db, file);
	if (!writer) {
		return -ENOMEM;
	}
	pthread_mutex_lock(&writer->lock);
	writer->durability = durability; /* its thread reads it after it was given its first write, under the same lock */
	pthread_mutex_unlock(&writer->lock);
	return 0;
}

int db_write(struct db *db, const char *file, struct db_request *request)
{
	struct db_writer *writer = get_writer(db, file);
	if (!writer) {
		return -ENOMEM;
	}
	pthread_mutex_lock(&writer->lock);
	int rc = writer->waiting >= DB_QUEUE_MAX || writer->stopping ? -EAGAIN : 0;
	if (rc == 0) {
		request->next = NULL;
		*writer->last = request;
		writer->last = &request->next;
		writer->waiting++;
		writer->unwoken = db->unwoken = true;
	}
	pthread_mutex_unlock(&writer->lock);
	return rc;
}

/* Without the lock, which whoever wakes would have to wait for. */
void db_wake(struct db *db)
{
	for (struct db_writer *writer = db->unwoken ? db->writers : NULL; writer; writer = writer->next) {
		if (writer->unwoken) {
			writer->unwoken = false;
			pthread_cond_signal(&writer->work);
		}
	}
	db->unwoken = false;
}

/* ---- life ---- */

struct db *db_new(const char *state_dir, void (*deliver)(struct db_request *, void *), void *arg)
{
	struct db *db = calloc(1, sizeof(*db));
	if (!db || !(db->state_dir = strdup(state_dir)) || !(db->checkpointer = db_checkpointer_new(db))) {
		free(db ? db->state_dir : NULL);
		free(db);
		return NULL;
	}
	pthread_mutex_init(&db->lock, NULL);
	db->deliver = deliver;
	db->arg = arg;
	return db;
}

/* Under the lock: waits until nothing is left to write, or until one part of a write has taken for too long. */
static void drain(struct db_writer *writer)
{
	unsigned long turn = atomic_load(&writer->turns);
	double since = clock_now();
	while (!writer->stuck && (writer->first || writer->busy)) {
		double at = clock_now() + STUCK_LOOK;
		struct timespec until = { .tv_sec = (time_t)at, .tv_nsec = (long)((at - (double)(time_t)at) * 1e9) };
		pthread_cond_timedwait(&writer->idle, &writer->lock, &until);
		const struct stk_module *inside = atomic_load(&writer->inside);
		if (!inside || turn != atomic_load(&writer->turns)) { /* locks and disks have limits of their own */
			turn = atomic_load(&writer->turns);
			since = clock_now();
		} else if (clock_now() - since > STUCK) {
			log_write(LOG_ERR, "db: %s: a write of module %s has not ended in %.0f s: the server stops without it, and without those "
			          "that wait behind it", writer->file, module_name(inside), STUCK);
			writer->stuck = true;
		}
	}
}

bool db_drain(struct db *db)
{
	bool all = true;
	db_wake(db);
	for (struct db_writer *writer = db->writers; writer; writer = writer->next) {
		pthread_mutex_lock(&writer->lock);
		drain(writer);
		all &= !writer->stuck;
		pthread_mutex_unlock(&writer->lock);
	}
	return all;
}

void db_close(struct db *db)
{
	db_checkpointer_stop(db->checkpointer);
	while (db->writers) {
		struct db_writer *writer = db->writers;
		db->writers = writer->next;
		if (writer->stuck) {
			pthread_detach(writer->thread); /* what it uses stays */
			continue;
		}
		pthread_mutex_lock(&writer->lock);
		writer->stopping = true;
		pthread_cond_broadcast(&writer->work);
		pthread_mutex_unlock(&writer->lock);
		pthread_join(writer->thread, NULL);
		pthread_cond_destroy(&writer->idle);
		pthread_cond_destroy(&writer->work);
		pthread_mutex_destroy(&writer->lock);
		free(writer->file);
		free(writer);
	}
}

void db_free(struct db **db_ptr)
{
	struct db *db = *db_ptr;
	if (!db) {
		return;
	}
	*db_ptr = NULL;
	db_close(db);
	db_checkpointer_free(&db->checkpointer);
	pthread_mutex_destroy(&db->lock);
	free(db->state_dir);
	free(db);
}
