/* SPDX-License-Identifier: MIT */
/* Answers pings. The model of a module: one handler, no state. Whether a peer is alive is the transport's business. */

#include <startalkd/module.h>

static int answer_ping(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module;
	(void)session;
	(void)arg;
	int rc = stk_reply(stanza, NULL); /* NULL: an empty result */
	return rc < 0 ? rc : STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	static const struct stk_match ping = {
		.size = sizeof(ping), .element = STK_IQ, .type = "get", .xmlns = "urn:xmpp:ping"
	};
	return stk_handle(module, &ping, answer_ping, NULL);
}

STK_MODULE(.name = "ping", .version = "0.1", .load = load);
