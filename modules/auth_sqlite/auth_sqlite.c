/* SPDX-License-Identifier: MIT */
/* SASL PLAIN against the users table. Owns logging in and what follows from changes that operators make to the table; formats,
 * messages, keys and SQL have files of their own. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <sqlite3.h>
#include <uthash.h>
#include <utlist.h>

#include <startalkd/module.h>
#include <startalkd/service.h>

#include "accounts.h"
#include "credential.h"
#include "names.h"
#include "remembered.h"
#include "rsa.h"
#include "users.h"
#include "verifier.h"

#define CHANGES_MOST 200    /* rows looked at in one poll */
#define AT_ONCE      32     /* tries that workers have; fewer than come to count as guessing from one address */
#define SWEEP_EVERY 60      /* seconds between looks for passwords that were remembered long enough */
#define KEEP_MS      300000 /* how long a change is remembered for logins that are not bound yet */

struct conf {
	const char *rsa_key;
	bool plain_without_tls;
	int64_t iterations;
	double poll_interval, remember;
};

static const struct stk_option options[] = {
	{ "rsa-key", STK_OPT_PATH, offsetof(struct conf, rsa_key), NULL, 0, 3000,
	  "An RSA private key in PEM, 1024 bits or more, that clients encrypt passwords for; else a pair is made in state-dir", NULL },
	{ "plain-without-tls", STK_OPT_BOOL, offsetof(struct conf, plain_without_tls), "off", 0, 0,
	  "Accept passwords that are not RSA-encrypted outside TLS too", NULL },
	{ "iterations", STK_OPT_INT, offsetof(struct conf, iterations), "4096", 4096, 1000000,
	  "PBKDF2 rounds of the verifiers that replace plain passwords", NULL },
	{ "poll-interval", STK_OPT_SECONDS, offsetof(struct conf, poll_interval), "250ms", 10, 1500,
	  "How often the table is looked at for changes", NULL },
	{ "remember", STK_OPT_SECONDS, offsetof(struct conf, remember), "1d", 0, 604800000,
	  "How long after its last use a right password is remembered, as a hash in memory, so that logging in again costs no PBKDF2; 0: not at all",
	  NULL },
	{ 0 },
};

/* An account whose sessions were ended, for those that had logged in before but bind later. */
struct ended {
	UT_hash_handle hh;
	int64_t at;
	char *what;
	char jid[]; /* folded */
};

struct state {
	const struct conf *conf;
	gnutls_privkey_t key;
	const struct poll *polling; /* the look that was begun last, until it comes back or is written off */
	bool looking;   /* rows behind next_row have not been looked at since the start */
	int64_t next_row;
	int64_t audited; /* the last change that was told of */
	bool again;     /* something was not written: look whether the file has changed or not */
	bool dirty_log; /* a plain password may stand in the write-ahead log */
	struct ended *ended; /* by JID, the longest ago first */
	struct remembered *remembered;
	struct stk_timer *timer, *sweep;
	struct sqlite3 *db; /* the router thread's connection */
	struct names names; /* of all accounts; router thread */
	struct accounts accounts;
};

/* ---- logging in ---- */

/* One try. Workers read and judge it; auth belongs to the router thread and is NULL once the client is gone. */
struct attempt {
	struct attempt *prev, *next; /* in waiting or in judging */
	UT_hash_handle hh;           /* by auth, while there is one */
	struct stk_auth *auth;
	struct plain plain;
	char user[STK_JID_PART_MAX + 1];   /* as typed, without domain */
	char folded[STK_JID_MAX + 1];      /* the name as it is compared */
	char domain[STK_JID_PART_MAX + 1];
	bool secure, other_account;
	bool plain_without_tls; /* as configured when it came */
	unsigned iterations;
	const char *why; /* NULL: success */
	struct user account;
};

/* Router thread. After a restart all users come at once: what workers cannot have yet waits in order, is not refused, and holds up no
 * other job behind it. */
static struct {
	struct attempt *by_auth, *waiting, *judging;
	unsigned judging_count;
} tries;

static void leave_auth(struct attempt *attempt)
{
	if (attempt->auth) {
		HASH_DEL(tries.by_auth, attempt);
		attempt->auth = NULL;
	}
}

/* It is in no list any more. */
static void free_attempt(struct attempt *attempt)
{
	leave_auth(attempt);
	plain_fini(&attempt->plain);
	users_fini(&attempt->account);
	free(attempt);
}

static void catch_up(struct sqlite3 *db);

static int find_account(struct stk_module *module, struct attempt *attempt)
{
	struct sqlite3 *db = stk_db(module, USERS_FILE, NULL);
	if (!db) {
		return -EIO;
	}
	int rc = users_find(db, attempt->folded, attempt->domain, &attempt->account);
	bool ascii = true;
	for (const char *at = attempt->folded; *at; at++) {
		ascii = ascii && (unsigned char)*at < 0x80;
	}
	if (rc == 0 && !ascii) {
		/* SQL folds ASCII only: a row inserted a moment ago may wait for the server to fold its name. */
		catch_up(db);
		rc = users_find(db, attempt->folded, attempt->domain, &attempt->account);
	}
	return rc;
}

static bool is_right(const struct state *state, const struct attempt *attempt, bool usable, const char *password)
{
	const struct user *account = &attempt->account;
	char jid[sizeof(attempt->folded) + sizeof(attempt->domain) + 1];
	snprintf(jid, sizeof(jid), "%s@%s", attempt->folded, attempt->domain);
	int64_t now = stk_now_ms();
	if (usable && account->password && remembered_check(state->remembered, jid, account->password, account->salt, password, now)) {
		return true;
	}
	bool right = verifier_check(usable ? account->password : NULL, account->salt, password, attempt->iterations);
	if (right && usable) {
		remembered_add(state->remembered, jid, account->password, account->salt, password, now);
	}
	return right;
}

/* Every path but that of a password that is remembered does the same kind of work once: one decryption, one look-up, one verification. */
static void judge(struct stk_module *module, void *arg)
{
	struct attempt *attempt = arg;
	const struct state *state = stk_data(module);
	bool rsa = false;
	char *password = credential_password(state->key, attempt->user, attempt->plain.credential, &rsa);
	int found = find_account(module, attempt);
	bool usable = found == 1 && attempt->account.enabled;
	bool right = password && is_right(state, attempt, usable, password);
	attempt->why = !password || found < 0 ? "the users table cannot be read" :
	               found == 0 ? "unknown user" :
	               !attempt->account.enabled ? "the user is disabled" :
	               !attempt->account.password || !*attempt->account.password ? "the user has no password" :
	               !right ? "wrong password" :
	               attempt->other_account ? "authorization as another account was asked for" :
	               !rsa && !attempt->secure && !attempt->plain_without_tls ? "plain password outside TLS" : NULL;
	credential_wipe(password);
}

static void judge_waiting(struct stk_module *module);

static void stop_judging(struct attempt *attempt)
{
	DL_DELETE(tries.judging, attempt);
	tries.judging_count--;
}

static void answer(struct stk_module *module, int status, void *arg)
{
	struct attempt *attempt = arg;
	struct stk_auth *auth = attempt->auth;
	stop_judging(attempt);
	leave_auth(attempt);
	if (auth && status < 0) {
		stk_auth_fail(auth, attempt->user, NULL, "the server stops");
	} else if (auth && attempt->why) {
		stk_auth_fail(auth, attempt->user, NULL, attempt->why);
	} else if (auth) {
		stk_auth_succeed(auth, attempt->account.username);
	}
	free_attempt(attempt);
	judge_waiting(module);
}

/* Gives it to a worker, or refuses and frees it. */
static void begin_judging(struct stk_module *module, struct attempt *attempt)
{
	char jid[sizeof(attempt->folded) + sizeof(attempt->domain) + 1];
	struct stk_auth *auth = attempt->auth;
	snprintf(jid, sizeof(jid), "%s@%s", attempt->folded, attempt->domain);
	const char *why = stk_auth_allowed(auth, jid) ? NULL : "too many failed tries lately";
	if (!why && stk_job(module, 0, judge, answer, attempt) < 0) {
		why = "the server is too busy";
	}
	if (why) {
		leave_auth(attempt);
		stk_auth_fail(auth, attempt->user, NULL, why);
		free_attempt(attempt);
		return;
	}
	DL_APPEND(tries.judging, attempt);
	tries.judging_count++;
}

static void judge_waiting(struct stk_module *module)
{
	while (tries.waiting && tries.judging_count < AT_ONCE) {
		struct attempt *attempt = tries.waiting;
		DL_DELETE(tries.waiting, attempt);
		if (attempt->auth) {
			begin_judging(module, attempt);
		} else {
			free_attempt(attempt);
		}
	}
}

/* The job of ARG was written off, of an attempt or not: the worker that hangs keeps it. */
static void lose_attempt(struct stk_module *module, const void *arg)
{
	struct attempt *attempt = tries.judging;
	while (attempt && attempt != arg) {
		attempt = attempt->next;
	}
	if (!attempt) {
		return;
	}
	struct stk_auth *auth = attempt->auth;
	stop_judging(attempt);
	leave_auth(attempt);
	if (auth) {
		stk_auth_fail(auth, attempt->user, NULL, "the check of the password hangs");
	}
	judge_waiting(module);
}

/* authcid is "user" or "user@domain". 0, or -EINVAL: it can be no account of this stream. */
static int name_account(struct attempt *attempt, const char *stream_domain)
{
	struct stk_jid jid;
	char whole[STK_JID_MAX + 1];
	const char *authcid = attempt->plain.authcid;
	bool with_domain = strchr(authcid, '@') != NULL;
	int n = snprintf(whole, sizeof(whole), "%s%s%s", authcid, with_domain ? "" : "@", with_domain ? "" : stream_domain);
	if (n >= (int)sizeof(whole) || stk_jid_parse(&jid, whole) < 0 || !jid.node_len || jid.resource_len) {
		return -EINVAL;
	}
	snprintf(attempt->user, sizeof(attempt->user), "%.*s", (int)jid.node_len, jid.node);
	snprintf(attempt->domain, sizeof(attempt->domain), "%s", stream_domain);
	const char *authzid = attempt->plain.authzid;
	attempt->other_account = *authzid && strcmp(authzid, authcid) != 0 && !stk_jid_same(authzid, whole);
	if (stk_jid_fold(attempt->user, attempt->folded, sizeof(attempt->folded)) < 0) {
		return -EINVAL;
	}
	return stk_jid_same(jid.domain, stream_domain) ? 0 : -EINVAL; /* without a resource the domain ends the text */
}

static int step(struct stk_module *module, struct stk_auth *auth, const uint8_t *in, size_t len)
{
	const struct state *state = stk_data(module);
	struct attempt *attempt = calloc(1, sizeof(*attempt));
	if (!attempt) {
		stk_auth_fail(auth, NULL, NULL, "out of memory");
		return 0;
	}
	int rc = plain_parse(in, len, &attempt->plain);
	if (rc < 0) {
		free_attempt(attempt);
		return rc;
	}
	if (name_account(attempt, stk_auth_domain(auth)) < 0) {
		stk_auth_fail(auth, attempt->plain.authcid, NULL, "no user of this domain can be called so");
		free_attempt(attempt);
		return 0;
	}
	attempt->auth = auth;
	attempt->secure = stk_auth_secure(auth);
	attempt->plain_without_tls = state->conf->plain_without_tls;
	attempt->iterations = (unsigned)state->conf->iterations;
	HASH_ADD_PTR(tries.by_auth, auth, attempt);
	DL_APPEND(tries.waiting, attempt);
	judge_waiting(module);
	return 0;
}

static void forget(struct stk_module *module, struct stk_auth *auth)
{
	struct attempt *attempt;
	(void)module;
	HASH_FIND_PTR(tries.by_auth, &auth, attempt);
	if (attempt) {
		leave_auth(attempt);
	}
}

/* ---- changes of the table ---- */

struct rewrite {
	int64_t row, seq;
	char *plain, *folded, *username, *domain, verifier[VERIFIER_MAX];
	const char *looks; /* what PLAIN looks like, or NULL */
};

struct ending {
	struct stk_module *module;
	const struct ended *ended;
};

static void end_session(struct stk_session *session, const char *what)
{
	char reason[64];
	snprintf(reason, sizeof(reason), "account changed: %s", what);
	stk_session_end(session, 201, reason);
}

/* A session that logged in after the change did so with what is in the table now. */
static bool end_older(struct stk_session *session, void *arg)
{
	const struct ending *ending = arg;
	if (stk_session_login_at(session) <= ending->ended->at) {
		end_session(session, ending->ended->what);
	}
	return true;
}

static void forget_ended(struct state *state, int64_t before)
{
	struct ended *ended, *next;
	HASH_ITER (hh, state->ended, ended, next) {
		if (ended->at >= before) {
			break;
		}
		HASH_DEL(state->ended, ended);
		free(ended->what);
		free(ended);
	}
}

static struct ended *note_ended(struct state *state, const char *jid, const char *what, int64_t at)
{
	struct ended *ended = NULL;
	size_t len = strlen(jid);
	HASH_FIND(hh, state->ended, jid, len, ended);
	if (ended) { /* it is among the latest again */
		HASH_DEL(state->ended, ended);
		free(ended->what);
		free(ended);
	}
	ended = calloc(1, sizeof(*ended) + len + 1);
	char *copy = strdup(what);
	if (!ended || !copy) {
		free(ended);
		free(copy);
		return NULL;
	}
	ended->at = at;
	ended->what = copy;
	memcpy(ended->jid, jid, len + 1);
	HASH_ADD(hh, state->ended, jid, len, ended);
	return ended;
}

static bool name_of(const char *username, const char *domain, char *out, size_t size);

/* Nobody has been an account that is new. */
static void end_sessions(struct stk_module *module, const struct change *change)
{
	struct state *state = stk_data(module);
	char jid[STK_JID_MAX + 1];
	const char *what = change->what ? change->what : "?";
	int count = 0;
	if (!name_of(change->username, change->domain, jid, sizeof(jid))) {
		return;
	}
	if (strcmp(what, "new") != 0) {
		struct ended *ended = note_ended(state, jid, what, change->at);
		struct ending ending = { .module = module, .ended = ended };
		count = ended ? stk_sessions(module, jid, end_older, &ending) : 0;
	}
	stk_log(module, LOG_DEBUG, "users: %s@%s: %s (%d sessions)", change->username, change->domain, what, count);
	forget_ended(state, stk_now_ms() - KEEP_MS);
}

static int on_bound(struct stk_module *module, const struct stk_event *event, void *arg)
{
	const struct state *state = stk_data(module);
	char jid[STK_JID_MAX + 1];
	struct ended *ended = NULL;
	(void)arg;
	if (state->ended && stk_jid_fold(stk_session_bare(event->session), jid, sizeof(jid)) == 0) {
		HASH_FIND(hh, state->ended, jid, strlen(jid), ended);
	}
	if (ended && stk_session_login_at(event->session) <= ended->at) {
		end_session(event->session, ended->what);
	}
	return STK_PASS;
}

/* ---- who has an account ---- */

static bool name_of(const char *username, const char *domain, char *out, size_t size)
{
	char whole[STK_JID_MAX + 1];
	int n = username && domain ? snprintf(whole, sizeof(whole), "%s@%s", username, domain) : (int)sizeof(whole);
	return n < (int)sizeof(whole) && stk_jid_fold(whole, out, size) == 0;
}

static void follow_name(struct stk_module *module, const struct change *change)
{
	struct state *state = stk_data(module);
	char bare[STK_JID_MAX + 1];
	if (!change->what || !name_of(change->username, change->domain, bare, sizeof(bare))) {
		return;
	}
	if (strcmp(change->what, "deleted") == 0) {
		names_remove(&state->names, bare);
	} else if (strcmp(change->what, "new") == 0 && names_add(&state->names, bare) < 0) {
		stk_log(module, LOG_ERR, "users: %s: out of memory: others cannot write to this user until the server is restarted", bare);
	}
}

static int load_name(const char *username, const char *domain, void *arg)
{
	char bare[STK_JID_MAX + 1];
	return name_of(username, domain, bare, sizeof(bare)) ? names_add(arg, bare) : 0;
}

/* Somebody unknown may have been added since the last poll: one look at the index then, which does not wait for locks. */
static bool user_exists(struct stk_module *module, const char *bare)
{
	struct state *state = stk_data(module);
	const char *at = strchr(bare, '@');
	char folded[STK_JID_PART_MAX + 1];
	struct user user;
	if (names_has(&state->names, bare) || !at || at - bare >= (int)sizeof(folded)) {
		return at && names_has(&state->names, bare);
	}
	memcpy(folded, bare, (size_t)(at - bare));
	folded[at - bare] = '\0';
	bool found = users_find(state->db, folded, at + 1, &user) == 1;
	users_fini(&user);
	return found && names_add(&state->names, bare) == 0;
}

/* ---- what has to be written ---- */

static void free_rewrite(struct rewrite *rewrite)
{
	credential_wipe(rewrite->plain);
	free(rewrite->folded);
	free(rewrite->username);
	free(rewrite->domain);
	free(rewrite);
}

static int write_row(struct stk_module *module, struct sqlite3 *db, void *arg)
{
	struct rewrite *rewrite = arg;
	int rc = rewrite->folded ? users_refold(db, rewrite->row, rewrite->folded) : 0;
	if (rc == -EEXIST) {
		stk_log(module, LOG_WARNING, "users: %s: another row has the same name after case folding; that one holds, rename or "
		                             "delete this one", rewrite->username);
		rc = 0;
	}
	if (rc == 0 && rewrite->plain) {
		rc = users_rehash(db, rewrite->row, rewrite->plain, rewrite->verifier);
	}
	return rc < 0 || !rewrite->seq ? rc : users_consume(db, rewrite->seq);
}

/* Something is still to be written: every row is looked at once more. */
static void look_again(struct state *state)
{
	state->looking = state->again = true;
	state->next_row = 0;
}

static void row_written(struct stk_module *module, int status, void *arg)
{
	struct rewrite *rewrite = arg;
	struct state *state = stk_data(module);
	if (status < 0) {
		stk_log(module, LOG_ERR, "users: %s: the row cannot be updated: %s", rewrite->username ? rewrite->username : "?", strerror(-status));
		look_again(state);
	} else if (rewrite->plain) {
		state->dirty_log = true;
	}
	if (status == 0 && rewrite->looks && rewrite->username && rewrite->domain) {
		stk_log(module, LOG_WARNING, "users: %s: the password looks like %s but is none to the letter: taken as a plain password",
		        rewrite->username, rewrite->looks);
		accounts_note(&state->accounts, rewrite->username, rewrite->domain, rewrite->looks);
	}
	free_rewrite(rewrite);
}

/* One look at the table: wanted and found. Filled on a worker, used on the router thread. */
struct poll {
	bool looking, again, checkpoint, clean;
	unsigned iterations;
	int64_t next_row; /* where looking goes on; 0 afterwards: it is through */
	struct change *changes;
	struct rewrite **rewrites; /* what has to be written */
	size_t count;
};

/* What has to be written of a row; NULL: nothing, or out of memory. */
static struct rewrite *make_rewrite(const struct change *change, unsigned iterations, int64_t seq)
{
	bool plain = verifier_kind(change->password) == VERIFIER_PLAIN;
	struct rewrite *rewrite = plain || change->folded || seq ? calloc(1, sizeof(*rewrite)) : NULL;
	if (!rewrite) {
		return NULL;
	}
	rewrite->row = change->row;
	rewrite->seq = seq;
	rewrite->username = change->username ? strdup(change->username) : NULL;
	rewrite->domain = change->domain ? strdup(change->domain) : NULL;
	rewrite->folded = change->folded ? strdup(change->folded) : NULL;
	rewrite->looks = plain ? verifier_lookalike(change->password) : NULL;
	if (plain && (rewrite->plain = strdup(change->password)) && verifier_make(rewrite->plain, iterations, rewrite->verifier) < 0) {
		credential_wipe(rewrite->plain);
		rewrite->plain = NULL;
	}
	return rewrite;
}

static void add_rewrites(struct poll *poll, const struct change *list, unsigned iterations)
{
	for (const struct change *change = list; change && poll->rewrites; change = change->next) {
		/* The last change takes with it the mark that all were seen. */
		struct rewrite *rewrite = make_rewrite(change, iterations, change->next ? 0 : change->seq);
		if (rewrite) {
			poll->rewrites[poll->count++] = rewrite;
		}
	}
}

/* A connection tells whether another one has written since it was last asked; each worker has its own. */
static bool has_changed(struct sqlite3 *db)
{
	static _Thread_local int64_t seen = -1;
	int64_t version = users_data_version(db);
	bool changed = version != seen;
	seen = version;
	return changed;
}

static void look(struct stk_module *module, void *arg)
{
	struct poll *poll = arg;
	unsigned iterations = poll->iterations;
	struct sqlite3 *db = stk_db(module, USERS_FILE, NULL);
	if (!db || (!has_changed(db) && !poll->looking && !poll->again && !poll->checkpoint)) {
		return;
	}
	poll->rewrites = calloc(2 * CHANGES_MOST, sizeof(struct rewrite *));
	poll->changes = users_read_changes(db, CHANGES_MOST);
	add_rewrites(poll, poll->changes, iterations);
	if (poll->looking) {
		struct change *rows = users_read_rows(db, poll->next_row, CHANGES_MOST);
		add_rewrites(poll, rows, iterations);
		poll->next_row = 0;
		for (const struct change *row = rows; row; row = row->next) {
			poll->next_row = row->row;
		}
		users_free_changes(rows);
	}
	poll->clean = poll->checkpoint && !poll->count && users_checkpoint(db);
}

static void poll_table(struct stk_module *module, void *arg);

/* Changes are read once more when what follows from them is not written yet. */
static void audit_change(struct stk_module *module, const struct change *change)
{
	struct state *state = stk_data(module);
	char bare[STK_JID_MAX + 1];
	if (change->seq > state->audited && snprintf(bare, sizeof(bare), "%s@%s", change->username, change->domain) < (int)sizeof(bare)) {
		state->audited = change->seq;
		stk_audit(module, &(struct stk_audit){ .size = sizeof(struct stk_audit), .event = "account", .user = bare, .reason = change->what });
	}
}

static void looked(struct stk_module *module, int status, void *arg)
{
	struct poll *poll = arg;
	struct state *state = stk_data(module);
	bool more = status == 0 && poll->looking && poll->next_row;
	state->polling = NULL;
	if (status == 0) {
		state->dirty_log = state->dirty_log && !poll->clean;
		state->looking = more;
		state->next_row = poll->next_row;
		state->again = false;
	}
	for (const struct change *change = poll->changes; change && status == 0; change = change->next) {
		if (change->username && change->domain) {
			audit_change(module, change);
			follow_name(module, change);
			accounts_note(&state->accounts, change->username, change->domain, NULL);
			end_sessions(module, change);
		}
	}
	for (size_t i = 0; i < poll->count; i++) {
		if (status < 0 || stk_db_write(module, USERS_FILE, write_row, row_written, poll->rewrites[i]) < 0) {
			free_rewrite(poll->rewrites[i]);
			look_again(state);
		}
	}
	users_free_changes(poll->changes);
	free(poll->rewrites);
	free(poll);
	if (more) {
		poll_table(module, NULL);
	}
}

static void poll_table(struct stk_module *module, void *arg)
{
	(void)arg;
	struct state *state = stk_data(module);
	struct poll *poll = state->polling ? NULL : calloc(1, sizeof(*poll));
	if (!poll) {
		return;
	}
	poll->iterations = (unsigned)state->conf->iterations;
	poll->looking = state->looking;
	poll->next_row = state->next_row;
	poll->again = state->again;
	poll->checkpoint = state->dirty_log;
	if (stk_job(module, 1, look, looked, poll) < 0) {
		free(poll);
		return;
	}
	state->polling = poll;
}

/* What the look saw as changed is looked at by the next one, whatever that sees. */
static void on_job_lost(struct stk_module *module, stk_work_fn *work, const void *arg)
{
	struct state *state = stk_data(module);
	(void)work;
	if (state->polling && arg == state->polling) {
		state->polling = NULL;
		look_again(state);
	} else {
		lose_attempt(module, arg);
	}
}

/* On a worker: names that SQL could not fold, for a login that waits for one. The poll does the rest. */
static void catch_up(struct sqlite3 *db)
{
	struct change *changes = users_read_changes(db, CHANGES_MOST);
	for (const struct change *change = changes; change; change = change->next) {
		if (change->folded) {
			(void)users_refold(db, change->row, change->folded);
		}
	}
	users_free_changes(changes);
}

/* ---- life ---- */

struct accounts *auth_accounts(struct stk_module *module)
{
	return &((struct state *)stk_data(module))->accounts;
}

static void look_soon(struct stk_module *module)
{
	poll_table(module, NULL);
}

static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	if (!state) {
		return;
	}
	while (tries.waiting) { /* nobody waits for these any more */
		struct attempt *attempt = tries.waiting;
		DL_DELETE(tries.waiting, attempt);
		free_attempt(attempt);
	}
	bool hangs = tries.judging != NULL;
	while (tries.judging) { /* nor for these */
		struct attempt *attempt = tries.judging;
		stop_judging(attempt);
		leave_auth(attempt);
	}
	forget_ended(state, INT64_MAX);
	names_fini(&state->names);
	accounts_fini(&state->accounts);
	stk_set_data(module, NULL);
	if (hangs) { /* in a worker that may still ask for the key and for what is remembered */
		return;
	}
	remembered_free(&state->remembered);
	if (state->key) {
		gnutls_privkey_deinit(state->key);
	}
	free(state);
}

static void sweep_all(struct stk_module *module, void *arg)
{
	const struct state *state = stk_data(module);
	(void)arg;
	remembered_sweep(state->remembered, stk_now_ms());
}

static void sweep(struct stk_module *module, void *arg)
{
	(void)arg;
	stk_job(module, 0, sweep_all, NULL, NULL); /* there is another one in a minute */
}

static int start(struct stk_module *module, struct state *state)
{
	static const struct stk_mech plain = { .size = sizeof(plain), .name = "PLAIN", .step = step, .abort = forget };
	static const struct stk_users users = { .size = sizeof(users), .exists = user_exists };
	struct sqlite3 *db = stk_db(module, USERS_FILE, users_migrations);
	if (!db || users_set_default_domain(db, stk_domains(module)[0]) < 0) {
		return -EIO;
	}
	state->remembered = remembered_new();
	if (!state->remembered) {
		return -ENOMEM;
	}
	remembered_keep(state->remembered, state->conf->remember);
	state->db = db;
	sqlite3_busy_timeout(db, 0); /* the router thread must not wait; from here on it only looks names up */
	int rc = names_init(&state->names);
	rc = rc < 0 ? rc : users_each_name(db, load_name, &state->names);
	state->key = rc < 0 ? NULL : rsa_open(module, state->conf->rsa_key);
	if (!state->key) {
		return rc < 0 ? rc : -EIO;
	}
	rc = stk_mech(module, &plain);
	rc = rc < 0 ? rc : stk_provide(module, "users", 1, 0, &users);
	rc = rc < 0 ? rc : accounts_provide(&state->accounts);
	rc = rc < 0 ? rc : stk_on(module, STK_SESSION_BOUND, 100, on_bound, NULL);
	rc = rc < 0 ? rc : stk_job_lost(module, on_job_lost);
	state->timer = rc < 0 ? NULL : stk_timer(module, 0, state->conf->poll_interval, poll_table, NULL);
	state->sweep = rc < 0 ? NULL : stk_timer(module, SWEEP_EVERY, SWEEP_EVERY, sweep, NULL);
	return rc < 0 ? rc : state->timer && state->sweep ? 0 : -ENOMEM;
}

static int load(struct stk_module *module, const void *conf)
{
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	state->conf = conf;
	state->accounts = (struct accounts){ .module = module, .iterations = (unsigned)state->conf->iterations,
		                             .plain_without_tls = state->conf->plain_without_tls, .changed = look_soon };
	state->looking = true;
	state->dirty_log = true; /* an earlier process may have been killed before its checkpoint */
	stk_set_data(module, state);
	int rc = start(module, state);
	if (rc < 0) {
		unload(module);
	}
	return rc;
}

static bool is_same_path(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Workers may be using the key, so that one stays until the next start. */
static int reload(struct stk_module *module, const void *arg)
{
	struct state *state = stk_data(module);
	const struct conf *conf = arg;
	if (!is_same_path(conf->rsa_key, state->conf->rsa_key)) {
		stk_log(module, LOG_ERR, "rsa-key: it can be changed by a restart only");
		return -EBUSY;
	}
	struct stk_timer *timer = stk_timer(module, 0, conf->poll_interval, poll_table, NULL);
	if (!timer) {
		return -ENOMEM;
	}
	stk_timer_stop(&state->timer);
	state->timer = timer;
	state->conf = conf;
	remembered_keep(state->remembered, conf->remember);
	state->accounts.iterations = (unsigned)conf->iterations;
	state->accounts.plain_without_tls = conf->plain_without_tls;
	return 0;
}

STK_MODULE(.name = "auth_sqlite", .version = "0.1", .options = options, .conf_size = sizeof(struct conf),
           .load = load, .reload = reload, .unload = unload);
