/* SPDX-License-Identifier: MIT */
/* The command user: adds, changes and lists accounts while the server runs, as edits of the table by hand do. Owns what
 * it has under way; what follows from a change is seen to where the table is watched. */

#include "accounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "credential.h"
#include "users.h"
#include "verifier.h"

#define PASSWORD_MAX 1024 /* what a client can send has to fit into a small frame */
#define PAGE 200          /* accounts read at once */

enum verb { ADD, PASSWD, ENABLE, DISABLE, DELETE };

static const struct {
	const char *word, *done, *already; /* ALREADY: nothing to do */
} verbs[] = {
	[ADD] = { "add", "was added", NULL },
	[PASSWD] = { "passwd", "has a new password; sessions that logged in before end", NULL },
	[ENABLE] = { "enable", "is enabled", "was enabled already" },
	[DISABLE] = { "disable", "is disabled; its sessions end", "was disabled already" },
	[DELETE] = { "delete", "was deleted; its sessions end", NULL },
};

/* ---- what commands share ---- */

int account_line(const struct accounts *accounts, struct stk_answer *answer, json_t *line)
{
	const struct stk_answers *answers = stk_service(accounts->answers, NULL);
	char *text = line && answers ? json_dumps(line, JSON_COMPACT) : NULL;
	int rc = !answers ? -EPIPE : text ? answers->line(answer, text) : -ENOMEM;
	free(text);
	json_decref(line);
	return rc;
}

void account_end(const struct accounts *accounts, struct stk_answer *answer, const char *error)
{
	const struct stk_answers *answers = stk_service(accounts->answers, NULL);
	if (answers) {
		answers->end(answer, error);
	}
}

static void wipe(json_t *value)
{
	const char *key;
	size_t i;
	json_t *member;
	json_object_foreach (value, key, member) {
		wipe(member);
	}
	json_array_foreach (value, i, member) {
		wipe(member);
	}
	if (json_is_string(value)) {
		explicit_bzero((char *)(uintptr_t)json_string_value(value), json_string_length(value));
	}
}

void account_free_args(json_t *args)
{
	wipe(args);
	json_decref(args);
}

static const char *check_name(const char *name)
{
	if (!*name) {
		return "which user? a name is wanted";
	}
	if (strlen(name) > STK_JID_PART_MAX) {
		return "a name has 1023 bytes at most";
	}
	for (const char *at = name; *at; at++) {
		if (*at == '@' || *at == '/' || *at == ' ' || (unsigned char)*at < 0x20 || *at == 0x7f) {
			return "a name has no '@', '/', space or control character";
		}
	}
	return NULL;
}

const char *account_name(struct stk_module *module, const char *text, struct account_name *name)
{
	const char *const *domains = stk_domains(module);
	const char *at = strrchr(text, '@');
	char domain[STK_JID_MAX + 1];
	size_t len = at ? (size_t)(at - text) : strlen(text);
	if (len > STK_JID_PART_MAX) {
		return "a name has 1023 bytes at most";
	}
	memcpy(name->name, text, len);
	name->name[len] = '\0';
	const char *wrong = check_name(name->name);
	if (wrong) {
		return wrong;
	}
	if (at && stk_jid_fold(at + 1, domain, sizeof(domain)) < 0) {
		return "what stands behind the '@' is no domain";
	}
	while (at && *domains && strcmp(*domains, domain) != 0) {
		domains++;
	}
	if (!*domains) {
		return "this server does not serve that domain";
	}
	snprintf(name->domain, sizeof(name->domain), "%s", *domains);
	if (stk_jid_fold(name->name, name->folded, sizeof(name->folded)) < 0) {
		return "a name is text in UTF-8";
	}
	snprintf(name->bare, sizeof(name->bare), "%s@%s", name->folded, name->domain);
	return NULL;
}

const char *account_password_kind(const char *stored)
{
	static const char *const kinds[] = { [VERIFIER_NONE] = "none",
					     [VERIFIER_PLAIN] = "plain",
					     [VERIFIER_SCRAM] = "SCRAM-SHA-256",
					     [VERIFIER_CRYPT] = "crypt",
					     [VERIFIER_CRY] = "CRY" };
	return kinds[verifier_kind(stored)];
}

/* ---- passwords that look like hashes ---- */

void accounts_note(struct accounts *accounts, const char *username, const char *domain, const char *looks)
{
	char whole[STK_JID_MAX + 1], bare[STK_JID_MAX + 1];
	if (snprintf(whole, sizeof(whole), "%s@%s", username, domain) >= (int)sizeof(whole) ||
	    stk_jid_fold(whole, bare, sizeof(bare)) < 0) {
		return;
	}
	unsigned i = 0;
	while (i < ODD_MAX && !(accounts->odd[i].bare && strcmp(accounts->odd[i].bare, bare) == 0)) {
		i++;
	}
	if (i == ODD_MAX && !looks) {
		return;
	}
	i = i == ODD_MAX ? accounts->odd_next++ % ODD_MAX : i;
	free(accounts->odd[i].bare);
	accounts->odd[i].bare = looks ? strdup(bare) : NULL;
	accounts->odd[i].looks = looks;
}

const char *accounts_looks(const struct accounts *accounts, const char *bare)
{
	for (unsigned i = 0; i < ODD_MAX; i++) {
		if (accounts->odd[i].bare && strcmp(accounts->odd[i].bare, bare) == 0) {
			return accounts->odd[i].looks;
		}
	}
	return NULL;
}

/* ---- one account ---- */

struct edit {
	struct stk_answer *answer;
	enum verb verb;
	bool already;
	struct account_name who;
	unsigned iterations;
	char *password; /* until it is a verifier */
	char verifier[VERIFIER_MAX];
};

static void free_edit(struct edit *edit)
{
	credential_wipe(edit->password);
	free(edit);
}

static int write_edit(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	struct edit *edit = arg;
	const struct account_name *who = &edit->who;
	int rc = -EINVAL;
	(void)module;
	switch (edit->verb) {
	case ADD: rc = users_add(db, who->name, who->folded, who->domain, edit->verifier); break;
	case PASSWD: rc = users_set_password(db, who->folded, who->domain, edit->verifier); break;
	case ENABLE: rc = users_enable(db, who->folded, who->domain, true); break;
	case DISABLE: rc = users_enable(db, who->folded, who->domain, false); break;
	case DELETE: rc = users_delete(db, who->folded, who->domain); break;
	}
	edit->already = rc > 0;
	return rc < 0 ? rc : 0;
}

static void tell_edit(struct stk_module *module, int status, void *arg)
{
	struct edit *edit = arg;
	struct accounts *accounts = auth_accounts(module);
	char text[STK_JID_MAX + 128];
	const struct account_name *who = &edit->who;
	if (status == 0) {
		accounts->changed(module);
		snprintf(text, sizeof(text), "%s@%s %s", who->name, who->domain,
			 edit->already ? verbs[edit->verb].already : verbs[edit->verb].done);
		(void)account_line(accounts, edit->answer, json_pack("{s:s}", "text", text));
	} else if (status == -ENOENT || status == -EEXIST) {
		snprintf(text, sizeof(text), "there is %s user %s@%s%s", status == -ENOENT ? "no" : "a", who->name,
			 who->domain, status == -ENOENT ? "" : " already");
	} else {
		snprintf(text, sizeof(text), "%s@%s: not changed: %s", who->name, who->domain, strerror(-status));
	}
	account_end(accounts, edit->answer, status == 0 ? NULL : text);
	free_edit(edit);
}

/* On its way to the file; takes EDIT. */
static void queue_write(struct stk_module *module, struct edit *edit)
{
	int rc = stk_db_write(module, USERS_FILE, write_edit, tell_edit, edit);
	if (rc < 0) {
		tell_edit(module, rc, edit);
	}
}

static void make_verifier(struct stk_module *module, void *arg)
{
	struct edit *edit = arg;
	(void)module;
	if (verifier_make(edit->password, edit->iterations, edit->verifier) < 0) {
		edit->verifier[0] = '\0';
	}
}

static void verifier_made(struct stk_module *module, int status, void *arg)
{
	struct edit *edit = arg;
	credential_wipe(edit->password);
	edit->password = NULL;
	if (status < 0 || !*edit->verifier) {
		tell_edit(module, status < 0 ? status : -EIO, edit);
	} else {
		queue_write(module, edit);
	}
}

static const char *check_password(const json_t *password)
{
	const char *text = json_string_value(password);
	return !text                         ? "a password is wanted"
	       : !*text                      ? "an empty password never logs in"
	       : strlen(text) > PASSWORD_MAX ? "a password has 1024 bytes at most"
					     : NULL;
}

static void begin_edit(struct accounts *accounts, const json_t *args, enum verb verb, struct stk_answer *answer)
{
	struct edit *edit = calloc(1, sizeof(*edit));
	const char *name = json_string_value(json_object_get(args, "name"));
	const json_t *password = json_object_get(args, "password");
	const char *wrong = edit ? account_name(accounts->module, name ? name : "", &edit->who) : "out of memory";
	bool wanted = verb == ADD || verb == PASSWD;
	if (!wrong && wanted) {
		wrong = check_password(password);
	}
	if (!wrong && wanted && !(edit->password = strdup(json_string_value(password)))) {
		wrong = "out of memory";
	}
	if (wrong) {
		account_end(accounts, answer, wrong);
		free(edit);
		return;
	}
	edit->answer = answer;
	edit->verb = verb;
	edit->iterations = accounts->iterations;
	if (!wanted) {
		queue_write(accounts->module, edit);
		return;
	}
	int rc = stk_job(accounts->module, 0, make_verifier, verifier_made, edit);
	if (rc < 0) {
		tell_edit(accounts->module, rc, edit);
	}
}

/* ---- the list ---- */

/* Read page by page, since readers may be slow and tables long. */
struct listing {
	struct listing *next, **prev;
	struct accounts *accounts;
	struct stk_answer *answer;
	char *after, *domain; /* the last account read */
	json_t *lines;        /* of the page, those from AT on are still to be told */
	size_t at;
	int count; /* read with the last page, or -errno */
};

static void free_listing(struct listing *listing)
{
	*listing->prev = listing->next;
	if (listing->next) {
		listing->next->prev = listing->prev;
	}
	free(listing->after);
	free(listing->domain);
	json_decref(listing->lines);
	free(listing);
}

static void add_account(const struct user *user, const char *folded, const char *domain, void *arg)
{
	struct listing *listing = arg;
	char bare[STK_JID_MAX + 1];
	snprintf(bare, sizeof(bare), "%s@%s", user->username ? user->username : "", domain);
	json_array_append_new(listing->lines, json_pack("{s:s,s:b,s:s}", "user", bare, "enabled", user->enabled,
							"password", account_password_kind(user->password)));
	free(listing->after);
	free(listing->domain);
	listing->after = strdup(folded);
	listing->domain = strdup(domain);
}

static void read_page(struct stk_module *module, void *arg)
{
	struct listing *listing = arg;
	struct sqlite3 *db = stk_db(module, USERS_FILE, NULL);
	char *after = listing->after, *domain = listing->domain;
	listing->after = listing->domain = NULL;
	listing->lines = json_array();
	listing->count = db && listing->lines ? users_each_behind(db, after ? after : "", domain ? domain : "", PAGE,
								  add_account, listing)
					      : -EIO;
	if (listing->count > 0 && (!listing->after || !listing->domain)) {
		listing->count = -ENOMEM;
	}
	free(after);
	free(domain);
}

static bool count_one(struct stk_session *session, void *arg)
{
	(void)session;
	(void)arg;
	return true;
}

static void page_read(struct stk_module *module, int status, void *arg);

static void room(struct stk_answer *answer, void *arg);

/* Tells what was read; takes LISTING. */
static void tell_page(struct listing *listing)
{
	const struct accounts *accounts = listing->accounts;
	const struct stk_answers *answers = stk_service(accounts->answers, NULL);
	int rc = 0;
	for (; listing->at < json_array_size(listing->lines); listing->at++) {
		json_t *line = json_array_get(listing->lines, listing->at);
		const char *bare = json_string_value(json_object_get(line, "user"));
		json_object_set_new(line, "sessions",
				    json_integer(stk_sessions(accounts->module, bare, count_one, NULL)));
		rc = account_line(accounts, listing->answer, json_incref(line));
		if (rc < 0) {
			break;
		}
	}
	if (rc == -EAGAIN && answers) {
		answers->wait(listing->answer, room, listing);
		return;
	}
	json_decref(listing->lines);
	listing->lines = NULL;
	listing->at = 0;
	rc = rc < 0 ? rc : listing->count < 0 ? listing->count : 0;
	bool more = rc == 0 && listing->count == PAGE;
	rc = more ? stk_job(accounts->module, 0, read_page, page_read, listing) : rc;
	if (rc < 0 || !more) {
		account_end(accounts, listing->answer, rc < 0 ? "the users table cannot be read" : NULL);
		free_listing(listing);
	}
}

static void page_read(struct stk_module *module, int status, void *arg)
{
	struct listing *listing = arg;
	(void)module;
	listing->count = status < 0 ? status : listing->count;
	tell_page(listing);
}

static void room(struct stk_answer *answer, void *arg)
{
	(void)answer;
	tell_page(arg);
}

static void begin_listing(struct accounts *accounts, struct stk_answer *answer)
{
	struct listing *listing = calloc(1, sizeof(*listing));
	if (!listing) {
		account_end(accounts, answer, "out of memory");
		return;
	}
	*listing = (struct listing){
		.next = accounts->listings, .prev = &accounts->listings, .accounts = accounts, .answer = answer
	};
	if (accounts->listings) {
		accounts->listings->prev = &listing->next;
	}
	accounts->listings = listing;
	if (stk_job(accounts->module, 0, read_page, page_read, listing) < 0) {
		account_end(accounts, answer, "the server is too busy");
		free_listing(listing);
	}
}

/* ---- the command ---- */

static void run_user(struct stk_module *module, const char *text, struct stk_answer *answer)
{
	struct accounts *accounts = auth_accounts(module);
	json_t *args = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	const char *word = json_string_value(json_object_get(args, "do"));
	size_t verb = 0;
	while (word && verb < sizeof(verbs) / sizeof(*verbs) && strcmp(verbs[verb].word, word) != 0) {
		verb++;
	}
	if (word && verb < sizeof(verbs) / sizeof(*verbs)) {
		begin_edit(accounts, args, (enum verb)verb, answer);
	} else if (word && strcmp(word, "list") == 0) {
		begin_listing(accounts, answer);
	} else if (word && strcmp(word, "import") == 0) {
		import_run(accounts, args, answer);
	} else {
		account_end(accounts, answer, "user can add, passwd, enable, disable, delete, list and import");
	}
	account_free_args(args);
}

int accounts_provide(struct accounts *accounts)
{
	static const struct stk_command user = { sizeof(user), "user add|passwd|enable|disable|delete NAME, user list, user import FILE",
						 "Changes or lists accounts.", run_user };
	static const struct stk_command doctor = { sizeof(doctor), "doctor NAME", "Why a user cannot log in.",
						   doctor_run };
	accounts->answers = stk_use(accounts->module, "answers", 1, 0);
	if (!accounts->answers) {
		return -ENOMEM;
	}
	int rc = stk_provide(accounts->module, "command:user", 1, 0, &user);
	return rc < 0 ? rc : stk_provide(accounts->module, "command:doctor", 1, 0, &doctor);
}

void accounts_fini(struct accounts *accounts)
{
	while (accounts->listings) {
		account_end(accounts, accounts->listings->answer, "the module auth_sqlite is going away");
		free_listing(accounts->listings);
	}
	for (unsigned i = 0; i < ODD_MAX; i++) {
		free(accounts->odd[i].bare);
	}
}
