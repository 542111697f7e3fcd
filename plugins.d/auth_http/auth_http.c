/* SPDX-License-Identifier: MIT */
/* SASL PLAIN that asks an HTTP server whether the password is right. Owns what is asked and what an answer means: yes
 * is status 200 with the text OK, and everything else is a no. What a client sends is in plain.c, how
 * requests are made in curl_loop.c. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <startalkd/module.h>

#include "../curl_loop/curl_loop.h"
#include "plain.h"

struct conf {
	const char *url, *ca_file;
	bool allow_http;
	double timeout;
	int64_t connections, logins;
};

static const struct stk_option options[] = {
	{ "url", STK_OPT_STR, offsetof(struct conf, url), NULL, 1, 2000,
	  "Where to ask, https://; http:// on this machine only", NULL },
	{ "ca-file", STK_OPT_PATH, offsetof(struct conf, ca_file), NULL, 0, 3000,
	  "Certificates in PEM of who may vouch for that server, instead of the system's", NULL },
	{ "allow-http", STK_OPT_BOOL, offsetof(struct conf, allow_http), "off", 0, 0,
	  "Let passwords go over the net unencrypted", NULL },
	{ "timeout", STK_OPT_SECONDS, offsetof(struct conf, timeout), "5s", 100, 60000, "How long an answer may take",
	  NULL },
	{ "connections", STK_OPT_INT, offsetof(struct conf, connections), "8", 1, 100, "To that server at a time",
	  NULL },
	{ "logins", STK_OPT_INT, offsetof(struct conf, logins), "500", 1, 100000,
	  "Under way at a time; who comes then is refused", NULL },
	{ 0 },
};

struct state {
	const struct conf *conf;
	struct curl_loop *loop;
	struct login *logins; /* under way */
	int64_t count;
};

struct login {
	struct curl_request request;
	struct login *next, **at;
	struct stk_auth *auth;
	char user[STK_JID_PART_MAX + 1]; /* folded */
	char *body;                      /* holds the password */
	size_t len;
};

static void wipe(char *text, size_t len)
{
	if (text) {
		explicit_bzero(text, len);
	}
	free(text);
}

static void free_login(struct state *state, struct login *login)
{
	*login->at = login->next;
	if (login->next) {
		login->next->at = login->at;
	}
	state->count--;
	wipe(login->body, login->len);
	free(login);
}

/* ---- the answer ---- */

static bool says_ok(const struct curl_request *request)
{
	return request->status == 200 && strncmp(request->answer, "OK", 2) == 0 &&
	       strspn(request->answer + 2, " \r\n") == request->len - 2;
}

static void on_answer(struct stk_module *module, struct curl_request *request, CURLcode code)
{
	struct login *login = (struct login *)request; /* its first member */
	char why[CURL_ERROR_SIZE + 64];
	if (code == CURLE_OK && says_ok(request)) {
		stk_auth_succeed(login->auth, login->user);
	} else {
		if (code != CURLE_OK) {
			snprintf(why, sizeof(why), "the HTTP server did not answer: %s", request->why);
		} else if (request->status == 401 || request->status == 403) {
			snprintf(why, sizeof(why), "the HTTP server says no (%ld)", request->status);
		} else {
			snprintf(why, sizeof(why), "the HTTP server's answer makes no sense: status %ld, %zu bytes",
				 request->status, request->len);
		}
		stk_auth_fail(login->auth, login->user, NULL, why);
	}
	free_login(stk_data(module), login);
}

/* ---- the question ---- */

/* Appends KEY=VALUE as a form has it; OUT has room for 3 bytes for each of VALUE. Returns the end. */
static char *add_field(char *out, const char *key, const char *value)
{
	static const char hex[] = "0123456789ABCDEF";
	out = stpcpy(stpcpy(out, key), "=");
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;
		if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) {
			*out++ = (char)c;
		} else {
			*out++ = '%';
			*out++ = hex[c >> 4];
			*out++ = hex[c & 15];
		}
	}
	return out;
}

/* Not with curl's functions, which would leave copies of the password behind. */
static char *make_body(const char *user, const char *domain, const char *password, size_t *len)
{
	char *body = malloc(3 * (strlen(user) + strlen(domain) + strlen(password)) + 64);
	if (body) {
		char *end = add_field(body, "user", user);
		end = add_field(end, "&domain", domain);
		end = add_field(end, "&password", password);
		*len = (size_t)(end - body);
	}
	return body;
}

/* USER and PASSWORD are judged by now to be worth asking. */
static const char *ask(struct stk_module *module, struct stk_auth *auth, const char *user, const char *password)
{
	struct state *state = stk_data(module);
	if (state->count >= state->conf->logins) {
		return "too many logins are under way";
	}
	struct login *login = calloc(1, sizeof(*login));
	if (!login) {
		return "out of memory";
	}
	login->next = state->logins;
	login->at = &state->logins;
	if (login->next) {
		login->next->at = &login->next;
	}
	state->logins = login;
	state->count++;
	login->auth = auth;
	login->request.done = on_answer;
	snprintf(login->user, sizeof(login->user), "%s", user);
	login->body = make_body(user, stk_auth_domain(auth), password, &login->len);
	if (!login->body || curl_loop_start(state->loop, &login->request, login->body, login->len, NULL) < 0) {
		free_login(state, login);
		return "out of memory";
	}
	return NULL;
}

/* ---- SASL ---- */

static void judge(struct stk_module *module, struct stk_auth *auth, const struct plain *plain)
{
	char bare[STK_JID_MAX + 1], user[STK_JID_PART_MAX + 1];
	int rc = plain_user(plain, stk_auth_domain(auth), bare, user);
	const char *why = NULL;
	if (rc < 0) {
		stk_auth_fail(auth, plain->authcid, NULL,
			      rc == -EACCES ? "authorization as another account was asked for"
					    : "no user of this domain can be called so");
	} else if (plain_is_encrypted(plain)) {
		stk_auth_fail(auth, user, "cancel-rsa",
			      "the password is RSA-encrypted: the client is asked to send it plain");
	} else if (!stk_auth_allowed(auth, bare)) {
		stk_auth_fail(auth, user, NULL, "too many failed tries lately");
	} else if ((why = *plain->password ? ask(module, auth, user, plain->password) : "the password is empty")) {
		stk_auth_fail(auth, user, NULL, why);
	}
}

static int step(struct stk_module *module, struct stk_auth *auth, const uint8_t *in, size_t len)
{
	struct plain plain;
	int rc = plain_parse(in, len, &plain);
	if (rc == 0) {
		judge(module, auth, &plain);
		plain_wipe(&plain);
	}
	return rc; /* below 0: the server tells the client that it does not keep to the protocol */
}

/* The client is gone, or the module is being unloaded. */
static void forget(struct stk_module *module, struct stk_auth *auth)
{
	struct state *state = stk_data(module);
	struct login *login = state->logins;
	while (login && login->auth != auth) {
		login = login->next;
	}
	if (login) {
		curl_loop_cancel(state->loop, &login->request);
		free_login(state, login);
	}
}

/* ---- life ---- */

static int check(const void *arg, char *err, size_t errlen)
{
	const struct conf *conf = arg;
	return curl_loop_check(conf->url, conf->allow_http, err, errlen);
}

static struct curl_loop_conf loop_conf(const struct conf *conf)
{
	return (struct curl_loop_conf){ .url = conf->url,
					.ca_file = conf->ca_file,
					.timeout = conf->timeout,
					.connections = (long)conf->connections };
}

/* All logins have been aborted before. */
static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	curl_loop_free(state->loop);
	free(state);
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_mech plain = {
		.size = sizeof(plain), .name = "PLAIN", .needs_tls = true, .step = step, .abort = forget
	};
	struct curl_loop_conf wanted = loop_conf(conf);
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	stk_set_data(module, state);
	state->conf = conf;
	state->loop = curl_loop_new(module, &wanted);
	int rc = state->loop ? stk_mech(module, &plain) : -ENOMEM;
	if (rc < 0) {
		unload(module); /* the server does that only after a load that succeeded */
	}
	return rc;
}

/* Logins that are under way end under the options that they began with, of which curl has copies. */
static int reload(struct stk_module *module, const void *conf)
{
	struct state *state = stk_data(module);
	struct curl_loop_conf wanted = loop_conf(conf);
	state->conf = conf;
	curl_loop_set(state->loop, &wanted);
	return 0;
}

STK_MODULE(.name = "auth_http", .version = "1.0", .options = options, .conf_size = sizeof(struct conf), .check = check,
	   .load = load, .reload = reload, .unload = unload);
