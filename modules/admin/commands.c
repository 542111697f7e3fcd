/* SPDX-License-Identifier: MIT */
/* The commands that concern the server as a whole and its sessions: help, status, sessions, notify, kick, reload,
 * stop. Those that belong to a feature stand with its module. */

#include "admin.h"
#include "backup.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#define NOTIFY "jabber:x:presence_notify"
#define WALK_TURN 256 /* sessions that are dealt with before others get their turn */
#define REASON_MAX 512

/* ---- what is common ---- */

/* Takes LINE. As answer_line(). */
static int put(struct stk_answer *answer, json_t *line)
{
	char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	int rc = text ? answer_line(answer, text) : -ENOMEM;
	free(text);
	json_decref(line);
	return rc;
}

/* ARGS has been found to be an object before. NULL: out of memory, and ANSWER is ended. */
static json_t *parse(const char *args, struct stk_answer *answer)
{
	json_t *root = json_loads(args, JSON_REJECT_DUPLICATES, NULL);
	if (!root) {
		answer_end(answer, "out of memory");
	}
	return root;
}

static bool is_served(struct stk_module *module, const char *domain)
{
	const char *const *each = stk_domains(module);
	while (*each && !stk_jid_same(*each, domain)) {
		each++;
	}
	return *each != NULL;
}

/* JID becomes the JID that USER, a name or a JID, stands for; BARE its folded bare form. False: there is no such user,
 * and ANSWER is ended. */
static bool find_user(struct stk_module *module, const json_t *user, struct stk_answer *answer,
		      char jid[STK_JID_MAX + 1], char bare[STK_JID_MAX + 1])
{
	const char *text = json_string_value(user);
	struct stk_jid parts;
	if (!text || !*text) {
		answer_end(answer, "which user? a name or a JID is wanted");
		return false;
	}
	char folded[STK_JID_MAX + 1];
	bool whole = strchr(text, '@') != NULL;
	int len = snprintf(jid, STK_JID_MAX + 1, "%s%s%s", text, whole ? "" : "@", whole ? "" : stk_domains(module)[0]);
	if (len > STK_JID_MAX || stk_jid_parse(&parts, jid) < 0 || !parts.node_len ||
	    stk_jid_fold(jid, folded, sizeof(folded)) < 0 || stk_jid_bare(folded, bare, STK_JID_MAX + 1) < 0) {
		answer_fail(answer, "'%s' is neither the name of a user nor a JID", text);
		return false;
	}
	struct stk_module *provider = NULL;
	const struct state *state = stk_data(module);
	const struct stk_users *users = stk_service(state->users, &provider);
	if (!is_served(module, strchr(bare, '@') + 1)) {
		answer_fail(answer, "this server does not serve the domain %s", strchr(bare, '@') + 1);
	} else if (users && !users->exists(provider, bare)) {
		answer_fail(answer, "there is no user %s", bare);
	} else {
		return true;
	}
	return false;
}

/* An integer, also as the text of one. False: there is none. */
static bool get_number(const json_t *value, json_int_t least, json_int_t most, json_int_t *out)
{
	char *end = NULL;
	const char *text = json_string_value(value);
	errno = 0;
	*out = json_is_integer(value) ? json_integer_value(value) : text ? strtoll(text, &end, 10) : least - 1;
	return !errno && !(end && (end == text || *end)) && *out >= least && *out <= most;
}

/* ---- walking over sessions ---- */

/* A command that goes through many sessions, some a turn: they may come and go meanwhile. */
struct walk {
	struct walk *next, **prev;
	struct stk_module *module;
	struct stk_answer *answer;
	struct stk_timer *timer;
	uint64_t *ids;
	size_t count, cap, at;
	int rc;
	/* -EAGAIN: once more when there is room; else below 0: stop. */
	int (*each)(struct walk *walk, struct stk_session *session);
	void (*finish)(struct walk *walk); /* ends the answer */
	char *category, *data;             /* of a notice */
	size_t sent;
};

static void free_walk(struct walk *walk)
{
	*walk->prev = walk->next;
	if (walk->next) {
		walk->next->prev = walk->prev;
	}
	free(walk->ids);
	free(walk->category);
	free(walk->data);
	free(walk);
}

void commands_drop(struct state *state)
{
	while (state->walks) {
		answer_end(state->walks->answer, "the module admin is going away");
		free_walk(state->walks);
	}
}

static bool remember(struct stk_session *session, void *arg)
{
	struct walk *walk = arg;
	if (walk->count == walk->cap) {
		size_t cap = walk->cap ? 2 * walk->cap : 64;
		uint64_t *ids = realloc(walk->ids, cap * sizeof(*ids));
		if (!ids) {
			walk->rc = -ENOMEM;
			return false;
		}
		walk->ids = ids;
		walk->cap = cap;
	}
	walk->ids[walk->count++] = stk_session_id(session);
	return true;
}

static void step_walk(struct walk *walk);

static void on_turn(struct stk_module *module, void *arg)
{
	struct walk *walk = arg;
	(void)module;
	stk_timer_stop(&walk->timer);
	step_walk(walk);
}

static void on_room(struct stk_answer *answer, void *arg)
{
	(void)answer;
	step_walk(arg);
}

static void step_walk(struct walk *walk)
{
	size_t most = walk->count - walk->at > WALK_TURN ? walk->at + WALK_TURN : walk->count;
	int rc = 0;
	while (walk->at < most && rc >= 0) {
		struct stk_session *session = stk_session_find(walk->module, walk->ids[walk->at]);
		rc = session ? walk->each(walk, session) : 0;
		walk->at += rc != -EAGAIN;
	}
	if (rc == -EAGAIN) {
		answer_wait(walk->answer, on_room, walk);
		return;
	}
	walk->rc = rc;
	if (rc == 0 && walk->at < walk->count) {
		walk->timer = stk_timer(walk->module, 0, 0, on_turn, walk);
		walk->rc = walk->timer ? 0 : -ENOMEM;
	}
	if (!walk->timer) {
		walk->finish(walk);
		free_walk(walk);
	}
}

/* A walk over the sessions of JID (NULL: all), not yet begun. NULL: out of memory, and ANSWER is ended. */
static struct walk *new_walk(struct stk_module *module, const char *jid, struct stk_answer *answer)
{
	struct state *state = stk_data(module);
	struct walk *walk = calloc(1, sizeof(*walk));
	if (!walk) {
		answer_end(answer, "out of memory");
		return NULL;
	}
	*walk = (struct walk){ .next = state->walks, .prev = &state->walks, .module = module, .answer = answer };
	if (state->walks) {
		state->walks->prev = &walk->next;
	}
	state->walks = walk;
	stk_sessions(module, jid, remember, walk);
	if (walk->rc < 0) {
		answer_end(answer, "out of memory");
		free_walk(walk);
		return NULL;
	}
	return walk;
}

/* ---- help ---- */

struct helper {
	struct stk_module *module;
	struct stk_answer *answer;
};

static bool help_one(const char *service, void *arg)
{
	const struct helper *helper = arg;
	struct stk_module *provider;
	const char *name = strchr(service, ':') + 1;
	const struct stk_command *command = admin_command(helper->module, name, &provider);
	return !command || put(helper->answer, json_pack("{s:s,s:s,s:s}", "command", name, "usage", command->usage,
							 "help", command->help)) == 0;
}

static void run_help(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	(void)args;
	struct helper helper = { .module = module, .answer = answer };
	stk_services(module, "command:", help_one, &helper);
	answer_end(answer, NULL);
}

/* ---- status ---- */

static bool add_module(const struct stk_module_info *info, void *arg)
{
	json_array_append_new(arg, json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "name", info->name, "version",
					     info->version, "calls", (json_int_t)info->calls, "stanzas",
					     (json_int_t)info->stanzas, "microseconds", (json_int_t)info->microseconds,
					     "slow", (json_int_t)info->slow_calls, "jobs", (json_int_t)info->jobs,
					     "jobs-under-way", (json_int_t)info->jobs_under_way, "jobs-lost",
					     (json_int_t)info->jobs_lost));
	return true;
}

static bool add_listener(const char *address, enum stk_tls tls, void *arg)
{
	static const char *const modes[] = { "off", "optional", "required", "direct" };
	json_array_insert_new(arg, 0, json_pack("{s:s,s:s}", "address", address, "tls", modes[tls]));
	return true;
}

/* Bytes of memory in use; 0: unknown. */
static json_int_t resident(void)
{
	long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");
	if (file) {
		pages = fscanf(file, "%*d %lld", &pages) == 1 ? pages : 0;
		fclose(file);
	}
	return pages * sysconf(_SC_PAGESIZE);
}

static void run_status(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	(void)args;
	struct stk_status status = { .size = sizeof(status) };
	json_t *modules = json_array(), *listeners = json_array();
	stk_status(module, &status);
	stk_modules(module, add_module, modules);
	stk_listeners(module, add_listener, listeners);
	int rc = put(answer, json_pack("{s:s,s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "version", status.version, "pid",
				       (int)getpid(), "started", (json_int_t)status.started_at, "uptime",
				       (json_int_t)(stk_now_ms() - status.started_at) / 1000, "connections",
				       (json_int_t)status.connections, "sessions", (json_int_t)status.sessions, "users",
				       (json_int_t)status.users, "memory", resident(), "listeners", listeners,
				       "modules", modules));
	answer_end(answer, rc < 0 ? strerror(-rc) : NULL);
}

/* ---- metrics ---- */

struct metrics {
	struct stk_metric_info *all;
	size_t count, cap;
	int rc;
};

static bool add_metric(const struct stk_metric_info *info, void *arg)
{
	struct metrics *metrics = arg;
	if (metrics->count == metrics->cap) {
		size_t cap = metrics->cap ? 2 * metrics->cap : 64;
		struct stk_metric_info *all = realloc(metrics->all, cap * sizeof(*all));
		if (!all) {
			metrics->rc = -ENOMEM;
			return false;
		}
		metrics->all = all;
		metrics->cap = cap;
	}
	metrics->all[metrics->count++] = *info;
	return true;
}

static int by_name(const void *a, const void *b)
{
	const struct stk_metric_info *one = a, *other = b;
	return strcmp(one->name, other->name);
}

static void run_metrics(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	(void)args;
	struct metrics metrics = { 0 };
	stk_metrics(module, add_metric, &metrics);
	if (metrics.count) {
		qsort(metrics.all, metrics.count, sizeof(*metrics.all), by_name);
	}
	for (size_t i = 0; i < metrics.count && metrics.rc == 0; i++) {
		const struct stk_metric_info *info = &metrics.all[i];
		metrics.rc = put(answer, json_pack("{s:s,s:I,s:s}", "name", info->name, "value", (json_int_t)info->value,
						   "help", info->help));
	}
	free(metrics.all);
	answer_end(answer, metrics.rc < 0 ? strerror(-metrics.rc) : NULL);
}

/* ---- sessions ---- */

static int tell_session(struct walk *walk, struct stk_session *session)
{
	json_t *line = json_pack("{s:s,s:s,s:b,s:b,s:i,s:s,s:I}", "jid", stk_session_jid(session), "address",
				 stk_session_address(session), "tls", stk_session_secure(session), "available",
				 stk_session_available(session), "priority", stk_session_priority(session), "show",
				 stk_session_show(session), "bound", (json_int_t)stk_session_bound_at(session));
	return put(walk->answer, line);
}

static void end_walk(struct walk *walk)
{
	answer_end(walk->answer, walk->rc < 0 ? strerror(-walk->rc) : NULL);
}

static void run_sessions(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	char jid[STK_JID_MAX + 1], bare[STK_JID_MAX + 1];
	json_t *root = parse(args, answer), *user = json_object_get(root, "user");
	if (root && (!user || find_user(module, user, answer, jid, bare))) {
		struct walk *walk = new_walk(module, user ? jid : NULL, answer);
		if (walk) {
			walk->each = tell_session;
			walk->finish = end_walk;
			step_walk(walk);
		}
	}
	json_decref(root);
}

/* ---- notify ---- */

static int notify_session(struct walk *walk, struct stk_session *session)
{
	if (!stk_session_available(session)) {
		return 0;
	}
	struct stk_stanza *notice = stk_stanza_new(STK_PRESENCE, "notify", NULL);
	stk_stanza_set_from(notice, stk_session_bare(session));
	stk_stanza_set_to(notice, stk_session_jid(session));
	struct stk_node *root = stk_stanza_edit(notice);
	stk_node_set(root, "category", walk->category);
	stk_node_set(root, "data", walk->data);
	stk_node_add(root, "notify", NOTIFY);
	walk->sent += stk_send_to(session, notice) == 0;
	return 0;
}

static const char *plural(size_t count)
{
	return count == 1 ? "" : "s";
}

static void end_notify(struct walk *walk)
{
	char text[128];
	snprintf(text, sizeof(text), "%zu session%s got it", walk->sent, plural(walk->sent));
	(void)put(walk->answer, json_pack("{s:I,s:s}", "sessions", (json_int_t)walk->sent, "text", text));
	end_walk(walk);
}

/* The text that clients get: a string as it is, anything else as JSON. malloc'd. */
static char *notice_data(const json_t *data)
{
	return data && !json_is_string(data) ? json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY)
					     : strdup(data ? json_string_value(data) : "");
}

static void notify(struct stk_module *module, const json_t *root, struct stk_answer *answer)
{
	char jid[STK_JID_MAX + 1], bare[STK_JID_MAX + 1], number[32];
	json_int_t category;
	const json_t *user = json_object_get(root, "user");
	bool all = json_is_true(json_object_get(root, "all"));
	if (!get_number(json_object_get(root, "category"), 0, INT_MAX, &category)) {
		answer_end(answer, "a notice has a category, a number such as 98 (global notice) or 100 (log out)");
		return;
	}
	if (all == (user != NULL)) {
		answer_end(answer, "who is it for? either a user or all is wanted");
		return;
	}
	if (!all && !find_user(module, user, answer, jid, bare)) {
		return;
	}
	struct walk *walk = new_walk(module, all ? NULL : jid, answer);
	if (!walk) {
		return;
	}
	snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, category);
	walk->category = strdup(number);
	walk->data = notice_data(json_object_get(root, "data"));
	walk->each = notify_session;
	walk->finish = end_notify;
	if (walk->category && walk->data) {
		step_walk(walk);
	} else {
		answer_end(answer, "out of memory");
		free_walk(walk);
	}
}

static void run_notify(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	json_t *root = parse(args, answer);
	if (root) {
		notify(module, root, answer);
	}
	json_decref(root);
}

/* ---- kick ---- */

struct kick {
	struct stk_module *module;
	char by[64];
	int code;
	const char *reason;
	size_t count;
};

static bool end_session(struct stk_session *session, void *arg)
{
	struct kick *kick = arg;
	stk_audit(kick->module, &(struct stk_audit){ .size = sizeof(struct stk_audit), .event = "kick", .user = stk_session_jid(session),
						     .address = stk_session_address(session), .by = kick->by, .reason = kick->reason,
						     .code = kick->code });
	stk_session_end(session, kick->code, kick->reason);
	kick->count++;
	return true;
}

static void kick(struct stk_module *module, const json_t *root, struct stk_answer *answer)
{
	char jid[STK_JID_MAX + 1], bare[STK_JID_MAX + 1], text[STK_JID_MAX + 128];
	json_int_t code = 201;
	const json_t *wanted = json_object_get(root, "code"), *reason = json_object_get(root, "reason");
	struct kick kick = { .module = module, .reason = reason ? json_string_value(reason) : "kicked by an administrator" };
	if (wanted && !get_number(wanted, 100, 299, &code)) {
		answer_end(answer, "the code is a number from 100 to 199 (the client connects again) or from 200 to "
				   "299 (it does not)");
	} else if (!kick.reason || strlen(kick.reason) > REASON_MAX) {
		answer_fail(answer, "the reason is a text of %d bytes at most", REASON_MAX);
	} else if (find_user(module, json_object_get(root, "user"), answer, jid, bare)) {
		kick.code = (int)code;
		admin_by(answer, kick.by, sizeof(kick.by));
		stk_sessions(module, jid, end_session, &kick);
		snprintf(text, sizeof(text), "%zu session%s of %s ended", kick.count, plural(kick.count), jid);
		(void)put(answer, json_pack("{s:I,s:s}", "sessions", (json_int_t)kick.count, "text", text));
		answer_end(answer, NULL);
	}
}

static void run_kick(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	json_t *root = parse(args, answer);
	if (root) {
		kick(module, root, answer);
	}
	json_decref(root);
}

/* ---- reload, stop ---- */

static void tell_reload(const char *text, void *arg)
{
	(void)put(arg, json_pack("{s:s}", "text", text));
}

static void run_reload(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	json_t *root = parse(args, answer);
	if (!root) {
		return;
	}
	bool dry_run = json_is_true(json_object_get(root, "dry-run"));
	int rc = stk_reload(module, dry_run, tell_reload, answer);
	if (rc == 0) {
		answer_end(answer, NULL);
	} else {
		answer_fail(answer, "everything stays as it was: %s",
			    rc == -EINVAL ? "the configuration has faults" : strerror(-rc));
	}
	json_decref(root);
}

static void run_stop(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	(void)module;
	(void)args;
	(void)put(answer, json_pack("{s:s}", "text", "the server stops"));
	answer_end(answer, NULL);
	kill(getpid(), SIGTERM);
}

/* Whether it does is found out after the answer; the log tells. */
static void run_restart(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	(void)module;
	(void)args;
	(void)put(answer, json_pack("{s:s}", "text", "the server checks the program and the configuration, then restarts in place"));
	answer_end(answer, NULL);
	kill(getpid(), SIGUSR2);
}

int commands_provide(struct stk_module *module)
{
	static const struct {
		const char *service;
		struct stk_command command;
	} commands[] = {
		{ "command:help",
		  { sizeof(struct stk_command), "help", "Lists the commands of this server.", run_help } },
		{ "command:status", { sizeof(struct stk_command), "status", "How the server is.", run_status } },
		{ "command:metrics",
		  { sizeof(struct stk_command), "metrics", "What modules count.", run_metrics } },
		{ "command:sessions",
		  { sizeof(struct stk_command), "sessions [USER]", "Who is connected.", run_sessions } },
		{ "command:notify",
		  { sizeof(struct stk_command), "notify --category N [--data TEXT] USER|--all",
		    "Sends a notice to available sessions.", run_notify } },
		{ "command:kick",
		  { sizeof(struct stk_command), "kick USER [--code N] [--reason TEXT]",
		    "Ends the sessions of a user, or the one of a full JID.", run_kick } },
		{ "command:reload",
		  { sizeof(struct stk_command), "reload [--dry-run]",
		    "Makes the configuration files take effect, or only tells what would change.", run_reload } },
		{ "command:backup",
		  { sizeof(struct stk_command), "backup FILE", "Writes all databases and keys into one file while the server runs.",
		    backup_run } },
		{ "command:module",
		  { sizeof(struct stk_command), "module list|info NAME|enable NAME|disable NAME",
		    "What is loaded and what it has registered; enabling is done by startalkctl.", run_module } },
		{ "command:restart",
		  { sizeof(struct stk_command), "restart", "Executes the program anew; nobody who connects meanwhile is refused.", run_restart } },
		{ "command:stop", { sizeof(struct stk_command), "stop", "Stops the server.", run_stop } },
	};
	int rc = 0;
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands) && rc == 0; i++) {
		rc = stk_provide(module, commands[i].service, 1, 0, &commands[i].command);
	}
	return rc;
}
