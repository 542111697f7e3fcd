/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_JID_H
#define STK_CORE_JID_H

#include <stddef.h>
#include <startalkd/jid.h>

/* A bare JID in the form by which they are compared. */
struct folded {
	const char *text; /* not terminated by NUL; in ROOM, or in the JID that was folded */
	size_t len;
	char room[STK_JID_MAX + 1]; /* only what does not lie in the JID already */
};

/* Folds the bare part of a JID that was parsed from TEXT; most are folded as they come, and nothing is copied. 0 or -errno, as
 * stk_jid_fold. */
int jid_fold_bare(const char *text, const struct stk_jid *jid, struct folded *folded);

#endif
