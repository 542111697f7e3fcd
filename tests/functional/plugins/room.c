/* SPDX-License-Identifier: MIT */
/* A module for the tests that serves a domain, conference.example.org: repeats to their sender what messages say there, tells the time there, and
 * passes on what other modules send there. A message "ask JID" to anybody makes it ask the client of that JID. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <startalkd/module.h>

#define DOMAIN "Conference.Example.org"

static void tell(struct stk_module *module, const char *from, const char *to, const char *text)
{
	char bare[STK_JID_MAX + 1];
	struct stk_stanza *stanza = stk_stanza_new(STK_MESSAGE, "chat", NULL);
	stk_stanza_set_from(stanza, from);
	stk_stanza_set_to(stanza, stk_jid_bare(to, bare, sizeof(bare)) == 0 ? bare : to);
	struct stk_node *body = stk_node_add(stk_stanza_edit(stanza), "body", NULL);
	stk_node_set(body, "id", text);
	stk_node_set(body, "msgType", "1");
	stk_node_set_text(body, text);
	stk_send(module, stanza);
}

struct question {
	char who[1024];
};

static void on_answer(struct stk_module *module, struct stk_stanza *answer, int status, void *arg)
{
	struct question *question = arg;
	char text[256];
	snprintf(text, sizeof(text), "%s %s", answer ? stk_stanza_type(answer) : "none", answer ? "0" : strerror(-status));
	stk_log(module, LOG_INFO, "answer: %s", text);
	tell(module, "room@conference.example.org", question->who, text);
	free(question);
}

static int ask(struct stk_module *module, const char *who, const char *jid)
{
	struct question *question = calloc(1, sizeof(*question));
	struct stk_stanza *stanza = stk_stanza_new(STK_IQ, "get", "its own");
	stk_stanza_set_to(stanza, jid);
	stk_node_add(stk_stanza_edit(stanza), "query", "urn:example:mood");
	if (!question) {
		stk_stanza_unref(stanza);
		return -ENOMEM;
	}
	snprintf(question->who, sizeof(question->who), "%s", who);
	int rc = stk_iq(module, stanza, 500, on_answer, question);
	if (rc < 0) {
		free(question);
	}
	return rc;
}

static int on_message(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	const char *text = stk_node_text(stk_node_child(stk_stanza_root(stanza), "body", NULL));
	(void)arg;
	if (!session) {
		stk_log(module, LOG_INFO, "a module says: %s", text);
		return STK_DONE;
	}
	if (text && strncmp(text, "ask ", 4) == 0) {
		int rc = ask(module, stk_stanza_from(stanza), text + 4);
		return rc < 0 ? rc : STK_DONE;
	}
	if (text && strcmp(text, "pass") == 0) {
		return STK_PASS;
	}
	tell(module, stk_stanza_to(stanza), stk_stanza_from(stanza), text);
	tell(module, stk_stanza_to(stanza), "else@conference.example.org", text);
	return STK_DONE;
}

static int on_query(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	struct stk_stanza *answer = stk_stanza_result(stanza);
	(void)module;
	(void)session;
	(void)arg;
	stk_node_set(stk_node_add(stk_stanza_edit(answer), "query", "urn:example:room"), "what", "a room");
	return stk_reply(stanza, answer);
}

static int on_opened(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	stk_log(module, LOG_INFO, "opened: %s", stk_session_address(event->session));
	if (strncmp(stk_session_address(event->session), "127.0.0.66:", 11) == 0) {
		stk_session_end(event->session, 222, "not from there");
	}
	return STK_PASS;
}

static int on_undelivered(struct stk_module *module, const struct stk_event *event, void *arg)
{
	const char *text = stk_node_text(stk_node_child(stk_stanza_root(event->stanza), "body", NULL));
	(void)arg;
	stk_log(module, LOG_INFO, "undelivered: %s: %s: %s", stk_stanza_to(event->stanza), strerror(-event->reason),
	        event->session ? stk_session_resource(event->session) : "a module");
	return text && strcmp(text, "keep it") == 0 ? STK_DONE : STK_PASS;
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_match messages = { .size = sizeof(messages), .element = STK_MESSAGE, .domain = DOMAIN };
	static const struct stk_match query = { .size = sizeof(query), .element = STK_IQ, .type = "get", .xmlns = "urn:example:room",
		                                .domain = DOMAIN };
	(void)conf;
	int rc = stk_domain(module, DOMAIN);
	rc = rc < 0 ? rc : stk_handle(module, &messages, on_message, NULL);
	rc = rc < 0 ? rc : stk_handle(module, &query, on_query, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_SESSION_OPENED, 0, on_opened, NULL);
	return rc < 0 ? rc : stk_on(module, STK_UNDELIVERED, 0, on_undelivered, NULL);
}

STK_MODULE(.name = "room", .version = "1", .load = load);
