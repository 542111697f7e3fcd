/* SPDX-License-Identifier: MIT */
/* Commands for operators, over a unix socket. Owns what a request is and who is asked to carry it out; commands are
 * services of modules, this one's own among them. */

#include "admin.h"
#include "backup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <jansson.h>

#define PREFIX "command:"
#define NAME_MAX_BYTES 64

struct conf {
	const char *socket;
	double idle_timeout;
};

static const struct stk_option options[] = {
	{ "socket", STK_OPT_PATH, offsetof(struct conf, socket), NULL, 0, 3000,
	  "The socket's path, of 107 bytes at most; else admin.sock in state-dir", NULL },
	{ "idle-timeout", STK_OPT_SECONDS, offsetof(struct conf, idle_timeout), "5min", 0, 86400000,
	  "A connection on which nothing moves for so long is closed; 0: never", NULL },
	{ 0 },
};

/* A command that was asked for. */
struct used {
	struct used *next;
	struct stk_service *service;
	char name[]; /* "command:NAME" */
};

/* ---- who carries it out ---- */

struct offer {
	const char *name;
	bool there;
};

static bool is_offered(const char *service, void *arg)
{
	struct offer *offer = arg;
	offer->there = strcmp(service, offer->name) == 0;
	return !offer->there;
}

const struct stk_command *admin_command(struct stk_module *module, const char *name, struct stk_module **provider)
{
	struct state *state = stk_data(module);
	char service[sizeof(PREFIX) + NAME_MAX_BYTES];
	if (snprintf(service, sizeof(service), PREFIX "%s", name) >= (int)sizeof(service)) {
		return NULL;
	}
	struct used *used = state->used;
	while (used && strcmp(used->name, service) != 0) {
		used = used->next;
	}
	struct offer offer = { .name = service };
	if (!used) { /* a reference lives as long as the module, so there is none for a name that is made up */
		stk_services(module, service, is_offered, &offer);
		used = offer.there ? calloc(1, sizeof(*used) + strlen(service) + 1) : NULL;
		if (!used) {
			return NULL;
		}
		strcpy(used->name, service);
		used->service = stk_use(module, service, 1, 0);
		used->next = state->used;
		state->used = used;
	}
	return used->service ? stk_service(used->service, provider) : NULL;
}

/* ---- requests ---- */

struct names {
	char text[1024];
	size_t len;
};

static bool add_name(const char *service, void *arg)
{
	struct names *names = arg;
	int len = snprintf(names->text + names->len, sizeof(names->text) - names->len, "%s%s", names->len ? ", " : "",
			   service + strlen(PREFIX));
	names->len += (size_t)len;
	return names->len < sizeof(names->text);
}

static void fail_unknown(struct stk_module *module, const char *name, struct stk_answer *answer)
{
	struct names names = { 0 };
	stk_services(module, PREFIX, add_name, &names);
	answer_fail(answer, "there is no command '%s'; this server has %s", name, names.text);
}

void admin_by(const struct stk_answer *answer, char *text, size_t size)
{
	uid_t uid;
	pid_t pid;
	answer_peer(answer, &uid, &pid);
	snprintf(text, size, "uid %d, pid %d", (int)uid, (int)pid);
}

/* Whoever only looks at the server leaves no trace. */
static void audit_request(struct stk_module *module, const char *name, const char *text, const struct stk_answer *answer)
{
	static const char *const harmless[] = { "help", "status", "metrics", "sessions", "module" };
	char by[64];
	for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++) {
		if (strcmp(harmless[i], name) == 0) {
			return;
		}
	}
	admin_by(answer, by, sizeof(by));
	stk_audit(module, &(struct stk_audit){ .size = sizeof(struct stk_audit), .event = "command", .by = by, .reason = text + 1 });
}

/* What is asked for, without what it is asked with: that may be a secret or a message. */
static void log_request(struct stk_module *module, const json_t *root, const struct stk_answer *answer)
{
	static const char *const keys[] = { "command", "do", "user", "name" };
	char text[512] = "";
	size_t len = 0;
	uid_t uid;
	pid_t pid;
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys) && len < sizeof(text); i++) {
		const char *value = json_string_value(json_object_get(root, keys[i]));
		len += value ? (size_t)snprintf(text + len, sizeof(text) - len, " %s", value) : 0;
	}
	answer_peer(answer, &uid, &pid);
	audit_request(module, json_string_value(json_object_get(root, "command")), text, answer);
	stk_log(module, LOG_INFO, "command:%s (uid %d, pid %d)", text, (int)uid, (int)pid);
}

/* Strings of a request may be passwords. */
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

static void run_request(struct stk_module *module, char *line, size_t len, struct stk_answer *answer)
{
	json_error_t error;
	struct stk_module *provider = NULL;
	json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	const char *name = json_string_value(json_object_get(root, "command"));
	const struct stk_command *command = name ? admin_command(module, name, &provider) : NULL;
	if (!root) {
		answer_fail(answer, "the request is no JSON object: %s", error.text);
	} else if (!name) {
		answer_end(answer, "a request is an object with the member command, as {\"command\":\"help\"}");
	} else if (!command) {
		fail_unknown(module, name, answer);
	} else {
		log_request(module, root, answer);
		command->run(provider, line, answer);
	}
	wipe(root);
	json_decref(root);
}

/* ---- life ---- */

static int check_path(const char *path, char *err, size_t errlen)
{
	size_t len = strlen(path);
	if (len <= SOCKET_PATH_MAX) {
		return 0;
	}
	snprintf(err, errlen,
		 "socket: %s: the path of a socket may have %d bytes, this one has %zu; set socket in [admin] to a "
		 "shorter one",
		 path, SOCKET_PATH_MAX, len);
	return -ENAMETOOLONG;
}

static int check(const void *arg, char *err, size_t errlen)
{
	const struct conf *conf = arg;
	return conf->socket ? check_path(conf->socket, err, errlen) : 0;
}

static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	if (!state) {
		return;
	}
	backup_drop(module);
	commands_drop(state);
	socket_close(&state->socket);
	while (state->used) {
		struct used *used = state->used;
		state->used = used->next;
		free(used);
	}
	free(state);
	stk_set_data(module, NULL);
}

static int make_path(struct stk_module *module, const struct conf *conf, char *path, size_t size)
{
	char err[8500];
	snprintf(path, size, "%s%s", conf->socket ? conf->socket : stk_state_dir(module),
		 conf->socket ? "" : "/admin.sock");
	int rc = check_path(path, err, sizeof(err));
	if (rc < 0) {
		stk_log(module, LOG_ERR, "%s", err);
	}
	return rc;
}

static int start(struct stk_module *module, struct state *state, const struct conf *conf)
{
	static const struct stk_answers answers = {
		.size = sizeof(answers), .line = answer_line, .wait = answer_wait, .end = answer_end
	};
	char path[8192];
	int rc = make_path(module, conf, path, sizeof(path));
	if (rc < 0) {
		return rc;
	}
	state->users = stk_use(module, "users", 1, 0);
	rc = state->users ? stk_provide(module, "answers", 1, 0, &answers) : -ENOMEM;
	rc = rc < 0 ? rc : commands_provide(module);
	return rc < 0 || stk_planning(module)
		       ? rc
		       : socket_open(module, path, conf->idle_timeout, run_request, &state->socket);
}

static int load(struct stk_module *module, const void *conf)
{
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	stk_set_data(module, state);
	int rc = start(module, state, conf);
	if (rc < 0) {
		unload(module);
	}
	return rc;
}

/* Connections stay, so that the one that asked for it is told how it went. */
static int reload(struct stk_module *module, const void *arg)
{
	const struct state *state = stk_data(module);
	const struct conf *conf = arg;
	char path[8192];
	int rc = make_path(module, conf, path, sizeof(path));
	return rc < 0 ? rc : socket_set(state->socket, path, conf->idle_timeout);
}

STK_MODULE(.name = "admin", .version = "0.1", .options = options, .conf_size = sizeof(struct conf), .check = check,
	   .load = load, .reload = reload, .unload = unload);
