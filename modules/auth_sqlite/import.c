/* SPDX-License-Identifier: MIT */
/* user import: many accounts in one request, checked as a whole and written in one transaction or not at all. Where they
 * come from, and in what format, is the business of whoever sends them. */

#include "accounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "credential.h"
#include "users.h"
#include "verifier.h"

#define ROWS_MAX     10000
#define FAULTS_MAX   100  /* that are told of a request */
#define PASSWORD_MAX 1024
#define SALT_MAX     1024

struct row {
	struct user_row user; /* what is written; strings are the row's own */
	json_int_t line;      /* where it stood */
	bool plain;           /* the password is to be made a verifier */
	char *fault;
};

struct import {
	struct stk_answer *answer;
	struct row *rows;
	size_t count, wrong, added, updated;
	bool dry, update;
	unsigned iterations;
	int rc;
};

static void free_import(struct import *import)
{
	for (size_t i = 0; i < import->count; i++) {
		struct row *row = &import->rows[i];
		free(row->user.name);
		free(row->user.folded);
		free(row->user.domain);
		credential_wipe(row->user.password);
		free(row->user.salt);
		free(row->fault);
	}
	free(import->rows);
	free(import);
}

static void set_fault(struct import *import, struct row *row, const char *what, const char *more)
{
	if (!row->fault) {
		import->wrong++;
		if (asprintf(&row->fault, "%s%s", what, more) < 0) {
			row->fault = NULL;
		}
	}
}

/* ---- what was sent ---- */

/* A null member is one that is not there. False: neither text nor null, or too long, or out of memory. */
static bool take_text(const json_t *object, const char *key, size_t most, char **out)
{
	const json_t *value = json_object_get(object, key);
	if (!value || json_is_null(value)) {
		return true;
	}
	const char *text = json_string_value(value);
	*out = text && json_string_length(value) <= most && strlen(text) == json_string_length(value) ? strdup(text) : NULL;
	return *out != NULL;
}

static void take_password(struct import *import, struct row *row, const json_t *object)
{
	struct user_row *user = &row->user;
	if (!take_text(object, "password", PASSWORD_MAX, &user->password) || !take_text(object, "salt", SALT_MAX, &user->salt)) {
		set_fault(import, row, "password and salt are texts of 1024 bytes at most", "");
		return;
	}
	user->with_password = user->password && *user->password;
	if (!user->with_password) {
		return;
	}
	enum verifier_kind kind = verifier_kind(user->password);
	const char *looks = kind == VERIFIER_PLAIN ? verifier_lookalike(user->password) : NULL;
	row->plain = kind == VERIFIER_PLAIN;
	if (looks) {
		set_fault(import, row, "the password looks like ", looks);
	} else if (kind == VERIFIER_CRY && !(user->salt && *user->salt)) {
		set_fault(import, row, "a CRY: password without its salt lets nobody log in", "");
	} else if (kind != VERIFIER_CRY) {
		free(user->salt); /* it belongs to nothing */
		user->salt = NULL;
	}
}

static void take_row(struct import *import, struct stk_module *module, const json_t *object)
{
	struct row *row = &import->rows[import->count++];
	struct account_name who;
	const char *name = json_string_value(json_object_get(object, "name"));
	const json_t *enabled = json_object_get(object, "enabled");
	row->line = json_integer_value(json_object_get(object, "line"));
	const char *wrong = account_name(module, name ? name : "", &who);
	if (wrong) {
		set_fault(import, row, wrong, "");
		return;
	}
	row->user.name = strdup(who.name);
	row->user.folded = strdup(who.folded);
	row->user.domain = strdup(who.domain);
	if (!row->user.name || !row->user.folded || !row->user.domain) {
		set_fault(import, row, "out of memory", "");
		return;
	}
	row->user.with_enabled = json_is_boolean(enabled);
	row->user.enabled = !json_is_false(enabled);
	take_password(import, row, object);
}

static struct import *take_rows(struct stk_module *module, const json_t *users)
{
	size_t i, count = json_array_size(users);
	const json_t *object;
	struct import *import = calloc(1, sizeof(*import));
	struct row *rows = calloc(count, sizeof(*rows));
	if (!import || !rows) {
		free(import);
		free(rows);
		return NULL;
	}
	import->rows = rows;
	json_array_foreach (users, i, object) {
		take_row(import, module, object);
	}
	return import;
}

/* ---- what comes of it ---- */

static void tell_fault(const struct accounts *accounts, const struct import *import, const struct row *row)
{
	const char *fault = row->fault ? row->fault : "out of memory";
	(void)account_line(accounts, import->answer, json_pack("{s:I,s:s,s:o}", "line", row->line, "fault", fault, "text",
	                                                        json_sprintf("line %lld: %s", (long long)row->line, fault)));
}

static void tell_import(struct stk_module *module, int status, void *arg)
{
	struct import *import = arg;
	struct accounts *accounts = auth_accounts(module);
	char error[128];
	size_t told = 0;
	if (import->wrong) {
		(void)account_line(accounts, import->answer, json_pack("{s:I}", "wrong", (json_int_t)import->wrong));
	}
	for (size_t i = 0; i < import->count && told < FAULTS_MAX && import->wrong; i++) {
		if (import->rows[i].fault) {
			tell_fault(accounts, import, &import->rows[i]);
			told++;
		}
	}
	status = import->rc < 0 ? import->rc : status;
	if (import->wrong) {
		snprintf(error, sizeof(error), "%zu of %zu accounts are wrong; nothing was written", import->wrong, import->count);
	} else if (status < 0) {
		snprintf(error, sizeof(error), "nothing was written: %s", strerror(-status));
	} else {
		size_t same = import->count - import->added - import->updated;
		const char *would = import->dry ? "would be " : "";
		(void)account_line(accounts, import->answer,
		                   json_pack("{s:I,s:I,s:I,s:o}", "added", (json_int_t)import->added, "updated", (json_int_t)import->updated,
		                             "unchanged", (json_int_t)same, "text",
		                             json_sprintf("%zu accounts %sadded, %zu %supdated, %zu unchanged", import->added, would,
		                                          import->updated, would, same)));
		if (!import->dry) {
			accounts->changed(module);
		}
	}
	account_end(accounts, import->answer, import->wrong || status < 0 ? error : NULL);
	free_import(import);
}

/* What would become of ROW: as users_put(), and as much a fault when it is there and not to be. */
static int judge_row(struct import *import, struct sqlite3 *db, struct row *row)
{
	struct user user;
	int found = users_find(db, row->user.folded, row->user.domain, &user);
	bool same = found > 0 && user.enabled == (row->user.with_enabled ? row->user.enabled : user.enabled) &&
	            (!row->user.with_password || (!row->plain && user.password && strcmp(user.password, row->user.password) == 0));
	users_fini(&user);
	if (found > 0 && !import->update) {
		set_fault(import, row, "there is such a user already; --update changes those", "");
	}
	import->added += found == 0;
	import->updated += found > 0 && !same;
	return found < 0 ? found : 0;
}

/* On a worker: whether there is room for all, then what is slow. */
static void prepare(struct stk_module *module, void *arg)
{
	struct import *import = arg;
	struct sqlite3 *db = stk_db(module, USERS_FILE, NULL);
	import->rc = db ? 0 : -EIO;
	for (size_t i = 0; i < import->count && import->rc == 0; i++) {
		if (!import->rows[i].fault) {
			import->rc = judge_row(import, db, &import->rows[i]);
		}
	}
	for (size_t i = 0; i < import->count && import->rc == 0 && !import->wrong && !import->dry; i++) {
		struct user_row *user = &import->rows[i].user;
		char *verifier = import->rows[i].plain ? malloc(VERIFIER_MAX) : NULL;
		if (import->rows[i].plain) {
			import->rc = !verifier ? -ENOMEM : verifier_make(user->password, import->iterations, verifier);
			credential_wipe(user->password);
			user->password = verifier;
		}
	}
}

/* Somebody may have added one since. */
static int write_rows(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	struct import *import = arg;
	int rc = 0;
	(void)module;
	import->added = import->updated = 0;
	for (size_t i = 0; i < import->count && rc >= 0; i++) {
		rc = users_put(db, &import->rows[i].user, import->update);
		if (rc == -EEXIST) {
			set_fault(import, &import->rows[i], "there is such a user already, perhaps in this file; --update changes those", "");
		}
		import->added += rc == USERS_ADDED;
		import->updated += rc == USERS_UPDATED;
	}
	return rc < 0 ? rc : 0;
}

static void prepared(struct stk_module *module, int status, void *arg)
{
	struct import *import = arg;
	status = status < 0 ? status : import->rc;
	if (status < 0 || import->wrong || import->dry) {
		tell_import(module, status, import);
		return;
	}
	int rc = stk_db_write(module, USERS_FILE, write_rows, tell_import, import);
	if (rc < 0) {
		tell_import(module, rc, import);
	}
}

void import_run(struct accounts *accounts, const json_t *args, struct stk_answer *answer)
{
	const json_t *users = json_object_get(args, "users");
	size_t count = json_array_size(users);
	if (!count || count > ROWS_MAX) {
		account_end(accounts, answer, "import wants users, a list of 1 to 10000; startalkctl user import FILE makes such requests");
		return;
	}
	struct import *import = take_rows(accounts->module, users);
	if (!import) {
		account_end(accounts, answer, "out of memory");
		return;
	}
	import->answer = answer;
	import->iterations = accounts->iterations;
	import->dry = json_is_true(json_object_get(args, "dry-run"));
	import->update = json_is_true(json_object_get(args, "update"));
	int rc = stk_job(accounts->module, 0, prepare, prepared, import);
	if (rc < 0) {
		tell_import(accounts->module, rc, import);
	}
}
