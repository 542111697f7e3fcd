/* SPDX-License-Identifier: MIT */
/* Presence: which of a user's sessions are available, and what they are told of each other. Owns the notices of
 * category 3 and 9 and passes on those that users send; it stores nothing. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <jansson.h>

#include <startalkd/module.h>

#define NOTIFY "jabber:x:presence_notify"

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
};

static const struct stk_option options[] = {
	{ "navversion", STK_OPT_STR, offsetof(struct conf, navversion), "10000", 1, 64,
	  "The navigation version that clients are told after bind (category 3)", NULL },
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

/* DATA is taken (malloc'd by jansson). */
static void send_notice(struct stk_session *session, int category, char *data)
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
	free(data);
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

struct online {
	json_t *platforms;
};

static bool tell_online(struct stk_session *session, void *arg)
{
	const struct online *online = arg;
	if (stk_session_available(session)) {
		send_notice(session, CATEGORY_ONLINE, json_dumps(online->platforms, JSON_COMPACT));
	}
	return true;
}

static void tell_all_online(struct stk_module *module, const char *bare)
{
	struct online online = { .platforms = json_array() };
	stk_sessions(module, bare, collect_platform, online.platforms);
	stk_sessions(module, bare, tell_online, &online);
	json_decref(online.platforms);
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
	return STK_DONE;
}

/* ---- notices from users ---- */

static int handle_notify(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)arg;
	const char *category = stk_node_attr(stk_stanza_root(stanza), "category");
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
	const struct conf *conf = stk_data(module);
	json_t *data = json_pack("{s:s}", "navversion", conf->navversion);
	send_notice(event->session, CATEGORY_NAVIGATION, data ? json_dumps(data, JSON_COMPACT) : NULL);
	json_decref(data);
	return STK_PASS;
}

static int on_closed(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
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
	static const struct stk_match presence = { .size = sizeof(presence), .element = STK_PRESENCE };
	static const struct stk_match notify = {
		.size = sizeof(notify), .element = STK_PRESENCE, .type = "notify", .xmlns = NOTIFY
	};
	stk_set_data(module, (void *)(uintptr_t)conf);
	int rc = stk_handle(module, &presence, handle_presence, NULL);
	rc = rc < 0 ? rc : stk_handle(module, &notify, handle_notify, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_SESSION_BOUND, 0, on_bound, NULL);
	return rc < 0 ? rc : stk_on(module, STK_SESSION_CLOSED, 0, on_closed, NULL);
}

static int reload(struct stk_module *module, const void *conf)
{
	stk_set_data(module, (void *)(uintptr_t)conf);
	return 0;
}

STK_MODULE(.name = "presence", .version = "0.1", .options = options, .conf_size = sizeof(struct conf), .load = load,
           .reload = reload);
