/* SPDX-License-Identifier: MIT */
/* JIDs as text: taken apart, compared, folded. Which JIDs exist is not its business. */

#include <startalkd/jid.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <unicase.h>
#include <uninorm.h>
#include <unistr.h>

static bool is_clean(const char *part, size_t len, bool spaces)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)part[i];
		if (c < 0x20 || c == 0x7f || (c == ' ' && !spaces)) {
			return false;
		}
	}
	return len <= STK_JID_PART_MAX;
}

int stk_jid_parse(struct stk_jid *jid, const char *text)
{
	*jid = (struct stk_jid){ 0 };
	if (!text) {
		return -EINVAL;
	}
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	const char *at = memchr(text, '@', len);
	if (at) {
		jid->node = text;
		jid->node_len = (size_t)(at - text);
	}
	jid->domain = at ? at + 1 : text;
	jid->domain_len = len - (size_t)(jid->domain - text);
	if (slash) {
		jid->resource = slash + 1;
		jid->resource_len = strlen(slash + 1);
	}
	bool ok = jid->domain_len && (!at || jid->node_len) && (!slash || jid->resource_len) &&
	          !memchr(jid->domain, '@', jid->domain_len) && is_clean(jid->domain, jid->domain_len, false) &&
	          is_clean(jid->node, jid->node_len, false) && is_clean(jid->resource, jid->resource_len, true);
	return ok ? 0 : -EINVAL;
}

/* Returns the bytes written, or -errno. */
static int fold_part(const char *part, size_t len, char *out, size_t size)
{
	size_t ascii = 0;
	while (ascii < len && (unsigned char)part[ascii] < 0x80) {
		ascii++;
	}
	if (ascii == len) {
		if (len >= size) {
			return -ENAMETOOLONG;
		}
		for (size_t i = 0; i < len; i++) {
			out[i] = part[i] >= 'A' && part[i] <= 'Z' ? (char)(part[i] + 'a' - 'A') : part[i];
		}
		return (int)len;
	}
	if (u8_check((const uint8_t *)part, len)) {
		return -EINVAL;
	}
	size_t folded_len = 0;
	uint8_t *folded = u8_casefold((const uint8_t *)part, len, NULL, UNINORM_NFC, NULL, &folded_len);
	int rc = !folded ? -ENOMEM : folded_len >= size || folded_len > STK_JID_PART_MAX ? -ENAMETOOLONG : (int)folded_len;
	if (rc > 0) {
		memcpy(out, folded, folded_len);
	}
	free(folded);
	return rc;
}

int stk_jid_fold(const char *text, char *out, size_t size)
{
	struct stk_jid jid;
	int rc = stk_jid_parse(&jid, text);
	if (rc < 0) {
		return rc;
	}
	size_t len = 0;
	if (jid.node_len) {
		rc = fold_part(jid.node, jid.node_len, out, size);
		if (rc < 0) {
			return rc;
		}
		len = (size_t)rc;
		if (len + 1 >= size) {
			return -ENAMETOOLONG;
		}
		out[len++] = '@';
	}
	rc = fold_part(jid.domain, jid.domain_len, out + len, size - len);
	if (rc < 0) {
		return rc;
	}
	len += (size_t)rc;
	size_t rest = jid.resource_len ? jid.resource_len + 1 : 0; /* with its slash */
	if (len + rest >= size) {
		return -ENAMETOOLONG;
	}
	if (rest) {
		memcpy(out + len, jid.resource - 1, rest);
	}
	out[len + rest] = '\0';
	return 0;
}

int stk_jid_bare(const char *text, char *out, size_t size)
{
	struct stk_jid jid;
	int rc = stk_jid_parse(&jid, text);
	if (rc < 0) {
		return rc;
	}
	size_t len = (size_t)(jid.domain - text) + jid.domain_len;
	if (len >= size) {
		return -ENAMETOOLONG;
	}
	memcpy(out, text, len);
	out[len] = '\0';
	return 0;
}

bool stk_jid_same(const char *a, const char *b)
{
	char fa[STK_JID_MAX + 1], fb[STK_JID_MAX + 1];
	if (a && b && strcmp(a, b) == 0) {
		struct stk_jid jid;
		return stk_jid_parse(&jid, a) == 0;
	}
	return stk_jid_fold(a, fa, sizeof(fa)) == 0 && stk_jid_fold(b, fb, sizeof(fb)) == 0 && strcmp(fa, fb) == 0;
}

bool stk_jid_same_bare(const char *a, const char *b)
{
	char ba[STK_JID_MAX + 1], bb[STK_JID_MAX + 1];
	return stk_jid_bare(a, ba, sizeof(ba)) == 0 && stk_jid_bare(b, bb, sizeof(bb)) == 0 && stk_jid_same(ba, bb);
}
