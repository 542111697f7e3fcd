/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sqlite3.h>

#include "core/db.h"
#include "modules/archive/store.h"
#include "tests/unit/stanza_equal.h"

/* A real file, opened as the server opens it; transactions as its writer makes them. */
static char dir[] = "/tmp/test_archive.XXXXXX";
static struct db *files;
static struct sqlite3 *db;
static struct store *store;
static char name[16];

static int open_db(void **state)
{
	(void)state;
	static int n;
	snprintf(name, sizeof(name), "a%d.db", n++);
	files = files ? files : mkdtemp(dir) ? db_new(dir, NULL, NULL) : NULL;
	db = files ? db_get(files, "archive", name, store_migrations) : NULL;
	store = store_new();
	return db && store ? 0 : -1;
}

static int close_db(void **state)
{
	(void)state;
	db_thread_fini(files);
	store_free(&store);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	char command[64];
	db_free(&files);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static void run(const char *sql)
{
	char *err = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &err) != SQLITE_OK) {
		fail_msg("%s: %s", sql, err);
	}
}

static int64_t get(const char *sql)
{
	sqlite3_stmt *stmt;
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	int64_t number = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return number;
}

static struct record message(const char *sender, const char *recipient, const char *id, int64_t time)
{
	return (struct record){ .sender = sender,
				.recipient = recipient,
				.id = id,
				.body = "text",
				.time = time,
				.type = RECORD_CHAT,
				.kind = 1,
				.client = 3,
				.version = 200012,
				.resource = "R1" };
}

static int put(const struct record *record, uint64_t *row, int64_t *time)
{
	store_begin(store, db);
	return store_insert(store, db, record, row, time);
}

/* Must be new. */
static uint64_t add(const char *sender, const char *recipient, const char *id, int64_t time)
{
	struct record record = message(sender, recipient, id, time);
	uint64_t row;
	int64_t stored;
	assert_int_equal(put(&record, &row, &stored), 0);
	assert_int_not_equal(row, 0);
	assert_int_equal(stored, time);
	return row;
}

static int64_t jid(const char *bare)
{
	return store_find_jid(db, bare);
}

static int flag_of(const char *id)
{
	char sql[128];
	snprintf(sql, sizeof(sql), "SELECT flag FROM messages WHERE id = '%s'", id);
	return (int)get(sql);
}

/* ---- rows ---- */

static void a_message_sent_again_makes_no_second_row(void **state)
{
	(void)state;
	uint64_t row;
	int64_t time = 0;
	add("a@d", "b@d", "m1", 1000);
	struct record again = message("a@d", "b@d", "m1", 2000);
	assert_int_equal(put(&again, &row, &time), 0);
	assert_int_equal(row, 0);
	assert_int_equal(time, 1000);
	again.body = "other text";
	assert_int_equal(put(&again, &row, &time), -EEXIST);
	again = message("a@d", "c@d", "m1", 2000);
	assert_int_equal(put(&again, &row, &time), -EEXIST);
	add("c@d", "b@d", "m1", 3000); /* another sender's id is another */
	assert_int_equal(get("SELECT count(*) FROM messages"), 2);
}

static bool first_row(const struct row *row, void *arg)
{
	struct row *copy = arg;
	*copy = *row;
	assert_string_equal(row->record.sender, "a@d");
	assert_string_equal(row->record.recipient, "b@d");
	assert_string_equal(row->record.resource, "R1");
	assert_string_equal(row->record.id, "m1");
	assert_string_equal(row->record.body, "text");
	assert_string_equal(row->record.more, "{\"message\":{\"x\":\"y\"}}");
	return true;
}

static void a_row_is_read_as_it_was_written(void **state)
{
	(void)state;
	static char more[] = "{\"message\":{\"x\":\"y\"}}";
	struct record record = message("a@d", "b@d", "m1", 1000);
	struct row row = { 0 };
	uint64_t seq;
	int64_t time;
	record.more = more;
	record.client = RECORD_NONE;
	record.version = -1;
	assert_int_equal(put(&record, &seq, &time), 0);
	assert_int_equal(store_row(db, seq, first_row, &row), 0);
	assert_int_equal(row.seq, seq);
	assert_int_equal(row.record.client, RECORD_NONE);
	assert_int_equal(row.record.version, -1);
	assert_int_equal(row.record.kind, 1);
	row.seq = 0;
	assert_int_equal(store_row(db, seq + 1, first_row, &row), 0);
	assert_int_equal(row.seq, 0);
}

static void a_number_that_was_rolled_back_is_not_used_again(void **state)
{
	(void)state;
	add("a@d", "b@d", "m1", 1);
	run("BEGIN IMMEDIATE");
	store_begin(store, db);
	assert_int_equal(store_jid(store, db, "lost@d", true), 3);
	run("ROLLBACK"); /* as when the commit fails */
	store_begin(store, db);
	assert_int_equal(store_jid(store, db, "lost@d", false), 0);
	assert_int_equal(store_jid(store, db, "other@d", true), 3);
	assert_int_equal(store_jid(store, db, "a@d", true), 1);
	assert_int_equal(get("SELECT id FROM jids WHERE jid = 'other@d'"), 3);
}

static void who_was_told_of_rollbacks_meanwhile_does_not_matter(void **state)
{
	(void)state;
	struct store *newer = store_new();
	add("a@d", "b@d", "m1", 1);
	run("BEGIN IMMEDIATE");
	store_begin(store, db);
	assert_int_equal(store_jid(store, db, "lost@d", true), 3);
	store_begin(newer, db);
	run("ROLLBACK");
	store_begin(store, db);
	assert_int_equal(store_jid(store, db, "lost@d", false), 0);
	store_free(&newer);
}

static void row_numbers_are_never_used_again(void **state)
{
	(void)state;
	add("a@d", "b@d", "m1", 1);
	uint64_t row = add("a@d", "b@d", "m2", 2);
	run("DELETE FROM messages");
	assert_true(add("a@d", "b@d", "m3", 3) > row);
}

/* ---- flags ---- */

static void flags_only_grow(void **state)
{
	(void)state;
	uint64_t row = add("a@d", "b@d", "m1", 1);
	int64_t bob = jid("b@d");
	assert_int_equal(store_mark(db, jid("a@d"), "m1", STORE_READ), 0);
	assert_int_equal(flag_of("m1"), 0); /* not the recipient's mark */
	assert_int_equal(store_mark(db, bob, "m1", STORE_DELIVERED), 0);
	assert_int_equal(flag_of("m1"), 1);
	assert_int_equal(store_mark(db, bob, "m1", STORE_READ), 0);
	assert_int_equal(flag_of("m1"), 3);
	assert_int_equal(store_mark(db, bob, "m1", STORE_DELIVERED), 0);
	assert_int_equal(store_confirm(db, &row, 1), 0);
	assert_int_equal(flag_of("m1"), 3);
	assert_int_equal(store_mark(db, bob, "nosuch", STORE_READ), 0);
	uint64_t rows[] = { add("a@d", "b@d", "m2", 2), 999 };
	assert_int_equal(store_confirm(db, rows, 2), 0);
	assert_int_equal(flag_of("m2"), 1);
}

static void all_up_to_a_time_are_read_in_steps(void **state)
{
	(void)state;
	char id[16];
	run("BEGIN");
	for (int i = 1; i <= 1300; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		uint64_t row = add(i % 2 ? "a@d" : "c@d", "b@d", id, i);
		if (i > 700) {
			assert_int_equal(store_confirm(db, &row, 1), 0);
		}
	}
	add("b@d", "a@d", "back", 1);
	run("COMMIT");
	struct store_sweep sweep = { .recipient = jid("b@d"), .sender = jid("a@d"), .time = 1001 };
	int steps = 1, rc;
	while ((rc = store_sweep(store, db, &sweep)) > 0) {
		steps++;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(steps, 2);
	assert_int_equal(get("SELECT count(*) FROM messages WHERE flag = 3"), 501);
	assert_int_equal(get("SELECT max(time) FROM messages WHERE flag = 3"), 1001);
	assert_int_equal(get("SELECT count(*) FROM messages WHERE flag = 3 AND time % 2 = 0"), 0);
	sweep = (struct store_sweep){ .recipient = jid("b@d"), .time = INT64_MAX };
	while ((rc = store_sweep(store, db, &sweep)) > 0) {
	}
	assert_int_equal(rc, 0);
	assert_int_equal(get("SELECT count(*) FROM messages WHERE flag = 3"), 1300);
	assert_int_equal(flag_of("back"), 0);
}

static int sweep_all(const char *recipient, const char *sender, int64_t time)
{
	struct store_sweep sweep = { .recipient = jid(recipient), .sender = sender ? jid(sender) : 0, .time = time };
	int steps = 1, rc;
	while ((rc = store_sweep(store, db, &sweep)) > 0) {
		steps++;
	}
	assert_int_equal(rc, 0);
	return steps;
}

static void what_comes_late_below_a_read_mark_is_read_by_the_next(void **state)
{
	(void)state;
	add("a@d", "b@d", "m1", 1000);
	add("c@d", "b@d", "c1", 1000);
	sweep_all("b@d", NULL, INT64_MAX);
	assert_int_equal(get("SELECT count(*) FROM read_to WHERE time = 1000"), 2);
	add("a@d", "b@d", "same", 1000);
	add("c@d", "b@d", "before", 400);
	assert_int_equal(flag_of("same") + flag_of("before"), 0);
	sweep_all("b@d", "a@d", 999);
	assert_int_equal(flag_of("same"), 0);
	sweep_all("b@d", NULL, 1000);
	assert_int_equal(flag_of("same"), 3);
	assert_int_equal(flag_of("before"), 3);
	assert_int_equal(get("SELECT count(*) FROM read_to WHERE time = 1000"), 2);

	struct store *newer = store_new(); /* which has not seen the marks */
	store_free(&store);
	store = newer;
	store_begin(store, db);
	add("a@d", "b@d", "later", 700);
	sweep_all("b@d", "a@d", 1000);
	assert_int_equal(flag_of("later"), 3);
}

static void many_messages_of_one_millisecond_are_read_together(void **state)
{
	(void)state;
	char id[16];
	run("BEGIN");
	for (int i = 1; i <= 1300; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		add("a@d", "b@d", id, i < 100 ? i : 100);
	}
	run("COMMIT");
	assert_int_equal(sweep_all("b@d", "a@d", 100), 2);
	assert_int_equal(get("SELECT count(*) FROM messages WHERE flag = 3"), 1300);
}

static void what_is_read_is_not_looked_at_again(void **state)
{
	(void)state;
	char id[16];
	run("BEGIN");
	for (int i = 1; i <= 1300; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		add("a@d", "b@d", id, i);
	}
	run("COMMIT");
	assert_int_equal(sweep_all("b@d", "a@d", 1300), 3);
	add("a@d", "b@d", "next", 1301);
	assert_int_equal(sweep_all("b@d", "a@d", 1301), 1);
	assert_int_equal(flag_of("next"), 3);
	run("UPDATE messages SET flag = 1 WHERE id = 'm5'"); /* behind the server's back: it shows what is looked at */
	assert_int_equal(sweep_all("b@d", "a@d", 1301), 1);
	assert_int_equal(flag_of("m5"), 1);
}

static void more_talks_than_a_step_looks_at_are_read(void **state)
{
	(void)state;
	char from[16], id[16];
	run("BEGIN");
	for (int i = 1; i <= 250; i++) {
		snprintf(from, sizeof(from), "a%d@d", i);
		snprintf(id, sizeof(id), "m%d", i);
		add(from, "b@d", id, i);
	}
	run("COMMIT");
	assert_int_equal(sweep_all("b@d", NULL, INT64_MAX), 3);
	assert_int_equal(get("SELECT count(*) FROM messages WHERE flag = 3"), 250);
}

static void tables_of_the_first_version_are_brought_up_to_date(void **state)
{
	(void)state;
	const char *const first[] = { store_migrations[0], NULL };
	db = db_get(files, "archive", "first.db", first);
	assert_non_null(db);
	run("INSERT INTO jids (id, jid) VALUES (1, 'a@d'), (2, 'b@d');"
	    "INSERT INTO messages (sender, recipient, id, time, flag, type, body) VALUES (1, 2, 'm0', 1, 0, 6, ''), (1, 2, 'm1', 2, 1, 6, ''), "
	    "(1, 2, 'm3', 3, 3, 6, '')");
	db = db_get(files, "archive", "first.db", store_migrations);
	assert_non_null(db);
	assert_int_equal(get("SELECT count(*) FROM sqlite_schema WHERE name = 'messages_unread'"), 0);
	struct store_status status;
	assert_int_equal(store_status(db, &status), 0);
	assert_int_equal(status.rows, 3);
	assert_int_equal(status.undelivered, 1);
	sweep_all("b@d", "a@d", 2);
	assert_int_equal(get("SELECT count(*) FROM messages WHERE flag = 3"), 3);
	assert_int_equal(get("SELECT time FROM read_to"), 2);
}

/* ---- revoking ---- */

static int revoke_by(const char *author, const char *to, const char *id, int64_t now)
{
	struct record notice = message(author, to, id, now);
	const char *partners[] = { "a@d", to, NULL };
	notice.type = RECORD_REVOKE;
	notice.kind = -1;
	notice.body = "[notice]";
	store_begin(store, db);
	return store_revoke(store, db, &notice, id, now - 120, now, partners);
}

static void the_author_revokes_in_time_and_nobody_else_does(void **state)
{
	(void)state;
	uint64_t row;
	int64_t time;
	add("a@d", "b@d", "m1", 1000);
	assert_int_equal(revoke_by("b@d", "a@d", "m1", 1010), -EACCES);
	assert_int_equal(revoke_by("stranger@d", "b@d", "m1", 1010), -EACCES);
	assert_int_equal(revoke_by("a@d", "c@d", "m1", 1010), -ENOENT);
	assert_int_equal(revoke_by("a@d", "b@d", "m2", 1010), -ENOENT);
	assert_int_equal(revoke_by("a@d", "b@d", "m1", 1121), -EACCES);
	assert_int_equal(get("SELECT count(*) FROM revoked"), 0);
	assert_int_equal(revoke_by("a@d", "b@d", "m1", 1120), 0);
	assert_int_equal(
		get("SELECT count(*) FROM messages WHERE type = 14 AND kind = -1 AND body = '[notice]' AND time = 1000 AND flag = 0"),
		1);
	assert_int_equal(
		get("SELECT count(*) FROM revoked WHERE type = 6 AND kind = 1 AND body = 'text' AND at = 1120"), 1);
	assert_int_equal(revoke_by("a@d", "b@d", "m1", 9999), 0); /* again, however late */
	assert_int_equal(get("SELECT count(*) FROM revoked"), 1);
	struct record again = message("a@d", "b@d", "m1", 2000);
	assert_int_equal(put(&again, &row, &time), 0);
	assert_int_equal(row, 0);
	assert_int_equal(time, 1000);
	again.body = "[notice]";
	assert_int_equal(put(&again, &row, &time), -EEXIST);
}

/* ---- reading ---- */

struct found {
	size_t count, stop;
	uint64_t seqs[64];
};

static bool note(const struct row *row, void *arg)
{
	struct found *found = arg;
	found->seqs[found->count++] = row->seq;
	return found->count != found->stop;
}

static void the_undelivered_come_oldest_first_within_their_bounds(void **state)
{
	(void)state;
	uint64_t rows[5];
	static const char *const ids[] = { "m0", "m1", "m2", "m3", "m4" };
	for (int i = 0; i < 5; i++) {
		rows[i] = add("a@d", "b@d", ids[i], 10 - i); /* the clock says nothing about the order */
	}
	add("a@d", "c@d", "n", 1);
	store_confirm(db, &rows[1], 1);
	struct found found = { 0 };
	assert_int_equal(store_each_undelivered(db, jid("b@d"), 0, INT64_MAX, note, &found), 0);
	assert_int_equal(found.count, 4);
	assert_int_equal(found.seqs[0], rows[0]);
	assert_int_equal(found.seqs[1], rows[2]);
	assert_int_equal(found.seqs[3], rows[4]);
	found = (struct found){ .stop = 1 };
	assert_int_equal(store_each_undelivered(db, jid("b@d"), rows[0], rows[3], note, &found), 0);
	assert_int_equal(found.seqs[0], rows[2]);
	found = (struct found){ 0 };
	assert_int_equal(store_each_undelivered(db, jid("b@d"), rows[2], rows[3], note, &found), 0);
	assert_int_equal(found.count, 1);
	assert_int_equal(store_skip_undelivered(db, jid("b@d"), rows[4], 2), (int64_t)rows[2]);
	assert_int_equal(store_skip_undelivered(db, jid("b@d"), rows[4], 4), 0);
}

static void a_talk_has_both_directions_in_order_and_pages_without_gaps(void **state)
{
	(void)state;
	char id[16];
	uint64_t rows[20];
	for (int i = 0; i < 20; i++) { /* four messages in each millisecond */
		snprintf(id, sizeof(id), "m%d", i);
		rows[i] = i % 3 ? add("a@d", "b@d", id, 100 + i / 4) : add("b@d", "a@d", id, 100 + i / 4);
		snprintf(id, sizeof(id), "n%d", i);
		add("c@d", "b@d", id, 100 + i);
	}
	struct store_talk talk = {
		.user = jid("a@d"), .partner = jid("b@d"), .from = { -1, INT64_MAX }, .to = { 1000, 0 }, .most = 7
	};
	size_t at = 0;
	for (struct found found = { .count = 1 }; found.count; at += found.count) {
		found = (struct found){ 0 };
		assert_int_equal(store_each_of_talk(db, &talk, note, &found), 0);
		for (size_t i = 0; i < found.count; i++) {
			assert_int_equal(found.seqs[i], rows[at + i]);
			talk.from = (struct store_point){ 100 + (int64_t)(at + i) / 4, (int64_t)found.seqs[i] };
		}
	}
	assert_int_equal(at, 20);
	talk = (struct store_talk){ .user = jid("b@d"),
				    .partner = jid("a@d"),
				    .from = { 100, INT64_MAX },
				    .to = { 104, 0 },
				    .newest_first = true,
				    .most = 50 };
	struct found found = { 0 };
	assert_int_equal(store_each_of_talk(db, &talk, note, &found), 0);
	assert_int_equal(found.count, 12); /* the times 101, 102 and 103 */
	assert_int_equal(found.seqs[0], rows[15]);
	assert_int_equal(found.seqs[11], rows[4]);
}

static void a_talk_with_oneself_has_each_message_once(void **state)
{
	(void)state;
	add("a@d", "a@d", "m1", 1);
	struct store_talk talk = {
		.user = jid("a@d"), .partner = jid("a@d"), .from = { -1, INT64_MAX }, .to = { 1000, 0 }, .most = 7
	};
	struct found found = { 0 };
	assert_int_equal(store_each_of_talk(db, &talk, note, &found), 0);
	assert_int_equal(found.count, 1);
}

static void no_statement_looks_at_more_rows_than_it_must(void **state)
{
	(void)state;
	struct found found = { 0 };
	struct store_talk talk = { .user = 1, .partner = 2, .most = 1 };
	struct store_sweep sweep = { .recipient = 2 };
	uint64_t row = add("a@d", "b@d", "m1", 1000);
	store_confirm(db, &row, 1);
	store_mark(db, 2, "m1", STORE_READ);
	store_sweep(store, db, &sweep);
	revoke_by("a@d", "b@d", "m1", 1000);
	store_each_undelivered(db, 2, 0, 9, note, &found);
	store_skip_undelivered(db, 2, 9, 0);
	store_row(db, row, note, &found);
	store_each_of_talk(db, &talk, note, &found);
	talk.newest_first = true;
	store_each_of_talk(db, &talk, note, &found);
	store_trim(db, 2, 9);
	store_excess(db, 2, 0);
	store_next_jid(db, 0);
	int count = 0;
	for (sqlite3_stmt *each = sqlite3_next_stmt(db, NULL); each; each = sqlite3_next_stmt(db, each)) {
		char sql[4096], plan[4096] = "";
		sqlite3_stmt *stmt;
		count++;
		snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s", sqlite3_sql(each));
		assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
		while (sqlite3_step(stmt) == SQLITE_ROW) {
			strcat(strcat(plan, (const char *)sqlite3_column_text(stmt, 3)), "\n");
		}
		sqlite3_finalize(stmt);
		/* What is sorted: a recipient with too many rows, and one page of each direction of a talk. */
		const char *sort = strstr(plan, "TEMP B-TREE"), *second = sort ? strstr(sort + 1, "TEMP B-TREE") : NULL;
		bool sorts = strstr(sql, "UNION") ? second && strstr(second + 1, "TEMP B-TREE")
						  : sort && !strstr(sql, "OFFSET ?2");
		if (strstr(plan, "SCAN messages") || sorts ||
		    (strstr(sql, "WHERE id = ?1 AND recipient") && !strstr(plan, "messages_id (id=?)"))) {
			fail_msg("%s: %s", sql, plan);
		}
	}
	assert_true(count > 15);
}

/* ---- keeping it small ---- */

static void old_rows_go_in_steps_and_take_their_originals_along(void **state)
{
	(void)state;
	char id[16];
	run("BEGIN");
	for (int i = 1; i <= 1200; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		add("a@d", "b@d", id, i);
	}
	run("COMMIT");
	assert_int_equal(revoke_by("a@d", "b@d", "m600", 610), 0);
	assert_int_equal(revoke_by("a@d", "b@d", "m1100", 1110), 0);
	assert_int_equal(store_expire(db, 701), 500);
	assert_int_equal(store_expire(db, 701), 200);
	assert_int_equal(store_expire(db, 701), 0);
	assert_int_equal(get("SELECT min(time) FROM messages"), 701);
	assert_int_equal(get("SELECT count(*) FROM revoked"), 1);
}

static void a_recipient_keeps_the_newest_rows(void **state)
{
	(void)state;
	char id[16];
	run("BEGIN");
	for (int i = 1; i <= 800; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		add(i % 2 ? "a@d" : "c@d", "b@d", id, i);
	}
	add("b@d", "a@d", "back", 1);
	run("COMMIT");
	int64_t bob = jid("b@d");
	assert_int_equal(store_excess(db, bob, 800), 0);
	assert_int_equal(store_excess(db, jid("a@d"), 1), 0);
	int64_t last = store_excess(db, bob, 100);
	assert_int_equal(get("SELECT max(seq) FROM messages WHERE time = 700 AND recipient = 2"), last);
	assert_int_equal(store_trim(db, bob, (uint64_t)last), 500);
	assert_int_equal(store_trim(db, bob, (uint64_t)last), 200);
	assert_int_equal(store_trim(db, bob, (uint64_t)last), 0);
	assert_int_equal(get("SELECT min(time) FROM messages WHERE recipient = 2"), 701);
	assert_int_equal(get("SELECT count(*) FROM messages"), 101);
	int64_t seen = 0, count = 0;
	while ((seen = store_next_jid(db, seen)) > 0) {
		count++;
	}
	assert_int_equal(count, 3);
}

static void freed_pages_go_back_within_a_transaction(void **state)
{
	(void)state;
	run("INSERT INTO jids (jid) VALUES ('x'); INSERT INTO messages (sender, recipient, id, time, type, body) "
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
	    "SELECT 1, 1, i, 1, 6, printf('%.3000c', 'x') FROM n");
	run("DELETE FROM messages");
	struct store_status before, after;
	assert_int_equal(store_status(db, &before), 0);
	assert_true(before.free_bytes > 256 * 4096);
	run("BEGIN IMMEDIATE");
	run("SAVEPOINT one");
	assert_int_equal(store_shrink(db), 256);
	run("RELEASE one");
	run("COMMIT");
	assert_int_equal(store_status(db, &after), 0);
	assert_int_equal(before.bytes - after.bytes, 256 * 4096);
	int pages = 1;
	while (pages > 0) {
		pages = store_shrink(db);
	}
	assert_int_equal(pages, 0);
	assert_int_equal(store_status(db, &after), 0);
	assert_int_equal(after.free_bytes, 0);
}

static void people_read_the_view(void **state)
{
	(void)state;
	add("a@d", "b@d", "m1", 1614599258867);
	assert_int_equal(
		get("SELECT count(*) FROM history WHERE sender = 'a@d' AND recipient = 'b@d' AND type = 'chat' AND state = 'undelivered' "
		    "AND at GLOB '2021-03-01 [0-2][0-9]:47:38.867' AND id = 'm1' AND body = 'text'"),
		1);
}

static void the_table_of_types_says_what_the_server_means(void **state)
{
	(void)state;
	int count = 0;
	for (int type = 0; type < 256; type++) {
		char sql[96];
		const char *of = record_type_name(type);
		if (of) {
			snprintf(sql, sizeof(sql), "SELECT count(*) FROM types WHERE id = %d AND name = '%s'", type,
				 of);
			assert_int_equal(get(sql), 1);
			assert_int_equal(record_type(of), type);
			count++;
		}
	}
	assert_int_equal(get("SELECT count(*) FROM types"), count);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, open_db, close_db)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_message_sent_again_makes_no_second_row),
		TEST(a_row_is_read_as_it_was_written),
		TEST(a_number_that_was_rolled_back_is_not_used_again),
		TEST(who_was_told_of_rollbacks_meanwhile_does_not_matter),
		TEST(row_numbers_are_never_used_again),
		TEST(flags_only_grow),
		TEST(all_up_to_a_time_are_read_in_steps),
		TEST(what_comes_late_below_a_read_mark_is_read_by_the_next),
		TEST(many_messages_of_one_millisecond_are_read_together),
		TEST(what_is_read_is_not_looked_at_again),
		TEST(more_talks_than_a_step_looks_at_are_read),
		TEST(tables_of_the_first_version_are_brought_up_to_date),
		TEST(the_author_revokes_in_time_and_nobody_else_does),
		TEST(the_undelivered_come_oldest_first_within_their_bounds),
		TEST(a_talk_has_both_directions_in_order_and_pages_without_gaps),
		TEST(a_talk_with_oneself_has_each_message_once),
		TEST(no_statement_looks_at_more_rows_than_it_must),
		TEST(old_rows_go_in_steps_and_take_their_originals_along),
		TEST(a_recipient_keeps_the_newest_rows),
		TEST(freed_pages_go_back_within_a_transaction),
		TEST(people_read_the_view),
		TEST(the_table_of_types_says_what_the_server_means),
	};
	return cmocka_run_group_tests(tests, NULL, remove_dir);
}
