/* SPDX-License-Identifier: MIT */
/* clumsy: does on request what a module must not do, so that tests see who notices. */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <startalkd/module.h>

#define CLUMSY "urn:example:clumsy"

struct conf {
	const char *word;
};

static const struct stk_option options[] = {
	{ "word", STK_OPT_STR, offsetof(struct conf, word), "plain", 1, 20, "What the answer has", NULL },
	{ 0 },
};

static int do_it(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	const struct conf *conf = stk_data(module);
	const struct timespec while_ = { .tv_nsec = 80000000 };
	const char *what = stk_node_attr(stk_stanza_payload(stanza), "do");
	(void)arg;
	what = what ? what : "";
	if (strcmp(what, "crash") == 0) {
		abort();
	} else if (strcmp(what, "leave") == 0) {
		_exit(3);
	} else if (strcmp(what, "sleep") == 0) {
		nanosleep(&while_, NULL);
	} else if (strcmp(what, "complain") == 0) {
		stk_log(module, LOG_ERR, "complaint");
	} else if (strcmp(what, "end") == 0) {
		stk_session_end(session, 203, "enough");
	} else if (strcmp(what, "talk") == 0) {
		struct stk_stanza *message = stk_stanza_new(STK_MESSAGE, "note", NULL);
		stk_stanza_set_from(message, stk_session_domain(session));
		stk_stanza_set_to(message, stk_session_jid(session));
		struct stk_node *body = stk_node_add(stk_stanza_edit(message), "body", NULL);
		stk_node_set(body, "id", "n1");
		stk_node_set_text(body, "by the way");
		stk_send_to(session, message);
	}
	struct stk_stanza *answer = stk_stanza_result(stanza);
	struct stk_node *query = stk_node_add(stk_stanza_edit(answer), "query", CLUMSY);
	stk_node_set(query, "word", conf->word);
	stk_node_set(query, "star", "a*b");
	return answer && stk_reply(stanza, answer) == 0 ? STK_DONE : -ENOMEM;
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_match match = { .size = sizeof(match), .element = STK_IQ, .type = "get", .xmlns = CLUMSY };
	stk_set_data(module, (void *)(uintptr_t)conf);
	return stk_handle(module, &match, do_it, NULL);
}

static int reload(struct stk_module *module, const void *conf)
{
	stk_set_data(module, (void *)(uintptr_t)conf);
	stk_log(module, LOG_INFO, "word is %s", ((const struct conf *)conf)->word);
	return 0;
}

STK_MODULE(.name = "clumsy", .version = "1", .options = options, .conf_size = sizeof(struct conf), .load = load, .reload = reload);
