/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_PENDING_H
#define STK_CORE_PENDING_H

#include "core/module.h"
#include "core/session.h"

/* What the router keeps with an IQ get or set until it has had its one answer. It lies in the stanza's arena. */
struct request {
	struct server *server;
	struct stk_module *module; /* whose handler has it */
	uint64_t session;
	bool answered, deferred;
};

/* Answers everything that MODULE has deferred. It still holds the tokens: resuming one says -ECANCELED. */
void pending_cancel(struct stk_module *module);
/* Frees the tokens that MODULE has not resumed and cannot any more. Returns how many. */
unsigned pending_free(struct stk_module *module);

#endif
