/* SPDX-License-Identifier: MIT */
/* Resource binding: gives a session its full JID and the key for the deployment's HTTP services. Owns how many
 * sessions a user may have; which session a JID means is the core's business. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include <startalkd/module.h>

#define BIND "urn:ietf:params:xml:ns:xmpp-bind"

struct conf {
	int64_t sessions_per_user;
	bool one_per_platform;
};

static const struct stk_option options[] = {
	{ "sessions-per-user", STK_OPT_INT, offsetof(struct conf, sessions_per_user), "10", 0, 100000,
	  "How many sessions a user may have; one more ends the oldest (222 \"replaced\"); 0: any number", NULL },
	{ "one-per-platform", STK_OPT_BOOL, offsetof(struct conf, one_per_platform), "off", 0, 0,
	  "A new session ends the user's other one of the same platform, the P[...] part of the resource", NULL },
	{ 0 },
};

/* The random bytes as hex; OUT has room for 2 * COUNT + 1 characters. */
static int make_hex(char *out, size_t count)
{
	unsigned char bytes[16];
	if (count > sizeof(bytes) || gnutls_rnd(GNUTLS_RND_KEY, bytes, count) < 0) {
		return -EIO;
	}
	for (size_t i = 0; i < count; i++) {
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
	}
	gnutls_memset(bytes, 0, sizeof(bytes));
	return 0;
}

/* The part P[...] of a resource; length 0 when it has none. */
static const char *find_platform(const char *resource, size_t *len)
{
	const char *part = resource;
	while (part) {
		const char *end = strchr(part, '_');
		if (strncmp(part, "P[", 2) == 0) {
			*len = end ? (size_t)(end - part) : strlen(part);
			return part;
		}
		part = end ? end + 1 : NULL;
	}
	*len = 0;
	return resource;
}

struct census {
	const struct stk_session *self;
	struct stk_session *oldest;
	int64_t count;
};

static bool end_same_platform(struct stk_session *other, void *arg)
{
	const struct census *census = arg;
	size_t len, other_len;
	const char *platform = find_platform(stk_session_resource(census->self), &len);
	const char *other_platform = find_platform(stk_session_resource(other), &other_len);
	if (other != census->self && len && len == other_len && memcmp(platform, other_platform, len) == 0) {
		stk_session_end(other, 222, "replaced");
	}
	return true;
}

/* Sessions of a user are visited in the order they were bound. */
static bool count_session(struct stk_session *session, void *arg)
{
	struct census *census = arg;
	census->count++;
	if (!census->oldest && session != census->self) {
		census->oldest = session;
	}
	return true;
}

static void enforce_limits(struct stk_module *module, struct stk_session *session, const struct conf *conf)
{
	struct census census = { .self = session };
	if (conf->one_per_platform) {
		stk_sessions(module, stk_session_bare(session), end_same_platform, &census);
	}
	if (!conf->sessions_per_user) {
		return;
	}
	stk_sessions(module, stk_session_bare(session), count_session, &census);
	while (census.count > conf->sessions_per_user && census.oldest) {
		stk_session_end(census.oldest, 222, "replaced");
		census = (struct census){ .self = session };
		stk_sessions(module, stk_session_bare(session), count_session, &census);
	}
}

static struct stk_stanza *bind_result(const struct stk_stanza *request, const struct stk_session *session)
{
	char key[33];
	if (make_hex(key, 16) < 0) {
		return NULL;
	}
	struct stk_stanza *result = stk_stanza_result(request);
	stk_stanza_set_from(result, stk_session_jid(session));
	stk_stanza_set_to(result, stk_session_jid(session));
	struct stk_node *bind = stk_node_add(stk_stanza_edit(result), "bind", BIND);
	stk_node_set_text(stk_node_add(bind, "jid", NULL), stk_session_jid(session));
	stk_node_set_text(stk_node_add(bind, "key_value", NULL), key);
	gnutls_memset(key, 0, sizeof(key));
	return result;
}

static int handle_bind(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)arg;
	char made_up[33];
	if (stk_session_jid(session)) {
		return STK_PASS; /* once is enough: service-unavailable, as clients know it */
	}
	const struct stk_node *bind = stk_node_child(stk_stanza_root(stanza), "bind", BIND);
	const char *resource = stk_node_text(stk_node_child(bind, "resource", NULL));
	if (!resource || !*resource) {
		int rc = make_hex(made_up, 16);
		if (rc < 0) {
			return rc;
		}
		resource = made_up;
	}
	int rc = stk_session_bind(session, resource);
	if (rc < 0) {
		return rc;
	}
	enforce_limits(module, session, stk_data(module));
	struct stk_stanza *result = bind_result(stanza, session);
	rc = result ? stk_reply(stanza, result) : -ENOMEM;
	return rc < 0 ? rc : STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_match match = { .size = sizeof(match), .element = STK_IQ, .type = "set", .xmlns = BIND };
	stk_set_data(module, (void *)(uintptr_t)conf); /* it lives until unload */
	return stk_handle(module, &match, handle_bind, NULL);
}

static int reload(struct stk_module *module, const void *conf)
{
	stk_set_data(module, (void *)(uintptr_t)conf);
	return 0;
}

STK_MODULE(.name = "bind", .version = "0.1", .options = options, .conf_size = sizeof(struct conf), .load = load,
           .reload = reload);
