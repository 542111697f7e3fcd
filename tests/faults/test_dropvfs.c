/* SPDX-License-Identifier: MIT */
/* What the VFS that loses unsynced bytes loses at a kill and what it keeps, so that the kill tests can be believed. */
#include "tests/unit/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#define ROWS 50
#define STR2(x) #x
#define STR(x)  STR2(x)
#define FILL    "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < " STR(ROWS) ") "

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_dropvfs.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	char command[80];
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static sqlite3 *open_db(const char *vfs)
{
	sqlite3 *db = NULL;
	char path[80];
	snprintf(path, sizeof(path), "%s/a.db", dir);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs), SQLITE_OK);
	return db;
}

static void run(sqlite3 *db, const char *sql)
{
	char *err = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &err) != SQLITE_OK) {
		print_error("%s: %s\n", sql, err);
		fail();
	}
}

static int number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	int n = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return n;
}

/* Both scripts in a process of its own, each with a connection; then the process kills itself. */
static void run_and_die(const char *first, const char *second)
{
	pid_t pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		for (int i = 0; i < 2; i++) {
			sqlite3 *db = NULL;
			char path[80];
			snprintf(path, sizeof(path), "%s/a.db", dir);
			if (sqlite3_open(path, &db) != SQLITE_OK ||
			    sqlite3_exec(db, i ? second : first, NULL, NULL, NULL) != SQLITE_OK) {
				_exit(1);
			}
			if (i == 0 && sqlite3_close(db) != SQLITE_OK) {
				_exit(2);
			}
		}
		kill(getpid(), SIGKILL);
	}
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Commits rows with MODE after a table that is safe; returns how many of the rows are on disk. */
static int rows_after_kill(const char *mode)
{
	char script[300];
	snprintf(script, sizeof(script), "%s; " FILL "INSERT INTO t SELECT i FROM c; INSERT INTO t VALUES (0)", mode);
	run_and_die("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (n INTEGER)", script);
	sqlite3 *db = open_db("unix");
	int rows = number(db, "SELECT count(*) FROM t");
	assert_int_equal(number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
	sqlite3_close(db);
	return rows;
}

static void a_commit_without_sync_is_gone_after_a_kill(void **state)
{
	(void)state;
	assert_int_equal(rows_after_kill("PRAGMA synchronous = OFF"), 0);
}

static void a_wal_commit_that_is_synced_at_checkpoints_only_is_gone_after_a_kill(void **state)
{
	(void)state;
	assert_int_equal(rows_after_kill("PRAGMA synchronous = NORMAL"), 0);
}

static void a_synced_commit_outlives_a_kill(void **state)
{
	(void)state;
	assert_int_equal(rows_after_kill("PRAGMA synchronous = FULL"), ROWS + 1);
}

static void a_synced_commit_with_a_rollback_journal_outlives_a_kill(void **state)
{
	(void)state;
	assert_int_equal(rows_after_kill("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL"), ROWS + 1);
}

static void only_the_commits_before_a_checkpoint_outlive_a_kill_without_syncs(void **state)
{
	(void)state;
	int rows = rows_after_kill("PRAGMA synchronous = NORMAL; INSERT INTO t VALUES (-1); INSERT INTO t VALUES (-2); "
	                           "PRAGMA wal_checkpoint (TRUNCATE)");
	assert_int_equal(rows, 2);
}

static void connections_of_the_process_see_what_is_not_synced_and_others_do_not(void **state)
{
	(void)state;
	sqlite3 *first = open_db(NULL), *second = open_db(NULL);
	run(first, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; CREATE TABLE t (n INTEGER); "
	           "INSERT INTO t VALUES (7)");
	assert_int_equal(number(second, "SELECT n FROM t"), 7);
	sqlite3_close(first);
	sqlite3_close(second);
	second = open_db(NULL); /* the last handle was closed, the process lives */
	assert_int_equal(number(second, "SELECT n FROM t"), 7);
	sqlite3 *other = open_db("unix");
	assert_int_equal(number(other, "SELECT count(*) FROM sqlite_master"), 0);
	sqlite3_close(other);
	run(second, "PRAGMA synchronous = FULL; INSERT INTO t VALUES (8)");
	sqlite3_close(second);
	other = open_db("unix");
	assert_int_equal(number(other, "SELECT sum(n) FROM t"), 15);
	sqlite3_close(other);
}

static void files_that_shrink_and_grow_again_are_on_disk_as_they_are_in_memory(void **state)
{
	(void)state;
	sqlite3 *db = open_db(NULL);
	run(db, "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 5; "
	        "PRAGMA synchronous = FULL; CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)");
	for (int i = 0; i < 20; i++) {
		run(db, FILL "INSERT OR REPLACE INTO t "
		             "SELECT i + (SELECT count(*) FROM t), randomblob(random() & 4095) FROM c");
		run(db, i % 3 ? "DELETE FROM t WHERE random() & 1" :
		                "DELETE FROM t; VACUUM; PRAGMA wal_checkpoint (TRUNCATE)");
	}
	int rows = number(db, "SELECT count(*) FROM t"), bytes = number(db, "SELECT sum(length(b)) FROM t");
	int pages = number(db, "PRAGMA page_count");
	assert_true(rows > 0);
	sqlite3_close(db);
	db = open_db("unix");
	assert_int_equal(number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
	assert_int_equal(number(db, "SELECT count(*) FROM t"), rows);
	assert_int_equal(number(db, "SELECT sum(length(b)) FROM t"), bytes);
	assert_int_equal(number(db, "PRAGMA page_count"), pages);
	sqlite3_close(db);
}

#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_commit_without_sync_is_gone_after_a_kill),
		TEST(a_wal_commit_that_is_synced_at_checkpoints_only_is_gone_after_a_kill),
		TEST(a_synced_commit_outlives_a_kill),
		TEST(a_synced_commit_with_a_rollback_journal_outlives_a_kill),
		TEST(only_the_commits_before_a_checkpoint_outlive_a_kill_without_syncs),
		TEST(connections_of_the_process_see_what_is_not_synced_and_others_do_not),
		TEST(files_that_shrink_and_grow_again_are_on_disk_as_they_are_in_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
