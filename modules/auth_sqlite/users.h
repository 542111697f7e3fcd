/* SPDX-License-Identifier: MIT */
#ifndef AUTH_SQLITE_USERS_H
#define AUTH_SQLITE_USERS_H

#include <stdbool.h>
#include <stdint.h>

struct sqlite3;

/* SQL of the tables, one script a version; for stk_db(). */
extern const char *const users_migrations[];
#define USERS_FILE "startalk.db"

/* One account as it is looked up. Strings are malloc'd or NULL. */
struct user {
	char *username, *password, *salt;
	bool enabled;
};

/* Looks up a folded name in a folded domain. 1: found; 0: nobody; -errno. */
int users_find(struct sqlite3 *db, const char *folded, const char *domain, struct user *user);
void users_fini(struct user *user);

/* Sets the domain that rows without one get. 0 or -errno. */
int users_set_default_domain(struct sqlite3 *db, const char *domain);

/* Calls EACH with every account, until it returns below 0. 0 or -errno. */
int users_each_name(struct sqlite3 *db, int (*each)(const char *username, const char *domain, void *arg), void *arg);

/* Calls EACH with the MOST accounts that come behind AFTER (folded name) and DOMAIN in the order of names. How many there were, or
 * -errno. */
int users_each_behind(struct sqlite3 *db, const char *after, const char *domain, int most,
                      void (*each)(const struct user *user, const char *folded, const char *domain, void *arg), void *arg);

/* Inside a transaction, with what follows from an edit by hand. NAME is as typed, FOLDED and DOMAIN as compared, VERIFIER never a plain
 * password. 0, -EEXIST, -ENOENT: no such account, -errno. users_enable: 1 when it was so before. */
int users_add(struct sqlite3 *db, const char *name, const char *folded, const char *domain, const char *verifier);
int users_set_password(struct sqlite3 *db, const char *folded, const char *domain, const char *verifier);
int users_enable(struct sqlite3 *db, const char *folded, const char *domain, bool enabled);
int users_delete(struct sqlite3 *db, const char *folded, const char *domain);

/* An account as it is imported. */
struct user_row {
	char *name, *folded, *domain; /* as typed; as compared */
	char *password, *salt;        /* a verifier, never a plain password; or NULL */
	bool enabled;
	bool with_password, with_enabled; /* an account that is there already gets them */
};

/* Adds it, or changes one that is there, when UPDATE. USERS_ADDED, USERS_UPDATED, USERS_SAME, -EEXIST, -errno. */
enum { USERS_SAME, USERS_ADDED, USERS_UPDATED };
int users_put(struct sqlite3 *db, const struct user_row *row, bool update);

/* One row that has changed, or one that the server has to look at. */
struct change {
	struct change *next;
	int64_t seq;   /* of users_changed; 0: nobody changed it, it is only looked at */
	int64_t at;    /* when, ms since the epoch */
	int64_t row;   /* rowid in users */
	char *username, *domain; /* of the account, as registered */
	char *what;     /* "password", "disabled", "deleted", "new" */
	char *password; /* what the row holds now, or NULL */
	char *folded;   /* what the row's column folded should be and is not, or NULL */
};

/* A number that changes when another connection has written. -errno on error. */
int64_t users_data_version(struct sqlite3 *db);
/* Changes not yet consumed, oldest first, at most MOST. NULL: none, or an error. */
struct change *users_read_changes(struct sqlite3 *db, int most);
/* Up to MOST rows behind row FROM, in the order of rows; NULL: no more, or an error. */
struct change *users_read_rows(struct sqlite3 *db, int64_t from, int most);
void users_free_changes(struct change *list);

/* Inside a transaction. Forgets changes up to SEQ. */
int users_consume(struct sqlite3 *db, int64_t seq);
/* Replaces the plain password of a row, if it is still PLAIN, by VERIFIER; no change of the user's. */
int users_rehash(struct sqlite3 *db, int64_t row, const char *plain, const char *verifier);
/* Sets the folded name of a row; no change of the user's. -EEXIST: another row has it. */
int users_refold(struct sqlite3 *db, int64_t row, const char *folded);
/* Empties the write-ahead log, in which a plain password may still stand. True when nothing is left of it. */
bool users_checkpoint(struct sqlite3 *db);

#endif
