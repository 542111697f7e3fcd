/* SPDX-License-Identifier: MIT */
/* A SASL mechanism for the tests that has a challenge: who solves the riddle is who it said. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <startalkd/module.h>

#define RIDDLE "2+3"

struct exchange {
	struct exchange *next;
	struct stk_auth *auth;
	char user[64];
};

static struct exchange *exchanges;

static struct exchange **find(const struct stk_auth *auth)
{
	struct exchange **at = &exchanges;
	while (*at && (*at)->auth != auth) {
		at = &(*at)->next;
	}
	return at;
}

static void forget(struct stk_module *module, struct stk_auth *auth)
{
	struct exchange **at = find(auth), *exchange = *at;
	(void)module;
	if (exchange) {
		*at = exchange->next;
		free(exchange);
	}
}

static int begin(struct stk_auth *auth, const uint8_t *in, size_t len)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));
	if (!exchange || len < 2 || strlen((const char *)in + 1) >= sizeof(exchange->user)) {
		free(exchange);
		return -EINVAL;
	}
	exchange->auth = auth;
	strcpy(exchange->user, (const char *)in + 1);
	exchange->next = exchanges;
	exchanges = exchange;
	int rc = stk_auth_challenge(auth, (const uint8_t *)RIDDLE, strlen(RIDDLE));
	if (rc < 0) {
		forget(NULL, auth);
		stk_auth_fail(auth, NULL, NULL, strerror(-rc));
	}
	return 0;
}

static int step(struct stk_module *module, struct stk_auth *auth, const uint8_t *in, size_t len)
{
	struct exchange *exchange = *find(auth);
	char user[sizeof(exchange->user)];
	if (!exchange) {
		return begin(auth, in, len);
	}
	strcpy(user, exchange->user);
	forget(module, auth);
	if (len == 1 && in[0] == '5') {
		stk_auth_succeed(auth, user);
	} else {
		stk_auth_fail(auth, user, NULL, "the riddle is not solved");
	}
	return 0;
}

static int load(struct stk_module *module, const void *conf)
{
	static const struct stk_mech mech = { .size = sizeof(mech), .name = "RIDDLE", .step = step, .abort = forget };
	(void)conf;
	return stk_mech(module, &mech);
}

STK_MODULE(.name = "riddle", .version = "1", .load = load);
