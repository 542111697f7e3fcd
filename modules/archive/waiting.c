/* SPDX-License-Identifier: MIT */
/* Who may have undelivered messages. All others need not be looked up in the tables when they become available, which is most of what
 * a login costs here: the archive writes all that is in them. Owns that nobody who has some is missing. */

#define HASH_NONFATAL_OOM 1
#include "archive.h"

#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <uthash.h>

#define USERS_MAX 65536 /* past that everybody may, until a reload or a start */

struct user {
	UT_hash_handle hh;
	char bare[];
};

struct waiting {
	struct user *users;
	size_t count;
	bool all;
};

static void forget_all(struct waiting *waiting)
{
	struct user *user, *next;
	HASH_ITER(hh, waiting->users, user, next)
	{
		HASH_DEL(waiting->users, user);
		free(user);
	}
	waiting->count = 0;
}

static struct user *find(const struct waiting *waiting, const char *bare)
{
	struct user *user = NULL;
	HASH_FIND_STR(waiting->users, bare, user);
	return user;
}

void waiting_add(struct waiting *waiting, const char *bare)
{
	if (waiting->all || find(waiting, bare)) {
		return;
	}
	size_t len = strlen(bare);
	struct user *user = waiting->count < USERS_MAX ? malloc(sizeof(*user) + len + 1) : NULL;
	if (user) {
		memcpy(user->bare, bare, len + 1);
		HASH_ADD_KEYPTR(hh, waiting->users, user->bare, len, user);
		if (user->hh.tbl) {
			waiting->count++;
			return;
		}
		free(user);
	}
	forget_all(waiting);
	waiting->all = true;
}

void waiting_remove(struct waiting *waiting, const char *bare)
{
	struct user *user = find(waiting, bare);
	if (user) {
		HASH_DEL(waiting->users, user);
		free(user);
		waiting->count--;
	}
}

bool waiting_may(const struct waiting *waiting, const char *bare)
{
	return waiting->all || find(waiting, bare);
}

static bool add_one(const char *bare, void *arg)
{
	struct waiting *waiting = arg;
	waiting_add(waiting, bare);
	return !waiting->all;
}

struct waiting *waiting_new(struct stk_module *module)
{
	struct waiting *waiting = calloc(1, sizeof(*waiting));
	struct sqlite3 *db = stk_db(module, ARCHIVE_FILE, NULL);
	if (waiting && (!db || store_each_recipient(db, add_one, waiting) < 0)) {
		forget_all(waiting);
		waiting->all = true;
	}
	return waiting;
}

void waiting_free(struct waiting **waiting)
{
	if (*waiting) {
		forget_all(*waiting);
	}
	free(*waiting);
	*waiting = NULL;
}
