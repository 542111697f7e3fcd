/* SPDX-License-Identifier: MIT */
/* Presence: which of a user's sessions are available, and what they are told of each other. Owns the notices of
 * category 3 and 9 and passes on those that users send; what other users are told is in share.c. It stores nothing. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <jansson.h>

#include <startalkd/module.h>

#include "rules.h"
#include "share.h"

#define NOTIFY   "jabber:x:presence_notify"
#define PRESENCE "startalk:presence"

/* What the protocol uses notices for. Numbers that are not listed are passed on as they are. */
static const struct category {
	int number;
	const char *what;
} categories[] = {
	{ 1, "organisation changed" },
	{ 2, "session list sync" },
	{ 3, "navigation version" },
	{ 4, "operations notice" },
	{ 6, "personal configuration sync" },
	{ 7, "message notify" },
	{ 8, "calendar sync" },
	{ 9, "online clients" },
	{ 10, "ask the client for its log" },
	{ 11, "client special notice" },
	{ 12, "work world" },
	{ 13, "hotline" },
	{ 14, "medals" },
	{ 15, "medal states" },
	{ 16, "discover unread" },
	{ 98, "global notice" },
	{ 99, "specified notice" },
	{ 100, "log the user out" },
};

enum { CATEGORY_NAVIGATION = 3, CATEGORY_ONLINE = 9 };

struct conf {
	const char *navversion;
	int share; /* enum share_with */
	int64_t asks;
	const char *const *reserved, *const *senders; /* of notices */
};

struct presence {
	const struct conf *conf;
	struct share *share; /* NULL: nobody else is told */
	struct stk_metric *refused;
};

static const char *const share_names[] = { "nobody", "asked", "domain", NULL };

static const struct stk_option options[] = {
	{ "navversion", STK_OPT_STR, offsetof(struct conf, navversion), "10000", 1, 64,
	  "The navigation version that clients are told after bind (category 3)", NULL },
	{ "share", STK_OPT_ENUM, offsetof(struct conf, share), "nobody", 0, 0,
	  "Who is told the show of a user's sessions beside these: nobody, users who asked, all users of the domain",
	  share_names },
	{ "asks-per-session", STK_OPT_INT, offsetof(struct conf, asks), "1000", 1, 100000,
	  "For how many users a session may ask and then be told of changes", NULL },
	{ "reserved-categories", STK_OPT_LIST, offsetof(struct conf, reserved), "1, 3, 4, 9, 10, 11, 98, 99, 100", 0, 1000,
	  "Categories of notices that users may not send to other users, but the server and its operator may", NULL },
	{ "reserved-senders", STK_OPT_LIST, offsetof(struct conf, senders), NULL, 0, 1000,
	  "Users, as bot@example.org, who may send them all the same", NULL },
	{ 0 },
};

static const char *describe_category(const char *number)
{
	for (size_t i = 0; number && i < sizeof(categories) / sizeof(*categories); i++) {
		if (atoi(number) == categories[i].number) {
			return categories[i].what;
		}
	}
	return "other";
}

/* DATA may be NULL: out of memory. */
static void send_notice(struct stk_session *session, int category, const char *data)
{
	char number[16];
	snprintf(number, sizeof(number), "%d", category);
	struct stk_stanza *notice = data ? stk_stanza_new(STK_PRESENCE, "notify", NULL) : NULL;
	stk_stanza_set_from(notice, stk_session_bare(session));
	stk_stanza_set_to(notice, stk_session_jid(session));
	struct stk_node *root = stk_stanza_edit(notice);
	stk_node_set(root, "category", number);
	stk_node_set(root, "data", data);
	stk_node_add(root, "notify", NOTIFY);
	stk_send_to(session, notice);
}

/* ---- category 9: the platforms of a user's available sessions ---- */

/* The part P[...] of a resource, else its second part (parts are parted by "_"); NULL when it has only one. */
static json_t *platform_of(const char *resource)
{
	const char *second = strchr(resource, '_'), *part = resource;
	if (!second) {
		return NULL;
	}
	while (strncmp(part, "P[", 2) != 0) {
		const char *next = strchr(part, '_');
		if (!next) {
			part = second + 1;
			break;
		}
		part = next + 1;
	}
	return json_stringn(part, strcspn(part, "_"));
}

static bool collect_platform(struct stk_session *session, void *arg)
{
	if (stk_session_available(session)) {
		json_t *platform = platform_of(stk_session_resource(session));
		if (platform) {
			json_array_append_new(arg, platform);
		}
	}
	return true;
}

static bool tell_online(struct stk_session *session, void *arg)
{
	if (stk_session_available(session)) {
		send_notice(session, CATEGORY_ONLINE, arg);
	}
	return true;
}

static void tell_all_online(struct stk_module *module, const char *bare)
{
	json_t *platforms = json_array();
	stk_sessions(module, bare, collect_platform, platforms);
	char *data = json_dumps(platforms, JSON_COMPACT);
	stk_sessions(module, bare, tell_online, data);
	free(data);
	json_decref(platforms);
}

/* ---- presence of a session ---- */

struct broadcast {
	const struct stk_stanza *stanza;
};

static bool send_copy(struct stk_session *session, void *arg)
{
	const struct broadcast *broadcast = arg;
	if (stk_session_available(session)) {
		struct stk_stanza *copy = stk_stanza_copy(broadcast->stanza);
		stk_stanza_set_to(copy, stk_session_jid(session));
		stk_send_to(session, copy);
	}
	return true;
}

static int read_priority(const struct stk_stanza *stanza, int before)
{
	const char *text = stk_node_text(stk_node_child(stk_stanza_root(stanza), "priority", NULL));
	if (!text || !*text) {
		return before;
	}
	char *end;
	errno = 0;
	long priority = strtol(text, &end, 10);
	return errno || *end || priority < -128 || priority > 127 ? INT_MIN : (int)priority;
}

static int handle_presence(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)arg;
	const char *type = stk_stanza_type(stanza);
	if (stk_stanza_xmlns(stanza) || (type && strcmp(type, "unavailable") != 0)) {
		return STK_PASS;
	}
	const char *show = stk_node_text(stk_node_child(stk_stanza_root(stanza), "show", NULL));
	int priority = read_priority(stanza, stk_session_priority(session));
	bool available = !type, came = available && !stk_session_available(session);
	int rc = stk_session_set_presence(session, available, priority, show);
	if (rc < 0) {
		stk_log(module, LOG_INFO, "%s: presence refused: %s", stk_session_jid(session),
		        rc == -ERANGE ? "a priority is a number from -128 to 127" : strerror(-rc));
		return STK_DONE;
	}
	if (came || !available || !show) {
		tell_all_online(module, stk_session_bare(session));
	}
	struct broadcast broadcast = { .stanza = stanza };
	stk_sessions(module, stk_session_bare(session), send_copy, &broadcast);
	struct presence *presence = stk_data(module);
	if (available) {
		share_update(presence->share, session, show != NULL);
	} else {
		share_withdraw(presence->share, session);
	}
	return STK_DONE;
}

/* ---- asking for another's ---- */

static bool list_session(struct stk_session *session, void *arg)
{
	if (stk_session_available(session)) {
		const char *show = stk_session_show(session);
		char priority[16];
		snprintf(priority, sizeof(priority), "%d", stk_session_priority(session));
		struct stk_node *node = stk_node_add(arg, "session", NULL);
		stk_node_set(node, "jid", stk_session_jid(session));
		stk_node_set(node, "show", *show ? show : NULL);
		stk_node_set(node, "priority", priority);
	}
	return true;
}

static int handle_query(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)arg;
	struct presence *presence = stk_data(module);
	struct stk_jid parts;
	const char *to = stk_stanza_to(stanza);
	if (stk_jid_parse(&parts, to) < 0 || !parts.node_len || parts.resource_len) {
		return -EINVAL;
	}
	int rc = share_ask(presence->share, session, to);
	if (rc < 0) {
		return rc;
	}
	struct stk_stanza *answer = stk_stanza_result(stanza);
	stk_sessions(module, to, list_session, stk_node_add(stk_stanza_edit(answer), "query", PRESENCE));
	rc = answer ? stk_reply(stanza, answer) : -ENOMEM;
	return rc < 0 ? rc : STK_DONE;
}

/* ---- notices from users ---- */

static int handle_notify(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)arg;
	const char *category = stk_node_attr(stk_stanza_root(stanza), "category");
	const struct presence *presence = stk_data(module);
	const struct conf *conf = presence->conf;
	if (!rules_allow(conf->reserved, conf->senders, stk_session_bare(session), stk_stanza_to(stanza), category)) {
		stk_metric_add(presence->refused, 1);
		stk_log(module, LOG_DEBUG, "%s: notice %s (%s) for %s: refused: the category is reserved", stk_session_jid(session),
		        category, describe_category(category), stk_stanza_to(stanza));
		return STK_DONE;
	}
	struct stk_stanza *copy = stk_stanza_copy(stanza);
	int rc = stk_send(module, copy);
	stk_log(module, LOG_DEBUG, "%s: notice %s (%s) for %s: %d sessions", stk_session_jid(session), category ? category : "-",
	        describe_category(category), stk_stanza_to(stanza), rc < 0 ? 0 : rc);
	return STK_DONE;
}

/* ---- sessions come and go ---- */

static int on_bound(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	const struct presence *presence = stk_data(module);
	json_t *data = json_pack("{s:s}", "navversion", presence->conf->navversion);
	char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;
	send_notice(event->session, CATEGORY_NAVIGATION, text);
	free(text);
	json_decref(data);
	return STK_PASS;
}

static int on_closed(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	struct presence *presence = stk_data(module);
	share_forget(presence->share, event->session);
	if (!stk_session_available(event->session)) {
		return STK_PASS;
	}
	struct stk_stanza *gone = stk_stanza_new(STK_PRESENCE, "unavailable", NULL);
	stk_stanza_set_from(gone, stk_session_jid(event->session));
	stk_stanza_set_to(gone, stk_session_bare(event->session));
	stk_send(module, gone);
	tell_all_online(module, stk_session_bare(event->session));
	return STK_PASS;
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_match shown = { .size = sizeof(shown), .element = STK_PRESENCE };
	static const struct stk_match notify = {
		.size = sizeof(notify), .element = STK_PRESENCE, .type = "notify", .xmlns = NOTIFY
	};
	static const struct stk_match query = { .size = sizeof(query), .element = STK_IQ, .type = "get", .xmlns = PRESENCE };
	const struct conf *settings = conf;
	int rc = rules_check(module, settings->reserved, settings->senders);
	struct presence *presence = rc < 0 ? NULL : calloc(1, sizeof(*presence));
	if (!presence) {
		return rc < 0 ? rc : -ENOMEM;
	}
	presence->conf = conf;
	presence->refused = stk_metric(module, "notices_refused", "Notices of reserved categories from users to other users");
	stk_set_data(module, presence);
	rc = presence->conf->share == SHARE_NOBODY ? 0 :
	         share_new(module, (enum share_with)presence->conf->share, presence->conf->asks, &presence->share);
	rc = rc < 0 ? rc : stk_handle(module, &shown, handle_presence, NULL);
	rc = rc < 0 ? rc : stk_handle(module, &notify, handle_notify, NULL);
	rc = rc < 0 ? rc : stk_handle(module, &query, handle_query, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_SESSION_BOUND, 0, on_bound, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_SESSION_CLOSED, 0, on_closed, NULL);
	if (rc < 0) {
		share_free(&presence->share);
		free(presence);
	}
	return rc;
}

static void unload(struct stk_module *module)
{
	struct presence *presence = stk_data(module);
	share_free(&presence->share);
	free(presence);
}

STK_MODULE(.name = "presence", .version = "0.1", .options = options, .conf_size = sizeof(struct conf), .load = load,
           .unload = unload);
