/* SPDX-License-Identifier: MIT */
/* Claims when load() is over. */

#include "bad.h"

static int on_stanza(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)module;
	(void)event;
	(void)arg;
	return -EACCES;
}

static int step(struct stk_module *module, struct stk_auth *auth, const uint8_t *in, size_t len)
{
	(void)module;
	(void)auth;
	(void)in;
	(void)len;
	return -EINVAL;
}

static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	static const uint32_t table = sizeof(table);
	const struct stk_mech mech = { .size = sizeof(mech), .name = "LATE", .step = step };
	(void)session;
	(void)arg;
	stk_log(module, LOG_NOTICE, "handle %d, on %d, mech %d, provide %d, slot %d, durability %d",
		bad_answers(module, "urn:bad:more", answer), stk_on(module, STK_STANZA_IN, 0, on_stanza, NULL), stk_mech(module, &mech),
		stk_provide(module, "late", 1, 0, &table), stk_session_slot(module, NULL),
		stk_db_durability(module, "late.db", STK_DURABLE_OFF));
	return stk_reply(stanza, NULL) < 0 ? -EIO : STK_DONE;
}

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return bad_answers(module, "urn:bad:late_claims", answer);
}

STK_MODULE(.name = "late_claims", .load = load);
