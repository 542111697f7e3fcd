/* SPDX-License-Identifier: MIT */
/* Fuzz target: what users and operators say and SQLite keeps: accounts and archived messages, through the modules' own
 * functions. Each line of the input is an action, parted by tabs; what was written must be read back, of what was refused there must
 * be nothing, and the tables must be whole at the end. All of it is one transaction, which is rolled back. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>
#include <unistr.h>

#include "core/db.h"
#include "core/log.h"
#include "modules/archive/store.h"
#include "modules/auth_sqlite/users.h"
#include "tests/unit/stanza_equal.h"

#define FIELDS  8
#define ACTIONS 48 /* of one input */
#define PAGE    3
#define DOMAIN  "example.org"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static struct db *files;
static struct sqlite3 *users, *archive;
static struct store *store;
static int64_t user_count, message_count;
static int64_t schemas[2];

/* ---- the databases ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static void close_all(void)
{
	db_thread_fini(files);
	store_free(&store);
	db_free(&files);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int64_t get(struct sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	assert(rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW);
	int64_t number = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return number;
}

static void run(struct sqlite3 *db, const char *sql)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
	assert(rc == SQLITE_OK);
}

/* Everything that makes a schema, as a number. */
static int64_t schema_of(struct sqlite3 *db)
{
	return get(db, "SELECT sum(length(name) + 31 * coalesce(length(sql), 0) + 1000003 * rootpage) FROM sqlite_schema");
}

static void open_all(void)
{
	snprintf(folder, sizeof(folder), "/dev/shm/startalkd-fuzz.XXXXXX");
	if (!mkdtemp(folder)) {
		snprintf(folder, sizeof(folder), "/tmp/startalkd-fuzz.XXXXXX");
		assert(mkdtemp(folder));
	}
	log_setup(LOG_ERR, false);
	files = db_new(folder, NULL, NULL);
	users = files ? db_get(files, "auth_sqlite", USERS_FILE, users_migrations) : NULL;
	archive = files ? db_get(files, "archive", "archive.db", store_migrations) : NULL;
	store = store_new();
	assert(users && archive && store);
	int rc = users_set_default_domain(users, DOMAIN);
	assert(rc == 0);
	schemas[0] = schema_of(users);
	schemas[1] = schema_of(archive);
	atexit(close_all);
}

/* ---- accounts ---- */

struct who {
	const char *name;
	char folded[STK_JID_MAX + 1], domain[STK_JID_MAX + 1];
};

/* Names are any; a domain is one of the server's, which are checked. */
static bool take_who(const char *name, const char *domain, struct who *who)
{
	who->name = name;
	return !strpbrk(domain, "@/") && stk_jid_fold(name, who->folded, sizeof(who->folded)) == 0 &&
	       stk_jid_fold(*domain ? domain : DOMAIN, who->domain, sizeof(who->domain)) == 0;
}

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* There, and as written. A NULL is not compared. */
static void expect_user(const struct who *who, const char *password, const char *salt, const bool *enabled)
{
	struct user user;
	int rc = users_find(users, who->folded, who->domain, &user);
	assert(rc == 1);
	assert(!password || is_same(user.password, password));
	assert(!salt || is_same(user.salt, salt));
	assert(!enabled || user.enabled == *enabled);
	users_fini(&user);
}

static bool is_there(const struct who *who)
{
	struct user user;
	int rc = users_find(users, who->folded, who->domain, &user);
	assert(rc >= 0);
	users_fini(&user);
	return rc == 1;
}

/* As the writer does with what it was asked to write. */
static void settle(int rc)
{
	run(users, rc < 0 ? "ROLLBACK TO one; RELEASE one" : "RELEASE one");
	assert(get(users, "SELECT count(*) FROM users") == user_count);
}

static void add_user(char **field)
{
	struct who who;
	const bool on = true;
	if (!take_who(field[1], field[2], &who)) {
		return;
	}
	bool before = is_there(&who);
	run(users, "SAVEPOINT one");
	int rc = users_add(users, who.name, who.folded, who.domain, field[3]);
	assert(rc == 0 || rc == -EEXIST);
	assert(!before || rc == -EEXIST);
	user_count += rc == 0;
	settle(rc);
	if (rc == 0) {
		expect_user(&who, field[3], NULL, &on);
	}
}

static void import_user(char **field)
{
	struct who who;
	bool update = *field[6] == 'u', enabled = *field[5] != '0';
	if (!take_who(field[1], field[2], &who)) {
		return;
	}
	bool before = is_there(&who);
	const struct user_row row = { .name = field[1], .folded = who.folded, .domain = who.domain, .password = field[3],
		                      .salt = *field[4] ? field[4] : NULL, .enabled = enabled, .with_password = *field[3], .with_enabled = *field[5] };
	run(users, "SAVEPOINT one");
	int rc = users_put(users, &row, update);
	assert(rc >= 0 || rc == -EEXIST);
	assert(!before || update || rc == -EEXIST);
	assert(rc != USERS_ADDED || !before);
	user_count += rc == USERS_ADDED;
	settle(rc);
	if (rc >= 0) {
		expect_user(&who, row.with_password ? row.password : NULL, row.with_password ? row.salt : NULL,
			    row.with_enabled || rc == USERS_ADDED ? &enabled : NULL);
		assert(users_put(users, &row, true) == USERS_SAME);
	}
}

static void change_user(char **field)
{
	struct who who;
	bool enabled = *field[3] == '1';
	if (!take_who(field[1], field[2], &who)) {
		return;
	}
	bool before = is_there(&who);
	run(users, "SAVEPOINT one");
	int rc = *field[0] == 'p' ? users_set_password(users, who.folded, who.domain, field[3]) :
	         *field[0] == 'e' ? users_enable(users, who.folded, who.domain, enabled) :
	                            users_delete(users, who.folded, who.domain);
	assert(before ? rc >= 0 : rc == -ENOENT);
	user_count -= before && *field[0] == 'x';
	settle(rc);
	assert(is_there(&who) == (before && *field[0] != 'x'));
	if (before && *field[0] != 'x') {
		expect_user(&who, *field[0] == 'p' ? field[3] : NULL, NULL, *field[0] == 'e' ? &enabled : NULL);
	}
}

/* As somebody does it with the sqlite3 command; the server then looks at what has changed. */
static void edit_by_hand(char **field)
{
	sqlite3_stmt *stmt;
	run(users, "SAVEPOINT one");
	int rc = sqlite3_prepare_v2(users, "INSERT INTO users (username, domain, password) VALUES (?1, ?2, ?3)", -1, &stmt, NULL);
	assert(rc == SQLITE_OK);
	for (int i = 1; i <= 3; i++) {
		sqlite3_bind_text(stmt, i, field[i], -1, SQLITE_STATIC);
	}
	rc = sqlite3_step(stmt) == SQLITE_DONE ? 0 : -EEXIST;
	sqlite3_finalize(stmt);
	user_count += rc == 0;
	settle(rc);
	struct change *changes = users_read_changes(users, PAGE), *last = changes;
	for (const struct change *change = changes; change; change = change->next) {
		assert(change->username && change->domain && change->what);
		if (change->folded) {
			run(users, "SAVEPOINT one");
			settle(users_refold(users, change->row, change->folded));
		}
	}
	while (last && last->next) {
		last = last->next;
	}
	assert(!last || users_consume(users, last->seq) == 0);
	users_free_changes(changes);
}

struct page {
	struct who last;
	int64_t count;
};

static void see_user(const struct user *user, const char *folded, const char *domain, void *arg)
{
	struct page *page = arg;
	int order = strcmp(page->last.folded, folded);
	assert(user->username && (order < 0 || (order == 0 && strcmp(page->last.domain, domain) < 0)));
	snprintf(page->last.folded, sizeof(page->last.folded), "%s", folded);
	snprintf(page->last.domain, sizeof(page->last.domain), "%s", domain);
	page->count++;
}

static void list_users(void)
{
	struct page page = { 0 };
	int rc;
	do {
		struct who from = page.last;
		rc = users_each_behind(users, from.folded, from.domain, PAGE, see_user, &page);
		assert(rc >= 0 && rc <= PAGE);
	} while (rc == PAGE);
	assert(page.count == user_count);
}

/* ---- messages ---- */

struct seen {
	const struct stk_stanza *stanza; /* that it must be, or NULL */
	int64_t recipient, partner;
	int64_t count, time, seq;
	int flag;
};

static bool see_row(const struct row *row, void *arg)
{
	struct seen *seen = arg;
	struct stk_stanza *stanza = record_stanza(&row->record);
	assert(stanza);
	assert(!seen->stanza || stanza_equal(seen->stanza, stanza));
	assert(seen->flag < 0 || row->flag == seen->flag);
	assert(row->record.time > seen->time || (row->record.time == seen->time && (int64_t)row->seq > seen->seq) || seen->time == INT64_MIN);
	seen->time = row->record.time;
	seen->seq = (int64_t)row->seq;
	seen->count++;
	stk_stanza_unref(stanza);
	return true;
}

static bool see_any(const struct row *row, void *arg)
{
	struct seen *seen = arg;
	assert((int64_t)row->seq > seen->seq && row->flag == STORE_UNDELIVERED);
	seen->seq = (int64_t)row->seq;
	seen->count++;
	return true;
}

/* m FROM TO ID BODY NAME VALUE CHILD */
static struct stk_stanza *make_stanza(char **field)
{
	static const char *const types[] = { "chat", "note", "revoke", "readmark", "consult" };
	char time[32];
	struct stk_stanza *stanza = stk_stanza_new(STK_MESSAGE, types[strlen(field[4]) % 5], NULL);
	struct stk_node *root = stk_stanza_edit(stanza), *body;
	assert(root);
	snprintf(time, sizeof(time), "%lld", 1614599258867LL + (long long)strlen(field[5]));
	stk_stanza_set_from(stanza, field[1]);
	stk_stanza_set_to(stanza, field[2]);
	stk_node_set(root, "msec_times", time);
	stk_node_set(root, "client_type", "ClientTypePC");
	stk_node_set(root, "client_ver", "200012");
	body = stk_node_add(root, "body", NULL);
	stk_node_set(body, "id", field[3]);
	stk_node_set(body, "msgType", "1");
	stk_node_set_text(body, field[4]);
	if (*field[5]) {
		stk_node_set(strlen(field[6]) & 1 ? root : body, field[5], field[6]);
	}
	if (*field[7]) {
		struct stk_node *child = stk_node_add(root, "header", NULL);
		stk_node_set(child, "name", field[7]);
		stk_node_set(child, "value", field[6]);
	}
	return stanza;
}

static void check_row(struct seen *seen, uint64_t row)
{
	int rc = store_row(archive, row, see_row, seen);
	assert(rc == 0 && seen->count == 1);
}

static void store_message(char **field)
{
	struct stk_stanza *stanza = make_stanza(field);
	struct record record;
	uint64_t row = 0;
	int64_t time = 0;
	int rc = record_read(&record, stanza);
	if (rc == 0) {
		struct seen seen = { .stanza = stanza, .time = INT64_MIN, .flag = STORE_UNDELIVERED };
		store_begin(store, archive);
		rc = store_insert(store, archive, &record, &row, &time);
		assert(rc == 0 || rc == -EEXIST);
		message_count += rc == 0 && row;
		assert(get(archive, "SELECT count(*) FROM messages") == message_count);
		if (rc == 0 && row) {
			assert(time == record.time);
			check_row(&seen, row);
			uint64_t again = 1;
			rc = store_insert(store, archive, &record, &again, &time);
			assert(rc == 0 && again == 0 && time == record.time);
		}
	}
	record_fini(&record);
	stk_stanza_unref(stanza);
}

/* The number of a JID, which is the same for the one who writes and the ones who read. */
static int64_t jid_of(const char *text, bool add)
{
	store_begin(store, archive);
	int64_t id = store_jid(store, archive, text, add), found = store_find_jid(archive, text);
	assert(id >= 0 && id == found && (!add || id > 0));
	return id;
}

static void mark(char **field)
{
	int64_t recipient = jid_of(field[1], false);
	assert(store_mark(archive, recipient, field[2], *field[3] == '3' ? STORE_READ : STORE_DELIVERED) == 0);
	struct store_sweep sweep = { .recipient = recipient, .sender = jid_of(field[3], false), .time = INT64_MAX };
	int rc, steps = 0;
	while ((rc = store_sweep(store, archive, &sweep)) > 0 && *field[4]) {
		assert(++steps < 1000);
	}
	assert(rc >= 0);
}

static void take_back(char **field)
{
	struct stk_stanza *stanza = make_stanza(field);
	struct record record;
	const char *const partners[] = { field[2], field[6], NULL };
	int64_t before = get(archive, "SELECT count(*) FROM revoked");
	int rc = record_read(&record, stanza);
	if (rc == 0) {
		record.type = RECORD_REVOKE;
		store_begin(store, archive);
		rc = store_revoke(store, archive, &record, field[7], *field[5] ? record.time : 0, record.time, partners);
		int64_t after = get(archive, "SELECT count(*) FROM revoked");
		assert(rc == 0 || rc == -EACCES || rc == -ENOENT);
		assert(after == before + (rc == 0 && after != before));
	}
	record_fini(&record);
	stk_stanza_unref(stanza);
}

static void read_back(char **field)
{
	struct seen talk = { .time = INT64_MIN, .flag = -1 }, waiting = { 0 };
	struct store_talk question = { .user = jid_of(field[1], false), .partner = jid_of(field[2], false), .to = { INT64_MAX, INT64_MAX },
		                       .from = { strtoll(field[3], NULL, 10), strtoll(field[4], NULL, 10) }, .most = 100 };
	assert(store_each_of_talk(archive, &question, see_row, &talk) == 0);
	int64_t last = get(archive, "SELECT coalesce(max(seq), 0) FROM messages");
	assert(last >= 0 && store_each_undelivered(archive, question.user, 0, (uint64_t)last, see_any, &waiting) == 0);
	assert(talk.count <= message_count && waiting.count <= message_count);
	assert(store_skip_undelivered(archive, question.user, (uint64_t)last, PAGE) >= 0);
}

static void drop(char **field)
{
	int64_t user = jid_of(field[1], false), last = store_excess(archive, user, *field[2] ? *field[2] % 4 : 0);
	assert(last >= 0);
	int rc = *field[3] ? store_expire(archive, 1614599258867 + *field[3] % 8) : store_trim(archive, user, (uint64_t)last);
	assert(rc >= 0 && rc <= message_count);
	message_count -= rc;
	assert(get(archive, "SELECT count(*) FROM messages") == message_count);
}

/* ---- the input ---- */

static void act(char **field)
{
	switch (*field[0]) {
	case 'a': add_user(field); break;
	case 'i': import_user(field); break;
	case 'p':
	case 'e':
	case 'x': change_user(field); break;
	case 'h': edit_by_hand(field); break;
	case 'l': list_users(); break;
	case 'm': store_message(field); break;
	case 'j': (void)jid_of(field[1], true); break;
	case 'k': mark(field); break;
	case 'v': take_back(field); break;
	case 'r': read_back(field); break;
	case 'd': drop(field); break;
	default: break;
	}
}

static void check_end(struct sqlite3 *db, int64_t schema)
{
	assert(schema_of(db) == schema);
	assert(get(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'") == 0);
	assert(get(db, "SELECT count(*) FROM pragma_foreign_key_check") == 0);
}

static void act_all(char *text)
{
	static char none[1];
	for (int i = 0; i < ACTIONS && text; i++) {
		char *field[FIELDS], *line = strsep(&text, "\n");
		for (int n = 0; n < FIELDS; n++) {
			char *part = line ? strsep(&line, "\t") : NULL;
			field[n] = part ? part : none;
		}
		act(field);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (u8_check(data, size)) {
		return 0; /* text that is none gets no further than the codec */
	}
	if (!files) {
		open_all();
	}
	char *text = strndup((const char *)data, size);
	assert(text);
	run(users, "BEGIN IMMEDIATE");
	run(archive, "BEGIN IMMEDIATE");
	user_count = message_count = 0;
	act_all(text);
	list_users();
	check_end(users, schemas[0]);
	check_end(archive, schemas[1]);
	run(users, "ROLLBACK");
	run(archive, "ROLLBACK");
	assert(get(users, "SELECT count(*) FROM users") == 0 && get(archive, "SELECT count(*) FROM messages") == 0);
	free(text);
	return 0;
}
