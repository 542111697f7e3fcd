/* SPDX-License-Identifier: MIT */
/* Has a SASL mechanism that another module has. */

#include "bad.h"

static int step(struct stk_module *module, struct stk_auth *auth, const uint8_t *in, size_t len)
{
	(void)module;
	(void)auth;
	(void)in;
	(void)len;
	return -EINVAL;
}

static int load(struct stk_module *module, const void *conf)
{
	const struct stk_mech mech = { .size = sizeof(mech), .name = "PLAIN", .step = step };
	(void)conf;
	return stk_mech(module, &mech);
}

STK_MODULE(.name = "twice_mech", .load = load);
