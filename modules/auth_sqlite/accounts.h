/* SPDX-License-Identifier: MIT */
#ifndef AUTH_SQLITE_ACCOUNTS_H
#define AUTH_SQLITE_ACCOUNTS_H

#include <stdbool.h>

#include <jansson.h>

#include <startalkd/module.h>
#include <startalkd/service.h>

#define ODD_MAX 64 /* accounts whose password looked like what it was not */

/* What the commands need; one for the module. */
struct accounts {
	struct stk_module *module;
	struct stk_service *answers;
	unsigned iterations; /* of the verifiers that are made */
	bool plain_without_tls;
	void (*changed)(struct stk_module *module); /* look at the table soon: it was written to */
	struct listing *listings;
	struct {
		char *bare; /* folded */
		const char *looks;
	} odd[ODD_MAX];
	unsigned odd_next;
};

/* In load(): offers the commands; the fields are set but for answers and lists. 0 or -errno. */
int accounts_provide(struct accounts *accounts);
void accounts_fini(struct accounts *accounts);
/* The module's own (auth_sqlite.c). */
struct accounts *auth_accounts(struct stk_module *module);

/* Remembers that the password of an account, taken as plain, LOOKS like something else; NULL: no longer. */
void accounts_note(struct accounts *accounts, const char *username, const char *domain, const char *looks);
/* What it looked like, or NULL. */
const char *accounts_looks(const struct accounts *accounts, const char *bare);

/* What a command names: NAME as typed, FOLDED and DOMAIN as compared, BARE both together. */
struct account_name {
	char name[STK_JID_PART_MAX + 1], folded[STK_JID_PART_MAX + 1], domain[STK_JID_PART_MAX + 1];
	char bare[STK_JID_MAX + 1];
};

/* Takes TEXT ("carol", "carol@example.org") apart. NULL, or what is wrong with it, for people. */
const char *account_name(struct stk_module *module, const char *text, struct account_name *name);

/* What is in the column password, as a word. */
const char *account_password_kind(const char *stored);

/* To the reader, as long as somebody runs commands. Takes LINE. As struct stk_answers. */
int account_line(const struct accounts *accounts, struct stk_answer *answer, json_t *line);
void account_end(const struct accounts *accounts, struct stk_answer *answer, const char *error);
/* Strings of a request may be passwords: wipes and frees. */
void account_free_args(json_t *args);

/* ---- import.c ---- */

/* user import: ARGS has users [line, name, password, salt, enabled], dry-run and update. */
void import_run(struct accounts *accounts, const json_t *args, struct stk_answer *answer);

/* ---- doctor.c ---- */

void doctor_run(struct stk_module *module, const char *args, struct stk_answer *answer);

#endif
