/* SPDX-License-Identifier: MIT */
/* An extension for the sqlite3 command: startalk_password('text') is a verifier to put into the column password. */

#include <stdlib.h>
#include <string.h>

#include <sqlite3ext.h>

#include "verifier.h"

#define ITERATIONS 4096

SQLITE_EXTENSION_INIT1

static void make_password(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	(void)argc;
	char verifier[VERIFIER_MAX];
	const char *password = (const char *)sqlite3_value_text(argv[0]);
	if (!password) {
		sqlite3_result_null(context);
	} else if (!*password || strlen(password) != (size_t)sqlite3_value_bytes(argv[0])) {
		sqlite3_result_error(context, "startalk_password: an empty password never logs in, and none may hold U+0000", -1);
	} else if (verifier_make(password, ITERATIONS, verifier) < 0) {
		sqlite3_result_error(context, "startalk_password: no random numbers", -1);
	} else {
		sqlite3_result_text(context, verifier, -1, SQLITE_TRANSIENT);
	}
}

__attribute__((visibility("default"))) int sqlite3_startalkpassword_init(sqlite3 *db, char **err, const sqlite3_api_routines *api);

/* The name is what the sqlite3 command derives from the file's. */
int sqlite3_startalkpassword_init(sqlite3 *db, char **err, const sqlite3_api_routines *api)
{
	SQLITE_EXTENSION_INIT2(api);
	(void)err;
	return sqlite3_create_function(db, "startalk_password", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL, make_password, NULL, NULL);
}
