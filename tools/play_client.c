/* SPDX-License-Identifier: MIT */
/* The actors of a play: sessions over real sockets, what they send, and what they receive against what is expected of
 * them. Logging in is client_login.c, shared with startalk-client; what that wants to show comes here. Owns the order
 * in which what arrives is expected: IQs and messages as they come, while presence and receipts may be passed over. */

#include "tools/play.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/stanza.h"
#include "core/xml.h"
#include "tools/xml_parse.h"

#define TURN INT64_C(50000)     /* between two looks at the server's process */
#define NOTHING INT64_C(500000) /* how long nothing comes, where that is not said */
#define SHOWN 5                 /* stanzas in a report */

static struct play_session *session_of(struct client *client)
{
	return (struct play_session *)client;
}

static char *print_xml(const struct stk_stanza *stanza)
{
	struct buf text = { 0 };
	if (xml_print(stanza, &text) < 0 || buf_append(&text, "", 1) < 0) {
		play_must(NULL);
	}
	return (char *)text.data; /* nothing was taken from its front */
}

/* ---- what the shared code of the client shows ---- */

void show_error(struct client *client, const char *fmt, ...)
{
	struct buf *error = &session_of(client)->error;
	char text[2048];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	error->len = 0;
	if (buf_append(error, text, strlen(text) + 1) < 0) {
		play_must(NULL);
	}
}

void show_line(struct client *client, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	play_note(session_of(client)->play, "%s: %s", session_of(client)->label, text);
}

void show_raw(struct client *client, const char *prefix, const struct stk_stanza *stanza, bool incoming)
{
	char *xml = print_xml(stanza);
	(void)incoming;
	play_note(session_of(client)->play, "%s %s%s", session_of(client)->label, prefix, xml);
	free(xml);
}

static void keep(struct play_session *session, struct stk_stanza *stanza)
{
	if (stanza_element(stanza) == STANZA_STREAM_END) {
		const char *code = stk_node_attr(stk_stanza_root(stanza), "code");
		free(session->end);
		session->end = play_must(strdup(code ? code : ""));
	} else if (session->inbox_n < PLAY_INBOX_MAX) {
		session->inbox[session->inbox_n++] = stk_stanza_ref(stanza);
	}
}

void show_stanza(struct client *client, const struct stk_stanza *stanza)
{
	struct stk_stanza *copy = play_must(stk_stanza_copy(stanza));
	keep(session_of(client), copy);
	stk_stanza_unref(copy);
}

static const char *last_error(const struct play_session *session)
{
	return session->error.len ? (const char *)buf_data(&session->error) : "";
}

/* ---- coming and going ---- */

struct play_session *play_session_find(struct play *play, const char *label)
{
	struct play_session *session = play->sessions;
	while (session && strcmp(session->label, label) != 0) {
		session = session->next;
	}
	return session;
}

static void session_free(struct play_session *session)
{
	net_close(&session->client.net);
	for (size_t i = 0; i < session->inbox_n; i++) {
		stk_stanza_unref(session->inbox[i]);
	}
	free(session->account.user);
	free(session->account.domain);
	free((char *)(uintptr_t)session->account.resource);
	free(session->client.bare);
	free(session->client.full);
	free(session->label);
	free(session->end);
	free(session->id);
	free(session->from);
	buf_fini(&session->error);
	free(session);
}

void play_disconnect(struct play *play, struct play_session *session)
{
	struct play_session **at = &play->sessions;
	while (*at != session) {
		at = &(*at)->next;
	}
	*at = session->next;
	session_free(session);
}

/* The first of the served domains. */
static char *own_domain(const struct play *play)
{
	const char *domains = play_pair_get(play->server.options, "server", "domains");
	domains += strspn(domains, " \t\"");
	return play_must(strndup(domains, strcspn(domains, " \t\",;")));
}

static struct play_session *session_new(struct play *play, const struct play_step *step)
{
	struct play_session *session = play_must(calloc(1, sizeof(*session)));
	const char *slash = strchr(step->actor, '/');
	size_t len = strcspn(step->actor, "/");
	*session = (struct play_session){ .play = play, .next = play->sessions };
	play->sessions = session;
	session->label = play_must(strdup(step->actor));
	session->account.user = session->account.name = play_must(strndup(step->actor, len));
	session->account.domain = own_domain(play);
	session->account.resource = play_must(strdup(step->key ? step->key : slash ? slash + 1 : "test"));
	session->run = (struct client_run){ .options = &play->login,
					    .clients = &session->client,
					    .clients_n = 1,
					    .current = &session->client,
					    .raw = play->options->verbose };
	session->client.run = &session->run;
	session->client.account = &session->account;
	session->client.options = &play->login;
	session->client.priority = 5;
	session->client.bare = play_format("%s@%s", session->account.user, session->account.domain);
	net_init(&session->client.net);
	return session;
}

static int log_in(struct play_session *session, const struct play_step *step)
{
	struct play *play = session->play;
	struct client *client = &session->client;
	struct addrinfo *list = NULL;
	const char *password = play_pair_get(play->server.users, session->account.user, "password");
	char *key = NULL;
	play->login.no_tls = !step->tls;
	play->login.timeout = play->timeout;
	int rc = net_resolve(&client->net, "127.0.0.1", play->server.port, &list);
	rc = rc < 0 ? rc : net_connect(&client->net, "127.0.0.1", list, clock_us() + play->timeout);
	if (rc < 0) {
		show_error(client, "no connection: %s", client->net.error);
	}
	if (list) {
		freeaddrinfo(list);
	}
	rc = rc < 0 ? rc : client_auth_key(client, password, &key);
	rc = rc < 0 ? rc : client_login(client, key);
	client_secret_free(&key);
	return rc;
}

/* ---- what arrives ---- */

/* Takes in what has come, waiting for it until DEADLINE. 0, or -1: interrupted, told. */
static int pump(struct play_session *session, int64_t deadline)
{
	struct client *client = &session->client;
	struct stk_stanza *stanza;
	int rc = 0;
	while (!session->lost && (rc = client_receive(client, &stanza)) > 0) {
		keep(session, stanza);
		stk_stanza_unref(stanza);
		deadline = 0;
	}
	if (rc < 0 || session->end) {
		session->lost = true;
	}
	if (session->lost) {
		return 0;
	}
	int64_t turn = clock_us() + TURN;
	struct pollfd pollfd = { .fd = client->net.fd, .events = net_events(&client->net) };
	int ready = net_has_buffered(&client->net) ? 1 : wait_fds(&pollfd, 1, deadline < turn ? deadline : turn);
	if (ready < 0) {
		return play_fail(session->play, "interrupted");
	}
	if (net_io(&client->net) < 0 && !net_has_buffered(&client->net)) {
		session->lost = true;
		show_error(client, "%s", client->net.error);
	}
	return 0;
}

static void drop(struct play_session *session, size_t i)
{
	stk_stanza_unref(session->inbox[i]);
	session->inbox_n--;
	memmove(session->inbox + i, session->inbox + i + 1, (session->inbox_n - i) * sizeof(*session->inbox));
}

/* The server has dealt with what was sent when it has answered this. */
static int settle(struct play_session *session)
{
	char id[CLIENT_ID_SIZE];
	client_make_id(id);
	struct stk_stanza *ping = stk_stanza_new(STK_IQ, "get", id);
	stk_node_add(stk_stanza_edit(ping), "ping", "urn:xmpp:ping");
	if (client_send(&session->client, ping, NULL) < 0) {
		return -EINVAL;
	}
	int64_t deadline = clock_us() + session->play->timeout;
	while (!session->lost && clock_us() < deadline) {
		if (pump(session, deadline) < 0) {
			return -EINTR;
		}
		for (size_t i = session->inbox_n; i > 0; i--) {
			const char *is = stk_stanza_id(session->inbox[i - 1]);
			if (is && strcmp(is, id) == 0) {
				drop(session, i - 1);
				return 0;
			}
		}
	}
	show_error(&session->client, "the server does not go on after the login");
	return -ETIMEDOUT;
}

int play_connect(struct play *play, const struct play_step *step)
{
	struct play_session *session = session_new(play, step);
	int rc = log_in(session, step);
	rc = rc < 0 ? rc : settle(session);
	return rc < 0 ? play_fail(play, "  %s cannot log in: %s", step->actor, last_error(session)) : 0;
}

int play_refused(struct play *play, const struct play_step *step)
{
	struct play_session *session = session_new(play, step);
	int rc = log_in(session, step);
	if (rc == 0) {
		rc = play_fail(play, "  %s was let in", step->actor);
	} else if (rc == -EINTR || rc == -ETIMEDOUT || rc == -ECONNRESET || play_server_died(play)) {
		rc = play_fail(play, "  %s was not refused, but: %s", step->actor, last_error(session));
	} else {
		play_note(play, "%s: %s", step->actor, last_error(session));
		rc = !step->text || strstr(last_error(session), step->text)
			     ? 0
			     : play_fail(play, "  %s was refused otherwise: %s", step->actor, last_error(session));
	}
	play_disconnect(play, session);
	return rc;
}

/* ---- sending ---- */

static const char *value_of(const char *name, void *arg)
{
	const struct play_session *session = arg;
	const char *last = strcmp(name, "id") == 0 ? session->id : strcmp(name, "from") == 0 ? session->from : NULL;
	return last ? last : getenv(name);
}

/* The stanza that TEXT is now, or NULL, told. */
static struct stk_stanza *make(struct play_session *session, const char *text)
{
	char *unknown = NULL, *expanded = play_expand(text, true, value_of, session, &unknown);
	struct stk_stanza *stanza = NULL;
	const char *why;
	if (!expanded) {
		play_fail(session->play,
			  "  ${%s} stands for nothing: there is no such variable in the environment, and %s has "
			  "received none",
			  unknown, session->label);
	} else if (xml_parse(expanded, strlen(expanded), &stanza, &why) < 0) {
		play_fail(session->play, "  the stanza: %s", why);
	}
	free(expanded);
	free(unknown);
	return stanza;
}

int play_send(struct play_session *session, const char *text)
{
	struct stk_stanza *stanza = make(session, text);
	if (!stanza) {
		return -1;
	}
	if (client_send(&session->client, stanza, NULL) < 0) {
		return play_fail(session->play, "  %s cannot send it: %s", session->label, last_error(session));
	}
	return pump(session, 0);
}

/* ---- expecting ---- */

/* Presence and receipts come when they come: what is expected need not take their place into account. */
static bool is_loose(const struct stk_stanza *stanza)
{
	const char *type = stk_stanza_type(stanza);
	return stk_stanza_element(stanza) == STK_PRESENCE ||
	       (stk_stanza_element(stanza) == STK_MESSAGE && type && strcmp(type, "mstat") == 0);
}

static void report_stanza(struct play *play, const char *what, const struct stk_stanza *stanza)
{
	char *xml = print_xml(stanza);
	play_fail(play, "  %-9s %s", what, xml);
	free(xml);
}

static void report_inbox(struct play_session *session)
{
	size_t first = session->inbox_n > SHOWN ? session->inbox_n - SHOWN : 0;
	if (!session->inbox_n) {
		play_fail(session->play, "  came:     nothing");
	}
	for (size_t i = first; i < session->inbox_n; i++) {
		report_stanza(session->play, "came:", session->inbox[i]);
	}
}

static void note_last(struct play_session *session, const struct stk_stanza *stanza)
{
	const char *id = stk_stanza_id(stanza), *from = stk_stanza_from(stanza);
	free(session->id);
	free(session->from);
	session->id = id ? play_must(strdup(id)) : NULL;
	session->from = from ? play_must(strdup(from)) : NULL;
}

/* Is what is wanted among what has come? 1: and taken; 0: not yet; -1: something else came instead, told. */
static int look(struct play_session *session, const struct stk_stanza *wanted, bool exact, char *why, size_t size)
{
	for (size_t i = 0; i < session->inbox_n; i++) {
		struct stk_stanza *stanza = session->inbox[i];
		if (is_loose(stanza) != is_loose(wanted)) {
			continue;
		}
		if (play_match(wanted, stanza, exact, why, size)) {
			note_last(session, stanza);
			drop(session, i);
			return 1;
		}
		if (!is_loose(wanted)) {
			report_stanza(session->play, "expected:", wanted);
			report_stanza(session->play, "came:", stanza);
			return play_fail(session->play, "  why not:  %s", why);
		}
	}
	return 0;
}

static int report_missing(struct play_session *session, const struct stk_stanza *wanted, int64_t timeout,
			  const char *why)
{
	struct play *play = session->play;
	report_stanza(play, "expected:", wanted);
	report_inbox(session);
	if (*why) {
		play_fail(play, "  why not:  %s", why);
	}
	if (session->lost) {
		return play_fail(play, "  %s's connection is over: %s", session->label,
				 session->end ? show_end(session->end) : last_error(session));
	}
	return play_fail(play, "  it did not come within %g s", (double)timeout / 1e6);
}

static int receive(struct play_session *session, const struct play_step *step, const struct stk_stanza *wanted)
{
	char why[1024] = "";
	int64_t timeout = step->time >= 0 ? step->time : session->play->timeout, deadline = clock_us() + timeout;
	for (;;) {
		bool late = clock_us() >= deadline || session->lost;
		if (pump(session, late ? 0 : deadline) < 0) {
			return -1;
		}
		int rc = look(session, wanted, step->exact, why, sizeof(why));
		if (rc != 0 || late) {
			return rc > 0 ? 0 : rc < 0 ? rc : report_missing(session, wanted, timeout, why);
		}
	}
}

/* Nothing that is like WANTED, or, when that is NULL, nothing but presence and receipts. */
static int receive_not(struct play_session *session, const struct play_step *step, const struct stk_stanza *wanted)
{
	char why[1024];
	int64_t deadline = clock_us() + (step->time >= 0 ? step->time : NOTHING);
	for (;;) {
		bool late = clock_us() >= deadline || session->lost;
		if (pump(session, late ? 0 : deadline) < 0) {
			return -1;
		}
		for (size_t i = 0; i < session->inbox_n; i++) {
			struct stk_stanza *stanza = session->inbox[i];
			if (wanted ? play_match(wanted, stanza, step->exact, why, sizeof(why)) : !is_loose(stanza)) {
				report_stanza(session->play, "came:", stanza);
				return play_fail(session->play, "  %s was to receive %s", session->label,
						 wanted ? "no such stanza" : "nothing");
			}
		}
		if (session->lost && !session->end) {
			return play_fail(session->play, "  %s's connection is over: %s", session->label,
					 last_error(session));
		}
		if (late) {
			return 0;
		}
	}
}

int play_receive(struct play_session *session, const struct play_step *step)
{
	struct stk_stanza *wanted = step->verb == PLAY_NOTHING ? NULL : make(session, step->text);
	if (!wanted && step->verb != PLAY_NOTHING) {
		return -1;
	}
	int rc = step->verb == PLAY_RECEIVE ? receive(session, step, wanted) : receive_not(session, step, wanted);
	stk_stanza_unref(wanted);
	return rc;
}

int play_ended(struct play_session *session, const struct play_step *step)
{
	struct play *play = session->play;
	int64_t timeout = step->time >= 0 ? step->time : play->timeout, deadline = clock_us() + timeout;
	while (!session->lost && clock_us() < deadline) {
		if (pump(session, deadline) < 0) {
			return -1;
		}
	}
	int rc = 0;
	if (!session->lost) {
		rc = play_fail(play, "  %s is still connected after %g s", session->label, (double)timeout / 1e6);
	} else if (step->code && (!session->end || atoi(session->end) != step->code)) {
		rc = play_fail(play, "  %s's stream ended with %s, not %d", session->label,
			       session->end ? session->end : "no code", step->code);
	}
	play_disconnect(play, session);
	return rc;
}
