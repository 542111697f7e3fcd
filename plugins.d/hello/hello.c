/* SPDX-License-Identifier: MIT */
/* hello: answers an IQ get in urn:example:hello with a greeting. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <syslog.h>

#include <startalkd/module.h>

#define HELLO "urn:example:hello"

/* What the section [hello] is parsed into. */
struct conf {
	const char *greeting;
};

static const struct stk_option options[] = {
	{ "greeting", STK_OPT_STR, offsetof(struct conf, greeting), "Hello", 1, 100, "What comes before the name", NULL },
	{ 0 },
};

static int answer_hello(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)arg;
	const struct conf *conf = stk_data(module);
	char text[STK_JID_MAX + 200];
	snprintf(text, sizeof(text), "%s, %s", conf->greeting, stk_session_bare(session));
	stk_log(module, LOG_DEBUG, "%s asked", stk_session_jid(session));
	struct stk_stanza *answer = stk_stanza_result(stanza);
	stk_node_set_text(stk_node_add(stk_stanza_edit(answer), "query", HELLO), text);
	int rc = answer ? stk_reply(stanza, answer) : -ENOMEM;
	return rc < 0 ? rc : STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_match match = { .size = sizeof(match), .element = STK_IQ, .type = "get", .xmlns = HELLO };
	stk_set_data(module, (void *)(uintptr_t)conf); /* it lives until unload */
	return stk_handle(module, &match, answer_hello, NULL);
}

STK_MODULE(.name = "hello", .version = "1.0", .options = options, .conf_size = sizeof(struct conf), .load = load);
