/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <sqlite3.h>

#include "modules/auth_sqlite/users.h"

static struct sqlite3 *db;

static int open_db(void **state)
{
	(void)state;
	return sqlite3_open(":memory:", &db) || sqlite3_exec(db, users_migrations[0], NULL, NULL, NULL) ||
	       users_set_default_domain(db, "example.org");
}

static int close_db(void **state)
{
	(void)state;
	return sqlite3_close(db);
}

static void run(const char *sql)
{
	char *err = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &err) != SQLITE_OK) {
		fail_msg("%s: %s", sql, err);
	}
}

static void refuse(const char *sql, const char *why)
{
	char *err = NULL;
	assert_int_not_equal(sqlite3_exec(db, sql, NULL, NULL, &err), SQLITE_OK);
	if (!strstr(err, why)) {
		fail_msg("%s: '%s' does not say '%s'", sql, err, why);
	}
	sqlite3_free(err);
}

static void consume_all(void)
{
	assert_int_equal(users_consume(db, INT64_MAX), 0);
	assert_null(users_read_changes(db, 10));
}

static void a_row_gets_domain_and_enabled_by_default(void **state)
{
	(void)state;
	struct user user;
	run("INSERT INTO users (username, password) VALUES ('Carol', 's3cret')");
	assert_int_equal(users_find(db, "carol", "example.org", &user), 1);
	assert_string_equal(user.username, "Carol");
	assert_string_equal(user.password, "s3cret");
	assert_true(user.enabled);
	assert_null(user.salt);
	users_fini(&user);
	assert_int_equal(users_find(db, "carol", "example.net", &user), 0);
	run("INSERT INTO users (username, domain, password, enabled) VALUES ('carol', 'Example.NET', 'x', 0)");
	assert_int_equal(users_find(db, "carol", "example.net", &user), 1);
	assert_false(user.enabled);
	users_fini(&user);
}

static void odd_names_are_refused(void **state)
{
	(void)state;
	refuse("INSERT INTO users (username) VALUES ('')", "username_has_1_to_1023_bytes");
	refuse("INSERT INTO users (username) VALUES (printf('%.1024c', 'x'))", "username_has_1_to_1023_bytes");
	run("INSERT INTO users (username) VALUES (printf('%.1023c', 'x'))");
	refuse("INSERT INTO users (username) VALUES ('a@b')", "username_without_at_slash_space");
	refuse("INSERT INTO users (username) VALUES ('a/b')", "username_without_at_slash_space");
	refuse("INSERT INTO users (username) VALUES ('a' || char(10))", "username_without_control_characters");
	refuse("INSERT INTO users (username) VALUES ('a' || char(127))", "username_without_control_characters");
	refuse("INSERT INTO users (username) VALUES (CAST(x'610062' AS TEXT))", "username_without_control_characters");
	refuse("INSERT INTO users (username) VALUES (NULL)", "NOT NULL");
	refuse("INSERT INTO users (username) VALUES (x'61')", "username_is_text");
	refuse("INSERT INTO users (username, enabled) VALUES ('a', 2)", "enabled_is_0_or_1");
	run("INSERT INTO users (username) VALUES ('a-b_c.d+e')");
}

static void the_same_name_in_other_case_is_refused(void **state)
{
	(void)state;
	run("INSERT INTO users (username) VALUES ('dave')");
	refuse("INSERT INTO users (username) VALUES ('DAVE')", "UNIQUE");
	run("INSERT INTO users (username, domain) VALUES ('DAVE', 'example.net')");
}

static void each_change_is_noted_once_and_can_be_consumed(void **state)
{
	(void)state;
	static const struct {
		const char *sql, *what;
	} steps[] = {
		{ "INSERT INTO users (username, password) VALUES ('erin', 'one')", "new" },
		{ "UPDATE users SET password = 'two' WHERE username = 'erin'", "password" },
		{ "UPDATE users SET pwd_salt = 's' WHERE username = 'erin'", "password" },
		{ "UPDATE users SET enabled = 0 WHERE username = 'erin'", "disabled" },
		{ "DELETE FROM users WHERE username = 'erin'", "deleted" },
	};
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		consume_all();
		run(steps[i].sql);
		struct change *change = users_read_changes(db, 10);
		assert_non_null(change);
		assert_null(change->next);
		assert_string_equal(change->what, steps[i].what);
		assert_string_equal(change->username, "erin");
		assert_string_equal(change->domain, "example.org");
		assert_true(change->at > 1600000000000);
		users_free_changes(change);
	}
	consume_all();
	run("INSERT INTO users (username, password) VALUES ('erin', 'one')");
	consume_all();
	run("UPDATE users SET password = 'one', enabled = 1 WHERE username = 'erin'");
	assert_null(users_read_changes(db, 10));
	run("UPDATE users SET username = 'Erina' WHERE username = 'erin'");
	struct change *change = users_read_changes(db, 10);
	assert_string_equal(change->what, "deleted");
	assert_string_equal(change->next->what, "new");
	assert_string_equal(change->next->username, "Erina");
	users_free_changes(change);
	struct user user;
	assert_int_equal(users_find(db, "erina", "example.org", &user), 1);
	users_fini(&user);
	assert_int_equal(users_find(db, "erin", "example.org", &user), 0);
}

static int64_t row_of(const char *folded)
{
	sqlite3_stmt *stmt;
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT rowid FROM users WHERE folded = ?1", -1, &stmt, NULL), SQLITE_OK);
	sqlite3_bind_text(stmt, 1, folded, -1, SQLITE_STATIC);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	int64_t row = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return row;
}

static void the_servers_own_rehash_is_no_change_and_does_not_overwrite_a_newer_password(void **state)
{
	(void)state;
	struct user user;
	run("INSERT INTO users (username, password) VALUES ('frank', 'plain')");
	consume_all();
	assert_int_equal(users_rehash(db, row_of("frank"), "plain", "VERIFIER"), 0);
	assert_null(users_read_changes(db, 10));
	assert_int_equal(users_find(db, "frank", "example.org", &user), 1);
	assert_string_equal(user.password, "VERIFIER");
	users_fini(&user);
	run("UPDATE users SET password = 'newer' WHERE username = 'frank'");
	assert_int_equal(users_rehash(db, row_of("frank"), "VERIFIER", "TOO LATE"), 0);
	struct change *change = users_read_changes(db, 10);
	assert_string_equal(change->password, "newer");
	users_free_changes(change);
}

static void names_that_sql_cannot_fold_are_reported_with_their_folded_form(void **state)
{
	(void)state;
	run("INSERT INTO users (username) VALUES ('ÄRGER')");
	struct change *change = users_read_changes(db, 100), *last = change;
	while (last->next) {
		last = last->next;
	}
	assert_string_equal(last->folded, "ärger");
	assert_int_equal(users_refold(db, last->row, last->folded), 0);
	users_free_changes(change);
	struct user user;
	assert_int_equal(users_find(db, "ärger", "example.org", &user), 1);
	assert_string_equal(user.username, "ÄRGER");
	users_fini(&user);
	run("INSERT INTO users (username) VALUES ('Ärger')");
	assert_int_equal(users_refold(db, row_of("Ärger"), "ärger"), -EEXIST);
}

static void accounts_are_added_changed_and_deleted_by_name(void **state)
{
	(void)state;
	struct user user;
	run("DELETE FROM users; DELETE FROM users_changed");
	assert_int_equal(users_add(db, "Ärger", "ärger", "example.org", "v1"), 0);
	assert_int_equal(users_add(db, "ÄRGER", "ärger", "example.org", "v2"), -EEXIST);
	assert_int_equal(users_add(db, "ÄRGER", "ärger", "example.net", "v3"), 0);
	assert_int_equal(users_set_password(db, "ärger", "example.net", "v4"), 0);
	assert_int_equal(users_set_password(db, "nobody", "example.net", "v4"), -ENOENT);
	assert_int_equal(users_enable(db, "ärger", "example.org", true), 1);
	assert_int_equal(users_enable(db, "ärger", "example.org", false), 0);
	assert_int_equal(users_enable(db, "nobody", "example.org", false), -ENOENT);
	assert_int_equal(users_find(db, "ärger", "example.org", &user), 1);
	assert_false(user.enabled);
	assert_string_equal(user.username, "Ärger");
	users_fini(&user);
	assert_int_equal(users_delete(db, "ärger", "example.org"), 0);
	assert_int_equal(users_delete(db, "ärger", "example.org"), -ENOENT);
	assert_int_equal(users_find(db, "ärger", "example.net", &user), 1);
	assert_string_equal(user.password, "v4");
	users_fini(&user);
	/* As edits by hand, all of it is told to the server. */
	struct change *list = users_read_changes(db, 10);
	const char *const what[] = { "new", "new", "password", "disabled", "deleted" };
	const struct change *change = list;
	for (size_t i = 0; i < 5; i++, change = change->next) {
		assert_non_null(change);
		assert_string_equal(change->what, what[i]);
	}
	assert_null(change);
	users_free_changes(list);
}

static void join(const struct user *user, const char *folded, const char *domain, void *arg)
{
	char *text = arg;
	snprintf(text + strlen(text), 256 - strlen(text), "%s/%s@%s ", user->username, folded, domain);
}

static void accounts_are_listed_page_by_page_in_the_order_of_names(void **state)
{
	(void)state;
	char text[256] = "";
	run("DELETE FROM users; INSERT INTO users (username, domain) VALUES ('b', 'x.org'), ('C', ''), ('a', ''), ('B', 'a.org')");
	assert_int_equal(users_each_behind(db, "", "", 2, join, text), 2);
	assert_string_equal(text, "a/a@example.org B/b@a.org ");
	assert_int_equal(users_each_behind(db, "b", "a.org", 2, join, text), 2);
	assert_int_equal(users_each_behind(db, "c", "example.org", 2, join, text), 0);
	assert_string_equal(text, "a/a@example.org B/b@a.org b/b@x.org C/c@example.org ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_row_gets_domain_and_enabled_by_default),
		cmocka_unit_test(odd_names_are_refused),
		cmocka_unit_test(the_same_name_in_other_case_is_refused),
		cmocka_unit_test(each_change_is_noted_once_and_can_be_consumed),
		cmocka_unit_test(the_servers_own_rehash_is_no_change_and_does_not_overwrite_a_newer_password),
		cmocka_unit_test(names_that_sql_cannot_fold_are_reported_with_their_folded_form),
		cmocka_unit_test(accounts_are_added_changed_and_deleted_by_name),
		cmocka_unit_test(accounts_are_listed_page_by_page_in_the_order_of_names),
	};
	return cmocka_run_group_tests(tests, open_db, close_db);
}
