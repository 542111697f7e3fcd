/* SPDX-License-Identifier: MIT */
/* The command doctor: all that has a say in whether a user can log in, line by line, and a verdict. Changes nothing. */

#include "accounts.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sqlite3.h>

#include "credential.h"
#include "users.h"
#include "verifier.h"

#define NEAR_MOST 3    /* names that are told when there is none of that name */
#define NEAR_LENGTH 64 /* bytes of names that are compared for likeness */
#define NEAR_CHANGES 2
#define REFUSALS 10 /* the latest ones */

struct near {
	char *name;
	unsigned changes;
};

/* One question; filled on a worker, told on the router thread. */
struct visit {
	struct accounts *accounts;
	struct stk_answer *answer;
	struct account_name who;
	int found; /* as users_find() */
	struct user user;
	struct near near[NEAR_MOST];
	char *elsewhere; /* another domain with such a user */
	char *keeps_out; /* the first thing that does, or NULL */
	char *last;      /* when and why a login was refused last, or NULL */
	size_t told;     /* refusals */
	char peer[56];   /* from where the latest came */
};

/* ---- what the table says ---- */

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;
	return ab < c ? ab : c;
}

/* Letters to be put in, left out, replaced or swapped to make B of A; above NEAR_CHANGES: more, or too long. */
static unsigned count_changes(const char *a, const char *b)
{
	unsigned rows[3][NEAR_LENGTH + 1];
	unsigned *before = rows[0], *last = rows[1], *row = rows[2];
	size_t la = strlen(a), lb = strlen(b);
	size_t apart = la > lb ? la - lb : lb - la;
	if (la > NEAR_LENGTH || lb > NEAR_LENGTH || apart > NEAR_CHANGES) {
		return NEAR_CHANGES + 1;
	}
	for (unsigned j = 0; j <= lb; j++) {
		last[j] = j;
	}
	for (unsigned i = 1; i <= la; i++) {
		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			row[j] = least(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < row[j]) {
				row[j] = before[j - 2] + 1;
			}
		}
		unsigned *oldest = before;
		before = last;
		last = row;
		row = oldest;
	}
	return last[lb];
}

static void keep_near(struct visit *visit, const char *name, unsigned changes)
{
	size_t i = NEAR_MOST;
	while (i > 0 && (!visit->near[i - 1].name || visit->near[i - 1].changes > changes)) {
		i--;
	}
	if (i == NEAR_MOST) {
		return;
	}
	free(visit->near[NEAR_MOST - 1].name);
	memmove(visit->near + i + 1, visit->near + i, (NEAR_MOST - 1 - i) * sizeof(visit->near[0]));
	visit->near[i] = (struct near){ .name = strdup(name), .changes = changes };
}

static int compare_name(const char *username, const char *domain, void *arg)
{
	struct visit *visit = arg;
	char folded[STK_JID_MAX + 1];
	if (!username || !domain || stk_jid_fold(username, folded, sizeof(folded)) < 0) {
		return 0;
	}
	bool here = strcmp(domain, visit->who.domain) == 0;
	if (!here && !visit->elsewhere && strcmp(folded, visit->who.folded) == 0) {
		visit->elsewhere = strdup(domain);
	}
	unsigned changes = here ? count_changes(folded, visit->who.folded) : NEAR_CHANGES + 1;
	if (changes <= NEAR_CHANGES && changes < strlen(visit->who.folded)) {
		keep_near(visit, username, changes);
	}
	return 0;
}

static void look_up(struct stk_module *module, void *arg)
{
	struct visit *visit = arg;
	struct sqlite3 *db = stk_db(module, USERS_FILE, NULL);
	visit->found = db ? users_find(db, visit->who.folded, visit->who.domain, &visit->user) : -EIO;
	if (visit->found == 0) {
		int rc = users_each_name(db, compare_name, visit);
		visit->found = rc < 0 ? rc : 0;
	}
}

/* ---- telling ---- */

enum finding { OK, NOTE, BAD };

__attribute__((format(printf, 4, 5))) static void tell(struct visit *visit, const char *check, enum finding finding,
						       const char *fmt, ...)
{
	static const char *const findings[] = { "ok", "note", "bad" };
	char *text = NULL;
	va_list args;
	va_start(args, fmt);
	int len = vasprintf(&text, fmt, args);
	va_end(args);
	if (len < 0) {
		return;
	}
	json_t *line = json_pack("{s:s,s:s,s:s}", "check", check, "finding", findings[finding], "text", text);
	(void)account_line(visit->accounts, visit->answer, line);
	if (finding == BAD && !visit->keeps_out) {
		visit->keeps_out = text;
	} else {
		free(text);
	}
}

static void tell_account(struct visit *visit)
{
	const struct account_name *who = &visit->who;
	if (visit->found < 0) {
		tell(visit, "account", BAD, "the users table cannot be read: %s", strerror(-visit->found));
		return;
	}
	if (visit->found == 0) {
		tell(visit, "account", BAD, "there is no user %s@%s", who->name, who->domain);
		for (size_t i = 0; i < NEAR_MOST && visit->near[i].name; i++) {
			tell(visit, "account", NOTE, "there is one called %s", visit->near[i].name);
		}
		if (visit->elsewhere) {
			tell(visit, "account", NOTE, "there is one of that name in the domain %s", visit->elsewhere);
		}
		return;
	}
	tell(visit, "account", OK, "there is a user %s@%s%s", visit->user.username, who->domain,
	     strcmp(visit->user.username, who->name) != 0 ? "; names are compared without regard to case" : "");
	if (visit->user.enabled) {
		tell(visit, "enabled", OK, "the user is enabled");
	} else {
		tell(visit, "enabled", BAD, "the user is disabled");
	}
}

static void tell_password(struct visit *visit)
{
	const char *stored = visit->user.password, *looks = accounts_looks(visit->accounts, visit->who.bare);
	if (visit->found != 1) {
		return;
	}
	looks = !looks && verifier_kind(stored) == VERIFIER_PLAIN ? verifier_lookalike(stored) : looks;
	if (looks) {
		tell(visit, "password", BAD,
		     "what was put into the column password looks like %s but is none to the letter, so it was "
		     "taken as a plain password",
		     looks);
		return;
	}
	switch (verifier_kind(stored)) {
	case VERIFIER_NONE: tell(visit, "password", BAD, "the user has no password"); break;
	case VERIFIER_PLAIN:
		tell(visit, "password", OK, "there is a password, in clear; it is about to be replaced by a verifier");
		break;
	case VERIFIER_SCRAM: tell(visit, "password", OK, "there is a password, as a SCRAM-SHA-256 verifier"); break;
	case VERIFIER_CRYPT: tell(visit, "password", OK, "there is a password, as a crypt(3) string"); break;
	case VERIFIER_CRY:
		tell(visit, "password", OK, "there is a password, as a CRY: hash with%s salt",
		     visit->user.salt && *visit->user.salt ? "" : "out");
		break;
	}
}

static bool tell_listener(const char *address, enum stk_tls tls, void *arg)
{
	struct visit *visit = arg;
	bool plain = visit->accounts->plain_without_tls;
	const char *outside =
		plain ? "any password is taken"
		      : "only passwords encrypted for the server's RSA key are taken (plain-without-tls = off)";
	switch (tls) {
	case STK_TLS_OFF: tell(visit, "tls", NOTE, "%s has no TLS: %s", address, outside); break;
	case STK_TLS_OPTIONAL:
		tell(visit, "tls", NOTE, "%s offers TLS; from a client without it %s", address, outside);
		break;
	case STK_TLS_REQUIRED:
		tell(visit, "tls", NOTE, "%s requires TLS: a client that does not ask for it is refused", address);
		break;
	case STK_TLS_DIRECT: tell(visit, "tls", NOTE, "%s is TLS from the first byte on", address); break;
	}
	return true;
}

static void tell_limit(struct visit *visit)
{
	struct stk_auth_limit limit = { .size = sizeof(limit) };
	stk_auth_limit(visit->accounts->module, visit->who.bare, NULL, &limit);
	if (limit.refused_for > 0) {
		tell(visit, "limits", BAD, "too many failed tries: logins of this user are refused for another %.0f s",
		     ceil(limit.refused_for));
	} else if (limit.failures) {
		tell(visit, "limits", NOTE, "%u failed tries of %d that are allowed within a minute", limit.failures,
		     (int)limit.tries);
	} else {
		tell(visit, "limits", OK, "no failed tries of this user within the last minute");
	}
}

/* ---- what happened ---- */

static void format_time(int64_t ms, char *out, size_t size)
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;
	if (!gmtime_r(&seconds, &tm) || !strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm)) {
		snprintf(out, size, "%lld", (long long)ms);
	}
}

static bool tell_refusal(const struct stk_refusal *refusal, void *arg)
{
	struct visit *visit = arg;
	struct stk_auth_limit limit = { .size = sizeof(limit) };
	char at[32], times[32] = "";
	format_time(refusal->at, at, sizeof(at));
	if (refusal->count > 1) {
		snprintf(times, sizeof(times), ", %u times", refusal->count);
	}
	tell(visit, "refused", NOTE, "%s from %s%s: %s%s", at, refusal->address,
	     refusal->secure ? " with TLS" : " without TLS", refusal->why, times);
	if (!visit->told && asprintf(&visit->last, "%s: %s", at, refusal->why) < 0) {
		visit->last = NULL;
	}
	stk_auth_limit(visit->accounts->module, NULL, refusal->address, &limit);
	if (limit.refused_for > 0 && strcmp(visit->peer, refusal->address) != 0) {
		tell(visit, "limits", NOTE, "logins from %s, whoever it is, are refused for another %.0f s",
		     refusal->address, ceil(limit.refused_for));
	}
	snprintf(visit->peer, sizeof(visit->peer), "%s", refusal->address);
	return ++visit->told < REFUSALS;
}

static bool tell_session(struct stk_session *session, void *arg)
{
	struct visit *visit = arg;
	char at[32];
	format_time(stk_session_bound_at(session), at, sizeof(at));
	tell(visit, "session", OK, "connected since %s from %s%s: %s", at, stk_session_address(session),
	     stk_session_secure(session) ? " with TLS" : " without TLS", stk_session_resource(session));
	return true;
}

static void tell_verdict(struct visit *visit)
{
	char *text = NULL;
	bool can = !visit->keeps_out, refused = visit->last != NULL;
	int len = asprintf(&text, "%s %s%s%s%s", visit->who.bare,
			   can ? "can log in with the right password" : "cannot log in: ", can ? "" : visit->keeps_out,
			   refused ? "; the last refusal was at " : "", refused ? visit->last : "");
	if (len >= 0) {
		(void)account_line(visit->accounts, visit->answer,
				   json_pack("{s:s,s:b,s:s}", "check", "verdict", "can_log_in", can, "text", text));
		free(text);
	}
}

static void free_visit(struct visit *visit)
{
	users_fini(&visit->user);
	for (size_t i = 0; i < NEAR_MOST; i++) {
		free(visit->near[i].name);
	}
	free(visit->elsewhere);
	free(visit->keeps_out);
	free(visit->last);
	free(visit);
}

static void looked_up(struct stk_module *module, int status, void *arg)
{
	struct visit *visit = arg;
	visit->found = status < 0 ? status : visit->found;
	tell_account(visit);
	tell_password(visit);
	tell_limit(visit);
	stk_listeners(module, tell_listener, visit);
	if (stk_sessions(module, visit->who.bare, tell_session, visit) <= 0) {
		tell(visit, "session", NOTE, "not connected");
	}
	stk_auth_refusals(module, visit->who.bare, tell_refusal, visit);
	tell_verdict(visit);
	account_end(visit->accounts, visit->answer, NULL);
	free_visit(visit);
}

void doctor_run(struct stk_module *module, const char *text, struct stk_answer *answer)
{
	struct accounts *accounts = auth_accounts(module);
	json_t *args = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(args, "name"));
	struct visit *visit = calloc(1, sizeof(*visit));
	const char *wrong = visit ? account_name(module, name ? name : "", &visit->who) : "out of memory";
	if (!wrong) {
		visit->accounts = accounts;
		visit->answer = answer;
		wrong = stk_job(module, 0, look_up, looked_up, visit) < 0 ? "the server is too busy" : NULL;
	}
	account_free_args(args);
	if (wrong) {
		account_end(accounts, answer, wrong);
		free(visit);
	}
}
