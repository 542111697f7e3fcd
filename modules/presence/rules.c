/* SPDX-License-Identifier: MIT */
/* Rules: which notices a user may send to other users. Some categories make clients do things, log out for one, and are for the server
 * and for who is named. What becomes of a notice that may pass is presence.c's business. */

#include "rules.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <syslog.h>

/* False: TEXT is no category, a number of 32 bits. */
static bool read_category(const char *text, long *category)
{
	char *end;
	errno = 0;
	*category = strtol(text, &end, 10);
	return !errno && end != text && !*end && *category >= INT32_MIN && *category <= INT32_MAX;
}

int rules_check(struct stk_module *module, const char *const *reserved, const char *const *senders)
{
	long category;
	for (; reserved && *reserved; reserved++) {
		if (!read_category(*reserved, &category)) {
			stk_log(module, LOG_ERR, "reserved-categories: '%s' is no number", *reserved);
			return -EINVAL;
		}
	}
	for (; senders && *senders; senders++) {
		struct stk_jid parts;
		if (stk_jid_parse(&parts, *senders) < 0 || !parts.node_len || parts.resource_len) {
			stk_log(module, LOG_ERR, "reserved-senders: '%s' is no bare JID of a user", *senders);
			return -EINVAL;
		}
	}
	return 0;
}

static bool is_reserved(const char *const *reserved, const char *text)
{
	long category, each;
	if (!text) {
		return false;
	}
	if (!read_category(text, &category)) {
		return true; /* what other ways to write a number come to is not guessed */
	}
	while (reserved && *reserved && (!read_category(*reserved, &each) || each != category)) {
		reserved++;
	}
	return reserved && *reserved;
}

bool rules_allow(const char *const *reserved, const char *const *senders, const char *sender, const char *to, const char *category)
{
	if (stk_jid_same_bare(to, sender) || !is_reserved(reserved, category)) {
		return true;
	}
	while (senders && *senders && !stk_jid_same_bare(*senders, sender)) {
		senders++;
	}
	return senders && *senders;
}
