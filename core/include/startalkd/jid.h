/* SPDX-License-Identifier: MIT */
#ifndef STARTALKD_JID_H
#define STARTALKD_JID_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STK_JID_PART_MAX 1023 /* bytes of a node, a domain or a resource */
#define STK_JID_MAX      (3 * STK_JID_PART_MAX + 2) /* bytes of a whole JID, without the NUL */

/* A JID taken apart: views into the text it was parsed from, not NUL-terminated. An absent part has length 0. */
struct stk_jid {
	const char *node, *domain, *resource;
	size_t node_len, domain_len, resource_len;
};

/* Takes TEXT apart (node@domain/resource; node and resource may be absent). The views live as long as TEXT.
 * 0, or -EINVAL: TEXT is NULL, has no domain, an empty node or resource beside its separator, a part over
 * STK_JID_PART_MAX bytes, a control character, or a space in node or domain. Since 0.1. */
int stk_jid_parse(struct stk_jid *jid, const char *text);

/* Writes the form by which JIDs are compared: node and domain case-folded and NFC, the resource as it is.
 * OUT has room for SIZE bytes, the NUL included; STK_JID_MAX + 1 is always enough for what parses and folds within
 * the limits. 0, -EINVAL as stk_jid_parse, or -ENAMETOOLONG. Since 0.1. */
int stk_jid_fold(const char *text, char *out, size_t size);

/* Writes TEXT without its resource, as spelled. Same errors as stk_jid_fold. Since 0.1. */
int stk_jid_bare(const char *text, char *out, size_t size);

/* Do A and B name the same account (node and domain equal after folding)? False when either does not parse. Since 0.1. */
bool stk_jid_same_bare(const char *a, const char *b);

/* Are A and B the same JID, the resource included? False when either does not parse. Since 0.1. */
bool stk_jid_same(const char *a, const char *b);

#ifdef __cplusplus
}
#endif
#endif
