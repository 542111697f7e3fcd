/* SPDX-License-Identifier: MIT */
#ifndef STK_PRESENCE_RULES_H
#define STK_PRESENCE_RULES_H

#include <stdbool.h>

#include <startalkd/module.h>

/* Are the lists that make up the rules in order? 0, or -EINVAL, logged. Either may be NULL. */
int rules_check(struct stk_module *module, const char *const *reserved, const char *const *senders);
/* May the user SENDER (bare JID) send a notice of CATEGORY (NULL: none) to TO? Own sessions get everything. */
bool rules_allow(const char *const *reserved, const char *const *senders, const char *sender, const char *to, const char *category);

#endif
