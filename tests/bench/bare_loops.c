/* SPDX-License-Identifier: MIT */
/* The loops that need no client: rows on disk as the archive writes them, and key derivation as a login needs it. */

#include "tests/bench/bare.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sqlite3.h>

#include "tests/bench/measure.h"

#define SAMPLES 256 /* rows whose contents are written again and again */
#define COLUMNS 11  /* of an insert */
#define ID_COLUMN 2 /* of them, the one that must differ */
#define TIME_COLUMN 3
#define ID_LEN 32

/* ---- sqlite ---- */

struct rows {
	sqlite3 *db;
	sqlite3_value *samples[SAMPLES][COLUMNS];
	int count;
	sqlite3_stmt *insert, *confirm, *begin, *commit;
	char path[4096];
	uint64_t written, confirmed;
};

static void check(sqlite3 *db, int rc, const char *what)
{
	if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
		bare_die("sqlite: %s: %s", what, sqlite3_errmsg(db));
	}
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	check(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL), sql);
	return stmt;
}

static void step(sqlite3 *db, sqlite3_stmt *stmt)
{
	check(db, sqlite3_step(stmt), sqlite3_sql(stmt));
	sqlite3_reset(stmt);
}

/* The pragmas of core/db.c, and checkpoints at as many frames as there. */
static void create(struct rows *rows, const struct bare_options *options)
{
	if (snprintf(rows->path, sizeof(rows->path), "%s/startalk-bare.%d.db", options->dir, (int)getpid()) >=
	    (int)sizeof(rows->path)) {
		bare_die("--dir: the path is too long");
	}
	unlink(rows->path);
	check(rows->db,
	      sqlite3_open_v2(rows->path, &rows->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
			      NULL),
	      rows->path);
	check(rows->db,
	      sqlite3_exec(rows->db,
			   "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
			   "PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16384;"
			   "PRAGMA wal_autocheckpoint = 4000",
			   NULL, NULL, NULL),
	      "pragmas");
}

/* Tables, indexes and triggers as they are in the archive, and some of its rows. */
static void copy_from(struct rows *rows, const char *like)
{
	sqlite3 *db = NULL;
	check(db, sqlite3_open_v2(like, &db, SQLITE_OPEN_READWRITE, NULL), like);
	sqlite3_stmt *stmt =
		prepare(db, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
			    "AND type <> 'view' ORDER BY type = 'trigger', type = 'index'");
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		const char *sql = (const char *)sqlite3_column_text(stmt, 0);
		check(rows->db, sqlite3_exec(rows->db, sql, NULL, NULL, NULL), sql);
	}
	sqlite3_finalize(stmt);
	stmt = prepare(
		db,
		"SELECT sender, recipient, id, time, type, kind, client, version, resource, body, more FROM messages "
		"ORDER BY seq LIMIT 256");
	for (; rows->count < SAMPLES && sqlite3_step(stmt) == SQLITE_ROW; rows->count++) {
		for (int i = 0; i < COLUMNS; i++) {
			rows->samples[rows->count][i] = sqlite3_value_dup(sqlite3_column_value(stmt, i));
		}
	}
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	if (!rows->count) {
		bare_die("--like: %s holds no messages", like);
	}
}

static void insert_row(struct rows *rows)
{
	char id[ID_LEN + 1];
	sqlite3_value **sample = rows->samples[rows->written % (uint64_t)rows->count];
	snprintf(id, sizeof(id), "%04x%06x%08llx%014llx", (unsigned)getpid() & 0xffff,
		 (unsigned)(rows->written % (uint64_t)rows->count), (unsigned long long)rows->written,
		 (unsigned long long)clock_us());
	for (int i = 0; i < COLUMNS; i++) {
		sqlite3_bind_value(rows->insert, i + 1, sample[i]);
	}
	sqlite3_bind_text(rows->insert, ID_COLUMN + 1, id, ID_LEN, SQLITE_STATIC);
	sqlite3_bind_int64(rows->insert, TIME_COLUMN + 1,
			   sqlite3_value_int64(sample[TIME_COLUMN]) + (int64_t)rows->written);
	step(rows->db, rows->insert);
	rows->written++;
}

/* New rows, and those of the group before, which clients have by now, marked as delivered. */
static void write_group(struct rows *rows, long group)
{
	uint64_t before = rows->written;
	step(rows->db, rows->begin);
	for (long i = 0; i < group; i++) {
		insert_row(rows);
	}
	while (rows->confirmed < before) {
		sqlite3_bind_int64(rows->confirm, 1, (int64_t)++rows->confirmed);
		step(rows->db, rows->confirm);
	}
	step(rows->db, rows->commit);
}

static void remove_files(const struct rows *rows)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	char path[4200];
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		snprintf(path, sizeof(path), "%s%s", rows->path, ends[i]);
		unlink(path);
	}
}

static void finish(struct rows *rows)
{
	sqlite3_stmt *all[] = { rows->insert, rows->confirm, rows->begin, rows->commit };
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		sqlite3_finalize(all[i]);
	}
	for (int i = 0; i < rows->count * COLUMNS; i++) {
		sqlite3_value_free(rows->samples[i / COLUMNS][i % COLUMNS]);
	}
	sqlite3_close(rows->db);
	remove_files(rows);
}

static void print_rate(const char *mode, const char *what, uint64_t count, double seconds, double cpu, long part,
		       const char *part_name)
{
	struct json json = { .file = stdout };
	json_open(&json, NULL);
	json_text(&json, "mode", mode);
	json_int(&json, part_name, part);
	json_number(&json, what, (double)count / seconds, 1);
	json_int(&json, "count", (int64_t)count);
	json_number(&json, "seconds", seconds, 3);
	json_number(&json, "cpu_us_each", count ? cpu * 1e6 / (double)count : 0, 2);
	json_number(&json, "cpu_share", cpu / seconds, 3);
	json_close(&json);
	putchar('\n');
}

void bare_sqlite(const struct bare_options *options)
{
	static struct rows rows;
	if (!options->like) {
		bare_die("sqlite: --like is needed");
	}
	create(&rows, options);
	copy_from(&rows, options->like);
	rows.insert = prepare(
		rows.db, "INSERT INTO messages (sender, recipient, id, time, type, kind, client, version, resource, "
			 "body, more) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) "
			 "ON CONFLICT (id, sender) DO NOTHING");
	rows.confirm = prepare(rows.db, "UPDATE messages SET flag = 1 WHERE seq = ?1 AND flag < 1");
	rows.begin = prepare(rows.db, "BEGIN IMMEDIATE");
	rows.commit = prepare(rows.db, "COMMIT");
	int64_t from = clock_us(), until = from + (int64_t)(options->seconds * 1e6);
	double cpu = cpu_seconds(0);
	while (clock_us() < until) {
		write_group(&rows, options->group);
	}
	cpu = cpu_seconds(0) - cpu;
	double seconds = (double)(clock_us() - from) / 1e6;
	uint64_t written = rows.written;
	finish(&rows);
	print_rate("sqlite", "rows_per_s", written, seconds, cpu, options->group, "group");
}

/* ---- pbkdf2 ---- */

struct derive {
	const struct bare_options *options;
	int64_t until;
	atomic_uint_fast64_t count;
};

static void *derive_keys(void *arg)
{
	struct derive *derive = arg;
	unsigned char password[] = "bench", salt[16] = "0123456789abcde", out[32];
	gnutls_datum_t key = { .data = password, .size = sizeof(password) - 1 };
	gnutls_datum_t salted = { .data = salt, .size = sizeof(salt) };
	while (clock_us() < derive->until) {
		if (gnutls_pbkdf2(GNUTLS_MAC_SHA256, &key, &salted, (unsigned)derive->options->iterations, out,
				  sizeof(out)) < 0) {
			bare_die("GnuTLS: no PBKDF2");
		}
		derive->count++;
	}
	return NULL;
}

void bare_pbkdf2(const struct bare_options *options)
{
	pthread_t threads[64];
	int64_t from = clock_us();
	double cpu = cpu_seconds(0);
	struct derive derive = { .options = options, .until = from + (int64_t)(options->seconds * 1e6) };
	for (long i = 0; i < options->threads; i++) {
		if (pthread_create(&threads[i], NULL, derive_keys, &derive) != 0) {
			bare_die("cannot make a thread");
		}
	}
	for (long i = 0; i < options->threads; i++) {
		pthread_join(threads[i], NULL);
	}
	print_rate("pbkdf2", "keys_per_s", derive.count, (double)(clock_us() - from) / 1e6, cpu_seconds(0) - cpu,
		   options->threads, "threads");
}
