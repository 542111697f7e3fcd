/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "core/db.h"

static char dir[] = "/tmp/test_db.XXXXXX";
static struct db *db;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int delivered, failed;

static const char *const migrations[] = { "CREATE TABLE t (n INTEGER UNIQUE)", "ALTER TABLE t ADD COLUMN m INTEGER", NULL };
static const char *const older[] = { "CREATE TABLE t (n INTEGER UNIQUE)", NULL };

static void deliver(struct db_request *list, void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	while (list) {
		struct db_request *next = list->next;
		delivered++;
		failed += list->status < 0;
		free(list);
		list = next;
	}
	pthread_mutex_unlock(&lock);
}

static int open_db(void **state)
{
	(void)state;
	db = mkdtemp(dir) ? db_new(dir, deliver, NULL) : NULL;
	return db ? 0 : -1;
}

static int close_db(void **state)
{
	(void)state;
	char command[64];
	db_thread_fini(db);
	db_free(&db);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static int count(struct sqlite3 *handle, const char *sql)
{
	sqlite3_stmt *stmt;
	assert_int_equal(sqlite3_prepare_v2(handle, sql, -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	int n = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return n;
}

static void migrations_run_once_and_in_order(void **state)
{
	(void)state;
	struct sqlite3 *handle = db_get(db, "mod", "one.db", migrations);
	assert_non_null(handle);
	assert_int_equal(count(handle, "SELECT version FROM schema_version WHERE module = 'mod'"), 2);
	assert_ptr_equal(db_get(db, "mod", "one.db", migrations), handle);
	assert_int_equal(count(handle, "SELECT count(n) + count(m) FROM t"), 0);
}

static void tables_of_a_newer_server_are_refused(void **state)
{
	(void)state;
	assert_non_null(db_get(db, "mod", "one.db", migrations));
	assert_null(db_get(db, "mod", "one.db", older));
}

/* Copies beside a file whose names begin with PREFIX; the last found goes to PATH. */
static int copies(const char *prefix, char *path, size_t size)
{
	DIR *stream = opendir(dir);
	assert_non_null(stream);
	int n = 0;
	for (struct dirent *entry; (entry = readdir(stream));) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
			snprintf(path, size, "%s/%s", dir, entry->d_name);
			n++;
		}
	}
	closedir(stream);
	return n;
}

static void touch(const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	fclose(out);
}

static void a_copy_is_made_before_tables_with_data_change_and_few_are_kept(void **state)
{
	(void)state;
	char path[512];
	struct sqlite3 *copy;
	struct stat st;
	static const char *const third[] = { "CREATE TABLE u (n)", "ALTER TABLE u ADD COLUMN m", "DELETE FROM u", NULL };
	static const char *const first[] = { "CREATE TABLE u (n)", NULL };
	struct sqlite3 *handle = db_get(db, "mod", "two.db", first);
	assert_non_null(handle);
	assert_int_equal(copies("two.db.before-", path, sizeof(path)), 0); /* there was nothing */
	assert_int_equal(sqlite3_exec(handle, "INSERT INTO u VALUES (7)", NULL, NULL, NULL), SQLITE_OK);
	touch("two.db.before-mod-1-20200101T000000Z"); /* of an earlier try */
	touch("two.db.before-mod-9-20200101T000001Z");
	touch("two.db.before-mod-9-20200101T000002Z");
	touch("two.db.before-mod-9-20200101T000003Z");
	touch("two.db.before-module-1-20200101T000000Z"); /* of another module */
	touch("two.db.before-mod-1-by-hand");
	assert_non_null(db_get(db, "mod", "two.db", third));
	assert_int_equal(count(handle, "SELECT count(n) + count(m) FROM u"), 0);
	assert_int_equal(copies("two.db.before-mod-1-2020", path, sizeof(path)), 0);
	assert_int_equal(copies("two.db.before-mod-9-", path, sizeof(path)), 2);
	assert_int_equal(copies("two.db.before-module-", path, sizeof(path)), 1);
	assert_int_equal(copies("two.db.before-mod-1-by-hand", path, sizeof(path)), 1);
	assert_int_equal(copies("two.db.before-mod-1-2", path, sizeof(path)), 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(sqlite3_open(path, &copy), SQLITE_OK);
	assert_int_equal(count(copy, "SELECT sum(n) FROM u"), 7);
	assert_int_equal(count(copy, "SELECT version FROM schema_version"), 1);
	sqlite3_close(copy);
	assert_int_equal(copies("two.db.before-mod-1-2", path, sizeof(path)), 1); /* and nothing beside it */
}

static void a_migration_that_fails_leaves_the_database_as_it_was(void **state)
{
	(void)state;
	char path[512];
	static const char *const first[] = { "CREATE TABLE u (n)", NULL };
	static const char *const wrong[] = { "CREATE TABLE u (n)", "ALTER TABLE u ADD COLUMN m; DELETE FROM u", "SELECT no_such_thing", NULL };
	struct sqlite3 *handle = db_get(db, "mod", "three.db", first);
	assert_non_null(handle);
	assert_int_equal(sqlite3_exec(handle, "INSERT INTO u VALUES (7)", NULL, NULL, NULL), SQLITE_OK);
	for (int i = 0; i < 3; i++) {
		assert_null(db_get(db, "mod", "three.db", wrong));
		assert_int_equal(count(handle, "SELECT version FROM schema_version"), 1);
		assert_int_equal(count(handle, "SELECT sum(n) FROM u"), 7);
		assert_int_equal(count(handle, "SELECT count(*) FROM pragma_table_info('u')"), 1);
		assert_int_equal(copies("three.db.before-mod-1-", path, sizeof(path)), 1);
	}
}

static void without_a_copy_nothing_is_changed(void **state)
{
	(void)state;
	char path[512], name[300];
	static const char *const first[] = { "CREATE TABLE u (n)", NULL };
	static const char *const second[] = { "CREATE TABLE u (n)", "DROP TABLE u", NULL };
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0'; /* no file can be called so */
	assert_non_null(db_get(db, name, "four.db", first));
	assert_null(db_get(db, name, "four.db", second));
	assert_int_equal(count(db_get(db, name, "four.db", first), "SELECT count(*) FROM u"), 0);
	assert_int_equal(copies("four.db.before", path, sizeof(path)), 0);
}

static void file_names_with_a_slash_and_damaged_files_are_refused(void **state)
{
	(void)state;
	char path[64];
	assert_null(db_get(db, "mod", "../x.db", migrations));
	snprintf(path, sizeof(path), "%s/bad.db", dir);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	for (int i = 0; i < 1000; i++) {
		fputs("this is no database ", out);
	}
	fclose(out);
	assert_null(db_get(db, "mod", "bad.db", migrations));
}

static int insert(struct stk_module *module, struct sqlite3 *handle, void *arg)
{
	(void)module;
	char sql[80];
	snprintf(sql, sizeof(sql), "INSERT INTO t (n) VALUES (%d); INSERT INTO t (n) VALUES (%d)", (int)(intptr_t)arg, (int)(intptr_t)arg + 100000);
	return sqlite3_exec(handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -EEXIST;
}

static void put(intptr_t n)
{
	struct db_request *request = calloc(1, sizeof(*request));
	assert_non_null(request);
	request->tx = insert;
	request->arg = (void *)n;
	assert_int_equal(db_write(db, "one.db", request), 0);
}

static void writes_are_on_disk_when_they_are_delivered_and_a_failed_one_stands_alone(void **state)
{
	(void)state;
	struct sqlite3 *handle = db_get(db, "mod", "one.db", migrations);
	for (intptr_t i = 1; i <= 500; i++) {
		put(i);
	}
	put(100007); /* its second row is new, its first one exists: nothing of it stays */
	put(501);
	db_drain(db);
	assert_int_equal(delivered, 502);
	assert_int_equal(failed, 1);
	assert_int_equal(count(handle, "SELECT count(*) FROM t"), 1002);
	assert_int_equal(count(handle, "SELECT count(*) FROM t WHERE n = 200007"), 0);
}

static int append(struct stk_module *module, struct sqlite3 *handle, void *arg)
{
	(void)module;
	char sql[64];
	snprintf(sql, sizeof(sql), "INSERT INTO t (n) VALUES (%d)", (int)(intptr_t)arg);
	return sqlite3_exec(handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -EEXIST;
}

static int give_up(struct stk_module *module, struct sqlite3 *handle, void *arg)
{
	(void)module;
	(void)arg;
	sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL); /* as SQLite does by itself when the disk is full */
	return -ENOSPC;
}

static void put_append(stk_tx_fn *tx, intptr_t n)
{
	struct db_request *request = calloc(1, sizeof(*request));
	assert_non_null(request);
	request->tx = tx;
	request->arg = (void *)n;
	request->append = true;
	assert_int_equal(db_write(db, "one.db", request), 0);
}

static int hold(struct stk_module *module, struct sqlite3 *handle, void *arg)
{
	(void)module;
	(void)handle;
	(void)arg;
	usleep(100000); /* what follows is one group */
	return 0;
}

static void an_append_that_fails_leaves_the_others_and_a_transaction_that_is_gone_fails_them_all(void **state)
{
	(void)state;
	struct sqlite3 *handle = db_get(db, "mod", "one.db", migrations);
	int before = failed;
	put_append(append, 700);
	put_append(append, 700);
	put_append(append, 701);
	db_drain(db);
	assert_int_equal(failed, before + 1);
	assert_int_equal(count(handle, "SELECT count(*) FROM t WHERE n IN (700, 701)"), 2);
	put_append(hold, 0);
	db_wake(db);
	usleep(20000);
	put_append(append, 702);
	put_append(give_up, 0);
	put_append(append, 703);
	db_drain(db);
	assert_int_equal(failed, before + 4);
	assert_int_equal(count(handle, "SELECT count(*) FROM t WHERE n IN (702, 703)"), 0);
	put_append(append, 704);
	db_drain(db);
	assert_int_equal(count(handle, "SELECT count(*) FROM t WHERE n = 704"), 1);
}

static void a_lock_that_somebody_else_holds_is_waited_for(void **state)
{
	(void)state;
	char path[64];
	struct sqlite3 *other;
	snprintf(path, sizeof(path), "%s/one.db", dir);
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	int before = delivered, failed_before = failed;
	put(600);
	db_wake(db);
	usleep(100000);
	pthread_mutex_lock(&lock);
	assert_int_equal(delivered, before);
	pthread_mutex_unlock(&lock);
	assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(other);
	db_drain(db);
	assert_int_equal(delivered, before + 1);
	assert_int_equal(failed, failed_before);
}

/* About 98 frames of a log. */
static int insert_much(struct stk_module *module, struct sqlite3 *handle, void *arg)
{
	(void)module;
	(void)arg;
	return sqlite3_exec(handle, "INSERT INTO much VALUES (zeroblob(400000))", NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

static void put_much(void)
{
	struct db_request *request = calloc(1, sizeof(*request));
	assert_non_null(request);
	request->tx = insert_much;
	request->append = true;
	assert_int_equal(db_write(db, "much.db", request), 0);
	db_drain(db);
}

/* Changes whenever the log begins anew. */
static uint64_t salt_of_log(void)
{
	char path[64];
	uint64_t salt = 0;
	snprintf(path, sizeof(path), "%s/much.db-wal", dir);
	FILE *in = fopen(path, "r");
	assert_non_null(in);
	assert_int_equal(fseek(in, 16, SEEK_SET), 0);
	assert_int_equal(fread(&salt, sizeof(salt), 1, in), 1);
	fclose(in);
	return salt;
}

/* Writes MOST times, or until the log has begun anew. How often. */
static int put_until_new(int most)
{
	uint64_t salt = salt_of_log();
	int n = 0;
	while (n < most && salt_of_log() == salt) {
		put_much();
		n++;
	}
	return n;
}

static void logs_begin_anew_when_they_are_long_and_nobody_reads_what_was(void **state)
{
	(void)state;
	static const char *const tables[] = { "CREATE TABLE much (x)", NULL };
	char path[64];
	struct sqlite3 *handle = db_get(db, "mod", "much.db", tables);
	assert_non_null(handle);
	int rows = 1, n, before = failed;
	put_much();
	n = put_until_new(400);
	assert_in_range(n, 35, 300); /* 41 make it long; more of them come while it is moved */
	rows += n;
	assert_int_equal(sqlite3_exec(handle, "BEGIN; SELECT count(*) FROM much", NULL, NULL, NULL), SQLITE_OK);
	n = put_until_new(150);
	assert_int_equal(n, 150);
	rows += n;
	assert_int_equal(sqlite3_exec(handle, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	n = put_until_new(400);
	assert_in_range(n, 1, 399);
	rows += n;
	struct stat st;
	snprintf(path, sizeof(path), "%s/much.db-wal", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_in_range(st.st_size, 1, 34000000); /* it was twice that */
	assert_int_equal(failed, before);
	assert_int_equal(count(handle, "SELECT count(*) FROM much"), rows);
	print_message("%d writes of 98 frames\n", rows);
}

static void *open_elsewhere(void *arg)
{
	struct sqlite3 *handle = db_get(db, "mod", "one.db", NULL);
	*(int *)arg = handle ? count(handle, "PRAGMA auto_vacuum") : -1;
	db_thread_fini(db);
	return NULL;
}

static void opening_a_connection_writes_nothing_and_waits_for_no_writer(void **state)
{
	(void)state;
	struct sqlite3 *handle = db_get(db, "mod", "one.db", migrations);
	int version = count(handle, "PRAGMA data_version");
	assert_int_equal(sqlite3_exec(handle, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	pthread_t thread;
	int vacuum = 0;
	assert_int_equal(pthread_create(&thread, NULL, open_elsewhere, &vacuum), 0);
	pthread_join(thread, NULL); /* what waits for the lock gives up in the end */
	assert_int_equal(sqlite3_exec(handle, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(vacuum, 2);
	assert_int_equal(count(handle, "PRAGMA data_version"), version);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(migrations_run_once_and_in_order),
		cmocka_unit_test(a_copy_is_made_before_tables_with_data_change_and_few_are_kept),
		cmocka_unit_test(a_migration_that_fails_leaves_the_database_as_it_was),
		cmocka_unit_test(without_a_copy_nothing_is_changed),
		cmocka_unit_test(tables_of_a_newer_server_are_refused),
		cmocka_unit_test(file_names_with_a_slash_and_damaged_files_are_refused),
		cmocka_unit_test(writes_are_on_disk_when_they_are_delivered_and_a_failed_one_stands_alone),
		cmocka_unit_test(an_append_that_fails_leaves_the_others_and_a_transaction_that_is_gone_fails_them_all),
		cmocka_unit_test(a_lock_that_somebody_else_holds_is_waited_for),
		cmocka_unit_test(logs_begin_anew_when_they_are_long_and_nobody_reads_what_was),
		cmocka_unit_test(opening_a_connection_writes_nothing_and_waits_for_no_writer),
	};
	return cmocka_run_group_tests(tests, open_db, close_db);
}
