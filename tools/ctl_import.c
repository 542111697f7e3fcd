/* SPDX-License-Identifier: MIT */
/* startalkctl user import: makes requests of a table of accounts. All of it is checked by the server before anything is
 * written; then it is written in portions, each wholly or not at all. */

#include "tools/ctl_import.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <startalkd/jid.h>

#include "tools/ctl_module.h"

#define PORTION_ROWS  500
#define PORTION_BYTES 400000 /* of texts; a request has room for 1 MiB, and an escape may make six of one */
#define FAULTS_MAX    100

enum column { NAME, DOMAIN_NAME, PASSWORD, SALT, ENABLED, FROZEN, HIRED, COLUMNS };

static const char *const names[COLUMNS][4] = {
	[NAME] = { "username", "user_id", "user" },
	[DOMAIN_NAME] = { "domain", "host" },
	[PASSWORD] = { "password" },
	[SALT] = { "pwd_salt", "salt" },
	[ENABLED] = { "enabled" },
	[FROZEN] = { "frozen_flag", "frozen" },
	[HIRED] = { "hire_flag", "hired" },
};

struct account {
	char *folded; /* to find the same name twice */
	long line;
};

struct import {
	struct site site;
	const char *file, *domain;
	bool dry, update, json;
	int at[COLUMNS]; /* where each column is, or -1 */
	json_t *portions; /* of rows */
	size_t bytes;     /* of the last */
	struct account *accounts;
	size_t count, cap, faults;
	json_int_t added, updated, unchanged;
};

static void row_fault(struct import *import, long line, const char *what)
{
	import->faults++;
	if (import->faults <= FAULTS_MAX) {
		ctl_error("%s: line %ld: %s", import->file, line, what);
	}
}

/* ---- columns ---- */

static int find_column(const char *title)
{
	for (int column = 0; column < COLUMNS; column++) {
		for (int i = 0; i < 4 && names[column][i]; i++) {
			if (strcasecmp(names[column][i], title) == 0) {
				return column;
			}
		}
	}
	return -1;
}

static int find_columns(struct import *import, const struct table *table)
{
	for (int column = 0; column < COLUMNS; column++) {
		import->at[column] = -1;
	}
	for (size_t i = 0; i < table->columns; i++) {
		int column = find_column(table->titles[i]);
		if (column >= 0 && import->at[column] >= 0) {
			ctl_error("%s: two columns mean the same: %s", import->file, table->titles[i]);
			return -EINVAL;
		}
		if (column >= 0) {
			import->at[column] = (int)i;
		} else if (!table->dump) {
			ctl_error("%s: column %s is not known, and passed over", import->file, table->titles[i]);
		}
	}
	if (import->at[NAME] < 0) {
		ctl_error("%s: no column username; the first line has to have the names of the columns, as: username,password,pwd_salt,enabled,domain",
			  import->file);
		return -EINVAL;
	}
	return 0;
}

static const char *field_of(const struct import *import, char *const *fields, enum column column)
{
	const char *text = import->at[column] < 0 ? NULL : fields[import->at[column]];
	return text && *text ? text : NULL;
}

/* Numbers are no up to 0. -1: neither yes nor no. */
static int read_flag(const char *text)
{
	static const char *const words[2][5] = { { "f", "false", "n", "no", "off" }, { "t", "true", "y", "yes", "on" } };
	for (int value = 0; value < 2; value++) {
		for (int i = 0; i < 5; i++) {
			if (strcasecmp(words[value][i], text) == 0) {
				return value;
			}
		}
	}
	char *end = NULL;
	long number = strtol(text, &end, 10);
	return end != text && !*end ? number > 0 : -1;
}

/* May the account log in? 1, 0; -1: nothing is said of it; -EINVAL, told. Whoever is frozen, or not hired, may not. */
static int read_enabled(struct import *import, char *const *fields, long line)
{
	static const struct {
		enum column column;
		bool allows;
	} flags[] = { { ENABLED, true }, { FROZEN, false }, { HIRED, true } };
	int enabled = -1;
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		const char *text = field_of(import, fields, flags[i].column);
		int value = text ? read_flag(text) : -1;
		char what[96];
		if (text && value < 0) {
			snprintf(what, sizeof(what), "'%.20s' is neither yes nor no", text);
			row_fault(import, line, what);
			return -EINVAL;
		}
		bool allowed = text && (value != 0) == flags[i].allows;
		enabled = !text ? enabled : enabled == 0 ? 0 : allowed;
	}
	return enabled;
}

/* ---- rows ---- */

static int remember(struct import *import, const char *name, long line)
{
	char whole[STK_JID_MAX + 1], folded[STK_JID_MAX + 1];
	const char *at = strchr(name, '@') ? "" : "@-"; /* any domain, the same for all */
	if (snprintf(whole, sizeof(whole), "%s%s", name, at) >= (int)sizeof(whole) || stk_jid_fold(whole, folded, sizeof(folded)) < 0) {
		return 0; /* the server will say what is wrong with it */
	}
	if (import->count == import->cap) {
		size_t cap = import->cap ? 2 * import->cap : 256;
		struct account *accounts = realloc(import->accounts, cap * sizeof(*accounts));
		if (!accounts) {
			return -ENOMEM;
		}
		import->accounts = accounts;
		import->cap = cap;
	}
	char *copy = strdup(folded);
	import->accounts[import->count] = (struct account){ .folded = copy, .line = line };
	import->count += copy != NULL;
	return copy ? 0 : -ENOMEM;
}

static int by_name(const void *a, const void *b)
{
	const struct account *one = a, *other = b;
	int order = strcmp(one->folded, other->folded);
	return order ? order : one->line < other->line ? -1 : one->line > other->line;
}

static void find_doubles(struct import *import)
{
	if (import->count) {
		qsort(import->accounts, import->count, sizeof(*import->accounts), by_name);
	}
	for (size_t i = 1; i < import->count; i++) {
		char what[64];
		if (strcmp(import->accounts[i - 1].folded, import->accounts[i].folded) == 0) {
			snprintf(what, sizeof(what), "the user is in line %ld already", import->accounts[i - 1].line);
			row_fault(import, import->accounts[i].line, what);
		}
	}
}

static int add_row(struct import *import, json_t *row, size_t bytes)
{
	json_t *last = json_array_get(import->portions, json_array_size(import->portions) - 1);
	if (!last || json_array_size(last) >= PORTION_ROWS || import->bytes + bytes > PORTION_BYTES) {
		last = json_array();
		import->bytes = 0;
		json_array_append_new(import->portions, last);
	}
	import->bytes += bytes;
	return json_array_append_new(last, row);
}

/* 0 or -ENOMEM; what is wrong with the row itself is counted. */
static int take_row(struct import *import, char *const *fields, long line)
{
	const char *name = field_of(import, fields, NAME), *domain = field_of(import, fields, DOMAIN_NAME);
	const char *password = field_of(import, fields, PASSWORD), *salt = field_of(import, fields, SALT);
	char *whole = NULL;
	int enabled = read_enabled(import, fields, line);
	domain = domain ? domain : import->domain;
	if (!name) {
		row_fault(import, line, "no username");
	}
	if (!name || enabled < -1) {
		return 0;
	}
	bool bare = !domain || strchr(name, '@');
	if (asprintf(&whole, "%s%s%s", name, bare ? "" : "@", bare ? "" : domain) < 0) {
		return -ENOMEM;
	}
	size_t bytes = strlen(whole) + (password ? strlen(password) : 0) + (salt ? strlen(salt) : 0) + 64;
	json_t *row = json_pack("{s:I,s:s,s:s?,s:s?}", "line", (json_int_t)line, "name", whole, "password", password, "salt", salt);
	int rc = 0;
	if (!row) {
		row_fault(import, line, "not UTF-8");
	} else {
		if (enabled >= 0) {
			json_object_set_new(row, "enabled", json_boolean(enabled));
		}
		rc = bytes > PORTION_BYTES ? (row_fault(import, line, "too long"), json_decref(row), 0) : add_row(import, row, bytes);
		rc = rc < 0 ? -ENOMEM : remember(import, whole, line);
	}
	free(whole);
	return rc;
}

static int read_table(struct import *import)
{
	struct table table;
	char *fields[TABLE_COLUMNS];
	long line;
	int rc = table_open(&table, import->file);
	rc = rc < 0 ? rc : find_columns(import, &table);
	int more = rc < 0 ? rc : table_next(&table, fields, &line);
	while (more > 0 && rc == 0) {
		rc = take_row(import, fields, line);
		more = rc < 0 ? rc : table_next(&table, fields, &line);
	}
	table_close(&table);
	if (rc == -ENOMEM) {
		ctl_error("out of memory");
	}
	find_doubles(import);
	return rc < 0 ? rc : more;
}

/* ---- requests ---- */

static void take_answer(struct import *import, const json_t *lines)
{
	size_t i;
	const json_t *line;
	json_int_t untold = 0; /* the server tells of some only */
	json_array_foreach (lines, i, line) {
		untold += json_integer_value(json_object_get(line, "wrong"));
		const char *fault = json_string_value(json_object_get(line, "fault"));
		if (fault) {
			row_fault(import, (long)json_integer_value(json_object_get(line, "line")), fault);
			untold--;
		}
		import->added += json_integer_value(json_object_get(line, "added"));
		import->updated += json_integer_value(json_object_get(line, "updated"));
		import->unchanged += json_integer_value(json_object_get(line, "unchanged"));
	}
	import->faults += untold > 0 ? (size_t)untold : 0;
}

static int send_portion(struct import *import, json_t *rows, bool dry)
{
	char *why = NULL;
	size_t before = import->faults;
	json_t *lines = json_array();
	json_t *request = json_pack("{s:s,s:s,s:b,s:b,s:O}", "command", "user", "do", "import", "dry-run", dry, "update", import->update, "users",
				    rows);
	int status = request && lines ? site_ask(&import->site, request, lines, &why) : EXIT_REFUSED;
	take_answer(import, lines);
	if (status != EXIT_SUCCESS && import->faults == before) {
		ctl_error("%s", why ? why : "out of memory");
	}
	free(why);
	json_decref(lines);
	return status;
}

/* All portions. With faults in some the others are looked at all the same when DRY. */
static int send_all(struct import *import, bool dry)
{
	int status = EXIT_SUCCESS;
	size_t i;
	json_t *rows;
	import->added = import->updated = import->unchanged = 0;
	json_array_foreach (import->portions, i, rows) {
		int one = send_portion(import, rows, dry);
		status = status ? status : one;
		if (one == EXIT_LOST || (one && !dry)) {
			break;
		}
	}
	return status;
}

static void say_result(const struct import *import)
{
	const char *would = import->dry ? "would be " : "";
	if (import->json) {
		json_t *line = json_pack("{s:I,s:I,s:I,s:b}", "added", import->added, "updated", import->updated, "unchanged",
					 import->unchanged, "dry-run", import->dry);
		json_dumpf(line, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(line);
		return;
	}
	module_say(false, "%lld accounts %sadded, %lld %supdated, %lld unchanged", (long long)import->added, would, (long long)import->updated,
		   would, (long long)import->unchanged);
}

static int run(struct import *import, const struct ctl_place *place)
{
	int rc = read_table(import);
	if (rc < 0) {
		return EXIT_REFUSED;
	}
	int status = ctl_connect(&import->site.sock, place, false) < 0 ? EXIT_LOST : EXIT_SUCCESS;
	status = status ? status : send_all(import, true);
	if (status == EXIT_LOST || import->faults || status) {
		if (import->faults > FAULTS_MAX) {
			ctl_error("... and %zu more", import->faults - FAULTS_MAX);
		}
		if (import->faults) {
			ctl_error("%zu faults; nothing was written", import->faults);
		}
		return status ? status : EXIT_REFUSED;
	}
	status = import->dry ? EXIT_SUCCESS : send_all(import, false);
	if (status) {
		ctl_error("cut off: %lld accounts were added and %lld updated; the same with --update does the rest", (long long)import->added,
			  (long long)import->updated);
		return status;
	}
	say_result(import);
	return EXIT_SUCCESS;
}

static void wipe(const json_t *string)
{
	if (json_is_string(string)) {
		explicit_bzero((char *)(uintptr_t)json_string_value(string), json_string_length(string));
	}
}

static void fini(struct import *import)
{
	size_t i, j;
	json_t *rows, *row;
	json_array_foreach (import->portions, i, rows) {
		json_array_foreach (rows, j, row) {
			wipe(json_object_get(row, "password"));
		}
	}
	json_decref(import->portions);
	for (i = 0; i < import->count; i++) {
		free(import->accounts[i].folded);
	}
	free(import->accounts);
	ctl_close(&import->site.sock);
}

int ctl_import(const struct ctl_place *place, const json_t *request, bool json)
{
	struct import import = { .site.sock.fd = -1, .json = json, .portions = json_array() };
	import.file = json_string_value(json_object_get(request, "name"));
	import.domain = json_string_value(json_object_get(request, "domain"));
	import.dry = json_is_true(json_object_get(request, "dry-run"));
	import.update = json_is_true(json_object_get(request, "update"));
	if (!import.file) {
		ctl_error("which file? user import FILE");
		json_decref(import.portions);
		return EXIT_USAGE;
	}
	int status = run(&import, place);
	fini(&import);
	return status;
}
