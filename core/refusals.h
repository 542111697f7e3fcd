/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_REFUSALS_H
#define STK_CORE_REFUSALS_H

#include <startalkd/module.h>

/* Logins that were refused lately, by user. Bounded: what happens again from the same address counts up, the oldest
 * make way. */
struct refusals;

struct refusals *refusals_new(void); /* NULL: out of memory */
void refusals_free(struct refusals **refusals);
/* USER is a bare JID as the client gave it; what is none is nobody's. PEER is "ADDRESS:PORT". WHY is for the log. AT in
 * ms since the epoch. */
void refusals_add(struct refusals *refusals, const char *user, const char *peer, bool secure, const char *why,
		  int64_t at);
/* Calls EACH for those of BARE, the latest first, until it returns false. */
void refusals_each(const struct refusals *refusals, const char *bare, stk_refusal_fn *each, void *arg);

#endif
